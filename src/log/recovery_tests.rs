//! Each row of the table in `docs/recovery.md`: the state is made by hand in a real
//! directory, the log is opened, and opened once more as if it had crashed right after.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::base::LeaderEpoch;
use crate::record::{BatchBuilder, BatchView, NewRecord, Stamp};
use crate::runtime::run_one;

const BATCH_RECORDS: i64 = 2;

fn batch(at: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for record in 0..BATCH_RECORDS {
        let value = vec![b'v'; 300 + at as usize];
        builder.push(NewRecord { timestamp: 1000 + at * 10 + record, key: None, value: Some(&value), headers: &[] });
    }
    builder.build()
}

fn config() -> TopicConfig {
    TopicConfig { segment_bytes: 6000, index_interval_bytes: 1000, ..TopicConfig::default() }
}

fn options() -> LogOptions {
    LogOptions::new(Rc::new(config()), TailMemory::new(1 << 20))
}

/// A log of some segments in a directory, closed cleanly; the tests then change the files.
struct State {
    _home: tempfile::TempDir,
    dir: PathBuf,
    /// Base offsets of the segments.
    bases: Vec<i64>,
    /// The end offset of the whole log.
    end: i64,
}

const BATCHES: i64 = 30;

fn state() -> State {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("t-0");
    let path = dir.clone();
    let bases = run_one(async move {
        let (log, _) = Log::open(&Disk::direct(), &path, options(), true, None, &mut |_| {}).await.unwrap();
        for at in 0..BATCHES {
            append(&log, at);
        }
        log.close_cleanly().await.unwrap();
        log.segment_bases().into_iter().map(|base| base.0).collect()
    });
    State { _home: home, dir, bases, end: BATCHES * BATCH_RECORDS }
}

fn append(log: &Log, at: i64) {
    let stamp = Stamp { base_offset: log.end_offset(), leader_epoch: LeaderEpoch(1), log_append_time: None };
    log.append(&batch(at), &stamp).unwrap();
}

impl State {
    fn file(&self, segment: usize, kind: &str) -> PathBuf {
        self.dir.join(names::file_name(Offset(self.bases[segment]), kind))
    }

    fn last(&self) -> usize {
        self.bases.len() - 1
    }

