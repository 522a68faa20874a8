//! The memory that all logs of a core hold: the tails that serve readers, and what is
//! not written yet.
//!
//! Tails and extents have one bound for all drives of a core (`log.dirs`); what is not written
//! yet has one for each drive, so that one that stalls or is full takes no room from the others.
//!
//! **Tails**: first in, first out over all logs: a log that is quiet gives its place to
//! those that are not. What is not written yet is never let go.
//!
//! **Extents**: what was read from the drive, see [`super::extents`].
//!
//! **Unwritten**: a buffer counts, by the blocks it has filled, from the append that made
//! it until its write to the segment has completed or its log has ended, whichever way;
//! what a journal has is not written in this sense. Who appends on
//! behalf of a client waits for [`Room`] first, so that a stalled drive holds clients
//! back and fills no memory. What this process appends of its own accord (metadata,
//! groups) counts but does not wait: it answers requests, whose memory is bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::base::budget::Budget;
use crate::base::limits::{
    CORE_EXTENTS_BYTES_MAX, CORE_UNWRITTEN_BYTES_MAX, DRIVE_UNWRITTEN_BYTES_MIN, FILES_MADE_AT_ONCE,
};
use crate::base::wait::{self, Signal};

use super::extents::ExtentMemory;
use super::space::{DriveShare, DriveSpace};
use super::turns::Turns;
use super::{Inner, LogError};

/// See the module. One per core and drive.
pub struct TailMemory {
    /// For what is read from the drive.
    pub(super) extents: Rc<ExtentMemory>,
    /// Who of the core's logs may use the drive.
    pub(super) turns: Rc<Turns>,
    /// How much of it they may take.
    pub(super) space: Rc<DriveSpace>,
    /// Who of them makes directories and files now: one of [`FILES_MADE_AT_ONCE`] each.
    pub(super) making: Rc<Budget>,
    /// What the drive refused.
    pub(super) failures: Rc<Failures>,
    tails: Rc<Tails>,
    unwritten_max: usize,
    unwritten: Cell<usize>,
    /// Logs that wait for space on the drive; their buffers stay until there is some.
    full_logs: Cell<usize>,
    /// First come, first served: a large batch is not overtaken for ever by small ones.
    waiting: RefCell<VecDeque<Waiting>>,
    /// Raised when half of what may be unwritten is.
    pressure: RefCell<Option<Rc<Signal>>>,
}

/// The tails of all logs of a core.
struct Tails {
    bytes_max: usize,
    used: Cell<usize>,
    /// One entry per buffer in some tail, in the order in which they came.
    buffers: RefCell<VecDeque<Weak<Inner>>>,
}

/// Failed writes and flushes of the logs and the journal of a core on one drive: who looks after
/// the drive wants to know.
#[derive(Default)]
pub struct Failures {
    last: RefCell<Option<Failure>>,
    signal: Signal,
}

/// Something that a drive refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub reason: Rc<str>,
    /// It was the journal's, not a single log's.
    pub of_journal: bool,
}

impl Failures {
    /// Takes note of one.
    pub fn note(&self, failure: Failure) {
        let mut last = self.last.borrow_mut();
        // The journal's says more.
        if !last.as_ref().is_some_and(|last| last.of_journal) {
            *last = Some(failure);
        }
        drop(last);
        self.signal.raise();
    }

    /// Waits for one that was not taken yet; of several it gives one. For one waiter.
    pub async fn next(&self) -> Failure {
        loop {
            if let Some(failure) = self.last.borrow_mut().take() {
                return failure;
            }
            self.signal.wait().await;
        }
    }
}

/// An append that waits for room.
struct Waiting {
    log: Weak<Inner>,
    bytes: usize,
    told: wait::Sender<Result<Room, LogError>>,
}

impl TailMemory {
    /// Memory of which tails may hold `bytes_max` bytes, and what is not written yet
    /// as much as a core may hold. For one drive.
    pub fn new(bytes_max: usize) -> Rc<TailMemory> {
        TailMemory::with_unwritten(bytes_max, CORE_UNWRITTEN_BYTES_MAX)
    }

