//! Changes of options: what is to be changed and what there is give the records
//! that do it.
//!
//! Pure functions, of the controller. Checks, their order and their words are Kafka's
//! (`ConfigurationControlManager`, `ControllerConfigurationValidator`, and for options of
//! brokers `ConfigAdminManager`).

use std::collections::BTreeMap;

use super::controller::{Answer, Plan, RECORDS_PER_INTENTION_MAX, Reason, Refusal, too_large, validate_topic_name};
use super::image::{Config, Image, ResourceType};
use super::records::{ConfigRecord, MetadataRecord};
use crate::base::NodeId;
use crate::config::{self, BrokerConfig, OptionSpec, TopicConfig};

/// A change of one resource's options: all of it happens or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Topics and brokers can be changed.
    pub kind: ResourceType,
    /// A topic's name; a broker's `node.id`, or nothing for all brokers.
    pub name: String,
    pub how: Alteration,
}

/// What is to become of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// Those that are named (IncrementalAlterConfigs). No name comes twice.
    Each(Vec<(String, ConfigOp)>),
    /// All: these and no others (AlterConfigs).
    All(BTreeMap<String, String>),
}

/// What is to become of one option (`AlterConfigOp.OpType`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    /// The default applies again.
    Delete,
    /// Adds items to a list, those that it has not.
    Append(String),
    /// Takes items out of a list.
    Subtract(String),
}

/// What the metadata log says of all brokers, and of one.
pub fn broker_options(image: &Image, node: NodeId) -> (Config, Config) {
    let said = |name: &str| image.config(ResourceType::BROKER, name).map(|config| (**config).clone());
    (said("").unwrap_or_default(), said(&node.0.to_string()).unwrap_or_default())
}

/// What a topic without options of its own is like, by the metadata log and by what the process
/// started with.
pub(super) fn topic_defaults(broker: &BrokerConfig, image: &Image) -> TopicConfig {
    match broker_options(image, broker.node_id) {
        (all, own) if all.is_empty() && own.is_empty() => broker.topic_defaults(),
        (all, own) => broker.with_dynamic(&all, &own).0.topic_defaults(),
    }
}

pub(super) fn alter(broker: &BrokerConfig, image: &Image, changes: &[ConfigChange], validate_only: bool) -> Plan {
    let mut records = Vec::new();
    let mut answers = Vec::new();
    for change in changes {
        let altered = alter_resource(broker, image, change);
        answers.push(altered.map(|new| records.extend(new)));
    }
    if records.len() > RECORDS_PER_INTENTION_MAX {
        let refused = changes.iter().map(|_| Err(too_large())).collect();
        return Plan { records: Vec::new(), answer: Answer::AlterConfigs(refused) };
    }
    if validate_only {
        records.clear();
    }
    Plan { records, answer: Answer::AlterConfigs(answers) }
}

fn alter_resource(broker: &BrokerConfig, image: &Image, change: &ConfigChange) -> Result<Vec<MetadataRecord>, Refusal> {
    let is_broker = change.kind == ResourceType::BROKER;
    let now = image.config(change.kind, &change.name).cloned().unwrap_or_default();
    let mut altered: Vec<(String, Option<String>)> = Vec::new();
    let mut becomes = (*now).clone();
    let mut become_of = |name: &str, value: Option<String>| {
        // Kafka writes a broker's option again, so that it reads the files it may name.
        if is_broker || now.get(name) != value.as_ref() {
            altered.push((name.to_string(), value.clone()));
        }
        match value {
            Some(value) => drop(becomes.insert(name.to_string(), value)),
            None => drop(becomes.remove(name)),
        }
    };
    match &change.how {
        Alteration::Each(options) => {
            for (name, op) in options {
                become_of(name, apply(is_broker, name, op, now.get(name))?);
            }
        }
        Alteration::All(options) => {
            for (name, value) in options {
                become_of(name, Some(value.clone()));
            }
            for name in now.keys().filter(|name| !options.contains_key(*name)) {
                become_of(name, None);
            }
        }
    }
    match change.kind {
        ResourceType::TOPIC => check_topic(broker, image, &change.name, &becomes)?,
        ResourceType::BROKER => check_broker(broker, image, &change.name, &becomes)?,
        ResourceType(other) => {
            return Err(Refusal::new(Reason::InvalidRequest, format!("Unknown resource type {other}")));
        }
    }
    let record = |(option, value): (String, Option<String>)| {
        MetadataRecord::from(ConfigRecord {
            resource_type: change.kind.0,
            resource_name: change.name.clone(),
            name: option,
            value,
            ..Default::default()
        })
    };
    Ok(altered.into_iter().map(record).collect())
}

