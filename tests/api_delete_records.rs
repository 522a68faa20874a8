//! DeleteRecords over a socket, in every version that is served; and what it leaves after a kill -9, a clean stop, and
//! a topic of the same name.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same conversations run against Apache Kafka: its codes are expected.

mod harness;

use corelog::record::Codec;
use harness::broker::{Broker, Options};
use harness::client::{Client, batch, name, now_ms};
use harness::{records, unique, wait};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::*;

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;
const INVALID_TOPIC: i16 = 17;
const POLICY_VIOLATION: i16 = 44;

/// Deletes up to an offset of each partition; gives code and low watermark of each, by partition.
fn delete(client: &mut Client, version: i16, topic: &str, before: &[(i32, i64)]) -> Vec<(i16, i64)> {
    let partition = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
    };
    let topic =
        DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(before.iter().map(partition).collect());
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let mut partitions = client.ask(version, &request).topics.remove(0).partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    partitions.iter().map(|partition| (partition.error_code, partition.low_watermark)).collect()
}

fn produce(client: &mut Client, topic: &str, partition: i32, batches: usize) {
    for _ in 0..batches {
        let three = batch(Codec::None, now_ms(), &[&[b'x'; 300], b"two", b"three"]);
        // Apache Kafka shows a topic before it can be written.
        let code = wait::until("a leader", wait::seconds(30), || {
            Some(client.produce(topic, partition, three.clone()).0).filter(|code| *code != NOT_LEADER)
        });
        assert_eq!(code, NONE);
    }
}

/// A broker that is one for its clients, so that Apache Kafka's answers fit; partitions of both cores are asked for here.
fn host(options: Options) -> (Broker, Client) {
    let broker = Broker::with(Options { advertise: "host", ..options });
    let client = Client::to(broker.addresses()[0]);
    (broker, client)
}

#[test]
fn records_are_deleted_in_every_version() {
    let (broker, mut client) = host(Options::default());
    for version in 0..=2 {
        let topic = unique("deleted");
        client.create_with(&topic, 4, &[]);
        for partition in 0..4 {
            produce(&mut client, &topic, partition, 4);
        }
        // Within a batch; nothing; everything; too much.
        let answers = delete(&mut client, version, &topic, &[(0, 7), (1, 0), (2, -1), (3, 13)]);
        assert_eq!(answers, [(NONE, 7), (NONE, 0), (NONE, 12), (OFFSET_OUT_OF_RANGE, -1)], "version {version}");
        let starts: Vec<_> = (0..4).map(|partition| client.earliest(&topic, partition)).collect();
        assert_eq!(starts, [7, 0, 12, 0]);
        let below = client.fetch(&topic, 0, 6);
        assert_eq!((below.error_code, below.high_watermark), (OFFSET_OUT_OF_RANGE, -1));
        let from = client.fetch(&topic, 0, 7);
        assert_eq!((from.error_code, from.log_start_offset, from.high_watermark), (NONE, 7, 12));
        assert_eq!(client.fetch(&topic, 2, 12).log_start_offset, 12);
        // Never back, and what is not an offset is refused.
        let answers = delete(&mut client, version, &topic, &[(0, 3), (1, -2), (2, 12), (9, 0)]);
        let expected = [(NONE, 7), (OFFSET_OUT_OF_RANGE, -1), (NONE, 12), (UNKNOWN_TOPIC_OR_PARTITION, -1)];
        assert_eq!(answers, expected, "version {version}");
        // The next record comes behind what was deleted.
        let next = client.produce(&topic, 2, batch(Codec::None, now_ms(), &[b"next"]));
        assert_eq!(next, (NONE, 12));
    }
    let compacted = unique("compacted");
    client.create_with(&compacted, 1, &[("cleanup.policy", "compact")]);
    produce(&mut client, &compacted, 0, 1);
    assert_eq!(delete(&mut client, 2, &compacted, &[(0, 1)]), [(POLICY_VIOLATION, -1)]);
    let both = unique("both");
    client.create_with(&both, 1, &[("cleanup.policy", "compact,delete")]);
    produce(&mut client, &both, 0, 1);
    assert_eq!(delete(&mut client, 2, &both, &[(0, 1)]), [(NONE, 1)]);
    let everything = unique("everything");
    client.create_with(&everything, 1, &[("cleanup.policy", "")]);
    produce(&mut client, &everything, 0, 2);
    assert_eq!(delete(&mut client, 2, &everything, &[(0, 1)]), [(NONE, 1)]);
    assert_eq!(client.earliest(&everything, 0), 1);
    assert_eq!(delete(&mut client, 2, &unique("nowhere"), &[(0, 1)]), [(UNKNOWN_TOPIC_OR_PARTITION, -1)]);
    // Makes sure that it is there.
    records::committed(&broker.bootstrap(), &unique("group"), &both, 1);
    assert_eq!(delete(&mut client, 2, "__consumer_offsets", &[(0, 0)]), [(INVALID_TOPIC, -1)]);
}

