//! The data directories of the process, as all its cores know them: which there are, which of them have failed, and
//! what the process before left in each.
//!
//! A directory is usable from the start of the process until it fails, and not again before the next start. What a
//! partition has lies in one of them; which one is in the metadata (KIP-858).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::base::{DirIndex, Uuid};
use crate::log::DriveShare;
use crate::log::journal::Replay;
use crate::partition::{RecoveryPoints, StartOffsets};

/// What the process before left in a directory.
#[derive(Default)]
pub struct Left {
    /// It closed everything: no recovery scan is needed.
    pub clean: bool,
    /// What its journals hold.
    pub replay: Replay,
    /// What it knew of recovery points; empty after a clean stop.
    pub recovery_points: RecoveryPoints,
    /// What `log-start-offset-checkpoint` says.
    pub start_offsets: StartOffsets,
    /// What it knew of compacted logs.
    pub cleaned: RecoveryPoints,
}

/// A directory of `log.dirs`.
pub struct DataDir {
    path: PathBuf,
    id: Uuid,
    left: Left,
    /// What the cores' logs take of its drive.
    space: Arc<DriveShare>,
    /// Why it is offline.
    failed: OnceLock<String>,
    /// Something in it was not closed cleanly.
    unclean: AtomicBool,
    /// Copies of partitions that the process before was moving here.
    copies: OnceLock<BTreeMap<(Uuid, i32), LeftCopy>>,
}

/// A copy of a partition in the making, found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftCopy {
    /// The name of its directory.
    pub name: String,
    /// The partition itself was found in no directory.
    pub is_alone: bool,
}

impl DataDir {
    /// One that can be used.
    pub fn usable(path: PathBuf, id: Uuid, left: Left) -> DataDir {
        DataDir {
            path,
            id,
            left,
            space: Arc::default(),
            failed: OnceLock::new(),
            unclean: AtomicBool::new(false),
            copies: OnceLock::new(),
        }
    }

    /// On a file system of which logs take space as well that have `space`.
    pub fn sharing(self, space: Arc<DriveShare>) -> DataDir {
        DataDir { space, ..self }
    }

