//! Bytes as a list of pieces that are passed on without being copied: an answer
//! is a few small header pieces around record bytes that stay where they lie.
//!
//! A piece keeps its owner alive; it belongs to one core (`Rc`), as everything
//! on the data path does.

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
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: VecDeque<Piece>,
    len: usize,
}

impl Rope {
    pub fn new() -> Rope {
        Rope::default()
    }

    pub fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub fn push_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.push(Piece::Bytes(bytes.into()));
    }

    /// Moves all pieces of `other` to the end of this one.
    pub fn append(&mut self, other: Rope) {
        self.len += other.len;
        self.pieces.extend(other.pieces);
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
    #[should_panic(expected = "of a buffer of 3 bytes")]
    fn a_range_outside_its_owner_is_refused() {
        let _ = Piece::shared(Rc::new(vec![1u8, 2, 3]), 1..4);
    }
}
