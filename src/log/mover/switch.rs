//! The hand-over: steps 2 to 7 of the module. While it lasts appends go into memory and acknowledgements wait.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Offset;
use crate::runtime::clock;

use super::super::{Condition, Inner};
use super::{Move, MoveError, Moved};

/// How long the log's own work may keep a hand-over waiting, at each of its steps.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds of copying what came meanwhile, before the writer is held.
const ROUNDS_MAX: usize = 8;
/// So little is copied while it is held.
const LITTLE_BYTES: u64 = 64 << 10;

/// The log is held up. Goes on when this is dropped.
struct Hold<'a> {
    log: &'a Rc<Inner>,
    was_vital: bool,
    sealer: bool,
}

impl<'a> Hold<'a> {
    /// Nothing goes to the journal any more. What it has needs its place in the segments, also on a drive
    /// of which only the reserve is left.
    fn begin(log: &'a Rc<Inner>) -> Hold<'a> {
        log.state.borrow_mut().journal_off = true;
        Hold { log, was_vital: log.is_vital.replace(true), sealer: false }
    }

    /// Waits until neither writer, flusher, sealer nor retention does anything, and keeps it so.
    async fn stop_writing(&mut self) -> Result<(), MoveError> {
        let log = self.log;
        let busy = || MoveError::Busy(Rc::clone(&log.name));
        log.state.borrow_mut().held = true;
        let idle = log.wait_tasks(|state| !state.tasks.writing && !state.tasks.retention);
        clock::timeout(PATIENCE, idle).await.ok_or_else(busy)?;
        let filed = {
            let mut state = log.state.borrow_mut();
            state.flush_to = state.progress.filed().offset;
            state.flush_to
        };
        log.wake_flusher(true);
        clock::timeout(PATIENCE, log.wait_flushed(filed)).await.ok_or_else(busy)??;
        clock::timeout(PATIENCE, log.wait_sealed()).await.ok_or_else(busy)?;
        log.state.borrow_mut().tasks.sealer = true;
        self.sealer = true;
        let began = clock::now();
        // Somebody may be writing an index file again, under the name that it has now.
        while log.state.borrow().segments.iter().any(|segment| segment.is_rebuilding()) {
            if began.elapsed() > PATIENCE {
                return Err(busy());
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.log.is_vital.set(self.was_vital);
        {
            let mut state = self.log.state.borrow_mut();
            state.journal_off = false;
            state.held = false;
            if self.sealer {
                state.tasks.sealer = false;
            }
        }
        self.log.start_sealer();
        if self.log.state.borrow().write_is_due() {
            self.log.wake_writer();
        } else {
            self.log.work.raise();
        }
        self.log.task_ended();
    }
}

impl Move {
    /// Hands the log over to its copy. `files`: small files that belong into the directory, as they are when
    /// the log is held up; `note` is put beside them, of a log that ends at the given offset.
    ///
    /// # Errors
    /// See [`MoveError`]. Of one that is busy it may be tried again, after [`Move::catch_up`].
    pub async fn switch(
        &mut self,
        files: &dyn Fn() -> Vec<(&'static str, Vec<u8>)>,
        note: &dyn Fn(Offset) -> (&'static str, Vec<u8>),
    ) -> Result<Moved, MoveError> {
        self.hurries = true;
        let switched = self.hand_over(files, note).await;
        self.hurries = false;
        switched
    }

    async fn hand_over(
        &mut self,
        files: &dyn Fn() -> Vec<(&'static str, Vec<u8>)>,
        note: &dyn Fn(Offset) -> (&'static str, Vec<u8>),
    ) -> Result<Moved, MoveError> {
        let log = Rc::clone(&self.log);
        self.goes_on()?;
        let mut hold = Hold::begin(&log);
        let busy = || MoveError::Busy(Rc::clone(&log.name));
        log.go_to_segment();
        let end = log.state.borrow().progress.appended().offset;
        if !clock::timeout(PATIENCE, log.file_through(end)).await.ok_or_else(busy)? {
            return Err(busy());
        }
        for _ in 0..ROUNDS_MAX {
            let targets = self.targets();
            if targets.iter().map(|target| self.left_of(target)).sum::<u64>() <= LITTLE_BYTES {
                break;
            }
            for target in &targets {
                self.copy(target).await?;
            }
        }
        self.flush().await?;
        let began = clock::now();
        hold.stop_writing().await?;
        self.goes_on()?;
        let mut moved = self.take_over(files, note).await?;
        self.live_there().await;
        self.done = true;
        drop(hold);
        moved.held = began.elapsed();
        Ok(moved)
    }

    /// Steps 4 to 6.
    async fn take_over(
        &mut self,
        files: &dyn Fn() -> Vec<(&'static str, Vec<u8>)>,
        note: &dyn Fn(Offset) -> (&'static str, Vec<u8>),
    ) -> Result<Moved, MoveError> {
        let log = Rc::clone(&self.log);
        let disk = &log.disk;
        let targets = self.targets();
        self.forget_gone(&targets).await?;
        for target in &targets {
            self.copy(target).await?;
        }
        self.flush().await?;
        let snapshot = self.snapshots.last().copied();
        let filed = log.state.borrow().progress.filed().offset;
        let (future, dir, old) = (self.to.future.clone(), self.to.dir.clone(), self.to.old.clone());
        let mut small = files();
        small.retain(|file| !self.files.contains(file));
        for (name, bytes) in small.into_iter().chain([note(filed)]) {
            let path = future.join(name);
            disk.write_file(&path, bytes).await.map_err(|error| self.failed("write", &path, &error))?;
        }
        disk.sync_dir(&future).await.map_err(|error| self.failed("sync", &future, &error))?;
        self.goes_on()?;

        let from = log.dir();
        disk.rename(&future, &dir).await.map_err(|error| self.failed("rename", &future, &error))?;
        let taken = async {
            sync_parent(&log, &dir).await?;
            disk.rename(&from, &old).await
        };
        if let Err(error) = taken.await {
            // The log is where it was. Should this fail as well, the note tells the next start which one it is.
            let _ = disk.rename(&dir, &future).await;
            let _ = sync_parent(&log, &dir).await;
            return Err(self.failed("put in its place", &dir, &error));
        }
        // Should the old name come back with a power cut, the note says that it counts for nothing.
        let old_is_gone = sync_parent(&log, &old).await;
        if let Err(error) = &old_is_gone {
            tracing::warn!("sync the directory of {}: {error}", old.display());
        }
        Ok(Moved { old, old_is_gone: old_is_gone.is_ok(), snapshot, held: Duration::ZERO })
    }

    /// Step 7. What is open of the old directory serves those who read.
    async fn live_there(&mut self) {
        let log = Rc::clone(&self.log);
        let mut files = Vec::new();
        {
            let mut state = log.state.borrow_mut();
            let state = &mut *state;
            *log.dir.borrow_mut() = Rc::from(self.to.dir.as_path());
            let before = log.memory.replace(Rc::clone(&self.to.memory));
            if matches!(state.condition, Condition::Full) {
                // Until its writer has found out that there is space.
                self.to.memory.log_is_full();
                before.log_is_not_full();
            }
            // Closed outside: the last handle of a file that was written waits for its lock.
            files.extend(state.current.take().map(|(_, file)| file));
            for segment in &state.segments {
                files.extend(segment.moved());
                let Some(copy) = self.copies.get_mut(&segment.base) else { continue };
                if segment.is_sealed() {
                    continue;
                }
                segment.ahead.set(None);
                // It has no index files there, and is longer than its batches.
                state.dirty = true;
                if let Some(file) = copy.take_file() {
                    segment.allocated.set(file.length());
                    // The last of them is the one that is written.
                    if let Some((before, file)) = state.current.replace((Rc::clone(segment), file)) {
                        drop(before);
                        files.push(file);
                    }
                }
            }
            if let Some((segment, file)) = &state.current {
                segment.set_file(file.clone());
            }
        }
        log.change_journal(self.to.journal.clone());
        log.restart_points();
        for copy in std::mem::take(&mut self.copies).into_values() {
            copy.end(false).await;
        }
        for file in files {
            let _ = file.close().await;
        }
    }
}

async fn sync_parent(log: &Inner, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => log.disk.sync_dir(parent).await,
        None => Ok(()),
    }
}
