//! What a broker demands of a produced batch, in the order in which Kafka looks
//! (`ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`,
//! `LogValidator`): which error wins is part of the protocol.
//!
//! One walk per batch. Nearly every batch passes as it is; a batch is copied only when its
//! header says a wrong max timestamp, and built anew only when its inner offsets do not
//! run 0, 1, 2, … or the topic wants another codec.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use crate::base::limits::RECORD_ERRORS_MAX;
use crate::base::{Offset, UnixMs};

use super::builder::BatchBuilder;
use super::codec::Codec;
use super::stamp::{put, seal};
use super::view::{BatchError, BatchView, LENGTH, LOG_OVERHEAD_BYTES, MAGIC, MAGIC_END, MAX_TIMESTAMP, TimestampType};
use super::walk::{RecordFault, Scratch};

/// `compression.type` of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CompressionType {
    /// As the producer sent it.
    #[default]
    Producer,
    Codec(Codec),
}

/// What a topic demands of its batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `max.message.bytes`, of a whole batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// `compression.type`.
    pub compression: CompressionType,
    /// `compression.gzip.level` or the like, of the codec that batches are compressed with here; `None`: its default.
    pub compression_level: Option<i32>,
}

impl Default for Rules {
    /// Kafka's defaults.
    fn default() -> Rules {
        Rules {
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
            compacted: false,
            compression: CompressionType::Producer,
            compression_level: None,
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub struct Validated<'a> {
    view: BatchView<'a>,
    outcome: Outcome,
    log_append_time: Option<UnixMs>,
}

/// What to append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The client's bytes.
    AsIs,
    /// These instead; base offset and leader epoch are still to be stamped.
    Rewrite(Vec<u8>),
}

impl<'a> Validated<'a> {
    /// The whole batch to append, to be stamped in its copy.
    pub fn bytes(&self) -> &[u8] {
        match &self.outcome {
            Outcome::AsIs => self.view.bytes(),
            Outcome::Rewrite(bytes) => bytes,
        }
    }

    /// A view of [`bytes`](Self::bytes).
    pub fn view(&self) -> BatchView<'_> {
        match &self.outcome {
            Outcome::AsIs => self.view,
            Outcome::Rewrite(bytes) => BatchView::first(bytes).expect("a batch built here is whole"),
        }
    }

    /// The client's batch.
    pub fn original(&self) -> BatchView<'a> {
        self.view
    }

    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// For the stamp: the time of append on topics that want it.
    pub fn log_append_time(&self) -> Option<UnixMs> {
        self.log_append_time
    }
}

/// Why a batch is refused. The texts reach the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidBatch {
    /// RECORD_TOO_LARGE.
    #[error("The record batch size is {size} bytes which exceeds the maximum configured value of {max}.")]
    TooLarge { size: usize, max: usize },
    /// CORRUPT_MESSAGE.
    #[error("Record is corrupt ({0}).")]
    Corrupt(Corruption),
    /// INVALID_RECORD.
    #[error("{0}")]
    Invalid(Reason),
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("Produce requests before version 7 are not allowed to use ZStandard compression.")]
    UnsupportedCodec,
    /// INVALID_TIMESTAMP if any of them is about time, else INVALID_RECORD.
    #[error("One or more records have been rejected due to {}", match timestamp {
        true => "invalid timestamp".to_string(),
        false => format!("{} record errors in total", errors.len()),
    })]
    Records {
        /// In order, [`RECORD_ERRORS_MAX`] at most.
        errors: Vec<RecordError>,
        /// Whether one is about its timestamp.
        timestamp: bool,
    },
}

/// How a batch is corrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corruption {
    #[error("stored crc = {stored}, computed crc = {computed}")]
    Crc { stored: u32, computed: u32 },
    #[error("record size {0} is less than the minimum record overhead")]
    Length(i32),
    #[error("invalid magic {0}")]
    Magic(i8),
}

/// What is invalid about a batch as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    #[error("Produce requests must have exactly one record batch per partition: there is none.")]
    NoBatch,
    #[error("Produce requests must have exactly one record batch per partition: there are more.")]
    SeveralBatches,
    #[error("Produce requests are only allowed to contain record batches with magic version 2, not {0}.")]
    Magic(i8),
    #[error("The baseOffset of the record batch should be 0, but it is {0}.")]
    BaseOffset(i64),
    #[error("Batch has an invalid offset range: [{0}, {1}].")]
    OffsetRange(i64, i64),
    #[error("Invalid reported count for record batch: {0}.")]
    Count(i32),
    #[error("Inconsistent batch offset range [{0}, {1}] and count of records {2}.")]
    Inconsistent(i64, i64, i32),
    #[error("Clients are not allowed to write control records.")]
    Control,
    #[error("Invalid sequence number {sequence} in record batch with producerId {producer_id}.")]
    Sequence { sequence: i32, producer_id: i64 },
    #[error("Invalid records: {0}.")]
    Records(RecordFault),
}

/// One record that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordError {
    /// The record's place in its batch, from 0.
    pub index: i32,
    pub reason: RecordErrorReason,
}

