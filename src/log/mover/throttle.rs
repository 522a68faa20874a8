//! How fast logs may go to other directories (`replica.alter.log.dirs.io.max.bytes.per.second`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::limits::{BLOCK_BYTES, LOG_WRITE_BYTES_MAX};
use crate::runtime::clock;

/// A move that is told to stop, or may go faster, learns of it within this time.
const NAP: Duration = Duration::from_millis(50);

/// The least that is copied in one go: a slow move is one of more pauses, up to here.
const PIECE_MIN: u64 = 16 << 10;

/// So many pieces make a second's worth.
const PIECES_PER_SECOND: u64 = 4;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Lets so many bytes per second pass, over all moves of all cores: the one thing that they share.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: AtomicU64,
    /// When what has passed so far has had its time, by the process's clock.
    due_ns: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { bytes_per_second: AtomicU64::new(Throttle::NONE), due_ns: AtomicU64::new(0) }
    }
}

impl Throttle {
    /// No bound.
    pub const NONE: u64 = i64::MAX as u64;

    /// Changes the bound; 0: nothing moves. What is under way takes it up soon, and owes nothing for what has passed.
    pub fn set(&self, bytes_per_second: u64) {
        if self.bytes_per_second.swap(bytes_per_second, Ordering::Relaxed) != bytes_per_second {
            self.due_ns.store(0, Ordering::Relaxed);
        }
    }

    fn rate(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// How much is to be copied before [`Throttle::passed`]: whole blocks.
    pub(super) fn piece(&self) -> u64 {
        let piece = (self.rate() / PIECES_PER_SECOND).clamp(PIECE_MIN, LOG_WRITE_BYTES_MAX as u64);
        piece - piece % BLOCK_BYTES as u64
    }

    /// Takes bytes that were copied into account, and waits until more may be; no longer than until `goes_on` says no.
    pub(super) async fn passed<E>(&self, bytes: u64, mut goes_on: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let rate = self.rate();
        if rate >= Throttle::NONE {
            return goes_on();
        }
        let time = u128::from(bytes) * NANOS_PER_SECOND / u128::from(rate.max(1));
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let now = clock::moment().0;
        let later = |due: u64| due.max(now).saturating_add(time);
        let before = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(later(due)));
        let due = later(before.unwrap_or_else(|due| due));
        loop {
            goes_on()?;
            let now = clock::moment().0;
            if self.rate() != rate {
                // It may have been added by the old bound after that was changed.
                self.due_ns.fetch_min(now, Ordering::Relaxed);
                return Ok(());
            }
            let left = Duration::from_nanos(due.saturating_sub(now));
            // A timer is no finer; what is left counts for the next.
            if rate > 0 && left < Duration::from_millis(1) {
                return Ok(());
            }
            clock::sleep(left.clamp(Duration::from_millis(1), NAP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::run_one;

    fn on<E>() -> Result<(), E> {
        Ok(())
    }

    #[test]
    fn so_much_passes_in_a_second_of_all_together() {
        run_one(async {
            let throttle = Throttle::default();
            for _ in 0..1000 {
                throttle.passed(u64::MAX, on::<()>).await.unwrap();
            }
            throttle.set(1_000_000);
            let began = clock::now();
            futures_lite::future::zip(pass(&throttle), pass(&throttle)).await;
            assert!(began.elapsed() >= Duration::from_millis(195), "{:?}", began.elapsed());
        });
    }

    async fn pass(throttle: &Throttle) {
        for _ in 0..10 {
            throttle.passed(10_000, on::<()>).await.unwrap();
        }
    }

    #[test]
    fn who_waits_learns_of_another_bound_and_of_its_end() {
        run_one(async {
            let throttle = Throttle::default();
            for slow in [0, 1] {
                throttle.set(slow);
                let mut looks = 0;
                let stopped = throttle.passed(1 << 40, || {
                    looks += 1;
                    if looks > 2 { Err("stop") } else { Ok(()) }
                });
                assert_eq!(stopped.await, Err("stop"));
                let faster = async {
                    clock::sleep(Duration::from_millis(1)).await;
                    throttle.set(1 << 30);
                };
                futures_lite::future::zip(async { throttle.passed(1 << 40, on::<()>).await.unwrap() }, faster).await;
                // Nothing is owed.
                throttle.passed(1, on::<()>).await.unwrap();
            }
        });
    }

    #[test]
    fn a_slow_move_is_one_of_small_pieces() {
        let throttle = Throttle::default();
        for (rate, piece) in [(Throttle::NONE, 1 << 20), (0, 16 << 10), (1_000_000, 249_856), (1 << 30, 1 << 20)] {
            throttle.set(rate);
            assert_eq!(throttle.piece(), piece);
        }
    }
}
