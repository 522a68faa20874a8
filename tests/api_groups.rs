//! The group APIs over a socket, in every version that is served: FindCoordinator, JoinGroup, SyncGroup, Heartbeat,
//! LeaveGroup, OffsetCommit, OffsetFetch, DescribeGroups, ListGroups, DeleteGroups.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same conversations run against Apache Kafka.

mod harness;

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};

use bytes::{Bytes, BytesMut};
use corelog::wire::{Body, encode_request};
use harness::broker::{Broker, Options, connect};
use harness::{records, unique, wire};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use uuid::Uuid;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// OffsetCommit and OffsetFetch name topics by id.
const FIRST_WITH_TOPIC_IDS: i16 = 10;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// One connection that speaks with the messages of the kafka-protocol crate. (The requests that the crate cannot write
/// are corelog's own; Apache Kafka reads them.)
struct Client {
    stream: std::net::TcpStream,
    correlation: i32,
}

impl Client {
    fn to(address: SocketAddr) -> Client {
        Client { stream: connect(address).unwrap(), correlation: 0 }
    }

    /// Sends without waiting for the answer.
    fn send<Q: Body + HeaderVersion>(&mut self, version: i16, request: &Q) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("tester")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, Q::header_version(version)).unwrap();
        frame.extend_from_slice(&encode_request(request, version).unwrap());
        let size = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    fn receive<A: Decodable + HeaderVersion>(&mut self, version: i16) -> A {
        let mut answer = Bytes::from(wire::read_answer(&mut self.stream).unwrap());
        let header = ResponseHeader::decode(&mut answer, A::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        let body = A::decode(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "{} bytes follow the answer", answer.len());
        body
    }

    fn ask<Q: Body + HeaderVersion>(&mut self, version: i16, request: &Q) -> Q::Response
    where
        Q::Response: HeaderVersion,
    {
        self.send(version, request);
        self.receive(version)
    }
}

/// Where a group is coordinated.
fn coordinator(broker: &Broker, group: &str) -> Client {
    let mut client = Client::to(broker.addresses()[0]);
    let found = harness::wait::until("a coordinator", harness::wait::PATIENCE, || {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let found = client.ask(4, &request).coordinators.remove(0);
        assert!([NONE, COORDINATOR_NOT_AVAILABLE].contains(&found.error_code), "{found:?}");
        (found.error_code == NONE).then_some(found)
    });
    let address = (found.host.as_str(), found.port as u16).to_socket_addrs().unwrap().next().unwrap();
    let mut client = Client::to(address);
    // A partition that has just been created is loaded in a moment.
    harness::wait::until("the group's coordinator", harness::wait::PATIENCE, || {
        let request = OffsetFetchRequest::default()
            .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group)))]);
        (client.ask(8, &request).groups[0].error_code == NONE).then_some(())
    });
    client
}

/// A subscription of version 0 to no topics, without user data. (Apache Kafka's rebalance hangs on bytes that are none.)
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\0\xff\xff\xff\xff";

fn joining(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(SUBSCRIPTION)),
        ])
}

/// Before version 1 there is no rebalance timeout.
fn for_version(version: i16, request: JoinGroupRequest) -> JoinGroupRequest {
    if version == 0 { request.with_rebalance_timeout_ms(-1) } else { request }
}

/// Joins as a new dynamic member, in the two steps that version 4 wants.
fn join(client: &mut Client, version: i16, group: &str) -> JoinGroupResponse {
    let first = client.ask(version, &for_version(version, joining(group, "")));
    if version < 4 {
        assert_eq!(first.error_code, NONE, "{first:?}");
        return first;
    }
    assert_eq!(first.error_code, MEMBER_ID_REQUIRED, "{first:?}");
    assert!(first.member_id.starts_with("tester-") && first.member_id.len() == 7 + 36, "{first:?}");
    assert_eq!((first.generation_id, &*first.leader, first.members.len()), (-1, "", 0));
    assert_eq!(first.protocol_name.as_deref(), if version < 7 { Some("") } else { None });
    client.ask(version, &joining(group, &first.member_id))
}

fn syncing(version: i16, group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    match version {
        5.. => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
        _ => request,
    }
}

fn assigning(version: i16, group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(Bytes::from(format!("for {}", &*member.member_id)))
    });
    syncing(version, group, joined).with_assignments(assignments.collect())
}

fn beating(group: &str, member_id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(text(member_id))
}

