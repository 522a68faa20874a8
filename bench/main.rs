//! `corelog-bench`: a load generator for any Kafka endpoint.
//!
//! An independent witness: open loop, latency counted from the intended send
//! time, plain threads and blocking sockets. Of corelog it uses only `base`; a
//! request is built once, by the kafka-protocol crate, and sent again and again.
//! Everything it prints says what an acknowledgement meant.
//!
//! `produce`, `consume` and `end-to-end` measure a broker; `start` times its start;
//! `disk` and `net` measure what the machine could do without one.

mod answers;
mod batches;
mod cluster;
mod consume;
mod disk;
mod end_to_end;
mod failure;
mod host;
mod latency;
mod net;
mod pace;
mod process;
mod produce;
mod run;
mod start;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cluster::{NewTopic, Topic};
use crate::consume::{Asking, Next, Reader, Received, Span};
use crate::end_to_end::{Ending, Tailed};
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::pace::Schedule;
use crate::produce::{Lane, Sent, Shape};
use crate::run::{Window, Worker, measure};

#[derive(Parser)]
#[command(
    name = "corelog-bench",
    version,
    about = "Measures a Kafka endpoint: open loop, latency from the intended send time."
)]
struct Options {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Send prebuilt batches at a rate, or as fast as the broker takes them
    Produce(ProduceOptions),
    /// Fetch a topic from its beginning and count what comes
    Consume(ConsumeOptions),
    /// Produce at a rate and consume in the same process: time until a consumer has the record
    EndToEnd(EndToEndOptions),
    /// Run a command and time how long the broker it starts takes to answer
    Start(StartOptions),
    /// Measure the drive under a directory: direct writes and reads, and what a small write costs
    Disk(DiskOptions),
    /// Measure TCP over loopback: bytes a second, and the time of a request and its answer
    Net(NetOptions),
}

#[derive(Args)]
struct Target {
    /// Any broker of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    bootstrap: String,
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Broker's process on this machine: adds its CPU seconds and memory to the result
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// Broker's data directory on this machine: the result says what a flush costs there (by writing a
    /// file of 1 MiB to it before the run). Without it, file system and drive are found by --broker-pid
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Connections to each broker, each with a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Seconds before anything counts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    warm_up: f64,
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latency curve (from the intended send time) for HdrHistogram's plotters, in µs
    #[arg(long, value_name = "FILE")]
    histogram: Option<PathBuf>,
    /// A name for this result, carried into the output
    #[arg(long, default_value = "")]
    label: String,
}

#[derive(Args)]
struct Creation {
    /// Create the topic with so many partitions when it does not exist
    #[arg(long, value_name = "N", default_value_t = 6)]
    partitions: i32,
    #[arg(long, value_name = "N", default_value_t = 1)]
    replication_factor: i16,
    /// Topic option for the creation, for example flush.messages=1
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    topic_configs: Vec<(String, String)>,
    /// Delete the topic first if it exists
    #[arg(long)]
    recreate: bool,
}

#[derive(Args)]
struct Sending {
    /// Bytes of each record's value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    record_bytes: usize,
    /// Records in each batch
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch_records: usize,
    /// Partitions that get a batch in one request (librdkafka: 1; Java: all that are ready)
    #[arg(long, value_name = "N", default_value_t = 1)]
    batches_per_request: usize,
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Number the batches, as producers with enable.idempotence do
    #[arg(long)]
    idempotent: bool,
    /// What an acknowledgement means here. Default: asked from the broker (flush.messages)
    #[arg(long, value_enum)]
    ack_means: Option<AckMeans>,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", conflicts_with = "records")]
    duration: Option<f64>,
    /// Records that count, instead of a duration
    #[arg(long, value_name = "N")]
    records: Option<u64>,
}

#[derive(Args)]
struct ProduceOptions {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    #[command(flatten)]
    sending: Sending,
    /// Records per second over all connections (open loop), or max (closed loop)
    #[arg(long, value_parser = rate, default_value = "max")]
    rate: Rate,
    /// Unanswered requests of a connection when the rate is max
    #[arg(long, value_name = "N", default_value_t = 5)]
    in_flight: usize,
}

