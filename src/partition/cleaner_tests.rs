//! Compaction of a partition over a simulated disk beside a plain model of Kafka's rules.
//!
//! The model knows batches as lists of records and applies the rules to them. What must hold: after
//! a clean the log is what the model says; in the middle of one, and after a cut in the middle, each batch is as
//! before or as after it, those that are as after first; readers at any offset find the next batch
//! there is; offsets, sequence numbers and times are those that were produced.
//!
//! More cases: `PROPTEST_CASES=5000 cargo test --lib partition::cleaner_tests`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::record::{BatchBuilder, Codec, NewRecord, Scratch};
use crate::runtime::disk::simulated::{SimulatedDisk, When};
use crate::runtime::task;
use crate::runtime::{clock, run_one};

const EPOCH: LeaderEpoch = LeaderEpoch(4);
const TOPIC: Uuid = Uuid([5; 16]);
const RETENTION_MS: i64 = 1000;
const LAG_MS: i64 = 500;
const SEGMENT_BYTES: i32 = 2500;

#[derive(Clone, Debug)]
enum Op {
    Produce(Produced),
    /// The clock goes on.
    Wait(i64),
    Roll,
    /// Cleans what can be cleaned; `keys`: the map has room for so many. While it is under way it
    /// is read from the given places, and `behind` is produced.
    Clean {
        keys: u8,
        reads: Vec<u16>,
        behind: Vec<Produced>,
    },
    /// The power goes after so many operations of the disk in a clean, and in the opening after that.
    CleanAndCut {
        operations: u16,
        again: Option<u8>,
        seed: u64,
    },
    /// Everything below a permille of the log is deleted.
    DeleteRecords(u16),
    Restart,
    Cut(u64),
}

#[derive(Clone, Debug)]
struct Produced {
    producer: u8,
    codec: u8,
    /// Key, and the length of the value; no value is a tombstone.
    records: Vec<(u8, Option<u16>)>,
    /// How far the records' times lie before the clock.
    age: i64,
}

