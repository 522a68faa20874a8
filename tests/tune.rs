//! `corelog tune` as an operator runs it, on the host of the test.

mod harness;

use harness::program::{Ended, Program};
use harness::wait::PATIENCE;
use std::path::Path;
use std::process::Command;

fn tune(arguments: &[&str]) -> Ended {
    Program::start(Command::new(env!("CARGO_BIN_EXE_corelog")).arg("tune").args(arguments)).end(PATIENCE)
}

/// Checks that every host has, whatever it shows of them.
const CHECKS: &[&str] = &[
    "flush",
    "write-cache",
    "file-system",
    "mount-options",
    "io-scheduler",
    "governor",
    "c-states",
    "wake-up",
    "numa",
    "interrupts",
    "clock-source",
    "huge-pages enabled",
    "huge-pages defrag",
    "memlock",
    "open-files",
    "sysctl net.core.somaxconn",
    "sysctl kernel.io_uring_disabled",
];

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_check_names_each_thing_and_leaves_nothing_behind() {
    let dir = harness::folder();
    let path = dir.path().to_str().unwrap();
    let ended = tune(&["check", "--data-dir", path]);
    let lines: Vec<&str> = ended.output.lines().collect();
    println!("{}", ended.output);
    for check in CHECKS {
        let is_it = |line: &&&str| {
            line.split_once("  ").is_some_and(|(_, rest)| rest.trim_start().starts_with(&format!("{check}  ")))
        };
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{check}");
    }
    let deviations = lines.iter().filter(|line| line.starts_with("deviates ")).count();
    assert!(lines.iter().all(|line| ["deviates ", "ok ", "unknown "].iter().any(|state| line.starts_with(state))));
    assert_eq!(ended.status.code(), Some(i32::from(deviations > 0)), "{}", ended.errors);
    let flush = lines.iter().find(|line| line.contains("  flush  ")).unwrap();
    assert!(flush.contains("p50 ") && flush.contains("p99 "), "{flush}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn the_same_as_json() {
    let ended = tune(&["check", "--json"]);
    let checks: serde_json::Value = serde_json::from_str(&ended.output).unwrap();
    for check in CHECKS {
        let found = checks.as_array().unwrap().iter().find(|found| found["check"] == *check).expect(check);
        assert!(["ok", "deviates", "unknown"].contains(&found["state"].as_str().unwrap()), "{found}");
        assert!(found["have"].is_string() && found["want"].is_string() && found["cost"].is_string(), "{found}");
    }
    assert!(matches!(ended.status.code(), Some(0 | 1)), "{}", ended.errors);
}

#[test]
fn a_dry_run_says_what_it_would_write() {
    let dir = harness::folder();
    let before = std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let ended = tune(&["apply", "--dry-run", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
    let told = ended.output.contains("/proc/sys/vm/swappiness: ");
    assert_eq!(told, before.trim().parse::<u32>().unwrap() > 1, "{}", ended.output);
    assert_eq!(std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap(), before);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn what_cannot_be_looked_at_ends_with_2() {
    let dir = harness::folder();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for (arguments, expected) in [
        (&["check", "--data-dir", "/no/such/place"][..], "No such file"),
        (&["check", "--data-dir", file.to_str().unwrap()], "is not a directory"),
        (&["apply", "--dry-run", "--data-dir", "/no/such/place"], "No such file"),
        (&["file", "fstab"], "there is no file"),
    ] {
        let ended = tune(arguments);
        assert_eq!((ended.status.code(), ended.output.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ended.errors.contains(expected), "{}", ended.errors);
    }
}

#[test]
fn the_files_come_out_as_they_are() {
    let ended = tune(&["file", "sysctl"]);
    let text = std::fs::read_to_string(harness::source().join("tuning/sysctl.d/99-corelog.conf")).unwrap();
    assert_eq!(ended.output.trim_end(), text.trim_end());
    let listed = tune(&["file"]).output;
    for name in ["sysctl", "limits", "service", "tune-service"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
    }
}
