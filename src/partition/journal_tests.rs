//! Random operations on many partitions that share journals, over a simulated disk,
//! beside a plain model: with kills and power cuts at any operation, also while what the
//! journals hold is being filed, and with another number of cores afterwards.
//!
//! What must hold of each partition at each restart is what `model_tests` says. More cases:
//! `PROPTEST_CASES=5000 cargo test --lib partition::journal_tests`.

use proptest::prelude::*;

use super::*;
use crate::log::journal::{Replay, Shape};
use crate::record::{BatchBuilder, NewRecord};
use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
use crate::runtime::run_one;
use crate::runtime::task::StopFlag;

const PARTITIONS: usize = 6;
const DIR: &str = "/data";
const EPOCH: LeaderEpoch = LeaderEpoch(2);

/// Filled, and filled again, all the time.
const SHAPE: Shape = Shape { region_bytes: 16 << 10, regions: 4 };

#[derive(Clone, Debug)]
enum Op {
    Produce {
        partition: usize,
        /// The largest are too large for the journal.
        value_bytes: u16,
        wait: Option<bool>,
    },
    /// A small batch for each partition, and all of them durable.
    Round,
    Read {
        partition: usize,
        back: u8,
    },
    Roll {
        partition: usize,
    },
    File {
        partition: usize,
    },
    Pause {
        turns: u8,
    },
    /// Deleted and made again, with another topic id.
    Again {
        partition: usize,
    },
    /// An operation on the journals fails.
    Break {
        verb: Verb,
        skip: u8,
    },
    Restart {
        cores: usize,
    },
    Kill {
        seed: u64,
        cores: usize,
    },
    Cut {
        seed: u64,
        cores: usize,
        again: Option<u8>,
    },
    /// Power off in the middle of an operation that is yet to come.
    CutSoon {
        operations: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (partition, cores) = (0..PARTITIONS, 1..4usize);
    prop_oneof![
        12 => (partition.clone(), prop_oneof![3 => 0..60u16, 2 => 200..3000u16, 1 => 5000..9000u16], proptest::option::weighted(0.4, any::<bool>()))
            .prop_map(|(partition, value_bytes, wait)| Op::Produce { partition, value_bytes, wait }),
        4 => Just(Op::Round),
        3 => (partition.clone(), 0..6u8).prop_map(|(partition, back)| Op::Read { partition, back }),
        1 => partition.clone().prop_map(|partition| Op::Roll { partition }),
        1 => partition.clone().prop_map(|partition| Op::File { partition }),
        3 => (1..40u8).prop_map(|turns| Op::Pause { turns }),
        1 => partition.prop_map(|partition| Op::Again { partition }),
        1 => (prop_oneof![Just(Verb::Write), Just(Verb::Flush)], 0..6u8).prop_map(|(verb, skip)| Op::Break { verb, skip }),
        1 => cores.clone().prop_map(|cores| Op::Restart { cores }),
        1 => (any::<u64>(), cores.clone()).prop_map(|(seed, cores)| Op::Kill { seed, cores }),
        2 => (any::<u64>(), cores, proptest::option::of(0..60u8))
            .prop_map(|(seed, cores, again)| Op::Cut { seed, cores, again }),
        1 => (0..60u8).prop_map(|operations| Op::CutSoon { operations }),
    ]
}

/// What a partition should hold.
#[derive(Default)]
struct Model {
    topic: u8,
    batches: Vec<Vec<u8>>,
    /// Below this nothing may ever be lost, if the power stays / if it is cut.
    kept_by_kill: i64,
    kept_by_cut: i64,
}

impl Model {
    /// Each batch is one record.
    fn end(&self) -> i64 {
        self.batches.len() as i64
    }
}

/// A life of the process.
struct Life {
    /// By core.
    journals: Vec<Rc<Journal>>,
    memories: Vec<Rc<TailMemory>>,
    partitions: Vec<Rc<Partition>>,
}

struct World {
    disk: SimulatedDisk,
    life: Life,
    models: Vec<Model>,
    /// Groups that journals took, and rounds of all their regions.
    groups: usize,
}

fn id(partition: usize) -> TopicPartition {
    TopicPartition { topic: "j".into(), partition: partition as i32 }
}

fn topic_id(topic: u8) -> Uuid {
    Uuid([100 + topic; 16])
}

fn is_journal(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(Replay::core_of).is_some()
}

fn batch(partition: usize, base: i64, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let mut value = format!("{partition} {base} ").into_bytes();
    value.resize(value.len() + value_bytes, b'v');
    builder.push(NewRecord { timestamp: 5, key: None, value: Some(&value), headers: &[] });
    builder.build()
}

impl Life {
    /// What a start does; on one executor, in the place of several cores.
    async fn begin(disk: &SimulatedDisk, models: &[Model], cores: usize, clean: bool) -> Result<Life, PartitionError> {
        let (disk, dir) = (disk.disk(), Path::new(DIR));
        let failed = |error: io::Error| PartitionError::Broken(error.to_string());
        let mut files = Vec::new();
        for entry in disk.list(dir).await.map_err(failed)? {
            if let Some(core) = Replay::core_of(&entry.name) {
                let bytes =
                    if clean { Vec::new() } else { disk.read_file(&dir.join(&entry.name)).await.map_err(failed)? };
                files.push((core, crate::log::journal::read(&bytes[..], core).map_err(failed)?));
            }
        }
        let (replay, errors) = Replay::new(files, cores as u16);
        assert!(errors.is_empty(), "{errors:?}");
        let memories: Vec<_> = (0..cores).map(|_| TailMemory::with_unwritten(16 << 10, 96 << 10)).collect();
        let journals = memories.iter().map(Journal::new).collect();
        let mut life = Life { journals, memories, partitions: Vec::new() };
        for (partition, model) in models.iter().enumerate() {
            let entries = replay.take(topic_id(model.topic), partition as i32, dir);
            match life.open(&disk, partition, model.topic, entries, clean).await {
                Ok(opened) => life.partitions.push(opened),
                Err(error) => {
                    life.end().await;
                    return Err(error);
                }
            }
        }
        (0..cores).for_each(|_| replay.core_is_done());
        assert!(replay.is_complete());
        for (core, journal) in life.journals.clone().into_iter().enumerate() {
            if let Err(error) = journal.begin_with(&disk, dir, core as u16, SHAPE, &StopFlag::new()).await {
                life.end().await;
                return Err(failed(error));
            }
        }
        for core in replay.files().iter().filter(|core| usize::from(**core) >= cores) {
            if let Err(error) = disk.remove(&Journal::path(dir, *core)).await {
                life.end().await;
                return Err(failed(error));
            }
        }
        Ok(life)
    }

