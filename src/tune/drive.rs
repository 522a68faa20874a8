//! The data directory's drive: file system and its options, I/O scheduler, write cache
//! and power-loss protection, and what a flush costs.

use std::time::Duration;

use super::root::chosen;
use super::{Finding, Measured, Root, Write};

/// A drive with power-loss protection answers a flush from its memory, in some ten microseconds; this leaves room for
/// a busy one. Without, it takes the medium's time: a millisecond and more.
const FLUSH_P99_MAX: Duration = Duration::from_millis(1);

/// Where the data directory lies.
#[derive(Default)]
pub struct Place {
    mount: Option<Mount>,
    /// Why there is no mount to speak of.
    unknown: &'static str,
    /// The whole disks that it is made of, below `/sys/devices`.
    disks: Vec<String>,
    /// Their devices, which have interrupts and a memory node.
    pub devices: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `MAJOR:MINOR` of the block device; a major number of 0 says that there is no single one.
    device: String,
    point: String,
    file_system: String,
    options: Vec<String>,
}

impl Place {
    /// A place that has these devices and shows nothing else.
    #[cfg(test)]
    pub fn of_devices(devices: &[&str]) -> Place {
        Place { devices: devices.iter().map(|device| device.to_string()).collect(), ..Place::default() }
    }

    /// Reads what is mounted at a path, and what it is made of.
    pub fn find(root: &Root, data_dir: Option<&str>) -> Place {
        let Some(data_dir) = data_dir else {
            return Place { unknown: "no data directory is given (--data-dir)", ..Place::default() };
        };
        let mounts = root.read("/proc/self/mountinfo").unwrap_or_default();
        let Some(mount) = mount_of(&mounts, data_dir) else {
            return Place { unknown: "the kernel does not show what is mounted there", ..Place::default() };
        };
        let mut disks = Vec::new();
        if let Some(device) = root.real(&format!("/sys/dev/block/{}", mount.device)) {
            whole_disks(root, &device, 4, &mut disks);
        }
        let devices = disks.iter().filter_map(|disk| root.real(&format!("{disk}/device"))).collect();
        Place { mount: Some(mount), unknown: "", disks, devices }
    }

    /// Why nothing is known of disks.
    fn no_disk(&self) -> String {
        match &self.mount {
            None => self.unknown.to_owned(),
            Some(mount) => format!("{} at {} shows no drive of its own", mount.file_system, mount.point),
        }
    }
}

/// The disks under a block device: itself, what it is a partition of, or what a mapper or an array is made of.
fn whole_disks(root: &Root, device: &str, depth: usize, disks: &mut Vec<String>) {
    let slaves = root.list(&format!("{device}/slaves"));
    if !slaves.is_empty() && depth > 0 {
        for slave in slaves {
            if let Some(slave) = root.real(&format!("{device}/slaves/{slave}")) {
                whole_disks(root, &slave, depth - 1, disks);
            }
        }
        return;
    }
    let parent = device.rsplit_once('/').map_or("", |(parent, _)| parent);
    for disk in [device, parent] {
        if root.is_dir(&format!("{disk}/queue")) {
            if !disks.iter().any(|known| known == disk) {
                disks.push(disk.to_owned());
            }
            return;
        }
    }
}

/// The mount that a path lies in: the innermost, and of several at one place the last.
fn mount_of(mounts: &str, path: &str) -> Option<Mount> {
    let is_in = |point: &str| {
        let rest = path.strip_prefix(point);
        point == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.lines().filter_map(mount).filter(|mount| is_in(&mount.point)).max_by_key(|mount| mount.point.len())
}

/// A line of mountinfo: id, parent, device, root, point, options, any fields, "-", type, source, options.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let [_, _, device, _, point, options, ..] = before.split(' ').collect::<Vec<_>>()[..] else { return None };
    let [file_system, _, more, ..] = after.split(' ').collect::<Vec<_>>()[..] else { return None };
    let spaced = point.replace("\\040", " ");
    let options = options.split(',').chain(more.split(',')).map(str::to_owned).collect();
    Some(Mount { device: device.to_owned(), point: spaced, file_system: file_system.to_owned(), options })
}

pub fn check(root: &Root, place: &Place, measured: &Measured) -> Vec<Finding> {
    vec![
        flush(place, measured),
        write_cache(root, place, measured),
        file_system(place),
        mount_options(place),
        scheduler(root, place),
    ]
}

