//! Memory for direct I/O: what is written, and what was read.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::base::Piece;
use crate::base::limits::BLOCK_BYTES;

/// Block-aligned memory of whole blocks, not initialised.
pub(in crate::runtime) struct Memory {
    /// Invariant: allocated with `layout`, and ours alone.
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// Of `bytes`, rounded up to whole blocks, at least one.
    pub fn new(bytes: usize) -> Memory {
        let size = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Layout::from_size_align(size, BLOCK_BYTES).expect("a size that fits into memory");
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) });
        Memory { start: start.unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn capacity(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: by the invariant; nobody has a pointer to it any more: views borrow
        // their owner, and an operation under way owns what it uses.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Block-aligned memory that is filled from the front and then written to a file
/// as a whole. Only the bytes put in can be seen.
///
/// A shared buffer (`Rc`) can still grow, by [`Buffer::append`]: bytes that are in
/// never change, so it can serve readers, and be written as far as it went, at the
/// same time.
pub struct Buffer {
    /// Invariant: its first `len` bytes are initialised.
    memory: Memory,
    len: Cell<usize>,
    /// Whether an append is filling its place.
    appending: Cell<bool>,
}

impl Buffer {
    /// Room for `bytes`, rounded up to whole blocks, at least one.
    pub fn with_capacity(bytes: usize) -> Buffer {
        Buffer { memory: Memory::new(bytes), len: Cell::new(0), appending: Cell::new(false) }
    }

    /// Bytes put in.
    pub fn len(&self) -> usize {
        self.len.get()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Bytes that can still be put in.
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Puts bytes in behind those that are there.
    ///
    /// # Panics
    /// When they do not fit into [`Buffer::remaining`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.append(bytes, |_| {});
    }

    /// As [`Buffer::push`], while others may hold the buffer and look at what is in it;
    /// `change` gets the copy before anybody sees it.
    ///
    /// # Panics
    /// When the bytes do not fit, or within `change`.
    pub fn append(&self, bytes: &[u8], change: impl FnOnce(&mut [u8])) {
        let place = self.place(bytes.len());
        // SAFETY: `place` are that many bytes of our memory behind the first `len`, which is
        // all that anybody else can see, `bytes` included if it is a slice of this buffer.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        // SAFETY: initialised just now; `appending` keeps another append away from them, and
        // no slice covers them before `len` does.
        change(unsafe { std::slice::from_raw_parts_mut(place, bytes.len()) });
        self.placed(bytes.len());
    }

    /// Puts `count` zeroes in.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn push_zeroes(&self, count: usize) {
        let place = self.place(count);
        // SAFETY: as in `append`.
        unsafe { std::ptr::write_bytes(place, 0, count) };
        self.placed(count);
    }

    /// Where the next `count` bytes go; [`Buffer::placed`] has to follow.
    fn place(&self, count: usize) -> *mut u8 {
        assert!(count <= self.remaining(), "{count} bytes for {} of room", self.remaining());
        assert!(!self.appending.replace(true), "an append within an append");
        // SAFETY: `len` lies within the memory (just checked), or right behind it.
        unsafe { self.memory.start().as_ptr().add(self.len()) }
    }

    fn placed(&self, count: usize) {
        self.len.set(self.len() + count);
        self.appending.set(false);
    }

    /// Fills the last block up with zeroes. The memory comes unzeroed: what is
    /// written to disk must not be what somebody else left there.
    pub fn pad_to_block(&self) {
        self.push_zeroes(self.len().next_multiple_of(BLOCK_BYTES) - self.len());
    }

    /// Forgets the bytes behind the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len.set(self.len().min(len));
    }

    /// The bytes put in.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: by the invariants `len` initialised bytes lie at `start` for as
        // long as `memory` lives, and they change only through `&mut self`; an append
        // writes behind them.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr(), self.len()) }
    }

    /// The bytes put in, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` rules other views out.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().as_ptr(), self.len()) }
    }

    pub(super) fn assert_blocks(&self, position: u64) {
        assert!(
            position.is_multiple_of(BLOCK_BYTES as u64) && self.len().is_multiple_of(BLOCK_BYTES) && !self.is_empty(),
            "a write of {} bytes at {position} is not made of blocks",
            self.len()
        );
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.len(), self.capacity())
    }
}

/// Bytes that were read, counted by reference; a clone or a part costs no copy.
#[derive(Clone)]
pub struct Slice(Bytes);

#[derive(Clone)]
enum Bytes {
    /// Read by direct I/O. Invariant: the first `end` bytes are initialised, and never change.
    Read {
        memory: Rc<Memory>,
        start: usize,
        end: usize,
    },
    Owned {
        bytes: Rc<Vec<u8>>,
        start: usize,
        end: usize,
    },
}

impl Slice {
    /// No bytes.
    pub fn empty() -> Slice {
        Slice::from(Vec::new())
    }

    /// The first `count` bytes of `memory`.
    ///
    /// # Safety
    /// They are initialised.
    pub(super) unsafe fn read(memory: Memory, count: usize) -> Slice {
        assert!(count <= memory.capacity(), "{count} bytes of {}", memory.capacity());
        Slice(Bytes::Read { memory: Rc::new(memory), start: 0, end: count })
    }

    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Bytes::Read { memory, start, end } => {
                // SAFETY: by the invariant, and the memory lives as long as `self`.
                unsafe { std::slice::from_raw_parts(memory.start().as_ptr().add(*start), end - start) }
            }
            Bytes::Owned { bytes, start, end } => &bytes[*start..*end],
        }
    }

    /// A part of these bytes.
    ///
    /// # Panics
    /// When the range does not lie within them.
    pub fn part(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} bytes", self.len());
        let mut part = self.clone();
        match &mut part.0 {
            Bytes::Read { start, end, .. } | Bytes::Owned { start, end, .. } => {
                (*start, *end) = (*start + range.start, *start + range.end);
            }
        }
        part
    }

    /// A part of these bytes as a piece of an answer.
    ///
    /// # Panics
    /// When the range does not lie within them.
    pub fn into_piece(self, range: Range<usize>) -> Piece {
        Piece::shared(Rc::new(self), range)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        let end = bytes.len();
        Slice(Bytes::Owned { bytes: Rc::new(bytes), start: 0, end })
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}
