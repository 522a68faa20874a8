//! Reading: first a plan, made without waiting while nothing can change; then its
//! execution, which holds no borrow of the log.
//!
//! A plan whose first batch is in the tail is done when it is made: pieces of shared
//! buffers. Any other is one direct read of at most the rest of one segment, cut at
//! batch borders, each batch's checksum verified.

use std::rc::Rc;

use crate::base::limits::LOG_READ_BYTES_MAX;
use crate::base::{Offset, Rope};
use crate::record::{BatchError, BatchView};
use crate::runtime::disk::Slice;
use crate::runtime::task;

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
        if let Some(rope) = state.tail.gather(wanted) {
            return Ok(ReadPlan(Plan::Done(rope)));
        }
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
    /// The drive failed, or gave bytes whose checksum is wrong.
    pub async fn execute(self) -> Result<Rope, LogError> {
        match self.0 {
            Plan::Done(rope) => Ok(rope),
            Plan::Drive(plan) => plan.execute().await,
        }
    }
}

impl DrivePlan {
    async fn execute(mut self) -> Result<Rope, LogError> {
        loop {
            if let Some(rope) = self.read_segment().await? {
                return Ok(rope);
            }
            // Compaction may leave the wanted offset behind the segment's last batch.
            let next = {
                let state = self.log.state.borrow();
                state.segments.iter().find(|segment| segment.base > self.segment.base).cloned()
            };
            match next {
                Some(next) if next.base < self.wanted.upper => self.segment = next,
                _ => return Ok(Rope::new()),
            }
        }
    }

    /// The wanted batches of the plan's segment; `None` if it has none of them.
    async fn read_segment(&self) -> Result<Option<Rope>, LogError> {
        let (log, segment, wanted) = (&self.log, &self.segment, self.wanted);
        let dir = log.dir();
        let interval = log.state.borrow().config.index_interval_bytes.max(0) as u64;
        log.touch(segment);
        segment.load_indexes(&log.disk, &dir, interval).await?;
        let size = segment.size();
        let relative = wanted.from.0 - segment.base.0;
        let (floor, ceiling) = segment
            .with_indexes(|indexes| (indexes.offsets.floor(relative), indexes.offsets.ceiling(relative)))
            .unwrap_or((0, None));
        let file = segment.file(&log.disk, &dir).await?;
        let path = segment.log_path(&dir);
        let read_error = |error: std::io::Error| LogError::io("read", &path, &error);

        // The first batch begins between floor and ceiling.
        let bytes_max = wanted.bytes_max.min(LOG_READ_BYTES_MAX);
        let skip = ceiling.unwrap_or(size).saturating_sub(floor).min(LOG_READ_BYTES_MAX as u64) as usize;
        let mut position = floor;
        let mut len = skip.max(crate::record::BATCH_HEADER_BYTES) + bytes_max;
        while position < size {
            let len_here = (len as u64).min(size - position) as usize;
            let bytes = file.read(position, len_here).await.map_err(read_error)?;
            let taken = match self.take(&bytes, position)? {
                Taken::Batches { start, end } => {
                    let mut rope = Rope::new();
                    if end > start {
                        rope.push(bytes.into_piece(start..end));
                    }
                    return Ok(Some(rope));
                }
                more => more,
            };
            match taken {
                Taken::None { at: 0 } => return Err(self.corrupt(position, "the file ends within a batch")),
                // All of this lies before the first batch.
                Taken::None { at } => position += at as u64,
                Taken::First { at, need } => {
                    position += at as u64;
                    len = need.max(bytes_max);
                    if position + need as u64 > size {
                        return Err(self.corrupt(position, "the file ends within a batch"));
                    }
                }
                Taken::Batches { .. } => unreachable!("returned above"),
            }
            task::yield_if_needed().await;
        }
        Ok(None)
    }

    /// Finds the wanted batches in what was read from `position`.
    fn take(&self, bytes: &Slice, position: u64) -> Result<Taken, LogError> {
        let wanted = self.wanted;
        let mut at = 0;
        let mut start = None;
        while at < bytes.len() {
            let batch = match BatchView::first(&bytes[at..]) {
                Ok(batch) => batch,
                Err(BatchError::Cut { need, .. }) if start.is_none() => {
                    // Whether it is the first wanted one is known by its header.
                    return Ok(if at == 0 { Taken::First { at, need } } else { Taken::None { at } });
                }
                Err(BatchError::Cut { .. }) => break,
                Err(error) => return Err(self.corrupt(position + at as u64, &error.to_string())),
            };
            if batch.last_offset() < wanted.from {
                at += batch.size();
                continue;
            }
            if batch.last_offset() >= wanted.upper {
                start.get_or_insert(at);
                break;
            }
            let taken = at - *start.get_or_insert(at);
            let is_first = taken == 0;
            if taken + batch.size() > wanted.bytes_max && !(is_first && wanted.at_least_one) {
                break;
            }
            if self.log.verify_reads && !batch.crc_is_right() {
                return Err(self.corrupt(position + at as u64, "a batch whose checksum is wrong"));
            }
            at += batch.size();
            if batch.next_offset() >= wanted.upper {
                // What lies behind may not be written yet.
                break;
            }
        }
        Ok(match start {
            Some(start) => Taken::Batches { start, end: at },
            None => Taken::None { at },
        })
    }

    fn corrupt(&self, position: u64, reason: &str) -> LogError {
        let file = names::file_name(self.segment.base, names::LOG);
        LogError::Corrupt(format!("{file} of {} is damaged at position {position}: {reason}", self.log.name).into())
    }
}

enum Taken {
    /// The answer.
    Batches { start: usize, end: usize },
    /// The first wanted batch lies at or behind `at`.
    None { at: usize },
    /// What was read begins, at `at`, with a batch that needs more bytes than were read.
    First { at: usize, need: usize },
}
