//! What the controller plans: a plain cluster of values, an intention, and the image that its records make. The words
//! expected are what Kafka 4.3.1 said. No I/O.

use super::super::image::Replay;
use super::super::records::{NoOpRecord, PartitionRecord};
use super::*;

/// A cluster of nodes 1.. that are all up, at offset 100, with the records applied.
fn cluster(nodes: i32, records: &[MetadataRecord]) -> Image {
    let mut replay = Replay::default();
    let mut all = Controller::bootstrap_records();
    for node in 1..=nodes {
        all.push(
            RegisterBrokerRecord {
                broker_id: node,
                broker_epoch: 7,
                fenced: false,
                log_dirs: vec![Uuid([node as u8; 16])],
                ..Default::default()
            }
            .into(),
        );
    }
    all.extend_from_slice(records);
    replay.apply(&all, Offset(100), LeaderEpoch(1)).unwrap();
    replay.image().clone()
}

fn controller() -> Controller {
    let next = std::cell::Cell::new(10u8);
    let mut broker = BrokerConfig::defaults();
    broker.num_partitions = 3;
    Controller::new(broker, move || Uuid([next.replace(next.get() + 1); 16]))
}

fn plan(image: &Image, intention: Intention) -> Plan {
    let plan = controller().plan(image, Offset(100), &intention);
    // Whatever is planned can be written and replayed.
    let mut replay = Replay::from_image(image.clone());
    replay.apply(&plan.records, Offset(200), LeaderEpoch(1)).unwrap();
    for record in &plan.records {
        record.encode(record.version_at(30)).unwrap();
        if let MetadataRecord::Topic(_) | MetadataRecord::Config(_) = record {
            record.encode(record.version_at(7)).unwrap();
        }
    }
    plan
}

fn after(image: &Image, plan: &Plan) -> Image {
    let mut replay = Replay::from_image(image.clone());
    replay.apply(&plan.records, Offset(200), LeaderEpoch(1)).unwrap();
    replay.image().clone()
}

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { name: name.to_string(), partitions, replication_factor, ..Default::default() }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let assignments = assignments.iter().map(|(number, nodes)| (*number, nodes.to_vec())).collect();
    NewTopic { assignments, ..topic(name, -1, -1) }
}

fn with_options(mut topic: NewTopic, options: &[(&str, Option<&str>)]) -> NewTopic {
    topic.configs = options.iter().map(|(name, value)| (name.to_string(), value.map(str::to_string))).collect();
    topic
}

/// Partitions and replication factor of what was created.
type Created = Result<(i32, i16), (Reason, String)>;

fn create(image: &Image, topics: &[NewTopic]) -> (Plan, Vec<(String, Created)>) {
    let plan = plan(image, Intention::CreateTopics { topics: topics.to_vec(), validate_only: false });
    let Answer::CreateTopics(answers) = plan.answer.clone() else { unreachable!() };
    let short = |result: Result<NewTopicAnswer, Refusal>| match result {
        Ok(topic) => Ok((topic.partitions, topic.replication_factor)),
        Err(refusal) => Err((refusal.reason, refusal.message.unwrap())),
    };
    (plan, answers.into_iter().map(|(name, result)| (name, short(result))).collect())
}

/// One topic, refused with Kafka 4.3.1's own words.
#[track_caller]
fn refused(image: &Image, topic: NewTopic, reason: Reason, words: &str) {
    let (plan, answers) = create(image, std::slice::from_ref(&topic));
    assert_eq!(answers, [(topic.name.clone(), Err((reason, words.to_string())))]);
    assert_eq!(plan.records, []);
}

