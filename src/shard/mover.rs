//! Partitions on their way from one data directory to another (AlterReplicaLogDirs, KIP-113).
//!
//! Each core moves its own, some at a time; [`crate::log`] says how. Around it, in this order:
//!
//! 1. copying, until little is left;
//! 2. `log-start-offset-checkpoint` of both directories has the partition's line, until 5;
//! 3. the metadata has the partition in the new directory (KIP-858). Files go before it at a start, but
//!    a partition whose new directory is missing then is offline and not begun anew in the old one;
//! 4. the hand-over;
//! 5. the line in the old directory's files goes, then the old files.
//!
//! A move that fails has its partition put back into the old directory by the metadata. One that a stop or a crash ended goes
//! on at the next start, with the copy that is there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::messages::{Answer, Call};
use super::partitions::{NotHere, Place, here};
use super::{Core, cleaner, partitions, points, starts};
use crate::base::budget::Budget;
use crate::base::hash::OwnKeys;
use crate::base::wait::{self, Sender};
use crate::base::{CoreIndex, DirIndex, Offset, Uuid};
use crate::log::{Destination, Failure, Move, MoveError, MoveProgress, Moved};
use crate::metadata::Intention;
use crate::metadata::controller::Placed;
use crate::partition::Partition;
use crate::partition::moved::{self, MovedFrom};
use crate::runtime::clock;
use crate::runtime::task::{self, OnPanic, Queue};

/// Partitions that one core moves at the same time: more would only share the same drives.
const MOVES_AT_ONCE: usize = 2;
/// When a log could not be held up for its hand-over.
const RETRY: Duration = Duration::from_millis(500);
/// How often a partition that waits for the controller is looked at: it may be deleted meanwhile.
const LOOK: Duration = Duration::from_millis(20);

const MOVER: &str = "mover";

/// A partition, and where it is to go.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub topic_id: Uuid,
    pub partition: i32,
    pub to: DirIndex,
}

/// Why a partition does not move. Can cross cores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MoveRefusal {
    /// Not, or not yet, or not any more on the core that was asked.
    #[error("the partition is not here")]
    NotHere,
    /// Its files cannot be used, or those of the directory: the reason.
    #[error("{0}")]
    Failed(String),
}

/// A partition's copy, for those who want to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySize {
    pub dir: DirIndex,
    pub bytes: u64,
    /// How many offsets it lacks.
    pub lag: i64,
}

/// The moves of a core.
pub struct Moves {
    under_way: RefCell<HashMap<(Uuid, i32), Rc<Moving>, OwnKeys>>,
    turns: Rc<Budget>,
}

impl Default for Moves {
    fn default() -> Moves {
        Moves { under_way: RefCell::default(), turns: Budget::new(MOVES_AT_ONCE) }
    }
}

impl Moves {
    /// The copy of a partition that is being moved.
    pub fn copy_of(&self, partition: &Partition) -> Option<CopySize> {
        let under_way = self.under_way.borrow();
        let moving = under_way.get(&(partition.topic_id(), partition.id().partition))?;
        // What has been handed over is no copy any more.
        (moving.to != partition.dir()).then(|| CopySize {
            dir: moving.to,
            bytes: moving.progress.bytes(),
            lag: (partition.bounds().log_end.0 - moving.progress.offset().0).max(0),
        })
    }
}

struct Moving {
    to: DirIndex,
    progress: Rc<MoveProgress>,
    /// Who waits for its end.
    waiting: RefCell<Vec<Sender<()>>>,
}

/// Begins to move partitions of this core, or has moves of theirs to elsewhere end.
pub async fn begin(core: &Rc<Core>, wanted: &[Wanted]) -> Vec<Result<(), MoveRefusal>> {
    let mut answers = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        answers.push(begin_one(core, wanted).await);
    }
    answers
}

