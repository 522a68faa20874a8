//! Bytes as a list of pieces that are passed on without being copied: an answer
//! is a few small header pieces around record bytes that stay where they lie.
//!
//! A piece keeps its owner alive; it belongs to one core (`Rc`), as everything
//! on the data path does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

/// Some bytes and what keeps them alive.
#[derive(Clone)]
pub enum Piece {
    /// Header bytes, or a slice of a request's frame.
    Bytes(Bytes),
    /// A range of a buffer that others on this core hold too: a log's tail, or
    /// what was read from disk.
    Shared { owner: Rc<dyn AsRef<[u8]>>, start: usize, end: usize },
}

impl Piece {
    /// A range of a shared buffer.
    ///
    /// # Panics
    /// When the range does not lie within the owner's bytes: a caller's mistake.
    pub fn shared(owner: Rc<dyn AsRef<[u8]>>, range: Range<usize>) -> Piece {
        let len = owner.as_ref().as_ref().len();
        assert!(range.start <= range.end && range.end <= len, "{range:?} of a buffer of {len} bytes");
        Piece::Shared { owner, start: range.start, end: range.end }
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Shared { owner, start, end } => &owner.as_ref().as_ref()[*start..*end],
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Shared { start, end, .. } => end - start,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Bytes(bytes) => bytes::Buf::advance(bytes, count),
            Piece::Shared { start, .. } => *start += count,
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.len())
    }
}

/// A list of pieces with their total length. Empty pieces are not kept.
#[derive(Debug, Default)]
pub struct Rope {
    /// From [`LISTS`], and back there when dropped.
    pieces: VecDeque<Piece>,
    len: usize,
}

thread_local! {
    /// Empty lists for the next ropes of this thread: an answer is two or three ropes, and
    /// none of them allocates.
    static LISTS: RefCell<Vec<VecDeque<Piece>>> = const { RefCell::new(Vec::new()) };
}

/// Lists that are kept, and how many pieces one that is kept has room for: some 150 KiB
/// per core.
const LISTS_MAX: usize = 64;
const LIST_PIECES_MAX: usize = 64;

impl Clone for Rope {
    fn clone(&self) -> Rope {
        let mut clone = Rope::new();
        self.pieces.iter().for_each(|piece| clone.push(piece.clone()));
        clone
    }
}

impl Drop for Rope {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.pieces);
        if list.capacity() == 0 || list.capacity() > LIST_PIECES_MAX {
            return;
        }
        list.clear();
        // Fails only while the thread ends.
        let _ = LISTS.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < LISTS_MAX {
                lists.push(list);
            }
        });
    }
}

impl Rope {
    pub fn new() -> Rope {
        Rope::default()
    }

    pub fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.have_list();
            self.pieces.push_back(piece);
        }
    }

    /// Takes an unused list when there is none yet.
    fn have_list(&mut self) {
        if self.pieces.capacity() == 0 {
            self.pieces = LISTS.try_with(|lists| lists.borrow_mut().pop()).ok().flatten().unwrap_or_default();
        }
    }

    pub fn push_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.push(Piece::Bytes(bytes.into()));
    }

    /// Moves all pieces of `other` to the end of this one.
    pub fn append(&mut self, mut other: Rope) {
        self.len += other.len;
        match self.pieces.is_empty() {
            // Its own list goes where that of `other` would have gone.
            true => std::mem::swap(&mut self.pieces, &mut other.pieces),
            false => self.pieces.append(&mut other.pieces),
        }
        other.len = 0;
    }

    /// All bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Drops the first `count` bytes: they have been sent.
    ///
    /// # Panics
    /// When there are fewer than `count` bytes.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance by {count} of {} bytes", self.len);
        self.len -= count;
        while count > 0 {
            let first = self.pieces.front_mut().expect("length counts the pieces");
            let here = first.len().min(count);
            if here == first.len() {
                self.pieces.pop_front();
            } else {
                first.advance(here);
            }
            count -= here;
        }
    }

    /// Copies everything into one buffer: for tests, and for bytes that have to
    /// leave their core.
    pub fn to_bytes(&self) -> Bytes {
        let mut flat = Vec::with_capacity(self.len);
        for piece in &self.pieces {
            flat.extend_from_slice(piece.as_slice());
        }
        flat.into()
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Rope {
        let mut rope = Rope::new();
        rope.push_bytes(bytes);
        rope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(parts: &[&'static str]) -> Rope {
        let mut rope = Rope::new();
        for (i, part) in parts.iter().enumerate() {
            if i % 2 == 0 {
                rope.push_bytes(Bytes::from_static(part.as_bytes()));
            } else {
                let owner = Rc::new(format!("<<{part}>>").into_bytes());
                rope.push(Piece::shared(owner, 2..2 + part.len()));
            }
        }
        rope
    }

    #[test]
    fn advance_equals_cutting_the_flat_bytes() {
        let parts = ["ab", "", "cde", "f", "", "ghij"];
        let flat = parts.concat();
        for first in 0..=flat.len() {
            for second in first..=flat.len() {
                let mut rope = rope(&parts);
                rope.advance(first);
                rope.advance(second - first);
                assert_eq!(rope.to_bytes(), &flat.as_bytes()[second..]);
                assert_eq!(rope.len(), flat.len() - second);
                assert!(rope.pieces().all(|p| !p.is_empty()));
            }
        }
    }

    #[test]
    fn lists_are_used_again_and_hold_nothing() {
        let owner: Rc<dyn AsRef<[u8]>> = Rc::new(vec![7u8; 10]);
        for _ in 0..3 {
            let mut whole = Rope::new();
            for _ in 0..5 {
                let mut part = Rope::new();
                part.push(Piece::shared(Rc::clone(&owner), 2..5));
                whole.append(part);
            }
            assert_eq!((whole.len(), whole.pieces().len()), (15, 5));
            assert_eq!(whole.clone().to_bytes(), [7; 15][..]);
            drop(whole);
            assert_eq!(Rc::strong_count(&owner), 1);
        }
        let mut long = Rope::new();
        (0..LIST_PIECES_MAX * 4).for_each(|_| long.push_bytes(Bytes::from_static(b"x")));
        drop(long);
        let kept = LISTS.with_borrow(|lists| lists.iter().map(VecDeque::capacity).max());
        assert!(kept.is_some_and(|kept| kept <= LIST_PIECES_MAX), "{kept:?}");
    }

    #[test]
    #[should_panic(expected = "of a buffer of 3 bytes")]
    fn a_range_outside_its_owner_is_refused() {
        let _ = Piece::shared(Rc::new(vec![1u8, 2, 3]), 1..4);
    }
}
