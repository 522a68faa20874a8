//! Putting a new segment in the place of those it was written from
//! (`UnifiedLog.replaceSegments`), safe at every cut.
//!
//! ```text
//! 1. NEW.log.cleaned, its indexes .cleaned     all durable                    an opening removes them
//! 2. renamed to .swap, the log first           then the directory is synced    an opening goes on from here
//! 3. readers see the new segment
//! 4. the old files renamed to .deleted         then the directory is synced
//! 5. NEW.log.swap to NEW.log                   then the directory is synced
//! 6. its indexes renamed as well               then the directory is synced
//! 7. the .deleted files go after `file.delete.delay.ms`
//! ```
//!
//! The syncs between make a power cut leave one of these states and no mixture: an old segment beside a new one that
//! covers it would be the same offsets twice, and an index beside a log that it is not of would be
//! believed. `docs/recovery.md` has a row for each.
//!
//! From 3 to 6 the new segment is not where its name says: its file stays open and its indexes in memory.
//! Who reads an old one finds that it was replaced, and looks again.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Offset;
use crate::runtime::clock;
use crate::runtime::disk::Open;

use super::super::names::{self, CLEANED, DELETED, LOG, OFFSET_INDEX, SWAP, TIME_INDEX, TRANSACTION_INDEX};
use super::super::segment::{Segment, youngest_of};
use super::super::{Condition, error::describe, retention};
use super::plan::Group;
use super::rewrite::failed;
use super::{CleanError, LOST, Run};

/// A new segment whose files are durable, as `.cleaned`.
pub(super) struct New {
    pub segment: Segment,
    /// Which files there are, the log first.
    pub kinds: Vec<&'static str>,
    /// The markers of aborted transactions that its index has.
    pub markers: Vec<Offset>,
}

