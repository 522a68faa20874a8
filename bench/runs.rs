//! The runs against a broker: what each kind sends and reads, and how its figures
//! are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::batches;
use crate::cluster::{self, NewTopic, Topic};
use crate::consume::{Counting, Reader, Received, Span, Until};
use crate::content::{KeyPool, Keys};
use crate::drain::{Catching, CaughtUp};
use crate::end_to_end::{Ending, Tailed};
use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::options::{
    Acks, ConsumeOptions, Creation, DrainOptions, EndToEndOptions, PartitionsOptions, ProduceOptions, Rate, Sending,
    Target, seconds,
};
use crate::pace::Schedule;
use crate::produce::{Lane, Pace, Purpose, Sent};
use crate::report::{Surroundings, Taken, add, fault};
use crate::run::{Progress, Station, Window, measure};

/// A request of a backlog, and how many of them are unanswered at once: what fills it quickly.
const BACKLOG_IN_FLIGHT: usize = 5;

pub fn produce(options: &ProduceOptions, surroundings: &Surroundings) -> Outcome<Taken> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(0)?;
    let topic = prepare(target, &target.topic, &options.creation)?;
    produce_to(&topic, target, sending, options.rate, options.in_flight, surroundings)
}

/// One produce run to a topic that is ready.
fn produce_to(
    topic: &Topic,
    target: &Target,
    sending: &Sending,
    rate: Rate,
    in_flight: usize,
    surroundings: &Surroundings,
) -> Outcome<Taken> {
    let ack_means = sending.ack_means(&target.bootstrap, &topic.name);
    let progress = Progress::default();
    let plan = Plan { pace: Pace::Closed { in_flight }, run_id: None, records: sending.records };
    let lanes = lanes(topic, target, sending, plan, &progress, |purpose| purpose)?;
    let window = Window::new(seconds(target.warm_up), sending.duration());
    let stations: Vec<Box<dyn Station<Sent> + '_>> = match rate {
        Rate::Max => lanes.into_iter().map(|(lane, _)| -> Box<dyn Station<Sent> + '_> { Box::new(lane) }).collect(),
        Rate::RecordsPerSecond(rate) => paced(lanes, rate, &window)
            .into_iter()
            .map(|lane| -> Box<dyn Station<Sent> + '_> { Box::new(lane) })
            .collect(),
    };
    let connections = stations.len();
    let (measured, sent) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;

    let all = AllSent::of(&sent);
    let open = rate != Rate::Max;
    let latency = match (sending.acks, open) {
        (Acks::None, _) => String::from("; acks=0 has no answers to time"),
        (_, true) => {
            format!("; ack from intended send {}; from actual send {}", all.intended.line(), all.actual.line())
        }
        (_, false) => format!("; ack in a closed loop {}", all.actual.line()),
    };
    let line = format!(
        "produce {}: {}{latency}{}{}; {}",
        described(topic, connections, sending, rate),
        measured.rates_line(),
        measured.broker_line(),
        all.late(),
        sending.ack_line(ack_means)
    );
    let mut result = surroundings.header("produce", target, topic);
    add(&mut result, sending.json(ack_means));
    add(&mut result, measured.json());
    add(&mut result, all.json());
    result["rate"] = match rate {
        Rate::Max => json!("max"),
        Rate::RecordsPerSecond(rate) => json!(rate),
    };
    result["loop"] = json!(if open { "open" } else { "closed" });
    result["in_flight"] = if open { Value::Null } else { json!(in_flight) };
    let curves = if open {
        vec![("ack_from_intended", all.intended), ("ack_from_actual", all.actual)]
    } else {
        // Who waits for answers before sending has no intended times: such latencies leave out those that would have had
        // to wait, and must not be taken for the others.
        result["ack_from_intended"] = Value::Null;
        vec![("ack_closed_loop", all.actual)]
    };
    Ok(Taken { line, json: result, curves, fault: None })
}

pub fn partitions(options: &PartitionsOptions, surroundings: &Surroundings) -> Outcome<Taken> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(0)?;
    let (mut lines, mut counts, mut curve) = (Vec::new(), Vec::new(), Latencies::new());
    for &count in &options.counts {
        let name = format!("{}-{count}", target.topic);
        let creation = Creation {
            partitions: count,
            replication_factor: options.replication_factor,
            topic_configs: options.topic_configs.clone(),
            recreate: true,
        };
        let begun = Instant::now();
        let topic = prepare(target, &name, &creation)?;
        let created = begun.elapsed();
        let rate = Rate::RecordsPerSecond(options.rate);
        let taken = produce_to(&topic, target, sending, rate, 1, surroundings)?;
        cluster::delete_topic(&target.bootstrap, &name)?;
        let mut json = taken.json;
        json["creation_ms"] = json!(created.as_secs_f64() * 1e3);
        lines.push(taken.line);
        counts.push(json);
        if let Some((_, latencies)) = taken.curves.first() {
            curve.add(latencies);
        }
    }
    let by_count: serde_json::Map<String, Value> = options.counts.iter().map(i32::to_string).zip(counts).collect();
    let result = json!({ "kind": "partitions", "label": target.label, "counts": options.counts, "by_count": by_count });
    Ok(Taken { line: lines.join("\n"), json: result, curves: vec![("ack_from_intended", curve)], fault: None })
}

