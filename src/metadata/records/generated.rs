//! The records of `__cluster_metadata`.
//!
//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:
//! change that program, not this file.

// A program writes one form for all structs, also where a shorter one would do.
#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::base::Uuid;
use crate::record::stored::{DecodeError, EncodeError, Reader, Stored, TagWriter, Tags, Writer};

/// A record of the metadata log.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataRecord {
    RegisterBroker(RegisterBrokerRecord),
    UnregisterBroker(UnregisterBrokerRecord),
    Topic(TopicRecord),
    Partition(PartitionRecord),
    Config(ConfigRecord),
    PartitionChange(PartitionChangeRecord),
    FenceBroker(FenceBrokerRecord),
    UnfenceBroker(UnfenceBrokerRecord),
    RemoveTopic(RemoveTopicRecord),
    DelegationToken(DelegationTokenRecord),
    UserScramCredential(UserScramCredentialRecord),
    FeatureLevel(FeatureLevelRecord),
    ClientQuota(ClientQuotaRecord),
    ProducerIds(ProducerIdsRecord),
    BrokerRegistrationChange(BrokerRegistrationChangeRecord),
    AccessControlEntry(AccessControlEntryRecord),
    RemoveAccessControlEntry(RemoveAccessControlEntryRecord),
    NoOp(NoOpRecord),
    ZkMigrationState(ZkMigrationStateRecord),
    RemoveUserScramCredential(RemoveUserScramCredentialRecord),
    BeginTransaction(BeginTransactionRecord),
    EndTransaction(EndTransactionRecord),
    AbortTransaction(AbortTransactionRecord),
    RemoveDelegationToken(RemoveDelegationTokenRecord),
    RegisterController(RegisterControllerRecord),
    ClearElr(ClearElrRecord),
}

impl MetadataRecord {
    /// The number that names the kind of record in its frame.
    pub fn api_key(&self) -> u32 {
        match self {
            MetadataRecord::RegisterBroker(_) => 0,
            MetadataRecord::UnregisterBroker(_) => 1,
            MetadataRecord::Topic(_) => 2,
            MetadataRecord::Partition(_) => 3,
            MetadataRecord::Config(_) => 4,
            MetadataRecord::PartitionChange(_) => 5,
            MetadataRecord::FenceBroker(_) => 7,
            MetadataRecord::UnfenceBroker(_) => 8,
            MetadataRecord::RemoveTopic(_) => 9,
            MetadataRecord::DelegationToken(_) => 10,
            MetadataRecord::UserScramCredential(_) => 11,
            MetadataRecord::FeatureLevel(_) => 12,
            MetadataRecord::ClientQuota(_) => 14,
            MetadataRecord::ProducerIds(_) => 15,
            MetadataRecord::BrokerRegistrationChange(_) => 17,
            MetadataRecord::AccessControlEntry(_) => 18,
            MetadataRecord::RemoveAccessControlEntry(_) => 19,
            MetadataRecord::NoOp(_) => 20,
            MetadataRecord::ZkMigrationState(_) => 21,
            MetadataRecord::RemoveUserScramCredential(_) => 22,
            MetadataRecord::BeginTransaction(_) => 23,
            MetadataRecord::EndTransaction(_) => 24,
            MetadataRecord::AbortTransaction(_) => 25,
            MetadataRecord::RemoveDelegationToken(_) => 26,
            MetadataRecord::RegisterController(_) => 27,
            MetadataRecord::ClearElr(_) => 28,
        }
    }

