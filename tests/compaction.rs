//! Compaction by the real program: what survives is what Kafka's rules keep, also when the broker is killed in the
//! middle of it, and `__consumer_offsets` does not grow for ever.
//!
//! The first test says nothing that is corelog's own: `CORELOG_TEST_BROKER=kafka cargo test --test compaction` has it judged
//! by Apache Kafka. `CORELOG_TEST_KILLS` sets how often the broker is killed (default 6), `CORELOG_TEST_SEED` the seed of
//! an earlier run.

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use corelog::record::{BatchBuilder, BatchView, Codec, NewRecord, Scratch};
use harness::broker::{Broker, Options};
use harness::client::{Client, name, now_ms, text};
use harness::drive::next_random;
use harness::{crash, unique, wait};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest};

/// One core: every request finds its partition here.
fn options() -> Options {
    let mut options = Options::default();
    options.cores.truncate(1);
    options.set("log.cleaner.backoff.ms=100").set("log.cleaner.min.cleanable.ratio=0.0")
}

type Key = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Survivor {
    offset: i64,
    timestamp: i64,
    /// `None`: a tombstone.
    value: Option<Vec<u8>>,
}

/// All records from the start of a partition up to its end, in order of offset: a consumer's view.
fn read_all(client: &mut Client, topic: &str) -> Vec<(Key, Survivor)> {
    let mut found: Vec<(Key, Survivor)> = Vec::new();
    let mut scratch = Scratch::new();
    let mut next = 0;
    loop {
        let answer = client.fetch(topic, 0, next);
        assert_eq!(answer.error_code, 0, "fetch at {next}");
        let records = answer.records.unwrap_or_default();
        let before = next;
        for batch in corelog::record::iterate(&records) {
            // The last one may be cut.
            let Ok(batch) = batch else { break };
            assert!(batch.crc_is_right());
            next = next.max(batch.next_offset().0);
            let mut records = batch.records(&mut scratch).unwrap();
            while let Some(record) = records.next().unwrap() {
                if record.offset < before {
                    continue;
                }
                assert!(found.last().is_none_or(|(_, last)| last.offset < record.offset), "offsets go up");
                let value = record.value.map(<[u8]>::to_vec);
                let survivor = Survivor { offset: record.offset, timestamp: record.timestamp, value };
                found.push((record.key.unwrap_or_default().to_vec(), survivor));
            }
        }
        if next == before {
            assert_eq!(next, answer.high_watermark, "the end is reached");
            return found;
        }
    }
}

/// Produces records of a key that nobody looks at, until what is before them is in no active segment.
fn push_out(client: &mut Client, topic: &str, segment_bytes: usize) {
    let value = vec![b'-'; segment_bytes / 4];
    for _ in 0..6 {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { timestamp: now_ms(), key: Some(b"filler"), value: Some(&value), headers: &[] });
        assert_eq!(client.produce(topic, 0, builder.build()).0, 0);
    }
}

