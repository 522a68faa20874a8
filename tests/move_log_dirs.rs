//! Partitions that go from one data directory to another, under load, with kills, to and fro.
//!
//! With `CORELOG_TEST_BROKER=kafka` the conversation runs against Apache Kafka as well. `CORELOG_TEST_KILLS` and
//! `CORELOG_TEST_SEED` are as in `kill_nine`; `CORELOG_TEST_MOVES`: so many rounds of moves before each kill.

mod harness;

use corelog::record::Codec;
use harness::broker::{Broker, Options, allowed_cpus};
use harness::client::{Client, batch, name, now_ms, text};
use harness::drive::next_random;
use harness::wait::seconds;
use harness::{crash, unique, wait};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;
const REPLICA_NOT_AVAILABLE: i16 = 9;
const STORAGE: i16 = 56;
const LOG_DIR_NOT_FOUND: i16 = 57;

/// `ConfigResource.Type`.
const BROKER: i8 = 4;

type Of = (String, i32);

/// Where a partition is, and where a copy of it is in the making.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Place {
    dir: PathBuf,
    future: Option<PathBuf>,
}

fn dirs(folder: &Path) -> [PathBuf; 2] {
    [folder.join("data"), folder.join("b")]
}

fn options(folder: &Path) -> Options {
    let [a, b] = dirs(folder);
    Options { data_in: Some(folder.to_owned()), ..Options::default() }
        .set(&format!("log.dirs={},{}", a.display(), b.display()))
        .set("offsets.topic.num.partitions=2")
}

/// A connection to each core.
fn clients(broker: &Broker) -> Vec<Client> {
    broker.addresses().into_iter().map(Client::to).collect()
}

fn places(clients: &mut [Client]) -> BTreeMap<Of, Place> {
    let mut places: BTreeMap<Of, Place> = BTreeMap::new();
    for client in clients {
        let answer = client.ask(4, &DescribeLogDirsRequest::default().with_topics(None));
        assert_eq!(answer.error_code, NONE);
        for dir in answer.results {
            assert_eq!(dir.error_code, NONE, "{}", dir.log_dir);
            for topic in &dir.topics {
                for partition in &topic.partitions {
                    let place = places.entry((topic.name.to_string(), partition.partition_index)).or_default();
                    let path = PathBuf::from(dir.log_dir.as_str());
                    match partition.is_future_key {
                        true => place.future = Some(path),
                        false => place.dir = path,
                    }
                }
            }
        }
    }
    places
}

/// Asks for the moves; gives what was answered. A partition is known by one of the cores.
fn ask(clients: &mut [Client], moves: &[(Of, PathBuf)]) -> BTreeMap<Of, i16> {
    let mut request = AlterReplicaLogDirsRequest::default();
    for ((topic, partition), to) in moves {
        let topic = AlterReplicaLogDirTopic::default().with_name(name(topic)).with_partitions(vec![*partition]);
        let dir = AlterReplicaLogDir::default().with_path(text(to.to_str().unwrap())).with_topics(vec![topic]);
        request.dirs.push(dir);
    }
    let mut codes = BTreeMap::new();
    for client in clients {
        for topic in client.ask(2, &request).results {
            for partition in topic.partitions {
                let of = (topic.topic_name.to_string(), partition.partition_index);
                let code: &mut i16 = codes.entry(of).or_insert(partition.error_code);
                if *code == REPLICA_NOT_AVAILABLE {
                    *code = partition.error_code;
                }
            }
        }
    }
    codes
}

/// Begins to move every third partition, or the next one each, to where it is not.
fn begin(clients: &mut [Client], dirs: &[PathBuf; 2], round: usize) -> BTreeMap<Of, PathBuf> {
    let other = |dir: &PathBuf| if *dir == dirs[0] { dirs[1].clone() } else { dirs[0].clone() };
    let chosen = places(clients).into_iter().enumerate().filter(|(at, _)| (at + round).is_multiple_of(3));
    let moves: Vec<_> = chosen.map(|(_, (of, place))| (of, other(&place.dir))).collect();
    let codes = ask(clients, &moves);
    for (of, _) in &moves {
        assert_eq!(codes[of], NONE, "{of:?}");
    }
    moves.into_iter().collect()
}

/// Sets the broker's bound on the bytes per second of its moves.
fn limit_moves(client: &mut Client, bytes_per_second: &str) {
    let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
    let option = AlterableConfig::default()
        .with_name(text("replica.alter.log.dirs.io.max.bytes.per.second"))
        .with_value(Some(text(bytes_per_second)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&brokers[0].node_id.0.to_string()))
        .with_configs(vec![option]);
    let answer = client.ask(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, NONE, "{answer:?}");
}

/// A move follows producers that never pause; with hundreds of megabytes on a busy machine that takes its time.
const MOVES_S_MAX: u64 = 300;

/// Waits until nothing is on its way any more.
fn settled(clients: &mut [Client]) -> BTreeMap<Of, Place> {
    wait::until("the end of all moves", seconds(MOVES_S_MAX), || {
        let places = places(clients);
        places.values().all(|place| place.future.is_none() && !place.dir.as_os_str().is_empty()).then_some(places)
    })
}