    /// The schema's name.
    pub fn name(&self) -> &'static str {
        match self {
            MetadataRecord::RegisterBroker(_) => RegisterBrokerRecord::NAME,
            MetadataRecord::UnregisterBroker(_) => UnregisterBrokerRecord::NAME,
            MetadataRecord::Topic(_) => TopicRecord::NAME,
            MetadataRecord::Partition(_) => PartitionRecord::NAME,
            MetadataRecord::Config(_) => ConfigRecord::NAME,
            MetadataRecord::PartitionChange(_) => PartitionChangeRecord::NAME,
            MetadataRecord::FenceBroker(_) => FenceBrokerRecord::NAME,
            MetadataRecord::UnfenceBroker(_) => UnfenceBrokerRecord::NAME,
            MetadataRecord::RemoveTopic(_) => RemoveTopicRecord::NAME,
            MetadataRecord::DelegationToken(_) => DelegationTokenRecord::NAME,
            MetadataRecord::UserScramCredential(_) => UserScramCredentialRecord::NAME,
            MetadataRecord::FeatureLevel(_) => FeatureLevelRecord::NAME,
            MetadataRecord::ClientQuota(_) => ClientQuotaRecord::NAME,
            MetadataRecord::ProducerIds(_) => ProducerIdsRecord::NAME,
            MetadataRecord::BrokerRegistrationChange(_) => BrokerRegistrationChangeRecord::NAME,
            MetadataRecord::AccessControlEntry(_) => AccessControlEntryRecord::NAME,
            MetadataRecord::RemoveAccessControlEntry(_) => RemoveAccessControlEntryRecord::NAME,
            MetadataRecord::NoOp(_) => NoOpRecord::NAME,
            MetadataRecord::ZkMigrationState(_) => ZkMigrationStateRecord::NAME,
            MetadataRecord::RemoveUserScramCredential(_) => RemoveUserScramCredentialRecord::NAME,
            MetadataRecord::BeginTransaction(_) => BeginTransactionRecord::NAME,
            MetadataRecord::EndTransaction(_) => EndTransactionRecord::NAME,
            MetadataRecord::AbortTransaction(_) => AbortTransactionRecord::NAME,
            MetadataRecord::RemoveDelegationToken(_) => RemoveDelegationTokenRecord::NAME,
            MetadataRecord::RegisterController(_) => RegisterControllerRecord::NAME,
            MetadataRecord::ClearElr(_) => ClearElrRecord::NAME,
        }
    }

    /// The newest version of this kind of record.
    pub fn newest_version(&self) -> i16 {
        match self {
            MetadataRecord::RegisterBroker(_) => *RegisterBrokerRecord::VERSIONS.end(),
            MetadataRecord::UnregisterBroker(_) => *UnregisterBrokerRecord::VERSIONS.end(),
            MetadataRecord::Topic(_) => *TopicRecord::VERSIONS.end(),
            MetadataRecord::Partition(_) => *PartitionRecord::VERSIONS.end(),
            MetadataRecord::Config(_) => *ConfigRecord::VERSIONS.end(),
            MetadataRecord::PartitionChange(_) => *PartitionChangeRecord::VERSIONS.end(),
            MetadataRecord::FenceBroker(_) => *FenceBrokerRecord::VERSIONS.end(),
            MetadataRecord::UnfenceBroker(_) => *UnfenceBrokerRecord::VERSIONS.end(),
            MetadataRecord::RemoveTopic(_) => *RemoveTopicRecord::VERSIONS.end(),
            MetadataRecord::DelegationToken(_) => *DelegationTokenRecord::VERSIONS.end(),
            MetadataRecord::UserScramCredential(_) => *UserScramCredentialRecord::VERSIONS.end(),
            MetadataRecord::FeatureLevel(_) => *FeatureLevelRecord::VERSIONS.end(),
            MetadataRecord::ClientQuota(_) => *ClientQuotaRecord::VERSIONS.end(),
            MetadataRecord::ProducerIds(_) => *ProducerIdsRecord::VERSIONS.end(),
            MetadataRecord::BrokerRegistrationChange(_) => *BrokerRegistrationChangeRecord::VERSIONS.end(),
            MetadataRecord::AccessControlEntry(_) => *AccessControlEntryRecord::VERSIONS.end(),
            MetadataRecord::RemoveAccessControlEntry(_) => *RemoveAccessControlEntryRecord::VERSIONS.end(),
            MetadataRecord::NoOp(_) => *NoOpRecord::VERSIONS.end(),
            MetadataRecord::ZkMigrationState(_) => *ZkMigrationStateRecord::VERSIONS.end(),
            MetadataRecord::RemoveUserScramCredential(_) => *RemoveUserScramCredentialRecord::VERSIONS.end(),
            MetadataRecord::BeginTransaction(_) => *BeginTransactionRecord::VERSIONS.end(),
            MetadataRecord::EndTransaction(_) => *EndTransactionRecord::VERSIONS.end(),
            MetadataRecord::AbortTransaction(_) => *AbortTransactionRecord::VERSIONS.end(),
            MetadataRecord::RemoveDelegationToken(_) => *RemoveDelegationTokenRecord::VERSIONS.end(),
            MetadataRecord::RegisterController(_) => *RegisterControllerRecord::VERSIONS.end(),
            MetadataRecord::ClearElr(_) => *ClearElrRecord::VERSIONS.end(),
        }
    }

    /// Writes the body, without the frame.
    pub(super) fn write_body(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        match self {
            MetadataRecord::RegisterBroker(record) => record.encode_into(out, version),
            MetadataRecord::UnregisterBroker(record) => record.encode_into(out, version),
            MetadataRecord::Topic(record) => record.encode_into(out, version),
            MetadataRecord::Partition(record) => record.encode_into(out, version),
            MetadataRecord::Config(record) => record.encode_into(out, version),
            MetadataRecord::PartitionChange(record) => record.encode_into(out, version),
            MetadataRecord::FenceBroker(record) => record.encode_into(out, version),
            MetadataRecord::UnfenceBroker(record) => record.encode_into(out, version),
            MetadataRecord::RemoveTopic(record) => record.encode_into(out, version),
            MetadataRecord::DelegationToken(record) => record.encode_into(out, version),
            MetadataRecord::UserScramCredential(record) => record.encode_into(out, version),
            MetadataRecord::FeatureLevel(record) => record.encode_into(out, version),
            MetadataRecord::ClientQuota(record) => record.encode_into(out, version),
            MetadataRecord::ProducerIds(record) => record.encode_into(out, version),
            MetadataRecord::BrokerRegistrationChange(record) => record.encode_into(out, version),
            MetadataRecord::AccessControlEntry(record) => record.encode_into(out, version),
            MetadataRecord::RemoveAccessControlEntry(record) => record.encode_into(out, version),
            MetadataRecord::NoOp(record) => record.encode_into(out, version),
            MetadataRecord::ZkMigrationState(record) => record.encode_into(out, version),
            MetadataRecord::RemoveUserScramCredential(record) => record.encode_into(out, version),
            MetadataRecord::BeginTransaction(record) => record.encode_into(out, version),
            MetadataRecord::EndTransaction(record) => record.encode_into(out, version),
            MetadataRecord::AbortTransaction(record) => record.encode_into(out, version),
            MetadataRecord::RemoveDelegationToken(record) => record.encode_into(out, version),
            MetadataRecord::RegisterController(record) => record.encode_into(out, version),
            MetadataRecord::ClearElr(record) => record.encode_into(out, version),
        }
    }

    /// Reads the body of a record of the given kind.
    pub(super) fn read_body(api_key: u32, input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        Ok(match api_key {
            0 => MetadataRecord::RegisterBroker(RegisterBrokerRecord::decode_from(input, version)?),
            1 => MetadataRecord::UnregisterBroker(UnregisterBrokerRecord::decode_from(input, version)?),
            2 => MetadataRecord::Topic(TopicRecord::decode_from(input, version)?),
            3 => MetadataRecord::Partition(PartitionRecord::decode_from(input, version)?),
            4 => MetadataRecord::Config(ConfigRecord::decode_from(input, version)?),
            5 => MetadataRecord::PartitionChange(PartitionChangeRecord::decode_from(input, version)?),
            7 => MetadataRecord::FenceBroker(FenceBrokerRecord::decode_from(input, version)?),
            8 => MetadataRecord::UnfenceBroker(UnfenceBrokerRecord::decode_from(input, version)?),
            9 => MetadataRecord::RemoveTopic(RemoveTopicRecord::decode_from(input, version)?),
            10 => MetadataRecord::DelegationToken(DelegationTokenRecord::decode_from(input, version)?),
            11 => MetadataRecord::UserScramCredential(UserScramCredentialRecord::decode_from(input, version)?),
            12 => MetadataRecord::FeatureLevel(FeatureLevelRecord::decode_from(input, version)?),
            14 => MetadataRecord::ClientQuota(ClientQuotaRecord::decode_from(input, version)?),
            15 => MetadataRecord::ProducerIds(ProducerIdsRecord::decode_from(input, version)?),
            17 => {
                MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord::decode_from(input, version)?)
            }
            18 => MetadataRecord::AccessControlEntry(AccessControlEntryRecord::decode_from(input, version)?),
            19 => {
                MetadataRecord::RemoveAccessControlEntry(RemoveAccessControlEntryRecord::decode_from(input, version)?)
            }
            20 => MetadataRecord::NoOp(NoOpRecord::decode_from(input, version)?),
            21 => MetadataRecord::ZkMigrationState(ZkMigrationStateRecord::decode_from(input, version)?),
            22 => {
                MetadataRecord::RemoveUserScramCredential(RemoveUserScramCredentialRecord::decode_from(input, version)?)
            }
            23 => MetadataRecord::BeginTransaction(BeginTransactionRecord::decode_from(input, version)?),
            24 => MetadataRecord::EndTransaction(EndTransactionRecord::decode_from(input, version)?),
            25 => MetadataRecord::AbortTransaction(AbortTransactionRecord::decode_from(input, version)?),
            26 => MetadataRecord::RemoveDelegationToken(RemoveDelegationTokenRecord::decode_from(input, version)?),
            27 => MetadataRecord::RegisterController(RegisterControllerRecord::decode_from(input, version)?),
            28 => MetadataRecord::ClearElr(ClearElrRecord::decode_from(input, version)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(api_key))),
        })
    }
}

