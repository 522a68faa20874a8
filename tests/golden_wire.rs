//! Bytes of real clients and of Apache Kafka: every request that they sent is
//! understood to its last byte, every batch passes validation as it is, and
//! answers that carry records are written as Kafka writes them.

use std::collections::BTreeSet;

use bytes::Bytes;
use corelog::base::{Rope, UnixMs, Uuid};
use corelog::record::{BatchView, Codec, Outcome, Rules, Scratch, iterate, validate};
use corelog::wire::fetch::{AbortedTransaction, FetchRequest, FetchResponse, FetchedPartition, FetchedTopic};
use corelog::wire::produce::{ProduceRequest, ProduceResponse, ProducedPartition, ProducedRecordError, ProducedTopic};
use corelog::wire::{self, ApiKey, Body, Served, Topic};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;

struct Exchange {
    client: &'static str,
    api: &'static Served,
    version: i16,
    request: Bytes,
    /// Without its header.
    answer: Option<Bytes>,
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// All exchanges of APIs and versions that are served.
fn exchanges() -> Vec<Exchange> {
    let files = [
        include_str!("golden/wire/java.txt"),
        include_str!("golden/wire/java-consumer.txt"),
        include_str!("golden/wire/kcat.txt"),
        include_str!("golden/wire/kafka-python.txt"),
        include_str!("golden/wire/kafkajs.txt"),
    ];
    let mut exchanges = Vec::new();
    for line in files.iter().flat_map(|file| file.lines()) {
        let fields: Vec<&'static str> = line.split(' ').collect();
        let [client, key, version, request, answer] = fields[..] else { panic!("{line}") };
        let version = version.parse().unwrap();
        let Some(api) = wire::served(key.parse().unwrap()).filter(|api| api.serves(version)) else { continue };
        let answer = (answer != "-").then(|| unhex(answer)).map(|answer| {
            let header = wire::frame(wire::response_header(0, api, version), Rope::new()).len() - wire::SIZE_BYTES;
            answer.slice(header..)
        });
        exchanges.push(Exchange { client, api, version, request: unhex(request), answer });
    }
    exchanges
}

fn body(exchange: &Exchange) -> Bytes {
    let mut frame = exchange.request.clone();
    let header = wire::read_header(&mut frame).unwrap();
    assert_eq!((header.api, header.api_version), (exchange.api, exchange.version));
    assert!(header.client_id.is_some(), "{}", exchange.client);
    frame
}

/// Request and answer are understood to the last byte.
fn check<T: Body>(exchange: &Exchange) {
    let version = exchange.version;
    let what = format!("{} {} {version}", exchange.client, exchange.api.name);
    let body = body(exchange);
    let request: T = wire::decode(body.clone(), version).unwrap();
    assert_eq!(wire::encode_request(&request, version).unwrap(), body, "{what}");
    if let Some(answer) = &exchange.answer {
        let read = wire::decode_answer::<T>(answer.clone(), version).unwrap();
        assert_eq!(&wire::encode::<T>(&read, version).unwrap(), answer, "{what}");
    }
}

#[test]
fn every_request_is_understood_to_its_last_byte() {
    let mut seen = BTreeSet::new();
    for exchange in exchanges() {
        seen.insert((exchange.api.key as i16, exchange.version));
        match exchange.api.key {
            // These two have tests of their own.
            ApiKey::Produce | ApiKey::Fetch => {}
            ApiKey::ListOffsets => check::<theirs::ListOffsetsRequest>(&exchange),
            ApiKey::Metadata => check::<theirs::MetadataRequest>(&exchange),
            ApiKey::OffsetCommit => check::<theirs::OffsetCommitRequest>(&exchange),
            ApiKey::OffsetFetch => check::<theirs::OffsetFetchRequest>(&exchange),
            ApiKey::FindCoordinator => check::<theirs::FindCoordinatorRequest>(&exchange),
            ApiKey::JoinGroup => check::<theirs::JoinGroupRequest>(&exchange),
            ApiKey::Heartbeat => check::<theirs::HeartbeatRequest>(&exchange),
            ApiKey::LeaveGroup => check::<theirs::LeaveGroupRequest>(&exchange),
            ApiKey::SyncGroup => check::<theirs::SyncGroupRequest>(&exchange),
            ApiKey::DescribeGroups => check::<theirs::DescribeGroupsRequest>(&exchange),
            ApiKey::ListGroups => check::<theirs::ListGroupsRequest>(&exchange),
            ApiKey::ApiVersions => check::<theirs::ApiVersionsRequest>(&exchange),
            ApiKey::CreateTopics => check::<theirs::CreateTopicsRequest>(&exchange),
            ApiKey::DeleteTopics => check::<theirs::DeleteTopicsRequest>(&exchange),
            ApiKey::InitProducerId => check::<theirs::InitProducerIdRequest>(&exchange),
            ApiKey::OffsetForLeaderEpoch => check::<theirs::OffsetForLeaderEpochRequest>(&exchange),
            ApiKey::DescribeConfigs => check::<theirs::DescribeConfigsRequest>(&exchange),
            ApiKey::CreatePartitions => check::<theirs::CreatePartitionsRequest>(&exchange),
            ApiKey::DeleteGroups => check::<theirs::DeleteGroupsRequest>(&exchange),
            ApiKey::DescribeCluster => check::<theirs::DescribeClusterRequest>(&exchange),
            other => panic!("{other:?} has no check here"),
        }
    }
    assert!(seen.len() >= 40, "{seen:?}");
    // Those that the crate does not know.
    assert!([(2, 11), (8, 10), (9, 10)].iter().all(|api| seen.contains(api)), "{seen:?}");
}

#[test]
fn batches_of_real_producers_pass_as_they_are() {
    let mut seen = BTreeSet::new();
    for exchange in exchanges().iter().filter(|exchange| exchange.api.key == ApiKey::Produce) {
        let body = body(exchange);
        let request = ProduceRequest::parse(body.clone(), exchange.version).unwrap();
        let their: theirs::ProduceRequest =
            theirs::ProduceRequest::decode(&mut body.clone(), exchange.version).unwrap();
        assert_eq!(request.acks(), their.acks);
        let ours: Vec<_> = request.topics().flatten().collect();
        let theirs: Vec<_> = their.topic_data.iter().flat_map(|topic| &topic.partition_data).collect();
        assert_eq!(ours.len(), theirs.len());
        for (our, their) in ours.iter().zip(theirs) {
            assert_eq!((our.index, &our.records), (their.index, &their.records));
            let records = our.records.as_ref().unwrap();
            // The Java program gives its records times of 2023.
            let now = BatchView::first(records).unwrap().max_timestamp();
            let validated = validate(records, &Rules::default(), UnixMs(now), exchange.version >= 7).unwrap();
            assert_eq!(validated.outcome(), &Outcome::AsIs, "{}", exchange.client);
            let view = validated.view();
            let mut scratch = Scratch::new();
            let mut walk = view.records(&mut scratch).unwrap();
            let mut count = 0;
            while let Some(record) = walk.next().unwrap() {
                assert_eq!(record.offset, i64::from(count));
                assert!(record.timestamp <= now);
                count += 1;
            }
            assert_eq!(count, view.record_count());
            seen.insert((
                exchange.client,
                view.codec().map(Codec::name),
                view.is_transactional(),
                view.has_producer_id(),
            ));
        }
    }
    for codec in Codec::ALL.map(Codec::name) {
        assert!(seen.contains(&("java", Some(codec), false, true)), "{codec}: {seen:?}");
        assert!(seen.contains(&("kcat", Some(codec), false, false)), "{codec}: {seen:?}");
    }
    assert!(seen.contains(&("java", Some("none"), true, true)), "{seen:?}");
    assert!(seen.contains(&("kafkajs", Some("gzip"), false, true)), "{seen:?}");
    assert!(seen.contains(&("kafka-python", Some("gzip"), false, true)), "{seen:?}");
}

fn topic(name: &theirs::TopicName, id: &[u8; 16], by_id: bool) -> Topic {
    if by_id { Topic::Id(Uuid(*id)) } else { Topic::named(name) }
}

#[test]
fn produce_answers_are_kafkas_byte_for_byte() {
    let mut count = 0;
    for exchange in exchanges().iter().filter(|exchange| exchange.api.key == ApiKey::Produce) {
        let Some(answer) = &exchange.answer else { continue };
        let their = theirs::ProduceResponse::decode(&mut answer.clone(), exchange.version).unwrap();
        let topics = their.responses.iter().map(|t| ProducedTopic {
            topic: topic(&t.name, t.topic_id.as_bytes(), exchange.version >= 13),
            partitions: t.partition_responses.iter().map(produced).collect(),
        });
        let ours = ProduceResponse {
            topics: topics.collect(),
            throttle_time_ms: their.throttle_time_ms,
            node_endpoints: Vec::new(),
        };
        assert_eq!(&ours.encode(exchange.version), answer, "{} {}", exchange.client, exchange.version);
        count += 1;
    }
    assert!(count > 15, "{count}");
}

fn produced(p: &theirs::produce_response::PartitionProduceResponse) -> ProducedPartition {
    let text = |text: &Option<wire::StrBytes>| text.as_ref().map(|text| text.to_string().into());
    let error = |e: &theirs::produce_response::BatchIndexAndErrorMessage| ProducedRecordError {
        batch_index: e.batch_index,
        message: text(&e.batch_index_error_message),
    };
    ProducedPartition {
        base_offset: p.base_offset,
        log_append_time_ms: p.log_append_time_ms,
        log_start_offset: p.log_start_offset,
        record_errors: p.record_errors.iter().map(error).collect(),
        ..ProducedPartition::error(p.index, p.error_code, text(&p.error_message))
    }
}

#[test]
fn fetch_answers_are_kafkas_byte_for_byte() {
    let (mut batches, mut aborted) = (0, 0);
    for exchange in exchanges().iter().filter(|exchange| exchange.api.key == ApiKey::Fetch) {
        let version = exchange.version;
        let body = body(exchange);
        let request = FetchRequest::parse(&body, version).unwrap();
        let their: theirs::FetchRequest = theirs::FetchRequest::decode(&mut body.clone(), version).unwrap();
        assert_eq!((request.replica_id, request.session_id), (-1, their.session_id));
        let offsets: Vec<_> = request.topics().flat_map(|(_, p)| p).map(|p| (p.index, p.fetch_offset)).collect();
        let expected: Vec<_> =
            their.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition, p.fetch_offset)).collect();
        assert_eq!(offsets, expected);

