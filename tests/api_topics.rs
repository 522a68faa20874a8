//! The APIs about topics and the cluster over a socket, in every version that is served: Metadata, CreateTopics,
//! CreatePartitions, DeleteTopics, DescribeConfigs, DescribeCluster, DescribeTopicPartitions, ListConfigResources, ElectLeaders, the reassignments; and ListOffsets.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same conversations run against Apache Kafka: its codes and words are expected.

mod harness;

use harness::broker::{Broker, Options};
use harness::client::{Client, creating, name, option, text, topic};
use harness::{unique, wait};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use uuid::Uuid;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const UNKNOWN_TOPIC_ID: i16 = 100;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;

/// Operations that were not asked for.
const NOT_ASKED: i32 = i32::MIN;
const ALL_TOPIC_OPERATIONS: i32 = 3576;
const ALL_CLUSTER_OPERATIONS: i32 = 8096;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A broker that is one for its clients, so that Apache Kafka's answers fit.
fn host() -> (Broker, Client) {
    let broker = Broker::with(Options { advertise: "host", ..Options::default() });
    let client = Client::to(broker.addresses()[0]);
    (broker, client)
}

#[test]
fn a_topic_lives_in_every_version() {
    let (_broker, mut client) = host();
    for version in 2..=7 {
        let topic_name = unique("lives");
        let wanted = topic(&topic_name, 2, 1).with_configs(vec![option("retention.ms", Some("5000"))]);
        let created = client.create(version, wanted);
        assert_eq!((created.error_code, created.error_message), (NONE, None), "v{version}");
        assert_eq!(created.topic_id.is_nil(), version < 7);
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
            let configs = created.configs.unwrap();
            assert_eq!(configs.len(), 33);
            let own = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
            assert_eq!((own.value.as_deref(), own.config_source, own.read_only), (Some("5000"), 1, false));
        }
        let shown = client.wait_for(&topic_name, 2);
        assert!(!shown.topic_id.is_nil() && (version < 7 || shown.topic_id == created.topic_id));

        let partitions_version = (version - 2).min(3);
        let more = CreatePartitionsTopic::default().with_name(name(&topic_name)).with_count(3).with_assignments(None);
        let more = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(30_000);
        let grown = client.ask(partitions_version, &more).results.remove(0);
        assert_eq!((&*grown.name.0, grown.error_code, grown.error_message), (&topic_name[..], NONE, None));
        client.wait_for(&topic_name, 3);
        for metadata_version in 0..=13 {
            let seen = client.metadata(metadata_version, &topic_name);
            assert_eq!((seen.error_code, seen.partitions.len(), seen.is_internal), (NONE, 3, false), "{seen:?}");
            assert_eq!(seen.topic_id, if metadata_version < 10 { Uuid::nil() } else { shown.topic_id });
            let operations = if metadata_version < 8 { NOT_ASKED } else { ALL_TOPIC_OPERATIONS };
            assert_eq!(seen.topic_authorized_operations, operations, "v{metadata_version}");
            let mut numbers: Vec<i32> = seen.partitions.iter().map(|p| p.partition_index).collect();
            numbers.sort();
            assert_eq!(numbers, [0, 1, 2]);
            for partition in seen.partitions {
                assert_eq!(
                    (&partition.replica_nodes, &partition.isr_nodes),
                    (&vec![partition.leader_id], &vec![partition.leader_id])
                );
                assert_eq!(partition.leader_epoch, if metadata_version < 7 { -1 } else { 0 });
            }
        }

        let delete_version = version - 1;
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let request = match delete_version {
            6 => request.with_topics(vec![DeleteTopicState::default().with_name(None).with_topic_id(shown.topic_id)]),
            _ => request.with_topic_names(vec![name(&topic_name)]),
        };
        let deleted = client.ask(delete_version, &request).responses.remove(0);
        assert_eq!(deleted.error_code, NONE, "{deleted:?}");
        assert_eq!(deleted.name, Some(name(&topic_name)));
        wait::until("the topic is gone", wait::seconds(60), || {
            (client.metadata(12, &topic_name).error_code == UNKNOWN_TOPIC_OR_PARTITION).then_some(())
        });
    }
}

