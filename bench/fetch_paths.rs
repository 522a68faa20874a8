//! How bytes of a log could reach a socket, measured side by side: what each way costs the thread that serves, over
//! loopback TCP, hot and cold, with one receiver and with several at the same place.
//!
//! One thread serves (`runtime::fetch_ways`, the one part of the runtime that `bench/` uses: raw calls live there), one
//! receives for all connections into one buffer. Each row is checked byte by byte before it is measured, then measured as
//! fast as it goes, with two requests of each receiver under way, and in an open loop at a calm rate. Rounds go over all
//! rows, so that a busy minute does not strike one row alone; figures are medians of the rounds.
//!
//! Over loopback a good part of the receiver's work (the way of a packet up to its socket) is done within the sender's
//! call, and is counted there, in all ways alike.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use corelog::base::crc::crc32c;
use corelog::runtime::fetch_ways::{
    self, ASK, Carrier, CpuTime, EXTENT_BYTES, FILE_UNIT_BYTES, MARK, Mark, Pages, Source, Way, thread_cpu_time,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::failure;
use crate::failure::{Doing, Failure, Outcome};
use crate::host::Scratch;
use crate::latency::Latencies;
use crate::net::bind_to;
use crate::pace::{Oversleep, Schedule, sharpen_timer};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Of each of a row's two measurements, at most.
    pub duration: Duration,
    pub rounds: u32,
    /// The file read cold, and the one that is kept in memory; both rounded up to whole units.
    pub file_bytes: u64,
    pub hot_bytes: u64,
    pub consumers: Vec<usize>,
    pub response_bytes: Vec<usize>,
    /// Responses per second of the open loop, of all receivers together.
    pub rate: f64,
    /// Names of ways; empty: all.
    pub only: Vec<String>,
    pub server_cpu: Option<usize>,
    pub client_cpu: Option<usize>,
}

/// Requests of a receiver under way when it asks as fast as it can.
const UNDER_WAY: u64 = 2;
/// What each receiver checks: more than any way has in memory at once, so that memory used again is seen.
const CHECKED_BYTES: u64 = 40 << 20;
/// What one call receives at most.
const RECEIVED_BYTES: usize = 1 << 20;

/// A way with its name.
struct Named {
    name: &'static str,
    what: &'static str,
    is_cold: bool,
    way: Way,
}

/// All ways, in the order of the report.
fn ways() -> Vec<Named> {
    use {Carrier as C, Source as S};
    let named = |name, what, source, carrier| {
        let is_cold = !matches!(source, S::Memory | S::Replaced | S::Cached);
        Named {
            name,
            what,
            is_cold,
            way: Way { source, carrier, pages: Pages::Small, call_bytes_max: EXTENT_BYTES, check: None },
        }
    };
    let pieces = |mut named: Named| {
        named.way.call_bytes_max = 256 << 10;
        named
    };
    let checked = |mut named: Named| {
        named.way.check = Some(crc32c);
        named
    };
    let huge = |mut named: Named| {
        named.way.pages = Pages::Huge;
        named
    };
    let (read, fixed) = (S::Read { registered: false }, S::Read { registered: true });
    let (zero_copy, zero_copy_fixed) = (C::SendZeroCopy { registered: false }, C::SendZeroCopy { registered: true });
    vec![
        named("send", "send from memory", S::Memory, C::Send),
        pieces(named("send-pieces", "the same, 256 KiB a call", S::Memory, C::Send)),
        huge(named("send-huge", "send from memory in huge pages", S::Memory, C::Send)),
        named("ring-send", "io_uring send from memory", S::Memory, C::RingSend),
        named("ring-write-fixed", "io_uring write from registered memory", S::Memory, C::RingWriteFixed),
        named("send-zc", "SEND_ZC", S::Memory, zero_copy),
        named("send-zc-fixed", "SEND_ZC from registered memory", S::Memory, zero_copy_fixed),
        named("vmsplice", "vmsplice of pages that are never let go", S::Memory, C::Lend),
        named("vmsplice-replaced", "vmsplice of pages, then fresh ones", S::Replaced, C::Lend),
        huge(named("vmsplice-replaced-huge", "vmsplice of huge pages, then fresh ones", S::Replaced, C::Lend)),
        named("sendfile", "sendfile from the page cache", S::Cached, C::Sendfile),
        named("read-send", "direct read, send", read, C::Send),
        named("read-fixed-send", "direct read into registered memory, send", fixed, C::Send),
        checked(named("read-crc-send", "direct read, CRC-32C, send", read, C::Send)),
        checked(named("read-fixed-crc-send", "direct read into registered memory, CRC-32C, send", fixed, C::Send)),
        checked(named("read-fixed-crc-send-zc", "the same, SEND_ZC", fixed, zero_copy_fixed)),
        checked(named("fresh-crc-send", "direct read into fresh pages, CRC-32C, send", S::ReadFresh, C::Send)),
        checked(named("fresh-crc-vmsplice", "direct read into fresh pages, CRC-32C, vmsplice", S::ReadFresh, C::Lend)),
        huge(checked(named(
            "fresh-huge-crc-send",
            "direct read into fresh huge pages, CRC-32C, send",
            S::ReadFresh,
            C::Send,
        ))),
        huge(checked(named(
            "fresh-huge-crc-vmsplice",
            "direct read into fresh huge pages, CRC-32C, vmsplice",
            S::ReadFresh,
            C::Lend,
        ))),
        named("splice-direct", "splice of the direct file, waiting", S::Direct, C::Splice),
        named("ring-splice-direct", "splice of the direct file in io_uring's workers", S::Direct, C::RingSplice),
        named("sendfile-direct", "sendfile of the direct file, waiting", S::Direct, C::Sendfile),
        named("sendfile-cold", "sendfile, page cache dropped before", S::Uncached, C::Sendfile),
    ]
}

