//! Random clients, random loss, random time: many members of a few groups join,
//! sync, commit, fall silent and leave, while writes are slow or fail and the
//! coordinator crashes and is rebuilt from its log.
//!
//! What must hold, whatever the seed:
//! * every request is answered exactly once, none is left waiting for ever;
//! * generations of a group rise, and each has one leader;
//! * who syncs a generation gets what its leader assigned to it, always the same;
//! * a committed offset is never older than an acknowledged one, also after a crash;
//! * the state equals what a replay of the log gives;
//! * the invariants of [`super::classic::Group`], after every step.
//!
//! A failure prints its seed; `SEED=n cargo test coordinator::group::simulation` repeats that run alone,
//! `SEEDS=5000` makes a longer search.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::talk::at;
use super::*;
use crate::base::Uuid;

const GROUPS: [&str; 3] = ["g", "h", "i"];
const CLIENTS: usize = 12;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True `percent` times of a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Join,
    Sync,
    Member,
}

struct Client {
    name: String,
    group: usize,
    is_static: bool,
    member_id: String,
    generation: i32,
    /// The others, when this client leads its generation.
    assigns_to: Vec<String>,
    step: Step,
    /// What the client waits for; an answer to another token comes too late.
    waits: Option<Token>,
    wakes_ms: u64,
    metadata: u64,
}

/// Who asked, or nobody in particular.
#[derive(Clone, Debug)]
struct Asked {
    client: Option<usize>,
    /// Offsets a commit would set: group, partition, offset.
    commits: Vec<(usize, i32, i64)>,
    /// Least offsets a fetch has to show: group, partition, offset.
    shows: Vec<(usize, i32, i64)>,
}

struct InFlight {
    write: WriteId,
    records: Vec<Record>,
    done_ms: u64,
}

struct World {
    random: Random,
    coordinator: GroupCoordinator,
    options: GroupOptions,
    ms: u64,
    clients: Vec<Client>,
    tokens: u64,
    asked: BTreeMap<Token, Asked>,
    in_flight: VecDeque<InFlight>,
    log: Vec<Record>,
    offsets: i64,
    /// The highest acknowledged offset of each place; emptied when it may be deleted.
    acknowledged: BTreeMap<(usize, i32), i64>,
    /// Since the last crash: the highest generation anybody was told, and who leads each.
    generations: BTreeMap<usize, i32>,
    leaders: BTreeMap<(usize, i32), String>,
    /// What the leader of a generation last assigned, by [`World::lasting_id`].
    assigned: BTreeMap<(usize, i32), BTreeMap<String, Bytes>>,
    /// Counts what happened, so that a run that tests nothing is noticed.
    stable: u64,
    commits: u64,
    crashes: u64,
}