#[test]
fn a_topic_becomes_topic_options_and_partitions_in_this_order() {
    let image = cluster(1, &[]);
    let orders = with_options(topic("orders", 2, 1), &[("retention.ms", Some("5000"))]);
    let (plan, answers) = create(&image, &[orders]);
    assert_eq!(answers, [("orders".to_string(), Ok((2, 1)))]);
    let names: Vec<_> = plan.records.iter().map(MetadataRecord::name).collect();
    assert_eq!(names, ["TopicRecord", "ConfigRecord", "PartitionRecord", "PartitionRecord"]);
    let MetadataRecord::Partition(record) = &plan.records[3] else { unreachable!() };
    let expected = PartitionRecord {
        partition_id: 1,
        topic_id: Uuid([10; 16]),
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: vec![Uuid([1; 16])],
        ..Default::default()
    };
    assert_eq!(*record, expected);
    let image = after(&image, &plan);
    assert_eq!(image.topic_config("orders").get("retention.ms").unwrap(), "5000");
}

#[test]
fn defaults_apply_where_minus_one_is_given() {
    let (_, answers) = create(&cluster(1, &[]), &[topic("a", -1, -1), topic("b", -1, 1), topic("c", 1, -1)]);
    let results: Vec<_> = answers.into_iter().map(|(_, result)| result.unwrap()).collect();
    assert_eq!(results, [(3, 1), (3, 1), (1, 1)]);
}

// The words of each refusal were taken from a running Kafka 4.3.1.
#[test]
fn topics_are_refused_in_kafkas_order_and_words() {
    let there = [TopicRecord { name: "a.b".to_string(), topic_id: Uuid([5; 16]), ..Default::default() }.into()];
    let image = cluster(1, &there);
    use Reason::*;
    refused(&image, topic("a.b", 0, 1), TopicExists, "Topic 'a.b' already exists.");
    refused(&image, topic("a_b", 0, 1), InvalidTopic, "Topic 'a_b' collides with existing topic: a.b");
    let words = "Topic name is invalid: ";
    refused(&image, topic("", 1, 1), InvalidTopic, &format!("{words}the empty string is not allowed"));
    refused(&image, topic(".", 1, 1), InvalidTopic, &format!("{words}'.' is not allowed"));
    refused(&image, topic("..", 1, 1), InvalidTopic, &format!("{words}'..' is not allowed"));
    let long = "x".repeat(250);
    let too_long = format!("{words}the length of '{long}' is longer than the max allowed length 249");
    refused(&image, topic(&long, 1, 1), InvalidTopic, &too_long);
    for name in ["b d", "ü", "a/b"] {
        let why =
            format!("{words}'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'");
        refused(&image, topic(name, 1, 1), InvalidTopic, &why);
    }
    let words = "Creation of internal topic __cluster_metadata is prohibited.";
    refused(&image, topic("__cluster_metadata", 1, 1), InvalidRequest, words);

    let rf0 = "Replication factor must be larger than 0, or -1 to use the default value.";
    refused(&image, topic("c", 1, 0), InvalidReplicationFactor, rf0);
    refused(&image, topic("c", 1, -2), InvalidReplicationFactor, rf0);
    refused(&image, topic("c", 0, 0), InvalidReplicationFactor, rf0);
    let rf2 = "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
               because only 1 broker(s) are registered or some brokers have all their log directories cordoned.";
    refused(&image, topic("c", 1, 2), InvalidReplicationFactor, rf2);
    let p0 = "Number of partitions was set to an invalid non-positive value.";
    refused(&image, topic("c", 0, 2), InvalidPartitions, p0);
    refused(&image, topic("c", -2, 1), InvalidPartitions, p0);

    let options = |options: &[(&str, Option<&str>)]| with_options(topic("c", 0, 1), options);
    let words = "Null value not supported for topic configs: retention.ms,segment.ms";
    refused(&image, options(&[("retention.ms", None), ("x", Some("")), ("segment.ms", None)]), InvalidConfig, words);
    refused(&image, options(&[("foo", Some("1"))]), InvalidConfig, "Unknown topic config name: foo");
    let words = "Invalid value abc for configuration retention.ms: Not a number of type LONG";
    refused(&image, options(&[("retention.ms", Some("abc"))]), InvalidConfig, words);

    let words = "Excessively large number of partitions per request.";
    refused(&image, topic("c", 10_001, 1), PolicyViolation, words);
    refused(&image, topic("c", i32::MAX, 1), PolicyViolation, words);
    refused(&image, topic("c", 10_000, 1), PolicyViolation, "Unable to perform excessively large batch operation.");
    let fenced = cluster(0, &[RegisterBrokerRecord { broker_id: 1, ..Default::default() }.into()]);
    let words = "Unable to replicate the partition 1 time(s): All brokers are currently fenced.";
    refused(&fenced, topic("c", 1, 1), InvalidReplicationFactor, words);
}