/// The content at `position`, whatever its alignment: 64-bit words that depend on their place.
fn fill(mut position: u64, into: &mut [u8]) {
    let mut rest = into;
    while !rest.is_empty() {
        // splitmix64
        let mut word = (position / 8).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (word ^ (word >> 31)).to_le_bytes();
        let from = (position % 8) as usize;
        let count = rest.len().min(8 - from);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&bytes[from..from + count]);
        (rest, position) = (later, position + count as u64);
    }
}

/// A file of the content, on the drive.
fn written(folder: &Path, purpose: &str, bytes: u64) -> Outcome<Scratch> {
    let scratch = Scratch::create(folder, purpose)?;
    let what = || format!("write {}", scratch.path.display());
    let file = File::options().write(true).open(&scratch.path).doing(what)?;
    let mut block = vec![0; 1 << 20];
    for at in (0..bytes).step_by(block.len()) {
        fill(at, &mut block);
        file.write_all_at(&block, at).doing(what)?;
    }
    file.sync_all().doing(what)?;
    Ok(scratch)
}

/// One measurement of one row.
struct Measured {
    bytes: u64,
    elapsed: Duration,
    server: CpuTime,
    /// Of threads that neither serve nor receive: the kernel's workers for the ring.
    workers: Duration,
    sends: u64,
    notified: u64,
    notified_copied: u64,
}

impl Measured {
    fn per_gb(&self, time: Duration) -> f64 {
        time.as_secs_f64() / (self.bytes as f64 / 1e9)
    }

    fn json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "mb_per_second": self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64(),
            "cpu_s_per_gb": self.per_gb(self.server.total() + self.workers),
            "user_s_per_gb": self.per_gb(self.server.user),
            "kernel_s_per_gb": self.per_gb(self.server.kernel),
            "workers_s_per_gb": self.per_gb(self.workers),
            "bytes_per_send": self.bytes as f64 / self.sends.max(1) as f64,
            "zero_copy_notifications": self.notified,
            "zero_copy_notifications_copied": self.notified_copied,
        })
    }
}

/// A connection of the receiving thread.
struct Receiver {
    stream: TcpStream,
    asked: u64,
    received_bytes: u64,
    /// The intended times of requests that have no whole response yet, in the open loop.
    intended: VecDeque<Instant>,
}

/// The receiving end of a row.
struct Receivers {
    all: Vec<Receiver>,
    response_bytes: u64,
    content_bytes: u64,
    /// The content is cold once only: none of it may be asked for twice.
    once: bool,
    buffer: Vec<u8>,
    expected: Vec<u8>,
}

/// Why a receiving end came to no end of its own.
#[derive(Debug)]
enum Stopped {
    /// The connection was lost: the serving end may know why.
    Connection(Failure),
    /// What arrived, or what was asked for, is wrong.
    Fault(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Fault(failure)
    }
}

