//! The bytes that the tails of all logs of a core may hold for readers.
//!
//! First in, first out over all logs: a log that is quiet gives its place to those
//! that are not. What is not written yet does not count as a cache and is never let go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::Inner;

/// See the module. One per core.
pub struct TailMemory {
    bytes_max: usize,
    used: Cell<usize>,
    /// One entry per buffer in some tail, in the order in which they came.
    buffers: RefCell<VecDeque<Weak<Inner>>>,
}

impl TailMemory {
    pub fn new(bytes_max: usize) -> Rc<TailMemory> {
        Rc::new(TailMemory { bytes_max, used: Cell::new(0), buffers: RefCell::default() })
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Counts a buffer that came into the tail of `log`; `new` when it took no
    /// other's place.
    pub(super) fn add(&self, log: &Rc<Inner>, bytes: usize, new: bool) {
        self.used.set(self.used.get() + bytes);
        if new {
            self.buffers.borrow_mut().push_back(Rc::downgrade(log));
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
    }

    /// Lets the oldest buffers go until the budget is kept. Not to be called while
    /// any log's state is borrowed.
    pub(super) fn trim(&self) {
        let mut unwritten = 0;
        while self.used.get() > self.bytes_max {
            let Some(oldest) = self.buffers.borrow_mut().pop_front() else { return };
            let Some(log) = oldest.upgrade() else { continue };
            if !log.drop_oldest_of_tail() {
                // Not written yet: it comes again.
                self.buffers.borrow_mut().push_back(oldest);
                unwritten += 1;
                if unwritten >= self.buffers.borrow().len() {
                    return;
                }
            }
        }
    }
}