    /// Changes the bytes of a file.
    fn edit(&self, path: PathBuf, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Opens the log, checks that the batches are those that were appended up to
    /// `end`, then opens once more and appends.
    fn check(&self, options: LogOptions, clean: bool, end: i64) -> Opened {
        let dir = self.dir.clone();
        run_one(async move {
            let disk = Disk::direct();
            let (log, opened) = Log::open(&disk, &dir, options.clone(), clean, None, &mut |_| {}).await.unwrap();
            check_content(&log, end).await;
            drop(log);
            let (log, again) = Log::open(&disk, &dir, options.clone(), false, None, &mut |_| {}).await.unwrap();
            assert_eq!(again.cut_bytes, 0, "recovery leaves nothing to cut");
            check_content(&log, end).await;
            append(&log, end / BATCH_RECORDS);
            log.wait(log.end_offset(), Stage::Durable).await.unwrap();
            log.close_cleanly().await.unwrap();
            let (log, opened_cleanly) = Log::open(&disk, &dir, options, true, None, &mut |_| {}).await.unwrap();
            assert!(!opened_cleanly.recovered);
            check_content(&log, end + BATCH_RECORDS).await;
            opened
        })
    }

    /// The log does not open, and the reason says `expected`; the file is as it was.
    fn check_refused(&self, options: LogOptions, clean: bool, expected: &str) {
        let before: Vec<_> = self.bases.iter().enumerate().map(|(at, _)| fs::read(self.file(at, "log")).ok()).collect();
        let dir = self.dir.clone();
        let refused = run_one(async move {
            Log::open(&Disk::direct(), &dir, options, clean, None, &mut |_| {}).await.map(|_| ()).unwrap_err()
        });
        assert!(matches!(refused, LogError::Corrupt(_)) && refused.to_string().contains(expected), "{refused}");
        let after: Vec<_> = self.bases.iter().enumerate().map(|(at, _)| fs::read(self.file(at, "log")).ok()).collect();
        assert!(before == after, "a log that is refused is left as it is");
    }
}

async fn check_content(log: &Log, end: i64) {
    assert_eq!((log.start_offset(), log.end_offset(), log.durable_offset()), (Offset(0), Offset(end), Offset(end)));
    let mut next = 0;
    log.replay(Offset(0), |found| {
        let mut expected = batch(next / BATCH_RECORDS);
        let stamp = Stamp { base_offset: Offset(next), leader_epoch: LeaderEpoch(1), log_append_time: None };
        crate::record::stamp(&mut expected, &stamp);
        assert_eq!(found.bytes(), expected, "the batch at {next}");
        next += BATCH_RECORDS;
    })
    .await
    .unwrap();
    assert_eq!(next, end);
    for probe in [0, end / 3, end / 2, end - 1] {
        let rope = log.read_plan(Offset(probe), Offset(end), 1, true).unwrap().execute().await.unwrap();
        let bytes = rope.to_bytes();
        let found = BatchView::first(&bytes).unwrap();
        assert!(found.base_offset() <= Offset(probe) && Offset(probe) <= found.last_offset(), "{probe}: {found:?}");
    }
    let found = log.offset_for_timestamp(1000 + 10 * (end / BATCH_RECORDS - 1), Offset(end)).await.unwrap().unwrap();
    assert_eq!(found.offset, Offset(end - BATCH_RECORDS));
}

#[test]
fn nothing_is_there() {
    let home = tempfile::tempdir().unwrap();
    let state = State { dir: home.path().join("t-0"), _home: home, bases: vec![], end: 0 };
    let dir = state.dir.clone();
    run_one(async move {
        let options = LogOptions { start_offset: Offset(7), ..options() };
        let (log, opened) = Log::open(&Disk::direct(), &dir, options, false, None, &mut |_| {}).await.unwrap();
        assert_eq!((log.start_offset(), log.end_offset(), opened), (Offset(7), Offset(7), Opened::default()));
        assert!(!dir.exists());
    });
}

#[test]
fn a_log_that_ends_before_its_start_begins_anew() {
    for clean in [true, false] {
        let state = state();
        let (dir, start) = (state.dir.clone(), Offset(state.end + 2 * BATCH_RECORDS));
        run_one(async move {
            let disk = Disk::direct();
            let options = LogOptions { start_offset: start, ..options() };
            let (log, _) = Log::open(&disk, &dir, options.clone(), clean, None, &mut |_| {}).await.unwrap();
            assert_eq!((log.start_offset(), log.end_offset(), log.segment_count()), (start, start, 1));
            append(&log, start.0 / BATCH_RECORDS);
            log.wait(log.end_offset(), Stage::Durable).await.unwrap();
            let end = log.end_offset();
            log.close_cleanly().await.unwrap();
            let (log, _) = Log::open(&disk, &dir, options, true, None, &mut |_| {}).await.unwrap();
            assert_eq!((log.start_offset(), log.end_offset()), (start, end));
        });
    }
}

#[test]
fn a_clean_log_is_believed_and_an_unclean_one_is_checked() {
    let opened = state().check(options(), true, 60);
    assert_eq!((opened.recovered, opened.scanned_bytes), (false, 0));
    let state = state();
    let last = fs::metadata(state.file(state.last(), "log")).unwrap().len();
    let opened = state.check(options(), false, state.end);
    // Only the active segment is read, though there are many.
    assert!(state.bases.len() > 3);
    assert_eq!((opened.recovered, opened.scanned_bytes, opened.cut_bytes), (true, last, 0));
}

#[test]
fn a_torn_tail_is_cut() {
    // Allocated space behind the batches: no loss, nothing to report.
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes.resize(bytes.len() + 20_000, 0));
    assert_eq!(state_.check(options(), false, 60).cut_bytes, 0);
    // Half a batch.
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes.truncate(bytes.len() - 5));
    assert!(state_.check(options(), false, 58).cut_bytes > 0);
    // A batch of which a sector is missing, and one behind it that is whole.
    let state_ = state();
    let path = state_.file(state_.last(), "log");
    let cut_to = state_.bases[state_.last()];
    state_.edit(path, |bytes| bytes[512..1024].fill(0));
    let opened = state_.check(options(), false, cut_to);
    assert!(opened.cut_bytes > 1000, "{opened:?}");
    // A header of which only the front arrived.
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| {
        let head = bytes[..14].to_vec();
        bytes.extend(head);
        bytes.resize(bytes.len() + 4096, 0);
    });
    state_.check(options(), false, 60);
    // Bytes of an older life of the file: whole batches, but with offsets of the past.
    let state_ = state();
    let old = fs::read(state_.file(0, "log")).unwrap();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes.extend(old));
    assert!(state_.check(options(), false, 60).cut_bytes > 1000);
}

