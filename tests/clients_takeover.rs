//! Two data directories go from Apache Kafka to corelog and back, twice: all that a client can see stays the same, Kafka
//! has nothing to complain of, also when Kafka is killed at last, and an idempotent producer that outlives all of these brokers goes on with its sequence.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use corelog::record::iterate;
use harness::broker::{Kind, free_ports, serve_command};
use harness::program::{Ended, Program};
use harness::{wait, wire};

/// Settings that both know.
const SETTINGS: &[&str] = &["auto.create.topics.enable=false", "offsets.topic.num.partitions=3"];
/// And those of coordinators that only Kafka has.
const KAFKAS: &[&str] = &[
    "transaction.state.log.num.partitions=3",
    "share.coordinator.state.topic.num.partitions=3",
    "share.coordinator.state.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
    "log.segment.delete.delay.ms=1000",
];
/// What Kafka warns of whenever it has served before, whoever had the directory in between.
const HARMLESS: &[&str] = &[
    "Performing controller activation",
    "Attempting to close NetworkClient that has already been closed",
    "NodeToControllerChannelManager id=1 name=registration] Connection to node",
    // Of a machine that is busy with other tests.
    "org.apache.kafka.controller.EventPerformanceMonitor",
];

/// Lines that tell of something wrong.
fn complaints_of(ended: &Ended, warnings: bool) -> String {
    let lines = ended.errors.lines().chain(ended.output.lines());
    let bad = lines.filter(|line| {
        // Corelog warns when its cores have to wait for the test machine's CPUs.
        let told = line.contains("ERROR") || line.contains("panicked") || warnings && line.contains("WARN");
        told && !HARMLESS.iter().any(|harmless| line.contains(harmless))
    });
    bad.collect::<Vec<_>>().join("\n")
}

struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    client: Program,
}

impl Scene {
    /// The data directories; that of the metadata is the first.
    fn dirs(&self) -> [PathBuf; 2] {
        ["data", "b"].map(|name| self.folder.path().join(name))
    }

    /// The directory of each partition. Nobody serves them.
    fn places(&self) -> BTreeMap<String, PathBuf> {
        let mut places = BTreeMap::new();
        for dir in self.dirs() {
            for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                // What is deleted is renamed first.
                if entry.file_type().unwrap().is_dir() && !name.starts_with("__cluster") && !name.contains('.') {
                    assert_eq!(places.insert(name, dir.clone()), None, "{places:?}");
                }
            }
        }
        places
    }

    /// Starts a broker on the directories and waits until it answers.
    fn start(&self, kind: &Kind) -> Program {
        let mut command = serve_command(kind, &self.dirs()[0], &format!("PLAINTEXT://{}", self.address));
        command.args(["--cores", "2", "--set"]);
        command.arg(format!("log.dirs={}", self.dirs().map(|dir| dir.display().to_string()).join(",")));
        // It lives for seconds: what makes a JVM fast later is not worth its time.
        command.env("KAFKA_JVM", "-Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto");
        let own: &[&str] = if *kind == Kind::ApacheKafka { KAFKAS } else { &["journal.bytes.per.core=4194304"] };
        for setting in SETTINGS.iter().chain(own) {
            command.args(["--set", setting]);
        }
        let mut broker = Program::start(&mut command);
        wait::until("an answer of the broker", wait::seconds(120), || {
            assert!(broker.is_running(), "the broker ended at its start: {:?}", broker.lines());
            wire::api_versions(self.address).ok()
        });
        broker
    }

    /// Stops a broker cleanly. Gives what it said on standard error.
    fn stop(&self, kind: &Kind, broker: Program) -> String {
        broker.signal("TERM");
        let ended = broker.end(wait::seconds(120));
        let code = if *kind == Kind::ApacheKafka { 143 } else { 0 };
        assert_eq!(ended.status.code(), Some(code), "{}\n{}", ended.output, ended.errors);
        complaints_of(&ended, *kind == Kind::ApacheKafka)
    }

    fn tell(&mut self, command: &str) {
        self.client.say(command);
        let word = command.split(' ').next().unwrap();
        self.client.expect(&format!("done {word}"), wait::seconds(120));
    }

    /// All that a client sees.
    fn state(&mut self) -> String {
        let file = self.folder.path().join("state");
        self.tell(&format!("state {}", file.display()));
        compacted(&std::fs::read_to_string(file).unwrap())
    }
}

/// What compaction leaves of the compacted topic, whenever a cleaner comes by: the last record of each key, unless it
/// is a tombstone. The rest as it is.
fn compacted(state: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut inside = false;
    for line in state.lines().chain(["end"]) {
        let record = line.starts_with(|first: char| first.is_ascii_digit());
        if inside && record {
            last.insert(line.split(' ').nth(3).unwrap(), line);
            continue;
        }
        lines.extend(std::mem::take(&mut last).into_values().filter(|line| line.split(' ').nth(4) != Some("null")));
        inside = line.contains(" compacted-0 to ");
        lines.push(line);
    }
    lines.join("\n")
}