/// Joins and syncs alone.
fn stable(client: &mut Client, group: &str) -> JoinGroupResponse {
    let joined = join(client, 9, group);
    assert_eq!(joined.error_code, NONE, "{joined:?}");
    assert_eq!(client.ask(5, &assigning(5, group, &joined)).error_code, NONE);
    joined
}

fn committing(group: &str, member_id: &str, generation: i32, places: &[(&str, i32, i64)]) -> OffsetCommitRequest {
    let topic = |(name, partition, offset): &(&str, i32, i64)| {
        OffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(vec![
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text("why"))),
        ])
    };
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member_id))
        .with_topics(places.iter().map(topic).collect())
}

/// One topic as this connection's broker shows it, by name or by id.
fn shown(client: &mut Client, name: Option<&str>, id: Uuid) -> metadata_response::MetadataResponseTopic {
    let topic = metadata_request::MetadataRequestTopic::default()
        .with_name(name.map(|name| TopicName(text(name))))
        .with_topic_id(id);
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    client.ask(12, &request).topics.remove(0)
}

/// A topic's id; for a topic that does not exist one that no topic has.
fn topic_id(client: &mut Client, name: &str) -> Uuid {
    let shown = shown(client, Some(name), Uuid::nil());
    if shown.error_code == NONE { shown.topic_id } else { Uuid::from_bytes([0xee; 16]) }
}

/// The topic that an answer names: by name, or by an id that was asked for, or that the broker shows.
fn topic_name(client: &mut Client, name: &TopicName, id: Uuid, asked: &[(Uuid, String)]) -> String {
    if id.is_nil() {
        return name.to_string();
    }
    assert!(name.is_empty());
    let known = asked.iter().find(|(asked, _)| *asked == id).map(|(_, name)| name.clone());
    known.unwrap_or_else(|| shown(client, None, id).name.unwrap().to_string())
}

/// Error codes by topic and partition, in order. From version 10 the topics' names become ids.
fn commit(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> Vec<(String, i32, i16)> {
    let mut request = request.clone();
    let mut asked = Vec::new();
    if version >= FIRST_WITH_TOPIC_IDS {
        for topic in &mut request.topics {
            topic.topic_id = topic_id(client, &topic.name);
            asked.push((topic.topic_id, std::mem::take(&mut topic.name).to_string()));
        }
    }
    let answer = client.ask(version, &request);
    let mut codes = Vec::new();
    for topic in &answer.topics {
        let name = topic_name(client, &topic.name, topic.topic_id, &asked);
        codes.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index, p.error_code)));
    }
    codes.sort();
    codes
}

/// Offsets of one group by topic and partition, in order: (topic, partition, offset, metadata, code).
type Offsets = Vec<(String, i32, i64, String, i16)>;

/// `None`: all. The code at the top comes with them. From version 10 the topics' names become ids.
fn fetch(client: &mut Client, version: i16, group: &str, places: Option<&[(&str, i32)]>) -> (i16, Offsets) {
    let mut offsets = Offsets::new();
    let code = if version < 8 {
        let topic = |(name, partition): &(&str, i32)| {
            OffsetFetchRequestTopic::default().with_name(TopicName(text(name))).with_partition_indexes(vec![*partition])
        };
        let topics = places.map(|places| places.iter().map(topic).collect());
        let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(topics);
        let answer = client.ask(version, &request);
        for topic in &answer.topics {
            for p in &topic.partitions {
                let metadata = p.metadata.as_deref().unwrap_or("null").to_string();
                offsets.push((topic.name.to_string(), p.partition_index, p.committed_offset, metadata, p.error_code));
            }
        }
        answer.error_code
    } else {
        let topic = |(name, partition): &(&str, i32)| {
            OffsetFetchRequestTopics::default()
                .with_name(TopicName(text(name)))
                .with_partition_indexes(vec![*partition])
        };
        let mut topics: Option<Vec<_>> = places.map(|places| places.iter().map(topic).collect());
        let mut ids = Vec::new();
        if version >= FIRST_WITH_TOPIC_IDS {
            for topic in topics.iter_mut().flatten() {
                topic.topic_id = topic_id(client, &topic.name);
                ids.push((topic.topic_id, std::mem::take(&mut topic.name).to_string()));
            }
        }
        let asked = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(topics);
        let mut answer = client.ask(version, &OffsetFetchRequest::default().with_groups(vec![asked]));
        assert_eq!(answer.groups.len(), 1);
        let answer = answer.groups.remove(0);
        assert_eq!(&*answer.group_id, group);
        for topic in &answer.topics {
            let name = topic_name(client, &topic.name, topic.topic_id, &ids);
            for p in &topic.partitions {
                let metadata = p.metadata.as_deref().unwrap_or("null").to_string();
                offsets.push((name.clone(), p.partition_index, p.committed_offset, metadata, p.error_code));
            }
        }
        answer.error_code
    };
    offsets.sort();
    (code, offsets)
}

