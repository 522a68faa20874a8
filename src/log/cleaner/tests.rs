//! A clean that is disturbed: by a bad drive, a full one, by readers, retention, the end of its log; and transactions.

use std::path::Path;

use futures_lite::future::zip;

use super::super::*;
use super::*;
use crate::base::LeaderEpoch;
use crate::config::CleanupPolicy;
use crate::log::aborted::{self, AbortedTransaction};
use crate::record::{BatchBuilder, ControlType, NewRecord, Stamp};
use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
use crate::runtime::run_one;

const DIR: &str = "/data/t-0";
const NOW: UnixMs = UnixMs(1_000_000);
const RETENTION_MS: i64 = 1000;

fn config() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        segment_bytes: 1100,
        index_interval_bytes: 200,
        delete_retention_ms: RETENTION_MS,
        file_delete_delay_ms: 0,
        retention_ms: -1,
        ..TopicConfig::default()
    }
}

fn means() -> Means {
    Means::new(1 << 20, 0.9, 64 << 10, || f64::MAX)
}

struct Setup {
    disk: SimulatedDisk,
    log: Log,
}

impl Setup {
    async fn new() -> Setup {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let log = open(&disk, true).await.unwrap();
        Setup { disk, log }
    }

    /// Some segments of eight keys each of which is written in every one.
    async fn dirty() -> Setup {
        let setup = Setup::new().await;
        for round in 0..6 {
            for key in 0..8_u8 {
                setup.append(data(key, Some(&[round; 60])));
            }
        }
        setup.settle().await;
        assert!(setup.log.segment_count() > 5);
        setup
    }

    fn append(&self, batch: BatchBuilder) {
        let stamp = Stamp { base_offset: self.log.end_offset(), leader_epoch: LeaderEpoch(1), log_append_time: None };
        self.log.append(&batch.build(), &stamp).unwrap();
    }

    /// All that was appended is in sealed segments.
    async fn settle(&self) {
        self.log.roll();
        self.log.wait(self.log.end_offset(), Stage::Durable).await.unwrap();
        while !self.log.all_sealed() {
            clock::sleep(std::time::Duration::from_micros(50)).await;
        }
    }

    async fn dirt(&self, from: i64) -> Dirt {
        self.log.dirt(Offset(from), self.log.end_offset(), NOW).await.unwrap()
    }

    async fn clean_at(&self, from: i64, now: UnixMs) -> Result<Cleaned, CleanError> {
        self.log.clean(&self.dirt(from).await, &means(), &|_| false, now).await
    }

    async fn clean(&self) -> Result<Cleaned, CleanError> {
        self.clean_at(0, NOW).await
    }

    /// Base offset and number of records of each batch.
    async fn batches(&self) -> Vec<(i64, i32)> {
        let mut found = Vec::new();
        self.log.replay(Offset(0), |batch| found.push((batch.base_offset().0, batch.record_count()))).await.unwrap();
        found
    }

    async fn leftovers(&self) -> Vec<String> {
        let entries = self.disk.disk().list(Path::new(DIR)).await.unwrap_or_default();
        let names = entries.into_iter().map(|entry| entry.name);
        names.filter(|name| [".cleaned", ".swap", ".deleted", ".tmp"].iter().any(|end| name.ends_with(end))).collect()
    }
}

async fn open(disk: &SimulatedDisk, clean: bool) -> Result<Log, LogError> {
    let options = LogOptions::new(Rc::new(config()), TailMemory::new(0));
    Ok(Log::open(&disk.disk(), Path::new(DIR), options, clean, None, &mut |_| {}).await?.0)
}

fn data(key: u8, value: Option<&[u8]>) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 500, key: Some(&[key]), value, headers: &[] });
    builder
}

fn ends(path: &Path, end: &str) -> bool {
    path.to_string_lossy().ends_with(end)
}

const LATEST: [(i64, i32); 8] = [(40, 1), (41, 1), (42, 1), (43, 1), (44, 1), (45, 1), (46, 1), (47, 1)];