    async fn open(
        &self,
        disk: &Disk,
        partition: usize,
        topic: u8,
        journaled: Journaled,
        clean: bool,
    ) -> Result<Rc<Partition>, PartitionError> {
        let core = partition % self.journals.len();
        let config = TopicConfig { segment_bytes: 40_000, index_interval_bytes: 500, ..TopicConfig::default() };
        let options = PartitionOptions {
            leader_epoch: EPOCH,
            journal: Some(Rc::clone(&self.journals[core])),
            journaled,
            ..PartitionOptions::new(Rc::new(config), Rc::clone(&self.memories[core]))
        };
        let id = id(partition);
        Partition::open(disk, &Path::new(DIR).join(id.to_string()), id, topic_id(topic), options, clean).await
    }

    /// The process is gone.
    async fn end(&self) {
        for partition in &self.partitions {
            partition.log().take_offline("the test goes on");
        }
        for journal in &self.journals {
            let _ = journal.close(false).await;
        }
    }
}

impl World {
    async fn new(cores: usize) -> World {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new(DIR)).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let models: Vec<Model> = (0..PARTITIONS).map(|_| Model::default()).collect();
        let life = Life::begin(&disk, &models, cores, true).await.unwrap();
        World { disk, life, models, groups: 0 }
    }

    /// Appends the next batch; `None` when the power is off.
    async fn produce(&mut self, at: usize, value_bytes: usize) -> Option<Offset> {
        let (partition, model) = (&self.life.partitions[at], &mut self.models[at]);
        let mut bytes = batch(at, model.end(), value_bytes);
        let room = partition.log().room(bytes.len()).await;
        match room.map_err(ProduceError::from).and_then(|_room| partition.append(&bytes, None)) {
            Ok(produced) => {
                assert_eq!(produced.base_offset, Offset(model.end()));
                let stamp = Stamp { base_offset: produced.base_offset, leader_epoch: EPOCH, log_append_time: None };
                crate::record::stamp(&mut bytes, &stamp);
                model.batches.push(bytes);
                partition.want_committed();
                Some(produced.last_offset)
            }
            Err(error) => {
                self.expect_off(error).await;
                None
            }
        }
    }

