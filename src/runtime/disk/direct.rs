//! The real disk: O_DIRECT, through the core's ring.

use std::cell::Cell;
use std::ffi::CString;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Buffer, Create, DirEntry, Memory, Open, Slice, Space, is_full};
use crate::base::limits::{BLOCK_BYTES, FILE_LOCK_MS_MAX, GIVEN_BACK_AT_ONCE_BYTES};
use crate::runtime::clock;
use crate::runtime::jobs::{HelperOf, Pulse};
use crate::runtime::ring::{self, Begun, Closes, Descriptor, Safe};
use crate::runtime::task::{helper_of, on_helper_of, pulse_of, take_worker};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Checks that files in `dir` can be written and read directly, so that a device that
/// cannot is found at the start of a core and not by the first producer.
/// A drive that is full is not checked.
///
/// Blocks for a small write and its sync.
pub async fn warm_up(dir: &Path) -> io::Result<()> {
    // Several cores come here at once: each has a file of its own.
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("{PREFIX}{}-{number}", std::process::id()));
    let made = fs::File::create(&path).and_then(|mut file| {
        file.write_all(&[0x5a; BLOCK_BYTES])?;
        file.sync_all()
    });
    let probed = match made {
        Ok(()) => probe(&path).await,
        Err(error) => Err(error),
    };
    let removed = fs::remove_file(&path);
    match probed {
        // Nothing can be tried. What is there can be read, and space can be made.
        Err(error) if is_full(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => removed,
    }
}

/// Begins the names of files that live for a moment only; one that is found was left
/// by a process that was killed then.
pub const PREFIX: &str = ".warm-up-";

static COUNT: AtomicU64 = AtomicU64::new(0);

async fn probe(path: &Path) -> io::Result<()> {
    let file = DirectFile::open(path, Open::READ_ONLY).await?;
    match file.read(0, BLOCK_BYTES).await?.as_ref() {
        [0x5a, .., 0x5a] => Ok(()),
        other => Err(io::Error::other(format!("a direct read returned {} wrong bytes", other.len()))),
    }
}

/// Opens for direct I/O; where the file system has none (tmpfs of older kernels), through the
/// page cache.
async fn open_file(path: &Path, how: Open) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let create = match how.create {
        Create::No => 0,
        Create::IfMissing => libc::O_CREAT,
        Create::New => libc::O_CREAT | libc::O_EXCL,
    };
    let access = if how.read_only { libc::O_RDONLY } else { libc::O_RDWR };
    // Reads leave the file's time alone: it would have to be written, and who reads could wait for that.
    let mut flags = access | create | libc::O_CLOEXEC | libc::O_DIRECT | libc::O_NOATIME;
    loop {
        let opened = ring::open(path.clone(), flags, FILE_MODE).await;
        match opened.as_ref().map_err(io::Error::raw_os_error) {
            // Linux creates the file before it finds that it cannot be opened so.
            Err(Some(libc::EINVAL)) if flags & libc::O_DIRECT != 0 => flags &= !(libc::O_DIRECT | libc::O_EXCL),
            // For a file of somebody else.
            Err(Some(libc::EPERM)) if flags & libc::O_NOATIME != 0 => flags &= !libc::O_NOATIME,
            _ => return opened,
        }
    }
}

/// What the umask leaves of it.
const FILE_MODE: libc::mode_t = 0o644;

/// A file opened for direct I/O.
pub struct DirectFile {
    /// Of a file that is open to write.
    lock: Option<Lock>,
    file: Rc<Descriptor>,
    helper: HelperOf,
    pulse: Rc<Pulse>,
    /// What we know the length to be: nobody else changes our files.
    length: Cell<u64>,
}

impl DirectFile {
    pub async fn open(path: &Path, how: Open) -> io::Result<DirectFile> {
        DirectFile::open_within(path, how, Duration::from_millis(FILE_LOCK_MS_MAX)).await
    }

