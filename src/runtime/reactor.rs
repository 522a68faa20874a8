//! What a core does next: tasks that are ready, timers that are due, its ring.
//!
//! glommio runs this as its only task and gives it the core. A round runs what is
//! ready, for some hundred microseconds at most; between two rounds one system call
//! hands the round's operations to the kernel and takes what is complete, and sleeps
//! when nothing is ready. So a request costs few calls, and under load many requests
//! share them.
//!
//! Other threads reach a core by its [`Bell`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_task::Runnable;

use super::clock;
use super::ring::{self, Closes, Descriptor, Ring};
use super::task::Queue;
use super::watch::Watch;
use crate::base::wait::Signal;
use crate::base::{CoreIndex, Moment, limits};

/// How long a task may run until [`slice_is_over`], and a round until the ring is looked at.
const SLICE: Duration = Duration::from_micros(limits::SLICE_US_MAX);

/// How long threads of the kernel wait for a core that has work all the time; see [`Reactor::let_kernel_run`].
const LET_RUN: Duration = Duration::from_micros(100);

/// How long others keep their turns short for somebody who was in haste: whoever writes once a
/// while does so again.
const HASTE: Duration = Duration::from_millis(100);

/// Of the time that the other queues use, upkeep gets this part, if it has something to do.
const UPKEEP_PART: u32 = 10;
/// It does not save up more than this.
const UPKEEP_CREDIT_MAX: Duration = Duration::from_millis(5);

/// The longest sleep without a timer: a bound, should a wake-up ever get lost.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long operations may take to end when a core ends.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Turns of a simulation that takes no end.
#[cfg(test)]
const SIMULATED_TURNS_MAX: u64 = 20_000_000;

/// A task that is ready to run, and the queue that it belongs to.
type Ready = Runnable<Queue>;

pub(super) struct Reactor {
    ring: Ring,
    /// By [`Queue`].
    ready: [RefCell<VecDeque<Ready>>; 3],
    /// Of the network's queue and the log's, which comes first in the next round.
    order: Cell<[Queue; 2]>,
    timers: RefCell<Timers>,
    bell: Arc<Bell>,
    /// How long to look out for work before a sleep.
    spin: Duration,
    /// Names tasks whose turns are too long.
    watch: Rc<Watch>,
    /// The same time on both scales.
    epoch: (Instant, Moment),
    /// When the task that runs now began to.
    slice_began: Cell<Instant>,
    /// When somebody was last in haste.
    haste: Cell<Option<Instant>>,
    /// What upkeep may use while others have something to do.
    upkeep_credit: Cell<Duration>,
    /// Who stands back behind all others, first come, first served.
    standing_back: RefCell<VecDeque<Waker>>,
    /// When one of them last got a turn.
    stood_back: Cell<Instant>,
    /// Operations under way of which a part is done by threads of the kernel.
    owed: Cell<usize>,
    /// When these last were let run.
    let_run: Cell<Instant>,
    /// By core.
    peers: Vec<Rc<Peer>>,
}

/// Wakes those who wait for another core.
#[derive(Default)]
pub(super) struct Peer {
    /// It has put something into its channel to this core, or closed it.
    pub mail: Signal,
    /// It has taken something out of its channel from this core, or closed it.
    pub room: Signal,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// # Panics
/// Outside [`super::run_cores`] and [`super::run_one`]: a caller's mistake.
fn with<T>(use_it: impl FnOnce(&Reactor) -> T) -> T {
    try_with(use_it).expect("this thread runs no core (run_cores, run_one)")
}

/// `None` when the thread runs no core any more.
fn try_with<T>(use_it: impl FnOnce(&Reactor) -> T) -> Option<T> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.as_deref().map(use_it)).ok()?
}

pub(super) fn with_ring<T>(use_it: impl FnOnce(&Ring) -> T) -> T {
    with(|reactor| use_it(&reactor.ring))
}

pub(super) fn try_with_ring<T>(use_it: impl FnOnce(&Ring) -> T) -> Option<T> {
    try_with(|reactor| use_it(&reactor.ring))
}