/// The value of an option after `op`; `None`: it has none of its own.
fn apply(is_broker: bool, name: &str, op: &ConfigOp, now: Option<&String>) -> Result<Option<String>, Refusal> {
    let (items, verb) = match op {
        ConfigOp::Set(value) => return Ok(Some(value.clone())),
        ConfigOp::Delete => return Ok(None),
        ConfigOp::Append(items) => (items, "APPEND"),
        ConfigOp::Subtract(items) => (items, "SUBTRACT"),
    };
    let table = if is_broker { config::broker_options() } else { config::topic_options() };
    if !config::is_list(table, name) {
        let words = match is_broker {
            true => format!("Config value {} is not allowed for config key: {name}", verb.to_lowercase()),
            false => format!("Can't {verb} to key {name} because its type is not LIST."),
        };
        return Err(Refusal::new(Reason::InvalidConfig, words));
    }
    let default = || default_of(table, name);
    let text = now.map(String::as_str).or_else(default).unwrap_or("");
    let mut list: Vec<&str> = text.split(',').filter(|item| !item.is_empty()).collect();
    for item in items.split(',') {
        match (op, list.iter().position(|listed| *listed == item)) {
            (ConfigOp::Append(_), None) => list.push(item),
            (ConfigOp::Subtract(_), Some(at)) => drop(list.remove(at)),
            _ => {}
        }
    }
    Ok(Some(list.join(",")))
}

fn default_of(table: &'static [OptionSpec], name: &str) -> Option<&'static str> {
    table.iter().find(|spec| spec.name == name)?.default
}

fn check_topic(broker: &BrokerConfig, image: &Image, name: &str, options: &Config) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(Reason::InvalidRequest, "Default topic resources are not allowed."));
    }
    validate_topic_name(name)?;
    TopicConfig::with_overrides(&topic_defaults(broker, image), options)
        .map_err(|error| Refusal::new(Reason::InvalidConfig, error.to_string()))?;
    match image.topic(name) {
        Some(_) => Ok(()),
        None => Err(Refusal::new(Reason::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))),
    }
}

