//! Appending, and the two tasks that carry what was appended to the drive.
//!
//! An append copies the batch into the open buffer and returns. On the journal's route it
//! waits there until much has come together or the journal wants its place back
//! ([`super::journal`]); else, and then, the **writer** takes the buffer, pads it to a block
//! and writes it to the segment, *files* it; meanwhile appends go into the next one. One write is under way per log. The **flusher** flushes what was written:
//! one flush is under way per log, it covers the writes that had completed when it
//! began, and everything that arrives meanwhile shares the next (group commit).
//! Writing goes on during a flush. A flush that nobody waits for begins a little later,
//! and serves more.
//!
//! A roll only puts a new segment behind the last; the writer creates its file when
//! it gets there, after a flush of the one before, so that no byte of a segment is on
//! the drive before all bytes of its predecessors are durable: recovery relies on
//! it. The **sealer** then gives the old file its exact length and its index
//! files, off the path of the writer; one at a time.
//!
//! Both tasks wait on signals and are told to end when the log was quiet for an
//! upkeep's interval; they are never cancelled.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::java::string_hash;
use crate::base::limits::{
    BLOCK_BYTES, FLUSH_LATER, FULL_RETRY, JOURNAL_ENTRY_BYTES_MAX, LOG_WAITING_BYTES_MAX, LOG_WRITE_BYTES_MAX,
    SEGMENT_STEP_BYTES_MAX, SEGMENT_STEP_BYTES_MIN,
};
use crate::base::{Offset, wait};
use crate::record::{BatchView, Stamp, stamp};
use crate::runtime::clock;
use crate::runtime::disk::{self, File, Slice};
use crate::runtime::task::{self, OnPanic, Queue};

use super::error::describe;
use super::index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use super::names;
use super::progress::{Filed, Flushed, Journaled, Point, Stage};
use super::segment::Segment;
use super::space::{Grant, Purpose, Want};
use super::tail::Open;
use super::{Appended, Condition, Failure, Inner, Log, LogError, State, TailMemory, now};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What the files of a new segment take beside batches and indexes: a directory, its small files, a snapshot.
const FILES_BYTES: u64 = 6 * BLOCK;

/// The smallest buffer that is asked for: a few small batches behind a partial block.
const BUFFER_BYTES_MIN: usize = 2 * BLOCK_BYTES;

/// See [`Inner::next_step`].
enum Step {
    Write,
    /// Make the file of a segment that has nothing to be written yet.
    Begin(Rc<Segment>),
    Wait,
    End,
}

/// Why the writer cannot go on.
enum Trouble {
    /// No space left on the drive: nothing is in doubt, and it may pass.
    Full,
    /// Anything else ends the log.
    Broken(String),
}

impl Trouble {
    fn of(verb: &str, path: &Path, error: &io::Error) -> Trouble {
        match disk::is_full(error) {
            true => Trouble::Full,
            false => Trouble::Broken(describe(verb, path, error)),
        }
    }

    fn of_log(error: LogError) -> Trouble {
        Trouble::Broken(error.to_string())
    }
}

impl Log {
    /// Appends one validated batch: copies it behind the last, stamps the copy, and
    /// has it written. Never waits.
    ///
    /// `stamp.base_offset` is the log's end offset.
    ///
    /// # Errors
    /// Nothing was appended: the log has ended, is being closed, has no space, has too
    /// much waiting to be written, or the batch is larger than a segment.
    ///
    /// # Panics
    /// When `batch` is not exactly one batch, or the stamp's offset is not the log's end.
    pub fn append(&self, batch: &[u8], stamp: &Stamp) -> Result<Appended, LogError> {
        self.append_from(false, batch, stamp)
    }

    /// As [`Log::append`], of a batch that a journal of the process before has, durably, and keeps until
    /// the log has filed it: a full drive is no reason to refuse it.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// As [`Log::append`].
    pub fn append_journaled(&self, batch: &[u8], stamp: &Stamp) -> Result<Appended, LogError> {
        if self.is_full() {
            self.0.journal_has_all();
        }
        self.append_from(true, batch, stamp)
    }

    fn append_from(&self, journal: bool, batch: &[u8], stamp: &Stamp) -> Result<Appended, LogError> {
        let inner = &self.0;
        let view = BatchView::first(batch).expect("a batch was validated before it is appended");
        assert_eq!(view.size(), batch.len(), "one batch is appended at a time");
        let base = stamp.base_offset;
        let last = base.plus(i64::from(view.last_offset_delta()));
        let max_timestamp = stamp.log_append_time.map_or(view.max_timestamp(), |time| time.0);

        let roll = {
            let state = inner.state.borrow();
            assert_eq!(
                state.progress.appended().offset,
                base,
                "append to {} at another offset than its end",
                inner.name
            );
            state.check_appendable(inner, batch.len(), journal)?;
            state.must_roll(inner, batch.len(), last, max_timestamp)
        };
        if roll {
            inner.roll(base);
        }
        let before = {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            let before = state.progress.appended();
            state.progress.append(last.plus(1), batch.len());
            let bytes_end = before.bytes + batch.len() as u64;
            let open = state.buffer_for(&inner.memory(), batch.len(), base);
            open.push(batch, base, last.plus(1), bytes_end, |place| self::stamp(place, stamp));
            let interval = state.config.index_interval_bytes.max(0) as u64;
            state.active().add(last, batch.len(), max_timestamp, interval);
            if max_timestamp < 0 {
                // Retention has no other time of it.
                state.active().untimed.set(now());
            }
            state.dirty = true;
            state.tasks.quiet = false;
            before
        };
        inner.memory().turns.appended(batch.len());
        inner.dispatch(before, batch.len());
        Ok(Appended { base_offset: base, last_offset: last })
    }

