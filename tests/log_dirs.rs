//! Several data directories: partitions are spread over them, stay where they are, and only those of a directory that
//! fails are lost to clients.
//!
//! With `CORELOG_TEST_BROKER=kafka` the conversations that need no corelog run against Apache Kafka.

mod harness;

use corelog::record::{Codec, Scratch, iterate};
use harness::broker::{Broker, Kind, Options, allowed_cpus, free_ports, serve_command};
use harness::client::{Client, batch, name, now_ms, text};
use harness::drive::{Drive, SmallFileSystem, in_own_namespace};
use harness::program::{Program, run};
use harness::wait::{PATIENCE, seconds};
use harness::{unique, wait};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const NONE: i16 = 0;
/// NOT_LEADER_OR_FOLLOWER: a core that starts may open its partitions after another one serves clients.
const NOT_YET: i16 = 6;
/// LEADER_NOT_AVAILABLE: what Metadata says of a partition whose directory has failed.
const NO_LEADER: i16 = 5;
const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
const ELIGIBLE_LEADERS_NOT_AVAILABLE: i16 = 83;
/// KAFKA_STORAGE_ERROR: what the others say of it.
const STORAGE: i16 = 56;

/// A broker on several directories, and a client. One core: every partition is behind one connection.
struct Test {
    broker: Broker,
    client: Client,
    /// Values of records by topic and partition, in order.
    produced: BTreeMap<(String, i32), Vec<String>>,
}

/// The directories `data`, `b`, `c`, … of a folder.
fn dirs(folder: &Path, count: usize) -> Vec<PathBuf> {
    ["data", "b", "c", "d"][..count].iter().map(|name| folder.join(name)).collect()
}

fn list(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.to_str().unwrap()).collect::<Vec<_>>().join(",")
}

fn options(folder: &Path, dirs: &[PathBuf]) -> Options {
    let cores = allowed_cpus().into_iter().take(1).collect();
    Options { data_in: Some(folder.to_owned()), cores, ..Options::default() }
        .set(&format!("log.dirs={}", list(dirs)))
        .set("offsets.topic.num.partitions=2")
}

impl Test {
    fn new(options: Options) -> Test {
        let broker = Broker::with(options);
        let client = Client::to(broker.addresses()[0]);
        Test { broker, client, produced: BTreeMap::new() }
    }

    fn produce(&mut self, topic: &str, partition: i32) -> i16 {
        let of = (topic.to_string(), partition);
        let value = format!("{topic}-{partition}:{}", self.produced.get(&of).map_or(0, Vec::len));
        let code = wait::until("a partition that is open", seconds(60), || {
            let one = batch(Codec::None, now_ms(), &[value.as_bytes()]);
            let (code, _) = self.client.produce(topic, partition, one);
            (code != NOT_YET).then_some(code)
        });
        if code == NONE {
            self.produced.entry(of).or_default().push(value);
        }
        code
    }

    /// A topic whose partitions hold some records each.
    fn create(&mut self, topic: &str, partitions: i32) {
        self.client.create_with(topic, partitions, &[]);
        for partition in (0..partitions).flat_map(|partition| [partition; 3]) {
            assert_eq!(self.produce(topic, partition), NONE);
        }
    }

    /// Starts it again, on these directories, after `stop`.
    fn again(&mut self, dirs: &[PathBuf]) {
        self.broker.options.settings.push(format!("log.dirs={}", list(dirs)));
        self.broker.launch();
        self.client = Client::to(self.broker.addresses()[0]);
        let topics: BTreeMap<String, usize> =
            self.produced.keys().map(|(topic, number)| (topic.clone(), *number as usize + 1)).collect();
        for (topic, partitions) in topics {
            let shown = wait::until(&topic, seconds(60), || {
                let shown = self.client.metadata(12, &topic);
                (shown.partitions.len() >= partitions).then_some(shown)
            });
            assert_eq!(shown.error_code, NONE);
        }
    }

