//! A batch of which compaction keeps some records, or none: what stays the same, and what
//! the delete horizon changes (`MemoryRecords.filterTo`, KIP-534).
//!
//! Base offset, last offset, leader epoch, producer, epoch and base sequence stay as they
//! were, so that offsets keep their meaning and the producer's last sequence number is still
//! there. Records keep their offsets, times and contents. The codec stays, at its default level.
//!
//! Records are taken one at a time and compressed piece by piece, so that who rewrites a large
//! batch can give way in between. Relies on `codec`. Does no I/O.

use std::io;

use crate::base::UnixMs;

use super::codec::{Codec, Compressor};
use super::stamp::{put, seal};
use super::varint;
use super::view::*;
use super::walk::{Record, RecordFault};

/// Plain bytes that are compressed at once.
const PIECE_BYTES: usize = 16 << 10;

/// A batch that is written again without some of its records.
pub struct Rewriter {
    compressor: Compressor,
    /// Records that are not compressed yet.
    piece: Vec<u8>,
    log_append_time: bool,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    records: i32,
}

impl Rewriter {
    /// Begins the batch that takes the place of `batch`. From `horizon` on its tombstones, or its
    /// marker, may be removed; of a batch that has a horizon already, that one.
    ///
    /// # Errors
    /// Nobody knows the batch's codec.
    pub fn new(batch: &BatchView<'_>, horizon: Option<UnixMs>) -> Result<Rewriter, RecordFault> {
        let codec = batch.codec().ok_or(RecordFault::UnknownCodec(batch.attributes() & CODEC_MASK))?;
        let mut header = batch.bytes()[..BATCH_HEADER_BYTES].to_vec();
        let attributes = match horizon {
            Some(_) => batch.attributes() | DELETE_HORIZON_BIT,
            None => batch.attributes() & !DELETE_HORIZON_BIT,
        };
        put(&mut header, ATTRIBUTES, &attributes.to_be_bytes());
        Ok(Rewriter {
            compressor: Compressor::new(codec, None, header).map_err(|_| RecordFault::Compression)?,
            piece: Vec::with_capacity(PIECE_BYTES),
            log_append_time: batch.timestamp_type() == TimestampType::LogAppendTime,
            // It takes the place of the time that the records' are counted from.
            base_timestamp: horizon.map(|time| time.0),
            max_timestamp: -1,
            records: 0,
        })
    }

    /// Keeps a record of the batch; in order.
    ///
    /// # Errors
    /// The codec failed.
    pub fn keep(&mut self, record: &Record<'_>) -> io::Result<()> {
        let timestamp_delta = record.timestamp.wrapping_sub(*self.base_timestamp.get_or_insert(record.timestamp));
        let size = 1 + varint::size_long(timestamp_delta) + varint::size(record.offset_delta) + record.tail.len();
        // A record lies in a batch, whose length is 31 bits; its deltas take ten bytes more at most.
        let size = i32::try_from(size).map_err(|_| io::Error::other("a record is larger than a batch can be"))?;
        varint::write(size, &mut self.piece);
        self.piece.push(record.attributes as u8);
        varint::write_long(timestamp_delta, &mut self.piece);
        varint::write(record.offset_delta, &mut self.piece);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.records += 1;
        if self.piece.len() + record.tail.len() < PIECE_BYTES {
            self.piece.extend_from_slice(record.tail);
            return Ok(());
        }
        self.compressor.write(&self.piece)?;
        self.piece.clear();
        self.compressor.write(record.tail)
    }

    /// Records kept so far.
    pub fn records(&self) -> i32 {
        self.records
    }

    /// The batch, with its checksum.
    ///
    /// # Errors
    /// The codec failed, or the batch has become larger than 2 GiB.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.compressor.write(&self.piece)?;
        let mut batch = self.compressor.finish()?;
        let length = i32::try_from(batch.len() - LOG_OVERHEAD_BYTES)
            .map_err(|_| io::Error::other("a batch is larger than it can be"))?;
        put(&mut batch, LENGTH, &length.to_be_bytes());
        put(&mut batch, BASE_TIMESTAMP, &self.base_timestamp.unwrap_or(-1).to_be_bytes());
        if !self.log_append_time {
            put(&mut batch, MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        }
        put(&mut batch, RECORD_COUNT, &self.records.to_be_bytes());
        seal(&mut batch);
        Ok(batch)
    }
}

