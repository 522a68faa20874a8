//! The task that frees regions: it has logs file what the journal holds of them.
//!
//! It begins when half of the regions are in use, so that a log that has something in
//! several of them is filed once for all, and the rest fills meanwhile. Some logs are at
//! it at a time: enough for the file system to share its own journal's work between
//! them, few enough to leave the drive to those who wait for it. What lies in the
//! journal for long, or takes too much of the memory for what is not filed, goes too.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Offset, wait};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

use super::{Inner, Journal, State};

/// Logs that are filed at the same time.
const FILED_AT_ONCE: usize = 16;

/// How often the age of what the journal holds is looked at.
const ROUND: Duration = Duration::from_secs(1);

/// What is not filed after this long is filed, so that memory and the work of a start
/// after a crash stay small when little is written.
const AGE: Duration = Duration::from_secs(5);
/// Longer when there are many logs: at most some hundred a second are filed for it.
const AGE_PER_LOG: Duration = Duration::from_millis(5);

type Logs = VecDeque<(Rc<Inner>, Offset)>;

impl Journal {
    pub(super) async fn file_all(self: Rc<Self>) {
        loop {
            if self.state.borrow().closing {
                break;
            }
            if !self.is_due() {
                let idle = self.state.borrow().regions.iter().all(|region| region.logs.is_empty());
                match idle {
                    true => self.filing.wait().await,
                    false => drop(clock::timeout(ROUND, self.filing.wait()).await),
                }
                continue;
            }
            if !self.free_oldest().await {
                // A log that has failed keeps what only the journal has of it.
                clock::timeout(ROUND, self.filing.wait()).await;
            }
        }
    }

    fn is_due(&self) -> bool {
        let state = self.state.borrow();
        let Some(oldest) = state.regions.front() else { return false };
        if oldest.logs.is_empty() && state.regions.len() == 1 {
            return false;
        }
        let half = state.file.as_ref().map_or(1, |opened| opened.shape.regions as usize / 2);
        let age = AGE + AGE_PER_LOG * oldest.logs.len() as u32;
        state.failed
            || state.regions.len() > half
            || self.memory.is_pressed()
            || clock::now().saturating_duration_since(oldest.began) >= age
    }

    /// Has all logs filed that have something in the oldest region; false when some
    /// could not be.
    async fn free_oldest(self: &Rc<Self>) -> bool {
        let logs: Logs = {
            let mut state = self.state.borrow_mut();
            let list = state.next_list();
            let Some(oldest) = state.regions.front_mut() else { return true };
            // What is put in from now on is on a list of its own.
            oldest.list = list;
            oldest.began = clock::now();
            std::mem::take(&mut oldest.logs).into_iter().filter(|(log, end)| !log.is_filed_through(*end)).collect()
        };
        let logs = Rc::new(RefCell::new(logs));
        let kept = Rc::new(RefCell::new(Vec::new()));
        let mut ended = Vec::new();
        for _ in 0..FILED_AT_ONCE.min(logs.borrow().len()) {
            let (sender, receiver) = wait::once::<()>();
            ended.push(receiver);
            let (logs, kept) = (Rc::clone(&logs), Rc::clone(&kept));
            task::spawn(Queue::Log, "journal filing", OnPanic::StopProcess, async move {
                loop {
                    let next = logs.borrow_mut().pop_front();
                    let Some((log, end)) = next else { break };
                    if !log.file_through(end).await {
                        kept.borrow_mut().push((log, end));
                    }
                    task::yield_if_needed().await;
                }
                sender.send(());
            });
        }
        for end in ended {
            let _ = end.await;
        }
        let kept = kept.take();
        let all = kept.is_empty();
        let mut state = self.state.borrow_mut();
        if let Some(oldest) = state.regions.front_mut() {
            oldest.logs.extend(kept);
        }
        if state.free_front() && !state.failed && !state.closing {
            self.ready.set(true);
        }
        all
    }
}

impl State {
    /// Gives up the oldest regions that hold nothing for anybody, but the one that is
    /// being filled.
    fn free_front(&mut self) -> bool {
        let mut freed = false;
        while self.regions.len() > 1 && self.regions.front().is_some_and(|region| region.logs.is_empty()) {
            self.regions.pop_front();
            freed = true;
        }
        freed
    }
}
