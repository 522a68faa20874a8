//! The cores of the process: one pinned executor each, started and ended together.
//!
//! [`run_cores`] blocks its thread until all cores have ended; that thread reads
//! the signals meanwhile and, after a failure, ends the process if a core does not
//! stop in time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::timer::Timer;
use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle};

use super::process::{Process, RuntimeError, wait_readable};
use super::task::{Events, Queue, StopFlag, panic_message};
use super::watch::{Lookout, Stall, Tag, Watch};
use super::{disk, signal};
use crate::base::wait::Signal;
use crate::base::{CoreIndex, limits};

/// How the cores are to run.
#[derive(Clone, Debug)]
pub struct CorePlan {
    /// One core per CPU, in this order; see [`allowed_cpus`].
    pub cpus: Vec<usize>,
    /// Directories whose devices are warmed up on every core before its main
    /// future starts; a device that cannot be read directly fails the start.
    pub data_dirs: Vec<PathBuf>,
    /// How long a busy task may run before others get their turn.
    pub preempt: Duration,
    /// How long a core spins before it sleeps. `None`: not at all, so that an idle
    /// core costs nothing; 50 to 100 µs lowers latency on CPUs of our own.
    pub spin: Option<Duration>,
    /// Memory per core registered with the kernel for file I/O, in bytes.
    pub io_memory_bytes: usize,
    /// After a failure, how long cores may take to stop before the process exits.
    pub grace: Duration,
    /// A task that holds a core for longer is counted and logged ([`super::task::stalls`]);
    /// `None`: none is.
    pub stall: Option<Duration>,
}

impl CorePlan {
    /// The plan for these CPUs, with everything else at its default.
    /// `memlock_bytes` is what may be locked beside the rings
    /// ([`super::HostFacts::memlock_bytes`]), `None` when there is no limit.
    pub fn new(cpus: Vec<usize>, memlock_bytes: Option<u64>) -> CorePlan {
        let io_memory_bytes = io_memory_bytes(cpus.len(), memlock_bytes);
        let preempt = Duration::from_micros(PREEMPT_US);
        let (grace, stall) = (Duration::from_secs(5), Some(STALL));
        CorePlan { cpus, data_dirs: Vec::new(), preempt, spin: None, io_memory_bytes, grace, stall }
    }
}

/// Registered memory per core. Registering pins the pages, so it counts as
/// resident from the start: 24 MiB for the whole process, no more than 8 MiB for a
/// core. The kernel counts it three times (one ring each) against the limit.
/// Buffers beyond it come from the heap, unregistered.
fn io_memory_bytes(cores: usize, memlock_bytes: Option<u64>) -> usize {
    const PROCESS_BYTES: usize = 24 << 20;
    const CORE_BYTES_MAX: usize = 8 << 20;
    const CORE_BYTES_MIN: usize = 64 << 10;
    let cores = cores.max(1);
    let allowed = memlock_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let fair = (PROCESS_BYTES / cores).min(allowed / 3 / cores).min(CORE_BYTES_MAX);
    fair.max(CORE_BYTES_MIN) & !(limits::BLOCK_BYTES - 1)
}

/// The usual bound on one turn of a task: forty times what a slice of work may take
/// ([`limits::SLICE_US_MAX`]), and about as long as clients of a fast drive wait for an answer.
const STALL: Duration = Duration::from_millis(10);

/// The CPUs this thread may run on (`sched_getaffinity`), in ascending order.
pub fn allowed_cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let cpus: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Lets this thread run on `cpus` only. Failure leaves it where it was.
fn set_affinity(cpus: &[usize]) {
    // SAFETY: cpu_set_t is a plain bit set for which zeroes are valid; CPU_SET is
    // given numbers below its number of bits; the pointer is to that local with its
    // true size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < 8 * std::mem::size_of::<libc::cpu_set_t>()) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
    }
}

