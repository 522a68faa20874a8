//! One partition's bytes: segments on the drive, the tail in memory, and the way
//! from one to the other.
//!
//! | file | holds |
//! |---|---|
//! | `progress` | appended, written, durable, and who waits for them |
//! | `tail` | the buffers at the end of the log |
//! | `appender` | appending, the writer and the flusher of a log, sealing of segments |
//! | `journal` | one write for small appends of all logs of a core |
//! | `points` | how far a log need not be read after a crash |
//! | `read` | read plans: what to read, decided without waiting, then read |
//! | `times` | lookup by timestamp |
//! | `segment`, `index`, `aborted`, `names`, `scan` | a segment's files |
//! | `cleaner` | compaction |
//! | `mover` | moving a log to another directory while it is written and read |
//! | `recovery` | opening, whatever state the files were left in |
//! | `retention` | giving up old segments, moving the log start, deletion |
//! | `turns` | reads for consumers that lag stand back behind writes that are waited for |
//! | `memory` | the bytes that all tails of a core may hold, and all that is not written |
//!
//! A log lives on one core. It knows batches as bytes with a header; what their
//! records mean, who produced them and what consumers may see is the
//! [`partition`](crate::partition)'s business. Formats: `docs/data-format.md`;
//! states that a crash can leave: `docs/recovery.md`.
//!
//! Never holds a `RefCell` borrow across an await, never retries a failed flush,
//! never serves bytes from the drive whose checksum is wrong.

pub mod aborted;
mod appender;
mod cleaner;
mod error;
mod extents;
mod index;
pub mod journal;
mod memory;
mod mover;
mod names;
mod points;
mod progress;
mod read;
mod recovery;
mod retention;
mod scan;
mod segment;
mod space;
mod tail;
mod times;
mod turns;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use crate::base::wait::{self, Signal};
use crate::base::{Moment, Offset, UnixMs};
use crate::config::TopicConfig;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, File};

pub use cleaner::{CleanError, Cleaned, Dirt, Means};
pub use error::LogError;
pub use memory::{Failure, Failures, Room, TailMemory};
pub use mover::{Destination, Move, MoveError, MoveProgress, Moved, Throttle};
pub use names::{
    GIVEN_UP, LOG, OFFSET_INDEX, SNAPSHOT, SegmentFile, TIME_INDEX, TRANSACTION_INDEX, file_name,
    parse as parse_file_name,
};
pub use points::Unpointed;
pub use progress::{Point, Stage, Waiting};
pub use read::ReadPlan;
pub use recovery::{Opened, end_on_drive};
pub use space::DriveShare;
pub use times::FoundTime;

use journal::JournalPlace;
use journal::route::Route;
use points::Points;
use progress::{Progress, Waiters};
use segment::Segment;
use space::Grant;
use tail::{Buffers, Tail};

/// What a log needs to know to open.
#[derive(Clone)]
pub struct LogOptions {
    /// The topic's effective options.
    pub config: Rc<TopicConfig>,
    /// The core's budget for tails.
    pub memory: Rc<TailMemory>,
    /// The log start offset that was checkpointed; 0 if none was.
    pub start_offset: Offset,
    /// Everything below is durable, in segments that index files tell of: it is not looked
    /// at, and damage there is no torn tail and is not cut off. 0 if nothing is known.
    pub recovery_point: Offset,
    /// The core's count of what has no recovery point yet.
    pub unpointed: Option<Rc<Unpointed>>,
    /// The name of the log's directory is durable, if there is one.
    pub name_is_durable: bool,
    /// Whether the checksum of batches that come from the drive is verified before
    /// they are served.
    pub verify_reads: bool,
    /// The core's journal, if the log is to use it.
    pub journal: Option<JournalPlace>,
    /// The broker cannot do without it: it may take what is reserved on the drive.
    pub is_vital: bool,
}

impl LogOptions {
    /// For a new log, or one of which nothing was checkpointed.
    pub fn new(config: Rc<TopicConfig>, memory: Rc<TailMemory>) -> LogOptions {
        LogOptions {
            config,
            memory,
            start_offset: Offset::ZERO,
            recovery_point: Offset::ZERO,
            unpointed: None,
            name_is_durable: false,
            verify_reads: true,
            journal: None,
            is_vital: false,
        }
    }
}

