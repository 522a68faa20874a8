//! The two sparse indexes of a segment, as values and as Kafka's file bytes.
//!
//! `%020d.index`: entries of 8 bytes, big endian: `i32` offset relative to the
//! segment's base, `i32` position. An entry names the *last* offset of a batch and
//! the position where that batch begins (`LogSegment.append`). Both rise strictly.
//!
//! `%020d.timeindex`: entries of 12 bytes: `i64` timestamp, `i32` relative offset:
//! no record up to that offset is younger than the timestamp, and the batch that
//! ends at that offset has it. Timestamps rise strictly.
//!
//! Nothing here touches the disk. Bytes read from a file are not trusted.

use crate::base::Offset;

/// Bytes of an entry of the offset index.
pub const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of an entry of the time index.
pub const TIME_ENTRY_BYTES: usize = 12;

/// Why bytes are not an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("{len} bytes are not a whole number of entries of {entry} bytes")]
    Length { len: usize, entry: usize },
    #[error("entry {at} does not rise over the one before")]
    Order { at: usize },
    #[error("entry {at} lies outside its segment")]
    Range { at: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OffsetEntry {
    /// Last offset of a batch, less the base.
    last: i32,
    /// Where that batch begins.
    position: i32,
}

/// From offset to position, sparse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetIndex {
    entries: Vec<OffsetEntry>,
}

impl OffsetIndex {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds the batch that begins at `position` and ends with the relative offset `last`.
    ///
    /// # Panics
    /// When it does not rise over the entry before: a batch was appended twice.
    pub fn push(&mut self, last: i32, position: i32) {
        if let Some(before) = self.entries.last() {
            assert!(
                before.last < last && before.position < position,
                "index entry ({last}, {position}) after {before:?}"
            );
        }
        self.entries.push(OffsetEntry { last, position });
    }

    /// Where to begin to look for the batch with this relative offset: at or before it.
    pub fn floor(&self, relative: i64) -> u64 {
        let after = self.entries.partition_point(|entry| i64::from(entry.last) <= relative);
        after.checked_sub(1).map_or(0, |at| self.entries[at].position as u64)
    }

    /// The entry that [`OffsetIndex::floor`] goes by: relative last offset and position of a batch.
    pub fn floor_entry(&self, relative: i64) -> Option<(i32, u64)> {
        let after = self.entries.partition_point(|entry| i64::from(entry.last) <= relative);
        after.checked_sub(1).map(|at| (self.entries[at].last, self.entries[at].position as u64))
    }

    /// The last entry of a batch that begins at or before `position`.
    pub fn entry_before(&self, position: u64) -> Option<(i32, u64)> {
        let after = self.entries.partition_point(|entry| entry.position as u64 <= position);
        after.checked_sub(1).map(|at| (self.entries[at].last, self.entries[at].position as u64))
    }

    /// A position at which, or before which, the batch with this relative offset
    /// begins; `None` when only the end of the segment is one.
    pub fn ceiling(&self, relative: i64) -> Option<u64> {
        let at = self.entries.partition_point(|entry| i64::from(entry.last) < relative);
        self.entries.get(at).map(|entry| entry.position as u64)
    }

    /// The last entry: relative offset and position.
    pub fn last(&self) -> Option<(i32, u64)> {
        self.entries.last().map(|entry| (entry.last, entry.position as u64))
    }

    pub fn encode(&self) -> Vec<u8> {
        self.encode_first(self.entries.len())
    }

