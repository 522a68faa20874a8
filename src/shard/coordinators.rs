//! The driver of this core's group coordinators: one per partition of
//! `__consumer_offsets` that the core owns.
//!
//! A coordinator itself is a pure state machine ([`crate::coordinator::group`]). Here are
//! its clock, its log, its timer, and those who wait for its answers. Its records are
//! appended to its own partition, on this core; an answer leaves when they are committed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Core;
use super::partitions::Place;
use crate::base::wait::{self, Sender, Signal};
use crate::base::{CoreIndex, DirIndex, Offset, Uuid, java};
use crate::config::BrokerConfig;
use crate::coordinator::group::*;
use crate::metadata::{Delta, image::Topic};
use crate::partition::{Acks, Partition, ProduceError};
use crate::record::{BatchBuilder, BatchView, ControlType, NewRecord, RecordFault, Scratch};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// The topic that holds groups and their offsets (`Topic.GROUP_METADATA_TOPIC_NAME`).
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// `Topic.INTERNAL_TOPICS`.
const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// Whether a topic belongs to the broker itself.
pub fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

/// All group coordinators of one core.
pub struct Coordinators {
    options: GroupOptions,
    /// By partition of the offsets topic.
    groups: RefCell<BTreeMap<i32, Rc<Groups>>>,
    timer: Rc<Timer>,
}

/// The core's one timer for all its coordinators.
struct Timer {
    /// What coordinators count their time from.
    began: Instant,
    /// When the timer task wakes; `None`: not before it is told.
    wakes: Cell<Option<Duration>>,
    moved: Signal,
}

/// The groups of one partition of the offsets topic.
pub struct Groups {
    partition: Rc<Partition>,
    coordinator: RefCell<GroupCoordinator>,
    waiting: RefCell<HashMap<Token, Sender<Answer>>>,
    tokens: Cell<u64>,
    /// Writes that have their place in the log, or never will, in order.
    writes: RefCell<VecDeque<(WriteId, Result<Offset, AppendFailure>)>>,
    /// Whether a task is working them off.
    completing: Cell<bool>,
    /// The partition is not led here any more.
    ended: Cell<bool>,
    timer: Rc<Timer>,
}

/// Where a group is coordinated, seen from one core.
pub enum GroupPlace {
    Here(Rc<Groups>),
    There(CoreIndex),
    /// There is no offsets topic, or its partition cannot be used.
    Nowhere,
}

/// A group as ListGroups tells it; may cross cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    pub state: GroupState,
}

impl Coordinators {
    pub fn new(config: &BrokerConfig) -> Coordinators {
        Coordinators { options: GroupOptions::from_config(config), groups: RefCell::default(), timer: Timer::new() }
    }

    /// Begins to load every coordinator this core owns. They answer that they are loading
    /// until they have read their partitions.
    pub async fn load_all(&self, core: &Rc<Core>) {
        task::spawn(Queue::Network, TIMERS, OnPanic::StopProcess, run_timers(Rc::clone(core)));
        if let Some(topic) = core.image().topic(OFFSETS_TOPIC) {
            self.load(core, topic, topic.partitions.keys().copied());
        }
    }