/// Member ids are `NAME-UUID`.
fn name_of(member_id: &str) -> &str {
    member_id.split('-').next().unwrap_or_default()
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let options = GroupOptions {
            group_max_size: if random.chance(20) { 3 } else { 100 },
            initial_rebalance_delay_ms: if random.chance(50) { 0 } else { 500 },
            session_timeout_min_ms: 1_000,
            new_member_join_timeout_ms: 20_000,
            pending_members_max: if random.chance(20) { 2 } else { 100 },
            // In most runs nothing may expire; in the others what does is told by its tombstones.
            offsets_retention: Duration::from_secs(if random.chance(25) { 40 } else { 3_600 }),
            offsets_retention_check_interval: Duration::from_secs(15),
            ..GroupOptions::default()
        };
        let clients = (0..CLIENTS).map(|n| Client {
            name: format!("c{n}"),
            group: n % GROUPS.len(),
            is_static: random.chance(40),
            member_id: String::new(),
            generation: -1,
            assigns_to: Vec::new(),
            step: Step::Join,
            waits: None,
            wakes_ms: random.below(5_000),
            metadata: 0,
        });
        let clients = clients.collect();
        let mut coordinator = GroupCoordinator::new(options.clone());
        coordinator.loaded(at(0));
        World {
            random,
            coordinator,
            options,
            ms: 0,
            clients,
            tokens: 0,
            asked: BTreeMap::new(),
            in_flight: VecDeque::new(),
            log: Vec::new(),
            offsets: 0,
            acknowledged: BTreeMap::new(),
            generations: BTreeMap::new(),
            leaders: BTreeMap::new(),
            assigned: BTreeMap::new(),
            stable: 0,
            commits: 0,
            crashes: 0,
        }
    }

    fn run(&mut self, until_ms: u64) {
        while self.ms < until_ms {
            let client = self.clients.iter().map(|client| client.wakes_ms).min();
            let write = self.in_flight.front().map(|write| write.done_ms);
            let deadline = self.coordinator.next_deadline().map(|at| at.as_millis() as u64);
            let next = [client, write, deadline].into_iter().flatten().min().unwrap_or(until_ms);
            self.ms = self.ms.max(next).min(until_ms);
            self.due();
            if self.random.chance(1) {
                self.somebody_else();
            }
        }
    }

    /// Everything whose time has come.
    fn due(&mut self) {
        if self.coordinator.next_deadline().is_some_and(|at| at.as_millis() as u64 <= self.ms) {
            self.event(Event::Tick);
        }
        while let Some(write) = self.in_flight.pop_front_if(|write| write.done_ms <= self.ms) {
            let result = match self.random.below(40) {
                0 => Err(AppendFailure::TooLarge),
                1 => Err(AppendFailure::Unavailable),
                2 => Err(AppendFailure::Offline),
                _ => Ok(()),
            };
            if result.is_ok() {
                self.log.extend(write.records);
            }
            self.event(Event::Appended { write: write.write, result });
        }
        for n in 0..self.clients.len() {
            if self.clients[n].wakes_ms <= self.ms {
                self.clients[n].wakes_ms = self.ms + 200 + self.random.below(2_000);
                self.act(n);
            }
        }
    }

    fn act(&mut self, n: usize) {
        if self.clients[n].waits.is_some() {
            // Now and then the client gives up on its request.
            if self.random.chance(5) {
                self.clients[n].waits = None;
                self.clients[n].step = Step::Join;
            }
            return;
        }
        match self.clients[n].step {
            Step::Join => self.join(n),
            // Sometimes nobody hears of it again for long.
            Step::Sync if self.random.chance(5) => self.clients[n].wakes_ms += 20_000,
            Step::Sync => self.sync(n),
            Step::Member => match self.random.below(100) {
                0..50 => {
                    let (group, generation, member_id, instance_id) = self.membership(n);
                    let request = HeartbeatRequest { group, generation, member_id, instance_id };
                    self.ask(Some(n), |token| Event::Heartbeat(token, request));
                }
                50..75 => self.commit(n),
                75..83 => {
                    self.clients[n].metadata += self.random.below(2);
                    self.join(n);
                }
                83..88 => {
                    let (group, _, member_id, instance_id) = self.membership(n);
                    let request = LeaveRequest { group, members: vec![LeavingMember { member_id, instance_id }] };
                    self.forget_membership(n);
                    self.ask(None, |token| Event::Leave(token, request));
                }
                // Gone without a word; comes back later as somebody who knows nothing.
                88..93 => {
                    self.forget_membership(n);
                    self.clients[n].wakes_ms += self.random.below(30_000);
                }
                _ => self.fetch(self.clients[n].group),
            },
        }
    }

    /// Administrators, and accidents.
    fn somebody_else(&mut self) {
        match self.random.below(12) {
            0 | 1 => self.crash(),
            2 => {
                let group = self.random.below(3) as usize;
                self.may_go(|of, _| of == group);
                self.ask(None, |token| Event::DeleteGroups(token, vec![GROUPS[group].into(), "none".into()]));
            }
            3 => {
                self.may_go(|_, _| true);
                self.event(Event::TopicDeleted("t".into()));
            }
            4 => {
                let (group, _, _, instance_id) = self.membership(self.clients.len() / 2);
                let members = vec![LeavingMember { member_id: String::new(), instance_id }];
                self.ask(None, |token| Event::Leave(token, LeaveRequest { group, members }));
            }
            5 => {
                let group = self.random.below(3) as usize;
                self.may_go(|of, _| of == group);
                let topics = vec![("t".into(), vec![0, 1])];
                let request = DeleteOffsetsRequest { group: GROUPS[group].into(), topics };
                self.ask(None, |token| Event::DeleteOffsets(token, request));
            }
            6 => {
                let group = self.random.below(3) as usize;
                self.commit_as(group, None, -1, String::new());
            }
            7 => self.event(Event::Tick),
            _ => self.fetch(self.random.0 as usize % 3),
        }
        for group in GROUPS {
            let _ = self.coordinator.describe(group);
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        // Some of what was in flight had reached the log.
        for write in std::mem::take(&mut self.in_flight) {
            if self.random.chance(30) {
                break;
            }
            self.log.extend(write.records);
        }
        self.asked.clear();
        self.generations.clear();
        self.leaders.clear();
        for client in &mut self.clients {
            client.waits = None;
            if client.step == Step::Sync {
                client.step = Step::Join;
            }
        }
        self.coordinator = self.replayed();
        let effects = self.coordinator.loaded(at(self.ms));
        self.take(effects);
        for group in 0..GROUPS.len() {
            self.fetch(group);
        }
    }

    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.options.clone());
        for record in &self.log {
            coordinator.replay(&record.key, record.value.as_deref()).expect("our own records");
        }
        coordinator
    }

    // ---- requests ----

    fn join(&mut self, n: usize) {
        let protocol = |name: &str, client: &Client| Protocol {
            name: name.into(),
            metadata: format!("{}/{}", client.name, client.metadata).into_bytes().into(),
        };
        let (metadata, requires_known_member_id) = (self.clients[n].metadata, !self.random.chance(20));
        let client = &self.clients[n];
        let mut protocols = vec![protocol("range", client), protocol("sticky", client)];
        if metadata % 2 == 1 {
            protocols.reverse();
        }
        if metadata % 5 == 4 {
            protocols.pop();
        }
        let request = JoinRequest {
            group: GROUPS[client.group].into(),
            member_id: client.member_id.clone(),
            instance_id: client.is_static.then(|| client.name.clone()),
            client_id: client.name.clone(),
            client_host: "/10.0.0.1".into(),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols,
            requires_known_member_id,
            supports_skipping_assignment: metadata % 3 == 0,
            random: u128::from(self.random.next()).to_be_bytes(),
        };
        self.ask(Some(n), |token| Event::Join(token, request));
    }

    fn sync(&mut self, n: usize) {
        let (group, generation, member_id, instance_id) = self.membership(n);
        let client = &self.clients[n];
        let mut assignments = Vec::new();
        if !client.assigns_to.is_empty() {
            let nonce = self.tokens;
            let text = |id: &String| Bytes::from(format!("{id} in {generation} by {nonce}"));
            assignments = client.assigns_to.iter().map(|id| (id.clone(), text(id))).collect();
            let lasting = assignments.iter().map(|(id, bytes)| (self.lasting_id(id), bytes.clone())).collect();
            self.assigned.insert((client.group, generation), lasting);
        }
        let request = SyncRequest {
            group,
            generation,
            member_id,
            instance_id,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments,
        };
        self.ask(Some(n), |token| Event::Sync(token, request));
    }

    fn commit(&mut self, n: usize) {
        let (_, generation, member_id, _) = self.membership(n);
        self.commit_as(self.clients[n].group, Some(n), generation, member_id);
    }

    fn commit_as(&mut self, group: usize, client: Option<usize>, generation: i32, member_id: String) {
        let partition = self.random.below(2) as i32;
        self.offsets += 1;
        let committed = CommitPartition { partition, offset: self.offsets, leader_epoch: 0, metadata: None };
        let request = CommitRequest {
            group: GROUPS[group].into(),
            generation,
            member_id,
            instance_id: None,
            retention_time_ms: -1,
            knows_group_id_not_found: true,
            topics: vec![CommitTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![committed] }],
        };
        let commits = vec![(group, partition, self.offsets)];
        self.ask_for(Asked { client, commits, shows: Vec::new() }, |token| Event::CommitOffsets(token, request));
    }

    fn fetch(&mut self, group: usize) {
        let of_group = self.acknowledged.iter().filter(|((of, _), _)| *of == group);
        let shows = of_group.map(|((group, partition), offset)| (*group, *partition, *offset)).collect();
        let topics = vec![FetchTopic { name: "t".into(), topic_id: Uuid::ZERO, partitions: vec![0, 1] }];
        let require_stable = self.random.chance(50);
        let request = FetchRequest { group: GROUPS[group].into(), topics: Some(topics), require_stable };
        self.ask_for(Asked { client: None, commits: Vec::new(), shows }, |token| Event::FetchOffsets(token, request));
    }

    fn membership(&self, n: usize) -> (String, i32, String, Option<String>) {
        let client = &self.clients[n];
        let instance_id = client.is_static.then(|| client.name.clone());
        (GROUPS[client.group].into(), client.generation, client.member_id.clone(), instance_id)
    }

    fn forget_membership(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.member_id.clear();
        client.generation = -1;
        client.assigns_to.clear();
        client.step = Step::Join;
        client.waits = None;
    }

    /// What a member is known by as long as it keeps its assignment: its id; its name
    /// when it is static and so may come back under another id.
    fn lasting_id(&self, member_id: &str) -> String {
        let name = name_of(member_id);
        let is_static = self.clients.iter().any(|client| client.is_static && client.name == name);
        if is_static { name.to_owned() } else { member_id.to_owned() }
    }

    fn ask(&mut self, client: Option<usize>, event: impl FnOnce(Token) -> Event) {
        self.ask_for(Asked { client, commits: Vec::new(), shows: Vec::new() }, event);
    }

    fn ask_for(&mut self, asked: Asked, event: impl FnOnce(Token) -> Event) {
        self.tokens += 1;
        let token = Token(self.tokens);
        if let Some(n) = asked.client {
            self.clients[n].waits = Some(token);
        }
        self.asked.insert(token, asked);
        self.event(event(token));
    }

    fn event(&mut self, event: Event) {
        let effects = self.coordinator.handle(event, at(self.ms));
        self.coordinator.check_invariants();
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { write, records } => {
                    self.note_tombstones(&records);
                    // In order, and each takes its time.
                    let earliest = self.in_flight.back().map_or(self.ms, |last| last.done_ms);
                    let done_ms = earliest.max(self.ms + self.random.below(300));
                    self.in_flight.push_back(InFlight { write, records, done_ms });
                }
                Effect::Answer(token, answer) => {
                    let asked = self.asked.remove(&token).expect("answered once, and asked before");
                    self.answered(token, asked, answer);
                }
            }
        }
    }

    fn note_tombstones(&mut self, records: &[Record]) {
        let place = |group: String| GROUPS.iter().position(|known| *known == group).expect("ours");
        for record in records {
            match records::read(&record.key, record.value.as_deref()) {
                // Where nothing may expire, only what was asked for is deleted.
                Ok(records::Entry::Offset { group, partition, value: None, .. })
                    if self.options.offsets_retention < Duration::from_secs(3_600) =>
                {
                    let group = place(group);
                    self.may_go(|of, p| of == group && p == partition);
                }
                // The next group of this name counts from the beginning.
                Ok(records::Entry::Group { group, value: None }) => {
                    let group = place(group);
                    self.generations.remove(&group);
                    self.leaders.retain(|(of, _), _| *of != group);
                }
                _ => {}
            }
        }
    }

    /// Offsets of these places are about to be deleted, also those whose commits are on their way.
    fn may_go(&mut self, is_one: impl Fn(usize, i32) -> bool) {
        self.acknowledged.retain(|(group, partition), _| !is_one(*group, *partition));
        for asked in self.asked.values_mut() {
            asked.commits.retain(|(group, partition, _)| !is_one(*group, *partition));
        }
    }

    // ---- answers ----

    fn answered(&mut self, token: Token, asked: Asked, answer: Answer) {
        match &answer {
            Answer::CommitOffsets(Ok(_)) => {
                self.commits += 1;
                for (group, partition, offset) in asked.commits {
                    let known = self.acknowledged.entry((group, partition)).or_insert(offset);
                    *known = (*known).max(offset);
                }
            }
            Answer::FetchOffsets(Ok(topics)) => {
                for (group, partition, least) in asked.shows {
                    let shown = topics[0].partitions.iter().find(|p| p.partition == partition).expect("asked for");
                    let Ok(shown) = &shown.result else { panic!("{shown:?}") };
                    // It may have been deleted while the fetch waited.
                    if self.acknowledged.get(&(group, partition)).is_some_and(|known| *known >= least) {
                        assert!(shown.offset >= least, "{} of {} went back", shown.offset, GROUPS[group]);
                    }
                }
            }
            Answer::Join(Ok(joined)) => self.check_generation(&asked, joined),
            _ => {}
        }
        let Some(n) = asked.client.filter(|n| self.clients[*n].waits == Some(token)) else { return };
        self.clients[n].waits = None;
        let known_group = self.clients[n].group;
        match answer {
            Answer::Join(Ok(joined)) => {
                let client = &mut self.clients[n];
                client.member_id = joined.member_id.to_string();
                client.generation = joined.generation;
                client.assigns_to.clear();
                if joined.leader == joined.member_id && !joined.skip_assignment {
                    client.assigns_to = joined.members.iter().map(|member| member.member_id.to_string()).collect();
                }
                client.step = Step::Sync;
            }
            Answer::Join(Err(refused)) => {
                self.clients[n].step = Step::Join;
                match refused.error {
                    GroupError::MemberIdRequired => self.clients[n].member_id = refused.member_id.to_string(),
                    GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.forget_membership(n),
                    _ => {}
                }
            }
            Answer::Sync(Ok(synced)) => {
                self.stable += 1;
                self.clients[n].step = Step::Member;
                let client = &self.clients[n];
                let assigned = self.assigned.get(&(known_group, client.generation));
                let assigned = assigned.and_then(|all| all.get(&self.lasting_id(&client.member_id)));
                // Nothing was assigned to who was not there when the leader joined (a static
                // member that came back keeps what its former self had).
                assert_eq!(synced.assignment, assigned.cloned().unwrap_or_default(), "{} syncs", client.name);
            }
            Answer::Sync(Err(error)) | Answer::Heartbeat(Err(error)) | Answer::CommitOffsets(Err(error)) => match error
            {
                GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.forget_membership(n),
                GroupError::IllegalGeneration | GroupError::GroupIdNotFound => self.forget_membership(n),
                _ => self.clients[n].step = Step::Join,
            },
            _ => {}
        }
    }

    fn check_generation(&mut self, asked: &Asked, joined: &Joined) {
        let n = asked.client.expect("clients join");
        let group = self.clients[n].group;
        let last = self.generations.entry(group).or_insert(joined.generation);
        assert!(joined.generation >= *last, "generation {} after {last}", joined.generation);
        *last = joined.generation;
        // A static leader may have another id since, but it is the same one.
        let name = name_of(&joined.leader).to_owned();
        let leader = self.leaders.entry((group, joined.generation)).or_insert_with(|| name.clone());
        assert_eq!(*leader, name, "two leaders of generation {} of {}", joined.generation, GROUPS[group]);
        if !joined.members.is_empty() {
            assert_eq!(joined.leader, joined.member_id, "only the leader is told of the members");
            assert!(joined.members.iter().any(|member| member.member_id == joined.member_id));
        }
    }

    /// No client does anything any more: all that waits must come to an end.
    fn drain(&mut self) {
        for client in &mut self.clients {
            client.wakes_ms = u64::MAX;
        }
        let end = self.ms + 100_000;
        while self.ms < end {
            let write = self.in_flight.front().map(|write| write.done_ms);
            let deadline = self.coordinator.next_deadline().map(|at| at.as_millis() as u64);
            self.ms = [write, deadline].into_iter().flatten().min().unwrap_or(end).max(self.ms).min(end);
            self.due();
        }
        assert!(self.asked.is_empty(), "left waiting: {:?}", self.asked);
        while let Some(write) = self.in_flight.pop_front() {
            self.log.extend(write.records);
            self.event(Event::Appended { write: write.write, result: Ok(()) });
        }
        let replayed = self.replayed();
        assert_eq!(replayed.offsets.durable(), self.coordinator.offsets.durable());
        for group in self.coordinator.groups.values() {
            assert!(group.is_empty(), "all sessions have ended: {group:?}");
        }
    }
}

fn simulate(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(300_000);
    world.drain();
    world
}

#[test]
fn nothing_is_lost_or_answered_twice_whatever_happens() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..std::env::var("SEEDS").map_or(60, |count| count.parse().expect("SEEDS is a count"))).collect(),
    };
    let (mut stable, mut commits, mut crashes) = (0, 0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| simulate(seed));
        let world = run.unwrap_or_else(|_| panic!("SEED={seed} cargo test coordinator::group::simulation"));
        stable += world.stable;
        commits += world.commits;
        crashes += world.crashes;
    }
    assert!(stable > 100 && commits > 100 && crashes > 0, "{stable} syncs, {commits} commits, {crashes} crashes");
}

#[test]
fn the_same_seed_gives_the_same_log() {
    assert_eq!(simulate(7).log, simulate(7).log);
}
