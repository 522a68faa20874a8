//! What a request needs while it is worked on, used again for later requests: per core,
//! so that a request of usual size allocates nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Lists and the like that can serve one request after the other.
pub trait Reusable: Default + 'static {
    /// Shows this core's unused ones; `None` while the core ends.
    fn with_unused<R>(look: impl FnOnce(&mut Vec<Box<Self>>) -> R) -> Option<R>;

    /// Lets go of everything that belongs to the request, keeping room for the next one.
    /// False: it has become too large to be kept.
    fn clear(&mut self) -> bool;
}

/// Where unused ones wait. They are boxed: they move into requests and back.
pub type Shelf<T> = RefCell<Vec<Box<T>>>;

/// A core keeps as many unused ones: those of some busy connections.
const UNUSED_MAX: usize = 64;

/// One in use; dropped, it serves another request.
pub struct Held<T: Reusable>(Option<Box<T>>);

impl<T: Reusable> Held<T> {
    pub fn take() -> Held<T> {
        Held(Some(T::with_unused(Vec::pop).flatten().unwrap_or_default()))
    }

    /// Nothing, where one was that has been passed on. Not to be looked into.
    pub fn none() -> Held<T> {
        Held(None)
    }
}

impl<T: Reusable> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("there until it is dropped or passed on")
    }
}

impl<T: Reusable> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("there until it is dropped or passed on")
    }
}

impl<T: Reusable> Drop for Held<T> {
    fn drop(&mut self) {
        let Some(mut held) = self.0.take() else { return };
        if !held.clear() {
            return;
        }
        T::with_unused(|unused| {
            if unused.len() < UNUSED_MAX {
                unused.push(held);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct List {
        bytes: Vec<u8>,
    }

    thread_local! {
        static SHELF: Shelf<List> = const { RefCell::new(Vec::new()) };
    }

    impl Reusable for List {
        fn with_unused<R>(look: impl FnOnce(&mut Vec<Box<List>>) -> R) -> Option<R> {
            SHELF.try_with(|shelf| look(&mut shelf.borrow_mut())).ok()
        }

        fn clear(&mut self) -> bool {
            self.bytes.clear();
            self.bytes.capacity() < 100
        }
    }

    #[test]
    fn what_was_used_serves_again_empty_unless_it_has_grown() {
        let mut one = Held::<List>::take();
        one.bytes.extend(b"something");
        let room = one.bytes.capacity();
        drop(one);
        let mut again = Held::<List>::take();
        assert!(again.bytes.is_empty() && again.bytes.capacity() == room);
        again.bytes.reserve(1000);
        drop(again);
        assert_eq!(Held::<List>::take().bytes.capacity(), 0);
    }
}
