//! What the log does when its disk fails, stalls or is full, and in which order it writes and flushes.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::LeaderEpoch;
use crate::base::limits::BLOCK_BYTES;
use crate::record::{BatchBuilder, BatchView, NewRecord, Stamp};
use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
use crate::runtime::{run_one, task};

const DIR: &str = "/data/t-0";

fn batch(value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&vec![7; value_bytes]), headers: &[] });
    builder.build()
}

fn try_append(log: &Log, value_bytes: usize) -> Result<Offset, LogError> {
    let stamp = Stamp { base_offset: log.end_offset(), leader_epoch: LeaderEpoch(1), log_append_time: None };
    log.append(&batch(value_bytes), &stamp).map(|placed| placed.last_offset.plus(1))
}

fn append(log: &Log, value_bytes: usize) -> Offset {
    try_append(log, value_bytes).unwrap()
}

async fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
    disk.disk().sync_dir(Path::new("/")).await.unwrap();
    disk
}

async fn open_with(disk: &SimulatedDisk, config: TopicConfig) -> Log {
    let options = LogOptions::new(Rc::new(config), TailMemory::new(1 << 20));
    Log::open(&disk.disk(), Path::new(DIR), options, false, None, &mut |_| {}).await.unwrap().0
}

async fn open(disk: &SimulatedDisk) -> Log {
    open_with(disk, TopicConfig::default()).await
}

fn of_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Gives every task the chance to do what it should not do.
async fn settle() {
    for _ in 0..20 {
        crate::runtime::clock::sleep(std::time::Duration::from_micros(100)).await;
    }
}

/// Waits until something holds; for ever if it never does.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        crate::runtime::clock::sleep(std::time::Duration::from_micros(100)).await;
    }
}

#[test]
fn a_failed_write_ends_the_log_and_tells_everybody() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let durable = append(&log, 100);
        log.wait(durable, Stage::Durable).await.unwrap();
        disk.fail(When::verb(Verb::Write), Fault::Broken);
        let end = append(&log, 100);
        let told = log.wait(end, Stage::Written).await.unwrap_err();
        assert!(
            matches!(&told, LogError::Offline(reason) if reason.contains("write 00000000000000000000.log of t-0")),
            "{told}"
        );
        assert!(matches!(log.wait(end, Stage::Durable).await, Err(LogError::Offline(_))));
        assert!(matches!(try_append(&log, 1), Err(LogError::Offline(_))));
        assert!(matches!(log.read_plan(Offset(0), end, 100, true), Err(LogError::Offline(_))));
        assert!(matches!(log.close_cleanly().await, Err(LogError::Offline(_))));
        task::all_ended("log writer").await;
        assert_eq!(disk.count(Verb::Write, of_log), 2, "a failed write is not tried again");
        // The next opening finds what was durable.
        let log = open(&disk).await;
        assert!(log.end_offset() == durable || log.end_offset() == end, "{}", log.end_offset());
    });
}

#[test]
fn a_failed_flush_ends_the_log_and_is_not_tried_again() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        disk.fail(When::verb(Verb::Flush), Fault::Broken);
        let end = append(&log, 100);
        log.wait(end, Stage::Written).await.unwrap();
        let told = log.wait(end, Stage::Durable).await.unwrap_err();
        assert!(told.to_string().contains("t-0 is offline: flush"), "{told}");
        task::all_ended("log flusher").await;
        task::all_ended("log writer").await;
        assert_eq!(disk.count(Verb::Flush, of_log), 1);
    });
}

