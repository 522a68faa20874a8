//! Facts of the machine that belong on a result: kernel, processor, and the file
//! system and drive under a directory, with what a flush costs there. Read from
//! `/proc` and `/sys`; what a machine does not say is left empty, never guessed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;

/// Overwrites that tell what a flush costs: enough for a p99 that two outliers do not make.
const FLUSH_PROBES: usize = 256;

/// A page of most drives and file systems.
pub const BLOCK_BYTES: usize = 4096;

/// Facts of the machine under the client: kernel, processor, CPUs and their governor, memory.
pub fn facts() -> Value {
    let field = |path: &str, name: &str| {
        let text = read(path);
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory_kib = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<f64>().ok();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": field("/proc/cpuinfo", "model name"),
        "client_cpus": field("/proc/self/status", "Cpus_allowed_list"),
        "cpus_online": read("/sys/devices/system/cpu/online"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_gb": memory_kib.map(|kib| (kib * 1024.0 / 1e8).round() / 10.0),
        "load": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
    })
}

/// Where a directory lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mount {
    /// `MAJOR:MINOR` of the block device; 0 as the major number says that the file system has no single one.
    device: String,
    point: PathBuf,
    file_system: String,
    source: String,
    options: String,
}

/// File system and drive under `folder`.
pub fn drive_facts(folder: &Path) -> Outcome<Value> {
    let what = || format!("find the drive of {}", folder.display());
    let folder = folder.canonicalize().doing(what)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").doing(what)?;
    let mount = mount_of(&mounts, &folder).unwrap_or_default();
    let queue = queue_of(&mount);
    let of_queue = |name: &str| queue.as_ref().map(|queue| read(queue.join(name))).unwrap_or_default();
    // The model stands beside the queue, in the device that the disk hangs on.
    let model = queue.as_ref().and_then(|queue| queue.parent().map(|disk| read(disk.join("device/model"))));
    let name = queue.as_ref().and_then(|queue| Some(queue.parent()?.file_name()?.to_string_lossy().into_owned()));
    Ok(json!({
        "file_system": mount.file_system,
        "mount_options": mount.options,
        "drive": name.unwrap_or(mount.source),
        "drive_model": model.unwrap_or_default(),
        // "write back": a completed write may still be in memory of the drive; "write through": it is not.
        "drive_write_cache": of_queue("write_cache"),
        "drive_fua": of_queue("fua"),
        "drive_scheduler": of_queue("scheduler"),
        "drive_rotational": of_queue("rotational"),
    }))
}

/// The data directory of a broker's process, by the lock file that Kafka and corelog hold open in it; `None` when
/// it holds none or belongs to somebody else.
pub fn data_dir_of(pid: u32) -> Option<PathBuf> {
    let opened = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    opened
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .find_map(|path| (path.file_name()? == ".lock").then(|| path.parent().map(Path::to_path_buf))?)
}

/// `Linux 6.12, ext4 on nvme0n1 (write cache: write back), flush p50 90 p99 7554 µs`, as far as it is known.
pub fn line(host: &Value, drive: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!("Linux {}", text(&host["kernel"]));
    if let Some(file_system) = drive["file_system"].as_str() {
        line += &format!(", {file_system} on {}", text(&drive["drive"]));
        let cache = text(&drive["drive_write_cache"]);
        if !cache.is_empty() {
            line += &format!(" (write cache: {cache})");
        }
    }
    if let (Some(p50), Some(p99)) = (drive["flush_p50_us"].as_f64(), drive["flush_p99_us"].as_f64()) {
        line += &format!(", 4 KiB overwrite and flush p50 {p50:.0} p99 {p99:.0} µs");
    }
    line
}

/// [`drive_facts`], and what an overwrite of 4 KiB and a flush cost there, one after the other. Writes
/// a file of 1 MiB and removes it.
pub fn probed_drive_facts(folder: &Path) -> Outcome<Value> {
    let mut facts = drive_facts(folder)?;
    let flushes = flush_times(folder)?;
    facts["flush_p50_us"] = json!(flushes.quantile_us(0.5));
    facts["flush_p99_us"] = json!(flushes.quantile_us(0.99));
    Ok(facts)
}

fn flush_times(folder: &Path) -> Outcome<Latencies> {
    let probe = Scratch::create(folder, "flush")?;
    let what = || format!("flush {}", probe.path.display());
    let file = File::options().write(true).open(&probe.path).doing(what)?;
    file.write_all_at(&vec![1; 1 << 20], 0).doing(what)?;
    file.sync_all().doing(what)?;
    let mut times = Latencies::new();
    for index in 0..FLUSH_PROBES {
        let begun = Instant::now();
        file.write_all_at(&[index as u8; BLOCK_BYTES], (index % 256 * BLOCK_BYTES) as u64).doing(what)?;
        file.sync_data().doing(what)?;
        times.record(begun.elapsed(), 1);
    }
    Ok(times)
}

