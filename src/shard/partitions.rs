//! The partitions one core owns: finding them, opening and removing them as the
//! metadata says, and the operations on them that requests need, whether they came
//! in here or on another core.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::coordinators::is_internal;
use super::dirs::{DataDir, Dirs};
use super::messages::{EpochQuery, OffsetQuery, Read};
use super::mover::CopySize;
use super::{Core, cleaner, failures, rules};
use crate::base::hash::OwnKeys;
use crate::base::limits::FULL_RETRY;
use crate::base::{CoreIndex, DirIndex, LeaderEpoch, Offset, TopicPartition, UnixMs, Uuid, wait};
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::journal::{Journal, Journaled};
use crate::log::{Failure, LogError, Stage, TailMemory, Unpointed, Waiting};
use crate::metadata::image::{PartitionState, ResourceType, Topic};
use crate::metadata::{Delta, Image};
use crate::partition::{
    Acks, EpochFault, FetchError, FetchWaiter, FoundOffset, Isolation, Partition, PartitionError, PartitionOptions,
    ProduceError, Produced, ProducerFault, Safe, Watching,
};
use crate::record::{self, InvalidBatch};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// Partitions opened or removed at the same time on one core: enough to keep the
/// drive busy while each waits for its files.
const OPEN_AT_ONCE: usize = 16;

/// How often an opening that takes long says how far it is.
const OPENING_TOLD_EVERY: Duration = Duration::from_secs(5);

/// A partition that wanted space is tried again with so much of it, which is plenty for its small files.
const OPENING_BYTES: u64 = 1 << 20;

enum Slot {
    /// Its files are being opened or made.
    Opening,
    Open(Rc<Partition>),
    /// It cannot be used: the reason, and where it lies if that is one of our directories.
    Failed(Rc<str>, Option<DirIndex>),
}

/// Where a partition is, seen from one core.
pub enum Place {
    Here(Rc<Partition>),
    /// This core owns it, but it is not open yet.
    Opening,
    /// This core owns it, but its files cannot be used: the reason.
    Failed(Rc<str>),
    /// Another core owns it.
    There(CoreIndex),
    /// The metadata does not know it.
    Unknown,
}

/// What the logs of a core in one directory share.
struct Drive {
    /// The memory in which they keep their latest batches.
    memory: Rc<TailMemory>,
    /// Where small batches of all of them become durable together.
    journal: Rc<Journal>,
    /// Partitions that want space before they can be opened.
    wanting_space: RefCell<VecDeque<Rc<WantsSpace>>>,
}

/// A partition that needs a small file to be opened, for which there was no space.
struct WantsSpace {
    job: Job,
    options: PartitionOptions,
}

/// The partitions of one core.
pub struct Partitions {
    /// Topic ids are drawn by the controller, partitions are counted.
    slots: RefCell<HashMap<(Uuid, i32), Slot, OwnKeys>>,
    /// By directory.
    drives: Vec<Drive>,
    /// For the metadata log.
    metadata_memory: Rc<TailMemory>,
    /// What they wrote since somebody looked for those that want a recovery point.
    unpointed: Rc<Unpointed>,
    /// What a topic without options of its own is like; shared by all that have none.
    topic_defaults: RefCell<Rc<TopicConfig>>,
}

impl Partitions {
    /// For the partitions in these directories.
    pub fn new(config: &BrokerConfig, dirs: &Dirs) -> Partitions {
        let drive = |(memory, (_, dir)): (Rc<TailMemory>, (DirIndex, &DataDir))| {
            memory.share_drive(dir.space());
            memory.reserve_on_drive(config.log_dir_reserved_bytes as u64);
            Drive { journal: Journal::new(&memory), memory, wanting_space: RefCell::default() }
        };
        let memories = TailMemory::of_drives(config.tail_memory_bytes_per_core as usize, dirs.count());
        let metadata_memory = match dirs.metadata().among {
            Some(index) => Rc::clone(&memories[usize::from(index.0)]),
            None => memories[0].of_another_drive(),
        };
        Partitions {
            slots: RefCell::default(),
            drives: memories.into_iter().zip(dirs.all()).map(drive).collect(),
            metadata_memory,
            unpointed: Unpointed::new(),
            topic_defaults: RefCell::new(Rc::new(config.topic_defaults())),
        }
    }

    /// The memory in which this core's logs in a directory keep their latest batches.
    pub fn memory(&self, dir: DirIndex) -> &Rc<TailMemory> {
        &self.drives[usize::from(dir.0)].memory
    }

