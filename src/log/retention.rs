//! Giving up what is old: the log start offset, deletion of segments, and deletion of
//! the whole log.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::{Offset, UnixMs};
use crate::runtime::clock;
use crate::runtime::disk::Disk;
use crate::runtime::task::{self, OnPanic, Queue};

use super::names::{DELETED, LOG, OFFSET_INDEX, SNAPSHOT, TIME_INDEX, TRANSACTION_INDEX, file_name};
use super::segment::Segment;
use super::{Condition, Inner, Log, LogError};

/// What one pass over the oldest segments knows.
struct Pass {
    now: UnixMs,
    committed: Offset,
    /// Bytes of all segments that are left.
    total: u64,
    /// Files that are to be removed.
    renamed: Vec<PathBuf>,
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
    /// # Errors
    /// A file operation failed; what was not deleted is tried again the next time.
    pub async fn retain(&self, now: UnixMs, committed: Offset, most: usize) -> Result<usize, LogError> {
        let inner = &self.0;
        let mut pass = Pass {
            now,
            committed,
            // What is appended meanwhile counts the next time.
            total: self.size_bytes(),
            renamed: Vec::new(),
        };
        let mut deleted = 0;
        let mut outcome = Ok(());
        while deleted < most {
            match self.drop_oldest(&mut pass).await {
                Ok(true) => deleted += 1,
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            task::yield_if_needed().await;
        }
        if deleted > 0 {
            // Without it a power cut could bring them back, and the log start with them.
            let dir = self.dir();
            let synced = inner.disk.sync_dir(&dir).await.map_err(|error| LogError::io("sync", &dir, &error));
            outcome = outcome.and(synced);
        }
        if !pass.renamed.is_empty() {
            remove_later(&inner.disk, pass.renamed, self.config().file_delete_delay_ms).await;
        }
        outcome.map(|()| deleted)
    }

    /// Deletes the oldest segment if it is to go. False when it is not, or not yet.
    async fn drop_oldest(&self, pass: &mut Pass) -> Result<bool, LogError> {
        let config = self.config();
        let (oldest, next_base, is_active) = {
            let state = self.0.state.borrow();
            if let Condition::Ended(error) = &state.condition {
                return Err(error.clone());
            }
            let end = state.progress.appended().offset;
            let next_base = state.segments.get(1).map_or(end, |next| next.base);
            (Rc::clone(&state.segments[0]), next_base, state.segments.len() == 1)
        };
        if next_base > pass.committed || (is_active && oldest.size() == 0) {
            return Ok(false);
        }
        // Of an active segment too much is gone only with its age (`deleteLogStartOffsetBreachedSegments`).
        let below_start = !is_active && next_base <= self.start_offset();
        let too_much = config.cleanup_policy.delete
            && config.retention_bytes >= 0
            && pass.total.saturating_sub(oldest.size()) >= config.retention_bytes as u64;
        let gone = below_start
            || too_much
            || config.cleanup_policy.delete
                && config.retention_ms >= 0
                && pass.now.0.saturating_sub(self.time_of(&oldest).await?) > config.retention_ms;
        if !gone {
            return Ok(false);
        }
        if is_active {
            // Kafka keeps an active segment: an empty one takes its place first.
            self.roll();
        }
        if !self.drop_first_segment(&oldest, next_base, &mut pass.renamed).await? {
            return Ok(false);
        }
        pass.total = pass.total.saturating_sub(oldest.size());
        Ok(true)
    }

    /// The time that a segment's age is counted from: its largest time stamp, also one in the future, or,
    /// where no batch has one, that of the last write (`LogSegment.largestTimestamp`).
    async fn time_of(&self, segment: &Rc<Segment>) -> Result<i64, LogError> {
        let youngest = self.youngest_of(segment).await?;
        Ok(if youngest.timestamp >= 0 { youngest.timestamp } else { segment.untimed.get().0 })
    }

    /// Takes the first segment out of the log. Its files are gone, or renamed to be removed after
    /// `file.delete.delay.ms`. False while it is not sealed: its writer is not done with it.
    async fn drop_first_segment(
        &self,
        segment: &Rc<Segment>,
        next_base: Offset,
        renamed: &mut Vec<PathBuf>,
    ) -> Result<bool, LogError> {
        let inner = &self.0;
        {
            let mut state = inner.state.borrow_mut();
            let first = state.segments.front().is_some_and(|first| Rc::ptr_eq(first, segment));
            if !first || !segment.is_sealed() || segment.is_pinned() || state.segments.len() < 2 || state.held {
                return Ok(false);
            }
            state.tasks.retention = true;
            state.segments.pop_front();
            state.start = state.start.max(next_base);
        }
        let _under_way = UnderWay(inner);
        let dir = self.dir();
        let at_once = self.config().file_delete_delay_ms <= 0;
        // The log itself first: without it the others are leftovers that an opening removes.
        for kind in [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT] {
            let from = dir.join(file_name(segment.base, kind));
            let to = dir.join(file_name(segment.base, kind) + DELETED);
            let outcome = match at_once {
                true => inner.disk.remove(&from).await,
                false => inner.disk.rename(&from, &to).await,
            };
            match outcome {
                Ok(()) if at_once => {}
                Ok(()) => renamed.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io("remove", &from, &error)),
            }
        }
        // Reads under way keep the file open as long as they need it.
        drop(segment.take_file());
        Ok(true)
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

/// Says that files are being renamed or removed, until it is dropped.
struct UnderWay<'a>(&'a Inner);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().tasks.retention = false;
        self.0.task_ended();
    }
}

impl Inner {
    /// Whether retention has taken a segment, and its files with it.
    pub(super) fn is_given_up(&self, segment: &Segment) -> bool {
        self.state.borrow().segments.front().is_some_and(|first| first.base > segment.base)
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