/// Whoever wants to know what happens in a log: its partition. Called without any
/// borrow of the log's state, so it may call back.
pub trait Observer {
    /// A new segment begins at `base`. The bytes returned become `%020d.snapshot`
    /// of that offset, written when the segment before is sealed.
    fn rolled(&self, base: Offset) -> Option<Vec<u8>>;

    /// Whether everything is in place that has to be before such a snapshot: what is below it is not read again by a
    /// start after a crash. If not it is under way, and to be asked for again.
    ///
    /// # Errors
    /// It could not be put in place; the next call tries again.
    fn is_ready_for_snapshots(self: Rc<Self>) -> Result<bool, io::ErrorKind>;

    /// Written or durable moved on.
    fn progressed(&self);

    /// The log went offline, was closed or deleted.
    fn ended(&self);

    /// The batches from `from` on and before `until` were compacted. Of the aborted transactions whose markers lay
    /// there those at `markers` are left.
    fn compacted(&self, from: Offset, until: Offset, markers: &[Offset]);

    /// Small files that belong into the directory when it is created: name and bytes.
    fn files(&self) -> Vec<(&'static str, Vec<u8>)>;
}

/// A place in the log that a batch was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
}

/// One partition's log. Clones are the same log.
#[derive(Clone)]
pub struct Log(Rc<Inner>);

struct Inner {
    /// The directory's name at opening, for messages.
    name: Rc<str>,
    disk: Disk,
    dir: RefCell<Rc<Path>>,
    memory: RefCell<Rc<TailMemory>>,
    verify_reads: bool,
    journal: RefCell<Option<JournalPlace>>,
    unpointed: Option<Rc<Unpointed>>,
    /// See [`LogOptions::is_vital`].
    is_vital: Cell<bool>,
    state: RefCell<State>,
    /// What the files of the segment that was begun last may take of the drive, until the one before is sealed.
    files_granted: Cell<Option<Grant>>,
    /// Wakes the writer.
    work: Signal,
    /// Wakes the flusher.
    flush: Signal,
    observer: RefCell<Option<Weak<dyn Observer>>>,
    /// Counts uses of segments: see `Segment::touch`.
    uses: Cell<u64>,
    /// What was read from the drive lately.
    extents: extents::Extents,
}

struct State {
    config: Rc<TopicConfig>,
    /// Ascending, never empty; the last is the active one.
    segments: VecDeque<Rc<Segment>>,
    /// The first offset that readers may have; at or above the first segment's base.
    start: Offset,
    /// Segments below are being taken away by retention; `start` follows when the drive has that.
    given_up: Offset,
    progress: Progress,
    /// Takes appends.
    open: Option<tail::Open>,
    /// Full buffers that wait for the writer; all before `open`.
    full: VecDeque<tail::Open>,
    tail: Tail,
    /// What a buffer should have room for, from what recent ones held.
    buffer_hint: usize,
    condition: Condition,
    /// Nothing goes to a journal: the log is about to live elsewhere.
    journal_off: bool,
    /// And the writer is to begin nothing.
    held: bool,
    written_waiters: Waiters,
    durable_waiters: Waiters,
    /// Those who wait for flushes of the segments.
    flushed_waiters: Waiters,
    route: Route,
    /// The writer is to write everything below to the segments.
    file_to: Offset,
    /// And to have it flushed when it has.
    settle_to: Offset,
    /// The segment that the writer writes to, and its file: everything between
    /// flushed and filed lies there.
    current: Option<(Rc<Segment>, File)>,
    /// Whether the directory exists.
    dir_exists: bool,
    /// Flushes of the segment are due up to here.
    flush_to: Offset,
    /// Somebody waits for a flush up to here.
    flush_wanted: Offset,
    /// `flush.messages` asks for a flush that nobody waits for.
    flush_later: bool,
    /// When the last flush completed or the first unflushed write came in, for `flush.ms`.
    unflushed_since: Option<UnixMs>,
    /// Snapshots to be written when the segment before their offset is sealed.
    snapshots: VecDeque<(Offset, Vec<u8>)>,
    points: Points,
    /// Whether segment files hold what the drive's index files do not: set by the
    /// first append after opening, cleared by a clean close.
    dirty: bool,
    tasks: Tasks,
    /// Told when a task of this log has ended.
    task_waiters: Vec<wait::Sender<()>>,
}

