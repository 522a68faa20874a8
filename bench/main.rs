//! `corelog-bench`: a load generator for any Kafka endpoint.
//!
//! An independent witness: open loop, latency counted from the intended send
//! time, plain threads and sockets. Of corelog it uses only `base` and `record`
//! (and what the microbenchmarks time: `wire` and `metrics`, and for `fetch-paths` the
//! part of the runtime that was made for it; and one call that has a thread stand back); a request is built
//! once, by the kafka-protocol crate, and sent again and again. Everything it
//! prints says what an acknowledgement meant and where it was got.
//!
//! `produce`, `consume`, `end-to-end`, `partitions` and `drain` measure a broker,
//! `topic` and `start` time what is done to topics and a start; `disk`, `net` and `fetch-paths` measure what the machine
//! could do without one; `plot` draws what was measured; `micro` times what every record
//! and request passes through, without a broker.

mod answers;
mod batches;
mod cluster;
mod consume;
mod content;
mod curve;
mod disk;
mod drain;
mod end_to_end;
mod failure;
mod fetch_paths;
mod host;
mod latency;
mod link;
mod micro;
mod net;
mod options;
mod pace;
mod process;
mod produce;
mod report;
mod run;
mod runs;
mod start;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use crate::cluster::NewTopic;
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::options::{
    DiskOptions, FetchPathsOptions, MicroOptions, NetOptions, Options, PlotOptions, SetOptions, StartOptions,
    TopicOptions, What, seconds,
};
use crate::report::{add, print, report_runs};