#[test]
fn what_was_deleted_stays_so_after_a_kill_and_a_stop() {
    let mut broker = Broker::start();
    if !broker.is_corelog() {
        return;
    }
    let addresses = broker.addresses();
    let (topic, other) = (unique("kept"), unique("other"));
    let mut client = Client::to(addresses[0]);
    client.create_with(&topic, 8, &[]);
    client.create_with(&other, 1, &[]);
    // To the core that leads each.
    let leaders = |topic: &str| -> Vec<(i32, std::net::SocketAddr)> {
        let mut client = Client::to(addresses[0]);
        let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
        let at = |id: BrokerId| {
            let port = brokers.iter().find(|broker| broker.node_id == id).unwrap().port;
            *addresses.iter().find(|address| i32::from(address.port()) == port).unwrap()
        };
        client.metadata(12, topic).partitions.iter().map(|p| (p.partition_index, at(p.leader_id))).collect()
    };
    for (partition, address) in leaders(&topic) {
        let mut client = Client::to(address);
        produce(&mut client, &topic, partition, 5);
        let deleted = delete(&mut client, 2, &topic, &[(partition, i64::from(partition) + 1)]);
        assert_eq!(deleted, [(NONE, i64::from(partition) + 1)]);
    }
    let checkpoint = std::fs::read_to_string(broker.data_dir().join("log-start-offset-checkpoint")).unwrap();
    assert!(checkpoint.starts_with("0\n8\n"), "{checkpoint}");
    drop(client);
    for kill in [true, true, false, true] {
        if kill {
            broker.kill()
        } else {
            broker.stop()
        }
        broker.launch();
        for (partition, address) in leaders(&topic) {
            let mut client = Client::to(address);
            assert_eq!(client.earliest(&topic, partition), i64::from(partition) + 1);
            let from = client.fetch(&topic, partition, i64::from(partition) + 1);
            assert_eq!((from.error_code, from.high_watermark), (NONE, 15));
            assert!(from.records.is_some_and(|records| !records.is_empty()));
        }
    }
    // A topic of the same name is another one: nothing of it is hidden, also after a crash.
    for _ in 0..2 {
        records::delete_topic(&broker.bootstrap(), &topic);
        let mut client = Client::to(addresses[0]);
        client.create_with(&topic, 8, &[]);
        for (partition, address) in leaders(&topic) {
            let mut client = Client::to(address);
            produce(&mut client, &topic, partition, 4);
        }
        broker.kill();
        broker.launch();
        for (partition, address) in leaders(&topic) {
            assert_eq!(Client::to(address).earliest(&topic, partition), 0);
        }
        for (partition, address) in leaders(&topic) {
            let deleted = delete(&mut Client::to(address), 2, &topic, &[(partition, 2)]);
            assert_eq!(deleted, [(NONE, 2)]);
        }
    }
}

/// Files below go, once no reader can have anything of them.
#[test]
fn segments_below_the_log_start_are_removed() {
    let options = Options::default().set("log.retention.check.interval.ms=100");
    let (broker, mut client) = host(options);
    if !broker.is_ours() {
        return;
    }
    let topic = unique("files");
    let small = [("internal.segment.bytes", "1000"), ("file.delete.delay.ms", "0"), ("retention.ms", "-1")];
    client.create_with(&topic, 1, &small);
    produce(&mut client, &topic, 0, 12);
    let segments = || {
        let dir = broker.data_dir().join(format!("{topic}-0"));
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut bases: Vec<i64> =
            names.filter_map(|name| name.strip_suffix(".log").map(|base| base.parse().unwrap())).collect();
        bases.sort_unstable();
        bases
    };
    wait::until("some segments", wait::seconds(30), || (segments().len() >= 6).then_some(()));
    let before = segments();
    let last = *before.last().unwrap();
    // One record into the third segment: its file stays, the two before go.
    assert_eq!(delete(&mut client, 2, &topic, &[(0, before[2] + 1)]), [(NONE, before[2] + 1)]);
    wait::until("two files less", wait::seconds(30), || (segments() == before[2..]).then_some(()));
    assert_eq!(delete(&mut client, 2, &topic, &[(0, -1)]), [(NONE, 36)]);
    wait::until("only the active segment", wait::seconds(30), || (segments() == [last]).then_some(()));
    assert_eq!(client.earliest(&topic, 0), 36);
    produce(&mut client, &topic, 0, 1);
    assert_eq!(client.fetch(&topic, 0, 36).high_watermark, 39);
}
