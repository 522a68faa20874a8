//! What a partition remembers of its producers, so that a batch that is sent again
//! is recognised and one that is missing is noticed (`ProducerStateManager`,
//! `ProducerStateEntry`, `ProducerAppendInfo`), and which transactions are open.
//!
//! Pure: no I/O, no clock. The snapshot file's bytes:
//!
//! ```text
//! i16 version = 1, u32 CRC-32C of all that follows, i32 count, then per producer
//! i64 producer id, i16 epoch, i32 last sequence, i64 last offset, i32 offset delta,
//! i64 timestamp, i32 coordinator epoch, i64 first offset of the open transaction (−1: none)
//! ```

use std::collections::{BTreeMap, HashMap};

use crate::base::crc::crc32c;
use crate::base::{Offset, UnixMs};
use crate::log::aborted::AbortedTransaction;
use crate::record::{BatchView, ControlType};

/// Batches of a producer that are remembered (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`):
/// a client that keeps its order has at most this many under way.
pub const BATCHES_KEPT: usize = 5;

const NO_EPOCH: i16 = -1;
const NO_SEQUENCE: i32 = -1;

/// A batch of a producer that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProducedBatch {
    pub last_sequence: i32,
    pub last_offset: Offset,
    /// Last offset less base offset.
    pub offset_delta: i32,
    pub timestamp: i64,
}

impl ProducedBatch {
    pub fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }

    /// The sequence number of its first record, wrapped back below 0.
    pub fn first_sequence(&self) -> i32 {
        // `DefaultRecordBatch.decrementSequence`.
        if self.last_sequence < self.offset_delta {
            (i64::from(i32::MAX) - i64::from(self.offset_delta - self.last_sequence) + 1) as i32
        } else {
            self.last_sequence - self.offset_delta
        }
    }
}

/// What is known of one producer id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producer {
    epoch: i16,
    /// Oldest first; the first `count` are of meaning.
    batches: [ProducedBatch; BATCHES_KEPT],
    count: u8,
    coordinator_epoch: i32,
    last_timestamp: i64,
    /// Where its open transaction begins.
    transaction_start: Option<Offset>,
}

impl Producer {
    fn new() -> Producer {
        Producer {
            epoch: NO_EPOCH,
            batches: [ProducedBatch::default(); BATCHES_KEPT],
            count: 0,
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_start: None,
        }
    }

    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    pub fn batches(&self) -> &[ProducedBatch] {
        &self.batches[..usize::from(self.count)]
    }

    pub fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    pub fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    pub fn transaction_start(&self) -> Option<Offset> {
        self.transaction_start
    }

    /// −1 when no batch of the current epoch is known.
    pub fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.count = 0;
            self.epoch = epoch;
        }
    }

    fn add(&mut self, batch: ProducedBatch) {
        if usize::from(self.count) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
        self.last_timestamp = batch.timestamp;
    }
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProducerFault {
    /// `OutOfOrderSequenceException`: records before these are missing, or the batch
    /// is a duplicate too old to be recognised.
    #[error(
        "Out of order sequence number for producer {producer_id}: {found} (incoming seq. number), \
         {last} (current end sequence number)"
    )]
    OutOfOrder { producer_id: i64, found: i32, last: i32 },
    /// `OutOfOrderSequenceException`: a new epoch begins at sequence 0.
    #[error(
        "Invalid sequence number for new epoch of producer {producer_id}: {epoch} (request epoch), {found} (seq. number), {current} (current producer epoch)"
    )]
    NewEpochNotAtZero { producer_id: i64, epoch: i16, found: i32, current: i16 },
    /// `InvalidProducerEpochException`: a newer instance of the producer took over.
    #[error("Epoch of producer {producer_id} is {found}, which is smaller than the last seen epoch {current}")]
    StaleEpoch { producer_id: i64, found: i16, current: i16 },
    /// `InvalidTxnStateException`: a plain batch in the middle of a transaction.
    #[error("Expected transactional write from producer with id {producer_id}")]
    NotTransactional { producer_id: i64 },
}

