//! Microbenchmarks of what every record or request passes through: checksums,
//! codecs, the walk over a batch's records, parsing of requests, writing of answers.
//!
//! Each gives back what it found, which is compared with what it must find: a
//! benchmark that no longer does its work fails, and the compiler cannot leave the
//! work out. The tests run all of them once, with the same inputs made small.

use std::cell::Cell;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use corelog::base::crc::crc32c;
use corelog::base::{LeaderEpoch, Moment, Offset, Rope, UnixMs};
use corelog::metrics::{Finished, Requests, Stage, Timeline, Timing};
use corelog::record::{self, BatchBuilder, BatchView, Codec, NewRecord, RecordFault, Rules, Scratch};
use corelog::wire::fetch::{FetchRequest, FetchResponse, FetchedPartition, FetchedTopic};
use corelog::wire::produce::ProduceRequest;
use corelog::wire::{self, Topic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use serde_json::{Map, Value, json};

use crate::batches::{self, Planned};
use crate::cluster::frame;
use crate::content::{Filling, Random};
use crate::failure;
use crate::failure::{Doing, Outcome};

/// Versions of the requests that are parsed and answered here: the newest that clients of 2026 send.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;

/// How often each is timed; the median and the least are shown.
const SAMPLES: usize = 21;

/// How large the inputs are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Records of the large batches.
    pub records: usize,
    /// Partitions of the requests and answers that have many.
    pub partitions: usize,
}

pub const FULL: Scale = Scale { records: 1000, partitions: 100 };

/// One benchmark.
struct Micro {
    name: String,
    /// What one round handles: so many of `unit`, and so many bytes where they matter.
    count: u64,
    unit: &'static str,
    bytes: u64,
    /// What a round must give back.
    expected: u64,
    round: Box<dyn FnMut() -> Outcome<u64>>,
}

