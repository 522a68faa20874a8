//! Time: the clocks, sleeping, and waiting with a limit.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::reactor;
#[cfg(test)]
use super::simulation;
use crate::base::{Moment, UnixMs};

/// The monotonic clock.
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulation::now() {
        return now;
    }
    Instant::now()
}

/// The monotonic clock as a plain number: for what is stamped with every request. It costs
/// a few tens of nanoseconds; the cycle counter, read directly, is hardly cheaper and would
/// have to be calibrated.
pub fn moment() -> Moment {
    #[cfg(test)]
    if let Some(since) = simulation::elapsed() {
        return Moment(since.as_nanos() as u64);
    }
    Moment(read(libc::CLOCK_MONOTONIC))
}

/// The monotonic clock as it was when the present task got its turn: for what need not be known
/// better than to a slice ([`crate::base::limits::SLICE_US_MAX`], usually microseconds). Costs next to nothing;
/// outside of a core it is [`moment`].
pub fn turn_began() -> Moment {
    reactor::turn_began().unwrap_or_else(moment)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to that local. The call fails for unknown clocks only.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The wall clock in milliseconds since 1970.
pub fn unix_ms() -> UnixMs {
    #[cfg(test)]
    if let Some(now) = simulation::unix_ms() {
        return now;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sleeps on this core for at least `duration`.
pub async fn sleep(duration: Duration) {
    sleep_until(now() + duration).await;
}

/// Sleeps until `deadline`; returns at once when it has passed.
pub async fn sleep_until(deadline: Instant) {
    reactor::sleep_until(deadline).await;
}

/// The result of `future`, or `None` when `limit` passes first; the future is
/// dropped then.
///
/// For futures that wait within the core (`base::wait`, flags, timers, sockets).
/// Not for the mesh or disk operations: dropping those leaves an operation under
/// way whose outcome nobody learns. Put the deadline into the task that waits for
/// them instead.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(reactor::sleep_until(now() + limit));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