/// What a phase does.
#[derive(Clone, Copy)]
enum Phase {
    /// As fast as possible, every byte looked at.
    Check,
    Fast(Duration),
    Calm(Duration, f64),
}

impl Receivers {
    fn ask(&mut self, index: usize) -> Result<(), Stopped> {
        let receiver = &mut self.all[index];
        receiver.asked += 1;
        receiver.stream.write_all(&[ASK]).doing(|| String::from("ask")).map_err(Stopped::Connection)
    }

    /// Everyone at the beginning again, and a mark taken.
    fn mark(&mut self) -> Result<CpuTime, Stopped> {
        for receiver in &mut self.all {
            (receiver.asked, receiver.received_bytes) = (0, 0);
        }
        let what = || String::from("ask for a mark");
        let stream = &mut self.all[0].stream;
        stream.write_all(&[MARK]).doing(what).map_err(Stopped::Connection)?;
        let mut answer = [0];
        stream.set_nonblocking(false).doing(what)?;
        stream.read_exact(&mut answer).doing(what).map_err(Stopped::Connection)?;
        stream.set_nonblocking(true).doing(what)?;
        if answer == [MARK] { Ok(thread_cpu_time()) } else { Err(failure!("bytes that nobody asked for").into()) }
    }

    /// Receives what is there; the responses completed.
    fn receive(&mut self, index: usize, check: bool) -> Result<u64, Stopped> {
        let receiver = &mut self.all[index];
        let before = receiver.received_bytes / self.response_bytes;
        let count = match receiver.stream.read(&mut self.buffer) {
            Ok(0) => return Err(Stopped::Connection(failure!("the serving end has ended the connection"))),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error).doing(|| String::from("receive")).map_err(Stopped::Connection),
        };
        if check {
            let mut done = 0;
            while done < count {
                let position = (receiver.received_bytes + done as u64) % self.content_bytes;
                let part = (count - done).min(usize::try_from(self.content_bytes - position).unwrap_or(usize::MAX));
                let expected = &mut self.expected[..part];
                fill(position, expected);
                if *expected != self.buffer[done..done + part] {
                    return Err(failure!("wrong bytes arrived behind {position} of the file").into());
                }
                done += part;
            }
        }
        receiver.received_bytes += count as u64;
        if receiver.received_bytes > receiver.asked * self.response_bytes {
            return Err(failure!("more bytes arrived than were asked for").into());
        }
        Ok(receiver.received_bytes / self.response_bytes - before)
    }

    /// Waits until something can be received, at most until `until`.
    fn wait(&self, until: Option<Instant>) -> Outcome<Vec<usize>> {
        let mut wanted: Vec<PollFd<'_>> =
            self.all.iter().map(|receiver| PollFd::new(&receiver.stream, PollFlags::IN)).collect();
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut wanted, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing(|| String::from("wait for a response")),
        }
        let ready = |(index, wanted): (usize, &PollFd<'_>)| (!wanted.revents().is_empty()).then_some(index);
        Ok(wanted.iter().enumerate().filter_map(ready).collect())
    }

    fn run(&mut self, phase: Phase) -> Result<Latencies, Stopped> {
        let begun = Instant::now();
        let content_bytes = self.content_bytes;
        let (end, bytes_max) = match phase {
            Phase::Check => (None, CHECKED_BYTES.min(content_bytes * 2)),
            Phase::Fast(duration) | Phase::Calm(duration, _) => (Some(begun + duration), u64::MAX),
        };
        let schedule = match phase {
            Phase::Calm(_, rate) => Some(Schedule::new(begun, rate, 0.0)),
            _ => None,
        };
        let bytes_max = if self.once { bytes_max.min(content_bytes) } else { bytes_max };
        let responses_max = (bytes_max / self.response_bytes).max(1);
        let mut due = schedule.zip(end).map_or(0, |(schedule, end)| schedule.count_until(end).max(1));
        due = due.min(responses_max.saturating_mul(self.all.len() as u64));
        let (mut index, mut times, mut oversleep) = (0u64, Latencies::new(), Oversleep::unknown());
        if schedule.is_none() {
            for index in 0..self.all.len() {
                for _ in 0..UNDER_WAY.min(responses_max) {
                    self.ask(index)?;
                }
            }
        }
        loop {
            let mut until = None;
            if let Some(schedule) = schedule.filter(|_| due > 0) {
                let (now, intended) = (Instant::now(), schedule.due(index));
                if now >= intended {
                    let to = (index % self.all.len() as u64) as usize;
                    self.all[to].intended.push_back(intended);
                    self.ask(to)?;
                    (index, due) = (index + 1, due - 1);
                    continue;
                }
                until = Some(intended.checked_sub(oversleep.awake_before()).unwrap_or(intended));
            } else if self.all.iter().all(|receiver| receiver.received_bytes == receiver.asked * self.response_bytes) {
                return Ok(times);
            }
            let ready = self.wait(until)?;
            if let Some(until) = until.filter(|_| ready.is_empty()) {
                oversleep.observe(until.elapsed());
            }
            for ready in ready {
                for _ in 0..self.receive(ready, matches!(phase, Phase::Check))? {
                    let receiver = &mut self.all[ready];
                    if let Some(intended) = receiver.intended.pop_front() {
                        times.record(intended.elapsed(), 1);
                    }
                    let goes_on = match phase {
                        Phase::Check => receiver.asked < responses_max,
                        Phase::Fast(_) => receiver.asked < responses_max && end.is_some_and(|end| Instant::now() < end),
                        Phase::Calm(..) => false,
                    };
                    if goes_on {
                        self.ask(ready)?;
                    }
                }
            }
        }
    }
}

