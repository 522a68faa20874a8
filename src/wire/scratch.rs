//! Memory for the small pieces of answers: cut off one chunk after the other, so that an
//! answer of some bytes allocates nothing. A chunk is used again from its start once all
//! that was cut off it has been sent, and goes with the last of it otherwise.
//!
//! One chunk per thread. A peer that never takes its answer keeps one whole, which is why
//! it is small.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use bytes::{Bytes, BytesMut};

const CHUNK_BYTES: usize = 4096;
/// What is larger gets memory of its own: it would waste the rest of a chunk.
const PIECE_BYTES_MAX: usize = 1024;

thread_local! {
    static CHUNK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// This thread's chunk, until dropped. To be written to at its end; [`Scratch::cut`] takes
/// what was written.
pub struct Scratch(BytesMut);

impl Scratch {
    /// Takes the chunk. Who takes a second one meanwhile gets a new one.
    pub fn take() -> Scratch {
        Scratch(CHUNK.try_with(|chunk| std::mem::take(&mut *chunk.borrow_mut())).unwrap_or_default())
    }

    /// Makes room for `bytes` more. What is already written may move.
    pub fn make_room(&mut self, bytes: usize) {
        if self.0.capacity() - self.0.len() < bytes {
            // Takes the chunk itself again when nobody holds a piece of it.
            let all = bytes + self.0.len();
            self.0.reserve(if all > PIECE_BYTES_MAX { bytes } else { CHUNK_BYTES });
        }
    }

    /// What was written since the last cut.
    pub fn cut(&mut self) -> Bytes {
        self.0.split().freeze()
    }
}

impl Deref for Scratch {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut chunk = std::mem::take(&mut self.0);
        chunk.clear();
        let _ = CHUNK.try_with(|place| {
            let mut place = place.borrow_mut();
            if chunk.capacity() <= CHUNK_BYTES && place.capacity() < chunk.capacity() {
                *place = chunk;
            }
        });
    }
}

/// What `write` writes, which is `bytes` or a little more or less.
pub(super) fn piece(bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    if bytes > PIECE_BYTES_MAX {
        let mut own = BytesMut::with_capacity(bytes);
        write(&mut own);
        return own.freeze();
    }
    let mut chunk = Scratch::take();
    chunk.make_room(bytes);
    write(&mut chunk);
    chunk.cut()
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

    #[test]
    fn two_who_write_at_a_time_do_not_mix() {
        let mut one = Scratch::take();
        one.make_room(10);
        one.put_slice(b"first ");
        let between = piece(10, |to| to.put_slice(b"between"));
        one.make_room(2000);
        one.put_slice(b"second");
        assert_eq!((one.cut(), between), (Bytes::from_static(b"first second"), Bytes::from_static(b"between")));
    }
}
