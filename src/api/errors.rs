//! Kafka's error codes, and which of our errors means which of them.

/// A code of `org.apache.kafka.common.protocol.Errors`.
pub use kafka_protocol::error::ResponseError as Code;

use crate::coordinator::group::GroupError;
use crate::metadata::{Reason, Refusal};
use crate::partition::{EpochFault, ProducerFault};
use crate::record::{InvalidBatch, RecordError};
use crate::shard::partitions::{AppendError, ReadError};
use crate::shard::starts::DeletionError;
use crate::wire::produce::ProducedRecordError;

/// No error.
pub const NONE: i16 = 0;

/// The code of a result.
pub fn code<T>(result: &Result<T, Code>) -> i16 {
    result.as_ref().err().map_or(NONE, Code::code)
}

/// Why a batch was refused.
pub fn append(error: &AppendError) -> Code {
    match error {
        AppendError::NotHere => Code::NotLeaderOrFollower,
        AppendError::Failed(_) => Code::KafkaStorageError,
        // Retriable, and as Kafka's clients know it: not a matter of this broker's leadership.
        AppendError::NoRoom(_) => Code::KafkaStorageError,
        AppendError::Invalid(invalid) => invalid_batch(invalid),
        AppendError::Producer(fault) => producer(fault),
        AppendError::TooLarge { .. } => Code::RecordListTooLarge,
    }
}

fn invalid_batch(invalid: &InvalidBatch) -> Code {
    match invalid {
        InvalidBatch::TooLarge { .. } => Code::MessageTooLarge,
        InvalidBatch::Corrupt(_) => Code::CorruptMessage,
        InvalidBatch::Invalid(_) => Code::InvalidRecord,
        InvalidBatch::UnsupportedCodec => Code::UnsupportedCompressionType,
        InvalidBatch::Records { timestamp: true, .. } => Code::InvalidTimestamp,
        InvalidBatch::Records { timestamp: false, .. } => Code::InvalidRecord,
    }
}

fn producer(fault: &ProducerFault) -> Code {
    match fault {
        ProducerFault::OutOfOrder { .. } | ProducerFault::NewEpochNotAtZero { .. } => Code::OutOfOrderSequenceNumber,
        ProducerFault::StaleEpoch { .. } => Code::InvalidProducerEpoch,
        ProducerFault::NotTransactional { .. } => Code::InvalidTxnState,
    }
}

/// The records that made a batch for `partition` be refused (KIP-467).
pub fn record_errors(error: &AppendError, partition: &str) -> Vec<ProducedRecordError> {
    let AppendError::Invalid(InvalidBatch::Records { errors, .. }) = error else { return Vec::new() };
    let told = |e: &RecordError| ProducedRecordError { batch_index: e.index, message: Some(e.words(partition).into()) };
    errors.iter().map(told).collect()
}

/// Why a batch for `partition` was refused, in words.
pub fn append_words(error: &AppendError, partition: &str) -> String {
    /// As many as Kafka says.
    const SHOWN: usize = 3;
    let AppendError::Invalid(InvalidBatch::Records { errors, timestamp: false }) = error else {
        return error.to_string();
    };
    let shown: Vec<String> = errors
        .iter()
        .take(SHOWN)
        .map(|e| format!("RecordError(batchIndex={}, message='{}')", e.index, e.words(partition)))
        .collect();
    format!("{error}, and only showing the first three errors at most: [{}]", shown.join(", "))
}

/// Why nothing was read.
pub fn read(error: ReadError) -> Code {
    match error {
        ReadError::NotHere => Code::NotLeaderOrFollower,
        ReadError::Failed(_) => Code::KafkaStorageError,
        ReadError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        ReadError::Epoch(EpochFault::Fenced(_)) => Code::FencedLeaderEpoch,
        ReadError::Epoch(EpochFault::Unknown(_)) => Code::UnknownLeaderEpoch,
    }
}

/// Why no records were deleted.
pub fn deletion(error: &DeletionError) -> Code {
    match error {
        DeletionError::NotHere => Code::NotLeaderOrFollower,
        DeletionError::OutOfRange => Code::OffsetOutOfRange,
        DeletionError::Policy => Code::PolicyViolation,
        DeletionError::Failed(_) => Code::KafkaStorageError,
    }
}

/// Why the controller refused.
pub fn refusal(refusal: &Refusal) -> Code {
    match refusal.reason {
        Reason::InvalidRequest => Code::InvalidRequest,
        Reason::InvalidTopic => Code::InvalidTopicException,
        Reason::TopicExists => Code::TopicAlreadyExists,
        Reason::InvalidConfig => Code::InvalidConfig,
        Reason::InvalidPartitions => Code::InvalidPartitions,
        Reason::InvalidReplicationFactor => Code::InvalidReplicationFactor,
        Reason::InvalidReplicaAssignment => Code::InvalidReplicaAssignment,
        Reason::PolicyViolation => Code::PolicyViolation,
        Reason::UnknownTopicOrPartition => Code::UnknownTopicOrPartition,
        Reason::UnknownTopicId => Code::UnknownTopicId,
        Reason::InvalidRegistration => Code::InvalidRegistration,
        Reason::UnsupportedVersion => Code::UnsupportedVersion,
        Reason::Exhausted => Code::UnknownServerError,
    }
}

/// Why a group coordinator refused.
pub fn group(error: GroupError) -> Code {
    match error {
        GroupError::CoordinatorLoadInProgress => Code::CoordinatorLoadInProgress,
        GroupError::CoordinatorNotAvailable => Code::CoordinatorNotAvailable,
        GroupError::NotCoordinator => Code::NotCoordinator,
        GroupError::InvalidGroupId => Code::InvalidGroupId,
        GroupError::InvalidSessionTimeout => Code::InvalidSessionTimeout,
        GroupError::MemberIdRequired => Code::MemberIdRequired,
        GroupError::UnknownMemberId => Code::UnknownMemberId,
        GroupError::IllegalGeneration => Code::IllegalGeneration,
        GroupError::RebalanceInProgress => Code::RebalanceInProgress,
        GroupError::InconsistentGroupProtocol => Code::InconsistentGroupProtocol,
        GroupError::FencedInstanceId => Code::FencedInstanceId,
        GroupError::GroupMaxSizeReached => Code::GroupMaxSizeReached,
        GroupError::GroupIdNotFound => Code::GroupIdNotFound,
        GroupError::NonEmptyGroup => Code::NonEmptyGroup,
        GroupError::OffsetMetadataTooLarge => Code::OffsetMetadataTooLarge,
        GroupError::GroupSubscribedToTopic => Code::GroupSubscribedToTopic,
        GroupError::InvalidRequest => Code::InvalidRequest,
        GroupError::UnknownServerError => Code::UnknownServerError,
    }
}
