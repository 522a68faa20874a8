//! The task that writes a core's journal.
//!
//! It takes, of every log that has something waiting, all of it, copies it behind one
//! another into one aligned buffer, and writes that. One write is under way; what comes
//! meanwhile shares the next. A group is made durable by the write itself if somebody
//! waits for that; otherwise one flush serves all that was written in some milliseconds.
//!
//! The copy is the second one of these bytes: a batch lies at its place in the segment in
//! the log's buffer, and groups of many logs need another order. It is some kilobytes;
//! what is large does not come here.

use std::rc::Rc;

use crate::base::limits::{BLOCK_BYTES, LOG_WRITE_BYTES_MAX};
use crate::runtime::clock;
use crate::runtime::disk::Buffer;

use super::format::{ENTRY_HEAD_BYTES, GROUP_HEAD_BYTES, GroupBuilder, GroupHead};
use super::route::Waiting;
use super::{Inner, Journal, Opened, Region, State};
use crate::log::progress::{Journaled, Point};

/// What the writer does next.
enum Step {
    Write(Group),
    Flush,
    /// Until then, if nothing else comes.
    Wait(Option<std::time::Instant>),
    End,
}

/// What one write puts into the journal.
struct Group {
    bytes: Rc<Buffer>,
    position: u64,
    sequence: u64,
    /// Groups of before lie where it goes, and behind.
    overwrites: bool,
    /// Each log, and up to where it is in the group.
    logs: Vec<(Rc<Inner>, Point)>,
    durable: bool,
}

impl Journal {
    pub(super) async fn write_all(self: Rc<Self>) {
        let Some(opened) = self.state.borrow().file.clone() else { return };
        loop {
            match self.next_step(&opened) {
                Step::End => break,
                Step::Wait(None) => self.work.wait().await,
                Step::Wait(Some(until)) => {
                    let left = until.saturating_duration_since(clock::now());
                    clock::timeout(left, self.work.wait()).await;
                }
                Step::Write(group) => self.write(&opened, group).await,
                Step::Flush => {
                    let last = self.state.borrow().sequence - 1;
                    self.flush(&opened, last).await;
                }
            }
        }
    }

    fn next_step(&self, opened: &Opened) -> Step {
        if self.state.borrow().failed {
            return Step::End;
        }
        if let Some(group) = self.gather(opened) {
            return Step::Write(group);
        }
        let state = self.state.borrow();
        match state.flush_at {
            Some(at) if at <= clock::now() || state.closing => Step::Flush,
            _ if state.closing => Step::End,
            at => Step::Wait(at),
        }
    }

    /// Puts together what waits; `None` if nothing does, or there is no region for it.
    fn gather(&self, opened: &Opened) -> Option<Group> {
        let region_bytes = opened.shape.region_bytes;
        let limit = (LOG_WRITE_BYTES_MAX as u64).min(region_bytes) as usize;
        let mut len = GROUP_HEAD_BYTES;
        let mut logs: Vec<(Rc<Inner>, Waiting)> = Vec::new();
        loop {
            let Some(log) = self.state.borrow().pending.front().cloned() else { break };
            let waiting = log.waiting_for_journal(self);
            if let Some(waiting) = waiting {
                let more = ENTRY_HEAD_BYTES + waiting.len();
                if len + more > limit {
                    break;
                }
                len += more;
                logs.push((Rc::clone(&log), waiting));
            }
            log.left_queue(self);
            self.state.borrow_mut().pending.pop_front();
        }
        if logs.is_empty() {
            return None;
        }
        let size = (len as u64).next_multiple_of(BLOCK_BYTES as u64);
        if !self.state.borrow_mut().make_room(size, opened) {
            self.ready.set(false);
            tracing::debug!("all regions of the journal are in use: logs write to their segments");
            let pending: Vec<_> = self.state.borrow_mut().pending.drain(..).collect();
            for log in logs.into_iter().map(|(log, _)| log).chain(pending) {
                log.leave_journal(self);
            }
            self.filing.raise();
            return None;
        }

        let mut builder = GroupBuilder::new(len);
        let mut durable = false;
        let mut taken = Vec::with_capacity(logs.len());
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let region = state.regions.back_mut().expect("there is room in it");
        let region_is_new = region.logs.is_empty();
        for (log, waiting) in logs {
            durable |= waiting.durable;
            log.take_for_journal(&waiting, region.list, &mut builder, |at| match at {
                // It has something in here already, and now more.
                Some(at) => {
                    region.logs[at].1 = waiting.to.offset;
                    at
                }
                None => {
                    region.logs.push((Rc::clone(&log), waiting.to.offset));
                    region.logs.len() - 1
                }
            });
            taken.push((log, waiting.to));
        }
        durable |= state.flush_at.is_some_and(|at| at <= clock::now());
        let position = opened.shape.region_start(state.slot) + state.filled;
        let head = GroupHead {
            life: opened.life,
            sequence: state.sequence,
            position,
            oldest: state.regions.front().expect("there is one").first_sequence,
            durable: state.durable,
        };
        let overwrites = state.filled == 0;
        state.sequence += 1;
        state.filled += size;
        if region_is_new || self.memory.is_pressed() {
            self.filing.raise();
        }
        let bytes = Rc::new(builder.finish(head));
        Some(Group { bytes, position, sequence: head.sequence, overwrites, logs: taken, durable })
    }

