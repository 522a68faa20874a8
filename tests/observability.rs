//! What a broker says of its own doings (`docs/observability.md`): where a request's time went, which were slow, and how
//! one asks.

mod harness;

use corelog::record::{BatchBuilder, NewRecord};
use harness::broker::{Broker, Options, connect};
use harness::drive::{Drive, in_own_namespace};
use harness::program;
use harness::wait::{self, PATIENCE, seconds};
use harness::wire::{read_answer, request};
use harness::{records, unique};
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const FETCH: i16 = 1;

/// A Produce (version 7) of one record to each of some partitions.
fn produce_request(correlation: i32, topic: &str, partitions: &[i32], acks: i16) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    let timestamp = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    batch.push(NewRecord { timestamp, key: None, value: Some(b"value"), headers: &[] });
    harness::wire::produce(correlation, topic, partitions, acks, &batch.build())
}

/// A Fetch (version 4) of partition 0 from its start.
fn fetch_request(correlation: i32, topic: &str, max_wait: Duration, min_bytes: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // replica id
    body.extend((max_wait.as_millis() as i32).to_be_bytes());
    body.extend(min_bytes.to_be_bytes());
    body.extend((1i32 << 20).to_be_bytes()); // max bytes
    body.push(0); // isolation level
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes()); // partition
    body.extend(0i64.to_be_bytes()); // fetch offset
    body.extend((1i32 << 20).to_be_bytes());
    request(FETCH, 4, correlation, false, &body)
}

/// Sends a request and gives its answer, which has to be to that request.
fn ask(stream: &mut TcpStream, frame: &[u8]) -> Vec<u8> {
    stream.write_all(frame).unwrap();
    let answer = read_answer(stream).unwrap();
    assert_eq!(answer[..4], frame[8..12], "the correlation id");
    answer
}

fn debug_command(data_dir: &Path, what: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["debug", what, "--data-dir"]).arg(data_dir);
    command
}

fn debug(broker: &Broker, what: &str) -> Value {
    let text = program::run(debug_command(&broker.data_dir(), what).arg("--json"), PATIENCE);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["silent_cores"], Value::Array(Vec::new()), "{text}");
    report
}

/// The slow request with this API and correlation id. It is noted a moment after its answer was sent.
fn slow_request(broker: &Broker, api: &str, correlation: i32) -> Value {
    wait::until(&format!("{api} {correlation} among the slow requests"), PATIENCE, || {
        let report = debug(broker, "slow");
        let requests = report["requests"].as_array().unwrap();
        requests.iter().find(|r| r["api"] == api && r["correlation_id"] == correlation).cloned()
    })
}

fn stage_us(request: &Value, stage: &str) -> Option<u64> {
    request["stages_us"].get(stage).map(|us| us.as_u64().unwrap())
}

/// All of a request's time belongs to some stage.
fn assert_adds_up(request: &Value) {
    let stages = request["stages_us"].as_object().unwrap();
    let sum: u64 = stages.values().map(|us| us.as_u64().unwrap()).sum();
    let total = request["total_us"].as_u64().unwrap();
    assert!(sum <= total && total - sum <= stages.len() as u64, "each is rounded down: {request}");
}

#[test]
fn a_slow_flush_is_seen_as_such() {
    if !in_own_namespace("a_slow_flush_is_seen_as_such") {
        return;
    }
    const HELD: Duration = Duration::from_millis(400);
    let drive = Drive::new("ext4");
    let broker = Broker::with(Options { data_in: Some(drive.mounted()), ..Options::default() });
    if !broker.is_corelog() {
        return;
    }
    let topic = unique("slow");
    records::create_topic(&broker.bootstrap(), &topic, 4);
    let partitions = [0, 1, 2, 3];
    let mut streams: Vec<_> = broker.addresses().into_iter().map(|address| connect(address).unwrap()).collect();
    // Of each core its own partitions, so that files are made and the first flushes are over.
    let led: Vec<Vec<i32>> = streams
        .iter_mut()
        .map(|stream| {
            partitions
                .into_iter()
                .filter(|p| error_code(&ask(stream, &produce_request(1, &topic, &[*p], -1))) == 0)
                .collect()
        })
        .collect();
    let (core, led) = led.iter().enumerate().max_by_key(|(_, led)| led.len()).unwrap();
    assert!(led.len() >= 2, "four partitions on two cores: {led:?}");

    drive.hold_flushes();
    streams[core].write_all(&produce_request(77, &topic, led, -1)).unwrap();
    wait::until("a flush", PATIENCE, || (drive.held() > 0).then_some(()));
    let began = Instant::now();
    wait::throughout(HELD, || ());
    let held = began.elapsed();
    drive.release();
    read_answer(&mut streams[core]).unwrap();
    let slow = slow_request(&broker, "Produce", 77);
    assert_adds_up(&slow);
    assert!(stage_us(&slow, "durable").unwrap() >= held.as_micros() as u64, "held for {held:?}: {slow}");
    assert!(stage_us(&slow, "parked").is_none(), "{slow}");
    assert_eq!(slow["partitions"], led.len());
    assert_eq!(slow["client_id"], "test");
    assert_eq!(slow["core"], core);
    assert_eq!(slow["peer"], streams[core].local_addr().unwrap().to_string());

    // acks=1 does not wait for the flush, and says nothing of it.
    ask(&mut streams[core], &produce_request(78, &topic, led, 1));
    let quick = slow_request(&broker, "Produce", 78);
    assert!(stage_us(&quick, "durable").is_none() && stage_us(&quick, "written").is_some(), "{quick}");
}

