//! Compaction: which of a core's logs is cleaned when, and the file that tells the next start how far.
//!
//! Every core cleans its own logs, one after the other, the dirtiest first (`LogCleanerManager`), and
//! rests for `log.cleaner.backoff.ms` when none is dirty enough. A core has its share of
//! `log.cleaner.dedupe.buffer.size`, `log.cleaner.io.buffer.size` and `log.cleaner.io.max.bytes.per.second`. A log
//! that cannot be cleaned is reported once and left alone until the process ends; the others go on.
//!
//! `cleaner-offset-checkpoint` is one file for each data directory, as Kafka has it, so one core writes it: core 0
//! collects what the others report, and writes all of a file, at most a few times a second. It is a hint: a
//! log that it says too little of is read once more, and one that it says too much of, because it
//! was another log's name, is cleaned from its start when it is shorter.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::Core;
use super::dirs::Dirs;
use super::messages::{Answer, Call};
use super::points::{self, TopicPoint};
use crate::base::hash::OwnKeys;
use crate::base::wait::Signal;
use crate::base::{CoreIndex, DirIndex, Offset, TopicPartition, Uuid};
use crate::config::BrokerConfig;
use crate::log::{CleanError, Dirt, LogError, Means};
use crate::partition::{CLEANED_FILE, Partition};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// `log.cleaner.backoff.ms` may be 0; looking at all logs costs something.
const BACKOFF_MS_MIN: i64 = 100;
/// Between two writes of the file.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

const CLEANER: &str = "cleaner";
const WRITER: &str = "cleaned offsets written";

/// On core 0: how far logs have been cleaned.
#[derive(Default)]
pub struct Cleaning {
    known: RefCell<HashMap<(Uuid, i32), Offset, OwnKeys>>,
    /// All partitions that there were at the start are open: others are new.
    started: Cell<bool>,
    /// Directories whose file does not say what is known.
    changed: RefCell<BTreeSet<DirIndex>>,
    /// Wakes who writes it.
    work: Signal,
}

impl Cleaning {
    /// On core 0: topics are gone. A topic of the same name is another one.
    pub fn forget(&self, dirs: &Dirs, topics: impl IntoIterator<Item = Uuid>) {
        let gone: HashSet<Uuid> = topics.into_iter().collect();
        let mut known = self.known.borrow_mut();
        let before = known.len();
        known.retain(|(topic_id, _), _| !gone.contains(topic_id));
        if known.len() < before {
            self.changed.borrow_mut().extend(dirs.online().map(|(index, _)| index));
            self.work.raise();
        }
    }
}

/// How far the process before had compacted a partition that is being opened.
pub fn cleaned_before(core: &Core, dir: DirIndex, id: &TopicPartition) -> Offset {
    match core.cleaning.started.get() {
        // A topic that is new has nothing but perhaps its name from one before.
        true => Offset::ZERO,
        false => core.dirs().get(dir).left().cleaned.get(&id.topic, id.partition),
    }
}

/// Begins to clean, unless it is switched off. All partitions of the core are open.
pub fn start(core: &Rc<Core>) {
    core.cleaning.started.set(true);
    if core.index == CoreIndex(0) {
        let image = core.image();
        let mut known = core.cleaning.known.borrow_mut();
        for topic in image.topics() {
            for (partition, state) in &topic.partitions {
                let Some(dir) = core.dir_of(state) else { continue };
                let offset = core.dirs().get(dir).left().cleaned.get(&topic.name, *partition);
                if offset > Offset::ZERO {
                    known.insert((topic.id, *partition), offset);
                }
            }
        }
        drop(known);
        task::spawn(Queue::Upkeep, WRITER, OnPanic::StopProcess, write_all(Rc::clone(core)));
    }
    if core.config().log_cleaner_enable {
        task::spawn(Queue::Upkeep, CLEANER, OnPanic::StopProcess, clean_all(Rc::clone(core)));
    }
}

/// Completes when nothing of this is under way. The process was told to stop, and the partitions
/// are closed, which ends a clean.
pub async fn stop(core: &Core) {
    task::all_ended(CLEANER).await;
    core.cleaning.work.raise();
    task::all_ended(WRITER).await;
}

/// Takes a report of a core, on core 0.
pub fn reported(core: &Core, points: &[TopicPoint]) {
    {
        let mut known = core.cleaning.known.borrow_mut();
        for point in points {
            known.insert((point.topic_id, point.partition), point.offset);
        }
    }
    core.cleaning.changed.borrow_mut().extend(points::dirs_of(core, points));
    core.cleaning.work.raise();
}

/// On core 0: a partition that has been cleaned up to `cleaned` has changed directories.
pub fn moved(core: &Core, of: (Uuid, i32), cleaned: Offset) {
    if cleaned > Offset::ZERO {
        core.cleaning.known.borrow_mut().insert(of, cleaned);
    }
    core.cleaning.changed.borrow_mut().extend(core.dirs().online().map(|(index, _)| index));
    core.cleaning.work.raise();
}

/// What a core may use, by the options. How fast it may be is asked for again and again.
fn means(core: &Rc<Core>) -> Means {
    let config = core.config();
    let cores = f64::from(core.placement.cores());
    let share = |all: f64| all / cores;
    let of_rate = Rc::clone(core);
    Means::new(
        share(config.log_cleaner_dedupe_buffer_size as f64) as usize,
        config.log_cleaner_io_buffer_load_factor,
        share(f64::from(config.log_cleaner_io_buffer_size)) as usize,
        move || of_rate.config().log_cleaner_io_max_bytes_per_second / cores,
    )
}