    async fn acknowledged(&mut self, at: usize, last: Offset, all: bool) {
        let acks = if all { Acks::All } else { Acks::Leader };
        match self.life.partitions[at].acknowledged(last, acks).await {
            Ok(()) => {
                let model = &mut self.models[at];
                model.kept_by_kill = model.kept_by_kill.max(last.0 + 1);
                if all {
                    model.kept_by_cut = model.kept_by_cut.max(last.0 + 1);
                }
            }
            Err(error) => self.expect_off(error).await,
        }
    }

    async fn run(&mut self, op: &Op) {
        match *op {
            Op::Produce { partition, value_bytes, wait } => {
                let Some(last) = self.produce(partition, usize::from(value_bytes)).await else { return };
                if let Some(all) = wait {
                    self.acknowledged(partition, last, all).await;
                }
            }
            Op::Round => {
                let mut placed = Vec::new();
                for at in 0..PARTITIONS {
                    let Some(last) = self.produce(at, 10).await else { return };
                    placed.push(last);
                }
                for (at, last) in placed.into_iter().enumerate() {
                    let life = Rc::clone(&self.life.partitions[at]);
                    self.acknowledged(at, last, true).await;
                    if !Rc::ptr_eq(&life, &self.life.partitions[at]) {
                        return;
                    }
                }
            }
            Op::Read { partition, back } => self.read(partition, i64::from(back)).await,
            Op::Roll { partition } => self.life.partitions[partition].log().roll(),
            Op::File { partition } => {
                if let Err(error) = self.life.partitions[partition].log().file().await {
                    self.expect_off(error).await;
                }
            }
            Op::Pause { turns } => {
                for _ in 0..turns {
                    futures_lite::future::yield_now().await;
                }
            }
            Op::Again { partition } => self.again(partition).await,
            Op::Break { verb, skip } => {
                self.disk.fail(When::verb(verb).on(is_journal).after(u64::from(skip)), Fault::Broken);
            }
            Op::Restart { cores } => self.restart(cores).await,
            Op::Kill { seed, cores } => {
                self.groups += self.disk.count(Verb::Write, is_journal);
                self.disk = self.disk.reopen_after_kill(seed);
                self.restart_unclean(cores, |model| model.kept_by_kill).await;
            }
            Op::Cut { seed, cores, again } => self.cut(seed, cores, again).await,
            Op::CutSoon { operations } => self.disk.cut(When::operation(u64::from(operations))),
        }
    }

    async fn read(&mut self, at: usize, back: i64) {
        let partition = &self.life.partitions[at];
        let bounds = partition.bounds();
        let from = (bounds.high_watermark.0 - 1 - back).max(0);
        if from >= bounds.high_watermark.0 {
            return;
        }
        let read = match partition.read_plan(Offset(from), 1 << 20, true, Isolation::ReadUncommitted) {
            Ok((_, plan)) => plan.execute().await.map_err(FetchError::from),
            Err(error) => Err(error),
        };
        match read {
            Ok(rope) => {
                let wanted = self.models[at].batches[from as usize..bounds.high_watermark.0 as usize].concat();
                let found = rope.to_bytes();
                assert!(!found.is_empty() && wanted.starts_with(&found), "partition {at} from {from}");
                // A reader has seen it.
                let model = &mut self.models[at];
                model.kept_by_cut = model.kept_by_cut.max(bounds.high_watermark.0);
                model.kept_by_kill = model.kept_by_kill.max(bounds.high_watermark.0);
            }
            Err(error) => self.expect_off(error).await,
        }
    }

    async fn again(&mut self, at: usize) {
        let partition = &self.life.partitions[at];
        let deleted = match partition.delete("x").await {
            Ok(_) => partition.remove_dir().await,
            Err(error) => Err(error),
        };
        let topic = self.models[at].topic + 1;
        let opened = match deleted {
            // The directory's end is durable before the topic can be made again, as the metadata sees to it.
            Ok(()) => match self.disk.disk().sync_dir(Path::new(DIR)).await {
                Ok(()) => self.life.open(&self.disk.disk(), at, topic, Journaled::default(), true).await,
                Err(error) => Err(PartitionError::Broken(error.to_string())),
            },
            Err(error) => Err(error),
        };
        match opened {
            Ok(partition) => {
                self.life.partitions[at] = partition;
                self.models[at] = Model { topic, ..Model::default() };
            }
            Err(error) => {
                // It may be gone or not: made anew in a place of its own life.
                assert!(self.disk.is_off(), "{error}");
                self.models[at] = Model { topic, ..Model::default() };
                self.disk = self.disk.reopen(3);
                let dir = Path::new(DIR).join(id(at).to_string());
                let disk = self.disk.disk();
                for entry in disk.list(Path::new(DIR)).await.unwrap() {
                    if entry.name.ends_with("-delete") {
                        disk.remove_dir_all(&Path::new(DIR).join(entry.name)).await.unwrap();
                    }
                }
                let _ = disk.remove_dir_all(&dir).await;
                disk.sync_dir(Path::new(DIR)).await.unwrap();
                self.restart_unclean(1, |model| model.kept_by_cut).await;
            }
        }
    }

