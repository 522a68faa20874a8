//! Which requests the crate reads and writes, and which versions it does not know.
//!
//! | API | version | here |
//! |---|---:|---|
//! | ListOffsets | 11 | the bytes of 10 |
//! | OffsetCommit, OffsetFetch | 10 | by hand, see [`offsets`] |

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use super::{WireError, offsets};

/// A request that is served, in the form of the crate's messages. (Produce and Fetch have types of their own.)
pub trait Body: Request {
    /// The version of the crate that has the bytes of `version`, in the request and in its answer.
    fn crate_version(version: i16) -> i16 {
        version
    }

    /// Reads a version that the crate does not; `None`: the crate does.
    fn read(_body: &Bytes, _version: i16) -> Option<Result<Self, WireError>> {
        None
    }

    /// Writes a version that the crate does not; `None`: the crate does.
    fn write(&self, _version: i16) -> Option<Bytes> {
        None
    }
}

impl Body for ListOffsetsRequest {
    fn crate_version(version: i16) -> i16 {
        version.min(10)
    }
}

impl Body for OffsetCommitRequest {
    fn read(body: &Bytes, version: i16) -> Option<Result<Self, WireError>> {
        (version >= offsets::FIRST_BY_HAND).then(|| offsets::read_commit(body))
    }

    fn write(&self, version: i16) -> Option<Bytes> {
        (version >= offsets::FIRST_BY_HAND).then(|| offsets::write_commit(self))
    }
}

impl Body for OffsetFetchRequest {
    fn read(body: &Bytes, version: i16) -> Option<Result<Self, WireError>> {
        (version >= offsets::FIRST_BY_HAND).then(|| offsets::read_fetch(body))
    }

    fn write(&self, version: i16) -> Option<Bytes> {
        (version >= offsets::FIRST_BY_HAND).then(|| offsets::write_fetch(self))
    }
}

macro_rules! as_the_crate {
    ($($request:ty),* $(,)?) => { $(impl Body for $request {})* };
}

as_the_crate!(
    AlterConfigsRequest,
    AlterPartitionReassignmentsRequest,
    AlterReplicaLogDirsRequest,
    ApiVersionsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest,
    ElectLeadersRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    IncrementalAlterConfigsRequest,
    InitProducerIdRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListConfigResourcesRequest,
    ListGroupsRequest,
    ListPartitionReassignmentsRequest,
    MetadataRequest,
    OffsetForLeaderEpochRequest,
    SyncGroupRequest,
);
