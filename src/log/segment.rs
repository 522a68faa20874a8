//! One segment: a `.log` file, its indexes, and what is known of both.
//!
//! The last segment of a log is *active*: it grows, its file is longer than its
//! batches (allocated ahead, padded with zeroes), and its indexes live in memory.
//! All others are *sealed*: exact length, index files beside them, which are read
//! when somebody needs them.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use crate::base::{Offset, UnixMs, wait};
use crate::runtime::disk::{Disk, File, Open};

use super::LogError;
use super::index::{IndexedBatch, Indexes, OffsetIndex, TimeIndex, Youngest};
use super::names;
use super::scan::{self, Expect};
use super::space::Ahead;

/// See the module. Shared (`Rc`) between the log, its writer and reads under way.
pub(super) struct Segment {
    pub base: Offset,
    file: RefCell<Option<File>>,
    /// While the file is being opened: those who want it as well.
    opening: RefCell<Option<Vec<wait::Sender<()>>>>,
    /// Bytes of batches, also those that are only in memory yet.
    size: Cell<u64>,
    /// Whether the file exists.
    on_drive: Cell<bool>,
    /// Exact length, index files in place; see the module.
    sealed: Cell<bool>,
    /// Up to here the file has space allocated.
    pub allocated: Cell<u64>,
    /// What of it is ahead of the batches.
    pub ahead: Cell<Option<Ahead>>,
    /// The largest timestamp; `None` until the indexes of a sealed segment were read.
    youngest: Cell<Option<Youngest>>,
    /// The max timestamp of the first batch: `segment.ms` counts from it.
    first_timestamp: Cell<Option<i64>>,
    /// When the segment was begun, or the log opened.
    pub created: UnixMs,
    /// When a batch without a time stamp came last; else as `created`.
    pub untimed: Cell<UnixMs>,
    /// Always there while active.
    indexes: RefCell<Option<Indexes>>,
    /// Counts up with each use; the least used are closed first.
    used: Cell<u64>,
    /// Compaction has put another in its place: what bears its name is not its own any more.
    replaced: Cell<bool>,
    /// Its files do not bear its name yet: the open file and the indexes in memory are all there is.
    pinned: Cell<bool>,
    /// Its index files are being written again.
    rebuilding: Cell<bool>,
    /// How often its log was moved to another directory.
    moves: Cell<u32>,
}

impl Segment {
    /// A segment that has no file yet.
    pub fn new(base: Offset, created: UnixMs) -> Segment {
        Segment {
            base,
            file: RefCell::default(),
            opening: RefCell::default(),
            size: Cell::new(0),
            on_drive: Cell::new(false),
            sealed: Cell::new(false),
            allocated: Cell::new(0),
            ahead: Cell::default(),
            youngest: Cell::new(Some(Youngest::NONE)),
            first_timestamp: Cell::new(None),
            created,
            untimed: Cell::new(created),
            indexes: RefCell::new(Some(Indexes::default())),
            used: Cell::new(0),
            replaced: Cell::new(false),
            pinned: Cell::new(false),
            rebuilding: Cell::new(false),
            moves: Cell::new(0),
        }
    }

    /// A segment whose file exists, with `size` bytes of batches. Its indexes are
    /// read when they are needed.
    pub fn found(base: Offset, size: u64, created: UnixMs) -> Segment {
        let segment = Segment::new(base, created);
        segment.size.set(size);
        segment.allocated.set(size);
        segment.on_drive.set(true);
        segment.sealed.set(true);
        segment.youngest.set(None);
        *segment.indexes.borrow_mut() = None;
        segment
    }

    pub fn size(&self) -> u64 {
        self.size.get()
    }

    pub fn on_drive(&self) -> bool {
        self.on_drive.get()
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.get()
    }

    pub fn set_sealed(&self, sealed: bool) {
        self.sealed.set(sealed);
    }

    /// The largest timestamp, if it is known without a read.
    pub fn youngest(&self) -> Option<Youngest> {
        self.youngest.get()
    }

