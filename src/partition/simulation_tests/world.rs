//! A process with one partition on a simulated drive, in all its lives, and what is done to it.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::*;
use super::model::{Entry, Kind, Model, Setup, batches_in, records_of};
use super::{Death, Op, Produce};
use crate::log::journal::{Journal, Replay, Shape};
use crate::record::{BatchBuilder, Codec, ControlType, NewRecord};
use crate::runtime::clock;
use crate::runtime::disk::Open;
use crate::runtime::disk::simulated::{Fault, Random, SimulatedDisk, Verb, When};
use crate::runtime::task::{self, OnPanic, Queue, StopFlag};

const DIR: &str = "/data";
const TOPIC: Uuid = Uuid([5; 16]);
/// So small that it is filled, and filled again, all the time, and that some batches are too large for it.
const JOURNAL: Shape = Shape { region_bytes: 12 << 10, regions: 3 };

/// What happened.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    pub acknowledged: u32,
    pub believed_points: u32,
    pub cleaned: u32,
    pub records_compacted: u64,
    pub segments_retained: u32,
    pub records_deleted: u32,
    pub aborted: u32,
    pub offline: u32,
    pub full: u32,
    pub flips_found: u32,
    pub misreads: u32,
    pub starts_cut_off: u32,
    pub starts_on_a_full_drive: u32,
    pub starts_unfiled: u32,
    pub starts_that_lied: u32,
    pub kills: u32,
    pub cuts: u32,
}

impl Counts {
    fn all(&mut self) -> [&mut u32; 16] {
        let Counts {
            acknowledged,
            believed_points,
            cleaned,
            segments_retained,
            records_deleted,
            aborted,
            offline,
            full,
            flips_found,
            misreads,
            starts_cut_off,
            starts_on_a_full_drive,
            starts_unfiled,
            starts_that_lied,
            kills,
            cuts,
            records_compacted: _,
        } = self;
        [
            acknowledged,
            believed_points,
            cleaned,
            segments_retained,
            records_deleted,
            aborted,
            offline,
            full,
            flips_found,
            misreads,
            starts_cut_off,
            starts_on_a_full_drive,
            starts_unfiled,
            starts_that_lied,
            kills,
            cuts,
        ]
    }

    pub fn add(&mut self, other: &Counts) {
        let mut other = other.clone();
        self.records_compacted += other.records_compacted;
        self.all().into_iter().zip(other.all()).for_each(|(sum, more)| *sum += *more);
    }

    pub fn has_everything(&self) -> bool {
        self.clone().all().iter().all(|count| **count > 0) && self.records_compacted > 1000
    }
}

/// What the drive has been made to do in this life, and may therefore be seen.
#[derive(Clone, Copy, Default, Debug)]
struct Faults {
    /// Operations fail.
    broken: bool,
    full: bool,
    /// Reads give wrong bytes.
    misread: bool,
    flipped: bool,
}

/// What the tasks of one life share with the test.
struct Life {
    partition: Rc<Partition>,
    journal: Rc<Journal>,
    pointing: Cell<bool>,
    cleaning: Cell<bool>,
    retaining: Cell<bool>,
    /// What went wrong in the background.
    troubles: RefCell<Vec<String>>,
}

pub struct World {
    disk: SimulatedDisk,
    life: Rc<Life>,
    number: u32,
    model: Rc<RefCell<Model>>,
    /// Of all lives: what one that ended has not given back shows.
    memory: Rc<TailMemory>,
    leader_epoch: LeaderEpoch,
    faults: Faults,
    /// A flush was lost, in whichever life.
    lied: bool,
    random: Random,
    trace: DefaultHasher,
    counts: Rc<RefCell<Counts>>,
    /// A drive that lied has lost what it said was safe: nothing can be said any more.
    over: bool,
}

fn id() -> TopicPartition {
    TopicPartition { topic: "m".into(), partition: 0 }
}

fn producer_id(producer: u8) -> i64 {
    if producer == 0 { -1 } else { 1000 + i64::from(producer) }
}

