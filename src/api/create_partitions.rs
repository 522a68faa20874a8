//! CreatePartitions (37), versions 0–3: more partitions for a topic; never fewer.
//!
//! - A count at or below the present one: INVALID_PARTITIONS. `validate_only` does
//!   everything but the change. v2 flexible, v3 quotas, which are not there yet.
//! - Keys go to other partitions afterwards, as in Kafka.

use std::rc::Rc;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::{Context, admin};
use crate::metadata::controller::MorePartitions;
use crate::metadata::{Answer, Intention};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: CreatePartitionsRequest, _context: &Context) -> CreatePartitionsResponse {
    let topics: Vec<MorePartitions> = request
        .topics
        .iter()
        .map(|topic| MorePartitions {
            name: topic.name.to_string(),
            count: topic.count,
            assignments: topic.assignments.as_ref().map(|assignments| {
                assignments.iter().map(|a| admin::nodes(core, a.broker_ids.iter().map(|b| b.0))).collect()
            }),
        })
        .collect();
    let intention = Intention::CreatePartitions { topics, validate_only: request.validate_only };
    let results = match core.control(intention).await {
        Ok(Answer::CreatePartitions(results)) => results
            .into_iter()
            .map(|(name, result)| match result {
                Ok(()) => answer(name, errors::NONE, None),
                Err(refusal) => answer(name, errors::refusal(&refusal).code(), refusal.message),
            })
            .collect(),
        Ok(_) => unreachable!("an intention is answered in kind"),
        Err(unavailable) => {
            let failed = |name: String| answer(name, Code::KafkaStorageError.code(), Some(unavailable.to_string()));
            request.topics.iter().map(|t| failed(t.name.to_string())).collect()
        }
    };
    CreatePartitionsResponse::default().with_results(results)
}

fn answer(name: String, code: i16, message: Option<String>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(TopicName(StrBytes::from_string(name)))
        .with_error_code(code)
        .with_error_message(message.map(StrBytes::from_string))
}
