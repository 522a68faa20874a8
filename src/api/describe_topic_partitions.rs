//! DescribeTopicPartitions (75), version 0: who leads what, in pages (KIP-966).
//!
//! - Topics in the order of their names, those that are named or all; a page ends with the limit of the request, or of
//!   `max.request.partition.size.limit`, and the answer has the cursor of the next one.
//! - A partition has what Metadata says of it, but no error of its own where nobody leads it. There are no eligible leaders
//!   besides its one replica.
//! - A cursor whose topic is not among those that are named, or before partition 0: INVALID_REQUEST for each of them.

use std::collections::BTreeSet;
use std::rc::Rc;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};

use super::errors::Code;
use super::metadata::Shown;
use super::{admin, text};
use crate::metadata::controller::validate_topic_name;
use crate::metadata::image::Topic;
use crate::shard::Core;
use crate::shard::coordinators::is_internal;

pub async fn handle(core: &Rc<Core>, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = core.image();
    let (from, first) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = match all {
        true => image.topics().map(|topic| &*topic.name).filter(|name| *name >= from).collect(),
        false => request.topics.iter().map(|topic| topic.name.as_str()).filter(|name| *name >= from).collect(),
    };
    if first < 0 || (request.cursor.is_some() && !all && !names.contains(from)) {
        let refused = request.topics.iter().map(|topic| failed(&topic.name, Code::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
    }
    let limit = core.config().max_request_partition_size_limit.min(request.response_partition_limit).max(1);
    let mut left = limit as usize;
    let mut topics = Vec::new();
    let mut next = None;
    for name in names {
        if left == 0 {
            next = Some((name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            topics.push(failed(
                name,
                match validate_topic_name(name) {
                    Ok(()) => Code::UnknownTopicOrPartition,
                    Err(_) => Code::InvalidTopicException,
                },
            ));
            continue;
        };
        let start = if name == from { first } else { 0 };
        let mut numbers = topic.partitions.range(start..).map(|(number, _)| *number);
        let page: Vec<i32> = numbers.by_ref().take(left).collect();
        left -= page.len();
        topics.push(described(core, topic, &page));
        if let Some(number) = numbers.next() {
            next = Some((name, number));
            break;
        }
    }
    let next = next
        .map(|(name, number)| Cursor::default().with_topic_name(TopicName(text(name))).with_partition_index(number));
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next)
}

fn failed(name: &str, code: Code) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(TopicName(text(name))))
        .with_is_internal(is_internal(name))
}

fn described(core: &Core, topic: &Topic, numbers: &[i32]) -> DescribeTopicPartitionsResponseTopic {
    let partitions = numbers.iter().filter_map(|number| {
        let state = topic.partitions.get(number)?;
        let shown = Shown::of(core, topic.id, *number, state);
        let partition = DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(*number)
            .with_leader_id(shown.leader.unwrap_or(BrokerId(-1)))
            .with_leader_epoch(state.leader_epoch.0)
            .with_replica_nodes(vec![shown.broker])
            .with_isr_nodes(shown.leader.into_iter().collect())
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(shown.offline());
        Some(partition)
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(admin::crate_uuid(topic.id))
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(admin::TOPIC_OPERATIONS)
}
