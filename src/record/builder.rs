//! Builds a batch: for the metadata log, the coordinators' topics, control
//! records, batches that have to be rebuilt, compaction, tests and the bench.
//!
//! Clients' batches are never taken apart and built again on the ordinary way.

use std::io;

use crate::base::{LeaderEpoch, Offset, UnixMs};

use super::codec::{Codec, compress};
use super::stamp::{put, seal};
use super::varint;
use super::view::*;
use super::walk::Record;

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970; −1 for none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// In order; keys may repeat.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// The kinds of control records (`ControlRecordType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlType {
    Abort = 0,
    Commit = 1,
    LeaderChange = 2,
    SnapshotHeader = 3,
    SnapshotFooter = 4,
    KraftVersion = 5,
    KraftVoters = 6,
}

impl ControlType {
    /// By a control record's key. `None`: another kind, or no such key.
    pub fn from_key(key: &[u8]) -> Option<ControlType> {
        let kinds = [
            ControlType::Abort,
            ControlType::Commit,
            ControlType::LeaderChange,
            ControlType::SnapshotHeader,
            ControlType::SnapshotFooter,
            ControlType::KraftVersion,
            ControlType::KraftVoters,
        ];
        // Later versions may add fields behind the type.
        match key {
            [_, _, high, low, ..] => kinds.get(usize::from(u16::from_be_bytes([*high, *low]))).copied(),
            _ => None,
        }
    }
}

/// The key of a control record: version 0, then the type.
pub fn control_key(kind: ControlType) -> [u8; 4] {
    let [high, low] = (kind as i16).to_be_bytes();
    [0, 0, high, low]
}

/// One batch in the making. Records get offset deltas 0, 1, 2, … unless
/// [`push_at`](Self::push_at) says otherwise.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    /// `None`: Kafka's default.
    level: Option<i32>,
    attributes: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    log_append_time: Option<UnixMs>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    last_offset_delta: i32,
    record_count: i32,
    /// The records' bytes, plain.
    records: Vec<u8>,
    /// A record's body while its length is not known.
    body: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder {
            codec: Codec::None,
            level: None,
            attributes: 0,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::UNKNOWN,
            base_timestamp: None,
            max_timestamp: -1,
            log_append_time: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            last_offset_delta: -1,
            record_count: 0,
            records: Vec::new(),
            body: Vec::new(),
        }
    }
}

