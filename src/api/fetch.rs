//! Fetch (1), versions 4–18: records of partitions, as they lie in the log.
//!
//! - Answered at once when it has `min_bytes`, an error, a diverging epoch, or may not
//!   wait; otherwise it parks on its partitions and is read again when enough has
//!   become visible, or at `max_wait_ms`.
//! - Consumers see up to the high watermark, with read_committed up to the last stable
//!   offset. The answer ends on a batch's border. The first batch of the answer may
//!   exceed both limits, so that a large one is never stuck (KIP-74).
//! - v7 incremental sessions (KIP-227). v10 zstd. v11 rack id, without effect: there is
//!   one replica. v12 last fetched epoch: a consumer whose log parted from ours is told
//!   where (KIP-595). v13 topic ids (KIP-516). v15 replica state, v16 node endpoints
//!   (KIP-951), v17 directory ids, v18 high watermark: of followers, ignored.
//! - Records are never null: librdkafka fails on it (KAFKA-18646).
//! - No record byte is copied: the answer is a list of pieces. Records of another core
//!   behind the same broker (`advertise=host`) are copied once on the way.
//! - Not served: fetches of followers (there is one replica).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::errors::{self, Code};
use super::held::{Held, Reusable, Shelf};
use super::produce::current_leader;
use super::target::{self, Target};
use super::{Answer, AnswerBody, Context, Reply, scatter};
use crate::base::budget::Permit;
use crate::base::{CoreIndex, LeaderEpoch, Offset, Rope, Uuid};
use crate::log::aborted::AbortedTransaction;
use crate::metrics::Stage;
use crate::partition::{Bounds, Isolation, Safe};
use crate::runtime::clock;
use crate::shard::Core;
use crate::shard::fetch_sessions::{FetchSessions, SessionError, SessionKey, Told, Turn, Wanted};
use crate::shard::messages::{self, Call, ForwardedFetch, Read};
use crate::shard::partitions::{self, Parking, Position, ReadError};
use crate::shard::reads::{self, Found, Limits, ReadMemory};
use crate::wire::fetch::{EpochEndOffset, FetchRequest, FetchResponse, FetchedPartition, FetchedTopic};
use crate::wire::{self, Scratch, StrBytes, Topic};

/// First version that names topics by id.
const FIRST_WITH_TOPIC_IDS: i16 = 13;
const CONSUMER: i32 = -1;
const DEBUG_REPLICA: i32 = -2;

pub async fn handle(core: &Rc<Core>, context: &Context, body: Bytes) -> Reply {
    let mut request = Held::<FetchRequest>::take();
    if let Err(error) = request.parse_into(&body, context.version) {
        tracing::debug!(client = %context.client_host, %error, "unreadable fetch request");
        return Reply::Close;
    }
    context.mark_parsed();
    let uses_ids = context.version >= FIRST_WITH_TOPIC_IDS;
    let turn = {
        let mut sessions = core.fetch_sessions();
        let (wanted, forgotten) = wishes(&request, &mut sessions);
        let (id, epoch) = (request.session_id, request.session_epoch);
        sessions.begin(id, epoch, uses_ids, wanted, &forgotten, clock::unix_ms())
    };
    let turn = match turn {
        Ok(turn) => turn,
        Err(error) => {
            let error_code = match error {
                SessionError::NotFound => Code::FetchSessionIdNotFound,
                SessionError::WrongEpoch => Code::InvalidFetchSessionEpoch,
                SessionError::TopicIdsChanged => Code::FetchSessionTopicIdError,
            };
            let response = FetchResponse { error_code: error_code.code(), ..FetchResponse::default() };
            return Reply::Ready(response.into_rope(context.version).into());
        }
    };
    context.partitions.set(turn.partitions.len());
    let fetch = Fetch {
        core,
        uses_ids,
        isolation: match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
        // One node has no followers; who claims to be one came to the wrong place.
        is_follower: request.replica_id != CONSUMER && request.replica_id != DEBUG_REPLICA,
        max_bytes: request.max_bytes.clamp(0, core.config().fetch_max_bytes) as usize,
        min_bytes: request.min_bytes.min(request.max_bytes).max(0) as usize,
        deadline: clock::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
    };
    drop((request, body));
    let mut round = Held::take();
    fetch.run(context, &turn, &mut round).await;
    fetch.answer(context, turn, &mut round);
    context.mark(Stage::Ordered);
    Reply::Ready(Fetched { round, version: context.version }.into())
}