#[test]
fn the_latest_of_each_key_stays_and_small_segments_become_one() {
    run_one(async {
        let setup = Setup::dirty().await;
        let (before, segments) = (setup.log.size_bytes(), setup.log.segment_count());
        let cleaned = setup.clean().await.unwrap();
        assert_eq!(setup.batches().await, LATEST);
        assert_eq!((cleaned.to, cleaned.records_before, cleaned.records_after), (Offset(48), 48, 8));
        assert_eq!((cleaned.keys, cleaned.segments_before), (8, segments - 1));
        assert!(cleaned.bytes_before == before && cleaned.bytes_after == setup.log.size_bytes());
        // What is there fits into one segment, and the next clean makes it one.
        let again = setup.clean_at(0, NOW).await.unwrap();
        assert_eq!((again.segments_after, setup.log.segment_count()), (1, 2));
        assert_eq!(setup.log.segment_bases(), [Offset(0), Offset(48)]);
        assert_eq!((setup.batches().await, setup.leftovers().await), (LATEST.to_vec(), vec![]));
        assert_eq!(setup.dirt(48).await.dirty_bytes, 0);
    });
}

#[test]
fn damage_is_not_written_again_as_if_it_were_right() {
    run_one(async {
        let setup = Setup::dirty().await;
        setup.log.close_cleanly().await.unwrap();
        let path = Path::new(DIR).join(names::file_name(Offset(0), LOG));
        let mut bytes = setup.disk.disk().read_file(&path).await.unwrap();
        // Within the value of a batch in the middle.
        let middle = bytes.len() / 2 + 100;
        bytes[middle] ^= 4;
        setup.disk.disk().write_file(&path, bytes.clone()).await.unwrap();
        let setup = Setup { log: open(&setup.disk, true).await.unwrap(), ..setup };
        let told = setup.clean().await.unwrap_err();
        assert!(matches!(&told, CleanError::Uncleanable(reason) if reason.contains("checksum")), "{told}");
        assert_eq!(setup.disk.disk().read_file(&path).await.unwrap(), bytes, "nothing was changed");
        assert_eq!(setup.leftovers().await, Vec::<String>::new());
    });
}

#[test]
fn a_full_drive_ends_a_clean_and_the_next_one_gets_through() {
    run_one(async {
        for (verb, end) in [
            (Verb::Open, ".cleaned"),
            (Verb::Write, ".cleaned"),
            (Verb::WriteFile, ".index.cleaned"),
            (Verb::Rename, ".cleaned"),
        ] {
            let setup = Setup::dirty().await;
            setup.disk.fail(When::verb(verb).on(move |path| ends(path, end)), Fault::NoSpace);
            let told = setup.clean().await.unwrap_err();
            assert!(matches!(told, CleanError::DiskFull(_)), "{verb:?}: {told}");
            // Segments before the one that did not fit may be clean; nothing is lost.
            let found = setup.batches().await;
            assert!(found.ends_with(&LATEST) && setup.leftovers().await.is_empty(), "{verb:?}: {found:?}");
            setup.append(data(9, None));
            setup.clean().await.unwrap();
            assert_eq!(setup.batches().await.len(), 9);
        }
    });
}

#[test]
fn a_swap_that_fails_half_way_ends_the_log_and_the_next_opening_completes_it() {
    run_one(async {
        for (verb, end) in [(Verb::Rename, ".log"), (Verb::Rename, ".index.swap")] {
            let setup = Setup::dirty().await;
            setup.disk.fail(When::verb(verb).on(move |path| ends(path, end)), Fault::Broken);
            assert!(matches!(setup.clean().await, Err(CleanError::GivenUp(_))));
            assert!(matches!(setup.log.ended(), Some(LogError::Offline(_))));
            setup.disk.clear_rules();
            let setup = Setup { log: open(&setup.disk, false).await.unwrap(), ..setup };
            setup.clean().await.unwrap();
            assert_eq!((setup.batches().await, setup.leftovers().await), (LATEST.to_vec(), vec![]));
        }
    });
}

