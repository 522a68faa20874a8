//! What becomes of a data directory whose drive fails.
//!
//! 1. A write or flush fails: the log, or the journal, ends as ever, and says so ([`Failures`]).
//! 2. The directory is tried: a small file is written and flushed. A journal that failed needs no trial where there are
//!    other directories: it is what everything in the directory goes through.
//! 3. The directory has failed: that is so for all cores at once, until the next start. Each ends its partitions
//!    there; core 0 tells the controller, so that nobody leads them, and new ones go elsewhere.
//! 4. Without any directory, or without that of the metadata, the process stops (`LogManager.handleLogDirFailure`).
//!
//! A drive that is full has not failed.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::messages::Message;
use super::{Core, partitions};
use crate::base::{CoreIndex, DirIndex};
use crate::log::{Failure, Failures};
use crate::metadata::Intention;
use crate::runtime::task::{self, OnPanic, Queue};
use crate::runtime::{self, clock, disk};

/// The file with which a directory is tried; the core's number follows.
const TRIAL_FILE: &str = "corelog-trial-";

/// Between two trials of a directory: logs may fail by the thousand.
const TRIAL_PAUSE: Duration = Duration::from_millis(200);

/// Looks after the directories from now on.
pub fn start(core: &Rc<Core>) {
    for (index, dir) in core.dirs().all() {
        let failures = Rc::clone(core.partitions.memory(index).failures());
        if dir.is_online() {
            task::spawn(Queue::Upkeep, "drives", OnPanic::StopProcess, watch(Rc::clone(core), index, failures));
        }
    }
    if core.index == CoreIndex(0) && core.dirs().metadata().among.is_none() {
        let failures = Rc::clone(core.partitions.metadata_memory().failures());
        task::spawn(Queue::Upkeep, "drives", OnPanic::StopProcess, watch_metadata(Rc::clone(core), failures));
    }
}

async fn next(core: &Core, failures: &Failures) -> Option<Failure> {
    let stopped = async {
        core.stop.raised().await;
        None
    };
    futures_lite::future::or(async { Some(failures.next().await) }, stopped).await
}

async fn watch(core: Rc<Core>, index: DirIndex, failures: Rc<Failures>) {
    while let Some(failure) = next(&core, &failures).await {
        let dir = core.dirs().get(index);
        if !dir.is_online() {
            return;
        }
        let can_go_on = core.dirs().online().count() > 1 && core.dirs().metadata().among != Some(index);
        let reason = match failure.of_journal && can_go_on {
            true => Some(failure.reason.to_string()),
            false => {
                trial(&core, dir.path()).await.err().map(|error| format!("{}; tried again: {error}", failure.reason))
            }
        };
        if let Some(reason) = reason {
            // Without it the process stops, and says why.
            let _ = offline(&core, index, reason).inspect_err(|reason| runtime::fail(reason.clone()));
        }
        if core.sleep_or_stop(TRIAL_PAUSE).await {
            return;
        }
    }
}

async fn watch_metadata(core: Rc<Core>, failures: Rc<Failures>) {
    while let Some(failure) = next(&core, &failures).await {
        let path = &core.dirs().metadata().path;
        if let Err(error) = trial(&core, path).await {
            return runtime::fail(format!("{}; tried again: {error}", without(path, &failure.reason)));
        }
        if core.sleep_or_stop(TRIAL_PAUSE).await {
            return;
        }
    }
}

/// Whether a directory takes a file.
async fn trial(core: &Core, dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("{TRIAL_FILE}{}", core.index));
    match core.disk.write_file(&path, clock::unix_ms().0.to_be_bytes().to_vec()).await {
        Err(error) if disk::is_full(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => core.disk.remove(&path).await,
    }
}

fn without(path: &Path, reason: &str) -> String {
    format!("the metadata directory {} has failed: {reason}", path.display())
}

/// A directory has failed: its use ends on all cores.
///
/// # Errors
/// The broker cannot go on without it: why.
pub fn offline(core: &Rc<Core>, index: DirIndex, reason: String) -> Result<(), String> {
    let dir = core.dirs().get(index);
    if !dir.fail(reason.clone()) {
        return Ok(());
    }
    if core.dirs().metadata().among == Some(index) {
        return Err(without(dir.path(), &reason));
    }
    if core.dirs().online().next().is_none() {
        return Err(format!("all data directories have failed, {} as the last: {reason}", dir.path().display()));
    }
    tracing::error!(
        "the data directory {} has failed, and its partitions are offline; the others go on: {reason}",
        dir.path().display()
    );
    end_here(core, index);
    let core = Rc::clone(core);
    task::spawn(Queue::Upkeep, "drive failed", OnPanic::StopProcess, async move {
        // Core 0 last: what it tells everybody then comes after this.
        let others: Vec<CoreIndex> = core.placement.all().filter(|other| *other != core.index).collect();
        for other in others.into_iter().rev() {
            // Unreachable only while the process stops.
            let _ = core.router.send(other, Message::DirFailed(index)).await;
        }
        tell_controller(&core, index).await;
    });
    Ok(())
}

/// Another core says that a directory has failed.
pub fn told(core: &Rc<Core>, index: DirIndex) {
    end_here(core, index);
    let core = Rc::clone(core);
    task::spawn(Queue::Upkeep, "drive failed", OnPanic::StopProcess, async move {
        tell_controller(&core, index).await;
    });
}

/// Ends what this core has in a directory that has failed.
fn end_here(core: &Core, index: DirIndex) {
    partitions::take_offline(core, index, core.dirs().get(index).offline().unwrap_or_default());
    core.coordinators.dir_failed(index);
}

/// On core 0: has it noted in the metadata.
async fn tell_controller(core: &Rc<Core>, index: DirIndex) {
    let dir = core.dirs().get(index);
    if core.index != CoreIndex(0) || dir.id().is_zero() {
        return;
    }
    let offline = Intention::DirectoriesOffline { node: core.config().node_id, directories: vec![dir.id()] };
    if let Err(error) = core.control(offline).await {
        // Clients are told of each partition; the next start notes it.
        tracing::warn!("note in the metadata that {} has failed: {error}", dir.path().display());
    }
}
