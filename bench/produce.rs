//! Producing: one connection's requests, prebuilt, sent either as fast as a bound
//! of unanswered requests allows (closed loop) or at times fixed in advance (open
//! loop).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use corelog::record::Codec;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ProduceRequest};

use crate::answers::{PRODUCE_VERSIONS, check_produced, correlation_id};
use crate::batches::{self, Batch, Planned, Producer, Stamp};
use crate::cluster::{Connection, Topic, frame};
use crate::content::{self, Filling, KeyPool, Keys, Random, Sizes};
use crate::end_to_end::Ending;
use crate::failure;
use crate::failure::Outcome;
use crate::latency::Latencies;
use crate::link::{GATHER_BYTES_MAX, Link};
use crate::pace::Schedule;
use crate::run::{Progress, Station, Turn, Window};

/// Where the correlation id lies in a request frame.
const CORRELATION_AT: usize = 8;

/// Requests of an open loop that may be unanswered on one connection. Beyond it
/// the sender waits, and the wait counts as latency.
const OPEN_UNANSWERED_MAX: usize = 1 << 16;

/// Requests sent in one turn: then other connections of the thread have theirs.
const SENDS_A_TURN: usize = 64;

/// The correlation id of the last request of acks=0, which asks for nothing: when
/// its answer is there, all before it were handled.
const BARRIER: i32 = -1;

/// So much memory for the requests of one connection.
const PREBUILT_BYTES_MAX: u64 = 1 << 30;

/// Requests that differ (by sizes, by keys) are drawn until there are so many records, requests or bytes; then they are
/// sent in turn, again and again.
const DRAWN_RECORDS: usize = 1 << 16;
const DRAWN_REQUESTS: usize = 1 << 12;
const DRAWN_BYTES: u64 = 64 << 20;

/// What every request carries.
#[derive(Clone, Debug)]
pub struct Shape {
    pub acks: i16,
    pub sizes: Sizes,
    pub batch_records: usize,
    /// Partitions with a batch each in one request. With keys: the request's records are as many, and go where their
    /// keys say.
    pub batches_per_request: usize,
    /// Batches carry a producer id and sequence numbers (KIP-98), as the Java and
    /// Go clients' do by default.
    pub idempotent: bool,
    pub keys: Keys,
    /// How many different keys.
    pub key_count: u32,
    pub codec: Codec,
    pub filling: Filling,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as fewer than so many are unanswered.
    Closed {
        in_flight: usize,
    },
    Open(Schedule),
}

/// One prebuilt request.
struct Prebuilt {
    bytes: Vec<u8>,
    batches: Vec<Placed>,
    /// Bytes of its batches together.
    batch_bytes: u64,
}

/// A batch within a request.
struct Placed {
    range: Range<usize>,
    partition: i32,
    /// Which of the lane's partitions.
    lane_partition: usize,
    records: usize,
    /// The batch as it is before it is stamped (and compressed); `None` when batches are not stamped.
    plain: Option<Batch>,
}

/// The requests of one connection, sent round robin.
struct Requests {
    topic: Topic,
    version: i16,
    acks: i16,
    codec: Codec,
    prebuilt: Vec<Prebuilt>,
    /// Bytes of all of them.
    prebuilt_bytes: u64,
    records_per_request: u64,
    /// Set in end-to-end runs: every batch is stamped before it is sent.
    run_id: Option<u64>,
    /// Set when batches are numbered.
    producer: Option<Producer>,
    /// The sequence number of each of the lane's partitions' next record.
    sequences: Vec<i32>,
}

/// One connection and all that it sends.
pub struct Lane<'a> {
    link: Link,
    requests: Requests,
    /// Bytes of the last request, a large one, that the socket has taken; `None` when none is under way.
    large: Option<usize>,
    pace: Pace,
    /// How many requests are to be sent within the window, when a number ends the run.
    count_max: Option<u64>,
    /// How many are to be sent at all, when that is known.
    total: Option<u64>,
    sent: u64,
    /// Those of `sent` that count.
    counted: u64,
    answered: u64,
    /// When the unanswered ones were really sent.
    sent_at: VecDeque<Instant>,
    sending_is_over: bool,
    barrier: Barrier,
    from_intended: Latencies,
    from_actual: Latencies,
    split: Option<&'a AtomicU64>,
    after_split: Latencies,
    ending: Option<&'a Ending>,
    progress: &'a Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Barrier {
    Unsent,
    Sent,
    Answered,
}

