//! The metadata log on the drive: `__cluster_metadata-0`, a log like any other, in
//! the format of Kafka's KRaft.
//!
//! | file | holds |
//! |---|---|
//! | `%020d.log` and its indexes | batches of records, each batch with the controller's epoch |
//! | `%020d-%010d.checkpoint` | snapshots, see [`checkpoint`](super::checkpoint) |
//! | `quorum-state` | who leads in which epoch, as JSON |
//! | `leader-epoch-checkpoint`, `partition.metadata` | as of any partition |
//!
//! This node is the only voter: what is durable is committed. Each start is a new
//! epoch, written to `quorum-state` first and then to the log as a leader change
//! (a control batch, whose record counts for offsets like any other). A batch is
//! written whole or not at all, so one intention's records are one batch.
//!
//! Relies on `log`. Never knows what the records mean, but for the level that says
//! how to write them. A write or flush that failed ends the journal: what the drive
//! has is in doubt, and only a restart finds out.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::checkpoint::{self, SnapshotBatches, SnapshotId, control_body};
use super::controller::{Controller, RECORDS_PER_INTENTION_MAX};
use super::image::{Image, METADATA_VERSION, Replay, ReplayError};
use super::properties::BOOTSTRAP_FILE;
use super::quorum::{Quorum, QuorumState};
use super::records::{AbortTransactionRecord, MetadataRecord};
use crate::base::{LeaderEpoch, NodeId, Offset, UnixMs, Uuid};
use crate::config::{CleanupPolicy, TopicConfig};
use crate::log::{Log, LogError, LogOptions, Stage, TailMemory};
use crate::record::stored::control::{LeaderChangeMessage, LeaderChangeMessageVoter};
use crate::record::stored::{DecodeError, EncodeError};
use crate::record::{BatchBuilder, BatchView, ControlType, NewRecord, RecordFault, Scratch, Stamp};
use crate::runtime::clock;
use crate::runtime::disk::{self, Disk};

/// The directory's name.
pub const DIRECTORY: &str = "__cluster_metadata-0";

/// Who leads in which epoch, as JSON.
pub const QUORUM_STATE: &str = "quorum-state";
const EPOCHS: &str = "leader-epoch-checkpoint";
const PARTITION_METADATA: &str = "partition.metadata";

/// Snapshots that are kept: the newest, and the one before in case its file is lost.
const SNAPSHOTS_KEPT: usize = 2;

/// While the drive is full, the writer tries again, and the append waits with it.
const DISK_FULL_WAIT: Duration = Duration::from_millis(100);

/// Why the metadata log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{verb} {}: {error}", path.display())]
    Io { verb: &'static str, path: PathBuf, error: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the record at offset {offset}: {error}")]
    Decode { offset: Offset, error: DecodeError },
    #[error("the batch at offset {offset}: {error}")]
    Batch { offset: Offset, error: RecordFault },
    #[error("records up to offset {end}: {error}")]
    Replay { end: Offset, error: ReplayError },
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The log is of a cluster that this node cannot be part of: the reason.
    #[error("{0}")]
    Foreign(String),
    #[error("the log's end is unknown since an append failed half-way; restart the broker")]
    Doubt,
}

impl JournalError {
    pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
        let path = path.to_owned();
        move |error| JournalError::Io { verb, path, error }
    }

    /// There is no space left on the drive: with space it may succeed.
    pub fn is_full(&self) -> bool {
        match self {
            JournalError::Log(error) => matches!(error, LogError::DiskFull(_)),
            JournalError::Io { error, .. } => disk::is_full(error),
            _ => false,
        }
    }

    pub(super) fn damaged(path: &Path, reason: String) -> JournalError {
        JournalError::Damaged { path: path.to_owned(), reason }
    }
}

