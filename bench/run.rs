//! The frame around every measurement: stations (one connection and its work
//! each) driven by a few threads, a window of time in which things count, and
//! what broker and client used meanwhile.
//!
//! A thread drives many stations: it sleeps until a request is due or an answer
//! has come on any of them. So the client needs no more threads than it has CPUs.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corelog::runtime::run_behind_others;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::cluster::PATIENCE;
use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::link::Link;
use crate::pace::Oversleep;
use crate::process::{Usage, Used};

/// When a run's requests count.
pub struct Window {
    /// The run's clock starts here.
    pub zero: Instant,
    /// Warm-up ends here: only what is sent from now on counts.
    pub from: Instant,
    /// Nothing is sent from here on; `None` when a number of records ends the run.
    pub until: Option<Instant>,
    /// Raised when a worker failed: the others stop.
    stop: AtomicBool,
}

/// How much longer than its window an open loop may send at most.
const GRACE_MAX: Duration = Duration::from_secs(1);

impl Window {
    pub fn new(warm_up: Duration, duration: Option<Duration>) -> Window {
        // Some time to start the threads before the first request is due.
        let zero = Instant::now() + Duration::from_millis(20);
        let from = zero + warm_up;
        Window { zero, from, until: duration.map(|duration| from + duration), stop: AtomicBool::new(false) }
    }

    /// Whether nothing may be sent any more at `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until) || self.stop.load(Ordering::Relaxed)
    }

    /// Whether an open loop may send no more at `now`. What was due within the window may still be sent shortly after
    /// it: a client that was late by a moment at the very end has not met a rate that is too high.
    pub fn is_over_for_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until + ((until - self.from) / 10).min(GRACE_MAX)) || self.was_stopped()
    }

    pub fn was_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Nanoseconds of the run's clock.
    pub fn clock(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.zero).as_nanos() as u64
    }
}

/// What the stations that count have done so far, read at the window's ends.
#[derive(Default)]
pub struct Progress {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub requests: AtomicU64,
}

impl Progress {
    pub fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Done {
    records: u64,
    bytes: u64,
    requests: u64,
}

impl Progress {
    fn done(&self) -> Done {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Done { records: read(&self.records), bytes: read(&self.bytes), requests: read(&self.requests) }
    }
}

/// What happened within the window.
#[derive(Clone, Debug)]
pub struct Measured {
    pub elapsed: Duration,
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    pub broker: Option<Used>,
    pub client: Option<Used>,
}

/// One connection and its work, done in turns.
pub trait Station<T>: Send {
    fn link(&self) -> &Link;

    fn link_mut(&mut self) -> &mut Link;

    /// Does what can be done now without waiting. `readable`: answers may have come.
    fn turn(&mut self, window: &Window, readable: bool) -> Outcome<Turn>;

    /// Whether it has threads of its own, which run only while no other thread wants their CPU: for work whose
    /// cost to the client must not show in what the other stations measure.
    fn stands_back(&self) -> bool {
        false
    }

    /// What it measured. Called when it is done, or when the run is given up.
    fn finish(self: Box<Self>, window: &Window) -> T;
}

/// What a station waits for, besides room in its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    Done,
    Wait {
        /// When it wants its next turn, whatever happens.
        due: Option<Instant>,
        /// Since when, at least, the broker has owed it an answer.
        owed_since: Option<Instant>,
    },
}

/// A thread without anything to do looks up after so long: at the window's end, and whether it was stopped.
const LOOK_UP_AFTER: Duration = Duration::from_millis(50);