/// What one lane measured.
pub struct Sent {
    /// From the intended send time to the answer. In a closed loop the two are one.
    pub from_intended: Latencies,
    /// From just before the write to the answer.
    pub from_actual: Latencies,
    /// From the intended send time of those that were meant to leave after the split.
    pub after_split: Latencies,
    /// Records answered from first to last, warm-up included.
    pub records_total: u64,
    /// Requests that were due within the window but not sent, not even shortly after it.
    pub unsent: u64,
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl Requests {
    /// Draws and builds the requests for `partitions`, whose keys are `pool`'s.
    fn build(
        topic: &Topic,
        version: i16,
        partitions: &[i32],
        shape: &Shape,
        pool: &KeyPool,
        run_id: Option<u64>,
    ) -> Outcome<Requests> {
        // Other partitions, other contents.
        let mut random = Random::new(partitions.first().map_or(0, |first| *first as u64));
        let mut requests = Requests {
            topic: topic.clone(),
            version,
            acks: shape.acks,
            codec: shape.codec,
            prebuilt: Vec::new(),
            prebuilt_bytes: 0,
            records_per_request: 0,
            run_id,
            producer: None,
            sequences: vec![0; partitions.len()],
        };
        if shape.keys == Keys::None {
            let groups: Vec<&[i32]> = partitions.chunks(shape.batches_per_request).collect();
            // Groups of unequal size would make "per request" mean different things.
            let group = groups.first().map_or(0, |group| group.len());
            if groups.iter().any(|other| other.len() != group) {
                return Err(failure!("{} partitions do not divide into requests of {group}", partitions.len()));
            }
            requests.records_per_request = (shape.batch_records * group) as u64;
            let rounds = match shape.sizes.is_fixed() {
                true => 1,
                false => DRAWN_RECORDS.div_ceil(shape.batch_records * partitions.len()),
            };
            for round in 0..rounds.min(DRAWN_REQUESTS.div_ceil(groups.len())) {
                if round > 0 && requests.prebuilt_bytes >= DRAWN_BYTES {
                    break;
                }
                let planned = (0..shape.batch_records)
                    .map(|_| Planned { key: None, value_bytes: shape.sizes.draw(&mut random) })
                    .collect::<Vec<_>>();
                requests.check_room(value_bytes(&planned) * partitions.len() as u64)?;
                let batch = batches::build(&planned, shape.filling, &mut random, unix_ms());
                for (index, group) in groups.iter().enumerate() {
                    let from = index * shape.batches_per_request;
                    let batches =
                        group.iter().enumerate().map(|(at, &partition)| (partition, from + at, batch.clone()));
                    requests.add(batches.collect())?;
                }
            }
        } else {
            let records = shape.batch_records * shape.batches_per_request;
            requests.records_per_request = records as u64;
            let places: BTreeMap<i32, usize> = partitions.iter().copied().zip(0..).collect();
            for index in 0..DRAWN_RECORDS.div_ceil(records).min(DRAWN_REQUESTS) {
                if index > 0 && requests.prebuilt_bytes >= DRAWN_BYTES {
                    break;
                }
                let mut planned: Vec<Vec<Planned>> = vec![Vec::new(); partitions.len()];
                for _ in 0..records {
                    let drawn = pool.draw(&mut random).ok_or_else(|| failure!("no key belongs to a partition here"))?;
                    let key = content::key(drawn);
                    let partition = content::partition_of(&key, topic.partitions()) as i32;
                    let at = places.get(&partition).copied();
                    let at = at.ok_or_else(|| failure!("a key of partition {partition} was drawn elsewhere"))?;
                    planned[at].push(Planned { key: Some(key), value_bytes: shape.sizes.draw(&mut random) });
                }
                requests.check_room(planned.iter().map(|planned| value_bytes(planned)).sum())?;
                let mut batches = Vec::new();
                for (at, planned) in planned.iter().enumerate().filter(|(_, planned)| !planned.is_empty()) {
                    let batch = batches::build(planned, shape.filling, &mut random, unix_ms());
                    batches.push((partitions[at], at, batch));
                }
                requests.add(batches)?;
            }
        }
        Ok(requests)
    }

    /// Appends a request with these batches: (partition, which of the lane's, plain batch).
    fn add(&mut self, batches: Vec<(i32, usize, Batch)>) -> Outcome<()> {
        let mut placed = Vec::with_capacity(batches.len());
        let mut contents = Vec::with_capacity(batches.len());
        for (partition, lane_partition, batch) in batches {
            let records = batch.values_at.len();
            let plain = self.run_id.is_some().then(|| batch.clone());
            // What is stamped is compressed when it is stamped.
            let as_it_is = self.codec == Codec::None || self.run_id.is_some();
            let bytes = if as_it_is { batch.bytes } else { batches::compressed(&batch.bytes, self.codec)? };
            contents.push((partition, Bytes::from(bytes)));
            placed.push(Placed { range: 0..0, partition, lane_partition, records, plain });
        }
        let (bytes, ranges) = encode(&self.topic, self.version, self.acks, &contents)?;
        for (placed, range) in placed.iter_mut().zip(ranges) {
            placed.range = range;
        }
        self.prebuilt_bytes += bytes.len() as u64;
        let batch_bytes = contents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.prebuilt.push(Prebuilt { bytes, batches: placed, batch_bytes });
        Ok(())
    }

    /// Fails when values of so many bytes more would be too many: before they are made.
    fn check_room(&self, values: u64) -> Outcome<()> {
        if self.prebuilt_bytes + values > PREBUILT_BYTES_MAX {
            return Err(failure!(
                "the requests of one connection take more than {} MiB: smaller batches, or fewer partitions",
                PREBUILT_BYTES_MAX >> 20
            ));
        }
        Ok(())
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.prebuilt.len() as u64) as usize
    }

