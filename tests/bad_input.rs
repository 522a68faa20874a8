//! What clients must not do, over a bare socket: the connection ends, or is answered as Apache Kafka does. Meanwhile a
//! polite client is served, nothing panics, and the broker's memory stays bounded.

mod harness;

use harness::broker::{Broker, Options, connect};
use harness::wait::{self, PATIENCE, seconds};
use harness::wire::{self, API_VERSIONS, Offered, request};
use harness::{records, unique};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What became of a connection after something bad was sent.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// The broker closed it without an answer.
    Closed,
    Answered(Vec<u8>),
    /// Neither, within the time that was given.
    Silent,
}

fn outcome(stream: &mut TcpStream, limit: Duration) -> Outcome {
    stream.set_read_timeout(Some(limit)).unwrap();
    match wire::read_answer(stream) {
        Ok(answer) => Outcome::Answered(answer),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Outcome::Silent,
        Err(_) => Outcome::Closed,
    }
}

/// Sends bytes on a new connection and looks what becomes of it.
fn send(address: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut stream = connect(address).unwrap();
    // The broker may close before it has read everything.
    let _ = stream.write_all(bytes);
    outcome(&mut stream, PATIENCE)
}

/// A client that behaves: it produces record after record, and each must be acknowledged; at the end all are there.
struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(usize, Duration)>>,
    bootstrap: String,
    topic: String,
}

impl Witness {
    fn start(broker: &Broker) -> Witness {
        let (bootstrap, topic) = (broker.bootstrap(), unique("witness"));
        records::create_topic(&bootstrap, &topic, 2);
        let stop = Arc::new(AtomicBool::new(false));
        let producer: BaseProducer = records::config(&bootstrap)
            .set("linger.ms", "0")
            .set("message.timeout.ms", "60000")
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        let thread = std::thread::spawn({
            let (stop, topic) = (stop.clone(), topic.clone());
            move || {
                let (mut count, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) || count == 0 {
                    let begin = Instant::now();
                    let partition = (count % 2) as i32;
                    let record = BaseRecord::to(&topic).partition(partition).key("").payload("as agreed");
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                    producer.flush(PATIENCE).expect("the polite client's record is acknowledged");
                    longest = longest.max(begin.elapsed());
                    count += 1;
                }
                (count, longest)
            }
        });
        Witness { stop, thread: Some(thread), bootstrap, topic }
    }

    /// Ends the polite client: it was served all the time, and fast enough.
    fn judge(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self.thread.take().unwrap().join().expect("the polite client was served");
        assert!(longest < seconds(30), "the polite client waited {longest:?}");
        let mut found = 0;
        records::read_topic(&self.bootstrap, &self.topic, |_| found += 1);
        assert_eq!(found, count, "the polite client's records");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Resident memory of the broker, in MiB.
fn resident_mib(broker: &Broker) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.process()?)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024)
}

/// The broker has grown by at most `most` MiB since it had `before`. Apache Kafka's heap is its own affair.
#[track_caller]
fn check_growth(broker: &Broker, before: Option<u64>, most: u64, what: &str) {
    let (Some(before), Some(now)) = (before, resident_mib(broker)) else { return };
    println!("{what}: {before} MiB before, {now} MiB now");
    assert!(!broker.is_corelog() || now <= before + most, "{what}: from {before} MiB to {now} MiB");
}

/// xorshift64, for inputs that a seed can bring back.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed =
            std::env::var("CORELOG_TEST_SEED").map_or(u64::from(std::process::id()), |text| text.parse().unwrap());
        println!("replay with CORELOG_TEST_SEED={seed}");
        Random(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn random_bytes() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let address = broker.addresses()[0];
    let offered = wire::api_versions(address).unwrap();
    let mut random = Random::new();
    for round in 0..600 {
        let count = 1 + random.next() as usize % 2000;
        let body = random.bytes(count);
        let bytes = match round % 3 {
            // Nothing but noise.
            0 => body,
            // A whole frame of noise.
            1 => [&(count as i32).to_be_bytes()[..], &body].concat(),
            // An API that exists, then noise.
            _ => {
                let api = offered[random.next() as usize % offered.len()];
                let version = api.min + (random.next() % (api.max - api.min + 1) as u64) as i16;
                request(api.api_key, version, 1, random.next().is_multiple_of(2), &body)
            }
        };
        let mut stream = connect(address).unwrap();
        let _ = stream.write_all(&bytes);
        // No more will come: the broker ends the connection too, whatever it made of the bytes.
        let _ = stream.shutdown(Shutdown::Write);
        ends(&mut stream, &format!("round {round}"));
    }
    witness.judge();
}

