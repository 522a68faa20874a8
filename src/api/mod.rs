//! One file per Kafka API. Each opens with the versions served, what is promised,
//! what each version changed (KIP) and what is ignored. Kafka's error codes live
//! only here ([`errors`]).
//!
//! Relies on [`crate::shard::Core`] for everything that has state. Never touches
//! sockets, files or channels.
//!
//! [`dispatch`] is the one entrance: a request in, a [`Reply`] out. When it returns,
//! the request is *ordered*: the connection may read its next one. On the way it marks
//! the stages of the request's time line ([`Context::mark`]).

pub mod brokers;
pub mod errors;

mod admin;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod config_changes;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod held;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod scatter;
mod sync_group;
mod target;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;

use crate::base::{Moment, Rope};
use crate::metrics::{Stage, Timeline};
use crate::partition::Safe;
use crate::runtime::clock;
use crate::shard::{Core, messages::ForwardedRequest};
use crate::wire::{self, ApiKey, Body, Scratch, Served, StrBytes};
use bytes::Bytes;

/// The body of the answer to an ApiVersions version we do not know.
pub use api_versions::unsupported as unsupported_api_versions;
pub use produce::Pending;

/// A future that stays on its core.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Who asks, and in which version; and what is learnt of the request on its way.
#[derive(Debug)]
pub struct Context {
    pub api: &'static Served,
    /// Within the served range of the API.
    pub version: i16,
    pub correlation_id: i32,
    /// A slice of the frame, which it keeps alive: copy it to keep it.
    pub client_id: Option<StrBytes>,
    pub client_host: IpAddr,
    /// The listener the connection came in on, as an index into the configured ones.
    pub listener: usize,
    pub timeline: RefCell<Timeline>,
    /// Partitions that it names (Produce and Fetch).
    pub partitions: Cell<usize>,
    /// When the work on it began, if that is known.
    begun: Option<Moment>,
}

impl Context {
    /// Of a request that was read at `read`. `now`: about what the clock would say, if that
    /// is known.
    pub fn new(
        header: wire::RequestHeader,
        client_host: IpAddr,
        listener: usize,
        read: Moment,
        now: Option<Moment>,
    ) -> Context {
        Context {
            api: header.api,
            version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
            client_host,
            listener,
            timeline: RefCell::new(Timeline::begin(read)),
            partitions: Cell::new(0),
            begun: now,
        }
    }

    /// Marks the request as parsed: of those whose parsing takes next to nothing.
    pub fn mark_parsed(&self) {
        let now = self.begun.unwrap_or_else(clock::moment);
        self.timeline.borrow_mut().mark(Stage::Parsed, now);
    }

    /// The time since the last mark was spent in `stage`.
    pub fn mark(&self, stage: Stage) {
        self.timeline.borrow_mut().mark(stage, clock::moment());
    }

    /// The client id as Kafka sees it: none is empty.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("")
    }
}

/// What becomes of a request.
pub enum Reply {
    /// The body of the answer.
    Ready(Answer),
    /// Ordered; the answer follows (Produce, when its records are durable).
    Later(Pending),
    /// No answer at all (Produce with acks=0).
    None,
    /// The connection ends, as Apache Kafka ends it: what came was not a request we
    /// can read, or acks=0 failed and this is the only way to tell.
    Close,
}

/// An answer without its header.
pub struct Answer {
    pub body: AnswerBody,
    /// When the records it acknowledges became safe.
    pub safe: Safe,
}

/// The bytes of an answer; those of Produce and Fetch are written when they leave.
pub enum AnswerBody {
    Piece(Bytes),
    Pieces(Rope),
    Produced(produce::Produced),
    Fetched(fetch::Fetched),
}

/// What has to be kept until an answer is sent: the memory that its records hold.
pub type Kept = Option<fetch::Fetched>;

