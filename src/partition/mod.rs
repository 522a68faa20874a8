//! A log as Kafka sees it: who produced what, under which leader, up to where
//! consumers may read, and which fetches wait.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | opening, produce, bounds, read plans, closing, deletion |
//! | `producers` | idempotence and open transactions, snapshots of both |
//! | `aborted` | aborted transactions, `%020d.txnindex` |
//! | `epochs` | leader epochs and `leader-epoch-checkpoint` |
//! | `files` | what opening reads, learns and puts right beside the log's own files |
//! | `points` | recovery points and `recovery-point-offset-checkpoint` |
//! | `offsets` | ListOffsets and OffsetForLeaderEpoch |
//! | `watchers` | parked fetches |
//! | `moved` | a partition that goes to another data directory, and what a start finds of that |
//!
//! **High watermark.** On a single node it is the committed offset: what is *durable*
//! when the topic flushes each append (`flush.messages=1`), else what is *written*.
//! It never goes back. acks=1 is answered at written, acks=all at committed.
//!
//! Never knows connections, other partitions or Kafka's error codes. A produce is
//! *ordered* when [`Partition::produce`] returns, without waiting.

mod aborted;
mod epochs;
mod files;
pub mod moved;
mod offsets;
mod points;
mod producers;
mod watchers;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::base::limits::POINT_BYTES_MIN;
use crate::base::{DirIndex, LeaderEpoch, Moment, Offset, TopicPartition, UnixMs, Uuid};
use crate::config::TopicConfig;
use crate::log::aborted::AbortedTransaction;
use crate::log::journal::{Journal, JournalEntry, JournalPlace, Journaled};
use crate::log::{
    self, CleanError, Cleaned, Dirt, Log, LogError, LogOptions, Means, Observer, ReadPlan, Stage, TailMemory,
    Unpointed, Waiting,
};
use crate::record::{BatchView, Stamp, Validated};
use crate::runtime::disk::Disk;

pub use aborted::Aborted;
pub use epochs::LeaderEpochs;
pub use offsets::{FoundOffset, OffsetSpec};
pub use points::{CLEANED_FILE, POINTS_FILE, PointsError, PointsText, RecoveryPoints, STARTS_FILE, StartOffsets};
pub use producers::{BATCHES_KEPT, ProducedBatch, Producer, ProducerFault, Producers, SnapshotError};
pub use watchers::{FetchWaiter, Watching};

use files::{Files, Learned, write};
use producers::Verdict;
use watchers::{Visible, Watchers};

/// The file that ties a directory to a topic id.
const METADATA_FILE: &str = "partition.metadata";
/// The file of [`LeaderEpochs`].
const EPOCHS_FILE: &str = "leader-epoch-checkpoint";

/// What a partition needs to know to open.
#[derive(Clone)]
pub struct PartitionOptions {
    /// The topic's effective options.
    pub config: Rc<TopicConfig>,
    /// The core's budget for tails.
    pub memory: Rc<TailMemory>,
    /// The leader epoch of the metadata.
    pub leader_epoch: LeaderEpoch,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// From `log-start-offset-checkpoint`; 0 if it has none.
    pub start_offset: Offset,
    /// From `recovery-point-offset-checkpoint`; 0 if it has none. Believed with its snapshot.
    pub recovery_point: Offset,
    /// From `cleaner-offset-checkpoint`: compaction came up to here; 0 if it says nothing.
    pub cleaned: Offset,
    /// The core's count of what has no recovery point yet.
    pub unpointed: Option<Rc<Unpointed>>,
    /// The name of the partition's directory is durable, if there is one.
    pub name_is_durable: bool,
    /// The core's journal, if the partition is to use it.
    pub journal: Option<Rc<Journal>>,
    /// What the journals of the process before hold of it.
    pub journaled: Journaled,
    /// The broker cannot do without it: see [`LogOptions::is_vital`].
    pub is_vital: bool,
    /// The data directory it lies in.
    pub dir: DirIndex,
}

impl PartitionOptions {
    /// For a partition of which nothing was checkpointed, with Kafka's defaults.
    pub fn new(config: Rc<TopicConfig>, memory: Rc<TailMemory>) -> PartitionOptions {
        PartitionOptions {
            config,
            memory,
            leader_epoch: LeaderEpoch(0),
            producer_id_expiration_ms: 86_400_000,
            start_offset: Offset::ZERO,
            recovery_point: Offset::ZERO,
            cleaned: Offset::ZERO,
            unpointed: None,
            name_is_durable: false,
            journal: None,
            journaled: Journaled::default(),
            is_vital: false,
            dir: DirIndex(0),
        }
    }
}

