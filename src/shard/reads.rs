//! Reading from the partitions of one core, for a fetch that came in here or on
//! another core.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::Core;
use super::messages::Read;
use super::partitions::{ReadError, here};
use crate::base::budget::{Budget, Permit};
use crate::base::limits::READS_AT_ONCE;
use crate::base::{LeaderEpoch, Offset, Rope};
use crate::log::aborted::AbortedTransaction;
use crate::log::{LogError, ReadPlan};
use crate::partition::{Bounds, FetchError, Isolation, Partition};
use crate::record::BatchView;
use crate::runtime::task;

/// What a read found.
pub struct Found {
    pub bounds: Bounds,
    /// The consumer's log and ours part here (KIP-595): epoch and its end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub records: Rope,
    /// Of those that a reader of committed records has to leave out.
    pub aborted: Vec<AbortedTransaction>,
    /// What the records hold of the budget.
    pub memory: Option<Permit>,
    /// There are records, but there was no memory for them.
    pub starved: bool,
}

impl Found {
    fn take(&mut self, core: &Core, read: &Read, isolation: Isolation, records: Rope, memory: Permit) {
        if isolation == Isolation::ReadCommitted
            && let Ok(partition) = here(core, read.topic_id, read.partition)
        {
            self.aborted = aborted_among(&partition, read.offset, &records);
        }
        (self.records, self.memory) = (records, Some(memory));
    }
}

/// The aborted transactions that have records among these, which were read from `from` on.
fn aborted_among(partition: &Partition, from: Offset, records: &Rope) -> Vec<AbortedTransaction> {
    if !partition.has_aborted() {
        return Vec::new();
    }
    let mut until = from;
    for piece in records.pieces() {
        let mut bytes = piece.as_slice();
        while let Ok(batch) = BatchView::first(bytes) {
            bytes = &bytes[batch.size()..];
            until = batch.next_offset();
        }
    }
    partition.aborted_within(from, until)
}

/// What a fetch may get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub isolation: Isolation,
    /// Over all partitions.
    pub max_bytes: usize,
    /// The first batch may exceed the limits (KIP-74).
    pub at_least_one: bool,
}

/// Where the memory for records comes from.
#[derive(Clone, Copy)]
pub struct ReadMemory<'a> {
    pub any: &'a Rc<Budget>,
    /// For what lies in memory, when there is no other: so that it does not wait behind reads of a drive that stalls.
    /// `None` where who holds some of it may wait for who asks here.
    pub of_tails: Option<&'a Rc<Budget>>,
}

/// Reads from partitions of this core what is there, without waiting for more, into
/// `results`, which is empty before. The
/// partitions are looked at in their order; what lies on the drive is read for
/// several of them at a time.
///
/// Memory for the records is waited for only as long as
/// nothing is held: fetches that hold some and wait for more could wait for each
/// other for ever. A partition for which there is none then has no records this time.
pub async fn read_all(
    core: &Core,
    reads: &[Read],
    limits: Limits,
    budgets: ReadMemory<'_>,
    results: &mut Vec<Result<Found, ReadError>>,
) {
    let mut planned = Vec::new();
    let mut holds = false;
    let Limits { isolation, max_bytes: mut left, mut at_least_one } = limits;
    for (at, read) in reads.iter().enumerate() {
        let (nothing, plan) = match plan(core, read, isolation, read.max_bytes.min(left), at_least_one) {
            Ok(found) => found,
            Err(error) => {
                results.push(Err(error));
                continue;
            }
        };
        results.push(Ok(nothing));
        if let Some(plan) = plan {
            let bytes = plan.bytes_max();
            let mut budget = budgets.any;
            let mut memory = budget.try_take(bytes);
            if memory.is_none()
                && plan.is_in_memory()
                && let Some(of_tails) = budgets.of_tails
            {
                budget = of_tails;
                memory = budget.try_take(bytes);
            }
            if memory.is_none() && !holds {
                memory = Some(budget.take(bytes).await);
            }
            if let Some(Ok(found)) = results.last_mut() {
                found.starved = memory.is_none();
            }
            if let Some(memory) = memory {
                holds = true;
                at_least_one = false;
                left = left.saturating_sub(bytes);
                match (plan.into_records(), results.last_mut()) {
                    // From memory: there is nothing to wait for.
                    (Ok(records), Some(Ok(found))) => found.take(core, read, isolation, records, memory),
                    (Ok(_), _) => {}
                    (Err(plan), _) => planned.push((at, plan, memory)),
                }
            }
        }
        task::yield_if_needed().await;
    }
    let mut planned = planned.into_iter();
    loop {
        let some: Vec<_> = planned.by_ref().take(READS_AT_ONCE).map(|planned| Box::pin(execute(planned))).collect();
        if some.is_empty() {
            return;
        }
        for (at, records, memory) in all(some).await {
            match (records, &mut results[at]) {
                (Ok(records), Ok(found)) => found.take(core, &reads[at], isolation, records, memory),
                (Err(error), result) => *result = Err(FetchError::from(error).into()),
                (Ok(_), Err(_)) => {}
            }
        }
    }
}

async fn execute((at, plan, mut memory): (usize, ReadPlan, Permit)) -> (usize, Result<Rope, LogError>, Permit) {
    let records = plan.execute().await;
    memory.shrink_to(records.as_ref().map_or(0, Rope::len));
    (at, records, memory)
}

/// Completes when all have. Each is polled when any is woken: only for a few.
async fn all<F: Future>(futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut under_way: Vec<_> = futures.into_iter().map(Some).collect();
    let mut outputs = Vec::with_capacity(under_way.len());
    std::future::poll_fn(|cx| {
        for place in &mut under_way {
            if let Some(future) = place
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                outputs.push(output);
                *place = None;
            }
        }
        if under_way.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

/// What is known of a partition without its records, and how to get those, if there are any.
fn plan(
    core: &Core,
    read: &Read,
    isolation: Isolation,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<(Found, Option<ReadPlan>), ReadError> {
    let partition = here(core, read.topic_id, read.partition)?;
    partition.check_leader_epoch(read.current_leader_epoch)?;
    let bounds = partition.bounds();
    let nothing =
        Found { bounds, diverging: None, records: Rope::new(), aborted: Vec::new(), memory: None, starved: false };
    if read.last_fetched_epoch.0 >= 0 {
        // `Partition.readRecords`: an epoch we never had means that the offset is not ours.
        let Some((epoch, end)) = partition.end_offset_for_epoch(read.last_fetched_epoch) else {
            let (start, end) = (bounds.log_start, bounds.log_end);
            return Err(ReadError::OffsetOutOfRange { offset: read.offset, start, end });
        };
        if epoch < read.last_fetched_epoch || end < read.offset {
            return Ok((Found { diverging: Some((epoch, end)), ..nothing }, None));
        }
    }
    let (bounds, plan) = partition.read_plan(read.offset, max_bytes, at_least_one, isolation)?;
    Ok((Found { bounds, ..nothing }, Some(plan).filter(|plan| plan.bytes_max() > 0)))
}
