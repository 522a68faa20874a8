//! What can be asked of the program: its options, and what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corelog::record::Codec;
use serde_json::{Value, json};

use crate::cluster;
use crate::consume::Asking;
use crate::content::{Filling, KEYS_MAX, Keys, Sizes};
use crate::failure;
use crate::failure::Outcome;
use crate::produce::Shape;
use crate::report::name;

#[derive(Parser)]
#[command(
    name = "corelog-bench",
    version,
    about = "Measures a Kafka endpoint: open loop, latency from the intended send time."
)]
pub struct Options {
    #[command(subcommand)]
    pub command: What,
}

#[derive(Subcommand)]
pub enum What {
    /// Send prebuilt batches at a rate, or as fast as the broker takes them
    Produce(ProduceOptions),
    /// Fetch a topic from its beginning and count what comes
    Consume(ConsumeOptions),
    /// Produce at a rate and consume in the same process: time until a consumer has the record
    EndToEnd(EndToEndOptions),
    /// Produce at one rate to topics with ever more partitions: what a partition costs
    Partitions(PartitionsOptions),
    /// Let a consumer come late, while producers go on: time until it has caught up, and what the producers feel of it
    Drain(DrainOptions),
    /// Draw latency curves of several runs into one SVG
    Plot(PlotOptions),
    /// Create a topic, change its options or delete it, and time how long the broker takes
    Topic(TopicOptions),
    /// Give an option of all brokers another value while they run
    Set(SetOptions),
    /// Run a command and time how long the broker it starts takes to answer
    Start(StartOptions),
    /// Time checksums, codecs, the walk over records, requests and answers, in this process
    Micro(MicroOptions),
    /// Measure the drive under a directory: direct writes and reads, and what a small write costs
    Disk(DiskOptions),
    /// Measure TCP over loopback: bytes a second, and the time of a request and its answer
    Net(NetOptions),
    /// Measure ways for bytes of a file or of memory to reach sockets: what each costs the thread that serves
    FetchPaths(FetchPathsOptions),
}

#[derive(Args)]
pub struct Target {
    /// Any broker of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap: String,
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Broker's process on this machine: adds its CPU seconds and memory to the result
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Broker's data directory on this machine: the result says what a flush costs there (by writing a
    /// file of 1 MiB to it before the run). Without it, file system and drive are found by --broker-pid
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Connections to each broker
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: usize,
    /// Threads that share the connections. Default: one for each CPU that the program may use
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Measure so many times; the result is the median, with the smallest and the largest of each figure
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Seconds before anything counts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warm_up: f64,
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the first latency curve (in an open loop from the intended send time) for HdrHistogram's plotters, in µs (.hgrm)
    #[arg(long, value_name = "FILE")]
    pub histogram: Option<PathBuf>,
    /// Write all histograms as an HdrHistogram log, version 2 (.hlog): `plot` and other tools read it
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Draw the latency curves
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// A name for this result, carried into the output
    #[arg(long, default_value = "")]
    pub label: String,
}

#[derive(Args)]
pub struct Creation {
    /// Create the topic with so many partitions when it does not exist
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub partitions: i32,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replication_factor: i16,
    /// Topic option for the creation, for example flush.messages=1
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub topic_configs: Vec<(String, String)>,
    /// Delete the topic first if it exists
    #[arg(long)]
    pub recreate: bool,
}

#[derive(Args, Clone)]
pub struct Sending {
    /// Bytes of each record's value: a number, FROM..TO (evenly), lognormal:MEDIAN:P99, or BYTESxWEIGHT,...
    #[arg(long, value_name = "SIZES", default_value = "100")]
    pub record_bytes: Sizes,
    /// What values are filled with
    #[arg(long, value_enum, default_value_t = Filling::Random)]
    pub filling: Filling,
    /// Records in each batch
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch_records: usize,
    /// Partitions that get a batch in one request (librdkafka: 1; Java: all that are ready)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batches_per_request: usize,
    /// Keys of 16 bytes. A request then has batch-records times batches-per-request records, in as many
    /// batches as their keys have partitions (Kafka's default partitioner), as a client's linger gathers them
    #[arg(long, value_enum, default_value_t = Keys::None)]
    pub keys: Keys,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    pub key_count: u32,
    /// compression.type: none, gzip, snappy, lz4 or zstd. Batches are compressed before the run, but end-to-end
    /// batches (which carry their send time) before each send
    #[arg(long, value_parser = codec, default_value = "none")]
    pub codec: Codec,
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Number the batches, as producers with enable.idempotence do
    #[arg(long)]
    pub idempotent: bool,
    /// What an acknowledgement means here. Default: asked from the broker (flush.messages)
    #[arg(long, value_enum)]
    pub ack_means: Option<AckMeans>,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", conflicts_with = "records")]
    pub duration: Option<f64>,
    /// Records that count, instead of a duration
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,
}

