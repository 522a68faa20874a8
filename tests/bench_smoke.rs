//! corelog-bench against a real broker, with small inputs, so that it stays alive: what it says it sent is what it
//! says it read, and its figures have the form that `bench/compare/run` reads. No figure is judged here.

mod harness;

use harness::broker::{Broker, Kind, free_ports, serve_command};
use harness::program::{run, send_signal};
use harness::{unique, wait};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs a subcommand and returns its JSON.
#[track_caller]
fn bench(broker: &Broker, subcommand: &str, topic: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog-bench"));
    command.args([subcommand, "--bootstrap", &broker.bootstrap(), "--topic", topic, "--json", "-"]);
    if let Some(process) = broker.process() {
        command.args(["--broker-pid", &process.to_string()]);
    }
    let text = run(command.args(arguments), wait::seconds(60));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn what_was_produced_is_consumed() {
    let broker = Broker::start();
    let topic = unique("bench-produce");
    let mut expected = 0;
    for (acks, shape) in [
        ("all", &["--batch-records", "50", "--records", "3000"][..]),
        ("1", &["--batch-records", "7", "--records", "4200", "--connections", "2", "--in-flight", "1"]),
        ("0", &["--batch-records", "50", "--records", "3000", "--record-bytes", "0"]),
        (
            "all",
            &["--batch-records", "200", "--record-bytes", "1024", "--batches-per-request", "3", "--records", "6000"],
        ),
        ("all", &["--idempotent", "--batch-records", "100", "--connections", "2", "--records", "6000"]),
        ("all", &["--rate", "20000", "--batch-records", "10", "--records", "4000"]),
        ("all", &["--codec", "lz4", "--filling", "text", "--batch-records", "50", "--records", "3000"]),
        (
            "1",
            &[
                "--keys",
                "skewed",
                "--key-count",
                "500",
                "--record-bytes",
                "lognormal:80:900",
                "--batch-records",
                "40",
                "--records",
                "4000",
            ],
        ),
    ] {
        let result = bench(&broker, "produce", &topic, &[&["--acks", acks, "--warm-up", "0"], shape].concat());
        let records = result["records_total"].as_u64().unwrap();
        assert!(records > 0 && result["records_per_second"].as_f64().unwrap() > 0.0, "{result:#}");
        assert_eq!((&result["acks"], &result["partitions"]), (&Value::from(acks), &Value::from(6)));
        let requests = result["ack_from_actual"]["count"].as_u64().unwrap();
        assert_eq!(requests > 0, acks != "0", "{result:#}");
        // Only who sends at given times has latencies from them.
        let is_open = shape.contains(&"--rate");
        assert_eq!(
            (&result["loop"] == "open", result["ack_from_intended"].is_object()),
            (is_open, is_open),
            "{result:#}"
        );
        assert!(!result["host"]["kernel"].as_str().unwrap().is_empty(), "{result:#}");
        if broker.process().is_some() {
            assert!(!result["drive"]["file_system"].as_str().unwrap().is_empty(), "{result:#}");
            assert!(result["broker"]["resident_mb"].as_f64().unwrap() > 1.0, "{result:#}");
        }
        expected += records;
    }
    for sessions in ["on", "off"] {
        let small = ["--partition-max-bytes", "30000", "--in-flight", "2", "--connections", "2", "--verify"];
        let result = bench(&broker, "consume", &topic, &[&["--sessions", sessions], &small[..]].concat());
        assert_eq!(result["records_total"].as_u64().unwrap(), expected, "{result:#}");
        assert_eq!(result["records_expected"], result["records_total"]);
    }
}

#[test]
fn records_arrive_end_to_end_and_the_acknowledgement_is_named() {
    let broker = Broker::start();
    for (flush, means) in [("1", "flushed"), ("1000000", "unflushed")] {
        let topic = unique("bench-e2e");
        let config = format!("flush.messages={flush}");
        let arguments =
            ["--topic-config", &config, "--rate", "2000", "--duration", "0.5", "--warm-up", "0.2", "--acks", "all"];
        let result = bench(&broker, "end-to-end", &topic, &arguments);
        assert_eq!(result["ack_means"], means, "{result:#}");
        assert_eq!(result["records_sent"], result["records_received"], "{result:#}");
        let seen = result["end_to_end_from_intended"]["count"].as_u64().unwrap();
        assert!(seen > 0, "{result:#}");
        let acknowledged = result["ack_from_intended"]["p50_us"].as_f64().unwrap();
        assert!(acknowledged > 1.0, "{result:#}");
    }
}

#[test]
fn compressed_records_arrive_end_to_end() {
    let broker = Broker::start();
    let topic = unique("bench-codec");
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let arguments =
            ["--codec", codec, "--filling", "text", "--batch-records", "5", "--rate", "1000", "--duration", "0.3"];
        let result =
            bench(&broker, "end-to-end", &topic, &[&arguments[..], &["--warm-up", "0", "--keys", "random"]].concat());
        assert_eq!((&result["codec"], &result["keys"]), (&Value::from(codec), &Value::from("random")));
        assert!(result["records_sent"].as_u64().unwrap() > 0 && result["records_sent"] == result["records_received"]);
    }
}