    async fn open_within(path: &Path, how: Open, patience: Duration) -> io::Result<DirectFile> {
        let helper = helper_of(path);
        let opened = {
            let _worker = take_worker(helper).await;
            open_file(path, how).await?
        };
        let file = Descriptor::new(opened, Closes::Elsewhere);
        let lock = match how.read_only {
            true => None,
            false => Some(Lock::take(&file, path, patience).await?),
        };
        // Under the lock: until then a write that is under way could make the file longer.
        let length = Cell::new(length_of(&file)?);
        Ok(DirectFile { lock, file, helper, pulse: pulse_of(helper), length })
    }

    pub fn length(&self) -> u64 {
        self.length.get()
    }

    pub async fn read(&self, position: u64, len: usize) -> io::Result<Slice> {
        self.read_by_turns(position, len, usize::MAX, async || {}).await
    }

    /// Reads whole blocks and cuts.
    pub async fn read_by_turns<T>(
        &self,
        position: u64,
        len: usize,
        piece: usize,
        turn: impl AsyncFnMut() -> T,
    ) -> io::Result<Slice> {
        let end = position.saturating_add(len as u64).min(self.length.get());
        if position >= end {
            return Ok(Slice::empty());
        }
        let first = position - position % BLOCK;
        let span = usize::try_from((end - first).next_multiple_of(BLOCK)).map_err(io::Error::other)?;
        let read = self.read_blocks(first, span, piece, turn).await?;
        let wanted = (position - first) as usize..(end - first) as usize;
        if read.len() >= wanted.end {
            return Ok(read.part(wanted));
        }
        // A file of known length gave less: somebody cut it behind our back, or the
        // drive returned part of it. Block by block tells which.
        self.read_rest(first, read, wanted).await
    }

    #[cold]
    async fn read_rest(&self, first: u64, read: Slice, wanted: std::ops::Range<usize>) -> io::Result<Slice> {
        let mut bytes = read.to_vec();
        while bytes.len() < wanted.end {
            bytes.truncate(bytes.len() / BLOCK_BYTES * BLOCK_BYTES);
            let had = bytes.len();
            let left = (wanted.end - had).next_multiple_of(BLOCK_BYTES);
            let more = self.read_blocks(first + had as u64, left, left, async || {}).await?;
            bytes.extend_from_slice(&more);
            if more.len() < left && bytes.len() < wanted.end {
                break;
            }
        }
        let end = bytes.len().min(wanted.end);
        Ok(Slice::from(bytes).part(wanted.start.min(end)..end))
    }

    async fn read_blocks<T>(
        &self,
        position: u64,
        len: usize,
        piece: usize,
        mut turn: impl AsyncFnMut() -> T,
    ) -> io::Result<Slice> {
        let mut memory = Memory::new(len);
        let mut filled = 0;
        while filled < len {
            let _turn = turn().await;
            let wanted = piece.min(len - filled);
            let count;
            (memory, count) = ring::read(&self.file, memory, filled..filled + wanted, position + filled as u64).await?;
            filled += count;
            if count < wanted {
                break;
            }
        }
        // SAFETY: the kernel says that it wrote so many bytes, one piece behind the other.
        Ok(unsafe { Slice::read(memory, filled) })
    }

    pub async fn write(&self, buffer: Rc<Buffer>, position: u64) -> io::Result<()> {
        let len = buffer.len();
        let mut done = self.write_some(Rc::clone(&buffer), position).await?;
        while done < len {
            // A short write: a full disk, most often. The rest is tried once more
            // from its first whole block, and then says why it does not work.
            let from = done / BLOCK_BYTES * BLOCK_BYTES;
            let mut rest = Buffer::with_capacity(len - from);
            rest.push(&buffer.as_slice()[from..]);
            let more = self.write_some(Rc::new(rest), position + from as u64).await?;
            if from + more <= done {
                return Err(io::Error::new(io::ErrorKind::WriteZero, format!("{done} of {len} bytes were written")));
            }
            done = from + more;
        }
        self.length.set(self.length.get().max(position + len as u64));
        Ok(())
    }

