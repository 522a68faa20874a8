//! `corelog debug`: what a running broker knows of its own doings.

use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::output::{self, Table};
use crate::admin::{self, DirsReport, SOCKET_NAME, SlowReport, StagesReport, StallsReport};
use crate::config::BrokerConfig;
use crate::metrics::Stage;

/// Look into a running broker: its slowest requests, where their time goes, what holds it up
///
/// Asks the broker on this machine that uses the data directory, through the socket it keeps there (corelog.sock, for
/// the broker's own user). docs/observability.md says what the stages mean.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The slowest requests of the last minutes, stage by stage
    ///
    /// All times are microseconds. What a fetch waited for data (parked) does not make it slow.
    Slow {
        #[command(flatten)]
        place: Place,
        /// How many to show
        #[arg(short, long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// How long requests take since the start, by API and stage
    Stages {
        #[command(flatten)]
        place: Place,
    },
    /// The data directories: which are offline and why, and what they hold
    Dirs {
        #[command(flatten)]
        place: Place,
    },
    /// Tasks that held up their core for longer than core.stall.threshold.ms
    Stalls {
        #[command(flatten)]
        place: Place,
    },
}

/// Which broker, and how it is shown.
#[derive(Args)]
struct Place {
    /// The broker's data directory (option log.dirs; ./corelog-data if not given)
    #[arg(short, long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// The broker's file of options, which names its data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the broker's answer as it is: JSON
    #[arg(long)]
    json: bool,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Slow { place, limit } => place.show("/debug/slow", |report| slow(report, limit)),
        Command::Stages { place } => place.show("/debug/stages", stages),
        Command::Stalls { place } => place.show("/debug/stalls", stalls),
        Command::Dirs { place } => place.show("/debug/dirs", dirs),
    }
}

impl Place {
    /// Asks the broker and shows what it says.
    fn show<T: DeserializeOwned>(self, path: &str, show: impl FnOnce(T) -> Result<(), Failure>) -> Result<(), Failure> {
        let dir = self.data_dir.map(|dir| ("log.dirs".to_string(), dir));
        let overrides: Vec<_> = dir.into_iter().collect();
        let (config, _) = BrokerConfig::load(self.config.as_deref(), &overrides).map_err(Failure::wrong)?;
        let dir = config.log_dirs.first().expect("loading leaves one");
        let answer = admin::get(dir, path).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; no broker runs on that directory",
                _ => "",
            };
            Failure::job(format!("ask {}: {error}{hint}", dir.join(SOCKET_NAME).display()))
        })?;
        if self.json {
            return output::line(String::from_utf8_lossy(&answer));
        }
        let report = serde_json::from_slice(&answer)
            .map_err(|error| Failure::job(format!("the broker is of another version: {error}")))?;
        show(report)
    }
}

/// Milliseconds since 1970 as a time of day in UTC.
fn time_of_day(ms: i64) -> String {
    let of_day = ms.rem_euclid(86_400_000);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A line for the cores that did not answer.
fn name_silent(cores: &[usize]) -> Result<(), Failure> {
    match cores {
        [] => Ok(()),
        cores => output::line(format_args!("no answer from cores {cores:?}: they are stuck, or stopping")),
    }
}

fn slow(report: SlowReport, limit: usize) -> Result<(), Failure> {
    let stages = Stage::ALL.map(|stage| stage.name().to_uppercase());
    let before = ["TOTAL", "API", "ENDED UTC", "CORE"];
    let after = ["PARTITIONS", "BYTES IN", "OUT", "CLIENT", "PEER", "CORRELATION"];
    let head: Vec<&str> = before.into_iter().chain(stages.iter().map(String::as_str)).chain(after).collect();
    let mut table = Table::new(&head);
    for request in report.requests.iter().take(limit) {
        let mut cells = vec![
            request.total_us.to_string(),
            format!("{} v{}", request.api, request.version),
            time_of_day(request.ended_ms),
            request.core.to_string(),
        ];
        let stage = |stage: Stage| request.stages_us.get(stage.name()).map(u64::to_string).unwrap_or_default();
        cells.extend(Stage::ALL.map(stage));
        cells.extend([
            request.partitions.to_string(),
            request.request_bytes.to_string(),
            request.answer_bytes.to_string(),
            // A client may call itself what it likes: nothing of it governs the terminal.
            request.client_id.escape_debug().to_string(),
            request.peer.clone(),
            request.correlation_id.to_string(),
        ]);
        table.row(cells);
    }
    table.show()?;
    name_silent(&report.silent_cores)
}

fn stages(report: StagesReport) -> Result<(), Failure> {
    let mut table = Table::new(&["API", "STAGE", "COUNT", "P50 US", "P90", "P99", "P99.9", "MAX"]);
    for row in &report.rows {
        let us = |us: f64| format!("{us:.0}");
        let (api, stage) = (row.api.clone(), row.stage.clone());
        let times = [row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us].map(us);
        table.row([api, stage, row.count.to_string()].into_iter().chain(times).collect());
    }
    table.show()?;
    name_silent(&report.silent_cores)
}

fn stalls(report: StallsReport) -> Result<(), Failure> {
    let counts: Vec<String> = report.counts.iter().map(|(core, count)| format!("core {core}: {count}")).collect();
    output::line(format_args!("stalls since the start: {}", counts.join(", ")))?;
    let mut table = Table::new(&["ENDED UTC", "CORE", "TASK", "QUEUE", "TOOK MS"]);
    for stall in report.stalls {
        let (ended, core, took) = (time_of_day(stall.ended_ms), stall.core.to_string(), stall.took_ms.to_string());
        table.row(vec![ended, core, stall.task, stall.queue, took]);
    }
    table.show()?;
    name_silent(&report.silent_cores)
}

fn dirs(report: DirsReport) -> Result<(), Failure> {
    let (directories, partitions) = (report.offline_directories, report.offline_partitions);
    output::line(format_args!("offline: directories {directories}, partitions {partitions}"))?;
    let mut table = Table::new(&["DIRECTORY", "ID", "STATE", "PARTITIONS", "BYTES", "OFFLINE", "COPIES", "LAG", "WHY"]);
    for dir in report.directories {
        let state = match (dir.offline, dir.has_metadata) {
            (true, _) => "offline",
            (false, true) => "online, metadata",
            (false, false) => "online",
        };
        let counts = [dir.partitions, dir.bytes, dir.offline_partitions, dir.copies, dir.copies_lag];
        let mut cells = vec![dir.path, dir.id.unwrap_or_default(), state.to_string()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(dir.reason.unwrap_or_default());
        table.row(cells);
    }
    table.show()?;
    name_silent(&report.silent_cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day(0), "00:00:00.000");
        assert_eq!(time_of_day(1_795_291_199_987), "19:59:59.987");
    }
}
