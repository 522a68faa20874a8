//! The lock of a data directory: one process at a time.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::disk::WARM_UP_PREFIX;

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum DirLockError {
    #[error("data directory {} is in use by another process; stop that one, or use another directory", .0.display())]
    InUse(PathBuf),
    #[error("cannot lock data directory {}: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
}

/// Holds the lock until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock on `.lock` in `dir`, the file that Apache Kafka locks too
    /// (`FileLock`): neither starts on the other's directory. The lock belongs to
    /// the open file, so that a second attempt in one process fails as well.
    pub fn take(dir: &Path) -> Result<DirLock, DirLockError> {
        let failed = |source| DirLockError::Io { dir: dir.to_owned(), source };
        let path = dir.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        // SAFETY: flock is plain data for which zeroes are valid: the whole file.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        // Java locks by fcntl; only fcntl locks are in each other's way.
        // SAFETY: the descriptor is open and `lock` lives through the call.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
            remove_leftovers(dir);
            return Ok(DirLock { _file: file });
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Err(DirLockError::InUse(dir.to_owned())),
            _ => Err(failed(error)),
        }
    }
}

/// Removes what a killed process left of its checks: the directory is ours now.
/// What cannot be removed does no harm.
fn remove_leftovers(dir: &Path) {
    for entry in dir.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(WARM_UP_PREFIX)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        let refused = DirLock::take(dir.path()).unwrap_err();
        assert!(matches!(refused, DirLockError::InUse(_)), "{refused}");
        drop(lock);
        std::fs::write(dir.path().join(".warm-up-1-1"), b"").unwrap();
        std::fs::write(dir.path().join("meta.properties"), b"").unwrap();
        DirLock::take(dir.path()).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "the lock's file and meta.properties");
        let missing = DirLock::take(&dir.path().join("no")).unwrap_err();
        assert!(matches!(missing, DirLockError::Io { .. }), "{missing}");
    }
}
