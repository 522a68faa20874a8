//! How committed metadata becomes this core's image, and how what the image says
//! becomes true: partitions opened, changed, removed.
//!
//! Records are taken into the image the moment they arrive, in the order of the log.
//! Files follow in a task, in the same order; when they have caught up with an
//! offset, core 0 is told, so that its answers can wait for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::Core;
use super::messages::{Committed, Message};
use crate::base::wait::Signal;
use crate::base::{CoreIndex, Offset};
use crate::metadata::{Delta, Image, Replay};
use crate::runtime::task::StopFlag;

/// What has arrived and still has to become true on this core.
#[derive(Default)]
pub struct Images {
    replay: RefCell<Replay>,
    steps: RefCell<VecDeque<(Delta, Offset)>>,
    work: Signal,
    /// Whether everything that core 0 had at start has arrived.
    caught_up: Cell<bool>,
}

impl Images {
    /// Takes committed records into the image of `core`.
    ///
    /// # Panics
    /// When a record cannot follow what came before it. Core 0 has checked it against
    /// the same image, so this is a mistake of ours, and going on would serve clients
    /// two truths.
    pub fn committed(core: &Core, committed: &Committed) {
        let images = &core.images;
        let mut replay = images.replay.borrow_mut();
        // The old image goes first: what no request holds any more is changed in place
        // instead of copied, and a commit costs what it changes, not what there is.
        *core.image.borrow_mut() = Rc::new(Image::default());
        let delta = replay
            .apply(committed.records.iter(), committed.end, committed.epoch)
            .unwrap_or_else(|e| panic!("committed metadata up to offset {}: {e}", committed.end));
        *core.image.borrow_mut() = Rc::new(replay.image().clone());
        // Before the start is complete, files are opened once, from the whole image.
        if images.caught_up.get() {
            images.steps.borrow_mut().push_back((delta, committed.end));
            images.work.raise();
        }
    }

    /// Everything that core 0 had at start has arrived.
    pub fn caught_up(&self) {
        self.caught_up.set(true);
        self.work.raise();
    }

    /// Waits for [`Images::caught_up`], or the stop of the process.
    pub async fn wait_until_caught_up(&self, stop: &StopFlag) {
        futures_lite::future::or(stop.raised(), async {
            while !self.caught_up.get() {
                self.work.wait().await;
            }
        })
        .await;
    }

    /// Lets [`follow`] look at the stop flag.
    pub fn wake(&self) {
        self.work.raise();
    }
}

/// On core 0, at start: takes what the metadata log holds, and gives it to every other core.
pub async fn begin(core: &Core, replay: Replay) {
    let image = replay.image();
    let records = Arc::new(image.records().collect());
    let everything = Committed { records, end: image.end(), epoch: image.epoch() };
    *core.image.borrow_mut() = Rc::new(image.clone());
    *core.images.replay.borrow_mut() = replay;
    send_to_others(core, everything).await;
}

/// Makes true what the metadata says, change by change, until the process stops.
pub async fn follow(core: Rc<Core>) {
    loop {
        let step = core.images.steps.borrow_mut().pop_front();
        match step {
            Some((delta, end)) => {
                super::partitions::follow(&core, &delta).await;
                core.coordinators.follow(&core, &delta).await;
                applied(&core, end).await;
            }
            None if core.stop.is_raised() => return,
            None => core.images.work.wait().await,
        }
    }
}

async fn applied(core: &Core, end: Offset) {
    match core.controller.get() {
        Some(controller) => controller.applied(core.index, end),
        // Unreachable only while the process stops.
        None => drop(core.router.send(CoreIndex(0), Message::Applied { end }).await),
    }
}

/// Takes committed records into this core's image and gives them to every other core.
pub async fn publish(core: &Core, committed: Committed) {
    Images::committed(core, &committed);
    send_to_others(core, committed).await;
}

async fn send_to_others(core: &Core, committed: Committed) {
    for other in core.placement.all().filter(|c| *c != core.index) {
        // Unreachable only while the process stops.
        let _ = core.router.send(other, Message::Committed(committed.clone())).await;
    }
}
