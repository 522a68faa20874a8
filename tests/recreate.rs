//! A topic that is deleted and made again under the same name while it is written and read: ids keep the two apart,
//! nothing of the old one appears in the new one, and every client finds its way.

mod harness;

use bytes::Bytes;
use corelog::record::{Codec, Scratch, iterate};
use harness::broker::Broker;
use harness::client::{Client, batch, name, now_ms};
use harness::{records, unique, wait};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use uuid::Uuid;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;
const UNKNOWN_TOPIC_ID: i16 = 100;

const TIMES: usize = 20;
const PARTITIONS: i32 = 4;

/// What the threads of a test share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    /// Values that were acknowledged since somebody took them.
    acknowledged: Mutex<Vec<u64>>,
    /// Values that a consumer saw.
    consumed: Mutex<HashSet<u64>>,
}

/// Produces numbers, each once, to all partitions by way of one core. A number whose answer is an error is given up.
fn produce_all(shared: Arc<Shared>, address: SocketAddr, topic: String) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut client = Client::to(address);
        let mut partition = 0;
        while !shared.stop.load(Ordering::Relaxed) {
            let value = shared.next.fetch_add(1, Ordering::Relaxed);
            partition = (partition + 1) % PARTITIONS;
            let (code, _) = client.produce(&topic, partition, batch(Codec::None, now_ms(), &[&value.to_be_bytes()]));
            match code {
                NONE => shared.acknowledged.lock().unwrap().push(value),
                NOT_LEADER | UNKNOWN_TOPIC_OR_PARTITION => {}
                other => panic!("produce to {topic}: {other}"),
            }
        }
    })
}

/// A librdkafka consumer of all partitions.
fn consume_all(shared: Arc<Shared>, bootstrap: String, topic: String) -> JoinHandle<()> {
    thread::spawn(move || {
        let consumer: BaseConsumer = records::config(&bootstrap)
            .set("group.id", unique("reader"))
            .set("auto.offset.reset", "earliest")
            .set("topic.metadata.refresh.interval.ms", "200")
            .create()
            .unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        while !shared.stop.load(Ordering::Relaxed) {
            match consumer.poll(wait::seconds(1)) {
                Some(Ok(message)) => {
                    let value = u64::from_be_bytes(message.payload().unwrap().try_into().unwrap());
                    shared.consumed.lock().unwrap().insert(value);
                }
                // That the topic is not there for a moment is an error it goes on after.
                Some(Err(_)) => {}
                // A librdkafka that led its group's round in that moment gave itself nothing, and does not see that the
                // topic is back: it compares with what it saw before the round. No broker can tell it.
                None if consumer.assignment().unwrap().count() == 0 => {
                    consumer.unsubscribe();
                    consumer.subscribe(&[&topic]).unwrap();
                }
                None => {}
            }
        }
    })
}

fn leaders(client: &mut Client, addresses: &[SocketAddr], topic: &str) -> Vec<SocketAddr> {
    let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
    let shown = client.wait_for(topic, PARTITIONS as usize);
    let mut leaders: Vec<_> = shown
        .partitions
        .iter()
        .map(|partition| {
            let port = brokers.iter().find(|broker| broker.node_id == partition.leader_id).unwrap().port;
            (partition.partition_index, *addresses.iter().find(|a| i32::from(a.port()) == port).unwrap())
        })
        .collect();
    leaders.sort_unstable_by_key(|(partition, _)| *partition);
    leaders.into_iter().map(|(_, address)| address).collect()
}

/// Everything in the topic.
fn read_all(client: &mut Client, addresses: &[SocketAddr], topic: &str) -> HashSet<u64> {
    let mut values = HashSet::new();
    let mut scratch = Scratch::new();
    for (partition, address) in (0..).zip(leaders(client, addresses, topic)) {
        let mut client = Client::to(address);
        let mut offset = 0;
        loop {
            // The answer to a creation does not wait for cores that are held up for seconds.
            let fetched = wait::until("a partition that is open", wait::seconds(60), || {
                Some(client.fetch(topic, partition, offset)).filter(|fetched| fetched.error_code != NOT_LEADER)
            });
            assert_eq!(fetched.error_code, NONE);
            if offset >= fetched.high_watermark {
                break;
            }
            let bytes: Bytes = fetched.records.unwrap();
            for batch in iterate(&bytes) {
                let Ok(batch) = batch else { break };
                offset = batch.next_offset().0;
                let mut records = batch.records(&mut scratch).unwrap();
                while let Some(record) = records.next().unwrap() {
                    values.insert(u64::from_be_bytes(record.value.unwrap().try_into().unwrap()));
                }
            }
        }
    }
    values
}