#[test]
fn assignments_by_hand_are_judged_as_kafka_does() {
    let image = cluster(1, &[]);
    use Reason::*;
    let with = |partitions, factor| NewTopic { partitions, replication_factor: factor, ..assigned("m", &[(0, &[1])]) };
    let clash = |what: &str| format!("A manual partition assignment was specified, but {what} was not set to -1.");
    refused(&image, with(-1, 1), InvalidRequest, &clash("replication factor"));
    refused(&image, with(1, 1), InvalidRequest, &clash("replication factor"));
    refused(&image, with(1, -1), InvalidRequest, &clash("numPartitions"));
    let check = |assignments: &[(i32, &[i32])], words: &str| {
        refused(&image, assigned("m", assignments), InvalidReplicaAssignment, words);
    };
    check(&[(0, &[1]), (0, &[1])], "Found multiple manual partition assignments for partition 0");
    check(&[(0, &[1]), (2, &[1])], "partitions should be a consecutive 0-based integer sequence");
    check(&[(-1, &[1])], "partitions should be a consecutive 0-based integer sequence");
    check(&[(0, &[])], "The manual partition assignment includes an empty replica list.");
    let words = "The manual partition assignment includes broker 7, but no such broker is registered.";
    check(&[(0, &[7])], words);
    check(&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once.");

    let (_, answers) = create(&image, &[assigned("m", &[(1, &[1]), (0, &[1])])]);
    assert_eq!(answers[0].1, Ok((2, 1)));
    let two = cluster(2, &[]);
    let words = "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent \
                 with previous partitions, which have 2 replica(s).";
    refused(&two, assigned("m", &[(0, &[1, 2]), (1, &[1])]), InvalidReplicaAssignment, words);
    let (plan, _) = create(&two, &[assigned("m", &[(0, &[2, 1])])]);
    let state = after(&two, &plan).topic("m").unwrap().partitions[&0].clone();
    assert_eq!((state.leader, &state.isr[..], state.directories[0]), (Some(NodeId(2)), &[2, 1][..], Uuid([2; 16])));
}

#[test]
fn one_bad_topic_does_not_fail_the_rest() {
    let image = cluster(1, &[]);
    let topics = [
        topic("d", 1, 1),
        topic("ok", 1, 1),
        topic("d", 1, 1),
        topic("bad!", 1, 1),
        topic("q.b", 1, 1),
        topic("q_b", 1, 1),
    ];
    let (plan, answers) = create(&image, &topics);
    let short: Vec<_> = answers.iter().map(|(name, result)| (&name[..], result.is_ok())).collect();
    // Names that collide only with each other pass, as they do in Kafka.
    assert_eq!(short, [("ok", true), ("bad!", false), ("q.b", true), ("q_b", true), ("d", false)]);
    assert_eq!(after(&image, &plan).topics().len(), 3);
    let topics = topics.to_vec();
    let only =
        Controller::plan(&controller(), &image, Offset(1), &Intention::CreateTopics { topics, validate_only: true });
    assert_eq!((only.records.len(), only.answer), (0, plan.answer));
}

#[test]
fn partitions_are_spread_over_hosts_and_replicas_never_share_one() {
    let image = cluster(3, &[]);
    let (plan, _) = create(&image, &[topic("t", 6, 2)]);
    let topic = after(&image, &plan).topic("t").unwrap().clone();
    for node in 1..=3 {
        assert_eq!(topic.partitions.values().filter(|state| state.leader == Some(NodeId(node))).count(), 2);
    }
    assert!(topic.partitions.values().all(|state| state.replicas[0] != state.replicas[1]));
}

fn grow(
    image: &Image,
    name: &str,
    count: i32,
    assignments: Option<&[&[i32]]>,
) -> (Plan, Result<(), (Reason, Option<String>)>) {
    let assignments = assignments.map(|list| list.iter().map(|nodes| nodes.to_vec()).collect());
    let topics = vec![MorePartitions { name: name.to_string(), count, assignments }];
    let plan = plan(image, Intention::CreatePartitions { topics, validate_only: false });
    let Answer::CreatePartitions(mut answers) = plan.answer.clone() else { unreachable!() };
    (plan, answers.remove(0).1.map_err(|refusal| (refusal.reason, refusal.message)))
}

#[test]
fn topics_only_grow() {
    let image = cluster(1, &[]);
    let image = after(&image, &create(&image, &[topic("t", 3, 1)]).0);
    use Reason::*;
    let check = |count, assignments: Option<&[&[i32]]>, reason, words: &str| {
        let (plan, result) = grow(&image, "t", count, assignments);
        assert_eq!((result, plan.records.len()), (Err((reason, Some(words.to_string()))), 0));
    };
    check(3, None, InvalidPartitions, "Topic already has 3 partition(s).");
    check(1, None, InvalidPartitions, "The topic t currently has 3 partition(s); 1 would not be an increase.");
    check(-1, None, InvalidPartitions, "The topic t currently has 3 partition(s); -1 would not be an increase.");
    let words = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    check(5, Some(&[&[1]]), InvalidReplicaAssignment, words);
    let words = "The manual partition assignment includes broker 9, but no such broker is registered.";
    check(4, Some(&[&[9]]), InvalidReplicaAssignment, words);
    let words = "The manual partition assignment includes an empty replica list.";
    check(4, Some(&[&[]]), InvalidReplicaAssignment, words);
    check(i32::MAX, None, PolicyViolation, "Unable to perform excessively large batch operation.");
    assert_eq!(grow(&image, "none", 4, None).1, Err((UnknownTopicOrPartition, None)));

    let (plan, result) = grow(&image, "t", 5, None);
    assert_eq!((result, plan.records.len()), (Ok(()), 2));
    let grown = after(&image, &plan);
    assert_eq!(grown.topic("t").unwrap().partitions.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(grow(&image, "t", 4, Some(&[&[1]])).1, Ok(()));
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let image = cluster(1, &[]);
    let image = after(&image, &create(&image, &[topic("a", 1, 1), topic("b", 1, 1)]).0);
    let (a, b, none) = (image.topic("a").unwrap().id, image.topic("b").unwrap().id, Uuid([77; 16]));
    let named = |name: &str| TopicToDelete { name: Some(name.to_string()), id: Uuid::ZERO };
    let with_id = |id| TopicToDelete { name: None, id };
    let check = |topics: &[TopicToDelete], expected: &[(Option<&str>, Uuid, Result<(), &str>)]| {
        let plan = plan(&image, Intention::DeleteTopics { topics: topics.to_vec() });
        let Answer::DeleteTopics(answers) = &plan.answer else { unreachable!() };
        let short = |topic: &DeletedTopic| {
            (topic.name.clone(), topic.id, topic.result.clone().map_err(|refusal| refusal.message.unwrap()))
        };
        let got: Vec<_> = answers.iter().map(short).collect();
        let own = |(name, id, result): &(Option<&str>, Uuid, Result<(), &str>)| {
            (name.map(str::to_string), *id, result.map_err(str::to_string))
        };
        assert_eq!(got, expected.iter().map(own).collect::<Vec<_>>());
        let deleted = expected.iter().filter(|(.., result)| result.is_ok()).count();
        assert_eq!(after(&image, &plan).topics().len(), 2 - deleted);
    };
    check(&[named("a"), with_id(b)], &[(Some("a"), a, Ok(())), (Some("b"), b, Ok(()))]);
    check(&[named("z")], &[(Some("z"), Uuid::ZERO, Err("This server does not host this topic-partition."))]);
    check(&[with_id(none)], &[(None, none, Err("This server does not host this topic ID."))]);
    check(&[with_id(Uuid::ZERO)], &[(None, Uuid::ZERO, Err("Neither topic name nor id were specified."))]);
    let both = TopicToDelete { name: Some("a".to_string()), id: a };
    check(&[both], &[(Some("a"), a, Err("You may not specify both topic name and topic id."))]);
    check(&[named("a"), named("a")], &[(Some("a"), Uuid::ZERO, Err("Duplicate topic name."))]);
    check(&[with_id(a), with_id(a)], &[(None, a, Err("Duplicate topic id."))]);
    let words = "The provided topic name maps to an ID that was already supplied.";
    check(&[named("a"), with_id(a)], &[(Some("a"), a, Err(words))]);
}

#[test]
fn producer_ids_come_in_blocks_that_never_repeat() {
    let mut image = cluster(1, &[]);
    for first in [0, 1000, 2000] {
        let plan = plan(&image, Intention::AllocateProducerIds { node: NodeId(1) });
        assert_eq!(plan.answer, Answer::AllocateProducerIds(Ok(ProducerIds { first, count: 1000 })));
        image = after(&image, &plan);
    }
    let last = ProducerIdsRecord { next_producer_id: i64::MAX - 5, ..Default::default() }.into();
    let plan = plan(&cluster(1, &[last]), Intention::AllocateProducerIds { node: NodeId(1) });
    assert!(matches!(plan.answer, Answer::AllocateProducerIds(Err(Refusal { reason: Reason::Exhausted, .. }))));
}

fn registration() -> Registration {
    let endpoint = Endpoint { name: "PLAINTEXT".to_string(), host: "h".to_string(), port: 9092, security_protocol: 0 };
    Registration {
        node: NodeId(1),
        incarnation: Uuid([3; 16]),
        endpoints: vec![endpoint],
        rack: None,
        log_dirs: vec![Uuid([1; 16])],
        placed: Vec::new(),
    }
}

#[test]
fn a_start_registers_and_opens_a_new_leader_epoch() {
    let image = cluster(1, &[]);
    let image = after(&image, &create(&image, &[topic("t", 2, 1)]).0);
    let plan = plan(&image, Intention::RegisterBroker(registration()));
    assert_eq!(plan.answer, Answer::RegisterBroker(Ok(100)));
    let image = after(&image, &plan);
    let broker = image.broker(NodeId(1)).unwrap();
    assert_eq!((broker.fenced, broker.broker_epoch, broker.end_points[0].port), (false, 100, 9092));
    let state = &image.topic("t").unwrap().partitions[&1];
    assert_eq!((state.leader, state.leader_epoch, state.partition_epoch), (Some(NodeId(1)), LeaderEpoch(1), 1));
}

/// A node with the directories 1 to `count`, and a topic of `partitions`.
fn with_directories(count: u8, partitions: i32) -> Image {
    let log_dirs = (1..=count).map(|id| Uuid([id; 16])).collect();
    let registered = RegisterBrokerRecord { broker_id: 1, fenced: false, log_dirs, ..Default::default() };
    let image = cluster(0, &[registered.into()]);
    created(&image, &[topic("t", partitions, 1)])
}

/// Creates topics, each with another id than those before.
fn created(image: &Image, topics: &[NewTopic]) -> Image {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(100);
    let draw = || Uuid([NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 16]);
    let intention = Intention::CreateTopics { topics: topics.to_vec(), validate_only: false };
    after(image, &Controller::new(BrokerConfig::defaults(), draw).plan(image, Offset(100), &intention))
}

fn directories_of(image: &Image, name: &str) -> Vec<u8> {
    image.topic(name).unwrap().partitions.values().map(|state| state.directories[0].0[0]).collect()
}

#[test]
fn new_partitions_go_to_the_directory_with_the_fewest() {
    let image = with_directories(3, 7);
    assert_eq!(directories_of(&image, "t"), [1, 2, 3, 1, 2, 3, 1]);
    // Several topics of one request, and partitions that are added, count each other.
    let image = created(&image, &[topic("u", 1, 1), topic("v", 2, 1)]);
    assert_eq!((directories_of(&image, "u"), directories_of(&image, "v")), (vec![2], vec![3, 1]));
    let image = after(&image, &grow(&image, "u", 3, None).0);
    assert_eq!(directories_of(&image, "u"), [2, 2, 3]);
    // What is deleted counts no more.
    let gone = TopicToDelete { name: Some("t".to_string()), id: Uuid::ZERO };
    let image = after(&image, &plan(&image, Intention::DeleteTopics { topics: vec![gone] }));
    let image = created(&image, &[topic("w", 2, 1)]);
    assert_eq!(directories_of(&image, "w"), [1, 1]);
    // A cordoned directory takes nothing new (KIP-1066).
    let cordoned_log_dirs = Some(vec![Uuid([1; 16])]);
    let cordon =
        BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: -1, cordoned_log_dirs, ..Default::default() };
    let mut replay = Replay::from_image(image);
    let epoch = replay.image().broker(NodeId(1)).unwrap().broker_epoch;
    let cordon = BrokerRegistrationChangeRecord { broker_epoch: epoch, ..cordon };
    replay.apply(&[cordon.into()], Offset(300), LeaderEpoch(1)).unwrap();
    let image = replay.image().clone();
    let image = created(&image, &[topic("x", 3, 1)]);
    assert!(!directories_of(&image, "x").contains(&1));
}

/// Which partitions have a leader. Those that have none lie in a directory that is offline.
fn leaders_of(image: &Image, name: &str) -> Vec<bool> {
    let partitions = image.topic(name).unwrap().partitions.values();
    partitions
        .map(|state| {
            let is_led = state.leader.is_some();
            assert_eq!(image.is_offline(NodeId(1), state), !is_led);
            is_led
        })
        .collect()
}

#[test]
fn a_replica_is_offline_by_its_directory() {
    let (image, id) = (with_directories(2, 1), |byte| Uuid([byte; 16]));
    let reserved = |number| Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]);
    let mut state = image.topic("t").unwrap().partitions[&0].clone();
    for (directory, expected) in
        [(id(1), false), (id(7), true), (reserved(0), false), (reserved(1), false), (reserved(2), true)]
    {
        state.directories = vec![directory];
        assert_eq!(image.is_offline(NodeId(1), &state), expected, "{directory}");
    }
    assert!(image.is_offline(NodeId(2), &state), "it is not registered");
}

