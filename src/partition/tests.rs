//! The partition on a real directory.

use super::*;
use crate::log::journal::JournalEntry;
use crate::record::{BatchBuilder, ControlType, NewRecord, Rules, validate};
use crate::runtime::disk::simulated::{SimulatedDisk, Verb, When};
use crate::runtime::run_one;
use crate::runtime::task;

fn id() -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition: 3 }
}

fn topic_id() -> Uuid {
    "4L6g3nShT-eMCtK--X86sw".parse().unwrap()
}

async fn open_on(disk: &SimulatedDisk, clean: bool) -> Rc<Partition> {
    Partition::open(&disk.disk(), Path::new("/data/orders-3"), id(), topic_id(), options(), clean).await.unwrap()
}

fn options() -> PartitionOptions {
    let config = TopicConfig { segment_bytes: 10_000, ..TopicConfig::default() };
    PartitionOptions {
        leader_epoch: LeaderEpoch(5),
        ..PartitionOptions::new(Rc::new(config), TailMemory::new(1 << 20))
    }
}

async fn open(dir: &Path, clean: bool) -> Rc<Partition> {
    Partition::open(&Disk::direct(), &dir.join("orders-3"), id(), topic_id(), options(), clean).await.unwrap()
}

/// The wall clock: producers that were silent for a day are forgotten.
fn now() -> UnixMs {
    crate::runtime::clock::unix_ms()
}

/// A batch of an idempotent producer.
fn batch(producer: (i64, i16, i32), count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new().producer(producer.0, producer.1, producer.2);
    for _ in 0..count {
        builder.push(NewRecord { timestamp: now().0, key: None, value: Some(b"value"), headers: &[] });
    }
    builder.build()
}

fn produce(partition: &Partition, bytes: &[u8]) -> Result<Produced, ProduceError> {
    let rules = Rules::default();
    partition.produce(&validate(bytes, &rules, now(), true).unwrap())
}

#[test]
fn an_idempotent_producer_is_recognised_also_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    run_one(async move {
        let partition = open(&path, true).await;
        assert!(!path.join("orders-3").exists(), "nothing is created before the first append");
        let mut sequence = 0;
        let mut bases = Vec::new();
        for _ in 0..300 {
            let produced = produce(&partition, &batch((7, 0, sequence), 2)).unwrap();
            bases.push(produced.base_offset);
            sequence += 2;
        }
        let last = bases[299].plus(1);
        partition.acknowledged(last, Acks::All).await.unwrap();
        assert_eq!(partition.bounds().high_watermark, last.plus(1));
        assert!(partition.log().segment_count() > 1);

        let check = |partition: &Partition| {
            let again = produce(partition, &batch((7, 0, sequence - 2), 2)).unwrap();
            assert_eq!((again.base_offset, again.duplicate), (bases[299], true));
            let missing = produce(partition, &batch((7, 0, sequence + 2), 2));
            assert!(matches!(missing, Err(ProduceError::Producer(ProducerFault::OutOfOrder { .. }))), "{missing:?}");
            assert_eq!(partition.log().end_offset(), last.plus(1));
        };
        check(&partition);
        partition.close_cleanly().await.unwrap();
        for clean in [true, false, true] {
            let partition = open(&path, clean).await;
            assert_eq!(partition.bounds().high_watermark, last.plus(1));
            check(&partition);
            assert_eq!(partition.end_offset_for_epoch(LeaderEpoch(5)), Some((LeaderEpoch(5), last.plus(1))));
            partition.close_cleanly().await.unwrap();
        }
        let metadata = std::fs::read_to_string(path.join("orders-3/partition.metadata")).unwrap();
        assert_eq!(metadata, "version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw");
        let epochs = std::fs::read_to_string(path.join("orders-3/leader-epoch-checkpoint")).unwrap();
        assert_eq!(epochs, "0\n1\n5 0\n");
    });
}