/// Drives stations until all are done.
fn drive<T>(window: &Window, mut stations: Vec<Box<dyn Station<T> + '_>>) -> Outcome<Vec<T>> {
    let mut finished = Vec::with_capacity(stations.len());
    let mut readable = vec![false; stations.len()];
    let mut oversleep = Oversleep::unknown();
    loop {
        let (mut due, mut at): (Option<Instant>, usize) = (None, 0);
        while at < stations.len() {
            let turn = stations[at].turn(window, readable[at])?;
            let now = Instant::now();
            let Turn::Wait { due: own, owed_since } = turn else {
                finished.push(stations.swap_remove(at).finish(window));
                readable.swap_remove(at);
                continue;
            };
            if owed_since.is_some_and(|since| now > since.max(stations[at].link().heard) + PATIENCE) {
                return Err(failure!("the broker did not answer for {} s", PATIENCE.as_secs()));
            }
            due = [due, own].into_iter().flatten().min();
            at += 1;
        }
        if stations.is_empty() || window.was_stopped() {
            finished.extend(stations.into_iter().map(|station| station.finish(window)));
            return Ok(finished);
        }

        // The last stretch before a send is not slept through: whoever wakes late would blame the broker for it.
        let (now, awake_before) = (Instant::now(), oversleep.awake_before());
        let sleep = due.map_or(LOOK_UP_AFTER, |due| due.saturating_duration_since(now + awake_before));
        let sleep = sleep.min(LOOK_UP_AFTER);
        let timeout = Timespec::try_from(sleep).doing(|| String::from("wait for answers"))?;
        let mut sockets = Vec::with_capacity(stations.len());
        for station in &stations {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, station.link().is_blocked());
            sockets.push(PollFd::from_borrowed_fd(station.link().stream().as_fd(), wanted));
        }
        match poll(&mut sockets, Some(&timeout)) {
            Ok(0) if sleep > Duration::ZERO => oversleep.observe((now + sleep).elapsed()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing(|| String::from("wait for answers")),
        }
        let events: Vec<PollFlags> = sockets.iter().map(|socket| socket.revents()).collect();
        for (at, events) in events.into_iter().enumerate() {
            // An error or a hang-up shows when the socket is read.
            readable[at] = events.intersects(!PollFlags::OUT);
            if events.contains(PollFlags::OUT) {
                stations[at].link_mut().unblock();
            }
        }
    }
}

/// Into at most `hands` parts, none of them empty.
fn dealt_out<S>(stations: Vec<S>, hands: usize) -> impl Iterator<Item = Vec<S>> {
    let mut parts: Vec<Vec<S>> = (0..hands.max(1).min(stations.len())).map(|_| Vec::new()).collect();
    let count = parts.len();
    for (index, station) in stations.into_iter().enumerate() {
        parts[index % count].push(station);
    }
    parts.into_iter()
}

/// Deals stations out to at most `threads` threads, and as many for those that stand back, and drives them to their end.
/// `progress` is where the stations that count do so.
pub fn measure<T: Send>(
    window: &Window,
    broker_pid: Option<u32>,
    stations: Vec<Box<dyn Station<T> + '_>>,
    threads: usize,
    progress: &Progress,
) -> Outcome<(Measured, Vec<T>)> {
    let (back, front): (Vec<_>, Vec<_>) = stations.into_iter().partition(|station| station.stands_back());
    let hands: Vec<(bool, Vec<_>)> = dealt_out(front, threads)
        .map(|stations| (false, stations))
        .chain(dealt_out(back, threads).map(|stations| (true, stations)))
        .collect();
    let expected = hands.len();
    let read_broker = || broker_pid.map(Usage::of).transpose();
    let read_client = || Usage::of(std::process::id()).ok();
    let read_all = || (progress.done(), read_broker(), read_client());
    // Without a warm-up the readings are taken before there is a thread that could send, so that nothing slips by between
    // its due time and ours.
    let no_warm_up = window.from == window.zero;
    let first = no_warm_up.then(read_all);
    std::thread::scope(|scope| {
        let (report, reports) = mpsc::channel();
        for (index, (stands_back, stations)) in hands.into_iter().enumerate() {
            let report = report.clone();
            scope.spawn(move || {
                if stands_back {
                    run_behind_others();
                }
                crate::pace::sharpen_timer();
                let result = drive(window, stations);
                if result.is_err() {
                    window.stop.store(true, Ordering::Relaxed);
                }
                let _ = report.send((index, result));
            });
        }
        drop(report);

        let mut results: Vec<Option<Outcome<Vec<T>>>> = (0..expected).map(|_| None).collect();
        let mut arrived = 0;
        // Takes reports until `deadline`, or until all are in or one failed.
        let mut collect = |deadline: Option<Instant>| {
            while arrived < expected {
                let next = match deadline {
                    Some(deadline) => reports.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
                    None => reports.recv().ok(),
                };
                let Some((index, result)) = next else { return };
                let failed = result.is_err();
                results[index] = Some(result);
                arrived += 1;
                if failed && deadline.is_some() {
                    return;
                }
            }
        };

        if !no_warm_up {
            collect(Some(window.from));
        }
        let (before, broker_before, client_before) = first.unwrap_or_else(read_all);
        let begun = if no_warm_up { window.zero } else { Instant::now() };
        if let Some(until) = window.until {
            collect(Some(until));
        } else {
            collect(None);
        }
        let ((after, broker_after, client_after), ended) = (read_all(), Instant::now());
        collect(None);

        let mut finished = Vec::new();
        for result in results {
            finished.extend(result.unwrap_or_else(|| Err(failure!("a thread ended without a report")))?);
        }
        let broker = match (broker_before?, broker_after?) {
            (Some(before), Some(after)) => Some(before.until(&after)),
            _ => None,
        };
        let client = client_before.zip(client_after).map(|(before, after)| before.until(&after));
        let measured = Measured {
            elapsed: ended.saturating_duration_since(begun),
            records: after.records - before.records,
            bytes: after.bytes - before.bytes,
            requests: after.requests - before.requests,
            broker,
            client,
        };
        Ok((measured, finished))
    })
}

