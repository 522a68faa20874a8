//! The bytes of a journal file: what is believed of it, and what never is.

use proptest::prelude::*;

use super::format::{self, FileHead, GROUP_HEAD_BYTES, GroupBuilder, GroupHead, Shape};
use crate::base::limits::BLOCK_BYTES;
use crate::base::{Offset, Uuid};
use crate::runtime::run_one;

const SHAPE: Shape = Shape { region_bytes: 4 * BLOCK_BYTES as u64, regions: 3 };
const CORE: u16 = 2;

/// A file that is written by hand.
#[derive(Clone)]
struct Written {
    bytes: Vec<u8>,
    life: u64,
}

impl Written {
    fn new(life: u64) -> Written {
        let mut file = Written { bytes: vec![0; SHAPE.file_bytes().unwrap() as usize], life };
        file.begin(life);
        file
    }

    fn begin(&mut self, life: u64) {
        self.life = life;
        let head = FileHead { core: u32::from(CORE), shape: SHAPE, life }.encode();
        self.bytes[..BLOCK_BYTES].copy_from_slice(head.as_slice());
    }

    /// Puts a group with the entry of `sequence` into block `block` behind the head.
    fn put(&mut self, block: usize, sequence: u64, oldest: u64, durable: u64) {
        let position = (1 + block) * BLOCK_BYTES;
        let group = group(self.life, sequence, position as u64, oldest, durable);
        self.bytes[position..position + group.len()].copy_from_slice(&group);
    }

    fn read(&self) -> Contents {
        read(&self.bytes, CORE)
    }

    /// The sequences of what is believed.
    #[track_caller]
    fn check(&self, expected: &[u64]) {
        let contents = self.read();
        assert_eq!(contents.damage, None);
        assert_eq!(contents.entries, expected.iter().map(|sequence| entry(*sequence)).collect::<Vec<_>>());
    }
}

/// What a file holds of a log, with the batches.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    topic: Uuid,
    partition: i32,
    base: Offset,
    end: Offset,
    batches: Vec<u8>,
}

#[derive(PartialEq, Eq, Debug, Default)]
struct Contents {
    entries: Vec<Entry>,
    damage: Option<String>,
}

/// Reads a file, and then its batches from where they are said to be.
fn read(bytes: &[u8], core: u16) -> Contents {
    let contents = format::read(bytes, core).unwrap();
    let of_log = |((topic, partition), entries): ((Uuid, i32), Vec<format::Entry>)| {
        entries.into_iter().map(move |entry| {
            assert_eq!(entry.core, core);
            let batches = bytes[entry.position as usize..][..entry.len as usize].to_vec();
            Entry { topic, partition, base: entry.base, end: entry.end, batches }
        })
    };
    let mut entries: Vec<Entry> = contents.entries.into_iter().flat_map(of_log).collect();
    entries.sort_by_key(|entry| entry.base);
    Contents { entries, damage: contents.damage }
}

fn entry(sequence: u64) -> Entry {
    Entry {
        topic: Uuid([sequence as u8; 16]),
        partition: sequence as i32,
        base: Offset(sequence as i64 * 10),
        end: Offset(sequence as i64 * 10 + 3),
        batches: format!("batches of {sequence}").into_bytes(),
    }
}

fn group(life: u64, sequence: u64, position: u64, oldest: u64, durable: u64) -> Vec<u8> {
    let Entry { topic, partition, base, end, batches } = entry(sequence);
    let mut group = GroupBuilder::new(BLOCK_BYTES);
    group.entry(topic, partition, base, end, batches.len());
    group.push(&batches);
    group.finish(GroupHead { life, sequence, position, oldest, durable }).as_slice().to_vec()
}

fn with_core(test: impl FnOnce()) {
    // Buffers belong to an executor.
    run_one(async move { test() });
}

#[test]
fn a_run_is_read_from_the_oldest_needed_on_across_regions() {
    with_core(|| {
        let mut file = Written::new(7);
        file.check(&[]);
        file.put(0, 1, 1, 0);
        file.put(1, 2, 1, 1);
        file.check(&[1, 2]);
        // The region's last blocks stay as they were when a group does not fit.
        file.put(4, 3, 1, 2);
        file.check(&[1, 2, 3]);
        file.put(8, 4, 3, 3);
        file.check(&[3, 4]);
        // The second lap, over the first region.
        file.put(0, 5, 4, 4);
        file.check(&[4, 5]);
    });
}

#[test]
fn garbage_with_a_right_checksum_is_never_taken() {
    with_core(|| {
        let mut file = Written::new(7);
        for (block, sequence) in (0..12).zip(1..) {
            file.put(block, sequence, 1, sequence - 1);
        }
        // An older life of the same file: as a whole, and behind the first group of the new
        // one, with the sequence that would be next.
        let mut old = file.clone();
        old.begin(8);
        old.check(&[]);
        old.put(0, 1, 1, 0);
        old.check(&[1]);
        // An earlier lap: right life, right place, lower sequence.
        let mut lapped = file.clone();
        lapped.put(0, 13, 9, 12);
        lapped.put(1, 14, 9, 13);
        lapped.check(&[9, 10, 11, 12, 13, 14]);
        // Blocks of this life in another place.
        let mut moved = Written::new(7);
        moved.put(0, 1, 1, 0);
        let (from, to) = (BLOCK_BYTES, 2 * BLOCK_BYTES);
        let second = group(7, 2, (3 * BLOCK_BYTES) as u64, 1, 0);
        moved.bytes[to..to + BLOCK_BYTES].copy_from_slice(&second);
        moved.check(&[1]);
        moved.bytes.copy_within(from..to, 5 * BLOCK_BYTES);
        moved.check(&[1]);
        // Another core's file, as a whole and in part.
        let mut other = Written::new(9);
        other.put(1, 2, 1, 1);
        assert_eq!(read(&other.bytes, CORE + 1).entries, []);
        let mut mixed = Written::new(7);
        mixed.put(0, 1, 1, 0);
        mixed.bytes[to..to + BLOCK_BYTES].copy_from_slice(&other.bytes[to..to + BLOCK_BYTES]);
        mixed.check(&[1]);
    });
}