#[test]
fn a_parked_fetch_is_woken_by_its_bytes_and_by_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    run_one(async move {
        let partition = open(&path, true).await;
        let bytes = batch((-1, -1, -1), 1);
        let waiter = FetchWaiter::new(2 * bytes.len() as u64);
        let watching = partition.watch(&waiter, Offset(0), Isolation::ReadUncommitted);
        let first = produce(&partition, &bytes).unwrap();
        partition.acknowledged(first.last_offset, Acks::All).await.unwrap();
        assert!(!waiter.is_woken());
        let second = produce(&partition, &bytes).unwrap();
        waiter.woken().await;
        assert_eq!(partition.bounds().high_watermark, second.last_offset.plus(1));
        drop(watching);
        assert_eq!(partition.watcher_count(), 0);

        let waiter = FetchWaiter::new(1);
        let _watching = partition.watch(&waiter, Offset(2), Isolation::ReadUncommitted);
        assert!(!waiter.is_woken());
        let gone = partition.delete("aaaa").await.unwrap().unwrap();
        waiter.woken().await;
        assert!(matches!(produce(&partition, &bytes), Err(ProduceError::Gone(_))));
        assert!(gone.ends_with("orders-3.aaaa-delete") && gone.exists());
        partition.remove_dir().await.unwrap();
        assert!(!gone.exists());
    });
}

#[test]
fn a_directory_of_another_topic_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    run_one(async move {
        let partition = open(&path, true).await;
        let produced = produce(&partition, &batch((-1, -1, -1), 1)).unwrap();
        partition.acknowledged(produced.last_offset, Acks::Leader).await.unwrap();
        partition.close_cleanly().await.unwrap();
        let other = Uuid([9; 16]);
        let refused = Partition::open(&Disk::direct(), &path.join("orders-3"), id(), other, options(), true).await;
        assert!(matches!(refused, Err(PartitionError::OtherTopic { .. })));
    });
}

#[test]
fn snapshots_that_lie_or_are_broken_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let files = path.join("orders-3");
    let snapshots = || -> Vec<String> {
        let names = std::fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".snapshot")).collect();
        names.sort();
        names
    };
    run_one(async {
        let partition = open(&path, true).await;
        let mut last = Offset(0);
        for at in 0..200 {
            last = produce(&partition, &batch((7, 0, at * 2), 2)).unwrap().last_offset;
        }
        partition.acknowledged(last, Acks::All).await.unwrap();
        partition.close_cleanly().await.unwrap();
    });
    let all = snapshots();
    assert!(all.len() >= 2, "{all:?}");
    let newest = all.last().unwrap().clone();
    let check = |clean: bool, end: i64| {
        run_one(async {
            let partition = open(&path, clean).await;
            assert_eq!(partition.bounds().log_end, Offset(end));
            let next = (end % i64::from(i32::MAX)) as i32;
            let known = partition.with_producers(|producers| producers.get(7).map(Producer::last_sequence));
            assert_eq!(known, Some(next - 1));
            assert_eq!(partition.end_offset_for_epoch(LeaderEpoch(5)), Some((LeaderEpoch(5), Offset(end))));
        });
    };
    // Broken, missing, of a future version; and the epochs' file likewise.
    for bytes in [b"".to_vec(), b"rubbish that is long enough to be one".to_vec(), [0, 2].to_vec()] {
        std::fs::write(files.join(&newest), bytes).unwrap();
        std::fs::write(files.join("leader-epoch-checkpoint"), "0\n1\n").unwrap();
        check(false, 400);
        assert!(!snapshots().contains(&newest));
    }
    for name in snapshots() {
        std::fs::remove_file(files.join(name)).unwrap();
    }
    std::fs::remove_file(files.join("leader-epoch-checkpoint")).unwrap();
    check(false, 400);

    // The log is cut below the newest snapshot: what that tells is gone.
    run_one(async {
        let partition = open(&path, false).await;
        partition.close_cleanly().await.unwrap();
    });
    assert_eq!(snapshots().last(), Some(&newest));
    let mut logs: Vec<_> = std::fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    let active = logs.last().unwrap();
    let bytes = std::fs::read(active).unwrap();
    std::fs::write(active, &bytes[..bytes.len() - 1]).unwrap();
    check(false, 398);
    assert!(!snapshots().contains(&newest));
}

