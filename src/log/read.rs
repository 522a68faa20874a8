//! Reading: first a plan, made without waiting while nothing can change; then its
//! execution, which holds no borrow of the log.
//!
//! A plan whose first batch is in the tail is done when it is made: pieces of shared
//! buffers. Any other is a piece of an extent: of one that was read before, or of a direct
//! read of at most the rest of one segment, cut at batch borders, each batch's checksum
//! verified. For readers that read on it is larger than what was asked for, and the next
//! one is read while they take it.

use std::path::Path;
use std::rc::Rc;

use crate::base::limits::{BLOCK_BYTES, EXTENT_BYTES, LOG_READ_BYTES_MAX};
use crate::base::{Offset, Piece, Rope};
use crate::record::{BatchError, BatchView};
use crate::runtime::disk::Slice;
use crate::runtime::task::{self, OnPanic, Queue};

use super::extents::{Collected, Coming, Extent, Extents};
use super::segment::Segment;
use super::tail::Wanted;
use super::{Condition, Inner, Log, LogError, Stage, names};

/// What to read.
pub struct ReadPlan(Plan);

enum Plan {
    /// Complete already: from memory, or nothing.
    Done(Rope),
    Drive(DrivePlan),
}

struct DrivePlan {
    log: Rc<Inner>,
    segment: Rc<Segment>,
    wanted: Wanted,
}