/// Starts a task. It ends by itself, or with the core.
pub(super) fn spawn(queue: Queue, future: impl Future<Output = ()> + 'static) {
    let bell = with(|reactor| Arc::clone(&reactor.bell));
    let schedule = move |ready: Ready| schedule(&bell, ready);
    let (ready, task) = async_task::Builder::new().metadata(queue).spawn_local(|_| future, schedule);
    task.detach();
    ready.schedule();
}

fn schedule(bell: &Arc<Bell>, ready: Ready) {
    let mut ready = Some(ready);
    try_with(|reactor| {
        if Arc::ptr_eq(&reactor.bell, bell) {
            let ready = ready.take().expect("not taken yet");
            reactor.ready[*ready.metadata() as usize].borrow_mut().push_back(ready);
        }
    });
    // Woken by another thread.
    if let Some(ready) = ready {
        bell.deliver(ready);
    }
}

/// Waits until everything else that is ready has had its turn and the ring was looked at, or others have
/// had a slice. Of those who do so, one gets a turn at a time.
pub(super) async fn stand_back() {
    let mut waits = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waits, true) {
            return Poll::Ready(());
        }
        with(|reactor| reactor.standing_back.borrow_mut().push_back(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Whether the task that runs now should give way to others.
pub(super) fn slice_is_over() -> bool {
    with(|reactor| clock::now().saturating_duration_since(reactor.slice_began.get()) >= SLICE)
}

/// See [`super::task::make_haste`].
pub(super) fn make_haste() {
    try_with(|reactor| reactor.haste.set(Some(reactor.slice_began.get())));
}

pub(super) fn is_in_haste() -> bool {
    try_with(|reactor| {
        let now = reactor.slice_began.get();
        reactor.haste.get().is_some_and(|at| now.duration_since(at) < HASTE)
    })
    .unwrap_or(false)
}

/// When the task that runs now got its turn. `None`: no core runs on this thread.
/// An operation of which threads of the kernel do a part, as long as what is returned is there.
pub(super) fn kernel_owes() -> Owed {
    with(|reactor| reactor.owed.set(reactor.owed.get() + 1));
    Owed
}

/// See [`kernel_owes`].
pub(super) struct Owed;

impl Drop for Owed {
    fn drop(&mut self) {
        // A future may be dropped with its reactor.
        let _ = try_with(|reactor| reactor.owed.set(reactor.owed.get() - 1));
    }
}

pub(super) fn turn_began() -> Option<Moment> {
    try_with(|reactor| {
        let (instant, moment) = reactor.epoch;
        Moment(moment.0 + reactor.slice_began.get().duration_since(instant).as_nanos() as u64)
    })
}

/// Waits until `deadline`.
pub(super) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, number: None }
}

pub(super) struct Sleep {
    deadline: Instant,
    /// Of the timer, while it is armed.
    number: Option<u64>,
}

#[derive(Default)]
struct Timers {
    last_number: u64,
    armed: BTreeMap<(Instant, u64), Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        with(|reactor| {
            let mut timers = reactor.timers.borrow_mut();
            match self.number {
                Some(number) => match timers.armed.get_mut(&(deadline, number)) {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    Some(waker) => waker.clone_from(cx.waker()),
                    // It has fired.
                    None => {
                        self.number = None;
                        return Poll::Ready(());
                    }
                },
                None if deadline <= clock::now() => return Poll::Ready(()),
                None => {
                    timers.last_number += 1;
                    let number = timers.last_number;
                    timers.armed.insert((deadline, number), cx.waker().clone());
                    self.number = Some(number);
                }
            }
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The waker may be the last thing that holds a task: it is dropped when the timers are free again.
            let waker = try_with(|reactor| reactor.timers.borrow_mut().armed.remove(&(self.deadline, number)));
            drop(waker);
        }
    }
}

/// What wakes those on this core who wait for core `other`.
pub(super) fn peer(other: CoreIndex) -> Rc<Peer> {
    with(|reactor| Rc::clone(&reactor.peers[usize::from(other.0)]))
}

/// How other threads reach a core.
pub(super) struct Bell {
    /// Readable when the core is to wake up.
    fd: OwnedFd,
    /// There is something to look at.
    rung: AtomicBool,
    /// By core: it has changed one of the two channels between them.
    mail: Box<[AtomicBool]>,
    /// The core sleeps, or is about to: it has to be woken.
    sleeping: AtomicBool,
    /// Tasks woken by other threads. `None`: the core has ended.
    delivered: Mutex<Option<Vec<Ready>>>,
}

