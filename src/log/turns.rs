//! Whose turn it is at the drive: what is read for consumers that lag, and what compaction does, stands back behind
//! what producers wait for.
//!
//! A drive, and the kernel's scheduler before it, serve a long queue of reads first: with
//! four reads of 1 MiB under way a small durable write takes twenty milliseconds where
//! alone it takes a tenth of one. And beside a single read of 64 KiB it takes twice as long as alone, of each hundred the
//! slowest also where one in fifty meets one. So, for each core:
//!
//! * When nothing was written in the last second, reads go as they come.
//! * While anything is written, one read is under way at a time.
//! * While small writes and flushes are waited for, a read goes in pieces of
//!   [`READ_BESIDE_FLUSHES_BYTES`], one after the other, none beginning while a write or
//!   flush is under way; only where it ends before the next is to be expected, as the shortest of the
//!   last [`GAPS`] gaps between them says. Who comes at a steady pace hardly notices them then.
//! * Who reads is not held back for ever: where there is no such gap, for [`REST`] times as long as a
//!   piece takes there is one, when the write or flush that is under way has completed.
//! * Nor less than it needs to catch up with producers that never pause: for each byte that they append
//!   [`AT_LEAST`] may be read or written, whatever a piece takes (on a core that others keep busy as well: long).
//!
//! Writes that nobody waits for, and the flushes of such, go the same way.

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
/// Gaps that are remembered.
const GAPS: usize = 16;
/// See the module.
const REST: u32 = 8;
/// See the module: a copy that is made reads and writes each byte, and others want turns too.
const AT_LEAST: usize = 4;
/// Pieces that are begun at most for what was appended before anybody asked.
const SAVED_MAX: usize = 16;
/// A gap that lasts as long as this, and twice as long as those before, is no gap any more.
const PAUSE: Duration = Duration::from_millis(10);

/// What a turn is for: each takes its own time.
#[derive(Clone, Copy)]
enum Work {
    Read,
    Write,
    Sync,
}

/// The turns of one core.
pub(super) struct Turns {
    lately: Duration,
    /// Writes and flushes under way that producers wait for.
    urgent: Cell<usize>,
    last_urgent: Cell<Option<Moment>>,
    last_write: Cell<Option<Moment>>,
    gaps: RefCell<Gaps>,
    /// By [`Work`].
    takes: [Cell<Duration>; 3],
    last_turn: Cell<Option<Moment>>,
    /// Bytes that were appended, times [`AT_LEAST`], less those of the turns since.
    owed: Cell<usize>,
    under_way: Cell<bool>,
    /// First come, first served.
    waiting: RefCell<VecDeque<(Work, wait::Sender<Turn>)>>,
}

/// How long nothing urgent was under way, the last times.
#[derive(Default)]
struct Gaps {
    lengths: VecDeque<Duration>,
    /// Of the present one; none while something is under way, or before anything was.
    began: Option<Moment>,
}

impl Gaps {
    fn ends(&mut self, now: Moment) {
        if let Some(began) = self.began.take() {
            if self.lengths.len() == GAPS {
                self.lengths.pop_front();
            }
            self.lengths.push_back(now.since(began));
        }
    }

    /// Whether what takes so long, and begins now, will have ended before the present gap does.
    fn has_room(&self, takes: Duration, now: Moment) -> bool {
        let Some(began) = self.began else { return true };
        let lasts = now.since(began);
        let (shortest, longest) = (self.lengths.iter().min(), self.lengths.iter().max());
        let pause = longest.map_or(PAUSE, |longest| PAUSE.max(*longest * 2));
        shortest.is_none_or(|shortest| lasts + takes <= *shortest) || lasts >= pause
    }
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
            gaps: RefCell::default(),
            takes: Default::default(),
            last_turn: Cell::default(),
            owed: Cell::default(),
            under_way: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// A producer's batch was appended, which is to be written.
    pub fn appended(&self, bytes: usize) {
        self.owed.set((self.owed.get() + AT_LEAST * bytes).min(SAVED_MAX * READ_BESIDE_FLUSHES_BYTES));
    }

