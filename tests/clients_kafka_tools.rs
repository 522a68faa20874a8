//! Apache Kafka's own command line tools, as its quickstart uses them, and its performance tests to their end.

mod harness;

use harness::broker::{Broker, Options};
use harness::client::Client;
use harness::program::{Program, run};
use harness::{unique, wait};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A JVM starts, works and ends within this even on a busy machine.
const TOOL: Duration = wait::seconds(90);

fn tool(broker: &Broker, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(harness::source().join("scripts/kafka"));
    command.arg(name).args(["--bootstrap-server", &broker.bootstrap()]).args(arguments);
    command
}

#[test]
fn the_quickstart() {
    let broker = Broker::start();
    let topic = if broker.is_ours() { "orders".to_string() } else { unique("orders") };
    let run = |name: &str, arguments: &[&str]| run(&mut tool(&broker, name, arguments), TOOL);

    let created = run("topics", &["--create", "--topic", &topic, "--partitions", "3", "--replication-factor", "1"]);
    assert!(created.contains(&format!("Created topic {topic}.")), "{created}");
    assert!(run("topics", &["--list"]).lines().any(|line| line == topic));
    let described = run("topics", &["--describe", "--topic", &topic]);
    let head = described.lines().next().unwrap();
    assert!(head.contains("PartitionCount: 3") && head.contains("ReplicationFactor: 1"), "{described}");
    for partition in 0..3 {
        let line = described.lines().find(|line| line.contains(&format!("Partition: {partition}\t"))).unwrap();
        let field = |name: &str| {
            let part = line.split('\t').find_map(|part| part.trim().strip_prefix(name)).unwrap();
            part.trim().to_string()
        };
        assert_eq!(field("Leader:"), field("Replicas:"), "{line}");
        assert_eq!(field("Leader:"), field("Isr:"), "{line}");
    }
    let again = Program::start(&mut tool(&broker, "topics", &["--create", "--topic", &topic])).end(TOOL);
    assert!(!again.status.success() && again.output.contains("already exists"), "{}{}", again.output, again.errors);
    let many = ["--create", "--topic", "too-many-replicas", "--replication-factor", "2"];
    let refused = Program::start(&mut tool(&broker, "topics", &many)).end(TOOL);
    assert!(!refused.status.success() && refused.output.contains("eplication factor"), "{}", refused.output);

    let mut producer = Program::start(&mut tool(&broker, "console-producer", &["--topic", &topic]));
    for line in ["first order", "second order", "", "with accents: café"] {
        producer.say(line);
    }
    producer.succeed(TOOL);
    let group = unique("console");
    let read = ["--topic", &topic, "--from-beginning", "--max-messages", "4", "--group", &group];
    let mut consumed: Vec<String> = run("console-consumer", &read).lines().map(str::to_string).collect();
    consumed.sort();
    assert_eq!(consumed, ["", "first order", "second order", "with accents: café"]);

    let offsets = run("get-offsets", &["--topic", &topic]);
    let ends: Vec<i64> = offsets.lines().map(|line| line.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert!(ends.len() == 3 && ends.iter().sum::<i64>() == 4, "{offsets}");
    let configs = run("configs", &["--describe", "--entity-type", "topics", "--entity-name", &topic, "--all"]);
    for option in ["cleanup.policy=delete", "retention.ms=604800000", "segment.bytes=1073741824"] {
        assert!(configs.contains(option), "{option} is not in {configs}");
    }
    let apis = run("broker-api-versions", &[]);
    assert!(apis.contains("Produce(0): 0 to 13") && apis.contains("Fetch(1): 4 to 18"), "{apis}");

    let groups = run("consumer-groups", &["--list"]);
    assert!(groups.lines().any(|line| line == group), "{groups}");
    let described = run("consumer-groups", &["--describe", "--group", &group]);
    let mut lag = 0;
    let mut rows = 0;
    let columns: Vec<&str> =
        described.lines().find(|line| line.starts_with("GROUP")).unwrap().split_whitespace().collect();
    for line in described.lines().filter(|line| line.starts_with(&group)) {
        let cell = |name: &str| {
            let at = columns.iter().position(|column| *column == name).unwrap();
            line.split_whitespace().nth(at).unwrap()
        };
        assert_eq!(cell("CURRENT-OFFSET"), cell("LOG-END-OFFSET"), "{described}");
        lag += cell("LAG").parse::<i64>().unwrap();
        rows += 1;
    }
    assert!(lag == 0 && rows >= 1, "{described}");
    let states = run("consumer-groups", &["--describe", "--group", &group, "--state"]);
    assert!(states.contains("Empty"), "{states}");

    run("topics", &["--alter", "--topic", &topic, "--partitions", "5"]);
    assert!(run("topics", &["--describe", "--topic", &topic]).contains("PartitionCount: 5"));
    run("consumer-groups", &["--delete", "--group", &group]);
    assert!(!run("consumer-groups", &["--list"]).contains(&group));
    run("topics", &["--delete", "--topic", &topic]);
    assert!(!run("topics", &["--list"]).lines().any(|line| line == topic));
}

/// What an administrator does with `kafka-configs` and `kafka-topics`: options of a topic and of all brokers.
#[test]
fn options_are_changed() {
    let broker = Broker::start();
    let topic = unique("options");
    let run = |name: &str, arguments: &[&str]| run(&mut tool(&broker, name, arguments), TOOL);
    run("topics", &["--create", "--topic", &topic, "--config", "retention.ms=5000"]);
    let of_topic = ["--entity-type", "topics", "--entity-name", &topic];
    let of_all = ["--entity-type", "brokers", "--entity-default"];
    let alter = "cleanup.policy=[compact,delete],max.message.bytes=2000";
    run("configs", &[&of_topic[..], &["--alter", "--add-config", alter, "--delete-config", "retention.ms"]].concat());
    let described = run("configs", &[&of_topic[..], &["--describe"]].concat());
    for option in ["cleanup.policy=compact,delete", "max.message.bytes=2000"] {
        assert!(described.contains(option), "{option} is not in {described}");
    }
    assert!(!described.contains("retention.ms"), "{described}");
    run("configs", &[&of_all[..], &["--alter", "--add-config", "log.retention.ms=7000"]].concat());
    let described = run("configs", &[&of_all[..], &["--describe"]].concat());
    assert!(described.contains("log.retention.ms=7000"), "{described}");
    let described = run("configs", &[&of_topic[..], &["--describe", "--all"]].concat());
    let retention = "retention.ms=7000 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7000";
    assert!(described.contains(retention), "{described}");
    let wrong = [&of_topic[..], &["--alter", "--add-config", "retention.ms=x"]].concat();
    let refused = Program::start(&mut tool(&broker, "configs", &wrong)).end(TOOL);
    let words = "Invalid value x for configuration retention.ms: Not a number of type LONG";
    assert!(format!("{}{}", refused.output, refused.errors).contains(words), "{}{}", refused.output, refused.errors);
    run("configs", &[&of_all[..], &["--alter", "--delete-config", "log.retention.ms"]].concat());
    let described = run("topics", &["--describe", "--topic", &topic]);
    assert!(described.contains("max.message.bytes=2000"), "{described}");
}

/// Partitions go to another data directory by the tool that administrators have for it, under a bound on its speed.
#[test]
fn partitions_go_to_another_directory() {
    let folder = harness::folder();
    let dirs = ["data", "b"].map(|name| folder.path().join(name).display().to_string());
    let options = Options { data_in: Some(folder.path().to_owned()), ..Options::default() };
    let broker = Broker::with(options.set(&format!("log.dirs={},{}", dirs[0], dirs[1])));
    if !broker.is_ours() {
        return;
    }
    let topic = unique("placed");
    let mut client = Client::to(broker.addresses()[0]);
    client.create_with(&topic, 2, &[]);
    let leader = |client: &mut Client, partition: usize| client.wait_for(&topic, 2).partitions[partition].leader_id.0;
    let leaders = [leader(&mut client, 0), leader(&mut client, 1)];
    let run = |name: &str, arguments: &[&str]| run(&mut tool(&broker, name, arguments), TOOL);

    // Where each of them is.
    let shown = run("log-dirs", &["--describe", "--topic-list", &topic]);
    let json = shown.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{shown}"));
    let described: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut places = BTreeMap::new();
    for of in described["brokers"].as_array().unwrap() {
        for dir in of["logDirs"].as_array().unwrap() {
            assert!(dir["error"].is_null(), "{dir}");
            for partition in dir["partitions"].as_array().unwrap() {
                let named = partition["partition"].as_str().unwrap().to_string();
                places.insert(named, dir["logDir"].as_str().unwrap().to_string());
            }
        }
    }
    let other = |partition: usize| match places[&format!("{topic}-{partition}")] == dirs[0] {
        true => &dirs[1],
        false => &dirs[0],
    };

    let file = folder.path().join("moves.json");
    let file = file.to_str().unwrap();
    let partitions = [0, 1].map(|at| {
        let to = [other(at)];
        serde_json::json!({ "topic": topic, "partition": at, "replicas": [leaders[at]], "log_dirs": to })
    });
    std::fs::write(file, serde_json::json!({ "version": 1, "partitions": partitions }).to_string()).unwrap();
    let plan = ["--reassignment-json-file", file];
    let throttle = ["--execute", "--replica-alter-log-dirs-throttle", "10000000"];
    let executed = run("reassign-partitions", &[&plan[..], &throttle].concat());
    for said in ["throttle limit was set to 10000000 B/s", "Successfully started partition reassignments for"] {
        assert!(executed.contains(said), "{executed}");
    }
    for partition in 0..2 {
        let said = format!("Successfully started moving log directory to {} for replica", other(partition));
        assert!(executed.contains(&said), "{executed}");
    }
    for partition in 0..2 {
        let moved = Path::new(other(partition)).join(format!("{topic}-{partition}"));
        let before = Path::new(&places[&format!("{topic}-{partition}")]).join(format!("{topic}-{partition}"));
        wait::until("the partition in its new directory", TOOL, || (moved.exists() && !before.exists()).then_some(()));
    }
    let verified = run("reassign-partitions", &[&plan[..], &["--verify"]].concat());
    for (partition, leader) in leaders.iter().enumerate() {
        for said in [
            format!("Reassignment of partition {topic}-{partition} is completed."),
            format!("Reassignment of replica {topic}-{partition}-{leader} completed successfully."),
        ] {
            assert!(verified.contains(&said), "{verified}");
        }
    }
    assert!(verified.contains("Clearing broker-level throttles"), "{verified}");
}

#[test]
fn records_are_deleted() {
    let broker = Broker::start();
    let topic = unique("purged");
    let run = |name: &str, arguments: &[&str]| run(&mut tool(&broker, name, arguments), TOOL);
    run("topics", &["--create", "--topic", &topic]);
    let mut producer = Program::start(&mut tool(&broker, "console-producer", &["--topic", &topic]));
    for line in ["one", "two", "three"] {
        producer.say(line);
    }
    producer.succeed(TOOL);
    let folder = harness::folder();
    let file = folder.path().join("offsets.json");
    let json = format!(r#"{{"partitions": [{{"topic": "{topic}", "partition": 0, "offset": 2}}], "version": 1}}"#);
    std::fs::write(&file, json).unwrap();
    let deleted = run("delete-records", &["--offset-json-file", file.to_str().unwrap()]);
    assert!(deleted.contains(&format!("partition: {topic}-0\tlow_watermark: 2")), "{deleted}");
    let read = ["--topic", &topic, "--from-beginning", "--max-messages", "1"];
    assert_eq!(run("console-consumer", &read), "three");
    let dirs = run("log-dirs", &["--describe", "--topic-list", &topic]);
    let (log, dir) = (format!(r#""partition":"{topic}-0""#), broker.data_dir());
    assert!(dirs.contains(&log) && dirs.contains(&format!(r#""logDir":"{}""#, dir.display())), "{dirs}");
}

/// A consumer group seen while it is at work: `--describe --members` and `--state` of a running console consumer.
#[test]
fn describes_a_group_at_work() {
    let broker = Broker::start();
    let (topic, group) = (unique("watched"), unique("watching"));
    run(&mut tool(&broker, "topics", &["--create", "--topic", &topic, "--partitions", "3"]), TOOL);
    let mut consumer = Program::start(&mut tool(&broker, "console-consumer", &["--topic", &topic, "--group", &group]));
    // The consumer begins at the end of the topic; produce until it shows something.
    let mut sent = 0;
    wait::until("a record at the consumer", TOOL, || {
        let mut producer = Program::start(&mut tool(&broker, "console-producer", &["--topic", &topic]));
        producer.say(&format!("record {sent}"));
        producer.succeed(TOOL);
        sent += 1;
        (!consumer.lines().is_empty()).then_some(())
    });
    let describe =
        |more: &str| run(&mut tool(&broker, "consumer-groups", &["--describe", "--group", &group, more]), TOOL);
    let state = describe("--state");
    assert!(state.contains("Stable") && state.contains("range"), "{state}");
    let members = describe("--members");
    let row = members.lines().find(|line| line.starts_with(&group)).unwrap_or_else(|| panic!("{members}"));
    assert!(row.contains("console-consumer") && row.contains("/127.0.0.1"), "{members}");
    consumer.signal("TERM");
    consumer.close_input();
    consumer.end(TOOL);
}

#[test]
fn performance_tests_run_to_their_end() {
    let broker = Broker::start();
    let topic = unique("perf");
    run(&mut tool(&broker, "topics", &["--create", "--topic", &topic, "--partitions", "6"]), TOOL);
    let count = harness::million::count() / 2;
    for acks in ["1", "all"] {
        let output = run(
            &mut tool(
                &broker,
                "producer-perf-test",
                &[
                    "--topic",
                    &topic,
                    "--num-records",
                    &count.to_string(),
                    "--record-size",
                    "100",
                    "--throughput",
                    "-1",
                    "--command-property",
                    &format!("acks={acks}"),
                ],
            ),
            2 * TOOL,
        );
        let last = output.lines().last().unwrap();
        assert!(last.starts_with(&format!("{count} records sent")) && last.contains("99.9th"), "{output}");
    }
    let all = (2 * count).to_string();
    let output = run(
        &mut tool(&broker, "consumer-perf-test", &["--topic", &topic, "--num-records", &all, "--timeout", "60000"]),
        2 * TOOL,
    );
    let mut lines = output.lines();
    let columns = lines.next().unwrap().split(", ").collect::<Vec<&str>>();
    let at = columns.iter().position(|column| *column == "data.consumed.in.nMsg").unwrap_or_else(|| panic!("{output}"));
    let consumed = lines.next().and_then(|line| line.split(", ").nth(at)).unwrap_or_else(|| panic!("{output}"));
    assert!(consumed.parse::<u64>().unwrap() >= u64::from(2 * count), "{output}");
}