        let answer = exchange.answer.as_ref().unwrap();
        let their = theirs::FetchResponse::decode(&mut answer.clone(), version).unwrap();
        let topics = their.responses.iter().map(|t| FetchedTopic {
            topic: topic(&t.topic, t.topic_id.as_bytes(), version >= 13),
            partitions: t.partitions.iter().map(fetched).collect(),
        });
        let ours = FetchResponse {
            throttle_time_ms: their.throttle_time_ms,
            error_code: their.error_code,
            session_id: their.session_id,
            topics: topics.collect(),
            node_endpoints: Vec::new(),
        };
        for partition in ours.topics.iter().flat_map(|topic| &topic.partitions) {
            aborted += partition.aborted_transactions.as_ref().map_or(0, Vec::len);
            for batch in iterate(&partition.records.to_bytes()) {
                let batch = batch.unwrap();
                assert!(batch.crc_is_right());
                batches += 1;
            }
        }
        assert_eq!(ours.into_rope(version).to_bytes(), answer, "{} {version}", exchange.client);
    }
    assert!(batches >= 15 && aborted == 1, "{batches} batches, {aborted} aborted transactions");
}

fn fetched(p: &theirs::fetch_response::PartitionData) -> FetchedPartition {
    let aborted = |a: &theirs::fetch_response::AbortedTransaction| AbortedTransaction {
        producer_id: a.producer_id.0,
        first_offset: a.first_offset,
    };
    FetchedPartition {
        high_watermark: p.high_watermark,
        last_stable_offset: p.last_stable_offset,
        log_start_offset: p.log_start_offset,
        aborted_transactions: p.aborted_transactions.as_ref().map(|list| list.iter().map(aborted).collect()),
        preferred_read_replica: p.preferred_read_replica.0,
        records: p.records.clone().unwrap_or_default().into(),
        ..FetchedPartition::empty(p.partition_index, p.error_code)
    }
}
