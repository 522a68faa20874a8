//! Transactions that were aborted, as a reader of committed records has to be told of them: their
//! records lie in the log like all others. And the bytes of `%020d.txnindex`, which keeps those
//! whose markers lie in that segment (`TransactionIndex`, `AbortedTxn`), entries of 34 bytes:
//!
//! ```text
//! i16  version, 0
//! i64  producer id
//! i64  first offset of the transaction
//! i64  last offset: the marker's
//! i64  last stable offset once it was written: what else was undecided then begins there
//! ```
//!
//! Markers rise from entry to entry, and so do last stable offsets. Nothing here touches the
//! drive. Bytes read from a file are not trusted.

use crate::base::Offset;

/// Bytes of an entry.
pub const ABORTED_ENTRY_BYTES: usize = 34;

/// A transaction that was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first: Offset,
    /// The marker's offset.
    pub last: Offset,
    pub last_stable: Offset,
}

/// Why bytes are not a transaction index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AbortedError {
    #[error("{0} bytes are not a whole number of entries of 34 bytes")]
    Length(usize),
    #[error("entry {at} has version {version}, not 0")]
    Version { at: usize, version: i16 },
    #[error("entry {at} does not follow the one before, or lies outside its segment")]
    Order { at: usize },
}

/// Reads a file's bytes. `base`: of its segment; `next`: of the segment after it, or the log's end.
///
/// # Errors
/// Which entry is wrong.
pub fn decode(bytes: &[u8], base: Offset, next: Offset) -> Result<Vec<AbortedTransaction>, AbortedError> {
    if !bytes.len().is_multiple_of(ABORTED_ENTRY_BYTES) {
        return Err(AbortedError::Length(bytes.len()));
    }
    let mut entries: Vec<AbortedTransaction> = Vec::with_capacity(bytes.len() / ABORTED_ENTRY_BYTES);
    for (at, entry) in bytes.chunks_exact(ABORTED_ENTRY_BYTES).enumerate() {
        let number = |from: usize| i64::from_be_bytes(entry[from..from + 8].try_into().expect("eight bytes"));
        let version = i16::from_be_bytes([entry[0], entry[1]]);
        if version != 0 {
            return Err(AbortedError::Version { at, version });
        }
        let (producer_id, first, last) = (number(2), Offset(number(10)), Offset(number(18)));
        let entry = AbortedTransaction { producer_id, first, last, last_stable: Offset(number(26)) };
        let follows = entries.last().is_none_or(|before| before.last < last && before.last_stable <= entry.last_stable);
        if !follows || first.0 < 0 || first > last || last < base || last >= next {
            return Err(AbortedError::Order { at });
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The bytes of a file.
pub fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ABORTED_ENTRY_BYTES);
    for entry in entries {
        bytes.extend_from_slice(&0i16.to_be_bytes());
        for number in [entry.producer_id, entry.first.0, entry.last.0, entry.last_stable.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
    bytes
}

/// The aborted transactions of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aborted {
    /// By their markers.
    entries: Vec<AbortedTransaction>,
}

impl Aborted {
    /// Reads an index file's bytes; see the module. `next`: the base of the segment after it.
    ///
    /// # Errors
    /// Which entry is wrong.
    pub fn read_file(bytes: &[u8], base: Offset, next: Offset) -> Result<Vec<AbortedTransaction>, AbortedError> {
        decode(bytes, base, next)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[AbortedTransaction] {
        &self.entries
    }

    /// Adds one, unless it is there. Gives whether it was not.
    pub fn add(&mut self, entry: AbortedTransaction) -> bool {
        match self.entries.binary_search_by_key(&entry.last, |known| known.last) {
            Ok(_) => false,
            Err(at) => {
                self.entries.insert(at, entry);
                true
            }
        }
    }

    /// What a reader needs who gets batches from `from` on and below `until`.
    pub fn within(&self, from: Offset, until: Offset) -> Vec<AbortedTransaction> {
        let first = self.entries.partition_point(|entry| entry.last < from);
        let mut found = Vec::new();
        for entry in &self.entries[first..] {
            if entry.first < until {
                found.push(*entry);
            }
            // Whatever was aborted later began behind it.
            if entry.last_stable >= until {
                break;
            }
        }
        found
    }

    /// Those whose markers lie from `from` on and before `until`.
    pub fn of_segment(&self, from: Offset, until: Offset) -> &[AbortedTransaction] {
        let at = |offset: Offset| self.entries.partition_point(|entry| entry.last < offset);
        &self.entries[at(from)..at(until)]
    }

    /// Of those whose markers lie from `from` on and before `until`, keeps the ones at `markers`. A reader who were
    /// told of one whose marker is gone would leave out all that its producer wrote later.
    pub fn keep(&mut self, from: Offset, until: Offset, markers: &[Offset]) {
        self.entries.retain(|entry| entry.last < from || entry.last >= until || markers.contains(&entry.last));
    }

    /// Forgets those whose markers lie below `start`: nothing of them is left in the log.
    pub fn truncate_start(&mut self, start: Offset) {
        let gone = self.entries.partition_point(|entry| entry.last < start);
        self.entries.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(producer_id: i64, first: i64, last: i64, last_stable: i64) -> AbortedTransaction {
        let (first, last, last_stable) = (Offset(first), Offset(last), Offset(last_stable));
        AbortedTransaction { producer_id, first, last, last_stable }
    }

    #[test]
    fn bytes_come_back_and_others_are_refused() {
        let entries = [entry(7, 10, 14, 12), entry(8, 12, 20, 21)];
        let bytes = encode(&entries);
        assert_eq!(bytes.len(), 68);
        assert_eq!(decode(&bytes, Offset(14), Offset(21)), Ok(entries.to_vec()));
        assert_eq!(decode(&bytes[..67], Offset(0), Offset(99)), Err(AbortedError::Length(67)));
        assert_eq!(decode(&bytes, Offset(15), Offset(99)), Err(AbortedError::Order { at: 0 }));
        assert_eq!(decode(&bytes, Offset(0), Offset(20)), Err(AbortedError::Order { at: 1 }));
        let swapped = encode(&[entries[1], entries[0]]);
        assert_eq!(decode(&swapped, Offset(0), Offset(99)), Err(AbortedError::Order { at: 1 }));
        assert_eq!(decode(&[1; 34], Offset(0), Offset(99)), Err(AbortedError::Version { at: 0, version: 257 }));
        // Kafka's own file is read in tests/golden_files.rs.
    }

    proptest! {
        /// Transactions side by side: a reader is told of each that was aborted and has records in its range, and
        /// of none that ended before.
        #[test]
        fn readers_are_told_of_what_they_may_meet(
            steps in proptest::collection::vec((0usize..4, any::<bool>()), 1..80),
            from in 0i64..80,
            len in 1i64..80,
        ) {
            // A step begins the transaction of a producer, or ends it; each takes an offset.
            let mut open: [Option<i64>; 4] = [None; 4];
            let mut aborted = Aborted::default();
            let mut all = Vec::new();
            for (offset, (producer, abort)) in (0i64..).zip(&steps) {
                let Some(first) = open[*producer].take() else {
                    open[*producer] = Some(offset);
                    continue;
                };
                if *abort {
                    let undecided = open.iter().flatten().min().copied().unwrap_or(offset + 1);
                    let entry = entry(*producer as i64, first, offset, undecided);
                    prop_assert!(aborted.add(entry) && !aborted.add(entry));
                    all.push(entry);
                }
            }
            let until = from + len;
            let expected: Vec<_> = all.iter().copied().filter(|e| e.last.0 >= from && e.first.0 < until).collect();
            prop_assert_eq!(aborted.within(Offset(from), Offset(until)), expected);
            let (below, above) = (aborted.of_segment(Offset(0), Offset(from)), aborted.of_segment(Offset(from), Offset(1000)));
            prop_assert_eq!([below, above].concat(), all.clone());
            prop_assert_eq!(decode(&encode(&all), Offset(0), Offset(1000)), Ok(all.clone()));
            let mut kept = aborted.clone();
            kept.keep(Offset(from), Offset(until), &[Offset(from + 3)]);
            let stays = |e: &AbortedTransaction| e.last.0 < from || e.last.0 >= until || e.last.0 == from + 3;
            prop_assert_eq!(kept.entries(), &all.iter().copied().filter(stays).collect::<Vec<_>>()[..]);
            aborted.truncate_start(Offset(from));
            prop_assert_eq!(aborted.entries(), &all.iter().copied().filter(|e| e.last.0 >= from).collect::<Vec<_>>()[..]);
        }
    }
}