    async fn restart(&mut self, cores: usize) {
        for at in 0..PARTITIONS {
            if let Err(error) = self.life.partitions[at].close_cleanly().await {
                return self.expect_off(error).await;
            }
        }
        assert!(self.life.memories.iter().all(|memory| memory.unwritten() == 0), "closed, and something is left");
        for journal in self.life.journals.clone() {
            if let Err(error) = journal.close(true).await {
                // One that has failed, or the power: the segments have everything.
                tracing::debug!("{error}");
            }
        }
        self.groups += self.disk.count(Verb::Write, is_journal);
        if !self.disk.is_off() {
            // What was to break was of this life.
            self.disk.clear_rules();
        }
        for model in &mut self.models {
            model.kept_by_kill = model.end();
            model.kept_by_cut = model.end();
        }
        match Life::begin(&self.disk, &self.models, cores, true).await {
            Ok(life) => {
                self.life = life;
                self.after_restart(|model| model.end()).await;
            }
            Err(error) => self.expect_off(error).await,
        }
    }

    /// An operation may only fail because the power went.
    async fn expect_off(&mut self, error: impl std::fmt::Display) {
        assert!(self.disk.is_off(), "{error}");
        self.cut(7, 2, None).await;
    }

    async fn cut(&mut self, seed: u64, cores: usize, again: Option<u8>) {
        self.groups += self.disk.count(Verb::Write, is_journal);
        self.disk = self.disk.reopen(seed);
        if let Some(operations) = again {
            self.life.end().await;
            self.disk.cut(When::operation(u64::from(operations)));
            match Life::begin(&self.disk, &self.models, 1 + cores % 3, false).await {
                Ok(life) => life.end().await,
                Err(error) => assert!(self.disk.is_off(), "{error}"),
            }
            self.disk = self.disk.reopen(seed ^ 0xff);
        }
        self.restart_unclean(cores, |model| model.kept_by_cut).await;
    }

    async fn restart_unclean(&mut self, cores: usize, kept: impl Fn(&Model) -> i64) {
        self.life.end().await;
        self.life = Life::begin(&self.disk, &self.models, cores, false).await.expect("undamaged logs open");
        self.after_restart(kept).await;
    }

    /// Each log holds a prefix of what was produced, at least what has to be kept.
    async fn after_restart(&mut self, kept: impl Fn(&Model) -> i64) {
        self.disk.clear_rules();
        for (at, model) in self.models.iter_mut().enumerate() {
            let log = self.life.partitions[at].log();
            let (end, kept) = (log.end_offset().0, kept(model));
            assert!(kept <= end, "partition {at} ends at {end}, {kept} was acknowledged");
            assert!(end <= model.end(), "partition {at} ends at {end}, only {} was produced", model.end());
            model.batches.truncate(end as usize);
            let mut found = Vec::new();
            log.replay(Offset(0), |batch| found.push(batch.bytes().to_vec())).await.expect("what is there is read");
            assert!(found == model.batches, "partition {at} holds other batches");
            (model.kept_by_kill, model.kept_by_cut) = (end, end);
            assert_eq!(log.durable_offset(), Offset(end));
        }
    }
}

async fn check(operations: Vec<Op>, groups: Rc<Cell<usize>>) {
    let mut world = World::new(2).await;
    for op in &operations {
        world.run(op).await;
    }
    world.cut(11, 3, None).await;
    world.restart(1).await;
    world.life.end().await;
    groups.set(groups.get() + world.groups);
}

#[test]
fn nothing_acknowledged_is_lost_of_partitions_that_share_journals() {
    run_one(async move {
        let groups = Rc::new(Cell::new(0));
        let case = async |list| check(list, Rc::clone(&groups)).await;
        let cases = super::model_tests::try_lists(op(), 1..80, 150, case).await;
        // Otherwise this would be a test of something else.
        assert!(groups.get() > 20 * cases as usize, "only {} writes of journals in {cases} cases", groups.get());
    });
}