impl Measured {
    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// The broker's CPU seconds for a million records.
    pub fn cpu_s_per_million(&self) -> Option<f64> {
        let broker = self.broker.filter(|_| self.records > 0)?;
        Some(broker.cpu.as_secs_f64() * 1e6 / self.records as f64)
    }

    /// `2412000 records/s, 262.9 MB/s, 2412 requests/s`.
    pub fn rates_line(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        format!(
            "{:.0} records/s, {:.1} MB/s, {:.0} requests/s",
            self.records_per_second(),
            self.bytes as f64 / 1e6 / seconds,
            self.requests as f64 / seconds
        )
    }

    /// `broker CPU 0.402 s per million records (user 61 %), 98 % of a core, 812 MB resident`; empty
    /// when the broker's process is not known.
    pub fn broker_line(&self) -> String {
        let Some(broker) = self.broker else { return String::new() };
        let per_million = self.cpu_s_per_million().map_or_else(|| String::from("-"), |cpu| format!("{cpu:.3}"));
        format!(
            "; broker CPU {per_million} s per million records (user {:.0} %), {:.0} % of a core, {:.0} MB resident",
            broker.user_share * 100.0,
            broker.cpu.as_secs_f64() / self.elapsed.as_secs_f64() * 100.0,
            broker.resident_bytes as f64 / 1e6
        )
    }

    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let used = |used: Used| {
            json!({
                "cpu_s": used.cpu.as_secs_f64(),
                "cores": used.cpu.as_secs_f64() / seconds,
                "user_share": used.user_share,
                "resident_mb": used.resident_bytes as f64 / 1e6,
                "resident_peak_mb": used.resident_peak_bytes as f64 / 1e6,
            })
        };
        json!({
            "seconds": seconds,
            "records": self.records,
            "batch_bytes": self.bytes,
            "requests": self.requests,
            "records_per_second": self.records_per_second(),
            "mb_per_second": self.bytes as f64 / 1e6 / seconds,
            "requests_per_second": self.requests as f64 / seconds,
            "broker_cpu_s_per_million_records": self.cpu_s_per_million(),
            "broker_cpu_us_per_request": self.broker.filter(|_| self.requests > 0)
                .map(|broker| broker.cpu.as_secs_f64() * 1e6 / self.requests as f64),
            "broker": self.broker.map(used),
            "client": self.client.map(used),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// A link to nobody in particular.
    fn link() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(stream).unwrap(), listener.accept().unwrap().0)
    }

    /// A station whose turns are a closure's.
    struct Scripted<F> {
        link: Link,
        turn: F,
    }

    impl<F: FnMut(&Window) -> Outcome<Turn> + Send> Station<u64> for Scripted<F> {
        fn link(&self) -> &Link {
            &self.link
        }

        fn link_mut(&mut self) -> &mut Link {
            &mut self.link
        }

        fn turn(&mut self, window: &Window, _: bool) -> Outcome<Turn> {
            (self.turn)(window)
        }

        fn finish(self: Box<Self>, _: &Window) -> u64 {
            42
        }
    }

