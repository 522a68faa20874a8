//! The bodies of control records: transaction markers and KRaft's own.
//!
//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:
//! change that program, not this file.

// A program writes one form for all structs, also where a shorter one would do.
#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]

use std::ops::RangeInclusive;

use super::{DecodeError, EncodeError, Reader, Stored, TagWriter, Tags, Writer};
use crate::base::Uuid;

/// `LeaderChangeMessage`; versions 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChangeMessage {
    pub version: i16,
    pub leader_id: i32,
    pub voters: Vec<LeaderChangeMessageVoter>,
    pub granting_voters: Vec<LeaderChangeMessageVoter>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for LeaderChangeMessage {
    fn default() -> Self {
        LeaderChangeMessage {
            version: 0,
            leader_id: 0,
            voters: Vec::new(),
            granting_voters: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for LeaderChangeMessage {
    const NAME: &'static str = "LeaderChangeMessage";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = LeaderChangeMessage::default();
        record.version = input.i16()?;
        record.leader_id = input.i32()?;
        record.voters = input
            .list(true, |input| LeaderChangeMessageVoter::read(input, version))?
            .ok_or(DecodeError::Null("Voters"))?;
        record.granting_voters = input
            .list(true, |input| LeaderChangeMessageVoter::read(input, version))?
            .ok_or(DecodeError::Null("GrantingVoters"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i16(self.version);
        out.i32(self.leader_id);
        out.list(Some(&self.voters[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.granting_voters[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `LeaderChangeMessage`, part `Voter`; versions 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChangeMessageVoter {
    pub voter_id: i32,
    /// Versions 1+.
    pub voter_directory_id: Uuid,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for LeaderChangeMessageVoter {
    fn default() -> Self {
        LeaderChangeMessageVoter { voter_id: 0, voter_directory_id: Uuid::ZERO, unknown_tags: Tags::default() }
    }
}

impl LeaderChangeMessageVoter {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = LeaderChangeMessageVoter::default();
        record.voter_id = input.i32()?;
        if version >= 1 {
            record.voter_directory_id = input.uuid()?;
        }
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version < 1 && self.voter_directory_id != Uuid::ZERO {
            return Err(EncodeError::NotInVersion { field: "VoterDirectoryId", version });
        }
        out.i32(self.voter_id);
        if version >= 1 {
            out.uuid(self.voter_directory_id);
        }
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `SnapshotHeaderRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeaderRecord {
    pub version: i16,
    pub last_contained_log_timestamp: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for SnapshotHeaderRecord {
    fn default() -> Self {
        SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for SnapshotHeaderRecord {
    const NAME: &'static str = "SnapshotHeaderRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = SnapshotHeaderRecord::default();
        record.version = input.i16()?;
        record.last_contained_log_timestamp = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i16(self.version);
        out.i64(self.last_contained_log_timestamp);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `SnapshotFooterRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFooterRecord {
    pub version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for SnapshotFooterRecord {
    fn default() -> Self {
        SnapshotFooterRecord { version: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for SnapshotFooterRecord {
    const NAME: &'static str = "SnapshotFooterRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = SnapshotFooterRecord::default();
        record.version = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i16(self.version);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `KRaftVersionRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KRaftVersionRecord {
    pub version: i16,
    pub k_raft_version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for KRaftVersionRecord {
    fn default() -> Self {
        KRaftVersionRecord { version: 0, k_raft_version: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for KRaftVersionRecord {
    const NAME: &'static str = "KRaftVersionRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = KRaftVersionRecord::default();
        record.version = input.i16()?;
        record.k_raft_version = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i16(self.version);
        out.i16(self.k_raft_version);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `VotersRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VotersRecord {
    pub version: i16,
    pub voters: Vec<VotersVoter>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for VotersRecord {
    fn default() -> Self {
        VotersRecord { version: 0, voters: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for VotersRecord {
    const NAME: &'static str = "VotersRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = VotersRecord::default();
        record.version = input.i16()?;
        record.voters =
            input.list(true, |input| VotersVoter::read(input, version))?.ok_or(DecodeError::Null("Voters"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i16(self.version);
        out.list(Some(&self.voters[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `VotersRecord`, part `Voter`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VotersVoter {
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub k_raft_version_feature: KRaftVersionFeature,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for VotersVoter {
    fn default() -> Self {
        VotersVoter {
            voter_id: 0,
            voter_directory_id: Uuid::ZERO,
            endpoints: Vec::new(),
            k_raft_version_feature: KRaftVersionFeature::default(),
            unknown_tags: Tags::default(),
        }
    }
}

impl VotersVoter {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = VotersVoter::default();
        record.voter_id = input.i32()?;
        record.voter_directory_id = input.uuid()?;
        record.endpoints =
            input.list(true, |input| Endpoint::read(input, version))?.ok_or(DecodeError::Null("Endpoints"))?;
        record.k_raft_version_feature = KRaftVersionFeature::read(input, version)?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.voter_id);
        out.uuid(self.voter_directory_id);
        out.list(Some(&self.endpoints[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        self.k_raft_version_feature.write(out, version)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `VotersRecord`, part `Endpoint`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint { name: String::new(), host: String::new(), port: 0, unknown_tags: Tags::default() }
    }
}

impl Endpoint {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = Endpoint::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.host = input.string(true)?.ok_or(DecodeError::Null("Host"))?;
        record.port = input.u16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.string(Some(&self.host), true)?;
        out.u16(self.port);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `VotersRecord`, part `KRaftVersionFeature`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KRaftVersionFeature {
    pub min_supported_version: i16,
    pub max_supported_version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for KRaftVersionFeature {
    fn default() -> Self {
        KRaftVersionFeature { min_supported_version: 0, max_supported_version: 0, unknown_tags: Tags::default() }
    }
}

impl KRaftVersionFeature {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = KRaftVersionFeature::default();
        record.min_supported_version = input.i16()?;
        record.max_supported_version = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i16(self.min_supported_version);
        out.i16(self.max_supported_version);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `EndTxnMarker`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    pub coordinator_epoch: i32,
}

impl Default for EndTxnMarker {
    fn default() -> Self {
        EndTxnMarker { coordinator_epoch: 0 }
    }
}

impl Stored for EndTxnMarker {
    const NAME: &'static str = "EndTxnMarker";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = EndTxnMarker::default();
        record.coordinator_epoch = input.i32()?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.coordinator_epoch);
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
        LeaderChangeMessage::NAME => one::<LeaderChangeMessage>(version, input),
        SnapshotHeaderRecord::NAME => one::<SnapshotHeaderRecord>(version, input),
        SnapshotFooterRecord::NAME => one::<SnapshotFooterRecord>(version, input),
        KRaftVersionRecord::NAME => one::<KRaftVersionRecord>(version, input),
        VotersRecord::NAME => one::<VotersRecord>(version, input),
        EndTxnMarker::NAME => one::<EndTxnMarker>(version, input),
        _ => return None,
    })
}
