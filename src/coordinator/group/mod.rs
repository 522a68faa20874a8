//! The group coordinator of one partition of `__consumer_offsets`: classic groups
//! and committed offsets, as a pure state machine in virtual time.
//!
//! It behaves as Kafka 4.3's `GroupMetadataManager` and `OffsetMetadataManager` do for
//! classic groups, and writes their records byte for byte.
//!
//! # How to drive it
//!
//! One [`GroupCoordinator`] per partition of `__consumer_offsets` led by this core:
//!
//! 1. Make it with [`GroupCoordinator::new`]; until step 3 it answers every request with
//!    [`GroupError::CoordinatorLoadInProgress`].
//! 2. Read the partition from its start to its end and give every record to
//!    [`replay`](GroupCoordinator::replay) in order (those of transactional batches to
//!    [`replay_transactional`](GroupCoordinator::replay_transactional), markers to
//!    [`replay_marker`](GroupCoordinator::replay_marker)). An error concerns that record alone: log it, go on.
//! 3. Call [`loaded`](GroupCoordinator::loaded).
//! 4. For each request make a fresh [`Token`], keep what waits under it, and call
//!    [`handle`](GroupCoordinator::handle). Then, for every effect in order:
//!    * [`Effect::Answer`]: hand the answer to what waits under the token. Each token is
//!      answered exactly once, perhaps in the same call, perhaps much later.
//!    * [`Effect::Append`]: append `records` to the partition as **one batch**, in the order of the
//!      effects. When they are committed (or will never be) call `handle` with
//!      [`Event::Appended`]. Appended events have to come in the order of their append effects.
//! 5. Keep one timer at [`next_deadline`](GroupCoordinator::next_deadline) (it changes with every call), and call
//!    `handle` with [`Event::Tick`] when it has come. Early or late ticks do no harm.
//! 6. Tell it of deleted topics with [`Event::TopicDeleted`].
//! 7. When the partition is no longer led here: [`unload`](GroupCoordinator::unload); all that waits is answered.
//!
//! A client that goes away needs nothing: its answer is dropped by the caller, and its
//! session ends by time. Describing and listing are plain calls.

mod classic;
mod member;
#[cfg(test)]
mod offset_scenarios;
mod offsets;
mod records;
mod requests;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod talk;
mod timers;
mod writes;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

pub use records::{CommittedOffset, Record, RecordError};
pub use requests::*;
pub use writes::WriteId;

use crate::base::UnixMs;
use crate::base::limits::{GROUP_MEMBERS_MAX, GROUP_TOMBSTONES_PER_WRITE_MAX};
use crate::config::BrokerConfig;
use classic::{Context, Group};
use offsets::Offsets;
use timers::{TimerKey, Timers};
use writes::{OffsetKey, ThenKind, Write, Writes};

/// The broker options that concern groups; the defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// `group.max.size`
    pub group_max_size: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max_ms: i32,
    /// How long a new member may wait in its first JoinGroup (Kafka: fixed).
    pub new_member_join_timeout_ms: i32,
    /// Ids given out per group whose owners have not joined yet.
    pub pending_members_max: usize,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as Kafka does.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            group_max_size: GROUP_MEMBERS_MAX,
            initial_rebalance_delay_ms: 3_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            new_member_join_timeout_ms: 300_000,
            pending_members_max: GROUP_MEMBERS_MAX,
            offset_metadata_max: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_retention_check_interval: Duration::from_secs(600),
        }
    }
}

impl GroupOptions {
    pub fn from_config(config: &BrokerConfig) -> GroupOptions {
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
        let minutes = u64::try_from(config.offsets_retention_minutes).unwrap_or(0);
        let check_ms = u64::try_from(config.offsets_retention_check_interval_ms).unwrap_or(0);
        GroupOptions {
            group_max_size: size(config.group_max_size).min(GROUP_MEMBERS_MAX),
            initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
            session_timeout_min_ms: config.group_min_session_timeout_ms,
            session_timeout_max_ms: config.group_max_session_timeout_ms,
            offset_metadata_max: size(config.offset_metadata_max_bytes),
            offsets_retention: Duration::from_secs(minutes * 60),
            offsets_retention_check_interval: Duration::from_millis(check_ms.max(1)),
            ..GroupOptions::default()
        }
    }
}

