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
use super::{Condition, Log, LogError};

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
    /// `committed`. Gives the number deleted.
    ///
    /// # Errors
    /// A file operation failed; what was not deleted is tried again the next time.
    pub async fn retain(&self, now: UnixMs, committed: Offset) -> Result<usize, LogError> {
        let config = self.config();
        let mut deleted = 0;
        loop {
            let (oldest, next_base, is_active, total) = {
                let state = self.0.state.borrow();
                if let Condition::Ended(error) = &state.condition {
                    return Err(error.clone());
                }
                let oldest = Rc::clone(&state.segments[0]);
                let end = state.progress.appended().offset;
                let next_base = state.segments.get(1).map_or(end, |next| next.base);
                let total: u64 = state.segments.iter().map(|segment| segment.size()).sum();
                (oldest, next_base, state.segments.len() == 1, total)
            };
            if next_base > committed || (is_active && oldest.size() == 0) {
                break;
            }
            // Of an active segment too much is gone only with its age (`deleteLogStartOffsetBreachedSegments`).
            let below_start = !is_active && next_base <= self.start_offset();
            let too_old = config.cleanup_policy.delete && config.retention_ms >= 0 && {
                let youngest = self.youngest_of(&oldest).await?;
                let time = if youngest.timestamp >= 0 { youngest.timestamp } else { oldest.created.0 };
                now.0.saturating_sub(time) > config.retention_ms
            };
            let too_much = config.cleanup_policy.delete
                && config.retention_bytes >= 0
                && total.saturating_sub(oldest.size()) >= config.retention_bytes as u64;
            if !(below_start || too_old || too_much) {
                break;
            }
            if is_active {
                // Kafka keeps an active segment: an empty one takes its place first.
                self.roll();
            }
            if !self.drop_first_segment(&oldest, next_base).await? {
                break;
            }
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Takes the first segment out of the log and removes its files after
    /// `file.delete.delay.ms`. False while it is not sealed: its writer is not done with it.
    async fn drop_first_segment(&self, segment: &Rc<Segment>, next_base: Offset) -> Result<bool, LogError> {
        let inner = &self.0;
        {
            let mut state = inner.state.borrow_mut();
            let first = state.segments.front().is_some_and(|first| Rc::ptr_eq(first, segment));
            if !first || !segment.is_sealed() || segment.is_pinned() || state.segments.len() < 2 {
                return Ok(false);
            }
            state.segments.pop_front();
            state.start = state.start.max(next_base);
        }
        let dir = self.dir();
        let delay = self.config().file_delete_delay_ms;
        let mut renamed = Vec::new();
        // The log itself first: without it the others are leftovers that an opening removes.
        for kind in [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT] {
            let from = dir.join(file_name(segment.base, kind));
            let to = dir.join(file_name(segment.base, kind) + DELETED);
            match inner.disk.rename(&from, &to).await {
                Ok(()) => renamed.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io("rename", &from, &error)),
            }
        }
        // Reads under way keep the file open as long as they need it.
        drop(segment.take_file());
        remove_later(&inner.disk, renamed, delay).await;
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
        if let Err(error) = disk.remove(path).await {
            // The next opening removes it.
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}