impl Answer {
    /// Writes the whole answer behind what `rope` and then `small` hold. Small answers
    /// that follow each other become one piece that way.
    pub fn write(self, head: wire::ResponseHeader, small: &mut Scratch, rope: &mut Rope) -> Kept {
        let (body, kept) = match self.body {
            AnswerBody::Produced(produced) => {
                wire::put_frame(head, small, |to| produced.write(to));
                return None;
            }
            AnswerBody::Fetched(mut fetched) => {
                rope.push_bytes(small.cut());
                let mut body = Rope::new();
                fetched.write(small, &mut body);
                (body, Some(fetched))
            }
            AnswerBody::Piece(bytes) => (bytes.into(), None),
            AnswerBody::Pieces(pieces) => (pieces, None),
        };
        wire::put_frame_head(head, body.len(), small);
        rope.push_bytes(small.cut());
        rope.append(body);
        kept
    }

    fn into_bytes(self) -> Bytes {
        let (mut small, mut rope) = (Scratch::take(), Rope::new());
        match self.body {
            AnswerBody::Piece(bytes) => return bytes,
            AnswerBody::Pieces(pieces) => return pieces.to_bytes(),
            AnswerBody::Produced(produced) => {
                produced.write(&mut small);
                rope.push_bytes(small.cut());
            }
            AnswerBody::Fetched(mut fetched) => fetched.write(&mut small, &mut rope),
        }
        rope.to_bytes()
    }
}

impl From<Rope> for Answer {
    fn from(body: Rope) -> Answer {
        Answer { body: AnswerBody::Pieces(body), safe: Safe::default() }
    }
}

impl From<Bytes> for Answer {
    fn from(body: Bytes) -> Answer {
        Answer { body: AnswerBody::Piece(body), safe: Safe::default() }
    }
}

/// Handles one request. The version has been checked against [`wire::versions`].
pub async fn dispatch(core: &Rc<Core>, context: &Context, body: Bytes) -> Reply {
    let c = context;
    match c.api.key {
        ApiKey::Produce => produce::handle(core, c, body).await,
        ApiKey::Fetch => fetch::handle(core, c, body).await,
        ApiKey::ApiVersions => answer(c, body, |r| api_versions::handle(core, r, c)).await,
        ApiKey::Metadata => answer(c, body, |r| metadata::handle(core, r, c)).await,
        ApiKey::ListOffsets => answer(c, body, |r| list_offsets::handle(core, r, c)).await,
        ApiKey::OffsetForLeaderEpoch => answer(c, body, |r| offset_for_leader_epoch::handle(core, r, c)).await,
        ApiKey::CreateTopics => answer(c, body, |r| create_topics::handle(core, r, c)).await,
        ApiKey::DeleteTopics => answer(c, body, |r| delete_topics::handle(core, r, c)).await,
        ApiKey::DescribeLogDirs => answer(c, body, |r| describe_log_dirs::handle(core, r, c)).await,
        ApiKey::AlterReplicaLogDirs => answer(c, body, |r| alter_replica_log_dirs::handle(core, r)).await,
        ApiKey::DeleteRecords => answer(c, body, |r| delete_records::handle(core, r)).await,
        ApiKey::CreatePartitions => answer(c, body, |r| create_partitions::handle(core, r, c)).await,
        ApiKey::AlterConfigs => answer(c, body, |r| alter_configs::handle(core, r)).await,
        ApiKey::IncrementalAlterConfigs => answer(c, body, |r| incremental_alter_configs::handle(core, r)).await,
        ApiKey::DescribeConfigs => answer(c, body, |r| describe_configs::handle(core, r, c)).await,
        ApiKey::AlterPartitionReassignments => {
            answer(c, body, |r| alter_partition_reassignments::handle(core, r, c)).await
        }
        ApiKey::ListPartitionReassignments => answer(c, body, list_partition_reassignments::handle).await,
        ApiKey::ElectLeaders => answer(c, body, |r| elect_leaders::handle(core, r)).await,
        ApiKey::ListConfigResources => answer(c, body, |r| list_config_resources::handle(core, r, c)).await,
        ApiKey::DescribeTopicPartitions => answer(c, body, |r| describe_topic_partitions::handle(core, r)).await,
        ApiKey::DescribeCluster => answer(c, body, |r| describe_cluster::handle(core, r, c)).await,
        ApiKey::InitProducerId => answer(c, body, |r| init_producer_id::handle(core, r, c)).await,
        ApiKey::FindCoordinator => answer(c, body, |r| find_coordinator::handle(core, r, c)).await,
        ApiKey::JoinGroup => answer(c, body, |r| join_group::handle(core, r, c)).await,
        ApiKey::SyncGroup => answer(c, body, |r| sync_group::handle(core, r, c)).await,
        ApiKey::Heartbeat => answer(c, body, |r| heartbeat::handle(core, r, c)).await,
        ApiKey::LeaveGroup => answer(c, body, |r| leave_group::handle(core, r, c)).await,
        ApiKey::OffsetCommit => answer(c, body, |r| offset_commit::handle(core, r, c)).await,
        ApiKey::OffsetFetch => answer(c, body, |r| offset_fetch::handle(core, r, c)).await,
        ApiKey::DescribeGroups => answer(c, body, |r| describe_groups::handle(core, r, c)).await,
        ApiKey::ListGroups => answer(c, body, |r| list_groups::handle(core, r, c)).await,
        ApiKey::DeleteGroups => answer(c, body, |r| delete_groups::handle(core, r, c)).await,
        // The version table serves no other API; a new key there must get its line here.
        _ => Reply::Close,
    }
}

