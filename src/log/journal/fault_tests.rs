//! A core's journal when all is well, and when its drive fails, is full or stalls; logs on
//! a simulated disk.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::format::Shape;
use super::{Journal, JournalPlace, Replay, Wanted, read};
use crate::base::limits::FLUSH_LATER;
use crate::base::{LeaderEpoch, Offset, Uuid};
use crate::config::TopicConfig;
use crate::log::{Log, LogError, LogOptions, Stage, TailMemory};
use crate::record::{BatchBuilder, NewRecord, Stamp};
use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
use crate::runtime::simulation::simulate;
use crate::runtime::task::StopFlag;
use crate::runtime::{clock, run_one};

const DIR: &str = "/data";
const SHAPE: Shape = Shape { region_bytes: 64 << 10, regions: 4 };

struct Core {
    disk: SimulatedDisk,
    memory: Rc<TailMemory>,
    journal: Rc<Journal>,
    logs: Vec<Log>,
}

fn is_journal(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(Replay::core_of).is_some()
}

fn of_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn try_append(log: &Log, value_bytes: usize) -> Result<Offset, LogError> {
    let stamp = Stamp { base_offset: log.end_offset(), leader_epoch: LeaderEpoch(1), log_append_time: None };
    let mut builder = BatchBuilder::new();
    let value = vec![log.end_offset().0 as u8; value_bytes];
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
    Ok(log.append(&builder.build(), &stamp)?.last_offset.plus(1))
}

fn append(log: &Log, value_bytes: usize) -> Offset {
    try_append(log, value_bytes).unwrap()
}

fn append_all(logs: &[Log], value_bytes: usize) {
    for log in logs {
        append(log, value_bytes);
    }
}

/// Gives every task the chance to do what it should not do.
async fn settle() {
    for _ in 0..20 {
        clock::sleep(Duration::from_micros(100)).await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        clock::sleep(Duration::from_micros(100)).await;
    }
}

async fn all(logs: &[Log], stage: Stage) {
    for log in logs {
        log.wait(log.end_offset(), stage).await.unwrap();
    }
}

impl Core {
    /// Logs of which each has a first batch in its segment, and a journal that is ready.
    async fn begin(logs: usize, config: TopicConfig) -> Core {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new(DIR)).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let memory = TailMemory::new(1 << 20);
        let mut core = Core { disk, journal: Journal::new(&memory), memory, logs: Vec::new() };
        for at in 0..logs {
            let log = core.open(at, config.clone()).await;
            append(&log, 10);
            log.file().await.unwrap();
            core.logs.push(log);
        }
        core.begin_journal().await;
        core
    }

    async fn open(&self, at: usize, config: TopicConfig) -> Log {
        let place = JournalPlace { journal: Rc::clone(&self.journal), topic: Uuid([9; 16]), partition: at as i32 };
        let options = LogOptions { journal: Some(place), ..LogOptions::new(Rc::new(config), Rc::clone(&self.memory)) };
        let dir = Path::new(DIR).join(format!("t-{at}"));
        Log::open(&self.disk.disk(), &dir, options, false, None, &mut |_| {}).await.unwrap().0
    }

    async fn begin_journal(&self) {
        let begun = self.journal.begin_with(&self.disk.disk(), Path::new(DIR), 0, SHAPE, &StopFlag::new()).await;
        assert!(begun.unwrap());
    }

    fn count(&self, verb: Verb, of: fn(&Path) -> bool) -> usize {
        self.disk.count(verb, of)
    }

    async fn end(self) {
        for log in &self.logs {
            log.close_cleanly().await.unwrap();
        }
        self.journal.close(true).await.unwrap();
        assert_eq!(self.memory.unwritten(), 0);
    }
}

#[test]
fn one_write_makes_the_batches_of_all_logs_durable() {
    run_one(async {
        let core = Core::begin(100, TopicConfig::default()).await;
        let writes = |core: &Core| {
            let counts = [Verb::Write, Verb::Flush];
            (counts.map(|verb| core.count(verb, is_journal)), counts.map(|verb| core.count(verb, of_log)))
        };
        let before = writes(&core);
        for log in &core.logs {
            append(log, 10);
            log.want_durable(log.end_offset());
        }
        all(&core.logs, Stage::Durable).await;
        let after = writes(&core);
        assert_eq!(after.0[0] - before.0[0], 1, "writes of the journal");
        assert_eq!((after.0[1], after.1), (before.0[1], before.1), "flushes, and what segments see");
        // Read from memory, while more comes into the same buffer.
        let log = &core.logs[3];
        let plan = log.read_plan(Offset(1), log.end_offset(), 1 << 20, true).unwrap();
        assert!(plan.bytes_in_memory().is_some_and(|bytes| bytes > 0));
        let held = plan.execute().await.unwrap();
        let seen = held.to_bytes();
        append(log, 500);
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        assert_eq!(held.to_bytes(), seen);
        // In the files after a clean stop.
        let (disk, end) = (core.disk.clone(), log.end_offset());
        core.end().await;
        let options = LogOptions::new(Rc::new(TopicConfig::default()), TailMemory::new(1 << 20));
        let dir = Path::new(DIR).join("t-3");
        let (log, opened) = Log::open(&disk.disk(), &dir, options, true, None, &mut |_| {}).await.unwrap();
        assert_eq!((log.end_offset(), opened.recovered), (end, false));
    });
}

