//! A classic group: members, generation, rebalance (`ClassicGroup` and the classic
//! half of `GroupMetadataManager`).
//!
//! ```text
//!            join                 all joined, or time is up          leader's assignment stored
//!   Empty ─────────▶ PreparingRebalance ───────────▶ CompletingRebalance ───────────▶ Stable
//!     ▲                 │    ▲      ▲                       │                            │
//!     └── nobody left ──┘    │      └── join, leave, loss ──┘                            │
//!                            └───────── join, leave, loss ───────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::records::{self, Record};
use super::requests::*;
use super::timers::{TimerKey, Timers};
use super::writes::{OldSelf, Replacement, Then, ThenKind, Write, WriteId, Writes};
use super::{Effect, GroupOptions};
use crate::base::UnixMs;
use crate::record::stored::group::{GroupMetadataValue, MemberMetadata};

/// The protocol type of consumers: the only one whose subscription is understood.
const CONSUMER: &str = "consumer";

/// What a step may use and change beside the group itself.
pub(super) struct Context<'a> {
    pub now: Now,
    pub options: &'a GroupOptions,
    pub timers: &'a mut Timers,
    pub writes: &'a mut Writes,
    pub out: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.out.push(Effect::Answer(token, answer));
    }

    pub fn append(&mut self, records: Vec<Record>, write: Write) -> WriteId {
        let write = self.writes.add(write);
        self.out.push(Effect::Append { write, records });
        write
    }

    fn after_ms(&self, delay_ms: i32) -> Duration {
        self.now.monotonic + Duration::from_millis(delay_ms.max(0) as u64)
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub id: Rc<str>,
    /// Tells this group from a former or later one of the same id.
    pub incarnation: u64,
    state: GroupState,
    /// The state before; decides whether a rebalance is the group's first.
    previous: GroupState,
    /// When the state began; `None` for groups from records that do not tell.
    state_since: Option<UnixMs>,
    generation: i32,
    /// `None`: no member ever joined; the group only holds offsets.
    protocol_type: Option<Rc<str>>,
    /// The protocol all members of the generation use.
    protocol_name: Option<Rc<str>>,
    /// A member, present whenever there is one.
    leader: Option<Rc<str>>,
    members: BTreeMap<Rc<str>, Member>,
    /// Instance id to member id: exactly the members that have one.
    static_members: BTreeMap<Rc<str>, Rc<str>>,
    /// Ids given out (KIP-394) whose owners have not joined yet. No members.
    pending_join: BTreeSet<Rc<str>>,
    /// Members that have not sent SyncGroup for the generation.
    pending_sync: BTreeSet<Rc<str>>,
    /// How many members have `join` set.
    joining: usize,
    /// How many members support each protocol.
    supported: BTreeMap<String, usize>,
    /// The first rebalance waits for more members; set while it does.
    first_delay: Option<FirstDelay>,
    /// All topics that consumers subscribed to; `None` when that is not known.
    subscribed_topics: Option<BTreeSet<String>>,
    members_added: u64,
}

#[derive(Clone, Copy, Debug)]
struct FirstDelay {
    delay_ms: i32,
    remaining_ms: i32,
    /// A member came since the delay was last set, so it may be set again.
    member_added: bool,
}

impl Group {
    pub fn new(id: Rc<str>, incarnation: u64, now: Now) -> Group {
        Group {
            id,
            incarnation,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            state_since: Some(now.unix),
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            joining: 0,
            supported: BTreeMap::new(),
            first_delay: None,
            subscribed_topics: None,
            members_added: 0,
        }
    }

