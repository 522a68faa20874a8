//! What a group coordinator is asked and what it answers, free of wire formats
//! and of Kafka's error codes.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::{UnixMs, Uuid};

/// Names one request that waits for its answer; the caller makes them, each used
/// once. Every token handed in comes back in exactly one [`Effect::Answer`](super::Effect).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Why a group request is refused. Each bears the name of Kafka's error
/// (`org.apache.kafka.common.errors`); `api/` maps them to codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("the coordinator still reads its log")]
    CoordinatorLoadInProgress,
    #[error("the coordinator cannot store the change at the moment")]
    CoordinatorNotAvailable,
    #[error("this core does not coordinate the group")]
    NotCoordinator,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the session timeout is outside group.min.session.timeout.ms..group.max.session.timeout.ms")]
    InvalidSessionTimeout,
    #[error("the member has to join again with the id given to it")]
    MemberIdRequired,
    #[error("the group does not know the member")]
    UnknownMemberId,
    #[error("the generation is not the current one")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    #[error("another member took over the instance id")]
    FencedInstanceId,
    #[error("the group has group.max.size members")]
    GroupMaxSizeReached,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("the metadata is longer than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("a text of the request is longer than a record can hold")]
    InvalidRequest,
    #[error("the change does not fit into one record batch")]
    UnknownServerError,
}

/// Why the records of an append effect did not become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendFailure {
    /// The batch is larger than the topic allows.
    TooLarge,
    /// Full disk, timeout: a later try may succeed.
    Unavailable,
    /// The log is offline, or the partition is no longer led here.
    Offline,
}

impl AppendFailure {
    /// `appendGroupMetadataErrorToResponseError`.
    pub(super) fn error(self) -> GroupError {
        match self {
            AppendFailure::TooLarge => GroupError::UnknownServerError,
            AppendFailure::Unavailable => GroupError::CoordinatorNotAvailable,
            AppendFailure::Offline => GroupError::NotCoordinator,
        }
    }
}

/// One of the assignment protocols a member supports, in its order of preference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub group: String,
    /// Empty: the member has none yet.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    /// As Kafka shows it: `/127.0.0.1`.
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// The session timeout for version 0, which has no such field.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// Version 4 on (KIP-394).
    pub requires_known_member_id: bool,
    /// Version 9 on (KIP-814).
    pub supports_skipping_assignment: bool,
    /// Random bytes for the member id that this request may need.
    pub random: [u8; 16],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<Rc<str>>,
    pub protocol_name: Option<Rc<str>>,
    pub leader: Rc<str>,
    pub skip_assignment: bool,
    pub member_id: Rc<str>,
    /// All members for the leader, empty for the others.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member_id: Rc<str>,
    pub instance_id: Option<Rc<str>>,
    pub metadata: Bytes,
}

/// A refused join still tells a member id: the given one, a new one with
/// [`GroupError::MemberIdRequired`], or none (empty).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefused {
    pub error: GroupError,
    pub member_id: Rc<str>,
}

#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Version 5 on; must then be the group's.
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// From the leader: member id and its assignment.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    pub protocol_type: Option<Rc<str>>,
    pub protocol_name: Option<Rc<str>>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug)]
pub struct LeaveRequest {
    pub group: String,
    pub members: Vec<LeavingMember>,
}

/// An empty member id with an instance id removes whoever bears the instance id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeavingMember {
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub result: Result<(), GroupError>,
}

#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub group: String,
    /// −1: not a member, or an administrator.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Versions 2 to 4 can ask for a retention time of their own; −1 is none.
    pub retention_time_ms: i64,
    /// What a missing group is called: version 9 on it is GroupIdNotFound, before that
    /// IllegalGeneration.
    pub knows_group_id_not_found: bool,
    pub topics: Vec<CommitTopic>,
}

#[derive(Clone, Debug)]
pub struct CommitTopic {
    pub name: Rc<str>,
    /// Zero when not known.
    pub topic_id: Uuid,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    /// −1: not given.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

/// Topics and partitions in the order of the request.
pub type PartitionResults = Vec<(Rc<str>, Vec<(i32, Result<(), GroupError>)>)>;

#[derive(Clone, Debug)]
pub struct FetchRequest {
    pub group: String,
    /// `None`: all partitions the group has offsets for.
    pub topics: Option<Vec<FetchTopic>>,
    /// Wait for what is being written (KIP-447) rather than answer what was there before.
    pub require_stable: bool,
}

#[derive(Clone, Debug)]
pub struct FetchTopic {
    pub name: Rc<str>,
    /// Zero when not known. Offsets committed for another id of the same name are not found.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    pub name: Rc<str>,
    pub partitions: Vec<FetchedPartition>,
}

/// `offset` −1, epoch −1 and empty metadata: nothing was committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition {
    pub partition: i32,
    pub result: Result<FetchedOffset, GroupError>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Rc<str>,
}

#[derive(Clone, Debug)]
pub struct DeleteOffsetsRequest {
    pub group: String,
    pub topics: Vec<(Rc<str>, Vec<i32>)>,
}

/// The states of a classic group, shown to users by these names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum GroupState {
    /// No members; there may be offsets.
    Empty,
    /// Members are joining the next generation.
    PreparingRebalance,
    /// The generation stands; the leader's assignment is awaited or being stored.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// The group does not exist.
    Dead,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub group: Rc<str>,
    pub state: GroupState,
    /// Empty for a group that only holds offsets.
    pub protocol_type: Rc<str>,
    /// Empty unless Stable.
    pub protocol: Rc<str>,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    pub member_id: Rc<str>,
    pub instance_id: Option<Rc<str>>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is Stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    pub group: Rc<str>,
    pub protocol_type: Rc<str>,
    pub state: GroupState,
}

/// What a token gets. The variant is that of the event which brought the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    Leave(Result<Vec<LeftMember>, GroupError>),
    CommitOffsets(Result<PartitionResults, GroupError>),
    FetchOffsets(Result<Vec<FetchedTopic>, GroupError>),
    DeleteOffsets(Result<PartitionResults, GroupError>),
    DeleteGroups(Vec<(String, Result<(), GroupError>)>),
}

impl Answer {
    /// The same answer after the write it told of failed.
    pub(super) fn refused(self, error: GroupError) -> Answer {
        match self {
            Answer::Join(Ok(joined)) => Answer::Join(Err(JoinRefused { error, member_id: joined.member_id })),
            Answer::Join(Err(refused)) => Answer::Join(Err(JoinRefused { error, ..refused })),
            Answer::Sync(_) => Answer::Sync(Err(error)),
            Answer::Heartbeat(_) => Answer::Heartbeat(Err(error)),
            Answer::Leave(_) => Answer::Leave(Err(error)),
            Answer::CommitOffsets(_) => Answer::CommitOffsets(Err(error)),
            Answer::FetchOffsets(_) => Answer::FetchOffsets(Err(error)),
            Answer::DeleteOffsets(_) => Answer::DeleteOffsets(Err(error)),
            Answer::DeleteGroups(groups) => Answer::DeleteGroups(
                groups.into_iter().map(|(group, result)| (group, result.and(Err(error)))).collect(),
            ),
        }
    }
}

/// A moment, by two clocks: the wall clock stamps records, the monotonic one
/// drives timers, so that setting the wall clock expires nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub unix: UnixMs,
    /// Since any fixed moment; never goes back.
    pub monotonic: std::time::Duration,
}