impl Micro {
    fn new(
        name: &str,
        (count, unit): (usize, &'static str),
        bytes: usize,
        expected: usize,
        round: impl FnMut() -> Outcome<u64> + 'static,
    ) -> Micro {
        Micro {
            name: name.to_owned(),
            count: count as u64,
            unit,
            bytes: bytes as u64,
            expected: expected as u64,
            round: Box::new(round),
        }
    }

    /// Does the work once and looks at what it gives back.
    fn check(&mut self) -> Outcome<()> {
        let found = (self.round)()?;
        if found != self.expected {
            return Err(failure!("{} gives {found} instead of {}", self.name, self.expected));
        }
        Ok(())
    }

    /// Nanoseconds of a round, in order, each the mean of as many as fit into a part of `duration`.
    fn samples(&mut self, duration: Duration) -> Outcome<Vec<f64>> {
        self.check()?;
        let part = duration / SAMPLES as u32;
        let mut samples = Vec::with_capacity(SAMPLES);
        // As many rounds as the clock's own cost disappears behind.
        let mut rounds = 1u32;
        while samples.len() < SAMPLES {
            let begun = Instant::now();
            let mut sum = 0u64;
            for _ in 0..rounds {
                sum = sum.wrapping_add(black_box((self.round)()?));
            }
            let elapsed = begun.elapsed();
            if sum != self.expected.wrapping_mul(u64::from(rounds)) {
                return Err(failure!("{} gives another result in later rounds", self.name));
            }
            if elapsed < part && samples.is_empty() {
                let more = part.as_nanos() / elapsed.as_nanos().max(1) + 1;
                let larger = rounds.saturating_mul(u32::try_from(more).unwrap_or(u32::MAX).clamp(2, 100));
                if larger > rounds {
                    rounds = larger;
                    continue;
                }
            }
            samples.push(elapsed.as_nanos() as f64 / f64::from(rounds));
        }
        samples.sort_unstable_by(f64::total_cmp);
        Ok(samples)
    }
}

/// Times those whose name contains `only`; returns lines to read and the JSON.
pub fn measure(scale: Scale, duration: Duration, only: &str) -> Outcome<(Vec<String>, Value)> {
    let (mut lines, mut result) = (Vec::new(), Map::new());
    for mut micro in all(scale)?.into_iter().filter(|micro| micro.name.contains(only)) {
        let samples = micro.samples(duration)?;
        let (least, median) = (samples[0], samples[samples.len() / 2]);
        let each = median / micro.count as f64;
        let gb_per_second = (micro.bytes > 0).then(|| micro.bytes as f64 / median);
        let rate = gb_per_second.map_or_else(String::new, |rate| format!(", {rate:.2} GB/s"));
        lines.push(format!(
            "{:40} {each:10.1} ns per {}{rate} (least {:.1} ns)",
            micro.name,
            micro.unit,
            least / micro.count as f64
        ));
        result.insert(
            micro.name,
            json!({ "unit": micro.unit, "ns": each, "ns_least": least / micro.count as f64, "gb_per_second": gb_per_second }),
        );
    }
    if lines.is_empty() {
        return Err(failure!("no benchmark's name contains '{only}'"));
    }
    Ok((lines, Value::Object(result)))
}

fn all(scale: Scale) -> Outcome<Vec<Micro>> {
    let mut all = Vec::new();
    checksums(&mut all, scale);
    codecs(&mut all, scale)?;
    walks(&mut all, scale);
    building(&mut all, scale);
    requests(&mut all, scale)?;
    answers(&mut all, scale);
    inside_view(&mut all);
    let timing = Timing::default();
    let rounds = Cell::new(0);
    all.push(Micro::new("metrics: record a duration", (1, "value"), 0, 1, move || {
        let before = timing.count();
        rounds.set((rounds.get() + 977) % 1_000_000);
        timing.record(Duration::from_nanos(black_box(rounds.get())));
        Ok(timing.count() - before)
    }));
    Ok(all)
}

/// What the broker's look at itself adds to a request: its stages, of which two take a look at the clock of their
/// own, their distributions, and the list of the slow.
fn inside_view(all: &mut Vec<Micro>) {
    let (requests, began) = (Requests::default(), Instant::now());
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    let clock = move || Moment(began.elapsed().as_nanos() as u64);
    all.push(Micro::new("inside view of a request", (1, "request"), 0, 4, move || {
        let ordered = clock();
        let mut timeline = Timeline::begin(ordered);
        for (stage, when) in
            [(Stage::Parsed, ordered), (Stage::Ordered, ordered), (Stage::Durable, ordered), (Stage::Sent, clock())]
        {
            timeline.mark(stage, when);
        }
        let passed = timeline.stages().count();
        let finished = Finished {
            api_key: ApiKey::Produce as i16,
            api_version: PRODUCE_VERSION,
            correlation_id: 7,
            client_id: "benchmark",
            peer,
            partitions: 1,
            request_bytes: 200,
            answer_bytes: 60,
            timeline,
        };
        requests.finish(black_box(&finished), || NOW);
        Ok(passed as u64)
    }));
}

/// A batch as clients send it, of compressible values.
fn batch(records: usize, value_bytes: usize) -> Vec<u8> {
    let planned = vec![Planned { key: None, value_bytes }; records];
    batches::build(&planned, Filling::Text, &mut Random::new(1), NOW.0).bytes
}

const NOW: UnixMs = UnixMs(1_700_000_000_000);

fn checksums(all: &mut Vec<Micro>, scale: Scale) {
    for bytes in [4096, 110 * scale.records] {
        let mut input = Vec::new();
        Filling::Random.append(bytes, &mut Random::new(2), &mut input);
        let expected = crc32c(&input) as usize;
        let name = format!("checksum of {bytes} bytes");
        all.push(Micro::new(&name, (1, "run"), bytes, expected, move || Ok(u64::from(crc32c(black_box(&input))))));
    }
}

fn codecs(all: &mut Vec<Micro>, scale: Scale) -> Outcome<()> {
    let plain = batch(scale.records, 100);
    for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
        let compressed = batches::compressed(&plain, codec)?;
        let (len, input) = (compressed.len(), plain.clone());
        all.push(Micro::new(
            &format!("{}: compress a batch", codec.name()),
            (scale.records, "record"),
            plain.len(),
            len,
            move || Ok(batches::compressed(black_box(&input), codec)?.len() as u64),
        ));
        let mut scratch = Scratch::new();
        all.push(Micro::new(
            &format!("{}: walk over a compressed batch", codec.name()),
            (scale.records, "record"),
            plain.len(),
            100 * scale.records,
            move || value_bytes(black_box(&compressed), &mut scratch),
        ));
    }
    Ok(())
}

