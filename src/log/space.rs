//! How much of the drive the logs take: never what is reserved for others, and
//! little ahead of need where there is not much.
//!
//! **Reserve.** A drive that is full must not keep a broker from what makes room again, and from
//! starting: topics are deleted by a record in the metadata log, groups commit offsets. So the
//! logs of ordinary topics stop with [`super::LogError::DiskFull`] while some space is left
//! (`log.dir.reserved.bytes`, at most a 32nd of the file system), and *vital* logs go on into it. Half of it
//! may go to what retention waits for, the index files of segments.
//!
//! **Ahead.** A segment gets its space in steps ([`SEGMENT_STEP_BYTES_MIN`] and up), so that writing
//! seldom waits for the file system. With thousands of partitions that would fill a small drive with
//! nothing: what all logs have ahead of their batches is at most a sixteenth of what
//! is free; beyond it a segment gets just the blocks that its next write needs. What was asked for
//! (`preallocate`) may be half of what is free.
//!
//! Both hold for all logs of a drive together. Fifty that ask before any of them has allocated would
//! each be told of the same free space; so what one is granted counts against the others
//! from that moment on, on all cores ([`DriveShare`]).
//!
//! [`SEGMENT_STEP_BYTES_MIN`]: crate::base::limits::SEGMENT_STEP_BYTES_MIN

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Moment;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, Space};

/// Of the file system's size, the most that is reserved.
const RESERVED_PART: u64 = 32;
/// Of what is free, the most that logs have ahead.
const AHEAD_PART: u64 = 16;
/// The same where a topic's option asks for it.
const PREALLOCATED_PART: u64 = 2;

/// How long what was seen of the file system is believed, less what was granted since. Other
/// programs take space as well.
const FRESH: Duration = Duration::from_millis(100);

/// What the cores of the process know of each other's hold on a file system. Touched when space is
/// allocated, not when something is written.
#[derive(Default)]
pub struct DriveShare {
    /// Bytes of all grants there ever were.
    granted: AtomicU64,
    /// Of these, bytes of grants that are over: the file system counts what was taken of them.
    settled: AtomicU64,
    /// Bytes that segments have, or are about to get, ahead of their batches.
    ahead: AtomicU64,
}

/// One per core and drive.
#[derive(Default)]
pub(super) struct DriveSpace {
    /// `log.dir.reserved.bytes`.
    reserved_max: Cell<u64>,
    seen: Cell<Option<Seen>>,
    share: RefCell<Arc<DriveShare>>,
}

/// What the file system said.
#[derive(Clone, Copy)]
struct Seen {
    space: Space,
    at: Moment,
    /// [`DriveShare::settled`] before it was asked: it counts these, and not surely any other.
    settled: u64,
}

/// What a log asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Bytes that its next write needs.
    pub need: u64,
    /// Bytes that it would like on top.
    pub ahead: u64,
    /// A topic's option says that it should have them.
    pub is_asked_for: bool,
    pub purpose: Purpose,
}

/// How far into the reserve a log may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Not at all.
    Batches,
    /// Into half of it: retention waits for these files before it can give up a segment.
    MakesRoom,
    /// As far as it has to: see [`super::LogOptions::is_vital`].
    Vital,
}

impl Purpose {
    /// Of what a log has to write.
    pub fn of(is_vital: bool) -> Purpose {
        if is_vital { Purpose::Vital } else { Purpose::Batches }
    }
}

/// Leave to allocate. Counts against others until it is dropped, which is when the file system has allocated
/// or refused to.
pub(super) struct Grant {
    share: Arc<DriveShare>,
    bytes: u64,
    ahead: Ahead,
}

impl DriveSpace {
    pub fn reserve(&self, bytes: u64) {
        self.reserved_max.set(bytes);
        self.seen.set(None);
    }

    /// Counts together with all that have `share`; with none that has not.
    pub fn share(&self, share: &Arc<DriveShare>) {
        *self.share.borrow_mut() = Arc::clone(share);
        self.seen.set(None);
    }

    /// Of a file system, what is not free for ordinary logs.
    pub fn reserved(&self, space: Space) -> u64 {
        self.reserved_max.get().min(space.total / RESERVED_PART)
    }

    /// What may be allocated in `dir`; `None`: the drive is as good as full. A vital log gets what it needs in any
    /// case: the file system has the last word.
    ///
    /// # Errors
    /// The file system does not say what is free.
    pub async fn ask(&self, disk: &Disk, dir: &Path, want: Want) -> io::Result<Option<Grant>> {
        let fresh = self.seen.get().filter(|seen| clock::moment().since(seen.at) < FRESH);
        if let Some(all) = fresh.and_then(|seen| self.grant(seen, want, true)) {
            return Ok(Some(all));
        }
        // When it is scarce it is looked at each time.
        let share = Arc::clone(&self.share.borrow());
        let settled = share.settled.load(Ordering::Acquire);
        let space = disk.space(dir).await?;
        let seen = Seen { space, at: clock::moment(), settled };
        self.seen.set(Some(seen));
        Ok(self.grant(seen, want, false))
    }

    #[cfg(test)]
    pub fn ahead(&self) -> u64 {
        self.share.borrow().ahead.load(Ordering::Acquire)
    }

