//! The codecs against the `kafka-protocol` crate in both directions, and against bytes that lie.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::BufMut;
use kafka_protocol::messages as theirs;
use kafka_protocol::messages::{RequestHeader as TheirHeader, TopicName, TransactionalId};
use kafka_protocol::protocol::Decodable;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::cursor::Put;
use super::fetch::*;
use super::produce::*;
use super::*;
use crate::base::Piece;

fn str_bytes() -> impl Strategy<Value = StrBytes> {
    prop_oneof!["", "[a-z.]{1,20}", ".{0,20}"].prop_map(StrBytes::from_string)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 100..300)].prop_map(Bytes::from)
}

/// Tagged fields that nobody knows, where the version has any.
fn unknown_tags(flexible: bool) -> impl Strategy<Value = std::collections::BTreeMap<i32, Bytes>> {
    proptest::collection::btree_map(10..400i32, some_bytes(), 0..if flexible { 3 } else { 1 })
}

fn encoded<T: Encodable>(message: &T, version: i16) -> Bytes {
    encode_by_crate(message, version).unwrap()
}

// --- headers ---------------------------------------------------------------------------------

proptest! {
    #[test]
    fn headers_of_the_crate_are_read(
        api in proptest::sample::select(versions::SERVED),
        version in -1..20i16,
        correlation in any::<i32>(),
        client in option::of(str_bytes()),
        body in some_bytes(),
        tags in unknown_tags(true),
    ) {
        let flexible = api.is_flexible(version);
        let header = TheirHeader::default()
            .with_request_api_key(api.key as i16)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(client.clone())
            .with_unknown_tagged_fields(if flexible { tags } else { Default::default() });
        let mut bytes = BytesMut::from(&encoded(&header, if flexible { 2 } else { 1 })[..]);
        bytes.put_slice(&body);
        let mut bytes = bytes.freeze();
        let read = read_header(&mut bytes).unwrap();
        let api = served(api.key as i16).unwrap();
        prop_assert_eq!(read, RequestHeader { api, api_version: version, correlation_id: correlation, client_id: client });
        prop_assert_eq!(bytes, body);
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error(bytes in vec(any::<u8>(), 0..60), key in 0..80i16) {
        let _ = read_header(&mut Bytes::from(bytes.clone()));
        let mut bytes = bytes;
        if bytes.len() > 2 {
            bytes[..2].copy_from_slice(&key.to_be_bytes());
        }
        let _ = read_header(&mut Bytes::from(bytes));
    }
}

#[test]
fn a_header_is_cut_nowhere_without_an_error() {
    // Metadata v12 with client id "abc" and one tagged field.
    let whole = b"\0\x03\0\x0c\0\0\0\x2a\0\x03abc\x01\x07\x02xy";
    for cut in 0..whole.len() {
        let mut bytes = Bytes::copy_from_slice(&whole[..cut]);
        assert!(read_header(&mut bytes).is_err(), "{cut}");
        assert_eq!(bytes.len(), cut, "an error takes nothing");
    }
    let mut bytes = Bytes::from_static(whole);
    let header = read_header(&mut bytes).unwrap();
    assert_eq!((header.correlation_id, header.client_id.as_deref(), bytes.len()), (42, Some("abc"), 0));
    let mut bytes = Bytes::from_static(b"\x03\xe8\0\0\0\0\0\0\0\0");
    assert_eq!(read_header(&mut bytes), Err(WireError::UnknownApi(1000)));
    // Null client id; not UTF-8, which Kafka replaces.
    let mut bytes = Bytes::from_static(b"\0\x12\0\0\0\0\0\0\xff\xff");
    assert_eq!(read_header(&mut bytes).unwrap().client_id, None);
    let mut bytes = Bytes::from_static(b"\0\x12\0\0\0\0\0\0\0\x02a\xff");
    assert_eq!(read_header(&mut bytes).unwrap().client_id.as_deref(), Some("a\u{fffd}"));
}

#[test]
fn answers_are_framed_with_the_header_of_their_version() {
    let framed = |key: ApiKey, version| {
        let api = served(key as i16).unwrap();
        frame(response_header(7, api, version), Bytes::from_static(b"body").into()).to_bytes()
    };
    assert_eq!(&framed(ApiKey::Metadata, 8)[..], b"\0\0\0\x08\0\0\0\x07body");
    assert_eq!(&framed(ApiKey::Metadata, 9)[..], b"\0\0\0\x09\0\0\0\x07\0body");
    // The answer to ApiVersions is readable for clients of any version.
    assert_eq!(&framed(ApiKey::ApiVersions, 4)[..], b"\0\0\0\x08\0\0\0\x07body");
    for api in versions::SERVED {
        for version in api.min..=api.max {
            let len = frame(response_header(7, api, version), Rope::new()).len();
            assert_eq!(len, 8 + api.key.response_header_version(version) as usize, "{api:?} {version}");
        }
    }
    assert_eq!(frame_size(b"\0\0\x01\0rest"), Some(256));
    assert_eq!(frame_size(b"\0\0\x01"), None);
    assert_eq!(frame_size(b"\xff\xff\xff\xff"), Some(-1));
}

// --- produce ---------------------------------------------------------------------------------

fn their_produce() -> impl Strategy<Value = (i16, theirs::ProduceRequest)> {
    (3..=13i16).prop_flat_map(|version| {
        let flexible = version >= 9;
        let partition = (any::<i32>(), option::weighted(0.9, some_bytes()), unknown_tags(flexible)).prop_map(
            |(index, records, tags)| {
                theirs::produce_request::PartitionProduceData::default()
                    .with_index(index)
                    .with_records(records)
                    .with_unknown_tagged_fields(tags)
            },
        );
        let topic = (str_bytes(), uuid(), vec(partition, 0..4), unknown_tags(flexible)).prop_map(
            move |(name, id, partitions, tags)| {
                let topic = theirs::produce_request::TopicProduceData::default()
                    .with_partition_data(partitions)
                    .with_unknown_tagged_fields(tags);
                if version >= 13 { topic.with_topic_id(crate_uuid(id)) } else { topic.with_name(TopicName(name)) }
            },
        );
        (option::of(str_bytes()), any::<i16>(), any::<i32>(), vec(topic, 0..4), unknown_tags(flexible)).prop_map(
            move |(id, acks, timeout, topics, tags)| {
                let request = theirs::ProduceRequest::default()
                    .with_transactional_id(id.map(TransactionalId))
                    .with_acks(acks)
                    .with_timeout_ms(timeout)
                    .with_topic_data(topics)
                    .with_unknown_tagged_fields(tags);
                (version, request)
            },
        )
    })
}

/// What we read, in the crate's words (without unknown tagged fields).
fn as_theirs(request: &ProduceRequest) -> theirs::ProduceRequest {
    let topics = request.topics().map(|topic| {
        assert_eq!(topic.partition_count(), topic.clone().count());
        let mut their = theirs::produce_request::TopicProduceData::default();
        match topic.topic() {
            Topic::Name(name) => their = their.with_name(TopicName(name)),
            Topic::Id(id) => their = their.with_topic_id(crate_uuid(id)),
        }
        their.with_partition_data(
            topic
                .map(|p| {
                    theirs::produce_request::PartitionProduceData::default().with_index(p.index).with_records(p.records)
                })
                .collect(),
        )
    });
    theirs::ProduceRequest::default()
        .with_transactional_id(
            request.transactional_id().map(|id| TransactionalId(StrBytes::from_string(id.to_owned()))),
        )
        .with_acks(request.acks())
        .with_timeout_ms(request.timeout_ms())
        .with_topic_data(topics.collect())
}

fn without_tags(mut request: theirs::ProduceRequest) -> theirs::ProduceRequest {
    request.unknown_tagged_fields.clear();
    for topic in &mut request.topic_data {
        topic.unknown_tagged_fields.clear();
        topic.partition_data.iter_mut().for_each(|p| p.unknown_tagged_fields.clear());
    }
    request
}

fn leader() -> impl Strategy<Value = Option<CurrentLeader>> {
    option::of(
        (0..i32::MAX, 0..i32::MAX).prop_map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch }),
    )
}

