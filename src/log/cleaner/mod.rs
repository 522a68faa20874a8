//! Compaction: of each key the last record stays (`LogCleaner`, `Cleaner`).
//!
//! | file | holds |
//! |---|---|
//! | `mod` | how dirty a log is, and one clean from beginning to end |
//! | `map` | the latest offset of each key, in fixed memory |
//! | `plan` | what may be cleaned, and which segments become one |
//! | `rewrite` | reading batches, deciding on records, writing what is kept |
//! | `swap` | putting the new segment in the place of the old ones |
//! | `transactions` | aborted records, markers |
//! | `pace` | the bound on bytes per second |
//!
//! A clean reads the dirty part of a log, from where the last clean came to up to what may be cleaned, into the
//! map; then it reads all segments from the first on and writes what is kept into new ones, one
//! for several if they are small. Each new segment takes its place before the next is begun. Offsets never
//! change.
//!
//! It runs on the core that owns the log, gives way after each slice, and reads and writes when
//! nothing urgent wants the drive. It never touches the active segment, nor one that is not sealed. It
//! ends early when the log is closed, deleted, or has failed; nothing of what it did so far is wrong then.
//!
//! Never believes a batch whose checksum is wrong: writing it again would make it right.

mod map;
mod pace;
mod plan;
mod rewrite;
mod swap;
mod transactions;

use std::rc::Rc;

use crate::base::limits::BLOCK_BYTES;
use crate::base::{Offset, UnixMs};
use crate::record::BatchView;
use crate::runtime;
use crate::runtime::task;

use super::segment::Segment;
use super::{Condition, Inner, Log, LogError};

pub use plan::Dirt;

use map::KeyMap;
use pace::Pace;
use rewrite::Reader;
use transactions::Transactions;

/// Least bytes of one read or write: fewer make more work than they save memory.
const IO_BYTES_MIN: usize = 16 << 10;

/// What the cleans of a core may use, one after the other.
pub struct Means {
    map_bytes: usize,
    load: f64,
    io_bytes: usize,
    pace: Pace,
}

impl Means {
    /// `map_bytes` of memory for keys, of whose places the share `load` is used; `io_bytes` of buffers; and
    /// so many bytes read and written per second.
    pub fn new(map_bytes: usize, load: f64, io_bytes: usize, bytes_per_second: impl Fn() -> f64 + 'static) -> Means {
        // One half to read, one to write.
        let io_bytes = (io_bytes / 2 / BLOCK_BYTES * BLOCK_BYTES).max(IO_BYTES_MIN);
        Means { map_bytes, load, io_bytes, pace: Pace::new(bytes_per_second) }
    }
}

/// Why a clean did not come to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CleanError {
    /// The log is being closed or deleted, is not compacted any more, or lost what was being cleaned to
    /// retention. It may be tried again.
    #[error("the clean was given up: {0}")]
    GivenUp(&'static str),
    /// No space for the new segment. It may be tried again.
    #[error("no space left on the drive to clean {0}")]
    DiskFull(Rc<str>),
    /// It would fail again: bytes are damaged, or cannot be read or written.
    #[error("{0}")]
    Uncleanable(Rc<str>),
}

impl From<LogError> for CleanError {
    fn from(error: LogError) -> CleanError {
        match error {
            LogError::DiskFull(log) => CleanError::DiskFull(log),
            LogError::Closed(_) | LogError::Deleted(_) | LogError::Offline(_) => {
                CleanError::GivenUp("the log has ended")
            }
            other => CleanError::Uncleanable(other.to_string().into()),
        }
    }
}

/// What a clean did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleaned {
    /// The log is clean up to here: the next clean begins here.
    pub to: Offset,
    /// Bytes read: those for the map, and those of all segments.
    pub read_bytes: u64,
    /// Bytes of batches before and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Records that were looked at, and those of them that were kept.
    pub records_before: u64,
    pub records_after: u64,
    /// Segments before and after.
    pub segments_before: usize,
    pub segments_after: usize,
    /// Distinct keys of the dirty part, as far as the map took them, and the map's bytes.
    pub keys: usize,
    pub map_bytes: usize,
}

