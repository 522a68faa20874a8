//! Whose turn it is at the drive: what is read for consumers that lag stands back behind
//! what producers wait for.
//!
//! A drive, and the kernel's scheduler before it, serve a long queue of reads first: with
//! four reads of 1 MiB under way a small durable write takes twenty milliseconds where
//! alone it takes a tenth of one. So, for each core:
//!
//! * When nothing was written in the last second, reads go as they come.
//! * While anything is written, one read is under way at a time.
//! * While small writes and flushes are waited for, a read goes in pieces of
//!   [`READ_BESIDE_FLUSHES_BYTES`], one after the other, none beginning before the write or
//!   flush that is under way has completed. One, not more: those who read are not held back
//!   for ever.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Moment;
use crate::base::limits::READ_BESIDE_FLUSHES_BYTES;
use crate::base::wait;
use crate::runtime::clock;
use crate::runtime::disk::{Buffer, File, Slice};
use crate::runtime::task;

/// How long after a write reads stand back.
const LATELY: Duration = Duration::from_secs(1);

/// The turns of one core.
pub(super) struct Turns {
    lately: Duration,
    /// Writes and flushes under way that producers wait for.
    urgent: Cell<usize>,
    last_urgent: Cell<Option<Moment>>,
    last_write: Cell<Option<Moment>>,
    reading: Cell<bool>,
    /// First come, first served.
    waiting: RefCell<VecDeque<wait::Sender<Turn>>>,
}

impl Turns {
    pub fn new() -> Rc<Turns> {
        Turns::with(LATELY)
    }

    /// Reads stand back for `lately` after a write.
    pub fn with(lately: Duration) -> Rc<Turns> {
        Rc::new(Turns {
            lately,
            urgent: Cell::new(0),
            last_urgent: Cell::default(),
            last_write: Cell::default(),
            reading: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// A write, or a flush of one, begins; it ends when what is returned is dropped. `urgent`: it is
    /// small, and a producer waits for it.
    pub fn begin_write(self: &Rc<Self>, urgent: bool) -> Option<Urgent> {
        let last = if urgent { &self.last_urgent } else { &self.last_write };
        last.set(Some(clock::turn_began()));
        urgent.then(|| {
            self.urgent.set(self.urgent.get() + 1);
            task::make_haste();
            Urgent(Rc::clone(self))
        })
    }

    /// As [`File::read`], when it is its turn.
    ///
    /// # Errors
    /// As [`File::read`].
    pub async fn read(self: &Rc<Self>, file: &File, position: u64, len: usize) -> io::Result<Slice> {
        if self.urgent.get() > 0 || self.lately(&self.last_urgent) {
            file.read_by_turns(position, len, READ_BESIDE_FLUSHES_BYTES, || self.turn()).await
        } else {
            let _turn = if self.lately(&self.last_write) { Some(self.turn().await) } else { None };
            file.read(position, len).await
        }
    }

    /// As [`File::write`], when it is its turn: for what nobody waits for.
    ///
    /// # Errors
    /// As [`File::write`].
    pub async fn write(self: &Rc<Self>, file: &File, buffer: &Rc<Buffer>, position: u64) -> io::Result<()> {
        let beside = self.urgent.get() > 0 || self.lately(&self.last_urgent) || self.lately(&self.last_write);
        let _turn = if beside { Some(self.turn().await) } else { None };
        file.write(Rc::clone(buffer), position).await
    }

    fn lately(&self, last: &Cell<Option<Moment>>) -> bool {
        last.get().is_some_and(|at| clock::moment().since(at) < self.lately)
    }

    async fn turn(self: &Rc<Self>) -> Turn {
        let free = !self.reading.get() && self.urgent.get() == 0;
        if free && self.waiting.borrow().is_empty() {
            self.reading.set(true);
            return Turn(Rc::clone(self));
        }
        let (sender, receiver) = wait::once();
        self.waiting.borrow_mut().push_back(sender);
        receiver.await.expect("who waits is served as long as the turns are there")
    }

    /// Gives the next turn to who waits for it.
    fn serve(self: &Rc<Self>) {
        if self.reading.get() {
            return;
        }
        loop {
            let Some(first) = self.waiting.borrow_mut().pop_front() else { return };
            if !first.is_abandoned() {
                self.reading.set(true);
                first.send(Turn(Rc::clone(self)));
                return;
            }
        }
    }
}

/// See [`Turns::begin_write`].
pub(super) struct Urgent(Rc<Turns>);

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.urgent.set(self.0.urgent.get() - 1);
        // Also when another is under way already: see the module.
        self.0.serve();
    }
}

/// The turn to read.
struct Turn(Rc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.reading.set(false);
        if self.0.urgent.get() == 0 {
            self.0.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_lite::future::{poll_once, yield_now, zip};

    use super::*;
    use crate::runtime::disk::Open;
    use crate::runtime::disk::simulated::{SimulatedDisk, Verb, When};
    use crate::runtime::run_one;

    const BYTES: usize = 5 * READ_BESIDE_FLUSHES_BYTES;

    struct Setup {
        disk: SimulatedDisk,
        file: File,
        turns: Rc<Turns>,
    }

    impl Setup {
        async fn new() -> Setup {
            let disk = SimulatedDisk::new();
            let file = disk.disk().open(Path::new("/f"), Open::CREATE_NEW).await.unwrap();
            let mut buffer = Buffer::with_capacity(BYTES);
            let bytes: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
            buffer.push(&bytes);
            file.write(Rc::new(buffer), 0).await.unwrap();
            Setup { disk, file, turns: Turns::with(Duration::from_secs(3600)) }
        }

        fn reads(&self) -> usize {
            self.disk.count(Verb::Read, |_| true)
        }

        /// All of the file but its first and last thousand bytes.
        async fn read(&self) {
            let bytes = self.turns.read(&self.file, 1000, BYTES - 2000).await.unwrap();
            assert_eq!(bytes.len(), BYTES - 2000);
            assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == ((i + 1000) % 251) as u8));
        }
    }