#[test]
fn damage_below_the_recovery_point_is_not_cut() {
    let state_ = state();
    let durable = LogOptions { recovery_point: Offset(state_.end), ..options() };
    // At the point itself; and anywhere, where index files are missing.
    state_.edit(state_.file(state_.last(), "log"), |bytes| *bytes.last_mut().unwrap() ^= 1);
    state_.check_refused(durable.clone(), false, "checksum is wrong; this part of the log was durable");
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes[100] ^= 1);
    fs::remove_file(state_.file(state_.last(), "index")).unwrap();
    state_.check_refused(durable, false, "checksum is wrong; this part of the log was durable");
    // The same after a clean stop, without its index files.
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes[100] ^= 1);
    fs::remove_file(state_.file(state_.last(), "index")).unwrap();
    state_.check_refused(options(), true, "this part of the log was durable");
}

/// Options of a log with a recovery point.
fn pointed(point: i64) -> LogOptions {
    LogOptions { recovery_point: Offset(point), ..options() }
}

#[test]
fn a_check_begins_at_the_recovery_point() {
    // The active segment may hold as little as one batch: of a log with several.
    let first = state();
    let base = first.bases[first.last()];
    let mut spared = 0;
    for point in (base..=first.end).step_by(BATCH_RECORDS as usize) {
        let state_ = state();
        let path = state_.file(state_.last(), "log");
        let (len, index) = (fs::metadata(&path).unwrap().len(), fs::read(state_.file(state_.last(), "index")).unwrap());
        // Behind the point a torn batch, below it allocated space is not.
        state_.edit(path.clone(), |bytes| bytes.extend([7; 100]));
        let opened = state_.check(pointed(point), false, 60);
        assert_eq!((opened.scanned_bytes + opened.spared_bytes, opened.cut_bytes), (len, 100), "{point}");
        assert!(opened.behind_point <= opened.scanned_bytes);
        spared += u64::from(opened.spared_bytes > 0);
        // What the index says is what it would say, had everything been read.
        assert!(fs::read(state_.file(state_.last(), "index")).unwrap().starts_with(&index), "{point}");
    }
    assert!(spared > 0, "no point was of use");
}

#[test]
fn what_a_recovery_point_covers_is_not_read_and_not_served_when_it_is_damaged() {
    let state_ = state();
    let base = state_.bases[state_.last()];
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes[100] ^= 1);
    let dir = state_.dir.clone();
    run_one(async move {
        let (log, opened) = Log::open(&Disk::direct(), &dir, pointed(60), false, None, &mut |_| {}).await.unwrap();
        assert!(opened.spared_bytes > 0, "{opened:?}");
        let plan = log.read_plan(Offset(base), Offset(60), 1 << 20, true).unwrap();
        let refused = plan.execute().await.unwrap_err();
        assert!(refused.to_string().contains("checksum is wrong"), "{refused}");
    });
}

#[test]
fn a_recovery_point_that_is_not_where_the_files_say_has_everything_read() {
    let check = |point: i64, change: &dyn Fn(&State)| {
        let state_ = state();
        change(&state_);
        let len = fs::metadata(state_.file(state_.last(), "log")).unwrap().len();
        let opened = state_.check(pointed(point), false, 60);
        assert_eq!((opened.spared_bytes, opened.scanned_bytes), (0, len), "{point}");
    };
    // Within a batch.
    check(59, &|_| {});
    // No index files, or such as are none.
    check(60, &|state| fs::remove_file(state.file(state.last(), "index")).unwrap());
    check(60, &|state| fs::remove_file(state.file(state.last(), "timeindex")).unwrap());
    check(60, &|state| state.edit(state.file(state.last(), "index"), |bytes| bytes.truncate(11)));
    // Entries that name a place where no batch begins, or another one.
    check(60, &|state| {
        state.edit(state.file(state.last(), "index"), |bytes| {
            let at = bytes.len() - 1;
            bytes[at] ^= 1;
        });
    });
    check(60, &|state| {
        state.edit(state.file(state.last(), "index"), |bytes| {
            let at = bytes.len() - 5;
            bytes[at] ^= 1;
        });
    });
}

#[test]
fn a_log_that_ends_before_its_recovery_point_is_refused() {
    let state_ = state();
    state_.check_refused(pointed(62), false, "it ends at 60; up to 62 it was durable");
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes.truncate(bytes.len() - 5));
    state_.check_refused(pointed(60), false, "this part of the log was durable");
}

