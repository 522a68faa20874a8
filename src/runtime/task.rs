//! Tasks of one core: guarded against panics, told to stop, never cancelled.
//!
//! **Panic rule.** A task says at its start what its panic means.
//! [`OnPanic::StopProcess`] is for whatever others on the core rely on (the log
//! writer, the controller, mesh pumps): the panic's reason is recorded, all cores
//! are told to stop, and [`super::run_cores`] ends with that reason; a core that
//! does not stop within the plan's grace makes the process exit. [`OnPanic::EndTask`]
//! is for what stands alone (one connection): its task ends, an error is logged,
//! everything else goes on.
//!
//! **Stopping.** Tasks are detached, and end by themselves when a [`StopFlag`] they
//! watch is raised or the thing they serve is closed. Nobody cancels one.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::FutureExt;

use super::jobs::{HelperOf, Pulse};
use super::process::RuntimeError;
use super::watch::Stall;
use super::{cores, reactor};
use crate::base::budget::Permit;

/// Where a task's CPU time is counted. Shares apply when several are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Connections and what answers them: 1000 shares, first to run.
    Network,
    /// Log writers, the controller, mesh pumps: 1000 shares.
    Log,
    /// Retention, compaction, housekeeping: 100 shares, no claim on latency.
    Upkeep,
}

/// What a panic of a task means: see the module's panic rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    StopProcess,
    EndTask,
}

/// Starts a task on this core. It runs until it ends by itself.
pub fn spawn(queue: Queue, name: &'static str, rule: OnPanic, future: impl Future<Output = ()> + 'static) {
    let core = cores::current();
    let alive = Alive::new(&core, name);
    let tag = core.tag(name, Some(queue));
    let guarded = async move {
        let alive = alive;
        let mut guarded = pin!(AssertUnwindSafe(future).catch_unwind());
        let ended = std::future::poll_fn(|cx| alive.core.turn(tag, || guarded.as_mut().poll(cx))).await;
        if let Err(panic) = ended {
            let message = panic_message(panic.as_ref());
            match rule {
                OnPanic::StopProcess => {
                    alive.core.process().fail(RuntimeError::Panicked { task: name, core: alive.core.index(), message });
                }
                OnPanic::EndTask => {
                    tracing::error!(
                        "task '{name}' of core {} panicked: {message}; only this task ends",
                        alive.core.index()
                    );
                }
            }
        }
    };
    reactor::spawn(queue, guarded);
}

/// Gives way to other tasks if this one has used up its slice. Cheap when not.
pub async fn yield_if_needed() {
    if reactor::slice_is_over() {
        yield_now().await;
    }
}

/// Gives way to the other tasks of this queue once, in any case.
pub async fn yield_now() {
    futures_lite::future::yield_now().await;
}

/// For a task that hands over much piece by piece. While there is `more` it gives way to everything else on this core
/// after each piece, so that what is small waits for one piece at most; after the last as [`yield_if_needed`].
pub async fn give_way(more: bool) {
    match more {
        true => reactor::stand_back().await,
        false => yield_if_needed().await,
    }
}

/// Says that somebody waits for something that takes a few turns of this core: for a moment others
/// keep theirs short.
pub fn make_haste() {
    reactor::make_haste();
}

/// Whether somebody did so lately.
pub(super) fn is_in_haste() -> bool {
    reactor::is_in_haste()
}

/// Gives each of this core's helpers `count` more threads, for as long as the core runs: when it stops there are many files to
/// flush, and file systems make flushes that are asked for at the same time durable together. While it serves, one
/// thread leaves the drive to those who wait for records.
pub fn reinforce_helpers(count: usize) {
    if let Err(error) = cores::current().helpers().add_threads(count) {
        tracing::warn!("start one more helper: {error}; it goes on with fewer");
    }
}

/// Which helper does jobs with this file or directory.
pub(super) fn helper_of(path: &Path) -> HelperOf {
    cores::current().helpers().of(path)
}

