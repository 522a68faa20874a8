//! Log start offsets that lie within a segment: DeleteRecords, and the file by which they
//! survive a restart.
//!
//! The file is Kafka's `log-start-offset-checkpoint`, one in each data directory: names of topics, no ids. What it says
//! must never be taken for another topic of the same name, because that would hide records. So:
//!
//! 1. core 0 writes it, and nobody else;
//! 2. a deletion of records is in the file, durably, before the log start moves: a start that
//!    anybody has seen does not go back;
//! 3. when a topic is deleted its lines are gone before the controller looks at its next
//!    intention, which may create the name again;
//! 4. a start leaves out, durably, what the metadata does not know, before anything can be
//!    created; and what the file says is for partitions that are opened at the start.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::messages::{Answer, Call};
use super::partitions::{NotHere, here};
use super::points::{self, Known, TopicPoint};
use super::{Core, failures};
use crate::base::hash::OwnKeys;
use crate::base::wait::{self, Sender, Signal};
use crate::base::{CoreIndex, DirIndex, Offset, Uuid};
use crate::log::LogError;
use crate::metadata::records::MetadataRecord;
use crate::partition::{Partition, STARTS_FILE};
use crate::runtime::task::{self, OnPanic, Queue};

const WRITER: &str = "log starts written";

/// Records to delete.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    pub topic_id: Uuid,
    pub partition: i32,
    /// The first offset that stays; `None`: the high watermark.
    pub before: Option<Offset>,
}

/// Why no records were deleted. Can cross cores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeletionError {
    /// Not, or not yet, or not any more on the core that was asked.
    #[error("the partition is not here")]
    NotHere,
    #[error("the offset is not within the log")]
    OutOfRange,
    /// The topic's `cleanup.policy` does not delete.
    #[error("the topic keeps its records")]
    Policy,
    /// Its files cannot be used, or the file of this module could not be written: the reason.
    #[error("{0}")]
    Failed(String),
}

impl From<LogError> for DeletionError {
    fn from(error: LogError) -> DeletionError {
        match error {
            LogError::OutOfRange { .. } => DeletionError::OutOfRange,
            LogError::Closed(_) | LogError::Deleted(_) => DeletionError::NotHere,
            other => DeletionError::Failed(other.to_string()),
        }
    }
}

/// What core 0 keeps of log starts. Nothing on other cores.
#[derive(Default)]
pub struct Starts {
    /// What the files say, or will when they are written next.
    known: RefCell<Known>,
    /// Directories whose file does not say so.
    changed: RefCell<BTreeSet<DirIndex>>,
    /// Partitions that change directories, with the directories whose files have their lines whatever the metadata says.
    kept: RefCell<HashMap<(Uuid, i32), Vec<DirIndex>, OwnKeys>>,
    /// Those who wait for the files.
    waiting: RefCell<Vec<Sender<bool>>>,
    work: Signal,
}

/// On core 0, at the start, before anything is opened or can be created: takes over what the file says
/// of partitions that there are, and writes it anew if it says more.
///
/// # Errors
/// The file of a directory that the broker cannot do without could not be written.
pub async fn begin(core: &Rc<Core>) -> Result<(), String> {
    let image = core.image();
    for (index, dir) in core.dirs().online() {
        let mut left_out = false;
        for (topic, partition, offset) in dir.left().start_offsets.entries() {
            let topic = image.topic(topic);
            let state = topic.and_then(|topic| topic.partitions.get(&partition));
            match topic.filter(|_| state.and_then(|state| core.dir_of(state)) == Some(index)) {
                Some(topic) => drop(core.starts.known.borrow_mut().insert((topic.id, partition), offset)),
                None => left_out = true,
            }
        }
        if left_out {
            core.starts.changed.borrow_mut().insert(index);
        }
    }
    for index in core.starts.changed.take() {
        if let Err(error) = points::write(core, STARTS_FILE, index, &core.starts.known).await {
            failures::offline(core, index, error)?;
        }
    }
    task::spawn(Queue::Upkeep, WRITER, OnPanic::StopProcess, write_all(Rc::clone(core)));
    Ok(())
}

/// Completes when nothing of this is under way. The process was told to stop.
pub async fn stop(core: &Core) {
    core.starts.work.raise();
    task::all_ended(WRITER).await;
}

/// Deletes records of partitions that this core owns; gives the log start of each.
pub async fn delete_records(core: &Core, deletions: &[Deletion]) -> Vec<Result<Offset, DeletionError>> {
    let mut prepared = Vec::with_capacity(deletions.len());
    let mut points = Vec::new();
    for deletion in deletions {
        let outcome = prepare(core, deletion).await;
        if let Ok((_, offset)) = outcome {
            points.push(TopicPoint { topic_id: deletion.topic_id, partition: deletion.partition, offset });
        }
        prepared.push(outcome);
    }
    let kept = points.is_empty() || tell(core, points).await;
    let finish = |(partition, offset): (Rc<Partition>, Offset)| match kept {
        true => Ok(partition.delete_records_before(offset)?),
        false => Err(DeletionError::Failed(format!("{STARTS_FILE} could not be written"))),
    };
    prepared.into_iter().map(|outcome| outcome.and_then(finish)).collect()
}