#[test]
fn a_group_that_nobody_waits_for_is_flushed_later_and_with_others() {
    run_one(async {
        let core = Core::begin(10, TopicConfig::default()).await;
        loop {
            let (began, flushes) = (clock::now(), core.count(Verb::Flush, is_journal));
            for _ in 0..5 {
                append_all(&core.logs, 10);
                all(&core.logs, Stage::Written).await;
            }
            let flushes = core.count(Verb::Flush, is_journal) - flushes;
            // A thread that was held up looks again.
            if clock::now() - began < FLUSH_LATER {
                assert_eq!(flushes, 0);
                break;
            }
        }
        let flushes = core.count(Verb::Flush, is_journal);
        let last = &core.logs[9];
        until(|| last.durable_offset() == last.end_offset()).await;
        assert!(core.logs.iter().all(|log| log.durable_offset() == log.end_offset()));
        assert_eq!(core.count(Verb::Flush, is_journal) - flushes, 1);
        // One that is waited for takes those before it along.
        append(&core.logs[0], 10);
        core.logs[0].wait(core.logs[0].end_offset(), Stage::Written).await.unwrap();
        let end = append(&core.logs[1], 10);
        core.logs[1].wait(end, Stage::Durable).await.unwrap();
        assert_eq!(core.logs[0].durable_offset(), core.logs[0].end_offset());
        core.end().await;
    });
}

#[test]
fn what_is_large_goes_to_its_segment_and_what_follows_comes_back() {
    run_one(async {
        let core = Core::begin(1, TopicConfig::default()).await;
        let log = &core.logs[0];
        let (groups, writes) = (core.count(Verb::Write, is_journal), core.count(Verb::Write, of_log));
        append(log, 100_000);
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        assert_eq!((core.count(Verb::Write, is_journal), core.count(Verb::Write, of_log)), (groups, writes + 1));
        append(log, 10);
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        assert_eq!((core.count(Verb::Write, is_journal), core.count(Verb::Write, of_log)), (groups + 1, writes + 1));
        // Behind a large one whose flush is under way it would leave a gap after a power cut.
        let stall = core.disk.stall(When::verb(Verb::Flush).on(of_log));
        append(log, 100_000);
        log.want_durable(log.end_offset());
        stall.reached().await;
        let end = append(log, 10);
        log.want_durable(end);
        settle().await;
        assert_eq!(core.count(Verb::Write, is_journal), groups + 1);
        stall.release();
        log.wait(end, Stage::Durable).await.unwrap();
        core.end().await;
    });
}

#[test]
fn regions_are_filed_before_they_are_used_again() {
    run_one(async {
        let core = Core::begin(20, TopicConfig::default()).await;
        // Many times what the file holds.
        for _ in 0..200 {
            append_all(&core.logs, 500);
            all(&core.logs, Stage::Durable).await;
        }
        let written: u64 = core
            .disk
            .operations()
            .iter()
            .filter(|operation| operation.verb == Verb::Write && is_journal(&operation.path))
            .map(|operation| operation.len)
            .sum();
        assert!(written > 4 * SHAPE.file_bytes().unwrap(), "{written} bytes");
        // Nothing is kept that is not needed: much fewer writes than without.
        let writes = core.count(Verb::Write, of_log);
        assert!(writes < 20 * 200 / 4, "{writes}");
        core.end().await;
    });
}

#[test]
fn without_a_free_region_logs_write_to_their_segments() {
    run_one(async {
        let core = Core::begin(20, TopicConfig::default()).await;
        // Nothing can be filed, so nothing becomes free.
        let stall = core.disk.stall(When::verb(Verb::Flush).on(of_log).from_then_on());
        let mut groups = 0;
        while core.journal.is_ready() {
            append_all(&core.logs, 500);
            all(&core.logs, Stage::Written).await;
            groups += 1;
            assert!(groups < 1000, "more than fits");
        }
        // The drive still takes writes.
        append_all(&core.logs, 500);
        all(&core.logs, Stage::Written).await;
        stall.release();
        all(&core.logs, Stage::Durable).await;
        until(|| core.journal.is_ready()).await;
        let before = core.count(Verb::Write, is_journal);
        append_all(&core.logs, 500);
        all(&core.logs, Stage::Durable).await;
        assert!(core.count(Verb::Write, is_journal) > before);
        core.end().await;
    });
}

