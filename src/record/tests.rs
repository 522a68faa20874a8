//! The whole of `record/` against a model, against the `kafka-protocol` crate, and
//! against bytes that lie.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as theirs;
use last_wins::headers_of;
use proptest::prelude::*;

use super::*;
use crate::base::{LeaderEpoch, Offset, UnixMs};

/// A record as a plain value.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn plain(key: Option<&str>, value: &str, timestamp: i64) -> Plain {
    Plain { timestamp, key: key.map(|k| k.into()), value: Some(value.into()), headers: vec![] }
}

fn push(builder: &mut BatchBuilder, record: &Plain) {
    let headers: Vec<_> = record.headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
    builder.push(NewRecord {
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    });
}

fn batch(codec: Codec, records: &[Plain]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().codec(codec);
    records.iter().for_each(|r| push(&mut builder, r));
    builder.build()
}

/// All records of a batch by our walk.
fn read(batch: &[u8], scratch: &mut Scratch) -> Result<Vec<(i64, Plain)>, RecordFault> {
    let view = BatchView::first(batch).unwrap();
    let mut found = Vec::new();
    let mut records = view.records(scratch)?;
    while let Some(r) = records.next()? {
        let headers = r.headers().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
        let record = Plain {
            timestamp: r.timestamp,
            key: r.key.map(<[u8]>::to_vec),
            value: r.value.map(<[u8]>::to_vec),
            headers,
        };
        found.push((r.offset, record));
    }
    Ok(found)
}

fn shapes(batch: &[u8], scratch: &mut Scratch) -> Result<Vec<RecordShape>, RecordFault> {
    let mut found = Vec::new();
    BatchView::first(batch).unwrap().walk::<RecordFault>(scratch, |shape| {
        found.push(shape);
        Ok(())
    })?;
    Ok(found)
}

/// Sets the checksum right again after a change.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    super::stamp::seal(&mut batch);
    batch
}

fn sometimes_bytes(max: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        6 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        // Compressible, and now and then larger than the window.
        2 => (any::<u8>(), 0..max).prop_map(|(byte, len)| Some(vec![byte; len])),
    ]
}

fn record_strategy() -> impl Strategy<Value = Plain> {
    let header = (proptest::collection::vec(b'a'..=b'c', 0..3), sometimes_bytes(50));
    (
        prop_oneof![Just(-1), 1_600_000_000_000..1_600_000_100_000i64, 0..i64::MAX],
        sometimes_bytes(300),
        sometimes_bytes(150_000),
        proptest::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Plain { timestamp, key, value, headers })
}

fn codec_strategy() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

mod last_wins {
    //! The crate keeps headers in a map: the last of equal keys wins, in the place of the first.
    pub fn headers_of(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut kept: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for (key, value) in headers {
            match kept.iter_mut().find(|(k, _)| k == key) {
                Some(entry) => entry.1 = value.clone(),
                None => kept.push((key.clone(), value.clone())),
            }
        }
        kept
    }
}

fn from_theirs(record: &theirs::Record) -> (i64, Plain) {
    let headers = record.headers.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_ref().map(|v| v.to_vec()))).collect();
    let plain = Plain {
        timestamp: record.timestamp,
        key: record.key.as_ref().map(|k| k.to_vec()),
        value: record.value.as_ref().map(|v| v.to_vec()),
        headers,
    };
    (record.offset, plain)
}

fn to_theirs(offset: i64, record: &Plain) -> theirs::Record {
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 7,
        producer_id: 9,
        producer_epoch: 3,
        timestamp_type: theirs::TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(k, v)| (String::from_utf8(k.clone()).unwrap().into(), v.clone().map(Bytes::from)))
            .collect(),
    }
}

