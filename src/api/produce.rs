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

use std::rc::Rc;

use bytes::Bytes;

use super::errors::{self, Code};
use super::target::{self, Target};
use super::{Answer, Context, Reply, brokers, scatter};
use crate::base::wait::Receiver;
use crate::base::{CoreIndex, Uuid};
use crate::metadata::image::Topic;
use crate::partition::{Acks, Produced};
use crate::record::BatchView;
use crate::runtime::clock;
use crate::runtime::task;
use crate::shard::Core;
use crate::shard::messages::{self, Call, ForwardedProduce};
use crate::shard::partitions::{self, AppendError, AppendRules, Appended};
use crate::wire::produce::{ProduceRequest, ProduceResponse, ProducedPartition, ProducedTopic};
use crate::wire::{CurrentLeader, NodeEndpoint};

/// Kafka lets only its own tools write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";
/// `Topic.INTERNAL_TOPICS`.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether a topic belongs to the broker itself.
pub fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

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
    index: i32,
    topic_id: Uuid,
    ordered: Ordered,
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
    let mut topics = Vec::new();
    let mut elsewhere = Vec::new();
    for topic in request.topics() {
        let known = match (acks, topic.id()) {
            (Err(code), _) => Err(code),
            (_, Some(id)) => core.image().topic_by_id(id).cloned().ok_or(Code::UnknownTopicId),
            (_, None) => {
                topic.name().and_then(|name| core.image().topic(name).cloned()).ok_or(Code::UnknownTopicOrPartition)
            }
        };
        let named = topic.topic();
        let mut parts = Vec::with_capacity(topic.partition_count());
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
            parts.push(Part { index, topic_id, ordered });
            task::yield_if_needed().await;
        }
        topics.push((named, parts));
    }
    drop(request);
    let acks = how.acks;
    // One message per core; sent here and now, so that it has its place in the order.
    let mut answers = Vec::new();
    for (owner, batches) in scatter::by_core(elsewhere) {
        let call = Call::Produce(ForwardedProduce { how, batches });
        answers.push((owner, core.router().call(owner, call).await.ok()));
    }
    let reply = {
        let (core, context) = (Rc::clone(core), context.clone());
        async move { respond(core, context, topics, answers, acks).await }
    };
    match acks {
        None => match reply.await.1 {
            true => Reply::Close,
            false => Reply::None,
        },
        Some(_) => Reply::Later(Box::pin(async move { reply.await.0 })),
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

type Waiting = Vec<(CoreIndex, Option<Receiver<messages::Answer>>)>;

/// Waits for all partitions and builds the answer. True when any of them failed.
async fn respond(
    core: Rc<Core>,
    context: Context,
    topics: Vec<(crate::wire::Topic, Vec<Part>)>,
    waiting: Waiting,
    acks: Option<Acks>,
) -> (Answer, bool) {
    let mut there = Vec::with_capacity(waiting.len());
    for (owner, receiver) in waiting {
        let results = match receiver {
            Some(receiver) => match receiver.await {
                Ok(messages::Answer::Produce(results)) => results,
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        there.push((owner, results));
    }
    let mut response = ProduceResponse::default();
    let mut failed = false;
    for (named, parts) in topics {
        let mut partitions = Vec::with_capacity(parts.len());
        for Part { index, topic_id, ordered } in parts {
            let result = match ordered {
                Ordered::Refused(refused) => Err(refused),
                Ordered::Here(appended) => appended.acknowledged(acks).await.map_err(refused),
                Ordered::There(owner, place) => {
                    let results = there.iter_mut().find(|(core, _)| *core == owner).map(|(_, results)| results);
                    match results.and_then(|r| r.get_mut(place)) {
                        Some(result) => std::mem::replace(result, Err(AppendError::NotHere)).map_err(refused),
                        // The process is stopping.
                        None => Err(Code::NotLeaderOrFollower.into()),
                    }
                }
            };
            failed |= result.is_err();
            partitions.push(match result {
                Ok(produced) => accepted(index, &produced),
                Err(refused) => declined(&core, &context, index, topic_id, refused, &mut response.node_endpoints),
            });
        }
        response.topics.push(ProducedTopic { topic: named, partitions });
    }
    (response.encode(context.version).into(), failed)
}

fn refused(error: AppendError) -> Refused {
    Refused { code: errors::append(&error), error: Some(error) }
}

fn accepted(index: i32, produced: &Produced) -> ProducedPartition {
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
    context: &Context,
    index: i32,
    topic_id: Uuid,
    refused: Refused,
    endpoints: &mut Vec<NodeEndpoint>,
) -> ProducedPartition {
    let message = refused.error.as_ref().map(|e| e.to_string().into());
    let mut answer = ProducedPartition::error(index, refused.code.code(), message);
    if let Some(error) = &refused.error {
        answer.record_errors = errors::record_errors(error);
    }
    if refused.code == Code::NotLeaderOrFollower && context.version >= 10 {
        answer.current_leader = current_leader(core, context, topic_id, index, endpoints);
    }
    answer
}

/// The leader of a partition, as a client that came to the wrong broker is told
/// (KIP-951); its address goes into `endpoints`.
pub fn current_leader(
    core: &Core,
    context: &Context,
    topic_id: Uuid,
    partition: i32,
    endpoints: &mut Vec<NodeEndpoint>,
) -> Option<CurrentLeader> {
    let image = core.image();
    let state = image.partition(topic_id, partition)?;
    let owner = core.placement().core_of(topic_id, partition);
    let broker = brokers::of_core(core, owner, context.listener)?;
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