/// The broker closes a connection whose client has stopped sending.
#[track_caller]
fn ends(stream: &mut TcpStream, what: &str) {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => panic!("{what}: the connection stays open: {e}"),
    }
}

#[test]
fn truncated_frames() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let address = broker.addresses()[0];
    // Metadata v12 for all topics, FindCoordinator v0, ApiVersions v3: cut after each byte.
    let software = [&[5][..], b"test", &[2], b"1", &[0]].concat();
    let whole = [
        request(3, 12, 5, true, &[0, 1, 0, 0]),
        request(10, 0, 6, false, b"\x00\x05group"),
        request(API_VERSIONS, 3, 7, true, &software),
    ];
    for frame in whole {
        assert!(matches!(send(address, &frame), Outcome::Answered(_)), "the whole frame is answered: {frame:?}");
        for length in 0..frame.len() {
            // 1. The client goes away in the middle of a frame.
            let mut stream = connect(address).unwrap();
            stream.write_all(&frame[..length]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.is_empty(), "{length} bytes of {frame:?}");
            // 2. The frame says that it is complete, and is not. (An answer is fine where the rest is optional.)
            if length >= 4 {
                let mut short = frame[..length].to_vec();
                short[..4].copy_from_slice(&(length as i32 - 4).to_be_bytes());
                assert_ne!(send(address, &short), Outcome::Silent, "{short:?}");
            }
        }
    }
    witness.judge();
}

/// A body that is a lie: some zeros, then a count or a length of 2^31 - 1 (or -2, or the like) with nothing behind it.
fn lies() -> Vec<Vec<u8>> {
    let claims: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x7f, 0xff],
    ];
    let mut lies = vec![Vec::new()];
    for zeros in 0..=20 {
        lies.extend(claims.map(|claim| [&vec![0; zeros], claim].concat()));
    }
    lies
}

#[test]
fn lying_counts_and_lengths_in_every_api_and_version() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let before = resident_mib(&broker);
    let addresses = broker.addresses();
    let offered = wire::api_versions(addresses[0]).unwrap();
    let lies = lies();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for Offered { api_key, min, max } in offered {
        for version in min..=max {
            for (number, lie) in lies.iter().enumerate() {
                // Both header forms: one of them is wrong for the version, which is one lie more.
                let frame = request(api_key, version, 1, number % 2 == 0, lie);
                // A second, honest request tells a Produce without acknowledgement, which has no answer, from a
                // broker that hangs.
                let both = [frame, request(API_VERSIONS, 0, 2, false, &[])].concat();
                let address = addresses[number % addresses.len()];
                let kind = match send(address, &both) {
                    Outcome::Closed => "closed",
                    Outcome::Answered(_) => "answered",
                    Outcome::Silent => panic!("API {api_key} v{version}: no answer to {lie:02x?}"),
                };
                *counts.entry(kind).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    // 8 bytes in all, as the smallest liar: the size, an API key, a version; there is not even a correlation id.
    for address in &addresses {
        assert_eq!(send(*address, &[0, 0, 0, 4, 0, 3, 0, 1]), Outcome::Closed);
    }
    check_growth(&broker, before, 200, "lying counts");
    witness.judge();
}

#[test]
fn impossible_frame_sizes() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    for address in broker.addresses() {
        for size in [-1, i32::MIN, i32::MAX, 104_857_601] {
            assert_eq!(send(address, &i32::to_be_bytes(size)), Outcome::Closed, "a frame of {size} bytes");
        }
        for size in 0..8 {
            let frame = [&i32::to_be_bytes(size)[..], &vec![0; size as usize]].concat();
            assert_eq!(send(address, &frame), Outcome::Closed, "a frame of {size} bytes");
        }
    }
    witness.judge();
}

#[test]
fn a_smaller_frame_limit_is_kept() {
    let broker = Broker::with(Options::default().set("socket.request.max.bytes=100000"));
    let address = broker.addresses()[0];
    assert_eq!(send(address, &100_001i32.to_be_bytes()), Outcome::Closed);
    // Under the limit: the broker waits for the rest.
    let mut stream = connect(address).unwrap();
    stream.write_all(&100_000i32.to_be_bytes()).unwrap();
    assert_eq!(outcome(&mut stream, Duration::from_millis(300)), Outcome::Silent);
}

#[test]
fn unknown_apis_and_versions() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    for address in broker.addresses() {
        let offered = wire::api_versions(address).unwrap();
        for key in [-1, i16::MIN, i16::MAX, 1000, 4, 5, 6, 7] {
            if offered.iter().any(|api| api.api_key == key) {
                continue;
            }
            for version in [0, 1, -1] {
                assert_eq!(send(address, &request(key, version, 3, false, &[0; 8])), Outcome::Closed, "API {key}");
            }
        }
        for api in offered.iter().filter(|api| api.api_key != API_VERSIONS) {
            // Produce is offered from version 0 for the sake of old librdkafka, but served from 3.
            for version in [-1, api.max + 1, i16::MIN, i16::MAX] {
                let answer = send(address, &request(api.api_key, version, 3, true, &[0; 8]));
                assert_eq!(answer, Outcome::Closed, "API {} v{version}", api.api_key);
            }
        }
        // An ApiVersions that is too new is answered in version 0, so that the client can choose again (KIP-511).
        let own = offered.iter().find(|api| api.api_key == API_VERSIONS).unwrap();
        for version in [own.max + 1, 99, i16::MAX, -1] {
            let Outcome::Answered(answer) = send(address, &request(API_VERSIONS, version, 3, true, &[0; 8])) else {
                panic!("ApiVersions v{version} has no answer");
            };
            assert_eq!(answer[..4], 3i32.to_be_bytes());
            let (error, listed) = wire::parse_api_versions(&answer[4..]);
            assert_eq!((error, listed), (35, vec![*own]), "ApiVersions v{version}");
            assert_eq!(answer.len(), 4 + 2 + 4 + 6, "nothing behind version 0's fields");
        }
    }
    witness.judge();
}

