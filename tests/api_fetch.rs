//! Fetch over a socket, where real clients do not take it.

mod harness;

use harness::broker::{Broker, Options, allowed_cpus, connect};
use harness::wait::seconds;
use harness::wire::{read_answer, request};
use harness::{records, unique};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::io::Write;

const FETCH: i16 = 1;

/// The body of a Fetch v4 of the first `partitions` partitions from their start.
fn fetch_body(topic: &str, partitions: i32, min_bytes: i32, partition_max_bytes: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // replica id
    body.extend(500i32.to_be_bytes()); // max wait
    body.extend(min_bytes.to_be_bytes());
    body.extend((50i32 << 20).to_be_bytes()); // max bytes
    body.push(0); // isolation level
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend(0i64.to_be_bytes()); // fetch offset
        body.extend(partition_max_bytes.to_be_bytes());
    }
    body
}

/// The bytes of records in an answer of version 4 to a fetch of one topic, by partition.
fn record_bytes(answer: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut number = |len: usize| {
        at += len;
        answer[at - len..at].iter().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
    };
    number(4 + 4); // correlation id, throttle time
    assert_eq!(number(4), 1, "topics");
    let name = number(2);
    number(name);
    let partitions = number(4);
    let mut found = Vec::new();
    for _ in 0..partitions {
        number(4);
        assert_eq!(number(2), 0, "the error code");
        number(8 + 8);
        let aborted = number(4);
        assert!(aborted == 0 || aborted == u32::MAX as usize, "{aborted} aborted transactions");
        let bytes = number(4);
        found.push(bytes);
        number(bytes);
    }
    found
}

/// Many consumers that are behind, each of many partitions, beside a read memory of a few reads: each must get its
/// answer, and with records. (Fetches that held memory for one partition while they waited for more for the next
/// waited for each other for ever.)
fn more_fetches_than_memory(advertise: &'static str, cores: usize) {
    const PARTITIONS: i32 = 8;
    let cores = allowed_cpus().into_iter().take(cores).collect();
    let options = Options { cores, advertise, ..Options::default() };
    let options = ["fetch.max.bytes", "read.memory.bytes.per.core", "tail.memory.bytes.per.core"]
        .iter()
        .fold(options, |options, name| options.set(&format!("{name}=1048576")));
    let broker = Broker::with(options);
    if !broker.is_corelog() {
        return;
    }
    let topic = unique("behind");
    records::create_topic(&broker.bootstrap(), &topic, PARTITIONS);
    let producer: BaseProducer = records::config(&broker.bootstrap()).create().unwrap();
    let value = vec![b'v'; 10_000];
    for partition in 0..PARTITIONS {
        for _ in 0..60 {
            let record = BaseRecord::<(), [u8]>::to(&topic).partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(seconds(60)).unwrap();

    // One wants an answer at once, the next one a full one.
    let frame = |min_bytes| request(FETCH, 4, 5, false, &fetch_body(&topic, PARTITIONS, min_bytes, 200_000));
    let (eager, patient) = (frame(1), frame(1_000_000));
    let address = broker.addresses()[0];
    for round in 0..3 {
        let mut streams: Vec<_> = (0..60).map(|_| connect(address).unwrap()).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(if number % 2 == 0 { &eager } else { &patient }).unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let answer = read_answer(stream).unwrap_or_else(|error| panic!("round {round}, fetch {number}: {error}"));
            let found = record_bytes(&answer);
            assert_eq!(found.len(), PARTITIONS as usize);
            assert!(found.iter().sum::<usize>() >= 10_000, "round {round}, fetch {number}: {found:?}");
        }
    }
}

#[test]
fn more_fetches_than_memory_on_one_core() {
    more_fetches_than_memory("core", 1);
}

#[test]
fn more_fetches_than_memory_across_cores() {
    more_fetches_than_memory("host", 2);
}