    pub fn first_timestamp(&self) -> Option<i64> {
        self.first_timestamp.get()
    }

    pub fn set_first_timestamp(&self, timestamp: i64) {
        self.first_timestamp.set(Some(timestamp));
    }

    pub fn log_path(&self, dir: &Path) -> PathBuf {
        self.path(dir, names::LOG)
    }

    pub fn path(&self, dir: &Path, kind: &str) -> PathBuf {
        dir.join(names::file_name(self.base, kind))
    }

    /// About where `offset` lies, by the index if it is in memory, else by proportion.
    /// `end` is the offset after the segment's last.
    pub fn about_position(&self, offset: Offset, end: Offset) -> u64 {
        if offset >= end {
            return self.size();
        }
        let relative = offset.0 - self.base.0;
        if let Some(position) = self.with_indexes(|indexes| indexes.offsets.floor(relative)) {
            return position;
        }
        let share = relative as f64 / (end.0 - self.base.0).max(1) as f64;
        (self.size() as f64 * share) as u64
    }

    /// Takes a batch at the end into account; `last` is its last offset. Only while active.
    pub fn add(&self, last: Offset, size: usize, max_timestamp: i64, index_interval: u64) {
        let youngest = self.youngest.get().unwrap_or(Youngest::NONE).with(max_timestamp, last);
        self.youngest.set(Some(youngest));
        if self.first_timestamp.get().is_none() {
            self.first_timestamp.set(Some(max_timestamp));
        }
        let position = self.size.get();
        self.size.set(position + size as u64);
        let batch = IndexedBatch { last: (last.0 - self.base.0) as i32, position, size: size as u64 };
        let mut indexes = self.indexes.borrow_mut();
        let indexes = indexes.as_mut().expect("an active segment has its indexes in memory");
        indexes.add(batch, youngest, index_interval, self.base);
    }

    /// Whether `segment.index.bytes` is used up.
    pub fn index_is_full(&self, index_bytes: usize) -> bool {
        self.indexes.borrow().as_ref().is_some_and(|indexes| indexes.full(index_bytes))
    }

    /// The indexes, if they are in memory.
    pub fn with_indexes<T>(&self, look: impl FnOnce(&Indexes) -> T) -> Option<T> {
        self.indexes.borrow().as_ref().map(look)
    }

    pub fn has_indexes(&self) -> bool {
        self.indexes.borrow().is_some()
    }

    pub fn set_indexes(&self, indexes: Indexes, youngest: Youngest) {
        self.youngest.set(Some(youngest));
        *self.indexes.borrow_mut() = Some(indexes);
    }

    /// Takes the indexes out of a segment that is given up for another with the same batches.
    pub fn take_indexes(&self) -> Indexes {
        self.indexes.borrow_mut().take().unwrap_or_default()
    }

    /// Lets the indexes go; they can be read again. Only of sealed segments.
    pub fn forget_indexes(&self) {
        *self.indexes.borrow_mut() = None;
    }

    /// The bytes of both index files of a segment that gets no more batches.
    pub fn index_files(&self) -> (Vec<u8>, Vec<u8>) {
        let mut indexes = self.indexes.borrow_mut();
        let indexes = indexes.as_mut().expect("an active segment has its indexes in memory");
        indexes.add_time(self.youngest.get().unwrap_or(Youngest::NONE), self.base);
        (indexes.offsets.encode(), indexes.times.encode())
    }

    /// The file, opened now if it is not open: that of a sealed segment to read only,
    /// so that reads under way, which keep it open, are in nobody's way.
    pub async fn file(&self, disk: &Disk, dir: &Path) -> Result<File, LogError> {
        let how = if self.is_sealed() { Open::READ_ONLY } else { Open::EXISTING };
        self.open(disk, dir, how).await.map_err(|error| LogError::open(&self.log_path(dir), &error))
    }

