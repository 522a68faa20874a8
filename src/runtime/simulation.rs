//! A core whose time and order of tasks come from a seed: the same seed, the same run. For tests.
//!
//! Time goes on by a little with each turn of a task, and when nothing is ready it jumps to the next timer; so
//! minutes of waiting cost nothing, and when nothing is ready and no timer is armed, nothing will ever happen
//! again: the run ends there with a panic. Of the tasks that are ready any may be the next, of all queues.
//!
//! Only for what stays within the core and on a [simulated disk](super::disk::simulated): no files, no sockets, no
//! helper thread.

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;

use super::cores;
use super::disk::simulated::Random;
use super::jobs::Helpers;
use super::process::Process;
use super::reactor::{self, Reactor};
use super::task::Queue;
use super::watch::Watch;
use crate::base::{CoreIndex, UnixMs};

/// What the wall clock says when a simulation begins.
const BEGINS: UnixMs = UnixMs(1_750_000_000_000);

thread_local! {
    /// When the simulation of this thread began, and how far it has come.
    static TIME: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    /// Of which random bytes are made.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// The time of this thread's simulation, if one runs here.
pub(super) fn now() -> Option<Instant> {
    TIME.get().map(|(began, since)| began + since)
}

/// How long this thread's simulation has run, in its own time.
pub(super) fn elapsed() -> Option<Duration> {
    TIME.get().map(|(_, since)| since)
}

/// The wall clock of this thread's simulation, if one runs here.
pub(super) fn unix_ms() -> Option<UnixMs> {
    elapsed().map(|since| UnixMs(BEGINS.0 + since.as_millis() as i64))
}

/// What passes for random in this thread's simulation, if one runs here.
pub(super) fn random_bytes() -> Option<[u8; 16]> {
    elapsed()?;
    let mut random = Random::new(RANDOM.get());
    let both = [random.number(), random.number()];
    RANDOM.set(both[1]);
    Some(std::array::from_fn(|at| both[at / 8].to_be_bytes()[at % 8]))
}

pub(super) fn advance(by: Duration) {
    TIME.set(TIME.get().map(|(began, since)| (began, since + by)));
}

/// Puts the thread back on the real clocks.
struct Simulated;

impl Drop for Simulated {
    fn drop(&mut self) {
        TIME.set(None);
    }
}

/// Runs one future as [`super::run_one`] does, in simulated time and in an order that `seed` chooses.
///
/// # Panics
/// When nothing would ever happen again, or as `run_one`.
pub fn simulate<T>(seed: u64, future: impl Future<Output = T>) -> T {
    let core = CoreIndex(0);
    let process = Arc::new(Process::new(1).expect("an eventfd can be had"));
    let helpers = Helpers::start(&[]).expect("a thread can be started");
    assert!(TIME.get().is_none(), "one simulation runs on a thread");
    TIME.set(Some((Instant::now(), Duration::ZERO)));
    RANDOM.set(seed);
    let simulated = Simulated;
    let watch = std::rc::Rc::new(Watch::new(core, None));
    let reactor = Reactor::install(1, Duration::ZERO, std::rc::Rc::clone(&watch)).expect("a ring can be had");
    process.core_started(core, Arc::clone(reactor.bell()));
    let installed = cores::Core::install(core, Arc::clone(&process), helpers, watch);
    reactor::spawn(Queue::Log, std::rc::Rc::clone(&installed.0).watch());
    let failed = async {
        installed.0.stop_raised().await;
        match process.failure() {
            Some(failure) => Err(failure),
            None => std::future::pending().await,
        }
    };
    let guarded = async { Ok(AssertUnwindSafe(future).catch_unwind().await) };
    let mut random = Random::new(seed);
    let outcome = AssertUnwindSafe(|| reactor.simulate(futures_lite::future::or(guarded, failed), &mut random));
    let outcome = std::panic::catch_unwind(outcome);
    process.core_ended(core);
    drop(reactor);
    drop(installed);
    drop(simulated);
    match outcome {
        Ok(Ok(Ok(output))) => output,
        Ok(Ok(Err(panic))) | Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(failure)) => panic!("{failure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::task::{self, OnPanic};
    use crate::runtime::{clock, run_one};
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Who had its turn when.
    fn turns(seed: u64) -> Vec<(u32, Duration)> {
        simulate(seed, async {
            let turns: Rc<RefCell<Vec<_>>> = Rc::default();
            for number in 0..20 {
                let turns = Rc::clone(&turns);
                task::spawn(Queue::Network, "turns", OnPanic::StopProcess, async move {
                    for round in 0..3 {
                        clock::sleep(Duration::from_secs(u64::from(number % 4) + round)).await;
                        turns.borrow_mut().push((number, elapsed().unwrap()));
                    }
                });
            }
            task::all_ended("turns").await;
            turns.take()
        })
    }

    #[test]
    fn a_seed_gives_one_order_and_one_time_and_no_time_passes() {
        let began = Instant::now();
        assert_eq!(turns(1), turns(1));
        let orders: std::collections::BTreeSet<_> = (0..10).map(turns).collect();
        assert_eq!(orders.len(), 10);
        assert!(turns(1).last().unwrap().1 >= Duration::from_secs(6));
        assert!(began.elapsed() < Duration::from_secs(60), "13 times six seconds are more");
        // The thread's clocks are the real ones again.
        let before = clock::unix_ms();
        assert!(run_one(async { clock::unix_ms() }) >= before && before > BEGINS);
    }

    #[test]
    fn simulations_leave_no_descriptors() {
        // Other tests have some meanwhile, but not hundreds more than they had.
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        (0..500).for_each(|seed| simulate(seed, clock::sleep(Duration::from_secs(1))));
        let after = descriptors();
        assert!(after < before + 250, "{before} descriptors before, {after} after");
    }

    #[test]
    #[should_panic(expected = "nothing will ever happen again")]
    fn who_waits_for_what_never_comes_is_told() {
        simulate(3, std::future::pending::<()>());
    }

    #[test]
    #[should_panic(expected = "task 'pillar' of core 0 panicked: fell")]
    fn a_panic_of_a_task_that_others_rely_on_ends_it() {
        simulate(3, async {
            task::spawn(Queue::Log, "pillar", OnPanic::StopProcess, async { panic!("fell") });
            clock::sleep(Duration::from_secs(1)).await;
        });
    }
}
