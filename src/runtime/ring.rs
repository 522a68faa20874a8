//! A core's own io_uring: readiness of sockets, and the work on files.
//!
//! Operations are only noted when they are asked for; [`Ring::turn`] hands all of
//! them to the kernel in the system call that also takes completions, and that
//! waits when the core has nothing else to do. The kernel posts completions only in
//! that call (`DEFER_TASKRUN`), so nothing interrupts a core at work.
//!
//! What the kernel reads or writes meanwhile belongs to the operation ([`Kept`]) until
//! it has completed, also when the future that waits for it is dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;

use super::disk::{Buffer, Memory};
use super::reactor;

/// Operations that one call can hand over; more wait here for the next.
const SUBMISSIONS: u32 = 512;
/// Completions that the kernel keeps in the ring; more it keeps elsewhere.
const COMPLETIONS: u32 = 4 * SUBMISSIONS;

/// What the kernel may count as locked for one ring: 64 bytes per submission and 4
/// for its index, 16 per completion, in pages; old kernels round up to powers of two.
pub(super) const RING_BYTES_MAX: u64 = 2 * (68 * SUBMISSIONS as u64 + 16 * COMPLETIONS as u64) + (8 << 10);

/// An operation whose completion tells nobody anything.
const UNHEARD: u64 = u64::MAX;

/// An open file or socket. Clones of its `Rc` are the same one; operations under way
/// keep it open.
pub(super) struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    closes: Closes,
}

/// Where a descriptor is closed that was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closes {
    /// Where it is dropped.
    Here,
    /// By the kernel's own threads: the last descriptor of a removed file is much work for
    /// the file system.
    Elsewhere,
}

impl Descriptor {
    pub fn new(fd: OwnedFd, closes: Closes) -> Rc<Descriptor> {
        Rc::new(Descriptor { fd: ManuallyDrop::new(fd), closes })
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: taken once, and not used afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if self.closes == Closes::Elsewhere {
            let mut fd = Some(fd);
            reactor::try_with_ring(|ring| {
                let fd = fd.take().expect("not taken yet").into_raw_fd();
                ring.note(close_entry(fd).user_data(UNHEARD));
            });
        }
    }
}

fn close_entry(fd: RawFd) -> squeue::Entry {
    opcode::Close::new(types::Fd(fd)).build().flags(squeue::Flags::ASYNC)
}

/// What must live until the kernel has done with an operation.
#[expect(dead_code, reason = "held, not read")]
pub(super) enum Kept {
    /// A descriptor, of a socket or a file.
    Descriptor(Rc<Descriptor>),
    /// A descriptor that becomes a new one: an accept.
    Accepting(Rc<Descriptor>),
    Write(Rc<Descriptor>, Rc<Buffer>),
    Read(Rc<Descriptor>, Memory),
    /// The path that is being opened.
    Path(CString),
    Connect(Rc<Descriptor>, Box<socket2::SockAddr>),
    Nothing,
}

pub(super) struct Ring {
    uring: RefCell<IoUring>,
    operations: RefCell<Slab<State>>,
    /// Noted while the submission queue was full.
    excess: RefCell<VecDeque<squeue::Entry>>,
    /// Reused by each turn.
    woken: Cell<Vec<Waker>>,
}

struct State {
    progress: Progress,
    kept: Kept,
}