/// Asks whether a batch is the last of its producer: it is kept, without records if need be.
pub type IsLastOfProducer<'a> = &'a dyn Fn(&BatchView<'_>) -> bool;

/// A clean under way.
struct Run<'a> {
    log: &'a Rc<Inner>,
    means: &'a Means,
    is_last: IsLastOfProducer<'a>,
    /// When it began: delete horizons are compared with it.
    now: UnixMs,
    /// Nothing is cleaned from here on.
    upper: Offset,
    map: KeyMap,
    done: Cleaned,
    /// Base offsets of segments that have an index of aborted transactions.
    indexed: Vec<Offset>,
}

impl Log {
    /// Cleans the log, whose dirty part is `dirt`.
    ///
    /// # Errors
    /// It did not come to its end. What it had cleaned so far stays so.
    pub async fn clean(
        &self,
        dirt: &Dirt,
        means: &Means,
        is_last: IsLastOfProducer<'_>,
        now: UnixMs,
    ) -> Result<Cleaned, CleanError> {
        let inner = &self.0;
        if dirt.upper <= dirt.from {
            return Ok(Cleaned { to: dirt.from, ..Cleaned::default() });
        }
        {
            let mut state = inner.state.borrow_mut();
            let upper = state.segments.partition_point(|segment| segment.base < dirt.upper);
            if state.segments.range(..upper).any(|segment| !segment.is_sealed()) {
                return Err(CleanError::GivenUp("what was to be cleaned is not sealed"));
            }
            if state.tasks.mover {
                return Err(CleanError::GivenUp("the log is being moved to another directory"));
            }
            if std::mem::replace(&mut state.tasks.cleaner, true) {
                return Err(CleanError::GivenUp("it is being cleaned already"));
            }
        }
        let _under_way = UnderWay(inner);
        let keys = (dirt.upper.0 - dirt.from.0).max(0) as u64;
        let mut run = Run {
            log: inner,
            means,
            is_last,
            now,
            upper: dirt.upper,
            map: KeyMap::new(means.map_bytes, means.load, keys, runtime::random_bytes()),
            done: Cleaned { to: dirt.from, ..Cleaned::default() },
            indexed: Vec::new(),
        };
        let (sources, _) = run.segments_below(Offset::ZERO, dirt.upper);
        let ended = run.clean(dirt.from).await;
        let done = run.done;
        while run.map.shrink() {
            task::yield_if_needed().await;
        }
        match ended {
            Ok(()) => Ok(done),
            // A file that is not there any more says nothing about the log.
            Err(CleanError::Uncleanable(_)) if inner.lost_any(&sources) => Err(LOST),
            Err(error) => Err(error),
        }
    }
}

/// Retention was faster.
const LOST: CleanError = CleanError::GivenUp("retention took what was being cleaned");

impl Inner {
    /// Whether the log has lost any of these segments, other than to compaction.
    fn lost_any(&self, segments: &[Rc<Segment>]) -> bool {
        let state = self.state.borrow();
        let has = |wanted: &Rc<Segment>| state.segments.iter().any(|segment| Rc::ptr_eq(segment, wanted));
        let lost = |segment: &Rc<Segment>| !has(segment) || segment.base < state.given_up;
        segments.iter().any(|segment| !segment.is_replaced() && lost(segment))
    }
}

/// Says that a clean is under way, until it is dropped.
struct UnderWay<'a>(&'a Rc<Inner>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().tasks.cleaner = false;
        self.0.task_ended();
    }
}