/// A file that goes when it is dropped. Never one that was there before.
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub fn create(folder: &Path, purpose: &str) -> Outcome<Scratch> {
        let path = folder.join(format!("corelog-bench-{purpose}-{}", std::process::id()));
        File::create_new(&path).doing(|| format!("create {}", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The mount that `folder` (absolute, without links) lies on. Of several on one point the last covers the others.
fn mount_of(mountinfo: &str, folder: &Path) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for mount in mountinfo.lines().filter_map(mount_from) {
        let depth = |mount: &Mount| mount.point.components().count();
        if folder.starts_with(&mount.point) && best.as_ref().is_none_or(|best| depth(&mount) >= depth(best)) {
            best = Some(mount);
        }
    }
    best
}

/// A line of `/proc/PID/mountinfo`: `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,data=ordered`.
fn mount_from(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let (mut left, mut right) = (left.split(' ').skip(2), right.split(' '));
    let device = left.next()?.to_owned();
    let point = PathBuf::from(unescaped(left.nth(1)?));
    let options = left.next()?.to_owned();
    let file_system = right.next()?.to_owned();
    let source = unescaped(right.next()?);
    // Those of the mount point, and behind them those of the file system that are not said yet.
    let mut all: Vec<&str> = options.split(',').collect();
    for option in right.next()?.split(',') {
        if !all.contains(&option) {
            all.push(option);
        }
    }
    Some(Mount { device, point, file_system, source, options: all.join(",") })
}

/// Spaces, tabs, line ends and backslashes stand as `\040` and so on.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out += &rest[..at];
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// The request queue of the drive, in `/sys`. A partition has none of its own: its disk's, one step up.
fn queue_of(mount: &Mount) -> Option<PathBuf> {
    let by_number = Path::new("/sys/dev/block").join(&mount.device);
    let by_name = Path::new("/sys/class/block").join(Path::new(&mount.source).file_name()?);
    let device = [by_number, by_name].iter().find_map(|path| path.canonicalize().ok())?;
    [device.join("queue"), device.parent()?.join("queue")].into_iter().find(|queue| queue.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 259:2 / /data rw,noatime shared:2 master:3 - xfs /dev/nvme0n1p2 rw,attr2
31 30 0:40 / /data/with\\040space rw - tmpfs tmpfs rw
32 22 0:41 / /data2 rw - btrfs /dev/sdb rw
33 22 8:9 / /data rw - ext4 /dev/sdc9 rw
broken line
";

    #[test]
    fn the_mount_of_a_folder_is_the_deepest_and_latest() {
        let of = |folder: &str| mount_of(MOUNTS, Path::new(folder)).unwrap();
        assert_eq!(of("/var/a").source, "/dev/sda1");
        // Two on one point: the later one covers the earlier.
        assert_eq!((of("/data/x").source, of("/data/x").file_system), ("/dev/sdc9".into(), "ext4".into()));
        assert_eq!(of("/data/with space/x").file_system, "tmpfs");
        assert_eq!(of("/var/a").options, "rw,relatime,errors=remount-ro");
        // A common beginning of a name is no common folder.
        assert_eq!(of("/data2").file_system, "btrfs");
        assert_eq!(of("/data22").source, "/dev/sda1");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn escapes_are_read_and_broken_ones_kept() {
        for (text, expected) in [("a\\040b", "a b"), ("\\134", "\\"), ("a\\", "a\\"), ("\\9x", "\\9x"), ("é", "é")] {
            assert_eq!(unescaped(text), expected);
        }
    }

    #[test]
    fn facts_of_this_machine_and_its_drive() {
        assert!(!facts()["kernel"].as_str().unwrap().is_empty());
        let folder = tempfile::tempdir().unwrap();
        let facts = probed_drive_facts(folder.path()).unwrap();
        assert!(!facts["file_system"].as_str().unwrap().is_empty(), "{facts}");
        let (p50, p99) = (facts["flush_p50_us"].as_f64().unwrap(), facts["flush_p99_us"].as_f64().unwrap());
        assert!(p50 > 0.0 && p99 >= p50, "{facts}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the probe's file is gone");
        assert!(drive_facts(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn a_brokers_directory_is_found_by_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let lock = File::create(path.join(".lock")).unwrap();
        assert_eq!(data_dir_of(std::process::id()), Some(path));
        drop(lock);
        assert_eq!(data_dir_of(std::process::id()), None);
        assert_eq!(data_dir_of(u32::MAX), None);
    }

    #[test]
    fn the_line_says_what_is_known() {
        let host = json!({ "kernel": "6.12" });
        assert_eq!(line(&host, &Value::Null), "Linux 6.12");
        let mut drive = json!({ "file_system": "xfs", "drive": "vda", "drive_write_cache": "" });
        assert_eq!(line(&host, &drive), "Linux 6.12, xfs on vda");
        drive["drive_write_cache"] = json!("write back");
        (drive["flush_p50_us"], drive["flush_p99_us"]) = (json!(90.2), json!(7554.0));
        let expected = "Linux 6.12, xfs on vda (write cache: write back), 4 KiB overwrite and flush p50 90 p99 7554 µs";
        assert_eq!(line(&host, &drive), expected);
    }

    #[test]
    fn a_file_that_is_there_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let first = Scratch::create(folder.path(), "x").unwrap();
        assert!(Scratch::create(folder.path(), "x").is_err());
        assert!(first.path.exists());
    }
}
