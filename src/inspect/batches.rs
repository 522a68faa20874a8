//! Walks the batches of a file from its beginning.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::base::Offset;
use crate::record::{BatchError, BatchView, MAGIC_END};

/// Bytes that are asked for at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A batch, and what was found of it besides its bytes.
pub struct Found<'a> {
    pub batch: BatchView<'a>,
    /// Where it begins in the file.
    pub position: u64,
    pub crc_is_right: bool,
}

/// What the walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Where the batches end.
    pub end: u64,
    /// The file's length.
    pub len: u64,
    /// What is there instead of another batch; `None` if the file ends.
    pub fault: Option<Fault>,
}

/// What is not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Zeroes up to the end of the file: allocated space.
    Zeroes,
    /// Zeroes, and then something else.
    ZeroesAmidst,
    Header(BatchError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Zeroes => f.write_str("zeroes up to the end of the file"),
            Fault::ZeroesAmidst => f.write_str("zeroes, and something behind them"),
            Fault::Header(error) => error.fmt(f),
        }
    }
}

/// Calls `on_batch` with each batch of the file, right or not, up to where there is none any more, or
/// until it breaks off.
///
/// # Errors
/// The file cannot be read.
pub fn walk(path: &Path, mut on_batch: impl FnMut(Found<'_>) -> ControlFlow<()>) -> io::Result<Walked> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes: Vec<u8> = Vec::new();
    // Where `bytes` begins in the file, and how many of them are done with.
    let (mut start, mut taken) = (0u64, 0usize);
    loop {
        let position = start + taken as u64;
        let need = match BatchView::first(&bytes[taken..]) {
            Ok(batch) => {
                taken += batch.size();
                if on_batch(Found { batch, position, crc_is_right: batch.crc_is_right() }).is_break() {
                    return Ok(Walked { end: start + taken as u64, len, fault: None });
                }
                continue;
            }
            Err(BatchError::Cut { need, .. }) => need,
            Err(error) => {
                let fault = match bytes[taken..].iter().take(MAGIC_END).all(|byte| *byte == 0) {
                    true if rest_is_zero(&bytes[taken..], &mut file)? => Fault::Zeroes,
                    true => Fault::ZeroesAmidst,
                    false => Fault::Header(error),
                };
                return Ok(Walked { end: position, len, fault: Some(fault) });
            }
        };
        bytes.drain(..taken);
        (start, taken) = (position, 0);
        let missing = need - bytes.len();
        // A length is a claim: memory is taken for what comes.
        let read = (&mut file).take(missing.max(CHUNK_BYTES) as u64).read_to_end(&mut bytes)?;
        if read < missing {
            let fault = match bytes.is_empty() {
                true => None,
                false if bytes.iter().all(|byte| *byte == 0) => Some(Fault::Zeroes),
                false => Some(Fault::Header(BatchError::Cut { have: bytes.len(), need })),
            };
            return Ok(Walked { end: start, len, fault });
        }
    }
}

fn rest_is_zero(bytes: &[u8], file: &mut File) -> io::Result<bool> {
    if bytes.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            read if chunk[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// The offset behind a batch, and whether it may follow one that ends before `next`.
pub fn follows(batch: &BatchView<'_>, next: Offset) -> bool {
    batch.base_offset() >= next && batch.last_offset_delta() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, NewRecord};

    fn batch(base: i64, value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(Offset(base));
        builder.push(NewRecord { timestamp: 5, key: None, value: Some(value), headers: &[] });
        builder.build()
    }

    fn check(bytes: &[u8], found: &[(u64, bool)], fault: Option<Fault>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut seen = Vec::new();
        let walked = walk(file.path(), |found| {
            seen.push((found.position, found.crc_is_right));
            ControlFlow::Continue(())
        });
        let walked = walked.unwrap();
        assert_eq!((&seen[..], walked.fault), (found, fault));
        assert_eq!(walked.len, bytes.len() as u64);
    }

    #[test]
    fn batches_and_what_is_behind_them() {
        let large = batch(1, &vec![7; 3 << 20]);
        let whole = [batch(0, b"a"), large.clone(), batch(2, b"b")].concat();
        let (one, two) = (batch(0, b"a").len() as u64, large.len() as u64);
        check(&whole, &[(0, true), (one, true), (one + two, true)], None);
        check(&[], &[], None);
        let mut flipped = whole.clone();
        flipped[one as usize + 70] ^= 4;
        check(&flipped, &[(0, true), (one, false), (one + two, true)], None);
        check(&[&whole[..], &[0; 100]].concat(), &[(0, true), (one, true), (one + two, true)], Some(Fault::Zeroes));
        let behind = [&batch(0, b"a")[..], &[0; 2 << 20], b"x"].concat();
        check(&behind, &[(0, true)], Some(Fault::ZeroesAmidst));
        let cut = &whole[..one as usize + 61];
        check(cut, &[(0, true)], Some(Fault::Header(BatchError::Cut { have: 61, need: two as usize })));
        check(&[0xff; 100], &[], Some(Fault::Header(BatchError::Length(-1))));
    }
}