    /// The group as its record tells it: Empty or Stable, nobody waiting.
    pub fn from_record(id: Rc<str>, incarnation: u64, record: GroupMetadataValue) -> Group {
        let mut group = Group::new(id, incarnation, Now { unix: UnixMs::NONE, monotonic: Duration::ZERO });
        group.state_since = Some(UnixMs(record.current_state_timestamp)).filter(|at| at.0 >= 0);
        group.generation = record.generation;
        group.protocol_type = Some(record.protocol_type.as_str()).filter(|text| !text.is_empty()).map(Rc::from);
        group.protocol_name = record.protocol.as_deref().map(Rc::from);
        if !record.members.is_empty() {
            group.state = GroupState::Stable;
            group.previous = GroupState::CompletingRebalance;
        }
        for member in record.members {
            let timeout =
                if member.rebalance_timeout == -1 { member.session_timeout } else { member.rebalance_timeout };
            let protocol =
                Protocol { name: record.protocol.clone().unwrap_or_default(), metadata: member.subscription };
            group.add(Member {
                id: member.member_id.into(),
                instance_id: member.group_instance_id.map(Rc::from),
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: timeout,
                session_timeout_ms: member.session_timeout,
                protocols: vec![protocol],
                assignment: member.assignment,
                join: None,
                sync: None,
                is_new: false,
                order: 0,
            });
        }
        group.leader = record.leader.map(Rc::from).filter(|leader| group.members.contains_key(leader)).or(group.leader);
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    // ---- what is asked from outside ----

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn state_since(&self) -> Option<UnixMs> {
        self.state_since
    }

    pub fn is_empty(&self) -> bool {
        self.state == GroupState::Empty
    }

    /// Whether somebody is about to join: the group must not be removed under them.
    pub fn is_awaited(&self) -> bool {
        !self.pending_join.is_empty()
    }

    /// Whether only offsets were ever kept here.
    pub fn is_simple(&self) -> bool {
        self.protocol_type.is_none()
    }

    fn is_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether the subscription of consumers is known.
    pub fn knows_subscription(&self) -> bool {
        self.is_consumers() && self.subscribed_topics.is_some()
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumers(),
        }
    }

    pub fn describe(&self) -> GroupDescription {
        let protocol = self.protocol_name.clone().filter(|_| self.state == GroupState::Stable);
        let members = self.members.values().map(|member| MemberDescription {
            member_id: Rc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.as_deref().and_then(|name| member.metadata(name)).cloned().unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        GroupDescription {
            group: Rc::clone(&self.id),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: protocol.unwrap_or_default(),
        }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group: Rc::clone(&self.id),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
        }
    }

    /// `ClassicGroup.validateOffsetCommit`.
    pub fn check_commit(&self, request: &CommitRequest) -> Result<(), GroupError> {
        // An administrator, or a consumer that manages its partitions itself.
        if request.generation < 0 && self.is_empty() {
            return Ok(());
        }
        if request.generation < 0 && request.member_id.is_empty() && request.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        // The member knows the generation from its join, but has no partitions of it yet.
        if self.state == GroupState::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit keeps its member's session alive.
    pub fn committed(&self, member_id: &str, cx: &mut Context<'_>) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance)
            && let Some(member) = self.members.get(member_id)
        {
            self.expect_heartbeat(member, member.session_timeout_ms, cx);
        }
    }

    // ---- JoinGroup ----

    /// `token` is answered now, or when the generation it joins begins.
    pub fn join(&mut self, token: Token, request: JoinRequest, cx: &mut Context<'_>) {
        if !self.accepts(&request.member_id, cx.options) {
            // Kafka drops the member that found no room (`acceptJoiningMember`).
            self.remove(&request.member_id, GroupError::GroupMaxSizeReached, cx);
            refuse_join(token, GroupError::GroupMaxSizeReached, "", cx);
            // It may have been the one that the others waited for.
            self.complete_join_if_ready(cx);
            return;
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse_join(token, GroupError::InconsistentGroupProtocol, &request.member_id, cx);
        }
        if request.member_id.is_empty() {
            self.join_new(token, request, cx)
        } else {
            self.join_known(token, request, cx)
        }
    }

    fn accepts(&self, member_id: &str, options: &GroupOptions) -> bool {
        let known = self.members.get(member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            // Counting those that joined lets the last to rejoin go when the bound was lowered.
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.join.is_some()) || self.joining < options.group_max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < options.group_max_size
            }
        }
    }

    fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |p: &Protocol| self.supported.get(&p.name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(by_all)
    }