/// The codes of a produce and a fetch that name the topic by its id (versions 13).
fn by_id(client: &mut Client, id: Uuid) -> (i16, i16) {
    let data = PartitionProduceData::default().with_records(Some(batch(Codec::None, now_ms(), &[&[0; 8]]).into()));
    let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let produced = client.ask_as_the_crate(13, &request).responses[0].partition_responses[0].error_code;
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    let fetched = client.ask_as_the_crate(13, &request).responses[0].partitions[0].error_code;
    (produced, fetched)
}

#[test]
fn a_topic_made_again_has_nothing_of_the_old_one() {
    let broker = Broker::start();
    if !broker.is_corelog() {
        return;
    }
    let addresses = broker.addresses();
    let (topic, other) = (unique("again"), unique("other"));
    let mut client = Client::to(addresses[0]);
    client.create_with(&topic, PARTITIONS, &[]);
    client.create_with(&other, PARTITIONS, &[]);
    let (shared, aside) = (Arc::new(Shared::default()), Arc::new(Shared::default()));
    let mut threads = vec![consume_all(Arc::clone(&shared), broker.bootstrap(), topic.clone())];
    for address in &addresses {
        threads.push(produce_all(Arc::clone(&shared), *address, topic.clone()));
        threads.push(produce_all(Arc::clone(&aside), *address, other.clone()));
    }
    let acknowledged = |shared: &Shared| std::mem::take(&mut *shared.acknowledged.lock().unwrap());
    let mut before: HashSet<u64> = HashSet::new();
    let mut ids = Vec::new();
    for round in 0..TIMES {
        // There is something in it, and others are served meanwhile.
        for shared in [&shared, &aside] {
            wait::until("records", wait::seconds(60), || {
                (shared.acknowledged.lock().unwrap().len() >= 20).then_some(())
            });
        }
        ids.push(client.wait_for(&topic, PARTITIONS as usize).topic_id);
        acknowledged(&aside);
        // Acknowledged before the deletion was asked for: they belong to the old topic.
        before.extend(acknowledged(&shared));
        let deleting = DeleteTopicsRequest::default().with_topic_names(vec![name(&topic)]).with_timeout_ms(30_000);
        assert_eq!(client.ask(5, &deleting).responses[0].error_code, NONE);
        // What was acknowledged meanwhile may be of either.
        acknowledged(&shared);
        if round % 2 == 0 {
            wait::until("the topic to be gone", wait::seconds(60), || {
                (client.metadata(12, &topic).error_code == UNKNOWN_TOPIC_OR_PARTITION).then_some(())
            });
        }
        client.create_with(&topic, PARTITIONS, &[]);
        let seen = read_all(&mut client, &addresses, &topic);
        let old: Vec<_> = seen.intersection(&before).collect();
        assert!(old.is_empty(), "round {round}: {} records of before, {:?}", old.len(), old.first());
        for address in &addresses {
            wait::until("the old id to be unknown", wait::seconds(60), || {
                let codes = by_id(&mut Client::to(*address), ids[round]);
                (codes == (UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID)).then_some(())
            });
        }
    }
    // All go on: the producers, and the consumer gets what is written from now on. Answers of the topic before may lie
    // unread in a producer's socket; what is sent from now on is of the last one.
    acknowledged(&shared);
    let of_the_last = shared.next.load(Ordering::Relaxed);
    shared.consumed.lock().unwrap().clear();
    wait::until("the consumer at the new topic", wait::seconds(60), || {
        let consumed = shared.consumed.lock().unwrap();
        let sent = shared.acknowledged.lock().unwrap();
        sent.iter().any(|value| consumed.contains(value)).then_some(())
    });
    for shared in [&shared, &aside] {
        shared.stop.store(true, Ordering::Relaxed);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let seen = read_all(&mut client, &addresses, &topic);
    let kept = |value: &&u64| **value < of_the_last || seen.contains(value);
    let lost = acknowledged(&shared).iter().filter(|value| !kept(value)).count();
    assert_eq!(lost, 0, "acknowledged by the last topic, and not in it");
    let ids: HashSet<Uuid> = ids.into_iter().collect();
    assert_eq!(ids.len(), TIMES);
    // The space of the old ones comes back.
    wait::until("the directories of the old topics to go", wait::seconds(60), || {
        let names = std::fs::read_dir(broker.data_dir()).unwrap();
        let old = names.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with("-delete"));
        (old.count() == 0).then_some(())
    });
}
