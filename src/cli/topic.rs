//! `corelog topic`: create, list, describe, delete.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_lite::future::block_on;
use rdkafka::admin::{AdminOptions, ConfigEntry, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::client::{Connection, Patience, TopicName};
use super::failure::Failure;
use super::name_and_value;
use super::output::{self, Table};
use crate::config::TopicConfig;

/// Create, list, describe and delete topics
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Describe(Describe),
    Delete(Delete),
}

/// Create a topic
#[derive(Args)]
struct Create {
    #[command(flatten)]
    topic: TopicName,
    /// Number of partitions; the broker's num.partitions if not given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Number of replicas; the broker's default.replication.factor if not given
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,
    /// A topic option, for example retention.ms=86400000; may be repeated
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    configs: Vec<(String, String)>,
    /// A topic of this name is no error
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// List the names of all topics
#[derive(Args)]
struct List {
    /// Leave out topics that the brokers made for themselves
    #[arg(long)]
    exclude_internal: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// Show a topic's partitions, leaders, replicas and options; without a name, all topics'
#[derive(Args)]
struct Describe {
    /// Name of the topic
    #[arg(value_name = "TOPIC", conflicts_with = "topic")]
    name: Option<String>,
    /// The same, as Kafka's tools take it
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Show every option, also those that hold their default
    #[arg(long)]
    all_configs: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a topic and all its records
#[derive(Args)]
struct Delete {
    #[command(flatten)]
    topic: TopicName,
    /// A missing topic is no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Create(arguments) => create(&arguments),
        Action::List(arguments) => list(&arguments),
        Action::Describe(arguments) => describe(&arguments),
        Action::Delete(arguments) => delete(&arguments),
    }
}

fn options(timeout: Duration) -> AdminOptions {
    // The broker gives up first, so that its reason can still arrive.
    AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout.mul_f64(0.9)))
}

fn create(arguments: &Create) -> Result<(), Failure> {
    let (name, connection) = (arguments.topic.get(), &arguments.connection);
    let admin = connection.admin()?;
    // -1 leaves both to the broker (KIP-464).
    let replication = TopicReplication::Fixed(arguments.replication_factor.unwrap_or(-1));
    let mut topic = NewTopic::new(name, arguments.partitions.unwrap_or(-1), replication);
    for (option, value) in &arguments.configs {
        topic = topic.set(option, value);
    }
    let job = format!("create topic {name}");
    let results = block_on(admin.create_topics([&topic], &options(arguments.patience.timeout)))
        .map_err(|error| connection.explain(&job, error))?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) if arguments.if_not_exists => {
            output::line(format_args!("topic {name} exists already"))
        }
        Some(Err((_, code))) => Err(Failure::job(format!("{job}: {}", refusal(connection, code, &arguments.configs)))),
        Some(Ok(_)) | None => output::line(format_args!("created topic {name}")),
    }
}

/// librdkafka passes on the broker's code and not its words, so a bad option is
/// looked up here, by the same rules.
fn refusal(connection: &Connection, code: RDKafkaErrorCode, configs: &[(String, String)]) -> String {
    let overrides: BTreeMap<String, String> = configs.iter().cloned().collect();
    match (code, TopicConfig::with_overrides(&TopicConfig::default(), &overrides)) {
        (RDKafkaErrorCode::InvalidConfig, Err(reason)) => reason.to_string(),
        _ => connection.meaning(code),
    }
}

fn list(arguments: &List) -> Result<(), Failure> {
    let consumer = arguments.connection.observer(None)?;
    let metadata = arguments.connection.metadata(&consumer, arguments.patience.timeout)?;
    let mut names: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
    names.retain(|name| !arguments.exclude_internal || !name.starts_with("__"));
    names.sort_unstable();
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    output::text(&lines)
}

