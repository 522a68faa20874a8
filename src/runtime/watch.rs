//! Which task runs on a core, seen from the core itself and from outside.
//!
//! A task that does not give way stops every connection of its core. Two look out for it:
//!
//! * **Each turn is timed** ([`Watch::ended`]), by the reactor, which needs the time anyway: one that took longer than the bound is
//!   counted, kept with the task's name, and logged, when it ends.
//! * **The supervisor looks once a second** ([`Lookout::look`]): a core in whose task nothing
//!   has moved since its last look is named while it stands still, for one that never ends.
//!
//! The time is the wall's: it contains what the kernel gave to other threads on that CPU.
//! Never takes a lock, and allocates only for what is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clock;
use super::task::Queue;
use crate::base::{CoreIndex, UnixMs};

/// A task that ran longer than it may without giving way.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    pub core: CoreIndex,
    /// The name it was started with.
    pub task: &'static str,
    pub queue: Queue,
    /// How long.
    pub took: Duration,
    /// When it gave way again.
    pub ended: UnixMs,
}

/// Stalls that a core remembers.
const STALLS_KEPT: usize = 32;
/// One line per core in this time at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Different names that tasks of a core may have; further ones are "another".
const NAMES_MAX: usize = 128;

/// What a core shows of itself: written by the core, read by the supervisor.
#[repr(align(128))]
pub(super) struct Pulse {
    /// Turns of tasks begun.
    turns: AtomicU64,
    /// The running task's place in `names`, counted from one. 0: none runs.
    running: AtomicU32,
    names: [OnceLock<&'static str>; NAMES_MAX],
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse { turns: AtomicU64::new(0), running: AtomicU32::new(0), names: [const { OnceLock::new() }; NAMES_MAX] }
    }

    /// The place of a name, which it gets with its first task.
    fn place(&self, name: &'static str) -> u32 {
        for (place, known) in (1..).zip(&self.names) {
            if *known.get_or_init(|| name) == name {
                return place;
            }
        }
        u32::MAX
    }

    fn name(&self, place: u32) -> &'static str {
        let at = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        at.and_then(|at| self.names.get(at)).and_then(OnceLock::get).copied().unwrap_or("another")
    }
}

/// What a task is called, in the pulse's form.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    name: &'static str,
    /// `None`: the core's main future.
    queue: Option<Queue>,
    place: u32,
}

/// One core's own look at its tasks.
pub(super) struct Watch {
    core: CoreIndex,
    /// A turn may take as long as this.
    bound: Duration,
    /// The task that has, or had, the turn.
    running: Cell<Option<Tag>>,
    count: Cell<u64>,
    stalls: RefCell<VecDeque<Stall>>,
    logged: Cell<Option<Instant>>,
    unlogged: Cell<u64>,
}

impl Watch {
    /// `bound`: how long a turn may take; `None` for ever.
    pub fn new(core: CoreIndex, bound: Option<Duration>) -> Watch {
        Watch {
            core,
            bound: bound.unwrap_or(Duration::MAX),
            running: Cell::new(None),
            count: Cell::new(0),
            stalls: RefCell::default(),
            logged: Cell::new(None),
            unlogged: Cell::new(0),
        }
    }

    pub fn tag(&self, pulse: &Pulse, name: &'static str, queue: Option<Queue>) -> Tag {
        Tag { name, queue, place: pulse.place(name) }
    }

    /// Lets a task have its turn.
    pub fn turn<T>(&self, pulse: &Pulse, tag: Tag, run: impl FnOnce() -> T) -> T {
        // Only this thread writes them.
        pulse.turns.store(pulse.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        pulse.running.store(tag.place, Ordering::Relaxed);
        self.running.set(Some(tag));
        let output = run();
        pulse.running.store(0, Ordering::Relaxed);
        output
    }

    /// A turn begins, of whichever task.
    pub fn begins(&self) {
        self.running.set(None);
    }

    /// That turn has ended.
    pub fn ended(&self, took: Duration) {
        if took > self.bound
            && let Some(tag) = self.running.get()
        {
            self.stalled(tag, took);
        }
    }

    #[cold]
    fn stalled(&self, tag: Tag, took: Duration) {
        // The main future takes its time while it starts, when it holds up nobody, and waits afterwards.
        let Some(queue) = tag.queue else { return };
        let stall = Stall { core: self.core, task: tag.name, queue, took, ended: clock::unix_ms() };
        self.count.set(self.count.get() + 1);
        {
            let mut stalls = self.stalls.borrow_mut();
            if stalls.len() == STALLS_KEPT {
                stalls.pop_front();
            }
            stalls.push_back(stall);
        }
        let now = clock::now();
        if self.logged.get().is_some_and(|logged| now.duration_since(logged) < LOG_EVERY) {
            return self.unlogged.set(self.unlogged.get() + 1);
        }
        self.logged.set(Some(now));
        let more = match self.unlogged.replace(0) {
            0 => String::new(),
            unlogged => format!(" ({unlogged} more like it since the last such line)"),
        };
        let (core, name) = (self.core, tag.name);
        tracing::warn!("task '{name}' held up core {core} for {} ms{more}", took.as_millis());
    }

    /// How many there were since the start.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The latest, oldest first.
    pub fn stalls(&self) -> Vec<Stall> {
        self.stalls.borrow().iter().copied().collect()
    }
}

/// The supervisor's look at all cores.
pub(super) struct Lookout {
    seen: Vec<Seen>,
    looked: Instant,
}

#[derive(Clone, Copy)]
struct Seen {
    turns: u64,
    since: Instant,
    /// Said so when it had stood still for this long; the next time after twice that.
    said: Duration,
}

/// How often the supervisor looks, and how long a core may stand still until it says so.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Lookout {
    pub fn new(pulses: &[Pulse], now: Instant) -> Lookout {
        let seen =
            |pulse: &Pulse| Seen { turns: pulse.turns.load(Ordering::Relaxed), since: now, said: Duration::ZERO };
        Lookout { seen: pulses.iter().map(seen).collect(), looked: now }
    }

