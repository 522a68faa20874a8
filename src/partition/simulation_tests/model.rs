//! What a partition should hold: every batch that was appended and not lost, and how far others may have changed it.

use std::collections::BTreeMap;

use super::super::*;
use crate::config::CleanupPolicy;
use crate::record::Scratch;
use crate::runtime::disk::simulated::Random;

/// What differs from run to run.
#[derive(Clone, Debug)]
pub struct Setup {
    pub compact: bool,
    pub delete: bool,
    /// Each append is flushed.
    pub flushes: bool,
    /// Small appends go through a journal.
    pub journal: bool,
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    /// Operations of the drive take their time.
    pub pace: bool,
    /// Bytes of a core's tails.
    pub tail_bytes: usize,
}

impl Setup {
    pub fn new(random: &mut Random) -> Setup {
        let mut any = |of: &[i64]| of[random.below(of.len() as u64) as usize];
        let policy = any(&[0, 0, 1, 2]);
        Setup {
            compact: policy > 0,
            delete: policy != 1,
            flushes: any(&[0, 1, 1]) == 1,
            journal: any(&[0, 1]) == 1,
            segment_bytes: any(&[2500, 2500, 5000]) as i32,
            segment_ms: any(&[i64::MAX, i64::MAX, 3000]),
            retention_ms: any(&[-1, 4000, 20_000]),
            retention_bytes: any(&[-1, -1, 9000]),
            delete_retention_ms: any(&[0, 2000]),
            file_delete_delay_ms: any(&[0, 1000]),
            pace: any(&[0, 1, 1]) == 1,
            tail_bytes: any(&[0, 12 << 10]) as usize,
        }
    }

    pub fn config(&self) -> TopicConfig {
        TopicConfig {
            cleanup_policy: CleanupPolicy { delete: self.delete, compact: self.compact },
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            index_interval_bytes: 500,
            flush_messages: if self.flushes { 1 } else { i64::MAX },
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            delete_retention_ms: self.delete_retention_ms,
            file_delete_delay_ms: self.file_delete_delay_ms,
            ..TopicConfig::default()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Plain,
    Transactional,
    /// The end of a transaction.
    Marker {
        commit: bool,
    },
}

/// A batch as it was appended.
#[derive(Clone, Debug)]
pub struct Entry {
    pub base: i64,
    /// The offset after it.
    pub next: i64,
    pub bytes: Vec<u8>,
    pub producer: u8,
    pub epoch: i16,
    pub sequence: i32,
    pub kind: Kind,
    pub leader_epoch: LeaderEpoch,
    pub appended: UnixMs,
    /// In which life of the process.
    pub life: u32,
    pub records: Vec<Known>,
}

/// A record as it was produced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The records of one batch.
pub fn records_of(batch: &BatchView<'_>) -> Vec<Known> {
    let mut scratch = Scratch::new();
    let mut walk = batch.records(&mut scratch).expect("its checksum is right");
    let mut known = Vec::new();
    while let Some(record) = walk.next().expect("its checksum is right") {
        let (offset, timestamp) = (record.offset, record.timestamp);
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        known.push(Known { offset, timestamp, key, value });
    }
    known
}

/// The batches in `bytes`, all of them whole.
pub fn batches_in(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let batch = BatchView::first(bytes).expect("what is served is whole batches");
        batches.push(batch.bytes().to_vec());
        bytes = &bytes[batch.size()..];
    }
    batches
}

/// See the module.
pub struct Model {
    pub setup: Setup,
    pub entries: Vec<Entry>,
    /// Compaction may have come to everything below.
    pub cleaned_to: i64,
    /// Below this nothing may ever be lost, if the power stays / if it is cut.
    pub kept_by_kill: i64,
    pub kept_by_cut: i64,
    /// The log starts nowhere before this, whatever happens, and nowhere behind that.
    pub start_told: i64,
    pub start_asked: i64,
}

impl Model {
    pub fn new(setup: Setup) -> Model {
        Model {
            setup,
            entries: Vec::new(),
            cleaned_to: 0,
            kept_by_kill: 0,
            kept_by_cut: 0,
            start_told: 0,
            start_asked: 0,
        }
    }

    pub fn end(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.next)
    }

    pub fn acknowledged(&mut self, next: i64, all: bool) {
        self.kept_by_kill = self.kept_by_kill.max(next);
        if all && self.setup.flushes {
            self.kept_by_cut = self.kept_by_cut.max(next);
        }
    }

    /// Epoch and next sequence number of a producer.
    pub fn next_of(&self, producer: u8) -> (i16, i32) {
        let mut of_producer = self.entries.iter().rev().filter(|entry| entry.producer == producer);
        of_producer
            .find(|entry| !matches!(entry.kind, Kind::Marker { .. }))
            .map_or((0, 0), |last| (last.epoch, last.sequence + (last.next - last.base) as i32))
    }

    /// Where the transaction begins that is open.
    pub fn open_transaction(&self) -> Option<&Entry> {
        let ended = |entry: &Entry| matches!(entry.kind, Kind::Marker { .. });
        let after = self.entries.iter().rposition(ended).map_or(0, |at| at + 1);
        self.entries[after..].iter().find(|entry| entry.kind == Kind::Transactional)
    }

    /// Aborted transactions: the first offset, the marker's, and the life in which that was appended.
    pub fn aborted(&self) -> Vec<(i64, i64, u32)> {
        let (mut aborted, mut first) = (Vec::new(), None);
        for entry in &self.entries {
            match entry.kind {
                Kind::Transactional => first = first.or(Some(entry.base)),
                Kind::Marker { commit } => {
                    if let Some(first) = first.take().filter(|_| !commit) {
                        aborted.push((first, entry.base, entry.life));
                    }
                }
                Kind::Plain => {}
            }
        }
        aborted
    }