#[derive(Args)]
struct ConsumeOptions {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    fetching: Fetching,
    /// Fetches under way on a connection, each for its share of the partitions
    #[arg(long, value_name = "N", default_value_t = 1)]
    in_flight: usize,
    /// Read the topic again and again for so many seconds. Default: once, to where it ends now
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
}

#[derive(Args)]
struct Fetching {
    /// Fetch sessions (KIP-227)
    #[arg(long, value_enum, default_value_t = Switch::On)]
    sessions: Switch,
    /// fetch.min.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1)]
    min_bytes: i32,
    /// fetch.max.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20)]
    max_bytes: i32,
    /// max.partition.fetch.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    partition_max_bytes: i32,
    /// fetch.max.wait.ms
    #[arg(long, value_name = "MS", default_value_t = 500)]
    max_wait_ms: i32,
    /// Compute the checksum of every batch
    #[arg(long)]
    verify: bool,
}

#[derive(Args)]
struct EndToEndOptions {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    #[command(flatten)]
    sending: Sending,
    /// Records per second over all connections
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    #[command(flatten)]
    fetching: Fetching,
}

#[derive(Args)]
struct StartOptions {
    /// Where the broker will listen
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    bootstrap: String,
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the broker's own output goes; thrown away by default
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    patience: f64,
    /// The command that starts the broker; it is left running
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct DiskOptions {
    /// Where to measure; a file is written there and removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Seconds of each of the nine measurements, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Size of the file
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    file_mib: u64,
    /// Writes (or reads) of 1 MiB under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    depth: usize,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct NetOptions {
    /// Seconds of each of the three measurements
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Bytes of each write of the one-way measurement
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    write_bytes: usize,
    /// Bytes of each request; the answer is as long
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    request_bytes: usize,
    /// Requests per second of the open loop
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    rate: f64,
    /// CPU for the end that answers. Default: where the kernel puts it
    #[arg(long, value_name = "CPU")]
    server_cpu: Option<usize>,
    /// CPU for the end that asks
    #[arg(long, value_name = "CPU")]
    client_cpu: Option<usize>,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Rate {
    Max,
    RecordsPerSecond(f64),
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum AckMeans {
    /// Nothing was promised (acks=0)
    Nothing,
    /// In the broker's memory or page cache: survives a kill of the broker at best
    Memory,
    /// The drive has completed the write: survives a crash of the broker or a kill
    Written,
    /// Written and flushed: survives power loss
    Flushed,
    /// Not flushed; whether in memory or written, the broker does not say
    Unflushed,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| String::from("a number is expected"))?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(String::from("a number above zero is expected")) }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" { Ok(Rate::Max) } else { positive(text).map(Rate::RecordsPerSecond) }
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        What::Produce(options) => produce(&options),
        What::Consume(options) => consume(&options),
        What::EndToEnd(options) => end_to_end(&options),
        What::Start(options) => start(&options),
        What::Disk(options) => disk(&options),
        What::Net(options) => net(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corelog-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn produce(options: &ProduceOptions) -> Outcome<()> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(0)?;
    let surroundings = Surroundings::of(target)?;
    let topic = prepare(target, &options.creation)?;
    let ack_means = sending.ack_means(target);
    let lanes = lanes(&topic, target, sending, None)?;
    let window = Window::new(seconds(target.warm_up), sending.duration());
    let count = lanes.len() as u64;
    let share = sending.records.map(|records| records.div_ceil(count));
    let total_partitions = topic.partitions() as f64;
    let workers = lanes.into_iter().enumerate().map(|(index, (lane, partitions))| -> Worker<'_, Sent> {
        match options.rate {
            Rate::Max => Box::new(move |window, progress| lane.run_closed(window, progress, options.in_flight, share)),
            Rate::RecordsPerSecond(rate) => {
                let requests = rate / sending.records_per_request() * partitions as f64 / total_partitions;
                let schedule = Schedule::new(window.zero, requests, index as f64 / count as f64);
                Box::new(move |window, progress| lane.run_open(window, progress, schedule, share))
            }
        }
    });
    let workers: Vec<_> = workers.collect();
    let (measured, sent) = measure(&window, target.broker_pid, workers, count as usize)?;

    let (mut intended, mut actual, mut unsent) = (Latencies::new(), Latencies::new(), 0);
    for lane in &sent {
        intended.add(&lane.from_intended);
        actual.add(&lane.from_actual);
        unsent += lane.unsent;
    }
    let open = options.rate != Rate::Max;
    let latency = match (sending.acks, open) {
        (Acks::None, _) => String::from("; acks=0 has no answers to time"),
        (_, true) => format!("; ack from intended send {}; from actual send {}", intended.line(), actual.line()),
        (_, false) => format!("; ack {}", actual.line()),
    };
    let late = if unsent > 0 {
        format!("; {unsent} REQUESTS DUE WERE NEVER SENT: the rate is too high")
    } else {
        String::new()
    };
    let line = format!(
        "produce {}: {}{latency}{}{late}; {}",
        described(&topic, target, sending, options.rate),
        measured.rates_line(),
        measured.broker_line(),
        sending.ack_line(ack_means)
    );
    let mut result = header("produce", target, &topic, &surroundings);
    add(&mut result, sending.json(ack_means));
    add(&mut result, measured.json());
    result["rate"] = match options.rate {
        Rate::Max => json!("max"),
        Rate::RecordsPerSecond(rate) => json!(rate),
    };
    result["in_flight"] = if open { Value::Null } else { json!(options.in_flight) };
    result["ack_from_intended"] = intended.json();
    result["ack_from_actual"] = actual.json();
    result["requests_unsent"] = json!(unsent);
    result["records_total"] = json!(sent.iter().map(|lane| lane.records_total).sum::<u64>());
    report(target, &surroundings, &line, &result, &intended)
}

fn consume(options: &ConsumeOptions) -> Outcome<()> {
    let target = &options.target;
    let surroundings = Surroundings::of(target)?;
    let topic = cluster::topic(&target.bootstrap, &target.topic, None)?;
    let begins = cluster::offsets(&topic, -2)?;
    let ends = cluster::offsets(&topic, -1)?;
    let spans: BTreeMap<i32, Span> =
        begins.iter().map(|(&partition, &begin)| (partition, Span { begin, end: ends[&partition] })).collect();
    let expected: i64 = spans.values().map(|span| span.end - span.begin).sum();
    if expected == 0 {
        return Err(failure!("topic {} at {} is empty", target.topic, target.bootstrap));
    }
    let asking = Asking { in_flight: options.in_flight, ..options.fetching.asking() };
    let mut readers = Vec::new();
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.threads) {
            readers.push(Reader::open(&leader.address, &topic, &partitions, &spans, asking)?);
        }
    }
    // A single pass has no warm-up: everything counts.
    let warm_up = options.duration.map_or(Duration::ZERO, |_| seconds(target.warm_up));
    let window = Window::new(warm_up, options.duration.map(seconds));
    let repeat = options.duration.is_some();
    let workers: Vec<Worker<'_, Received>> = readers
        .into_iter()
        .map(|reader| -> Worker<'_, Received> {
            Box::new(move |window, progress| reader.run(window, progress, repeat, |_, _| Next::Continue))
        })
        .collect();
    let count = workers.len();
    let begun = Instant::now();
    let (measured, received) = measure(&window, target.broker_pid, workers, count)?;
    let total: u64 = received.iter().map(|reader| reader.records_total).sum();
    // Compaction and transactions leave gaps in the offsets, so fewer is no loss by itself.
    let note = if !repeat && total != expected as u64 {
        format!("; {total} records came, the offsets span {expected}")
    } else {
        String::new()
    };
    let mut fetches = Latencies::new();
    received.iter().for_each(|reader| fetches.add(&reader.fetches));
    let line = format!(
        "consume {} ({} partitions on {} broker(s), {count} connection(s)): {}; fetch {}{}{note}",
        topic.name,
        topic.partitions(),
        topic.leaders.len(),
        measured.rates_line(),
        fetches.line(),
        measured.broker_line()
    );
    let mut result = header("consume", target, &topic, &surroundings);
    add(&mut result, measured.json());
    add(&mut result, options.fetching.json());
    result["in_flight"] = json!(options.in_flight);
    result["records_total"] = json!(total);
    result["records_expected"] = if repeat { Value::Null } else { json!(expected) };
    result["wall_seconds"] = json!(begun.elapsed().as_secs_f64());
    result["fetch"] = fetches.json();
    report(target, &surroundings, &line, &result, &fetches)
}

