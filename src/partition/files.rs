//! The files that a partition keeps beside its log's, at opening: reading them, and putting right what a crash left.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use crate::base::{Offset, Uuid};
use crate::log::aborted::{self, ABORTED_ENTRY_BYTES, AbortedTransaction};
use crate::log::{self, Log, LogError};
use crate::record::BatchView;
use crate::runtime::disk::Disk;

use super::aborted::Aborted;
use super::epochs::LeaderEpochs;
use super::producers::Producers;
use super::{EPOCHS_FILE, METADATA_FILE, PartitionError};

/// What opening learns from the batches that it is shown, in order.
pub(super) struct Learned {
    pub producers: Producers,
    pub epochs: LeaderEpochs,
    pub epochs_changed: bool,
    pub aborted: Vec<AbortedTransaction>,
    /// Where segments begin of which no batch came yet, ascending: see [`Files::last_bases`].
    pub bases: VecDeque<Offset>,
    /// The last of those that were passed, and the snapshot of that moment.
    pub passed: Option<(Offset, Vec<u8>)>,
}

impl Learned {
    pub fn new(producers: Producers, epochs: LeaderEpochs, bases: VecDeque<Offset>) -> Learned {
        Learned { producers, epochs, epochs_changed: false, aborted: Vec::new(), bases, passed: None }
    }

    pub fn learn(&mut self, batch: &BatchView<'_>) {
        while let Some(base) = self.bases.pop_front_if(|base| *base <= batch.base_offset()) {
            self.passed = Some((base, self.producers.encode()));
        }
        self.epochs_changed |= self.epochs.found(batch.leader_epoch(), batch.base_offset(), batch.last_offset());
        self.aborted.extend(self.producers.update(batch, batch.base_offset(), batch.max_timestamp()));
    }
}

pub(super) async fn write(disk: &Disk, path: &Path, bytes: Vec<u8>) -> Result<(), PartitionError> {
    disk.write_file(path, bytes).await.map_err(|error| LogError::io("write", path, &error).into())
}

/// The files that a partition keeps beside its log's, at opening.
pub(super) struct Files<'a> {
    pub disk: &'a Disk,
    pub dir: &'a Path,
    pub names: BTreeSet<String>,
}

