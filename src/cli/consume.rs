//! `corelog consume`: records become lines on standard output.

use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use super::client::{Connection, Quiet, TopicName};
use super::failure::Failure;
use super::progress::{Progress, grouped};
use super::seconds;
use super::topic::no_such_topic;
use crate::runtime::signal;

/// How long the broker may take to answer before the first record.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Print a topic's records, one per line
///
/// Without --group, every partition is read from where --offset says, and nothing is committed. With --group, the
/// partitions are shared with the group's other members, reading goes on at the group's committed offsets, and what
/// was printed is committed, also when Ctrl-C ends the reading.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    topic: TopicName,
    /// Start at the oldest record; with --group, only where the group has committed nothing
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Start at this offset: a number, -N for the last N of each partition, earliest or latest
    #[arg(short, long, value_name = "OFFSET", default_value = "latest", value_parser = start, allow_hyphen_values = true)]
    offset: Start,
    /// Read only this partition; may be repeated
    #[arg(short, long = "partition", value_name = "N", conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Read as a member of this consumer group, and commit
    #[arg(short, long, value_name = "GROUP", conflicts_with = "offset")]
    group: Option<String>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    max_messages: Option<u64>,
    /// Stop when no record came for this time; if there was none at all, that is a failure
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Stop at the end of each partition
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Print the key before the value
    #[arg(short = 'k', long)]
    print_key: bool,
    /// Print partition and offset before the record
    #[arg(long)]
    print_offset: bool,
    /// Print the time stamp before the record, in milliseconds since 1970
    #[arg(long)]
    print_timestamp: bool,
    /// Print headers before the record, as NAME=VALUE,...
    #[arg(long)]
    print_headers: bool,
    /// What separates the parts of a line; \t is a tab
    #[arg(long, value_name = "SEPARATOR", default_value = "\\t")]
    separator: String,
    /// What is printed for a missing key or value
    #[arg(long, value_name = "TEXT", default_value = "null")]
    null: String,
    /// Read also what transactions have not committed yet
    #[arg(long)]
    read_uncommitted: bool,
    /// Say nothing at the end
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Earliest,
    Latest,
    At(i64),
    /// This many before the end.
    Last(i64),
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" | "beginning" => return Ok(Start::Earliest),
        "latest" | "end" => return Ok(Start::Latest),
        _ => {}
    }
    match text.parse::<i64>() {
        // librdkafka keeps offsets below -2000 for "before the end", up to a bound.
        Ok(n) if (-1_000_000_000..0).contains(&n) => Ok(Start::Last(-n)),
        Ok(n) if n >= 0 => Ok(Start::At(n)),
        _ => Err("a number, -N, earliest or latest is expected".to_string()),
    }
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    let stop = stop_when_told()?;
    let consumer = consumer(&arguments)?;
    let partitions = begin(&arguments, &consumer)?;
    let mut printer = Printer::new(&arguments);
    let outcome = print_all(&arguments, &consumer, &partitions, &mut printer, &stop);
    printer.progress.finish();
    if arguments.group.is_some() {
        commit(&consumer, &arguments)?;
    }
    outcome?;
    if !arguments.quiet && io::stderr().is_terminal() {
        eprintln!("{} records", grouped(printer.records));
    }
    Ok(())
}

