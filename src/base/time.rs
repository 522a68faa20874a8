//! Points in time as values. Reading a clock is the runtime's job.

use std::time::Duration;

/// Milliseconds since 1970 in UTC, Kafka's time stamp. Negative values other
/// than −1 ("none") do not occur.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The wire's "no time stamp".
    pub const NONE: UnixMs = UnixMs(-1);

    /// The time `later` after this one, saturating.
    pub fn plus(self, later: Duration) -> UnixMs {
        UnixMs(self.0.saturating_add(later.as_millis().min(i64::MAX as u128) as i64))
    }

    /// The time since `earlier`; zero when it lies ahead (a clock set back).
    pub fn since(self, earlier: UnixMs) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

/// A point of the machine's monotonic clock, in nanoseconds. All cores share the clock,
/// so moments of two cores can be compared. Zero is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The time since `earlier`; zero when it lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
