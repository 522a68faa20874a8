//! Produce (0), versions 3–13: records appended to partitions.
//!
//! - Ordered when [`handle`] returns: every batch has its place in its log, or has been
//!   refused. Answered when all are as safe as `acks` asks: 1 written to the drive,
//!   −1 committed (flushed too, with `flush.messages=1`). acks=0 has no answer; when
//!   something fails the connection ends, which is the only way to tell.
//! - Each partition stands alone: one that is refused does not fail the others.
//! - v7 zstd. v8 record errors and message (KIP-467). v10 the current leader and where
//!   it is, when a client came to the wrong broker (KIP-951). v13 topic ids (KIP-516):
//!   an unknown one is UNKNOWN_TOPIC_ID.
//! - Internal topics may be written by the client id `__admin_client` alone.
//! - Not yet: transactions, quotas. A transactional batch is refused as Kafka does when its
//!   partition is not part of a transaction (KIP-890: INVALID_TXN_STATE), or when the request
//!   has no transactional id (TRANSACTIONAL_ID_AUTHORIZATION_FAILED). Nothing could end its
//!   transaction, and what is committed would never go beyond it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;

use super::errors::{self, Code};
use super::held::{Held, Reusable, Shelf};
use super::target::{self, Target};
use super::{Answer, AnswerBody, Context, Reply, brokers, scatter};
use crate::base::wait::Receiver;
use crate::base::{CoreIndex, Uuid};
use crate::metadata::image::Topic;
use crate::metrics::Stage;
use crate::partition::{self, Acks, Safe};
use crate::record::BatchView;
use crate::runtime::clock;
use crate::runtime::task;
use crate::shard::Core;
use crate::shard::coordinators::is_internal;
use crate::shard::messages::{self, Call, ForwardedProduce};
use crate::shard::partitions::{self, Acknowledged, AppendError, AppendRules, Appended};
use crate::wire::produce::{ProduceRequest, ProduceResponse, ProducedPartition, ProducedTopic};
use crate::wire::{CurrentLeader, NodeEndpoint, Scratch};

/// Kafka lets only its own tools write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// What became of one partition of the request, up to being ordered.
enum Ordered {
    Refused(Refused),
    Here(Appended),
    /// At this place in the message to that core.
    There(CoreIndex, usize),
}

struct Refused {
    code: Code,
    error: Option<AppendError>,
}

impl From<Code> for Refused {
    fn from(code: Code) -> Refused {
        Refused { code, error: None }
    }
}

struct Part {
    /// The place of its topic in the answer.
    topic: usize,
    index: i32,
    topic_id: Uuid,
    ordered: Ordered,
}

/// What went to another core.
struct Elsewhere {
    owner: CoreIndex,
    /// `None`: the answer is there, or there will be none.
    answer: Option<Receiver<messages::Answer>>,
    results: Vec<Result<Acknowledged, AppendError>>,
}

/// A request's parts and what becomes of them. Used again for later requests, so that
/// one of usual size allocates nothing.
#[derive(Default)]
struct Work {
    parts: Vec<Part>,
    /// Parts before this one are answered.
    next: usize,
    elsewhere: Vec<Elsewhere>,
    /// Has the topics from the beginning, and the partitions that are answered.
    response: ProduceResponse,
    /// Lists for the response's partitions.
    spare: Vec<Vec<ProducedPartition>>,
    safe: Safe,
    failed: bool,
}

impl Work {
    fn add_topic(&mut self, topic: crate::wire::Topic, partitions: usize) -> usize {
        let mut list = self.spare.pop().unwrap_or_default();
        list.reserve(partitions);
        self.response.topics.push(ProducedTopic { topic, partitions: list });
        self.response.topics.len() - 1
    }
}

/// One that has held more parts or topics than this is not kept.
const KEPT_PARTS_MAX: usize = 64;

thread_local! {
    static SHELF: Shelf<Work> = const { RefCell::new(Vec::new()) };
}

impl Reusable for Work {
    fn with_unused<R>(look: impl FnOnce(&mut Vec<Box<Work>>) -> R) -> Option<R> {
        SHELF.try_with(|shelf| look(&mut shelf.borrow_mut())).ok()
    }

    fn clear(&mut self) -> bool {
        let Work { parts, next, elsewhere, response, spare, safe, failed } = self;
        parts.clear();
        elsewhere.clear();
        for mut topic in response.topics.drain(..) {
            topic.partitions.clear();
            spare.push(topic.partitions);
        }
        response.node_endpoints.clear();
        (*next, *safe, *failed) = (0, Safe::default(), false);
        parts.capacity() <= KEPT_PARTS_MAX && response.topics.capacity() <= KEPT_PARTS_MAX
    }
}

