//! Whether a data directory that Apache Kafka used last can be served, found out before anything in it is changed.
//!
//! | found | what is said |
//! |---|---|
//! | `quorum-state`, snapshots or log that cannot be read | which file, and where |
//! | other voters, a later `kraft.version` | who votes |
//! | finalized features that this release does not know | Kafka's sentence |
//! | partitions with replicas on other nodes, or in a log directory that is not ours | which partition |
//! | tiered storage: a topic with `remote.storage.enable`, the cache of remote indexes | which topic |
//! | batches of format 0 or 1 | which segment |
//! | a transaction that is open, in `__transaction_state` | its id: nobody could end it here |
//!
//! A directory that corelog served last is not looked at: the file [`OWNER_FILE`] has the epoch of the metadata log
//! that corelog began, and `quorum-state` a later one if anybody else has led since. Both stay when Kafka has the
//! directory, which ignores the one and raises the other.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::batches;
use super::metadata::{self, Metadata, MetadataError};
use super::{InspectError, list, read};
use crate::base::{LeaderEpoch, NodeId, Uuid};
use crate::log;
use crate::metadata::Image;
use crate::metadata::controller;
use crate::metadata::journal::{DIRECTORY, QUORUM_STATE};
use crate::metadata::quorum::QuorumState;
use crate::record::stored::transaction::{Key, Value};
use crate::record::{BatchView, MAGIC_END, RecordFault, Scratch};

/// Says which epoch of the metadata log corelog has begun last.
pub const OWNER_FILE: &str = "corelog-epoch";

/// The topic in which Kafka's transaction coordinators keep their state (`Topic.TRANSACTION_STATE_TOPIC_NAME`).
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Where Kafka keeps indexes of remote segments (`RemoteIndexCache.DIR_NAME`).
const REMOTE_CACHE: &str = "remote-log-index-cache";

/// A message names no more of a kind than this.
const NAMED_MAX: usize = 5;

/// Why a directory is not taken over. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("{} cannot be taken over, and was left as it is: {}", dir.display(), reasons.join("; "))]
    Refused { dir: PathBuf, reasons: Vec<String> },
}

/// A formatted directory of the node.
#[derive(Clone, Copy, Debug)]
pub struct DirToTake<'a> {
    pub path: &'a Path,
    pub id: Uuid,
    /// Partitions may lie in it: it is one of `log.dirs`.
    pub is_data: bool,
}