impl RecordError {
    /// Kafka's words, where the record was for `partition`.
    pub fn words(&self, partition: &str) -> String {
        let index = self.index;
        match self.reason {
            RecordErrorReason::NoKey => {
                format!("Compacted topic cannot accept message without key in topic partition {partition}")
            }
            RecordErrorReason::Timestamp { timestamp, low, high } => format!(
                "Timestamp {timestamp} of message with offset {index} is out of range. The timestamp should be within \
                 [{low}, {high}]"
            ),
            RecordErrorReason::LogAppendTime => format!(
                "Invalid timestamp type in message with offset {index}. Producer should not set timestamp type to \
                 LogAppendTime."
            ),
        }
    }
}

/// Why a record is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordErrorReason {
    /// The topic is compacted, and the record has no key.
    NoKey,
    /// It is not within these bounds.
    Timestamp { timestamp: i64, low: i64, high: i64 },
    /// The producer claims the broker's time.
    LogAppendTime,
}

impl From<RecordFault> for InvalidBatch {
    fn from(fault: RecordFault) -> InvalidBatch {
        InvalidBatch::Invalid(Reason::Records(fault))
    }
}

thread_local! {
    /// A core validates one batch at a time.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// Checks the records field of a produce request for one partition.
///
/// `now` is the append time on topics with `LogAppendTime`, and what timestamps are
/// compared with on others. `zstd_allowed`: the request is of version 7 or later.
pub fn validate<'a>(
    records_field: &'a [u8],
    rules: &Rules,
    now: UnixMs,
    zstd_allowed: bool,
) -> Result<Validated<'a>, InvalidBatch> {
    SCRATCH.with_borrow_mut(|scratch| validate_with(scratch, records_field, rules, now, zstd_allowed))
}

fn validate_with<'a>(
    scratch: &mut Scratch,
    records_field: &'a [u8],
    rules: &Rules,
    now: UnixMs,
    zstd_allowed: bool,
) -> Result<Validated<'a>, InvalidBatch> {
    let batch = only_batch(records_field, zstd_allowed)?;
    check_header(&batch, rules)?;

    let found = walk(&batch, scratch, rules, now)?;
    if !found.errors.is_empty() {
        return Err(InvalidBatch::Records { errors: found.errors, timestamp: found.timestamp_error });
    }

    let log_append_time = (rules.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    let codec = batch.codec().ok_or(RecordFault::UnknownCodec(batch.attributes() & 7))?;
    let target = match rules.compression {
        CompressionType::Producer => codec,
        CompressionType::Codec(codec) => codec,
    };
    let outcome = if target != codec || !found.consecutive {
        Outcome::Rewrite(rebuild(&batch, scratch, target, rules)?)
    } else if log_append_time.is_none() && found.max_timestamp != batch.max_timestamp() {
        let mut bytes = batch.bytes().to_vec();
        put(&mut bytes, MAX_TIMESTAMP, &found.max_timestamp.to_be_bytes());
        seal(&mut bytes);
        Outcome::Rewrite(bytes)
    } else {
        Outcome::AsIs
    };
    Ok(Validated { view: batch, outcome, log_append_time })
}

/// The one batch of a records field. A cut batch is none, and one behind the first is not looked at: so
/// does Kafka's `ByteBufferLogInputStream`.
fn only_batch(field: &[u8], zstd_allowed: bool) -> Result<BatchView<'_>, InvalidBatch> {
    let (size, magic) = batch_ahead(field)?.ok_or(InvalidBatch::Invalid(Reason::NoBatch))?;
    if magic != 2 {
        return Err(InvalidBatch::Invalid(Reason::Magic(magic)));
    }
    let batch = match BatchView::first(field) {
        Ok(batch) => batch,
        // Whole and of format 2, yet shorter than a header.
        Err(BatchError::Length(length)) => return Err(InvalidBatch::Corrupt(Corruption::Length(length))),
        Err(BatchError::Magic(magic)) => return Err(InvalidBatch::Invalid(Reason::Magic(magic))),
        Err(BatchError::Cut { .. }) => return Err(InvalidBatch::Invalid(Reason::NoBatch)),
    };
    if batch.codec() == Some(Codec::Zstd) && !zstd_allowed {
        return Err(InvalidBatch::UnsupportedCodec);
    }
    if batch_ahead(&field[size..])?.is_some() {
        return Err(InvalidBatch::Invalid(Reason::SeveralBatches));
    }
    Ok(batch)
}

/// Size and format of the batch that follows, if a whole one does.
fn batch_ahead(bytes: &[u8]) -> Result<Option<(usize, i8)>, InvalidBatch> {
    /// `LegacyRecord.RECORD_OVERHEAD_V0`.
    const LENGTH_MIN: i32 = 14;
    let Some(length) = bytes.get(LENGTH..LOG_OVERHEAD_BYTES) else { return Ok(None) };
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if length < LENGTH_MIN {
        return Err(InvalidBatch::Corrupt(Corruption::Length(length)));
    }
    if bytes.len() < MAGIC_END {
        return Ok(None);
    }
    let magic = bytes[MAGIC] as i8;
    if !(0..=2).contains(&magic) {
        return Err(InvalidBatch::Corrupt(Corruption::Magic(magic)));
    }
    let size = length as usize + LOG_OVERHEAD_BYTES;
    Ok((size <= bytes.len()).then_some((size, magic)))
}