    fn entry_of(&self, offset: i64) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.next <= offset);
        self.entries.get(at).filter(|entry| entry.base <= offset)
    }

    pub fn record(&self, offset: i64) -> Option<&Known> {
        self.entry_of(offset)?.records.iter().find(|record| record.offset == offset)
    }

    /// Of each key, where compaction has come to, the last record.
    fn latest(&self) -> BTreeMap<&[u8], i64> {
        let mut latest = BTreeMap::new();
        for record in self.entries.iter().filter(|entry| !entry.is_marker()).flat_map(|entry| &entry.records) {
            if let Some(key) = &record.key
                && record.offset < self.cleaned_to
            {
                latest.insert(&key[..], record.offset);
            }
        }
        latest
    }

    /// The records between two offsets that have to be there.
    pub fn required(&self, from: i64, until: i64, now: UnixMs) -> Vec<&Known> {
        let latest = self.latest();
        let first = self.entries.partition_point(|entry| entry.next <= from);
        let entries = self.entries[first..].iter().take_while(|entry| entry.base < until);
        let required = |entry: &Entry, record: &Known| {
            if !self.setup.compact || record.offset >= self.cleaned_to {
                return true;
            }
            let last = record.key.as_ref().is_some_and(|key| latest.get(&key[..]) == Some(&record.offset));
            // A tombstone may go when it has stayed for so long behind the first clean that met it.
            let young = now.0 - entry.appended.0 < self.setup.delete_retention_ms;
            !entry.is_marker() && last && (record.value.is_some() || young)
        };
        entries
            .flat_map(|entry| entry.records.iter().filter(move |record| required(entry, record)))
            .filter(|record| (from..until).contains(&record.offset))
            .collect()
    }

    /// Judges batches that were found in a row: each is one that was produced, as it was or as compaction left it, and
    /// between `from` and `until` nothing is missing.
    pub fn check(&self, found: &[Vec<u8>], from: i64, until: i64, now: UnixMs) {
        let mut before = -1;
        let mut offsets = BTreeSet::new();
        for bytes in found {
            let batch = BatchView::first(bytes).expect("a batch");
            let (base, next) = (batch.base_offset().0, batch.next_offset().0);
            assert!(base >= before, "the batch at {base} comes after {before}");
            before = next;
            let entry = self.entry_of(base).filter(|entry| (entry.base, entry.next) == (base, next));
            let entry = entry.unwrap_or_else(|| panic!("the batch {base}..{next} was never produced"));
            if *bytes == entry.bytes {
                offsets.extend(base..next);
                continue;
            }
            assert!(self.setup.compact && base < self.cleaned_to, "the batch at {base} is another one");
            assert!(batch.crc_is_right(), "the batch at {base} is damaged");
            let produced = BatchView::first(&entry.bytes).expect("a batch");
            let of_producer = |batch: &BatchView<'_>| {
                (batch.producer_id(), batch.producer_epoch(), batch.base_sequence(), batch.is_transactional())
            };
            assert_eq!(of_producer(&batch), of_producer(&produced), "the batch at {base}");
            assert_eq!((batch.leader_epoch(), batch.is_control()), (entry.leader_epoch, entry.is_marker()));
            for record in records_of(&batch) {
                let known = entry.records.iter().find(|known| known.offset == record.offset);
                assert_eq!(Some(&record), known, "a record of the batch at {base}");
                offsets.insert(record.offset);
            }
        }
        for record in self.required(from, until, now) {
            assert!(
                offsets.contains(&record.offset),
                "offset {} is missing between {from} and {until}; {} was cleaned, found were {offsets:?}",
                record.offset,
                self.cleaned_to
            );
        }
    }

    /// What a reader of a whole compacted log makes of it: the last value of each key.
    pub fn check_keys(&self, found: &[Vec<u8>], start: i64) {
        let last = |records: &mut dyn Iterator<Item = Known>| {
            let mut last: BTreeMap<Vec<u8>, Known> = BTreeMap::new();
            for mut record in records.filter(|record| record.offset >= start) {
                if let Some(key) = record.key.take() {
                    last.insert(key, record);
                }
            }
            // A tombstone says the same as nothing.
            last.retain(|_, record| record.value.is_some());
            last
        };
        let data = found.iter().map(|bytes| BatchView::first(bytes).expect("a batch"));
        let data = data.filter(|batch| !batch.is_control()).collect::<Vec<_>>();
        let found = last(&mut data.iter().flat_map(records_of));
        let entries = self.entries.iter().filter(|entry| !entry.is_marker());
        let wanted = last(&mut entries.flat_map(|entry| entry.records.iter().cloned()));
        assert!(found == wanted, "of the keys is left {found:#?}, and it should be {wanted:#?}");
    }

    /// The largest time of the batches between two offsets.
    pub fn youngest(&self, from: i64, until: i64) -> i64 {
        let within = self.entries.iter().filter(|entry| entry.next > from && entry.base < until);
        within.flat_map(|entry| &entry.records).map(|record| record.timestamp).max().unwrap_or(-1)
    }

    /// The bytes of the batches between two offsets, as they were produced.
    pub fn bytes(&self, from: i64, until: i64) -> i64 {
        let within = self.entries.iter().filter(|entry| entry.next > from && entry.base < until);
        within.map(|entry| entry.bytes.len() as i64).sum()
    }
}

impl Entry {
    pub fn is_marker(&self) -> bool {
        matches!(self.kind, Kind::Marker { .. })
    }
}