pub fn consume(options: &ConsumeOptions, surroundings: &Surroundings) -> Outcome<Taken> {
    let target = &options.target;
    let topic = cluster::topic(&target.bootstrap, &target.topic, None)?;
    let begins = cluster::offsets(&topic, -2)?;
    let ends = cluster::offsets(&topic, -1)?;
    let spans: BTreeMap<i32, Span> =
        begins.iter().map(|(&partition, &begin)| (partition, Span { begin, end: ends[&partition] })).collect();
    let expected: i64 = spans.values().map(|span| span.end - span.begin).sum();
    if expected == 0 {
        return Err(failure!("topic {} at {} is empty", target.topic, target.bootstrap));
    }
    let asking = options.fetching.asking(options.in_flight);
    let repeat = options.duration.is_some();
    let until = if repeat { Until::WindowEnds } else { Until::Read };
    let progress = Progress::default();
    let mut stations: Vec<Box<dyn Station<Received> + '_>> = Vec::new();
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.connections) {
            let spans = of_these(&spans, &partitions);
            let reader = Reader::open(&leader.address, &topic, &spans, asking, until, Counting)?;
            stations.push(Box::new(reader.counted_by(&progress).standing_back(options.stand_back)));
        }
    }
    if options.wait {
        std::io::stdin().read_line(&mut String::new()).doing(|| String::from("wait for a line"))?;
    }
    // A single pass has no warm-up: everything counts.
    let warm_up = options.duration.map_or(Duration::ZERO, |_| seconds(target.warm_up));
    let window = Window::new(warm_up, options.duration.map(seconds));
    let count = stations.len();
    let begun = Instant::now();
    let (measured, received) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;
    let wall = begun.elapsed();
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
        "consume {} ({} partitions on {} broker(s), {count} connection(s)): {}; fetch in a closed loop {}{}{note}",
        topic.name,
        topic.partitions(),
        topic.leaders.len(),
        measured.rates_line(),
        fetches.line(),
        measured.broker_line()
    );
    let mut result = surroundings.header("consume", target, &topic);
    add(&mut result, measured.json());
    add(&mut result, options.fetching.json());
    result["in_flight"] = json!(options.in_flight);
    result["records_total"] = json!(total);
    result["records_expected"] = if repeat { Value::Null } else { json!(expected) };
    result["wall_seconds"] = json!(wall.as_secs_f64());
    result["fetch"] = fetches.json();
    Ok(Taken { line, json: result, curves: vec![("fetch_closed_loop", fetches)], fault: None })
}

/// What a station of an end-to-end run or of a drain gives.
enum Part<V> {
    Sent(Box<Sent>),
    Read(Received, Box<V>),
}

impl<V> From<Sent> for Part<V> {
    fn from(sent: Sent) -> Part<V> {
        Part::Sent(Box::new(sent))
    }
}

impl<V> From<(Received, V)> for Part<V> {
    fn from((received, visitor): (Received, V)) -> Part<V> {
        Part::Read(received, Box::new(visitor))
    }
}

/// Parts by kind.
fn sorted<V>(parts: Vec<Part<V>>) -> (Vec<Sent>, Vec<(Received, V)>) {
    let (mut sent, mut read) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Sent(lane) => sent.push(*lane),
            Part::Read(received, visitor) => read.push((received, *visitor)),
        }
    }
    (sent, read)
}

