//! Fetch, versions 4 to 18. The request becomes flat lists that a connection
//! can use again; the answer is a rope: small pieces of header bytes around
//! records that stay where they lie.
//!
//! | version | what it changed |
//! |---:|---|
//! | 4 | isolation level, last stable offset, aborted transactions (KIP-98) |
//! | 5 | log start offset (KIP-107) |
//! | 7 | sessions: session id and epoch, forgotten topics (KIP-227) |
//! | 9 | current leader epoch (KIP-320) |
//! | 11 | rack id, preferred read replica (KIP-392) |
//! | 12 | flexible; last fetched epoch; answer: diverging epoch, current leader (KIP-595) |
//! | 13 | topic ids instead of names (KIP-516) |
//! | 15 | replica state instead of replica id (KIP-903) |
//! | 16 | answer: node endpoints (KIP-951) |
//! | 17 | replica directory id (KIP-853) |
//! | 18 | high watermark of the replica (KIP-1166) |
//!
//! Versions 6, 8, 10 and 14 changed no bytes.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::StrBytes;

use super::cursor::{Cursor, Put, put_node_endpoints, put_tag};
use super::produce::{put_leader, put_topic};
use super::{CurrentLeader, NodeEndpoint, Scratch, Topic, WireError};
use crate::base::{Rope, Uuid};

const FIRST_FLEXIBLE: i16 = 12;
const FIRST_WITH_TOPIC_IDS: i16 = 13;

/// A fetch request. [`parse_into`](Self::parse_into) uses the lists of an earlier one again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    pub cluster_id: Option<StrBytes>,
    /// −1 for a consumer.
    pub replica_id: i32,
    /// From version 15; −1 for none.
    pub replica_epoch: i64,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed.
    pub isolation_level: i8,
    /// 0 without a session.
    pub session_id: i32,
    /// −1 without a session.
    pub session_epoch: i32,
    /// Empty when the consumer has none.
    pub rack_id: StrBytes,
    topics: Vec<(Topic, Range<usize>)>,
    partitions: Vec<FetchPartition>,
    forgotten: Vec<(Topic, Range<usize>)>,
    forgotten_partitions: Vec<i32>,
}

/// What is wanted of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPartition {
    pub index: i32,
    /// −1 when the consumer does not know it.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// −1 for none.
    pub last_fetched_epoch: i32,
    /// Of a follower; −1 from a consumer.
    pub log_start_offset: i64,
    pub max_bytes: i32,
    /// Of a follower; zero from a consumer.
    pub replica_directory_id: Uuid,
    /// Of a follower, −1 when it does not know; the largest number from others.
    pub high_watermark: i64,
}

impl Default for FetchRequest {
    fn default() -> FetchRequest {
        FetchRequest {
            cluster_id: None,
            replica_id: -1,
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            rack_id: StrBytes::new(),
            topics: Vec::new(),
            partitions: Vec::new(),
            forgotten: Vec::new(),
            forgotten_partitions: Vec::new(),
        }
    }
}

impl FetchRequest {
    /// Reads a request of a version of 4 to 18.
    pub fn parse(body: &Bytes, version: i16) -> Result<FetchRequest, WireError> {
        let mut request = FetchRequest::default();
        request.parse_into(body, version)?;
        Ok(request)
    }

    /// Reads a request into this one; what it said before is gone, also on an error.
    pub fn parse_into(&mut self, body: &Bytes, version: i16) -> Result<(), WireError> {
        let flexible = version >= FIRST_FLEXIBLE;
        let by_id = version >= FIRST_WITH_TOPIC_IDS;
        self.clear();
        let mut cursor = Cursor::new(body);
        if version <= 14 {
            self.replica_id = cursor.i32("replica id")?;
        }
        self.max_wait_ms = cursor.i32("max wait")?;
        self.min_bytes = cursor.i32("min bytes")?;
        self.max_bytes = cursor.i32("max bytes")?;
        self.isolation_level = cursor.i8("isolation level")?;
        if version >= 7 {
            self.session_id = cursor.i32("session id")?;
            self.session_epoch = cursor.i32("session epoch")?;
        }
        let topics = cursor.count(flexible, 1, "topics")?.ok_or(WireError::Null("topics"))?;
        for _ in 0..topics {
            let topic = read_topic(&mut cursor, body, by_id, flexible)?;
            let begin = self.partitions.len();
            let count = cursor.count(flexible, 1, "partitions")?.ok_or(WireError::Null("partitions"))?;
            for _ in 0..count {
                self.partitions.push(read_partition(&mut cursor, version)?);
            }
            if flexible {
                cursor.skip_tags()?;
            }
            self.topics.push((topic, begin..self.partitions.len()));
        }
        if version >= 7 {
            let topics = cursor.count(flexible, 1, "forgotten topics")?.ok_or(WireError::Null("forgotten topics"))?;
            for _ in 0..topics {
                let topic = read_topic(&mut cursor, body, by_id, flexible)?;
                let begin = self.forgotten_partitions.len();
                let count = cursor.count(flexible, 4, "partitions")?.ok_or(WireError::Null("partitions"))?;
                for _ in 0..count {
                    self.forgotten_partitions.push(cursor.i32("partition")?);
                }
                if flexible {
                    cursor.skip_tags()?;
                }
                self.forgotten.push((topic, begin..self.forgotten_partitions.len()));
            }
        }
        if version >= 11 {
            self.rack_id = str_bytes(body, cursor.text(flexible, "rack id")?)?;
        }
        if flexible {
            cursor.tags(|tag, field| {
                match tag {
                    0 => {
                        let text = field.nullable_text(true, "cluster id")?;
                        self.cluster_id = text.map(|text| StrBytes::from_string(text.to_owned()));
                    }
                    1 if version >= 15 => {
                        self.replica_id = field.i32("replica id")?;
                        self.replica_epoch = field.i64("replica epoch")?;
                        field.skip_tags()?;
                    }
                    1 => return Err(WireError::Tag("replica state")),
                    _ => return Ok(()),
                }
                field.all_taken()
            })?;
        }
        Ok(())
    }

