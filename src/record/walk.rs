//! Walks the records of a batch: their shapes only (what validation needs), or
//! their contents.
//!
//! Records of an uncompressed batch are read where they lie. Those of a
//! compressed batch pass through one window of [`Scratch`], which a core keeps
//! and uses again; keys and values that nobody asked for are never put together.
//! Nothing is allocated per record, and at most
//! [`BATCH_PLAIN_BYTES_MAX`](crate::base::limits::BATCH_PLAIN_BYTES_MAX) bytes are decompressed.

use std::io;

use crate::base::limits::BATCH_PLAIN_BYTES_MAX;

use super::codec::{Decoder, Kept};
use super::varint::{self, VARINT_BYTES_MAX, VARLONG_BYTES_MAX};
use super::view::{BatchView, TimestampType};

/// The window's first size; it grows only for a record (with contents) or a snappy block that is larger.
const WINDOW_BYTES: usize = 64 * 1024;
/// A window that had to grow beyond this is given back after use.
const WINDOW_BYTES_KEPT: usize = 1 << 20;

/// Memory for looking into compressed batches. One per core is enough; it is used again for batch after batch.
#[derive(Default)]
pub struct Scratch {
    window: Vec<u8>,
    kept: Kept,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::default()
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scratch({} bytes)", self.window.capacity())
    }
}

/// What is wrong with a batch's records (`InvalidRecordException` in Kafka).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    #[error("the records end within record {index}")]
    Cut { index: i32 },
    #[error("record {index} has a malformed variable-length integer")]
    Varint { index: i32 },
    #[error("record {index} has a length or count that cannot be: {value}")]
    Count { index: i32, value: i64 },
    #[error("record {index} says {claimed} bytes and takes {taken}")]
    Size { index: i32, claimed: i64, taken: i64 },
    #[error("bytes follow the last of {count} records")]
    Remaining { count: i32 },
    #[error("negative record count {0}")]
    RecordCount(i32),
    #[error("unknown compression type {0}")]
    UnknownCodec(i16),
    #[error("the compressed records cannot be decompressed")]
    Compression,
    #[error("the records grow beyond {BATCH_PLAIN_BYTES_MAX} bytes when decompressed")]
    TooMuch,
}

/// A record without its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordShape {
    /// Bytes with the length field.
    pub size: usize,
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    /// Bytes of the key; `None` for null.
    pub key_len: Option<usize>,
    /// Bytes of the value; `None` for null.
    pub value_len: Option<usize>,
    pub header_count: usize,
}

/// A record with its contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'r> {
    pub attributes: i8,
    pub offset: i64,
    pub timestamp: i64,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'r [u8]>,
    pub value: Option<&'r [u8]>,
    pub header_count: usize,
    /// All of the record after its offset delta, key length first: unchanged by a new offset.
    pub(super) tail: &'r [u8],
    /// The headers' bytes, already found to be well-formed.
    headers: &'r [u8],
}

impl<'r> Record<'r> {
    /// The headers in order; keys may repeat. A value may be null.
    pub fn headers(&self) -> impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + use<'r> {
        let mut rest = InPlace::new(self.headers);
        let count = self.header_count;
        (0..count).map_while(move |_| {
            let key = rest.bytes_of_length().ok()??;
            let value = rest.bytes_of_length().ok()?;
            Some((key, value))
        })
    }
}

impl<'a> BatchView<'a> {
    /// Walks over all records without their contents. The visitor's error ends the walk.
    ///
    /// Finds everything that is wrong with the bytes themselves: after `Ok`,
    /// the batch holds exactly [`record_count`](Self::record_count) records and nothing else.
    #[inline(always)]
    pub fn walk<E: From<RecordFault>>(
        &self,
        scratch: &mut Scratch,
        mut visit: impl FnMut(RecordShape) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = self.record_count();
        if count < 0 {
            return Err(RecordFault::RecordCount(count).into());
        }
        match source(self, scratch)? {
            Source::InPlace(mut input) => walk_shapes(&mut input, count, &mut visit),
            Source::Stream(mut input) => walk_shapes(&mut input, count, &mut visit),
        }
    }

    /// The records with their contents, one at a time.
    pub fn records<'s>(&self, scratch: &'s mut Scratch) -> Result<Records<'s>, RecordFault>
    where
        'a: 's,
    {
        let count = self.record_count();
        if count < 0 {
            return Err(RecordFault::RecordCount(count));
        }
        Ok(Records {
            source: source(self, scratch)?,
            index: 0,
            count,
            base_offset: self.base_offset().0,
            base_timestamp: self.base_timestamp(),
            log_append_time: (self.timestamp_type() == TimestampType::LogAppendTime).then(|| self.max_timestamp()),
        })
    }
}

