//! `corelog format`: a directory gets its identity once, and keeps it.

mod harness;

use harness::program::{Ended, Program};
use harness::wait::PATIENCE;
use std::path::Path;
use std::process::Command;

fn format(directory: &Path, more: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("format").arg("--data-dir").arg(directory).args(more);
    Program::start(&mut command).end(PATIENCE)
}

#[test]
fn a_directory_is_formatted_once() {
    let folder = harness::folder();
    let directory = folder.path().join("data");
    let id = "4L6g3nShT-eMCtK--X86sw";

    let wrong = format(&directory, &["--cluster-id", "short"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.errors);
    assert!(wrong.errors.contains("'short'") && !directory.exists(), "{}", wrong.errors);

    let done = format(&directory, &["--cluster-id", id, "--node-id", "3"]);
    assert!(done.status.success(), "{}", done.errors);
    assert_eq!(done.output, format!("{}: formatted, node 3 of cluster {id}", directory.display()));
    let properties = std::fs::read_to_string(directory.join("meta.properties")).unwrap();
    for line in ["version=1", "node.id=3", &format!("cluster.id={id}")] {
        assert!(properties.lines().any(|l| l == line), "{line} is not in {properties}");
    }

    let again = format(&directory, &[]);
    assert_eq!(again.status.code(), Some(3), "{}", again.errors);
    assert!(again.errors.contains(id) && again.errors.contains("--ignore-formatted"), "{}", again.errors);
    let ignored = format(&directory, &["--ignore-formatted"]);
    assert!(ignored.status.success(), "{}", ignored.errors);
    assert!(ignored.output.contains("is formatted already, node 3"), "{}", ignored.output);
    assert_eq!(std::fs::read_to_string(directory.join("meta.properties")).unwrap(), properties);
}

#[test]
fn each_directory_gets_an_id_of_its_own() {
    let folder = harness::folder();
    let id = |name: &str| {
        let done = format(&folder.path().join(name), &[]);
        assert!(done.status.success(), "{}", done.errors);
        let id = done.output.rsplit(' ').next().unwrap().to_string();
        assert_eq!(id.len(), 22, "{id}");
        id
    };
    assert_ne!(id("a"), id("b"));
}