/// What happens to a coordinator. All but the last three are requests.
#[derive(Debug)]
pub enum Event {
    Join(Token, JoinRequest),
    Sync(Token, SyncRequest),
    Heartbeat(Token, HeartbeatRequest),
    Leave(Token, LeaveRequest),
    CommitOffsets(Token, CommitRequest),
    FetchOffsets(Token, FetchRequest),
    DeleteOffsets(Token, DeleteOffsetsRequest),
    DeleteGroups(Token, Vec<String>),
    /// The records of an append effect are durable, or never will be.
    Appended {
        write: WriteId,
        result: Result<(), AppendFailure>,
    },
    /// All partitions of a topic are gone, and so are offsets committed for them.
    TopicDeleted(Rc<str>),
    /// Time has passed.
    Tick,
}

/// What the coordinator wants done.
#[derive(Debug)]
pub enum Effect {
    Answer(Token, Answer),
    /// One batch for the log; [`Event::Appended`] tells what became of it.
    Append {
        write: WriteId,
        records: Vec<Record>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Loading,
    Active,
    Unloaded,
}

#[derive(Debug)]
pub struct GroupCoordinator {
    options: GroupOptions,
    phase: Phase,
    groups: BTreeMap<Rc<str>, Group>,
    offsets: Offsets,
    timers: Timers,
    writes: Writes,
    incarnations: u64,
    /// Offsets of transactions that have not ended, by producer id, in log order; while
    /// loading only, as no transactions are served yet.
    in_transactions: BTreeMap<i64, Vec<(OffsetKey, Option<CommittedOffset>)>>,
    /// Records that were replayed and are of groups of other protocols.
    others: u64,
}

impl GroupCoordinator {
    pub fn new(options: GroupOptions) -> GroupCoordinator {
        GroupCoordinator {
            options,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            writes: Writes::default(),
            incarnations: 0,
            in_transactions: BTreeMap::new(),
            others: 0,
        }
    }

    // ---- loading ----

