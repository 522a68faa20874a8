//! Messages from any thread to one core: how a thread that is no core asks something of
//! one. For rare questions, not for the data path: a lock is held for as long as it takes
//! to put a message in or out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Messages that may wait; the sender is refused beyond it.
const WAITING_MAX: usize = 16;

struct Shared<T>(Mutex<State<T>>);

struct State<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that holds the lock can leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mailbox: the sender may go to any thread, the receiver to the core that will ask it.
pub fn mailbox<T: Send>() -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), waker: None, closed: false };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Puts messages in.
pub struct Sender<T>(Arc<Shared<T>>);

/// Takes messages out, on one core.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Puts a message in.
    ///
    /// # Errors
    /// The message, when the receiver is gone or too many wait.
    pub fn send(&self, message: T) -> Result<(), T> {
        let waker = {
            let mut state = self.0.lock();
            if state.closed || state.waiting.len() >= WAITING_MAX {
                return Err(message);
            }
            state.waiting.push_back(message);
            state.waker.take()
        };
        // A waker takes locks of its own.
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next message. May be dropped while it waits; one task may wait at a time.
    pub fn next(&self) -> impl Future<Output = T> + '_ {
        std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            match state.waiting.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Also the waker: it must not outlive the executor it belongs to.
        let gone = {
            let mut state = self.0.lock();
            state.closed = true;
            (std::mem::take(&mut state.waiting), state.waker.take())
        };
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::run_one;

    #[test]
    fn messages_of_another_thread_arrive_in_order_until_the_receiver_goes() {
        let (sender, receiver) = mailbox();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in 0..3 {
                sender.send(number).unwrap();
            }
            // The rest comes while the core sleeps in its ring.
            is_ready.recv().unwrap();
            sender.send(3).unwrap();
            is_ready.recv().unwrap_err();
            sender
        });
        run_one(async move {
            for expected in 0..3 {
                assert_eq!(receiver.next().await, expected);
            }
            ready.send(()).unwrap();
            assert_eq!(receiver.next().await, 3);
            drop(receiver);
            drop(ready);
        });
        assert_eq!(thread.join().unwrap().send(4), Err(4));
    }

    #[test]
    fn a_receiver_that_does_not_look_is_not_buried() {
        let (sender, _receiver) = mailbox();
        for number in 0..WAITING_MAX {
            sender.send(number).unwrap();
        }
        assert_eq!(sender.send(100), Err(100));
    }
}
