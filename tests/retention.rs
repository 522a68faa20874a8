//! Retention: which segments go, by age, size and log start; never one that Apache Kafka would keep.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same data and expectations run against Apache Kafka.

mod harness;

use corelog::record::Codec;
use harness::broker::{Broker, Options};
use harness::client::{Client, batch, now_ms, text};
use harness::program::cpu_time;
use harness::{unique, wait};
use kafka_protocol::messages::*;
use std::time::{Duration, Instant};

const NONE: i16 = 0;
const NOT_LEADER: i16 = 6;

const HOUR: i64 = 3_600_000;
/// Batches of a segment in these tests.
const PER_SEGMENT: usize = 3;

fn client(broker: &Broker) -> Client {
    Client::to(broker.addresses()[0])
}

fn produce(client: &mut Client, topic: &str, partition: i32, batch: &[u8]) {
    // Apache Kafka shows a topic before it can be written.
    let code = wait::until("a leader", wait::seconds(30), || {
        Some(client.produce(topic, partition, batch.to_vec()).0).filter(|code| *code != NOT_LEADER)
    });
    assert_eq!(code, NONE);
}

fn at(timestamp: i64) -> Vec<u8> {
    batch(Codec::None, timestamp, &[&[b'x'; 100]])
}

#[test]
fn what_goes_is_what_kafka_lets_go() {
    let options = Options { advertise: "host", ..Options::default() }
        .set("log.retention.check.interval.ms=100")
        .set("log.initial.task.delay.ms=100");
    let broker = Broker::with(options);
    if !broker.is_ours() {
        return;
    }
    let mut client = client(&broker);
    let now = now_ms();
    let (old, young, ahead) = (now - 2 * HOUR, now, now + HOUR / 2);
    let size = at(now).len() as i64;
    let segment = (size * PER_SEGMENT as i64).to_string();
    let hour = HOUR.to_string();
    let by_age = |policy| vec![("retention.ms", hour.clone()), ("cleanup.policy", String::from(policy))];
    let by_size = |batches: i64| vec![("retention.bytes", (batches * size).to_string()), ("retention.ms", "-1".into())];
    // Options, the time of each segment's batches (the last has only one), and the first offset that stays.
    let cases = [
        ("the oldest", by_age("delete"), vec![old, young, young, young], 3),
        ("up to the first young one", by_age("delete"), vec![old, young, old, young], 3),
        ("all, the active one too", by_age("delete"), vec![old, old, old, old], 10),
        ("none: the oldest is of the future", by_age("delete"), vec![ahead, old, old, old], 0),
        ("none: just written, without a time", by_age("delete"), vec![-1, -1, -1, -1], 0),
        ("none: no limit", vec![("retention.ms", "-1".into())], vec![1000, 1000, 1000, 1000], 0),
        ("none: only compacted", by_age("compact"), vec![old, old, old, old], 0),
        ("compacted and deleted", by_age("compact,delete"), vec![old, young, young, young], 3),
        ("by size, to the byte", by_size(7), vec![young; 4], 3i64),
        ("none: a byte too few", by_size(8), vec![young; 4], 0),
        ("all but the active one", by_size(1), vec![young; 4], 9),
        ("all by size", by_size(0), vec![young; 4], 10),
    ];
    let topics: Vec<String> = cases.iter().map(|_| unique("case")).collect();
    for (topic, (_, options, times, _)) in topics.iter().zip(&cases) {
        // Nothing is deleted before all of it is there.
        let mut first = vec![("internal.segment.bytes", &segment[..]), ("retention.ms", "-1")];
        first.extend([("file.delete.delay.ms", "0"), ("min.cleanable.dirty.ratio", "1")]);
        client.create_with(topic, 1, &first);
        let last = times.len() - 1;
        for (number, time) in times.iter().enumerate() {
            for _ in 0..if number == last { 1 } else { PER_SEGMENT } {
                produce(&mut client, topic, 0, &at(*time));
            }
        }
        set(&mut client, topic, options);
    }
    // Each partition of this one goes twice: then every core has looked at everything at least once.
    let control = unique("control");
    client.create_with(&control, 8, &[("retention.ms", "1000"), ("file.delete.delay.ms", "0")]);
    for round in 1..=2 {
        for partition in 0..8 {
            produce(&mut client, &control, partition, &at(old));
        }
        for partition in 0..8 {
            wait::until("the control to go", wait::seconds(60), || {
                (client.earliest(&control, partition) == round).then_some(())
            });
        }
    }
    for (topic, (what, _, _, expected)) in topics.iter().zip(&cases) {
        // It may take one look more: a segment that was just begun has to be sealed first.
        let mut start = client.earliest(topic, 0);
        if start < *expected {
            start = wait::until(what, wait::seconds(60), || {
                Some(client.earliest(topic, 0)).filter(|start| start >= expected)
            });
        }
        assert_eq!(start, *expected, "{what}");
    }
}

