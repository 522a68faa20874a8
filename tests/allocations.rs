//! How often the broker allocates for a request in the steady state, counted by the allocator of a process that is both
//! broker and client, and told apart by who asked for the memory.
//!
//! * **The layers of a request** (everything but `runtime` and `log`): nothing per request. What remains is a new receive
//!   buffer or piece of memory for small answers now and then.
//! * **The log**: some per write to the drive, which many requests share when they come together. One at a time, each
//!   request has a write of its own: that is what is pinned.
//! * **The runtime**, sockets among it: nothing per request.
//!
//! The client's thread is not counted. Each allocation in the counted time is told by its backtrace, which is why
//! there are few of them.

mod harness;

use corelog::config::BrokerConfig;
use corelog::record::{BatchBuilder, NewRecord};
use harness::broker::{allowed_cpus, connect, free_ports};
use harness::wait::{self, PATIENCE};
use harness::wire::request;
use harness::{folder, records};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const TOPIC: &str = "t";

struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Not counted: the client, and whoever is taking a backtrace.
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // The second fails while a thread ends.
    if !COUNTING.load(Ordering::Relaxed) || EXEMPT.try_with(|exempt| exempt.replace(true)).unwrap_or(true) {
        return;
    }
    let backtrace = Backtrace::force_capture();
    SEEN.lock().unwrap().push(backtrace);
    EXEMPT.set(false);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Who asked for the memory: the innermost file of ours, and what it belongs to.
fn asker(backtrace: &Backtrace) -> (&'static str, String) {
    let text = backtrace.to_string();
    if text.contains("src/shard/upkeep.rs") {
        // Once a second, whatever the clients do.
        return ("other", "upkeep".to_string());
    }
    let places = text.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let file = places.filter_map(|place| {
        let at = place.find("src/")?;
        // Those of the standard library and of other packages have more before it.
        let ours =
            place[..at].is_empty() || place[..at].ends_with("./") || place.starts_with(env!("CARGO_MANIFEST_DIR"));
        (ours && !place.contains("/.cargo/")).then(|| place[at..].to_string())
    });
    let mut files = file.filter(|file| !file.starts_with("src/base/"));
    let Some(file) = files.next() else { return ("other", "not ours".to_string()) };
    let of = [("src/log/", "log"), ("src/runtime/", "runtime"), ("src/", "request")];
    let whose = of.iter().find(|(start, _)| file.starts_with(start)).map_or("other", |(_, whose)| *whose);
    // Buffers and operations of files are made for the log.
    let whose = match (whose, files.find(|file| !file.starts_with("src/runtime/"))) {
        ("runtime", Some(above)) if file.starts_with("src/runtime/disk/") && above.starts_with("src/log/") => "log",
        _ => whose,
    };
    (whose, file)
}

/// Allocations per request, by who asked.
struct Count {
    per_request: BTreeMap<&'static str, f64>,
    lines: BTreeMap<String, f64>,
}

impl Count {
    /// Of `round`, which makes `requests`, when it has become usual.
    fn of(name: &str, requests: u32, mut round: impl FnMut()) -> Count {
        const COUNTED: u32 = 32;
        let rounds = COUNTED.div_ceil(requests);
        for _ in 0..20 * rounds {
            round();
        }
        COUNTING.store(true, Ordering::SeqCst);
        for _ in 0..rounds {
            round();
        }
        COUNTING.store(false, Ordering::SeqCst);
        let seen = std::mem::take(&mut *SEEN.lock().unwrap());
        let mut count = Count { per_request: BTreeMap::new(), lines: BTreeMap::new() };
        let each = 1.0 / f64::from(rounds * requests);
        for backtrace in &seen {
            let (whose, line) = asker(backtrace);
            *count.per_request.entry(whose).or_default() += each;
            *count.lines.entry(format!("{whose}: {line}")).or_default() += each;
        }
        println!("{name}: {:.2?}\n  {:.2?}", count.per_request, count.lines);
        count
    }

    /// At most so many per request.
    #[track_caller]
    fn at_most(&self, whose: &str, most: f64) {
        let count = self.per_request.get(whose).copied().unwrap_or_default();
        assert!(count <= most, "{count:.2} allocations per request for {whose}, at most {most}: {:#.2?}", self.lines);
    }
}

/// A Produce (version 7) of one batch of ten records.
fn produce_request(acks: i16) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    let timestamp = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    for _ in 0..10 {
        batch.push(NewRecord { timestamp, key: None, value: Some(&[b'v'; 100]), headers: &[] });
    }
    harness::wire::produce(1, TOPIC, &[0], acks, &batch.build())
}

/// A Fetch (version 13) in a session, as Java's consumer sends it: partition 0 from `offset`, or nothing but the session.
fn fetch_request(topic_id: [u8; 16], session: i32, epoch: i32, offset: Option<i64>) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // replica id
    body.extend(60_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes()); // min bytes
    body.extend((1i32 << 20).to_be_bytes()); // max bytes
    body.push(0); // isolation level
    body.extend(session.to_be_bytes());
    body.extend(epoch.to_be_bytes());
    // Lengths are one more than they are, and tagged fields none.
    match offset {
        None => body.push(1),
        Some(offset) => {
            body.push(2);
            body.extend(topic_id);
            body.push(2);
            body.extend(0i32.to_be_bytes()); // partition
            body.extend((-1i32).to_be_bytes()); // current leader epoch
            body.extend(offset.to_be_bytes());
            body.extend((-1i32).to_be_bytes()); // last fetched epoch
            body.extend((-1i64).to_be_bytes()); // log start offset
            body.extend(4096i32.to_be_bytes()); // max bytes
            body.extend([0, 0]);
        }
    }
    body.extend([1, 1, 0]); // forgotten, rack, tags
    request(1, 13, 1, true, &body)
}