#[test]
fn what_survives_is_what_kafkas_rules_keep() {
    const SEGMENT_BYTES: usize = 20_000;
    let broker = Broker::with(options());
    let mut client = Client::to(broker.addresses()[0]);
    let topic = unique("compacted");
    client.create_with(
        &topic,
        1,
        &[
            ("cleanup.policy", "compact"),
            ("internal.segment.bytes", &SEGMENT_BYTES.to_string()),
            ("delete.retention.ms", "300"),
            ("min.cleanable.dirty.ratio", "0.0"),
        ],
    );
    // Batches of all codecs and of an idempotent producer, keys that come again in the same batch and later, and
    // tombstones: of keys that come back, and of keys that do not.
    let mut seed = 7;
    let mut expected: BTreeMap<Key, Survivor> = BTreeMap::new();
    let mut offset = 0;
    let mut sequence = 0;
    for round in 0..120_u32 {
        let codec = Codec::ALL[round as usize % 5];
        let mut builder = BatchBuilder::new().codec(codec);
        if round % 3 == 0 {
            builder = builder.producer(7_000_000, 0, sequence);
        }
        let count = 1 + next_random(&mut seed) % 12;
        for at in 0..count {
            let key = format!("key-{}", next_random(&mut seed) % 40).into_bytes();
            let len = next_random(&mut seed) % 200;
            let value =
                (!next_random(&mut seed).is_multiple_of(4)).then(|| vec![b'a' + (round % 26) as u8; len as usize]);
            let timestamp = now_ms() - 60_000 + i64::from(round);
            let header: &[(&[u8], Option<&[u8]>)] = &[(b"round", Some(b"x"))];
            let headers = if at % 2 == 0 { header } else { &[] };
            builder.push(NewRecord { timestamp, key: Some(&key), value: value.as_deref(), headers });
            expected.insert(key, Survivor { offset: offset + at as i64, timestamp, value });
        }
        let (code, base) = client.produce(&topic, 0, builder.build());
        assert_eq!((code, base), (0, offset));
        if round % 3 == 0 {
            sequence += count as i32;
        }
        offset += count as i64;
    }
    let work_end = offset;
    push_out(&mut client, &topic, SEGMENT_BYTES);
    let of_work = |found: Vec<(Key, Survivor)>| -> Vec<(Key, Survivor)> {
        found.into_iter().filter(|(_, survivor)| survivor.offset < work_end).collect()
    };
    let sorted = |with_tombstones: bool| -> Vec<(Key, Survivor)> {
        let mut all: Vec<_> = expected.clone().into_iter().collect();
        all.retain(|(_, survivor)| with_tombstones || survivor.value.is_some());
        all.sort_by_key(|(_, survivor)| survivor.offset);
        all
    };
    // First the latest of each key, deletions among them, is left. Then, when a later clean finds that their time has passed, the
    // deletions go as well.
    let mut last = Vec::new();
    let mut had_tombstones = false;
    wait::until("the log is compacted", Duration::from_secs(60), || {
        last = of_work(read_all(&mut client, &topic));
        had_tombstones |= last == sorted(true);
        (last.len() <= sorted(true).len()).then_some(())
    });
    wait::until("deletions are gone", Duration::from_secs(60), || {
        push_out(&mut client, &topic, SEGMENT_BYTES);
        last = of_work(read_all(&mut client, &topic));
        had_tombstones |= last == sorted(true);
        (last.len() <= sorted(false).len()).then_some(())
    });
    assert_eq!(last, sorted(false), "what is left is not what the rules keep");
    assert!(had_tombstones, "deletions were to be seen for as long as delete.retention.ms says");
    // What was compacted away is passed over: from any offset the next that is there.
    for from in [0, work_end / 3, work_end / 2, work_end - 1] {
        let answer = client.fetch(&topic, 0, from);
        let records = answer.records.unwrap_or_default();
        let first = BatchView::first(&records).unwrap();
        assert!(answer.error_code == 0 && first.last_offset().0 >= from, "{from}: {first:?}");
    }
}

/// The `.log` files of a partition: first offsets and bytes, in order.
fn log_files(dir: &Path) -> Vec<(i64, u64)> {
    let files = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let mut logs: Vec<_> = files
        .filter_map(|file| {
            let first = file.file_name().to_str()?.strip_suffix(".log")?.parse().ok()?;
            Some((first, file.metadata().ok()?.len()))
        })
        .collect();
    logs.sort_unstable();
    logs
}