#[test]
fn appends_share_writes_and_flushes_and_a_flush_follows_its_write() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        append(&log, 10);
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        let stall = disk.stall(When::verb(Verb::Write));
        append(&log, 10);
        stall.reached().await;
        let flushes = disk.count(Verb::Flush, of_log);
        for _ in 0..100 {
            append(&log, 10);
        }
        settle().await;
        assert_eq!(disk.count(Verb::Flush, of_log), flushes, "a flush before its write promises nothing");
        assert_eq!((log.written_offset(), log.durable_offset()), (Offset(1), Offset(1)));
        // Readers of what is committed are not held up by a slow drive.
        assert!(log.read_plan(Offset(0), Offset(1), 100, true).unwrap().bytes_in_memory().is_some());
        let writes = disk.count(Verb::Write, of_log);
        stall.release();
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        assert_eq!(disk.count(Verb::Write, of_log) - writes, 1, "a hundred appends, one write");
        assert!(disk.count(Verb::Flush, of_log) - flushes <= 2);

        // One flush at a time; writes go on meanwhile, and what they wrote shares the next.
        let stall = disk.stall(When::verb(Verb::Flush));
        let first = append(&log, 10);
        stall.reached().await;
        let flushes = disk.count(Verb::Flush, of_log);
        for _ in 0..10 {
            let end = append(&log, 10);
            log.wait(end, Stage::Written).await.unwrap();
        }
        assert!(log.durable_offset() < first);
        assert_eq!(disk.count(Verb::Flush, of_log), flushes);
        stall.release();
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        assert_eq!(disk.count(Verb::Flush, of_log) - flushes, 1);
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_flush_that_nobody_waits_for_serves_many_writes() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        loop {
            let flushes = disk.count(Verb::Flush, of_log);
            let began = clock::now();
            for _ in 0..20 {
                let end = append(&log, 10);
                log.wait(end, Stage::Written).await.unwrap();
            }
            let flushes = disk.count(Verb::Flush, of_log) - flushes;
            // A thread that was held up looks again.
            if clock::now() - began < crate::base::limits::FLUSH_LATER {
                assert_eq!(flushes, 0);
                break;
            }
        }
        // It comes, without being asked for.
        while log.durable_offset() < log.end_offset() {
            clock::sleep(Duration::from_millis(1)).await;
        }
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn small_appends_rewrite_the_block_they_end_in() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let mut end = Offset(0);
        for _ in 0..100 {
            end = append(&log, 300);
            log.wait(end, Stage::Durable).await.unwrap();
        }
        let writes: Vec<_> = disk.operations().into_iter().filter(|op| op.verb == Verb::Write).collect();
        assert_eq!(writes.len(), 100);
        assert!(writes.iter().all(|write| write.len <= 2 * BLOCK_BYTES as u64));
        // The tail serves all of it from memory, and holds about what was written.
        let plan = log.read_plan(Offset(0), end, 1 << 20, true).unwrap();
        assert_eq!(plan.bytes_in_memory(), Some(log.size_bytes() as usize));
        assert!(log.0.memory().used() < 3 * log.size_bytes() as usize, "{}", log.0.memory().used());
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn without_flushes_an_acknowledgement_waits_for_the_write_only() {
    run_one(async {
        let disk = disk().await;
        let log = open_with(&disk, TopicConfig { flush_messages: 10, flush_ms: 1000, ..TopicConfig::default() }).await;
        let base = disk.count(Verb::Flush, of_log);
        for _ in 0..9 {
            let end = append(&log, 10);
            log.wait(end, Stage::Written).await.unwrap();
        }
        settle().await;
        assert_eq!(disk.count(Verb::Flush, of_log), base);
        let end = append(&log, 10);
        log.wait(end, Stage::Durable).await.unwrap();
        assert_eq!(disk.count(Verb::Flush, of_log), base + 1);
        let end = append(&log, 10);
        log.wait(end, Stage::Written).await.unwrap();
        log.upkeep(now().plus(Duration::from_millis(900)));
        settle().await;
        assert!(log.durable_offset() < end);
        log.upkeep(now().plus(std::time::Duration::from_millis(1100)));
        log.wait(end, Stage::Durable).await.unwrap();
        // A stricter setting takes effect for what is there already.
        let end = append(&log, 10);
        log.wait(end, Stage::Written).await.unwrap();
        log.update_config(Rc::new(TopicConfig::default()));
        log.wait(end, Stage::Durable).await.unwrap();
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_full_disk_refuses_appends_serves_reads_and_recovers() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let kept = append(&log, 1000);
        log.wait(kept, Stage::Durable).await.unwrap();
        disk.set_capacity(Some(0));
        // What fits into the allocated space still goes.
        let (end, refused) = loop {
            let end = append(&log, 30_000);
            if let Err(error) = log.wait(end, Stage::Durable).await {
                break (end, error);
            }
        };
        assert!(matches!(refused, LogError::DiskFull(_)), "{refused}");
        assert!(log.is_full());
        assert!(matches!(try_append(&log, 10), Err(LogError::DiskFull(_))));
        assert!(!log.read_plan(Offset(0), kept, 100, true).unwrap().execute().await.unwrap().is_empty());
        disk.set_capacity(None);
        // The writer tries again by itself; what was in doubt is written after all.
        until(|| !log.is_full()).await;
        log.wait(end, Stage::Durable).await.unwrap();
        let more = append(&log, 10);
        log.wait(more, Stage::Durable).await.unwrap();
        log.close_cleanly().await.unwrap();
        let log = open(&disk).await;
        assert_eq!(log.end_offset(), more);
    });
}

#[test]
fn an_ordinary_log_leaves_what_is_reserved_to_vital_ones() {
    run_one(async {
        const RESERVED: u64 = 1 << 20;
        let disk = disk().await;
        disk.set_capacity(Some(64 << 20));
        let memory = TailMemory::new(1 << 20);
        memory.reserve_on_drive(RESERVED);
        let open = async |dir: &str, is_vital: bool| {
            let options =
                LogOptions { is_vital, ..LogOptions::new(Rc::new(TopicConfig::default()), Rc::clone(&memory)) };
            Log::open(&disk.disk(), Path::new(dir), options, false, None, &mut |_| {}).await.unwrap().0
        };
        let (ordinary, vital) = (open("/data/t-0", false).await, open("/data/__v-0", true).await);
        loop {
            let end = append(&ordinary, 300_000);
            if let Err(error) = ordinary.wait(end, Stage::Durable).await {
                assert!(matches!(error, LogError::DiskFull(_)), "{error}");
                break;
            }
        }
        let free = disk.disk().space(Path::new("/data")).await.unwrap().free;
        assert!((RESERVED..RESERVED + 400_000).contains(&free), "{free} bytes are left");
        // Others go on into it, and only as far as they need.
        for _ in 0..2 {
            let end = append(&vital, 300_000);
            vital.wait(end, Stage::Durable).await.unwrap();
        }
        let now = disk.disk().space(Path::new("/data")).await.unwrap().free;
        assert!(free - now < 700_000, "{} bytes were taken", free - now);
        assert!(ordinary.is_full() && !vital.is_full());
        disk.set_capacity(None);
        until(|| !ordinary.is_full()).await;
        ordinary.close_cleanly().await.unwrap();
        vital.close_cleanly().await.unwrap();
        assert!(memory.space.ahead() == 0, "closed, and something is ahead");
    });
}