/// What the request asks for, in the session's words.
fn wishes(request: &FetchRequest, sessions: &mut FetchSessions) -> (Vec<(SessionKey, Wanted)>, Vec<SessionKey>) {
    let key = |topic: &Topic, sessions: &FetchSessions| match topic {
        Topic::Name(name) => SessionKey { topic: Rc::from(name.as_str()), topic_id: Uuid::ZERO, partition: 0 },
        Topic::Id(id) => SessionKey { topic: sessions.nameless(), topic_id: *id, partition: 0 },
    };
    let mut wanted = sessions.list();
    for (topic, partitions) in request.topics() {
        let key = key(topic, sessions);
        wanted.extend(partitions.iter().map(|p| {
            let wanted = Wanted {
                fetch_offset: Offset(p.fetch_offset),
                current_leader_epoch: LeaderEpoch(p.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch(p.last_fetched_epoch),
                max_bytes: p.max_bytes,
            };
            (SessionKey { partition: p.index, ..key.clone() }, wanted)
        }));
    }
    let mut forgotten = Vec::new();
    for (topic, indexes) in request.forgotten() {
        let key = key(topic, sessions);
        forgotten.extend(indexes.iter().map(|partition| SessionKey { partition: *partition, ..key.clone() }));
    }
    (wanted, forgotten)
}

/// What one partition gave.
enum Got {
    Refused(Code),
    Records {
        bounds: Bounds,
        diverging: Option<(LeaderEpoch, Offset)>,
        records: Rope,
        aborted: Vec<AbortedTransaction>,
    },
}

impl Got {
    fn record_bytes(&self) -> usize {
        match self {
            Got::Refused(_) => 0,
            Got::Records { records, .. } => records.len(),
        }
    }

    /// Whether the consumer must hear of it without delay.
    fn is_urgent(&self) -> bool {
        match self {
            Got::Refused(_) => true,
            Got::Records { diverging, .. } => diverging.is_some(),
        }
    }
}

/// Everything found, in the order of the turn, the memory it holds, and the answer made of
/// it. Used again for later requests.
#[derive(Default)]
struct Round {
    got: Vec<Got>,
    memory: Vec<Permit>,
    /// Where to wait for more.
    here: Vec<Position>,
    there: Vec<(CoreIndex, Position)>,
    /// There is more than there was memory for: waiting for still more is of no use.
    starved: bool,
    /// What is read on this core, the places in `got` it belongs to, and what came of it.
    reads: Vec<Read>,
    places: Vec<usize>,
    found: Vec<Result<Found, ReadError>>,
    response: FetchResponse,
    /// Lists for the response's partitions.
    spare: Vec<Vec<FetchedPartition>>,
    parking: Parking,
}

impl Round {
    /// Lets go of what was found, and of the memory it holds.
    fn release(&mut self) {
        let Round { got, memory, reads, places, found, .. } = self;
        got.clear();
        found.clear();
        memory.clear();
        reads.clear();
        places.clear();
    }
}

/// A round that was made for more partitions is not kept.
const KEPT_PARTITIONS_MAX: usize = 64;

thread_local! {
    static ROUNDS: Shelf<Round> = const { RefCell::new(Vec::new()) };
    static REQUESTS: Shelf<FetchRequest> = const { RefCell::new(Vec::new()) };
}

impl Reusable for Round {
    fn with_unused<R>(look: impl FnOnce(&mut Vec<Box<Round>>) -> R) -> Option<R> {
        ROUNDS.try_with(|shelf| look(&mut shelf.borrow_mut())).ok()
    }

    fn clear(&mut self) -> bool {
        self.release();
        self.here.clear();
        self.there.clear();
        self.parking.leave();
        self.starved = false;
        let mut topics = std::mem::take(&mut self.response.topics);
        for mut topic in topics.drain(..) {
            topic.partitions.clear();
            self.spare.push(topic.partitions);
        }
        self.response = FetchResponse { topics, ..FetchResponse::default() };
        self.got.capacity() <= KEPT_PARTITIONS_MAX && self.response.topics.capacity() <= KEPT_PARTITIONS_MAX
    }
}

impl Reusable for FetchRequest {
    fn with_unused<R>(look: impl FnOnce(&mut Vec<Box<FetchRequest>>) -> R) -> Option<R> {
        REQUESTS.try_with(|shelf| look(&mut shelf.borrow_mut())).ok()
    }

    fn clear(&mut self) -> bool {
        FetchRequest::clear(self);
        self.partitions_capacity() <= KEPT_PARTITIONS_MAX
    }
}

/// The answer to a Fetch, not written yet, and the memory that its records hold.
pub struct Fetched {
    round: Held<Round>,
    version: i16,
}

impl Fetched {
    /// Writes it at the end of `rope`; see [`FetchResponse::write`]. What stays is the memory.
    pub fn write(&mut self, to: &mut Scratch, rope: &mut Rope) {
        self.round.response.write(self.version, to, rope);
    }
}

impl From<Fetched> for Answer {
    fn from(fetched: Fetched) -> Answer {
        Answer { body: AnswerBody::Fetched(fetched), safe: Safe::default() }
    }
}

struct Fetch<'a> {
    core: &'a Rc<Core>,
    uses_ids: bool,
    isolation: Isolation,
    is_follower: bool,
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
}

