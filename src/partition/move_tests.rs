//! A partition that is moved between two directories, each with a journal, over a simulated disk beside a plain model:
//! with kills and power cuts at every operation of a move, also during the start after it, and with operations that
//! fail, while it is produced to and read.
//!
//! What must hold: what was acknowledged is there, once, in order, with its producer's state, in one of the directories,
//! and which one is known; a move that fails leaves the partition as it was.
//!
//! More cases: `PROPTEST_CASES=5000 cargo test --lib partition::move_tests`.

use std::path::PathBuf;
use std::sync::Arc;

use futures_lite::future::yield_now;
use proptest::prelude::*;

use super::moved::{self, MOVED_FILE, MovedFrom};
use super::*;
use crate::log::journal::{Replay, Shape};
use crate::log::{Destination, MoveError, MoveProgress, Moved};
use crate::record::{BatchBuilder, NewRecord};
use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Stall, Verb, When};
use crate::runtime::task::{self, OnPanic, Queue, StopFlag};
use crate::runtime::{clock, run_one};

const DIRS: [&str; 2] = ["/a", "/b"];
const NAME: &str = "m-0";
const TOPIC: Uuid = Uuid([5; 16]);
const EPOCH: LeaderEpoch = LeaderEpoch(3);
const PRODUCER: i64 = 77;
const SHAPE: Shape = Shape { region_bytes: 16 << 10, regions: 4 };

fn dir_id(at: usize) -> Uuid {
    Uuid([at as u8 + 1; 16])
}

fn batch(number: i64, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new().producer(PRODUCER, 0, number as i32);
    let mut value = format!("{number} ").into_bytes();
    value.resize(value.len() + value_bytes, b'v');
    builder.push(NewRecord { timestamp: 5, key: None, value: Some(&value), headers: &[] });
    builder.build()
}

/// What the partition should hold.
#[derive(Default)]
struct Model {
    batches: Vec<Vec<u8>>,
    start: i64,
    /// Below this nothing may ever be lost, if the power stays / if it is cut.
    kept_by_kill: i64,
    kept_by_cut: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.len() as i64
    }
}

/// A life of the process.
struct Life {
    at: Rc<Cell<usize>>,
    memory: Rc<TailMemory>,
    journals: Vec<Rc<Journal>>,
    partition: Rc<Partition>,
}

fn broken(error: impl std::fmt::Display) -> PartitionError {
    PartitionError::Broken(error.to_string())
}