/// Ctrl-C ends the reading, so that what was printed is committed and the group
/// is left at once; a second one ends the program.
fn stop_when_told() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    signal::on_termination(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

fn consumer(arguments: &Arguments) -> Result<BaseConsumer<Quiet>, Failure> {
    let connection = &arguments.connection;
    let mut config: ClientConfig = connection.config()?;
    let reset = if arguments.from_beginning { "earliest" } else { "latest" };
    let isolation = if arguments.read_uncommitted { "read_uncommitted" } else { "read_committed" };
    let defaults = [
        ("group.id", arguments.group.as_deref().unwrap_or("corelog-consume")),
        ("auto.offset.reset", reset),
        // An offset is stored for the next commit when its record was printed, not when it was fetched.
        ("enable.auto.commit", if arguments.group.is_some() { "true" } else { "false" }),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
        ("isolation.level", isolation),
        ("queued.max.messages.kbytes", "131072"),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config.create_with_context(connection.context()).map_err(|error| connection.explain("set up the consumer", error))
}

/// Subscribes or assigns. The partitions that will be read; none of them known
/// yet when a group decides.
fn begin(arguments: &Arguments, consumer: &BaseConsumer<Quiet>) -> Result<Vec<i32>, Failure> {
    let (topic, connection) = (arguments.topic.get(), &arguments.connection);
    let metadata = connection.metadata(consumer, ANSWER_TIMEOUT)?;
    let Some(known) = metadata.topics().iter().find(|known| known.name() == topic) else {
        return Err(no_such_topic(topic));
    };
    if arguments.group.is_some() {
        consumer.subscribe(&[topic]).map_err(|error| connection.explain("subscribe", error))?;
        return Ok(Vec::new());
    }
    let all: Vec<i32> = known.partitions().iter().map(|partition| partition.id()).collect();
    let chosen = if arguments.partitions.is_empty() { all.clone() } else { arguments.partitions.clone() };
    if let Some(missing) = chosen.iter().find(|partition| !all.contains(partition)) {
        return Err(Failure::job(format!("topic {topic} has {} partitions, so none is {missing}", all.len())));
    }
    let offset = match (arguments.from_beginning, arguments.offset) {
        (true, _) | (_, Start::Earliest) => Offset::Beginning,
        (_, Start::Latest) => Offset::End,
        (_, Start::At(offset)) => Offset::Offset(offset),
        (_, Start::Last(count)) => Offset::OffsetTail(count),
    };
    let mut assignment = TopicPartitionList::new();
    for partition in &chosen {
        let added = assignment.add_partition_offset(topic, *partition, offset);
        added.map_err(|error| connection.explain("choose partitions", error))?;
    }
    consumer.assign(&assignment).map_err(|error| connection.explain("choose partitions", error))?;
    Ok(chosen)
}

fn print_all(
    arguments: &Arguments,
    consumer: &BaseConsumer<Quiet>,
    partitions: &[i32],
    printer: &mut Printer<'_>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut ended: HashSet<i32> = HashSet::new();
    let mut last_record = Instant::now();
    let mut is_lost = false;
    while arguments.max_messages.is_none_or(|most| printer.records < most) && !stop.load(Ordering::Relaxed) {
        // What is there already is printed in one go; the output is flushed before a wait.
        let polled = match consumer.poll(Duration::ZERO) {
            Some(polled) => Some(polled),
            None => {
                printer.flush()?;
                consumer.poll(Duration::from_millis(100))
            }
        };
        match polled {
            Some(Ok(message)) => {
                printer.print(&message)?;
                ended.remove(&message.partition());
                last_record = Instant::now();
                is_lost = false;
                if arguments.group.is_some() {
                    // Fails only for a partition that was just taken from us: its new owner prints it again.
                    let _ = consumer.store_offset_from_message(&message);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                if arguments.exit_at_end && all_ended(arguments, consumer, partitions, &ended) {
                    break;
                }
            }
            Some(Err(error)) if is_passing(&error) => {
                if !is_lost && !arguments.quiet {
                    let trouble = consumer.context().trouble().unwrap_or_else(|| error.to_string());
                    eprintln!("corelog: {trouble}; trying again until it is back");
                }
                is_lost = true;
            }
            Some(Err(error)) => return Err(arguments.connection.explain("consume", error)),
            None => {}
        }
        if arguments.timeout.is_some_and(|timeout| last_record.elapsed() > timeout) {
            printer.flush()?;
            if printer.records == 0 {
                let trouble = consumer.context().trouble().map(|trouble| format!(": {trouble}")).unwrap_or_default();
                return Err(Failure::job(format!("no record came within the timeout{trouble}")));
            }
            break;
        }
    }
    printer.flush()
}

fn all_ended(arguments: &Arguments, consumer: &BaseConsumer<Quiet>, partitions: &[i32], ended: &HashSet<i32>) -> bool {
    if arguments.group.is_none() {
        return partitions.iter().all(|partition| ended.contains(partition));
    }
    let assigned = consumer.assignment().map(|list| list.count()).unwrap_or(0);
    assigned > 0 && ended.len() >= assigned
}

/// Errors that librdkafka overcomes by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
        )
    )
}

/// Commits what was printed, so that the group goes on behind it.
fn commit(consumer: &BaseConsumer<Quiet>, arguments: &Arguments) -> Result<(), Failure> {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) => Ok(()),
        // Nothing was printed since the last commit.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) => Ok(()),
        Err(error) => Err(arguments.connection.explain("commit", error)),
    }
}

/// Turns records into lines.
struct Printer<'a> {
    arguments: &'a Arguments,
    separator: String,
    out: BufWriter<io::StdoutLock<'static>>,
    progress: Progress,
    records: u64,
    bytes: u64,
}

impl<'a> Printer<'a> {
    fn new(arguments: &'a Arguments) -> Printer<'a> {
        let out = io::stdout().lock();
        let progress = Progress::new("read", !out.is_terminal() && !arguments.quiet);
        Printer {
            arguments,
            separator: arguments.separator.replace("\\t", "\t"),
            out: BufWriter::with_capacity(1 << 16, out),
            progress,
            records: 0,
            bytes: 0,
        }
    }

    fn print(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Failure> {
        let null = self.arguments.null.as_bytes();
        if self.arguments.print_timestamp {
            match message.timestamp() {
                Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => write!(self.out, "{ms}{}", self.separator)?,
                Timestamp::NotAvailable => write!(self.out, "-1{}", self.separator)?,
            }
        }
        if self.arguments.print_offset {
            write!(self.out, "{}{s}{}{s}", message.partition(), message.offset(), s = self.separator)?;
        }
        if self.arguments.print_headers {
            self.print_headers(message)?;
        }
        if self.arguments.print_key {
            self.out.write_all(message.key().unwrap_or(null))?;
            self.out.write_all(self.separator.as_bytes())?;
        }
        self.out.write_all(message.payload().unwrap_or(null))?;
        self.out.write_all(b"\n")?;
        self.records += 1;
        self.bytes += (message.payload_len() + message.key_len()) as u64;
        if self.records.is_multiple_of(1024) {
            self.progress.at(self.records, self.bytes);
        }
        Ok(())
    }

    fn print_headers(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Failure> {
        for (i, header) in message.headers().iter().flat_map(|headers| headers.iter()).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(self.out, "{comma}{}=", header.key)?;
            self.out.write_all(header.value.unwrap_or(self.arguments.null.as_bytes()))?;
        }
        self.out.write_all(self.separator.as_bytes())?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush()?;
        self.progress.at(self.records, self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let check = |text, expected| assert_eq!(start(text), Ok(expected), "{text}");
        check("earliest", Start::Earliest);
        check("latest", Start::Latest);
        check("0", Start::At(0));
        check("-5", Start::Last(5));
        for wrong in ["", "x", "1.5", "-9223372036854775808"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