#[test]
fn logs_that_ask_at_the_same_time_leave_the_reserve_together() {
    run_one(async {
        const RESERVED: u64 = 1 << 20;
        const LOGS: usize = 50;
        let disk = disk().await;
        disk.set_capacity(Some(32 << 20));
        // Two cores: what they have in common is the drive's share.
        let share = Arc::new(DriveShare::default());
        let memories = [TailMemory::new(1 << 20), TailMemory::new(1 << 20)];
        for memory in &memories {
            memory.reserve_on_drive(RESERVED);
            memory.share_drive(&share);
        }
        let mut logs = Vec::new();
        for number in 0..LOGS {
            let options = LogOptions::new(Rc::new(TopicConfig::default()), Rc::clone(&memories[number % 2]));
            let dir = format!("/data/t-{number}");
            let log = Log::open(&disk.disk(), Path::new(&dir), options, false, None, &mut |_| {}).await.unwrap().0;
            // Its file is there: all that is left to do is the same for each.
            let end = append(&log, 100);
            log.wait(end, Stage::Durable).await.unwrap();
            logs.push(log);
        }
        // More than there is, so each is told how much is free before any has taken its part.
        disk.slow(When::verb(Verb::Allocate).from_then_on(), Duration::from_millis(20));
        let ends: Vec<_> = logs.iter().map(|log| append(log, 1_000_000)).collect();
        let mut taken = 0;
        for (log, end) in logs.iter().zip(ends) {
            match log.wait(end, Stage::Durable).await {
                Ok(()) => taken += 1,
                Err(error) => assert!(matches!(error, LogError::DiskFull(_)), "{error}"),
            }
        }
        let free = disk.disk().space(Path::new("/data")).await.unwrap().free;
        assert!((RESERVED..RESERVED + (4 << 20)).contains(&free), "{free} bytes are left by {taken} logs");
        assert!(taken < LOGS && logs.iter().any(Log::is_full));
        disk.set_capacity(None);
        for log in logs {
            until(|| !log.is_full()).await;
            log.close_cleanly().await.unwrap();
        }
        assert_eq!(memories[0].space.ahead(), 0);
    });
}

#[test]
fn only_the_reserve_is_left_and_retention_gives_a_segment_up() {
    run_one(async {
        const SEGMENT: usize = 1 << 20;
        const RESERVED: u64 = 1 << 20;
        let disk = disk().await;
        let memory = TailMemory::new(1 << 20);
        memory.reserve_on_drive(RESERVED);
        let config = TopicConfig { segment_bytes: SEGMENT as i32, file_delete_delay_ms: 0, ..TopicConfig::default() };
        let open = async |dir: &str| {
            let config = TopicConfig { retention_ms: -1, ..config.clone() };
            let options = LogOptions::new(Rc::new(config), Rc::clone(&memory));
            Log::open(&disk.disk(), Path::new(dir), options, false, None, &mut |_| {}).await.unwrap().0
        };
        let (log, new) = (open(DIR).await, open("/data/new-0").await);
        // A segment as large as may be, all of which is allocated.
        let end = append(&log, SEGMENT - 200);
        log.wait(end, Stage::Durable).await.unwrap();
        let space = disk.disk().space(Path::new("/data")).await.unwrap();
        let used = space.total - space.free;
        disk.set_capacity(Some((64 << 20).max(used)));
        let total = disk.disk().space(Path::new("/data")).await.unwrap();
        // Other programs have the rest.
        let file = disk.disk().open(Path::new("/data/other"), crate::runtime::disk::Open::CREATE).await.unwrap();
        file.allocate(0, total.free - RESERVED + 4096).await.unwrap();
        // What was seen before that is believed no more.
        memory.reserve_on_drive(RESERVED);
        for log in [&new, &log] {
            let refused = append(log, 10_000);
            assert!(matches!(log.wait(refused, Stage::Durable).await, Err(LogError::DiskFull(_))));
        }
        // Not even a name.
        assert!(!new.dir_exists() && log.dir_exists());
        until(|| log.all_sealed()).await;
        log.update_config(Rc::new(TopicConfig { retention_ms: -1, retention_bytes: 1000, ..config.clone() }));
        assert_eq!(log.retain(now(), end, usize::MAX).await.unwrap(), 1);
        until(|| !log.is_full() && !new.is_full()).await;
        log.close_cleanly().await.unwrap();
        new.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_log_on_a_full_disk_can_be_closed_and_loses_nothing_acknowledged() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let kept = append(&log, 1000);
        log.wait(kept, Stage::Durable).await.unwrap();
        disk.set_capacity(Some(0));
        let mut end = kept;
        while !log.is_full() {
            end = append(&log, 30_000);
            let _ = log.wait(end, Stage::Durable).await;
        }
        let durable = log.durable_offset();
        assert!(matches!(log.close_cleanly().await, Err(LogError::DiskFull(_))));
        assert!(end > durable);
        let log = open(&disk.reopen(3)).await;
        assert_eq!(log.end_offset(), durable);
    });
}

