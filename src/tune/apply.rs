//! Changing what the checks found and what is safe to change while the host runs:
//! kernel values, I/O scheduler, governor, huge pages, interrupts. Everything lasts
//! until the next boot. Never a file system, a partition table, a mount, or a file
//! outside `/proc` and `/sys`.

use super::root::chosen;
use super::{Finding, Root, State, Write};

/// What a write came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// The kernel took it and has another setting all the same: a device that governs itself.
    Kept(String),
    Refused(String),
}

/// All writes of these findings, in their order.
pub fn writes(findings: &[Finding]) -> impl Iterator<Item = &Write> {
    findings.iter().flat_map(|finding| &finding.writes)
}

/// The deviations that no write mends.
pub fn by_hand(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.state == State::Deviates && finding.writes.is_empty())
}

/// Writes, and reads what became of it.
pub fn apply(root: &Root, write: &Write) -> Outcome {
    if let Err(error) = root.write(&write.path, &write.new) {
        return Outcome::Refused(error.to_string());
    }
    match root.read(&write.path).map(|text| chosen(&text)) {
        Some(now) if now != write.new => Outcome::Kept(now),
        _ => Outcome::Applied,
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::fake::Tree;
    use super::super::{Measured, check};
    use super::*;

    /// A host on which everything that can be written deviates.
    fn stock_host() -> Tree {
        let tree = Tree::of(&[
            ("/sys/devices/system/cpu/online", "0-1"),
            ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
            ("/sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C6"),
            ("/sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "133"),
            ("/sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "0"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
            ("/sys/kernel/mm/transparent_hugepage/defrag", "[always] defer madvise never"),
            ("/proc/sys/vm/swappiness", "60\n"),
            ("/proc/sys/vm/dirty_bytes", "0\n"),
            ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("/proc/sys/kernel/io_uring_disabled", "0\n"),
            ("/proc/self/mountinfo", "27 1 259:0 / / rw,relatime - ext4 /dev/nvme0n1 rw,discard"),
            ("/sys/devices/nvme0/nvme0n1/queue/scheduler", "none [bfq]"),
            ("/sys/devices/nvme0/nvme0n1/queue/write_cache", "write back"),
            ("/sys/devices/nvme0/msi_irqs/40", "msix"),
            ("/sys/devices/nvme0/msi_irqs/41", "msix"),
            ("/proc/interrupts", "40: 1 0\n41: 1 0\n"),
            ("/proc/irq/40/smp_affinity_list", "0"),
            ("/proc/irq/41/smp_affinity_list", "0"),
        ]);
        tree.link("/sys/dev/block/259:0", "/sys/devices/nvme0/nvme0n1");
        tree.link("/sys/devices/nvme0/nvme0n1/device", "/sys/devices/nvme0");
        tree
    }

    fn findings(tree: &Tree) -> Vec<Finding> {
        check(&tree.root(), Some("/data"), &Measured::default())
    }

    #[test]
    fn exactly_what_was_said_is_written_and_only_once() {
        let tree = stock_host();
        let before = tree.content();
        let first = findings(&tree);
        assert_eq!(tree.content(), before, "a check changes nothing");
        let planned: Vec<Write> = writes(&first).cloned().collect();
        let ends = [
            "cpu0/cpufreq/scaling_governor",
            "cpu1/cpufreq/scaling_governor",
            "hugepage/enabled",
            "hugepage/defrag",
            "vm/swappiness",
            "vm/dirty_bytes",
            "ipv4/tcp_rmem",
            "queue/scheduler",
            "irq/41/smp_affinity_list",
        ];
        for end in ends {
            assert!(planned.iter().any(|write| write.path.ends_with(end)), "{end} is not among {planned:#?}");
        }
        assert_eq!(planned.len(), ends.len());
        for write in &planned {
            assert_eq!(apply(&tree.root(), write), Outcome::Applied, "{write:?}");
        }
        let expected: Vec<(String, String)> = before
            .into_iter()
            .map(|(path, text)| {
                let new = planned.iter().find(|write| write.path == path).map(|write| write.new.clone());
                (path, new.unwrap_or(text))
            })
            .collect();
        assert_eq!(tree.content(), expected);
        let second = findings(&tree);
        assert_eq!(writes(&second).count(), 0, "{second:#?}");
        let names: Vec<&str> = by_hand(&second).map(|finding| finding.check.as_str()).collect();
        assert_eq!(names, ["write-cache", "mount-options", "c-states"]);
    }

    #[test]
    fn what_is_refused_or_kept_is_said() {
        let tree = Tree::of(&[("/sys/a", "1")]);
        let write = |path: &str| Write { path: path.into(), old: "1".into(), new: "2".into() };
        assert!(matches!(apply(&tree.root(), &write("/sys/none")), Outcome::Refused(_)));
        assert!(matches!(apply(&tree.root(), &write("/sys")), Outcome::Refused(_)));
        // A file that takes every write and stays what it is.
        std::os::unix::fs::symlink("/dev/zero", tree.path("/sys/stubborn")).unwrap();
        assert!(matches!(apply(&tree.root(), &write("/sys/stubborn")), Outcome::Kept(_)));
    }
}
