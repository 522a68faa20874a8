//! How far a log has come: appended, written, durable, and who waits for which.
//!
//! The three are types of their own, and their order is asserted at each step:
//! `start ≤ durable ≤ written ≤ appended`.

use std::collections::VecDeque;

use crate::base::wait;
use crate::base::{Moment, Offset};
use crate::runtime::clock;

use super::LogError;

/// What a byte of the log has gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The drive has completed the direct write: it survives the end of the process.
    Written,
    /// A flush that began after the write has completed: it survives a power loss.
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
/// Writes have completed up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written(pub Point);
/// Flushes have covered everything up to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durable(pub Point);

/// The three points, in order, and when the last two moved.
#[derive(Clone, Debug)]
pub struct Progress {
    appended: Appended,
    written: Written,
    durable: Durable,
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
            written: Written(point),
            durable: Durable(point),
            written_when: Times::default(),
            durable_when: Times::default(),
        }
    }

    pub fn appended(&self) -> Point {
        self.appended.0
    }

    pub fn written(&self) -> Point {
        self.written.0
    }

    pub fn durable(&self) -> Point {
        self.durable.0
    }

    pub fn at(&self, stage: Stage) -> Point {
        match stage {
            Stage::Written => self.written.0,
            Stage::Durable => self.durable.0,
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

    pub fn write(&mut self, to: Written) {
        assert!(self.written.0.offset <= to.0.offset, "written went back from {:?} to {to:?}", self.written);
        if self.written.0.offset < to.0.offset {
            self.written_when.moved(to.0.offset, clock::moment());
        }
        self.written = to;
        self.assert_order();
    }

    pub fn flush(&mut self, to: Durable) {
        assert!(self.durable.0.offset <= to.0.offset, "durable went back from {:?} to {to:?}", self.durable);
        if self.durable.0.offset < to.0.offset {
            self.durable_when.moved(to.0.offset, clock::moment());
        }
        self.durable = to;
        self.assert_order();
    }

    fn assert_order(&self) {
        let (durable, written, appended) = (self.durable.0, self.written.0, self.appended.0);
        assert!(
            durable.offset <= written.offset && written.offset <= appended.offset,
            "durable ≤ written ≤ appended is broken: {self:?}"
        );
        assert!(durable.bytes <= written.bytes && written.bytes <= appended.bytes, "bytes are out of order: {self:?}");
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
    #[should_panic(expected = "durable ≤ written ≤ appended is broken")]
    fn durable_never_passes_written() {
        let mut progress = Progress::opened_at(Offset(3));
        progress.append(Offset(7), 100);
        progress.flush(Durable(progress.appended()));
    }
}