    /// The memory of the metadata log.
    pub fn metadata_memory(&self) -> &Rc<TailMemory> {
        &self.metadata_memory
    }

    /// This core's journal in a directory.
    pub fn journal(&self, dir: DirIndex) -> &Rc<Journal> {
        &self.drives[usize::from(dir.0)].journal
    }

    /// Whether partitions in a directory wait for space to be opened.
    pub fn any_wants_space(&self, dir: DirIndex) -> bool {
        !self.drives[usize::from(dir.0)].wanting_space.borrow().is_empty()
    }

    /// What its logs wrote since somebody looked for those that want a recovery point.
    pub fn unpointed(&self) -> &Rc<Unpointed> {
        &self.unpointed
    }

    /// What a topic without options of its own is like from now on.
    pub fn set_topic_defaults(&self, defaults: TopicConfig) {
        *self.topic_defaults.borrow_mut() = Rc::new(defaults);
    }

    /// The effective options of a topic.
    pub fn config_of(&self, image: &Image, topic: &Topic) -> Rc<TopicConfig> {
        let overrides = image.topic_config(&topic.name);
        let defaults = Rc::clone(&self.topic_defaults.borrow());
        if overrides.is_empty() {
            return defaults;
        }
        match TopicConfig::with_overrides(&defaults, &overrides) {
            Ok(config) => Rc::new(config),
            Err(error) => {
                // The controller checks options before they become records; a log from elsewhere may hold
                // others, and the broker's options may have changed since.
                tracing::warn!(topic = %topic.name, %error, "an option of a topic cannot be used as it is; its others apply");
                Rc::new(TopicConfig::with_usable(&defaults, &overrides))
            }
        }
    }

    /// All open partitions.
    pub fn open(&self) -> Vec<Rc<Partition>> {
        let slots = self.slots.borrow();
        slots.values().filter_map(|s| if let Slot::Open(p) = s { Some(Rc::clone(p)) } else { None }).collect()
    }

    fn set(&self, topic_id: Uuid, partition: i32, slot: Slot) {
        self.slots.borrow_mut().insert((topic_id, partition), slot);
    }

    fn take(&self, topic_id: Uuid, partition: i32) -> Option<Slot> {
        self.slots.borrow_mut().remove(&(topic_id, partition))
    }
}

impl Core {
    /// Finds a partition.
    pub fn locate(&self, topic_id: Uuid, partition: i32) -> Place {
        match self.partitions.slots.borrow().get(&(topic_id, partition)) {
            Some(Slot::Open(partition)) => Place::Here(Rc::clone(partition)),
            Some(Slot::Opening) => Place::Opening,
            Some(Slot::Failed(reason, _)) => Place::Failed(Rc::clone(reason)),
            None if self.image.borrow().partition(topic_id, partition).is_none() => Place::Unknown,
            None => match self.placement.core_of(topic_id, partition) {
                // Known to the image a moment before its files are.
                owner if owner == self.index => Place::Opening,
                owner => Place::There(owner),
            },
        }
    }
}

/// Why an append did not happen. Can cross cores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Not, or not yet, or not any more on the core that was asked.
    #[error("the partition is not here")]
    NotHere,
    /// Its files cannot be used: the reason.
    #[error("{0}")]
    Failed(String),
    /// There is no room for it now; there may be later.
    #[error("{0}")]
    NoRoom(String),
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
    #[error(transparent)]
    Producer(#[from] ProducerFault),
    /// Larger than a segment may be.
    #[error("a batch of {size} bytes is larger than segment.bytes ({max})")]
    TooLarge { size: usize, max: usize },
}

impl From<ProduceError> for AppendError {
    fn from(error: ProduceError) -> AppendError {
        match error {
            ProduceError::Producer(fault) => AppendError::Producer(fault),
            ProduceError::TooLarge { size, max } => AppendError::TooLarge { size, max },
            ProduceError::DiskFull(reason) | ProduceError::Behind(reason) => AppendError::NoRoom(reason.to_string()),
            ProduceError::Offline(reason) => AppendError::Failed(reason.to_string()),
            ProduceError::Gone(_) => AppendError::NotHere,
        }
    }
}

/// What the request says of all its batches.
#[derive(Clone, Copy, Debug)]
pub struct AppendRules {
    pub zstd_allowed: bool,
    /// `None`: acks=0.
    pub acks: Option<Acks>,
    pub now: UnixMs,
}