enum Part {
    Sent(Sent),
    Tailed(Box<Tailed>),
}

fn end_to_end(options: &EndToEndOptions) -> Outcome<()> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(batches::STAMP_BYTES)?;
    let surroundings = Surroundings::of(target)?;
    let topic = prepare(target, &options.creation)?;
    let ack_means = sending.ack_means(target);
    let ends = cluster::offsets(&topic, -1)?;
    let spans: BTreeMap<i32, Span> =
        ends.iter().map(|(&partition, &end)| (partition, Span { begin: end, end: i64::MAX })).collect();
    // Distinguishes this run's records; need not be secret or even random.
    let run_id =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mut readers = Vec::new();
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.threads) {
            readers.push(Reader::open(&leader.address, &topic, &partitions, &spans, options.fetching.asking())?);
        }
    }
    let lanes = lanes(&topic, target, sending, Some(run_id))?;
    let count = lanes.len();
    let window = Window::new(seconds(target.warm_up), sending.duration());
    let share = sending.records.map(|records| records.div_ceil(count as u64));
    let ending = Ending::new(count);
    let total_partitions = topic.partitions() as f64;
    let mut workers: Vec<Worker<'_, Part>> = Vec::new();
    for (index, (lane, partitions)) in lanes.into_iter().enumerate() {
        let requests = options.rate / sending.records_per_request() * partitions as f64 / total_partitions;
        let schedule = Schedule::new(window.zero, requests, index as f64 / count as f64);
        let ending = &ending;
        workers.push(Box::new(move |window, progress| {
            let sent = lane.run_open(window, progress, schedule, share);
            ending.producer_ended(sent.as_ref().map_or(0, |sent| sent.records_total));
            sent.map(Part::Sent)
        }));
    }
    for reader in readers {
        let ending = &ending;
        workers.push(Box::new(move |window, progress| {
            end_to_end::tail(reader, window, progress, run_id, ending).map(|tailed| Part::Tailed(Box::new(tailed)))
        }));
    }
    let (measured, parts) = measure(&window, target.broker_pid, workers, count)?;

    let (mut intended, mut actual, mut acks, mut acks_actual) =
        (Latencies::new(), Latencies::new(), Latencies::new(), Latencies::new());
    let (mut fetches, mut unsent) = (Latencies::new(), 0);
    for part in &parts {
        match part {
            Part::Sent(sent) => {
                acks.add(&sent.from_intended);
                acks_actual.add(&sent.from_actual);
                unsent += sent.unsent;
            }
            Part::Tailed(tailed) => {
                intended.add(&tailed.from_intended);
                actual.add(&tailed.from_actual);
                fetches.add(&tailed.fetches);
            }
        }
    }
    let (sent, received) = ending.records();
    let mut note = String::new();
    if received != sent {
        note += &format!("; {sent} RECORDS WERE ACKNOWLEDGED BUT {received} CAME");
    }
    if unsent > 0 {
        note += &format!("; {unsent} REQUESTS DUE WERE NEVER SENT: the rate is too high");
    }
    let line = format!(
        "end-to-end {}: {}; from intended send to consumer {}; ack from intended send {}{}{note}; {}",
        described(&topic, target, sending, Rate::RecordsPerSecond(options.rate)),
        measured.rates_line(),
        intended.line(),
        acks.line(),
        measured.broker_line(),
        sending.ack_line(ack_means)
    );
    let mut result = header("end-to-end", target, &topic, &surroundings);
    add(&mut result, sending.json(ack_means));
    add(&mut result, options.fetching.json());
    add(&mut result, measured.json());
    result["rate"] = json!(options.rate);
    result["end_to_end_from_intended"] = intended.json();
    result["end_to_end_from_actual"] = actual.json();
    result["ack_from_intended"] = acks.json();
    result["ack_from_actual"] = acks_actual.json();
    result["fetch"] = fetches.json();
    result["requests_unsent"] = json!(unsent);
    result["records_sent"] = json!(sent);
    result["records_received"] = json!(received);
    report(target, &surroundings, &line, &result, &intended)?;
    if received != sent { Err(failure!("records were lost or doubled")) } else { Ok(()) }
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

