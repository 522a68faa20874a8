//! Memory to receive into. Frames are cut off its front and may be in use when the next
//! bytes come; a buffer whose room is used up is then set aside, and serves again, on
//! whichever connection of the core, once nobody holds a piece of it. A connection in the
//! steady state allocates none.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes read at a time while no large frame is under way; a frame that is larger gets
/// a buffer of its own size.
const BUSY_BYTES: usize = 64 * 1024;
/// An idle connection holds no more than this.
const IDLE_BYTES: usize = 4 * 1024;

/// Buffers of each size that a core keeps set aside: 4 MiB at most.
const ASIDE_MAX: usize = 60;
/// How many of them are asked whether they are free, from the one that has lain longest.
const ASKED_MAX: usize = 4;

#[derive(Default)]
struct Aside {
    idle: VecDeque<BytesMut>,
    busy: VecDeque<BytesMut>,
}

impl Aside {
    fn of(&mut self, bytes: usize) -> Option<&mut VecDeque<BytesMut>> {
        match bytes {
            IDLE_BYTES => Some(&mut self.idle),
            BUSY_BYTES => Some(&mut self.busy),
            _ => None,
        }
    }

    fn put(&mut self, buffer: BytesMut, bytes: usize) {
        if let Some(list) = self.of(bytes) {
            if list.len() == ASIDE_MAX {
                list.pop_front();
            }
            list.push_back(buffer);
        }
    }

    /// One of that size which nobody uses any more.
    fn take(&mut self, bytes: usize) -> Option<BytesMut> {
        let list = self.of(bytes)?;
        for _ in 0..list.len().min(ASKED_MAX) {
            let mut buffer = list.pop_front()?;
            buffer.clear();
            if buffer.try_reclaim(bytes) {
                return Some(buffer);
            }
            list.push_back(buffer);
        }
        None
    }
}

thread_local! {
    static ASIDE: RefCell<Aside> = RefCell::default();
}

/// See the module.
#[derive(Default)]
pub struct ReadBuffer {
    bytes: BytesMut,
    /// What it was made with: [`IDLE_BYTES`], [`BUSY_BYTES`], or the size of one large frame.
    made_with: usize,
}

impl ReadBuffer {
    /// What was received and not taken yet; received bytes go to its end.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Whether a frame of so many bytes gets a buffer of its own.
    pub fn is_large(bytes: usize) -> bool {
        bytes > BUSY_BYTES
    }

    /// Makes room for `missing` bytes at least.
    pub fn make_room(&mut self, missing: usize) {
        let len = self.bytes.len();
        let enough = if ReadBuffer::is_large(len + missing) { missing } else { missing.max(IDLE_BYTES / 2) };
        if self.bytes.capacity() - len >= enough {
            return;
        }
        let bytes = match len + missing {
            // Nothing, or the size of a frame, is waited for.
            ..=4 => IDLE_BYTES,
            5..=BUSY_BYTES => BUSY_BYTES,
            large => large,
        };
        if self.made_with >= bytes && self.bytes.try_reclaim(bytes - len) {
            return;
        }
        let mut next =
            ASIDE.with_borrow_mut(|aside| aside.take(bytes)).unwrap_or_else(|| BytesMut::with_capacity(bytes));
        next.extend_from_slice(&self.bytes);
        let used = std::mem::replace(&mut self.bytes, next);
        self.put_aside(used);
        self.made_with = bytes;
    }

    fn put_aside(&mut self, used: BytesMut) {
        let bytes = std::mem::take(&mut self.made_with);
        // Fails only while the thread ends.
        let _ = ASIDE.try_with(|aside| aside.borrow_mut().put(used, bytes));
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let used = std::mem::take(&mut self.bytes);
        self.put_aside(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives a frame of this size and gives it.
    fn frame(buffer: &mut ReadBuffer, fill: u8, bytes: usize) -> bytes::Bytes {
        buffer.make_room(4);
        buffer.bytes().extend_from_slice(&[fill; 4]);
        buffer.make_room(bytes - 4);
        let room = buffer.bytes().capacity() - buffer.bytes().len();
        assert!(room >= bytes - 4, "{room} for {bytes}");
        buffer.bytes().extend_from_slice(&vec![fill; bytes - 4]);
        buffer.bytes().split_to(bytes).freeze()
    }

    #[test]
    fn frames_stay_as_they_came_and_few_buffers_serve_them() {
        let mut buffer = ReadBuffer::default();
        let mut held: VecDeque<(u8, bytes::Bytes)> = VecDeque::new();
        let mut places = std::collections::BTreeSet::new();
        for round in 0..3000usize {
            let (fill, bytes) = (round as u8, 10 + (round * 7919) % 5000);
            held.push_back((fill, frame(&mut buffer, fill, bytes)));
            if held.len() > 5 {
                held.pop_front();
            }
            assert!(held.iter().all(|(fill, frame)| frame.iter().all(|byte| byte == fill)));
            places.insert(held.back().unwrap().1.as_ptr() as usize / BUSY_BYTES);
        }
        // Seven megabytes went through; each buffer lies in two of these places at most.
        assert!(places.len() <= 12, "{places:?}");
    }

    #[test]
    fn an_idle_connection_holds_little_and_a_large_frame_what_it_needs() {
        let mut buffer = ReadBuffer::default();
        buffer.make_room(4);
        assert_eq!(buffer.bytes().capacity(), IDLE_BYTES);
        drop(frame(&mut buffer, 1, 300));
        assert!(buffer.bytes().capacity() <= IDLE_BYTES);
        let large = frame(&mut buffer, 2, 3 << 20);
        assert!(large.len() == 3 << 20 && large.iter().all(|byte| *byte == 2));
        drop(large);
        // Back to small ones.
        let many: Vec<_> = (0..100).map(|fill| frame(&mut buffer, fill, 2000)).collect();
        assert!(many.iter().enumerate().all(|(fill, frame)| frame.iter().all(|byte| usize::from(*byte) == fill)));
        ASIDE.with_borrow(|aside| {
            assert!(aside.idle.len() <= ASIDE_MAX && aside.busy.len() <= ASIDE_MAX);
        });
    }
}