fn describe(client: &mut Client, version: i16, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(text(group))])
        .with_include_authorized_operations(version >= 3);
    let mut answer = client.ask(version, &request);
    assert_eq!(answer.groups.len(), 1);
    answer.groups.remove(0)
}

fn delete(client: &mut Client, version: i16, groups: &[&str]) -> Vec<(String, i16)> {
    let request =
        DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|group| GroupId(text(group))).collect());
    let result = |result: &DeletableGroupResult| (result.group_id.to_string(), result.error_code);
    client.ask(version, &request).results.iter().map(result).collect()
}

// ---- one group's life, in every version ----

fn a_life(broker: &Broker, version: i16) {
    let up_to = |max: i16| version.min(max);
    let (group, topic) = (unique("life"), unique("read"));
    records::create_topic(&broker.bootstrap(), &topic, 2);
    let mut client = coordinator(broker, &group);

    let joined = join(&mut client, up_to(9), &group);
    assert_eq!((joined.error_code, joined.generation_id), (NONE, 1), "{joined:?}");
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), if version >= 7 { Some("consumer") } else { None });
    assert_eq!(joined.members.len(), 1);
    assert_eq!((&joined.members[0].member_id, &joined.members[0].metadata[..]), (&joined.member_id, SUBSCRIPTION));
    let id = joined.member_id.to_string();

    // While the assignment is awaited, heartbeats are fine and commits are not.
    assert_eq!(client.ask(up_to(4), &beating(&group, &id, 1)).error_code, NONE);
    let early = commit(&mut client, up_to(10).max(2), &committing(&group, &id, 1, &[(&topic, 0, 1)]));
    assert_eq!(early, [(topic.clone(), 0, REBALANCE_IN_PROGRESS)]);

    let synced = client.ask(up_to(5), &assigning(up_to(5), &group, &joined));
    assert_eq!((synced.error_code, &synced.assignment[..]), (NONE, format!("for {id}").as_bytes()), "{synced:?}");
    assert_eq!(synced.protocol_name.as_deref(), if version >= 5 { Some("range") } else { None });
    assert_eq!(client.ask(up_to(4), &beating(&group, &id, 1)).error_code, NONE);

    let places = [(topic.as_str(), 0, 5), (topic.as_str(), 7, 6), ("no-such-topic", 0, 7)];
    let codes = commit(&mut client, up_to(10).max(2), &committing(&group, &id, 1, &places));
    let by_id = version >= FIRST_WITH_TOPIC_IDS;
    let expected = [
        ("no-such-topic".to_string(), 0, if by_id { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC_OR_PARTITION }),
        (topic.clone(), 0, NONE),
        (topic.clone(), 7, UNKNOWN_TOPIC_OR_PARTITION),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(codes, expected);

    let fetch_version = up_to(10).max(1);
    let (code, offsets) = fetch(&mut client, fetch_version, &group, Some(&[(&topic, 0), (&topic, 1), ("nowhere", 3)]));
    let mut expected = vec![
        (topic.clone(), 0, 5, "why".to_string(), NONE),
        (topic.clone(), 1, -1, String::new(), NONE),
        ("nowhere".to_string(), 3, -1, String::new(), if by_id { UNKNOWN_TOPIC_ID } else { NONE }),
    ];
    expected.sort();
    assert_eq!((code, offsets), (NONE, expected));
    if fetch_version >= 2 {
        let all = fetch(&mut client, fetch_version, &group, None);
        assert_eq!(all, (NONE, vec![(topic.clone(), 0, 5, "why".to_string(), NONE)]));
    }

    let described = describe(&mut client, up_to(6), &group);
    assert_eq!((described.error_code, &*described.group_state), (NONE, "Stable"), "{described:?}");
    assert_eq!((&*described.protocol_type, &*described.protocol_data), ("consumer", "range"));
    let member = &described.members[0];
    assert_eq!((&*member.member_id, &*member.client_id, &*member.client_host), (&*id, "tester", "/127.0.0.1"));
    assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (SUBSCRIPTION, &synced.assignment[..]));
    if version >= 3 {
        assert_eq!(described.authorized_operations, 0b1101_0100_1000, "READ, DELETE, DESCRIBE and both of configs");
    }

    assert_eq!(delete(&mut client, up_to(2), &[&group]), [(group.clone(), NON_EMPTY_GROUP)]);
    let leaving = LeaveGroupRequest::default().with_group_id(GroupId(text(&group)));
    let left = match up_to(5) {
        3.. => {
            let members = ["nobody", &id].map(|id| MemberIdentity::default().with_member_id(text(id)));
            let left = client.ask(up_to(5), &leaving.with_members(members.to_vec()));
            let codes: Vec<_> = left.members.iter().map(|m| (m.member_id.to_string(), m.error_code)).collect();
            assert_eq!(codes, [("nobody".to_string(), UNKNOWN_MEMBER_ID), (id.clone(), NONE)]);
            left
        }
        _ => client.ask(version, &leaving.with_member_id(text(&id))),
    };
    assert_eq!(left.error_code, NONE);
    assert_eq!(&*describe(&mut client, up_to(6), &group).group_state, "Empty");
    assert_eq!(client.ask(up_to(4), &beating(&group, &id, 1)).error_code, UNKNOWN_MEMBER_ID);

    let gone = unique("gone");
    let mut there = coordinator(broker, &gone);
    assert_eq!(delete(&mut there, up_to(2), &[&gone]), [(gone, GROUP_ID_NOT_FOUND)]);
    assert_eq!(delete(&mut client, up_to(2), &[&group]), [(group.clone(), NONE)]);
    let dead = describe(&mut client, up_to(6), &group);
    assert_eq!(&*dead.group_state, "Dead");
    match version {
        6.. => {
            assert_eq!(dead.error_code, GROUP_ID_NOT_FOUND);
            assert_eq!(dead.error_message.as_deref(), Some(format!("Group {group} not found.").as_str()));
        }
        _ => assert_eq!(dead.error_code, NONE),
    }
    assert_eq!(fetch(&mut client, 8, &group, None), (NONE, vec![]));
}

