//! What Apache Kafka wrote, byte for byte (`tests/golden/data-dir`): it is served, found whole, told in words; what
//! cannot be taken over is refused and left as it is; damage is found and never a panic.

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use corelog::base::{LeaderEpoch, NodeId, Offset, Uuid};
use corelog::inspect::verify::{Finding, Weight, verify};
use corelog::inspect::words::{self, Detail};
use corelog::metadata::properties;
use corelog::metadata::records::{
    ConfigRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord, TopicRecord,
};
use corelog::record::stored::Stored;
use corelog::record::stored::transaction::{Key, TransactionLogKey, TransactionLogValue};
use corelog::record::{BatchBuilder, ControlType, NewRecord, iterate};
use harness::broker::{Broker, Kind, Options};
use harness::records;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;

fn golden() -> PathBuf {
    harness::source().join("tests/golden/data-dir")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => std::fs::write(&to, std::fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

/// A copy to work on, in `data` of the folder.
fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = harness::folder();
    let data = folder.path().join("data");
    copy(&golden().join("data"), &data);
    (folder, data)
}

/// Every file with its bytes, but for the lock that a start takes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                files.insert(path.strip_prefix(dir).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn findings(data: &Path) -> Vec<Finding> {
    let properties = properties::read(data).unwrap().unwrap();
    let mut found = Vec::new();
    let sum = verify(&[(data.to_owned(), properties)], true, &mut |finding| found.push(finding.clone())).unwrap();
    assert_eq!(sum.damages + sum.notes, found.len());
    found
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn damages(data: &Path) -> Vec<Finding> {
    findings(data).into_iter().filter(|finding| finding.weight == Weight::Damage).collect()
}

fn corelog(arguments: &[&str], path: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_corelog")).args(arguments).arg(path).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn kafkas_directory_is_whole_and_looking_changes_nothing() {
    let (_folder, data) = fresh();
    let before = tree(&data);
    let (code, output, errors) = corelog(&["log", "verify"], &data);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    assert!(output.ends_with("0 damaged, 0 notes\n"), "{output}");
    assert!(!data.join(".lock").exists() && tree(&data) == before);

    // While somebody holds the lock it is not looked at.
    std::fs::write(data.join(".lock"), "").unwrap();
    let lock = corelog::runtime::DirLock::take(&data).unwrap();
    let (code, ..) = corelog(&["log", "verify"], &data);
    assert_eq!(code, Some(3));
    drop(lock);
    let log = data.join("codec-zstd-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (code, output, _) = corelog(&["log", "verify"], &data);
    let told = "damage codec-zstd-0/00000000000000000000.log: the batch at position";
    assert!(code == Some(1) && output.starts_with(told), "{code:?} {output}");
}

#[test]
fn every_flip_in_a_batch_is_found() {
    let (_folder, data) = fresh();
    let logs: Vec<PathBuf> = tree(&data)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        // A gap in offsets is none in a compacted topic.
        .filter(|path| {
            let name = path.to_string_lossy();
            !["compacted-0", "__consumer", "__transaction", "__share"].iter().any(|start| name.starts_with(start))
        })
        .collect();
    assert!(logs.len() > 15);
    let mut random = Random(7);
    for round in 0..150 {
        let log = &logs[random.below(logs.len())];
        let path = data.join(log);
        let whole = std::fs::read(&path).unwrap();
        if whole.is_empty() {
            continue;
        }
        let (at, bit) = (random.below(whole.len()), random.below(8));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        std::fs::write(&path, &flipped).unwrap();
        let found = damages(&data);
        assert!(
            found.iter().any(|finding| path.starts_with(&finding.path)),
            "round {round}: bit {bit} of byte {at} of {log:?}: {found:?}"
        );
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(findings(&data), []);
}

/// A small generator, so that a seed replays its run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn no_damage_is_a_panic() {
    let (_folder, data) = fresh();
    let files: Vec<PathBuf> = tree(&data).into_keys().filter(|path| path != Path::new("meta.properties")).collect();
    let mut random = Random(11);
    for _ in 0..120 {
        let path = data.join(&files[random.below(files.len())]);
        let whole = std::fs::read(&path).unwrap();
        let mut harmed = whole.clone();
        match random.below(4) {
            0 => harmed.truncate(random.below(whole.len() + 1)),
            1 => harmed.extend(std::iter::repeat_n(0xff, random.below(200))),
            2 => harmed.extend(vec![0; random.below(10_000)]),
            _ => {
                for _ in 0..1 + random.below(20) {
                    if !harmed.is_empty() {
                        let at = random.below(harmed.len());
                        harmed[at] = random.below(256) as u8;
                    }
                }
            }
        }
        std::fs::write(&path, harmed).unwrap();
        let _ = findings(&data);
        let all = Detail { records: true, values: true, words: true };
        words::tell(&path, all, &mut |_| Ok(())).unwrap();
        std::fs::write(&path, whole).unwrap();
    }
}

/// What a stop that was not clean leaves: a torn batch, allocated zeroes, leftovers, an index that tells of more.
fn unclean(data: &Path) {
    std::fs::remove_file(data.join(".kafka_cleanshutdown")).unwrap();
    let extend = |name: &str, more: &[u8]| {
        let path = data.join(name);
        let bytes = [&std::fs::read(&path).unwrap()[..], more].concat();
        std::fs::write(&path, bytes).unwrap();
    };
    let torn = std::fs::read(data.join("lasting-0/00000000000000000000.log")).unwrap();
    extend("lasting-0/00000000000000000000.log", &torn[torn.len() - 90..torn.len() - 20]);
    extend("codec-gzip-0/00000000000000000016.log", &[0; 5000]);
    extend("codec-gzip-0/00000000000000000016.index", &[0; 4096]);
    std::fs::write(data.join("a_b-0/00000000000000000000.log.deleted"), "x").unwrap();
    std::fs::write(data.join("a_b-0/00000000000000000000.given-up"), "").unwrap();
    std::fs::create_dir(data.join("gone-0.b652cd5b26454548a4d51e4ed7c74edd-delete")).unwrap();
}

#[test]
fn a_repair_says_what_it_does_and_does_what_a_start_does() {
    let (_folder, data) = fresh();
    unclean(&data);
    let before = tree(&data);
    let (code, said, errors) = corelog(&["log", "repair", "--dry-run"], &data);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{said}");
    assert!(tree(&data) == before, "a dry run changed something");
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "remove a_b-0/00000000000000000000.given-up: ",
        "remove a_b-0/00000000000000000000.log.deleted: ",
        "cut codec-gzip-0/00000000000000000016.log: ",
        "remove gone-0.b652cd5b26454548a4d51e4ed7c74edd-delete: ",
        "cut lasting-0/00000000000000000000.log: ",
        "the above would be done; 0 places are damaged",
    ];
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}, not {expected}");
    }

    let (code, said, errors) = corelog(&["log", "repair"], &data);
    assert_eq!(code, Some(0), "{said}\n{errors}");
    assert!(said.ends_with("done; 0 places are damaged\n"), "{said}");
    assert_eq!(findings(&data), []);
    let after = tree(&data);
    let golden = tree(&golden().join("data"));
    for (path, bytes) in golden.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log"))
    {
        if !path.starts_with("__cluster_metadata-0") {
            assert!(after.get(path) == Some(bytes), "{path:?} is not as it was");
        }
    }

    // Damage is named, and stays.
    let sealed = data.join("codec-none-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&sealed).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&sealed, &bytes).unwrap();
    let (code, said, _) = corelog(&["log", "repair"], &data);
    assert!(code == Some(1) && said.contains("damage codec-none-0/00000000000000000000.log: "), "{code:?} {said}");
    assert!(std::fs::read(&sealed).unwrap() == bytes, "damage was touched");
}

