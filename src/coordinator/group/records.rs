//! The records of `__consumer_offsets` that classic groups use, as the codecs that
//! are generated from Kafka's schemas have them.
//!
//! Written are offset commits in version 4 (1 when they have an expire time) and
//! group metadata in version 3, as Kafka 4.3 does
//! (`GroupCoordinatorRecordHelpers`); every version is read. No value is a tombstone.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::{UnixMs, Uuid};
use crate::record::stored::group::{GroupMetadataKey, GroupMetadataValue, Key, OffsetCommitKey, OffsetCommitValue};
use crate::record::stored::{DecodeError, Reader, Stored};

pub use crate::record::stored::DecodeError as RecordError;

/// The longest string that fits a record (and Kafka's wire): int16 length. What comes from
/// requests is checked against it before it gets here.
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A record for the log: `value` None is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What an offset commit leaves (`OffsetAndMetadata`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: i64,
    /// −1: not given.
    pub leader_epoch: i32,
    pub metadata: Rc<str>,
    pub commit_timestamp: UnixMs,
    /// Only from requests of old versions that named a retention time.
    pub expire_timestamp: Option<UnixMs>,
    /// Zero: not known when committed.
    pub topic_id: Uuid,
}

/// A record read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Offset {
        group: String,
        topic: String,
        partition: i32,
        value: Option<CommittedOffset>,
    },
    Group {
        group: String,
        value: Option<GroupMetadataValue>,
    },
    /// A record of a kind of group that is not served yet, by its key type.
    Other(i16),
}

const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_EXPIRING: i16 = 1;
const GROUP_VERSION: i16 = 3;

pub(super) fn offset_record(group: &str, topic: &str, partition: i32, value: Option<&CommittedOffset>) -> Record {
    let key = Key::OffsetCommit(OffsetCommitKey { group: group.into(), topic: topic.into(), partition });
    let encode = |value: &CommittedOffset| {
        let version = if value.expire_timestamp.is_some() { OFFSET_VERSION_EXPIRING } else { OFFSET_VERSION };
        let fields = OffsetCommitValue {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.to_string(),
            commit_timestamp: value.commit_timestamp.0,
            expire_timestamp: value.expire_timestamp.map_or(-1, |at| at.0),
            topic_id: value.topic_id,
            ..OffsetCommitValue::default()
        };
        fields.encode(version).expect("texts were checked").into()
    };
    Record { key: key.encode().expect("texts were checked").into(), value: value.map(encode) }
}

pub(super) fn group_record(group: &str, value: Option<&GroupMetadataValue>) -> Record {
    let key = Key::GroupMetadata(GroupMetadataKey { group: group.into() });
    let encode = |value: &GroupMetadataValue| value.encode(GROUP_VERSION).expect("texts were checked").into();
    Record { key: key.encode().expect("texts were checked").into(), value: value.map(encode) }
}

pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Entry, RecordError> {
    let (group, topic, partition) = match Key::decode(key) {
        Ok(Key::LegacyOffsetCommit(key)) => (key.group, key.topic, key.partition),
        Ok(Key::OffsetCommit(key)) => (key.group, key.topic, key.partition),
        Ok(Key::GroupMetadata(key)) => {
            return Ok(Entry::Group { group: key.group, value: value.map(GroupMetadataValue::decode).transpose()? });
        }
        Ok(other) => return Ok(Entry::Other(other.kind())),
        Err(DecodeError::UnknownKind(kind)) => return Ok(Entry::Other(kind as i16)),
        Err(error) => return Err(error),
    };
    // The value tells its own version; the legacy key's has the first one's layout.
    let value = value.map(OffsetCommitValue::decode).transpose()?.map(|value| CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.into(),
        commit_timestamp: UnixMs(value.commit_timestamp),
        expire_timestamp: Some(UnixMs(value.expire_timestamp)).filter(|at| at.0 >= 0),
        topic_id: value.topic_id,
    });
    Ok(Entry::Offset { group, topic, partition, value })
}

/// The topics a consumer subscribes to: the version-0 prefix of the subscription
/// that every version begins with (`ConsumerProtocolSubscription`). `None` when
/// the bytes are not that.
pub(super) fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut input = Reader::new(subscription);
    if input.i16().ok()? < 0 {
        return None;
    }
    let topic = |input: &mut Reader<'_>| input.string(false)?.ok_or(DecodeError::Null("topic"));
    input.list(false, topic).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::stored::group::MemberMetadata;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    /// What Kafka 4.3.1 wrote when its console consumer, client id `cli`, read topic `t1`
    /// in group `g1` and left.
    const KAFKA: [(&str, &str); 4] = [
        ("0002 0002 6731", "0003 0000 00000000 ffff ffff 000001a1fc26d53f 00000000"),
        (
            "0002 0002 6731",
            "0003 0008 636f6e73756d6572 00000001 0005 72616e6765
             0028 636c692d61366139613064352d653934302d343039362d386332652d313565666262653262643264
             000001a1fc26d55c 00000001
             0028 636c692d61366139613064352d653934302d343039362d386332652d313565666262653262643264
             ffff 0003 636c69 000a 2f3132372e302e302e31 000493e0 0000afc8
             00000018 000300000001000274 31ffffffff00000000ffffffffffff
             00000016 000300000001000274 31000000010000 0000ffffffff",
        ),
        (
            "0001 0002 6731 0002 7431 00000000",
            "0004 0000000000000002 00000000 01 000001a1fc26d61a 01 00 10 786a5a4acacd4d2cb9eb6d3efcf77d88",
        ),
        ("0002 0002 6731", "0003 0008 636f6e73756d6572 00000002 ffff ffff 000001a1fc26d629 00000000"),
    ];

    #[test]
    fn kafkas_bytes_are_read_and_written() {
        for (key, value) in KAFKA {
            let (key, value) = (bytes(key), bytes(value));
            let written = match read(&key, Some(&value)).unwrap() {
                Entry::Offset { group, topic, partition, value } => {
                    offset_record(&group, &topic, partition, value.as_ref())
                }
                Entry::Group { group, value } => group_record(&group, value.as_ref()),
                Entry::Other(kind) => panic!("{kind}"),
            };
            assert_eq!(written, Record { key: key.into(), value: Some(value.into()) });
        }
        let (key, value) = KAFKA[1];
        let Ok(Entry::Group { value: Some(group), .. }) = read(&bytes(key), Some(&bytes(value))) else { panic!() };
        let [MemberMetadata { subscription, .. }] = &group.members[..] else { panic!() };
        assert_eq!(subscribed_topics(subscription), Some(vec!["t1".to_owned()]));
        assert_eq!(subscribed_topics(&subscription[..7]), None);
        assert_eq!(subscribed_topics(b"\xff\xff"), None);
    }

    #[test]
    fn what_is_not_a_classic_groups_is_skipped_or_refused() {
        // A consumer group's epoch (type 3), and a type nobody knows.
        assert_eq!(read(&bytes("0003 0001 67"), None), Ok(Entry::Other(3)));
        assert_eq!(read(&bytes("7fff"), None), Ok(Entry::Other(0x7fff)));
        let (key, value) = (bytes(KAFKA[2].0), bytes(KAFKA[2].1));
        for len in 0..key.len() {
            assert!(read(&key[..len], None).is_err(), "{len}");
        }
        for len in 0..value.len() {
            assert!(read(&key, Some(&value[..len])).is_err(), "{len}");
        }
    }
}
