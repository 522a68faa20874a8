//! A drive whose power can be cut: a real file system on it, a real broker on that.
//!
//! The drive is one file of a FUSE file system of ours, under a loop device. It takes writes into a volatile cache and
//! keeps them apart from what is durable until the file system asks for a flush, as drives do. A cut stops every
//! further answer, and what was not flushed is lost in part: of each sector any version since the last flush may have
//! reached the medium, or none. Under XFS the drive has sectors of 4 KiB: of a block of metadata that is torn it looks at the
//! first part only, takes it for newer than its log, and does not mount any more ("Metadata CRC error").
//!
//! All of it lives in a mount namespace of its own, [`in_own_namespace`]: when the test's process is gone, so are its
//! mounts and its loop device.

use super::wait::{self, PATIENCE};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

const SECTOR: usize = 512;
/// The drive's size. The file behind it takes only as much as was written.
const SIZE: u64 = 4 << 30;
const DISK: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(3600);

/// xorshift64.
pub fn next_random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Runs the calling test `name` again in a mount namespace of its own; true there. Gives false, having said why, when
/// this machine does not allow what a drive needs.
pub fn in_own_namespace(name: &str) -> bool {
    const INSIDE: &str = "CORELOG_TEST_INSIDE";
    if std::env::var(INSIDE).is_ok() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]);
        command
    };
    for (what, there) in [
        ("/dev/fuse", Path::new("/dev/fuse").exists()),
        ("/dev/loop-control", Path::new("/dev/loop-control").exists()),
        ("a mount namespace (root)", unshare().arg("true").output().is_ok_and(|output| output.status.success())),
        ("mkfs.ext4", Command::new("mkfs.ext4").arg("-V").output().is_ok()),
    ] {
        if !there {
            eprintln!("skipped: needs {what}");
            return false;
        }
    }
    let this = std::env::current_exe().unwrap();
    let status = unshare().arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "see above");
    false
}

/// What the drive's two sides share.
struct Medium {
    durable: File,
    /// Since the last flush, by sector: what was written to it, in order.
    volatile: BTreeMap<u64, Vec<[u8; SECTOR]>>,
    has_power: bool,
    /// Sectors that reach the medium together.
    whole: u64,
    /// The power goes at so many reads and writes from now on, and the seed of what is lost then.
    cut_in: Option<(u64, u64)>,
    /// What is held up, until [`Drive::release`].
    holds: Holds,
    held: Vec<Held>,
}

#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Nothing,
    Flushes,
    Writes,
}

/// An answer that is held up.
enum Held {
    Flush(ReplyEmpty),
    /// Of a write of so many bytes.
    Write(ReplyWrite, u32),
}

impl Medium {
    fn read(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.durable.read_exact_at(&mut bytes, offset)?;
        let (first, end) = (offset / SECTOR as u64, (offset + len as u64).div_ceil(SECTOR as u64));
        for (sector, versions) in self.volatile.range(first..end) {
            let last = versions.last().expect("never empty");
            for (index, byte) in last.iter().enumerate() {
                if let Some(at) = (sector * SECTOR as u64 + index as u64).checked_sub(offset)
                    && let Some(place) = bytes.get_mut(at as usize)
                {
                    *place = *byte;
                }
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(SECTOR as u64) && bytes.len().is_multiple_of(SECTOR), "part of a sector");
        for (index, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let versions = self.volatile.entry(offset / SECTOR as u64 + index as u64).or_default();
            versions.push(sector.try_into().expect("a sector"));
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        for (sector, versions) in std::mem::take(&mut self.volatile) {
            self.durable.write_all_at(versions.last().expect("never empty"), sector * SECTOR as u64)?;
        }
        Ok(())
    }

    fn answer_flush(&mut self, reply: ReplyEmpty) {
        match self.has_power.then(|| self.flush()) {
            Some(Ok(())) => reply.ok(),
            _ => reply.error(Errno::EIO),
        }
    }

    /// A read or a write begins: whether there is power.
    fn begin(&mut self) -> bool {
        if let Some((left, seed)) = &mut self.cut_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let mut seed = *seed;
                self.cut_in = None;
                self.cut(&mut seed);
            }
        }
        self.has_power
    }