    /// Partitions that it has room for without allocating.
    pub fn partitions_capacity(&self) -> usize {
        self.partitions.capacity().max(self.topics.capacity()).max(self.forgotten_partitions.capacity())
    }

    /// Forgets what it says, and the frame that it keeps alive.
    pub fn clear(&mut self) {
        let FetchRequest { mut topics, mut partitions, mut forgotten, mut forgotten_partitions, .. } =
            std::mem::take(self);
        topics.clear();
        partitions.clear();
        forgotten.clear();
        forgotten_partitions.clear();
        *self = FetchRequest { topics, partitions, forgotten, forgotten_partitions, ..FetchRequest::default() };
    }

    /// The topics in order, each with its partitions in order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&Topic, &[FetchPartition])> {
        self.topics.iter().map(|(topic, range)| (topic, &self.partitions[range.clone()]))
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// What leaves the session: topics, each with partition indexes.
    pub fn forgotten(&self) -> impl ExactSizeIterator<Item = (&Topic, &[i32])> {
        self.forgotten.iter().map(|(topic, range)| (topic, &self.forgotten_partitions[range.clone()]))
    }
}

fn str_bytes(frame: &Bytes, text: &str) -> Result<StrBytes, WireError> {
    StrBytes::from_utf8(frame.slice_ref(text.as_bytes())).map_err(|_| WireError::Text("text"))
}

fn read_topic(cursor: &mut Cursor, frame: &Bytes, by_id: bool, flexible: bool) -> Result<Topic, WireError> {
    Ok(match by_id {
        true => Topic::Id(cursor.uuid("topic id")?),
        false => Topic::Name(str_bytes(frame, cursor.text(flexible, "topic name")?)?),
    })
}

fn read_partition(cursor: &mut Cursor, version: i16) -> Result<FetchPartition, WireError> {
    let index = cursor.i32("partition")?;
    let current_leader_epoch = if version >= 9 { cursor.i32("current leader epoch")? } else { -1 };
    let fetch_offset = cursor.i64("fetch offset")?;
    let last_fetched_epoch = if version >= 12 { cursor.i32("last fetched epoch")? } else { -1 };
    let log_start_offset = if version >= 5 { cursor.i64("log start offset")? } else { -1 };
    let max_bytes = cursor.i32("partition max bytes")?;
    let mut partition = FetchPartition {
        index,
        current_leader_epoch,
        fetch_offset,
        last_fetched_epoch,
        log_start_offset,
        max_bytes,
        replica_directory_id: Uuid::ZERO,
        high_watermark: i64::MAX,
    };
    if version >= FIRST_FLEXIBLE {
        cursor.tags(|tag, field| {
            match tag {
                0 if version >= 17 => partition.replica_directory_id = field.uuid("replica directory id")?,
                0 => return Err(WireError::Tag("replica directory id")),
                1 if version >= 18 => partition.high_watermark = field.i64("high watermark")?,
                1 => return Err(WireError::Tag("high watermark")),
                _ => return Ok(()),
            }
            field.all_taken()
        })?;
    }
    Ok(partition)
}

/// The answer to a fetch request.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// From version 7.
    pub error_code: i16,
    /// From version 7; 0 without a session.
    pub session_id: i32,
    pub topics: Vec<FetchedTopic>,
    /// Of all leaders named below; from version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// See [`FetchResponse`].
#[derive(Clone, Debug)]
pub struct FetchedTopic {
    /// As the request named it.
    pub topic: Topic,
    pub partitions: Vec<FetchedPartition>,
}