fn check_broker(broker: &BrokerConfig, image: &Image, name: &str, options: &Config) -> Result<(), Refusal> {
    let (all, _) = broker_options(image, broker.node_id);
    // Not INVALID_CONFIG, as it should be: KAFKA-13609.
    let refused = |error: config::DynamicError| Refusal::new(Reason::InvalidRequest, error.to_string());
    broker.check_dynamic(options, (!name.is_empty()).then_some(&all)).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::super::image::Replay;
    use super::super::records::TopicRecord;
    use super::*;
    use crate::base::{LeaderEpoch, Offset, Uuid};

    /// Node 0 with the topic `orders`, which has `options`.
    fn image(options: &[(&str, &str)]) -> Image {
        let mut replay = Replay::default();
        let mut all = vec![TopicRecord { name: "orders".into(), topic_id: Uuid([9; 16]), ..Default::default() }.into()];
        for (name, value) in options {
            let record = ConfigRecord {
                resource_type: ResourceType::TOPIC.0,
                resource_name: "orders".into(),
                name: name.to_string(),
                value: Some(value.to_string()),
                ..Default::default()
            };
            all.push(record.into());
        }
        replay.apply(&all, Offset(100), LeaderEpoch(1)).unwrap();
        replay.image().clone()
    }

    fn each(kind: ResourceType, name: &str, options: &[(&str, ConfigOp)]) -> ConfigChange {
        let options = options.iter().map(|(name, op)| (name.to_string(), op.clone())).collect();
        ConfigChange { kind, name: name.into(), how: Alteration::Each(options) }
    }

    fn set(value: &str) -> ConfigOp {
        ConfigOp::Set(value.into())
    }

    /// What the options of the resource become, or the words of the refusal.
    fn outcome(image: &Image, change: ConfigChange) -> (usize, Result<Config, (Reason, String)>) {
        let (kind, name) = (change.kind, change.name.clone());
        let plan = alter(&BrokerConfig::defaults(), image, &[change], false);
        let Answer::AlterConfigs(mut answers) = plan.answer else { panic!() };
        let mut replay = Replay::from_image(image.clone());
        replay.apply(&plan.records, Offset(200), LeaderEpoch(1)).unwrap();
        let after = replay.image().config(kind, &name).map(|config| (**config).clone()).unwrap_or_default();
        let refused = |refusal: Refusal| (refusal.reason, refusal.message.unwrap());
        (plan.records.len(), answers.remove(0).map(|()| after).map_err(refused))
    }

    fn check(options: &[(&str, &str)], change: &[(&str, ConfigOp)], records: usize, expected: &[(&str, &str)]) {
        let got = outcome(&image(options), each(ResourceType::TOPIC, "orders", change));
        let expected = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(got, (records, Ok(expected)), "{change:?}");
    }

    #[test]
    fn each_option_becomes_what_was_asked() {
        check(&[], &[("retention.ms", set("5"))], 1, &[("retention.ms", "5")]);
        check(&[("retention.ms", "5")], &[("retention.ms", set("5"))], 0, &[("retention.ms", "5")]);
        check(&[("retention.ms", "5")], &[("retention.ms", ConfigOp::Delete)], 1, &[]);
        check(&[], &[("retention.ms", ConfigOp::Delete), ("foo", ConfigOp::Delete)], 0, &[]);
        let compact = || ConfigOp::Append("compact".into());
        check(&[], &[("cleanup.policy", compact())], 1, &[("cleanup.policy", "delete,compact")]);
        let both = [("cleanup.policy", "compact,delete")];
        check(&both, &[("cleanup.policy", compact())], 0, &both);
        let no_delete = ConfigOp::Subtract("delete".into());
        check(&both, &[("cleanup.policy", no_delete.clone())], 1, &[("cleanup.policy", "compact")]);
        check(&[], &[("cleanup.policy", no_delete)], 1, &[("cleanup.policy", "")]);
    }

    #[test]
    fn all_options_are_these_and_no_others() {
        let image = image(&[("retention.ms", "5"), ("segment.ms", "6")]);
        let all = BTreeMap::from([("segment.ms".to_string(), "7".to_string())]);
        let change =
            ConfigChange { kind: ResourceType::TOPIC, name: "orders".into(), how: Alteration::All(all.clone()) };
        assert_eq!(outcome(&image, change), (2, Ok(all)));
    }

    fn refused(kind: ResourceType, name: &str, change: &[(&str, ConfigOp)], reason: Reason, words: &str) {
        let got = outcome(&image(&[("cleanup.policy", "delete")]), each(kind, name, change));
        assert_eq!(got, (0, Err((reason, words.to_string()))), "{change:?}");
    }

    #[test]
    fn refusals_are_kafkas() {
        let (topic, broker) = (ResourceType::TOPIC, ResourceType::BROKER);
        let more = || ConfigOp::Append("1".into());
        let no_list = "Can't APPEND to key retention.ms because its type is not LIST.";
        refused(topic, "orders", &[("retention.ms", more())], Reason::InvalidConfig, no_list);
        let not_known = "Can't APPEND to key foo because its type is not LIST.";
        refused(topic, "orders", &[("foo", more())], Reason::InvalidConfig, not_known);
        let wrong = "Invalid value x for configuration retention.ms: Not a number of type LONG";
        refused(topic, "orders", &[("retention.ms", set("x"))], Reason::InvalidConfig, wrong);
        // One that is wrong fails all of its resource.
        let both = [("segment.ms", set("5")), ("bar", set("x"))];
        refused(topic, "orders", &both, Reason::InvalidConfig, "Unknown topic config name: bar");
        let nowhere = "The topic 'nowhere' does not exist.";
        refused(topic, "nowhere", &[("retention.ms", set("5"))], Reason::UnknownTopicOrPartition, nowhere);
        refused(topic, "", &[], Reason::InvalidRequest, "Default topic resources are not allowed.");
        let no_list = "Config value append is not allowed for config key: log.retention.ms";
        refused(broker, "0", &[("log.retention.ms", more())], Reason::InvalidConfig, no_list);
        let fixed = "Cannot update these configs dynamically: [node.id]";
        refused(broker, "", &[("node.id", set("5"))], Reason::InvalidRequest, fixed);
        refused(ResourceType::GROUP, "g", &[], Reason::InvalidRequest, "Unknown resource type 32");
    }

    #[test]
    fn options_of_brokers_are_the_defaults_of_topics() {
        let before = image(&[]);
        let change = each(ResourceType::BROKER, "", &[("log.cleaner.max.compaction.lag.ms", set("10"))]);
        let plan = alter(&BrokerConfig::defaults(), &before, &[change], false);
        let mut replay = Replay::from_image(before);
        replay.apply(&plan.records, Offset(200), LeaderEpoch(1)).unwrap();
        let after = replay.image();
        assert_eq!(topic_defaults(&BrokerConfig::defaults(), after).max_compaction_lag_ms, 10);
        let too_long = each(ResourceType::TOPIC, "orders", &[("min.compaction.lag.ms", set("11"))]);
        assert!(outcome(after, too_long).1.is_err());
    }

    #[test]
    fn what_is_only_to_be_validated_changes_nothing() {
        let change = each(ResourceType::TOPIC, "orders", &[("retention.ms", set("5"))]);
        let plan = alter(&BrokerConfig::defaults(), &image(&[]), &[change], true);
        assert_eq!(plan, Plan { records: Vec::new(), answer: Answer::AlterConfigs(vec![Ok(())]) });
    }
}
