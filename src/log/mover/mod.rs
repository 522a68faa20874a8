//! Moving a log to another directory while it is written and read
//! (`ReplicaAlterLogDirsThread`, KIP-113).
//!
//! | file | holds |
//! |---|---|
//! | `mod` | a move from its beginning to where little is left |
//! | `copy` | making a segment's copy what the segment is |
//! | `switch` | the short hand-over |
//! | `throttle` | the bound on bytes per second |
//!
//! ```text
//! 1. TOPIC-N.UNIQUE-future in the destination is made what the log's directory is, byte by byte: sealed segments
//!    with their indexes, then the active one as far as it is filed; again and again, until little is left
//! 2. the journal is left; everything is filed and flushed where it is
//! 3. the writer is held: appends go into memory, and acknowledgements wait
//! 4. the rest is copied, and the copy is flushed with all its names; a note says where it came from, and its end
//! 5. the copy gets the log's name              then its data directory is synced     from here on it is the log
//! 6. the old directory is renamed away         then its data directory is synced
//! 7. log and writer go on in the new directory, with its journal
//! 8. the note goes; the old directory's files go
//! ```
//!
//! Nothing that is acknowledged is only in the copy before 6 is durable, and nothing that is acknowledged is missing in
//! the copy from 5 on. Between 5 and 6 both directories bear the name: the note says which of them is the log
//! (`partition::moved`), and that each is as good as the other.
//!
//! The copy has the same segments at the same positions, so what is in memory stays right: indexes, tail,
//! buffers that wait. Readers go on with the files that they have open. Compaction rests; retention does not, and
//! what it gives up goes from the copy as well. A copy that is found is compared, not believed.
//!
//! It runs on the core that owns the log, in pieces of [`LOG_WRITE_BYTES_MAX`], each when nothing urgent wants the drive.
//! A batch whose checksum is wrong is not copied: its drive may read it better the next time.

mod copy;
mod switch;
mod throttle;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Offset;
use crate::base::limits::LOG_WRITE_BYTES_MAX;
use crate::runtime::disk;

use super::error::describe;
use super::journal::Journal;
use super::names::{self, LOG, SNAPSHOT, TRANSACTION_INDEX};
use super::segment::Segment;
use super::{Condition, Inner, Log, LogError, TailMemory};

pub use throttle::Throttle;

use copy::Copy;

/// With so much left to copy the hand-over begins.
const NEAR_BYTES: u64 = LOG_WRITE_BYTES_MAX as u64;

/// Where a log goes.
#[derive(Clone)]
pub struct Destination {
    /// The directory of the copy while it is being made; it may be there, from a move before.
    pub future: PathBuf,
    /// The directory that it becomes; there is none of that name.
    pub dir: PathBuf,
    /// What the old directory is called when it is the log's no more.
    pub old: PathBuf,
    /// The core's journal there.
    pub journal: Option<Rc<Journal>>,
    /// The core's memory for logs there.
    pub memory: Rc<TailMemory>,
    /// How fast it goes there. The hand-over is not held back.
    pub throttle: Arc<Throttle>,
}

/// Why a move did not come to its end. The log is where it was, and goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MoveError {
    /// Somebody wants it no more, or the log is being closed or deleted.
    #[error("the move was given up: {0}")]
    GivenUp(&'static str),
    /// The log could not be held up for a moment: its drive is slow or full. It may be tried again.
    #[error("{0} could not be held up for the hand-over")]
    Busy(Rc<str>),
    /// No space for the copy.
    #[error("no space left on the drive that {0} is moved to")]
    DiskFull(Rc<str>),
    /// Anything else: what is to be read cannot be, or what is to be written.
    #[error("{0}")]
    Failed(Rc<str>),
}

impl From<LogError> for MoveError {
    fn from(error: LogError) -> MoveError {
        match error {
            LogError::Closed(_) | LogError::Deleted(_) => ENDED,
            other => MoveError::Failed(other.to_string().into()),
        }
    }
}

const ENDED: MoveError = MoveError::GivenUp("the log has ended");

/// How far a move is. Can be looked at while it is under way.
#[derive(Default, Debug)]
pub struct MoveProgress {
    cancelled: Cell<bool>,
    offset: Cell<Offset>,
    bytes: Cell<u64>,
    compared: Cell<u64>,
}