enum Progress {
    Waiting(Option<Waker>),
    Done(i32),
    /// Nobody waits any more.
    Abandoned,
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all();
        // Each needs a newer kernel than the one before (6.1, 5.18): what there is, is used.
        let best = builder.clone().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(SUBMISSIONS);
        let uring = match best {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match builder.build(SUBMISSIONS) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)
                }
                other => other,
            },
            other => other,
        }?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring of this kernel is too old"));
        }
        Ok(Ring {
            uring: RefCell::new(uring),
            operations: RefCell::default(),
            excess: RefCell::default(),
            woken: Cell::default(),
        })
    }

    /// Has the kernel use up to so many threads at a time for operations on files that block, if that is more than by
    /// itself. For all rings of this thread.
    pub fn allow_workers(&self, count: usize) -> io::Result<()> {
        let uring = self.uring.borrow();
        // Zeroes change nothing, and tell what it is now.
        let mut most = [0, 0];
        uring.submitter().register_iowq_max_workers(&mut most)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if most[0] >= count {
            return Ok(());
        }
        uring.submitter().register_iowq_max_workers(&mut [count, 0])
    }

    /// Notes an operation; the kernel has it after the next turn.
    fn note(&self, entry: squeue::Entry) {
        let mut excess = self.excess.borrow_mut();
        if !excess.is_empty() {
            return excess.push_back(entry);
        }
        // SAFETY: whoever made the entry has put all memory it points to into its `Kept`.
        if unsafe { self.uring.borrow_mut().submission().push(&entry) }.is_err() {
            excess.push_back(entry);
        }
    }

    fn begin(&self, entry: squeue::Entry, kept: Kept) -> usize {
        let key = self.operations.borrow_mut().insert(State { progress: Progress::Waiting(None), kept });
        self.note(entry.user_data(key as u64));
        key
    }

    /// Hands over what was noted and takes what is complete; waits for the first
    /// completion for as long as `patience` says.
    pub fn turn(&self, patience: Option<Duration>) {
        // What waits for room in the queue is handed over before the core sleeps.
        let patience = patience.filter(|_| self.excess.borrow().is_empty());
        self.turn_once(patience);
        while self.refill() {
            self.turn_once(None);
        }
    }

    /// Moves what was noted while the queue was full into it; whether there was any.
    fn refill(&self) -> bool {
        let mut excess = self.excess.borrow_mut();
        let mut uring = self.uring.borrow_mut();
        let mut submission = uring.submission();
        let mut moved = false;
        while let Some(entry) = excess.front() {
            // SAFETY: as in `note`.
            if unsafe { submission.push(entry) }.is_err() {
                break;
            }
            excess.pop_front();
            moved = true;
        }
        moved
    }

    /// Whether the kernel has completed anything, as far as memory shows.
    pub fn has_news(&self) -> bool {
        let mut uring = self.uring.borrow_mut();
        let (_, submission, completion) = uring.split();
        !completion.is_empty() || submission.taskrun()
    }

    fn turn_once(&self, patience: Option<Duration>) {
        self.enter(patience);
        let mut woken = self.woken.take();
        self.take_completions(&mut woken);
        woken.drain(..).for_each(Waker::wake);
        self.woken.set(woken);
    }

    fn enter(&self, patience: Option<Duration>) {
        let mut uring = self.uring.borrow_mut();
        let entered = match patience {
            Some(patience) if uring.completion().is_empty() => {
                let time = types::Timespec::from(patience);
                let arguments = types::SubmitArgs::new().timespec(&time);
                uring.submitter().submit_with_args(1, &arguments)
            }
            // Without anything to say to the kernel it is not called.
            _ => {
                let submission = uring.submission();
                if submission.is_empty() && !submission.taskrun() && !submission.cq_overflow() {
                    return;
                }
                drop(submission);
                uring.submit()
            }
        };
        match entered {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // The time is over; a signal; completions have to be taken first; no memory for a
                // moment: what was not handed over stays in the queue for the next turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => {}
                _ => panic!("io_uring_enter: {error}"),
            },
        }
    }

    fn take_completions(&self, woken: &mut Vec<Waker>) {
        let mut uring = self.uring.borrow_mut();
        let mut operations = self.operations.borrow_mut();
        let mut abandoned = Vec::new();
        for completion in uring.completion() {
            if completion.user_data() == UNHEARD {
                continue;
            }
            let key = completion.user_data() as usize;
            let Some(state) = operations.get_mut(key) else { continue };
            let result = completion.result();
            match std::mem::replace(&mut state.progress, Progress::Done(result)) {
                Progress::Waiting(waker) => woken.extend(waker),
                Progress::Abandoned => {
                    abandoned.push((result, operations.remove(key).kept));
                }
                Progress::Done(_) => unreachable!("an operation completes once"),
            }
        }
        drop((uring, operations));
        // What is closed by that is noted here.
        abandoned.into_iter().for_each(|(result, kept)| abandon(result, kept));
    }

    /// Forgets who waits; gives their wakers.
    pub fn take_waiters(&self) -> Vec<Waker> {
        let mut operations = self.operations.borrow_mut();
        let progress = operations.iter_mut().map(|(_, state)| &mut state.progress);
        progress
            .filter_map(|progress| if let Progress::Waiting(waker) = progress { waker.take() } else { None })
            .collect()
    }

    /// Ends what is under way at the end of a core. What does not end in time is left to
    /// the kernel with its memory.
    pub fn close(self, patience: Duration) {
        // What the kernel has not heard of it cannot cancel.
        self.turn(None);
        let cancel = types::CancelBuilder::any();
        // Not known to kernels before 6.0: closing the ring cancels too, at some time.
        let _ = self.uring.borrow().submitter().register_sync_cancel(Some(types::Timespec::from(patience)), cancel);
        self.turn(None);
        let mut operations = self.operations.borrow_mut();
        let waiting = operations.drain().filter(|state| !matches!(state.progress, Progress::Done(_)));
        // Whose memory the kernel may still use: nobody will know when it has ended.
        waiting.for_each(|state| {
            let _ = ManuallyDrop::new(state);
        });
    }
}

