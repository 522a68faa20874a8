//! The pacing of an open loop: when each request is meant to leave, whatever the
//! broker does. Latency is counted from that moment, so a broker that stalls is
//! charged for the requests that had to wait, not only for the one it held
//! (coordinated omission).

use std::time::{Duration, Instant};

/// The intended send times of one connection: evenly spaced, fixed in advance.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    /// Nanoseconds between two requests; a fraction keeps high rates exact.
    gap_ns: f64,
}

impl Schedule {
    /// `requests_per_second` is above zero. `phase` (0 to 1) shifts the whole
    /// schedule by that part of a gap, so that several connections interleave.
    pub fn new(start: Instant, requests_per_second: f64, phase: f64) -> Schedule {
        let gap_ns = 1e9 / requests_per_second;
        Schedule { start: start + Duration::from_nanos((gap_ns * phase) as u64), gap_ns }
    }

    /// When request `index` (from 0) is meant to leave.
    pub fn due(&self, index: u64) -> Instant {
        self.start + Duration::from_nanos((index as f64 * self.gap_ns) as u64)
    }

    /// How many requests are meant to leave before `end`.
    pub fn count_until(&self, end: Instant) -> u64 {
        let span = end.saturating_duration_since(self.start).as_nanos() as f64;
        (span / self.gap_ns).ceil() as u64
    }
}

/// The last stretch before a send is not slept through: an idle CPU wakes late
/// (25 to 50 µs on a virtual machine), and that would count as the broker's.
const AWAKE_BEFORE: Duration = Duration::from_micros(60);
const AWAKE_BEFORE_MIN: Duration = Duration::from_micros(5);

/// How late this thread wakes from its sleeps, as it was seen so far: a quiet CPU that idles lightly wakes within a few
/// microseconds, and then hardly anything has to be waited through awake.
#[derive(Clone, Copy, Debug)]
pub struct Oversleep(Duration);

impl Oversleep {
    pub fn unknown() -> Oversleep {
        Oversleep(AWAKE_BEFORE / 2)
    }

    /// It woke so much too late. What is longer than the longest stretch says that others had the CPU.
    pub fn observe(&mut self, late: Duration) {
        let late = late.min(AWAKE_BEFORE);
        self.0 = (self.0 * 15 + late) / 16;
    }

    /// How long before a send the thread stays awake.
    pub fn awake_before(self) -> Duration {
        (self.0 * 2).clamp(AWAKE_BEFORE_MIN, AWAKE_BEFORE)
    }
}

/// Waits until `due`: sleeps, and for the last stretch hands the CPU to whoever
/// else of the client wants it without going to sleep.
pub fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > AWAKE_BEFORE {
        std::thread::sleep(left - AWAKE_BEFORE);
    }
    while Instant::now() < due {
        std::thread::yield_now();
    }
}

/// Asks the kernel to wake this thread without the usual 50 µs of slack. Best
/// effort: without it, sleeps end later, and the result shows it as lateness.
pub fn sharpen_timer() {
    let Ok(own) = std::fs::read_link("/proc/thread-self") else { return };
    if let Some(thread) = own.file_name().and_then(|name| name.to_str()) {
        let _ = std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_do_not_drift() {
        let start = Instant::now();
        // A rate whose gap is no whole number of nanoseconds.
        let schedule = Schedule::new(start, 300_000.0, 0.0);
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(300_000 * 60) - start, Duration::from_secs(60));
        assert_eq!(schedule.count_until(start + Duration::from_secs(2)), 600_000);
        assert_eq!(schedule.count_until(start), 0);
    }

    #[test]
    fn who_wakes_in_time_need_not_stay_awake() {
        let mut oversleep = Oversleep::unknown();
        assert_eq!(oversleep.awake_before(), AWAKE_BEFORE);
        (0..200).for_each(|_| oversleep.observe(Duration::from_micros(4)));
        let awake = oversleep.awake_before();
        assert!(awake > Duration::from_micros(5) && awake < Duration::from_micros(10), "{awake:?}");
        // A second without a CPU is no reason to stay awake longer than ever.
        (0..200).for_each(|_| oversleep.observe(Duration::from_secs(1)));
        assert_eq!(oversleep.awake_before(), AWAKE_BEFORE);
        (0..200).for_each(|_| oversleep.observe(Duration::ZERO));
        assert_eq!(oversleep.awake_before(), AWAKE_BEFORE_MIN);
    }

    #[test]
    fn phases_interleave() {
        let start = Instant::now();
        let second = Schedule::new(start, 1000.0, 0.5);
        assert_eq!(second.due(0) - start, Duration::from_micros(500));
        assert_eq!(second.due(2) - start, Duration::from_micros(2500));
    }
}
