//! The records of `__share_group_state`.
//!
//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:
//! change that program, not this file.

// A program writes one form for all structs, also where a shorter one would do.
#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]

use std::ops::RangeInclusive;

use super::{DecodeError, EncodeError, Reader, Stored, TagWriter, Tags, Writer};
use crate::base::Uuid;

/// The key of a record of `__share_group_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    ShareSnapshot(ShareSnapshotKey),
    ShareUpdate(ShareUpdateKey),
}

impl Key {
    /// The number in front of the key, which names the kind of record.
    pub fn kind(&self) -> i16 {
        match self {
            Key::ShareSnapshot(_) => 0,
            Key::ShareUpdate(_) => 1,
        }
    }

    /// The bytes of a record's key: its kind (int16), then the key itself.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.i16(self.kind());
        match self {
            Key::ShareSnapshot(key) => key.encode_into(&mut out, 0)?,
            Key::ShareUpdate(key) => key.encode_into(&mut out, 0)?,
        }
        Ok(out.into_bytes())
    }

    /// Reads a record's key. An unknown kind is an error of its own, for a reader that has to skip such records.
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut input = Reader::new(bytes);
        let kind = input.i16()?;
        Ok(match kind {
            0 => Key::ShareSnapshot(ShareSnapshotKey::decode_from(&mut input, 0)?),
            1 => Key::ShareUpdate(ShareUpdateKey::decode_from(&mut input, 0)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }
}

/// The value of a record of `__share_group_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    ShareSnapshot(ShareSnapshotValue),
    ShareUpdate(ShareUpdateValue),
}

impl Value {
    /// Reads the value of a record whose key is of the given kind: its version (int16), then the value.
    pub fn decode(kind: i16, bytes: &[u8]) -> Result<Value, DecodeError> {
        Ok(match kind {
            0 => Value::ShareSnapshot(ShareSnapshotValue::decode(bytes)?),
            1 => Value::ShareUpdate(ShareUpdateValue::decode(bytes)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }

    /// The bytes of the value: the given version (int16), then the value.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        match self {
            Value::ShareSnapshot(value) => value.encode(version),
            Value::ShareUpdate(value) => value.encode(version),
        }
    }
}

/// `ShareSnapshotKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSnapshotKey {
    pub group_id: String,
    pub topic_id: Uuid,
    pub partition: i32,
}

impl Default for ShareSnapshotKey {
    fn default() -> Self {
        ShareSnapshotKey { group_id: String::new(), topic_id: Uuid::ZERO, partition: 0 }
    }
}

impl Stored for ShareSnapshotKey {
    const NAME: &'static str = "ShareSnapshotKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareSnapshotKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.topic_id = input.uuid()?;
        record.partition = input.i32()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.uuid(self.topic_id);
        out.i32(self.partition);
        Ok(())
    }
}

