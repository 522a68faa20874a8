//! Opening a log, whatever state its files were left in, and closing it cleanly.
//!
//! `docs/recovery.md` is the table of states; each row has a test. In short:
//!
//! 1. Leftovers of deletion and compaction are removed or completed.
//! 2. After an unclean stop the active segment is checked batch by batch, each
//!    checksum verified and offsets consecutive; what follows the last right batch is
//!    cut off and the cut is made durable before anything else happens. The writer's
//!    order guarantees that only the active segment, and the one before while it is
//!    being sealed, can be incomplete. Both are read through a file that is open to
//!    write: then no write of the process before is under way any more. What a recovery
//!    point covers is not read: [`super::points`].
//! 3. A sealed segment with index files in place is believed. One without is
//!    checked like the active one, and its index files are rebuilt. Damage there is
//!    no torn tail: the log does not open, and says where.
//!
//! Opening again after a crash during opening comes to the same result: every step
//! only removes what the same step would remove again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::Offset;
use crate::base::wait::Signal;
use crate::record::BatchView;
use crate::runtime::disk::{DirEntry, Disk, File};

use super::index::{IndexedBatch, Indexes, Youngest};
use super::names::{self, CLEANED, DELETED, GIVEN_UP, LOG, OFFSET_INDEX, SWAP, SegmentFile, TIME_INDEX};
use super::points::Points;
use super::progress::Progress;
use super::scan::{self, Expect, Fault, Range, Reason};
use super::segment::{Segment, first_timestamp, read_index_files, youngest_of};
use super::{Condition, Inner, Log, LogError, LogOptions, State, Tasks, now};
use crate::record::BatchError;

/// What opening found, besides the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Batches were checked, not believed.
    pub recovered: bool,
    /// Bytes of batches that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes cut off behind the last right batch, allocated zeroes not counted.
    pub cut_bytes: u64,
    /// Bytes of batches that no recovery point covers.
    pub behind_point: u64,
    /// Bytes of a segment that was checked which were not read, because a recovery point
    /// covers them.
    pub spared_bytes: u64,
    /// Names of snapshot files, by offset.
    pub snapshots: Vec<Offset>,
}

/// A `.log` file in the directory.
#[derive(Clone, Copy, Default, Debug)]
struct Found {
    len: u64,
    has_indexes: bool,
}

impl Log {
    /// Opens the log in `dir`, which need not exist yet. `clean` says that the
    /// process had closed the log with [`Log::close_cleanly`] and nobody wrote since.
    ///
    /// `on_batch` is called in order with every batch from `replay_from` on, up to the
    /// end of the log, for what its caller keeps in memory about batches. With
    /// `None` only with those that recovery has to read anyway, of the active segment.
    ///
    /// # Errors
    /// A file operation failed, or bytes that were durable are damaged. The files
    /// have lost nothing then but leftovers.
    pub async fn open(
        disk: &Disk,
        dir: &Path,
        options: LogOptions,
        clean: bool,
        replay_from: Option<Offset>,
        on_batch: &mut dyn FnMut(BatchView<'_>),
    ) -> Result<(Log, Opened), LogError> {
        let name: Rc<str> = dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default().into();
        let start = options.start_offset;
        let opening = Opening { disk, dir, name: &name, options: &options, clean, start, opened: Opened::default() };
        opening.run(replay_from, on_batch).await
    }

    /// Writes and flushes what was appended, gives the active segment its exact
    /// length and its index files, and ends the log. Whoever opens it next may say `clean`.
    ///
    /// # Errors
    /// Not everything could be made durable: the next opening has to recover.
    pub async fn close_cleanly(&self) -> Result<(), LogError> {
        let inner = &self.0;
        {
            let mut state = inner.state.borrow_mut();
            match &state.condition {
                Condition::Online | Condition::Full => state.set_condition(&inner.memory(), Condition::Closing),
                Condition::Closing => {}
                Condition::Ended(error) => return Err(error.clone()),
            }
        }
        inner.memory().refuse(inner, &LogError::Closed(Rc::clone(&inner.name)));
        self.file().await?;
        inner.stop_tasks().await;
        let (unsealed, dirty) = {
            let state = inner.state.borrow();
            if let Condition::Ended(error) = &state.condition {
                return Err(error.clone());
            }
            let unsealed: Vec<_> = state.segments.iter().filter(|segment| !segment.is_sealed()).cloned().collect();
            (unsealed, state.dirty)
        };
        for segment in unsealed {
            if dirty {
                inner.seal_for_close(&segment).await?;
            }
        }
        inner.state.borrow_mut().dirty = false;
        inner.end(LogError::Closed(Rc::clone(&inner.name)));
        let files = inner.take_files();
        for file in files {
            // Everything is durable: what closing says changes nothing.
            let _ = file.close().await;
        }
        Ok(())
    }
}

impl Inner {
    /// Takes all open files out of the segments.
    pub(super) fn take_files(&self) -> Vec<File> {
        let mut state = self.state.borrow_mut();
        state.current = None;
        state.segments.iter().filter_map(|segment| segment.take_file()).collect()
    }
}

struct Opening<'a> {
    disk: &'a Disk,
    dir: &'a Path,
    name: &'a Rc<str>,
    options: &'a LogOptions,
    clean: bool,
    /// Nothing below is to be seen.
    start: Offset,
    opened: Opened,
}

