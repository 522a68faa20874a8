//! Deadlines of one coordinator, each under a key; setting a key again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// What a deadline is for. The order breaks ties between equal deadlines, so
/// that the same events give the same effects.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TimerKey {
    /// A member (also one that only has its id so far) has to be heard of.
    Session { group: Rc<str>, member: Rc<str> },
    /// The join phase of a rebalance ends, or its first delay is over.
    Join { group: Rc<str> },
    /// All members must have sent SyncGroup.
    Sync { group: Rc<str> },
    /// The next look for expired offsets and groups.
    Expiry,
}

/// Times are monotonic: the `monotonic` part of [`super::Now`].
#[derive(Default, Debug)]
pub(super) struct Timers {
    /// Holds exactly the pairs of `by_key`, in order of time.
    by_time: BTreeSet<(Duration, TimerKey)>,
    by_key: BTreeMap<TimerKey, Duration>,
}

impl Timers {
    pub fn set(&mut self, key: TimerKey, at: Duration) {
        if let Some(old) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(old, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(old) = self.by_key.remove(key) {
            self.by_time.remove(&(old, key.clone()));
        }
    }

    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that has come.
    pub fn pop_due(&mut self, now: Duration) -> Option<TimerKey> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub fn clear(&mut self) {
        self.by_time.clear();
        self.by_key.clear();
    }

    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = &TimerKey> {
        self.by_key.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(group: &str) -> TimerKey {
        TimerKey::Join { group: group.into() }
    }

    #[test]
    fn deadlines_come_in_order_and_only_once() {
        let ms = Duration::from_millis;
        let mut timers = Timers::default();
        timers.set(join("a"), ms(30));
        timers.set(join("b"), ms(10));
        timers.set(join("c"), ms(20));
        timers.set(join("b"), ms(40));
        timers.cancel(&join("c"));
        timers.cancel(&join("never set"));
        assert_eq!(timers.next(), Some(ms(30)));
        assert_eq!(timers.pop_due(ms(29)), None);
        assert_eq!(timers.pop_due(ms(100)), Some(join("a")));
        assert_eq!(timers.pop_due(ms(100)), Some(join("b")));
        assert_eq!((timers.pop_due(ms(100)), timers.next()), (None, None));
    }
}