async fn names(disk: &Disk, dir: &str) -> Result<Vec<String>, PartitionError> {
    let entries = disk.list(Path::new(dir)).await.map_err(broken)?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// Where the partition is, as a start finds out; what is left over goes.
async fn survey(disk: &Disk) -> Result<usize, PartitionError> {
    let path = |at: usize| Path::new(DIRS[at]).join(NAME);
    let remove = async |at: usize, name: &str| {
        disk.remove_dir_all(&Path::new(DIRS[at]).join(name)).await.map_err(broken)?;
        disk.sync_dir(Path::new(DIRS[at])).await.map_err(broken)
    };
    let mut found = Vec::new();
    for (at, dir) in DIRS.iter().enumerate() {
        for name in names(disk, dir).await? {
            if name.ends_with("-delete") {
                remove(at, &name).await?;
            } else if name == NAME {
                found.push(at);
            }
        }
    }
    let at = match found[..] {
        [] => return Ok(0),
        [one] => one,
        _ => {
            let first = moved::is_first(disk, (dir_id(0), &path(0)), (dir_id(1), &path(1))).await.map_err(broken)?;
            let first = first.expect("a move leaves no doubt");
            let (right, wrong) = if first { (0, 1) } else { (1, 0) };
            let gone = moved::old_name(NAME, "survey");
            disk.rename(&path(wrong), &Path::new(DIRS[wrong]).join(&gone)).await.map_err(broken)?;
            disk.sync_dir(Path::new(DIRS[wrong])).await.map_err(broken)?;
            remove(wrong, &gone).await?;
            right
        }
    };
    moved::forget(disk, &path(at)).await.map_err(broken)?;
    Ok(at)
}

impl Life {
    /// What a start does.
    async fn begin(disk: &SimulatedDisk, model: &Model, clean: bool) -> Result<Life, PartitionError> {
        let disk = disk.disk();
        let at = survey(&disk).await?;
        let memory = TailMemory::with_unwritten(16 << 10, 96 << 10);
        let journals: Vec<_> = DIRS.iter().map(|_| Journal::new(&memory)).collect();
        let mut journaled = Journaled::default();
        for (dir, path) in DIRS.iter().enumerate() {
            let mut files = Vec::new();
            for name in names(&disk, path).await? {
                if let Some(core) = Replay::core_of(&name).filter(|_| !clean) {
                    let bytes = disk.read_file(&Path::new(path).join(&name)).await.map_err(broken)?;
                    files.push((core, crate::log::journal::read(&bytes[..], core).map_err(broken)?));
                }
            }
            let (replay, errors) = Replay::new(files, 1);
            assert!(errors.is_empty(), "{errors:?}");
            if dir == at {
                journaled = replay.take(TOPIC, 0, Path::new(path));
            }
        }
        let config = TopicConfig {
            segment_bytes: 20_000,
            index_interval_bytes: 500,
            file_delete_delay_ms: 0,
            ..TopicConfig::default()
        };
        let options = PartitionOptions {
            leader_epoch: EPOCH,
            producer_id_expiration_ms: i64::MAX,
            start_offset: Offset(model.start),
            journal: Some(Rc::clone(&journals[at])),
            journaled,
            ..PartitionOptions::new(Rc::new(config), Rc::clone(&memory))
        };
        let id = TopicPartition { topic: "m".into(), partition: 0 };
        let dir = Path::new(DIRS[at]).join(NAME);
        let partition = Partition::open(&disk, &dir, id, TOPIC, options, clean).await?;
        let life = Life { at: Rc::new(Cell::new(at)), memory, journals, partition };
        for (dir, journal) in DIRS.iter().zip(life.journals.clone()) {
            if let Err(error) = journal.begin_with(&disk, Path::new(dir), 0, SHAPE, &StopFlag::new()).await {
                life.end().await;
                return Err(broken(error));
            }
        }
        Ok(life)
    }

    /// The process is gone.
    async fn end(&self) {
        self.partition.log().take_offline("the test goes on");
        for journal in &self.journals {
            let _ = journal.close(false).await;
        }
    }

    /// The destination of a move to `to`; a copy that is there is gone on with.
    async fn destination(&self, disk: &Disk, to: usize) -> Result<Destination, PartitionError> {
        let dir = Path::new(DIRS[to]);
        let found = names(disk, DIRS[to]).await?.into_iter().find(|name| name.ends_with("-future"));
        let old = Path::new(DIRS[self.at.get()]).join(moved::old_name(NAME, "0b"));
        Ok(Destination {
            future: dir.join(found.unwrap_or_else(|| moved::future_name(NAME, "0a"))),
            dir: dir.join(NAME),
            old,
            journal: Some(Rc::clone(&self.journals[to])),
            memory: Rc::clone(&self.memory),
            throttle: Arc::default(),
        })
    }
}

/// A move, as a broker does it.
struct Moving {
    progress: Rc<MoveProgress>,
    outcome: Rc<RefCell<Option<Result<Moved, MoveError>>>>,
}

impl Moving {
    async fn begin(disk: &Disk, life: &Life, to: usize, keep: bool) -> Result<Moving, PartitionError> {
        let destination = life.destination(disk, to).await?;
        let progress = Rc::<MoveProgress>::default();
        let outcome = Rc::<RefCell<Option<Result<Moved, MoveError>>>>::default();
        let moving = Moving { progress: Rc::clone(&progress), outcome: Rc::clone(&outcome) };
        let (partition, at, disk) = (Rc::clone(&life.partition), Rc::clone(&life.at), disk.clone());
        task::spawn(Queue::Upkeep, "test move", OnPanic::StopProcess, async move {
            let ended = match partition.begin_move(destination, &progress).await {
                Ok(mut moving) => {
                    let mut tries = 0;
                    let ended = loop {
                        let tried = match partition.catch_up(&mut moving).await {
                            Ok(()) => partition.hand_over(&mut moving, dir_id(at.get()), DirIndex(to as u16)).await,
                            Err(error) => Err(error),
                        };
                        tries += 1;
                        match tried {
                            Err(MoveError::Busy(_)) if tries < 20 => yield_now().await,
                            other => break other,
                        }
                    };
                    if ended.is_err() {
                        moving.give_up(keep).await;
                    }
                    ended
                }
                Err(error) => Err(error),
            };
            if let Ok(moved) = &ended {
                at.set(to);
                let _ = disk.remove_dir_all(&moved.old).await;
            }
            *outcome.borrow_mut() = Some(ended);
        });
        Ok(moving)
    }

    fn has_ended(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    async fn ended(&self) -> Result<Moved, MoveError> {
        while !self.has_ended() {
            clock::sleep(Duration::from_micros(50)).await;
        }
        self.outcome.borrow().clone().expect("just looked")
    }
}

struct World {
    disk: SimulatedDisk,
    life: Life,
    model: Model,
    moving: Option<Moving>,
    moves: usize,
    /// What stands still until the process is gone.
    stall: Option<Stall>,
    /// An operation of a copy may fail, also when it is the log already.
    broke: bool,
}

impl World {
    async fn new() -> World {
        let disk = SimulatedDisk::new();
        for dir in DIRS {
            disk.disk().create_dir_all(Path::new(dir)).await.unwrap();
        }
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let model = Model::default();
        let life = Life::begin(&disk, &model, true).await.unwrap();
        World { disk, life, model, moving: None, moves: 0, stall: None, broke: false }
    }

    /// Appends the next batch; `None` when it could not be.
    async fn produce(&mut self, value_bytes: usize) -> Option<Offset> {
        let partition = Rc::clone(&self.life.partition);
        let mut bytes = batch(self.model.end(), value_bytes);
        let room = partition.log().room(bytes.len()).await.ok()?;
        let produced = partition.append(&bytes, None);
        drop(room);
        let produced = produced.ok()?;
        assert_eq!((produced.base_offset, produced.duplicate), (Offset(self.model.end()), false));
        let stamp = Stamp { base_offset: produced.base_offset, leader_epoch: EPOCH, log_append_time: None };
        crate::record::stamp(&mut bytes, &stamp);
        self.model.batches.push(bytes);
        partition.want_committed();
        Some(produced.last_offset)
    }

    /// Waits until it is acknowledged; false when it is not.
    async fn acknowledged(&mut self, last: Offset, acks: Acks) -> bool {
        let done = self.life.partition.acknowledged(last, acks).await.is_ok();
        if done {
            self.model.kept_by_kill = self.model.kept_by_kill.max(last.0 + 1);
            if acks == Acks::All {
                self.model.kept_by_cut = self.model.kept_by_cut.max(last.0 + 1);
            }
        }
        done
    }

    async fn produce_some(&mut self, count: usize, value_bytes: usize) {
        for _ in 0..count {
            let last = self.produce(value_bytes).await.expect("all is well");
            assert!(self.acknowledged(last, Acks::All).await);
        }
    }

    /// Reads from an offset, and compares.
    async fn read(&mut self, from: i64) -> bool {
        let partition = &self.life.partition;
        let bounds = partition.bounds();
        if from >= bounds.high_watermark.0 || from < bounds.log_start.0 {
            return true;
        }
        let read = match partition.read_plan(Offset(from), 30_000, true, Isolation::ReadUncommitted) {
            Ok((_, plan)) => plan.execute().await.map_err(FetchError::from),
            Err(error) => Err(error),
        };
        let Ok(rope) = read else { return false };
        let wanted = self.model.batches[from as usize..bounds.high_watermark.0 as usize].concat();
        let found = rope.to_bytes();
        assert!(!found.is_empty() && wanted.starts_with(&found), "from {from}");
        let seen = bounds.high_watermark.0;
        self.model.kept_by_cut = self.model.kept_by_cut.max(seen);
        self.model.kept_by_kill = self.model.kept_by_kill.max(seen);
        true
    }

    async fn begin_move(&mut self, keep: bool) {
        let to = 1 - self.life.at.get();
        match Moving::begin(&self.disk.disk(), &self.life, to, keep).await {
            Ok(moving) => self.moving = Some(moving),
            Err(error) => assert!(self.disk.is_off(), "{error}"),
        }
    }

    async fn end_move(&mut self) -> Option<Result<Moved, MoveError>> {
        let moving = self.moving.take()?;
        let ended = moving.ended().await;
        self.moves += usize::from(ended.is_ok());
        Some(ended)
    }

    /// The process is gone, and perhaps the power; what a start finds is right. With `again` the power goes once more
    /// after so many operations of the start.
    async fn crash(&mut self, seed: u64, is_cut: bool, again: Option<u64>) {
        let kept = if is_cut { self.model.kept_by_cut } else { self.model.kept_by_kill };
        let after = if is_cut { self.disk.reopen(seed) } else { self.disk.reopen_after_kill(seed) };
        let before = std::mem::replace(&mut self.disk, after);
        if let Some(stall) = self.stall.take() {
            stall.release();
        }
        self.life.end().await;
        // Whatever the tasks of the life before are at comes to its end, on a disk that nobody looks at.
        before.clear_rules();
        if let Some(moving) = self.moving.take() {
            moving.progress.cancel();
            let _ = moving.ended().await;
        }
        if let Some(operations) = again {
            self.disk.cut(When::operation(operations));
            match Life::begin(&self.disk, &self.model, false).await {
                Ok(life) => life.end().await,
                Err(error) => assert!(self.disk.is_off(), "{error}"),
            }
            self.disk = self.disk.reopen(seed ^ 0xff);
        }
        self.life = Life::begin(&self.disk, &self.model, false).await.expect("what is undamaged opens");
        self.check_after(kept).await;
    }

    async fn restart(&mut self) {
        match self.life.partition.close_cleanly().await {
            // Somebody was faster.
            Err(PartitionError::Log(LogError::Closed(_))) => {}
            closed => closed.unwrap(),
        }
        if let Some(moving) = self.moving.take() {
            let _ = moving.ended().await;
        }
        for journal in &self.life.journals {
            journal.close(true).await.unwrap();
        }
        assert_eq!(self.life.memory.unwritten(), 0);
        self.life = Life::begin(&self.disk, &self.model, true).await.unwrap();
        self.check_after(self.model.end()).await;
    }

    /// The log holds a prefix of what was produced, at least what has to be kept.
    async fn check_after(&mut self, kept: i64) {
        self.disk.clear_rules();
        self.broke = false;
        let end = self.life.partition.log().end_offset().0;
        assert!(kept <= end, "it ends at {end}, {kept} was acknowledged");
        assert!(end <= self.model.end(), "it ends at {end}, only {} was produced", self.model.end());
        self.model.batches.truncate(end as usize);
        (self.model.kept_by_kill, self.model.kept_by_cut) = (end, end);
        self.check().await;
    }

    async fn check(&self) {
        let log = self.life.partition.log();
        let (start, end) = (log.start_offset().0, self.model.end());
        assert_eq!((start, log.end_offset().0), (self.model.start.min(end), end));
        log.wait(log.end_offset(), Stage::Written).await.unwrap();
        let mut found = Vec::new();
        log.replay(Offset(start), |batch| found.push(batch.bytes().to_vec())).await.expect("what is there is read");
        assert!(found.ends_with(&self.model.batches[start as usize..]), "it holds other batches");
        let last = self.life.partition.with_producers(|producers| {
            producers.get(PRODUCER).and_then(|producer| producer.batches().last().map(|batch| batch.last_sequence))
        });
        assert_eq!(last, (end > 0).then_some(end as i32 - 1), "the producer's last sequence");
        let dir = log.dir();
        assert_eq!(dir.parent(), Some(Path::new(DIRS[self.life.at.get()])));
        let names = names(&self.disk.disk(), dir.to_str().unwrap()).await.unwrap_or_default();
        assert!(!names.iter().any(|name| name.ends_with(".tmp")), "what a kill left: {names:?}");
    }

    /// Names of the partition in all directories.
    async fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for dir in DIRS {
            let names = names(&self.disk.disk(), dir).await.unwrap();
            let names = names.into_iter().filter(|name| Replay::core_of(name).is_none());
            found.extend(names.map(|name| Path::new(dir).join(name)));
        }
        found
    }

    async fn end(self) {
        self.life.end().await;
    }
}

fn of_copy(path: &Path) -> bool {
    path.starts_with("/b") && path.to_string_lossy().contains("m-0")
}

/// Three segments, the first sealed; what was last produced is in the journal only.
async fn some_log() -> World {
    let mut world = World::new().await;
    world.produce_some(12, 3000).await;
    world.life.partition.log().file().await.unwrap();
    world.produce_some(3, 50).await;
    world
}

/// Produces until the move has ended, or nothing goes any more. At least `least` batches.
async fn produce_meanwhile(world: &mut World, least: usize) {
    let mut produced = 0;
    loop {
        let ended = world.moving.as_ref().is_none_or(Moving::has_ended);
        if ended && produced >= least || world.disk.is_off() {
            return;
        }
        let value_bytes = [20, 400, 20, 2500][produced % 4];
        let Some(last) = world.produce(value_bytes).await else { return };
        produced += 1;
        let acks = if produced.is_multiple_of(3) { Acks::Leader } else { Acks::All };
        if produced.is_multiple_of(2) && !world.acknowledged(last, acks).await {
            return;
        }
        if !world.read((world.model.end() * 7 * produced as i64 / 5) % world.model.end().max(1)).await {
            return;
        }
        yield_now().await;
    }
}

#[test]
fn a_partition_moves_to_and_fro_while_it_is_written_and_read() {
    run_one(async {
        let mut world = some_log().await;
        let waiter = FetchWaiter::new(1);
        for round in 0..6 {
            let from = world.life.at.get();
            world.begin_move(false).await;
            produce_meanwhile(&mut world, 5).await;
            world.end_move().await.unwrap().unwrap();
            assert_eq!(world.life.at.get(), 1 - from, "round {round}");
            world.check().await;
            // Nothing is left of where it was, and no note.
            let dir = Path::new(DIRS[1 - from]).join(NAME);
            assert_eq!(world.directories().await, [dir.as_path()]);
            let files = names(&world.disk.disk(), dir.to_str().unwrap()).await.unwrap();
            assert!(!files.contains(&MOVED_FILE.to_string()));
            // A fetch that was parked in one directory is woken in the other.
            let _place = world.life.partition.watch(&waiter, Offset(world.model.end()), Isolation::ReadUncommitted);
            world.produce_some(1, 10).await;
            waiter.woken().await;
        }
        world.restart().await;
        world.produce_some(2, 10).await;
        world.crash(1, true, None).await;
        world.end().await;
    });
}

#[test]
fn what_reads_hold_stays_as_it_is_while_the_log_goes_elsewhere() {
    run_one(async {
        let mut world = some_log().await;
        let log = world.life.partition.log().clone();
        let end = world.model.end();
        // One plan is in memory, one on the drive; both are executed after the old files are gone.
        let plan = |from: i64| log.read_plan(Offset(from), Offset(end), 20_000, true).unwrap();
        let (old, new) = (plan(0), plan(end - 1));
        assert!(old.bytes_in_memory().is_none() && new.bytes_in_memory().is_some());
        world.begin_move(false).await;
        world.end_move().await.unwrap().unwrap();
        assert_eq!(new.execute().await.unwrap().to_bytes(), world.model.batches[end as usize - 1]);
        let found = old.execute().await.unwrap().to_bytes();
        assert!(world.model.batches.concat().starts_with(&found) && !found.is_empty());
        world.end().await;
    });
}

#[test]
fn a_log_that_was_never_written_moves_too() {
    run_one(async {
        let mut world = World::new().await;
        world.begin_move(false).await;
        world.end_move().await.unwrap().unwrap();
        world.produce_some(2, 10).await;
        // Of which the journal there has everything.
        world.crash(3, true, None).await;
        world.produce_some(1, 10).await;
        world.life.partition.log().file().await.unwrap();
        assert_eq!(world.directories().await, [Path::new("/b/m-0")]);
        world.check().await;
        world.end().await;
    });
}

/// Operations of the disk from the beginning of a move to its end.
async fn operations_of_a_move() -> usize {
    let mut world = some_log().await;
    let before = world.disk.operations().len();
    world.begin_move(false).await;
    produce_meanwhile(&mut world, 3).await;
    world.end_move().await.unwrap().unwrap();
    let count = world.disk.operations().len() - before;
    world.end().await;
    count
}

#[test]
fn a_cut_at_every_operation_of_a_move_loses_nothing() {
    run_one(async {
        let count = operations_of_a_move().await;
        assert!(count > 30, "{count} operations");
        let mut ended_in = [0, 0];
        let mut both = 0;
        for at in 0..count as u64 {
            for (seed, again) in [(at * 31, None), (at * 17 + 5, Some(at % 23))] {
                let mut world = some_log().await;
                world.begin_move(false).await;
                world.disk.cut(When::operation(at));
                produce_meanwhile(&mut world, 3).await;
                world.disk.power_off();
                let peek = world.disk.reopen(seed);
                let finals = async |dir: &str| peek.disk().list(Path::new(dir)).await.unwrap();
                let has = |entries: Vec<crate::runtime::disk::DirEntry>| entries.iter().any(|entry| entry.name == NAME);
                both += usize::from(has(finals("/a").await) && has(finals("/b").await));
                world.crash(seed, true, again).await;
                ended_in[world.life.at.get()] += 1;
                // It goes on, with what there is of the copy, and to and fro.
                for _ in 0..2 {
                    world.begin_move(false).await;
                    produce_meanwhile(&mut world, 2).await;
                    world.end_move().await.unwrap().unwrap();
                }
                world.check().await;
                world.crash(seed ^ 1, true, None).await;
                assert_eq!(world.directories().await.len(), 1);
                world.end().await;
            }
        }
        // Otherwise this would be a test of something else.
        assert!(ended_in[0] > 20 && ended_in[1] > 5 && both > 0, "{ended_in:?}, {both} times both");
    });
}

#[test]
fn a_kill_at_every_operation_of_a_move_loses_nothing() {
    run_one(async {
        let count = operations_of_a_move().await;
        for at in 0..count as u64 {
            let mut world = some_log().await;
            world.begin_move(false).await;
            let stall = world.disk.stall(When::operation(at));
            // Without waiting for anything: the operation that stands still may be what is waited for.
            for turn in 0.. {
                if stall.is_reached() || world.moving.as_ref().is_none_or(Moving::has_ended) {
                    break;
                }
                if turn < 6 {
                    let _ = world.produce(300).await;
                }
                clock::sleep(Duration::from_micros(20)).await;
            }
            let last = Offset(world.model.end() - 1);
            let _ = clock::timeout(Duration::from_micros(200), world.acknowledged(last, Acks::Leader)).await;
            world.stall = Some(stall);
            world.crash(at, false, None).await;
            world.begin_move(false).await;
            produce_meanwhile(&mut world, 2).await;
            world.end_move().await.unwrap().unwrap();
            world.check().await;
            world.end().await;
        }
    });
}

#[test]
fn a_destination_that_fails_or_is_full_leaves_the_partition_as_it_was() {
    run_one(async {
        let count = operations_of_a_move().await;
        let mut failed = [0, 0];
        for (at, fault) in (0..count as u64).flat_map(|at| [(at, Fault::Broken), (at, Fault::NoSpace)]) {
            let mut world = some_log().await;
            // From there on for a while, and not of a journal: that is another failure.
            world.disk.fail(When::operation(at).on(of_copy), fault);
            world.begin_move(false).await;
            produce_meanwhile(&mut world, 3).await;
            let ended = world.end_move().await.unwrap();
            match &ended {
                Ok(_) => {}
                Err(MoveError::DiskFull(_)) => failed[1] += 1,
                Err(_) => failed[0] += 1,
            }
            // One that came when the partition lived there already took it offline, as any failed write does.
            let lives_there = world.life.at.get() == 1;
            assert_eq!(ended.is_ok(), lives_there);
            if !lives_there {
                assert!(world.life.partition.ended().is_none(), "operation {at}: the source is offline");
                world.disk.clear_rules();
                world.produce_some(2, 100).await;
                world.check().await;
                world.begin_move(false).await;
                let again = world.end_move().await.unwrap();
                assert!(again.is_ok(), "operation {at}: {again:?}");
                world.check().await;
            }
            world.crash(at, true, None).await;
            world.end().await;
        }
        assert!(failed[0] > 20 && failed[1] > 10, "{failed:?}");
    });
}

#[test]
fn a_source_that_cannot_be_read_or_is_damaged_is_not_copied() {
    run_one(async {
        let mut world = some_log().await;
        world.disk.fail(When::verb(Verb::Read).on(|path| path.starts_with("/a/m-0")), Fault::Broken);
        world.begin_move(false).await;
        let ended = world.end_move().await.unwrap();
        assert!(matches!(ended, Err(MoveError::Failed(_))), "{ended:?}");
        assert_eq!(world.directories().await, [Path::new("/a/m-0")]);
        world.check().await;

        // A flipped bit: the copy would be all there is of the batch.
        let path = Path::new("/a/m-0").join(log::file_name(Offset(0), log::LOG));
        let disk = world.disk.disk();
        let mut bytes = disk.read_file(&path).await.unwrap();
        bytes[300] ^= 1;
        disk.write_file(&path, bytes).await.unwrap();
        // The file that is open is the one before.
        world.restart_without_a_look().await;
        world.begin_move(false).await;
        let ended = world.end_move().await.unwrap();
        assert!(matches!(&ended, Err(MoveError::Failed(reason)) if reason.contains("checksum")), "{ended:?}");
        assert_eq!(world.directories().await, [Path::new("/a/m-0")]);
        world.end().await;
    });
}

#[test]
fn a_copy_that_is_found_is_compared_and_what_is_wrong_in_it_written_again() {
    run_one(async {
        let mut world = some_log().await;
        world.produce_some(10, 3000).await;
        let stall = world.disk.stall(When::verb(Verb::Rename).on(|path| path.starts_with("/b")));
        world.begin_move(true).await;
        stall.reached().await;
        world.stall = Some(stall);
        world.crash(3, true, None).await;
        let copy = world.directories().await.into_iter().find(|path| path.starts_with("/b")).expect("a copy");
        assert!(copy.to_string_lossy().ends_with("-future"));
        // What lies there is nothing that counts.
        let disk = world.disk.disk();
        let first = copy.join(log::file_name(Offset(0), log::LOG));
        let mut bytes = disk.read_file(&first).await.unwrap();
        bytes[5000] ^= 1;
        disk.write_file(&first, bytes).await.unwrap();
        let stranger = copy.join(log::file_name(Offset(4), log::LOG));
        disk.write_file(&stranger, vec![7; 10_000]).await.unwrap();
        for name in ["partition.metadata.tmp", "leader-epoch-checkpoint.tmp", "00000000000000000000.index.tmp"] {
            disk.write_file(&copy.join(name), vec![7; 10]).await.unwrap();
        }
        world.begin_move(false).await;
        let progress = Rc::clone(&world.moving.as_ref().unwrap().progress);
        world.end_move().await.unwrap().unwrap();
        assert!(progress.compared() > 10_000, "{} bytes were there already", progress.compared());
        world.check().await;
        world.crash(4, true, None).await;
        world.end().await;
    });
}

#[test]
fn one_who_cancels_gets_it_back_and_one_who_stops_goes_on_later() {
    run_one(async {
        let mut world = some_log().await;
        let stall = world.disk.stall(When::verb(Verb::Write).on(of_copy));
        world.begin_move(false).await;
        stall.reached().await;
        world.moving.as_ref().unwrap().progress.cancel();
        stall.release();
        assert!(matches!(world.end_move().await.unwrap(), Err(MoveError::GivenUp(_))));
        assert_eq!(world.directories().await, [Path::new("/a/m-0")]);
        world.produce_some(2, 10).await;

        // A clean stop in the middle leaves a copy of whole batches.
        let stall = world.disk.stall(When::verb(Verb::Write).on(of_copy).after(1));
        world.begin_move(true).await;
        stall.reached().await;
        let partition = Rc::clone(&world.life.partition);
        let closed = Rc::new(Cell::new(false));
        let told = Rc::clone(&closed);
        task::spawn(Queue::Log, "close", OnPanic::StopProcess, async move {
            partition.close_cleanly().await.unwrap();
            told.set(true);
        });
        for _ in 0..50 {
            yield_now().await;
        }
        assert!(!closed.get(), "it waits for the move");
        stall.release();
        while !closed.get() {
            clock::sleep(Duration::from_micros(50)).await;
        }
        assert!(matches!(world.end_move().await.unwrap(), Err(MoveError::GivenUp(_))));
        let copy = world.directories().await.into_iter().find(|path| path.starts_with("/b")).expect("a copy");
        for entry in world.disk.disk().list(&copy).await.unwrap() {
            if entry.name.ends_with(".log") {
                let bytes = world.disk.disk().read_file(&copy.join(&entry.name)).await.unwrap();
                assert!(world.model.batches.concat().windows(bytes.len().max(1)).any(|part| part == bytes));
            }
        }
        world.restart().await;
        world.begin_move(false).await;
        world.end_move().await.unwrap().unwrap();
        world.check().await;
        world.end().await;
    });
}

#[test]
fn a_deletion_in_the_middle_leaves_nothing() {
    run_one(async {
        for at in [1, 4, 9, 20, 40] {
            let mut world = some_log().await;
            world.begin_move(false).await;
            let stall = world.disk.stall(When::operation(at));
            while !stall.is_reached() && !world.moving.as_ref().unwrap().has_ended() {
                clock::sleep(Duration::from_micros(20)).await;
            }
            let partition = Rc::clone(&world.life.partition);
            let deleted = Rc::new(Cell::new(false));
            let told = Rc::clone(&deleted);
            task::spawn(Queue::Log, "delete", OnPanic::StopProcess, async move {
                partition.delete("d").await.unwrap();
                partition.remove_dir().await.unwrap();
                told.set(true);
            });
            yield_now().await;
            stall.release();
            while !deleted.get() {
                clock::sleep(Duration::from_micros(50)).await;
            }
            let _ = world.end_move().await.unwrap();
            assert_eq!(world.directories().await, [] as [PathBuf; 0], "at operation {at}");
            world.end().await;
        }
    });
}

#[test]
fn retention_goes_on_and_what_it_gives_up_goes_from_the_copy_as_well() {
    run_one(async {
        for at in 0..40 {
            let mut world = some_log().await;
            world.produce_some(10, 3000).await;
            world.begin_move(false).await;
            let stall = world.disk.stall(When::operation(at).on(of_copy));
            while !stall.is_reached() && !world.moving.as_ref().unwrap().has_ended() {
                clock::sleep(Duration::from_micros(20)).await;
            }
            let second = world.life.partition.log().segment_bases()[1];
            world.model.start = second.0 + 1;
            world.life.partition.delete_records_before(Offset(world.model.start)).unwrap();
            let partition = Rc::clone(&world.life.partition);
            let retained = task_result(async move { partition.retain(UnixMs(10), 10).await });
            clock::sleep(Duration::from_micros(100)).await;
            stall.release();
            while retained.borrow().is_none() {
                clock::sleep(Duration::from_micros(20)).await;
            }
            world.end_move().await.unwrap().unwrap();
            // One that the hand-over had held off goes now.
            world.life.partition.retain(UnixMs(10), 10).await.unwrap();
            world.check().await;
            world.crash(at, true, None).await;
            assert_eq!(world.life.partition.log().segment_bases()[0], second, "operation {at}");
            world.end().await;
        }
    });
}

fn task_result<T: 'static>(work: impl Future<Output = T> + 'static) -> Rc<RefCell<Option<T>>> {
    let result = Rc::new(RefCell::new(None));
    let told = Rc::clone(&result);
    task::spawn(Queue::Log, "test", OnPanic::StopProcess, async move {
        let ended = work.await;
        *told.borrow_mut() = Some(ended);
    });
    result
}

