//! Recovery points: who gets one when, and the file that tells them to the next start.
//!
//! Every core makes points of its own partitions, in the background: for a log that wrote
//! much since its last one, for those with the most when all of the core's together did, and
//! each `log.flush.offset.checkpoint.interval.ms` for those that wrote something worth it.
//! Two at a time, so that their flushes stay few among those that clients wait for.
//!
//! There is one file for each data directory, as Kafka has it, so one core writes them: core 0
//! collects what the others report, and writes all of a file, at most some times a second. A point is in the
//! file of the directory that the metadata has the partition in. What
//! it says is checked against the partition's directory at a start: it may be old, or tell of
//! a topic that has been deleted since. The next write leaves deleted topics out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use super::Core;
use super::messages::{Answer, Call};
use crate::base::hash::OwnKeys;
use crate::base::limits::{POINT_BYTES, POINT_BYTES_MIN, POINT_WORTH_BYTES, POINTS_BYTES_MAX};
use crate::base::wait::{self, Sender, Signal};
use crate::base::{CoreIndex, DirIndex, Offset, Uuid};
use crate::partition::{POINTS_FILE, Partition, PointsText};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// `log.flush.offset.checkpoint.interval.ms` may be 0.
const INTERVAL_MS_MIN: i32 = 100;
/// Between two looks at all partitions of a core.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Between two writes of the file; and so many times what a write took.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
const WRITE_PAUSE_FACTOR: u32 = 20;

const MAKER: &str = "recovery points";
const TELLER: &str = "recovery points told";
const WRITER: &str = "recovery points written";

/// The point of a partition, on its way to core 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPoint {
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: Offset,
}

/// Offsets of partitions.
pub type Known = HashMap<(Uuid, i32), Offset, OwnKeys>;

/// What a core keeps for its points.
#[derive(Default)]
pub struct Points {
    /// There are points that core 0 does not know.
    news: Signal,
    /// On core 0: what the cores reported.
    known: RefCell<Known>,
    /// On core 0: directories whose file does not say so.
    changed: RefCell<BTreeSet<DirIndex>>,
    /// On core 0: cores that have reported what they found at the start. Before all have, a
    /// file would lack something.
    reported: Cell<u16>,
    /// On core 0: reports that wait for the file.
    waiting: RefCell<Vec<Sender<()>>>,
    /// On core 0: wakes who writes the file.
    work: Signal,
}

impl Points {
    /// On core 0: takes a report; what is returned completes when the file has it. `first`: the
    /// first one of its core.
    fn report(&self, points: &[TopicPoint], first: bool) -> wait::Receiver<()> {
        {
            let mut known = self.known.borrow_mut();
            for point in points {
                let offset = known.entry((point.topic_id, point.partition)).or_insert(Offset::ZERO);
                *offset = point.offset.max(*offset);
            }
        }
        self.reported.set(self.reported.get() + u16::from(first));
        let (sender, receiver) = wait::once();
        self.waiting.borrow_mut().push(sender);
        self.work.raise();
        receiver
    }
}

/// Begins to make points, and to tell them. All partitions of the core are open.
pub fn start(core: &Rc<Core>) {
    if core.index == CoreIndex(0) {
        task::spawn(Queue::Upkeep, WRITER, OnPanic::StopProcess, write_all(Rc::clone(core)));
    }
    task::spawn(Queue::Upkeep, TELLER, OnPanic::StopProcess, tell_all(Rc::clone(core)));
    task::spawn(Queue::Upkeep, MAKER, OnPanic::StopProcess, make_all(Rc::clone(core)));
}

/// Completes when nothing of this is under way. The process was told to stop, and the
/// partitions are closed.
pub async fn stop(core: &Core) {
    core.points.news.raise();
    core.points.work.raise();
    for name in [MAKER, TELLER, WRITER] {
        task::all_ended(name).await;
    }
}

/// Takes a report of a core, on core 0; false when it did not get into the file.
pub async fn reported(core: &Core, points: &[TopicPoint], first: bool) -> bool {
    core.points.changed.borrow_mut().extend(dirs_of(core, points));
    let written = core.points.report(points, first);
    let written = async { written.await.is_ok() };
    let stopped = async {
        core.stop.raised().await;
        false
    };
    futures_lite::future::or(written, stopped).await
}

async fn make_all(core: Rc<Core>) {
    let interval =
        Duration::from_millis(core.config().log_flush_offset_checkpoint_interval_ms.max(INTERVAL_MS_MIN) as u64);
    let unpointed = Rc::clone(core.partitions.unpointed());
    let mut timed = clock::now() + interval;
    core.points.news.raise();
    loop {
        let left = timed.saturating_duration_since(clock::now());
        clock::timeout(left, futures_lite::future::or(unpointed.wait(), core.stop.raised())).await;
        if core.stop.is_raised() {
            return;
        }
        unpointed.looked();
        let by_time = clock::now() >= timed;
        if by_time {
            timed = clock::now() + interval;
        }
        let due = due(&core, by_time).await;
        for pair in due.chunks(2) {
            if core.stop.is_raised() {
                return;
            }
            match pair {
                [one, other] => drop(futures_lite::future::zip(make(one), make(other)).await),
                _ => make(&pair[0]).await,
            }
            core.points.news.raise();
        }
        // Sealed segments are points too.
        core.points.news.raise();
        if core.sleep_or_stop(LOOK_PAUSE).await {
            return;
        }
    }
}

async fn make(partition: &Rc<Partition>) {
    if let Err(error) = partition.make_point().await
        && partition.ended().is_none()
    {
        tracing::warn!(partition = %partition.id(), %error, "make a recovery point; a start after a crash reads more");
    }
}