impl MoveProgress {
    /// The copy has everything below.
    pub fn offset(&self) -> Offset {
        self.offset.get()
    }

    /// Bytes of batches that the copy has.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Bytes of a copy that was found which were as they should be.
    pub fn compared(&self) -> u64 {
        self.compared.get()
    }

    /// Has the move end soon, if it has not come to the hand-over.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

/// What a move did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The old directory under its new name, to be removed.
    pub old: PathBuf,
    /// The renaming of the old directory is durable. If not, the note has to stay.
    pub old_is_gone: bool,
    /// The newest snapshot that the directory has.
    pub snapshot: Option<Offset>,
    /// How long the writer was held.
    pub held: Duration,
}

/// A move under way. The log is not compacted as long as it is there.
pub struct Move {
    log: Rc<Inner>,
    to: Destination,
    progress: Rc<MoveProgress>,
    /// The hand-over has begun: appends wait, or are about to.
    hurries: bool,
    /// By base offset.
    copies: BTreeMap<Offset, Copy>,
    /// The snapshots that the copy has.
    snapshots: BTreeSet<Offset>,
    /// The small files that it has.
    files: Vec<(&'static str, Vec<u8>)>,
    /// The copy's directory is there, and its name durable.
    began: bool,
    /// It is the log's directory now.
    done: bool,
}

impl Drop for Move {
    fn drop(&mut self) {
        self.log.state.borrow_mut().tasks.mover = false;
        self.log.task_ended();
    }
}

/// A segment, and how much of it can be copied.
struct Target {
    segment: Rc<Segment>,
    /// Bytes of batches that are filed.
    filed: u64,
    /// The offset after the last of them.
    end: Offset,
    sealed: bool,
}

impl Log {
    /// Begins to move the log. Waits for a clean that is under way to end.
    ///
    /// # Errors
    /// It is being moved already, or has ended.
    pub async fn begin_move(&self, to: Destination, progress: Rc<MoveProgress>) -> Result<Move, MoveError> {
        let inner = &self.0;
        {
            let mut state = inner.state.borrow_mut();
            if !matches!(state.condition, Condition::Online | Condition::Full) {
                return Err(ENDED);
            }
            if std::mem::replace(&mut state.tasks.mover, true) {
                return Err(MoveError::GivenUp("it is being moved already"));
            }
        }
        let moving = Move {
            log: Rc::clone(inner),
            to,
            progress,
            hurries: false,
            copies: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            files: Vec::new(),
            began: false,
            done: false,
        };
        inner.wait_tasks(|state| !state.tasks.cleaner).await;
        Ok(moving)
    }

    /// Whether the log is being moved to another directory.
    pub fn is_moving(&self) -> bool {
        self.0.state.borrow().tasks.mover
    }
}

impl Move {
    /// Copies until little is left. `files` are those that belong into the directory from the beginning on.
    ///
    /// # Errors
    /// See [`MoveError`].
    pub async fn catch_up(&mut self, files: &[(&'static str, Vec<u8>)]) -> Result<(), MoveError> {
        self.begin(files).await?;
        loop {
            let targets = self.targets();
            self.forget_gone(&targets).await?;
            let mut left = 0;
            for target in &targets {
                left += self.copy(target).await?;
            }
            // What came meanwhile.
            let behind: u64 = self.targets().iter().map(|target| self.left_of(target)).sum();
            if left == 0 && behind <= NEAR_BYTES {
                return self.flush().await;
            }
        }
    }

    /// Gives the move up; what was copied goes, unless `keep`: then the next move goes on there.
    pub async fn give_up(mut self, keep: bool) {
        if self.done {
            return;
        }
        let copies = std::mem::take(&mut self.copies);
        for copy in copies.into_values() {
            copy.end(keep).await;
        }
        if !keep && self.began {
            match self.log.disk.remove_dir_all(&self.to.future).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // The next start removes it.
                    tracing::warn!("remove {}: {error}", self.to.future.display());
                }
                _ => {}
            }
        }
    }