    fn read(&mut self, topic: &str, partition: i32, from: i64) -> Result<Vec<String>, i16> {
        let (mut values, mut offset) = (Vec::new(), from);
        loop {
            let got = wait::until("a partition that is open", seconds(60), || {
                let got = self.client.fetch(topic, partition, offset);
                (got.error_code != NOT_YET).then_some(got)
            });
            if got.error_code != NONE {
                return Err(got.error_code);
            }
            let records = got.records.unwrap_or_default();
            let before = offset;
            for found in iterate(&records).map_while(Result::ok) {
                let mut scratch = Scratch::new();
                let mut walk = found.records(&mut scratch).unwrap();
                while let Some(record) = walk.next().unwrap() {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
                offset = found.last_offset().0 + 1;
            }
            if offset == before {
                return Ok(values);
            }
        }
    }

    /// All that was acknowledged is there, in order, of partitions that are not in `but`.
    fn check_but(&mut self, but: &BTreeSet<(String, i32)>) {
        for ((topic, partition), values) in self.produced.clone() {
            if !but.contains(&(topic.clone(), partition)) {
                assert_eq!(self.read(&topic, partition, 0), Ok(values), "{topic}-{partition}");
            }
        }
    }

    fn check(&mut self) {
        self.check_but(&BTreeSet::new());
    }

    /// The code of each directory, and what partitions lie in it.
    fn described(&mut self) -> BTreeMap<PathBuf, (i16, BTreeSet<(String, i32)>)> {
        let answer = self.client.ask(4, &DescribeLogDirsRequest::default().with_topics(None));
        assert_eq!(answer.error_code, NONE);
        let dirs = answer.results.into_iter().map(|dir| {
            let partitions = dir.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
            });
            (PathBuf::from(dir.log_dir.as_str()), (dir.error_code, partitions.collect()))
        });
        dirs.collect()
    }

    /// How many partitions of a topic lie in each directory.
    fn counts(&mut self, topic: &str, dirs: &[PathBuf]) -> Vec<usize> {
        let described = self.described();
        dirs.iter().map(|dir| described[dir].1.iter().filter(|(of, _)| of == topic).count()).collect()
    }

    fn dir_of(&mut self, topic: &str, partition: i32) -> PathBuf {
        let wanted = (topic.to_string(), partition);
        let described = self.described();
        let held: Vec<_> = described.into_iter().filter(|(_, (_, partitions))| partitions.contains(&wanted)).collect();
        assert_eq!(held.len(), 1, "{topic}-{partition} is in {held:?}");
        held[0].0.clone()
    }

    /// The partitions of the directories that are not among `lost`.
    fn of(&mut self, lost: &[PathBuf]) -> BTreeSet<(String, i32)> {
        let described = self.described();
        lost.iter().flat_map(|dir| described[dir].1.iter().cloned()).collect()
    }

    /// That these partitions are offline, all others as ever, and new ones made elsewhere.
    fn check_offline(&mut self, lost: &[PathBuf], offline: &BTreeSet<(String, i32)>, dirs: &[PathBuf]) {
        for (topic, partition) in offline {
            wait::until("the partition without a leader", seconds(60), || {
                let shown = self.client.metadata(12, topic);
                let shown = shown.partitions.iter().find(|shown| shown.partition_index == *partition).unwrap();
                (shown.error_code == NO_LEADER && shown.leader_id.0 == -1).then_some(())
            });
            assert_eq!(self.produce(topic, *partition), STORAGE, "{topic}-{partition}");
            assert_eq!(self.read(topic, *partition, 0), Err(STORAGE), "{topic}-{partition}");
        }
        let described = self.described();
        for dir in dirs {
            let expected = if lost.contains(dir) { STORAGE } else { NONE };
            assert_eq!(described[dir].0, expected, "{}", dir.display());
        }
        self.check_but(offline);
        let others: Vec<_> = self.produced.keys().filter(|of| !offline.contains(of)).cloned().collect();
        for (topic, partition) in others {
            assert_eq!(self.produce(&topic, partition), NONE, "{topic}-{partition}");
        }
        let new = unique("elsewhere");
        let left = dirs.len() - lost.len();
        self.create(&new, 2 * left as i32);
        let counts = self.counts(&new, dirs);
        for (dir, count) in dirs.iter().zip(counts) {
            assert_eq!(count > 0, !lost.contains(dir), "{}", dir.display());
        }
    }

    fn delete_before(&mut self, topic: &str, partition: i32, offset: i64) {
        let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        assert_eq!(self.client.ask(2, &request).topics[0].partitions[0].error_code, NONE);
    }
}

