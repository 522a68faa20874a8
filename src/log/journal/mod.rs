//! One journal per core and data directory: small appends of all its logs there, made durable by one write.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the journal's file, its regions and who has something in them |
//! | `format` | the bytes of the file, and reading them |
//! | `writer` | the task that gathers what logs have waiting and writes it |
//! | `filer` | the task that has logs file what a region holds, and frees the region |
//! | `route` | a log's side: which appends come here, filing |
//! | `replay` | what a start found in the journals of the process before |
//!
//! A batch goes into its log's open buffer, as without a journal, and is *filed* from
//! there: written to its segment with what came before and after, in large writes, some
//! time later. The journal holds a copy meanwhile. Group by group it is written from the
//! front to the end of a region, then the next region, round and round; a region is free
//! again when all logs that have something in it have filed and flushed past it. One region more stays free.
//!
//! The file is written full of zeroes before its first use, in the background: what is
//! written later overwrites blocks, which costs the file system nothing. While there is no
//! journal (not ready yet, no space, an error, all regions in use) logs write to their
//! segments directly.
//!
//! A failed write or flush of the journal ends it: what it was to hold goes to the
//! segments, what it holds is filed at once, and nothing is tried again.

mod filer;
pub(super) mod format;
mod replay;
pub(super) mod route;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::limits::{BLOCK_BYTES, JOURNAL_ENTRY_BYTES_MAX, LOG_WRITE_BYTES_MAX};
use crate::base::wait::{self, Signal};
use crate::base::{Offset, Uuid};
use crate::runtime::clock;
use crate::runtime::disk::{Buffer, Disk, File, Open};
use crate::runtime::task::{self, OnPanic, Queue, StopFlag};

use super::error::describe;
use super::space::{Purpose, Want};
use super::{Failure, Inner, TailMemory};
use format::FileHead;

pub use format::{Contents as JournalContents, Entry as JournalEntry, Shape, Source as JournalSource, read};
pub use replay::{Journaled, Replay, ReplayError};

/// Begins the names of journal files; the core's number follows. Kafka ignores files that
/// it does not know in a data directory.
pub const FILE_PREFIX: &str = "corelog-journal-";

/// A journal takes at most one part in so many of the space that is free.
const SHARE_OF_FREE_SPACE: u64 = 32;
/// The journals of all cores together.
const SHARE_OF_FREE_SPACE_OF_ALL: u64 = 8;

/// Between writes that fill a new file: they are nobody's hurry.
const FILL_PAUSE: Duration = Duration::from_millis(2);

/// What a log needs to know to use its core's journal.
#[derive(Clone)]
pub struct JournalPlace {
    pub journal: Rc<Journal>,
    pub topic: Uuid,
    pub partition: i32,
}

/// What a core wants of its journal.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub core: u16,
    /// Cores that have a journal in the same directory, this one included.
    pub cores: u16,
    /// Of the file, at most; 0: no journal.
    pub bytes: u64,
}

/// See the module. One per core and data directory.
pub struct Journal {
    memory: Rc<TailMemory>,
    /// There is a file, and room in it.
    ready: Cell<bool>,
    /// The largest append of one log that comes here, and the most of it that may wait.
    entry_bytes_max: Cell<usize>,
    state: RefCell<State>,
    /// Wakes the writer.
    work: Signal,
    /// Wakes the filer; the memory of tails does so too, when too much is not filed.
    filing: Rc<Signal>,
}

#[derive(Default)]
struct State {
    /// From when the file is ready until the journal is closed.
    file: Option<Opened>,
    /// A write or flush has failed: nothing is put in any more.
    failed: bool,
    closing: bool,
    /// Logs with something that waits for the writer, in order.
    pending: VecDeque<Rc<Inner>>,
    /// The regions in use, oldest first; the last one is being filled.
    regions: VecDeque<Region>,
    /// Where in the file the last of them is.
    slot: u32,
    /// Bytes of it that are filled.
    filled: u64,
    /// Of the next group.
    sequence: u64,
    /// All groups up to this one are durable.
    durable: u64,
    /// Numbers lists of logs, so that a log knows whether it is on one.
    lists: u64,
    /// Logs of which something is written and not durable, each once.
    unflushed: Vec<Rc<Inner>>,
    /// When it is to be flushed.
    flush_at: Option<Instant>,
    /// Told when writer and filer have ended.
    tasks: Vec<wait::Receiver<()>>,
}

