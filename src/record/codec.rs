//! The five codecs of record batches: one-shot compression for batches built
//! here, step-by-step decompression for batches looked into.
//!
//! Decompression trusts nothing: sizes that compressed data claims are believed
//! only as far as the codec could make them true.

use std::io::{self, Read, Write};

use crate::base::limits::BATCH_PLAIN_BYTES_MAX;

use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// How the records of a batch are compressed (`CompressionType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// All of them, in the order of their ids.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// By the id in a batch's attributes.
    pub fn from_id(id: i16) -> Option<Codec> {
        usize::try_from(id).ok().and_then(|id| Codec::ALL.get(id)).copied()
    }

    /// The id in a batch's attributes.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// Kafka's name (`compression.type`).
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// The header of snappy-java's stream format: magic, version 1, oldest compatible version 1.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// What precedes each such header, when read as a block's length: a second stream begins.
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Block size of snappy-java's stream.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy element of 3 bytes makes at most 64: no block can grow by more.
const SNAPPY_RATIO_MAX: usize = 22;

/// Kafka's default level of lz4, which there means the fast kind, and not one of the levels (`CompressionType.LZ4`).
const LZ4_LEVEL_FAST: i32 = 9;

/// Appends `records`, compressed with a level of Kafka's (`compression.*.level`; snappy has none), or with its default.
pub fn compress(codec: Codec, level: Option<i32>, records: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    let mut compressor = Compressor::new(codec, level, std::mem::take(to))?;
    compressor.write(records)?;
    *to = compressor.finish()?;
    Ok(())
}

/// Plain bytes on their way to compressed ones: piece by piece,
/// for who must not hold a core up with all of them at once.
pub(super) struct Compressor(Encoder);

