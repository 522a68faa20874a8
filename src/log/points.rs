//! Recovery points: how far a log need not be read after a crash.
//!
//! A point is an offset below which nothing has to be looked at when the log is opened
//! after an unclean end. It holds when all of this is durable: the batches below it in
//! their segments, the index files of the segment it lies in, telling at least of what is
//! below it, and the snapshot of its offset. In this order they are made so, which is why a
//! snapshot of ours is the proof of its point (`partition`). Who makes the point
//! known across a restart writes `recovery-point-offset-checkpoint` after that.
//!
//! The end of a segment that was sealed is a point by itself. Between, a point costs a
//! flush, two index files and a snapshot, so a core makes them for who wrote much
//! since the last one: [`Unpointed`] says when to look.
//!
//! Making a point and sealing write files of the same names: one excludes the other.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::Offset;
use crate::base::limits::POINT_LOOK_BYTES;
use crate::base::wait::Signal;

use super::progress::Point;
use super::segment::Segment;
use super::{Condition, Inner, Log, LogError, names};

/// What a core's logs have written since somebody looked which of them want a point.
#[derive(Default)]
pub struct Unpointed {
    bytes: Cell<u64>,
    due: Signal,
}

impl Unpointed {
    pub fn new() -> Rc<Unpointed> {
        Rc::default()
    }

    /// Takes a write to a segment into account.
    pub(super) fn wrote(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() >= POINT_LOOK_BYTES {
            self.due.raise();
        }
    }

    /// Completes when logs have written so much that a look at them is due.
    pub async fn wait(&self) {
        self.due.wait().await;
    }

    /// Somebody looks at all of them now.
    pub fn looked(&self) {
        self.bytes.set(0);
        self.due.lower();
    }
}

/// Where a log stands with its points.
pub(super) struct Points {
    /// The last one. Its bytes are those since the log was opened.
    last: Point,
    /// Bytes behind the point that were there when the log was opened.
    before: u64,
    /// Where the last attempt stood: one that failed is not repeated at once.
    tried: Option<u64>,
    /// The offsets of snapshots that were written for points, ascending.
    snapshots: Vec<Offset>,
}

impl Points {
    /// Of a log that was just opened, with `before` bytes behind the point.
    pub fn opened_at(offset: Offset, before: u64) -> Points {
        let snapshots = if offset > Offset::ZERO { vec![offset] } else { Vec::new() };
        Points { last: Point { offset, bytes: 0 }, before, tried: None, snapshots }
    }

    /// Of a log whose files lie elsewhere from now on: a point where its active segment begins, if any.
    fn restarted(active: &Segment, appended: Point) -> Points {
        let (size, bytes) = (active.size(), appended.bytes);
        let last = Point { offset: active.base, bytes: bytes.saturating_sub(size) };
        Points { last, before: size.saturating_sub(bytes), tried: None, snapshots: Vec::new() }
    }

    /// Takes snapshots into account at which no segment begins any more.
    pub fn add_snapshots(&mut self, offsets: &[Offset]) {
        self.snapshots.extend_from_slice(offsets);
        self.snapshots.sort_unstable();
    }

    fn advance(&mut self, to: Point) {
        if to.offset > self.last.offset {
            self.last = to;
            self.before = 0;
        }
    }
}

impl Log {
    /// The log's recovery point; 0 if it has none.
    pub fn recovery_point(&self) -> Offset {
        self.0.state.borrow().points.last.offset
    }

    /// Bytes that a start after a crash would have to read, were the last point known to it.
    pub fn bytes_behind_point(&self) -> u64 {
        let state = self.0.state.borrow();
        state.progress.appended().bytes - state.points.last.bytes + state.points.before
    }

    /// As [`Log::bytes_behind_point`], but behind the last attempt to make one.
    pub fn bytes_since_point_tried(&self) -> u64 {
        let state = self.0.state.borrow();
        let (appended, points) = (state.progress.appended().bytes, &state.points);
        match points.tried {
            Some(tried) => appended - tried.max(points.last.bytes),
            None => appended - points.last.bytes + points.before,
        }
    }

    /// Says that there is a point at `offset`, of which there is a snapshot: the log was closed
    /// cleanly and opened again.
    pub fn point_at(&self, offset: Offset) {
        let mut state = self.0.state.borrow_mut();
        let end = state.progress.appended().offset;
        let active = Rc::clone(state.active());
        if offset >= active.base && offset > Offset::ZERO {
            let behind = active.size() - active.about_position(offset, end);
            state.points = Points::opened_at(offset, behind);
        }
    }