/// A row in one round.
struct Round {
    fast: Measured,
    calm: Measured,
    times: Latencies,
}

/// A row's place in the table.
#[derive(Clone, Copy)]
struct Row {
    way: usize,
    consumers: usize,
    response_bytes: usize,
}

fn connect(count: usize) -> Outcome<(Vec<TcpStream>, Vec<TcpStream>)> {
    let what = || String::from("connect over loopback");
    let listener = TcpListener::bind("127.0.0.1:0").doing(what)?;
    let address = listener.local_addr().doing(what)?;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let client = TcpStream::connect(address).doing(what)?;
        let (server, _) = listener.accept().doing(what)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).doing(what)?;
        }
        client.set_read_timeout(Some(crate::cluster::PATIENCE)).doing(what)?;
        client.set_nonblocking(true).doing(what)?;
        clients.push(client);
        servers.push(server);
    }
    Ok((clients, servers))
}

/// Measures a row once. The inner error: this machine, or this user, has no such way.
fn round(probe: &Probe, way: Way, row: Row, file: &Path, content_bytes: u64) -> Outcome<Result<Round, String>> {
    let (clients, servers) = connect(row.consumers)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || -> Outcome<Result<Vec<Mark>, String>> {
            bind_to(probe.server_cpu)?;
            let served = fetch_ways::serve(way, file, row.response_bytes, &servers);
            Ok(served.map_err(|error| error.to_string()))
        });
        let client = scope.spawn(move || -> Result<(Vec<CpuTime>, [Duration; 2], Latencies), Stopped> {
            bind_to(probe.client_cpu)?;
            sharpen_timer();
            let receiver = |stream| Receiver { stream, asked: 0, received_bytes: 0, intended: VecDeque::new() };
            let mut receivers = Receivers {
                all: clients.into_iter().map(receiver).collect(),
                response_bytes: row.response_bytes as u64,
                content_bytes,
                once: way.source == Source::Uncached,
                buffer: vec![0; RECEIVED_BYTES],
                expected: vec![0; RECEIVED_BYTES],
            };
            receivers.run(Phase::Check)?;
            let mut own = vec![receivers.mark()?];
            let begun = Instant::now();
            receivers.run(Phase::Fast(probe.duration))?;
            let fast = begun.elapsed();
            own.push(receivers.mark()?);
            // The mark before has emptied the page cache again, if that is the way.
            let begun = Instant::now();
            let times = receivers.run(Phase::Calm(probe.duration, probe.rate))?;
            let calm = begun.elapsed();
            own.push(receivers.mark()?);
            Ok((own, [fast, calm], times))
        });
        let received = client.join().map_err(|_| failure!("the receiving thread panicked"))?;
        let served = server.join().map_err(|_| failure!("the serving thread panicked"))?;
        let served = served?;
        let (marks, (own, [fast, calm], times)) = match (served, received) {
            // First of all, and not for the serving end, which saw the end of its connections then.
            (_, Err(Stopped::Fault(failure))) => return Err(failure),
            (Err(reason), _) => return Ok(Err(reason)),
            (Ok(_), Err(Stopped::Connection(failure))) => return Err(failure),
            (Ok(marks), Ok(received)) => (marks, received),
        };
        let measured = |phase: usize, elapsed| {
            let (before, after) = (&marks[phase], &marks[phase + 1]);
            let mut server = after.thread.since(before.thread);
            let apart = after.apart - before.apart;
            let received = own[phase + 1].since(own[phase]).total();
            let workers = after.process.since(before.process).total().saturating_sub(server.total() + received);
            server.user = server.user.saturating_sub(apart);
            Measured {
                bytes: after.sent_bytes - before.sent_bytes,
                elapsed,
                server,
                workers,
                sends: after.sends - before.sends,
                notified: after.notified - before.notified,
                notified_copied: after.notified_copied - before.notified_copied,
            }
        };
        Ok(Ok(Round { fast: measured(0, fast), calm: measured(1, calm), times }))
    })
}