    fn join_new(&mut self, token: Token, request: JoinRequest, cx: &mut Context<'_>) {
        let new_id: Rc<str> = member_id(request.instance_id.as_deref().unwrap_or(&request.client_id), request.random);
        if let Some(instance_id) = request.instance_id.as_deref() {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(token, request, &old_id, new_id, cx),
                None => self.add_joining(token, request, new_id, cx),
            };
        }
        if !request.requires_known_member_id {
            return self.add_joining(token, request, new_id, cx);
        }
        // An id that is given out takes memory too; Kafka bounds those by their timeout alone.
        if self.pending_join.len() >= cx.options.pending_members_max {
            return refuse_join(token, GroupError::GroupMaxSizeReached, "", cx);
        }
        // KIP-394: a client that gave up on the answer leaves an id behind here, not a member.
        self.pending_join.insert(Rc::clone(&new_id));
        let key = TimerKey::Session { group: Rc::clone(&self.id), member: Rc::clone(&new_id) };
        cx.timers.set(key, cx.after_ms(request.session_timeout_ms));
        refuse_join(token, GroupError::MemberIdRequired, &new_id, cx);
    }

    fn join_known(&mut self, token: Token, request: JoinRequest, cx: &mut Context<'_>) {
        let id = request.member_id.as_str();
        if let Some(id) = self.pending_join.get(id).cloned() {
            // Ids are only pending for dynamic members.
            if request.instance_id.is_some() {
                return refuse_join(token, GroupError::UnknownMemberId, &id, cx);
            }
            return self.add_joining(token, request, id, cx);
        }
        if let Err(error) = self.check_member(id, request.instance_id.as_deref()) {
            return refuse_join(token, error, id, cx);
        }
        let member = &self.members[id];
        let unchanged = member.protocols == request.protocols;
        match self.state {
            // It did not get the answer to its join, and asks again.
            GroupState::CompletingRebalance if unchanged => self.tell_generation(token, id, cx),
            // A follower with nothing new learns the generation and goes on to SyncGroup; a
            // leader that joins again wants new assignments.
            GroupState::Stable if unchanged && self.leader.as_deref() != Some(id) => {
                self.tell_generation(token, id, cx)
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                let id = Rc::clone(&member.id);
                self.update_joining(token, request, &id, cx);
                self.rebalance_or_complete_join(cx);
            }
            GroupState::Empty | GroupState::Dead => refuse_join(token, GroupError::UnknownMemberId, id, cx),
        }
    }

    fn tell_generation(&self, token: Token, id: &str, cx: &mut Context<'_>) {
        if let Some(joined) = self.joined(id, self.leader.as_deref() == Some(id)) {
            cx.answer(token, Answer::Join(Ok(joined)));
        }
    }

    /// What a member learns of the generation.
    fn joined(&self, id: &str, with_members: bool) -> Option<Joined> {
        let member = self.members.get(id)?;
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = if with_members { Some(self.members.values()) } else { None };
        let listed = members.into_iter().flatten().map(|m| JoinedMember {
            member_id: Rc::clone(&m.id),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol).cloned().unwrap_or_default(),
        });
        Some(Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: Rc::clone(&member.id),
            members: listed.collect(),
        })
    }

    fn add_joining(&mut self, token: Token, request: JoinRequest, id: Rc<str>, cx: &mut Context<'_>) {
        if let Some(delay) = &mut self.first_delay {
            delay.member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.into());
        }
        self.add(Member {
            id: Rc::clone(&id),
            instance_id: request.instance_id.map(Rc::from),
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            join: Some(token),
            sync: None,
            is_new: true,
            order: 0,
        });
        // A new member cannot send heartbeats while its join waits, nor is a lost connection
        // noticed: after this time it has to ask again, so that dead ones do not pile up.
        let member = &self.members[&id];
        self.expect_heartbeat(member, cx.options.new_member_join_timeout_ms, cx);
        self.rebalance_or_complete_join(cx);
    }

    fn add(&mut self, mut member: Member) {
        self.members_added += 1;
        member.order = self.members_added;
        self.pending_join.remove(&member.id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Rc::clone(instance_id), Rc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Rc::clone(&member.id));
        }
        self.joining += usize::from(member.join.is_some());
        count_protocols(&mut self.supported, &member.protocols);
        self.members.insert(Rc::clone(&member.id), member);
    }

    /// A member asks again, perhaps with other protocols; an earlier ask of the same
    /// member is over.
    fn update_joining(&mut self, token: Token, request: JoinRequest, id: &str, cx: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        uncount_protocols(&mut self.supported, &member.protocols);
        member.protocols = request.protocols;
        count_protocols(&mut self.supported, &member.protocols);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        match member.join.replace(token) {
            None => self.joining += 1,
            Some(former) => refuse_join(former, GroupError::RebalanceInProgress, id, cx),
        }
    }

    /// KIP-345: a static member comes back without its member id.
    fn replace_static(
        &mut self,
        token: Token,
        request: JoinRequest,
        old_id: &Rc<str>,
        new_id: Rc<str>,
        cx: &mut Context<'_>,
    ) {
        let leader = self.leader.clone().unwrap_or_default();
        self.rename(old_id, &new_id, GroupError::FencedInstanceId, cx);
        let Some(member) = self.members.get(&new_id) else { return };
        let old = OldSelf {
            member_id: Rc::clone(old_id),
            leader,
            protocols: member.protocols.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
        };
        let skip_assignment = request.supports_skipping_assignment;
        self.update_joining(token, request, &new_id, cx);
        let member = &self.members[&new_id];
        self.expect_heartbeat(member, member.session_timeout_ms, cx);
        match self.state {
            // Nothing changes for the others: store who the member is now, and go on.
            GroupState::Stable if self.select_protocol().as_deref() == self.protocol_name.as_deref() => {
                let record = self.record(None);
                let generation = self.generation;
                let replacement = Replacement { generation, token, new_member_id: new_id, old, skip_assignment };
                let then = self.then(ThenKind::Replaced(replacement));
                cx.append(vec![record], Write { then, ..Write::default() });
            }
            GroupState::Stable => {
                self.rebalance_or_complete_join(cx);
            }
            // The leader may have been told of the old member id already; what it assigns to
            // that would never reach the new one.
            GroupState::CompletingRebalance => {
                self.prepare_rebalance(cx);
            }
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {
                self.complete_join_if_ready(cx);
            }
        }
    }

    /// Gives a static member another id; whoever waits under the old one is answered `error`.
    fn rename(&mut self, old_id: &Rc<str>, new_id: &Rc<str>, error: GroupError, cx: &mut Context<'_>) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        self.joining -= usize::from(member.join.is_some());
        dismiss(&mut member, error, old_id, cx);
        cx.timers.cancel(&self.session_key(old_id));
        self.pending_sync.remove(old_id);
        member.id = Rc::clone(new_id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Rc::clone(instance_id), Rc::clone(new_id));
        }
        if self.leader.as_ref() == Some(old_id) {
            self.leader = Some(Rc::clone(new_id));
        }
        self.members.insert(Rc::clone(new_id), member);
    }

    /// The write of [`ThenKind::Replaced`] is done.
    pub fn replaced(&mut self, write: Replacement, result: Result<(), GroupError>, cx: &mut Context<'_>) {
        let Replacement { generation, token, new_member_id, old, skip_assignment } = write;
        // When a rebalance began meanwhile, the ask has become a part of it, and the next
        // assignment stores the member. Taking it back then, as Kafka does on failure, would
        // give the member an id that the leader was not told: its assignment would be lost.
        let waits = self.members.get(&new_member_id).is_some_and(|member| member.join == Some(token));
        if !waits || self.state != GroupState::Stable || self.generation != generation {
            return;
        }
        let id = match result {
            Ok(()) => {
                let is_leader = self.leader.as_ref() == Some(&new_member_id);
                let Some(mut joined) = self.joined(&new_member_id, skip_assignment && is_leader) else { return };
                if skip_assignment {
                    joined.skip_assignment = is_leader;
                } else {
                    // An older client that is told it leads would compute an assignment nobody
                    // asked for; it is shown the leader's old id.
                    joined.leader = old.leader;
                }
                self.complete_join_of(&new_member_id, Ok(joined), cx);
                new_member_id
            }
            Err(error) => {
                self.complete_join_of(&new_member_id, Err(JoinRefused { error, member_id: "".into() }), cx);
                self.rename(&new_member_id, &old.member_id, error, cx);
                if let Some(member) = self.members.get_mut(&old.member_id) {
                    uncount_protocols(&mut self.supported, &member.protocols);
                    member.protocols = old.protocols;
                    count_protocols(&mut self.supported, &member.protocols);
                    member.rebalance_timeout_ms = old.rebalance_timeout_ms;
                    member.session_timeout_ms = old.session_timeout_ms;
                }
                old.member_id
            }
        };
        let member = &self.members[&id];
        self.expect_heartbeat(member, member.session_timeout_ms, cx);
    }

    // ---- rebalance ----

    fn rebalance_or_complete_join(&mut self, cx: &mut Context<'_>) -> Option<WriteId> {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance | GroupState::Empty => self.prepare_rebalance(cx),
            GroupState::PreparingRebalance | GroupState::Dead => self.complete_join_if_ready(cx),
        }
    }

    /// Asks all members to join again.
    pub fn prepare_rebalance(&mut self, cx: &mut Context<'_>) -> Option<WriteId> {
        if self.state == GroupState::CompletingRebalance {
            self.answer_syncs(Err(GroupError::RebalanceInProgress), cx);
        }
        self.pending_sync.clear();
        cx.timers.cancel(&self.sync_key());
        let first = self.is_empty();
        self.enter(GroupState::PreparingRebalance, cx.now);
        if first {
            // A new group: more members are probably being started (KIP-134).
            let delay_ms = cx.options.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.first_delay = Some(FirstDelay { delay_ms, remaining_ms, member_added: false });
            cx.timers.set(self.join_key(), cx.after_ms(delay_ms));
            return None;
        }
        if self.all_joined() {
            return self.complete_join(cx);
        }
        cx.timers.set(self.join_key(), cx.after_ms(self.rebalance_timeout_ms()));
        None
    }

    fn complete_join_if_ready(&mut self, cx: &mut Context<'_>) -> Option<WriteId> {
        let first = self.previous == GroupState::Empty;
        if self.state == GroupState::PreparingRebalance && !first && self.all_joined() {
            return self.complete_join(cx);
        }
        None
    }

    /// The deadline of the join phase, or of its first delay, has come.
    pub fn join_time_is_up(&mut self, cx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        match &mut self.first_delay {
            Some(delay) if delay.member_added && delay.remaining_ms > 0 => {
                let next_ms = cx.options.initial_rebalance_delay_ms.min(delay.remaining_ms);
                let remaining_ms = (delay.remaining_ms - delay.delay_ms).max(0);
                *delay = FirstDelay { delay_ms: next_ms, remaining_ms, member_added: false };
                cx.timers.set(self.join_key(), cx.after_ms(next_ms));
            }
            _ => {
                self.complete_join(cx);
            }
        }
    }

    /// The join phase ends: whoever has joined is the next generation.
    fn complete_join(&mut self, cx: &mut Context<'_>) -> Option<WriteId> {
        cx.timers.cancel(&self.join_key());
        self.first_delay = None;
        // Static members keep their place until their session ends.
        let late = |member: &&Member| member.join.is_none() && member.instance_id.is_none();
        let late: Vec<Rc<str>> = self.members.values().filter(late).map(|member| Rc::clone(&member.id)).collect();
        for id in late {
            self.remove(&id, GroupError::UnknownMemberId, cx);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, and none of them is here: sessions will end, or one comes.
            cx.timers.set(self.join_key(), cx.after_ms(self.rebalance_timeout_ms()));
            return None;
        }
        self.generation = self.generation.wrapping_add(1).max(0);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.enter(GroupState::Empty, cx.now);
            // If this write fails the log still has the former generation; its members are
            // gone and time out after a restart.
            return Some(cx.append(vec![self.record(None)], Write::default()));
        }
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.enter(GroupState::CompletingRebalance, cx.now);
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(joined) = self.joined(&id, self.leader.as_ref() == Some(&id)) {
                self.complete_join_of(&id, Ok(joined), cx);
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            let member = &self.members[&id];
            self.expect_heartbeat(member, member.session_timeout_ms, cx);
            self.pending_sync.insert(id);
        }
        cx.timers.set(self.sync_key(), cx.after_ms(self.rebalance_timeout_ms()));
        None
    }

    /// The leader stays if it has joined, else the longest-standing member that has
    /// follows it. False: nobody has joined.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &Rc<str>| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().filter(|member| member.join.is_some());
        let Some(next) = joined.min_by_key(|member| member.order) else { return false };
        self.leader = Some(Rc::clone(&next.id));
        true
    }

    /// Each member votes for the first of its protocols that all support; most votes
    /// win, and among equals the first by name.
    fn select_protocol(&self) -> Option<Rc<str>> {
        let common = self.supported.iter().filter(|(_, count)| **count == self.members.len());
        let candidates: BTreeSet<&str> = common.map(|(name, _)| name.as_str()).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(name).or_default() += 1;
        }
        let best = votes.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0)));
        best.map(|(name, _)| Rc::from(name))
    }

    // ---- SyncGroup ----

    /// `token` is answered now, or when the assignment is stored.
    pub fn sync(&mut self, token: Token, request: SyncRequest, cx: &mut Context<'_>) {
        if let Err(error) = self.check_sync(&request) {
            return cx.answer(token, Answer::Sync(Err(error)));
        }
        let id = Rc::clone(&self.members[request.member_id.as_str()].id);
        self.pending_sync.remove(&id);
        if self.pending_sync.is_empty() {
            cx.timers.cancel(&self.sync_key());
        }
        if self.state == GroupState::Stable {
            return cx.answer(token, Answer::Sync(Ok(self.synced(&self.members[&id]))));
        }
        if let Some(member) = self.members.get_mut(&id)
            && let Some(former) = member.sync.replace(token)
        {
            cx.answer(former, Answer::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.leader.as_ref() == Some(&id) {
            let mut given: BTreeMap<String, Bytes> = request.assignments.into_iter().collect();
            let assignments: BTreeMap<Rc<str>, Bytes> =
                self.members.keys().map(|id| (Rc::clone(id), given.remove(&**id).unwrap_or_default())).collect();
            let record = self.record(Some(&assignments));
            let then = self.then(ThenKind::Assigned { generation: self.generation, assignments });
            cx.append(vec![record], Write { then, ..Write::default() });
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.is_empty() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<String>, ours: &Option<Rc<str>>| {
            said.as_deref().zip(ours.as_deref()).is_some_and(|(said, ours)| said != ours)
        };
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// The write of [`ThenKind::Assigned`] is done. Another rebalance may have begun
    /// meanwhile; then it is of no consequence.
    pub fn assigned(
        &mut self,
        generation: i32,
        mut assignments: BTreeMap<Rc<str>, Bytes>,
        result: Result<(), GroupError>,
        cx: &mut Context<'_>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                for member in self.members.values_mut() {
                    member.assignment = assignments.remove(&member.id).unwrap_or_default();
                }
                self.answer_syncs(Ok(()), cx);
                self.enter(GroupState::Stable, cx.now);
            }
            Err(error) => {
                self.answer_syncs(Err(error), cx);
                self.rebalance_or_complete_join(cx);
            }
        }
    }

    /// Answers all that wait for their assignment; an error also takes assignments back.
    fn answer_syncs(&mut self, result: Result<(), GroupError>, cx: &mut Context<'_>) {
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            if result.is_err() {
                member.assignment = Bytes::new();
            }
            waiting.extend(member.sync.take().map(|token| (token, Rc::clone(&member.id))));
        }
        for (token, id) in waiting {
            let member = &self.members[&id];
            cx.answer(token, Answer::Sync(result.map(|()| self.synced(member))));
            // While it waited its session could not end, so no deadline may be set any more.
            self.expect_heartbeat(member, member.session_timeout_ms, cx);
        }
    }

    fn synced(&self, member: &Member) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member.assignment.clone(),
        }
    }

    /// The deadline for SyncGroup has come: who did not send one leaves the group.
    pub fn sync_time_is_up(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove(&id, GroupError::UnknownMemberId, cx);
        }
        self.prepare_rebalance(cx);
    }

    // ---- Heartbeat, LeaveGroup, loss ----

    pub fn heartbeat(&mut self, request: &HeartbeatRequest, cx: &mut Context<'_>) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let member = &self.members[request.member_id.as_str()];
        self.expect_heartbeat(member, member.session_timeout_ms, cx);
        if self.state == GroupState::PreparingRebalance { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }

    /// The write, if there is one, has to be durable before the leaving is answered.
    pub fn leave(&mut self, leaving: Vec<LeavingMember>, cx: &mut Context<'_>) -> (Vec<LeftMember>, Option<WriteId>) {
        let mut left = Vec::with_capacity(leaving.len());
        for LeavingMember { member_id, instance_id } in leaving {
            let result = self.leave_one(&member_id, instance_id.as_deref(), cx);
            left.push(LeftMember { member_id, instance_id, result });
        }
        let anybody = left.iter().any(|member| member.result.is_ok());
        let write = if anybody && !self.is_empty() { self.rebalance_or_complete_join(cx) } else { None };
        (left, write)
    }

    fn leave_one(&mut self, id: &str, instance_id: Option<&str>, cx: &mut Context<'_>) -> Result<(), GroupError> {
        // An administrator removes a static member by its instance id alone.
        let id: Rc<str> = if id.is_empty() {
            let of_instance = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            Rc::clone(of_instance.ok_or(GroupError::UnknownMemberId)?)
        } else if self.pending_join.contains(id) {
            id.into()
        } else {
            self.check_member(id, instance_id)?;
            id.into()
        };
        self.remove(&id, GroupError::UnknownMemberId, cx);
        Ok(())
    }

    /// A member, or one to be, was not heard of in time.
    pub fn session_time_is_up(&mut self, id: &Rc<str>, cx: &mut Context<'_>) {
        match self.members.get(id) {
            Some(member) if member.satisfies_heartbeat() => return,
            Some(_) => {
                self.remove(id, GroupError::UnknownMemberId, cx);
                if matches!(self.state, GroupState::Stable | GroupState::CompletingRebalance) {
                    self.prepare_rebalance(cx);
                    return;
                }
            }
            None => {
                self.pending_join.remove(id);
            }
        }
        if self.state == GroupState::PreparingRebalance && self.all_joined() {
            self.complete_join(cx);
        }
    }

    /// Takes a member, or one to be, out of the group; what it waits for is answered `error`.
    fn remove(&mut self, id: &str, error: GroupError, cx: &mut Context<'_>) {
        self.pending_sync.remove(id);
        if let Some(id) = self.pending_join.take(id) {
            cx.timers.cancel(&self.session_key(&id));
        }
        let Some(mut member) = self.members.remove(id) else { return };
        cx.timers.cancel(&self.session_key(&member.id));
        self.joining -= usize::from(member.join.is_some());
        uncount_protocols(&mut self.supported, &member.protocols);
        // With UnknownMemberId the client, if it still lives, joins again as a new member.
        dismiss(&mut member, error, "", cx);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.leader.as_ref() == Some(&member.id) {
            let next = self.members.values().min_by_key(|member| member.order);
            self.leader = next.map(|member| Rc::clone(&member.id));
        }
    }

    /// Ends the group: everybody who waits is answered `error`, all deadlines are off.
    pub fn end(&mut self, error: GroupError, cx: &mut Context<'_>) {
        let ids: Vec<Rc<str>> = self.members.keys().chain(&self.pending_join).cloned().collect();
        for id in ids {
            self.remove(&id, error, cx);
        }
        cx.timers.cancel(&self.join_key());
        cx.timers.cancel(&self.sync_key());
    }

    /// Fresh sessions for the members of a group that was read from the log.
    pub fn loaded(&mut self, cx: &mut Context<'_>) {
        for member in self.members.values() {
            self.expect_heartbeat(member, member.session_timeout_ms, cx);
        }
        // The bound may have been lowered meanwhile; the next generation keeps to it.
        if self.members.len() > cx.options.group_max_size {
            self.prepare_rebalance(cx);
        }
    }

    // ---- helpers ----

    /// `ClassicGroup.validateMember`.
    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(known) if &**known != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending_join.is_empty()
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn enter(&mut self, state: GroupState, now: Now) {
        self.previous = std::mem::replace(&mut self.state, state);
        self.state_since = Some(now.unix);
    }

    fn complete_join_of(&mut self, id: &str, answer: Result<Joined, JoinRefused>, cx: &mut Context<'_>) {
        if let Some(token) = self.members.get_mut(id).and_then(|member| member.join.take()) {
            self.joining -= 1;
            cx.answer(token, Answer::Join(answer));
        }
    }

    fn expect_heartbeat(&self, member: &Member, timeout_ms: i32, cx: &mut Context<'_>) {
        cx.timers.set(self.session_key(&member.id), cx.after_ms(timeout_ms));
    }

    fn session_key(&self, member: &Rc<str>) -> TimerKey {
        TimerKey::Session { group: Rc::clone(&self.id), member: Rc::clone(member) }
    }

    fn join_key(&self) -> TimerKey {
        TimerKey::Join { group: Rc::clone(&self.id) }
    }

    fn sync_key(&self) -> TimerKey {
        TimerKey::Sync { group: Rc::clone(&self.id) }
    }

    pub fn then(&self, kind: ThenKind) -> Option<Then> {
        Some(Then { group: Rc::clone(&self.id), incarnation: self.incarnation, kind })
    }

    /// The group's record, with these assignments or those the members have.
    pub fn record(&self, assignments: Option<&BTreeMap<Rc<str>, Bytes>>) -> Record {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(String::from),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(protocol).cloned().unwrap_or_default(),
            assignment: match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
            ..MemberMetadata::default()
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: self.generation,
            protocol: self.protocol_name.as_deref().map(String::from),
            leader: self.leader.as_deref().map(String::from),
            current_state_timestamp: self.state_since.map_or(-1, |at| at.0),
            members: members.collect(),
            ..GroupMetadataValue::default()
        };
        records::group_record(&self.id, Some(&value))
    }

    /// The record that makes a new group known before its first generation is.
    pub fn created_record(&self) -> Record {
        let value = GroupMetadataValue {
            protocol: None,
            leader: None,
            current_state_timestamp: self.state_since.map_or(-1, |at| at.0),
            ..GroupMetadataValue::default()
        };
        records::group_record(&self.id, Some(&value))
    }

    fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumers() {
            return None;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol_name.as_deref()?)?;
            all.extend(records::subscribed_topics(metadata)?);
        }
        Some(all)
    }

    #[cfg(test)]
    pub fn check_invariants(&self, timers: &Timers) {
        let members = self.members.values();
        assert_eq!(self.joining, members.clone().filter(|m| m.join.is_some()).count());
        assert!(self.leader.as_ref().is_none_or(|id| self.members.contains_key(id)));
        assert_eq!(self.leader.is_none(), self.members.is_empty());
        assert!(self.pending_join.iter().all(|id| !self.members.contains_key(id)));
        assert!(self.pending_sync.iter().all(|id| self.members.contains_key(id)));
        let of_instances: BTreeMap<_, _> =
            members.clone().filter_map(|m| Some((m.instance_id.clone()?, Rc::clone(&m.id)))).collect();
        assert_eq!(self.static_members, of_instances);
        assert_eq!(self.is_empty(), self.members.is_empty() && self.state == GroupState::Empty);
        for member in members {
            assert!(member.join.is_none() || self.state != GroupState::CompletingRebalance);
            assert!(member.sync.is_none() || self.state == GroupState::CompletingRebalance);
        }
        if self.state == GroupState::PreparingRebalance {
            assert!(timers.keys().any(|key| *key == self.join_key()), "a join phase without an end");
        }
        if !self.pending_sync.is_empty() {
            assert!(timers.keys().any(|key| *key == self.sync_key()), "a sync phase without an end");
        }
        // Every member will be noticed when it goes away: by its session, or because it is in
        // the way of the join or sync phase, which end.
        for member in self.members.values().filter(|m| m.join.is_none() && m.sync.is_none()) {
            assert!(timers.keys().any(|key| *key == self.session_key(&member.id)), "a member without a session");
        }
        for id in &self.pending_join {
            assert!(timers.keys().any(|key| *key == self.session_key(id)), "an id given out for ever");
        }
    }
}

