//! Every broker and topic option, declared once: Kafka's name, type, default,
//! bounds and prose in one table entry, from which the typed structures, the
//! answers of DescribeConfigs and `docs/configuration.md` all come.
//!
//! Relies on [`crate::base`] alone. Reads the configuration file and the host's
//! name while loading, and does no other I/O; never learns of Kafka's error codes.

mod broker;
mod broker_options;
mod cores;
mod describe;
mod dynamic;
mod error;
mod kafka_names;
mod listener;
mod option;
mod properties;
mod reference;
mod topic;

pub use broker::{Advertise, BrokerConfig, broker_options};
pub use cores::CoreList;
pub use describe::{Described, Source, Synonym, describe_broker, describe_topic};
pub use dynamic::DynamicError;
pub use error::{ConfigError, Warning};
pub use listener::{Listener, SecurityProtocol};
pub use option::{Allowed, Change, Effect, KafkaDefault, Kind, OptionSpec, is_list};
pub use properties::{Property, parse as parse_properties};
pub use reference::markdown;
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig, topic_options};