/// Measures all rows; returns lines to read and the JSON.
pub fn measure(folder: &Path, probe: &Probe) -> Outcome<(Vec<String>, Value)> {
    let ways = ways();
    if let Some(name) = probe.only.iter().find(|name| ways.iter().all(|way| way.name != *name)) {
        let all: Vec<_> = ways.iter().map(|way| way.name).collect();
        return Err(failure!("there is no way '{name}'; there are: {}", all.join(", ")));
    }
    if probe.consumers.contains(&0) {
        return Err(failure!("a row without a consumer measures nothing"));
    }
    if probe.response_bytes.iter().any(|bytes| *bytes < 4096 || !bytes.is_power_of_two() || *bytes > EXTENT_BYTES) {
        return Err(failure!("a response has a power of two of bytes, 4 KiB to 1 MiB"));
    }
    let whole = |bytes: u64| bytes.max(1).next_multiple_of(FILE_UNIT_BYTES);
    let (cold_bytes, hot_bytes) = (whole(probe.file_bytes), whole(probe.hot_bytes));
    let mut rows = Vec::new();
    for &response_bytes in &probe.response_bytes {
        for &consumers in &probe.consumers {
            let chosen = (0..ways.len())
                .filter(|way| probe.only.is_empty() || probe.only.iter().any(|name| name == ways[*way].name));
            rows.extend(chosen.map(|way| Row { way, consumers, response_bytes }));
        }
    }
    let cold = written(folder, "fetch-cold", cold_bytes)?;
    let hot = written(folder, "fetch-hot", hot_bytes)?;
    let mut rounds: Vec<Vec<Round>> = rows.iter().map(|_| Vec::new()).collect();
    let mut refused: Vec<Option<String>> = vec![None; rows.len()];
    for _ in 0..probe.rounds {
        for (index, row) in rows.iter().enumerate() {
            let named = &ways[row.way];
            let (file, bytes) = if named.is_cold { (&cold, cold_bytes) } else { (&hot, hot_bytes) };
            match round(probe, named.way, *row, &file.path, bytes)
                .map_err(|failure| failure!("{}: {failure}", named.name))?
            {
                Ok(round) => rounds[index].push(round),
                Err(reason) => refused[index] = Some(reason),
            }
        }
    }
    let mut lines = Vec::new();
    let mut results = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let named = &ways[row.way];
        let heading = format!("{} x {:4} KiB  {:24}", row.consumers, row.response_bytes >> 10, named.name);
        let mut result = json!({
            "way": named.name,
            "what": named.what,
            "cold": named.is_cold,
            "consumers": row.consumers,
            "response_bytes": row.response_bytes,
        });
        match &refused[index] {
            Some(reason) => {
                lines.push(format!("{heading} not here: {reason}"));
                result["not_here"] = json!(reason);
            }
            None => {
                let shown = summary(&rounds[index]);
                let figure = |phase: &str, name: &str| shown[phase][name].as_f64().unwrap_or_default();
                lines.push(format!(
                    "{heading} {:.3} CPU s/GB (user {:.3}, kernel {:.3}, workers {:.3}; {:.3} to {:.3}), {:5.0} MB/s; calm {:.3} CPU s/GB, p50 {:.0} p99 {:.0} µs",
                    figure("fast", "cpu_s_per_gb"),
                    figure("fast", "user_s_per_gb"),
                    figure("fast", "kernel_s_per_gb"),
                    figure("fast", "workers_s_per_gb"),
                    figure("fast", "cpu_s_per_gb_least"),
                    figure("fast", "cpu_s_per_gb_most"),
                    figure("fast", "mb_per_second"),
                    figure("calm", "cpu_s_per_gb"),
                    figure("calm", "p50_us"),
                    figure("calm", "p99_us"),
                ));
                crate::report::add(&mut result, shown);
            }
        }
        results.push(result);
    }
    let result = json!({
        "file_bytes": cold_bytes,
        "hot_bytes": hot_bytes,
        "rounds": probe.rounds,
        "rate": probe.rate,
        "server_cpu": probe.server_cpu,
        "client_cpu": probe.client_cpu,
        "rows": results,
    });
    Ok((lines, result))
}