#[test]
fn what_is_refused_and_in_which_words() {
    let (_broker, mut client) = host();
    let there = unique("there.is");
    assert_eq!(client.create(7, topic(&there, 2, 1)).error_code, NONE);
    client.wait_for(&there, 2);
    let mut refused = |wanted: CreatableTopic, code: i16, words: &str| {
        let result = client.create(7, wanted);
        assert_eq!((result.error_code, result.error_message.as_deref()), (code, Some(words)));
        assert_eq!((result.num_partitions, result.replication_factor, result.topic_id), (-1, -1, Uuid::nil()));
    };
    refused(topic(&there, 1, 1), TOPIC_EXISTS, &format!("Topic '{there}' already exists."));
    let colliding = there.replace('.', "_");
    let words = format!("Topic '{colliding}' collides with existing topic: {there}");
    refused(topic(&colliding, 1, 1), INVALID_TOPIC, &words);
    let words =
        "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
    refused(topic("a b", 1, 1), INVALID_TOPIC, words);
    let words = "Creation of internal topic __cluster_metadata is prohibited.";
    refused(topic("__cluster_metadata", 1, 1), INVALID_REQUEST, words);
    let words = "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because \
                 only 1 broker(s) are registered or some brokers have all their log directories cordoned.";
    refused(topic("two-replicas", 1, 2), INVALID_REPLICATION_FACTOR, words);
    refused(topic("none", 0, 1), INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.");
    let words = "Excessively large number of partitions per request.";
    refused(topic("many", i32::MAX, 1), POLICY_VIOLATION, words);
    let with = |options| topic("options", 1, 1).with_configs(options);
    refused(with(vec![option("foo", Some("1"))]), INVALID_CONFIG, "Unknown topic config name: foo");
    let words = "Null value not supported for topic configs: retention.ms";
    refused(with(vec![option("retention.ms", None)]), INVALID_CONFIG, words);
    let words = "Invalid value x for configuration retention.ms: Not a number of type LONG";
    refused(with(vec![option("retention.ms", Some("x"))]), INVALID_CONFIG, words);
    let on = |broker: i32| CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(broker)]);
    let words = "The manual partition assignment includes broker 77, but no such broker is registered.";
    refused(topic("by-hand", -1, -1).with_assignments(vec![on(77)]), INVALID_REPLICA_ASSIGNMENT, words);
    let words = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    refused(topic("by-hand", 1, -1).with_assignments(vec![on(77)]), INVALID_REQUEST, words);

    // What is wrong with one topic does not touch the others; nothing of this was done.
    let (good, twice) = (unique("good"), unique("twice"));
    let topics = vec![topic(&twice, 1, 1), topic(&good, 1, 1), topic(&twice, 1, 1), topic("none", 0, 1)];
    let mut results = client.ask(7, &creating(topics).with_validate_only(true)).topics;
    results.sort_by_key(|result| result.error_code);
    let codes: Vec<_> = results.iter().map(|result| (&*result.name.0, result.error_code)).collect();
    assert_eq!(codes, [(&good[..], NONE), ("none", INVALID_PARTITIONS), (&twice[..], INVALID_REQUEST)]);
    assert_eq!(client.metadata(12, &good).error_code, UNKNOWN_TOPIC_OR_PARTITION);

    let mut grow = |topic: &str, count: i32| {
        let more = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(30_000);
        let result = client.ask(3, &request).results.remove(0);
        (result.error_code, result.error_message.map(|words| words.to_string()))
    };
    assert_eq!(grow(&there, 2), (INVALID_PARTITIONS, Some("Topic already has 2 partition(s).".to_string())));
    let words = format!("The topic {there} currently has 2 partition(s); 1 would not be an increase.");
    assert_eq!(grow(&there, 1), (INVALID_PARTITIONS, Some(words)));
    assert_eq!(grow("not-there", 3), (UNKNOWN_TOPIC_OR_PARTITION, None));

    let mut delete = |state: DeleteTopicState| {
        let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000);
        let result = client.ask(6, &request).responses.remove(0);
        (result.error_code, result.error_message.map(|words| words.to_string()).unwrap_or_default())
    };
    let state = DeleteTopicState::default;
    let words = "This server does not host this topic-partition.";
    assert_eq!(delete(state().with_name(Some(name("not-there")))), (UNKNOWN_TOPIC_OR_PARTITION, words.to_string()));
    let id = Uuid::from_u128(0x10111213_14151617_18191a1b_1c1d1e1f);
    let words = "This server does not host this topic ID.";
    assert_eq!(delete(state().with_name(None).with_topic_id(id)), (UNKNOWN_TOPIC_ID, words.to_string()));
    let words = "You may not specify both topic name and topic id.";
    let both = state().with_name(Some(name(&there))).with_topic_id(id);
    assert_eq!(delete(both), (INVALID_REQUEST, words.to_string()));
}