/// What this thread's core knows of itself.
pub(super) struct Core {
    index: CoreIndex,
    queues: [TaskQueueHandle; 3],
    process: Arc<Process>,
    stop: StopFlag,
    terminations: Cell<u32>,
    termination: Signal,
    watch: Watch,
    /// Tasks that have not ended, by name.
    pub alive: RefCell<HashMap<&'static str, usize>>,
    /// Counts the names that went to zero.
    pub alive_changed: Rc<Events>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// This thread's core.
///
/// # Panics
/// Outside [`run_cores`] and [`run_one`]: a caller's mistake.
pub(super) fn current() -> Rc<Core> {
    CURRENT.with(|current| current.borrow().clone()).expect("this thread runs no core (run_cores, run_one)")
}

/// Takes the core off its thread when its main future is over.
struct Installed(Rc<Core>);

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.with(|current| current.borrow_mut().take());
    }
}

impl Core {
    /// To be called within a running executor.
    fn install(index: CoreIndex, process: Arc<Process>, stall: Option<Duration>) -> Installed {
        let executor = glommio::executor();
        let queues = [
            executor.create_task_queue(
                Shares::Static(1000),
                Latency::Matters(Duration::from_micros(PREEMPT_US)),
                "network",
            ),
            executor.create_task_queue(
                Shares::Static(1000),
                Latency::Matters(Duration::from_micros(PREEMPT_US)),
                "log",
            ),
            executor.create_task_queue(Shares::Static(100), Latency::NotImportant, "upkeep"),
        ];
        let core = Rc::new(Core {
            index,
            queues,
            process,
            stop: StopFlag::new(),
            terminations: Cell::new(0),
            termination: Signal::new(),
            watch: Watch::new(index, stall),
            alive: RefCell::new(HashMap::new()),
            alive_changed: Rc::new(Events::default()),
        });
        CURRENT.with(|current| *current.borrow_mut() = Some(Rc::clone(&core)));
        Installed(core)
    }

    pub fn index(&self) -> CoreIndex {
        self.index
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn queue(&self, queue: Queue) -> TaskQueueHandle {
        match queue {
            Queue::Network => self.queues[0],
            Queue::Log => self.queues[1],
            Queue::Upkeep => self.queues[2],
        }
    }

    /// What a task is called for [`Core::turn`].
    pub fn tag(&self, name: &'static str, queue: Option<Queue>) -> Tag {
        self.watch.tag(&self.process.pulses()[usize::from(self.index.0)], name, queue)
    }

    /// Lets a task have its turn, and notes one that is too long.
    pub fn turn<T>(&self, tag: Tag, run: impl FnOnce() -> T) -> T {
        self.watch.turn(&self.process.pulses()[usize::from(self.index.0)], tag, run)
    }

    pub fn stalls(&self) -> (u64, Vec<Stall>) {
        (self.watch.count(), self.watch.stalls())
    }

    pub fn take_termination(&self) -> bool {
        let left = self.terminations.get();
        self.terminations.set(left.saturating_sub(1));
        left > 0
    }

    pub fn termination_signal(&self) -> &Signal {
        &self.termination
    }

    /// Carries what other threads say to this core's own flags.
    async fn watch(self: Rc<Core>) {
        let mut seen = 0;
        while let Some(news) = self.process.news(self.index, seen).await {
            seen = news.version;
            if news.terminations > 0 {
                self.terminations.set(self.terminations.get() + news.terminations);
                self.termination.raise();
            }
            if news.stop {
                self.stop.raise();
            }
        }
    }
}

/// Raised on this core when the process is to stop: after a failure anywhere, or
/// [`request_stop`]. A core's main future ends soon after.
pub fn stop_flag() -> StopFlag {
    current().stop.clone()
}

/// Raises the stop flag of every core.
pub fn request_stop() {
    current().process.request_stop();
}

/// Whether the process stops because of a failure: then nothing may be marked as
/// cleanly closed.
pub fn failed() -> bool {
    current().process.failure().is_some()
}

/// Runs `main` on every core of the plan and blocks until all have ended.
///
/// The first error or panic of a core is the result; it tells the others to stop
/// ([`stop_flag`]). When they have not ended within the plan's grace, the process
/// exits with code 70.
pub fn run_cores<F, Fut, E>(plan: CorePlan, main: F) -> Result<(), RuntimeError>
where
    F: Fn(CoreIndex) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: Display + 'static,
{
    let set_up = |error: std::io::Error| RuntimeError::Process(error.to_string());
    let signals = signal::Signals::new().map_err(set_up)?;
    signal::Nudge::prepare();
    let process = Arc::new(Process::new(plan.cpus.len()).map_err(set_up)?);
    let plan = Arc::new(plan);
    let mut threads = Vec::new();
    for (index, &cpu) in plan.cpus.iter().enumerate() {
        let core = CoreIndex(index as u16);
        let (plan, process_here, main) = (Arc::clone(&plan), Arc::clone(&process), main.clone());
        let thread = std::thread::Builder::new().name(format!("corelog-{core}")).spawn(move || {
            // A panic inside glommio itself must not go unseen.
            let body = || core_thread(&plan, core, cpu, &process_here, main);
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(body)) {
                let message = panic_message(panic.as_ref());
                process_here.fail(RuntimeError::Panicked { task: "executor", core, message });
            }
            process_here.core_ended(core);
            process_here.core_gone(core);
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                process.fail(RuntimeError::Start { core, cpu, reason: error.to_string() });
                process.core_gone(core);
            }
        }
    }
    supervise(&process, &signals, &threads, plan.grace).map_err(set_up)?;
    for thread in threads {
        // Panics are caught within.
        let _ = thread.join();
    }
    process.failure().map_or(Ok(()), Err)
}

