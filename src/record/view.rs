//! A record batch of format version 2 where it lies: header fields by accessor.
//! The bytes are described in the module's header.
//!
//! A view covers exactly one whole batch; nothing else about the bytes is known
//! to be true. No accessor can panic.

use crate::base::crc::crc32c;
use crate::base::{LeaderEpoch, Offset};

use super::codec::Codec;

/// Bytes of a batch before its records (`RECORD_BATCH_OVERHEAD`).
pub const BATCH_HEADER_BYTES: usize = 61;
/// Base offset and length: the bytes that the length field does not count (`LOG_OVERHEAD`).
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The bytes needed to tell how long a batch is and of which format.
pub const MAGIC_END: usize = 17;

pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const LENGTH: usize = 8;
pub(crate) const LEADER_EPOCH: usize = 12;
pub(crate) const MAGIC: usize = 16;
pub(crate) const CRC: usize = 17;
pub(crate) const ATTRIBUTES: usize = 21;
pub(crate) const LAST_OFFSET_DELTA: usize = 23;
pub(crate) const BASE_TIMESTAMP: usize = 27;
pub(crate) const MAX_TIMESTAMP: usize = 35;
pub(crate) const PRODUCER_ID: usize = 43;
pub(crate) const PRODUCER_EPOCH: usize = 51;
pub(crate) const BASE_SEQUENCE: usize = 53;
pub(crate) const RECORD_COUNT: usize = 57;

pub(crate) const CODEC_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(crate) const CONTROL_BIT: i16 = 0x20;
pub(crate) const DELETE_HORIZON_BIT: i16 = 0x40;

/// What the timestamps of a batch mean (`message.timestamp.type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's at append: all records have the batch's max timestamp.
    LogAppendTime,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does; this many would be needed.
    #[error("the bytes end within a batch: {have} of {need} bytes")]
    Cut { have: usize, need: usize },
    /// The length field is too small to be a batch. 0 in the zeroed tail of a preallocated segment.
    #[error("batch length {0} is less than a batch's header")]
    Length(i32),
    /// Another format than 2: message sets of before Kafka 0.11, or no batch at all.
    #[error("batch format {0} is not 2")]
    Magic(i8),
}

/// One whole batch of format 2.
#[derive(Clone, Copy)]
pub struct BatchView<'a>(&'a [u8]);

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`, which may go on after it.
    pub fn first(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        if bytes.len() < MAGIC_END {
            return Err(BatchError::Cut { have: bytes.len(), need: MAGIC_END });
        }
        let length = i32::from_be_bytes(array(bytes, LENGTH));
        if length < (BATCH_HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::Length(length));
        }
        if bytes[MAGIC] != 2 {
            return Err(BatchError::Magic(bytes[MAGIC] as i8));
        }
        let need = length as usize + LOG_OVERHEAD_BYTES;
        match bytes.get(..need) {
            Some(batch) => Ok(BatchView(batch)),
            None => Err(BatchError::Cut { have: bytes.len(), need }),
        }
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The records' bytes, compressed if the batch is.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[BATCH_HEADER_BYTES..]
    }

    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(array(self.0, BASE_OFFSET)))
    }

    /// The length field: [`size`](Self::size) less 12.
    pub fn length(&self) -> i32 {
        i32::from_be_bytes(array(self.0, LENGTH))
    }

    /// The epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(array(self.0, LEADER_EPOCH)))
    }

    /// The format; 2.
    pub fn magic(&self) -> i8 {
        self.0[MAGIC] as i8
    }

    /// The checksum that the batch claims.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(array(self.0, CRC))
    }

    /// The checksum that the bytes have: CRC-32C from the attributes to the end.
    pub fn computed_crc(&self) -> u32 {
        crc32c(&self.0[ATTRIBUTES..])
    }

    pub fn crc_is_right(&self) -> bool {
        self.crc() == self.computed_crc()
    }

    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(array(self.0, ATTRIBUTES))
    }

    /// How the records are compressed. `None`: a codec that nobody knows (5, 6, 7).
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_id(self.attributes() & CODEC_MASK)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & LOG_APPEND_TIME_BIT != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds a control record (end of transaction, leader change).
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is the time from which tombstones may go (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON_BIT != 0
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(array(self.0, LAST_OFFSET_DELTA))
    }

    /// The last offset that the batch covers; its record may have been compacted away.
    /// Saturating: the bytes may claim anything.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0.saturating_add(i64::from(self.last_offset_delta())))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// What the records' timestamp deltas count from.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, BASE_TIMESTAMP))
    }

    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, MAX_TIMESTAMP))
    }

    /// −1: not from an idempotent producer.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(array(self.0, PRODUCER_ID))
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > -1
    }

    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(array(self.0, PRODUCER_EPOCH))
    }

    /// The first record's sequence number; −1 for none.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(array(self.0, BASE_SEQUENCE))
    }

    /// The last record's sequence number, wrapping from 2147483647 to 0; −1 for none.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            base if base < 0 => -1,
            base => advance_sequence(base, self.last_offset_delta()),
        }
    }

    /// Records within; fewer than offsets after compaction.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(array(self.0, RECORD_COUNT))
    }
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchView")
            .field("offsets", &(self.base_offset().0..=self.last_offset().0))
            .field("records", &self.record_count())
            .field("bytes", &self.size())
            .field("codec", &self.codec())
            .field("producer", &(self.producer_id(), self.producer_epoch(), self.base_sequence()))
            .finish()
    }
}

/// The sequence number `count` after `sequence`, wrapping from 2147483647 to 0
/// (`DefaultRecordBatch.incrementSequence`).
pub fn advance_sequence(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// Walks batches that lie back to back. The first error ends it; a batch that
/// is not complete is one ([`BatchError::Cut`]).
pub fn iterate(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0, failed: false }
}

/// See [`iterate`].
#[derive(Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl Batches<'_> {
    /// Where the next batch begins: all bytes before are whole batches.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let batch = BatchView::first(rest);
        match &batch {
            Ok(view) => self.position += view.size(),
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

/// `N` bytes at a position that lies within every batch's header.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
