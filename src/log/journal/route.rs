//! A log's side of the journal: which way an append takes, and filing.
//!
//! A log is on one of two routes. On the journal's, appends stay in the open buffer and
//! the journal's writer takes copies; on the segment's, the log's own writer writes them
//! at once. A log that has much waiting leaves the journal: what is large belongs into
//! its segment directly. It comes back when everything it has is durable, so that what
//! the journal holds of it goes on where its segment, or an earlier group, ends durably.
//! Otherwise: a large batch is written to the segment. A small one behind it gets into
//! the journal durably. The power goes, the large one was never flushed; and what the
//! journal holds has a gap before it.

use std::rc::Rc;
use std::time::Duration;

use crate::base::Offset;
use crate::base::limits::FLUSH_LATER;

use super::format::GroupBuilder;
use super::{Journal, JournalPlace, Mark};
use crate::log::progress::{Journaled, Point};
use crate::log::{Condition, Inner, LogError, State};

/// Where a log stands with the journal.
#[derive(Default)]
pub(in crate::log) struct Route {
    /// Appends go to the journal.
    to_journal: bool,
    /// The journal has taken everything up to here.
    taken: Option<Point>,
    /// It stands in the journal's queue.
    queued: bool,
    /// Up to here it has been written to the journal and not been flushed there.
    unflushed: Option<Point>,
    mark: Mark,
}

/// What a log has for the journal.
pub(super) struct Waiting {
    from: Point,
    pub to: Point,
    /// Somebody waits for it to be durable.
    pub durable: bool,
}

impl Waiting {
    pub fn len(&self) -> usize {
        (self.to.bytes - self.from.bytes) as usize
    }
}

impl State {
    /// Whether appends go to the journal.
    pub(in crate::log) fn is_journaled(&self) -> bool {
        self.route.to_journal
    }

    /// The first offset that has to stay in memory.
    pub(in crate::log) fn kept_from(&self) -> Offset {
        let filed = self.progress.filed().offset;
        match self.route.taken {
            Some(taken) if self.route.to_journal => filed.min(taken.offset),
            _ => filed,
        }
    }

    /// Chooses the way of a batch of `size` bytes that was just appended behind `before`:
    /// true for the journal.
    fn choose(&mut self, place: Option<&JournalPlace>, before: Point, size: usize) -> bool {
        let journal = place.map(|place| &place.journal).filter(|journal| journal.is_ready() && !self.journal_off);
        let Some(journal) = journal else {
            self.route.to_journal = false;
            return false;
        };
        let max = journal.entry_bytes_max.get() as u64;
        if self.route.to_journal {
            let taken = self.route.taken.expect("on this route something was taken").bytes;
            self.route.to_journal = self.progress.appended().bytes - taken <= max;
        } else if size as u64 <= max {
            if self.progress.durable().offset == before.offset {
                self.route.to_journal = true;
                self.route.taken = Some(before);
            } else if self.progress.filed().offset == before.offset {
                // Nothing is under way but what nobody waits for: with a flush it comes back.
                self.settle_to = self.settle_to.max(before.offset);
            }
        }
        self.route.to_journal
    }
}

