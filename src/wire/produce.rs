//! Produce, versions 3 to 13, walked where it lies: no objects, records as slices of the frame.
//!
//! | version | what it changed |
//! |---:|---|
//! | 3 | transactional id, batches of format 2 (KIP-98) |
//! | 5 | answer: log start offset (KIP-107) |
//! | 7 | zstd may be used (KIP-110) |
//! | 8 | answer: record errors and message (KIP-467) |
//! | 9 | flexible |
//! | 10 | answer: current leader, node endpoints (KIP-951) |
//! | 11, 12 | no change of bytes (KIP-890) |
//! | 13 | topic ids instead of names (KIP-516) |
//!
//! Tagged fields of a request are skipped: none is defined.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::cursor::{Cursor, Put, put_node_endpoints, put_tag};
use super::{CurrentLeader, NodeEndpoint, Topic, WireError, scratch};

const FIRST_FLEXIBLE: i16 = 9;
const FIRST_WITH_TOPIC_IDS: i16 = 13;

/// A produce request whose form is right from beginning to end; what the
/// records fields hold was not looked at.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    body: Bytes,
    version: i16,
    transactional_id: Option<StrBytes>,
    acks: i16,
    timeout_ms: i32,
    topics_at: usize,
    partition_count: usize,
}

impl ProduceRequest {
    /// Walks over the whole body once. The version is one of 3 to 13.
    pub fn parse(body: Bytes, version: i16) -> Result<ProduceRequest, WireError> {
        let flexible = version >= FIRST_FLEXIBLE;
        let mut cursor = Cursor::new(&body);
        let transactional_id = match cursor.nullable_text(flexible, "transactional id")? {
            Some(text) => Some(str_bytes(&body, text)?),
            None => None,
        };
        let acks = cursor.i16("acks")?;
        let timeout_ms = cursor.i32("timeout")?;
        let topics_at = cursor.position();
        let mut partition_count = 0;
        let mut topics = Topics::start(&body, topics_at, version)?;
        while let Some(mut topic) = topics.advance()? {
            while topic.advance()?.is_some() {
                partition_count += 1;
            }
            topics.cursor = topic.finish()?;
        }
        if flexible {
            topics.cursor.skip_tags()?;
        }
        Ok(ProduceRequest { version, transactional_id, acks, timeout_ms, topics_at, partition_count, body })
    }

    pub fn transactional_id(&self) -> Option<&str> {
        self.transactional_id.as_deref()
    }

    /// 0, 1 or −1 (all) from a sane client.
    pub fn acks(&self) -> i16 {
        self.acks
    }

    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    pub fn version(&self) -> i16 {
        self.version
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topics in order, each with its partitions in order.
    pub fn topics(&self) -> impl Iterator<Item = ProduceTopic<'_>> {
        // The walk at parsing has seen that nothing here fails.
        let mut topics = Topics::start(&self.body, self.topics_at, self.version).ok();
        std::iter::from_fn(move || {
            let topics = topics.as_mut()?;
            let topic = topics.advance().ok()??;
            let mut partitions = topic.clone();
            while let Ok(Some(_)) = partitions.advance() {}
            topics.cursor = partitions.finish().ok()?;
            Some(topic)
        })
    }
}

fn str_bytes(frame: &Bytes, text: &str) -> Result<StrBytes, WireError> {
    StrBytes::from_utf8(frame.slice_ref(text.as_bytes())).map_err(|_| WireError::Text("text"))
}

/// Stands before a topic, or behind the last.
struct Topics<'a> {
    body: &'a Bytes,
    cursor: Cursor<'a>,
    version: i16,
    remaining: usize,
}