enum Encoder {
    None(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Snappy { to: Vec<u8>, block: Vec<u8> },
    Lz4(Box<lz4::Encoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Compressor {
    /// Appends to `to`. `level` as of [`compress`].
    pub(super) fn new(codec: Codec, level: Option<i32>, mut to: Vec<u8>) -> io::Result<Compressor> {
        Ok(Compressor(match codec {
            Codec::None => Encoder::None(to),
            Codec::Gzip => {
                let level = match level {
                    Some(level @ 1..=9) => flate2::Compression::new(level as u32),
                    _ => flate2::Compression::default(),
                };
                Encoder::Gzip(flate2::write::GzEncoder::new(to, level))
            }
            // As the Java client does: other clients read the framed form too, but
            // old Java consumers refuse the raw one.
            Codec::Snappy => {
                to.extend_from_slice(&XERIAL_HEADER);
                Encoder::Snappy { to, block: Vec::new() }
            }
            // KafkaLZ4BlockOutputStream: independent blocks of 64 KiB, no checksums of content.
            Codec::Lz4 => Encoder::Lz4(Box::new(
                lz4::EncoderBuilder::new()
                    .block_size(lz4::BlockSize::Max64KB)
                    .block_mode(lz4::BlockMode::Independent)
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    .level(level.filter(|level| *level != LZ4_LEVEL_FAST).unwrap_or(0).max(0) as u32)
                    .build(to)?,
            )),
            Codec::Zstd => Encoder::Zstd(Box::new(zstd::stream::write::Encoder::new(to, level.unwrap_or(3))?)),
        }))
    }

    /// Takes the next plain bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Encoder::None(to) => to.extend_from_slice(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes)?,
            Encoder::Snappy { to, block } => {
                while !bytes.is_empty() {
                    // A whole block needs no copy.
                    if block.is_empty() && bytes.len() >= XERIAL_BLOCK_BYTES {
                        let (whole, rest) = bytes.split_at(XERIAL_BLOCK_BYTES);
                        snappy_block(whole, to)?;
                        bytes = rest;
                        continue;
                    }
                    let (fits, rest) = bytes.split_at(bytes.len().min(XERIAL_BLOCK_BYTES - block.len()));
                    block.extend_from_slice(fits);
                    bytes = rest;
                    if block.len() == XERIAL_BLOCK_BYTES {
                        snappy_block(block, to)?;
                        block.clear();
                    }
                }
            }
            Encoder::Lz4(encoder) => encoder.write_all(bytes)?,
            Encoder::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        Ok(())
    }

    /// What it was given first, with all compressed bytes behind.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Encoder::None(to) => Ok(to),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy { mut to, block } => {
                if !block.is_empty() {
                    snappy_block(&block, &mut to)?;
                }
                Ok(to)
            }
            Encoder::Lz4(encoder) => {
                let (to, finished) = encoder.finish();
                finished.map(|()| to)
            }
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Appends one block of snappy-java's stream.
fn snappy_block(block: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    let at = to.len();
    to.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
    let len = snap::raw::Encoder::new().compress(block, &mut to[at + 4..]).map_err(io::Error::other)?;
    to[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
    to.truncate(at + 4 + len);
    Ok(())
}

/// What decompressing needs and can be used again for the next batch.
#[derive(Default)]
pub(super) struct Kept {
    zstd: Option<ZstdDecoder<'static>>,
}

/// Compressed bytes on their way to plain ones.
pub(super) enum Decoder<'a> {
    Gzip(flate2::bufread::MultiGzDecoder<&'a [u8]>),
    Snappy { rest: &'a [u8], framed: bool },
    Lz4 { reader: Option<Box<lz4::Decoder<&'a [u8]>>> },
    Zstd { rest: &'a [u8], within_frame: bool },
}

impl<'a> Decoder<'a> {
    /// A decoder of `compressed`. `None` for [`Codec::None`], which needs none.
    pub(super) fn new(codec: Codec, compressed: &'a [u8], kept: &mut Kept) -> io::Result<Option<Decoder<'a>>> {
        Ok(Some(match codec {
            Codec::None => return Ok(None),
            Codec::Gzip => Decoder::Gzip(flate2::bufread::MultiGzDecoder::new(compressed)),
            Codec::Snappy => Decoder::Snappy { rest: compressed, framed: compressed.starts_with(XERIAL_MAGIC) },
            Codec::Lz4 => Decoder::Lz4 { reader: Some(Box::new(lz4::Decoder::new(compressed)?)) },
            Codec::Zstd => {
                match &mut kept.zstd {
                    Some(decoder) => decoder.reinit()?,
                    none => *none = Some(ZstdDecoder::new()?),
                }
                Decoder::Zstd { rest: compressed, within_frame: false }
            }
        }))
    }

    /// Decompresses some more into `window` from `end` on, which is made longer when a snappy
    /// block needs the room. Gives the count of new bytes; 0 only at the end of the data.
    pub(super) fn step(&mut self, window: &mut Vec<u8>, end: usize, kept: &mut Kept) -> io::Result<usize> {
        match self {
            Decoder::Gzip(reader) => reader.read(&mut window[end..]),
            Decoder::Lz4 { reader } => {
                let Some(decoder) = reader else { return Ok(0) };
                let count = decoder.read(&mut window[end..])?;
                if count == 0
                    && let Some(decoder) = reader.take()
                {
                    // Only here does the decoder say whether the frame was whole.
                    decoder.finish().1.map_err(|_| io::ErrorKind::UnexpectedEof)?;
                }
                Ok(count)
            }
            Decoder::Zstd { rest, within_frame } => {
                let decoder = kept.zstd.as_mut().ok_or_else(|| io::Error::other("decoder was not kept"))?;
                let mut output = OutBuffer::around(&mut window[end..]);
                loop {
                    if rest.is_empty() && !*within_frame {
                        return Ok(0);
                    }
                    let mut input = InBuffer::around(rest);
                    let hint = decoder.run(&mut input, &mut output)?;
                    let read = input.pos();
                    *rest = &rest[read..];
                    *within_frame = hint != 0;
                    match output.pos() {
                        // The frame wants more, and there is neither input nor progress.
                        0 if rest.is_empty() && hint != 0 && read == 0 => {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        0 => {}
                        count => return Ok(count),
                    }
                }
            }
            Decoder::Snappy { rest, framed } => {
                if *framed {
                    // A stream's header may come again: streams were put together.
                    while rest.starts_with(XERIAL_MAGIC) {
                        *rest = rest.get(XERIAL_HEADER.len()..).ok_or(io::ErrorKind::UnexpectedEof)?;
                    }
                }
                loop {
                    let block = match (*framed, rest.is_empty()) {
                        (_, true) => return Ok(0),
                        (false, _) => std::mem::take(rest),
                        (true, _) => {
                            let (len, after) = rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
                            let (block, after) = after
                                .split_at_checked(u32::from_be_bytes(*len) as usize)
                                .ok_or(io::ErrorKind::UnexpectedEof)?;
                            *rest = after;
                            block
                        }
                    };
                    let len = snap::raw::decompress_len(block).map_err(io::Error::other)?;
                    if len > block.len().saturating_mul(SNAPPY_RATIO_MAX) || len > BATCH_PLAIN_BYTES_MAX {
                        return Err(io::Error::other("a snappy block claims more than it can hold"));
                    }
                    if len == 0 {
                        continue;
                    }
                    if window.len() < end + len {
                        window.resize(end + len, 0);
                    }
                    return snap::raw::Decoder::new().decompress(block, &mut window[end..]).map_err(io::Error::other);
                }
            }
        }
    }
}
