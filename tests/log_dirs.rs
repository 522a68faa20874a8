//! Several data directories: partitions are spread over them, stay where they are, and only those of a directory that
//! fails are lost to clients.
//!
//! With `CORELOG_TEST_BROKER=kafka` the first of these conversations runs against Apache Kafka.

mod harness;

use corelog::record::{Codec, Scratch, iterate};
use harness::broker::{Broker, Kind, Options, allowed_cpus, free_ports, serve_command};
use harness::client::{Client, batch, name, now_ms};
use harness::program::Program;
use harness::wait::{PATIENCE, seconds};
use harness::{unique, wait};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const NONE: i16 = 0;

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
        let (code, _) = self.client.produce(topic, partition, batch(Codec::None, now_ms(), &[value.as_bytes()]));
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
            let got = self.client.fetch(topic, partition, offset);
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

    // Twice: nobody knows which is right.
    let copied = std::process::Command::new("cp").arg("-r").arg(&after).arg(&before).status().unwrap();
    assert!(copied.success());
    refused(&four, &[], &["there twice", before.to_str().unwrap(), after.to_str().unwrap()]);
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
