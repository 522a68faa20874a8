//! The program's command line: `corelog serve` and `corelog format` for those
//! who run a broker, and client commands that do the everyday jobs of Kafka's
//! console tools against any Kafka endpoint.
//!
//! Relies on everything below. Has no logic of its own beyond reading arguments
//! and showing results; the client commands talk to brokers only through
//! librdkafka, as any client does.

mod broker;
mod client;
mod consume;
mod debug;
mod directories;
mod failure;
mod group;
mod journals;
mod log;
mod output;
mod produce;
mod progress;
pub mod serve;
mod topic;
mod tune;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A Kafka-protocol broker for bare-metal Linux, and its client commands.
#[derive(Parser)]
#[command(
    name = "corelog",
    max_term_width = 110,
    after_help = "Exit codes: 0 done; 1 the job failed (refused, unreachable, timed out, a host that deviates); 2 the command line or the \
                  configuration is wrong; 3 the host or the data directory is not ready for a broker."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(broker::Serve),
    Format(broker::Format),
    Topic(topic::Arguments),
    Produce(produce::Arguments),
    Consume(consume::Arguments),
    Group(group::Arguments),
    Debug(debug::Arguments),
    Log(log::Arguments),
    Tune(tune::Arguments),
    /// Print docs/configuration.md as the tables of options give it.
    #[command(hide = true)]
    Configuration,
}

/// Runs the program with the arguments of the process. `commit`: what it was
/// built from, if known.
pub fn run(commit: Option<&'static str>) -> ExitCode {
    let version = match commit.filter(|commit| !commit.is_empty()) {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_string(),
    };
    // clap keeps the text for as long as the program runs.
    let parsed = CommandLine::command().version(&*version.leak()).try_get_matches();
    let parsed = parsed.and_then(|matches| CommandLine::from_arg_matches(&matches));
    let command = match parsed {
        Ok(line) => line.command,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match command {
        Command::Serve(arguments) => broker::serve(arguments),
        Command::Format(arguments) => broker::format(arguments),
        Command::Topic(arguments) => topic::command(arguments),
        Command::Produce(arguments) => produce::command(arguments),
        Command::Consume(arguments) => consume::command(arguments),
        Command::Group(arguments) => group::command(arguments),
        Command::Debug(arguments) => debug::command(arguments),
        Command::Log(arguments) => log::command(arguments),
        Command::Tune(arguments) => tune::command(arguments),
        Command::Configuration => output::text(&crate::config::markdown()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Reads `NAME=VALUE`.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_string(), value.to_string())),
        _ => Err("NAME=VALUE is expected".to_string()),
    }
}

/// Reads a time in seconds, such as 10 or 0.5.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected".to_string())?;
    match std::time::Duration::try_from_secs_f64(seconds) {
        // librdkafka counts milliseconds in 32 bits.
        Ok(time) if seconds <= 2_000_000.0 => Ok(time),
        _ => Err("a number of seconds from 0 to 2000000 is expected".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_in_order() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(check);
        }
        check(&CommandLine::command());
    }

    #[test]
    fn small_values() {
        assert_eq!(name_and_value("a = b=c"), Ok(("a".to_string(), " b=c".to_string())));
        assert!(name_and_value("=b").is_err() && name_and_value("a").is_err());
        assert_eq!(seconds("0.5"), Ok(std::time::Duration::from_millis(500)));
        assert!(
            seconds("-1").is_err() && seconds("x").is_err() && seconds("1e300").is_err() && seconds("NaN").is_err()
        );
    }
}
