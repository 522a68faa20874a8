//! The recovery points of all partitions, and the bytes of
//! `recovery-point-offset-checkpoint` (`OffsetCheckpointFile`):
//!
//! ```text
//! 0\n                         version
//! COUNT\n
//! TOPIC PARTITION OFFSET\n    per entry
//! ```
//!
//! What the file says is no more than a hint: a name may have belonged to another topic when it
//! was written. The proof of a point lies in the partition's directory.

use std::collections::HashMap;

use crate::base::Offset;

/// The file's name, in the data directory.
pub const POINTS_FILE: &str = "recovery-point-offset-checkpoint";
/// The file of log start offsets, which has the same form.
pub const STARTS_FILE: &str = "log-start-offset-checkpoint";

/// The file of the same form that says how far logs have been compacted.
pub const CLEANED_FILE: &str = "cleaner-offset-checkpoint";

/// Why bytes are not a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} is not as it should be")]
pub struct PointsError {
    pub line: usize,
}

/// See the module. Can be shared between cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryPoints(HashMap<Box<str>, HashMap<i32, Offset>>);

/// Where logs start that do not start with a segment.
pub type StartOffsets = RecoveryPoints;

impl RecoveryPoints {
    /// All of them, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, i32, Offset)> {
        self.0
            .iter()
            .flat_map(|(topic, offsets)| offsets.iter().map(|(partition, offset)| (&**topic, *partition, *offset)))
    }

    /// What it says of a partition; 0 if nothing.
    pub fn get(&self, topic: &str, partition: i32) -> Offset {
        self.0.get(topic).and_then(|partitions| partitions.get(&partition)).copied().unwrap_or(Offset::ZERO)
    }

    /// Reads a file's bytes: all of them are right, or nothing is taken.
    ///
    /// # Errors
    /// Which line is wrong; the last one also when the file ends within it.
    pub fn decode(bytes: &[u8]) -> Result<RecoveryPoints, PointsError> {
        let wrong = |line| PointsError { line };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1))?;
        let mut lines = text.lines();
        if lines.next() != Some("0") {
            return Err(wrong(1));
        }
        let count: usize = lines.next().and_then(|line| line.parse().ok()).ok_or(wrong(2))?;
        let mut points = RecoveryPoints::default();
        let mut read = 0;
        for line in lines {
            read += 1;
            let entry = || {
                let mut fields = line.split(' ');
                let (topic, partition, offset) = (fields.next()?, fields.next()?, fields.next()?);
                let (partition, offset): (i32, i64) = (partition.parse().ok()?, offset.parse().ok()?);
                let right = !topic.is_empty() && partition >= 0 && offset >= 0 && fields.next().is_none();
                right.then_some((topic, partition, Offset(offset)))
            };
            let (topic, partition, offset) = entry().ok_or(wrong(read + 2))?;
            match points.0.get_mut(topic) {
                Some(partitions) => drop(partitions.insert(partition, offset)),
                None => drop(points.0.insert(topic.into(), HashMap::from([(partition, offset)]))),
            }
        }
        // An offset of which digits are missing would be one as well.
        if read != count || !text.ends_with('\n') {
            return Err(wrong(read + 2));
        }
        Ok(points)
    }
}

/// Puts a file's bytes together.
#[derive(Default)]
pub struct PointsText {
    lines: String,
    count: usize,
}

impl PointsText {
    pub fn push(&mut self, topic: &str, partition: i32, offset: Offset) {
        use std::fmt::Write;
        writeln!(self.lines, "{topic} {partition} {offset}").expect("a string grows");
        self.count += 1;
    }

    pub fn finish(self) -> Vec<u8> {
        format!("0\n{}\n{}", self.count, self.lines).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_of_kafka_is_read_and_comes_back() {
        let bytes = b"0\n3\norders 0 4711\n__consumer_offsets 49 0\norders 12 9223372036854775807\n";
        let points = RecoveryPoints::decode(bytes).unwrap();
        assert_eq!(points.get("orders", 0), Offset(4711));
        assert_eq!(points.get("orders", 12), Offset(i64::MAX));
        assert_eq!((points.get("orders", 1), points.get("other", 0)), (Offset(0), Offset(0)));
        let mut text = PointsText::default();
        text.push("orders", 0, Offset(4711));
        text.push("__consumer_offsets", 49, Offset(0));
        text.push("orders", 12, Offset(i64::MAX));
        assert_eq!(text.finish(), bytes);
        assert_eq!(RecoveryPoints::decode(b"0\n0\n").unwrap(), RecoveryPoints::default());
    }

    #[test]
    fn a_file_that_is_cut_or_wrong_says_nothing() {
        let bytes = b"0\n2\norders 0 4711\norders 1 12\n";
        for cut in 0..bytes.len() {
            assert!(RecoveryPoints::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for (text, line) in [
            ("1\n0\n", 1),
            ("0\nx\n", 2),
            ("0\n1\norders 0\n", 3),
            ("0\n1\norders 0 -1\n", 3),
            ("0\n1\norders -1 5\n", 3),
            ("0\n1\norders 0 5 6\n", 3),
            ("0\n2\norders 0 5\norders  1 5\n", 4),
            ("0\n1\norders 0 5\norders 1 5\n", 4),
        ] {
            assert_eq!(RecoveryPoints::decode(text.as_bytes()), Err(PointsError { line }), "{text:?}");
        }
        assert!(RecoveryPoints::decode(&[b'0', b'\n', 0xff]).is_err());
    }

    proptest! {
        #[test]
        fn rubbish_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = RecoveryPoints::decode(&bytes);
            let _ = RecoveryPoints::decode(&[b"0\n2\n", &bytes[..]].concat());
        }
    }
}
