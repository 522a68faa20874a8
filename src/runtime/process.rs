//! What the cores of one run share: the first failure, the wish to stop, and
//! signals counted. The only state here that several threads touch; it is
//! touched at start, at stop and at a failure, never on the data path.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::reactor::Bell;
use super::watch::Pulse;
use crate::base::CoreIndex;

/// Why the cores ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// An executor could not be made on its CPU.
    #[error("core {core} did not start on CPU {cpu}: {reason}")]
    Start { core: CoreIndex, cpu: usize, reason: String },
    /// The main future of a core ended with an error.
    #[error("core {core}: {reason}")]
    Core { core: CoreIndex, reason: String },
    /// A task under the rule `OnPanic::StopProcess`, or a core's main future,
    /// panicked: a bug. The process ends rather than go on with a core in doubt.
    #[error("task '{task}' of core {core} panicked: {message}")]
    Panicked { task: &'static str, core: CoreIndex, message: String },
    /// Signals or threads could not be set up.
    #[error("cannot set up the process: {0}")]
    Process(String),
}

/// Shared by all cores of one run.
pub(super) struct Process {
    state: Mutex<State>,
    /// Written whenever the thread that runs the cores has something to look at.
    changed: OwnedFd,
    /// What each core shows of itself; no lock is taken for it.
    pulses: Box<[Pulse]>,
}

struct State {
    failure: Option<RuntimeError>,
    stop: bool,
    /// SIGTERM and SIGINT received and not yet taken by core 0.
    terminations: u32,
    cores: Vec<CoreState>,
}

struct CoreState {
    /// Counts up with every change the core has to look at.
    version: u64,
    waker: Option<Waker>,
    /// Of a core that has started.
    bell: Option<Arc<Bell>>,
    /// The core's main future has ended: its watcher ends too.
    ended: bool,
    /// The core's thread has ended.
    gone: bool,
}

/// What a core's watcher learns.
pub(super) struct News {
    pub version: u64,
    pub stop: bool,
    pub terminations: u32,
}

impl Process {
    pub fn new(cores: usize) -> io::Result<Process> {
        // SAFETY: eventfd takes no pointers; the descriptor it returns is ours
        // alone and is checked before it is wrapped.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else closes.
        let changed = unsafe { OwnedFd::from_raw_fd(fd) };
        let core = || CoreState { version: 0, waker: None, bell: None, ended: false, gone: false };
        let pulses = (0..cores).map(|_| Pulse::new()).collect();
        let cores = (0..cores).map(|_| core()).collect();
        Ok(Process { state: Mutex::new(State { failure: None, stop: false, terminations: 0, cores }), changed, pulses })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    /// Descriptor that becomes readable when something changed.
    pub fn changed_fd(&self) -> i32 {
        self.changed.as_raw_fd()
    }

    fn nudge(&self) {
        let one = 1u64;
        // SAFETY: eight readable bytes, as eventfd wants; the descriptor is ours.
        // A full counter already means "changed", so the result is of no use.
        let _ = unsafe { libc::write(self.changed.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Empties the counter behind [`Process::changed_fd`].
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes, as eventfd wants; the descriptor is
        // non-blocking and ours.
        let _ = unsafe { libc::read(self.changed.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Records the first failure and tells every core to stop.
    pub fn fail(&self, failure: RuntimeError) {
        let mut state = self.lock();
        if state.failure.is_none() {
            // A start that fails ends at once, with this as its last line; a broker that has run may need a while.
            if !matches!(failure, RuntimeError::Start { .. }) {
                tracing::error!("{failure}; stopping");
            }
            state.failure = Some(failure);
        }
        state.stop = true;
        wake_all(state);
        self.nudge();
    }

    /// Tells every core to stop, without a failure.
    pub fn request_stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        wake_all(state);
    }

    /// Hands one termination signal to core 0.
    pub fn terminate(&self) {
        let mut state = self.lock();
        state.terminations += 1;
        wake_all(state);
    }

    /// The core's reactor runs.
    pub fn core_started(&self, core: CoreIndex, bell: Arc<Bell>) {
        self.lock().cores[usize::from(core.0)].bell = Some(bell);
    }

    /// How to wake a core; `None` until it has started.
    pub fn bell(&self, core: CoreIndex) -> Option<Arc<Bell>> {
        self.lock().cores[usize::from(core.0)].bell.clone()
    }

    pub fn failure(&self) -> Option<RuntimeError> {
        self.lock().failure.clone()
    }

    /// Something `core` has not seen yet; `None` once its main future ended.
    pub async fn news(&self, core: CoreIndex, seen: u64) -> Option<News> {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            let index = usize::from(core.0);
            if state.cores[index].ended {
                return Poll::Ready(None);
            }
            let version = state.cores[index].version;
            if version != seen {
                let terminations = if index == 0 { std::mem::take(&mut state.terminations) } else { 0 };
                return Poll::Ready(Some(News { version, stop: state.stop, terminations }));
            }
            state.cores[index].waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The core's main future has ended: ends its watcher, and drops the waker
    /// that would outlive the executor.
    pub fn core_ended(&self, core: CoreIndex) {
        let waker = {
            let mut state = self.lock();
            let core = &mut state.cores[usize::from(core.0)];
            core.ended = true;
            core.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The core's thread is about to end.
    pub fn core_gone(&self, core: CoreIndex) {
        self.lock().cores[usize::from(core.0)].gone = true;
        self.nudge();
    }

    /// Cores whose threads still run.
    pub fn running(&self) -> Vec<usize> {
        let state = self.lock();
        (0..state.cores.len()).filter(|&core| !state.cores[core].gone).collect()
    }
}

fn wake_all(mut state: MutexGuard<'_, State>) {
    let mut wakers = Vec::new();
    for core in &mut state.cores {
        core.version += 1;
        wakers.extend(core.waker.take());
    }
    // A waker takes locks of its own.
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// Waits until one of two descriptors is readable, or the time has passed.
pub(super) fn wait_readable(first: i32, second: i32, timeout: Duration) -> io::Result<(bool, bool)> {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(first), entry(second)];
    // Rounded up: rounded down, the last millisecond would be spent turning round.
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
    // SAFETY: `entries` is two valid pollfd for the length of the call.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok((false, false)) } else { Err(error) };
    }
    Ok((entries[0].revents != 0, entries[1].revents != 0))
}