/// What of the options [`means`] depends on.
fn of_means(config: &BrokerConfig) -> (i64, i32, u64) {
    (
        config.log_cleaner_dedupe_buffer_size,
        config.log_cleaner_io_buffer_size,
        config.log_cleaner_io_buffer_load_factor.to_bits(),
    )
}

async fn clean_all(core: Rc<Core>) {
    let mut uncleanable: HashSet<(Uuid, i32), OwnKeys> = HashSet::default();
    let mut config = core.config();
    let mut means = means(&core);
    loop {
        if of_means(&core.config()) != of_means(&config) {
            means = self::means(&core);
        }
        config = core.config();
        let mut rests = true;
        if let Some((partition, dirt)) = dirtiest(&core, &mut uncleanable).await {
            rests = !clean(&core, &partition, &dirt, &means, &mut uncleanable).await;
        }
        let rest = if rests { config.log_cleaner_backoff_ms.max(BACKOFF_MS_MIN) } else { 0 };
        if core.sleep_or_stop(Duration::from_millis(rest as u64)).await {
            return;
        }
    }
}

/// The log with the largest share that can be cleaned, of those whose share is large enough or that have waited
/// long enough.
async fn dirtiest(core: &Core, uncleanable: &mut HashSet<(Uuid, i32), OwnKeys>) -> Option<(Rc<Partition>, Dirt)> {
    let now = clock::unix_ms();
    let mut dirtiest: Option<(Rc<Partition>, Dirt)> = None;
    for partition in core.partitions.open() {
        if core.stop.is_raised() {
            return None;
        }
        task::yield_if_needed().await;
        let config = partition.log().config();
        let name = (partition.topic_id(), partition.id().partition);
        if !config.cleanup_policy.compact || partition.ended().is_some() || uncleanable.contains(&name) {
            continue;
        }
        if partition.log().is_moving() {
            continue;
        }
        match partition.dirt(now).await {
            Ok(dirt) => {
                let is_dirtier = dirtiest.as_ref().is_none_or(|(_, other)| dirt.ratio() > other.ratio());
                if dirt.is_due(config.min_cleanable_dirty_ratio) && is_dirtier {
                    dirtiest = Some((partition, dirt));
                }
            }
            Err(LogError::Closed(_) | LogError::Deleted(_) | LogError::Offline(_)) => {}
            Err(error) => leave_alone(&partition, &error, uncleanable),
        }
    }
    dirtiest
}

fn leave_alone(partition: &Partition, error: &dyn std::fmt::Display, uncleanable: &mut HashSet<(Uuid, i32), OwnKeys>) {
    uncleanable.insert((partition.topic_id(), partition.id().partition));
    tracing::error!(
        partition = %partition.id(),
        %error,
        "a log cannot be compacted; it is left as it is until the next start, the others go on"
    );
}

/// Cleans a log. False when that did not get it anywhere: then it is better to rest.
async fn clean(
    core: &Rc<Core>,
    partition: &Rc<Partition>,
    dirt: &Dirt,
    means: &Means,
    uncleanable: &mut HashSet<(Uuid, i32), OwnKeys>,
) -> bool {
    let began = clock::now();
    match partition.clean(dirt, means, clock::unix_ms()).await {
        Ok(cleaned) => {
            tracing::info!(
                partition = %partition.id(),
                "compacted up to offset {} in {} ms: {} of {} records, {} of {} bytes and {} of {} segments are left; {} \
                 bytes read, {} keys in {} bytes of memory",
                cleaned.to,
                began.elapsed().as_millis(),
                cleaned.records_after,
                cleaned.records_before,
                cleaned.bytes_after,
                cleaned.bytes_before,
                cleaned.segments_after,
                cleaned.segments_before,
                cleaned.read_bytes,
                cleaned.keys,
                cleaned.map_bytes,
            );
            let (topic_id, id) = (partition.topic_id(), partition.id().partition);
            tell(core, TopicPoint { topic_id, partition: id, offset: cleaned.to }).await;
            cleaned.to > dirt.from
        }
        Err(CleanError::Uncleanable(reason)) => {
            leave_alone(partition, &reason, uncleanable);
            true
        }
        Err(error @ CleanError::DiskFull(_)) => {
            tracing::warn!(partition = %partition.id(), %error, "compaction");
            false
        }
        Err(CleanError::GivenUp(reason)) => {
            tracing::debug!(partition = %partition.id(), reason, "compaction was given up");
            false
        }
    }
}

async fn tell(core: &Rc<Core>, point: TopicPoint) {
    if core.index == CoreIndex(0) {
        return reported(core, &[point]);
    }
    // A report that gets lost costs one clean more after the next start.
    if let Ok(answer) = core.router.call(CoreIndex(0), Call::Cleaned(vec![point])).await {
        let stopped = async {
            core.stop.raised().await;
            Ok(Answer::Cleaned)
        };
        let _ = futures_lite::future::or(answer, stopped).await;
    }
}

/// Writes the file, on core 0.
async fn write_all(core: Rc<Core>) {
    loop {
        core.cleaning.work.wait().await;
        let stopping = core.stop.is_raised();
        for dir in core.cleaning.changed.take() {
            if let Err(error) = points::write(&core, CLEANED_FILE, dir, &core.cleaning.known).await {
                tracing::warn!("{error}; logs are compacted once more after the next start");
            }
        }
        if stopping {
            return;
        }
        core.sleep_or_stop(WRITE_PAUSE).await;
    }
}
