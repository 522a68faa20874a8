//! A drive that stands still. Producers are held back, not buffered without end; and a process that is killed meanwhile
//! leaves writes behind that outlive it.
//!
//! Of the second: a direct write that io_uring has begun is not undone by kill -9: it lands when the
//! drive gets to it, which may be after the next process has recovered the file. What holds it off is the lock that an
//! open file has while a request on it is under way (`docs/recovery.md`).
//!
//! Who needs nothing of that drive is served meanwhile: fetches of what is in memory, partitions on other drives, other
//! cores.
//!
//! The drive is held up by a control group of which the kernel lets no write through (`blkio.throttle`, or `io.max`), or is
//! one of ours (`harness/drive.rs`). That takes root and a block device below `target/`; without them these tests say so and
//! pass.

mod harness;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use corelog::record::{Codec, Scratch, iterate};
use corelog::runtime::disk::{Buffer, Disk, Open};
use corelog::runtime::task::{self, OnPanic, Queue};
use corelog::runtime::{self, clock};
use harness::broker::{Broker, Kind, Options, allowed_cpus, connect};
use harness::client::{Client, batch, creating, name, now_ms, topic};
use harness::drive::{Drive, SmallFileSystem, in_own_namespace};
use harness::wait::{self, PATIENCE, seconds};
use harness::{folder, records, unique, wire};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{DeleteTopicsRequest, DescribeLogDirsRequest, FetchRequest};
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const CHILD: &str = "CORELOG_WRITE_BARRIER_FILE";
const BLOCK: usize = 4096;
const NONE: i16 = 0;
const UNKNOWN_TOPIC: i16 = 3;

/// A control group whose writes to one device can be held up.
struct Throttle {
    group: PathBuf,
    file: &'static str,
    hold: String,
    release: String,
}