    fn scripted<'a>(turn: impl FnMut(&Window) -> Outcome<Turn> + Send + 'a) -> (Box<dyn Station<u64> + 'a>, TcpStream) {
        let (link, other) = link();
        (Box::new(Scripted { link, turn }), other)
    }

    fn wait_until(due: Instant) -> Outcome<Turn> {
        Ok(Turn::Wait { due: Some(due), owed_since: None })
    }

    #[test]
    fn only_what_happens_within_the_window_counts() {
        const WORK: Duration = Duration::from_millis(30);
        // A thread that is held up does its work, or takes its reading, on the wrong side of a border. The times tell;
        // then it is done again.
        let (measured, results) = (0..)
            .find_map(|attempt| {
                assert!(attempt < 200, "one of the threads is always late");
                let window = Window::new(Duration::from_millis(50), None);
                let (early, progress) = (AtomicBool::new(false), Progress::default());
                let mut turns = 0;
                let (station, _other) = scripted(|window| {
                    turns += 1;
                    if turns == 1 {
                        progress.add(1000, 1);
                        early.store(Instant::now() < window.from, Ordering::Relaxed);
                    }
                    if Instant::now() < window.from + WORK {
                        return wait_until(window.from + WORK);
                    }
                    progress.add(7, 70);
                    Ok(Turn::Done)
                });
                let (measured, results) =
                    measure(&window, Some(std::process::id()), vec![station], 1, &progress).unwrap();
                let first_reading_at_latest = Instant::now() - measured.elapsed;
                let in_time = early.into_inner() && first_reading_at_latest < window.from + WORK;
                in_time.then_some((measured, results))
            })
            .unwrap();
        assert_eq!((measured.records, measured.bytes, measured.requests), (7, 70, 1));
        assert_eq!(results, [42]);
        assert!(
            measured.elapsed > Duration::ZERO && measured.elapsed < Duration::from_secs(60),
            "{:?}",
            measured.elapsed
        );
        assert!(measured.broker.is_some() && measured.json()["broker"]["resident_mb"].as_f64().unwrap() > 0.1);
    }

    #[test]
    fn what_was_due_may_be_sent_a_little_late() {
        for (window_ms, grace_ms) in [(1000, 100), (100, 10), (60_000, 1000)] {
            let window = Window::new(Duration::from_secs(5), Some(Duration::from_millis(window_ms)));
            let after = |ms| window.until.unwrap() + Duration::from_millis(ms);
            assert!(window.is_over(after(0)) && !window.is_over_for_late(after(0)));
            assert!(!window.is_over_for_late(after(grace_ms - 1)) && window.is_over_for_late(after(grace_ms)));
            window.stop.store(true, Ordering::Relaxed);
            assert!(window.is_over_for_late(window.zero));
        }
        let endless = Window::new(Duration::ZERO, None);
        assert!(!endless.is_over_for_late(endless.zero + Duration::from_secs(1000)));
    }

    #[test]
    fn a_station_that_fails_stops_the_others() {
        // In the same thread, and in another.
        for threads in [1, 2, 9] {
            let window = Window::new(Duration::ZERO, Some(Duration::from_secs(600)));
            let (waiting, _one) = scripted(|_| Ok(Turn::Wait { due: None, owed_since: None }));
            let mut turns = 0;
            let (failing, _other) = scripted(|window| {
                turns += 1;
                if turns < 3 { wait_until(window.zero) } else { Err(failure!("broken")) }
            });
            let result = measure(&window, None, vec![waiting, failing], threads, &Progress::default());
            assert_eq!(result.unwrap_err().0, "broken");
        }
    }

    #[test]
    fn a_broker_that_owes_an_answer_for_too_long_ends_the_run() {
        let window = Window::new(Duration::ZERO, Some(Duration::from_secs(600)));
        let long_ago = Instant::now().checked_sub(2 * PATIENCE).unwrap();
        let (mut link, _other) = link();
        link.heard = long_ago;
        let turn = |_: &Window| Ok(Turn::Wait { due: None, owed_since: Some(long_ago) });
        let result = measure(&window, None, vec![Box::new(Scripted { link, turn })], 1, &Progress::default());
        assert!(result.unwrap_err().0.contains("did not answer"));
    }

    #[test]
    fn one_thread_drives_many_stations() {
        let window = Window::new(Duration::ZERO, None);
        let progress = Progress::default();
        let (mut stations, mut others) = (Vec::new(), Vec::new());
        for number in 0..100u64 {
            let mut left = number % 7;
            let progress = &progress;
            let (station, other) = scripted(move |window| {
                if left == 0 {
                    return Ok(Turn::Done);
                }
                left -= 1;
                progress.add(1, 0);
                wait_until(window.zero)
            });
            stations.push(station);
            others.push(other);
        }
        let (measured, results) = measure(&window, None, stations, 3, &progress).unwrap();
        assert_eq!(results, vec![42; 100]);
        assert_eq!(measured.requests, (0..100).map(|number| number % 7).sum::<u64>());
    }
}
