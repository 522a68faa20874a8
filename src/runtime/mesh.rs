//! Messages between cores: a bounded queue per ordered pair, emptied in batches.
//!
//! For each pair the sender keeps an outbox queue, one task moves its contents in
//! batches into a channel, and one task of the receiving core takes them out. Order is
//! kept per pair. Whoever has changed a channel rings the other core's bell.
//!
//! A full outbox makes senders wait; nothing is dropped, unless the receiving core
//! is gone.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use super::cores;
use super::reactor::{self, Bell};
use super::task::{self, Events, OnPanic, Queue};
use crate::base::wait::Signal;
use crate::base::{CoreIndex, limits};

/// Batches that may be under way in a channel.
const CHANNEL_BATCHES: usize = 4;

type Batch<M> = Vec<M>;

/// One core's ends of all its channels, to be carried to that core.
pub struct Ends<M: Send + 'static> {
    core: CoreIndex,
    /// By peer; `None` at our own place.
    senders: Vec<Option<Unconnected<SyncSender<Batch<M>>>>>,
    receivers: Vec<Option<Unconnected<Receiver<Batch<M>>>>>,
}

/// An end of a channel, and what both ends know of it: see [`End`].
type Unconnected<C> = (C, Arc<AtomicBool>);

/// Makes the ends for `cores` cores; the one at index `i` is for core `i`.
pub fn build<M: Send + 'static>(cores: usize) -> Vec<Ends<M>> {
    let mut ends: Vec<Ends<M>> = (0..cores)
        .map(|core| Ends {
            core: CoreIndex(core as u16),
            senders: (0..cores).map(|_| None).collect(),
            receivers: (0..cores).map(|_| None).collect(),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (sender, receiver) = sync_channel(CHANNEL_BATCHES);
            let waits = Arc::new(AtomicBool::new(false));
            ends[from].senders[to] = Some((sender, Arc::clone(&waits)));
            ends[to].receivers[from] = Some((receiver, waits));
        }
    }
    ends
}

impl<M: Send + 'static> Ends<M> {
    /// Takes the ends into use on their core. Others may not have done so yet: what is
    /// sent to them waits.
    pub fn connect(self) -> (Outbox<M>, Inbox<M>) {
        let connect = |(to, end): (usize, Option<_>)| {
            end.map(|(channel, waits)| {
                let lane = Rc::new(Lane::new());
                let end = End::new(channel, CoreIndex(to as u16), waits);
                task::spawn(Queue::Log, "mesh sender", OnPanic::StopProcess, pump(Rc::clone(&lane), end));
                lane
            })
        };
        let lanes = self.senders.into_iter().enumerate().map(connect).collect();
        let receivers = self.receivers.into_iter().enumerate();
        let channels = receivers.filter_map(|(from, end)| {
            let (channel, waits) = end?;
            Some(End::new(channel, CoreIndex(from as u16), waits))
        });
        (Outbox(Rc::new(Lanes { core: self.core, lanes })), Inbox { channels: channels.collect() })
    }
}

/// One end of a channel.
struct End<C> {
    /// There until the end is dropped.
    channel: Option<C>,
    /// The core at the other end.
    other: CoreIndex,
    /// Its bell, once it has started.
    bell: OnceCell<Arc<Bell>>,
    /// The sender waits for room.
    waits: Arc<AtomicBool>,
}

impl<C> End<C> {
    fn new(channel: C, other: CoreIndex, waits: Arc<AtomicBool>) -> End<C> {
        End { channel: Some(channel), other, bell: OnceCell::new(), waits }
    }

    fn channel(&self) -> &C {
        self.channel.as_ref().expect("there until the end is dropped")
    }

    /// Has the other core look at the channel. One that has not started will look anyway.
    fn ring(&self) {
        let Some(core) = cores::try_current() else { return };
        if self.bell.get().is_none()
            && let Some(bell) = core.process().bell(self.other)
        {
            let _ = self.bell.set(bell);
        }
        if let Some(bell) = self.bell.get() {
            bell.ring_for_mail(core.index());
        }
    }
}