#[test]
fn of_two_directories_the_one_that_went_on_is_taken_and_of_two_that_did_none() {
    run_one(async {
        let disk = SimulatedDisk::new();
        let first = |base: i64, count: i64| (0..count).map(move |at| base + at).collect::<Vec<_>>();
        let fill = async |dir: &str, batches: Vec<i64>, note: Option<MovedFrom>| {
            let (disk, dir) = (disk.disk(), Path::new(dir).join(NAME));
            let _ = disk.remove_dir_all(&dir).await;
            disk.create_dir_all(&dir).await.unwrap();
            let mut bytes = Vec::new();
            for number in batches {
                let mut batch = batch(number, 100);
                let stamp = Stamp { base_offset: Offset(number), leader_epoch: EPOCH, log_append_time: None };
                crate::record::stamp(&mut batch, &stamp);
                bytes.extend(batch);
            }
            disk.write_file(&dir.join(log::file_name(Offset(0), log::LOG)), bytes).await.unwrap();
            if let Some(note) = note {
                disk.write_file(&dir.join(MOVED_FILE), note.encode()).await.unwrap();
            }
        };
        let note = |from: usize, end: i64| Some(MovedFrom { directory: dir_id(from), end: Offset(end) });
        for (a, a_note, b, b_note, expected) in [
            // Handed over, and nothing else.
            (5, None, 5, note(0, 5), Some(false)),
            (5, note(1, 5), 5, None, Some(true)),
            // The new one went on; the old one lost what was not acknowledged.
            (4, None, 9, note(0, 5), Some(false)),
            // The new one was not there for a while.
            (7, None, 5, note(0, 5), Some(true)),
            // First the one, then the other.
            (7, None, 6, note(0, 5), None),
            // No move, or another one.
            (5, None, 5, None, None),
            (5, note(1, 5), 5, note(0, 5), None),
            (5, None, 5, Some(MovedFrom { directory: Uuid([9; 16]), end: Offset(5) }), None),
        ] {
            fill("/a", first(0, a), a_note).await;
            fill("/b", first(0, b), b_note).await;
            let (path_a, path_b) = (Path::new("/a").join(NAME), Path::new("/b").join(NAME));
            let (one, other) = ((dir_id(0), path_a.as_path()), (dir_id(1), path_b.as_path()));
            assert_eq!(moved::is_first(&disk.disk(), one, other).await.unwrap(), expected, "{a} {b}");
            let turned = moved::is_first(&disk.disk(), other, one).await.unwrap();
            assert_eq!(turned, expected.map(|first| !first), "{b} {a}");
        }
    });
}

