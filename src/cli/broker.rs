//! `corelog serve` and `corelog format`: from the command line to the
//! configuration of a broker.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::name_and_value;
use super::output;
use super::serve::{self, ServeError};
use crate::config::BrokerConfig;
use crate::metadata::properties::{self, DirSet, Format as HowToFormat, PropertiesError};

/// Run a broker until it is told to stop (SIGTERM, Ctrl-C)
///
/// Without arguments: one node on all cores, listening on port 9092 and the next ones, one per core, with its data in
/// ./corelog-data, which is formatted at the first start. What is written to standard error is governed by
/// CORELOG_LOG: error, warn, info (default), debug, trace, or a list such as info,corelog::log=debug.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    options: Options,
    /// Where to listen, several with commas; core c listens on PORT + c (option listeners; port 9092 if not given)
    #[arg(short, long, value_name = "PLAINTEXT://HOST:PORT")]
    listeners: Option<String>,
    /// What clients see as a broker: every core, or the host (option advertise; core if not given)
    #[arg(short, long, value_name = "core|host", value_parser = ["core", "host"], hide_possible_values = true)]
    advertise: Option<String>,
    /// CPUs to run on, such as 0-3,6, or how many (option cores; all if not given)
    #[arg(short, long, value_name = "LIST")]
    cores: Option<String>,
}

/// Make data directories ready for a node, and print its cluster id
///
/// `corelog serve` does this by itself for empty directories; this command is for those who want to choose the cluster
/// id, or to prepare a directory in advance, as with kafka-storage format.
#[derive(Args)]
pub struct Format {
    #[command(flatten)]
    options: Options,
    /// Id of the cluster: 22 characters of URL-safe base64; a new one is drawn if not given
    #[arg(short = 't', long, value_name = "ID")]
    cluster_id: Option<String>,
    /// Leave a directory that is formatted already as it is
    #[arg(short = 'g', long)]
    ignore_formatted: bool,
}

/// What both commands take.
#[derive(Args)]
struct Options {
    /// Read options from this file: Kafka's server.properties, in its syntax and names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, or several with commas, one for each drive (option log.dirs; ./corelog-data if not given)
    #[arg(short, long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// Number of this node in its cluster (option node.id)
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Set any option; wins over the file; may be repeated. docs/configuration.md lists them all
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    settings: Vec<(String, String)>,
}

impl Options {
    /// The configuration. Flags come before `--set`, so that the latter wins.
    fn load(self, flags: Vec<(&str, Option<String>)>) -> Result<BrokerConfig, Failure> {
        let own = vec![("log.dirs", self.data_dir), ("node.id", self.node_id)];
        let given = own.into_iter().chain(flags);
        let mut overrides: Vec<(String, String)> =
            given.filter_map(|(name, value)| Some((name.to_string(), value?))).collect();
        overrides.extend(self.settings);
        let loaded = BrokerConfig::load(self.config.as_deref(), &overrides);
        let (config, warnings) = loaded.map_err(Failure::wrong)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

pub fn serve(arguments: Serve) -> Result<(), Failure> {
    start_log()?;
    let flags =
        vec![("listeners", arguments.listeners), ("advertise", arguments.advertise), ("cores", arguments.cores)];
    let mut config = arguments.options.load(flags)?;
    // A directory that was formatted for a node says which, when nobody else does.
    if !config.is_set("node.id") && !config.is_set("broker.id") {
        let found = properties::read_all(dirs_of(&config), None).map_err(|error| Failure::Host(error.to_string()))?;
        config.node_id = found.first().map_or(config.node_id, |(_, found)| found.node_id);
    }
    serve::run(config).map_err(|error| match error {
        ServeError::Config(error) => Failure::wrong(error),
        ServeError::Runtime(error) => Failure::job(error),
        error => Failure::Host(error.to_string()),
    })
}

pub fn format(arguments: Format) -> Result<(), Failure> {
    start_log()?;
    let config = arguments.options.load(Vec::new())?;
    let (node_id, cluster_id) = (config.node_id, arguments.cluster_id);
    let how = HowToFormat { node_id, cluster_id, ignore_formatted: arguments.ignore_formatted };
    let done = properties::format_all(dirs_of(&config), &how).map_err(|error| match error {
        PropertiesError::ClusterId(_) => Failure::wrong(error),
        PropertiesError::AlreadyFormatted { .. } => {
            Failure::Host(format!("{error}; --ignore-formatted leaves it as it is"))
        }
        _ => Failure::Host(error.to_string()),
    })?;
    for (dir, done) in done {
        let verb = if done.already { "is formatted already" } else { "formatted" };
        let (node, cluster) = (done.properties.node_id.0, done.properties.cluster_id);
        output::line(format_args!("{}: {verb}, node {node} of cluster {cluster}", dir.display()))?;
    }
    Ok(())
}

fn dirs_of(config: &BrokerConfig) -> DirSet<'_> {
    DirSet { dirs: &config.log_dirs, metadata: config.metadata_dir() }
}

/// Sends the log to standard error, in colour on a terminal.
pub(super) fn start_log() -> Result<(), Failure> {
    let wanted = std::env::var("CORELOG_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { "info".to_string() } else { wanted };
    let filter = tracing_subscriber::EnvFilter::try_new(&wanted)
        .map_err(|error| Failure::wrong(format!("CORELOG_LOG={wanted}: {error}")))?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        // They go to standard error as well, and a line that cannot be written there is a panic: a broker must not end
        // because the drive that takes its log is full.
        .log_internal_errors(false)
        .init();
    Ok(())
}
