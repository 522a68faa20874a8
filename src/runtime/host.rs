//! What the host must offer before a core can start. Each thing missing is one
//! clear line.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use io_uring::{IoUring, opcode};

use super::cores::RINGS_BYTES_MAX;
use super::disk::{self, WARM_UP_PREFIX};

/// What this process is going to need.
#[derive(Clone, Debug)]
pub struct HostNeeds {
    /// Cores to be run.
    pub cores: usize,
    /// Descriptors: files, connections and what every core takes.
    pub files: u64,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The limit of open descriptors.
    pub files: u64,
}

/// Why this host will not do. Each displays as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(
        "io_uring is refused ({call}: {source}): it needs Linux 5.11 or newer, sysctl kernel.io_uring_disabled=0, and \
         in a container a seccomp profile that permits io_uring_setup, io_uring_enter and io_uring_register"
    )]
    IoUring { call: &'static str, source: io::Error },
    #[error("io_uring of this kernel lacks {0}: Linux 5.11 or newer is needed")]
    Kernel(&'static str),
    #[error(
        "locked memory is limited to {have} bytes and {need} are needed: raise it (ulimit -l, LimitMEMLOCK= of the \
         service, --ulimit memlock= of the container)"
    )]
    Memlock { have: u64, need: u64 },
    #[error(
        "open files are limited to {have} and {need} are needed: raise it (ulimit -n, LimitNOFILE= of the service, \
         --ulimit nofile= of the container)"
    )]
    Files { have: u64, need: u64 },
    #[error("cannot read or set the process limits: {0}")]
    Limits(io::Error),
    #[error("cannot create data directory {}: {source}", dir.display())]
    Create { dir: PathBuf, source: io::Error },
    #[error("data directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("data directory {} is not writable: {source}", dir.display())]
    NotWritable { dir: PathBuf, source: io::Error },
    #[error(
        "data directory {} is on a file system without direct I/O (O_DIRECT): use ext4 or XFS on a local drive",
        .0.display()
    )]
    NoDirectIo(PathBuf),
}

/// Checks the host and raises the process's soft limits to the hard ones. To be
/// called before any executor is made: glommio panics where this explains.
pub fn check_host(needs: &HostNeeds) -> Result<HostFacts, HostError> {
    check_io_uring()?;
    if let Some(have) = raise(libc::RLIMIT_MEMLOCK).map_err(HostError::Limits)? {
        let counted = rings_are_counted().map_err(HostError::Limits)?;
        let need = locked_bytes_needed(if counted { needs.cores } else { 0 });
        if have < need {
            return Err(HostError::Memlock { have, need });
        }
    }
    let files = raise(libc::RLIMIT_NOFILE).map_err(HostError::Limits)?.unwrap_or(u64::MAX);
    let need = needs.files + FILES_PER_CORE * needs.cores as u64;
    if files < need {
        return Err(HostError::Files { have: files, need });
    }
    Ok(HostFacts { files })
}

/// glommio refuses to start with less, whether anything is counted or not.
const MEMLOCK_MIN: u64 = 512 << 10;

/// Locked memory that a broker of so many cores needs at most, in bytes: what the kernel may count of its rings.
pub fn locked_bytes_needed(cores: usize) -> u64 {
    (RINGS_BYTES_MAX * cores as u64).max(MEMLOCK_MIN)
}

/// Whether the kernel counts the rings of this process as locked memory. Linux did so until 5.11 and does again since
/// 6.14, but not to those who have CAP_IPC_LOCK where it matters, which within a user namespace nobody has: so it is
/// tried, by a child that may lock nothing. (The limit is the whole process's; lowering our own for a moment would be
/// seen by every thread.)
fn rings_are_counted() -> io::Result<bool> {
    // SAFETY: the child makes system calls and exits: it allocates nothing and takes no lock.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // `struct io_uring_params`: 120 bytes, for whose content zeroes are a valid wish.
        let mut parameters = [0u64; 15];
        // SAFETY: `none` is only read; `parameters` is writable and of the size and alignment that the call wants;
        // `_exit` runs nothing of the parent's.
        unsafe {
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &none);
            let ring = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr());
            let counted = ring < 0 && *libc::__errno_location() == libc::ENOMEM;
            libc::_exit(i32::from(counted));
        }
    }
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable, `child` is ours and not yet waited for.
        if unsafe { libc::waitpid(child, &mut status, 0) } == child {
            return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Whoever started us ignores SIGCHLD, and so do we: nothing is known. Too little shows when a core starts.
            Some(libc::ECHILD) => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// Makes a ring, asks what it can do and has it do something: each of the three calls can be refused on its own, and
/// glommio panics, or ends the process with a joke, when one is or when an operation is missing.
fn check_io_uring() -> Result<(), HostError> {
    let refused = |call| move |source| HostError::IoUring { call, source };
    let mut ring = IoUring::new(8).map_err(refused("io_uring_setup"))?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("io_uring_register"))?;
    for (code, name) in OPERATIONS {
        if !probe.is_supported(*code) {
            return Err(HostError::Kernel(name));
        }
    }
    if !ring.params().is_feature_ext_arg() {
        return Err(HostError::Kernel("a wait with a limit"));
    }
    // SAFETY: the operation has no buffers, and the ring has room for it.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.expect("an empty ring has room");
    ring.submit_and_wait(1).map_err(refused("io_uring_enter")).map(drop)
}