#[test]
fn what_is_wished_of_a_partition_to_come_is_done_once() {
    let id = |byte| Uuid([byte; 16]);
    let image = with_directories(3, 1);
    let controller = controller();
    let plan = |image: &Image, intention: Intention| controller.plan(image, Offset(100), &intention);
    let wish = |topic: &str, partition: i32, directory: u8| Wish {
        topic: topic.to_string(),
        partition,
        directory: id(directory),
    };
    let wishes = vec![
        wish("u", 0, 3),
        wish("u", 1, 1),
        wish("u", 1, 3),
        // One that is not there, one that exists, and what can never be.
        wish("u", 2, 9),
        wish("t", 0, 3),
        wish("t", 2, 3),
        wish("u", -1, 3),
        wish("a b", 0, 3),
    ];
    let noted = plan(&image, Intention::WishDirectories { wishes });
    assert_eq!((noted.records.len(), noted.answer), (0, Answer::WishDirectories));
    assert_eq!(controller.wishes.borrow().0.len(), 4);

    let create = |validate_only| Intention::CreateTopics { topics: vec![topic("u", 4, 1)], validate_only };
    plan(&image, create(true));
    let image = after(&image, &plan(&image, create(false)));
    // The others go where the fewest are: directory 1 has one of the topic that was there.
    assert_eq!(directories_of(&image, "u"), [3, 3, 2, 1]);
    controller.forget_fulfilled(&image);
    let more = vec![MorePartitions { name: "t".to_string(), count: 3, assignments: None }];
    let image = after(&image, &plan(&image, Intention::CreatePartitions { topics: more, validate_only: false }));
    assert_eq!(directories_of(&image, "t"), [1, 2, 3]);
    controller.forget_fulfilled(&image);
    assert_eq!(controller.wishes.borrow().0.len(), 0);

    // There is an end to what is remembered; what is there can still change.
    let many = (0..WISHES_MAX as i32 + 5).map(|number| wish("many", number, 1)).chain([wish("many", 7, 2)]);
    plan(&image, Intention::WishDirectories { wishes: many.collect() });
    let wishes = controller.wishes.borrow();
    assert_eq!((wishes.0.len(), wishes.of("many", 7)), (WISHES_MAX, Some(id(2))));
}