#[track_caller]
fn same(before: &str, after: &str) {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let differs = before.iter().zip(&after).position(|(one, other)| one != other);
    let at = differs.unwrap_or(before.len().min(after.len()));
    let part = |lines: &[&str]| lines[at.saturating_sub(2)..lines.len().min(at + 6)].join("\n");
    assert!(before == after, "line {at} differs; before:\n{}\nafter:\n{}", part(&before), part(&after));
}

/// Every partition of before is where it was.
#[track_caller]
fn stay(before: &BTreeMap<String, PathBuf>, after: &BTreeMap<String, PathBuf>) {
    let moved: Vec<_> = before.iter().filter(|(name, dir)| after.get(*name) != Some(*dir)).collect();
    assert!(moved.is_empty(), "{moved:?} are elsewhere: {after:?}");
}

/// The producer ids in a partition's batches, and the sequence numbers they begin and end with.
fn sequences(dir: &Path) -> Vec<(i64, i32, i32)> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    let bytes: Vec<u8> = logs.iter().flat_map(|log| std::fs::read(log).unwrap()).collect();
    iterate(&bytes)
        .map(|batch| {
            let batch = batch.unwrap();
            (batch.producer_id(), batch.base_sequence(), batch.last_sequence())
        })
        .collect()
}

#[test]
fn there_and_back_twice_and_once_killed() {
    if Kind::from_environment() != Kind::Corelog {
        return;
    }
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(2)));
    let java = harness::client("java");
    let mut client = Command::new("java");
    client.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
    client.arg(format!("{0}/classes:{0}/libs/*", java.display())).arg("TakeOver").arg(address.to_string());
    let (kafka, corelog) = (Kind::ApacheKafka, Kind::Corelog);
    let mut scene = Scene { folder: harness::folder(), address, client: Program::start(&mut client) };

    let mut broker = scene.start(&kafka);
    for command in ["create", "fill 1", "transactions 1", "commit 1", "groups", "delete", "trim", "commit 2"] {
        scene.tell(command);
    }
    let mut state = scene.state();
    // There is something of everything.
    for part in ["committed group-transactions codec-none-0 11 'in a transaction'", "committed group-new lasting-0 41"]
    {
        assert!(state.contains(part), "'{part}' is missing in\n{state}");
    }
    let aborted = |state: &str| state.matches("'second' 'aborted").count();
    assert_eq!(aborted(&state), 60, "aborted records are read, but not by those who read what is committed");
    scene.stop(&kafka, broker);
    let places = scene.places();
    let used: BTreeSet<&PathBuf> = places.values().collect();
    assert_eq!(used.len(), 2, "both directories hold partitions: {places:?}");

    for turn in 1..=2 {
        broker = scene.start(&corelog);
        same(&state, &scene.state());
        scene.tell(&format!("fill {}", turn * 2));
        scene.tell(&format!("commit {}", turn * 2 + 1));
        if turn == 2 {
            // A member of the classic protocol joins what was a group of the newer one.
            scene.tell("classic");
            state = scene.state();
            broker.signal("KILL");
            broker.end(wait::PATIENCE);
            broker = scene.start(&corelog);
            same(&state, &scene.state());
        }
        state = scene.state();
        let complaints = scene.stop(&corelog, broker);
        assert_eq!(complaints, "", "corelog complains");
        stay(&places, &scene.places());

        broker = scene.start(&kafka);
        same(&state, &scene.state());
        scene.tell(&format!("fill {}", turn * 2 + 1));
        scene.tell(&format!("transactions {}", turn * 2 + 1));
        scene.tell(&format!("commit {}", turn * 2 + 2));
        state = scene.state();
        if turn == 1 {
            let complaints = scene.stop(&kafka, broker);
            assert_eq!(complaints, "", "Kafka complains");
        } else {
            // Killed, with its index files as long as it allocates them, and no snapshots of producers.
            broker.signal("KILL");
            let ended = broker.end(wait::PATIENCE);
            assert_eq!(complaints_of(&ended, false), "", "Kafka complains");
        }
    }
    broker = scene.start(&corelog);
    same(&state, &scene.state());
    assert_eq!(scene.stop(&corelog, broker), "", "corelog complains");

    let after = scene.places();
    stay(&places, &after);
    let of_lasting = sequences(&after["lasting-0"].join("lasting-0"));
    assert_eq!(of_lasting.len(), 50, "batches of one record, ten in each round");
    let (producer, ..) = of_lasting[0];
    let expected: Vec<_> = (0..50).map(|number| (producer, number, number)).collect();
    assert_eq!(of_lasting, expected);
}
