//! AlterConfigs and IncrementalAlterConfigs: options of topics and brokers change while the broker runs, and what
//! changed takes effect at once, on every core, and again after a restart.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same conversations run against Apache Kafka: its codes and words are expected.

mod harness;

use corelog::record::Codec;
use harness::broker::{Broker, Options};
use harness::client::{Client, batch, now_ms, text};
use harness::{unique, wait};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::*;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 2;
const FROM_ALL_BROKERS: i8 = 3;
const FROM_DEFAULT: i8 = 5;

type Change<'a> = (&'a str, i8, Option<&'a str>);

/// Code and words of one change of one resource.
fn alter(client: &mut Client, version: i16, kind: i8, name: &str, changes: &[Change]) -> (i16, Option<String>) {
    alter_or_validate(client, version, kind, name, changes, false)
}

fn alter_or_validate(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    changes: &[Change],
    validate_only: bool,
) -> (i16, Option<String>) {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let option = |(name, op, value): &Change| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*op).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(option).collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    let answer = client.ask(version, &request).responses.remove(0);
    assert_eq!((answer.resource_type, &*answer.resource_name), (kind, name));
    (answer.error_code, answer.error_message.map(|words| words.to_string()))
}

/// Sets all options of a resource, the old way.
fn replace(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    options: &[(&str, Option<&str>)],
) -> (i16, Option<String>) {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let option = |(name, value): &(&str, Option<&str>)| {
        AlterableConfig::default().with_name(text(name)).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(options.iter().map(option).collect());
    let answer = client.ask(version, &AlterConfigsRequest::default().with_resources(vec![resource]));
    let answer = answer.responses.into_iter().next().unwrap();
    (answer.error_code, answer.error_message.map(|words| words.to_string()))
}

fn described(client: &mut Client, kind: i8, name: &str, option: &str) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(option)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    client.ask(4, &request).results.remove(0).configs.into_iter().next()
}

/// Waits until an option has a value from a source: Apache Kafka answers before its broker knows.
#[track_caller]
fn shows(client: &mut Client, kind: i8, name: &str, option: &str, value: &str, source: i8) {
    let mut last = None;
    wait::until(&format!("{option}={value} from {source} of {name:?}"), wait::seconds(30), || {
        last = described(client, kind, name, option);
        let shown = last.as_ref()?;
        (shown.value.as_deref() == Some(value) && shown.config_source == source).then_some(())
    });
}

/// A broker that is one for its clients, so that Apache Kafka's answers fit; and its number.
fn host() -> (Broker, Client, String) {
    let broker = Broker::with(Options { advertise: "host", ..Options::default() });
    let mut client = Client::to(broker.addresses()[0]);
    let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![])));
    let own = metadata.brokers[0].node_id.0.to_string();
    (broker, client, own)
}

#[test]
fn options_of_a_topic_change_one_by_one() {
    let (_broker, mut client, _) = host();
    let done = (NONE, None);
    for version in 0..=1 {
        let topic = unique("changed");
        client.create_with(&topic, 1, &[("retention.ms", "1000")]);
        let changes = [("retention.ms", SET, Some("2000")), ("segment.ms", SET, Some("70"))];
        assert_eq!(alter(&mut client, version, TOPIC, &topic, &changes), done);
        shows(&mut client, TOPIC, &topic, "retention.ms", "2000", FROM_TOPIC);
        shows(&mut client, TOPIC, &topic, "segment.ms", "70", FROM_TOPIC);
        assert_eq!(alter(&mut client, version, TOPIC, &topic, &[("retention.ms", DELETE, None)]), done);
        shows(&mut client, TOPIC, &topic, "retention.ms", "604800000", FROM_DEFAULT);
        assert_eq!(alter(&mut client, version, TOPIC, &topic, &[("cleanup.policy", APPEND, Some("compact"))]), done);
        shows(&mut client, TOPIC, &topic, "cleanup.policy", "delete,compact", FROM_TOPIC);
        assert_eq!(alter(&mut client, version, TOPIC, &topic, &[("cleanup.policy", SUBTRACT, Some("delete"))]), done);
        shows(&mut client, TOPIC, &topic, "cleanup.policy", "compact", FROM_TOPIC);
        // Only looked at: nothing changes.
        let changes = [("segment.ms", SET, Some("80"))];
        assert_eq!(alter_or_validate(&mut client, version, TOPIC, &topic, &changes, true), done);
        // What takes effect after it would have shown it.
        assert_eq!(alter(&mut client, version, TOPIC, &topic, &[("retention.ms", SET, Some("3000"))]), done);
        shows(&mut client, TOPIC, &topic, "retention.ms", "3000", FROM_TOPIC);
        shows(&mut client, TOPIC, &topic, "segment.ms", "70", FROM_TOPIC);
    }
}