fn their_codec(codec: Codec) -> theirs::Compression {
    match codec {
        Codec::None => theirs::Compression::None,
        Codec::Gzip => theirs::Compression::Gzip,
        Codec::Snappy => theirs::Compression::Snappy,
        Codec::Lz4 => theirs::Compression::Lz4,
        Codec::Zstd => theirs::Compression::Zstd,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_built_is_read_back(
        codec in codec_strategy(),
        records in proptest::collection::vec(record_strategy(), 1..20),
        base in 0..1_000_000i64,
    ) {
        let mut builder = BatchBuilder::new().codec(codec).base_offset(Offset(base)).producer(5, 1, i32::MAX - 1);
        records.iter().for_each(|r| push(&mut builder, r));
        let bytes = builder.build();
        let view = BatchView::first(&bytes).unwrap();
        prop_assert!(view.crc_is_right());
        prop_assert_eq!(view.size(), bytes.len());
        prop_assert_eq!(view.codec(), Some(codec));
        prop_assert_eq!(view.last_offset(), Offset(base + records.len() as i64 - 1));
        prop_assert_eq!(view.max_timestamp(), records.iter().map(|r| r.timestamp).max().unwrap());
        let mut scratch = Scratch::new();
        let expected: Vec<_> = records.iter().cloned().enumerate().map(|(i, r)| (base + i as i64, r)).collect();
        prop_assert_eq!(&read(&bytes, &mut scratch).unwrap(), &expected);
        // The same scratch again, and shapes that fit.
        let shapes = shapes(&bytes, &mut scratch).unwrap();
        prop_assert_eq!(shapes.len(), records.len());
        for (i, (shape, record)) in shapes.iter().zip(&records).enumerate() {
            prop_assert_eq!(shape.offset_delta, i as i32);
            prop_assert_eq!(shape.key_len, record.key.as_ref().map(Vec::len));
            prop_assert_eq!(shape.value_len, record.value.as_ref().map(Vec::len));
            prop_assert_eq!(shape.header_count, record.headers.len());
        }
        if codec == Codec::None {
            prop_assert_eq!(shapes.iter().map(|s| s.size).sum::<usize>(), view.payload().len());
        }
    }

    #[test]
    fn the_crate_reads_what_we_build(
        codec in codec_strategy(),
        records in proptest::collection::vec(record_strategy(), 1..8),
    ) {
        let mut bytes = Bytes::from(batch(codec, &records));
        let set = theirs::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(set.records.len(), records.len());
        for (i, (theirs, ours)) in set.records.iter().zip(&records).enumerate() {
            let ours = Plain { headers: headers_of(&ours.headers), ..ours.clone() };
            prop_assert_eq!(from_theirs(theirs), (i as i64, ours));
        }
    }

    #[test]
    fn we_read_what_the_crate_builds(
        codec in codec_strategy(),
        records in proptest::collection::vec(record_strategy(), 1..8),
    ) {
        let theirs: Vec<_> = records.iter().enumerate().map(|(i, r)| to_theirs(i as i64, r)).collect();
        let options = theirs::RecordEncodeOptions { version: 2, compression: their_codec(codec) };
        let mut bytes = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        let view = BatchView::first(&bytes).unwrap();
        prop_assert!(view.crc_is_right());
        prop_assert_eq!((view.producer_id(), view.producer_epoch(), view.leader_epoch()), (9, 3, LeaderEpoch(7)));
        let found = read(&bytes, &mut Scratch::new()).unwrap();
        let expected: Vec<_> = theirs.iter().map(from_theirs).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_give_an_error_or_a_batch(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        look_at(&bytes);
    }

    #[test]
    fn damaged_batches_never_panic(
        codec in codec_strategy(),
        records in proptest::collection::vec(record_strategy(), 1..5),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = batch(codec, &records);
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            // The length stays right, else everything would end there.
            if !(8..12).contains(&at) && at != 16 {
                bytes[at] = *byte;
            }
        }
        let bytes = sealed(bytes);
        look_at(&bytes);
        let mut cut = bytes[..61 + cut.index(bytes.len() - 60)].to_vec();
        let length = (cut.len() - 12) as i32;
        cut[8..12].copy_from_slice(&length.to_be_bytes());
        look_at(&sealed(cut));
    }

    #[test]
    fn a_valid_batch_passes_as_it_is_and_a_rebuilt_one_says_the_same(
        from in codec_strategy(),
        to in codec_strategy(),
        records in proptest::collection::vec(record_strategy(), 1..8),
    ) {
        let rules = Rules { max_message_bytes: usize::MAX, after_max_ms: i64::MAX, ..Rules::default() };
        let bytes = batch(from, &records);
        let validated = validate(&bytes, &rules, UnixMs(0), true).unwrap();
        prop_assert_eq!(validated.outcome(), &Outcome::AsIs);
        prop_assert_eq!(validated.bytes(), &bytes[..]);

        let rules = Rules { compression: CompressionType::Codec(to), ..rules };
        let validated = validate(&bytes, &rules, UnixMs(0), true).unwrap();
        prop_assert_eq!(matches!(validated.outcome(), Outcome::AsIs), from == to);
        prop_assert!(validated.view().crc_is_right());
        prop_assert_eq!(validated.view().codec(), Some(to));
        prop_assert_eq!(validated.view().max_timestamp(), validated.original().max_timestamp());
        let mut scratch = Scratch::new();
        prop_assert_eq!(read(validated.bytes(), &mut scratch), read(&bytes, &mut scratch));
    }
}

/// Everything that looks at bytes from outside, with what must hold whatever they are.
fn look_at(bytes: &[u8]) {
    for batch in iterate(bytes).flatten() {
        let mut scratch = Scratch::new();
        let shapes = shapes(batch.bytes(), &mut scratch);
        let records = read(batch.bytes(), &mut scratch);
        assert_eq!(shapes.is_ok(), records.is_ok(), "{shapes:?} {records:?}");
    }
    for (i, compacted) in [false, true].into_iter().enumerate() {
        let rules = Rules { compacted, compression: CompressionType::Codec(Codec::ALL[i]), ..Rules::default() };
        if let Ok(validated) = validate(bytes, &rules, UnixMs(0), true) {
            assert!(validated.view().crc_is_right());
            assert!(shapes(validated.bytes(), &mut Scratch::new()).is_ok());
        }
    }
}

static NOW: UnixMs = UnixMs(1_700_000_000_000);
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    batch(
        Codec::None,
        &[plain(Some("k"), "a", NOW.0 - 5), plain(Some("k"), "b", NOW.0), plain(Some("k"), "c", NOW.0 - 1)],
    )
});