fn describe(arguments: &Describe) -> Result<(), Failure> {
    let connection = &arguments.connection;
    let consumer = connection.observer(None)?;
    let metadata = connection.metadata(&consumer, arguments.patience.timeout)?;
    let wanted = arguments.name.as_deref().or(arguments.topic.as_deref());
    let mut topics: Vec<&MetadataTopic> =
        metadata.topics().iter().filter(|topic| wanted.is_none_or(|wanted| topic.name() == wanted)).collect();
    topics.sort_unstable_by_key(|topic| topic.name());
    if let (Some(wanted), true) = (wanted, topics.is_empty()) {
        return Err(no_such_topic(wanted));
    }
    let admin = connection.admin()?;
    let resources: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|topic| ResourceSpecifier::Topic(topic.name())).collect();
    let configs = block_on(admin.describe_configs(&resources, &options(arguments.patience.timeout)));
    // Without the options, what metadata says is still worth showing.
    let (configs, trouble) = match configs {
        Ok(configs) => (configs, None),
        Err(error) => (Vec::new(), Some(connection.explain("describe the options", error))),
    };
    let mut configs = configs.into_iter();
    for (i, topic) in topics.iter().enumerate() {
        if i > 0 {
            output::line("")?;
        }
        let entries = configs.next().and_then(Result::ok).map(|resource| resource.entries);
        describe_one(topic, entries.unwrap_or_default(), arguments.all_configs)?;
    }
    trouble.map_or(Ok(()), Err)
}

fn describe_one(topic: &MetadataTopic, mut entries: Vec<ConfigEntry>, all: bool) -> Result<(), Failure> {
    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).max().unwrap_or(0);
    output::line(format_args!(
        "topic {}: {} partitions, replication factor {replicas}",
        topic.name(),
        topic.partitions().len()
    ))?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for entry in entries.iter().filter(|entry| all || !is_default(entry)) {
        let value = entry.value.as_deref().unwrap_or("not set");
        output::line(format_args!("  {}={value}{}", entry.name, origin(entry)))?;
    }
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let mut table = Table::new(&["PARTITION", "LEADER", "REPLICAS", "ISR"]);
    let mut partitions: Vec<_> = topic.partitions().iter().collect();
    partitions.sort_unstable_by_key(|partition| partition.id());
    for partition in partitions {
        let leader = if partition.leader() < 0 { "none".to_string() } else { partition.leader().to_string() };
        table.row(vec![partition.id().to_string(), leader, ids(partition.replicas()), ids(partition.isr())]);
    }
    table.show()
}

fn is_default(entry: &ConfigEntry) -> bool {
    matches!(entry.source, ConfigSource::Default | ConfigSource::Unknown) || entry.is_default
}

fn origin(entry: &ConfigEntry) -> &'static str {
    match entry.source {
        ConfigSource::DynamicTopic | ConfigSource::Unknown => "",
        ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker | ConfigSource::StaticBroker => {
            "  (from the broker)"
        }
        ConfigSource::Default => "  (default)",
    }
}

fn delete(arguments: &Delete) -> Result<(), Failure> {
    let (name, connection) = (arguments.topic.get(), &arguments.connection);
    let admin = connection.admin()?;
    let job = format!("delete topic {name}");
    let results = block_on(admin.delete_topics(&[name], &options(arguments.patience.timeout)))
        .map_err(|error| connection.explain(&job, error))?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition))) => {
            match arguments.if_exists {
                true => output::line(format_args!("there is no topic {name}")),
                false => Err(no_such_topic(name)),
            }
        }
        Some(Err((_, code))) => Err(Failure::job(format!("{job}: {}", connection.meaning(code)))),
        Some(Ok(_)) | None => output::line(format_args!("deleted topic {name}")),
    }
}

/// Says that a topic is missing, and how to get it.
pub fn no_such_topic(name: &str) -> Failure {
    Failure::job(format!(
        "there is no topic {name}; `corelog topic list` shows what there is, `corelog topic create {name}` makes it"
    ))
}