#[derive(Clone)]
struct Opened {
    file: File,
    path: Rc<Path>,
    shape: Shape,
    core: u32,
    life: u64,
}

/// A part of the file that holds what some log has not filed.
struct Region {
    first_sequence: u64,
    /// Identifies `logs`.
    list: u64,
    /// Who has something in here, up to where.
    logs: Vec<(Rc<Inner>, Offset)>,
    /// Since when `logs` are collected.
    began: Instant,
}

/// A log's place on a region's list.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    list: u64,
    at: usize,
}

impl Journal {
    /// A journal without a file yet, for logs that share `memory`.
    pub fn new(memory: &Rc<TailMemory>) -> Rc<Journal> {
        let filing = Rc::new(Signal::new());
        memory.on_pressure(Rc::clone(&filing));
        Rc::new(Journal {
            memory: Rc::clone(memory),
            ready: Cell::new(false),
            entry_bytes_max: Cell::new(0),
            state: RefCell::default(),
            work: Signal::new(),
            filing,
        })
    }

    /// The file of a core's journal.
    pub fn path(dir: &Path, core: u16) -> PathBuf {
        dir.join(format!("{FILE_PREFIX}{core}"))
    }

    /// Makes the file ready, as large as there is space for, and begins. What the file
    /// held is gone then: all of it has to be filed and flushed. Gives false when there
    /// is too little space for a journal, or `stop` was raised.
    ///
    /// # Errors
    /// The file could not be made. Logs go on without.
    pub async fn begin(
        self: &Rc<Journal>,
        disk: &Disk,
        dir: &Path,
        wanted: Wanted,
        stop: &StopFlag,
    ) -> io::Result<bool> {
        let Wanted { core, cores, bytes } = wanted;
        let path = Journal::path(dir, core);
        let there = match disk.open(&path, Open::EXISTING).await {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let length = there.as_ref().map_or(0, File::length);
        drop(there);
        let (space, seen) = (&self.memory.space, disk.space(dir).await?);
        // What it takes already is as good as free.
        let free = (seen.free + length).saturating_sub(space.reserved(seen));
        let share = SHARE_OF_FREE_SPACE.max(SHARE_OF_FREE_SPACE_OF_ALL * u64::from(cores));
        let shape = Shape::within(bytes.min(free / share));
        let granted = match shape.and_then(|shape| shape.file_bytes()) {
            Some(bytes) => {
                let need = bytes.saturating_sub(length);
                space.ask(disk, dir, Want { need, ahead: 0, is_asked_for: false, purpose: Purpose::Batches }).await?
            }
            None => None,
        };
        match shape.zip(granted) {
            Some((shape, _granted)) => self.begin_with(disk, dir, core, shape, stop).await,
            None => match disk.remove(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(false),
            },
        }
    }

    /// As [`Journal::begin`], of a given shape.
    pub(crate) async fn begin_with(
        self: &Rc<Journal>,
        disk: &Disk,
        dir: &Path,
        core: u16,
        shape: Shape,
        stop: &StopFlag,
    ) -> io::Result<bool> {
        let path = Journal::path(dir, core);
        let file = disk.open(&path, Open::CREATE).await?;
        let core = u32::from(core);
        let head = FileHead::decode(&file.read(0, BLOCK_BYTES).await?);
        let is_filled = head.is_some_and(|head| head.shape == shape && Some(file.length()) == shape.file_bytes());
        if !is_filled {
            match fill(&file, shape, stop).await {
                Ok(true) => disk.sync_dir(dir).await?,
                Ok(false) => return Ok(false),
                Err(error) => {
                    // A file that takes space and is of no use.
                    let _ = file.close().await;
                    let _ = disk.remove(&path).await;
                    return Err(error);
                }
            }
        }
        let life = draw_life();
        write_head(&file, FileHead { core, shape, life }).await?;
        self.entry_bytes_max.set(JOURNAL_ENTRY_BYTES_MAX.min(shape.region_bytes as usize / 4));
        {
            let mut state = self.state.borrow_mut();
            state.file = Some(Opened { file, path: Rc::from(path), shape, core, life });
            state.sequence = 1;
        }
        self.ready.set(true);
        self.start("journal writer", Rc::clone(self).write_all());
        self.start("journal filer", Rc::clone(self).file_all());
        Ok(true)
    }

    fn start(&self, name: &'static str, ends: impl Future<Output = ()> + 'static) {
        let (sender, receiver) = wait::once();
        self.state.borrow_mut().tasks.push(receiver);
        task::spawn(Queue::Log, name, OnPanic::StopProcess, async move {
            ends.await;
            sender.send(());
        });
    }

    /// Whether appends can go in.
    pub fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Ends the journal; its logs have been closed. With `empty` they all were closed
    /// cleanly, so nothing in the file is needed any more, and it says so.
    ///
    /// # Errors
    /// The file could not be written. It holds nothing that the segments do not have.
    pub async fn close(&self, empty: bool) -> io::Result<()> {
        self.ready.set(false);
        let tasks = {
            let mut state = self.state.borrow_mut();
            state.closing = true;
            std::mem::take(&mut state.tasks)
        };
        self.work.raise();
        self.filing.raise();
        for task in tasks {
            let _ = task.await;
        }
        let opened = {
            let mut state = self.state.borrow_mut();
            state.pending.clear();
            state.unflushed.clear();
            state.regions.clear();
            state.file.take()
        };
        let Some(Opened { file, shape, core, .. }) = opened else { return Ok(()) };
        if empty {
            write_head(&file, FileHead { core, shape, life: draw_life() }).await?;
        }
        file.close().await
    }

    /// Takes note of a log that has something for the journal.
    fn offer(&self, log: Rc<Inner>) {
        self.state.borrow_mut().pending.push_back(log);
        self.work.raise();
    }

    /// Has what is written made durable, within `delay`.
    fn flush_within(&self, delay: Duration) {
        let at = clock::now() + delay;
        {
            let mut state = self.state.borrow_mut();
            if state.unflushed.is_empty() || state.flush_at.is_some_and(|before| before <= at) {
                return;
            }
            state.flush_at = Some(at);
        }
        self.work.raise();
    }

    fn has_failed(&self) -> bool {
        self.state.borrow().failed
    }

    /// Gives up the file. All that is not in the segments goes there.
    fn fail(&self, verb: &str, error: &io::Error) {
        self.ready.set(false);
        let logs: Vec<Rc<Inner>> = {
            let mut state = self.state.borrow_mut();
            let path = state.file.as_ref().map(|opened| Rc::clone(&opened.path));
            let reason = path.map(|path| describe(verb, &path, error)).unwrap_or_default();
            tracing::error!("the core goes on without a journal: {reason}");
            self.memory.failures.note(Failure { reason: reason.into(), of_journal: true });
            state.failed = true;
            state.flush_at = None;
            state.unflushed.clear();
            let pending: Vec<_> = state.pending.drain(..).collect();
            let held = state.regions.iter().flat_map(|region| region.logs.iter().map(|(log, _)| Rc::clone(log)));
            held.chain(pending).collect()
        };
        for log in logs {
            log.leave_journal(self);
        }
        self.filing.raise();
    }
}

fn draw_life() -> u64 {
    let random = crate::runtime::random_bytes();
    u64::from_be_bytes(random[..8].try_into().expect("eight of sixteen bytes"))
}

async fn write_head(file: &File, head: FileHead) -> io::Result<()> {
    file.write(Rc::new(head.encode()), 0).await?;
    file.flush().await
}

/// Writes zeroes to the whole file, of which the head comes first: while the file is being
/// filled it has none. False when `stop` was raised before the end.
async fn fill(file: &File, shape: Shape, stop: &StopFlag) -> io::Result<bool> {
    let bytes = shape.file_bytes().expect("a shape that fits into memory");
    let zeroes = |len: usize| {
        let buffer = Buffer::with_capacity(len);
        buffer.push_zeroes(len);
        Rc::new(buffer)
    };
    file.write(zeroes(BLOCK_BYTES), 0).await?;
    file.flush().await?;
    if file.length() > bytes {
        file.set_length(bytes).await?;
    }
    match file.allocate(0, bytes).await {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        result => result?,
    }
    let chunk = zeroes((LOG_WRITE_BYTES_MAX as u64).min(bytes) as usize);
    let mut at = BLOCK_BYTES as u64;
    while at < bytes {
        if stop.is_raised() {
            return Ok(false);
        }
        let left = (bytes - at) as usize;
        let part = if left < chunk.len() { zeroes(left) } else { Rc::clone(&chunk) };
        let len = part.len() as u64;
        file.write(part, at).await?;
        at += len;
        if at < bytes {
            clock::sleep(FILL_PAUSE).await;
        }
    }
    file.flush().await?;
    Ok(true)
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
