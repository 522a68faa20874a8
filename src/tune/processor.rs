//! Processors: clock frequency, idle states, how long a wake-up takes, memory nodes.

use super::drive::Place;
use super::interrupts::network_devices;
use super::root::{cpus, numbers};
use super::{Finding, Measured, Root, Write};

/// An idle state that takes longer to leave is one that requests notice: C1 takes 1 to 2 µs, C1E up to 10, C6 some 100.
const EXIT_US_MAX: u64 = 10;

/// A core that sleeps should be back after this, in microseconds: twice what a scheduler and an interrupt between CPUs
/// take, and half of what leaving a deep idle state does.
const WAKE_UP_P50_US_MAX: u128 = 50;

pub fn check(root: &Root, place: &Place, measured: &Measured) -> Vec<Finding> {
    vec![governor(root, measured), idle_states(root, measured), wake_up(measured), nodes(root, place)]
}

fn governor(root: &Root, measured: &Measured) -> Finding {
    const NAME: &str = "governor";
    const WANT: &str = "performance";
    let (mut others, mut writes, mut seen) = (Vec::new(), Vec::new(), 0);
    for cpu in cpus(root) {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq");
        let Some(governor) = root.read(&format!("{dir}/scaling_governor")) else { continue };
        seen += 1;
        if governor == WANT {
            continue;
        }
        let available = root.read(&format!("{dir}/scaling_available_governors"));
        if available.is_none_or(|available| available.split_whitespace().any(|name| name == WANT)) {
            writes.push(Write { path: format!("{dir}/scaling_governor"), old: governor.clone(), new: WANT.into() });
        }
        others.push(governor);
    }
    others.dedup();
    match (seen, &others[..]) {
        (0, _) => Finding::unknown(NAME, "the kernel shows no frequency scaling, as in most VMs", WANT),
        (_, []) => Finding::ok(NAME, WANT, WANT),
        (_, others) => {
            let cost = format!("a core clocks up only after the load is there; {}", measured.wake_up_words());
            let finding = Finding::deviates(NAME, others.join(", "), WANT, cost);
            finding.writes_or(writes, "a driver of the frequency that offers it (kernel command line, firmware)")
        }
    }
}

/// Not for `apply`: without idle states, busy cores have less power to clock up with, and the machine draws more.
fn idle_states(root: &Root, measured: &Measured) -> Finding {
    const NAME: &str = "c-states";
    let want = format!("no idle state that takes {EXIT_US_MAX} µs or more to leave");
    let (mut deep, mut seen) = (Vec::new(), false);
    for cpu in cpus(root) {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle");
        for state in root.list(&dir) {
            let of = |name: &str| root.read(&format!("{dir}/{state}/{name}"));
            let (Some(exit_us), Some(name)) = (of("latency").and_then(|text| text.parse::<u64>().ok()), of("name"))
            else {
                continue;
            };
            seen = true;
            let shown = format!("{name} ({exit_us} µs)");
            if exit_us >= EXIT_US_MAX && of("disable").as_deref() != Some("1") && !deep.contains(&shown) {
                deep.push(shown);
            }
        }
    }
    if !seen {
        return Finding::unknown(NAME, "the kernel shows no idle states, as in most VMs", want);
    }
    if deep.is_empty() {
        return Finding::ok(NAME, "shallow states only", want);
    }
    let cost = format!(
        "a request that finds its core asleep waits for the state's exit, in parentheses as the kernel gives it; {}",
        measured.wake_up_words()
    );
    Finding::deviates(NAME, format!("allowed: {}", deep.join(", ")), want, cost).by(format!(
        "cpupower idle-set -D {EXIT_US_MAX}; by hand, as it takes power that busy cores could clock up with"
    ))
}

fn wake_up(measured: &Measured) -> Finding {
    const NAME: &str = "wake-up";
    let want = format!("p50 of at most {WAKE_UP_P50_US_MAX} µs");
    match measured.wake_up {
        None => Finding::unknown(NAME, "not measured: it takes two CPUs", want),
        Some(times) if times.p50.as_micros() <= WAKE_UP_P50_US_MAX => Finding::ok(NAME, times.to_string(), want),
        Some(times) => {
            let cost = format!("each request that finds its core asleep waits for {times} (measured)");
            Finding::deviates(NAME, times.to_string(), want, cost).by(
                "governor and idle states, here or on the VM's host; a busy machine shows it too: measure when idle",
            )
        }
    }
}