#[test]
fn a_new_segment_waits_for_the_flush_of_the_one_before() {
    run_one(async {
        let disk = disk().await;
        let config = TopicConfig { segment_bytes: 4000, flush_messages: i64::MAX, ..TopicConfig::default() };
        let log = open_with(&disk, config).await;
        let first = append(&log, 3000);
        log.wait(first, Stage::Written).await.unwrap();
        let stall = disk.stall(When::verb(Verb::Flush));
        let second = append(&log, 3000);
        stall.reached().await;
        settle().await;
        assert_eq!(log.segment_count(), 2);
        assert_eq!(disk.count(Verb::Write, of_log), 1, "nothing is written to the new segment yet");
        // Appends do not wait for any of this.
        let third = append(&log, 100);
        stall.release();
        log.wait(third, Stage::Written).await.unwrap();
        assert!(second < third && log.durable_offset() >= first);
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn retention_deletes_whole_segments_and_keeps_an_active_one() {
    run_one(async {
        let disk = disk().await;
        let config = TopicConfig { segment_bytes: 4000, file_delete_delay_ms: 0, ..TopicConfig::default() };
        let log = open_with(&disk, TopicConfig { retention_ms: -1, ..config.clone() }).await;
        let mut end = Offset(0);
        for _ in 0..10 {
            end = append(&log, 3000);
            log.wait(end, Stage::Durable).await.unwrap();
        }
        assert_eq!(log.retain(now(), end, usize::MAX).await.unwrap(), 0);
        // By size: what is left without the oldest must still be enough.
        log.update_config(Rc::new(TopicConfig { retention_ms: -1, retention_bytes: 7000, ..config.clone() }));
        assert_eq!(log.retain(now(), end, usize::MAX).await.unwrap(), 7);
        assert_eq!((log.start_offset(), log.segment_count()), (Offset(7), 3));
        assert!(matches!(log.read_plan(Offset(6), end, 10, true), Err(LogError::OutOfRange { .. })));
        // By the log start offset.
        log.update_config(Rc::new(TopicConfig { retention_ms: -1, ..config.clone() }));
        assert_eq!(log.increment_start_offset(Offset(8)).unwrap(), Offset(8));
        assert_eq!(log.retain(now(), end, usize::MAX).await.unwrap(), 1);
        // By age: all records are of 1970. The active segment is rolled, then goes as well.
        log.update_config(Rc::new(TopicConfig { retention_ms: 1000, ..config.clone() }));
        let mut deleted = 0;
        while log.start_offset() < end {
            deleted += log.retain(now(), end, usize::MAX).await.unwrap();
            settle().await;
        }
        assert_eq!((deleted, log.segment_count(), log.end_offset()), (2, 1, end));
        log.close_cleanly().await.unwrap();
        let names = disk.disk().list(Path::new(DIR)).await.unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".deleted")), "{names:?}");
        let log = open(&disk).await;
        assert_eq!((log.start_offset(), log.end_offset()), (end, end));
    });
}

#[test]
fn tasks_end_when_a_log_is_quiet_and_come_back() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        for _ in 0..3 {
            let end = append(&log, 10);
            log.wait(end, Stage::Durable).await.unwrap();
            settle().await;
            log.upkeep(now());
            settle().await;
            assert!(task::alive().iter().any(|name| name.0 == "log writer"), "busy since the last upkeep");
            log.upkeep(now());
            task::all_ended("log writer").await;
            task::all_ended("log flusher").await;
        }
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_deleted_log_tells_who_waits() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let end = append(&log, 10);
        log.wait(end, Stage::Durable).await.unwrap();
        let stall = disk.stall(When::verb(Verb::Write));
        let end = append(&log, 10);
        stall.reached().await;
        let told = Rc::new(Cell::new(false));
        let (waits, seen) = (log.clone(), Rc::clone(&told));
        task::spawn(task::Queue::Network, "waits", task::OnPanic::StopProcess, async move {
            assert!(matches!(waits.wait(end, Stage::Durable).await, Err(LogError::Deleted(_))));
            seen.set(true);
        });
        settle().await;
        let deletes = log.clone();
        task::spawn(task::Queue::Network, "deletes", task::OnPanic::StopProcess, async move {
            deletes.delete("x").await.unwrap();
        });
        until(|| told.get()).await;
        stall.release();
        task::all_ended("deletes").await;
        assert!(disk.disk().list(Path::new(DIR)).await.is_err());
        log.remove_dir().await.unwrap();
        assert!(disk.disk().list(Path::new("/data")).await.unwrap().is_empty());
    });
}

/// A log of a disk on which several share one memory.
async fn open_at(disk: &SimulatedDisk, name: &str, memory: &Rc<TailMemory>) -> Log {
    let options = LogOptions::new(Rc::new(TopicConfig::default()), Rc::clone(memory));
    Log::open(&disk.disk(), &Path::new("/data").join(name), options, false, None, &mut |_| {}).await.unwrap().0
}

/// Appends as a connection does for its client, without waiting for the drive.
async fn append_with_room(log: &Log, value_bytes: usize) -> Result<Offset, LogError> {
    let _room = log.room(batch(value_bytes).len()).await?;
    try_append(log, value_bytes)
}

/// What became of an append that goes on by itself.
type Outcome = Rc<RefCell<Option<Result<Offset, LogError>>>>;

fn appends(log: &Log, value_bytes: usize) -> Outcome {
    let outcome = Outcome::default();
    let (log, told) = (log.clone(), Rc::clone(&outcome));
    task::spawn(task::Queue::Network, "appends", task::OnPanic::StopProcess, async move {
        let result = append_with_room(&log, value_bytes).await;
        *told.borrow_mut() = Some(result);
    });
    outcome
}