/// The tasks of a log that are running.
#[derive(Clone, Copy, Default, Debug)]
struct Tasks {
    writer: bool,
    flusher: bool,
    /// A segment is being sealed, or a recovery point's files are being written.
    sealer: bool,
    /// The log is being cleaned.
    cleaner: bool,
    /// The log is being moved to another directory.
    mover: bool,
    /// The writer is at its work, not waiting for any.
    writing: bool,
    /// Retention is renaming or removing files.
    retention: bool,
    /// Writer and flusher are to end when they have nothing to do.
    retire: bool,
    /// Nothing was appended since the last upkeep.
    quiet: bool,
}

/// What the log can do.
#[derive(Clone, Debug)]
enum Condition {
    Online,
    /// No space: appends are refused, the writer tries again from time to time.
    Full,
    /// No more appends; what was appended is still written.
    Closing,
    /// Ended, with what everybody is told from now on.
    Ended(LogError),
}

impl Log {
    /// Tells `observer` what happens from now on.
    pub fn observe(&self, observer: Weak<dyn Observer>) {
        *self.0.observer.borrow_mut() = Some(observer);
    }

    /// The directory's name: `orders-3`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The directory.
    pub fn dir(&self) -> Rc<Path> {
        Rc::clone(&self.0.dir.borrow())
    }

    /// The first offset that readers may have.
    pub fn start_offset(&self) -> Offset {
        self.0.state.borrow().start
    }

    /// The offset that the next batch gets.
    pub fn end_offset(&self) -> Offset {
        self.0.state.borrow().progress.appended().offset
    }

    /// Everything below has been written to the drive, to a segment or the journal.
    pub fn written_offset(&self) -> Offset {
        self.0.state.borrow().progress.written().offset
    }

    /// Everything below survives a power loss.
    pub fn durable_offset(&self) -> Offset {
        self.0.state.borrow().progress.durable().offset
    }

    /// How far `stage` has come, with the bytes appended since the log was opened.
    pub fn reached(&self, stage: Stage) -> Point {
        self.0.state.borrow().progress.at(stage)
    }

    /// The topic's effective options.
    pub fn config(&self) -> Rc<TopicConfig> {
        Rc::clone(&self.0.state.borrow().config)
    }

    /// Takes changed options into use: what is appended from now on follows them.
    pub fn update_config(&self, config: Rc<TopicConfig>) {
        self.0.state.borrow_mut().config = config;
        // Records that were written without a flush may have to be flushed now.
        self.0.note_flush_due(false);
    }

    /// Says that somebody waits for everything below `offset` to be durable, if
    /// `flush.messages` makes it so: flushes that nobody waits for take their time.
    pub fn want_durable(&self, offset: Offset) {
        let news = {
            let mut state = self.0.state.borrow_mut();
            let news = offset > state.flush_wanted;
            state.flush_wanted = state.flush_wanted.max(offset);
            news
        };
        if news {
            self.0.note_flush_due(false);
        }
    }

    /// Waits until everything below `offset` has gone through `stage`.
    ///
    /// # Errors
    /// Why it will not: the log went offline, was closed or deleted; or the drive is
    /// full: then the batch may still be written later.
    pub async fn wait(&self, offset: Offset, stage: Stage) -> Result<(), LogError> {
        match self.start_waiting(offset, stage)? {
            Some(waiting) => waiting.await.unwrap_or_else(|_| Err(LogError::Closed(Rc::clone(&self.0.name)))),
            None => Ok(()),
        }
    }

    /// As [`Log::wait`], for who polls by itself: `None` when it is so already. When the
    /// sender goes away without a word, the log was closed.
    ///
    /// # Errors
    /// As [`Log::wait`].
    pub fn start_waiting(&self, offset: Offset, stage: Stage) -> Result<Option<Waiting>, LogError> {
        let waiting = {
            let mut state = self.0.state.borrow_mut();
            if state.progress.at(stage).offset >= offset {
                return Ok(None);
            }
            match &state.condition {
                Condition::Online | Condition::Closing => {}
                Condition::Full => return Err(LogError::DiskFull(Rc::clone(&self.0.name))),
                Condition::Ended(error) => return Err(error.clone()),
            }
            match stage {
                Stage::Written => state.written_waiters.add(offset),
                Stage::Durable => state.durable_waiters.add(offset),
            }
        };
        if stage == Stage::Durable {
            self.want_durable(offset);
        }
        Ok(Some(waiting))
    }

