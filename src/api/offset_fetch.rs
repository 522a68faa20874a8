//! OffsetFetch (9), versions 1–10: where groups will go on reading.
//!
//! - Nothing committed: offset −1, no error. An offset that was committed for a former
//!   topic of the same name counts as nothing.
//! - v1: an error of the group stands at each partition. v2: at the top; null topics are
//!   all. v5: leader epochs (KIP-320). v6: flexible. v7: require_stable (KIP-447): waits
//!   for what is being written. v8: several groups (KIP-709). v9: member id and epoch
//!   (KIP-848), which classic groups do not check. v10: topic ids instead of names (KIP-848);
//!   an unknown one: UNKNOWN_TOPIC_ID at its partitions, which come last. When all are wanted,
//!   topics that no longer exist cannot be named and are left out.

use std::rc::Rc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, admin, scatter, text};
use crate::base::Uuid;
use crate::coordinator::group::{FetchRequest, FetchTopic, FetchedOffset, FetchedTopic};
use crate::shard::Core;
use crate::shard::coordinators::Groups;

const FIRST_WITH_TOPIC_IDS: i16 = 10;

pub async fn handle(core: &Rc<Core>, request: OffsetFetchRequest, context: &Context) -> OffsetFetchResponse {
    if context.version < 8 {
        one_group(core, request, context).await
    } else {
        several_groups(core, request, context).await
    }
}

async fn one_group(core: &Rc<Core>, request: OffsetFetchRequest, context: &Context) -> OffsetFetchResponse {
    let groups = match groups::find(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            let forwarded = groups::forward(core, context, owner, &request).await;
            return forwarded.unwrap_or_else(|code| one_refused(&request, context, code));
        }
        Seat::Refuse(code) => return one_refused(&request, context, code),
    };
    let wanted = |topics: &Vec<OffsetFetchRequestTopic>| {
        topics.iter().map(|topic| wanted(core, &topic.name, topic.partition_indexes.clone())).collect()
    };
    let ask = FetchRequest {
        group: request.group_id.to_string(),
        topics: request.topics.as_ref().map(wanted),
        require_stable: request.require_stable,
    };
    match groups.fetch_offsets(ask).await {
        Ok(topics) => OffsetFetchResponse::default().with_topics(topics.into_iter().map(old_topic).collect()),
        Err(error) => one_refused(&request, context, errors::group(error)),
    }
}

fn one_refused(request: &OffsetFetchRequest, context: &Context, code: Code) -> OffsetFetchResponse {
    if context.version >= 2 {
        return OffsetFetchResponse::default().with_error_code(code.code());
    }
    let refused = |topic: &OffsetFetchRequestTopic| {
        let partition = |index: &i32| old_partition(*index, Err(code));
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    };
    let topics = request.topics.iter().flatten().map(refused);
    OffsetFetchResponse::default().with_topics(topics.collect())
}

async fn several_groups(core: &Rc<Core>, request: OffsetFetchRequest, context: &Context) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    let mut answers = Vec::with_capacity(request.groups.len());
    let mut elsewhere = Vec::new();
    for group in request.groups {
        match groups::find(core, &group.group_id) {
            Seat::Here(groups) => answers.push(fetch(core, &groups, group, require_stable, context).await),
            Seat::Forward(owner) => elsewhere.push((owner, group)),
            Seat::Refuse(code) => answers.push(refused(group, code)),
        }
    }
    for (owner, groups) in scatter::by_core(elsewhere) {
        let ask = OffsetFetchRequest::default().with_groups(groups).with_require_stable(require_stable);
        match groups::forward(core, context, owner, &ask).await {
            Ok(response) => answers.extend(response.groups),
            Err(code) => answers.extend(ask.groups.into_iter().map(|group| refused(group, code))),
        }
    }
    OffsetFetchResponse::default().with_groups(answers)
}

async fn fetch(
    core: &Rc<Core>,
    groups: &Rc<Groups>,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
    context: &Context,
) -> OffsetFetchResponseGroup {
    let by_id = context.version >= FIRST_WITH_TOPIC_IDS;
    let mut unknown = Vec::new();
    let topics: Option<Vec<FetchTopic>> = group.topics.as_ref().map(|topics| {
        let known = |topic: &OffsetFetchRequestTopics| {
            let partitions = topic.partition_indexes.clone();
            if !by_id {
                return Some(wanted(core, &topic.name, partitions));
            }
            let id = admin::our_uuid(topic.topic_id);
            match core.image().topic_by_id(id) {
                Some(known) => Some(FetchTopic { name: known.name.clone(), topic_id: id, partitions }),
                None => {
                    unknown.push(unknown_id(topic));
                    None
                }
            }
        };
        topics.iter().filter_map(known).collect()
    });
    let ids: Option<Vec<Uuid>> = topics.as_ref().map(|topics| topics.iter().map(|topic| topic.topic_id).collect());
    let ask = FetchRequest { group: group.group_id.to_string(), topics, require_stable };
    match groups.fetch_offsets(ask).await {
        Ok(topics) => {
            // What was asked for comes back in its order.
            let ids = ids.unwrap_or_else(|| topics.iter().map(|topic| core.topic_id(&topic.name)).collect());
            let named = topics.into_iter().zip(ids).filter_map(|(topic, id)| match by_id {
                true => (!id.is_zero())
                    .then(|| new_topic(topic).with_name(TopicName::default()).with_topic_id(admin::crate_uuid(id))),
                false => Some(new_topic(topic)),
            });
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(named.chain(unknown).collect())
        }
        Err(error) => refused(group, errors::group(error)),
    }
}

fn unknown_id(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| new_partition(*index, Err(Code::UnknownTopicId)));
    OffsetFetchResponseTopics::default().with_topic_id(topic.topic_id).with_partitions(partitions.collect())
}

fn refused(group: OffsetFetchRequestGroup, code: Code) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(code.code())
}

fn wanted(core: &Core, name: &TopicName, partitions: Vec<i32>) -> FetchTopic {
    FetchTopic { name: name.as_str().into(), topic_id: core.topic_id(name), partitions }
}

/// Versions 1–7.
fn old_topic(topic: FetchedTopic) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|p| old_partition(p.partition, p.result.map_err(errors::group)));
    OffsetFetchResponseTopic::default().with_name(TopicName(text(&topic.name))).with_partitions(partitions.collect())
}

fn old_partition(partition: i32, result: Result<FetchedOffset, Code>) -> OffsetFetchResponsePartition {
    let code = errors::code(&result);
    let (offset, leader_epoch, metadata) = parts(result.ok());
    OffsetFetchResponsePartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(leader_epoch)
        .with_metadata(Some(metadata))
        .with_error_code(code)
}

/// Versions 8 on.
fn new_topic(topic: FetchedTopic) -> OffsetFetchResponseTopics {
    let partitions = topic.partitions.into_iter().map(|p| new_partition(p.partition, p.result.map_err(errors::group)));
    OffsetFetchResponseTopics::default().with_name(TopicName(text(&topic.name))).with_partitions(partitions.collect())
}

fn new_partition(partition: i32, result: Result<FetchedOffset, Code>) -> OffsetFetchResponsePartitions {
    let code = errors::code(&result);
    let (offset, leader_epoch, metadata) = parts(result.ok());
    OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(leader_epoch)
        .with_metadata(Some(metadata))
        .with_error_code(code)
}

fn parts(offset: Option<FetchedOffset>) -> (i64, i32, super::StrBytes) {
    match offset {
        Some(offset) => (offset.offset, offset.leader_epoch, text(&offset.metadata)),
        None => (-1, -1, super::StrBytes::new()),
    }
}