    /// Lets everything that can go on go on.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[test]
    fn where_nothing_is_written_reads_go_as_they_come() {
        run_one(async {
            let setup = Setup::new().await;
            let stall = setup.disk.stall(When::verb(Verb::Read));
            let (mut first, second) = (Box::pin(setup.read()), setup.read());
            assert!(poll_once(&mut first).await.is_none());
            second.await;
            stall.release();
            first.await;
            assert_eq!(setup.reads(), 2);
        });
    }

    #[test]
    fn beside_large_writes_one_read_is_under_way_at_a_time() {
        run_one(async {
            let setup = Setup::new().await;
            assert!(setup.turns.begin_write(false).is_none());
            let stall = setup.disk.stall(When::verb(Verb::Read));
            let (mut first, mut second) = (Box::pin(setup.read()), Box::pin(setup.read()));
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none());
            settle().await;
            assert!(poll_once(&mut second).await.is_none());
            assert_eq!(setup.reads(), 1);
            stall.release();
            zip(first, second).await;
            assert_eq!(setup.reads(), 2);
        });
    }

    #[test]
    fn a_read_stands_back_behind_what_producers_wait_for() {
        run_one(async {
            let setup = Setup::new().await;
            let urgent = setup.turns.begin_write(true);
            let mut read = Box::pin(setup.read());
            assert!(poll_once(&mut read).await.is_none());
            settle().await;
            assert!(poll_once(&mut read).await.is_none());
            assert_eq!(setup.reads(), 0, "before the write has completed");
            // The next is under way when the first completes: one piece is read.
            let next = setup.turns.begin_write(true);
            drop(urgent);
            settle().await;
            while setup.reads() == 0 {
                assert!(poll_once(&mut read).await.is_none());
                yield_now().await;
            }
            for _ in 0..100 {
                assert!(poll_once(&mut read).await.is_none());
                yield_now().await;
            }
            assert_eq!(setup.reads(), 1, "while the second write is under way");
            drop(next);
            read.await;
            assert_eq!(setup.reads(), 5);
        });
    }

    #[test]
    fn who_gives_up_leaves_the_turn_to_others() {
        run_one(async {
            let setup = Setup::new().await;
            let urgent = setup.turns.begin_write(true);
            let (mut first, mut second) = (Box::pin(setup.read()), Box::pin(setup.read()));
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none());
            // One has the turn and does not know it yet.
            drop(urgent);
            drop(first);
            second.await;
            // One waits no more when the turn is given.
            let urgent = setup.turns.begin_write(true);
            let (mut first, mut second) = (Box::pin(setup.read()), Box::pin(setup.read()));
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none());
            drop(first);
            drop(urgent);
            second.await;
        });
    }
}
