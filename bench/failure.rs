//! What stopped a run, said in one sentence for the person who started it.

use std::fmt;

/// The reason a run ended without a result.
#[derive(Debug)]
pub struct Failure(pub String);

pub type Outcome<T> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A failure with its sentence: `failure!("no leader for {topic}")`.
#[macro_export]
macro_rules! failure {
    ($($part:tt)*) => { $crate::failure::Failure(format!($($part)*)) };
}

/// Adds what was being done to an error of the world.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}

/// Kafka's name of an error code.
pub fn error_name(code: i16) -> String {
    match kafka_protocol::ResponseError::try_from_code(code) {
        Some(error) => format!("{error:?} ({code})"),
        None => format!("error {code}"),
    }
}

/// Whether Kafka's clients would ask again after this error.
pub fn is_retriable(code: i16) -> bool {
    kafka_protocol::ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable())
}