/// Opens the partition and begins a journal, as a start does.
async fn try_open(
    disk: &SimulatedDisk,
    setup: &Setup,
    memory: &Rc<TailMemory>,
    leader_epoch: LeaderEpoch,
    clean: bool,
) -> Result<(Rc<Partition>, Rc<Journal>), PartitionError> {
    let (disk, dir) = (disk.disk(), Path::new(DIR));
    let failed = |error: io::Error| PartitionError::Broken(error.to_string());
    let mut files = Vec::new();
    for entry in disk.list(dir).await.map_err(failed)? {
        if let Some(core) = Replay::core_of(&entry.name) {
            let path = dir.join(&entry.name);
            // What it has may be served before the segments have it.
            let file = disk.open(&path, Open::EXISTING).await.map_err(failed)?;
            file.flush().await.map_err(failed)?;
            file.close().await.map_err(failed)?;
            let bytes = disk.read_file(&path).await.map_err(failed)?;
            files.push((core, crate::log::journal::read(&bytes[..], core).map_err(failed)?));
        }
    }
    if clean {
        files.clear();
    }
    let (replay, errors) = Replay::new(files, 1);
    if let Some(error) = errors.first() {
        return Err(PartitionError::Broken(format!("{error:?}")));
    }
    let mut points = [Offset::ZERO; 3];
    for (point, name) in points.iter_mut().zip([POINTS_FILE, STARTS_FILE, CLEANED_FILE]) {
        *point = match disk.read_file(&dir.join(name)).await {
            Ok(bytes) => RecoveryPoints::decode(&bytes).expect("it is replaced as a whole").get("m", 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Offset::ZERO,
            Err(error) => return Err(failed(error)),
        };
    }
    let [recovery_point, start_offset, cleaned] = points;
    let journal = Journal::new(memory);
    let options = PartitionOptions {
        leader_epoch,
        recovery_point,
        start_offset,
        cleaned,
        producer_id_expiration_ms: i64::MAX,
        journal: Some(Rc::clone(&journal)),
        journaled: replay.take(TOPIC, 0, dir),
        ..PartitionOptions::new(Rc::new(setup.config()), Rc::clone(memory))
    };
    let partition = Partition::open(&disk, &dir.join("m-0"), id(), TOPIC, options, clean).await?;
    if setup.journal
        && partition.unfiled().is_none()
        && let Err(error) = journal.begin_with(&disk, dir, 0, JOURNAL, &StopFlag::new()).await
    {
        partition.log().take_offline("the test has no journal");
        return Err(failed(error));
    }
    Ok((partition, journal))
}

async fn write_checkpoint(disk: &Disk, name: &str, offset: Offset) -> io::Result<()> {
    let mut text = PointsText::default();
    text.push("m", 0, offset);
    disk.write_file(&Path::new(DIR).join(name), text.finish()).await
}

/// Whether a flipped bit in this byte of a segment is found out: a batch's base offset and leader epoch lie outside its
/// checksum, as brokers put them in.
fn is_covered(segment: &[u8], byte: usize) -> bool {
    let mut at = 0;
    while let Ok(batch) = BatchView::first(&segment[at..]) {
        if byte < at + batch.size() {
            return (8..12).contains(&(byte - at)) || byte - at >= 16;
        }
        at += batch.size();
    }
    false
}

impl Life {
    fn new((partition, journal): (Rc<Partition>, Rc<Journal>)) -> Rc<Life> {
        let (pointing, cleaning, retaining) = Default::default();
        Rc::new(Life { partition, journal, pointing, cleaning, retaining, troubles: RefCell::default() })
    }

    fn trouble(&self, what: &str, error: impl std::fmt::Display) {
        self.troubles.borrow_mut().push(format!("{what}: {error}"));
    }

    /// Writes a recovery point where the next start looks for it.
    async fn point(self: Rc<Life>, disk: Disk) {
        match self.partition.make_point().await {
            Ok(_) => {
                if let Some(offset) = self.partition.point_to_tell() {
                    match write_checkpoint(&disk, POINTS_FILE, offset).await {
                        Ok(()) => self.partition.point_was_told(offset).await,
                        Err(error) => self.trouble("a point's checkpoint", error),
                    }
                }
            }
            Err(error) => self.trouble("a point", error),
        }
        self.pointing.set(false);
    }

    async fn clean(self: Rc<Life>, disk: Disk, model: Rc<RefCell<Model>>, counts: Rc<RefCell<Counts>>) {
        let now = clock::unix_ms();
        match self.partition.dirt(now).await {
            Ok(dirt) if dirt.upper > dirt.from => {
                {
                    let mut model = model.borrow_mut();
                    assert!(dirt.upper.0 <= model.end());
                    model.cleaned_to = model.cleaned_to.max(dirt.upper.0);
                    // Nothing is compacted before it is durable.
                    model.kept_by_kill = model.kept_by_kill.max(dirt.upper.0);
                    model.kept_by_cut = model.kept_by_cut.max(dirt.upper.0);
                }
                let means = Means::new(64 * 24 + 24, 0.9, 40_000, || f64::MAX);
                match self.partition.clean(&dirt, &means, now).await {
                    Ok(cleaned) => {
                        // Retention may have taken all of it before the first was read.
                        let gone = cleaned.to == dirt.from && self.partition.log().start_offset() >= dirt.upper;
                        assert!(cleaned.to == dirt.upper || gone, "the map has room for all keys");
                        {
                            let mut counts = counts.borrow_mut();
                            counts.cleaned += 1;
                            counts.records_compacted += cleaned.records_before - cleaned.records_after;
                        }
                        if let Err(error) = write_checkpoint(&disk, CLEANED_FILE, cleaned.to).await {
                            self.trouble("the cleaner's checkpoint", error);
                        }
                    }
                    // Retention was faster, or the log has ended.
                    Err(CleanError::GivenUp(_)) => {}
                    Err(error) => self.trouble("a clean", error),
                }
            }
            Ok(_) => {}
            Err(error) => self.trouble("dirt", error),
        }
        self.cleaning.set(false);
    }

    async fn retain(self: Rc<Life>, model: Rc<RefCell<Model>>, counts: Rc<RefCell<Counts>>) {
        let log = self.partition.log();
        let before = log.start_offset().0;
        let bases: Vec<i64> = log.segment_bases().iter().map(|base| base.0).collect();
        let retained = self.partition.retain(clock::unix_ms(), usize::MAX).await;
        let after = log.start_offset().0;
        {
            let mut model = model.borrow_mut();
            let setup = model.setup.clone();
            let (now, end) = (clock::unix_ms().0, model.end());
            let asked = model.start_asked;
            // What goes, goes for a reason; sizes and times of what was compacted are its own affair.
            let gone = bases.iter().zip(bases.iter().skip(1)).filter(|(_, next)| **next <= after && **next > before);
            for (base, next) in gone.filter(|_| !setup.compact) {
                let too_large = setup.retention_bytes >= 0 && model.bytes(*next, end) >= setup.retention_bytes;
                let too_old = setup.retention_ms >= 0 && now - model.youngest(*base, *next) > setup.retention_ms;
                assert!(
                    *next <= asked || setup.delete && (too_large || too_old),
                    "the segment {base}..{next} went without a reason"
                );
            }
            assert!(setup.delete || after <= before.max(asked), "retention of a log that is only compacted");
            model.start_asked = model.start_asked.max(after);
            if retained.is_err() {
                // The removal that failed may have been done all the same, where the power went in the middle of it.
                let there = log.start_to_come();
                let next = log.segment_bases().into_iter().find(|base| *base > there);
                model.start_asked = model.start_asked.max(next.map_or(0, |next| next.0));
            }
            if retained.is_ok() {
                // Its files are gone for good.
                model.start_told = model.start_told.max(after);
            }
            model.kept_by_kill = model.kept_by_kill.max(after);
        }
        match retained {
            Ok(segments) => counts.borrow_mut().segments_retained += segments as u32,
            Err(error) => self.trouble("retention", error),
        }
        self.retaining.set(false);
    }
}

impl World {
    /// Goes through all operations; gives the trace and what happened.
    pub async fn run_all(seed: u64, setup: &Setup, ops: &[Op]) -> (u64, Counts) {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new(DIR)).await.unwrap();
        disk.disk().sync_dir(Path::new("/")).await.unwrap();
        let memory = TailMemory::with_unwritten(setup.tail_bytes, if setup.journal { 48 << 10 } else { 24 << 10 });
        let leader_epoch = LeaderEpoch(4);
        if setup.pace {
            disk.set_pace(seed);
        }
        let life = Life::new(try_open(&disk, setup, &memory, leader_epoch, true).await.unwrap());
        let mut world = World {
            disk,
            life,
            number: 0,
            model: Rc::new(RefCell::new(Model::new(setup.clone()))),
            memory,
            leader_epoch,
            faults: Faults::default(),
            lied: false,
            random: Random::new(seed ^ 0x5eed),
            trace: DefaultHasher::new(),
            counts: Rc::default(),
            over: false,
        };
        for op in ops {
            world.run(op).await;
            if world.over {
                return world.outcome();
            }
            world.observe().await;
            if world.over {
                return world.outcome();
            }
        }
        world.end().await;
        world.outcome()
    }

    fn outcome(&mut self) -> (u64, Counts) {
        self.note_operations();
        (self.trace.finish(), self.counts.borrow().clone())
    }

    /// Whatever happened, at the end all goes on, and nothing is left to be done.
    async fn end(&mut self) {
        self.run(&Op::Space).await;
        self.die(&[Death { power: true, seed: 11, at: 0 }]).await;
        if self.over {
            return;
        }
        // The last start may have been one on a full drive.
        self.run(&Op::Space).await;
        self.run(&Op::Clean).await;
        self.run(&Op::Roll).await;
        self.settle().await;
        self.run(&Op::Retain).await;
        self.settle().await;
        self.check_all().await;
        self.check_retention();
        self.run(&Op::Restart).await;
        self.life.partition.log().take_offline("the test has ended");
        let _ = self.life.journal.close(false).await;
        for name in ["log writer", "log flusher", "log sealer"] {
            task::all_ended(name).await;
        }
        assert_eq!(self.memory.unwritten(), 0, "a log that ended holds memory");
    }

    fn setup(&self) -> Setup {
        self.model.borrow().setup.clone()
    }

    fn note_operations(&mut self) {
        for operation in self.disk.operations() {
            (operation.verb, &operation.path, operation.position, operation.len).hash(&mut self.trace);
        }
    }

    /// Notes what there is, and judges what went wrong in the background.
    async fn observe(&mut self) {
        let troubles = self.life.troubles.take();
        if self.disk.is_off() {
            return self.die(&[Death { power: true, seed: 5, at: 0 }]).await;
        }
        let bounds = self.life.partition.bounds();
        (bounds.log_start, bounds.high_watermark, bounds.last_stable, bounds.log_end).hash(&mut self.trace);
        clock::moment().0.hash(&mut self.trace);
        self.lied |= self.disk.flushes_lost() > 0;
        {
            let mut model = self.model.borrow_mut();
            assert_eq!(bounds.log_end.0, model.end());
            assert!(
                bounds.log_start <= bounds.last_stable && bounds.last_stable <= bounds.high_watermark,
                "{bounds:?}"
            );
            model.acknowledged(bounds.high_watermark.0, true);
            // What was seen does not go back.
            model.start_asked = model.start_asked.max(bounds.log_start.0);
            model.start_told = model.start_told.max(bounds.log_start.0);
        }
        let Faults { broken, full, misread, flipped } = self.faults;
        assert!(troubles.is_empty() || broken || full || misread || flipped, "{troubles:?}");
        if let Some(error) = self.life.partition.ended() {
            assert!(broken || misread || flipped, "{error} for no reason");
            self.counts.borrow_mut().offline += 1;
            let power = self.random.below(2) == 0;
            self.die(&[Death { power, seed: self.random.clone().number(), at: 0 }]).await;
        }
    }

    /// What may go wrong; ends this life where the next operation could not be told from the last.
    async fn expect(&mut self, what: &str, error: impl std::fmt::Display) {
        let text = error.to_string();
        text.hash(&mut self.trace);
        if self.disk.is_off() {
            return Box::pin(self.die(&[Death { power: true, seed: 7, at: 0 }])).await;
        }
        let Faults { broken, full, misread, flipped } = self.faults;
        let refused = text.to_lowercase().contains("no space left");
        if refused {
            self.counts.borrow_mut().full += 1;
        }
        let damaged = text.contains("is damaged") || text.contains("checksum");
        if damaged {
            let mut counts = self.counts.borrow_mut();
            counts.flips_found += u32::from(flipped);
            counts.misreads += u32::from(misread);
        }
        assert!(broken || refused && full || misread || flipped && damaged, "{what}: {text} ({:?})", self.faults);
    }

    async fn run(&mut self, op: &Op) {
        let partition = Rc::clone(&self.life.partition);
        match op {
            Op::Produce(what) => self.produce(what).await,
            Op::EndTransaction { commit } => self.end_transaction(*commit).await,
            Op::Again { producer, back } => self.again(*producer, *back as usize).await,
            Op::Gap { producer } => self.gap(*producer).await,
            Op::NewEpoch { producer } => self.new_epoch(*producer).await,
            Op::Read { from_permille, bytes_max, isolation } => {
                let (start, end) = (partition.log().start_offset().0, self.model.borrow().end());
                let from = start + (end - start) * *from_permille as i64 / 1000;
                self.read(from, *bytes_max, *isolation).await;
            }
            Op::Lookup { ago_ms } => self.lookup(clock::unix_ms().0 - *ago_ms as i64).await,
            Op::Check => self.check_all().await,
            Op::Roll => partition.log().roll(),
            Op::Upkeep => partition.upkeep(clock::unix_ms()),
            Op::Point => {
                if !self.life.pointing.replace(true) {
                    let task = Rc::clone(&self.life).point(self.disk.disk());
                    task::spawn(Queue::Upkeep, "a point", OnPanic::StopProcess, task);
                }
            }
            Op::Clean => {
                if self.setup().compact && !self.life.cleaning.replace(true) {
                    let (model, counts) = (Rc::clone(&self.model), Rc::clone(&self.counts));
                    let task = Rc::clone(&self.life).clean(self.disk.disk(), model, counts);
                    task::spawn(Queue::Upkeep, "a clean", OnPanic::StopProcess, task);
                }
            }
            Op::Retain => {
                if !self.life.retaining.replace(true) {
                    let (model, counts) = (Rc::clone(&self.model), Rc::clone(&self.counts));
                    let task = Rc::clone(&self.life).retain(model, counts);
                    task::spawn(Queue::Upkeep, "retention", OnPanic::StopProcess, task);
                }
            }
            Op::DeleteRecords { permille } => self.delete_records(*permille).await,
            Op::LeaderEpoch => {
                self.leader_epoch = LeaderEpoch(self.leader_epoch.0 + 1);
                partition.set_leader_epoch(self.leader_epoch);
            }
            Op::Pause { turns } => {
                for _ in 0..*turns {
                    task::yield_now().await;
                }
            }
            Op::Wait { ms } => clock::sleep(Duration::from_millis(*ms)).await,
            Op::Break { verb, skip, sticky } => {
                self.faults.broken = true;
                let when = When::verb(*verb).after(*skip);
                self.disk.fail(if *sticky { when.from_then_on() } else { when }, Fault::Broken);
            }
            Op::Fill { spare } => {
                let space = self.disk.disk().space(Path::new(DIR)).await;
                let Ok(space) = space else { return };
                self.faults.full = true;
                self.disk.set_capacity(Some(space.total - space.free + spare));
            }
            Op::Space => self.space().await,
            Op::Spike { skip } => self.disk.slow(When::operation(*skip), Duration::from_secs(2)),
            Op::LoseFlush { count } => self.disk.lose_flushes(*count),
            Op::Misdirect { skip, blocks } => {
                self.faults.misread = true;
                self.disk.misdirect(When::verb(Verb::Read).after(*skip), *blocks);
            }
            Op::Flip { kind, place, bit } => self.flip(kind, *place, *bit).await,
            Op::Restart => self.restart().await,
            Op::Die(deaths) => self.die(deaths).await,
            Op::CutSoon { operations } => self.disk.cut(When::operation(*operations)),
        }
    }

    /// Appends a batch, and notes it as produced; `None` when it was not taken.
    async fn append(&mut self, bytes: Vec<u8>, producer: u8, epoch: i16, sequence: i32, kind: Kind) -> Option<i64> {
        let partition = Rc::clone(&self.life.partition);
        let room = match partition.log().room(bytes.len()).await {
            Ok(room) => room,
            Err(error) => {
                self.expect("room", error).await;
                return None;
            }
        };
        let produced = match partition.append(&bytes, None) {
            Ok(produced) => produced,
            Err(error) => {
                self.expect("append", error).await;
                return None;
            }
        };
        drop(room);
        let mut model = self.model.borrow_mut();
        assert_eq!((produced.base_offset.0, produced.duplicate), (model.end(), false));
        let mut bytes = bytes;
        let leader_epoch = self.leader_epoch;
        let stamp = Stamp { base_offset: produced.base_offset, leader_epoch, log_append_time: None };
        crate::record::stamp(&mut bytes, &stamp);
        let records = records_of(&BatchView::first(&bytes).unwrap());
        let (base, next) = (produced.base_offset.0, produced.last_offset.0 + 1);
        let (appended, life) = (clock::unix_ms(), self.number);
        let entry = Entry { base, next, bytes, producer, epoch, sequence, kind, leader_epoch, appended, life, records };
        model.entries.push(entry);
        Some(next)
    }

    async fn acknowledge(&mut self, next: i64, acks: Acks) {
        match self.life.partition.acknowledged(Offset(next - 1), acks).await {
            Ok(()) => {
                let visible = self.life.partition.bounds().high_watermark.0;
                assert!(acks == Acks::Leader || visible >= next, "acknowledged and not visible");
                self.model.borrow_mut().acknowledged(next, acks == Acks::All);
                self.counts.borrow_mut().acknowledged += 1;
            }
            Err(error) => self.expect("an acknowledgement", error).await,
        }
    }

    fn builder(&self, producer: u8, epoch: i16, sequence: i32) -> BatchBuilder {
        match producer {
            0 => BatchBuilder::new(),
            3 => BatchBuilder::new().producer(producer_id(3), epoch, sequence).transactional(),
            _ => BatchBuilder::new().producer(producer_id(producer), epoch, sequence),
        }
    }

    async fn produce(&mut self, what: &Produce) {
        let (epoch, sequence) = self.next_of(what.producer);
        let codec = Codec::from_id(what.codec).expect("five of them");
        let mut builder = self.builder(what.producer, epoch, sequence).codec(codec);
        for (at, (key, len)) in what.records.iter().enumerate() {
            let letter = b'a' + (self.model.borrow().end() % 26) as u8;
            let value = len.map(|len| vec![letter; len]);
            let key = key.map(|key| [key]);
            let timestamp = clock::unix_ms().0 - what.age_ms + at as i64;
            builder.push(NewRecord {
                timestamp,
                key: key.as_ref().map(|key| &key[..]),
                value: value.as_deref(),
                headers: &[],
            });
        }
        let kind = if what.producer == 3 { Kind::Transactional } else { Kind::Plain };
        let next = self.append(builder.build(), what.producer, epoch, sequence, kind).await;
        if let (Some(next), Some(acks)) = (next, what.wait) {
            self.acknowledge(next, acks).await;
        }
    }

    /// Epoch and sequence number of a producer's next batch. Where only a marker is left of a producer, a start knows its
    /// epoch and no number, and takes none but 0, as Kafka's `ProducerAppendInfo`: a producer goes on with its next
    /// epoch then (KIP-360).
    fn next_of(&self, producer: u8) -> (i16, i32) {
        let (epoch, sequence) = self.model.borrow().next_of(producer);
        let only_marker = !self.is_known(producer)
            && self.life.partition.with_producers(|producers| {
                producers.get(producer_id(producer)).is_some_and(|known| known.last_sequence() == -1)
            });
        if only_marker { (epoch + 1, 0) } else { (epoch, sequence) }
    }

    async fn end_transaction(&mut self, commit: bool) {
        if self.model.borrow().open_transaction().is_none() {
            return;
        }
        let (epoch, _) = self.model.borrow().next_of(3);
        let kind = if commit { ControlType::Commit } else { ControlType::Abort };
        let mut builder = BatchBuilder::new().producer(producer_id(3), epoch, -1).transactional().control();
        builder.push_control(kind, clock::unix_ms().0, &[0, 0, 0, 0, 0, 7]);
        let next = self.append(builder.build(), 3, epoch, -1, Kind::Marker { commit }).await;
        if let Some(next) = next {
            self.counts.borrow_mut().aborted += u32::from(!commit);
            self.acknowledge(next, Acks::All).await;
        }
    }

    async fn again(&mut self, producer: u8, back: usize) {
        if !self.is_known(producer) {
            return;
        }
        let (epoch, _) = self.model.borrow().next_of(producer);
        let entry = {
            let model = self.model.borrow();
            let mut of_producer = model
                .entries
                .iter()
                .rev()
                .filter(|entry| entry.producer == producer && entry.epoch == epoch && !entry.is_marker());
            of_producer.nth(back).cloned()
        };
        let Some(entry) = entry else { return };
        let partition = Rc::clone(&self.life.partition);
        match partition.append(&entry.bytes, None) {
            Ok(again) => {
                assert!(again.duplicate && back < BATCHES_KEPT, "{back} batches back are not remembered");
                assert_eq!((again.base_offset.0, again.last_offset.0), (entry.base, entry.next - 1));
            }
            // Snapshots keep only the last batch: an older one may be too old after a restart.
            Err(ProduceError::Producer(ProducerFault::OutOfOrder { .. })) => {
                assert!(back >= BATCHES_KEPT || back > 0 && entry.life < self.number, "{back} back is forgotten");
            }
            Err(error) => self.expect("a batch again", error).await,
        }
    }

    /// Whether the partition has to know the producer: its last batch is not deleted.
    fn is_known(&self, producer: u8) -> bool {
        let (model, start) = (self.model.borrow(), self.life.partition.log().start_offset().0);
        model.entries.iter().any(|entry| entry.producer == producer && !entry.is_marker() && entry.base >= start)
    }

    async fn gap(&mut self, producer: u8) {
        if !self.is_known(producer) {
            return;
        }
        let (epoch, sequence) = self.model.borrow().next_of(producer);
        let mut builder = self.builder(producer, epoch, sequence + 1);
        builder.push(NewRecord { timestamp: clock::unix_ms().0, value: Some(b"gap"), ..NewRecord::default() });
        match self.life.partition.append(&builder.build(), None) {
            Err(ProduceError::Producer(ProducerFault::OutOfOrder { .. })) => {}
            Err(error) => self.expect("a gap", error).await,
            Ok(produced) => panic!("a gap was taken: {produced:?}"),
        }
    }

    async fn new_epoch(&mut self, producer: u8) {
        if !self.is_known(producer) {
            return;
        }
        let (epoch, sequence) = self.model.borrow().next_of(producer);
        let mut builder = self.builder(producer, epoch + 1, 0);
        builder.push(NewRecord { timestamp: clock::unix_ms().0, value: Some(b"new"), ..NewRecord::default() });
        if self.append(builder.build(), producer, epoch + 1, 0, Kind::Plain).await.is_none() {
            return;
        }
        let mut builder = self.builder(producer, epoch, sequence);
        builder.push(NewRecord { timestamp: clock::unix_ms().0, value: Some(b"old"), ..NewRecord::default() });
        match self.life.partition.append(&builder.build(), None) {
            Err(ProduceError::Producer(ProducerFault::StaleEpoch { .. })) => {}
            Err(error) => self.expect("an old epoch", error).await,
            Ok(produced) => panic!("an old epoch was taken: {produced:?}"),
        }
    }

    async fn read(&mut self, from: i64, bytes_max: usize, isolation: Isolation) {
        let partition = Rc::clone(&self.life.partition);
        let (bounds, plan) = match partition.read_plan(Offset(from), bytes_max, true, isolation) {
            Ok(planned) => planned,
            Err(error) => return self.expect("a read", error).await,
        };
        let bytes = match plan.execute().await {
            Ok(rope) => rope.to_bytes(),
            // Retention took meanwhile what could not be read.
            Err(LogError::OutOfRange { start, .. }) if from < start.0 && start <= partition.log().start_to_come() => {
                return;
            }
            Err(error) => return self.expect("a read", error).await,
        };
        bytes.hash(&mut self.trace);
        let found = batches_in(&bytes);
        let visible = bounds.visible(isolation).0;
        let next = found.last().map_or(visible, |bytes| BatchView::first(bytes).unwrap().next_offset().0);
        assert!(next <= visible, "read up to {next}, of which {visible} may be seen");
        let start = partition.log().start_offset().0;
        let model = self.model.borrow();
        model.check(&found, from.max(start), next, clock::unix_ms());
        assert!(found.len() < 2 || bytes.len() <= bytes_max, "{} bytes of {bytes_max}", bytes.len());
        if isolation == Isolation::ReadCommitted {
            let told = partition.aborted_within(Offset(from), Offset(next));
            for (first, marker, _) in model.aborted().iter().filter(|(_, _, life)| *life == self.number) {
                let concerns = *first < next && *marker >= from && *marker < visible && *first >= start;
                let is_told = told.iter().any(|told| (told.first.0, told.last.0) == (*first, *marker));
                assert!(!concerns || is_told, "the reader of {from}..{next} is not told of {first}..{marker}");
            }
        }
    }

    async fn lookup(&mut self, time: i64) {
        let partition = Rc::clone(&self.life.partition);
        // Retention may go on meanwhile.
        let start = partition.log().start_offset();
        let found = match partition.list_offset(OffsetSpec::Timestamp(time), Isolation::ReadUncommitted).await {
            Ok(found) => found,
            Err(error) => return self.expect("a look-up", error).await,
        };
        let bounds = partition.bounds();
        let model = self.model.borrow();
        let until = match found {
            Some(found) => {
                let record = model.record(found.offset.0).expect("it was produced");
                assert_eq!(record.timestamp, found.timestamp);
                assert!(found.timestamp >= time && found.offset >= start, "{found:?}");
                found.offset.0
            }
            None => bounds.high_watermark.0,
        };
        // Retention may have taken some meanwhile, or be about to; what was appended meanwhile is not there yet.
        let before = model.required(partition.log().start_to_come().0, until, clock::unix_ms());
        let skipped = before.iter().find(|record| record.timestamp >= time && record.offset < model.kept_by_cut);
        assert!(skipped.is_none() || !model.setup.flushes, "{skipped:?} is at {time} or later, before {found:?}");
    }

    async fn delete_records(&mut self, permille: Option<u64>) {
        let partition = Rc::clone(&self.life.partition);
        if !self.setup().delete {
            return;
        }
        let bounds = partition.bounds();
        let wanted = permille.map(|permille| {
            let (start, end) = (bounds.log_start.0, bounds.high_watermark.0);
            Offset(start + (end - start) * permille as i64 / 1000)
        });
        let offset = match partition.prepare_deletion_before(wanted).await {
            Ok(offset) => offset,
            // Retention came first.
            Err(LogError::OutOfRange { .. }) if wanted.is_some() => return,
            Err(error) => return self.expect("a deletion", error).await,
        };
        {
            let mut model = self.model.borrow_mut();
            model.start_asked = model.start_asked.max(offset.0);
            model.kept_by_kill = model.kept_by_kill.max(offset.0);
            model.kept_by_cut = model.kept_by_cut.max(offset.0);
        }
        if let Err(error) = write_checkpoint(&self.disk.disk(), STARTS_FILE, offset).await {
            return self.expect("the checkpoint of a deletion", error).await;
        }
        match partition.delete_records_before(offset) {
            Ok(start) => {
                let mut model = self.model.borrow_mut();
                assert!(start >= offset);
                model.start_told = model.start_told.max(offset.0);
                self.counts.borrow_mut().records_deleted += 1;
            }
            Err(error) => self.expect("a deletion", error).await,
        }
    }

    /// There is space again: the log goes on by itself.
    async fn space(&mut self) {
        self.disk.set_capacity(None);
        if !std::mem::take(&mut self.faults.full) || self.disk.is_off() {
            return;
        }
        // What was seen of the drive is believed for a moment, and what is under way may be refused yet.
        clock::sleep(Duration::from_millis(150)).await;
        let partition = Rc::clone(&self.life.partition);
        let end = Offset(self.model.borrow().end());
        let mut refused = None;
        for _ in 0..100 {
            let sealing = !partition.log().all_sealed() && partition.ended().is_none();
            if partition.log().is_full() || sealing || self.life.cleaning.get() || self.life.retaining.get() {
                clock::sleep(Duration::from_millis(100)).await;
                continue;
            }
            // An operation that began before there was space may be refused yet.
            match partition.log().wait(end, crate::log::Stage::Written).await {
                Err(error @ LogError::DiskFull(_)) => refused = Some(error),
                other => {
                    refused = other.err();
                    break;
                }
            }
        }
        self.life.troubles.take();
        let Faults { broken, misread, .. } = self.faults;
        if self.disk.is_off() || broken || misread {
            // What else is wrong shows elsewhere.
            self.faults.full = true;
            return;
        }
        assert!(!partition.log().is_full(), "there is space, and the log does not go on");
        if let Some(error) = refused {
            self.expect("what waited for space", error).await;
        }
    }

    /// Turns a bit of a file that is not being written, looks at everything, and puts it right.
    async fn flip(&mut self, kind: &str, place: u64, bit: u8) {
        let partition = Rc::clone(&self.life.partition);
        let bases = partition.log().segment_bases();
        // The last two may be written.
        let Some(sealed) = bases.len().checked_sub(2).filter(|sealed| *sealed > 0) else { return };
        let base = bases[place as usize % sealed];
        let path = partition.log().dir().join(format!("{:020}.{kind}", base.0));
        let Ok(entries) = self.disk.disk().list(&partition.log().dir()).await else { return };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| entry.name == name && entry.len > 0) else { return };
        let byte = (place >> 20) % entry.len;
        let Ok(bytes) = self.disk.disk().read_file(&path).await else { return };
        if self.disk.is_off() || kind == "log" && !is_covered(&bytes, byte as usize) {
            return;
        }
        if !self.disk.flip_bit(&path, byte, bit) {
            return;
        }
        self.faults.flipped = true;
        let number = self.number;
        for step in 0..10 {
            let (start, end) = (partition.log().start_offset().0, partition.bounds().high_watermark.0);
            self.read(start + (end - start) * step / 10, 2000, Isolation::ReadUncommitted).await;
            if self.number != number || self.over {
                return;
            }
        }
        Box::pin(self.run(&Op::Clean)).await;
        while self.life.cleaning.get() && self.number == number && !self.disk.is_off() {
            clock::sleep(Duration::from_millis(10)).await;
        }
        self.lookup(clock::unix_ms().0 - 3000).await;
        if self.number != number {
            return;
        }
        // Only a file that was not replaced has it still.
        self.disk.heal();
        self.observe().await;
        self.faults.flipped = false;
    }

    async fn check_all(&mut self) {
        let partition = Rc::clone(&self.life.partition);
        let mut found = Vec::new();
        let until = partition.log().written_offset().0;
        let from = partition.log().start_offset().0;
        match partition.log().replay(Offset(from), |batch| found.push(batch.bytes().to_vec())).await {
            Ok(()) => {}
            // Retention was faster.
            Err(LogError::OutOfRange { .. }) => return,
            Err(error) => return self.expect("everything", error).await,
        }
        found.hash(&mut self.trace);
        let start = partition.log().start_offset().0;
        let model = self.model.borrow();
        model.check(&found, start, until, clock::unix_ms());
        if model.setup.compact && until == model.end() && start == from && !self.life.cleaning.get() {
            model.check_keys(&found, start);
        }
    }

    /// Nothing is left that the options give up.
    fn check_retention(&self) {
        let (model, log) = (self.model.borrow(), self.life.partition.log());
        let setup = &model.setup;
        let bases: Vec<i64> = log.segment_bases().iter().map(|base| base.0).collect();
        if !setup.delete || setup.compact || bases.len() < 2 {
            return;
        }
        let (now, end) = (clock::unix_ms().0, model.end());
        let too_large = setup.retention_bytes >= 0 && model.bytes(bases[1], end) >= setup.retention_bytes;
        // It was looked at a moment ago.
        let age = now - 1000 - model.youngest(bases[0], bases[1]);
        let too_old = setup.retention_ms >= 0 && age > setup.retention_ms;
        assert!(!too_large && !too_old && bases[1] > model.start_told, "{bases:?} are left at {now}");
    }

    /// Waits until nothing is under way in the background.
    async fn settle(&mut self) {
        let life = Rc::clone(&self.life);
        for _ in 0..10_000 {
            let busy = life.pointing.get() || life.cleaning.get() || life.retaining.get();
            if !busy && life.partition.log().all_sealed() {
                break;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
        assert!(life.partition.log().all_sealed(), "segments are not sealed");
        let troubles = life.troubles.take();
        assert!(troubles.is_empty(), "{troubles:?}");
    }

    async fn restart(&mut self) {
        self.lied |= self.disk.flushes_lost() > 0;
        let partition = Rc::clone(&self.life.partition);
        if let Err(error) = partition.close_cleanly().await {
            let number = self.number;
            self.expect("a clean end", error).await;
            if self.number == number {
                let power = self.random.below(2) == 0;
                self.die(&[Death { power, seed: 17, at: 0 }]).await;
            }
            return;
        }
        let end = self.model.borrow().end();
        {
            let mut model = self.model.borrow_mut();
            model.kept_by_kill = end;
            model.kept_by_cut = end;
        }
        assert_eq!(self.memory.unwritten(), 0, "closed, and something is left to be written");
        if let Err(error) = self.life.journal.close(true).await {
            let number = self.number;
            self.expect("the end of a journal", error).await;
            if self.number == number {
                self.die(&[Death { power: false, seed: 19, at: 0 }]).await;
            }
            return;
        }
        self.disk.clear_rules();
        if self.disk.is_off() {
            return self.die(&[Death { power: true, seed: 23, at: 0 }]).await;
        }
        let (setup, before) = (self.setup(), self.life.partition.log().start_to_come().0);
        let full = self.faults.full;
        let mut opened = try_open(&self.disk, &setup, &self.memory, self.leader_epoch, true).await;
        if full && opened.is_err() {
            self.disk.set_capacity(None);
            opened = try_open(&self.disk, &setup, &self.memory, self.leader_epoch, true).await;
        }
        self.disk.set_capacity(None);
        if opened.is_err() && self.disk.is_off() {
            // A cut that was yet to come.
            return self.die(&[Death { power: true, seed: 29, at: 0 }]).await;
        }
        let opened = opened.unwrap_or_else(|error| panic!("what was closed cleanly does not open: {error}"));
        self.model.borrow_mut().start_asked = before;
        self.begin(opened, end).await;
    }

    /// The process dies, and again in each of the starts that follow.
    async fn die(&mut self, deaths: &[Death]) {
        self.note_operations();
        self.lied |= self.disk.flushes_lost() > 0;
        self.disk.heal();
        let setup = self.setup();
        {
            let partition = &self.life.partition;
            let mut model = self.model.borrow_mut();
            model.start_asked = model.start_asked.max(partition.log().start_to_come().0);
        }
        let was_full = self.faults.full;
        let mut kept = self.model.borrow().kept_by_kill;
        for (at, death) in deaths.iter().enumerate() {
            self.disk = match death.power {
                true => self.disk.reopen(death.seed),
                false => self.disk.reopen_after_kill(death.seed),
            };
            if death.power {
                kept = self.model.borrow().kept_by_cut;
                self.counts.borrow_mut().cuts += 1;
            } else {
                self.counts.borrow_mut().kills += 1;
            }
            if at == 0 {
                self.life.partition.log().take_offline("the test's process is gone");
                let _ = self.life.journal.close(false).await;
            }
            if setup.pace {
                self.disk.set_pace(death.seed);
            }
            let Some(next) = deaths.get(at + 1) else { break };
            self.disk.cut(When::operation(next.at));
            match try_open(&self.disk, &setup, &self.memory, self.leader_epoch, false).await {
                Ok((partition, journal)) => {
                    partition.log().take_offline("the test goes on");
                    let _ = journal.close(false).await;
                }
                Err(error) => {
                    assert!(self.disk.is_off() || self.lied, "{error}");
                    self.counts.borrow_mut().starts_cut_off += 1;
                }
            }
            self.note_operations();
        }
        let lied = self.lied && deaths.iter().any(|death| death.power);
        let starts_full = was_full && self.random.below(2) == 0;
        if starts_full {
            // The drive is as full as before.
            let space = self.disk.disk().space(Path::new(DIR)).await.unwrap();
            self.disk.set_capacity(Some(space.total - space.free + self.random.below(5000)));
            self.counts.borrow_mut().starts_on_a_full_drive += 1;
        }
        let mut opened = try_open(&self.disk, &setup, &self.memory, self.leader_epoch, false).await;
        if let Err(error) = &opened
            && error.to_string().to_lowercase().contains("no space left")
        {
            self.disk.set_capacity(None);
            opened = try_open(&self.disk, &setup, &self.memory, self.leader_epoch, false).await;
        }
        // What only the journal has is served from memory while the drive is full.
        let full = opened.as_ref().is_ok_and(|(partition, _)| partition.unfiled().is_some());
        match full {
            true => self.counts.borrow_mut().starts_unfiled += 1,
            false => self.disk.set_capacity(None),
        }
        if lied {
            self.counts.borrow_mut().starts_that_lied += 1;
            self.over = true;
            // Who waits for something of this life sees that it has ended.
            self.number += 1;
            // It says so, or what it has is right as far as it goes.
            if let Ok((partition, journal)) = opened {
                let mut found = Vec::new();
                let replayed = partition.log().replay(Offset(0), |batch| found.push(batch.bytes().to_vec())).await;
                if replayed.is_ok() {
                    self.model.borrow().check(&found, 0, 0, clock::unix_ms());
                }
                partition.log().take_offline("the test has ended");
                let _ = journal.close(false).await;
            }
            return;
        }
        let opened = opened.unwrap_or_else(|error| panic!("an undamaged log does not open: {error}"));
        let recovery = opened.0.recovery();
        self.counts.borrow_mut().believed_points += u32::from(recovery.point > Offset::ZERO);
        self.begin(opened, kept).await;
        self.faults.full |= full;
        if starts_full && !full {
            // What the start has sealed, or seals yet, may have found no space.
            self.faults.full = true;
            Box::pin(self.space()).await;
        }
    }

    /// A life begins: the log holds a prefix of what was produced, at least up to `kept`.
    async fn begin(&mut self, opened: (Rc<Partition>, Rc<Journal>), kept: i64) {
        self.number += 1;
        self.life = Life::new(opened);
        self.faults = Faults::default();
        let partition = Rc::clone(&self.life.partition);
        let (start, end) = (partition.log().start_offset().0, partition.log().end_offset().0);
        (start, end).hash(&mut self.trace);
        {
            let mut model = self.model.borrow_mut();
            assert!(kept <= end, "the log ends at {end}, {kept} was acknowledged");
            assert!(end <= model.end(), "the log ends at {end}, only {} was produced", model.end());
            let asked = model.start_asked;
            assert!(start >= model.start_told, "the log starts at {start}, it was {} before", model.start_told);
            assert!(start <= asked, "the log starts at {start}, nobody asked for more than {asked}");
            model.entries.retain(|entry| entry.base < end);
            assert_eq!(model.end(), end, "the log ends within a batch");
            // All that is there counts as durable now.
            (model.kept_by_kill, model.kept_by_cut) = (end, end);
            (model.start_told, model.start_asked) = (start, start);
            assert_eq!(partition.bounds().high_watermark.0, end);
            let last_stable = match model.open_transaction() {
                // Where it begins may be deleted; a snapshot tells that it is open.
                Some(entry) => entry.base.max(start),
                None => end,
            };
            assert_eq!(partition.bounds().last_stable.0, last_stable, "the last stable offset");
        }
        self.check_producers();
        self.check_epochs();
        let number = self.number;
        self.check_all().await;
        assert_eq!(number, self.number, "what is there can be read");
    }

    fn check_producers(&self) {
        let partition = &self.life.partition;
        for producer in 1..4 {
            let (epoch, next) = self.model.borrow().next_of(producer);
            let known = partition.with_producers(|producers| {
                producers.get(producer_id(producer)).map(|known| (known.epoch(), known.last_sequence() + 1))
            });
            let is_new = !self.is_known(producer) && known.is_none_or(|known| known == (epoch, 0));
            assert!(known == Some((epoch, next)) || is_new, "producer {producer}: {known:?}, not {epoch} {next}");
        }
    }

    fn check_epochs(&self) {
        let (partition, model) = (&self.life.partition, self.model.borrow());
        let start = partition.log().start_offset().0;
        let mut begins: Vec<(LeaderEpoch, i64)> = Vec::new();
        for entry in &model.entries {
            if begins.last().is_none_or(|(epoch, _)| *epoch < entry.leader_epoch) {
                begins.push((entry.leader_epoch, entry.base));
            }
        }
        if begins.last().is_none_or(|(epoch, _)| *epoch < self.leader_epoch) {
            begins.push((self.leader_epoch, model.end()));
        }
        for (at, (epoch, _)) in begins.iter().enumerate() {
            let end = begins.get(at + 1).map_or(model.end(), |(_, begins)| *begins);
            if end > start && !model.setup.compact {
                assert_eq!(partition.end_offset_for_epoch(*epoch), Some((*epoch, Offset(end))), "{begins:?}");
            }
        }
    }
}
