//! Record batches, built once and sent again and again: base offset and leader
//! epoch lie outside the checksum, and the broker sets both. Only the batches of
//! an end-to-end run are changed before each send: every record then carries the
//! moment at which it was meant to leave.
//!
//! ```text
//! batch (magic 2): base offset 8, length 4, leader epoch 4, magic 1, crc 4,
//!   attributes 2, last offset delta 4, base time stamp 8, max time stamp 8,
//!   producer id 8, epoch 2, base sequence 4, record count 4, records
//! record: length, attributes 1, time stamp delta, offset delta, key length (-1),
//!   value length, value, header count (lengths and deltas are zigzag varints)
//! stamped value: intended send 8, actual send 8 (nanoseconds of the run's
//!   clock), run id 8, filling
//! ```

use corelog::base::crc::crc32c;

pub const HEADER_BYTES: usize = 61;
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;
const LAST_DELTA_AT: usize = 23;
const BASE_TIME_AT: usize = 27;
const MAX_TIME_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

/// The bytes of a stamped value before its filling.
pub const STAMP_BYTES: usize = 24;

/// What the records of a stamped batch carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Nanoseconds of the run's clock at which the batch was meant to leave.
    pub intended_ns: u64,
    /// Nanoseconds of the run's clock just before it was written.
    pub actual_ns: u64,
    /// Tells the records of this run from others in the topic.
    pub run: u64,
}

/// One batch and where its values lie.
#[derive(Clone, Debug)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub values_at: Vec<usize>,
}

/// Builds a batch of `records` records without keys, each with a value of
/// `value_bytes` bytes that do not compress well.
pub fn build(records: usize, value_bytes: usize, time_ms: i64) -> Batch {
    assert!(records > 0 && records <= i32::MAX as usize, "a batch has at least one record");
    let mut bytes = vec![0u8; HEADER_BYTES];
    let mut values_at = Vec::with_capacity(records);
    let mut filling = Filling(0x9e37_79b9_7f4a_7c15);
    for index in 0..records {
        let value_len = zigzag(value_bytes as i64);
        let delta = zigzag(index as i64);
        // attributes, time stamp delta, offset delta, key length, value length, value, header count
        let body = 1 + 1 + varint_len(delta) + 1 + varint_len(value_len) + value_bytes + 1;
        put_varint(&mut bytes, zigzag(body as i64));
        bytes.push(0);
        put_varint(&mut bytes, 0);
        put_varint(&mut bytes, delta);
        put_varint(&mut bytes, zigzag(-1));
        put_varint(&mut bytes, value_len);
        values_at.push(bytes.len());
        bytes.extend((0..value_bytes).map(|_| filling.byte()));
        put_varint(&mut bytes, 0);
    }
    let length = (bytes.len() - LENGTH_AT - 4) as i32;
    put(&mut bytes, LENGTH_AT, &length.to_be_bytes());
    put(&mut bytes, 12, &(-1i32).to_be_bytes());
    bytes[MAGIC_AT] = 2;
    put(&mut bytes, LAST_DELTA_AT, &(records as i32 - 1).to_be_bytes());
    put(&mut bytes, BASE_TIME_AT, &time_ms.to_be_bytes());
    put(&mut bytes, MAX_TIME_AT, &time_ms.to_be_bytes());
    // No producer id, epoch or sequence.
    put(&mut bytes, PRODUCER_ID_AT, &[0xff; 14]);
    put(&mut bytes, COUNT_AT, &(records as i32).to_be_bytes());
    seal(&mut bytes);
    Batch { bytes, values_at }
}

/// Who an idempotent producer is (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// Writes the producer and the sequence number of the first record. Needs a
/// [`seal`] afterwards.
pub fn number(bytes: &mut [u8], producer: Producer, base_sequence: i32) {
    put(bytes, PRODUCER_ID_AT, &producer.id.to_be_bytes());
    put(bytes, PRODUCER_EPOCH_AT, &producer.epoch.to_be_bytes());
    put(bytes, BASE_SEQUENCE_AT, &base_sequence.to_be_bytes());
}

/// The sequence number `records` after `sequence`: the one after the largest is 0
/// (`DefaultRecordBatch.incrementSequence`).
pub fn sequence_after(sequence: i32, records: usize) -> i32 {
    ((i64::from(sequence) + records as i64) & 0x7fff_ffff) as i32
}

/// Writes the stamp into every value of the batch at `bytes` and renews its time.
/// Needs a [`seal`] afterwards.
pub fn stamp(bytes: &mut [u8], values_at: &[usize], stamp: &Stamp, time_ms: i64) {
    for &at in values_at {
        put(bytes, at, &stamp.intended_ns.to_be_bytes());
        put(bytes, at + 8, &stamp.actual_ns.to_be_bytes());
        put(bytes, at + 16, &stamp.run.to_be_bytes());
    }
    put(bytes, BASE_TIME_AT, &time_ms.to_be_bytes());
    put(bytes, MAX_TIME_AT, &time_ms.to_be_bytes());
}

/// Renews the checksum of a batch that was changed.
pub fn seal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[CHECKED_FROM..]);
    put(bytes, CRC_AT, &crc.to_be_bytes());
}

/// A batch as it came in a fetch answer.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a>(&'a [u8]);

