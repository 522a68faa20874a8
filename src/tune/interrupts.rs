//! Interrupts: on which CPUs the queues of the network cards and of the data drive are
//! answered, and whether somebody moves them about.

use super::drive::Place;
use super::root::{cpus, numbers};
use super::{Finding, Root, Write};

const NAME: &str = "interrupts";
const WANT: &str = "the queues of a device on different CPUs, and staying there (no irqbalance)";

pub fn check(root: &Root, place: &Place) -> Finding {
    let cpus = cpus(root);
    let (mut shown, mut crowded, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for device in network_devices(root).iter().chain(&place.devices) {
        let Some(queues) = queues(root, device) else { continue };
        let name = device.rsplit('/').next().unwrap_or_default();
        let mut targets: Vec<usize> = queues.iter().flat_map(|queue| queue.answered_by.clone()).collect();
        targets.sort();
        targets.dedup();
        shown.push(format!("{name}: {} busy on {} of {} CPUs", queues.len(), targets.len(), cpus.len()));
        if queues.len() < 2 || targets.len() != 1 || cpus.len() < 2 {
            continue;
        }
        crowded.push(name.to_owned());
        for (queue, cpu) in queues.into_iter().zip(cpus.iter().cycle()) {
            if queue.allowed != cpu.to_string() {
                writes.push(Write {
                    path: format!("/proc/irq/{}/smp_affinity_list", queue.number),
                    old: queue.allowed,
                    new: cpu.to_string(),
                });
            }
        }
    }
    let balancer = irqbalance(root);
    if let Some(pid) = &balancer {
        shown.push(format!("irqbalance runs as process {pid}"));
    }
    if shown.is_empty() {
        return Finding::unknown(NAME, "no interrupts of devices are shown, as in most containers", WANT);
    }
    let have = shown.join("; ");
    match (crowded.is_empty(), balancer) {
        (true, None) => Finding::ok(NAME, have, WANT),
        (true, Some(_)) => {
            let cost = "every ten seconds queues may move to another core's CPU, whose caches then miss";
            Finding::deviates(NAME, have, WANT, cost).by("systemctl disable --now irqbalance")
        }
        (false, balancer) => {
            let cost = format!(
                "one CPU answers all queues of {}: it is the limit for what arrives there, and the core on it is slower \
                 than the others",
                crowded.join(" and ")
            );
            let finding = Finding::deviates(NAME, have, WANT, cost);
            let mut finding = finding.writes_or(writes, "the driver's own settings (ethtool -L)");
            if balancer.is_some() {
                finding.mend = format!("systemctl disable --now irqbalance, then {}", finding.mend);
            }
            finding
        }
    }
}

/// The devices (below `/sys/devices`) of all network interfaces that have hardware, or a VM's idea of it.
pub fn network_devices(root: &Root) -> Vec<String> {
    let links = root.list("/sys/class/net").into_iter().map(|name| format!("/sys/class/net/{name}/device"));
    links.filter_map(|link| root.real(&link)).collect()
}

struct Queue {
    number: usize,
    /// As the kernel has it.
    allowed: String,
    answered_by: Vec<usize>,
}

/// The queues of a device whose interrupts have ever come; `None` when there are none.
fn queues(root: &Root, device: &str) -> Option<Vec<Queue>> {
    // A virtio or NVMe device is below the PCI device that has the interrupts.
    let mut at = device;
    let numbers_of = |at: &str| {
        let names = root.list(&format!("{at}/msi_irqs"));
        names.iter().filter_map(|name| name.parse::<usize>().ok()).collect::<Vec<_>>()
    };
    let mut irqs = numbers_of(at);
    for _ in 0..3 {
        if !irqs.is_empty() {
            break;
        }
        at = at.rsplit_once('/')?.0;
        irqs = numbers_of(at);
    }
    irqs.sort();
    let counts = root.read("/proc/interrupts")?;
    let has_come = |irq: &usize| {
        let mark = format!("{irq}:");
        let line = counts.lines().find_map(|line| line.trim_start().strip_prefix(&mark)).unwrap_or_default();
        // Not a queue, and never busy: virtio's changes of its configuration.
        if line.trim_end().ends_with("-config") {
            return false;
        }
        let columns = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        columns.fold(0, u64::saturating_add) > 0
    };
    let queue = |number: usize| {
        let of = |name: &str| root.read(&format!("/proc/irq/{number}/{name}"));
        let allowed = of("smp_affinity_list")?;
        let answered_by = numbers(&of("effective_affinity_list").unwrap_or(allowed.clone()))?;
        Some(Queue { number, allowed, answered_by })
    };
    let queues: Vec<Queue> = irqs.into_iter().filter(has_come).filter_map(queue).collect();
    (!queues.is_empty()).then_some(queues)
}

/// The process of the daemon that moves interrupts, where processes are shown.
fn irqbalance(root: &Root) -> Option<String> {
    let processes = root.list("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.into_iter().find(|pid| root.read(&format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::root::fake::Tree;
    use super::*;

    /// A card with three interrupts, of which the first is no queue.
    fn host(affinities: [&str; 3]) -> Tree {
        let tree = Tree::of(&[
            ("/sys/devices/system/cpu/online", "0-3"),
            ("/sys/devices/pci0/msi_irqs/30", "msix"),
            ("/sys/devices/pci0/msi_irqs/31", "msix"),
            ("/sys/devices/pci0/msi_irqs/32", "msix"),
            ("/sys/devices/pci0/virtio2/vendor", "x"),
            ("/proc/interrupts", " CPU0 CPU1\n 30:  5  0 PCI virtio2-config\n 31:  7  0 PCI in\n 32:  0  9 PCI out\n"),
        ]);
        tree.link("/sys/class/net/eth0/device", "/sys/devices/pci0/virtio2");
        tree.set("/sys/class/net/lo/mtu", "65536");
        for (number, affinity) in (30..).zip(affinities) {
            tree.set(&format!("/proc/irq/{number}/smp_affinity_list"), affinity);
        }
        tree
    }

    fn found(tree: &Tree) -> Finding {
        check(&tree.root(), &Place::default())
    }

    #[test]
    fn queues_on_one_cpu_are_spread() {
        let finding = found(&host(["0-3", "0", "0"]));
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "virtio2: 2 busy on 1 of 4 CPUs"));
        let write = Write { path: "/proc/irq/32/smp_affinity_list".into(), old: "0".into(), new: "1".into() };
        assert_eq!(finding.writes, [write]);
        assert_eq!(found(&host(["0-3", "0", "1"])).state, State::Ok);
        assert_eq!(found(&host(["0", "0-3", "0-3"])).state, State::Ok);
    }

    #[test]
    fn what_the_kernel_does_counts_more_than_what_it_may_do() {
        let tree = host(["0-3", "0-3", "0-3"]);
        tree.set("/proc/irq/31/effective_affinity_list", "2");
        tree.set("/proc/irq/32/effective_affinity_list", "2");
        let finding = found(&tree);
        assert_eq!((finding.state, finding.writes.len()), (State::Deviates, 2));
        tree.set("/proc/irq/32/effective_affinity_list", "3");
        assert_eq!(found(&tree).state, State::Ok);
    }

    #[test]
    fn the_balancer_is_named() {
        let tree = host(["0-3", "0", "1"]);
        tree.set("/proc/77/comm", "irqbalance\n");
        let finding = found(&tree);
        assert_eq!((finding.state, finding.writes.len()), (State::Deviates, 0));
        assert!(finding.have.ends_with("irqbalance runs as process 77"), "{finding:?}");
        tree.set("/proc/irq/32/smp_affinity_list", "0");
        assert!(found(&tree).mend.starts_with("systemctl disable --now irqbalance, then"));
    }

    #[test]
    fn hidden_or_garbled() {
        assert_eq!(found(&Tree::of(&[("/proc/1/comm", "init")])).state, State::Unknown);
        assert_eq!(found(&host(["x", "y", "3-1"])).state, State::Unknown);
        let tree = host(["0", "0", "0"]);
        tree.set("/proc/interrupts", "\u{0}\u{1} nothing : like it 31:\n");
        assert_eq!(found(&tree).state, State::Unknown);
        tree.remove("/proc/interrupts");
        assert_eq!(found(&tree).state, State::Unknown);
    }

    #[test]
    fn a_single_queue_or_a_single_cpu_cannot_be_spread() {
        let tree = host(["0", "0", "0"]);
        tree.set("/sys/devices/system/cpu/online", "0");
        assert_eq!(found(&tree).state, State::Ok);
        let tree = host(["0", "0", "0"]);
        tree.set("/proc/interrupts", " 31: 0 0 PCI in\n 32: 18446744073709551615 9\n");
        assert_eq!(found(&tree).state, State::Ok);
    }
}
