//! Draining: a consumer that comes late reads from the beginning while producers
//! go on. It has caught up when it holds as many records as were there before and
//! have been acknowledged since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::batches::Fetched;
use crate::consume::Visitor;
use crate::end_to_end::Ending;
use crate::run::{Progress, Window};

/// When the consumers, together, had caught up.
pub struct CaughtUp<'a> {
    /// Records that were there when they came.
    backlog: u64,
    /// Where the producers count what was acknowledged since.
    produced: &'a Progress,
    read: AtomicU64,
    /// On the run's clock; `u64::MAX` before.
    at_ns: AtomicU64,
    /// Records read until then.
    read_until: AtomicU64,
}

impl<'a> CaughtUp<'a> {
    pub fn new(backlog: u64, produced: &'a Progress) -> CaughtUp<'a> {
        CaughtUp {
            backlog,
            produced,
            read: AtomicU64::new(0),
            at_ns: AtomicU64::new(u64::MAX),
            read_until: AtomicU64::new(0),
        }
    }

    pub fn at_ns(&self) -> &AtomicU64 {
        &self.at_ns
    }

    /// Records read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// How long it took, and how many records were read meanwhile.
    pub fn time(&self) -> Option<(Duration, u64)> {
        let at = self.at_ns.load(Ordering::Acquire);
        (at != u64::MAX).then(|| (Duration::from_nanos(at), self.read_until.load(Ordering::Acquire)))
    }

    /// `records` more were read by `now`.
    fn add(&self, records: u64, now_ns: u64) {
        let read = self.read.fetch_add(records, Ordering::AcqRel) + records;
        let there = self.backlog + self.produced.records.load(Ordering::Acquire);
        if read >= there && self.at_ns.load(Ordering::Acquire) == u64::MAX {
            // Of several that see it at once, the first has it.
            let first = self.at_ns.compare_exchange(u64::MAX, now_ns, Ordering::AcqRel, Ordering::Acquire);
            if first.is_ok() {
                self.read_until.store(read, Ordering::Release);
            }
        }
    }
}

/// One of the consumers.
pub struct Catching<'a> {
    caught_up: &'a CaughtUp<'a>,
    ending: &'a Ending,
}

impl<'a> Catching<'a> {
    pub fn new(caught_up: &'a CaughtUp<'a>, ending: &'a Ending) -> Catching<'a> {
        Catching { caught_up, ending }
    }
}

impl Visitor for Catching<'_> {
    fn batch(&mut self, window: &Window, batch: &Fetched<'_>, now: Instant) {
        self.caught_up.add(batch.records(), window.clock(now));
    }

    fn is_over(&mut self, _: &Window, _: Instant) -> bool {
        self.ending.is_near()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_up_is_when_all_that_was_acknowledged_is_read() {
        let produced = Progress::default();
        let caught_up = CaughtUp::new(100, &produced);
        caught_up.add(90, 5);
        produced.add(20, 0);
        caught_up.add(20, 6);
        // 110 of 120.
        assert_eq!((caught_up.time(), caught_up.read()), (None, 110));
        caught_up.add(10, 7);
        produced.add(50, 0);
        caught_up.add(50, 9);
        // Falling behind again and catching up once more changes nothing.
        assert_eq!(caught_up.time(), Some((Duration::from_nanos(7), 120)));
        assert_eq!(caught_up.read(), 170);
    }
}