fn endpoints() -> impl Strategy<Value = Vec<NodeEndpoint>> {
    let endpoint = (any::<i32>(), ".{0,20}", any::<i32>(), option::of(".{0,9}"))
        .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
    vec(endpoint, 0..3)
}

fn produce_response() -> impl Strategy<Value = (i16, ProduceResponse)> {
    let text = || option::of(".{0,30}".prop_map(Cow::Owned));
    (3..=13i16).prop_flat_map(move |version| {
        let error =
            (any::<i32>(), text()).prop_map(|(batch_index, message)| ProducedRecordError { batch_index, message });
        let partition = (any::<(i32, i16, i64, i64, i64)>(), vec(error, 0..3), text(), leader()).prop_map(
            |((index, error_code, base_offset, time, start), record_errors, error_message, current_leader)| {
                ProducedPartition {
                    index,
                    error_code,
                    base_offset,
                    log_append_time_ms: time,
                    log_start_offset: start,
                    record_errors,
                    error_message,
                    current_leader,
                }
            },
        );
        let topic = (topic_in(version >= 13), vec(partition, 0..4))
            .prop_map(|(topic, partitions)| ProducedTopic { topic, partitions });
        (vec(topic, 0..4), any::<i32>(), endpoints()).prop_map(move |(topics, throttle_time_ms, node_endpoints)| {
            (version, ProduceResponse { topics, throttle_time_ms, node_endpoints })
        })
    })
}

fn topic_in(by_id: bool) -> BoxedStrategy<Topic> {
    match by_id {
        true => any::<[u8; 16]>().prop_map(|id| Topic::Id(Uuid(id))).boxed(),
        false => str_bytes().prop_map(Topic::Name).boxed(),
    }
}

fn their_name(topic: &Topic) -> TopicName {
    TopicName(StrBytes::from_string(topic.name().unwrap_or_default().to_owned()))
}

