//! Walks the batches of a file and checks each: recovery, rebuilding of indexes, replay.
//!
//! Believes nothing of what it reads: not a length (no memory is taken for one
//! before the batch's checksum was found right), not an offset.

use std::fmt;
use std::io;

use crate::base::Offset;
use crate::base::crc::crc32c_append;
use crate::base::limits::SCAN_BYTES;
use crate::record::{BATCH_HEADER_BYTES, BatchError, BatchView};
use crate::runtime::disk::File;
use crate::runtime::task;

/// Batches up to this size are read as a whole before their checksum is known.
const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// Where the checksum's range begins in a batch: at the attributes.
const CRC_RANGE: usize = 21;

/// A range of positions; `from` is where a batch begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub from: u64,
    pub to: u64,
}

/// What offsets the batches must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    /// The base of the segment: offsets are stored relative to it in 31 bits.
    base: Offset,
    /// The lowest offset that the next batch may begin with.
    next: Offset,
    /// Whether it must begin exactly there. Compaction leaves gaps.
    exact: bool,
    /// Nothing was seen yet.
    first: bool,
    /// Ends with the batch that reaches this offset.
    until: Offset,
}

/// No offset is behind it.
const NO_END: Offset = Offset(i64::MAX);

impl Expect {
    /// One after the other, with gaps.
    pub fn rising(base: Offset) -> Expect {
        Expect { base, next: base, exact: false, first: false, until: NO_END }
    }

    /// Without a gap from the first batch on, which may lie behind the base.
    pub fn exact_after_first(base: Offset) -> Expect {
        Expect { base, next: base, exact: true, first: true, until: NO_END }
    }

    /// And not beyond the batch that reaches `until`: the scan ends there, without a fault.
    pub fn until(self, until: Offset) -> Expect {
        Expect { until, ..self }
    }
}

/// Why the batches end where they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub position: u64,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Zeroes, as in space that was allocated and never written.
    Zeroes,
    Header(BatchError),
    Checksum,
    Offset {
        found: Offset,
        expected: Offset,
    },
    LastOffset {
        delta: i32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at position {}: ", self.position)?;
        match self.reason {
            Reason::Zeroes => f.write_str("zeroes instead of a batch"),
            Reason::Header(error) => error.fmt(f),
            Reason::Checksum => f.write_str("a batch whose checksum is wrong"),
            Reason::Offset { found, expected } => write!(f, "offset {found} where {expected} is due"),
            Reason::LastOffset { delta } => write!(f, "a batch that claims {delta} as the distance of its last offset"),
        }
    }
}

/// What a scan found.
#[derive(Clone, Debug)]
pub(super) struct Scanned {
    /// All before is whole batches that are right.
    pub end: u64,
    /// The offset after the last of them.
    pub next: Offset,
    /// `None`: the batches fill the range exactly, or reach the offset they were to.
    pub fault: Option<Fault>,
}

/// Walks the batches in `range` and calls `on_batch` with each that is right and
/// its position, up to the first that is not.
pub(super) async fn scan(
    file: &File,
    range: Range,
    mut expect: Expect,
    on_batch: &mut dyn FnMut(BatchView<'_>, u64),
) -> io::Result<Scanned> {
    let Range { from: mut position, mut to } = range;
    let mut wanted = SCAN_BYTES as u64;
    while position < to {
        let rest = to - position;
        if wanted > WHOLE_BYTES_MAX && !large_batch_is_right(file, position, wanted).await? {
            let fault = Fault { position, reason: Reason::Checksum };
            return Ok(Scanned { end: position, next: expect.next, fault: Some(fault) });
        }
        let bytes = file.read(position, wanted.min(rest) as usize).await?;
        if (bytes.len() as u64) < wanted.min(rest) {
            // The file is shorter than it was said to be.
            to = position + bytes.len() as u64;
        }
        wanted = SCAN_BYTES as u64;
        let mut at = 0;
        while at < bytes.len() {
            let reason = match BatchView::first(&bytes[at..]) {
                Ok(batch) => match check(&batch, &mut expect) {
                    Ok(()) => {
                        on_batch(batch, position + at as u64);
                        at += batch.size();
                        if expect.next >= expect.until {
                            return Ok(Scanned { end: position + at as u64, next: expect.next, fault: None });
                        }
                        continue;
                    }
                    Err(reason) => reason,
                },
                Err(BatchError::Cut { need, .. }) if position + (at + need) as u64 <= to => {
                    // It goes on behind what was read: the next read begins with it,
                    // and takes it as a whole if this one began with it already.
                    if at == 0 {
                        wanted = wanted.max(need as u64);
                    }
                    break;
                }
                Err(error) => header_fault(&bytes[at..], error),
            };
            let fault = Fault { position: position + at as u64, reason };
            return Ok(Scanned { end: fault.position, next: expect.next, fault: Some(fault) });
        }
        position += at as u64;
        task::yield_if_needed().await;
    }
    if position < range.to {
        let need = (range.to - position) as usize;
        let fault = Fault { position, reason: Reason::Header(BatchError::Cut { have: 0, need }) };
        return Ok(Scanned { end: position, next: expect.next, fault: Some(fault) });
    }
    Ok(Scanned { end: position, next: expect.next, fault: None })
}

/// Whether a batch is right and may come next.
pub(super) fn check(batch: &BatchView<'_>, expect: &mut Expect) -> Result<(), Reason> {
    let found = batch.base_offset();
    if found < expect.next || (expect.exact && !expect.first && found != expect.next) {
        return Err(Reason::Offset { found, expected: expect.next });
    }
    let delta = batch.last_offset_delta();
    if delta < 0 || batch.last_offset().0 - expect.base.0 > i64::from(i32::MAX) {
        return Err(Reason::LastOffset { delta });
    }
    if !batch.crc_is_right() {
        return Err(Reason::Checksum);
    }
    expect.next = batch.next_offset();
    expect.first = false;
    Ok(())
}

fn header_fault(bytes: &[u8], error: BatchError) -> Reason {
    let header = &bytes[..bytes.len().min(BATCH_HEADER_BYTES)];
    if header.iter().all(|byte| *byte == 0) { Reason::Zeroes } else { Reason::Header(error) }
}

/// Computes the checksum of a batch of `size` bytes in pieces, without holding it.
pub(super) async fn large_batch_is_right(file: &File, position: u64, size: u64) -> io::Result<bool> {
    let header = file.read(position, CRC_RANGE).await?;
    if header.len() < CRC_RANGE {
        return Ok(false);
    }
    let claimed = u32::from_be_bytes([header[17], header[18], header[19], header[20]]);
    let mut crc = 0;
    let mut at = position + CRC_RANGE as u64;
    let end = position + size;
    while at < end {
        let bytes = file.read(at, (end - at).min(SCAN_BYTES as u64) as usize).await?;
        if bytes.is_empty() {
            return Ok(false);
        }
        crc = crc32c_append(crc, &bytes);
        at += bytes.len() as u64;
        task::yield_if_needed().await;
    }
    Ok(crc == claimed)
}
