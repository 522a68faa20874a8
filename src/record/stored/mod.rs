//! Records that Kafka keeps for itself in its own logs: offsets and groups,
//! transactions, control records. (The metadata log's own are in `metadata/`,
//! built from the same parts.)
//!
//! A record's value is a *version* and then fields in the order of the schema.
//! Up to a certain version of each schema lengths are plain integers; from then
//! on ("flexible") they are unsigned varints of the length plus one, zero being
//! null, and each struct ends with tagged fields: a count, then tag, size and
//! bytes of each, tags rising.
//!
//! What the codecs promise: decoding never panics and never allocates more than
//! a small multiple of the bytes that are there, whatever counts they claim.
//! Encoding gives the bytes that Kafka gives: a tagged field with its default is
//! left out, a field that a version does not have must have its default unless
//! the schema calls it ignorable. Tagged fields that are not known are kept and
//! written back in order.
//!
//! The structs come from `scripts/record-codecs.py`; this file holds what they
//! share. Never does I/O.

pub mod control;
pub mod group;
pub mod share;
pub mod transaction;

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::base::Uuid;

/// Longest string Kafka writes, in bytes (`Short.MAX_VALUE`, flexible or not).
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Why bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end within a field")]
    End,
    #[error("a variable-length integer is longer than its type")]
    Varint,
    #[error("a length of {0} is negative or larger than what follows")]
    Length(i64),
    #[error("text is not UTF-8")]
    Text,
    #[error("{0} is null where it must not be")]
    Null(&'static str),
    #[error("version {version} of {name} is not known")]
    Version { name: &'static str, version: i16 },
    #[error("records of kind {0} are not known")]
    UnknownKind(i64),
    #[error("frame version {0} is not known")]
    Frame(u32),
    #[error("{0} bytes follow the end")]
    Trailing(usize),
}

/// Why a record cannot be written in a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{field} is set, but version {version} has no such field")]
    NotInVersion { field: &'static str, version: i16 },
    #[error("{field} is null, which version {version} cannot say")]
    Null { field: &'static str, version: i16 },
    #[error("a text of {0} bytes is too long")]
    TooLong(usize),
    #[error("version {version} of {name} is not known")]
    Version { name: &'static str, version: i16 },
}

/// A record with a schema of its own.
pub trait Stored: Sized + Default {
    /// The schema's name.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads the fields. `version` is one of [`Stored::VERSIONS`].
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Writes the fields. `version` is one of [`Stored::VERSIONS`].
    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Reads the fields after checking the version.
    fn decode_from(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(DecodeError::Version { name: Self::NAME, version });
        }
        Self::read(input, version)
    }

    /// Writes the fields after checking the version.
    fn encode_into(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(EncodeError::Version { name: Self::NAME, version });
        }
        self.write(out, version)
    }

    /// The value of a coordinator's record, or of a transaction marker: int16
    /// version, then the fields. (KRaft's control records have their version as a
    /// field: they are written with [`Stored::encode_into`] alone.)
    fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.i16(version);
        self.encode_into(&mut out, version)?;
        Ok(out.into_bytes())
    }

    /// Reads what [`Stored::encode`] wrote. Bytes after the last field are left
    /// alone, as Kafka leaves them.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let version = input.i16()?;
        Self::decode_from(&mut input, version)
    }
}

/// Tagged fields by tag, as raw bytes.
///
/// They lie in a record in the order of their tags (KIP-482). Kafka's readers take them in any order, and so do these;
/// written they are in order, so two lists are the same when they are the same in order.
#[derive(Clone, Debug, Default)]
pub struct Tags(Vec<(u32, Bytes)>);

impl PartialEq for Tags {
    fn eq(&self, other: &Tags) -> bool {
        let in_order = |tags: &Tags| {
            let mut fields = tags.0.clone();
            fields.sort_by_key(|(tag, _)| *tag);
            fields
        };
        self.0 == other.0 || (self.0.len() == other.0.len() && in_order(self) == in_order(other))
    }
}

impl Eq for Tags {}