    /// Begins a new segment, if the active one holds anything.
    pub fn roll(&self) {
        let roll = {
            let state = self.0.state.borrow();
            matches!(state.condition, Condition::Online | Condition::Full) && state.active().size() > 0
        };
        if roll {
            let end = self.end_offset();
            self.0.roll(end);
            self.0.wake_writer();
        }
    }

    /// Writes everything to the segments and flushes it, whatever a journal has of it.
    ///
    /// # Errors
    /// Why it cannot be done: the log has ended.
    pub async fn file(&self) -> Result<(), LogError> {
        match self.0.file_through(self.end_offset()).await {
            true => Ok(()),
            false => Err(self.ended().unwrap_or_else(|| LogError::Closed(Rc::clone(&self.0.name)))),
        }
    }

    /// Waits until everything below `end` is in the segments and flushed; on a full drive until there is space. True
    /// also when the log was deleted, false when it has ended otherwise.
    pub async fn file_through(&self, end: Offset) -> bool {
        self.0.file_through(end).await
    }

    /// Files what [`Log::append_journaled`] appended. False when there is no space for it: it can be read from memory
    /// then, as written and durable as it is, and is written when there is space; [`Log::file`] waits for that.
    ///
    /// # Errors
    /// Why it cannot be done: the log has ended.
    pub async fn file_journaled(&self) -> Result<bool, LogError> {
        match self.wait(self.end_offset(), Stage::Written).await {
            Ok(()) => self.file().await.map(|()| true),
            Err(LogError::DiskFull(_)) => {
                self.0.journal_has_all();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Has everything written so far flushed, whatever `flush.messages` says.
    pub fn request_flush(&self) {
        self.0.note_flush_due(true);
    }
}

impl State {
    fn check_appendable(&self, inner: &Inner, size: usize, from_journal: bool) -> Result<(), LogError> {
        match &self.condition {
            Condition::Online => {}
            Condition::Full if from_journal => {}
            Condition::Full => return Err(LogError::DiskFull(Rc::clone(&inner.name))),
            Condition::Closing => return Err(LogError::Closed(Rc::clone(&inner.name))),
            Condition::Ended(error) => return Err(error.clone()),
        }
        let max = self.config.segment_bytes.max(0) as usize;
        if size > max {
            return Err(LogError::BatchTooLarge { size, max });
        }
        let waiting = (self.progress.appended().bytes - self.progress.written().bytes) as usize;
        if waiting > LOG_WAITING_BYTES_MAX {
            return Err(LogError::Behind { log: Rc::clone(&inner.name), waiting });
        }
        Ok(())
    }

    /// `LogSegment.shouldRoll`.
    fn must_roll(&self, inner: &Inner, size: usize, last: Offset, max_timestamp: i64) -> bool {
        let active = self.active();
        if active.size() + size as u64 > self.config.segment_bytes.max(0) as u64
            || last.0 - active.base.0 > i64::from(i32::MAX)
        {
            return true;
        }
        if active.size() == 0 {
            return false;
        }
        if active.index_is_full(self.config.segment_index_bytes.max(0) as usize) {
            return true;
        }
        // By the records' own time if they have one, so that replaying old data rolls as it did.
        let waited = match active.first_timestamp() {
            Some(first) if first >= 0 => max_timestamp.saturating_sub(first),
            _ => now().0.saturating_sub(active.created.0),
        };
        // What may not wait longer to be compacted may not stay longer in the active segment (`LogConfig.maxSegmentMs`).
        let segment_ms = match self.config.cleanup_policy.compact {
            true => self.config.segment_ms.min(self.config.max_compaction_lag_ms),
            false => self.config.segment_ms,
        };
        // Less than all of it, or each batch would begin a segment (`LogConfig.randomSegmentJitter`).
        let jitter_max = self.config.segment_jitter_ms.min(self.config.segment_ms);
        waited > segment_ms.saturating_sub(jitter_ms(inner, active, jitter_max))
    }

    /// The open buffer, with room for `size` more bytes.
    fn buffer_for(&mut self, memory: &Rc<TailMemory>, size: usize, next: Offset) -> &mut Open {
        if let Some(open) = self.open.take_if(|open| !open.fits(size)) {
            // The writer is behind: larger buffers mean fewer writes.
            self.buffer_hint = (self.buffer_hint * 2).min(LOG_WRITE_BYTES_MAX);
            self.full.push_back(open);
        }
        if self.open.is_none() {
            let before = match self.full.back() {
                Some(full) => Some(full.before()),
                None => self.tail.last().map(|frozen| frozen.before()),
            };
            let active = self.segments.back().expect("a log always has an active segment");
            self.open = Some(Open::after(before, active, next, size, self.buffer_hint, memory));
        }
        self.open.as_mut().expect("just made")
    }

    /// Whether the writer has something to write. A full buffer is not waited with: there
    /// is nothing to gain.
    pub(super) fn write_is_due(&self) -> bool {
        !self.full.is_empty() || self.open.as_ref().is_some_and(|open| self.file_to > open.base)
    }

    /// Whether a flush is due because what was to be filed has been.
    pub(super) fn settle_is_due(&self) -> bool {
        let (filed, flushed) = (self.progress.filed().offset, self.progress.flushed().offset);
        self.settle_to > flushed && filed >= self.settle_to
    }

    fn first_buffer(&self) -> Option<&Open> {
        self.full.front().or(self.open.as_ref())
    }
}

/// `segment.jitter.ms`: spreads rolls by time. Fixed per segment, so that asking
/// again gives the same answer. Below `jitter_max`.
fn jitter_ms(inner: &Inner, segment: &Segment, jitter_max: i64) -> i64 {
    if jitter_max <= 0 {
        return 0;
    }
    let mixed = (i64::from(string_hash(&inner.name)) ^ segment.base.0).wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64);
    (mixed as u64 >> 1) as i64 % jitter_max
}

impl Inner {
    /// Puts a new active segment behind the last one.
    fn roll(&self, base: Offset) {
        let snapshot = self.observer().and_then(|observer| observer.rolled(base));
        let mut state = self.state.borrow_mut();
        if state.active().base == base {
            return;
        }
        if let Some(open) = state.open.take() {
            state.full.push_back(open);
        }
        if let Some(bytes) = snapshot {
            state.snapshots.push_back((base, bytes));
        }
        state.segments.push_back(Rc::new(Segment::new(base, now())));
        state.dirty = true;
    }

    pub(super) fn wake_writer(self: &Rc<Self>) {
        let start = {
            let mut state = self.state.borrow_mut();
            !std::mem::replace(&mut state.tasks.writer, true)
        };
        if start {
            task::spawn(Queue::Log, "log writer", OnPanic::StopProcess, Rc::clone(self).write_all());
        } else {
            self.work.raise();
        }
    }

    /// The writer.
    async fn write_all(self: Rc<Self>) {
        loop {
            let next = self.next_step();
            self.state.borrow_mut().tasks.writing = !matches!(next, Step::End | Step::Wait);
            let step = match next {
                Step::End => break,
                Step::Wait => {
                    self.work.wait().await;
                    continue;
                }
                Step::Write => self.write_first().await,
                // Retention waits for it, which makes room: that may take of the reserve.
                Step::Begin(segment) => self.file_to_write(&segment, false).await.map(drop),
            };
            self.stopped_writing();
            match step {
                Ok(()) => self.leave_full(),
                Err(Trouble::Full) => {
                    if self.enter_full() {
                        break;
                    }
                    // Woken early by a close, which tries once more and gives up then.
                    clock::timeout(FULL_RETRY, self.work.wait()).await;
                }
                Err(Trouble::Broken(reason)) => self.fail(reason),
            }
        }
        self.state.borrow_mut().tasks.writer = false;
        self.task_ended();
    }

    /// The writer has done a step. Who holds it up waits for that.
    fn stopped_writing(&self) {
        let held = {
            let mut state = self.state.borrow_mut();
            state.tasks.writing = false;
            state.held
        };
        if held {
            self.task_ended();
        }
    }

    /// What the writer does next.
    fn next_step(&self) -> Step {
        let state = self.state.borrow();
        if matches!(state.condition, Condition::Ended(_)) {
            Step::End
        } else if state.held {
            Step::Wait
        } else if state.write_is_due() {
            Step::Write
        } else if state.segments.len() > 1 && !state.active().on_drive() {
            // Rolled without an append: retention waits for the one before to be sealed.
            Step::Begin(Rc::clone(state.active()))
        } else if state.tasks.retire {
            Step::End
        } else {
            Step::Wait
        }
    }

    /// The first `missing` bytes of the block at `position`, which is written again with what follows, up to `next`.
    /// They were acknowledged: what the drive gives is believed if the batches that end in the block are whole
    /// and right, from a batch on of which the index knows the place.
    async fn read_block(
        &self,
        segment: &Segment,
        file: &File,
        position: u64,
        missing: usize,
        next: Offset,
    ) -> Result<Slice, Trouble> {
        let path = segment.log_path(&self.dir());
        let known = segment.with_indexes(|indexes| indexes.offsets.entry_before(position)).flatten();
        let (last, from) = known.map_or((None, 0), |(last, from)| (Some(segment.base.plus(i64::from(last))), from));
        let len = (position - from) as usize + missing;
        let read = file.read(from, len).await.map_err(|error| Trouble::of("read", &path, &error))?;
        let damaged = |at: usize, reason: &str| {
            let at = from + at as u64;
            Trouble::Broken(format!("{} is damaged at position {at}, and not written over: {reason}", path.display()))
        };
        if read.len() < len {
            return Err(damaged(read.len(), "it is shorter than its batches"));
        }
        let mut at = 0;
        let mut expected = segment.base;
        while at < len {
            let batch = BatchView::first(&read[at..]).map_err(|error| damaged(at, &error.to_string()))?;
            let end = at + batch.size();
            let is_other = at == 0 && last.is_some_and(|last| batch.base_offset() > last)
                || batch.base_offset() < expected
                || batch.next_offset() > next;
            if is_other {
                return Err(damaged(at, "another batch than there should be"));
            }
            if from + end as u64 > position && !batch.crc_is_right() {
                return Err(damaged(at, "a batch whose checksum is wrong"));
            }
            expected = batch.next_offset();
            at = end;
        }
        Ok(read.part(len - missing..len))
    }

    /// Writes the first buffer that waits.
    async fn write_first(self: &Rc<Self>) -> Result<(), Trouble> {
        // What the write needs is made ready while appends still go into the buffer.
        let mut block = None;
        let file = loop {
            let (segment, position, len, missing, base) = match self.state.borrow().first_buffer() {
                Some(first) => {
                    let batches = &first.batches;
                    (Rc::clone(&batches.segment), batches.position, batches.len(), first.missing, first.base)
                }
                None => return Ok(()),
            };
            let file = self.file_to_write(&segment, true).await?;
            if missing > 0 && block.is_none() {
                block = Some(self.read_block(&segment, &file, position, missing, base).await?);
                continue;
            }
            let end = (position + len as u64).next_multiple_of(BLOCK);
            if end <= segment.allocated.get() {
                break file;
            }
            self.allocate(&segment, &file, end).await?;
        };

        let (bytes, position, segment, reached, room) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if matches!(state.condition, Condition::Ended(_)) {
                return Ok(());
            }
            let mut first = match state.full.pop_front() {
                Some(full) => full,
                None => state.open.take().expect("only the writer takes buffers"),
            };
            if first.missing > 0 {
                first.complete(block.as_ref().expect("read above"));
            }
            let (frozen, room) = first.freeze();
            // A quarter more than recent buffers held.
            let wanted = frozen.memory() + frozen.memory() / 4;
            state.buffer_hint = ((state.buffer_hint * 3 + wanted) / 4).clamp(BUFFER_BYTES_MIN, LOG_WRITE_BYTES_MAX);
            let write = (
                Rc::clone(frozen.bytes()),
                frozen.0.position,
                Rc::clone(&frozen.0.segment),
                Point { offset: frozen.0.end, bytes: frozen.0.bytes_end },
                room,
            );
            let memory = frozen.memory();
            let replaced = state.tail.push(frozen);
            if let Some(replaced) = replaced {
                self.memory().give_back(replaced);
            }
            self.memory().add(self, memory, replaced.is_none());
            write
        };
        // What a journal has already nobody waits for.
        let small = bytes.len() <= JOURNAL_ENTRY_BYTES_MAX && !self.state.borrow().is_journaled();
        loop {
            // Not while it waits for space: reads would stand back behind it for as long.
            let urgent = self.memory().turns.begin_write(small);
            let written = file.write(Rc::clone(&bytes), position).await;
            drop(urgent);
            match written {
                Ok(()) => break,
                Err(error) => match Trouble::of("write", &segment.log_path(&self.dir()), &error) {
                    // The same bytes go to the same place again: nothing is in doubt.
                    Trouble::Full => {
                        if self.enter_full() {
                            return Err(Trouble::Full);
                        }
                        clock::timeout(FULL_RETRY, self.work.wait()).await;
                    }
                    broken => return Err(broken),
                },
            }
        }
        self.wrote(reached);
        drop(room);
        self.memory().trim();
        Ok(())
    }

    /// The file of `segment`, which is the one that is written or the next. For batches it is made only where there is
    /// space beside what is reserved: thousands of logs that have to make theirs would use that up.
    async fn file_to_write(self: &Rc<Self>, segment: &Rc<Segment>, for_batches: bool) -> Result<File, Trouble> {
        let before = self.state.borrow().current.clone();
        if let Some((current, file)) = &before
            && Rc::ptr_eq(current, segment)
        {
            return Ok(file.clone());
        }
        if before.is_some() {
            // Nothing of the next segment is written before all of this one is durable.
            let filed = {
                let mut state = self.state.borrow_mut();
                let filed = state.progress.filed().offset;
                state.flush_to = filed;
                filed
            };
            self.wake_flusher(true);
            self.wait_flushed(filed).await.map_err(Trouble::of_log)?;
        }
        let dir = self.dir();
        let makes_files = !segment.on_drive() && !self.is_vital.get();
        let memory = self.memory();
        let _turn = if makes_files { Some(memory.making.take(1).await) } else { None };
        let granted = match for_batches && makes_files {
            true => self.ask_for_files(before.as_ref().map(|(segment, _)| &**segment)).await?,
            false => None,
        };
        if !self.state.borrow().dir_exists {
            self.create_dir(&dir).await?;
        }
        let is_new = !segment.on_drive();
        if is_new {
            // At most one segment is unsealed behind the active one: recovery relies on it.
            self.wait_sealed().await;
            let state = self.state.borrow();
            if let Condition::Ended(error) = &state.condition {
                return Err(Trouble::of_log(error.clone()));
            }
            if state.first_unsealed().is_some() {
                // The log is being closed, and the sealer has given up.
                return Err(Trouble::Full);
            }
        }
        let path = segment.log_path(&dir);
        let file = if is_new {
            let file = segment.create(&self.disk, &dir).await.map_err(|error| Trouble::of("create", &path, &error))?;
            self.disk.sync_dir(&dir).await.map_err(|error| Trouble::of("sync the directory of", &path, &error))?;
            file
        } else {
            segment.file(&self.disk, &dir).await.map_err(Trouble::of_log)?
        };
        self.state.borrow_mut().current = Some((Rc::clone(segment), file.clone()));
        // The segment before is sealed now, which takes its part.
        self.files_granted.set(granted);
        self.start_sealer();
        if !self.state.borrow().tasks.sealer {
            self.files_granted.set(None);
        }
        Ok(file)
    }

    /// Leave for what a new segment of an ordinary log takes beside its batches: names and small files, and the index
    /// files of the one before, which is sealed then. Nothing of a file system that says nothing of itself.
    async fn ask_for_files(&self, sealed: Option<&Segment>) -> Result<Option<Grant>, Trouble> {
        let indexes = sealed.and_then(|segment| {
            segment.with_indexes(|of| of.offsets.len() * OFFSET_ENTRY_BYTES + of.times.len() * TIME_ENTRY_BYTES)
        });
        let need = FILES_BYTES + (indexes.unwrap_or_default() as u64).next_multiple_of(BLOCK);
        // Sealed it can be given up.
        let purpose = if sealed.is_some() { Purpose::MakesRoom } else { Purpose::Batches };
        let want = Want { need, ahead: 0, is_asked_for: false, purpose };
        let dir = self.dir();
        // The directory may be one of those files.
        let there = if self.state.borrow().dir_exists { &*dir } else { dir.parent().unwrap_or(&dir) };
        match self.memory().space.ask(&self.disk, there, want).await {
            Ok(None) => Err(Trouble::Full),
            Ok(granted) => Ok(granted),
            Err(_) => Ok(None),
        }
    }

    /// Makes the directory with the files that belong into it, durably.
    async fn create_dir(&self, dir: &Path) -> Result<(), Trouble> {
        self.disk.create_dir_all(dir).await.map_err(|error| Trouble::of("create", dir, &error))?;
        let files = self.observer().map(|observer| observer.files()).unwrap_or_default();
        for (name, bytes) in files {
            let path = dir.join(name);
            self.disk.write_file(&path, bytes).await.map_err(|error| Trouble::of("write", &path, &error))?;
        }
        if let Some(parent) = dir.parent() {
            self.disk.sync_dir(parent).await.map_err(|error| Trouble::of("sync the directory of", dir, &error))?;
        }
        self.state.borrow_mut().dir_exists = true;
        Ok(())
    }

    /// As the first append does: makes the directory, for who wants it before.
    pub(super) async fn make_dir(&self, dir: &Path) -> Result<(), String> {
        self.create_dir(dir).await.map_err(|trouble| match trouble {
            Trouble::Full => LogError::DiskFull(Rc::clone(&self.name)).to_string(),
            Trouble::Broken(reason) => reason,
        })
    }

    /// Gives a segment's file space up to `end` and a step beyond.
    async fn allocate(&self, segment: &Segment, file: &File, end: u64) -> Result<(), Trouble> {
        let allocated = segment.allocated.get();
        let segment_max = (self.state.borrow().config.segment_bytes.max(0) as u64).next_multiple_of(BLOCK);
        let preallocates = self.state.borrow().config.preallocate;
        let step = match preallocates {
            true => segment_max,
            false => allocated.clamp(SEGMENT_STEP_BYTES_MIN, SEGMENT_STEP_BYTES_MAX),
        };
        let wanted = end.max((allocated + step).next_multiple_of(BLOCK).min(segment_max));
        // All of it is used: this write does not fit.
        segment.ahead.set(None);
        let want = Want {
            need: end - allocated,
            ahead: wanted - end,
            is_asked_for: preallocates,
            purpose: Purpose::of(self.is_vital.get()),
        };
        let (target, grant) = match self.memory().space.ask(&self.disk, &self.dir(), want).await {
            Ok(None) => return Err(Trouble::Full),
            Ok(Some(grant)) => (allocated + grant.bytes(), Some(grant)),
            // A file system that says nothing of itself says when it is full.
            Err(_) => (wanted, None),
        };
        let path = segment.log_path(&self.dir());
        let ask = |to: u64| file.allocate(allocated, to - allocated);
        let result = match ask(target).await {
            // The step is a convenience; what the write needs may still fit.
            Err(error) if matches!(Trouble::of("", &path, &error), Trouble::Full) && end < target => {
                ask(end).await.map(|()| end)
            }
            result => result.map(|()| target),
        };
        match result {
            Ok(to) => {
                segment.allocated.set(to);
                segment.ahead.set(grant.map(|grant| grant.taken(to - end)));
                Ok(())
            }
            // A file system that cannot allocate ahead: each write extends the file.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                segment.allocated.set(u64::MAX);
                Ok(())
            }
            Err(error) => Err(Trouble::of("allocate space for", &path, &error)),
        }
    }