/// What a core sees of the drive.
pub(super) fn pulse_of(helper: HelperOf) -> Rc<Pulse> {
    Rc::clone(cores::current().helpers().pulse(helper))
}

/// Takes one of the workers that the drive may have of the kernel, for an operation that may need one; they are
/// counted where there are several drives.
pub(super) async fn take_worker(of: HelperOf) -> Option<Permit> {
    let workers = cores::current().helpers().workers(of).cloned();
    match workers {
        Some(workers) => Some(workers.take(1).await),
        None => None,
    }
}

/// Runs a blocking job, which has to do with no drive, on a helper thread of this core and waits for it. Jobs run
/// one after another, until [`reinforce_helpers`]. A panic in the job becomes an error.
pub async fn on_helper<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    on_helper_of(HelperOf::NO_DRIVE, job).await
}

/// As [`on_helper`], on that of a drive.
pub(super) async fn on_helper_of<T: Send + 'static>(
    of: HelperOf,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let job = move || {
        // A panic must not end the helper.
        std::panic::catch_unwind(AssertUnwindSafe(job))
            .unwrap_or_else(|panic| Err(io::Error::other(format!("panic: {}", panic_message(panic.as_ref())))))
    };
    cores::current().helpers().get(of).run(job).await
}

/// Names of the tasks of this core that have not ended, each with its count.
pub fn alive() -> Vec<(&'static str, usize)> {
    let mut names: Vec<_> = cores::current().alive.borrow().iter().map(|(name, count)| (*name, *count)).collect();
    names.sort_unstable();
    names
}

/// Completes when no task with this name is left on this core.
pub async fn all_ended(name: &'static str) {
    let core = cores::current();
    loop {
        let seen = core.alive_changed.count();
        if !core.alive.borrow().contains_key(name) {
            return;
        }
        core.alive_changed.after(seen).await;
    }
}

/// The tasks of this core that held it up for longer than `CorePlan::stall`: how many there were
/// since the start, and the latest, oldest first.
pub fn stalls() -> (u64, Vec<Stall>) {
    cores::current().stalls()
}

/// Counts a task under its name while it lives.
struct Alive {
    core: Rc<cores::Core>,
    name: &'static str,
}

impl Alive {
    fn new(core: &Rc<cores::Core>, name: &'static str) -> Alive {
        *core.alive.borrow_mut().entry(name).or_insert(0) += 1;
        Alive { core: Rc::clone(core), name }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut alive = self.core.alive.borrow_mut();
        if let Some(count) = alive.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                alive.remove(self.name);
                drop(alive);
                self.core.alive_changed.notify();
            }
        }
    }
}

/// The text of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

/// Counts events and wakes all who wait for the next one. A waiter keeps one
/// place however often it is polled.
#[derive(Default)]
pub(super) struct Events {
    count: Cell<u64>,
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Events {
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Counts one event.
    pub fn notify(&self) {
        self.count.set(self.count.get() + 1);
        let wakers: Vec<Waker> = self.places.borrow_mut().wakers.iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Completes once the count differs from `seen`.
    pub fn after(self: &Rc<Self>, seen: u64) -> impl Future<Output = ()> + use<> {
        After { events: Rc::clone(self), seen, place: None }
    }
}

struct After {
    events: Rc<Events>,
    seen: u64,
    place: Option<usize>,
}

impl Future for After {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.events.count.get() != self.seen {
            return Poll::Ready(());
        }
        let events = Rc::clone(&self.events);
        let mut places = events.places.borrow_mut();
        let place = *self.place.get_or_insert_with(|| {
            places.free.pop().unwrap_or_else(|| {
                places.wakers.push(None);
                places.wakers.len() - 1
            })
        });
        if !places.wakers[place].as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            places.wakers[place] = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for After {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut places = self.events.places.borrow_mut();
            places.wakers[place] = None;
            places.free.push(place);
        }
    }
}

/// A flag that is raised once and stays so; any number of tasks may wait for it.
/// Clones are the same flag.
#[derive(Clone, Default)]
pub struct StopFlag(Rc<Events>);

impl StopFlag {
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// Raises the flag and wakes all who wait. Again: nothing.
    pub fn raise(&self) {
        if !self.is_raised() {
            self.0.notify();
        }
    }