#[test]
fn partitions_are_spread_and_stay_where_they_are() {
    let folder = harness::folder();
    let three = dirs(folder.path(), 3);
    let mut test = Test::new(options(folder.path(), &three));
    if !test.broker.is_ours() {
        return;
    }
    let (first, second) = (unique("first"), unique("second"));
    test.create(&first, 9);
    assert_eq!(test.counts(&first, &three), [3, 3, 3]);
    let places = test.described();
    for partition in 0..3 {
        test.delete_before(&first, partition, 1);
    }
    let starts = |test: &mut Test| (0..4).map(|partition| test.client.earliest(&first, partition)).collect::<Vec<_>>();
    test.broker.stop();
    test.again(&three);
    assert_eq!((test.described(), starts(&mut test)), (places.clone(), vec![1, 1, 1, 0]));
    for partition in 0..9 {
        assert_eq!(test.produce(&first, partition), NONE);
    }
    test.broker.kill();
    test.again(&three);
    assert_eq!((test.described(), starts(&mut test)), (places, vec![1, 1, 1, 0]));
    for partition in 0..3 {
        test.produced.get_mut(&(first.clone(), partition)).unwrap().remove(0);
        let values = test.produced[&(first.clone(), partition)].clone();
        assert_eq!(test.read(&first, partition, 1), Ok(values));
        test.produced.remove(&(first.clone(), partition));
    }
    test.check();
    test.broker.stop();
    if !test.broker.is_corelog() {
        return;
    }
    // A drive more: new partitions go there first.
    let four = dirs(folder.path(), 4);
    test.again(&four);
    test.create(&second, 3);
    assert_eq!(test.counts(&second, &four), [0, 0, 0, 3]);
    test.check();

    // Where the files are is where the partition is, whatever the metadata says.
    let moved = four.iter().find(|dir| **dir != test.dir_of(&first, 5)).unwrap().clone();
    let before = test.dir_of(&first, 5).join(format!("{first}-5"));
    let after = moved.join(format!("{first}-5"));
    test.broker.stop();
    std::fs::rename(&before, &after).unwrap();
    test.again(&four);
    assert_eq!(test.dir_of(&first, 5), moved);
    test.check();
    assert_eq!(test.produce(&first, 5), NONE);
    test.broker.kill();
    test.again(&four);
    assert_eq!(test.dir_of(&first, 5), moved);
    test.check();
    test.broker.stop();

    // Looked at from outside: all is there, and one directory alone is not enough.
    let log = |what: &[&str], dirs: &[PathBuf]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelog"));
        let ended = Program::start(command.arg("log").args(what).args(dirs)).end(PATIENCE);
        (ended.status.code(), format!("{}{}", ended.output, ended.errors))
    };
    let (code, said) = log(&["verify"], &four);
    // With the metadata log.
    assert!(code == Some(0) && said.contains("13 partitions") && said.contains("0 damaged, 0 notes"), "{said}");
    let (code, said) = log(&["repair"], &four);
    assert!(code == Some(0) && said.contains("done; 0 places are damaged"), "{said}");
    for what in [&["verify"][..], &["repair"]] {
        let (code, said) = log(what, &four[1..]);
        assert!(code == Some(3) && said.contains("there is no metadata log"), "{said}");
    }
    refused(&four[1..], &[], &["there is no metadata log"]);

    // Twice: nobody knows which is right.
    let copied = std::process::Command::new("cp").arg("-r").arg(&after).arg(&before).status().unwrap();
    assert!(copied.success());
    refused(&four, &[], &["there twice", before.to_str().unwrap(), after.to_str().unwrap()]);
    let (code, said) = log(&["verify"], &four);
    assert!(code == Some(1) && said.contains("the partition is there twice"), "{said}");
    std::fs::remove_dir_all(&before).unwrap();
    test.again(&four);
    test.check();
}