#[test]
fn committed_offsets_do_not_grow_for_ever() {
    let settings = options()
        .set("offsets.topic.num.partitions=1")
        .set("offsets.topic.replication.factor=1")
        .set("offsets.topic.segment.bytes=1048576");
    let mut broker = Broker::with(settings);
    if !broker.is_corelog() {
        return;
    }
    let mut client = Client::to(broker.addresses()[0]);
    client.create_with("t", 3, &[]);
    let group = GroupId(text("g"));
    let found = FindCoordinatorRequest::default().with_key(text("g"));
    wait::until("there is a coordinator", Duration::from_secs(30), || {
        (client.ask_as_the_crate(3, &found).error_code == 0).then_some(())
    });
    let metadata = "m".repeat(4000);
    let mut commit = |offset: i64| {
        let partitions = (0..3)
            .map(|partition| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset + i64::from(partition))
                    .with_committed_metadata(Some(text(&metadata)))
            })
            .collect();
        let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(partitions);
        let request = OffsetCommitRequest::default().with_group_id(group.clone()).with_topics(vec![topic]);
        wait::until("the commit is taken", Duration::from_secs(30), || {
            let answer = client.ask_as_the_crate(7, &request);
            answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0).then_some(())
        });
    };
    let dir = broker.data_dir().join("__consumer_offsets-0");
    // Twelve kilobytes each: six segments' worth.
    (0..550).for_each(&mut commit);
    let at = 550;
    let data_dir = broker.data_dir().to_path_buf();
    wait::until("all but the last segment are compacted", Duration::from_secs(60), || {
        let checkpoint = std::fs::read_to_string(data_dir.join("cleaner-offset-checkpoint")).ok()?;
        let last = log_files(&dir).last()?.0;
        (checkpoint == format!("0\n1\n__consumer_offsets 0 {last}\n")).then_some(())
    });
    broker.stop();
    let stopped: u64 = log_files(&dir).iter().map(|(_, bytes)| bytes).sum();
    assert!(stopped < 3 << 19, "{stopped} bytes of {} that were committed are read at the next start", at * 12_400);
    broker.launch();
    let committed = harness::records::committed(&broker.bootstrap(), "g", "t", 3);
    assert_eq!(committed, [Some(at - 1), Some(at), Some(at + 1)]);
}

#[test]
fn kills_in_the_middle_of_a_clean_lose_nothing() {
    // Slow, so that most kills come in the middle of one.
    let settings = options().set("log.cleaner.io.max.bytes.per.second=3000000").journal(2 << 20);
    let mut broker = Broker::with(settings);
    if !broker.is_ours() || !broker.is_corelog() {
        return;
    }
    let kills = crash::number("CORELOG_TEST_KILLS", 6);
    let mut seed = crash::number("CORELOG_TEST_SEED", u64::from(std::process::id()));
    println!("replay with CORELOG_TEST_SEED={seed} CORELOG_TEST_KILLS={kills} cargo test --test compaction");
    let options =
        [("cleanup.policy", "compact"), ("internal.segment.bytes", "100000"), ("delete.retention.ms", "3600000")];
    Client::to(broker.addresses()[0]).create_with("c", 1, &options);
    // The last acknowledged record of each key, and all offsets that a key was ever written at.
    let mut latest: BTreeMap<Key, Survivor> = BTreeMap::new();
    for kill in 0..=kills {
        let mut client = Client::to(broker.addresses()[0]);
        client.wait_for("c", 1);
        // What survived the kill: of each key the last record is the last that was acknowledged.
        let survivors: BTreeMap<Key, Survivor> = read_all(&mut client, "c").into_iter().collect();
        assert_eq!(survivors, latest, "after {kill} kills");
        if kill == kills {
            break;
        }
        for _ in 0..12 {
            let mut builder = BatchBuilder::new().codec(Codec::ALL[next_random(&mut seed) as usize % 5]);
            let mut batch = Vec::new();
            for _ in 0..60 {
                let key = format!("{}", next_random(&mut seed) % 100).into_bytes();
                let value = (!next_random(&mut seed).is_multiple_of(5))
                    .then(|| (0..400).map(|_| next_random(&mut seed) as u8).collect::<Vec<u8>>());
                let timestamp = now_ms();
                builder.push(NewRecord { timestamp, key: Some(&key), value: value.as_deref(), headers: &[] });
                batch.push((key, timestamp, value));
            }
            let (code, base) = client.produce("c", 0, builder.build());
            assert_eq!(code, 0);
            for (at, (key, timestamp, value)) in batch.into_iter().enumerate() {
                latest.insert(key, Survivor { offset: base + at as i64, timestamp, value });
            }
        }
        // Some time later, while it cleans: a segment of that size takes it two tenths of a second.
        std::thread::sleep(Duration::from_millis(next_random(&mut seed) % 900));
        broker.kill();
        broker.launch();
    }
    // And the clean comes to its end when nobody kills it.
    let mut client = Client::to(broker.addresses()[0]);
    let written = latest.values().map(|survivor| survivor.offset).max().unwrap_or(0);
    wait::until("the log is compacted", Duration::from_secs(60), || {
        let found = read_all(&mut client, "c");
        let compacted = (found.len() as i64) < written / 2;
        assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), latest);
        compacted.then_some(())
    });
}