proptest! {
    #[test]
    fn produce_requests_of_the_crate_are_read((version, request) in their_produce()) {
        let bytes = encoded(&request, version);
        let ours = ProduceRequest::parse(bytes.clone(), version).unwrap();
        let partitions: usize = request.topic_data.iter().map(|t| t.partition_data.len()).sum();
        prop_assert_eq!(ours.partition_count(), partitions);
        prop_assert_eq!(as_theirs(&ours), without_tags(request));
        // Records are slices of the frame.
        for records in ours.topics().flatten().filter_map(|p| p.records) {
            let frame = bytes.as_ptr_range();
            prop_assert!(records.is_empty() || frame.contains(&records.as_ptr()));
        }
        // Cut anywhere it is an error; bytes behind it are not looked at.
        for cut in 0..bytes.len() {
            prop_assert!(ProduceRequest::parse(bytes.slice(..cut), version).is_err());
        }
        let longer = [&bytes[..], b"more"].concat();
        prop_assert_eq!(as_theirs(&ProduceRequest::parse(longer.into(), version).unwrap()), as_theirs(&ours));
    }

    #[test]
    fn damaged_produce_requests_are_read_as_the_crate_does(
        (version, request) in their_produce(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&request, version).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let ours = ProduceRequest::parse(bytes.clone().into(), version);
        if let Ok(ours) = ours {
            let theirs = theirs::ProduceRequest::decode(&mut Bytes::from(bytes), version).unwrap();
            prop_assert_eq!(as_theirs(&ours), without_tags(theirs));
        }
    }

    #[test]
    fn any_bytes_are_a_produce_request_or_an_error(bytes in vec(any::<u8>(), 0..100), version in 3..=13i16) {
        if let Ok(request) = ProduceRequest::parse(bytes.into(), version) {
            prop_assert_eq!(request.topics().flatten().count(), request.partition_count());
        }
    }

    #[test]
    fn the_crate_reads_our_produce_responses((version, ours) in produce_response()) {
        let mut bytes = ours.encode(version);
        let theirs = theirs::ProduceResponse::decode(&mut bytes, version).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(theirs.throttle_time_ms, ours.throttle_time_ms);
        prop_assert_eq!(theirs.responses.len(), ours.topics.len());
        for (their, our) in theirs.responses.iter().zip(&ours.topics) {
            prop_assert_eq!(their.topic_id.as_bytes(), &our.topic.id().unwrap_or_default().0);
            prop_assert_eq!(&their.name, &their_name(&our.topic));
            prop_assert_eq!(their.partition_responses.len(), our.partitions.len());
            for (their, our) in their.partition_responses.iter().zip(&our.partitions) {
                prop_assert_eq!((their.index, their.error_code, their.base_offset), (our.index, our.error_code, our.base_offset));
                prop_assert_eq!(their.log_append_time_ms, our.log_append_time_ms);
                prop_assert_eq!(their.log_start_offset, if version >= 5 { our.log_start_offset } else { -1 });
                let errors: Vec<_> = their.record_errors.iter().map(|e| (e.batch_index, e.batch_index_error_message.as_deref())).collect();
                let expected: Vec<_> = our.record_errors.iter().map(|e| (e.batch_index, e.message.as_deref())).collect();
                if version >= 8 {
                    prop_assert_eq!(errors, expected);
                    prop_assert_eq!(their.error_message.as_deref(), our.error_message.as_deref());
                }
                let expected = our.current_leader.filter(|_| version >= 10).map_or((-1, -1), |l| (l.leader_id, l.leader_epoch));
                prop_assert_eq!((their.current_leader.leader_id.0, their.current_leader.leader_epoch), expected);
            }
        }
        let endpoints: Vec<_> = theirs.node_endpoints.iter().map(|e| (e.node_id.0, e.host.to_string(), e.port, e.rack.as_deref().map(str::to_owned))).collect();
        let expected: Vec<_> = ours.node_endpoints.iter().map(|e| (e.node_id, e.host.clone(), e.port, e.rack.clone())).collect();
        prop_assert_eq!(endpoints, if version >= 10 { expected } else { vec![] });
        // Byte for byte what the crate writes.
        prop_assert_eq!(ours.encode(version), encoded(&theirs, version));
    }
}

#[test]
fn a_produce_request_without_topics_or_with_null_ones() {
    // acks −1, timeout 1, and then a count.
    let with_count = |count: &[u8]| [&b"\xff\xff\xff\xff\0\0\0\x01"[..], count].concat();
    let parse = |count: &[u8]| ProduceRequest::parse(with_count(count).into(), 3);
    assert_eq!(parse(&[0; 4]).unwrap().partition_count(), 0);
    assert_eq!(parse(&[0xff; 4]).unwrap_err(), WireError::Null("topics"));
    let lie = parse(&[0x7f, 0xff, 0xff, 0xff]).unwrap_err();
    assert_eq!(lie, WireError::Length { what: "topics", claimed: i64::from(i32::MAX), remaining: 0 });
}

// --- fetch -----------------------------------------------------------------------------------

fn their_fetch() -> impl Strategy<Value = (i16, theirs::FetchRequest)> {
    (4..=18i16).prop_flat_map(|version| {
        let flexible = version >= 12;
        let partition = (any::<(i32, i32, i64, i32, i64, i32)>(), uuid(), any::<i64>(), unknown_tags(flexible))
            .prop_map(move |((index, epoch, offset, last_epoch, start, max), directory, high_watermark, tags)| {
                let mut partition = theirs::fetch_request::FetchPartition::default()
                    .with_partition(index)
                    .with_fetch_offset(offset)
                    .with_partition_max_bytes(max)
                    .with_unknown_tagged_fields(tags);
                if version >= 5 {
                    partition.log_start_offset = start;
                }
                if version >= 9 {
                    partition.current_leader_epoch = epoch;
                }
                if version >= 12 {
                    partition.last_fetched_epoch = last_epoch;
                }
                if version >= 17 {
                    partition.replica_directory_id = crate_uuid(directory);
                }
                if version >= 18 {
                    partition.high_watermark = high_watermark;
                }
                partition
            });
        let name = move |name| if version >= 13 { TopicName::default() } else { TopicName(name) };
        let id = move |id| if version >= 13 { id } else { Uuid::ZERO };
        let topic = (str_bytes(), uuid(), vec(partition, 0..4), unknown_tags(flexible)).prop_map(
            move |(topic, topic_id, partitions, tags)| {
                theirs::fetch_request::FetchTopic::default()
                    .with_topic(name(topic))
                    .with_topic_id(crate_uuid(id(topic_id)))
                    .with_partitions(partitions)
                    .with_unknown_tagged_fields(tags)
            },
        );
        let forgotten = (str_bytes(), uuid(), vec(any::<i32>(), 0..4), unknown_tags(flexible)).prop_map(
            move |(topic, topic_id, partitions, tags)| {
                theirs::fetch_request::ForgottenTopic::default()
                    .with_topic(name(topic))
                    .with_topic_id(crate_uuid(id(topic_id)))
                    .with_partitions(partitions)
                    .with_unknown_tagged_fields(tags)
            },
        );
        let numbers = any::<(i32, i64, i32, i32, i32, i8, i32, i32)>();
        let texts = (str_bytes(), option::of(str_bytes()));
        (numbers, texts, vec(topic, 0..4), vec(forgotten, 0..3), unknown_tags(flexible)).prop_map(
            move |(numbers, (rack, cluster), topics, forgotten, tags)| {
                let (replica, replica_epoch, wait, min, max, isolation, session, epoch) = numbers;
                let mut request = theirs::FetchRequest::default()
                    .with_max_wait_ms(wait)
                    .with_min_bytes(min)
                    .with_max_bytes(max)
                    .with_isolation_level(isolation)
                    .with_topics(topics)
                    .with_unknown_tagged_fields(tags);
                if version <= 14 {
                    request.replica_id = replica.into();
                } else {
                    request.replica_state.replica_id = replica.into();
                    request.replica_state.replica_epoch = replica_epoch;
                }
                if version >= 7 {
                    request = request
                        .with_session_id(session)
                        .with_session_epoch(epoch)
                        .with_forgotten_topics_data(forgotten);
                }
                if version >= 11 {
                    request.rack_id = rack;
                }
                if version >= 12 {
                    request.cluster_id = cluster;
                }
                (version, request)
            },
        )
    })
}