#[test]
fn what_retention_was_removing_is_no_damage() {
    let (_folder, data) = fresh();
    let dir = data.join("codec-gzip-0");
    let is_older = |name: &str| name.starts_with("00000000000000000000.");
    let older = || names(&dir).into_iter().filter(|name| is_older(name)).collect::<Vec<_>>();
    assert!(older().contains(&"00000000000000000000.log".to_string()), "{:?}", older());
    std::fs::remove_file(data.join(".kafka_cleanshutdown")).unwrap();
    std::fs::write(dir.join("00000000000000000000.log"), "half of it").unwrap();
    std::fs::write(dir.join("00000000000000000016.given-up"), "").unwrap();
    assert_eq!(damages(&data), []);
    let (code, said, errors) = corelog(&["log", "repair"], &data);
    assert_eq!((code, older()), (Some(0), Vec::new()), "{said}\n{errors}");
    assert_eq!(findings(&data), []);
}

/// What the Java client saw of each partition: `isolation partition`, then offset, time and rest of each record.
fn seen() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(golden().join("state.txt")).unwrap();
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut part = String::new();
    for line in text.lines() {
        if line.starts_with("read_") {
            part = line.split(" to ").next().unwrap().to_string();
            parts.insert(part.clone(), Vec::new());
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            parts.get_mut(&part).unwrap().push(line.to_string());
        }
    }
    parts
}