impl Tags {
    pub fn push(&mut self, tag: u32, body: &[u8]) {
        self.0.push((tag, Bytes::copy_from_slice(body)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.0.iter().map(|(tag, body)| (*tag, &body[..]))
    }
}

/// Takes fields from the front of some bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

macro_rules! read_number {
    ($($name:ident: $type:ty),*) => {$(
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::End)?;
            self.0 = rest;
            Ok(<$type>::from_be_bytes(*bytes))
        }
    )*};
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    read_number!(i8: i8, i16: i16, u16: u16, i32: i32, i64: i64, f64: f64);

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::End)?;
        self.0 = rest;
        Ok(Uuid(*bytes))
    }

    /// An unsigned varint: seven bits a byte, lowest first, at most five bytes.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..=28).step_by(7) {
            let byte = self.i8()? as u8;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// The bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// All bytes not yet taken, which are then taken.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// An error unless every byte has been taken.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Length(len as i64))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A length or count; `None` is null. `wide` says how plain ones are written:
    /// four bytes (counts, bytes) or two (text).
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (flexible, wide) {
            (true, _) => i64::from(self.unsigned_varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            // Whatever is counted takes at least a byte each: Kafka's own guard.
            length if length < 0 || length as u64 > self.0.len() as u64 => Err(DecodeError::Length(length)),
            length => Ok(Some(length as usize)),
        }
    }

    pub fn string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Text)?;
        Ok(Some(text.to_owned()))
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(flexible, true)? else { return Ok(None) };
        Ok(Some(Bytes::copy_from_slice(self.take(length)?)))
    }

    pub fn list<T>(
        &mut self,
        flexible: bool,
        mut one: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible, true)? else { return Ok(None) };
        // The count is only a claim: room is made as elements really come.
        let mut list = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            list.push(one(self)?);
        }
        Ok(Some(list))
    }

    /// Whether a struct that may be null is there (KIP-893): null is −1, but 0 in
    /// a tagged field.
    pub fn presence(&mut self, tagged: bool) -> Result<bool, DecodeError> {
        let byte = self.i8()?;
        Ok(if tagged { byte != 0 } else { byte >= 0 })
    }

    /// Walks over the tagged fields. The function gets each tag with a reader of
    /// exactly its bytes, and has to take all of them.
    pub fn tags(
        &mut self,
        mut one: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let mut body = Reader(self.take(size)?);
            one(tag, &mut body)?;
            body.finish()?;
        }
        Ok(())
    }
}

/// A value that may only be null in some versions.
pub(crate) fn nullable<T>(value: Option<T>, allowed: bool, null: DecodeError) -> Result<Option<T>, DecodeError> {
    if value.is_none() && !allowed { Err(null) } else { Ok(value) }
}

/// Collects fields.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