/// Asserts that a request reads the same by both.
fn same_fetch(ours: &FetchRequest, theirs: &theirs::FetchRequest, version: i16) {
    let replica = if version >= 15 { theirs.replica_state.replica_id } else { theirs.replica_id };
    assert_eq!(ours.replica_id, replica.0);
    assert_eq!(ours.replica_epoch, theirs.replica_state.replica_epoch);
    assert_eq!(ours.cluster_id, theirs.cluster_id);
    assert_eq!(
        (ours.max_wait_ms, ours.min_bytes, ours.max_bytes),
        (theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes)
    );
    assert_eq!(ours.isolation_level, theirs.isolation_level);
    assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
    assert_eq!(ours.rack_id, theirs.rack_id);
    let topic = |name: &TopicName, id: &[u8; 16]| {
        if version >= 13 { Topic::Id(Uuid(*id)) } else { Topic::Name(name.0.clone()) }
    };
    let found: Vec<_> = ours.topics().map(|(topic, partitions)| (topic.clone(), partitions.to_vec())).collect();
    let expected: Vec<_> = theirs
        .topics
        .iter()
        .map(|t| {
            let partitions = t.partitions.iter().map(|p| FetchPartition {
                index: p.partition,
                current_leader_epoch: p.current_leader_epoch,
                fetch_offset: p.fetch_offset,
                last_fetched_epoch: p.last_fetched_epoch,
                log_start_offset: p.log_start_offset,
                max_bytes: p.partition_max_bytes,
                replica_directory_id: Uuid(*p.replica_directory_id.as_bytes()),
                high_watermark: p.high_watermark,
            });
            (topic(&t.topic, t.topic_id.as_bytes()), partitions.collect())
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(ours.partition_count(), expected.iter().map(|(_, partitions)| partitions.len()).sum::<usize>());
    let found: Vec<_> = ours.forgotten().map(|(topic, partitions)| (topic.clone(), partitions.to_vec())).collect();
    let expected: Vec<_> = theirs
        .forgotten_topics_data
        .iter()
        .map(|t| (topic(&t.topic, t.topic_id.as_bytes()), t.partitions.clone()))
        .collect();
    assert_eq!(found, expected);
}

fn epoch_end() -> impl Strategy<Value = Option<EpochEndOffset>> {
    option::weighted(
        0.2,
        (0..i32::MAX, 0..i64::MAX).prop_map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }),
    )
}

/// Records of several pieces, of both kinds.
fn rope() -> impl Strategy<Value = Rope> {
    vec((some_bytes(), any::<bool>()), 0..3).prop_map(|pieces| {
        let mut rope = Rope::new();
        for (bytes, shared) in pieces {
            match shared {
                true => rope.push(Piece::shared(Rc::new(bytes.to_vec()), 0..bytes.len())),
                false => rope.push_bytes(bytes),
            }
        }
        rope
    })
}

fn fetch_response() -> impl Strategy<Value = (i16, FetchResponse)> {
    (4..=18i16).prop_flat_map(|version| {
        let aborted = any::<(i64, i64)>()
            .prop_map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
        let ends = (epoch_end(), leader(), epoch_end());
        let numbers = any::<(i32, i16, i64, i64, i64, i32)>();
        let partition = (numbers, option::of(vec(aborted, 0..3)), rope(), ends).prop_map(
            |((index, error_code, high, stable, start, replica), aborted, records, (diverging, leader, snapshot))| {
                FetchedPartition {
                    error_code,
                    high_watermark: high,
                    last_stable_offset: stable,
                    log_start_offset: start,
                    aborted_transactions: aborted,
                    preferred_read_replica: replica,
                    records,
                    diverging_epoch: diverging,
                    current_leader: leader,
                    snapshot_id: snapshot,
                    ..FetchedPartition::empty(index, error_code)
                }
            },
        );
        let topic = (topic_in(version >= 13), vec(partition, 0..4))
            .prop_map(|(topic, partitions)| FetchedTopic { topic, partitions });
        (vec(topic, 0..4), any::<(i32, i16, i32)>(), endpoints()).prop_map(
            move |(topics, (throttle_time_ms, error_code, session_id), node_endpoints)| {
                (version, FetchResponse { throttle_time_ms, error_code, session_id, topics, node_endpoints })
            },
        )
    })
}