impl Throttle {
    /// Of the device that holds `dir`. The error says what is missing.
    fn new(dir: &Path) -> Result<Throttle, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let device = device_of(dir)?;
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
        let mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
        let of_kind = |kind: &str, option: &str| {
            let found =
                mounts.iter().find(|m| m[2] == kind && (option.is_empty() || m[3].split(',').any(|o| o == option)));
            found.map(|mount| PathBuf::from(mount[1]))
        };
        let name = format!("corelog-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (group, file, hold, release) = if let Some(root) = of_kind("cgroup", "blkio") {
            (root.join(name), "blkio.throttle.write_bps_device", format!("{device} 1"), format!("{device} 0"))
        } else {
            let root = of_kind("cgroup2", "").ok_or("no control groups")?;
            fs::write(root.join("cgroup.subtree_control"), "+io").map_err(|e| format!("control group io: {e}"))?;
            (root.join(name), "io.max", format!("{device} wbps=1"), format!("{device} wbps=max"))
        };
        fs::create_dir(&group).map_err(|e| format!("create {}: {e}", group.display()))?;
        let throttle = Throttle { group, file, hold, release };
        let set = fs::write(throttle.group.join(file), &throttle.release);
        set.map_err(|e| format!("set {file} of {device}: {e}"))?;
        Ok(throttle)
    }

    fn add(&self, process: u32) {
        fs::write(self.group.join("cgroup.procs"), process.to_string()).unwrap();
    }

    fn hold(&self) {
        fs::write(self.group.join(self.file), &self.hold).unwrap();
    }

    fn release(&self) {
        fs::write(self.group.join(self.file), &self.release).unwrap();
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // Whatever the test came to: no process may be left waiting for its writes.
        let _ = fs::write(self.group.join(self.file), &self.release);
        // A broker may outlive the group, which goes only when it is empty.
        let processes = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write(self.group.join("../cgroup.procs"), process);
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// `major:minor` of the whole device that holds `dir`.
fn device_of(dir: &Path) -> Result<String, String> {
    let number = fs::metadata(dir).map_err(|e| e.to_string())?.dev();
    let name = format!("{}:{}", libc::major(number), libc::minor(number));
    let device = fs::canonicalize(format!("/sys/dev/block/{name}"))
        .map_err(|_| format!("{} is on no block device", dir.display()))?;
    if !device.join("partition").exists() {
        return Ok(name);
    }
    let whole = fs::read_to_string(device.join("../dev")).map_err(|e| e.to_string())?;
    Ok(whole.trim().to_string())
}

/// A throttle, or `None` with a line that says why the test is not done.
fn throttle(dir: &Path, test: &str) -> Option<Throttle> {
    Throttle::new(dir).map_err(|why| println!("{test} skipped: {why}")).ok()
}

fn is_locked(path: &Path) -> bool {
    matches!(File::open(path).unwrap().try_lock(), Err(TryLockError::WouldBlock))
}

fn block(byte: u8) -> Rc<Buffer> {
    let mut buffer = Buffer::with_capacity(BLOCK);
    buffer.push(&[byte; BLOCK]);
    Rc::new(buffer)
}

/// What the killed process does: writes, says so, and writes again when it is told to.
fn child(path: PathBuf) {
    runtime::run_one(async move {
        let file = Disk::direct().open(&path, Open::CREATE_NEW).await.unwrap();
        file.write(block(b'1'), 0).await.unwrap();
        file.flush().await.unwrap();
        println!("\nwritten");
        std::io::stdin().read_exact(&mut [0]).unwrap();
        task::spawn(Queue::Log, "write", OnPanic::StopProcess, async move {
            file.write(block(b'2'), 0).await.unwrap();
            println!("\nnot held up");
        });
        // A core hands its requests to the kernel before it sleeps.
        clock::sleep(Duration::from_millis(50)).await;
        println!("\nunder way");
        clock::sleep(seconds(600)).await;
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_write_of_a_killed_process_lands_late_and_is_waited_for() {
    const NAME: &str = "a_write_of_a_killed_process_lands_late_and_is_waited_for";
    if let Some(path) = std::env::var_os(CHILD) {
        return child(path.into());
    }
    let folder = folder();
    let Some(throttle) = throttle(folder.path(), NAME) else { return };
    let path = folder.path().join("file");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture", "--test-threads=1"]).env(CHILD, &path);
    let mut child = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut lines =
        lines.map(|line| line.unwrap()).filter(|line| ["written", "under way", "not held up"].contains(&&**line));
    assert_eq!(lines.next().as_deref(), Some("written"));
    throttle.add(child.0.id());
    throttle.hold();
    child.0.stdin.take().unwrap().write_all(b"!").unwrap();
    if lines.next().as_deref() != Some("under way") {
        println!("{NAME} skipped: this device is not held up by a control group");
        return;
    }
    drop(child);

    // The process is gone, its write is not, and so neither is the lock.
    assert!(is_locked(&path));
    // Whoever does not look at the lock finds the file as it was, and goes on with it ...
    let rude = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut found = [0; BLOCK];
    rude.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [b'1'; BLOCK]);
    rude.write_all_at(&[b'3'; BLOCK], 0).unwrap();
    rude.sync_all().unwrap();
    // ... while opening to write waits.
    let (opened, open) = mpsc::channel();
    let opening = {
        let path = path.clone();
        std::thread::spawn(move || {
            runtime::run_one(async move {
                let file = Disk::direct().open(&path, Open::EXISTING).await.unwrap();
                opened.send(()).unwrap();
                let found = file.read(0, BLOCK).await.unwrap().to_vec();
                file.close().await.unwrap();
                found
            })
        })
    };
    let early = open.recv_timeout(Duration::from_millis(300));
    assert_eq!(early, Err(RecvTimeoutError::Timeout), "opened while a write is under way");
    assert!(is_locked(&path));
    throttle.release();
    let found = opening.join().unwrap();
    assert!(found == [b'2'; BLOCK], "the late write has landed over what was written meanwhile: {:?}", &found[..8]);
    assert!(!is_locked(&path));
}

/// A batch of one record.
fn one(value: &[u8]) -> Vec<u8> {
    batch(Codec::None, now_ms(), &[value])
}

/// A Produce (version 7) of one record with acks=0.
fn produce_request(topic: &str, partition: i32, value: &[u8]) -> Vec<u8> {
    wire::produce(1, topic, &[partition], 0, &one(value))
}

/// Asks for something behind requests that have no answer: its answer says that all before have their place.
fn wait_until_ordered(stream: &mut TcpStream) {
    stream.write_all(&wire::request(wire::API_VERSIONS, 0, 2, false, &[])).unwrap();
    wire::read_answer(stream).expect("the batches before were taken");
}

/// Lets a drive go on when a test has come to its end, or to a panic that others would wait behind.
struct Release<'a>(&'a Throttle);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn resident_mib(broker: &Broker) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.process().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn producers_that_wait_for_nothing_are_held_back_and_memory_stays_bounded() {
    const NAME: &str = "producers_that_wait_for_nothing_are_held_back_and_memory_stays_bounded";
    const PARTITIONS: usize = 100;
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 80;
    const VALUE_BYTES: usize = 512 << 10;
    /// What may wait to be written; what tails may hold for readers is as much, of the same bytes.
    const BOUND: usize = 128 << 20;
    let broker = Broker::with(Options { cores: allowed_cpus().into_iter().take(1).collect(), ..Options::default() });
    if !broker.is_corelog() {
        return;
    }
    let Some(throttle) = throttle(&broker.data_dir(), NAME) else { return };
    let topic = unique("flood");
    records::create_topic(&broker.bootstrap(), &topic, PARTITIONS as i32);
    let address = broker.addresses()[0];
    // Each log has its file before the drive stands still.
    let mut stream = connect(address).unwrap();
    for partition in 0..PARTITIONS {
        stream.write_all(&produce_request(&topic, partition as i32, b"first")).unwrap();
    }
    wait_until_ordered(&mut stream);
    wait_for_records(&broker, &topic, PARTITIONS);
    let before = resident_mib(&broker);
    throttle.add(broker.process().unwrap());
    throttle.hold();
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let _release = Release(&throttle);
        for number in 0..CONNECTIONS {
            let (topic, sent) = (&topic, &sent);
            scope.spawn(move || {
                let mut stream = connect(address).unwrap();
                stream.set_write_timeout(None).unwrap();
                stream.set_read_timeout(None).unwrap();
                let value = vec![b'v'; VALUE_BYTES];
                for request in 0..REQUESTS {
                    let partition = (number * REQUESTS + request) % PARTITIONS;
                    stream.write_all(&produce_request(topic, partition as i32, &value)).unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                wait_until_ordered(&mut stream);
            });
        }
        // Until they stand still. Taken for still too early, the test sees less than it could.
        let mut seen = 0;
        wait::until("producers that get no further", seconds(60), || {
            let now = sent.load(Ordering::Relaxed);
            let still = now > 0 && now == std::mem::replace(&mut seen, now);
            std::thread::sleep(Duration::from_secs(1));
            still.then_some(())
        });
        let (held, grown) = (sent.load(Ordering::Relaxed) * VALUE_BYTES, resident_mib(&broker) - before);
        println!(
            "{} MiB taken of {} MiB, {grown} MiB more memory",
            held >> 20,
            (CONNECTIONS * REQUESTS * VALUE_BYTES) >> 20
        );
        // Beyond the bound, each connection has a request under way and more in the sockets' buffers.
        assert!(held <= BOUND + CONNECTIONS * (16 << 20), "{held} bytes were taken");
        assert!(grown <= (BOUND >> 20) + 150, "{grown} MiB more");
        // Who asks for nothing that needs the drive is served.
        wire::api_versions(address).unwrap();
    });
    // The drive goes on, and so do they; each batch is there.
    wait_for_records(&broker, &topic, PARTITIONS + CONNECTIONS * REQUESTS);
}

/// Bytes that the kernel has of a connection and the broker has not taken.
fn unread(stream: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int.
    assert_eq!(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) }, 0);
    bytes as usize
}

