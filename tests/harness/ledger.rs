//! Idempotent acks=all producers that keep a ledger of what was acknowledged, and the check of a topic against it.
//!
//! Every record says who sent it and which one it is: `PRODUCER SEQUENCE ....`, sequence numbers from 0 within each
//! producer and partition.

use super::records;
use super::wait::seconds;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// By sequence number.
type Offsets = Vec<Option<i64>>;

/// What producers were told: the offset of each sequence number, per (producer, partition).
#[derive(Default)]
pub struct Ledger {
    acknowledged: Mutex<HashMap<(usize, usize), Offsets>>,
    count: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Ledger {
    /// How many records were acknowledged so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Records that were given up, and fatal errors of producers: there must be none.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

/// A producer that never gives up and comes back quickly when the broker does.
pub fn producer(bootstrap: &str, name: usize, ledger: &Arc<Ledger>) -> ThreadedProducer<Acknowledgements> {
    let context = Acknowledgements { producer: name, ledger: ledger.clone() };
    let mut config = records::config(bootstrap);
    config.set("enable.idempotence", "true").set("queue.buffering.max.messages", "5000");
    config.set("reconnect.backoff.max.ms", "100").set("retry.backoff.ms", "20");
    // Small batches of one producer, larger ones of the next: they take different ways to the drive.
    config.set("batch.num.messages", if name.is_multiple_of(2) { "10" } else { "300" });
    config.create_with_context(context).unwrap()
}

pub struct Acknowledgements {
    producer: usize,
    ledger: Arc<Ledger>,
}

impl ClientContext for Acknowledgements {
    /// Lost connections are the point of this test.
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::Fatal) {
            self.ledger.failures.lock().unwrap().push(format!("producer {}: {reason}", self.producer));
        }
    }
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Acknowledgements {
    /// The record's sequence number.
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: Box<u64>) {
        match result {
            Ok(message) => {
                let mut all = self.ledger.acknowledged.lock().unwrap();
                let offsets = all.entry((self.producer, message.partition() as usize)).or_default();
                let at = *sequence as usize;
                if offsets.len() <= at {
                    offsets.resize(at + 1, None);
                }
                assert!(offsets[at].is_none(), "acknowledged twice");
                offsets[at] = Some(message.offset());
                self.ledger.count.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                let place = format!("producer {}, partition {}", self.producer, message.partition());
                self.ledger.failures.lock().unwrap().push(format!("{place}, sequence {sequence}: {error}"));
            }
        }
    }
}

/// Sends to all partitions in turn until `stop`, at most so much ahead of the acknowledgements as librdkafka's queue
/// holds; then waits for the last of them. Gives the number of records per partition.
pub fn produce(
    producer: ThreadedProducer<Acknowledgements>,
    topic: &str,
    partitions: usize,
    stop: &AtomicBool,
) -> Vec<u64> {
    let name = producer.context().producer;
    let mut next = vec![0u64; partitions];
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let partition = turn % partitions;
        let value = format!("{name} {} {}", next[partition], ".".repeat(80));
        let record = BaseRecord::with_opaque_to(topic, Box::new(next[partition]))
            .partition(partition as i32)
            .key("")
            .payload(&value);
        match producer.send(record) {
            Ok(()) => next[partition] += 1,
            // The queue is full: the broker is away, or slower than we are.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    producer.flush(seconds(60)).unwrap();
    next
}

/// Each producer's sequence numbers of each partition are there, 0 to what it sent, once, in order, at the acknowledged
/// offsets. Gives the end offsets.
pub fn check(bootstrap: &str, topic: &str, sent: &[Vec<u64>], ledger: &Ledger) -> Vec<i64> {
    let mut next = vec![vec![0u64; sent[0].len()]; sent.len()];
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let ends = records::read_topic(bootstrap, topic, |message| {
        let partition = message.partition() as usize;
        let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let mut words = text.split(' ');
        let producer: usize = words.next().unwrap().parse().unwrap();
        let sequence: u64 = words.next().unwrap().parse().unwrap();
        let place = format!("producer {producer}, partition {partition}, offset {}", message.offset());
        assert_eq!(sequence, next[producer][partition], "the next sequence number: {place}");
        next[producer][partition] += 1;
        let told = acknowledged.get(&(producer, partition)).and_then(|offsets| *offsets.get(sequence as usize)?);
        // A batch that was found to be a duplicate may be acknowledged without its offset.
        if let Some(told) = told.filter(|told| *told >= 0) {
            assert_eq!(told, message.offset(), "the acknowledged offset of sequence {sequence}: {place}");
        }
        assert!(told.is_some(), "sequence {sequence} was never acknowledged: {place}");
    });
    assert_eq!(next, sent, "records in the log and records sent, per producer and partition");
    ends
}