#[test]
fn a_group_that_is_torn_ends_the_run() {
    with_core(|| {
        let mut file = Written::new(7);
        for (block, sequence) in (0..3).zip(1..) {
            file.put(block, sequence, 1, 1);
        }
        for at in [0, 4, 8, 16, 24, 32, 40, 48, 52, GROUP_HEAD_BYTES, GROUP_HEAD_BYTES + 45] {
            let mut torn = file.clone();
            torn.bytes[2 * BLOCK_BYTES + at] ^= 0x11;
            torn.check(&[1]);
        }
    });
}

#[test]
fn what_was_durable_and_is_not_there_is_reported() {
    with_core(|| {
        let mut file = Written::new(7);
        file.put(0, 1, 1, 0);
        file.put(1, 2, 1, 0);
        file.put(4, 3, 1, 2);
        file.bytes[2 * BLOCK_BYTES] ^= 1;
        let contents = file.read();
        assert_eq!(contents.damage.as_deref(), Some("group 2 of 1 to 2 is not there"));
        // What else there is, is used.
        assert_eq!(contents.entries, [entry(1), entry(3)]);
        // A head that is not right, but for a file that is not ready yet.
        let mut broken = Written::new(7);
        broken.bytes[20] ^= 1;
        assert!(broken.read().damage.is_some());
        assert_eq!(read(&[0; 10_000], CORE), Contents::default());
        assert_eq!(read(&[], CORE), Contents::default());
        assert!(read(&Written::new(7).bytes, CORE + 1).damage.is_some());
    });
}

#[derive(Clone, Debug)]
enum Harm {
    Flip { at: usize, with: u8 },
    Cut { len: usize },
    Copy { from: usize, to: usize, len: usize },
}

fn harms() -> impl Strategy<Value = Vec<Harm>> {
    let file = SHAPE.file_bytes().unwrap() as usize;
    let harm = prop_oneof![
        4 => (0..file, 1..=255u8).prop_map(|(at, with)| Harm::Flip { at, with }),
        // Where heads are.
        4 => (0..13usize, 0..100usize, 1..=255u8).prop_map(|(block, at, with)| Harm::Flip { at: block * BLOCK_BYTES + at, with }),
        1 => (0..file).prop_map(|len| Harm::Cut { len }),
        2 => (0..13usize, 0..13usize, 1..4usize)
            .prop_map(|(from, to, len)| Harm::Copy { from: from * BLOCK_BYTES, to: to * BLOCK_BYTES, len: len * BLOCK_BYTES }),
    ];
    prop::collection::vec(harm, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a file holds, reading ends, and gives nothing that was not written.
    #[test]
    fn harm_gives_no_entry_that_was_not_written(harms in harms(), laps in 1..30u64) {
        run_one(async move {
            let mut file = Written::new(7);
            for sequence in 1..=laps {
                let oldest = sequence.saturating_sub(7).max(1);
                file.put(((sequence - 1) % 12) as usize, sequence, oldest, sequence - 1);
            }
            for harm in harms {
                let bytes = &mut file.bytes;
                match harm {
                    Harm::Flip { at, with } => if let Some(byte) = bytes.get_mut(at) { *byte ^= with },
                    Harm::Cut { len } => bytes.truncate(len),
                    Harm::Copy { from, to, len } => {
                        let len = len.min(bytes.len().saturating_sub(from.max(to)));
                        if len > 0 {
                            bytes.copy_within(from..from + len, to);
                        }
                    }
                }
            }
            let contents = file.read();
            for found in &contents.entries {
                prop_assert_eq!(found, &entry(found.partition as u64));
            }
            prop_assert!(contents.entries.windows(2).all(|pair| pair[0].base < pair[1].base));
            Ok(())
        })?;
    }

    #[test]
    fn arbitrary_bytes_are_no_groups(
        noise in prop::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES),
        head in any::<bool>(),
        magic in any::<bool>(),
    ) {
        run_one(async move {
            let mut file = Written::new(7);
            if head {
                file.bytes.truncate(BLOCK_BYTES);
                file.bytes.extend(&noise);
            } else {
                file.bytes = noise;
            }
            if magic && file.bytes.len() > BLOCK_BYTES + 64 {
                // A length and a life as they should be; only the checksum is not.
                let at = BLOCK_BYTES;
                file.bytes[at..at + 4].copy_from_slice(b"clgj");
                file.bytes[at + 8..at + 16].copy_from_slice(&7u64.to_be_bytes());
                file.bytes[at + 24..at + 32].copy_from_slice(&(at as u64).to_be_bytes());
            }
            prop_assert_eq!(file.read().entries, []);
            Ok(())
        })?;
    }
}
