//! The system calls that a way consists of, each without waiting unless it says so; interrupted ones are tried again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    pub user: Duration,
    pub kernel: Duration,
}

impl CpuTime {
    pub fn total(self) -> Duration {
        self.user + self.kernel
    }

    /// From `before` to this.
    pub fn since(self, before: CpuTime) -> CpuTime {
        CpuTime { user: self.user.saturating_sub(before.user), kernel: self.kernel.saturating_sub(before.kernel) }
    }
}

fn cpu_time(whose: libc::c_int) -> CpuTime {
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `usage` and keeps nothing of it.
    let result = unsafe { libc::getrusage(whose, &raw mut usage) };
    assert_eq!(result, 0, "getrusage fails for a wrong argument only");
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    CpuTime { user: time(usage.ru_utime), kernel: time(usage.ru_stime) }
}

/// CPU time of this thread so far.
pub fn thread_cpu_time() -> CpuTime {
    cpu_time(libc::RUSAGE_THREAD)
}

/// CPU time of all threads of this process so far, the kernel's own workers for it (io_uring's) included.
pub fn process_cpu_time() -> CpuTime {
    cpu_time(libc::RUSAGE_SELF)
}

/// A pipe, from which pages go on to a socket.
pub(super) struct Pipe {
    pub out: OwnedFd,
    pub into: OwnedFd,
    /// Bytes that it takes when each page is full.
    pub capacity: usize,
}

impl Pipe {
    /// A pipe for `bytes`, or fewer if this user may not have so many.
    pub fn new(bytes: usize) -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: writes two descriptors to `ends`.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        let (out, into) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: changes a number of our own pipe; what comes of it is asked below.
        unsafe { libc::fcntl(into.as_raw_fd(), libc::F_SETPIPE_SZ, bytes as libc::c_int) };
        // SAFETY: asks for a number.
        match unsafe { libc::fcntl(into.as_raw_fd(), libc::F_GETPIPE_SZ) } {
            -1 => Err(io::Error::last_os_error()),
            capacity => Ok(Pipe { out, into, capacity: capacity as usize }),
        }
    }
}

/// The count that a system call returned, or its error; again while it was interrupted.
fn counted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Sends from memory: the kernel copies.
pub(super) fn send(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: reads `bytes`, and has copied what it sends when it returns.
    counted(|| unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Receives what is there.
pub(super) fn receive(socket: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: writes to `into` and keeps nothing of it.
    counted(|| unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) })
}

/// From a file to a socket; waits if the socket is one that waits.
pub(super) fn sendfile(socket: RawFd, file: &File, position: u64, bytes: usize) -> io::Result<usize> {
    let mut position = position as libc::off_t;
    // SAFETY: reads and writes the position, which is ours.
    counted(|| unsafe { libc::sendfile(socket, file.as_raw_fd(), &raw mut position, bytes) })
}

/// From a file into a pipe. Waits for the drive.
pub(super) fn splice_in(file: &File, position: u64, pipe: &Pipe, bytes: usize) -> io::Result<usize> {
    let mut position = position as libc::loff_t;
    let (file, pipe) = (file.as_raw_fd(), pipe.into.as_raw_fd());
    // SAFETY: reads and writes the position, which is ours.
    counted(|| unsafe { libc::splice(file, &raw mut position, pipe, std::ptr::null_mut(), bytes, libc::SPLICE_F_MOVE) })
}

/// From a pipe to a socket.
pub(super) fn splice_out(pipe: &Pipe, socket: RawFd, bytes: usize) -> io::Result<usize> {
    let (pipe, nowhere) = (pipe.out.as_raw_fd(), std::ptr::null_mut());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: moves pages between two descriptors of ours.
    counted(|| unsafe { libc::splice(pipe, nowhere, socket, nowhere, bytes, flags) })
}

/// Puts the pages under `bytes` into a pipe, as they are.
///
/// # Safety
/// Nobody writes to these pages as long as whoever takes them out of the pipe, and the receiver of what is sent, may not
/// have read them: in practice never. They may be unmapped, or replaced by others ([`super::memory::Mapping::let_go`]).
pub(super) unsafe fn lend(bytes: &[u8], pipe: &Pipe) -> io::Result<usize> {
    let piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel refers to pages that are there; the caller promises that they stay as they are.
    counted(|| unsafe { libc::vmsplice(pipe.into.as_raw_fd(), &raw const piece, 1, libc::SPLICE_F_NONBLOCK) })
}

/// Waits until one of them has something to say.
pub(super) fn poll(wanted: &mut [libc::pollfd]) -> io::Result<()> {
    // SAFETY: reads and writes `wanted`.
    counted(|| unsafe { libc::poll(wanted.as_mut_ptr(), wanted.len() as libc::nfds_t, -1) as isize }).map(drop)
}

/// Has the page cache forget a file whose pages have all been written. An error if it does not: then nothing read from
/// it afterwards would have come from the drive.
pub(super) fn forget_cached(file: &File, bytes: u64) -> io::Result<()> {
    // Pages that a socket has not been thanked for are kept, for some milliseconds.
    for _ in 0..50 {
        // SAFETY: advice about a file of ours.
        let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        if !is_cached(file, 0) && !is_cached(file, bytes / 2) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "this file system keeps its files cached"))
}

fn is_cached(file: &File, position: u64) -> bool {
    let mut byte = 0u8;
    let piece = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: writes the byte at most.
    unsafe { libc::preadv2(file.as_raw_fd(), &raw const piece, 1, position as libc::off_t, libc::RWF_NOWAIT) == 1 }
}