/// Why a partition does not open, close or go away.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("{0}")]
    Log(#[from] LogError),
    /// The directory belongs to another life of the topic's name.
    #[error("the directory {dir} belongs to topic id {found}, not to {wanted}")]
    OtherTopic { dir: String, found: Uuid, wanted: Uuid },
    #[error("{0}")]
    Broken(String),
}

impl PartitionError {
    /// Nothing is wrong but that there is no space; later attempts may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, PartitionError::Log(LogError::DiskFull(_)))
    }
}

/// Which waiting an acknowledgement asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// acks=1: the leader's log has it.
    Leader,
    /// acks=all: it is committed.
    All,
}

/// When batches became safe; `None` where it was not asked for, or is not known any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Safe {
    pub written: Option<Moment>,
    pub durable: Option<Moment>,
}

impl Safe {
    /// When both were.
    pub fn and(self, other: Safe) -> Safe {
        Safe { written: self.written.max(other.written), durable: self.durable.max(other.durable) }
    }
}

/// What a reader may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Everything below the high watermark.
    #[default]
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

/// The offsets that answers carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// The first offset of the earliest undecided transaction that is not deleted, or the high watermark.
    pub last_stable: Offset,
    pub log_end: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Bounds {
    /// The first offset that a reader does not see.
    pub fn visible(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

/// A batch that has its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Produced {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// [`UnixMs::NONE`] unless the topic stamps it; of a duplicate the first one's time.
    pub log_append_time: UnixMs,
    pub log_start_offset: Offset,
    /// It was in the log before: nothing was appended.
    pub duplicate: bool,
}

/// Why a batch was not appended, or not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("{0}")]
    Producer(#[from] ProducerFault),
    /// Larger than `segment.bytes` (`RecordBatchTooLargeException`).
    #[error("a batch of {size} bytes is larger than a segment may be ({max})")]
    TooLarge { size: usize, max: usize },
    /// No space on the drive; may pass.
    #[error("{0}")]
    DiskFull(LogError),
    /// Too much waits to be written; may pass.
    #[error("{0}")]
    Behind(LogError),
    /// The log has failed.
    #[error("{0}")]
    Offline(LogError),
    /// The partition was deleted or is being closed: it is not led here any more.
    #[error("{0}")]
    Gone(LogError),
}

impl From<LogError> for ProduceError {
    fn from(error: LogError) -> ProduceError {
        match error {
            LogError::BatchTooLarge { size, max } => ProduceError::TooLarge { size, max },
            LogError::DiskFull(_) => ProduceError::DiskFull(error),
            LogError::Behind { .. } => ProduceError::Behind(error),
            LogError::Closed(_) | LogError::Deleted(_) => ProduceError::Gone(error),
            LogError::Offline(_) | LogError::OutOfRange { .. } | LogError::Corrupt(_) | LogError::Io(_) => {
                ProduceError::Offline(error)
            }
        }
    }
}

/// Why there is nothing to read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    #[error("offset {offset} is not within {start} and {end}")]
    OffsetOutOfRange { offset: Offset, start: Offset, end: Offset },
    /// The log has failed, or its bytes are damaged.
    #[error("{0}")]
    Offline(LogError),
    /// The partition was deleted or closed.
    #[error("{0}")]
    Gone(LogError),
}

impl From<LogError> for FetchError {
    fn from(error: LogError) -> FetchError {
        match error {
            LogError::OutOfRange { offset, start, end } => FetchError::OffsetOutOfRange { offset, start, end },
            LogError::Closed(_) | LogError::Deleted(_) => FetchError::Gone(error),
            other => FetchError::Offline(other),
        }
    }
}

/// How a client's leader epoch compares with ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EpochFault {
    /// `FencedLeaderEpochException`: the client knows an older leader.
    #[error("leader epoch {0:?} is older than the partition's")]
    Fenced(LeaderEpoch),
    /// `UnknownLeaderEpochException`: the client knows a newer one.
    #[error("leader epoch {0:?} is not known here yet")]
    Unknown(LeaderEpoch),
}

/// What opening a partition after an unclean end took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Batches were checked.
    pub checked: bool,
    /// The recovery point that was believed; 0 if none was.
    pub point: Offset,
    /// Bytes that were read and checked, and those that the point spared of the segments in question.
    pub scanned_bytes: u64,
    pub spared_bytes: u64,
    /// Bytes behind the last right batch that were no zeroes.
    pub cut_bytes: u64,
    /// Bytes of batches that came from the journal.
    pub journaled_bytes: u64,
}