#[test]
fn producers_that_wait_for_answers_see_latency_and_no_error_and_memory_stays_bounded() {
    const NAME: &str = "producers_that_wait_for_answers_see_latency_and_no_error_and_memory_stays_bounded";
    const PARTITIONS: usize = 20;
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 40;
    const VALUE_BYTES: usize = 512 << 10;
    const REQUEST_MEMORY: usize = 32 << 20;
    /// Small requests have a quarter more. What is admitted is there twice: as a request until it is answered, and in its log.
    const ADMITTED: usize = REQUEST_MEMORY + REQUEST_MEMORY / 4;
    /// What the kernel has taken for the broker, and a request that waits for memory.
    const IN_SOCKETS: usize = CONNECTIONS * (2 * RECEIVE_BUFFER + VALUE_BYTES);
    const RECEIVE_BUFFER: usize = 128 << 10;
    let one_core = Options { cores: allowed_cpus().into_iter().take(1).collect(), ..Options::default() };
    let broker = Broker::with(
        one_core
            .set(&format!("request.memory.bytes.per.core={REQUEST_MEMORY}"))
            .set(&format!("socket.request.max.bytes={}", 8 << 20))
            .set(&format!("socket.receive.buffer.bytes={RECEIVE_BUFFER}")),
    );
    if !broker.is_corelog() {
        return;
    }
    let Some(throttle) = throttle(&broker.data_dir(), NAME) else { return };
    let topic = unique("patient");
    records::create_topic(&broker.bootstrap(), &topic, PARTITIONS as i32);
    let address = broker.addresses()[0];
    let first = wire::produce(1, &topic, &(0..PARTITIONS as i32).collect::<Vec<_>>(), -1, &one(b"first"));
    let mut stream = connect(address).unwrap();
    stream.write_all(&first).unwrap();
    wire::read_answer(&mut stream).unwrap();
    // What producers with defaults see of it: that some of their records take longer.
    let failures = AtomicUsize::new(0);
    let before = resident_mib(&broker);
    throttle.add(broker.process().unwrap());
    throttle.hold();
    let sent = AtomicUsize::new(0);
    let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(address).unwrap()).collect();
    std::thread::scope(|scope| {
        let _release = Release(&throttle);
        for (number, stream) in streams.iter().enumerate() {
            stream.set_write_timeout(None).unwrap();
            stream.set_read_timeout(None).unwrap();
            let acks = if number % 2 == 0 { -1 } else { 1 };
            let (topic, sent, failures) = (&topic, &sent, &failures);
            scope.spawn(move || {
                let batch = one(&vec![b'v'; VALUE_BYTES]);
                for request in 0..REQUESTS {
                    let partition = ((number * REQUESTS + request) % PARTITIONS) as i32;
                    let request = wire::produce(request as i32, topic, &[partition], acks, &batch);
                    (&*stream).write_all(&request).unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut answers = stream.try_clone().unwrap();
            scope.spawn(move || {
                for request in 0..REQUESTS as i32 {
                    let answer = wire::read_answer(&mut answers).unwrap();
                    assert_eq!(answer[..4], request.to_be_bytes(), "in order");
                    // Of the one partition, behind the topic's name and the counts.
                    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
                    let code = i16::from_be_bytes(answer[at..at + 2].try_into().unwrap());
                    failures.fetch_add(usize::from(code != NONE), Ordering::Relaxed);
                }
            });
        }
        let (topic, failures, bootstrap) = (&topic, &failures, broker.bootstrap());
        scope.spawn(move || {
            let producer: BaseProducer = records::config(&bootstrap).set("acks", "all").create().unwrap();
            for number in 0..100 {
                let value = format!("{number}");
                producer
                    .send(BaseRecord::<(), str>::to(topic).partition(0).payload(&value))
                    .map_err(|(e, _)| e)
                    .unwrap();
            }
            producer.flush(seconds(300)).unwrap();
            failures.fetch_add(producer.in_flight_count() as usize, Ordering::Relaxed);
        });
        // Until they stand still, each with bytes that nobody takes.
        let mut seen = 0;
        wait::until("producers that get no further", seconds(60), || {
            let now = sent.load(Ordering::Relaxed);
            let still = now == std::mem::replace(&mut seen, now) && streams.iter().all(|stream| unread(stream) > 0);
            std::thread::sleep(Duration::from_secs(1));
            still.then_some(())
        });
        let left: usize = streams.iter().map(unread).sum();
        let taken = (sent.load(Ordering::Relaxed) * VALUE_BYTES).saturating_sub(left);
        let grown = resident_mib(&broker) - before;
        let all = CONNECTIONS * REQUESTS * VALUE_BYTES;
        println!("{} MiB taken of {} MiB, {grown} MiB more memory", taken >> 20, all >> 20);
        assert!(taken <= ADMITTED + IN_SOCKETS, "{taken} bytes were taken");
        // The third part: buffers of the logs are made for more than they hold yet, and the allocator keeps some.
        assert!(grown <= (3 * ADMITTED + IN_SOCKETS) >> 20, "{grown} MiB more");
        // Who asks for nothing that needs the drive is served.
        wire::api_versions(address).unwrap();
        throttle.release();
    });
    assert_eq!(failures.load(Ordering::Relaxed), 0, "errors");
    wait_for_records(&broker, &topic, PARTITIONS + CONNECTIONS * REQUESTS + 100);
}

/// Waits until consumers see so many records of a topic, and no more.
fn wait_for_records(broker: &Broker, topic: &str, count: usize) {
    let consumer: BaseConsumer = records::config(&broker.bootstrap()).create().unwrap();
    wait::until(&format!("{count} records"), seconds(60), || {
        let seen: i64 = records::bounds(&consumer, topic).iter().map(|(_, end)| end).sum();
        assert!(seen <= count as i64, "{seen} of {count} records");
        (seen == count as i64).then_some(())
    });
}

/// All values of the topic, in order.
fn values_of(broker: &Broker, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    records::read_topic(&broker.bootstrap(), topic, |message| {
        values.push(String::from_utf8_lossy(message.payload().unwrap()).into_owned());
    });
    values
}

#[test]
fn a_broker_that_was_killed_with_a_write_under_way_starts_when_it_has_landed() {
    a_late_write("a_broker_that_was_killed_with_a_write_under_way_starts_when_it_has_landed", false);
}

#[test]
fn a_broker_that_was_killed_with_a_write_of_its_journal_under_way_starts_when_it_has_landed() {
    a_late_write("a_broker_that_was_killed_with_a_write_of_its_journal_under_way_starts_when_it_has_landed", true);
}

fn a_late_write(name: &str, journal: bool) {
    let one_core = Options { cores: allowed_cpus().into_iter().take(1).collect(), ..Options::default() };
    let mut broker = Broker::with(one_core.journal(u32::from(journal) << 20));
    if !broker.is_corelog() {
        return;
    }
    let Some(throttle) = throttle(&broker.data_dir(), name) else { return };
    let topic = unique("late");
    records::create_topic(&broker.bootstrap(), &topic, 1);
    let written = match journal {
        true => "corelog-journal-0".to_string(),
        false => format!("{topic}-0/00000000000000000000.log"),
    };
    let written = broker.data_dir().join(written);
    let producer: BaseProducer = records::config(&broker.bootstrap()).set("acks", "all").create().unwrap();
    let mut values = Vec::new();
    loop {
        let value = format!("acknowledged {}", values.len());
        producer.send(BaseRecord::<(), str>::to(&topic).payload(&value)).map_err(|(error, _)| error).unwrap();
        producer.flush(seconds(60)).unwrap();
        values.push(value);
        throttle.add(broker.process().unwrap());
        throttle.hold();
        let value = format!("under way {}", values.len());
        let mut stream = connect(broker.addresses()[0]).unwrap();
        stream.write_all(&produce_request(&topic, 0, value.as_bytes())).unwrap();
        wait_until_ordered(&mut stream);
        // It has its place; the log's writer takes it with one of the core's next turns, and each answer takes one.
        // If it still had none, the lock says so below and all is tried again.
        for _ in 0..20 {
            wire::api_versions(broker.addresses()[0]).unwrap();
        }
        // Something else of the process may hang in a write as well, and keep it from ending.
        let (ended, end) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let throttle = &throttle;
            scope.spawn(move || {
                if end.recv_timeout(seconds(20)) == Err(RecvTimeoutError::Timeout) {
                    throttle.release();
                }
            });
            broker.kill();
            drop(ended);
        });
        // It may not be there yet, when the journal is not ready yet.
        if written.exists() && is_locked(&written) {
            values.push(value);
            break;
        }
        throttle.release();
        assert!(values.len() < 20, "no write was under way when the broker was killed");
        broker.launch();
        values = values_of(&broker, &topic);
    }
    let log = broker.log_file();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let waits = || fs::read_to_string(&log).unwrap().contains("is locked: waiting for a write").then_some(());
            let found = catch_unwind(|| wait::until("the broker to wait for the write", seconds(20), waits));
            throttle.release();
            found
        });
        broker.launch();
        waits.join().unwrap().unwrap();
    });
    // The write had landed before recovery looked at the log.
    assert_eq!(values_of(&broker, &topic), values);
}