/// The records of one batch; each lives until the next is asked for.
pub struct Records<'s> {
    source: Source<'s>,
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl Records<'_> {
    /// The next record; `None` after the last, when nothing follows it.
    #[expect(clippy::should_implement_trait, reason = "a record borrows from the walk, which Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordFault> {
        let index = self.index;
        if index == self.count {
            let ended = match &mut self.source {
                Source::InPlace(input) => input.at_end(),
                Source::Stream(input) => input.at_end(),
            };
            return match ended {
                Ok(true) => Ok(None),
                Ok(false) => Err(RecordFault::Remaining { count: self.count }),
                Err(fault) => Err(fault.of(index)),
            };
        }
        let body = match &mut self.source {
            Source::InPlace(input) => input.body(),
            Source::Stream(input) => input.body(),
        };
        self.index += 1;
        let (base_offset, base_timestamp, log_append_time) =
            (self.base_offset, self.base_timestamp, self.log_append_time);
        let mut record = body.and_then(record_of).map_err(|fault| fault.of(index))?;
        record.offset = base_offset.wrapping_add(i64::from(record.offset_delta));
        record.timestamp = log_append_time.unwrap_or(base_timestamp.wrapping_add(record.timestamp_delta));
        Ok(Some(record))
    }
}

/// A fault before it is known in which record.
#[derive(Clone, Copy)]
enum Fault {
    Cut,
    Varint,
    Count(i64),
    Size { claimed: i64, taken: i64 },
    Compression,
    TooMuch,
}

impl Fault {
    fn of(self, index: i32) -> RecordFault {
        match self {
            Fault::Cut => RecordFault::Cut { index },
            Fault::Varint => RecordFault::Varint { index },
            Fault::Count(value) => RecordFault::Count { index, value },
            Fault::Size { claimed, taken } => RecordFault::Size { index, claimed, taken },
            Fault::Compression => RecordFault::Compression,
            Fault::TooMuch => RecordFault::TooMuch,
        }
    }
}

/// Plain record bytes in order, in place or as they leave a decompressor.
trait Input {
    fn byte(&mut self) -> Result<u8, Fault>;
    fn varint(&mut self) -> Result<i32, Fault>;
    fn varlong(&mut self) -> Result<i64, Fault>;
    fn skip(&mut self, count: usize) -> Result<(), Fault>;
    /// Bytes taken so far.
    fn position(&self) -> usize;
    /// Whether all bytes have been taken.
    fn at_end(&mut self) -> Result<bool, Fault>;
    /// The next record's shape.
    fn shape(&mut self) -> Result<RecordShape, Fault>;
}

#[inline(always)]
fn walk_shapes<I: Input, E: From<RecordFault>>(
    input: &mut I,
    count: i32,
    visit: &mut impl FnMut(RecordShape) -> Result<(), E>,
) -> Result<(), E> {
    for index in 0..count {
        let shape = input.shape().map_err(|fault| fault.of(index))?;
        visit(shape)?;
    }
    match input.at_end() {
        Ok(true) => Ok(()),
        Ok(false) => Err(RecordFault::Remaining { count }.into()),
        Err(fault) => Err(fault.of(count).into()),
    }
}

/// Reads one record (`DefaultRecord.readFrom`) and skips its contents.
#[inline(never)]
fn shape_of<I: Input>(input: &mut I) -> Result<RecordShape, Fault> {
    let begin = input.position();
    let claimed = input.varint()?;
    let claimed = usize::try_from(claimed).map_err(|_| Fault::Count(i64::from(claimed)))?;
    let body = input.position();
    let attributes = input.byte()? as i8;
    let timestamp_delta = input.varlong()?;
    let offset_delta = input.varint()?;
    let key_len = skip_field(input, body + claimed)?;
    let value_len = skip_field(input, body + claimed)?;
    let header_count = input.varint()?;
    let header_count = header_count_within(header_count, body + claimed, input.position())?;
    for _ in 0..header_count {
        if skip_field(input, body + claimed)?.is_none() {
            return Err(Fault::Count(-1));
        }
        skip_field(input, body + claimed)?;
    }
    let taken = input.position() - body;
    if taken != claimed {
        return Err(Fault::Size { claimed: claimed as i64, taken: taken as i64 });
    }
    Ok(RecordShape {
        size: input.position() - begin,
        attributes,
        timestamp_delta,
        offset_delta,
        key_len,
        value_len,
        header_count,
    })
}

/// Skips a length and so many bytes. Negative lengths are null. A field that would pass the record's end is
/// refused before a byte of it is decompressed.
#[inline(always)]
fn skip_field<I: Input>(input: &mut I, end: usize) -> Result<Option<usize>, Fault> {
    let len = input.varint()?;
    if len < 0 {
        return Ok(None);
    }
    if len as usize > end.saturating_sub(input.position()) {
        return Err(Fault::Count(i64::from(len)));
    }
    input.skip(len as usize)?;
    Ok(Some(len as usize))
}

