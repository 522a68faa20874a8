//! The log on a real directory: the paths a record takes. Crashes and faults are in `faults`.

use super::*;
use crate::base::LeaderEpoch;
use crate::record::{BatchBuilder, BatchView, NewRecord, Stamp};
use crate::runtime::run_one;

/// A batch of `count` records of `value_bytes` each, with timestamps from `timestamp` on.
fn batch(count: usize, value_bytes: usize, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let value = vec![b'v'; value_bytes];
    for at in 0..count {
        builder.push(NewRecord { timestamp: timestamp + at as i64, key: None, value: Some(&value), headers: &[] });
    }
    builder.build()
}

fn append(log: &Log, batch: &[u8]) -> Appended {
    let stamp = Stamp { base_offset: log.end_offset(), leader_epoch: LeaderEpoch(3), log_append_time: None };
    log.append(batch, &stamp).unwrap()
}

fn options(config: TopicConfig) -> LogOptions {
    LogOptions::new(Rc::new(config), TailMemory::new(1 << 20))
}

async fn open(dir: &Path, config: TopicConfig, clean: bool) -> (Log, Opened) {
    Log::open(&Disk::direct(), dir, options(config), clean, None, &mut |_| {}).await.unwrap()
}

/// All batches from `from` on, by reads of `bytes_max`: base offset and size of each.
async fn read_all(log: &Log, from: Offset, bytes_max: usize) -> Vec<(i64, usize)> {
    let mut all = Vec::new();
    let mut next = from;
    while next < log.written_offset() {
        let rope = log.read_plan(next, Offset(i64::MAX), bytes_max, true).unwrap().execute().await.unwrap();
        let bytes = rope.to_bytes();
        let mut at = 0;
        assert!(!bytes.is_empty(), "nothing at {next}");
        while at < bytes.len() {
            let batch = BatchView::first(&bytes[at..]).unwrap();
            assert!(batch.crc_is_right());
            assert!(batch.last_offset() >= next);
            all.push((batch.base_offset().0, batch.size()));
            next = batch.next_offset();
            at += batch.size();
        }
    }
    all
}

#[test]
fn what_is_appended_is_durable_and_read_from_memory_and_drive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    run_one(async move {
        let config = TopicConfig { segment_bytes: 100_000, ..TopicConfig::default() };
        let (log, _) = open(&path, config.clone(), true).await;
        let mut expected = Vec::new();
        let mut next = 0;
        for round in 0..200usize {
            let bytes = batch(1 + round % 3, 10 + (round * 37) % 3000, 1_000 + round as i64);
            let placed = append(&log, &bytes);
            assert_eq!(placed.base_offset, Offset(next));
            expected.push((next, bytes.len()));
            next = placed.last_offset.0 + 1;
            if round % 7 == 0 {
                log.wait(Offset(next), Stage::Durable).await.unwrap();
                assert!(log.durable_offset() >= Offset(next));
            }
        }
        log.wait(Offset(next), Stage::Durable).await.unwrap();
        assert!(log.segment_count() > 1, "{}", log.segment_count());
        for bytes_max in [1, 5000, 1 << 20] {
            assert_eq!(read_all(&log, Offset(0), bytes_max).await, expected, "{bytes_max}");
        }
        log.close_cleanly().await.unwrap();

        for clean in [true, false, true] {
            let (log, opened) = open(&path, config.clone(), clean).await;
            assert_eq!(opened.recovered, !clean);
            assert_eq!(log.end_offset(), Offset(next));
            for bytes_max in [1, 5000, 1 << 20] {
                assert_eq!(read_all(&log, Offset(0), bytes_max).await, expected, "{bytes_max}");
            }
            let bytes = batch(2, 100, 5_000);
            append(&log, &bytes);
            expected.push((next, bytes.len()));
            next += 2;
            log.wait(Offset(next), Stage::Durable).await.unwrap();
            assert_eq!(read_all(&log, Offset(0), 5000).await, expected);
            log.close_cleanly().await.unwrap();
        }
    });
}