/// A good batch of three records with some header bytes replaced and the checksum made right.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = GOOD.clone();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(batch)
}

#[track_caller]
fn check(bytes: &[u8], rules: &Rules, expected: Result<Outcome, InvalidBatch>) {
    assert_eq!(validate(bytes, rules, NOW, true).map(|v| v.outcome().clone()), expected);
}

#[track_caller]
fn refused(bytes: &[u8], reason: Reason) {
    check(bytes, &Rules::default(), Err(InvalidBatch::Invalid(reason)));
}

#[test]
fn a_field_holds_exactly_one_batch_of_format_2() {
    check(&GOOD, &Rules::default(), Ok(Outcome::AsIs));
    refused(&[], Reason::NoBatch);
    refused(&GOOD[..11], Reason::NoBatch);
    refused(&GOOD[..GOOD.len() - 1], Reason::NoBatch);
    refused(&[&GOOD[..], &GOOD[..]].concat(), Reason::SeveralBatches);
    refused(&with(16, &[1]), Reason::Magic(1));
    // A batch that is cut behind the first is dropped, as Kafka does.
    let field = [&GOOD[..], &GOOD[..40]].concat();
    let validated = validate(&field, &Rules::default(), NOW, true).unwrap();
    assert_eq!(validated.bytes(), &GOOD[..]);

    let corrupt = |c| Err(InvalidBatch::Corrupt(c));
    check(&with(16, &[3]), &Rules::default(), corrupt(Corruption::Magic(3)));
    check(&with(8, &[0, 0, 0, 13]), &Rules::default(), corrupt(Corruption::Length(13)));
    check(&with(8, &[0xff; 4]), &Rules::default(), corrupt(Corruption::Length(-1)));
    let short = [&with(8, &[0, 0, 0, 48])[..60]].concat();
    check(&short, &Rules::default(), corrupt(Corruption::Length(48)));
}

