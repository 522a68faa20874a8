//! Which leader epoch wrote which offsets (`LeaderEpochFileCache`), and the bytes
//! of `leader-epoch-checkpoint`:
//!
//! ```text
//! 0\n            version
//! COUNT\n
//! EPOCH START_OFFSET\n   per entry, both rising
//! ```

use std::cmp::Ordering;
use std::rc::Rc;

use crate::base::{LeaderEpoch, Offset};
use crate::runtime::task::{self, OnPanic, Queue};

use super::{EPOCHS_FILE, Partition};

/// Why bytes are not a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} of the leader epoch checkpoint is not as it should be")]
pub struct EpochsError {
    pub line: usize,
}

/// Epochs and the first offset of each, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// A batch of `epoch` begins at `start`. Only a newer epoch is news. Says whether it was.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // Epochs that wrote nothing say nothing.
        while self.entries.last().is_some_and(|(_, before)| *before >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// The batch from `first` to `last` is in the log, and of `epoch`, whatever was known before: the file tells of batches
    /// that a power cut may have taken, and others may have taken their places. Says whether that changed anything.
    pub fn found(&mut self, epoch: LeaderEpoch, first: Offset, last: Offset) -> bool {
        let is_known = self.epoch_of(first) == Some(epoch) && self.epoch_of(last) == Some(epoch);
        if epoch.0 < 0 || is_known {
            return false;
        }
        self.entries.retain(|(other, start)| match other.cmp(&epoch) {
            Ordering::Less => *start < first,
            Ordering::Equal => *start <= first,
            Ordering::Greater => *start > last,
        });
        if self.epoch_of(first) != Some(epoch) {
            let at = self.entries.partition_point(|(_, start)| *start <= first);
            self.entries.insert(at, (epoch, first));
        }
        true
    }

    /// The log ends at `end` now. Says whether that changed anything.
    pub fn truncate_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|(_, start)| *start < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// The log begins at `start` now: the epoch that covers it begins there.
    pub fn truncate_start(&mut self, start: Offset) -> bool {
        let covering = self.entries.partition_point(|(_, begin)| *begin <= start);
        if covering == 0 {
            return false;
        }
        let changed = covering > 1 || self.entries[0].1 < start;
        self.entries.drain(..covering - 1);
        self.entries[0].1 = start;
        changed
    }

    /// The newest epoch and where it begins.
    pub fn last(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.last().copied()
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|at| self.entries[at].0)
    }

    /// The largest epoch up to `requested` and where its successor begins; `end` is
    /// the log's end. `None`: not known (`LeaderEpochFileCache.endOffsetFor`).
    pub fn end_offset(&self, requested: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if requested.0 < 0 {
            return None;
        }
        if self.latest() == Some(requested) {
            return Some((requested, end));
        }
        let higher = self.entries.partition_point(|(epoch, _)| *epoch <= requested);
        let (_, next_start) = *self.entries.get(higher)?;
        Some(match higher.checked_sub(1) {
            Some(floor) => (self.entries[floor].0, next_start),
            None => (requested, next_start),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{} {}\n", epoch.0, start));
        }
        text.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<LeaderEpochs, EpochsError> {
        let wrong = |line| EpochsError { line };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1))?;
        let mut lines = text.lines();
        if lines.next() != Some("0") {
            return Err(wrong(1));
        }
        let count: usize = lines.next().and_then(|line| line.parse().ok()).ok_or(wrong(2))?;
        let mut epochs = LeaderEpochs::default();
        for (at, line) in lines.enumerate() {
            let entry = line
                .split_once(' ')
                .and_then(|(epoch, start)| Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?))));
            let entry = entry.ok_or(wrong(at + 3))?;
            if epochs.entries.last().is_some_and(|last| last.0 >= entry.0 || last.1 > entry.1) {
                return Err(wrong(at + 3));
            }
            epochs.entries.push(entry);
        }
        if epochs.entries.len() != count {
            return Err(wrong(2));
        }
        Ok(epochs)
    }
}

impl Partition {
    /// Writes the epochs' file in the background, if it has news and there is a directory.
    pub(super) fn write_epochs(self: &Rc<Self>) {
        if !self.epochs_dirty.get() || self.epochs_writing.get() || !self.log.dir_exists() || self.ended().is_some() {
            return;
        }
        self.epochs_writing.set(true);
        let writing = Writing(Rc::clone(self));
        task::spawn(Queue::Upkeep, "epoch checkpoint", OnPanic::EndTask, async move {
            let partition = &writing.0;
            while partition.ended().is_none() && partition.epochs_dirty.replace(false) {
                let path = partition.log.dir().join(EPOCHS_FILE);
                let bytes = partition.epochs.borrow().encode();
                if let Err(error) = partition.disk.write_file(&path, bytes).await {
                    // Batches carry their epochs: nothing is lost. The next recovery point or the close tries again.
                    tracing::warn!("write {}: {error}", path.display());
                    partition.epochs_dirty.set(true);
                    partition.epochs_error.set(Some(error.kind()));
                    break;
                }
            }
        });
    }
}