pub fn end_to_end(options: &EndToEndOptions, surroundings: &Surroundings) -> Outcome<Taken> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(batches::STAMP_BYTES)?;
    let topic = prepare(target, &target.topic, &options.creation)?;
    let ack_means = sending.ack_means(&target.bootstrap, &topic.name);
    let ends = cluster::offsets(&topic, -1)?;
    let spans: BTreeMap<i32, Span> =
        ends.iter().map(|(&partition, &end)| (partition, Span { begin: end, end: i64::MAX })).collect();
    // Distinguishes this run's records; need not be secret or even random.
    let run_id =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let (ending, progress) = (Ending::default(), Progress::default());
    let mut stations: Vec<Box<dyn Station<Part<Tailed<'_>>> + '_>> = Vec::new();
    let asking = options.fetching.asking(1);
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.connections) {
            let (spans, tailed) = (of_these(&spans, &partitions), Tailed::new(&ending, run_id));
            let reader = Reader::open(&leader.address, &topic, &spans, asking, Until::VisitorSaysSo, tailed)?;
            stations.push(Box::new(reader));
        }
    }
    let plan = Plan { pace: Pace::Closed { in_flight: 1 }, run_id: Some(run_id), records: sending.records };
    let lanes =
        lanes(&topic, target, sending, plan, &progress, |purpose| Purpose { ending: Some(&ending), ..purpose })?;
    ending.expect(lanes.len());
    let connections = lanes.len();
    let window = Window::new(seconds(target.warm_up), sending.duration());
    for lane in paced(lanes, options.rate, &window) {
        stations.push(Box::new(lane));
    }
    let (measured, parts) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;

    let (sent, tailed) = sorted(parts);
    let all = AllSent::of(&sent);
    let (mut intended, mut actual, mut fetches) = (Latencies::new(), Latencies::new(), Latencies::new());
    for (received, tailed) in &tailed {
        intended.add(&tailed.from_intended);
        actual.add(&tailed.from_actual);
        fetches.add(&received.fetches);
    }
    let (sent, received) = ending.records();
    let lost = (received != sent).then(|| format!("{sent} records were acknowledged but {received} came"));
    let note = lost.as_ref().map_or_else(String::new, |lost| format!("; {}", lost.to_uppercase()));
    let line = format!(
        "end-to-end {}: {}; from intended send to consumer {}; ack from intended send {}{}{note}{}; {}",
        described(&topic, connections, sending, Rate::RecordsPerSecond(options.rate)),
        measured.rates_line(),
        intended.line(),
        all.intended.line(),
        measured.broker_line(),
        all.late(),
        sending.ack_line(ack_means)
    );
    let mut result = surroundings.header("end-to-end", target, &topic);
    add(&mut result, sending.json(ack_means));
    add(&mut result, options.fetching.json());
    add(&mut result, measured.json());
    add(&mut result, all.json());
    result["rate"] = json!(options.rate);
    result["end_to_end_from_intended"] = intended.json();
    result["end_to_end_from_actual"] = actual.json();
    result["fetch"] = fetches.json();
    result["records_sent"] = json!(sent);
    result["records_received"] = json!(received);
    Ok(Taken {
        line,
        json: result,
        curves: vec![
            ("end_to_end_from_intended", intended),
            ("ack_from_intended", all.intended),
            ("ack_from_actual", all.actual),
        ],
        fault: lost.map(|lost| fault(&lost)),
    })
}