fn refuse_join(token: Token, error: GroupError, member_id: &str, cx: &mut Context<'_>) {
    cx.answer(token, Answer::Join(Err(JoinRefused { error, member_id: member_id.into() })));
}

/// Answers what a member waits for.
fn dismiss(member: &mut Member, error: GroupError, told_id: &str, cx: &mut Context<'_>) {
    if let Some(token) = member.join.take() {
        refuse_join(token, error, told_id, cx);
    }
    if let Some(token) = member.sync.take() {
        cx.answer(token, Answer::Sync(Err(error)));
    }
}

fn count_protocols(supported: &mut BTreeMap<String, usize>, protocols: &[Protocol]) {
    for protocol in protocols {
        *supported.entry(protocol.name.clone()).or_default() += 1;
    }
}

fn uncount_protocols(supported: &mut BTreeMap<String, usize>, protocols: &[Protocol]) {
    for protocol in protocols {
        if let Some(count) = supported.get_mut(&protocol.name) {
            *count -= 1;
            if *count == 0 {
                supported.remove(&protocol.name);
            }
        }
    }
}

/// `prefix-UUID`, as Kafka makes member ids.
fn member_id(prefix: &str, mut random: [u8; 16]) -> Rc<str> {
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(random));
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("{prefix}-{a}-{b}-{c}-{d}-{e}").into()
}
