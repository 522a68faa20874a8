//! Random operations on a partition over a simulated disk, beside a plain model.
//!
//! What must hold at each restart, whatever the cut left: everything that was
//! acknowledged, or that a reader could see, is there, at its offset, once and in
//! order; behind it at most batches that were produced and not acknowledged, in order
//! and without a gap; producers are remembered as far as their batches are there; and
//! opening again, also after a crash during opening, gives the same.
//!
//! A failure prints the shortest list of operations that showed it; as tasks take
//! turns by the clock, it may take some runs to show again. More cases:
//! `PROPTEST_CASES=5000 cargo test --lib partition::model_tests`.

use std::fmt::Debug;
use std::ops::Range;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::log::journal::{Journal, Replay, Shape};
use crate::record::{BatchBuilder, NewRecord};
use crate::runtime::disk::simulated::{SimulatedDisk, When};
use crate::runtime::run_one;
use crate::runtime::task::{self, OnPanic, Queue, StopFlag};

/// A case that takes this long waits for what will not come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

const EPOCH: LeaderEpoch = LeaderEpoch(4);

#[derive(Clone, Debug)]
enum Op {
    /// The next batch of a producer; producer 0 is not idempotent.
    Produce {
        producer: u8,
        records: u8,
        value_bytes: u16,
        wait: Option<bool>,
    },
    /// A batch again that was produced before: `back` batches ago.
    Again {
        producer: u8,
        back: u8,
    },
    /// A batch whose predecessor is missing.
    Gap {
        producer: u8,
    },
    Read {
        from_permille: u16,
        bytes_max: u32,
        at_least_one: bool,
    },
    Roll,
    Upkeep,
    /// A recovery point and its way into the checkpoint, beside whatever comes next.
    Point,
    /// Lets writer and flusher get somewhere.
    Pause {
        turns: u8,
    },
    Restart,
    Kill {
        seed: u64,
    },
    /// Power off, and on again; `again`: off once more in the middle of opening.
    Cut {
        seed: u64,
        again: Option<u8>,
    },
    /// Power off in the middle of an operation that is yet to come.
    CutSoon {
        operations: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..4u8, 1..5u8, prop_oneof![0..40u16, 200..1200u16], proptest::option::weighted(0.4, any::<bool>()))
            .prop_map(|(producer, records, value_bytes, wait)| Op::Produce { producer, records, value_bytes, wait }),
        2 => (1..4u8, 0..6u8).prop_map(|(producer, back)| Op::Again { producer, back }),
        1 => (1..4u8).prop_map(|producer| Op::Gap { producer }),
        4 => (0..1001u16, prop_oneof![0..3000u32, Just(1 << 20)], any::<bool>())
            .prop_map(|(from_permille, bytes_max, at_least_one)| Op::Read { from_permille, bytes_max, at_least_one }),
        1 => Just(Op::Roll),
        1 => Just(Op::Upkeep),
        3 => Just(Op::Point),
        3 => (1..40u8).prop_map(|turns| Op::Pause { turns }),
        1 => Just(Op::Restart),
        1 => any::<u64>().prop_map(|seed| Op::Kill { seed }),
        2 => (any::<u64>(), proptest::option::of(0..30u8)).prop_map(|(seed, again)| Op::Cut { seed, again }),
        1 => (0..40u8).prop_map(|operations| Op::CutSoon { operations }),
    ]
}

#[derive(Clone, Copy)]
struct Mode {
    /// Each append is flushed.
    flushes: bool,
    /// Small appends go through a journal.
    journal: bool,
}

/// So small that it is filled, and filled again, all the time, and that some batches are
/// too large for it.
const JOURNAL: Shape = Shape { region_bytes: 12 << 10, regions: 3 };

#[derive(Clone, Debug)]
struct ModelBatch {
    base: Offset,
    /// The offset after it.
    next: Offset,
    bytes: Vec<u8>,
    producer: u8,
    first_sequence: i32,
    records: u8,
    /// In which life of the process it was produced.
    life: u32,
}

struct World {
    disk: SimulatedDisk,
    partition: Rc<Partition>,
    mode: Mode,
    /// Of all lives: what one that ended has not given back shows.
    memory: Rc<TailMemory>,
    /// The core's, in this life; never begun when the test goes without.
    journal: Rc<Journal>,
    batches: Vec<ModelBatch>,
    /// Below this nothing may ever be lost, if the power stays / if it is cut.
    kept_by_kill: Offset,
    kept_by_cut: Offset,
    life: u32,
    /// A point is on its way: the next one waits for it, as those of a core do.
    pointing: Rc<Cell<bool>>,
    counts: Counts,
}