    /// Grants everything or, unless `all`, what is needed.
    fn grant(&self, seen: Seen, want: Want, all: bool) -> Option<Grant> {
        let share = Arc::clone(&self.share.borrow());
        let part = if want.is_asked_for { PREALLOCATED_PART } else { AHEAD_PART };
        // First: of two that ask at the same time at least one sees the other.
        let ahead_of_all = share.ahead.fetch_add(want.ahead, Ordering::AcqRel) + want.ahead;
        let mut ahead = Ahead { share: Arc::clone(&share), bytes: want.ahead };
        let reserved = self.reserved(seen.space);
        let there = seen.space.free.saturating_sub(match want.purpose {
            Purpose::Batches => reserved,
            Purpose::MakesRoom => reserved / 2,
            Purpose::Vital => 0,
        });
        let decide = |granted: u64| {
            let free = there.saturating_sub(granted.saturating_sub(seen.settled));
            if want.need + want.ahead <= free && ahead_of_all <= free / part {
                Some(want.need + want.ahead)
            } else {
                (!all && (want.need <= free || want.purpose == Purpose::Vital)).then_some(want.need)
            }
        };
        let mut bytes = 0;
        let granted = share.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, |granted| {
            bytes = decide(granted)?;
            Some(granted + bytes)
        });
        granted.ok()?;
        ahead.keep(bytes - want.need);
        Some(Grant { share, bytes, ahead })
    }
}

impl Grant {
    /// Bytes that may be allocated.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file system has allocated, and a segment has so many bytes of it ahead now, at most what was granted.
    pub fn taken(mut self, ahead: u64) -> Ahead {
        self.ahead.keep(ahead);
        Ahead { share: Arc::clone(&self.share), bytes: std::mem::take(&mut self.ahead.bytes) }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.share.settled.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// What a segment had ahead of its batches when it was last given space; until it gets more, is
/// sealed, or is gone.
pub(super) struct Ahead {
    share: Arc<DriveShare>,
    bytes: u64,
}

impl Ahead {
    /// Gives up all but `bytes`.
    fn keep(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.share.ahead.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
        self.bytes = bytes;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(space: &DriveSpace, free: u64, total: u64) -> Seen {
        let settled = space.share.borrow().settled.load(Ordering::Acquire);
        Seen { space: Space { free: free * MIB, total: total * MIB }, at: clock::moment(), settled }
    }

    fn want(need: u64, ahead: u64) -> Want {
        Want { need: need * MIB, ahead: ahead * MIB, is_asked_for: false, purpose: Purpose::Batches }
    }

    #[test]
    fn ordinary_logs_leave_the_reserve_and_little_is_taken_ahead() {
        let space = DriveSpace::default();
        space.reserve(64 * MIB);
        let judge =
            |free, total, want| space.grant(of(&space, free, total), want, false).map(|grant| grant.bytes / MIB);
        let vital = |want| Want { purpose: Purpose::Vital, ..want };
        let makes_room = |want| Want { purpose: Purpose::MakesRoom, ..want };
        // A large drive: all of the reserve stays.
        assert_eq!(judge(65, 100_000, want(2, 0)), None);
        assert_eq!(judge(65, 100_000, vital(want(2, 0))), Some(2));
        assert_eq!(judge(34, 100_000, makes_room(want(2, 0))), Some(2));
        assert_eq!(judge(33, 100_000, makes_room(want(2, 0))), None);
        assert_eq!(judge(80, 100_000, want(2, 1)), Some(3));
        assert_eq!(judge(80, 100_000, want(2, 2)), Some(2));
        assert_eq!(judge(80, 100_000, Want { is_asked_for: true, ..want(2, 8) }), Some(10));
        assert_eq!(judge(80, 100_000, Want { is_asked_for: true, ..want(2, 9) }), Some(2));
        // Of a small one a 32nd.
        assert_eq!(judge(9, 320, want(0, 0)), Some(0));
        assert_eq!(judge(10, 320, want(1, 0)), None);
        assert_eq!(judge(0, 320, vital(want(1, 1))), Some(1));
        // What is ahead counts until it is used or gone.
        assert_eq!(judge(1600, 6400, want(1, 16)), Some(17));
        let first = space.grant(of(&space, 1600, 6400), want(10, 90), false).unwrap().taken(90 * MIB);
        assert_eq!(judge(1600, 6400, want(1, 16)), Some(1));
        drop(first);
        assert_eq!(judge(1600, 6400, want(1, 16)), Some(17));
        // And what was not taken of it does not.
        drop(space.grant(of(&space, 1600, 6400), want(0, 96), false).unwrap().taken(80 * MIB));
        assert_eq!(space.ahead(), 0);
    }

    #[test]
    fn what_one_core_was_granted_no_other_gets() {
        const CORES: u64 = 64;
        let share = Arc::new(DriveShare::default());
        let spaces: Vec<_> = (0..CORES).map(|_| DriveSpace::default()).collect();
        spaces.iter().for_each(|space| space.share(&share));
        // All have asked the file system at the same moment.
        let seen = of(&spaces[0], 1600, 6400);
        let granted: Vec<_> = spaces.iter().map(|space| space.grant(seen, want(0, 10), false).unwrap()).collect();
        assert!(granted.iter().map(Grant::bytes).sum::<u64>() <= 100 * MIB);
        assert_eq!(spaces[0].ahead(), granted.iter().map(Grant::bytes).sum::<u64>());
        let needed: Vec<_> = spaces.iter().filter_map(|space| space.grant(seen, want(100, 0), false)).collect();
        let all = needed.iter().chain(&granted).map(Grant::bytes).sum::<u64>();
        assert!((1500 * MIB..=1600 * MIB).contains(&all), "{all} bytes were granted");
        // The file system counts what is over: nothing is counted twice when it was asked after that.
        drop((granted, needed));
        assert!(spaces[1].grant(seen, want(1600, 0), false).is_none(), "it was asked before that");
        assert!(spaces[1].grant(of(&spaces[1], 100, 6400), want(100, 0), false).is_some());
    }
}