/// A request that is ordered: the future of its answer.
pub struct Pending {
    core: Rc<Core>,
    work: Held<Work>,
    version: i16,
    listener: usize,
    acks: Option<Acks>,
}

pub async fn handle(core: &Rc<Core>, context: &Context, body: Bytes) -> Reply {
    let version = context.version;
    let request = match ProduceRequest::parse(body, version) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(client = %context.client_host, %error, "unreadable produce request");
            return Reply::Close;
        }
    };
    context.partitions.set(request.partition_count());
    context.mark_parsed();
    let acks = match request.acks() {
        0 => Ok(None),
        1 => Ok(Some(Acks::Leader)),
        -1 => Ok(Some(Acks::All)),
        _ => Err(Code::InvalidRequiredAcks),
    };
    let not_begun = match request.transactional_id() {
        Some(_) => Code::InvalidTxnState,
        None => Code::TransactionalIdAuthorizationFailed,
    };
    let how =
        AppendRules { zstd_allowed: version >= 7, acks: acks.unwrap_or(Some(Acks::Leader)), now: clock::unix_ms() };
    let mut work = Held::<Work>::take();
    let mut elsewhere = Vec::new();
    for topic in request.topics() {
        let known = match (acks, topic.id()) {
            (Err(code), _) => Err(code),
            (_, Some(id)) => core.image().topic_by_id(id).cloned().ok_or(Code::UnknownTopicId),
            (_, None) => {
                topic.name().and_then(|name| core.image().topic(name).cloned()).ok_or(Code::UnknownTopicOrPartition)
            }
        };
        let place = work.add_topic(topic.topic(), topic.partition_count());
        for partition in topic {
            let index = partition.index;
            let (topic_id, ordered) = match (&known, partition.records) {
                (Err(code), _) => (Uuid::ZERO, Ordered::Refused((*code).into())),
                (Ok(topic), records) => {
                    let batch = records.unwrap_or_default();
                    let ordered = match BatchView::first(&batch).is_ok_and(|batch| batch.is_transactional()) {
                        true => Err(not_begun.into()),
                        false => order(core, context, topic, index, batch, how, &mut elsewhere).await,
                    };
                    (topic.id, ordered.unwrap_or_else(Ordered::Refused))
                }
            };
            work.parts.push(Part { topic: place, index, topic_id, ordered });
            task::yield_if_needed().await;
        }
    }
    drop(request);
    // One message per core; sent here and now, so that it has its place in the order.
    for (owner, batches) in scatter::by_core(elsewhere) {
        let call = Call::Produce(ForwardedProduce { how, batches });
        let answer = core.router().call(owner, call).await.ok();
        work.elsewhere.push(Elsewhere { owner, answer, results: Vec::new() });
    }
    context.mark(Stage::Ordered);
    let acks = how.acks;
    let mut pending = Pending { core: Rc::clone(core), work, version, listener: context.listener, acks };
    if acks.is_some() {
        return Reply::Later(pending);
    }
    std::future::poll_fn(|cx| pending.poll_parts(cx)).await;
    if pending.work.failed { Reply::Close } else { Reply::None }
}

impl Future for Pending {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Answer> {
        ready!(self.poll_parts(cx));
        let safe = self.work.safe;
        let work = std::mem::replace(&mut self.work, Held::none());
        let body = AnswerBody::Produced(Produced { work, version: self.version });
        Poll::Ready(Answer { body, safe })
    }
}

/// The answer to a Produce, not written yet.
pub struct Produced {
    work: Held<Work>,
    version: i16,
}

impl Produced {
    /// Writes it behind what is there.
    pub fn write(&self, to: &mut Scratch) {
        to.make_room(self.work.response.about_bytes());
        self.work.response.write(self.version, to);
    }
}

