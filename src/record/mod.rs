//! Record batch v2: borrowed view, validation, stamping, compression, building.
//!
//! Relies on `base` only. Never does I/O, never reads a clock, and never trusts a
//! byte: lengths, counts and compressed sizes may claim anything.
//!
//! # The bytes
//!
//! All integers are big-endian (`DefaultRecordBatch`):
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | base offset: the broker's, 0 from a producer |
//! | 8 | 4 | length of all that follows |
//! | 12 | 4 | partition leader epoch: the broker's |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC-32C over all that follows |
//! | 21 | 2 | attributes: bits 0–2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp (the delete horizon when bit 6 is set) |
//! | 35 | 8 | max timestamp |
//! | 43 | 8 | producer id, −1 for none |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence, −1 for none |
//! | 57 | 4 | record count |
//! | 61 | | records, together compressed by the codec |
//!
//! A record (`DefaultRecord`), numbers as zigzag varints unless said otherwise:
//! length of all that follows; attributes (one byte, unused); timestamp delta
//! (64 bits); offset delta; key length or −1, key; value length or −1, value;
//! header count; for each header: key length, key, value length or −1, value.
//!
//! The base offset and the leader epoch lie before the checksum's range: the
//! broker sets them without touching it.

mod builder;
mod codec;
mod rewrite;
mod stamp;
pub mod stored;
mod validate;
pub mod varint;
mod view;
mod walk;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, ControlType, NewRecord, control_key};
pub use codec::Codec;
pub use rewrite::{Rewriter, emptied};
pub use stamp::{Stamp, stamp};
pub use validate::{
    CompressionType, Corruption, InvalidBatch, Outcome, Reason, RecordError, RecordErrorReason, Rules, Validated,
    validate,
};
pub use view::{
    BATCH_HEADER_BYTES, BatchError, BatchView, Batches, LOG_OVERHEAD_BYTES, MAGIC_END, TimestampType, advance_sequence,
    iterate,
};
pub use walk::{Record, RecordFault, RecordShape, Records, Scratch};
