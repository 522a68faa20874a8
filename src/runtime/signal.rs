//! SIGTERM and SIGINT as something core 0 can wait for.
//!
//! The signals are blocked in every thread and read from a descriptor by the
//! thread that runs the cores, which hands each one to core 0.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::cores;

/// Completes once per SIGTERM or SIGINT that the process receives. Only core 0
/// is told; elsewhere it never completes. One waiter at a time.
pub async fn terminated() {
    let core = cores::current();
    loop {
        if core.take_termination() {
            return;
        }
        core.termination_signal().wait().await;
    }
}

fn mask() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data that sigemptyset initialises before use; the
    // pointers are to that local.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        libc::sigaddset(&mut mask, libc::SIGTERM);
        libc::sigaddset(&mut mask, libc::SIGINT);
        mask
    }
}

/// Blocks the two signals in this thread and in those it starts from now on.
/// [`super::run_cores`] does it too; a program that starts threads before calls
/// it first, or a signal that lands on such a thread ends the process at once.
pub fn block() -> io::Result<()> {
    let mask = mask();
    // SAFETY: `mask` is initialised and lives through the call; no old mask is
    // asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// For a program without cores, such as a client command: calls `told` for each
/// of the two signals, on a thread of its own. To be called before any other
/// thread is started.
pub fn on_termination(told: impl Fn() + Send + 'static) -> io::Result<()> {
    block()?;
    let wait = move || {
        let mask = mask();
        loop {
            let mut signal = 0;
            // SAFETY: `mask` is initialised and `signal` writable, both through the call.
            if unsafe { libc::sigwait(&mask, &mut signal) } == 0 {
                told();
            }
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(wait).map(drop)
}

/// The descriptor from which blocked signals are read.
pub(super) struct Signals(OwnedFd);

impl Signals {
    pub fn new() -> io::Result<Signals> {
        block()?;
        let mask = mask();
        // SAFETY: `mask` is initialised and lives through the call.
        let fd = unsafe { libc::signalfd(-1, &mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nobody else closes.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Takes one signal if there is one: its number.
    pub fn take(&self) -> Option<u32> {
        // SAFETY: signalfd_siginfo is plain data for which zeroes are valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = std::mem::size_of_val(&info);
        // SAFETY: `info` is writable for `size` bytes; the descriptor is ours.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        (read == size as isize).then_some(info.ssi_signo)
    }
}