    /// Makes request `index` ready to be sent.
    fn make_ready(&mut self, index: u64, intended_ns: u64, actual_ns: u64) -> Outcome<()> {
        let slot = self.slot(index);
        if let Some(run) = self.run_id {
            self.stamp(slot, &Stamp { intended_ns, actual_ns, run })?;
        }
        let request = &mut self.prebuilt[slot];
        request.bytes[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&id_of(index).to_be_bytes());
        if self.run_id.is_some() || self.producer.is_some() {
            for placed in &request.batches {
                let bytes = &mut request.bytes[placed.range.clone()];
                if let Some(producer) = self.producer {
                    let sequence = &mut self.sequences[placed.lane_partition];
                    batches::number(bytes, producer, *sequence);
                    *sequence = batches::sequence_after(*sequence, placed.records);
                }
                batches::seal(bytes);
            }
        }
        Ok(())
    }

    /// Puts the stamp into all records of a request. A compressed batch has to be compressed anew, and the request to be
    /// written anew around it.
    fn stamp(&mut self, slot: usize, stamp: &Stamp) -> Outcome<()> {
        let request = &mut self.prebuilt[slot];
        let now = unix_ms();
        if self.codec == Codec::None {
            for placed in &request.batches {
                let values_at = placed.plain.as_ref().map_or(&[][..], |plain| &plain.values_at);
                batches::stamp(&mut request.bytes[placed.range.clone()], values_at, stamp, now);
            }
            return Ok(());
        }
        let mut contents = Vec::with_capacity(request.batches.len());
        for placed in &mut request.batches {
            let Some(plain) = &mut placed.plain else { continue };
            batches::stamp(&mut plain.bytes, &plain.values_at, stamp, now);
            contents.push((placed.partition, Bytes::from(batches::compressed(&plain.bytes, self.codec)?)));
        }
        let (bytes, ranges) = encode(&self.topic, self.version, self.acks, &contents)?;
        request.bytes = bytes;
        request.batch_bytes = contents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        for (placed, range) in request.batches.iter_mut().zip(ranges) {
            placed.range = range;
        }
        Ok(())
    }
}

fn value_bytes(planned: &[Planned]) -> u64 {
    planned.iter().map(|record| record.value_bytes as u64).sum()
}

/// Ids stay positive, so that the barrier's is its own.
fn id_of(index: u64) -> i32 {
    (index & 0x7fff_ffff) as i32
}

/// What a lane is for, besides its partitions.
pub struct Purpose<'a> {
    pub pace: Pace,
    /// Records that this lane is to send within the window, when a number ends the run.
    pub records: Option<u64>,
    /// Stamps every record, see [`Stamp::run`].
    pub run_id: Option<u64>,
    /// Told when the lane has ended.
    pub ending: Option<&'a Ending>,
    /// A moment on the run's clock, once it is known (`u64::MAX` before): latencies of requests meant for later are
    /// counted apart.
    pub split: Option<&'a AtomicU64>,
    pub progress: &'a Progress,
}