impl Bell {
    fn new(cores: usize) -> io::Result<Bell> {
        // SAFETY: eventfd takes no pointers; the descriptor it returns is ours
        // alone and is checked before it is wrapped.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else closes.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let off = || AtomicBool::new(false);
        let mail = (0..cores).map(|_| off()).collect();
        Ok(Bell { fd, rung: off(), mail, sleeping: off(), delivered: Mutex::new(Some(Vec::new())) })
    }

    /// Has the core look again. Whoever calls it has stored what there is to see.
    fn ring(&self) {
        // In one order with the two of `Reactor::sleep`: either it sees this, or we see that it sleeps.
        self.rung.store(true, Ordering::SeqCst);
        if self.sleeping.swap(false, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eight readable bytes, as eventfd wants; the descriptor is ours.
            // A full counter wakes too, so the result is of no use.
            let _ = unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        }
    }

    /// Says that core `from` has changed a channel between the two.
    pub fn ring_for_mail(&self, from: CoreIndex) {
        self.mail[usize::from(from.0)].store(true, Ordering::Release);
        self.ring();
    }

    fn deliver(&self, ready: Ready) {
        match self.delivered.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(delivered) => delivered.push(ready),
            // Its future belongs to a thread that is over: it can be dropped nowhere.
            None => {
                let _ = ManuallyDrop::new(ready);
                return;
            }
        }
        self.ring();
    }
}

/// Wakes a core's main future.
struct Main {
    woken: AtomicBool,
    bell: Arc<Bell>,
}

