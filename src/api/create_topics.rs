//! CreateTopics (19), versions 2–7: topics with their partitions and options.
//!
//! - One topic that is refused does not fail the others. `validate_only` does everything
//!   but the change.
//! - The answer leaves when the topics are durable in the metadata log and every core
//!   has opened its partitions, so that a client can use them at once (Kafka answers
//!   earlier).
//! - v4: −1 for the broker's defaults. v5: the answer holds partitions, replicas and
//!   effective options (KIP-525). v6: quotas, which are not there yet. v7: topic ids.
//! - The replication factor counts hosts: more than one is refused on a single node.
//! - `timeout_ms` is not needed: the change is local.

use std::rc::Rc;

use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::{Context, admin};
use crate::config::{self, Source};
use crate::metadata::controller::{NewTopic, NewTopicAnswer};
use crate::metadata::{Answer, Intention};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: CreateTopicsRequest, context: &Context) -> CreateTopicsResponse {
    let topics: Vec<NewTopic> = request
        .topics
        .iter()
        .map(|topic| NewTopic {
            name: topic.name.to_string(),
            partitions: topic.num_partitions,
            replication_factor: topic.replication_factor,
            assignments: topic
                .assignments
                .iter()
                .map(|a| (a.partition_index, admin::nodes(core, a.broker_ids.iter().map(|b| b.0))))
                .collect(),
            configs: topic
                .configs
                .iter()
                .map(|c| (c.name.to_string(), c.value.as_ref().map(|v| v.to_string())))
                .collect(),
        })
        .collect();
    let intention = Intention::CreateTopics { topics, validate_only: request.validate_only };
    let results = match core.control(intention).await {
        Ok(Answer::CreateTopics(results)) => results,
        Ok(_) => unreachable!("an intention is answered in kind"),
        Err(unavailable) => {
            let results = request
                .topics
                .iter()
                .map(|t| failed(t.name.to_string(), Code::KafkaStorageError, Some(unavailable.to_string())));
            return CreateTopicsResponse::default().with_topics(results.collect());
        }
    };
    let topics = results.into_iter().map(|(name, result)| match result {
        Ok(created) => self::created(core, context, name, created),
        Err(refusal) => failed(name, errors::refusal(&refusal), refusal.message),
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn created(core: &Core, context: &Context, name: String, topic: NewTopicAnswer) -> CreatableTopicResult {
    let result = named(name);
    if context.version < 5 {
        return result;
    }
    let options = config::describe_topic(&core.config(), &topic.config).into_iter().map(|option| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(option.spec.name))
            .with_value(option.value.map(StrBytes::from_string))
            .with_read_only(false)
            .with_config_source(source(option.source))
            .with_is_sensitive(false)
    });
    let result = result
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(Some(options.collect()));
    match context.version {
        7.. => result.with_topic_id(admin::crate_uuid(topic.id)),
        _ => result,
    }
}

/// `DescribeConfigsResponse.ConfigSource`.
pub fn source(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::DynamicBroker => 2,
        Source::DynamicDefault => 3,
        Source::StaticBroker => 4,
        Source::Default => 5,
    }
}

fn failed(name: String, code: Code, message: Option<String>) -> CreatableTopicResult {
    named(name)
        .with_error_code(code.code())
        .with_error_message(message.map(StrBytes::from_string))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

fn named(name: String) -> CreatableTopicResult {
    // The crate's default is an empty message, which Kafka does not send.
    CreatableTopicResult::default().with_name(TopicName(StrBytes::from_string(name))).with_error_message(None)
}
