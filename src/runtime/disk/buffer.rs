//! Memory for direct I/O: what is written, and what was read.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::rc::Rc;

use glommio::io::{DmaBuffer, ReadResult};

use crate::base::Piece;
use crate::base::limits::BLOCK_BYTES;

/// Block-aligned memory that is filled from the front and then written to a file
/// as a whole. Only the bytes put in can be seen.
///
/// A shared buffer (`Rc`) can still grow, by [`Buffer::append`]: bytes that are in
/// never change, so it can serve readers at the same time. Its capacity ends at its
/// length from the first write on.
pub struct Buffer {
    /// Invariant: points to the memory that `memory` owns, of at least `len` bytes,
    /// the first `len` of which are initialised.
    start: NonNull<u8>,
    len: Cell<usize>,
    /// Whether an append is filling its place.
    appending: Cell<bool>,
    /// Invariant: its own length is the capacity. Cloned only by a write under way.
    memory: RefCell<Rc<DmaBuffer>>,
}

impl Buffer {
    /// Room for `bytes`, rounded up to whole blocks, at least one.
    ///
    /// # Panics
    /// Outside a core: the memory belongs to its executor.
    pub fn with_capacity(bytes: usize) -> Buffer {
        let capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let mut memory = glommio::allocate_dma_buffer(capacity);
        assert!(
            memory.len() == capacity && (memory.as_ptr() as usize).is_multiple_of(BLOCK_BYTES),
            "aligned memory of {capacity}"
        );
        let start = NonNull::new(memory.as_mut_ptr()).expect("allocated memory has an address");
        Buffer { start, len: Cell::new(0), appending: Cell::new(false), memory: RefCell::new(Rc::new(memory)) }
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
        self.memory.borrow().len()
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
    /// When the bytes do not fit, a write of the buffer is under way, or within `change`.
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
        self.assert_unshared();
        // SAFETY: `len` lies within the memory (just checked), or right behind it.
        unsafe { self.start.as_ptr().add(self.len()) }
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
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// The bytes put in, to be changed in place.
    ///
    /// # Panics
    /// When a write of this buffer that nobody waits for is still under way.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.assert_unshared();
        // SAFETY: as in `as_slice`, and `&mut self` rules other views out.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }

    /// The drive may still read the memory of a write whose future was dropped.
    fn assert_unshared(&self) {
        assert!(Rc::strong_count(&self.memory.borrow()) == 1, "the buffer is being written");
    }

    pub(super) fn assert_blocks(&self, position: u64) {
        assert!(
            position.is_multiple_of(BLOCK_BYTES as u64) && self.len().is_multiple_of(BLOCK_BYTES) && !self.is_empty(),
            "a write of {} bytes at {position} is not made of blocks",
            self.len()
        );
    }

    /// The memory as glommio wants it for a write: of exactly the bytes put in.
    pub(super) fn for_write(&self) -> Rc<DmaBuffer> {
        let mut memory = self.memory.borrow_mut();
        if memory.len() != self.len() {
            // The first write: from now on the capacity is the length, and a later
            // write, which finds the memory shared, need not trim.
            Rc::get_mut(&mut memory).expect("shared memory has been trimmed before").trim_to_size(self.len());
        }
        Rc::clone(&memory)
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
pub struct Slice(Memory);

#[derive(Clone)]
enum Memory {
    /// Read by direct I/O.
    Read(ReadResult),
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

    pub(super) fn read(result: ReadResult) -> Slice {
        Slice(Memory::Read(result))
    }

    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Memory::Read(result) => result,
            Memory::Owned { bytes, start, end } => &bytes[*start..*end],
        }
    }

    /// A part of these bytes.
    ///
    /// # Panics
    /// When the range does not lie within them.
    pub fn part(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} bytes", self.len());
        Slice(match &self.0 {
            Memory::Read(result) => {
                Memory::Read(ReadResult::slice(result, range.start, range.len()).unwrap_or_default())
            }
            Memory::Owned { bytes, start, .. } => {
                Memory::Owned { bytes: Rc::clone(bytes), start: start + range.start, end: start + range.end }
            }
        })
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
        Slice(Memory::Owned { bytes: Rc::new(bytes), start: 0, end })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::run_one;

    #[test]
    fn readers_keep_what_they_see_while_a_buffer_grows() {
        run_one(async {
            let buffer = Rc::new(Buffer::with_capacity(1));
            buffer.append(b"abc", |place| place[1] = b'B');
            let (reader, seen) = (Rc::clone(&buffer), buffer.as_slice());
            buffer.append(b"def", |place| place.make_ascii_uppercase());
            assert_eq!((seen, reader.as_slice()), (&b"aBc"[..], &b"aBcDEF"[..]));
            // Its own bytes as well.
            buffer.append(&reader.as_slice()[..3], |_| {});
            buffer.pad_to_block();
            assert_eq!((buffer.len(), &buffer.as_slice()[..11]), (BLOCK_BYTES, &b"aBcDEFaBc\0\0"[..]));
        });
    }

    #[test]
    #[should_panic(expected = "an append within an append")]
    fn a_place_has_one_who_fills_it() {
        run_one(async {
            let buffer = Buffer::with_capacity(1);
            buffer.append(b"abc", |_| buffer.append(b"def", |_| {}));
        });
    }
}