/// Three steps: a backlog as fast as possible; producers at a rate without a consumer; the same with one that comes late
/// and reads from the beginning.
pub fn drain(options: &DrainOptions, surroundings: &Surroundings) -> Outcome<Taken> {
    let (target, sending) = (&options.target, &options.sending);
    sending.check(0)?;
    if sending.acks == Acks::None {
        return Err(failure!("a drain needs acknowledgements: how else would it be known that the consumer has all?"));
    }
    if sending.records.is_some() {
        return Err(failure!("a drain lasts for a --duration"));
    }
    let topic = prepare(target, &target.topic, &options.creation)?;
    let ack_means = sending.ack_means(&target.bootstrap, &topic.name);

    let filling =
        Sending { batch_records: options.backlog_batch_records, records: Some(options.backlog), ..sending.clone() };
    filling.check(0)?;
    let progress = Progress::default();
    let plan = Plan { pace: Pace::Closed { in_flight: BACKLOG_IN_FLIGHT }, run_id: None, records: filling.records };
    let stations = lanes(&topic, target, &filling, plan, &progress, |purpose| purpose)?
        .into_iter()
        .map(|(lane, _)| -> Box<dyn Station<Sent> + '_> { Box::new(lane) })
        .collect();
    let window = Window::new(Duration::ZERO, None);
    let (filled, _) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;

    let progress = Progress::default();
    let plan = Plan { pace: Pace::Closed { in_flight: 1 }, run_id: None, records: None };
    let alone = lanes(&topic, target, sending, plan, &progress, |purpose| purpose)?;
    let window = Window::new(seconds(target.warm_up), sending.duration());
    let stations = paced(alone, options.rate, &window)
        .into_iter()
        .map(|lane| -> Box<dyn Station<Sent> + '_> { Box::new(lane) })
        .collect();
    let (measured_alone, sent) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;
    let alone = AllSent::of(&sent);

    if options.drop_caches {
        drop_caches()?;
    }
    let begins = cluster::offsets(&topic, -2)?;
    let before: i64 = cluster::offsets(&topic, -1)?.iter().map(|(partition, end)| end - begins[partition]).sum();
    let spans: BTreeMap<i32, Span> =
        begins.iter().map(|(&partition, &begin)| (partition, Span { begin, end: i64::MAX })).collect();
    let progress = Progress::default();
    let caught_up = CaughtUp::new(before as u64, &progress);
    let ending = Ending::default();
    let lanes = lanes(&topic, target, sending, plan, &progress, |purpose| Purpose {
        split: Some(caught_up.at_ns()),
        ending: Some(&ending),
        ..purpose
    })?;
    ending.expect(lanes.len());
    let connections = lanes.len();
    let mut stations: Vec<Box<dyn Station<Part<Catching<'_>>> + '_>> = Vec::new();
    let asking = options.fetching.asking(1);
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.connections) {
            let (spans, catching) = (of_these(&spans, &partitions), Catching::new(&caught_up, &ending));
            let reader = Reader::open(&leader.address, &topic, &spans, asking, Until::VisitorSaysSo, catching)?;
            stations.push(Box::new(reader.standing_back(true)));
        }
    }
    // No warm-up: the consumer comes at once, and is not waited for.
    let window = Window::new(Duration::ZERO, sending.duration());
    for lane in paced(lanes, options.rate, &window) {
        stations.push(Box::new(lane));
    }
    let (measured, parts) = measure(&window, target.broker_pid, stations, target.threads(), &progress)?;
    let (sent, read) = sorted(parts);
    let during = AllSent::of(&sent);
    let mut fetches = Latencies::new();
    read.iter().for_each(|(received, _)| fetches.add(&received.fetches));

    let caught = caught_up.time();
    let ended = match caught {
        Some((time, records)) => format!(
            "caught up after {:.3} s and {records} records ({:.0} records/s)",
            time.as_secs_f64(),
            records as f64 / time.as_secs_f64()
        ),
        None => {
            format!("NOT CAUGHT UP within {:.1} s: {} records read", measured.elapsed.as_secs_f64(), caught_up.read())
        }
    };
    let line = format!(
        "drain {}: backlog of {before} records; {ended}; ack from intended send, without a consumer {}; while it \
         catches up {}; afterwards {}{}{}; {}",
        described(&topic, connections, sending, Rate::RecordsPerSecond(options.rate)),
        alone.intended.line(),
        during.intended.line(),
        during.after_split.line(),
        measured.broker_line(),
        during.late(),
        sending.ack_line(ack_means)
    );
    let mut result = surroundings.header("drain", target, &topic);
    add(&mut result, sending.json(ack_means));
    add(&mut result, options.fetching.json());
    add(&mut result, measured.json());
    result["rate"] = json!(options.rate);
    result["caches_dropped"] = json!(options.drop_caches);
    result["backlog_records"] = json!(before);
    result["backlog_filling"] = filled.json();
    result["alone"] = measured_alone.json();
    result["drain_seconds"] = json!(caught.map(|(time, _)| time.as_secs_f64()));
    result["drain_records"] = json!(caught.map(|(_, records)| records));
    result["drain_records_per_second"] = json!(caught.map(|(time, records)| records as f64 / time.as_secs_f64()));
    result["records_read"] = json!(caught_up.read());
    result["requests_unsent"] = json!(during.unsent);
    result["ack_alone_from_intended"] = alone.intended.json();
    result["ack_from_intended"] = during.intended.json();
    result["ack_afterwards_from_intended"] = during.after_split.json();
    result["fetch"] = fetches.json();
    Ok(Taken {
        line,
        json: result,
        curves: vec![
            ("ack_while_draining", during.intended),
            ("ack_alone", alone.intended),
            ("ack_afterwards", during.after_split),
        ],
        fault: None,
    })
}

/// What all lanes together measured.
struct AllSent {
    intended: Latencies,
    actual: Latencies,
    after_split: Latencies,
    unsent: u64,
    records_total: u64,
}