impl Wake for Main {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// The reactor of this thread, until it is dropped.
pub(super) struct Installed(Option<Rc<Reactor>>);

impl Reactor {
    /// Makes the reactor of this thread, one of `cores`, which looks out for work for `spin`
    /// before it sleeps.
    ///
    /// # Errors
    /// The kernel has no ring or no descriptor left for it.
    pub fn install(cores: usize, spin: Duration, watch: Rc<Watch>) -> io::Result<Installed> {
        let reactor = Rc::new(Reactor {
            ring: Ring::new()?,
            ready: Default::default(),
            order: Cell::new([Queue::Network, Queue::Log]),
            timers: RefCell::default(),
            bell: Arc::new(Bell::new(cores)?),
            spin,
            watch,
            epoch: (clock::now(), clock::moment()),
            slice_began: Cell::new(clock::now()),
            haste: Cell::new(None),
            upkeep_credit: Cell::default(),
            standing_back: RefCell::default(),
            stood_back: Cell::new(clock::now()),
            owed: Cell::new(0),
            let_run: Cell::new(clock::now()),
            peers: (0..cores).map(|_| Rc::default()).collect(),
        });
        CURRENT.with(|current| {
            let before = current.borrow_mut().replace(Rc::clone(&reactor));
            assert!(before.is_none(), "a thread runs one core");
        });
        // SAFETY: the copy belongs to us alone.
        let bell = Descriptor::new(reactor.bell.fd.try_clone()?, Closes::Here);
        spawn(Queue::Log, async move {
            while ring::ready(&bell, libc::POLLIN).await.is_ok() {
                let mut count = [0u8; 8];
                // SAFETY: eight writable bytes, as eventfd wants; the descriptor is
                // non-blocking and ours.
                let _ = unsafe { libc::read(bell.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
            }
        });
        Ok(Installed(Some(reactor)))
    }

    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Runs the core until `main` completes. To be awaited as the only task of an executor of glommio's.
    pub async fn run<F: Future>(&self, main: F) -> F::Output {
        let mut main = pin!(main);
        let waking = Arc::new(Main { woken: AtomicBool::new(true), bell: Arc::clone(&self.bell) });
        let waker = Waker::from(Arc::clone(&waking));
        loop {
            if waking.woken.load(Ordering::Relaxed)
                && waking.woken.swap(false, Ordering::Acquire)
                && let Poll::Ready(output) = {
                    self.slice_began.set(Instant::now());
                    main.as_mut().poll(&mut Context::from_waker(&waker))
                }
            {
                return output;
            }
            let now = self.run_ready();
            let next = self.fire_timers(now);
            let nobody = self.nothing_is_ready() && self.standing_back.borrow().is_empty();
            if nobody && !waking.woken.load(Ordering::Relaxed) {
                let patience = next.map_or(SLEEP_MAX, |next| next.saturating_duration_since(now));
                if !self.spin(patience) {
                    self.sleep(patience.saturating_sub(self.spin).min(SLEEP_MAX));
                }
            } else {
                self.ring.turn(None);
                self.let_kernel_run(now);
            }
            if self.bell.rung.load(Ordering::Relaxed) && self.bell.rung.swap(false, Ordering::SeqCst) {
                self.take_delivered();
                self.take_mail();
            }
            self.call_one_back(now);
        }
    }

    /// As [`Reactor::run`], in simulated time; of what is ready `random` chooses the next.
    #[cfg(test)]
    pub fn simulate<F: Future>(&self, main: F, random: &mut super::disk::simulated::Random) -> F::Output {
        use super::simulation;
        let mut main = pin!(main);
        let waking = Arc::new(Main { woken: AtomicBool::new(true), bell: Arc::clone(&self.bell) });
        let waker = Waker::from(Arc::clone(&waking));
        for _ in 0..SIMULATED_TURNS_MAX {
            if self.bell.rung.swap(false, Ordering::SeqCst) {
                self.take_delivered();
                self.take_mail();
            }
            let next = self.fire_timers(clock::now());
            let main_is_ready = waking.woken.load(Ordering::Acquire);
            let counts = [0, 1, 2].map(|queue: usize| self.ready[queue].borrow().len() as u64);
            let ready = counts.iter().sum::<u64>() + u64::from(main_is_ready);
            if ready == 0 {
                if !self.standing_back.borrow().is_empty() {
                    self.call_one_back(clock::now());
                    continue;
                }
                let next = next.expect("nothing will ever happen again: everybody waits");
                simulation::advance(next.saturating_duration_since(clock::now()));
                continue;
            }
            simulation::advance(Duration::from_nanos(500 + random.below(2000)));
            self.slice_began.set(clock::now());
            let mut at = random.below(ready);
            let queue = counts.iter().position(|count| match at < *count {
                true => true,
                false => {
                    at -= count;
                    false
                }
            });
            match queue {
                Some(queue) => {
                    let ready = self.ready[queue].borrow_mut().remove(at as usize).expect("counted just now");
                    ready.run();
                }
                None => {
                    waking.woken.store(false, Ordering::Release);
                    if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return output;
                    }
                }
            }
        }
        panic!("it goes on without an end");
    }

    /// Lets threads of the kernel have the CPU that a durable write waits for. They run where the drive's interrupts
    /// arrive, which may be here, and a core that has work all the time would keep them waiting for a tick of the scheduler.
    fn let_kernel_run(&self, now: Instant) {
        if self.owed.get() > 0 && now.saturating_duration_since(self.let_run.get()) >= LET_RUN {
            self.let_run.set(now);
            std::thread::yield_now();
        }
    }

    /// See [`Ring::allow_workers`].
    pub fn allow_workers(&self, count: usize) -> io::Result<()> {
        self.ring.allow_workers(count)
    }

    fn nothing_is_ready(&self) -> bool {
        self.ready.iter().all(|queue| queue.borrow().is_empty())
    }

    /// Gives one of those who stand back a turn, if nothing else is ready or it is time.
    fn call_one_back(&self, now: Instant) {
        if self.standing_back.borrow().is_empty() {
            return;
        }
        if self.nothing_is_ready() || now.saturating_duration_since(self.stood_back.get()) >= SLICE {
            self.stood_back.set(now);
            let waker = self.standing_back.borrow_mut().pop_front();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Looks out for what there is to do, without asking the kernel, for as long as the core
    /// may before it sleeps; whether there is anything.
    fn spin(&self, patience: Duration) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        // What was noted has to be under way for anything to come back.
        self.ring.turn(None);
        let until = Instant::now() + self.spin.min(patience);
        loop {
            if self.ring.has_news() {
                self.ring.turn(None);
                return true;
            }
            if !self.nothing_is_ready() || self.bell.rung.load(Ordering::Relaxed) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Waits for the kernel, for as long as `patience` says, unless the bell was rung.
    fn sleep(&self, patience: Duration) {
        self.bell.sleeping.store(true, Ordering::SeqCst);
        let patience = (!self.bell.rung.load(Ordering::SeqCst)).then_some(patience);
        self.ring.turn(patience);
        self.bell.sleeping.store(false, Ordering::SeqCst);
    }

    fn take_delivered(&self) {
        let delivered = self.bell.delivered.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take);
        for ready in delivered.into_iter().flatten() {
            self.ready[*ready.metadata() as usize].borrow_mut().push_back(ready);
        }
    }

    fn take_mail(&self) {
        for (mail, peer) in self.bell.mail.iter().zip(&self.peers) {
            if mail.load(Ordering::Relaxed) && mail.swap(false, Ordering::Acquire) {
                peer.mail.raise();
                peer.room.raise();
            }
        }
    }

    /// A round: whatever is ready in the network's and the log's queues, also what they
    /// make ready meanwhile, until they are empty or a slice is over; then upkeep, if it
    /// is its turn. Gives the time then.
    fn run_ready(&self) -> Instant {
        let began = Instant::now();
        let mut now = began;
        'round: loop {
            let mut ran = false;
            for queue in self.order.get() {
                // Only those that are ready now, so that neither queue keeps the other waiting.
                let count = self.ready[queue as usize].borrow().len();
                for _ in 0..count {
                    let Some(ready) = self.ready[queue as usize].borrow_mut().pop_front() else { break };
                    now = self.run_one(ready, now);
                    ran = true;
                    if now.duration_since(began) >= SLICE {
                        // The other is the next to run: tasks whose turns are long must not keep it from any.
                        let [a, b] = self.order.get();
                        self.order.set(if queue == a { [b, a] } else { [a, b] });
                        break 'round;
                    }
                }
            }
            if !ran {
                break;
            }
        }
        let others = now.duration_since(began);
        let credit = (self.upkeep_credit.get() + others / UPKEEP_PART).min(UPKEEP_CREDIT_MAX);
        self.upkeep_credit.set(credit);
        let others_wait =
            [Queue::Network, Queue::Log].iter().any(|&queue| !self.ready[queue as usize].borrow().is_empty());
        if (others_wait || others >= SLICE) && credit < SLICE {
            return now;
        }
        let ready = self.ready[Queue::Upkeep as usize].borrow_mut().pop_front();
        let Some(ready) = ready else { return now };
        let after = self.run_one(ready, now);
        self.upkeep_credit.set(credit.saturating_sub(after.duration_since(now)));
        after
    }

    fn run_one(&self, ready: Ready, now: Instant) -> Instant {
        self.slice_began.set(now);
        self.watch.begins();
        ready.run();
        let after = Instant::now();
        self.watch.ended(after.duration_since(now));
        after
    }

    /// Wakes whose time has come; gives the next time.
    fn fire_timers(&self, now: Instant) -> Option<Instant> {
        loop {
            let mut timers = self.timers.borrow_mut();
            let entry = timers.armed.first_entry()?;
            let (due, _) = *entry.key();
            if due > now {
                return Some(due);
            }
            let waker = entry.remove();
            drop(timers);
            waker.wake();
        }
    }
}

impl std::ops::Deref for Installed {
    type Target = Reactor;

    fn deref(&self) -> &Reactor {
        self.0.as_deref().expect("there until it is dropped")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // Tasks that have not ended are dropped with whatever would wake them.
        let reactor = self.0.as_ref().expect("dropped once");
        let timers = std::mem::take(&mut reactor.timers.borrow_mut().armed);
        drop(timers);
        drop(reactor.ring.take_waiters());
        loop {
            reactor.take_delivered();
            let tasks: Vec<Ready> = reactor.ready.iter().flat_map(|queue| queue.take()).collect();
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        CURRENT.with(|current| current.borrow_mut().take());
        let reactor = self.0.take().and_then(Rc::into_inner).expect("nobody keeps the reactor");
        let Reactor { ring, bell, .. } = reactor;
        ring.close(CLOSE_PATIENCE);
        *bell.delivered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
