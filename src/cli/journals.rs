//! Reading the journals of the process before, at a start after an unclean end.
//!
//! Before the cores start: threads of their own read the files side by side, and believe
//! them only under the lock that a killed process's late write still holds.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::limits::{FILE_LOCK_MS_MAX, JOURNAL_FILE_BYTES_MAX};
use crate::log::journal::{self, JournalContents, JournalSource, Replay};

/// From when on a wait for a lock is worth a line in the log.
const WARN_AFTER: Duration = Duration::from_millis(500);

/// A journal that cannot be read: what only it has would be lost.
#[derive(Debug, thiserror::Error)]
#[error("journal {}: {error}", path.display())]
pub struct JournalsError {
    path: PathBuf,
    error: io::Error,
}

/// Reads what `cores` cores have to file before the journals begin anew. After a clean
/// stop that is nothing, whatever the files hold.
pub fn read(dir: &Path, clean: bool, cores: u16) -> Result<Replay, JournalsError> {
    let found = find(dir).map_err(|error| JournalsError { path: dir.to_owned(), error })?;
    let began = Instant::now();
    let files = std::thread::scope(|scope| {
        let reading: Vec<_> = found
            .into_iter()
            .map(|(core, path)| {
                scope.spawn(move || match clean {
                    true => Ok((core, JournalContents::default())),
                    false => {
                        let read = locked(&path).and_then(|file| journal::read(&file, core));
                        read.map(|contents| (core, contents)).map_err(|error| JournalsError { path, error })
                    }
                })
            })
            .collect();
        reading.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Result<Vec<_>, _>>()
    })?;
    let count = files.len();
    let (replay, errors) = Replay::new(files, cores);
    for error in errors {
        tracing::error!("{error}");
    }
    if !clean && count > 0 {
        tracing::info!("{count} journals read in {} ms", began.elapsed().as_millis());
    }
    Ok(replay)
}

fn find(dir: &Path) -> io::Result<Vec<(u16, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(core) = entry.file_name().to_str().and_then(Replay::core_of) {
            found.push((core, entry.path()));
        }
    }
    Ok(found)
}

/// A journal that nobody writes.
struct Locked {
    file: File,
    len: u64,
}

impl JournalSource for Locked {
    fn length(&self) -> u64 {
        self.len
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, position)
    }
}

fn locked(path: &Path) -> io::Result<Locked> {
    // Open to write: where locks are made of leases, only that keeps a writer off.
    let file = File::options().read(true).write(true).open(path)?;
    let began = Instant::now();
    let deadline = began + Duration::from_millis(FILE_LOCK_MS_MAX);
    let mut warned = false;
    loop {
        match file.try_lock() {
            // A killed process may have written what it did not flush; from here on it counts as durable, for it
            // may be served before the segments have it.
            Ok(()) => break file.sync_data()?,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                if began.elapsed() >= WARN_AFTER && !std::mem::replace(&mut warned, true) {
                    tracing::warn!("{} is locked: waiting for a write of a process that was killed", path.display());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "still locked: the drive has not finished a write of a process that was killed",
                ));
            }
            // A file system without locks: nothing can be known there.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break file.sync_data()?,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let len = file.metadata()?.len();
    if len > JOURNAL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes")));
    }
    Ok(Locked { file, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn after_a_clean_stop_journals_are_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("corelog-journal-3"), b"not what it should be").unwrap();
        for (clean, complete) in [(true, true), (false, false)] {
            let replay = read(dir.path(), clean, 1).unwrap();
            assert_eq!(replay.files(), [3]);
            assert!(!replay.is_done());
            replay.core_is_done();
            assert_eq!((replay.is_done(), replay.is_complete()), (true, complete));
        }
        for other in ["corelog-journal-", "corelog-journal-03", "corelog-journal-x", "corelog-journal-70000", "corelog"]
        {
            assert_eq!(Replay::core_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_journal_is_read_when_who_writes_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("corelog-journal-0");
        fs::write(&path, b"early").unwrap();
        let mut writer = File::options().append(true).open(&path).unwrap();
        writer.lock().unwrap();
        let reader = std::thread::spawn(move || {
            let file = locked(&path).unwrap();
            let mut bytes = vec![0; file.length() as usize];
            file.read_at(0, &mut bytes).unwrap();
            bytes
        });
        writer.write_all(b" and late").unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap(), &b"early and late"[..]);
    }
}