#[test]
fn the_end_of_a_log_ends_its_clean() {
    run_one(async {
        // Whatever the clean is waiting for.
        for (verb, end) in [(Verb::Read, ".log"), (Verb::Write, ".cleaned"), (Verb::SyncDir, "t-0")] {
            for deleted in [false, true] {
                let setup = Setup::dirty().await;
                let stall = setup.disk.stall(When::verb(verb).on(move |path| ends(path, end)));
                let ending = async {
                    stall.reached().await;
                    let end = async {
                        if deleted {
                            setup.log.delete("x").await.unwrap();
                        } else {
                            setup.log.close_cleanly().await.unwrap();
                        }
                    };
                    let release = async {
                        clock::sleep(std::time::Duration::from_millis(1)).await;
                        stall.release();
                    };
                    zip(end, release).await;
                };
                let (cleaned, ()) = zip(setup.clean(), ending).await;
                assert!(matches!(cleaned, Err(CleanError::GivenUp(_))), "{verb:?} {deleted} {cleaned:?}");
                assert_eq!(setup.leftovers().await, Vec::<String>::new(), "{verb:?} {deleted}");
                if !deleted {
                    let setup = Setup { log: open(&setup.disk, true).await.unwrap(), ..setup };
                    assert_eq!(setup.log.end_offset(), Offset(48));
                    setup.clean().await.unwrap();
                    assert_eq!(setup.batches().await, LATEST);
                }
            }
        }
    });
}

#[test]
fn retention_may_take_what_is_being_cleaned() {
    run_one(async {
        let setup = Setup::dirty().await;
        let stall = setup.disk.stall(When::verb(Verb::Open).on(|path| ends(path, ".cleaned")));
        let retention = async {
            stall.reached().await;
            setup.log.increment_start_offset(Offset(20)).unwrap();
            assert!(setup.log.retain(NOW, Offset(48), usize::MAX).await.unwrap() > 0);
            stall.release();
        };
        let (cleaned, ()) = zip(setup.clean(), retention).await;
        assert!(matches!(cleaned, Err(CleanError::GivenUp(_))), "{cleaned:?}");
        assert_eq!(setup.leftovers().await, Vec::<String>::new());
        // A checkpoint of before says nothing now: all that is left is dirty.
        assert_eq!(setup.dirt(3).await.from, Offset(20));
        setup.clean().await.unwrap();
        let mut found = setup.batches().await;
        found.retain(|(base, _)| *base >= 20);
        assert_eq!(found, LATEST);
    });
}

#[test]
fn readers_go_on_while_files_change_their_names() {
    run_one(async {
        let setup = Setup::dirty().await;
        // Plans of before: one whose file was open, and one whose was not.
        let plan = |from: i64| setup.log.read_plan(Offset(from), Offset(48), 1, true).unwrap();
        let (early, later) = (plan(0), plan(46));
        let stall = setup.disk.stall(When::verb(Verb::Rename).on(|path| ends(path, ".log.swap")));
        let reading = async {
            stall.reached().await;
            // The new segment has no file of its name yet.
            let first = |rope: crate::base::Rope| BatchView::first(&rope.to_bytes()).unwrap().base_offset();
            for _ in 0..3 {
                setup.log.0.trim_sealed();
                let base = first(plan(0).execute().await.unwrap());
                assert!(base < Offset(48), "{base}");
            }
            let base = first(early.execute().await.unwrap());
            assert!(base > Offset(0), "the plan found the segment replaced: {base}");
            assert_eq!(first(later.execute().await.unwrap()), Offset(46));
            // Nobody takes its files away under the name that it does not have.
            assert_eq!(setup.log.increment_start_offset(Offset(47)).unwrap(), Offset(47));
            assert_eq!(setup.log.retain(NOW, Offset(48), usize::MAX).await.unwrap(), 0);
            stall.release();
        };
        let (cleaned, ()) = zip(setup.clean(), reading).await;
        cleaned.unwrap();
        assert!(setup.log.retain(NOW, Offset(48), usize::MAX).await.unwrap() > 0);
        assert_eq!(setup.batches().await.last(), Some(&(47, 1)));
    });
}