fn set(client: &mut Client, topic: &str, options: &[(&str, String)]) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let mut options: Vec<_> = options.to_vec();
    if !options.iter().any(|(name, _)| *name == "retention.ms") {
        options.push(("retention.ms", "-1".into()));
    }
    let options = options
        .iter()
        .map(|(name, value)| AlterableConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(options.collect());
    let answer = client.ask(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, NONE, "{answer:?}");
}

/// Many segments go while the core serves others. Prints what it costs, and how long a producer of the same core waits
/// meanwhile: `CORELOG_TEST_SEGMENTS=10000 cargo test --release --test retention many -- --nocapture`.
#[test]
fn many_segments_go_and_others_are_served_meanwhile() {
    let segments: i64 = std::env::var("CORELOG_TEST_SEGMENTS").map_or(300, |count| count.parse().unwrap());
    let cores = harness::broker::allowed_cpus().into_iter().take(1).collect();
    let options = Options { cores, ..Options::default() }.set("log.retention.check.interval.ms=200");
    let broker = Broker::with(options);
    if !broker.is_corelog() {
        return;
    }
    let mut client = client(&broker);
    let (many, other) = (unique("many"), unique("other"));
    let one = at(now_ms());
    let size = one.len().to_string();
    client.create_with(&many, 1, &[("internal.segment.bytes", &size), ("flush.messages", "1000000")]);
    client.create_with(&other, 1, &[]);
    for _ in 0..segments {
        produce(&mut client, &many, 0, &one);
    }
    let process = broker.process().unwrap();
    // What a producer waits anyway.
    let mut alone: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        produce(&mut client, &other, 0, &one);
        alone.push(began.elapsed());
    }
    set(&mut client, &many, &[("retention.bytes", "0".into()), ("file.delete.delay.ms", "0".into())]);
    let (began, cpu) = (Instant::now(), cpu_time(process));
    let mut meanwhile: Vec<Duration> = Vec::new();
    while client.earliest(&many, 0) < segments {
        let began = Instant::now();
        produce(&mut client, &other, 0, &one);
        meanwhile.push(began.elapsed());
    }
    assert!(!meanwhile.is_empty(), "nobody was served");
    let (took, used) = (began.elapsed(), cpu_time(process) - cpu);
    for waits in [&mut alone, &mut meanwhile] {
        waits.sort_unstable();
    }
    let show = |waits: &[Duration]| {
        let at = |permille: usize| waits[(waits.len() - 1) * permille / 1000].as_micros();
        format!("p50 {} µs, p99 {} µs, max {} µs of {}", at(500), at(990), at(1000), waits.len())
    };
    println!("{segments} segments: {took:.2?}, {used:.2?} of CPU with the producer's share");
    println!("a producer of the same core, acks=all: alone {}; meanwhile {}", show(&alone), show(&meanwhile));
}