/// What happened in all cases together: a test that never comes to what it tests finds nothing.
#[derive(Clone, Default)]
struct Counts {
    /// Unclean starts that believed a recovery point.
    believed: Rc<Cell<u32>>,
    /// Of those, starts that did not read the active segment from its beginning.
    spared: Rc<Cell<u32>>,
}

/// Writes `partition`'s recovery point where the next start looks for it.
async fn point(partition: Rc<Partition>, disk: Disk, pointing: Rc<Cell<bool>>) {
    let made = partition.make_point().await;
    if made.is_ok()
        && let Some(offset) = partition.point_to_tell()
    {
        let mut text = PointsText::default();
        text.push("m", 0, offset);
        if disk.write_file(&Path::new("/data").join(POINTS_FILE), text.finish()).await.is_ok() {
            partition.point_was_told(offset).await;
        }
    }
    pointing.set(false);
}

fn options(flushes: bool, memory: &Rc<TailMemory>) -> PartitionOptions {
    let config = TopicConfig {
        segment_bytes: 6000,
        index_interval_bytes: 500,
        flush_messages: if flushes { 1 } else { i64::MAX },
        ..TopicConfig::default()
    };
    PartitionOptions { leader_epoch: EPOCH, ..PartitionOptions::new(Rc::new(config), Rc::clone(memory)) }
}

const TOPIC: Uuid = Uuid([5; 16]);

fn id() -> TopicPartition {
    TopicPartition { topic: "m".into(), partition: 0 }
}