#[test]
fn a_gap_before_what_a_journal_holds_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    run_one(async move {
        // Four batches as they lie in a segment.
        let partition = open(&path, true).await;
        for at in 0..4 {
            produce(&partition, &batch((7, 0, at * 2), 2)).unwrap();
        }
        let (_, plan) = {
            partition.acknowledged(Offset(7), Acks::All).await.unwrap();
            partition.read_plan(Offset(0), 1 << 20, true, Isolation::ReadUncommitted).unwrap()
        };
        let bytes = plan.execute().await.unwrap().to_bytes();
        partition.close_cleanly().await.unwrap();
        let size = BatchView::first(&bytes).unwrap().size();
        let entry = |from: usize, to: usize| JournalEntry {
            base: Offset(from as i64 * 2),
            end: Offset(to as i64 * 2),
            position: (from * size) as u64,
            len: ((to - from) * size) as u32,
            core: 0,
        };
        let journal = Journal::path(&path, 0);
        std::fs::write(&journal, &bytes).unwrap();
        let try_with = async |name: &str, entries: Vec<JournalEntry>| {
            let options = PartitionOptions { journaled: Journaled::of(&path, entries), ..options() };
            Partition::open(&Disk::direct(), &path.join(name), id(), topic_id(), options, false).await
        };
        // Whole, in parts, some of it there already; also after a crash of the one before.
        for (entries, end) in [
            (vec![entry(0, 2)], 4),
            (vec![entry(0, 1), entry(1, 3)], 6),
            (vec![entry(0, 3)], 6),
            (vec![entry(0, 1), entry(0, 4)], 8),
            (vec![], 8),
        ] {
            let partition = try_with("crashed-3", entries).await.unwrap();
            assert_eq!(partition.bounds().high_watermark, Offset(end));
            let last = partition.with_producers(|producers| producers.get(7).map(|known| known.last_sequence()));
            assert_eq!(last, Some(end as i32 - 1), "producers know what the journal held");
            assert!(path.join("crashed-3").join(METADATA_FILE).exists());
            partition.log().take_offline("the test crashes");
            task::all_ended("log writer").await;
            task::all_ended("log flusher").await;
        }
        let refused = try_with("gap-3", vec![entry(0, 1), entry(2, 4)]).await.err().unwrap().to_string();
        assert!(refused.contains("the log's end at 2: batches between them are missing"), "{refused}");
        let mut broken = bytes.to_vec();
        broken[70] ^= 1;
        std::fs::write(&journal, &broken).unwrap();
        let refused = try_with("broken-3", vec![entry(0, 1)]).await.err().unwrap().to_string();
        assert!(refused.contains("checksum is wrong"), "{refused}");
        // Cut within a batch; and a file that has become shorter.
        std::fs::write(&journal, &bytes).unwrap();
        let cut = JournalEntry { len: size as u32 + 20, ..entry(0, 2) };
        try_with("cut-3", vec![cut]).await.err().unwrap();
        let beyond = JournalEntry { position: bytes.len() as u64 - 5, ..entry(0, 1) };
        try_with("beyond-3", vec![beyond]).await.err().unwrap();
    });
}