    pub async fn write_durable(&self, buffer: Rc<Buffer>, position: u64) -> io::Result<()> {
        let len = buffer.len();
        let worker = take_worker(self.helper).await;
        let done = self.write_once(Rc::clone(&buffer), position, Safe::PowerCut).await?;
        drop(worker);
        if done < len {
            // Rare enough to do it in two steps.
            self.write(buffer, position).await?;
            return self.flush().await;
        }
        self.length.set(self.length.get().max(position + len as u64));
        Ok(())
    }

    async fn write_some(&self, buffer: Rc<Buffer>, position: u64) -> io::Result<usize> {
        let _worker = take_worker(self.helper).await;
        self.write_once(buffer, position, Safe::Kill).await
    }

    async fn write_once(&self, buffer: Rc<Buffer>, position: u64, safe: Safe) -> io::Result<usize> {
        let begun = if self.pulse.stands_still() { Begun::Elsewhere } else { Begun::Here };
        let write = ring::write(&self.file, buffer, position, safe, begun);
        Lock::during(&self.lock, self.pulse.during(write)).await
    }

    pub async fn flush(&self) -> io::Result<()> {
        let _worker = take_worker(self.helper).await;
        self.pulse.during(ring::flush(&self.file)).await
    }

    pub async fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let end = position.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let worker = take_worker(self.helper).await;
        let allocated = Lock::during(&self.lock, ring::allocate(&self.file, 0, end)).await;
        drop(worker);
        match allocated {
            Ok(()) => {}
            // A file system without fallocate: the length alone then, no space.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                if end > self.length.get() {
                    self.truncate(end).await?;
                }
            }
            Err(error) => return Err(error),
        }
        self.length.set(self.length.get().max(end));
        Ok(())
    }

    pub async fn set_length(&self, len: u64) -> io::Result<()> {
        self.truncate(len).await?;
        self.length.set(len);
        Ok(())
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        // The job has a descriptor of its own: it may outlive this future.
        let file = fs::File::from(self.file.as_fd().try_clone_to_owned()?);
        Lock::during(&self.lock, on_helper_of(self.helper, move || file.set_len(len))).await
    }

    /// Closes the file, off this core: the last descriptor of a file can be work for the file system.
    pub async fn close(self) -> io::Result<()> {
        let DirectFile { lock, file, .. } = self;
        drop(lock);
        match Rc::try_unwrap(file) {
            Ok(file) => ring::close(file).await,
            // What a dropped future left under way closes it.
            Err(_) => Ok(()),
        }
    }
}

/// How soon a lock that is taken is tried again, at first and later.
const LOCK_RETRY_MIN: Duration = Duration::from_millis(1);
const LOCK_RETRY_MAX: Duration = Duration::from_millis(50);
/// From when on a wait for a lock is worth a line in the log.
const LOCK_WARN_AFTER: Duration = Duration::from_millis(500);

/// The lock of a file that is open to write. It lasts for as long as the file is open
/// *or a request on it is under way*: io_uring keeps the open file, and with it the
/// lock, until a request has completed, also when its process was killed meanwhile.
/// Whoever has the lock knows that no write of an earlier process will land any more.
struct Lock {
    file: Rc<Descriptor>,
    /// Requests that change the file and whose end we have not seen.
    under_way: Cell<usize>,
}