#[test]
fn a_group_lives_and_dies_in_every_version() {
    let broker = Broker::start();
    for version in 0..=10 {
        a_life(&broker, version);
    }
}

#[test]
fn a_request_is_forwarded_to_the_core_of_its_coordinator() {
    let broker = Broker::with(Options { advertise: "host", ..Options::default() });
    // Several groups, so that some are coordinated on the core that a connection came to, and some are not.
    for version in [0, 3, 5, 9, 10, 10, 10] {
        a_life(&broker, version);
    }
}

#[test]
fn find_coordinator_in_every_version() {
    let broker = Broker::start();
    let group = unique("found");
    coordinator(&broker, &group);
    let mut client = Client::to(broker.addresses()[0]);
    let mut found = Vec::new();
    for version in 0..=3 {
        let answer = client.ask(version, &FindCoordinatorRequest::default().with_key(text(&group)));
        assert_eq!(answer.error_code, NONE, "{answer:?}");
        found.push((answer.node_id.0, answer.host.to_string(), answer.port));
    }
    for version in 4..=6 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group), text("other")]);
        let answer = client.ask(version, &request);
        let keys: Vec<_> = answer.coordinators.iter().map(|c| (c.key.to_string(), c.error_code)).collect();
        assert_eq!(keys, [(group.clone(), NONE), ("other".to_string(), NONE)]);
        let first = &answer.coordinators[0];
        found.push((first.node_id.0, first.host.to_string(), first.port));
    }
    assert!(found.windows(2).all(|two| two[0] == two[1]), "{found:?}");
    assert!(broker.addresses().iter().any(|address| i32::from(address.port()) == found[0].2), "{found:?}");
    let unknown = client.ask(3, &FindCoordinatorRequest::default().with_key(text("k")).with_key_type(9));
    assert_eq!((unknown.error_code, unknown.node_id.0), (INVALID_REQUEST, -1));
    if broker.is_corelog() {
        // Transactions are not served yet.
        let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("t")]);
        let answer = client.ask(4, &request).coordinators.remove(0);
        assert_eq!((answer.error_code, answer.node_id.0, answer.port), (COORDINATOR_NOT_AVAILABLE, -1, -1));
    }
}