/// A task writes the file. However it ends, whoever closes the partition waits for no longer than that.
struct Writing(Rc<Partition>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.epochs_writing.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for &(epoch, start) in entries {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    #[test]
    fn ends_of_epochs_are_kafkas() {
        let epochs = epochs(&[(2, 0), (4, 10), (7, 25)]);
        for (requested, expected) in [
            (-1, None),
            (1, Some((1, 0))),
            (2, Some((2, 10))),
            (3, Some((2, 10))),
            (4, Some((4, 25))),
            (6, Some((4, 25))),
            (7, Some((7, 40))),
            (8, None),
        ] {
            let got = epochs.end_offset(LeaderEpoch(requested), Offset(40)).map(|(epoch, end)| (epoch.0, end.0));
            assert_eq!(got, expected, "{requested}");
        }
        assert_eq!(LeaderEpochs::default().end_offset(LeaderEpoch(0), Offset(5)), None);
        assert_eq!(epochs.epoch_of(Offset(24)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn only_newer_epochs_are_news_and_empty_ones_go() {
        assert_eq!(epochs(&[(2, 0), (2, 5), (1, 7)]), epochs(&[(2, 0)]));
        assert_eq!(epochs(&[(2, 0), (3, 5), (4, 5)]), epochs(&[(2, 0), (4, 5)]));
    }

    #[test]
    fn what_batches_say_counts_more_than_what_was_known() {
        let known = epochs(&[(2, 0), (4, 10), (7, 25)]);
        for (epoch, first, last, expected) in [
            // As it was known, also where compaction took the first batches of an epoch.
            (2, 0, 9, &[(2, 0), (4, 10), (7, 25)][..]),
            (4, 13, 24, &[(2, 0), (4, 10), (7, 25)]),
            (-1, 10, 30, &[(2, 0), (4, 10), (7, 25)]),
            // An epoch begins earlier, later, or was not known.
            (4, 8, 9, &[(2, 0), (4, 8), (7, 25)]),
            (7, 25, 30, &[(2, 0), (4, 10), (7, 25)]),
            (7, 20, 24, &[(2, 0), (4, 10), (7, 20)]),
            (7, 9, 10, &[(2, 0), (7, 9)]),
            (2, 10, 11, &[(2, 0), (7, 25)]),
            (4, 25, 26, &[(2, 0), (4, 10)]),
            (4, 24, 25, &[(2, 0), (4, 10)]),
            (3, 5, 6, &[(2, 0), (3, 5), (4, 10), (7, 25)]),
            (5, 10, 12, &[(2, 0), (5, 10), (7, 25)]),
            (8, 30, 31, &[(2, 0), (4, 10), (7, 25), (8, 30)]),
        ] {
            let mut found = known.clone();
            let changed = found.found(LeaderEpoch(epoch), Offset(first), Offset(last));
            assert_eq!(found, epochs(expected), "{epoch} from {first} to {last}");
            assert_eq!(changed, found != known, "{epoch} from {first} to {last}");
        }
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut cut = epochs(&[(2, 0), (4, 10), (7, 25)]);
        assert!(!cut.truncate_end(Offset(26)));
        assert!(cut.truncate_end(Offset(25)));
        assert_eq!(cut, epochs(&[(2, 0), (4, 10)]));
        assert!(cut.truncate_start(Offset(12)));
        assert_eq!(cut, epochs(&[(4, 12)]));
        assert!(!cut.truncate_start(Offset(12)));
    }

    #[test]
    fn text_comes_back_and_other_text_is_refused() {
        let some = epochs(&[(0, 0), (5, 100)]);
        assert_eq!(some.encode(), b"0\n2\n0 0\n5 100\n");
        assert_eq!(LeaderEpochs::decode(&some.encode()).unwrap(), some);
        for (text, line) in [
            ("", 1),
            ("1\n0\n", 1),
            ("0\n", 2),
            ("0\n2\n0 0\n", 2),
            ("0\n1\nx 0\n", 3),
            ("0\n2\n3 0\n3 1\n", 4),
            ("0\n2\n3 5\n4 1\n", 4),
        ] {
            assert_eq!(LeaderEpochs::decode(text.as_bytes()), Err(EpochsError { line }), "{text:?}");
        }
    }
}
