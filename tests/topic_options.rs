//! What options of topics do: each is set, also while the topic is in use, and its effect is looked for in what the
//! broker answers and in its files.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same expectations hold for Apache Kafka.

mod harness;

use bytes::Bytes;
use corelog::record::{BatchBuilder, BatchView, Codec, NewRecord, TimestampType};
use harness::broker::{Broker, Options};
use harness::client::{Client, batch, now_ms, text};
use harness::{unique, wait};
use kafka_protocol::messages::*;
use std::path::PathBuf;

const NONE: i16 = 0;
const NOT_LEADER: i16 = 6;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;

const HOUR: i64 = 3_600_000;

/// A broker that is one for its clients. What is appended goes to the segments at once, so that files tell of it.
fn host() -> (Broker, Client) {
    let broker = Broker::with(Options { advertise: "host", ..Options::default() }.journal(0));
    let client = Client::to(broker.addresses()[0]);
    (broker, client)
}

/// Produces to partition 0; waits for Apache Kafka, which shows a topic before it can be written.
fn produce(client: &mut Client, topic: &str, batch: &[u8]) -> (i16, i64) {
    produce_to(client, topic, 0, batch)
}

fn produce_to(client: &mut Client, topic: &str, partition: i32, batch: &[u8]) -> (i16, i64) {
    wait::until("a leader", wait::seconds(30), || {
        Some(client.produce(topic, partition, batch.to_vec())).filter(|(code, _)| *code != NOT_LEADER)
    })
}

/// The bytes of the batch at an offset of partition 0.
fn stored(client: &mut Client, topic: &str, offset: i64) -> Bytes {
    let fetched = client.fetch(topic, 0, offset);
    assert_eq!(fetched.error_code, NONE);
    let records = fetched.records.unwrap();
    let len = BatchView::first(&records).unwrap().size();
    records.slice(..len)
}

fn set(client: &mut Client, topic: &str, option: &str, value: &str) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let option = AlterableConfig::default().with_name(text(option)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![option]);
    let answer = client.ask(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, NONE, "{answer:?}");
}

/// The files of a partition that end so, in order of their names, with their lengths.
fn files(broker: &Broker, topic: &str, partition: i32, ending: &str) -> Vec<(PathBuf, u64)> {
    let dir = broker.data_dir().join(format!("{topic}-{partition}"));
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        // One that is on its way out.
        .filter_map(|path| Some((path.clone(), std::fs::metadata(path).ok()?.len())))
        .collect();
    files.sort();
    files
}

/// Some 60 KB of words: compressible, and better so with more effort.
fn words() -> Vec<u8> {
    let words = ["order", "customer", "shipment", "invoice", "payment", "cancelled", "delivered", "warehouse"];
    let mut seed = 7u64;
    let mut text = Vec::new();
    while text.len() < 60_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.extend_from_slice(words[(seed >> 40) as usize % words.len()].as_bytes());
        text.extend_from_slice((seed >> 52).to_string().as_bytes());
    }
    text
}

#[test]
fn batches_are_compressed_as_the_topic_wants_it() {
    let (broker, mut client) = host();
    let topic = unique("codecs");
    client.create_with(&topic, 1, &[]);
    let value = words();
    let put = |client: &mut Client, sent: Codec| {
        let (code, offset) = produce(client, &topic, &batch(sent, now_ms(), &[&value, b"two"]));
        assert_eq!(code, NONE);
        let bytes = stored(client, &topic, offset);
        let view = BatchView::first(&bytes).unwrap();
        assert!(view.crc_is_right() && view.record_count() == 2);
        (view.codec().unwrap(), bytes.len())
    };
    assert_eq!(put(&mut client, Codec::Gzip).0, Codec::Gzip, "the producer's");
    for (name, codec) in [
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
        ("uncompressed", Codec::None),
    ] {
        set(&mut client, &topic, "compression.type", name);
        for sent in [Codec::None, Codec::Lz4, Codec::Gzip] {
            // It answers before it knows.
            let stored = wait::until(name, wait::seconds(if broker.is_corelog() { 0 } else { 30 }), || {
                Some(put(&mut client, sent).0).filter(|stored| *stored == codec)
            });
            assert_eq!(stored, codec, "{sent:?} to {name}");
        }
    }
    for (name, least, most) in [("gzip", 1, 9), ("zstd", 1, 19), ("lz4", 9, 17)] {
        set(&mut client, &topic, "compression.type", name);
        let level = format!("compression.{name}.level");
        set(&mut client, &topic, &level, &least.to_string());
        let large = put(&mut client, Codec::None).1;
        set(&mut client, &topic, &level, &most.to_string());
        wait::until(&level, wait::seconds(if broker.is_corelog() { 0 } else { 30 }), || {
            let small = put(&mut client, Codec::None).1;
            (small < large).then_some(())
        });
    }
}