impl Lock {
    /// A system call of less than a microsecond that does not wait; the waiting is done
    /// here.
    async fn take(file: &Rc<Descriptor>, path: &Path, patience: Duration) -> io::Result<Lock> {
        let lock = Lock { file: Rc::clone(file), under_way: Cell::new(0) };
        let began = clock::now();
        let mut pause = LOCK_RETRY_MIN;
        let mut warned = false;
        loop {
            // SAFETY: the descriptor is open for as long as `file` lives.
            if unsafe { libc::flock(lock.file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Ok(lock);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EWOULDBLOCK) => {}
                Some(libc::EINTR) => continue,
                // A file system without locks: nothing can be known there.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOLCK) => return Ok(lock),
                _ => return Err(error),
            }
            #[cfg(test)]
            LOCK_WAITS.with(|waits| waits.set(waits.get() + 1));
            let waited = began.elapsed();
            if waited >= patience {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!(
                        "still locked after {} s: the drive has not finished a write of a process that was killed, \
                         or another process has the file open to write",
                        patience.as_secs()
                    ),
                ));
            }
            if waited >= LOCK_WARN_AFTER && !warned {
                warned = true;
                tracing::warn!("{} is locked: waiting for a write of a process that was killed", path.display());
            }
            clock::sleep(pause).await;
            pause = (pause * 2).min(LOCK_RETRY_MAX);
        }
    }

    async fn during<T>(lock: &Option<Lock>, request: impl Future<Output = T>) -> T {
        let Some(lock) = lock else { return request.await };
        lock.under_way.set(lock.under_way.get() + 1);
        let done = request.await;
        lock.under_way.set(lock.under_way.get() - 1);
        done
    }
}

impl Drop for Lock {
    /// Whoever opens the file again need not wait until it is closed. What a dropped future
    /// left under way keeps the lock until it has ended and the file is closed.
    fn drop(&mut self) {
        if self.under_way.get() == 0 {
            // SAFETY: the descriptor is open for as long as `file` lives.
            unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
        }
    }
}

#[cfg(test)]
thread_local! {
    static LOCK_WAITS: Cell<usize> = const { Cell::new(0) };
}

/// How often a file was found locked on this thread.
#[cfg(test)]
pub fn lock_waits() -> usize {
    LOCK_WAITS.with(Cell::get)
}

/// The length by descriptor: sub-microsecond, and right after a rename.
fn length_of(file: &Descriptor) -> io::Result<u64> {
    // SAFETY: stat is plain data for which zeroes are valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for as long as `file` lives, and `stat` is
    // writable.
    if unsafe { libc::fstat(file.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(stat.st_size).map_err(io::Error::other)
}

pub async fn remove(path: &Path) -> io::Result<()> {
    let (path, of) = (path.to_owned(), helper_of(path));
    if let Some(large) = on_helper_of(of, move || unlink(&path)).await? {
        give_back(large, of).await;
    }
    Ok(())
}

/// Removes a file's name. A large file that has no other name, and that nobody else has open, is not given back yet.
fn unlink(path: &Path) -> io::Result<Option<fs::File>> {
    let is_large = fs::symlink_metadata(path)?.len() > GIVEN_BACK_AT_ONCE_BYTES;
    let file = if is_large { fs::OpenOptions::new().write(true).open(path).ok() } else { None };
    fs::remove_file(path)?;
    // It has no name any more: nobody opens it after this, so that the lease breaks for nobody.
    let file = file.filter(|file| file.metadata().is_ok_and(|facts| facts.nlink() == 0));
    Ok(file.filter(|file| {
        // SAFETY: both calls take an open descriptor and a number.
        unsafe {
            let alone = libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0;
            alone && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) == 0
        }
    }))
}

/// Gives a file that has no name any more back to the drive, piece by piece, with pauses as long as a piece took. A drive that is
/// told what it need not keep any more (`discard`) answers nobody meanwhile: 1.5 GB at once held up writes for 64 ms, and
/// the helper for 390.
async fn give_back(mut file: fs::File, of: HelperOf) {
    loop {
        // The last descriptor is closed there too: that can wait for the drive.
        let step = on_helper_of(of, move || {
            let began = std::time::Instant::now();
            let left = file.metadata()?.len().saturating_sub(GIVEN_BACK_AT_ONCE_BYTES);
            file.set_len(left)?;
            Ok((left > 0).then(|| (file, began.elapsed())))
        });
        let Ok(Some((rest, took))) = step.await else { return };
        clock::sleep(took).await;
        file = rest;
    }
}

pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    on_helper_of(helper_of(&to), move || fs::rename(from, to)).await
}