/// What the reactor and glommio ask of a kernel.
const OPERATIONS: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Statx::CODE, "STATX"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Recv::CODE, "RECV"),
];

/// Rings, event descriptors, listeners, and a handful to spare.
const FILES_PER_CORE: u64 = 32;

/// Raises a soft limit to the hard one; the limit then, `None` for none.
fn raise(resource: libc::__rlimit_resource_t) -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and of the right type.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `raised` is initialised and only read.
        if unsafe { libc::setrlimit(resource, &raised) } == 0 {
            limit = raised;
        }
    }
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// Checks that a directory can hold data, and creates it when it is missing. Gives what is worth telling the operator.
///
/// # Errors
/// It cannot be used; of [`HostError`] those that name a directory.
pub fn check_data_dir(dir: &Path) -> Result<Option<String>, HostError> {
    match fs::metadata(dir) {
        Ok(facts) if !facts.is_dir() => return Err(HostError::NotADirectory(dir.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(|source| HostError::Create { dir: dir.to_owned(), source })?;
        }
        Err(source) => return Err(HostError::NotWritable { dir: dir.to_owned(), source }),
    }
    let not_writable = |source| HostError::NotWritable { dir: dir.to_owned(), source };
    let path = dir.join(format!("{WARM_UP_PREFIX}{}", std::process::id()));
    match fs::write(&path, b"corelog") {
        Ok(()) => {}
        Err(error) if disk::is_full(&error) => {
            // It can be read, and space can be made there. The empty file may have come to be, or not even that.
            if !path.exists() {
                return Ok(Some(format!("there is no space left in the data directory {}", dir.display())));
            }
        }
        Err(error) => {
            let _ = fs::remove_file(&path);
            return Err(not_writable(error));
        }
    }
    let direct = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).map(drop);
    fs::remove_file(&path).map_err(not_writable)?;
    if is_tmpfs(dir).map_err(not_writable)? {
        return Ok(Some(format!(
            "data directory {} is on tmpfs: its records are lost with the machine's memory",
            dir.display()
        )));
    }
    match direct {
        Ok(()) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(HostError::NoDirectIo(dir.to_owned())),
        Err(error) => Err(not_writable(error)),
    }
}

fn is_tmpfs(dir: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: statfs is plain data for which zeroes are valid.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a string with its final zero, `facts` is writable.
    if unsafe { libc::statfs(path.as_ptr(), &mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts.f_type == libc::TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: HostNeeds = HostNeeds { cores: 2, files: 100 };

    #[test]
    fn this_host_will_do_and_the_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let facts = check_host(&NEEDS).unwrap();
        assert!(facts.files >= 164, "{facts:?}");
        check_data_dir(&data).unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "the check leaves nothing behind");
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        for (refused, expected) in [
            (check_data_dir(&file).map(drop), "is not a directory"),
            (check_data_dir(&file.join("sub")).map(drop), "is not writable: Not a directory"),
            (check_host(&HostNeeds { files: u64::MAX / 2, ..NEEDS }).map(drop), "open files are limited to"),
            (check_data_dir(Path::new("/proc/corelog")).map(drop), "cannot create data directory /proc/corelog"),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(expected) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn tmpfs_is_allowed_with_a_warning() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let warning = check_data_dir(dir.path()).unwrap();
        assert!(warning.is_some_and(|warning| warning.contains("is on tmpfs")));
    }
}