#[test]
fn a_partition_is_put_where_it_is_and_nowhere_else() {
    let (_broker, mut client) = host();
    let there = unique("put");
    assert_eq!(client.create(7, topic(&there, 2, 1)).error_code, NONE);
    let leader = client.wait_for(&there, 2).partitions[0].leader_id;
    let invalid = |words: &str| (INVALID_REPLICA_ASSIGNMENT, Some(words.to_string()));
    for version in 0..=1 {
        let mut put = |topic: &str, partition: i32, replicas: Option<Vec<i32>>, may_resize: bool| {
            let replicas = replicas.map(|ids| ids.into_iter().map(BrokerId).collect());
            let wanted = ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas);
            let wanted = ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
            let mut request = AlterPartitionReassignmentsRequest::default().with_topics(vec![wanted]);
            if version > 0 {
                request.allow_replication_factor_change = may_resize;
            }
            let mut answer = client.ask(version, &request);
            assert_eq!((answer.error_code, answer.error_message), (NONE, None));
            assert_eq!(answer.allow_replication_factor_change, version == 0 || may_resize);
            let of = answer.responses.remove(0);
            let result = &of.partitions[0];
            assert_eq!((&*of.name.0, result.partition_index), (topic, partition));
            (result.error_code, result.error_message.as_deref().map(str::to_string))
        };
        for may_resize in [true, false] {
            assert_eq!(put(&there, 1, Some(vec![leader.0]), may_resize), (NONE, None));
        }
        let words = "The manual partition assignment includes an empty replica list.";
        assert_eq!(put(&there, 0, Some(vec![]), true), invalid(words));
        let words = "The manual partition assignment includes broker 77, but no such broker is registered.";
        assert_eq!(put(&there, 0, Some(vec![leader.0, 77]), false), invalid(words));
        let words =
            format!("The manual partition assignment includes the broker {leader} more than once.", leader = leader.0);
        assert_eq!(put(&there, 0, Some(vec![leader.0, leader.0]), true), invalid(&words));
        assert_eq!(put(&there, 0, None, true), (NO_REASSIGNMENT_IN_PROGRESS, None));
        let words = format!("Unable to find partition {there}:2.");
        assert_eq!(put(&there, 2, Some(vec![leader.0]), true), (UNKNOWN_TOPIC_OR_PARTITION, Some(words)));
        let words = "Unable to find a topic named not-there.";
        assert_eq!(put("not-there", 0, None, true), (UNKNOWN_TOPIC_OR_PARTITION, Some(words.to_string())));
    }
    let named = ListPartitionReassignmentsTopics::default().with_name(name(&there)).with_partition_indexes(vec![0, 7]);
    let other = ListPartitionReassignmentsTopics::default().with_name(name("not-there"));
    for topics in [None, Some(vec![]), Some(vec![named, other])] {
        let request = ListPartitionReassignmentsRequest::default().with_topics(topics);
        assert_eq!(client.ask(0, &request), ListPartitionReassignmentsResponse::default().with_error_message(None));
    }
}

