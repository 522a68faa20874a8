//! What goes on in a broker beside the load of [`super::crash`] while it dies again and again: a topic that is compacted, one
//! that retention and DeleteRecords shorten, and one that is deleted and made again under its name.
//!
//! What must hold:
//!
//! 1. Of each key that was acknowledged the last value is there, whatever compaction was doing.
//! 2. The shortened topic begins nowhere behind what was asked for and what its retention leaves, its start never goes back, and from
//!    there on every record is there, once and in order, at the offset that was acknowledged.
//! 3. In the topic that was made again there is nothing of the one before, and all that was acknowledged since.

use super::wait::{self, seconds};
use super::{crash, records, unique};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Times that each key of the compacted topic is written, one after the other.
const VERSIONS: u64 = 4;
/// Records that are acknowledged of each life of the topic that is made again.
const OF_EACH_LIFE: u64 = 10;
/// What retention leaves of the shortened topic, at least.
const RETENTION_BYTES: u64 = 200_000;

/// The broker's options that have it clean and delete all the time.
pub const SETTINGS: [&str; 5] = [
    "log.cleaner.backoff.ms=50",
    "log.cleaner.min.cleanable.ratio=0.0",
    "log.retention.check.interval.ms=200",
    "log.segment.delete.delay.ms=100",
    "log.cleaner.delete.retention.ms=100",
];

/// Offsets that were acknowledged, by the number in the record.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u64, i64>>);

impl ClientContext for Told {
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Told {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => drop(self.0.lock().unwrap().insert(*number, message.offset())),
            Err((error, _)) => println!("record {number} was given up: {error}"),
        }
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = records::config(bootstrap);
    config.set("reconnect.backoff.max.ms", "100").set("retry.backoff.ms", "20").set("acks", "all");
    config
        .set("batch.num.messages", "100")
        .set("queue.buffering.max.messages", "2000")
        .set("topic.metadata.refresh.interval.ms", "1000");
    config
}

fn create(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    options: &[(&str, &str)],
) -> Result<(), RDKafkaErrorCode> {
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let new = options.iter().fold(new, |new, (name, value)| new.set(name, value));
    let within = AdminOptions::new().request_timeout(Some(seconds(5))).operation_timeout(Some(seconds(5)));
    match futures_lite::future::block_on(admin.create_topics([&new], &within)) {
        Ok(mut results) => results.remove(0).map(drop).map_err(|(_, code)| code),
        Err(error) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
    }
}

/// Sends numbered records until `stop`, and waits for the last of them; gives how many.
fn send(producer: &BaseProducer<Told>, topic: &str, stop: &AtomicBool, value: impl Fn(u64) -> (String, String)) -> u64 {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let (key, value) = value(next);
        let record = BaseRecord::with_opaque_to(topic, Box::new(next)).partition(0).key(&key).payload(&value);
        if producer.send(record).is_ok() {
            next += 1;
        }
        // Neither the cores nor the drive are for this alone.
        producer.poll(Duration::from_millis(if next.is_multiple_of(8) { 2 } else { 0 }));
    }
    producer.flush(seconds(60)).unwrap();
    next
}

fn number(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).unwrap();
    text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{text}"))
}