#[derive(Args)]
pub struct ProduceOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub creation: Creation,
    #[command(flatten)]
    pub sending: Sending,
    /// Records per second over all connections (open loop), or max (closed loop)
    #[arg(long, value_parser = rate, default_value = "max")]
    pub rate: Rate,
    /// Unanswered requests of a connection when the rate is max
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub in_flight: usize,
}

#[derive(Args)]
pub struct ConsumeOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub fetching: Fetching,
    /// Fetches under way on a connection, each for its share of the partitions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub in_flight: usize,
    /// Read the topic again and again for so many seconds. Default: once, to where it ends now
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Run only while no other thread wants the CPU: beside another client that measures latencies
    #[arg(long)]
    pub stand_back: bool,
    /// Connect, and begin to read when a line comes in, or the input ends: so that a start costs nobody's figures anything
    #[arg(long)]
    pub wait: bool,
}

#[derive(Args)]
pub struct Fetching {
    /// Fetch sessions (KIP-227)
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub sessions: Switch,
    /// fetch.min.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1)]
    pub min_bytes: i32,
    /// fetch.max.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20)]
    pub max_bytes: i32,
    /// max.partition.fetch.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub partition_max_bytes: i32,
    /// fetch.max.wait.ms
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub max_wait_ms: i32,
    /// Compute the checksum of every batch
    #[arg(long)]
    pub verify: bool,
}

#[derive(Args)]
pub struct EndToEndOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub creation: Creation,
    #[command(flatten)]
    pub sending: Sending,
    /// Records per second over all connections
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    pub rate: f64,
    #[command(flatten)]
    pub fetching: Fetching,
}

#[derive(Args)]
pub struct PartitionsOptions {
    #[command(flatten)]
    pub target: Target,
    /// Numbers of partitions: each gets a topic of its own (the topic's name, then the number), deleted afterwards
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,100,1000,10000")]
    pub counts: Vec<i32>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replication_factor: i16,
    /// Topic option for the creation, for example flush.messages=1
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub topic_configs: Vec<(String, String)>,
    #[command(flatten)]
    pub sending: Sending,
    /// Records per second over all connections (open loop), the same for each number
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    pub rate: f64,
}

#[derive(Args)]
pub struct DrainOptions {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub creation: Creation,
    #[command(flatten)]
    pub sending: Sending,
    /// Records that are there before a consumer comes, sent as fast as possible
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub backlog: u64,
    /// Records in each batch of the backlog
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub backlog_batch_records: usize,
    /// Empty the machine's page cache before the consumer comes (needs root); a broker that reads directly has only
    /// its own memory to read from then anyway
    #[arg(long)]
    pub drop_caches: bool,
    /// Records per second that the producers go on with, over all connections
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    pub rate: f64,
    #[command(flatten)]
    pub fetching: Fetching,
}

#[derive(Args)]
pub struct PlotOptions {
    /// Where the drawing goes
    #[arg(long, value_name = "FILE")]
    pub svg: PathBuf,
    #[arg(long, default_value = "")]
    pub title: String,
    /// The curve of each log to draw. Default: all
    #[arg(long, value_name = "NAME")]
    pub curve: Option<String>,
    /// HdrHistogram logs, each with the name it shall have; those of one name are one curve
    #[arg(required = true, value_name = "NAME=FILE", value_parser = name_and_value)]
    pub logs: Vec<(String, String)>,
}

#[derive(Args)]
pub struct StartOptions {
    /// Where the broker will listen
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap: String,
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the broker's own output goes; thrown away by default
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub patience: f64,
    /// The command that starts the broker; it is left running
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

#[derive(Args)]
pub struct SetOptions {
    /// Any broker of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap: String,
    /// For example log.cleaner.io.max.bytes.per.second=1000000
    #[arg(value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub option: (String, String),
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct TopicOptions {
    /// Any broker of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap: String,
    #[arg(long, default_value = "bench")]
    pub topic: String,
    #[command(flatten)]
    pub doing: TopicDoing,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replication_factor: i16,
    /// Topic option for the creation, for example flush.messages=1
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = name_and_value, requires = "create")]
    pub topic_configs: Vec<(String, String)>,
    /// Write the result as JSON; - is standard output, instead of the line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// One of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TopicDoing {
    /// Create it with so many partitions
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(i32).range(1..))]
    pub create: Option<i32>,
    /// Give an option of it another value
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub alter: Option<(String, String)>,
    /// Delete it
    #[arg(long)]
    pub delete: bool,
}