    /// The bytes of the first `count` entries.
    pub fn encode_first(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * OFFSET_ENTRY_BYTES);
        for entry in &self.entries[..count] {
            let both = (entry.last as u32 as u64) << 32 | u64::from(entry.position as u32);
            bytes.extend_from_slice(&both.to_be_bytes());
        }
        bytes
    }

    /// Reads a file's bytes; `segment_bytes` is the length of the segment that
    /// they are the index of.
    pub fn decode(bytes: &[u8], segment_bytes: u64) -> Result<OffsetIndex, IndexError> {
        if !bytes.len().is_multiple_of(OFFSET_ENTRY_BYTES) {
            return Err(IndexError::Length { len: bytes.len(), entry: OFFSET_ENTRY_BYTES });
        }
        let mut entries = Vec::with_capacity(bytes.len() / OFFSET_ENTRY_BYTES);
        let mut before: Option<OffsetEntry> = None;
        for (at, chunk) in bytes.chunks_exact(OFFSET_ENTRY_BYTES).enumerate() {
            let entry = OffsetEntry { last: be_i32(chunk, 0), position: be_i32(chunk, 4) };
            if entry.last < 0 || entry.position < 0 || entry.position as u64 >= segment_bytes {
                return Err(IndexError::Range { at });
            }
            // Kafka itself may write the first entry with position 0, once.
            if before.is_some_and(|before| before.last >= entry.last || before.position >= entry.position) {
                return Err(IndexError::Order { at });
            }
            before = Some(entry);
            entries.push(entry);
        }
        Ok(OffsetIndex { entries })
    }
}

/// An entry of the time index: no record up to the offset is younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    pub timestamp: i64,
    /// Last offset of the batch that has this timestamp, less the base.
    pub relative: i32,
}

/// From timestamp to offset, sparse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeIndex {
    entries: Vec<TimeEntry>,
}

impl TimeIndex {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry, unless its timestamp is not younger than the last one's
    /// (`TimeIndex.maybeAppend`).
    pub fn push_if_younger(&mut self, entry: TimeEntry) {
        match self.entries.last() {
            Some(last) if last.timestamp >= entry.timestamp => {}
            Some(last) => {
                assert!(last.relative <= entry.relative, "time index entry {entry:?} after {last:?}");
                self.entries.push(entry);
            }
            None => self.entries.push(entry),
        }
    }

    pub fn last(&self) -> Option<TimeEntry> {
        self.entries.last().copied()
    }

    /// The youngest entry that is not younger than `timestamp`: a search for the
    /// first record at or after `timestamp` may begin at its offset.
    pub fn floor(&self, timestamp: i64) -> Option<TimeEntry> {
        let after = self.entries.partition_point(|entry| entry.timestamp <= timestamp);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    pub fn encode(&self) -> Vec<u8> {
        self.encode_first(self.entries.len())
    }

    /// The bytes of the first `count` entries.
    pub fn encode_first(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * TIME_ENTRY_BYTES);
        for entry in &self.entries[..count] {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
        }
        bytes
    }

    /// Reads a file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<TimeIndex, IndexError> {
        if !bytes.len().is_multiple_of(TIME_ENTRY_BYTES) {
            return Err(IndexError::Length { len: bytes.len(), entry: TIME_ENTRY_BYTES });
        }
        let mut entries: Vec<TimeEntry> = Vec::with_capacity(bytes.len() / TIME_ENTRY_BYTES);
        for (at, chunk) in bytes.chunks_exact(TIME_ENTRY_BYTES).enumerate() {
            let mut timestamp = [0; 8];
            timestamp.copy_from_slice(&chunk[..8]);
            let entry = TimeEntry { timestamp: i64::from_be_bytes(timestamp), relative: be_i32(chunk, 8) };
            if entry.relative < 0 {
                return Err(IndexError::Range { at });
            }
            if entries.last().is_some_and(|last| last.timestamp >= entry.timestamp || last.relative > entry.relative) {
                return Err(IndexError::Order { at });
            }
            entries.push(entry);
        }
        Ok(TimeIndex { entries })
    }
}

/// The indexes of one segment, and the rule by which they grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
    /// Bytes appended since the last offset entry.
    since_entry: u64,
}

/// What the indexes need to know of a batch.
#[derive(Clone, Copy, Debug)]
pub struct IndexedBatch {
    /// Last offset, less the segment's base.
    pub last: i32,
    pub position: u64,
    pub size: u64,
}