#[test]
fn nobody_leads_what_lies_in_a_directory_that_failed_until_it_is_back() {
    let id = |byte| Uuid([byte; 16]);
    let image = with_directories(2, 3);
    let offline = |directories| Intention::DirectoriesOffline { node: NodeId(1), directories };
    let image = after(&image, &plan(&image, offline(vec![id(1), id(7)])));
    assert_eq!(leaders_of(&image, "t"), [false, true, false]);
    assert_eq!(image.broker(NodeId(1)).unwrap().log_dirs, [id(2)]);
    assert_eq!(image.topic("t").unwrap().partitions[&0].isr, [1]);
    assert_eq!(plan(&image, offline(vec![id(1)])).records.len(), 0, "once");
    let image = created(&image, &[topic("u", 2, 1)]);
    assert_eq!(directories_of(&image, "u"), [2, 2]);

    // A start without it, and one with it.
    let start = |image: &Image, log_dirs: &[u8], placed: Vec<Placed>| {
        let log_dirs = log_dirs.iter().map(|byte| id(*byte)).collect();
        let registration = Registration { log_dirs, placed, ..registration() };
        after(image, &plan(image, Intention::RegisterBroker(registration)))
    };
    let without = start(&image, &[2], vec![]);
    assert_eq!((leaders_of(&without, "t"), leaders_of(&without, "u")), (vec![false, true, false], vec![true; 2]));
    let with = start(&without, &[1, 2], vec![]);
    assert_eq!(leaders_of(&with, "t"), [true; 3]);
    // Killed, and then a drive is missing: nobody had time to say so.
    let without = start(&with, &[1], vec![]);
    assert_eq!(leaders_of(&without, "t"), [true, false, true]);
    assert_eq!(leaders_of(&without, "u"), [false; 2]);
    // It was found elsewhere: there it is led.
    let t = with.topic("t").unwrap().id;
    let found = Placed { topic: t, partition: 1, directory: id(1) };
    let moved = start(&without, &[1], vec![found]);
    assert_eq!((leaders_of(&moved, "t"), directories_of(&moved, "t")), (vec![true; 3], vec![1, 1, 1]));
}