/// What became of an operation that nobody waits for.
fn abandon(result: i32, kept: Kept) {
    if let (Kept::Accepting(_) | Kept::Path(_), 0..) = (&kept, result) {
        // SAFETY: the kernel has just made the descriptor, and nobody has heard of it.
        drop(unsafe { OwnedFd::from_raw_fd(result) });
    }
}

/// An operation under way. Completes with what the kernel says, and what was kept.
pub(super) struct Operation {
    /// `None` once complete.
    key: Option<usize>,
    /// What dropping it does.
    dropped: Dropped,
}

/// What a dropped operation does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dropped {
    /// Goes on to its end.
    GoesOn,
    /// Is cancelled: it may never end by itself.
    IsCancelled,
}

impl Future for Operation {
    type Output = (io::Result<i32>, Kept);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("a future is not polled after its end");
        let polled = reactor::with_ring(|ring| {
            let mut operations = ring.operations.borrow_mut();
            match &mut operations[key].progress {
                Progress::Waiting(waker) => {
                    if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                        *waker = Some(cx.waker().clone());
                    }
                    None
                }
                &mut Progress::Done(result) => Some((result, operations.remove(key).kept)),
                Progress::Abandoned => unreachable!("its future is here"),
            }
        });
        match polled {
            None => Poll::Pending,
            Some((result, kept)) => {
                self.key = None;
                let result = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) };
                Poll::Ready((result, kept))
            }
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        // After the end of the core the ring is gone, and has kept what it had to.
        reactor::try_with_ring(|ring| {
            let mut operations = ring.operations.borrow_mut();
            if let Progress::Done(result) = operations[key].progress {
                let state = operations.remove(key);
                drop(operations);
                return abandon(result, state.kept);
            }
            operations[key].progress = Progress::Abandoned;
            drop(operations);
            if self.dropped == Dropped::IsCancelled {
                ring.note(opcode::AsyncCancel::new(key as u64).build().user_data(UNHEARD));
            }
        });
    }
}

fn operation(entry: squeue::Entry, kept: Kept, dropped: Dropped) -> Operation {
    Operation { key: Some(reactor::with_ring(|ring| ring.begin(entry, kept))), dropped }
}

fn fd(descriptor: &Descriptor) -> types::Fd {
    types::Fd(descriptor.as_raw_fd())
}

/// Waits until `descriptor` is ready for one of `events` (`POLLIN`, `POLLOUT`), or has
/// failed, or the other side has hung up.
pub(super) async fn ready(descriptor: &Rc<Descriptor>, events: i16) -> io::Result<()> {
    let entry = opcode::PollAdd::new(fd(descriptor), events as u32).build();
    operation(entry, Kept::Descriptor(Rc::clone(descriptor)), Dropped::IsCancelled).await.0.map(drop)
}