fn arrived(clients: &mut [Client], wanted: &BTreeMap<Of, PathBuf>) {
    wait::until("the partitions where they were to go", seconds(MOVES_S_MAX), || {
        let places = places(clients);
        wanted.iter().all(|(of, dir)| places[of] == Place { dir: dir.clone(), future: None }).then_some(())
    });
}

/// The directories of partitions in a data directory, by the part of their name before the first dot.
fn on_drive(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    dirs.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| !name.starts_with("__cluster")).collect()
}

#[test]
fn records_and_commits_survive_moves_and_kills() {
    let folder = harness::folder();
    let dirs = dirs(folder.path());
    let mut broker = Broker::with(options(folder.path()).journal(2 << 20).set("log.segment.bytes=1048576"));
    if !broker.is_ours() || !broker.is_corelog() {
        return;
    }
    let kills = crash::number("CORELOG_TEST_KILLS", 3);
    let rounds = crash::number("CORELOG_TEST_MOVES", 2);
    let seed = crash::number("CORELOG_TEST_SEED", u64::from(std::process::id()));
    println!("replay with CORELOG_TEST_SEED={seed} CORELOG_TEST_KILLS={kills} cargo test --test move_log_dirs");
    let (mut moves, mut round) = (0, 0);
    crash::survives(&mut broker, kills, seed, |broker, seed| {
        let mut clients = clients(broker);
        // Those that the kill before has interrupted go on by themselves.
        settled(&mut clients);
        for _ in 0..rounds {
            let wanted = begin(&mut clients, &dirs, round);
            arrived(&mut clients, &wanted);
            moves += wanted.len();
            round += 1;
        }
        begin(&mut clients, &dirs, round);
        std::thread::sleep(Duration::from_micros(next_random(seed) % 60_000));
        broker.kill();
    });
    let mut clients = clients(&broker);
    let places = settled(&mut clients);
    println!("{moves} moves and {kills} kills");
    // Nothing is left of where they were.
    let name = |(topic, partition): &Of| format!("{topic}-{partition}");
    for dir in &dirs {
        let expected: BTreeSet<String> =
            places.iter().filter(|(_, place)| place.dir == *dir).map(|(of, _)| name(of)).collect();
        wait::until("nothing but the partitions", seconds(60), || (on_drive(dir) == expected).then_some(()));
    }
    broker.stop();
    verify(&dirs);
}

#[test]
fn a_partition_goes_where_it_is_told_and_stays_there() {
    let folder = harness::folder();
    let dirs = dirs(folder.path());
    let cores = allowed_cpus().into_iter().take(1).collect();
    let mut broker = Broker::with(Options { cores, ..options(folder.path()) });
    if !broker.is_ours() {
        return;
    }
    let topic = unique("moved");
    let mut one = clients(&broker);
    one[0].create_with(&topic, 2, &[("segment.bytes", "1048576")]);
    let of = |partition: i32| (topic.clone(), partition);
    let value = vec![b'v'; 100_000];
    for _ in 0..30 {
        for partition in 0..2 {
            // Kafka shows a partition before its leader knows it.
            let code = wait::until("a leader", seconds(60), || {
                let (code, _) = one[0].produce(&topic, partition, batch(Codec::None, now_ms(), &[&value]));
                (code != NOT_LEADER).then_some(code)
            });
            assert_eq!(code, NONE);
        }
    }
    let before = settled(&mut one);
    let other = |dir: &PathBuf| if *dir == dirs[0] { dirs[1].clone() } else { dirs[0].clone() };
    let to = other(&before[&of(0)].dir);
    // As slow as can be: what is on its way stays there.
    limit_moves(&mut one[0], "0");
    let nowhere = folder.path().join("nowhere");
    let wished = unique("wished");
    let asked = [
        (of(0), to.clone()),
        (of(1), nowhere),
        ((wished.clone(), 0), to.clone()),
        ((wished.clone(), 1), to.clone()),
        (of(2), to.clone()),
    ];
    let codes = ask(&mut one, &asked);
    let expected = BTreeMap::from([
        (of(0), NONE),
        (of(1), LOG_DIR_NOT_FOUND),
        ((wished.clone(), 0), UNKNOWN_TOPIC_OR_PARTITION),
        ((wished.clone(), 1), UNKNOWN_TOPIC_OR_PARTITION),
        (of(2), UNKNOWN_TOPIC_OR_PARTITION),
    ]);
    assert_eq!(codes, expected);
    let on_its_way = Place { dir: before[&of(0)].dir.clone(), future: Some(to.clone()) };
    wait::until("a copy", seconds(60), || (places(&mut one)[&of(0)] == on_its_way).then_some(()));
    // What was wished of partitions that were not there, once they are.
    one[0].create_with(&wished, 3, &[]);
    let more = CreatePartitionsTopic::default().with_name(name(&topic)).with_count(3).with_assignments(None);
    let more = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(30_000);
    assert_eq!(one[0].ask(3, &more).results[0].error_code, NONE);
    one[0].wait_for(&topic, 3);
    let is_there = |places: &BTreeMap<Of, Place>, of: &Of| places.get(of).is_some_and(|place| place.dir == to);
    wait::until("the new partitions where they were to be", seconds(60), || {
        let places = places(&mut one);
        [(wished.clone(), 0), (wished.clone(), 1), of(2)].iter().all(|of| is_there(&places, of)).then_some(())
    });
    assert_eq!(places(&mut one)[&of(0)], on_its_way);
    limit_moves(&mut one[0], "9223372036854775807");
    arrived(&mut one, &BTreeMap::from([(of(0), to.clone()), (of(1), before[&of(1)].dir.clone())]));
    // Where it is already, and at once back again: the last word counts.
    assert_eq!(ask(&mut one, &[(of(0), to.clone())])[&of(0)], NONE);
    assert_eq!(ask(&mut one, &[(of(0), other(&to))])[&of(0)], NONE);
    assert_eq!(ask(&mut one, &[(of(0), to.clone())])[&of(0)], NONE);
    arrived(&mut one, &BTreeMap::from([(of(0), to.clone())]));
    let read = |one: &mut [Client], offset: i64| {
        let got = one[0].fetch(&topic, 0, offset);
        assert_eq!(got.error_code, NONE);
        let records = got.records.unwrap_or_default();
        corelog::record::iterate(&records).map_while(Result::ok).next().map(|batch| batch.base_offset().0)
    };
    let all = |one: &mut [Client], end: i64| {
        for offset in 0..end {
            assert_eq!(read(one, offset), Some(offset));
        }
        assert_eq!(read(one, end), None);
    };
    all(&mut one, 30);
    let (code, offset) = one[0].produce(&topic, 0, batch(Codec::None, now_ms(), &[b"after"]));
    assert_eq!((code, offset), (NONE, 30));
    for stop in [true, false] {
        match stop {
            true => broker.stop(),
            false => broker.kill(),
        }
        broker.launch();
        one = clients(&broker);
        one[0].wait_for(&topic, 3);
        assert_eq!(settled(&mut one)[&of(0)].dir, to);
        all(&mut one, 31);
    }
    broker.stop();
    if broker.is_corelog() {
        verify(&dirs);
    }
}