impl<'a> Lane<'a> {
    /// Connects to a leader and builds the requests for `partitions`.
    pub fn open(
        address: &str,
        topic: &Topic,
        partitions: &[i32],
        shape: &Shape,
        pool: &KeyPool,
        purpose: Purpose<'a>,
    ) -> Outcome<Lane<'a>> {
        let mut connection = Connection::open(address)?;
        let mut version = connection.version(ApiKey::Produce, PRODUCE_VERSIONS)?;
        if topic.id == 0 {
            version = version.min(12);
        }
        let mut requests = Requests::build(topic, version, partitions, shape, pool, purpose.run_id)?;
        requests.producer = if shape.idempotent { Some(connection.producer()?) } else { None };
        Lane::new(Link::new(connection.stream)?, requests, purpose)
    }

    fn new(link: Link, requests: Requests, purpose: Purpose<'a>) -> Outcome<Lane<'a>> {
        Ok(Lane {
            link,
            pace: purpose.pace,
            large: None,
            count_max: purpose.records.map(|records| records.div_ceil(requests.records_per_request)),
            total: None,
            sent: 0,
            counted: 0,
            answered: 0,
            sent_at: VecDeque::new(),
            sending_is_over: false,
            barrier: Barrier::Unsent,
            from_intended: Latencies::new(),
            from_actual: Latencies::new(),
            split: purpose.split,
            after_split: Latencies::new(),
            ending: purpose.ending,
            progress: purpose.progress,
            requests,
        })
    }

    /// Changes when requests are sent; before the first turn only.
    pub fn paced(mut self, pace: Pace) -> Lane<'a> {
        self.pace = pace;
        self
    }

    pub fn records_per_request(&self) -> f64 {
        self.requests.records_per_request as f64
    }

    /// Whether the next request may be sent at `now`.
    fn is_due(&self, now: Instant) -> bool {
        match self.pace {
            Pace::Closed { in_flight } => self.sent_at.len() < in_flight,
            Pace::Open(schedule) => schedule.due(self.sent) <= now && self.sent_at.len() < OPEN_UNANSWERED_MAX,
        }
    }

    fn is_last_sent(&self) -> bool {
        match self.pace {
            Pace::Closed { .. } => self.count_max.is_some_and(|count| self.counted >= count),
            Pace::Open(_) => self.total.is_some_and(|total| self.sent >= total),
        }
    }

    /// How many requests an open loop is to send, warm-up included.
    fn total_of(&self, schedule: &Schedule, window: &Window) -> Outcome<u64> {
        match (window.until, self.count_max) {
            (_, Some(count)) => Ok(schedule.count_until(window.from) + count),
            (Some(until), None) => Ok(schedule.count_until(until)),
            (None, None) => Err(failure!("a run needs a duration or a number of records")),
        }
    }

    /// Sends what is due, as far as the socket takes it. Says whether more is due already.
    fn send_due(&mut self, window: &Window) -> Outcome<bool> {
        self.link.send()?;
        for _ in 0..SENDS_A_TURN {
            if let Some(written) = self.large {
                let bytes = &self.requests.prebuilt[self.requests.slot(self.sent - 1)].bytes;
                let written = written + self.link.send_directly(&bytes[written..])?;
                self.large = (written < bytes.len()).then_some(written);
                if self.large.is_some() {
                    return Ok(false);
                }
            }
            if self.sending_is_over {
                return Ok(false);
            }
            let now = Instant::now();
            let is_over = match self.pace {
                Pace::Closed { .. } => window.is_over(now),
                Pace::Open(_) => window.is_over_for_late(now),
            };
            if is_over || self.is_last_sent() {
                self.sending_is_over = true;
                return Ok(true);
            }
            if !self.is_due(now) {
                self.link.send()?;
                return Ok(false);
            }
            let size = self.requests.prebuilt[self.requests.slot(self.sent)].bytes.len();
            let is_large = size > GATHER_BYTES_MAX;
            if is_large || self.link.unsent_bytes() + size > GATHER_BYTES_MAX {
                self.link.send()?;
                if self.link.has_unsent() {
                    return Ok(false);
                }
            }
            self.stage(window, now)?;
        }
        self.link.send()?;
        Ok(true)
    }

    /// Puts the next request on its way.
    fn stage(&mut self, window: &Window, now: Instant) -> Outcome<()> {
        let intended = match self.pace {
            Pace::Closed { .. } => now,
            Pace::Open(schedule) => schedule.due(self.sent),
        };
        self.requests.make_ready(self.sent, window.clock(intended), window.clock(now))?;
        let request = &self.requests.prebuilt[self.requests.slot(self.sent)];
        if request.bytes.len() > GATHER_BYTES_MAX {
            self.large = Some(0);
        } else {
            self.link.out().extend_from_slice(&request.bytes);
        }
        if self.requests.acks == 0 {
            self.progress.add(self.requests.records_per_request, request.batch_bytes);
        } else {
            self.sent_at.push_back(now);
        }
        self.sent += 1;
        self.counted += u64::from(intended >= window.from);
        Ok(())
    }

    /// Takes the answers that have come.
    fn take_answers(&mut self, window: &Window) -> Outcome<()> {
        self.link.begin_turn();
        while let Some(frame) = self.link.next()? {
            let now = Instant::now();
            let (id, body) = correlation_id(self.link.bytes(frame))?;
            if id == BARRIER && self.barrier == Barrier::Sent {
                self.barrier = Barrier::Answered;
                continue;
            }
            let Some(actual) = self.sent_at.pop_front() else {
                return Err(failure!("the broker answered what was not asked"));
            };
            if id != id_of(self.answered) {
                return Err(failure!("the broker answered request {id} when {} was next", self.answered));
            }
            check_produced(body, self.requests.version)?;
            let intended = match self.pace {
                Pace::Closed { .. } => actual,
                Pace::Open(schedule) => schedule.due(self.answered),
            };
            let slot = self.requests.slot(self.answered);
            self.progress.add(self.requests.records_per_request, self.requests.prebuilt[slot].batch_bytes);
            self.answered += 1;
            if intended >= window.from {
                let latencies = match self.split {
                    Some(split) if window.clock(intended) >= split.load(Ordering::Acquire) => &mut self.after_split,
                    _ => &mut self.from_intended,
                };
                latencies.record(now.saturating_duration_since(intended), 1);
                self.from_actual.record(now.saturating_duration_since(actual), 1);
            }
        }
        Ok(())
    }

    /// Whether all is answered. Asks for the barrier where nothing is.
    fn is_done(&mut self) -> Outcome<bool> {
        if !self.sending_is_over || self.large.is_some() || self.link.has_unsent() {
            return Ok(false);
        }
        if self.requests.acks != 0 {
            return Ok(self.answered == self.sent);
        }
        if self.barrier == Barrier::Unsent {
            let barrier = frame(ApiKey::ApiVersions as i16, 0, BARRIER, &ApiVersionsRequest::default())?;
            self.link.out().extend_from_slice(&barrier);
            self.link.send()?;
            self.barrier = Barrier::Sent;
        }
        Ok(self.barrier == Barrier::Answered)
    }
}

