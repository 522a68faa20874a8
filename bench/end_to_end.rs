//! End to end: one process produces at a rate and reads the same records back.
//! Every record carries the moment at which it was meant to leave; its latency is
//! from then until the consumer holds it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::batches::Fetched;
use crate::consume::{Next, Reader};
use crate::failure::Outcome;
use crate::latency::Latencies;
use crate::run::{Progress, Window};

/// How long the consumers wait for the last records once all were acknowledged.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(10);

/// What producers tell consumers about the end.
#[derive(Default)]
pub struct Ending {
    producers_running: AtomicUsize,
    records_sent: AtomicU64,
    records_received: AtomicU64,
}

impl Ending {
    pub fn new(producers: usize) -> Ending {
        Ending { producers_running: AtomicUsize::new(producers), ..Ending::default() }
    }

    /// A producer ended, with `records` acknowledged.
    pub fn producer_ended(&self, records: u64) {
        self.records_sent.fetch_add(records, Ordering::AcqRel);
        self.producers_running.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_complete(&self) -> bool {
        self.producers_running.load(Ordering::Acquire) == 0
            && self.records_received.load(Ordering::Acquire) >= self.records_sent.load(Ordering::Acquire)
    }

    /// Records acknowledged to the producers and seen by the consumers.
    pub fn records(&self) -> (u64, u64) {
        (self.records_sent.load(Ordering::Acquire), self.records_received.load(Ordering::Acquire))
    }
}

/// What one tailing consumer measured.
pub struct Tailed {
    pub from_intended: Latencies,
    pub from_actual: Latencies,
    pub fetches: Latencies,
}

/// Follows its partitions until everything that was acknowledged has arrived.
pub fn tail(reader: Reader, window: &Window, progress: &Progress, run_id: u64, ending: &Ending) -> Outcome<Tailed> {
    let (mut from_intended, mut from_actual) = (Latencies::new(), Latencies::new());
    let mut ended_at: Option<Instant> = None;
    // The reader must outlive the window: the last records are still under way then.
    let endless = window.without_end();
    let see = |batch: Option<&Fetched<'_>>, now: Instant| {
        let Some(batch) = batch else {
            if window.was_stopped() || ending.is_complete() {
                return Next::Stop;
            }
            if ending.producers_running.load(Ordering::Acquire) == 0
                && now - *ended_at.get_or_insert(now) > LAST_RECORDS_WAIT
            {
                return Next::Stop;
            }
            return Next::Continue;
        };
        let Some(stamp) = batch.stamp().filter(|stamp| stamp.run == run_id) else { return Next::Continue };
        ending.records_received.fetch_add(batch.records(), Ordering::AcqRel);
        let intended = window.zero + Duration::from_nanos(stamp.intended_ns);
        if intended >= window.from {
            let actual = window.zero + Duration::from_nanos(stamp.actual_ns);
            from_intended.record(now.saturating_duration_since(intended), batch.records());
            from_actual.record(now.saturating_duration_since(actual), batch.records());
        }
        Next::Continue
    };
    let received = reader.run(&endless, progress, false, see)?;
    Ok(Tailed { from_intended, from_actual, fetches: received.fetches })
}