/// A header takes two bytes at least.
fn header_count_within(count: i32, end: usize, position: usize) -> Result<usize, Fault> {
    match usize::try_from(count) {
        Ok(count) if count <= end.saturating_sub(position) / 2 => Ok(count),
        _ => Err(Fault::Count(i64::from(count))),
    }
}

/// Reads a record's body with its contents.
fn record_of(body: &[u8]) -> Result<Record<'_>, Fault> {
    let mut input = InPlace::new(body);
    let attributes = input.byte()? as i8;
    let timestamp_delta = input.varlong()?;
    let offset_delta = input.varint()?;
    let tail = input.rest;
    let key = input.bytes_of_length()?;
    let value = input.bytes_of_length()?;
    let header_count = input.varint()?;
    let header_count = header_count_within(header_count, body.len(), input.position())?;
    let headers = input.rest;
    for _ in 0..header_count {
        if input.bytes_of_length()?.is_none() {
            return Err(Fault::Count(-1));
        }
        input.bytes_of_length()?;
    }
    if !input.rest.is_empty() {
        return Err(Fault::Size { claimed: body.len() as i64, taken: input.position() as i64 });
    }
    Ok(Record {
        attributes,
        offset: 0,
        timestamp: 0,
        timestamp_delta,
        offset_delta,
        key,
        value,
        header_count,
        tail,
        headers,
    })
}

enum Source<'s> {
    InPlace(InPlace<'s>),
    Stream(Stream<'s>),
}

fn source<'s, 'a: 's>(batch: &BatchView<'a>, scratch: &'s mut Scratch) -> Result<Source<'s>, RecordFault> {
    let codec = batch.codec().ok_or(RecordFault::UnknownCodec(batch.attributes() & super::view::CODEC_MASK))?;
    match Decoder::new(codec, batch.payload(), &mut scratch.kept) {
        Ok(None) => Ok(Source::InPlace(InPlace::new(batch.payload()))),
        Ok(Some(decoder)) => {
            if scratch.window.len() < WINDOW_BYTES {
                scratch.window.resize(WINDOW_BYTES, 0);
            }
            Ok(Source::Stream(Stream { decoder, scratch, start: 0, end: 0, taken: 0, plain: 0 }))
        }
        Err(_) => Err(RecordFault::Compression),
    }
}

/// Records where they lie.
struct InPlace<'a> {
    /// Not taken yet.
    rest: &'a [u8],
    /// Of all.
    len: usize,
}

impl<'a> InPlace<'a> {
    fn new(bytes: &'a [u8]) -> InPlace<'a> {
        InPlace { rest: bytes, len: bytes.len() }
    }

    #[inline(always)]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes_of_length(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        match self.varint()? {
            len if len < 0 => Ok(None),
            len => self.take(len as usize).map(Some),
        }
    }

    fn body(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| Fault::Count(i64::from(len)))?)
    }

    /// The shape of a record without headers whose numbers are of two bytes at most, which nearly all
    /// are. `None`, and nothing is taken: it is another one, or no good.
    #[inline(always)]
    fn common_shape(&mut self) -> Option<RecordShape> {
        let bytes = self.rest;
        let (claimed, body) = short(bytes, 0)?;
        let size = body + even(claimed)?;
        let record = bytes.get(..size)?;
        let attributes = *record.get(body)? as i8;
        let (timestamp_delta, at) = short(record, body + 1)?;
        let (offset_delta, at) = short(record, at)?;
        let (key_len, at) = short(record, at)?;
        let key_len = even(key_len);
        let (value_len, at) = short(record, at + key_len.unwrap_or(0))?;
        let value_len = even(value_len);
        let end = at + value_len.unwrap_or(0);
        // No headers, and nothing behind.
        if end + 1 != size || *record.get(end)? != 0 {
            return None;
        }
        self.rest = &bytes[size..];
        Some(RecordShape {
            size,
            attributes,
            timestamp_delta: i64::from(varint::unzigzag(timestamp_delta)),
            offset_delta: varint::unzigzag(offset_delta),
            key_len,
            value_len,
            header_count: 0,
        })
    }

    #[inline(always)]
    fn number<T>(&mut self, read: Option<(T, usize)>, len_max: usize) -> Result<T, Fault> {
        match read {
            Some((value, len)) => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            None if self.rest.len() < len_max => Err(Fault::Cut),
            None => Err(Fault::Varint),
        }
    }
}

