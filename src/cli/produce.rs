//! `corelog produce`: each line of standard input, or of a file, becomes a record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::client::{Connection, Delivered, Quiet, TopicName};
use super::failure::Failure;
use super::progress::{Progress, grouped};
use super::{name_and_value, seconds};

/// Send lines of standard input, or of a file, as records
///
/// Each line is one record; its bytes are sent as they are, without the line's end. A missing topic is made by the
/// broker if it has auto.create.topics.enable. Records of one key go to the same partition that the Java client
/// would choose.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    topic: TopicName,
    /// Read this file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What comes before the first SEPARATOR of a line is the record's key; \t is a tab
    #[arg(short, long, value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// An empty value means no value, which deletes the key in a compacted topic
    #[arg(long, requires = "key_separator")]
    empty_is_null: bool,
    /// A header of every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = name_and_value)]
    headers: Vec<(String, String)>,
    /// Send everything to this partition
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Compress batches
    #[arg(short, long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// When a record counts as sent: 0 at once, 1 when the leader has it, all when it is safe. With all, sending is
    /// idempotent: nothing is doubled, order is kept
    #[arg(short, long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Give up on a record when it could not be delivered within this time
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Say nothing at the end
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Acks {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
    #[value(name = "all", alias = "-1")]
    All,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    let mut lines: Box<dyn BufRead> = match &arguments.file {
        Some(path) => {
            let file = File::open(path).map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        }
        None => Box::new(BufReader::with_capacity(1 << 16, io::stdin())),
    };
    let producer = producer(&arguments)?;
    let is_typed = arguments.file.is_none() && io::stdin().is_terminal();
    if is_typed && !arguments.quiet {
        eprintln!("One record per line; Ctrl-D ends.");
    }
    let mut progress = Progress::new("sent", !is_typed && !arguments.quiet);
    let outcome = send_all(&arguments, &producer, lines.as_mut(), is_typed, &mut progress);
    let delivered = drain(&arguments, &producer, &mut progress);
    progress.finish();
    outcome?;
    finish(&arguments, &producer, &delivered)
}

fn producer(arguments: &Arguments) -> Result<BaseProducer<Quiet>, Failure> {
    let connection = &arguments.connection;
    let mut config = connection.config()?;
    let acks = match arguments.acks {
        Acks::Zero => "0",
        Acks::One => "1",
        Acks::All => "all",
    };
    let compression = match arguments.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    let defaults = [
        ("acks", acks.to_string()),
        ("enable.idempotence", (arguments.acks == Acks::All).to_string()),
        ("compression.codec", compression.to_string()),
        ("message.timeout.ms", arguments.timeout.as_millis().max(1).to_string()),
        // The Java client's choice of a partition for a key.
        ("partitioner", "murmur2_random".to_string()),
        ("linger.ms", "5".to_string()),
        ("queue.buffering.max.messages", "500000".to_string()),
        ("queue.buffering.max.kbytes", "262144".to_string()),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config.create_with_context(connection.context()).map_err(|error| connection.explain("set up the producer", error))
}

fn send_all(
    arguments: &Arguments,
    producer: &BaseProducer<Quiet>,
    lines: &mut dyn BufRead,
    is_typed: bool,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let separator = arguments.key_separator.as_deref().map(|text| text.replace("\\t", "\t"));
    let mut line = Vec::new();
    let mut count: u64 = 0;
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::job(format!("read line {}: {error}", count + 1)))?;
        if read == 0 {
            return Ok(());
        }
        count += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let (key, value) = split(&line, separator.as_deref().map(str::as_bytes))
            .ok_or_else(|| Failure::job(format!("line {count} has no key: the separator is missing in it")))?;
        send(arguments, producer, key, value, progress)?;
        if is_typed {
            // Somebody is watching: send now, and say at once if that fails.
            let _ = producer.flush(arguments.timeout);
        }
        if count.is_multiple_of(1024) || is_typed {
            producer.poll(Duration::ZERO);
            let delivered = producer.context().delivered();
            progress.at(delivered.records, delivered.bytes);
            if delivered.failed > 0 {
                return Ok(());
            }
        }
    }
}