/// How often cores are woken from outside: see [`heartbeat`]. More often until each
/// has started, for before that they have no heartbeat.
const NUDGE: Duration = Duration::from_secs(1);
const NUDGE_AT_START: Duration = Duration::from_millis(2);

/// Exit code when cores do not stop after a failure (`EX_SOFTWARE`).
const EXIT_STUCK: i32 = 70;

fn supervise(
    process: &Process,
    signals: &signal::Signals,
    threads: &[JoinHandle<()>],
    grace: Duration,
) -> std::io::Result<()> {
    let mut deadline = None;
    let mut lookout = Lookout::new(process.pulses(), Instant::now());
    loop {
        let running = process.running();
        if running.is_empty() {
            return Ok(());
        }
        if let Some(failure) = process.failure() {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + grace);
            if Instant::now() >= deadline {
                tracing::error!("cores {running:?} did not stop within {grace:?} after: {failure}; exiting");
                std::process::exit(EXIT_STUCK);
            }
        }
        lookout.look(process.pulses(), Instant::now());
        let nudge = if process.all_started() { NUDGE } else { NUDGE_AT_START };
        let left = deadline.map_or(nudge, |deadline| deadline.saturating_duration_since(Instant::now()).min(nudge));
        let (signalled, changed) = wait_readable(signals.fd(), process.changed_fd(), left)?;
        if !signalled && !changed {
            // None of them has been joined yet.
            threads.iter().for_each(|thread| signal::Nudge::thread(thread).wake());
        }
        if signalled {
            while let Some(number) = signals.take() {
                tracing::info!("received signal {number}");
                process.terminate();
            }
        }
        if changed {
            process.drain();
        }
    }
}

fn core_thread<F, Fut, E>(plan: &CorePlan, core: CoreIndex, cpu: usize, process: &Arc<Process>, main: F)
where
    F: Fn(CoreIndex) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    // glommio starts its helper thread from here before it binds this thread to
    // its CPU, and the helper keeps the affinity of this moment.
    let allowed = allowed_cpus();
    let spare: Vec<usize> = allowed.into_iter().filter(|cpu| !plan.cpus.contains(cpu)).collect();
    if !spare.is_empty() {
        set_affinity(&spare);
    }
    let mut builder = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("corelog")
        .ring_depth(RING_DEPTH)
        .preempt_timer(plan.preempt)
        .io_memory(plan.io_memory_bytes)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    if let Some(spin) = plan.spin {
        builder = builder.spin_before_park(spin);
    }
    let executor = match builder.make() {
        Ok(executor) => executor,
        Err(error) => return process.fail(RuntimeError::Start { core, cpu, reason: why_not_started(error) }),
    };
    executor.run(async {
        process.core_started(core);
        let installed = Core::install(core, Arc::clone(process), plan.stall);
        let watcher = glommio::spawn_local(Rc::clone(&installed.0).watch()).detach();
        let ended = StopFlag::new();
        let heart = glommio::spawn_local(heartbeat(ended.clone())).detach();
        let body = async {
            for dir in &plan.data_dirs {
                disk::warm_up(dir).await.map_err(|error| format!("warm-up of {}: {error}", dir.display()))?;
            }
            main(core).await.map_err(|error| error.to_string())
        };
        let tag = installed.0.tag("main", None);
        let mut body = pin!(AssertUnwindSafe(body).catch_unwind());
        match std::future::poll_fn(|cx| installed.0.turn(tag, || body.as_mut().poll(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => process.fail(RuntimeError::Core { core, reason }),
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                process.fail(RuntimeError::Panicked { task: "main", core, message });
            }
        }
        process.core_ended(core);
        ended.raise();
        watcher.await;
        heart.await;
    });
}

