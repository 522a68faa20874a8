//! What a start finds in the journals of the process before, until every log has it.
//!
//! All files are read before any log opens: the number of cores may have changed, so a
//! log's batches may be in any of them. Each core takes what is of its logs
//! ([`Replay::take`]), and a journal may begin anew when all cores have filed and flushed
//! what they took. Until then the files stay, and a crash has all of it found again. On a drive that is too full
//! to file it that may be long after the start: it is served from memory meanwhile.
//! Batches stay in the files until a log wants them: most have been filed before, and what
//! is kept here is some bytes for each.
//!
//! The only thing here that cores share; used while they start, not on the data path.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::format::{Contents, Entry};
use super::{FILE_PREFIX, Journal};
use crate::base::limits::JOURNAL_PIECE_BYTES;
use crate::base::{Offset, Uuid};
use crate::log::LogError;
use crate::runtime::disk::Disk;

/// See the module. By default there is nothing.
#[derive(Default)]
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
    /// Of `files`, what was found in each with its core's number, for `cores` cores. After a
    /// clean stop nothing is in them that counts: then they are given empty.
    ///
    /// Gives with it what is wrong with them.
    pub fn new(files: Vec<(u16, Contents)>, cores: u16) -> (Replay, Vec<ReplayError>) {
        let mut entries: HashMap<(Uuid, i32), Vec<Entry>> = HashMap::new();
        let mut errors = Vec::new();
        let mut numbers = Vec::new();
        for (core, contents) in files {
            numbers.push(core);
            for (log, mut found) in contents.entries {
                entries.entry(log).or_default().append(&mut found);
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

    /// Takes what is there of a partition; the files are in `dir`.
    pub fn take(&self, topic: Uuid, partition: i32, dir: &Path) -> Journaled {
        let mut all = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Journaled { dir: dir.into(), entries: all.remove(&(topic, partition)).unwrap_or_default() }
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

/// What journals hold of one log, in order of offsets.
#[derive(Clone, Debug)]
pub struct Journaled {
    /// Where the files are.
    dir: Rc<Path>,
    entries: Vec<Entry>,
}

impl Default for Journaled {
    fn default() -> Journaled {
        Journaled { dir: Path::new("").into(), entries: Vec::new() }
    }
}

impl Journaled {
    /// By hand.
    #[cfg(test)]
    pub fn of(dir: &Path, entries: Vec<Entry>) -> Journaled {
        Journaled { dir: dir.into(), entries }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What of it a log that ends at `end` lacks.
    pub fn behind(&self, end: Offset) -> Unread<'_> {
        Unread { dir: &self.dir, entries: &self.entries, end }
    }
}

/// See [`Journaled::behind`].
pub struct Unread<'a> {
    dir: &'a Path,
    entries: &'a [Entry],
    end: Offset,
}

impl Unread<'_> {
    /// Reads some more: each entry with its batches. `None` when there is nothing more.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub async fn read(&mut self, disk: &Disk) -> Result<Option<Vec<(Entry, Vec<u8>)>>, LogError> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some((entry, rest)) = self.entries.split_first() {
            if entry.end > self.end {
                let other_file = some.last().is_some_and(|last: &Entry| last.core != entry.core);
                if other_file || (bytes > 0 && bytes + entry.len as usize > JOURNAL_PIECE_BYTES) {
                    break;
                }
                bytes += entry.len as usize;
                some.push(*entry);
            }
            self.entries = rest;
        }
        let Some(first) = some.first() else { return Ok(None) };
        let path = Journal::path(self.dir, first.core);
        let places = some.iter().map(|entry| (entry.position, entry.len as usize)).collect();
        let batches = disk.read_places(&path, places).await.map_err(|error| LogError::io("read", &path, &error))?;
        Ok(Some(some.into_iter().zip(batches).collect()))
    }
}