#[test]
fn partitions_are_described_page_by_page() {
    let (_broker, mut client) = host();
    let (first, second) = (unique("paged-a"), unique("paged-b"));
    for (topic_name, partitions) in [(&first, 3), (&second, 2)] {
        assert_eq!(client.create(7, topic(topic_name, partitions, 1)).error_code, NONE);
        client.wait_for(topic_name, partitions as usize);
    }
    let named = |topic: &str| TopicRequest::default().with_name(name(topic));
    let at = |topic: &str, partition: i32| {
        Some(Cursor::default().with_topic_name(name(topic)).with_partition_index(partition))
    };
    let both = vec![named(&second), named(&first), named("a b"), named("zzz-not-there")];
    let mut page = |topics: &[TopicRequest], limit: i32, cursor: Option<Cursor>| {
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(topics.to_vec())
            .with_response_partition_limit(limit)
            .with_cursor(cursor);
        let answer = client.ask(0, &request);
        let shown = |topic: &DescribeTopicPartitionsResponseTopic| {
            let numbers: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_ref().unwrap().to_string(), topic.error_code, numbers)
        };
        let next = answer.next_cursor.as_ref().map(|next| (next.topic_name.to_string(), next.partition_index));
        (answer.topics.iter().map(shown).collect::<Vec<_>>(), next, answer)
    };
    let (invalid, unknown) =
        (("a b".to_string(), INVALID_TOPIC, vec![]), ("zzz-not-there".to_string(), UNKNOWN_TOPIC_OR_PARTITION, vec![]));
    let (topics, next, answer) = page(&both, 100, None);
    let of_first = (first.clone(), NONE, vec![0, 1, 2]);
    assert_eq!(topics, [invalid.clone(), of_first.clone(), (second.clone(), NONE, vec![0, 1]), unknown.clone()]);
    assert_eq!(next, None);
    // As Metadata shows it.
    let whole = answer.topics.iter().find(|topic| topic.name.as_ref().unwrap().as_str() == first).unwrap();
    assert_eq!((whole.is_internal, whole.topic_authorized_operations), (false, ALL_TOPIC_OPERATIONS));
    let partition = &whole.partitions[0];
    let leader = partition.leader_id;
    assert_eq!((partition.error_code, partition.leader_epoch, &partition.offline_replicas), (NONE, 0, &vec![]));
    assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![leader], &vec![leader]));
    assert_eq!((&partition.eligible_leader_replicas, &partition.last_known_elr), (&Some(vec![]), &Some(vec![])));
    // The page ends within a topic, at the end of one, and with what is not there.
    let (topics, next, _) = page(&both, 2, None);
    assert_eq!((topics, next), (vec![invalid.clone(), (first.clone(), NONE, vec![0, 1])], Some((first.clone(), 2))));
    let (topics, next, _) = page(&both, 1, at(&first, 2));
    assert_eq!((topics, next), (vec![(first.clone(), NONE, vec![2])], Some((second.clone(), 0))));
    let (topics, next, _) = page(&both, 2, at(&second, 0));
    assert_eq!((topics, next), (vec![(second.clone(), NONE, vec![0, 1])], Some(("zzz-not-there".to_string(), 0))));
    let (topics, next, _) = page(&both, 0, at(&second, 1));
    assert_eq!((topics, next), (vec![(second.clone(), NONE, vec![1])], Some(("zzz-not-there".to_string(), 0))));
    let (topics, next, _) = page(&both, 5, at("zzz-not-there", 7));
    assert_eq!((topics, next), (vec![unknown], None));
    let (topics, _, _) = page(&[], 2000, at(&first, 0));
    assert!(topics.contains(&of_first) && topics.iter().all(|(name, ..)| *name >= first), "{topics:?}");
    // A cursor that belongs to no topic of the request, and one that points nowhere.
    for cursor in [at("elsewhere", 0), at(&first, -1)] {
        let (topics, next, _) = page(&[named(&first)], 5, cursor);
        assert_eq!((topics, next), (vec![(first.clone(), INVALID_REQUEST, vec![])], None));
    }
}