#[test]
fn a_recovery_point_counts_with_its_snapshot_and_the_epochs_file_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let files = path.join("orders-3");
    let point = run_one({
        let path = path.clone();
        async move {
            let options = PartitionOptions { config: Rc::new(TopicConfig::default()), ..options() };
            let dir = path.join("orders-3");
            let partition = Partition::open(&Disk::direct(), &dir, id(), topic_id(), options, true).await.unwrap();
            for at in 0..100 {
                let last = produce(&partition, &batch((7, 0, at * 2), 2)).unwrap().last_offset;
                if at == 0 {
                    // The directory, with the epochs' file.
                    partition.acknowledged(last, Acks::All).await.unwrap();
                }
            }
            let first = partition.make_point().await.unwrap().unwrap();
            for at in 100..150 {
                produce(&partition, &batch((7, 0, at * 2), 2)).unwrap();
            }
            let second = partition.make_point().await.unwrap().unwrap();
            assert_eq!((first, second, partition.point_to_tell()), (Offset(200), Offset(300), Some(Offset(300))));
            // The first one is the proof of what a file may still say.
            let snapshot = |offset| dir.join(log::file_name(offset, log::SNAPSHOT));
            assert!(snapshot(first).exists() && snapshot(second).exists());
            partition.point_was_told(second).await;
            assert!(!snapshot(first).exists() && snapshot(second).exists());
            assert_eq!(partition.point_to_tell(), None);
            let last = produce(&partition, &batch((7, 0, 300), 2)).unwrap().last_offset;
            partition.acknowledged(last, Acks::All).await.unwrap();
            partition.log().take_offline("the test crashes");
            task::all_ended("log writer").await;
            task::all_ended("log flusher").await;
            second
        }
    });
    let copy = |name: &str| std::fs::read(files.join(name)).unwrap();
    let snapshot = log::file_name(point, log::SNAPSHOT);
    let (right, epochs) = (copy(&snapshot), copy(EPOCHS_FILE));
    let check = |wanted: Offset, believed: bool| {
        run_one(async {
            let options =
                PartitionOptions { recovery_point: wanted, config: Rc::new(TopicConfig::default()), ..options() };
            let partition = Partition::open(&Disk::direct(), &files, id(), topic_id(), options, false).await.unwrap();
            let recovery = partition.recovery();
            assert_eq!(
                (recovery.point, recovery.spared_bytes > 0),
                if believed { (wanted, true) } else { (Offset(0), false) }
            );
            assert_eq!(partition.bounds().log_end, Offset(302));
            assert_eq!(partition.with_producers(|producers| producers.get(7).map(Producer::last_sequence)), Some(301));
            assert_eq!(partition.end_offset_for_epoch(LeaderEpoch(5)), Some((LeaderEpoch(5), Offset(302))));
            partition.log().take_offline("the test crashes again");
        });
    };
    check(point, true);
    // Nothing is known; too low, too high, within a batch, of another life of the name: no snapshot says so.
    for wanted in [0, 200, 298, 301, 4_000_000_000, i64::MAX] {
        check(Offset(wanted), false);
    }
    // The point's snapshot stayed, and is broken, or gone; then there is no producer but from the batches.
    std::fs::write(files.join(&snapshot), &right[..right.len() - 1]).unwrap();
    check(point, false);
    assert!(!files.join(&snapshot).exists());
    check(point, false);
    // Epochs below the point would be known by nobody.
    std::fs::write(files.join(&snapshot), &right).unwrap();
    std::fs::write(files.join(EPOCHS_FILE), "0\n1\n").unwrap();
    check(point, false);
    std::fs::write(files.join(EPOCHS_FILE), &epochs).unwrap();
    check(point, true);
}

