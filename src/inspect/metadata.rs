//! The metadata of a data directory: the newest snapshot, and the log behind it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::batches::{self, Fault};
use super::{InspectError, list, read};
use crate::base::{LeaderEpoch, Offset};
use crate::log;
use crate::metadata::journal::{self, DIRECTORY};
use crate::metadata::offline::{self, Reading};
use crate::metadata::quorum::{Quorum, QuorumState};
use crate::metadata::{Image, JournalError};
use crate::record::ControlType;

/// Why the metadata cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("{}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

fn damaged(path: &Path, reason: impl ToString) -> MetadataError {
    MetadataError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

/// What a directory's metadata says.
pub struct Metadata {
    pub image: Image,
    pub quorum: Quorum,
    /// `None`: no node has led in it yet.
    pub state: Option<QuorumState>,
    /// What is behind the last right batch of the log: a torn write, which a start cuts off.
    pub tail: Option<String>,
}

/// Reads the metadata of a data directory. One that was only formatted has an empty image.
///
/// # Errors
/// Something cannot be read, or is damaged where no torn write can be.
pub fn load(data_dir: &Path) -> Result<Metadata, MetadataError> {
    let dir = data_dir.join(DIRECTORY);
    let state_path = dir.join(journal::QUORUM_STATE);
    let state = match read(&state_path)? {
        Some(bytes) => Some(QuorumState::decode(&bytes).map_err(|reason| damaged(&state_path, reason))?),
        None => None,
    };
    let names: Vec<String> = list(&dir)?.into_iter().filter(|(_, is_dir)| !is_dir).map(|(name, _)| name).collect();
    let mut reading = Reading::default();
    let newest = names.iter().filter_map(|name| Some((offline::snapshot_of(name)?, name))).max();
    if let Some(((offset, epoch), name)) = newest {
        snapshot(&dir.join(name), offset, epoch, &mut reading)?;
    }
    let mut logs: Vec<(Offset, &String)> = names
        .iter()
        .filter_map(|name| Some((log::parse_file_name(name)?, name)))
        .filter(|(file, _)| file.kind == log::LOG && file.suffix.is_empty())
        .map(|(file, name)| (file.base, name))
        .collect();
    logs.sort();
    let (mut tail, mut next) = (None, Offset::ZERO);
    for (base, name) in &logs {
        let path = dir.join(name);
        if let Some(reason) = &tail {
            return Err(damaged(&path, format!("the segment before it ends early: {reason}")));
        }
        let mut failed: Option<JournalError> = None;
        let from = reading.replay.image().end();
        if next == Offset::ZERO {
            next = *base;
            if *base > from && *base > Offset::ZERO {
                return Err(damaged(
                    &path,
                    format!("the log begins at {base}, behind the newest snapshot's end at {from}"),
                ));
            }
        }
        let walked = batches::walk(&path, |found| {
            let batch = found.batch;
            if !found.crc_is_right || !batches::follows(&batch, next) {
                let what = if found.crc_is_right { "does not follow the one before" } else { "has a wrong checksum" };
                tail = Some(format!("the batch at position {} {what}", found.position));
                return ControlFlow::Break(());
            }
            next = batch.next_offset();
            if next <= from {
                return ControlFlow::Continue(());
            }
            match reading.take(&batch, next, batch.leader_epoch()) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        let walked = walked.map_err(InspectError::new("read", &path))?;
        if let Some(error) = failed {
            return Err(damaged(&path, error));
        }
        match walked.fault {
            None | Some(Fault::Zeroes) => {}
            Some(fault) => tail = Some(format!("at position {}: {fault}", walked.end)),
        }
    }
    if !logs.is_empty() && next < reading.replay.image().end() {
        let end = reading.replay.image().end();
        return Err(damaged(&dir, format!("the log ends at {next}, before the newest snapshot's end at {end}")));
    }
    Ok(Metadata { image: reading.replay.image().clone(), quorum: reading.quorum, state, tail })
}

/// Reads a snapshot, which is whole or damaged.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn snapshot(path: &Path, end: Offset, epoch: LeaderEpoch, reading: &mut Reading) -> Result<(), MetadataError> {
    let mut wrong: Option<String> = None;
    let (mut count, mut footer) = (0, false);
    let walked = batches::walk(path, |found| {
        let kind = match found.crc_is_right {
            true => reading.take(&found.batch, end, epoch).map_err(|error| error.to_string()),
            false => Err("its checksum is wrong".to_string()),
        };
        let kind = match kind {
            Ok(_) if footer => Err("it lies behind the footer".to_string()),
            Ok(kind) if count == 0 && kind != Some(ControlType::SnapshotHeader) => {
                Err("it is no snapshot header".to_string())
            }
            other => other,
        };
        footer |= kind == Ok(Some(ControlType::SnapshotFooter));
        wrong = kind.err().map(|reason| format!("the batch at position {}: {reason}", found.position));
        count += 1;
        if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let walked = walked.map_err(InspectError::new("read", path))?;
    let fault = walked.fault.map(|fault| format!("at position {}: {fault}", walked.end));
    match wrong.or(fault).or((!footer).then(|| "it has no footer".to_string())) {
        Some(reason) => Err(damaged(path, reason)),
        None => Ok(()),
    }
}