/// Every batch and index in the directories is as it should be, for Kafka as well.
fn verify(dirs: &[PathBuf; 2]) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["log", "verify"]).args(dirs);
    let said = harness::program::run(&mut command, seconds(60));
    assert!(said.contains(" 0 damaged, 0 notes"), "{said}");
}

#[test]
fn only_a_copy_is_no_partition() {
    let folder = harness::folder();
    let [a, b] = dirs(folder.path());
    let cores = allowed_cpus().into_iter().take(1).collect();
    let mut broker = Broker::with(Options { cores, ..options(folder.path()) });
    if !broker.is_ours() || !broker.is_corelog() {
        return;
    }
    let topic = unique("halfway");
    let mut one = clients(&broker);
    one[0].create_with(&topic, 2, &[]);
    for partition in 0..2 {
        assert_eq!(one[0].produce(&topic, partition, batch(Codec::None, now_ms(), &[b"kept"])).0, NONE);
    }
    // That in the directory without the metadata.
    let in_b = |places: &BTreeMap<Of, Place>| {
        places.iter().find(|((of, _), place)| *of == topic && place.dir == b).map(|(of, _)| of.1)
    };
    let partition = in_b(&places(&mut one)).expect("they are spread");
    broker.stop();

    // As a crash leaves it when the copy is not complete, and then the other drive does not come back.
    let present = b.join(format!("{topic}-{partition}"));
    let copy = b.join(format!("{topic}-{partition}.00ff-future"));
    std::fs::rename(&present, &copy).unwrap();
    broker.expect_error("only a copy in the making is there");
    broker.launch();
    one = clients(&broker);
    one[0].wait_for(&topic, 2);
    assert_eq!(one[0].produce(&topic, partition, batch(Codec::None, now_ms(), &[b"lost?"])).0, STORAGE);
    assert_eq!(one[0].fetch(&topic, 1 - partition, 0).error_code, NONE);
    broker.stop();

    // The drive is back.
    std::fs::rename(&copy, a.join(format!("{topic}-{partition}"))).unwrap();
    broker.launch();
    one = clients(&broker);
    one[0].wait_for(&topic, 2);
    assert_eq!(settled(&mut one)[&(topic.clone(), partition)].dir, a);
    let got = one[0].fetch(&topic, partition, 0);
    assert!(got.error_code == NONE && !got.records.unwrap_or_default().is_empty());
    // A copy of a topic that is gone goes.
    let stray = b.join("gone-0.00ff-future");
    broker.stop();
    std::fs::create_dir(&stray).unwrap();
    std::fs::write(stray.join("partition.metadata"), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ").unwrap();
    broker.launch();
    assert!(!stray.exists());
    broker.stop();
}
