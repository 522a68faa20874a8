//! A broker that dies again and again on the same data, under load, and what must hold afterwards.
//!
//! Idempotent producers with acks=all keep a ledger of what was acknowledged, group consumers one of what they
//! committed. At moments that a seed chooses the broker dies and is started again. What must hold:
//!
//! 1. In the log, each producer's records of each partition are there once, in order, without a gap, at the offsets
//!    that were acknowledged.
//! 2. After each start the group's committed offsets are those that were last acknowledged, or one that was being
//!    committed when the broker died.
//! 3. A member of the group never skips a record and is never set back behind an acknowledged commit.

use super::broker::Broker;
use super::drive::next_random;
use super::wait::{self, seconds};
use super::{ledger, records, unique};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: usize = 6;
const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;
/// The broker dies once between this many and three times as many records were acknowledged since its start.
const LOAD: u64 = 600;

/// What the group's consumers, together, have done with one partition.
#[derive(Clone, Copy, Default)]
struct Position {
    /// The greatest offset seen, plus one.
    seen: i64,
    /// The last commit that was acknowledged.
    committed: i64,
    /// The greatest offset whose commit was sent.
    sent: i64,
}

struct Group {
    positions: Mutex<[Position; PARTITIONS]>,
    failures: Mutex<Vec<String>>,
}

fn consume(bootstrap: &str, topic: &str, name: &str, group: &Group, stop: &AtomicBool) {
    let told = Arc::new(Mutex::default());
    let consumer: BaseConsumer<Keeping> = records::config(bootstrap)
        .set("group.id", name)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "100")
        // A member whose join was under way when the broker died is waited for this long.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("debug", "cgrp")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(Keeping(Arc::clone(&told)))
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut processed: HashMap<i32, i64> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let message = match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => message,
            // The broker is away, or a rebalance is under way.
            Some(Err(_)) | None => continue,
        };
        let (partition, offset) = (message.partition(), message.offset());
        let before = {
            let position = &mut group.positions.lock().unwrap()[partition as usize];
            let before = *position;
            position.seen = position.seen.max(offset + 1);
            before
        };
        if offset < before.committed && put_out(&consumer, topic, partition, before.committed, stop) {
            continue;
        }
        if offset > before.seen || offset < before.committed {
            let failure =
                format!("partition {partition}: got {offset} after {}, committed {}", before.seen, before.committed);
            let told = told.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n");
            group.failures.lock().unwrap().push(format!("{failure}; its consumer said:\n{told}"));
        }
        processed.insert(partition, offset + 1);
        if offset % 200 == 0 {
            let mut list = TopicPartitionList::new();
            {
                let mut positions = group.positions.lock().unwrap();
                for (partition, offset) in &processed {
                    list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
                    let sent = &mut positions[*partition as usize].sent;
                    *sent = (*sent).max(*offset);
                }
            }
            if consumer.commit(&list, CommitMode::Sync).is_ok() {
                let mut positions = group.positions.lock().unwrap();
                for (partition, offset) in processed.drain() {
                    positions[partition as usize].committed = offset;
                }
            } else {
                // Perhaps another member has the partition by now; it begins at its committed offset.
                processed.clear();
            }
        }
    }
}

/// Whether the group has put this member out. Such a member learns of it late, when the broker is away much or the machine
/// is slow, and still gives out what it had fetched; that is nobody's fault, and its commits are refused. What it
/// commits here is what has been committed already.
fn put_out(consumer: &BaseConsumer<Keeping>, topic: &str, partition: i32, committed: i64, stop: &AtomicBool) -> bool {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(committed)).unwrap();
    while !stop.load(Ordering::Relaxed) {
        match consumer.commit(&list, CommitMode::Sync).map_err(|error| error.rdkafka_error_code()) {
            Ok(()) => return false,
            Err(Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress)) => return true,
            // The broker is away, and the commit timed out.
            Err(_) => {}
        }
    }
    true
}

/// Says nothing, and keeps the last that the client said of its group and where it reads.
struct Keeping(Arc<Mutex<VecDeque<String>>>);

impl ClientContext for Keeping {
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        let mut lines = self.0.lock().unwrap();
        if lines.len() == 400 {
            lines.pop_front();
        }
        lines.push_back(format!("{} {facility}: {message}", super::client::now_ms()));
    }
}

impl rdkafka::consumer::ConsumerContext for Keeping {}

