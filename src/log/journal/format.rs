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
//! A file is read twice, in pieces: once to see which groups count, once for what is in those.
//! What is kept is where each entry's batches lie; they are read when their log is open and
//! says which of them it lacks. Nothing is allocated for what a file claims.

use std::collections::{BTreeMap, HashMap};
use std::io;

use crate::base::crc::crc32c;
use crate::base::limits::{BLOCK_BYTES, JOURNAL_PIECE_BYTES, LOG_WRITE_BYTES_MAX};
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

/// Where consecutive batches of one log lie in a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub base: Offset,
    /// The offset after the last batch.
    pub end: Offset,
    /// Of the batches, in the file.
    pub position: u64,
    pub len: u32,
    /// Whose file it is: the core's number.
    pub core: u16,
}

/// What was found in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// By topic id and partition, in the order in which they were written.
    pub entries: HashMap<(Uuid, i32), Vec<Entry>>,
    /// Something that was durable is not there.
    pub damage: Option<String>,
}

/// A journal file, to be read.
pub trait Source {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `into` from `position`, all of which lies within the file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<()> {
        let from = position as usize;
        into.copy_from_slice(self.get(from..from + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A group whose checksum is right.
struct Group {
    head: GroupHead,
    position: u64,
    len: usize,
}

/// Reads the journal file of core `core`, in pieces.
///
/// # Errors
/// It cannot be read. What is wrong with its bytes is no error, see [`Contents::damage`].
pub fn read(file: &(impl Source + ?Sized), core: u16) -> io::Result<Contents> {
    let mut pieces = Pieces { file, len: file.length(), bytes: Vec::new(), from: 0 };
    let Some(head) = FileHead::decode(pieces.at(0, BLOCK_BYTES)?) else {
        // A file that is not ready yet has no head.
        let begun = pieces.at(0, FILE_HEAD_BYTES)?.iter().any(|byte| *byte != 0);
        return Ok(Contents { damage: begun.then(|| "its head is broken".into()), ..Contents::default() });
    };
    if head.core != u32::from(core) {
        let damage = format!("it was written for core {}", head.core);
        return Ok(Contents { damage: Some(damage), ..Contents::default() });
    }
    let end = head.shape.file_bytes().map_or(pieces.len, |bytes| bytes.min(pieces.len));
    pieces.len = end;
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    let mut at = BLOCK_BYTES as u64;
    while at < end {
        match group(pieces.at(at, LOG_WRITE_BYTES_MAX)?, head.life, at) {
            Some((head, len)) => {
                groups.insert(head.sequence, Group { head, position: at, len });
                at += (len as u64).next_multiple_of(BLOCK_BYTES as u64);
            }
            // Nothing, or of before: the next block may begin one.
            None => at += BLOCK_BYTES as u64,
        }
    }
    let Some((last, newest)) = groups.last_key_value() else { return Ok(Contents::default()) };
    let (last, oldest) = (*last, newest.head.oldest);
    let durable = groups.values().map(|group| group.head.durable).max().unwrap_or(0);
    let mut run_end = oldest;
    while groups.contains_key(&run_end) {
        run_end = run_end.saturating_add(1);
    }
    let damage = (run_end <= durable).then(|| format!("group {run_end} of {oldest} to {durable} is not there"));
    // Of a damaged one as much as there is: each log sees for itself what it lacks.
    let until = if damage.is_some() { last.saturating_add(1) } else { run_end };
    let mut contents = Contents { entries: HashMap::new(), damage };
    for (_, group) in groups.range(oldest.min(until)..until) {
        let bytes = pieces.at(group.position, group.len)?;
        entries(&bytes[..group.len.min(bytes.len())], |log, place| {
            let entry = Entry { position: group.position + place.position, core, ..place };
            contents.entries.entry(log).or_default().push(entry);
        });
    }
    Ok(contents)
}

/// A file of which a piece is in memory.
struct Pieces<'a, S: ?Sized> {
    file: &'a S,
    len: u64,
    bytes: Vec<u8>,
    /// Where in the file they begin.
    from: u64,
}

impl<S: Source + ?Sized> Pieces<'_, S> {
    /// Bytes from `position`: `len` of them, or up to the end of the file.
    fn at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let to = (position + len as u64).min(self.len);
        if position < self.from || to > self.from + self.bytes.len() as u64 {
            let wanted = (JOURNAL_PIECE_BYTES.max(len) as u64).min(self.len.saturating_sub(position));
            self.bytes.resize(wanted as usize, 0);
            self.from = position;
            self.file.read_at(position, &mut self.bytes)?;
        }
        let from = (position - self.from) as usize;
        Ok(&self.bytes[from.min(self.bytes.len())..(to.max(position) - self.from) as usize])
    }
}

/// What the group says of itself that `bytes` begin with, and its length.
fn group(bytes: &[u8], life: u64, position: u64) -> Option<(GroupHead, usize)> {
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
    (entries(whole, |_, _| {})? == u32_at(head, 52)).then_some((parsed, len))
}

/// Shows the entries of a group, with positions in it; gives how many there are. `None`: they do not
/// fill it.
fn entries(whole: &[u8], mut show: impl FnMut((Uuid, i32), Entry)) -> Option<u32> {
    let mut at = GROUP_HEAD_BYTES;
    let mut count = 0;
    while at < whole.len() {
        let entry = whole.get(at..at + ENTRY_HEAD_BYTES)?;
        let from = at + ENTRY_HEAD_BYTES;
        let len = u32_at(entry, 36);
        let to = from.checked_add(len as usize).filter(|to| *to <= whole.len())?;
        let log = (Uuid(entry[..16].try_into().expect("16 bytes")), u32_at(entry, 16) as i32);
        let base = Offset(u64_at(entry, 20) as i64);
        show(log, Entry { base, end: Offset(u64_at(entry, 28) as i64), position: from as u64, len, core: 0 });
        at = to;
        count += 1;
    }
    Some(count)
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