/// Bytes of all values, found by the walk that validation does.
fn value_bytes(batch: &[u8], scratch: &mut Scratch) -> Outcome<u64> {
    let mut sum = 0;
    let view = BatchView::first(batch).doing(|| String::from("look at a batch"))?;
    let walked = view.walk::<RecordFault>(scratch, |shape| {
        sum += shape.value_len.unwrap_or(0) as u64;
        Ok(())
    });
    walked.doing(|| String::from("walk over a batch"))?;
    Ok(sum)
}

fn walks(all: &mut Vec<Micro>, scale: Scale) {
    for (records, value) in [(scale.records, 100), (36, 100), (scale.records.div_ceil(5), 1024)] {
        let input = batch(records, value);
        let (bytes, shape) = (input.len(), format!("{records} x {value} B"));
        let mut scratch = Scratch::new();
        let copy = input.clone();
        all.push(Micro::new(&format!("walk over {shape}"), (records, "record"), bytes, records * value, move || {
            value_bytes(black_box(&copy), &mut scratch)
        }));
        let (mut scratch, copy) = (Scratch::new(), input.clone());
        all.push(Micro::new(&format!("contents of {shape}"), (records, "record"), bytes, records * value, move || {
            let view = BatchView::first(black_box(&copy)).doing(|| String::from("look at a batch"))?;
            let mut records = view.records(&mut scratch).doing(|| String::from("read a batch"))?;
            let mut sum = 0;
            while let Some(record) = records.next().doing(|| String::from("read a record"))? {
                sum += record.value.map_or(0, <[u8]>::len) as u64;
            }
            Ok(sum)
        }));
        let rules = Rules { max_message_bytes: usize::MAX, ..Rules::default() };
        all.push(Micro::new(&format!("validate {shape}"), (records, "record"), bytes, bytes, move || {
            let valid =
                record::validate(black_box(&input), &rules, NOW, true).doing(|| String::from("validate a batch"))?;
            Ok(valid.bytes().len() as u64)
        }));
    }
    let mut input = batch(1, 100);
    all.push(Micro::new("stamp a batch", (1, "batch"), 0, 77, move || {
        let stamp = record::Stamp { base_offset: Offset(77), leader_epoch: LeaderEpoch(3), log_append_time: None };
        record::stamp(black_box(&mut input), &stamp);
        Ok(BatchView::first(&input).map_or(0, |view| view.base_offset().0 as u64))
    }));
}

fn building(all: &mut Vec<Micro>, scale: Scale) {
    let value = vec![b'v'; 100];
    let bytes = batch(scale.records, 100).len();
    all.push(Micro::new("build a batch", (scale.records, "record"), bytes, bytes, move || {
        let mut builder = BatchBuilder::new();
        for _ in 0..scale.records {
            builder.push(NewRecord { timestamp: NOW.0, key: None, value: Some(black_box(&value)), headers: &[] });
        }
        Ok(builder.build().len() as u64)
    }));
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

fn requests(all: &mut Vec<Micro>, scale: Scale) -> Outcome<()> {
    for partitions in [1, scale.partitions] {
        let records = Bytes::from(batch(1, 100));
        let size = records.len();
        let data = (0..partitions as i32)
            .map(|index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone())));
        let topic = TopicProduceData::default().with_name(name()).with_partition_data(data.collect());
        let request = kafka_protocol::messages::ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
        let whole = frame(ApiKey::Produce as i16, PRODUCE_VERSION, 7, &request)?.freeze().slice(4..);
        let found = 7 + partitions * size;
        let title = format!("parse a Produce request of {partitions} partition(s)");
        all.push(Micro::new(&title, (partitions, "partition"), 0, found, move || {
            let mut body = black_box(&whole).clone();
            let header = wire::read_header(&mut body).doing(|| String::from("read a header"))?;
            let request = ProduceRequest::parse(body, header.api_version).doing(|| String::from("parse a request"))?;
            let mut sum = header.correlation_id as u64;
            for topic in request.topics() {
                for partition in topic {
                    sum += partition.records.map_or(0, |records| records.len()) as u64;
                }
            }
            Ok(sum)
        }));

        let wanted =
            (0..partitions as i32).map(|index| FetchPartition::default().with_partition(index).with_fetch_offset(5));
        let topic = FetchTopic::default().with_topic(name()).with_partitions(wanted.collect());
        let request = kafka_protocol::messages::FetchRequest::default().with_topics(vec![topic]);
        let mut body = BytesMut::new();
        request.encode(&mut body, FETCH_VERSION).doing(|| String::from("write a fetch"))?;
        let body = body.freeze();
        let title = format!("parse a Fetch request of {partitions} partition(s)");
        all.push(Micro::new(&title, (partitions, "partition"), 0, 5 * partitions, move || {
            let request =
                FetchRequest::parse(black_box(&body), FETCH_VERSION).doing(|| String::from("parse a fetch"))?;
            let offsets =
                request.topics().flat_map(|(_, partitions)| partitions).map(|wanted| wanted.fetch_offset as u64);
            Ok(offsets.sum())
        }));
    }
    Ok(())
}