#[test]
fn a_replica_is_assigned_to_another_directory() {
    let image = with_directories(2, 2);
    let topic = image.topic("t").unwrap().id;
    let placed = |partition, directory| Placed { topic, partition, directory: Uuid([directory; 16]) };
    let assign = |placed| Intention::AssignDirectories { node: NodeId(1), placed };
    let done = plan(&image, assign(vec![placed(0, 2), placed(1, 2), placed(9, 2)]));
    assert_eq!((done.records.len(), done.answer.clone()), (1, Answer::AssignDirectories));
    let image = after(&image, &done);
    assert_eq!((directories_of(&image, "t"), leaders_of(&image, "t")), (vec![2, 2], vec![true; 2]));
    assert_eq!(image.topic("t").unwrap().partitions[&0].leader_epoch, LeaderEpoch(0));
}

#[test]
fn a_partition_is_led_again_only_by_who_holds_it() {
    let record = PartitionRecord {
        replicas: vec![1, 2],
        isr: vec![],
        leader: -1,
        leader_epoch: 4,
        partition_epoch: 4,
        ..Default::default()
    };
    let check = |change: &dyn Fn(&mut PartitionRecord), expected: Option<Option<Vec<i32>>>| {
        let mut record = record.clone();
        change(&mut record);
        let head = TopicRecord { name: "t".to_string(), topic_id: Uuid([9; 16]), ..Default::default() };
        (record.topic_id, record.partition_id) = (Uuid([9; 16]), 0);
        let image = cluster(0, &[head.into(), record.into()]);
        let plan = plan(&image, Intention::RegisterBroker(registration()));
        let changed = plan.records.iter().find_map(|record| match record {
            MetadataRecord::PartitionChange(record) => Some(record.isr.clone()),
            _ => None,
        });
        assert_eq!(changed, expected);
    };
    check(&|_| (), None);
    check(&|record| record.isr = vec![1, 2], Some(None));
    // As Kafka leaves it after a controlled shutdown.
    check(&|record| record.eligible_leader_replicas = Some(vec![1]), Some(Some(vec![1])));
    check(&|record| record.eligible_leader_replicas = Some(vec![2]), None);
    check(&|record| (record.leader, record.isr) = (2, vec![1, 2]), None);
    check(&|record| (record.leader, record.isr) = (1, vec![1]), Some(None));
}

