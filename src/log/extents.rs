//! What was read from the drive, kept for those who read on and for others at the
//! same place.
//!
//! An *extent* is a run of whole batches of one segment, as one read brought it,
//! checked once. A log remembers where readers that came to the drive have stopped: one
//! that comes again exactly there reads in sequence, and while it takes the first half
//! of an extent the next is read. Sixteen consumers at about the same place cost the drive one.
//!
//! All extents of a core share one bound, which holds also for those that were let go
//! and are still being sent: the oldest is let go first, and when all are held by answers
//! that nobody takes, reads are as large as what was asked for and kept by nobody.
//! It has nothing to do with the tails: a reader that lags cannot push out what live ones read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::base::{Offset, wait};
use crate::record::BatchView;
use crate::runtime::disk::Slice;

use super::Inner;
use super::segment::Segment;
use super::tail::Wanted;

/// Distance of the marks in an extent: how far a read walks over batch headers.
const MARK_BYTES: usize = 16 << 10;

/// The memory that all extents of a core may hold.
pub(super) struct ExtentMemory {
    bytes_max: usize,
    used: Cell<usize>,
    /// In the order in which they came.
    extents: RefCell<VecDeque<(Weak<Inner>, Weak<Extent>)>>,
}

impl ExtentMemory {
    pub fn new(bytes_max: usize) -> Rc<ExtentMemory> {
        Rc::new(ExtentMemory { bytes_max, used: Cell::new(0), extents: RefCell::default() })
    }

    /// Memory for an extent, for which older ones are let go. `None`: what is left is
    /// held by answers under way.
    pub fn take(self: &Rc<Self>, bytes: usize) -> Option<Held> {
        while self.used.get() + bytes > self.bytes_max {
            let (log, extent) = self.extents.borrow_mut().pop_front()?;
            if let (Some(log), Some(extent)) = (log.upgrade(), extent.upgrade()) {
                log.extents.forget(&extent);
            }
        }
        self.used.set(self.used.get() + bytes);
        Some(Held { memory: Rc::clone(self), bytes })
    }

    fn add(&self, log: &Rc<Inner>, extent: &Rc<Extent>) {
        let mut extents = self.extents.borrow_mut();
        // Those of logs that are gone, now and then.
        while extents.front().is_some_and(|(_, extent)| extent.strong_count() == 0) {
            extents.pop_front();
        }
        extents.push_back((Rc::downgrade(log), Rc::downgrade(extent)));
    }
}

/// A share of the memory.
pub(super) struct Held {
    memory: Rc<ExtentMemory>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.used.set(self.memory.used.get() - self.bytes);
    }
}

/// See the module.
pub(super) struct Extent {
    /// Of the segment.
    pub base: Offset,
    /// No offset from here to the end of the first batch lies before the extent: where a
    /// reader came to, or where the extent before ended.
    from: Offset,
    /// The offset after the last batch.
    pub next: Offset,
    /// Where in the segment the last batch ends.
    pub end_position: u64,
    bytes: Slice,
    /// Offset and place of a batch at distances; the first is that of the first batch.
    marks: Vec<(Offset, usize)>,
    /// Behind the last batch.
    end: usize,
    /// `None`: kept by nobody but its reader.
    _memory: Option<Held>,
}

impl AsRef<[u8]> for Extent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

/// Puts an extent together, batch by batch.
pub(super) struct Collected {
    marks: Vec<(Offset, usize)>,
    next: Offset,
    end: usize,
}

impl Collected {
    /// Begins with the batch at `at`.
    pub fn new(first: &BatchView<'_>, at: usize) -> Collected {
        let mut collected = Collected { marks: vec![(first.base_offset(), at)], next: first.next_offset(), end: at };
        collected.add(first);
        collected
    }

    /// Adds the next batch.
    pub fn add(&mut self, batch: &BatchView<'_>) {
        if self.marks.last().is_some_and(|(_, at)| self.end - at >= MARK_BYTES) {
            self.marks.push((batch.base_offset(), self.end));
        }
        self.next = batch.next_offset();
        self.end += batch.size();
    }

    /// `bytes` were read from `position` of the segment with base `base`, for who wanted `from`.
    pub fn finish(self, base: Offset, from: Offset, bytes: Slice, position: u64, memory: Option<Held>) -> Extent {
        let Collected { marks, next, end } = self;
        Extent { base, from, next, end_position: position + end as u64, bytes, marks, end, _memory: memory }
    }
}

