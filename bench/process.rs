//! What a broker's process has used, read from `/proc`: CPU seconds and resident
//! memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::failure;
use crate::failure::{Doing, Outcome};

/// A process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// `utime` and `stime`, in ticks of 10 ms; threads that ended are included.
    user_ticks: u64,
    system_ticks: u64,
    /// Nanoseconds on a CPU by thread id, from `schedstat`: exact, but a thread
    /// that ends takes its count with it.
    threads_ns: BTreeMap<u32, u64>,
    resident_bytes: u64,
    resident_peak_bytes: u64,
}

/// What a process used between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    pub cpu: Duration,
    /// The part of `cpu` spent in user space, 0 to 1, to the precision of ticks.
    pub user_share: f64,
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

/// `USER_HZ`, which Linux fixes for all it shows in `/proc`.
const TICKS_PER_SECOND: u64 = 100;

/// Threads that end between two readings lose their exact count; beyond this
/// difference the ticks are believed instead.
const TICK_DOUBT: Duration = Duration::from_millis(30);

impl Usage {
    /// Reads process `pid`.
    pub fn of(pid: u32) -> Outcome<Usage> {
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).doing(|| format!("read the usage of process {pid}"))?;
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).doing(|| format!("read the memory of process {pid}"))?;
        let (user_ticks, system_ticks) =
            cpu_ticks(&stat).ok_or_else(|| failure!("/proc/{pid}/stat has a form unknown here"))?;
        let mut threads_ns = BTreeMap::new();
        for thread in
            fs::read_dir(format!("/proc/{pid}/task")).doing(|| format!("list the threads of process {pid}"))?
        {
            let Ok(thread) = thread else { continue };
            let id = thread.file_name().to_string_lossy().parse::<u32>();
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(thread.path().join("schedstat"));
            if let (Ok(id), Some(ns)) = (id, text.ok().and_then(|text| on_cpu_ns(&text))) {
                threads_ns.insert(id, ns);
            }
        }
        let kib = |name| status_kib(&status, name).unwrap_or(0) * 1024;
        Ok(Usage {
            user_ticks,
            system_ticks,
            threads_ns,
            resident_bytes: kib("VmRSS"),
            resident_peak_bytes: kib("VmHWM"),
        })
    }

    /// What was used from `self` to `later`.
    pub fn until(&self, later: &Usage) -> Used {
        let user = later.user_ticks.saturating_sub(self.user_ticks);
        let ticks = user + later.system_ticks.saturating_sub(self.system_ticks);
        let by_ticks = Duration::from_nanos(ticks * (1_000_000_000 / TICKS_PER_SECOND));
        let exact: u64 = later
            .threads_ns
            .iter()
            .map(|(thread, ns)| ns.saturating_sub(self.threads_ns.get(thread).copied().unwrap_or(0)))
            .sum();
        let exact = Duration::from_nanos(exact);
        let cpu = if exact.abs_diff(by_ticks) <= TICK_DOUBT { exact } else { by_ticks };
        Used {
            cpu,
            user_share: if ticks == 0 { 0.0 } else { user as f64 / ticks as f64 },
            resident_bytes: later.resident_bytes,
            resident_peak_bytes: later.resident_peak_bytes,
        }
    }
}

/// `utime` and `stime` of a line of `/proc/PID/stat`. The command name (field 2)
/// may hold spaces and parentheses, so the fields are counted from its last one.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The first field of `/proc/PID/task/TID/schedstat`.
fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// A line such as `VmRSS:   8200 kB` of `/proc/PID/status`.
fn status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let rest = "S 1 2 3 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 3 0 100 1000 200";
        for name in ["(java)", "(a b)", "(tricky) name)", "()"] {
            assert_eq!(cpu_ticks(&format!("77 {name} {rest}")), Some((123, 45)), "{name}");
        }
        assert_eq!(cpu_ticks("77 (short) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_lines_are_read() {
        let status = "Name:\tx\nVmHWM:\t  9000 kB\nVmRSS:\t  8200 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(status_kib(status, "VmRSS"), Some(8200));
        assert_eq!(status_kib(status, "VmHWM"), Some(9000));
        assert_eq!(status_kib(status, "Rss"), None);
        assert_eq!(on_cpu_ns("123456789 5 6\n"), Some(123_456_789));
    }

    #[test]
    fn exact_times_are_preferred_while_no_thread_ends() {
        let usage = |ticks, threads: &[(u32, u64)]| Usage {
            user_ticks: ticks,
            threads_ns: threads.iter().copied().collect(),
            ..Usage::default()
        };
        let before = usage(100, &[(1, 500_000_000), (2, 500_000_000)]);
        let steady = usage(101, &[(1, 506_000_000), (2, 509_000_000)]);
        assert_eq!(before.until(&steady).cpu, Duration::from_millis(15));
        // Thread 2 ended and took its time along; thread 3 is new.
        let changed = usage(150, &[(1, 506_000_000), (3, 1_000_000)]);
        assert_eq!(before.until(&changed).cpu, Duration::from_millis(500));
    }

    #[test]
    fn this_process_can_be_read() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0u64;
        // How much of a time this thread gets is not for it to say: it works until it is seen.
        let begun = std::time::Instant::now();
        let used = loop {
            for _ in 0..1_000_000 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            }
            let used = before.until(&Usage::of(std::process::id()).unwrap());
            if used.cpu > Duration::from_millis(5) {
                break used;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{used:?}");
        };
        assert!(used.resident_bytes > 100_000 && used.resident_peak_bytes >= used.resident_bytes, "{used:?}");
    }
}