    /// Takes a completed write into account.
    fn wrote(self: &Rc<Self>, reached: Point) {
        let bytes = {
            let mut state = self.state.borrow_mut();
            let before = state.progress.filed().bytes;
            state.progress.file(Filed(reached));
            state.tell_waiters();
            reached.bytes - before
        };
        if let Some(unpointed) = &self.unpointed {
            unpointed.wrote(bytes);
        }
        self.note_flush_due(false);
        if let Some(observer) = self.observer() {
            observer.progressed();
        }
    }

    /// Has what is written flushed if `flush.messages` says so, or `now` does: at once if
    /// somebody waits for it, else within [`FLUSH_LATER`]. And what was to be filed, when
    /// it is.
    pub(super) fn note_flush_due(self: &Rc<Self>, now: bool) {
        let (due, journaled) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let (written, durable) = (state.progress.written().offset, state.progress.durable().offset);
            let filed = state.progress.filed().offset;
            let asked_for = written > durable && (now || written.0 - durable.0 >= state.config.flush_messages);
            let at_once = asked_for && (now || state.flush_wanted > durable);
            let journaled = state.is_journaled();
            if state.settle_is_due() || at_once && !journaled && filed > durable {
                state.flush_to = filed;
            }
            let due = state.flush_to > state.progress.flushed().offset;
            // The flusher is told only once: it looks again when its time is up.
            let later = asked_for && !journaled && filed > durable && !due && !state.flush_later;
            state.flush_later |= later;
            let due = (due || later).then_some(due);
            (due, (asked_for && (journaled || written > filed)).then_some(at_once))
        };
        if let Some(at_once) = due {
            self.wake_flusher(at_once);
        }
        if let Some(at_once) = journaled {
            self.want_journal_flushed(at_once);
        }
    }

    pub(super) fn wake_flusher(self: &Rc<Self>, at_once: bool) {
        let start = {
            let mut state = self.state.borrow_mut();
            if at_once && state.flush_to <= state.progress.flushed().offset {
                return;
            }
            !std::mem::replace(&mut state.tasks.flusher, true)
        };
        if start {
            task::spawn(Queue::Log, "log flusher", OnPanic::StopProcess, Rc::clone(self).flush_all());
        } else {
            self.flush.raise();
        }
    }

    /// The flusher.
    async fn flush_all(self: Rc<Self>) {
        loop {
            let (due, later) = {
                let mut state = self.state.borrow_mut();
                if matches!(state.condition, Condition::Ended(_)) {
                    break;
                }
                if state.flush_to > state.progress.flushed().offset {
                    let (segment, file) = state.current.clone().expect("what was written has a file");
                    state.flush_later = false;
                    // Everything that is written by now, not only what was asked for.
                    let reached = state.progress.filed();
                    let bytes = reached.bytes.saturating_sub(state.progress.flushed().bytes);
                    (Some((segment, file, reached, bytes)), false)
                } else if state.tasks.retire {
                    break;
                } else {
                    (None, state.flush_later)
                }
            };
            let Some((segment, file, reached, bytes)) = due else {
                if !later {
                    self.flush.wait().await;
                } else if clock::timeout(FLUSH_LATER, self.flush.wait()).await.is_none() {
                    let mut state = self.state.borrow_mut();
                    state.flush_later = false;
                    state.flush_to = state.progress.filed().offset;
                }
                continue;
            };
            let urgent = self.memory().turns.begin_write(bytes <= JOURNAL_ENTRY_BYTES_MAX as u64);
            let flushed = file.flush().await;
            drop(urgent);
            if let Err(error) = flushed {
                // Never again: the kernel may have dropped the pages that failed, and a
                // second flush would succeed without them.
                self.fail(describe("flush", &segment.log_path(&self.dir()), &error));
                break;
            }
            self.flushed(reached);
        }
        self.state.borrow_mut().tasks.flusher = false;
        self.task_ended();
    }

    fn flushed(&self, reached: Point) {
        {
            let mut state = self.state.borrow_mut();
            state.progress.flush(Flushed(reached));
            state.unflushed_since = None;
            state.tell_waiters();
        }
        if let Some(observer) = self.observer() {
            observer.progressed();
        }
    }

    pub(super) async fn wait_flushed(&self, offset: Offset) -> Result<(), LogError> {
        let waiting = {
            let mut state = self.state.borrow_mut();
            if state.progress.flushed().offset >= offset {
                return Ok(());
            }
            if let Condition::Ended(error) = &state.condition {
                return Err(error.clone());
            }
            state.flushed_waiters.add(offset)
        };
        waiting.await.unwrap_or_else(|_| Err(LogError::Closed(Rc::clone(&self.name))))
    }

    /// Ends the log because of a failed write or flush.
    pub(super) fn fail(&self, reason: String) {
        if matches!(self.state.borrow().condition, Condition::Ended(_)) {
            // It says already why.
            return;
        }
        tracing::error!("the log {} goes offline: {reason}", self.name);
        self.memory().failures.note(Failure { reason: reason.as_str().into(), of_journal: false });
        self.end(LogError::Offline(format!("{} is offline: {reason}", self.name).into()));
    }

    /// Ends the log; everybody who waits is told `error`.
    pub(super) fn end(&self, error: LogError) {
        {
            let mut state = self.state.borrow_mut();
            if matches!(state.condition, Condition::Ended(_)) {
                return;
            }
            state.set_condition(&self.memory(), Condition::Ended(error.clone()));
            state.written_waiters.fail(&error);
            state.durable_waiters.fail(&error);
            state.flushed_waiters.fail(&error);
            state.open = None;
            state.full.clear();
        }
        self.memory().refuse(self, &error);
        self.work.raise();
        self.flush.raise();
        if let Some(observer) = self.observer() {
            observer.ended();
        }
    }

    /// Says that the drive is full. Gives true when the writer should give up,
    /// because the log is being closed or has ended.
    fn enter_full(&self) -> bool {
        let has_journal = self.has_journal();
        let mut state = self.state.borrow_mut();
        let error = LogError::DiskFull(Rc::clone(&self.name));
        match state.condition {
            Condition::Online => {
                tracing::warn!("{error}: appends are refused until there is space again");
                state.set_condition(&self.memory(), Condition::Full);
            }
            Condition::Full => {}
            Condition::Closing => {
                drop(state);
                self.end(error);
                return true;
            }
            Condition::Ended(_) => return true,
        }
        // Producers are told at once. Their batches are still written when space comes
        // back; an idempotent producer that sends again is recognised. What is written
        // already only waits for its flush.
        state.written_waiters.fail(&error);
        let to_flush = match has_journal {
            true => state.progress.written().offset,
            // What a journal had that has failed waits for space like the rest.
            false => state.progress.filed().offset,
        };
        state.durable_waiters.fail_after(to_flush, &error);
        false
    }

    /// What was appended is in the journal of a process before, as far as it is not in the segments.
    fn journal_has_all(&self) {
        {
            let mut state = self.state.borrow_mut();
            let to = state.progress.appended();
            state.progress.journal(Journaled { to, durable: true });
            state.tell_waiters();
        }
        if let Some(observer) = self.observer() {
            observer.progressed();
        }
    }

    fn leave_full(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(state.condition, Condition::Full) {
            tracing::info!("{} has space again", self.name);
            state.set_condition(&self.memory(), Condition::Online);
        }
    }

    /// Ends idle tasks: called at each upkeep, acts at the second quiet one.
    pub(super) fn retire_if_quiet(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let flushed = state.flush_to <= state.progress.flushed().offset && !state.flush_later;
        let idle = !state.write_is_due() && flushed;
        if !idle || !std::mem::replace(&mut state.tasks.quiet, true) {
            return;
        }
        state.full = Default::default();
        if state.tasks.writer || state.tasks.flusher {
            state.tasks.retire = true;
            self.work.raise();
            self.flush.raise();
        }
    }

    /// A task has ended: tells those who wait for it.
    pub(super) fn task_ended(&self) {
        let waiters = {
            let mut state = self.state.borrow_mut();
            if !state.tasks.writer && !state.tasks.flusher {
                state.tasks.retire = false;
            }
            std::mem::take(&mut state.task_waiters)
        };
        for waiter in waiters {
            waiter.send(());
        }
    }

    /// Completes when `done` holds, looking each time a task of this log ends.
    pub(super) async fn wait_tasks(&self, done: impl Fn(&State) -> bool) {
        loop {
            let waiting = {
                let mut state = self.state.borrow_mut();
                if done(&state) {
                    return;
                }
                let (sender, receiver) = wait::once();
                state.task_waiters.push(sender);
                receiver
            };
            // A dropped sender means the same: look again.
            let _ = waiting.await;
        }
    }

    /// Completes when nothing is being sealed and no recovery point is being written.
    pub(super) async fn wait_sealed(&self) {
        self.wait_tasks(|state| !state.tasks.sealer).await;
    }

    /// Tells writer and flusher to end and waits until no task is left. What was
    /// under way is completed.
    pub(super) async fn stop_tasks(&self) {
        loop {
            let ended = {
                let mut state = self.state.borrow_mut();
                let tasks = &mut state.tasks;
                // Each time: while others go on a journal that fails, or is full, may have begun a writer anew.
                tasks.retire = tasks.writer || tasks.flusher;
                if !(tasks.retire || tasks.sealer || tasks.cleaner || tasks.mover || tasks.retention) {
                    return;
                }
                let (sender, receiver) = wait::once();
                state.task_waiters.push(sender);
                receiver
            };
            self.work.raise();
            self.flush.raise();
            // A dropped sender means the same: look again.
            let _ = ended.await;
        }
    }

    /// Seals the segments before the one that is written.
    pub(super) fn start_sealer(self: &Rc<Self>) {
        let start = {
            let mut state = self.state.borrow_mut();
            let wanted = state.first_unsealed().is_some();
            wanted && !std::mem::replace(&mut state.tasks.sealer, true)
        };
        if start {
            task::spawn(Queue::Log, "log sealer", OnPanic::StopProcess, Rc::clone(self).seal_all());
        }
    }

    async fn seal_all(self: Rc<Self>) {
        let mut was_full = false;
        loop {
            let (segment, ended) = {
                let state = self.state.borrow();
                (state.first_unsealed(), matches!(state.condition, Condition::Ended(_)))
            };
            let Some(segment) = segment else { break };
            if ended {
                break;
            }
            match self.seal(&segment).await {
                Ok(()) => {
                    if std::mem::take(&mut was_full) {
                        self.leave_full();
                    }
                }
                Err(Trouble::Full) => {
                    if matches!(self.state.borrow().condition, Condition::Closing) {
                        break;
                    }
                    // The writer waits for this before it begins the next segment: nobody else would say so.
                    was_full = true;
                    if self.enter_full() {
                        break;
                    }
                    clock::sleep(FULL_RETRY).await;
                }
                Err(Trouble::Broken(reason)) => self.fail(reason),
            }
        }
        self.files_granted.set(None);
        self.state.borrow_mut().tasks.sealer = false;
        self.task_ended();
        self.trim_sealed();
    }

    /// Gives a segment its exact length, its index files and the snapshot at its end.
    /// All its batches are durable.
    pub(super) async fn seal_for_close(self: &Rc<Self>, segment: &Rc<Segment>) -> Result<(), LogError> {
        self.seal(segment).await.map_err(|trouble| match trouble {
            Trouble::Full => LogError::DiskFull(Rc::clone(&self.name)),
            Trouble::Broken(reason) => LogError::Io(reason.into()),
        })
    }

    async fn seal(&self, segment: &Rc<Segment>) -> Result<(), Trouble> {
        let dir = self.dir();
        let path = segment.log_path(&dir);
        if segment.on_drive() {
            let file = segment.file(&self.disk, &dir).await.map_err(Trouble::of_log)?;
            let size = segment.size();
            if file.length() != size {
                file.set_length(size).await.map_err(|error| Trouble::of("cut", &path, &error))?;
                segment.allocated.set(size);
                segment.ahead.set(None);
                file.flush().await.map_err(|error| Trouble::of("flush", &path, &error))?;
            }
            let (offsets, times) = segment.index_files();
            for (kind, bytes) in [(names::OFFSET_INDEX, offsets), (names::TIME_INDEX, times)] {
                let path = segment.path(&dir, kind);
                self.disk.write_file(&path, bytes).await.map_err(|error| Trouble::of("write", &path, &error))?;
            }
        }
        let next = {
            let state = self.state.borrow();
            state.segments.iter().find(|other| other.base > segment.base).map(|other| other.base)
        };
        let mut has_snapshot = false;
        loop {
            // The snapshot of the offset where the next segment begins.
            let snapshot = {
                let state = self.state.borrow();
                state.snapshots.front().filter(|(offset, _)| next.is_some_and(|next| *offset <= next)).cloned()
            };
            let Some((offset, bytes)) = snapshot else { break };
            if !self.ready_for_snapshots().await? {
                return Ok(());
            }
            let path = self.path(&names::file_name(offset, names::SNAPSHOT));
            self.disk.write_file(&path, bytes).await.map_err(|error| Trouble::of("write", &path, &error))?;
            self.state.borrow_mut().snapshots.pop_front();
            has_snapshot |= next == Some(offset);
        }
        segment.set_sealed(true);
        if let Some(next) = next.filter(|_| has_snapshot) {
            self.sealed_up_to(next);
        }
        self.touch(segment);
        Ok(())
    }

    /// Waits until a snapshot may be put in place; false when the log has ended.
    async fn ready_for_snapshots(&self) -> Result<bool, Trouble> {
        while let Some(observer) = self.observer() {
            match observer.is_ready_for_snapshots() {
                Ok(true) => break,
                Ok(false) if matches!(self.state.borrow().condition, Condition::Ended(_)) => return Ok(false),
                // Once for each new epoch.
                Ok(false) => clock::sleep(Duration::from_millis(1)).await,
                Err(kind) => return Err(Trouble::of("write a file for", &self.dir(), &kind.into())),
            }
        }
        Ok(true)
    }

    pub(super) fn drop_oldest_of_tail(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let kept = state.kept_from();
        if state.tail.is_empty() {
            return true;
        }
        match state.tail.drop_oldest(kept) {
            Some(bytes) => {
                self.memory().give_back(bytes);
                true
            }
            None => false,
        }
    }
}

impl State {
    /// The oldest segment that is not sealed and lies before the one that is written.
    fn first_unsealed(&self) -> Option<Rc<Segment>> {
        let current = self.current.as_ref().map(|(segment, _)| segment.base)?;
        self.segments.iter().find(|segment| !segment.is_sealed() && segment.base < current).cloned()
    }
}