/// See the module.
pub struct Partition {
    id: TopicPartition,
    topic_id: Uuid,
    dir: Cell<DirIndex>,
    disk: Disk,
    log: Log,
    producers: RefCell<Producers>,
    aborted: RefCell<Aborted>,
    producer_id_expiration_ms: Cell<i64>,
    epochs: RefCell<LeaderEpochs>,
    /// Whether a task is writing the epochs' file, and whether it must again.
    epochs_writing: Cell<bool>,
    epochs_dirty: Cell<bool>,
    /// Why it could not be written the last time.
    epochs_error: Cell<Option<io::ErrorKind>>,
    leader_epoch: Cell<LeaderEpoch>,
    high_watermark: Cell<Offset>,
    /// Bytes below the high watermark that were appended since the log was opened.
    visible_bytes: Cell<u64>,
    watchers: RefCell<Watchers>,
    /// The newest snapshot file.
    last_snapshot: Cell<Option<Offset>>,
    recovery: Cell<Recovery>,
    /// See [`Partition::unfiled`].
    unfiled: Cell<Option<Offset>>,
    /// The recovery point that the next start knows of.
    point_told: Cell<Offset>,
    /// Compaction came up to here.
    cleaned: Cell<Offset>,
    /// When silent producers were last looked for.
    expired: Cell<UnixMs>,
}

/// How often silent producers are looked for
/// (`producer.id.expiration.check.interval.ms`).
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

impl Partition {
    /// Opens the partition in `dir`, which need not exist: it is created with the
    /// first append. `clean` says that it was closed cleanly.
    ///
    /// # Errors
    /// The directory belongs to another topic id, or the log does not open.
    pub async fn open(
        disk: &Disk,
        dir: &Path,
        id: TopicPartition,
        topic_id: Uuid,
        options: PartitionOptions,
        clean: bool,
    ) -> Result<Rc<Partition>, PartitionError> {
        let names = match disk.list(dir).await {
            Ok(entries) => entries.into_iter().map(|entry| entry.name).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(PartitionError::Broken(format!("list {}: {error}", dir.display()))),
        };
        let mut files = Files { disk, dir, names };
        files.check_topic_id(topic_id).await?;
        let (epochs, epochs_are_whole) = files.read_epochs().await?;
        let snapshot = files.newest_snapshot(Offset(i64::MAX)).await?;

        // Without a snapshot after a clean stop there were no producers worth one.
        let replay_from = match &snapshot {
            Some((offset, _)) => Some(*offset),
            None if clean => None,
            None => Some(Offset::ZERO),
        };
        let (snapshot_offset, producers) = match snapshot {
            Some((offset, producers)) => (Some(offset), producers),
            None => (None, Producers::default()),
        };
        // Of an unclean end. Whose point it is, the snapshot says, which lies in this directory: the
        // checkpoint may be of another life of the name. What is below is not read: what would
        // be learned from it has to be known.
        let wanted = options.recovery_point;
        let proven = !clean && wanted > Offset::ZERO && epochs_are_whole && files.has_right_snapshot(wanted).await?;
        let recovery_point = if proven { wanted } else { Offset::ZERO };
        // What only the journal has comes first.
        let filed_first = !options.journaled.is_empty();
        let log_options = LogOptions {
            start_offset: if filed_first { Offset::ZERO } else { options.start_offset },
            recovery_point,
            unpointed: options.unpointed,
            name_is_durable: options.name_is_durable,
            is_vital: options.is_vital,
            journal: options.journal.map(|journal| JournalPlace { journal, topic: topic_id, partition: id.partition }),
            ..LogOptions::new(Rc::clone(&options.config), Rc::clone(&options.memory))
        };
        let mut learned = Learned::new(producers, epochs, files.last_bases());
        let (log, opened) = Log::open(disk, dir, log_options, clean, replay_from, &mut |batch| {
            learned.learn(&batch);
        })
        .await?;
        if files.names.iter().any(|name| log::parse_file_name(name).is_some_and(|file| !file.suffix.is_empty())) {
            // A compaction that was completed or taken back: an index of aborted transactions may have its name now.
            let entries = disk.list(dir).await;
            let entries =
                entries.map_err(|error| PartitionError::Broken(format!("list {}: {error}", dir.display())))?;
            files.names = entries.into_iter().map(|entry| entry.name).collect();
        }
        let end = log.end_offset();
        let mut last_snapshot = snapshot_offset;
        if snapshot_offset.is_some_and(|offset| offset > end) {
            // Recovery cut below the snapshot: it tells of batches that are gone.
            let older = files.newest_snapshot(end).await?;
            let (from, state) =
                older.map_or((log.start_offset(), Producers::default()), |(offset, state)| (offset, state));
            last_snapshot = Some(from).filter(|from| files.has_snapshot(*from));
            learned.producers = state;
            log.replay(from, |batch| learned.learn(&batch)).await?;
        }
        let Learned { mut producers, mut epochs, mut epochs_changed, aborted, passed, .. } = learned;
        let bases: BTreeSet<Offset> = log.segment_bases().into_iter().collect();
        let mut aborted = files.settle_aborted(&log, aborted).await?;
        aborted.truncate_start(log.start_offset());
        files.remove_stray_snapshots(&bases, &[last_snapshot, Some(recovery_point)], end).await?;
        if clean && let Some(snapshot) = last_snapshot {
            log.point_at(snapshot);
        }
        epochs_changed |= epochs.truncate_end(end);
        epochs.truncate_start(log.start_offset());
        let active = bases.last().copied().unwrap_or(end);
        if !clean && bases.len() > 1 && last_snapshot < Some(active) {
            // A crash came between a roll and the last of what seals a segment. Retention may take it as soon as the log
            // is open, and nobody could say any more who its producers were, or when its epochs began.
            if std::mem::take(&mut epochs_changed) {
                write(disk, &dir.join(EPOCHS_FILE), epochs.encode()).await?;
            }
            // Of an active segment without batches it is what is known now.
            let there = passed.filter(|(base, _)| *base == active);
            let bytes = there.map_or_else(|| producers.encode(), |(_, bytes)| bytes);
            write(disk, &dir.join(log::file_name(active, log::SNAPSHOT)), bytes).await?;
            last_snapshot = Some(active);
            log.point_at(active);
        }
        producers.high_watermark_moved(end);
        let recovery = Recovery {
            checked: opened.recovered,
            point: recovery_point,
            scanned_bytes: opened.scanned_bytes,
            spared_bytes: opened.spared_bytes,
            cut_bytes: opened.cut_bytes,
            journaled_bytes: 0,
        };
        if opened.recovered {
            producers.expire(crate::runtime::clock::unix_ms(), options.producer_id_expiration_ms);
            tracing::debug!(
                "recovered {id}: {} bytes checked, {} cut off, the recovery point was {recovery_point}, the end is {end}",
                opened.scanned_bytes,
                opened.cut_bytes
            );
        }

        let partition = Rc::new(Partition {
            id,
            topic_id,
            dir: Cell::new(options.dir),
            disk: disk.clone(),
            log,
            producers: RefCell::new(producers),
            aborted: RefCell::new(aborted),
            producer_id_expiration_ms: Cell::new(options.producer_id_expiration_ms),
            epochs: RefCell::new(epochs),
            epochs_writing: Cell::new(false),
            epochs_dirty: Cell::new(epochs_changed),
            epochs_error: Cell::default(),
            leader_epoch: Cell::new(options.leader_epoch),
            high_watermark: Cell::new(end),
            visible_bytes: Cell::new(0),
            watchers: RefCell::default(),
            last_snapshot: Cell::new(last_snapshot),
            recovery: Cell::new(recovery),
            unfiled: Cell::default(),
            // Who collects points has lost them with the process before.
            point_told: Cell::new(Offset::ZERO),
            cleaned: Cell::new(options.cleaned),
            expired: Cell::new(UnixMs(0)),
        });
        let observer: Weak<Partition> = Rc::downgrade(&partition);
        partition.log.observe(observer);
        let filed = partition.file_journaled(&options.journaled).await?;
        partition.unfiled.set((!filed).then(|| partition.log.end_offset()));
        if filed_first {
            partition.delete_records_before(options.start_offset.min(partition.log.end_offset()))?;
        }
        Ok(partition)
    }