impl Files<'_> {
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PartitionError> {
        if !self.names.contains(name) {
            return Ok(None);
        }
        let path = self.dir.join(name);
        match self.disk.read_file(&path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(PartitionError::Broken(format!("read {}: {error}", path.display()))),
        }
    }

    /// `PartitionMetadataFile`: lines `version: 0` and `topic_id: <base64>`.
    pub async fn check_topic_id(&self, wanted: Uuid) -> Result<(), PartitionError> {
        let Some(bytes) = self.read(METADATA_FILE).await? else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes);
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("topic_id:"))
            .and_then(|id| id.trim().parse::<Uuid>().ok())
            .ok_or_else(|| {
                let path = self.dir.join(METADATA_FILE);
                PartitionError::Broken(format!("read {}: it has no topic id", path.display()))
            })?;
        if found == wanted {
            return Ok(());
        }
        Err(PartitionError::OtherTopic { dir: self.dir.display().to_string(), found, wanted })
    }

    /// The epochs' file; one that cannot be read counts as empty: batches carry their epochs.
    /// And whether it was there and right.
    pub async fn read_epochs(&self) -> Result<(LeaderEpochs, bool), PartitionError> {
        let Some(bytes) = self.read(EPOCHS_FILE).await? else { return Ok((LeaderEpochs::default(), false)) };
        Ok(match LeaderEpochs::decode(&bytes) {
            Ok(epochs) => (epochs, true),
            Err(error) => {
                tracing::warn!("read {}: {error}; it is rebuilt", self.dir.join(EPOCHS_FILE).display());
                (LeaderEpochs::default(), false)
            }
        })
    }

    /// Whether the snapshot of `offset` is there and can be read.
    pub async fn has_right_snapshot(&self, offset: Offset) -> Result<bool, PartitionError> {
        let bytes = self.read(&log::file_name(offset, log::SNAPSHOT)).await?;
        Ok(bytes.is_some_and(|bytes| Producers::decode(&bytes).is_ok()))
    }

    /// The aborted transactions of a log that was opened: those of the index files, and those that recovery met
    /// (`met`), whose index may never have reached the drive. Files that tell of another number than there are in
    /// their segment are put right.
    pub async fn settle_aborted(&self, log: &Log, met: Vec<AbortedTransaction>) -> Result<Aborted, PartitionError> {
        let indexes: Vec<Offset> = self
            .names
            .iter()
            .filter_map(|name| log::parse_file_name(name))
            .filter(|file| file.kind == log::TRANSACTION_INDEX && file.suffix.is_empty())
            .map(|file| file.base)
            .collect();
        let mut aborted = Aborted::default();
        if indexes.is_empty() && met.is_empty() {
            return Ok(aborted);
        }
        let (bases, end) = (log.segment_bases(), log.end_offset());
        let segments = bases.iter().enumerate().map(|(at, base)| (*base, bases.get(at + 1).copied().unwrap_or(end)));
        let mut counts: Vec<usize> = Vec::new();
        let mut damaged = false;
        for (base, next) in segments.clone() {
            let name = log::file_name(base, log::TRANSACTION_INDEX);
            let bytes = if indexes.contains(&base) { self.read(&name).await? } else { None };
            let bytes = bytes.unwrap_or_default();
            counts.push(bytes.len() / ABORTED_ENTRY_BYTES);
            // Behind the end lie those that recovery has cut off.
            let last = if next == end { Offset(i64::MAX) } else { next };
            match aborted::decode(&bytes, base, last) {
                Ok(entries) => {
                    for entry in entries.into_iter().filter(|entry| entry.last < end) {
                        aborted.add(entry);
                    }
                }
                Err(error) => {
                    tracing::warn!("read {}: {error}; it is rebuilt", self.dir.join(name).display());
                    damaged = true;
                }
            }
        }
        if damaged {
            (aborted, counts) = (Aborted::default(), vec![usize::MAX; counts.len()]);
            let mut producers = Producers::default();
            log.replay(log.start_offset(), |batch| {
                if let Some(entry) = producers.update(&batch, batch.base_offset(), batch.max_timestamp()) {
                    aborted.add(entry);
                }
            })
            .await?;
        }
        for entry in met.into_iter().filter(|entry| entry.last < end) {
            aborted.add(entry);
        }
        for ((base, next), count) in segments.zip(counts) {
            let entries = aborted.of_segment(base, next);
            if entries.len() != count {
                let path = self.dir.join(log::file_name(base, log::TRANSACTION_INDEX));
                write(self.disk, &path, aborted::encode(entries)).await?;
            }
        }
        Ok(aborted)
    }

    /// Where the last two segments begin: one of them is the active one, as recovery may cut the last off.
    pub fn last_bases(&self) -> VecDeque<Offset> {
        let files = self.names.iter().filter_map(|name| log::parse_file_name(name));
        let bases: BTreeSet<Offset> =
            files.filter(|file| file.kind == log::LOG && file.suffix.is_empty()).map(|file| file.base).collect();
        let mut last: VecDeque<Offset> = bases.into_iter().rev().take(2).collect();
        last.make_contiguous().reverse();
        last
    }

    pub fn snapshots(&self) -> Vec<Offset> {
        self.names
            .iter()
            .filter_map(|name| log::parse_file_name(name))
            .filter(|file| file.kind == log::SNAPSHOT && file.suffix.is_empty())
            .map(|file| file.base)
            .collect()
    }

    pub fn has_snapshot(&self, offset: Offset) -> bool {
        self.names.contains(&log::file_name(offset, log::SNAPSHOT))
    }

    /// The newest snapshot at or below `at_most` that can be read. Others are removed.
    pub async fn newest_snapshot(&mut self, at_most: Offset) -> Result<Option<(Offset, Producers)>, PartitionError> {
        for offset in self.snapshots().into_iter().rev().filter(|offset| *offset <= at_most) {
            let name = log::file_name(offset, log::SNAPSHOT);
            let Some(bytes) = self.read(&name).await? else { continue };
            match Producers::decode(&bytes) {
                Ok(producers) => return Ok(Some((offset, producers))),
                Err(error) => {
                    tracing::warn!("remove {}: {error}", self.dir.join(&name).display());
                    self.remove(&name).await?;
                }
            }
        }
        Ok(None)
    }

    /// Removes snapshots that tell of batches that are gone, and those that neither are
    /// to be `kept` nor begin a segment (`ProducerStateManager.removeStraySnapshots`).
    pub async fn remove_stray_snapshots(
        &mut self,
        bases: &BTreeSet<Offset>,
        kept: &[Option<Offset>],
        end: Offset,
    ) -> Result<(), PartitionError> {
        let mut beyond = false;
        for offset in self.snapshots() {
            if offset > end || (!bases.contains(&offset) && !kept.contains(&Some(offset))) {
                beyond |= offset > end;
                self.remove(&log::file_name(offset, log::SNAPSHOT)).await?;
            }
        }
        if beyond {
            // Once the log has grown past it, it would be believed.
            self.disk
                .sync_dir(self.dir)
                .await
                .map_err(|error| PartitionError::Broken(format!("sync {}: {error}", self.dir.display())))?;
        }
        Ok(())
    }

    pub async fn remove(&mut self, name: &str) -> Result<(), PartitionError> {
        self.names.remove(name);
        let path = self.dir.join(name);
        match self.disk.remove(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PartitionError::Broken(format!("remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}
