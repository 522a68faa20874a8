//! A million records with each of three client libraries, their default settings and idempotence, read by a group
//! whose members come and go; see [`harness::million`].

mod harness;

use harness::million::{Client, run};
use std::process::Command;

#[test]
fn confluent_kafka() {
    let python = harness::client("python").join("bin/python");
    let program = |name: &'static str| {
        let python = python.clone();
        Box::new(move || {
            let mut command = Command::new(&python);
            command.arg(harness::source().join("tests/clients/python").join(name));
            command
        })
    };
    run(&Client { name: "confluent-kafka", producer: program("producer.py"), member: program("member.py") });
}

#[test]
fn franz_go() {
    let folder = harness::client("go");
    let program = |name: &'static str| {
        let path = folder.join(name);
        Box::new(move || Command::new(&path))
    };
    run(&Client { name: "franz-go", producer: program("producer"), member: program("member") });
}

#[test]
fn java() {
    let folder = harness::client("java");
    let program = |class: &'static str| {
        let path = format!("{0}/classes:{0}/libs/*", folder.display());
        Box::new(move || {
            let mut command = Command::new("java");
            command.args(["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &path, class]);
            command
        })
    };
    run(&Client { name: "the Java client", producer: program("MillionProducer"), member: program("GroupMember") });
}