proptest! {
    #[test]
    fn fetch_requests_of_the_crate_are_read(
        (version, request) in their_fetch(),
        (earlier_version, earlier) in their_fetch(),
    ) {
        let bytes = encoded(&request, version);
        let ours = FetchRequest::parse(&bytes, version).unwrap();
        same_fetch(&ours, &request, version);
        // The lists of an earlier request leave nothing behind, nor does an error.
        let mut again = FetchRequest::parse(&encoded(&earlier, earlier_version), earlier_version).unwrap();
        for cut in 0..bytes.len() {
            prop_assert!(again.parse_into(&bytes.slice(..cut), version).is_err());
        }
        again.parse_into(&bytes, version).unwrap();
        prop_assert_eq!(again, ours);
    }

    #[test]
    fn damaged_fetch_requests_are_read_as_the_crate_does(
        (version, request) in their_fetch(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&request, version).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        if let Ok(ours) = FetchRequest::parse(&bytes, version) {
            same_fetch(&ours, &theirs::FetchRequest::decode(&mut bytes.clone(), version).unwrap(), version);
        }
    }

    #[test]
    fn any_bytes_are_a_fetch_request_or_an_error(bytes in vec(any::<u8>(), 0..100), version in 4..=18i16) {
        let _ = FetchRequest::parse(&bytes.into(), version);
    }

    #[test]
    fn the_crate_reads_our_fetch_responses((version, ours) in fetch_response()) {
        let record_bytes: usize = ours.topics.iter().flat_map(|t| &t.partitions).map(|p| p.records.len()).sum();
        prop_assert_eq!(ours.record_bytes(), record_bytes);
        let rope = ours.clone().into_rope(version);
        // Records are passed on as the pieces they were.
        let pieces: Vec<_> = rope.pieces().map(|p| p.as_slice().as_ptr()).collect();
        for piece in ours.topics.iter().flat_map(|t| &t.partitions).flat_map(|p| p.records.pieces()) {
            prop_assert!(pieces.contains(&piece.as_slice().as_ptr()));
        }
        let whole = rope.to_bytes();
        let mut bytes = whole.clone();
        let theirs = theirs::FetchResponse::decode(&mut bytes, version).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(theirs.throttle_time_ms, ours.throttle_time_ms);
        let expected = if version >= 7 { (ours.error_code, ours.session_id) } else { (0, 0) };
        prop_assert_eq!((theirs.error_code, theirs.session_id), expected);
        prop_assert_eq!(theirs.responses.len(), ours.topics.len());
        for (their, our) in theirs.responses.iter().zip(&ours.topics) {
            prop_assert_eq!(their.topic_id.as_bytes(), &our.topic.id().unwrap_or_default().0);
            prop_assert_eq!(&their.topic, &their_name(&our.topic));
            prop_assert_eq!(their.partitions.len(), our.partitions.len());
            for (their, our) in their.partitions.iter().zip(&our.partitions) {
                same_partition(their, our, version);
            }
        }
        let endpoints: Vec<_> = theirs.node_endpoints.iter().map(|e| (e.node_id.0, e.host.to_string(), e.port, e.rack.as_deref().map(str::to_owned))).collect();
        let expected: Vec<_> = ours.node_endpoints.iter().map(|e| (e.node_id, e.host.clone(), e.port, e.rack.clone())).collect();
        prop_assert_eq!(endpoints, if version >= 16 { expected } else { vec![] });
        prop_assert_eq!(whole, encoded(&theirs, version));
    }
}

fn same_partition(their: &theirs::fetch_response::PartitionData, our: &FetchedPartition, version: i16) {
    let numbers = (our.index, our.error_code, our.high_watermark, our.last_stable_offset);
    assert_eq!((their.partition_index, their.error_code, their.high_watermark, their.last_stable_offset), numbers);
    assert_eq!(their.log_start_offset, if version >= 5 { our.log_start_offset } else { -1 });
    let aborted = their.aborted_transactions.as_ref().map(|aborted| {
        let one = |a: &theirs::fetch_response::AbortedTransaction| AbortedTransaction {
            producer_id: a.producer_id.0,
            first_offset: a.first_offset,
        };
        aborted.iter().map(one).collect::<Vec<_>>()
    });
    assert_eq!(aborted, our.aborted_transactions);
    assert_eq!(their.preferred_read_replica.0, if version >= 11 { our.preferred_read_replica } else { -1 });
    assert_eq!(their.records, Some(our.records.to_bytes()));
    let tagged = version >= 12;
    let end = |end: Option<EpochEndOffset>| end.filter(|_| tagged).map_or((-1, -1), |end| (end.epoch, end.end_offset));
    assert_eq!((their.diverging_epoch.epoch, their.diverging_epoch.end_offset), end(our.diverging_epoch));
    assert_eq!((their.snapshot_id.epoch, their.snapshot_id.end_offset), end(our.snapshot_id));
    let leader = our.current_leader.filter(|_| tagged).map_or((-1, -1), |l| (l.leader_id, l.leader_epoch));
    assert_eq!((their.current_leader.leader_id.0, their.current_leader.leader_epoch), leader);
}

#[test]
fn the_header_pieces_of_a_fetch_answer_are_one_allocation() {
    let partitions = (0..50).map(|index| {
        let mut partition = FetchedPartition::empty(index, 0);
        partition.aborted_transactions = Some(vec![AbortedTransaction { producer_id: 1, first_offset: 2 }; 3]);
        partition.diverging_epoch = Some(EpochEndOffset { epoch: 1, end_offset: 2 });
        partition.current_leader = Some(CurrentLeader { leader_id: 1, leader_epoch: 2 });
        partition.snapshot_id = partition.diverging_epoch;
        partition.records.push_bytes(Bytes::from_static(b"records"));
        partition
    });
    let topic = FetchedTopic { topic: Topic::named(&"n".repeat(200)), partitions: partitions.collect() };
    let response = FetchResponse { topics: vec![topic], ..FetchResponse::default() };
    let rope = response.into_rope(12);
    // Header pieces stand at even places; each begins where the last one ended.
    let headers: Vec<_> = rope.pieces().step_by(2).map(|piece| piece.as_slice().as_ptr_range()).collect();
    assert_eq!(headers.len(), 51);
    assert!(headers.windows(2).all(|pair| pair[0].end == pair[1].start));
}

