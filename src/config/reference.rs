//! The tables as a document for users: `docs/configuration.md`.

use std::fmt::Write;

use super::option::{Allowed, Change, Effect, KafkaDefault, OptionSpec};
use super::{broker_options, topic_options};

const HEAD: &str = "\
# Configuration

<!-- Generated from the tables in src/config; change those and run: corelog configuration > docs/configuration.md -->

corelog reads Kafka's own option names, from a `server.properties` file (`corelog serve --config FILE`) and from the
command line (`--set NAME=VALUE`, and flags for the common ones). The command line wins over the file, the file over the
default. A wrong value stops the start with its file and line; an unknown name, or one that only Kafka acts on, gives a
warning.

Where a default differs from Apache Kafka's, the entry says why. A number without unit is a count.
";

/// The whole document, in Markdown.
pub fn markdown() -> String {
    let mut out = HEAD.to_string();
    let of_broker = "Set when the process starts. Those that say \"changes: while it runs\" can be changed in a running \
                     broker (KIP-226: `kafka-configs --alter --entity-type brokers`), for all brokers or for one; what \
                     was changed so lies in the metadata log and wins over the file, the broker's own over that of all.";
    section(&mut out, "Broker options", of_broker, broker_options());
    let of_topic = "Set when a topic is created, or changed later (`kafka-configs --alter --entity-type topics`); a \
                    change takes effect at once. What a topic does not set comes from the broker option named under \
                    \"default from\".";
    section(&mut out, "Topic options", of_topic, topic_options());
    out
}

fn section(out: &mut String, title: &str, prose: &str, options: &[OptionSpec]) {
    let _ = write!(out, "\n## {title}\n\n{prose}\n");
    for spec in options.iter().filter(|spec| !spec.internal) {
        let _ = write!(out, "\n### `{}`\n\n{}\n\n", spec.name, spec.doc);
        for line in facts(spec) {
            let _ = writeln!(out, "* {line}");
        }
    }
}

fn facts(spec: &OptionSpec) -> Vec<String> {
    let mut facts = Vec::new();
    let unit = spec.unit().map(|unit| format!(", {unit}")).unwrap_or_default();
    let allowed = match spec.allowed {
        Allowed::Any => String::new(),
        Allowed::AtLeast(min) => format!(", at least {min}"),
        Allowed::Between(min, max) => format!(", from {min} to {max}"),
        Allowed::MinusOneOrBetween(min, max) => format!(", from {min} to {max}, or -1"),
        Allowed::Ratio => ", from 0 to 1".to_string(),
        Allowed::OneOf(names) => format!(", of: {}", names.join(", ")),
        Allowed::ThrottledReplicas => String::new(),
    };
    facts.push(format!("type: {}{unit}{allowed}", spec.kind.name().to_ascii_lowercase()));
    let show = |text: Option<&str>| match text {
        None => "not set".to_string(),
        Some("") => "empty".to_string(),
        Some(text) => format!("`{text}`"),
    };
    let kafkas = match spec.kafka_default {
        KafkaDefault::Same => String::new(),
        KafkaDefault::Text(text) => format!(" (Kafka: {})", show(Some(text))),
        KafkaDefault::Required => " (Kafka demands a value)".to_string(),
        KafkaDefault::OurOwn => " (an option of corelog's own)".to_string(),
    };
    facts.push(format!("default: {}{kafkas}", show(spec.default)));
    let names: Vec<String> = spec.synonyms.iter().map(|name| format!("`{name}`")).collect();
    match spec.change {
        Change::Topic if !names.is_empty() => facts.push(format!("default from: {}", names.join(", then "))),
        _ if !names.is_empty() => facts.push(format!("when not set: {}", names.join(", then "))),
        _ => {}
    }
    match spec.change {
        Change::ClusterWide => facts.push("changes: while it runs".to_string()),
        Change::ReadOnly | Change::Topic => {}
    }
    if let Effect::None(reason) = spec.effect {
        facts.push(format!("**no effect**: {reason}"));
    }
    facts
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "docs/configuration.md is out of date: corelog configuration > docs/configuration.md";
        assert!(committed == super::markdown(), "{hint}");
    }
}
