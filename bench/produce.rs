//! Producing: one connection's requests, prebuilt, sent either as fast as a bound
//! of unanswered requests allows (closed loop) or at times fixed in advance (open
//! loop, one thread that sends and one that receives).

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ProduceRequest};

use crate::answers::{Answers, PRODUCE_VERSIONS, check_produced, correlation_id};
use crate::batches::{self, Producer, Stamp};
use crate::cluster::{Connection, PATIENCE, Topic, frame};
use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::pace::{Schedule, wait_until};
use crate::run::{Progress, Window};

/// Where the correlation id lies in a request frame.
const CORRELATION_AT: usize = 8;

/// Smaller frames are gathered into one write; larger ones are written alone.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// Requests of an open loop that may be unanswered on one connection. Beyond it
/// the sender waits, and the wait counts as latency.
const OPEN_UNANSWERED_MAX: usize = 1 << 16;

/// The correlation id of the last request, which asks for nothing: when its
/// answer is there, all before it were handled.
const BARRIER: i32 = -1;

/// What every request carries.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub acks: i16,
    pub record_bytes: usize,
    pub batch_records: usize,
    /// Partitions with a batch each in one request.
    pub batches_per_request: usize,
    /// Batches carry a producer id and sequence numbers (KIP-98), as the Java and
    /// Go clients' do by default.
    pub idempotent: bool,
}

/// One prebuilt request.
struct Prebuilt {
    bytes: Vec<u8>,
    batches: Vec<Placed>,
}

/// A batch within a request.
struct Placed {
    range: Range<usize>,
    /// Where its values lie, from the batch's start.
    values_at: Vec<usize>,
    /// The sequence number of its next first record.
    sequence: i32,
}

/// One connection and all that it sends, round robin over its partitions.
pub struct Lane {
    stream: TcpStream,
    version: i16,
    acks: i16,
    requests: Vec<Prebuilt>,
    records_per_request: u64,
    bytes_per_request: u64,
    /// Set in end-to-end runs: every batch is stamped before it is sent.
    run_id: Option<u64>,
    /// Set when batches are numbered.
    producer: Option<Producer>,
    staging: Vec<u8>,
}

