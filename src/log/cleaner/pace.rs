//! How fast cleaning may read and write (`log.cleaner.io.max.bytes.per.second`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::runtime::clock;

/// A clean that is told to stop learns of it within this time.
const NAP: Duration = Duration::from_millis(50);

/// Lets so many bytes per second pass, over all cleans of a core.
pub(super) struct Pace {
    bytes_per_second: f64,
    /// When what has passed so far has had its time.
    due: Cell<Option<Instant>>,
}

impl Pace {
    pub fn new(bytes_per_second: f64) -> Pace {
        Pace { bytes_per_second, due: Cell::new(None) }
    }

    /// Takes bytes that were read or written into account, and waits until the next may be;
    /// no longer than until `goes_on` says no.
    pub async fn passed<E>(&self, bytes: usize, mut goes_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let time = bytes as f64 / self.bytes_per_second;
        let now = clock::now();
        // Far more than a day at once is as good as for ever; the next check of `goes_on` comes anyway.
        let time = Duration::from_secs_f64(if time.is_finite() { time.clamp(0.0, 86_400.0) } else { 86_400.0 });
        let due = self.due.get().map_or(now, |due| due.max(now)) + time;
        self.due.set(Some(due));
        loop {
            goes_on()?;
            let left = due.saturating_duration_since(clock::now());
            // A timer is no finer; what is left counts for the next.
            if left < Duration::from_millis(1) {
                return Ok(());
            }
            clock::sleep(left.min(NAP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::run_one;

    #[test]
    fn so_much_passes_in_a_second_and_who_is_told_to_stop_stops() {
        run_one(async {
            let fast = Pace::new(f64::MAX);
            for _ in 0..1000 {
                fast.passed(usize::MAX, || Ok::<(), ()>(())).await.unwrap();
            }
            let pace = Pace::new(1e6);
            let began = clock::now();
            for _ in 0..20 {
                pace.passed(10_000, || Ok::<(), ()>(())).await.unwrap();
            }
            assert!(began.elapsed() >= Duration::from_millis(195), "{:?}", began.elapsed());
            // An hour's worth, of which nobody waits to the end.
            let mut looks = 0;
            let stopped = pace.passed(3_600_000_000, || {
                looks += 1;
                if looks > 2 { Err("stop") } else { Ok(()) }
            });
            assert_eq!(stopped.await, Err("stop"));
        });
    }
}