async fn begin_one(core: &Rc<Core>, wanted: &Wanted) -> Result<(), MoveRefusal> {
    let of = (wanted.topic_id, wanted.partition);
    loop {
        let partition = here(core, wanted.topic_id, wanted.partition).map_err(|not_here| match not_here {
            NotHere::Elsewhere => MoveRefusal::NotHere,
            NotHere::Failed(reason) => MoveRefusal::Failed(reason),
        })?;
        if let Some(reason) = core.dirs().get(wanted.to).offline() {
            return Err(MoveRefusal::Failed(reason.to_string()));
        }
        if let Some(error) = partition.ended() {
            return Err(MoveRefusal::Failed(error.to_string()));
        }
        let under_way = core.moves.under_way.borrow().get(&of).cloned();
        match under_way {
            Some(moving) if moving.to == wanted.to && !moving.progress.is_cancelled() => return Ok(()),
            Some(moving) => {
                // It may have come to its end all the same: look again.
                moving.progress.cancel();
                let (sender, receiver) = wait::once();
                moving.waiting.borrow_mut().push(sender);
                let _ = receiver.await;
            }
            None if partition.dir() == wanted.to => return Ok(()),
            None => {
                start(core, partition, wanted.to, None);
                return Ok(());
            }
        }
    }
}

/// Goes on with the moves that the process before did not end. All partitions of the core are open.
pub fn resume(core: &Rc<Core>) {
    for (index, dir) in core.dirs().online() {
        for ((topic_id, number), copy) in dir.copies() {
            let Place::Here(partition) = core.locate(*topic_id, *number) else { continue };
            if partition.dir() != index {
                start(core, partition, index, Some(copy.name.clone()));
            }
        }
    }
}

/// Completes when nothing of this is under way. The process was told to stop, and the partitions are closed, which
/// ends a move.
pub async fn stop() {
    task::all_ended(MOVER).await;
}

fn start(core: &Rc<Core>, partition: Rc<Partition>, to: DirIndex, copy: Option<String>) {
    let of = (partition.topic_id(), partition.id().partition);
    let moving = Rc::new(Moving { to, progress: Rc::default(), waiting: RefCell::default() });
    core.moves.under_way.borrow_mut().insert(of, Rc::clone(&moving));
    let core = Rc::clone(core);
    task::spawn(Queue::Upkeep, MOVER, OnPanic::StopProcess, async move {
        run(&core, &partition, &moving, copy).await;
        core.moves.under_way.borrow_mut().remove(&of);
        moving.waiting.take().into_iter().for_each(|waiting| waiting.send(()));
    });
}

async fn run(core: &Rc<Core>, partition: &Rc<Partition>, moving: &Moving, copy: Option<String>) {
    let _turn = core.moves.turns.take(1).await;
    let from = partition.dir();
    let path = |dir: DirIndex| core.dirs().get(dir).path().display();
    let began = clock::now();
    match attempt(core, partition, moving, copy).await {
        Ok(moved) => {
            tracing::info!(
                partition = %partition.id(),
                "moved from {} to {} in {} ms, {} bytes; appends waited {} us",
                path(from),
                path(moving.to),
                began.elapsed().as_millis(),
                partition.log().size_bytes(),
                moved.held.as_micros(),
            );
            if let Some(reason) = core.dirs().get(moving.to).offline() {
                // Since a moment ago.
                partitions::take_offline(core, moving.to, reason);
            }
            if let Err(error) = core.disk.remove_dir_all(&moved.old).await {
                // The next start removes it.
                tracing::warn!("remove {}: {error}", moved.old.display());
            }
        }
        Err(MoveError::GivenUp(reason)) => {
            tracing::info!(partition = %partition.id(), "the move to {} was given up: {reason}", path(moving.to));
        }
        Err(error) => {
            tracing::error!(partition = %partition.id(), %error, "the move to {} failed; it stays where it was", path(moving.to));
            if matches!(error, MoveError::Failed(_)) {
                // Perhaps it is not this partition alone.
                let reason: Rc<str> = error.to_string().into();
                for dir in [from, moving.to] {
                    let failure = Failure { reason: Rc::clone(&reason), of_journal: false };
                    core.partitions.memory(dir).failures().note(failure);
                }
            }
        }
    }
}