fn flush(place: &Place, measured: &Measured) -> Finding {
    const NAME: &str = "flush";
    let want = format!("an overwrite of 4 KiB and a flush with a p99 of at most {} ms", FLUSH_P99_MAX.as_millis());
    let times = match &measured.flush {
        None if place.mount.is_none() => return Finding::unknown(NAME, place.unknown, want),
        None => return Finding::unknown(NAME, "not measured", want),
        Some(Err(why)) => return Finding::unknown(NAME, format!("cannot be measured: {why}"), want),
        Some(Ok(times)) => *times,
    };
    if times.p99 <= FLUSH_P99_MAX {
        return Finding::ok(NAME, times.to_string(), want);
    }
    let each = 1_000_000 / times.p50.as_micros().max(1);
    let cost = format!(
        "an acknowledgement of acks=all waits for {times} (measured); a partition makes about {each} group commits a \
         second"
    );
    Finding::deviates(NAME, times.to_string(), want, cost)
        .by("a drive with power-loss protection, and of its own; a busy drive shows it too: measure when idle")
}

fn write_cache(root: &Root, place: &Place, measured: &Measured) -> Finding {
    const NAME: &str = "write-cache";
    const WANT: &str = "write through: no cache that a power loss empties";
    let (mut shown, mut volatile) = (Vec::new(), false);
    for disk in &place.disks {
        let cache = root.read(&format!("{disk}/queue/write_cache"));
        let Some(cache) = cache.filter(|cache| cache == "write back" || cache == "write through") else { continue };
        volatile |= cache == "write back";
        shown.push(format!("{cache} on {}", base_name(disk)));
    }
    if shown.is_empty() {
        let why = if place.disks.is_empty() { place.no_disk() } else { "the drive does not say".to_owned() };
        return Finding::unknown(NAME, why, WANT);
    }
    let have = shown.join(", ");
    if !volatile {
        let have = format!("{have}: the drive says that what it has taken survives a power loss");
        return Finding::ok(NAME, have, WANT);
    }
    let flush = match &measured.flush {
        Some(Ok(times)) => format!("{times} here (measured, with the write)"),
        _ => "not measured here".to_owned(),
    };
    let cost = format!(
        "the drive has a cache and does not say that it is protected; corelog flushes it, so acks=all with \
         flush.messages=1 keeps its word and each group commit waits for a flush: {flush}. What was acknowledged \
         without a flush (acks=1, flush.messages above 1) goes with the power"
    );
    Finding::deviates(NAME, have, WANT, cost)
        .by("a drive with power-loss protection; never write to queue/write_cache: it ends the flushes, not the cache")
}

fn file_system(place: &Place) -> Finding {
    const NAME: &str = "file-system";
    const WANT: &str = "ext4 or xfs on a local drive";
    let Some(mount) = &place.mount else { return Finding::unknown(NAME, place.unknown, WANT) };
    let have = format!("{} at {}", mount.file_system, mount.point);
    let cost = match mount.file_system.as_str() {
        "ext4" | "xfs" => return Finding::ok(NAME, have, WANT),
        "tmpfs" | "ramfs" => "no record survives a restart of the machine",
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "fuse.sshfs" | "9p" | "virtiofs" => {
            "each write and each flush waits for a network or another machine, and locks may not be kept"
        }
        "btrfs" | "zfs" | "bcachefs" => {
            "it copies on write: an overwrite in place is a new allocation and more metadata for each flush"
        }
        "overlay" | "aufs" => "a container's own layer: it goes with the container, and each file costs two look-ups",
        _ => "corelog was not tried on it; direct I/O may be missing or slow",
    };
    Finding::deviates(NAME, have, WANT, cost).by("a volume with ext4 or xfs for the data directory")
}

fn mount_options(place: &Place) -> Finding {
    const NAME: &str = "mount-options";
    const WANT: &str = "noatime or relatime; none of sync, dirsync, discard, nobarrier, data=journal, strictatime";
    let Some(mount) = &place.mount else { return Finding::unknown(NAME, place.unknown, WANT) };
    let cost = |option: &str| match option {
        "nobarrier" | "barrier=0" => Some("flushes do not reach the drive: an acknowledgement is not true"),
        "sync" | "dirsync" => Some("each change of metadata waits for the drive: segments roll slowly"),
        "discard" => Some("deleting a segment trims at once, and writes wait behind it (use fstrim.timer)"),
        "data=journal" => Some("direct I/O becomes buffered, and everything is written twice (kernel, ext4.rst)"),
        "strictatime" => Some("each read writes an inode"),
        _ => None,
    };
    let options = || mount.options.iter().map(String::as_str);
    let costs: Vec<String> = options().filter_map(|o| Some(format!("{o}: {}", cost(o)?))).collect();
    if costs.is_empty() {
        return Finding::ok(NAME, mount.options.join(","), WANT);
    }
    let bad: Vec<&str> = options().filter(|option| cost(option).is_some()).collect();
    let mend = format!("/etc/fstab without {}, and a remount (data=journal: a new mount)", bad.join(","));
    Finding::deviates(NAME, bad.join(","), WANT, costs.join("; ")).by(mend)
}

