//! The bytes of a journal file, and what can be believed of them.
//!
//! All numbers are big-endian. The first block is the file's head:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `corelogj` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | core |
//! | 16 | 8 | bytes of a region |
//! | 24 | 4 | regions |
//! | 28 | 8 | life: drawn each time the file begins anew |
//! | 36 | 4 | CRC-32C of the 36 bytes before |
//!
//! Regions follow, one behind the other. A region is filled from its front with groups,
//! each of which begins on a block, is one write of the drive and lies in one region:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | `clgj` |
//! | 4 | 4 | CRC-32C of what follows, up to the length |
//! | 8 | 8 | life of the file |
//! | 16 | 8 | sequence: the first group of a life is 1, each is one more than the last |
//! | 24 | 8 | its own position in the file |
//! | 32 | 8 | oldest sequence that was still needed |
//! | 40 | 8 | greatest sequence that was durable when it was written |
//! | 48 | 4 | length, head and entries, without the padding |
//! | 52 | 4 | number of entries |
//!
//! and then its entries, one per log:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 16 | topic id |
//! | 16 | 4 | partition |
//! | 20 | 8 | base offset of the first batch |
//! | 28 | 8 | the offset after the last batch |
//! | 36 | 4 | length of the batches, which follow as they are in the segment |
//!
//! **What is believed.** A group whose checksum is right, that names the life in the
//! file's head and the position it lies at. So neither an older life of the file, nor
//! blocks of another file or another place, are taken for groups; an earlier lap has
//! lower sequences. Of those groups the run counts that begins with the oldest one needed
//! (as the newest says) and goes on without a gap. Where it ends, a group was not
//! written: nobody was told that it, or one behind it, is durable. If one behind it says
//! otherwise, the drive has lost what it had: damage, which is reported.
//!
//! Reading allocates for nothing that a file claims.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::crc::crc32c;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{Offset, Uuid};
use crate::runtime::disk::Buffer;

const FILE_MAGIC: &[u8; 8] = b"corelogj";
const VERSION: u32 = 1;
const FILE_HEAD_BYTES: usize = 40;
const GROUP_MAGIC: &[u8; 4] = b"clgj";
/// Where the range of a group's checksum begins.
const GROUP_CRC_RANGE: usize = 8;
pub const GROUP_HEAD_BYTES: usize = 56;
pub const ENTRY_HEAD_BYTES: usize = 40;

/// How a file is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub region_bytes: u64,
    pub regions: u32,
}

impl Shape {
    /// Regions: small enough that one of them is filed while the others fill.
    const REGIONS: u32 = 8;
    /// A region holds several groups of small batches.
    const REGION_BYTES_MIN: u64 = 8 * BLOCK_BYTES as u64;

    /// Of at most `bytes`; `None` if that is too little to be of use.
    pub fn within(bytes: u64) -> Option<Shape> {
        let block = BLOCK_BYTES as u64;
        let region_bytes = bytes / u64::from(Shape::REGIONS) / block * block;
        (region_bytes >= Shape::REGION_BYTES_MIN).then_some(Shape { region_bytes, regions: Shape::REGIONS })
    }

    pub fn region_start(&self, region: u32) -> u64 {
        BLOCK_BYTES as u64 + u64::from(region) * self.region_bytes
    }

    /// `None` for what no file is.
    pub fn file_bytes(&self) -> Option<u64> {
        self.region_bytes.checked_mul(u64::from(self.regions))?.checked_add(BLOCK_BYTES as u64)
    }
}

/// The first block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHead {
    pub core: u32,
    pub shape: Shape,
    pub life: u64,
}

impl FileHead {
    pub fn encode(&self) -> Buffer {
        let mut head = [0; FILE_HEAD_BYTES];
        put(&mut head, 0, FILE_MAGIC);
        put(&mut head, 8, &VERSION.to_be_bytes());
        put(&mut head, 12, &self.core.to_be_bytes());
        put(&mut head, 16, &self.shape.region_bytes.to_be_bytes());
        put(&mut head, 24, &self.shape.regions.to_be_bytes());
        put(&mut head, 28, &self.life.to_be_bytes());
        let crc = crc32c(&head[..36]);
        put(&mut head, 36, &crc.to_be_bytes());
        let mut block = Buffer::with_capacity(BLOCK_BYTES);
        block.push(&head);
        block.pad_to_block();
        block
    }

    /// `None` when there is none, or it is not right.
    pub fn decode(bytes: &[u8]) -> Option<FileHead> {
        let head = bytes.get(..FILE_HEAD_BYTES)?;
        if head[..8] != *FILE_MAGIC || u32_at(head, 8) != VERSION || u32_at(head, 36) != crc32c(&head[..36]) {
            return None;
        }
        let shape = Shape { region_bytes: u64_at(head, 16), regions: u32_at(head, 24) };
        let whole = shape.region_bytes > 0
            && shape.regions > 0
            && shape.region_bytes.is_multiple_of(BLOCK_BYTES as u64)
            && shape.file_bytes().is_some();
        whole.then_some(FileHead { core: u32_at(head, 12), shape, life: u64_at(head, 28) })
    }
}

/// What a group says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupHead {
    pub life: u64,
    pub sequence: u64,
    pub position: u64,
    pub oldest: u64,
    pub durable: u64,
}

/// Builds a group.
pub struct GroupBuilder {
    bytes: Buffer,
    entries: u32,
}

impl GroupBuilder {
    /// Of `bytes` in all, heads included.
    pub fn new(bytes: usize) -> GroupBuilder {
        let mut buffer = Buffer::with_capacity(bytes);
        buffer.push(&[0; GROUP_HEAD_BYTES]);
        GroupBuilder { bytes: buffer, entries: 0 }
    }