#[test]
fn no_election_is_needed() {
    let (_broker, mut client) = host();
    let there = unique("elected");
    assert_eq!(client.create(7, topic(&there, 2, 1)).error_code, NONE);
    client.wait_for(&there, 2);
    let of = |topic: &str, partitions: &[i32]| {
        TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    for version in 0..=2 {
        for kind in if version == 0 { 0..=0 } else { 0..=1 } {
            let wanted = vec![of(&there, &[0, 1, 7]), of("not-there", &[0])];
            let request = ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(Some(wanted));
            let answer = client.ask(version, &request);
            assert_eq!(answer.error_code, NONE);
            let mut results: Vec<_> = answer
                .replica_election_results
                .iter()
                .flat_map(|topic| topic.partition_result.iter().map(|result| (topic.topic.to_string(), result)))
                .map(|(topic, result)| {
                    let words = result.error_message.as_deref().map(str::to_string);
                    (topic, result.partition_id, result.error_code, words)
                })
                .collect();
            results.sort();
            let not_needed = Some("Leader election not needed for topic partition.".to_string());
            let (no_topic, no_partition) = ("No such topic as not-there", format!("No such partition as {there}-7"));
            let mut expected = vec![
                (there.clone(), 0, ELECTION_NOT_NEEDED, not_needed.clone()),
                (there.clone(), 1, ELECTION_NOT_NEEDED, not_needed),
                (there.clone(), 7, UNKNOWN_TOPIC_OR_PARTITION, Some(no_partition)),
                ("not-there".to_string(), 0, UNKNOWN_TOPIC_OR_PARTITION, Some(no_topic.to_string())),
            ];
            expected.sort();
            assert_eq!(results, expected, "version {version}, type {kind}");
        }
        // Of all partitions those that need none are not told of.
        let answer = client.ask(version, &ElectLeadersRequest::default().with_topic_partitions(None));
        assert!(answer.replica_election_results.iter().all(|topic| topic.partition_result.is_empty()));
    }
    let wanted = Some(vec![of(&there, &[0])]);
    let request = ElectLeadersRequest::default().with_election_type(5).with_topic_partitions(wanted);
    assert_eq!(client.ask(2, &request).error_code, INVALID_REQUEST);
}

#[test]
fn what_has_options_is_listed() {
    let (_broker, mut client) = host();
    let there = unique("listed");
    assert_eq!(client.create(7, topic(&there, 1, 1)).error_code, NONE);
    let leader = client.wait_for(&there, 1).partitions[0].leader_id.0.to_string();
    let mut list = |version: i16, kinds: &[i8]| {
        let answer = client.ask(version, &ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec()));
        let found = answer.config_resources.iter().map(|of| (of.resource_type, of.resource_name.to_string()));
        (answer.error_code, found.collect::<Vec<_>>())
    };
    const BROKER_LOGGER: i8 = 8;
    let brokers = [(BROKER, leader.clone()), (BROKER_LOGGER, leader)];
    let (code, mut all) = list(1, &[]);
    assert_eq!(code, NONE);
    assert!(brokers.iter().all(|broker| all.contains(broker)) && all.contains(&(TOPIC, there.clone())), "{all:?}");
    all.retain(|(kind, _)| *kind == TOPIC);
    let (code, topics) = list(1, &[TOPIC]);
    assert_eq!((code, topics), (NONE, all));
    assert_eq!(list(1, &[BROKER_LOGGER]), (NONE, vec![brokers[1].clone()]));
    // Client metrics, and nothing else before version 1.
    for version in 0..=1 {
        assert_eq!(list(version, if version == 0 { &[] } else { &[16] }), (NONE, vec![]));
    }
    assert_eq!(list(1, &[TOPIC, 3]), (UNSUPPORTED_VERSION, vec![]));
}

/// Where every core is a broker, a partition belongs to one of them, and stays there.
#[test]
fn a_partition_cannot_be_put_on_another_core() {
    let broker = Broker::start();
    if !broker.is_corelog() || broker.addresses().len() < 2 {
        return;
    }
    let mut client = Client::to(broker.addresses()[0]);
    let there = unique("put");
    assert_eq!(client.create(7, topic(&there, 1, 1)).error_code, NONE);
    let leader = client.wait_for(&there, 1).partitions[0].leader_id;
    let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
    let other = brokers.iter().map(|broker| broker.node_id).find(|id| *id != leader).unwrap();
    for (replicas, may_resize, expected) in [
        (vec![leader], true, NONE),
        (vec![other], true, INVALID_REPLICA_ASSIGNMENT),
        (vec![leader, other], true, INVALID_REPLICA_ASSIGNMENT),
        (vec![leader, other], false, INVALID_REPLICATION_FACTOR),
    ] {
        let wanted = ReassignablePartition::default().with_partition_index(0).with_replicas(Some(replicas));
        let wanted = ReassignableTopic::default().with_name(name(&there)).with_partitions(vec![wanted]);
        let request = AlterPartitionReassignmentsRequest::default()
            .with_topics(vec![wanted])
            .with_allow_replication_factor_change(may_resize);
        assert_eq!(client.ask(1, &request).responses[0].partitions[0].error_code, expected);
    }
}

