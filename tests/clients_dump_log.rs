//! Apache Kafka's dump-log reads what a stopped broker leaves on disk: sealed and closed segments, their indexes, the
//! producers' snapshots, committed offsets and the metadata log, all without complaint.

mod harness;

use harness::broker::Broker;
use harness::program::run;
use harness::{records, unique, wait};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What dump-log says of some files.
fn dump(files: &[PathBuf], more: &[&str]) -> String {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let mut command = Command::new(harness::source().join("scripts/kafka"));
    let output = run(command.args(["dump-log", "--files", &files.join(",")]).args(more), wait::seconds(90));
    for line in output.lines() {
        let complaints = ["isvalid: false", "mismatch", "Found", "rror", "xception", "invalid", "not "];
        assert!(!complaints.iter().any(|word| line.contains(word)), "dump-log {more:?} {files:?}: {line}");
    }
    output
}

/// The files of a directory whose names end with `end`, in their order.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(end));
    files.sort();
    files
}

#[test]
fn every_file_of_a_stopped_broker() {
    let mut broker = Broker::start();
    if !broker.is_ours() {
        return;
    }
    let (bootstrap, group) = (broker.bootstrap(), unique("dumped-group"));
    // 4 MiB in segments of 1 MiB, with each codec in turn.
    let topic = unique("dumped");
    let mut create = Command::new(harness::source().join("scripts/kafka"));
    create.args(["topics", "--bootstrap-server", &bootstrap, "--create", "--topic", &topic]);
    run(create.args(["--partitions", "1", "--config", "segment.bytes=1048576"]), wait::seconds(90));
    let count = 6000;
    for (turn, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().cycle().take(10).enumerate() {
        let mut config = records::config(&bootstrap);
        config.set("compression.type", codec).set("enable.idempotence", "true");
        let producer: BaseProducer = config.create().unwrap();
        for number in turn * count / 10..(turn + 1) * count / 10 {
            // Half as long when compressed, so that every codec is kept and the segments fill.
            let noise: String = (0..80u64)
                .map(|i| format!("{:016x}", (number as u64 * 80 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .collect();
            let key = number.to_string();
            producer.send(BaseRecord::to(&topic).key(&key).payload(&noise)).map_err(|(error, _)| error).unwrap();
            if number % 20 == 0 {
                producer.flush(wait::PATIENCE).unwrap();
            }
        }
        producer.flush(wait::PATIENCE).unwrap();
    }
    let consumer: BaseConsumer = records::config(&bootstrap).set("group.id", &group).create().unwrap();
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(&topic, 0, Offset::Offset(1234)).unwrap();
    consumer.commit(&position, CommitMode::Sync).unwrap();
    drop(consumer);
    broker.stop();

    let dir = broker.data_dir().join(format!("{topic}-0"));
    let logs = files(&dir, ".log");
    assert!(logs.len() >= 4, "the topic has {} segments", logs.len());
    let text = dump(&logs, &["--deep-iteration"]);
    // Every record, once, in order.
    let offsets = text.lines().filter_map(|line| line.trim_start().strip_prefix("| offset: ")?.split(' ').next());
    let offsets: Vec<usize> = offsets.map(|offset| offset.parse().unwrap()).collect();
    assert_eq!(offsets, (0..count).collect::<Vec<usize>>());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        assert!(text.contains(&format!("compresscodec: {codec}")), "{codec}");
    }
    dump(&files(&dir, ".index"), &["--index-sanity-check"]);
    // Compares each entry with the log.
    dump(&files(&dir, ".index"), &["--verify-index-only"]);
    dump(&files(&dir, ".timeindex"), &["--verify-index-only"]);
    let snapshots = files(&dir, ".snapshot");
    let last = snapshots.last().expect("a clean stop leaves a snapshot of the producers");
    assert_eq!(dump(std::slice::from_ref(last), &[]).matches("producerId:").count(), 10);
    for name in ["leader-epoch-checkpoint", "partition.metadata"] {
        assert!(dir.join(name).is_file(), "{name}");
    }

    // The committed offset, wherever its group was put.
    let mut found = 0;
    for number in 0..50 {
        let dir = broker.data_dir().join(format!("__consumer_offsets-{number}"));
        if dir.is_dir() && files(&dir, ".log").iter().any(|log| log.metadata().unwrap().len() > 0) {
            let text = dump(&files(&dir, ".log"), &["--offsets-decoder"]);
            found += text.lines().filter(|line| line.contains(&group) && line.contains("1234")).count();
        }
    }
    assert_eq!(found, 1, "records of the committed offset");

    let text = dump(&files(&broker.data_dir().join("__cluster_metadata-0"), ".log"), &["--cluster-metadata-decoder"]);
    let topic_record = text.lines().find(|line| line.contains("\"TOPIC_RECORD\"") && line.contains(&topic));
    assert!(topic_record.is_some(), "{text}");
}
