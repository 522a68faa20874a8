//! Memory for the small pieces of answers: cut off one chunk after the other, so that an
//! answer of some bytes allocates nothing. A chunk is used again from its start once all
//! that was cut off it has been sent, and goes with the last of it otherwise.
//!
//! One chunk per thread. A peer that never takes its answer keeps one whole, which is why
//! it is small.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

const CHUNK_BYTES: usize = 4096;
/// What is larger gets memory of its own: it would waste the rest of a chunk.
const PIECE_BYTES_MAX: usize = 1024;

thread_local! {
    static CHUNK: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(CHUNK_BYTES));
}

/// What `write` writes, which is `bytes` or a little more or less.
pub(super) fn piece(bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    if bytes > PIECE_BYTES_MAX {
        let mut own = BytesMut::with_capacity(bytes);
        write(&mut own);
        return own.freeze();
    }
    CHUNK.with_borrow_mut(|chunk| {
        if chunk.capacity() < bytes {
            // Takes the chunk itself again when nobody holds a piece of it.
            chunk.reserve(CHUNK_BYTES);
        }
        write(chunk);
        chunk.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn pieces_stay_what_they_were_and_chunks_are_used_again() {
        let mut held: Vec<(u8, Bytes)> = Vec::new();
        for round in 0..2000u32 {
            let (fill, len) = (round as u8, (round as usize * 37) % 1500);
            let made = piece(len, |to| to.put_bytes(fill, len));
            assert_eq!(made.len(), len);
            held.push((fill, made));
            if held.len() > 40 {
                held.drain(..held.len() / 2);
            }
            assert!(held.iter().all(|(fill, bytes)| bytes.iter().all(|byte| byte == fill)));
        }
        drop(held);
        let start = |piece: &Bytes| piece.as_ptr() as usize;
        let first = start(&piece(1000, |to| to.put_bytes(1, 1000)));
        let starts: Vec<usize> = (0..1000).map(|_| start(&piece(1000, |to| to.put_bytes(1, 1000)))).collect();
        assert!(starts.iter().all(|start| start.abs_diff(first) <= CHUNK_BYTES), "one chunk serves them all");
    }
}
