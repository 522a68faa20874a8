//! The bytes of `%020d.txnindex`: aborted transactions whose markers lie in that segment
//! (`TransactionIndex`, `AbortedTxn`), entries of 34 bytes:
//!
//! ```text
//! i16  version, 0
//! i64  producer id
//! i64  first offset of the transaction
//! i64  last offset: the marker's
//! i64  last stable offset once it was written: what else was undecided then begins there
//! ```
//!
//! Markers rise from entry to entry, and so do last stable offsets. Bytes read from a file are not trusted.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_others_are_refused() {
        let entry = |producer_id, first, last, last_stable| {
            let (first, last, last_stable) = (Offset(first), Offset(last), Offset(last_stable));
            AbortedTransaction { producer_id, first, last, last_stable }
        };
        let entries = [entry(7, 10, 14, 12), entry(8, 12, 20, 21)];
        let bytes = encode(&entries);
        assert_eq!(bytes.len(), 68);
        assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(decode(&[], Offset(0), Offset(0)), Ok(vec![]));
        assert_eq!(decode(&bytes, Offset(14), Offset(21)), Ok(entries.to_vec()));
        assert_eq!(decode(&bytes[..67], Offset(0), Offset(99)), Err(AbortedError::Length(67)));
        assert_eq!(decode(&bytes, Offset(15), Offset(99)), Err(AbortedError::Order { at: 0 }));
        assert_eq!(decode(&bytes, Offset(0), Offset(20)), Err(AbortedError::Order { at: 1 }));
        let swapped = encode(&[entries[1], entries[0]]);
        assert_eq!(decode(&swapped, Offset(0), Offset(99)), Err(AbortedError::Order { at: 1 }));
        let backwards = encode(&[entry(7, 9, 3, 4)]);
        assert_eq!(decode(&backwards, Offset(0), Offset(99)), Err(AbortedError::Order { at: 0 }));
        assert_eq!(decode(&[1; 34], Offset(0), Offset(99)), Err(AbortedError::Version { at: 0, version: 257 }));
        // Kafka's own file is read in tests/golden_files.rs.
    }
}
