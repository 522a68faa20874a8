//! Conversations with a coordinator in virtual time, one line per step:
//! `command => what it causes; ...`. Everything a step causes is written, in order.
//!
//! ```text
//! join NAME [static=I] [v3|v9] [as=META] [protocols=P:META,..] [type=T] [session=MS] [rebalance=MS] [id=NAME|-]
//!                       the member joins under the id it was given last (id=-: without one; id=NAME: another's)
//! sync NAME [M=TEXT ..] [gen=N]      beat NAME [gen=N] [static=I]      leave NAME|=INSTANCE ..
//! commit NAME|- T/P=OFFSET ..  [gen=N] [v8] [meta=COUNT] [keep=MS]
//! fetch [stable] all|T/P ..          offsets-delete T/P ..    topic-deleted T    delete G ..
//! describe    list    wait MS (all deadlines on the way come)    group G (for what follows)
//! hold (appends stay in flight)   ok | fail [too-large|unavailable|offline] (the oldest of them)   auto (default)
//! crash (what is durable is replayed)    unload    max N (group.max.size)    max-pending N    delay MS (initial rebalance delay)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::*;

pub(super) fn at(ms: u64) -> Now {
    Now { unix: UnixMs(1_000_000 + ms as i64), monotonic: Duration::from_millis(ms) }
}

pub(super) struct Talk {
    options: GroupOptions,
    coordinator: GroupCoordinator,
    ms: u64,
    group: String,
    tokens: u64,
    /// Who waits under a token.
    asked: BTreeMap<Token, String>,
    /// Member id and generation last told to a name.
    known: BTreeMap<String, (String, i32)>,
    hold: bool,
    in_flight: VecDeque<(WriteId, Vec<Record>)>,
    pub(super) log: Vec<Record>,
    said: Vec<String>,
}