impl Sending {
    fn check(&self, record_bytes_min: usize) -> Outcome<()> {
        if self.record_bytes < record_bytes_min {
            return Err(failure!("--record-bytes must be at least {record_bytes_min} here"));
        }
        if self.idempotent && self.acks != Acks::All {
            return Err(failure!("--idempotent needs --acks all"));
        }
        if self.batch_records == 0 || self.batches_per_request == 0 {
            return Err(failure!("--batch-records and --batches-per-request must be at least 1"));
        }
        Ok(())
    }

    /// Ten seconds unless a number of records ends the run.
    fn duration(&self) -> Option<Duration> {
        match (self.duration, self.records) {
            (Some(duration), _) => Some(seconds(duration)),
            (None, None) => Some(Duration::from_secs(10)),
            (None, Some(_)) => None,
        }
    }

    fn records_per_request(&self) -> f64 {
        (self.batch_records * self.batches_per_request) as f64
    }

    fn shape(&self) -> Shape {
        Shape {
            acks: match self.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            record_bytes: self.record_bytes,
            batch_records: self.batch_records,
            batches_per_request: self.batches_per_request,
            idempotent: self.idempotent,
        }
    }

    /// As told, or as far as the topic's `flush.messages` says it.
    fn ack_means(&self, target: &Target) -> AckMeans {
        self.ack_means.unwrap_or_else(|| match self.acks {
            Acks::None => AckMeans::Nothing,
            Acks::All if cluster::flush_messages(&target.bootstrap, &target.topic) == Some(1) => AckMeans::Flushed,
            _ => AckMeans::Unflushed,
        })
    }

