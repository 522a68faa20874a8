//! What the fuzz targets do with their bytes: feed a decoder, and hold what it
//! says against the `kafka-protocol` crate or against itself. Shared with
//! `tests/fuzz_corpus.rs`, which replays the corpora in the ordinary tests.

// Each target uses one of these.
#![allow(dead_code)]

use bytes::Bytes;
use corelog::base::UnixMs;
use corelog::base::crc::crc32c;
use corelog::metadata::records::MetadataRecord;
use corelog::record::stored;
use corelog::record::{
    BatchView, Codec, CompressionType, Outcome, RecordFault, Rules, Scratch, TimestampType, iterate, validate,
};
use corelog::wire::fetch::FetchRequest;
use corelog::wire::produce::ProduceRequest;
use corelog::wire::versions::SERVED;
use corelog::wire::{self, ApiKey, Body as RequestBody, WireError};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// All targets by name.
pub const ALL: &[(&str, Body)] = &[
    ("batch", batch),
    ("request_header", request_header),
    ("produce_request", produce_request),
    ("fetch_request", fetch_request),
    ("offset_commit_request", offset_commit_request),
    ("offset_fetch_request", offset_fetch_request),
    ("request", request),
    ("stored_record", stored_record),
];

/// A byte of choices, then batches. One of the choices is to set length, magic and checksum right, so that
/// what lies behind them is reached.
pub fn batch(data: &[u8]) {
    let Some((choices, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    if choices & 1 != 0 && bytes.len() >= 61 {
        let length = (bytes.len() - 12) as u32;
        bytes[..8].fill(0);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let mut scratch = Scratch::new();
    for view in iterate(&bytes).flatten() {
        let walked = count_by_shape(&view, &mut scratch);
        let read = count_by_record(&view, &mut scratch);
        assert_eq!(walked.is_ok(), read.is_ok(), "{walked:?} {read:?}");
        assert!(walked.is_err() || walked == read);
    }
    let rules = Rules {
        compacted: choices & 2 != 0,
        timestamp_type: if choices & 4 != 0 { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        compression: match Codec::from_id(i16::from(choices >> 4)) {
            Some(codec) if choices & 8 != 0 => CompressionType::Codec(codec),
            _ => CompressionType::Producer,
        },
        ..Rules::default()
    };
    let Ok(validated) = validate(&bytes, &rules, UnixMs(1_700_000_000_000), true) else { return };
    assert!(validated.bytes().len() <= rules.max_message_bytes);
    let view = validated.view();
    assert!(view.crc_is_right());
    assert_eq!(count_by_shape(&view, &mut scratch), Ok(view.record_count()));
    // What was made right stays as it is.
    if let Outcome::Rewrite(bytes) = validated.outcome() {
        let again = validate(bytes, &rules, UnixMs(1_700_000_000_000), true).expect("a rewritten batch is valid");
        assert_eq!(again.outcome(), &Outcome::AsIs);
    }
}

fn count_by_shape(view: &BatchView, scratch: &mut Scratch) -> Result<i32, RecordFault> {
    let mut count = 0;
    view.walk::<RecordFault>(scratch, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn count_by_record(view: &BatchView, scratch: &mut Scratch) -> Result<i32, RecordFault> {
    let mut count = 0;
    let mut records = view.records(scratch)?;
    while let Some(record) = records.next()? {
        assert_eq!(record.headers().count(), record.header_count);
        count += 1;
    }
    Ok(count)
}

/// Which log a record is of, then its bytes: the value of a metadata record; or the key
/// of a coordinator's record; or, with the kind of key, such a record's value.
pub fn stored_record(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    // What is read is written so that it is read as the same again. Bytes are compared: a
    // number may be NaN.
    macro_rules! check {
        ($topic:ident) => {{
            if let Ok(key) = stored::$topic::Key::decode(bytes) {
                let written = key.encode().expect("what was read can be written");
                let again = stored::$topic::Key::decode(&written).expect("what was written can be read");
                assert_eq!(again, key);
            }
            let Some((&kind, value)) = bytes.split_first() else { return };
            let Some(version) = value.first_chunk().map(|version| i16::from_be_bytes(*version)) else { return };
            if let Ok(read) = stored::$topic::Value::decode(kind.into(), value) {
                let written = read.encode(version).expect("what was read can be written");
                let again = stored::$topic::Value::decode(kind.into(), &written).expect("what was written can be read");
                assert_eq!(again, read);
            }
        }};
    }
    match choice % 4 {
        0 => {
            let Ok((record, version)) = MetadataRecord::decode(bytes) else { return };
            let written = record.encode(version).expect("what was read can be written");
            let (again, _) = MetadataRecord::decode(&written).expect("what was written can be read");
            assert_eq!(again.encode(version).as_ref(), Ok(&written));
        }
        1 => check!(group),
        2 => check!(transaction),
        _ => check!(share),
    }
}

/// A frame without its size.
pub fn request_header(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let mut rest = frame.clone();
    match wire::read_header(&mut rest) {
        Ok(header) => {
            assert!(frame.ends_with(&rest) && frame.len() - rest.len() >= 10);
            assert_eq!(header.correlation_id.to_be_bytes(), frame[4..8]);
        }
        Err(_) => assert_eq!(rest, frame),
    }
}

/// A version, then a body.
pub fn produce_request(data: &[u8]) {
    let Some((version, body)) = data.split_first() else { return };
    let version = 3 + i16::from(version % 11);
    let body = Bytes::copy_from_slice(body);
    let Ok(ours) = ProduceRequest::parse(body.clone(), version) else { return };
    // Ours refuses counts that cannot be; what it takes, the crate takes.
    let their = theirs::ProduceRequest::decode(&mut body.clone(), version).expect("the crate reads it too");
    let found: Vec<_> = ours.topics().flatten().map(|p| (p.index, p.records)).collect();
    let expected: Vec<_> =
        their.topic_data.iter().flat_map(|t| &t.partition_data).map(|p| (p.index, p.records.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(ours.partition_count(), found.len());
    assert_eq!((ours.acks(), ours.timeout_ms()), (their.acks, their.timeout_ms));
}

/// A version, then a body.
pub fn fetch_request(data: &[u8]) {
    let Some((version, body)) = data.split_first() else { return };
    let version = 4 + i16::from(version % 15);
    let body = Bytes::copy_from_slice(body);
    let Ok(ours) = FetchRequest::parse(&body, version) else { return };
    // The crate reserves what a count claims and does not look at the sizes of tagged fields that it knows: after
    // ours, which does, there is nothing to go astray by.
    let their = theirs::FetchRequest::decode(&mut body.clone(), version).expect("the crate reads it too");
    type Partition = (i32, i32, i64, i32, i64, i32, [u8; 16], i64);
    let found: Vec<Partition> = ours
        .topics()
        .flat_map(|(_, partitions)| partitions)
        .map(|p| {
            let directory = p.replica_directory_id.0;
            let (leader, last) = (p.current_leader_epoch, p.last_fetched_epoch);
            (p.index, leader, p.fetch_offset, last, p.log_start_offset, p.max_bytes, directory, p.high_watermark)
        })
        .collect();
    let expected: Vec<Partition> = their
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| {
            let directory = p.replica_directory_id.into_bytes();
            let (leader, last, max) = (p.current_leader_epoch, p.last_fetched_epoch, p.partition_max_bytes);
            (p.partition, leader, p.fetch_offset, last, p.log_start_offset, max, directory, p.high_watermark)
        })
        .collect();
    assert_eq!(found, expected);
    let found: Vec<&[i32]> = ours.forgotten().map(|(_, partitions)| partitions).collect();
    let expected: Vec<&[i32]> = their.forgotten_topics_data.iter().map(|topic| &topic.partitions[..]).collect();
    assert_eq!(found, expected);
    assert_eq!(
        (ours.session_id, ours.session_epoch, ours.rack_id),
        (their.session_id, their.session_epoch, their.rack_id)
    );
    assert_eq!(
        (ours.max_wait_ms, ours.min_bytes, ours.max_bytes),
        (their.max_wait_ms, their.min_bytes, their.max_bytes)
    );
    assert_eq!((ours.cluster_id, ours.isolation_level), (their.cluster_id, their.isolation_level));
}

/// The name that version 9 of a request sees where version 10 has this id, if it is one: 15 bytes behind their length.
fn name_in_version_9(id: &[u8; 16]) -> Option<theirs::TopicName> {
    let [16, name @ ..] = id else { return None };
    let name = std::str::from_utf8(name).ok()?;
    Some(theirs::TopicName(wire::StrBytes::from_string(name.to_owned())))
}

/// A body of version 10.
pub fn offset_commit_request(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(ours) = wire::decode::<theirs::OffsetCommitRequest>(body.clone(), 10) else { return };
    let written = wire::encode_request(&ours, 10).expect("what was read can be written");
    assert_eq!(wire::decode(written, 10).as_ref(), Ok(&ours));
    // Where all ids are names as well, the crate reads the same as version 9.
    let mut named = ours;
    for topic in &mut named.topics {
        let Some(name) = name_in_version_9(topic.topic_id.as_bytes()) else { return };
        (topic.name, topic.topic_id) = (name, Default::default());
    }
    let mut their = theirs::OffsetCommitRequest::decode(&mut body.clone(), 9).expect("the crate reads it too");
    their.unknown_tagged_fields.clear();
    for topic in &mut their.topics {
        topic.unknown_tagged_fields.clear();
        topic.partitions.iter_mut().for_each(|partition| partition.unknown_tagged_fields.clear());
    }
    assert_eq!(named, their);
}

/// A body of version 10.
pub fn offset_fetch_request(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(ours) = wire::decode::<theirs::OffsetFetchRequest>(body.clone(), 10) else { return };
    let written = wire::encode_request(&ours, 10).expect("what was read can be written");
    assert_eq!(wire::decode(written, 10).as_ref(), Ok(&ours));
    // As above.
    let mut named = ours;
    for topic in named.groups.iter_mut().flat_map(|group| group.topics.iter_mut().flatten()) {
        let Some(name) = name_in_version_9(topic.topic_id.as_bytes()) else { return };
        (topic.name, topic.topic_id) = (name, Default::default());
    }
    let mut their = theirs::OffsetFetchRequest::decode(&mut body.clone(), 9).expect("the crate reads it too");
    their.unknown_tagged_fields.clear();
    for group in &mut their.groups {
        group.unknown_tagged_fields.clear();
        group.topics.iter_mut().flatten().for_each(|topic| topic.unknown_tagged_fields.clear());
    }
    assert_eq!(named, their);
}

/// An API, a version, then a body that is decoded behind the guard.
pub fn request(data: &[u8]) {
    let [api, version, body @ ..] = data else { return };
    let api = &SERVED[usize::from(*api) % SERVED.len()];
    let version = api.min + i16::from(*version) % (api.max - api.min + 1);
    let body = Bytes::copy_from_slice(body);
    match api.key {
        ApiKey::Produce | ApiKey::Fetch => {}
        ApiKey::ListOffsets => decode::<theirs::ListOffsetsRequest>(body, version),
        ApiKey::Metadata => decode::<theirs::MetadataRequest>(body, version),
        ApiKey::OffsetCommit => decode::<theirs::OffsetCommitRequest>(body, version),
        ApiKey::OffsetFetch => decode::<theirs::OffsetFetchRequest>(body, version),
        ApiKey::FindCoordinator => decode::<theirs::FindCoordinatorRequest>(body, version),
        ApiKey::JoinGroup => decode::<theirs::JoinGroupRequest>(body, version),
        ApiKey::Heartbeat => decode::<theirs::HeartbeatRequest>(body, version),
        ApiKey::LeaveGroup => decode::<theirs::LeaveGroupRequest>(body, version),
        ApiKey::SyncGroup => decode::<theirs::SyncGroupRequest>(body, version),
        ApiKey::DescribeGroups => decode::<theirs::DescribeGroupsRequest>(body, version),
        ApiKey::ListGroups => decode::<theirs::ListGroupsRequest>(body, version),
        ApiKey::ApiVersions => decode::<theirs::ApiVersionsRequest>(body, version),
        ApiKey::CreateTopics => decode::<theirs::CreateTopicsRequest>(body, version),
        ApiKey::DeleteTopics => decode::<theirs::DeleteTopicsRequest>(body, version),
        ApiKey::InitProducerId => decode::<theirs::InitProducerIdRequest>(body, version),
        ApiKey::OffsetForLeaderEpoch => decode::<theirs::OffsetForLeaderEpochRequest>(body, version),
        ApiKey::DeleteRecords => decode::<theirs::DeleteRecordsRequest>(body, version),
        ApiKey::DescribeLogDirs => decode::<theirs::DescribeLogDirsRequest>(body, version),
        ApiKey::AlterReplicaLogDirs => decode::<theirs::AlterReplicaLogDirsRequest>(body, version),
        ApiKey::AlterConfigs => decode::<theirs::AlterConfigsRequest>(body, version),
        ApiKey::IncrementalAlterConfigs => decode::<theirs::IncrementalAlterConfigsRequest>(body, version),
        ApiKey::DescribeConfigs => decode::<theirs::DescribeConfigsRequest>(body, version),
        ApiKey::CreatePartitions => decode::<theirs::CreatePartitionsRequest>(body, version),
        ApiKey::DeleteGroups => decode::<theirs::DeleteGroupsRequest>(body, version),
        ApiKey::AlterPartitionReassignments => decode::<theirs::AlterPartitionReassignmentsRequest>(body, version),
        ApiKey::ListPartitionReassignments => decode::<theirs::ListPartitionReassignmentsRequest>(body, version),
        ApiKey::ElectLeaders => decode::<theirs::ElectLeadersRequest>(body, version),
        ApiKey::ListConfigResources => decode::<theirs::ListConfigResourcesRequest>(body, version),
        ApiKey::DescribeTopicPartitions => decode::<theirs::DescribeTopicPartitionsRequest>(body, version),
        ApiKey::DescribeCluster => decode::<theirs::DescribeClusterRequest>(body, version),
        other => panic!("{other:?} is served but not fuzzed"),
    }
}

fn decode<T: RequestBody>(body: Bytes, version: i16) {
    if let Err(WireError::Decode { reason, .. }) = wire::decode::<T>(body, version) {
        assert!(!reason.contains("panicked"), "{reason}");
    }
}
