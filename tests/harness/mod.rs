//! What the tests with real processes share: a broker to test, other programs with deadlines, and conditions to wait for.
//!
//! - [`broker`]: starts corelog (or Apache Kafka, or finds a running broker), kills it, stops it and judges its log.
//! - [`client`]: Kafka's messages over one connection.
//! - [`crash`]: a load whose broker dies again and again, and what must hold afterwards.
//! - [`drive`]: a drive whose power can be cut, with a real file system on it.
//! - [`program`]: client programs, their lines of output, their end.
//! - [`wait`]: wait until something holds. No test sleeps for a guessed time.
//! - [`million`], [`ledger`]: producers whose records can be counted: a whole scenario, and one with a broker that dies.
//! - [`records`]: what a test reads back itself, with librdkafka.
//! - [`refusal`]: a kernel that refuses some system calls.
//! - [`wire`]: Kafka frames over a bare socket.
//!
//! Environment:
//! - `CORELOG_TEST_BROKER=kafka`: the same tests against Apache Kafka (`scripts/kafka serve`), to judge the tests.
//! - `CORELOG_TEST_BOOTSTRAP=HOST:PORT`: against a broker that runs already; tests that must start or kill one skip.
//! - `CORELOG_TEST_CLIENTS`: where `scripts/setup-tests` keeps client programs.

// Each test file uses a part of this.
#![allow(dead_code)]

pub mod broker;
pub mod client;
pub mod crash;
pub mod drive;
pub mod ledger;
pub mod million;
pub mod program;
pub mod records;
pub mod refusal;
pub mod turmoil;
pub mod wait;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The root of the source tree.
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A new empty folder for the files of one test, on the disk that holds `target/`. It goes when it is dropped.
pub fn folder() -> tempfile::TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(parent).unwrap();
    tempfile::Builder::new().prefix("test-").tempdir_in(parent).unwrap()
}

/// A name for a topic or a group that no earlier run on the same broker has used.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("{name}-{since}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where `scripts/setup-tests` has put `part`; it installs and compiles what is missing.
pub fn client(part: &str) -> PathBuf {
    let mut command = std::process::Command::new(source().join("scripts/setup-tests"));
    let output = command.arg(part).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "scripts/setup-tests {part} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(part)?.strip_prefix('='));
    PathBuf::from(line.unwrap_or_else(|| panic!("scripts/setup-tests {part} did not say where: {text}")))
}
