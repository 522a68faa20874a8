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
    let slot = Rc::new(Slot::default());
    (Sender(Rc::clone(&slot)), Receiver(slot))
}

struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: Cell<Option<Waker>>,
    closed: Cell<bool>,
    /// Where it goes when both ends are gone.
    home: Option<Rc<Shelf<T>>>,
}

type Shelf<T> = RefCell<Vec<Rc<Slot<T>>>>;

/// Places for values that are used again, so that waiting allocates nothing once as many
/// were there as wait at a time.
pub struct Slots<T>(Rc<Shelf<T>>);

/// Unused places that are kept.
const UNUSED_SLOTS_MAX: usize = 64;

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(Rc::default())
    }
}

impl<T> Slots<T> {
    /// As [`once`].
    pub fn once(&self) -> (Sender<T>, Receiver<T>) {
        let unused = self.0.borrow_mut().pop();
        let slot = unused.unwrap_or_else(|| Rc::new(Slot { home: Some(Rc::clone(&self.0)), ..Slot::default() }));
        (Sender(Rc::clone(&slot)), Receiver(slot))
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { value: RefCell::new(None), waker: Cell::new(None), closed: Cell::new(false), home: None }
    }
}

/// One of the two ends is about to go. With the last one the place is free.
fn leave<T>(slot: &Rc<Slot<T>>) {
    if let Some(home) = &slot.home
        && Rc::strong_count(slot) == 1
    {
        // What nobody took, and its waker, must not be met by the next user.
        let (value, waker) = (slot.value.take(), slot.waker.take());
        drop((value, waker));
        slot.closed.set(false);
        let mut unused = home.borrow_mut();
        if unused.len() < UNUSED_SLOTS_MAX {
            unused.push(Rc::clone(slot));
        }
    }
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
        leave(&self.0);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        leave(&self.0);
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

    /// Forgets a wake-up that nobody waited for, and who waited before.
    pub fn lower(&self) {
        self.raised.set(false);
        drop(self.waiter.take());
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
    fn places_are_used_again_and_remember_nothing() {
        let slots = Slots::default();
        for round in 0..3 {
            let (sender, mut receiver) = slots.once();
            assert_eq!(receiver.try_take(), None);
            assert_eq!(block_on(poll_once(&mut receiver)), None);
            match round {
                0 => sender.send(5),
                // What was sent to nobody.
                1 => {
                    drop(receiver);
                    assert!(sender.is_abandoned());
                    sender.send(6);
                    assert_eq!(slots.0.borrow().len(), 1);
                    continue;
                }
                _ => drop(sender),
            }
            let expected = if round == 0 { Ok(5) } else { Err(Dropped) };
            assert_eq!(block_on(receiver), expected);
            assert_eq!(slots.0.borrow().len(), 1, "one place is enough");
        }
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