fn scheduler(root: &Root, place: &Place) -> Finding {
    const NAME: &str = "io-scheduler";
    const WANT: &str = "none (mq-deadline will do on a drive that rotates)";
    let (mut shown, mut others, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for disk in &place.disks {
        let path = format!("{disk}/queue/scheduler");
        let Some(text) = root.read(&path) else { continue };
        let scheduler = chosen(&text);
        let rotates = root.read(&format!("{disk}/queue/rotational")).as_deref() == Some("1");
        shown.push(format!("{scheduler} on {}", base_name(disk)));
        if scheduler != "none" && !(rotates && scheduler == "mq-deadline") {
            others.push(scheduler.clone());
            if text.split([' ', '[', ']']).any(|name| name == "none") {
                writes.push(Write { path, old: scheduler, new: "none".to_owned() });
            }
        }
    }
    let have = shown.join(", ");
    if shown.is_empty() {
        let why = if place.disks.is_empty() { place.no_disk() } else { "the drive has no scheduler".to_owned() };
        return Finding::unknown(NAME, why, WANT);
    }
    if others.is_empty() {
        return Finding::ok(NAME, have, WANT);
    }
    let cost = "each request passes a lock and its bookkeeping: 0.7 µs with mq-deadline, 1.9 µs with bfq (kernel, \
                bfq-iosched.rst), and may wait behind others that a queue of the drive would have taken";
    Finding::deviates(NAME, have, WANT, cost).writes_or(writes, "a kernel whose drive offers none")
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::root::fake::Tree;
    use super::super::{Spread, State};
    use super::*;

    const DISK: &str = "/sys/devices/pci0/nvme/nvme0/nvme0n1";

    /// A data directory on the first partition of an NVMe drive.
    fn host(file_system: &str, options: &str, queue: &[(&str, &str)]) -> Tree {
        let tree = Tree::of(&[]);
        let line = format!("30 27 259:1 / /var/lib/my\\040data rw,noatime - {file_system} /dev/nvme0n1p1 {options}");
        tree.set("/proc/self/mountinfo", &format!("27 1 254:0 / / rw - ext4 /dev/vda rw\n{line}\ngarbage - x\n"));
        tree.set(&format!("{DISK}/nvme0n1p1/partition"), "1");
        tree.link("/sys/dev/block/259:1", &format!("{DISK}/nvme0n1p1"));
        tree.link(&format!("{DISK}/device"), "/sys/devices/pci0/nvme/nvme0");
        for (name, text) in queue {
            tree.set(&format!("{DISK}/queue/{name}"), text);
        }
        tree
    }

    fn place(tree: &Tree) -> Place {
        Place::find(&tree.root(), Some("/var/lib/my data/corelog"))
    }

    #[test]
    fn mounts_are_found_as_the_kernel_shows_them() {
        let tree = host("xfs", "rw,attr2", &[("scheduler", "[none]")]);
        let place = place(&tree);
        let mount = place.mount.as_ref().unwrap();
        assert_eq!((mount.point.as_str(), mount.file_system.as_str()), ("/var/lib/my data", "xfs"));
        assert_eq!(mount.options, ["rw", "noatime", "rw", "attr2"]);
        assert_eq!(
            (&place.disks[..], &place.devices[..]),
            (&[DISK.into()][..], &["/sys/devices/pci0/nvme/nvme0".into()][..])
        );
        let other = Place::find(&tree.root(), Some("/var/lib/my database"));
        assert_eq!(other.mount.unwrap().point, "/", "a name that begins alike is another");
        assert!(Place::find(&tree.root(), None).unknown.contains("--data-dir"));
        tree.set("/proc/self/mountinfo", "1 2 3 - \n - - - -\n\u{0}");
        assert!(Place::find(&tree.root(), Some("/x")).mount.is_none());
    }

    #[test]
    fn arrays_and_mappers_are_their_disks() {
        let tree = host("ext4", "rw", &[("scheduler", "none [bfq]")]);
        tree.set("/sys/devices/virtual/block/dm-0/queue/scheduler", "[none]");
        tree.link("/sys/devices/virtual/block/dm-0/slaves/nvme0n1p1", &format!("{DISK}/nvme0n1p1"));
        tree.set("/proc/self/mountinfo", "27 1 252:0 / / rw - ext4 /dev/mapper/x rw");
        tree.link("/sys/dev/block/252:0", "/sys/devices/virtual/block/dm-0");
        assert_eq!(scheduler(&tree.root(), &place(&tree)).have, "bfq on nvme0n1");
    }

    #[test]
    fn schedulers() {
        let check = |queue: &[(&str, &str)]| {
            let tree = host("ext4", "rw", queue);
            scheduler(&tree.root(), &place(&tree))
        };
        assert_eq!(check(&[("scheduler", "[none] mq-deadline")]).state, State::Ok);
        assert_eq!(check(&[("scheduler", "[mq-deadline] none"), ("rotational", "1")]).state, State::Ok);
        let finding = check(&[("scheduler", "none [mq-deadline] bfq"), ("rotational", "0")]);
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "mq-deadline on nvme0n1"));
        let write = Write { path: format!("{DISK}/queue/scheduler"), old: "mq-deadline".into(), new: "none".into() };
        assert_eq!(finding.writes, [write]);
        let finding = check(&[("scheduler", "[bfq]")]);
        assert!(finding.state == State::Deviates && finding.writes.is_empty(), "what is not offered is not written");
        assert_eq!(check(&[]).state, State::Unknown);
        assert_eq!(check(&[("scheduler", "")]).state, State::Unknown);
        assert_eq!(check(&[("scheduler", "\u{0}\u{1}")]).writes, []);
    }

    #[test]
    fn write_caches() {
        let check = |queue: &[(&str, &str)], measured: &Measured| {
            let tree = host("ext4", "rw", queue);
            write_cache(&tree.root(), &place(&tree), measured)
        };
        let none = Measured::default();
        assert_eq!(check(&[("write_cache", "write through\n")], &none).state, State::Ok);
        let finding = check(&[("write_cache", "write back\n")], &none);
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "write back on nvme0n1"));
        assert!(finding.cost.contains("not measured here") && finding.writes.is_empty(), "{finding:?}");
        assert!(check(&[("write_cache", "write back")], &flushed(90, 95)).cost.contains("p50 90 p99 95 µs here"));
        assert_eq!(check(&[("write_cache", "maybe")], &none).state, State::Unknown);
        assert_eq!(check(&[("scheduler", "[none]")], &none).state, State::Unknown);
        assert_eq!(check(&[], &none).state, State::Unknown);
    }

    fn flushed(p50: u64, p99: u64) -> Measured {
        let times = Spread { p50: Duration::from_micros(p50), p99: Duration::from_micros(p99) };
        Measured { flush: Some(Ok(times)), ..Measured::default() }
    }

    #[test]
    fn flushes() {
        let tree = host("ext4", "rw", &[]);
        let check = |measured: &Measured| flush(&place(&tree), measured);
        assert_eq!(check(&flushed(20, 1000)).state, State::Ok);
        let finding = check(&flushed(500, 1001));
        assert_eq!(finding.state, State::Deviates);
        assert!(finding.cost.contains("p50 500 p99 1001 µs (measured)") && finding.cost.contains("2000 group commits"));
        let refused = Measured { flush: Some(Err("denied".into())), ..Measured::default() };
        assert_eq!((check(&refused).state, check(&Measured::default()).state), (State::Unknown, State::Unknown));
        assert_eq!(check(&flushed(0, 2000)).state, State::Deviates);
    }

    #[test]
    fn file_systems_and_their_options() {
        let check = |file_system: &str, options: &str| {
            let place = place(&host(file_system, options, &[]));
            (self::file_system(&place), mount_options(&place))
        };
        for (name, state) in
            [("ext4", State::Ok), ("xfs", State::Ok), ("btrfs", State::Deviates), ("?", State::Deviates)]
        {
            assert_eq!(check(name, "rw").0.state, state, "{name}");
        }
        assert!(check("tmpfs", "rw").0.cost.contains("survives"));
        for option in ["nobarrier", "barrier=0", "sync", "dirsync", "discard", "data=journal", "strictatime"] {
            let finding = check("ext4", &format!("rw,{option}")).1;
            assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, option));
            assert!(finding.writes.is_empty() && finding.mend.contains("remount"), "{finding:?}");
        }
        assert_eq!(check("ext4", "rw,discard_,\u{1}").1.state, State::Ok);
        assert_eq!(check("tmpfs", "rw").1.state, State::Ok);
        assert_eq!(mount_options(&Place::default()).state, State::Unknown);
    }
}