impl Pending {
    /// Ready when every part has what the producer asked for, or has failed.
    fn poll_parts(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let work = &mut *self.work;
        for part in &mut work.elsewhere {
            if let Some(answer) = &mut part.answer {
                let answer = ready!(Pin::new(answer).poll(cx));
                if let Ok(messages::Answer::Produce(results)) = answer {
                    part.results = results;
                }
                part.answer = None;
            }
        }
        while let Some(part) = work.parts.get_mut(work.next) {
            let result = match &mut part.ordered {
                Ordered::Here(appended) => ready!(appended.poll_acknowledged(self.acks, cx)).map_err(refused),
                Ordered::Refused(why) => Err(Refused { code: why.code, error: why.error.take() }),
                Ordered::There(owner, place) => {
                    let results = work.elsewhere.iter_mut().find(|e| e.owner == *owner).map(|e| &mut e.results);
                    match results.and_then(|results| results.get_mut(*place)) {
                        Some(result) => std::mem::replace(result, Err(AppendError::NotHere)).map_err(refused),
                        // The process is stopping.
                        None => Err(Code::NotLeaderOrFollower.into()),
                    }
                }
            };
            work.next += 1;
            let answer = match result {
                Ok(acknowledged) => {
                    work.safe = work.safe.and(acknowledged.safe);
                    accepted(part.index, &acknowledged.produced)
                }
                Err(refused) => {
                    work.failed = true;
                    let (version, listener) = (self.version, self.listener);
                    let endpoints = &mut work.response.node_endpoints;
                    declined(&self.core, version, listener, part, refused, endpoints)
                }
            };
            work.response.topics[part.topic].partitions.push(answer);
        }
        Poll::Ready(())
    }
}

/// Gives one partition's batch its place.
async fn order(
    core: &Core,
    context: &Context,
    topic: &Topic,
    index: i32,
    batch: Bytes,
    how: AppendRules,
    elsewhere: &mut Vec<(CoreIndex, (Uuid, i32, Bytes))>,
) -> Result<Ordered, Refused> {
    if is_internal(&topic.name) && context.client_id() != ADMIN_CLIENT {
        return Err(Code::InvalidTopicException.into());
    }
    match target::find(core, topic.id, index) {
        Target::Here(partition) => partitions::append_to(&partition, &batch, how)
            .await
            .map(Ordered::Here)
            .map_err(|error| Refused { code: errors::append(&error), error: Some(error) }),
        Target::Forward(owner) => {
            let place = elsewhere.iter().filter(|(core, _)| *core == owner).count();
            elsewhere.push((owner, (topic.id, index, batch)));
            Ok(Ordered::There(owner, place))
        }
        Target::Refuse(code) => Err(code.into()),
    }
}

fn refused(error: AppendError) -> Refused {
    Refused { code: errors::append(&error), error: Some(error) }
}

fn accepted(index: i32, produced: &partition::Produced) -> ProducedPartition {
    ProducedPartition {
        index,
        error_code: errors::NONE,
        base_offset: produced.base_offset.0,
        log_append_time_ms: produced.log_append_time.0,
        log_start_offset: produced.log_start_offset.0,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    }
}

fn declined(
    core: &Core,
    version: i16,
    listener: usize,
    part: &Part,
    refused: Refused,
    endpoints: &mut Vec<NodeEndpoint>,
) -> ProducedPartition {
    let named = || match core.image().topic_by_id(part.topic_id) {
        Some(topic) => format!("{}-{}", topic.name, part.index),
        None => part.index.to_string(),
    };
    let (message, record_errors) = match &refused.error {
        Some(error) => {
            let partition = named();
            (Some(errors::append_words(error, &partition).into()), errors::record_errors(error, &partition))
        }
        None => (None, Vec::new()),
    };
    let mut answer = ProducedPartition::error(part.index, refused.code.code(), message);
    answer.record_errors = record_errors;
    if refused.code == Code::NotLeaderOrFollower && version >= 10 {
        answer.current_leader = current_leader(core, listener, part.topic_id, part.index, endpoints);
    }
    answer
}

/// The leader of a partition, as a client that came to the wrong broker is told
/// (KIP-951); its address goes into `endpoints`.
pub fn current_leader(
    core: &Core,
    listener: usize,
    topic_id: Uuid,
    partition: i32,
    endpoints: &mut Vec<NodeEndpoint>,
) -> Option<CurrentLeader> {
    let image = core.image();
    let state = image.partition(topic_id, partition)?;
    let owner = core.placement().core_of(topic_id, partition);
    let broker = brokers::of_core(core, owner, listener)?;
    if !endpoints.iter().any(|e| e.node_id == broker.id.0) {
        endpoints.push(NodeEndpoint {
            node_id: broker.id.0,
            host: broker.host,
            port: i32::from(broker.port),
            rack: broker.rack,
        });
    }
    Some(CurrentLeader { leader_id: broker.id.0, leader_epoch: state.leader_epoch.0 })
}