#[test]
fn what_may_be_cleaned_waits_for_its_time_and_not_too_long() {
    run_one(async {
        let setup = Setup::dirty().await;
        let with = |change: &dyn Fn(&mut TopicConfig)| {
            let mut config = config();
            change(&mut config);
            setup.log.update_config(Rc::new(config));
        };
        let ask = async |stable: i64| setup.log.dirt(Offset(0), Offset(stable), UnixMs(1000)).await.unwrap();
        let all = ask(48).await;
        assert_eq!((all.from, all.upper, all.clean_bytes), (Offset(0), Offset(48), 0));
        assert!(all.ratio() == 1.0 && all.is_due(0.99) && !all.is_due(1.0) && !all.overdue);
        // An undecided transaction: down to the border below.
        let some = ask(20).await;
        assert!(some.upper <= Offset(20) && some.dirty_bytes < all.dirty_bytes && some.dirty_bytes > 0);
        // The records are of 500.
        with(&|config| config.min_compaction_lag_ms = 500);
        assert_eq!(ask(48).await.upper, Offset(48));
        with(&|config| config.min_compaction_lag_ms = 501);
        assert_eq!((ask(48).await.upper, ask(48).await.dirty_bytes), (Offset(0), 0));
        with(&|config| config.max_compaction_lag_ms = 500);
        assert!(!ask(48).await.overdue);
        with(&|config| config.max_compaction_lag_ms = 499);
        assert!(ask(48).await.overdue && ask(48).await.is_due(1.0));
        // And then the active segment does not stay active for longer: its first batch is of 500.
        setup.append(data(1, None));
        let mut late = BatchBuilder::new();
        late.push(NewRecord { timestamp: 1000, key: Some(&[2]), value: None, headers: &[] });
        let segments = setup.log.segment_count();
        setup.append(late);
        assert_eq!(setup.log.segment_count(), segments + 1);
    });
}

#[test]
fn a_log_that_is_not_compacted_any_more_is_left_alone() {
    run_one(async {
        let setup = Setup::dirty().await;
        let dirt = setup.dirt(0).await;
        setup.log.update_config(Rc::new(TopicConfig::default()));
        let told = setup.log.clean(&dirt, &means(), &|_| false, NOW).await;
        assert!(matches!(told, Err(CleanError::GivenUp(_))));
        assert_eq!(setup.batches().await.len(), 48);
    });
}

fn transactional(producer: i64, key: u8) -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(producer, 0, 0).transactional();
    builder.push(NewRecord { timestamp: 500, key: Some(&[key]), value: Some(&[key; 40]), headers: &[] });
    builder
}

fn marker(producer: i64, kind: ControlType) -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(producer, 0, -1).transactional().control();
    builder.push_control(kind, 500, &[0; 6]);
    builder
}

#[test]
fn aborted_records_go_at_once_and_markers_when_nobody_needs_them() {
    run_one(async {
        let setup = Setup::new().await;
        setup.append(data(1, Some(b"old")));
        setup.append(transactional(10, 1));
        setup.append(transactional(11, 2));
        setup.append(marker(10, ControlType::Abort));
        setup.append(marker(11, ControlType::Commit));
        setup.append(transactional(12, 3));
        setup.append(marker(12, ControlType::Abort));
        setup.settle().await;
        // As Kafka leaves it: the index of the segment that the markers lie in.
        let aborted = |producer_id, first, last| AbortedTransaction {
            producer_id,
            first: Offset(first),
            last: Offset(last),
            last_stable: Offset(last + 1),
        };
        let path = Path::new(DIR).join(names::file_name(Offset(0), names::TRANSACTION_INDEX));
        let entries = [aborted(10, 1, 3), aborted(12, 5, 6)];
        setup.disk.disk().write_file(&path, aborted::encode(&entries)).await.unwrap();

        // The records go, the markers stay: a reader may be among the records now. An aborted record does not make
        // the one before it void.
        setup.clean().await.unwrap();
        assert_eq!(setup.batches().await, [(0, 1), (2, 1), (3, 1), (4, 1), (6, 1)]);
        let index = setup.disk.disk().read_file(&path).await.unwrap();
        assert_eq!(aborted::decode(&index, Offset::ZERO, Offset(i64::MAX)).unwrap(), entries);
        // Nothing of the aborted ones is left: their time begins, and the index is not needed.
        setup.clean_at(0, UnixMs(NOW.0 + 1)).await.unwrap();
        assert_eq!(setup.batches().await, [(0, 1), (2, 1), (3, 1), (4, 1), (6, 1)]);
        assert!(setup.disk.disk().read_file(&path).await.is_err());
        setup.clean_at(0, UnixMs(NOW.0 + RETENTION_MS)).await.unwrap();
        assert_eq!(setup.batches().await.len(), 5, "a millisecond before");
        setup.clean_at(0, UnixMs(NOW.0 + 1 + RETENTION_MS)).await.unwrap();
        // The last one ends what was cleaned, and so stays, empty; the commit has its records.
        assert_eq!(setup.batches().await, [(0, 1), (2, 1), (4, 1), (6, 0)]);
    });
}
