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
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::jobs::Helpers;
use super::process::{Process, RuntimeError, wait_readable};
use super::reactor::{self, Reactor};
use super::ring::RING_BYTES_MAX;
use super::task::{Events, Queue, StopFlag, panic_message};
use super::watch::{Lookout, Stall, Tag, Watch};
use super::{disk, signal};
use crate::base::CoreIndex;
use crate::base::limits::DRIVE_WORKERS;
use crate::base::wait::Signal;

/// How the cores are to run.
#[derive(Clone, Debug)]
pub struct CorePlan {
    /// One core per CPU, in this order; see [`allowed_cpus`].
    pub cpus: Vec<usize>,
    /// Directories whose devices are warmed up on every core before its main
    /// future starts; a device that cannot be read directly fails the start. Of several each has a thread of its own on
    /// each core for what blocks.
    pub data_dirs: Vec<PathBuf>,
    /// After a failure, how long cores may take to stop before the process exits.
    pub grace: Duration,
    /// A task that holds a core for longer is counted and logged ([`super::task::stalls`]);
    /// `None`: none is.
    pub stall: Option<Duration>,
    /// How long a core that has nothing to do looks out for work before it sleeps.
    pub spin: Duration,
}

impl CorePlan {
    /// The plan for these CPUs, with everything else at its default.
    pub fn new(cpus: Vec<usize>) -> CorePlan {
        CorePlan {
            cpus,
            data_dirs: Vec::new(),
            grace: Duration::from_secs(5),
            stall: Some(STALL),
            spin: Duration::ZERO,
        }
    }
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

/// Has this thread run only while no other wants its CPU (`SCHED_IDLE`): another that wakes gets it at once. Failure
/// leaves it as it was.
pub fn run_behind_others() {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 names the calling thread; the pointer is to that local.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) };
}

/// What this thread's core knows of itself.
pub(super) struct Core {
    index: CoreIndex,
    helpers: Helpers,
    process: Arc<Process>,
    stop: StopFlag,
    terminations: Cell<u32>,
    termination: Signal,
    watch: Rc<Watch>,
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

/// The same, or `None` at the end of a core.
pub(super) fn try_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// Takes the core off its thread when its main future is over.
pub(super) struct Installed(pub Rc<Core>);

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.with(|current| current.borrow_mut().take());
    }
}