macro_rules! write_number {
    ($($name:ident: $type:ty),*) => {$(
        pub fn $name(&mut self, value: $type) {
            self.0.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    write_number!(i8: i8, i16: i16, u16: u16, i32: i32, i64: i64, f64: f64);

    pub fn bool(&mut self, value: bool) {
        self.i8(value.into());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.0.extend_from_slice(&value.0);
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn length(&mut self, length: Option<usize>, flexible: bool, wide: bool) -> Result<(), EncodeError> {
        let signed = match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?,
        };
        match (flexible, wide) {
            (true, _) => self.unsigned_varint((i64::from(signed) + 1) as u32),
            (false, true) => self.i32(signed),
            (false, false) => self.i16(signed as i16),
        }
        Ok(())
    }

    pub fn string(&mut self, text: Option<&str>, flexible: bool) -> Result<(), EncodeError> {
        let bytes = text.unwrap_or_default().as_bytes();
        if bytes.len() > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong(bytes.len()));
        }
        self.length(text.map(str::len), flexible, false)?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub fn bytes(&mut self, bytes: Option<&[u8]>, flexible: bool) -> Result<(), EncodeError> {
        self.length(bytes.map(<[u8]>::len), flexible, true)?;
        self.0.extend_from_slice(bytes.unwrap_or_default());
        Ok(())
    }

    pub fn list<T>(
        &mut self,
        list: Option<&[T]>,
        flexible: bool,
        mut one: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(list.map(<[T]>::len), flexible, true)?;
        for value in list.unwrap_or_default() {
            one(self, value)?;
        }
        Ok(())
    }

    /// Says whether a struct that may be null follows (KIP-893).
    pub fn presence(&mut self, present: bool, tagged: bool) {
        self.i8(match (present, tagged) {
            (true, _) => 1,
            (false, false) => -1,
            (false, true) => 0,
        });
    }

    /// Writes the tagged fields in the order of their tags.
    pub fn tags(&mut self, tags: TagWriter<'_>) -> Result<(), EncodeError> {
        let mut all: Vec<(u32, &[u8])> = tags.unknown.iter().collect();
        all.extend(tags.known.iter().map(|(tag, body)| (*tag, &body[..])));
        all.sort_by_key(|(tag, _)| *tag);
        self.unsigned_varint(all.len() as u32);
        for (tag, body) in all {
            self.unsigned_varint(tag);
            self.unsigned_varint(u32::try_from(body.len()).map_err(|_| EncodeError::TooLong(body.len()))?);
            self.0.extend_from_slice(body);
        }
        Ok(())
    }
}

/// Collects the tagged fields of one struct.
pub struct TagWriter<'a> {
    known: Vec<(u32, Vec<u8>)>,
    unknown: &'a Tags,
}

impl<'a> TagWriter<'a> {
    pub fn new(unknown: &'a Tags) -> TagWriter<'a> {
        TagWriter { known: Vec::new(), unknown }
    }

    pub fn add(
        &mut self,
        tag: u32,
        body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut out = Writer::new();
        body(&mut out)?;
        self.known.push((tag, out.into_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEMAS: &str = include_str!("../../../tests/golden/records/schemas-4.3.1.txt");
    const LOGS: &str = include_str!("../../../tests/golden/records/logs-4.3.1.txt");

    pub(crate) fn unhex(text: &str) -> Vec<u8> {
        let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal digits");
        (0..text.len()).step_by(2).map(digits).collect()
    }

    type Again = fn(&str, i16, &mut Reader<'_>) -> Option<Result<Vec<u8>, DecodeError>>;
    const AGAIN: [Again; 4] = [control::again, group::again, transaction::again, share::again];

    #[test]
    fn tagged_fields_out_of_order_are_read_and_written_in_order() {
        let read = |bytes: &[u8]| {
            let mut tags = Tags::default();
            let mut input = Reader::new(bytes);
            input
                .tags(|tag, field| {
                    tags.push(tag, field.rest());
                    Ok(())
                })
                .unwrap();
            tags
        };
        let write = |tags: &Tags| {
            let mut out = Writer::new();
            out.tags(TagWriter::new(tags)).unwrap();
            out.into_bytes()
        };
        // Tag 9 before tag 7, and one of them twice, as only a broken writer does it.
        let (muddled, in_order) = (b"\x03\x09\x01a\x07\x01b\x09\x01c", b"\x03\x07\x01b\x09\x01a\x09\x01c");
        assert_eq!(write(&read(muddled)), in_order);
        assert_eq!(read(muddled), read(in_order));
        assert_ne!(read(muddled), read(b"\x03\x07\x01b\x09\x01c\x09\x01a"));
        assert_ne!(read(muddled), read(b"\x02\x07\x01b\x09\x01a"));
    }

    #[test]
    fn every_schema_and_version_reads_and_writes_kafkas_bytes() {
        let mut cases = 0;
        for line in SCHEMAS.lines() {
            let [name, version, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let bytes = unhex(hex);
            let mut input = Reader::new(&bytes);
            let prefix = input.i16().unwrap();
            let Some(written) = AGAIN.iter().find_map(|again| again(name, prefix, &mut input)) else {
                continue; // a metadata record: tested there
            };
            assert_eq!((prefix, input.finish()), (version.parse().unwrap(), Ok(())), "{line}");
            assert_eq!(written.unwrap_or_else(|e| panic!("{e}: {line}")), bytes[2..], "{line}");
            cases += 1;
        }
        assert!(cases > 200, "{cases} cases");
    }

    #[test]
    fn what_a_broker_wrote_to_its_coordinator_topics_is_read_and_written_alike() {
        for line in LOGS.lines() {
            let [topic, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (key, value) = (unhex(key.trim_matches('-')), (value != "-").then(|| unhex(value)));
            let version = || i16::from_be_bytes(value.as_ref().unwrap()[..2].try_into().unwrap());
            macro_rules! check {
                ($topic:ident) => {{
                    let read = $topic::Key::decode(&key).unwrap_or_else(|e| panic!("{e}: {line}"));
                    assert_eq!(read.encode().unwrap(), key, "{line}");
                    if let Some(bytes) = &value {
                        let read = $topic::Value::decode(read.kind(), bytes).unwrap_or_else(|e| panic!("{e}: {line}"));
                        assert_eq!(&read.encode(version()).unwrap(), bytes, "{line}");
                    }
                }};
            }
            match topic {
                "__consumer_offsets" => check!(group),
                "__transaction_state" => check!(transaction),
                "__share_group_state" => check!(share),
                _ => {}
            }
        }
    }

    #[test]
    fn an_offset_commit_has_kafkas_layout() {
        let key = group::Key::OffsetCommit(group::OffsetCommitKey {
            group: "g".to_string(),
            topic: "t".to_string(),
            partition: 3,
        });
        assert_eq!(key.encode().unwrap(), b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x03");
        let value = group::OffsetCommitValue { offset: 7, leader_epoch: 2, commit_timestamp: 9, ..Default::default() };
        assert_eq!(
            value.encode(3).unwrap(),
            b"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09"
        );
        assert_eq!(group::OffsetCommitValue::decode(&value.encode(3).unwrap()), Ok(value));
    }

    #[test]
    fn a_field_that_a_version_does_not_have_is_refused_unless_ignorable() {
        // The epoch is ignorable: left out in version 1.
        let value = group::OffsetCommitValue { leader_epoch: 2, ..Default::default() };
        assert_eq!(group::OffsetCommitValue::decode(&value.encode(1).unwrap()).unwrap().leader_epoch, -1);
        let value = transaction::TransactionLogValue { next_producer_id: 5, ..Default::default() };
        assert_eq!(value.encode(0), Err(EncodeError::NotInVersion { field: "NextProducerId", version: 0 }));
        let header = control::SnapshotHeaderRecord::default();
        assert_eq!(header.encode(9), Err(EncodeError::Version { name: "SnapshotHeaderRecord", version: 9 }));
    }

    #[test]
    fn unknown_tags_are_kept_in_order() {
        // A snapshot footer with two tagged fields no schema has.
        let body = [0, 0, 0, 0, 2, 5, 1, 0xaa, 0x80, 0x01, 2, 0xbb, 0xcc];
        let read = control::SnapshotFooterRecord::decode(&body).unwrap();
        assert_eq!(
            read.unknown_tags.iter().map(|(tag, body)| (tag, body.len())).collect::<Vec<_>>(),
            [(5, 1), (128, 2)]
        );
        assert_eq!(read.encode(0).unwrap(), body);
    }

    #[test]
    fn claims_are_refused_without_making_room_for_them() {
        for (bytes, error) in [
            (&b"\x00\x00"[..], DecodeError::End),
            (b"\x00\x09", DecodeError::Version { name: "GroupMetadataValue", version: 9 }),
            // Version 3: protocol type claims 32767 bytes.
            (b"\x00\x03\x7f\xff", DecodeError::Length(32767)),
            (b"\x00\x03\xff\xfe", DecodeError::Length(-2)),
            // An empty protocol type, generation, no protocol, no leader, time stamp, 2^31-1 members.
            (
                b"\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff",
                DecodeError::Length(0x7fff_ffff),
            ),
        ] {
            assert_eq!(group::GroupMetadataValue::decode(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(group::Key::decode(b"\x00\x63rest"), Err(DecodeError::UnknownKind(99)));
        assert_eq!(Reader::new(b"\xff\xff\xff\xff\x1f").unsigned_varint(), Err(DecodeError::Varint));
        assert_eq!(Reader::new(b"\xff\xff\xff\xff\x0f").unsigned_varint(), Ok(u32::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0i16..24) {
            let _ = (group::Key::decode(&bytes), transaction::Key::decode(&bytes), share::Key::decode(&bytes));
            for version in 0..=4 {
                let mut value = vec![0, version];
                value.extend_from_slice(&bytes);
                if let Ok(read) = group::Value::decode(kind, &value) {
                    // Kafka's own form of whatever was accepted is stable.
                    let written = read.encode(version.into()).unwrap();
                    prop_assert_eq!(group::Value::decode(kind, &written).unwrap().encode(version.into()).unwrap(), written);
                }
                let _ = (transaction::Value::decode(0, &value), share::Value::decode(kind & 1, &value));
            }
        }

        #[test]
        fn kafkas_bytes_with_one_byte_changed_are_read_or_refused(line in 0usize..374, at in any::<usize>(), byte in any::<u8>()) {
            let fields: Vec<&str> = SCHEMAS.lines().nth(line).unwrap().split(' ').collect();
            let mut bytes = unhex(fields[2]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let mut input = Reader::new(&bytes);
            let version = input.i16().unwrap();
            for again in AGAIN {
                let _ = again(fields[0], version, &mut input.clone());
            }
        }
    }
}