#[test]
fn a_stalled_drive_holds_all_logs_of_a_core_to_one_bound() {
    const BATCHES: i64 = 100;
    let bound = 256 << 10;
    run_one(async move {
        let disk = disk().await;
        let memory = TailMemory::with_unwritten(64 << 10, bound);
        let mut logs = Vec::new();
        for at in 0..8 {
            logs.push(open_at(&disk, &format!("t-{at}"), &memory).await);
        }
        let stall = disk.stall(When::verb(Verb::Write).on(of_log).from_then_on());
        for log in logs.clone() {
            task::spawn(task::Queue::Network, "client", task::OnPanic::StopProcess, async move {
                for _ in 0..BATCHES {
                    append_with_room(&log, 5000).await.unwrap();
                    futures_lite::future::yield_now().await;
                }
            });
        }
        stall.reached().await;
        until(|| memory.unwritten() + 8000 > bound).await;
        settle().await;
        // Counted in blocks: the last batch of each log may have begun two.
        let most = bound + logs.len() * 2 * BLOCK_BYTES;
        let waiting: u64 = logs.iter().map(Log::waiting_bytes).sum();
        assert!(memory.unwritten() <= most && waiting <= memory.unwritten() as u64, "{waiting} of {most}");
        assert!(logs.iter().all(|log| log.end_offset() > Offset(0)), "one log has all the room");
        stall.release();
        task::all_ended("client").await;
        for log in &logs {
            assert_eq!(log.end_offset(), Offset(BATCHES));
            log.wait(Offset(BATCHES), Stage::Written).await.unwrap();
        }
        until(|| memory.unwritten() == 0).await;
        for log in &logs {
            log.close_cleanly().await.unwrap();
        }
        assert_eq!(memory.unwritten(), 0);
    });
}

#[test]
fn a_log_that_ends_gives_its_room_to_the_others() {
    run_one(async {
        let disk = disk().await;
        let memory = TailMemory::with_unwritten(64 << 10, 64 << 10);
        let (first, second) = (open_at(&disk, "t-0", &memory).await, open_at(&disk, "t-1", &memory).await);
        let stall = disk.stall(When::verb(Verb::Write).on(|path| path.starts_with("/data/t-0")));
        append_with_room(&first, 1000).await.unwrap();
        stall.reached().await;
        let under_way = memory.unwritten();
        assert!(under_way >= 1000);
        append_with_room(&first, 50_000).await.unwrap();
        let refused = appends(&first, 20_000);
        settle().await;
        let waits = appends(&second, 20_000);
        settle().await;
        assert!(refused.borrow().is_none() && waits.borrow().is_none());
        first.take_offline("the test says so");
        until(|| refused.borrow().is_some() && waits.borrow().is_some()).await;
        assert!(matches!(*refused.borrow(), Some(Err(LogError::Offline(_)))));
        assert!(matches!(*waits.borrow(), Some(Ok(Offset(1)))));
        second.wait(Offset(1), Stage::Written).await.unwrap();
        until(|| memory.unwritten() == under_way).await;
        // The write that is under way holds its memory until it ends.
        stall.release();
        until(|| memory.unwritten() == 0).await;
        second.close_cleanly().await.unwrap();
    });
}

#[test]
fn who_waits_for_room_is_told_of_a_close_and_of_a_failed_write() {
    run_one(async {
        let disk = disk().await;
        let memory = TailMemory::with_unwritten(64 << 10, 16 << 10);
        let (first, second) = (open_at(&disk, "t-0", &memory).await, open_at(&disk, "t-1", &memory).await);
        let stall = disk.stall(When::verb(Verb::Write).on(of_log));
        // Larger than the bound: it passes, as nothing else is held.
        append_with_room(&first, 40_000).await.unwrap();
        stall.reached().await;
        let (of_first, of_second) = (appends(&first, 100), appends(&second, 100));
        settle().await;
        assert!(of_first.borrow().is_none() && of_second.borrow().is_none());
        second.close_cleanly().await.unwrap();
        until(|| of_second.borrow().is_some()).await;
        assert!(matches!(*of_second.borrow(), Some(Err(LogError::Closed(_)))));
        assert!(of_first.borrow().is_none());
        // The next write of the first log fails: what it held is free again.
        stall.release();
        until(|| of_first.borrow().is_some()).await;
        assert!(matches!(*of_first.borrow(), Some(Ok(_))));
        first.wait(first.end_offset(), Stage::Written).await.unwrap();
        disk.fail(When::verb(Verb::Write).on(of_log), Fault::Broken);
        append_with_room(&first, 100).await.unwrap();
        task::all_ended("log writer").await;
        assert_eq!(memory.unwritten(), 0);
        assert!(matches!(append_with_room(&first, 100).await, Err(LogError::Offline(_))));
        // Deleted with bytes that were never written.
        let third = open_at(&disk, "t-2", &memory).await;
        append_with_room(&third, 5000).await.unwrap();
        third.delete("x").await.unwrap();
        assert_eq!(memory.unwritten(), 0);
    });
}