#[test]
fn metadata_says_what_was_asked_for() {
    let (broker, mut client) = host();
    let created = unique("known");
    assert_eq!(client.create(7, topic(&created, 1, 1)).error_code, NONE);
    let id = client.wait_for(&created, 1).topic_id;
    let ask = |topics: Option<Vec<MetadataRequestTopic>>| {
        MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false)
    };
    let named = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let by_id = |id: Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(id);

    // No topics means all before version 1, and none from then on; null means all.
    let names = |answer: &MetadataResponse| -> Vec<String> {
        answer.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect()
    };
    let before_4 = |topics| ask(topics).with_allow_auto_topic_creation(true);
    assert!(names(&client.ask(0, &before_4(Some(vec![])))).contains(&created));
    assert!(client.ask(1, &before_4(Some(vec![]))).topics.is_empty());
    assert!(names(&client.ask(1, &before_4(None))).contains(&created));

    let found = client.ask(12, &ask(Some(vec![by_id(id), by_id(Uuid::from_u128(77))])));
    let mut seen: Vec<_> = found.topics.iter().map(|topic| (topic.error_code, topic.name.clone())).collect();
    seen.sort();
    assert_eq!(seen, [(NONE, Some(name(&created))), (UNKNOWN_TOPIC_ID, None)]);
    assert_eq!(client.ask(12, &ask(Some(vec![named(&created), named(&created)]))).topics.len(), 1, "named twice");
    let refused = client.ask(11, &ask(Some(vec![named(&created).with_topic_id(id)])));
    assert_eq!((refused.topics[0].error_code, refused.brokers.len()), (INVALID_REQUEST, 0), "ids come with version 12");
    let wrong = client.ask(12, &ask(Some(vec![named("a b"), named("not-there")])));
    let mut codes: Vec<i16> = wrong.topics.iter().map(|topic| topic.error_code).collect();
    codes.sort();
    assert_eq!(codes, [UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC]);

    for version in 0..=13 {
        let request = if version < 4 { before_4(Some(vec![])) } else { ask(Some(vec![])) };
        let request = request.with_include_cluster_authorized_operations((8..=10).contains(&version));
        let answer = client.ask(version, &request);
        let at = |b: &metadata_response::MetadataResponseBroker| (b.host.to_string(), b.port);
        assert_eq!(
            answer.brokers.iter().map(at).collect::<Vec<_>>(),
            [("127.0.0.1".to_string(), i32::from(broker.port()))]
        );
        assert_eq!(answer.cluster_id.is_some(), version >= 2);
        assert_eq!(answer.controller_id == answer.brokers[0].node_id, version >= 1);
        let operations = if (8..=10).contains(&version) { ALL_CLUSTER_OPERATIONS } else { NOT_ASKED };
        assert_eq!(answer.cluster_authorized_operations, operations, "v{version}");
    }
}

#[test]
fn a_topic_that_is_asked_for_comes_into_being() {
    let (broker, mut client) = host();
    for version in [0, 3, 4, 9, 13] {
        let wanted = unique("auto");
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(&wanted)))]))
            .with_allow_auto_topic_creation(true);
        let first = client.ask(version, &request).topics.remove(0);
        if broker.is_corelog() {
            assert_eq!((first.error_code, first.partitions.len()), (NONE, 1), "ready in the first answer");
        }
        client.wait_for(&wanted, 1);
    }
    // The offsets topic comes with its own options, whoever asks for it first.
    let offsets = "__consumer_offsets";
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(offsets)))]))
        .with_allow_auto_topic_creation(true);
    client.ask(12, &request);
    assert!(client.wait_for(offsets, 50).is_internal);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(offsets))
        .with_configuration_keys(Some(vec![text("cleanup.policy")]));
    let described = client.ask(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(described.results[0].configs[0].value.as_deref(), Some("compact"));
}