pub async fn create_dir_all(path: &Path) -> io::Result<()> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || fs::create_dir_all(path)).await
}

pub async fn remove_dir_all(path: &Path) -> io::Result<()> {
    for entry in list(path).await? {
        if !entry.is_dir && entry.len > GIVEN_BACK_AT_ONCE_BYTES {
            // What is wrong shows below.
            let _ = remove(&path.join(entry.name)).await;
        }
    }
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || fs::remove_dir_all(path)).await
}

pub async fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(facts) => entries.push(DirEntry { name, is_dir: facts.is_dir(), len: facts.len() }),
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    })
    .await
}

pub async fn sync_dir(path: &Path) -> io::Result<()> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || fs::File::open(path)?.sync_all()).await
}

pub async fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || fs::read(path)).await
}

pub async fn read_places(path: &Path, places: Vec<(u64, usize)>) -> io::Result<Vec<Vec<u8>>> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || {
        let file = fs::File::open(path)?;
        let read = |(position, len)| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, position)?;
            Ok(bytes)
        };
        places.into_iter().map(read).collect()
    })
    .await
}

pub async fn write_file(path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let (path, of) = (path.to_owned(), helper_of(path));
    on_helper_of(of, move || {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut new_name = name.to_owned();
        new_name.push(".tmp");
        let new = dir.join(new_name);
        let mut file = fs::File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        drop(file);
        fs::rename(&new, &path)?;
        fs::File::open(dir)?.sync_all()
    })
    .await
}