#[test]
fn words_are_what_clients_saw() {
    let mut lines = Vec::new();
    let all = Detail { records: true, values: true, words: true };
    words::tell(&golden().join("data"), all, &mut |line| {
        lines.push(line.to_string());
        Ok(())
    })
    .unwrap();
    assert!(!lines.iter().any(|line| line.starts_with("! ")), "{lines:#?}");
    let mut told: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut dir = String::new();
    for line in &lines {
        if let Some(path) = line.strip_prefix("# ") {
            dir = Path::new(path).parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        } else if line.starts_with("| offset: ") && !line.contains("endTxnMarker") {
            let words: Vec<&str> = line.split(' ').collect();
            told.entry(dir.clone()).or_default().push((words[2].to_string(), words[4].to_string()));
        }
    }
    for (part, records) in seen().iter().filter(|(part, _)| part.starts_with("read_uncommitted")) {
        let partition = part.split(' ').nth(1).unwrap();
        let first = records.first().map_or(0, |line| line.split(' ').next().unwrap().parse::<i64>().unwrap());
        let expected: Vec<_> = records
            .iter()
            .map(|line| (line.split(' ').next().unwrap().to_string(), line.split(' ').nth(2).unwrap().to_string()))
            .collect();
        let told = told.get(partition).cloned().unwrap_or_default();
        let told: Vec<_> = told.into_iter().filter(|(offset, _)| offset.parse::<i64>().unwrap() >= first).collect();
        assert_eq!(told, expected, "{partition}");
    }
    // One line of each kind, with what it has to say.
    for expected in [
        "producerId: 6 producerEpoch: 0 coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong[10]",
        "version: 0 producerId: 7 firstOffset: 11 lastOffset: 17 lastStableOffset: 18",
        "endTxnMarker: ABORT coordinatorEpoch: 0",
        "topic, partition, offset: trimmed 0 4",
        "epoch, start offset: 0 0",
        "topic_id: AAAAAAAAAAAAAAAAAAAAAQ",
        "payload: TopicRecord version 0 Topic(TopicRecord { name: \"configured\"",
        "LeaderChange LeaderChangeMessage { version: 0, leader_id: 1",
        "SnapshotHeader SnapshotHeaderRecord",
        "key: OffsetCommit(OffsetCommitKey { group: \"group-transactions\", topic: \"codec-gzip\", partition: 0 })",
        "key: ConsumerGroupMetadata(ConsumerGroupMetadataKey { group_id: \"group-new\" })",
        "key: ShareGroupMetadata(",
        "key: TransactionLog(TransactionLogKey { transactional_id: \"first-gzip\" })",
        "key: ShareSnapshot(",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "'{expected}' is not told");
    }
}

