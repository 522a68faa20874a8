//! What the broker writes into a batch when it takes it in.

use crate::base::crc::crc32c;
use crate::base::{LeaderEpoch, Offset, UnixMs};

use super::view::{ATTRIBUTES, BASE_OFFSET, BATCH_HEADER_BYTES, CRC, LEADER_EPOCH, LOG_APPEND_TIME_BIT, MAX_TIMESTAMP};

/// The broker's part of a batch's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// For topics with `message.timestamp.type=LogAppendTime`: becomes the time of all records.
    pub log_append_time: Option<UnixMs>,
}

/// Writes the stamp into the batch at the start of `batch`.
///
/// Only a log append time lies within the checksum's range; without one the
/// checksum is neither read nor written.
///
/// # Panics
/// When `batch` is shorter than a batch's header: a caller's mistake, the batch was validated.
pub fn stamp(batch: &mut [u8], stamp: &Stamp) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "stamp a batch of {} bytes", batch.len());
    put(batch, BASE_OFFSET, &stamp.base_offset.0.to_be_bytes());
    put(batch, LEADER_EPOCH, &stamp.leader_epoch.0.to_be_bytes());
    if let Some(time) = stamp.log_append_time {
        let attributes = i16::from_be_bytes([batch[ATTRIBUTES], batch[ATTRIBUTES + 1]]) | LOG_APPEND_TIME_BIT;
        put(batch, ATTRIBUTES, &attributes.to_be_bytes());
        put(batch, MAX_TIMESTAMP, &time.0.to_be_bytes());
        seal(batch);
    }
}

/// Computes the checksum of the one batch that `batch` is, and writes it.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES..]);
    put(batch, CRC, &crc.to_be_bytes());
}

pub(super) fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
}
