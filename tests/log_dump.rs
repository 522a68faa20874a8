//! Apache Kafka's own dump-log reads what our log leaves on the drive: every sealed segment while the log is in use,
//! and every segment after a clean close; batches, records, both indexes, producer snapshots.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use corelog::base::{LeaderEpoch, TopicPartition, UnixMs, Uuid};
use corelog::config::TopicConfig;
use corelog::inspect::words::{self, Detail};
use corelog::log::TailMemory;
use corelog::partition::{Acks, Partition, PartitionOptions};
use corelog::record::{BatchBuilder, Codec, NewRecord, Rules, validate};
use corelog::runtime::disk::Disk;
use corelog::runtime::{clock, run_one};

/// Batches of all codecs, of idempotent and plain producers, with rising and with jumping timestamps.
fn batch(at: usize, now: UnixMs) -> Vec<u8> {
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut builder = BatchBuilder::new().codec(codecs[at % codecs.len()]);
    if at.is_multiple_of(3) {
        builder = builder.producer(4000 + (at % 2) as i64, 0, (at / 6 * 4) as i32);
    }
    let value = vec![b'a' + (at % 26) as u8; 10 + at * 13 % 700];
    for record in 0..4 {
        let timestamp = now.0 - 100_000 + (at * 37 % 5000) as i64 + record;
        let key = format!("key-{at}-{record}");
        builder.push(NewRecord { timestamp, key: Some(key.as_bytes()), value: Some(&value), headers: &[] });
    }
    builder.build()
}

/// What dump-log says of some files. It complains on standard output, and by its exit status only when it breaks.
fn dump(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka"))
        .args(["dump-log", "--deep-iteration", "--files", &names.join(",")])
        .output()
        .expect("scripts/kafka starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for complaint in ["ismatch", "not found", "out of order", "isvalid: false", "Could not", "corrupt", "invalid bytes"]
    {
        assert!(!text.contains(complaint), "dump-log complains ({complaint}):\n{text}\n{errors}");
    }
    text
}

/// The files of a kind, by base offset.
fn files(dir: &Path, kind: &str) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == kind))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_string(), path))
        .collect()
}

/// Both say the same of what Kafka wrote: batches and records of all codecs, markers, indexes, producers.
#[test]
fn our_dump_says_what_kafkas_says() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data-dir/data");
    let mut all = Vec::new();
    for partition in [
        "codec-none-0",
        "codec-gzip-1",
        "codec-snappy-0",
        "codec-lz4-0",
        "codec-zstd-0",
        "configured-0",
        "append-time-0",
    ] {
        for kind in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            // Kafka's tool is at a loss with an empty index.
            let whole = files(&data.join(partition), kind).into_values();
            all.extend(whole.filter(|path| std::fs::metadata(path).unwrap().len() > 0));
        }
    }
    let names: Vec<String> = all.iter().map(|file| file.display().to_string()).collect();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka"))
        .args(["dump-log", "--deep-iteration", "--print-data-log", "--files", &names.join(",")])
        .output()
        .expect("scripts/kafka starts");
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    let theirs: Vec<&str> = theirs.lines().filter(|line| !line.starts_with("Dumping ")).collect();
    let mut ours = Vec::new();
    let detail = Detail { records: true, values: true, words: false };
    for path in &all {
        words::tell(path, detail, &mut |line| {
            ours.push(line.to_string());
            Ok(())
        })
        .unwrap();
    }
    ours.retain(|line| !line.starts_with("# "));
    // The producers of a snapshot have no order of their own.
    let split = |lines: Vec<String>| -> (Vec<String>, Vec<String>) {
        let (mut producers, rest): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.starts_with("producerId: "));
        producers.sort();
        (producers, rest)
    };
    let (ours, theirs) = (split(ours), split(theirs.into_iter().map(str::to_string).collect()));
    assert_eq!(ours.0, theirs.0);
    let (ours, theirs) = (ours.1, theirs.1);
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "line {at}");
    }
    assert!(ours.len() == theirs.len() && ours.len() > 500, "{} and {}", ours.len(), theirs.len());
}

#[test]
fn kafkas_dump_log_reads_our_segments() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("orders-0");
    let opened = dir.clone();
    let sealed = run_one(async move {
        let config =
            Rc::new(TopicConfig { segment_bytes: 60_000, index_interval_bytes: 1000, ..TopicConfig::default() });
        let id = TopicPartition { topic: "orders".into(), partition: 0 };
        let mut options = PartitionOptions::new(config, TailMemory::new(1 << 20));
        options.leader_epoch = LeaderEpoch(2);
        let disk = Disk::direct();
        let partition = Partition::open(&disk, &opened, id, Uuid([7; 16]), options, true).await.unwrap();
        let now = clock::unix_ms();
        let rules = Rules::default();
        let mut last = None;
        for at in 0..1000 {
            let bytes = batch(at, now);
            last = Some(partition.produce(&validate(&bytes, &rules, now, true).unwrap()).unwrap().last_offset);
            if at % 10 == 0 {
                partition.acknowledged(last.unwrap(), Acks::All).await.unwrap();
            }
        }
        partition.acknowledged(last.unwrap(), Acks::All).await.unwrap();

        // While the log is in use: all but the active segment and the one that may just be being sealed.
        let logs = files(&opened, "log");
        assert!(logs.len() > 3, "{logs:?}");
        let sealed: Vec<PathBuf> = logs.values().take(logs.len() - 2).cloned().collect();
        let copies = opened.with_file_name("in-use");
        std::fs::create_dir(&copies).unwrap();
        for kind in ["log", "index", "timeindex"] {
            for path in sealed.iter().map(|log| log.with_extension(kind)) {
                std::fs::copy(&path, copies.join(path.file_name().unwrap())).unwrap();
            }
        }
        partition.close_cleanly().await.unwrap();
        copies
    });

    for place in [&sealed, &dir] {
        let mut all = Vec::new();
        for kind in ["log", "index", "timeindex", "snapshot"] {
            all.extend(files(place, kind).into_values());
        }
        let text = dump(&all);
        if place == &dir {
            assert_eq!(text.matches("| offset: ").count(), 4000, "records of the whole log");
            assert!(text.contains("producerId: 4001"), "the snapshot names the producers:\n{text}");
        }
    }
    let snapshots = files(&dir, "snapshot");
    assert!(snapshots.len() > 1 && snapshots.contains_key("00000000000000004000"), "{snapshots:?}");
}
