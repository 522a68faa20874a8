//! Writing segments again without what compaction drops (`Cleaner.cleanInto`,
//! `MemoryRecords.filterTo`).
//!
//! A batch of which everything stays is copied as it lies. A batch that loses records, or gets
//! a delete horizon, is built again. One that loses all goes, unless it has to keep its producer's last
//! sequence number or the end of the clean.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::{Offset, UnixMs};
use crate::record::{BATCH_HEADER_BYTES, BatchError, BatchView, RecordFault, Rewriter, Scratch, emptied};
use crate::runtime::disk::{self, Buffer, File, Open, Slice};
use crate::runtime::task;

use super::super::aborted::{self, AbortedTransaction};
use super::super::names::{self, CLEANED, LOG, TRANSACTION_INDEX};
use super::super::scan::{self, Expect};
use super::super::segment::Segment;
use super::super::space::{Purpose, Want};
use super::super::{LogError, error::describe};
use super::plan::Group;
use super::swap::New;
use super::transactions::Transactions;
use super::{CleanError, Run};

/// A batch up to this size is read as a whole before its checksum is known.
const WHOLE_BYTES_MAX: usize = 16 << 20;
/// Records that are looked at without giving way.
const RECORDS_AT_ONCE: u32 = 16;

/// Reads a segment's batches in order, and believes only what its checksum says is right.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    position: u64,
    size: u64,
    expect: Expect,
    /// Bytes of the next read.
    wanted: usize,
    /// Where in the last read the batches end that were taken.
    taken: usize,
}

impl Reader {
    pub async fn new(run: &Run<'_>, segment: &Segment) -> Result<Reader, CleanError> {
        let dir = run.log.dir();
        run.log.touch(segment);
        let file = segment.file(&run.log.disk, &dir).await?;
        Ok(Reader {
            file,
            path: segment.log_path(&dir),
            position: 0,
            size: segment.size(),
            expect: Expect::rising(segment.base),
            wanted: run.means.io_bytes,
            taken: 0,
        })
    }

    /// The next bytes, which begin with a whole batch; to be taken apart by [`Reader::batch`].
    pub async fn next(&mut self, run: &mut Run<'_>) -> Result<Option<Slice>, CleanError> {
        self.position += std::mem::take(&mut self.taken) as u64;
        while self.position < self.size {
            run.goes_on()?;
            let len = (self.wanted as u64).min(self.size - self.position) as usize;
            let turns = Rc::clone(&run.log.memory().turns);
            let bytes = turns.read(&self.file, self.position, len).await.map_err(|error| self.failed(&error))?;
            run.done.read_bytes += bytes.len() as u64;
            run.passed(bytes.len()).await?;
            if bytes.len() < len {
                return Err(self.damaged("the file is shorter than its batches"));
            }
            match BatchView::first(&bytes) {
                Ok(_) => {
                    self.wanted = run.means.io_bytes;
                    return Ok(Some(bytes));
                }
                Err(BatchError::Cut { need, .. }) if self.position + need as u64 <= self.size => {
                    if need > WHOLE_BYTES_MAX {
                        let right = scan::large_batch_is_right(&self.file, self.position, need as u64).await;
                        if !right.map_err(|error| self.failed(&error))? {
                            return Err(self.damaged("a batch whose checksum is wrong"));
                        }
                    }
                    self.wanted = need;
                }
                Err(error) => return Err(self.damaged(&error.to_string())),
            }
        }
        Ok(None)
    }

    /// The batch at `at`, which moves behind it; `None` when only a part of one is left.
    pub fn batch<'b>(&mut self, bytes: &'b Slice, at: &mut usize) -> Result<Option<BatchView<'b>>, CleanError> {
        let batch = match BatchView::first(&bytes[*at..]) {
            Ok(batch) => batch,
            Err(BatchError::Cut { .. }) if *at > 0 => return Ok(None),
            Err(error) => return Err(self.damaged(&error.to_string())),
        };
        if let Err(reason) = scan::check(&batch, &mut self.expect) {
            let fault = scan::Fault { position: self.position + *at as u64, reason };
            return Err(CleanError::Uncleanable(format!("{} is damaged: {fault}", self.path.display()).into()));
        }
        *at += batch.size();
        self.taken = *at;
        Ok(Some(batch))
    }

    /// A batch whose checksum is right, and whose records are not.
    pub fn unreadable(&self, batch: &BatchView<'_>, fault: RecordFault) -> CleanError {
        let batch = batch.base_offset();
        CleanError::Uncleanable(format!("{}: the batch at offset {batch}: {fault}", self.path.display()).into())
    }

    fn damaged(&self, reason: &str) -> CleanError {
        let (path, position) = (self.path.display(), self.position);
        CleanError::Uncleanable(format!("{path} is damaged at position {position}: {reason}").into())
    }

    fn failed(&self, error: &io::Error) -> CleanError {
        CleanError::Uncleanable(describe("read", &self.path, error).into())
    }
}