#[test]
fn an_idle_log_is_small() {
    // Ten thousand of them should not be noticed. Names and the directory's path come on top.
    let fixed = size_of::<Inner>() + size_of::<Segment>() + 4 * size_of::<Rc<Segment>>();
    assert!(fixed < 2048, "{fixed} bytes");
}

#[test]
fn records_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    run_one(async move {
        let config = TopicConfig { segment_bytes: 3000, index_interval_bytes: 500, ..TopicConfig::default() };
        let (log, _) = open(&path, config.clone(), true).await;
        // Records of 100 batches of three: 1000, 1001, 1002, 1010, 1011, ...; one batch is far ahead.
        for at in 0..100 {
            append(&log, &batch(3, 100, if at == 50 { 9_000 } else { 1_000 + at * 10 }));
        }
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        let check = async |log: &Log| {
            let end = log.end_offset();
            for (timestamp, upper, expected) in [
                (0, end, Some((1_000, 0))),
                (1_000, end, Some((1_000, 0))),
                (1_001, end, Some((1_001, 1))),
                (1_003, end, Some((1_010, 3))),
                (1_492, end, Some((1_492, 149))),
                (1_493, end, Some((9_000, 150))),
                (1_993, end, Some((9_000, 150))),
                (9_002, end, Some((9_002, 152))),
                (9_003, end, None),
                (1_493, Offset(150), None),
                (1_000, Offset(0), None),
            ] {
                let found = log.offset_for_timestamp(timestamp, upper).await.unwrap();
                assert_eq!(found.map(|found| (found.timestamp, found.offset.0)), expected, "{timestamp} below {upper}");
            }
            let youngest = |upper: i64| async move {
                log.offset_of_max_timestamp(Offset(upper)).await.unwrap().map(|found| (found.timestamp, found.offset.0))
            };
            assert_eq!(youngest(end.0).await, Some((9_002, 152)));
            assert_eq!(youngest(150).await, Some((1_492, 149)));
            assert_eq!(youngest(0).await, None);
        };
        check(&log).await;
        log.close_cleanly().await.unwrap();
        for clean in [true, false] {
            check(&open(&path, config.clone(), clean).await.0).await;
        }
    });
}

#[test]
fn segments_roll_by_size_time_and_full_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    run_one(async move {
        let bases = async |name: &str, config: TopicConfig, timestamps: &[i64]| {
            let (log, _) = open(&path.join(name), config, true).await;
            for timestamp in timestamps {
                append(&log, &batch(1, 900, *timestamp));
            }
            log.wait(log.end_offset(), Stage::Durable).await.unwrap();
            log.close_cleanly().await.unwrap();
            log.segment_bases().iter().map(|base| base.0).collect::<Vec<_>>()
        };
        let same = [5; 9];
        let size = TopicConfig { segment_bytes: 3000, ..TopicConfig::default() };
        assert_eq!(bases("size-0", size, &same).await, [0, 3, 6]);
        // By the records' time: a replay of old data rolls as the data did. Backwards is no reason.
        let time = TopicConfig { segment_ms: 100, ..TopicConfig::default() };
        assert_eq!(bases("time-0", time, &[1000, 1100, 1101, 50, 1201, 1202, 1203]).await, [0, 2, 5]);
        // However large the jitter is, it is less than the time that it is taken off from.
        let jitter = TopicConfig { segment_ms: 100, segment_jitter_ms: i64::MAX, ..TopicConfig::default() };
        let mut later = 0;
        for number in 0..20 {
            let found = bases(&format!("jitter-{number}"), jitter.clone(), &[1000, 1000, 1050, 1152]).await;
            assert!(!found.contains(&1) && found.ends_with(&[3]), "{found:?}");
            later += usize::from(found.contains(&2));
        }
        assert!((1..20).contains(&later), "{later} of 20 rolled early");
        // Room for two entries of either index, one of which is kept for the end.
        let index = TopicConfig { segment_index_bytes: 24, index_interval_bytes: 0, ..TopicConfig::default() };
        assert_eq!(bases("index-0", index, &[1, 2, 3, 4, 5]).await, [0, 2, 4]);

        let config = TopicConfig { segment_bytes: 3000, ..TopicConfig::default() };
        let (log, _) = open(&path.join("large-0"), config, true).await;
        let stamp = Stamp { base_offset: Offset(0), leader_epoch: LeaderEpoch(3), log_append_time: None };
        let refused = log.append(&batch(1, 3000, 1), &stamp).unwrap_err();
        assert!(matches!(refused, LogError::BatchTooLarge { max: 3000, .. }), "{refused}");
    });
}