    /// Makes the copy's directory, and takes out of it what is not the log's.
    async fn begin(&mut self, files: &[(&'static str, Vec<u8>)]) -> Result<(), MoveError> {
        if self.began {
            return Ok(());
        }
        let disk = self.log.disk.clone();
        let future = self.to.future.clone();
        if !self.log.state.borrow().dir_exists {
            // Of a log that has nothing yet, or only in a journal. A start looks for directories: what that
            // journal has belongs to who is found beside it.
            let dir = self.log.dir();
            self.log.make_dir(&dir).await.map_err(|error| MoveError::Failed(error.into()))?;
        }
        disk.create_dir_all(&future).await.map_err(|error| self.failed("create", &future, &error))?;
        for (name, bytes) in files {
            let path = future.join(name);
            disk.write_file(&path, bytes.clone()).await.map_err(|error| self.failed("write", &path, &error))?;
        }
        if let Some(parent) = future.parent() {
            disk.sync_dir(parent).await.map_err(|error| self.failed("sync", parent, &error))?;
        }
        self.files = files.to_vec();
        self.began = true;
        let bases: Vec<Offset> = self.log.state.borrow().segments.iter().map(|segment| segment.base).collect();
        let entries = disk.list(&future).await.map_err(|error| self.failed("list", &future, &error))?;
        for entry in entries {
            // Small files are written again: theirs is no content that could be compared with something.
            let is_wanted = names::parse(&entry.name)
                .is_none_or(|file| file.kind == LOG && file.suffix.is_empty() && bases.contains(&file.base));
            // Nobody writes there now: what a kill interrupted, and the directory would be the log's with it.
            let stays = is_wanted && !entry.name.ends_with(".tmp");
            if !stays {
                let path = future.join(&entry.name);
                disk.remove(&path).await.map_err(|error| self.failed("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    /// Whether the move may go on.
    fn goes_on(&self) -> Result<(), MoveError> {
        if self.progress.is_cancelled() {
            return Err(MoveError::GivenUp("it was cancelled"));
        }
        match self.log.state.borrow().condition {
            Condition::Online | Condition::Full => Ok(()),
            Condition::Closing | Condition::Ended(_) => Err(ENDED),
        }
    }

    /// All segments of which something is filed, and those that are sealed.
    fn targets(&self) -> Vec<Target> {
        let state = self.log.state.borrow();
        let mut unfiled = state.progress.appended().bytes - state.progress.filed().bytes;
        let filed_end = state.progress.filed().offset;
        let mut targets: Vec<Target> = Vec::with_capacity(state.segments.len());
        for (at, segment) in state.segments.iter().enumerate().rev() {
            let size = segment.size();
            let of_it = unfiled.min(size);
            unfiled -= of_it;
            if segment.on_drive() {
                let end = state.end_of_segment(at).min(filed_end).max(segment.base);
                let sealed = segment.is_sealed();
                targets.push(Target { segment: Rc::clone(segment), filed: size - of_it, end, sealed });
            }
        }
        targets.reverse();
        targets
    }

    /// Bytes of it that the copy lacks.
    fn left_of(&self, target: &Target) -> u64 {
        target.filed.saturating_sub(self.copies.get(&target.segment.base).map_or(0, Copy::len))
    }

    /// Takes out of the copy what retention has taken out of the log.
    async fn forget_gone(&mut self, targets: &[Target]) -> Result<(), MoveError> {
        let gone: Vec<Offset> = self
            .copies
            .keys()
            .filter(|base| !targets.iter().any(|target| target.segment.base == **base))
            .copied()
            .collect();
        for base in gone {
            if let Some(copy) = self.copies.remove(&base) {
                copy.end(true).await;
            }
            self.snapshots.remove(&base);
            for kind in [LOG, names::OFFSET_INDEX, names::TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT] {
                let path = self.to.future.join(names::file_name(base, kind));
                match self.log.disk.remove(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.failed("remove", &path, &error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn told(&self) {
        let bytes = self.copies.values().map(Copy::len).sum();
        self.progress.bytes.set(bytes);
        let offset = self.copies.values().map(Copy::next).max().unwrap_or(Offset::ZERO);
        self.progress.offset.set(offset.max(self.progress.offset.get()));
    }

    fn failed(&self, verb: &str, path: &Path, error: &io::Error) -> MoveError {
        match disk::is_full(error) {
            true => MoveError::DiskFull(Rc::clone(&self.log.name)),
            false => MoveError::Failed(describe(verb, path, error).into()),
        }
    }
}