/// A segment in the making, `%020d.log.cleaned`.
struct Writer {
    path: PathBuf,
    /// Made with the first write.
    file: File,
    buffer: Rc<Buffer>,
    /// Bytes that are in the file.
    written: u64,
    /// Sizes, indexes and times.
    segment: Segment,
    index_interval: u64,
}

impl Writer {
    async fn new(run: &Run<'_>, group: &Group) -> Result<Writer, CleanError> {
        let base = group.segments[0].base;
        let created = group.segments.iter().map(|segment| segment.created).max().expect("a group is not empty");
        let path = run.log.path(&(names::file_name(base, LOG) + CLEANED));
        let index_interval = run.log.state.borrow().config.index_interval_bytes.max(0) as u64;
        let file =
            run.log.disk.open(&path, Open::CREATE).await.map_err(|error| failed(run, "create", &path, &error))?;
        let buffer = Rc::new(Buffer::with_capacity(run.means.io_bytes));
        let segment = Segment::new(base, created);
        Ok(Writer { path, file, buffer, written: 0, segment, index_interval })
    }

    async fn push(&mut self, run: &Run<'_>, batch: &[u8]) -> Result<(), CleanError> {
        let view = BatchView::first(batch).expect("a batch that was read or built");
        if self.segment.size() + batch.len() as u64 > i32::MAX as u64 {
            // Rewriting can make a batch longer, by some bytes per record.
            return Err(run.uncleanable("a segment would become larger than 2 GiB"));
        }
        self.segment.add(view.last_offset(), batch.len(), view.max_timestamp(), self.index_interval);
        let mut rest = batch;
        while !rest.is_empty() {
            let (fits, behind) = rest.split_at(rest.len().min(self.buffer.remaining()));
            self.buffer.append(fits, |_| {});
            rest = behind;
            if self.buffer.remaining() == 0 {
                self.write(run).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, run: &Run<'_>) -> Result<(), CleanError> {
        let len = self.buffer.len();
        self.buffer.pad_to_block();
        // What is reserved on the drive is for what must go on; cleaning can wait.
        let (space, need) = (Rc::clone(&run.log.memory().space), self.buffer.len() as u64);
        let want = Want { need, ahead: 0, is_asked_for: false, purpose: Purpose::of(run.log.is_vital.get()) };
        let grant = space.ask(&run.log.disk, &run.log.dir(), want).await;
        let Some(grant) = grant.map_err(|error| failed(run, "write", &self.path, &error))? else {
            return Err(CleanError::DiskFull(Rc::clone(&run.log.name)));
        };
        let turns = Rc::clone(&run.log.memory().turns);
        let written = turns.write(&self.file, &self.buffer, self.written).await;
        drop(grant);
        written.map_err(|error| failed(run, "write", &self.path, &error))?;
        self.written += len as u64;
        match Rc::get_mut(&mut self.buffer) {
            Some(buffer) => buffer.truncate(0),
            None => self.buffer = Rc::new(Buffer::with_capacity(run.means.io_bytes)),
        }
        run.passed(len).await
    }

    /// Makes the segment durable, with its indexes, under the names of a compaction that has not ended.
    async fn finish(mut self, run: &Run<'_>, aborted: &[AbortedTransaction]) -> Result<New, CleanError> {
        if !self.buffer.is_empty() {
            self.write(run).await?;
        }
        let size = self.segment.size();
        let told = |verb, path: &PathBuf, error: io::Error| failed(run, verb, path, &error);
        self.file.set_length(size).await.map_err(|error| told("cut", &self.path, error))?;
        let turns = Rc::clone(&run.log.memory().turns);
        turns.sync(self.file.flush()).await.map_err(|error| told("flush", &self.path, error))?;
        let _ = self.file.close().await;
        let (offsets, times) = self.segment.index_files();
        let mut kinds = vec![LOG, names::OFFSET_INDEX, names::TIME_INDEX];
        let mut files = vec![(names::OFFSET_INDEX, offsets), (names::TIME_INDEX, times)];
        if !aborted.is_empty() {
            kinds.push(TRANSACTION_INDEX);
            files.push((TRANSACTION_INDEX, aborted::encode(aborted)));
        }
        for (kind, bytes) in files {
            let path = run.log.path(&(names::file_name(self.segment.base, kind) + CLEANED));
            let written = turns.sync(run.log.disk.write_file(&path, bytes)).await;
            written.map_err(|error| told("write", &path, error))?;
        }
        self.segment.set_size(size);
        let markers = aborted.iter().map(|entry| entry.last).collect();
        Ok(New { segment: self.segment, kinds, markers })
    }
}

pub(super) fn failed(run: &Run<'_>, verb: &str, path: &Path, error: &io::Error) -> CleanError {
    match disk::is_full(error) {
        true => CleanError::DiskFull(Rc::clone(&run.log.name)),
        false => CleanError::Uncleanable(describe(verb, path, error).into()),
    }
}

/// What stays of a batch.
enum Kept {
    Nothing,
    All,
    /// The header, and no record.
    Empty,
    /// These records, and from this time on no tombstones or markers.
    Some {
        horizon: Option<UnixMs>,
    },
}

/// Which records of a batch stay, one bit each.
#[derive(Default)]
struct Marks {
    bits: Vec<u64>,
    records: usize,
    kept: usize,
    tombstone: bool,
}

impl Marks {
    fn clear(&mut self) {
        self.bits.clear();
        (self.records, self.kept, self.tombstone) = (0, 0, false);
    }

    fn push(&mut self, kept: bool) {
        if self.records.is_multiple_of(64) {
            self.bits.push(0);
        }
        if kept {
            self.kept += 1;
            *self.bits.last_mut().expect("just pushed") |= 1 << (self.records % 64);
        }
        self.records += 1;
    }

    fn is_kept(&self, record: usize) -> bool {
        self.bits[record / 64] >> (record % 64) & 1 == 1
    }
}

impl Run<'_> {
    /// Writes what is kept of a group into a new segment and puts that in their place.
    pub(super) async fn rewrite(&mut self, group: &Group, transactions: &mut Transactions) -> Result<(), CleanError> {
        let base = group.segments[0].base;
        let rewritten = self.write_new(group, transactions).await;
        let swapped = match rewritten {
            Ok(new) => self.swap_in(group, new).await,
            Err(error) => Err(error),
        };
        if swapped.is_err() {
            // The next opening would remove them as well.
            for kind in [LOG, names::OFFSET_INDEX, names::TIME_INDEX, TRANSACTION_INDEX] {
                let _ = self.log.disk.remove(&self.log.path(&(names::file_name(base, kind) + CLEANED))).await;
            }
        }
        swapped
    }

    async fn write_new(&mut self, group: &Group, transactions: &mut Transactions) -> Result<New, CleanError> {
        let mut writer = Writer::new(self, group).await?;
        let mut scratch = Scratch::new();
        let mut marks = Marks::default();
        for (at, segment) in group.segments.iter().enumerate() {
            let end = group.segments.get(at + 1).map_or(group.end, |next| next.base);
            transactions.add(self.aborted(segment.base, end).await?);
            let mut reader = Reader::new(self, segment).await?;
            while let Some(bytes) = reader.next(self).await? {
                let mut at = 0;
                while let Some(batch) = reader.batch(&bytes, &mut at)? {
                    let unreadable = |fault| reader.unreadable(&batch, fault);
                    let may_drop = transactions.may_drop(&batch, &mut scratch).map_err(unreadable)?;
                    let kept = self.judge(&batch, may_drop, &mut scratch, &mut marks).await.map_err(unreadable)?;
                    self.done.records_before += marks.records as u64;
                    self.done.bytes_before += batch.size() as u64;
                    match kept {
                        Kept::Nothing => {}
                        Kept::All => {
                            self.done.records_after += marks.kept as u64;
                            writer.push(self, batch.bytes()).await?;
                        }
                        Kept::Empty => writer.push(self, &emptied(&batch)).await?,
                        Kept::Some { horizon } => {
                            self.done.records_after += marks.kept as u64;
                            let rebuilt = rebuild(&batch, horizon, &mut scratch, &marks).await.map_err(unreadable)?;
                            writer.push(self, &rebuilt).await?;
                        }
                    }
                    task::yield_if_needed().await;
                }
            }
            self.done.segments_before += 1;
        }
        self.done.segments_after += 1;
        self.done.bytes_after += writer.segment.size();
        writer.finish(self, &transactions.take_kept()).await
    }

    /// What stays of a batch, and in `marks` which of its records.
    async fn judge(
        &self,
        batch: &BatchView<'_>,
        may_drop: bool,
        scratch: &mut Scratch,
        marks: &mut Marks,
    ) -> Result<Kept, RecordFault> {
        marks.clear();
        let horizon = batch.has_delete_horizon().then(|| UnixMs(batch.base_timestamp()));
        let horizon_passed = horizon.is_some_and(|horizon| horizon <= self.now);
        // A marker goes like a tombstone: readers that are in its transaction have that long.
        let drop_all = may_drop && (!batch.is_control() || horizon_passed);
        // The producer's last sequence number, or epoch, and where the clean ended, must stay.
        let must_stay = (batch.has_producer_id() && (self.is_last)(batch)) || batch.next_offset() == self.upper;
        let nothing = if must_stay { Kept::Empty } else { Kept::Nothing };
        if drop_all {
            return Ok(nothing);
        }
        let mut records = batch.records(scratch)?;
        let mut count = 0;
        while let Some(record) = records.next()? {
            let offset = Offset(record.offset);
            let kept = batch.is_control()
                || offset > self.map.latest()
                || record.key.is_some_and(|key| {
                    let is_latest = self.map.get(key).is_none_or(|latest| offset >= latest);
                    is_latest && (record.value.is_some() || !horizon_passed)
                });
            marks.tombstone |= kept && record.value.is_none();
            marks.push(kept);
            count += 1;
            if count == RECORDS_AT_ONCE {
                count = 0;
                task::yield_if_needed().await;
            }
        }
        if marks.kept == 0 {
            return Ok(nothing);
        }
        let marker = may_drop && batch.is_control();
        let begins = horizon.is_none() && (marks.tombstone || marker);
        if !begins && marks.kept == marks.records {
            return Ok(Kept::All);
        }
        let retention = self.log.state.borrow().config.delete_retention_ms;
        Ok(Kept::Some { horizon: if begins { Some(UnixMs(self.now.0.saturating_add(retention))) } else { horizon } })
    }

    /// The aborted transactions that have something between `from` and `end`.
    pub(super) async fn aborted(&self, from: Offset, end: Offset) -> Result<Vec<AbortedTransaction>, CleanError> {
        let mut found = Vec::new();
        // One that is of interest is told of where its marker lies: here, or later.
        let first = self.indexed.partition_point(|base| *base < from).saturating_sub(1);
        for base in self.indexed.get(first..).unwrap_or_default() {
            let path = self.log.path(&names::file_name(*base, TRANSACTION_INDEX));
            let bytes = match self.log.disk.read_file(&path).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(LogError::io("read", &path, &error).into()),
            };
            let entries = aborted::decode(&bytes, Offset::ZERO, Offset(i64::MAX))
                .map_err(|wrong| CleanError::Uncleanable(format!("{}: {wrong}", path.display()).into()))?;
            for entry in entries {
                if entry.last >= from && entry.first < end {
                    found.push(entry);
                }
                if entry.last_stable >= end {
                    return Ok(found);
                }
            }
            task::yield_if_needed().await;
        }
        Ok(found)
    }