impl Run<'_> {
    async fn clean(&mut self, from: Offset) -> Result<(), CleanError> {
        self.find_transaction_indexes().await?;
        while self.map.grow() {
            task::yield_if_needed().await;
        }
        let full = self.fill_map(from).await?;
        let to = self.map.latest().plus(1);
        self.done.keys = self.map.len();
        self.done.map_bytes = self.map.memory();
        if to <= from {
            return match full {
                true => Err(self.uncleanable(
                    "the memory for keys (log.cleaner.dedupe.buffer.size) is too small for a single batch",
                )),
                false => Ok(()),
            };
        }
        let mut transactions = Transactions::default();
        for group in self.groups(to).await? {
            self.rewrite(&group, &mut transactions).await?;
        }
        self.done.to = to;
        Ok(())
    }

    /// Puts the latest offsets of the keys from `from` on into the map. True when it was full before the end.
    async fn fill_map(&mut self, from: Offset) -> Result<bool, CleanError> {
        let (segments, ends) = self.segments_below(from, self.upper);
        let mut transactions = Transactions::default();
        transactions.add(self.aborted(from, self.upper).await?);
        let mut scratch = crate::record::Scratch::new();
        for (segment, end) in segments.iter().zip(ends) {
            let mut reader = Reader::new(self, segment).await?;
            while let Some(bytes) = reader.next(self).await? {
                let mut at = 0;
                while let Some(batch) = reader.batch(&bytes, &mut at)? {
                    let unreadable = |fault| reader.unreadable(&batch, fault);
                    let dropped = transactions.may_drop(&batch, &mut scratch).map_err(unreadable)?;
                    if batch.is_control() || dropped || batch.last_offset() < from {
                        self.looked_at(&batch, from);
                        continue;
                    }
                    let mut records = batch.records(&mut scratch).map_err(unreadable)?;
                    let mut count = 0_u32;
                    while let Some(record) = records.next().map_err(unreadable)? {
                        let offset = Offset(record.offset);
                        if let Some(key) = record.key.filter(|_| offset >= from) {
                            if self.map.is_full() {
                                return Ok(true);
                            }
                            self.map.put(key, offset);
                        }
                        count += 1;
                        if count.is_multiple_of(16) {
                            task::yield_if_needed().await;
                        }
                    }
                    self.looked_at(&batch, from);
                }
                task::yield_if_needed().await;
            }
            // Compaction before may have left a gap at its end.
            self.map.looked_at(end.plus(-1));
        }
        Ok(false)
    }

    fn looked_at(&mut self, batch: &BatchView<'_>, from: Offset) {
        if batch.last_offset() >= from {
            self.map.looked_at(batch.last_offset());
        }
    }

    /// Whether the clean may go on.
    fn goes_on(&self) -> Result<(), CleanError> {
        let state = self.log.state.borrow();
        match state.condition {
            Condition::Online | Condition::Full if !state.config.cleanup_policy.compact => {
                Err(CleanError::GivenUp("the log is not compacted any more"))
            }
            Condition::Online | Condition::Full if state.tasks.mover => {
                Err(CleanError::GivenUp("the log is being moved to another directory"))
            }
            Condition::Online | Condition::Full => Ok(()),
            Condition::Closing | Condition::Ended(_) => Err(CleanError::GivenUp("the log has ended")),
        }
    }

    /// Takes bytes that were read or written into account, and waits as long as the bound on them says.
    async fn passed(&self, bytes: usize) -> Result<(), CleanError> {
        self.means.pace.passed(bytes, || self.goes_on()).await
    }

    fn uncleanable(&self, reason: &str) -> CleanError {
        CleanError::Uncleanable(format!("{} cannot be cleaned: {reason}", self.log.name).into())
    }

    /// The segments of which something lies from `from` on and which begin below `to`, and where each ends.
    fn segments_below(&self, from: Offset, to: Offset) -> (Vec<Rc<Segment>>, Vec<Offset>) {
        let state = self.log.state.borrow();
        let first = state.segment_of(from);
        let last = state.segments.partition_point(|segment| segment.base < to);
        (first..last.max(first)).map(|at| (Rc::clone(&state.segments[at]), state.end_of_segment(at))).unzip()
    }
}

#[cfg(test)]
mod tests;