#[test]
fn zstd_wants_version_7() {
    let bytes = batch(Codec::Zstd, &[plain(None, "a", NOW.0)]);
    assert_eq!(validate(&bytes, &Rules::default(), NOW, false).err(), Some(InvalidBatch::UnsupportedCodec));
    check(&bytes, &Rules::default(), Ok(Outcome::AsIs));
}

#[test]
fn header_faults_are_refused_in_kafkas_order() {
    refused(&with(0, &1i64.to_be_bytes()), Reason::BaseOffset(1));
    let small = Rules { max_message_bytes: GOOD.len() - 1, ..Rules::default() };
    let too_large = Err(InvalidBatch::TooLarge { size: GOOD.len(), max: GOOD.len() - 1 });
    check(&GOOD, &small, too_large.clone());
    check(&GOOD, &Rules { max_message_bytes: GOOD.len(), ..Rules::default() }, Ok(Outcome::AsIs));
    // Size before checksum, base offset before size.
    let mut bytes = GOOD.clone();
    *bytes.last_mut().unwrap() ^= 1;
    check(&bytes, &small, too_large);
    assert!(matches!(
        validate(&bytes, &Rules::default(), NOW, true),
        Err(InvalidBatch::Corrupt(Corruption::Crc { .. }))
    ));
    bytes[7] = 1;
    check(&bytes, &small, Err(InvalidBatch::Invalid(Reason::BaseOffset(1))));

    refused(&with(23, &(-1i32).to_be_bytes()), Reason::OffsetRange(0, -1));
    refused(&with(57, &0i32.to_be_bytes()), Reason::Count(0));
    refused(&with(57, &(-3i32).to_be_bytes()), Reason::Count(-3));
    refused(&with(57, &2i32.to_be_bytes()), Reason::Inconsistent(0, 2, 2));
    refused(&with(21, &0x20i16.to_be_bytes()), Reason::Control);
    refused(&with(43, &8i64.to_be_bytes()), Reason::Sequence { sequence: -1, producer_id: 8 });
    refused(&with(21, &5i16.to_be_bytes()), Reason::Records(RecordFault::UnknownCodec(5)));
}

#[test]
fn records_fill_the_batch_exactly() {
    let count = |n: i32| {
        let mut batch = GOOD.clone();
        batch[57..61].copy_from_slice(&n.to_be_bytes());
        batch[23..27].copy_from_slice(&(n - 1).to_be_bytes());
        sealed(batch)
    };
    refused(&count(2), Reason::Records(RecordFault::Remaining { count: 2 }));
    refused(&count(4), Reason::Records(RecordFault::Cut { index: 3 }));
    // Two billion records of a batch of a hundred bytes: found out at the fourth.
    refused(&count(i32::MAX), Reason::Records(RecordFault::Cut { index: 3 }));
    // The first record's length, one too small.
    let mut batch = GOOD.clone();
    batch[61] -= 2;
    let claimed = i64::from(batch[61] / 2);
    refused(&sealed(batch), Reason::Records(RecordFault::Size { index: 0, claimed, taken: claimed + 1 }));
}

