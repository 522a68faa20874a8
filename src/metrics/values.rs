//! The three kinds of values. Each belongs to one core.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts up, from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A level that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(Cell<i64>);

impl Gauge {
    pub fn set(&self, level: i64) {
        self.0.set(level);
    }

    pub fn add(&self, change: i64) {
        self.0.set(self.0.get() + change);
    }

    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// A distribution of durations: within one in a hundred from 1 µs to a minute; what is
/// longer counts as a minute. 13 KiB, allocated with the first value; an HDR histogram is
/// made of it when somebody looks, for counting costs less without.
#[derive(Debug, Default)]
pub struct Timing(OnceCell<Box<Counts>>);

#[derive(Debug)]
struct Counts {
    /// By [`bucket`].
    counts: [Cell<u64>; BUCKETS],
    total: Cell<u64>,
    longest_ns: Cell<u64>,
}

/// Shorter durations fall into one bucket: no stage that matters is shorter.
const SHORTEST_NS: u64 = 1 << SHORTEST_BITS;
const SHORTEST_BITS: u32 = 10;
const LONGEST_NS: u64 = 60_000_000_000;
/// Each doubling of the time is cut into so many buckets, as a power of two; shown by its
/// middle, a value is wrong by one in 128 at most.
const PARTS_BITS: u32 = 6;
const BUCKETS: usize = ((LONGEST_NS.ilog2() - SHORTEST_BITS + 1) << PARTS_BITS) as usize;
const DIGITS: u8 = 2;

/// The bucket of a duration within the bounds.
fn bucket(ns: u64) -> usize {
    let doubling = ns.ilog2();
    let part = (ns >> (doubling - PARTS_BITS)) & ((1 << PARTS_BITS) - 1);
    (((doubling - SHORTEST_BITS) as usize) << PARTS_BITS) + part as usize
}

/// The middle of a bucket.
fn middle_ns(bucket: usize) -> u64 {
    let doubling = SHORTEST_BITS + (bucket >> PARTS_BITS) as u32;
    let part = (bucket & ((1 << PARTS_BITS) - 1)) as u64;
    let width = 1 << (doubling - PARTS_BITS);
    (1 << doubling) + part * width + width / 2
}

impl Timing {
    pub fn record(&self, duration: Duration) {
        self.record_ns(duration.as_nanos().min(u128::from(LONGEST_NS)) as u64);
    }

    /// As [`Timing::record`], for what is done with every request.
    pub(super) fn record_ns(&self, ns: u64) {
        let counts = self.0.get_or_init(Counts::new);
        let ns = ns.clamp(SHORTEST_NS, LONGEST_NS);
        let count = &counts.counts[bucket(ns)];
        count.set(count.get() + 1);
        counts.total.set(counts.total.get() + 1);
        counts.longest_ns.set(counts.longest_ns.get().max(ns));
    }

    pub fn count(&self) -> u64 {
        self.0.get().map_or(0, |counts| counts.total.get())
    }

    /// A copy of the distribution, in nanoseconds; `None` before the first value.
    pub fn distribution(&self) -> Option<Histogram<u64>> {
        let counts = self.0.get()?;
        let mut histogram =
            Histogram::new_with_bounds(SHORTEST_NS / 2, LONGEST_NS, DIGITS).expect("the bounds are valid");
        let longest_ns = counts.longest_ns.get();
        for (at, count) in counts.counts.iter().enumerate().filter(|(_, count)| count.get() > 0) {
            // The longest is known exactly.
            let ns = if at == bucket(longest_ns) { longest_ns } else { middle_ns(at) };
            histogram.saturating_record_n(ns, count.get());
        }
        Some(histogram)
    }
}

impl Counts {
    #[cold]
    fn new() -> Box<Counts> {
        let counts = [const { Cell::new(0) }; BUCKETS];
        Box::new(Counts { counts, total: Cell::new(0), longest_ns: Cell::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_where_they_are_sent() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        counter.add(3);
        counter.add(4);
        gauge.set(10);
        gauge.add(-12);
        assert_eq!((counter.get(), gauge.get()), (7, -2));
    }

    #[test]
    fn timings_keep_two_digits_and_bound_what_they_hold() {
        let timing = Timing::default();
        assert!(timing.distribution().is_none());
        for (given, expected_ns) in [
            (Duration::from_micros(1), 1_000),
            (Duration::from_micros(1234), 1_234_000),
            (Duration::from_secs(3), 3_000_000_000),
            (Duration::from_secs(9_999), LONGEST_NS),
        ] {
            let timing = Timing::default();
            timing.record(given);
            let max = timing.distribution().unwrap().max();
            assert!(max.abs_diff(expected_ns) <= expected_ns / 100 + 1_000, "{given:?} became {max} ns");
        }
        timing.record(Duration::ZERO);
        assert_eq!(timing.count(), 1);
        for us in 1..=1000u64 {
            timing.record(Duration::from_micros(us * us));
        }
        let distribution = timing.distribution().unwrap();
        assert_eq!((timing.count(), distribution.len()), (1001, 1001));
        for (quantile, expected_us) in [(0.1, 100 * 100), (0.5, 500 * 500), (0.99, 990 * 990), (1.0, 1_000_000)] {
            let us = distribution.value_at_quantile(quantile) / 1000;
            assert!(us.abs_diff(expected_us) <= expected_us / 50, "{quantile}: {us} for {expected_us} us");
        }
    }

    #[test]
    fn buckets_lie_side_by_side() {
        assert_eq!((bucket(SHORTEST_NS), bucket(LONGEST_NS) < BUCKETS), (0, true));
        for at in 0..bucket(LONGEST_NS) {
            let middle = middle_ns(at);
            assert_eq!(bucket(middle), at);
            assert!(middle < middle_ns(at + 1) && bucket(middle_ns(at + 1)) == at + 1);
        }
    }
}