/// Starts a broker that has to refuse these directories with all the words in one line.
fn refused(dirs: &[PathBuf], more: &[&str], words: &[&str]) {
    let listeners = format!("PLAINTEXT://127.0.0.1:{}", free_ports(2));
    let mut command = serve_command(&Kind::Corelog, Path::new("nowhere"), &listeners);
    command.args(["--set", &format!("log.dirs={}", list(dirs))]).args(more);
    let ended = Program::start(&mut command).end(PATIENCE);
    assert!(!ended.status.success(), "{}", ended.errors);
    let last = ended.errors.lines().last().unwrap_or_default();
    assert!(words.iter().all(|word| last.contains(word)), "{words:?}: {}", ended.errors);
}

/// All files below a directory with their sizes, without the lock.
fn tree(dir: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(tree(&entry.path())),
            false => drop(found.insert((entry.path(), entry.metadata().unwrap().len()))),
        }
    }
    found.retain(|(path, _)| !path.ends_with(".lock"));
    found
}

#[test]
fn directories_that_do_not_belong_together_are_refused_as_they_are() {
    if Kind::from_environment() != Kind::Corelog {
        return;
    }
    let folder = harness::folder();
    let path = |name: &str| folder.path().join(name);
    let format = |dirs: &[PathBuf], node: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelog"));
        command.args(["format", "--node-id", node, "--data-dir", &list(dirs)]);
        let ended = Program::start(&mut command).end(PATIENCE);
        assert!(ended.status.success(), "{}", ended.errors);
        assert_eq!(ended.output.lines().count(), dirs.len(), "{}", ended.output);
    };
    let (a, b) = (path("a"), path("b"));
    format(&[a.clone(), b.clone()], "3");
    format(&[path("other")], "3");
    std::fs::create_dir_all(path("copy")).unwrap();
    std::fs::copy(b.join("meta.properties"), path("copy/meta.properties")).unwrap();
    std::fs::create_dir_all(path("foreign/orders-0")).unwrap();
    std::os::unix::fs::symlink(&b, path("link")).unwrap();
    let before = tree(folder.path());
    refused(&[a.clone(), path("other")], &[], &["cluster", "other"]);
    refused(&[a.clone(), b.clone(), path("copy")], &[], &["directory.id", "copy"]);
    refused(&[a.clone(), b.clone()], &["--node-id", "4"], &["node.id 3", "4"]);
    refused(&[path("new"), b.clone()], &[], &["metadata directory", "new", "is its drive mounted"]);
    refused(
        std::slice::from_ref(&b),
        &["--set", &format!("metadata.log.dir={}", path("new").display())],
        &["is its drive mounted"],
    );
    refused(&[a.clone(), a.clone()], &[], &["is there twice"]);
    assert_eq!(tree(folder.path()), before);
    refused(&[a.clone(), path("foreign")], &[], &["orders-0", "no meta.properties"]);
    // The same directory by two names has one id.
    refused(&[a.clone(), b.clone(), path("link")], &[], &["the same directory.id"]);
    std::fs::create_dir(path("empty")).unwrap();
    std::os::unix::fs::symlink(path("empty"), path("link-2")).unwrap();
    refused(&[a, path("empty"), path("link-2")], &[], &["are the same"]);
}