#[test]
fn faulty_records_are_all_named() {
    let bytes = batch(
        Codec::Gzip,
        &[
            plain(None, "a", NOW.0),
            plain(Some("k"), "b", NOW.0 + 11),
            plain(Some("k"), "c", NOW.0 + 10),
            plain(Some("k"), "d", -1),
            plain(Some("k"), "e", NOW.0 - 21),
            plain(None, "f", NOW.0 - 30),
        ],
    );
    let rules = Rules { compacted: true, before_max_ms: 20, after_max_ms: 10, ..Rules::default() };
    let time = |timestamp| RecordErrorReason::Timestamp { timestamp, low: NOW.0 - 20, high: NOW.0 + 10 };
    let no_key = |index| RecordError { index, reason: RecordErrorReason::NoKey };
    let errors = vec![
        no_key(0),
        RecordError { index: 1, reason: time(NOW.0 + 11) },
        RecordError { index: 4, reason: time(NOW.0 - 21) },
        no_key(5),
    ];
    check(&bytes, &rules, Err(InvalidBatch::Records { errors, timestamp: true }));
    let rules = Rules { compacted: true, ..Rules::default() };
    check(&bytes, &rules, Err(InvalidBatch::Records { errors: vec![no_key(0), no_key(5)], timestamp: false }));
    // Time bounds do not count where the broker sets the time.
    let rules = Rules { timestamp_type: TimestampType::LogAppendTime, before_max_ms: 20, ..Rules::default() };
    check(&bytes, &rules, Ok(Outcome::AsIs));
}

#[test]
fn at_most_so_many_faulty_records_are_named() {
    use crate::base::limits::RECORD_ERRORS_MAX;
    let records = vec![plain(None, "", NOW.0); RECORD_ERRORS_MAX + 5];
    let rules = Rules { compacted: true, ..Rules::default() };
    match validate(&batch(Codec::Lz4, &records), &rules, NOW, true) {
        Err(InvalidBatch::Records { errors, .. }) => assert_eq!(errors.len(), RECORD_ERRORS_MAX),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_may_not_set_the_append_time_bit() {
    let bytes = with(21, &8i16.to_be_bytes());
    let errors = (0..3).map(|index| RecordError { index, reason: RecordErrorReason::LogAppendTime }).collect();
    check(&bytes, &Rules::default(), Err(InvalidBatch::Records { errors, timestamp: true }));
}

#[test]
fn a_wrong_max_timestamp_is_set_right() {
    let bytes = with(35, &(NOW.0 + 77).to_be_bytes());
    check(&bytes, &Rules::default(), Ok(Outcome::Rewrite(GOOD.clone())));
    // Where the broker sets the time the stamp overwrites it anyway.
    let rules = Rules { timestamp_type: TimestampType::LogAppendTime, ..Rules::default() };
    check(&bytes, &rules, Ok(Outcome::AsIs));
    assert_eq!(validate(&bytes, &rules, NOW, true).unwrap().log_append_time(), Some(NOW));
}

#[test]
fn inner_offsets_that_do_not_count_up_are_set_right() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new().codec(codec).producer(4, 2, 10);
        let records = [plain(None, "a", NOW.0), plain(None, "b", NOW.0)];
        for (delta, record) in [3, 5].into_iter().zip(&records) {
            let key = record.key.as_deref();
            let value = record.value.as_deref();
            builder.push_at(delta, NewRecord { timestamp: record.timestamp, key, value, headers: &[] });
        }
        let mut bytes = builder.build();
        bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
        let bytes = sealed(bytes);
        let validated = validate(&bytes, &Rules::default(), NOW, true).unwrap();
        assert!(matches!(validated.outcome(), Outcome::Rewrite(_)), "{codec:?}");
        let view = validated.view();
        assert!(view.crc_is_right());
        assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (4, 2, 10));
        let found = read(validated.bytes(), &mut Scratch::new()).unwrap();
        assert_eq!(found, [(0, records[0].clone()), (1, records[1].clone())]);
    }
}

