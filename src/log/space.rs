//! How much of the drive the logs of a core take: never what is reserved for others, and
//! little ahead of need where there is not much.
//!
//! **Reserve.** A drive that is full must not keep a broker from what makes room again, and from
//! starting: topics are deleted by a record in the metadata log, groups commit offsets. So the
//! logs of ordinary topics stop with [`super::LogError::DiskFull`] while some space is left
//! (`log.dir.reserved.bytes`, at most a 32nd of the file system), and *vital* logs go on into it.
//!
//! **Ahead.** A segment gets its space in steps ([`SEGMENT_STEP_BYTES_MIN`] and up), so that writing
//! seldom waits for the file system. With thousands of partitions that would fill a small drive with
//! nothing: what all logs of the core have ahead of their batches is at most a sixteenth of what
//! is free; beyond it a segment gets just the blocks that its next write needs.
//!
//! [`SEGMENT_STEP_BYTES_MIN`]: crate::base::limits::SEGMENT_STEP_BYTES_MIN

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Moment;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, Space};

/// Of the file system's size, the most that is reserved.
const RESERVED_PART: u64 = 32;
/// Of what is free, the most that logs have ahead.
const AHEAD_PART: u64 = 16;

/// How long what was seen of the file system is believed, less what was taken since. Other cores
/// and programs take space as well.
const FRESH: Duration = Duration::from_millis(100);

/// One per core and drive.
#[derive(Default)]
pub(super) struct DriveSpace {
    /// `log.dir.reserved.bytes`.
    reserved_max: Cell<u64>,
    seen: Cell<Option<(Space, Moment)>>,
    ahead: Cell<u64>,
}

/// What a log may allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    /// As much as it likes.
    Step,
    /// Only what its next write needs.
    Need,
    /// Nothing: the drive is as good as full.
    Nothing,
}

impl DriveSpace {
    pub fn reserve(&self, bytes: u64) {
        self.reserved_max.set(bytes);
        self.seen.set(None);
    }

    /// What may be allocated in `dir` by a log whose next write needs `need` bytes more, and which
    /// would like `ahead` bytes on top.
    ///
    /// # Errors
    /// The file system does not say what is free.
    pub async fn ask(&self, disk: &Disk, dir: &Path, need: u64, ahead: u64, is_vital: bool) -> io::Result<Allowed> {
        let fresh = self.seen.get().filter(|(_, at)| clock::moment().since(*at) < FRESH);
        let space = match fresh {
            Some((space, _)) if self.judge(space, need, ahead, is_vital) == Allowed::Step => space,
            // When it is scarce it is looked at each time.
            _ => {
                let space = disk.space(dir).await?;
                self.seen.set(Some((space, clock::moment())));
                space
            }
        };
        Ok(self.judge(space, need, ahead, is_vital))
    }

    #[cfg(test)]
    pub fn ahead(&self) -> u64 {
        self.ahead.get()
    }

    fn judge(&self, space: Space, need: u64, ahead: u64, is_vital: bool) -> Allowed {
        let reserved = self.reserved_max.get().min(space.total / RESERVED_PART);
        let free = if is_vital { space.free } else { space.free.saturating_sub(reserved) };
        // The file system has the last word: a vital log tries in any case.
        if free < need && !is_vital {
            Allowed::Nothing
        } else if self.ahead.get() + ahead <= free / AHEAD_PART {
            Allowed::Step
        } else {
            Allowed::Need
        }
    }

    /// Takes note that a log has allocated `bytes`, of which `ahead` are ahead of its need.
    pub fn took(self: &Rc<Self>, bytes: u64, ahead: u64) -> Ahead {
        if let Some((mut space, at)) = self.seen.get() {
            space.free = space.free.saturating_sub(bytes);
            self.seen.set(Some((space, at)));
        }
        self.ahead.set(self.ahead.get() + ahead);
        Ahead { space: Rc::clone(self), bytes: ahead }
    }
}

/// What a segment had ahead of its batches when it was last given space; until it gets more, is
/// sealed, or is gone.
pub(super) struct Ahead {
    space: Rc<DriveSpace>,
    bytes: u64,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.space.ahead.set(self.space.ahead.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ordinary_logs_leave_the_reserve_and_little_is_taken_ahead() {
        let space = Rc::new(DriveSpace::default());
        space.reserve(64 * MIB);
        let of = |free: u64, total: u64| Space { free: free * MIB, total: total * MIB };
        // A large drive: all of the reserve stays.
        assert_eq!(space.judge(of(65, 100_000), 2 * MIB, 0, false), Allowed::Nothing);
        assert_eq!(space.judge(of(65, 100_000), 2 * MIB, 0, true), Allowed::Step);
        assert_eq!(space.judge(of(80, 100_000), 2 * MIB, 0, false), Allowed::Step);
        assert_eq!(space.judge(of(80, 100_000), 2 * MIB, 2 * MIB, false), Allowed::Need);
        // Of a small one a 32nd.
        assert_eq!(space.judge(of(9, 320), 0, 0, false), Allowed::Step);
        assert_eq!(space.judge(of(10, 320), MIB, 0, false), Allowed::Nothing);
        assert_eq!(space.judge(of(0, 320), MIB, MIB, true), Allowed::Need);
        // What is ahead counts until it is used or gone.
        assert_eq!(space.judge(of(1600, 6400), MIB, 16 * MIB, false), Allowed::Step);
        let first = space.took(100 * MIB, 90 * MIB);
        assert_eq!(space.judge(of(1600, 6400), MIB, 16 * MIB, false), Allowed::Need);
        drop(first);
        assert_eq!(space.judge(of(1600, 6400), MIB, 16 * MIB, false), Allowed::Step);
    }
}
