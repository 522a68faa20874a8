//! The configuration as DescribeConfigs shows it: each option's effective text,
//! where it comes from, and what stands behind it (Kafka's `ConfigHelper`).

use std::collections::BTreeMap;

use super::broker_options::BROKER_OPTIONS;
use super::option::{OptionSpec, find};
use super::{BrokerConfig, topic_options};

/// Where a value comes from (`DescribeConfigsResponse.ConfigSource`), in order of
/// precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The topic's own options, in the metadata log.
    Topic,
    /// This broker's own, in the metadata log.
    DynamicBroker,
    /// All brokers', in the metadata log.
    DynamicDefault,
    /// The file or the command line of this process.
    StaticBroker,
    Default,
}

/// One option as it is in force.
#[derive(Clone, Debug)]
pub struct Described {
    pub spec: &'static OptionSpec,
    /// `None`: no value (Java's null), or one that must not be shown.
    pub value: Option<String>,
    pub source: Source,
    /// Every value that was considered, the winner first; empty when nobody gave
    /// one and there is no default under the option's first name.
    pub synonyms: Vec<Synonym>,
}

/// A value under one of the names that lead to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// All options of a topic whose own are `overrides`.
pub fn describe_topic(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let defaults = broker.topic_defaults();
    let options = topic_options().iter().filter(|spec| !spec.internal || overrides.contains_key(spec.name));
    options
        .map(|spec| {
            let mut synonyms = Vec::new();
            let own = overrides.get(spec.name).map(|text| spec.canonical(text));
            if let Some(value) = &own {
                synonyms.push(Synonym { name: spec.name, value: Some(value.clone()), source: Source::Topic });
            }
            synonyms.extend(broker_synonyms(broker, spec.synonyms));
            let value = own.or_else(|| match spec.name {
                // The broker's options of these count in other units, or in several.
                "flush.ms" => Some(defaults.flush_ms.to_string()),
                "retention.ms" => Some(defaults.retention_ms.to_string()),
                "segment.jitter.ms" => Some(defaults.segment_jitter_ms.to_string()),
                "segment.ms" => Some(defaults.segment_ms.to_string()),
                _ => match spec.synonyms.first().and_then(|name| find(BROKER_OPTIONS, name)) {
                    Some(of_broker) => text(broker, of_broker),
                    None => spec.default.map(str::to_string),
                },
            });
            described(spec, value, synonyms)
        })
        .collect()
}

/// All options of the broker.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<Described> {
    let options = BROKER_OPTIONS.iter();
    options
        .map(|spec| {
            let mut names = vec![spec.name];
            names.extend(spec.synonyms);
            described(spec, text(broker, spec), broker_synonyms(broker, &names))
        })
        .collect()
}

