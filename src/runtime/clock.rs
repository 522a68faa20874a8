//! Time: the clocks, sleeping, and waiting with a limit.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::reactor;
use crate::base::{Moment, UnixMs};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The monotonic clock as a plain number: for what is stamped with every request. It costs
/// a few tens of nanoseconds; the cycle counter, read directly, is hardly cheaper and would
/// have to be calibrated.
pub fn moment() -> Moment {
    Moment(read(libc::CLOCK_MONOTONIC))
}

/// The monotonic clock as it was at the kernel's last tick (see [`coarse_tick`]): for
/// what is asked at every turn of every task. A fifth of the cost of [`moment`], which it
/// never runs ahead of.
pub(super) fn coarse() -> Moment {
    Moment(read(libc::CLOCK_MONOTONIC_COARSE))
}

/// By how much [`coarse`] may be behind: 1 to 10 ms, as the kernel was built.
pub(super) fn coarse_tick() -> Duration {
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to that local.
    let failed = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick) } != 0;
    if failed { Duration::from_millis(10) } else { Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32) }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to that local. The call fails for unknown clocks only.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The wall clock in milliseconds since 1970.
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sleeps on this core for at least `duration`.
pub async fn sleep(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
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
    let mut timer = pin!(reactor::sleep_until(Instant::now() + limit));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
