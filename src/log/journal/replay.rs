//! What a start finds in the journals of the process before, until every log has it.
//!
//! All files are read before any log opens: the number of cores may have changed, so a
//! log's batches may be in any of them. Each core takes what is of its logs
//! ([`Replay::take`]), and a journal may begin anew when all cores have filed and flushed
//! what they took. Until then the files stay, and a crash has all of it found again.
//!
//! The only thing here that cores share; used while they start, not on the data path.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use super::FILE_PREFIX;
use super::format::{self, Entry};
use crate::base::Uuid;

/// See the module.
pub struct Replay {
    entries: Mutex<HashMap<(Uuid, i32), Vec<Entry>>>,
    /// The numbers of the files that were found.
    files: Vec<u16>,
    /// Cores that have not filed yet what they took.
    cores_left: AtomicUsize,
    /// Something that was found could not be filed: the files stay as they are.
    incomplete: AtomicBool,
}

/// A journal file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{FILE_PREFIX}{core} is damaged: {reason}; what else it holds is used, and it stays as it is")]
pub struct ReplayError {
    core: u16,
    reason: String,
}

impl Replay {
    /// Of `files`, the content of each with its core's number, for `cores` cores. After a
    /// clean stop nothing is in them that counts: then they are given empty.
    ///
    /// Gives with it what is wrong with them.
    pub fn new(files: Vec<(u16, Bytes)>, cores: u16) -> (Replay, Vec<ReplayError>) {
        let mut entries: HashMap<(Uuid, i32), Vec<Entry>> = HashMap::new();
        let mut errors = Vec::new();
        let mut numbers = Vec::new();
        for (core, bytes) in files {
            numbers.push(core);
            let contents = format::read(&bytes, u32::from(core));
            for entry in contents.entries {
                entries.entry((entry.topic, entry.partition)).or_default().push(entry);
            }
            errors.extend(contents.damage.map(|reason| ReplayError { core, reason }));
        }
        for entries in entries.values_mut() {
            // Of several files: what is older has been filed, and is passed over.
            entries.sort_by_key(|entry| entry.base);
        }
        let replay = Replay {
            entries: Mutex::new(entries),
            files: numbers,
            cores_left: AtomicUsize::new(usize::from(cores)),
            incomplete: AtomicBool::new(!errors.is_empty()),
        };
        (replay, errors)
    }

    /// The core whose journal a file is.
    pub fn core_of(file_name: &str) -> Option<u16> {
        let number = file_name.strip_prefix(FILE_PREFIX)?;
        let core: u16 = number.parse().ok()?;
        // One spelling for each.
        (core.to_string() == number).then_some(core)
    }

    /// Takes what is there of a partition, in order of offsets.
    pub fn take(&self, topic: Uuid, partition: i32) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .remove(&(topic, partition))
            .unwrap_or_default()
    }

    /// Says that what was taken could not be filed.
    pub fn not_filed(&self) {
        self.incomplete.store(true, Ordering::Release);
    }

    /// Says that one core has filed and flushed what it took.
    pub fn core_is_done(&self) {
        self.cores_left.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all cores have.
    pub fn is_done(&self) -> bool {
        self.cores_left.load(Ordering::Acquire) == 0
    }

    /// Whether the files may be used again: everything that counts is in the segments.
    pub fn is_complete(&self) -> bool {
        self.is_done() && !self.incomplete.load(Ordering::Acquire)
    }

    /// The cores whose files were found.
    pub fn files(&self) -> &[u16] {
        &self.files
    }
}