/// What a check of a segment begins with.
struct Below {
    indexes: Indexes,
    youngest: Youngest,
    /// The max timestamp of the first batch.
    first: Option<i64>,
    /// Where the check begins: at a batch.
    from: u64,
    /// Where the batches end that a recovery point covers.
    point: u64,
}

impl Default for Below {
    fn default() -> Below {
        Below { indexes: Indexes::default(), youngest: Youngest::NONE, first: None, from: 0, point: 0 }
    }
}

/// What is known of the last segment once it was looked at.
struct Active {
    segment: Segment,
    next: Offset,
}

impl Opening<'_> {
    async fn run(
        mut self,
        replay_from: Option<Offset>,
        on_batch: &mut dyn FnMut(BatchView<'_>),
    ) -> Result<(Log, Opened), LogError> {
        let mut found = self.list().await?;
        if found.is_empty() {
            // The directory may be there, but not durably: it counts as missing and is
            // made again, with its files, for the first append.
            let start = self.start;
            let mut segments = VecDeque::new();
            segments.push_back(Rc::new(Segment::new(start, now())));
            return Ok(self.finish(segments, start, false));
        }
        let replay_from = replay_from.unwrap_or(Offset(i64::MAX));

        let mut segments: VecDeque<Rc<Segment>> = VecDeque::new();
        let mut end = Offset::ZERO;
        while let Some((base, file)) = found.pop_first() {
            let next_base = found.first_key_value().map(|(base, _)| *base);
            let is_active = next_base.is_none();
            let believed = if is_active {
                self.clean && file.has_indexes
            } else {
                file.has_indexes && base_is_believed(self.options, next_base, self.clean)
            };
            let mut opened = None;
            if believed {
                // The tail is looked at where it matters: the end of the log has to be
                // found, and the segment before the active one may have stale indexes.
                let check_tail = is_active || (!self.clean && found.len() == 1);
                opened = self.believe(base, file.len, check_tail, is_active).await?;
            }
            let active = match opened {
                Some(active) => {
                    if active.next > replay_from || next_base.is_some_and(|next| next > replay_from) {
                        self.replay(&active.segment, replay_from, on_batch).await?;
                    }
                    active
                }
                None => self.check(base, &found, replay_from, on_batch).await?,
            };
            end = active.next;
            let segment = active.segment;
            if !segment.is_sealed() && !is_active {
                // It was cut short: it is the last one now.
                for base in std::mem::take(&mut found).into_keys() {
                    self.remove_segment(base).await?;
                }
            }
            segments.push_back(Rc::new(segment));
        }
        if end < self.options.recovery_point {
            let reason = format!("it ends at {end}; up to {} it was durable", self.options.recovery_point);
            return Err(LogError::Corrupt(format!("{} is damaged: {reason}", self.name).into()));
        }
        if !self.clean {
            // A killed process may have left names that no sync had made durable; what
            // they name counts as durable from here on.
            self.sync_dir().await?;
            if let Some(parent) = self.dir.parent().filter(|_| !self.options.name_is_durable) {
                self.disk.sync_dir(parent).await.map_err(|error| LogError::io("sync", parent, &error))?;
            }
        }
        if end < self.start {
            // Of a broker that did not flush before it moved the start. Nobody may read what is left, and
            // offsets must not be given out again (`UnifiedLog.truncateFullyAndStartAt`).
            end = self.start;
            for segment in segments.drain(..) {
                self.remove_segment(segment.base).await?;
            }
            segments.push_back(Rc::new(Segment::new(end, now())));
            self.opened.behind_point = 0;
        }
        Ok(self.finish(segments, end, true))
    }

    fn finish(self, segments: VecDeque<Rc<Segment>>, end: Offset, dir_exists: bool) -> (Log, Opened) {
        let first = segments.front().map_or(end, |segment| segment.base);
        let active = segments.back().expect("at least one segment is made");
        active.set_sealed(false);
        let state = State {
            config: Rc::clone(&self.options.config),
            segments,
            start: self.start.max(first).min(end),
            given_up: Offset::ZERO,
            progress: Progress::opened_at(end),
            open: None,
            full: VecDeque::new(),
            tail: Default::default(),
            buffer_hint: 0,
            condition: Condition::Online,
            journal_off: false,
            held: false,
            written_waiters: Default::default(),
            durable_waiters: Default::default(),
            flushed_waiters: Default::default(),
            route: Default::default(),
            file_to: end,
            settle_to: end,
            current: None,
            dir_exists,
            flush_to: end,
            flush_wanted: end,
            flush_later: false,
            unflushed_since: None,
            snapshots: VecDeque::new(),
            points: Points::opened_at(self.options.recovery_point.min(end), self.opened.behind_point),
            dirty: self.opened.recovered,
            tasks: Tasks { quiet: true, ..Tasks::default() },
            task_waiters: Vec::new(),
        };
        let inner = Inner {
            name: Rc::clone(self.name),
            disk: self.disk.clone(),
            dir: std::cell::RefCell::new(Rc::from(self.dir)),
            memory: Rc::clone(&self.options.memory).into(),
            verify_reads: self.options.verify_reads,
            journal: self.options.journal.clone().into(),
            unpointed: self.options.unpointed.clone(),
            is_vital: self.options.is_vital.into(),
            state: std::cell::RefCell::new(state),
            files_granted: Default::default(),
            work: Signal::new(),
            flush: Signal::new(),
            observer: Default::default(),
            uses: Default::default(),
            extents: Default::default(),
        };
        (Log(Rc::new(inner)), self.opened)
    }

    /// Lists the directory, and removes or completes what deletion and compaction left.
    async fn list(&mut self) -> Result<BTreeMap<Offset, Found>, LogError> {
        let Some(mut entries) = self.entries().await? else { return Ok(BTreeMap::new()) };
        if self.end_compactions(&entries).await? {
            entries = self.entries().await?.unwrap_or_default();
        }
        if self.end_retention(&entries).await? {
            entries = self.entries().await?.unwrap_or_default();
        }
        let mut found: BTreeMap<Offset, Found> = BTreeMap::new();
        let files = || entries.iter().filter_map(|entry| names::parse(&entry.name).map(|file| (file, entry)));
        for (file, entry) in files().filter(|(file, _)| file.kind == LOG && file.suffix.is_empty()) {
            found.insert(file.base, Found { len: entry.len, has_indexes: false });
        }
        let mut index_files: BTreeMap<Offset, usize> = BTreeMap::new();
        for (file, entry) in files() {
            match (file.suffix, file.kind) {
                (DELETED, _) => self.remove(&entry.name).await?,
                ("", names::SNAPSHOT) => self.opened.snapshots.push(file.base),
                ("", LOG) => {}
                // An index without its segment: what a deletion left.
                ("", _) if !found.contains_key(&file.base) => self.remove(&entry.name).await?,
                ("", OFFSET_INDEX | TIME_INDEX) => *index_files.entry(file.base).or_default() += 1,
                _ => {}
            }
        }
        // What was being written, also of the partition's small files: nobody writes any yet.
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".tmp")) {
            self.remove(&entry.name).await?;
        }
        for (base, file) in &mut found {
            file.has_indexes = index_files.get(base) == Some(&2);
        }
        self.opened.snapshots.sort_unstable();
        Ok(found)
    }

    /// The names in the directory; `None` when there is none.
    async fn entries(&self) -> Result<Option<Vec<DirEntry>>, LogError> {
        match self.disk.list(self.dir).await {
            Ok(entries) => Ok(Some(entries)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("list", self.dir, &error)),
        }
    }

    /// Removes the rest of what retention had given up: of several segments a power cut may have left any. True when
    /// there was such ([`super::retention`]).
    async fn end_retention(&mut self, entries: &[DirEntry]) -> Result<bool, LogError> {
        let files = || entries.iter().filter_map(|entry| names::parse(&entry.name).map(|file| (file, entry)));
        let announced = || files().filter(|(file, _)| file.kind == GIVEN_UP);
        let Some(start) = announced().map(|(file, _)| file.base).max() else { return Ok(false) };
        self.start = self.start.max(start);
        for (_, entry) in
            files().filter(|(file, _)| file.suffix.is_empty() && file.base < start && file.kind != GIVEN_UP)
        {
            self.remove(&entry.name).await?;
        }
        // Before what says so.
        self.sync_dir().await?;
        for (_, entry) in announced() {
            self.remove(&entry.name).await?;
        }
        Ok(true)
    }

    /// Takes back compactions that had not come to their swap, and completes those that had. True when anything was
    /// changed (`LogLoader.load`, [`super::cleaner`]).
    async fn end_compactions(&mut self, entries: &[DirEntry]) -> Result<bool, LogError> {
        let files = || entries.iter().filter_map(|entry| names::parse(&entry.name).map(|file| (file, entry)));
        // A swap had not begun in earnest if a file is still `.cleaned`: the `.swap` ones from there on count
        // for nothing.
        let cleaned = files().filter(|(file, _)| file.suffix == CLEANED);
        let first_cleaned = cleaned.map(|(file, _)| file.base).min().unwrap_or(Offset(i64::MAX));
        let mut changed = false;
        for (_, entry) in files().filter(|(file, _)| file.suffix == SWAP && file.base >= first_cleaned) {
            self.remove(&entry.name).await?;
            changed = true;
        }
        if changed {
            // Before the others go, which say that these count for nothing.
            self.sync_dir().await?;
        }
        for (_, entry) in files().filter(|(file, _)| file.suffix == CLEANED) {
            self.remove(&entry.name).await?;
            changed = true;
        }
        let swaps: Vec<_> = files().filter(|(file, _)| file.suffix == SWAP && file.base < first_cleaned).collect();
        for (log, entry) in swaps.iter().filter(|(file, _)| file.kind == LOG) {
            self.complete_swap(log.base, entry.len, entries).await?;
        }
        for (file, entry) in swaps.iter().filter(|(file, _)| file.kind != LOG) {
            let has_swap = swaps.iter().any(|(other, _)| other.kind == LOG && other.base == file.base);
            if has_swap || file.kind == names::TRANSACTION_INDEX {
                let (from, to) = (self.dir.join(&entry.name), self.dir.join(names::file_name(file.base, file.kind)));
                self.disk.rename(&from, &to).await.map_err(|error| LogError::io("rename", &from, &error))?;
            } else {
                // Made again from the batches: whose it is cannot be seen.
                self.remove(&entry.name).await?;
            }
        }
        if !swaps.is_empty() {
            self.sync_dir().await?;
        }
        Ok(changed || !swaps.is_empty())
    }

    /// A finished compaction whose files had not all taken their places: the new
    /// segment replaces those whose offsets it covers.
    async fn complete_swap(&mut self, base: Offset, len: u64, entries: &[DirEntry]) -> Result<(), LogError> {
        let swap_name = names::file_name(base, LOG) + SWAP;
        let path = self.dir.join(&swap_name);
        let file = self
            .disk
            .open(&path, crate::runtime::disk::Open::READ_ONLY)
            .await
            .map_err(|error| LogError::open(&path, &error))?;
        let scanned = scan::scan(&file, Range { from: 0, to: len }, Expect::rising(base), &mut |_, _| {})
            .await
            .map_err(|error| LogError::io("read", &path, &error))?;
        if let Some(fault) = scanned.fault {
            return Err(LogError::Corrupt(format!("{swap_name} of {}: {fault}", self.name).into()));
        }
        let _ = file.close().await;
        let covered = base..scanned.next.max(base.plus(1));
        for entry in entries {
            let replaced = names::parse(&entry.name).is_some_and(|file| {
                file.suffix.is_empty() && file.kind != names::SNAPSHOT && covered.contains(&file.base)
            });
            if replaced {
                self.remove(&entry.name).await?;
            }
        }
        // No old segment may be there beside the new one.
        self.sync_dir().await?;
        let to = self.dir.join(names::file_name(base, LOG));
        self.disk.rename(&path, &to).await.map_err(|error| LogError::io("rename", &path, &error))?;
        self.sync_dir().await
    }

    /// Takes a segment as it is, with its index files. `None` if they, or the end
    /// of the file, are not as they should be.
    async fn believe(
        &mut self,
        base: Offset,
        len: u64,
        check_tail: bool,
        is_active: bool,
    ) -> Result<Option<Active>, LogError> {
        let segment = Segment::found(base, len, now());
        if !check_tail {
            // Nothing is read: index files when somebody needs them, the end from the next segment's base.
            return Ok(Some(Active { segment, next: base }));
        }
        let Ok(indexes) = read_index_files(self.disk, self.dir, base, len).await? else { return Ok(None) };
        let (last, position) = indexes.offsets.last().map_or((0, 0), |(last, position)| (i64::from(last), position));
        let mut next = base;
        let mut youngest = youngest_of(&indexes, base);
        let mut first_in_tail = true;
        let interval = self.options.config.index_interval_bytes.max(0) as u64;
        let mut largest = 0;
        if len > 0 {
            let file = match self.clean {
                true => segment.file(self.disk, self.dir).await?,
                false => segment.file_of_killed(self.disk, self.dir).await?,
            };
            let expected = Expect::rising(base);
            let mut seems_right = true;
            let scanned = scan::scan(&file, Range { from: position, to: len }, expected, &mut |batch, at| {
                // The entry names the batch that begins at its position.
                if std::mem::take(&mut first_in_tail) && position > 0 {
                    seems_right = batch.last_offset() == base.plus(last) && at == position;
                }
                youngest = youngest.with(batch.max_timestamp(), batch.last_offset());
                largest = largest.max(batch.size() as u64);
            })
            .await
            .map_err(|error| LogError::io("read", &segment.log_path(self.dir), &error))?;
            // Index files of an earlier clean close tell of less than is there now.
            let unindexed = len - position;
            let stale = !is_active && (youngest != youngest_of(&indexes, base) || unindexed > 2 * interval + largest);
            if scanned.fault.is_some() || !seems_right || stale {
                return Ok(None);
            }
            if !is_active {
                // A process that was killed while it sealed may have left the exact length
                // to the next power cut.
                let path = segment.log_path(self.dir);
                file.flush().await.map_err(|error| LogError::io("flush", &path, &error))?;
                drop(segment.take_file());
            }
            next = scanned.next;
        }
        if is_active {
            self.opened.behind_point += len;
            segment.set_indexes(indexes, youngest);
            if let Some(file) = segment.open_file().filter(|_| len > 0) {
                let path = segment.log_path(self.dir);
                let first = first_timestamp(&file).await.map_err(|error| LogError::io("read", &path, &error))?;
                segment.set_first_timestamp(first);
            }
            // Closed again: the first append or read opens it. An idle log holds no descriptor.
            drop(segment.take_file());
        }
        Ok(Some(Active { segment, next }))
    }

    /// Checks a segment batch by batch, cuts it behind the last right batch if that
    /// is a torn tail, and rebuilds its indexes.
    async fn check(
        &mut self,
        base: Offset,
        later: &BTreeMap<Offset, Found>,
        replay_from: Offset,
        on_batch: &mut dyn FnMut(BatchView<'_>),
    ) -> Result<Active, LogError> {
        self.opened.recovered = true;
        let next_base = later.first_key_value().map(|(base, _)| *base);
        let is_active = next_base.is_none();
        let segment = Segment::new(base, now());
        let path = segment.log_path(self.dir);
        let file = segment.create(self.disk, self.dir).await.map_err(|error| LogError::open(&path, &error))?;
        // Only now: a write of the process before may have been under way since the directory was read.
        let len = file.length();
        let Below { mut indexes, mut youngest, mut first, from, point } =
            self.below_point(&file, base, next_base, len, replay_from).await?.unwrap_or_default();
        let interval = self.options.config.index_interval_bytes.max(0) as u64;
        // A segment that is not the last may have been compacted, and have gaps.
        let expect = if is_active { Expect::exact_after_first(base) } else { Expect::rising(base) };
        let scanned = scan::scan(&file, Range { from, to: len }, expect, &mut |batch, position| {
            let last = batch.last_offset();
            youngest = youngest.with(batch.max_timestamp(), last);
            first.get_or_insert(batch.max_timestamp());
            let entry = IndexedBatch { last: (last.0 - base.0) as i32, position, size: batch.size() as u64 };
            indexes.add(entry, youngest, interval, base);
            if last >= replay_from {
                on_batch(batch);
            }
        })
        .await
        .map_err(|error| LogError::io("read", &path, &error))?;
        self.opened.scanned_bytes += scanned.end - from;
        self.opened.spared_bytes += from;
        if next_base.is_none_or(|next| next > self.options.recovery_point) {
            self.opened.behind_point += scanned.end - point;
        }

        // A segment that reaches up to the next one is whole, also if it was still
        // being sealed and its allocated space lies behind.
        let whole = scanned.fault.is_none() || next_base == Some(scanned.next);
        let sealed = !is_active && whole;
        if let Some(fault) = &scanned.fault {
            if !whole {
                self.may_cut(&segment, fault, scanned.next)?;
                // The segments behind are empty by the writer's order, or somebody
                // damaged durable bytes.
                for (base, file) in later {
                    if self.has_batches(*base, file.len).await? {
                        let reason = format!("{fault}; the segments after it have batches");
                        return Err(self.corrupt(&segment, &reason));
                    }
                }
            }
            if fault.reason != Reason::Zeroes {
                let cut = len - scanned.end;
                tracing::warn!("{}: cut {cut} bytes off: {fault}", path.display());
                self.opened.cut_bytes += cut;
            }
        }
        if scanned.end < len {
            file.set_length(scanned.end).await.map_err(|error| LogError::io("cut", &path, &error))?;
        }
        // Also what was found right may never have been flushed. From here on it counts as durable.
        file.flush().await.map_err(|error| LogError::io("flush", &path, &error))?;
        segment.set_size(scanned.end);
        segment.set_indexes(indexes, youngest);
        if let Some(first) = first {
            segment.set_first_timestamp(first);
        }
        if sealed {
            let (offsets, times) = segment.index_files();
            for (kind, bytes) in [(OFFSET_INDEX, offsets), (TIME_INDEX, times)] {
                let path = segment.path(self.dir, kind);
                self.disk.write_file(&path, bytes).await.map_err(|error| LogError::io("write", &path, &error))?;
            }
            segment.forget_indexes();
            segment.set_sealed(true);
            drop(segment.take_file());
        }
        Ok(Active { segment, next: scanned.next })
    }

    /// What is known of a segment in which the recovery point lies, without reading what
    /// is below it: from its index files, if they and the batches at the point are as
    /// they should be. `None`: all of the segment has to be read. Nothing below the point is
    /// to be replayed then, or there is no point in it.
    async fn below_point(
        &self,
        file: &File,
        base: Offset,
        next_base: Option<Offset>,
        len: u64,
        replay_from: Offset,
    ) -> Result<Option<Below>, LogError> {
        let point = self.options.recovery_point;
        if point <= base || next_base.is_some_and(|next| point > next) || replay_from < point {
            return Ok(None);
        }
        let path = self.dir.join(names::file_name(base, LOG));
        let mut indexes = match read_index_files(self.disk, self.dir, base, len).await? {
            Ok(indexes) => indexes,
            Err(reason) => {
                tracing::warn!("{}: the recovery point {point} is of no use: {reason}", path.display());
                return Ok(None);
            }
        };
        let Some((last, from)) = indexes.cut_before(point.0 - base.0) else { return Ok(None) };
        // The entry names the batch that begins there, and batches lead from it to the point.
        let mut named = None;
        let expect = Expect::rising(base).until(point);
        let scanned = scan::scan(file, Range { from, to: len }, expect, &mut |batch, _| {
            named.get_or_insert(batch.last_offset());
        })
        .await
        .map_err(|error| LogError::io("read", &path, &error))?;
        if scanned.fault.is_some() || scanned.next != point || named != Some(base.plus(i64::from(last))) {
            tracing::warn!(
                "{}: the batches at the recovery point {point} are not what its index says: all of it is read",
                path.display()
            );
            return Ok(None);
        }
        let first = first_timestamp(file).await.map_err(|error| LogError::io("read", &path, &error))?;
        let youngest = youngest_of(&indexes, base);
        Ok(Some(Below { indexes, youngest, first: Some(first), from, point: scanned.end }))
    }

    /// Refuses to cut what was durable, or is of a format that we do not read.
    fn may_cut(&self, segment: &Segment, fault: &Fault, next: Offset) -> Result<(), LogError> {
        if fault.position == 0
            && let Reason::Header(BatchError::Magic(magic @ (0 | 1))) = fault.reason
        {
            let reason = format!("its batches are of format {magic}, of before Kafka 0.11; corelog reads format 2");
            return Err(self.corrupt(segment, &reason));
        }
        if next < self.options.recovery_point || self.clean {
            return Err(self.corrupt(segment, &format!("{fault}; this part of the log was durable")));
        }
        Ok(())
    }

    fn corrupt(&self, segment: &Segment, reason: &str) -> LogError {
        let file = names::file_name(segment.base, LOG);
        LogError::Corrupt(format!("{file} of {} is damaged: {reason}", self.name).into())
    }

    /// Shows the batches from `from` on of a segment that is believed.
    async fn replay(
        &mut self,
        segment: &Segment,
        from: Offset,
        on_batch: &mut dyn FnMut(BatchView<'_>),
    ) -> Result<(), LogError> {
        let file = segment.file(self.disk, self.dir).await?;
        let path = segment.log_path(self.dir);
        let range = Range { from: 0, to: segment.size() };
        let scanned = scan::scan(&file, range, Expect::rising(segment.base), &mut |batch, _| {
            if batch.last_offset() >= from {
                on_batch(batch);
            }
        })
        .await
        .map_err(|error| LogError::io("read", &path, &error))?;
        drop(segment.take_file());
        match scanned.fault {
            Some(fault) => Err(self.corrupt(segment, &fault.to_string())),
            None => Ok(()),
        }
    }

    /// Whether the file begins with a batch.
    async fn has_batches(&self, base: Offset, len: u64) -> Result<bool, LogError> {
        let segment = Segment::found(base, len, now());
        let path = segment.log_path(self.dir);
        let file = segment.file_of_killed(self.disk, self.dir).await?;
        let mut any = false;
        scan::scan(&file, Range { from: 0, to: len }, Expect::rising(base), &mut |_, _| any = true)
            .await
            .map_err(|error| LogError::io("read", &path, &error))?;
        Ok(any)
    }

    async fn remove_segment(&self, base: Offset) -> Result<(), LogError> {
        for kind in [OFFSET_INDEX, TIME_INDEX, names::TRANSACTION_INDEX, LOG] {
            self.remove(&names::file_name(base, kind)).await?;
        }
        self.sync_dir().await
    }

    async fn remove(&self, name: &str) -> Result<(), LogError> {
        let path = self.dir.join(name);
        match self.disk.remove(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io("remove", &path, &error)),
            _ => Ok(()),
        }
    }

    async fn sync_dir(&self) -> Result<(), LogError> {
        self.disk.sync_dir(self.dir).await.map_err(|error| LogError::io("sync", self.dir, &error))
    }
}