#[test]
fn an_epoch_that_began_before_a_roll_is_known_after_a_kill() {
    run_one(async {
        let mut disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        let produced = async |partition: &Partition| {
            let produced = produce(partition, &batch((-1, -1, -1), 2)).unwrap();
            partition.acknowledged(produced.last_offset, Acks::All).await.unwrap();
        };
        let partition = open_on(&disk, true).await;
        produced(&partition).await;
        partition.set_leader_epoch(LeaderEpoch(6));
        produced(&partition).await;
        partition.log().roll();
        produced(&partition).await;
        while !partition.log().all_sealed() {
            crate::runtime::clock::sleep(Duration::from_micros(100)).await;
        }
        disk = disk.reopen_after_kill(1);
        partition.log().take_offline("killed");
        let partition = open_on(&disk, false).await;
        assert_eq!(partition.end_offset_for_epoch(LeaderEpoch(5)), Some((LeaderEpoch(5), Offset(2))));
        assert_eq!(partition.end_offset_for_epoch(LeaderEpoch(6)), Some((LeaderEpoch(6), Offset(6))));
        partition.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_start_ends_what_a_crash_left_of_sealing_a_segment() {
    for cut_at in [".index", EPOCHS_FILE, ".snapshot"] {
        run_one(async {
            let mut disk = SimulatedDisk::new();
            disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
            let partition = open_on(&disk, true).await;
            let mut transaction = BatchBuilder::new().producer(9, 0, 0).transactional();
            transaction.push(NewRecord { timestamp: now().0, value: Some(b"value"), ..NewRecord::default() });
            let mut marker = BatchBuilder::new().producer(9, 0, -1).transactional().control();
            marker.push_control(ControlType::Commit, now().0, &[0; 6]);
            produce(&partition, &batch((7, 0, 0), 2)).unwrap();
            let last = partition.append(&transaction.build(), None).unwrap().last_offset;
            partition.acknowledged(last, Acks::All).await.unwrap();
            // What this snapshot tells would be all that is known.
            assert_eq!(partition.make_point().await.unwrap(), Some(Offset(3)));
            partition.set_leader_epoch(LeaderEpoch(6));
            produce(&partition, &batch((7, 0, 2), 2)).unwrap();
            let last = partition.append(&marker.build(), None).unwrap().last_offset;
            partition.acknowledged(last, Acks::All).await.unwrap();
            let end = last.plus(1);

            disk.cut(When::verb(Verb::WriteFile).on(move |path| path.to_string_lossy().ends_with(cut_at)));
            partition.log().roll();
            produce(&partition, &batch((-1, -1, -1), 1)).unwrap();
            while !disk.is_off() {
                crate::runtime::clock::sleep(Duration::from_micros(100)).await;
            }
            partition.log().take_offline("the power is off");
            disk = disk.reopen_after_kill(1);
            let partition = open_on(&disk, false).await;
            assert_eq!(partition.log().segment_bases(), [Offset(0), end], "{cut_at}");

            // Nothing but a snapshot and the epochs' file tells of what is gone.
            assert_eq!(partition.delete_records_before(end).unwrap(), end);
            assert_eq!(partition.retain(now(), usize::MAX).await.unwrap(), 1);
            disk = disk.reopen_after_kill(2);
            partition.log().take_offline("killed");
            let partition = open_on(&disk, false).await;
            let bounds = partition.bounds();
            assert_eq!((bounds.log_start, bounds.last_stable), (end, bounds.log_end), "{cut_at}");
            let last = partition.with_producers(|producers| producers.get(7).map(Producer::last_sequence));
            assert_eq!(last, Some(3), "{cut_at}");
            let epoch = partition.end_offset_for_epoch(LeaderEpoch(6));
            assert_eq!(epoch, Some((LeaderEpoch(6), bounds.log_end)), "{cut_at}");
            partition.close_cleanly().await.unwrap();
        });
    }
}

#[test]
fn an_epoch_whose_first_batch_was_lost_begins_with_the_next_one() {
    run_one(async {
        let mut disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        let produced = async |partition: &Partition| {
            let produced = produce(partition, &batch((-1, -1, -1), 2)).unwrap();
            partition.acknowledged(produced.last_offset, Acks::All).await.unwrap();
        };
        let epoch = |partition: &Partition| partition.end_offset_for_epoch(LeaderEpoch(5)).unwrap().1;
        let partition = open_on(&disk, true).await;
        produced(&partition).await;
        // The file of the epochs is written, and a power cut comes before the batches are durable.
        disk.cut(When::verb(Verb::Write));
        produce(&partition, &batch((-1, -1, -1), 2)).unwrap();
        partition.set_leader_epoch(LeaderEpoch(6));
        produce(&partition, &batch((-1, -1, -1), 2)).unwrap();
        assert_eq!(epoch(&partition), Offset(4));
        let bytes = partition.epochs.borrow().encode();
        disk.disk().write_file(&partition.log().dir().join(EPOCHS_FILE), bytes).await.unwrap();
        while !disk.is_off() {
            crate::runtime::clock::sleep(Duration::from_micros(100)).await;
        }
        partition.log().take_offline("the power is off");
        disk = disk.reopen_after_kill(1);
        let partition = open_on(&disk, false).await;
        assert_eq!(partition.bounds().log_end, Offset(2));
        partition.set_leader_epoch(LeaderEpoch(6));
        produced(&partition).await;
        produced(&partition).await;
        assert_eq!(epoch(&partition), Offset(2));
        disk = disk.reopen_after_kill(2);
        partition.log().take_offline("killed");
        let partition = open_on(&disk, false).await;
        assert_eq!((partition.bounds().log_end, epoch(&partition)), (Offset(6), Offset(2)));
        partition.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_close_that_is_cut_off_forgets_no_epoch() {
    run_one(async {
        let mut cuts = 0;
        // At each of the files that it writes, until it writes no more.
        for file in 0.. {
            let mut disk = SimulatedDisk::new();
            disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
            let partition = open_on(&disk, false).await;
            for (epoch, sequence) in [(5, 0), (6, 2)] {
                partition.set_leader_epoch(LeaderEpoch(epoch));
                let produced = produce(&partition, &batch((7, 0, sequence), 2)).unwrap();
                partition.acknowledged(produced.last_offset, Acks::All).await.unwrap();
            }
            disk.cut(When::verb(Verb::WriteFile).after(file));
            let closed = partition.close_cleanly().await;
            assert_eq!(closed.is_err(), disk.is_off());
            partition.log().take_offline("the power is off");
            disk = disk.reopen_after_kill(1);
            let partition = open_on(&disk, false).await;
            let ends = [5, 6].map(|epoch| partition.end_offset_for_epoch(LeaderEpoch(epoch)));
            let expected = [(5, 2), (6, 4)].map(|(epoch, end)| Some((LeaderEpoch(epoch), Offset(end))));
            assert_eq!(ends, expected, "cut off at file {file}");
            partition.close_cleanly().await.unwrap();
            if closed.is_ok() {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 4, "{cuts}: two indexes, a snapshot, the epochs");
    });
}

#[test]
fn the_last_stable_offset_is_nowhere_before_the_start() {
    run_one(async {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        let dir = Path::new("/data/orders-3");
        let partition = Partition::open(&disk.disk(), dir, id(), topic_id(), options(), true).await.unwrap();
        let of_transaction = |sequence| BatchBuilder::new().producer(9, 0, sequence).transactional();
        let mut transaction = of_transaction(0);
        transaction.push(NewRecord { timestamp: now().0, value: Some(b"value"), ..NewRecord::default() });
        partition.append(&transaction.build(), None).unwrap();
        let last = produce(&partition, &batch((-1, -1, -1), 5)).unwrap().last_offset;
        partition.acknowledged(last, Acks::All).await.unwrap();
        let stable = |partition: &Partition| partition.bounds().last_stable.0;
        assert_eq!(stable(&partition), 0);
        partition.delete_records_before(Offset(3)).unwrap();
        assert_eq!(stable(&partition), 3);
        // A reader of committed records who is sent there finds nothing yet, and is not sent away.
        let found = partition.list_offset(OffsetSpec::Latest, Isolation::ReadCommitted).await.unwrap().unwrap();
        assert_eq!(found.offset, Offset(3));
        assert!(partition.read_plan(found.offset, 1 << 20, true, Isolation::ReadCommitted).is_ok());
        let mut marker = of_transaction(-1).control();
        marker.push_control(ControlType::Abort, now().0, &[0; 6]);
        let last = partition.append(&marker.build(), None).unwrap().last_offset;
        partition.acknowledged(last, Acks::All).await.unwrap();
        assert_eq!(stable(&partition), 7);
        partition.close_cleanly().await.unwrap();
    });
}

#[test]
fn a_producer_is_known_whose_segment_went_after_an_epoch_began_in_it() {
    run_one(async {
        let mut disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        let produced = async |partition: &Partition, bytes: &[u8]| {
            let produced = produce(partition, bytes).unwrap();
            partition.acknowledged(produced.last_offset, Acks::All).await.unwrap();
            produced
        };
        let partition = open_on(&disk, true).await;
        produced(&partition, &batch((7, 0, 0), 2)).await;
        // A snapshot that knows less.
        while partition.make_point().await.unwrap().is_none() {
            crate::runtime::clock::sleep(Duration::from_micros(100)).await;
        }
        // The epochs' file has news when the roll wants the next: it waits, and is not left out.
        partition.set_leader_epoch(LeaderEpoch(6));
        let sent = batch((7, 0, 2), 2);
        let first = produced(&partition, &sent).await;
        partition.log().roll();
        produced(&partition, &batch((-1, -1, -1), 2)).await;
        while !partition.log().all_sealed() {
            crate::runtime::clock::sleep(Duration::from_micros(100)).await;
        }
        partition.delete_records_before(Offset(4)).unwrap();
        assert_eq!(partition.retain(now(), usize::MAX).await.unwrap(), 1);
        disk = disk.reopen_after_kill(1);
        partition.log().take_offline("killed");
        let partition = open_on(&disk, false).await;
        assert_eq!(partition.log().start_offset(), Offset(4));
        let again = produce(&partition, &sent).unwrap();
        assert!(again.duplicate && again.base_offset == first.base_offset, "{again:?}");
        assert_eq!(produced(&partition, &batch((7, 0, 4), 1)).await.base_offset, Offset(6));
        partition.close_cleanly().await.unwrap();
    });
}