#[test]
fn what_another_core_did_is_part_of_the_time_line() {
    let options = Options { advertise: "host", ..Options::default() };
    if options.cores.len() < 2 {
        return;
    }
    let broker = Broker::with(options);
    if !broker.is_corelog() {
        return;
    }
    let topic = unique("forwarded");
    records::create_topic(&broker.bootstrap(), &topic, 4);
    let mut stream = connect(broker.addresses()[0]).unwrap();
    // At least one of the four belongs to the other core, each by itself is told of in full.
    for partition in 0..4 {
        let correlation = 10 + partition;
        let answer = ask(&mut stream, &produce_request(correlation, &topic, &[partition], -1));
        assert_eq!(error_code(&answer), 0);
        let produce = slow_request(&broker, "Produce", correlation);
        assert_adds_up(&produce);
        for stage in ["parsed", "ordered", "durable", "sent"] {
            assert!(stage_us(&produce, stage).is_some(), "{stage}: {produce}");
        }
    }
}

/// The error code of a Produce answer (version 7) to one partition.
fn error_code(answer: &[u8]) -> i16 {
    let name = usize::from(u16::from_be_bytes([answer[8], answer[9]]));
    let at = 10 + name + 4 + 4;
    i16::from_be_bytes([answer[at], answer[at + 1]])
}

#[test]
fn a_parked_fetch_is_not_called_slow_work() {
    let one = Options { cores: Options::default().cores[..1].to_vec(), ..Options::default() };
    let broker = Broker::with(one.set("slow.request.log.threshold.ms=0"));
    if !broker.is_corelog() {
        return;
    }
    let topic = unique("parked");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let mut stream = connect(broker.addresses()[0]).unwrap();
    // Long enough that a core which was held up for a second has parked it for longer.
    ask(&mut stream, &fetch_request(5, &topic, seconds(3), 1));
    let fetch = slow_request(&broker, "Fetch", 5);
    assert_adds_up(&fetch);
    let parked = stage_us(&fetch, "parked").unwrap();
    let work = fetch["total_us"].as_u64().unwrap() - parked;
    assert!(parked > 1_500_000 && work < parked, "{fetch}");

    ask(&mut stream, &produce_request(6, &topic, &[0], -1));
    ask(&mut stream, &fetch_request(7, &topic, seconds(60), 1));
    let fetch = slow_request(&broker, "Fetch", 7);
    assert_eq!(stage_us(&fetch, "parked"), None, "there was something to read: {fetch}");
    // Without an answer, and behind it one with.
    stream.write_all(&produce_request(8, &topic, &[0], 0)).unwrap();
    let unanswered = slow_request(&broker, "Produce", 8);
    assert_eq!(unanswered["answer_bytes"], 0);
    assert!(stage_us(&unanswered, "ordered").is_some() && stage_us(&unanswered, "sent").is_none(), "{unanswered}");

    let stages = debug(&broker, "stages");
    let count = |api: &str, stage: &str| {
        let row = stages["rows"].as_array().unwrap().iter().find(|row| row["api"] == api && row["stage"] == stage);
        row.map_or(0, |row| row["count"].as_u64().unwrap())
    };
    assert_eq!(["parsed", "ordered", "durable", "sent", "total"].map(|s| count("Produce", s)), [2, 2, 1, 1, 2]);
    assert_eq!(["parsed", "parked", "sent", "written"].map(|s| count("Fetch", s)), [2, 1, 2, 0]);
    assert_eq!(count("CreateTopics", "total"), 1);

    let text = program::run(&mut debug_command(&broker.data_dir(), "slow"), PATIENCE);
    let head = text.lines().next().unwrap();
    assert!(head.contains("PARKED") && head.contains("DURABLE") && head.contains("CLIENT"), "{text}");
    assert!(text.lines().any(|line| line.contains("Fetch v4") && line.contains(" test ")), "{text}");
    let text = program::run(&mut debug_command(&broker.data_dir(), "stages"), PATIENCE);
    assert!(text.lines().any(|line| line.starts_with("Produce") && line.contains("durable")), "{text}");
    let text = program::run(&mut debug_command(&broker.data_dir(), "stalls"), PATIENCE);
    assert!(text.starts_with("stalls since the start: core 0: "), "{text}");
    let log = broker.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("slow request: ")), "{log}");
}

#[test]
fn the_socket_is_for_its_user_and_for_one_broker() {
    let mut broker = Broker::start();
    if !broker.is_corelog() {
        return;
    }
    let socket = broker.data_dir().join("corelog.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    debug(&broker, "stalls");
    broker.kill();
    assert!(socket.exists());
    let refused = debug_command(&broker.data_dir(), "slow").output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && words.contains("no broker runs on that directory"), "{words}");
    broker.launch();
    debug(&broker, "stalls");
    broker.stop();
    assert!(!socket.exists());
}

#[test]
fn peers_that_ask_for_nothing_do_not_hold_up_a_stop() {
    use std::os::unix::net::UnixStream;
    let mut broker = Broker::start();
    if !broker.is_corelog() {
        return;
    }
    let socket = broker.data_dir().join("corelog.sock");
    let silent: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    broker.stop();
    drop(silent);
}