#[test]
fn a_recovery_point_in_the_segment_that_was_being_sealed() {
    let state_ = state();
    let before_last = state_.last() - 1;
    // Index files of a point, and allocated space.
    state_.edit(state_.file(before_last, "log"), |bytes| bytes.resize(bytes.len() + 8192, 0));
    state_.edit(state_.file(before_last, "index"), |bytes| bytes.truncate(bytes.len() - 8));
    let whole = fs::read(state_.file(before_last, "index")).unwrap();
    let point = state_.bases[state_.last()] - BATCH_RECORDS;
    let len = fs::metadata(state_.file(state_.last(), "log")).unwrap().len();
    let opened = state_.check(pointed(point), false, 60);
    assert!(opened.spared_bytes > 0 && opened.scanned_bytes > len, "{opened:?}");
    assert_eq!(opened.cut_bytes, 0);
    assert!(fs::read(state_.file(before_last, "index")).unwrap().starts_with(&whole));
}

#[test]
fn a_sealed_segment_without_index_files_gets_them_again() {
    for clean in [true, false] {
        let state_ = state();
        let index = fs::read(state_.file(1, "index")).unwrap();
        let times = fs::read(state_.file(1, "timeindex")).unwrap();
        fs::remove_file(state_.file(1, "index")).unwrap();
        fs::remove_file(state_.file(2, "timeindex")).unwrap();
        state_.check(options(), clean, 60);
        assert_eq!(fs::read(state_.file(1, "index")).unwrap(), index);
        assert_eq!(fs::read(state_.file(1, "timeindex")).unwrap(), times);
    }
}

#[test]
fn broken_index_files_are_rebuilt_when_they_are_read() {
    let state_ = state();
    let index = fs::read(state_.file(1, "index")).unwrap();
    assert!(index.len() >= 16, "{}", index.len());
    // Cut within an entry; zeroes behind the entries as Kafka leaves them; an entry that falls.
    state_.edit(state_.file(1, "index"), |bytes| bytes.truncate(11));
    state_.edit(state_.file(2, "index"), |bytes| bytes.resize(bytes.len() + 80, 0));
    state_.edit(state_.file(3, "timeindex"), |bytes| bytes[0] = 0x7f);
    state_.check(options(), true, 60);
    assert_eq!(fs::read(state_.file(1, "index")).unwrap(), index);
}

#[test]
fn damage_in_a_sealed_segment_is_never_cut() {
    let state_ = state();
    state_.edit(state_.file(1, "log"), |bytes| bytes[70] ^= 4);
    fs::remove_file(state_.file(1, "index")).unwrap();
    state_.check_refused(options(), false, "the segments after it have batches");
}

#[test]
fn a_flipped_bit_is_never_served() {
    let state_ = state();
    let base = state_.bases[1];
    state_.edit(state_.file(1, "log"), |bytes| bytes[70] ^= 4);
    let dir = state_.dir.clone();
    run_one(async move {
        let (log, _) = Log::open(&Disk::direct(), &dir, options(), true, None, &mut |_| {}).await.unwrap();
        let read = |from: i64| {
            let plan = log.read_plan(Offset(from), Offset(60), 1 << 20, true).unwrap();
            async move { plan.execute().await }
        };
        let refused = read(base).await.unwrap_err();
        assert!(refused.to_string().contains("checksum is wrong"), "{refused}");
        // The rest of the log goes on.
        assert!(!read(0).await.unwrap().is_empty());
        assert!(!read(base + BATCH_RECORDS).await.unwrap().is_empty());
    });
}

#[test]
fn a_flipped_bit_hides_no_batch() {
    // In the last batch of a segment, the number that says how many offsets it has: it ends before what is looked for,
    // or behind all that was written.
    for last_offset_delta in [0_i32, 1 << 20] {
        let state_ = state();
        let base = state_.bases[2] - BATCH_RECORDS;
        state_.edit(state_.file(1, "log"), |bytes| {
            let mut at = 0;
            while BatchView::first(&bytes[at..]).unwrap().base_offset().0 < base {
                at += BatchView::first(&bytes[at..]).unwrap().size();
            }
            bytes[at + 23..at + 27].copy_from_slice(&last_offset_delta.to_be_bytes());
        });
        let dir = state_.dir.clone();
        run_one(async move {
            let (log, _) = Log::open(&Disk::direct(), &dir, options(), true, None, &mut |_| {}).await.unwrap();
            let plan = log.read_plan(Offset(base + 1), Offset(60), 1 << 20, true).unwrap();
            let refused = plan.execute().await.map(|rope| rope.to_bytes()).unwrap_err();
            assert!(refused.to_string().contains("is damaged"), "{refused}");
        });
    }
}

