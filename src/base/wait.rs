//! Waiting within one core: a value handed over once, and a signal that wakes.
//!
//! Single-threaded by construction (`Rc`); never used across cores.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A place for one value that somebody else on this core will fill.
pub fn once<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(Slot { value: RefCell::new(None), waker: Cell::new(None), closed: Cell::new(false) });
    (Sender(Rc::clone(&slot)), Receiver(slot))
}

struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: Cell<Option<Waker>>,
    closed: Cell<bool>,
}

/// Fills the place. Dropped unfilled, the receiver gets [`Dropped`].
pub struct Sender<T>(Rc<Slot<T>>);

/// Waits for the place to be filled.
pub struct Receiver<T>(Rc<Slot<T>>);

/// The sender went away without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answering side went away")]
pub struct Dropped;

impl<T> Sender<T> {
    /// Hands the value over; it is lost when the receiver is gone.
    pub fn send(self, value: T) {
        *self.0.value.borrow_mut() = Some(value);
    }

    /// Whether nobody waits any more.
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The value if it is already there.
    pub fn try_take(&mut self) -> Option<T> {
        self.0.value.borrow_mut().take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Dropped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.0.value.borrow_mut().take() {
            return Poll::Ready(Ok(value));
        }
        if self.0.closed.get() {
            return Poll::Ready(Err(Dropped));
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// Wakes the one task that waits here; a wake-up with nobody waiting is kept for
/// the next wait, several of them count as one. The waiter must look again at
/// the state it waits for: a signal says "look", not "it is so".
#[derive(Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Signal {
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Wakes the waiter, or the next to wait.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Waits until raised, and lowers it. Only one task may wait at a time: a
    /// second one takes the first one's place.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(|cx| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(cx.waker().clone()));
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn a_value_arrives_whichever_side_is_first() {
        let (sender, receiver) = once();
        sender.send(7);
        assert_eq!(block_on(receiver), Ok(7));

        let (sender, receiver) = once();
        let (got, ()) = block_on(zip(receiver, async { sender.send(8) }));
        assert_eq!(got, Ok(8));
    }

    #[test]
    fn a_dropped_side_is_noticed() {
        let (sender, receiver) = once::<i32>();
        let (got, ()) = block_on(zip(receiver, async { drop(sender) }));
        assert_eq!(got, Err(Dropped));
        let (sender, receiver) = once::<i32>();
        drop(receiver);
        assert!(sender.is_abandoned());
    }

    #[test]
    fn a_signal_is_kept_for_the_next_waiter_and_only_once() {
        let signal = Signal::new();
        signal.raise();
        signal.raise();
        block_on(signal.wait());
        assert_eq!(block_on(poll_once(signal.wait())), None);
    }
}