/// A broker with a directory in memory, where its metadata lies, and one on a drive of ours. And topics of one partition
/// each.
struct TwoDrives {
    broker: Broker,
    drive: Drive,
    /// By core and whether they lie on our drive.
    topics: BTreeMap<(usize, bool), Vec<String>>,
    _memory: SmallFileSystem,
}

impl TwoDrives {
    /// With so many topics at least on each core and drive; `None` where none of this is corelog's.
    fn new(cores: usize, topics: usize, set: impl Fn(Options) -> Options) -> Option<TwoDrives> {
        if Kind::from_environment() != Kind::Corelog {
            return None;
        }
        // On ext4 the first write after the drive stopped may wait for it, with the core (docs/recovery.md).
        let file_system = std::env::var("CORELOG_TEST_FS").unwrap_or_else(|_| "xfs".to_string());
        if Command::new(format!("mkfs.{file_system}")).arg("-V").output().is_err() {
            println!("skipped: needs mkfs.{file_system}");
            return None;
        }
        // The machine's own drive may be held up by another test.
        let (memory, drive) = (SmallFileSystem::in_memory(256 << 20), Drive::new(&file_system));
        let dirs = [memory.mounted().join("data"), drive.mounted().join("data")];
        let cores: Vec<usize> = allowed_cpus().into_iter().take(cores).collect();
        let options = Options { data_in: Some(memory.mounted()), cores: cores.clone(), ..Options::default() }
            .set(&format!("log.dirs={},{}", dirs[0].display(), dirs[1].display()));
        let broker = Broker::with(set(options));
        let mut two = TwoDrives { broker, drive, topics: BTreeMap::new(), _memory: memory };
        let mut client = two.client(0);
        let groups: Vec<_> = (0..cores.len()).flat_map(|core| [(core, false), (core, true)]).collect();
        while groups.iter().any(|group| two.topics.get(group).is_none_or(|found| found.len() < topics)) {
            let topic = unique("topic");
            client.create_with(&topic, 1, &[]);
            // Node ids of cores follow one another.
            let core = client.metadata(12, &topic).partitions[0].leader_id.0 as usize;
            // Each core tells of its own.
            let described = two.client(core).ask(4, &DescribeLogDirsRequest::default().with_topics(None));
            let held = described.results.iter().find(|dir| dir.topics.iter().any(|held| *held.name == *topic));
            let ours = Path::new(held.unwrap().log_dir.as_str()) == dirs[1];
            two.topics.entry((core, ours)).or_default().push(topic);
        }
        Some(two)
    }