/// What a journal needs to know to open.
#[derive(Clone)]
pub struct JournalOptions {
    pub node: NodeId,
    /// The id of the data directory, by which a voter is known.
    pub directory: Uuid,
    /// Whether the process had closed the journal cleanly.
    pub clean: bool,
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: i32,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub snapshot_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`.
    pub snapshot_interval: Duration,
    /// The core's budget for tails.
    pub memory: Rc<TailMemory>,
}

/// The metadata log, open for the one who writes it.
pub struct Journal {
    log: Log,
    disk: Disk,
    dir: PathBuf,
    epoch: LeaderEpoch,
    /// What the log says of who votes.
    quorum: Quorum,
    /// The level of `metadata.version`.
    level: Cell<i16>,
    /// An append was cut off between two batches.
    doubt: Cell<bool>,
    snapshot_bytes: u64,
    snapshot_interval: Duration,
    /// Ascending.
    snapshots: RefCell<Vec<SnapshotId>>,
    /// Bytes of batches since the newest snapshot.
    since_snapshot: Cell<u64>,
    /// When the newest snapshot was made, or the journal opened.
    snapshot_at: Cell<UnixMs>,
}

impl Journal {
    /// Opens the log in `data_dir`, or makes it, and begins a new epoch. Gives all
    /// metadata there is.
    ///
    /// # Errors
    /// A file operation failed, something is damaged, or the log is of a cluster with
    /// other voters.
    pub async fn open(
        disk: &Disk,
        data_dir: &Path,
        options: &JournalOptions,
        now: UnixMs,
    ) -> Result<(Journal, Replay), JournalError> {
        let dir = data_dir.join(DIRECTORY);
        disk.create_dir_all(&dir).await.map_err(JournalError::io("create", &dir))?;
        // The files in it will be durable; its own name has to be, too.
        disk.sync_dir(data_dir).await.map_err(JournalError::io("sync", data_dir))?;
        let state = read_quorum_state(disk, &dir).await?;
        if let Some(state) = &state {
            state.check(options.node).map_err(JournalError::Foreign)?;
        }
        let snapshots = list_snapshots(disk, &dir).await?;
        let (mut replay, mut quorum) = (Replay::default(), Quorum::default());
        if let Some(newest) = snapshots.last() {
            read_snapshot(disk, &dir, *newest, &mut replay, &mut quorum).await?;
        }

        let mut log_options = LogOptions::new(Rc::new(log_config(options.segment_bytes)), Rc::clone(&options.memory));
        log_options.is_vital = true;
        // Up to the older snapshot the log may be deleted.
        log_options.start_offset = snapshots.first().map_or(Offset::ZERO, |oldest| oldest.offset);
        let (log, _) = Log::open(disk, &dir, log_options, options.clean, None, &mut |_| {}).await?;
        let since_snapshot = replay_log(&log, &mut replay, &mut quorum).await?;
        quorum.check(options.node, options.directory).map_err(JournalError::Foreign)?;

        let last = state.map_or(-1, |state| state.leader_epoch).max(replay.image().epoch().0);
        let journal = Journal {
            log,
            disk: disk.clone(),
            dir,
            epoch: LeaderEpoch(last + 1),
            quorum,
            level: Cell::new(level_of(replay.image())),
            doubt: Cell::new(false),
            snapshot_bytes: options.snapshot_bytes,
            snapshot_interval: options.snapshot_interval,
            snapshots: RefCell::new(snapshots),
            since_snapshot: Cell::new(since_snapshot),
            snapshot_at: Cell::new(now),
        };
        journal.begin_epoch(options, now).await?;
        if replay.in_transaction() {
            // Its end was never written (`ActivationRecordsGenerator`).
            journal.append_and_apply(vec![AbortTransactionRecord::default().into()], now, &mut replay).await?;
        }
        if replay.image().features().len() == 0 {
            let mut records = Vec::new();
            let path = data_dir.join(BOOTSTRAP_FILE);
            let collect = |part: &[MetadataRecord]| {
                records.extend_from_slice(part);
                Ok(())
            };
            if checkpoint::read(disk, &path, &mut Quorum::default(), collect).await?.is_none() {
                records = Controller::bootstrap_records();
            }
            journal.append_and_apply(records, now, &mut replay).await?;
        }
        // The leader change moved the end, although no record shows it.
        replay.apply([], journal.end(), journal.epoch).expect("no record, no error");
        Ok((journal, replay))
    }

    /// This start's epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The offset of the next record.
    pub fn end(&self) -> Offset {
        self.log.end_offset()
    }

    /// Appends records and waits until they are durable. Records of one intention are
    /// one batch; more than [`RECORDS_PER_INTENTION_MAX`] are several, of which a crash
    /// may leave only the first. Gives the offset behind them.
    ///
    /// # Errors
    /// Nothing was appended (`Encode`, or a full drive), or the journal is over: then
    /// what was appended may or may not be there after a restart.
    pub async fn append(&self, records: &[MetadataRecord], now: UnixMs) -> Result<Offset, JournalError> {
        if self.doubt.get() {
            return Err(JournalError::Doubt);
        }
        let mut level = self.level.get();
        let mut batches = Vec::new();
        for part in records.chunks(RECORDS_PER_INTENTION_MAX) {
            let mut builder = BatchBuilder::new();
            for record in part {
                if let MetadataRecord::FeatureLevel(feature) = record
                    && feature.name == METADATA_VERSION
                {
                    level = feature.feature_level;
                }
                let value = record.encode(record.version_at(level))?;
                builder.push(NewRecord { timestamp: now.0, key: None, value: Some(&value), headers: &[] });
            }
            batches.push(builder.build());
        }
        for (i, batch) in batches.iter().enumerate() {
            if let Err(error) = self.append_batch(batch) {
                self.doubt.set(i > 0);
                return Err(error);
            }
        }
        self.level.set(level);
        let end = self.end();
        self.wait_durable(end).await?;
        Ok(end)
    }

    fn append_batch(&self, batch: &[u8]) -> Result<(), JournalError> {
        let stamp = Stamp { base_offset: self.end(), leader_epoch: self.epoch, log_append_time: None };
        self.log.append(batch, &stamp)?;
        self.since_snapshot.set(self.since_snapshot.get() + batch.len() as u64);
        Ok(())
    }

    /// A full drive delays what was appended and does not undo it, so the one who
    /// waits must not be told that it failed.
    async fn wait_durable(&self, end: Offset) -> Result<(), JournalError> {
        loop {
            match self.log.wait(end, Stage::Durable).await {
                Err(LogError::DiskFull(_)) => clock::sleep(DISK_FULL_WAIT).await,
                result => return Ok(result?),
            }
        }
    }

    async fn append_and_apply(
        &self,
        records: Vec<MetadataRecord>,
        now: UnixMs,
        replay: &mut Replay,
    ) -> Result<(), JournalError> {
        let end = self.append(&records, now).await?;
        replay.apply(&records, end, self.epoch).map_err(|error| JournalError::Replay { end, error })?;
        Ok(())
    }

    /// 1. The epoch is taken: no later start uses it again, even if this one ends here.
    /// 2. The log says so.
    async fn begin_epoch(&self, options: &JournalOptions, now: UnixMs) -> Result<(), JournalError> {
        let node = options.node;
        let state = QuorumState::of_leader(node, self.epoch, self.quorum.version);
        self.write_file(QUORUM_STATE, state.encode()).await?;
        self.write_file(EPOCHS, self.epochs().await?).await?;
        self.write_file(PARTITION_METADATA, partition_metadata()).await?;

        // Voters are known by their directories too once the log names them.
        let version = self.quorum.version.min(1);
        let voter_directory_id = if version > 0 { options.directory } else { Uuid::ZERO };
        let voter = || LeaderChangeMessageVoter { voter_id: node.0, voter_directory_id, ..Default::default() };
        let change = LeaderChangeMessage {
            version,
            leader_id: node.0,
            voters: vec![voter()],
            granting_voters: vec![voter()],
            ..Default::default()
        };
        let mut builder = BatchBuilder::new().control();
        builder.push_control(ControlType::LeaderChange, now.0, &control_body(&change, version));
        self.append_batch(&builder.build())?;
        self.wait_durable(self.end()).await
    }

    /// The start offsets of all epochs that the log still has, with this one.
    async fn epochs(&self) -> Result<Vec<u8>, JournalError> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        self.log
            .replay(self.log.start_offset(), |batch| {
                let epoch = batch.leader_epoch().0;
                if epochs.last().is_none_or(|(last, _)| *last < epoch) {
                    epochs.push((epoch, batch.base_offset().0));
                }
            })
            .await?;
        epochs.push((self.epoch.0, self.end().0));
        let lines = epochs.iter().map(|(epoch, start)| format!("{epoch} {start}\n"));
        Ok(format!("0\n{}\n{}", epochs.len(), lines.collect::<String>()).into_bytes())
    }

    async fn write_file(&self, name: &str, bytes: Vec<u8>) -> Result<(), JournalError> {
        let path = self.dir.join(name);
        self.disk.write_file(&path, bytes).await.map_err(JournalError::io("write", &path))
    }

    /// Whether enough was written, or enough time has passed, for a new snapshot.
    pub fn snapshot_due(&self, now: UnixMs) -> bool {
        let since = self.since_snapshot.get();
        since >= self.snapshot_bytes || (since > 0 && now.since(self.snapshot_at.get()) >= self.snapshot_interval)
    }

    /// Writes a snapshot of `image`, and gives up what it makes superfluous: older
    /// snapshots but one, and the log before that one. Appends go on meanwhile.
    ///
    /// # Errors
    /// A file operation failed. What was there before is still there.
    pub async fn snapshot(&self, image: &Image, now: UnixMs) -> Result<(), JournalError> {
        let id = SnapshotId { offset: image.end(), epoch: image.epoch() };
        assert!(id.offset <= self.log.durable_offset(), "a snapshot holds only what is committed");
        if self.snapshots.borrow().last().is_none_or(|newest| newest.offset < id.offset) {
            let before = self.since_snapshot.get();
            let batches = SnapshotBatches::new(id.epoch, level_of(image), now, &self.quorum, image.records());
            checkpoint::write(&self.disk, &self.dir.join(id.file_name()), batches).await?;
            self.snapshots.borrow_mut().push(id);
            self.since_snapshot.set(self.since_snapshot.get().saturating_sub(before));
            self.log.roll();
        }
        self.snapshot_at.set(now);
        loop {
            let oldest = {
                let mut snapshots = self.snapshots.borrow_mut();
                if snapshots.len() <= SNAPSHOTS_KEPT {
                    break;
                }
                snapshots.remove(0)
            };
            let path = self.dir.join(oldest.file_name());
            self.disk.remove(&path).await.map_err(JournalError::io("remove", &path))?;
        }
        let kept = self.snapshots.borrow().first().map_or(Offset::ZERO, |oldest| oldest.offset);
        if self.snapshots.borrow().len() == SNAPSHOTS_KEPT {
            self.log.increment_start_offset(kept)?;
            self.log.retain(now, self.log.durable_offset(), usize::MAX).await?;
        }
        Ok(())
    }

    /// Regular care of the log's files, see [`Log::upkeep`].
    pub fn upkeep(&self, now: UnixMs) {
        self.log.upkeep(now);
    }

    /// Ends the journal; the next start may be told that it is clean.
    pub async fn close(&self) -> Result<(), JournalError> {
        Ok(self.log.close_cleanly().await?)
    }
}

fn level_of(image: &Image) -> i16 {
    match image.feature(METADATA_VERSION) {
        // Before the first level is written: `MetadataVersion.MINIMUM_VERSION`.
        0 => 7,
        level => level,
    }
}

/// Nothing is lost by age or size: snapshots decide what may go.
fn log_config(segment_bytes: i32) -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: false },
        flush_messages: 1,
        segment_bytes,
        segment_ms: i64::MAX,
        retention_ms: -1,
        retention_bytes: -1,
        max_message_bytes: i32::MAX,
        ..TopicConfig::default()
    }
}

fn partition_metadata() -> Vec<u8> {
    format!("version: 0\ntopic_id: {}", Uuid::METADATA_TOPIC).into_bytes()
}

async fn read_quorum_state(disk: &Disk, dir: &Path) -> Result<Option<QuorumState>, JournalError> {
    let path = dir.join(QUORUM_STATE);
    let bytes = match disk.read_file(&path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("read", &path)(error)),
    };
    QuorumState::decode(&bytes).map(Some).map_err(|reason| JournalError::damaged(&path, reason))
}

/// The snapshots in order; leftovers of unfinished ones are removed.
async fn list_snapshots(disk: &Disk, dir: &Path) -> Result<Vec<SnapshotId>, JournalError> {
    let mut snapshots = Vec::new();
    for entry in disk.list(dir).await.map_err(JournalError::io("list", dir))? {
        if let Some(id) = SnapshotId::parse(&entry.name) {
            snapshots.push(id);
        } else if entry.name.contains(".checkpoint") {
            // `.part` of ours and of Kafka's, `.checkpoint.deleted` of Kafka's.
            let path = dir.join(&entry.name);
            disk.remove(&path).await.map_err(JournalError::io("remove", &path))?;
        }
    }
    snapshots.sort_unstable();
    Ok(snapshots)
}

async fn read_snapshot(
    disk: &Disk,
    dir: &Path,
    id: SnapshotId,
    replay: &mut Replay,
    quorum: &mut Quorum,
) -> Result<(), JournalError> {
    let path = dir.join(id.file_name());
    let apply = |records: &[MetadataRecord]| {
        let applied = replay.apply(records, id.offset, id.epoch);
        applied.map(drop).map_err(|error| JournalError::damaged(&path, error.to_string()))
    };
    let found = checkpoint::read(disk, &path, quorum, apply).await?;
    found.ok_or_else(|| JournalError::damaged(&path, "it went away".to_string()))
}

/// Applies what lies behind the snapshot. Gives the bytes of it.
async fn replay_log(log: &Log, replay: &mut Replay, quorum: &mut Quorum) -> Result<u64, JournalError> {
    let from = replay.image().end();
    if log.end_offset() < from || log.start_offset() > from {
        return Err(JournalError::Foreign(format!(
            "the metadata log covers offsets {} to {}, but its newest snapshot ends at {from}",
            log.start_offset(),
            log.end_offset()
        )));
    }
    let mut scratch = Scratch::new();
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut failed = None;
    log.replay(from, |batch| {
        if failed.is_some() || batch.next_offset() <= from {
            return;
        }
        bytes += batch.size() as u64;
        let end = batch.next_offset();
        let applied = decode_batch(&batch, &mut scratch, &mut records, quorum).and_then(|_| {
            let applied = replay.apply(&records, end, batch.leader_epoch());
            applied.map_err(|error| JournalError::Replay { end, error })
        });
        failed = applied.err();
    })
    .await?;
    failed.map_or(Ok(bytes), Err)
}

/// The records of a batch, in place of those in `records`. A control batch has none; the
/// kind of its first record is given, and what it says of voters is noted.
pub(super) fn decode_batch(
    batch: &BatchView,
    scratch: &mut Scratch,
    records: &mut Vec<MetadataRecord>,
    quorum: &mut Quorum,
) -> Result<Option<ControlType>, JournalError> {
    records.clear();
    let base = batch.base_offset();
    let fault = |error| JournalError::Batch { offset: base, error };
    let decode = |offset: i64| move |error| JournalError::Decode { offset: Offset(offset), error };
    let mut walk = batch.records(scratch).map_err(fault)?;
    let mut kind = None;
    while let Some(record) = walk.next().map_err(fault)? {
        let value = record.value.ok_or(DecodeError::Null("value")).map_err(decode(record.offset))?;
        if !batch.is_control() {
            let (record, _) = MetadataRecord::decode(value).map_err(decode(record.offset))?;
            records.push(record);
            continue;
        }
        let its_kind = record.key.and_then(ControlType::from_key);
        kind = kind.or(its_kind);
        quorum.note(its_kind, value).map_err(decode(record.offset))?;
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::super::records::{BeginTransactionRecord, ConfigRecord, PartitionRecord, TopicRecord};
    use super::*;
    use crate::runtime;
    use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
    use std::fs;

    const NODE: NodeId = NodeId(1);
    const DIRECTORY_ID: Uuid = Uuid([5; 16]);
    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn options() -> JournalOptions {
        JournalOptions {
            node: NODE,
            directory: DIRECTORY_ID,
            clean: false,
            segment_bytes: 4 << 20,
            snapshot_bytes: 1 << 20,
            snapshot_interval: Duration::from_secs(3600),
            memory: TailMemory::new(1 << 20),
        }
    }

    async fn open(dir: &Path, clean: bool) -> Result<(Journal, Replay), JournalError> {
        Journal::open(&Disk::direct(), dir, &JournalOptions { clean, ..options() }, NOW).await
    }

    fn topic(name: &str, id: u8) -> Vec<MetadataRecord> {
        let topic_id = Uuid([id; 16]);
        let partition = PartitionRecord {
            partition_id: 0,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            ..Default::default()
        };
        vec![TopicRecord { name: name.to_string(), topic_id, ..Default::default() }.into(), partition.into()]
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.join(DIRECTORY))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn topic_names(image: &Image) -> Vec<&str> {
        image.topics().map(|topic| &topic.name[..]).collect()
    }

    /// Appends and takes the records into the image, as the controller's driver does.
    async fn commit(journal: &Journal, replay: &mut Replay, records: &[MetadataRecord]) {
        let end = journal.append(records, NOW).await.unwrap();
        replay.apply(records, end, journal.epoch()).unwrap();
    }

    #[test]
    fn each_start_is_an_epoch_and_finds_what_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (epoch, clean) in [(1, false), (2, true), (3, false), (4, true)] {
            runtime::run_one(async {
                let (journal, mut replay) = open(dir, clean).await.unwrap();
                assert_eq!((journal.epoch(), replay.image().topics().len()), (LeaderEpoch(epoch), epoch as usize - 1));
                assert_eq!((replay.image().end(), replay.image().feature(METADATA_VERSION)), (journal.end(), 30));
                // A leader change each time, one bootstrap record, two records per topic.
                assert_eq!(journal.end(), Offset(i64::from(epoch) * 3 - 1));
                commit(&journal, &mut replay, &topic(&format!("t{epoch}"), epoch as u8)).await;
                match clean {
                    false => journal.close().await.unwrap(),
                    // Not closed, as by a kill; which ends tasks too, and with them the file.
                    true => {
                        journal.log.take_offline("the test kills it");
                        runtime::task::all_ended("log writer").await;
                        runtime::task::all_ended("log flusher").await;
                    }
                }
            });
        }
        let state = fs::read_to_string(dir.join(DIRECTORY).join(QUORUM_STATE)).unwrap();
        let expected = r#"{"clusterId":"","leaderId":1,"leaderEpoch":4,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#;
        assert_eq!(state, expected);
        let epochs = fs::read_to_string(dir.join(DIRECTORY).join(EPOCHS)).unwrap();
        assert_eq!(epochs, "0\n4\n1 0\n2 4\n3 7\n4 10\n");
        let metadata = fs::read_to_string(dir.join(DIRECTORY).join(PARTITION_METADATA)).unwrap();
        assert_eq!(metadata, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn a_transaction_without_an_end_is_aborted_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        runtime::run_one(async {
            let (journal, _) = open(dir.path(), false).await.unwrap();
            let mut records = vec![BeginTransactionRecord::default().into()];
            records.extend(topic("lost", 1));
            journal.append(&records, NOW).await.unwrap();
            journal.close().await.unwrap();
            for _ in 0..2 {
                let (journal, replay) = open(dir.path(), true).await.unwrap();
                assert_eq!((replay.in_transaction(), topic_names(replay.image()).len()), (false, 0));
                assert_eq!(replay.image().end(), journal.end());
                journal.close().await.unwrap();
            }
        });
    }

    #[test]
    fn snapshots_stand_in_for_the_log_before_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let image = runtime::run_one(async {
            let (journal, mut replay) = open(dir, false).await.unwrap();
            for i in 0..5 {
                // More than one batch of a snapshot, and more than one chunk over all.
                let option = |n: i32| {
                    let (resource_type, resource_name) = (4, n.to_string());
                    let value = Some("v".repeat(400));
                    ConfigRecord { resource_type, resource_name, name: "n".into(), value, ..Default::default() }.into()
                };
                commit(&journal, &mut replay, &(0..600 * (i + 1)).map(option).collect::<Vec<_>>()).await;
                commit(&journal, &mut replay, &topic(&format!("t{i}"), i as u8 + 1)).await;
                journal.snapshot(replay.image(), NOW).await.unwrap();
                // Nothing new: no other file.
                journal.snapshot(replay.image(), NOW).await.unwrap();
            }
            commit(&journal, &mut replay, &topic("after", 9)).await;
            fs::write(dir.join(DIRECTORY).join("00000000000000000099-0000000000.checkpoint.part"), "torn").unwrap();
            journal.close().await.unwrap();
            replay.image().records().collect::<Vec<_>>()
        });
        for clean in [true, false] {
            runtime::run_one(async {
                let (journal, mut replay) = open(dir, clean).await.unwrap();
                assert_eq!(replay.image().records().collect::<Vec<_>>(), image);
                assert!(journal.log.start_offset() > Offset::ZERO, "the log before the older snapshot is gone");
                commit(&journal, &mut replay, &[]).await;
                journal.close().await.unwrap();
            });
        }
        let checkpoints: Vec<_> = names(dir)
            .into_iter()
            .filter(|name| name.contains("checkpoint") && name.contains('-') && *name != EPOCHS)
            .collect();
        assert_eq!(checkpoints.len(), SNAPSHOTS_KEPT, "{checkpoints:?}");
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_or_time() {
        let dir = tempfile::tempdir().unwrap();
        runtime::run_one(async {
            let (journal, mut replay) = open(dir.path(), false).await.unwrap();
            let later = NOW.plus(Duration::from_secs(3600));
            assert!(!journal.snapshot_due(NOW) && journal.snapshot_due(later));
            journal.snapshot(replay.image(), later).await.unwrap();
            assert!(!journal.snapshot_due(later.plus(Duration::from_secs(9999))), "nothing was written since");
            let options = |n: i32| {
                let value = Some("v".repeat(30_000));
                ConfigRecord { resource_type: 4, name: n.to_string(), value, ..Default::default() }.into()
            };
            commit(&journal, &mut replay, &(0..40).map(options).collect::<Vec<_>>()).await;
            assert!(journal.snapshot_due(later));
            journal.close().await.unwrap();
        });
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        runtime::run_one(async {
            let (journal, mut replay) = open(dir, false).await.unwrap();
            commit(&journal, &mut replay, &topic("a", 1)).await;
            journal.snapshot(replay.image(), NOW).await.unwrap();
            journal.close().await.unwrap();
        });
        let name = names(dir).into_iter().find(|name| SnapshotId::parse(name).is_some()).unwrap();
        let path = dir.join(DIRECTORY).join(name);
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], reason: &str| {
            fs::write(&path, bytes).unwrap();
            let error = runtime::run_one(async { open(dir, true).await.err().unwrap().to_string() });
            assert!(error.contains("is damaged") && error.contains(reason), "{error}");
        };
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        check(&flipped, "its checksum is wrong");
        check(&whole[..whole.len() - 1], "it ends within a batch");
        check(&whole[..83], "it has no footer");
        check(&[], "it has no footer");
        check(&[&whole[..], &whole[..83]].concat(), "it lies behind the footer");
        check(&whole[83..], "it is no snapshot header");
        check(&[&whole[..17], &[0xff; 66]].concat(), "its checksum is wrong");
        check(&[&[0; 8][..], &[0x7f, 0xff, 0xff, 0xff], &[2; 80]].concat(), "the bytes end within a batch");
    }

    /// A small generator, so that a seed replays its run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % bound
        }
    }

    /// What must be true of the journal whatever happens to the drive.
    #[derive(Default)]
    struct Promised {
        /// Topics whose creation was answered.
        acknowledged: Vec<String>,
        /// Topics that were asked for.
        attempted: usize,
        /// The last epoch that somebody was told of.
        epoch: i32,
        /// The largest end that was answered.
        end: Offset,
    }

    impl Promised {
        fn check(&mut self, journal: &Journal, replay: &Replay) {
            let image = replay.image();
            for name in &self.acknowledged {
                assert!(image.topic(name).is_some(), "{name} was acknowledged");
            }
            for topic in image.topics() {
                assert_eq!(topic.partitions.len(), 1, "a topic comes with its partition or not at all");
                assert!(topic.name[1..].parse::<usize>().unwrap() < self.attempted);
            }
            assert!(journal.epoch().0 > self.epoch, "epoch {:?} was used before", journal.epoch());
            assert!(image.end() >= self.end && image.end() == journal.end());
            assert_eq!(image.feature(METADATA_VERSION), 30);
            (self.epoch, self.end) = (journal.epoch().0, image.end());
        }
    }

    /// Starts, appends and takes snapshots until the power goes.
    async fn live(disk: &Disk, promised: &mut Promised, random: &mut Random) -> Result<(), JournalError> {
        let dir = Path::new("/data");
        let (journal, mut replay) = Journal::open(disk, dir, &options(), NOW).await?;
        promised.check(&journal, &replay);
        for _ in 0..20 {
            let number = promised.attempted;
            promised.attempted += 1;
            let name = format!("t{number}");
            let records = topic(&name, 0)
                .into_iter()
                .map(|record| match record {
                    MetadataRecord::Topic(record) => {
                        TopicRecord { topic_id: Uuid((number as u128 + 1000).to_be_bytes()), ..record }.into()
                    }
                    MetadataRecord::Partition(record) => {
                        PartitionRecord { topic_id: Uuid((number as u128 + 1000).to_be_bytes()), ..record }.into()
                    }
                    other => other,
                })
                .collect::<Vec<_>>();
            let end = journal.append(&records, NOW).await?;
            replay.apply(&records, end, journal.epoch()).unwrap();
            promised.acknowledged.push(name);
            promised.end = end;
            if random.below(4) == 0 {
                journal.snapshot(replay.image(), NOW).await?;
            }
        }
        // The next life begins with a cut between two operations.
        Ok(())
    }

    #[test]
    fn nothing_acknowledged_is_lost_by_power_cuts() {
        for seed in 0..60u64 {
            println!("seed {seed}: replay with `cargo test --lib nothing_acknowledged_is_lost_by_power_cuts`");
            runtime::run_one(async {
                let mut random = Random(seed);
                let mut promised = Promised::default();
                let mut disk = SimulatedDisk::new();
                disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
                disk.disk().sync_dir(Path::new("/")).await.unwrap();
                for _ in 0..8 {
                    disk.cut(When::operation(random.below(120)));
                    let ended = live(&disk.disk(), &mut promised, &mut random).await;
                    assert!(ended.is_ok() || disk.is_off(), "{}", ended.unwrap_err());
                    disk = match random.below(3) {
                        0 => disk.reopen_after_kill(random.below(u64::MAX >> 33)),
                        _ => disk.reopen(random.below(u64::MAX >> 33)),
                    };
                }
                live(&disk.disk(), &mut promised, &mut random).await.unwrap();
            });
        }
    }

    #[test]
    fn a_full_drive_delays_and_a_broken_one_ends_the_journal() {
        runtime::run_one(async {
            let simulated = SimulatedDisk::new();
            let (journal, mut replay) =
                Journal::open(&simulated.disk(), Path::new("/data"), &options(), NOW).await.unwrap();
            let allocating = When::verb(Verb::Allocate).from_then_on();
            simulated.fail(allocating, Fault::NoSpace);
            let big = |n: i32| {
                let value = Some("v".repeat(30_000));
                ConfigRecord { resource_type: 4, name: n.to_string(), value, ..Default::default() }.into()
            };
            let records: Vec<MetadataRecord> = (0..20).map(big).collect();
            let free = async {
                clock::sleep(Duration::from_millis(150)).await;
                simulated.clear_rules();
            };
            let (appended, ()) = futures_lite::future::zip(journal.append(&records, NOW), free).await;
            // Either nothing was appended, or it was delayed until there was room.
            match appended {
                Ok(end) => drop(replay.apply(&records, end, journal.epoch()).unwrap()),
                Err(error) => assert!(matches!(error, JournalError::Log(LogError::DiskFull(_))), "{error}"),
            }
            assert_eq!(replay.image().end(), journal.end());

            simulated.fail(When::verb(Verb::Flush).from_then_on(), Fault::Broken);
            assert!(journal.append(&topic("a", 1), NOW).await.is_err());
            simulated.clear_rules();
            let error = journal.append(&topic("b", 2), NOW).await.unwrap_err();
            assert!(matches!(error, JournalError::Log(LogError::Offline(_))), "{error}");
        });
    }

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metadata-log").join(name)
    }

    #[test]
    fn kafkas_log_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join(DIRECTORY)).unwrap();
        for name in ["00000000000000000000.log", QUORUM_STATE] {
            fs::copy(golden(name), dir.join(DIRECTORY).join(name)).unwrap();
        }
        for epoch in [2, 3] {
            runtime::run_one(async {
                let (journal, replay) = open(dir, false).await.unwrap();
                assert_eq!((journal.epoch(), replay.image().partition_count()), (LeaderEpoch(epoch), 154));
                assert_eq!(replay.image().feature("share.version"), 1);
                journal.close().await.unwrap();
            });
        }
        let epochs = fs::read_to_string(dir.join(DIRECTORY).join(EPOCHS)).unwrap();
        assert!(epochs.starts_with("0\n3\n1 0\n2 1041\n3 1042\n"), "{epochs}");
    }

    #[test]
    fn a_cluster_with_other_voters_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DIRECTORY)).unwrap();
        let check = |json: &str, reason: &str| {
            fs::write(dir.path().join(DIRECTORY).join(QUORUM_STATE), json).unwrap();
            let error = runtime::run_one(async { open(dir.path(), false).await.err().unwrap().to_string() });
            assert!(error.contains(reason), "{error}");
        };
        let voters = r#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"currentVoters":[{"voterId":1},{"voterId":2}],"data_version":0}"#;
        check(voters, "controllers [2] vote too");
        let later = r#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"data_version":2}"#;
        check(later, "quorum-state has version 2");
        check("{", "quorum-state is damaged");
    }

    /// What `kafka-storage format --standalone` leaves: voters in a snapshot at offset 0. They are kept, in
    /// snapshots of ours too, and only the one whom it names goes on from it.
    #[test]
    fn a_log_that_names_its_only_voter_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join(DIRECTORY)).unwrap();
        let name = "00000000000000000000-0000000000.checkpoint";
        fs::copy(golden(&format!("standalone/{name}")), dir.join(DIRECTORY).join(name)).unwrap();
        let directory: Uuid = "I3U0VUEmT8GWAQmv7_pmlA".parse().unwrap();
        let open = async |node: NodeId, directory: Uuid| {
            Journal::open(&Disk::direct(), dir, &JournalOptions { node, directory, ..options() }, NOW).await
        };
        for (node, directory) in [(NodeId(2), directory), (NODE, DIRECTORY_ID)] {
            let error = runtime::run_one(async { open(node, directory).await.err().unwrap().to_string() });
            assert!(
                error.starts_with("the voters that the metadata log names are [1-I3U0VUEmT8GWAQmv7_pmlA]"),
                "{error}"
            );
        }
        for start in 1..4 {
            runtime::run_one(async {
                let (journal, mut replay) = open(NODE, directory).await.unwrap();
                assert_eq!((journal.epoch(), replay.image().topics().len()), (LeaderEpoch(start), start as usize - 1));
                commit(&journal, &mut replay, &topic(&format!("t{start}"), start as u8)).await;
                journal.snapshot(replay.image(), NOW).await.unwrap();
                journal.close().await.unwrap();
            });
            let state = fs::read_to_string(dir.join(DIRECTORY).join(QUORUM_STATE)).unwrap();
            let expected = format!(
                r#"{{"leaderId":1,"leaderEpoch":{start},"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}}"#
            );
            assert_eq!(state, expected);
        }
        assert!(!names(dir).contains(&name.to_string()), "snapshots of ours have taken its place");
    }

    /// A snapshot's batches without what depends on the clock.
    fn timeless(bytes: &[u8]) -> Vec<Vec<u8>> {
        let batches = crate::record::iterate(bytes).map(|batch| {
            let batch = batch.unwrap();
            assert!(batch.crc_is_right());
            let mut bytes = batch.bytes().to_vec();
            bytes[17..21].fill(0);
            bytes[27..43].fill(0);
            bytes
        });
        batches.collect()
    }

    #[test]
    fn a_bootstrap_checkpoint_has_kafkas_bytes() {
        let path = golden(BOOTSTRAP_FILE);
        let written_by_kafka = fs::read(&path).unwrap();
        let records = runtime::run_one(async {
            let mut records = Vec::new();
            let collect = |part: &[MetadataRecord]| {
                records.extend_from_slice(part);
                Ok(())
            };
            checkpoint::read(&Disk::direct(), &path, &mut Quorum::default(), collect).await.unwrap().unwrap();
            records
        });
        assert_eq!(records.len(), 6);
        assert_eq!(timeless(&checkpoint::bytes(&records, NOW)), timeless(&written_by_kafka));
    }

    #[test]
    fn a_bootstrap_checkpoint_says_what_a_log_begins_with() {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(golden(BOOTSTRAP_FILE), dir.path().join(BOOTSTRAP_FILE)).unwrap();
        runtime::run_one(async {
            let (journal, replay) = open(dir.path(), false).await.unwrap();
            assert_eq!(replay.image().features().len(), 6);
            journal.close().await.unwrap();
        });
    }

    #[test]
    fn names_of_snapshots_are_kafkas() {
        let id = SnapshotId { offset: Offset(1041), epoch: LeaderEpoch(3) };
        assert_eq!(id.file_name(), "00000000000000001041-0000000003.checkpoint");
        assert_eq!(SnapshotId::parse(&id.file_name()), Some(id));
        for other in ["1041-3.checkpoint", "leader-epoch-checkpoint", "00000000000000001041-0000000003.checkpoint.part"]
        {
            assert_eq!(SnapshotId::parse(other), None, "{other}");
        }
    }
}
