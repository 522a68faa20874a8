//! OffsetForLeaderEpoch (23), versions 2–4: where a leader epoch ends, so that a
//! consumer sees whether its position was truncated away (KIP-101, KIP-320).
//!
//! - Answers the largest epoch at or below the one asked for that this log knows, and
//!   where the next one begins (the log end for the current one); unknown: −1, −1.
//! - v2: the client's current leader epoch is checked. v3: replica id, ignored on one
//!   node. v4: flexible.

use std::rc::Rc;

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::errors::{self, Code};
use super::target::{self, Target};
use super::{Context, scatter};
use crate::base::{LeaderEpoch, Offset};
use crate::shard::Core;
use crate::shard::messages::{Answer, Call, EpochQuery};
use crate::shard::partitions;

pub async fn handle(
    core: &Rc<Core>,
    request: OffsetForLeaderEpochRequest,
    _context: &Context,
) -> OffsetForLeaderEpochResponse {
    let image = core.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut elsewhere = Vec::new();
    for (t, topic) in request.topics.iter().enumerate() {
        let topic_id = image.topic(&topic.topic).map(|t| t.id);
        let mut ends = Vec::with_capacity(topic.partitions.len());
        for (p, asked) in topic.partitions.iter().enumerate() {
            let found = match topic_id {
                None => Err(Code::UnknownTopicOrPartition),
                Some(topic_id) => {
                    let query = EpochQuery {
                        topic_id,
                        partition: asked.partition,
                        current: LeaderEpoch(asked.current_leader_epoch),
                        wanted: LeaderEpoch(asked.leader_epoch),
                    };
                    match target::find(core, topic_id, asked.partition) {
                        Target::Here(_) => partitions::epoch_end(core, &query).map_err(errors::read),
                        Target::Refuse(code) => Err(code),
                        Target::Forward(owner) => {
                            elsewhere.push((owner, ((t, p), query)));
                            Ok(None)
                        }
                    }
                }
            };
            ends.push(end(asked.partition, found));
        }
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(ends));
    }
    drop(image);
    for (owner, asked) in scatter::by_core(elsewhere) {
        let (places, queries): (Vec<(usize, usize)>, Vec<_>) = asked.into_iter().unzip();
        let found = match core.router().ask(owner, Call::EpochEnds(queries)).await {
            Ok(Answer::EpochEnds(found)) => found.into_iter().map(|f| f.map_err(errors::read)).collect(),
            _ => vec![Err(Code::NotLeaderOrFollower); places.len()],
        };
        for ((t, p), found) in places.into_iter().zip(found) {
            let place = &mut topics[t].partitions[p];
            *place = end(place.partition, found);
        }
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn end(partition: i32, found: Result<Option<(LeaderEpoch, Offset)>, Code>) -> EpochEndOffset {
    let code = errors::code(&found);
    let (epoch, offset) = found.ok().flatten().unwrap_or((LeaderEpoch::UNKNOWN, Offset(-1)));
    EpochEndOffset::default()
        .with_partition(partition)
        .with_error_code(code)
        .with_leader_epoch(epoch.0)
        .with_end_offset(offset.0)
}
