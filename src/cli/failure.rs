//! How a command ends when it does not succeed: a message that says what to do,
//! and an exit code that says whose matter it is.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command did not do its job.
#[derive(Debug)]
pub enum Failure {
    /// The broker refused, could not be reached or did not answer in time. Code 1.
    Job(String),
    /// The command line or the configuration is wrong. Code 2.
    Wrong(String),
    /// The host or the data directory is not ready. Code 3.
    Host(String),
    /// Whoever read our output has seen enough (`corelog consume | head`). Code 0.
    OutputClosed,
}

impl Failure {
    pub fn job(message: impl fmt::Display) -> Failure {
        Failure::Job(message.to_string())
    }

    pub fn wrong(message: impl fmt::Display) -> Failure {
        Failure::Wrong(message.to_string())
    }

    /// Writes the message to standard error and gives the exit code.
    pub fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::OutputClosed => return ExitCode::SUCCESS,
            Failure::Job(message) => (message, 1),
            Failure::Wrong(message) => (message, 2),
            Failure::Host(message) => (message, 3),
        };
        let _ = writeln!(io::stderr(), "corelog: {message}");
        ExitCode::from(code)
    }
}

/// A failure to write our output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Job(format!("write the output: {error}")),
        }
    }
}