fn answers(all: &mut Vec<Micro>, scale: Scale) {
    for partitions in [1, scale.partitions] {
        let records = Bytes::from(batch(1, 100));
        let answer = move || {
            let partitions = (0..partitions as i32).map(|index| {
                let mut piece = Rope::new();
                piece.push_bytes(records.clone());
                FetchedPartition { high_watermark: 9, records: piece, ..FetchedPartition::empty(index, 0) }
            });
            let topics = vec![FetchedTopic { topic: Topic::named("orders"), partitions: partitions.collect() }];
            let response =
                FetchResponse { throttle_time_ms: 0, error_code: 0, session_id: 1, topics, node_endpoints: Vec::new() };
            response.into_rope(FETCH_VERSION).len()
        };
        let expected = answer();
        let title = format!("make and write a Fetch answer of {partitions} partition(s)");
        all.push(Micro::new(&title, (partitions, "partition"), 0, expected, move || Ok(answer() as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Scale = Scale { records: 20, partitions: 3 };

    #[test]
    fn every_benchmark_does_its_work() {
        let mut all = all(TINY).unwrap();
        let names: std::collections::BTreeSet<String> = all.iter().map(|micro| micro.name.clone()).collect();
        assert_eq!(names.len(), all.len(), "names are told apart");
        assert!(all.len() >= 25, "{}", all.len());
        for micro in &mut all {
            // Again and again with the same result.
            for _ in 0..3 {
                micro.check().unwrap();
            }
            assert!(micro.count > 0 && micro.expected > 0, "{}", micro.name);
        }
    }

    #[test]
    fn all_are_timed_and_some_can_be_chosen() {
        let (lines, result) = measure(TINY, Duration::from_micros(50), "").unwrap();
        assert_eq!(lines.len(), result.as_object().unwrap().len());
        for (name, timed) in result.as_object().unwrap() {
            let (median, least) = (timed["ns"].as_f64().unwrap(), timed["ns_least"].as_f64().unwrap());
            assert!(least > 0.0 && median >= least, "{name}: {timed}");
        }
        let (some, _) = measure(TINY, Duration::from_micros(50), "zstd").unwrap();
        assert_eq!(some.len(), 2, "{some:?}");
        assert!(measure(TINY, Duration::ZERO, "no such thing").is_err());
    }

    #[test]
    fn one_that_does_something_else_fails() {
        let mut wrong = Micro::new("wrong", (1, "run"), 0, 5, || Ok(4));
        assert!(wrong.check().unwrap_err().0.contains("gives 4 instead of 5"));
        let mut calls = 0;
        let mut later = Micro::new("later", (1, "run"), 0, 5, move || {
            calls += 1;
            Ok(if calls < 5 { 5 } else { 6 })
        });
        assert!(later.samples(Duration::from_millis(1)).is_err());
    }
}