    /// Appends what a journal holds and the segments do not, and has it filed and flushed. False when the drive is too
    /// full for that.
    ///
    /// # Errors
    /// Something is missing between the log's end and what the journal holds, or it could
    /// not be filed: the journal has to stay.
    async fn file_journaled(&self, journaled: &Journaled) -> Result<bool, PartitionError> {
        let before = self.log.end_offset();
        let mut rest = journaled.behind(before);
        while let Some(entries) = rest.read(&self.disk).await? {
            for (entry, batches) in &entries {
                self.append_journaled(*entry, batches).await?;
            }
        }
        let end = self.log.end_offset();
        let filed = end == before || self.log.file_journaled().await?;
        if end > before && filed {
            tracing::debug!("{}: {before} to {end} filed from the journal", self.id);
        }
        Ok(filed)
    }

    /// The end of what only the journals of the process before have: the drive was too full to file it. It is
    /// served from memory; the journals have to stay until [`Partition::file_rest`] says that it is filed.
    pub fn unfiled(&self) -> Option<Offset> {
        self.unfiled.get()
    }

    /// Waits until what [`Partition::unfiled`] tells of is filed and flushed, which is when there is space. True also
    /// when the partition was deleted; false when its log has ended otherwise: the journals have to stay.
    pub async fn file_rest(&self) -> bool {
        let Some(end) = self.unfiled.get() else { return true };
        let filed = self.log.file_through(end).await;
        if filed {
            self.unfiled.set(None);
        }
        filed
    }