impl From<RegisterBrokerRecord> for MetadataRecord {
    fn from(record: RegisterBrokerRecord) -> Self {
        MetadataRecord::RegisterBroker(record)
    }
}

impl From<UnregisterBrokerRecord> for MetadataRecord {
    fn from(record: UnregisterBrokerRecord) -> Self {
        MetadataRecord::UnregisterBroker(record)
    }
}

impl From<TopicRecord> for MetadataRecord {
    fn from(record: TopicRecord) -> Self {
        MetadataRecord::Topic(record)
    }
}

impl From<PartitionRecord> for MetadataRecord {
    fn from(record: PartitionRecord) -> Self {
        MetadataRecord::Partition(record)
    }
}

impl From<ConfigRecord> for MetadataRecord {
    fn from(record: ConfigRecord) -> Self {
        MetadataRecord::Config(record)
    }
}

impl From<PartitionChangeRecord> for MetadataRecord {
    fn from(record: PartitionChangeRecord) -> Self {
        MetadataRecord::PartitionChange(record)
    }
}

impl From<FenceBrokerRecord> for MetadataRecord {
    fn from(record: FenceBrokerRecord) -> Self {
        MetadataRecord::FenceBroker(record)
    }
}

impl From<UnfenceBrokerRecord> for MetadataRecord {
    fn from(record: UnfenceBrokerRecord) -> Self {
        MetadataRecord::UnfenceBroker(record)
    }
}

impl From<RemoveTopicRecord> for MetadataRecord {
    fn from(record: RemoveTopicRecord) -> Self {
        MetadataRecord::RemoveTopic(record)
    }
}

impl From<DelegationTokenRecord> for MetadataRecord {
    fn from(record: DelegationTokenRecord) -> Self {
        MetadataRecord::DelegationToken(record)
    }
}

impl From<UserScramCredentialRecord> for MetadataRecord {
    fn from(record: UserScramCredentialRecord) -> Self {
        MetadataRecord::UserScramCredential(record)
    }
}

impl From<FeatureLevelRecord> for MetadataRecord {
    fn from(record: FeatureLevelRecord) -> Self {
        MetadataRecord::FeatureLevel(record)
    }
}

impl From<ClientQuotaRecord> for MetadataRecord {
    fn from(record: ClientQuotaRecord) -> Self {
        MetadataRecord::ClientQuota(record)
    }
}

impl From<ProducerIdsRecord> for MetadataRecord {
    fn from(record: ProducerIdsRecord) -> Self {
        MetadataRecord::ProducerIds(record)
    }
}

impl From<BrokerRegistrationChangeRecord> for MetadataRecord {
    fn from(record: BrokerRegistrationChangeRecord) -> Self {
        MetadataRecord::BrokerRegistrationChange(record)
    }
}

impl From<AccessControlEntryRecord> for MetadataRecord {
    fn from(record: AccessControlEntryRecord) -> Self {
        MetadataRecord::AccessControlEntry(record)
    }
}

impl From<RemoveAccessControlEntryRecord> for MetadataRecord {
    fn from(record: RemoveAccessControlEntryRecord) -> Self {
        MetadataRecord::RemoveAccessControlEntry(record)
    }
}

impl From<NoOpRecord> for MetadataRecord {
    fn from(record: NoOpRecord) -> Self {
        MetadataRecord::NoOp(record)
    }
}

impl From<ZkMigrationStateRecord> for MetadataRecord {
    fn from(record: ZkMigrationStateRecord) -> Self {
        MetadataRecord::ZkMigrationState(record)
    }
}

impl From<RemoveUserScramCredentialRecord> for MetadataRecord {
    fn from(record: RemoveUserScramCredentialRecord) -> Self {
        MetadataRecord::RemoveUserScramCredential(record)
    }
}

impl From<BeginTransactionRecord> for MetadataRecord {
    fn from(record: BeginTransactionRecord) -> Self {
        MetadataRecord::BeginTransaction(record)
    }
}

impl From<EndTransactionRecord> for MetadataRecord {
    fn from(record: EndTransactionRecord) -> Self {
        MetadataRecord::EndTransaction(record)
    }
}

impl From<AbortTransactionRecord> for MetadataRecord {
    fn from(record: AbortTransactionRecord) -> Self {
        MetadataRecord::AbortTransaction(record)
    }
}

impl From<RemoveDelegationTokenRecord> for MetadataRecord {
    fn from(record: RemoveDelegationTokenRecord) -> Self {
        MetadataRecord::RemoveDelegationToken(record)
    }
}

impl From<RegisterControllerRecord> for MetadataRecord {
    fn from(record: RegisterControllerRecord) -> Self {
        MetadataRecord::RegisterController(record)
    }
}

impl From<ClearElrRecord> for MetadataRecord {
    fn from(record: ClearElrRecord) -> Self {
        MetadataRecord::ClearElr(record)
    }
}

