//! The kernel: the values of the sysctl file, the limits of processes, huge pages, the
//! clock.

use super::files::{self, Sysctl, file, limit};
use super::root::{chosen, cpus};
use super::{Finding, Measured, Root, Write};
use crate::runtime::locked_bytes_needed;

/// Clocks that are read without entering the kernel.
const FAST_CLOCKS: &[&str] = &["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"];

/// Clocks that are read through a slow bus, or in the kernel.
const SLOW_CLOCKS: &[&str] = &["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies", "xen", "hyperv_clocksource_msr"];

pub fn check(root: &Root, measured: &Measured) -> Vec<Finding> {
    let mut findings = vec![clock(root, measured)];
    findings.extend(["enabled", "defrag"].map(|file| huge_pages(root, file)));
    findings.push(locked_memory(root));
    findings.push(open_files(root));
    findings
        .extend(files::sysctls(file("sysctl").map_or("", |file| file.text)).iter().map(|wanted| sysctl(root, wanted)));
    findings
}

fn clock(root: &Root, measured: &Measured) -> Finding {
    const NAME: &str = "clock-source";
    const WANT: &str = "one that is read without entering the kernel (tsc)";
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let ns = match measured.clock_read_ns {
        Some(ns) => format!("{ns:.0} ns a read (measured)"),
        None => "not measured".to_owned(),
    };
    let Some(name) = root.read(PATH) else {
        return Finding::unknown(NAME, format!("the kernel does not name it; {ns}"), WANT);
    };
    let have = format!("{name}, {ns}");
    if FAST_CLOCKS.contains(&name.as_str()) {
        Finding::ok(NAME, have, WANT)
    } else if SLOW_CLOCKS.contains(&name.as_str()) {
        let cost = format!("a request is stamped at each of its stages, some ten reads: {ns}");
        let mend = "find out with dmesg why the kernel gave up tsc; firmware, or clocksource=tsc tsc=reliable on the \
                    kernel command line if the vendor vouches for it; needs a reboot";
        Finding::deviates(NAME, have, WANT, cost).by(mend)
    } else {
        Finding::unknown(NAME, have, WANT)
    }
}

/// `enabled`: who gets huge pages. `defrag`: who waits for them.
fn huge_pages(root: &Root, file: &str) -> Finding {
    const WANT: &str = "madvise (or never)";
    let name = format!("huge-pages {file}");
    let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
    let text = root.read(&path).filter(|text| text.contains('['));
    let Some(have) = text.map(|text| chosen(&text)) else {
        return Finding::unknown(&name, "the kernel shows no transparent huge pages", WANT);
    };
    match have.as_str() {
        "madvise" | "never" | "defer" | "defer+madvise" => Finding::ok(&name, have, WANT),
        "always" => {
            let cost = match file {
                "enabled" => {
                    "buffers grow to 2 MiB pages and are copied together in the background, which stops whoever \
                     touches them meanwhile; memory of idle connections and partitions counts in 2 MiB"
                }
                _ => {
                    "a thread that touches new memory stops while the kernel reclaims and compacts for a huge page \
                     (kernel, transhuge.rst): milliseconds on a core that does nothing else meanwhile"
                }
            };
            let writes = vec![Write { path, old: have.clone(), new: "madvise".to_owned() }];
            Finding::deviates(&name, have, WANT, cost).writes_or(writes, "")
        }
        _ => Finding::unknown(&name, have, WANT),
    }
}