#[test]
fn batches_larger_than_a_write_or_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    run_one(async move {
        let (log, _) = open(&path, TopicConfig::default(), true).await;
        let sizes = [10, 3 << 20, 100, 9 << 20, 5 << 20, 20];
        let mut expected = Vec::new();
        for (at, size) in sizes.into_iter().enumerate() {
            let bytes = batch(1, size, 1);
            append(&log, &bytes);
            expected.push((at as i64, bytes.len()));
        }
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        log.close_cleanly().await.unwrap();
        for clean in [true, false] {
            let (log, _) = open(&path, TopicConfig::default(), clean).await;
            for bytes_max in [1, 4 << 20, 64 << 20] {
                assert_eq!(read_all(&log, Offset(0), bytes_max).await, expected);
            }
            // Not even one, if none fits and none was asked for.
            let plan = log.read_plan(Offset(1), log.end_offset(), 1 << 20, false).unwrap();
            assert!(plan.execute().await.unwrap().is_empty());
        }
    });
}

#[test]
fn no_file_is_waited_for_that_this_process_has_open_itself() {
    use crate::runtime::{disk::lock_waits, task};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    run_one(async move {
        let before = lock_waits();
        let config = TopicConfig { segment_bytes: 20_000, ..TopicConfig::default() };
        for clean in [true, false, true] {
            // Memory for nothing: all reads come from files.
            let options = LogOptions::new(Rc::new(config.clone()), TailMemory::new(0));
            let (log, _) = Log::open(&Disk::direct(), &path, options, clean, None, &mut |_| {}).await.unwrap();
            let start = log.end_offset();
            // The file of the active segment is not open: readers and the writer come at once.
            let first_readers = start.0.min(1) * 8;
            let read = |_| {
                let plan = log.read_plan(Offset(start.0 - 1), start, 1, true).unwrap();
                task::spawn(task::Queue::Network, "reader", task::OnPanic::StopProcess, async move {
                    assert!(!plan.execute().await.unwrap().is_empty());
                });
            };
            (0..first_readers).for_each(read);
            append(&log, &batch(1, 1000, 0));
            task::all_ended("reader").await;
            for _ in 0..400 {
                append(&log, &batch(1, 1000, 0));
                log.wait(log.end_offset(), Stage::Written).await.unwrap();
            }
            log.wait(log.end_offset(), Stage::Durable).await.unwrap();
            assert!(log.segment_count() > crate::base::limits::SEALED_FILES_MAX + 2);
            // Files of sealed segments are closed and opened again, also while others read them.
            for _ in 0..2 {
                let plan = || log.read_plan(Offset(0), log.end_offset(), 1, true).unwrap();
                let (kept, other) = (plan(), plan());
                let all = read_all(&log, Offset(0), 1);
                let both = futures_lite::future::zip(kept.execute(), other.execute());
                let (all, (kept, other)) = futures_lite::future::zip(all, both).await;
                assert!(!kept.unwrap().is_empty() && !other.unwrap().is_empty());
                assert_eq!(all.len() as i64, log.end_offset().0);
                log.upkeep(now());
            }
            log.close_cleanly().await.unwrap();
        }
        assert_eq!(lock_waits(), before);
    });
}