    fn ack_line(&self, means: AckMeans) -> String {
        format!("acks={} means {}", name(self.acks), name(means))
    }

    fn json(&self, means: AckMeans) -> Value {
        json!({
            "record_bytes": self.record_bytes,
            "batch_records": self.batch_records,
            "batches_per_request": self.batches_per_request,
            "idempotent": self.idempotent,
            "acks": name(self.acks),
            "ack_means": name(means),
        })
    }
}

impl Fetching {
    fn asking(&self) -> Asking {
        Asking {
            sessions: self.sessions == Switch::On,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            partition_max_bytes: self.partition_max_bytes,
            max_wait_ms: self.max_wait_ms,
            in_flight: 1,
            verify: self.verify,
        }
    }

    fn json(&self) -> Value {
        json!({
            "sessions": name(self.sessions),
            "min_bytes": self.min_bytes,
            "max_bytes": self.max_bytes,
            "partition_max_bytes": self.partition_max_bytes,
            "max_wait_ms": self.max_wait_ms,
            "verify": self.verify,
        })
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// An option's value as it is typed.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Finds the topic, or makes it.
fn prepare(target: &Target, creation: &Creation) -> Outcome<Topic> {
    if creation.recreate {
        cluster::delete_topic(&target.bootstrap, &target.topic)?;
    }
    let new = NewTopic {
        partitions: creation.partitions,
        replication_factor: creation.replication_factor,
        configs: creation.topic_configs.clone(),
    };
    let topic = cluster::topic(&target.bootstrap, &target.topic, Some(&new))?;
    // Shows that the leaders know that they lead: the first request must not fail.
    cluster::offsets(&topic, -1)?;
    Ok(topic)
}

/// Deals partitions out to at most `hands` connections, none of them empty.
fn dealt(partitions: &[i32], hands: usize) -> Vec<Vec<i32>> {
    let hands = hands.clamp(1, partitions.len().max(1));
    let mut dealt = vec![Vec::new(); hands];
    for (index, &partition) in partitions.iter().enumerate() {
        dealt[index % hands].push(partition);
    }
    dealt
}

/// One lane per connection, with the number of its partitions.
fn lanes(topic: &Topic, target: &Target, sending: &Sending, run_id: Option<u64>) -> Outcome<Vec<(Lane, usize)>> {
    let mut lanes = Vec::new();
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.threads) {
            let lane = Lane::open(&leader.address, topic, &partitions, &sending.shape(), run_id)?;
            lanes.push((lane, partitions.len()));
        }
    }
    Ok(lanes)
}

