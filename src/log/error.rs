//! What can go wrong in a log, as its callers tell it apart.

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::Offset;
use crate::runtime::disk;

/// Why a log did not do what it was asked. Cheap to clone: one failed write is
/// told to everybody who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A write, flush or seal failed, and the log takes and gives nothing until it
    /// is opened again: whether the drive has the bytes is in doubt, and trying
    /// again would not end the doubt.
    #[error("{0}")]
    Offline(Rc<str>),
    /// No space for more bytes, or for a file that opening or closing needs. Nothing was lost and reads go on; later
    /// attempts may succeed.
    #[error("no space left on the drive of {0}")]
    DiskFull(Rc<str>),
    /// More bytes wait to be written than may wait; later attempts may succeed.
    #[error("{waiting} bytes wait to be written to {log}")]
    Behind { log: Rc<str>, waiting: usize },
    /// The log is being closed or was closed.
    #[error("{0} is closed")]
    Closed(Rc<str>),
    /// The log was deleted.
    #[error("{0} was deleted")]
    Deleted(Rc<str>),
    /// A batch that no segment may hold (`RecordBatchTooLargeException`).
    #[error("a batch of {size} bytes is larger than a segment may be ({max})")]
    BatchTooLarge { size: usize, max: usize },
    /// An offset that the log does not have.
    #[error("offset {offset} is not within {start} and {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    /// Bytes on the drive are not what was written there.
    #[error("{0}")]
    Corrupt(Rc<str>),
    /// A read, or a file operation of opening or closing, failed.
    #[error("{0}")]
    Io(Rc<str>),
}

impl LogError {
    /// An operation that failed: "open 00000000000000000042.log of orders-3: permission denied"; or
    /// [`LogError::DiskFull`], if that is why.
    pub(crate) fn io(verb: &str, path: &Path, error: &io::Error) -> LogError {
        if disk::is_full(error) {
            let dir = path.parent().and_then(Path::file_name).unwrap_or(path.as_os_str());
            return LogError::DiskFull(dir.to_string_lossy().into());
        }
        LogError::Io(describe(verb, path, error).into())
    }

    /// A file that cannot be opened.
    pub(crate) fn open(path: &Path, error: &io::Error) -> LogError {
        LogError::io("open", path, error)
    }
}

/// "verb file of directory: error".
pub(crate) fn describe(verb: &str, path: &Path, error: &io::Error) -> String {
    let file = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match path.parent().and_then(Path::file_name) {
        Some(dir) => format!("{verb} {file} of {}: {error}", dir.to_string_lossy()),
        None => format!("{verb} {file}: {error}"),
    }
}