pub async fn space(path: &Path) -> io::Result<Space> {
    let (path, of) = (CString::new(path.as_os_str().as_bytes())?, helper_of(path));
    on_helper_of(of, move || {
        // SAFETY: statvfs is plain data for which zeroes are valid.
        let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` is a string with its final zero, `facts` is writable.
        if unsafe { libc::statvfs(path.as_ptr(), &mut facts) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
        Ok(Space { free: bytes(facts.f_bavail), total: bytes(facts.f_blocks) })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, Open};
    use super::*;
    use crate::runtime::run_one;

    fn in_dirs(test: impl AsyncFn(&Path)) {
        let dir = tempfile::tempdir_in(".").unwrap();
        run_one(test(dir.path()));
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
        run_one(test(memory.path()));
    }

    fn buffer(bytes: &[u8]) -> Rc<Buffer> {
        let mut buffer = Buffer::with_capacity(bytes.len() + 3 * BLOCK_BYTES);
        buffer.push(bytes);
        buffer.pad_to_block();
        Rc::new(buffer)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn the_first_file_of_a_core_may_be_empty() {
        in_dirs(async |dir| {
            let disk = Disk::direct();
            let file = disk.open(&dir.join("new"), Open::CREATE_NEW).await.unwrap();
            assert_eq!((file.length(), file.read(0, 100).await.unwrap().len()), (0, 0));
            file.write(buffer(&pattern(5000)), 0).await.unwrap();
            assert_eq!(file.length(), 8192);
            assert_eq!(file.read(0, 5000).await.unwrap().as_slice(), pattern(5000));
            file.close().await.unwrap();
            let names: Vec<_> = disk.list(dir).await.unwrap();
            assert_eq!(names, [DirEntry { name: "new".into(), is_dir: false, len: 8192 }]);
        });
    }

    #[test]
    fn nothing_beyond_the_end_of_a_file_is_read() {
        in_dirs(async |dir| {
            let path = dir.join("5000");
            fs::write(&path, pattern(5000)).unwrap();
            let file = Disk::direct().open(&path, Open::READ_ONLY).await.unwrap();
            assert_eq!(file.length(), 5000);
            for (position, len) in
                [(0, 5000), (100, 8192), (4500, 4096), (4999, 1), (5000, 100), (9000, 1), (4096, 904)]
            {
                let expected: Vec<u8> = pattern(5000).into_iter().skip(position as usize).take(len).collect();
                assert_eq!(file.read(position, len).await.unwrap().as_slice(), expected, "{position}+{len}");
            }
            // Cut by somebody else: what is left, and no more.
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4200).unwrap();
            assert_eq!(file.read(4000, 1000).await.unwrap().as_slice(), &pattern(5000)[4000..4200]);
            assert_eq!(file.read(4300, 100).await.unwrap().len(), 0);
        });
    }

    #[test]
    fn what_is_removed_stays_for_those_who_have_it() {
        in_dirs(async |dir| {
            let disk = Disk::direct();
            let large = 3 * GIVEN_BACK_AT_ONCE_BYTES + 1;
            let make = |name: &str| {
                let file = fs::File::create(dir.join(name)).unwrap();
                file.set_len(large).unwrap();
                file.write_all_at(b"kept", large - 4).unwrap();
                dir.join(name)
            };
            let (read, linked, nobodys) = (make("read"), make("linked"), make("nobodys"));
            let reader = disk.open(&read, Open::READ_ONLY).await.unwrap();
            fs::hard_link(&linked, dir.join("link")).unwrap();
            for path in [&read, &linked, &nobodys] {
                disk.remove(path).await.unwrap();
                assert!(!path.exists());
            }
            assert_eq!(reader.read(large - 4, 4).await.unwrap().as_slice(), b"kept");
            assert!(fs::read(dir.join("link")).unwrap().ends_with(b"kept"));
            assert!(unlink(&make("shown")).unwrap().is_some(), "it would be given back in one piece");
            assert_eq!(disk.remove(&read).await.unwrap_err().kind(), io::ErrorKind::NotFound);

            fs::create_dir(dir.join("all")).unwrap();
            fs::rename(dir.join("link"), dir.join("all/link")).unwrap();
            fs::write(dir.join("all/small"), b"small").unwrap();
            disk.remove_dir_all(&dir.join("all")).await.unwrap();
            assert!(!dir.join("all").exists());
        });
    }

    #[test]
    fn space_is_reserved_and_lengths_are_kept() {
        in_dirs(async |dir| {
            let file = Disk::direct().open(&dir.join("f"), Open::CREATE).await.unwrap();
            file.allocate(0, 1 << 20).await.unwrap();
            assert_eq!(file.length(), 1 << 20);
            assert!(file.read(70_000, 5000).await.unwrap().iter().all(|&byte| byte == 0));
            file.write(buffer(&pattern(10)), 4096).await.unwrap();
            file.write_durable(buffer(&pattern(20)), 8192).await.unwrap();
            assert_eq!(file.read(8192, 20).await.unwrap().as_slice(), pattern(20));
            file.write_durable(buffer(&pattern(9)), 1 << 20).await.unwrap();
            assert_eq!(file.length(), (1 << 20) + BLOCK);
            file.set_length(1 << 20).await.unwrap();
            file.flush().await.unwrap();
            assert_eq!(file.length(), 1 << 20);
            file.set_length(4100).await.unwrap();
            assert_eq!(file.read(4090, 100).await.unwrap().as_slice(), [0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
            assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 4100);
        });
    }

    #[test]
    fn names_are_changed_and_small_files_replaced_whole() {
        in_dirs(async |dir| {
            let disk = Disk::direct();
            let deep = dir.join("a/b");
            disk.create_dir_all(&deep).await.unwrap();
            disk.create_dir_all(&deep).await.unwrap();
            disk.write_file(&deep.join("x"), b"one".to_vec()).await.unwrap();
            disk.write_file(&deep.join("x"), b"two".to_vec()).await.unwrap();
            assert_eq!(disk.read_file(&deep.join("x")).await.unwrap(), b"two");
            disk.rename(&deep.join("x"), &deep.join("y")).await.unwrap();
            disk.sync_dir(&deep).await.unwrap();
            let names: Vec<_> = disk.list(&deep).await.unwrap().into_iter().map(|entry| entry.name).collect();
            assert_eq!(names, ["y"]);
            let open = disk.open(&deep.join("y"), Open::EXISTING).await.unwrap();
            disk.remove(&deep.join("y")).await.unwrap();
            assert_eq!(open.read(0, 3).await.unwrap().as_slice(), b"two");
            disk.remove_dir_all(&dir.join("a")).await.unwrap();
            let error = disk.open(&deep.join("y"), Open::EXISTING).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(disk.free_bytes(dir).await.unwrap() > 0);
        });
    }

    fn is_locked(path: &Path) -> bool {
        let file = fs::File::open(path).unwrap();
        // SAFETY: the descriptor is open.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) != 0 }
    }

    #[test]
    fn a_file_is_locked_while_it_is_open_to_write() {
        in_dirs(async |dir| {
            let disk = Disk::direct();
            let path = dir.join("f");
            let file = disk.open(&path, Open::CREATE_NEW).await.unwrap();
            file.write(buffer(b"x"), 0).await.unwrap();
            assert!(is_locked(&path));
            // Readers do not mind, and are in nobody's way.
            let reader = disk.open(&path, Open::READ_ONLY).await.unwrap();
            file.close().await.unwrap();
            assert!(!is_locked(&path));
            let waits = lock_waits();
            let file = disk.open(&path, Open::EXISTING).await.unwrap();
            assert_eq!(lock_waits(), waits);
            // Dropped, not closed.
            drop(file);
            assert!(!is_locked(&path));
            let file = disk.open(&path, Open::EXISTING).await.unwrap();
            assert!(is_locked(&path));
            drop((file, reader));
        });
    }

    #[test]
    fn a_file_that_somebody_has_locked_is_waited_for() {
        in_dirs(async |dir| {
            let path = dir.join("f");
            fs::write(&path, pattern(BLOCK_BYTES)).unwrap();
            let ours = DirectFile::open_within(&path, Open::EXISTING, Duration::ZERO).await.unwrap();
            // SAFETY: the descriptor is open.
            let flags = unsafe { libc::fcntl(ours.file.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC, "a child would keep the lock");
            drop(ours);
            let other = fs::OpenOptions::new().append(true).open(&path).unwrap();
            // SAFETY: the descriptor is open.
            assert_eq!(unsafe { libc::flock(other.as_raw_fd(), libc::LOCK_EX) }, 0);
            let refused = DirectFile::open_within(&path, Open::EXISTING, Duration::ZERO).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
            assert!(refused.to_string().starts_with("still locked after 0 s: the drive has not finished"), "{refused}");

            let waits = lock_waits();
            let disk = Disk::direct();
            let other_ends = async {
                // Other tasks of the core go on meanwhile.
                while lock_waits() < waits + 3 {
                    clock::sleep(Duration::from_millis(1)).await;
                }
                (&other).write_all(&pattern(BLOCK_BYTES)).unwrap();
                drop(other);
            };
            let (opened, ()) = futures_lite::future::zip(disk.open(&path, Open::EXISTING), other_ends).await;
            let file = opened.unwrap();
            assert_eq!(file.length(), 2 * BLOCK, "the length of before is not believed");
        });
    }

    #[test]
    fn errors_keep_the_code_of_the_system() {
        in_dirs(async |dir| {
            let disk = Disk::direct();
            let path = dir.join("f");
            drop(disk.open(&path, Open::CREATE_NEW).await.unwrap());
            let again = disk.open(&path, Open::CREATE_NEW).await.err().unwrap();
            assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
            let file = disk.open(&path, Open::READ_ONLY).await.unwrap();
            let error = file.write(buffer(b"x"), 0).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        });
    }
}