    /// Logs each core in which the same turn of the same task has run for a second or more:
    /// at first, and then whenever that time has doubled.
    pub fn look(&mut self, pulses: &[Pulse], now: Instant) {
        if now.duration_since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        for (core, task, still) in self.stuck(pulses, now) {
            tracing::warn!("core {core} has not turned for {} s: it is in task '{task}'", still.as_secs());
        }
    }

    /// The cores that are to be named now: which, in which task, for how long.
    fn stuck(&mut self, pulses: &[Pulse], now: Instant) -> Vec<(usize, &'static str, Duration)> {
        let mut stuck = Vec::new();
        for (core, (seen, pulse)) in self.seen.iter_mut().zip(pulses).enumerate() {
            let running = pulse.running.load(Ordering::Relaxed);
            let turns = pulse.turns.load(Ordering::Relaxed);
            if turns != seen.turns || running == 0 {
                *seen = Seen { turns, since: now, said: Duration::ZERO };
                continue;
            }
            let still = now.duration_since(seen.since);
            if still >= LOOK_EVERY && still >= seen.said * 2 {
                seen.said = still;
                stuck.push((core, pulse.name(running), still));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(watch: &Watch, pulse: &Pulse, name: &'static str) -> Tag {
        watch.tag(pulse, name, Some(Queue::Network))
    }

    #[test]
    fn a_turn_that_takes_too_long_is_kept_with_the_name_of_its_task() {
        let (pulse, bound) = (Pulse::new(), Duration::from_millis(5));
        let watch = Watch::new(CoreIndex(3), Some(bound));
        for round in 0..STALLS_KEPT + 2 {
            let name = if round == STALLS_KEPT + 1 { "the last" } else { "hog" };
            watch.begins();
            watch.turn(&pulse, tag(&watch, &pulse, name), || ());
            watch.ended(bound);
            watch.ended(bound + Duration::from_nanos(1));
        }
        let stalls = watch.stalls();
        assert_eq!(stalls.len(), STALLS_KEPT);
        assert_eq!(watch.count(), STALLS_KEPT as u64 + 2);
        // Whose turn it was is not known.
        watch.begins();
        watch.ended(2 * bound);
        assert_eq!(watch.count(), STALLS_KEPT as u64 + 2);
        let last = stalls.last().unwrap();
        assert_eq!((last.task, last.queue, last.core), ("the last", Queue::Network, CoreIndex(3)));
        assert!(last.took >= bound, "{last:?}");
    }

    #[test]
    fn without_a_bound_nothing_is_kept() {
        let pulse = Pulse::new();
        let watch = Watch::new(CoreIndex(0), None);
        watch.turn(&pulse, tag(&watch, &pulse, "hog"), || ());
        watch.ended(Duration::from_secs(3600));
        assert_eq!(watch.count(), 0);
    }

    #[test]
    fn a_core_that_stands_still_is_named_from_outside_and_less_often_as_it_goes_on() {
        let pulses = [Pulse::new(), Pulse::new()];
        let watch = Watch::new(CoreIndex(1), None);
        let began = Instant::now();
        let mut lookout = Lookout::new(&pulses, began);
        let at = |seconds| began + Duration::from_secs(seconds);
        // Nothing runs: an idle core may sleep as long as it likes.
        assert_eq!(lookout.stuck(&pulses, at(5)), []);
        watch.turn(&pulses[1], tag(&watch, &pulses[1], "short"), || ());
        watch.turn(&pulses[1], tag(&watch, &pulses[1], "endless"), || {
            assert_eq!(lookout.stuck(&pulses, at(6)), [], "it has only begun");
            let named: Vec<_> = (7..15).flat_map(|second| lookout.stuck(&pulses, at(second))).collect();
            assert_eq!(named.iter().map(|(core, task, _)| (*core, *task)).collect::<Vec<_>>(), [(1, "endless"); 4]);
            assert_eq!(named.iter().map(|(.., still)| still.as_secs()).collect::<Vec<_>>(), [1, 2, 4, 8]);
        });
        assert_eq!(lookout.stuck(&pulses, at(60)), []);
    }

    #[test]
    fn names_beyond_the_bound_share_one() {
        let pulse = Pulse::new();
        let names: Vec<&'static str> = (0..NAMES_MAX + 5).map(|i| &*format!("task {i}").leak()).collect();
        let places: Vec<u32> = names.iter().map(|name| pulse.place(name)).collect();
        assert_eq!(pulse.name(places[0]), "task 0");
        assert_eq!(pulse.name(places[NAMES_MAX - 1]), names[NAMES_MAX - 1]);
        assert_eq!(pulse.name(places[NAMES_MAX]), "another");
        assert_eq!(pulse.place("task 7"), places[7]);
    }
}