    /// Takes one record of the log, in order. Record types of other kinds of groups are skipped.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        match records::read(key, value)? {
            records::Entry::Offset { group, topic, partition, value } => {
                let key = OffsetKey { group: group.into(), topic: topic.into(), partition };
                self.replay_offset(&key, value);
            }
            records::Entry::Group { group, value: Some(value) } => {
                let group: Rc<str> = group.into();
                let incarnation = self.next_incarnation();
                self.groups.insert(Rc::clone(&group), Group::from_record(group, incarnation, value));
            }
            records::Entry::Group { group, value: None } => {
                self.groups.remove(group.as_str());
            }
            // They stay in the log, for a Kafka that has it again.
            records::Entry::Other(_) => self.others += 1,
        }
        Ok(())
    }

    /// Takes one record of a transactional batch; it counts when its transaction commits.
    pub fn replay_transactional(
        &mut self,
        producer_id: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RecordError> {
        if let records::Entry::Offset { group, topic, partition, value } = records::read(key, value)? {
            let key = OffsetKey { group: group.into(), topic: topic.into(), partition };
            self.in_transactions.entry(producer_id).or_default().push((key, value));
        }
        Ok(())
    }

    /// Takes the marker that ends a transaction.
    pub fn replay_marker(&mut self, producer_id: i64, commit: bool) {
        for (key, value) in self.in_transactions.remove(&producer_id).unwrap_or_default() {
            if commit {
                self.replay_offset(&key, value);
            }
        }
    }

    fn replay_offset(&mut self, key: &OffsetKey, value: Option<CommittedOffset>) {
        if let Some(value) = &value
            && !self.groups.contains_key(&key.group)
        {
            // A simple group: offsets, and no members ever.
            self.create(&key.group, Now { unix: value.commit_timestamp, monotonic: Duration::ZERO });
        }
        self.offsets.put(key, value);
    }

    /// Records that were replayed and belong to groups of protocols that are not served.
    pub fn records_of_others(&self) -> u64 {
        self.others
    }

    /// The log has been read: members get fresh sessions, requests are served.
    pub fn loaded(&mut self, now: Now) -> Vec<Effect> {
        self.phase = Phase::Active;
        self.timers.set(TimerKey::Expiry, now.monotonic + self.options.offsets_retention_check_interval);
        let mut out = Vec::new();
        let (groups, mut cx) = self.split(now, &mut out);
        for group in groups.values_mut() {
            group.loaded(&mut cx);
        }
        out
    }

    /// The partition is no longer led here. Everything that waits is answered
    /// [`GroupError::NotCoordinator`], and so is every later request.
    pub fn unload(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        let (groups, mut cx) = self.split(now, &mut out);
        for group in groups.values_mut() {
            group.end(GroupError::NotCoordinator, &mut cx);
        }
        for write in std::mem::take(&mut self.writes.in_flight).into_values() {
            let fetches = write.fetches.into_iter().map(|(token, _)| (token, Answer::FetchOffsets(Ok(Vec::new()))));
            for (token, answer) in write.answers.into_iter().chain(fetches) {
                out.push(Effect::Answer(token, answer.refused(GroupError::NotCoordinator)));
            }
        }
        self.phase = Phase::Unloaded;
        self.groups.clear();
        self.offsets = Offsets::default();
        self.timers.clear();
        out
    }

    /// Whether requests are served: neither loading nor unloaded.
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    // ---- events ----

    /// When the next [`Event::Tick`] is due, by the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Join(token, request) => self.join(token, request, now, &mut out),
            Event::Sync(token, request) => self.sync(token, request, now, &mut out),
            Event::Heartbeat(token, request) => {
                let result = self.heartbeat(&request, now, &mut out);
                out.push(Effect::Answer(token, Answer::Heartbeat(result)));
            }
            Event::Leave(token, request) => self.leave(token, request, now, &mut out),
            Event::CommitOffsets(token, request) => self.commit_offsets(token, request, now, &mut out),
            Event::FetchOffsets(token, request) => self.fetch_offsets(token, request, &mut out),
            Event::DeleteOffsets(token, request) => self.delete_offsets(token, request, now, &mut out),
            Event::DeleteGroups(token, groups) => self.delete_groups(token, groups, now, &mut out),
            Event::Appended { write, result } => self.appended(write, result, now, &mut out),
            Event::TopicDeleted(topic) => self.topic_deleted(&topic, now, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn join(&mut self, token: Token, mut request: JoinRequest, now: Now, out: &mut Vec<Effect>) {
        if let Err(error) = self.check_join(&request) {
            let member_id = request.member_id.as_str().into();
            return out.push(Effect::Answer(token, Answer::Join(Err(JoinRefused { error, member_id }))));
        }
        drop_repeated_names(&mut request.protocols);
        let is_new = !self.groups.contains_key(request.group.as_str());
        if is_new {
            // Only the first ask creates a group; a member id must come from one that existed.
            if !request.member_id.is_empty() {
                let refused = JoinRefused { error: GroupError::UnknownMemberId, member_id: request.member_id.into() };
                return out.push(Effect::Answer(token, Answer::Join(Err(refused))));
            }
            self.create(request.group.as_str(), now);
        }
        let id = request.group.clone();
        let made = self.writes.made();
        let Some((group, mut cx)) = self.group(&id, now, out) else { return };
        group.join(token, request, &mut cx);
        if is_new && cx.writes.made() == made {
            if group.is_empty() && !group.is_awaited() {
                self.groups.remove(id.as_str());
                return;
            }
            // So that the group exists after a restart, as its member id does for its client.
            let then = group.then(ThenKind::Created);
            cx.append(vec![group.created_record()], Write { then, ..Write::default() });
        }
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        self.check_group(&request.group)?;
        let bounds = self.options.session_timeout_min_ms..=self.options.session_timeout_max_ms;
        if !bounds.contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        // A member id is this text and 37 characters.
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let texts = [&request.client_host, &request.client_id, &request.protocol_type];
        let mut names = request.protocols.iter().map(|protocol| &protocol.name).chain(texts);
        if prefix.len() + 37 > records::STRING_BYTES_MAX || names.any(|text| text.len() > records::STRING_BYTES_MAX) {
            return Err(GroupError::InvalidRequest);
        }
        Ok(())
    }

    fn sync(&mut self, token: Token, request: SyncRequest, now: Now, out: &mut Vec<Effect>) {
        let error = match self.check_group(&request.group) {
            Err(error) => error,
            Ok(()) => match self.group(&request.group.clone(), now, out) {
                Some((group, mut cx)) => return group.sync(token, request, &mut cx),
                None => GroupError::UnknownMemberId,
            },
        };
        out.push(Effect::Answer(token, Answer::Sync(Err(error))));
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now, out: &mut Vec<Effect>) -> Result<(), GroupError> {
        match self.check_group(&request.group) {
            // The session starts afresh when loading is done, so let the member go on.
            Err(GroupError::CoordinatorLoadInProgress) => return Ok(()),
            checked => checked?,
        }
        let (group, mut cx) = self.group(&request.group, now, out).ok_or(GroupError::UnknownMemberId)?;
        group.heartbeat(request, &mut cx)
    }

    fn leave(&mut self, token: Token, request: LeaveRequest, now: Now, out: &mut Vec<Effect>) {
        if let Err(error) = self.check_group(&request.group) {
            return out.push(Effect::Answer(token, Answer::Leave(Err(error))));
        }
        let Some((group, mut cx)) = self.group(&request.group, now, out) else {
            let unknown = request.members.into_iter().map(|LeavingMember { member_id, instance_id }| LeftMember {
                member_id,
                instance_id,
                result: Err(GroupError::UnknownMemberId),
            });
            return out.push(Effect::Answer(token, Answer::Leave(Ok(unknown.collect()))));
        };
        let (left, write) = group.leave(request.members, &mut cx);
        self.answer_after(write, token, Answer::Leave(Ok(left)), out);
    }

    /// Answers when the write is durable; at once when there is none.
    fn answer_after(&mut self, write: Option<WriteId>, token: Token, answer: Answer, out: &mut Vec<Effect>) {
        match write.and_then(|write| self.writes.in_flight.get_mut(&write)) {
            Some(write) => write.answers.push((token, answer)),
            None => out.push(Effect::Answer(token, answer)),
        }
    }

    // ---- offsets ----

    fn commit_offsets(&mut self, token: Token, request: CommitRequest, now: Now, out: &mut Vec<Effect>) {
        let group = match self.check_commit(&request) {
            Ok(group) => group,
            Err(error) => return out.push(Effect::Answer(token, Answer::CommitOffsets(Err(error)))),
        };
        if let Some((group, mut cx)) = self.group(&group, now, out) {
            group.committed(&request.member_id, &mut cx);
        }
        let expire_timestamp =
            (request.retention_time_ms != -1).then(|| UnixMs(now.unix.0.saturating_add(request.retention_time_ms)));
        let mut results = PartitionResults::new();
        let mut changes = Vec::new();
        for topic in request.topics {
            let mut of_topic = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let metadata = asked.metadata.unwrap_or_default();
                if !self.metadata_fits(&metadata) {
                    of_topic.push((asked.partition, Err(GroupError::OffsetMetadataTooLarge)));
                    continue;
                }
                of_topic.push((asked.partition, Ok(())));
                let key =
                    OffsetKey { group: Rc::clone(&group), topic: Rc::clone(&topic.name), partition: asked.partition };
                let value = CommittedOffset {
                    offset: asked.offset,
                    leader_epoch: asked.leader_epoch,
                    metadata: metadata.into(),
                    commit_timestamp: now.unix,
                    expire_timestamp,
                    topic_id: topic.topic_id,
                };
                changes.push((key, Some(value)));
            }
            results.push((topic.name, of_topic));
        }
        if !changes.is_empty() && !self.groups.contains_key(&group) {
            // Somebody who manages partitions alone keeps offsets here: a simple group.
            self.create(&group, now);
        }
        let answer = Answer::CommitOffsets(Ok(results));
        if changes.is_empty() {
            return out.push(Effect::Answer(token, answer));
        }
        self.write_offsets(changes, Write { answers: vec![(token, answer)], ..Write::default() }, now, out);
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<Rc<str>, GroupError> {
        self.check_phase()?;
        let too_long = |text: &str| text.len() > records::STRING_BYTES_MAX;
        if too_long(&request.group) || request.topics.iter().any(|topic| too_long(&topic.name)) {
            return Err(GroupError::InvalidRequest);
        }
        match self.groups.get(request.group.as_str()) {
            Some(group) => group.check_commit(request).map(|()| Rc::clone(&group.id)),
            None if request.generation < 0 => Ok(request.group.as_str().into()),
            None if request.knows_group_id_not_found => Err(GroupError::GroupIdNotFound),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    fn metadata_fits(&self, metadata: &str) -> bool {
        let max = self.options.offset_metadata_max;
        // UTF-16 units are never more than UTF-8 bytes; records hold 32767 bytes of Kafka's
        // UTF-8, and 4 bytes are 2 units.
        metadata.len() <= records::STRING_BYTES_MAX && (metadata.len() <= max || metadata.encode_utf16().count() <= max)
    }

    /// Stages the changes and appends their records as one write.
    fn write_offsets(
        &mut self,
        changes: Vec<(OffsetKey, Option<CommittedOffset>)>,
        mut write: Write,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> WriteId {
        let record = |(key, value): &(OffsetKey, Option<CommittedOffset>)| {
            records::offset_record(&key.group, &key.topic, key.partition, value.as_ref())
        };
        let tombstones = write.deleted.iter().map(|group| records::group_record(&group.id, None));
        let records: Vec<Record> = changes.iter().map(record).chain(tombstones).collect();
        write.offsets = changes.iter().map(|(key, _)| key.clone()).collect();
        let id = self.split(now, out).1.append(records, write);
        for (key, value) in changes {
            self.offsets.stage(&key, id, value);
        }
        id
    }

    fn fetch_offsets(&mut self, token: Token, request: FetchRequest, out: &mut Vec<Effect>) {
        if let Err(error) = self.check_phase() {
            return out.push(Effect::Answer(token, Answer::FetchOffsets(Err(error))));
        }
        if request.require_stable
            && let Some(write) = self.writes.latest_of_group(&request.group)
        {
            return write.fetches.push((token, request));
        }
        let fetched = self.fetched(&request);
        out.push(Effect::Answer(token, Answer::FetchOffsets(Ok(fetched))));
    }

    fn fetched(&self, request: &FetchRequest) -> Vec<FetchedTopic> {
        let known = |offset: &CommittedOffset| FetchedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: Rc::clone(&offset.metadata),
        };
        let Some(topics) = &request.topics else {
            let mut all = Vec::new();
            for (name, slots) in self.offsets.of_group(&request.group).into_iter().flatten() {
                let durable = slots.iter().filter_map(|(partition, slot)| Some((*partition, slot.durable()?)));
                let partitions: Vec<_> = durable
                    .map(|(partition, offset)| FetchedPartition { partition, result: Ok(known(offset)) })
                    .collect();
                if !partitions.is_empty() {
                    all.push(FetchedTopic { name: Rc::clone(name), partitions });
                }
            }
            return all;
        };
        let nothing = || FetchedOffset { offset: -1, leader_epoch: -1, metadata: "".into() };
        let of_topic = |topic: &FetchTopic| {
            let fetched = |partition: &i32| {
                let slot = self.offsets.get(&request.group, &topic.name, *partition);
                // An offset of a deleted topic says nothing about a new one of that name.
                let same = |offset: &&CommittedOffset| {
                    offset.topic_id.is_zero() || topic.topic_id.is_zero() || offset.topic_id == topic.topic_id
                };
                let offset = slot.and_then(|slot| slot.durable()).filter(same).map_or_else(nothing, known);
                FetchedPartition { partition: *partition, result: Ok(offset) }
            };
            FetchedTopic { name: Rc::clone(&topic.name), partitions: topic.partitions.iter().map(fetched).collect() }
        };
        topics.iter().map(of_topic).collect()
    }

    /// `OffsetMetadataManager.deleteOffsets`.
    fn delete_offsets(&mut self, token: Token, request: DeleteOffsetsRequest, now: Now, out: &mut Vec<Effect>) {
        let checked = self.check_group(&request.group).and_then(|()| {
            let group = self.groups.get(request.group.as_str()).ok_or(GroupError::GroupIdNotFound)?;
            // Of other protocols than consumers' it cannot be known what they use.
            let may = group.is_empty() || group.knows_subscription();
            if may { Ok(group) } else { Err(GroupError::NonEmptyGroup) }
        });
        let group = match checked {
            Ok(group) => group,
            Err(error) => return out.push(Effect::Answer(token, Answer::DeleteOffsets(Err(error)))),
        };
        let mut results = PartitionResults::new();
        let mut changes = Vec::new();
        for (topic, partitions) in request.topics {
            let subscribed = group.is_subscribed_to(&topic);
            let mut of_topic = Vec::with_capacity(partitions.len());
            for partition in partitions {
                if subscribed {
                    of_topic.push((partition, Err(GroupError::GroupSubscribedToTopic)));
                    continue;
                }
                of_topic.push((partition, Ok(())));
                if self.offsets.get(&group.id, &topic, partition).is_some_and(|slot| slot.latest().is_some()) {
                    let key = OffsetKey { group: Rc::clone(&group.id), topic: Rc::clone(&topic), partition };
                    changes.push((key, None));
                }
            }
            results.push((topic, of_topic));
        }
        let write = self.delete_in_writes(changes, Vec::new(), now, out);
        self.answer_after(write, token, Answer::DeleteOffsets(Ok(results)), out);
    }

    /// `GroupCoordinatorShard.deleteGroups`.
    fn delete_groups(&mut self, token: Token, groups: Vec<String>, now: Now, out: &mut Vec<Effect>) {
        if let Err(error) = self.check_phase() {
            let refused = groups.into_iter().map(|group| (group, Err(error))).collect();
            return out.push(Effect::Answer(token, Answer::DeleteGroups(refused)));
        }
        let mut results = Vec::with_capacity(groups.len());
        let mut changes = Vec::new();
        let mut deleted = Vec::new();
        for id in groups {
            let result = match self.groups.get(id.as_str()) {
                None => Err(GroupError::GroupIdNotFound),
                Some(group) if !group.is_empty() => Err(GroupError::NonEmptyGroup),
                Some(_) => Ok(()),
            };
            if result.is_ok() {
                changes.extend(self.tombstones(&id));
                deleted.extend(self.take_group(&id, now, out));
            }
            results.push((id, result));
        }
        let write = self.delete_in_writes(changes, deleted, now, out);
        self.answer_after(write, token, Answer::DeleteGroups(results), out);
    }

    fn tombstones(&self, group: &str) -> Vec<(OffsetKey, Option<CommittedOffset>)> {
        let Some((group, _)) = self.groups.get_key_value(group) else { return Vec::new() };
        let latest = self.offsets.latest_of_group(group);
        let key = |(topic, partition, _): (&Rc<str>, i32, &CommittedOffset)| {
            (OffsetKey { group: Rc::clone(group), topic: Rc::clone(topic), partition }, None)
        };
        latest.map(key).collect()
    }

    /// Takes a group out of the living; those who only have an id have to ask again.
    fn take_group(&mut self, id: &str, now: Now, out: &mut Vec<Effect>) -> Option<Group> {
        let mut group = self.groups.remove(id)?;
        let (_, mut cx) = self.split(now, out);
        group.end(GroupError::UnknownMemberId, &mut cx);
        Some(group)
    }

    /// Deletes offsets, then groups, in writes of bounded size. Several writes are not
    /// atomic together: after a crash between them the rest is still there to be deleted.
    fn delete_in_writes(
        &mut self,
        mut changes: Vec<(OffsetKey, Option<CommittedOffset>)>,
        mut deleted: Vec<Group>,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Option<WriteId> {
        let mut last = None;
        while !changes.is_empty() || !deleted.is_empty() {
            let rest = changes.split_off(changes.len().min(GROUP_TOMBSTONES_PER_WRITE_MAX));
            let room = GROUP_TOMBSTONES_PER_WRITE_MAX - changes.len();
            // A group goes only when all offsets are gone or in the same write.
            let now_deleted = if rest.is_empty() { deleted.len().min(room) } else { 0 };
            let later = deleted.split_off(now_deleted);
            let write = Write { deleted: std::mem::replace(&mut deleted, later), ..Write::default() };
            last = Some(self.write_offsets(std::mem::replace(&mut changes, rest), write, now, out));
        }
        last
    }

    fn topic_deleted(&mut self, topic: &str, now: Now, out: &mut Vec<Effect>) {
        if self.phase == Phase::Active {
            let changes = self.offsets.latest_of_topic(topic).into_iter().map(|key| (key, None)).collect();
            self.delete_in_writes(changes, Vec::new(), now, out);
        }
    }

    // ---- completion and time ----

    fn appended(&mut self, id: WriteId, result: Result<(), AppendFailure>, now: Now, out: &mut Vec<Effect>) {
        // After unloading nothing is in flight any more.
        let Some(write) = self.writes.in_flight.remove(&id) else { return };
        debug_assert!(self.writes.in_flight.keys().all(|other| *other > id), "writes complete in order");
        let result = result.map_err(AppendFailure::error);
        for key in &write.offsets {
            self.offsets.settle(key, id, result.is_ok());
        }
        if result.is_err() {
            for group in write.deleted {
                // Unless a new one was made meanwhile.
                self.groups.entry(Rc::clone(&group.id)).or_insert(group);
            }
            for key in &write.offsets {
                self.forget_unless_used(&key.group);
            }
        }
        for (token, answer) in write.answers {
            let answer = match result {
                Ok(()) => answer,
                Err(error) => answer.refused(error),
            };
            out.push(Effect::Answer(token, answer));
        }
        for (token, request) in write.fetches {
            let fetched = self.fetched(&request);
            out.push(Effect::Answer(token, Answer::FetchOffsets(Ok(fetched))));
        }
        let Some(then) = write.then else { return };
        let Some((group, mut cx)) = self.group(&then.group, now, out) else { return };
        if group.incarnation != then.incarnation {
            return;
        }
        match then.kind {
            ThenKind::Assigned { generation, assignments } => group.assigned(generation, assignments, result, &mut cx),
            ThenKind::Replaced(replacement) => group.replaced(replacement, result, &mut cx),
            ThenKind::Created => {
                // A generation that has begun meanwhile will be stored by its own write.
                if let Err(error) = result
                    && group.generation() == 0
                {
                    group.end(error, &mut cx);
                    self.groups.remove(&then.group);
                }
            }
        }
    }

    /// Drops a simple group that came to be with a commit which failed.
    fn forget_unless_used(&mut self, group: &str) {
        let unused = |group: &Group| group.is_empty() && group.is_simple() && !group.is_awaited();
        if self.groups.get(group).is_some_and(unused) && self.offsets.of_group(group).is_none() {
            self.groups.remove(group);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(key) = self.timers.pop_due(now.monotonic) {
            let id = match &key {
                TimerKey::Expiry => {
                    self.expire(now, out);
                    self.timers.set(TimerKey::Expiry, now.monotonic + self.options.offsets_retention_check_interval);
                    continue;
                }
                TimerKey::Session { group, .. } | TimerKey::Join { group } | TimerKey::Sync { group } => group,
            };
            let Some((group, mut cx)) = self.group(id, now, out) else { continue };
            match &key {
                TimerKey::Session { member, .. } => group.session_time_is_up(member, &mut cx),
                TimerKey::Join { .. } => group.join_time_is_up(&mut cx),
                TimerKey::Sync { .. } => group.sync_time_is_up(&mut cx),
                TimerKey::Expiry => {}
            }
        }
    }

    /// Deletes offsets whose retention is over, then groups that have neither members nor
    /// offsets (KIP-211, `GroupCoordinatorShard.cleanupGroupMetadata`).
    fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut changes = Vec::new();
        let mut emptied = Vec::new();
        for (id, group) in &self.groups {
            let mut left = 0usize;
            for (topic, partition, offset) in self.offsets.latest_of_group(id) {
                if self.is_expired(group, topic, offset, now) {
                    let key = OffsetKey { group: Rc::clone(id), topic: Rc::clone(topic), partition };
                    changes.push((key, None));
                } else {
                    left += 1;
                }
            }
            if left == 0 && group.is_empty() && !group.is_awaited() {
                emptied.push(Rc::clone(id));
            }
        }
        let deleted = emptied.iter().filter_map(|id| self.take_group(id, now, out)).collect();
        self.delete_in_writes(changes, deleted, now, out);
    }

    fn is_expired(&self, group: &Group, topic: &str, offset: &CommittedOffset, now: Now) -> bool {
        // Counted from the commit for simple groups and for topics that a living group no longer
        // reads; from when the last member left for the others.
        let since = if group.is_simple() {
            Some(offset.commit_timestamp)
        } else if group.is_empty() {
            Some(group.state_since().unwrap_or(offset.commit_timestamp))
        } else if group.knows_subscription() && group.state() == GroupState::Stable {
            Some(offset.commit_timestamp)
        } else {
            None
        };
        let Some(since) = since.filter(|_| !group.is_subscribed_to(topic)) else { return false };
        match offset.expire_timestamp {
            Some(at) => now.unix >= at,
            None => now.unix.0.saturating_sub(since.0) >= self.options.offsets_retention.as_millis() as i64,
        }
    }

    // ---- looking ----

    /// What is known of a group.
    pub fn describe(&self, group: &str) -> Result<GroupDescription, GroupError> {
        self.check_phase()?;
        self.groups.get(group).map(Group::describe).ok_or(GroupError::GroupIdNotFound)
    }

    /// All groups, by id.
    pub fn list(&self) -> Result<impl Iterator<Item = GroupListing> + '_, GroupError> {
        self.check_phase()?;
        Ok(self.groups.values().map(Group::listing))
    }

    // ---- helpers ----

    fn check_phase(&self) -> Result<(), GroupError> {
        match self.phase {
            Phase::Loading => Err(GroupError::CoordinatorLoadInProgress),
            Phase::Active => Ok(()),
            Phase::Unloaded => Err(GroupError::NotCoordinator),
        }
    }

    /// Only the offset requests, and looking at groups, take the empty id: very old
    /// consumers committed under it.
    fn check_group(&self, group: &str) -> Result<(), GroupError> {
        if group.is_empty() || group.len() > records::STRING_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_phase()
    }

    fn create(&mut self, id: &str, now: Now) {
        let incarnation = self.next_incarnation();
        let id: Rc<str> = id.into();
        self.groups.insert(Rc::clone(&id), Group::new(id, incarnation, now));
    }

    fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    fn split<'a>(&'a mut self, now: Now, out: &'a mut Vec<Effect>) -> (&'a mut BTreeMap<Rc<str>, Group>, Context<'a>) {
        let GroupCoordinator { options, groups, timers, writes, .. } = self;
        (groups, Context { now, options, timers, writes, out })
    }

    fn group<'a>(&'a mut self, id: &str, now: Now, out: &'a mut Vec<Effect>) -> Option<(&'a mut Group, Context<'a>)> {
        let (groups, cx) = self.split(now, out);
        Some((groups.get_mut(id)?, cx))
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        for group in self.groups.values() {
            group.check_invariants(&self.timers);
        }
    }
}

/// Kafka keeps the first of several protocols of one name.
fn drop_repeated_names(protocols: &mut Vec<Protocol>) {
    let mut seen = std::collections::BTreeSet::new();
    protocols.retain(|protocol| seen.insert(protocol.name.clone()));
}