impl Extent {
    fn batch(&self, at: usize) -> Option<BatchView<'_>> {
        // Looked at when it was read.
        BatchView::first(&self.bytes[at..self.end]).ok()
    }

    /// Where the batch that holds `offset` begins; the end if all lie before it.
    fn seek(&self, offset: Offset) -> usize {
        if offset >= self.next {
            return self.end;
        }
        let after = self.marks.partition_point(|(base, _)| *base <= offset);
        let mut at = self.marks[after.saturating_sub(1)].1;
        while let Some(batch) = self.batch(at) {
            if batch.last_offset() >= offset {
                break;
            }
            at += batch.size();
        }
        at
    }

    /// The wanted batches: from where to where.
    pub fn find(&self, wanted: Wanted) -> std::ops::Range<usize> {
        let start = self.seek(wanted.from);
        let mut end = start;
        while let Some(batch) = self.batch(end) {
            let fits = end + batch.size() - start <= wanted.bytes_max || (end == start && wanted.at_least_one);
            if batch.last_offset() >= wanted.upper || !fits {
                break;
            }
            end += batch.size();
        }
        start..end
    }

    /// The offset after the last batch before `place`, a border of batches.
    pub fn next_of(&self, place: usize) -> Offset {
        self.batch(place).map_or(self.next, |batch| batch.base_offset())
    }

    /// Whether what lies behind `place` is less than half of it.
    pub fn is_past_half(&self, place: usize) -> bool {
        let first = self.marks.first().map_or(0, |(_, at)| *at);
        place - first >= (self.end - first) / 2
    }
}

/// Places where readers stopped that a log remembers.
const STOPS: usize = 16;

/// The extents of one log.
#[derive(Default)]
pub(super) struct Extents {
    kept: RefCell<Vec<Rc<Extent>>>,
    /// Where readers have stopped lately.
    stops: RefCell<VecDeque<Offset>>,
    /// Extents that are being read, by where they begin, with those who wait for them.
    coming: RefCell<Vec<(Offset, Vec<wait::Sender<()>>)>>,
}

impl Extents {
    /// The extent that holds `offset`.
    pub fn get(&self, offset: Offset) -> Option<Rc<Extent>> {
        self.kept.borrow().iter().find(|extent| extent.from <= offset && offset < extent.next).cloned()
    }

    /// Keeps an extent, and lets one go that it repeats.
    pub fn keep(&self, log: &Rc<Inner>, memory: &ExtentMemory, extent: &Rc<Extent>) {
        let repeats = |old: &Rc<Extent>| extent.from <= old.from && old.next <= extent.next;
        let mut kept = self.kept.borrow_mut();
        kept.retain(|old| !repeats(old));
        kept.push(Rc::clone(extent));
        memory.add(log, extent);
    }

    /// Forgets what was read of these segments.
    pub fn forget_segments(&self, segments: &[Rc<Segment>]) {
        self.kept.borrow_mut().retain(|kept| segments.iter().all(|segment| segment.base != kept.base));
    }

    fn forget(&self, extent: &Rc<Extent>) {
        self.kept.borrow_mut().retain(|kept| !Rc::ptr_eq(kept, extent));
    }

    /// Whether a reader stopped at `offset`; notes that one stops at `end` now.
    pub fn moved(&self, offset: Offset, end: Offset) -> bool {
        let mut stops = self.stops.borrow_mut();
        let place = stops.iter().position(|stop| *stop == offset);
        if let Some(place) = place {
            stops.remove(place);
        }
        if stops.len() == STOPS {
            stops.pop_front();
        }
        stops.push_back(end);
        place.is_some()
    }

    /// Whether a reader stopped at `offset`.
    pub fn is_stop(&self, offset: Offset) -> bool {
        self.stops.borrow().contains(&offset)
    }

    /// Where in the segment with base `base` the batch lies that begins with `offset`, if an extent
    /// ends there.
    pub fn place_of(&self, base: Offset, offset: Offset) -> Option<u64> {
        let kept = self.kept.borrow();
        kept.iter().find(|extent| extent.base == base && extent.next == offset).map(|extent| extent.end_position)
    }

    /// Completes when the extent from `offset` has been read, if it is being read.
    pub fn coming(&self, offset: Offset) -> Option<wait::Receiver<()>> {
        let mut coming = self.coming.borrow_mut();
        let (_, waiting) = coming.iter_mut().find(|(from, _)| *from == offset)?;
        let (sender, receiver) = wait::once();
        waiting.push(sender);
        Some(receiver)
    }

    /// Says that the extent from `offset` is being read, until what is returned is
    /// dropped. `None`: it is already.
    pub fn begin(log: &Rc<Inner>, offset: Offset) -> Option<Coming> {
        let mut coming = log.extents.coming.borrow_mut();
        if coming.iter().any(|(from, _)| *from == offset) {
            return None;
        }
        coming.push((offset, Vec::new()));
        Some(Coming { log: Rc::clone(log), offset })
    }
}

/// An extent that is being read.
pub(super) struct Coming {
    log: Rc<Inner>,
    offset: Offset,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let waiting = {
            let mut coming = self.log.extents.coming.borrow_mut();
            let place = coming.iter().position(|(from, _)| *from == self.offset);
            place.map(|place| coming.swap_remove(place))
        };
        // Woken by the senders' drop.
        drop(waiting);
    }
}