    /// Makes true what a change of the metadata says. The partitions have followed it.
    pub async fn follow(&self, core: &Rc<Core>, delta: &Delta) {
        for topic in &delta.deleted {
            let groups: Vec<(i32, Rc<Groups>)> =
                self.groups.borrow().iter().map(|(partition, groups)| (*partition, Rc::clone(groups))).collect();
            for (partition, groups) in groups {
                if groups.partition.topic_id() == topic.id {
                    self.groups.borrow_mut().remove(&partition);
                    groups.unload();
                } else if &*topic.name != OFFSETS_TOPIC {
                    groups.handle(Event::TopicDeleted(Rc::clone(&topic.name)));
                }
            }
        }
        let image = core.image();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return };
        if delta.created.contains(&topic.id) {
            self.load(core, topic, topic.partitions.keys().copied());
        }
        let added = delta.added_partitions.iter().filter(|(of, _)| *of == topic.id);
        self.load(core, topic, added.map(|(_, partition)| *partition));
    }

    /// A partition of this core could not be opened when the others were, and is open now.
    pub fn opened_late(&self, core: &Rc<Core>, topic: &Topic, partition: i32) {
        if &*topic.name == OFFSETS_TOPIC {
            self.load(core, topic, [partition].into_iter());
        }
    }

    /// A data directory has failed: what is coordinated in it ends.
    pub fn dir_failed(&self, dir: DirIndex) {
        let mut failed: Vec<Rc<Groups>> = Vec::new();
        self.groups.borrow_mut().retain(|_, groups| {
            let stays = groups.partition.dir() != dir;
            if !stays {
                failed.push(Rc::clone(groups));
            }
            stays
        });
        failed.iter().for_each(Groups::unload);
    }

    fn load(&self, core: &Rc<Core>, topic: &Topic, partitions: impl Iterator<Item = i32>) {
        for index in partitions {
            // Those of other cores, and those whose files cannot be used, have no coordinator here.
            let Place::Here(partition) = core.locate(topic.id, index) else { continue };
            if self.groups.borrow().contains_key(&index) {
                continue;
            }
            let groups = Groups::new(partition, self.options.clone(), Rc::clone(&self.timer));
            self.groups.borrow_mut().insert(index, Rc::clone(&groups));
            task::spawn(Queue::Log, "load groups", OnPanic::StopProcess, async move { groups.load().await });
        }
    }

    /// The groups of this core's partitions.
    ///
    /// # Errors
    /// A coordinator is still loading.
    pub fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let mut all = Vec::new();
        for groups in self.groups.borrow().values() {
            match groups.coordinator.borrow().list() {
                Ok(listed) => all.extend(listed.map(|group| ListedGroup {
                    group: group.group.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    state: group.state,
                })),
                Err(GroupError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Ends all coordinators: whoever waits is sent away, and what was appended is
    /// committed when this returns.
    pub async fn stop(&self) {
        let groups = std::mem::take(&mut *self.groups.borrow_mut());
        for groups in groups.values() {
            groups.unload();
        }
        self.timer.moved.raise();
        task::all_ended(TIMERS).await;
        task::all_ended(WRITES).await;
    }
}

/// Names of the tasks that [`Coordinators::stop`] waits for.
const TIMERS: &str = "coordinator timers";
const WRITES: &str = "coordinator writes";

impl Core {
    /// Where a group is coordinated. The real number of partitions counts, not the option.
    pub fn group_place(&self, group: &str) -> GroupPlace {
        let image = self.image();
        let Some(topic) = image.topic(OFFSETS_TOPIC) else { return GroupPlace::Nowhere };
        let partition = java::partition_for(group, topic.partitions.len() as i32);
        match self.placement.core_of(topic.id, partition) {
            owner if owner != self.index => GroupPlace::There(owner),
            _ => match self.coordinators.groups.borrow().get(&partition) {
                Some(groups) => GroupPlace::Here(Rc::clone(groups)),
                None => GroupPlace::Nowhere,
            },
        }
    }

    /// The core that coordinates a group, when there is an offsets topic; within, `None` when nobody leads
    /// the group's partition of it.
    pub fn group_owner(&self, group: &str) -> Option<Option<CoreIndex>> {
        let image = self.image();
        let topic = image.topic(OFFSETS_TOPIC)?;
        let partition = java::partition_for(group, topic.partitions.len() as i32);
        let is_led = topic.partitions.get(&partition).is_some_and(|state| state.leader.is_some());
        Some(is_led.then(|| self.placement.core_of(topic.id, partition)))
    }

    /// The id of a topic, if it exists: offsets are committed for that one, not for a
    /// later topic of the same name.
    pub fn topic_id(&self, name: &str) -> Uuid {
        self.image().topic(name).map_or(Uuid::ZERO, |topic| topic.id)
    }
}

/// Ticks each coordinator when its time has come, until the process stops.
async fn run_timers(core: Rc<Core>) {
    let timer = Rc::clone(&core.coordinators.timer);
    while !core.stop().is_raised() {
        let now = timer.began.elapsed();
        let groups: Vec<Rc<Groups>> = core.coordinators.groups.borrow().values().cloned().collect();
        let mut next: Option<Duration> = None;
        for groups in groups {
            if groups.deadline().is_some_and(|at| at <= now) {
                groups.handle(Event::Tick);
                task::yield_if_needed().await;
            }
            next = [next, groups.deadline()].into_iter().flatten().min();
        }
        timer.wakes.set(next);
        let moved = timer.moved.wait();
        match next {
            Some(at) => _ = clock::timeout(at.saturating_sub(timer.began.elapsed()), moved).await,
            None => moved.await,
        }
    }
}

impl Timer {
    fn new() -> Rc<Timer> {
        Rc::new(Timer { began: clock::now(), wakes: Cell::new(None), moved: Signal::new() })
    }
}

impl Groups {
    fn new(partition: Rc<Partition>, options: GroupOptions, timer: Rc<Timer>) -> Rc<Groups> {
        Rc::new(Groups {
            partition,
            coordinator: RefCell::new(GroupCoordinator::new(options)),
            waiting: RefCell::default(),
            tokens: Cell::new(0),
            writes: RefCell::default(),
            completing: Cell::new(false),
            ended: Cell::new(false),
            timer,
        })
    }

    fn deadline(&self) -> Option<Duration> {
        self.coordinator.borrow().next_deadline()
    }

    fn now(&self) -> Now {
        Now { unix: clock::unix_ms(), monotonic: self.timer.began.elapsed() }
    }

    // ---- loading and ending ----

    async fn load(self: Rc<Groups>) {
        let began = clock::now();
        let log = self.partition.log();
        let (mut scratch, mut batches) = (Scratch::new(), 0u64);
        let replayed = log.replay(log.start_offset(), |batch| {
            batches += 1;
            if let Err(error) = self.replay(&batch, &mut scratch) {
                tracing::warn!(partition = %self.partition.id(), offset = batch.base_offset().0, %error, "a batch of group records is skipped");
            }
        });
        if let Err(error) = replayed.await {
            // Serving without what could not be read would give groups wrong offsets.
            tracing::error!(partition = %self.partition.id(), %error, "groups could not be loaded; the other partitions go on");
            return self.unload();
        }
        if self.ended.get() {
            return;
        }
        let effects = self.coordinator.borrow_mut().loaded(self.now());
        self.apply(effects);
        let others = self.coordinator.borrow().records_of_others();
        if others > 0 {
            tracing::info!(
                partition = %self.partition.id(),
                "{others} records are of groups of the consumer, share or streams protocol, which Kafka left; they are kept, and their \
                 members have to use the classic protocol here"
            );
        }
        if batches > 0 {
            tracing::info!(partition = %self.partition.id(), "groups loaded from {batches} batches in {} ms", began.elapsed().as_millis());
        }
    }

    fn replay(&self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<(), RecordFault> {
        let mut coordinator = self.coordinator.borrow_mut();
        let mut records = batch.records(scratch)?;
        while let Some(record) = records.next()? {
            let (key, producer_id) = (record.key.unwrap_or_default(), batch.producer_id());
            let replayed = if batch.is_control() {
                if let Some(kind @ (ControlType::Commit | ControlType::Abort)) = ControlType::from_key(key) {
                    coordinator.replay_marker(producer_id, kind == ControlType::Commit);
                }
                Ok(())
            } else if batch.is_transactional() {
                coordinator.replay_transactional(producer_id, key, record.value)
            } else {
                coordinator.replay(key, record.value)
            };
            if let Err(error) = replayed {
                tracing::warn!(partition = %self.partition.id(), offset = record.offset, %error, "a group record is skipped");
            }
        }
        Ok(())
    }

    /// Whoever waits, and whoever comes later, is sent away.
    fn unload(self: &Rc<Self>) {
        self.ended.set(true);
        let effects = self.coordinator.borrow_mut().unload(self.now());
        self.apply(effects);
    }

    // ---- events and effects ----

    fn handle(self: &Rc<Self>, event: Event) {
        let effects = self.coordinator.borrow_mut().handle(event, self.now());
        self.apply(effects);
    }

    fn apply(self: &Rc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(token, answer) => {
                    if let Some(sender) = self.waiting.borrow_mut().remove(&token) {
                        sender.send(answer);
                    }
                }
                Effect::Append { write, records } => {
                    let placed = self.append(&records);
                    self.writes.borrow_mut().push_back((write, placed));
                    if !self.completing.replace(true) {
                        let groups = Rc::clone(self);
                        task::spawn(Queue::Network, WRITES, OnPanic::StopProcess, groups.complete_writes());
                    }
                }
            }
        }
        let earlier = match (self.deadline(), self.timer.wakes.get()) {
            (Some(next), Some(wakes)) => next < wakes,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if earlier {
            self.timer.wakes.set(self.deadline());
            self.timer.moved.raise();
        }
    }

    /// Gives the records their place in the log; the offset of the last one.
    fn append(&self, records: &[Record]) -> Result<Offset, AppendFailure> {
        let timestamp = clock::unix_ms().0;
        // No producer, and yet sequence 0: the header that Kafka's coordinators write.
        let mut builder = BatchBuilder::new().producer(-1, -1, 0);
        for record in records {
            builder.push(NewRecord { timestamp, key: Some(&record.key), value: record.value.as_deref(), headers: &[] });
        }
        if builder.plain_size() > self.partition.log().config().max_message_bytes.max(0) as usize {
            return Err(AppendFailure::TooLarge);
        }
        self.partition.append(&builder.build(), None).map(|placed| placed.last_offset).map_err(failure)
    }

    /// Tells the coordinator what became of its writes, in order.
    async fn complete_writes(self: Rc<Groups>) {
        loop {
            let next = self.writes.borrow_mut().pop_front();
            let Some((write, placed)) = next else {
                self.completing.set(false);
                return;
            };
            let result = match placed {
                Ok(last) => self.partition.acknowledged(last, Acks::All).await.map_err(failure),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = result {
                tracing::warn!(partition = %self.partition.id(), ?failure, "a group record was not stored");
            }
            self.handle(Event::Appended { write, result });
        }
    }

    /// Asks, and waits for the answer. `None`: the coordinator went away.
    async fn ask(self: &Rc<Self>, event: impl FnOnce(Token) -> Event) -> Option<Answer> {
        let token = Token(self.tokens.replace(self.tokens.get() + 1));
        let (sender, receiver) = wait::once();
        self.waiting.borrow_mut().insert(token, sender);
        self.handle(event(token));
        receiver.await.ok()
    }

    // ---- requests ----

    pub async fn join(self: &Rc<Self>, request: JoinRequest) -> Result<Joined, JoinRefused> {
        let member_id = Rc::from(request.member_id.as_str());
        match self.ask(|token| Event::Join(token, request)).await {
            Some(Answer::Join(result)) => result,
            _ => Err(JoinRefused { error: GroupError::NotCoordinator, member_id }),
        }
    }

    pub async fn sync(self: &Rc<Self>, request: SyncRequest) -> Result<Synced, GroupError> {
        match self.ask(|token| Event::Sync(token, request)).await {
            Some(Answer::Sync(result)) => result,
            _ => Err(GroupError::NotCoordinator),
        }
    }

    pub async fn heartbeat(self: &Rc<Self>, request: HeartbeatRequest) -> Result<(), GroupError> {
        match self.ask(|token| Event::Heartbeat(token, request)).await {
            Some(Answer::Heartbeat(result)) => result,
            _ => Err(GroupError::NotCoordinator),
        }
    }

    pub async fn leave(self: &Rc<Self>, request: LeaveRequest) -> Result<Vec<LeftMember>, GroupError> {
        match self.ask(|token| Event::Leave(token, request)).await {
            Some(Answer::Leave(result)) => result,
            _ => Err(GroupError::NotCoordinator),
        }
    }

    pub async fn commit_offsets(self: &Rc<Self>, request: CommitRequest) -> Result<PartitionResults, GroupError> {
        match self.ask(|token| Event::CommitOffsets(token, request)).await {
            Some(Answer::CommitOffsets(result)) => result,
            _ => Err(GroupError::NotCoordinator),
        }
    }

    pub async fn fetch_offsets(self: &Rc<Self>, request: FetchRequest) -> Result<Vec<FetchedTopic>, GroupError> {
        match self.ask(|token| Event::FetchOffsets(token, request)).await {
            Some(Answer::FetchOffsets(result)) => result,
            _ => Err(GroupError::NotCoordinator),
        }
    }

    pub async fn delete_groups(self: &Rc<Self>, groups: Vec<String>) -> Vec<(String, Result<(), GroupError>)> {
        let gone = groups.iter().map(|group| (group.clone(), Err(GroupError::NotCoordinator))).collect();
        match self.ask(|token| Event::DeleteGroups(token, groups)).await {
            Some(Answer::DeleteGroups(results)) => results,
            _ => gone,
        }
    }

    pub fn describe(&self, group: &str) -> Result<GroupDescription, GroupError> {
        self.coordinator.borrow().describe(group)
    }
}

fn failure(error: ProduceError) -> AppendFailure {
    match error {
        ProduceError::TooLarge { .. } => AppendFailure::TooLarge,
        ProduceError::DiskFull(_) | ProduceError::Behind(_) => AppendFailure::Unavailable,
        // Coordinators are no idempotent producers: a fault of one cannot be.
        ProduceError::Producer(_) | ProduceError::Offline(_) | ProduceError::Gone(_) => AppendFailure::Offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TopicPartition;
    use crate::config::TopicConfig;
    use crate::log::TailMemory;
    use crate::partition::PartitionOptions;
    use crate::runtime::disk::simulated::{Fault, SimulatedDisk, Verb, When};
    use crate::runtime::run_one;
    use std::path::Path;

    /// A disk with an empty data directory, as a start finds it.
    async fn formatted() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.disk().create_dir_all(Path::new("/data")).await.expect("an empty disk");
        disk.disk().sync_dir(Path::new("/")).await.expect("an empty disk");
        disk
    }

    /// The coordinator of one partition on a simulated disk, loaded. `None`: the disk
    /// failed on the way.
    async fn open(disk: &SimulatedDisk) -> Option<Rc<Groups>> {
        let id = TopicPartition { topic: OFFSETS_TOPIC.into(), partition: 0 };
        let options = PartitionOptions::new(Rc::new(TopicConfig::default()), TailMemory::new(1 << 20));
        let dir = Path::new("/data/__consumer_offsets-0");
        let opened = Partition::open(&disk.disk(), dir, id, Uuid([7; 16]), options, false).await;
        let groups = Groups::new(opened.ok()?, GroupOptions::default(), Timer::new());
        Rc::clone(&groups).load().await;
        let loaded = groups.coordinator.borrow().is_active();
        loaded.then_some(groups)
    }

    async fn commit(groups: &Rc<Groups>, group: &str, offset: i64) -> Result<PartitionResults, GroupError> {
        let partition = CommitPartition { partition: 0, offset, leader_epoch: -1, metadata: None };
        let request = CommitRequest {
            group: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            retention_time_ms: -1,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![partition] }],
        };
        groups.commit_offsets(request).await
    }

    async fn committed(groups: &Rc<Groups>, group: &str) -> Option<i64> {
        let request = FetchRequest { group: group.into(), topics: None, require_stable: false };
        let topics = groups.fetch_offsets(request).await.expect("it is loaded");
        let offset = topics.first()?.partitions[0].result.as_ref().expect("no error");
        Some(offset.offset)
    }

    #[test]
    fn what_was_acknowledged_is_there_after_a_power_cut() {
        for seed in 0..40u64 {
            run_one(async move {
                let disk = formatted().await;
                let groups = open(&disk).await.expect("an empty disk");
                // Cut in the middle of one of the operations that the commits cause.
                disk.cut(When::operation(1 + seed));
                let mut acknowledged = [0; 3];
                'power: for offset in 1..200 {
                    for (n, known) in acknowledged.iter_mut().enumerate() {
                        match commit(&groups, &format!("g{n}"), offset).await {
                            Ok(_) => *known = offset,
                            Err(_) => break 'power,
                        }
                    }
                }
                assert!(disk.is_off(), "seed {seed}: the cut was not reached");
                let groups = open(&disk.reopen(seed)).await.expect("the disk after the cut");
                for (n, known) in acknowledged.into_iter().enumerate() {
                    let found = committed(&groups, &format!("g{n}")).await.unwrap_or(0);
                    // The one under way may have become durable.
                    assert!((known..=known + 1).contains(&found), "seed {seed}: {found} of g{n} after {known}");
                }
            });
        }
    }

    #[test]
    fn a_failed_flush_sends_clients_away() {
        run_one(async {
            let disk = formatted().await;
            let groups = open(&disk).await.expect("an empty disk");
            assert!(commit(&groups, "g", 1).await.is_ok());
            disk.fail(When::verb(Verb::Flush), Fault::Broken);
            assert_eq!(commit(&groups, "g", 2).await, Err(GroupError::NotCoordinator));
            // The log has ended; what it held before is still told.
            assert_eq!(commit(&groups, "g", 3).await, Err(GroupError::NotCoordinator));
            assert_eq!(committed(&groups, "g").await, Some(1));
        });
    }

    #[test]
    fn a_coordinator_that_cannot_read_its_partition_does_not_serve_it() {
        run_one(async {
            let disk = formatted().await;
            let groups = open(&disk).await.expect("an empty disk");
            assert!(commit(&groups, "g", 1).await.is_ok());
            groups.partition.close_cleanly().await.expect("a sound disk");
            let disk = disk.reopen(1);
            disk.fail(When::verb(Verb::Read).from_then_on(), Fault::Broken);
            assert!(open(&disk).await.is_none());
        });
    }

    #[test]
    fn unloading_answers_those_who_wait() {
        run_one(async {
            let disk = formatted().await;
            let groups = open(&disk).await.expect("an empty disk");
            let stall = disk.stall(When::verb(Verb::Flush));
            let waiting = commit(&groups, "g", 1);
            let unloading = async {
                stall.reached().await;
                groups.unload();
            };
            let (answer, ()) = futures_lite::future::zip(waiting, unloading).await;
            assert_eq!(answer, Err(GroupError::NotCoordinator));
            assert_eq!(commit(&groups, "g", 2).await, Err(GroupError::NotCoordinator));
            assert!(groups.waiting.borrow().is_empty());
            stall.release();
            task::all_ended(WRITES).await;
        });
    }
}