impl Talk {
    pub(super) fn new() -> Talk {
        let options = GroupOptions::default();
        let mut coordinator = GroupCoordinator::new(options.clone());
        coordinator.loaded(at(0));
        Talk {
            options,
            coordinator,
            ms: 0,
            group: "g".into(),
            tokens: 0,
            asked: BTreeMap::new(),
            known: BTreeMap::new(),
            hold: false,
            in_flight: VecDeque::new(),
            log: Vec::new(),
            said: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().expect("a command");
        let option = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| option(name).map(|text| text.parse::<i64>().expect(name));
        let name = rest.first().copied().unwrap_or_default();
        let group = self.group.clone();
        match *command {
            "join" => {
                let member_id = match option("id") {
                    Some("-") => String::new(),
                    Some(other) => self.id_of(other),
                    None => self.id_of(name),
                };
                let listed = option("protocols").unwrap_or("range");
                let meta = option("as").unwrap_or(name);
                let protocols = listed.split(',').map(|text| {
                    let (name, meta) = text.split_once(':').unwrap_or((text, meta));
                    Protocol { name: name.into(), metadata: Bytes::copy_from_slice(meta.as_bytes()) }
                });
                let request = JoinRequest {
                    group,
                    member_id,
                    instance_id: option("static").map(String::from),
                    client_id: name.into(),
                    client_host: "/127.0.0.1".into(),
                    session_timeout_ms: number("session").unwrap_or(10_000) as i32,
                    rebalance_timeout_ms: number("rebalance").unwrap_or(60_000) as i32,
                    protocol_type: option("type").unwrap_or("consumer").into(),
                    protocols: protocols.collect(),
                    requires_known_member_id: !rest.contains(&"v3"),
                    supports_skipping_assignment: rest.contains(&"v9"),
                    random: u128::from(self.tokens).to_be_bytes(),
                };
                let token = self.token(name);
                self.event(Event::Join(token, request));
            }
            "sync" => {
                let (member_id, generation) = self.membership(name);
                let given = rest.iter().skip(1).filter_map(|word| word.split_once('='));
                let given = given.filter(|(who, _)| *who != "gen" && *who != "protocol");
                let request = SyncRequest {
                    group,
                    generation: number("gen").map_or(generation, |n| n as i32),
                    member_id,
                    instance_id: None,
                    protocol_type: Some("consumer".into()),
                    protocol_name: option("protocol").map(String::from),
                    assignments: given
                        .map(|(who, text)| (self.id_of(who), Bytes::copy_from_slice(text.as_bytes())))
                        .collect(),
                };
                let token = self.token(name);
                self.event(Event::Sync(token, request));
            }
            "beat" => {
                let (member_id, generation) = self.membership(name);
                let generation = number("gen").map_or(generation, |n| n as i32);
                let instance_id = option("static").map(String::from);
                let token = self.token(name);
                self.event(Event::Heartbeat(token, HeartbeatRequest { group, generation, member_id, instance_id }));
            }
            "leave" => {
                let leaving = |who: &&str| match who.strip_prefix('=') {
                    Some(instance) => LeavingMember { member_id: String::new(), instance_id: Some(instance.into()) },
                    None => LeavingMember { member_id: self.id_of(who), instance_id: None },
                };
                let members = rest.iter().map(leaving).collect();
                let token = self.token("-");
                self.event(Event::Leave(token, LeaveRequest { group, members }));
            }
            "commit" => {
                let (member_id, generation) = if name == "-" { (String::new(), -1) } else { self.membership(name) };
                let meta = number("meta").map(|count| "x".repeat(count as usize));
                let topics = places(rest).into_iter().map(|(topic, partition, offset)| CommitTopic {
                    name: topic,
                    topic_id: crate::base::Uuid::ZERO,
                    partitions: vec![CommitPartition {
                        partition,
                        offset: offset.expect("an offset"),
                        leader_epoch: -1,
                        metadata: meta.clone(),
                    }],
                });
                let request = CommitRequest {
                    group,
                    generation: number("gen").map_or(generation, |n| n as i32),
                    member_id,
                    instance_id: None,
                    retention_time_ms: number("keep").unwrap_or(-1),
                    knows_group_id_not_found: !rest.contains(&"v8"),
                    topics: topics.collect(),
                };
                let token = self.token(name);
                self.event(Event::CommitOffsets(token, request));
            }
            "fetch" => {
                let one = |(name, partition, _)| FetchTopic {
                    name,
                    topic_id: crate::base::Uuid::ZERO,
                    partitions: vec![partition],
                };
                let topics =
                    if rest.contains(&"all") { None } else { Some(places(rest).into_iter().map(one).collect()) };
                let token = self.token("-");
                let require_stable = rest.contains(&"stable");
                self.event(Event::FetchOffsets(token, FetchRequest { group, topics, require_stable }));
            }
            "offsets-delete" => {
                let topics = places(rest).into_iter().map(|(topic, partition, _)| (topic, vec![partition])).collect();
                let token = self.token("-");
                self.event(Event::DeleteOffsets(token, DeleteOffsetsRequest { group, topics }));
            }
            "topic-deleted" => self.event(Event::TopicDeleted(name.into())),
            "delete" => {
                let token = self.token("-");
                self.event(Event::DeleteGroups(token, rest.iter().map(|id| id.to_string()).collect()));
            }
            "describe" => {
                let text = match self.coordinator.describe(&group) {
                    Err(error) => format!("{error:?}"),
                    Ok(about) => {
                        let member = |m: &MemberDescription| {
                            let id = self.name_of(&m.member_id);
                            format!("{id}:{}:{}", text(&m.metadata), text(&m.assignment))
                        };
                        let members: Vec<String> = about.members.iter().map(member).collect();
                        format!(
                            "{} {}/{} [{}]",
                            about.state.name(),
                            about.protocol_type,
                            about.protocol,
                            members.join(" ")
                        )
                    }
                };
                self.said.push(text);
            }
            "list" => {
                let all = self.coordinator.list().expect("loaded");
                let all = all.map(|g| format!("{} {} '{}'", g.group, g.state.name(), g.protocol_type));
                self.said.extend(all.collect::<Vec<_>>());
            }
            "wait" => {
                let until = self.ms + name.parse::<u64>().expect("milliseconds");
                while let Some(next) = self.coordinator.next_deadline().filter(|next| next.as_millis() as u64 <= until)
                {
                    self.ms = self.ms.max(next.as_millis() as u64);
                    self.event(Event::Tick);
                }
                self.ms = until;
            }
            "group" => self.group = name.into(),
            "hold" => self.hold = true,
            "auto" => self.hold = false,
            "ok" => self.complete(Ok(())),
            "fail" => self.complete(Err(match name {
                "too-large" => AppendFailure::TooLarge,
                "unavailable" => AppendFailure::Unavailable,
                _ => AppendFailure::Offline,
            })),
            "crash" => {
                self.in_flight.clear();
                self.asked.clear();
                self.coordinator = GroupCoordinator::new(self.options.clone());
                for record in &self.log {
                    self.coordinator.replay(&record.key, record.value.as_deref()).expect("our own records");
                }
                let effects = self.coordinator.loaded(at(self.ms));
                self.take(effects);
            }
            "unload" => {
                let effects = self.coordinator.unload(at(self.ms));
                self.take(effects);
            }
            "max-pending" => {
                self.options.pending_members_max = name.parse().expect("a number");
                self.coordinator.options = self.options.clone();
            }
            "max" => {
                self.options.group_max_size = name.parse().expect("a number");
                self.coordinator.options = self.options.clone();
            }
            "delay" => {
                self.options.initial_rebalance_delay_ms = name.parse().expect("milliseconds");
                self.coordinator.options = self.options.clone();
            }
            other => panic!("no command {other}"),
        }
        self.coordinator.check_invariants();
    }

    fn event(&mut self, event: Event) {
        let effects = self.coordinator.handle(event, at(self.ms));
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(token, answer) => {
                    let name = self.asked.remove(&token).expect("answered once, and asked before");
                    let text = self.show(&name, answer);
                    self.said.push(if name == "-" { text } else { format!("{name}: {text}") });
                }
                Effect::Append { write, records } => {
                    self.in_flight.push_back((write, records));
                    if self.hold {
                        let shown = self.show_records();
                        self.said.push(format!("append {shown}"));
                    }
                }
            }
        }
        while !self.hold && !self.in_flight.is_empty() {
            self.complete(Ok(()));
        }
    }

    fn complete(&mut self, result: Result<(), AppendFailure>) {
        let (write, records) = self.in_flight.pop_front().expect("something in flight");
        if result.is_ok() {
            self.log.extend(records);
        }
        self.event(Event::Appended { write, result });
    }

    fn token(&mut self, name: &str) -> Token {
        self.tokens += 1;
        self.asked.insert(Token(self.tokens), name.into());
        Token(self.tokens)
    }

    fn membership(&self, name: &str) -> (String, i32) {
        self.known.get(name).cloned().unwrap_or((format!("{name}-unknown"), 0))
    }

    fn id_of(&self, name: &str) -> String {
        self.known.get(name).map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// The name that bears a member id: `b` now, or `b'` when it was given another since.
    fn name_of(&self, id: &str) -> String {
        match self.known.iter().find(|(_, (known, _))| known == id) {
            Some((name, _)) => name.clone(),
            None => id.split('-').next().map(|name| format!("{name}'")).unwrap_or_default(),
        }
    }

    fn show(&mut self, name: &str, answer: Answer) -> String {
        match answer {
            Answer::Join(Err(JoinRefused { error, member_id })) => {
                if error == GroupError::MemberIdRequired {
                    self.known.insert(name.into(), (member_id.to_string(), 0));
                }
                format!("{error:?}")
            }
            Answer::Join(Ok(joined)) => {
                self.known.insert(name.into(), (joined.member_id.to_string(), joined.generation));
                let of = |m: &JoinedMember| format!("{}:{}", self.name_of(&m.member_id), text(&m.metadata));
                let members: Vec<String> = joined.members.iter().map(of).collect();
                let skip = if joined.skip_assignment { " skip" } else { "" };
                let leader = self.name_of(&joined.leader);
                let protocol = joined.protocol_name.unwrap_or_default();
                format!("joined {} {protocol} leader {leader}{skip} [{}]", joined.generation, members.join(" "))
            }
            Answer::Sync(Ok(synced)) => format!("synced '{}'", text(&synced.assignment)),
            Answer::Sync(Err(error)) | Answer::Heartbeat(Err(error)) | Answer::Leave(Err(error)) => {
                format!("{error:?}")
            }
            Answer::CommitOffsets(Err(error))
            | Answer::FetchOffsets(Err(error))
            | Answer::DeleteOffsets(Err(error)) => {
                format!("{error:?}")
            }
            Answer::Heartbeat(Ok(())) => "ok".into(),
            Answer::Leave(Ok(left)) => words(left.iter().map(|m| show_result(m.result))),
            Answer::CommitOffsets(Ok(topics)) | Answer::DeleteOffsets(Ok(topics)) => {
                words(topics.iter().flat_map(|(topic, of_topic)| {
                    of_topic.iter().map(move |(p, result)| format!("{topic}/{p} {}", show_result(*result)))
                }))
            }
            Answer::FetchOffsets(Ok(topics)) => {
                let shown = topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(move |p| match &p.result {
                        Ok(offset) => format!("{}/{}={}", topic.name, p.partition, offset.offset),
                        Err(error) => format!("{}/{} {error:?}", topic.name, p.partition),
                    })
                });
                format!("offsets [{}]", words(shown))
            }
            Answer::DeleteGroups(groups) => {
                words(groups.iter().map(|(group, result)| format!("{group} {}", show_result(*result))))
            }
        }
    }

    fn show_records(&self) -> String {
        let (_, records) = self.in_flight.back().expect("just added");
        words(records.iter().map(|record| match records::read(&record.key, record.value.as_deref()) {
            Ok(records::Entry::Offset { topic, partition, value: Some(value), .. }) => {
                format!("{topic}/{partition}={}", value.offset)
            }
            Ok(records::Entry::Offset { topic, partition, value: None, .. }) => format!("{topic}/{partition}=none"),
            Ok(records::Entry::Group { group, value: None }) => format!("{group}=none"),
            Ok(records::Entry::Group { group, value: Some(value) }) => {
                let members = words(value.members.iter().map(|m| self.name_of(&m.member_id)));
                format!("{group}={}[{members}]", value.generation)
            }
            other => panic!("{other:?}"),
        }))
    }
}