    /// One that cannot, for a reason. The zero id: it is not known.
    pub fn failed(path: PathBuf, id: Uuid, reason: String) -> DataDir {
        let dir = DataDir::usable(path, id, Left::default());
        dir.fail(reason);
        dir
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// By which metadata names it, wherever it is mounted.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What the cores' logs take of its drive.
    pub fn space(&self) -> &Arc<DriveShare> {
        &self.space
    }

    /// What the process before left in it.
    pub fn left(&self) -> &Left {
        &self.left
    }

    /// Why it cannot be used, if so.
    pub fn offline(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    pub fn is_online(&self) -> bool {
        self.failed.get().is_none()
    }

    /// Ends its use, for all cores. True for the first who says so.
    pub fn fail(&self, reason: String) -> bool {
        self.failed.set(reason).is_ok()
    }

    /// Notes what copies were found, once.
    pub fn found_copies(&self, copies: BTreeMap<(Uuid, i32), LeftCopy>) {
        let _ = self.copies.set(copies);
    }

    /// The copies that were found.
    pub fn copies(&self) -> impl Iterator<Item = (&(Uuid, i32), &LeftCopy)> {
        self.copies.get().into_iter().flatten()
    }

    /// That of a partition.
    pub fn copy_of(&self, of: (Uuid, i32)) -> Option<&LeftCopy> {
        self.copies.get()?.get(&of)
    }

    /// Notes that something in it could not be closed cleanly.
    pub fn not_clean(&self) {
        self.unclean.store(true, Ordering::Relaxed);
    }

    /// Whether the next start may believe it as it is.
    pub fn is_clean(&self) -> bool {
        self.is_online() && !self.unclean.load(Ordering::Relaxed)
    }
}

/// The directory of the metadata log: one of `log.dirs`, or one of its own.
pub struct MetadataDir {
    pub path: PathBuf,
    pub id: Uuid,
    /// The process before closed it.
    pub clean: bool,
    /// Its place in `log.dirs`, if it has one.
    pub among: Option<DirIndex>,
    unclean: AtomicBool,
}

impl MetadataDir {
    pub fn new(path: PathBuf, id: Uuid, clean: bool, among: Option<DirIndex>) -> MetadataDir {
        MetadataDir { path, id, clean, among, unclean: AtomicBool::new(false) }
    }
}

/// All of them.
pub struct Dirs {
    all: Vec<DataDir>,
    metadata: MetadataDir,
}

impl Dirs {
    /// # Panics
    /// Without any.
    pub fn new(all: Vec<DataDir>, metadata: MetadataDir) -> Dirs {
        assert!(!all.is_empty(), "a broker has a data directory");
        Dirs { all, metadata }
    }

    /// In the order of `log.dirs`.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (DirIndex, &DataDir)> {
        self.all.iter().enumerate().map(|(at, dir)| (DirIndex(at as u16), dir))
    }

    /// Those that can be used now.
    pub fn online(&self) -> impl Iterator<Item = (DirIndex, &DataDir)> {
        self.all().filter(|(_, dir)| dir.is_online())
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// # Panics
    /// For an index that came from elsewhere.
    pub fn get(&self, index: DirIndex) -> &DataDir {
        &self.all[usize::from(index.0)]
    }

    /// The one that metadata calls `id`, if it is one of ours.
    pub fn by_id(&self, id: Uuid) -> Option<DirIndex> {
        self.all().find(|(_, dir)| dir.id == id && !id.is_zero()).map(|(index, _)| index)
    }

    /// The one whose path a client names, absolute as DescribeLogDirs shows it.
    pub fn by_path(&self, path: &str) -> Option<DirIndex> {
        self.all().find(|(_, dir)| shown(&dir.path) == path).map(|(index, _)| index)
    }

    pub fn metadata(&self) -> &MetadataDir {
        &self.metadata
    }

    /// Notes that the metadata log could not be closed cleanly.
    pub fn metadata_not_clean(&self) {
        self.metadata.unclean.store(true, Ordering::Relaxed);
        if let Some(index) = self.metadata.among {
            self.get(index).not_clean();
        }
    }

    /// The directories that the next start may believe as they are.
    pub fn clean(&self) -> impl Iterator<Item = &Path> {
        let outside = self.metadata.among.is_none() && !self.metadata.unclean.load(Ordering::Relaxed);
        let outside = outside.then_some(self.metadata.path.as_path());
        self.all.iter().filter(|dir| dir.is_clean()).map(DataDir::path).chain(outside)
    }
}

/// A directory as clients are shown it: absolute, as Kafka does.
pub fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_fails_once_and_is_not_clean_then() {
        let id = |byte| Uuid([byte; 16]);
        let usable = |name: &str, byte| DataDir::usable(name.into(), id(byte), Left::default());
        let lost = DataDir::failed("/c".into(), Uuid::ZERO, "no such drive".into());
        let metadata = MetadataDir::new("/m".into(), id(9), true, None);
        let dirs = Dirs::new(vec![usable("/a", 1), usable("/b", 2), lost], metadata);
        let online = || dirs.online().map(|(index, _)| index.0).collect::<Vec<_>>();
        let clean = || dirs.clean().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!((online(), clean()), (vec![0, 1], vec!["/a".into(), "/b".into(), "/m".into()]));
        assert_eq!((dirs.by_id(id(2)), dirs.by_id(id(9)), dirs.by_id(Uuid::ZERO)), (Some(DirIndex(1)), None, None));
        assert_eq!((dirs.by_path("/b"), dirs.by_path("/m")), (Some(DirIndex(1)), None));
        assert!(dirs.get(DirIndex(1)).fail("first".into()));
        assert!(!dirs.get(DirIndex(1)).fail("second".into()));
        assert_eq!(dirs.get(DirIndex(1)).offline(), Some("first"));
        dirs.get(DirIndex(0)).not_clean();
        assert_eq!((online(), clean()), (vec![0], vec!["/m".to_string()]));
        dirs.metadata_not_clean();
        assert_eq!(clean().len(), 0);
    }
}