#[test]
fn a_broker_that_does_not_coordinate_the_group_says_so() {
    let broker = Broker::start();
    if !broker.is_corelog() || broker.addresses().len() < 2 {
        return;
    }
    let group = unique("elsewhere");
    let port = coordinator(&broker, &group).stream.peer_addr().unwrap().port();
    let other = *broker.addresses().iter().find(|address| address.port() != port).unwrap();
    let mut client = Client::to(other);
    assert_eq!(client.ask(9, &joining(&group, "")).error_code, NOT_COORDINATOR);
    assert_eq!(client.ask(4, &beating(&group, "m", 1)).error_code, NOT_COORDINATOR);
    assert_eq!(fetch(&mut client, 10, &group, None).0, NOT_COORDINATOR);
    assert_eq!(fetch(&mut client, 8, &group, None).0, NOT_COORDINATOR);
    assert_eq!(fetch(&mut client, 2, &group, None).0, NOT_COORDINATOR);
    assert_eq!(fetch(&mut client, 1, &group, Some(&[("t", 0)])).1[0].4, NOT_COORDINATOR);
    assert_eq!(describe(&mut client, 6, &group).error_code, NOT_COORDINATOR);
    assert_eq!(delete(&mut client, 2, &[&group]), [(group.clone(), NOT_COORDINATOR)]);
    let codes = commit(&mut client, 9, &committing(&group, "", -1, &[("t", 0, 1)]));
    assert_eq!(codes, [("t".to_string(), 0, NOT_COORDINATOR)]);
}

#[test]
fn what_is_wrong_is_answered_with_kafkas_codes() {
    let broker = Broker::start();
    let (group, topic) = (unique("wrong"), unique("read"));
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let mut client = coordinator(&broker, &group);

    assert_eq!(client.ask(9, &joining("", "")).error_code, INVALID_GROUP_ID);
    assert_eq!(client.ask(9, &joining(&group, "").with_session_timeout_ms(1)).error_code, INVALID_SESSION_TIMEOUT);
    assert_eq!(client.ask(9, &joining(&group, "nobody")).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(client.ask(4, &beating("", "m", 1)).error_code, INVALID_GROUP_ID);
    assert_eq!(client.ask(4, &beating(&group, "m", 1)).error_code, UNKNOWN_MEMBER_ID);
    let leaving = LeaveGroupRequest::default().with_group_id(GroupId(text(&group)));
    assert_eq!(client.ask(2, &leaving.clone().with_member_id(text("m"))).error_code, UNKNOWN_MEMBER_ID);
    let members = vec![MemberIdentity::default().with_member_id(text("m"))];
    assert_eq!(client.ask(5, &leaving.with_members(members)).members[0].error_code, UNKNOWN_MEMBER_ID);

    // A group that does not exist: by its generation, and as the version can say it.
    let of = |member: &str, generation| committing(&group, member, generation, &[(&topic, 0, 1)]);
    assert_eq!(commit(&mut client, 8, &of("m", 3))[0].2, ILLEGAL_GENERATION);
    assert_eq!(commit(&mut client, 9, &of("m", 3))[0].2, GROUP_ID_NOT_FOUND);
    // What is wrong with a topic is told all the same.
    let two = committing(&group, "m", 3, &[(&topic, 0, 1), (&topic, 5, 1), ("no-such-topic", 0, 1)]);
    let mut codes = commit(&mut client, 10, &two);
    codes.sort_by_key(|(_, partition, code)| (*partition, *code));
    let codes: Vec<_> = codes.into_iter().map(|(_, partition, code)| (partition, code)).collect();
    assert_eq!(codes, [(0, GROUP_ID_NOT_FOUND), (0, UNKNOWN_TOPIC_ID), (5, UNKNOWN_TOPIC_OR_PARTITION)]);

    let joined = stable(&mut client, &group);
    let id = joined.member_id.to_string();
    let other = joining(&group, "").with_protocol_type(text("connect"));
    assert_eq!(client.ask(9, &other).error_code, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(client.ask(4, &beating(&group, &id, 7)).error_code, ILLEGAL_GENERATION);
    let unnamed = syncing(3, &group, &joined);
    assert_eq!(client.ask(5, &unnamed).error_code, INCONSISTENT_GROUP_PROTOCOL);
    let misnamed = syncing(5, &group, &joined).with_protocol_name(Some(text("sticky")));
    assert_eq!(client.ask(5, &misnamed).error_code, INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(commit(&mut client, 9, &of(&id, 7))[0].2, ILLEGAL_GENERATION);
    assert_eq!(commit(&mut client, 9, &of("m", 1))[0].2, UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut client, 9, &of("", -1))[0].2, UNKNOWN_MEMBER_ID);
    let mut large = of(&id, 1);
    large.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4097)));
    assert_eq!(commit(&mut client, 9, &large)[0].2, OFFSET_METADATA_TOO_LARGE);
}