    /// The file of a segment that a killed process may have been writing: when this
    /// returns, its writes have ended.
    pub async fn file_of_killed(&self, disk: &Disk, dir: &Path) -> Result<File, LogError> {
        self.open(disk, dir, Open::EXISTING).await.map_err(|error| LogError::open(&self.log_path(dir), &error))
    }

    /// The file, created if there is none.
    pub async fn create(&self, disk: &Disk, dir: &Path) -> io::Result<File> {
        let file = self.open(disk, dir, Open::CREATE).await?;
        self.on_drive.set(true);
        Ok(file)
    }

    async fn open(&self, disk: &Disk, dir: &Path, how: Open) -> io::Result<File> {
        loop {
            if let Some(file) = self.open_file() {
                return Ok(file);
            }
            let turn = match &mut *self.opening.borrow_mut() {
                // One file that is open to write is in another's way.
                Some(waiting) => {
                    let (sender, receiver) = wait::once();
                    waiting.push(sender);
                    receiver
                }
                none => {
                    *none = Some(Vec::new());
                    break;
                }
            };
            // It is open now, or could not be opened: look again.
            let _ = turn.await;
        }
        let _turn = Turn(self);
        let moves = self.moves.get();
        let opened = disk.open(&self.log_path(dir), how).await?;
        if self.moves.get() != moves {
            // The file of a directory that was left meanwhile. Who asks by the log's directory asks again.
            return Err(io::ErrorKind::NotFound.into());
        }
        *self.file.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    /// The file, if it is open.
    pub fn open_file(&self) -> Option<File> {
        self.file.borrow().clone()
    }

    /// Gives it its file, which may bear another name.
    pub fn set_file(&self, file: File) {
        *self.file.borrow_mut() = Some(file);
    }

    /// Whether compaction has put another segment in its place. What was read by its name
    /// before this was asked is its own only if not.
    pub fn is_replaced(&self) -> bool {
        self.replaced.get()
    }

    pub fn set_replaced(&self) {
        self.replaced.set(true);
    }

    /// Whether file and indexes must not be let go.
    pub fn is_pinned(&self) -> bool {
        self.pinned.get()
    }

    pub fn set_pinned(&self, pinned: bool) {
        self.pinned.set(pinned);
    }

    /// Whether its index files are being written again.
    pub fn is_rebuilding(&self) -> bool {
        self.rebuilding.get()
    }

    /// Its log lives in another directory from now on: a file that is being opened by its old name is
    /// not taken. Gives the one that is open.
    pub fn moved(&self) -> Option<File> {
        self.moves.set(self.moves.get() + 1);
        self.take_file()
    }

    pub fn is_open(&self) -> bool {
        self.file.borrow().is_some()
    }

    /// Takes the file out, to be closed.
    pub fn take_file(&self) -> Option<File> {
        self.file.borrow_mut().take()
    }

    pub fn set_size(&self, size: u64) {
        self.size.set(size);
        self.allocated.set(size);
    }

    pub fn touch(&self, now: u64) {
        self.used.set(now);
    }

    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// Reads the index files of a sealed segment. Missing or broken ones are
    /// rebuilt from the batches and put in place again.
    pub async fn load_indexes(&self, disk: &Disk, dir: &Path, interval: u64) -> Result<(), LogError> {
        if self.has_indexes() {
            return Ok(());
        }
        let found = read_index_files(disk, dir, self.base, self.size()).await?;
        if self.has_indexes() {
            return Ok(());
        }
        match found {
            Ok(indexes) => {
                let youngest = youngest_of(&indexes, self.base);
                self.set_indexes(indexes, youngest);
            }
            Err(reason) => {
                tracing::warn!("rebuild the indexes of {}: {reason}", self.log_path(dir).display());
                let file = self.file(disk, dir).await?;
                let rebuilt = rebuild(&file, self.base, self.size(), interval).await.map_err(|error| match error {
                    Rebuild::Io(error) => LogError::io("read", &self.log_path(dir), &error),
                    Rebuild::Fault(fault) => LogError::Corrupt(
                        format!("{} of {}: {fault}", names::file_name(self.base, names::LOG), dir.display()).into(),
                    ),
                })?;
                if self.has_indexes() || self.is_replaced() {
                    return Ok(());
                }
                self.set_indexes(rebuilt.0, rebuilt.1);
                let (offsets, times) = self.index_files();
                let _writing = Rebuilding::begin(&self.rebuilding);
                for (kind, bytes) in [(names::OFFSET_INDEX, offsets), (names::TIME_INDEX, times)] {
                    let path = self.path(dir, kind);
                    disk.write_file(&path, bytes).await.map_err(|error| LogError::io("write", &path, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// Of whoever writes a segment's index files again.
struct Rebuilding<'a>(&'a Cell<bool>);

impl Rebuilding<'_> {
    fn begin(flag: &Cell<bool>) -> Rebuilding<'_> {
        flag.set(true);
        Rebuilding(flag)
    }
}

impl Drop for Rebuilding<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Of whoever opens a segment's file; ends, however it ends, with the others looking again.
struct Turn<'a>(&'a Segment);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.opening.borrow_mut() = None;
    }
}

/// The largest timestamp according to the indexes of a sealed segment, whose time
/// index is closed with it.
pub(super) fn youngest_of(indexes: &Indexes, base: Offset) -> Youngest {
    indexes.times.last().map_or(Youngest::NONE, |entry| Youngest {
        timestamp: entry.timestamp,
        offset: base.plus(i64::from(entry.relative)),
    })
}

/// Reads both index files; the inner error says why they cannot be used.
pub(super) async fn read_index_files(
    disk: &Disk,
    dir: &Path,
    base: Offset,
    segment_bytes: u64,
) -> Result<Result<Indexes, String>, LogError> {
    let mut read = Vec::with_capacity(2);
    for kind in [names::OFFSET_INDEX, names::TIME_INDEX] {
        let path = dir.join(names::file_name(base, kind));
        match disk.read_file(&path).await {
            Ok(bytes) => read.push(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(format!("no {kind} file"))),
            Err(error) => return Err(LogError::io("read", &path, &error)),
        }
    }
    let (offsets, times) = (&read[0], &read[1]);
    Ok(match (OffsetIndex::decode(offsets, segment_bytes), TimeIndex::decode(times)) {
        (Ok(offsets), Ok(times)) => Ok(Indexes::of(offsets, times)),
        (Err(error), _) => Err(format!("offset index: {error}")),
        (_, Err(error)) => Err(format!("time index: {error}")),
    })
}

/// The max timestamp of a segment's first batch; −1 if there is none.
pub(super) async fn first_timestamp(file: &File) -> io::Result<i64> {
    let header = file.read(0, crate::record::BATCH_HEADER_BYTES).await?;
    let bytes = header.get(35..43).and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.map_or(-1, i64::from_be_bytes))
}

enum Rebuild {
    Io(io::Error),
    Fault(scan::Fault),
}

/// Both indexes from the batches themselves, each of which is checked.
async fn rebuild(file: &File, base: Offset, size: u64, interval: u64) -> Result<(Indexes, Youngest), Rebuild> {
    let mut indexes = Indexes::default();
    let mut youngest = Youngest::NONE;
    let scanned = scan::scan(file, scan::Range { from: 0, to: size }, Expect::rising(base), &mut |batch, position| {
        let last = batch.last_offset();
        youngest = youngest.with(batch.max_timestamp(), last);
        let batch = IndexedBatch { last: (last.0 - base.0) as i32, position, size: batch.size() as u64 };
        indexes.add(batch, youngest, interval, base);
    })
    .await
    .map_err(Rebuild::Io)?;
    match scanned.fault {
        Some(fault) => Err(Rebuild::Fault(fault)),
        None => Ok((indexes, youngest)),
    }
}
