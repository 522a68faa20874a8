//! A drive that stands still. Producers are held back, not buffered without end; and a process that is killed meanwhile
//! leaves writes behind that outlive it.
//!
//! Of the second: a direct write that io_uring has begun is not undone by kill -9: it lands when the
//! drive gets to it, which may be after the next process has recovered the file. What holds it off is the lock that an
//! open file has while a request on it is under way (`docs/recovery.md`).
//!
//! The drive is held up by a control group of which the kernel lets no write through (`blkio.throttle`, or `io.max`).
//! That takes root and a block device below `target/`; without them these tests say so and pass.

mod harness;

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use corelog::record::{BatchBuilder, NewRecord};
use corelog::runtime::disk::{Buffer, Disk, Open};
use corelog::runtime::task::{self, OnPanic, Queue};
use corelog::runtime::{self, clock};
use harness::broker::{Broker, Options, allowed_cpus, connect};
use harness::wait::{self, seconds};
use harness::{folder, records, unique, wire};
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const CHILD: &str = "CORELOG_WRITE_BARRIER_FILE";
const BLOCK: usize = 4096;

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

/// A Produce (version 7) of one record with acks=0.
fn produce_request(topic: &str, partition: i32, value: &[u8]) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    let timestamp = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    batch.push(NewRecord { timestamp, key: None, value: Some(value), headers: &[] });
    let batch = batch.build();
    let mut body = Vec::new();
    body.extend((-1i16).to_be_bytes()); // transactional id
    body.extend(0i16.to_be_bytes()); // acks
    body.extend(10_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    wire::request(0, 7, 1, false, &body)
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