#[test]
fn after_a_bad_request_the_same_connection_is_closed_but_earlier_answers_come() {
    let broker = Broker::start();
    for address in broker.addresses() {
        let mut stream = connect(address).unwrap();
        let good = request(API_VERSIONS, 0, 41, false, &[]);
        stream.write_all(&good).unwrap();
        let answer = wire::read_answer(&mut stream).unwrap();
        assert_eq!(answer[..4], 41i32.to_be_bytes());
        stream.write_all(&request(1000, 0, 42, false, &[])).unwrap();
        // Whatever follows is not looked at.
        let _ = stream.write_all(&good);
        assert_eq!(outcome(&mut stream, PATIENCE), Outcome::Closed);
    }
}

#[test]
fn half_open_connections_end() {
    let broker = Broker::with(Options::default().set("connections.max.idle.ms=1000"));
    let address = broker.addresses()[0];
    // 1. The client has ended its direction and waits: the broker ends the other.
    let mut stream = connect(address).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    ends(&mut stream, "after the client's end of stream");
    // 2. The client is gone without a word, in the middle of a frame: after connections.max.idle.ms the broker ends it.
    let mut stream = connect(address).unwrap();
    stream.write_all(&request(API_VERSIONS, 0, 1, false, &[])[..6]).unwrap();
    ends(&mut stream, "in the middle of a frame");
    // 3. The same after a request.
    let mut stream = connect(address).unwrap();
    stream.write_all(&request(API_VERSIONS, 0, 1, false, &[])).unwrap();
    ends(&mut stream, "after a request");
}

/// As many open files as the system allows this process.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit, read and written by these calls alone.
    let allowed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_cur
    };
    assert!(allowed >= 6000, "this test needs 6000 open files, {allowed} are allowed");
}

fn open_files(broker: &Broker) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{}/fd", broker.process()?)).unwrap().count())
}

