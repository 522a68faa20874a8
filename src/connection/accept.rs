//! Accepting connections, and ending those that are idle or stuck.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::session::{self, Session};
use crate::base::wait::Signal;
use crate::runtime::clock;
use crate::runtime::net::Listener;
use crate::runtime::task::{self, OnPanic, Queue};
use crate::shard::Core;

/// How often idle and stuck connections are looked for. Coarse on purpose: the idle
/// limit is minutes.
const SWEEP: Duration = Duration::from_secs(5);
/// A peer that holds memory which others wait for, and has not moved for this long, is
/// disconnected.
const STALL_WHILE_CONTENDED: Duration = Duration::from_secs(10);

/// How long a stop waits for requests under way.
const STOP_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long it lets those who were told something just now get to hear it, before connections end.
const LAST_ANSWERS_MAX: Duration = Duration::from_millis(200);
/// How often it looks whether they have.
const LAST_ANSWERS_LOOK: Duration = Duration::from_millis(1);

/// The connections of one core.
#[derive(Default)]
pub struct Connections {
    sessions: RefCell<BTreeMap<u64, Rc<Session>>>,
    next: Cell<u64>,
    stopping: Cell<bool>,
    /// Raised when a connection has ended.
    ended: Signal,
}

impl Connections {
    pub fn new() -> Rc<Connections> {
        Rc::default()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.sessions.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all of them and waits until their tasks are gone, or for [`STOP_WAIT_MAX`]: what
    /// a request still waits for by then (another core that has stopped) does not come.
    pub async fn stop(&self) {
        self.stopping.set(true);
        let answered = async {
            while self.sessions.borrow().values().any(|session| session.is_answering()) {
                clock::sleep(LAST_ANSWERS_LOOK).await;
            }
        };
        // Fetches may wait for longer; they are told nothing.
        let _ = clock::timeout(LAST_ANSWERS_MAX, answered).await;
        for session in self.sessions.borrow().values() {
            session.disconnect();
        }
        let gone = async {
            while !self.is_empty() {
                self.ended.wait().await;
            }
        };
        if clock::timeout(STOP_WAIT_MAX, gone).await.is_none() {
            tracing::warn!("{} connections did not end within {STOP_WAIT_MAX:?}", self.len());
        }
    }

    /// Ends idle connections (`connections.max.idle.ms`) and, when memory is short,
    /// those that hold it without moving.
    pub async fn sweep(self: Rc<Self>, core: Rc<Core>) {
        while !self.stopping.get() {
            if core.sleep_or_stop(SWEEP).await {
                return;
            }
            let now = clock::moment();
            let idle_max = core.config().connections_max_idle_ms;
            let memories = [core.request_memory(), core.read_memory(), core.read_memory_of_tails()];
            let contended = memories.iter().any(|memory| memory.is_contended());
            for session in self.sessions.borrow().values() {
                let idle = idle_max >= 0 && now.since(session.active()).as_millis() as i64 > idle_max;
                let stuck = session.stalled_since().is_some_and(|since| now.since(since) > STALL_WHILE_CONTENDED);
                if idle || (contended && stuck) {
                    session.disconnect();
                }
            }
        }
    }
}

/// Accepts on one listener until it is stopped.
pub async fn listen(core: Rc<Core>, connections: Rc<Connections>, listener: Rc<Listener>, index: usize) {
    while let Ok(socket) = listener.accept().await {
        if connections.stopping.get() {
            break;
        }
        let id = connections.next.replace(connections.next.get() + 1);
        let session = Session::new(socket);
        connections.sessions.borrow_mut().insert(id, Rc::clone(&session));
        let ended = Ended { connections: Rc::clone(&connections), id };
        let core = Rc::clone(&core);
        task::spawn(Queue::Network, "session", OnPanic::EndTask, async move {
            let _ended = ended;
            session::serve(core, session, index).await;
        });
    }
}

/// Takes a connection off the list however its task ends.
struct Ended {
    connections: Rc<Connections>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(session) = self.connections.sessions.borrow_mut().remove(&self.id) {
            session.disconnect();
        }
        self.connections.ended.raise();
    }
}
