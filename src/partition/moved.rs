//! A partition that was moved to another data directory: the note that its new directory bears as long as the old one
//! may come back, and which of two directories with the same partition is the partition's.
//!
//! `corelog-moved`, in the directory of the partition; Kafka does not look at it:
//!
//! ```text
//! version: 0
//! from: DIRECTORY-ID      of the data directory that the partition came from
//! end: OFFSET             where the log ended when it was handed over
//! ```
//!
//! Between the hand-over's two renamings (`log::mover`) both directories bear the partition's name, and each has
//! everything: what was appended since waits. The new one is taken then. If one of them was missing at a start, the
//! other went on alone, and says so by ending later than the note. If both did, one after the other, nobody can
//! know which is right, and neither is taken.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::{EPOCHS_FILE, METADATA_FILE, Partition};
use crate::base::{DirIndex, Offset, Uuid};
use crate::log::{self, Destination, Move, MoveError, MoveProgress, Moved};
use crate::runtime::disk::Disk;

/// The note's name.
pub const MOVED_FILE: &str = "corelog-moved";

/// Where a partition came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedFrom {
    /// The data directory's id.
    pub directory: Uuid,
    /// The end of the log that was handed over.
    pub end: Offset,
}

impl MovedFrom {
    pub fn encode(&self) -> Vec<u8> {
        format!("version: 0\nfrom: {}\nend: {}\n", self.directory, self.end.0).into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Option<MovedFrom> {
        let text = std::str::from_utf8(bytes).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("version:")? != "0" {
            return None;
        }
        let end: i64 = field("end:")?.parse().ok()?;
        (end >= 0).then_some(MovedFrom { directory: field("from:")?.parse().ok()?, end: Offset(end) })
    }

    /// The note in the directory of a partition, if there is one that can be read.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn read(disk: &Disk, dir: &Path) -> io::Result<Option<MovedFrom>> {
        match disk.read_file(&dir.join(MOVED_FILE)).await {
            Ok(bytes) => Ok(MovedFrom::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Removes the note, durably: the directory that it speaks of is gone.
///
/// # Errors
/// It could not be. A partition with a note is not moved.
pub async fn forget(disk: &Disk, dir: &Path) -> io::Result<()> {
    match disk.remove(&dir.join(MOVED_FILE)).await {
        Ok(()) => disk.sync_dir(dir).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Which of two directories that hold the same partition is the partition's, each with the id of its data directory:
/// true for the first. The other can be removed. `None`: that cannot be known.
///
/// # Errors
/// A file could not be read.
pub async fn is_first(disk: &Disk, first: (Uuid, &Path), second: (Uuid, &Path)) -> io::Result<Option<bool>> {
    let came_from = async |here: &Path, there: Uuid| -> io::Result<Option<MovedFrom>> {
        Ok(MovedFrom::read(disk, here).await?.filter(|note| note.directory == there))
    };
    let notes = (came_from(first.1, second.0).await?, came_from(second.1, first.0).await?);
    let (note, is_first, new, old) = match notes {
        (Some(note), None) => (note, true, first.1, second.1),
        (None, Some(note)) => (note, false, second.1, first.1),
        // Made by hand, or by Kafka.
        _ => return Ok(None),
    };
    let ended =
        async |dir: &Path| log::end_on_drive(disk, dir).await.map_err(|error| io::Error::other(error.to_string()));
    let (new_end, old_end) = (ended(new).await?, ended(old).await?);
    Ok(match (new_end > note.end, old_end > note.end) {
        (_, false) => Some(is_first),
        (false, true) => Some(!is_first),
        (true, true) => None,
    })
}

impl Partition {
    /// Begins to move the partition: [`Partition::catch_up`], then [`Partition::hand_over`].
    ///
    /// # Errors
    /// It is being moved, or has ended; or its directory still bears the note of the move before.
    pub async fn begin_move(&self, to: Destination, progress: &Rc<MoveProgress>) -> Result<Move, MoveError> {
        let moving = self.log.begin_move(to, Rc::clone(progress)).await?;
        let dir = self.log.dir();
        match MovedFrom::read(&self.disk, &dir).await {
            Ok(None) => Ok(moving),
            Ok(Some(note)) => {
                let reason = format!(
                    "{} was moved before, and whether it is still in the directory of id {} is not known; the next start \
                     with that directory finds out",
                    self.id, note.directory
                );
                Err(MoveError::Failed(reason.into()))
            }
            Err(error) => Err(MoveError::Failed(format!("read {MOVED_FILE} of {}: {error}", dir.display()).into())),
        }
    }

    /// Copies until little is left.
    ///
    /// # Errors
    /// See [`MoveError`]. The partition goes on where it is.
    pub async fn catch_up(&self, moving: &mut Move) -> Result<(), MoveError> {
        moving.catch_up(&self.small_files()).await
    }

    /// Hands the partition over to its copy. `from`: the id of the data directory that it leaves, for that of `to`.
    ///
    /// # Errors
    /// See [`MoveError`]. The partition goes on where it is.
    pub async fn hand_over(&self, moving: &mut Move, from: Uuid, to: DirIndex) -> Result<Moved, MoveError> {
        let note = |end| (MOVED_FILE, MovedFrom { directory: from, end }.encode());
        let moved = moving.switch(&|| self.small_files(), &note).await?;
        self.dir.set(to);
        self.last_snapshot.set(moved.snapshot);
        // Who collects points does so by directory.
        self.point_told.set(Offset::ZERO);
        if moved.old_is_gone {
            let dir = self.log.dir();
            if let Err(error) = forget(&self.disk, &dir).await {
                tracing::warn!("remove {MOVED_FILE} of {}: {error}", dir.display());
            }
        }
        Ok(moved)
    }

    pub(super) fn small_files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let metadata = format!("version: 0\ntopic_id: {}", self.topic_id);
        vec![(METADATA_FILE, metadata.into_bytes()), (EPOCHS_FILE, self.epochs.borrow().encode())]
    }
}

/// The name of a directory in which a partition's copy is made (`UnifiedLog.logFutureDirName`).
pub fn future_name(partition: &str, unique: &str) -> String {
    suffixed(partition, unique, "future")
}

/// The name that the old directory gets (`UnifiedLog.logDeleteDirName`).
pub fn old_name(partition: &str, unique: &str) -> String {
    suffixed(partition, unique, "delete")
}

/// The name of a directory whose topic the metadata does not have (`UnifiedLog.logStrayDirName`).
pub fn stray_name(partition: &str, unique: &str) -> String {
    suffixed(partition, unique, "stray")
}

/// Of at most 255 bytes, as Kafka: the topic's part is cut for it.
fn suffixed(partition: &str, unique: &str, what: &str) -> String {
    let ending = format!(".{unique}-{what}");
    let stem: &str = &partition[..partition.len().min(255 - ending.len().min(255))];
    format!("{stem}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_anything_else_is_none() {
        let note = MovedFrom { directory: Uuid([7; 16]), end: Offset(42) };
        assert_eq!(MovedFrom::decode(&note.encode()), Some(note));
        for wrong in [
            "",
            "version: 1\nfrom: AAAAAAAAAAAAAAAAAAAAAA\nend: 4\n",
            "version: 0\nend: 4\n",
            "version: 0\nfrom: x\nend: 4",
        ] {
            assert_eq!(MovedFrom::decode(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(MovedFrom::decode(b"version: 0\nfrom: AAAAAAAAAAAAAAAAAAAAAA\nend: -1\n"), None);
    }

    #[test]
    fn names_are_kafkas_and_fit_a_file_system() {
        assert_eq!(future_name("orders-3", "0f1e"), "orders-3.0f1e-future");
        assert_eq!(old_name("orders-3", "0f1e"), "orders-3.0f1e-delete");
        let long = "t".repeat(249) + "-12345";
        let unique = "0".repeat(32);
        assert_eq!(future_name(&long, &unique).len(), 255);
        assert!(future_name(&long, &unique).ends_with(".00000000000000000000000000000000-future"));
    }
}
