//! What AlterConfigs and IncrementalAlterConfigs share: what is looked at before the
//! controller decides (`ConfigAdminManager`), and whose options can be changed.
//!
//! - Topics, and brokers: one, or with the empty name all. A process whose cores are shown
//!   as brokers has one set of options: a change of one of them is one of all its cores.
//! - Loggers: there are none by a name of Kafka's, so that each name is refused as one that
//!   does not exist. Groups and client metrics have no options here yet: INVALID_REQUEST.

use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;

use super::brokers;
use super::errors::{self, Code};
use crate::base::BrokerId;
use crate::metadata::configs::{Alteration, ConfigChange};
use crate::metadata::image::ResourceType;
use crate::metadata::{Answer, Intention};
use crate::shard::Core;

/// Code and words.
pub type Refused = (Code, String);

/// One resource of a request.
pub struct Asked<'a> {
    pub kind: i8,
    pub name: &'a str,
    /// The options that are named, each with whether it lacks the value that it needs.
    pub options: Vec<(&'a str, bool)>,
    /// What is to be done, or why that cannot be said.
    pub how: Result<Alteration, Refused>,
    /// Whether the API knows loggers.
    pub loggers: bool,
}

pub fn refuse<T>(words: impl Into<String>) -> Result<T, Refused> {
    Err((Code::InvalidRequest, words.into()))
}

/// What became of a change, as an answer says it.
pub fn told(outcome: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (errors::NONE, None),
        Err((code, words)) => (code.code(), Some(StrBytes::from_string(words))),
    }
}

/// Carries the changes out, each for itself; what became of them in their order.
pub async fn carry_out(core: &Core, asked: Vec<Asked<'_>>, validate_only: bool) -> Vec<Result<(), Refused>> {
    let mut times: BTreeMap<(i8, String), usize> = BTreeMap::new();
    for one in &asked {
        *times.entry((one.kind, resource_name(core, one.kind, one.name))).or_default() += 1;
    }
    let mut outcomes = Vec::with_capacity(asked.len());
    let mut changes = Vec::new();
    for one in asked {
        let name = resource_name(core, one.kind, one.name);
        let outcome = match times[&(one.kind, name.clone())] {
            1 => check(core, &one),
            _ => refuse("Each resource must appear at most once."),
        };
        outcomes.push(match outcome.and(one.how) {
            // A logger's options, of which there is none.
            Ok(_) if ResourceType(one.kind) == ResourceType::BROKER_LOGGER => Some(Ok(())),
            Ok(how) => {
                changes.push(ConfigChange { kind: ResourceType(one.kind), name, how });
                None
            }
            Err(refused) => Some(Err(refused)),
        });
    }
    let count = changes.len();
    let intention = Intention::AlterConfigs { changes, validate_only };
    let mut carried_out = match count {
        0 => Vec::new(),
        _ => match core.control(intention).await {
            Ok(Answer::AlterConfigs(answers)) => answers
                .into_iter()
                .map(|answer| answer.map_err(|wrong| (errors::refusal(&wrong), wrong.message.unwrap_or_default())))
                .collect(),
            Ok(_) => unreachable!("an intention is answered in kind"),
            Err(unavailable) => vec![Err((Code::KafkaStorageError, unavailable.to_string())); count],
        },
    }
    .into_iter();
    let outcome = |known: Option<_>| known.or_else(|| carried_out.next()).expect("each change is answered");
    outcomes.into_iter().map(outcome).collect()
}

/// The name in the metadata: a broker that clients see is one of a node.
fn resource_name(core: &Core, kind: i8, name: &str) -> String {
    let broker = || core.brokers().node_of(BrokerId(name.parse().ok()?));
    match ResourceType(kind) == ResourceType::BROKER {
        true => broker().map_or_else(|| name.to_owned(), |node| node.0.to_string()),
        false => name.to_owned(),
    }
}

fn check(core: &Core, asked: &Asked) -> Result<(), Refused> {
    let mut names: Vec<&str> = asked.options.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("Error due to duplicate config keys");
    }
    let nulls: Vec<&str> = asked.options.iter().filter(|(_, lacks)| *lacks).map(|(name, _)| *name).collect();
    if !nulls.is_empty() {
        return refuse(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    match ResourceType(asked.kind) {
        ResourceType::TOPIC => Ok(()),
        ResourceType::BROKER if asked.name.is_empty() => Ok(()),
        ResourceType::BROKER => check_broker(core, asked.name),
        ResourceType::BROKER_LOGGER if asked.loggers => {
            check_broker(core, asked.name)?;
            match asked.options.first() {
                Some((logger, _)) => Err((Code::InvalidConfig, format!("Logger {logger} does not exist!"))),
                None => Ok(()),
            }
        }
        ResourceType::GROUP => refuse("Options of groups are not there yet."),
        ResourceType::CLIENT_METRICS => refuse("Client metrics are not there yet."),
        ResourceType(other) => refuse(format!("Unknown resource type {other}")),
    }
}

fn check_broker(core: &Core, name: &str) -> Result<(), Refused> {
    let Ok(id) = name.parse() else { return refuse(format!("Node id must be an integer, but it is: {name}")) };
    match core.brokers().node_of(BrokerId(id)) {
        Some(_) => Ok(()),
        None => refuse(format!("Unexpected broker id, expected {}, but received {name}", brokers::own(core).0)),
    }
}
