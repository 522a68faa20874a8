//! The requests OffsetCommit 10 and OffsetFetch 10, which the crate does not know. (It knows their answers.)
//!
//! Version 10 names topics by id (KIP-848): where 9 has a topic's name, it has 16 bytes. All else is as in 9.
//!
//! ```text
//! OffsetCommit  group id, int32 generation or member epoch, member id, instance id or null,
//!               [ topic id, [ int32 partition, int64 offset, int32 leader epoch, metadata or null ] ]
//! OffsetFetch   [ group id, member id or null, int32 member epoch,
//!                 null or [ topic id, [ int32 partition ] ] ], bool require stable
//! ```
//!
//! Both are flexible: lengths are varints, and each struct ends with tagged fields, which are skipped, as none is
//! defined.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::cursor::{Cursor, Put};
use super::{WireError, crate_uuid};

/// Of both APIs.
pub(super) const FIRST_BY_HAND: i16 = 10;

const FLEXIBLE: bool = true;
const TAGS_BYTES_MIN: usize = 1;
/// Id, count of partitions.
const TOPIC_BYTES_MIN: usize = 16 + 1 + TAGS_BYTES_MIN;
const COMMIT_BYTES_MIN: usize = 4 + 8 + 4 + 1 + TAGS_BYTES_MIN;
const GROUP_BYTES_MIN: usize = 1 + 1 + 4 + 1 + TAGS_BYTES_MIN;

pub(super) fn read_commit(body: &Bytes) -> Result<OffsetCommitRequest, WireError> {
    let mut cursor = Cursor::new(body);
    let group = text(&mut cursor, body, "group id")?;
    let generation = cursor.i32("generation")?;
    let member_id = text(&mut cursor, body, "member id")?;
    let instance_id = nullable_text(&mut cursor, body, "group instance id")?;
    let topics = array(&mut cursor, TOPIC_BYTES_MIN, "topics", |cursor| {
        let id = cursor.uuid("topic id")?;
        let partitions = array(cursor, COMMIT_BYTES_MIN, "partitions", |cursor| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(cursor.i32("partition")?)
                .with_committed_offset(cursor.i64("committed offset")?)
                .with_committed_leader_epoch(cursor.i32("committed leader epoch")?)
                .with_committed_metadata(nullable_text(cursor, body, "committed metadata")?);
            cursor.skip_tags()?;
            Ok(partition)
        })?;
        cursor.skip_tags()?;
        let partitions = partitions.ok_or(WireError::Null("partitions"))?;
        Ok(OffsetCommitRequestTopic::default().with_topic_id(crate_uuid(id)).with_partitions(partitions))
    })?;
    cursor.skip_tags()?;
    Ok(OffsetCommitRequest::default()
        .with_group_id(GroupId(group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member_id)
        .with_group_instance_id(instance_id)
        .with_topics(topics.ok_or(WireError::Null("topics"))?))
}

pub(super) fn write_commit(request: &OffsetCommitRequest) -> Bytes {
    let mut to = BytesMut::new();
    to.put_text(Some(&request.group_id), FLEXIBLE);
    to.put_i32(request.generation_id_or_member_epoch);
    to.put_text(Some(&request.member_id), FLEXIBLE);
    to.put_text(request.group_instance_id.as_deref(), FLEXIBLE);
    to.put_count(Some(request.topics.len()), FLEXIBLE);
    for topic in &request.topics {
        to.put_slice(topic.topic_id.as_bytes());
        to.put_count(Some(topic.partitions.len()), FLEXIBLE);
        for partition in &topic.partitions {
            to.put_i32(partition.partition_index);
            to.put_i64(partition.committed_offset);
            to.put_i32(partition.committed_leader_epoch);
            to.put_text(partition.committed_metadata.as_deref(), FLEXIBLE);
            put_no_tags(&mut to);
        }
        put_no_tags(&mut to);
    }
    put_no_tags(&mut to);
    to.freeze()
}

pub(super) fn read_fetch(body: &Bytes) -> Result<OffsetFetchRequest, WireError> {
    let mut cursor = Cursor::new(body);
    let groups = array(&mut cursor, GROUP_BYTES_MIN, "groups", |cursor| {
        let group = text(cursor, body, "group id")?;
        let member_id = nullable_text(cursor, body, "member id")?;
        let member_epoch = cursor.i32("member epoch")?;
        let topics = array(cursor, TOPIC_BYTES_MIN, "topics", |cursor| {
            let id = cursor.uuid("topic id")?;
            let partitions = array(cursor, 4, "partitions", |cursor| cursor.i32("partition"))?;
            cursor.skip_tags()?;
            let partitions = partitions.ok_or(WireError::Null("partitions"))?;
            Ok(OffsetFetchRequestTopics::default().with_topic_id(crate_uuid(id)).with_partition_indexes(partitions))
        })?;
        cursor.skip_tags()?;
        Ok(OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(group))
            .with_member_id(member_id)
            .with_member_epoch(member_epoch)
            .with_topics(topics))
    })?;
    let require_stable = cursor.i8("require stable")? != 0;
    cursor.skip_tags()?;
    Ok(OffsetFetchRequest::default()
        .with_groups(groups.ok_or(WireError::Null("groups"))?)
        .with_require_stable(require_stable))
}

pub(super) fn write_fetch(request: &OffsetFetchRequest) -> Bytes {
    let mut to = BytesMut::new();
    to.put_count(Some(request.groups.len()), FLEXIBLE);
    for group in &request.groups {
        to.put_text(Some(&group.group_id), FLEXIBLE);
        to.put_text(group.member_id.as_deref(), FLEXIBLE);
        to.put_i32(group.member_epoch);
        to.put_count(group.topics.as_ref().map(Vec::len), FLEXIBLE);
        for topic in group.topics.iter().flatten() {
            to.put_slice(topic.topic_id.as_bytes());
            to.put_count(Some(topic.partition_indexes.len()), FLEXIBLE);
            topic.partition_indexes.iter().for_each(|partition| to.put_i32(*partition));
            put_no_tags(&mut to);
        }
        put_no_tags(&mut to);
    }
    to.put_u8(request.require_stable.into());
    put_no_tags(&mut to);
    to.freeze()
}

fn put_no_tags(to: &mut BytesMut) {
    to.put_u8(0);
}

/// An array whose elements take `each` bytes at least; `None` is null. Reserves no more than the frame can hold.
fn array<'a, T>(
    cursor: &mut Cursor<'a>,
    each: usize,
    what: &'static str,
    mut one: impl FnMut(&mut Cursor<'a>) -> Result<T, WireError>,
) -> Result<Option<Vec<T>>, WireError> {
    let Some(count) = cursor.count(FLEXIBLE, each, what)? else { return Ok(None) };
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(one(cursor)?);
    }
    Ok(Some(elements))
}

/// A slice of the frame.
fn nullable_text(cursor: &mut Cursor, frame: &Bytes, what: &'static str) -> Result<Option<StrBytes>, WireError> {
    let Some(text) = cursor.nullable_text(FLEXIBLE, what)? else { return Ok(None) };
    StrBytes::from_utf8(frame.slice_ref(text.as_bytes())).map(Some).map_err(|_| WireError::Text(what))
}

fn text(cursor: &mut Cursor, frame: &Bytes, what: &'static str) -> Result<StrBytes, WireError> {
    nullable_text(cursor, frame, what)?.ok_or(WireError::Null(what))
}