fn main() -> ExitCode {
    let result = match Options::parse().command {
        What::Produce(options) => report_runs(&options.target, |on| runs::produce(&options, on)),
        What::Consume(options) => report_runs(&options.target, |on| runs::consume(&options, on)),
        What::EndToEnd(options) => report_runs(&options.target, |on| runs::end_to_end(&options, on)),
        What::Partitions(options) => report_runs(&options.target, |on| runs::partitions(&options, on)),
        What::Drain(options) => report_runs(&options.target, |on| runs::drain(&options, on)),
        What::Plot(options) => plot(&options),
        What::Micro(options) => micro(&options),
        What::Topic(options) => topic(&options),
        What::Set(options) => set(&options),
        What::Start(options) => start(&options),
        What::Disk(options) => disk(&options),
        What::Net(options) => net(&options),
        What::FetchPaths(options) => fetch_paths(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corelog-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn set(options: &SetOptions) -> Outcome<()> {
    let (name, value) = &options.option;
    let begun = Instant::now();
    cluster::alter_brokers(&options.bootstrap, name, value)?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    print(options.json.as_deref(), &format!("{name} is {value} after {ms:.1} ms"), &json!({ "kind": "set", "ms": ms }))
}

fn topic(options: &TopicOptions) -> Outcome<()> {
    let (bootstrap, name) = (&options.bootstrap, &options.topic);
    let begun = Instant::now();
    let done = match (options.doing.create, &options.doing.alter) {
        (Some(partitions), _) => {
            let (replication_factor, configs) = (options.replication_factor, options.topic_configs.clone());
            let topic = cluster::topic(bootstrap, name, Some(&NewTopic { partitions, replication_factor, configs }))?;
            // The metadata names leaders before there are logs; an offset comes from a log.
            cluster::offsets(&topic, -1)?;
            "created, and all of its partitions answered,"
        }
        (None, Some((option, value))) => {
            cluster::alter_topic(bootstrap, name, option, value)?;
            "changed"
        }
        (None, None) => {
            cluster::delete_topic(bootstrap, name)?;
            "deleted"
        }
    };
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    print(
        options.json.as_deref(),
        &format!("topic {name}: {done} after {ms:.1} ms"),
        &json!({ "kind": "topic", "ms": ms }),
    )
}

fn start(options: &StartOptions) -> Outcome<()> {
    let started =
        start::start(&options.bootstrap, &options.command, options.log.as_deref(), seconds(options.patience))?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let line = format!(
        "start: first answer after {:.1} ms, metadata after {:.1} ms, process {}",
        ms(started.versions),
        ms(started.metadata),
        started.pid
    );
    let result = json!({
        "kind": "start",
        "command": options.command,
        "pid": started.pid,
        "first_answer_ms": ms(started.versions),
        "metadata_ms": ms(started.metadata),
        "host": host::facts(),
    });
    print(options.json.as_deref(), &line, &result)
}

fn disk(options: &DiskOptions) -> Outcome<()> {
    let probe =
        disk::Probe { duration: seconds(options.seconds), file_bytes: options.file_mib << 20, depth: options.depth };
    let (lines, measured) = disk::measure(&options.dir, probe)?;
    let drive = host::drive_facts(&options.dir)?;
    let mut result = json!({
        "kind": "disk",
        "version": env!("CARGO_PKG_VERSION"),
        "file_mib": options.file_mib,
        "depth": options.depth,
        "seconds": options.seconds,
        "host": host::facts(),
        "drive": drive,
    });
    add(&mut result, measured);
    print(options.json.as_deref(), &lines.join("\n"), &result)
}

fn net(options: &NetOptions) -> Outcome<()> {
    let probe = net::Probe {
        duration: seconds(options.seconds),
        write_bytes: options.write_bytes,
        request_bytes: options.request_bytes,
        rate: options.rate,
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
    };
    let (lines, measured) = net::measure(probe)?;
    let mut result = json!({
        "kind": "net",
        "version": env!("CARGO_PKG_VERSION"),
        "seconds": options.seconds,
        "host": host::facts(),
    });
    add(&mut result, measured);
    print(options.json.as_deref(), &lines.join("\n"), &result)
}

fn fetch_paths(options: &FetchPathsOptions) -> Outcome<()> {
    let probe = fetch_paths::Probe {
        duration: seconds(options.seconds),
        rounds: options.rounds,
        file_bytes: options.file_mib << 20,
        hot_bytes: options.hot_mib << 20,
        consumers: options.consumers.clone(),
        response_bytes: options.bytes.clone(),
        rate: options.rate,
        only: options.only.clone(),
        server_cpu: options.server_cpu,
        client_cpu: options.client_cpu,
    };
    let (lines, measured) = fetch_paths::measure(&options.dir, &probe)?;
    let mut result = json!({
        "kind": "fetch-paths",
        "version": env!("CARGO_PKG_VERSION"),
        "seconds": options.seconds,
        "host": host::facts(),
        "drive": host::drive_facts(&options.dir)?,
    });
    add(&mut result, measured);
    print(options.json.as_deref(), &lines.join("\n"), &result)
}

fn micro(options: &MicroOptions) -> Outcome<()> {
    let (lines, measured) = micro::measure(micro::FULL, seconds(options.seconds), &options.only)?;
    let result = json!({
        "kind": "micro",
        "version": env!("CARGO_PKG_VERSION"),
        "seconds": options.seconds,
        "host": host::facts(),
        "benchmarks": measured,
    });
    print(options.json.as_deref(), &lines.join("\n"), &result)
}

fn plot(options: &PlotOptions) -> Outcome<()> {
    let mut curves: Vec<(String, Latencies)> = Vec::new();
    for (name, file) in &options.logs {
        let log = std::fs::read(file).doing(|| format!("read {file}"))?;
        for (curve, latencies) in latency::read_log(&log)? {
            let name = match &options.curve {
                Some(wanted) if *wanted != curve => continue,
                Some(_) => name.clone(),
                None => format!("{name} {curve}"),
            };
            match curves.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => sum.add(&latencies),
                None => curves.push((name, latencies)),
            }
        }
    }
    if curves.is_empty() {
        return Err(failure!("the logs have no such curve"));
    }
    let named: Vec<_> = curves.iter().map(|(name, latencies)| (name.clone(), latencies)).collect();
    std::fs::write(&options.svg, curve::svg(&options.title, &named))
        .doing(|| format!("write {}", options.svg.display()))
}
