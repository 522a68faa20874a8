//! Giving up what is old: the log start offset, deletion of segments, and deletion of
//! the whole log.
//!
//! Segments go some at a time. That several go is said durably before, by an empty file whose name has the offset where the
//! log is to start: of names that were taken away and not synced a power cut may leave any, and there is to be no gap.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::{Offset, UnixMs};
use crate::runtime::clock;
use crate::runtime::disk::{self, Disk, Open};
use crate::runtime::task::{self, OnPanic, Queue};

use super::error::describe;
use super::names::{DELETED, GIVEN_UP, LOG, OFFSET_INDEX, SNAPSHOT, TIME_INDEX, TRANSACTION_INDEX, file_name};
use super::segment::Segment;
use super::{Condition, Inner, Log, LogError};

/// Segments that go together at most: one flush of the directory is for all of them.
const TOGETHER: usize = 64;

/// What one pass over the oldest segments knows.
struct Pass {
    now: UnixMs,
    committed: Offset,
    /// Bytes of all segments that are left.
    total: u64,
    /// Files that are to be removed.
    renamed: Vec<PathBuf>,
}

/// A segment that is to go, and where the next begins.
struct Oldest {
    segment: Rc<Segment>,
    next_base: Offset,
}

impl Log {
    /// Moves the log start offset up to `offset` (DeleteRecords); readers get nothing
    /// below from now on, segments below go with the next [`Log::retain`]. An offset
    /// below the start changes nothing. Gives the start offset.
    ///
    /// # Errors
    /// `offset` lies behind the log's end.
    pub fn increment_start_offset(&self, offset: Offset) -> Result<Offset, LogError> {
        let mut state = self.0.state.borrow_mut();
        let end = state.progress.appended().offset;
        if offset > end {
            return Err(LogError::OutOfRange { offset, start: state.start, end });
        }
        state.start = state.start.max(offset);
        Ok(state.start)
    }

    /// Deletes segments that `retention.ms`, `retention.bytes` or the log start offset
    /// give up, oldest first (`UnifiedLog.deleteOldSegments`); nothing at or past
    /// `committed`, and no more than `most`. Gives the number deleted.
    ///
    /// The log start moves when the drive has it: a start that somebody has seen does not go back, whatever happens.
    ///
    /// # Errors
    /// A file operation failed; what was not deleted is tried again the next time.
    pub async fn retain(&self, now: UnixMs, committed: Offset, most: usize) -> Result<usize, LogError> {
        let inner = &self.0;
        if std::mem::replace(&mut inner.state.borrow_mut().tasks.retention, true) {
            return Ok(0);
        }
        let mut under_way = UnderWay { log: inner, going: Vec::new() };
        let mut pass = Pass {
            now,
            committed,
            // What is appended meanwhile counts the next time.
            total: self.size_bytes(),
            renamed: Vec::new(),
        };
        let mut deleted = 0;
        let outcome = loop {
            match self.drop_oldest(&mut pass, &mut under_way, (most - deleted).min(TOGETHER)).await {
                (0, outcome) => break outcome,
                (count, Ok(())) => deleted += count,
                (_, Err(error)) => break Err(error),
            }
            task::yield_if_needed().await;
        };
        drop(under_way);
        if !pass.renamed.is_empty() {
            remove_later(&inner.disk, pass.renamed, self.config().file_delete_delay_ms).await;
        }
        outcome.map(|()| deleted)
    }

    /// Where it starts at the next start at the latest: retention may be about to take what is below.
    #[cfg(test)]
    pub fn start_to_come(&self) -> Offset {
        self.start_offset().max(self.0.given_up())
    }

    /// Takes up to `most` segments out of the log; gives how many.
    async fn drop_oldest(
        &self,
        pass: &mut Pass,
        under_way: &mut UnderWay<'_>,
        most: usize,
    ) -> (usize, Result<(), LogError>) {
        let inner = &self.0;
        let (going, mut outcome) = self.choose(pass, most).await;
        let announced = match &going[..] {
            [] => return (0, outcome),
            [_] => Ok(None),
            [first, .., last] => self.announce(last.next_base, &first.segment).await.map(Some),
        };
        let (announced, going) = match announced {
            Ok(announced) => (announced, &going[..]),
            Err(error) if disk::is_full(&error) => {
                // One needs no announcement, and makes room for the next one's.
                if !inner.begins_to_go(&going[0].segment, going[0].next_base) {
                    return (0, outcome);
                }
                pass.total += going[1..].iter().map(|oldest| oldest.segment.size()).sum::<u64>();
                (None, &going[..1])
            }
            Err(error) => return (0, Err(LogError::io("announce a new start in", &self.dir(), &error))),
        };
        let mut first_to_stay = None;
        for Oldest { segment, .. } in going {
            // The log itself first: without it the others are leftovers that an opening removes.
            let taken = self.take_away(segment.base, LOG, pass).await;
            if taken.is_err() {
                outcome = taken;
                first_to_stay = Some(segment);
                break;
            }
            under_way.going.push(Rc::clone(segment));
            task::yield_if_needed().await;
        }
        let dir = self.dir();
        // Without it a power cut could bring them back, and the log start with them.
        if !under_way.going.is_empty()
            && let Err(error) = inner.disk.sync_dir(&dir).await
        {
            // The next time they are found to be gone, and it is tried again.
            under_way.going.clear();
            if first_to_stay.is_some() {
                // What the next start would take cannot be said any more.
                inner.fail(describe("sync", &dir, &error));
            }
            return (0, Err(LogError::io("sync", &dir, &error)));
        }
        match (announced, first_to_stay) {
            (Some(path), Some(segment)) => self.take_back(&path, segment).await,
            // Should it stay: there is nothing below.
            (Some(path), None) => drop(inner.disk.remove(&path).await),
            (None, Some(segment)) => inner.stays(segment),
            (None, None) => {}
        }
        let gone = under_way.gone();
        for segment in &gone {
            for kind in [OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT] {
                let taken = self.take_away(segment.base, kind, pass).await;
                outcome = outcome.and(taken);
            }
            // Reads under way keep the file open as long as they need it.
            drop(segment.take_file());
        }
        (gone.len(), outcome)
    }

