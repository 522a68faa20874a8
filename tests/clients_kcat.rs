//! kcat: lists, produces more than a million real lines to 6 partitions with each codec, and reads them back: the same
//! lines, in order within each partition.

mod harness;

use harness::broker::Broker;
use harness::program::{Program, run};
use harness::{million, records, unique, wait};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const PARTITIONS: usize = 6;

fn kcat(broker: &Broker) -> Command {
    let mut command = Command::new(harness::client("kcat").join("kcat"));
    command.args(["-b", &broker.bootstrap()]);
    command
}

/// The machine's package index, or, where it is short, all texts below /usr/share; from the beginning again until
/// there are enough lines.
fn real_lines() -> Vec<Vec<u8>> {
    let wanted = million::count() as usize;
    let index = Command::new("apt-cache").arg("dumpavail").stdin(Stdio::null()).output();
    let mut text = index.map(|output| output.stdout).unwrap_or_default();
    if text.len() < 1 << 20 {
        append_texts(Path::new("/usr/share"), &mut text);
    }
    assert!(!text.is_empty(), "this machine has no text to produce");
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let count = if million::count() == 1_000_000 { lines.len().max(wanted) } else { wanted };
    // kcat ends a line at a newline, and takes a NUL as it is.
    lines.iter().cycle().take(count).map(|line| line.to_vec()).collect()
}

fn append_texts(folder: &Path, text: &mut Vec<u8>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if text.len() > 64 << 20 {
            return;
        }
        if path.is_dir() && !path.is_symlink() {
            append_texts(&path, text);
        } else if let Ok(content) = std::fs::read_to_string(&path) {
            text.extend(content.as_bytes());
        }
    }
}

#[test]
fn lists_brokers_and_topics() {
    let broker = Broker::start();
    let topic = unique("listed");
    records::create_topic(&broker.bootstrap(), &topic, 3);
    let text = run(kcat(&broker).arg("-L"), wait::PATIENCE);
    assert!(text.contains(&format!("topic \"{topic}\" with 3 partitions:")), "{text}");
    for partition in 0..3 {
        assert!(text.contains(&format!("partition {partition}, leader ")), "{text}");
    }
    for address in broker.addresses() {
        assert!(text.contains(&format!(" at {address}")), "{text}");
    }
    assert!(!text.contains("Broker: "), "an error: {text}");
}

#[test]
fn a_million_lines_with_each_codec() {
    let lines = real_lines();
    let folder = harness::folder();
    let path = folder.path().join("lines");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for (number, line) in lines.iter().enumerate() {
        write!(file, "{number}\t").unwrap();
        file.write_all(line).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.into_inner().unwrap();

    let broker = Broker::start();
    for (number, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let topic = unique(codec);
        records::create_topic(&broker.bootstrap(), &topic, PARTITIONS as i32);
        let input = std::fs::File::open(&path).unwrap();
        let mut produce = kcat(&broker);
        // Idempotence makes the order a promise of the client too, whatever it has to send twice.
        produce.args(["-P", "-t", &topic, "-z", codec, "-K", "\t", "-X", "enable.idempotence=true"]);
        let status = produce.stdin(input).status().unwrap();
        assert!(status.success(), "kcat -P -z {codec}: {status}");
        check_consumed(&broker, &topic, &lines);
        check_stored_codec(&broker, &topic, number as u8);
    }
}

/// Every line is there once, with its text, and line numbers ascend within each partition.
fn check_consumed(broker: &Broker, topic: &str, lines: &[Vec<u8>]) {
    let mut consume = kcat(broker);
    consume.args(["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %k\t%s\n"]);
    let mut child = consume.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut output = BufReader::with_capacity(1 << 20, child.stdout.take().unwrap());
    let (mut next_line, mut next_offset) = ([0; PARTITIONS], [0; PARTITIONS]);
    let mut count = 0;
    let mut record = Vec::new();
    while output.read_until(b'\n', &mut record).unwrap() > 0 {
        let tab = record.iter().position(|byte| *byte == b'\t').unwrap();
        let head = std::str::from_utf8(&record[..tab]).unwrap();
        let numbers: Vec<usize> = head.split(' ').map(|number| number.parse().unwrap()).collect();
        let &[partition, offset, line] = numbers.as_slice() else { panic!("{head}") };
        assert_eq!(offset, next_offset[partition], "the offset in partition {partition}");
        assert!(line >= next_line[partition], "partition {partition}: line {line} after {}", next_line[partition]);
        assert_eq!(&record[tab + 1..record.len() - 1], &lines[line][..], "line {line}");
        next_offset[partition] = offset + 1;
        next_line[partition] = line + 1;
        count += 1;
        record.clear();
    }
    assert!(child.wait().unwrap().success());
    // Ascending and as many as were sent: each once.
    assert_eq!(count, lines.len(), "lines that came back");
    assert!(next_offset.iter().all(|count| *count > 0), "a partition is empty: {next_offset:?}");
}

/// The batches on disk have the codec that the client chose: nothing was recompressed.
fn check_stored_codec(broker: &Broker, topic: &str, codec: u8) {
    if !broker.is_ours() {
        return;
    }
    let segment = broker.data_dir().join(format!("{topic}-0/00000000000000000000.log"));
    let bytes = std::fs::read(&segment).unwrap_or_else(|e| panic!("read {}: {e}", segment.display()));
    // The attributes of the first batch: after base offset, length, leader epoch, magic and CRC.
    assert_eq!(bytes[22] & 7, codec, "the codec in {}", segment.display());
}

#[test]
fn a_consumer_that_waits_sees_new_lines_at_once() {
    let broker = Broker::start();
    let topic = unique("live");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let mut consume = kcat(&broker);
    consume.args(["-C", "-t", &topic, "-o", "beginning", "-u", "-q"]);
    let mut consumer = Program::start(&mut consume);
    for number in 0..5 {
        // kcat reads a pipe in large pieces, so a line leaves with the end of its input.
        let mut producer = Program::start(kcat(&broker).args(["-P", "-t", &topic]));
        producer.say(&format!("line {number}"));
        producer.succeed(wait::PATIENCE);
        consumer.expect(&format!("line {number}"), wait::PATIENCE);
    }
}