impl<C> Drop for End<C> {
    fn drop(&mut self) {
        self.channel = None;
        self.ring();
    }
}

/// What waits to leave for one core.
struct Lane<M> {
    queue: RefCell<VecDeque<M>>,
    filled: Signal,
    /// Counts the times that room was made.
    room: Rc<Events>,
    closed: Cell<bool>,
    /// The receiving core has ended.
    gone: Cell<bool>,
}

impl<M> Lane<M> {
    fn new() -> Lane<M> {
        Lane {
            queue: RefCell::new(VecDeque::new()),
            filled: Signal::new(),
            room: Rc::new(Events::default()),
            closed: Cell::new(false),
            gone: Cell::new(false),
        }
    }

    fn push(&self, message: M) -> Result<(), M> {
        let mut queue = self.queue.borrow_mut();
        if self.gone.get() || self.closed.get() || queue.len() >= limits::MESH_MESSAGES_MAX {
            return Err(message);
        }
        queue.push_back(message);
        self.filled.raise();
        Ok(())
    }
}

async fn pump<M: Send + 'static>(lane: Rc<Lane<M>>, end: End<SyncSender<Batch<M>>>) {
    loop {
        let batch: Batch<M> = {
            let mut queue = lane.queue.borrow_mut();
            let count = queue.len().min(limits::MESH_BATCH_MAX);
            queue.drain(..count).collect()
        };
        if batch.is_empty() {
            if lane.closed.get() {
                return;
            }
            lane.filled.wait().await;
            continue;
        }
        lane.room.notify();
        if !send_whole(&end, batch).await {
            lane.gone.set(true);
            lane.queue.borrow_mut().clear();
            lane.room.notify();
            return;
        }
    }
}

/// Sends a batch when there is room; false: the receiving core has ended.
async fn send_whole<M: Send + 'static>(end: &End<SyncSender<Batch<M>>>, mut batch: Batch<M>) -> bool {
    let peer = reactor::peer(end.other);
    loop {
        match end.channel().try_send(batch) {
            Ok(()) => {
                end.ring();
                return true;
            }
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => batch = back,
        }
        // Said before the channel is looked at again: a receiver that makes room after that look sees it.
        if end.waits.swap(true, Ordering::SeqCst) {
            peer.room.wait().await;
        }
    }
}

/// Sends to the other cores. Clones are the same outbox.
pub struct Outbox<M: Send + 'static>(Rc<Lanes<M>>);

struct Lanes<M> {
    core: CoreIndex,
    lanes: Vec<Option<Rc<Lane<M>>>>,
}

impl<M> Drop for Lanes<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M> Lanes<M> {
    fn close(&self) {
        for lane in self.lanes.iter().flatten() {
            lane.closed.set(true);
            lane.filled.raise();
            lane.room.notify();
        }
    }
}

impl<M: Send + 'static> Clone for Outbox<M> {
    fn clone(&self) -> Outbox<M> {
        Outbox(Rc::clone(&self.0))
    }
}

/// The message was not sent: its core has ended, or the outbox is closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the core is gone")]
pub struct Gone<M>(pub M);

