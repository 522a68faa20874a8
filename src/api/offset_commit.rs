//! OffsetCommit (8), versions 2–10: where a group will go on reading.
//!
//! - Answered when the offsets are committed in `__consumer_offsets`.
//! - A topic or partition that does not exist: UNKNOWN_TOPIC_OR_PARTITION for it alone, or
//!   UNKNOWN_TOPIC_ID if the topic was named by id. An error of the group stands at every
//!   other partition.
//! - v2–4: retention time. v6: leader epochs (KIP-320). v7: static members (KIP-345). v8:
//!   flexible. v9: GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION for a member of a
//!   group that does not exist (KIP-848). v10: topic ids instead of names (KIP-848): a commit
//!   for a topic that was deleted never counts for a new one of its name.

use std::rc::Rc;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, admin};
use crate::coordinator::group::{CommitPartition, CommitRequest, CommitTopic};
use crate::shard::Core;

const FIRST_WITH_TOPIC_IDS: i16 = 10;

pub async fn handle(core: &Rc<Core>, request: OffsetCommitRequest, context: &Context) -> OffsetCommitResponse {
    let groups = match groups::find(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            let forwarded = groups::forward(core, context, owner, &request).await;
            return forwarded.unwrap_or_else(|code| all_refused(&request, code));
        }
        Seat::Refuse(code) => return all_refused(&request, code),
    };
    let mut answers: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(request.topics.len());
    let mut commits = Vec::with_capacity(request.topics.len());
    // For each topic that is committed: its place in the answer, and there those of its partitions.
    let mut places = Vec::with_capacity(request.topics.len());
    let image = core.image();
    for topic in &request.topics {
        let (known, missing) = match context.version >= FIRST_WITH_TOPIC_IDS {
            true => (image.topic_by_id(admin::our_uuid(topic.topic_id)), Code::UnknownTopicId),
            false => (image.topic(&topic.name), Code::UnknownTopicOrPartition),
        };
        let exists = |partition: i32| known.is_some_and(|topic| topic.partitions.contains_key(&partition));
        let wanted = topic.partitions.iter().enumerate().filter(|(_, p)| exists(p.partition_index));
        let (at, partitions): (Vec<usize>, Vec<CommitPartition>) =
            wanted.map(|(at, partition)| (at, commit(partition, context))).unzip();
        if let Some(known) = known.filter(|_| !partitions.is_empty()) {
            commits.push(CommitTopic { name: known.name.clone(), topic_id: known.id, partitions });
            places.push((answers.len(), at));
        }
        let code = known.map_or(missing, |_| Code::UnknownTopicOrPartition);
        answers.push(answer(topic, code.code()));
    }
    drop(image);
    if !commits.is_empty() {
        let ask = CommitRequest {
            group: request.group_id.to_string(),
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
            retention_time_ms: if context.version <= 4 { request.retention_time_ms } else { -1 },
            knows_group_id_not_found: context.version >= 9,
            topics: commits,
        };
        let committed = groups.commit_offsets(ask).await;
        for (n, (topic, at)) in places.into_iter().enumerate() {
            for (m, partition) in at.into_iter().enumerate() {
                // Results come in the order of what was asked.
                let result = match &committed {
                    Ok(topics) => topics[n].1[m].1,
                    Err(error) => Err(*error),
                };
                answers[topic].partitions[partition].error_code = errors::code(&result.map_err(errors::group));
            }
        }
    }
    OffsetCommitResponse::default().with_topics(answers)
}

fn commit(partition: &OffsetCommitRequestPartition, context: &Context) -> CommitPartition {
    CommitPartition {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: if context.version >= 6 { partition.committed_leader_epoch } else { -1 },
        metadata: partition.committed_metadata.as_ref().map(|text| text.to_string()),
    }
}

fn all_refused(request: &OffsetCommitRequest, code: Code) -> OffsetCommitResponse {
    OffsetCommitResponse::default().with_topics(request.topics.iter().map(|topic| answer(topic, code.code())).collect())
}

fn answer(topic: &OffsetCommitRequestTopic, code: i16) -> OffsetCommitResponseTopic {
    let partition = |p: &OffsetCommitRequestPartition| {
        OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
    };
    let partitions = topic.partitions.iter().map(partition).collect();
    // One of the two is empty, as in the request.
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}