/// Where the log in `dir` ends by its last segment: behind the last batch there that is right. Changes nothing.
///
/// # Errors
/// A file operation failed.
pub async fn end_on_drive(disk: &Disk, dir: &Path) -> Result<Offset, LogError> {
    let entries = disk.list(dir).await.map_err(|error| LogError::io("list", dir, &error))?;
    let logs = entries.iter().filter_map(|entry| names::parse(&entry.name).map(|file| (file, entry.len)));
    let last = logs.filter(|(file, _)| file.kind == LOG && file.suffix.is_empty()).max_by_key(|(file, _)| file.base);
    let Some((SegmentFile { base, .. }, len)) = last else {
        return Ok(Offset::ZERO);
    };
    let segment = Segment::found(base, len, now());
    let path = segment.log_path(dir);
    let file = segment.file_of_killed(disk, dir).await?;
    let range = Range { from: 0, to: file.length() };
    let scanned = scan::scan(&file, range, Expect::exact_after_first(base), &mut |_, _| {}).await;
    let _ = segment.take_file();
    let ended = file.close().await;
    let next = scanned.map_err(|error| LogError::io("read", &path, &error))?.next;
    ended.map_err(|error| LogError::io("close", &path, &error))?;
    Ok(next)
}

/// Whether a sealed segment with index files needs no check: it was closed or
/// sealed, or lies below what a checkpoint knows to be durable.
fn base_is_believed(options: &LogOptions, next_base: Option<Offset>, clean: bool) -> bool {
    // Kafka writes index files while a segment grows, so after its unclean stop only
    // the recovery point says which segments are whole. Our own are whole once they have index files.
    clean || options.recovery_point == Offset::ZERO || next_base.is_some_and(|next| next <= options.recovery_point)
}