#[test]
fn five_thousand_idle_connections() {
    allow_many_files();
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let (before, files_before) = (resident_mib(&broker), open_files(&broker));
    let addresses = broker.addresses();
    let mut idle: Vec<TcpStream> = Vec::new();
    for number in 0..5000 {
        let mut stream = connect(addresses[number % addresses.len()]).unwrap();
        // A fifth has said something once, a fifth is in the middle of a frame, the rest never spoke.
        let hello = request(API_VERSIONS, 0, 1, false, &[]);
        match number % 5 {
            0 => {
                stream.write_all(&hello).unwrap();
                wire::read_answer(&mut stream).unwrap();
            }
            1 => stream.write_all(&hello[..9]).unwrap(),
            _ => {}
        }
        idle.push(stream);
    }
    for address in &addresses {
        wire::api_versions(*address).expect("one more client is served");
    }
    // Each has its socket, its tasks and small buffers: 20 KiB are plenty.
    check_growth(&broker, before, 100, "5000 idle connections");
    // All are still there.
    for stream in idle.iter_mut().step_by(100) {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    drop(idle);
    wait::until("the broker's sockets are closed", PATIENCE, || {
        (open_files(&broker)? <= files_before? + 50).then_some(()).or((!broker.is_corelog()).then_some(()))
    });
    witness.judge();
}

/// The body of a Fetch v4 of one partition from its start, answered at once.
fn fetch_body(topic: &str, partition: i32, max_bytes: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // replica id
    body.extend(0i32.to_be_bytes()); // max wait
    body.extend(0i32.to_be_bytes()); // min bytes
    body.extend(max_bytes.to_be_bytes());
    body.push(0); // isolation level
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(0i64.to_be_bytes()); // fetch offset
    body.extend(max_bytes.to_be_bytes());
    body
}

/// Sends `frame` again and again until the broker takes no more, or `most` times. Gives how many went out.
fn push_until_stuck(stream: &mut TcpStream, frame: &[u8], most: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    (0..most).take_while(|_| stream.write_all(frame).is_ok()).count()
}

#[test]
fn clients_that_never_read_their_answers() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    // 64 MiB in one partition.
    let topic = unique("large");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let producer: BaseProducer = records::config(&broker.bootstrap()).create().unwrap();
    let value = vec![b'v'; 512 << 10];
    for _ in 0..128 {
        producer.send(BaseRecord::<(), [u8]>::to(&topic).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let before = resident_mib(&broker);
    // The partition lives on one core; the others answer with an error, which is an answer to leave unread too.
    let fetch = request(1, 4, 9, false, &fetch_body(&topic, 0, 50 << 20));
    let metadata = request(3, 1, 9, false, &(-1i32).to_be_bytes());
    let mut deaf = Vec::new();
    for number in 0..60 {
        for address in broker.addresses() {
            let mut stream = connect(address).unwrap();
            let (frame, most) = if number % 2 == 0 { (&fetch, 100) } else { (&metadata, 20_000) };
            if number < 6 {
                push_until_stuck(&mut stream, frame, most);
            } else {
                // Many at once; waiting for each to be stuck would take long.
                stream.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
                for _ in 0..20 {
                    if stream.write_all(frame).is_err() {
                        break;
                    }
                }
            }
            deaf.push(stream);
        }
    }
    check_growth(&broker, before, 400, "120 clients that do not read");
    for address in broker.addresses() {
        wire::api_versions(address).expect("one more client is served");
    }
    // A consumer reads the same partition meanwhile.
    let mut count = 0;
    records::read_topic(&broker.bootstrap(), &topic, |_| count += 1);
    assert_eq!(count, 128);
    // One of them reads at last: its first answer is whole.
    let mut stream = deaf.swap_remove(1);
    wire::read_answer(&mut stream).expect("an answer that waited");
    drop(deaf);
    witness.judge();
}

#[test]
fn large_frames_that_never_come_to_their_end() {
    let broker = Broker::start();
    if !broker.is_corelog() {
        // Apache Kafka, with its default settings, dies of this: OutOfMemoryError.
        return;
    }
    let witness = Witness::start(&broker);
    let before = resident_mib(&broker);
    let mut open = Vec::new();
    for number in 0..200 {
        let addresses = broker.addresses();
        let mut stream = connect(addresses[number % addresses.len()]).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        // 100 MiB are announced, 20 GiB by all together.
        let mut start = 104_857_600i32.to_be_bytes().to_vec();
        start.extend(&request(0, 7, 1, false, &vec![0; 100_000])[4..]);
        // A broker that has no memory left for this may stop to read.
        let _ = stream.write_all(&start);
        open.push(stream);
    }
    check_growth(&broker, before, 300, "200 announced frames of 100 MiB");
    for address in broker.addresses() {
        wire::api_versions(address).expect("one more client is served");
    }
    drop(open);
    witness.judge();
}

/// A record batch of version 2 around `records`, which are compressed already; the CRC is right.
fn batch(codec: u8, count: i32, records: &[u8]) -> Vec<u8> {
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes()); // base offset
    batch.extend((records.len() as i32 + 49).to_be_bytes()); // what follows
    batch.extend((-1i32).to_be_bytes()); // leader epoch
    batch.push(2); // magic
    batch.extend([0; 4]); // CRC
    batch.extend([0, codec]); // attributes
    batch.extend((count.max(1) - 1).to_be_bytes()); // last offset delta
    batch.extend(1_700_000_000_000i64.to_be_bytes());
    batch.extend(1_700_000_000_000i64.to_be_bytes());
    batch.extend((-1i64).to_be_bytes()); // producer id
    batch.extend((-1i16).to_be_bytes()); // producer epoch
    batch.extend((-1i32).to_be_bytes()); // base sequence
    batch.extend(count.to_be_bytes());
    batch.extend(records);
    seal(&mut batch);
    batch
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A zigzag varint.
fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// One record without key and headers; its value may be announced longer than it is.
fn record(offset_delta: i64, value: &[u8], announced: i64) -> Vec<u8> {
    let body = [&[0, 0][..], &varint(offset_delta), &varint(-1), &varint(announced), value, &varint(0)].concat();
    [varint(body.len() as i64), body].concat()
}

/// The error code of a Produce of `records` to a partition, or `None` when the connection was closed instead.
fn produce(address: SocketAddr, topic: &str, records: &[u8]) -> Option<i16> {
    produce_in(address, None, topic, records)
}

/// As [`produce`], with a transactional id.
fn produce_in(address: SocketAddr, transactional_id: Option<&str>, topic: &str, records: &[u8]) -> Option<i16> {
    let mut body = Vec::new();
    body.extend(transactional_id.map_or(-1, |id| id.len() as i16).to_be_bytes());
    body.extend(transactional_id.unwrap_or_default().as_bytes());
    body.extend((-1i16).to_be_bytes()); // acks
    body.extend(10_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes()); // partition
    body.extend((records.len() as i32).to_be_bytes());
    body.extend(records);
    match send(address, &request(0, 7, 1, false, &body)) {
        Outcome::Answered(answer) => {
            // Correlation id, count, topic, count, partition.
            let at = 4 + 4 + 2 + topic.len() + 4 + 4;
            Some(i16::from_be_bytes(answer[at..at + 2].try_into().unwrap()))
        }
        Outcome::Closed => None,
        Outcome::Silent => panic!("no answer to a Produce"),
    }
}

/// The core that leads partition 0: the one that does not say otherwise.
fn leader(broker: &Broker, topic: &str) -> SocketAddr {
    let good = batch(0, 1, &record(0, b"first", 5));
    let leads = |address: &SocketAddr| produce(*address, topic, &good) == Some(0);
    broker.addresses().into_iter().find(leads).expect("one core takes a good batch")
}

#[test]
fn lying_batches() {
    const CORRUPT_MESSAGE: i16 = 2;
    const INVALID_RECORD: i16 = 87;
    const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let topic = unique("liars");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let address = leader(&broker, &topic);
    let one = record(0, b"value", 5);
    let good = batch(0, 1, &one);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = good.clone();
        change(&mut changed);
        seal(&mut changed);
        changed
    };
    let mut wrong_crc = good.clone();
    wrong_crc[17] ^= 1;
    // A producer's first batch.
    let in_transaction = with(&|batch| {
        batch[22] |= 0x10;
        batch[43..57].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    });
    let cases: [(&str, Vec<u8>, i16); 13] = [
        ("wrong CRC", wrong_crc, CORRUPT_MESSAGE),
        ("no batch", Vec::new(), INVALID_RECORD),
        ("two batches", [good.clone(), good.clone()].concat(), INVALID_RECORD),
        ("2^31 - 1 records announced", batch(0, i32::MAX, &one), INVALID_RECORD),
        ("-1 records announced", batch(0, -1, &one), INVALID_RECORD),
        ("no records", batch(0, 0, &[]), INVALID_RECORD),
        ("two announced, one there", batch(0, 2, &one), INVALID_RECORD),
        ("one announced, two there", batch(0, 1, &[one.clone(), record(1, b"x", 1)].concat()), INVALID_RECORD),
        ("a value of 2^31 - 1 bytes", batch(0, 1, &record(0, b"value", i64::from(i32::MAX))), INVALID_RECORD),
        ("a value of -2 bytes", batch(0, 1, &record(0, b"value", -2)), INVALID_RECORD),
        ("a control batch", with(&|batch| batch[22] |= 0x20), INVALID_RECORD),
        ("a base offset of its own", with(&|batch| batch[7] = 9), INVALID_RECORD),
        ("a transaction of nobody", in_transaction.clone(), TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ];
    let mut failures = Vec::new();
    for (what, records, expected) in cases {
        let error = produce(address, &topic, &records);
        if error != Some(expected) {
            failures.push(format!("{what}: {error:?}, not {expected}"));
        }
    }
    // Refused with any error: Apache Kafka's own depends on where its decoder throws.
    let mut refused = vec![
        ("an unknown codec".to_string(), with(&|batch| batch[22] |= 7)),
        ("noise for gzip".to_string(), batch(1, 1, b"this is no gzip")),
    ];
    // The batch's own length, which the frame contradicts.
    for length in [i32::MAX, i32::MIN, -1, 0, 13, 48, good.len() as i32 - 11, good.len() as i32 - 13] {
        let records = with(&|batch| batch[8..12].copy_from_slice(&length.to_be_bytes()));
        refused.push((format!("a batch length of {length}"), records));
    }
    for magic in [0, 1, 3, 0xff] {
        refused.push((format!("magic {magic}"), with(&|batch| batch[16] = magic)));
    }
    for (what, records) in refused {
        let error = produce(address, &topic, &records);
        println!("{what}: {error:?}");
        if error == Some(0) {
            failures.push(format!("{what} is accepted"));
        }
    }
    // Nobody began it. (Apache Kafka asks its transaction coordinator, which may be starting.)
    match produce_in(address, Some("nobody's"), &topic, &in_transaction) {
        Some(0) => failures.push("a transaction that was not begun is accepted".to_string()),
        error => println!("a transaction that was not begun: {error:?}"),
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The reader sees committed records only, and none behind a transaction that is open.
    assert_eq!(produce(address, &topic, &good), Some(0));
    let mut count = 0;
    records::read_topic(&broker.bootstrap(), &topic, |_| count += 1);
    assert_eq!(count, 2, "only the good records are there");
    witness.judge();
}

#[test]
fn texts_longer_than_a_string() {
    const FIND_COORDINATOR: i16 = 10;
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    // Version 4: key type, keys with varint lengths.
    let asking = |len: u32| {
        let varint = [(len + 1) as u8 | 0x80, ((len + 1) >> 7) as u8 | 0x80, ((len + 1) >> 14) as u8];
        let body = [&[0, 2][..], &varint, &vec![b'k'; len as usize], &[0]].concat();
        request(FIND_COORDINATOR, 4, 1, true, &body)
    };
    for address in broker.addresses() {
        assert!(matches!(send(address, &asking(32767)), Outcome::Answered(_)));
        assert_eq!(send(address, &asking(32768)), Outcome::Closed);
    }
    witness.judge();
}

#[test]
fn batches_that_grow_when_they_are_unpacked() {
    let broker = Broker::start();
    let witness = Witness::start(&broker);
    let topic = unique("bombs");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let address = leader(&broker, &topic);
    // One record of 600 MiB of zeros; 600 KiB as gzip, 60 KiB as zstd.
    let plain = {
        let size = 600i64 << 20;
        let head = [&[0, 0][..], &varint(0), &varint(-1), &varint(size)].concat();
        let total = head.len() as i64 + size + 1;
        [varint(total), head]
    };
    let compress = |writer: &mut dyn Write| {
        let zeros = vec![0; 1 << 20];
        plain.iter().for_each(|part| writer.write_all(part).unwrap());
        (0..600).for_each(|_| writer.write_all(&zeros).unwrap());
        writer.write_all(&[0]).unwrap();
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    compress(&mut gzip);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    compress(&mut zstd);
    let before = resident_mib(&broker);
    for (codec, bytes) in [(1, gzip.finish().unwrap()), (4, zstd.finish().unwrap())] {
        let begin = Instant::now();
        let error = produce(address, &topic, &batch(codec, 1, &bytes));
        println!("codec {codec}, {} bytes: {error:?} after {:?}", bytes.len(), begin.elapsed());
        assert!(begin.elapsed() < PATIENCE);
    }
    check_growth(&broker, before, 300, "two bombs");
    witness.judge();
}