/// `RegisterBrokerRecord`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBrokerRecord {
    pub broker_id: i32,
    /// Versions 2+.
    pub is_migrating_zk_broker: bool,
    pub incarnation_id: Uuid,
    pub broker_epoch: i64,
    pub end_points: Vec<BrokerEndpoint>,
    pub features: Vec<BrokerFeature>,
    pub rack: Option<String>,
    pub fenced: bool,
    /// Versions 1+.
    pub in_controlled_shutdown: bool,
    /// Versions 3+, tag 0.
    pub log_dirs: Vec<Uuid>,
    /// Versions 4+, tag 1, may be null from version 4.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RegisterBrokerRecord {
    fn default() -> Self {
        RegisterBrokerRecord {
            broker_id: 0,
            is_migrating_zk_broker: false,
            incarnation_id: Uuid::ZERO,
            broker_epoch: 0,
            end_points: Vec::new(),
            features: Vec::new(),
            rack: Some(String::new()),
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for RegisterBrokerRecord {
    const NAME: &'static str = "RegisterBrokerRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = RegisterBrokerRecord::default();
        record.broker_id = input.i32()?;
        if version >= 2 {
            record.is_migrating_zk_broker = input.bool()?;
        }
        record.incarnation_id = input.uuid()?;
        record.broker_epoch = input.i64()?;
        record.end_points =
            input.list(true, |input| BrokerEndpoint::read(input, version))?.ok_or(DecodeError::Null("EndPoints"))?;
        record.features =
            input.list(true, |input| BrokerFeature::read(input, version))?.ok_or(DecodeError::Null("Features"))?;
        record.rack = input.string(true)?;
        record.fenced = input.bool()?;
        if version >= 1 {
            record.in_controlled_shutdown = input.bool()?;
        }
        input.tags(|tag, input| {
            match tag {
                0 if version >= 3 => {
                    record.log_dirs = input.list(true, Reader::uuid)?.ok_or(DecodeError::Null("LogDirs"))?
                }
                1 if version >= 4 => record.cordoned_log_dirs = input.list(true, Reader::uuid)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version < 2 && self.is_migrating_zk_broker {
            return Err(EncodeError::NotInVersion { field: "IsMigratingZkBroker", version });
        }
        if version < 1 && self.in_controlled_shutdown {
            return Err(EncodeError::NotInVersion { field: "InControlledShutdown", version });
        }
        if version < 3 && !self.log_dirs.is_empty() {
            return Err(EncodeError::NotInVersion { field: "LogDirs", version });
        }
        if version < 4 && self.cordoned_log_dirs.is_some() {
            return Err(EncodeError::NotInVersion { field: "CordonedLogDirs", version });
        }
        out.i32(self.broker_id);
        if version >= 2 {
            out.bool(self.is_migrating_zk_broker);
        }
        out.uuid(self.incarnation_id);
        out.i64(self.broker_epoch);
        out.list(Some(&self.end_points[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.features[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.string(self.rack.as_deref(), true)?;
        out.bool(self.fenced);
        if version >= 1 {
            out.bool(self.in_controlled_shutdown);
        }
        let mut tags = TagWriter::new(&self.unknown_tags);
        if version >= 3 && !self.log_dirs.is_empty() {
            tags.add(0, |out| {
                out.list(Some(&self.log_dirs[..]), true, |out, value| {
                    out.uuid(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if version >= 4 && self.cordoned_log_dirs.is_some() {
            tags.add(1, |out| {
                out.list(self.cordoned_log_dirs.as_deref(), true, |out, value| {
                    out.uuid(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `RegisterBrokerRecord`, part `BrokerEndpoint`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security_protocol: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for BrokerEndpoint {
    fn default() -> Self {
        BrokerEndpoint {
            name: String::new(),
            host: String::new(),
            port: 0,
            security_protocol: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl BrokerEndpoint {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = BrokerEndpoint::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.host = input.string(true)?.ok_or(DecodeError::Null("Host"))?;
        record.port = input.u16()?;
        record.security_protocol = input.i16()?;
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
        out.i16(self.security_protocol);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RegisterBrokerRecord`, part `BrokerFeature`; versions 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerFeature {
    pub name: String,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for BrokerFeature {
    fn default() -> Self {
        BrokerFeature {
            name: String::new(),
            min_supported_version: 0,
            max_supported_version: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl BrokerFeature {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = BrokerFeature::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.min_supported_version = input.i16()?;
        record.max_supported_version = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i16(self.min_supported_version);
        out.i16(self.max_supported_version);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `UnregisterBrokerRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnregisterBrokerRecord {
    pub broker_id: i32,
    pub broker_epoch: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for UnregisterBrokerRecord {
    fn default() -> Self {
        UnregisterBrokerRecord { broker_id: 0, broker_epoch: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for UnregisterBrokerRecord {
    const NAME: &'static str = "UnregisterBrokerRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = UnregisterBrokerRecord::default();
        record.broker_id = input.i32()?;
        record.broker_epoch = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.broker_id);
        out.i64(self.broker_epoch);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `TopicRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    pub name: String,
    pub topic_id: Uuid,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for TopicRecord {
    fn default() -> Self {
        TopicRecord { name: String::new(), topic_id: Uuid::ZERO, unknown_tags: Tags::default() }
    }
}

impl Stored for TopicRecord {
    const NAME: &'static str = "TopicRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = TopicRecord::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.topic_id = input.uuid()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.uuid(self.topic_id);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `PartitionRecord`; versions 0 to 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    pub partition_id: i32,
    pub topic_id: Uuid,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub leader: i32,
    /// Tag 0.
    pub leader_recovery_state: i8,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    /// Versions 1+.
    pub directories: Vec<Uuid>,
    /// Versions 2+, tag 1, may be null from version 2.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// Versions 2+, tag 2, may be null from version 2.
    pub last_known_elr: Option<Vec<i32>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for PartitionRecord {
    fn default() -> Self {
        PartitionRecord {
            partition_id: -1,
            topic_id: Uuid::ZERO,
            replicas: Vec::new(),
            isr: Vec::new(),
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader: -1,
            leader_recovery_state: 0,
            leader_epoch: -1,
            partition_epoch: -1,
            directories: Vec::new(),
            eligible_leader_replicas: None,
            last_known_elr: None,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for PartitionRecord {
    const NAME: &'static str = "PartitionRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = PartitionRecord::default();
        record.partition_id = input.i32()?;
        record.topic_id = input.uuid()?;
        record.replicas = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Replicas"))?;
        record.isr = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("Isr"))?;
        record.removing_replicas = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("RemovingReplicas"))?;
        record.adding_replicas = input.list(true, Reader::i32)?.ok_or(DecodeError::Null("AddingReplicas"))?;
        record.leader = input.i32()?;
        record.leader_epoch = input.i32()?;
        record.partition_epoch = input.i32()?;
        if version >= 1 {
            record.directories = input.list(true, Reader::uuid)?.ok_or(DecodeError::Null("Directories"))?;
        }
        input.tags(|tag, input| {
            match tag {
                0 => record.leader_recovery_state = input.i8()?,
                1 if version >= 2 => record.eligible_leader_replicas = input.list(true, Reader::i32)?,
                2 if version >= 2 => record.last_known_elr = input.list(true, Reader::i32)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version < 1 && !self.directories.is_empty() {
            return Err(EncodeError::NotInVersion { field: "Directories", version });
        }
        if version < 2 && self.eligible_leader_replicas.is_some() {
            return Err(EncodeError::NotInVersion { field: "EligibleLeaderReplicas", version });
        }
        if version < 2 && self.last_known_elr.is_some() {
            return Err(EncodeError::NotInVersion { field: "LastKnownElr", version });
        }
        out.i32(self.partition_id);
        out.uuid(self.topic_id);
        out.list(Some(&self.replicas[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.list(Some(&self.isr[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.list(Some(&self.removing_replicas[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.list(Some(&self.adding_replicas[..]), true, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        out.i32(self.leader);
        out.i32(self.leader_epoch);
        out.i32(self.partition_epoch);
        if version >= 1 {
            out.list(Some(&self.directories[..]), true, |out, value| {
                out.uuid(*value);
                Ok(())
            })?;
        }
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.leader_recovery_state != 0 {
            tags.add(0, |out| {
                out.i8(self.leader_recovery_state);
                Ok(())
            })?;
        }
        if version >= 2 && self.eligible_leader_replicas.is_some() {
            tags.add(1, |out| {
                out.list(self.eligible_leader_replicas.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if version >= 2 && self.last_known_elr.is_some() {
            tags.add(2, |out| {
                out.list(self.last_known_elr.as_deref(), true, |out, value| {
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

/// `ConfigRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRecord {
    pub resource_type: i8,
    pub resource_name: String,
    pub name: String,
    pub value: Option<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ConfigRecord {
    fn default() -> Self {
        ConfigRecord {
            resource_type: 0,
            resource_name: String::new(),
            name: String::new(),
            value: Some(String::new()),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ConfigRecord {
    const NAME: &'static str = "ConfigRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ConfigRecord::default();
        record.resource_type = input.i8()?;
        record.resource_name = input.string(true)?.ok_or(DecodeError::Null("ResourceName"))?;
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.value = input.string(true)?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i8(self.resource_type);
        out.string(Some(&self.resource_name), true)?;
        out.string(Some(&self.name), true)?;
        out.string(self.value.as_deref(), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `PartitionChangeRecord`; versions 0 to 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChangeRecord {
    pub partition_id: i32,
    pub topic_id: Uuid,
    /// Tag 0.
    pub isr: Option<Vec<i32>>,
    /// Tag 1.
    pub leader: i32,
    /// Tag 2.
    pub replicas: Option<Vec<i32>>,
    /// Tag 3.
    pub removing_replicas: Option<Vec<i32>>,
    /// Tag 4.
    pub adding_replicas: Option<Vec<i32>>,
    /// Tag 5.
    pub leader_recovery_state: i8,
    /// Versions 1+, tag 8, may be null from version 1.
    pub directories: Option<Vec<Uuid>>,
    /// Versions 2+, tag 6, may be null from version 2.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// Versions 2+, tag 7, may be null from version 2.
    pub last_known_elr: Option<Vec<i32>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for PartitionChangeRecord {
    fn default() -> Self {
        PartitionChangeRecord {
            partition_id: -1,
            topic_id: Uuid::ZERO,
            isr: None,
            leader: -2,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery_state: -1,
            directories: None,
            eligible_leader_replicas: None,
            last_known_elr: None,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for PartitionChangeRecord {
    const NAME: &'static str = "PartitionChangeRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = PartitionChangeRecord::default();
        record.partition_id = input.i32()?;
        record.topic_id = input.uuid()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.isr = input.list(true, Reader::i32)?,
                1 => record.leader = input.i32()?,
                2 => record.replicas = input.list(true, Reader::i32)?,
                3 => record.removing_replicas = input.list(true, Reader::i32)?,
                4 => record.adding_replicas = input.list(true, Reader::i32)?,
                5 => record.leader_recovery_state = input.i8()?,
                6 if version >= 2 => record.eligible_leader_replicas = input.list(true, Reader::i32)?,
                7 if version >= 2 => record.last_known_elr = input.list(true, Reader::i32)?,
                8 if version >= 1 => record.directories = input.list(true, Reader::uuid)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version < 1 && self.directories.is_some() {
            return Err(EncodeError::NotInVersion { field: "Directories", version });
        }
        if version < 2 && self.eligible_leader_replicas.is_some() {
            return Err(EncodeError::NotInVersion { field: "EligibleLeaderReplicas", version });
        }
        if version < 2 && self.last_known_elr.is_some() {
            return Err(EncodeError::NotInVersion { field: "LastKnownElr", version });
        }
        out.i32(self.partition_id);
        out.uuid(self.topic_id);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.isr.is_some() {
            tags.add(0, |out| {
                out.list(self.isr.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if self.leader != -2 {
            tags.add(1, |out| {
                out.i32(self.leader);
                Ok(())
            })?;
        }
        if self.replicas.is_some() {
            tags.add(2, |out| {
                out.list(self.replicas.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if self.removing_replicas.is_some() {
            tags.add(3, |out| {
                out.list(self.removing_replicas.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if self.adding_replicas.is_some() {
            tags.add(4, |out| {
                out.list(self.adding_replicas.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if self.leader_recovery_state != -1 {
            tags.add(5, |out| {
                out.i8(self.leader_recovery_state);
                Ok(())
            })?;
        }
        if version >= 2 && self.eligible_leader_replicas.is_some() {
            tags.add(6, |out| {
                out.list(self.eligible_leader_replicas.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if version >= 2 && self.last_known_elr.is_some() {
            tags.add(7, |out| {
                out.list(self.last_known_elr.as_deref(), true, |out, value| {
                    out.i32(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if version >= 1 && self.directories.is_some() {
            tags.add(8, |out| {
                out.list(self.directories.as_deref(), true, |out, value| {
                    out.uuid(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `FenceBrokerRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceBrokerRecord {
    pub id: i32,
    pub epoch: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for FenceBrokerRecord {
    fn default() -> Self {
        FenceBrokerRecord { id: 0, epoch: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for FenceBrokerRecord {
    const NAME: &'static str = "FenceBrokerRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = FenceBrokerRecord::default();
        record.id = input.i32()?;
        record.epoch = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.id);
        out.i64(self.epoch);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `UnfenceBrokerRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfenceBrokerRecord {
    pub id: i32,
    pub epoch: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for UnfenceBrokerRecord {
    fn default() -> Self {
        UnfenceBrokerRecord { id: 0, epoch: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for UnfenceBrokerRecord {
    const NAME: &'static str = "UnfenceBrokerRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = UnfenceBrokerRecord::default();
        record.id = input.i32()?;
        record.epoch = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.id);
        out.i64(self.epoch);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RemoveTopicRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveTopicRecord {
    pub topic_id: Uuid,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RemoveTopicRecord {
    fn default() -> Self {
        RemoveTopicRecord { topic_id: Uuid::ZERO, unknown_tags: Tags::default() }
    }
}

impl Stored for RemoveTopicRecord {
    const NAME: &'static str = "RemoveTopicRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = RemoveTopicRecord::default();
        record.topic_id = input.uuid()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.topic_id);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `DelegationTokenRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationTokenRecord {
    pub owner: String,
    pub requester: String,
    pub renewers: Vec<String>,
    pub issue_timestamp: i64,
    pub max_timestamp: i64,
    pub expiration_timestamp: i64,
    pub token_id: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for DelegationTokenRecord {
    fn default() -> Self {
        DelegationTokenRecord {
            owner: String::new(),
            requester: String::new(),
            renewers: Vec::new(),
            issue_timestamp: 0,
            max_timestamp: 0,
            expiration_timestamp: 0,
            token_id: String::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for DelegationTokenRecord {
    const NAME: &'static str = "DelegationTokenRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = DelegationTokenRecord::default();
        record.owner = input.string(true)?.ok_or(DecodeError::Null("Owner"))?;
        record.requester = input.string(true)?.ok_or(DecodeError::Null("Requester"))?;
        record.renewers = input
            .list(true, |input| input.string(true)?.ok_or(DecodeError::Null("Renewers")))?
            .ok_or(DecodeError::Null("Renewers"))?;
        record.issue_timestamp = input.i64()?;
        record.max_timestamp = input.i64()?;
        record.expiration_timestamp = input.i64()?;
        record.token_id = input.string(true)?.ok_or(DecodeError::Null("TokenId"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.owner), true)?;
        out.string(Some(&self.requester), true)?;
        out.list(Some(&self.renewers[..]), true, |out, value| {
            out.string(Some(value), true)?;
            Ok(())
        })?;
        out.i64(self.issue_timestamp);
        out.i64(self.max_timestamp);
        out.i64(self.expiration_timestamp);
        out.string(Some(&self.token_id), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `UserScramCredentialRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserScramCredentialRecord {
    pub name: String,
    pub mechanism: i8,
    pub salt: Bytes,
    pub stored_key: Bytes,
    pub server_key: Bytes,
    pub iterations: i32,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for UserScramCredentialRecord {
    fn default() -> Self {
        UserScramCredentialRecord {
            name: String::new(),
            mechanism: 0,
            salt: Bytes::new(),
            stored_key: Bytes::new(),
            server_key: Bytes::new(),
            iterations: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for UserScramCredentialRecord {
    const NAME: &'static str = "UserScramCredentialRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = UserScramCredentialRecord::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.mechanism = input.i8()?;
        record.salt = input.bytes(true)?.ok_or(DecodeError::Null("Salt"))?;
        record.stored_key = input.bytes(true)?.ok_or(DecodeError::Null("StoredKey"))?;
        record.server_key = input.bytes(true)?.ok_or(DecodeError::Null("ServerKey"))?;
        record.iterations = input.i32()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i8(self.mechanism);
        out.bytes(Some(&self.salt), true)?;
        out.bytes(Some(&self.stored_key), true)?;
        out.bytes(Some(&self.server_key), true)?;
        out.i32(self.iterations);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `FeatureLevelRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLevelRecord {
    pub name: String,
    pub feature_level: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for FeatureLevelRecord {
    fn default() -> Self {
        FeatureLevelRecord { name: String::new(), feature_level: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for FeatureLevelRecord {
    const NAME: &'static str = "FeatureLevelRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = FeatureLevelRecord::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.feature_level = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i16(self.feature_level);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ClientQuotaRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientQuotaRecord {
    pub entity: Vec<EntityData>,
    pub key: String,
    pub value: f64,
    pub remove: bool,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ClientQuotaRecord {
    fn default() -> Self {
        ClientQuotaRecord {
            entity: Vec::new(),
            key: String::new(),
            value: 0.0,
            remove: false,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for ClientQuotaRecord {
    const NAME: &'static str = "ClientQuotaRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = ClientQuotaRecord::default();
        record.entity =
            input.list(true, |input| EntityData::read(input, version))?.ok_or(DecodeError::Null("Entity"))?;
        record.key = input.string(true)?.ok_or(DecodeError::Null("Key"))?;
        record.value = input.f64()?;
        record.remove = input.bool()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.list(Some(&self.entity[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.string(Some(&self.key), true)?;
        out.f64(self.value);
        out.bool(self.remove);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ClientQuotaRecord`, part `EntityData`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityData {
    pub entity_type: String,
    pub entity_name: Option<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for EntityData {
    fn default() -> Self {
        EntityData { entity_type: String::new(), entity_name: Some(String::new()), unknown_tags: Tags::default() }
    }
}

impl EntityData {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = EntityData::default();
        record.entity_type = input.string(true)?.ok_or(DecodeError::Null("EntityType"))?;
        record.entity_name = input.string(true)?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.entity_type), true)?;
        out.string(self.entity_name.as_deref(), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ProducerIdsRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerIdsRecord {
    pub broker_id: i32,
    pub broker_epoch: i64,
    pub next_producer_id: i64,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ProducerIdsRecord {
    fn default() -> Self {
        ProducerIdsRecord { broker_id: 0, broker_epoch: -1, next_producer_id: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for ProducerIdsRecord {
    const NAME: &'static str = "ProducerIdsRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ProducerIdsRecord::default();
        record.broker_id = input.i32()?;
        record.broker_epoch = input.i64()?;
        record.next_producer_id = input.i64()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i32(self.broker_id);
        out.i64(self.broker_epoch);
        out.i64(self.next_producer_id);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `BrokerRegistrationChangeRecord`; versions 0 to 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistrationChangeRecord {
    pub broker_id: i32,
    pub broker_epoch: i64,
    /// Tag 0.
    pub fenced: i8,
    /// Versions 1+, tag 1.
    pub in_controlled_shutdown: i8,
    /// Versions 2+, tag 2.
    pub log_dirs: Vec<Uuid>,
    /// Versions 3+, tag 3, may be null from version 3.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for BrokerRegistrationChangeRecord {
    fn default() -> Self {
        BrokerRegistrationChangeRecord {
            broker_id: 0,
            broker_epoch: 0,
            fenced: 0,
            in_controlled_shutdown: 0,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for BrokerRegistrationChangeRecord {
    const NAME: &'static str = "BrokerRegistrationChangeRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = BrokerRegistrationChangeRecord::default();
        record.broker_id = input.i32()?;
        record.broker_epoch = input.i64()?;
        input.tags(|tag, input| {
            match tag {
                0 => record.fenced = input.i8()?,
                1 if version >= 1 => record.in_controlled_shutdown = input.i8()?,
                2 if version >= 2 => {
                    record.log_dirs = input.list(true, Reader::uuid)?.ok_or(DecodeError::Null("LogDirs"))?
                }
                3 if version >= 3 => record.cordoned_log_dirs = input.list(true, Reader::uuid)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version < 1 && self.in_controlled_shutdown != 0 {
            return Err(EncodeError::NotInVersion { field: "InControlledShutdown", version });
        }
        if version < 2 && !self.log_dirs.is_empty() {
            return Err(EncodeError::NotInVersion { field: "LogDirs", version });
        }
        if version < 3 && self.cordoned_log_dirs.is_some() {
            return Err(EncodeError::NotInVersion { field: "CordonedLogDirs", version });
        }
        out.i32(self.broker_id);
        out.i64(self.broker_epoch);
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.fenced != 0 {
            tags.add(0, |out| {
                out.i8(self.fenced);
                Ok(())
            })?;
        }
        if version >= 1 && self.in_controlled_shutdown != 0 {
            tags.add(1, |out| {
                out.i8(self.in_controlled_shutdown);
                Ok(())
            })?;
        }
        if version >= 2 && !self.log_dirs.is_empty() {
            tags.add(2, |out| {
                out.list(Some(&self.log_dirs[..]), true, |out, value| {
                    out.uuid(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        if version >= 3 && self.cordoned_log_dirs.is_some() {
            tags.add(3, |out| {
                out.list(self.cordoned_log_dirs.as_deref(), true, |out, value| {
                    out.uuid(*value);
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `AccessControlEntryRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessControlEntryRecord {
    pub id: Uuid,
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for AccessControlEntryRecord {
    fn default() -> Self {
        AccessControlEntryRecord {
            id: Uuid::ZERO,
            resource_type: 0,
            resource_name: String::new(),
            pattern_type: 0,
            principal: String::new(),
            host: String::new(),
            operation: 0,
            permission_type: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for AccessControlEntryRecord {
    const NAME: &'static str = "AccessControlEntryRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = AccessControlEntryRecord::default();
        record.id = input.uuid()?;
        record.resource_type = input.i8()?;
        record.resource_name = input.string(true)?.ok_or(DecodeError::Null("ResourceName"))?;
        record.pattern_type = input.i8()?;
        record.principal = input.string(true)?.ok_or(DecodeError::Null("Principal"))?;
        record.host = input.string(true)?.ok_or(DecodeError::Null("Host"))?;
        record.operation = input.i8()?;
        record.permission_type = input.i8()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.id);
        out.i8(self.resource_type);
        out.string(Some(&self.resource_name), true)?;
        out.i8(self.pattern_type);
        out.string(Some(&self.principal), true)?;
        out.string(Some(&self.host), true)?;
        out.i8(self.operation);
        out.i8(self.permission_type);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RemoveAccessControlEntryRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveAccessControlEntryRecord {
    pub id: Uuid,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RemoveAccessControlEntryRecord {
    fn default() -> Self {
        RemoveAccessControlEntryRecord { id: Uuid::ZERO, unknown_tags: Tags::default() }
    }
}

impl Stored for RemoveAccessControlEntryRecord {
    const NAME: &'static str = "RemoveAccessControlEntryRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = RemoveAccessControlEntryRecord::default();
        record.id = input.uuid()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.uuid(self.id);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `NoOpRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoOpRecord {
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for NoOpRecord {
    fn default() -> Self {
        NoOpRecord { unknown_tags: Tags::default() }
    }
}

impl Stored for NoOpRecord {
    const NAME: &'static str = "NoOpRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = NoOpRecord::default();
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ZkMigrationStateRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZkMigrationStateRecord {
    pub zk_migration_state: i8,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ZkMigrationStateRecord {
    fn default() -> Self {
        ZkMigrationStateRecord { zk_migration_state: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for ZkMigrationStateRecord {
    const NAME: &'static str = "ZkMigrationStateRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ZkMigrationStateRecord::default();
        record.zk_migration_state = input.i8()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.i8(self.zk_migration_state);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RemoveUserScramCredentialRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveUserScramCredentialRecord {
    pub name: String,
    pub mechanism: i8,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RemoveUserScramCredentialRecord {
    fn default() -> Self {
        RemoveUserScramCredentialRecord { name: String::new(), mechanism: 0, unknown_tags: Tags::default() }
    }
}

impl Stored for RemoveUserScramCredentialRecord {
    const NAME: &'static str = "RemoveUserScramCredentialRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = RemoveUserScramCredentialRecord::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.mechanism = input.i8()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i8(self.mechanism);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `BeginTransactionRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginTransactionRecord {
    /// Tag 0.
    pub name: Option<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for BeginTransactionRecord {
    fn default() -> Self {
        BeginTransactionRecord { name: None, unknown_tags: Tags::default() }
    }
}

impl Stored for BeginTransactionRecord {
    const NAME: &'static str = "BeginTransactionRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = BeginTransactionRecord::default();
        input.tags(|tag, input| {
            match tag {
                0 => record.name = input.string(true)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.name.is_some() {
            tags.add(0, |out| {
                out.string(self.name.as_deref(), true)?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `EndTransactionRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTransactionRecord {
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for EndTransactionRecord {
    fn default() -> Self {
        EndTransactionRecord { unknown_tags: Tags::default() }
    }
}

impl Stored for EndTransactionRecord {
    const NAME: &'static str = "EndTransactionRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = EndTransactionRecord::default();
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `AbortTransactionRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortTransactionRecord {
    /// Tag 0.
    pub reason: Option<String>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for AbortTransactionRecord {
    fn default() -> Self {
        AbortTransactionRecord { reason: None, unknown_tags: Tags::default() }
    }
}

impl Stored for AbortTransactionRecord {
    const NAME: &'static str = "AbortTransactionRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = AbortTransactionRecord::default();
        input.tags(|tag, input| {
            match tag {
                0 => record.reason = input.string(true)?,
                _ => record.unknown_tags.push(tag, input.rest()),
            }
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        let mut tags = TagWriter::new(&self.unknown_tags);
        if self.reason.is_some() {
            tags.add(0, |out| {
                out.string(self.reason.as_deref(), true)?;
                Ok(())
            })?;
        }
        out.tags(tags)?;
        Ok(())
    }
}

/// `RemoveDelegationTokenRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveDelegationTokenRecord {
    pub token_id: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RemoveDelegationTokenRecord {
    fn default() -> Self {
        RemoveDelegationTokenRecord { token_id: String::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for RemoveDelegationTokenRecord {
    const NAME: &'static str = "RemoveDelegationTokenRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = RemoveDelegationTokenRecord::default();
        record.token_id = input.string(true)?.ok_or(DecodeError::Null("TokenId"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.token_id), true)?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RegisterControllerRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterControllerRecord {
    pub controller_id: i32,
    pub incarnation_id: Uuid,
    pub zk_migration_ready: bool,
    pub end_points: Vec<ControllerEndpoint>,
    pub features: Vec<ControllerFeature>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for RegisterControllerRecord {
    fn default() -> Self {
        RegisterControllerRecord {
            controller_id: 0,
            incarnation_id: Uuid::ZERO,
            zk_migration_ready: false,
            end_points: Vec::new(),
            features: Vec::new(),
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for RegisterControllerRecord {
    const NAME: &'static str = "RegisterControllerRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = RegisterControllerRecord::default();
        record.controller_id = input.i32()?;
        record.incarnation_id = input.uuid()?;
        record.zk_migration_ready = input.bool()?;
        record.end_points = input
            .list(true, |input| ControllerEndpoint::read(input, version))?
            .ok_or(DecodeError::Null("EndPoints"))?;
        record.features =
            input.list(true, |input| ControllerFeature::read(input, version))?.ok_or(DecodeError::Null("Features"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        out.i32(self.controller_id);
        out.uuid(self.incarnation_id);
        out.bool(self.zk_migration_ready);
        out.list(Some(&self.end_points[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.list(Some(&self.features[..]), true, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RegisterControllerRecord`, part `ControllerEndpoint`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerEndpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security_protocol: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ControllerEndpoint {
    fn default() -> Self {
        ControllerEndpoint {
            name: String::new(),
            host: String::new(),
            port: 0,
            security_protocol: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl ControllerEndpoint {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ControllerEndpoint::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.host = input.string(true)?.ok_or(DecodeError::Null("Host"))?;
        record.port = input.u16()?;
        record.security_protocol = input.i16()?;
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
        out.i16(self.security_protocol);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `RegisterControllerRecord`, part `ControllerFeature`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerFeature {
    pub name: String,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ControllerFeature {
    fn default() -> Self {
        ControllerFeature {
            name: String::new(),
            min_supported_version: 0,
            max_supported_version: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl ControllerFeature {
    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ControllerFeature::default();
        record.name = input.string(true)?.ok_or(DecodeError::Null("Name"))?;
        record.min_supported_version = input.i16()?;
        record.max_supported_version = input.i16()?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.name), true)?;
        out.i16(self.min_supported_version);
        out.i16(self.max_supported_version);
        out.tags(TagWriter::new(&self.unknown_tags))?;
        Ok(())
    }
}

/// `ClearElrRecord`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearElrRecord {
    pub topic_name: String,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for ClearElrRecord {
    fn default() -> Self {
        ClearElrRecord { topic_name: String::new(), unknown_tags: Tags::default() }
    }
}

impl Stored for ClearElrRecord {
    const NAME: &'static str = "ClearElrRecord";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = ClearElrRecord::default();
        record.topic_name = input.string(true)?.ok_or(DecodeError::Null("TopicName"))?;
        input.tags(|tag, input| {
            record.unknown_tags.push(tag, input.rest());
            Ok(())
        })?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.topic_name), true)?;
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
        RegisterBrokerRecord::NAME => one::<RegisterBrokerRecord>(version, input),
        UnregisterBrokerRecord::NAME => one::<UnregisterBrokerRecord>(version, input),
        TopicRecord::NAME => one::<TopicRecord>(version, input),
        PartitionRecord::NAME => one::<PartitionRecord>(version, input),
        ConfigRecord::NAME => one::<ConfigRecord>(version, input),
        PartitionChangeRecord::NAME => one::<PartitionChangeRecord>(version, input),
        FenceBrokerRecord::NAME => one::<FenceBrokerRecord>(version, input),
        UnfenceBrokerRecord::NAME => one::<UnfenceBrokerRecord>(version, input),
        RemoveTopicRecord::NAME => one::<RemoveTopicRecord>(version, input),
        DelegationTokenRecord::NAME => one::<DelegationTokenRecord>(version, input),
        UserScramCredentialRecord::NAME => one::<UserScramCredentialRecord>(version, input),
        FeatureLevelRecord::NAME => one::<FeatureLevelRecord>(version, input),
        ClientQuotaRecord::NAME => one::<ClientQuotaRecord>(version, input),
        ProducerIdsRecord::NAME => one::<ProducerIdsRecord>(version, input),
        BrokerRegistrationChangeRecord::NAME => one::<BrokerRegistrationChangeRecord>(version, input),
        AccessControlEntryRecord::NAME => one::<AccessControlEntryRecord>(version, input),
        RemoveAccessControlEntryRecord::NAME => one::<RemoveAccessControlEntryRecord>(version, input),
        NoOpRecord::NAME => one::<NoOpRecord>(version, input),
        ZkMigrationStateRecord::NAME => one::<ZkMigrationStateRecord>(version, input),
        RemoveUserScramCredentialRecord::NAME => one::<RemoveUserScramCredentialRecord>(version, input),
        BeginTransactionRecord::NAME => one::<BeginTransactionRecord>(version, input),
        EndTransactionRecord::NAME => one::<EndTransactionRecord>(version, input),
        AbortTransactionRecord::NAME => one::<AbortTransactionRecord>(version, input),
        RemoveDelegationTokenRecord::NAME => one::<RemoveDelegationTokenRecord>(version, input),
        RegisterControllerRecord::NAME => one::<RegisterControllerRecord>(version, input),
        ClearElrRecord::NAME => one::<ClearElrRecord>(version, input),
        _ => return None,
    })
}
