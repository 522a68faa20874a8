//! Messages between cores: a bounded queue per ordered pair, emptied in batches.
//!
//! For each pair the sender keeps an outbox queue, one task moves its contents in
//! batches into a glommio shared channel, and one task of the receiving core takes
//! them out. Order is kept per pair. glommio counts a channel's waker once per poll
//! in 16 bits, so each channel end belongs to one task that waits for nothing else.
//!
//! A full outbox makes senders wait; nothing is dropped, unless the receiving core
//! is gone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use glommio::GlommioError;
use glommio::channels::shared_channel::{self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender};

use super::task::{self, Events, OnPanic, Queue};
use crate::base::wait::{self, Signal};
use crate::base::{CoreIndex, limits};

/// Batches that may be under way in a channel.
const CHANNEL_BATCHES: usize = 4;

type Batch<M> = Vec<M>;

/// One core's ends of all its channels, to be carried to that core.
pub struct Ends<M: Send + 'static> {
    core: CoreIndex,
    /// By peer; `None` at our own place.
    senders: Vec<Option<SharedSender<Batch<M>>>>,
    receivers: Vec<Option<SharedReceiver<Batch<M>>>>,
}

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
            let (sender, receiver) = shared_channel::new_bounded(CHANNEL_BATCHES);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

impl<M: Send + 'static> Ends<M> {
    /// Joins the mesh; completes when every other core has joined, or has ended
    /// without doing so.
    pub async fn connect(self) -> (Outbox<M>, Inbox<M>) {
        // All ends at once: each connects only when its peer does, and one after
        // the other two cores would wait for each other.
        let mut sending = Vec::new();
        for end in self.senders {
            sending.push(end.map(|end| in_task(async move { end.connect().await })));
        }
        let mut receiving = Vec::new();
        for end in self.receivers {
            receiving.push(end.map(|end| in_task(async move { end.connect().await })));
        }
        let mut lanes = Vec::new();
        for end in sending {
            lanes.push(match end {
                Some(end) => {
                    let lane = Rc::new(Lane::new());
                    let channel = end.await.expect("connecting does not fail");
                    task::spawn(Queue::Log, "mesh sender", OnPanic::StopProcess, pump(Rc::clone(&lane), channel));
                    Some(lane)
                }
                None => None,
            });
        }
        let mut channels = Vec::new();
        for (from, end) in receiving.into_iter().enumerate() {
            if let Some(end) = end {
                channels.push((CoreIndex(from as u16), end.await.expect("connecting does not fail")));
            }
        }
        (Outbox(Rc::new(Lanes { core: self.core, lanes })), Inbox { channels })
    }
}

fn in_task<T: 'static>(future: impl Future<Output = T> + 'static) -> wait::Receiver<T> {
    let (sender, receiver) = wait::once();
    task::spawn(Queue::Log, "mesh connect", OnPanic::StopProcess, async move { sender.send(future.await) });
    receiver
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

async fn pump<M: Send + 'static>(lane: Rc<Lane<M>>, channel: ConnectedSender<Batch<M>>) {
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
        if !send_whole(&channel, batch).await {
            lane.gone.set(true);
            lane.queue.borrow_mut().clear();
            lane.room.notify();
            return;
        }
    }
}

/// Sends a batch when there is room; false: the receiving core has ended.
///
/// glommio's own `send` looks for that only once it finds room. 1. The channel is full.
/// 2. The receiver ends. 3. The reactor wakes the sender, which finds no room and waits
/// again, which the reactor takes for a reason to wake it: a busy loop for ever. Whether
/// the receiver is there, `try_send` says before it looks for room.
async fn send_whole<M: Send + 'static>(channel: &ConnectedSender<Batch<M>>, batch: Batch<M>) -> bool {
    let mut sending = pin!(channel.send(batch));
    std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
        // Should there be room by now, an empty batch goes, which does no harm.
        Poll::Pending => match channel.try_send(Vec::new()) {
            Err(GlommioError::Closed(_)) => Poll::Ready(false),
            _ => Poll::Pending,
        },
    })
    .await
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
    channels: Vec<(CoreIndex, ConnectedReceiver<Batch<M>>)>,
}

impl<M: Send + 'static> Inbox<M> {
    /// Calls `handler` with every message and the core it came from, one task per
    /// core, until that core closes its outbox. The handler returns soon: it starts
    /// a task for what takes longer. A panic in it stops the process.
    ///
    /// `task::all_ended("mesh receiver")` completes when all have ended.
    pub fn serve(self, handler: impl Fn(CoreIndex, M) + 'static) {
        let handler = Rc::new(handler);
        for (from, channel) in self.channels {
            let handler = Rc::clone(&handler);
            task::spawn(Queue::Log, "mesh receiver", OnPanic::StopProcess, async move {
                while let Some(batch) = channel.recv().await {
                    for message in batch {
                        handler(from, message);
                    }
                    task::yield_if_needed().await;
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
        let spin = Some(Duration::from_micros(50));
        let plan = CorePlan { io_memory_bytes: 64 << 10, spin, ..CorePlan::new(cpus, None) };
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
        // More than 32,767 messages one by one: glommio's waker count would end it.
        const COUNT: u32 = 40_000;
        on_cores::<u32, _>(3, |core, ends| async move {
            let (outbox, inbox) = ends.connect().await;
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
            let (outbox, inbox) = ends.connect().await;
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
            let (outbox, inbox) = ends.connect().await;
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
            let (outbox, inbox) = ends.connect().await;
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
            let (outbox, inbox) = ends.connect().await;
            drop(inbox);
            if core.0 == 0 {
                while outbox.send(CoreIndex(1), 1).await.is_ok() {
                    task::yield_now().await;
                }
            }
        });
    }
}