#[test]
fn a_rebuilt_batch_has_to_fit_as_well() {
    let bytes = batch(Codec::Zstd, &[plain(None, &"x".repeat(5000), NOW.0)]);
    let rules = Rules { max_message_bytes: 1000, compression: CompressionType::Codec(Codec::None), ..Rules::default() };
    assert!(matches!(validate(&bytes, &rules, NOW, true), Err(InvalidBatch::TooLarge { max: 1000, .. })));
}

#[test]
fn a_stamp_changes_what_it_says_and_nothing_else() {
    let mut bytes = GOOD.clone();
    bytes.extend_from_slice(b"behind");
    let size = GOOD.len();
    let mut stamped = Stamp { base_offset: Offset(1 << 40), leader_epoch: LeaderEpoch(6), log_append_time: None };
    stamp(&mut bytes[..size], &stamped);
    let view = BatchView::first(&bytes).unwrap();
    assert!(view.crc_is_right());
    assert_eq!((view.base_offset(), view.leader_epoch()), (Offset(1 << 40), LeaderEpoch(6)));
    assert_eq!(bytes[16..size], GOOD[16..]);

    stamped.log_append_time = Some(UnixMs(123));
    stamp(&mut bytes[..size], &stamped);
    let view = BatchView::first(&bytes).unwrap();
    assert!(view.crc_is_right());
    assert_eq!((view.timestamp_type(), view.max_timestamp()), (TimestampType::LogAppendTime, 123));
    assert!(read(&bytes, &mut Scratch::new()).unwrap().iter().all(|(_, r)| r.timestamp == 123));
    assert_eq!(&bytes[size..], b"behind");
}

#[test]
fn batches_are_walked_to_the_first_that_is_not_whole() {
    let bytes = [&GOOD[..], &GOOD[..], &GOOD[..20]].concat();
    let mut batches = iterate(&bytes);
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(batches.position(), 2 * GOOD.len());
    assert_eq!(batches.next().unwrap().err(), Some(BatchError::Cut { have: 20, need: GOOD.len() }));
    assert!(batches.next().is_none());
    // The zeroed tail of a preallocated segment.
    let bytes = [&GOOD[..], &[0; 4096]].concat();
    let found: Vec<_> = iterate(&bytes).map(|b| b.map(|b| b.size())).collect();
    assert_eq!(found, [Ok(GOOD.len()), Err(BatchError::Length(0))]);
}

#[test]
fn compacted_batches_keep_their_gaps() {
    let mut builder = BatchBuilder::new().base_offset(Offset(100));
    builder.push_at(2, NewRecord { timestamp: 5, key: Some(b"k"), value: None, headers: &[] });
    builder.push_at(7, NewRecord { timestamp: 6, key: Some(b"l"), value: None, headers: &[] });
    builder.cover(9);
    let bytes = builder.build();
    let view = BatchView::first(&bytes).unwrap();
    assert_eq!((view.last_offset(), view.record_count()), (Offset(109), 2));
    let offsets: Vec<_> = read(&bytes, &mut Scratch::new()).unwrap().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [102, 107]);
    // The last batch of a producer may be kept empty.
    let mut builder = BatchBuilder::new().producer(1, 1, 5);
    builder.cover(3);
    let bytes = builder.build();
    assert!(read(&bytes, &mut Scratch::new()).unwrap().is_empty());
    assert_eq!(BatchView::first(&bytes).unwrap().last_sequence(), 8);
}

#[test]
fn control_records_are_known_by_their_key() {
    let mut builder = BatchBuilder::new().control().transactional().producer(1, 0, -1);
    builder.push_control(ControlType::Commit, 9, &[0, 0, 0, 0, 0, 7]);
    let bytes = builder.build();
    let view = BatchView::first(&bytes).unwrap();
    assert!(view.is_control() && view.is_transactional());
    let found = read(&bytes, &mut Scratch::new()).unwrap();
    let key = found[0].1.key.as_deref().unwrap();
    assert_eq!(key, [0, 0, 0, 1]);
    assert_eq!(ControlType::from_key(key), Some(ControlType::Commit));
    assert_eq!(ControlType::from_key(&[0, 0, 0, 99]), None);
    assert_eq!(ControlType::from_key(&[0, 0]), None);
}