    /// As [`TailMemory::new`], with another bound of what is not written yet, in bytes.
    pub fn with_unwritten(bytes_max: usize, unwritten_max: usize) -> Rc<TailMemory> {
        let tails = Tails { bytes_max, used: Cell::new(0), buffers: RefCell::default() };
        TailMemory::over(Rc::new(tails), ExtentMemory::new(CORE_EXTENTS_BYTES_MAX), unwritten_max)
    }

    /// The same memory for several drives, at least one: what is not written yet has its share of the bound on each.
    pub fn of_drives(bytes_max: usize, drives: usize) -> Vec<Rc<TailMemory>> {
        let share = (CORE_UNWRITTEN_BYTES_MAX / drives.max(1)).max(DRIVE_UNWRITTEN_BYTES_MIN);
        let first = TailMemory::with_unwritten(bytes_max, share);
        let more = (1..drives).map(|_| first.of_another_drive()).collect::<Vec<_>>();
        std::iter::once(first).chain(more).collect()
    }

    /// For the logs of the same core on another drive.
    pub fn of_another_drive(&self) -> Rc<TailMemory> {
        TailMemory::over(Rc::clone(&self.tails), Rc::clone(&self.extents), self.unwritten_max)
    }

    fn over(tails: Rc<Tails>, extents: Rc<ExtentMemory>, unwritten_max: usize) -> Rc<TailMemory> {
        Rc::new(TailMemory {
            extents,
            turns: Turns::new(),
            space: Rc::default(),
            making: Budget::new(FILES_MADE_AT_ONCE),
            failures: Rc::default(),
            tails,
            unwritten_max,
            unwritten: Cell::new(0),
            full_logs: Cell::new(0),
            waiting: RefCell::default(),
            pressure: RefCell::default(),
        })
    }

    /// What the drive refused this core.
    pub fn failures(&self) -> &Rc<Failures> {
        &self.failures
    }

    /// Has ordinary logs leave `bytes` of the drive to others (`log.dir.reserved.bytes`); none at first.
    pub fn reserve_on_drive(&self, bytes: u64) {
        self.space.reserve(bytes);
    }

    /// Has what the logs take of the drive count together with what other cores' logs do.
    pub fn share_drive(&self, share: &Arc<DriveShare>) {
        self.space.share(share);
    }

    /// Bytes that tails hold now.
    pub fn used(&self) -> usize {
        self.tails.used.get()
    }

    /// Bytes of buffers that are not written yet, and of room that was given for more.
    pub fn unwritten(&self) -> usize {
        self.unwritten.get()
    }

    /// Has `signal` raised when there is much that is not written.
    pub(super) fn on_pressure(&self, signal: Rc<Signal>) {
        *self.pressure.borrow_mut() = Some(signal);
    }

    /// Whether half of what may be unwritten is.
    pub(super) fn is_pressed(&self) -> bool {
        self.unwritten.get() > self.unwritten_max / 2
    }

    fn raise_pressure(&self) {
        if let Some(signal) = &*self.pressure.borrow() {
            signal.raise();
        }
    }

