//! Lookup by timestamp (ListOffsets ≥ 0 and −3).

use std::rc::Rc;

use crate::base::{LeaderEpoch, Offset};
use crate::record::{BatchView, Scratch};

use super::index::Youngest;
use super::segment::Segment;
use super::{Condition, Log, LogError};

/// A record found by its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundTime {
    pub timestamp: i64,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record below `upper` whose timestamp is at or after `timestamp`
    /// (`UnifiedLog.fetchOffsetByTimestamp`).
    ///
    /// # Errors
    /// The log has ended, the drive failed, or a batch cannot be read.
    pub async fn offset_for_timestamp(&self, timestamp: i64, upper: Offset) -> Result<Option<FoundTime>, LogError> {
        for segment in self.segments_now()? {
            if segment.base >= upper {
                break;
            }
            if self.youngest_of(&segment).await?.timestamp < timestamp {
                continue;
            }
            // The index says from where on it is worth looking.
            let from = segment
                .with_indexes(|indexes| indexes.times.floor(timestamp))
                .flatten()
                .map_or(segment.base, |entry| segment.base.plus(i64::from(entry.relative)));
            let mut scratch = Scratch::new();
            // All of the batch there counts: its entry names its last offset, and an earlier record may have the time.
            let start = self.start_offset();
            let end = self.end_of(&segment);
            let found = self
                .search(from.max(start), end.min(upper), |batch| {
                    if batch.max_timestamp() < timestamp {
                        return Ok(None);
                    }
                    first_record(batch, &mut scratch, |record| record.0 >= start && record.1 >= timestamp)
                })
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of all below `upper`
    /// (KIP-734). `None` in an empty log and where no record has a time.
    ///
    /// # Errors
    /// As [`Log::offset_for_timestamp`].
    pub async fn offset_of_max_timestamp(&self, upper: Offset) -> Result<Option<FoundTime>, LogError> {
        let mut best: Option<(Youngest, Rc<Segment>)> = None;
        for segment in self.segments_now()? {
            let youngest = self.youngest_of(&segment).await?;
            if youngest.timestamp >= 0 && best.as_ref().is_none_or(|(best, _)| youngest.timestamp > best.timestamp) {
                best = Some((youngest, segment));
            }
        }
        let Some((youngest, _)) = best else { return Ok(None) };
        if youngest.offset < upper {
            let mut scratch = Scratch::new();
            let from = youngest.offset.max(self.start_offset());
            let found = self
                .search(from, upper, |batch| first_record(batch, &mut scratch, |record| record.1 >= youngest.timestamp))
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // The youngest is not to be seen yet, or was a record of a batch that compaction has emptied: look
        // at everything that is there. Rare: it is the moment between an append and its flush, or a batch that
        // stays for its producer's sake.
        let mut scratch = Scratch::new();
        let mut best: Option<FoundTime> = None;
        self.search(self.start_offset(), upper, |batch| {
            let above = best.map_or(-1, |best| best.timestamp);
            if batch.max_timestamp() > above {
                let max = batch.max_timestamp();
                if let Some(found) = first_record(batch, &mut scratch, |record| record.1 >= max)? {
                    best = Some(found);
                }
            }
            Ok(None)
        })
        .await?;
        Ok(best)
    }

    fn segments_now(&self) -> Result<Vec<Rc<Segment>>, LogError> {
        let state = self.0.state.borrow();
        match &state.condition {
            Condition::Ended(error) => Err(error.clone()),
            _ => Ok(state.segments.iter().cloned().collect()),
        }
    }

    fn end_of(&self, segment: &Segment) -> Offset {
        let state = self.0.state.borrow();
        state
            .segments
            .iter()
            .find(|other| other.base > segment.base)
            .map_or(state.progress.appended().offset, |next| next.base)
    }

    pub(super) async fn youngest_of(&self, segment: &Rc<Segment>) -> Result<Youngest, LogError> {
        let interval = self.config().index_interval_bytes.max(0) as u64;
        let mut segment = Rc::clone(segment);
        loop {
            if let Some(youngest) = segment.youngest() {
                return Ok(youngest);
            }
            self.0.touch(&segment);
            let dir = self.dir();
            let loaded = segment.load_indexes(&self.0.disk, &dir, interval).await;
            if segment.is_replaced() {
                // What bears its name is of the segment that compaction put in its place.
                let state = self.0.state.borrow();
                segment = Rc::clone(&state.segments[state.segment_of(segment.base)]);
                continue;
            }
            if loaded.is_err() && self.0.left(&dir).await {
                continue;
            }
            if loaded.is_err() && self.0.is_given_up(&segment) {
                return Ok(Youngest::NONE);
            }
            loaded?;
            return Ok(segment.youngest().unwrap_or(Youngest::NONE));
        }
    }

    /// Shows batches from the one that holds `from` to `upper` until `look` finds something.
    async fn search(
        &self,
        from: Offset,
        upper: Offset,
        mut look: impl FnMut(&BatchView<'_>) -> Result<Option<FoundTime>, LogError>,
    ) -> Result<Option<FoundTime>, LogError> {
        let mut next = from;
        while next < upper {
            let read = match self.read_plan(next, upper, 64 << 10, true) {
                Ok(plan) => plan.execute().await,
                Err(error) => Err(error),
            };
            let rope = match read {
                // Retention was faster.
                Err(LogError::OutOfRange { start, .. }) if next < start => {
                    next = start;
                    continue;
                }
                read => read?,
            };
            let before = next;
            for piece in rope.pieces() {
                let mut bytes = piece.as_slice();
                while let Ok(batch) = BatchView::first(bytes) {
                    bytes = &bytes[batch.size()..];
                    next = batch.next_offset();
                    if let Some(found) = look(&batch)? {
                        return Ok(Some(found));
                    }
                }
            }
            if next == before {
                break;
            }
        }
        Ok(None)
    }
}

/// The first record of a batch that `wanted` accepts by offset and timestamp.
fn first_record(
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
    mut wanted: impl FnMut((Offset, i64)) -> bool,
) -> Result<Option<FoundTime>, LogError> {
    let broken = |fault: crate::record::RecordFault| {
        LogError::Corrupt(format!("read the records of the batch at offset {}: {fault}", batch.base_offset()).into())
    };
    let mut records = batch.records(scratch).map_err(broken)?;
    while let Some(record) = records.next().map_err(broken)? {
        let (offset, timestamp) = (Offset(record.offset), record.timestamp);
        if wanted((offset, timestamp)) {
            return Ok(Some(FoundTime { timestamp, offset, leader_epoch: batch.leader_epoch() }));
        }
    }
    Ok(None)
}
