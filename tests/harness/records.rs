//! What the tests themselves do with librdkafka: create topics, read everything back, ask for committed offsets.

use super::wait::{PATIENCE, seconds};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::Instant;

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let results = futures_lite::future::block_on(admin.create_topics([&new], &options)).unwrap();
    for result in results {
        result.unwrap_or_else(|(name, code)| panic!("create topic {name}: {code}"));
    }
}

pub fn delete_topic(bootstrap: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in futures_lite::future::block_on(admin.delete_topics(&[topic], &options)).unwrap() {
        result.unwrap_or_else(|(name, code)| panic!("delete topic {name}: {code}"));
    }
}

/// The first and the end offset of each partition of a topic.
pub fn bounds(consumer: &BaseConsumer, topic: &str) -> Vec<(i64, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let count = metadata.topics()[0].partitions().len() as i32;
    (0..count).map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap()).collect()
}

/// Reads a topic from its start to its present end, partitions interleaved; within one, in order of offset.
/// Gives the end offsets.
pub fn read_topic(bootstrap: &str, topic: &str, mut each: impl FnMut(&BorrowedMessage)) -> Vec<i64> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "not-a-member")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let bounds = bounds(&consumer, topic);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..bounds.len() as i32 {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut open = bounds.len();
    let mut last = Instant::now();
    while open > 0 {
        match consumer.poll(seconds(1)) {
            Some(Ok(message)) => {
                last = Instant::now();
                each(&message);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("read {topic}: {error}"),
            None => assert!(last.elapsed() < PATIENCE, "reading {topic} stands still, {open} partitions open"),
        }
    }
    bounds.into_iter().map(|(_, end)| end).collect()
}

/// The committed offset of each partition of a topic (`None`: none).
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: usize) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = config(bootstrap).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        list.add_partition(topic, partition);
    }
    // A coordinator that has just started says so; clients ask again.
    let deadline = Instant::now() + PATIENCE;
    let committed = loop {
        match consumer.committed_offsets(list.clone(), PATIENCE) {
            Ok(committed) => break committed,
            Err(error) => assert!(Instant::now() < deadline, "committed offsets of {group}: {error}"),
        }
    };
    let offsets = committed.elements().into_iter().map(|one| match one.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    });
    offsets.collect()
}
