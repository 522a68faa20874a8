//! How far a log has come: appended, written, durable, and who waits for which; and how
//! far its segment files have.
//!
//! An append is *written* and *durable* when its segment is, or before, when the core's
//! journal has it ([`super::journal`]). *Filed* and *flushed* say the same of the segment
//! alone. Each is a type of its own, and their order is asserted at each step:
//! `flushed ≤ durable ≤ written ≤ appended` and `flushed ≤ filed ≤ written`.

use std::collections::VecDeque;

use crate::base::wait;
use crate::base::{Moment, Offset};
use crate::runtime::clock;

use super::LogError;

/// What a byte of the log has gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The drive has completed the direct write, to the segment or the journal: it
    /// survives the end of the process.
    Written,
    /// A flush of that write has completed: it survives a power loss.
    Durable,
}

/// A point that the log has reached: the next offset, and how many bytes of batches
/// were appended up to there since the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    pub offset: Offset,
    pub bytes: u64,
}

/// Batches are in memory up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended(pub Point);
/// Writes of segments have completed up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filed(pub Point);
/// Flushes of segments have covered everything up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flushed(pub Point);
/// The journal has everything up to here that the segments do not have, or not durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Journaled {
    pub to: Point,
    pub durable: bool,
}

/// The points, in order, and when two of them moved.
#[derive(Clone, Debug)]
pub struct Progress {
    appended: Appended,
    written: Point,
    durable: Point,
    filed: Filed,
    flushed: Flushed,
    written_when: Times,
    durable_when: Times,
}

/// When a point moved, for the latest moves: who waited for it may ask a while later, when
/// its turn to answer comes. Empty until the first move.
#[derive(Clone, Default, Debug)]
struct Times(VecDeque<(Offset, Moment)>);

/// Moves that are remembered.
const TIMES_MAX: usize = 32;

impl Times {
    fn moved(&mut self, to: Offset, now: Moment) {
        if self.0.len() == TIMES_MAX {
            // Every second of the older half goes: a drive may write many times while one
            // flush takes its time, and the further back, the less a move more or less matters.
            let mut at = 0;
            self.0.retain(|_| {
                at += 1;
                at > TIMES_MAX / 2 || at % 2 == 0
            });
        }
        self.0.push_back((to, now));
    }

    /// When everything below `offset` had been passed; a little later if it was long ago.
    fn passed(&self, offset: Offset) -> Option<Moment> {
        let at = self.0.partition_point(|(to, _)| *to < offset);
        self.0.get(at).map(|(_, when)| *when)
    }
}

impl Progress {
    /// Of a log that was just opened: all it has is on the drive.
    pub fn opened_at(end: Offset) -> Progress {
        let point = Point { offset: end, bytes: 0 };
        Progress {
            appended: Appended(point),
            written: point,
            durable: point,
            filed: Filed(point),
            flushed: Flushed(point),
            written_when: Times::default(),
            durable_when: Times::default(),
        }
    }

    pub fn appended(&self) -> Point {
        self.appended.0
    }

    pub fn written(&self) -> Point {
        self.written
    }

    pub fn durable(&self) -> Point {
        self.durable
    }

    pub fn filed(&self) -> Point {
        self.filed.0
    }

    pub fn flushed(&self) -> Point {
        self.flushed.0
    }

    pub fn at(&self, stage: Stage) -> Point {
        match stage {
            Stage::Written => self.written,
            Stage::Durable => self.durable,
        }
    }

    /// When everything below `offset` had gone through `stage`; `None` when it has not, or
    /// had when the log was opened.
    pub fn passed(&self, stage: Stage, offset: Offset) -> Option<Moment> {
        match stage {
            Stage::Written => self.written_when.passed(offset),
            Stage::Durable => self.durable_when.passed(offset),
        }
    }

    /// Takes an append of `bytes` up to `end` into account.
    pub fn append(&mut self, end: Offset, bytes: usize) {
        let before = self.appended.0;
        self.appended = Appended(Point { offset: end, bytes: before.bytes + bytes as u64 });
        assert!(before.offset < end, "append up to {end} after {}", before.offset);
    }

    /// Takes a write of a segment into account.
    pub fn file(&mut self, to: Filed) {
        assert!(self.filed.0.offset <= to.0.offset, "filed went back from {:?} to {to:?}", self.filed);
        self.filed = to;
        self.write(to.0, clock::turn_began());
        self.assert_order();
    }

    /// Takes a flush of a segment into account.
    pub fn flush(&mut self, to: Flushed) {
        assert!(self.flushed.0.offset <= to.0.offset, "flushed went back from {:?} to {to:?}", self.flushed);
        self.flushed = to;
        self.make_durable(to.0, clock::turn_began());
        self.assert_order();
    }

    /// Takes a write or a flush of the journal into account.
    pub fn journal(&mut self, Journaled { to, durable }: Journaled) {
        // One look at the clock: who asks sees that both came with one operation.
        let now = clock::turn_began();
        self.write(to, now);
        if durable {
            self.make_durable(to, now);
        }
        self.assert_order();
    }

    fn write(&mut self, to: Point, now: Moment) {
        if self.written.offset < to.offset {
            self.written_when.moved(to.offset, now);
            self.written = to;
        }
    }