    /// Some topics of a core, on our drive or on the other.
    fn topics(&self, core: usize, ours: bool) -> &[String] {
        &self.topics[&(core, ours)]
    }

    fn client(&self, core: usize) -> Client {
        Client::to(self.broker.addresses()[core])
    }

    fn produce(&self, core: usize, topic: &str, values: &[&[u8]]) {
        let (code, _) = self.client(core).produce(topic, 0, batch(Codec::None, now_ms(), values));
        assert_eq!(code, NONE, "{topic}");
    }

    /// Runs `while_held` while no write, or no flush, of our drive completes. Before it, records are on their way to
    /// these topics with acks=all: small ones and large ones, which go different ways. They are acknowledged afterwards, and not
    /// before.
    fn hold(&self, writes: bool, core: usize, topics: &[String], while_held: impl FnOnce()) {
        match writes {
            true => self.drive.hold_writes(),
            false => self.drive.hold_flushes(),
        }
        let released = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _release = ReleaseDrive(&self.drive);
            let under_way: Vec<_> = topics
                .iter()
                .flat_map(|topic| [(topic, 100), (topic, 200_000)])
                .map(|(topic, bytes)| {
                    let released = &released;
                    let mut client = self.client(core);
                    scope.spawn(move || {
                        let value = vec![b'h'; bytes];
                        let (code, _) = client.produce(topic, 0, batch(Codec::None, now_ms(), &[&value]));
                        assert!(released.load(Ordering::SeqCst), "acknowledged while the drive hangs");
                        assert_eq!(code, NONE, "{topic}");
                    })
                })
                .collect();
            wait::until("writes that hang", PATIENCE, || (self.drive.held() > 0).then_some(()));
            while_held();
            released.store(true, Ordering::SeqCst);
            self.drive.release();
            under_way.into_iter().for_each(|one| one.join().unwrap());
        });
    }
}

