//! The frame around every measurement: workers in threads of their own, a window
//! of time in which things count, and what broker and client used meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure;
use crate::failure::Outcome;
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

impl Window {
    pub fn new(warm_up: Duration, duration: Option<Duration>) -> Window {
        // Some time to start the threads before the first request is due.
        let zero = Instant::now() + Duration::from_millis(20);
        let from = zero + warm_up;
        Window { zero, from, until: duration.map(|duration| from + duration), stop: AtomicBool::new(false) }
    }

    /// The same clock and warm-up, for work that ends by itself.
    pub fn without_end(&self) -> Window {
        Window { zero: self.zero, from: self.from, until: None, stop: AtomicBool::new(false) }
    }

    /// Whether nothing may be sent any more at `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until) || self.stop.load(Ordering::Relaxed)
    }

    pub fn was_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Nanoseconds of the run's clock.
    pub fn clock(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.zero).as_nanos() as u64
    }
}

/// What one worker has done so far. Written by it alone, read at the window's ends.
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

fn done(progress: &[Progress]) -> Done {
    let sum = |of: fn(&Progress) -> &AtomicU64| progress.iter().map(|p| of(p).load(Ordering::Relaxed)).sum();
    Done { records: sum(|p| &p.records), bytes: sum(|p| &p.bytes), requests: sum(|p| &p.requests) }
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

/// A worker: runs in its own thread and counts what it did.
pub type Worker<'a, T> = Box<dyn FnOnce(&Window, &Progress) -> Outcome<T> + Send + 'a>;

/// Runs the workers to their end. Only the first `counted` of them count in
/// [`Measured`]: an end-to-end run's consumers do not.
pub fn measure<T: Send>(
    window: &Window,
    broker_pid: Option<u32>,
    workers: Vec<Worker<'_, T>>,
    counted: usize,
) -> Outcome<(Measured, Vec<T>)> {
    let progress: Vec<Progress> = workers.iter().map(|_| Progress::default()).collect();
    let expected = workers.len();
    let read_broker = || broker_pid.map(Usage::of).transpose();
    let read_client = || Usage::of(std::process::id()).ok();
    std::thread::scope(|scope| {
        let (report, reports) = mpsc::channel();
        for (index, (worker, progress)) in workers.into_iter().zip(&progress).enumerate() {
            let report = report.clone();
            scope.spawn(move || {
                crate::pace::sharpen_timer();
                let result = worker(window, progress);
                if result.is_err() {
                    window.stop.store(true, Ordering::Relaxed);
                }
                let _ = report.send((index, result));
            });
        }
        drop(report);

        let mut results: Vec<Option<Outcome<T>>> = (0..expected).map(|_| None).collect();
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

        // Without a warm-up the readings are taken before the first request, so that
        // none slips by between its due time and ours.
        let no_warm_up = window.from == window.zero;
        if !no_warm_up {
            collect(Some(window.from));
        }
        let (before, broker_before, client_before) = (done(&progress[..counted]), read_broker(), read_client());
        let begun = if no_warm_up { window.zero } else { Instant::now() };
        if let Some(until) = window.until {
            collect(Some(until));
        } else {
            collect(None);
        }
        let (after, broker_after, client_after, ended) =
            (done(&progress[..counted]), read_broker(), read_client(), Instant::now());
        collect(None);

        let mut finished = Vec::with_capacity(expected);
        for result in results {
            finished.push(result.unwrap_or_else(|| Err(failure!("a worker ended without a report")))?);
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

    #[test]
    fn only_what_happens_within_the_window_counts() {
        const WORK: Duration = Duration::from_millis(30);
        // A thread that is held up does its work, or takes its reading, on the wrong side of a border. The times tell;
        // then it is done again.
        let (measured, results) = (0..)
            .find_map(|attempt| {
                assert!(attempt < 200, "one of the threads is always late");
                let window = Window::new(Duration::from_millis(50), None);
                let early = AtomicBool::new(false);
                let worker: Worker<'_, u64> = Box::new(|window, progress| {
                    progress.add(1000, 1);
                    early.store(Instant::now() < window.from, Ordering::Relaxed);
                    crate::pace::wait_until(window.from + WORK);
                    progress.add(7, 70);
                    Ok(42)
                });
                let (measured, results) = measure(&window, Some(std::process::id()), vec![worker], 1).unwrap();
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
    fn a_worker_that_fails_stops_the_others() {
        let window = Window::new(Duration::ZERO, Some(Duration::from_secs(600)));
        let failing: Worker<'_, ()> = Box::new(|_, _| Err(failure!("broken")));
        let waiting: Worker<'_, ()> = Box::new(|window, _| {
            while !window.is_over(Instant::now()) {
                std::thread::yield_now();
            }
            Ok(())
        });
        let result = measure(&window, None, vec![waiting, failing], 2);
        assert_eq!(result.unwrap_err().0, "broken");
    }
}