/// Wakes the core up now and then. glommio 0.9 may go to sleep with tasks ready to
/// run: when its preempt timer fires between its arming and the first look at the
/// task queues (the thread was descheduled just there), no queue is run, and the
/// core parks as if there were nothing to do, until the next event from outside
/// (fixed in the fork as glommio/glommio#53, in no release). This bounds such a
/// sleep, by about the time between two events of the core's work: the pause becomes a
/// quarter after a look that found work, down to [`BEAT_BUSY`], and twice as long
/// after one that found none, up to [`BEAT_IDLE`].
///
/// The beat itself can be hit; several timers are therefore armed at once. They lie
/// ever further apart: a thread that has lost its CPU for a while finds all those
/// of the meantime due in one, and that one may be hit. Behind the last of them
/// stands [`supervise`], which nudges every core once a second.
async fn heartbeat(ended: StopFlag) {
    const DISTANCES: [u32; 6] = [1, 4, 16, 64, 256, 1024];
    let mut pause = BEAT_BUSY;
    while !ended.is_raised() {
        let mut timers = DISTANCES.map(|distance| Timer::new(pause * distance));
        let mut raised = pin!(ended.raised());
        std::future::poll_fn(|cx| {
            // All are polled, which arms them.
            let polled = timers.iter_mut().map(|timer| Pin::new(timer).poll(cx).is_ready());
            let fired = polled.fold(false, |any, ready| any | ready);
            if fired { Poll::Ready(()) } else { raised.as_mut().poll(cx) }
        })
        .await;
        // Tasks run since the last look; this one is among them.
        let busy = glommio::executor().executor_stats().tasks_executed() > 1;
        pause = if busy { pause / 4 } else { pause * 2 }.clamp(BEAT_BUSY, BEAT_IDLE);
    }
}

const BEAT_BUSY: Duration = Duration::from_millis(1);
const BEAT_IDLE: Duration = Duration::from_millis(250);

/// Slice of a busy queue before I/O is looked at again. Shorter means less delay for
/// sockets beside busy tasks, and more re-arming.
const PREEMPT_US: u64 = 500;

/// Operations a ring can hold; more wait in glommio's queue.
const RING_DEPTH: usize = 1024;

/// What the kernel may count as locked for one core: three rings, each of 64 bytes
/// per operation, twice 16 for completions and 4 for an index, in pages; old kernels
/// round the two parts up to powers of two.
pub(super) const RINGS_BYTES_MAX: u64 = 3 * 2 * 64 * RING_DEPTH as u64;

/// glommio's words for an executor that could not be made, and ours for the one cause
/// that an operator can remove.
fn why_not_started(error: impl Display) -> String {
    let text = error.to_string();
    // glommio wraps the error, but keeps the system's words.
    match text.contains("os error 12") {
        true => format!(
            "{text}: where the kernel counts io_uring's rings as locked memory, of all processes of a user, the limit \
             is used up: raise it (ulimit -l, LimitMEMLOCK= of the service, --ulimit memlock= of the container)"
        ),
        false => text,
    }
}