    /// When everything below `offset` had gone through `stage`; `None` when it has not, or
    /// had when the log was opened.
    pub fn passed(&self, stage: Stage, offset: Offset) -> Option<Moment> {
        self.0.state.borrow().progress.passed(stage, offset)
    }

    /// Waits until the core has room for a batch of `bytes` more that is not written
    /// yet. Keep what is returned until [`Log::append`] has returned, and append without
    /// waiting in between: others wait for it. Of a log that takes no appends it
    /// returns at once; the append says why.
    ///
    /// # Errors
    /// The log takes no appends any more, or the drive is full and what waits for
    /// space holds all there is.
    pub async fn room(&self, bytes: usize) -> Result<Room, LogError> {
        let inner = &self.0;
        let waiting = {
            let state = inner.state.borrow();
            if !matches!(state.condition, Condition::Online) {
                return Ok(inner.memory().take(0));
            }
            match inner.memory().try_take(bytes) {
                Some(room) => return Ok(room),
                None => inner.memory().wait(inner, bytes),
            }
        };
        waiting.await.unwrap_or_else(|_| Err(LogError::Closed(Rc::clone(&inner.name))))
    }

    /// Bytes appended that have not been written yet.
    pub fn waiting_bytes(&self) -> u64 {
        let state = self.0.state.borrow();
        state.progress.appended().bytes - state.progress.written().bytes
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.0.state.borrow().segments.iter().map(|segment| segment.size()).sum()
    }

    /// Whether the directory exists: it is made for the first append.
    pub fn dir_exists(&self) -> bool {
        self.0.state.borrow().dir_exists
    }

    /// About how many bytes of batches lie between two offsets; at least 1 if any.
    pub fn bytes_between(&self, from: Offset, upper: Offset) -> u64 {
        let state = self.0.state.borrow();
        if from >= upper || from >= state.progress.appended().offset {
            return 0;
        }
        let (first, last) = (state.segment_of(from), state.segment_of(Offset(upper.0 - 1)));
        let between: u64 = state.segments.range(first..last).map(|segment| segment.size()).sum();
        let before = |at: usize, offset: Offset| state.segments[at].about_position(offset, state.end_of_segment(at));
        (between + before(last, upper)).saturating_sub(before(first, from)).max(1)
    }