#[test]
fn a_journal_that_fails_loses_nothing_and_is_not_tried_again() {
    for verb in [Verb::Write, Verb::Flush] {
        run_one(async move {
            let core = Core::begin(10, TopicConfig::default()).await;
            append_all(&core.logs, 10);
            all(&core.logs, Stage::Written).await;
            core.disk.fail(When::verb(verb).on(is_journal), Fault::Broken);
            append_all(&core.logs[..5], 10);
            all(&core.logs, Stage::Durable).await;
            until(|| !core.journal.is_ready()).await;
            let operations = core.count(Verb::Write, is_journal) + core.count(Verb::Flush, is_journal);
            for log in &core.logs {
                assert_eq!(log.ended().map(|error| error.to_string()), None);
                append(log, 10);
            }
            all(&core.logs, Stage::Durable).await;
            assert_eq!(core.count(Verb::Write, is_journal) + core.count(Verb::Flush, is_journal), operations);
            // Everything is in the segments, without a clean stop.
            let ends: Vec<Offset> = core.logs.iter().map(Log::end_offset).collect();
            let after = core.disk.reopen(5);
            for (at, end) in ends.into_iter().enumerate() {
                let options = LogOptions::new(Rc::new(TopicConfig::default()), TailMemory::new(1 << 20));
                let dir = Path::new(DIR).join(format!("t-{at}"));
                let (log, _) = Log::open(&after.disk(), &dir, options, false, None, &mut |_| {}).await.unwrap();
                assert_eq!(log.end_offset(), end);
            }
        });
    }
}

#[test]
fn a_log_that_fails_keeps_its_place_and_the_others_go_on() {
    run_one(async {
        let mut core = Core::begin(5, TopicConfig::default()).await;
        append_all(&core.logs, 10);
        all(&core.logs, Stage::Durable).await;
        let kept = core.logs[0].end_offset();
        core.logs[0].take_offline("the test says so");
        let failed = core.logs.remove(0);
        for _ in 0..400 {
            append_all(&core.logs, 500);
            all(&core.logs, Stage::Durable).await;
        }
        for log in &core.logs {
            log.close_cleanly().await.unwrap();
        }
        core.journal.close(false).await.unwrap();
        drop(failed);
        // What only the journal has of it is still there.
        let file = core.disk.disk().read_file(&Journal::path(Path::new(DIR), 0)).await.unwrap();
        let (replay, errors) = Replay::new(vec![(0, read(&file[..], 0).unwrap())], 1);
        assert_eq!(errors, []);
        let journaled = replay.take(Uuid([9; 16]), 0, Path::new(DIR));
        assert_eq!(journaled.entries().last().map(|entry| entry.end), Some(kept));
    });
}

#[test]
fn a_full_drive_refuses_appends_and_loses_nothing_that_is_in_the_journal() {
    run_one(async {
        let core = Core::begin(2, TopicConfig::default()).await;
        core.disk.set_capacity(Some(0));
        let mut durable = Offset(0);
        let log = &core.logs[0];
        while !log.is_full() {
            let stamp = Stamp { base_offset: log.end_offset(), leader_epoch: LeaderEpoch(1), log_append_time: None };
            let mut builder = BatchBuilder::new();
            builder.push(NewRecord { timestamp: 1, key: None, value: Some(&vec![7; 9000]), headers: &[] });
            match log.append(&builder.build(), &stamp) {
                Ok(placed) => match log.wait(placed.last_offset.plus(1), Stage::Durable).await {
                    Ok(()) => durable = placed.last_offset.plus(1),
                    Err(error) => assert!(matches!(error, LogError::DiskFull(_)), "{error}"),
                },
                Err(error) => assert!(matches!(error, LogError::DiskFull(_)), "{error}"),
            }
        }
        assert!(log.durable_offset() >= durable);
        core.disk.set_capacity(None);
        until(|| !core.logs[0].is_full()).await;
        let end = append(log, 10);
        log.wait(end, Stage::Durable).await.unwrap();
        core.end().await;
    });
}