#[test]
fn a_directory_that_is_missing_at_the_start_takes_only_its_own_partitions() {
    let folder = harness::folder();
    let three = dirs(folder.path(), 3);
    let mut test = Test::new(options(folder.path(), &three));
    if !test.broker.is_corelog() {
        return;
    }
    let topic = unique("topic");
    test.create(&topic, 9);
    let lost = [three[1].clone()];
    let offline = test.of(&lost);
    assert!(offline.len() >= 3, "{offline:?}");
    let away = folder.path().join("away");
    test.broker.expect_error("a data directory cannot be used");
    for kill in [true, false] {
        if kill {
            test.broker.kill()
        } else {
            test.broker.stop()
        };
        // As good as a mount that is not there.
        std::fs::rename(&three[1], &away).unwrap();
        std::fs::write(&three[1], b"").unwrap();
        test.again(&three);
        test.check_offline(&lost, &offline, &three);
        if kill {
            test.broker.kill()
        } else {
            test.broker.stop()
        };
        std::fs::remove_file(&three[1]).unwrap();
        std::fs::rename(&away, &three[1]).unwrap();
        test.again(&three);
        test.check();
        for (topic, partition) in &offline {
            assert_eq!(test.produce(topic, *partition), NONE);
        }
    }
    test.broker.stop();
    // Without that of the metadata, or without any, nothing goes.
    std::fs::rename(&three[0], &away).unwrap();
    std::fs::write(&three[0], b"").unwrap();
    refused(&three, &[], &["meta.properties"]);
    refused(&[folder.path().join("data/x")], &[], &["meta.properties"]);
    std::fs::remove_file(&three[0]).unwrap();
    std::fs::rename(&away, &three[0]).unwrap();
    test.again(&three);
    test.check();
}

#[test]
fn a_partition_that_the_metadata_does_not_have_is_set_aside() {
    let folder = harness::folder();
    let one = dirs(folder.path(), 1);
    let mut test = Test::new(options(folder.path(), &one));
    if !test.broker.is_corelog() {
        return;
    }
    let topic = unique("known");
    test.create(&topic, 2);
    let known = one[0].join(format!("{topic}-0"));
    let long = format!("{}-0", "l".repeat(249));
    let other = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ\n";
    let copy = |name: &str, id: Option<&str>| {
        let dir = one[0].join(name);
        std::fs::create_dir(&dir).unwrap();
        for file in std::fs::read_dir(&known).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, dir.join(file.file_name().unwrap())).unwrap();
        }
        if let Some(id) = id {
            std::fs::write(dir.join("partition.metadata"), id).unwrap();
        }
    };
    let files = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let file =
            |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        std::fs::read_dir(dir).unwrap().map(|entry| file(entry.unwrap())).collect()
    };
    let strays = || -> Vec<PathBuf> {
        let all = std::fs::read_dir(&one[0]).unwrap().map(|entry| entry.unwrap().path());
        let mut strays: Vec<_> = all.filter(|path| path.to_str().unwrap().ends_with("-stray")).collect();
        strays.sort();
        strays
    };
    test.broker.stop();
    // Of another topic, also one of the longest name, and a partition that its topic does not have.
    let beyond = format!("{topic}-7");
    let cases = [("another-0", Some(other)), (&long, Some(other)), (&beyond, None)];
    for (name, id) in cases {
        copy(name, id);
    }
    let before: BTreeSet<_> = cases.iter().map(|(name, _)| files(&one[0].join(name))).collect();
    for kill in [true, false] {
        test.again(&one);
        test.check();
        let strays = strays();
        assert_eq!(strays.len(), cases.len(), "{strays:?}");
        assert_eq!(strays.iter().map(|path| files(path)).collect::<BTreeSet<_>>(), before);
        for (name, _) in cases {
            assert!(!one[0].join(name).exists(), "{name}");
            let begin: String = name.chars().take(210).collect();
            assert!(strays.iter().any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begin)));
        }
        if kill { test.broker.kill() } else { test.broker.stop() }
    }
}