#[test]
fn sequences_wrap() {
    assert_eq!(advance_sequence(i32::MAX, 1), 0);
    assert_eq!(advance_sequence(i32::MAX - 1, 5), 3);
    assert_eq!(advance_sequence(7, 0), 7);
}

/// A batch header around compressed bytes of our own making.
fn around(codec: Codec, compressed: &[u8], count: i32) -> Vec<u8> {
    let mut bytes = batch(Codec::None, &[plain(None, "", 0)]);
    bytes.truncate(BATCH_HEADER_BYTES);
    bytes.extend_from_slice(compressed);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&codec.id().to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    sealed(bytes)
}

#[test]
fn compressed_streams_may_be_put_together() {
    let records: Vec<_> = (0..500).map(|i| plain(None, &format!("value {i}"), 0)).collect();
    let payload = batch(Codec::None, &records)[BATCH_HEADER_BYTES..].to_vec();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
        let mut compressed = Vec::new();
        // Cut within a record.
        let (first, second) = payload.split_at(payload.len() / 2 + 3);
        super::codec::compress(codec, None, first, &mut compressed).unwrap();
        super::codec::compress(codec, None, second, &mut compressed).unwrap();
        let found = read(&around(codec, &compressed, 500), &mut Scratch::new()).unwrap();
        assert_eq!(found.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(), records, "{codec:?}");
    }
    // librdkafka sends snappy without frames: one raw block.
    let raw = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
    assert_eq!(read(&around(Codec::Snappy, &raw, 500), &mut Scratch::new()).unwrap().len(), 500);
}

#[test]
fn cut_compressed_streams_are_refused() {
    let records: Vec<_> = (0..500).map(|i| plain(None, &format!("value {i}"), 0)).collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let whole = batch(codec, &records)[BATCH_HEADER_BYTES..].to_vec();
        for cut in [1, 2, 8, whole.len() / 2, whole.len() - 3] {
            let bytes = around(codec, &whole[..whole.len() - cut], 500);
            assert!(shapes(&bytes, &mut Scratch::new()).is_err(), "{codec:?} less {cut}");
        }
    }
}

#[test]
fn a_decompression_bomb_ends_at_the_ceiling() {
    use crate::base::limits::BATCH_PLAIN_BYTES_MAX;
    // One record that says it is as large as can be, of zeroes.
    let zeroes = vec![0u8; BATCH_PLAIN_BYTES_MAX / 16];
    let mut record = Vec::new();
    varint::write(i32::MAX, &mut record);
    record.extend_from_slice(&[0, 0, 0, 1]);
    varint::write(i32::MAX - 100, &mut record);
    let mut compressed = Vec::new();
    super::codec::compress(Codec::Zstd, None, &record, &mut compressed).unwrap();
    let mut part = Vec::new();
    super::codec::compress(Codec::Zstd, None, &zeroes, &mut part).unwrap();
    for _ in 0..20 {
        compressed.extend_from_slice(&part);
    }
    assert!(compressed.len() < 20_000, "{}", compressed.len());
    let bytes = around(Codec::Zstd, &compressed, 1);
    let mut scratch = Scratch::new();
    assert_eq!(shapes(&bytes, &mut scratch), Err(RecordFault::TooMuch));
    assert_eq!(read(&bytes, &mut scratch), Err(RecordFault::TooMuch));
    // A snappy block that says it becomes 4 GiB.
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(shapes(&around(Codec::Snappy, &lie, 1), &mut scratch), Err(RecordFault::Compression));
    assert_eq!(format!("{scratch:?}"), "Scratch(65536 bytes)");
}
