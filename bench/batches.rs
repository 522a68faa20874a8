//! Record batches, built once and sent again and again: base offset and leader
//! epoch lie outside the checksum, and the broker sets both. Only the batches of
//! an end-to-end run are changed before each send: every record then carries the
//! moment at which it was meant to leave (and a compressed batch is compressed
//! anew, as a client would have to).
//!
//! ```text
//! batch (magic 2): base offset 8, length 4, leader epoch 4, magic 1, crc 4,
//!   attributes 2, last offset delta 4, base time stamp 8, max time stamp 8,
//!   producer id 8, epoch 2, base sequence 4, record count 4, records
//! record: length, attributes 1, time stamp delta, offset delta, key length
//!   (-1: none), key, value length, value, header count (lengths and deltas are zigzag varints)
//! stamped value: intended send 8, actual send 8 (nanoseconds of the run's
//!   clock), run id 8, filling
//! ```

use corelog::base::crc::crc32c;
use corelog::record::{BatchBuilder, BatchView, Codec, Scratch};

use crate::content::{Filling, Random};
use crate::failure;
use crate::failure::{Doing, Outcome};

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

/// A record to be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    pub key: Option<[u8; 16]>,
    pub value_bytes: usize,
}

/// Builds an uncompressed batch of these records; there is at least one.
pub fn build(records: &[Planned], filling: Filling, random: &mut Random, time_ms: i64) -> Batch {
    assert!(!records.is_empty() && records.len() <= i32::MAX as usize, "a batch has at least one record");
    let mut bytes = vec![0u8; HEADER_BYTES];
    let mut values_at = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let key_bytes = record.key.map_or(0, |key| key.len());
        let key_len = zigzag(record.key.map_or(-1, |key| key.len() as i64));
        let value_len = zigzag(record.value_bytes as i64);
        let delta = zigzag(index as i64);
        // attributes, time stamp delta, offset delta, key length, key, value length, value, header count
        let lengths = varint_len(delta) + varint_len(key_len) + varint_len(value_len);
        let body = 1 + 1 + lengths + key_bytes + record.value_bytes + 1;
        put_varint(&mut bytes, zigzag(body as i64));
        bytes.push(0);
        put_varint(&mut bytes, 0);
        put_varint(&mut bytes, delta);
        put_varint(&mut bytes, key_len);
        bytes.extend(record.key.iter().flatten());
        put_varint(&mut bytes, value_len);
        values_at.push(bytes.len());
        filling.append(record.value_bytes, random, &mut bytes);
        put_varint(&mut bytes, 0);
    }
    let length = (bytes.len() - LENGTH_AT - 4) as i32;
    put(&mut bytes, LENGTH_AT, &length.to_be_bytes());
    put(&mut bytes, 12, &(-1i32).to_be_bytes());
    bytes[MAGIC_AT] = 2;
    put(&mut bytes, LAST_DELTA_AT, &(records.len() as i32 - 1).to_be_bytes());
    put(&mut bytes, BASE_TIME_AT, &time_ms.to_be_bytes());
    put(&mut bytes, MAX_TIME_AT, &time_ms.to_be_bytes());
    // No producer id, epoch or sequence.
    put(&mut bytes, PRODUCER_ID_AT, &[0xff; 14]);
    put(&mut bytes, COUNT_AT, &(records.len() as i32).to_be_bytes());
    seal(&mut bytes);
    Batch { bytes, values_at }
}