#[test]
fn it_is_served_with_aborted_transactions_left_out() {
    if Kind::from_environment() != Kind::Corelog {
        return;
    }
    let (folder, data) = fresh();
    let options = Options { data_in: Some(folder.path().to_path_buf()), ..Options::default() };
    let mut broker = Broker::with(options.set("auto.create.topics.enable=false").set("log.cleaner.enable=false"));
    assert!(broker.log().contains("was used by Apache Kafka last, and is taken over"), "{}", broker.log());
    check_served(&broker);
    // Killed: what recovery reads gives the same, with the index files it may have to make again.
    broker.kill();
    std::fs::remove_file(data.join("codec-none-0/00000000000000000016.txnindex")).unwrap();
    std::fs::write(data.join("codec-lz4-0/00000000000000000016.txnindex"), [7; 50]).unwrap();
    for name in ["codec-none-0/00000000000000000036.snapshot", "codec-lz4-0/00000000000000000036.snapshot"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    broker.launch();
    check_served(&broker);
    broker.stop();
    // A Kafka that comes next sees that the broker with that epoch has stopped, and cleanly.
    let image = corelog::inspect::metadata::load(&data).unwrap().image;
    let registered = image.broker(NodeId(1)).unwrap();
    assert!(registered.in_controlled_shutdown && registered.broker_epoch > 0);
    let marker = std::fs::read_to_string(data.join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(marker, format!(r#"{{"version":0,"brokerEpoch":{}}}"#, registered.broker_epoch));
    for codec in ["none", "lz4"] {
        let name = format!("codec-{codec}-0/00000000000000000016.txnindex");
        let kafkas = std::fs::read(golden().join("data").join(&name)).unwrap();
        assert_eq!(std::fs::read(data.join(&name)).unwrap(), kafkas, "{name}");
    }
    let found = damages(&data);
    assert!(found.is_empty(), "{found:?}");
}

fn check_served(broker: &Broker) {
    let seen = seen();
    for isolation in ["read_uncommitted", "read_committed"] {
        let mut config = records::config(&broker.bootstrap());
        config.set("isolation.level", isolation).set("group.id", "reader").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let parts: Vec<&String> = seen.keys().filter(|part| part.starts_with(&format!("{isolation} "))).collect();
        let mut list = rdkafka::TopicPartitionList::new();
        for part in &parts {
            let (topic, number) = part.split(' ').nth(1).unwrap().rsplit_once('-').unwrap();
            list.add_partition_offset(topic, number.parse().unwrap(), rdkafka::Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut read: BTreeMap<String, Vec<String>> = parts.iter().map(|part| (part.to_string(), Vec::new())).collect();
        let mut open = parts.len();
        while open > 0 {
            match consumer.poll(harness::wait::PATIENCE) {
                Some(Ok(message)) => {
                    let part = format!("{isolation} {}-{}", message.topic(), message.partition());
                    read.get_mut(&part).unwrap().push(line_of(&message));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
                other => panic!("{open} partitions open: {:?}", other.map(|got| got.map(|_| ()))),
            }
        }
        for part in parts {
            assert_eq!(read[part], seen[part], "{part}");
        }
    }
}

/// Java's CRC32.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A record as `TakeOver.java` writes it.
fn line_of(message: &rdkafka::message::BorrowedMessage) -> String {
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "null".to_string(),
        Some(bytes) if bytes.len() < 40 => format!("'{}'", String::from_utf8_lossy(bytes)),
        Some(bytes) => format!("{}:{:x}", bytes.len(), crc32(bytes)),
    };
    let (kind, time) = match message.timestamp() {
        rdkafka::Timestamp::CreateTime(time) => ("CreateTime", time),
        rdkafka::Timestamp::LogAppendTime(time) => ("LogAppendTime", time),
        rdkafka::Timestamp::NotAvailable => ("NoTimestampType", -1),
    };
    let headers: String = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| format!(" {}={}", header.key, text(header.value)))
        .collect();
    format!("{} {kind} {time} {} {}{headers}", message.offset(), text(message.key()), text(message.payload()))
}

/// Appends batches to the last segment of a partition.
fn append(data: &Path, partition: &str, batch: impl FnOnce(BatchBuilder) -> BatchBuilder) {
    let dir = data.join(partition);
    let mut logs: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    let path = logs.last().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let (next, epoch) = iterate(&bytes)
        .last()
        .map(|batch| batch.unwrap())
        .map_or((Offset(0), LeaderEpoch(0)), |batch| (batch.next_offset(), batch.leader_epoch()));
    bytes.extend(batch(BatchBuilder::new().base_offset(next).leader_epoch(epoch)).build());
    std::fs::write(path, bytes).unwrap();
}

fn append_metadata(data: &Path, records: &[MetadataRecord]) {
    append(data, "__cluster_metadata-0", |mut builder| {
        for record in records {
            let value = record.encode(record.version_at(30)).unwrap();
            builder.push(NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
        }
        builder
    });
}

fn topic_id(data: &Path, partition: &str) -> Uuid {
    let text = std::fs::read_to_string(data.join(partition).join("partition.metadata")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("topic_id: ")).unwrap().parse().unwrap()
}

/// What `serve` says of a directory that was changed like this. It must not have changed anything itself.
#[track_caller]
fn refused(change: impl FnOnce(&Path), expected: &str) {
    let (_folder, data) = fresh();
    change(&data);
    let before = tree(&data);
    let mut command = harness::broker::serve_command(&Kind::Corelog, &data, "PLAINTEXT://127.0.0.1:0");
    let output = command.args(["--cores", "1"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && errors.contains(expected), "{:?}: {errors}", output.status);
    assert!(tree(&data) == before, "something was changed");
}

#[test]
fn what_cannot_be_taken_over_is_refused_and_left_as_it_is() {
    let partition = |data: &Path, change: PartitionChangeRecord| {
        let topic_id = topic_id(data, "lasting-0");
        append_metadata(data, &[PartitionChangeRecord { topic_id, partition_id: 0, ..change }.into()]);
    };
    let open = |data: &Path| {
        let key = Key::TransactionLog(TransactionLogKey { transactional_id: "t-7".into() });
        let value = TransactionLogValue {
            transaction_status: 1,
            transaction_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let (key, value) = (key.encode().unwrap(), value.encode(1).unwrap());
        append(data, "__transaction_state-0", |mut builder| {
            builder.push(NewRecord { timestamp: 1, key: Some(&key), value: Some(&value), headers: &[] });
            builder
        });
    };
    refused(open, "transactions are open, which only Kafka's coordinator can end: t-7 (Ongoing)");
    let feature = FeatureLevelRecord { name: "later.version".into(), feature_level: 3, ..Default::default() };
    refused(|data| append_metadata(data, &[feature.into()]), "does not support finalized version 3 of later.version");
    let remote = ConfigRecord {
        resource_type: 2,
        resource_name: "lasting".into(),
        name: "remote.storage.enable".into(),
        value: Some("true".into()),
        ..Default::default()
    };
    refused(
        |data| append_metadata(data, &[remote.into()]),
        "tiered storage, of which only Kafka can read what is remote: lasting",
    );
    let replicas = PartitionChangeRecord { leader: -2, replicas: Some(vec![1, 2]), ..Default::default() };
    refused(|data| partition(data, replicas), "replicas that are not on node 1 alone: lasting-0 [1, 2]");
    let directories =
        PartitionChangeRecord { leader: -2, directories: Some(vec![Uuid([9; 16])]), ..Default::default() };
    refused(|data| partition(data, directories), "partitions lie in a log directory that is not one of these");
    let voters =
        r#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"currentVoters":[{"voterId":1},{"voterId":2}],"data_version":0}"#;
    let quorum = |data: &Path| std::fs::write(data.join("__cluster_metadata-0/quorum-state"), voters).unwrap();
    refused(quorum, "controllers [2] vote too");
    let kraft = |data: &Path| {
        append(data, "__cluster_metadata-0", |builder| {
            let mut builder = builder.control();
            // KRaftVersionRecord: version 0, kraft.version 2, no tags.
            builder.push_control(ControlType::KraftVersion, 1, &[0, 0, 0, 2, 0]);
            builder
        });
    };
    refused(kraft, "kraft.version 2, which this release does not know");
    let old = |data: &Path| {
        let path = data.join("codec-none-0/00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[16] = 1;
        std::fs::write(&path, bytes).unwrap();
    };
    refused(old, "batches of before Kafka 0.11, which only Kafka reads: codec-none-0/00000000000000000000.log");
    let twice = TopicRecord { name: "lasting".into(), topic_id: Uuid([3; 16]), ..Default::default() };
    refused(|data| append_metadata(data, &[twice.into()]), "is to be created under the name 'lasting'");
    let snapshot = |data: &Path| {
        let dir = data.join("__cluster_metadata-0");
        let mut paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let path = paths.find(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    refused(snapshot, ".checkpoint: the batch at position");
}