impl Inner {
    /// Sends what was just appended, `size` bytes behind `before`, on its way.
    pub(in crate::log) fn dispatch(self: &Rc<Self>, before: Point, size: usize) {
        let mut offer = false;
        let (write, settle) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let journal = self.journal.borrow();
            if state.choose(journal.as_ref(), before, size) {
                offer = !std::mem::replace(&mut state.route.queued, true);
                if !state.active().on_drive() {
                    // Files are made in the background, long before the journal wants its
                    // region back: for thousands of new logs that takes a while.
                    state.file_to = state.progress.appended().offset;
                }
            } else {
                state.file_to = state.progress.appended().offset;
            }
            (state.write_is_due(), state.settle_is_due())
        };
        if offer && let Some(journal) = self.own_journal() {
            journal.offer(Rc::clone(self));
        }
        if settle {
            self.note_flush_due(false);
        }
        if write {
            self.wake_writer();
        }
    }

    fn own_journal(&self) -> Option<Rc<Journal>> {
        self.journal.borrow().as_ref().map(|place| Rc::clone(&place.journal))
    }

    /// Whether there is a journal that may have what is not in the segments yet, and flushes it.
    pub(in crate::log) fn has_journal(&self) -> bool {
        self.own_journal().is_some_and(|journal| !journal.has_failed())
    }

    /// Whether `journal` is the log's. One that the log has left says nothing of it any more: what it has is
    /// in the segments.
    fn is_in(&self, journal: &Journal) -> bool {
        self.journal.borrow().as_ref().is_some_and(|place| std::ptr::eq(&*place.journal, journal))
    }

    /// The log goes to another journal, or to none. Everything it has is flushed in its segments.
    pub(in crate::log) fn change_journal(&self, journal: Option<Rc<Journal>>) {
        let mut place = self.journal.borrow_mut();
        let of = place.take();
        *place = of.zip(journal).map(|(of, journal)| JournalPlace { journal, ..of });
        // Places on lists, and what a flush would make durable, are of the journal before.
        self.state.borrow_mut().route = Route::default();
    }

    /// What the journal should take; `None` if nothing.
    pub(super) fn waiting_for_journal(&self, journal: &Journal) -> Option<Waiting> {
        if !self.is_in(journal) {
            return None;
        }
        let state = self.state.borrow();
        let from = state.route.taken.filter(|_| state.route.to_journal)?;
        let to = state.progress.appended();
        if matches!(state.condition, Condition::Ended(_)) || from.offset >= to.offset {
            return None;
        }
        let durable = state.progress.durable().offset;
        let asked_for = to.offset.0 - durable.0 >= state.config.flush_messages;
        Some(Waiting { from, to, durable: asked_for && state.flush_wanted > durable })
    }

    /// It stands in the journal's queue no more.
    pub(super) fn left_queue(&self, journal: &Journal) {
        if !self.is_in(journal) {
            return;
        }
        self.state.borrow_mut().route.queued = false;
    }

    /// Copies what waits behind what `group` holds. `list` is the region's list of logs;
    /// `enter` gives the place on it, that of before if there is one.
    pub(super) fn take_for_journal(
        &self,
        waiting: &Waiting,
        list: u64,
        group: &mut GroupBuilder,
        enter: impl FnOnce(Option<usize>) -> usize,
    ) {
        let place = self.journal.borrow();
        let place = place.as_ref().expect("only logs with a journal stand in its queue");
        let mut state = self.state.borrow_mut();
        group.entry(place.topic, place.partition, waiting.from.offset, waiting.to.offset, waiting.len());
        state.buffers().show_behind(waiting.from.bytes, |batches| group.push(batches));
        state.route.taken = Some(waiting.to);
        let known = Some(state.route.mark.at).filter(|_| state.route.mark.list == list);
        state.route.mark = Mark { list, at: enter(known) };
    }

    /// A group with something of this log is written. True when the log was not known to
    /// have something that is to be flushed, and now has.
    pub(super) fn journaled(&self, journal: &Journal, journaled: Journaled) -> bool {
        if !self.is_in(journal) {
            return false;
        }
        let news = {
            let mut state = self.state.borrow_mut();
            if matches!(state.condition, Condition::Ended(_)) {
                return false;
            }
            state.progress.journal(journaled);
            state.tell_waiters();
            match journaled.durable {
                true => false,
                false => state.route.unflushed.replace(journaled.to).is_none(),
            }
        };
        if let Some(observer) = self.observer() {
            observer.progressed();
        }
        news
    }

    /// The journal was flushed after all that is written of this log.
    pub(super) fn journal_flushed(&self, journal: &Journal) {
        if !self.is_in(journal) {
            return;
        }
        let unflushed = self.state.borrow_mut().route.unflushed.take();
        if let Some(to) = unflushed {
            self.journaled(journal, Journaled { to, durable: true });
        }
    }

    /// There is no journal for this log any more, for now or for good: what waits goes to
    /// the segment, with everything before it.
    pub(super) fn leave_journal(self: &Rc<Self>, journal: &Journal) {
        if self.is_in(journal) {
            self.go_to_segment();
        }
    }

    /// What waits goes to the segment, with everything before it.
    pub(in crate::log) fn go_to_segment(self: &Rc<Self>) {
        {
            let mut state = self.state.borrow_mut();
            state.route.queued = false;
            state.route.to_journal = false;
            state.file_to = state.progress.appended().offset;
            state.settle_to = state.progress.appended().offset;
            if matches!(state.condition, Condition::Ended(_)) {
                return;
            }
        }
        self.note_flush_due(false);
        self.wake_writer();
    }

    /// Whether the journal is not needed for what lies below `end`.
    pub(super) fn is_filed_through(&self, end: Offset) -> bool {
        let state = self.state.borrow();
        state.progress.flushed().offset >= end || matches!(state.condition, Condition::Ended(LogError::Deleted(_)))
    }

    /// Writes everything below `end` to the segments and flushes it. False when that
    /// cannot be done: the log has failed.
    pub(in crate::log) async fn file_through(self: &Rc<Self>, end: Offset) -> bool {
        let filed = {
            let mut state = self.state.borrow_mut();
            if state.progress.flushed().offset >= end {
                return true;
            }
            if matches!(state.condition, Condition::Ended(_)) {
                None
            } else {
                state.file_to = state.file_to.max(end);
                state.settle_to = state.settle_to.max(end);
                Some(state.flushed_waiters.add(end))
            }
        };
        if let Some(filed) = filed {
            self.note_flush_due(false);
            let due = self.state.borrow().write_is_due();
            match due {
                true => self.wake_writer(),
                // It may wait for space: it tries again now.
                false => self.work.raise(),
            }
            let _ = filed.await;
        }
        self.is_filed_through(end)
    }

    /// Has the journal flushed, for what of this log is in it.
    pub(in crate::log) fn want_journal_flushed(&self, at_once: bool) {
        if let Some(journal) = self.own_journal() {
            journal.flush_within(if at_once { Duration::ZERO } else { FLUSH_LATER });
        }
    }
}
