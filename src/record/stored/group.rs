//! The records of `__consumer_offsets`.
//!
//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:
//! change that program, not this file.

// A program writes one form for all structs, also where a shorter one would do.
#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{DecodeError, EncodeError, Reader, Stored, TagWriter, Tags, Writer, nullable};
use crate::base::Uuid;

/// The key of a record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    LegacyOffsetCommit(LegacyOffsetCommitKey),
    OffsetCommit(OffsetCommitKey),
    GroupMetadata(GroupMetadataKey),
    ConsumerGroupMetadata(ConsumerGroupMetadataKey),
    ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataKey),
    ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataKey),
    ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataKey),
    ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberKey),
    ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentKey),
    ShareGroupMemberMetadata(ShareGroupMemberMetadataKey),
    ShareGroupMetadata(ShareGroupMetadataKey),
    ShareGroupTargetAssignmentMetadata(ShareGroupTargetAssignmentMetadataKey),
    ShareGroupTargetAssignmentMember(ShareGroupTargetAssignmentMemberKey),
    ShareGroupCurrentMemberAssignment(ShareGroupCurrentMemberAssignmentKey),
    ShareGroupStatePartitionMetadata(ShareGroupStatePartitionMetadataKey),
    ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionKey),
    StreamsGroupMetadata(StreamsGroupMetadataKey),
    StreamsGroupMemberMetadata(StreamsGroupMemberMetadataKey),
    StreamsGroupTargetAssignmentMetadata(StreamsGroupTargetAssignmentMetadataKey),
    StreamsGroupTargetAssignmentMember(StreamsGroupTargetAssignmentMemberKey),
    StreamsGroupCurrentMemberAssignment(StreamsGroupCurrentMemberAssignmentKey),
    StreamsGroupTopology(StreamsGroupTopologyKey),
}

impl Key {
    /// The number in front of the key, which names the kind of record.
    pub fn kind(&self) -> i16 {
        match self {
            Key::LegacyOffsetCommit(_) => 0,
            Key::OffsetCommit(_) => 1,
            Key::GroupMetadata(_) => 2,
            Key::ConsumerGroupMetadata(_) => 3,
            Key::ConsumerGroupPartitionMetadata(_) => 4,
            Key::ConsumerGroupMemberMetadata(_) => 5,
            Key::ConsumerGroupTargetAssignmentMetadata(_) => 6,
            Key::ConsumerGroupTargetAssignmentMember(_) => 7,
            Key::ConsumerGroupCurrentMemberAssignment(_) => 8,
            Key::ShareGroupMemberMetadata(_) => 10,
            Key::ShareGroupMetadata(_) => 11,
            Key::ShareGroupTargetAssignmentMetadata(_) => 12,
            Key::ShareGroupTargetAssignmentMember(_) => 13,
            Key::ShareGroupCurrentMemberAssignment(_) => 14,
            Key::ShareGroupStatePartitionMetadata(_) => 15,
            Key::ConsumerGroupRegularExpression(_) => 16,
            Key::StreamsGroupMetadata(_) => 17,
            Key::StreamsGroupMemberMetadata(_) => 19,
            Key::StreamsGroupTargetAssignmentMetadata(_) => 20,
            Key::StreamsGroupTargetAssignmentMember(_) => 21,
            Key::StreamsGroupCurrentMemberAssignment(_) => 22,
            Key::StreamsGroupTopology(_) => 23,
        }
    }

    /// The bytes of a record's key: its kind (int16), then the key itself.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.i16(self.kind());
        match self {
            Key::LegacyOffsetCommit(key) => key.encode_into(&mut out, 0)?,
            Key::OffsetCommit(key) => key.encode_into(&mut out, 0)?,
            Key::GroupMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupPartitionMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupMemberMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupTargetAssignmentMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupTargetAssignmentMember(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupCurrentMemberAssignment(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupMemberMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupTargetAssignmentMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupTargetAssignmentMember(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupCurrentMemberAssignment(key) => key.encode_into(&mut out, 0)?,
            Key::ShareGroupStatePartitionMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::ConsumerGroupRegularExpression(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupMemberMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupTargetAssignmentMetadata(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupTargetAssignmentMember(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupCurrentMemberAssignment(key) => key.encode_into(&mut out, 0)?,
            Key::StreamsGroupTopology(key) => key.encode_into(&mut out, 0)?,
        }
        Ok(out.into_bytes())
    }

    /// Reads a record's key. An unknown kind is an error of its own, for a reader that has to skip such records.
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut input = Reader::new(bytes);
        let kind = input.i16()?;
        Ok(match kind {
            0 => Key::LegacyOffsetCommit(LegacyOffsetCommitKey::decode_from(&mut input, 0)?),
            1 => Key::OffsetCommit(OffsetCommitKey::decode_from(&mut input, 0)?),
            2 => Key::GroupMetadata(GroupMetadataKey::decode_from(&mut input, 0)?),
            3 => Key::ConsumerGroupMetadata(ConsumerGroupMetadataKey::decode_from(&mut input, 0)?),
            4 => Key::ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataKey::decode_from(&mut input, 0)?),
            5 => Key::ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataKey::decode_from(&mut input, 0)?),
            6 => Key::ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataKey::decode_from(
                &mut input, 0,
            )?),
            7 => Key::ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberKey::decode_from(
                &mut input, 0,
            )?),
            8 => Key::ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentKey::decode_from(
                &mut input, 0,
            )?),
            10 => Key::ShareGroupMemberMetadata(ShareGroupMemberMetadataKey::decode_from(&mut input, 0)?),
            11 => Key::ShareGroupMetadata(ShareGroupMetadataKey::decode_from(&mut input, 0)?),
            12 => Key::ShareGroupTargetAssignmentMetadata(ShareGroupTargetAssignmentMetadataKey::decode_from(
                &mut input, 0,
            )?),
            13 => {
                Key::ShareGroupTargetAssignmentMember(ShareGroupTargetAssignmentMemberKey::decode_from(&mut input, 0)?)
            }
            14 => Key::ShareGroupCurrentMemberAssignment(ShareGroupCurrentMemberAssignmentKey::decode_from(
                &mut input, 0,
            )?),
            15 => {
                Key::ShareGroupStatePartitionMetadata(ShareGroupStatePartitionMetadataKey::decode_from(&mut input, 0)?)
            }
            16 => Key::ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionKey::decode_from(&mut input, 0)?),
            17 => Key::StreamsGroupMetadata(StreamsGroupMetadataKey::decode_from(&mut input, 0)?),
            19 => Key::StreamsGroupMemberMetadata(StreamsGroupMemberMetadataKey::decode_from(&mut input, 0)?),
            20 => Key::StreamsGroupTargetAssignmentMetadata(StreamsGroupTargetAssignmentMetadataKey::decode_from(
                &mut input, 0,
            )?),
            21 => Key::StreamsGroupTargetAssignmentMember(StreamsGroupTargetAssignmentMemberKey::decode_from(
                &mut input, 0,
            )?),
            22 => Key::StreamsGroupCurrentMemberAssignment(StreamsGroupCurrentMemberAssignmentKey::decode_from(
                &mut input, 0,
            )?),
            23 => Key::StreamsGroupTopology(StreamsGroupTopologyKey::decode_from(&mut input, 0)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }
}

/// The value of a record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    LegacyOffsetCommit(LegacyOffsetCommitValue),
    OffsetCommit(OffsetCommitValue),
    GroupMetadata(GroupMetadataValue),
    ConsumerGroupMetadata(ConsumerGroupMetadataValue),
    ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataValue),
    ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataValue),
    ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataValue),
    ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberValue),
    ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentValue),
    ShareGroupMemberMetadata(ShareGroupMemberMetadataValue),
    ShareGroupMetadata(ShareGroupMetadataValue),
    ShareGroupTargetAssignmentMetadata(ShareGroupTargetAssignmentMetadataValue),
    ShareGroupTargetAssignmentMember(ShareGroupTargetAssignmentMemberValue),
    ShareGroupCurrentMemberAssignment(ShareGroupCurrentMemberAssignmentValue),
    ShareGroupStatePartitionMetadata(ShareGroupStatePartitionMetadataValue),
    ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionValue),
    StreamsGroupMetadata(StreamsGroupMetadataValue),
    StreamsGroupMemberMetadata(StreamsGroupMemberMetadataValue),
    StreamsGroupTargetAssignmentMetadata(StreamsGroupTargetAssignmentMetadataValue),
    StreamsGroupTargetAssignmentMember(StreamsGroupTargetAssignmentMemberValue),
    StreamsGroupCurrentMemberAssignment(StreamsGroupCurrentMemberAssignmentValue),
    StreamsGroupTopology(StreamsGroupTopologyValue),
}