/// What one lane measured.
pub struct Sent {
    /// From the intended send time to the answer. In a closed loop the two are one.
    pub from_intended: Latencies,
    /// From just before the write to the answer.
    pub from_actual: Latencies,
    /// Records answered from first to last, warm-up included.
    pub records_total: u64,
    /// Requests that were due within the window but not sent when it ended.
    pub unsent: u64,
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl Lane {
    /// Connects to a leader and builds the requests for `partitions`.
    pub fn open(address: &str, topic: &Topic, partitions: &[i32], shape: &Shape, run_id: Option<u64>) -> Outcome<Lane> {
        let mut connection = Connection::open(address)?;
        let mut version = connection.version(ApiKey::Produce, PRODUCE_VERSIONS)?;
        if topic.id == 0 {
            version = version.min(12);
        }
        let batch = batches::build(shape.batch_records, shape.record_bytes, unix_ms());
        let groups: Vec<&[i32]> = partitions.chunks(shape.batches_per_request).collect();
        let requests = groups.iter().map(|group| prebuild(topic, group, shape, &batch, version));
        let requests = requests.collect::<Outcome<Vec<_>>>()?;
        // Groups of unequal size would make "per request" mean different things.
        let group = groups.first().map_or(0, |group| group.len());
        if groups.iter().any(|other| other.len() != group) {
            return Err(failure!("{} partitions do not divide into requests of {group}", partitions.len()));
        }
        let producer = if shape.idempotent { Some(connection.producer()?) } else { None };
        let lane = Lane::new(connection.stream, version, shape, requests, group, batch.bytes.len());
        Ok(Lane { run_id, producer, ..lane })
    }

    fn new(
        stream: TcpStream,
        version: i16,
        shape: &Shape,
        requests: Vec<Prebuilt>,
        group: usize,
        batch_bytes: usize,
    ) -> Lane {
        Lane {
            stream,
            version,
            acks: shape.acks,
            requests,
            records_per_request: (shape.batch_records * group) as u64,
            bytes_per_request: (batch_bytes * group) as u64,
            run_id: None,
            producer: None,
            staging: Vec::with_capacity(2 * GATHER_BYTES_MAX),
        }
    }

    /// Puts request `index` into the staging buffer, or writes it at once when it
    /// is large.
    fn stage(&mut self, index: u64, intended_ns: u64, actual_ns: u64) -> Outcome<()> {
        let slot = (index % self.requests.len() as u64) as usize;
        let request = &mut self.requests[slot];
        // Ids stay positive, so that the barrier's is its own.
        let id = (index & 0x7fff_ffff) as i32;
        request.bytes[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&id.to_be_bytes());
        if self.run_id.is_some() || self.producer.is_some() {
            for placed in &mut request.batches {
                let bytes = &mut request.bytes[placed.range.clone()];
                if let Some(run) = self.run_id {
                    let stamp = Stamp { intended_ns, actual_ns, run };
                    batches::stamp(bytes, &placed.values_at, &stamp, unix_ms());
                }
                if let Some(producer) = self.producer {
                    batches::number(bytes, producer, placed.sequence);
                    placed.sequence = batches::sequence_after(placed.sequence, placed.values_at.len());
                }
                batches::seal(bytes);
            }
        }
        if request.bytes.len() > GATHER_BYTES_MAX {
            flush(&self.stream, &mut self.staging)?;
            (&self.stream).write_all(&self.requests[slot].bytes).doing(|| String::from("send a request"))?;
            return Ok(());
        }
        if self.staging.len() + request.bytes.len() > GATHER_BYTES_MAX {
            flush(&self.stream, &mut self.staging)?;
        }
        self.staging.extend_from_slice(&self.requests[slot].bytes);
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        flush(&self.stream, &mut self.staging)
    }

    fn send_barrier(&mut self) -> Outcome<()> {
        let barrier = frame(ApiKey::ApiVersions as i16, 0, BARRIER, &ApiVersionsRequest::default())?;
        self.staging.extend_from_slice(&barrier);
        self.flush()
    }

    /// Sends as fast as `in_flight` unanswered requests allow, until the window
    /// ends or `records_max` records were sent within it.
    pub fn run_closed(
        mut self,
        window: &Window,
        progress: &Progress,
        in_flight: usize,
        records_max: Option<u64>,
    ) -> Outcome<Sent> {
        let mut latencies = Latencies::new();
        let mut answers = Answers::new(self.stream.try_clone().doing(|| String::from("share a socket"))?);
        let mut sent_at = VecDeque::with_capacity(in_flight);
        let (mut sent, mut answered, mut counted) = (0u64, 0u64, 0u64);
        let requests_max = records_max.map_or(u64::MAX, |records| records.div_ceil(self.records_per_request));
        wait_until(window.zero);
        loop {
            while sent_at.len() < in_flight && counted < requests_max {
                let now = Instant::now();
                if window.is_over(now) {
                    break;
                }
                let clock = window.clock(now);
                self.stage(sent, clock, clock)?;
                sent += 1;
                counted += u64::from(now >= window.from);
                if self.acks == 0 {
                    progress.add(self.records_per_request, self.bytes_per_request);
                } else {
                    sent_at.push_back(now);
                }
            }
            self.flush()?;
            if sent_at.is_empty() {
                break;
            }
            answers.receive()?;
            while let Some(answer) = answers.arrived()? {
                let sent_at = sent_at.pop_front().ok_or_else(|| failure!("the broker answered what was not asked"))?;
                self.check(answered, answers.bytes(answer))?;
                let now = Instant::now();
                answered += 1;
                progress.add(self.records_per_request, self.bytes_per_request);
                if sent_at >= window.from {
                    latencies.record(now - sent_at, 1);
                }
            }
        }
        if self.acks == 0 {
            self.send_barrier()?;
            answers.next()?;
            answered = sent;
        }
        let from_actual = latencies.clone();
        Ok(Sent {
            from_intended: latencies,
            from_actual,
            records_total: answered * self.records_per_request,
            unsent: 0,
        })
    }

    /// Checks that an answer belongs to request `index` and reports no error.
    fn check(&self, index: u64, answer: &[u8]) -> Outcome<()> {
        let (id, body) = correlation_id(answer)?;
        if id != (index & 0x7fff_ffff) as i32 {
            return Err(failure!("the broker answered request {id} when {index} was next"));
        }
        check_produced(body, self.version).map(|_| ())
    }

    /// Sends at the times of `schedule`, whatever the broker does, until the
    /// window ends or `records_max` records were due within it.
    pub fn run_open(
        mut self,
        window: &Window,
        progress: &Progress,
        schedule: Schedule,
        records_max: Option<u64>,
    ) -> Outcome<Sent> {
        let what = || String::from("share a socket");
        let receiving = self.stream.try_clone().doing(what)?;
        receiving.set_read_timeout(Some(PATIENCE + (schedule.due(1) - schedule.due(0)))).doing(what)?;
        let warm_up = schedule.count_until(window.from);
        let total = match (window.until, records_max) {
            (_, Some(records)) => warm_up + records.div_ceil(self.records_per_request),
            (Some(until), None) => schedule.count_until(until),
            (None, None) => return Err(failure!("a run needs a duration or a number of records")),
        };
        // When each unanswered request was really sent, on the window's clock.
        let sent_ns: Vec<AtomicU64> = (0..OPEN_UNANSWERED_MAX).map(|_| AtomicU64::new(0)).collect();
        let answered = AtomicU64::new(0);
        let (version, acks) = (self.version, self.acks);
        let (records, bytes) = (self.records_per_request, self.bytes_per_request);
        let slot = |index: u64| &sent_ns[(index % OPEN_UNANSWERED_MAX as u64) as usize];

        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| -> Outcome<(Latencies, Latencies, u64)> {
                let (mut from_intended, mut from_actual) = (Latencies::new(), Latencies::new());
                let mut answers = Answers::new(receiving);
                let mut index = 0u64;
                loop {
                    let answer = answers.next()?;
                    let (id, body) = correlation_id(answers.bytes(answer))?;
                    if id == BARRIER {
                        return Ok((from_intended, from_actual, index));
                    }
                    let now = Instant::now();
                    if id != (index & 0x7fff_ffff) as i32 {
                        return Err(failure!("the broker answered request {id} when {index} was next"));
                    }
                    check_produced(body, version)?;
                    progress.add(records, bytes);
                    let intended = schedule.due(index);
                    if intended >= window.from {
                        from_intended.record(now.saturating_duration_since(intended), 1);
                        let sent = Duration::from_nanos(slot(index).load(Ordering::Acquire));
                        from_actual.record(now.saturating_duration_since(window.zero + sent), 1);
                    }
                    index += 1;
                    answered.store(index, Ordering::Release);
                }
            });

            let mut sent = 0u64;
            let sending = (|| {
                while sent < total {
                    if receiver.is_finished() {
                        return Ok(());
                    }
                    let due = schedule.due(sent);
                    if due > Instant::now() {
                        self.flush()?;
                        wait_until(due);
                    }
                    while acks != 0 && sent - answered.load(Ordering::Acquire) >= OPEN_UNANSWERED_MAX as u64 {
                        self.flush()?;
                        if receiver.is_finished() || window.is_over(Instant::now()) {
                            return Ok(());
                        }
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    let now = Instant::now();
                    if window.is_over(now) {
                        return Ok(());
                    }
                    slot(sent).store(window.clock(now), Ordering::Release);
                    self.stage(sent, window.clock(due), window.clock(now))?;
                    sent += 1;
                    if acks == 0 {
                        progress.add(records, bytes);
                    }
                }
                Ok(())
            })();
            // Whatever happened, the receiver must see an end.
            let ended = sending.and_then(|()| self.send_barrier());
            if ended.is_err() {
                let _ = self.stream.shutdown(std::net::Shutdown::Both);
            }
            let received = receiver.join().map_err(|_| failure!("the receiving thread panicked"))?;
            // An error in an answer says more than the broken pipe that follows it.
            let (mut from_intended, mut from_actual, mut count) = received?;
            ended?;
            if acks == 0 {
                count = sent;
            } else if count != sent {
                return Err(failure!("{} of {sent} requests were never answered", sent - count));
            }
            // What was due but could not be sent has waited at least until the end.
            let end = window.until.unwrap_or_else(Instant::now);
            let unsent = total - sent;
            for index in sent.max(warm_up)..total {
                let waited = end.saturating_duration_since(schedule.due(index));
                from_intended.record(waited, 1);
            }
            if acks == 0 {
                (from_intended, from_actual) = (Latencies::new(), Latencies::new());
            }
            Ok(Sent { from_intended, from_actual, records_total: count * records, unsent })
        })
    }
}