/// A Fetch (version 11) of partition 0 by name, without a session.
fn fetch_by_name() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // replica id
    body.extend(500i32.to_be_bytes());
    body.extend(1i32.to_be_bytes()); // min bytes
    body.extend((1i32 << 20).to_be_bytes()); // max bytes
    body.push(0); // isolation level
    body.extend(0i32.to_be_bytes()); // session
    body.extend((-1i32).to_be_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend((TOPIC.len() as i16).to_be_bytes());
    body.extend(TOPIC.as_bytes());
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes()); // partition
    body.extend((-1i32).to_be_bytes()); // current leader epoch
    body.extend(0i64.to_be_bytes()); // fetch offset
    body.extend((-1i64).to_be_bytes()); // log start offset
    body.extend(4096i32.to_be_bytes()); // max bytes
    body.extend(0i32.to_be_bytes()); // forgotten
    body.extend(0i16.to_be_bytes()); // rack
    request(1, 11, 1, false, &body)
}

/// Reads an answer: its size. What it says lies in `buffer`.
fn read_into(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let size = u32::from_be_bytes(size) as usize;
    stream.read_exact(&mut buffer[..size]).unwrap();
    size
}

#[test]
fn requests_allocate_nothing_once_their_paths_are_warm() {
    EXEMPT.set(true);
    let folder = folder();
    let port = free_ports(1);
    let set = |name: &str, value: String| (name.to_string(), value);
    let cpu = allowed_cpus()[0];
    let data_dir = folder.path().join("data");
    let overrides = [
        set("log.dirs", data_dir.display().to_string()),
        set("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        set("cores", format!("{cpu}-{cpu}")),
    ];
    let (config, _) = BrokerConfig::load(None, &overrides).unwrap();
    // It ends with the process.
    std::thread::spawn(move || corelog::cli::serve::run(config).unwrap());
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let mut stream = wait::until("the broker", PATIENCE, || connect(address).ok());
    records::create_topic(&address.to_string(), TOPIC, 1);
    let mut buffer = vec![0; 1 << 20];

    for acks in [1, -1] {
        let one = produce_request(acks);
        let count = Count::of(&format!("produce acks={acks}, one at a time"), 1, || {
            stream.write_all(&one).unwrap();
            read_into(&mut stream, &mut buffer);
        });
        count.at_most("request", 0.2);
        // A write of the journal by itself; it is shared by all that come together.
        count.at_most("log", 10.0);
        count.at_most("runtime", 1.0);
        let many = one.repeat(32);
        let count = Count::of(&format!("produce acks={acks}, 32 at a time"), 32, || {
            stream.write_all(&many).unwrap();
            for _ in 0..32 {
                read_into(&mut stream, &mut buffer);
            }
        });
        count.at_most("request", 0.2);
    }

    let metadata = std::fs::read_to_string(data_dir.join(format!("{TOPIC}-0/partition.metadata"))).unwrap();
    let topic_id = metadata.lines().find_map(|line| line.strip_prefix("topic_id: ")).unwrap();
    let topic_id = topic_id.parse::<corelog::base::Uuid>().unwrap().0;
    stream.write_all(&fetch_request(topic_id, 0, 0, Some(0))).unwrap();
    read_into(&mut stream, &mut buffer);
    let session = i32::from_be_bytes(buffer[11..15].try_into().unwrap());
    assert!(session != 0);
    let mut epoch = 0;
    let count = Count::of("fetch in a session", 1, || {
        epoch += 1;
        stream.write_all(&fetch_request(topic_id, session, epoch, None)).unwrap();
        assert!(read_into(&mut stream, &mut buffer) > 1000);
    });
    count.at_most("request", 0.2);
    count.at_most("log", 0.2);
    count.at_most("runtime", 1.0);

    let by_name = fetch_by_name();
    let count = Count::of("fetch by name", 1, || {
        stream.write_all(&by_name).unwrap();
        assert!(read_into(&mut stream, &mut buffer) > 1000);
    });
    // Each topic's name: for the session, and for the answer.
    count.at_most("request", 3.2);

    // A consumer at the end: its fetch waits, a record comes, it goes on behind it.
    let mut producer = connect(address).unwrap();
    let one = produce_request(1);
    producer.write_all(&one).unwrap();
    let end =
        |buffer: &[u8]| i64::from_be_bytes(buffer[4 + 4 + 2 + TOPIC.len() + 4 + 4 + 2..][..8].try_into().unwrap()) + 10;
    read_into(&mut producer, &mut buffer);
    let mut next = end(&buffer);
    let count = Count::of("a fetch that waits, and the produce it waits for", 1, || {
        epoch += 1;
        stream.write_all(&fetch_request(topic_id, session, epoch, Some(next))).unwrap();
        producer.write_all(&one).unwrap();
        read_into(&mut producer, &mut buffer);
        next = end(&buffer);
        assert!(read_into(&mut stream, &mut buffer) > 1000);
    });
    count.at_most("request", 0.2);
}