impl<M: Send + 'static> Outbox<M> {
    /// This core.
    pub fn core(&self) -> CoreIndex {
        self.0.core
    }

    /// All other cores.
    pub fn others(&self) -> impl Iterator<Item = CoreIndex> + '_ {
        let present = self.0.lanes.iter().enumerate().filter(|(_, lane)| lane.is_some());
        present.map(|(core, _)| CoreIndex(core as u16))
    }

    fn lane(&self, to: CoreIndex) -> &Rc<Lane<M>> {
        let lane = self.0.lanes.get(usize::from(to.0)).and_then(Option::as_ref);
        lane.unwrap_or_else(|| panic!("core {} has no way to core {to}", self.0.core))
    }

    /// Sends at once, or gives the message back: the outbox for that core is full or
    /// closed, or the core is gone.
    ///
    /// # Panics
    /// When `to` is this core or none.
    pub fn try_send(&self, to: CoreIndex, message: M) -> Result<(), M> {
        self.lane(to).push(message)
    }

    /// Sends, waiting while the outbox for that core is full. Messages of one task
    /// arrive in order.
    ///
    /// # Panics
    /// When `to` is this core or none.
    pub async fn send(&self, to: CoreIndex, mut message: M) -> Result<(), Gone<M>> {
        let lane = Rc::clone(self.lane(to));
        loop {
            let seen = lane.room.count();
            match lane.push(message) {
                Ok(()) => return Ok(()),
                Err(back) if lane.gone.get() || lane.closed.get() => return Err(Gone(back)),
                Err(back) => message = back,
            }
            lane.room.after(seen).await;
        }
    }

    /// Takes no more messages; those taken are still delivered, then the channels
    /// end, and with them the other cores' inboxes for this core. Dropping the last
    /// clone does the same.
    ///
    /// A core waits for `task::all_ended("mesh sender")` before its main future ends:
    /// what has not left by then never will.
    pub fn close(&self) {
        self.0.close();
    }
}

/// Receives from the other cores.
pub struct Inbox<M: Send + 'static> {
    channels: Vec<End<Receiver<Batch<M>>>>,
}