#[test]
fn two_members_share_a_group() {
    let broker = Broker::start();
    let group = unique("shared");
    let mut one = coordinator(&broker, &group);
    let mut two = coordinator(&broker, &group);
    let first = stable(&mut one, &group);
    let id = two.ask(9, &joining(&group, "")).member_id;
    two.send(9, &joining(&group, &id));
    let (first_id, leader) = (first.member_id.to_string(), first.leader.clone());
    // The second one's join waits until the first has heard of it and joins again.
    harness::wait::until("the rebalance", harness::wait::PATIENCE, || {
        let code = one.ask(4, &beating(&group, &first_id, 1)).error_code;
        (code == REBALANCE_IN_PROGRESS).then_some(())
    });
    let first = one.ask(9, &joining(&group, &first_id));
    let second: JoinGroupResponse = two.receive(9);
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!((&first.leader, &second.leader), (&leader, &leader));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    // The follower's sync waits for the leader's.
    two.send(5, &syncing(5, &group, &second));
    let synced = one.ask(5, &assigning(5, &group, &first));
    assert_eq!(synced.assignment, format!("for {first_id}"));
    assert_eq!(two.receive::<SyncGroupResponse>(5).assignment, format!("for {id}"));
    assert_eq!(describe(&mut one, 6, &group).members.len(), 2);
}

#[test]
fn a_static_member_comes_back() {
    let broker = Broker::start();
    let group = unique("static");
    let mut client = coordinator(&broker, &group);
    let asking = || joining(&group, "").with_group_instance_id(Some(text("one")));
    let joined = client.ask(9, &asking());
    assert_eq!(joined.error_code, NONE, "{joined:?}");
    assert!(joined.member_id.starts_with("one-"), "{joined:?}");
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("one"));
    assert_eq!(client.ask(5, &assigning(5, &group, &joined)).error_code, NONE);

    let again = client.ask(9, &asking());
    assert_eq!((again.error_code, again.generation_id, again.skip_assignment), (NONE, 1, true), "{again:?}");
    assert_ne!(again.member_id, joined.member_id);
    assert_eq!((&again.leader, again.members.len()), (&again.member_id, 1));
    let synced = client.ask(5, &syncing(5, &group, &again));
    assert_eq!(synced.assignment, format!("for {}", &*joined.member_id));
    let fenced = beating(&group, &joined.member_id, 1).with_group_instance_id(Some(text("one")));
    assert_eq!(client.ask(4, &fenced).error_code, FENCED_INSTANCE_ID);

    // A client of an older version is not told that it leads.
    let old = client.ask(8, &asking());
    assert_eq!((old.error_code, &old.leader, old.members.len()), (NONE, &again.member_id, 0), "{old:?}");

    let leaving = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_members(vec![MemberIdentity::default().with_group_instance_id(Some(text("one")))]);
    let left = client.ask(5, &leaving);
    assert_eq!((left.error_code, left.members[0].error_code), (NONE, NONE));
    assert_eq!(&*describe(&mut client, 6, &group).group_state, "Empty");
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let broker = Broker::start();
    let (group, topic) = (unique("listed"), unique("read"));
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let mut client = coordinator(&broker, &group);
    stable(&mut client, &group);
    let mut list = |version: i16, states: &[&str], types: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|name| text(name)).collect();
        let request = ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
        let answer = client.ask(version, &request);
        assert_eq!(answer.error_code, NONE);
        let ours = answer.groups.into_iter().find(|listed| &*listed.group_id == group.as_str());
        ours.map(|g| (g.protocol_type.to_string(), g.group_state.to_string(), g.group_type.to_string()))
    };
    let shown = |state: &str, kind: &str| Some(("consumer".to_string(), state.to_string(), kind.to_string()));
    for version in 0..=3 {
        assert_eq!(list(version, &[], &[]), shown("", ""));
    }
    assert_eq!(list(4, &[], &[]), shown("Stable", ""));
    assert_eq!(list(4, &["empty", "sTable"], &[]), shown("Stable", ""));
    assert_eq!(list(4, &["Empty"], &[]), None);
    assert!(list(5, &[], &[]).is_some_and(|(_, _, kind)| kind.eq_ignore_ascii_case("classic")));
    assert!(list(5, &["Stable"], &["Classic"]).is_some());
    assert_eq!(list(5, &[], &["consumer"]), None);
    // A group that only keeps offsets has no protocol type.
    let simple = unique("simple");
    let mut client = coordinator(&broker, &simple);
    let codes = commit(&mut client, 2, &committing(&simple, "", -1, &[(&topic, 0, 3)]));
    assert_eq!(codes, [(topic, 0, NONE)]);
    let described = describe(&mut client, 6, &simple);
    assert_eq!((&*described.group_state, &*described.protocol_type), ("Empty", ""));
}