    /// The oldest segments, up to `most`, that are to go; they count as given up from now on.
    async fn choose(&self, pass: &mut Pass, most: usize) -> (Vec<Oldest>, Result<(), LogError>) {
        let mut going: Vec<Oldest> = Vec::new();
        while going.len() < most {
            match self.oldest_to_go(pass, going.len()).await {
                Ok(Some(oldest)) if self.0.begins_to_go(&oldest.segment, oldest.next_base) => {
                    pass.total = pass.total.saturating_sub(oldest.segment.size());
                    going.push(oldest);
                }
                // Nothing, or the next time.
                Ok(_) => break,
                Err(error) => return (going, Err(error)),
            }
            task::yield_if_needed().await;
        }
        (going, Ok(()))
    }

    /// Says durably that the log is to start at `start`; gives the file that says so. If that fails all stays from `first` on.
    async fn announce(&self, start: Offset, first: &Segment) -> io::Result<PathBuf> {
        let (disk, dir) = (&self.0.disk, self.dir());
        let path = dir.join(file_name(start, GIVEN_UP));
        let said = async {
            disk.open(&path, Open::CREATE).await?.close().await?;
            disk.sync_dir(&dir).await
        };
        let said = said.await;
        if said.is_err() {
            self.take_back(&path, first).await;
        }
        said.map(|()| path)
    }

    /// Says durably no more that what lies from `first` on is to go.
    async fn take_back(&self, announced: &Path, first: &Segment) {
        let (disk, dir) = (&self.0.disk, self.dir());
        let taken = match disk.remove(announced).await {
            // It was never there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(describe("remove", announced, &error)),
            Ok(()) => disk.sync_dir(&dir).await.map_err(|error| describe("sync", &dir, &error)),
        };
        match taken {
            Ok(()) => self.0.stays(first),
            // The next start may take it all the same.
            Err(reason) => self.0.fail(reason),
        }
    }

    /// The segment after the first `at`, if it is to go.
    async fn oldest_to_go(&self, pass: &Pass, at: usize) -> Result<Option<Oldest>, LogError> {
        let config = self.config();
        let (segment, next_base, is_active) = {
            let state = self.0.state.borrow();
            match &state.condition {
                Condition::Ended(error) => return Err(error.clone()),
                Condition::Closing => return Ok(None),
                Condition::Online | Condition::Full => {}
            }
            let Some(segment) = state.segments.get(at) else { return Ok(None) };
            (Rc::clone(segment), state.end_of_segment(at), state.segments.len() == at + 1)
        };
        if next_base > pass.committed || (is_active && segment.size() == 0) {
            return Ok(None);
        }
        // Of an active segment too much is gone only with its age (`deleteLogStartOffsetBreachedSegments`).
        let below_start = !is_active && next_base <= self.start_offset();
        let too_much = config.cleanup_policy.delete
            && config.retention_bytes >= 0
            && pass.total.saturating_sub(segment.size()) >= config.retention_bytes as u64;
        let gone = below_start
            || too_much
            || config.cleanup_policy.delete
                && config.retention_ms >= 0
                && pass.now.0.saturating_sub(self.time_of(&segment).await?) > config.retention_ms;
        if gone && is_active {
            // Kafka keeps an active segment: an empty one takes its place first.
            self.roll();
        }
        Ok(gone.then_some(Oldest { segment, next_base }))
    }

    /// The time that a segment's age is counted from: its largest time stamp, also one in the future, or,
    /// where no batch has one, that of the last write (`LogSegment.largestTimestamp`).
    async fn time_of(&self, segment: &Rc<Segment>) -> Result<i64, LogError> {
        let youngest = self.youngest_of(segment).await?;
        Ok(if youngest.timestamp >= 0 { youngest.timestamp } else { segment.untimed.get().0 })
    }