    /// A write, or a flush of one, begins; it ends when what is returned is dropped. `urgent`: it is
    /// small, and a producer waits for it.
    pub fn begin_write(self: &Rc<Self>, urgent: bool) -> Option<Urgent> {
        let last = if urgent { &self.last_urgent } else { &self.last_write };
        last.set(Some(clock::turn_began()));
        urgent.then(|| {
            if self.urgent.replace(self.urgent.get() + 1) == 0 {
                self.gaps.borrow_mut().ends(clock::moment());
            }
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
            file.read_by_turns(position, len, READ_BESIDE_FLUSHES_BYTES, || self.turn(Work::Read)).await
        } else {
            let _turn = if self.lately(&self.last_write) { Some(self.turn(Work::Read).await) } else { None };
            file.read(position, len).await
        }
    }

    /// As [`File::write`], when it is its turn: for what nobody waits for.
    ///
    /// # Errors
    /// As [`File::write`].
    pub async fn write(self: &Rc<Self>, file: &File, buffer: &Rc<Buffer>, position: u64) -> io::Result<()> {
        let beside = self.urgent.get() > 0 || self.lately(&self.last_urgent) || self.lately(&self.last_write);
        let _turn = if beside { Some(self.turn(Work::Write).await) } else { None };
        file.write(Rc::clone(buffer), position).await
    }

    /// Makes something durable for which nobody waits, when it is its turn.
    pub async fn sync<T>(self: &Rc<Self>, sync: impl Future<Output = T>) -> T {
        let beside = self.urgent.get() > 0 || self.lately(&self.last_urgent);
        let _turn = if beside { Some(self.turn(Work::Sync).await) } else { None };
        sync.await
    }

    fn lately(&self, last: &Cell<Option<Moment>>) -> bool {
        last.get().is_some_and(|at| clock::moment().since(at) < self.lately)
    }

    async fn turn(self: &Rc<Self>, work: Work) -> Turn {
        if self.waiting.borrow().is_empty() && self.may_begin(work, false) {
            return self.begin(work);
        }
        let (sender, mut receiver) = wait::once();
        self.waiting.borrow_mut().push_back((work, sender));
        loop {
            // Where nothing ends that would give it the turn.
            let rest = REST * self.takes[work as usize].get();
            match clock::timeout(rest.max(Duration::from_millis(1)), &mut receiver).await {
                Some(turn) => return turn.expect("who waits is served as long as the turns are there"),
                None => self.serve(false),
            }
        }
    }

    /// `ended`: a write or flush has this moment.
    fn may_begin(&self, work: Work, ended: bool) -> bool {
        if self.under_way.get() {
            return false;
        }
        let (now, takes) = (clock::moment(), self.takes[work as usize].get());
        let is_due = self.owed.get() >= READ_BESIDE_FLUSHES_BYTES;
        let is_rested = is_due || self.last_turn.get().is_none_or(|last| now.since(last) >= REST * takes);
        match self.urgent.get() {
            // Some take longer than most.
            0 => is_rested || self.gaps.borrow().has_room(2 * takes, now),
            // Also when another is under way already: see the module.
            _ => is_rested && ended,
        }
    }

    fn begin(self: &Rc<Self>, work: Work) -> Turn {
        self.under_way.set(true);
        let began = clock::moment();
        self.last_turn.set(Some(began));
        self.owed.set(self.owed.get().saturating_sub(READ_BESIDE_FLUSHES_BYTES));
        Turn { turns: Rc::clone(self), work, began }
    }

    /// Gives the next turn to who waits for it.
    fn serve(self: &Rc<Self>, ended: bool) {
        loop {
            let work = match self.waiting.borrow().front() {
                Some((work, _)) => *work,
                None => return,
            };
            if !self.may_begin(work, ended) {
                return;
            }
            let Some((_, first)) = self.waiting.borrow_mut().pop_front() else { return };
            if !first.is_abandoned() {
                first.send(self.begin(work));
                return;
            }
        }
    }
}

/// See [`Turns::begin_write`].
pub(super) struct Urgent(Rc<Turns>);

impl Drop for Urgent {
    fn drop(&mut self) {
        let left = self.0.urgent.get() - 1;
        self.0.urgent.set(left);
        if left == 0 {
            self.0.gaps.borrow_mut().began = Some(clock::moment());
        }
        self.0.serve(true);
    }
}

/// The turn to do something.
struct Turn {
    turns: Rc<Turns>,
    work: Work,
    began: Moment,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let took = clock::moment().since(self.began);
        let takes = &self.turns.takes[self.work as usize];
        takes.set(if takes.get().is_zero() { took } else { takes.get() * 7 / 8 + took / 8 });
        self.turns.under_way.set(false);
        self.turns.serve(false);
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
    use crate::runtime::simulation::simulate;

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

