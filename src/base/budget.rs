//! A budget of bytes on one core: whoever needs memory on behalf of a client
//! takes a permit first and waits when there is none, so that memory is bounded
//! and nothing is dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::wait;

/// The bytes that one purpose (request frames, read buffers) may hold on a core.
///
/// Small requests have a reserve that large ones cannot take, and a queue of their
/// own. 1. A hundred peers each announce a frame of 100 MiB and send nothing more.
/// 2. One holds the budget, the others wait for it. 3. Everybody else's requests of
/// some kilobytes go on: at most a quarter of the budget on top of it.
pub struct Budget {
    total: usize,
    small: Class,
    large: Class,
}

/// Requests of one size.
#[derive(Default)]
struct Class {
    used: Cell<usize>,
    /// First come, first served: a larger request is not overtaken for ever by smaller ones.
    waiting: RefCell<VecDeque<(usize, wait::Sender<Permit>)>>,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Rc<Budget> {
        Rc::new(Budget { total, small: Class::default(), large: Class::default() })
    }

    /// Takes `bytes`, waiting for others to give theirs back. A request larger
    /// than the whole budget is granted when no other large one is out, so that one
    /// giant can pass: callers bound the size of a single request themselves.
    pub async fn take(self: &Rc<Budget>, bytes: usize) -> Permit {
        if let Some(permit) = self.try_take(bytes) {
            return permit;
        }
        let (sender, receiver) = wait::once();
        self.class(bytes).waiting.borrow_mut().push_back((bytes, sender));
        receiver.await.expect("the budget answers everyone who waits")
    }

    /// Takes `bytes` if they are free and nobody of that size waits.
    pub fn try_take(self: &Rc<Budget>, bytes: usize) -> Option<Permit> {
        (self.class(bytes).waiting.borrow().is_empty() && self.fits(bytes)).then(|| self.grant(bytes))
    }

    /// Bytes out.
    pub fn used(&self) -> usize {
        self.small.used.get() + self.large.used.get()
    }

    /// Whether somebody waits: the budget is spent.
    pub fn is_contended(&self) -> bool {
        [&self.small, &self.large].iter().any(|class| !class.waiting.borrow().is_empty())
    }

    /// 2 MiB of the usual 128: the largest batch that producers send by default, and
    /// what consumers ask of one partition.
    fn is_small(&self, bytes: usize) -> bool {
        bytes <= self.total / 64
    }

    fn class(&self, bytes: usize) -> &Class {
        if self.is_small(bytes) { &self.small } else { &self.large }
    }

    fn fits(&self, bytes: usize) -> bool {
        let free = self.used() + bytes <= self.total;
        match self.is_small(bytes) {
            true => {
                // While a large one waits, small ones leave it all but their reserve.
                let none_waits = self.large.waiting.borrow().is_empty();
                self.small.used.get() + bytes <= self.total / 4 || (none_waits && free)
            }
            false => self.large.used.get() == 0 || free,
        }
    }

    fn grant(self: &Rc<Budget>, bytes: usize) -> Permit {
        let is_small = self.is_small(bytes);
        let used = &self.class(bytes).used;
        used.set(used.get() + bytes);
        Permit { budget: Rc::clone(self), bytes, is_small }
    }

    fn give_back(self: &Rc<Budget>, bytes: usize, is_small: bool) {
        let class = if is_small { &self.small } else { &self.large };
        class.used.set(class.used.get() - bytes);
        self.serve(&self.large);
        self.serve(&self.small);
    }

    /// Grants what fits to those who wait, in their order.
    fn serve(self: &Rc<Budget>, class: &Class) {
        loop {
            let mut waiting = class.waiting.borrow_mut();
            match waiting.front() {
                // Who waited and went away takes nothing.
                Some((_, sender)) if sender.is_abandoned() => drop(waiting.pop_front()),
                Some((bytes, _)) => {
                    let bytes = *bytes;
                    // `fits` looks at the queue.
                    drop(waiting);
                    if !self.fits(bytes) {
                        break;
                    }
                    let (_, sender) = class.waiting.borrow_mut().pop_front().expect("there is a front");
                    sender.send(self.grant(bytes));
                }
                None => break,
            }
        }
    }
}

/// Bytes taken from a [`Budget`]; given back when dropped.
pub struct Permit {
    budget: Rc<Budget>,
    bytes: usize,
    /// By what was asked for, whatever is left of it.
    is_small: bool,
}

impl Permit {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`, when an estimate was too high.
    pub fn shrink_to(&mut self, bytes: usize) {
        let extra = self.bytes.saturating_sub(bytes);
        self.bytes -= extra;
        self.budget.give_back(extra, self.is_small);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, self.is_small);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn waits_in_order_and_lets_one_giant_pass() {
        block_on(async {
            let budget = Budget::new(100);
            let first = budget.take(60).await;
            let mut giant = Box::pin(budget.take(1000));
            assert!(poll_once(&mut giant).await.is_none());
            // 10 would fit, but the giant came first.
            assert!(budget.try_take(10).is_none());
            let mut small = Box::pin(budget.take(10));
            assert!(poll_once(&mut small).await.is_none());
            drop(first);
            let mut giant = poll_once(&mut giant).await.expect("nothing else is out");
            assert!(poll_once(&mut small).await.is_none());
            giant.shrink_to(90);
            let small = poll_once(&mut small).await.expect("90 + 10 fit");
            assert_eq!(budget.used(), 100);
            drop((giant, small));
            assert_eq!(budget.used(), 0);
        });
    }

    #[test]
    fn small_requests_pass_large_ones_that_wait() {
        block_on(async {
            let budget = Budget::new(6400);
            let giant = budget.take(6400).await;
            let mut next = Box::pin(budget.take(6400));
            assert!(poll_once(&mut next).await.is_none());
            // A quarter of the budget is theirs.
            let mut small: Vec<Permit> = Vec::new();
            for _ in 0..16 {
                small.push(budget.take(100).await);
            }
            let mut one_more = Box::pin(budget.take(100));
            assert!(poll_once(&mut one_more).await.is_none());
            small.pop();
            small.push(poll_once(&mut one_more).await.expect("a place is free"));
            // The next large one comes although small ones are out.
            drop(giant);
            drop(poll_once(&mut next).await.expect("no other large one is out"));
            // And without large ones, small ones may have it all.
            while let Some(permit) = budget.try_take(100) {
                small.push(permit);
            }
            assert_eq!((small.len(), budget.used()), (64, 6400));
        });
    }

    #[test]
    fn an_abandoned_wait_takes_nothing() {
        block_on(async {
            let budget = Budget::new(10);
            let first = budget.take(10).await;
            let mut gone = Box::pin(budget.take(10));
            assert!(poll_once(&mut gone).await.is_none());
            assert!(budget.is_contended());
            drop(gone);
            drop(first);
            assert_eq!(budget.used(), 0);
            assert!(!budget.is_contended());
        });
    }
}