impl Drop for TwoDrives {
    fn drop(&mut self) {
        // The broker goes first, and may wait for its writes.
        self.drive.release();
    }
}

struct ReleaseDrive<'a>(&'a Drive);

impl Drop for ReleaseDrive<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Asks for records of a topic's partition 0, and waits for so many bytes for so long.
fn fetch(client: &mut Client, topic: &str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> (i16, Vec<String>) {
    let wanted = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_max_bytes(10 << 20)
        .with_min_bytes(min_bytes)
        .with_max_wait_ms(max_wait_ms)
        .with_topics(vec![topic]);
    let got = client.ask_as_the_crate(12, &request).responses.remove(0).partitions.remove(0);
    let records = got.records.unwrap_or_default();
    let mut values = Vec::new();
    for batch in iterate(&records).map_while(Result::ok) {
        let mut scratch = Scratch::new();
        let mut walk = batch.records(&mut scratch).unwrap();
        while let Some(record) = walk.next().unwrap() {
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    (got.error_code, values)
}

#[test]
fn what_is_in_memory_is_fetched_while_the_drive_hangs() {
    if !in_own_namespace("what_is_in_memory_is_fetched_while_the_drive_hangs") {
        return;
    }
    // So little memory that who reads from the drive could hold all of it.
    let little_memory = |options: Options| {
        options
            .set("tail.memory.bytes.per.core=4194304")
            .set("read.memory.bytes.per.core=1048576")
            .set("fetch.max.bytes=1048576")
    };
    let Some(two) = TwoDrives::new(1, 3, little_memory) else { return };
    let (old, hung) = two.topics(0, true).split_first().unwrap();
    let (hung, other) = (&hung[..2], &two.topics(0, false)[0]);
    for _ in 0..24 {
        two.produce(0, old, &[&[b'o'; 300_000]]);
    }
    for topic in hung.iter().chain([other]) {
        two.produce(0, topic, &[b"one", &[b'2'; 100_000]]);
    }
    let mut client = two.client(0);
    for (round, writes) in [false, true].into_iter().enumerate() {
        let there: Vec<_> = hung.iter().map(|topic| fetch(&mut client, topic, 0, 1, 0)).collect();
        let next = 2 + 2 * round as i64;
        assert!(there.iter().all(|(code, values)| *code == NONE && values.len() as i64 == next));
        // One that waits for what comes next, and gets it when it is safe.
        std::thread::scope(|scope| {
            let mut waits = two.client(0);
            let waiting = scope.spawn(move || fetch(&mut waits, &hung[0], next, 1, 50_000));
            let lagging = Cell::new(Vec::new());
            two.hold(writes, 0, hung, || {
                // Reads of the drive stand back behind its writes, with the memory that they have taken.
                let lags: Vec<_> = (0..4)
                    .map(|_| {
                        let mut client = two.client(0);
                        scope.spawn(move || fetch(&mut client, old, 0, 1, 50_000).1.len())
                    })
                    .collect();
                for (topic, there) in hung.iter().zip(&there) {
                    for _ in 0..20 {
                        assert!(fetch(&mut client, topic, 0, 1, 50_000) == *there);
                    }
                    // More than there is: what is there comes when the time is up.
                    assert!(fetch(&mut client, topic, 0, 1 << 20, 100) == *there);
                    assert_eq!(fetch(&mut client, topic, next, 1, 100), (NONE, vec![]), "not safe yet");
                }
                // Of the same core, on the other drive: nothing hangs there.
                let end = 2 + round as i64;
                let mut waits = two.client(0);
                let waiting = scope.spawn(move || fetch(&mut waits, other, end, 1, 50_000));
                two.produce(0, other, &[b"more"]);
                assert_eq!(waiting.join().unwrap(), (NONE, vec!["more".to_string()]));
                lagging.replace(lags);
            });
            assert!(lagging.take().into_iter().all(|lags| lags.join().unwrap() > 0));
            let (code, came) = waiting.join().unwrap();
            assert!(code == NONE && !came.is_empty(), "{code}, {} records", came.len());
        });
    }
    let mut length = |topic| fetch(&mut client, topic, 0, 1, 0).1.len();
    assert!(hung.iter().all(|topic| length(topic) == 6));
}

#[test]
fn other_drives_and_cores_go_on_while_a_drive_hangs() {
    /// More than the kernel has workers for a core, on a machine of few.
    const HANGING: usize = 20;
    if !in_own_namespace("other_drives_and_cores_go_on_while_a_drive_hangs") {
        return;
    }
    // Small segments: files are made and sealed all the time, which takes more of a drive than writes.
    let small_segments = |options: Options| options.set("log.segment.bytes=1048576");
    let Some(two) = TwoDrives::new(2, HANGING + 3, small_segments) else { return };
    let large = vec![b'l'; 400_000];
    // Many that have their files, each with a flush of its own, and some that have none yet.
    let (known, unknown) = two.topics(0, true).split_at(HANGING);
    for topic in known {
        two.produce(0, topic, &[b"first"]);
    }
    for (round, writes) in [false, true].into_iter().enumerate() {
        let hung = [known, &unknown[round..round + 1]].concat();
        two.hold(writes, 0, &hung, || {
            for core in [1, 0] {
                for topic in [&two.topics(core, false)[0], &two.topics(core, false)[1 + round]] {
                    for number in 0..20 {
                        two.produce(core, topic, &[if number % 4 == 0 { &large } else { b"small" }]);
                    }
                }
            }
        });
    }
}

#[test]
fn a_topic_is_made_again_when_a_drive_has_let_go_of_the_old_one() {
    if !in_own_namespace("a_topic_is_made_again_when_a_drive_has_let_go_of_the_old_one") {
        return;
    }
    const TOPICS: usize = 6;
    let Some(two) = TwoDrives::new(2, TOPICS + 1, |options| options) else { return };
    let (again, busy) = two.topics(1, true).split_at(TOPICS);
    let old = vec![b'o'; 200_000];
    for topic in again {
        two.produce(1, topic, &[&old]);
        let dir = two.drive.mounted().join("data").join(format!("{topic}-0"));
        wait::until("its directory", PATIENCE, || dir.join("partition.metadata").exists().then_some(()));
    }
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        two.hold(false, 1, &busy[..1], || {
            let names: Vec<_> = again.iter().map(|topic| name(topic)).collect();
            let deleting = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
            let mut deletes = two.client(0);
            scope.spawn(move || {
                let answer = deletes.ask(5, &deleting);
                assert!(answer.responses.iter().all(|topic| topic.error_code == NONE), "{answer:?}");
            });
            let mut client = two.client(0);
            let mut are_gone = || again.iter().all(|topic| client.metadata(12, topic).error_code == UNKNOWN_TOPIC);
            wait::until("the topics to be gone", PATIENCE, || are_gone().then_some(()));
            // A client whose connection was lost asks again, learns that they are gone, and makes them again.
            for topic in again {
                let (mut creates, answered) = (two.client(0), &answered);
                scope.spawn(move || {
                    let made = creates.create(7, self::topic(topic, 1, 1));
                    answered.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(made.error_code, NONE, "{made:?}");
                });
            }
            // What the controller is asked meanwhile goes on.
            for number in 0..20 {
                let fresh = creating(vec![self::topic(&format!("fresh-{number}"), 1, 1)]).with_validate_only(true);
                assert_eq!(two.client(0).ask(7, &fresh).topics[0].error_code, NONE);
            }
            assert!(are_gone() && answered.load(Ordering::SeqCst) == 0, "made while the old ones lie on the drive");
        });
    });
    let mut client = two.client(0);
    for topic in again {
        let core = client.wait_for(topic, 1).partitions[0].leader_id.0 as usize;
        two.produce(core, topic, &[b"new"]);
        assert_eq!(fetch(&mut two.client(core), topic, 0, 1, 5000), (NONE, vec!["new".to_string()]));
    }
}
