//! Time: the clocks, sleeping, and waiting with a limit.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use crate::base::UnixMs;

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock in milliseconds since 1970.
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sleeps on this core for at least `duration`.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Sleeps until `deadline`; returns at once when it has passed.
pub async fn sleep_until(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        sleep(left).await;
    }
}

/// The result of `future`, or `None` when `limit` passes first; the future is
/// dropped then.
///
/// For futures that wait within the core (`base::wait`, flags, timers, sockets).
/// Not for the mesh, accept or disk operations: dropping those leaves an
/// operation under way whose outcome nobody learns. Put the deadline into the
/// task that waits for them instead.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(glommio::timer::sleep(limit));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}