impl Run<'_> {
    /// Steps 2 to 7.
    pub(super) async fn swap_in(&mut self, group: &Group, new: New) -> Result<(), CleanError> {
        let log = self.log;
        let dir = log.dir();
        let base = new.segment.base;
        let turns = Rc::clone(&log.memory().turns);
        self.goes_on()?;
        let name = |kind: &str, suffix: &str| dir.join(names::file_name(base, kind) + suffix);

        // Until readers see it everything can be taken back.
        let mut swapped = Vec::new();
        let prepared = async {
            for kind in &new.kinds {
                let (from, to) = (name(kind, CLEANED), name(kind, SWAP));
                log.disk.rename(&from, &to).await.map_err(|error| failed(self, "rename", &from, &error))?;
                swapped.push(*kind);
            }
            let synced = turns.sync(log.disk.sync_dir(&dir)).await;
            synced.map_err(|error| failed(self, "sync", &dir, &error))?;
            let path = name(LOG, SWAP);
            log.disk.open(&path, Open::READ_ONLY).await.map_err(|error| failed(self, "open", &path, &error))
        };
        let replaced = match prepared.await {
            Ok(file) => self.show(group, new.segment, file),
            Err(error) => Err(error),
        };
        let segment = match replaced {
            Ok(segment) => {
                self.tell(base, &new.markers);
                segment
            }
            Err(error) => {
                self.take_back(&swapped, &name).await?;
                return Err(error);
            }
        };
        if let Err((what, error)) = self.finish_swap(group, &new.kinds).await {
            // Files and memory tell of different segments: the next opening makes them agree.
            log.fail(describe(what, &dir, &error));
            return Err(CleanError::GivenUp("the log has ended"));
        }
        segment.set_pinned(false);
        log.trim_sealed();
        Ok(())
    }

    /// Who lists aborted transactions forgets those of which nothing is left. Before anybody reads.
    fn tell(&self, base: Offset, markers: &[Offset]) {
        let next = {
            let state = self.log.state.borrow();
            state.segments.get(state.segment_of(base) + 1).map_or(Offset(i64::MAX), |next| next.base)
        };
        if let Some(observer) = self.log.observer() {
            observer.compacted(base, next, markers);
        }
    }

    /// A swap that nobody has seen: the files are `.cleaned` again, the log first. As long as one of them is an opening takes
    /// the others back as well; as long as none is it completes the swap, which is as right.
    async fn take_back(
        &self,
        swapped: &[&'static str],
        name: &impl Fn(&str, &str) -> std::path::PathBuf,
    ) -> Result<(), CleanError> {
        let log = self.log;
        let taken = async {
            for kind in swapped {
                log.disk.rename(&name(kind, SWAP), &name(kind, CLEANED)).await?;
            }
            log.disk.sync_dir(&log.dir()).await
        };
        if let Err(error) = taken.await {
            // A swap file that stays would replace what is written from now on.
            log.fail(describe("take back a swap in", &log.dir(), &error));
        }
        Ok(())
    }

    /// Step 3: the new segment takes the place of the old ones. Nothing waits here.
    fn show(
        &mut self,
        group: &Group,
        segment: Segment,
        file: crate::runtime::disk::File,
    ) -> Result<Rc<Segment>, CleanError> {
        let log = self.log;
        let mut state = log.state.borrow_mut();
        if !matches!(state.condition, Condition::Online | Condition::Full) {
            return Err(CleanError::GivenUp("the log has ended"));
        }
        let (base, count) = (group.segments[0].base, group.segments.len());
        let at = state.segment_of(base);
        let there = state.segments.range(at..).take(count);
        let same = there.len() == count && there.zip(&group.segments).all(|(one, other)| Rc::ptr_eq(one, other));
        if !same || base < state.given_up {
            return Err(LOST);
        }
        let created = segment.created;
        let shown = Rc::new(Segment::found(base, segment.size(), created));
        if let Some(first) = segment.first_timestamp() {
            shown.set_first_timestamp(first);
        }
        let indexes = segment.take_indexes();
        let youngest = youngest_of(&indexes, base);
        shown.set_indexes(indexes, youngest);
        shown.set_file(file);
        shown.set_pinned(true);
        log.touch(&shown);
        for old in &group.segments {
            old.set_replaced();
        }
        drop(state.segments.drain(at..at + count));
        state.segments.insert(at, Rc::clone(&shown));
        // Snapshots of offsets where no segment begins any more go when no recovery point needs them.
        let without: Vec<_> = group.segments[1..].iter().map(|old| old.base).collect();
        state.points.add_snapshots(&without);
        // What is in memory is served as it was appended: what is gone must not be.
        let kept = group.end.min(state.kept_from());
        let (mut count, mut bytes) = (0, 0);
        while let Some(dropped) = state.tail.drop_oldest(kept) {
            count += 1;
            bytes += dropped;
        }
        drop(state);
        log.memory().forget(log, count, bytes);
        // Places in the old files say nothing of the new one.
        log.extents.forget_segments(&group.segments);
        Ok(shown)
    }

    /// Steps 4 to 7.
    async fn finish_swap(&self, group: &Group, kinds: &[&'static str]) -> Result<(), (&'static str, io::Error)> {
        let log = self.log;
        let dir = log.dir();
        for old in &group.segments {
            drop(old.take_file());
            // Somebody may be writing an index file of it, under the name that is needed. Seldom, and soon done.
            while old.is_rebuilding() {
                clock::sleep(Duration::from_millis(1)).await;
            }
        }
        let turns = Rc::clone(&log.memory().turns);
        let sync = async || turns.sync(log.disk.sync_dir(&dir)).await.map_err(|error| ("sync", error));
        let mut deleted = Vec::new();
        for old in &group.segments {
            for kind in [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX] {
                let from = dir.join(names::file_name(old.base, kind));
                let to = dir.join(names::file_name(old.base, kind) + DELETED);
                match log.disk.rename(&from, &to).await {
                    Ok(()) => deleted.push(to),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(("rename an old segment in", error)),
                }
            }
        }
        sync().await?;
        let base = group.segments[0].base;
        for (at, kind) in kinds.iter().enumerate() {
            let to = dir.join(names::file_name(base, kind));
            let from = dir.join(names::file_name(base, kind) + SWAP);
            log.disk.rename(&from, &to).await.map_err(|error| ("rename a new segment in", error))?;
            if at == 0 {
                sync().await?;
            }
        }
        sync().await?;
        let delay = log.state.borrow().config.file_delete_delay_ms;
        retention::remove_later(&log.disk, deleted, delay).await;
        Ok(())
    }
}