fn described(topic: &Topic, target: &Target, sending: &Sending, rate: Rate) -> String {
    let rate = match rate {
        Rate::Max => String::from("as fast as possible"),
        Rate::RecordsPerSecond(rate) => format!("{rate} records/s intended"),
    };
    format!(
        "{} ({} partitions on {} broker(s), {} connection(s) each, {} x {} B per batch, {} batch(es) per request, {rate})",
        topic.name,
        topic.partitions(),
        topic.leaders.len(),
        target.threads,
        sending.batch_records,
        sending.record_bytes,
        sending.batches_per_request
    )
}

/// Machine and drive that a result was got on, known before its run.
struct Surroundings {
    host: Value,
    drive: Value,
}

impl Surroundings {
    fn of(target: &Target) -> Outcome<Surroundings> {
        let found = || target.broker_pid.and_then(host::data_dir_of);
        let drive = match &target.data_dir {
            Some(folder) => host::probed_drive_facts(folder)?,
            None => found().and_then(|folder| host::drive_facts(&folder).ok()).unwrap_or_default(),
        };
        Ok(Surroundings { host: host::facts(), drive })
    }
}

fn header(kind: &str, target: &Target, topic: &Topic, surroundings: &Surroundings) -> Value {
    json!({
        "kind": kind,
        "label": target.label,
        "version": env!("CARGO_PKG_VERSION"),
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
        "bootstrap": target.bootstrap,
        "topic": topic.name,
        "partitions": topic.partitions(),
        "brokers": topic.leaders.len(),
        "threads": target.threads,
        "warm_up_seconds": target.warm_up,
        "host": surroundings.host,
        "drive": surroundings.drive,
    })
}

fn add(result: &mut Value, more: Value) {
    if let (Value::Object(result), Value::Object(more)) = (result, more) {
        result.extend(more);
    }
}

fn report(target: &Target, surroundings: &Surroundings, line: &str, result: &Value, curve: &Latencies) -> Outcome<()> {
    if let Some(file) = &target.histogram {
        std::fs::write(file, curve.percentile_file()).doing(|| format!("write {}", file.display()))?;
    }
    let line = format!("{line}\non {}", host::line(&surroundings.host, &surroundings.drive));
    print(target.json.as_deref(), &line, result)
}

fn print(json: Option<&std::path::Path>, line: &str, result: &Value) -> Outcome<()> {
    let whole = format!("{result:#}");
    let shown = match json {
        Some(file) if file == std::path::Path::new("-") => &whole,
        Some(file) => {
            std::fs::write(file, format!("{whole}\n")).doing(|| format!("write {}", file.display()))?;
            line
        }
        None => line,
    };
    match writeln!(std::io::stdout(), "{shown}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.doing(|| String::from("print the result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn rates_are_numbers_or_max() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("1e5"), Ok(Rate::RecordsPerSecond(100_000.0)));
        for wrong in ["0", "-1", "fast", "inf", "NaN", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn partitions_are_dealt_out_evenly() {
        assert_eq!(dealt(&[0, 1, 2, 3, 4], 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(dealt(&[7], 3), [vec![7]]);
    }
}
