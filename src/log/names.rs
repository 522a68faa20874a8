//! The names of the files in a partition's directory: Kafka's, and one of ours.
//!
//! A segment's files bear its base offset in 20 digits. Nothing here touches the disk.

use crate::base::Offset;

/// Record batches back to back.
pub const LOG: &str = "log";
/// Sparse index from offset to position.
pub const OFFSET_INDEX: &str = "index";
/// Sparse index from timestamp to offset.
pub const TIME_INDEX: &str = "timeindex";
/// Aborted transactions.
pub const TRANSACTION_INDEX: &str = "txnindex";
/// Producer state at an offset.
pub const SNAPSHOT: &str = "snapshot";
/// Empty: what lies below is being removed by retention, in whatever order the drive comes to it. Ours; gone when all of it
/// is removed. Kafka passes it over.
pub const GIVEN_UP: &str = "given-up";

/// Being written by a compaction that did not end.
pub const CLEANED: &str = ".cleaned";
/// Written by a compaction and about to take the place of what it replaces.
pub const SWAP: &str = ".swap";
/// Taken out of the log, not yet removed.
pub const DELETED: &str = ".deleted";

/// `00000000000000000042.log`.
pub fn file_name(base: Offset, kind: &str) -> String {
    format!("{:020}.{kind}", base.0)
}

/// What a file name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFile<'a> {
    pub base: Offset,
    /// `log`, `index`, `timeindex`, `txnindex`, `snapshot` or `given-up`.
    pub kind: &'a str,
    /// `""`, `.cleaned`, `.swap` or `.deleted`.
    pub suffix: &'a str,
}

/// Reads a name; `None` for every name that is not of a segment's file.
pub fn parse(name: &str) -> Option<SegmentFile<'_>> {
    let (stem, suffix) = [CLEANED, SWAP, DELETED]
        .into_iter()
        .find_map(|suffix| name.strip_suffix(suffix).map(|stem| (stem, suffix)))
        .unwrap_or((name, ""));
    let (digits, kind) = stem.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let base = Offset(digits.parse().ok()?);
    [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT, GIVEN_UP]
        .into_iter()
        .find(|known| *known == kind)
        .map(|kind| SegmentFile { base, kind, suffix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        assert_eq!(file_name(Offset(42), LOG), "00000000000000000042.log");
        for (name, expected) in [
            ("00000000000000000042.log", Some((42, LOG, ""))),
            ("00000000000000000000.timeindex", Some((0, TIME_INDEX, ""))),
            ("00000000000000000007.index.deleted", Some((7, OFFSET_INDEX, DELETED))),
            ("00000000000000000007.log.cleaned", Some((7, LOG, CLEANED))),
            ("00000000000000000007.given-up", Some((7, GIVEN_UP, ""))),
            ("00000000000000000007.log.swap", Some((7, LOG, SWAP))),
            ("00000000000000000007-0000000001.checkpoint", None),
            ("99999999999999999999.log", None),
            ("-0000000000000000007.log", None),
            ("7.log", None),
            ("partition.metadata", None),
            ("leader-epoch-checkpoint", None),
            ("00000000000000000042.log.tmp", None),
            ("", None),
        ] {
            let got = parse(name).map(|file| (file.base.0, file.kind, file.suffix));
            assert_eq!(got, expected, "{name}");
        }
    }
}