    /// Removes a segment's file, or renames it to be removed after `file.delete.delay.ms`.
    async fn take_away(&self, base: Offset, kind: &str, pass: &mut Pass) -> Result<(), LogError> {
        let disk = &self.0.disk;
        let dir = self.dir();
        let from = dir.join(file_name(base, kind));
        let at_once = self.config().file_delete_delay_ms <= 0;
        let to = dir.join(file_name(base, kind) + DELETED);
        let outcome = match at_once {
            true => disk.remove(&from).await,
            false => disk.rename(&from, &to).await,
        };
        match outcome {
            Ok(()) if at_once => Ok(()),
            Ok(()) => {
                pass.renamed.push(to);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(LogError::io("remove", &from, &error)),
        }
    }

    /// Ends the log and renames its directory to `<name>.<suffix>-delete`, from
    /// which [`Log::remove_dir`] removes it. Who waits or reads is told that it was deleted.
    ///
    /// # Errors
    /// The directory could not be renamed. The log has ended all the same.
    pub async fn delete(&self, suffix: &str) -> Result<Option<PathBuf>, LogError> {
        let inner = &self.0;
        inner.end(LogError::Deleted(Rc::clone(&inner.name)));
        inner.stop_tasks().await;
        for file in inner.take_files() {
            // What is deleted need not be closed well.
            let _ = file.close().await;
        }
        let dir = self.dir();
        // Kafka's rule: a name of at most 255 bytes, the topic's part is cut for it.
        let ending = format!(".{suffix}-delete");
        let mut stem = inner.name.to_string();
        stem.truncate(255 - ending.len().min(255));
        let to = dir.with_file_name(stem + &ending);
        match inner.disk.rename(&dir, &to).await {
            Ok(()) => {}
            // Nothing was ever written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("rename", &dir, &error)),
        }
        *inner.dir.borrow_mut() = Rc::from(to.as_path());
        if let Some(parent) = to.parent() {
            inner.disk.sync_dir(parent).await.map_err(|error| LogError::io("sync", parent, &error))?;
        }
        Ok(Some(to))
    }

    /// Removes the directory of a deleted log.
    pub async fn remove_dir(&self) -> Result<(), LogError> {
        let dir = self.dir();
        match self.0.disk.remove_dir_all(&dir).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io("remove", &dir, &error)),
            _ => Ok(()),
        }
    }
}

/// Says that retention looks at the log, until it is dropped.
struct UnderWay<'a> {
    log: &'a Inner,
    /// Whose files are gone, and which the log still shows.
    going: Vec<Rc<Segment>>,
}

impl UnderWay<'_> {
    /// Takes them out of the log.
    fn gone(&mut self) -> Vec<Rc<Segment>> {
        let gone = std::mem::take(&mut self.going);
        let mut state = self.log.state.borrow_mut();
        for segment in &gone {
            let first = state.segments.pop_front();
            debug_assert!(first.is_some_and(|first| Rc::ptr_eq(&first, segment)));
        }
        state.start = state.start.max(state.given_up);
        gone
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.log.state.borrow_mut().tasks.retention = false;
        self.log.task_ended();
    }
}

impl Inner {
    /// Notes that the segment after those that go is to go as well. False while it cannot: its writer is not done with it, or
    /// its files change places.
    fn begins_to_go(&self, segment: &Rc<Segment>, next_base: Offset) -> bool {
        let mut state = self.state.borrow_mut();
        let at = state.segments.partition_point(|other| other.base < segment.base);
        let there = state.segments.get(at).is_some_and(|there| Rc::ptr_eq(there, segment));
        if !there || !segment.is_sealed() || segment.is_pinned() || at + 1 >= state.segments.len() || state.held {
            return false;
        }
        state.given_up = state.given_up.max(next_base);
        true
    }

    /// Its file could not be taken away.
    fn stays(&self, segment: &Segment) {
        self.state.borrow_mut().given_up = segment.base;
    }

    /// Whether retention has taken a segment, and its files with it, or is about to.
    pub(super) fn is_given_up(&self, segment: &Segment) -> bool {
        segment.base < self.given_up()
    }

    /// Where the log starts, or is about to.
    pub(super) fn given_up(&self) -> Offset {
        let state = self.state.borrow();
        state.given_up.max(state.segments[0].base)
    }
}

/// Removes files that were renamed to `.deleted`: at once, or in the background after a delay in milliseconds.
pub(super) async fn remove_later(disk: &Disk, renamed: Vec<PathBuf>, delay_ms: i64) {
    if delay_ms <= 0 {
        return remove_files(disk, &renamed).await;
    }
    let disk = disk.clone();
    task::spawn(Queue::Upkeep, "segment deletion", OnPanic::EndTask, async move {
        clock::sleep(std::time::Duration::from_millis(delay_ms as u64)).await;
        remove_files(&disk, &renamed).await;
    });
}

async fn remove_files(disk: &Disk, paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = disk.remove(path).await
            // The log was moved or deleted, and they with its old directory.
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next opening removes it.
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}
