//! ListOffsets and OffsetForLeaderEpoch.

use std::time::Duration;

use crate::base::{LeaderEpoch, Offset};
use crate::log::LogError;
use crate::runtime::clock;

use super::{Isolation, Partition};

/// What ListOffsets asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// −1: the end of what the reader sees.
    Latest,
    /// −2 (and −4: nothing is tiered): the log start.
    Earliest,
    /// −3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// −5 and −6: what tiered storage holds, or awaits: there is none.
    Tiered,
    /// The first record at or after this time.
    Timestamp(i64),
}

/// An offset, with the time and the leader epoch of its record where those are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    pub offset: Offset,
    /// −1: not asked for.
    pub timestamp: i64,
    pub leader_epoch: Option<LeaderEpoch>,
}

/// See [`Partition::list_offset`].
const LATEST_WAIT_MAX: Duration = Duration::from_secs(1);

impl Partition {
    /// Looks an offset up (`UnifiedLog.fetchOffsetByTimestamp`). `None`: there is no such record.
    ///
    /// # Errors
    /// The log has ended, or cannot be read.
    pub async fn list_offset(&self, spec: OffsetSpec, isolation: Isolation) -> Result<Option<FoundOffset>, LogError> {
        if let Some(error) = self.ended() {
            return Err(error);
        }
        if spec != OffsetSpec::Earliest && self.log.end_offset() > self.bounds().high_watermark {
            // Who has just been told of an acks=1 record expects to find it: what is
            // written becomes visible first. A log in trouble, and a drive that stands
            // still, answer with what is visible.
            let written = self.log.written_offset();
            let _ = clock::timeout(LATEST_WAIT_MAX, self.log.wait(written, self.committed_stage())).await;
        }
        let bounds = self.bounds();
        let visible = bounds.visible(isolation);
        let found = match spec {
            OffsetSpec::Latest => {
                let leader_epoch = Some(bounds.leader_epoch);
                return Ok(Some(FoundOffset { offset: visible, timestamp: -1, leader_epoch }));
            }
            OffsetSpec::Earliest => {
                let offset = bounds.log_start;
                // The current epoch is written down with its first batch; until then it begins at the end.
                let leader_epoch = match offset == self.log.end_offset() {
                    true => Some(bounds.leader_epoch),
                    false => self.epochs.borrow().epoch_of(offset),
                };
                return Ok(Some(FoundOffset { offset, timestamp: -1, leader_epoch }));
            }
            OffsetSpec::Tiered => return Ok(None),
            OffsetSpec::MaxTimestamp => self.log.offset_of_max_timestamp(visible).await?,
            OffsetSpec::Timestamp(timestamp) => self.log.offset_for_timestamp(timestamp, visible).await?,
        };
        Ok(found.map(|found| FoundOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: Some(found.leader_epoch),
        }))
    }

    /// The largest epoch up to `requested` that is known, and where it ends
    /// (OffsetForLeaderEpoch). `None` for an epoch that is not known.
    pub fn end_offset_for_epoch(&self, requested: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let end = self.log.end_offset();
        let mut epochs = self.epochs.borrow().clone();
        // The current epoch is written down with its first batch; until then it begins at the end.
        epochs.assign(self.leader_epoch.get(), end);
        epochs.end_offset(requested, end)
    }
}
