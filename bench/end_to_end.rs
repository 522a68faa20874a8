//! End to end: one process produces at a rate and reads the same records back.
//! Every record carries the moment at which it was meant to leave; its latency is
//! from then until the consumer holds it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corelog::record::Scratch;

use crate::batches::Fetched;
use crate::consume::Visitor;
use crate::latency::Latencies;
use crate::run::Window;

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
    /// So many producers will end. To be said before the first of them does.
    pub fn expect(&self, producers: usize) {
        self.producers_running.store(producers, Ordering::Release);
    }

    /// A producer ended, with `records` acknowledged.
    pub fn producer_ended(&self, records: u64) {
        self.records_sent.fetch_add(records, Ordering::AcqRel);
        self.producers_running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all producers have ended.
    pub fn is_near(&self) -> bool {
        self.producers_running.load(Ordering::Acquire) == 0
    }

    fn is_complete(&self) -> bool {
        self.is_near() && self.records_received.load(Ordering::Acquire) >= self.records_sent.load(Ordering::Acquire)
    }

    /// Records acknowledged to the producers and seen by the consumers.
    pub fn records(&self) -> (u64, u64) {
        (self.records_sent.load(Ordering::Acquire), self.records_received.load(Ordering::Acquire))
    }
}

/// What one consumer sees of a run's records, until everything that was acknowledged has arrived.
pub struct Tailed<'a> {
    ending: &'a Ending,
    run_id: u64,
    /// When the last producer was seen to have ended.
    ended_at: Option<Instant>,
    scratch: Scratch,
    pub from_intended: Latencies,
    pub from_actual: Latencies,
}

impl<'a> Tailed<'a> {
    pub fn new(ending: &'a Ending, run_id: u64) -> Tailed<'a> {
        Tailed {
            ending,
            run_id,
            ended_at: None,
            scratch: Scratch::new(),
            from_intended: Latencies::new(),
            from_actual: Latencies::new(),
        }
    }
}

impl Visitor for Tailed<'_> {
    fn batch(&mut self, window: &Window, batch: &Fetched<'_>, now: Instant) {
        let Some(stamp) = batch.stamp(&mut self.scratch).filter(|stamp| stamp.run == self.run_id) else { return };
        self.ending.records_received.fetch_add(batch.records(), Ordering::AcqRel);
        let intended = window.zero + Duration::from_nanos(stamp.intended_ns);
        if intended >= window.from {
            let actual = window.zero + Duration::from_nanos(stamp.actual_ns);
            self.from_intended.record(now.saturating_duration_since(intended), batch.records());
            self.from_actual.record(now.saturating_duration_since(actual), batch.records());
        }
    }

    fn is_over(&mut self, _: &Window, now: Instant) -> bool {
        if self.ending.is_complete() {
            return true;
        }
        self.ending.is_near() && now - *self.ended_at.get_or_insert(now) > LAST_RECORDS_WAIT
    }
}