/// Checks what is asked for, and has the batches below made durable: a start behind the log's end
/// would be of no use after a crash.
async fn prepare(core: &Core, deletion: &Deletion) -> Result<(Rc<Partition>, Offset), DeletionError> {
    let partition = here(core, deletion.topic_id, deletion.partition).map_err(|not_here| match not_here {
        NotHere::Elsewhere => DeletionError::NotHere,
        NotHere::Failed(reason) => DeletionError::Failed(reason),
    })?;
    let policy = partition.log().config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(DeletionError::Policy);
    }
    let offset = partition.prepare_deletion_before(deletion.before).await?;
    Ok((partition, offset))
}

/// Has new starts written; true when the file has them.
async fn tell(core: &Core, points: Vec<TopicPoint>) -> bool {
    match core.index {
        CoreIndex(0) => reported(core, &points).await,
        _ => matches!(core.router.ask(CoreIndex(0), Call::Starts(points)).await, Ok(Answer::Starts(true))),
    }
}

/// On core 0: takes new starts; true when the file has them.
pub async fn reported(core: &Core, points: &[TopicPoint]) -> bool {
    {
        let mut known = core.starts.known.borrow_mut();
        for point in points.iter().filter(|point| core.image().topic_by_id(point.topic_id).is_some()) {
            let offset = known.entry((point.topic_id, point.partition)).or_insert(Offset::ZERO);
            *offset = point.offset.max(*offset);
        }
    }
    {
        let kept = core.starts.kept.borrow();
        let kept = points.iter().filter_map(|point| kept.get(&(point.topic_id, point.partition))).flatten().copied();
        let mut changed = core.starts.changed.borrow_mut();
        changed.extend(points::dirs_of(core, points));
        changed.extend(kept);
    }
    written(core).await
}

/// On core 0: has the files of these directories tell where a partition starts, whatever the metadata says; without any,
/// as for all others. True when they do.
pub async fn keep(core: &Core, of: (Uuid, i32), dirs: &[DirIndex]) -> bool {
    let before = match dirs {
        [] => core.starts.kept.borrow_mut().remove(&of).unwrap_or_default(),
        dirs => core.starts.kept.borrow_mut().insert(of, dirs.to_vec()).unwrap_or_default(),
    };
    if !core.starts.known.borrow().contains_key(&of) {
        // It starts with a segment. Should records be deleted meanwhile, all files are written.
        return true;
    }
    core.starts.changed.borrow_mut().extend(before.iter().chain(dirs));
    written(core).await
}

/// Writes the file of a directory.
async fn write(core: &Core, dir: DirIndex) -> Result<(), String> {
    let kept: BTreeSet<(Uuid, i32)> =
        core.starts.kept.borrow().iter().filter(|(_, dirs)| dirs.contains(&dir)).map(|(of, _)| *of).collect();
    points::write_with(core, STARTS_FILE, dir, &core.starts.known, &kept).await
}

/// On core 0, before these records of the controller are taken into an image: forgets topics that
/// they remove.
pub async fn forget(core: &Core, records: &[MetadataRecord]) {
    let removed = |record: &MetadataRecord| match record {
        MetadataRecord::RemoveTopic(record) => Some(record.topic_id),
        _ => None,
    };
    let any = {
        let mut known = core.starts.known.borrow_mut();
        let before = known.len();
        for topic in records.iter().filter_map(removed).take_while(|_| before > 0) {
            known.retain(|(id, _), _| *id != topic);
        }
        known.len() < before
    };
    if any {
        // Which directories had them the image does not tell any more.
        core.starts.changed.borrow_mut().extend(core.dirs().online().map(|(index, _)| index));
    }
    if any && !written(core).await && !core.stop.is_raised() {
        // With the next write; a start leaves it out too. Until then a topic of the same name could lose records
        // by a crash.
        tracing::error!("{STARTS_FILE} still tells of a topic that was deleted");
    }
}

/// Completes when what is known now is in the file; false when it could not be written.
async fn written(core: &Core) -> bool {
    let (sender, receiver) = wait::once();
    core.starts.waiting.borrow_mut().push(sender);
    core.starts.work.raise();
    let written = async { receiver.await.unwrap_or(false) };
    let stopped = async {
        core.stop.raised().await;
        false
    };
    futures_lite::future::or(written, stopped).await
}

/// Writes the file for all who came while it was written before.
async fn write_all(core: Rc<Core>) {
    loop {
        core.starts.work.wait().await;
        if core.stop.is_raised() {
            return;
        }
        let waiting = std::mem::take(&mut *core.starts.waiting.borrow_mut());
        let mut all_written = true;
        for dir in core.starts.changed.take() {
            if let Err(error) = write(&core, dir).await {
                tracing::warn!("{error}");
                // What is known has to get there with the next write.
                core.starts.changed.borrow_mut().insert(dir);
                all_written = false;
            }
        }
        waiting.into_iter().for_each(|waiting| waiting.send(all_written));
    }
}