fn send(
    arguments: &Arguments,
    producer: &BaseProducer<Quiet>,
    key: Option<&[u8]>,
    value: &[u8],
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(arguments.topic.get());
    if let Some(key) = key {
        record = record.key(key);
    }
    if !(arguments.empty_is_null && value.is_empty()) {
        record = record.payload(value);
    }
    if let Some(partition) = arguments.partition {
        record = record.partition(partition);
    }
    if !arguments.headers.is_empty() {
        let none = OwnedHeaders::new_with_capacity(arguments.headers.len());
        let headers = arguments
            .headers
            .iter()
            .fold(none, |headers, (name, value)| headers.insert(Header { key: name, value: Some(value) }));
        record = record.headers(headers);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                // The broker is slower than the input: wait for some deliveries.
                record = back;
                producer.poll(Duration::from_millis(100));
                let delivered = producer.context().delivered();
                progress.at(delivered.records, delivered.bytes);
            }
            Err((error, _)) => {
                let job = format!("send to topic {}", arguments.topic.get());
                return Err(arguments.connection.explain(&job, error));
            }
        }
    }
}

/// Waits for what is still under way.
fn drain(arguments: &Arguments, producer: &BaseProducer<Quiet>, progress: &mut Progress) -> Delivered {
    // Every record is delivered or given up after its own timeout; a little more, so as not to race it.
    let end = Instant::now() + arguments.timeout + Duration::from_secs(5);
    while producer.in_flight_count() > 0 && Instant::now() < end {
        let _ = producer.flush(Duration::from_millis(200));
        let delivered = producer.context().delivered();
        progress.at(delivered.records, delivered.bytes);
    }
    producer.poll(Duration::ZERO);
    producer.context().delivered()
}

fn finish(arguments: &Arguments, producer: &BaseProducer<Quiet>, delivered: &Delivered) -> Result<(), Failure> {
    let under_way = producer.in_flight_count().max(0) as u64;
    let lost = delivered.failed + under_way;
    if lost == 0 {
        if !arguments.quiet && io::stderr().is_terminal() {
            eprintln!("sent {} records to {}", grouped(delivered.records), arguments.topic.get());
        }
        return Ok(());
    }
    let reason = match (delivered.failure, producer.context().trouble()) {
        (Some(code), trouble) => {
            let trouble = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
            format!("{}{trouble}", arguments.connection.meaning(code))
        }
        (None, Some(trouble)) => trouble,
        (None, None) => "no answer in time".to_string(),
    };
    Err(Failure::job(format!(
        "{} records were sent to {}, {} were not: {reason}",
        grouped(delivered.records),
        arguments.topic.get(),
        grouped(lost)
    )))
}

/// A line's key and value. `None`: there is a separator and the line lacks it.
fn split<'a>(line: &'a [u8], separator: Option<&[u8]>) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    let Some(separator) = separator.filter(|separator| !separator.is_empty()) else { return Some((None, line)) };
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((Some(&line[..at]), &line[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn lines_are_split_at_the_first_separator() {
        assert_eq!(split(b"a:b:c", None), Some((None, &b"a:b:c"[..])));
        assert_eq!(split(b"a:b:c", Some(b":")), Some((Some(&b"a"[..]), &b"b:c"[..])));
        assert_eq!(split(b":b", Some(b":")), Some((Some(&b""[..]), &b"b"[..])));
        assert_eq!(split(b"a=>b", Some(b"=>")), Some((Some(&b"a"[..]), &b"b"[..])));
        assert_eq!(split(b"ab", Some(b":")), None);
        assert_eq!(split(b"", None), Some((None, &b""[..])));
    }
}
