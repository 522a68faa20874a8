//! Broker options that the metadata log holds (KIP-226): for all brokers, and for
//! this one. They win over the file and the command line, the broker's own over
//! that of all (`DynamicBrokerConfig`).

use std::collections::BTreeMap;

use super::broker_options::BROKER_OPTIONS;
use super::kafka_names::KAFKA_ONLY;
use super::option::{Change, find};
use super::{BrokerConfig, ConfigError, TopicConfig, Warning};

/// Options by Kafka's name, as records hold them.
type Values = BTreeMap<String, String>;

/// What the metadata log says, of options that we know and could use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Of all brokers.
    pub(super) all: BTreeMap<&'static str, String>,
    /// Of this one.
    pub(super) own: BTreeMap<&'static str, String>,
}

impl Dynamic {
    pub(super) fn get(&self, name: &str) -> Option<&String> {
        self.own.get(name).or_else(|| self.all.get(name))
    }
}

/// Why options of a running broker cannot be these. The words are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DynamicError {
    #[error("Cannot update these configs dynamically: [{}]", .0.join(", "))]
    ReadOnly(Vec<String>),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl BrokerConfig {
    /// The options in force where the metadata log says `all` of all brokers and `own`
    /// of this one. What cannot be used is left out, with a warning: the log may come from
    /// elsewhere. To be called on the options that the process started with.
    pub fn with_dynamic(&self, all: &Values, own: &Values) -> (BrokerConfig, Vec<Warning>) {
        let mut config = self.clone();
        config.dynamic = Dynamic::default();
        let mut warnings = Vec::new();
        for (of_all, values) in [(true, all), (false, own)] {
            for (name, value) in values {
                // Names that nobody knows may be kept there: Kafka's plug-ins have such.
                let Some(spec) = find(BROKER_OPTIONS, name) else { continue };
                let mut with = config.clone();
                let outcome = match spec.change {
                    Change::ClusterWide => {
                        with.set(name, value).expect("it is in the table").map_err(|wrong| wrong.words(name))
                    }
                    Change::ReadOnly | Change::Topic => Err("it cannot change while the broker runs".to_string()),
                };
                let outcome = outcome.and_then(|()| with.check_together().map_err(|error| error.to_string()));
                if let Err(reason) = outcome {
                    warnings.push(Warning(format!("{name}={value} in the metadata log is not used: {reason}")));
                    continue;
                }
                let level = if of_all { &mut with.dynamic.all } else { &mut with.dynamic.own };
                level.insert(spec.name, value.clone());
                config = with;
            }
        }
        (config, warnings)
    }

    /// Checks what the metadata log is to say: `values` of all brokers, or, with
    /// `of_all` given as what it says of all, of one.
    ///
    /// # Errors
    /// Names that cannot change while a broker runs, in the order of names; then values
    /// outside of their type or bounds; then what does not fit together.
    pub fn check_dynamic(&self, values: &Values, of_all: Option<&Values>) -> Result<(), DynamicError> {
        let fixed = |name: &&String| match find(BROKER_OPTIONS, name) {
            Some(spec) => spec.change != Change::ClusterWide,
            None => KAFKA_ONLY.binary_search(&name.as_str()).is_ok() || name.starts_with("listener.name."),
        };
        let fixed: Vec<String> = values.keys().filter(fixed).cloned().collect();
        if !fixed.is_empty() {
            return Err(DynamicError::ReadOnly(fixed));
        }
        let mut config = match of_all {
            Some(all) => self.with_dynamic(all, &Values::new()).0,
            None => self.clone(),
        };
        for (name, value) in values {
            if let Some(Err(wrong)) = config.set(name, value) {
                return Err(ConfigError::Value(wrong.words(name)).into());
            }
        }
        Ok(config.check_together()?)
    }

    /// Whether what topics start from fits together (`KafkaConfig.validateValues`).
    pub(super) fn check_together(&self) -> Result<(), ConfigError> {
        // A topic's own may be 0.
        if self.topic_defaults().retention_ms == 0 {
            return Err(ConfigError::Conflict(
                "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1"
                    .to_string(),
            ));
        }
        TopicConfig::with_overrides(&self.topic_defaults(), &BTreeMap::new()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn check(pairs: &[(&str, &str)], expected: Result<(), &str>) {
        let got = BrokerConfig::defaults().check_dynamic(&values(pairs), None);
        assert_eq!(got.map_err(|error| error.to_string()), expected.map_err(str::to_string), "{pairs:?}");
    }

    #[test]
    fn what_may_change_is_kafkas_and_what_cannot_here_is_refused() {
        check(&[("log.retention.ms", "5"), ("num.io.threads", "9"), ("unheard.of", "x")], Ok(()));
        check(&[("node.id", "5")], Err("Cannot update these configs dynamically: [node.id]"));
        check(
            &[("log.retention.ms", "x"), ("log.dirs", "a"), ("broker.rack", "b")],
            Err("Cannot update these configs dynamically: [broker.rack, log.dirs]"),
        );
        check(
            &[("log.retention.ms", " x")],
            Err("Invalid value  x for configuration log.retention.ms: Not a number of type LONG"),
        );
        let at_least_one = "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
        check(&[("log.retention.ms", "0")], Err(at_least_one));
        check(&[("log.retention.ms", "-9")], Ok(()));
        check(
            &[("log.segment.bytes", "5")],
            Err("Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576"),
        );
        check(
            &[("log.cleaner.min.compaction.lag.ms", "5"), ("log.cleaner.max.compaction.lag.ms", "4")],
            Err("conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)"),
        );
        let all = values(&[("log.cleaner.max.compaction.lag.ms", "4")]);
        let own = values(&[("log.cleaner.min.compaction.lag.ms", "5")]);
        assert!(BrokerConfig::defaults().check_dynamic(&own, None).is_ok());
        assert!(BrokerConfig::defaults().check_dynamic(&own, Some(&all)).is_err());
    }

    #[test]
    fn a_log_from_elsewhere_cannot_stop_the_broker() {
        let all = values(&[("node.id", "7"), ("log.retention.ms", "x"), ("log.segment.bytes", "2000000")]);
        let own = values(&[("log.retention.ms", "9"), ("listener.name.x.ssl", "y")]);
        let (config, warnings) = BrokerConfig::defaults().with_dynamic(&all, &own);
        let topic = config.topic_defaults();
        assert_eq!((config.node_id.0, topic.retention_ms, topic.segment_bytes), (0, 9, 2_000_000));
        let about: Vec<_> = warnings.iter().map(|warning| warning.0.split('=').next().unwrap()).collect();
        assert_eq!(about, ["log.retention.ms", "node.id"]);
        // From the start again: nothing of before is left.
        let (config, _) = BrokerConfig::defaults().with_dynamic(&Values::new(), &Values::new());
        assert_eq!(config.topic_defaults(), BrokerConfig::defaults().topic_defaults());
    }
}
