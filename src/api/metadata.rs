//! Metadata (3), versions 0–13: brokers, topics, and who leads what.
//!
//! - v0: no topics means all. v1+: null means all, none means none. v10 topic ids in the
//!   answer; v12 a request may name topics by id (KIP-516): UNKNOWN_TOPIC_ID.
//! - v4 `allow_auto_topic_creation`: together with `auto.create.topics.enable` an unknown
//!   topic is created. Kafka answers UNKNOWN_TOPIC_OR_PARTITION meanwhile and the client
//!   asks again; here creation is done before the answer leaves, so the first answer has it.
//! - v8–v10 cluster authorized operations, v8 topic authorized operations, when asked.
//! - v13 top-level error code (KIP-1102): never set.
//! - Brokers are those of `advertise`, with the addresses of the listener that the client
//!   came in on. The controller is the broker that was asked.
//! - A partition whose data directory has failed has no leader (LEADER_NOT_AVAILABLE) and nobody in sync, as Kafka shows it by
//!   default (KIP-966); v5: its one replica is among the offline ones.

use std::collections::HashSet;
use std::rc::Rc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::find_coordinator::offsets_topic;
use super::{Context, admin, brokers};
use crate::base::Uuid;
use crate::metadata::controller::{METADATA_TOPIC, NewTopic, validate_topic_name};
use crate::metadata::image::{PartitionState, Topic};
use crate::metadata::{Answer, Intention, Reason};
use crate::shard::Core;
use crate::shard::coordinators::{OFFSETS_TOPIC, is_internal};

/// What the request wants to know of.
#[derive(Clone, PartialEq, Eq)]
enum Wanted {
    Named(String),
    Id(Uuid),
}

pub async fn handle(core: &Rc<Core>, request: MetadataRequest, context: &Context) -> MetadataResponse {
    let operations = request.include_topic_authorized_operations && context.version >= 8;
    let may_create = context.version < 4 || request.allow_auto_topic_creation;
    let topics = match request.topics {
        Some(topics) if !topics.is_empty() || context.version > 0 => match wanted(&topics, context.version) {
            Some(wanted) => named(core, wanted, may_create, operations).await,
            None => return invalid(&topics),
        },
        _ => core.image().topics().map(|topic| known(core, topic, operations)).collect(),
    };
    let shown = brokers::all(core, context.listener).into_iter().map(|b| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(b.id.0))
            .with_host(StrBytes::from_string(b.host))
            .with_port(i32::from(b.port))
            .with_rack(b.rack.filter(|_| context.version >= 1).map(StrBytes::from_string))
    });
    let mut response = MetadataResponse::default().with_brokers(shown.collect()).with_topics(topics);
    if context.version >= 1 {
        response.controller_id = BrokerId(brokers::own(core).0);
    }
    if context.version >= 2 {
        response.cluster_id = Some(StrBytes::from_string(core.identity().cluster_id.clone()));
    }
    if (8..=10).contains(&context.version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = admin::CLUSTER_OPERATIONS;
    }
    for topic in &mut response.topics {
        fit(topic, context.version);
    }
    response
}

/// Each topic once. A request that names one by its id means only ids, as in Kafka.
/// `None`: it is one that Kafka refuses: ids before v12, or neither name nor id.
fn wanted(topics: &[MetadataRequestTopic], version: i16) -> Option<Vec<Wanted>> {
    let has_id = |topic: &MetadataRequestTopic| !topic.topic_id.is_nil();
    let by_id = topics.iter().any(has_id);
    if (by_id && version < 12) || (!by_id && topics.iter().any(|topic| topic.name.is_none())) {
        return None;
    }
    let mut seen = HashSet::new();
    let once = |topic: &&MetadataRequestTopic| match by_id {
        true => has_id(topic) && seen.insert((topic.topic_id, None)),
        false => seen.insert((topic.topic_id, topic.name.clone())),
    };
    let wanted = topics.iter().filter(once).map(|topic| match &topic.name {
        Some(name) if !by_id => Wanted::Named(name.to_string()),
        _ => Wanted::Id(admin::our_uuid(topic.topic_id)),
    });
    Some(wanted.collect())
}

