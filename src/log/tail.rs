//! The end of a log in memory: the buffer that takes appends, those that wait to
//! be written to their segment, and those that were written and still serve reads.
//!
//! ```text
//!   file:      |  block 7  |  block 8  |  block 9  |
//!   buffer A:  [....bbbbbbbbCCCC00000]                 written: C is padded with zeroes
//!   buffer B:              [CCCCddddddddddddee0000]    begins with the copy of A's last partial block
//! ```
//!
//! A buffer begins on a block of its segment. What its predecessor had put into
//! that block is copied in front (fewer than 4096 bytes), so that writing the buffer
//! rewrites the block with what was there and what came after. A batch lies in one
//! buffer as a whole. Once handed to the writer a buffer never changes; before, it only
//! grows. So both can be shared with as many readers as there are.
//!
//! Relies on the runtime's buffers. Does no I/O.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::limits::{BLOCK_BYTES, LOG_WRITE_BYTES_MAX, TAIL_MARK_BYTES};
use crate::base::{Offset, Piece, Rope};
use crate::record::BatchView;
use crate::runtime::disk::Buffer;

use super::memory::{Room, TailMemory};
use super::segment::Segment;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A batch's offset and where it begins in a buffer.
#[derive(Clone, Copy, Debug)]
struct Mark {
    base: Offset,
    at: usize,
}

/// The batches that a buffer holds, and where they belong.
pub(super) struct Batches {
    pub segment: Rc<Segment>,
    /// Where in the segment the buffer's first byte belongs; a multiple of a block.
    pub position: u64,
    bytes: Rc<Buffer>,
    /// Bytes put in, without the padding.
    len: usize,
    /// The first whole batch that begins in here.
    first: Mark,
    /// Batches at distances, for finding one without walking all.
    marks: Vec<Mark>,
    /// The offset after the last batch.
    pub end: Offset,
    /// Batch bytes put in, counted over the life of the log, up to the last batch.
    pub bytes_end: u64,
}

/// A buffer of batches before it is written to its segment.
pub(super) struct Open {
    pub batches: Batches,
    /// The first offset that is put in here and was in no buffer before.
    pub base: Offset,
    /// This many of the first bytes are on the drive and not known here: they are
    /// read and put in before the buffer is written. Only in the block in which a
    /// log that was opened goes on.
    pub missing: usize,
    /// For the blocks filled; given back when it is written, or let go unwritten.
    room: Room,
}

impl Open {
    /// A buffer for a segment that holds `segment.size()` bytes, with room for
    /// `need` bytes and about `hint`. `before` is the buffer that the log's last
    /// bytes are in, if memory has them.
    pub fn after(
        before: Option<Before<'_>>,
        segment: &Rc<Segment>,
        next: Offset,
        need: usize,
        hint: usize,
        memory: &Rc<TailMemory>,
    ) -> Open {
        let size = segment.size();
        let position = size - size % BLOCK;
        let prefix = (size - position) as usize;
        let capacity = (prefix + need).max(hint.min(LOG_WRITE_BYTES_MAX));
        let mut bytes = Buffer::with_capacity(capacity);
        let mut first = Mark { base: next, at: prefix };
        let mut missing = 0;
        match before.filter(|before| Rc::ptr_eq(before.segment, segment)) {
            Some(before) => {
                let from = (position - before.position) as usize;
                bytes.push(&before.bytes[from..from + prefix]);
                if from == 0 {
                    missing = before.missing;
                    first = before.first;
                }
            }
            None => {
                bytes.push_zeroes(prefix);
                missing = prefix;
            }
        }
        let batches = Batches {
            segment: Rc::clone(segment),
            position,
            len: bytes.len(),
            bytes: Rc::new(bytes),
            first,
            marks: Vec::new(),
            end: next,
            bytes_end: 0,
        };
        Open { batches, base: next, missing, room: memory.take(0) }
    }

    /// Whether a batch of this size goes in. A write stays within its bound, unless
    /// a single batch is larger.
    pub fn fits(&self, size: usize) -> bool {
        size <= self.batches.bytes.remaining()
    }