#[test]
fn options_are_described_in_every_version() {
    let (_broker, mut client) = host();
    let created = unique("options");
    let options = vec![option("retention.ms", Some("5000")), option("cleanup.policy", Some("compact, delete"))];
    assert_eq!(client.create(7, topic(&created, 1, 1).with_configs(options)).error_code, NONE);
    client.wait_for(&created, 1);
    let own_id = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers[0].node_id.0.to_string();
    let resource = |kind: i8, name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    for version in 1..=4 {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource(TOPIC, &created), resource(BROKER, &own_id)])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let mut results = client.ask(version, &request).results;
        results.sort_by_key(|result| result.resource_type);
        assert!(results.iter().all(|result| result.error_code == NONE), "{results:?}");
        let find = |at: usize, option: &str| results[at].configs.iter().find(|c| &*c.name == option).unwrap();
        assert_eq!(results[0].configs.len(), 33);
        let own = find(0, "retention.ms");
        assert_eq!((own.value.as_deref(), own.config_source, own.is_sensitive), (Some("5000"), 1, false));
        let synonym = &own.synonyms[0];
        assert_eq!((&*synonym.name, synonym.value.as_deref(), synonym.source), ("retention.ms", Some("5000"), 1));
        assert_eq!(own.config_type, if version >= 3 { 5 } else { 0 });
        assert!(version < 3 || own.documentation.as_ref().is_some_and(|words| !words.is_empty()));
        assert_eq!(find(0, "cleanup.policy").value.as_deref(), Some("compact,delete"));
        let of_broker = find(0, "segment.bytes");
        assert_eq!((of_broker.value.as_deref(), of_broker.config_source), (Some("1073741824"), 5));
        assert_eq!(&*of_broker.synonyms[0].name, "log.segment.bytes");
        let data = find(1, "log.dirs");
        assert_eq!((data.read_only, data.config_source), (true, 4));
        assert!(!find(1, "log.retention.ms").read_only);
    }
    let mut refused = |kind: i8, name: &str, code: i16, words: &str| {
        let request = DescribeConfigsRequest::default().with_resources(vec![resource(kind, name)]);
        let result = client.ask(4, &request).results.remove(0);
        assert_eq!((result.error_code, result.error_message.as_deref()), (code, Some(words)));
        assert!(result.configs.is_empty());
    };
    refused(TOPIC, "not-there", UNKNOWN_TOPIC_OR_PARTITION, "");
    refused(TOPIC, "", INVALID_TOPIC, "Topic name is invalid: the empty string is not allowed");
    let words = format!("Unexpected broker id, expected {own_id} or empty string, but received 77");
    refused(BROKER, "77", INVALID_REQUEST, &words);
    refused(BROKER, "x", INVALID_REQUEST, "Broker id must be an integer, but it is: x");
    refused(32, "", INVALID_REQUEST, "Group name must not be empty");
    let words = "This most likely occurs because of a request being malformed by the client library or the message was sent \
                 to an incompatible broker. See the broker logs for more details.";
    refused(99, "x", INVALID_REQUEST, words);

    let some = resource(TOPIC, &created).with_configuration_keys(Some(vec![text("retention.ms"), text("not.there")]));
    let result = client.ask(4, &DescribeConfigsRequest::default().with_resources(vec![some])).results.remove(0);
    assert_eq!(result.configs.iter().map(|config| &*config.name).collect::<Vec<_>>(), ["retention.ms"]);
    assert!(result.configs[0].synonyms.is_empty(), "not asked for");
}

/// A creation is one batch of records, of which there may be 10,000: one for the topic, one for each option and partition.
#[test]
fn ten_thousand_records_are_the_most() {
    let (_broker, mut client) = host();
    let mut create = |topics: Vec<CreatableTopic>| {
        let request = creating(topics).with_validate_only(true);
        let answer = client.ask(7, &request);
        answer.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
    };
    let named = |partitions| topic(&unique("many"), partitions, 1);
    assert_eq!(create(vec![named(9_999)]), [NONE]);
    assert_eq!(create(vec![named(10_000)]), [POLICY_VIOLATION]);
    let with_option = named(9_999).with_configs(vec![option("retention.ms", Some("5"))]);
    assert_eq!(create(vec![with_option]), [POLICY_VIOLATION]);
    // All of the request is refused.
    assert_eq!(create(vec![named(5_000), named(4_999)]), [POLICY_VIOLATION, POLICY_VIOLATION]);
    assert_eq!(create(vec![named(5_000), named(4_998)]), [NONE, NONE]);
}

#[test]
fn the_cluster_is_described_as_metadata_shows_it() {
    for advertise in ["core", "host"] {
        let broker = Broker::with(Options { advertise, ..Options::default() });
        let addresses = broker.addresses();
        for address in &addresses {
            let mut client = Client::to(*address);
            let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![])));
            for version in 0..=2 {
                let request =
                    DescribeClusterRequest::default().with_include_cluster_authorized_operations(version == 1);
                let answer = client.ask(version, &request);
                assert_eq!((answer.error_code, Some(&answer.cluster_id)), (NONE, metadata.cluster_id.as_ref()));
                let shown = |id: BrokerId, host: &StrBytes, port: i32| (id, host.to_string(), port);
                let described: Vec<_> = answer.brokers.iter().map(|b| shown(b.broker_id, &b.host, b.port)).collect();
                let listed: Vec<_> = metadata.brokers.iter().map(|b| shown(b.node_id, &b.host, b.port)).collect();
                assert_eq!(described, listed);
                assert_eq!(described.len(), addresses.len());
                assert!(answer.brokers.iter().all(|b| !b.is_fenced));
                assert!(described.iter().any(|(id, ..)| *id == answer.controller_id));
                let operations = if version == 1 { ALL_CLUSTER_OPERATIONS } else { NOT_ASKED };
                assert_eq!(answer.cluster_authorized_operations, operations);
            }
            let controllers = client.ask(1, &DescribeClusterRequest::default().with_endpoint_type(2));
            assert_eq!((controllers.error_code, controllers.brokers.len()), (MISMATCHED_ENDPOINT_TYPE, 0));
        }
    }
}