/// Checks the formatted directories of `node`, with its metadata in `dir`. Gives whether somebody else than corelog has
/// used them last.
///
/// # Errors
/// They cannot be taken over.
pub fn check(dir: &Path, node: NodeId, dirs: &[DirToTake<'_>]) -> Result<bool, TakeOverError> {
    let refused = |reasons| TakeOverError::Refused { dir: dir.to_owned(), reasons };
    if is_ours(dir)? {
        return Ok(false);
    }
    let metadata = metadata::load(dir).map_err(|error| match error {
        MetadataError::Inspect(error) => TakeOverError::Inspect(error),
        damaged => refused(vec![damaged.to_string()]),
    })?;
    let mut reasons = Vec::new();
    reasons.extend(metadata.state.as_ref().and_then(|state| state.check(node).err()));
    let metadata_id = dirs.iter().find(|of| of.path == dir).map_or(Uuid::ZERO, |of| of.id);
    reasons.extend(metadata.quorum.check(node, metadata_id).err());
    reasons.extend(controller::check_features(&metadata.image).err().and_then(|refusal| refusal.message));
    let ids: Vec<Uuid> = dirs.iter().filter(|of| of.is_data).map(|of| of.id).collect();
    check_partitions(&metadata.image, node, &ids, &mut reasons);
    let data: Vec<&Path> = dirs.iter().filter(|of| of.is_data).map(|of| of.path).collect();
    check_remote(&data, &metadata.image, &mut reasons)?;
    for dir in &data {
        check_formats(dir, &metadata.image, &mut reasons)?;
    }
    check_transactions(&data, &metadata.image, &mut reasons)?;
    match reasons.is_empty() {
        true => Ok(used(&metadata)),
        false => Err(refused(reasons)),
    }
}

/// Whether a broker has run on it, not only a format.
fn used(metadata: &Metadata) -> bool {
    metadata.state.is_some()
}

/// Whether corelog was the last that led in the directory's metadata log.
fn is_ours(dir: &Path) -> Result<bool, InspectError> {
    let state = read(&dir.join(DIRECTORY).join(QUORUM_STATE))?.and_then(|bytes| QuorumState::decode(&bytes).ok());
    let owner = read(&dir.join(OWNER_FILE))?;
    let epoch: Option<i32> = owner.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
    Ok(state.is_some_and(|state| Some(state.leader_epoch) == epoch))
}

/// The file that says that corelog leads from `epoch` on, and what is in it. To be written when it does; lost by a crash, it
/// costs the next start a look.
pub fn claim(dir: &Path, epoch: LeaderEpoch) -> (PathBuf, Vec<u8>) {
    (dir.join(OWNER_FILE), format!("{}\n", epoch.0).into_bytes())
}

/// `a, b, c and 7 more`.
fn some_of(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

fn check_partitions(image: &Image, node: NodeId, directories: &[Uuid], reasons: &mut Vec<String>) {
    let (mut elsewhere, mut other_dirs) = (Vec::new(), Vec::new());
    for topic in image.topics() {
        for (number, state) in &topic.partitions {
            if state.replicas != [node.0] {
                elsewhere.push(format!("{}-{number} {:?}", topic.name, state.replicas));
            } else if let [held] = state.directories[..]
                && !held.is_reserved()
                && !held.is_zero()
                && !directories.iter().any(|directory| directory.is_zero() || *directory == held)
            {
                other_dirs.push(format!("{}-{number} in {held}", topic.name));
            }
        }
    }
    if !elsewhere.is_empty() {
        reasons.push(format!(
            "partitions have replicas that are not on node {} alone: {}; let them have one replica there first",
            node.0,
            some_of(&elsewhere)
        ));
    }
    if !other_dirs.is_empty() {
        reasons.push(format!(
            "partitions lie in a log directory that is not one of these ({}): {}",
            directories.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", "),
            some_of(&other_dirs)
        ));
    }
}

fn check_remote(dirs: &[&Path], image: &Image, reasons: &mut Vec<String>) -> Result<(), InspectError> {
    let enabled =
        |name: &str| image.topic_config(name).get("remote.storage.enable").is_some_and(|value| value == "true");
    let mut remote: Vec<String> =
        image.topics().filter(|topic| enabled(&topic.name)).map(|topic| topic.name.to_string()).collect();
    remote.extend(image.topic("__remote_log_metadata").map(|topic| topic.name.to_string()));
    for dir in dirs {
        if !list(&dir.join(REMOTE_CACHE))?.is_empty() {
            remote.push(REMOTE_CACHE.to_string());
        }
    }
    if !remote.is_empty() {
        reasons.push(format!(
            "there is tiered storage, of which only Kafka can read what is remote: {}",
            some_of(&remote)
        ));
    }
    Ok(())
}

/// The segments of a partition's directory, in order.
fn segments(dir: &Path) -> Result<Vec<PathBuf>, InspectError> {
    let is_log = |name: &str| {
        log::parse_file_name(name).is_some_and(|file| file.kind == log::LOG && matches!(file.suffix, "" | ".swap"))
    };
    Ok(list(dir)?.into_iter().filter(|(name, _)| is_log(name)).map(|(name, _)| dir.join(name)).collect())
}

/// Format 0 and 1 end in segments of their own or at their beginning: each upgrade of the format was a roll.
fn check_formats(dir: &Path, image: &Image, reasons: &mut Vec<String>) -> Result<(), InspectError> {
    let mut old = Vec::new();
    for topic in image.topics() {
        for number in topic.partitions.keys() {
            for path in segments(&dir.join(format!("{}-{number}", topic.name)))? {
                let mut head = Vec::new();
                let file = std::fs::File::open(&path).map_err(InspectError::new("open", &path))?;
                file.take(MAGIC_END as u64).read_to_end(&mut head).map_err(InspectError::new("read", &path))?;
                // Offset, size, checksum, format; zeroes are allocated space.
                if head.len() == MAGIC_END && head[16] < 2 && head[8..12] != [0; 4] {
                    old.push(path.strip_prefix(dir).unwrap_or(&path).display().to_string());
                }
            }
        }
    }
    if !old.is_empty() {
        reasons.push(format!(
            "segments begin with batches of before Kafka 0.11, which only Kafka reads: {}; let them expire, or copy the \
             topic with a client",
            some_of(&old)
        ));
    }
    Ok(())
}

/// What a transaction's state is called, if it is one in which somebody has to end it (`TransactionState`).
fn undecided(status: i8) -> Option<&'static str> {
    match status {
        1 => Some("Ongoing"),
        2 => Some("PrepareCommit"),
        3 => Some("PrepareAbort"),
        _ => None,
    }
}

fn check_transactions(dirs: &[&Path], image: &Image, reasons: &mut Vec<String>) -> Result<(), InspectError> {
    let Some(topic) = image.topic(TRANSACTIONS_TOPIC) else { return Ok(()) };
    let mut open: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut scratch = Scratch::new();
    for number in topic.partitions.keys() {
        let mut paths = Vec::new();
        for dir in dirs {
            paths.extend(segments(&dir.join(format!("{TRANSACTIONS_TOPIC}-{number}")))?);
        }
        for path in paths {
            let walked = batches::walk(&path, |found| {
                // What is damaged is what recovery cuts off, or does not open.
                if found.crc_is_right {
                    let _ = note_transactions(&found.batch, &mut scratch, &mut open);
                }
                ControlFlow::Continue(())
            });
            walked.map_err(InspectError::new("read", &path))?;
        }
    }
    if !open.is_empty() {
        let named: Vec<String> = open.iter().map(|(id, state)| format!("{id} ({state})")).collect();
        reasons.push(format!(
            "transactions are open, which only Kafka's coordinator can end: {}; start Kafka, end their producers or wait \
             for their timeouts (kafka-transactions list), and stop it again",
            some_of(&named)
        ));
    }
    Ok(())
}

fn note_transactions(
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
    open: &mut BTreeMap<String, &'static str>,
) -> Result<(), RecordFault> {
    if batch.is_control() {
        return Ok(());
    }
    let mut records = batch.records(scratch)?;
    while let Some(record) = records.next()? {
        let Ok(Key::TransactionLog(key)) = Key::decode(record.key.unwrap_or_default()) else { continue };
        let state = record.value.and_then(|value| match Value::decode(0, value) {
            Ok(Value::TransactionLog(value)) => undecided(value.transaction_status),
            Err(_) => None,
        });
        match state {
            Some(state) => open.insert(key.transactional_id, state),
            None => open.remove(&key.transactional_id),
        };
    }
    Ok(())
}
