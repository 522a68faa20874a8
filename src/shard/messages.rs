//! What crosses cores: one closed enum. Records cross only when a request came in
//! on a core that does not own the partition (`advertise=host`, or a client with
//! stale metadata is forwarded), and then in one message per core and request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::controller::Outcome;
use super::coordinators::ListedGroup;
use super::mover::{MoveRefusal, Wanted};
use super::partitions::{Acknowledged, AppendError, AppendRules, LogSize, Position, ReadError};
use super::points::TopicPoint;
use super::reads::Limits;
use super::starts::{Deletion, DeletionError};
use crate::base::{DirIndex, LeaderEpoch, Offset, Uuid};
use crate::coordinator::group::GroupError;
use crate::log::aborted::AbortedTransaction;
use crate::metadata::Intention;
use crate::metadata::records::MetadataRecord;
use crate::partition::{Bounds, FoundOffset, Isolation, OffsetSpec};

/// A message from one core to another.
pub enum Message {
    /// From core 0 to every other: committed metadata records, in order.
    Committed(Committed),
    /// From core 0 at start: everything it had has been sent.
    CaughtUp,
    /// To core 0: the image of the sending core has reached `end`, and what it owns
    /// of it is open.
    Applied { end: Offset },
    /// To every other core: a data directory has failed.
    DirFailed(DirIndex),
    /// Wants an [`Message::Answer`] with the same id from the core it is sent to.
    Call { id: u64, call: Call },
    /// Answers a call. Always sent, also when the call failed: an error is an answer.
    Answer { id: u64, answer: Answer },
}

/// Committed metadata records.
#[derive(Clone)]
pub struct Committed {
    pub records: Arc<Vec<MetadataRecord>>,
    /// The offset after the last of them.
    pub end: Offset,
    /// The controller's epoch.
    pub epoch: LeaderEpoch,
}

/// What one core asks of another.
pub enum Call {
    /// To core 0: change metadata. Answered when the change is durable and every core has it.
    Control(Intention),
    /// To the owner of the partitions: validate and append, in this order.
    Produce(ForwardedProduce),
    /// To the owner: read what is there, without waiting.
    Fetch(ForwardedFetch),
    /// To the owner: answer when this many bytes have become visible at or after the
    /// offsets, or after the time.
    Watch { positions: Vec<Position>, isolation: Isolation, min_bytes: usize, wait: Duration },
    /// To the owner: offsets by time stamp or kind.
    ListOffsets(Vec<OffsetQuery>),
    /// To the owner: where leader epochs end.
    EpochEnds(Vec<EpochQuery>),
    /// To a core behind the same broker: the groups it coordinates.
    ListGroups,
    /// To core 0: new recovery points. `first`: the first report of its core. Answered when
    /// the file has them.
    Points { points: Vec<TopicPoint>, first: bool },
    /// To a core behind the same broker: how large its logs are.
    LogSizes,
    /// To the owner: give up records.
    DeleteRecords(Vec<Deletion>),
    /// To core 0: new log starts. Answered when the file has them.
    Starts(Vec<TopicPoint>),
    /// To core 0: how far logs have been compacted.
    Cleaned(Vec<TopicPoint>),
    /// To the owner: move partitions to other data directories. Answered when the moves have begun.
    Move(Vec<Wanted>),
    /// To core 0: a partition is about to be handed over from one of these directories to the other, or, without any, has
    /// been; and how far it has been compacted. Answered when files of log starts have its line.
    Moving { topic_id: Uuid, partition: i32, dirs: Vec<DirIndex>, cleaned: Offset },
    /// To the core of a coordinator: a whole request, to be handled there.
    Request(ForwardedRequest),
}

/// The answers to [`Call`], in the same order.
pub enum Answer {
    Control(Outcome),
    Produce(Vec<Result<Acknowledged, AppendError>>),
    Fetch(Vec<Result<ForwardedRecords, ReadError>>),
    Watch,
    ListOffsets(Vec<Result<Option<FoundOffset>, ReadError>>),
    EpochEnds(Vec<Result<Option<(LeaderEpoch, Offset)>, ReadError>>),
    ListGroups(Result<Vec<ListedGroup>, GroupError>),
    /// Whether the file has them.
    Points(bool),
    LogSizes(Vec<LogSize>),
    DeleteRecords(Vec<Result<Offset, DeletionError>>),
    /// Whether the file has them.
    Starts(bool),
    Cleaned,
    Move(Vec<Result<(), MoveRefusal>>),
    /// Whether the files have it.
    Moving(bool),
    /// The encoded body of the answer, or `None` when the connection has to be closed.
    Request(Option<Bytes>),
}

/// Batches for partitions of one other core.
pub struct ForwardedProduce {
    pub how: AppendRules,
    pub batches: Vec<(Uuid, i32, Bytes)>,
}

/// Reads from partitions of one other core.
pub struct ForwardedFetch {
    pub limits: Limits,
    pub reads: Vec<Read>,
}

/// What a consumer wants of one partition.
#[derive(Clone, Debug)]
pub struct Read {
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: Offset,
    /// The leader epoch the consumer knows; −1: not checked.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record it has; −1: not checked.
    pub last_fetched_epoch: LeaderEpoch,
    pub max_bytes: usize,
}

/// Records on their way to another core: copied once, because tail buffers and read
/// buffers belong to the core that owns the partition.
pub struct ForwardedRecords {
    pub bounds: Bounds,
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub records: Bytes,
    pub aborted: Vec<AbortedTransaction>,
    /// As in [`Found`](super::reads::Found).
    pub starved: bool,
}

/// A question for an offset.
#[derive(Clone, Debug)]
pub struct OffsetQuery {
    pub topic_id: Uuid,
    pub partition: i32,
    /// The leader epoch the client knows; −1: not checked.
    pub leader_epoch: LeaderEpoch,
    pub spec: OffsetSpec,
    pub isolation: Isolation,
}

/// A question for the end of a leader epoch.
#[derive(Clone, Debug)]
pub struct EpochQuery {
    pub topic_id: Uuid,
    pub partition: i32,
    /// The leader epoch the client knows; −1: not checked.
    pub current: LeaderEpoch,
    /// The epoch whose end it wants to know.
    pub wanted: LeaderEpoch,
}

/// A request on its way to the core of its coordinator.
pub struct ForwardedRequest {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
    pub client_host: IpAddr,
    pub listener: usize,
    pub body: Bytes,
}
