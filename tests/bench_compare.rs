//! `bench/compare/run` against a real broker, with small inputs, so that it stays alive: a row of each kind, and a report
//! in which all of them stand. No figure is judged here.

mod harness;

use harness::broker::{Kind, free_ports};
use harness::program::run;
use harness::wait;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/compare/run");

#[test]
fn every_kind_of_row_is_measured_and_reported() {
    if !matches!(Kind::from_environment(), Kind::Corelog) {
        return;
    }
    let folder = harness::folder();
    let out = folder.path().join("out");
    let rows = "produce-100x36-acks-1,single-1000-flushed,end-to-end-half,consume-100-memory,partitions-100,start";
    let mut command = Command::new("python3");
    command.args([SCRIPT, "--peers", "corelog", "--rounds", "1", "--seconds", "0.2", "--warm", "0.5", "--rows", rows]);
    command.args(["--disk-mib", "8", "--hot-mb", "2", "--crash-mb", "4", "--port", &free_ports(1).to_string()]);
    command.args(["--bench", env!("CARGO_BIN_EXE_corelog-bench")]).arg("--out").arg(&out);
    command.env("COMPARE_CORELOG", format!("{} serve", env!("CARGO_BIN_EXE_corelog")));
    let printed = run(&mut command, wait::seconds(300));

    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    for row in rows.split(',') {
        let rounds = result["results"][row]["corelog"].as_array().unwrap();
        assert!(rounds.len() == 1 && rounds.iter().all(|parts| parts["error"].is_null()), "{row}: {rounds:#?}");
    }
    // Nothing failed, every table is there, and the one of the latencies has a line for each of its rows.
    assert!(!printed.contains("failed:"), "{printed}");
    for header in
        ["limit of the machine", "work, as fast as possible", "work at a given rate", "| start |", "resident idle"]
    {
        assert!(printed.contains(header), "{header}: {printed}");
    }
    assert_eq!(printed.matches("| corelog | flushed |").count(), 3, "{printed}");
    let (markdown, page) = (read("report.md"), read("report.html"));
    assert!(markdown.contains("](curves/end-to-end-half.svg)"), "{markdown}");
    for (one, other) in [("<table>", "</table>"), ("<tr>", "</tr>"), ("<svg", "</svg>"), ("<td>", "</td>")] {
        assert!(page.contains(one) && page.matches(one).count() == page.matches(other).count(), "{one}");
    }
    assert_eq!(read("curves/single-1000-flushed.svg").matches("<polyline").count(), 1);
    assert!(!Path::new(&out.join("data-corelog")).exists(), "the data is left behind");

    let mut again = Command::new("python3");
    again.args([SCRIPT, "--report"]).arg(out.join("result.json"));
    assert_eq!(run(&mut again, wait::seconds(60)), printed);
}

#[test]
fn unknown_rows_are_refused_and_all_are_listed() {
    let refused = Command::new("python3").args([SCRIPT, "--rows", "produce,no-such-row"]).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no-such-row") && !said.contains("produce,"), "{said}");
    let listed = run(Command::new("python3").args([SCRIPT, "--list"]), wait::seconds(60));
    let groups = [
        "produce",
        "latency",
        "end-to-end",
        "consume",
        "limits",
        "partitions",
        "fairness",
        "lagging",
        "start",
        "scaling",
    ];
    for group in groups {
        assert!(
            listed.lines().any(|line| line.split_ascii_whitespace().any(|word| word == group)),
            "{group}: {listed}"
        );
    }
}