#[test]
fn a_fetch_request_that_lies() {
    // Version 4: replica −1, wait, min, max, isolation, then topics.
    let body = [&[0xff; 4][..], &[0; 13], &i32::MAX.to_be_bytes()].concat();
    let error = FetchRequest::parse(&body.into(), 4).unwrap_err();
    assert_eq!(error, WireError::Length { what: "topics", claimed: i64::from(i32::MAX), remaining: 0 });
    // A replica state before version 15.
    let mut body = vec![0; 25];
    body.extend_from_slice(b"\x01\x01\x01\x01\x01\0");
    assert_eq!(FetchRequest::parse(&body.into(), 12), Err(WireError::Tag("replica state")));
    // A cluster id of two characters in a field with a byte too many, from where the crate would go on wrongly; and
    // in one that fits.
    for (field, expected) in [(&b"\0\x04\x03idx"[..], Err(WireError::TagSize(1))), (b"\0\x03\x03id", Ok("id"))] {
        let body = [&[0; 25][..], b"\x01\x01\x01\x01", field].concat();
        let parsed = FetchRequest::parse(&body.into(), 12);
        assert_eq!(parsed.as_ref().map(|request| request.cluster_id.as_deref().unwrap()), expected.as_ref().copied());
    }
}

// --- OffsetCommit 10 and OffsetFetch 10 ------------------------------------------------------

/// To version 10 the 16 bytes of a name of 15 in version 9 are an id.
fn id_of(name: &TopicName) -> Uuid {
    let mut id = [16; 16];
    id[1..].copy_from_slice(name.as_bytes());
    Uuid(id)
}

fn name_of_15() -> impl Strategy<Value = TopicName> {
    "[a-z.]{15}".prop_map(|name| TopicName(StrBytes::from_string(name)))
}

type Tags = std::collections::BTreeMap<i32, Bytes>;

/// In version 9, with tagged fields; and what it means to version 10.
fn their_commit() -> impl Strategy<Value = (theirs::OffsetCommitRequest, theirs::OffsetCommitRequest)> {
    use theirs::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = (any::<(i32, i64, i32)>(), option::of(str_bytes()), unknown_tags(true));
    let topic = (name_of_15(), vec(partition, 0..4), unknown_tags(true));
    let top = (str_bytes(), any::<i32>(), str_bytes(), option::of(str_bytes()), vec(topic, 0..4), unknown_tags(true));
    top.prop_map(|(group, generation, member, instance, topics, tags)| {
        let request = |topics, tags| {
            theirs::OffsetCommitRequest::default()
                .with_group_id(theirs::GroupId(group.clone()))
                .with_generation_id_or_member_epoch(generation)
                .with_member_id(member.clone())
                .with_group_instance_id(instance.clone())
                .with_topics(topics)
                .with_unknown_tagged_fields(tags)
        };
        let (mut named, mut by_id) = (Vec::new(), Vec::new());
        for (name, partitions, tags) in topics {
            let partitions = |keep: bool| {
                let one = |((index, offset, epoch), metadata, tags): &((i32, i64, i32), Option<StrBytes>, Tags)| {
                    OffsetCommitRequestPartition::default()
                        .with_partition_index(*index)
                        .with_committed_offset(*offset)
                        .with_committed_leader_epoch(*epoch)
                        .with_committed_metadata(metadata.clone())
                        .with_unknown_tagged_fields(if keep { tags.clone() } else { Tags::new() })
                };
                partitions.iter().map(one).collect()
            };
            let topic = OffsetCommitRequestTopic::default;
            by_id.push(topic().with_topic_id(crate_uuid(id_of(&name))).with_partitions(partitions(false)));
            named.push(topic().with_name(name).with_partitions(partitions(true)).with_unknown_tagged_fields(tags));
        }
        (request(named, tags), request(by_id, Tags::new()))
    })
}

/// As [`their_commit`].
fn their_offset_fetch() -> impl Strategy<Value = (theirs::OffsetFetchRequest, theirs::OffsetFetchRequest)> {
    use theirs::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    let topic = (name_of_15(), vec(any::<i32>(), 0..4), unknown_tags(true)).prop_map(|(name, partitions, tags)| {
        let topic = OffsetFetchRequestTopics::default().with_partition_indexes(partitions);
        (topic.clone().with_topic_id(crate_uuid(id_of(&name))), topic.with_name(name).with_unknown_tagged_fields(tags))
    });
    let ids = (str_bytes(), option::of(str_bytes()), any::<i32>());
    let group =
        (ids, option::of(vec(topic, 0..4)), unknown_tags(true)).prop_map(|((group, member, epoch), topics, tags)| {
            let (by_id, named) = topics.map(|topics| topics.into_iter().unzip()).unzip();
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(theirs::GroupId(group))
                .with_member_id(member)
                .with_member_epoch(epoch);
            (group.clone().with_topics(named).with_unknown_tagged_fields(tags), group.with_topics(by_id))
        });
    (vec(group, 0..4), any::<bool>(), unknown_tags(true)).prop_map(|(groups, stable, tags)| {
        let (named, by_id) = groups.into_iter().unzip();
        let request = theirs::OffsetFetchRequest::default().with_require_stable(stable);
        (request.clone().with_groups(named).with_unknown_tagged_fields(tags), request.with_groups(by_id))
    })
}

