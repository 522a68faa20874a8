//! Orderly stops and starts: SIGTERM under load, another number of cores, and the two ways to show cores to clients.

mod harness;

use harness::broker::{Broker, Options, allowed_cpus, free_ports};
use harness::wait::{self, PATIENCE, seconds};
use harness::{crash, ledger, records, unique};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const PARTITIONS: usize = 6;

#[test]
fn sigterm_under_load_loses_nothing_acknowledged() {
    let mut broker = Broker::start();
    if !broker.is_ours() {
        return;
    }
    let (bootstrap, topic) = (broker.bootstrap(), unique("terminated"));
    records::create_topic(&bootstrap, &topic, PARTITIONS as i32);
    let ledger = Arc::new(ledger::Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let producer = ledger::producer(&bootstrap, 0, &ledger);
    let load = std::thread::spawn({
        let (topic, stop) = (topic.clone(), stop.clone());
        move || ledger::produce(producer, &topic, PARTITIONS, &stop)
    });
    let mut took = Vec::new();
    for round in 1..=3 {
        let enough = ledger.count() + 3000;
        wait::until(&format!("acknowledgements, round {round}"), PATIENCE, || {
            assert_eq!(ledger.failures(), [""; 0]);
            (ledger.count() >= enough).then_some(())
        });
        let began = Instant::now();
        broker.stop();
        took.push(began.elapsed());
        broker.launch();
    }
    println!("stops took {took:?}");
    // A few seconds; once it may be that the machine had other things to do.
    assert!(took.iter().any(|took| *took < seconds(5)), "{took:?}");
    stop.store(true, Ordering::Relaxed);
    let sent = vec![load.join().unwrap()];
    assert_eq!(ledger.failures(), [""; 0]);
    ledger::check(&bootstrap, &topic, &sent, &ledger);
}

#[test]
fn a_start_after_a_kill_goes_on_from_recovery_points() {
    const RECORDS: usize = 8;
    let options = Options::default().set("log.flush.offset.checkpoint.interval.ms=0");
    let mut broker = Broker::with(options);
    if !broker.is_ours() || !broker.is_corelog() {
        return;
    }
    let (bootstrap, topic) = (broker.bootstrap(), unique("pointed"));
    records::create_topic(&bootstrap, &topic, 1);
    let producer: BaseProducer = records::config(&bootstrap).create().unwrap();
    let value = vec![b'v'; 500_000];
    for _ in 0..RECORDS {
        producer.send(BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(&value)).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    drop(producer);
    let file = broker.data_dir().join("recovery-point-offset-checkpoint");
    let point = || {
        let text = std::fs::read_to_string(&file).ok()?;
        let line = text.lines().find(|line| line.starts_with(&format!("{topic} 0 ")))?.to_string();
        line.rsplit(' ').next()?.parse::<usize>().ok().filter(|offset| *offset > 0)
    };
    let written = || std::fs::metadata(&file).ok().map(|facts| facts.ino());
    let known = wait::until("a recovery point", PATIENCE, point);
    assert!(known <= RECORDS, "{known}");
    for life in 1..=2 {
        broker.kill();
        let before = written();
        broker.launch();
        assert_eq!(crash::recovery_points_used(&broker), life, "lives that began at the point");
        assert_eq!(records::read_topic(&bootstrap, &topic, |_| {}), [RECORDS as i64]);
        // Who writes the file now knows it from the start alone.
        wait::until("a checkpoint of the new life", PATIENCE, || (written() != before).then_some(()));
        assert!(point() >= Some(known), "{:?}", point());
    }
    // Another topic of the same name: what the file says of the old one is of no use to it.
    let ids = || std::fs::read(broker.data_dir().join(format!("{topic}-0/partition.metadata"))).ok();
    let old = ids().unwrap();
    records::delete_topic(&bootstrap, &topic);
    wait::until("the end of the topic", PATIENCE, || ids().is_none().then_some(()));
    records::create_topic(&bootstrap, &topic, 1);
    let producer: BaseProducer = records::config(&bootstrap).create().unwrap();
    producer.send(BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(b"one")).map_err(|(e, _)| e).unwrap();
    producer.flush(PATIENCE).unwrap();
    wait::until("the directory of the new topic", PATIENCE, || ids().filter(|id| *id != old));
    broker.kill();
    // As if the file had not been written since.
    std::fs::write(&file, format!("0\n1\n{topic} 0 {known}\n")).unwrap();
    broker.launch();
    assert_eq!(crash::recovery_points_used(&broker), 2, "the point of the old topic counts for nothing");
    assert_eq!(records::read_topic(&bootstrap, &topic, |_| {}), [1]);
}

/// A topic that grows with each use, and a group that reads it.
struct Scenario {
    topic: String,
    group: String,
    /// The values of all records so far: `NUMBER` in partition NUMBER % PARTITIONS.
    count: usize,
}

impl Scenario {
    const STEP: usize = 6000;

    fn new(broker: &Broker) -> Scenario {
        let topic = unique("kept");
        records::create_topic(&broker.bootstrap(), &topic, PARTITIONS as i32);
        Scenario { topic, group: unique("kept-group"), count: 0 }
    }

    /// Produces some more, reads everything back, and lets the group read what it has not committed yet.
    fn step(&mut self, broker: &Broker) {
        let bootstrap = broker.bootstrap();
        let producer: BaseProducer = records::config(&bootstrap).create().unwrap();
        let before = self.count;
        self.count += Scenario::STEP;
        for number in before..self.count {
            let value = number.to_string();
            let record = BaseRecord::<(), str>::to(&self.topic).partition((number % PARTITIONS) as i32).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();

        let mut next = [0, 1, 2, 3, 4, 5];
        let ends = records::read_topic(&bootstrap, &self.topic, |message| {
            let next = &mut next[message.partition() as usize];
            assert_eq!(message.payload().unwrap(), next.to_string().as_bytes(), "partition {}", message.partition());
            *next += PARTITIONS;
        });
        assert_eq!(ends, vec![(self.count / PARTITIONS) as i64; PARTITIONS], "end offsets");

        let consumer: BaseConsumer = records::config(&bootstrap)
            .set("group.id", &self.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.subscribe(&[&self.topic]).unwrap();
        let mut expected: BTreeSet<usize> = (before..self.count).collect();
        wait::until("all that is new, to the group", PATIENCE, || {
            while let Some(message) = consumer.poll(seconds(1)) {
                let message = message.unwrap();
                let number: usize = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
                assert!(expected.remove(&number), "{number} came twice, or was committed before");
            }
            expected.is_empty().then_some(())
        });
        let mut positions = TopicPartitionList::new();
        for (partition, end) in ends.iter().enumerate() {
            positions.add_partition_offset(&self.topic, partition as i32, Offset::Offset(*end)).unwrap();
        }
        consumer.commit(&positions, CommitMode::Sync).unwrap();
    }
}

#[test]
fn another_number_of_cores_serves_all_data() {
    let cpus = allowed_cpus();
    // Ports for the second core, too, which comes later.
    let port = free_ports(2);
    let mut broker = Broker::on_port(port, Options { cores: cpus[..1].to_vec(), ..Options::default() });
    if !broker.is_ours() || cpus.len() < 2 {
        eprintln!("skipped: this needs two cores and a broker of its own");
        return;
    }
    let mut scenario = Scenario::new(&broker);
    scenario.step(&broker);
    for (round, cores) in [&cpus[..2], &cpus[1..2], &cpus[..2], &cpus[..1]].into_iter().enumerate() {
        // Cleanly and uncleanly in turn.
        if round % 2 == 0 {
            broker.stop();
        } else {
            broker.kill();
        }
        broker.options.cores = cores.to_vec();
        broker.launch();
        scenario.step(&broker);
    }
}

/// The brokers that clients are shown, as (id, host, port).
fn brokers(broker: &Broker) -> BTreeSet<(i32, String, i32)> {
    let consumer: BaseConsumer = records::config(&broker.bootstrap()).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    metadata.brokers().iter().map(|one| (one.id(), one.host().to_string(), one.port())).collect()
}

#[test]
fn each_core_is_shown_as_a_broker() {
    let broker = Broker::start();
    let shown = brokers(&broker);
    if broker.is_corelog() {
        let base = broker.port() as i32;
        let ports: Vec<i32> = shown.iter().map(|(_, _, port)| *port).collect();
        assert_eq!(ports, (base..base + broker.options.cores.len() as i32).collect::<Vec<i32>>());
        let ids: Vec<i32> = shown.iter().map(|(id, _, _)| *id).collect();
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1) && ids[0] % 1024 == 0, "{ids:?}");
    }
    Scenario::new(&broker).step(&broker);
}

#[test]
fn one_broker_is_shown_for_the_host() {
    let mut broker = Broker::with(Options { advertise: "host", ..Options::default() });
    assert_eq!(brokers(&broker).len(), 1);
    let mut scenario = Scenario::new(&broker);
    scenario.step(&broker);
    if broker.is_ours() {
        // The same data, shown the other way.
        broker.stop();
        broker.options.advertise = "core";
        broker.launch();
        scenario.step(&broker);
    }
}

#[test]
fn advertised_listeners_are_what_clients_are_told() {
    let options = Options::default();
    let port = free_ports(options.cores.len());
    let broker = Broker::on_port(port, options.set(&format!("advertised.listeners=PLAINTEXT://localhost:{port}")));
    for (number, (_, host, shown)) in brokers(&broker).into_iter().enumerate() {
        assert_eq!((host.as_str(), shown), ("localhost", i32::from(port) + number as i32));
    }
    Scenario::new(&broker).step(&broker);
}
