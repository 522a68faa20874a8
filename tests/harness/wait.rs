//! Waiting for a condition, with a deadline and a sentence that says what did not happen.

use std::time::{Duration, Instant};

/// Between two looks at a condition that cannot wake us.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The longest that anything may take which normally takes a moment: the machine may be busy with other tests, and a
/// limit is there to end what hangs, not to judge what is slow.
pub const PATIENCE: Duration = seconds(60);

/// Calls `look` until it gives something. Panics with `what` after `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Calls `look` for the whole of `span`, a time in which something must not happen (or must be measured).
pub fn throughout(span: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        look();
        std::thread::sleep(LOOK_AGAIN);
    }
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
