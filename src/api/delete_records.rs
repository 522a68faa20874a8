//! DeleteRecords (21), versions 0–2: gives up the records of partitions below an offset.
//!
//! - −1 means the high watermark. An offset below the log start changes nothing; one above the
//!   high watermark, or another negative one: OFFSET_OUT_OF_RANGE.
//! - A topic that is compacted, and whose `cleanup.policy` has no `delete`: POLICY_VIOLATION; one that keeps everything
//!   (KIP-1161) may be told to give up something. One of Kafka's own topics: INVALID_TOPIC_EXCEPTION.
//! - The answer, which holds the log start offset, leaves when that survives a crash. Readers get
//!   nothing below any more; files go with the next look of retention, whole segments at a time.
//! - `timeout_ms` is for replicas that are waited for; there are none. v2 is flexible.

use std::rc::Rc;

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::errors::{self, Code};
use super::scatter;
use super::target::{self, Target};
use crate::base::Offset;
use crate::shard::Core;
use crate::shard::coordinators::is_internal;
use crate::shard::messages::{Answer, Call};
use crate::shard::starts::{self, Deletion, DeletionError};

/// `DeleteRecordsResponse.INVALID_LOW_WATERMARK`.
const NONE: i64 = -1;

pub async fn handle(core: &Rc<Core>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for (t, topic) in request.topics.iter().enumerate() {
        let topic_id = core.image().topic(&topic.name).map(|topic| topic.id);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for (p, partition) in topic.partitions.iter().enumerate() {
            let found = match topic_id {
                None => Err(Code::UnknownTopicOrPartition),
                Some(_) if is_internal(&topic.name) => Err(Code::InvalidTopicException),
                Some(id) => Ok((id, target::find(core, id, partition.partition_index))),
            };
            let deletion = |topic_id| Deletion {
                topic_id,
                partition: partition.partition_index,
                before: (partition.offset != -1).then_some(Offset(partition.offset)),
            };
            let code = match found {
                Ok((id, Target::Here(_))) => {
                    here.push(((t, p), deletion(id)));
                    errors::NONE
                }
                Ok((id, Target::Forward(owner))) => {
                    elsewhere.push((owner, ((t, p), deletion(id))));
                    errors::NONE
                }
                Ok((_, Target::Refuse(code))) | Err(code) => code.code(),
            };
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            answers.push(answer.with_low_watermark(NONE).with_error_code(code));
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(answers));
    }
    let mut done = Vec::new();
    let (places, deletions): (Vec<_>, Vec<_>) = here.into_iter().unzip();
    done.extend(places.into_iter().zip(starts::delete_records(core, &deletions).await));
    for (owner, asked) in scatter::by_core(elsewhere) {
        let (places, deletions): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        match core.router().ask(owner, Call::DeleteRecords(deletions)).await {
            Ok(Answer::DeleteRecords(outcomes)) => done.extend(places.into_iter().zip(outcomes)),
            _ => done.extend(places.into_iter().map(|place| (place, Err(DeletionError::NotHere)))),
        }
    }
    for ((t, p), outcome) in done {
        let place = &mut topics[t].partitions[p];
        match outcome {
            Ok(start) => place.low_watermark = start.0,
            Err(error) => place.error_code = errors::deletion(&error).code(),
        }
    }
    DeleteRecordsResponse::default().with_topics(topics)
}
