//! How fast cleaning may read and write (`log.cleaner.io.max.bytes.per.second`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::runtime::clock;

/// A clean that is told to stop learns of it within this time.
const NAP: Duration = Duration::from_millis(50);

/// Lets so many bytes per second pass, over all cleans of a core.
pub(super) struct Pace {
    /// It may change while a clean waits.
    bytes_per_second: Box<dyn Fn() -> f64>,
    /// When what has passed so far has had its time.
    due: Cell<Option<Instant>>,
}

impl Pace {
    pub fn new(bytes_per_second: impl Fn() -> f64 + 'static) -> Pace {
        Pace { bytes_per_second: Box::new(bytes_per_second), due: Cell::new(None) }
    }

    /// Takes bytes that were read or written into account, and waits until the next may be;
    /// no longer than until `goes_on` says no, or there is another rate.
    pub async fn passed<E>(&self, bytes: usize, mut goes_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let rate = (self.bytes_per_second)();
        let time = bytes as f64 / rate;
        let now = clock::now();
        // Far more than a day at once is as good as for ever; the next check of `goes_on` comes anyway.
        let time = Duration::from_secs_f64(if time.is_finite() { time.clamp(0.0, 86_400.0) } else { 86_400.0 });
        let due = self.due.get().map_or(now, |due| due.max(now)) + time;
        self.due.set(Some(due));
        loop {
            goes_on()?;
            if (self.bytes_per_second)() != rate {
                // What has passed had its time at another.
                self.due.set(None);
                return Ok(());
            }
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
    use std::rc::Rc;

    use super::*;
    use crate::runtime::run_one;

    #[test]
    fn so_much_passes_in_a_second_and_who_is_told_to_stop_stops() {
        run_one(async {
            let fast = Pace::new(|| f64::MAX);
            for _ in 0..1000 {
                fast.passed(usize::MAX, || Ok::<(), ()>(())).await.unwrap();
            }
            let rate = Rc::new(Cell::new(1e6));
            let asked = Rc::clone(&rate);
            let pace = Pace::new(move || asked.get());
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
            // Another rate counts at once.
            let slow = pace.passed(3_600_000_000, || Ok::<(), ()>(()));
            let faster = async {
                clock::sleep(Duration::from_millis(1)).await;
                rate.set(1e12);
            };
            let (passed, ()) = futures_lite::future::zip(slow, faster).await;
            assert_eq!((passed, pace.due.get()), (Ok(()), None));
            pace.passed(1_000_000, || Ok::<(), ()>(())).await.unwrap();
        });
    }
}