#[test]
fn all_options_change_the_old_way() {
    let (_broker, mut client, own) = host();
    for version in 0..=2 {
        let topic = unique("replaced");
        client.create_with(&topic, 1, &[("retention.ms", "1000"), ("segment.ms", "70")]);
        assert_eq!(replace(&mut client, version, TOPIC, &topic, &[("segment.ms", Some("80"))]), (NONE, None));
        shows(&mut client, TOPIC, &topic, "segment.ms", "80", FROM_TOPIC);
        shows(&mut client, TOPIC, &topic, "retention.ms", "604800000", FROM_DEFAULT);
        let refused = |code, words: &str| (code, Some(words.to_string()));
        let null = [("segment.ms", None), ("foo", None)];
        let words = "Null value not supported for : segment.ms, foo";
        assert_eq!(replace(&mut client, version, TOPIC, &topic, &null), refused(INVALID_REQUEST, words));
        let twice = [("segment.ms", Some("5")), ("segment.ms", Some("5"))];
        let words = "Error due to duplicate config keys";
        assert_eq!(replace(&mut client, version, TOPIC, &topic, &twice), refused(INVALID_REQUEST, words));
        let words = "Unknown topic config name: foo";
        assert_eq!(replace(&mut client, version, TOPIC, &topic, &[("foo", Some("5"))]), refused(INVALID_CONFIG, words));
        let words = "Unknown resource type 8";
        assert_eq!(replace(&mut client, version, 8, &own, &[]), refused(INVALID_REQUEST, words));
        assert_eq!(replace(&mut client, version, TOPIC, &topic, &[]), (NONE, None));
        shows(&mut client, TOPIC, &topic, "segment.ms", "604800000", FROM_DEFAULT);
    }
}

#[test]
fn refusals_have_kafkas_codes_and_words() {
    let (_broker, mut client, own) = host();
    let topic = unique("refused");
    client.create_with(&topic, 1, &[]);
    let mut refused = |kind: i8, name: &str, changes: &[Change], code: i16, words: &str| {
        let got = alter(&mut client, 1, kind, name, changes);
        assert_eq!(got, (code, Some(words.to_string())), "{kind} {name} {changes:?}");
    };
    let wrong = "Invalid value x for configuration retention.ms: Not a number of type LONG";
    refused(TOPIC, &topic, &[("retention.ms", SET, Some("x"))], INVALID_CONFIG, wrong);
    let unknown = [("segment.ms", SET, Some("5")), ("foo", SET, Some("1"))];
    refused(TOPIC, &topic, &unknown, INVALID_CONFIG, "Unknown topic config name: foo");
    let null = [("segment.ms", SET, None)];
    refused(TOPIC, &topic, &null, INVALID_REQUEST, "Null value not supported for : segment.ms");
    let twice = [("segment.ms", SET, Some("5")), ("segment.ms", DELETE, None)];
    refused(TOPIC, &topic, &twice, INVALID_REQUEST, "Error due to duplicate config keys");
    let no_list = "Can't APPEND to key retention.ms because its type is not LIST.";
    refused(TOPIC, &topic, &[("retention.ms", APPEND, Some("5"))], INVALID_CONFIG, no_list);
    let no_list = "Can't SUBTRACT to key foo because its type is not LIST.";
    refused(TOPIC, &topic, &[("foo", SUBTRACT, Some("5"))], INVALID_CONFIG, no_list);
    let nowhere = unique("nowhere");
    let words = format!("The topic '{nowhere}' does not exist.");
    refused(TOPIC, &nowhere, &[("segment.ms", SET, Some("5"))], UNKNOWN_TOPIC_OR_PARTITION, &words);
    refused(TOPIC, "", &[], INVALID_REQUEST, "Default topic resources are not allowed.");
    refused(99, "x", &[], INVALID_REQUEST, "Unknown resource type 99");

    let fixed = "Cannot update these configs dynamically: [node.id]";
    let two = [("node.id", SET, Some("5")), ("log.retention.ms", SET, Some("x"))];
    refused(BROKER, &own, &two, INVALID_REQUEST, fixed);
    refused(BROKER, "", &two, INVALID_REQUEST, fixed);
    let wrong = "Invalid value x for configuration log.retention.ms: Not a number of type LONG";
    refused(BROKER, "", &[("log.retention.ms", SET, Some("x"))], INVALID_REQUEST, wrong);
    let words = format!("Unexpected broker id, expected {own}, but received 77");
    refused(BROKER, "77", &[("log.retention.ms", SET, Some("5"))], INVALID_REQUEST, &words);
    refused(BROKER, "x", &[], INVALID_REQUEST, "Node id must be an integer, but it is: x");
    refused(BROKER, "", &[("log.retention.ms", 9, Some("5"))], INVALID_REQUEST, "Unknown operations type 9");
    let no_list = "Config value append is not allowed for config key: log.retention.ms";
    refused(BROKER, "", &[("log.retention.ms", APPEND, Some("5"))], INVALID_CONFIG, no_list);
    refused(8, &own, &[("no.such.Logger", SET, Some("INFO"))], INVALID_CONFIG, "Logger no.such.Logger does not exist!");

    // The same resource twice: each time; others are not touched.
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let set = |topic: &str| {
        let option = AlterableConfig::default().with_name(text("segment.ms")).with_value(Some(text("90")));
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(vec![option])
    };
    let other = unique("other");
    client.create_with(&other, 1, &[]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![set(&topic), set(&other), set(&topic)]);
    let codes: Vec<_> = client.ask(1, &request).responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [INVALID_REQUEST, NONE, INVALID_REQUEST]);
    shows(&mut client, TOPIC, &other, "segment.ms", "90", FROM_TOPIC);
    shows(&mut client, TOPIC, &topic, "segment.ms", "604800000", FROM_DEFAULT);
}

