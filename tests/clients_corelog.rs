//! corelog's own client commands, as a user types them: topics, a million lines in and out, keys and headers, a group
//! that goes on where it was, and errors that say what to do. Against any broker (see `harness`).

mod harness;

use harness::broker::Broker;
use harness::program::{Ended, Program};
use harness::wait::{PATIENCE, seconds};
use harness::{million, unique};
use std::process::{Command, Stdio};

fn corelog(broker: &Broker, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(words).args(["--bootstrap-server", &broker.localhost()]);
    command
}

/// Its output, when it succeeds.
#[track_caller]
fn done(broker: &Broker, words: &[&str]) -> String {
    Program::start(&mut corelog(broker, words)).succeed(PATIENCE).output
}

/// It fails with code 1 and one line on standard error that holds all `words`.
#[track_caller]
fn refused(broker: &Broker, command: &[&str], words: &[&str]) {
    let ended = Program::start(&mut corelog(broker, command)).end(PATIENCE);
    check_refusal(&ended, 1, words);
}

#[track_caller]
fn check_refusal(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.errors);
    assert_eq!(ended.errors.trim_end().lines().count(), 1, "{}", ended.errors);
    for word in words {
        assert!(ended.errors.contains(word), "{word:?} is not in {}", ended.errors);
    }
}

/// Sends `input` to `corelog produce TOPIC ARGUMENTS`.
#[track_caller]
fn produce(broker: &Broker, topic: &str, arguments: &[&str], input: &str) {
    let mut producer = Program::start(corelog(broker, &["produce", topic]).args(arguments).stdin(Stdio::piped()));
    for line in input.lines() {
        producer.say(line);
    }
    producer.close_input();
    producer.succeed(PATIENCE);
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let broker = Broker::start();
    let topic = unique("orders");
    assert_eq!(
        done(&broker, &["topic", "create", &topic, "--partitions", "3", "--config", "retention.ms=86400000"]),
        format!("created topic {topic}")
    );
    assert!(done(&broker, &["topic", "list"]).lines().any(|line| line == topic));
    let described = done(&broker, &["topic", "describe", &topic]);
    assert!(described.starts_with(&format!("topic {topic}: 3 partitions, replication factor 1\n")), "{described}");
    assert!(described.contains("\n  retention.ms=86400000\n"), "{described}");
    assert_eq!(described.lines().filter(|line| line.starts_with(['0', '1', '2'])).count(), 3, "{described}");
    let all = done(&broker, &["topic", "describe", "--topic", &topic, "--all-configs"]);
    assert!(all.contains("\n  segment.bytes=1073741824"), "{all}");

    refused(&broker, &["topic", "create", &topic], &[&topic, "exists already"]);
    done(&broker, &["topic", "create", "--topic", &topic, "--if-not-exists"]);
    refused(&broker, &["topic", "create", "two words"], &["249"]);
    refused(&broker, &["topic", "create", &unique("x"), "--replication-factor", "9"], &["number of hosts"]);
    refused(&broker, &["topic", "create", &unique("x"), "--config", "no.such=1"], &["no.such"]);
    refused(
        &broker,
        &["topic", "create", &unique("x"), "--config", "retention.ms=soon"],
        &["Invalid value soon for configuration retention.ms: Not a number of type LONG"],
    );

    assert_eq!(done(&broker, &["topic", "delete", &topic]), format!("deleted topic {topic}"));
    refused(&broker, &["topic", "delete", &topic], &["corelog topic list"]);
    done(&broker, &["topic", "delete", &topic, "--if-exists"]);
    refused(&broker, &["topic", "describe", &topic], &["corelog topic list", "corelog topic create"]);
    refused(&broker, &["consume", &topic], &["corelog topic list", "corelog topic create"]);
}