/// Opens the partition and begins a journal, as a start does: what is in the journal of
/// the life before counts if that did not end well.
async fn try_open(
    disk: &SimulatedDisk,
    mode: Mode,
    memory: &Rc<TailMemory>,
    clean: bool,
) -> Result<(Rc<Partition>, Rc<Journal>), PartitionError> {
    let (disk, dir) = (disk.disk(), Path::new("/data"));
    let failed = |error: io::Error| PartitionError::Broken(error.to_string());
    let mut files = Vec::new();
    for entry in disk.list(dir).await.map_err(failed)? {
        if let Some(core) = Replay::core_of(&entry.name) {
            let bytes = disk.read_file(&dir.join(&entry.name)).await.map_err(failed)?;
            files.push((core, crate::log::journal::read(&bytes[..], core).map_err(failed)?));
        }
    }
    if clean {
        files.clear();
    }
    let (replay, errors) = Replay::new(files, 1);
    assert!(errors.is_empty(), "{errors:?}");
    let recovery_point = match disk.read_file(&dir.join(POINTS_FILE)).await {
        Ok(bytes) => RecoveryPoints::decode(&bytes).expect("it is replaced as a whole").get("m", 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Offset::ZERO,
        Err(error) => return Err(failed(error)),
    };
    let journal = Journal::new(memory);
    let options = PartitionOptions {
        recovery_point,
        journal: Some(Rc::clone(&journal)),
        journaled: replay.take(TOPIC, 0, dir),
        ..options(mode.flushes, memory)
    };
    let partition = Partition::open(&disk, &dir.join("m-0"), id(), TOPIC, options, clean).await?;
    if mode.journal
        && let Err(error) = journal.begin_with(&disk, dir, 0, JOURNAL, &StopFlag::new()).await
    {
        partition.log().take_offline("the test has no journal");
        return Err(failed(error));
    }
    Ok((partition, journal))
}

impl World {
    async fn new(mode: Mode, counts: Counts) -> World {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        // Small budgets: reads come from memory and from the drive, appends have to wait.
        let bytes = if mode.journal { 32 << 10 } else { 12 << 10 };
        let memory = TailMemory::with_unwritten(12 << 10, bytes);
        let (partition, journal) = try_open(&disk, mode, &memory, true).await.unwrap();
        World {
            disk,
            partition,
            mode,
            memory,
            journal,
            batches: Vec::new(),
            kept_by_kill: Offset(0),
            kept_by_cut: Offset(0),
            life: 0,
            pointing: Rc::default(),
            counts,
        }
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |batch| batch.next)
    }

    fn next_sequence(&self, producer: u8) -> i32 {
        self.batches
            .iter()
            .rev()
            .find(|batch| batch.producer == producer)
            .map_or(0, |batch| batch.first_sequence + i32::from(batch.records))
    }

    fn batch(&self, producer: u8, first_sequence: i32, records: u8, value_bytes: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        if producer > 0 {
            builder = builder.producer(1000 + i64::from(producer), 0, first_sequence);
        }
        let value = vec![b'a' + producer; value_bytes];
        for _ in 0..records {
            let timestamp = crate::runtime::clock::unix_ms().0;
            builder.push(NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
        }
        builder.build()
    }

    /// Whether the disk has lost its power, as a planned cut does.
    fn is_off(&self) -> bool {
        self.disk.is_off()
    }

    /// What a reader could have seen is never lost.
    fn observe(&mut self) {
        let seen = self.partition.bounds().high_watermark;
        assert!(seen <= self.end());
        self.kept_by_kill = self.kept_by_kill.max(seen);
        if self.mode.flushes {
            self.kept_by_cut = self.kept_by_cut.max(seen);
        }
    }

    async fn run(&mut self, op: &Op) {
        match *op {
            Op::Produce { producer, records, value_bytes, wait } => {
                let first_sequence = self.next_sequence(producer);
                let mut bytes = self.batch(producer, first_sequence, records, usize::from(value_bytes));
                let room = match self.partition.log().room(bytes.len()).await {
                    Ok(room) => room,
                    Err(error) => return self.expect_off(error).await,
                };
                let produced = match self.partition.append(&bytes, None) {
                    Ok(produced) => produced,
                    Err(error) => return self.expect_off(error).await,
                };
                drop(room);
                assert_eq!((produced.base_offset, produced.duplicate), (self.end(), false));
                let stamp = Stamp { base_offset: produced.base_offset, leader_epoch: EPOCH, log_append_time: None };
                crate::record::stamp(&mut bytes, &stamp);
                let next = produced.last_offset.plus(1);
                let (base, life) = (produced.base_offset, self.life);
                self.batches.push(ModelBatch { base, next, bytes, producer, first_sequence, records, life });
                if let Some(all) = wait {
                    let acks = if all { Acks::All } else { Acks::Leader };
                    match self.partition.acknowledged(produced.last_offset, acks).await {
                        Ok(()) => {
                            self.kept_by_kill = self.kept_by_kill.max(next);
                            if all && self.mode.flushes {
                                self.kept_by_cut = self.kept_by_cut.max(next);
                                assert!(self.partition.bounds().high_watermark >= next, "acknowledged and not visible");
                            }
                        }
                        Err(error) => return self.expect_off(error).await,
                    }
                }
            }
            Op::Again { producer, back } => {
                let mut of_producer = self.batches.iter().rev().filter(|batch| batch.producer == producer);
                let Some(batch) = of_producer.nth(usize::from(back)).cloned() else { return };
                let bytes = self.batch(producer, batch.first_sequence, batch.records, 9);
                match self.partition.append(&bytes, None) {
                    Ok(again) => {
                        assert!(usize::from(back) < BATCHES_KEPT, "{back} batches back are not remembered");
                        assert_eq!((again.base_offset, again.last_offset), (batch.base, batch.next.plus(-1)));
                        assert!(again.duplicate);
                    }
                    // Snapshots keep only the last batch: an older one may be too old after a restart.
                    Err(ProduceError::Producer(ProducerFault::OutOfOrder { .. })) => {
                        assert!(back > 0 && (batch.life < self.life || usize::from(back) >= BATCHES_KEPT));
                    }
                    Err(error) => self.expect_off(error).await,
                }
            }
            Op::Gap { producer } => {
                if !self.batches.iter().any(|batch| batch.producer == producer) {
                    return;
                }
                let bytes = self.batch(producer, self.next_sequence(producer) + 1, 1, 5);
                match self.partition.append(&bytes, None) {
                    Err(ProduceError::Producer(ProducerFault::OutOfOrder { .. })) => {}
                    Err(error) => self.expect_off(error).await,
                    Ok(produced) => panic!("a gap was taken: {produced:?}"),
                }
            }
            Op::Read { from_permille, bytes_max, at_least_one } => {
                let from = Offset(self.end().0 * i64::from(from_permille) / 1000);
                let planned =
                    self.partition.read_plan(from, bytes_max as usize, at_least_one, Isolation::ReadUncommitted);
                let (bounds, plan) = match planned {
                    Ok(planned) => planned,
                    Err(error) => return self.expect_off(error).await,
                };
                let bytes = match plan.execute().await {
                    Ok(rope) => rope.to_bytes(),
                    Err(error) => return self.expect_off(error).await,
                };
                self.check_read(from, bounds.high_watermark, bytes_max as usize, at_least_one, &bytes);
            }
            Op::Roll => self.partition.log().roll(),
            Op::Upkeep => self.partition.upkeep(crate::runtime::clock::unix_ms()),
            Op::Point => {
                if !self.pointing.replace(true) {
                    let (partition, pointing) = (Rc::clone(&self.partition), Rc::clone(&self.pointing));
                    task::spawn(
                        Queue::Upkeep,
                        "a point",
                        OnPanic::EndTask,
                        point(partition, self.disk.disk(), pointing),
                    );
                }
            }
            Op::Pause { turns } => {
                for _ in 0..turns {
                    futures_lite::future::yield_now().await;
                }
            }
            Op::Restart => match self.partition.close_cleanly().await {
                Ok(()) => {
                    let end = self.end();
                    self.kept_by_kill = end;
                    self.kept_by_cut = end;
                    assert_eq!(self.memory.unwritten(), 0, "closed, and something is left to be written");
                    if let Err(error) = self.journal.close(true).await {
                        return self.expect_off(error).await;
                    }
                    match try_open(&self.disk, self.mode, &self.memory, true).await {
                        Ok((partition, journal)) => {
                            (self.partition, self.journal) = (partition, journal);
                            self.pointing = Rc::default();
                            self.after_restart(end).await;
                        }
                        Err(error) => self.expect_off(error).await,
                    }
                }
                Err(error) => self.expect_off(error).await,
            },
            Op::Kill { seed } => {
                self.disk = self.disk.reopen_after_kill(seed);
                self.restart_unclean(self.kept_by_kill).await;
            }
            Op::Cut { seed, again } => self.cut(seed, again).await,
            Op::CutSoon { operations } => self.disk.cut(When::operation(u64::from(operations))),
        }
    }

    /// An operation may only fail because the power went.
    async fn expect_off(&mut self, error: impl std::fmt::Display) {
        assert!(self.is_off(), "{error}");
        self.cut(7, None).await;
    }

    async fn cut(&mut self, seed: u64, again: Option<u8>) {
        self.disk = self.disk.reopen(seed);
        if let Some(operations) = again {
            self.disk.cut(When::operation(u64::from(operations)));
            match try_open(&self.disk, self.mode, &self.memory, false).await {
                Ok((partition, journal)) => {
                    partition.log().take_offline("the test goes on");
                    let _ = journal.close(false).await;
                }
                Err(error) => assert!(self.is_off(), "{error}"),
            }
            self.disk = self.disk.reopen(seed ^ 0xff);
        }
        self.restart_unclean(self.kept_by_cut).await;
    }

    async fn restart_unclean(&mut self, kept: Offset) {
        self.partition.log().take_offline("the test's power is off");
        let _ = self.journal.close(false).await;
        (self.partition, self.journal) =
            try_open(&self.disk, self.mode, &self.memory, false).await.expect("an undamaged log opens");
        self.pointing = Rc::default();
        let recovery = self.partition.recovery();
        self.counts.believed.set(self.counts.believed.get() + u32::from(recovery.point > Offset::ZERO));
        self.counts.spared.set(self.counts.spared.get() + u32::from(recovery.spared_bytes > 0));
        self.after_restart(kept).await;
    }

    /// The log holds a prefix of what was produced, at least up to `kept`.
    async fn after_restart(&mut self, kept: Offset) {
        self.life += 1;
        // A cut that was planned for later would fall into the check.
        self.disk.clear_rules();
        let end = self.partition.log().end_offset();
        assert!(kept <= end, "the log ends at {end}, {kept} was acknowledged");
        assert!(end <= self.end(), "the log ends at {end}, only {} was produced", self.end());
        self.batches.retain(|batch| batch.base < end);
        assert_eq!(self.end(), end, "the log ends within a batch");
        let mut found = Vec::new();
        self.partition
            .log()
            .replay(Offset(0), |batch| found.push(batch.bytes().to_vec()))
            .await
            .unwrap_or_else(|error| panic!("what is there cannot be read: {error}"));
        assert_eq!(found.len(), self.batches.len());
        for (found, batch) in found.iter().zip(&self.batches) {
            assert!(*found == batch.bytes, "the batch at {} is another one", batch.base);
        }
        // All that is there counts as durable now.
        self.kept_by_kill = end;
        self.kept_by_cut = end;
        assert_eq!(self.partition.bounds().high_watermark, end);
        for producer in 1..4 {
            let last = self.batches.iter().rev().find(|batch| batch.producer == producer);
            let known = self.partition.with_producers(|producers| {
                producers.get(1000 + i64::from(producer)).map(|known| (known.last_sequence(), known.batches().len()))
            });
            let expected = last.map(|batch| batch.first_sequence + i32::from(batch.records) - 1);
            assert_eq!(known.map(|known| known.0), expected, "producer {producer} after a restart");
        }
        let epoch = self.partition.end_offset_for_epoch(EPOCH);
        assert_eq!(epoch, Some((EPOCH, end)));
    }

    fn check_read(&self, from: Offset, upper: Offset, bytes_max: usize, at_least_one: bool, bytes: &[u8]) {
        let mut at = 0;
        let wanted = self.batches.iter().filter(|batch| batch.next > from && batch.next <= upper);
        for (index, batch) in wanted.enumerate() {
            if at == bytes.len() {
                assert!(index > 0 || batch.bytes.len() > bytes_max && !at_least_one, "nothing of {from}..{upper}");
                return;
            }
            assert!(bytes[at..].starts_with(&batch.bytes), "read from {from}: the batch at {}", batch.base);
            at += batch.bytes.len();
            assert!(at <= bytes_max || (index == 0 && at_least_one), "{at} bytes of {bytes_max}");
        }
        assert_eq!(at, bytes.len(), "bytes beyond {upper}");
    }
}

async fn check(mode: Mode, operations: Vec<Op>, counts: Counts) {
    let mut world = World::new(mode, counts).await;
    for op in &operations {
        world.run(op).await;
        if !world.is_off() {
            world.observe();
        }
    }
    world.cut(11, None).await;
    world.run(&Op::Restart).await;
    world.partition.log().take_offline("the test has ended");
    let _ = world.journal.close(false).await;
    crate::runtime::task::all_ended("log writer").await;
    assert_eq!(world.memory.unwritten(), 0, "a log that ended holds memory");
}

/// What goes wrong in a test: it does not end, or it panics.
async fn outcome(test: impl Future<Output = ()>) -> Option<String> {
    match crate::runtime::clock::timeout(PATIENCE, AssertUnwindSafe(test).catch_unwind()).await {
        None => Some("it does not end".to_string()),
        Some(Ok(())) => None,
        Some(Err(panic)) => Some(match panic.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => panic.downcast_ref::<&str>().map_or("a panic", |text| text).to_string(),
        }),
    }
}