    async fn append_journaled(&self, entry: JournalEntry, batches: &[u8]) -> Result<(), PartitionError> {
        let mut batches = batches;
        while !batches.is_empty() {
            let damaged = |reason: String| {
                PartitionError::Broken(format!(
                    "the journal's batches {} to {} cannot follow the log's end at {}: {reason}",
                    entry.base,
                    entry.end,
                    self.log.end_offset()
                ))
            };
            let batch = BatchView::first(batches).map_err(|error| damaged(error.to_string()))?;
            batches = &batches[batch.size()..];
            let end = self.log.end_offset();
            if batch.next_offset() <= end {
                continue;
            }
            if batch.base_offset() != end {
                return Err(damaged("batches between them are missing".into()));
            }
            if !batch.crc_is_right() {
                return Err(damaged("a batch whose checksum is wrong".into()));
            }
            let epoch = batch.leader_epoch();
            let stamp = Stamp { base_offset: end, leader_epoch: epoch, log_append_time: None };
            while let Err(error) = self.log.append_journaled(batch.bytes(), &stamp) {
                match error {
                    LogError::Behind { .. } => match self.log.wait(end, Stage::Written).await {
                        Ok(()) | Err(LogError::DiskFull(_)) => {}
                        Err(error) => return Err(error.into()),
                    },
                    error => return Err(error.into()),
                }
            }
            let aborted = self.producers.borrow_mut().update(&batch, end, batch.max_timestamp());
            self.aborted_now(aborted);
            if self.epochs.borrow_mut().assign(epoch, end) {
                self.epochs_dirty.set(true);
            }
            let mut recovery = self.recovery.get();
            recovery.journaled_bytes += batch.size() as u64;
            self.recovery.set(recovery);
        }
        Ok(())
    }

    /// What opening it took.
    pub fn recovery(&self) -> Recovery {
        self.recovery.get()
    }

    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The data directory it lies in.
    pub fn dir(&self) -> DirIndex {
        self.dir.get()
    }