fn check_header(batch: &BatchView, rules: &Rules) -> Result<(), InvalidBatch> {
    let invalid = |reason| Err(InvalidBatch::Invalid(reason));
    let (base, last, count) = (batch.base_offset().0, batch.last_offset().0, batch.record_count());
    if base != 0 {
        return invalid(Reason::BaseOffset(base));
    }
    if batch.size() > rules.max_message_bytes {
        return Err(InvalidBatch::TooLarge { size: batch.size(), max: rules.max_message_bytes });
    }
    let computed = batch.computed_crc();
    if computed != batch.crc() {
        return Err(InvalidBatch::Corrupt(Corruption::Crc { stored: batch.crc(), computed }));
    }
    if last < 0 {
        return invalid(Reason::OffsetRange(base, last));
    }
    if count <= 0 {
        return invalid(Reason::Count(count));
    }
    if last + 1 != i64::from(count) {
        return invalid(Reason::Inconsistent(base, last, count));
    }
    if batch.is_control() {
        return invalid(Reason::Control);
    }
    if batch.has_producer_id() && batch.base_sequence() < 0 {
        return invalid(Reason::Sequence { sequence: batch.base_sequence(), producer_id: batch.producer_id() });
    }
    Ok(())
}

/// What the one walk over a batch found.
struct Found {
    max_timestamp: i64,
    /// Inner offsets run 0, 1, 2, ….
    consecutive: bool,
    /// The first of them.
    errors: Vec<RecordError>,
    /// Whether any record, named or not, was refused for its time.
    timestamp_error: bool,
}

fn walk(batch: &BatchView, scratch: &mut Scratch, rules: &Rules, now: UnixMs) -> Result<Found, InvalidBatch> {
    let mut found = Found { max_timestamp: -1, consecutive: true, errors: Vec::new(), timestamp_error: false };
    let base_timestamp = batch.base_timestamp();
    let claims_append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
    let create_time = rules.timestamp_type == TimestampType::CreateTime;
    let timely = timely(rules, now);
    let mut index = 0;
    batch.walk::<InvalidBatch>(scratch, |record| {
        let timestamp = base_timestamp.wrapping_add(record.timestamp_delta);
        let reason = if rules.compacted && record.key_len.is_none() {
            Some(RecordErrorReason::NoKey)
        } else if claims_append_time {
            Some(RecordErrorReason::LogAppendTime)
        } else if create_time && timestamp != -1 && !timely.contains(&timestamp) {
            let (low, high) = (now.0.wrapping_sub(rules.before_max_ms), now.0.saturating_add(rules.after_max_ms));
            Some(RecordErrorReason::Timestamp { timestamp, low, high })
        } else {
            None
        };
        if let Some(reason) = reason {
            found.timestamp_error |= reason != RecordErrorReason::NoKey;
            if found.errors.len() < RECORD_ERRORS_MAX {
                found.errors.push(RecordError { index, reason });
            }
        }
        found.max_timestamp = found.max_timestamp.max(timestamp);
        found.consecutive &= record.offset_delta == index;
        index += 1;
        Ok(())
    })?;
    Ok(found)
}

/// The timestamps that are neither too old nor too far ahead (`LogValidator.recordHasInvalidTimestamp`,
/// in numbers that do not wrap).
fn timely(rules: &Rules, now: UnixMs) -> RangeInclusive<i64> {
    now.0.saturating_sub(rules.before_max_ms)..=now.0.saturating_add(rules.after_max_ms)
}

/// The same records with offset deltas 0, 1, 2, … and another codec; no larger than a batch may be.
fn rebuild(batch: &BatchView, scratch: &mut Scratch, codec: Codec, rules: &Rules) -> Result<Vec<u8>, InvalidBatch> {
    let max = rules.max_message_bytes;
    // Of a batch that keeps its codec the topic has no say in the level.
    let level = rules.compression_level.filter(|_| rules.compression == CompressionType::Codec(codec));
    let mut builder = BatchBuilder::new()
        .codec(codec)
        .level(level)
        .base_offset(Offset::ZERO)
        .base_timestamp(batch.base_timestamp())
        .producer(batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
    if batch.is_transactional() {
        builder = builder.transactional();
    }
    let mut records = batch.records(scratch)?;
    let mut index = 0;
    while let Some(record) = records.next()? {
        builder.copy(index, &record);
        index += 1;
        if codec == Codec::None && builder.plain_size() > max {
            break;
        }
    }
    let size = builder.plain_size();
    if codec == Codec::None && size > max {
        return Err(InvalidBatch::TooLarge { size, max });
    }
    let bytes = builder.try_build().map_err(|_| RecordFault::Compression)?;
    if bytes.len() > max {
        return Err(InvalidBatch::TooLarge { size: bytes.len(), max });
    }
    Ok(bytes)
}