/// A varint of one or two bytes at `at`, in zigzag form, and where it ends.
#[inline(always)]
fn short(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let first = u32::from(*bytes.get(at)?);
    if first < 0x80 {
        return Some((first, at + 1));
    }
    let second = u32::from(*bytes.get(at + 1)?);
    (second < 0x80).then_some((first & 0x7f | second << 7, at + 2))
}

/// A length in zigzag form; negative ones are null.
#[inline(always)]
fn even(zigzag: u32) -> Option<usize> {
    (zigzag & 1 == 0).then_some(zigzag as usize / 2)
}

impl Input for InPlace<'_> {
    #[inline(always)]
    fn shape(&mut self) -> Result<RecordShape, Fault> {
        match self.common_shape() {
            Some(shape) => Ok(shape),
            None => shape_of(self),
        }
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.rest.split_first().ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i32, Fault> {
        self.number(varint::read(self.rest), VARINT_BYTES_MAX)
    }

    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, Fault> {
        self.number(varint::read_long(self.rest), VARLONG_BYTES_MAX)
    }

    #[inline(always)]
    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.take(count).map(drop)
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    fn at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.rest.is_empty())
    }
}

/// Records as they leave a decompressor: `window[start..end]` has left it and was not taken yet.
struct Stream<'s> {
    decoder: Decoder<'s>,
    scratch: &'s mut Scratch,
    start: usize,
    end: usize,
    /// Bytes taken before `start`.
    taken: usize,
    /// All bytes that left the decompressor.
    plain: usize,
}

impl Stream<'_> {
    /// Gets more bytes behind those in the window; `false` at the end of the data.
    fn fill(&mut self) -> Result<bool, Fault> {
        if self.start > 0 {
            self.scratch.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.scratch.window.len() {
            let len = self.scratch.window.len().saturating_mul(2).min(BATCH_PLAIN_BYTES_MAX);
            self.scratch.window.resize(len.max(self.end), 0);
        }
        if self.end == BATCH_PLAIN_BYTES_MAX {
            return Err(Fault::TooMuch);
        }
        let count = match self.decoder.step(&mut self.scratch.window, self.end, &mut self.scratch.kept) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Fault::Cut),
            Err(_) => return Err(Fault::Compression),
        };
        self.end += count;
        self.plain += count;
        if self.plain > BATCH_PLAIN_BYTES_MAX {
            return Err(Fault::TooMuch);
        }
        Ok(count > 0)
    }

    /// Makes `count` bytes stand together at the window's start, or all there are.
    fn gather(&mut self, count: usize) -> Result<&[u8], Fault> {
        while self.end - self.start < count {
            if !self.fill()? {
                break;
            }
        }
        Ok(&self.scratch.window[self.start..self.end])
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        self.taken += count;
    }

    fn body(&mut self) -> Result<&[u8], Fault> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| Fault::Count(i64::from(len)))?;
        if len > BATCH_PLAIN_BYTES_MAX {
            return Err(Fault::TooMuch);
        }
        if self.gather(len)?.len() < len {
            return Err(Fault::Cut);
        }
        let start = self.start;
        self.advance(len);
        Ok(&self.scratch.window[start..start + len])
    }

    #[inline]
    fn number<T>(&mut self, read: fn(&[u8]) -> Option<(T, usize)>, len_max: usize) -> Result<T, Fault> {
        if let Some((value, len)) = read(&self.scratch.window[self.start..self.end]) {
            self.advance(len);
            return Ok(value);
        }
        // It ends beyond the window, or nowhere.
        let window = self.gather(len_max)?;
        match read(window) {
            Some((value, len)) => {
                self.advance(len);
                Ok(value)
            }
            None if window.len() < len_max => Err(Fault::Cut),
            None => Err(Fault::Varint),
        }
    }
}

impl Input for Stream<'_> {
    #[inline(always)]
    fn shape(&mut self) -> Result<RecordShape, Fault> {
        shape_of(self)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        if self.start == self.end && !self.fill()? {
            return Err(Fault::Cut);
        }
        let byte = self.scratch.window[self.start];
        self.advance(1);
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, Fault> {
        self.number(varint::read, VARINT_BYTES_MAX)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, Fault> {
        self.number(varint::read_long, VARLONG_BYTES_MAX)
    }

    #[inline]
    fn skip(&mut self, mut count: usize) -> Result<(), Fault> {
        loop {
            let here = count.min(self.end - self.start);
            self.advance(here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(Fault::Cut);
            }
        }
    }

    fn position(&self) -> usize {
        self.taken
    }

    fn at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.start == self.end && !self.fill()?)
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if self.scratch.window.len() > WINDOW_BYTES_KEPT {
            self.scratch.window = Vec::new();
        }
        // A decoder keeps the history that its stream asked for, up to 128 MiB; used of it are as many bytes as came out.
        if self.plain > WINDOW_BYTES_KEPT {
            self.scratch.kept = Kept::default();
        }
    }
}