async fn attempt(
    core: &Rc<Core>,
    partition: &Rc<Partition>,
    moving: &Moving,
    copy: Option<String>,
) -> Result<Moved, MoveError> {
    let (from, to) = (core.dirs().get(partition.dir()), core.dirs().get(moving.to));
    let name = partition.id().to_string();
    let unique: String = crate::runtime::random_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let destination = Destination {
        future: to.path().join(copy.unwrap_or_else(|| moved::future_name(&name, &unique))),
        dir: to.path().join(&name),
        old: from.path().join(moved::old_name(&name, &unique)),
        journal: Some(Rc::clone(core.partitions.journal(moving.to))),
        memory: Rc::clone(core.partitions.memory(moving.to)),
        throttle: Arc::clone(&core.identity.throttle),
    };
    forget_note(core, partition).await;
    let mut this = partition.begin_move(destination, &moving.progress).await?;
    let mut told = false;
    let outcome = drive(core, partition, moving, &mut this, &mut told).await;
    if outcome.is_err() {
        if told && partition.ended().is_none() {
            assign(core, partition, from.id()).await;
        }
        this.give_up(core.stop.is_raised()).await;
    }
    if told {
        keep_start(core, partition, Vec::new()).await;
    }
    outcome
}

async fn drive(
    core: &Rc<Core>,
    partition: &Rc<Partition>,
    moving: &Moving,
    this: &mut Move,
    told: &mut bool,
) -> Result<Moved, MoveError> {
    let from = partition.dir();
    partition.catch_up(this).await?;
    *told = true;
    if !keep_start(core, partition, vec![from, moving.to]).await {
        return Err(MoveError::Failed("log-start-offset-checkpoint could not be written".into()));
    }
    if !assign(core, partition, core.dirs().get(moving.to).id()).await {
        return Err(MoveError::GivenUp("the metadata could not be changed"));
    }
    loop {
        partition.catch_up(this).await?;
        match partition.hand_over(this, core.dirs().get(from).id(), moving.to).await {
            Err(MoveError::Busy(_)) => {
                if core.sleep_or_stop(RETRY).await {
                    return Err(MoveError::GivenUp("the process stops"));
                }
            }
            ended => return ended,
        }
    }
}

/// Removes the note of the move before, if its other directory is there and has nothing of the partition.
async fn forget_note(core: &Core, partition: &Partition) {
    let dir = partition.log().dir();
    let Ok(Some(note)) = MovedFrom::read(&core.disk, &dir).await else { return };
    let Some(other) = core.dirs().by_id(note.directory).map(|index| core.dirs().get(index)) else { return };
    if other.is_online() && core.disk.sync_dir(other.path()).await.is_ok() {
        let there = core.disk.list(&other.path().join(partition.id().to_string())).await;
        if there.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            && let Err(error) = moved::forget(&core.disk, &dir).await
        {
            tracing::warn!("remove the note of {}: {error}", dir.display());
        }
    }
}

/// Has the metadata say that the partition lies in a directory. False when it does not get there: the process
/// stops, or the partition has ended.
async fn assign(core: &Rc<Core>, partition: &Partition, directory: Uuid) -> bool {
    let (topic, number) = (partition.topic_id(), partition.id().partition);
    let placed = vec![Placed { topic, partition: number, directory }];
    let mut told = Box::pin(core.control(Intention::AssignDirectories { node: core.config().node_id, placed }));
    loop {
        match clock::timeout(LOOK, &mut told).await {
            Some(outcome) => return outcome.is_ok(),
            // Its deletion waits for the move to end, and the controller for the deletion.
            None if partition.ended().is_some() => return false,
            None => {}
        }
    }
}

/// Has core 0 keep the partition's log start in the files of these directories as well, whatever the metadata says; none:
/// not any more. True when they have it.
async fn keep_start(core: &Rc<Core>, partition: &Partition, dirs: Vec<DirIndex>) -> bool {
    let (topic_id, number) = (partition.topic_id(), partition.id().partition);
    let cleaned = partition.cleaned();
    match core.index {
        CoreIndex(0) => moving(core, (topic_id, number), &dirs, cleaned).await,
        _ => {
            let call = Call::Moving { topic_id, partition: number, dirs, cleaned };
            matches!(core.router.ask(CoreIndex(0), call).await, Ok(Answer::Moving(true)))
        }
    }
}

/// On core 0: see [`keep_start`].
pub async fn moving(core: &Core, of: (Uuid, i32), dirs: &[DirIndex], cleaned: Offset) -> bool {
    let kept = starts::keep(core, of, dirs).await;
    if dirs.is_empty() {
        points::moved(core);
        cleaner::moved(core, of, cleaned);
    }
    kept
}