#[test]
fn a_full_drive_refuses_instead_of_letting_others_wait_for_room() {
    run_one(async {
        let disk = disk().await;
        let memory = TailMemory::with_unwritten(64 << 10, 64 << 10);
        let (first, second) = (open_at(&disk, "t-0", &memory).await, open_at(&disk, "t-1", &memory).await);
        let stall = disk.stall(When::verb(Verb::Allocate));
        let end = append_with_room(&first, 60_000).await.unwrap();
        stall.reached().await;
        let waits = appends(&second, 20_000);
        settle().await;
        assert!(waits.borrow().is_none());
        disk.set_capacity(Some(0));
        stall.release();
        until(|| waits.borrow().is_some()).await;
        assert!(matches!(*waits.borrow(), Some(Err(LogError::DiskFull(_)))), "{:?}", waits.borrow());
        assert!(matches!(append_with_room(&second, 20_000).await, Err(LogError::DiskFull(_))));
        assert!(matches!(append_with_room(&first, 10).await, Err(LogError::DiskFull(_))));
        disk.set_capacity(None);
        until(|| !first.is_full()).await;
        first.wait(end, Stage::Written).await.unwrap();
        let end = append_with_room(&second, 20_000).await.unwrap();
        second.wait(end, Stage::Written).await.unwrap();
        until(|| memory.unwritten() == 0).await;
        // Closed, or left, while it is full: nothing is held back afterwards.
        disk.set_capacity(Some(0));
        while !first.is_full() {
            let end = append_with_room(&first, 30_000).await.unwrap();
            let _ = first.wait(end, Stage::Written).await;
        }
        assert!(matches!(first.close_cleanly().await, Err(LogError::DiskFull(_))));
        disk.set_capacity(None);
        assert_eq!(memory.unwritten(), 0);
        let end = append_with_room(&second, 100_000).await.unwrap();
        let waits = appends(&second, 20_000);
        second.wait(end, Stage::Written).await.unwrap();
        until(|| waits.borrow().is_some()).await;
        assert!(matches!(*waits.borrow(), Some(Ok(_))), "{:?}", waits.borrow());
        second.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_recovery_point_follows_the_flush_and_its_snapshot_comes_last() {
    run_one(async {
        let disk = disk().await;
        let log = open_with(&disk, TopicConfig { flush_messages: i64::MAX, ..TopicConfig::default() }).await;
        assert_eq!(log.make_point(Vec::new()).await.unwrap(), None, "nothing is there");
        let end = append(&log, 100);
        log.wait(end, Stage::Written).await.unwrap();
        let before = disk.operations().len();
        let flushing = disk.stall(When::verb(Verb::Flush));
        let mut making = Box::pin(log.make_point(b"producers".to_vec()));
        assert!(futures_lite::future::poll_once(&mut making).await.is_none());
        flushing.reached().await;
        // What comes now is behind the point.
        append(&log, 100);
        settle().await;
        assert_eq!(disk.count(Verb::WriteFile, |_| true), 0, "nothing tells of what is not durable");
        flushing.release();
        assert_eq!(making.await.unwrap(), Some(end));
        let operations = disk.operations();
        let files = operations[before..].iter().filter(|operation| operation.verb == Verb::WriteFile);
        let names: Vec<_> = files.map(|operation| operation.path.extension().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["index", "timeindex", "snapshot"]);
        assert_eq!((log.recovery_point(), log.bytes_behind_point()), (end, batch(100).len() as u64));
        log.take_offline("the test has ended");
    });
}

#[test]
fn a_recovery_point_that_cannot_be_written_leaves_the_log_as_it_is() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        for (skip, fault) in [(0, Fault::Broken), (1, Fault::NoSpace), (2, Fault::Broken)] {
            let end = append(&log, 100);
            log.wait(end, Stage::Durable).await.unwrap();
            disk.fail(When::verb(Verb::WriteFile).after(skip), fault);
            log.make_point(b"producers".to_vec()).await.unwrap_err();
            assert_eq!((log.recovery_point(), log.bytes_since_point_tried()), (Offset(0), 0));
        }
        let end = append(&log, 100);
        assert_eq!(log.make_point(b"producers".to_vec()).await.unwrap(), Some(end));
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_point_and_a_seal_wait_for_each_other() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let end = append(&log, 100);
        log.wait(end, Stage::Durable).await.unwrap();
        let writing = disk.stall(When::verb(Verb::WriteFile).on(|path| path.extension().is_some_and(|e| e == "index")));
        let mut making = Box::pin(log.make_point(b"producers".to_vec()));
        assert!(futures_lite::future::poll_once(&mut making).await.is_none());
        writing.reached().await;
        // The next segment begins, and the one before is to be sealed: not while its index is written.
        log.roll();
        append(&log, 100);
        settle().await;
        let sealed = |disk: &SimulatedDisk| disk.count(Verb::SetLength, of_log);
        assert_eq!(sealed(&disk), 0);
        writing.release();
        assert_eq!(making.await.unwrap(), Some(end));
        until(|| sealed(&disk) == 1).await;
        log.close_cleanly().await.unwrap();
    });
}

/// Batches of one block each: bytes of another place look right.
async fn blocks(disk: &SimulatedDisk) -> Log {
    let config = TopicConfig {
        index_interval_bytes: 1,
        file_delete_delay_ms: 0,
        segment_bytes: 3 * BLOCK_BYTES as i32,
        ..TopicConfig::default()
    };
    let options = LogOptions::new(Rc::new(config), TailMemory::new(0));
    let log = Log::open(&disk.disk(), Path::new(DIR), options, true, None, &mut |_| {}).await.unwrap().0;
    let overhead = batch(4000).len() - 4000;
    for _ in 0..6 {
        append(&log, BLOCK_BYTES - overhead);
    }
    log.wait(log.end_offset(), Stage::Durable).await.unwrap();
    until(|| log.all_sealed()).await;
    log
}

#[test]
fn bytes_of_another_place_are_not_served() {
    run_one(async {
        let disk = disk().await;
        let log = blocks(&disk).await;
        // The second batch of the first segment: in its place comes the third, whose checksum is right.
        for blocks in 1..3 {
            disk.misdirect(When::verb(Verb::Read).on(of_log), blocks);
            let plan = log.read_plan(Offset(1), Offset(2), 100, true).unwrap();
            match plan.execute().await {
                Ok(rope) => {
                    let bytes = rope.to_bytes();
                    assert!(bytes.is_empty() || BatchView::first(&bytes).unwrap().base_offset() == Offset(1));
                }
                Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
            }
        }
        // Asked again it is there.
        let bytes = log.read_plan(Offset(1), Offset(2), 100, true).unwrap().execute().await.unwrap().to_bytes();
        assert_eq!(BatchView::first(&bytes).unwrap().base_offset(), Offset(1));
    });
}