/// The next connection of a listening socket. One that arrives for a dropped future is
/// closed.
pub(super) async fn accept(listener: &Rc<Descriptor>) -> io::Result<OwnedFd> {
    let entry =
        opcode::Accept::new(fd(listener), std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build();
    let accepted = operation(entry, Kept::Accepting(Rc::clone(listener)), Dropped::IsCancelled).await.0?;
    // SAFETY: the kernel has just made the descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

pub(super) async fn connect(socket: &Rc<Descriptor>, address: socket2::SockAddr) -> io::Result<()> {
    let address = Box::new(address);
    let entry = opcode::Connect::new(fd(socket), address.as_ptr().cast(), address.len()).build();
    operation(entry, Kept::Connect(Rc::clone(socket), address), Dropped::IsCancelled).await.0.map(drop)
}

/// Opens a file, with the flags and the mode of `open(2)`. One that is opened for a dropped
/// future is closed.
pub(super) async fn open(path: CString, flags: i32, mode: libc::mode_t) -> io::Result<OwnedFd> {
    let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).mode(mode).build();
    let opened = operation(entry, Kept::Path(path), Dropped::GoesOn).await.0?;
    // SAFETY: as in `accept`.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Closes a descriptor that nobody else has, by the kernel's own threads.
pub(super) async fn close(descriptor: Descriptor) -> io::Result<()> {
    let mut descriptor = ManuallyDrop::new(descriptor);
    // SAFETY: taken once; its drop does not run.
    let fd = unsafe { ManuallyDrop::take(&mut descriptor.fd) }.into_raw_fd();
    operation(close_entry(fd), Kept::Nothing, Dropped::GoesOn).await.0.map(drop)
}

/// Reads into the bytes `to` of `memory`. Gives it back with the count; what lies behind
/// is as it was.
///
/// # Panics
/// When `to` does not lie within the memory.
pub(super) async fn read(
    file: &Rc<Descriptor>,
    memory: Memory,
    to: Range<usize>,
    position: u64,
) -> io::Result<(Memory, usize)> {
    assert!(to.start <= to.end && to.end <= memory.capacity(), "{to:?} of {} bytes", memory.capacity());
    let length = u32::try_from(to.len()).map_err(io::Error::other)?;
    // SAFETY: within the memory, or right behind it.
    let start = unsafe { memory.start().as_ptr().add(to.start) };
    let entry = opcode::Read::new(fd(file), start, length).offset(position).build();
    let (result, kept) = operation(entry, Kept::Read(Rc::clone(file), memory), Dropped::GoesOn).await;
    match kept {
        Kept::Read(_, memory) => Ok((memory, result? as usize)),
        _ => unreachable!("an operation gives back what it was given"),
    }
}

/// What a write survives once it has completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Safe {
    /// The end of the process.
    Kill,
    /// A power cut as well (`RWF_DSYNC`); says nothing of other writes.
    PowerCut,
}

/// Which thread begins an operation, which can wait there whatever the kernel is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    /// The core's own, in its next turn.
    Here,
    /// One of the kernel's own: some microseconds more.
    Elsewhere,
}

/// Writes the whole of `buffer`; gives the number of bytes written, which may be fewer.
pub(super) async fn write(
    file: &Rc<Descriptor>,
    buffer: Rc<Buffer>,
    position: u64,
    safe: Safe,
    begun: Begun,
) -> io::Result<usize> {
    let length = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    let flags = if safe == Safe::PowerCut { libc::RWF_DSYNC } else { 0 };
    let entry = opcode::Write::new(fd(file), buffer.as_slice().as_ptr(), length).offset(position).rw_flags(flags as _);
    let entry = match begun {
        Begun::Here => entry.build(),
        Begun::Elsewhere => entry.build().flags(squeue::Flags::ASYNC),
    };
    let _owed = (safe == Safe::PowerCut).then(reactor::kernel_owes);
    let (result, _) = operation(entry, Kept::Write(Rc::clone(file), buffer), Dropped::GoesOn).await;
    Ok(result? as usize)
}

/// `fdatasync(2)`.
pub(super) async fn flush(file: &Rc<Descriptor>) -> io::Result<()> {
    let entry = opcode::Fsync::new(fd(file)).flags(types::FsyncFlags::DATASYNC).build();
    let _owed = reactor::kernel_owes();
    operation(entry, Kept::Descriptor(Rc::clone(file)), Dropped::GoesOn).await.0.map(drop)
}

/// `fallocate(2)`, which also makes the file as long.
pub(super) async fn allocate(file: &Rc<Descriptor>, position: u64, len: u64) -> io::Result<()> {
    let entry = opcode::Fallocate::new(fd(file), len).offset(position).build();
    operation(entry, Kept::Descriptor(Rc::clone(file)), Dropped::GoesOn).await.0.map(drop)
}