#[test]
fn runs_are_repeated_and_their_curves_are_drawn() {
    let broker = Broker::start();
    let (topic, folder) = (unique("bench-runs"), harness::folder());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (curve, log, drawing) = (path("curve.hgrm"), path("curve.hlog"), path("curve.svg"));
    let files = ["--histogram", &curve, "--hdr", &log, "--svg", &drawing];
    let run = ["--runs", "3", "--recreate", "--warm-up", "0", "--rate", "2000", "--records", "100"];
    let result = bench(&broker, "produce", &topic, &[&run[..], &files[..]].concat());
    let runs = result["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{result:#}");
    let mut medians: Vec<f64> = runs.iter().map(|run| run["ack_from_intended"]["p50_us"].as_f64().unwrap()).collect();
    medians.sort_unstable_by(f64::total_cmp);
    assert_eq!(result["ack_from_intended"]["p50_us"].as_f64().unwrap(), medians[1]);
    assert!(std::fs::read_to_string(curve).unwrap().contains("Total count = 300]"));
    assert!(std::fs::read_to_string(&drawing).unwrap().contains("ack_from_intended"));

    let drawn = path("both.svg");
    // Logs of one name are one curve.
    let named = [format!("one={log}"), format!("other={log}"), format!("one={log}")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog-bench"));
    run_command(command.args(["plot", "--svg", &drawn, "--title", "two", "--curve", "ack_from_intended"]).args(named));
    let drawn = std::fs::read_to_string(drawn).unwrap();
    assert!(
        drawn.contains("of 600)") && drawn.contains("of 300)") && drawn.matches("<polyline").count() == 2,
        "{drawn}"
    );
}

fn run_command(command: &mut Command) {
    run(command, wait::seconds(60));
}

#[test]
fn partitions_are_counted_up_and_a_backlog_is_drained() {
    let broker = Broker::start();
    let topic = unique("bench-counts");
    let arguments = ["--counts", "1,20", "--rate", "500", "--records", "100", "--warm-up", "0"];
    let result = bench(&broker, "partitions", &topic, &arguments);
    for count in [1, 20] {
        let one = &result["by_count"][count.to_string()];
        assert_eq!((one["partitions"].as_u64(), one["records_total"].as_u64()), (Some(count), Some(100)), "{result:#}");
    }

    let arguments = ["--backlog", "30000", "--rate", "1000", "--duration", "1", "--warm-up", "0.1"];
    let result = bench(&broker, "drain", &unique("bench-drain"), &arguments);
    let count = |name: &str| result[name]["count"].as_u64().unwrap();
    assert!(result["backlog_records"].as_u64().unwrap() >= 30_990, "{result:#}");
    // All that were due are counted, before or after the consumer had caught up. (Each connection rounds its share.)
    let all = [count("ack_alone_from_intended"), count("ack_from_intended") + count("ack_afterwards_from_intended")];
    assert!(all.iter().all(|count| (990..=1010).contains(count)), "{result:#}");
    if let Some(records) = result["drain_records"].as_u64() {
        assert!(records >= 30_990 && result["drain_seconds"].as_f64().unwrap() > 0.0, "{result:#}");
    }
}

#[test]
fn the_limits_of_the_machine_are_measured() {
    let folder = harness::folder();
    let limits = |arguments: &[&str]| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelog-bench"));
        let text = run(command.args(arguments).args(["--seconds", "0.05", "--json", "-"]), wait::seconds(60));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let disk = limits(&["disk", "--file-mib", "8", "--dir", folder.path().to_str().unwrap()]);
    assert!(disk["write_fresh"]["mb_per_second"].as_f64().unwrap() > 0.0, "{disk:#}");
    assert!(disk["sync_again"]["count"].as_u64().unwrap() > 0 && disk["drive"].is_object(), "{disk:#}");
    let micro = limits(&["micro", "--only", "lz4"]);
    assert_eq!(micro["benchmarks"].as_object().unwrap().len(), 2, "{micro:#}");
    let net = limits(&["net"]);
    assert!(net["mb_per_second"].as_f64().unwrap() > 0.0 && net["host"].is_object(), "{net:#}");
}

#[test]
fn ways_to_a_socket_are_measured() {
    let folder = harness::folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog-bench"));
    command.args(["fetch-paths", "--dir", folder.path().to_str().unwrap(), "--seconds", "0.02", "--rounds", "1"]);
    command.args(["--file-mib", "64", "--hot-mib", "4", "--consumers", "2", "--bytes", "65536", "--json", "-"]);
    // The program itself fails if a wrong byte arrives.
    let text = run(&mut command, wait::seconds(240));
    let result: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let rows = result["rows"].as_array().unwrap();
    let names: std::collections::BTreeSet<&str> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
    assert!(names.len() == 24 && rows.len() == 24, "{result:#}");
    for row in rows {
        // What needs a newer kernel, or more locked memory than this user may have, or a file system with direct I/O,
        // says so.
        let needs_nothing = ["send", "sendfile", "vmsplice"].contains(&row["way"].as_str().unwrap());
        if !needs_nothing && row["not_here"].is_string() {
            continue;
        }
        for phase in ["fast", "calm"] {
            assert!(row[phase]["bytes"].as_f64().unwrap() >= 65536.0, "{row:#}");
            assert!(row[phase]["cpu_s_per_gb"].as_f64().unwrap() > 0.0, "{row:#}");
        }
        assert!(row["calm"]["p50_us"].as_f64().unwrap() > 0.0, "{row:#}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_start_is_timed_and_the_broker_lives_on() {
    let kind = Kind::from_environment();
    if matches!(kind, Kind::Existing { .. }) {
        return;
    }
    let folder = harness::folder();
    let bootstrap = format!("127.0.0.1:{}", free_ports(harness::broker::allowed_cpus().len()));
    let serve = serve_command(&kind, &folder.path().join("data"), &format!("PLAINTEXT://{bootstrap}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog-bench"));
    command.args(["start", "--bootstrap", &bootstrap, "--json", "-", "--"]).arg(serve.get_program());
    let text = run(command.args(serve.get_args()), wait::seconds(90));
    let result: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let process = result["pid"].as_u64().unwrap() as u32;
    assert!(result["first_answer_ms"].as_f64().unwrap() > 0.0, "{result:#}");
    assert!(result["metadata_ms"].as_f64().unwrap() >= result["first_answer_ms"].as_f64().unwrap(), "{result:#}");
    send_signal(process, "TERM");
    wait::until("the end of the broker", wait::seconds(60), || {
        (!Path::new(&format!("/proc/{process}")).exists()).then_some(())
    });
}