/// Medians of a row's rounds, and between what the CPU time lay.
fn summary(rounds: &[Round]) -> Value {
    let calm = |round: &Round| {
        let mut calm = round.calm.json();
        calm["responses"] = json!(round.times.count());
        calm["p50_us"] = json!(round.times.quantile_us(0.5));
        calm["p99_us"] = json!(round.times.quantile_us(0.99));
        calm
    };
    let fast: Vec<Value> = rounds.iter().map(|round| round.fast.json()).collect();
    let calm: Vec<Value> = rounds.iter().map(calm).collect();
    json!({ "fast": medians(&fast), "calm": medians(&calm) })
}

fn medians(rounds: &[Value]) -> Value {
    let mut result = json!({});
    for (name, _) in rounds.first().and_then(Value::as_object).into_iter().flatten() {
        let mut values: Vec<f64> = rounds.iter().filter_map(|round| round[name].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        result[name] = json!(values[values.len() / 2]);
        if name == "cpu_s_per_gb" {
            result["cpu_s_per_gb_least"] = json!(values[0]);
            result["cpu_s_per_gb_most"] = json!(values[values.len() - 1]);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_depends_on_its_place_only() {
        let mut whole = vec![0; 100];
        fill(0, &mut whole);
        for (from, to) in [(0, 8), (3, 5), (7, 100), (64, 99)] {
            let mut part = vec![0; to - from];
            fill(from as u64, &mut part);
            assert_eq!(part, whole[from..to], "{from}..{to}");
        }
        assert!(whole[..8] != whole[8..16]);
    }

    #[test]
    fn wrong_bytes_are_noticed() {
        let (mut clients, mut servers) = connect(1).unwrap();
        let receiver = Receiver { stream: clients.remove(0), asked: 1, received_bytes: 0, intended: VecDeque::new() };
        let mut receivers = Receivers {
            all: vec![receiver],
            response_bytes: 4096,
            content_bytes: FILE_UNIT_BYTES,
            once: false,
            buffer: vec![0; RECEIVED_BYTES],
            expected: vec![0; RECEIVED_BYTES],
        };
        let mut bytes = vec![0; 4096];
        fill(0, &mut bytes);
        bytes[4095] ^= 1;
        servers[0].write_all(&bytes).unwrap();
        let outcome = loop {
            receivers.wait(None).unwrap();
            match receivers.receive(0, true) {
                Ok(0) => {}
                other => break other,
            }
        };
        let Err(Stopped::Fault(failure)) = outcome else { panic!("{outcome:?}") };
        assert!(failure.to_string().contains("wrong bytes"));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let probe = Probe {
            duration: Duration::from_millis(10),
            rounds: 1,
            file_bytes: 1,
            hot_bytes: 1,
            consumers: vec![1],
            response_bytes: vec![65536],
            rate: 100.0,
            only: Vec::new(),
            server_cpu: None,
            client_cpu: None,
        };
        for (wrong, expected) in [
            (Probe { only: vec![String::from("carrier-pigeon")], ..probe.clone() }, "there is no way"),
            (Probe { consumers: vec![1, 0], ..probe.clone() }, "without a consumer"),
            (Probe { response_bytes: vec![5000], ..probe.clone() }, "power of two"),
            (Probe { response_bytes: vec![2 << 20], ..probe.clone() }, "power of two"),
            (Probe { server_cpu: Some(100_000), ..probe.clone() }, "no CPU"),
        ] {
            let failure = measure(folder.path(), &wrong).unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