    pub fn is_raised(&self) -> bool {
        self.0.count() > 0
    }

    /// Completes once the flag is raised.
    pub fn raised(&self) -> impl Future<Output = ()> + use<> {
        self.0.after(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{clock, run_one};
    use std::time::Duration;

    #[test]
    fn a_panicking_task_of_its_own_leaves_the_rest_alone() {
        run_one(async {
            spawn(Queue::Network, "doomed", OnPanic::EndTask, async { panic!("of no use") });
            all_ended("doomed").await;
            assert_eq!(on_helper(|| Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    #[should_panic(expected = "task 'pillar' of core 0 panicked: fell")]
    fn a_panicking_task_that_others_rely_on_ends_the_run() {
        run_one(async {
            spawn(Queue::Log, "pillar", OnPanic::StopProcess, async { panic!("fell") });
            std::future::pending::<()>().await;
        });
    }

    #[test]
    fn a_panicking_job_is_an_error_and_the_helper_goes_on() {
        run_one(async {
            for _ in 0..3 {
                let error = on_helper(|| -> io::Result<()> { panic!("bad job") }).await.unwrap_err();
                assert_eq!(error.to_string(), "panic: bad job");
            }
            assert_eq!(on_helper(|| Ok(1)).await.unwrap(), 1);
        });
    }

    #[test]
    fn a_reinforced_helper_runs_jobs_at_the_same_time() {
        run_one(async {
            reinforce_helpers(1);
            let (one, other) = std::sync::mpsc::sync_channel::<()>(0);
            let waits = on_helper(move || other.recv().map_err(io::Error::other));
            let tells = on_helper(move || one.send(()).map_err(io::Error::other));
            let (waited, told) = futures_lite::future::zip(waits, tells).await;
            waited.unwrap();
            told.unwrap();
        });
    }

    #[test]
    fn a_stop_flag_wakes_all_and_keeps_one_place_per_waiter() {
        run_one(async {
            let flag = StopFlag::new();
            for _ in 0..100 {
                let flag = flag.clone();
                spawn(Queue::Network, "waiter", OnPanic::StopProcess, async move { flag.raised().await });
            }
            for _ in 0..1000 {
                assert!(futures_lite::future::poll_once(flag.raised()).await.is_none());
            }
            assert_eq!(alive(), [("waiter", 100)]);
            assert!(flag.0.places.borrow().wakers.len() <= 101);
            flag.raise();
            flag.raise();
            all_ended("waiter").await;
            flag.raised().await;
        });
    }

    #[test]
    fn a_task_that_holds_up_its_core_is_named() {
        run_one(async {
            spawn(Queue::Upkeep, "hog", OnPanic::StopProcess, async {
                yield_now().await;
                std::thread::sleep(Duration::from_millis(60));
            });
            all_ended("hog").await;
            let (count, stalls) = stalls();
            // Others may be there too, where the machine is busy.
            let hog = stalls.iter().find(|stall| stall.task == "hog").expect("60 ms are more than the bound");
            assert!(count >= 1 && hog.queue == Queue::Upkeep && hog.took >= Duration::from_millis(50), "{hog:?}");
        });
    }

    #[test]
    fn a_timeout_passes_only_when_the_future_does_not_complete() {
        run_one(async {
            assert_eq!(clock::timeout(Duration::from_millis(1), std::future::pending::<()>()).await, None);
            assert_eq!(clock::timeout(Duration::from_secs(60), async { 7 }).await, Some(7));
            let early = clock::now();
            clock::sleep_until(early + Duration::from_millis(2)).await;
            assert!(early.elapsed() >= Duration::from_millis(2));
        });
    }
}