#[test]
fn a_bit_that_flips_behind_the_batch_asked_for_is_not_served() {
    // In the header of a segment's second batch; a read begins with the first.
    let state_ = state();
    let base = state_.bases[1];
    let whole = fs::read(state_.file(1, "log")).unwrap();
    let second = BatchView::first(&whole).unwrap().size();
    // Base offset and leader epoch lie outside the checksum.
    for byte in (8..12).chain(16..crate::record::BATCH_HEADER_BYTES) {
        for bit in 0..8 {
            state_.edit(state_.file(1, "log"), |bytes| bytes[second + byte] ^= 1 << bit);
            let dir = state_.dir.clone();
            let served = run_one(async move {
                let (log, _) = Log::open(&Disk::direct(), &dir, options(), true, None, &mut |_| {}).await.unwrap();
                let plan = log.read_plan(Offset(base), Offset(60), 1 << 20, true).unwrap();
                plan.execute().await.map(|rope| rope.to_bytes()).unwrap_or_default()
            });
            assert!(served.len() <= second && whole.starts_with(&served), "byte {byte}, bit {bit}: {}", served.len());
            fs::write(state_.file(1, "log"), &whole).unwrap();
        }
    }
}

#[test]
fn a_crash_while_a_segment_is_sealed() {
    // Its allocated space is still behind it, there are no index files, the next has batches.
    let state_ = state();
    let before_last = state_.last() - 1;
    state_.edit(state_.file(before_last, "log"), |bytes| bytes.resize(bytes.len() + 8192, 0));
    fs::remove_file(state_.file(before_last, "index")).unwrap();
    fs::remove_file(state_.file(before_last, "timeindex")).unwrap();
    assert_eq!(state_.check(options(), false, 60).cut_bytes, 0);
    assert!(state_.file(before_last, "index").exists());
    // The same with index files of an earlier clean close, which end early.
    let state_ = state();
    let before_last = state_.last() - 1;
    state_.edit(state_.file(before_last, "log"), |bytes| bytes.resize(bytes.len() + 8192, 0));
    state_.edit(state_.file(before_last, "index"), |bytes| bytes.truncate(8));
    state_.edit(state_.file(before_last, "timeindex"), |bytes| bytes.truncate(12));
    assert_eq!(state_.check(options(), false, 60).cut_bytes, 0);
    assert!(fs::read(state_.file(before_last, "index")).unwrap().len() > 8);
}

#[test]
fn a_crash_after_a_roll_before_the_old_segment_was_flushed() {
    let state_ = state();
    let before_last = state_.last() - 1;
    // The new file exists, empty or with allocated space; the old one has a torn tail.
    for new in [vec![], vec![0; 4096]] {
        let state_ = state();
        fs::write(state_.file(state_.last(), "log"), new).unwrap();
        state_.edit(state_.file(before_last, "log"), |bytes| bytes.truncate(bytes.len() - 3));
        for kind in ["index", "timeindex"] {
            fs::remove_file(state_.file(before_last, kind)).unwrap();
            fs::remove_file(state_.file(state_.last(), kind)).unwrap();
        }
        let end = state_.bases[state_.last()] - BATCH_RECORDS;
        assert!(state_.check(options(), false, end).cut_bytes > 0);
    }
}

#[test]
fn an_empty_active_segment() {
    let state_ = state();
    fs::write(state_.file(state_.last(), "log"), []).unwrap();
    for kind in ["index", "timeindex"] {
        fs::remove_file(state_.file(state_.last(), kind)).unwrap();
    }
    state_.check(options(), false, state_.bases[state_.last()]);
}

#[test]
fn leftovers_of_deletion_and_compaction_go() {
    let state_ = state();
    for name in [
        "00000000000000000000.log.deleted",
        "00000000000000000000.index.deleted",
        "00000000000000000099.index",
        "00000000000000000099.timeindex",
        "00000000000000000000.log.cleaned",
        "00000000000000000000.log.swap",
        "00000000000000000000.index.tmp",
        "partition.metadata.tmp",
        "leader-epoch-checkpoint.tmp",
    ] {
        // A swap file from where a cleaned one is left counts for nothing.
        fs::write(state_.dir.join(name), b"whatever").unwrap();
    }
    fs::write(state_.dir.join("quorum-state"), b"{}").unwrap();
    state_.check(options(), false, 60);
    let names: Vec<String> =
        fs::read_dir(&state_.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"quorum-state".to_string()));
    for name in names {
        let known = [".log", ".index", ".timeindex", "quorum-state"].iter().any(|end| name.ends_with(end));
        assert!(known && !name.contains("99."), "{name} is left");
    }
}