#[test]
fn a_million_lines_come_back() {
    let broker = Broker::start();
    let topic = unique("lines");
    done(&broker, &["topic", "create", &topic, "--partitions", "6"]);
    let folder = harness::folder();
    let file = folder.path().join("lines");
    let lines: String = (0..million::count()).map(|number| format!("{number:010} line of text\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    let file = file.to_str().unwrap();
    Program::start(&mut corelog(&broker, &["produce", &topic, "--file", file, "--compression", "lz4"]))
        .succeed(seconds(300));
    let back = folder.path().join("back");
    let mut consume = corelog(&broker, &["consume", &topic, "--from-beginning", "--exit-at-end", "--print-offset"]);
    let status = consume.stdout(std::fs::File::create(&back).unwrap()).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success());

    // The same lines, and in each partition by offset, which is also the order in which they were sent.
    let back = std::fs::read_to_string(back).unwrap();
    let mut next = [0u64; 6];
    let mut last = [None; 6];
    let mut values = Vec::new();
    for line in back.lines() {
        let mut parts = line.splitn(3, '\t');
        let partition: usize = parts.next().unwrap().parse().unwrap();
        assert_eq!(parts.next().unwrap().parse(), Ok(next[partition]), "{line}");
        next[partition] += 1;
        let value = parts.next().unwrap();
        assert!(last[partition] < Some(value), "{line}");
        last[partition] = Some(value);
        values.push(value);
    }
    values.sort_unstable();
    assert!(values.iter().copied().eq(lines.lines()), "{} lines came back", values.len());
}

#[test]
fn keys_headers_and_places_are_shown() {
    let broker = Broker::start();
    let topic = unique("keys");
    done(&broker, &["topic", "create", &topic, "--partitions", "2"]);
    let arguments = ["--key-separator", ":", "--header", "from=here", "--partition", "1", "--empty-is-null"];
    produce(&broker, &topic, &arguments, "a:1\nb:2:3\na:\n");
    let consume = |more: &[&str]| {
        let words = [&["consume", topic.as_str(), "--exit-at-end", "--separator", "|"][..], more].concat();
        done(&broker, &words)
    };
    let all = consume(&["--from-beginning", "--print-key", "--print-headers", "--print-offset"]);
    assert_eq!(all, "1|0|from=here|a|1\n1|1|from=here|b|2:3\n1|2|from=here|a|null");
    assert_eq!(consume(&["--partition", "0", "--offset", "earliest"]), "");
    assert_eq!(consume(&["--partition", "1", "--offset", "1", "--max-messages", "1"]), "2:3");
    assert_eq!(consume(&["--offset", "-2", "--null", "gone"]), "2:3\ngone");
    let stamped = consume(&["--from-beginning", "--print-timestamp", "--max-messages", "1"]);
    let (stamp, value) = stamped.split_once('|').unwrap();
    assert!(value == "1" && stamp.parse::<u64>().unwrap() > 1_600_000_000_000, "{stamped}");
    refused(&broker, &["consume", &topic, "--partition", "7"], &["2 partitions"]);
    refused(&broker, &["consume", &topic, "--timeout", "0.5"], &["no record came"]);
}

#[test]
fn a_group_goes_on_where_it_was_and_its_lag_is_shown() {
    let broker = Broker::start();
    let (topic, group) = (unique("jobs"), unique("workers"));
    done(&broker, &["topic", "create", &topic, "--partitions", "1"]);
    produce(&broker, &topic, &[], "1\n2\n3\n4\n5\n");
    let take = |count| {
        let words = ["consume", &topic, "--group", &group, "--from-beginning", "--max-messages", count];
        done(&broker, &words)
    };
    assert_eq!(take("2"), "1\n2");
    assert_eq!(take("1"), "3");
    let described = done(&broker, &["group", "describe", &group]);
    assert!(described.starts_with(&format!("group {group}: Empty, 0 members\n")), "{described}");
    let row: Vec<&str> = described.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row, [&topic, "0", "3", "5", "2", "-", "-", "-"], "{described}");
    let listed = done(&broker, &["group", "list"]);
    assert!(listed.lines().any(|line| line.starts_with(&group) && line.contains("Empty")), "{listed}");

    // With a member that is there.
    let words = ["consume", &topic, "--group", &group, "--client-property", "client.id=someone"];
    let mut member = Program::start(&mut corelog(&broker, &words));
    member.expect("5", PATIENCE);
    let described = done(&broker, &["group", "describe", "--group", &group]);
    assert!(described.starts_with(&format!("group {group}: Stable, 1 members\n")), "{described}");
    assert!(described.lines().last().unwrap().trim_end().ends_with("someone"), "{described}");
    // Told to end, it commits and leaves: nobody has to wait for its session to time out.
    member.signal("INT");
    member.succeed(PATIENCE);
    let described = done(&broker, &["group", "describe", &group]);
    assert!(described.starts_with(&format!("group {group}: Empty, 0 members\n")), "{described}");
    let row: Vec<&str> = described.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row, [&topic, "0", "5", "5", "0", "-", "-", "-"], "{described}");
    refused(&broker, &["group", "describe", &unique("nobody")], &["corelog group list"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let broker = Broker::start();
    let topic = unique("pipe");
    done(&broker, &["topic", "create", &topic]);
    produce(&broker, &topic, &[], &"a line of some length, many times\n".repeat(5000));
    let exe = env!("CARGO_BIN_EXE_corelog");
    let line = format!("set -o pipefail; {exe} consume {topic} --from-beginning -b {} | head -n 2", broker.localhost());
    let ended = Program::start(Command::new("bash").args(["-c", &line])).succeed(PATIENCE);
    assert_eq!(ended.output.lines().count(), 2);
    assert_eq!(ended.errors, "");
}

#[test]
fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let port = harness::broker::free_ports(1).to_string();
    let address = format!("localhost:{port}");
    for words in [&["topic", "list"][..], &["produce", "t"], &["consume", "t"], &["group", "list"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
        let ended = Program::start(command.args(words).args(["-b", &address])).end(PATIENCE);
        check_refusal(&ended, 1, &[&address, "connection refused", "corelog serve", "--bootstrap-server"]);
    }
    // Something that accepts and is silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    let ended = Program::start(command.args(["topic", "list", "--timeout", "1", "-b", &address])).end(PATIENCE);
    check_refusal(&ended, 1, &[&address, "does not answer as a Kafka broker"]);
}

#[test]
fn mistakes_on_the_command_line_are_code_2() {
    let run = |words: &[&str]| Program::start(Command::new(env!("CARGO_BIN_EXE_corelog")).args(words)).end(PATIENCE);
    for words in
        [&["topic", "create"][..], &["consume", "t", "--offset", "x"], &["produce", "t", "-f", "/no/such/file"]]
    {
        let ended = run(words);
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {}", ended.errors);
    }
    for words in [&["--help"][..], &["topic", "--help"], &["--version"], &["consume", "-h"]] {
        let ended = run(words);
        assert!(ended.status.success() && !ended.output.is_empty() && ended.errors.is_empty(), "{words:?}");
    }
}