impl<T: From<Sent>> Station<T> for Lane<'_> {
    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn turn(&mut self, window: &Window, readable: bool) -> Outcome<Turn> {
        if let (Pace::Open(schedule), None) = (self.pace, self.total) {
            self.total = Some(self.total_of(&schedule, window)?);
        }
        if Instant::now() < window.zero {
            return Ok(Turn::Wait { due: Some(window.zero), owed_since: None });
        }
        if readable {
            self.take_answers(window)?;
        }
        let more = self.send_due(window)?;
        if self.is_done()? {
            return Ok(Turn::Done);
        }
        let due = match self.pace {
            _ if more => Some(Instant::now()),
            Pace::Open(schedule)
                if !self.sending_is_over && self.large.is_none() && self.sent_at.len() < OPEN_UNANSWERED_MAX
                    // What the socket does not take now waits for the socket, not for a time.
                    && !self.link.is_blocked() =>
            {
                Some(schedule.due(self.sent))
            }
            _ => None,
        };
        let barrier_sent = (self.barrier == Barrier::Sent).then_some(self.link.heard);
        Ok(Turn::Wait { due, owed_since: self.sent_at.front().copied().or(barrier_sent) })
    }

    fn finish(mut self: Box<Self>, window: &Window) -> T {
        // What was due but could not be sent has waited at least until the end.
        let mut unsent = 0;
        if let (Pace::Open(schedule), Some(total)) = (self.pace, self.total) {
            let end = window.until.unwrap_or_else(Instant::now);
            unsent = total.saturating_sub(self.sent);
            for index in self.sent.max(schedule.count_until(window.from))..total {
                let due = schedule.due(index);
                let latencies = match self.split {
                    Some(split) if window.clock(due) >= split.load(Ordering::Acquire) => &mut self.after_split,
                    _ => &mut self.from_intended,
                };
                if self.requests.acks != 0 {
                    latencies.record(end.saturating_duration_since(due), 1);
                }
            }
        }
        let answered = if self.requests.acks == 0 { self.sent } else { self.answered };
        let records_total = answered * self.requests.records_per_request;
        if let Some(ending) = self.ending {
            ending.producer_ended(records_total);
        }
        let Lane { from_intended, from_actual, after_split, .. } = *self;
        T::from(Sent { from_intended, from_actual, after_split, records_total, unsent })
    }
}