#[test]
fn a_drive_that_fails_takes_only_its_own_partitions() {
    if !in_own_namespace("a_drive_that_fails_takes_only_its_own_partitions") {
        return;
    }
    if Kind::from_environment() != Kind::Corelog {
        return;
    }
    let folder = harness::folder();
    let mut drive = Drive::new("ext4");
    let mut three = dirs(folder.path(), 3);
    three[1] = drive.mounted().join("data");
    // Two cores: the one that does not meet the failure has to learn of it.
    let cores = allowed_cpus().into_iter().take(2).collect();
    let options = Options { cores, advertise: "host", ..options(folder.path(), &three) };
    let mut test = Test::new(options);
    let topic = unique("topic");
    test.create(&topic, 12);
    let lost = [three[1].clone()];
    let offline = test.of(&lost);
    for expected in ["goes offline", "without a journal", "has failed", "cannot be used", "close a partition"] {
        test.broker.expect_error(expected);
    }
    drive.cut(&mut 0x5eed);
    let (hit, partition) = offline.first().unwrap().clone();
    assert_eq!(test.produce(&hit, partition), STORAGE);
    test.check_offline(&lost, &offline, &three);
    assert_eq!(test.broker.log().matches("the data directory").count(), 1, "it is said once");
    // A start with the drive as it is now.
    test.broker.stop();
    test.again(&three);
    test.check_offline(&lost, &offline, &three);
    test.broker.kill();
    // And with the drive back, less what its cache lost: all of it that was acknowledged.
    drive.restore();
    test.again(&three);
    test.check();
    for (topic, partition) in &offline {
        assert_eq!(test.produce(topic, *partition), NONE);
    }
    test.check();
    test.broker.stop();
}

#[test]
fn without_the_metadata_directory_the_process_stops() {
    if !in_own_namespace("without_the_metadata_directory_the_process_stops") {
        return;
    }
    if Kind::from_environment() != Kind::Corelog {
        return;
    }
    let folder = harness::folder();
    let mut drive = Drive::new("ext4");
    // Among log.dirs with another one, outside of them, and the only one.
    for metadata_is in ["one of two", "outside", "the only one"] {
        let mut two = dirs(&folder.path().join(metadata_is), 2);
        std::fs::create_dir_all(two[0].parent().unwrap()).unwrap();
        let on_drive = drive.mounted().join(metadata_is);
        match metadata_is {
            "outside" => {}
            "one of two" => two[0] = on_drive.clone(),
            _ => two = vec![on_drive.clone()],
        }
        let mut options = options(folder.path(), &two);
        if metadata_is == "outside" {
            options = options.set(&format!("metadata.log.dir={}", on_drive.display()));
        }
        let mut test = Test::new(options);
        test.create("topic", 4);
        drive.cut(&mut 0x5eed);
        for expected in ["goes offline", "without a journal", "has failed", "have failed", "close", "metadata log"] {
            test.broker.expect_error(expected);
        }
        // A change of the metadata, and records: one of them meets the drive. There may be no answer.
        let address = test.broker.addresses()[0];
        let met = std::thread::spawn(move || {
            let created = std::panic::catch_unwind(|| Client::to(address).create_with("another", 1, &[]));
            created.is_err()
        });
        let status = test.broker.ended(PATIENCE);
        assert_eq!(status.code(), Some(1), "{metadata_is}: {}", test.broker.log());
        let log = test.broker.log();
        let last = log.lines().rfind(|line| line.contains("corelog:")).unwrap_or_default();
        assert!(last.contains("metadata directory") && last.contains("has failed"), "{metadata_is}: {log}");
        assert!(met.join().unwrap());
        drive.restore();
        test.broker.launch();
        test.client = Client::to(test.broker.addresses()[0]);
        test.client.wait_for("topic", 4);
        test.check();
        test.broker.stop();
    }
}

