//! The core's journals, one in each data directory: begun when nothing of the process before is
//! needed any more there, and emptied at the end.

use std::rc::Rc;
use std::time::Duration;

use super::Core;
use super::dirs::DataDir;
use crate::base::limits::FULL_RETRY;
use crate::base::{CoreIndex, DirIndex};
use crate::log::Failure;
use crate::log::journal::{Journal, Wanted};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// How often a core looks whether the others have opened their partitions.
const LOOK: Duration = Duration::from_millis(5);

const TASK: &str = "journal start";

/// Has the journals made ready in the background. Partitions write to their segments until
/// they are.
pub fn start(core: &Rc<Core>) {
    for (index, _) in core.dirs().online() {
        task::spawn(Queue::Upkeep, TASK, OnPanic::StopProcess, begin(Rc::clone(core), index));
    }
}

async fn begin(core: Rc<Core>, index: DirIndex) {
    let dir = core.dirs().get(index);
    let replay = &dir.left().replay;
    file_rest(&core, index).await;
    if core.stop.is_raised() || !dir.is_online() {
        return;
    }
    replay.core_is_done();
    // What was found is in the segments, of all partitions of all cores, before any file
    // that holds it is written again.
    while !replay.is_done() {
        if !dir.is_online() || core.sleep_or_stop(LOOK).await {
            return;
        }
    }
    if !replay.is_complete() {
        tracing::error!(
            "the journals in {} hold batches that could not be filed: they stay, and no new ones are begun",
            dir.path().display()
        );
        return;
    }
    let bytes = core.config().journal_bytes_per_core as u64;
    if core.index == CoreIndex(0) {
        remove_others(&core, dir, bytes == 0).await;
    }
    if bytes == 0 {
        return;
    }
    let began = clock::now();
    let journal = core.partitions.journal(index);
    let wanted = Wanted { core: core.index.0, cores: core.placement.cores(), bytes };
    match journal.begin(&core.disk, dir.path(), wanted, &core.stop).await {
        Ok(true) => {
            tracing::debug!(core = core.index.0, "the journal is ready after {} ms", began.elapsed().as_millis());
        }
        Ok(false) if core.stop.is_raised() => {}
        Ok(false) => tracing::warn!(core = core.index.0, "there is too little free space for a journal"),
        Err(error) => {
            tracing::warn!(core = core.index.0, %error, "make the journal ready; partitions go without");
            let failure = Failure { reason: error.to_string().into(), of_journal: false };
            core.partitions.memory(index).failures().note(failure);
        }
    }
}

/// Waits until this core's partitions have filed what was found: on a drive that was too full for it that is when there
/// is space again.
async fn file_rest(core: &Core, index: DirIndex) {
    let dir = core.dirs().get(index);
    // Some may not even be open.
    while core.partitions.any_wants_space(index) {
        if !dir.is_online() || core.sleep_or_stop(FULL_RETRY).await {
            return;
        }
    }
    let open = core.partitions.open();
    let waiting: Vec<_> = open.iter().filter(|of| of.dir() == index && of.unfiled().is_some()).cloned().collect();
    drop(open);
    if waiting.is_empty() {
        return;
    }
    tracing::warn!(
        core = core.index.0,
        "{} is too full to file what only its journals have of {} partitions: it is served from memory, and filed when \
         there is space; no journals are begun until then",
        dir.path().display(),
        waiting.len()
    );
    let mut filed = true;
    for partition in waiting {
        filed &= partition.file_rest().await;
    }
    if core.stop.is_raised() || !dir.is_online() {
        return;
    }
    match filed {
        true => tracing::info!(core = core.index.0, "what only the journals in {} had is filed", dir.path().display()),
        false => dir.left().replay.not_filed(),
    }
}

/// Removes files of cores that there are no more, or all.
async fn remove_others(core: &Core, dir: &DataDir, all: bool) {
    for file in dir.left().replay.files().iter().filter(|file| all || **file >= core.placement.cores()) {
        let path = Journal::path(dir.path(), *file);
        if let Err(error) = core.disk.remove(&path).await {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}

/// Ends the journals. All partitions are closed; `clean` says in which directories all of them cleanly.
pub async fn stop(core: &Core, clean: &[bool]) {
    task::all_ended(TASK).await;
    for ((index, dir), clean) in core.dirs().all().zip(clean) {
        let closed = core.partitions.journal(index).close(*clean).await;
        if let Err(error) = closed.as_ref()
            && dir.is_online()
        {
            // The segments have everything, and so the next start looks at nothing else.
            tracing::warn!(core = core.index.0, %error, "empty the journal in {}", dir.path().display());
        }
    }
}