/// Encodes a request with these batches; says where each of them lies in it.
fn encode(topic: &Topic, version: i16, acks: i16, batches: &[(i32, Bytes)]) -> Outcome<(Vec<u8>, Vec<Range<usize>>)> {
    let partition_data = batches
        .iter()
        .map(|(index, records)| PartitionProduceData::default().with_index(*index).with_records(Some(records.clone())));
    let data = TopicProduceData::default().with_partition_data(partition_data.collect());
    let data = if version >= 13 { data.with_topic_id(topic.topic_id()) } else { data.with_name(topic.topic_name()) };
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![data]);
    let bytes = frame(ApiKey::Produce as i16, version, 0, &request)?.to_vec();
    let mut ranges = Vec::with_capacity(batches.len());
    let mut from = 0;
    for (_, batch) in batches {
        let at = bytes[from..].windows(batch.len()).position(|window| window == batch);
        let at = from + at.ok_or_else(|| failure!("the encoder changed the batch"))?;
        from = at + batch.len();
        ranges.push(at..from);
    }
    Ok((bytes, ranges))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Answers;
    use crate::run::measure;
    use kafka_protocol::messages::ProduceResponse;
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::protocol::Encodable;
    use kafka_protocol::records::RecordBatchDecoder;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn topic(partitions: i32) -> Topic {
        let leader = crate::cluster::Leader { address: String::new(), partitions: (0..partitions).collect() };
        Topic { name: String::from("orders"), id: 9, leaders: vec![leader] }
    }

    fn shape() -> Shape {
        Shape {
            acks: -1,
            sizes: Sizes::Fixed(100),
            batch_records: 3,
            batches_per_request: 1,
            idempotent: false,
            keys: Keys::None,
            key_count: 0,
            codec: Codec::None,
            filling: Filling::Random,
        }
    }

    fn no_keys() -> KeyPool {
        KeyPool::new(Keys::None, 0, 1, |_| true)
    }

    /// A broker that answers every Produce at once, except that it pauses for
    /// `stall` before it reads request `stall_at`. Returns the number of Produce
    /// requests it saw.
    fn fake_broker(listener: TcpListener, stall_at: u64, stall: Duration, code: i16, acks: i16) -> u64 {
        let (stream, _) = listener.accept().unwrap();
        let mut requests = Answers::new(stream.try_clone().unwrap());
        let partition = PartitionProduceResponse::default().with_error_code(code);
        let response = TopicProduceResponse::default()
            .with_topic_id(topic(1).topic_id())
            .with_partition_responses(vec![partition]);
        let mut body = bytes::BytesMut::from(&[0u8][..]);
        ProduceResponse::default().with_responses(vec![response]).encode(&mut body, 13).unwrap();
        let mut seen = 0;
        loop {
            if seen == stall_at {
                std::thread::sleep(stall);
            }
            let Ok(request) = requests.next() else { return seen };
            let request = requests.bytes(request);
            let (key, id) = (&request[..2], &request[4..8]);
            let mut answer = Vec::new();
            if key == [0, 0] {
                seen += 1;
                if acks == 0 {
                    continue;
                }
                answer.extend((body.len() as u32 + 4).to_be_bytes());
                answer.extend(id);
                answer.extend(&body);
            } else {
                // The barrier: nobody reads what it says.
                answer.extend([0, 0, 0, 4]);
                answer.extend(id);
            }
            if (&stream).write_all(&answer).is_err() {
                return seen;
            }
        }
    }

    /// When a fake broker stands still, and what it answers.
    #[derive(Clone, Copy)]
    struct Fake {
        stall_at: u64,
        stall_ms: u64,
        code: i16,
    }

    const QUICK: Fake = Fake { stall_at: u64::MAX, stall_ms: 0, code: 0 };

    /// Runs a lane to its end against each of these brokers, all lanes in one thread. Returns what they measured, how
    /// many requests the brokers saw, and the records that were counted.
    fn run(
        fakes: &[Fake],
        shape: Shape,
        window: Window,
        pace: Pace,
        records: Option<u64>,
    ) -> (Outcome<Vec<Sent>>, Vec<u64>, u64) {
        let progress = Progress::default();
        let (mut brokers, mut stations): (Vec<_>, Vec<Box<dyn Station<Sent> + '_>>) = (Vec::new(), Vec::new());
        for fake in fakes.iter().copied() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.set_nodelay(true).unwrap();
            brokers.push(std::thread::spawn(move || {
                fake_broker(listener, fake.stall_at, Duration::from_millis(fake.stall_ms), fake.code, shape.acks)
            }));
            let requests = Requests::build(&topic(1), 13, &[0], &shape, &no_keys(), None).unwrap();
            let purpose = Purpose { pace, records, run_id: None, ending: None, split: None, progress: &progress };
            stations.push(Box::new(Lane::new(Link::new(stream).unwrap(), requests, purpose).unwrap()));
        }
        let result = measure(&window, None, stations, 1, &progress).map(|(_, sent)| sent);
        let seen = brokers.into_iter().map(|broker| broker.join().unwrap()).collect();
        (result, seen, progress.records.load(Ordering::Relaxed))
    }

    fn open(window: &Window, rate: f64) -> Pace {
        Pace::Open(Schedule::new(window.zero, rate, 0.0))
    }

    #[test]
    fn a_stalled_broker_shows_in_every_request_that_had_to_wait() {
        // 1,000 requests per second for 0.6 s; the broker stands still for 300 ms.
        let window = Window::new(Duration::ZERO, Some(Duration::from_millis(600)));
        let pace = open(&window, 1000.0);
        let fake = Fake { stall_at: 150, stall_ms: 300, code: 0 };
        let (sent, seen, records) = run(&[fake], shape(), window, pace, None);
        let sent = &sent.unwrap()[0];
        assert_eq!((seen[0] + sent.unsent, sent.from_intended.count()), (600, 600));
        // About half of the requests fell into the stall, evenly from 0 to 300 ms:
        // a closed loop would have shown one slow request of 600.
        let (p75, p99) = (sent.from_intended.quantile_us(0.75), sent.from_intended.quantile_us(0.99));
        assert!(p75 > 100_000.0, "p75 is {p75} µs");
        assert!(p99 > 280_000.0, "p99 is {p99} µs");
        assert_eq!(records, 3 * seen[0]);
    }

    #[test]
    fn a_sender_that_is_held_up_is_charged_from_the_intended_time() {
        // 256 KiB per request fill the socket's buffers, so that the stall blocks
        // the sender itself: the actual send then comes late, and a latency from
        // there would hide the wait.
        let shape = Shape { sizes: Sizes::Fixed(256 << 10), batch_records: 1, ..shape() };
        // Ended by a number, so that all are sent, and both latencies are those of the same requests.
        let window = Window::new(Duration::ZERO, None);
        let pace = open(&window, 400.0);
        let fake = Fake { stall_at: 40, stall_ms: 300, code: 0 };
        let (sent, seen, _) = run(&[fake], shape, window, pace, Some(200));
        let sent = &sent.unwrap()[0];
        assert_eq!((seen[0], sent.from_intended.count(), sent.from_actual.count()), (200, 200, 200));
        // 120 requests fall due in the stall, of which the buffers take some. A machine that does other things as well
        // makes both latencies longer, and their difference not shorter.
        let mean = |latencies: &Latencies| latencies.json()["mean_us"].as_f64().unwrap();
        let (intended, actual) = (mean(&sent.from_intended), mean(&sent.from_actual));
        assert!(intended > actual + 20_000.0, "{intended} µs from the intended, {actual} µs from the actual time");
    }

    #[test]
    fn what_could_not_be_sent_counts_with_the_wait_it_had() {
        // The broker never reads: 100 requests of 1 MiB are due, a few fit into the
        // buffers, then the window ends with the sender blocked until the stall ends.
        let shape = Shape { sizes: Sizes::Fixed(1 << 20), batch_records: 1, ..shape() };
        let window = Window::new(Duration::ZERO, Some(Duration::from_millis(200)));
        let pace = open(&window, 500.0);
        let fake = Fake { stall_at: 0, stall_ms: 400, code: 0 };
        let (sent, seen, _) = run(&[fake], shape, window, pace, None);
        let sent = &sent.unwrap()[0];
        assert!(sent.unsent > 50, "{} unsent", sent.unsent);
        assert_eq!(seen[0] + sent.unsent, 100);
        assert_eq!(sent.from_intended.count(), 100);
        assert!(sent.from_intended.quantile_us(0.5) > 50_000.0);
    }

    #[test]
    fn one_connection_that_stands_still_does_not_hold_up_another_of_its_thread() {
        // Both lanes are due at the same times. That of the stalled broker fills its socket and has to wait.
        let shape = Shape { sizes: Sizes::Fixed(256 << 10), batch_records: 1, ..shape() };
        let window = Window::new(Duration::ZERO, None);
        let pace = open(&window, 400.0);
        let stalled = Fake { stall_at: 40, stall_ms: 500, code: 0 };
        let (sent, seen, _) = run(&[stalled, QUICK], shape, window, pace, Some(200));
        let sent = sent.unwrap();
        assert_eq!(seen, [200, 200]);
        let mut medians: Vec<f64> = sent.iter().map(|lane| lane.from_intended.quantile_us(0.5)).collect();
        medians.sort_unstable_by(f64::total_cmp);
        // Of the stalled one's, most waited: a hundred milliseconds and more. The other's waits are a busy machine's.
        assert!(medians[1] > medians[0] + 50_000.0, "{medians:?}");
    }

    #[test]
    fn a_closed_loop_sends_what_it_was_asked() {
        let window = Window::new(Duration::ZERO, None);
        let (sent, seen, records) = run(&[QUICK; 3], shape(), window, Pace::Closed { in_flight: 5 }, Some(3000));
        for sent in sent.unwrap() {
            assert_eq!((sent.records_total, sent.from_actual.count(), sent.unsent), (3000, 1000, 0));
        }
        assert_eq!((seen, records), (vec![1000; 3], 9000));
    }

    #[test]
    fn acks_0_waits_for_nothing_but_the_end() {
        let shape = Shape { acks: 0, ..shape() };
        let window = Window::new(Duration::ZERO, None);
        let (sent, seen, _) = run(&[QUICK], shape.clone(), window, Pace::Closed { in_flight: 5 }, Some(3000));
        let sent = &sent.unwrap()[0];
        assert_eq!((seen[0], sent.records_total, sent.from_actual.count()), (1000, 3000, 0));
        // Bounded by a number, not by a time: a sender that is held up at the end of a
        // time would rightly leave the last request unsent.
        let window = Window::new(Duration::ZERO, None);
        let pace = open(&window, 1000.0);
        let (sent, seen, _) = run(&[QUICK], shape, window, pace, Some(300));
        let sent = &sent.unwrap()[0];
        assert_eq!((seen[0], sent.records_total, sent.from_actual.count()), (100, 300, 0));
    }

    #[test]
    fn an_error_in_an_answer_ends_the_run() {
        // In a closed loop and in an open one, and promptly; the other lanes end, too.
        for is_open in [false, true] {
            let window = Window::new(Duration::ZERO, Some(Duration::from_secs(600)));
            let pace = if is_open { open(&window, 1000.0) } else { Pace::Closed { in_flight: 5 } };
            let (result, _, _) = run(&[QUICK, Fake { code: 6, ..QUICK }], shape(), window, pace, None);
            let error = result.err().unwrap().0;
            assert!(error.contains("NotLeaderOrFollower"), "{error}");
        }
    }

    #[test]
    fn latencies_of_requests_meant_for_after_the_split_are_counted_apart() {
        let split = AtomicU64::new(Duration::from_millis(60).as_nanos() as u64);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let broker = std::thread::spawn(move || fake_broker(listener, u64::MAX, Duration::ZERO, 0, -1));
        let requests = Requests::build(&topic(1), 13, &[0], &shape(), &no_keys(), None).unwrap();
        let (window, progress) = (Window::new(Duration::ZERO, None), Progress::default());
        let pace = open(&window, 1000.0);
        let purpose =
            Purpose { pace, records: Some(300), run_id: None, ending: None, split: Some(&split), progress: &progress };
        let lane = Lane::new(Link::new(stream).unwrap(), requests, purpose).unwrap();
        let stations: Vec<Box<dyn Station<Sent> + '_>> = vec![Box::new(lane)];
        let (_, sent) = measure(&window, None, stations, 1, &progress).unwrap();
        // By the intended times, which nothing moves.
        assert_eq!((sent[0].from_intended.count(), sent[0].after_split.count()), (60, 40));
        assert_eq!(broker.join().unwrap(), 100);
    }

    /// The batches of a request: (partition, records).
    fn decoded(request: &Prebuilt) -> Vec<(i32, kafka_protocol::records::RecordSet)> {
        let of = |placed: &Placed| {
            let bytes = Bytes::from(request.bytes[placed.range.clone()].to_vec());
            (placed.partition, RecordBatchDecoder::decode(&mut bytes.clone()).unwrap())
        };
        request.batches.iter().map(of).collect()
    }

    #[test]
    fn keyed_records_are_in_the_batches_of_their_partitions() {
        // A connection that leads two of four partitions.
        let (mine, all) = ([1, 3], topic(4));
        for keys in [Keys::Random, Keys::Skewed] {
            let shape = Shape {
                keys,
                key_count: 1000,
                batch_records: 20,
                batches_per_request: 2,
                sizes: "10..90".parse().unwrap(),
                ..shape()
            };
            let pool = KeyPool::new(keys, 1000, 4, |partition| mine.contains(&(partition as i32)));
            assert!(pool.share > 0.3 && pool.share < 0.7, "{}", pool.share);
            let requests = Requests::build(&all, 13, &mine, &shape, &pool, None).unwrap();
            assert!(requests.prebuilt.len() > 100 && requests.records_per_request == 40);
            let mut sizes = std::collections::BTreeSet::new();
            for request in &requests.prebuilt {
                let batches = decoded(request);
                assert_eq!(batches.iter().map(|(_, set)| set.records.len()).sum::<usize>(), 40);
                for (partition, record) in batches.iter().flat_map(|(at, set)| set.records.iter().map(move |r| (at, r)))
                {
                    let key = record.key.as_ref().unwrap();
                    assert_eq!(content::partition_of(key, 4) as i32, *partition);
                    sizes.insert(record.value.as_ref().unwrap().len());
                }
            }
            assert_eq!((sizes.first(), sizes.last(), sizes.len()), (Some(&10), Some(&90), 81));
        }
    }

    #[test]
    fn sequences_go_on_in_each_partition_whatever_the_request() {
        let mine = [0, 1, 2];
        let shape = Shape { keys: Keys::Random, key_count: 50, batch_records: 4, idempotent: true, ..shape() };
        let pool = KeyPool::new(Keys::Random, 50, 3, |_| true);
        let mut requests = Requests::build(&topic(3), 13, &mine, &shape, &pool, None).unwrap();
        requests.producer = Some(Producer { id: 77, epoch: 2 });
        let mut expected = [0; 3];
        // Further than once through all of them.
        for index in 0..requests.prebuilt.len() as u64 + 500 {
            requests.make_ready(index, 0, 0).unwrap();
            let request = &requests.prebuilt[requests.slot(index)];
            assert_eq!(request.bytes[CORRELATION_AT..CORRELATION_AT + 4], id_of(index).to_be_bytes());
            for (partition, set) in decoded(request) {
                for record in set.records {
                    let next = &mut expected[partition as usize];
                    assert_eq!((record.producer_id, record.sequence), (77, *next));
                    *next += 1;
                }
            }
        }
    }

    #[test]
    fn every_codec_carries_stamps() {
        for codec in Codec::ALL {
            let shape = Shape { codec, filling: Filling::Text, sizes: Sizes::Fixed(200), ..shape() };
            let mut requests = Requests::build(&topic(2), 13, &[0, 1], &shape, &no_keys(), Some(42)).unwrap();
            for index in 0..4u64 {
                requests.make_ready(index, 1000 + index, 2000 + index).unwrap();
                let request = &requests.prebuilt[requests.slot(index)];
                let batch = &request.bytes[request.batches[0].range.clone()];
                let fetched = batches::Fetched::first(batch).unwrap();
                assert!(fetched.crc_is_right());
                let stamp = fetched.stamp(&mut corelog::record::Scratch::new()).unwrap();
                assert_eq!(stamp, Stamp { intended_ns: 1000 + index, actual_ns: 2000 + index, run: 42 });
                let frame_bytes = u32::from_be_bytes(request.bytes[..4].try_into().unwrap());
                assert_eq!(frame_bytes as usize, request.bytes.len() - 4);
                assert_eq!(decoded(request)[0].1.records.len(), 3);
            }
        }
    }

    #[test]
    fn requests_that_cannot_be_are_refused() {
        let build = |partitions: &[i32], shape: Shape| {
            Requests::build(&topic(4), 13, partitions, &shape, &no_keys(), None).err().map(|failure| failure.0)
        };
        assert!(build(&[0, 1, 2], Shape { batches_per_request: 2, ..shape() }).unwrap().contains("do not divide"));
        let huge = Shape { sizes: Sizes::Fixed(64 << 20), batch_records: 9, ..shape() };
        assert!(build(&[0, 1], huge).unwrap().contains("MiB"));
        assert!(build(&[0], Shape { keys: Keys::Random, ..shape() }).unwrap().contains("no key"));
    }
}