#[derive(Clone, Debug)]
enum Op {
    Produce {
        value_bytes: u16,
        wait: Option<bool>,
    },
    Read(u16),
    Roll,
    File,
    Pause(u8),
    Move {
        keep: bool,
    },
    EndMove,
    Cancel,
    DeleteRecords(u16),
    /// An operation in the directory that it is moved to fails.
    Break {
        skip: u8,
        full: bool,
    },
    Restart,
    Kill(u64),
    Cut {
        seed: u64,
        again: Option<u8>,
    },
    CutSoon(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![3 => 0..60u16, 2 => 200..3000u16, 1 => 5000..9000u16];
    prop_oneof![
        16 => (size, proptest::option::weighted(0.5, any::<bool>()))
            .prop_map(|(value_bytes, wait)| Op::Produce { value_bytes, wait }),
        4 => (0..1001u16).prop_map(Op::Read),
        1 => Just(Op::Roll),
        1 => Just(Op::File),
        5 => (1..60u8).prop_map(Op::Pause),
        5 => any::<bool>().prop_map(|keep| Op::Move { keep }),
        3 => Just(Op::EndMove),
        1 => Just(Op::Cancel),
        1 => (0..600u16).prop_map(Op::DeleteRecords),
        1 => (0..30u8, any::<bool>()).prop_map(|(skip, full)| Op::Break { skip, full }),
        1 => Just(Op::Restart),
        1 => any::<u64>().prop_map(Op::Kill),
        2 => (any::<u64>(), proptest::option::of(0..40u8)).prop_map(|(seed, again)| Op::Cut { seed, again }),
        1 => (0..80u8).prop_map(Op::CutSoon),
    ]
}

impl World {
    async fn run(&mut self, op: &Op) {
        let went_on = match *op {
            Op::Produce { value_bytes, wait } => match (self.produce(usize::from(value_bytes)).await, wait) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(last), Some(all)) => self.acknowledged(last, if all { Acks::All } else { Acks::Leader }).await,
            },
            Op::Read(permille) => self.read(self.model.end() * i64::from(permille) / 1000).await,
            Op::Roll => {
                self.life.partition.log().roll();
                true
            }
            Op::File => self.life.partition.log().file().await.is_ok(),
            Op::Pause(turns) => {
                for _ in 0..turns {
                    yield_now().await;
                }
                true
            }
            Op::Move { keep } => {
                if self.moving.as_ref().is_none_or(Moving::has_ended) {
                    let ended = self.end_move().await;
                    self.begin_move(keep).await;
                    drop(ended);
                    true
                } else {
                    true
                }
            }
            Op::EndMove => {
                self.end_move().await;
                true
            }
            Op::Cancel => {
                if let Some(moving) = &self.moving {
                    moving.progress.cancel();
                }
                true
            }
            Op::DeleteRecords(permille) => self.delete_records(permille).await,
            Op::Break { skip, full } => {
                let to = DIRS[1 - self.life.at.get()];
                let of_copy = move |path: &Path| path.starts_with(to) && path.to_string_lossy().contains("-future");
                let fault = if full { Fault::NoSpace } else { Fault::Broken };
                self.disk.fail(When::operation(u64::from(skip)).on(of_copy), fault);
                self.broke = true;
                true
            }
            Op::Restart => {
                if self.disk.is_off() || self.life.partition.ended().is_some() {
                    false
                } else {
                    self.disk.clear_rules();
                    self.restart().await;
                    true
                }
            }
            Op::Kill(seed) if !self.disk.is_off() => {
                self.crash(seed, false, None).await;
                true
            }
            Op::Kill(_) => false,
            Op::Cut { seed, again } => {
                self.crash(seed, true, again.map(u64::from)).await;
                true
            }
            Op::CutSoon(operations) => {
                self.disk.cut(When::operation(u64::from(operations)));
                true
            }
        };
        if !went_on {
            let ended = self.life.partition.ended();
            assert!(self.disk.is_off() || self.broke, "{op:?} failed: {ended:?}");
            if !self.disk.is_off() && ended.is_none() {
                // The drive was full for a moment.
                return;
            }
            self.crash(7, true, None).await;
        }
    }

    /// As a broker does it: durable first, then remembered, then done.
    async fn delete_records(&mut self, permille: u16) -> bool {
        let partition = Rc::clone(&self.life.partition);
        let wanted = self.model.end() * i64::from(permille) / 1000;
        let wanted = wanted.min(partition.bounds().high_watermark.0);
        let Ok(offset) = partition.prepare_deletion_before(Some(Offset(wanted))).await else { return false };
        self.model.kept_by_cut = self.model.kept_by_cut.max(offset.0);
        self.model.kept_by_kill = self.model.kept_by_kill.max(offset.0);
        self.model.start = self.model.start.max(offset.0);
        partition.delete_records_before(offset).is_ok() && partition.retain(UnixMs(10), 10).await.is_ok()
    }

    async fn restart_without_a_look(&mut self) {
        self.life.partition.close_cleanly().await.unwrap();
        for journal in &self.life.journals {
            journal.close(true).await.unwrap();
        }
        self.life = Life::begin(&self.disk, &self.model, true).await.unwrap();
    }
}

async fn model_case(operations: Vec<Op>, moves: Rc<Cell<usize>>) {
    let mut world = World::new().await;
    for op in &operations {
        world.run(op).await;
    }
    world.crash(11, true, None).await;
    world.restart().await;
    moves.set(moves.get() + world.moves);
    world.end().await;
}

#[test]
fn a_partition_that_moves_is_what_the_model_says() {
    run_one(async move {
        let moves = Rc::new(Cell::new(0));
        let case = async |list| model_case(list, Rc::clone(&moves)).await;
        let cases = super::model_tests::try_lists(op(), 1..80, 150, case).await;
        // Otherwise this would be a test of something else.
        assert!(moves.get() > cases as usize / 2, "only {} moves in {cases} cases", moves.get());
    });
}