    /// Copies a batch in and has `stamp` change the copy: the one copy that is made on
    /// the way to the segment.
    pub fn push(&mut self, batch: &[u8], base: Offset, end: Offset, bytes_end: u64, stamp: impl FnOnce(&mut [u8])) {
        let batches = &mut self.batches;
        let at = batches.len;
        let marked = batches.marks.last().map_or(batches.first.at, |mark| mark.at);
        if at - marked >= TAIL_MARK_BYTES {
            batches.marks.push(Mark { base, at });
        }
        batches.bytes.append(batch, stamp);
        batches.len = batches.bytes.len();
        batches.end = end;
        batches.bytes_end = bytes_end;
        self.room.grow_to(batches.len.next_multiple_of(BLOCK_BYTES));
    }

    /// Puts the bytes in that are missing in front.
    pub fn complete(&mut self, block: &[u8]) {
        let missing = std::mem::take(&mut self.missing);
        let bytes = &mut self.batches.bytes;
        if Rc::get_mut(bytes).is_none() {
            // A reader holds it: of what was appended since the log was opened, so it is
            // small, and this happens once.
            let mut copy = Buffer::with_capacity(bytes.capacity());
            copy.push(bytes.as_slice());
            *bytes = Rc::new(copy);
        }
        let bytes = Rc::get_mut(bytes).expect("nobody else holds it");
        bytes.as_mut_slice()[..missing].copy_from_slice(&block[..missing]);
    }

    /// Pads to a whole block; from here on the bytes do not change. The room is to be
    /// kept until they are written.
    pub fn freeze(self) -> (Frozen, Room) {
        assert_eq!(self.missing, 0, "a buffer is written before its first bytes are known");
        self.batches.bytes.pad_to_block();
        (Frozen(self.batches), self.room)
    }

    pub fn before(&self) -> Before<'_> {
        self.batches.before(self.missing)
    }
}

/// The buffer that the log's last bytes are in, whichever state it is in.
pub(super) struct Before<'a> {
    segment: &'a Rc<Segment>,
    position: u64,
    bytes: &'a [u8],
    missing: usize,
    first: Mark,
}

/// A buffer that was handed to the writer. Its bytes do not change any more.
pub(super) struct Frozen(pub Batches);

impl Frozen {
    /// Memory held.
    pub fn memory(&self) -> usize {
        self.0.bytes.len()
    }

    /// What is written.
    pub fn bytes(&self) -> &Rc<Buffer> {
        &self.0.bytes
    }

    pub fn before(&self) -> Before<'_> {
        self.0.before(0)
    }
}

impl Batches {
    fn before(&self, missing: usize) -> Before<'_> {
        Before {
            segment: &self.segment,
            position: self.position,
            bytes: &self.bytes.as_slice()[..self.len],
            missing,
            first: self.first,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Batches behind the first `bytes` of the log's life, as far as they are here.
    fn behind(&self, bytes: u64) -> &[u8] {
        let wanted = self.bytes_end.saturating_sub(bytes) as usize;
        &self.bytes.as_slice()[self.first.at.max(self.len.saturating_sub(wanted))..self.len]
    }

    /// Where the batch that holds `offset` begins; the end if all lie before it.
    fn seek(&self, offset: Offset) -> usize {
        if offset >= self.end {
            return self.len;
        }
        let after = self.marks.partition_point(|mark| mark.base <= offset);
        let mut at = after.checked_sub(1).map_or(self.first.at, |mark| self.marks[mark].at);
        while let Some(batch) = self.batch(at) {
            if batch.last_offset() >= offset {
                break;
            }
            at += batch.size();
        }
        at
    }

    /// The last border of batches that is at most `limit`, looking from the border `from`.
    fn border(&self, from: usize, limit: usize) -> usize {
        if limit >= self.len {
            return self.len;
        }
        let after = self.marks.partition_point(|mark| mark.at <= limit);
        let mut at = after.checked_sub(1).map_or(from, |mark| self.marks[mark].at.max(from));
        while let Some(batch) = self.batch(at) {
            if at + batch.size() > limit {
                break;
            }
            at += batch.size();
        }
        at
    }

    fn batch(&self, at: usize) -> Option<BatchView<'_>> {
        // The bytes were validated before they came in here.
        BatchView::first(&self.bytes.as_slice()[at..self.len]).ok()
    }
}

/// How much a read may take, and from where to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub from: Offset,
    /// Nothing at or past this offset.
    pub upper: Offset,
    pub bytes_max: usize,
    /// The first batch is taken even if it is larger than `bytes_max`.
    pub at_least_one: bool,
}