/// What one partition gives: code, offset, timestamp, leader epoch.
type Listed = (i16, i64, i64, i32);

/// Asks for places (partition, timestamp, current leader epoch) of one topic in one request.
fn list_offsets(client: &mut Client, version: i16, topic: &str, places: &[(i32, i64, i32)]) -> Vec<Listed> {
    let partition = |(index, timestamp, leader_epoch): &(i32, i64, i32)| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_timestamp(*timestamp)
            .with_current_leader_epoch(*leader_epoch)
    };
    let wanted =
        ListOffsetsTopic::default().with_name(name(topic)).with_partitions(places.iter().map(partition).collect());
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted]);
    let answer = client.ask(version, &request);
    let listed = |p: &ListOffsetsPartitionResponse| (p.error_code, p.offset, p.timestamp, p.leader_epoch);
    answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(listed)).collect()
}

#[test]
fn offsets_are_listed_in_every_version() {
    let (broker, mut client) = host();
    let named = unique("listed");
    assert_eq!(client.create(7, topic(&named, 2, 1)).error_code, NONE);
    client.wait_for(&named, 2);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let producer: BaseProducer = harness::records::config(&broker.bootstrap()).create().unwrap();
    for timestamp in [now, now + 20, now + 10] {
        // Each in a batch of its own.
        producer.send(BaseRecord::<(), str>::to(&named).partition(0).payload("x").timestamp(timestamp)).unwrap();
        producer.flush(wait::seconds(20)).unwrap();
    }
    let none = (NONE, -1, -1, -1);
    for version in 1..=11 {
        let found = |offset, timestamp| (NONE, offset, timestamp, if version >= 4 { 0 } else { -1 });
        let from =
            |first: i16, listed: Listed| if version >= first { listed } else { (UNSUPPORTED_VERSION, -1, -1, -1) };
        for (timestamp, expected, empty) in [
            (-1, found(3, -1), found(0, -1)),
            (-2, found(0, -1), found(0, -1)),
            (-3, from(7, found(1, now + 20)), from(7, none)),
            (-4, from(8, found(0, -1)), from(8, found(0, -1))),
            (-5, from(9, none), from(9, none)),
            (-6, from(11, none), from(11, none)),
            (-7, from(12, none), from(12, none)),
            (i64::MIN, from(12, none), from(12, none)),
            (0, found(0, now), none),
            (now, found(0, now), none),
            (now + 1, found(1, now + 20), none),
            (now + 21, none, none),
            (i64::MAX, none, none),
        ] {
            let listed = list_offsets(&mut client, version, &named, &[(0, timestamp, -1)]);
            assert_eq!(listed, [expected], "version {version}, {timestamp}");
            let listed = list_offsets(&mut client, version, &named, &[(1, timestamp, -1)]);
            assert_eq!(listed, [empty], "version {version}, {timestamp}, nothing there");
        }
    }
    for (timestamp, first) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (0, 1)] {
        let error = |code| [(code, -1, -1, -1)];
        let listed = list_offsets(&mut client, 11, &named, &[(2, timestamp, -1)]);
        assert_eq!(listed, error(UNKNOWN_TOPIC_OR_PARTITION), "{timestamp}");
        let listed = list_offsets(&mut client, first, &unique("nowhere"), &[(0, timestamp, -1)]);
        assert_eq!(listed, error(UNKNOWN_TOPIC_OR_PARTITION), "{timestamp}");
        let listed = list_offsets(&mut client, 11, &named, &[(0, timestamp, 7)]);
        assert_eq!(listed, error(UNKNOWN_LEADER_EPOCH), "{timestamp}");
    }
    // Named twice: each time. What is wrong with the one does not touch the other.
    let listed = list_offsets(&mut client, 11, &named, &[(0, -1, -1), (1, -1, -1), (0, -2, -1)]);
    let codes: Vec<_> = listed.iter().map(|listed| listed.0).collect();
    assert_eq!(codes.iter().filter(|code| **code == NONE).count(), 1, "{listed:?}");
    assert!(codes.contains(&INVALID_REQUEST), "{listed:?}");
}
