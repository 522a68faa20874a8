//! The core's journal: begun when nothing of the process before is needed any more, and
//! emptied at the end.

use std::rc::Rc;
use std::time::Duration;

use super::Core;
use crate::base::CoreIndex;
use crate::log::journal::Journal;
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// How often a core looks whether the others have opened their partitions.
const LOOK: Duration = Duration::from_millis(5);

const TASK: &str = "journal start";

/// Has the journal made ready in the background. Partitions write to their segments until
/// it is.
pub fn start(core: &Rc<Core>) {
    task::spawn(Queue::Upkeep, TASK, OnPanic::StopProcess, begin(Rc::clone(core)));
}

async fn begin(core: Rc<Core>) {
    // What was found is in the segments, of all partitions of all cores, before any file
    // that holds it is written again.
    while !core.replay.is_done() {
        if core.sleep_or_stop(LOOK).await {
            return;
        }
    }
    if !core.replay.is_complete() {
        tracing::error!("the journals hold batches that could not be filed: they stay, and no new ones are begun");
        return;
    }
    let bytes = core.config().journal_bytes_per_core as u64;
    if core.index == CoreIndex(0) {
        remove_others(&core, bytes == 0).await;
    }
    if bytes == 0 {
        return;
    }
    let began = clock::now();
    match core.partitions.journal().begin(&core.disk, core.data_dir(), core.index.0, bytes, &core.stop).await {
        Ok(true) => {
            tracing::debug!(core = core.index.0, "the journal is ready after {} ms", began.elapsed().as_millis());
        }
        Ok(false) if core.stop.is_raised() => {}
        Ok(false) => tracing::warn!(core = core.index.0, "there is too little free space for a journal"),
        Err(error) => tracing::warn!(core = core.index.0, %error, "make the journal ready; partitions go without"),
    }
}

/// Removes files of cores that there are no more, or all.
async fn remove_others(core: &Core, all: bool) {
    for file in core.replay.files().iter().filter(|file| all || **file >= core.placement.cores()) {
        let path = Journal::path(core.data_dir(), *file);
        if let Err(error) = core.disk.remove(&path).await {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}

/// Ends the journal. All partitions are closed; `clean` says whether all of them cleanly.
pub async fn stop(core: &Core, clean: bool) {
    task::all_ended(TASK).await;
    if let Err(error) = core.partitions.journal().close(clean).await {
        // The segments have everything, and so the next start looks at nothing else.
        tracing::warn!(core = core.index.0, %error, "empty the journal");
    }
}