    /// The log beneath.
    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.get()
    }

    /// Metadata has a new leader epoch for this partition. Batches carry it from now on.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        self.leader_epoch.set(epoch.max(self.leader_epoch.get()));
    }

    /// Compares the epoch that a client believes to be current; a negative one is no belief.
    pub fn check_leader_epoch(&self, claimed: LeaderEpoch) -> Result<(), EpochFault> {
        let ours = self.leader_epoch.get();
        match claimed {
            LeaderEpoch(..0) => Ok(()),
            older if older < ours => Err(EpochFault::Fenced(older)),
            newer if newer > ours => Err(EpochFault::Unknown(newer)),
            _ => Ok(()),
        }
    }

    /// Where the log begins and ends, and what can be seen of it.
    pub fn bounds(&self) -> Bounds {
        let (log_start, high_watermark) = (self.log.start_offset(), self.high_watermark.get());
        let unstable = self.producers.borrow().first_unstable(high_watermark);
        // Of a transaction that began where records were deleted only what is left counts (`maybeIncrementFirstUnstableOffset`).
        let last_stable = unstable.map_or(high_watermark, |unstable| unstable.max(log_start).min(high_watermark));
        Bounds {
            log_start,
            high_watermark,
            last_stable,
            log_end: self.log.end_offset(),
            leader_epoch: self.leader_epoch.get(),
        }
    }

    /// Why the partition does nothing any more, if so.
    pub fn ended(&self) -> Option<LogError> {
        self.log.ended()
    }

    /// Appends a validated batch: judges its producer's sequence, stamps offset,
    /// epoch and time, and hands it to the log. When this returns its place is fixed.
    ///
    /// # Errors
    /// Nothing was appended.
    pub fn produce(&self, batch: &Validated<'_>) -> Result<Produced, ProduceError> {
        self.append(batch.bytes(), batch.log_append_time())
    }

    /// As [`Partition::produce`], for batches built in this process: coordinators'
    /// records and markers. `log_append_time` as of a validated batch.
    pub fn append(&self, bytes: &[u8], log_append_time: Option<UnixMs>) -> Result<Produced, ProduceError> {
        let view = BatchView::first(bytes).expect("a batch was validated before it is produced");
        if let Some(error) = self.log.ended() {
            return Err(error.into());
        }
        if !view.is_control()
            && let Verdict::Duplicate(first) = self.producers.borrow().check(&view)?
        {
            return Ok(Produced {
                base_offset: first.base_offset(),
                last_offset: first.last_offset,
                log_append_time: UnixMs(first.timestamp),
                log_start_offset: self.log.start_offset(),
                duplicate: true,
            });
        }
        let epoch = self.leader_epoch.get();
        let stamp = Stamp { base_offset: self.log.end_offset(), leader_epoch: epoch, log_append_time };
        let placed = self.log.append(bytes, &stamp)?;
        let timestamp = log_append_time.map_or(view.max_timestamp(), |time| time.0);
        let aborted = self.producers.borrow_mut().update(&view, placed.base_offset, timestamp);
        self.aborted_now(aborted);
        if self.epochs.borrow_mut().assign(epoch, placed.base_offset) {
            self.epochs_dirty.set(true);
        }
        Ok(Produced {
            base_offset: placed.base_offset,
            last_offset: placed.last_offset,
            log_append_time: log_append_time.unwrap_or(UnixMs::NONE),
            log_start_offset: self.log.start_offset(),
            duplicate: false,
        })
    }

    /// Waits until the batch that ends at `last` may be acknowledged.
    ///
    /// # Errors
    /// It may be in the log or not: the producer has to send it again.
    pub async fn acknowledged(&self, last: Offset, acks: Acks) -> Result<(), ProduceError> {
        Ok(self.log.wait(last.plus(1), self.stage_of(acks)).await?)
    }

    /// As [`Partition::acknowledged`], for who polls by itself: `None` when it may be already.
    ///
    /// # Errors
    /// As [`Partition::acknowledged`].
    pub fn start_acknowledging(&self, last: Offset, acks: Acks) -> Result<Option<Waiting>, ProduceError> {
        Ok(self.log.start_waiting(last.plus(1), self.stage_of(acks))?)
    }

    /// When the batch that ends at `last` became as safe as `acks` asks for.
    pub fn safe(&self, last: Offset, acks: Acks) -> Safe {
        let passed = |stage| self.log.passed(stage, last.plus(1));
        let durable = if self.stage_of(acks) == Stage::Durable { passed(Stage::Durable) } else { None };
        Safe { written: passed(Stage::Written), durable }
    }

    fn stage_of(&self, acks: Acks) -> Stage {
        match acks {
            Acks::Leader => Stage::Written,
            Acks::All => self.committed_stage(),
        }
    }

    /// Says that somebody waits for what is in the log now to be committed.
    pub fn want_committed(&self) {
        if self.committed_stage() == Stage::Durable {
            self.log.want_durable(self.log.end_offset());
        }
    }

    /// What the high watermark follows.
    fn committed_stage(&self) -> Stage {
        if self.log.config().flushes_each_append() { Stage::Durable } else { Stage::Written }
    }

    /// Plans a read from `from` of what `isolation` may see, and says the bounds it
    /// was planned with.
    ///
    /// # Errors
    /// `from` is not an offset of the log, or the log has ended.
    pub fn read_plan(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<(Bounds, ReadPlan), FetchError> {
        let bounds = self.bounds();
        if from >= bounds.high_watermark && bounds.log_end > bounds.high_watermark {
            // A reader at the end waits for what is there and not committed yet.
            self.want_committed();
        }
        let plan = self.log.read_plan(from, bounds.visible(isolation), bytes_max, at_least_one)?;
        Ok((bounds, plan))
    }

    /// About how many bytes a reader at `from` could get: for `fetch.min.bytes`. Never
    /// 0 when there are any.
    pub fn available_bytes(&self, from: Offset, isolation: Isolation) -> u64 {
        self.log.bytes_between(from, self.bounds().visible(isolation))
    }

    /// The aborted transactions that a reader of committed records has to know of who gets batches from `from` on
    /// and below `until`.
    pub fn aborted_within(&self, from: Offset, until: Offset) -> Vec<AbortedTransaction> {
        self.aborted.borrow().within(from, until)
    }

    /// Whether any aborted transaction is in the log.
    pub fn has_aborted(&self) -> bool {
        !self.aborted.borrow().is_empty()
    }

    /// A marker was appended. Clients cannot begin transactions yet, so nothing writes one, and nothing puts it into
    /// the index of its segment either: who writes the first marker has to, before the segment is sealed or closed.
    fn aborted_now(&self, aborted: Option<AbortedTransaction>) {
        if let Some(aborted) = aborted {
            self.aborted.borrow_mut().add(aborted);
        }
    }

    /// Registers a parked fetch, which gets the bytes that become visible past
    /// `from` as long as the returned place is kept.
    pub fn watch(self: &Rc<Self>, waiter: &Rc<FetchWaiter>, from: Offset, isolation: Isolation) -> Watching {
        if self.ended().is_some() {
            waiter.wake();
        }
        self.want_committed();
        self.watchers.borrow_mut().add(Rc::downgrade(self), waiter, from, isolation)
    }

    /// Parked fetches.
    pub fn watcher_count(&self) -> usize {
        self.watchers.borrow().len()
    }

    /// Producers that are remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.borrow().len()
    }

    /// Looks at the remembered producers (DescribeProducers).
    pub fn with_producers<T>(&self, look: impl FnOnce(&Producers) -> T) -> T {
        look(&self.producers.borrow())
    }

    /// Takes changed topic options into use.
    pub fn update_config(&self, config: Rc<TopicConfig>) {
        self.log.update_config(config);
        self.advance();
    }

    /// `producer.id.expiration.ms` from now on.
    pub fn set_producer_id_expiration(&self, ms: i64) {
        self.producer_id_expiration_ms.set(ms);
    }

    /// Regular care, some times a minute.
    pub fn upkeep(&self, now: UnixMs) {
        if now.since(self.expired.get()) >= EXPIRE_EVERY {
            self.expired.set(now);
            self.producers.borrow_mut().expire(now, self.producer_id_expiration_ms.get());
        }
        self.log.upkeep(now);
    }

    /// Deletes what retention gives up, `most` segments at most. Gives their number.
    ///
    /// # Errors
    /// A file operation failed.
    pub async fn retain(&self, now: UnixMs, most: usize) -> Result<usize, LogError> {
        let deleted = self.log.retain(now, self.high_watermark.get(), most).await?;
        if self.epochs.borrow_mut().truncate_start(self.log.start_offset()) {
            self.epochs_dirty.set(true);
        }
        self.aborted.borrow_mut().truncate_start(self.log.start_offset());
        Ok(deleted)
    }

    /// Where compaction goes on: everything below has been compacted.
    pub fn cleaned(&self) -> Offset {
        self.cleaned.get()
    }

    /// How dirty the log is, and what of it may be compacted now: nothing that is not committed, and
    /// nothing of an undecided transaction or behind it.
    ///
    /// # Errors
    /// The log has ended, or a file cannot be read.
    pub async fn dirt(&self, now: UnixMs) -> Result<Dirt, LogError> {
        self.log.dirt(self.cleaned.get(), self.bounds().last_stable, now).await
    }

    /// Compacts what is dirty; see [`Log::clean`].
    ///
    /// # Errors
    /// As [`Log::clean`].
    pub async fn clean(&self, dirt: &Dirt, means: &Means, now: UnixMs) -> Result<Cleaned, CleanError> {
        let cleaned = self.log.clean(dirt, means, &|batch| self.is_last_of_producer(batch), now).await?;
        self.cleaned.set(cleaned.to);
        // Snapshots at which no segment begins any more, and which no start would ask for.
        self.log.point_is_known(self.point_told.get()).await;
        Ok(cleaned)
    }

    /// Whether a batch has the last sequence number of a producer that is remembered, or, where there is
    /// none, its last epoch (`UnifiedLog.lastRecordsOfActiveProducers`).
    fn is_last_of_producer(&self, batch: &BatchView<'_>) -> bool {
        let producers = self.producers.borrow();
        producers.get(batch.producer_id()).is_some_and(|producer| match producer.batches().last() {
            Some(last) => last.last_offset == batch.last_offset(),
            None => batch.is_control() && batch.producer_epoch() == producer.epoch(),
        })
    }

    /// Makes ready for [`Partition::delete_records_before`]: everything below the offset is durable then,
    /// so that no crash leaves a log that ends before it starts. Without an offset it is the high
    /// watermark. Gives the offset.
    ///
    /// # Errors
    /// It is negative or lies past the high watermark; or the log has ended.
    pub async fn prepare_deletion_before(&self, offset: Option<Offset>) -> Result<Offset, LogError> {
        let bounds = self.bounds();
        let offset = offset.unwrap_or(bounds.high_watermark);
        if offset < Offset::ZERO || offset > bounds.high_watermark {
            return Err(LogError::OutOfRange { offset, start: bounds.log_start, end: bounds.high_watermark });
        }
        if let Some(error) = self.log.ended() {
            return Err(error);
        }
        if offset > self.log.durable_offset() {
            self.log.request_flush();
        }
        self.log.wait(offset, Stage::Durable).await?;
        Ok(offset.max(bounds.log_start))
    }

    /// Moves the log start offset (DeleteRecords); see [`Log::increment_start_offset`].
    ///
    /// # Errors
    /// `offset` lies past the high watermark.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, LogError> {
        let bounds = self.bounds();
        if offset > bounds.high_watermark {
            return Err(LogError::OutOfRange { offset, start: bounds.log_start, end: bounds.high_watermark });
        }
        let start = self.log.increment_start_offset(offset)?;
        if self.epochs.borrow_mut().truncate_start(start) {
            self.epochs_dirty.set(true);
        }
        Ok(start)
    }

    /// Makes everything durable and leaves files that open without recovery.
    ///
    /// # Errors
    /// Not everything could be made durable: the next opening recovers.
    pub async fn close_cleanly(&self) -> Result<(), PartitionError> {
        self.log.close_cleanly().await?;
        if self.log.end_offset() > Offset::ZERO || self.log.segment_count() > 1 {
            self.write_closing_files().await?;
        }
        Ok(())
    }

    async fn write_closing_files(&self) -> Result<(), PartitionError> {
        let end = self.log.end_offset();
        let dir = self.log.dir();
        // Before the snapshot: what lies below that is not read again, and would not tell when an epoch began.
        while self.epochs_writing.get() {
            crate::runtime::clock::sleep(Duration::from_millis(1)).await;
        }
        if self.epochs_dirty.replace(false) {
            let bytes = self.epochs.borrow().encode();
            write(&self.disk, &dir.join(EPOCHS_FILE), bytes).await?;
        }
        let snapshot = {
            let producers = self.producers.borrow();
            let last = self.last_snapshot.get();
            // It is the proof of a recovery point as well, for the start after the next.
            let saves = self.log.bytes_behind_point() >= POINT_BYTES_MIN;
            let worth_one = last != Some(end) && (last.is_some() || !producers.is_empty() || saves);
            worth_one.then(|| producers.encode())
        };
        if let Some(bytes) = snapshot {
            write(&self.disk, &dir.join(log::file_name(end, log::SNAPSHOT)), bytes).await?;
        }
        Ok(())
    }

    /// Makes the log's end, as it is now, a recovery point; see [`Log::make_point`]. Gives it; `None`
    /// also while leader epochs wait to be written: then it can be tried again soon.
    ///
    /// # Errors
    /// The log has ended, or a file could not be written.
    pub async fn make_point(self: &Rc<Self>) -> Result<Option<Offset>, LogError> {
        if !self.epochs_are_written() {
            return Ok(None);
        }
        let producers = self.producers.borrow().encode();
        let made = self.log.make_point(producers).await?;
        if made > self.last_snapshot.get() {
            self.last_snapshot.set(made);
        }
        Ok(made)
    }

    /// A recovery point that the next start does not know of yet.
    pub fn point_to_tell(self: &Rc<Self>) -> Option<Offset> {
        let point = self.log.recovery_point();
        (point > self.point_told.get() && self.epochs_are_written()).then_some(point)
    }

    /// The next start knows the point at `offset`: what only earlier ones need goes.
    pub async fn point_was_told(&self, offset: Offset) {
        self.point_told.set(offset.max(self.point_told.get()));
        if self.ended().is_none() {
            self.log.point_is_known(offset).await;
        }
    }

    /// Whether the epochs of all batches are in their file; has it written if not. Batches below a
    /// recovery point are not read again, and would not tell.
    fn epochs_are_written(self: &Rc<Self>) -> bool {
        self.write_epochs();
        !self.epochs_dirty.get() && !self.epochs_writing.get()
    }

    /// Ends the partition and renames its directory away; gives the new name, if
    /// there was one. `suffix` makes it unique. The files go with [`Partition::remove_dir`].
    ///
    /// # Errors
    /// The directory could not be renamed. The partition has ended all the same.
    pub async fn delete(&self, suffix: &str) -> Result<Option<PathBuf>, PartitionError> {
        Ok(self.log.delete(suffix).await?)
    }

    /// Removes the files of a deleted partition.
    ///
    /// # Errors
    /// Some could not be removed.
    pub async fn remove_dir(&self) -> Result<(), PartitionError> {
        Ok(self.log.remove_dir().await?)
    }

    /// Moves the high watermark to what is committed, and tells who waits for it.
    fn advance(&self) {
        if !self.watchers.borrow().is_empty() {
            self.want_committed();
        }
        let committed = self.log.reached(self.committed_stage());
        let before = self.high_watermark.get();
        if committed.offset <= before {
            return;
        }
        self.high_watermark.set(committed.offset);
        let bytes = committed.bytes.saturating_sub(self.visible_bytes.replace(committed.bytes));
        self.producers.borrow_mut().high_watermark_moved(committed.offset);
        let watchers = self.watchers.borrow();
        if !watchers.is_empty() {
            let bounds = self.bounds();
            watchers.moved(Visible { high_watermark: bounds.high_watermark, last_stable: bounds.last_stable, bytes });
        }
    }
}

impl Observer for Partition {
    fn rolled(&self, base: Offset) -> Option<Vec<u8>> {
        self.last_snapshot.set(Some(base));
        Some(self.producers.borrow().encode())
    }

    fn is_ready_for_snapshots(self: Rc<Self>) -> Result<bool, io::ErrorKind> {
        // What lies below a snapshot is not read again, and would not tell when an epoch began.
        match self.epochs_error.take() {
            Some(error) if self.epochs_dirty.get() => Err(error),
            _ => Ok(self.epochs_are_written()),
        }
    }

    fn progressed(&self) {
        self.advance();
    }

    fn ended(&self) {
        self.watchers.borrow().wake_all();
    }

    fn compacted(&self, from: Offset, until: Offset, markers: &[Offset]) {
        self.aborted.borrow_mut().keep(from, until, markers);
    }

    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        self.epochs_dirty.set(false);
        self.small_files()
    }
}

#[cfg(test)]
mod cleaner_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod move_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