/// The same records in a compressed batch, with Kafka's default levels.
pub fn compressed(plain: &[u8], codec: Codec) -> Outcome<Vec<u8>> {
    let what = || format!("compress a batch with {}", codec.name());
    let view = BatchView::first(plain).doing(what)?;
    let mut scratch = Scratch::new();
    let mut records = view.records(&mut scratch).doing(what)?;
    let mut builder = BatchBuilder::new().codec(codec).base_timestamp(view.base_timestamp());
    while let Some(record) = records.next().doing(what)? {
        builder.copy(builder.record_count(), &record);
    }
    if builder.is_empty() {
        return Err(failure!("a batch without records cannot be compressed"));
    }
    let mut bytes = builder.build();
    put(&mut bytes, 12, &(-1i32).to_be_bytes());
    Ok(bytes)
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

    /// The stamp in the first record's value; `None` when it carries none, or
    /// cannot be read. All records of a batch carry the same.
    pub fn stamp(&self, scratch: &mut Scratch) -> Option<Stamp> {
        // A control batch has no values of ours.
        if self.0[22] & 0x20 != 0 {
            return None;
        }
        let view = BatchView::first(self.0).ok()?;
        let mut records = view.records(scratch).ok()?;
        let record = records.next().ok()??;
        let value = record.value.filter(|value| value.len() >= STAMP_BYTES)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::RecordBatchDecoder;

    fn plain(records: usize, value_bytes: usize, time_ms: i64) -> Batch {
        let planned = vec![Planned { key: None, value_bytes }; records];
        build(&planned, Filling::Random, &mut Random::new(1), time_ms)
    }

    #[test]
    fn keys_sizes_and_codecs_are_read_by_the_crate() {
        let mut random = Random::new(7);
        let planned: Vec<Planned> = (0..300u32)
            .map(|index| Planned {
                key: (index % 3 != 0).then(|| crate::content::key(index)),
                value_bytes: STAMP_BYTES + random.below(3000),
            })
            .collect();
        let mut batch = build(&planned, Filling::Text, &mut random, 1_700_000_000_000);
        let expected = Stamp { intended_ns: 5, actual_ns: 6, run: 7 };
        stamp(&mut batch.bytes, &batch.values_at, &expected, 1_700_000_000_123);
        seal(&mut batch.bytes);
        for codec in Codec::ALL {
            let mut bytes = compressed(&batch.bytes, codec).unwrap();
            number(&mut bytes, Producer { id: 9, epoch: 1 }, 40);
            seal(&mut bytes);
            assert_eq!(bytes.len() < batch.bytes.len() / 2, codec != Codec::None, "{codec:?}: {}", bytes.len());
            let set = RecordBatchDecoder::decode(&mut Bytes::from(bytes.clone())).unwrap();
            assert_eq!(set.records.len(), planned.len());
            for (planned, (record, at)) in planned.iter().zip(set.records.iter().zip(&batch.values_at)) {
                assert_eq!(record.key.as_deref(), planned.key.as_ref().map(|key| &key[..]));
                assert_eq!(record.value.as_ref().unwrap(), &batch.bytes[*at..at + planned.value_bytes]);
                assert_eq!((record.timestamp, record.producer_id), (1_700_000_000_123, 9));
            }
            let fetched = Fetched::first(&bytes).unwrap();
            assert!(fetched.crc_is_right());
            assert_eq!(fetched.records(), planned.len() as u64);
            assert_eq!(fetched.stamp(&mut Scratch::new()), Some(expected), "{codec:?}");
        }
    }

    #[test]
    fn a_compressed_batch_that_is_broken_has_no_stamp() {
        let batch = plain(10, 100, 1).bytes;
        for codec in Codec::ALL {
            let mut bytes = compressed(&batch, codec).unwrap();
            let from = HEADER_BYTES;
            bytes[from..].fill(0xff);
            assert_eq!(Fetched::first(&bytes).unwrap().stamp(&mut Scratch::new()), None, "{codec:?}");
        }
    }

    #[test]
    fn the_crate_reads_what_is_built() {
        for (records, value_bytes) in [(1, 0), (1, 100), (3, 24), (36, 100), (1000, 100), (200, 1024)] {
            let batch = plain(records, value_bytes, 1_700_000_000_000);
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
        let mut batch = plain(7, 100, 1);
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
        assert_eq!(fetched.stamp(&mut Scratch::new()), Some(expected));
        assert_eq!(
            Fetched::first(&plain(1, 10, 1).bytes).unwrap().stamp(&mut Scratch::new()),
            None,
            "too short for a stamp"
        );
    }

    #[test]
    fn sequences_wrap_as_kafkas_do() {
        for (sequence, records, after) in [(0, 1, 1), (i32::MAX, 1, 0), (i32::MAX - 1, 5, 3), (7, 1000, 1007)] {
            assert_eq!(sequence_after(sequence, records), after);
        }
    }

    #[test]
    fn cut_batches_are_not_taken() {
        let batch = plain(2, 50, 1).bytes;
        for len in 0..batch.len() {
            assert!(Fetched::first(&batch[..len]).is_none(), "{len}");
        }
        let mut negative = batch.clone();
        negative[8] = 0x80;
        assert!(Fetched::first(&negative).is_none());
    }
}