    /// Looks which segments have an index of aborted transactions: mostly none.
    pub(super) async fn find_transaction_indexes(&mut self) -> Result<(), CleanError> {
        let dir = self.log.dir();
        let entries =
            self.log.disk.list(&dir).await.map_err(|error| CleanError::from(LogError::io("list", &dir, &error)))?;
        let indexes = entries.iter().filter(|entry| entry.len > 0).filter_map(|entry| names::parse(&entry.name));
        self.indexed = indexes
            .filter(|file| file.kind == TRANSACTION_INDEX && file.suffix.is_empty())
            .map(|file| file.base)
            .collect();
        self.indexed.sort_unstable();
        Ok(())
    }
}

/// The batch with the records that `marks` says, and no others.
async fn rebuild(
    batch: &BatchView<'_>,
    horizon: Option<UnixMs>,
    scratch: &mut Scratch,
    marks: &Marks,
) -> Result<Vec<u8>, RecordFault> {
    let mut rewriter = Rewriter::new(batch, horizon)?;
    let mut records = batch.records(scratch)?;
    let mut at = 0;
    while let Some(record) = records.next()? {
        if marks.is_kept(at) {
            rewriter.keep(&record).map_err(|_| RecordFault::Compression)?;
        }
        at += 1;
        if at.is_multiple_of(RECORDS_AT_ONCE as usize) {
            task::yield_if_needed().await;
        }
    }
    let rebuilt = rewriter.finish().map_err(|_| RecordFault::Compression)?;
    debug_assert!(rebuilt.len() >= BATCH_HEADER_BYTES);
    Ok(rebuilt)
}