#[test]
fn a_finished_compaction_takes_its_place() {
    // The new segment covers the first two; its files had not been renamed yet.
    let state_ = state();
    let mut both = fs::read(state_.file(0, "log")).unwrap();
    both.extend(fs::read(state_.file(1, "log")).unwrap());
    fs::write(state_.file(0, "log").with_extension("log.swap"), &both).unwrap();
    fs::write(state_.file(0, "index").with_extension("index.swap"), b"12345678").unwrap();
    state_.check(options(), false, 60);
    assert!(!state_.file(1, "log").exists() && !state_.file(1, "index").exists());
    assert_eq!(fs::read(state_.file(0, "log")).unwrap(), both);
}

/// A compaction that made one segment of the first two, stopped somewhere on the way of its files.
fn check_swap(new: &[(&str, &str)], old: &str, is_taken: bool) {
    let state_ = state();
    let mut both = fs::read(state_.file(0, "log")).unwrap();
    both.extend(fs::read(state_.file(1, "log")).unwrap());
    let base = names::file_name(Offset(0), "");
    // The old ones still there, or out of the way; those of the first bear the same names.
    for segment in 0..2 {
        for kind in ["log", "index", "timeindex"] {
            let path = state_.file(segment, kind);
            match old {
                "" => {}
                "gone" => fs::remove_file(&path).unwrap(),
                suffix => fs::rename(&path, format!("{}{suffix}", path.display())).unwrap(),
            }
        }
    }
    for (kind, suffix) in new {
        let bytes = match *kind {
            "log" => both.clone(),
            "txnindex" => vec![7; 34],
            _ => Vec::new(),
        };
        fs::write(state_.dir.join(format!("{base}{kind}{suffix}")), bytes).unwrap();
    }
    state_.check(options(), false, 60);
    let case = format!("{new:?} {old:?}");
    assert_eq!(state_.file(1, "log").exists(), !is_taken, "{case}");
    assert_eq!(fs::read(state_.file(0, "log")).unwrap() == both, is_taken, "{case}");
    let has_transactions = is_taken && new.iter().any(|(kind, _)| *kind == "txnindex");
    assert_eq!(state_.file(0, "txnindex").exists(), has_transactions, "{case}");
    for entry in fs::read_dir(&state_.dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(![".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end)), "{case}: {name} is left");
    }
}

#[test]
fn a_swap_that_has_not_begun_in_earnest_is_taken_back() {
    check_swap(&[("log", ".cleaned")], "", false);
    check_swap(&[("log", ".cleaned"), ("index", ".cleaned"), ("timeindex", ".cleaned")], "", false);
    check_swap(&[("log", ".swap"), ("index", ".cleaned"), ("timeindex", ".cleaned")], "", false);
    check_swap(&[("log", ".swap"), ("index", ".swap"), ("timeindex", ".cleaned"), ("txnindex", ".cleaned")], "", false);
    check_swap(&[("index", ".swap"), ("timeindex", ".cleaned"), ("txnindex", ".swap")], "", false);
}

#[test]
fn a_swap_that_has_begun_is_completed() {
    let swaps = [("log", ".swap"), ("index", ".swap"), ("timeindex", ".swap"), ("txnindex", ".swap")];
    // The old ones are there, renamed, or removed.
    check_swap(&swaps, "", true);
    check_swap(&swaps[..3], "", true);
    check_swap(&swaps[..1], "", true);
    check_swap(&swaps, ".deleted", true);
    check_swap(&swaps, "gone", true);
    // The log has its name, the indexes do not.
    check_swap(&[("log", ""), ("index", ".swap"), ("timeindex", ".swap"), ("txnindex", ".swap")], ".deleted", true);
    check_swap(&[("log", ""), ("index", ""), ("timeindex", ".swap")], ".deleted", true);
    check_swap(&[("log", ""), ("index", ""), ("timeindex", ""), ("txnindex", "")], ".deleted", true);
}

#[test]
fn batches_of_before_kafka_0_11_are_refused() {
    let state_ = state();
    state_.edit(state_.file(state_.last(), "log"), |bytes| bytes[16] = 1);
    state_.check_refused(options(), false, "format 1");
}
