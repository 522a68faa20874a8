//! FindCoordinator (10), versions 0–6: the broker that coordinates a group.
//!
//! - The first question for a group creates `__consumer_offsets`
//!   (`offsets.topic.num.partitions`, `offsets.topic.replication.factor`,
//!   `offsets.topic.segment.bytes`). The answer waits until it can be used (Kafka answers
//!   COORDINATOR_NOT_AVAILABLE meanwhile); when it cannot be created, that is the answer.
//! - v0: groups only. v1: key types, error message. v3: flexible. v4: several keys
//!   (KIP-699). v5: KIP-890 errors. v6: share groups (KIP-932).
//! - Transactional ids (type 1): COORDINATOR_NOT_AVAILABLE, transactions are not served
//!   yet. Share groups (type 2) and unknown types: INVALID_REQUEST.

use std::rc::Rc;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::brokers::{self, Broker};
use super::errors::{self, Code};
use super::{Context, LocalFuture};
use crate::config::BrokerConfig;
use crate::metadata::controller::NewTopic;
use crate::metadata::{Answer, Intention, Reason};
use crate::shard::Core;
use crate::shard::coordinators::OFFSETS_TOPIC;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn handle(core: &Rc<Core>, request: FindCoordinatorRequest, context: &Context) -> FindCoordinatorResponse {
    if context.version >= 4 {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            let found = find(core, context, request.key_type, &key).await;
            let code = errors::code(&found);
            let (id, host, port) = address(found.ok());
            coordinators.push(
                Coordinator::default()
                    .with_key(key)
                    .with_node_id(id)
                    .with_host(host)
                    .with_port(port)
                    .with_error_code(code)
                    .with_error_message(Some(StrBytes::new())),
            );
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(core, context, request.key_type, &request.key).await;
    let response = FindCoordinatorResponse::default().with_error_code(errors::code(&found));
    // Kafka says NONE where there is nothing to say.
    let message = match &found {
        Ok(_) => "NONE",
        Err(Code::InvalidRequest) => "Only groups have a coordinator here.",
        Err(_) => "The coordinator is not available.",
    };
    let (id, host, port) = address(found.ok());
    let response = response.with_node_id(id).with_host(host).with_port(port);
    match context.version {
        1.. => response.with_error_message(Some(StrBytes::from_static_str(message))),
        _ => response,
    }
}

fn address(broker: Option<Broker>) -> (BrokerId, StrBytes, i32) {
    match broker {
        Some(broker) => (BrokerId(broker.id.0), StrBytes::from_string(broker.host), i32::from(broker.port)),
        None => (BrokerId(-1), StrBytes::new(), -1),
    }
}

async fn find(core: &Rc<Core>, context: &Context, key_type: i8, key: &str) -> Result<Broker, Code> {
    match key_type {
        GROUP => {}
        TRANSACTION => return Err(Code::CoordinatorNotAvailable),
        _ => return Err(Code::InvalidRequest),
    }
    if core.group_owner(key).is_none() {
        create_offsets_topic(core).await?;
    }
    let owner = core.group_owner(key).flatten().ok_or(Code::CoordinatorNotAvailable)?;
    brokers::of_core(core, owner, context.listener).ok_or(Code::CoordinatorNotAvailable)
}

async fn create_offsets_topic(core: &Rc<Core>) -> Result<(), Code> {
    let intention = Intention::CreateTopics { topics: vec![offsets_topic(&core.config())], validate_only: false };
    // Boxed: the future of a whole creation would be carried by every FindCoordinator.
    let control: LocalFuture<_> = {
        let core = Rc::clone(core);
        Box::pin(async move { core.control(intention).await })
    };
    let refusal = match control.await {
        Ok(Answer::CreateTopics(results)) => results.into_iter().find_map(|(_, result)| result.err()),
        Ok(_) => unreachable!("an intention is answered in kind"),
        Err(unavailable) => {
            tracing::warn!(%unavailable, "create {OFFSETS_TOPIC}");
            return Err(Code::CoordinatorNotAvailable);
        }
    };
    match refusal {
        None => Ok(()),
        // Another question was faster.
        Some(refusal) if refusal.reason == Reason::TopicExists => Ok(()),
        Some(refusal) => {
            tracing::warn!(reason = ?refusal.reason, message = refusal.message, "create {OFFSETS_TOPIC}");
            Err(Code::CoordinatorNotAvailable)
        }
    }
}

/// `GroupCoordinatorService.groupMetadataTopicConfigs`.
pub(super) fn offsets_topic(config: &BrokerConfig) -> NewTopic {
    let options = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: config.offsets_topic_num_partitions,
        replication_factor: config.offsets_topic_replication_factor,
        assignments: Vec::new(),
        configs: options.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect(),
    }
}