fn show_result(result: Result<(), GroupError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".into())
}

fn words(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `topic/partition` or `topic/partition=offset`.
fn places(words: &[&str]) -> Vec<(Rc<str>, i32, Option<i64>)> {
    let place = |word: &&str| {
        let (topic, rest) = word.split_once('/')?;
        let (partition, offset) = rest.split_once('=').unwrap_or((rest, ""));
        Some((topic.into(), partition.parse().ok()?, offset.parse().ok()))
    };
    words.iter().filter_map(place).collect()
}

/// Runs a conversation; each line says what it causes.
pub(super) fn check(script: &str) {
    let mut talk = Talk::new();
    let mut transcript = String::new();
    let mut differs = false;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (command, expected) = line.split_once("=>").unwrap_or((line, ""));
        talk.step(command);
        let said = std::mem::take(&mut talk.said).join("; ");
        differs |= said != expected.trim();
        let mark = if said == expected.trim() { ' ' } else { '!' };
        transcript.push_str(&format!("{mark} {:<30} => {said}\n", command.trim()));
    }
    assert!(!differs, "this is what happened (! differs):\n{transcript}");
}

/// Two dynamic members a (leader) and b in Stable generation 2.
pub(super) const STABLE: &str = "
    join a => a: MemberIdRequired
    join a =>
    wait 3000 => a: joined 1 range leader a [a:a]
    sync a a=x => a: synced 'x'
    join b => b: MemberIdRequired
    join b =>
    beat a => a: RebalanceInProgress
    join a => a: joined 2 range leader a [a:a b:b]; b: joined 2 range leader a []
    sync b =>
    sync a a=x b=y => a: synced 'x'; b: synced 'y'
";

pub(super) fn check_from_stable(script: &str) {
    check(&format!("{STABLE}{script}"));
}