/// `max.message.bytes` decides about the next batch, whoever set it last: topic, broker, all brokers. On each core.
#[test]
fn a_change_takes_effect_at_once_and_after_a_restart() {
    let mut broker = Broker::start();
    let addresses = broker.addresses();
    let mut client = Client::to(addresses[0]);
    let (plain, own) = (unique("plain"), unique("own"));
    client.create_with(&plain, 8, &[]);
    client.create_with(&own, 8, &[]);
    // Produces to a partition of each core; what it says once all say the same.
    let is_corelog = broker.is_corelog();
    let outcome = |topic: &str, expected: i16| {
        let mut clients: Vec<Client> = addresses.iter().map(|address| Client::to(*address)).collect();
        let brokers = clients[0].ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
        let shown = clients[0].metadata(12, topic);
        for (client, address) in clients.iter_mut().zip(&addresses) {
            let id = brokers.iter().find(|broker| broker.port == i32::from(address.port())).unwrap().node_id;
            let led = shown.partitions.iter().find(|partition| partition.leader_id == id).unwrap();
            let mut produce = || {
                let large = batch(Codec::None, now_ms(), &[&[b'x'; 500]]);
                client.produce(topic, led.partition_index, large).0
            };
            match is_corelog {
                true => assert_eq!(produce(), expected, "{topic} at {address}"),
                // It answers before it knows.
                false => wait::until("the effect", wait::seconds(30), || (produce() == expected).then_some(())),
            }
        }
    };
    outcome(&plain, NONE);
    let done = (NONE, None);
    assert_eq!(alter(&mut client, 1, TOPIC, &own, &[("max.message.bytes", SET, Some("400"))]), done);
    outcome(&own, MESSAGE_TOO_LARGE);
    outcome(&plain, NONE);

    // The number of the one that answers on this address.
    let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
    let here = brokers.iter().find(|broker| broker.port == i32::from(addresses[0].port())).unwrap().node_id.0;
    let here = here.to_string();
    assert_eq!(alter(&mut client, 1, BROKER, "", &[("message.max.bytes", SET, Some("300"))]), done);
    outcome(&plain, MESSAGE_TOO_LARGE);
    shows(&mut client, BROKER, "", "message.max.bytes", "300", FROM_ALL_BROKERS);
    shows(&mut client, TOPIC, &plain, "max.message.bytes", "300", FROM_ALL_BROKERS);
    assert_eq!(alter(&mut client, 1, BROKER, &here, &[("message.max.bytes", SET, Some("900"))]), done);
    outcome(&plain, NONE);
    outcome(&own, MESSAGE_TOO_LARGE);
    shows(&mut client, BROKER, &here, "message.max.bytes", "900", FROM_BROKER);
    shows(&mut client, TOPIC, &plain, "max.message.bytes", "900", FROM_BROKER);
    let shown = described(&mut client, BROKER, &here, "message.max.bytes").unwrap();
    let synonyms: Vec<_> = shown.synonyms.iter().map(|s| (s.source, s.value.as_deref().unwrap_or("null"))).collect();
    assert_eq!(synonyms, [(FROM_BROKER, "900"), (FROM_ALL_BROKERS, "300"), (FROM_DEFAULT, "1048588")]);
    // A name that nobody knows is kept, for plug-ins.
    assert_eq!(alter(&mut client, 1, BROKER, &here, &[("plug.in.option", SET, Some("z"))]), done);
    let shown = wait::until("the option that nobody knows", wait::seconds(30), || {
        described(&mut client, BROKER, &here, "plug.in.option")
    });
    // It may be a secret.
    assert_eq!((shown.value.as_deref(), shown.is_sensitive, shown.config_source), (None, true, FROM_BROKER));
    assert_eq!((shown.read_only, shown.config_type), (true, 0));

    if is_corelog {
        drop(client);
        for kill in [true, false] {
            if kill {
                broker.kill()
            } else {
                broker.stop()
            }
            broker.launch();
            outcome(&plain, NONE);
            outcome(&own, MESSAGE_TOO_LARGE);
        }
        client = Client::to(addresses[0]);
        shows(&mut client, BROKER, &here, "message.max.bytes", "900", FROM_BROKER);
    }
    let gone = [("message.max.bytes", DELETE, None), ("plug.in.option", DELETE, None)];
    assert_eq!(alter(&mut client, 1, BROKER, &here, &gone), done);
    outcome(&plain, MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut client, 1, BROKER, "", &gone[..1]), done);
    outcome(&plain, NONE);
    shows(&mut client, BROKER, &here, "message.max.bytes", "1048588", FROM_DEFAULT);
    assert_eq!(alter(&mut client, 1, TOPIC, &own, &[("max.message.bytes", DELETE, None)]), done);
    outcome(&own, NONE);
}