/// The hard limit of this process in `/proc/self/limits`; `u64::MAX` for none.
fn hard_limit(root: &Root, name: &str) -> Option<u64> {
    let limits = root.read("/proc/self/limits")?;
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

const LIMITS_MEND: &str = "tuning/limits.d for a login session; the unit in tuning/ sets its own";

fn locked_memory(root: &Root) -> Finding {
    const NAME: &str = "memlock";
    let cores = cpus(root).len().max(1);
    let need = locked_bytes_needed(cores);
    let want = format!("at least {need} bytes, what {cores} cores need (tuning/: unlimited)");
    match hard_limit(root, "Max locked memory") {
        None => Finding::unknown(NAME, "the kernel does not show this process's limits", want),
        Some(have) if have >= need => Finding::ok(NAME, format!("{} in this session", shown(have)), want),
        Some(have) => {
            let cost = "with a broker on all cores, where the kernel counts io_uring's rings as locked (to 5.11 and \
                        from 6.14), the start is refused";
            Finding::deviates(NAME, format!("{have} in this session"), want, cost).by(LIMITS_MEND)
        }
    }
}

fn open_files(root: &Root) -> Finding {
    const NAME: &str = "open-files";
    let wanted = file("limits").and_then(|file| limit(file.text, "nofile")?.parse().ok()).unwrap_or(0);
    let want = format!("at least {wanted}");
    match hard_limit(root, "Max open files") {
        None => Finding::unknown(NAME, "the kernel does not show this process's limits", want),
        Some(have) if have >= wanted => Finding::ok(NAME, format!("{} in this session", shown(have)), want),
        Some(have) => {
            let cost = format!("partitions in use and connections together stay below {have}: each takes one");
            Finding::deviates(NAME, format!("{have} in this session"), want, cost).by(LIMITS_MEND)
        }
    }
}

/// When a kernel value is as good as the one in the file.
#[derive(Clone, Copy)]
enum Rule {
    Equal,
    /// All but the last number may be anything: they are minimum and default of a range up to the last.
    LastAtLeast,
    FirstAtLeast,
    /// Zero stands for "a share of memory instead", which is more.
    AtMostNotZero,
    AtMost,
}

fn rule(key: &str) -> Rule {
    match key {
        "net.core.somaxconn" | "net.ipv4.tcp_max_syn_backlog" | "fs.file-max" => Rule::LastAtLeast,
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => Rule::LastAtLeast,
        "net.ipv4.ip_local_port_range" => Rule::FirstAtLeast,
        "vm.dirty_background_bytes" | "vm.dirty_bytes" => Rule::AtMostNotZero,
        "vm.swappiness" => Rule::AtMost,
        _ => Rule::Equal,
    }
}

/// Whether a value will do; `None` for one that is no list of as many numbers.
fn will_do(rule: Rule, have: &str, want: &str) -> Option<bool> {
    let numbers = |text: &str| text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok();
    let (have, want) = (numbers(have)?, numbers(want)?);
    if have.len() != want.len() {
        return None;
    }
    let ((first, last), (want_first, want_last)) = ((have.first()?, have.last()?), (want.first()?, want.last()?));
    Some(match rule {
        Rule::Equal => have == want,
        Rule::LastAtLeast => last >= want_last,
        Rule::FirstAtLeast => first >= want_first,
        Rule::AtMostNotZero => (1..=*want_last).contains(last),
        Rule::AtMost => last <= want_last,
    })
}

fn sysctl(root: &Root, wanted: &Sysctl) -> Finding {
    let name = format!("sysctl {}", wanted.key);
    let rule = rule(&wanted.key);
    let want = match rule {
        Rule::Equal => wanted.value.clone(),
        Rule::LastAtLeast => format!("{} or more", wanted.value),
        Rule::FirstAtLeast => format!("{} or a first number above", wanted.value),
        Rule::AtMost => format!("{} or less", wanted.value),
        Rule::AtMostNotZero => format!("{} or less, and not 0, a share of all memory", wanted.value),
    };
    let Some(have) = root.read(&wanted.path()) else {
        return Finding::unknown(&name, "this kernel does not show it", want);
    };
    let have = have.split_whitespace().collect::<Vec<_>>().join(" ");
    match will_do(rule, &have, &wanted.value) {
        None => Finding::unknown(&name, format!("not understood: {have}"), want),
        Some(true) => Finding::ok(&name, have, want),
        Some(false) => {
            let write = Write { path: wanted.path(), old: have.clone(), new: wanted.value.clone() };
            let cost = format!("what the value is for: {}", wanted.reason);
            Finding::deviates(&name, have, want, cost).writes_or(vec![write], "")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::root::fake::Tree;
    use super::*;

    #[test]
    fn clocks() {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let measured = Measured { clock_read_ns: Some(41.6), ..Measured::default() };
        for (name, state) in [
            ("tsc\n", State::Ok),
            ("kvm-clock", State::Ok),
            ("hpet", State::Deviates),
            ("acpi_pm", State::Deviates),
            ("\u{0}x", State::Unknown),
            ("", State::Unknown),
        ] {
            let finding = clock(&Tree::of(&[(path, name)]).root(), &measured);
            assert_eq!(finding.state, state, "{name}");
            assert!(finding.have.contains("42 ns a read (measured)"), "{finding:?}");
        }
        assert_eq!(clock(&Tree::of(&[]).root(), &measured).state, State::Unknown);
    }

    #[test]
    fn huge_pages_are_for_those_who_ask() {
        for file in ["enabled", "defrag"] {
            let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
            let check = |text: &str| huge_pages(&Tree::of(&[(&path, text)]).root(), file);
            assert_eq!(check("always [madvise] never").state, State::Ok);
            assert_eq!(check("always madvise [never]").state, State::Ok);
            let finding = check("[always] madvise never");
            let write = Write { path: path.clone(), old: "always".into(), new: "madvise".into() };
            assert_eq!((finding.state, finding.writes), (State::Deviates, vec![write]));
            assert_eq!((check("[sometimes]").state, check("garbage").state), (State::Unknown, State::Unknown));
            assert_eq!(huge_pages(&Tree::of(&[]).root(), file).state, State::Unknown);
        }
    }

    #[test]
    fn limits_of_this_session() {
        let check = |locked: &str, files: &str| {
            let limits = format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            1024                 {files}              files     \n\
                 Max locked memory         65536                {locked}             bytes     \n"
            );
            let tree = Tree::of(&[("/proc/self/limits", &limits), ("/sys/devices/system/cpu/online", "0-31")]);
            (locked_memory(&tree.root()), open_files(&tree.root()))
        };
        let (locked, files) = check("unlimited", "unlimited");
        assert_eq!((locked.state, files.state), (State::Ok, State::Ok));
        let need = locked_bytes_needed(32);
        assert!(need > locked_bytes_needed(1));
        assert_eq!(check(&need.to_string(), "1048576").0.state, State::Ok);
        let (locked, files) = check(&(need - 1).to_string(), "1048575");
        assert_eq!((locked.state, files.state), (State::Deviates, State::Deviates));
        assert!(locked.writes.is_empty() && files.writes.is_empty());
        let (locked, files) = check("much", "-3");
        assert_eq!((locked.state, files.state), (State::Unknown, State::Unknown));
        let bare = Tree::of(&[("/proc/self/limits", "Max locked memory\nMax open files 7")]);
        assert_eq!(locked_memory(&bare.root()).state, State::Unknown);
        assert_eq!(open_files(&bare.root()).state, State::Unknown);
    }

    /// Each value of the file, on hosts that have it, have it otherwise, have garbage, or do not show it.
    #[test]
    fn every_kernel_value() {
        for wanted in files::sysctls(file("sysctl").unwrap().text) {
            let check = |text: &str| sysctl(&Tree::of(&[(&wanted.path(), text)]).root(), &wanted);
            assert_eq!(check(&wanted.value.replace(' ', "\t")).state, State::Ok, "{}", wanted.key);
            let (state, worse) = (State::Deviates, worse(&wanted));
            let finding = check(&worse);
            assert_eq!((finding.state, finding.have.as_str()), (state, worse.as_str()), "{}", wanted.key);
            assert!(!finding.cost.is_empty());
            let write = Write { path: wanted.path(), old: worse, new: wanted.value.clone() };
            assert_eq!(finding.writes, [write]);
            for garbage in ["", "x", "1 2 3 4 5", "-1", "99999999999999999999999"] {
                assert_eq!(check(garbage).state, State::Unknown, "{}: {garbage}", wanted.key);
            }
        }
    }

    /// A value that will not do instead of this one.
    fn worse(wanted: &Sysctl) -> String {
        match rule(&wanted.key) {
            Rule::Equal => format!("{}7", wanted.value),
            Rule::LastAtLeast | Rule::FirstAtLeast => {
                wanted.value.split(' ').map(|_| "1").collect::<Vec<_>>().join(" ")
            }
            Rule::AtMost => "60".into(),
            Rule::AtMostNotZero => "0".into(),
        }
    }

    #[test]
    fn better_values_are_left_alone() {
        for (key, have, state) in [
            ("net.core.somaxconn", "65535", State::Ok),
            ("net.ipv4.tcp_rmem", "1 2 33554432", State::Ok),
            ("net.ipv4.ip_local_port_range", "32768 60999", State::Ok),
            ("vm.swappiness", "0", State::Ok),
            ("vm.dirty_bytes", "1048576", State::Ok),
            ("kernel.io_uring_disabled", "2", State::Deviates),
        ] {
            let all = files::sysctls(file("sysctl").unwrap().text);
            let wanted = all.iter().find(|sysctl| sysctl.key == key).unwrap();
            assert_eq!(sysctl(&Tree::of(&[(&wanted.path(), have)]).root(), wanted).state, state, "{key}");
        }
    }
}
