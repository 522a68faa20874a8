//! Files behind a seam of few verbs, so that a test can put its own disk there.
//!
//! The real disk ([`Disk::direct`]) opens with O_DIRECT (on tmpfs: buffered) and
//! does its work through io_uring; what io_uring does not do runs on the core's
//! helper thread. It is an enum arm of its own, called without boxing. Any other
//! disk, such as [`simulated`], comes in as a [`DiskBackend`].
//!
//! Errors are bare `io::Error`s with the system's code: the caller knows what it
//! was doing and says so. Errors of a write or a flush are final for the file;
//! nothing here tries again after one.
//!
//! Never keeps a `RefCell` borrowed across an await, never reads past the end of a
//! file, never shows uninitialised memory.

mod buffer;
mod direct;
pub mod simulated;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

pub(super) use buffer::Memory;
pub use buffer::{Buffer, Slice};
pub(super) use direct::PREFIX as WARM_UP_PREFIX;
#[cfg(test)]
pub use direct::lock_waits;
pub use direct::warm_up;

use direct::DirectFile;

/// Whether there is no space left on the drive, or none for this user: with space it may succeed.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A boxed future of this core.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub create: Create,
    pub read_only: bool,
}

/// What to do about a file that is not there, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It must exist.
    No,
    /// Created empty when missing; kept as it is otherwise.
    IfMissing,
    /// It must not exist.
    New,
}

impl Open {
    /// An existing file, to read and write.
    pub const EXISTING: Open = Open { create: Create::No, read_only: false };
    /// An existing file, to read.
    pub const READ_ONLY: Open = Open { create: Create::No, read_only: true };
    /// Created when missing, to read and write.
    pub const CREATE: Open = Open { create: Create::IfMissing, read_only: false };
    /// A file that must not exist yet, to read and write.
    pub const CREATE_NEW: Open = Open { create: Create::New, read_only: false };
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free: u64,
    pub total: u64,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Length in bytes; of no meaning for directories.
    pub len: u64,
}

/// Where files are. Cheap to clone.
#[derive(Clone)]
pub struct Disk(DiskKind);

#[derive(Clone)]
enum DiskKind {
    Direct,
    Custom(Rc<dyn DiskBackend>),
}

/// An open file. Clones are the same open file; it closes with the last one.
#[derive(Clone)]
pub struct File(FileKind);

#[derive(Clone)]
enum FileKind {
    Direct(Rc<DirectFile>),
    Custom(Rc<dyn FileBackend>),
}

/// Another disk than the real one. See [`Disk`] for what each verb promises.
pub trait DiskBackend {
    fn open<'a>(&'a self, path: &'a Path, how: Open) -> Boxed<'a, io::Result<Rc<dyn FileBackend>>>;
    fn remove<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>>;
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> Boxed<'a, io::Result<()>>;
    fn create_dir_all<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>>;
    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>>;
    fn list<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Vec<DirEntry>>>;
    fn sync_dir<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>>;
    fn read_file<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Vec<u8>>>;
    fn write_file<'a>(&'a self, path: &'a Path, bytes: Vec<u8>) -> Boxed<'a, io::Result<()>>;
    fn space<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Space>>;
}

/// A file of a [`DiskBackend`]. See [`File`] for what each verb promises.
pub trait FileBackend {
    fn read<'a>(&'a self, position: u64, len: usize) -> Boxed<'a, io::Result<Slice>>;
    fn write<'a>(&'a self, buffer: Rc<Buffer>, position: u64) -> Boxed<'a, io::Result<()>>;
    fn write_durable<'a>(&'a self, buffer: Rc<Buffer>, position: u64) -> Boxed<'a, io::Result<()>>;
    fn flush<'a>(&'a self) -> Boxed<'a, io::Result<()>>;
    fn allocate<'a>(&'a self, position: u64, len: u64) -> Boxed<'a, io::Result<()>>;
    fn set_length<'a>(&'a self, len: u64) -> Boxed<'a, io::Result<()>>;
    fn length(&self) -> u64;
}