#[test]
fn a_full_drive_refuses_its_own_partitions_records_only() {
    if !in_own_namespace("a_full_drive_refuses_its_own_partitions_records_only") {
        return;
    }
    let Some(drive) = SmallFileSystem::new("ext4", 96 << 20) else { return };
    let folder = harness::folder();
    let mut two = dirs(folder.path(), 2);
    two[1] = drive.mounted().join("data");
    let options = options(folder.path(), &two)
        .set("log.dir.reserved.bytes=2097152")
        .set("log.segment.bytes=1048576")
        .set("log.segment.delete.delay.ms=0");
    let mut test = Test::new(options);
    if !test.broker.is_corelog() {
        return;
    }
    let (topic, filler) = (unique("topic"), unique("filler"));
    test.create(&topic, 2);
    test.create(&filler, 2);
    let full: i32 = (0..2).find(|partition| test.dir_of(&filler, *partition) == two[1]).unwrap();
    let large = vec![0x5a; 500_000];
    let code = (0..2 * drive.free() / 500_000)
        .map(|_| test.client.produce(&filler, full, batch(Codec::None, now_ms(), &[&large])).0)
        .find(|code| *code != NONE);
    assert_eq!(code, Some(STORAGE), "{} bytes are free", drive.free());
    let other = (0..2).find(|partition| test.dir_of(&topic, *partition) == two[0]).unwrap();
    for _ in 0..100 {
        assert_eq!(test.produce(&topic, other), NONE);
    }
    // Nothing has failed: it is full.
    let described = test.described();
    assert_eq!((described[&two[0]].0, described[&two[1]].0), (NONE, NONE));
    assert_eq!(described[&two[1]].1.len(), described[&two[0]].1.len());
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name(&filler)]).with_timeout_ms(30_000);
    assert_eq!(test.client.ask(5, &request).responses[0].error_code, NONE);
    test.produced.retain(|(of, _), _| *of != filler);
    wait::until("space", seconds(60), || (test.produce(&topic, 1 - other) == NONE).then_some(()));
    test.check();
    test.broker.stop();
}

/// What `corelog debug dirs` says of directories of which the second has failed.
fn debug_says_it(dirs: &[PathBuf], lost: &BTreeSet<i32>) {
    let debug = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelog"));
        run(command.args(["debug", "dirs", "--data-dir"]).arg(&dirs[0]).args(more), PATIENCE)
    };
    let report: serde_json::Value = serde_json::from_str(&debug(&["--json"])).unwrap();
    assert_eq!((&report["offline_directories"], &report["offline_partitions"]), (&1.into(), &lost.len().into()));
    for (at, dir) in dirs.iter().enumerate() {
        let (shown, is_lost) = (&report["directories"][at], at == 1);
        assert_eq!((shown["path"].as_str(), shown["offline"].as_bool()), (dir.to_str(), Some(is_lost)), "{report}");
        assert_eq!(
            (shown["has_metadata"].as_bool(), shown["reason"].is_string()),
            (Some(at == 0), is_lost),
            "{report}"
        );
        let held = if is_lost { (0, lost.len() as u64) } else { (2, 0) };
        assert_eq!((shown["partitions"].as_u64(), shown["offline_partitions"].as_u64()), (Some(held.0), Some(held.1)));
    }
    let said = debug(&[]);
    assert!(said.contains("offline: directories 1, partitions 2"), "{said}");
    let line =
        said.lines().find(|line| line.starts_with(dirs[1].to_str().unwrap())).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" offline ") && line.contains("error"), "{said}");
}

/// What a client that asks hears of a partition, everything but Metadata: the codes.
fn codes_of(test: &mut Test, topic: &str, partition: i32, dirs: &[&Path]) -> BTreeSet<i16> {
    let client = &mut test.client;
    let mut codes = BTreeSet::from([
        client.produce(topic, partition, batch(Codec::None, now_ms(), &[b"x"])).0,
        client.fetch(topic, partition, 0).error_code,
    ]);
    for timestamp in [-2, -1, 5] {
        let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        codes.insert(client.ask(7, &request).topics[0].partitions[0].error_code);
    }
    let wanted = OffsetForLeaderPartition::default().with_partition(partition).with_current_leader_epoch(-1);
    let of = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![wanted]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![of]);
    codes.insert(client.ask(4, &request).topics[0].partitions[0].error_code);
    let wanted = DeleteRecordsPartition::default().with_partition_index(partition);
    let of = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
    let request = DeleteRecordsRequest::default().with_topics(vec![of]).with_timeout_ms(30_000);
    codes.insert(client.ask(2, &request).topics[0].partitions[0].error_code);
    for dir in dirs {
        let of = AlterReplicaLogDirTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let to = AlterReplicaLogDir::default().with_path(text(dir.to_str().unwrap())).with_topics(vec![of]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![to]);
        codes.insert(client.ask(2, &request).results[0].partitions[0].error_code);
    }
    codes
}