#[test]
fn what_was_acknowledged_is_not_written_over_with_bytes_of_another_place() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        for size in [3000, 3000, 500] {
            append(&log, size);
        }
        log.close_cleanly().await.unwrap();
        // The log goes on in its second block, of which it does not have the beginning in memory.
        let options = LogOptions::new(Rc::default(), TailMemory::new(1 << 20));
        let log = Log::open(&disk.disk(), Path::new(DIR), options, true, None, &mut |_| {}).await.unwrap().0;
        disk.misdirect(When::verb(Verb::Read).on(of_log), 1);
        let end = append(&log, 10);
        let told = log.wait(end, Stage::Written).await.unwrap_err();
        assert!(told.to_string().contains("not written over"), "{told}");
        let log = open(&disk.reopen_after_kill(1)).await;
        assert_eq!(log.end_offset(), Offset(3), "all that was acknowledged");
    });
}

#[test]
fn who_reads_what_retention_takes_is_told_so() {
    run_one(async {
        let disk = disk().await;
        let log = blocks(&disk).await;
        // The first segment is read from its file, which is closed.
        let segment = Rc::clone(log.0.state.borrow().segments.front().unwrap());
        drop(segment.take_file());
        let stall = disk.stall(When::verb(Verb::Open).on(of_log));
        let reading = log.read_plan(Offset(0), Offset(3), 100, true).unwrap().execute();
        let retaining = async {
            stall.reached().await;
            log.increment_start_offset(Offset(3)).unwrap();
            assert_eq!(log.retain(UnixMs(1), log.end_offset(), 1).await.unwrap(), 1);
            stall.release();
        };
        let (read, ()) = futures_lite::future::zip(reading, retaining).await;
        assert!(matches!(read, Err(LogError::OutOfRange { start: Offset(3), .. })), "{:?}", read.err());
        // And who looks for a time is not told of anything.
        assert!(log.offset_for_timestamp(1, log.end_offset()).await.unwrap().is_some());
    });
}

#[test]
fn a_log_start_that_was_seen_does_not_go_back() {
    // Whatever retention has come to; and what is not done is done the next time.
    for (operation, then) in (0..11).flat_map(|operation| (0..3).map(move |then| (operation, then))) {
        run_one(async {
            let disk = disk().await;
            let log = blocks(&disk).await;
            log.update_config(Rc::new(TopicConfig {
                retention_bytes: 3 * BLOCK_BYTES as i64,
                file_delete_delay_ms: 1,
                ..log.config().as_ref().clone()
            }));
            disk.fail(When::operation(operation), Fault::Broken);
            let first = log.retain(UnixMs(1), log.end_offset(), 10).await;
            let mut seen = log.start_offset();
            assert!(first.is_err() || seen == Offset(3), "{operation}: {first:?} and {seen:?}");
            let mut check = |what: &str, now: Offset| {
                assert!(now >= seen, "{what} at {operation}: {now:?} after {seen:?}");
                seen = now;
            };
            match then {
                0 => check("power cut", open(&disk.reopen(operation)).await.start_offset()),
                1 => {
                    let disk = disk.reopen_after_kill(operation);
                    check("kill", open(&disk).await.start_offset());
                    check("power cut after a kill", open(&disk.reopen(operation)).await.start_offset());
                }
                _ => {
                    log.retain(UnixMs(1), log.end_offset(), 10).await.unwrap();
                    assert_eq!((log.start_offset(), log.segment_count()), (Offset(3), 1), "{operation}");
                }
            }
        });
    }
}

#[test]
fn an_end_stops_a_writer_that_begins_meanwhile() {
    run_one(async {
        let disk = disk().await;
        let log = open_with(&disk, TopicConfig { segment_bytes: 4000, ..TopicConfig::default() }).await;
        let of_index = |path: &Path| path.extension().is_some_and(|extension| extension == "index");
        let stall = disk.stall(When::verb(Verb::WriteFile).on(of_index));
        append(&log, 3000);
        let end = append(&log, 3000);
        log.wait(end, Stage::Durable).await.unwrap();
        stall.reached().await;
        // While a segment is being sealed its writer and flusher have ended, and a journal that fails sends what it has.
        let meanwhile = async {
            let idle = || {
                let tasks = log.0.state.borrow().tasks;
                !tasks.writer && !tasks.flusher
            };
            until(idle).await;
            log.0.wake_writer();
            assert!(!idle());
            stall.release();
        };
        let both = futures_lite::future::zip(log.close_cleanly(), meanwhile);
        crate::runtime::clock::timeout(Duration::from_secs(60), both).await.expect("it ends").0.unwrap();
    });
}

#[test]
fn an_end_waits_for_retention() {
    run_one(async {
        let disk = disk().await;
        let log = blocks(&disk).await;
        log.increment_start_offset(Offset(3)).unwrap();
        let stall = disk.stall(When::verb(Verb::Remove).on(of_log));
        let retaining = log.retain(UnixMs(1), log.end_offset(), 1);
        let closing = async {
            stall.reached().await;
            let mut closing = Box::pin(log.close_cleanly());
            let early = futures_lite::future::poll_once(&mut closing).await;
            settle().await;
            assert!(early.is_none() && futures_lite::future::poll_once(&mut closing).await.is_none());
            stall.release();
            closing.await.unwrap();
        };
        futures_lite::future::zip(retaining, closing).await.0.unwrap();
        let names = disk.disk().list(Path::new(DIR)).await.unwrap();
        let logs = names.iter().filter(|entry| entry.name.ends_with(".log")).count();
        assert_eq!(logs, open(&disk).await.segment_count());
    });
}