#[test]
fn who_reads_on_has_the_drive_asked_seldom_and_others_at_the_same_place_not_at_all() {
    use crate::runtime::disk::simulated::{SimulatedDisk, Verb};
    run_one(async {
        let simulated = SimulatedDisk::new();
        let config = TopicConfig { segment_bytes: 3_000_000, ..TopicConfig::default() };
        // Memory for nothing: all reads come from files. And as if the writes were long ago.
        let mut memory = TailMemory::new(0);
        Rc::get_mut(&mut memory).expect("no log has it yet").turns =
            super::turns::Turns::with(std::time::Duration::ZERO);
        let options = LogOptions::new(Rc::new(config), memory);
        let dir = Path::new("t-0");
        let (log, _) = Log::open(&simulated.disk(), dir, options, true, None, &mut |_| {}).await.unwrap();
        let mut expected = Vec::new();
        for number in 0..800 {
            let bytes = batch(1, 10_000, number);
            expected.push((append(&log, &bytes).base_offset.0, bytes.len()));
            if number % 50 == 0 {
                log.wait(log.end_offset(), Stage::Durable).await.unwrap();
            }
        }
        log.wait(log.end_offset(), Stage::Durable).await.unwrap();
        let reads = || simulated.count(Verb::Read, |path| path.extension().is_some_and(|kind| kind == "log"));
        let before = reads();
        // 8 MB by 100 KB.
        assert_eq!(read_all(&log, Offset(0), 100_000).await, expected);
        let first = reads() - before;
        assert!((8..=14).contains(&first), "{first} reads");
        for bytes_max in [1, 50_000, 3_000_000] {
            assert_eq!(read_all(&log, Offset(0), bytes_max).await, expected, "{bytes_max}");
        }
        assert_eq!(reads() - before, first, "all of it is in memory");
    });
}

#[test]
fn extents_that_answers_hold_count_and_those_that_nobody_holds_make_room() {
    use super::extents::ExtentMemory;
    let memory = ExtentMemory::new(100);
    let first = memory.take(60).unwrap();
    assert!(memory.take(60).is_none(), "held by an answer");
    let second = memory.take(40).unwrap();
    drop(first);
    let third = memory.take(60).unwrap();
    assert!(memory.take(1).is_none());
    drop((second, third));
    assert!(memory.take(100).is_some());
}

#[test]
fn reads_are_right_whatever_memory_there_is_for_extents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-0");
    run_one(async move {
        let config = TopicConfig { segment_bytes: 4 << 20, ..TopicConfig::default() };
        let options = LogOptions::new(Rc::new(config), TailMemory::new(0));
        let (log, _) = Log::open(&Disk::direct(), &path, options, true, None, &mut |_| {}).await.unwrap();
        let mut expected = Vec::new();
        // More than the memory for extents.
        while log.end_offset() < Offset(90) {
            let bytes = batch(1, 500_000, 0);
            expected.push((append(&log, &bytes).base_offset.0, bytes.len()));
            log.wait(log.end_offset(), Stage::Written).await.unwrap();
        }
        // Answers that nobody takes hold what they were read into.
        let mut held = Vec::new();
        let mut next = Offset(0);
        while next < log.end_offset() {
            let rope = log.read_plan(next, Offset(i64::MAX), 600_000, true).unwrap().execute().await.unwrap();
            let bytes = rope.to_bytes();
            let batch = BatchView::first(&bytes).unwrap();
            assert_eq!((batch.base_offset(), bytes.len()), (next, expected[next.0 as usize].1));
            next = batch.next_offset();
            held.push(rope);
        }
        assert_eq!(read_all(&log, Offset(0), 1).await, expected);
        drop(held);
        assert_eq!(read_all(&log, Offset(0), 1).await, expected);
    });
}
