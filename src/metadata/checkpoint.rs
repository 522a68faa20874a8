//! Snapshots of the metadata log: files that make an image from nothing.
//!
//! ```text
//! name   %020d-%010d.checkpoint   offset behind the last record, its epoch
//! bytes  control batch   snapshot header: version, time of the last record
//!        batches         the records
//!        control batch   snapshot footer: version
//! ```
//!
//! Batches begin at offset 0 and carry the epoch of the name
//! (`RecordsSnapshotWriter`). A file is complete when its footer is there and every
//! checksum is right; it comes into place by a rename, so anything else is damage.
//! `bootstrap.checkpoint` has the same form.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::journal::{JournalError, decode_batch};
use super::quorum::Quorum;
use super::records::MetadataRecord;
use crate::base::limits::METADATA_BATCH_BYTES_MAX;
use crate::base::{LeaderEpoch, Offset, UnixMs};
use crate::record::stored::control::{SnapshotFooterRecord, SnapshotHeaderRecord};
use crate::record::stored::{Stored, Writer};
use crate::record::{BatchBuilder, BatchError, BatchView, ControlType, NewRecord, Scratch};
use crate::runtime::disk::{Buffer, Disk, File, Open};
use crate::runtime::task;

/// Records of one batch of a snapshot: some ten thousand bytes.
const RECORDS_PER_BATCH: usize = 512;

/// Bytes of one read or write of a snapshot.
const CHUNK_BYTES: usize = 1 << 20;

/// Which point of the log a snapshot stands for (`OffsetAndEpoch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotId {
    pub offset: Offset,
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    pub fn file_name(self) -> String {
        format!("{:020}-{:010}.checkpoint", self.offset.0, self.epoch.0)
    }

    /// `None` for names of other files.
    pub fn parse(name: &str) -> Option<SnapshotId> {
        let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(offset, 20) || !digits(epoch, 10) {
            return None;
        }
        Some(SnapshotId { offset: Offset(offset.parse().ok()?), epoch: LeaderEpoch(epoch.parse().ok()?) })
    }
}

/// The batches of a snapshot, made one at a time.
pub(super) struct SnapshotBatches<I> {
    epoch: LeaderEpoch,
    /// The level of `metadata.version`, which decides how records are written.
    level: i16,
    now: UnixMs,
    /// The time of the last record that the snapshot stands for; 0 if unknown.
    last_timestamp: UnixMs,
    /// Control records that follow the header.
    voters: Vec<(ControlType, Vec<u8>)>,
    records: I,
    next: Offset,
    part: Part,
}

enum Part {
    Header,
    Records,
    Done,
}

impl<I: Iterator<Item = MetadataRecord>> SnapshotBatches<I> {
    pub fn new(epoch: LeaderEpoch, level: i16, now: UnixMs, quorum: &Quorum, records: I) -> SnapshotBatches<I> {
        let (last_timestamp, next, voters) = (UnixMs(0), Offset::ZERO, quorum.control_records());
        SnapshotBatches { epoch, level, now, last_timestamp, voters, records, next, part: Part::Header }
    }

    /// The next batch; `None` after the footer.
    pub fn next_batch(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        let mut builder = BatchBuilder::new().base_offset(self.next).leader_epoch(self.epoch);
        let timestamp = self.now.0;
        match self.part {
            Part::Header => {
                let last_contained_log_timestamp = self.last_timestamp.0;
                let header = SnapshotHeaderRecord { last_contained_log_timestamp, ..Default::default() };
                builder = builder.control();
                builder.push_control(ControlType::SnapshotHeader, timestamp, &control_body(&header, 0));
                for (kind, body) in self.voters.drain(..) {
                    builder.push_control(kind, timestamp, &body);
                }
                self.part = Part::Records;
            }
            Part::Records => {
                for record in self.records.by_ref().take(RECORDS_PER_BATCH) {
                    let value = record.encode(record.version_at(self.level))?;
                    builder.push(NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
                }
                if builder.is_empty() {
                    builder = builder.control();
                    let footer = control_body(&SnapshotFooterRecord::default(), 0);
                    builder.push_control(ControlType::SnapshotFooter, timestamp, &footer);
                    self.part = Part::Done;
                }
            }
            Part::Done => return Ok(None),
        }
        self.next = self.next.plus(i64::from(builder.record_count()));
        Ok(Some(builder.build()))
    }
}

/// A control record's value: its first field is its version, which is set.
pub(super) fn control_body<T: Stored>(record: &T, version: i16) -> Vec<u8> {
    let mut out = Writer::new();
    record.encode_into(&mut out, version).expect("the version has what we set");
    out.into_bytes()
}

/// A whole snapshot of a few records, such as the one a format leaves.
pub(super) fn bytes(records: &[MetadataRecord], now: UnixMs) -> Vec<u8> {
    let newest = i16::MAX;
    let mut batches = SnapshotBatches::new(LeaderEpoch(0), newest, now, &Quorum::default(), records.iter().cloned());
    let mut bytes = Vec::new();
    while let Some(batch) = batches.next_batch().expect("records of our own can be written") {
        bytes.extend(batch);
    }
    bytes
}

/// Writes a snapshot and puts it in place: after a crash it is there as a whole or
/// not at all. Gives its size.
pub(super) async fn write<I: Iterator<Item = MetadataRecord>>(
    disk: &Disk,
    path: &Path,
    mut batches: SnapshotBatches<I>,
) -> Result<u64, JournalError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let failed = |verb| JournalError::io(verb, &temporary);
    match disk.remove(&temporary).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    let file = disk.open(&temporary, Open::CREATE_NEW).await.map_err(failed("create"))?;
    let (mut size, mut position) = (0u64, 0u64);
    let mut buffer = Buffer::with_capacity(CHUNK_BYTES);
    while let Some(batch) = batches.next_batch()? {
        size += batch.len() as u64;
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(buffer.remaining()));
            buffer.push(now);
            rest = later;
            if buffer.remaining() == 0 {
                let full = std::mem::replace(&mut buffer, Buffer::with_capacity(CHUNK_BYTES));
                let len = full.len() as u64;
                file.write(Rc::new(full), position).await.map_err(failed("write"))?;
                position += len;
            }
        }
        task::yield_if_needed().await;
    }
    if !buffer.is_empty() {
        buffer.pad_to_block();
        file.write(Rc::new(buffer), position).await.map_err(failed("write"))?;
    }
    file.set_length(size).await.map_err(failed("cut"))?;
    file.flush().await.map_err(failed("flush"))?;
    file.close().await.map_err(failed("close"))?;
    disk.rename(&temporary, path).await.map_err(failed("rename"))?;
    let dir = path.parent().expect("a snapshot lies in a directory");
    disk.sync_dir(dir).await.map_err(JournalError::io("sync", dir))?;
    Ok(size)
}

