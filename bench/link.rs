//! One connection of a measurement, never waited for: what the socket does not
//! take now is kept, what has not arrived is not there yet.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Instant;

use crate::answers::Answers;
use crate::failure::{Doing, Outcome};

/// Smaller frames are gathered into one write.
pub const GATHER_BYTES_MAX: usize = 64 << 10;

/// Reads in one turn: then other connections of the thread have theirs.
const READS_A_TURN: usize = 2;

pub struct Link {
    stream: TcpStream,
    answers: Answers<TcpStream>,
    /// Small frames on their way into the socket; those before `out_at` are in it.
    out: Vec<u8>,
    out_at: usize,
    /// The socket took less than it was given: it says when it takes more.
    blocked: bool,
    /// When the last bytes came.
    pub heard: Instant,
    reads_left: usize,
}

impl Link {
    pub fn new(stream: TcpStream) -> Outcome<Link> {
        let what = || String::from("set up a connection");
        stream.set_nonblocking(true).doing(what)?;
        let answers = Answers::new(stream.try_clone().doing(what)?);
        Ok(Link { stream, answers, out: Vec::new(), out_at: 0, blocked: false, heard: Instant::now(), reads_left: 0 })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Where the next small frame is to be appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether frames wait for the socket.
    pub fn has_unsent(&self) -> bool {
        self.out_at < self.out.len()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Whether the socket is to be asked for room.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what was appended as far as the socket takes it.
    pub fn send(&mut self) -> Outcome<()> {
        while self.has_unsent() && !self.blocked {
            let count = write(&self.stream, &mut self.blocked, &self.out[self.out_at..])?;
            self.out_at += count;
        }
        if !self.has_unsent() {
            self.out.clear();
            self.out_at = 0;
        }
        Ok(())
    }

    /// Writes a large frame where it lies, as far as the socket takes it now, behind all that was appended (of which
    /// nothing may be unsent). Says how many bytes it took.
    pub fn send_directly(&mut self, bytes: &[u8]) -> Outcome<usize> {
        debug_assert!(!self.has_unsent(), "frames keep their order");
        let mut sent = 0;
        while sent < bytes.len() && !self.blocked {
            sent += write(&self.stream, &mut self.blocked, &bytes[sent..])?;
        }
        Ok(sent)
    }

    /// A turn begins: so many reads may be made again.
    pub fn begin_turn(&mut self) {
        self.reads_left = READS_A_TURN;
    }

    /// The next whole answer that is here, without its size; `None` when none is, or enough were read in this turn.
    pub fn next(&mut self) -> Outcome<Option<Range<usize>>> {
        loop {
            if let Some(frame) = self.answers.arrived()? {
                return Ok(Some(frame));
            }
            if self.reads_left == 0 {
                return Ok(None);
            }
            self.reads_left -= 1;
            if !self.answers.receive()? {
                self.reads_left = 0;
                return Ok(None);
            }
            self.heard = Instant::now();
        }
    }

    /// The bytes of an answer; valid until the next call of [`next`](Link::next).
    pub fn bytes(&self, frame: Range<usize>) -> &[u8] {
        self.answers.bytes(frame)
    }
}

/// One write; `blocked` is set when the socket took less than it was given.
fn write(mut stream: &TcpStream, blocked: &mut bool, bytes: &[u8]) -> Outcome<usize> {
    match stream.write(bytes) {
        Ok(count) => {
            *blocked = count < bytes.len();
            Ok(count)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            *blocked = true;
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error).doing(|| String::from("send a request")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(stream).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn what_the_socket_does_not_take_is_kept_in_order() {
        let (mut link, mut other) = pair();
        let small: Vec<u8> = (0..200_000u32).flat_map(u32::to_be_bytes).collect();
        let large: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
        link.out().extend(&small);
        let expected = [small, large.clone()].concat();
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            other.read_exact(&mut got).unwrap();
            got == expected
        });
        let mut directly = 0;
        while directly < large.len() {
            // The socket is simply asked again here; a driver waits until it says so.
            link.unblock();
            link.send().unwrap();
            if !link.has_unsent() {
                directly += link.send_directly(&large[directly..]).unwrap();
            }
        }
        assert!(reading.join().unwrap());
    }

    #[test]
    fn answers_come_when_they_are_whole_and_an_end_is_a_failure() {
        let (mut link, mut other) = pair();
        other.write_all(&[0, 0, 0, 5, 1, 2]).unwrap();
        let mut seen = None;
        link.begin_turn();
        assert_eq!(link.next().unwrap(), None);
        other.write_all(&[3, 4, 5]).unwrap();
        while seen.is_none() {
            link.begin_turn();
            seen = link.next().unwrap();
        }
        assert_eq!(link.bytes(seen.unwrap()), [1, 2, 3, 4, 5]);
        drop(other);
        let ended = loop {
            link.begin_turn();
            match link.next() {
                Ok(None) => {}
                other => break other,
            }
        };
        assert!(ended.unwrap_err().0.contains("closed"));
    }
}
