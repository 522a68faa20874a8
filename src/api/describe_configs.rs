//! DescribeConfigs (32), versions 1–4: the options of topics and brokers as they are
//! in force.
//!
//! - v1 source and synonyms, v3 type and documentation (on request), v4 flexible.
//! - A topic shows all its options: its own, the broker's, or the default. A broker
//!   that is named with one of the ids it is shown under shows all its options; with
//!   the empty name the cluster's defaults that are in the metadata log.
//! - Synonyms come only when asked for, the winner first. Unknown names of options
//!   that are asked for are left out, as in Kafka.
//! - Groups and client metrics have no options yet besides those that the metadata
//!   log holds from a Kafka that wrote it; broker loggers are not served: none.
//! - The words of refusals are Kafka's (`ConfigHelper`).

use std::rc::Rc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::create_topics::source;
use super::errors::{self, Code};
use super::{Context, brokers};
use crate::base::BrokerId;
use crate::config::{self, Change, Described, Kind, OptionSpec};
use crate::metadata::configs;
use crate::metadata::controller::validate_topic_name;
use crate::metadata::image::ResourceType;
use crate::shard::Core;

/// `ConfigSource.DYNAMIC_BROKER_CONFIG`: for one broker, in the metadata log.
const DYNAMIC_BROKER: i8 = 2;
/// `ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG`: for all brokers, in the metadata log.
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
/// `ConfigSource.GROUP_CONFIG` and `CLIENT_METRICS_CONFIG`.
const GROUP: i8 = 8;
const CLIENT_METRICS: i8 = 7;

/// `ConfigType.STRING`, for options of groups and client metrics, whose types we do not know.
const STRING: i8 = 2;
/// `ConfigType.UNKNOWN`, for those of a broker's plug-ins.
const UNKNOWN: i8 = 0;

/// Code and words.
type Refused = (Code, String);

