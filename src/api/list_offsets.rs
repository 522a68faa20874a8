//! ListOffsets (2), versions 1–11: offsets by time stamp, or the first, the last, the
//! newest.
//!
//! | time stamp | from | means |
//! |---|---|---|
//! | −1 | v1 | the high watermark; the last stable offset for read_committed (v2) |
//! | −2 | v1 | the log start offset |
//! | −3 | v7 | the record with the largest time stamp (KIP-734) |
//! | −4 | v8 | the earliest offset on this machine: as −2, there is no tiered storage |
//! | −5 | v9 | the last tiered offset: none (KIP-1005) |
//! | −6 | v11 | the earliest offset not tiered yet: none (KIP-1023) |
//! | ≥ 0 | v1 | the first record at or after that time; none: offset −1 |
//!
//! - Any other negative time stamp: UNSUPPORTED_VERSION for that partition.
//! - A partition named twice: INVALID_REQUEST for it.
//! - v4: leader epochs are checked and answered. v6: flexible. v10: a time-out for
//!   tiered storage, ignored.
//! - The replica id is ignored: there is one replica, and it shows what is committed.

use std::collections::HashSet;
use std::rc::Rc;

use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::errors::{self, Code};
use super::target::{self, Target};
use super::{Context, scatter};
use crate::base::LeaderEpoch;
use crate::partition::{FoundOffset, Isolation, OffsetSpec};
use crate::shard::Core;
use crate::shard::messages::{Answer, Call, OffsetQuery};
use crate::shard::partitions;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub async fn handle(core: &Rc<Core>, request: ListOffsetsRequest, context: &Context) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let twice = named_twice(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::new();
    let image = core.image();
    for (t, topic) in request.topics.iter().enumerate() {
        let topic_id = image.topic(&topic.name).map(|t| t.id);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for (p, partition) in topic.partitions.iter().enumerate() {
            let index = partition.partition_index;
            let query = topic_id
                .ok_or(Code::UnknownTopicOrPartition)
                .and_then(|id| match twice.contains(&(topic.name.as_str(), index)) {
                    true => Err(Code::InvalidRequest),
                    false => Ok(id),
                })
                .and_then(|id| Ok((id, spec(partition.timestamp, context.version)?)));
            let code = match query {
                Ok((topic_id, spec)) => {
                    let leader_epoch = LeaderEpoch(partition.current_leader_epoch);
                    asked.push(((t, p), OffsetQuery { topic_id, partition: index, leader_epoch, spec, isolation }));
                    errors::NONE
                }
                Err(code) => code.code(),
            };
            answers.push(answer(index, code, None));
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(answers));
    }
    drop(image);
    for ((t, p), found) in look_up(core, asked).await {
        let place = &mut topics[t].partitions[p];
        let index = place.partition_index;
        *place = match found {
            Ok(found) => answer(index, errors::NONE, found),
            // v5 can say that the leader is not ready; nothing of ours needs it yet.
            Err(code) => answer(index, code.code(), None),
        };
        if context.version < 4 {
            place.leader_epoch = -1;
        }
    }
    ListOffsetsResponse::default().with_topics(topics)
}

type Place = (usize, usize);
type Looked = Result<Option<FoundOffset>, Code>;

/// Looks each query up on the core that owns its partition.
async fn look_up(core: &Rc<Core>, asked: Vec<(Place, OffsetQuery)>) -> Vec<(Place, Looked)> {
    let mut done = Vec::with_capacity(asked.len());
    let mut elsewhere = Vec::new();
    for (place, query) in asked {
        match target::find(core, query.topic_id, query.partition) {
            Target::Here(_) => done.push((place, partitions::list_offset(core, &query).await.map_err(errors::read))),
            Target::Forward(owner) => elsewhere.push((owner, (place, query))),
            Target::Refuse(code) => done.push((place, Err(code))),
        }
    }
    for (owner, asked) in scatter::by_core(elsewhere) {
        let (places, queries): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        match core.router().ask(owner, Call::ListOffsets(queries)).await {
            Ok(Answer::ListOffsets(found)) => {
                done.extend(places.into_iter().zip(found.into_iter().map(|f| f.map_err(errors::read))));
            }
            _ => done.extend(places.into_iter().map(|place| (place, Err(Code::NotLeaderOrFollower)))),
        }
    }
    done
}

/// What a time stamp asks for.
fn spec(timestamp: i64, version: i16) -> Result<OffsetSpec, Code> {
    match timestamp {
        LATEST => Ok(OffsetSpec::Latest),
        EARLIEST => Ok(OffsetSpec::Earliest),
        MAX_TIMESTAMP if version >= 7 => Ok(OffsetSpec::MaxTimestamp),
        EARLIEST_LOCAL if version >= 8 => Ok(OffsetSpec::Earliest),
        LATEST_TIERED if version >= 9 => Ok(OffsetSpec::Tiered),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(OffsetSpec::Tiered),
        time if time >= 0 => Ok(OffsetSpec::Timestamp(time)),
        _ => Err(Code::UnsupportedVersion),
    }
}

fn answer(partition: i32, code: i16, found: Option<FoundOffset>) -> ListOffsetsPartitionResponse {
    let none = ListOffsetsPartitionResponse::default()
        .with_partition_index(partition)
        .with_error_code(code)
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1);
    match found {
        Some(found) => none
            .with_timestamp(found.timestamp)
            .with_offset(found.offset.0)
            .with_leader_epoch(found.leader_epoch.map_or(-1, |e| e.0)),
        None => none,
    }
}

fn named_twice(request: &ListOffsetsRequest) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let all = request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p.partition_index)));
    all.filter(|named| !seen.insert(*named)).collect()
}