#[test]
fn a_file_is_made_once_and_only_where_there_is_space() {
    run_one(async {
        let core = Core::begin(1, TopicConfig::default()).await;
        let disk = core.disk.clone();
        core.end().await;
        let (dir, stop) = (Path::new(DIR), StopFlag::new());
        let bytes = |from: usize, disk: &SimulatedDisk| {
            let operations = disk.operations();
            let writes = operations[from..].iter().filter(|operation| operation.verb == Verb::Write);
            writes.map(|operation| operation.len).sum::<u64>()
        };
        // Used again as it is.
        let (memory, before) = (TailMemory::new(1 << 20), disk.operations().len());
        let journal = Journal::new(&memory);
        assert!(journal.begin_with(&disk.disk(), dir, 0, SHAPE, &stop).await.unwrap());
        assert_eq!(bytes(before, &disk), 4096);
        journal.close(true).await.unwrap();
        // Of another size, so made again.
        let (shape, before) = (Shape { regions: 5, ..SHAPE }, disk.operations().len());
        let journal = Journal::new(&memory);
        assert!(journal.begin_with(&disk.disk(), dir, 0, shape, &stop).await.unwrap());
        assert!(bytes(before, &disk) > shape.file_bytes().unwrap());
        journal.close(true).await.unwrap();
        // Too little space, and an end in the middle.
        disk.set_capacity(Some(1 << 20));
        let journal = Journal::new(&memory);
        let wanted = Wanted { core: 0, cores: 1, bytes: 64 << 20 };
        assert!(!journal.begin(&disk.disk(), dir, wanted, &stop).await.unwrap());
        assert!(!journal.is_ready() && disk.disk().read_file(&Journal::path(dir, 0)).await.is_err());
        disk.set_capacity(None);
        stop.raise();
        assert!(!journal.begin(&disk.disk(), dir, wanted, &stop).await.unwrap());
        assert!(!journal.is_ready());
    });
}

#[test]
fn journals_of_many_cores_take_little_of_a_small_drive() {
    run_one(async {
        const CAPACITY: u64 = 1 << 30;
        const CORES: u16 = 64;
        let core = Core::begin(1, TopicConfig::default()).await;
        let disk = core.disk.clone();
        core.end().await;
        disk.set_capacity(Some(CAPACITY));
        let (dir, stop, memory) = (Path::new(DIR), StopFlag::new(), TailMemory::new(1 << 20));
        memory.reserve_on_drive(16 << 20);
        let free = disk.disk().space(dir).await.unwrap().free;
        let mut journals = Vec::new();
        for core in 1..=CORES {
            let journal = Journal::new(&memory);
            let wanted = Wanted { core, cores: CORES, bytes: 64 << 20 };
            assert!(journal.begin(&disk.disk(), dir, wanted, &stop).await.unwrap());
            journals.push(journal);
        }
        let taken = free - disk.disk().space(dir).await.unwrap().free;
        assert!(taken <= free / 8 && taken > free / 16, "{taken} of {free} bytes");
        for journal in journals {
            journal.close(true).await.unwrap();
        }
    });
}

#[test]
fn a_cut_while_a_region_is_used_again_is_no_damage() {
    // Segments are so slow that all regions are in use again and again: groups are torn that lie where others were
    // needed a moment before.
    for seed in 0..60 {
        simulate(seed, async {
            let core = Core::begin(2, TopicConfig::default()).await;
            core.disk.set_pace(seed);
            core.disk.slow(When::verb(Verb::Write).on(of_log).from_then_on(), Duration::from_millis(50));
            core.disk.cut(When::verb(Verb::Write).on(is_journal).after(32 + 16 * (seed % 3)));
            let log = &core.logs[0];
            for number in 0.. {
                if try_append(log, 15_000).is_err() {
                    break;
                }
                let stage = if number % 5 == 0 { Stage::Durable } else { Stage::Written };
                if log.wait(log.end_offset(), stage).await.is_err() {
                    break;
                }
            }
            let disk = core.disk.reopen(seed);
            let bytes = disk.disk().read_file(&Journal::path(Path::new(DIR), 0)).await.unwrap();
            assert_eq!(read(&bytes[..], 0).unwrap().damage, None, "seed {seed}");
        });
    }
}

#[test]
fn who_waits_for_a_flush_of_a_journal_that_fails_on_a_full_drive_is_told() {
    run_one(async {
        let core = Core::begin(1, TopicConfig::default()).await;
        let log = &core.logs[0];
        let end = append(log, 10);
        // The journal has it, and is to flush it.
        log.wait(end, Stage::Written).await.unwrap();
        core.disk.fail(When::verb(Verb::Flush).on(is_journal), Fault::Broken);
        core.disk.fail(When::verb(Verb::Write).on(of_log).from_then_on(), Fault::NoSpace);
        core.disk.fail(When::verb(Verb::Allocate).on(of_log).from_then_on(), Fault::NoSpace);
        let told = clock::timeout(Duration::from_secs(20), log.wait(end, Stage::Durable)).await;
        assert!(matches!(told, Some(Err(LogError::DiskFull(_)))), "{told:?}");
        core.disk.clear_rules();
        until(|| !log.is_full()).await;
        log.wait(end, Stage::Durable).await.unwrap();
        core.end().await;
    });
}