pub async fn handle(core: &Rc<Core>, request: DescribeConfigsRequest, context: &Context) -> DescribeConfigsResponse {
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && context.version >= 3,
        version: context.version,
    };
    let results = request.resources.iter().map(|resource| {
        let described = describe(core, resource, wanted);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described {
            Ok(configs) => result.with_error_message(Some(StrBytes::default())).with_configs(configs),
            Err((code, words)) => {
                result.with_error_code(code.code()).with_error_message(Some(StrBytes::from_string(words)))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// What the client wants to see of each option.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
    version: i16,
}

fn describe(
    core: &Core,
    resource: &DescribeConfigsResource,
    wanted: Wanted,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let name = resource.resource_name.as_str();
    // An empty list means all, as null does.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let asked = |option: &str| keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == option));
    let show = |described: Vec<Described>| {
        let asked = described.into_iter().filter(|option| asked(option.spec.name));
        asked.map(|option| shown(option, wanted)).collect()
    };
    let kept = |kind, source| {
        let options = core.image().config(kind, name).cloned().unwrap_or_default();
        let asked = options.iter().filter(|(option, _)| asked(option));
        asked.map(|(option, value)| from_log(option, value, source, wanted)).collect()
    };
    match ResourceType(resource.resource_type) {
        ResourceType::TOPIC => {
            validate_topic_name(name).map_err(|wrong| (errors::refusal(&wrong), wrong.message.unwrap_or_default()))?;
            let image = core.image();
            image.topic(name).ok_or((Code::UnknownTopicOrPartition, String::new()))?;
            Ok(show(config::describe_topic(&core.config(), &image.topic_config(name))))
        }
        ResourceType::BROKER if name.is_empty() => Ok(kept(ResourceType::BROKER, DYNAMIC_DEFAULT_BROKER)),
        ResourceType::BROKER => {
            check_broker(core, name, " or empty string,")?;
            let mut shown: Vec<_> = show(config::describe_broker(&core.config()));
            // Options that nobody here knows, a plug-in's: the broker's own win.
            let (mut unknown, own) = configs::broker_options(&core.image(), core.config().node_id);
            unknown.extend(own);
            let unknown = unknown.iter().filter(|(option, _)| asked(option) && broker_spec(option).is_none());
            shown.extend(unknown.map(|(option, value)| from_log(option, value, DYNAMIC_BROKER, wanted)));
            Ok(shown)
        }
        ResourceType::BROKER_LOGGER if name.is_empty() => refuse("Broker id must not be empty"),
        ResourceType::BROKER_LOGGER => check_broker(core, name, "").map(|()| Vec::new()),
        ResourceType::CLIENT_METRICS if name.is_empty() => refuse("Client metrics subscription name must not be empty"),
        ResourceType::CLIENT_METRICS => Ok(kept(ResourceType::CLIENT_METRICS, CLIENT_METRICS)),
        ResourceType::GROUP if name.is_empty() => refuse("Group name must not be empty"),
        ResourceType::GROUP => Ok(kept(ResourceType::GROUP, GROUP)),
        _ => refuse(
            "This most likely occurs because of a request being malformed by the client library or the message was \
             sent to an incompatible broker. See the broker logs for more details.",
        ),
    }
}

fn refuse<T>(words: impl Into<String>) -> Result<T, Refused> {
    Err((Code::InvalidRequest, words.into()))
}

/// Any broker that this process is shown as will do: all have the same options.
fn check_broker(core: &Core, name: &str, or: &str) -> Result<(), Refused> {
    let Ok(id) = name.parse::<i32>() else {
        return refuse(format!("Broker id must be an integer, but it is: {name}"));
    };
    match core.brokers().node_of(BrokerId(id)) {
        Some(_) => Ok(()),
        None => refuse(format!("Unexpected broker id, expected {}{or} but received {name}", brokers::own(core).0)),
    }
}

fn shown(option: Described, wanted: Wanted) -> DescribeConfigsResourceResult {
    let text = |value: Option<String>| value.map(StrBytes::from_string);
    let synonyms = option.synonyms.into_iter().filter(|_| wanted.synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(synonym.name))
            .with_value(text(synonym.value))
            .with_source(source(synonym.source))
    });
    let result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(option.spec.name))
        .with_value(text(option.value))
        .with_read_only(option.spec.change == Change::ReadOnly)
        .with_config_source(source(option.source))
        .with_is_sensitive(option.spec.is_sensitive())
        .with_synonyms(synonyms.collect());
    match wanted.version {
        3.. => result
            .with_config_type(kind(option.spec.kind))
            .with_documentation(wanted.documentation.then(|| StrBytes::from_static_str(option.spec.doc))),
        _ => result,
    }
}

fn broker_spec(name: &str) -> Option<&'static OptionSpec> {
    config::broker_options().iter().find(|spec| spec.name == name)
}

/// An option that is only known from the metadata log.
fn from_log(name: &str, value: &str, source: i8, wanted: Wanted) -> DescribeConfigsResourceResult {
    let spec = broker_spec(name);
    let of_broker = matches!(source, DYNAMIC_BROKER | DYNAMIC_DEFAULT_BROKER);
    // A plug-in's may be a secret (`KafkaConfig.maybeSensitive`).
    let sensitive = spec.map_or(of_broker, OptionSpec::is_sensitive);
    let synonym = || {
        let value = (!sensitive).then(|| StrBytes::from_string(value.to_owned()));
        let name = StrBytes::from_string(name.to_owned());
        DescribeConfigsSynonym::default().with_name(name).with_value(value).with_source(source)
    };
    let result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(name.to_owned()))
        .with_value((!sensitive).then(|| StrBytes::from_string(value.to_owned())))
        .with_config_source(source)
        .with_read_only(of_broker && spec.is_none())
        .with_is_sensitive(sensitive)
        .with_synonyms(wanted.synonyms.then(synonym).into_iter().collect());
    match wanted.version {
        3.. => result.with_config_type(spec.map_or(if of_broker { UNKNOWN } else { STRING }, |spec| kind(spec.kind))),
        _ => result,
    }
}

/// `DescribeConfigsResponse.ConfigType`.
fn kind(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => STRING,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}