impl Core {
    pub fn install(index: CoreIndex, process: Arc<Process>, helpers: Helpers, watch: Rc<Watch>) -> Installed {
        let core = Rc::new(Core {
            index,
            helpers,
            process,
            stop: StopFlag::new(),
            terminations: Cell::new(0),
            termination: Signal::new(),
            watch,
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

    pub fn helpers(&self) -> &Helpers {
        &self.helpers
    }

    /// What a task is called for [`Core::turn`].
    pub fn tag(&self, name: &'static str, queue: Option<Queue>) -> Tag {
        self.watch.tag(&self.process.pulses()[usize::from(self.index.0)], name, queue)
    }

    /// Lets a task have its turn; the reactor notes one that is too long.
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

    /// Completes when the process is to stop.
    #[cfg(test)]
    pub fn stop_raised(&self) -> impl Future<Output = ()> + use<> {
        self.stop.raised()
    }

    /// Carries what other threads say to this core's own flags.
    pub async fn watch(self: Rc<Core>) {
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

/// Stops the process for a reason: as when a core's main future ends with an error.
pub fn fail(reason: String) {
    let core = current();
    core.process.fail(RuntimeError::Core { core: core.index, reason });
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
    supervise(&process, &signals, plan.grace).map_err(set_up)?;
    for thread in threads {
        // Panics are caught within.
        let _ = thread.join();
    }
    process.failure().map_or(Ok(()), Err)
}

/// How often it is looked whether the cores turn.
const LOOK: Duration = Duration::from_secs(1);

/// Exit code when cores do not stop after a failure (`EX_SOFTWARE`).
const EXIT_STUCK: i32 = 70;

fn supervise(process: &Process, signals: &signal::Signals, grace: Duration) -> std::io::Result<()> {
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
        let left = deadline.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        let (signalled, changed) = wait_readable(signals.fd(), process.changed_fd(), left)?;
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
    // The helpers are started from here before this thread is bound to its CPU, and keep the
    // affinity of this moment.
    let allowed = allowed_cpus();
    let spare: Vec<usize> = allowed.into_iter().filter(|cpu| !plan.cpus.contains(cpu)).collect();
    if !spare.is_empty() {
        set_affinity(&spare);
    }
    let helpers = match Helpers::start(&plan.data_dirs) {
        Ok(helpers) => helpers,
        Err(error) => return process.fail(RuntimeError::Start { core, cpu, reason: error.to_string() }),
    };
    let executor = match executor(Placement::Fixed(cpu)) {
        Ok(executor) => executor,
        Err(reason) => return process.fail(RuntimeError::Start { core, cpu, reason }),
    };
    executor.run(async {
        let watch = Rc::new(Watch::new(core, plan.stall));
        let reactor = match Reactor::install(plan.cpus.len(), plan.spin, Rc::clone(&watch)) {
            Ok(reactor) => reactor,
            Err(error) => return process.fail(RuntimeError::Start { core, cpu, reason: why_not_started(error) }),
        };
        if helpers.drives() > 0
            && let Err(error) = reactor.allow_workers((helpers.drives() + 1) * DRIVE_WORKERS)
        {
            tracing::warn!(
                core = core.0,
                "a drive that stalls may hold up others: the kernel's threads for files: {error}"
            );
        }
        process.core_started(core, Arc::clone(reactor.bell()));
        let installed = Core::install(core, Arc::clone(process), helpers, watch);
        reactor::spawn(Queue::Log, Rc::clone(&installed.0).watch());
        let body = async {
            for dir in &plan.data_dirs {
                disk::warm_up(dir).await.map_err(|error| format!("warm-up of {}: {error}", dir.display()))?;
            }
            main(core).await.map_err(|error| error.to_string())
        };
        let tag = installed.0.tag("main", None);
        let mut body = pin!(AssertUnwindSafe(body).catch_unwind());
        match reactor.run(std::future::poll_fn(|cx| installed.0.turn(tag, || body.as_mut().poll(cx)))).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => process.fail(RuntimeError::Core { core, reason }),
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                process.fail(RuntimeError::Panicked { task: "main", core, message });
            }
        }
        process.core_ended(core);
    });
}

/// The executor that hosts a core: it gives the reactor its thread. Its own rings, timers
/// and memory stay as good as unused.
fn executor(placement: Placement) -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(placement)
        .name("corelog")
        .ring_depth(HOST_RING_DEPTH)
        .preempt_timer(HOST_PREEMPT)
        .io_memory(64 << 10)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(why_not_started)
}

/// The reactor is the executor's only task: there is nobody to give way to.
const HOST_PREEMPT: Duration = Duration::from_secs(3600);

/// Operations that one of the executor's rings can hold.
const HOST_RING_DEPTH: usize = 32;

/// What the kernel may count as locked for one core: its own ring, and the three of its
/// executor, each of 64 bytes per operation, twice 16 for completions and 4 for an index,
/// in pages; old kernels round the two parts up to powers of two.
pub(super) const RINGS_BYTES_MAX: u64 = RING_BYTES_MAX + 3 * (2 * 64 * HOST_RING_DEPTH as u64 + (8 << 10));

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
    let helpers = Helpers::start(&[]).expect("a thread can be started");
    let executor =
        executor(Placement::Unbound).expect("an executor can be made: io_uring and 512 KiB of locked memory");
    // A panic is carried out of the executor before it goes on: unwinding through
    // glommio would leave its threads behind.
    let outcome = executor.run(async {
        let watch = Rc::new(Watch::new(core, Some(STALL)));
        let reactor = Reactor::install(1, Duration::ZERO, Rc::clone(&watch)).expect("a ring can be had");
        process.core_started(core, Arc::clone(reactor.bell()));
        let installed = Core::install(core, Arc::clone(&process), helpers, watch);
        reactor::spawn(Queue::Log, Rc::clone(&installed.0).watch());
        let failed = async {
            installed.0.stop.raised().await;
            match process.failure() {
                Some(failure) => Err(failure),
                // A stop without a failure is the future's own affair.
                None => std::future::pending().await,
            }
        };
        let guarded = async { Ok(AssertUnwindSafe(future).catch_unwind().await) };
        let outcome = reactor.run(futures_lite::future::or(guarded, failed)).await;
        process.core_ended(core);
        outcome
    });
    match outcome {
        Ok(Ok(output)) => output,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(failure) => panic!("{failure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan for tests: two cores, on one CPU if there is only one.
    pub fn small_plan() -> CorePlan {
        let cpus = allowed_cpus();
        let cpus = vec![cpus[0], *cpus.last().unwrap()];
        CorePlan { grace: Duration::from_secs(60), ..CorePlan::new(cpus) }
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

    /// The log, as a test reads it.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    #[test]
    fn a_core_that_stands_still_is_named_with_its_task() {
        use crate::runtime::task::{self, OnPanic};
        let lines = Lines::default();
        let (log, seen) = (lines.clone(), lines.clone());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        // The supervisor is this thread.
        tracing::subscriber::with_default(subscriber, || {
            run_cores(small_plan(), move |core| {
                let seen = seen.clone();
                async move {
                    if core.0 == 1 {
                        // Until it has been named, or a minute has passed.
                        let stubborn = async move {
                            for _ in 0..6000 {
                                if seen.text().contains("has not turned") {
                                    break;
                                }
                                std::thread::sleep(Duration::from_millis(10));
                            }
                        };
                        task::spawn(Queue::Upkeep, "stubborn", OnPanic::StopProcess, stubborn);
                        task::all_ended("stubborn").await;
                    }
                    Ok::<(), String>(())
                }
            })
            .unwrap();
        });
        let text = lines.text();
        assert!(text.contains("core 1 has not turned for ") && text.contains("it is in task 'stubborn'"), "{text}");
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