fn produced() -> impl Strategy<Value = Produced> {
    let value = proptest::option::weighted(0.7, prop_oneof![5 => 0..60_u16, 1 => 300..700_u16]);
    (
        0..4_u8,
        prop_oneof![3 => Just(0_u8), 1 => 0..5_u8],
        proptest::collection::vec((0..12_u8, value), 1..6),
        0..800_i64,
    )
        .prop_map(|(producer, codec, records, age)| Produced { producer, codec, records, age })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        14 => produced().prop_map(Op::Produce),
        2 => (0..1500_i64).prop_map(Op::Wait),
        2 => Just(Op::Roll),
        4 => (
            prop_oneof![1 => 1..6_u8, 3 => Just(200_u8)],
            proptest::collection::vec(0..1001_u16, 0..6),
            proptest::collection::vec(produced(), 0..3)
        )
            .prop_map(|(keys, reads, behind)| Op::Clean { keys, reads, behind }),
        2 => (0..120_u16, proptest::option::of(0..20_u8), any::<u64>())
            .prop_map(|(operations, again, seed)| Op::CleanAndCut { operations, again, seed }),
        1 => (0..600_u16).prop_map(Op::DeleteRecords),
        1 => Just(Op::Restart),
        1 => any::<u64>().prop_map(Op::Cut),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelRecord {
    offset: i64,
    timestamp: i64,
    key: Option<u8>,
    value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelBatch {
    base: i64,
    last: i64,
    producer: i64,
    last_sequence: i32,
    horizon: Option<i64>,
    records: Vec<ModelRecord>,
}

fn model_of(batch: &BatchView<'_>) -> ModelBatch {
    assert!(batch.crc_is_right() && batch.leader_epoch() == EPOCH);
    let mut scratch = Scratch::new();
    let mut records = batch.records(&mut scratch).unwrap();
    let mut found = Vec::new();
    while let Some(record) = records.next().unwrap() {
        let (offset, timestamp) = (record.offset, record.timestamp);
        let (key, value) = (record.key.map(|key| key[0]), record.value.map(<[u8]>::to_vec));
        found.push(ModelRecord { offset, timestamp, key, value });
    }
    assert_eq!(found.len(), batch.record_count() as usize);
    ModelBatch {
        base: batch.base_offset().0,
        last: batch.last_offset().0,
        producer: batch.producer_id(),
        last_sequence: batch.last_sequence(),
        horizon: batch.has_delete_horizon().then(|| batch.base_timestamp()),
        records: found,
    }
}

struct World {
    disk: SimulatedDisk,
    partition: Rc<Partition>,
    memory: Rc<TailMemory>,
    config: Rc<TopicConfig>,
    now: i64,
    batches: Vec<ModelBatch>,
    end: i64,
    start: i64,
    /// What the checkpoint of this partition would say.
    cleaned: Offset,
}

fn open_options(world: &World) -> PartitionOptions {
    let start_offset = Offset(world.start);
    PartitionOptions {
        leader_epoch: EPOCH,
        start_offset,
        cleaned: world.cleaned,
        producer_id_expiration_ms: i64::MAX,
        ..PartitionOptions::new(Rc::clone(&world.config), Rc::clone(&world.memory))
    }
}

async fn open(disk: &SimulatedDisk, options: PartitionOptions, clean: bool) -> Result<Rc<Partition>, PartitionError> {
    let id = TopicPartition { topic: "m".into(), partition: 0 };
    Partition::open(&disk.disk(), Path::new("/data/m-0"), id, TOPIC, options, clean).await
}

impl World {
    async fn new(lag: bool) -> World {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let config = Rc::new(TopicConfig {
            cleanup_policy: crate::config::CleanupPolicy { delete: false, compact: true },
            segment_bytes: SEGMENT_BYTES,
            index_interval_bytes: 300,
            delete_retention_ms: RETENTION_MS,
            file_delete_delay_ms: 0,
            min_compaction_lag_ms: if lag { LAG_MS } else { 0 },
            segment_ms: i64::MAX,
            ..TopicConfig::default()
        });
        let memory = TailMemory::new(if lag { 0 } else { 3 << 10 });
        let options =
            PartitionOptions { leader_epoch: EPOCH, ..PartitionOptions::new(Rc::clone(&config), Rc::clone(&memory)) };
        let partition = open(&disk, options, true).await.unwrap();
        World {
            disk,
            partition,
            memory,
            config,
            now: 1_000_000,
            batches: Vec::new(),
            end: 0,
            start: 0,
            cleaned: Offset::ZERO,
        }
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        self.batches
            .iter()
            .filter(|batch| batch.producer == producer)
            .map(|batch| batch.last_sequence)
            .max()
            .unwrap_or(-1)
            + 1
    }

    /// Appends a batch, and says what it is.
    fn append(&self, end: i64, sequence: i32, what: &Produced) -> ModelBatch {
        let producer = if what.producer == 0 { -1 } else { 1000 + i64::from(what.producer) };
        let mut builder = BatchBuilder::new().codec(Codec::from_id(i16::from(what.codec)).unwrap());
        if producer >= 0 {
            builder = builder.producer(producer, 0, sequence);
        }
        for (at, (key, value)) in what.records.iter().enumerate() {
            let value = value.map(|len| vec![b'a' + (at as u8); usize::from(len)]);
            let timestamp = self.now - what.age + at as i64;
            // Key 11: a record without one, as older topics have.
            let key = [*key];
            let key = (key[0] != 11).then_some(&key[..]);
            builder.push(NewRecord { timestamp, key, value: value.as_deref(), headers: &[] });
        }
        let bytes = builder.build();
        let produced = self.partition.append(&bytes, None).unwrap();
        assert_eq!(produced.base_offset, Offset(end));
        let mut stamped = bytes;
        crate::record::stamp(
            &mut stamped,
            &Stamp { base_offset: Offset(end), leader_epoch: EPOCH, log_append_time: None },
        );
        model_of(&BatchView::first(&stamped).unwrap())
    }

    async fn produce(&mut self, what: &Produced) {
        let sequence = self.next_sequence(if what.producer == 0 { -1 } else { 1000 + i64::from(what.producer) });
        let batch = self.append(self.end, sequence, what);
        self.end = batch.last + 1;
        self.batches.push(batch);
        self.partition.acknowledged(Offset(self.end - 1), Acks::All).await.unwrap();
    }

    /// What a clean makes of the batches, by Kafka's rules, and how far it comes.
    fn cleaned_model(&self, dirt: &Dirt, keys_max: usize) -> (Vec<ModelBatch>, i64) {
        let bases: Vec<i64> = self.partition.log().segment_bases().iter().map(|base| base.0).collect();
        let segment_of = |offset: i64| *bases.iter().rev().find(|base| **base <= offset).unwrap_or(&bases[0]);
        let (from, upper) = (dirt.from.0, dirt.upper.0);
        let mut map: BTreeMap<u8, i64> = BTreeMap::new();
        let mut latest = -1;
        let mut full = false;
        'batches: for batch in self.batches.iter().filter(|batch| batch.last >= from && batch.base < upper) {
            for record in batch.records.iter().filter(|record| record.offset >= from) {
                if let Some(key) = record.key {
                    if map.len() >= keys_max {
                        full = true;
                        break 'batches;
                    }
                    map.insert(key, record.offset);
                }
            }
            latest = batch.last;
        }
        if full {
            // Segments that were looked at to their end count to their end.
            let stopped = self.batches.iter().find(|batch| batch.last > latest.max(from - 1) && batch.base < upper);
            if let Some(stopped) = stopped {
                let begins = segment_of(stopped.base);
                if begins > from {
                    latest = latest.max(begins - 1);
                }
            }
        } else {
            latest = upper - 1;
        }
        let to = latest + 1;
        if to <= from {
            return (self.batches.clone(), from);
        }
        let last_of = |producer: i64| {
            self.batches.iter().filter(|batch| batch.producer == producer).map(|batch| batch.last).max()
        };
        let clean = |batch: &ModelBatch| -> Option<ModelBatch> {
            if segment_of(batch.base) >= to {
                return Some(batch.clone());
            }
            let passed = batch.horizon.is_some_and(|horizon| horizon <= self.now);
            let keep = |record: &&ModelRecord| {
                record.offset > latest
                    || record.key.is_some_and(|key| {
                        map.get(&key).is_none_or(|latest| record.offset >= *latest)
                            && (record.value.is_some() || !passed)
                    })
            };
            let records: Vec<ModelRecord> = batch.records.iter().filter(keep).cloned().collect();
            let must_stay =
                (batch.producer >= 0 && last_of(batch.producer) == Some(batch.last)) || batch.last + 1 == upper;
            let mut after = ModelBatch { records, ..batch.clone() };
            if after.records.is_empty() {
                after.horizon = None;
                return must_stay.then_some(after);
            }
            if after.horizon.is_none() && after.records.iter().any(|record| record.value.is_none()) {
                after.horizon = Some(self.now + RETENTION_MS);
            }
            Some(after)
        };
        (self.batches.iter().filter_map(clean).collect(), to)
    }

    async fn read_all(&self) -> Vec<ModelBatch> {
        let mut found = Vec::new();
        let log = self.partition.log();
        log.replay(Offset::ZERO, |batch| found.push(model_of(&batch))).await.unwrap();
        found
    }

    /// The batches below the log's start may be gone with their segments, or not.
    fn visible(&self, batches: &[ModelBatch]) -> Vec<ModelBatch> {
        batches.iter().filter(|batch| batch.last >= self.start).cloned().collect()
    }

    async fn check(&self) {
        let bounds = self.partition.bounds();
        assert_eq!((bounds.log_start, bounds.log_end), (Offset(self.start), Offset(self.end)));
        assert_eq!(bounds.high_watermark, Offset(self.end));
        let expected = self.visible(&self.batches);
        assert_eq!(self.read_all().await, expected, "the log is not what the model says");
        // From every place the next batch there is.
        for step in 0..=20 {
            let from = self.start + (self.end - self.start) * step / 20;
            let (_, plan) = self.partition.read_plan(Offset(from), 1, true, Isolation::default()).unwrap();
            let bytes = plan.execute().await.unwrap().to_bytes();
            let next = expected.iter().find(|batch| batch.last >= from);
            assert_eq!(BatchView::first(&bytes).ok().map(|batch| model_of(&batch)).as_ref(), next, "from {from}");
        }
        // And from every time the first record that has it.
        for step in 0..=10 {
            let time = self.now - 1500 + step * 150;
            let found = self.partition.log().offset_for_timestamp(time, Offset(self.end)).await.unwrap();
            let mut records = expected.iter().flat_map(|batch| &batch.records);
            let first = records.find(|record| record.offset >= self.start && record.timestamp >= time);
            assert_eq!(found.map(|found| found.offset.0), first.map(|record| record.offset), "at {time}");
        }
        let youngest = self.partition.log().offset_of_max_timestamp(Offset(self.end)).await.unwrap();
        // Of the batch that holds the log's start all records count, as in Kafka.
        let records = || expected.iter().flat_map(|batch| &batch.records);
        if let Some(max) = records().map(|record| record.timestamp).max() {
            let found = youngest.expect("there are records").timestamp;
            let max_from_start = records().filter(|r| r.offset >= self.start).map(|record| record.timestamp).max();
            assert!(found == max || Some(found) == max_from_start, "{found} is not {max}");
        }
        // Producers are remembered: the next of each is taken, its last again is a duplicate.
        for producer in 1001..1004 {
            let last = self.next_sequence(producer) - 1;
            let known = self.partition.with_producers(|producers| producers.get(producer).map(Producer::last_sequence));
            assert_eq!(known.unwrap_or(-1), last, "the sequence of producer {producer}");
        }
    }

    fn means(&self, keys: usize) -> Means {
        Means::new(keys * 24 + 24, keys as f64 / (keys + 1) as f64 + 1e-9, 40_000, || f64::MAX)
    }

    /// Cleans, while others read and produce.
    async fn clean(&mut self, keys: u8, reads: &[u16], behind: &[Produced]) {
        let now = UnixMs(self.now);
        settle_sealing(&self.partition).await;
        let dirt = self.partition.dirt(now).await.unwrap();
        self.check_dirt(&dirt);
        if dirt.upper <= dirt.from {
            return;
        }
        let (after, to) = self.cleaned_model(&dirt, usize::from(keys));
        let means = self.means(usize::from(keys));
        let partition = Rc::clone(&self.partition);
        let cleaning = async { partition.clean(&dirt, &means, now).await };
        let (mut end, start) = (self.end, self.start);
        let mut produced = Vec::new();
        let mut seen: Vec<(i64, Option<ModelBatch>)> = Vec::new();
        let others = async {
            for (at, permille) in reads.iter().enumerate() {
                let from = start + (end - start) * i64::from(*permille) / 1000;
                let (_, plan) = self.partition.read_plan(Offset(from), 1, true, Isolation::default()).unwrap();
                let bytes = plan.execute().await.unwrap().to_bytes();
                seen.push((from, BatchView::first(&bytes).ok().map(|batch| model_of(&batch))));
                if let Some(what) = behind.get(at) {
                    let producer = if what.producer == 0 { -1 } else { 1000 + i64::from(what.producer) };
                    let known =
                        produced.iter().chain(&self.batches).filter(|batch: &&ModelBatch| batch.producer == producer);
                    let sequence = known.map(|batch| batch.last_sequence).max().unwrap_or(-1) + 1;
                    let batch = self.append(end, sequence, what);
                    end = batch.last + 1;
                    produced.push(batch);
                }
                task::yield_now().await;
            }
        };
        let (cleaned, ()) = futures_lite::future::zip(cleaning, others).await;
        for (from, found) in seen {
            let is_known = |found: &ModelBatch| {
                let mut all = self.batches.iter().chain(&after).chain(&produced);
                found.last >= from && all.any(|batch| batch == found)
            };
            // Segments that were not cleaned yet are as before. Batches without records may be gone, if their
            // producer has sent another since.
            let stays = |batch: &&ModelBatch| !batch.records.is_empty() && batch.last >= from;
            let next = after.iter().find(stays);
            let skips = |found: &ModelBatch| next.is_some_and(|next| next.base < found.base);
            let ok = match &found {
                Some(found) => is_known(found) && !skips(found),
                None => next.is_none(),
            };
            assert!(ok, "a reader at {from} saw {found:?}, and the next there is {next:?}");
        }
        match cleaned {
            Ok(cleaned) => {
                assert_eq!(cleaned.to, Offset(to));
                // A batch that a producer sent meanwhile frees the one before from having to stay; which of the
                // batches were judged before is not known.
                let replaced = |batch: &ModelBatch| produced.iter().any(|new| new.producer == batch.producer);
                let after = self.after_some(after, &replaced).await;
                self.batches = after;
                self.cleaned = cleaned.to;
                assert!(
                    cleaned.segments_after <= cleaned.segments_before
                        && cleaned.records_after <= cleaned.records_before
                );
            }
            Err(CleanError::Uncleanable(reason)) => {
                assert!(to <= dirt.from.0 && reason.contains("dedupe.buffer"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
        self.batches.extend(produced);
        self.end = end;
        self.partition.acknowledged(Offset(self.end - 1), Acks::All).await.unwrap();
    }

    /// `after`, less the batches without records of those producers that are not in the log.
    async fn after_some(&self, after: Vec<ModelBatch>, maybe: &dyn Fn(&ModelBatch) -> bool) -> Vec<ModelBatch> {
        let there: Vec<i64> = self.read_all().await.iter().map(|batch| batch.base).collect();
        let stays = |batch: &ModelBatch| {
            !batch.records.is_empty() || batch.last < self.start || !maybe(batch) || there.contains(&batch.base)
        };
        after.into_iter().filter(stays).collect()
    }

    fn check_dirt(&self, dirt: &Dirt) {
        let log = self.partition.log();
        let bases = log.segment_bases();
        assert!(dirt.from <= dirt.upper && dirt.upper <= *bases.last().unwrap().max(&dirt.from));
        assert!(dirt.upper == dirt.from || bases.contains(&dirt.upper));
        if self.config.min_compaction_lag_ms > 0 && dirt.upper > dirt.from {
            let mut young = self.batches.iter().filter(|batch| batch.last >= dirt.from.0 && batch.base < dirt.upper.0);
            let young = young.find(|batch| batch.records.iter().any(|record| record.timestamp > self.now - LAG_MS));
            // The first dirty segment may begin with what is clean.
            assert!(young.is_none(), "{dirt:?} takes {young:?} at {}", self.now);
        }
        let dirty: u64 = dirt.dirty_bytes;
        assert!(dirty + dirt.clean_bytes <= 2 * log.size_bytes());
        assert_eq!(dirt.is_due(-1.0), dirty > 0);
    }

    async fn reopen(&mut self, disk: SimulatedDisk, again: Option<u8>, seed: u64) {
        self.disk = disk;
        if let Some(operations) = again {
            self.disk.cut(When::operation(u64::from(operations)));
            if open(&self.disk, open_options(self), false).await.is_ok() {
                // It had opened before.
                self.disk.power_off();
            }
            self.disk = self.disk.reopen(seed ^ 77);
        }
        self.partition = open(&self.disk, open_options(self), false).await.unwrap();
    }

    async fn run(&mut self, op: &Op) {
        match op {
            Op::Produce(what) => self.produce(what).await,
            Op::Wait(ms) => self.now += ms,
            Op::Roll => self.partition.log().roll(),
            Op::Clean { keys, reads, behind } => {
                self.clean(*keys, reads, behind).await;
                self.check().await;
            }
            Op::CleanAndCut { operations, again, seed } => {
                settle_sealing(&self.partition).await;
                let now = UnixMs(self.now);
                let dirt = self.partition.dirt(now).await.unwrap();
                let (after, to) = self.cleaned_model(&dirt, 200);
                self.disk.cut(When::operation(u64::from(*operations)));
                let ended = self.partition.clean(&dirt, &self.means(200), now).await;
                if let Ok(cleaned) = ended {
                    assert_eq!(cleaned.to, Offset(to));
                    self.cleaned = cleaned.to;
                }
                let disk = self.disk.reopen(*seed);
                self.reopen(disk, *again, *seed).await;
                // As after the clean up to some offset, as before from there on.
                let found = self.read_all().await;
                let mix = |border: i64| {
                    let new = after.iter().filter(|batch| batch.base < border);
                    let old = self.batches.iter().filter(|batch| batch.base >= border);
                    new.chain(old).cloned().collect::<Vec<_>>()
                };
                let mut borders = self.batches.iter().map(|batch| batch.base).chain([self.end]);
                let border = borders.find(|border| self.visible(&mix(*border)) == found);
                let border = border.unwrap_or_else(|| panic!("neither as before nor as after: {found:#?}"));
                self.batches = mix(border);
                self.check().await;
            }
            Op::DeleteRecords(permille) => {
                let to = self.start + (self.end - self.start) * i64::from(*permille) / 1000;
                assert_eq!(self.partition.delete_records_before(Offset(to)).unwrap(), Offset(to));
                self.start = to;
                settle_sealing(&self.partition).await;
                self.partition.retain(UnixMs(self.now), usize::MAX).await.unwrap();
                self.start = self.partition.log().start_offset().0;
            }
            Op::Restart => {
                self.partition.close_cleanly().await.unwrap();
                self.partition = open(&self.disk, open_options(self), true).await.unwrap();
                self.check().await;
            }
            Op::Cut(seed) => {
                let disk = self.disk.reopen(*seed);
                self.reopen(disk, None, *seed).await;
                self.check().await;
            }
        }
    }
}

/// Waits until all segments but the active one are sealed.
async fn settle_sealing(partition: &Partition) {
    while !partition.log().all_sealed() {
        clock::sleep(Duration::from_micros(50)).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn compaction_is_what_the_model_says(ops in proptest::collection::vec(op(), 1..60), lag in any::<bool>()) {
        run_one(async move {
            let mut world = World::new(lag).await;
            for op in &ops {
                world.run(op).await;
            }
            world.now += 10 * RETENTION_MS;
            world.partition.log().roll();
            world.clean(200, &[], &[]).await;
            world.check().await;
            let log = world.partition.log();
            let names = world.disk.disk().list(&log.dir()).await.unwrap_or_default();
            for entry in names {
                let leftover = [".cleaned", ".swap", ".deleted", ".tmp"].iter().any(|end| entry.name.ends_with(end));
                assert!(!leftover, "{} is left", entry.name);
            }
        });
    }
}

/// Some segments with several versions of each key, tombstones among them.
async fn dirty_world() -> World {
    let mut world = World::new(false).await;
    for round in 0..16_u8 {
        let records = (0..4).map(|key| (key + round % 3, (key + round % 5 != 2).then_some(150))).collect();
        world.produce(&Produced { producer: round % 3, codec: u8::from(round % 4 == 1) * 3, records, age: 0 }).await;
    }
    world.partition.log().roll();
    settle_sealing(&world.partition).await;
    world
}

#[test]
fn a_cut_at_every_operation_of_a_clean_leaves_one_of_its_states() {
    // Power cuts and kills; at each the log opens, and is as before or as after, segment by segment.
    let mut cuts = 0;
    for operations in 0.. {
        let ended = run_one(async move {
            let mut ended = false;
            for (power, seed) in [(true, 1), (true, 2), (false, 1)] {
                let mut world = dirty_world().await;
                assert!(world.partition.log().segment_count() > 3);
                let dirt = world.partition.dirt(UnixMs(world.now)).await.unwrap();
                let (after, _) = world.cleaned_model(&dirt, 200);
                world.disk.cut(When::operation(operations));
                let cleaned = world.partition.clean(&dirt, &world.means(200), UnixMs(world.now)).await;
                ended = cleaned.is_ok() && !world.disk.is_off();
                let seed = operations * 7 + seed;
                let disk = if power { world.disk.reopen(seed) } else { world.disk.reopen_after_kill(seed) };
                world.reopen(disk, None, seed).await;
                let found = world.read_all().await;
                let mix = |border: i64| {
                    let new = after.iter().filter(|batch| batch.base < border);
                    new.chain(world.batches.iter().filter(|batch| batch.base >= border)).cloned().collect::<Vec<_>>()
                };
                let border =
                    world.batches.iter().map(|batch| batch.base).chain([world.end]).find(|at| mix(*at) == found);
                world.batches = mix(border.unwrap_or_else(|| panic!("cut at {operations}: {found:#?}")));
                world.check().await;
                world.clean(200, &[], &[]).await;
                world.check().await;
                assert_eq!(world.batches, after, "cleaned to the end after a cut at {operations}");
            }
            ended
        });
        if ended {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 30, "{cuts} operations are not all of a clean");
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}