fn flush(mut stream: &TcpStream, staging: &mut Vec<u8>) -> Outcome<()> {
    if !staging.is_empty() {
        stream.write_all(staging).doing(|| String::from("send a request"))?;
        staging.clear();
    }
    Ok(())
}

/// Encodes the request once, and finds the batches in it.
fn prebuild(
    topic: &Topic,
    partitions: &[i32],
    shape: &Shape,
    batch: &batches::Batch,
    version: i16,
) -> Outcome<Prebuilt> {
    let records = Bytes::from(batch.bytes.clone());
    let partition_data = partitions
        .iter()
        .map(|&index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone())));
    let data = TopicProduceData::default().with_partition_data(partition_data.collect());
    let data = if version >= 13 { data.with_topic_id(topic.topic_id()) } else { data.with_name(topic.topic_name()) };
    let request = ProduceRequest::default().with_acks(shape.acks).with_timeout_ms(30_000).with_topic_data(vec![data]);
    let bytes = frame(ApiKey::Produce as i16, version, 0, &request)?.to_vec();
    let mut placed = Vec::new();
    let mut from = 0;
    for _ in partitions {
        let at = bytes[from..].windows(batch.bytes.len()).position(|window| window == batch.bytes);
        let at = from + at.ok_or_else(|| failure!("the encoder changed the batch"))?;
        from = at + batch.bytes.len();
        placed.push(Placed { range: at..from, values_at: batch.values_at.clone(), sequence: 0 });
    }
    Ok(Prebuilt { bytes, batches: placed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ProduceResponse;
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::protocol::Encodable;
    use std::net::TcpListener;

    fn topic() -> Topic {
        Topic { name: String::from("orders"), id: 9, leaders: Vec::new() }
    }

    const SHAPE: Shape =
        Shape { acks: -1, record_bytes: 100, batch_records: 3, batches_per_request: 1, idempotent: false };

    /// A broker that answers every Produce at once, except that it pauses for
    /// `stall` before it reads request `stall_at`. Returns the number of Produce
    /// requests it saw.
    fn fake_broker(listener: TcpListener, stall_at: u64, stall: Duration, code: i16, acks: i16) -> u64 {
        let (stream, _) = listener.accept().unwrap();
        let mut requests = Answers::new(stream.try_clone().unwrap());
        let partition = PartitionProduceResponse::default().with_error_code(code);
        let response =
            TopicProduceResponse::default().with_topic_id(topic().topic_id()).with_partition_responses(vec![partition]);
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

    /// Runs `body` with a lane connected to a fake broker.
    fn with_broker<T>(stall_at: u64, stall_ms: u64, code: i16, shape: Shape, body: impl FnOnce(Lane) -> T) -> (T, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = std::thread::spawn(move || {
            fake_broker(listener, stall_at, Duration::from_millis(stall_ms), code, shape.acks)
        });
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let batch = batches::build(shape.batch_records, shape.record_bytes, 1);
        let requests = vec![prebuild(&topic(), &[0], &shape, &batch, 13).unwrap()];
        let lane = Lane::new(stream, 13, &shape, requests, 1, batch.bytes.len());
        let result = body(lane);
        (result, broker.join().unwrap())
    }

    #[test]
    fn a_stalled_broker_shows_in_every_request_that_had_to_wait() {
        // 1,000 requests per second for 0.6 s; the broker stands still for 300 ms.
        let window = Window::new(Duration::ZERO, Some(Duration::from_millis(600)));
        let schedule = Schedule::new(window.zero, 1000.0, 0.0);
        let progress = Progress::default();
        let (sent, seen) =
            with_broker(150, 300, 0, SHAPE, |lane| lane.run_open(&window, &progress, schedule, None).unwrap());
        assert_eq!((seen + sent.unsent, sent.from_intended.count()), (600, 600));
        // About half of the requests fell into the stall, evenly from 0 to 300 ms:
        // a closed loop would have shown one slow request of 600.
        let (p75, p99) = (sent.from_intended.quantile_us(0.75), sent.from_intended.quantile_us(0.99));
        assert!(p75 > 100_000.0, "p75 is {p75} µs");
        assert!(p99 > 280_000.0, "p99 is {p99} µs");
        assert_eq!(progress.records.load(Ordering::Relaxed), 3 * seen);
    }

    #[test]
    fn a_sender_that_is_held_up_is_charged_from_the_intended_time() {
        // 256 KiB per request fill the socket's buffers, so that the stall blocks
        // the sender itself: the actual send then comes late, and a latency from
        // there would hide the wait.
        let shape = Shape { record_bytes: 256 << 10, batch_records: 1, ..SHAPE };
        // Ended by a number, so that all are sent, and both latencies are those of the same requests.
        let window = Window::new(Duration::ZERO, None);
        let schedule = Schedule::new(window.zero, 400.0, 0.0);
        let progress = Progress::default();
        let (sent, seen) =
            with_broker(40, 300, 0, shape, |lane| lane.run_open(&window, &progress, schedule, Some(200)).unwrap());
        assert_eq!((seen, sent.from_intended.count(), sent.from_actual.count()), (200, 200, 200));
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
        let shape = Shape { record_bytes: 1 << 20, batch_records: 1, ..SHAPE };
        let window = Window::new(Duration::ZERO, Some(Duration::from_millis(200)));
        let schedule = Schedule::new(window.zero, 500.0, 0.0);
        let progress = Progress::default();
        let (sent, seen) =
            with_broker(0, 400, 0, shape, |lane| lane.run_open(&window, &progress, schedule, None).unwrap());
        assert!(sent.unsent > 50, "{} unsent", sent.unsent);
        assert_eq!(seen + sent.unsent, 100);
        assert_eq!(sent.from_intended.count(), 100);
        assert!(sent.from_intended.quantile_us(0.5) > 50_000.0);
    }

    #[test]
    fn a_closed_loop_sends_what_it_was_asked() {
        let window = Window::new(Duration::ZERO, None);
        let progress = Progress::default();
        let (sent, seen) =
            with_broker(u64::MAX, 0, 0, SHAPE, |lane| lane.run_closed(&window, &progress, 5, Some(3000)).unwrap());
        assert_eq!((seen, sent.records_total, sent.from_actual.count()), (1000, 3000, 1000));
    }

    #[test]
    fn acks_0_waits_for_nothing_but_the_end() {
        let window = Window::new(Duration::ZERO, None);
        let progress = Progress::default();
        let shape = Shape { acks: 0, ..SHAPE };
        let (sent, seen) =
            with_broker(u64::MAX, 0, 0, shape, |lane| lane.run_closed(&window, &progress, 5, Some(3000)).unwrap());
        assert_eq!((seen, sent.records_total, sent.from_actual.count()), (1000, 3000, 0));
        // Bounded by a number, not by a time: a sender that is held up at the end of a
        // time would rightly leave the last request unsent.
        let window = Window::new(Duration::ZERO, None);
        let schedule = Schedule::new(window.zero, 1000.0, 0.0);
        let (sent, seen) =
            with_broker(u64::MAX, 0, 0, shape, |lane| lane.run_open(&window, &progress, schedule, Some(300)).unwrap());
        assert_eq!((seen, sent.records_total, sent.from_actual.count()), (100, 300, 0));
    }

    #[test]
    fn an_error_in_an_answer_ends_the_run() {
        let window = Window::new(Duration::ZERO, Some(Duration::from_secs(60)));
        let progress = Progress::default();
        let (result, _) = with_broker(u64::MAX, 0, 6, SHAPE, |lane| lane.run_closed(&window, &progress, 5, None));
        let error = result.err().unwrap().0;
        assert!(error.contains("NotLeaderOrFollower"), "{error}");
        // In an open loop, too, and promptly.
        let schedule = Schedule::new(window.zero, 1000.0, 0.0);
        let (result, _) = with_broker(u64::MAX, 0, 6, SHAPE, |lane| lane.run_open(&window, &progress, schedule, None));
        assert!(result.err().unwrap().0.contains("NotLeaderOrFollower"));
    }
}