/// The buffers that serve reads, oldest first: consecutive, without a gap.
#[derive(Default)]
pub(super) struct Tail {
    frozen: VecDeque<Frozen>,
    memory: usize,
}

impl Tail {
    /// Adds the buffer that is being written. One that it repeats as a whole is let
    /// go; gives the bytes of that one.
    pub fn push(&mut self, frozen: Frozen) -> Option<usize> {
        let mut replaced = None;
        if let Some(last) = self.frozen.back()
            && Rc::ptr_eq(&last.0.segment, &frozen.0.segment)
            && last.0.position == frozen.0.position
        {
            let last = self.frozen.pop_back().expect("there is a last");
            self.memory -= last.memory();
            replaced = Some(last.memory());
        }
        self.memory += frozen.memory();
        self.frozen.push_back(frozen);
        replaced
    }

    pub fn is_empty(&self) -> bool {
        self.frozen.is_empty()
    }

    pub fn last(&self) -> Option<&Frozen> {
        self.frozen.back()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Lets the oldest buffer go, if all of it lies below `kept`. Readers that
    /// hold it keep it. Gives the bytes let go.
    pub fn drop_oldest(&mut self, kept: Offset) -> Option<usize> {
        if self.frozen.front()?.0.end > kept {
            return None;
        }
        let oldest = self.frozen.pop_front()?;
        self.memory -= oldest.memory();
        if self.frozen.is_empty() {
            self.frozen = VecDeque::new();
        }
        Some(oldest.memory())
    }
}

/// All of a log's buffers, oldest first.
#[derive(Clone, Copy)]
pub(super) struct Buffers<'a> {
    pub tail: &'a Tail,
    /// Those that wait for the writer.
    pub full: &'a VecDeque<Open>,
    /// The one that takes appends.
    pub open: Option<&'a Open>,
}

impl<'a> Buffers<'a> {
    fn waiting(self) -> impl Iterator<Item = &'a Batches> {
        self.full.iter().chain(self.open).map(|open| &open.batches)
    }

    /// The first offset that memory has.
    pub fn first_offset(self) -> Option<Offset> {
        self.from(0).next().map(|batches| batches.first.base)
    }

    /// From the `first` on.
    fn from(self, first: usize) -> impl Iterator<Item = &'a Batches> {
        let frozen = &self.tail.frozen;
        let written = frozen.range(first.min(frozen.len())..).map(|frozen| &frozen.0);
        written.chain(self.waiting().skip(first.saturating_sub(frozen.len())))
    }

    /// The wanted batches by reference; `None` when memory does not have the first.
    pub fn gather(self, wanted: Wanted) -> Option<Rope> {
        let frozen = &self.tail.frozen;
        let begun = match self.waiting().take_while(|batches| batches.first.base <= wanted.from).count() {
            0 => frozen.partition_point(|frozen| frozen.0.first.base <= wanted.from),
            waiting => frozen.len() + waiting,
        };
        let first = begun.checked_sub(1)?;
        let mut rope = Rope::new();
        let mut next = wanted.from;
        for batches in self.from(first) {
            if next >= wanted.upper {
                break;
            }
            let start = batches.seek(next);
            let visible = batches.seek(wanted.upper);
            if start >= visible {
                break;
            }
            let room = wanted.bytes_max.saturating_sub(rope.len());
            let mut end = batches.border(start, start.saturating_add(room)).min(visible);
            if end == start && rope.is_empty() && wanted.at_least_one {
                end += batches.batch(start).map_or(0, |batch| batch.size());
            }
            if end > start {
                rope.push(Piece::shared(Rc::clone(&batches.bytes) as Rc<dyn AsRef<[u8]>>, start..end));
            }
            if end < batches.len {
                break;
            }
            next = batches.end;
        }
        Some(rope)
    }

    /// Shows, in order, all batches behind the first `bytes` of the log's life. Memory
    /// has them.
    pub fn show_behind(self, bytes: u64, mut show: impl FnMut(&[u8])) {
        let mut next = bytes;
        for batches in self.from(self.tail.frozen.partition_point(|frozen| frozen.0.bytes_end <= bytes)) {
            let behind = batches.behind(next);
            assert_eq!(batches.bytes_end.max(next) - next, behind.len() as u64, "what is to be shown is not in memory");
            if !behind.is_empty() {
                show(behind);
                next = batches.bytes_end;
            }
        }
    }
}