    /// Begins an entry of `len` bytes of batches; [`GroupBuilder::push`] puts them in.
    pub fn entry(&mut self, topic: Uuid, partition: i32, base: Offset, end: Offset, len: usize) {
        self.bytes.push(&topic.0);
        self.bytes.push(&partition.to_be_bytes());
        self.bytes.push(&base.0.to_be_bytes());
        self.bytes.push(&end.0.to_be_bytes());
        self.bytes.push(&(len as u32).to_be_bytes());
        self.entries += 1;
    }

    pub fn push(&mut self, batches: &[u8]) {
        self.bytes.push(batches);
    }

    /// The blocks to be written.
    pub fn finish(mut self, head: GroupHead) -> Buffer {
        let (len, entries) = (self.bytes.len() as u32, self.entries);
        let bytes = self.bytes.as_mut_slice();
        put(bytes, 0, GROUP_MAGIC);
        put(bytes, 8, &head.life.to_be_bytes());
        put(bytes, 16, &head.sequence.to_be_bytes());
        put(bytes, 24, &head.position.to_be_bytes());
        put(bytes, 32, &head.oldest.to_be_bytes());
        put(bytes, 40, &head.durable.to_be_bytes());
        put(bytes, 48, &len.to_be_bytes());
        put(bytes, 52, &entries.to_be_bytes());
        let crc = crc32c(&bytes[GROUP_CRC_RANGE..]);
        put(bytes, 4, &crc.to_be_bytes());
        self.bytes.pad_to_block();
        self.bytes
    }
}

/// What a journal holds of one log: consecutive batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub topic: Uuid,
    pub partition: i32,
    pub base: Offset,
    /// The offset after the last batch.
    pub end: Offset,
    pub batches: Bytes,
}

/// What was found in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In the order in which they were written.
    pub entries: Vec<Entry>,
    /// Something that was durable is not there.
    pub damage: Option<String>,
}

/// Reads a whole journal file of core `core`.
pub fn read(file: &Bytes, core: u32) -> Contents {
    let Some(head) = FileHead::decode(file) else {
        // A file that is not ready yet has no head.
        let begun = file.iter().take(FILE_HEAD_BYTES).any(|byte| *byte != 0);
        return Contents { damage: begun.then(|| "its head is broken".into()), ..Contents::default() };
    };
    if head.core != core {
        let damage = format!("it was written for core {}", head.core);
        return Contents { damage: Some(damage), ..Contents::default() };
    }
    let end = head.shape.file_bytes().map_or(file.len(), |bytes| bytes.min(file.len() as u64) as usize);
    let mut groups: BTreeMap<u64, (GroupHead, Vec<Entry>)> = BTreeMap::new();
    let mut at = BLOCK_BYTES;
    while at < end {
        match group(&file.slice(at..end), head.life, at as u64) {
            Some((group, entries, len)) => {
                groups.insert(group.sequence, (group, entries));
                at += len.next_multiple_of(BLOCK_BYTES);
            }
            // Nothing, or of before: the next block may begin one.
            None => at += BLOCK_BYTES,
        }
    }
    let Some((last, (newest, _))) = groups.last_key_value() else { return Contents::default() };
    let (last, oldest) = (*last, newest.oldest);
    let durable = groups.values().map(|(group, _)| group.durable).max().unwrap_or(0);
    let mut run_end = oldest;
    while groups.contains_key(&run_end) {
        run_end = run_end.saturating_add(1);
    }
    let damage = (run_end <= durable).then(|| format!("group {run_end} of {oldest} to {durable} is not there"));
    // Of a damaged one as much as there is: each log sees for itself what it lacks.
    let until = if damage.is_some() { last.saturating_add(1) } else { run_end };
    let entries = groups.into_iter().filter(|(sequence, _)| (oldest..until).contains(sequence));
    Contents { entries: entries.flat_map(|(_, (_, entries))| entries).collect(), damage }
}

/// The group that `bytes` begin with, and its length.
fn group(bytes: &Bytes, life: u64, position: u64) -> Option<(GroupHead, Vec<Entry>, usize)> {
    let head = bytes.get(..GROUP_HEAD_BYTES)?;
    if head[..4] != *GROUP_MAGIC || u64_at(head, 8) != life || u64_at(head, 24) != position {
        return None;
    }
    let len = u32_at(head, 48) as usize;
    let whole = bytes.get(..len).filter(|whole| whole.len() >= GROUP_HEAD_BYTES)?;
    if u32_at(head, 4) != crc32c(&whole[GROUP_CRC_RANGE..]) {
        return None;
    }
    let parsed =
        GroupHead { life, sequence: u64_at(head, 16), position, oldest: u64_at(head, 32), durable: u64_at(head, 40) };
    let mut entries = Vec::new();
    let mut at = GROUP_HEAD_BYTES;
    while at < len {
        let entry = whole.get(at..at + ENTRY_HEAD_BYTES)?;
        let from = at + ENTRY_HEAD_BYTES;
        let to = from.checked_add(u32_at(entry, 36) as usize).filter(|to| *to <= len)?;
        entries.push(Entry {
            topic: Uuid(entry[..16].try_into().expect("16 bytes")),
            partition: u32_at(entry, 16) as i32,
            base: Offset(u64_at(entry, 20) as i64),
            end: Offset(u64_at(entry, 28) as i64),
            batches: bytes.slice(from..to),
        });
        at = to;
    }
    (entries.len() == u32_at(head, 52) as usize).then_some((parsed, entries, len))
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
