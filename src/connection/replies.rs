//! Answers of one connection, sent in the order of their requests.
//!
//! A request has two stages: ordered (the session may read the next one) and
//! answered. Between them it stands in this queue. Kafka's clients rely on answers
//! in request order (`SocketServer` keeps one request in progress instead).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures_lite::future::poll_once;

use super::finished::{self, About};
use crate::api::{Answer, Kept, Pending};
use crate::base::budget::Permit;
use crate::base::limits::REQUESTS_IN_FLIGHT_MAX;
use crate::base::wait::Signal;
use crate::base::{Moment, Rope};
use crate::metrics::Stage;
use crate::runtime::net::Socket;
use crate::runtime::{clock, task};
use crate::shard::Core;
use crate::wire::{ApiKey, Scratch};

/// An answer that has its place in the order.
struct Entry {
    about: About,
    state: State,
    /// What the request's frame holds; its bytes may be in use until the answer is sent.
    request: Permit,
}

enum State {
    Ready(Answer),
    Waiting(Pending),
}

/// An answer that is on its way.
struct Sending {
    about: About,
    answer_bytes: usize,
    /// Held until it is sent.
    _memory: (Kept, Permit),
}

/// The queue between a session's reader and its writer.
#[derive(Default)]
pub struct Replies {
    entries: RefCell<VecDeque<Entry>>,
    /// Entries queued or being sent.
    under_way: Cell<usize>,
    closed: Cell<bool>,
    /// Raised for the writer: there is an entry, or the queue is closed.
    work: Signal,
    /// Raised for the reader: entries have been sent.
    room: Signal,
    /// When the answer that is being sent last made progress; none is being sent: `None`.
    sending_since: Cell<Option<Moment>>,
}

impl Replies {
    pub fn new() -> Rc<Replies> {
        Rc::default()
    }

    /// Since when the peer has taken nothing of an answer that is on its way.
    pub fn stalled_since(&self) -> Option<Moment> {
        self.sending_since.get()
    }

    /// Whether answers are queued or being sent.
    pub fn are_under_way(&self) -> bool {
        self.under_way.get() > 0
    }

    /// Whether nothing that is queued from now on will be sent.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until another request may be handled beside those under way. A request
    /// that is answered at once (all but Produce) waits for all earlier answers to be
    /// on the wire, so that a client that never reads holds one answer, not many. True when
    /// it had to wait.
    pub async fn room_for(&self, api_key: ApiKey) -> bool {
        let most = if api_key == ApiKey::Produce { REQUESTS_IN_FLIGHT_MAX } else { 1 };
        let mut waited = false;
        while self.under_way.get() >= most && !self.closed.get() {
            waited = true;
            self.room.wait().await;
        }
        waited
    }

    /// Queues an answer that is there.
    pub fn push_ready(&self, about: About, answer: Answer, request: Permit) {
        self.push(Entry { about, state: State::Ready(answer), request });
    }

    /// Queues an answer that follows.
    pub fn push_waiting(&self, about: About, answer: Pending, request: Permit) {
        self.push(Entry { about, state: State::Waiting(answer), request });
    }

    fn push(&self, entry: Entry) {
        self.under_way.set(self.under_way.get() + 1);
        self.entries.borrow_mut().push_back(entry);
        self.work.raise();
    }

    /// No more requests will come; the writer ends when what is queued has been sent.
    pub fn close(&self) {
        self.closed.set(true);
        self.work.raise();
        self.room.raise();
    }

    /// Sends answers as they become due, several in one go when they are ready
    /// together, until the queue is closed and empty or the peer is gone.
    pub async fn send_all(&self, core: &Core, socket: &Socket) {
        // Used again and again: a busy connection allocates for neither.
        let mut rope = Rope::new();
        let mut sending: Vec<Sending> = Vec::new();
        loop {
            let Some(first) = self.next().await else { break };
            let mut entry = Some(first);
            // Taken when there is something to write: while the first answer is waited for,
            // other connections need it.
            let mut small: Option<Scratch> = None;
            while let Some(Entry { mut about, state, request }) = entry.take() {
                let answer = match state {
                    State::Ready(answer) => answer,
                    State::Waiting(mut waiting) => match poll_once(&mut waiting).await {
                        Some(answer) => answer,
                        // The first one is waited for; a later one waits for its turn, so
                        // that what is ready leaves now.
                        None if sending.is_empty() => waiting.await,
                        None => {
                            let state = State::Waiting(waiting);
                            self.entries.borrow_mut().push_front(Entry { about, state, request });
                            break;
                        }
                    },
                };
                let (written, durable) = (answer.safe.written, answer.safe.durable);
                // A write that is durable by itself is not told apart: its time is the price of that.
                let written = written.filter(|written| durable.is_none_or(|durable| *written < durable));
                for (stage, when) in [(Stage::Written, written), (Stage::Durable, durable)] {
                    if let Some(when) = when {
                        about.timeline.mark(stage, when);
                    }
                }
                let small = small.get_or_insert_with(Scratch::take);
                let before = rope.len() + small.len();
                let kept = answer.write(about.head, small, &mut rope);
                let answer_bytes = rope.len() + small.len() - before;
                sending.push(Sending { about, answer_bytes, _memory: (kept, request) });
                entry = self.entries.borrow_mut().pop_front();
            }
            if let Some(mut small) = small.take() {
                rope.push_bytes(small.cut());
            }
            let sent = self.send(socket, &mut rope).await;
            self.under_way.set(self.under_way.get() - sending.len());
            if sent.is_ok() {
                let now = clock::moment();
                for Sending { about, answer_bytes, .. } in &mut sending {
                    about.timeline.mark(Stage::Sent, now);
                    finished::note(core, socket.peer(), about, *answer_bytes);
                }
            }
            sending.clear();
            self.room.raise();
            if let Err(error) = sent {
                tracing::debug!(peer = %socket.peer(), %error, "send");
                break;
            }
        }
        // Nobody will send what is left: requests under way end by themselves.
        self.closed.set(true);
        self.entries.borrow_mut().clear();
        self.room.raise();
    }

    async fn send(&self, socket: &Socket, rope: &mut Rope) -> std::io::Result<()> {
        while !rope.is_empty() {
            self.sending_since.set(Some(clock::turn_began()));
            socket.send_some(rope).await?;
            task::give_way(!rope.is_empty()).await;
        }
        self.sending_since.set(None);
        Ok(())
    }

    async fn next(&self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.entries.borrow_mut().pop_front() {
                return Some(entry);
            }
            if self.closed.get() {
                return None;
            }
            self.work.wait().await;
        }
    }
}
