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

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::errors::{self, Code};
use super::produce::current_leader;
use super::target::{self, Target};
use super::{Answer, Context, Reply, scatter};
use crate::base::budget::Permit;
use crate::base::{CoreIndex, LeaderEpoch, Offset, Rope, Uuid};
use crate::metrics::Stage;
use crate::partition::{Bounds, Isolation};
use crate::runtime::clock;
use crate::shard::Core;
use crate::shard::fetch_sessions::{SessionError, SessionKey, Told, Turn, Wanted};
use crate::shard::messages::{self, Call, ForwardedFetch, Read};
use crate::shard::partitions::{self, Position};
use crate::shard::reads::{self, Limits};
use crate::wire::StrBytes;
use crate::wire::Topic;
use crate::wire::fetch::{EpochEndOffset, FetchRequest, FetchResponse, FetchedPartition, FetchedTopic};

/// First version that names topics by id.
const FIRST_WITH_TOPIC_IDS: i16 = 13;
const CONSUMER: i32 = -1;
const DEBUG_REPLICA: i32 = -2;

pub async fn handle(core: &Rc<Core>, context: &Context, body: Bytes) -> Reply {
    let request = match FetchRequest::parse(&body, context.version) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(client = %context.client_host, %error, "unreadable fetch request");
            return Reply::Close;
        }
    };
    context.mark(Stage::Parsed);
    let uses_ids = context.version >= FIRST_WITH_TOPIC_IDS;
    let turn = {
        let (wanted, forgotten) = wishes(&request);
        let (id, epoch) = (request.session_id, request.session_epoch);
        core.fetch_sessions().begin(id, epoch, uses_ids, wanted, &forgotten, clock::unix_ms())
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
    let found = fetch.run(context, &turn).await;
    let answer = fetch.answer(context, turn, found);
    context.mark(Stage::Ordered);
    Reply::Ready(answer)
}

/// What the request asks for, in the session's words.
fn wishes(request: &FetchRequest) -> (Vec<(SessionKey, Wanted)>, Vec<SessionKey>) {
    let key = |topic: &Topic, partition: i32| match topic {
        Topic::Name(name) => SessionKey { topic: Rc::from(name.as_str()), topic_id: Uuid::ZERO, partition },
        Topic::Id(id) => SessionKey { topic: Rc::from(""), topic_id: *id, partition },
    };
    let wanted = request.topics().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |p| {
            let wanted = Wanted {
                fetch_offset: Offset(p.fetch_offset),
                current_leader_epoch: LeaderEpoch(p.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch(p.last_fetched_epoch),
                max_bytes: p.max_bytes,
            };
            (key(topic, p.index), wanted)
        })
    });
    let forgotten = request.forgotten().flat_map(|(topic, indexes)| indexes.iter().map(move |i| key(topic, *i)));
    (wanted.collect(), forgotten.collect())
}

/// What one partition gave.
enum Got {
    Refused(Code),
    Records { bounds: Bounds, diverging: Option<(LeaderEpoch, Offset)>, records: Rope },
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

/// Everything found, in the order of the turn, and the memory it holds.
struct Round {
    got: Vec<Got>,
    memory: Vec<Permit>,
    /// Where to wait for more.
    here: Vec<Position>,
    there: Vec<(CoreIndex, Position)>,
    /// There is more than there was memory for: waiting for still more is of no use.
    starved: bool,
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
    async fn run(&self, context: &Context, turn: &Turn) -> Round {
        loop {
            let round = self.read(turn).await;
            let bytes: usize = round.got.iter().map(Got::record_bytes).sum();
            let left = self.deadline.saturating_duration_since(clock::now());
            let enough = bytes >= self.min_bytes || round.starved || round.got.iter().any(Got::is_urgent);
            if enough || left.is_zero() || turn.partitions.is_empty() || self.core.stop().is_raised() {
                return round;
            }
            let Round { here, there, .. } = round;
            context.mark(Stage::Ordered);
            self.wait(here, there, left).await;
            context.mark(Stage::Parked);
        }
    }

    /// Waits until enough has become visible, or the time is up.
    async fn wait(&self, here: Vec<Position>, there: Vec<(CoreIndex, Position)>, left: Duration) {
        // Bytes of several cores cannot be added up while waiting: any news is looked at.
        let min_bytes = if there.is_empty() { self.min_bytes } else { 1 };
        let mut elsewhere = Vec::new();
        for (owner, positions) in scatter::by_core(there) {
            let call = Call::Watch { positions, isolation: self.isolation, min_bytes, wait: left };
            if let Ok(answer) = self.core.router().call(owner, call).await {
                elsewhere.push(answer);
            }
        }
        let local = partitions::wait_for_news(self.core, &here, self.isolation, min_bytes, left);
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
    async fn read(&self, turn: &Turn) -> Round {
        let mut round = Round {
            got: Vec::with_capacity(turn.partitions.len()),
            memory: Vec::new(),
            here: Vec::new(),
            there: Vec::new(),
            starved: false,
        };
        let (mut places, mut reads, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (key, wanted)) in turn.partitions.iter().enumerate() {
            round.got.push(match self.target(key, wanted) {
                Err(code) | Ok((_, Target::Refuse(code))) => Got::Refused(code),
                Ok((read, Target::Here(_))) => {
                    round.here.push(read.position());
                    places.push(at);
                    reads.push(read);
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
        let found = reads::read_all(self.core, &reads, limits, self.core.read_memory()).await;
        for (place, result) in places.into_iter().zip(found) {
            round.got[place] = match result {
                Ok(mut found) => {
                    round.memory.extend(found.memory.take());
                    round.starved |= found.starved;
                    Got::Records { bounds: found.bounds, diverging: found.diverging, records: found.records }
                }
                Err(error) => Got::Refused(errors::read(error)),
            };
        }
        if !elsewhere.is_empty() {
            self.read_elsewhere(elsewhere, &mut round).await;
        }
        round
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
                        Got::Records { bounds: found.bounds, diverging: found.diverging, records: found.records.into() }
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

    fn answer(&self, context: &Context, turn: Turn, round: Round) -> Answer {
        let mut response = FetchResponse { session_id: turn.session_id, ..FetchResponse::default() };
        let mut sessions = self.core.fetch_sessions();
        for ((key, _), got) in turn.partitions.into_iter().zip(round.got) {
            if turn.session_id != 0 && !sessions.tell(turn.session_id, &key, told(&got)) && !turn.full {
                continue;
            }
            let partition = self.partition(context, &key, got, &mut response);
            let topic = match self.uses_ids {
                true => Topic::Id(key.topic_id),
                false => Topic::Name(StrBytes::from_string(key.topic.to_string())),
            };
            match response.topics.last_mut() {
                Some(last) if last.topic == topic => last.partitions.push(partition),
                _ => response.topics.push(FetchedTopic { topic, partitions: vec![partition] }),
            }
        }
        drop(sessions);
        Answer { memory: round.memory, ..response.into_rope(context.version).into() }
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
            Got::Records { bounds, diverging, records } => FetchedPartition {
                high_watermark: bounds.high_watermark.0,
                last_stable_offset: bounds.last_stable.0,
                log_start_offset: bounds.log_start.0,
                aborted_transactions: (self.isolation == Isolation::ReadCommitted).then(Vec::new),
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
        Got::Records { bounds, diverging, records } => Told {
            has_records: !records.is_empty(),
            is_error: false,
            has_hint: diverging.is_some(),
            high_watermark: bounds.high_watermark,
            log_start: bounds.log_start,
        },
    }
}
