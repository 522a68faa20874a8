//! What can be wrong with a configuration, said so that its reader can mend it.

use std::fmt;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A line of the configuration file, counted from 1.
    Line { file: String, line: usize },
    /// `--set` or a flag.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { file, line } => write!(f, "{file}, line {line}: "),
            Place::CommandLine => f.write_str("command line: "),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration file {file}: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}, line {line}: {reason}")]
    Syntax { file: String, line: usize, reason: String },
    /// A value outside of its option's type or bounds. The words are Kafka's
    /// (`ConfigException`); CreateTopics hands them to clients.
    #[error("{0}")]
    Value(String),
    /// The same, with the place where the value was given.
    #[error("{place}{words}")]
    Given { place: String, words: String },
    #[error("Unknown topic config name: {0}")]
    UnknownTopicOption(String),
    /// Options that are fine one by one and not together.
    #[error("{0}")]
    Conflict(String),
}

/// Something the reader should know, though the broker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
