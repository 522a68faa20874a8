//! The three kinds of values. Each belongs to one core.

use std::cell::{Cell, RefCell};
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

/// A distribution of durations: two digits from 1 µs to a minute; what is longer
/// counts as a minute. About 20 KiB, allocated with the first value.
#[derive(Debug, Default)]
pub struct Timing(RefCell<Option<Histogram<u64>>>);

/// Shorter durations fall into one bucket: no stage that matters is shorter.
const SHORTEST_NS: u64 = 1_000;
const LONGEST_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 2;

impl Timing {
    pub fn record(&self, duration: Duration) {
        let ns = duration.as_nanos().min(u128::from(LONGEST_NS)) as u64;
        self.0.borrow_mut().get_or_insert_with(empty).saturating_record(ns);
    }

    pub fn count(&self) -> u64 {
        self.0.borrow().as_ref().map_or(0, Histogram::len)
    }

    /// A copy of the distribution, in nanoseconds; `None` before the first value.
    pub fn distribution(&self) -> Option<Histogram<u64>> {
        self.0.borrow().clone()
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS).expect("the bounds are valid")
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
    }
}
