//! Parked fetches: one waiter registered on several partitions, with the bytes it
//! still misses; each partition gives it the bytes that become visible and wakes it
//! when they suffice.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use crate::base::Offset;
use crate::base::wait::Signal;

use super::{Isolation, Partition};

/// A fetch that waits for bytes. Made by the fetch, shared with the partitions it
/// watches; woken once.
pub struct FetchWaiter {
    missing: Cell<u64>,
    woken: Cell<bool>,
    signal: Signal,
}

impl FetchWaiter {
    /// A waiter that is woken when `missing` bytes have become visible in the
    /// partitions it watches, or something happened to one of them.
    pub fn new(missing: u64) -> Rc<FetchWaiter> {
        Rc::new(FetchWaiter { missing: Cell::new(missing), woken: Cell::new(missing == 0), signal: Signal::new() })
    }

    /// Waits anew, as [`FetchWaiter::new`]. Nobody else has it.
    pub fn begin_again(&self, missing: u64) {
        self.missing.set(missing);
        self.woken.set(missing == 0);
        // A wake-up that came after the last wait was for that one.
        self.signal.lower();
    }

    /// Completes when the fetch should look again. One task may wait.
    pub async fn woken(&self) {
        while !self.woken.get() {
            self.signal.wait().await;
        }
    }

    pub fn is_woken(&self) -> bool {
        self.woken.get()
    }

    /// Wakes the fetch whatever it misses: its partition has ended, or its session was closed.
    pub fn wake(&self) {
        self.woken.set(true);
        self.signal.raise();
    }

    /// Counts bytes that are visible.
    pub fn arrived(&self, bytes: u64) {
        self.missing.set(self.missing.get().saturating_sub(bytes));
        if self.missing.get() == 0 {
            self.wake();
        }
    }
}

/// A waiter's place on a partition; given up when dropped.
pub struct Watching {
    partition: Weak<Partition>,
    id: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(partition) = self.partition.upgrade() {
            partition.watchers.borrow_mut().remove(self.id);
        }
    }
}

struct Watch {
    id: u64,
    waiter: Rc<FetchWaiter>,
    from: Offset,
    isolation: Isolation,
}

/// Places that a partition without waiters keeps room for.
const WATCHES_KEPT: usize = 4;

/// The waiters on one partition.
#[derive(Default)]
pub(super) struct Watchers {
    watches: Vec<Watch>,
    next_id: u64,
}

/// What has become visible: up to where, and how many bytes that was.
#[derive(Clone, Copy)]
pub(super) struct Visible {
    pub high_watermark: Offset,
    pub last_stable: Offset,
    pub bytes: u64,
}

impl Watchers {
    pub fn add(
        &mut self,
        partition: Weak<Partition>,
        waiter: &Rc<FetchWaiter>,
        from: Offset,
        isolation: Isolation,
    ) -> Watching {
        self.next_id += 1;
        let id = self.next_id;
        self.watches.push(Watch { id, waiter: Rc::clone(waiter), from, isolation });
        Watching { partition, id }
    }

    fn remove(&mut self, id: u64) {
        self.watches.retain(|watch| watch.id != id);
        // Thousands of partitions had many waiters once; a few are usual again and again.
        if self.watches.is_empty() && self.watches.capacity() > WATCHES_KEPT {
            self.watches = Vec::new();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Gives every waiter what has become visible to it.
    pub fn moved(&self, visible: Visible) {
        for watch in &self.watches {
            let upper = match watch.isolation {
                Isolation::ReadUncommitted => visible.high_watermark,
                Isolation::ReadCommitted => visible.last_stable,
            };
            if upper > watch.from {
                watch.waiter.arrived(visible.bytes);
            }
        }
    }

    /// Wakes all: the partition has ended.
    pub fn wake_all(&self) {
        for watch in &self.watches {
            watch.waiter.wake();
        }
    }
}