/// Records that have their place in a log.
pub struct Appended {
    partition: Rc<Partition>,
    produced: Produced,
    /// Set once the waiting has begun.
    waiting: Option<Waiting>,
}

/// Records that are as safe as their producer asked for.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub produced: Produced,
    /// Since when.
    pub safe: Safe,
}

impl Appended {
    /// Waits until they are as safe as the producer asked for; with `None` (acks=0) not
    /// at all.
    pub async fn acknowledged(mut self, acks: Option<Acks>) -> Result<Acknowledged, AppendError> {
        std::future::poll_fn(|cx| self.poll_acknowledged(acks, cx)).await
    }

    /// As [`Appended::acknowledged`], for who polls by itself. Not to be asked again after
    /// its answer.
    pub fn poll_acknowledged(
        &mut self,
        acks: Option<Acks>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Acknowledged, AppendError>> {
        let produced = self.produced;
        let Some(acks) = acks else { return Poll::Ready(Ok(Acknowledged { produced, safe: Safe::default() })) };
        if self.waiting.is_none() {
            self.waiting = self.partition.start_acknowledging(produced.last_offset, acks).map_err(AppendError::from)?;
        }
        if let Some(waiting) = &mut self.waiting {
            let told = std::task::ready!(Pin::new(waiting).poll(cx));
            self.waiting = None;
            let log = self.partition.log();
            told.unwrap_or_else(|_| Err(LogError::Closed(log.name().into()))).map_err(ProduceError::from)?;
        }
        let safe = self.partition.safe(produced.last_offset, acks);
        Poll::Ready(Ok(Acknowledged { produced, safe }))
    }
}

/// Validates a batch and appends it to a partition. Waits only while more bytes stand
/// before the drive than may, of this partition or of all of the core: the producer
/// sees latency then, not an error.
pub async fn append_to(partition: &Rc<Partition>, batch: &[u8], how: AppendRules) -> Result<Appended, AppendError> {
    let AppendRules { zstd_allowed, acks, now } = how;
    let valid = record::validate(batch, &rules::of(&partition.log().config()), now, zstd_allowed)?;
    loop {
        let room = partition.log().room(valid.bytes().len()).await.map_err(ProduceError::from)?;
        let produced = partition.produce(&valid);
        drop(room);
        match produced {
            Ok(produced) => {
                if acks == Some(Acks::All) {
                    // Now, not when its turn to be waited for comes: several share their time.
                    partition.want_committed();
                }
                return Ok(Appended { partition: Rc::clone(partition), produced, waiting: None });
            }
            Err(ProduceError::Behind(_)) => {
                let end = partition.log().end_offset();
                partition.log().wait(end, Stage::Written).await.map_err(ProduceError::from)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// As [`append_to`], for a partition that has to be found first.
pub async fn append(
    core: &Core,
    topic_id: Uuid,
    partition: i32,
    batch: &[u8],
    how: AppendRules,
) -> Result<Appended, AppendError> {
    let partition = here(core, topic_id, partition).map_err(|n| match n {
        NotHere::Elsewhere => AppendError::NotHere,
        NotHere::Failed(reason) => AppendError::Failed(reason),
    })?;
    append_to(&partition, batch, how).await
}

pub(super) enum NotHere {
    Elsewhere,
    Failed(String),
}

pub(super) fn here(core: &Core, topic_id: Uuid, partition: i32) -> Result<Rc<Partition>, NotHere> {
    match core.locate(topic_id, partition) {
        Place::Here(partition) => Ok(partition),
        Place::Failed(reason) => Err(NotHere::Failed(reason.to_string())),
        Place::Opening | Place::There(_) | Place::Unknown => Err(NotHere::Elsewhere),
    }
}

/// Why nothing was read. Can cross cores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Not, or not yet, or not any more on the core that was asked.
    #[error("the partition is not here")]
    NotHere,
    /// Its files cannot be used, or its bytes are damaged: the reason.
    #[error("{0}")]
    Failed(String),
    #[error("offset {offset} is not within {start} and {end}")]
    OffsetOutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error(transparent)]
    Epoch(#[from] EpochFault),
}

impl From<FetchError> for ReadError {
    fn from(error: FetchError) -> ReadError {
        match error {
            FetchError::OffsetOutOfRange { offset, start, end } => ReadError::OffsetOutOfRange { offset, start, end },
            FetchError::Offline(reason) => ReadError::Failed(reason.to_string()),
            FetchError::Gone(_) => ReadError::NotHere,
        }
    }
}

impl From<NotHere> for ReadError {
    fn from(not_here: NotHere) -> ReadError {
        match not_here {
            NotHere::Elsewhere => ReadError::NotHere,
            NotHere::Failed(reason) => ReadError::Failed(reason),
        }
    }
}

/// A place in a partition to wait at.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: Offset,
}

impl Read {
    pub fn position(&self) -> Position {
        Position { topic_id: self.topic_id, partition: self.partition, offset: self.offset }
    }
}

/// Waits until `min_bytes` have become visible at or after the positions, something
/// happened to one of them, or the time is up.
pub async fn wait_for_news(
    core: &Core,
    positions: &[Position],
    isolation: Isolation,
    min_bytes: usize,
    wait: Duration,
    parking: &mut Parking,
) {
    let Parking { waiter, places } = parking.begin(min_bytes as u64);
    let mut visible = 0;
    for position in positions {
        match here(core, position.topic_id, position.partition) {
            Ok(partition) => {
                visible += partition.available_bytes(position.offset, isolation);
                places.push(partition.watch(waiter, position.offset, isolation));
            }
            // Gone or broken: the reader will say so.
            Err(_) => return parking.leave(),
        }
    }
    // What was there before the places were taken counts too.
    waiter.arrived(visible);
    let _ = clock::timeout(wait, futures_lite::future::or(waiter.woken(), core.stop.raised())).await;
    parking.leave();
}

/// What a fetch needs to wait on partitions; can be used for one wait after the other.
pub struct Parking {
    waiter: Rc<FetchWaiter>,
    places: Vec<Watching>,
}

impl Default for Parking {
    fn default() -> Parking {
        Parking { waiter: FetchWaiter::new(0), places: Vec::new() }
    }
}

impl Parking {
    fn begin(&mut self, missing: u64) -> &mut Parking {
        self.leave();
        match Rc::get_mut(&mut self.waiter) {
            Some(waiter) => waiter.begin_again(missing),
            // Some partition still has it, and may wake it.
            None => self.waiter = FetchWaiter::new(missing),
        }
        self
    }

    /// Gives up the places on partitions: also of a wait that was dropped.
    pub fn leave(&mut self) {
        self.places.clear();
        // The waker would keep its task.
        self.waiter.begin_again(0);
    }
}

/// Finds an offset.
pub async fn list_offset(core: &Core, query: &OffsetQuery) -> Result<Option<FoundOffset>, ReadError> {
    let partition = here(core, query.topic_id, query.partition)?;
    partition.check_leader_epoch(query.leader_epoch)?;
    Ok(partition.list_offset(query.spec, query.isolation).await.map_err(FetchError::from)?)
}

/// Finds where a leader epoch ends: the largest known epoch at or below it, and its end.
pub fn epoch_end(core: &Core, query: &EpochQuery) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
    let partition = here(core, query.topic_id, query.partition)?;
    partition.check_leader_epoch(query.current)?;
    Ok(partition.end_offset_for_epoch(query.wanted))
}

/// How large a log is.
#[derive(Clone, Copy, Debug)]
pub struct LogSize {
    pub topic_id: Uuid,
    pub partition: i32,
    pub dir: DirIndex,
    /// Of batches, those included that are only in memory yet.
    pub bytes: u64,
    /// Its copy in another directory, if it is being moved there.
    pub copy: Option<CopySize>,
}

/// What a core has in a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InDir {
    /// Partitions that can be used.
    pub online: u64,
    /// Those that cannot: their log has ended, or did not open.
    pub offline: u64,
    /// Bytes of batches of those that can.
    pub bytes: u64,
    /// Copies of partitions on their way here.
    pub copies: u64,
    /// Offsets that these lack, all together.
    pub copies_lag: u64,
}

/// What this core has in each directory, by index; and how many partitions are offline that lie in none of them.
pub fn in_dirs(core: &Core) -> (Vec<InDir>, u64) {
    let mut dirs = vec![InDir::default(); core.dirs().count()];
    let mut nowhere = 0;
    for slot in core.partitions.slots.borrow().values() {
        match slot {
            Slot::Opening => {}
            Slot::Failed(_, Some(dir)) => dirs[usize::from(dir.0)].offline += 1,
            Slot::Failed(_, None) => nowhere += 1,
            Slot::Open(partition) => {
                let of = &mut dirs[usize::from(partition.dir().0)];
                match partition.ended() {
                    Some(_) => of.offline += 1,
                    None => {
                        of.online += 1;
                        of.bytes += partition.log().size_bytes();
                    }
                }
                if let Some(copy) = core.moves.copy_of(partition) {
                    let to = &mut dirs[usize::from(copy.dir.0)];
                    to.copies += 1;
                    to.copies_lag += copy.lag as u64;
                }
            }
        }
    }
    (dirs, nowhere)
}

/// The sizes of all logs of this core that are open.
pub async fn log_sizes(core: &Core) -> Vec<LogSize> {
    let mut sizes = Vec::new();
    for partition in core.partitions.open() {
        let (topic_id, bytes) = (partition.topic_id(), partition.log().size_bytes());
        let copy = core.moves.copy_of(&partition);
        sizes.push(LogSize { topic_id, partition: partition.id().partition, dir: partition.dir(), bytes, copy });
        task::yield_if_needed().await;
    }
    sizes
}

/// Opens everything this core owns of its image: recovery where the last stop was not
/// clean, several at a time.
///
/// # Errors
/// A data directory that the broker cannot do without cannot be made durable: the reason.
pub async fn open_all(core: &Rc<Core>) -> Result<(), String> {
    let image = core.image();
    let began = clock::now();
    for (index, dir) in core.dirs().online().filter(|(_, dir)| !dir.left().clean) {
        // What a killed process left of names, once for all partitions.
        if let Err(error) = core.disk.sync_dir(dir.path()).await {
            failures::offline(core, index, format!("sync {}: {error}", dir.path().display()))?;
        }
    }
    let mut jobs = Vec::new();
    for topic in image.topics() {
        jobs.extend(owned(core, topic, topic.partitions.keys().copied()));
    }
    for job in &mut jobs {
        job.start_offset = core.dirs().get(job.dir).left().start_offsets.get(&job.topic.name, job.partition);
    }
    let count = jobs.len();
    open(core, jobs).await;
    if count == 0 {
        return Ok(());
    }
    let took = began.elapsed().as_millis();
    let sum = Opened::of(core, count);
    if sum.checked + sum.journaled == 0 {
        tracing::info!(core = core.index.0, "{count} partitions opened in {took} ms");
    } else {
        tracing::info!(
            core = core.index.0,
            "{count} partitions opened in {took} ms: {} checked, {} of them from a recovery point on, {} bytes read, {} \
             spared, {} cut off; {} bytes of {} partitions filed from the journals",
            sum.checked,
            sum.pointed,
            sum.scanned_bytes,
            sum.spared_bytes,
            sum.cut_bytes,
            sum.journaled_bytes,
            sum.journaled,
        );
    }
    Ok(())
}

/// What opening the partitions of a core took together.
#[derive(Default)]
struct Opened {
    /// Partitions that are open or have failed.
    done: usize,
    /// Partitions that were checked, those of them with a recovery point, and those of which the journals held
    /// something.
    checked: usize,
    pointed: usize,
    journaled: usize,
    scanned_bytes: u64,
    spared_bytes: u64,
    cut_bytes: u64,
    journaled_bytes: u64,
}

impl Opened {
    /// So far, of `wanted` partitions.
    fn of(core: &Core, wanted: usize) -> Opened {
        let slots = core.partitions.slots.borrow();
        let opening = slots.values().filter(|slot| matches!(slot, Slot::Opening)).count();
        let mut sum = Opened { done: wanted.saturating_sub(opening), ..Opened::default() };
        for slot in slots.values() {
            let Slot::Open(partition) = slot else { continue };
            let recovery = partition.recovery();
            sum.checked += usize::from(recovery.checked);
            sum.pointed += usize::from(recovery.checked && recovery.point > Offset::ZERO);
            let filed = if partition.unfiled().is_none() { recovery.journaled_bytes } else { 0 };
            sum.journaled += usize::from(filed > 0);
            sum.scanned_bytes += recovery.scanned_bytes;
            sum.spared_bytes += recovery.spared_bytes;
            sum.cut_bytes += recovery.cut_bytes;
            sum.journaled_bytes += filed;
        }
        sum
    }
}

/// Makes true what a change of the metadata says.
pub async fn follow(core: &Rc<Core>, delta: &Delta) {
    let image = core.image();
    let mut removals = Vec::new();
    for topic in &delta.deleted {
        for partition in topic.partitions.keys() {
            if let Some(Slot::Open(partition)) = core.partitions.take(topic.id, *partition) {
                removals.push(partition);
            }
        }
    }
    core.cleaning.forget(core.dirs(), delta.deleted.iter().map(|topic| topic.id));
    for partition in removals {
        delete(partition).await;
        task::yield_if_needed().await;
    }
    let mut jobs = Vec::new();
    for topic in delta.created.iter().filter_map(|id| image.topic_by_id(*id)) {
        jobs.extend(owned(core, topic, topic.partitions.keys().copied()));
    }
    for (topic_id, partition) in &delta.added_partitions {
        if let Some(topic) = image.topic_by_id(*topic_id) {
            jobs.extend(owned(core, topic, [*partition]));
        }
    }
    open(core, jobs).await;
    if delta.configs.iter().any(|resource| resource.kind == ResourceType::BROKER) {
        core.refresh_config();
        // They are the defaults of every topic.
        for topic in core.image().topics() {
            update_config(core, topic).await;
        }
    } else {
        for resource in delta.configs.iter().filter(|r| r.kind == ResourceType::TOPIC) {
            if let Some(topic) = image.topic(&resource.name) {
                update_config(core, topic).await;
            }
        }
    }
}

/// Takes a topic's options, as they are now, into use.
async fn update_config(core: &Core, topic: &Topic) {
    let config = core.partitions.config_of(&core.image(), topic);
    let producer_id_expiration_ms = i64::from(core.config().producer_id_expiration_ms);
    for partition in topic.partitions.keys() {
        if let Place::Here(partition) = core.locate(topic.id, *partition) {
            partition.update_config(Rc::clone(&config));
            partition.set_producer_id_expiration(producer_id_expiration_ms);
        }
        task::yield_if_needed().await;
    }
}

/// Ends a partition. Its directory has another name when this returns, so that the
/// topic's name is free again; its files go in the background.
async fn delete(partition: Rc<Partition>) {
    let suffix: String = crate::runtime::random_bytes().iter().map(|b| format!("{b:02x}")).collect();
    match partition.delete(&suffix).await {
        Ok(None) => {}
        Ok(Some(_)) => task::spawn(Queue::Upkeep, "remove a partition", OnPanic::EndTask, async move {
            if let Err(error) = partition.remove_dir().await {
                // The next start removes it.
                tracing::warn!(partition = %partition.id(), %error, "remove the files of a deleted partition");
            }
        }),
        Err(error) => tracing::error!(partition = %partition.id(), %error, "delete a partition"),
    }
}

/// A partition to open.
struct Job {
    dir: DirIndex,
    /// The log start that was known when the process started.
    start_offset: Offset,
    topic: Rc<Topic>,
    partition: i32,
    leader_epoch: LeaderEpoch,
    config: Rc<TopicConfig>,
}

/// The partitions of a topic that this core owns, out of those given.
fn owned(core: &Core, topic: &Rc<Topic>, partitions: impl IntoIterator<Item = i32>) -> Vec<Job> {
    let mut config = None;
    let mut jobs = Vec::new();
    for number in partitions.into_iter().filter(|number| core.placement.core_of(topic.id, *number) == core.index) {
        let Some(state) = topic.partitions.get(&number) else { continue };
        let dir = match usable_dir(core, state) {
            Ok(dir) => dir,
            Err((reason, dir)) => {
                tracing::warn!(partition = %format_args!("{}-{number}", topic.name), "it is offline: {reason}");
                core.partitions.set(topic.id, number, Slot::Failed(reason.into(), dir));
                continue;
            }
        };
        let config = config.get_or_insert_with(|| core.partitions.config_of(&core.image(), topic));
        jobs.push(Job {
            dir,
            start_offset: Offset::ZERO,
            topic: Rc::clone(topic),
            partition: number,
            leader_epoch: state.leader_epoch,
            config: Rc::clone(config),
        });
    }
    jobs
}

/// The directory that the metadata has a partition in; or why it cannot be used, and which it is.
fn usable_dir(core: &Core, state: &PartitionState) -> Result<DirIndex, (String, Option<DirIndex>)> {
    let Some(index) = core.dir_of(state) else {
        let id = state.directory_of(core.started_with.node_id).map_or("none".to_string(), |id| id.to_string());
        return Err((format!("its directory, of id {id}, is none of log.dirs, or cannot be used"), None));
    };
    let dir = core.dirs().get(index);
    match dir.offline() {
        Some(reason) => Err((format!("{} cannot be used: {reason}", dir.path().display()), Some(index))),
        None => Ok(index),
    }
}

/// Opens partitions, several at a time; returns when all are open or have failed.
async fn open(core: &Rc<Core>, jobs: Vec<Job>) {
    for job in &jobs {
        core.partitions.set(job.topic.id, job.partition, Slot::Opening);
    }
    let (count, workers) = (jobs.len(), jobs.len().min(OPEN_AT_ONCE));
    let jobs = Rc::new(RefCell::new(jobs));
    let mut ended = Vec::new();
    for _ in 0..workers {
        let (sender, receiver) = wait::once::<()>();
        ended.push(receiver);
        let (core, jobs) = (Rc::clone(core), Rc::clone(&jobs));
        task::spawn(Queue::Log, "open partitions", OnPanic::StopProcess, async move {
            let _done = sender;
            loop {
                let job = jobs.borrow_mut().pop();
                let Some(job) = job else { break };
                open_one(&core, job).await;
            }
        });
    }
    for mut end in ended {
        while clock::timeout(OPENING_TOLD_EVERY, &mut end).await.is_none() {
            let sum = Opened::of(core, count);
            tracing::info!(
                core = core.index.0,
                "{} of {count} partitions are open, {} bytes of them were read",
                sum.done,
                sum.scanned_bytes
            );
        }
    }
}

async fn open_one(core: &Rc<Core>, job: Job) {
    let id = TopicPartition { topic: Rc::clone(&job.topic.name), partition: job.partition };
    let data_dir = core.dirs().get(job.dir);
    let left = data_dir.left();
    if let Some(copy) = data_dir.copy_of((job.topic.id, job.partition)).filter(|copy| copy.is_alone) {
        // Begun anew it would be empty.
        let reason = format!(
            "only a copy in the making is there, {} in {}: the directory that it was being moved from is missing",
            copy.name,
            data_dir.path().display()
        );
        tracing::error!(partition = %id, "it stays offline: {reason}");
        core.partitions.set(job.topic.id, job.partition, Slot::Failed(reason.into(), Some(job.dir)));
        return;
    }
    // Once all cores have what was found nothing is left.
    let journaled = match left.replay.is_done() {
        true => Journaled::default(),
        false => left.replay.take(job.topic.id, job.partition, data_dir.path()),
    };
    let any_journaled = !journaled.is_empty();
    let options = PartitionOptions {
        dir: job.dir,
        journal: Some(Rc::clone(core.partitions.journal(job.dir))),
        journaled,
        leader_epoch: job.leader_epoch,
        start_offset: job.start_offset,
        recovery_point: left.recovery_points.get(&id.topic, id.partition),
        cleaned: cleaner::cleaned_before(core, job.dir, &id),
        unpointed: Some(Rc::clone(&core.partitions.unpointed)),
        name_is_durable: true,
        is_vital: is_internal(&id.topic),
        producer_id_expiration_ms: i64::from(core.config().producer_id_expiration_ms),
        ..PartitionOptions::new(Rc::clone(&job.config), Rc::clone(core.partitions.memory(job.dir)))
    };
    match open_with(core, &job, options.clone()).await {
        Ok(()) => {}
        Err(error) if error.is_full() => {
            tracing::warn!(partition = %id, %error, "open a partition; it is offline until there is space");
            core.partitions.set(job.topic.id, job.partition, Slot::Failed(error.to_string().into(), Some(job.dir)));
            let dir = job.dir;
            let mut wanting = core.partitions.drives[usize::from(dir.0)].wanting_space.borrow_mut();
            wanting.push_back(Rc::new(WantsSpace { job, options }));
            if wanting.len() == 1 {
                let task = open_when_there_is_space(Rc::clone(core), dir);
                task::spawn(Queue::Log, "wait for space", OnPanic::StopProcess, task);
            }
        }
        Err(error) => cannot_open(core, &job, &error, any_journaled),
    }
}

/// Opens a partition's files; the slot has it then.
async fn open_with(core: &Rc<Core>, job: &Job, options: PartitionOptions) -> Result<(), PartitionError> {
    let id = TopicPartition { topic: Rc::clone(&job.topic.name), partition: job.partition };
    let data_dir = core.dirs().get(job.dir);
    let dir = data_dir.path().join(id.to_string());
    // A partition that is new since the start has nothing to recover.
    let partition = Partition::open(&core.disk, &dir, id, job.topic.id, options, data_dir.left().clean).await?;
    // Deleted while it was being opened: the slot is gone.
    let still_wanted = core.partitions.slots.borrow().contains_key(&(job.topic.id, job.partition));
    if still_wanted {
        let slot = match data_dir.offline() {
            None => Slot::Open(partition),
            // Since a moment ago.
            Some(reason) => {
                partition.log().take_offline(reason);
                Slot::Failed(reason.into(), Some(job.dir))
            }
        };
        core.partitions.set(job.topic.id, job.partition, slot);
    } else {
        delete(partition).await;
    }
    Ok(())
}

fn cannot_open(core: &Core, job: &Job, error: &PartitionError, any_journaled: bool) {
    let id = TopicPartition { topic: Rc::clone(&job.topic.name), partition: job.partition };
    tracing::error!(partition = %id, %error, "open a partition; it stays offline, the others go on");
    if any_journaled {
        core.dirs().get(job.dir).left().replay.not_filed();
    }
    let reason: Rc<str> = error.to_string().into();
    core.partitions.set(job.topic.id, job.partition, Slot::Failed(Rc::clone(&reason), Some(job.dir)));
    // Perhaps it is not this partition alone.
    core.partitions.memory(job.dir).failures().note(Failure { reason, of_journal: false });
}

/// Opens the partitions of a directory that want space, one after the other.
async fn open_when_there_is_space(core: Rc<Core>, index: DirIndex) {
    let dir = core.dirs().get(index);
    let wanting = &core.partitions.drives[usize::from(index.0)].wanting_space;
    while !core.sleep_or_stop(FULL_RETRY).await && dir.is_online() {
        // A trial reads what a partition has: not again and again for nothing.
        if core.disk.space(dir.path()).await.is_ok_and(|space| space.free < OPENING_BYTES) {
            continue;
        }
        loop {
            let Some(first) = wanting.borrow().front().cloned() else { return };
            let WantsSpace { job, options } = &*first;
            match open_with(&core, job, options.clone()).await {
                Err(error) if error.is_full() => break,
                Err(error) => cannot_open(&core, job, &error, !options.journaled.is_empty()),
                Ok(()) => {
                    tracing::info!(partition = %format_args!("{}-{}", job.topic.name, job.partition), "it is open: there is space again");
                    // Its options may have changed meanwhile.
                    if let Some(topic) = core.image().topic_by_id(job.topic.id) {
                        update_config(&core, topic).await;
                        core.coordinators.opened_late(&core, topic, job.partition);
                    }
                }
            }
            wanting.borrow_mut().pop_front();
        }
    }
}

/// Ends all partitions of a directory that has failed.
pub fn take_offline(core: &Core, dir: DirIndex, reason: &str) {
    let mut ended = Vec::new();
    for slot in core.partitions.slots.borrow_mut().values_mut() {
        if let Slot::Open(partition) = slot
            && partition.dir() == dir
        {
            ended.push(Rc::clone(partition));
            *slot = Slot::Failed(reason.into(), Some(dir));
        }
    }
    for partition in ended {
        partition.log().take_offline(reason);
    }
}

/// Closes all partitions so that the next start needs no recovery. Gives in which directories all could be, and tells
/// those in which not.
pub async fn close_all(core: &Rc<Core>) -> Vec<bool> {
    task::reinforce_helpers(OPEN_AT_ONCE - 1);
    let partitions = Rc::new(RefCell::new(core.partitions.open()));
    let mut clean: Vec<bool> = core.dirs().all().map(|(_, dir)| dir.is_online()).collect();
    for slot in core.partitions.slots.borrow().values() {
        if let Slot::Failed(_, Some(dir)) = slot {
            clean[usize::from(dir.0)] = false;
        }
    }
    let clean = Rc::new(RefCell::new(clean));
    let mut ended = Vec::new();
    for _ in 0..OPEN_AT_ONCE {
        let (sender, receiver) = wait::once::<()>();
        ended.push(receiver);
        let (partitions, clean) = (Rc::clone(&partitions), Rc::clone(&clean));
        task::spawn(Queue::Log, "close partitions", OnPanic::StopProcess, async move {
            let _done = sender;
            loop {
                let next = partitions.borrow_mut().pop();
                let Some(partition) = next else { break };
                if let Err(error) = partition.close_cleanly().await {
                    tracing::error!(partition = %partition.id(), %error, "close a partition");
                    clean.borrow_mut()[usize::from(partition.dir().0)] = false;
                }
            }
        });
    }
    for end in ended {
        let _ = end.await;
    }
    let clean = clean.borrow().clone();
    for ((_, dir), clean) in core.dirs().all().zip(&clean) {
        if !clean {
            dir.not_clean();
        }
    }
    clean
}
