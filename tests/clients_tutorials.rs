//! The programs that new users type in, with topics that nobody created: kafka-python and kafkajs.

mod harness;

use harness::broker::{Broker, Options};
use harness::program::{Program, run};
use harness::{unique, wait};
use std::process::Command;

/// A tutorial's producer and consumer: `(name, arguments)` makes the command.
type Tutorial<'a> = &'a dyn Fn(&str, &[&str]) -> Command;

/// 1. Produce to a topic that does not exist, then consume it from the beginning in a group.
/// 2. Produce more: the group's next consumer gets those alone.
/// 3. A consumer that starts before its topic exists gets what is produced later.
fn check(bootstrap: &str, group: &str, tutorial: Tutorial) {
    let topic = unique("orders");
    let consumed = |count: &str| {
        let output = run(&mut tutorial("consumer", &[bootstrap, &topic, group, count]), wait::seconds(60));
        orders(&output)
    };
    let produced = |topic: &str, first: &str, count: &str| {
        let output = run(&mut tutorial("producer", &[bootstrap, topic, first, count]), wait::seconds(60));
        documents(&output).map(|sent| sent["offset"].as_i64().unwrap()).collect::<Vec<i64>>()
    };
    assert_eq!(produced(&topic, "0", "20"), (0..20).collect::<Vec<i64>>(), "offsets in the new topic");
    assert_eq!(consumed("20"), (0..20).collect::<Vec<i64>>(), "orders, from the beginning");
    assert_eq!(produced(&topic, "20", "5"), (20..25).collect::<Vec<i64>>(), "offsets of the second run");
    assert_eq!(consumed("5"), (20..25).collect::<Vec<i64>>(), "orders after the committed offset");

    let later = unique("later");
    let early = unique("early");
    let start = || Program::start(&mut tutorial("consumer", &[bootstrap, &later, &early, "3"]));
    let mut waiting = start();
    let begun = |program: &mut Program| program.lines().iter().any(|line| line == "started");
    wait::until("the start of the consumer", wait::seconds(60), || {
        // kafkajs gives up when Apache Kafka creates a topic on its behalf; its user starts it once more.
        if !waiting.is_running() {
            waiting = start();
        }
        begun(&mut waiting).then_some(())
    });
    assert_eq!(produced(&later, "0", "3"), [0, 1, 2]);
    let output = waiting.succeed(wait::seconds(60)).output;
    assert_eq!(orders(&output), [0, 1, 2], "orders, to a consumer that was there first");
}

/// The lines of JSON that a program printed, without kafkajs's own log, which is JSON too.
fn documents(output: &str) -> impl Iterator<Item = serde_json::Value> {
    let lines = output.lines().filter(|line| line.starts_with('{'));
    let values = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}")));
    values.filter(|value: &serde_json::Value| value.get("level").is_none())
}

/// The numbers of the orders that a consumer printed, each order checked.
fn orders(output: &str) -> Vec<i64> {
    let orders = documents(output).map(|order| {
        let number = order.get("order_id").or(order.get("orderId")).unwrap().as_i64().unwrap();
        assert_eq!(order["customer"], format!("customer-{}", number % 7));
        assert_eq!(order["amount"], number as f64 * 1.5);
        number
    });
    orders.collect()
}

fn kafka_python(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(harness::client("python").join("bin/python"));
    let program = format!("tests/clients/python/tutorial_{name}.py");
    command.arg(harness::source().join(program)).args(arguments).env("PYTHONUNBUFFERED", "1");
    command
}

fn kafkajs(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", harness::client("node").join("node_modules")).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    command.arg(harness::source().join(format!("tests/clients/node/{name}.js"))).args(arguments);
    command
}

#[test]
fn kafka_python_with_json() {
    let broker = Broker::start();
    check(&broker.localhost(), &unique("python-group"), &kafka_python);
}

#[test]
fn kafka_python_without_a_group() {
    let broker = Broker::start();
    let topic = unique("ungrouped");
    run(&mut kafka_python("producer", &[&broker.localhost(), &topic, "0", "10"]), wait::seconds(60));
    // From the beginning, each time.
    for _ in 0..2 {
        let output = run(&mut kafka_python("consumer", &[&broker.localhost(), &topic, "-", "10"]), wait::seconds(60));
        assert_eq!(orders(&output), (0..10).collect::<Vec<i64>>());
    }
}

#[test]
fn kafka_python_as_an_administrator() {
    let broker = Broker::start();
    let output = run(&mut kafka_python("admin", &[&broker.localhost(), &unique("managed")]), wait::seconds(60));
    assert_eq!(output.lines().collect::<Vec<_>>(), ["retention.ms 4000", "first offset 3", "has a log True"]);
}

#[test]
fn kafkajs_with_order_group() {
    let broker = Broker::start();
    let group = if broker.is_ours() { "order-group".to_string() } else { unique("order-group") };
    check(&broker.localhost(), &group, &kafkajs);
}

#[test]
fn both_with_one_port_for_all_cores() {
    let broker = Broker::with(Options { advertise: "host", ..Options::default() });
    check(&broker.localhost(), &unique("python-group"), &kafka_python);
    check(&broker.localhost(), &unique("js-group"), &kafkajs);
}
