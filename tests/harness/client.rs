//! A client that speaks with the messages of the kafka-protocol crate, over one connection.

use super::broker::connect;
use super::{wait, wire};
use bytes::{Bytes, BytesMut};
use corelog::record::{BatchBuilder, Codec, NewRecord};
use corelog::wire::{Body, encode_request};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::Write;
use std::net::SocketAddr;

const NONE: i16 = 0;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

pub fn name(text: &str) -> TopicName {
    TopicName(self::text(text))
}

/// One connection that speaks with the messages of the kafka-protocol crate.
pub struct Client {
    stream: std::net::TcpStream,
    correlation: i32,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client { stream: connect(address).unwrap(), correlation: 0 }
    }

    pub fn ask<Q: Body + HeaderVersion>(&mut self, version: i16, request: &Q) -> Q::Response
    where
        Q::Response: HeaderVersion,
    {
        let body = encode_request(request, version).unwrap();
        self.ask_bytes::<Q>(version, Q::crate_version(version), &body)
    }

    /// As [`Client::ask`], of a request that corelog has a codec of its own for.
    pub fn ask_as_the_crate<Q: Request + HeaderVersion>(&mut self, version: i16, request: &Q) -> Q::Response
    where
        Q::Response: HeaderVersion,
    {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        self.ask_bytes::<Q>(version, version, &body)
    }

    fn ask_bytes<Q: Request + HeaderVersion>(&mut self, version: i16, decoded: i16, body: &[u8]) -> Q::Response
    where
        Q::Response: HeaderVersion,
    {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("tester")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, Q::header_version(version)).unwrap();
        frame.extend_from_slice(body);
        let size = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).unwrap();

        let mut answer = Bytes::from(wire::read_answer(&mut self.stream).unwrap());
        let header = ResponseHeader::decode(&mut answer, Q::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        let body = Q::Response::decode(&mut answer, decoded).unwrap();
        assert!(answer.is_empty(), "{} bytes follow the answer", answer.len());
        body
    }

    /// One topic's metadata, without creating it.
    pub fn metadata(&mut self, version: i16, topic: &str) -> MetadataResponseTopic {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]))
            .with_allow_auto_topic_creation(version < 4)
            .with_include_topic_authorized_operations(version >= 8);
        let mut answer = self.ask(version, &request);
        assert_eq!(answer.topics.len(), 1, "{answer:?}");
        answer.topics.remove(0)
    }

    /// Waits until the broker shows a topic with so many partitions: Apache Kafka answers before it does.
    pub fn wait_for(&mut self, topic: &str, partitions: usize) -> MetadataResponseTopic {
        wait::until(&format!("{topic} with {partitions} partitions"), wait::seconds(60), || {
            let shown = self.metadata(12, topic);
            let ready = shown.partitions.iter().all(|partition| partition.error_code == NONE);
            (shown.partitions.len() == partitions && ready).then_some(shown)
        })
    }

    pub fn create(&mut self, version: i16, topic: CreatableTopic) -> CreatableTopicResult {
        let mut answer = self.ask(version, &creating(vec![topic]));
        assert_eq!(answer.topics.len(), 1, "{answer:?}");
        answer.topics.remove(0)
    }

    /// Creates a topic with options and waits until the broker shows it.
    pub fn create_with(&mut self, named: &str, partitions: i32, options: &[(&str, &str)]) {
        let options = options.iter().map(|(name, value)| option(name, Some(value))).collect();
        let created = self.create(7, topic(named, partitions, 1).with_configs(options));
        assert_eq!(created.error_code, NONE, "{created:?}");
        self.wait_for(named, partitions as usize);
    }

    /// Produces a batch with acks=all: the code, and the offset that it got.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> (i16, i64) {
        let partition = self.try_produce(topic, partition, batch);
        (partition.error_code, partition.base_offset)
    }

    /// All that the answer says of one batch.
    pub fn try_produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Vec<u8>,
    ) -> produce_response::PartitionProduceResponse {
        let data =
            produce_request::PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
        let topic = produce_request::TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        self.ask_as_the_crate(9, &request).responses.remove(0).partition_responses.remove(0)
    }

    /// The log start offset (ListOffsets, EARLIEST).
    pub fn earliest(&mut self, topic: &str, partition: i32) -> i64 {
        let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-2);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let listed = self.ask(7, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(listed.error_code, NONE);
        listed.offset
    }

    /// What is at an offset, without waiting.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![wanted]);
        let request = FetchRequest::default().with_max_bytes(10 << 20).with_topics(vec![topic]);
        self.ask_as_the_crate(12, &request).responses.remove(0).partitions.remove(0)
    }
}

/// A batch of records with these values, all with the time stamp.
pub fn batch(codec: Codec, timestamp: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().codec(codec);
    for value in values {
        builder.push(NewRecord { timestamp, key: Some(b"key"), value: Some(value), headers: &[] });
    }
    builder.build()
}

/// The time of this machine.
pub fn now_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

pub fn creating(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

pub fn topic(topic: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(replicas)
}

pub fn option(option: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(option)).with_value(value.map(text))
}