    fn make_durable(&mut self, to: Point, now: Moment) {
        if self.durable.offset < to.offset {
            self.durable_when.moved(to.offset, now);
            self.durable = to;
        }
    }

    fn assert_order(&self) {
        let (appended, Filed(filed), Flushed(flushed)) = (self.appended.0, self.filed, self.flushed);
        for (low, high) in [
            (flushed, self.durable),
            (self.durable, self.written),
            (self.written, appended),
            (flushed, filed),
            (filed, self.written),
        ] {
            assert!(
                low.offset <= high.offset && low.bytes <= high.bytes,
                "the order of what is flushed, durable, filed, written and appended is broken: {self:?}"
            );
        }
    }
}

/// Told when the offset has been reached, or why it will not be.
pub type Waiting = wait::Receiver<Result<(), LogError>>;

/// Those who wait for one stage, ordered by offset.
#[derive(Default)]
pub struct Waiters {
    waiting: VecDeque<(Offset, wait::Sender<Result<(), LogError>>)>,
    slots: wait::Slots<Result<(), LogError>>,
}

impl Waiters {
    /// Waits until the stage's point is at or past `offset`.
    pub fn add(&mut self, offset: Offset) -> Waiting {
        let (sender, receiver) = self.slots.once();
        // Appends come in order, so nearly always this is the end.
        let mut at = self.waiting.len();
        while at > 0 && self.waiting[at - 1].0 > offset {
            at -= 1;
        }
        self.waiting.insert(at, (offset, sender));
        receiver
    }

    /// Tells all whose offset is reached. Waking only marks their tasks as ready:
    /// nothing of theirs runs in here.
    pub fn reached(&mut self, offset: Offset) {
        while self.waiting.front().is_some_and(|(wanted, _)| *wanted <= offset) {
            let (_, sender) = self.waiting.pop_front().expect("there is a front");
            sender.send(Ok(()));
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
    }

    /// Tells everyone why their offset is not reached.
    pub fn fail(&mut self, error: &LogError) {
        self.fail_after(Offset(i64::MIN), error);
    }

    /// Tells those who wait for more than `offset` why it is not reached.
    pub fn fail_after(&mut self, offset: Offset, error: &LogError) {
        let kept = self.waiting.partition_point(|(wanted, _)| *wanted <= offset);
        for (_, sender) in self.waiting.split_off(kept) {
            sender.send(Err(error.clone()));
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_told_in_order_of_offset() {
        let mut waiters = Waiters::default();
        let mut waiting: Vec<(i64, Waiting)> =
            [5, 3, 9, 3].into_iter().map(|offset| (offset, waiters.add(Offset(offset)))).collect();
        waiters.reached(Offset(2));
        assert!(waiting.iter_mut().all(|(_, waiting)| waiting.try_take().is_none()));
        waiters.reached(Offset(5));
        let told: Vec<bool> = waiting.iter_mut().map(|(_, waiting)| waiting.try_take().is_some()).collect();
        assert_eq!(told, [true, true, false, true]);
        waiters.fail(&LogError::Closed("t-0".into()));
        assert!(matches!(waiting[2].1.try_take(), Some(Err(LogError::Closed(_)))));
        assert!(waiters.is_empty());
    }

    #[test]
    fn moves_are_remembered_well_enough() {
        let mut times = Times::default();
        assert_eq!(times.passed(Offset(0)), None);
        for move_ in 1..=1000u64 {
            times.moved(Offset(move_ as i64 * 10), Moment(move_));
            assert!(times.0.len() <= TIMES_MAX);
        }
        // Exact for the latest, and never early.
        for move_ in 985..=1000u64 {
            assert_eq!(times.passed(Offset(move_ as i64 * 10 - 3)), Some(Moment(move_)));
        }
        for move_ in [1, 500, 900, 970] {
            assert!(times.passed(Offset(move_ as i64 * 10)) >= Some(Moment(move_)));
        }
        assert_eq!(times.passed(Offset(10_001)), None);
    }

    #[test]
    #[should_panic(expected = "is broken")]
    fn flushed_never_passes_filed() {
        let mut progress = Progress::opened_at(Offset(3));
        progress.append(Offset(7), 100);
        progress.journal(Journaled { to: progress.appended(), durable: true });
        progress.flush(Flushed(progress.appended()));
    }

    #[test]
    fn the_journal_and_the_segment_each_take_it_further() {
        let mut progress = Progress::opened_at(Offset(0));
        let mut points = Vec::new();
        for end in 1..6 {
            progress.append(Offset(end), 10);
            points.push(progress.appended());
        }
        let at = |progress: &Progress| (progress.written().offset.0, progress.durable().offset.0);
        progress.journal(Journaled { to: points[1], durable: false });
        assert_eq!(at(&progress), (2, 0));
        progress.file(Filed(points[0]));
        progress.flush(Flushed(points[0]));
        assert_eq!(at(&progress), (2, 1));
        progress.journal(Journaled { to: points[1], durable: true });
        progress.file(Filed(points[3]));
        assert_eq!(at(&progress), (4, 2));
        // One that was under way while the segment went ahead.
        progress.journal(Journaled { to: points[2], durable: true });
        assert_eq!((at(&progress), progress.flushed().offset), ((4, 3), Offset(1)));
    }
}