#[test]
fn offsets_go_with_their_topic() {
    let broker = Broker::start();
    let (group, topic, kept) = (unique("reader"), unique("dropped"), unique("kept"));
    let bootstrap = broker.bootstrap();
    records::create_topic(&bootstrap, &topic, 1);
    records::create_topic(&bootstrap, &kept, 1);
    let mut client = coordinator(&broker, &group);
    let places = [(topic.as_str(), 0, 5), (kept.as_str(), 0, 6)];
    let codes = commit(&mut client, 9, &committing(&group, "", -1, &places));
    assert!(codes.iter().all(|(_, _, code)| *code == NONE), "{codes:?}");
    let mut controller = Client::to(broker.addresses()[0]);
    let deleting = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(&topic))]).with_timeout_ms(9000);
    assert_eq!(controller.ask(4, &deleting).responses[0].error_code, NONE);
    harness::wait::until("the offsets to go", harness::wait::PATIENCE, || {
        let (code, offsets) = fetch(&mut client, 9, &group, None);
        assert_eq!(code, NONE);
        (offsets == [(kept.clone(), 0, 6, "why".to_string(), NONE)]).then_some(())
    });
}

/// Deletes a topic and creates it anew, and waits until this connection's broker knows the new one. Gives both ids.
fn recreate(broker: &Broker, client: &mut Client, topic: &str) -> (Uuid, Uuid) {
    let former = topic_id(client, topic);
    let deleting = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(topic))]).with_timeout_ms(9000);
    let mut controller = Client::to(broker.addresses()[0]);
    assert_eq!(controller.ask(4, &deleting).responses[0].error_code, NONE);
    harness::wait::until("the topic to go", harness::wait::seconds(20), || {
        (shown(client, Some(topic), Uuid::nil()).error_code != NONE).then_some(())
    });
    records::create_topic(&broker.bootstrap(), topic, 1);
    let new = harness::wait::until("the new topic", harness::wait::seconds(20), || {
        let shown = shown(client, Some(topic), Uuid::nil());
        (shown.error_code == NONE && shown.partitions.iter().all(|p| p.error_code == NONE)).then_some(shown.topic_id)
    });
    assert_ne!(former, new);
    (former, new)
}