fn described(spec: &'static OptionSpec, value: Option<String>, mut synonyms: Vec<Synonym>) -> Described {
    let source = synonyms.first().map_or(Source::Default, |winner| winner.source);
    if spec.is_sensitive() {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    Described { spec, value: value.filter(|_| !spec.is_sensitive()), source, synonyms }
}

/// The names that were said, in their order, each level of the metadata log first, then the default of the first.
fn broker_synonyms(broker: &BrokerConfig, names: &[&'static str]) -> Vec<Synonym> {
    let specs = || names.iter().filter_map(|name| find(BROKER_OPTIONS, name));
    let levels = [(&broker.dynamic.own, Source::DynamicBroker), (&broker.dynamic.all, Source::DynamicDefault)];
    let dynamic = levels.into_iter().flat_map(|(values, source)| {
        specs().filter_map(move |spec| {
            let value = values.get(spec.name)?;
            Some(Synonym { name: spec.name, value: Some(spec.canonical(value)), source })
        })
    });
    let said = specs().filter_map(|spec| {
        let said = broker.said.get(spec.name)?;
        Some(Synonym { name: spec.name, value: Some(spec.canonical(&said.text)), source: Source::StaticBroker })
    });
    let default = specs().next().filter(|spec| spec.default.is_some()).map(|spec| Synonym {
        name: spec.name,
        value: spec.default.map(str::to_string),
        source: Source::Default,
    });
    dynamic.chain(said).chain(default).collect()
}

/// The text of a broker option: what was said, or the default.
fn text(broker: &BrokerConfig, spec: &OptionSpec) -> Option<String> {
    let said = broker.dynamic.get(spec.name).or_else(|| broker.said.get(spec.name).map(|said| &said.text));
    match said {
        Some(text) => Some(spec.canonical(text)),
        None => spec.default.map(str::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metadata_log_says_comes_before_the_file() {
        let values = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let all = values(&[("log.retention.ms", "7"), ("log.segment.bytes", " 3000000"), ("foo", "bar")]);
        let own = values(&[("log.segment.bytes", "4000000")]);
        let file = broker(&[("log.retention.hours", "1"), ("log.segment.bytes", "2000000")]);
        let (effective, warnings) = file.with_dynamic(&all, &own);
        assert_eq!(warnings, []);
        let got = describe_broker(&effective);
        let bytes = "4000000 DynamicBroker {DynamicBroker:log.segment.bytes=4000000, \
                     DynamicDefault:log.segment.bytes=3000000, StaticBroker:log.segment.bytes=2000000, \
                     Default:log.segment.bytes=1073741824}";
        check(&got, "log.segment.bytes", bytes);
        let age = "7 DynamicDefault {DynamicDefault:log.retention.ms=7, StaticBroker:log.retention.hours=1}";
        check(&got, "log.retention.ms", age);
        let topic = describe_topic(&effective, &BTreeMap::new());
        check(&topic, "segment.bytes", bytes);
        check(&topic, "retention.ms", age);
    }

    fn broker(options: &[(&str, &str)]) -> BrokerConfig {
        let options: Vec<_> = options.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        BrokerConfig::load(None, &options).unwrap().0
    }

    fn check(described: &[Described], name: &str, expected: &str) {
        let entry = described.iter().find(|d| d.spec.name == name).unwrap();
        let null = || "null".to_string();
        let synonyms: Vec<_> = entry
            .synonyms
            .iter()
            .map(|s| format!("{:?}:{}={}", s.source, s.name, s.value.clone().unwrap_or_else(null)))
            .collect();
        let value = entry.value.clone().unwrap_or_else(null);
        assert_eq!(format!("{value} {:?} {{{}}}", entry.source, synonyms.join(", ")), expected, "{name}");
    }

    #[test]
    fn topics_show_whose_value_it_is() {
        let own = BTreeMap::from([
            ("retention.ms".to_string(), " 5".to_string()),
            ("cleanup.policy".to_string(), "compact , delete".to_string()),
        ]);
        let broker = broker(&[("log.roll.hours", "2"), ("log.segment.bytes", "2000000"), ("log.retention.ms", "9")]);
        let got = describe_topic(&broker, &own);
        check(&got, "retention.ms", "5 Topic {Topic:retention.ms=5, StaticBroker:log.retention.ms=9}");
        check(
            &got,
            "cleanup.policy",
            "compact,delete Topic {Topic:cleanup.policy=compact,delete, Default:log.cleanup.policy=delete}",
        );
        check(&got, "segment.ms", "7200000 StaticBroker {StaticBroker:log.roll.hours=2}");
        check(
            &got,
            "segment.bytes",
            "2000000 StaticBroker {StaticBroker:log.segment.bytes=2000000, Default:log.segment.bytes=1073741824}",
        );
        // As Kafka shows them: the default stands under another name than the first.
        check(&got, "flush.ms", "9223372036854775807 Default {}");
        check(&got, "remote.storage.enable", "false Default {}");
        check(&got, "flush.messages", "1 Default {Default:log.flush.interval.messages=1}");
        assert!(got.iter().all(|d| !d.spec.internal));
    }

    #[test]
    fn brokers_show_what_was_said_and_what_was_not() {
        let got = describe_broker(&broker(&[("num.partitions", "6"), ("broker.id", "3")]));
        check(&got, "num.partitions", "6 StaticBroker {StaticBroker:num.partitions=6, Default:num.partitions=1}");
        check(&got, "log.retention.ms", "null Default {}");
        check(&got, "log.retention.hours", "168 Default {Default:log.retention.hours=168}");
    }
}
