//! AlterPartitionReassignments (45), versions 0–1: puts replicas on other brokers (KIP-455).
//!
//! - A partition has one replica, on the broker that it is shown on. Asked for exactly that, nothing is to be done, which is
//!   a success: so it comes from `kafka-reassign-partitions`, whose plans name brokers also where only a data directory
//!   is to change.
//! - More brokers, or others: INVALID_REPLICA_ASSIGNMENT. Brokers that are not there, none, or the same twice: that too,
//!   in Kafka's words. v1 `allow_replication_factor_change` = false: INVALID_REPLICATION_FACTOR for another number of them.
//! - Null ends a reassignment, of which there is none: NO_REASSIGNMENT_IN_PROGRESS.

use std::rc::Rc;

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::{Context, brokers};
use crate::base::BrokerId;
use crate::metadata::controller;
use crate::shard::Core;

pub async fn handle(
    core: &Rc<Core>,
    request: AlterPartitionReassignmentsRequest,
    context: &Context,
) -> AlterPartitionReassignmentsResponse {
    let may_resize = request.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let outcome = reassign(core, &topic.name, wanted, may_resize);
            let answer = ReassignablePartitionResponse::default().with_partition_index(wanted.partition_index);
            match outcome {
                Ok(()) => answer.with_error_code(errors::NONE).with_error_message(None),
                Err((code, words)) => {
                    answer.with_error_code(code.code()).with_error_message(words.map(StrBytes::from_string))
                }
            }
        });
        let partitions = partitions.collect();
        responses.push(ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    let response = AlterPartitionReassignmentsResponse::default().with_error_message(None).with_responses(responses);
    match context.version {
        0 => response,
        _ => response.with_allow_replication_factor_change(may_resize),
    }
}

/// As `ReplicationControlManager.alterPartitionReassignment`, where every partition has one replica.
fn reassign(
    core: &Core,
    topic: &str,
    wanted: &ReassignablePartition,
    may_resize: bool,
) -> Result<(), (Code, Option<String>)> {
    let image = core.image();
    let (unknown, number) = (Code::UnknownTopicOrPartition, wanted.partition_index);
    let found = image.topic(topic).ok_or_else(|| (unknown, Some(format!("Unable to find a topic named {topic}."))))?;
    if !found.partitions.contains_key(&number) {
        return Err((unknown, Some(format!("Unable to find partition {topic}:{number}."))));
    }
    let Some(replicas) = &wanted.replicas else {
        return Err((Code::NoReassignmentInProgress, None));
    };
    let replicas: Vec<i32> = replicas.iter().map(|broker| broker.0).collect();
    let is_shown = |broker: i32| core.brokers().node_of(BrokerId(broker)).is_some();
    controller::validate_assignment(is_shown, &replicas, None)
        .map_err(|refusal| (errors::refusal(&refusal), refusal.message))?;
    let leader = brokers::leader_of(core, found.id, number).0;
    let invalid = |words: String| Err((Code::InvalidReplicaAssignment, Some(words)));
    match replicas[..] {
        [only] if only == leader => Ok(()),
        [only] => invalid(format!("The partition is on broker {leader}; broker {only} is another core of its host.")),
        _ if !may_resize => {
            let words = format!("The replication factor is changed from 1 to {}", replicas.len());
            Err((Code::InvalidReplicationFactor, Some(words)))
        }
        _ => invalid("Partitions have one replica here.".to_string()),
    }
}