fn nodes(root: &Root, place: &Place) -> Finding {
    const NAME: &str = "numa";
    const WANT: &str = "drive and network on one memory node, and the cores with them";
    let Some(nodes) = root.read("/sys/devices/system/node/online").and_then(|text| numbers(&text)) else {
        return Finding::unknown(NAME, "the kernel shows no memory nodes", WANT);
    };
    if nodes.len() == 1 {
        return Finding::ok(NAME, "one node", WANT);
    }
    // -1: the firmware does not say.
    let node_of = |device: &String| {
        let node = root.read(&format!("{device}/numa_node"))?.parse::<usize>().ok()?;
        Some((device.rsplit('/').next().unwrap_or_default().to_owned(), node))
    };
    let devices = place.devices.iter().chain(&network_devices(root)).filter_map(node_of).collect::<Vec<_>>();
    let shown: Vec<String> = devices.iter().map(|(device, node)| format!("{device} on {node}")).collect();
    let have = format!("{} nodes; {}", nodes.len(), shown.join(", "));
    let mut used: Vec<usize> = devices.iter().map(|(_, node)| *node).collect();
    used.sort();
    used.dedup();
    match used[..] {
        [] => Finding::unknown(NAME, format!("{} nodes; no device says where it is", nodes.len()), WANT),
        [node] => {
            let cpus = root.read(&format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or("?".into());
            Finding::ok(NAME, format!("{have}; run with cores={cpus}"), WANT)
        }
        _ => {
            let cost = "records cross the link between the nodes on their way, each cache line for about twice the \
                        latency of local memory (numactl --hardware shows the ratio)";
            Finding::deviates(NAME, have, WANT, cost)
                .by("another slot for a device, or a broker per node; cores= of the drive's node meanwhile")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::root::fake::Tree;
    use super::super::{Spread, State};
    use super::*;

    const TWO: (&str, &str) = ("/sys/devices/system/cpu/online", "0-1\n");
    const FIRST: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    const SECOND: &str = "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";

    fn measured(us: u64) -> Measured {
        let time = Duration::from_micros(us);
        Measured { wake_up: Some(Spread { p50: time, p99: time }), ..Measured::default() }
    }

    #[test]
    fn governors() {
        let check = |files: &[(&str, &str)]| governor(&Tree::of(files).root(), &measured(70));
        assert_eq!(check(&[TWO]).state, State::Unknown);
        assert_eq!(check(&[("/sys/devices/system/cpu/online", "many"), (FIRST, "powersave")]).state, State::Unknown);
        assert_eq!(check(&[TWO, (FIRST, "performance\n"), (SECOND, "performance\n")]).state, State::Ok);
        let finding = check(&[TWO, (FIRST, "performance\n"), (SECOND, "powersave\n")]);
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "powersave"));
        assert!(finding.cost.contains("p50 70 p99 70 µs (measured)"), "{finding:?}");
        let write = Write { path: SECOND.into(), old: "powersave".into(), new: "performance".into() };
        assert_eq!(finding.writes, [write]);
        let available = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors";
        let finding = check(&[TWO, (FIRST, "userspace"), (available, "userspace ondemand")]);
        assert!(finding.state == State::Deviates && finding.writes.is_empty() && finding.mend.contains("driver"));
        assert_eq!(check(&[TWO, (FIRST, "\u{0}garbage")]).have, "\u{0}garbage");
    }

    #[test]
    fn idle_states_by_their_exit() {
        let check = |files: &[(&str, &str)]| {
            let tree = Tree::of(&[TWO]);
            for (path, text) in files {
                tree.set(&format!("/sys/devices/system/cpu/{path}"), text);
            }
            idle_states(&tree.root(), &Measured::default())
        };
        assert_eq!(check(&[]).state, State::Unknown);
        let c1 = [("cpu0/cpuidle/state1/name", "C1"), ("cpu0/cpuidle/state1/latency", "2")];
        assert_eq!(check(&c1).state, State::Ok);
        let c6 = [("cpu1/cpuidle/state2/name", "C6"), ("cpu1/cpuidle/state2/latency", "133")];
        let finding = check(&[c1, c6].concat());
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "allowed: C6 (133 µs)"));
        assert!(finding.writes.is_empty() && finding.mend.contains("cpupower idle-set -D 10"), "{finding:?}");
        let off = [("cpu1/cpuidle/state2/disable", "1")];
        assert_eq!(check(&[&c1[..], &c6, &off].concat()).state, State::Ok);
        let garbage = [("cpu0/cpuidle/state1/name", "C1"), ("cpu0/cpuidle/state1/latency", "soon")];
        assert_eq!(check(&garbage).state, State::Unknown);
    }

    #[test]
    fn wake_ups() {
        assert_eq!(wake_up(&Measured::default()).state, State::Unknown);
        assert_eq!(wake_up(&measured(50)).state, State::Ok);
        let finding = wake_up(&measured(51));
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "p50 51 p99 51 µs"));
    }

    #[test]
    fn memory_nodes() {
        let place = Place::of_devices(&["/sys/devices/pci/nvme0"]);
        let check = |online: &str, drive: &str, network: &str| {
            let tree = Tree::of(&[
                ("/sys/devices/system/node/online", online),
                ("/sys/devices/system/node/node1/cpulist", "8-15"),
                ("/sys/devices/pci/nvme0/numa_node", drive),
                ("/sys/devices/pci/card/numa_node", network),
            ]);
            tree.link("/sys/class/net/eth0/device", "/sys/devices/pci/card");
            nodes(&tree.root(), &place)
        };
        assert_eq!(check("0", "0", "0").state, State::Ok);
        let finding = check("0-1", "1", "1");
        assert_eq!((finding.state, finding.have.contains("cores=8-15")), (State::Ok, true), "{finding:?}");
        let finding = check("0-1", "0", "1");
        assert_eq!((finding.state, finding.have.as_str()), (State::Deviates, "2 nodes; nvme0 on 0, card on 1"));
        assert_eq!(check("0-1", "-1", "none").state, State::Unknown);
        assert_eq!(check("all", "0", "0").state, State::Unknown);
    }
}