impl Indexes {
    pub fn of(offsets: OffsetIndex, times: TimeIndex) -> Indexes {
        Indexes { offsets, times, since_entry: 0 }
    }

    /// Takes an appended batch into account. `youngest` is the segment's largest
    /// timestamp with the batch included (`LogSegment.append`).
    pub fn add(&mut self, batch: IndexedBatch, youngest: Youngest, interval_bytes: u64, base: Offset) {
        if self.since_entry > interval_bytes {
            self.offsets.push(batch.last, batch.position as i32);
            self.add_time(youngest, base);
            self.since_entry = 0;
        }
        self.since_entry += batch.size;
    }

    /// Cuts them to what they said before the batch at the last offset entry below the relative offset
    /// `below` was added, as if the batches up to there had just been appended. Gives that
    /// entry: the last offset, relative, and the position of the batch to go on with.
    /// `None`: there is no such entry.
    pub fn cut_before(&mut self, below: i64) -> Option<(i32, u64)> {
        let kept = self.offsets.entries.partition_point(|entry| i64::from(entry.last) < below).checked_sub(1)?;
        let entry = self.offsets.entries[kept];
        self.offsets.entries.truncate(kept);
        let before = self.offsets.last().map_or(0, |(_, position)| position);
        self.since_entry = entry.position as u64 - before;
        // What the batch itself, or one behind it, added comes back with them.
        let times = self.times.entries.partition_point(|time| time.relative < entry.last);
        self.times.entries.truncate(times);
        Some((entry.last, entry.position as u64))
    }

    /// Closes the time index with the segment's largest timestamp (`onBecomeInactiveSegment`).
    pub fn add_time(&mut self, youngest: Youngest, base: Offset) {
        if youngest.timestamp >= 0 {
            let relative = (youngest.offset.0 - base.0) as i32;
            self.times.push_if_younger(TimeEntry { timestamp: youngest.timestamp, relative });
        }
    }

    /// Whether one of the two has as many entries as `segment.index.bytes` allows.
    pub fn full(&self, index_bytes: usize) -> bool {
        self.offsets.len() >= index_bytes / OFFSET_ENTRY_BYTES
            // One place is kept for the entry that closes the time index.
            || self.times.len() + 1 >= index_bytes / TIME_ENTRY_BYTES
    }
}

/// The largest timestamp so far and the last offset of the first batch that has it
/// (`TimestampOffset`). `timestamp` is −1 when no batch has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Youngest {
    pub timestamp: i64,
    pub offset: Offset,
}

impl Youngest {
    pub const NONE: Youngest = Youngest { timestamp: -1, offset: Offset(-1) };

    /// With a batch of this max timestamp and last offset added.
    pub fn with(self, timestamp: i64, last: Offset) -> Youngest {
        if timestamp > self.timestamp { Youngest { timestamp, offset: last } } else { self }
    }
}