impl BatchBuilder {
    /// An uncompressed batch at offset 0, of no producer and no epoch: what a plain producer sends.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    pub fn codec(mut self, codec: Codec) -> BatchBuilder {
        self.codec = codec;
        self
    }

    /// The codec's level, by Kafka's numbers.
    pub fn level(mut self, level: Option<i32>) -> BatchBuilder {
        self.level = level;
        self
    }

    pub fn base_offset(mut self, offset: Offset) -> BatchBuilder {
        self.base_offset = offset;
        self
    }

    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> BatchBuilder {
        self.leader_epoch = epoch;
        self
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    pub fn control(mut self) -> BatchBuilder {
        self.attributes |= CONTROL_BIT;
        self
    }

    /// All records have this time.
    pub fn log_append_time(mut self, time: UnixMs) -> BatchBuilder {
        self.attributes |= LOG_APPEND_TIME_BIT;
        self.log_append_time = Some(time);
        self
    }

    /// From this time on tombstones of the batch may be removed (KIP-534). It takes the base timestamp's
    /// place, so it has to be said before the first record.
    pub fn delete_horizon(mut self, time: UnixMs) -> BatchBuilder {
        assert!(self.record_count == 0, "a delete horizon comes before the first record");
        self.attributes |= DELETE_HORIZON_BIT;
        self.base_timestamp = Some(time.0);
        self
    }

    /// What timestamp deltas count from; otherwise the first record's timestamp.
    pub fn base_timestamp(mut self, timestamp: i64) -> BatchBuilder {
        assert!(self.record_count == 0, "the base timestamp comes before the first record");
        self.base_timestamp = Some(timestamp);
        self
    }

    /// Appends a record at the next offset.
    pub fn push(&mut self, record: NewRecord) {
        self.push_at(self.last_offset_delta + 1, record);
    }

    /// Appends a control record at the next offset.
    pub fn push_control(&mut self, kind: ControlType, timestamp: i64, value: &[u8]) {
        self.push(NewRecord { timestamp, key: Some(&control_key(kind)), value: Some(value), headers: &[] });
    }

    /// Appends a record at an offset relative to the batch's.
    ///
    /// # Panics
    /// When the offset does not lie behind the last record's, or something is larger than a batch can hold.
    pub fn push_at(&mut self, offset_delta: i32, record: NewRecord) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        field(record.key, &mut body);
        field(record.value, &mut body);
        varint::write(len(record.headers.len()), &mut body);
        for (key, value) in record.headers {
            field(Some(key), &mut body);
            field(*value, &mut body);
        }
        self.push_tail(offset_delta, record.timestamp, 0, &body);
        self.body = body;
    }

    /// Appends a record that was read from another batch, with its own contents and time.
    pub fn copy(&mut self, offset_delta: i32, record: &Record) {
        self.push_tail(offset_delta, record.timestamp, record.attributes, record.tail);
    }

    fn push_tail(&mut self, offset_delta: i32, timestamp: i64, attributes: i8, tail: &[u8]) {
        assert!(offset_delta > self.last_offset_delta || (self.record_count == 0 && offset_delta >= 0));
        let timestamp_delta = timestamp.wrapping_sub(*self.base_timestamp.get_or_insert(timestamp));
        let size = 1 + varint::size_long(timestamp_delta) + varint::size(offset_delta) + tail.len();
        varint::write(len(size), &mut self.records);
        self.records.push(attributes as u8);
        varint::write_long(timestamp_delta, &mut self.records);
        varint::write(offset_delta, &mut self.records);
        self.records.extend_from_slice(tail);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
    }

    /// Makes the batch cover offsets behind its last record, whose records were compacted away.
    ///
    /// # Panics
    /// When a record lies behind.
    pub fn cover(&mut self, last_offset_delta: i32) {
        assert!(last_offset_delta >= self.last_offset_delta);
        self.last_offset_delta = last_offset_delta;
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were built now without compression.
    pub fn plain_size(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// The batch, with its checksum.
    ///
    /// # Panics
    /// When it is larger than 2 GiB: callers bound their batches far below.
    pub fn build(self) -> Vec<u8> {
        self.try_build().expect("compress into memory")
    }

    pub(super) fn try_build(self) -> io::Result<Vec<u8>> {
        let mut batch = Vec::with_capacity(self.plain_size());
        batch.resize(BATCH_HEADER_BYTES, 0);
        compress(self.codec, self.level, &self.records, &mut batch)?;
        let max_timestamp = self.log_append_time.map_or(self.max_timestamp, |time| time.0);
        put(&mut batch, BASE_OFFSET, &self.base_offset.0.to_be_bytes());
        let length = len(batch.len() - LOG_OVERHEAD_BYTES);
        put(&mut batch, LENGTH, &length.to_be_bytes());
        put(&mut batch, LEADER_EPOCH, &self.leader_epoch.0.to_be_bytes());
        put(&mut batch, MAGIC, &[2]);
        put(&mut batch, ATTRIBUTES, &(self.attributes | self.codec.id()).to_be_bytes());
        put(&mut batch, LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(&mut batch, BASE_TIMESTAMP, &self.base_timestamp.unwrap_or(-1).to_be_bytes());
        put(&mut batch, MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
        put(&mut batch, PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(&mut batch, PRODUCER_EPOCH, &self.producer_epoch.to_be_bytes());
        put(&mut batch, BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(&mut batch, RECORD_COUNT, &self.record_count.to_be_bytes());
        seal(&mut batch);
        Ok(batch)
    }
}

/// A length and the bytes, −1 for null.
fn field(bytes: Option<&[u8]>, to: &mut Vec<u8>) {
    match bytes {
        None => varint::write(-1, to),
        Some(bytes) => {
            varint::write(len(bytes.len()), to);
            to.extend_from_slice(bytes);
        }
    }
}

fn len(len: usize) -> i32 {
    i32::try_from(len).expect("a batch is smaller than 2 GiB")
}