/// What a batch is to its producer's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one, or of no idempotent producer.
    Next,
    /// It is in the log already.
    Duplicate(ProducedBatch),
}

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot is cut")]
    Cut,
    #[error("snapshot version {0} is not 1")]
    Version(i16),
    #[error("the snapshot's checksum is wrong")]
    Checksum,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
    /// Open transactions by their first offset.
    open: BTreeMap<Offset, i64>,
    /// Ended transactions whose marker consumers may not see yet: first offset and
    /// the marker's offset.
    ended: BTreeMap<Offset, Offset>,
}

/// Bytes before the entries of a snapshot.
const SNAPSHOT_HEADER_BYTES: usize = 2 + 4 + 4;
/// Bytes of an entry of a snapshot.
const SNAPSHOT_ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;

impl Producers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.by_id.get(&producer_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// Judges a batch that a client wants to append. Duplicates are looked for
    /// first: they are a success with the old offset.
    pub fn check(&self, batch: &BatchView<'_>) -> Result<Verdict, ProducerFault> {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return Ok(Verdict::Next);
        }
        let Some(known) = self.by_id.get(&producer_id) else {
            // Nothing is known (any more): every sequence number is taken.
            return Ok(Verdict::Next);
        };
        let (epoch, first, last) = (batch.producer_epoch(), batch.base_sequence(), batch.last_sequence());
        if epoch == known.epoch
            && let Some(duplicate) =
                known.batches().iter().find(|batch| batch.first_sequence() == first && batch.last_sequence == last)
        {
            return Ok(Verdict::Duplicate(*duplicate));
        }
        if epoch < known.epoch {
            return Err(ProducerFault::StaleEpoch { producer_id, found: epoch, current: known.epoch });
        }
        if epoch != known.epoch {
            if first != 0 && known.epoch != NO_EPOCH {
                return Err(ProducerFault::NewEpochNotAtZero {
                    producer_id,
                    epoch,
                    found: first,
                    current: known.epoch,
                });
            }
        } else {
            let last = known.last_sequence();
            let follows = i64::from(first) == i64::from(last) + 1 || (first == 0 && last == i32::MAX);
            if known.epoch != NO_EPOCH && !follows {
                return Err(ProducerFault::OutOfOrder { producer_id, found: first, last });
            }
        }
        if known.transaction_start.is_some() && !batch.is_transactional() {
            return Err(ProducerFault::NotTransactional { producer_id });
        }
        Ok(Verdict::Next)
    }

    /// Takes a batch of the log into account, unchecked: it was checked when it was
    /// appended, or comes from the drive. `base` is its offset there. Gives the transaction that it
    /// aborts, if it is such a marker.
    pub fn update(&mut self, batch: &BatchView<'_>, base: Offset, timestamp: i64) -> Option<AbortedTransaction> {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return None;
        }
        let last_offset = base.plus(i64::from(batch.last_offset_delta()));
        if batch.is_control() {
            return self.end_transaction(batch, base, timestamp);
        }
        let producer = self.by_id.entry(producer_id).or_insert_with(Producer::new);
        producer.set_epoch(batch.producer_epoch());
        producer.add(ProducedBatch {
            last_sequence: batch.last_sequence(),
            last_offset,
            offset_delta: batch.last_offset_delta(),
            timestamp,
        });
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base);
            self.open.insert(base, producer_id);
        }
        None
    }

    /// A marker ends the producer's transaction (`ProducerAppendInfo.appendEndTxnMarker`).
    fn end_transaction(&mut self, batch: &BatchView<'_>, offset: Offset, timestamp: i64) -> Option<AbortedTransaction> {
        // An uncompressed control record: its key and value lie at fixed places.
        let (kind, coordinator_epoch) = marker(batch)?;
        if !matches!(kind, ControlType::Commit | ControlType::Abort) {
            return None;
        }
        let producer_id = batch.producer_id();
        let producer = self.by_id.entry(producer_id).or_insert_with(Producer::new);
        producer.set_epoch(batch.producer_epoch());
        producer.coordinator_epoch = coordinator_epoch;
        producer.last_timestamp = timestamp;
        let first = producer.transaction_start.take()?;
        self.open.remove(&first);
        self.ended.insert(first, offset);
        let last_stable = self.open.keys().next().copied().unwrap_or(offset.plus(1));
        (kind == ControlType::Abort).then_some(AbortedTransaction { producer_id, first, last: offset, last_stable })
    }

    /// The first offset whose transaction is undecided as seen below `high_watermark`.
    pub fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.keys().next().copied();
        let ended = self.ended.iter().find(|(_, marker)| **marker >= high_watermark).map(|(start, _)| *start);
        [open, ended].into_iter().flatten().min()
    }

    /// Forgets ended transactions whose markers everybody can see.
    pub fn high_watermark_moved(&mut self, high_watermark: Offset) {
        if !self.ended.is_empty() {
            self.ended.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// Forgets producers that were silent for `expiration_ms`, unless a transaction is open.
    pub fn expire(&mut self, now: UnixMs, expiration_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction_start.is_some() || now.0.saturating_sub(producer.last_timestamp) < expiration_ms
        });
        if self.by_id.is_empty() {
            self.by_id = HashMap::new();
        }
    }

    /// The bytes of a snapshot file. Only the last batch of each producer is kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + self.by_id.len() * SNAPSHOT_ENTRY_BYTES);
        bytes.extend_from_slice(&1i16.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.by_id.len() as i32).to_be_bytes());
        let mut ids: Vec<i64> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let producer = &self.by_id[&id];
            let last = producer.batches().last().copied().unwrap_or(ProducedBatch {
                last_sequence: NO_SEQUENCE,
                last_offset: Offset(-1),
                offset_delta: 0,
                timestamp: -1,
            });
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&last.last_offset.0.to_be_bytes());
            bytes.extend_from_slice(&last.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.transaction_start.map_or(-1, |start| start.0).to_be_bytes());
        }
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a snapshot file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Producers, SnapshotError> {
        let mut rest = Reader(bytes);
        let version = i16::from_be_bytes(rest.take()?);
        if version != 1 {
            return Err(SnapshotError::Version(version));
        }
        let crc = u32::from_be_bytes(rest.take()?);
        if crc32c(rest.0) != crc {
            return Err(SnapshotError::Checksum);
        }
        let count = i32::from_be_bytes(rest.take()?);
        let mut producers = Producers::default();
        for _ in 0..count.max(0) {
            let id = i64::from_be_bytes(rest.take()?);
            let mut producer = Producer::new();
            producer.epoch = i16::from_be_bytes(rest.take()?);
            let last = ProducedBatch {
                last_sequence: i32::from_be_bytes(rest.take()?),
                last_offset: Offset(i64::from_be_bytes(rest.take()?)),
                offset_delta: i32::from_be_bytes(rest.take()?),
                timestamp: i64::from_be_bytes(rest.take()?),
            };
            if last.last_offset >= Offset::ZERO {
                producer.add(last);
            }
            producer.last_timestamp = last.timestamp;
            producer.coordinator_epoch = i32::from_be_bytes(rest.take()?);
            let start = i64::from_be_bytes(rest.take()?);
            if start >= 0 {
                producer.transaction_start = Some(Offset(start));
                producers.open.insert(Offset(start), id);
            }
            producers.by_id.insert(id, producer);
        }
        Ok(producers)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SnapshotError::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// The kind of a control batch's record and, of a transaction marker, the epoch of
/// the coordinator that wrote it.
fn marker(batch: &BatchView<'_>) -> Option<(ControlType, i32)> {
    let mut scratch = crate::record::Scratch::new();
    let mut records = batch.records(&mut scratch).ok()?;
    let record = records.next().ok()??;
    let kind = ControlType::from_key(record.key?)?;
    // EndTxnMarker: i16 version, i32 coordinator epoch.
    let epoch = record
        .value
        .and_then(|value| value.get(2..6))
        .map_or(-1, |epoch| i32::from_be_bytes(epoch.try_into().expect("four bytes were taken")));
    Some((kind, epoch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{BatchBuilder, NewRecord};

    fn batch(producer: (i64, i16, i32), count: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new().producer(producer.0, producer.1, producer.2);
        for _ in 0..count {
            builder.push(NewRecord { timestamp: 50, key: None, value: None, headers: &[] });
        }
        builder.build()
    }

    /// Sends batches of `(epoch, first sequence, records)` in order; gives for each
    /// what became of it: its offset, `=` and the old offset for a duplicate, or the fault.
    fn send(batches: &[(i16, i32, usize)]) -> Vec<String> {
        let mut producers = Producers::default();
        let mut end = Offset(0);
        let told = batches.iter().map(|&(epoch, first, count)| {
            let bytes = batch((9, epoch, first), count);
            let view = BatchView::first(&bytes).unwrap();
            match producers.check(&view) {
                Ok(Verdict::Next) => {
                    producers.update(&view, end, 50);
                    end = end.plus(count as i64);
                    (end.0 - count as i64).to_string()
                }
                Ok(Verdict::Duplicate(first)) => format!("={}", first.base_offset()),
                Err(ProducerFault::OutOfOrder { .. }) => "order".to_string(),
                Err(ProducerFault::NewEpochNotAtZero { .. }) => "zero".to_string(),
                Err(ProducerFault::StaleEpoch { .. }) => "stale".to_string(),
                Err(ProducerFault::NotTransactional { .. }) => "transaction".to_string(),
            }
        });
        told.collect()
    }

    #[test]
    fn batches_are_judged_as_kafka_does() {
        const MAX: i32 = i32::MAX;
        for (batches, expected) in [
            // In order, again, and a gap.
            (&[(0, 0, 2), (0, 2, 1), (0, 0, 2), (0, 2, 1), (0, 4, 1)][..], &["0", "2", "=0", "=2", "order"][..]),
            // An unknown producer may begin anywhere: its state has expired.
            (&[(3, 700, 2), (3, 702, 1)], &["0", "2"]),
            // Only the last five are recognised, and only as a whole.
            (
                &[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1), (0, 1, 1), (0, 0, 1), (0, 4, 2)],
                &["0", "1", "2", "3", "4", "5", "=1", "order", "order"],
            ),
            // The sequence wraps to 0, between batches and within one.
            (&[(0, MAX, 1), (0, 0, 1), (0, MAX, 1)], &["0", "1", "=0"]),
            (&[(0, MAX - 1, 4), (0, 2, 1), (0, MAX - 1, 4), (0, 4, 1)], &["0", "4", "=0", "order"]),
            // A new epoch begins at 0; the old one is out, duplicates included.
            (
                &[(0, 0, 2), (1, 2, 1), (1, 0, 1), (0, 2, 1), (0, 0, 2), (1, 1, 1)],
                &["0", "zero", "2", "stale", "stale", "3"],
            ),
        ] {
            assert_eq!(send(batches), expected, "{batches:?}");
        }
    }

    #[test]
    fn snapshots_keep_the_last_batch_and_open_transactions() {
        let mut producers = Producers::default();
        for (at, bytes) in [batch((1, 0, 0), 3), batch((1, 0, 3), 2), batch((2, 7, 5), 1)].iter().enumerate() {
            producers.update(&BatchView::first(bytes).unwrap(), Offset(at as i64 * 10), 60 + at as i64);
        }
        let bytes = producers.encode();
        let back = Producers::decode(&bytes).unwrap();
        let first = back.get(1).unwrap();
        assert_eq!((first.epoch(), first.last_sequence(), first.batches().len()), (0, 4, 1));
        assert_eq!(first.batches()[0].base_offset(), Offset(10));
        assert_eq!(back.get(2).unwrap().last_timestamp(), 62);
        assert_eq!(back.encode(), bytes);
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut flipped = bytes.clone();
        flipped[20] ^= 1;
        assert_eq!(Producers::decode(&flipped), Err(SnapshotError::Checksum));
        let mut newer = bytes;
        newer[1] = 2;
        assert_eq!(Producers::decode(&newer), Err(SnapshotError::Version(2)));
    }

    #[test]
    fn an_open_transaction_holds_the_last_stable_offset_until_its_marker_is_visible() {
        let mut producers = Producers::default();
        let mut builder = BatchBuilder::new().producer(4, 0, 0).transactional();
        builder.push(NewRecord { timestamp: 1, key: None, value: None, headers: &[] });
        let data = builder.build();
        producers.update(&BatchView::first(&data).unwrap(), Offset(10), 1);
        assert_eq!(producers.first_unstable(Offset(12)), Some(Offset(10)));
        let plain = batch((4, 0, 1), 1);
        let judged = producers.check(&BatchView::first(&plain).unwrap());
        assert_eq!(judged, Err(ProducerFault::NotTransactional { producer_id: 4 }));
        let again = Producers::decode(&producers.encode()).unwrap();
        assert_eq!(again.first_unstable(Offset(12)), Some(Offset(10)));

        let mut builder = BatchBuilder::new().producer(4, 0, -1).transactional().control();
        builder.push_control(ControlType::Commit, 2, &[0, 0, 0, 0, 0, 8]);
        let marker = builder.build();
        producers.update(&BatchView::first(&marker).unwrap(), Offset(12), 2);
        assert_eq!(producers.get(4).unwrap().coordinator_epoch(), 8);
        assert_eq!(producers.first_unstable(Offset(12)), Some(Offset(10)));
        assert_eq!(producers.first_unstable(Offset(13)), None);
        producers.high_watermark_moved(Offset(13));
        assert!(producers.ended.is_empty());
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut producers = Producers::default();
        producers.update(&BatchView::first(&batch((1, 0, 0), 1)).unwrap(), Offset(0), 1000);
        producers.expire(UnixMs(1499), 500);
        assert_eq!(producers.len(), 1);
        producers.expire(UnixMs(1500), 500);
        assert!(producers.is_empty());
    }

    proptest! {
        #[test]
        fn rubbish_is_never_a_snapshot_that_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Producers::decode(&bytes);
            let mut right = bytes.clone();
            if right.len() > 10 {
                right[..2].copy_from_slice(&[0, 1]);
                let crc = crc32c(&right[6..]);
                right[2..6].copy_from_slice(&crc.to_be_bytes());
                let _ = Producers::decode(&right);
            }
        }

        // A client that sends batches in order, some of them again and late, never gets a gap or a copy.
        #[test]
        fn what_is_taken_is_each_batch_once(again in proptest::collection::vec(0..8usize, 1..60)) {
            let mut producers = Producers::default();
            let (mut end, mut sent, mut next) = (Offset(0), Vec::<(i32, usize, Offset)>::new(), i32::MAX - 20);
            for back in again {
                let (first, count) = match sent.len().checked_sub(back) {
                    Some(at) if at < sent.len() => (sent[at].0, sent[at].1),
                    _ => (next, 1 + back % 4),
                };
                let bytes = batch((3, 2, first), count);
                let view = BatchView::first(&bytes).unwrap();
                match producers.check(&view) {
                    Ok(Verdict::Next) => {
                        prop_assert_eq!(first, next);
                        producers.update(&view, end, 5);
                        sent.push((first, count, end));
                        end = end.plus(count as i64);
                        next = crate::record::advance_sequence(first, count as i32);
                    }
                    Ok(Verdict::Duplicate(old)) => {
                        prop_assert!((1..=BATCHES_KEPT).contains(&back));
                        prop_assert_eq!(old.base_offset(), sent[sent.len() - back].2);
                    }
                    Err(fault) => prop_assert!(back > BATCHES_KEPT, "{fault}"),
                }
            }
        }
    }
}