#[test]
fn time_stamps_are_the_brokers_or_within_bounds() {
    let (_broker, mut client) = host();
    let now = now_ms();
    let topic = unique("appended");
    client.create_with(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let (code, offset) = produce(&mut client, &topic, &batch(Codec::None, 1000, &[b"old"]));
    assert_eq!(code, NONE);
    let bytes = stored(&mut client, &topic, offset);
    let view = BatchView::first(&bytes).unwrap();
    assert_eq!(view.timestamp_type(), TimestampType::LogAppendTime);
    assert!((now..=now_ms()).contains(&view.max_timestamp()), "{}", view.max_timestamp());

    let bounded = unique("bounded");
    let day = (24 * HOUR).to_string();
    let bounds = [("message.timestamp.before.max.ms", &day[..]), ("message.timestamp.after.max.ms", &day[..])];
    client.create_with(&bounded, 1, &bounds);
    for (hours, code) in [(-23, NONE), (-25, INVALID_TIMESTAMP), (23, NONE), (25, INVALID_TIMESTAMP)] {
        let sent = batch(Codec::None, now + hours * HOUR, &[b"x"]);
        assert_eq!(produce(&mut client, &bounded, &sent).0, code, "{hours} hours");
    }
    let plain = unique("plain");
    client.create_with(&plain, 1, &[]);
    // Kafka's defaults: any age, an hour ahead.
    for (stamp, code) in [(0, NONE), (now + HOUR / 2, NONE), (now + 2 * HOUR, INVALID_TIMESTAMP)] {
        assert_eq!(produce(&mut client, &plain, &batch(Codec::None, stamp, &[b"x"])).0, code, "{stamp}");
    }
}

#[test]
fn records_are_refused_in_kafkas_words() {
    let (_broker, mut client) = host();
    let words = |of: &Option<kafka_protocol::protocol::StrBytes>| of.as_deref().unwrap_or_default().to_string();
    let topic = unique("keys");
    client.create_with(&topic, 1, &[("cleanup.policy", "compact")]);
    // Waits until it can be written.
    assert_eq!(produce(&mut client, &topic, &batch(Codec::None, now_ms(), &[b"x"])).0, NONE);
    let mut builder = BatchBuilder::new();
    for key in [None, Some(&b"key"[..]), None] {
        builder.push(NewRecord { timestamp: now_ms(), key, value: Some(b"x"), headers: &[] });
    }
    let answer = client.try_produce(&topic, 0, builder.build());
    let no_key = format!("Compacted topic cannot accept message without key in topic partition {topic}-0");
    let shown = [0, 2].map(|index| format!("RecordError(batchIndex={index}, message='{no_key}')")).join(", ");
    assert_eq!(answer.error_code, INVALID_RECORD);
    assert_eq!(
        words(&answer.error_message),
        format!(
            "One or more records have been rejected due to 2 record errors in total, and only showing the first three \
             errors at most: [{shown}]"
        )
    );
    let told: Vec<_> =
        answer.record_errors.iter().map(|e| (e.batch_index, words(&e.batch_index_error_message))).collect();
    assert_eq!(told, [(0, no_key.clone()), (2, no_key)]);

    let late = now_ms() + 2 * HOUR;
    let answer = client.try_produce(&topic, 0, batch(Codec::None, late, &[b"x"]));
    let rejected = "One or more records have been rejected due to invalid timestamp";
    assert_eq!((answer.error_code, words(&answer.error_message).as_str()), (INVALID_TIMESTAMP, rejected));
    let told = words(&answer.record_errors[0].batch_index_error_message);
    let begin = format!("Timestamp {late} of message with offset 0 is out of range. The timestamp should be within [");
    assert!(told.starts_with(&begin) && told.ends_with(']'), "{told}");
}

#[test]
fn a_batch_may_be_so_large_and_one_replica_is_enough() {
    let (_broker, mut client) = host();
    let topic = unique("small");
    client.create_with(&topic, 1, &[("max.message.bytes", "200"), ("min.insync.replicas", "2")]);
    assert_eq!(produce(&mut client, &topic, &batch(Codec::None, now_ms(), &[&[b'x'; 50]])).0, NONE);
    assert_eq!(produce(&mut client, &topic, &batch(Codec::None, now_ms(), &[&[b'x'; 200]])).0, MESSAGE_TOO_LARGE);
}

#[test]
fn segments_roll_by_time_size_and_index() {
    let (broker, mut client) = host();
    if !broker.is_ours() {
        return;
    }
    let now = now_ms() - HOUR;
    let at = |after: i64| batch(Codec::None, now + after, &[&[b'x'; 100]]);
    let segments = |topic: &str, partition: i32| files(&broker, topic, partition, ".log").len();

    let topic = unique("by-time");
    client.create_with(&topic, 1, &[("segment.ms", "1000")]);
    for (after, expected) in [(0, 1), (900, 1), (1000, 1), (1001, 2), (1500, 2), (2002, 3)] {
        assert_eq!(produce(&mut client, &topic, &at(after)).0, NONE);
        assert_eq!(segments(&topic, 0), expected, "after {after} ms");
    }
    // The other way takes effect at once too.
    set(&mut client, &topic, "segment.ms", "100000");
    produce(&mut client, &topic, &at(4000));
    assert_eq!(segments(&topic, 0), 3);

    let topic = unique("by-chance");
    client.create_with(&topic, 24, &[("segment.ms", "100000"), ("segment.jitter.ms", "100000")]);
    let mut rolled = 0;
    for partition in 0..24 {
        for after in [0, 50_000] {
            assert_eq!(produce_to(&mut client, &topic, partition, &at(after)).0, NONE);
        }
        rolled += segments(&topic, partition) - 1;
    }
    // All alike once in eight million times.
    assert!((1..24).contains(&rolled), "{rolled} of 24 rolled early");

    let size = at(0).len() as i64;
    let topic = unique("by-size");
    client.create_with(&topic, 1, &[("internal.segment.bytes", &(3 * size).to_string())]);
    for batches in 1..=7usize {
        produce(&mut client, &topic, &at(0));
        assert_eq!(segments(&topic, 0), batches.div_ceil(3), "{batches} batches");
    }

    let topic = unique("by-index");
    client.create_with(&topic, 1, &[("segment.index.bytes", "24"), ("index.interval.bytes", "0")]);
    for _ in 0..20 {
        produce(&mut client, &topic, &at(0));
    }
    assert!((4..12).contains(&segments(&topic, 0)), "{} segments", segments(&topic, 0));
}

#[test]
fn index_entries_are_as_dense_as_wanted() {
    let (broker, mut client) = host();
    if !broker.is_ours() {
        return;
    }
    let sent = batch(Codec::None, now_ms(), &[&[b'x'; 900]]);
    let mut entries = |interval: &str| {
        let topic = unique("dense");
        client.create_with(&topic, 1, &[("internal.segment.bytes", "20000"), ("index.interval.bytes", interval)]);
        assert_eq!(produce(&mut client, &topic, &sent).0, NONE);
        while files(&broker, &topic, 0, ".log").len() < 2 {
            assert_eq!(produce(&mut client, &topic, &sent).0, NONE);
        }
        // The first is cut to its length when it is sealed.
        wait::until("the index of the first segment", wait::seconds(30), || {
            let indexes = files(&broker, &topic, 0, ".index");
            let len = indexes.first().filter(|(path, _)| path.ends_with("00000000000000000000.index"))?.1;
            Some(len / 8).filter(|entries| *entries < 100)
        })
    };
    let (dense, sparse) = (entries("1000"), entries("1000000"));
    assert!(dense >= 9 && sparse <= 1, "{dense} and {sparse} entries");
}

#[test]
fn a_segment_takes_its_space_at_once_if_wanted() {
    let (broker, mut client) = host();
    if !broker.is_ours() {
        return;
    }
    let mut length = |preallocate: &str| {
        let topic = unique("space");
        client.create_with(&topic, 1, &[("segment.bytes", "16777216"), ("preallocate", preallocate)]);
        assert_eq!(produce(&mut client, &topic, &batch(Codec::None, now_ms(), &[b"x"])).0, NONE);
        files(&broker, &topic, 0, ".log")[0].1
    };
    let (at_once, by_steps) = (length("true"), length("false"));
    assert!(at_once == 16 << 20 && by_steps < 8 << 20, "{at_once} and {by_steps} bytes");
}