/// What one partition gives.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    pub index: i32,
    pub error_code: i16,
    /// −1 on an error.
    pub high_watermark: i64,
    /// −1 on an error.
    pub last_stable_offset: i64,
    /// From version 5; −1 on an error.
    pub log_start_offset: i64,
    /// `None` (null, not an empty list) unless the consumer reads committed records only.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// From version 11; −1 for none.
    pub preferred_read_replica: i32,
    /// Batches. Never null on the wire: librdkafka fails on null (KAFKA-18646).
    pub records: Rope,
    /// From version 12: the records' end that the fetcher has to cut back to.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// From version 12.
    pub current_leader: Option<CurrentLeader>,
    /// From version 12: the snapshot that a follower of the metadata log has to fetch.
    pub snapshot_id: Option<EpochEndOffset>,
}

impl FetchedPartition {
    /// No records, as one that failed or has nothing new.
    pub fn empty(index: i32, error_code: i16) -> FetchedPartition {
        FetchedPartition {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Rope::new(),
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
        }
    }
}

/// A transaction whose records within the answer are to be skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// An epoch and the offset at which it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

impl FetchResponse {
    /// Bytes that all records together take.
    pub fn record_bytes(&self) -> usize {
        self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.records.len()).sum()
    }

    /// The body of the answer in a version of 4 to 18. Records are not copied.
    pub fn into_rope(mut self, version: i16) -> Rope {
        let mut rope = Rope::new();
        self.write(version, &mut Scratch::take(), &mut rope);
        rope
    }

    /// Writes what [`FetchResponse::into_rope`] gives at the end of `rope`, and takes the records away for that.
    /// Header pieces are cut off `to`, which has to be empty.
    pub fn write(&mut self, version: i16, to: &mut Scratch, rope: &mut Rope) {
        debug_assert!(to.is_empty(), "what is there would become part of the answer");
        let flexible = version >= FIRST_FLEXIBLE;
        // All header bytes lie in one allocation, cut where records go between.
        to.make_room(self.header_bytes());
        to.put_i32(self.throttle_time_ms);
        if version >= 7 {
            to.put_i16(self.error_code);
            to.put_i32(self.session_id);
        }
        to.put_count(Some(self.topics.len()), flexible);
        for topic in &mut self.topics {
            put_topic(&topic.topic, version >= FIRST_WITH_TOPIC_IDS, flexible, to);
            to.put_count(Some(topic.partitions.len()), flexible);
            for partition in &mut topic.partitions {
                partition.write(version, flexible, to, rope);
            }
            if flexible {
                to.put_u8(0);
            }
        }
        if flexible {
            put_node_endpoints(&self.node_endpoints, version >= 16, to);
        }
        rope.push_bytes(to.cut());
    }

    /// At least the bytes of the answer without its records, in any version.
    fn header_bytes(&self) -> usize {
        let mut bytes = 32;
        for topic in &self.topics {
            bytes += 16 + topic.topic.name().map_or(16, str::len);
            for partition in &topic.partitions {
                let aborted = partition.aborted_transactions.as_ref().map_or(0, Vec::len);
                // 46 of fixed fields, 4 + 5 of counts, then up to three tagged fields of 18.
                bytes += 112 + aborted * 17;
            }
        }
        for endpoint in &self.node_endpoints {
            bytes += 32 + endpoint.host.len() + endpoint.rack.as_ref().map_or(0, String::len);
        }
        bytes
    }
}

impl FetchedPartition {
    fn write(&mut self, version: i16, flexible: bool, to: &mut Scratch, rope: &mut Rope) {
        to.put_i32(self.index);
        to.put_i16(self.error_code);
        to.put_i64(self.high_watermark);
        to.put_i64(self.last_stable_offset);
        if version >= 5 {
            to.put_i64(self.log_start_offset);
        }
        to.put_count(self.aborted_transactions.as_ref().map(Vec::len), flexible);
        for aborted in self.aborted_transactions.iter().flatten() {
            to.put_i64(aborted.producer_id);
            to.put_i64(aborted.first_offset);
            if flexible {
                to.put_u8(0);
            }
        }
        if version >= 11 {
            to.put_i32(self.preferred_read_replica);
        }
        to.put_count(Some(self.records.len()), flexible);
        if !self.records.is_empty() {
            rope.push_bytes(to.cut());
            rope.append(std::mem::take(&mut self.records));
        }
        if flexible {
            let count = [self.diverging_epoch.is_some(), self.current_leader.is_some(), self.snapshot_id.is_some()]
                .into_iter()
                .filter(|is_there| *is_there)
                .count();
            to.put_u8(count as u8);
            if let Some(EpochEndOffset { epoch, end_offset }) = self.diverging_epoch {
                let mut field = [0; 13];
                field[..4].copy_from_slice(&epoch.to_be_bytes());
                field[4..12].copy_from_slice(&end_offset.to_be_bytes());
                put_tag(0, &field, to);
            }
            if let Some(leader) = self.current_leader {
                put_leader(1, leader, to);
            }
            // Here the offset comes first.
            if let Some(EpochEndOffset { epoch, end_offset }) = self.snapshot_id {
                let mut field = [0; 13];
                field[..8].copy_from_slice(&end_offset.to_be_bytes());
                field[8..12].copy_from_slice(&epoch.to_be_bytes());
                put_tag(2, &field, to);
            }
        }
    }
}