fn compacted(bootstrap: &str, topic: &str, stop: &AtomicBool) {
    let mut config = config(bootstrap);
    let producer: BaseProducer<Told> =
        config.set("enable.idempotence", "true").create_with_context(Told::default()).unwrap();
    let filling = ".".repeat(100);
    let value = |number: u64| (format!("{}", number / VERSIONS), format!("{number} {filling}"));
    let sent = send(&producer, topic, stop, value);
    let told = producer.context().0.lock().unwrap();
    assert_eq!(told.len() as u64, sent, "records that were given up");
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = 0;
    records::read_topic(bootstrap, topic, |message| {
        let number = number(message.payload().unwrap());
        assert_eq!(message.key().unwrap(), format!("{}", number / VERSIONS).as_bytes());
        assert!(told[&number] < 0 || told[&number] == message.offset(), "record {number}");
        let before = last.insert(number / VERSIONS, number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        found += 1;
    });
    for key in 0..sent.div_ceil(VERSIONS) {
        let wanted = (key * VERSIONS + VERSIONS - 1).min(sent - 1);
        assert_eq!(last.get(&key), Some(&wanted), "the last value of key {key}, of {sent} records");
    }
    println!("compacted: {sent} records, {found} of them left, of each key the last");
}

fn shortened(bootstrap: &str, topic: &str, stop: &AtomicBool) {
    let mut config = config(bootstrap);
    let producer: BaseProducer<Told> =
        config.set("enable.idempotence", "true").create_with_context(Told::default()).unwrap();
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let consumer: BaseConsumer = config.create().unwrap();
    let filling = ".".repeat(100);
    let (mut starts, mut deletions) = ((0, 0), 0);
    let sent = std::thread::scope(|scope| {
        let sending =
            scope.spawn(|| send(&producer, topic, stop, |number| (String::new(), format!("{number} {filling}"))));
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            // The broker may be away: then the next time.
            let Ok((low, high)) = consumer.fetch_watermarks(topic, 0, Duration::from_millis(500)) else { continue };
            assert!(low >= starts.0, "the start went back from {} to {low}", starts.0);
            starts.0 = low;
            let mut list = TopicPartitionList::new();
            // A little of what is there; retention takes the rest.
            let before = low + (high - low) / 4;
            list.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
            let within = AdminOptions::new().request_timeout(Some(seconds(1)));
            starts.1 = before.max(starts.1);
            if let Ok(deleted) = futures_lite::future::block_on(admin.delete_records(&list, &within))
                && deleted.elements()[0].error().is_ok()
            {
                starts.0 = starts.0.max(before);
                deletions += 1;
            }
        }
        sending.join().unwrap()
    });
    let told = producer.context().0.lock().unwrap();
    assert_eq!(told.len() as u64, sent, "records that were given up");
    let (low, _) = consumer.fetch_watermarks(topic, 0, wait::PATIENCE).unwrap();
    assert!(low >= starts.0, "the start went back from {} to {low}", starts.0);
    // Of about 110 bytes each.
    let kept = (RETENTION_BYTES / 120) as i64;
    let most = starts.1.max(sent as i64 - kept);
    assert!(low <= most, "the log begins at {low}, nothing asks for more than {most}");
    let mut next = None;
    records::read_topic(bootstrap, topic, |message| {
        let number = number(message.payload().unwrap());
        assert_eq!(number as i64, message.offset(), "each record once, in order, from the first on");
        assert!(next.is_none_or(|next| next == number), "{number} after {next:?}");
        assert!(told[&number] < 0 || told[&number] == message.offset());
        next = Some(number + 1);
    });
    assert_eq!(next, Some(sent), "the last record is there");
    println!("shortened: {sent} records, the log starts at {low} after {deletions} deletions");
}

fn made_again(bootstrap: &str, topic: &str, stop: &AtomicBool) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let within = AdminOptions::new().request_timeout(Some(seconds(5))).operation_timeout(Some(seconds(5)));
    let mut life = 0u64;
    while !stop.load(Ordering::Relaxed) {
        life += 1;
        wait::until("the topic to be made", seconds(60), || match create(&admin, topic, &[]) {
            // It was made, and the answer was lost.
            Ok(()) | Err(RDKafkaErrorCode::TopicAlreadyExists) => Some(()),
            Err(_) => None,
        });
        let producer: BaseProducer<Told> = config(bootstrap).create_with_context(Told::default()).unwrap();
        for number in 0..OF_EACH_LIFE {
            let (key, value) = (format!("{life}"), format!("{number}"));
            let record = BaseRecord::with_opaque_to(topic, Box::new(number)).partition(0).key(&key).payload(&value);
            producer.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
        }
        producer.flush(seconds(60)).unwrap();
        let told = producer.context().0.lock().unwrap().clone();
        let mut found = BTreeMap::new();
        // The broker may die meanwhile: the reader asks again.
        let consumer: BaseConsumer = config(bootstrap).set("group.id", "not-a-member").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        // Between two deaths there may be no more than a second, and that is shared with all the others.
        wait::until("the end of the topic that was made again", seconds(300), || {
            while let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let of = number(message.key().unwrap());
                assert_eq!(of, life, "offset {} of life {life}", message.offset());
                found.insert(message.offset(), number(message.payload().unwrap()));
            }
            let (_, end) = consumer.fetch_watermarks(topic, 0, seconds(1)).ok()?;
            (found.len() as i64 == end).then_some(())
        });
        let values: Vec<u64> = found.values().copied().collect();
        assert!(told.keys().all(|number| values.contains(number)), "life {life}: {told:?}, and there is {found:?}");
        wait::until("the topic to be deleted", seconds(60), || {
            let deleted = futures_lite::future::block_on(admin.delete_topics(&[topic], &within)).ok()?;
            match &deleted[0] {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => Some(()),
                Err(_) => None,
            }
        });
    }
    assert!(life > 1, "it was never made again");
    println!("made again: {life} lives of a topic");
}

/// Runs `deaths` with all this beside it, and checks it when that has ended and the broker is there.
pub fn beside(bootstrap: &str, deaths: impl FnOnce()) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let names = ["compacted", "shortened", "made-again"].map(unique);
    let retention = RETENTION_BYTES.to_string();
    let compact = [("cleanup.policy", "compact"), ("internal.segment.bytes", "60000")];
    let shorten = [("retention.bytes", &*retention), ("internal.segment.bytes", "60000")];
    create(&admin, &names[0], &compact).unwrap();
    create(&admin, &names[1], &shorten).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = crash::StopOnPanic([&stop, &stop]);
        for (name, what) in names.iter().zip([compacted, shortened, made_again]) {
            let stop = &stop;
            scope.spawn(move || what(bootstrap, name, stop));
        }
        deaths();
        drop(ends);
    });
}