impl Value {
    /// Reads the value of a record whose key is of the given kind: its version (int16), then the value.
    pub fn decode(kind: i16, bytes: &[u8]) -> Result<Value, DecodeError> {
        Ok(match kind {
            0 => Value::LegacyOffsetCommit(LegacyOffsetCommitValue::decode(bytes)?),
            1 => Value::OffsetCommit(OffsetCommitValue::decode(bytes)?),
            2 => Value::GroupMetadata(GroupMetadataValue::decode(bytes)?),
            3 => Value::ConsumerGroupMetadata(ConsumerGroupMetadataValue::decode(bytes)?),
            4 => Value::ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataValue::decode(bytes)?),
            5 => Value::ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataValue::decode(bytes)?),
            6 => {
                Value::ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataValue::decode(bytes)?)
            }
            7 => Value::ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberValue::decode(bytes)?),
            8 => Value::ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentValue::decode(bytes)?),
            10 => Value::ShareGroupMemberMetadata(ShareGroupMemberMetadataValue::decode(bytes)?),
            11 => Value::ShareGroupMetadata(ShareGroupMetadataValue::decode(bytes)?),
            12 => Value::ShareGroupTargetAssignmentMetadata(ShareGroupTargetAssignmentMetadataValue::decode(bytes)?),
            13 => Value::ShareGroupTargetAssignmentMember(ShareGroupTargetAssignmentMemberValue::decode(bytes)?),
            14 => Value::ShareGroupCurrentMemberAssignment(ShareGroupCurrentMemberAssignmentValue::decode(bytes)?),
            15 => Value::ShareGroupStatePartitionMetadata(ShareGroupStatePartitionMetadataValue::decode(bytes)?),
            16 => Value::ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionValue::decode(bytes)?),
            17 => Value::StreamsGroupMetadata(StreamsGroupMetadataValue::decode(bytes)?),
            19 => Value::StreamsGroupMemberMetadata(StreamsGroupMemberMetadataValue::decode(bytes)?),
            20 => {
                Value::StreamsGroupTargetAssignmentMetadata(StreamsGroupTargetAssignmentMetadataValue::decode(bytes)?)
            }
            21 => Value::StreamsGroupTargetAssignmentMember(StreamsGroupTargetAssignmentMemberValue::decode(bytes)?),
            22 => Value::StreamsGroupCurrentMemberAssignment(StreamsGroupCurrentMemberAssignmentValue::decode(bytes)?),
            23 => Value::StreamsGroupTopology(StreamsGroupTopologyValue::decode(bytes)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }

    /// The bytes of the value: the given version (int16), then the value.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        match self {
            Value::LegacyOffsetCommit(value) => value.encode(version),
            Value::OffsetCommit(value) => value.encode(version),
            Value::GroupMetadata(value) => value.encode(version),
            Value::ConsumerGroupMetadata(value) => value.encode(version),
            Value::ConsumerGroupPartitionMetadata(value) => value.encode(version),
            Value::ConsumerGroupMemberMetadata(value) => value.encode(version),
            Value::ConsumerGroupTargetAssignmentMetadata(value) => value.encode(version),
            Value::ConsumerGroupTargetAssignmentMember(value) => value.encode(version),
            Value::ConsumerGroupCurrentMemberAssignment(value) => value.encode(version),
            Value::ShareGroupMemberMetadata(value) => value.encode(version),
            Value::ShareGroupMetadata(value) => value.encode(version),
            Value::ShareGroupTargetAssignmentMetadata(value) => value.encode(version),
            Value::ShareGroupTargetAssignmentMember(value) => value.encode(version),
            Value::ShareGroupCurrentMemberAssignment(value) => value.encode(version),
            Value::ShareGroupStatePartitionMetadata(value) => value.encode(version),
            Value::ConsumerGroupRegularExpression(value) => value.encode(version),
            Value::StreamsGroupMetadata(value) => value.encode(version),
            Value::StreamsGroupMemberMetadata(value) => value.encode(version),
            Value::StreamsGroupTargetAssignmentMetadata(value) => value.encode(version),
            Value::StreamsGroupTargetAssignmentMember(value) => value.encode(version),
            Value::StreamsGroupCurrentMemberAssignment(value) => value.encode(version),
            Value::StreamsGroupTopology(value) => value.encode(version),
        }
    }
}

/// `LegacyOffsetCommitKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyOffsetCommitKey {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

impl Default for LegacyOffsetCommitKey {
    fn default() -> Self {
        LegacyOffsetCommitKey { group: String::new(), topic: String::new(), partition: 0 }
    }
}

impl Stored for LegacyOffsetCommitKey {
    const NAME: &'static str = "LegacyOffsetCommitKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = LegacyOffsetCommitKey::default();
        record.group = input.string(false)?.ok_or(DecodeError::Null("group"))?;
        record.topic = input.string(false)?.ok_or(DecodeError::Null("topic"))?;
        record.partition = input.i32()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group), false)?;
        out.string(Some(&self.topic), false)?;
        out.i32(self.partition);
        Ok(())
    }
}

/// `LegacyOffsetCommitValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyOffsetCommitValue {
    pub offset: i64,
    pub metadata: String,
    pub commit_timestamp: i64,
}

impl Default for LegacyOffsetCommitValue {
    fn default() -> Self {
        LegacyOffsetCommitValue { offset: 0, metadata: String::new(), commit_timestamp: 0 }
    }
}

impl Stored for LegacyOffsetCommitValue {
    const NAME: &'static str = "LegacyOffsetCommitValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = LegacyOffsetCommitValue::default();
        record.offset = input.i64()?;
        record.metadata = input.string(false)?.ok_or(DecodeError::Null("metadata"))?;
        record.commit_timestamp = input.i64()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i64(self.offset);
        out.string(Some(&self.metadata), false)?;
        out.i64(self.commit_timestamp);
        Ok(())
    }
}

/// `OffsetCommitKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitKey {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

impl Default for OffsetCommitKey {
    fn default() -> Self {
        OffsetCommitKey { group: String::new(), topic: String::new(), partition: 0 }
    }
}

impl Stored for OffsetCommitKey {
    const NAME: &'static str = "OffsetCommitKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = OffsetCommitKey::default();
        record.group = input.string(false)?.ok_or(DecodeError::Null("group"))?;
        record.topic = input.string(false)?.ok_or(DecodeError::Null("topic"))?;
        record.partition = input.i32()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group), false)?;
        out.string(Some(&self.topic), false)?;
        out.i32(self.partition);
        Ok(())
    }
}