/// Runs `case` with random lists of operations, as many as asked for (`PROPTEST_CASES`) or else `cases_here`, and gives
/// their number. All share an executor: making one takes longer than a case.
///
/// # Panics
/// When one fails: with the shortest list of operations that shows it.
pub(super) async fn try_lists<T, F>(op: impl Strategy<Value = T>, length: Range<usize>, cases_here: u32, case: F) -> u32
where
    T: Debug,
    F: AsyncFn(Vec<T>),
{
    let asked = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases_here };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..asked });
    let lists = proptest::collection::vec(op, length);
    for number in 0..cases {
        let mut tree = lists.new_tree(&mut runner).expect("the strategy rejects nothing");
        let Some(mut reason) = outcome(case(tree.current())).await else { continue };
        let mut shortest = tree.current();
        let mut goes_on = tree.simplify();
        while goes_on {
            match outcome(case(tree.current())).await {
                Some(again) => {
                    (reason, shortest) = (again, tree.current());
                    goes_on = tree.simplify();
                }
                None => goes_on = tree.complicate(),
            }
        }
        panic!("case {number}: {reason}\n{shortest:#?}");
    }
    cases
}

fn model(mode: Mode, cases_here: u32) {
    run_one(async move {
        let counts = Counts::default();
        let cases = try_lists(op(), 1..60, cases_here, async |list| check(mode, list, counts.clone()).await).await;
        let (believed, spared) = (counts.believed.get(), counts.spared.get());
        assert!(cases < 100 || believed > cases / 5 && spared > cases / 50, "{believed} points, {spared} of use");
    });
}

#[test]
fn nothing_acknowledged_is_lost_with_a_flush_per_append() {
    model(Mode { flushes: true, journal: false }, 300);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_without_flushes() {
    model(Mode { flushes: false, journal: false }, 150);
}

#[test]
fn nothing_acknowledged_is_lost_with_a_journal() {
    model(Mode { flushes: true, journal: true }, 300);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_with_a_journal_that_is_not_flushed() {
    model(Mode { flushes: false, journal: true }, 150);
}