proptest! {
    #[test]
    fn commits_by_topic_id_are_read_and_written((named, by_id) in their_commit()) {
        let bytes = encoded(&named, 9);
        prop_assert_eq!(decode::<theirs::OffsetCommitRequest>(bytes.clone(), 10).unwrap(), by_id.clone());
        for cut in 0..bytes.len() {
            prop_assert!(offsets::read_commit(&bytes.slice(..cut)).is_err());
        }
        let written = encode_request(&by_id, 10).unwrap();
        let again = theirs::OffsetCommitRequest::decode(&mut written.clone(), 9).unwrap();
        prop_assert_eq!(encoded(&again, 9), written.clone());
        prop_assert_eq!(decode::<theirs::OffsetCommitRequest>(written, 10).unwrap(), by_id);
    }

    #[test]
    fn fetches_by_topic_id_are_read_and_written((named, by_id) in their_offset_fetch()) {
        let bytes = encoded(&named, 9);
        prop_assert_eq!(decode::<theirs::OffsetFetchRequest>(bytes.clone(), 10).unwrap(), by_id.clone());
        for cut in 0..bytes.len() {
            prop_assert!(offsets::read_fetch(&bytes.slice(..cut)).is_err());
        }
        let written = encode_request(&by_id, 10).unwrap();
        let again = theirs::OffsetFetchRequest::decode(&mut written.clone(), 9).unwrap();
        prop_assert_eq!(encoded(&again, 9), written.clone());
        prop_assert_eq!(decode::<theirs::OffsetFetchRequest>(written, 10).unwrap(), by_id);
    }

    #[test]
    fn any_bytes_are_a_request_by_topic_id_or_an_error(bytes in vec(any::<u8>(), 0..100)) {
        let bytes = Bytes::from(bytes);
        let _ = offsets::read_commit(&bytes);
        let _ = offsets::read_fetch(&bytes);
    }
}

#[test]
fn requests_by_topic_id_that_lie() {
    // Without the guard: group, generation, member and instance, then topics.
    let body = [&b"\x01\0\0\0\0\x01\0"[..], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0; 17]].concat();
    let error = offsets::read_commit(&body.into()).unwrap_err();
    assert_eq!(error, WireError::Length { what: "topics", claimed: i64::from(i32::MAX) - 1, remaining: 17 });
    assert_eq!(offsets::read_commit(&Bytes::from_static(b"\0")), Err(WireError::Null("group id")));
    assert_eq!(offsets::read_commit(&Bytes::from_static(b"\x01\0\0\0\0\x01\0\0\0")), Err(WireError::Null("topics")));
    assert_eq!(offsets::read_fetch(&Bytes::from_static(b"\0\0\0")), Err(WireError::Null("groups")));
    let error = offsets::read_fetch(&Bytes::from_static(b"\x03\x01\0\0\0\0\0\0\0\0")).unwrap_err();
    assert_eq!(error, WireError::Length { what: "groups", claimed: 2, remaining: 9 });
}

// --- requests that the crate decodes -----------------------------------------------------------

/// Writes a valid request by its shape; `lie` is the array (counted from the first) that claims too much.
struct Writer<'r> {
    version: i16,
    flexible: bool,
    /// With tagged fields that nobody knows. The crate keeps them, what is read by hand does not.
    tagged: bool,
    bytes: Vec<u8>,
    random: &'r mut dyn FnMut() -> usize,
    arrays: usize,
    lie: Option<usize>,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &[guard::Field]) {
        let version = self.version;
        for field in fields.iter().filter(|f| (f.from..=f.to).contains(&version)) {
            if !field.array {
                self.one(&field.kind);
                continue;
            }
            self.arrays += 1;
            let lies = self.lie == Some(self.arrays);
            let count = if lies { i32::MAX as usize } else { 1 + (self.random)() % 3 };
            self.bytes.put_count(Some(count), self.flexible);
            for _ in 0..if lies { 0 } else { count } {
                self.one(&field.kind);
            }
        }
        if self.flexible {
            let tags = if self.tagged { (self.random)() % 2 } else { 0 };
            self.bytes.put_u8(tags as u8);
            for _ in 0..tags {
                self.bytes.put_slice(&[100, 3, 1, 2, 3]);
            }
        }
    }

    fn one(&mut self, kind: &guard::Kind) {
        match kind {
            guard::Kind::Fixed(len) => (0..*len).for_each(|_| self.bytes.put_u8((self.random)() as u8)),
            guard::Kind::Text => self.bytes.put_text(Some(&"text"[..(self.random)() % 5]), self.flexible),
            guard::Kind::Bytes => {
                let len = (self.random)() % 200;
                self.bytes.put_count(Some(len), self.flexible);
                (0..len).for_each(|i| self.bytes.put_u8(i as u8));
            }
            guard::Kind::Struct(fields) => self.fields(fields),
            guard::Kind::Maybe(fields) => {
                let is_there = (self.random)().is_multiple_of(2);
                self.bytes.put_i8(if is_there { 1 } else { -1 });
                if is_there {
                    self.fields(fields);
                }
            }
        }
    }
}

fn is_by_hand(api: ApiKey, version: i16) -> bool {
    matches!((api, version), (ApiKey::OffsetCommit | ApiKey::OffsetFetch, offsets::FIRST_BY_HAND..))
}

/// A request with all its arrays filled, and how many arrays it has.
fn written(api: &Served, version: i16, lie: Option<usize>, random: &mut dyn FnMut() -> usize) -> (Bytes, usize) {
    let flexible = api.is_flexible(version);
    let tagged = !is_by_hand(api.key, version);
    let mut writer = Writer { version, flexible, tagged, bytes: Vec::new(), random, arrays: 0, lie };
    writer.fields(shapes::shape(api.key).unwrap());
    (writer.bytes.into(), writer.arrays)
}