/// What is left of a batch of which no record is kept, but which is kept itself, for its
/// producer's sequence number or its last offset (`DefaultRecordBatch.writeEmptyHeader`).
pub fn emptied(batch: &BatchView<'_>) -> [u8; BATCH_HEADER_BYTES] {
    let mut header = [0; BATCH_HEADER_BYTES];
    header.copy_from_slice(&batch.bytes()[..BATCH_HEADER_BYTES]);
    let attributes = batch.attributes() & !(CODEC_MASK | DELETE_HORIZON_BIT) | Codec::None.id();
    put(&mut header, LENGTH, &((BATCH_HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32).to_be_bytes());
    put(&mut header, ATTRIBUTES, &attributes.to_be_bytes());
    put(&mut header, BASE_TIMESTAMP, &(-1_i64).to_be_bytes());
    put(&mut header, RECORD_COUNT, &0_i32.to_be_bytes());
    seal(&mut header);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{LeaderEpoch, Offset};
    use crate::record::{BatchBuilder, NewRecord, Scratch};

    /// What a record is, apart from how it is stored.
    type Content = (i64, i64, i8, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn contents(batch: &[u8]) -> Vec<Content> {
        let view = BatchView::first(batch).unwrap();
        assert!(view.crc_is_right() && view.size() == batch.len());
        let mut scratch = Scratch::new();
        let mut records = view.records(&mut scratch).unwrap();
        let mut found = Vec::new();
        while let Some(record) = records.next().unwrap() {
            found.push((
                record.offset,
                record.timestamp,
                record.attributes,
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
                record.header_count,
            ));
        }
        found
    }

    fn batch(codec: Codec, log_append_time: Option<i64>, values: &[(i64, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new()
            .codec(codec)
            .base_offset(Offset(1 << 40))
            .leader_epoch(LeaderEpoch(7))
            .producer(99, 3, i32::MAX - 1)
            .transactional();
        if let Some(time) = log_append_time {
            builder = builder.log_append_time(UnixMs(time));
        }
        for (at, (timestamp, value)) in values.iter().enumerate() {
            let key = [at as u8, 1, 2];
            let headers: &[(&[u8], Option<&[u8]>)] = if at % 3 == 0 { &[(b"h", None)] } else { &[] };
            let key = (at % 5 != 4).then_some(&key[..]);
            builder.push(NewRecord { timestamp: *timestamp, key, value: value.as_deref(), headers });
        }
        builder.cover(values.len() as i32 + 2);
        builder.build()
    }

    fn rewrite(bytes: &[u8], horizon: Option<UnixMs>, keep: impl Fn(usize) -> bool) -> Vec<u8> {
        let view = BatchView::first(bytes).unwrap();
        let mut scratch = Scratch::new();
        let mut rewriter = Rewriter::new(&view, horizon).unwrap();
        let mut records = view.records(&mut scratch).unwrap();
        let mut at = 0;
        while let Some(record) = records.next().unwrap() {
            if keep(at) {
                rewriter.keep(&record).unwrap();
            }
            at += 1;
        }
        rewriter.finish().unwrap()
    }

    fn header_of(batch: &BatchView<'_>) -> (i64, i64, i32, i64, i16, i32, bool, bool) {
        (
            batch.base_offset().0,
            batch.last_offset().0,
            batch.leader_epoch().0,
            batch.producer_id(),
            batch.producer_epoch(),
            batch.last_sequence(),
            batch.is_transactional(),
            batch.is_control(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_kept_is_what_it_was(
            codec in 0..5_i16,
            log_append_time in proptest::option::of(0..i64::MAX),
            horizon in proptest::option::of(0..i64::MAX),
            values in proptest::collection::vec(
                (0..i64::MAX, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9000))), 1..12),
            kept in any::<u16>(),
        ) {
            let bytes = batch(Codec::from_id(codec).unwrap(), log_append_time, &values);
            let keep = |at: usize| kept >> at & 1 == 1;
            let rewritten = rewrite(&bytes, horizon.map(UnixMs), keep);
            let all = contents(&bytes);
            let expected: Vec<Content> =
                all.into_iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, content)| content).collect();
            let found = contents(&rewritten);
            prop_assert_eq!(&found, &expected);
            let (before, after) = (BatchView::first(&bytes).unwrap(), BatchView::first(&rewritten).unwrap());
            prop_assert_eq!(header_of(&before), header_of(&after));
            prop_assert_eq!((before.codec(), before.timestamp_type()), (after.codec(), after.timestamp_type()));
            prop_assert_eq!(after.record_count() as usize, found.len());
            prop_assert_eq!(after.has_delete_horizon(), horizon.is_some());
            if let Some(horizon) = horizon {
                prop_assert_eq!(after.base_timestamp(), horizon);
            }
            let max = found.iter().map(|record| record.1).max().unwrap_or(-1);
            prop_assert_eq!(after.max_timestamp(), log_append_time.unwrap_or(max));
            // A horizon that is there stays when the batch is written again.
            let again = rewrite(&rewritten, horizon.map(UnixMs), |_| true);
            prop_assert_eq!(contents(&again), expected);
        }
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_and_sequence() {
        for codec in Codec::ALL {
            let bytes = batch(codec, Some(5), &[(1, Some(vec![7; 100])), (2, None)]);
            let with_horizon = rewrite(&bytes, Some(UnixMs(77)), |_| true);
            for bytes in [bytes, with_horizon] {
                let before = BatchView::first(&bytes).unwrap();
                let empty = emptied(&before);
                let after = BatchView::first(&empty).unwrap();
                assert_eq!(header_of(&before), header_of(&after));
                assert!(after.crc_is_right() && after.size() == BATCH_HEADER_BYTES);
                assert_eq!((after.record_count(), after.max_timestamp(), after.base_timestamp()), (0, 5, -1));
                assert!(!after.has_delete_horizon() && after.codec() == Some(Codec::None));
                assert_eq!(contents(&empty), []);
            }
        }
    }
}