/// Reads a snapshot and hands on its records, batch by batch. `None`: there is no
/// such file.
///
/// # Errors
/// A file operation failed, the file is damaged, or `on_records` refused.
pub(super) async fn read(
    disk: &Disk,
    path: &Path,
    quorum: &mut Quorum,
    mut on_records: impl FnMut(&[MetadataRecord]) -> Result<(), JournalError>,
) -> Result<Option<()>, JournalError> {
    let file = match disk.open(path, Open::READ_ONLY).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("open", path)(error)),
    };
    let mut reading = Reading { file, path, position: 0, bytes: Vec::new(), taken: 0 };
    let mut scratch = Scratch::new();
    let mut records = Vec::new();
    let (mut batches, mut footer) = (0u64, false);
    while let Some(batch) = reading.next().await? {
        let batch = BatchView::first(batch).expect("a whole batch was read");
        let wrong = |reason: &str| JournalError::damaged(path, format!("batch {batches}: {reason}"));
        if !batch.crc_is_right() {
            return Err(wrong("its checksum is wrong"));
        }
        if footer {
            return Err(wrong("it lies behind the footer"));
        }
        let kind = decode_batch(&batch, &mut scratch, &mut records, quorum)?;
        match (batches, kind) {
            (0, Some(ControlType::SnapshotHeader)) => {}
            (0, _) => return Err(wrong("it is no snapshot header")),
            (_, Some(ControlType::SnapshotFooter)) => footer = true,
            (_, _) => on_records(&records)?,
        }
        batches += 1;
    }
    if !footer {
        return Err(JournalError::damaged(path, "it has no footer".to_string()));
    }
    Ok(Some(()))
}

/// A file of batches that is read from front to end.
struct Reading<'a> {
    file: File,
    path: &'a Path,
    /// Up to where the file has been read.
    position: u64,
    /// What was read; the first `taken` bytes are done with.
    bytes: Vec<u8>,
    taken: usize,
}

impl Reading<'_> {
    /// The next whole batch; `None` at the end of the file.
    async fn next(&mut self) -> Result<Option<&[u8]>, JournalError> {
        loop {
            let need = match BatchView::first(&self.bytes[self.taken..]) {
                Ok(batch) => {
                    let size = batch.size();
                    self.taken += size;
                    return Ok(Some(&self.bytes[self.taken - size..self.taken]));
                }
                Err(BatchError::Cut { need, .. }) if need <= METADATA_BATCH_BYTES_MAX => need,
                Err(error) => return Err(JournalError::damaged(self.path, error.to_string())),
            };
            self.bytes.drain(..self.taken);
            self.taken = 0;
            let missing = need - self.bytes.len();
            let read = self.file.read(self.position, missing.max(CHUNK_BYTES)).await;
            let read = read.map_err(JournalError::io("read", self.path))?;
            if read.as_slice().is_empty() {
                return match self.bytes.is_empty() {
                    true => Ok(None),
                    false => Err(JournalError::damaged(self.path, "it ends within a batch".to_string())),
                };
            }
            self.position += read.as_slice().len() as u64;
            self.bytes.extend_from_slice(read.as_slice());
            task::yield_if_needed().await;
        }
    }
}