    const READ: Duration = Duration::from_micros(100);

    /// Urgent writes of 300 µs of so many bytes, with such gaps between them, beside who reads again and again: how
    /// many of the reads began in each gap, and how many were under way when a write began.
    fn beside_writes(gaps: Vec<u64>, bytes: usize) -> (Vec<usize>, usize) {
        simulate(1, async move {
            let turns = Turns::with(Duration::from_secs(3600));
            let (begun, hindered) = (Rc::new(Cell::new(0)), Cell::new(0));
            let stop = Rc::new(Cell::new(false));
            let reader = async {
                while !stop.get() {
                    let _turn = turns.turn(Work::Read).await;
                    begun.set(begun.get() + 1);
                    clock::sleep(READ).await;
                }
            };
            let writer = async {
                let mut in_gaps = Vec::new();
                for gap in gaps {
                    hindered.set(hindered.get() + usize::from(turns.under_way.get()));
                    turns.appended(bytes);
                    let urgent = turns.begin_write(true);
                    clock::sleep(Duration::from_micros(300)).await;
                    let before = begun.get();
                    drop(urgent);
                    clock::sleep(Duration::from_micros(gap)).await;
                    in_gaps.push(begun.get() - before);
                }
                stop.set(true);
                in_gaps
            };
            let ((), in_gaps) = zip(reader, writer).await;
            (in_gaps, hindered.get())
        })
    }

    #[test]
    fn reads_fill_the_gaps_of_who_writes_at_a_steady_pace() {
        let (in_gaps, hindered) = beside_writes(vec![700; 100], 100);
        assert!(in_gaps[3..].iter().all(|reads| (5..=7).contains(reads)), "{in_gaps:?}");
        assert!(hindered <= 2, "{hindered} of 100 writes met a read");
    }

    #[test]
    fn where_gaps_are_short_there_is_a_read_now_and_then() {
        let (in_gaps, _) = beside_writes(vec![50; 100], 100);
        let reads: usize = in_gaps.iter().sum();
        // 35 ms, of which a read may take one part in nine or less.
        assert!((20..45).contains(&reads), "{in_gaps:?}");
    }

    #[test]
    fn who_copies_what_is_written_without_a_pause_is_not_left_behind() {
        const PIECE: usize = READ_BESIDE_FLUSHES_BYTES;
        let reads = |bytes| beside_writes(vec![50; 300], bytes).0.iter().sum::<usize>();
        // All of it read and written, and as much again for others.
        let read = reads(PIECE / 4);
        assert!(read >= 295, "{read}");
        // What a rest gives counts as well: little is added where little is written.
        let (few, none) = (reads(PIECE / 100), reads(0));
        assert!(few <= none + 5, "{few}, without {none}");
    }

    #[test]
    fn a_gap_that_goes_on_is_none_any_more() {
        let mut gaps = vec![50; 30];
        gaps.push(50_000);
        let (in_gaps, _) = beside_writes(gaps, 100);
        assert!((350..=420).contains(&in_gaps[30]), "{in_gaps:?}");
    }
}