impl Disk {
    /// The real file system.
    pub fn direct() -> Disk {
        Disk(DiskKind::Direct)
    }

    /// A disk of one's own.
    pub fn custom(backend: Rc<dyn DiskBackend>) -> Disk {
        Disk(DiskKind::Custom(backend))
    }

    /// Opens a file. One that is opened to write is locked until it is closed and no
    /// operation on it is under way: of a file that a killed process had open, that
    /// process's writes have ended when this returns. So nobody, in this process
    /// either, opens a file to write twice at a time.
    ///
    /// # Errors
    /// Besides the system's: `ResourceBusy` when the lock could not be had within
    /// [`FILE_LOCK_MS_MAX`](crate::base::limits::FILE_LOCK_MS_MAX).
    pub async fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        match &self.0 {
            DiskKind::Direct => Ok(File(FileKind::Direct(Rc::new(DirectFile::open(path, how).await?)))),
            DiskKind::Custom(disk) => Ok(File(FileKind::Custom(disk.open(path, how).await?))),
        }
    }

    /// Removes a file's name. Open files go on.
    pub async fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::remove(path).await,
            DiskKind::Custom(disk) => disk.remove(path).await,
        }
    }

    /// Renames a file or a directory, replacing a file of the new name. Durable
    /// after [`Disk::sync_dir`] of the directories concerned.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::rename(from, to).await,
            DiskKind::Custom(disk) => disk.rename(from, to).await,
        }
    }

    /// Creates a directory and those above it; one that exists is no error.
    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::create_dir_all(path).await,
            DiskKind::Custom(disk) => disk.create_dir_all(path).await,
        }
    }

    /// Removes a directory with all it holds.
    pub async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::remove_dir_all(path).await,
            DiskKind::Custom(disk) => disk.remove_dir_all(path).await,
        }
    }

    /// The names in a directory, in order. Names that are not UTF-8 are left out:
    /// none of ours, none of Kafka's.
    pub async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match &self.0 {
            DiskKind::Direct => direct::list(path).await,
            DiskKind::Custom(disk) => disk.list(path).await,
        }
    }

    /// Makes creations, removals and renames in a directory durable.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::sync_dir(path).await,
            DiskKind::Custom(disk) => disk.sync_dir(path).await,
        }
    }

    /// All bytes of a small file: checkpoints, properties.
    pub async fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        match &self.0 {
            DiskKind::Direct => direct::read_file(path).await,
            DiskKind::Custom(disk) => disk.read_file(path).await,
        }
    }

    /// Bytes of a file from several places, each a position and a length; all of them, or an
    /// error. Not for a file that is being written. Goes through the page cache: for many
    /// small pieces of a file that was read a moment ago.
    pub async fn read_places(&self, path: &Path, places: Vec<(u64, usize)>) -> io::Result<Vec<Vec<u8>>> {
        match &self.0 {
            DiskKind::Direct => direct::read_places(path, places).await,
            DiskKind::Custom(disk) => {
                let file = disk.open(path, Open::READ_ONLY).await?;
                let mut read = Vec::with_capacity(places.len());
                for (position, len) in places {
                    let bytes = file.read(position, len).await?.as_slice().to_vec();
                    if bytes.len() < len {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    read.push(bytes);
                }
                Ok(read)
            }
        }
    }

    /// Puts a small file in place as a whole and durably: after a crash it holds
    /// the old bytes or the new ones. Writes `NAME.tmp` beside it, flushes, renames
    /// and syncs the directory, as Kafka's `Utils.atomicMoveWithFallback` users do.
    pub async fn write_file(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        match &self.0 {
            DiskKind::Direct => direct::write_file(path, bytes).await,
            DiskKind::Custom(disk) => disk.write_file(path, bytes).await,
        }
    }

    /// Bytes free for this process on the file system that holds `path`.
    pub async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(self.space(path).await?.free)
    }

    /// What the file system that holds `path` has of space.
    pub async fn space(&self, path: &Path) -> io::Result<Space> {
        match &self.0 {
            DiskKind::Direct => direct::space(path).await,
            DiskKind::Custom(disk) => disk.space(path).await,
        }
    }
}