    /// Segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.0.state.borrow().segments.len()
    }

    /// Whether nothing but the active segment takes batches, or waits to be sealed.
    #[cfg(test)]
    pub fn all_sealed(&self) -> bool {
        let state = self.0.state.borrow();
        state.segments.iter().rev().skip(1).all(|segment| segment.is_sealed())
    }

    /// Base offsets of all segments.
    pub fn segment_bases(&self) -> Vec<Offset> {
        self.0.state.borrow().segments.iter().map(|segment| segment.base).collect()
    }

    /// Why the log does nothing any more, if so.
    pub fn ended(&self) -> Option<LogError> {
        match &self.0.state.borrow().condition {
            Condition::Ended(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Ends the log at once for a reason that came from elsewhere: its directory's
    /// drive has failed. What was not durable is in doubt.
    pub fn take_offline(&self, reason: &str) {
        self.0.end(LogError::Offline(format!("{} is offline: {reason}", self.0.name).into()));
    }

    /// Whether appends are refused because the drive is full.
    pub fn is_full(&self) -> bool {
        matches!(self.0.state.borrow().condition, Condition::Full)
    }

    /// Regular care, some times a minute: flushes what `flush.ms` makes due and lets
    /// idle tasks, files and memory go. Cheap when there is nothing to do.
    pub fn upkeep(&self, now: UnixMs) {
        let inner = &self.0;
        {
            let state = inner.state.borrow();
            let due =
                state.unflushed_since.is_some_and(|since| now.since(since).as_millis() as i64 >= state.config.flush_ms);
            drop(state);
            if due {
                inner.note_flush_due(true);
            }
        }
        inner.retire_if_quiet();
        inner.trim_sealed();
    }
}

impl Inner {
    fn dir(&self) -> Rc<Path> {
        Rc::clone(&self.dir.borrow())
    }

    fn memory(&self) -> Rc<TailMemory> {
        Rc::clone(&self.memory.borrow())
    }

    /// Whether the log lives elsewhere than in `dir`, where something could not be done: then it is to be done
    /// again. Waits for a hand-over that is under way.
    async fn left(&self, dir: &Rc<Path>) -> bool {
        if self.state.borrow().held {
            self.wait_tasks(|state| !state.held).await;
        }
        !Rc::ptr_eq(dir, &self.dir())
    }

    fn observer(&self) -> Option<Rc<dyn Observer>> {
        self.observer.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// Marks a use of a segment's file or indexes.
    fn touch(&self, segment: &Segment) {
        self.uses.set(self.uses.get() + 1);
        segment.touch(self.uses.get());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.borrow().join(name)
    }

    /// Closes files and drops indexes of the sealed segments that were used least
    /// recently, so that a log of thousands of segments holds few of each.
    fn trim_sealed(&self) {
        use crate::base::limits::{SEALED_FILES_MAX, SEALED_INDEXES_MAX};
        let (files, indexes): (Vec<_>, Vec<_>) = {
            let state = self.state.borrow();
            // Nearly always there is nothing to do, and this is asked of every log often.
            if state.segments.len() <= SEALED_INDEXES_MAX.min(SEALED_FILES_MAX) + 1 {
                return;
            }
            let sealed = || state.segments.iter().filter(|segment| segment.is_sealed() && !segment.is_pinned());
            (
                sealed().filter(|segment| segment.is_open()).cloned().collect(),
                sealed().filter(|segment| segment.has_indexes()).cloned().collect(),
            )
        };
        let least_used = |mut segments: Vec<Rc<Segment>>, keep: usize| {
            segments.sort_by_key(|segment| segment.used());
            let excess = segments.len().saturating_sub(keep);
            segments.truncate(excess);
            segments
        };
        for segment in least_used(files, SEALED_FILES_MAX) {
            // Reads under way hold the file; it closes with the last of them.
            drop(segment.take_file());
        }
        for segment in least_used(indexes, SEALED_INDEXES_MAX) {
            segment.forget_indexes();
        }
    }
}

impl State {
    fn buffers(&self) -> Buffers<'_> {
        Buffers { tail: &self.tail, full: &self.full, open: self.open.as_ref() }
    }

    /// Tells who waits for what is reached by now.
    fn tell_waiters(&mut self) {
        let progress = &self.progress;
        self.written_waiters.reached(progress.written().offset);
        self.durable_waiters.reached(progress.durable().offset);
        self.flushed_waiters.reached(progress.flushed().offset);
        if progress.written() == progress.durable() {
            self.unflushed_since = None;
        } else if self.unflushed_since.is_none() {
            self.unflushed_since = Some(now());
        }
    }

    /// Changes what the log can do. The core's memory knows which logs are full.
    fn set_condition(&mut self, memory: &TailMemory, condition: Condition) {
        let (was, is) = (matches!(self.condition, Condition::Full), matches!(condition, Condition::Full));
        self.condition = condition;
        match (was, is) {
            (false, true) => memory.log_is_full(),
            (true, false) => memory.log_is_not_full(),
            _ => {}
        }
    }

    fn active(&self) -> &Rc<Segment> {
        self.segments.back().expect("a log always has an active segment")
    }

    /// The offset after the last of a segment.
    fn end_of_segment(&self, at: usize) -> Offset {
        self.segments.get(at + 1).map_or(self.progress.appended().offset, |next| next.base)
    }

    /// The place in `segments` of the one that `offset` belongs to.
    fn segment_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let memory = self.memory();
        let state = self.state.get_mut();
        memory.give_back(state.tail.memory());
        if matches!(state.condition, Condition::Full) {
            memory.log_is_not_full();
        }
    }
}

fn now() -> UnixMs {
    clock::unix_ms()
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