/// Runs one future on an executor of its own on this thread: for unit tests, and
/// for commands that need one core's worth of runtime. Unpinned, small buffers, no
/// signals.
///
/// # Panics
/// When the executor cannot be made, or a task with [`super::task::OnPanic::StopProcess`]
/// panics.
pub fn run_one<T>(future: impl Future<Output = T>) -> T {
    let core = CoreIndex(0);
    let process = Arc::new(Process::new(1).expect("an eventfd can be had"));
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("corelog")
        .ring_depth(128)
        .preempt_timer(Duration::from_micros(PREEMPT_US))
        .io_memory(64 << 10)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .expect("an executor can be made: io_uring and 512 KiB of locked memory");
    let nudger = Nudger::start();
    // A panic is carried out of the executor before it goes on: unwinding through
    // glommio would leave its threads behind.
    let outcome = executor.run(async {
        let installed = Core::install(core, Arc::clone(&process), Some(STALL));
        let watcher = glommio::spawn_local(Rc::clone(&installed.0).watch()).detach();
        let ended = StopFlag::new();
        let heart = glommio::spawn_local(heartbeat(ended.clone())).detach();
        let failed = async {
            installed.0.stop.raised().await;
            match process.failure() {
                Some(failure) => Err(failure),
                // A stop without a failure is the future's own affair.
                None => std::future::pending().await,
            }
        };
        let guarded = async { Ok(AssertUnwindSafe(future).catch_unwind().await) };
        let outcome = futures_lite::future::or(guarded, failed).await;
        process.core_ended(core);
        ended.raise();
        watcher.await;
        heart.await;
        outcome
    });
    drop(nudger);
    match outcome {
        Ok(Ok(output)) => output,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(failure) => panic!("{failure}"),
    }
}

/// Does for [`run_one`] what [`supervise`] does for the cores: nudges the thread that
/// made it, often at first, until dropped.
struct Nudger {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nudger {
    fn start() -> Nudger {
        signal::Nudge::prepare();
        let target = signal::Nudge::this_thread();
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let body = move || {
            let mut pause = NUDGE_AT_START;
            while !seen.load(Ordering::Acquire) {
                std::thread::park_timeout(pause);
                target.wake();
                pause = (pause * 2).min(NUDGE);
            }
        };
        // Without the thread it goes on unprotected.
        let thread = std::thread::Builder::new().name("corelog-nudge".to_owned()).spawn(body).ok();
        Nudger { done, thread }
    }
}

impl Drop for Nudger {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        // Joined, so that the target outlives every nudge.
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_memory_stays_within_its_limits() {
        const MIB: usize = 1 << 20;
        for (cores, memlock, expected) in [
            (1, None, 8 * MIB),
            (2, None, 8 * MIB),
            (4, None, 6 * MIB),
            (32, None, 768 << 10),
            (2, Some(8 << 20), 1396736),
            (32, Some(8 << 20), 86016),
            (64, Some(512 << 10), 64 << 10),
        ] {
            assert_eq!(io_memory_bytes(cores, memlock), expected, "{cores} cores, {memlock:?}");
        }
    }

    /// A plan for tests: two cores, on one CPU if there is only one.
    pub fn small_plan() -> CorePlan {
        let cpus = allowed_cpus();
        let cpus = vec![cpus[0], *cpus.last().unwrap()];
        CorePlan { io_memory_bytes: 64 << 10, grace: Duration::from_secs(60), ..CorePlan::new(cpus, None) }
    }

    #[test]
    fn a_core_that_fails_stops_the_others_with_its_reason() {
        let ended = run_cores(small_plan(), |core| async move {
            if core.0 == 1 {
                return Err("no such thing");
            }
            stop_flag().raised().await;
            assert!(failed());
            Ok(())
        });
        assert_eq!(ended.unwrap_err().to_string(), "core 1: no such thing");
    }

    #[test]
    fn a_request_to_stop_reaches_all_cores_and_is_no_failure() {
        run_cores(small_plan(), |core| async move {
            if core.0 == 1 {
                request_stop();
            }
            stop_flag().raised().await;
            assert!(!failed());
            Ok::<(), String>(())
        })
        .unwrap();
    }

    #[test]
    fn a_panic_in_a_main_future_is_named() {
        let ended = run_cores(small_plan(), |core| async move {
            assert!(core.0 != 0, "zero is wrong");
            stop_flag().raised().await;
            Ok::<(), String>(())
        });
        assert_eq!(ended.unwrap_err().to_string(), "task 'main' of core 0 panicked: zero is wrong");
    }

    #[test]
    fn data_directories_are_warmed_up_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let plan = CorePlan { data_dirs: vec![dir.path().to_owned()], ..small_plan() };
        run_cores(plan.clone(), |_| async { Ok::<(), String>(()) }).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let plan = CorePlan { data_dirs: vec![dir.path().join("no")], ..plan };
        let text = run_cores(plan, |_| async { Ok::<(), String>(()) }).unwrap_err().to_string();
        assert!(text.contains("warm-up of"), "{text}");
    }
}