    fn cut(&mut self, seed: &mut u64) {
        self.has_power = false;
        // How likely a version reaches the medium: all, none, or something between.
        let likely = [0, 5, 50, 95, 100][(next_random(seed) % 5) as usize];
        let (mut lost, mut kept) = (0, 0);
        let (mut unit, mut age) = (u64::MAX, 0);
        for (sector, versions) in std::mem::take(&mut self.volatile) {
            if sector / self.whole != unit {
                // Of how many versions the last did not reach it.
                unit = sector / self.whole;
                age = (0..versions.len()).find(|_| next_random(seed) % 100 < likely).unwrap_or(usize::MAX);
            }
            match versions.iter().nth_back(age) {
                Some(bytes) => {
                    kept += 1;
                    self.durable.write_all_at(bytes, sector * SECTOR as u64).unwrap();
                }
                None => lost += 1,
            }
        }
        println!("power cut: of the sectors that were not flushed, {kept} reached the medium and {lost} did not");
    }
}

/// The file system with the one file.
struct Front(Arc<Mutex<Medium>>);

fn attributes(ino: INodeNo) -> FileAttr {
    let kind = if ino == DISK { FileType::RegularFile } else { FileType::Directory };
    FileAttr {
        ino,
        size: if ino == DISK { SIZE } else { 0 },
        blocks: SIZE / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl Filesystem for Front {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "disk" {
            true => reply.entry(&FOREVER, &attributes(DISK), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut medium = self.0.lock().unwrap();
        let len = (size as u64).min(SIZE.saturating_sub(offset)) as usize;
        match medium.begin().then(|| medium.read(offset, len)) {
            Some(Ok(bytes)) => reply.data(&bytes),
            _ => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut medium = self.0.lock().unwrap();
        if !medium.begin() {
            return reply.error(Errno::EIO);
        }
        medium.write(offset, data);
        let bytes = data.len() as u32;
        match medium.holds {
            Holds::Writes => medium.held.push(Held::Write(reply, bytes)),
            _ => reply.written(bytes),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut medium = self.0.lock().unwrap();
        match medium.holds {
            Holds::Nothing => medium.answer_flush(reply),
            _ => medium.held.push(Held::Flush(reply)),
        }
    }
}

/// See the module.
pub struct Drive {
    medium: Arc<Mutex<Medium>>,
    session: Option<BackgroundSession>,
    folder: tempfile::TempDir,
}

impl Drive {
    /// A new drive, formatted with `file_system` (`ext4` or `xfs`) and mounted.
    pub fn new(file_system: &str) -> Drive {
        let folder = super::folder();
        let durable =
            File::options().read(true).write(true).create_new(true).open(folder.path().join("medium")).unwrap();
        durable.set_len(SIZE).unwrap();
        let medium = Arc::new(Mutex::new(Medium {
            durable,
            volatile: BTreeMap::new(),
            whole: if file_system == "xfs" { 8 } else { 1 },
            has_power: true,
            cut_in: None,
            holds: Holds::Nothing,
            held: Vec::new(),
        }));
        let mut drive = Drive { medium, session: None, folder };
        for name in ["front", "mounted"] {
            std::fs::create_dir(drive.path(name)).unwrap();
        }
        drive.plug_in();
        let options: &[&str] = if file_system == "xfs" { &["-f", "-s", "size=4096"] } else { &["-F"] };
        let mut mkfs = Command::new(format!("mkfs.{file_system}"));
        run(mkfs.args(options).arg("-q").arg(drive.path("front/disk")));
        drive.mount();
        drive
    }

    /// Where the file system is mounted.
    pub fn mounted(&self) -> PathBuf {
        self.path("mounted")
    }

    /// From now on nothing is written, read or flushed any more, and what was not flushed is lost in part.
    /// While writes are under way this waits for a moment when there is something to lose.
    pub fn cut(&self, seed: &mut u64) {
        let deadline = Instant::now() + Duration::from_millis(200);
        loop {
            let mut medium = self.medium.lock().unwrap();
            if !medium.volatile.is_empty() || Instant::now() >= deadline {
                return medium.cut(seed);
            }
            drop(medium);
            std::thread::yield_now();
        }
    }

    /// As [`Drive::cut`], at so many reads and writes from now on.
    pub fn cut_in(&self, operations: u64, seed: u64) {
        self.medium.lock().unwrap().cut_in = Some((operations, seed));
    }

    pub fn has_power(&self) -> bool {
        self.medium.lock().unwrap().has_power
    }

    /// From now on no flush completes; writes and reads go on.
    pub fn hold_flushes(&self) {
        self.medium.lock().unwrap().holds = Holds::Flushes;
    }

    /// From now on no write and no flush completes; reads go on.
    pub fn hold_writes(&self) {
        self.medium.lock().unwrap().holds = Holds::Writes;
    }

    /// Writes and flushes that are held up.
    pub fn held(&self) -> usize {
        self.medium.lock().unwrap().held.len()
    }

    /// Completes what is held up, and lets all that follows pass.
    pub fn release(&self) {
        let mut medium = self.medium.lock().unwrap();
        medium.holds = Holds::Nothing;
        for held in std::mem::take(&mut medium.held) {
            match held {
                Held::Flush(reply) => medium.answer_flush(reply),
                Held::Write(reply, bytes) => reply.written(bytes),
            }
        }
    }

    /// Takes the dead drive off, gives it power and mounts what is left of it. Nobody has a file open there.
    pub fn restore(&mut self) {
        self.unmount();
        {
            let mut medium = self.medium.lock().unwrap();
            (medium.has_power, medium.cut_in) = (true, None);
        }
        self.plug_in();
        self.mount();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plug_in(&mut self) {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("corelog-test".into())];
        let front = Front(Arc::clone(&self.medium));
        self.session = Some(fuser::spawn_mount(front, self.path("front"), &config).expect("mount a FUSE file system"));
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).args([self.path("front/disk"), self.mounted()]));
    }

    fn unmount(&mut self) {
        // Requests that a killed process had under way keep its files open a moment longer, and a loop device its file.
        for name in ["mounted", "front"] {
            let path = self.path(name);
            wait::until(&format!("the unmounting of {name}"), PATIENCE, || {
                Command::new("umount").arg(&path).output().unwrap().status.success().then_some(())
            });
        }
        if let Some(session) = self.session.take() {
            session.join().unwrap();
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // Whatever state it is in: the namespace takes the rest.
        self.release();
        for name in ["mounted", "front"] {
            let _ = Command::new("umount").arg("--lazy").arg(self.path(name)).output();
        }
    }
}

/// A small file system in a file, mounted: one that is soon full. In a namespace of its own, see [`in_own_namespace`].
pub struct SmallFileSystem {
    folder: tempfile::TempDir,
}

impl SmallFileSystem {
    /// `None`, having said so, when the machine lacks what makes `kind`.
    pub fn new(kind: &str, bytes: u64) -> Option<SmallFileSystem> {
        if Command::new(format!("mkfs.{kind}")).arg("-V").output().is_err() {
            eprintln!("skipped: needs mkfs.{kind}");
            return None;
        }
        let small = SmallFileSystem { folder: super::folder() };
        let image = small.folder.path().join("image");
        File::create_new(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(small.mounted()).unwrap();
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(Command::new(format!("mkfs.{kind}")).args([force, "-q"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).args([image, small.mounted()]));
        Some(small)
    }

    /// One in memory, which waits for no drive.
    pub fn in_memory(bytes: u64) -> SmallFileSystem {
        let small = SmallFileSystem { folder: super::folder() };
        std::fs::create_dir(small.mounted()).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(small.mounted()));
        small
    }

    pub fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let output =
            Command::new("df").args(["--block-size=1", "--output=avail"]).arg(self.mounted()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("df: {text}"))
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.mounted()).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
