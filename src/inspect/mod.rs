//! Looking at data directories from outside, whoever wrote them: corelog or Apache Kafka.
//!
//! | file | holds |
//! |---|---|
//! | `batches` | walking the batches of a file |
//! | `metadata` | the metadata of a directory, from snapshots and log |
//! | `verify` | whether all of a directory is whole |
//! | `words` | what a file says, for people |
//! | `takeover` | whether a directory that Kafka wrote can be served, before anything is changed |
//!
//! Reads only, with plain blocking files: nothing of this runs on a reactor, and nothing of a
//! broker that runs is looked at. Nothing that is read is trusted: no bytes make this panic, or
//! take more memory than the file has.

pub mod batches;
pub mod metadata;
pub mod takeover;
pub mod verify;
pub mod words;

use std::io;
use std::path::{Path, PathBuf};

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}: {error}", path.display())]
pub struct InspectError {
    pub verb: &'static str,
    pub path: PathBuf,
    pub error: io::Error,
}

impl InspectError {
    pub fn new(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InspectError + use<> {
        let path = path.to_owned();
        move |error| InspectError { verb, path, error }
    }
}

/// What a directory holds, in the order of names; nothing if it is not there.
///
/// # Errors
/// It cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<(String, bool)>, InspectError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(InspectError::new("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(InspectError::new("list", dir))?;
        let is_dir = entry.file_type().map_err(InspectError::new("list", dir))?.is_dir();
        found.push((entry.file_name().to_string_lossy().into_owned(), is_dir));
    }
    found.sort();
    Ok(found)
}

/// A small file's bytes; `None` if it is not there.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, InspectError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(InspectError::new("read", path)(error)),
    }
}