/// Decodes a request of any API; gives the bytes that what was read takes when it is written again.
fn decode_any(api: ApiKey, version: i16, body: Bytes) -> Result<usize, WireError> {
    fn one<T: Body>(version: i16, body: Bytes) -> Result<usize, WireError> {
        decode::<T>(body, version).map(|request| encode_request(&request, version).unwrap().len())
    }
    match api {
        ApiKey::ListOffsets => one::<theirs::ListOffsetsRequest>(version, body),
        ApiKey::Metadata => one::<theirs::MetadataRequest>(version, body),
        ApiKey::OffsetCommit => one::<theirs::OffsetCommitRequest>(version, body),
        ApiKey::OffsetFetch => one::<theirs::OffsetFetchRequest>(version, body),
        ApiKey::FindCoordinator => one::<theirs::FindCoordinatorRequest>(version, body),
        ApiKey::JoinGroup => one::<theirs::JoinGroupRequest>(version, body),
        ApiKey::Heartbeat => one::<theirs::HeartbeatRequest>(version, body),
        ApiKey::LeaveGroup => one::<theirs::LeaveGroupRequest>(version, body),
        ApiKey::SyncGroup => one::<theirs::SyncGroupRequest>(version, body),
        ApiKey::DescribeGroups => one::<theirs::DescribeGroupsRequest>(version, body),
        ApiKey::ListGroups => one::<theirs::ListGroupsRequest>(version, body),
        ApiKey::ApiVersions => one::<theirs::ApiVersionsRequest>(version, body),
        ApiKey::CreateTopics => one::<theirs::CreateTopicsRequest>(version, body),
        ApiKey::DeleteTopics => one::<theirs::DeleteTopicsRequest>(version, body),
        ApiKey::InitProducerId => one::<theirs::InitProducerIdRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => one::<theirs::OffsetForLeaderEpochRequest>(version, body),
        ApiKey::DeleteRecords => one::<theirs::DeleteRecordsRequest>(version, body),
        ApiKey::AlterReplicaLogDirs => one::<theirs::AlterReplicaLogDirsRequest>(version, body),
        ApiKey::DescribeLogDirs => one::<theirs::DescribeLogDirsRequest>(version, body),
        ApiKey::AlterConfigs => one::<theirs::AlterConfigsRequest>(version, body),
        ApiKey::IncrementalAlterConfigs => one::<theirs::IncrementalAlterConfigsRequest>(version, body),
        ApiKey::DescribeConfigs => one::<theirs::DescribeConfigsRequest>(version, body),
        ApiKey::CreatePartitions => one::<theirs::CreatePartitionsRequest>(version, body),
        ApiKey::DeleteGroups => one::<theirs::DeleteGroupsRequest>(version, body),
        ApiKey::AlterPartitionReassignments => one::<theirs::AlterPartitionReassignmentsRequest>(version, body),
        ApiKey::ListPartitionReassignments => one::<theirs::ListPartitionReassignmentsRequest>(version, body),
        ApiKey::ElectLeaders => one::<theirs::ElectLeadersRequest>(version, body),
        ApiKey::ListConfigResources => one::<theirs::ListConfigResourcesRequest>(version, body),
        ApiKey::DescribeTopicPartitions => one::<theirs::DescribeTopicPartitionsRequest>(version, body),
        ApiKey::DescribeCluster => one::<theirs::DescribeClusterRequest>(version, body),
        other => panic!("{other:?} is not decoded by the crate"),
    }
}

fn decoded_by_the_crate() -> impl Iterator<Item = (&'static Served, i16)> {
    versions::SERVED
        .iter()
        .filter(|api| !matches!(api.key, ApiKey::Produce | ApiKey::Fetch))
        .flat_map(|api| (api.min..=api.max).map(move |version| (api, version)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_shapes_are_those_that_the_crate_decodes(numbers in vec(any::<usize>(), 50..100)) {
        for (api, version) in decoded_by_the_crate() {
            let mut numbers = numbers.iter().cycle();
            let (body, _) = written(api, version, None, &mut || *numbers.next().unwrap());
            prop_assert_eq!(decode_any(api.key, version, body.clone()), Ok(body.len()), "{:?} {}", api, version);
            for cut in 0..body.len() {
                prop_assert!(decode_any(api.key, version, body.slice(..cut)).is_err(), "{:?} {} cut to {}", api, version, cut);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in vec(any::<u8>(), 0..80)) {
        for (api, version) in decoded_by_the_crate() {
            // What the guard lets pass the crate may still refuse (null, UTF-8), but never by a panic.
            if let Err(WireError::Decode { reason, .. }) = decode_any(api.key, version, bytes.clone().into()) {
                prop_assert!(!reason.contains("panicked"), "{:?} {}: {}", api, version, reason);
            }
        }
    }
}

#[test]
fn every_count_that_lies_is_refused_before_the_crate_sees_it() {
    let mut lies = 0;
    for (api, version) in decoded_by_the_crate() {
        let (_, arrays) = written(api, version, None, &mut || 0);
        for lie in 1..=arrays {
            let (body, _) = written(api, version, Some(lie), &mut || 0);
            let error = decode_any(api.key, version, body).unwrap_err();
            assert!(
                matches!(error, WireError::Length { what: "array", claimed, .. } if claimed == i64::from(i32::MAX)),
                "{api:?} {version}: {error}"
            );
            lies += 1;
        }
    }
    assert!(lies > 100, "{lies}");
}

impl Body for theirs::VoteRequest {}

#[test]
fn versions_that_are_not_served_are_not_decoded() {
    let error = decode::<theirs::ListOffsetsRequest>(Bytes::new(), 12).unwrap_err();
    assert_eq!(error, WireError::Version { api: ApiKey::ListOffsets, version: 12 });
    assert_eq!(decode::<theirs::VoteRequest>(Bytes::new(), 0).unwrap_err(), WireError::UnknownApi(52));
}

#[test]
fn a_text_longer_than_a_string_is_refused() {
    let request = |len| {
        theirs::FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_string("k".repeat(len))])
    };
    assert!(decode::<theirs::FindCoordinatorRequest>(encoded(&request(32767), 4), 4).is_ok());
    let error = decode::<theirs::FindCoordinatorRequest>(encoded(&request(32768), 4), 4).unwrap_err();
    assert_eq!(error, WireError::TextLength { what: "text", len: 32768 });
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let response = theirs::OffsetFetchResponse::default().with_groups(vec![Default::default()]);
    let error = encode::<theirs::OffsetFetchRequest>(&response, 4);
    assert!(matches!(error, Err(WireError::Encode { version: 4, .. })));
}
