//! The end of a log in memory: the buffer that takes appends, those that wait to
//! be written, and those that were written and still serve reads.
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
//! buffer as a whole. Once handed to the writer a buffer never changes, and it can
//! be shared with as many readers as there are.
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

/// A buffer of batches before it is written.
pub(super) struct Open {
    pub segment: Rc<Segment>,
    /// Where in the segment the buffer's first byte belongs; a multiple of a block.
    pub position: u64,
    /// This many of the first bytes are on the drive and not known here: they are
    /// read and put in before the buffer is written. Only in the block in which a
    /// log that was opened goes on.
    pub missing: usize,
    bytes: Buffer,
    /// For the blocks filled; given back when it is written, or let go unwritten.
    room: Room,
    /// The first whole batch that begins in here.
    first: Mark,
    /// Batches at distances, for finding one without walking all.
    marks: Vec<Mark>,
    /// The offset after the last batch.
    pub end: Offset,
    /// Batch bytes put in, counted over the life of the log, up to the last batch.
    pub bytes_end: u64,
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
        Open {
            segment: Rc::clone(segment),
            position,
            missing,
            room: memory.take(0),
            bytes,
            first,
            marks: Vec::new(),
            end: next,
            bytes_end: 0,
        }
    }

    /// Whether a batch of this size goes in. A write stays within its bound, unless
    /// a single batch is larger.
    pub fn fits(&self, size: usize) -> bool {
        size <= self.bytes.remaining()
    }

    /// Copies a batch in and gives its bytes to be stamped: the one copy that is made.
    pub fn push(&mut self, batch: &[u8], base: Offset, end: Offset, bytes_end: u64) -> &mut [u8] {
        let at = self.bytes.len();
        let marked = self.marks.last().map_or(self.first.at, |mark| mark.at);
        if at - marked >= TAIL_MARK_BYTES {
            self.marks.push(Mark { base, at });
        }
        self.bytes.push(batch);
        self.room.grow_to(self.bytes.len().next_multiple_of(BLOCK_BYTES));
        self.end = end;
        self.bytes_end = bytes_end;
        &mut self.bytes.as_mut_slice()[at..]
    }

    /// Puts the bytes in that are missing in front.
    pub fn complete(&mut self, block: &[u8]) {
        let missing = std::mem::take(&mut self.missing);
        self.bytes.as_mut_slice()[..missing].copy_from_slice(&block[..missing]);
    }

    /// Pads to a whole block; from here on the bytes do not change. The room is to be
    /// kept until they are written.
    pub fn freeze(self) -> (Frozen, Room) {
        assert_eq!(self.missing, 0, "a buffer is written before its first bytes are known");
        let len = self.bytes.len();
        self.bytes.pad_to_block();
        let frozen = Frozen {
            segment: self.segment,
            position: self.position,
            bytes: Rc::new(self.bytes),
            len,
            first: self.first,
            marks: self.marks,
            end: self.end,
            bytes_end: self.bytes_end,
        };
        (frozen, self.room)
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn before(&self) -> Before<'_> {
        Before {
            segment: &self.segment,
            position: self.position,
            bytes: self.bytes.as_slice(),
            missing: self.missing,
            first: self.first,
        }
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
pub(super) struct Frozen {
    pub segment: Rc<Segment>,
    pub position: u64,
    pub bytes: Rc<Buffer>,
    /// Bytes without the padding.
    len: usize,
    first: Mark,
    marks: Vec<Mark>,
    pub end: Offset,
    pub bytes_end: u64,
}

impl Frozen {
    /// Memory held.
    pub fn memory(&self) -> usize {
        self.bytes.len()
    }

    pub fn before(&self) -> Before<'_> {
        Before {
            segment: &self.segment,
            position: self.position,
            bytes: &self.bytes.as_slice()[..self.len],
            missing: 0,
            first: self.first,
        }
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
            && Rc::ptr_eq(&last.segment, &frozen.segment)
            && last.position == frozen.position
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

    /// The first offset that memory has.
    pub fn first_offset(&self) -> Option<Offset> {
        self.frozen.front().map(|frozen| frozen.first.base)
    }

    pub fn last(&self) -> Option<&Frozen> {
        self.frozen.back()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Lets the oldest buffer go, if all of it lies below `written`. Readers that
    /// hold it keep it. Gives the bytes let go.
    pub fn drop_oldest(&mut self, written: Offset) -> Option<usize> {
        if self.frozen.front()?.end > written {
            return None;
        }
        let oldest = self.frozen.pop_front()?;
        self.memory -= oldest.memory();
        if self.frozen.is_empty() {
            self.frozen = VecDeque::new();
        }
        Some(oldest.memory())
    }

    /// The wanted batches by reference; `None` when memory does not have the first.
    pub fn gather(&self, wanted: Wanted) -> Option<Rope> {
        let first = self.frozen.partition_point(|frozen| frozen.first.base <= wanted.from).checked_sub(1)?;
        let mut rope = Rope::new();
        let mut next = wanted.from;
        for frozen in self.frozen.range(first..) {
            if next >= wanted.upper {
                break;
            }
            let start = frozen.seek(next);
            let visible = frozen.seek(wanted.upper);
            if start >= visible {
                break;
            }
            let room = wanted.bytes_max.saturating_sub(rope.len());
            let mut end = frozen.border(start, start.saturating_add(room)).min(visible);
            if end == start && rope.is_empty() && wanted.at_least_one {
                end += frozen.batch(start).map_or(0, |batch| batch.size());
            }
            if end > start {
                rope.push(Piece::shared(Rc::clone(&frozen.bytes) as Rc<dyn AsRef<[u8]>>, start..end));
            }
            if end < frozen.len {
                break;
            }
            next = frozen.end;
        }
        Some(rope)
    }
}