#[test]
fn a_cluster_with_features_we_lack_is_not_joined() {
    let feature = FeatureLevelRecord { name: "share.version".to_string(), feature_level: 2, ..Default::default() };
    let plan_of = |image: &Image| plan(image, Intention::RegisterBroker(registration())).answer;
    let Answer::RegisterBroker(Err(refusal)) = plan_of(&cluster(0, &[feature.into()])) else { panic!() };
    assert_eq!(refusal.reason, Reason::UnsupportedVersion);
    assert!(refusal.message.unwrap().contains("does not support finalized version 2 of share.version"));
    // What Kafka 4.3 finalizes by itself stays.
    let kept = ACCEPTED_FEATURES.iter().map(|(name, level)| {
        FeatureLevelRecord { name: name.to_string(), feature_level: *level, ..Default::default() }.into()
    });
    let image = cluster(0, &kept.collect::<Vec<MetadataRecord>>());
    let Plan { answer: Answer::RegisterBroker(Ok(_)), records } =
        plan(&image, Intention::RegisterBroker(registration()))
    else {
        panic!()
    };
    let MetadataRecord::RegisterBroker(record) = &records[0] else { panic!() };
    for (name, level) in image.features() {
        let said = record.features.iter().find(|feature| feature.name == name).unwrap();
        assert!((said.min_supported_version..=said.max_supported_version).contains(&level), "{name} {level}");
    }
    let newer = FeatureLevelRecord { name: METADATA_VERSION.to_string(), feature_level: 31, ..Default::default() };
    assert!(matches!(plan_of(&cluster(0, &[newer.into()])), Answer::RegisterBroker(Err(_))));
    assert!(matches!(plan_of(&cluster(0, &[NoOpRecord::default().into()])), Answer::RegisterBroker(Ok(100))));
}
