//! Reading a metadata log from wherever its bytes come, batch by batch, without opening it.
//!
//! For those who look at a directory that nobody serves. Never does I/O.

use super::checkpoint::SnapshotId;
use super::image::Replay;
use super::journal::{JournalError, decode_batch};
use super::quorum::Quorum;
use super::records::MetadataRecord;
use crate::base::{LeaderEpoch, Offset};
use crate::record::{BatchView, ControlType, Scratch};

/// What was read so far.
#[derive(Default)]
pub struct Reading {
    pub replay: Replay,
    pub quorum: Quorum,
    scratch: Scratch,
    records: Vec<MetadataRecord>,
}

impl Reading {
    /// Takes a batch into account that ends the metadata at `end`, which in a snapshot is the snapshot's own. Gives
    /// the kind of the first record if it is a control batch.
    ///
    /// # Errors
    /// The batch cannot be read, or cannot follow what came before.
    pub fn take(
        &mut self,
        batch: &BatchView<'_>,
        end: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Option<ControlType>, JournalError> {
        let kind = decode_batch(batch, &mut self.scratch, &mut self.records, &mut self.quorum)?;
        self.replay.apply(&self.records, end, epoch).map_err(|error| JournalError::Replay { end, error })?;
        Ok(kind)
    }
}

/// The end offset and epoch that a snapshot's name says; `None` for names of other files.
pub fn snapshot_of(name: &str) -> Option<(Offset, LeaderEpoch)> {
    SnapshotId::parse(name).map(|id| (id.offset, id.epoch))
}