impl Log {
    /// Plans to read batches from the one that holds `from`, below `upper` and below
    /// what is written, of at most `bytes_max` bytes. With `at_least_one` the first
    /// batch comes even if it is larger.
    ///
    /// # Errors
    /// `from` lies outside of the log, or the log has ended.
    pub fn read_plan(
        &self,
        from: Offset,
        upper: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<ReadPlan, LogError> {
        let inner = &self.0;
        let state = inner.state.borrow();
        if let Condition::Ended(error) = &state.condition {
            return Err(error.clone());
        }
        let (start, end) = (state.start, state.progress.appended().offset);
        if from < start || from > end {
            return Err(LogError::OutOfRange { offset: from, start, end });
        }
        let upper = upper.min(state.progress.at(Stage::Written).offset);
        let wanted = Wanted { from, upper, bytes_max, at_least_one };
        if from >= upper || (bytes_max == 0 && !at_least_one) {
            return Ok(ReadPlan(Plan::Done(Rope::new())));
        }
        if let Some(rope) = state.buffers().gather(wanted) {
            return Ok(ReadPlan(Plan::Done(rope)));
        }
        // What only the journal has is in memory; files end before it.
        let wanted = Wanted { upper: upper.min(state.progress.filed().offset), ..wanted };
        let segment = Rc::clone(&state.segments[state.segment_of(from)]);
        Ok(ReadPlan(Plan::Drive(DrivePlan { log: Rc::clone(inner), segment, wanted })))
    }

    /// Shows all batches from the one that holds `from`, in order, up to what is
    /// written when it begins: for state that is rebuilt from a log.
    pub async fn replay(&self, from: Offset, mut on_batch: impl FnMut(BatchView<'_>)) -> Result<(), LogError> {
        let upper = self.written_offset();
        let mut next = from.max(self.start_offset());
        while next < upper {
            let rope = self.read_plan(next, upper, crate::base::limits::SCAN_BYTES, true)?.execute().await?;
            let before = next;
            for piece in rope.pieces() {
                let mut bytes = piece.as_slice();
                while let Ok(batch) = BatchView::first(bytes) {
                    bytes = &bytes[batch.size()..];
                    next = batch.next_offset();
                    on_batch(batch);
                }
            }
            if next == before {
                // Only a gap that compaction left is in between: there is nothing more.
                break;
            }
            task::yield_if_needed().await;
        }
        Ok(())
    }
}

impl ReadPlan {
    /// The bytes, if no drive has to be asked.
    #[cfg(test)]
    pub fn bytes_in_memory(&self) -> Option<usize> {
        match &self.0 {
            Plan::Done(rope) => Some(rope.len()),
            Plan::Drive(_) => None,
        }
    }

    /// How many bytes it may give; 0: none. A single batch that is larger than what was
    /// asked for comes on top.
    pub fn bytes_max(&self) -> usize {
        match &self.0 {
            Plan::Done(rope) => rope.len(),
            Plan::Drive(plan) => plan.wanted.bytes_max.clamp(1, LOG_READ_BYTES_MAX),
        }
    }

    /// Whether no drive has to be asked.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0, Plan::Done(_))
    }

    /// The batches, if no drive has to be asked.
    ///
    /// # Errors
    /// The plan: it has to be executed.
    pub fn into_records(self) -> Result<Rope, ReadPlan> {
        match self.0 {
            Plan::Done(rope) => Ok(rope),
            drive => Err(ReadPlan(drive)),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// The drive failed, or gave bytes whose checksum is wrong; or what could not be read has been given up meanwhile.
    pub async fn execute(self) -> Result<Rope, LogError> {
        match self.0 {
            Plan::Done(rope) => Ok(rope),
            Plan::Drive(plan) => plan.execute().await,
        }
    }
}

/// How an extent is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Who asks has not been seen before.
    New,
    /// Goes on where a reader stopped.
    ReadsOn,
    /// Nobody yet.
    Expected,
}

impl DrivePlan {
    async fn execute(mut self) -> Result<Rope, LogError> {
        let log = Rc::clone(&self.log);
        loop {
            if let Some(extent) = log.extents.get(self.wanted.from) {
                return Ok(self.serve(&extent, log.extents.is_stop(self.wanted.from)));
            }
            // Read on behalf of somebody who is there; should it fail, it is tried here.
            let Some(coming) = log.extents.coming(self.wanted.from) else { break };
            let _ = coming.await;
        }
        let reader = if log.extents.is_stop(self.wanted.from) { Reader::ReadsOn } else { Reader::New };
        let _coming = (reader == Reader::ReadsOn).then(|| Extents::begin(&log, self.wanted.from));
        Ok(match self.extent(reader).await? {
            Some(extent) => self.serve(&extent, reader == Reader::ReadsOn),
            None => Rope::new(),
        })
    }

    /// The wanted part of an extent. Of a reader that reads on, what follows is read meanwhile.
    fn serve(&self, extent: &Rc<Extent>, reads_on: bool) -> Rope {
        let mut rope = Rope::new();
        let found = extent.find(self.wanted);
        if found.is_empty() {
            return rope;
        }
        let stop = extent.next_of(found.end);
        self.log.extents.moved(self.wanted.from, stop);
        if reads_on && extent.is_past_half(found.end) {
            self.read_ahead(extent);
        }
        rope.push(Piece::shared(Rc::clone(extent) as Rc<dyn AsRef<[u8]>>, found));
        rope
    }

    /// Has the extent read that follows, if the drive has it.
    fn read_ahead(&self, extent: &Extent) {
        let log = &self.log;
        let from = extent.next;
        let (upper, segment) = {
            let state = log.state.borrow();
            let in_memory = state.buffers().first_offset();
            let upper = state.progress.filed().offset;
            if from >= in_memory.unwrap_or(upper).min(upper) || matches!(state.condition, Condition::Ended(_)) {
                return;
            }
            (upper, Rc::clone(&state.segments[state.segment_of(from)]))
        };
        if log.extents.get(from).is_some() {
            return;
        }
        let Some(coming) = Extents::begin(log, from) else { return };
        let wanted = Wanted { from, upper, bytes_max: EXTENT_BYTES, at_least_one: true };
        let plan = DrivePlan { log: Rc::clone(log), segment, wanted };
        task::spawn(Queue::Log, "read ahead", OnPanic::StopProcess, plan.ahead(coming));
    }

    async fn ahead(mut self, _coming: Coming) {
        // Who comes here finds the error again, and is told.
        if let Err(error) = self.extent(Reader::Expected).await {
            tracing::debug!("reading ahead: {error}");
        }
    }

    /// Reads the extent that begins with the first wanted batch, and keeps it if there is memory for
    /// it. `None`: the log has no such batch any more.
    async fn extent(&mut self, reader: Reader) -> Result<Option<Rc<Extent>>, LogError> {
        loop {
            let dir = self.log.dir();
            let read = self.read_segment(reader, &dir).await;
            if self.segment.is_replaced() {
                // Whatever was read by its name may have been of the segment that compaction put in its place.
                let state = self.log.state.borrow();
                if let Condition::Ended(error) = &state.condition {
                    return Err(error.clone());
                }
                self.segment = Rc::clone(&state.segments[state.segment_of(self.wanted.from)]);
                continue;
            }
            if read.is_err() && self.log.left(&dir).await {
                continue;
            }
            let read = match read {
                // Its files went while they were looked for.
                Err(_) if self.log.is_given_up(&self.segment) => {
                    let end = self.log.state.borrow().progress.appended().offset;
                    return Err(LogError::OutOfRange { offset: self.wanted.from, start: self.log.given_up(), end });
                }
                read => read?,
            };
            if let Some(extent) = read {
                return Ok(Some(extent));
            }
            // Compaction may leave the wanted offset behind the segment's last batch.
            let next = {
                let state = self.log.state.borrow();
                state.segments.iter().find(|segment| segment.base > self.segment.base).cloned()
            };
            match next {
                Some(next) if next.base < self.wanted.upper => self.segment = next,
                _ => return Ok(None),
            }
        }
    }

    /// The extent of the plan's segment; `None` if it has none of the wanted batches.
    async fn read_segment(&self, reader: Reader, dir: &Rc<Path>) -> Result<Option<Rc<Extent>>, LogError> {
        let (log, segment, wanted) = (&self.log, &self.segment, self.wanted);
        let (interval, filed) = {
            let state = log.state.borrow();
            (state.config.index_interval_bytes.max(0) as u64, state.progress.filed().offset)
        };
        log.touch(segment);
        segment.load_indexes(&log.disk, dir, interval).await?;
        let size = segment.size();
        let relative = wanted.from.0 - segment.base.0;
        let (floor, ceiling) = segment
            .with_indexes(|indexes| (indexes.offsets.floor_entry(relative), indexes.offsets.ceiling(relative)))
            .unwrap_or((None, None));
        let file = segment.file(&log.disk, dir).await?;
        let path = segment.log_path(dir);
        let read_error = |error: std::io::Error| LogError::io("read", &path, &error);

        // Where a reader stopped, the batch's place is known; else it begins between floor and ceiling.
        let known = log.extents.place_of(segment.base, wanted.from);
        // There the index knows of a batch, of which no offset is greater.
        let greatest = floor.filter(|_| known.is_none()).map(|(last, _)| segment.base.plus(i64::from(last)));
        let floor = floor.map_or(0, |(_, position)| position);
        let (mut position, skip) = match known {
            Some(position) => (position, 0),
            None => (floor, ceiling.unwrap_or(size).saturating_sub(floor).min(LOG_READ_BYTES_MAX as u64) as usize),
        };
        let asked = wanted.bytes_max.min(LOG_READ_BYTES_MAX);
        let mut least = skip.max(crate::record::BATCH_HEADER_BYTES) + asked;
        let mut len = if reader == Reader::New { least } else { least.max(EXTENT_BYTES) };
        while position < size {
            let span = |len: usize| {
                let end = position + (len as u64).min(size - position);
                (end.next_multiple_of(BLOCK_BYTES as u64) - position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64) as usize
            };
            // What cannot be kept is no larger than need be.
            let memory = log.memory().extents.take(span(len));
            if memory.is_none() {
                if reader == Reader::Expected {
                    return Ok(None);
                }
                len = least;
            }
            let len_here = (len as u64).min(size - position) as usize;
            let bytes = log.memory().turns.read(&file, position, len_here).await.map_err(read_error)?;
            if segment.is_replaced() {
                return Ok(None);
            }
            let greatest = greatest.filter(|_| position == floor);
            match self.collect(&bytes, position, filed, greatest)? {
                Taken::Batches(collected) => {
                    let kept = memory.is_some();
                    let extent = Rc::new(collected.finish(segment.base, wanted.from, bytes, position, memory));
                    if kept {
                        log.extents.keep(log, &log.memory().extents, &extent);
                    }
                    return Ok(Some(extent));
                }
                Taken::None { at: 0 } => return Err(self.corrupt(position, "the file ends within a batch")),
                // All of this lies before the first batch.
                Taken::None { at } => position += at as u64,
                Taken::First { at, need } => {
                    position += at as u64;
                    least = need.max(asked);
                    len = least;
                    if position + need as u64 > size {
                        return Err(self.corrupt(position, "the file ends within a batch"));
                    }
                }
                Taken::NothingYet => return Ok(None),
            }
            task::yield_if_needed().await;
        }
        Ok(None)
    }

    /// Collects the batches from the first wanted one in what was read from `position`, as far as they
    /// are whole and below `filed`.
    ///
    /// A drive may give bytes of another place, whose checksums are right: offsets rise, and that of the first is at most
    /// `greatest` if that is known. And a batch that seems to lie before the wanted ones may be one of them, or cover one,
    /// were it not for a flipped bit: the last that is passed over is looked at where the wanted offset is not found.
    fn collect(
        &self,
        bytes: &Slice,
        position: u64,
        filed: Offset,
        greatest: Option<Offset>,
    ) -> Result<Taken, LogError> {
        let mut at = 0;
        let mut expected = self.segment.base;
        let mut collected: Option<Collected> = None;
        let mut passed_over: Option<(usize, BatchView<'_>)> = None;
        let passed_over_well = |passed_over: &Option<(usize, BatchView<'_>)>| match passed_over {
            Some((at, batch)) if self.log.verify_reads && !batch.crc_is_right() => {
                Err(self.corrupt(position + *at as u64, "a batch whose checksum is wrong"))
            }
            _ => Ok(()),
        };
        while at < bytes.len() {
            let batch = match (BatchView::first(&bytes[at..]), &collected) {
                (Ok(batch), _) => batch,
                // Those before it are good.
                (Err(_), Some(_)) => break,
                (Err(BatchError::Cut { need, .. }), None) => {
                    passed_over_well(&passed_over)?;
                    // Whether it is the first wanted one is known by its header.
                    return Ok(if at == 0 { Taken::First { at, need } } else { Taken::None { at } });
                }
                (Err(error), None) => return Err(self.corrupt(position + at as u64, &error.to_string())),
            };
            let is_other = batch.base_offset() < expected
                || batch.last_offset_delta() < 0
                || at == 0 && greatest.is_some_and(|last| batch.base_offset() > last);
            if is_other {
                match collected {
                    Some(_) => break,
                    None => return Err(self.corrupt(position + at as u64, "another batch than there should be")),
                }
            }
            expected = batch.next_offset();
            if batch.last_offset() < self.wanted.from {
                at += batch.size();
                passed_over = Some((at - batch.size(), batch));
                continue;
            }
            if batch.last_offset() >= filed {
                if batch.base_offset() < filed && collected.is_none() {
                    return Err(self.corrupt(position + at as u64, "a batch that ends behind what was written"));
                }
                // What lies here may not be written yet, or only to the journal.
                break;
            }
            if self.log.verify_reads && !batch.crc_is_right() {
                match collected {
                    // Those before it are good.
                    Some(_) => break,
                    None => return Err(self.corrupt(position + at as u64, "a batch whose checksum is wrong")),
                }
            }
            match &mut collected {
                Some(collected) => collected.add(&batch),
                None => {
                    if batch.base_offset() > self.wanted.from {
                        passed_over_well(&passed_over)?;
                    }
                    collected = Some(Collected::new(&batch, at));
                }
            }
            at += batch.size();
            if batch.next_offset() >= filed {
                break;
            }
        }
        Ok(match collected {
            Some(collected) => Taken::Batches(collected),
            None if at < bytes.len() => Taken::NothingYet,
            None => {
                passed_over_well(&passed_over)?;
                Taken::None { at }
            }
        })
    }

    fn corrupt(&self, position: u64, reason: &str) -> LogError {
        let file = names::file_name(self.segment.base, names::LOG);
        LogError::Corrupt(format!("{file} of {} is damaged at position {position}: {reason}", self.log.name).into())
    }
}

enum Taken {
    /// The wanted batches, and what follows them.
    Batches(Collected),
    /// The first wanted batch lies at or behind `at`.
    None { at: usize },
    /// What was read begins, at `at`, with a batch that needs more bytes than were read.
    First { at: usize, need: usize },
    /// The first wanted batch is not in the file yet.
    NothingYet,
}