/// The partitions that are to get a point now.
async fn due(core: &Core, by_time: bool) -> Vec<Rc<Partition>> {
    let mut total = 0;
    let mut due = Vec::new();
    let mut others = Vec::new();
    for partition in core.partitions.open() {
        task::yield_if_needed().await;
        let (behind, since) = (partition.log().bytes_behind_point(), partition.log().bytes_since_point_tried());
        total += behind;
        if since >= POINT_BYTES || by_time && since >= POINT_BYTES_MIN {
            total -= behind;
            due.push(partition);
        } else if since >= POINT_WORTH_BYTES {
            others.push((behind, partition));
        }
    }
    if total > POINTS_BYTES_MAX {
        // Down to half, so that it is not asked of one log after the other.
        others.sort_unstable_by_key(|(behind, _)| std::cmp::Reverse(*behind));
        for (behind, partition) in others {
            if total <= POINTS_BYTES_MAX / 2 {
                break;
            }
            total -= behind;
            due.push(partition);
        }
    }
    due
}

/// Reports new points to core 0, and lets go of what they replace when they are in the file.
async fn tell_all(core: Rc<Core>) {
    let mut first = true;
    loop {
        core.points.news.wait().await;
        if core.stop.is_raised() {
            return;
        }
        let mut told = Vec::new();
        let mut points = Vec::new();
        for partition in core.partitions.open() {
            task::yield_if_needed().await;
            if let Some(offset) = partition.point_to_tell() {
                let (topic_id, id) = (partition.topic_id(), partition.id().partition);
                points.push(TopicPoint { topic_id, partition: id, offset });
                told.push((partition, offset));
            }
        }
        if points.is_empty() && !first {
            continue;
        }
        if tell(&core, points, std::mem::take(&mut first)).await {
            for (partition, offset) in told {
                partition.point_was_told(offset).await;
            }
        }
    }
}

async fn tell(core: &Core, points: Vec<TopicPoint>, first: bool) -> bool {
    if core.index == CoreIndex(0) {
        return reported(core, &points, first).await;
    }
    let Ok(answer) = core.router.call(CoreIndex(0), Call::Points { points, first }).await else { return false };
    let stopped = async {
        core.stop.raised().await;
        Err(wait::Dropped)
    };
    matches!(futures_lite::future::or(answer, stopped).await, Ok(Answer::Points(true)))
}

/// Writes the file, on core 0.
async fn write_all(core: Rc<Core>) {
    loop {
        core.points.work.wait().await;
        if core.stop.is_raised() {
            return;
        }
        if core.points.reported.get() < core.placement.cores() {
            continue;
        }
        let waiting = std::mem::take(&mut *core.points.waiting.borrow_mut());
        let began = clock::now();
        let mut all_written = true;
        for dir in core.points.changed.take() {
            if let Err(error) = write(&core, POINTS_FILE, dir, &core.points.known).await {
                tracing::warn!("{error}; a start after a crash reads more");
                all_written = false;
            }
        }
        // Who waits sees it otherwise by the dropped sender, and reports again with the next point.
        if all_written {
            waiting.into_iter().for_each(|waiting| waiting.send(()));
        }
        let took = clock::now().saturating_duration_since(began);
        if core.sleep_or_stop(WRITE_PAUSE.max(took * WRITE_PAUSE_FACTOR)).await {
            return;
        }
    }
}

/// The directories that the metadata has these partitions in.
pub fn dirs_of(core: &Core, points: &[TopicPoint]) -> BTreeSet<DirIndex> {
    let image = core.image();
    let dir = |point: &TopicPoint| core.dir_of(image.partition(point.topic_id, point.partition)?);
    points.iter().filter_map(dir).collect()
}

/// On core 0: a partition has changed directories.
pub fn moved(core: &Core) {
    core.points.changed.borrow_mut().extend(core.dirs().online().map(|(index, _)| index));
    core.points.work.raise();
}

/// Writes the checkpoint `name` of a directory: of what is `known` what the metadata has there. What topics that are
/// gone had is forgotten. Of a directory that has failed nothing is written, and nothing will be read.
///
/// # Errors
/// The file could not be written; the message names it.
pub async fn write(core: &Core, name: &str, dir: DirIndex, known: &RefCell<Known>) -> Result<(), String> {
    write_with(core, name, dir, known, &BTreeSet::new()).await
}

/// As [`write`], with what is known of `also`, wherever the metadata has that.
///
/// # Errors
/// As [`write`].
pub async fn write_with(
    core: &Core,
    name: &str,
    dir: DirIndex,
    known: &RefCell<Known>,
    also: &BTreeSet<(Uuid, i32)>,
) -> Result<(), String> {
    let image = core.image();
    known.borrow_mut().retain(|(topic_id, _), _| image.topic_by_id(*topic_id).is_some());
    let known: Vec<_> = known.borrow().iter().map(|(of, offset)| (*of, *offset)).collect();
    let mut text = PointsText::default();
    for ((topic_id, partition), offset) in known {
        let Some(topic) = image.topic_by_id(topic_id) else { continue };
        let lies_here = topic.partitions.get(&partition).and_then(|state| core.dir_of(state)) == Some(dir);
        if lies_here || also.contains(&(topic_id, partition)) {
            text.push(&topic.name, partition, offset);
        }
        task::yield_if_needed().await;
    }
    let dir = core.dirs().get(dir);
    let path = dir.path().join(name);
    match core.disk.write_file(&path, text.finish()).await {
        Err(error) if dir.is_online() => Err(format!("write {}: {error}", path.display())),
        _ => Ok(()),
    }
}