#[test]
fn clients_are_told_of_a_failed_directory_as_kafka_tells_them() {
    if !in_own_namespace("clients_are_told_of_a_failed_directory_as_kafka_tells_them") {
        return;
    }
    let folder = harness::folder();
    let drive = Drive::new("ext4");
    let mut two = dirs(folder.path(), 2);
    two[1] = drive.mounted().join("data");
    let mut test = Test::new(options(folder.path(), &two));
    if !test.broker.is_ours() {
        return;
    }
    for expected in ["goes offline", "without a journal", "has failed", "close a partition"] {
        test.broker.expect_error(expected);
    }
    let topic = unique("topic");
    test.client.create_with(&topic, 4, &[("flush.messages", "1")]);
    for partition in 0..4 {
        assert_eq!(test.produce(&topic, partition), NONE);
    }
    let before = test.client.metadata(12, &topic);
    let lost: BTreeSet<i32> = (0..4).filter(|partition| test.dir_of(&topic, *partition) == two[1]).collect();
    assert_eq!(lost.len(), 2);
    drive.cut(&mut 0x5eed);
    let hit = *lost.first().unwrap();
    wait::until("the directory to fail", seconds(60), || {
        assert_eq!(test.produce(&topic, hit), STORAGE);
        (test.described()[&two[1]].0 == STORAGE).then_some(())
    });
    // Whatever is asked, and wherever it is to go.
    for partition in &lost {
        assert_eq!(codes_of(&mut test, &topic, *partition, &[&two[0], &two[1]]), BTreeSet::from([STORAGE]));
    }
    let shown = wait::until("what has no leader", seconds(60), || {
        let shown = test.client.metadata(12, &topic);
        (shown.partitions.iter().filter(|partition| partition.leader_id.0 == -1).count() == 2).then_some(shown)
    });
    for (before, shown) in before.partitions.iter().zip(&shown.partitions) {
        let expected = match lost.contains(&before.partition_index) {
            false => before.clone(),
            true => before
                .clone()
                .with_error_code(NO_LEADER)
                .with_leader_id(BrokerId(-1))
                .with_leader_epoch(before.leader_epoch + 1)
                .with_isr_nodes(Vec::new())
                .with_offline_replicas(before.replica_nodes.clone()),
        };
        assert_eq!(*shown, expected);
    }
    // Page by page as well, without the error.
    let request =
        DescribeTopicPartitionsRequest::default().with_topics(vec![TopicRequest::default().with_name(name(&topic))]);
    for (described, shown) in test.client.ask(0, &request).topics[0].partitions.iter().zip(&shown.partitions) {
        assert_eq!((described.error_code, described.partition_index), (NONE, shown.partition_index));
        assert_eq!((described.leader_id, described.leader_epoch), (shown.leader_id, shown.leader_epoch));
        assert_eq!(described.offline_replicas, shown.offline_replicas);
        assert_eq!((&described.replica_nodes, &described.isr_nodes), (&shown.replica_nodes, &shown.isr_nodes));
    }
    // And nobody can be elected.
    for (kind, nobody) in [(0, PREFERRED_LEADER_NOT_AVAILABLE), (1, ELIGIBLE_LEADERS_NOT_AVAILABLE)] {
        let request = ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(None);
        let answer = test.client.ask(2, &request);
        let of = answer.replica_election_results.iter().find(|of| of.topic == name(&topic)).unwrap();
        let told: BTreeSet<_> = of.partition_result.iter().map(|of| (of.partition_id, of.error_code)).collect();
        assert_eq!(told, lost.iter().map(|partition| (*partition, nobody)).collect());
    }
    if test.broker.is_corelog() {
        debug_says_it(&two, &lost);
    }
    // Versions that cannot say it do not.
    for version in [1, 4] {
        let shown = test.client.metadata(version, &topic);
        assert!(shown.partitions.iter().all(|partition| partition.offline_replicas.is_empty()));
    }
    test.broker.stop();
}
