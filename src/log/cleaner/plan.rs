//! What may be cleaned of a log, how dirty it is, and which of its segments become one
//! (`LogCleanerManager.cleanableOffsets`, `Cleaner.groupSegmentsBySize`).

use std::rc::Rc;

use crate::base::{Offset, UnixMs};
use crate::runtime::task;

use super::super::index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use super::super::segment::Segment;
use super::super::{Condition, Log, LogError};
use super::{CleanError, Run};

/// How dirty a log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirt {
    /// The first offset that was not cleaned yet.
    pub from: Offset,
    /// Where what can be cleaned now ends: a border of segments, or `from`.
    pub upper: Offset,
    /// Bytes of segments that are clean, and of those that can be cleaned now.
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// Something dirty is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Dirt {
    /// The share of what can be cleaned now.
    pub fn ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Whether to clean it: `ratio_min` is `min.cleanable.dirty.ratio`.
    pub fn is_due(&self, ratio_min: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio() > ratio_min)
    }
}

impl Log {
    /// How dirty the log is, when it was cleaned up to `cleaned` and everything below `stable` is decided.
    ///
    /// # Errors
    /// The log has ended, or a file cannot be read.
    pub async fn dirt(&self, cleaned: Offset, stable: Offset, now: UnixMs) -> Result<Dirt, LogError> {
        let config = self.config();
        let (from, sealed, limit) = {
            let state = self.0.state.borrow();
            if let Condition::Ended(error) = &state.condition {
                return Err(error.clone());
            }
            let end = state.progress.appended().offset;
            // A checkpoint of another life of the name, or of before retention: all of it is dirty.
            let from = if cleaned < state.start || cleaned > end { state.start } else { cleaned };
            let active = state.segments.len() - 1;
            let count = state.segments.iter().take(active).take_while(|segment| segment.is_sealed()).count();
            let sealed: Vec<_> = state.segments.range(..count).cloned().collect();
            (from, sealed, state.segments[count].base)
        };
        let mut limit = limit.min(stable);
        let first_dirty = sealed.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let dirty = sealed.get(first_dirty..).unwrap_or_default();
        if config.min_compaction_lag_ms > 0 {
            for segment in dirty.iter().filter(|segment| segment.base < limit) {
                let youngest = self.youngest_of(segment).await?.timestamp;
                let time = if youngest >= 0 { youngest } else { segment.created.0 };
                if time > now.0.saturating_sub(config.min_compaction_lag_ms) {
                    limit = limit.min(segment.base);
                    break;
                }
                task::yield_if_needed().await;
            }
        }
        let mut overdue = false;
        if config.max_compaction_lag_ms < i64::MAX {
            for segment in dirty {
                let first = self.first_timestamp_of(segment).await?;
                if first > 0 && first < now.0.saturating_sub(config.max_compaction_lag_ms) {
                    overdue = true;
                    break;
                }
                task::yield_if_needed().await;
            }
        }
        // Down to where a segment ends.
        let ends = sealed.iter().skip(1).map(|segment| segment.base).chain([limit]);
        let upper = ends.filter(|end| *end <= limit && self.is_border(*end)).max().unwrap_or(from).max(from);
        let sum = |wanted: &dyn Fn(&Segment) -> bool| {
            sealed.iter().filter(|segment| wanted(segment)).map(|segment| segment.size()).sum()
        };
        let clean_bytes = sum(&|segment| segment.base < from);
        let dirty_bytes = match dirty.first().filter(|_| upper > from) {
            Some(first) => sum(&|segment| segment.base >= first.base && segment.base < upper),
            None => 0,
        };
        Ok(Dirt { from, upper, clean_bytes, dirty_bytes, overdue })
    }

    /// Whether a segment begins at `offset`.
    fn is_border(&self, offset: Offset) -> bool {
        let state = self.0.state.borrow();
        state.segments[state.segment_of(offset)].base == offset
    }

    /// The time of a segment's first batch; −1 if it has none.
    async fn first_timestamp_of(&self, segment: &Rc<Segment>) -> Result<i64, LogError> {
        if let Some(known) = segment.first_timestamp() {
            return Ok(known);
        }
        let dir = self.dir();
        self.0.touch(segment);
        let file = segment.file(&self.0.disk, &dir).await?;
        let read = super::super::segment::first_timestamp(&file).await;
        let first = read.map_err(|error| LogError::io("read", &segment.log_path(&dir), &error))?;
        if first >= 0 || segment.size() > 0 {
            segment.set_first_timestamp(first);
        }
        Ok(first)
    }
}

/// Segments that become one.
pub(super) struct Group {
    pub segments: Vec<Rc<Segment>>,
    /// Where the last of them ends.
    pub end: Offset,
}

/// What one segment adds to a group.
#[derive(Clone, Copy)]
struct Weight {
    bytes: u64,
    offset_index: usize,
    time_index: usize,
}

impl Run<'_> {
    /// The segments that begin below `to`, as many together as fit into one.
    pub(super) async fn groups(&mut self, to: Offset) -> Result<Vec<Group>, CleanError> {
        let (segments, ends) = self.segments_below(Offset::ZERO, to);
        let (bytes_max, index_max) = {
            let state = self.log.state.borrow();
            (state.config.segment_bytes.max(0) as u64, state.config.segment_index_bytes.max(0) as usize)
        };
        let mut groups: Vec<Group> = Vec::new();
        let mut sum = Weight { bytes: 0, offset_index: 0, time_index: 0 };
        for (segment, end) in segments.into_iter().zip(ends) {
            let weight = self.weight(&segment).await?;
            let together = Weight {
                bytes: sum.bytes + weight.bytes,
                offset_index: sum.offset_index + weight.offset_index,
                time_index: sum.time_index + weight.time_index,
            };
            match groups.last_mut() {
                Some(group)
                    if together.bytes <= bytes_max
                        && together.offset_index <= index_max
                        && together.time_index <= index_max
                        // Offsets are stored relative to the first segment's base.
                        && (weight.bytes == 0
                            || end.0 - 1 - group.segments[0].base.0 <= i64::from(i32::MAX)) =>
                {
                    group.segments.push(segment);
                    group.end = end;
                    sum = together;
                }
                _ => {
                    groups.push(Group { segments: vec![segment], end });
                    sum = weight;
                }
            }
        }
        Ok(groups)
    }

    async fn weight(&self, segment: &Segment) -> Result<Weight, CleanError> {
        let had = segment.has_indexes();
        let interval = self.log.state.borrow().config.index_interval_bytes.max(0) as u64;
        segment.load_indexes(&self.log.disk, &self.log.dir(), interval).await?;
        let entries = segment.with_indexes(|indexes| (indexes.offsets.len(), indexes.times.len())).unwrap_or_default();
        if !had {
            segment.forget_indexes();
        }
        task::yield_if_needed().await;
        Ok(Weight {
            bytes: segment.size(),
            offset_index: entries.0 * OFFSET_ENTRY_BYTES,
            time_index: entries.1 * TIME_ENTRY_BYTES,
        })
    }
}