/// `ShareSnapshotValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSnapshotValue {
    pub snapshot_epoch: i32,
    pub state_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    /// Tag 0.
    pub delivery_complete_count: i32,
    pub create_timestamp: i64,
    pub write_timestamp: i64,
    pub state_batches: Vec<ShareSnapshotStateBatch>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareSnapshotValue {
    fn default() -> Self {
        ShareSnapshotValue {
            snapshot_epoch: 0,
            state_epoch: 0,
            leader_epoch: 0,
            start_offset: 0,
            delivery_complete_count: -1,
            create_timestamp: 0,
            write_timestamp: 0,
            state_batches: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareSnapshotValue {
    const NAME: &'static str = "ShareSnapshotValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareSnapshotValue::default();
        record.snapshot_epoch = input.i32()?;
        record.state_epoch = input.i32()?;
        record.leader_epoch = input.i32()?;
        record.start_offset = input.i64()?;
        record.create_timestamp = input.i64()?;
        record.write_timestamp = input.i64()?;
        record.state_batches = input
            .list(true, |input| ShareSnapshotStateBatch::read(input, version))?
            .ok_or(DecodeError::Null("StateBatches"))?;
        input.tags(|tag, input| {
            match tag {
                0 => record.delivery_complete_count = input.i32()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.snapshot_epoch);
        out.i32(self.state_epoch);
        out.i32(self.leader_epoch);
        out.i64(self.start_offset);
        out.i64(self.create_timestamp);
        out.i64(self.write_timestamp);
        out.list(Some(&self.state_batches[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.delivery_complete_count != -1 {
            tags.add(0, |out| {
                out.i32(self.delivery_complete_count);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ShareSnapshotValue`, part `StateBatch`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSnapshotStateBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_state: i8,
    pub delivery_count: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareSnapshotStateBatch {
    fn default() -> Self {
        ShareSnapshotStateBatch {
            first_offset: 0,
            last_offset: 0,
            delivery_state: 0,
            delivery_count: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl ShareSnapshotStateBatch {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareSnapshotStateBatch::default();
        record.first_offset = input.i64()?;
        record.last_offset = input.i64()?;
        record.delivery_state = input.i8()?;
        record.delivery_count = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i64(self.first_offset);
        out.i64(self.last_offset);
        out.i8(self.delivery_state);
        out.i16(self.delivery_count);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareUpdateKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareUpdateKey {
    pub group_id: String,
    pub topic_id: Uuid,
    pub partition: i32,
}

impl Default for ShareUpdateKey {
    fn default() -> Self {
        ShareUpdateKey { group_id: String::new(), topic_id: Uuid::ZERO, partition: 0 }
    }
}

impl Stored for ShareUpdateKey {
    const NAME: &'static str = "ShareUpdateKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareUpdateKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.topic_id = input.uuid()?;
        record.partition = input.i32()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.uuid(self.topic_id);
        out.i32(self.partition);
        Ok(())
    }
}

/// `ShareUpdateValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareUpdateValue {
    pub snapshot_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    /// Tag 0.
    pub delivery_complete_count: i32,
    pub state_batches: Vec<ShareUpdateStateBatch>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareUpdateValue {
    fn default() -> Self {
        ShareUpdateValue {
            snapshot_epoch: 0,
            leader_epoch: 0,
            start_offset: 0,
            delivery_complete_count: -1,
            state_batches: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareUpdateValue {
    const NAME: &'static str = "ShareUpdateValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareUpdateValue::default();
        record.snapshot_epoch = input.i32()?;
        record.leader_epoch = input.i32()?;
        record.start_offset = input.i64()?;
        record.state_batches = input
            .list(true, |input| ShareUpdateStateBatch::read(input, version))?
            .ok_or(DecodeError::Null("StateBatches"))?;
        input.tags(|tag, input| {
            match tag {
                0 => record.delivery_complete_count = input.i32()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.snapshot_epoch);
        out.i32(self.leader_epoch);
        out.i64(self.start_offset);
        out.list(Some(&self.state_batches[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.delivery_complete_count != -1 {
            tags.add(0, |out| {
                out.i32(self.delivery_complete_count);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ShareUpdateValue`, part `StateBatch`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareUpdateStateBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_state: i8,
    pub delivery_count: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareUpdateStateBatch {
    fn default() -> Self {
        ShareUpdateStateBatch {
            first_offset: 0,
            last_offset: 0,
            delivery_state: 0,
            delivery_count: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl ShareUpdateStateBatch {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareUpdateStateBatch::default();
        record.first_offset = input.i64()?;
        record.last_offset = input.i64()?;
        record.delivery_state = input.i8()?;
        record.delivery_count = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i64(self.first_offset);
        out.i64(self.last_offset);
        out.i8(self.delivery_state);
        out.i16(self.delivery_count);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// Reads a record by its schema's name and writes it again; `None` for other names.
#[cfg(test)]
pub(crate) fn again(name: &str, version: i16, input: &mut Reader<'_>) -> Option<Result<Vec<u8>, DecodeError>> {
    fn one<T: Stored>(version: i16, input: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        let mut out = Writer::new();
        let record = T::decode_from(input, version)?;
        record.encode_into(&mut out, version).expect("what was read can be written");
        Ok(out.into_bytes())
    }
    Some(match name {
        ShareSnapshotKey::NAME => one::<ShareSnapshotKey>(version, input),
        ShareSnapshotValue::NAME => one::<ShareSnapshotValue>(version, input),
        ShareUpdateKey::NAME => one::<ShareUpdateKey>(version, input),
        ShareUpdateValue::NAME => one::<ShareUpdateValue>(version, input),
        _ => return None,
    })
}