/// The number in an environment variable.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Has the broker die `deaths` times by `die`, which leaves it ready to be launched, and checks what the module says.
pub fn survives(broker: &mut Broker, deaths: u64, mut seed: u64, mut die: impl FnMut(&mut Broker, &mut u64)) {
    let bootstrap = broker.bootstrap();
    let (topic, group_name) = (unique("killed"), unique("killed-group"));
    records::create_topic(&bootstrap, &topic, PARTITIONS as i32);

    let ledger = Arc::new(ledger::Ledger::default());
    let group = Group { positions: Mutex::default(), failures: Mutex::default() };
    let (stop_producing, stop_consuming) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // A failed assertion must end the other threads too, or the scope would wait for them for ever.
        let stop = StopOnPanic([&stop_producing, &stop_consuming]);
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|name| {
                let producer = ledger::producer(&bootstrap, name, &ledger);
                let (topic, stop) = (&topic, &stop_producing);
                scope.spawn(move || ledger::produce(producer, topic, PARTITIONS, stop))
            })
            .collect();
        for _ in 0..CONSUMERS {
            scope.spawn(|| consume(&bootstrap, &topic, &group_name, &group, &stop_consuming));
        }
        let healthy = || {
            let failures = [ledger.failures(), group.failures.lock().unwrap().clone()].concat();
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        };
        for death in 1..=deaths {
            let enough = ledger.count() + LOAD + next_random(&mut seed) % (2 * LOAD);
            wait::until(&format!("acknowledgements before death {death}"), seconds(60), || {
                healthy();
                (ledger.count() >= enough).then_some(())
            });
            die(broker, &mut seed);
            let before = *group.positions.lock().unwrap();
            broker.launch();
            let committed = records::committed(&bootstrap, &group_name, &topic, PARTITIONS);
            let after = *group.positions.lock().unwrap();
            for (partition, committed) in committed.into_iter().enumerate() {
                let possible = before[partition].committed..=after[partition].sent;
                let committed = committed.unwrap_or(0);
                assert!(
                    possible.contains(&committed),
                    "death {death}, partition {partition}: {committed} is committed, not one of {possible:?}"
                );
            }
        }
        stop_producing.store(true, Ordering::Relaxed);
        let sent: Vec<Vec<u64>> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        healthy();
        let ends = ledger::check(&bootstrap, &topic, &sent, &ledger);
        // The group catches up with all that is there, which may be much.
        let (mut seen, mut at_end) = (0, false);
        while !at_end {
            (seen, at_end) = wait::until("the group on its way to the end of the topic", seconds(60), || {
                healthy();
                let positions = group.positions.lock().unwrap();
                let now: i64 = positions.iter().map(|position| position.seen).sum();
                let at_end = positions.iter().zip(&ends).all(|(position, end)| position.seen == *end);
                (at_end || now > seen).then_some((now, at_end))
            });
        }
        drop(stop);
        let total: u64 = sent.iter().flatten().sum();
        println!("{deaths} deaths, {total} records, each acknowledged and there once");
    });
}

/// That what was acknowledged went through the cores' journals, and says how often it was only there when the broker died.
pub fn the_journals_were_used(broker: &Broker) {
    if !broker.is_corelog() {
        return;
    }
    // A group begins on a block. What lies there is of all lives.
    let groups = |core: usize| {
        let file = std::fs::read(broker.data_dir().join(format!("corelog-journal-{core}"))).unwrap();
        file.chunks(4096).filter(|block| block.starts_with(b"clgj")).count()
    };
    let groups: Vec<usize> = (0..broker.options.cores.len()).map(groups).collect();
    assert!(groups.iter().all(|count| *count > 4), "groups in the journals: {groups:?}");
    let filed = told(broker, " partitions filed from the journals");
    println!("{groups:?} groups in the journals; {filed} times a partition's records were filed from one");
}

/// Says how often a log was looked through from its recovery point on; gives it.
pub fn recovery_points_used(broker: &Broker) -> u64 {
    let (pointed, spared) = (told(broker, " of them from a recovery point on"), told(broker, " spared"));
    println!("{pointed} times a log was read from a recovery point on, which spared {spared} bytes");
    pointed
}

/// The sum of the numbers before `words`, in all that the broker said.
fn told(broker: &Broker, words: &str) -> u64 {
    let log = broker.log();
    let numbers = log.match_indices(words).filter_map(|(at, _)| log[..at].rsplit(' ').next()?.parse::<u64>().ok());
    numbers.sum()
}

/// Raises both flags when it goes, also with a failed assertion.
pub struct StopOnPanic<'a>(pub [&'a AtomicBool; 2]);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}