#[test]
fn a_drive_too_full_to_seal_a_segment_refuses_appends_and_recovers() {
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let of_index = |path: &Path| path.extension().is_some_and(|extension| extension == "index");
        disk.fail(When::verb(Verb::WriteFile).on(of_index).from_then_on(), Fault::NoSpace);
        append(&log, 100);
        log.roll();
        let end = append(&log, 100);
        // The second segment is there; the third waits for the first to be sealed.
        let _ = log.wait(end, Stage::Written).await;
        until(|| log.is_full()).await;
        assert!(matches!(try_append(&log, 1), Err(LogError::DiskFull(_))));
        disk.clear_rules();
        until(|| !log.is_full()).await;
        log.roll();
        let end = append(&log, 100);
        log.wait(end, Stage::Durable).await.unwrap();
        log.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_write_that_waits_for_space_holds_up_no_reads() {
    run_one(async {
        let disk = disk().await;
        let log = blocks(&disk).await;
        disk.fail(When::verb(Verb::Write).on(of_log).from_then_on(), Fault::NoSpace);
        append(&log, 10);
        until(|| log.is_full()).await;
        let read = log.read_plan(Offset(1), Offset(2), 100, true).unwrap().execute();
        let read = crate::runtime::clock::timeout(Duration::from_secs(20), read).await;
        let bytes = read.expect("the drive can be read").unwrap().to_bytes();
        assert_eq!(BatchView::first(&bytes).unwrap().base_offset(), Offset(1));
        log.take_offline("the test has ended");
    });
}

#[test]
fn a_seal_that_fails_begins_no_further_segment() {
    // Recovery takes a segment for sealed that has index files and two behind it; a clean close may have left those.
    run_one(async {
        let disk = disk().await;
        let log = open(&disk).await;
        let seals = |path: &Path| path.ends_with("00000000000000000000.index");
        disk.fail(When::verb(Verb::WriteFile).on(seals), Fault::Broken);
        let stall = disk.stall(When::verb(Verb::SetLength));
        append(&log, 100);
        log.roll();
        append(&log, 100);
        stall.reached().await;
        log.roll();
        let third = append(&log, 100);
        let told = log.wait(third, Stage::Durable);
        // The writer is at the third, and waits for the first.
        settle().await;
        stall.release();
        let told = told.await.unwrap_err();
        assert!(told.to_string().contains("t-0 is offline: write 00000000000000000000.index"), "{told}");
        task::all_ended("log writer").await;
        task::all_ended("log sealer").await;
        let logs = disk.disk().list(Path::new(DIR)).await.unwrap();
        let logs: Vec<_> = logs.iter().filter(|entry| entry.name.ends_with(".log")).map(|entry| &entry.name).collect();
        assert_eq!(logs, ["00000000000000000000.log", "00000000000000000001.log"]);
    });
}

/// Six segments with one batch each, of which retention is to leave two.
async fn to_retain(disk: &SimulatedDisk, delay_ms: i64) -> Log {
    let log = open(disk).await;
    for _ in 0..6 {
        append(&log, 1000);
        log.roll();
    }
    log.wait(log.end_offset(), Stage::Durable).await.unwrap();
    until(|| log.all_sealed()).await;
    let config = log.config().as_ref().clone();
    log.update_config(Rc::new(TopicConfig { retention_bytes: 2000, file_delete_delay_ms: delay_ms, ..config }));
    log
}

#[test]
fn retention_that_a_power_cut_ends_leaves_no_gap() {
    let mut left = std::collections::BTreeSet::new();
    for (operation, seed) in (0..16).flat_map(|operation| (0..30).map(move |seed| (operation, seed))) {
        let found = run_one(async move {
            let disk = disk().await;
            let log = to_retain(&disk, seed as i64 % 2).await;
            let bases = log.segment_bases();
            disk.cut(When::operation(operation));
            let _ = log.retain(UnixMs(1), log.end_offset(), 10).await;
            let disk = disk.reopen(seed);
            let found = open(&disk).await.segment_bases();
            assert!(bases.ends_with(&found), "cut at {operation}, seed {seed}: {found:?} of {bases:?}");
            let names = disk.disk().list(Path::new(DIR)).await.unwrap();
            assert!(names.iter().all(|entry| !entry.name.ends_with("given-up")), "{names:?}");
            found.len()
        });
        left.insert(found);
    }
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [3, 7], "what was begun, and durably so, is done");
}

#[test]
fn a_power_cut_does_not_bring_back_what_retention_gave_up_on() {
    for seed in 0..40 {
        run_one(async move {
            let disk = disk().await;
            let log = to_retain(&disk, 1000).await;
            // The third segment of four stays, and those behind it.
            disk.fail(When::verb(Verb::Rename).after(2), Fault::Broken);
            assert!(log.retain(UnixMs(1), log.end_offset(), 10).await.is_err());
            assert_eq!(log.start_offset(), Offset(2));
            let reopened = open(&disk.reopen(seed)).await;
            assert_eq!((reopened.start_offset(), reopened.segment_count()), (Offset(2), 5), "seed {seed}");
        });
    }
}

#[test]
fn on_a_full_drive_retention_takes_one_segment_after_the_other() {
    run_one(async {
        let disk = disk().await;
        let log = to_retain(&disk, 0).await;
        let announces = |path: &Path| path.extension().is_some_and(|extension| extension == "given-up");
        disk.fail(When::verb(Verb::Open).on(announces).from_then_on(), Fault::NoSpace);
        let syncs = disk.count(Verb::SyncDir, |_| true);
        assert_eq!(log.retain(UnixMs(1), log.end_offset(), 10).await.unwrap(), 4);
        assert_eq!((log.start_offset(), log.segment_count()), (Offset(4), 3));
        assert_eq!(disk.count(Verb::SyncDir, |_| true) - syncs, 4);
    });
}