impl File {
    /// Bytes from `position`, at any alignment. Fewer than `len` only at the end of
    /// the file; never bytes beyond it. The memory is allocated for the read: the
    /// caller bounds `len`.
    pub async fn read(&self, position: u64, len: usize) -> io::Result<Slice> {
        match &self.0 {
            FileKind::Direct(file) => file.read(position, len).await,
            FileKind::Custom(file) => file.read(position, len).await,
        }
    }

    /// As [`File::read`], `piece` bytes at a time; before each `turn` is waited for, and what it
    /// gives is kept until the piece has been read.
    pub async fn read_by_turns<T>(
        &self,
        position: u64,
        len: usize,
        piece: usize,
        turn: impl AsyncFnMut() -> T,
    ) -> io::Result<Slice> {
        match &self.0 {
            FileKind::Direct(file) => file.read_by_turns(position, len, piece, turn).await,
            FileKind::Custom(file) => read_by_turns(&**file, position, len, piece, turn).await,
        }
    }

    /// Writes the whole buffer at `position`, or fails. It has reached the drive
    /// then, not necessarily what survives a power cut: see [`File::flush`].
    /// Writes to one file may be under way together, in no order.
    ///
    /// # Panics
    /// When position or length are not multiples of a block.
    pub async fn write(&self, buffer: Rc<Buffer>, position: u64) -> io::Result<()> {
        buffer.assert_blocks(position);
        match &self.0 {
            FileKind::Direct(file) => file.write(buffer, position).await,
            FileKind::Custom(file) => file.write(buffer, position).await,
        }
    }

    /// As [`File::write`], and what it wrote survives a power cut when it is done. Says
    /// nothing of other writes.
    ///
    /// # Panics
    /// When position or length are not multiples of a block.
    pub async fn write_durable(&self, buffer: Rc<Buffer>, position: u64) -> io::Result<()> {
        buffer.assert_blocks(position);
        match &self.0 {
            FileKind::Direct(file) => file.write_durable(buffer, position).await,
            FileKind::Custom(file) => file.write_durable(buffer, position).await,
        }
    }

    /// Makes all completed writes durable, with the length (`fdatasync`).
    pub async fn flush(&self) -> io::Result<()> {
        match &self.0 {
            FileKind::Direct(file) => file.flush().await,
            FileKind::Custom(file) => file.flush().await,
        }
    }

    /// Reserves space for `len` bytes from `position` and extends the file to there
    /// if it is shorter; what was not written reads as zeroes. Holes before
    /// `position` may be filled as well.
    pub async fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Direct(file) => file.allocate(position, len).await,
            FileKind::Custom(file) => file.allocate(position, len).await,
        }
    }

    /// Cuts or extends the file. No write may be under way.
    pub async fn set_length(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Direct(file) => file.set_length(len).await,
            FileKind::Custom(file) => file.set_length(len).await,
        }
    }

    /// The length in bytes: as found when opened, and changed by our own writes.
    pub fn length(&self) -> u64 {
        match &self.0 {
            FileKind::Direct(file) => file.length(),
            FileKind::Custom(file) => file.length(),
        }
    }

    /// Gives this handle up. The last one closes the file and says whether that
    /// worked.
    pub async fn close(self) -> io::Result<()> {
        match self.0 {
            FileKind::Direct(file) => match Rc::try_unwrap(file) {
                Ok(file) => file.close().await,
                Err(_) => Ok(()),
            },
            FileKind::Custom(_) => Ok(()),
        }
    }
}

async fn read_by_turns<T>(
    file: &dyn FileBackend,
    position: u64,
    len: usize,
    piece: usize,
    mut turn: impl AsyncFnMut() -> T,
) -> io::Result<Slice> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let _turn = turn().await;
        let more = file.read(position + bytes.len() as u64, piece.min(len - bytes.len())).await?;
        if more.is_empty() {
            break;
        }
        bytes.extend_from_slice(&more);
    }
    Ok(Slice::from(bytes))
}