impl AllSent {
    fn of(sent: &[Sent]) -> AllSent {
        let mut all = AllSent {
            intended: Latencies::new(),
            actual: Latencies::new(),
            after_split: Latencies::new(),
            unsent: 0,
            records_total: 0,
        };
        for lane in sent {
            all.intended.add(&lane.from_intended);
            all.actual.add(&lane.from_actual);
            all.after_split.add(&lane.after_split);
            all.unsent += lane.unsent;
            all.records_total += lane.records_total;
        }
        all
    }

    fn late(&self) -> String {
        if self.unsent > 0 {
            format!("; {} REQUESTS DUE WERE NEVER SENT: the rate is too high", self.unsent)
        } else {
            String::new()
        }
    }

    fn json(&self) -> Value {
        json!({
            "ack_from_intended": self.intended.json(),
            "ack_from_actual": self.actual.json(),
            "requests_unsent": self.unsent,
            "records_total": self.records_total,
        })
    }
}

/// Finds the topic, or makes it.
fn prepare(target: &Target, name: &str, creation: &Creation) -> Outcome<Topic> {
    if creation.recreate {
        cluster::delete_topic(&target.bootstrap, name)?;
    }
    let new = NewTopic {
        partitions: creation.partitions,
        replication_factor: creation.replication_factor,
        configs: creation.topic_configs.clone(),
    };
    let topic = cluster::topic(&target.bootstrap, name, Some(&new))?;
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

/// The spans of these partitions.
fn of_these(spans: &BTreeMap<i32, Span>, partitions: &[i32]) -> BTreeMap<i32, Span> {
    partitions.iter().filter_map(|partition| Some((*partition, *spans.get(partition)?))).collect()
}

/// What is the same for all lanes of a run.
#[derive(Clone, Copy)]
struct Plan {
    pace: Pace,
    run_id: Option<u64>,
    /// Records of all lanes together, when a number ends the run.
    records: Option<u64>,
}

/// One lane per connection, each with the part of all records that is its own: by its partitions, or by their keys.
fn lanes<'a>(
    topic: &Topic,
    target: &Target,
    sending: &Sending,
    plan: Plan,
    progress: &'a Progress,
    with: impl Fn(Purpose<'a>) -> Purpose<'a>,
) -> Outcome<Vec<(Lane<'a>, f64)>> {
    let shape = sending.shape();
    let all = topic.partitions();
    let mut lanes = Vec::new();
    for leader in &topic.leaders {
        for partitions in dealt(&leader.partitions, target.connections) {
            let mine: BTreeSet<usize> = partitions.iter().map(|partition| *partition as usize).collect();
            let keys = if shape.keys == Keys::None { 0 } else { shape.key_count };
            let pool = KeyPool::new(shape.keys, keys, all, |partition| mine.contains(&partition));
            let share = if shape.keys == Keys::None { partitions.len() as f64 / all as f64 } else { pool.share };
            // With few keys a connection may have none.
            if share > 0.0 {
                let records = plan.records.map(|records| (records as f64 * share).ceil() as u64);
                let Plan { pace, run_id, .. } = plan;
                let purpose = with(Purpose { pace, records, run_id, ending: None, split: None, progress });
                lanes.push((Lane::open(&leader.address, topic, &partitions, &shape, &pool, purpose)?, share));
            }
        }
    }
    Ok(lanes)
}

/// Lanes that together send `rate` records per second, each its share, interleaved.
fn paced<'a>(lanes: Vec<(Lane<'a>, f64)>, rate: f64, window: &Window) -> Vec<Lane<'a>> {
    let count = lanes.len() as f64;
    let paced = lanes.into_iter().enumerate().map(|(index, (lane, share))| {
        let requests = rate * share / lane.records_per_request();
        let schedule = Schedule::new(window.zero, requests, index as f64 / count);
        lane.paced(Pace::Open(schedule))
    });
    paced.collect()
}

fn described(topic: &Topic, connections: usize, sending: &Sending, rate: Rate) -> String {
    let rate = match rate {
        Rate::Max => String::from("as fast as possible"),
        Rate::RecordsPerSecond(rate) => format!("{rate} records/s intended"),
    };
    format!(
        "{} ({} partitions on {} broker(s), {connections} connection(s), {}, {rate})",
        topic.name,
        topic.partitions(),
        topic.leaders.len(),
        sending.line()
    )
}

/// Writes back what is dirty and empties the page cache.
fn drop_caches() -> Outcome<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3\n")
        .map_err(|error| failure!("empty the page cache (this needs root): {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_dealt_out_evenly() {
        assert_eq!(dealt(&[0, 1, 2, 3, 4], 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(dealt(&[7], 3), [vec![7]]);
    }
}