impl<M: Send + 'static> Inbox<M> {
    /// Calls `handler` with every message and the core it came from, one task per
    /// core, until that core closes its outbox. The handler returns soon: it starts
    /// a task for what takes longer. A panic in it stops the process.
    ///
    /// `task::all_ended("mesh receiver")` completes when all have ended.
    pub fn serve(self, handler: impl Fn(CoreIndex, M) + 'static) {
        let handler = Rc::new(handler);
        for end in self.channels {
            let handler = Rc::clone(&handler);
            task::spawn(Queue::Log, "mesh receiver", OnPanic::StopProcess, async move {
                let peer = reactor::peer(end.other);
                loop {
                    match end.channel().try_recv() {
                        Ok(batch) => {
                            if end.waits.swap(false, Ordering::SeqCst) {
                                end.ring();
                            }
                            batch.into_iter().for_each(|message| handler(end.other, message));
                            task::yield_if_needed().await;
                        }
                        Err(TryRecvError::Empty) => peer.mail.wait().await,
                        Err(TryRecvError::Disconnected) => return,
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{CorePlan, allowed_cpus, clock, run_cores};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    fn on_cores<M: Send + 'static, Fut: Future<Output = ()> + 'static>(
        cores: usize,
        main: impl Fn(CoreIndex, Ends<M>) -> Fut + Send + Clone + 'static,
    ) {
        let cpus = allowed_cpus();
        let cpus = (0..cores).map(|core| cpus[core % cpus.len()]).collect();
        let plan = CorePlan::new(cpus);
        let ends = Arc::new(Mutex::new(build::<M>(cores).into_iter().map(Some).collect::<Vec<_>>()));
        run_cores(plan, move |core| {
            let end = ends.lock().unwrap()[usize::from(core.0)].take().unwrap();
            let main = main(core, end);
            async move {
                main.await;
                Ok::<(), String>(())
            }
        })
        .unwrap();
    }

    #[test]
    fn messages_of_a_pair_arrive_in_order_and_all() {
        const COUNT: u32 = 40_000;
        on_cores::<u32, _>(3, |core, ends| async move {
            let (outbox, inbox) = ends.connect();
            let expected = Rc::new(RefCell::new([0u32; 3]));
            let seen = Rc::clone(&expected);
            inbox.serve(move |from, number| {
                let next = &mut seen.borrow_mut()[usize::from(from.0)];
                assert_eq!(number, *next);
                *next += 1;
            });
            for number in 0..COUNT {
                for to in outbox.others() {
                    outbox.send(to, number).await.unwrap();
                }
                if number % 100 == 0 {
                    task::yield_now().await;
                }
            }
            outbox.close();
            assert_eq!(outbox.try_send(CoreIndex((core.0 + 1) % 3), 0), Err(0));
            task::all_ended("mesh receiver").await;
            task::all_ended("mesh sender").await;
            let mut wanted = [COUNT; 3];
            wanted[usize::from(core.0)] = 0;
            assert_eq!(*expected.borrow(), wanted);
        });
    }

    #[test]
    fn a_round_trip_may_be_repeated_for_ever() {
        on_cores::<u32, _>(2, |core, ends| async move {
            let (outbox, inbox) = ends.connect();
            let done = task::StopFlag::new();
            let (answers, done_here) = (outbox.clone(), done.clone());
            inbox.serve(move |from, number| {
                if number == 40_000 {
                    done_here.raise();
                    answers.close();
                } else {
                    answers.try_send(from, number + 1).unwrap();
                    if number == 39_999 {
                        done_here.raise();
                        answers.close();
                    }
                }
            });
            if core.0 == 0 {
                outbox.send(CoreIndex(1), 0).await.unwrap();
            }
            done.raised().await;
            task::all_ended("mesh receiver").await;
            task::all_ended("mesh sender").await;
        });
    }

    #[test]
    fn a_full_outbox_makes_the_sender_wait() {
        on_cores::<u32, _>(2, |core, ends| async move {
            let (outbox, inbox) = ends.connect();
            if core.0 == 1 {
                // Takes nothing until told, then everything.
                let stop = crate::runtime::stop_flag();
                stop.raised().await;
                let seen = Rc::new(Cell::new(0));
                let count = Rc::clone(&seen);
                inbox.serve(move |_, _| count.set(count.get() + 1));
                outbox.close();
                task::all_ended("mesh receiver").await;
                task::all_ended("mesh sender").await;
                assert!(seen.get() as usize > limits::MESH_MESSAGES_MAX);
                return;
            }
            let sent = fill(&outbox, CoreIndex(1)).await;
            let waiting = clock::timeout(Duration::from_millis(5), outbox.send(CoreIndex(1), sent)).await;
            assert_eq!(waiting, None);
            crate::runtime::request_stop();
            outbox.send(CoreIndex(1), sent).await.unwrap();
            outbox.close();
            inbox.serve(|_, _| {});
            task::all_ended("mesh receiver").await;
            task::all_ended("mesh sender").await;
        });
    }

    /// Sends until the channel is full, too: the sending task has had its turns and found no room. Gives the count.
    async fn fill(outbox: &Outbox<u32>, to: CoreIndex) -> u32 {
        let mut sent = 0;
        loop {
            match outbox.try_send(to, sent) {
                Ok(()) => sent += 1,
                Err(_) if sent as usize >= limits::MESH_MESSAGES_MAX + CHANNEL_BATCHES * limits::MESH_BATCH_MAX => {
                    return sent;
                }
                Err(_) => task::yield_now().await,
            }
        }
    }

    #[test]
    fn a_core_that_ends_is_noticed_by_who_waits_for_room() {
        on_cores::<u32, _>(2, |core, ends| async move {
            let (outbox, inbox) = ends.connect();
            if core.0 == 1 {
                crate::runtime::stop_flag().raised().await;
                drop(inbox);
                return;
            }
            let sent = fill(&outbox, CoreIndex(1)).await;
            crate::runtime::request_stop();
            // Both the outbox and the task behind it hear of it.
            let noticed = async {
                while outbox.send(CoreIndex(1), sent).await.is_ok() {}
                task::all_ended("mesh sender").await;
            };
            let patience = Duration::from_secs(60);
            assert_eq!(clock::timeout(patience, noticed).await, Some(()), "nobody noticed");
        });
    }

    #[test]
    fn a_core_that_ends_is_noticed() {
        on_cores::<u32, _>(2, |core, ends| async move {
            let (outbox, inbox) = ends.connect();
            drop(inbox);
            if core.0 == 0 {
                while outbox.send(CoreIndex(1), 1).await.is_ok() {
                    task::yield_now().await;
                }
            }
        });
    }
}