/// The whole answer to a request that cannot be meant so (`MetadataRequest.getErrorResponse`).
fn invalid(topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let refused = topics.iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(Code::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default().with_controller_id(BrokerId(-1)).with_topics(refused.collect())
}

/// Leaves out what a version cannot say.
fn fit(topic: &mut MetadataResponseTopic, version: i16) {
    if version < 12 && topic.name.is_none() {
        topic.name = Some(TopicName(StrBytes::default()));
    }
    if version < 10 {
        topic.topic_id = Default::default();
    }
    if version < 1 {
        topic.is_internal = false;
    }
}

async fn named(core: &Rc<Core>, wanted: Vec<Wanted>, may_create: bool, operations: bool) -> Vec<MetadataResponseTopic> {
    let creating = may_create && core.config().auto_create_topics_enable;
    let mut missing = Vec::new();
    if creating {
        let image = core.image();
        for topic in &wanted {
            if let Wanted::Named(name) = topic
                && image.topic(name).is_none()
                && validate_topic_name(name).is_ok()
                && name != METADATA_TOPIC
                // Other internal topics come with what uses them, with options of their own.
                && (name == OFFSETS_TOPIC || !is_internal(name))
            {
                missing.push(name.clone());
            }
        }
    }
    let refused = if missing.is_empty() { Vec::new() } else { create(core, missing).await };
    let image = core.image();
    let topics = wanted.into_iter().map(|topic| match topic {
        Wanted::Named(name) => match image.topic(&name) {
            Some(topic) => known(core, topic, operations),
            None => {
                let code = refused.iter().find(|(n, _)| *n == name).map(|(_, code)| *code);
                let code = code.unwrap_or_else(|| match validate_topic_name(&name) {
                    Ok(()) => Code::UnknownTopicOrPartition,
                    Err(_) => Code::InvalidTopicException,
                });
                unknown(code, Some(name), Uuid::ZERO)
            }
        },
        Wanted::Id(id) => match image.topic_by_id(id) {
            Some(topic) => known(core, topic, operations),
            None => unknown(Code::UnknownTopicId, None, id),
        },
    });
    topics.collect()
}

/// Creates topics with the broker's defaults; says which were refused.
async fn create(core: &Core, names: Vec<String>) -> Vec<(String, Code)> {
    let new = |name: &String| match name.as_str() {
        OFFSETS_TOPIC => offsets_topic(&core.config()),
        name => NewTopic { name: name.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() },
    };
    let topics = names.iter().map(new).collect();
    match core.control(Intention::CreateTopics { topics, validate_only: false }).await {
        Ok(Answer::CreateTopics(results)) => results
            .into_iter()
            .filter_map(|(name, result)| match result {
                Err(refusal) if refusal.reason != Reason::TopicExists => Some((name, errors::refusal(&refusal))),
                _ => None,
            })
            .collect(),
        // The client asks again.
        _ => names.into_iter().map(|name| (name, Code::LeaderNotAvailable)).collect(),
    }
}

/// A partition as clients are shown it. Replicas are hosts in our metadata; a client is shown the broker that
/// answers for the core that owns the partition.
pub(super) struct Shown {
    /// That has its replica.
    pub broker: BrokerId,
    /// The same, if anybody leads it.
    pub leader: Option<BrokerId>,
    is_offline: bool,
}

impl Shown {
    pub(super) fn of(core: &Core, topic_id: Uuid, number: i32, state: &PartitionState) -> Shown {
        let broker = BrokerId(brokers::leader_of(core, topic_id, number).0);
        let is_offline = core.image().is_offline(core.config().node_id, state);
        Shown { broker, leader: state.leader.map(|_| broker), is_offline }
    }

    pub(super) fn offline(&self) -> Vec<BrokerId> {
        if self.is_offline { vec![self.broker] } else { Vec::new() }
    }
}

fn known(core: &Core, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|(index, state)| {
        let shown = Shown::of(core, topic.id, *index, state);
        let code = if shown.leader.is_some() { errors::NONE } else { Code::LeaderNotAvailable.code() };
        MetadataResponsePartition::default()
            .with_error_code(code)
            .with_partition_index(*index)
            .with_leader_id(shown.leader.unwrap_or(BrokerId(-1)))
            .with_leader_epoch(state.leader_epoch.0)
            .with_replica_nodes(vec![shown.broker])
            .with_isr_nodes(shown.leader.into_iter().collect())
            .with_offline_replicas(shown.offline())
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(admin::crate_uuid(topic.id))
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(match operations {
            true => admin::TOPIC_OPERATIONS,
            false => admin::OPERATIONS_NOT_ASKED,
        })
}

fn unknown(code: Code, name: Option<String>, id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        .with_is_internal(name.as_deref().is_some_and(is_internal))
        .with_name(name.map(|n| TopicName(StrBytes::from_string(n))))
        .with_topic_id(admin::crate_uuid(id))
}