    /// Takes room whether there is any or not.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Room {
        self.unwritten.set(self.unwritten.get() + bytes);
        Room { memory: Rc::clone(self), bytes }
    }

    /// Takes room if there is enough and nobody waits for any.
    pub(super) fn try_take(self: &Rc<Self>, bytes: usize) -> Option<Room> {
        (self.waiting.borrow().is_empty() && self.fits(bytes)).then(|| self.take(bytes))
    }

    /// Waits for room. An error is that of the log: it takes no appends any more, or
    /// the drive is full.
    pub(super) fn wait(&self, log: &Rc<Inner>, bytes: usize) -> wait::Receiver<Result<Room, LogError>> {
        let (told, receiver) = wait::once();
        if self.full_logs.get() > 0 {
            told.send(Err(LogError::DiskFull(Rc::clone(&log.name))));
        } else {
            self.waiting.borrow_mut().push_back(Waiting { log: Rc::downgrade(log), bytes, told });
            self.raise_pressure();
        }
        receiver
    }

    /// One batch may be larger than the bound: it passes when nothing else is held.
    fn fits(&self, bytes: usize) -> bool {
        self.unwritten.get() == 0 || self.unwritten.get() + bytes <= self.unwritten_max
    }

    /// Gives room to those who wait, in their order.
    fn serve(self: &Rc<Self>) {
        loop {
            let next = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.front() {
                    Some(first) if first.told.is_abandoned() => {
                        waiting.pop_front();
                        continue;
                    }
                    Some(first) if self.fits(first.bytes) => waiting.pop_front(),
                    _ => None,
                }
            };
            let Some(Waiting { bytes, told, .. }) = next else { return };
            told.send(Ok(self.take(bytes)));
        }
    }

    /// Tells those who wait to append to `log` that it takes no more.
    pub(super) fn refuse(self: &Rc<Self>, log: &Inner, error: &LogError) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let refused = {
            let mut waiting = self.waiting.borrow_mut();
            let all = std::mem::take(&mut *waiting);
            let (refused, kept) =
                all.into_iter().partition::<Vec<_>, _>(|waiting| std::ptr::eq(waiting.log.as_ptr(), log));
            *waiting = kept.into();
            refused
        };
        for waiting in refused {
            waiting.told.send(Err(error.clone()));
        }
        // The first of those that are left may need less than the first before.
        self.serve();
    }

    /// A log waits for space on the drive. What it holds may stay for long: who waits
    /// for room is told of the full drive instead.
    pub(super) fn log_is_full(&self) {
        self.full_logs.set(self.full_logs.get() + 1);
        let all = std::mem::take(&mut *self.waiting.borrow_mut());
        for waiting in all {
            if let Some(log) = waiting.log.upgrade() {
                waiting.told.send(Err(LogError::DiskFull(Rc::clone(&log.name))));
            }
        }
    }

    /// A log has space again, or has ended.
    pub(super) fn log_is_not_full(&self) {
        self.full_logs.set(self.full_logs.get() - 1);
    }

    /// Counts a buffer that came into the tail of `log`; `new` when it took no
    /// other's place.
    pub(super) fn add(&self, log: &Rc<Inner>, bytes: usize, new: bool) {
        self.tails.used.set(self.tails.used.get() + bytes);
        if new {
            self.tails.buffers.borrow_mut().push_back(Rc::downgrade(log));
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.tails.used.set(self.tails.used.get() - bytes);
    }

    /// A log has let its `count` oldest buffers go by itself, of so many bytes together.
    pub(super) fn forget(&self, log: &Rc<Inner>, count: usize, bytes: usize) {
        self.give_back(bytes);
        let mut left = count;
        if left > 0 {
            self.tails.buffers.borrow_mut().retain(|of| {
                let forgotten = left > 0 && std::ptr::eq(of.as_ptr(), Rc::as_ptr(log));
                left -= usize::from(forgotten);
                !forgotten
            });
        }
    }

    /// Lets the oldest buffers go until the budget is kept. Not to be called while
    /// any log's state is borrowed.
    pub(super) fn trim(&self) {
        let mut unwritten = 0;
        while self.tails.used.get() > self.tails.bytes_max {
            let Some(oldest) = self.tails.buffers.borrow_mut().pop_front() else { return };
            let Some(log) = oldest.upgrade() else { continue };
            if !log.drop_oldest_of_tail() {
                // Not written yet: it comes again.
                self.tails.buffers.borrow_mut().push_back(oldest);
                unwritten += 1;
                if unwritten >= self.tails.buffers.borrow().len() {
                    return;
                }
            }
        }
    }
}

/// Memory for bytes that are not written yet; given back when dropped, to those who
/// wait for it on any log of the core.
pub struct Room {
    memory: Rc<TailMemory>,
    bytes: usize,
}

impl Room {
    /// Takes more, up to `bytes` in all, whether there is any or not.
    pub(super) fn grow_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        self.memory.unwritten.set(self.memory.unwritten.get() + more);
        if more > 0 && self.memory.is_pressed() {
            self.memory.raise_pressure();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.unwritten.set(self.memory.unwritten.get() - self.bytes);
            self.memory.serve();
        }
    }
}
