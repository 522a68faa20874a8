//! ElectLeaders (43), versions 0–2: has the preferred replica lead, or any (KIP-183, KIP-460).
//!
//! - A partition's one replica leads it, so no election is needed (ELECTION_NOT_NEEDED), unless its data directory has failed:
//!   then there is nobody to be elected (PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE).
//! - Of null, all partitions, those that need no election are left out.
//! - v1 election type, error for the whole request: INVALID_REQUEST for a type that is not known.

use std::rc::Rc;

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::Code;
use super::text;
use crate::metadata::Image;
use crate::shard::Core;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub async fn handle(core: &Rc<Core>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let nobody = match request.election_type {
        PREFERRED => (Code::PreferredLeaderNotAvailable, "The preferred leader was not available."),
        UNCLEAN => (Code::EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available."),
        _ => return invalid(&request),
    };
    let image = core.image();
    let results = match &request.topic_partitions {
        None => image
            .topics()
            .map(|topic| {
                let numbers = topic.partitions.iter().filter(|(_, state)| state.leader.is_none());
                let results = numbers.map(|(number, _)| elect(&image, &topic.name, *number, nobody));
                result(&topic.name, results.collect())
            })
            .collect(),
        Some(topics) => topics
            .iter()
            .map(|wanted| {
                let results = wanted.partitions.iter().map(|number| elect(&image, &wanted.topic, *number, nobody));
                result(&wanted.topic, results.collect())
            })
            .collect(),
    };
    ElectLeadersResponse::default().with_replica_election_results(results)
}

fn result(topic: &str, results: Vec<PartitionResult>) -> ReplicaElectionResult {
    ReplicaElectionResult::default().with_topic(TopicName(text(topic))).with_partition_result(results)
}

/// `nobody`: what is said where there is none to be elected.
fn elect(image: &Image, topic: &str, number: i32, nobody: (Code, &str)) -> PartitionResult {
    let (code, words) = match image.topic(topic) {
        None => (Code::UnknownTopicOrPartition, format!("No such topic as {topic}")),
        Some(found) => match found.partitions.get(&number) {
            None => (Code::UnknownTopicOrPartition, format!("No such partition as {topic}-{number}")),
            Some(state) if state.leader.is_some() => {
                (Code::ElectionNotNeeded, "Leader election not needed for topic partition.".to_string())
            }
            Some(_) => (nobody.0, nobody.1.to_string()),
        },
    };
    PartitionResult::default()
        .with_partition_id(number)
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_string(words)))
}

/// The answer to a request that cannot be meant so (`ElectLeadersRequest.getErrorResponse`).
fn invalid(request: &ElectLeadersRequest) -> ElectLeadersResponse {
    let code = Code::InvalidRequest.code();
    let words = format!("Unknown election type {}", request.election_type);
    let refused = request.topic_partitions.iter().flatten().map(|wanted| {
        let of = |number: &i32| {
            PartitionResult::default()
                .with_partition_id(*number)
                .with_error_code(code)
                .with_error_message(Some(text(&words)))
        };
        result(&wanted.topic, wanted.partitions.iter().map(of).collect())
    });
    ElectLeadersResponse::default().with_error_code(code).with_replica_election_results(refused.collect())
}