impl Fetch<'_> {
    /// Reads until there is enough, something urgent, or no time left.
    async fn run(&self, context: &Context, turn: &Turn, round: &mut Round) {
        loop {
            self.read(turn, round).await;
            let bytes: usize = round.got.iter().map(Got::record_bytes).sum();
            let left = self.deadline.saturating_duration_since(clock::now());
            let enough = bytes >= self.min_bytes || round.starved || round.got.iter().any(Got::is_urgent);
            if enough || left.is_zero() || turn.partitions.is_empty() || self.core.stop().is_raised() {
                return;
            }
            context.mark(Stage::Ordered);
            // Who waits for data holds no memory.
            round.release();
            let there = std::mem::take(&mut round.there);
            self.wait(&round.here, there, left, &mut round.parking).await;
            context.mark(Stage::Parked);
        }
    }

    /// Waits until enough has become visible, or the time is up.
    async fn wait(&self, here: &[Position], there: Vec<(CoreIndex, Position)>, left: Duration, parking: &mut Parking) {
        // Bytes of several cores cannot be added up while waiting: any news is looked at.
        let min_bytes = if there.is_empty() { self.min_bytes } else { 1 };
        let mut elsewhere = Vec::new();
        for (owner, positions) in scatter::by_core(there) {
            let call = Call::Watch { positions, isolation: self.isolation, min_bytes, wait: left };
            if let Ok(answer) = self.core.router().call(owner, call).await {
                elsewhere.push(answer);
            }
        }
        let local = partitions::wait_for_news(self.core, here, self.isolation, min_bytes, left, parking);
        let remote = std::future::poll_fn(|cx| {
            use std::future::Future;
            match elsewhere.iter_mut().any(|answer| std::pin::Pin::new(answer).poll(cx).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        });
        futures_lite::future::or(local, remote).await;
    }

    /// Reads every partition of the turn once.
    async fn read(&self, turn: &Turn, round: &mut Round) {
        round.release();
        round.here.clear();
        round.there.clear();
        round.starved = false;
        let mut elsewhere = Vec::new();
        for (at, (key, wanted)) in turn.partitions.iter().enumerate() {
            round.got.push(match self.target(key, wanted) {
                Err(code) | Ok((_, Target::Refuse(code))) => Got::Refused(code),
                Ok((read, Target::Here(_))) => {
                    round.here.push(read.position());
                    round.places.push(at);
                    round.reads.push(read);
                    // Filled in below, as those of other cores.
                    Got::Refused(Code::NotLeaderOrFollower)
                }
                Ok((read, Target::Forward(owner))) => {
                    round.there.push((owner, read.position()));
                    elsewhere.push((owner, (at, read)));
                    Got::Refused(Code::NotLeaderOrFollower)
                }
            });
        }
        let limits = Limits { isolation: self.isolation, max_bytes: self.max_bytes, at_least_one: true };
        let memory = ReadMemory { any: self.core.read_memory(), of_tails: Some(self.core.read_memory_of_tails()) };
        reads::read_all(self.core, &round.reads, limits, memory, &mut round.found).await;
        for (place, result) in round.places.iter().zip(round.found.drain(..)) {
            round.got[*place] = match result {
                Ok(mut found) => {
                    round.memory.extend(found.memory.take());
                    round.starved |= found.starved;
                    let (bounds, diverging) = (found.bounds, found.diverging);
                    Got::Records { bounds, diverging, records: found.records, aborted: found.aborted }
                }
                Err(error) => Got::Refused(errors::read(error)),
            };
        }
        if !elsewhere.is_empty() {
            self.read_elsewhere(elsewhere, round).await;
        }
    }

    /// One message to each other core, all at the same time. Memory for what they find
    /// is taken before, and waited for only if none is held (see [`reads::read_all`]):
    /// without it they are asked what there is besides records.
    async fn read_elsewhere(&self, reads: Vec<(CoreIndex, (usize, Read))>, round: &mut Round) {
        let taken: usize = round.got.iter().map(Got::record_bytes).sum();
        let wanted: usize = reads.iter().map(|(_, (_, read))| read.max_bytes).sum();
        let cores = scatter::by_core(reads);
        let left = wanted.min(self.max_bytes.saturating_sub(taken));
        let memory = match round.memory.is_empty() {
            true => Some(self.core.read_memory().take(left).await),
            false => self.core.read_memory().try_take(left),
        };
        round.starved |= memory.is_none();
        let limits = Limits {
            isolation: self.isolation,
            max_bytes: memory.as_ref().map_or(0, |_| left / cores.len().max(1)),
            at_least_one: memory.is_some() && taken == 0,
        };
        let mut asked = Vec::with_capacity(cores.len());
        for (owner, reads) in cores {
            let (places, reads): (Vec<usize>, Vec<Read>) = reads.into_iter().unzip();
            let call = Call::Fetch(ForwardedFetch { limits, reads });
            if let Ok(answer) = self.core.router().call(owner, call).await {
                asked.push((places, answer));
            }
        }
        let mut came = 0;
        for (places, answer) in asked {
            let Ok(messages::Answer::Fetch(results)) = answer.await else { continue };
            for (place, result) in places.into_iter().zip(results) {
                round.got[place] = match result {
                    Ok(found) => {
                        came += found.records.len();
                        round.starved |= found.starved;
                        let (bounds, diverging) = (found.bounds, found.diverging);
                        Got::Records { bounds, diverging, records: found.records.into(), aborted: found.aborted }
                    }
                    Err(error) => Got::Refused(errors::read(error)),
                };
            }
        }
        if let Some(mut memory) = memory {
            memory.shrink_to(came);
            round.memory.push(memory);
        }
    }

    /// Which read the session means, and where it goes.
    fn target(&self, key: &SessionKey, wanted: &Wanted) -> Result<(Read, Target), Code> {
        if self.is_follower {
            return Err(Code::NotLeaderOrFollower);
        }
        let image = self.core.image();
        let topic_id = match self.uses_ids {
            true => image.topic_by_id(key.topic_id).ok_or(Code::UnknownTopicId)?.id,
            false => image.topic(&key.topic).ok_or(Code::UnknownTopicOrPartition)?.id,
        };
        let read = Read {
            topic_id,
            partition: key.partition,
            offset: wanted.fetch_offset,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            max_bytes: wanted.max_bytes.max(0) as usize,
        };
        let target = target::find(self.core, topic_id, key.partition);
        Ok((read, target))
    }

    fn answer(&self, context: &Context, mut turn: Turn, round: &mut Round) {
        let Round { got, response, spare, .. } = round;
        response.session_id = turn.session_id;
        let mut sessions = self.core.fetch_sessions();
        for ((key, _), got) in turn.partitions.iter().zip(got.drain(..)) {
            if turn.session_id != 0 && !sessions.tell(turn.session_id, key, told(&got)) && !turn.full {
                continue;
            }
            let partition = self.partition(context, key, got, response);
            let is_of = |topic: &Topic| match topic {
                Topic::Id(id) => self.uses_ids && *id == key.topic_id,
                Topic::Name(name) => !self.uses_ids && **name == *key.topic,
            };
            match response.topics.last_mut() {
                Some(last) if is_of(&last.topic) => last.partitions.push(partition),
                _ => {
                    let topic = match self.uses_ids {
                        true => Topic::Id(key.topic_id),
                        false => Topic::Name(StrBytes::from_string(key.topic.to_string())),
                    };
                    let mut partitions = spare.pop().unwrap_or_default();
                    partitions.push(partition);
                    response.topics.push(FetchedTopic { topic, partitions });
                }
            }
        }
        sessions.give_back(std::mem::take(&mut turn.partitions));
    }

    fn partition(
        &self,
        context: &Context,
        key: &SessionKey,
        got: Got,
        response: &mut FetchResponse,
    ) -> FetchedPartition {
        match got {
            Got::Refused(code) => {
                // Older clients do not know the storage error.
                let code = match code {
                    Code::KafkaStorageError if context.version <= 5 => Code::NotLeaderOrFollower,
                    code => code,
                };
                let mut partition = FetchedPartition::empty(key.partition, code.code());
                let hint = matches!(code, Code::NotLeaderOrFollower | Code::FencedLeaderEpoch);
                if hint && context.version >= 16 {
                    let endpoints = &mut response.node_endpoints;
                    partition.current_leader =
                        current_leader(self.core, context.listener, key.topic_id, key.partition, endpoints);
                }
                partition
            }
            Got::Records { bounds, diverging, records, aborted } => FetchedPartition {
                high_watermark: bounds.high_watermark.0,
                last_stable_offset: bounds.last_stable.0,
                log_start_offset: bounds.log_start.0,
                aborted_transactions: (self.isolation == Isolation::ReadCommitted).then(|| {
                    let told = aborted.iter().map(|entry| wire::fetch::AbortedTransaction {
                        producer_id: entry.producer_id,
                        first_offset: entry.first.0,
                    });
                    told.collect()
                }),
                diverging_epoch: diverging.map(|(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 }),
                records,
                ..FetchedPartition::empty(key.partition, errors::NONE)
            },
        }
    }
}

fn told(got: &Got) -> Told {
    match got {
        Got::Refused(_) => Told {
            has_records: false,
            is_error: true,
            has_hint: false,
            high_watermark: Offset(-1),
            log_start: Offset(-1),
        },
        Got::Records { bounds, diverging, records, .. } => Told {
            has_records: !records.is_empty(),
            is_error: false,
            has_hint: diverging.is_some(),
            high_watermark: bounds.high_watermark,
            log_start: bounds.log_start,
        },
    }
}