impl<'a> Fetched<'a> {
    /// The batch at the start of `bytes`; `None` when it is not whole, as the
    /// last one of a fetch answer may be.
    pub fn first(bytes: &'a [u8]) -> Option<Fetched<'a>> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let size = usize::try_from(i32_at(bytes, LENGTH_AT)).ok()?.checked_add(LENGTH_AT + 4)?;
        (size >= HEADER_BYTES && size <= bytes.len()).then(|| Fetched(&bytes[..size]))
    }

    pub fn size(&self) -> usize {
        self.0.len()
    }

    pub fn records(&self) -> u64 {
        i32_at(self.0, COUNT_AT).max(0) as u64
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        let base = i64::from_be_bytes(self.0[..8].try_into().expect("8 bytes"));
        base + i64::from(i32_at(self.0, LAST_DELTA_AT)) + 1
    }

    pub fn crc_is_right(&self) -> bool {
        i32_at(self.0, CRC_AT) as u32 == crc32c(&self.0[CHECKED_FROM..])
    }

    /// The stamp in the first record's value; `None` when it carries none (too
    /// short, or compressed). All records of a batch carry the same.
    pub fn stamp(&self) -> Option<Stamp> {
        // Compression bits, or a control batch.
        if self.0[22] & 0x27 != 0 {
            return None;
        }
        let mut rest = &self.0[HEADER_BYTES..];
        take_varint(&mut rest)?;
        rest = rest.get(1..)?;
        take_varint(&mut rest)?;
        take_varint(&mut rest)?;
        let key = take_varint(&mut rest)?;
        rest = rest.get(usize::try_from(key.max(0)).ok()?..)?;
        let value = usize::try_from(take_varint(&mut rest)?).ok()?;
        let value = rest.get(..value).filter(|value| value.len() >= STAMP_BYTES)?;
        let word = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("8 bytes"));
        Some(Stamp { intended_ns: word(0), actual_ns: word(8), run: word(16) })
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_len(mut value: u64) -> usize {
    let mut len = 1;
    while value >= 0x80 {
        value >>= 7;
        len += 1;
    }
    len
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Printable bytes without pattern (xorshift), so that a broker that compresses
/// gains little.
struct Filling(u64);

impl Filling {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        b'!' + ((self.0 >> 32) % 94) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn the_crate_reads_what_is_built() {
        for (records, value_bytes) in [(1, 0), (1, 100), (3, 24), (36, 100), (1000, 100), (200, 1024)] {
            let batch = build(records, value_bytes, 1_700_000_000_000);
            let set = RecordBatchDecoder::decode(&mut Bytes::from(batch.bytes.clone())).unwrap();
            assert_eq!(set.records.len(), records);
            for (index, record) in set.records.iter().enumerate() {
                assert_eq!(record.value.as_ref().unwrap().len(), value_bytes);
                assert_eq!(record.offset, index as i64);
                assert_eq!((record.timestamp, record.producer_id), (1_700_000_000_000, -1));
                let at = batch.values_at[index];
                assert_eq!(record.value.as_ref().unwrap(), &batch.bytes[at..at + value_bytes]);
            }
            let fetched = Fetched::first(&batch.bytes).unwrap();
            assert!(fetched.crc_is_right());
            assert_eq!((fetched.size(), fetched.records()), (batch.bytes.len(), records as u64));
            assert_eq!(fetched.next_offset(), records as i64);
        }
    }

    #[test]
    fn stamps_come_back_and_the_checksum_follows() {
        let mut batch = build(7, 100, 1);
        let expected = Stamp { intended_ns: 12, actual_ns: 34, run: u64::MAX };
        stamp(&mut batch.bytes, &batch.values_at, &expected, 99);
        number(&mut batch.bytes, Producer { id: 4000, epoch: 3 }, 70);
        seal(&mut batch.bytes);
        let set = RecordBatchDecoder::decode(&mut BytesMut::from(&batch.bytes[..]).freeze()).unwrap();
        assert!(set.records.iter().all(|record| record.timestamp == 99));
        assert!(set.records.iter().all(|record| (record.producer_id, record.producer_epoch) == (4000, 3)));
        assert_eq!(set.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [70, 71, 72, 73, 74, 75, 76]);
        let fetched = Fetched::first(&batch.bytes).unwrap();
        assert!(fetched.crc_is_right());
        assert_eq!(fetched.stamp(), Some(expected));
        assert_eq!(Fetched::first(&build(1, 10, 1).bytes).unwrap().stamp(), None, "too short for a stamp");
    }

    #[test]
    fn sequences_wrap_as_kafkas_do() {
        for (sequence, records, after) in [(0, 1, 1), (i32::MAX, 1, 0), (i32::MAX - 1, 5, 3), (7, 1000, 1007)] {
            assert_eq!(sequence_after(sequence, records), after);
        }
    }

    #[test]
    fn cut_batches_are_not_taken() {
        let batch = build(2, 50, 1).bytes;
        for len in 0..batch.len() {
            assert!(Fetched::first(&batch[..len]).is_none(), "{len}");
        }
        let mut negative = batch.clone();
        negative[8] = 0x80;
        assert!(Fetched::first(&negative).is_none());
    }
}
