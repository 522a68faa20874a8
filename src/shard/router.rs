//! Calls from this core to others, and their answers.
//!
//! A call is *sent* before it is *answered*: what is sent to one core arrives there in
//! the order it was sent, which is what keeps a producer's batches in order.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::Core;
use super::cleaner;
use super::failures;
use super::images::Images;
use super::messages::{Answer, Call, ForwardedProduce, ForwardedRecords, Message};
use super::mover;
use super::partitions::{self, Parking};
use super::points;
use super::reads::{self, ReadMemory};
use super::starts;
use crate::base::CoreIndex;
use crate::base::wait::{self, Receiver, Sender};
use crate::runtime::mesh::Outbox;
use crate::runtime::task::{self, OnPanic, Queue};

/// The way to other cores.
pub struct Router {
    outbox: Outbox<Message>,
    waiting: RefCell<HashMap<u64, Sender<Answer>>>,
    next: Cell<u64>,
    /// Forwarded produces in the order they came, worked off one after the other.
    produces: RefCell<VecDeque<(CoreIndex, u64, ForwardedProduce)>>,
    producing: Cell<bool>,
}

/// The other core cannot be reached: the process is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is stopping")]
pub struct Stopping;

impl Router {
    pub fn new(outbox: Outbox<Message>) -> Router {
        Router {
            outbox,
            waiting: RefCell::default(),
            next: Cell::new(0),
            produces: RefCell::default(),
            producing: Cell::new(false),
        }
    }

    /// Sends a message that wants no answer.
    pub async fn send(&self, to: CoreIndex, message: Message) -> Result<(), Stopping> {
        self.outbox.send(to, message).await.map_err(|_| Stopping)
    }

    /// Sends a call; completes when it has its place in the order of that core. The
    /// answer comes through the receiver, which fails when the process stops.
    pub async fn call(&self, to: CoreIndex, call: Call) -> Result<Receiver<Answer>, Stopping> {
        let id = self.next.replace(self.next.get() + 1);
        let (sender, receiver) = wait::once();
        self.waiting.borrow_mut().insert(id, sender);
        if let Err(stopping) = self.send(to, Message::Call { id, call }).await {
            self.waiting.borrow_mut().remove(&id);
            return Err(stopping);
        }
        Ok(receiver)
    }

    /// Sends a call and waits for its answer.
    pub async fn ask(&self, to: CoreIndex, call: Call) -> Result<Answer, Stopping> {
        self.call(to, call).await?.await.map_err(|_| Stopping)
    }
}

/// Takes a message in. Never blocks: what takes time gets a task.
pub fn receive(core: &Rc<Core>, from: CoreIndex, message: Message) {
    match message {
        Message::Answer { id, answer } => {
            // Whoever asked may have gone away meanwhile.
            let waiting = core.router.waiting.borrow_mut().remove(&id);
            if let Some(sender) = waiting {
                sender.send(answer);
            }
        }
        Message::Call { id, call: Call::Produce(produce) } => {
            core.router.produces.borrow_mut().push_back((from, id, produce));
            if !core.router.producing.replace(true) {
                let core = Rc::clone(core);
                task::spawn(Queue::Network, "forwarded produces", OnPanic::StopProcess, forwarded_produces(core));
            }
        }
        Message::Call { id, call } => {
            let core = Rc::clone(core);
            task::spawn(Queue::Network, "call", OnPanic::StopProcess, async move {
                let answer = handle(&core, call).await;
                // A failure means that the process stops, and with it whoever asked.
                let _ = core.router.send(from, Message::Answer { id, answer }).await;
            });
        }
        Message::Committed(committed) => Images::committed(core, &committed),
        Message::CaughtUp => core.images.caught_up(),
        Message::DirFailed(index) => failures::told(core, index),
        Message::Applied { end } => {
            if let Some(controller) = core.controller.get() {
                controller.applied(from, end);
            }
        }
    }
}

/// Appends what other cores sent, in order; the waiting for durability is spawned off.
async fn forwarded_produces(core: Rc<Core>) {
    loop {
        let next = core.router.produces.borrow_mut().pop_front();
        let Some((from, id, produce)) = next else {
            core.router.producing.set(false);
            return;
        };
        let mut appended = Vec::with_capacity(produce.batches.len());
        for (topic_id, partition, batch) in &produce.batches {
            appended.push(partitions::append(&core, *topic_id, *partition, batch, produce.how).await);
            task::yield_if_needed().await;
        }
        let core = Rc::clone(&core);
        task::spawn(Queue::Network, "forwarded acks", OnPanic::StopProcess, async move {
            let mut results = Vec::with_capacity(appended.len());
            for result in appended {
                results.push(match result {
                    Ok(appended) => appended.acknowledged(produce.how.acks).await,
                    Err(error) => Err(error),
                });
            }
            let _ = core.router.send(from, Message::Answer { id, answer: Answer::Produce(results) }).await;
        });
    }
}

async fn handle(core: &Rc<Core>, call: Call) -> Answer {
    match call {
        Call::Control(intention) => Answer::Control(core.control(intention).await),
        Call::Produce(_) => unreachable!("queued by receive()"),
        Call::Fetch(fetch) => {
            let mut results = Vec::with_capacity(fetch.reads.len());
            let mut found = Vec::with_capacity(fetch.reads.len());
            let memory = ReadMemory { any: &core.reads_for_others, of_tails: None };
            reads::read_all(core, &fetch.reads, fetch.limits, memory, &mut found).await;
            for result in found {
                results.push(result.map(|found| ForwardedRecords {
                    bounds: found.bounds,
                    diverging: found.diverging,
                    // The one copy that crossing cores costs.
                    records: found.records.to_bytes(),
                    aborted: found.aborted,
                    starved: found.starved,
                }));
                task::yield_if_needed().await;
            }
            Answer::Fetch(results)
        }
        Call::Watch { positions, isolation, min_bytes, wait } => {
            let mut parking = Parking::default();
            partitions::wait_for_news(core, &positions, isolation, min_bytes, wait, &mut parking).await;
            Answer::Watch
        }
        Call::ListOffsets(wanted) => {
            let mut results = Vec::with_capacity(wanted.len());
            for query in &wanted {
                results.push(partitions::list_offset(core, query).await);
            }
            Answer::ListOffsets(results)
        }
        Call::EpochEnds(wanted) => {
            Answer::EpochEnds(wanted.iter().map(|query| partitions::epoch_end(core, query)).collect())
        }
        Call::ListGroups => Answer::ListGroups(core.coordinators.list()),
        Call::Cleaned(points) => {
            cleaner::reported(core, &points);
            Answer::Cleaned
        }
        Call::Points { points, first } => Answer::Points(points::reported(core, &points, first).await),
        Call::Move(wanted) => Answer::Move(mover::begin(core, &wanted).await),
        Call::Moving { topic_id, partition, dirs, cleaned } => {
            Answer::Moving(mover::moving(core, (topic_id, partition), &dirs, cleaned).await)
        }
        Call::LogSizes => Answer::LogSizes(partitions::log_sizes(core).await),
        Call::DeleteRecords(deletions) => Answer::DeleteRecords(starts::delete_records(core, &deletions).await),
        Call::Starts(points) => Answer::Starts(starts::reported(core, &points).await),
        Call::Request(request) => match core.handler.get() {
            Some(handler) => Answer::Request(handler(Rc::clone(core), request).await),
            None => Answer::Request(None),
        },
    }
}