impl<'a> Topics<'a> {
    fn start(body: &'a Bytes, at: usize, version: i16) -> Result<Topics<'a>, WireError> {
        let mut cursor = Cursor::at(body, at);
        let remaining = cursor.count(version >= FIRST_FLEXIBLE, 1, "topics")?.ok_or(WireError::Null("topics"))?;
        Ok(Topics { body, cursor, version, remaining })
    }

    /// The next topic; the caller puts the cursor behind it.
    fn advance(&mut self) -> Result<Option<ProduceTopic<'a>>, WireError> {
        if self.remaining == 0 {
            return Ok(None);
        }
        self.remaining -= 1;
        let flexible = self.version >= FIRST_FLEXIBLE;
        let mut cursor = self.cursor.clone();
        let topic = if self.version >= FIRST_WITH_TOPIC_IDS {
            TopicField::Id(cursor.uuid("topic id")?)
        } else {
            TopicField::Name(cursor.text(flexible, "topic name")?)
        };
        let remaining = cursor.count(flexible, 1, "partitions")?.ok_or(WireError::Null("partitions"))?;
        Ok(Some(ProduceTopic { body: self.body, topic, flexible, cursor, remaining }))
    }
}

#[derive(Clone, Copy, Debug)]
enum TopicField<'a> {
    Name(&'a str),
    Id(crate::base::Uuid),
}

/// A topic of a produce request, and an iterator over its partitions.
#[derive(Clone, Debug)]
pub struct ProduceTopic<'a> {
    body: &'a Bytes,
    topic: TopicField<'a>,
    flexible: bool,
    cursor: Cursor<'a>,
    remaining: usize,
}

/// A partition's index and its records field where it lies.
struct Slot<'a> {
    index: i32,
    records: Option<&'a [u8]>,
}

/// What is to be appended to one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducePartition {
    pub index: i32,
    /// A slice of the frame, which it keeps alive. `None`: null, which no valid request has.
    pub records: Option<Bytes>,
}

impl<'a> ProduceTopic<'a> {
    /// The topic's name (to version 12).
    pub fn name(&self) -> Option<&'a str> {
        match self.topic {
            TopicField::Name(name) => Some(name),
            TopicField::Id(_) => None,
        }
    }

    /// The topic's id (from version 13).
    pub fn id(&self) -> Option<crate::base::Uuid> {
        match self.topic {
            TopicField::Name(_) => None,
            TopicField::Id(id) => Some(id),
        }
    }

    /// The topic as the answer has to name it: a slice of the frame.
    pub fn topic(&self) -> Topic {
        match self.topic {
            TopicField::Name(name) => Topic::Name(str_bytes(self.body, name).unwrap_or_default()),
            TopicField::Id(id) => Topic::Id(id),
        }
    }

    /// Partitions not yet iterated over.
    pub fn partition_count(&self) -> usize {
        self.remaining
    }

    #[inline]
    fn advance(&mut self) -> Result<Option<Slot<'a>>, WireError> {
        if self.remaining == 0 {
            return Ok(None);
        }
        self.remaining -= 1;
        let index = self.cursor.i32("partition")?;
        let records = match self.cursor.count(self.flexible, 1, "records")? {
            Some(len) => Some(self.cursor.take(len, "records")?),
            None => None,
        };
        if self.flexible {
            self.cursor.skip_tags()?;
        }
        Ok(Some(Slot { index, records }))
    }

    /// Behind the last partition, goes behind the topic.
    fn finish(mut self) -> Result<Cursor<'a>, WireError> {
        if self.flexible {
            self.cursor.skip_tags()?;
        }
        Ok(self.cursor)
    }
}