/// Decodes, handles, encodes. A request that cannot be read ends the connection, as in Kafka.
async fn answer<Q, F>(context: &Context, body: Bytes, handle: impl FnOnce(Q) -> F) -> Reply
where
    Q: Body,
    F: Future<Output = Q::Response>,
{
    let request = match wire::decode::<Q>(body, context.version) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(client = %context.client_host, api = context.api.name, version = context.version, %error, "unreadable request");
            return Reply::Close;
        }
    };
    context.mark(Stage::Parsed);
    let response = handle(request).await;
    context.mark(match context.api.key {
        // A member waits for the others of its group, by design for as long as a rebalance lasts.
        ApiKey::JoinGroup | ApiKey::SyncGroup => Stage::Parked,
        _ => Stage::Ordered,
    });
    match wire::encode::<Q>(&response, context.version) {
        Ok(bytes) => Reply::Ready(bytes.into()),
        Err(error) => {
            // Ours, not the peer's: a field set that the version does not know. The client
            // must not hang on it.
            tracing::error!(api = context.api.name, version = context.version, %error, "an answer could not be encoded");
            Reply::Close
        }
    }
}

/// A text for the codec crate, copied.
fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Handles a request that another core sent here because its coordinator lives here.
/// `None`: the connection has to be closed.
pub async fn handle_forwarded(core: &Rc<Core>, request: ForwardedRequest) -> Option<Bytes> {
    let header = wire::RequestHeader {
        api: wire::served(request.api_key)?,
        api_version: request.api_version,
        correlation_id: request.correlation_id,
        client_id: request.client_id.map(StrBytes::from_string),
    };
    // Its time line is kept where its connection is.
    let context = Context::new(header, request.client_host, request.listener, clock::moment(), None);
    // Boxed: dispatch may itself forward, and a future cannot contain itself.
    let reply: LocalFuture<Reply> = {
        let core = Rc::clone(core);
        Box::pin(async move { dispatch(&core, &context, request.body).await })
    };
    match reply.await {
        Reply::Ready(answer) => Some(answer.into_bytes()),
        Reply::Later(answer) => Some(answer.await.into_bytes()),
        Reply::None => Some(Bytes::new()),
        Reply::Close => None,
    }
}