#[test]
fn an_offset_belongs_to_the_topic_id_it_was_committed_for() {
    let broker = Broker::start();
    let (group, topic, kept) = (unique("by-id"), unique("again"), unique("kept"));
    records::create_topic(&broker.bootstrap(), &topic, 1);
    records::create_topic(&broker.bootstrap(), &kept, 1);
    let mut client = coordinator(&broker, &group);
    let kept_id = topic_id(&mut client, &kept);

    let committing = |places: &[(Uuid, i64)]| {
        let topic = |(id, offset): &(Uuid, i64)| {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(*offset);
            OffsetCommitRequestTopic::default().with_topic_id(*id).with_partitions(vec![partition])
        };
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(places.iter().map(topic).collect())
    };
    let commit = |client: &mut Client, places: &[(Uuid, i64)]| {
        let answer = client.ask(10, &committing(places));
        let mut codes: Vec<_> = answer.topics.iter().map(|t| (t.topic_id, t.partitions[0].error_code)).collect();
        codes.sort();
        codes
    };
    // `None`: all.
    let fetch = |client: &mut Client, ids: Option<&[Uuid]>| {
        let topic = |id: &Uuid| OffsetFetchRequestTopics::default().with_topic_id(*id).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(&group)))
            .with_topics(ids.map(|ids| ids.iter().map(topic).collect()));
        let answer = client.ask(10, &OffsetFetchRequest::default().with_groups(vec![asked])).groups.remove(0);
        assert_eq!(answer.error_code, NONE);
        let one = |t: &offset_fetch_response::OffsetFetchResponseTopics| {
            let p = &t.partitions[0];
            assert_eq!((t.partitions.len(), t.name.as_str(), p.metadata.as_deref()), (1, "", Some("")));
            (t.topic_id, p.committed_offset, p.error_code)
        };
        let mut offsets: Vec<_> = answer.topics.iter().map(one).collect();
        offsets.sort();
        offsets
    };
    fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
        all.sort();
        all
    }

    let unknown = Uuid::from_bytes([0xee; 16]);
    let first = topic_id(&mut client, &topic);
    let codes = commit(&mut client, &[(unknown, 1), (first, 5), (Uuid::nil(), 2), (kept_id, 6)]);
    let expected = vec![(unknown, UNKNOWN_TOPIC_ID), (first, NONE), (Uuid::nil(), UNKNOWN_TOPIC_ID), (kept_id, NONE)];
    assert_eq!(codes, sorted(expected));
    let all = fetch(&mut client, None);
    assert_eq!(all, sorted(vec![(first, 5, NONE), (kept_id, 6, NONE)]));
    let some = fetch(&mut client, Some(&[unknown, kept_id, Uuid::nil(), first]));
    let unknowns = [(unknown, -1, UNKNOWN_TOPIC_ID), (Uuid::nil(), -1, UNKNOWN_TOPIC_ID)];
    assert_eq!(some, sorted([&unknowns[..], &all].concat()));

    let (former, new) = recreate(&broker, &mut client, &topic);
    assert_eq!(former, first);
    // Neither is the former topic known, nor has its offset become one of the new topic.
    let some = fetch(&mut client, Some(&[former, new]));
    assert_eq!(some, sorted(vec![(former, -1, UNKNOWN_TOPIC_ID), (new, -1, NONE)]));
    let codes = commit(&mut client, &[(former, 7), (new, 8)]);
    assert_eq!(codes, sorted(vec![(former, UNKNOWN_TOPIC_ID), (new, NONE)]));
    let all = fetch(&mut client, None);
    assert_eq!(all, sorted(vec![(new, 8, NONE), (kept_id, 6, NONE)]));
    // By name, as older versions ask.
    let (code, offsets) = self::fetch(&mut client, 9, &group, Some(&[(&topic, 0)]));
    assert_eq!((code, offsets), (NONE, vec![(topic, 0, 8, String::new(), NONE)]));
}

#[test]
fn a_stop_does_not_wait_for_a_rebalance() {
    let mut broker = Broker::with(Options::default().set("group.initial.rebalance.delay.ms=600000"));
    if !broker.is_corelog() {
        return;
    }
    let group = unique("waiting");
    let mut client = coordinator(&broker, &group);
    let id = client.ask(9, &joining(&group, "")).member_id;
    client.send(9, &joining(&group, &id));
    let mut other = coordinator(&broker, &group);
    harness::wait::until("the join to wait", harness::wait::PATIENCE, || {
        (&*describe(&mut other, 6, &group).group_state == "PreparingRebalance").then_some(())
    });
    broker.stop();
    // The client is told to look for another coordinator.
    assert_eq!(client.receive::<JoinGroupResponse>(9).error_code, NOT_COORDINATOR);
}

#[test]
fn members_and_offsets_are_there_after_a_kill() {
    let mut broker = Broker::start();
    if !broker.is_ours() {
        return;
    }
    let (group, topic) = (unique("kept"), unique("read"));
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let mut client = coordinator(&broker, &group);
    let joined = stable(&mut client, &group);
    let id = joined.member_id.to_string();
    for offset in 1..=20 {
        let codes = commit(&mut client, 9, &committing(&group, &id, 1, &[(&topic, 0, offset)]));
        assert_eq!(codes, [(topic.clone(), 0, NONE)]);
    }
    broker.kill();
    broker.launch();
    let mut client = coordinator(&broker, &group);
    assert_eq!(fetch(&mut client, 9, &group, None).1, [(topic.clone(), 0, 20, "why".to_string(), NONE)]);
    assert_eq!(client.ask(4, &beating(&group, &id, 1)).error_code, NONE);
    let synced = client.ask(5, &syncing(5, &group, &joined));
    assert_eq!(synced.assignment, format!("for {id}"));
    let codes = commit(&mut client, 9, &committing(&group, &id, 1, &[(&topic, 0, 21)]));
    assert_eq!(codes, [(topic, 0, NONE)]);
}
