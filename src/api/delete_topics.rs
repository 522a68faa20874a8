//! DeleteTopics (20), versions 1–6: topics with all their records.
//!
//! - By name; from v6 by name or by id (KIP-516): UNKNOWN_TOPIC_ID for an unknown id.
//! - `delete.topic.enable=false`: TOPIC_DELETION_DISABLED (v3), INVALID_REQUEST before.
//! - v5: an error message. The answer leaves when every core has removed its partitions.

use std::rc::Rc;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::{Context, admin};
use crate::base::Uuid;
use crate::metadata::controller::TopicToDelete;
use crate::metadata::{Answer, Intention};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: DeleteTopicsRequest, context: &Context) -> DeleteTopicsResponse {
    let topics: Vec<TopicToDelete> = match context.version {
        6.. => request
            .topics
            .iter()
            .map(|t| TopicToDelete { name: t.name.as_ref().map(|n| n.to_string()), id: admin::our_uuid(t.topic_id) })
            .collect(),
        _ => {
            let named = |n: &TopicName| TopicToDelete { name: Some(n.to_string()), id: Uuid::ZERO };
            request.topic_names.iter().map(named).collect()
        }
    };
    if !core.config().delete_topic_enable {
        let code = if context.version < 3 { Code::InvalidRequest } else { Code::TopicDeletionDisabled };
        let refused = topics.into_iter().map(|t| result(context, t.name, t.id, code.code(), None));
        return DeleteTopicsResponse::default().with_responses(refused.collect());
    }
    let responses = match core.control(Intention::DeleteTopics { topics: topics.clone() }).await {
        Ok(Answer::DeleteTopics(deleted)) => deleted
            .into_iter()
            .map(|topic| match topic.result {
                Ok(()) => result(context, topic.name, topic.id, errors::NONE, None),
                Err(refusal) => {
                    result(context, topic.name, topic.id, errors::refusal(&refusal).code(), refusal.message)
                }
            })
            .collect(),
        Ok(_) => unreachable!("an intention is answered in kind"),
        Err(unavailable) => {
            let code = Code::KafkaStorageError.code();
            topics.into_iter().map(|t| result(context, t.name, t.id, code, Some(unavailable.to_string()))).collect()
        }
    };
    DeleteTopicsResponse::default().with_responses(responses)
}

fn result(
    context: &Context,
    name: Option<String>,
    id: Uuid,
    code: i16,
    message: Option<String>,
) -> DeletableTopicResult {
    let result = DeletableTopicResult::default()
        .with_name(name.map(|n| TopicName(StrBytes::from_string(n))))
        .with_error_code(code);
    match context.version {
        6.. => result.with_topic_id(admin::crate_uuid(id)).with_error_message(message.map(StrBytes::from_string)),
        5 => result.with_error_message(message.map(StrBytes::from_string)),
        _ => result,
    }
}