    async fn write(&self, opened: &Opened, group: Group) {
        let Group { bytes, position, sequence, overwrites, logs, durable } = group;
        if overwrites && !self.state.borrow().unflushed.is_empty() {
            // A torn write leaves neither this group nor the old ones that it hits: one that says that they are not
            // needed any more has to be there then.
            self.flush(opened, sequence - 1).await;
            if self.state.borrow().failed {
                return;
            }
        }
        let _urgent = self.memory.turns.begin_write(true);
        // A write that is durable says nothing of those before it.
        let alone = self.state.borrow().unflushed.is_empty();
        let written = match durable && alone {
            true => opened.file.write_durable(bytes, position).await,
            false => opened.file.write(bytes, position).await,
        };
        if let Err(error) = written {
            return self.fail("write", &error);
        }
        if durable && alone {
            let mut state = self.state.borrow_mut();
            state.durable = state.sequence - 1;
        }
        let durable_by_itself = durable && alone;
        for (log, to) in &logs {
            if log.journaled(self, Journaled { to: *to, durable: durable_by_itself }) {
                self.state.borrow_mut().unflushed.push(Rc::clone(log));
            }
        }
        if durable && !alone {
            self.flush(opened, sequence).await;
        } else if !durable {
            for (log, _) in &logs {
                log.note_flush_due(false);
            }
        }
    }

    /// Makes durable what is written: all groups up to `sequence`.
    async fn flush(&self, opened: &Opened, sequence: u64) {
        let logs = {
            let mut state = self.state.borrow_mut();
            state.flush_at = None;
            std::mem::take(&mut state.unflushed)
        };
        let _urgent = self.memory.turns.begin_write(true);
        if let Err(error) = opened.file.flush().await {
            self.state.borrow_mut().unflushed = logs;
            return self.fail("flush", &error);
        }
        self.state.borrow_mut().durable = sequence;
        for log in logs {
            log.journal_flushed(self);
        }
    }
}

impl State {
    /// Sees to it that the last region has room for a group of `size` bytes.
    fn make_room(&mut self, size: u64, opened: &Opened) -> bool {
        let Opened { shape, .. } = opened;
        if !self.regions.is_empty() && self.filled + size <= shape.region_bytes {
            return true;
        }
        // One stays free: that it is not needed any more the groups say that are written before it is used again.
        if self.regions.len() + 1 >= shape.regions as usize {
            return false;
        }
        if !self.regions.is_empty() || self.filled > 0 {
            self.slot = (self.slot + 1) % shape.regions;
        }
        self.filled = 0;
        let (first_sequence, list) = (self.sequence, self.next_list());
        self.regions.push_back(Region { first_sequence, list, logs: Vec::new(), began: clock::now() });
        true
    }

    pub(super) fn next_list(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }
}