#[derive(Args)]
pub struct MicroOptions {
    /// Seconds of each
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2, value_parser = positive)]
    pub seconds: f64,
    /// Only those whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct DiskOptions {
    /// Where to measure; a file is written there and removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Seconds of each of the nine measurements, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    pub seconds: f64,
    /// Size of the file
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub file_mib: u64,
    /// Writes (or reads) of 1 MiB under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub depth: usize,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct NetOptions {
    /// Seconds of each of the three measurements
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    pub seconds: f64,
    /// Bytes of each write of the one-way measurement
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    pub write_bytes: usize,
    /// Bytes of each request; the answer is as long
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub request_bytes: usize,
    /// Requests per second of the open loop
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    pub rate: f64,
    /// CPU for the end that answers. Default: where the kernel puts it
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// CPU for the end that asks
    #[arg(long, value_name = "CPU")]
    pub client_cpu: Option<usize>,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct FetchPathsOptions {
    /// Where to measure; two files are written there and removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Receivers, all at the same place of the file
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16")]
    pub consumers: Vec<usize>,
    /// Bytes of a response: powers of two from 4096 to 1048576
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "1048576,65536")]
    pub bytes: Vec<usize>,
    /// Seconds of each of a row's two measurements, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive)]
    pub seconds: f64,
    /// Go over all rows so many times; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Responses per second of the calm measurement, of all receivers together
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = positive)]
    pub rate: f64,
    /// Size of the file that is read cold
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub file_mib: u64,
    /// Size of what is kept in memory
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub hot_mib: u64,
    /// Only these ways
    #[arg(long, value_name = "WAY,...", value_delimiter = ',')]
    pub only: Vec<String>,
    /// CPU for the thread that serves. Default: where the kernel puts it
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// CPU for the thread that receives
    #[arg(long, value_name = "CPU")]
    pub client_cpu: Option<usize>,
    /// Write the result as JSON; - is standard output, instead of the lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    Max,
    RecordsPerSecond(f64),
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum AckMeans {
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
pub enum Switch {
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

fn codec(text: &str) -> Result<Codec, String> {
    let names = || Codec::ALL.map(Codec::name).join(", ");
    Codec::ALL.into_iter().find(|codec| codec.name() == text).ok_or_else(|| format!("one of {} is expected", names()))
}

impl Target {
    /// Threads of the client.
    pub fn threads(&self) -> usize {
        let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(allowed).max(1)
    }
}

impl Sending {
    pub fn check(&self, record_bytes_min: usize) -> Outcome<()> {
        if self.record_bytes.min() < record_bytes_min {
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
    pub fn duration(&self) -> Option<Duration> {
        match (self.duration, self.records) {
            (Some(duration), _) => Some(seconds(duration)),
            (None, None) => Some(Duration::from_secs(10)),
            (None, Some(_)) => None,
        }
    }

    pub fn shape(&self) -> Shape {
        Shape {
            acks: match self.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            sizes: self.record_bytes.clone(),
            batch_records: self.batch_records,
            batches_per_request: self.batches_per_request,
            idempotent: self.idempotent,
            keys: self.keys,
            key_count: self.key_count,
            codec: self.codec,
            filling: self.filling,
        }
    }

    /// `36 x 100 B per batch, 1 batch(es) per request, lz4, skewed keys`.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} x {} B per batch, {} batch(es) per request",
            self.batch_records, self.record_bytes, self.batches_per_request
        );
        if self.codec != Codec::None {
            line += &format!(", {}", self.codec.name());
        }
        if self.keys != Keys::None {
            line += &format!(", {} keys", name(self.keys));
        }
        if self.idempotent {
            line += ", idempotent";
        }
        line
    }

    /// As told, or as far as the topic's `flush.messages` says it.
    pub fn ack_means(&self, bootstrap: &str, topic: &str) -> AckMeans {
        self.ack_means.unwrap_or_else(|| match self.acks {
            Acks::None => AckMeans::Nothing,
            Acks::All if cluster::flush_messages(bootstrap, topic) == Some(1) => AckMeans::Flushed,
            _ => AckMeans::Unflushed,
        })
    }

    pub fn ack_line(&self, means: AckMeans) -> String {
        format!("acks={} means {}", name(self.acks), name(means))
    }

    pub fn json(&self, means: AckMeans) -> Value {
        json!({
            "record_bytes": self.record_bytes.to_string(),
            "filling": name(self.filling),
            "keys": name(self.keys),
            "key_count": (self.keys != Keys::None).then_some(self.key_count),
            "codec": self.codec.name(),
            "batch_records": self.batch_records,
            "batches_per_request": self.batches_per_request,
            "idempotent": self.idempotent,
            "acks": name(self.acks),
            "ack_means": name(means),
        })
    }
}

impl Fetching {
    pub fn asking(&self, in_flight: usize) -> Asking {
        Asking {
            sessions: self.sessions == Switch::On,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            partition_max_bytes: self.partition_max_bytes,
            max_wait_ms: self.max_wait_ms,
            in_flight,
            verify: self.verify,
        }
    }

    pub fn json(&self) -> Value {
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

pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
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
    fn codecs_have_kafkas_names() {
        assert_eq!(codec("zstd"), Ok(Codec::Zstd));
        assert!(codec("brotli").unwrap_err().contains("gzip"));
    }
}