/// `OffsetCommitValue`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    pub offset: i64,
    /// Versions 3+.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp: i64,
    /// Version 1 only.
    pub expire_timestamp: i64,
    /// Versions 4+, tag 0.
    pub topic_id: Uuid,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for OffsetCommitValue {
    fn default() -> Self {
        OffsetCommitValue {
            offset: 0,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 0,
            expire_timestamp: -1,
            topic_id: Uuid::ZERO,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for OffsetCommitValue {
    const NAME: &'static str = "OffsetCommitValue";
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = OffsetCommitValue::default();
        let flexible = version >= 4;
        record.offset = input.i64()?;
        if version >= 3 {
            record.leader_epoch = input.i32()?;
        }
        record.metadata = input.string(flexible)?.ok_or(DecodeError::Null("metadata"))?;
        record.commit_timestamp = input.i64()?;
        if version == 1 {
            record.expire_timestamp = input.i64()?;
        }
        if flexible {
            input.tags(|tag, input| {
                match tag {
                    0 if version >= 4 => record.topic_id = input.uuid()?,
                    _ => record.unknown_tags.push(tag, input.rest()),
                }
                Ok(())
            })?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        out.i64(self.offset);
        if version >= 3 {
            out.i32(self.leader_epoch);
        }
        out.string(Some(&self.metadata), flexible)?;
        out.i64(self.commit_timestamp);
        if version == 1 {
            out.i64(self.expire_timestamp);
        }
        if flexible {
            let mut tags = TagWriter::new(&self.unknown_tags);
            if version >= 4 && self.topic_id != Uuid::ZERO {
                tags.add(0, |out| {
                    out.uuid(self.topic_id);
                    Ok(())
                })?;
            }
            out.tags(tags)?;
        } else if !self.unknown_tags.is_empty() {
            return Err(EncodeError::NotInVersion { field: "tagged fields", version });
        }
        Ok(())
    }
}

/// `GroupMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataKey {
    pub group: String,
}

impl Default for GroupMetadataKey {
    fn default() -> Self {
        GroupMetadataKey { group: String::new() }
    }
}

impl Stored for GroupMetadataKey {
    const NAME: &'static str = "GroupMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = GroupMetadataKey::default();
        record.group = input.string(false)?.ok_or(DecodeError::Null("group"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group), false)?;
        Ok(())
    }
}

/// `GroupMetadataValue`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// Versions 2+.
    pub current_state_timestamp: i64,
    pub members: Vec<MemberMetadata>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for GroupMetadataValue {
    fn default() -> Self {
        GroupMetadataValue {
            protocol_type: String::new(),
            generation: 0,
            protocol: Some(String::new()),
            leader: Some(String::new()),
            current_state_timestamp: -1,
            members: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for GroupMetadataValue {
    const NAME: &'static str = "GroupMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = GroupMetadataValue::default();
        let flexible = version >= 4;
        record.protocol_type = input.string(flexible)?.ok_or(DecodeError::Null("protocolType"))?;
        record.generation = input.i32()?;
        record.protocol = input.string(flexible)?;
        record.leader = input.string(flexible)?;
        if version >= 2 {
            record.current_state_timestamp = input.i64()?;
        }
        record.members =
            input.list(flexible, |input| MemberMetadata::read(input, version))?.ok_or(DecodeError::Null("members"))?;
        if flexible {
            input.tags(|tag, input| {
                record.unknown_tags.push(tag, input.rest());
                Ok(())
            })?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        out.string(Some(&self.protocol_type), flexible)?;
        out.i32(self.generation);
        out.string(self.protocol.as_deref(), flexible)?;
        out.string(self.leader.as_deref(), flexible)?;
        if version >= 2 {
            out.i64(self.current_state_timestamp);
        }
        out.list(Some(&self.members[..]), flexible, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        if flexible {
            out.tags(TagWriter::new(&self.unknown_tags))?;
        } else if !self.unknown_tags.is_empty() {
            return Err(EncodeError::NotInVersion { field: "tagged fields", version });
        }
        Ok(())
    }
}

/// `GroupMetadataValue`, part `MemberMetadata`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: String,
    /// Versions 3+, may be null from version 3.
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Versions 1+.
    pub rebalance_timeout: i32,
    pub session_timeout: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for MemberMetadata {
    fn default() -> Self {
        MemberMetadata {
            member_id: String::new(),
            group_instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: -1,
            session_timeout: 0,
            subscription: Bytes::new(),
            assignment: Bytes::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl MemberMetadata {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = MemberMetadata::default();
        let flexible = version >= 4;
        record.member_id = input.string(flexible)?.ok_or(DecodeError::Null("memberId"))?;
        if version >= 3 {
            record.group_instance_id =
                nullable(input.string(flexible)?, version >= 3, DecodeError::Null("groupInstanceId"))?;
        }
        record.client_id = input.string(flexible)?.ok_or(DecodeError::Null("clientId"))?;
        record.client_host = input.string(flexible)?.ok_or(DecodeError::Null("clientHost"))?;
        if version >= 1 {
            record.rebalance_timeout = input.i32()?;
        }
        record.session_timeout = input.i32()?;
        record.subscription = input.bytes(flexible)?.ok_or(DecodeError::Null("subscription"))?;
        record.assignment = input.bytes(flexible)?.ok_or(DecodeError::Null("assignment"))?;
        if flexible {
            input.tags(|tag, input| {
                record.unknown_tags.push(tag, input.rest());
                Ok(())
            })?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        out.string(Some(&self.member_id), flexible)?;
        if version >= 3 {
            if version < 3 && self.group_instance_id.is_none() {
                return Err(EncodeError::Null { field: "groupInstanceId", version });
            }
            out.string(self.group_instance_id.as_deref(), flexible)?;
        }
        out.string(Some(&self.client_id), flexible)?;
        out.string(Some(&self.client_host), flexible)?;
        if version >= 1 {
            out.i32(self.rebalance_timeout);
        }
        out.i32(self.session_timeout);
        out.bytes(Some(&self.subscription), flexible)?;
        out.bytes(Some(&self.assignment), flexible)?;
        if flexible {
            out.tags(TagWriter::new(&self.unknown_tags))?;
        } else if !self.unknown_tags.is_empty() {
            return Err(EncodeError::NotInVersion { field: "tagged fields", version });
        }
        Ok(())
    }
}

/// `ConsumerGroupMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMetadataKey {
    pub group_id: String,
}

impl Default for ConsumerGroupMetadataKey {
    fn default() -> Self {
        ConsumerGroupMetadataKey { group_id: String::new() }
    }
}

impl Stored for ConsumerGroupMetadataKey {
    const NAME: &'static str = "ConsumerGroupMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMetadataValue {
    pub epoch: i32,
    /// Tag 0.
    pub metadata_hash: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupMetadataValue {
    fn default() -> Self {
        ConsumerGroupMetadataValue { epoch: 0, metadata_hash: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for ConsumerGroupMetadataValue {
    const NAME: &'static str = "ConsumerGroupMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupMetadataValue::default();
        record.epoch = input.i32()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.metadata_hash = input.i64()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.epoch);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.metadata_hash != 0 {
            tags.add(0, |out| {
                out.i64(self.metadata_hash);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ConsumerGroupPartitionMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupPartitionMetadataKey {
    pub group_id: String,
}

impl Default for ConsumerGroupPartitionMetadataKey {
    fn default() -> Self {
        ConsumerGroupPartitionMetadataKey { group_id: String::new() }
    }
}

impl Stored for ConsumerGroupPartitionMetadataKey {
    const NAME: &'static str = "ConsumerGroupPartitionMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupPartitionMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupPartitionMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupPartitionMetadataValue {
    pub topics: Vec<TopicMetadata>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupPartitionMetadataValue {
    fn default() -> Self {
        ConsumerGroupPartitionMetadataValue { topics: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for ConsumerGroupPartitionMetadataValue {
    const NAME: &'static str = "ConsumerGroupPartitionMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupPartitionMetadataValue::default();
        record.topics =
            input.list(true, |input| TopicMetadata::read(input, version))?.ok_or(DecodeError::Null("Topics"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupPartitionMetadataValue`, part `TopicMetadata`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub topic_id: Uuid,
    pub topic_name: String,
    pub num_partitions: i32,
    pub partition_metadata: Vec<PartitionMetadata>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for TopicMetadata {
    fn default() -> Self {
        TopicMetadata {
            topic_id: Uuid::ZERO,
            topic_name: String::new(),
            num_partitions: 0,
            partition_metadata: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl TopicMetadata {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = TopicMetadata::default();
        record.topic_id = input.uuid()?;
        record.topic_name = input.string(true)?.ok_or(DecodeError::Null("TopicName"))?;
        record.num_partitions = input.i32()?;
        record.partition_metadata = input
            .list(true, |input| PartitionMetadata::read(input, version))?
            .ok_or(DecodeError::Null("PartitionMetadata"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.string(Some(&self.topic_name), true)?;
        out.i32(self.num_partitions);
        out.list(Some(&self.partition_metadata[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupPartitionMetadataValue`, part `PartitionMetadata`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub partition: i32,
    pub racks: Vec<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for PartitionMetadata {
    fn default() -> Self {
        PartitionMetadata { partition: 0, racks: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl PartitionMetadata {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = PartitionMetadata::default();
        record.partition = input.i32()?;
        record.racks = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("Racks")))?
            .ok_or(DecodeError::Null("Racks"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.partition);
        out.list(Some(&self.racks[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupMemberMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMemberMetadataKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ConsumerGroupMemberMetadataKey {
    fn default() -> Self {
        ConsumerGroupMemberMetadataKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ConsumerGroupMemberMetadataKey {
    const NAME: &'static str = "ConsumerGroupMemberMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupMemberMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupMemberMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMemberMetadataValue {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<String>,
    /// Tag 0.
    pub classic_member_metadata: Option<ClassicMemberMetadata>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupMemberMetadataValue {
    fn default() -> Self {
        ConsumerGroupMemberMetadataValue {
            instance_id: Some(String::new()),
            rack_id: Some(String::new()),
            client_id: String::new(),
            client_host: String::new(),
            subscribed_topic_names: Vec::new(),
            subscribed_topic_regex: Some(String::new()),
            rebalance_timeout_ms: -1,
            server_assignor: Some(String::new()),
            classic_member_metadata: Some(ClassicMemberMetadata::default()),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ConsumerGroupMemberMetadataValue {
    const NAME: &'static str = "ConsumerGroupMemberMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupMemberMetadataValue::default();
        record.instance_id = input.string(true)?;
        record.rack_id = input.string(true)?;
        record.client_id = input.string(true)?.ok_or(DecodeError::Null("ClientId"))?;
        record.client_host = input.string(true)?.ok_or(DecodeError::Null("ClientHost"))?;
        record.subscribed_topic_names = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("SubscribedTopicNames")))?
            .ok_or(DecodeError::Null("SubscribedTopicNames"))?;
        record.subscribed_topic_regex = input.string(true)?;
        record.rebalance_timeout_ms = input.i32()?;
        record.server_assignor = input.string(true)?;
        input.tags(|tag, input| {
            match tag {
                0 => {
                    record.classic_member_metadata =
                        if input.presence(true)? { Some(ClassicMemberMetadata::read(input, version)?) } else { None }
                }
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.string(self.instance_id.as_deref(), true)?;
        out.string(self.rack_id.as_deref(), true)?;
        out.string(Some(&self.client_id), true)?;
        out.string(Some(&self.client_host), true)?;
        out.list(Some(&self.subscribed_topic_names[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.string(self.subscribed_topic_regex.as_deref(), true)?;
        out.i32(self.rebalance_timeout_ms);
        out.string(self.server_assignor.as_deref(), true)?;
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.classic_member_metadata != Some(ClassicMemberMetadata::default()) {
            tags.add(0, |out| {
                match &self.classic_member_metadata {
                    Some(value) => {
                        out.presence(true, true);
                        value.write(out, version)?;
                    }
                    None => out.presence(false, true),
                }
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ConsumerGroupMemberMetadataValue`, part `ClassicMemberMetadata`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    pub session_timeout_ms: i32,
    pub supported_protocols: Vec<ClassicProtocol>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ClassicMemberMetadata {
    fn default() -> Self {
        ClassicMemberMetadata { session_timeout_ms: 0, supported_protocols: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl ClassicMemberMetadata {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ClassicMemberMetadata::default();
        record.session_timeout_ms = input.i32()?;
        record.supported_protocols = input
            .list(true, |input| ClassicProtocol::read(input, version))?
            .ok_or(DecodeError::Null("SupportedProtocols"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.session_timeout_ms);
        out.list(Some(&self.supported_protocols[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupMemberMetadataValue`, part `ClassicProtocol`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicProtocol {
    pub name: String,
    pub metadata: Bytes,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ClassicProtocol {
    fn default() -> Self {
        ClassicProtocol { name: String::new(), metadata: Bytes::new(), unknown_tags: Tags::default() }
    }
}

impl ClassicProtocol {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ClassicProtocol::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.metadata = input.bytes(true)?.ok_or(DecodeError::Null("Metadata"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.bytes(Some(&self.metadata), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupTargetAssignmentMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupTargetAssignmentMetadataKey {
    pub group_id: String,
}

impl Default for ConsumerGroupTargetAssignmentMetadataKey {
    fn default() -> Self {
        ConsumerGroupTargetAssignmentMetadataKey { group_id: String::new() }
    }
}

impl Stored for ConsumerGroupTargetAssignmentMetadataKey {
    const NAME: &'static str = "ConsumerGroupTargetAssignmentMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupTargetAssignmentMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupTargetAssignmentMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupTargetAssignmentMetadataValue {
    pub assignment_epoch: i32,
    /// Tag 0.
    pub assignment_timestamp: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupTargetAssignmentMetadataValue {
    fn default() -> Self {
        ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: 0,
            assignment_timestamp: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ConsumerGroupTargetAssignmentMetadataValue {
    const NAME: &'static str = "ConsumerGroupTargetAssignmentMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupTargetAssignmentMetadataValue::default();
        record.assignment_epoch = input.i32()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.assignment_timestamp = input.i64()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.assignment_epoch);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.assignment_timestamp != 0 {
            tags.add(0, |out| {
                out.i64(self.assignment_timestamp);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ConsumerGroupTargetAssignmentMemberKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupTargetAssignmentMemberKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ConsumerGroupTargetAssignmentMemberKey {
    fn default() -> Self {
        ConsumerGroupTargetAssignmentMemberKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ConsumerGroupTargetAssignmentMemberKey {
    const NAME: &'static str = "ConsumerGroupTargetAssignmentMemberKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupTargetAssignmentMemberKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupTargetAssignmentMemberValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupTargetAssignmentMemberValue {
    pub topic_partitions: Vec<ConsumerGroupTargetAssignmentMemberTopicPartition>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupTargetAssignmentMemberValue {
    fn default() -> Self {
        ConsumerGroupTargetAssignmentMemberValue { topic_partitions: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for ConsumerGroupTargetAssignmentMemberValue {
    const NAME: &'static str = "ConsumerGroupTargetAssignmentMemberValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupTargetAssignmentMemberValue::default();
        record.topic_partitions = input
            .list(true, |input| ConsumerGroupTargetAssignmentMemberTopicPartition::read(input, version))?
            .ok_or(DecodeError::Null("TopicPartitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.topic_partitions[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupTargetAssignmentMemberValue`, part `TopicPartition`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupTargetAssignmentMemberTopicPartition {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupTargetAssignmentMemberTopicPartition {
    fn default() -> Self {
        ConsumerGroupTargetAssignmentMemberTopicPartition {
            topic_id: Uuid::ZERO,
            partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl ConsumerGroupTargetAssignmentMemberTopicPartition {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupTargetAssignmentMemberTopicPartition::default();
        record.topic_id = input.uuid()?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupCurrentMemberAssignmentKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupCurrentMemberAssignmentKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ConsumerGroupCurrentMemberAssignmentKey {
    fn default() -> Self {
        ConsumerGroupCurrentMemberAssignmentKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ConsumerGroupCurrentMemberAssignmentKey {
    const NAME: &'static str = "ConsumerGroupCurrentMemberAssignmentKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupCurrentMemberAssignmentKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ConsumerGroupCurrentMemberAssignmentValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub assigned_partitions: Vec<ConsumerGroupCurrentMemberAssignmentTopicPartitions>,
    pub partitions_pending_revocation: Vec<ConsumerGroupCurrentMemberAssignmentTopicPartitions>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupCurrentMemberAssignmentValue {
    fn default() -> Self {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: 0,
            previous_member_epoch: 0,
            state: 0,
            assigned_partitions: Vec::new(),
            partitions_pending_revocation: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ConsumerGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "ConsumerGroupCurrentMemberAssignmentValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupCurrentMemberAssignmentValue::default();
        record.member_epoch = input.i32()?;
        record.previous_member_epoch = input.i32()?;
        record.state = input.i8()?;
        record.assigned_partitions = input
            .list(true, |input| ConsumerGroupCurrentMemberAssignmentTopicPartitions::read(input, version))?
            .ok_or(DecodeError::Null("AssignedPartitions"))?;
        record.partitions_pending_revocation = input
            .list(true, |input| ConsumerGroupCurrentMemberAssignmentTopicPartitions::read(input, version))?
            .ok_or(DecodeError::Null("PartitionsPendingRevocation"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.member_epoch);
        out.i32(self.previous_member_epoch);
        out.i8(self.state);
        out.list(Some(&self.assigned_partitions[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.partitions_pending_revocation[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupCurrentMemberAssignmentValue`, part `TopicPartitions`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupCurrentMemberAssignmentTopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    /// Tag 0.
    pub assignment_epochs: Option<Vec<i32>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupCurrentMemberAssignmentTopicPartitions {
    fn default() -> Self {
        ConsumerGroupCurrentMemberAssignmentTopicPartitions {
            topic_id: Uuid::ZERO,
            partitions: Vec::new(),
            assignment_epochs: Some(Vec::new()),
            unknown_tags: Tags::default(),
        }
    }
}

impl ConsumerGroupCurrentMemberAssignmentTopicPartitions {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupCurrentMemberAssignmentTopicPartitions::default();
        record.topic_id = input.uuid()?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            match tag {
                0 => record.assignment_epochs = input.list(true, Reader::i32)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.assignment_epochs != Some(Vec::new()) {
            tags.add(0, |out| {
                out.list(self.assignment_epochs.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ShareGroupMemberMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupMemberMetadataKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ShareGroupMemberMetadataKey {
    fn default() -> Self {
        ShareGroupMemberMetadataKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ShareGroupMemberMetadataKey {
    const NAME: &'static str = "ShareGroupMemberMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupMemberMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ShareGroupMemberMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupMemberMetadataValue {
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupMemberMetadataValue {
    fn default() -> Self {
        ShareGroupMemberMetadataValue {
            rack_id: Some(String::new()),
            client_id: String::new(),
            client_host: String::new(),
            subscribed_topic_names: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareGroupMemberMetadataValue {
    const NAME: &'static str = "ShareGroupMemberMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupMemberMetadataValue::default();
        record.rack_id = input.string(true)?;
        record.client_id = input.string(true)?.ok_or(DecodeError::Null("ClientId"))?;
        record.client_host = input.string(true)?.ok_or(DecodeError::Null("ClientHost"))?;
        record.subscribed_topic_names = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("SubscribedTopicNames")))?
            .ok_or(DecodeError::Null("SubscribedTopicNames"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(self.rack_id.as_deref(), true)?;
        out.string(Some(&self.client_id), true)?;
        out.string(Some(&self.client_host), true)?;
        out.list(Some(&self.subscribed_topic_names[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupMetadataKey {
    pub group_id: String,
}

impl Default for ShareGroupMetadataKey {
    fn default() -> Self {
        ShareGroupMetadataKey { group_id: String::new() }
    }
}

impl Stored for ShareGroupMetadataKey {
    const NAME: &'static str = "ShareGroupMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ShareGroupMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupMetadataValue {
    pub epoch: i32,
    pub metadata_hash: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupMetadataValue {
    fn default() -> Self {
        ShareGroupMetadataValue { epoch: 0, metadata_hash: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for ShareGroupMetadataValue {
    const NAME: &'static str = "ShareGroupMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupMetadataValue::default();
        record.epoch = input.i32()?;
        record.metadata_hash = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.epoch);
        out.i64(self.metadata_hash);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupTargetAssignmentMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupTargetAssignmentMetadataKey {
    pub group_id: String,
}

impl Default for ShareGroupTargetAssignmentMetadataKey {
    fn default() -> Self {
        ShareGroupTargetAssignmentMetadataKey { group_id: String::new() }
    }
}

impl Stored for ShareGroupTargetAssignmentMetadataKey {
    const NAME: &'static str = "ShareGroupTargetAssignmentMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupTargetAssignmentMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ShareGroupTargetAssignmentMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupTargetAssignmentMetadataValue {
    pub assignment_epoch: i32,
    /// Tag 0.
    pub assignment_timestamp: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupTargetAssignmentMetadataValue {
    fn default() -> Self {
        ShareGroupTargetAssignmentMetadataValue {
            assignment_epoch: 0,
            assignment_timestamp: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareGroupTargetAssignmentMetadataValue {
    const NAME: &'static str = "ShareGroupTargetAssignmentMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupTargetAssignmentMetadataValue::default();
        record.assignment_epoch = input.i32()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.assignment_timestamp = input.i64()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.assignment_epoch);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.assignment_timestamp != 0 {
            tags.add(0, |out| {
                out.i64(self.assignment_timestamp);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `ShareGroupTargetAssignmentMemberKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupTargetAssignmentMemberKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ShareGroupTargetAssignmentMemberKey {
    fn default() -> Self {
        ShareGroupTargetAssignmentMemberKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ShareGroupTargetAssignmentMemberKey {
    const NAME: &'static str = "ShareGroupTargetAssignmentMemberKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupTargetAssignmentMemberKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ShareGroupTargetAssignmentMemberValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupTargetAssignmentMemberValue {
    pub topic_partitions: Vec<ShareGroupTargetAssignmentMemberTopicPartition>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupTargetAssignmentMemberValue {
    fn default() -> Self {
        ShareGroupTargetAssignmentMemberValue { topic_partitions: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for ShareGroupTargetAssignmentMemberValue {
    const NAME: &'static str = "ShareGroupTargetAssignmentMemberValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupTargetAssignmentMemberValue::default();
        record.topic_partitions = input
            .list(true, |input| ShareGroupTargetAssignmentMemberTopicPartition::read(input, version))?
            .ok_or(DecodeError::Null("TopicPartitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.topic_partitions[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupTargetAssignmentMemberValue`, part `TopicPartition`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupTargetAssignmentMemberTopicPartition {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupTargetAssignmentMemberTopicPartition {
    fn default() -> Self {
        ShareGroupTargetAssignmentMemberTopicPartition {
            topic_id: Uuid::ZERO,
            partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl ShareGroupTargetAssignmentMemberTopicPartition {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupTargetAssignmentMemberTopicPartition::default();
        record.topic_id = input.uuid()?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupCurrentMemberAssignmentKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupCurrentMemberAssignmentKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for ShareGroupCurrentMemberAssignmentKey {
    fn default() -> Self {
        ShareGroupCurrentMemberAssignmentKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for ShareGroupCurrentMemberAssignmentKey {
    const NAME: &'static str = "ShareGroupCurrentMemberAssignmentKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupCurrentMemberAssignmentKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `ShareGroupCurrentMemberAssignmentValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub assigned_partitions: Vec<ShareGroupCurrentMemberAssignmentTopicPartitions>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupCurrentMemberAssignmentValue {
    fn default() -> Self {
        ShareGroupCurrentMemberAssignmentValue {
            member_epoch: 0,
            previous_member_epoch: 0,
            state: 0,
            assigned_partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "ShareGroupCurrentMemberAssignmentValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupCurrentMemberAssignmentValue::default();
        record.member_epoch = input.i32()?;
        record.previous_member_epoch = input.i32()?;
        record.state = input.i8()?;
        record.assigned_partitions = input
            .list(true, |input| ShareGroupCurrentMemberAssignmentTopicPartitions::read(input, version))?
            .ok_or(DecodeError::Null("AssignedPartitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.member_epoch);
        out.i32(self.previous_member_epoch);
        out.i8(self.state);
        out.list(Some(&self.assigned_partitions[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupCurrentMemberAssignmentValue`, part `TopicPartitions`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupCurrentMemberAssignmentTopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupCurrentMemberAssignmentTopicPartitions {
    fn default() -> Self {
        ShareGroupCurrentMemberAssignmentTopicPartitions {
            topic_id: Uuid::ZERO,
            partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl ShareGroupCurrentMemberAssignmentTopicPartitions {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupCurrentMemberAssignmentTopicPartitions::default();
        record.topic_id = input.uuid()?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupStatePartitionMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupStatePartitionMetadataKey {
    pub group_id: String,
}

impl Default for ShareGroupStatePartitionMetadataKey {
    fn default() -> Self {
        ShareGroupStatePartitionMetadataKey { group_id: String::new() }
    }
}

impl Stored for ShareGroupStatePartitionMetadataKey {
    const NAME: &'static str = "ShareGroupStatePartitionMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupStatePartitionMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `ShareGroupStatePartitionMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupStatePartitionMetadataValue {
    pub initializing_topics: Vec<TopicPartitionsInfo>,
    pub initialized_topics: Vec<TopicPartitionsInfo>,
    pub deleting_topics: Vec<ShareGroupStatePartitionMetadataTopicInfo>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupStatePartitionMetadataValue {
    fn default() -> Self {
        ShareGroupStatePartitionMetadataValue {
            initializing_topics: Vec::new(),
            initialized_topics: Vec::new(),
            deleting_topics: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ShareGroupStatePartitionMetadataValue {
    const NAME: &'static str = "ShareGroupStatePartitionMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupStatePartitionMetadataValue::default();
        record.initializing_topics = input
            .list(true, |input| TopicPartitionsInfo::read(input, version))?
            .ok_or(DecodeError::Null("InitializingTopics"))?;
        record.initialized_topics = input
            .list(true, |input| TopicPartitionsInfo::read(input, version))?
            .ok_or(DecodeError::Null("InitializedTopics"))?;
        record.deleting_topics = input
            .list(true, |input| ShareGroupStatePartitionMetadataTopicInfo::read(input, version))?
            .ok_or(DecodeError::Null("DeletingTopics"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.initializing_topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.initialized_topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.deleting_topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupStatePartitionMetadataValue`, part `TopicPartitionsInfo`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitionsInfo {
    pub topic_id: Uuid,
    pub topic_name: String,
    pub partitions: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for TopicPartitionsInfo {
    fn default() -> Self {
        TopicPartitionsInfo {
            topic_id: Uuid::ZERO,
            topic_name: String::new(),
            partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl TopicPartitionsInfo {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = TopicPartitionsInfo::default();
        record.topic_id = input.uuid()?;
        record.topic_name = input.string(true)?.ok_or(DecodeError::Null("TopicName"))?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.string(Some(&self.topic_name), true)?;
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ShareGroupStatePartitionMetadataValue`, part `TopicInfo`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupStatePartitionMetadataTopicInfo {
    pub topic_id: Uuid,
    pub topic_name: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ShareGroupStatePartitionMetadataTopicInfo {
    fn default() -> Self {
        ShareGroupStatePartitionMetadataTopicInfo {
            topic_id: Uuid::ZERO,
            topic_name: String::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl ShareGroupStatePartitionMetadataTopicInfo {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ShareGroupStatePartitionMetadataTopicInfo::default();
        record.topic_id = input.uuid()?;
        record.topic_name = input.string(true)?.ok_or(DecodeError::Null("TopicName"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.string(Some(&self.topic_name), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ConsumerGroupRegularExpressionKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupRegularExpressionKey {
    pub group_id: String,
    pub regular_expression: String,
}

impl Default for ConsumerGroupRegularExpressionKey {
    fn default() -> Self {
        ConsumerGroupRegularExpressionKey { group_id: String::new(), regular_expression: String::new() }
    }
}

impl Stored for ConsumerGroupRegularExpressionKey {
    const NAME: &'static str = "ConsumerGroupRegularExpressionKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupRegularExpressionKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.regular_expression = input.string(false)?.ok_or(DecodeError::Null("RegularExpression"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.regular_expression), false)?;
        Ok(())
    }
}

/// `ConsumerGroupRegularExpressionValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupRegularExpressionValue {
    pub topics: Vec<String>,
    pub version: i64,
    pub timestamp: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConsumerGroupRegularExpressionValue {
    fn default() -> Self {
        ConsumerGroupRegularExpressionValue {
            topics: Vec::new(),
            version: 0,
            timestamp: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ConsumerGroupRegularExpressionValue {
    const NAME: &'static str = "ConsumerGroupRegularExpressionValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConsumerGroupRegularExpressionValue::default();
        record.topics = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("Topics")))?
            .ok_or(DecodeError::Null("Topics"))?;
        record.version = input.i64()?;
        record.timestamp = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.topics[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.i64(self.version);
        out.i64(self.timestamp);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupMetadataKey {
    pub group_id: String,
}

impl Default for StreamsGroupMetadataKey {
    fn default() -> Self {
        StreamsGroupMetadataKey { group_id: String::new() }
    }
}

impl Stored for StreamsGroupMetadataKey {
    const NAME: &'static str = "StreamsGroupMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupMetadataValue {
    pub epoch: i32,
    pub metadata_hash: i64,
    /// Tag 0.
    pub validated_topology_epoch: i32,
    /// Tag 1.
    pub last_assignment_configs: Option<Vec<LastAssignmentConfig>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupMetadataValue {
    fn default() -> Self {
        StreamsGroupMetadataValue {
            epoch: 0,
            metadata_hash: 0,
            validated_topology_epoch: -1,
            last_assignment_configs: Some(Vec::new()),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for StreamsGroupMetadataValue {
    const NAME: &'static str = "StreamsGroupMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupMetadataValue::default();
        record.epoch = input.i32()?;
        record.metadata_hash = input.i64()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.validated_topology_epoch = input.i32()?,
                1 => {
                    record.last_assignment_configs =
                        input.list(true, |input| LastAssignmentConfig::read(input, version))?
                }
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.epoch);
        out.i64(self.metadata_hash);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.validated_topology_epoch != -1 {
            tags.add(0, |out| {
                out.i32(self.validated_topology_epoch);
                Ok(())
            })?;
        }
        if self.last_assignment_configs != Some(Vec::new()) {
            tags.add(1, |out| {
                out.list(self.last_assignment_configs.as_deref(), true, |out, value| {
                    value.write(out, version)?;
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `StreamsGroupMetadataValue`, part `LastAssignmentConfig`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAssignmentConfig {
    pub key: String,
    pub value: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for LastAssignmentConfig {
    fn default() -> Self {
        LastAssignmentConfig { key: String::new(), value: String::new(), unknown_tags: Tags::default() }
    }
}

impl LastAssignmentConfig {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = LastAssignmentConfig::default();
        record.key = input.string(true)?.ok_or(DecodeError::Null("Key"))?;
        record.value = input.string(true)?.ok_or(DecodeError::Null("Value"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.key), true)?;
        out.string(Some(&self.value), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupMemberMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupMemberMetadataKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for StreamsGroupMemberMetadataKey {
    fn default() -> Self {
        StreamsGroupMemberMetadataKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for StreamsGroupMemberMetadataKey {
    const NAME: &'static str = "StreamsGroupMemberMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupMemberMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupMemberMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupMemberMetadataValue {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub topology_epoch: i32,
    pub process_id: String,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Vec<KeyValue>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupMemberMetadataValue {
    fn default() -> Self {
        StreamsGroupMemberMetadataValue {
            instance_id: Some(String::new()),
            rack_id: Some(String::new()),
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: -1,
            topology_epoch: 0,
            process_id: String::new(),
            user_endpoint: None,
            client_tags: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for StreamsGroupMemberMetadataValue {
    const NAME: &'static str = "StreamsGroupMemberMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupMemberMetadataValue::default();
        record.instance_id = input.string(true)?;
        record.rack_id = input.string(true)?;
        record.client_id = input.string(true)?.ok_or(DecodeError::Null("ClientId"))?;
        record.client_host = input.string(true)?.ok_or(DecodeError::Null("ClientHost"))?;
        record.rebalance_timeout_ms = input.i32()?;
        record.topology_epoch = input.i32()?;
        record.process_id = input.string(true)?.ok_or(DecodeError::Null("ProcessId"))?;
        record.user_endpoint = if input.presence(false)? { Some(Endpoint::read(input, version)?) } else { None };
        record.client_tags =
            input.list(true, |input| KeyValue::read(input, version))?.ok_or(DecodeError::Null("ClientTags"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.string(self.instance_id.as_deref(), true)?;
        out.string(self.rack_id.as_deref(), true)?;
        out.string(Some(&self.client_id), true)?;
        out.string(Some(&self.client_host), true)?;
        out.i32(self.rebalance_timeout_ms);
        out.i32(self.topology_epoch);
        out.string(Some(&self.process_id), true)?;
        match &self.user_endpoint {
            Some(value) => {
                out.presence(true, false);
                value.write(out, version)?;
            }
            None => out.presence(false, false),
        }
        out.list(Some(&self.client_tags[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupMemberMetadataValue`, part `Endpoint`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint { host: String::new(), port: 0, unknown_tags: Tags::default() }
    }
}

impl Endpoint {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = Endpoint::default();
        record.host = input.string(true)?.ok_or(DecodeError::Null("Host"))?;
        record.port = input.u16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.host), true)?;
        out.u16(self.port);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupMemberMetadataValue`, part `KeyValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for KeyValue {
    fn default() -> Self {
        KeyValue { key: String::new(), value: String::new(), unknown_tags: Tags::default() }
    }
}

impl KeyValue {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = KeyValue::default();
        record.key = input.string(true)?.ok_or(DecodeError::Null("Key"))?;
        record.value = input.string(true)?.ok_or(DecodeError::Null("Value"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.key), true)?;
        out.string(Some(&self.value), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTargetAssignmentMetadataKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTargetAssignmentMetadataKey {
    pub group_id: String,
}

impl Default for StreamsGroupTargetAssignmentMetadataKey {
    fn default() -> Self {
        StreamsGroupTargetAssignmentMetadataKey { group_id: String::new() }
    }
}

impl Stored for StreamsGroupTargetAssignmentMetadataKey {
    const NAME: &'static str = "StreamsGroupTargetAssignmentMetadataKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTargetAssignmentMetadataKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupTargetAssignmentMetadataValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTargetAssignmentMetadataValue {
    pub assignment_epoch: i32,
    /// Tag 0.
    pub assignment_timestamp: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupTargetAssignmentMetadataValue {
    fn default() -> Self {
        StreamsGroupTargetAssignmentMetadataValue {
            assignment_epoch: 0,
            assignment_timestamp: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for StreamsGroupTargetAssignmentMetadataValue {
    const NAME: &'static str = "StreamsGroupTargetAssignmentMetadataValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTargetAssignmentMetadataValue::default();
        record.assignment_epoch = input.i32()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.assignment_timestamp = input.i64()?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.assignment_epoch);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.assignment_timestamp != 0 {
            tags.add(0, |out| {
                out.i64(self.assignment_timestamp);
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `StreamsGroupTargetAssignmentMemberKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTargetAssignmentMemberKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for StreamsGroupTargetAssignmentMemberKey {
    fn default() -> Self {
        StreamsGroupTargetAssignmentMemberKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for StreamsGroupTargetAssignmentMemberKey {
    const NAME: &'static str = "StreamsGroupTargetAssignmentMemberKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTargetAssignmentMemberKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupTargetAssignmentMemberValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTargetAssignmentMemberValue {
    pub active_tasks: Vec<StreamsGroupTargetAssignmentMemberTaskIds>,
    pub standby_tasks: Vec<StreamsGroupTargetAssignmentMemberTaskIds>,
    pub warmup_tasks: Vec<StreamsGroupTargetAssignmentMemberTaskIds>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupTargetAssignmentMemberValue {
    fn default() -> Self {
        StreamsGroupTargetAssignmentMemberValue {
            active_tasks: Vec::new(),
            standby_tasks: Vec::new(),
            warmup_tasks: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for StreamsGroupTargetAssignmentMemberValue {
    const NAME: &'static str = "StreamsGroupTargetAssignmentMemberValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTargetAssignmentMemberValue::default();
        record.active_tasks = input
            .list(true, |input| StreamsGroupTargetAssignmentMemberTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("ActiveTasks"))?;
        record.standby_tasks = input
            .list(true, |input| StreamsGroupTargetAssignmentMemberTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("StandbyTasks"))?;
        record.warmup_tasks = input
            .list(true, |input| StreamsGroupTargetAssignmentMemberTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("WarmupTasks"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.active_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.standby_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.warmup_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTargetAssignmentMemberValue`, part `TaskIds`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTargetAssignmentMemberTaskIds {
    pub subtopology_id: String,
    pub partitions: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupTargetAssignmentMemberTaskIds {
    fn default() -> Self {
        StreamsGroupTargetAssignmentMemberTaskIds {
            subtopology_id: String::new(),
            partitions: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl StreamsGroupTargetAssignmentMemberTaskIds {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTargetAssignmentMemberTaskIds::default();
        record.subtopology_id = input.string(true)?.ok_or(DecodeError::Null("SubtopologyId"))?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.subtopology_id), true)?;
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupCurrentMemberAssignmentKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupCurrentMemberAssignmentKey {
    pub group_id: String,
    pub member_id: String,
}

impl Default for StreamsGroupCurrentMemberAssignmentKey {
    fn default() -> Self {
        StreamsGroupCurrentMemberAssignmentKey { group_id: String::new(), member_id: String::new() }
    }
}

impl Stored for StreamsGroupCurrentMemberAssignmentKey {
    const NAME: &'static str = "StreamsGroupCurrentMemberAssignmentKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupCurrentMemberAssignmentKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        record.member_id = input.string(false)?.ok_or(DecodeError::Null("MemberId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        out.string(Some(&self.member_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupCurrentMemberAssignmentValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupCurrentMemberAssignmentValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    pub state: i8,
    pub active_tasks: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    pub standby_tasks: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    pub warmup_tasks: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    pub active_tasks_pending_revocation: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    pub standby_tasks_pending_revocation: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    pub warmup_tasks_pending_revocation: Vec<StreamsGroupCurrentMemberAssignmentTaskIds>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupCurrentMemberAssignmentValue {
    fn default() -> Self {
        StreamsGroupCurrentMemberAssignmentValue {
            member_epoch: 0,
            previous_member_epoch: 0,
            state: 0,
            active_tasks: Vec::new(),
            standby_tasks: Vec::new(),
            warmup_tasks: Vec::new(),
            active_tasks_pending_revocation: Vec::new(),
            standby_tasks_pending_revocation: Vec::new(),
            warmup_tasks_pending_revocation: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for StreamsGroupCurrentMemberAssignmentValue {
    const NAME: &'static str = "StreamsGroupCurrentMemberAssignmentValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupCurrentMemberAssignmentValue::default();
        record.member_epoch = input.i32()?;
        record.previous_member_epoch = input.i32()?;
        record.state = input.i8()?;
        record.active_tasks = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("ActiveTasks"))?;
        record.standby_tasks = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("StandbyTasks"))?;
        record.warmup_tasks = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("WarmupTasks"))?;
        record.active_tasks_pending_revocation = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("ActiveTasksPendingRevocation"))?;
        record.standby_tasks_pending_revocation = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("StandbyTasksPendingRevocation"))?;
        record.warmup_tasks_pending_revocation = input
            .list(true, |input| StreamsGroupCurrentMemberAssignmentTaskIds::read(input, version))?
            .ok_or(DecodeError::Null("WarmupTasksPendingRevocation"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.member_epoch);
        out.i32(self.previous_member_epoch);
        out.i8(self.state);
        out.list(Some(&self.active_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.standby_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.warmup_tasks[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.active_tasks_pending_revocation[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.standby_tasks_pending_revocation[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.warmup_tasks_pending_revocation[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupCurrentMemberAssignmentValue`, part `TaskIds`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupCurrentMemberAssignmentTaskIds {
    pub subtopology_id: String,
    pub partitions: Vec<i32>,
    /// Tag 0.
    pub assignment_epochs: Option<Vec<i32>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupCurrentMemberAssignmentTaskIds {
    fn default() -> Self {
        StreamsGroupCurrentMemberAssignmentTaskIds {
            subtopology_id: String::new(),
            partitions: Vec::new(),
            assignment_epochs: Some(Vec::new()),
            unknown_tags: Tags::default(),
        }
    }
}

impl StreamsGroupCurrentMemberAssignmentTaskIds {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupCurrentMemberAssignmentTaskIds::default();
        record.subtopology_id = input.string(true)?.ok_or(DecodeError::Null("SubtopologyId"))?;
        record.partitions = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Partitions"))?;
        input.tags(|tag, input| {
            match tag {
                0 => record.assignment_epochs = input.list(true, Reader::i32)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.subtopology_id), true)?;
        out.list(Some(&self.partitions[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.assignment_epochs != Some(Vec::new()) {
            tags.add(0, |out| {
                out.list(self.assignment_epochs.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `StreamsGroupTopologyKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTopologyKey {
    pub group_id: String,
}

impl Default for StreamsGroupTopologyKey {
    fn default() -> Self {
        StreamsGroupTopologyKey { group_id: String::new() }
    }
}

impl Stored for StreamsGroupTopologyKey {
    const NAME: &'static str = "StreamsGroupTopologyKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTopologyKey::default();
        record.group_id = input.string(false)?.ok_or(DecodeError::Null("GroupId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.group_id), false)?;
        Ok(())
    }
}

/// `StreamsGroupTopologyValue`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTopologyValue {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupTopologyValue {
    fn default() -> Self {
        StreamsGroupTopologyValue { epoch: 0, subtopologies: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for StreamsGroupTopologyValue {
    const NAME: &'static str = "StreamsGroupTopologyValue";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTopologyValue::default();
        record.epoch = input.i32()?;
        record.subtopologies =
            input.list(true, |input| Subtopology::read(input, version))?.ok_or(DecodeError::Null("Subtopologies"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.epoch);
        out.list(Some(&self.subtopologies[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTopologyValue`, part `TopicConfig`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub key: String,
    pub value: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig { key: String::new(), value: String::new(), unknown_tags: Tags::default() }
    }
}

impl TopicConfig {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = TopicConfig::default();
        record.key = input.string(true)?.ok_or(DecodeError::Null("key"))?;
        record.value = input.string(true)?.ok_or(DecodeError::Null("value"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.key), true)?;
        out.string(Some(&self.value), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTopologyValue`, part `TopicInfo`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupTopologyTopicInfo {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    pub topic_configs: Vec<TopicConfig>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for StreamsGroupTopologyTopicInfo {
    fn default() -> Self {
        StreamsGroupTopologyTopicInfo {
            name: String::new(),
            partitions: 0,
            replication_factor: 0,
            topic_configs: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl StreamsGroupTopologyTopicInfo {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = StreamsGroupTopologyTopicInfo::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.partitions = input.i32()?;
        record.replication_factor = input.i16()?;
        record.topic_configs =
            input.list(true, |input| TopicConfig::read(input, version))?.ok_or(DecodeError::Null("TopicConfigs"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i32(self.partitions);
        out.i16(self.replication_factor);
        out.list(Some(&self.topic_configs[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTopologyValue`, part `Subtopology`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtopology {
    pub subtopology_id: String,
    pub source_topics: Vec<String>,
    pub source_topic_regex: Vec<String>,
    pub state_changelog_topics: Vec<StreamsGroupTopologyTopicInfo>,
    pub repartition_sink_topics: Vec<String>,
    pub repartition_source_topics: Vec<StreamsGroupTopologyTopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for Subtopology {
    fn default() -> Self {
        Subtopology {
            subtopology_id: String::new(),
            source_topics: Vec::new(),
            source_topic_regex: Vec::new(),
            state_changelog_topics: Vec::new(),
            repartition_sink_topics: Vec::new(),
            repartition_source_topics: Vec::new(),
            copartition_groups: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Subtopology {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = Subtopology::default();
        record.subtopology_id = input.string(true)?.ok_or(DecodeError::Null("SubtopologyId"))?;
        record.source_topics = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("SourceTopics")))?
            .ok_or(DecodeError::Null("SourceTopics"))?;
        record.source_topic_regex = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("SourceTopicRegex")))?
            .ok_or(DecodeError::Null("SourceTopicRegex"))?;
        record.state_changelog_topics = input
            .list(true, |input| StreamsGroupTopologyTopicInfo::read(input, version))?
            .ok_or(DecodeError::Null("StateChangelogTopics"))?;
        record.repartition_sink_topics = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("RepartitionSinkTopics")))?
            .ok_or(DecodeError::Null("RepartitionSinkTopics"))?;
        record.repartition_source_topics = input
            .list(true, |input| StreamsGroupTopologyTopicInfo::read(input, version))?
            .ok_or(DecodeError::Null("RepartitionSourceTopics"))?;
        record.copartition_groups = input
            .list(true, |input| CopartitionGroup::read(input, version))?
            .ok_or(DecodeError::Null("CopartitionGroups"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.subtopology_id), true)?;
        out.list(Some(&self.source_topics[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.list(Some(&self.source_topic_regex[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.list(Some(&self.state_changelog_topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.repartition_sink_topics[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.list(Some(&self.repartition_source_topics[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.copartition_groups[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `StreamsGroupTopologyValue`, part `CopartitionGroup`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for CopartitionGroup {
    fn default() -> Self {
        CopartitionGroup {
            source_topics: Vec::new(),
            source_topic_regex: Vec::new(),
            repartition_source_topics: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl CopartitionGroup {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = CopartitionGroup::default();
        record.source_topics = input.list(true, Reader::i16)?.ok_or(DecodeError::Null("SourceTopics"))?;
        record.source_topic_regex = input.list(true, Reader::i16)?.ok_or(DecodeError::Null("SourceTopicRegex"))?;
        record.repartition_source_topics =
            input.list(true, Reader::i16)?.ok_or(DecodeError::Null("RepartitionSourceTopics"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.source_topics[..]), true, |out, value| {
            out.i16(*value);
            Ok(())
        })?;
        out.list(Some(&self.source_topic_regex[..]), true, |out, value| {
            out.i16(*value);
            Ok(())
        })?;
        out.list(Some(&self.repartition_source_topics[..]), true, |out, value| {
            out.i16(*value);
            Ok(())
        })?;
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
        LegacyOffsetCommitKey::NAME => one::<LegacyOffsetCommitKey>(version, input),
        LegacyOffsetCommitValue::NAME => one::<LegacyOffsetCommitValue>(version, input),
        OffsetCommitKey::NAME => one::<OffsetCommitKey>(version, input),
        OffsetCommitValue::NAME => one::<OffsetCommitValue>(version, input),
        GroupMetadataKey::NAME => one::<GroupMetadataKey>(version, input),
        GroupMetadataValue::NAME => one::<GroupMetadataValue>(version, input),
        ConsumerGroupMetadataKey::NAME => one::<ConsumerGroupMetadataKey>(version, input),
        ConsumerGroupMetadataValue::NAME => one::<ConsumerGroupMetadataValue>(version, input),
        ConsumerGroupPartitionMetadataKey::NAME => one::<ConsumerGroupPartitionMetadataKey>(version, input),
        ConsumerGroupPartitionMetadataValue::NAME => one::<ConsumerGroupPartitionMetadataValue>(version, input),
        ConsumerGroupMemberMetadataKey::NAME => one::<ConsumerGroupMemberMetadataKey>(version, input),
        ConsumerGroupMemberMetadataValue::NAME => one::<ConsumerGroupMemberMetadataValue>(version, input),
        ConsumerGroupTargetAssignmentMetadataKey::NAME => {
            one::<ConsumerGroupTargetAssignmentMetadataKey>(version, input)
        }
        ConsumerGroupTargetAssignmentMetadataValue::NAME => {
            one::<ConsumerGroupTargetAssignmentMetadataValue>(version, input)
        }
        ConsumerGroupTargetAssignmentMemberKey::NAME => one::<ConsumerGroupTargetAssignmentMemberKey>(version, input),
        ConsumerGroupTargetAssignmentMemberValue::NAME => {
            one::<ConsumerGroupTargetAssignmentMemberValue>(version, input)
        }
        ConsumerGroupCurrentMemberAssignmentKey::NAME => one::<ConsumerGroupCurrentMemberAssignmentKey>(version, input),
        ConsumerGroupCurrentMemberAssignmentValue::NAME => {
            one::<ConsumerGroupCurrentMemberAssignmentValue>(version, input)
        }
        ShareGroupMemberMetadataKey::NAME => one::<ShareGroupMemberMetadataKey>(version, input),
        ShareGroupMemberMetadataValue::NAME => one::<ShareGroupMemberMetadataValue>(version, input),
        ShareGroupMetadataKey::NAME => one::<ShareGroupMetadataKey>(version, input),
        ShareGroupMetadataValue::NAME => one::<ShareGroupMetadataValue>(version, input),
        ShareGroupTargetAssignmentMetadataKey::NAME => one::<ShareGroupTargetAssignmentMetadataKey>(version, input),
        ShareGroupTargetAssignmentMetadataValue::NAME => one::<ShareGroupTargetAssignmentMetadataValue>(version, input),
        ShareGroupTargetAssignmentMemberKey::NAME => one::<ShareGroupTargetAssignmentMemberKey>(version, input),
        ShareGroupTargetAssignmentMemberValue::NAME => one::<ShareGroupTargetAssignmentMemberValue>(version, input),
        ShareGroupCurrentMemberAssignmentKey::NAME => one::<ShareGroupCurrentMemberAssignmentKey>(version, input),
        ShareGroupCurrentMemberAssignmentValue::NAME => one::<ShareGroupCurrentMemberAssignmentValue>(version, input),
        ShareGroupStatePartitionMetadataKey::NAME => one::<ShareGroupStatePartitionMetadataKey>(version, input),
        ShareGroupStatePartitionMetadataValue::NAME => one::<ShareGroupStatePartitionMetadataValue>(version, input),
        ConsumerGroupRegularExpressionKey::NAME => one::<ConsumerGroupRegularExpressionKey>(version, input),
        ConsumerGroupRegularExpressionValue::NAME => one::<ConsumerGroupRegularExpressionValue>(version, input),
        StreamsGroupMetadataKey::NAME => one::<StreamsGroupMetadataKey>(version, input),
        StreamsGroupMetadataValue::NAME => one::<StreamsGroupMetadataValue>(version, input),
        StreamsGroupMemberMetadataKey::NAME => one::<StreamsGroupMemberMetadataKey>(version, input),
        StreamsGroupMemberMetadataValue::NAME => one::<StreamsGroupMemberMetadataValue>(version, input),
        StreamsGroupTargetAssignmentMetadataKey::NAME => one::<StreamsGroupTargetAssignmentMetadataKey>(version, input),
        StreamsGroupTargetAssignmentMetadataValue::NAME => {
            one::<StreamsGroupTargetAssignmentMetadataValue>(version, input)
        }
        StreamsGroupTargetAssignmentMemberKey::NAME => one::<StreamsGroupTargetAssignmentMemberKey>(version, input),
        StreamsGroupTargetAssignmentMemberValue::NAME => one::<StreamsGroupTargetAssignmentMemberValue>(version, input),
        StreamsGroupCurrentMemberAssignmentKey::NAME => one::<StreamsGroupCurrentMemberAssignmentKey>(version, input),
        StreamsGroupCurrentMemberAssignmentValue::NAME => {
            one::<StreamsGroupCurrentMemberAssignmentValue>(version, input)
        }
        StreamsGroupTopologyKey::NAME => one::<StreamsGroupTopologyKey>(version, input),
        StreamsGroupTopologyValue::NAME => one::<StreamsGroupTopologyValue>(version, input),
        _ => return None,
    })
}