fn be_i32(bytes: &[u8], at: usize) -> i32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(i32, i32)]) -> OffsetIndex {
        let mut index = OffsetIndex::default();
        for &(last, position) in entries {
            index.push(last, position);
        }
        index
    }

    #[test]
    fn floor_and_ceiling_enclose_the_batch() {
        // Batches 0..=4 at 0, 5..=9 at 100, 10..=14 at 200, 15..=19 at 300; the 2nd and 4th are indexed.
        let index = index(&[(9, 100), (19, 300)]);
        for (offset, floor, ceiling) in [
            (0, 0, Some(100)),
            (4, 0, Some(100)),
            (5, 0, Some(100)),
            (9, 100, Some(100)),
            (10, 100, Some(300)),
            (18, 100, Some(300)),
            (19, 300, Some(300)),
            (20, 300, None),
        ] {
            assert_eq!((index.floor(offset), index.ceiling(offset)), (floor, ceiling), "{offset}");
        }
        assert_eq!((OffsetIndex::default().floor(7), OffsetIndex::default().ceiling(7)), (0, None));
    }

    #[test]
    fn bytes_come_back_and_wrong_ones_are_refused() {
        let offsets = index(&[(9, 100), (19, 300)]);
        assert_eq!(offsets.encode(), [0, 0, 0, 9, 0, 0, 0, 100, 0, 0, 0, 19, 0, 0, 1, 44]);
        assert_eq!(OffsetIndex::decode(&offsets.encode(), 400).unwrap(), offsets);
        let check = |bytes: &[u8], expected: IndexError| {
            assert_eq!(OffsetIndex::decode(bytes, 400).unwrap_err(), expected);
        };
        check(&[0; 9], IndexError::Length { len: 9, entry: 8 });
        // A preallocated index of a running Kafka: zeroes after the last entry.
        check(&[offsets.encode(), vec![0; 8]].concat(), IndexError::Order { at: 2 });
        check(&[255, 255, 255, 255, 0, 0, 0, 1], IndexError::Range { at: 0 });
        check(&[0, 0, 0, 1, 0, 0, 1, 144], IndexError::Range { at: 0 });

        let mut times = TimeIndex::default();
        for (timestamp, relative) in [(5, 1), (5, 2), (3, 3), (7, 4)] {
            times.push_if_younger(TimeEntry { timestamp, relative });
        }
        assert_eq!(times.len(), 2);
        assert_eq!(times.encode(), [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4]);
        assert_eq!(TimeIndex::decode(&times.encode()).unwrap(), times);
        assert_eq!(TimeIndex::decode(&[0; 24]).unwrap_err(), IndexError::Order { at: 1 });
        for (timestamp, floor) in [(4, None), (5, Some(1)), (6, Some(1)), (7, Some(4)), (i64::MAX, Some(4))] {
            assert_eq!(times.floor(timestamp).map(|entry| entry.relative), floor, "{timestamp}");
        }
    }

    #[test]
    fn indexes_that_are_cut_grow_again_to_what_they_were() {
        let batches = |from: i32, indexes: &mut Indexes, mut youngest: Youngest| {
            for at in from..40 {
                // Timestamps that fall, stay and rise.
                let timestamp = 1000 + i64::from(at) - 7 * i64::from(at % 3);
                youngest = youngest.with(timestamp, Offset(50 + i64::from(at)));
                let batch = IndexedBatch { last: at, position: at as u64 * 100, size: 100 };
                indexes.add(batch, youngest, 250, Offset(50));
            }
            youngest
        };
        let mut whole = Indexes::default();
        let youngest = batches(0, &mut whole, Youngest::NONE);
        for below in 0..45 {
            let mut cut = whole.clone();
            let Some((last, position)) = cut.cut_before(below) else {
                assert!(below <= 3, "{below}");
                continue;
            };
            assert!(i64::from(last) < below && last > below.min(40) as i32 - 5, "{last} {below}");
            assert_eq!(position, last as u64 * 100);
            let known = cut.times.last().map_or(Youngest::NONE, |time| Youngest {
                timestamp: time.timestamp,
                offset: Offset(50 + i64::from(time.relative)),
            });
            assert_eq!(batches(last, &mut cut, known), youngest, "{below}");
            assert_eq!(cut, whole, "{below}");
            assert_eq!(cut.offsets.encode_first(2), whole.offsets.encode()[..16]);
        }
    }

    #[test]
    fn an_entry_each_interval() {
        let mut indexes = Indexes::default();
        for at in 0..10 {
            let batch = IndexedBatch { last: at, position: at as u64 * 100, size: 100 };
            let youngest = Youngest { timestamp: 1000 + i64::from(at), offset: Offset(50 + i64::from(at)) };
            indexes.add(batch, youngest, 250, Offset(50));
        }
        // More than 250 bytes lie before the batches 3, 6 and 9.
        assert_eq!(indexes.offsets, index(&[(3, 300), (6, 600), (9, 900)]));
        assert_eq!(indexes.times.last(), Some(TimeEntry { timestamp: 1009, relative: 9 }));
        assert!(indexes.full(24) && indexes.full(48) && !indexes.full(60), "{}", indexes.times.len());
    }
}