impl Iterator for ProduceTopic<'_> {
    type Item = ProducePartition;

    fn next(&mut self) -> Option<ProducePartition> {
        let Slot { index, records } = self.advance().ok()??;
        Some(ProducePartition { index, records: records.map(|records| self.body.slice_ref(records)) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

/// The answer to a produce request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProduceResponse {
    pub topics: Vec<ProducedTopic>,
    pub throttle_time_ms: i32,
    /// Of all leaders named below; from version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// See [`ProduceResponse`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducedTopic {
    /// As the request named it.
    pub topic: Topic,
    pub partitions: Vec<ProducedPartition>,
}

/// What became of one partition's records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducedPartition {
    pub index: i32,
    pub error_code: i16,
    /// −1 on an error.
    pub base_offset: i64,
    /// −1 unless the broker sets the time.
    pub log_append_time_ms: i64,
    /// From version 5; −1 when unknown.
    pub log_start_offset: i64,
    /// From version 8.
    pub record_errors: Vec<ProducedRecordError>,
    /// From version 8.
    pub error_message: Option<Cow<'static, str>>,
    /// From version 10.
    pub current_leader: Option<CurrentLeader>,
}

/// A record that made its batch be refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducedRecordError {
    pub batch_index: i32,
    pub message: Option<Cow<'static, str>>,
}

impl ProducedPartition {
    /// An answer that holds nothing but an error.
    pub fn error(index: i32, error_code: i16, message: Option<Cow<'static, str>>) -> ProducedPartition {
        ProducedPartition {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: message,
            current_leader: None,
        }
    }
}

impl ProduceResponse {
    /// The body of the answer in a version of 3 to 13.
    pub fn encode(&self, version: i16) -> Bytes {
        scratch::piece(self.about_bytes(), |to| self.write(version, to))
    }

    /// How long it is, in any version and about.
    pub fn about_bytes(&self) -> usize {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        32 + self.topics.len() * 64 + partitions * 48
    }

    /// Writes what [`ProduceResponse::encode`] gives.
    pub fn write(&self, version: i16, to: &mut BytesMut) {
        let flexible = version >= FIRST_FLEXIBLE;
        to.put_count(Some(self.topics.len()), flexible);
        for topic in &self.topics {
            put_topic(&topic.topic, version >= FIRST_WITH_TOPIC_IDS, flexible, to);
            to.put_count(Some(topic.partitions.len()), flexible);
            for partition in &topic.partitions {
                partition.encode(version, flexible, to);
            }
            if flexible {
                to.put_u8(0);
            }
        }
        to.put_i32(self.throttle_time_ms);
        if flexible {
            put_node_endpoints(&self.node_endpoints, version >= 10, to);
        }
    }
}

impl ProducedPartition {
    fn encode(&self, version: i16, flexible: bool, to: &mut BytesMut) {
        to.put_i32(self.index);
        to.put_i16(self.error_code);
        to.put_i64(self.base_offset);
        to.put_i64(self.log_append_time_ms);
        if version >= 5 {
            to.put_i64(self.log_start_offset);
        }
        if version >= 8 {
            to.put_count(Some(self.record_errors.len()), flexible);
            for error in &self.record_errors {
                to.put_i32(error.batch_index);
                to.put_text(error.message.as_deref(), flexible);
                if flexible {
                    to.put_u8(0);
                }
            }
            to.put_text(self.error_message.as_deref(), flexible);
        }
        match self.current_leader {
            Some(leader) if version >= 10 => {
                to.put_u8(1);
                put_leader(0, leader, to);
            }
            _ if flexible => to.put_u8(0),
            _ => {}
        }
    }
}

/// The tagged field that names a partition's leader.
pub(super) fn put_leader(tag: u32, leader: CurrentLeader, to: &mut BytesMut) {
    let mut field = [0; 9];
    field[..4].copy_from_slice(&leader.leader_id.to_be_bytes());
    field[4..8].copy_from_slice(&leader.leader_epoch.to_be_bytes());
    put_tag(tag, &field, to);
}

/// A topic by name or id. An answer names a topic as its request did; the other form would be a mistake of
/// ours, and is written as an empty name or the zero id.
pub(super) fn put_topic(topic: &Topic, by_id: bool, flexible: bool, to: &mut BytesMut) {
    debug_assert_eq!(by_id, topic.id().is_some());
    if by_id {
        to.put_slice(&topic.id().unwrap_or_default().0);
    } else {
        to.put_text(Some(topic.name().unwrap_or_default()), flexible);
    }
}