    /// Makes the log's end, as it is now, a recovery point; `producers` are the bytes of the
    /// snapshot of this moment. Gives the point; `None` when there is none to be made: nothing
    /// is in the active segment, or it was rolled or the log closed meanwhile.
    ///
    /// # Errors
    /// The log has ended, or a file could not be written: then the log goes on as it is.
    pub async fn make_point(&self, producers: Vec<u8>) -> Result<Option<Offset>, LogError> {
        let inner = &self.0;
        let (segment, to, entries) = {
            let mut state = inner.state.borrow_mut();
            let to = state.progress.appended();
            let segment = Rc::clone(state.active());
            state.points.tried = Some(to.bytes);
            let is_online = matches!(state.condition, Condition::Online);
            if !is_online || to.offset <= state.points.last.offset || to.offset <= segment.base {
                return Ok(None);
            }
            let entries = segment.with_indexes(|indexes| (indexes.offsets.len(), indexes.times.len()));
            (segment, to, entries.expect("an active segment has its indexes in memory"))
        };
        if !inner.file_through(to.offset).await {
            return Err(self.ended().unwrap_or_else(|| LogError::Closed(Rc::clone(&inner.name))));
        }
        inner.wait_sealed().await;
        {
            let mut state = inner.state.borrow_mut();
            let goes_on = matches!(state.condition, Condition::Online | Condition::Full);
            if !goes_on || !Rc::ptr_eq(state.active(), &segment) {
                return Ok(None);
            }
            state.tasks.sealer = true;
        }
        let written = inner.write_point(&segment, to.offset, entries, producers).await;
        {
            let mut state = inner.state.borrow_mut();
            state.tasks.sealer = false;
            if written.is_ok() {
                state.points.advance(to);
                state.points.snapshots.push(to.offset);
            }
        }
        inner.start_sealer();
        inner.task_ended();
        written.map(|()| Some(to.offset))
    }

    /// The point at `offset` is known to the next start: snapshots of points before it are
    /// removed, unless a segment begins there.
    pub async fn point_is_known(&self, offset: Offset) {
        let old: Vec<Offset> = {
            let mut state = self.0.state.borrow_mut();
            let state = &mut *state;
            let kept = state.points.snapshots.partition_point(|snapshot| *snapshot < offset);
            let old = state.points.snapshots.drain(..kept);
            let begins = |old: &Offset| state.segments.iter().any(|segment| segment.base == *old);
            old.filter(|old| !begins(old)).collect()
        };
        for snapshot in old {
            let path = self.0.path(&names::file_name(snapshot, names::SNAPSHOT));
            // One that stays is true, and the next opening removes it.
            let _ = self.0.disk.remove(&path).await;
        }
    }
}

impl Inner {
    /// Puts the files of a point in place, the one that proves it last.
    async fn write_point(
        &self,
        segment: &Segment,
        offset: Offset,
        (offsets, times): (usize, usize),
        producers: Vec<u8>,
    ) -> Result<(), LogError> {
        let dir = self.dir();
        let encoded = segment
            .with_indexes(|indexes| (indexes.offsets.encode_first(offsets), indexes.times.encode_first(times)))
            .expect("an active segment has its indexes in memory");
        for (path, bytes) in [
            (segment.path(&dir, names::OFFSET_INDEX), encoded.0),
            (segment.path(&dir, names::TIME_INDEX), encoded.1),
            (dir.join(names::file_name(offset, names::SNAPSHOT)), producers),
        ] {
            self.disk.write_file(&path, bytes).await.map_err(|error| LogError::io("write", &path, &error))?;
        }
        Ok(())
    }

    /// The files lie in another directory from now on, without those of points.
    pub(super) fn restart_points(&self) {
        let mut state = self.state.borrow_mut();
        let points = Points::restarted(state.active(), state.progress.appended());
        state.points = points;
    }

    /// A segment was sealed, and the snapshot of the offset where the next one begins is in
    /// place.
    pub(super) fn sealed_up_to(&self, base: Offset) {
        let mut state = self.state.borrow_mut();
        let behind: u64 =
            state.segments.iter().filter(|segment| segment.base >= base).map(|segment| segment.size()).sum();
        let bytes = state.progress.appended().bytes.saturating_sub(behind);
        state.points.advance(Point { offset: base, bytes });
    }
}
