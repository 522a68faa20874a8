//! The host: what it should be and what it is. [`check`] compares, [`apply`] changes
//! what is safe to change while it runs. What is wanted comes from the files of
//! `tuning/`, where they say it ([`files`]).
//!
//! Relies on `runtime` for what is measured; reads `/proc` and `/sys` only through
//! [`Root`]. Never needed to start a broker, and nothing of a broker relies on it. Never
//! formats, mounts or touches data, and never calls a thing wrong that it cannot see:
//! what a VM or a container hides is unknown.

pub mod apply;
mod drive;
pub mod files;
mod interrupts;
mod kernel;
mod processor;
mod root;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use root::Root;

use crate::runtime::probe;

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Deviates,
    /// The host does not show it, or shows something that says nothing.
    Unknown,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Deviates => "deviates",
            State::Unknown => "unknown",
        }
    }
}

/// One thing of the host, as it is and as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub check: String,
    pub state: State,
    /// What is there; of what is unknown, why.
    pub have: String,
    pub want: String,
    /// What the deviation costs: measured on this host where it says so, else with its source. Empty if there is none.
    pub cost: String,
    /// What brings the host to where it is wanted. Empty if there is no deviation.
    pub mend: String,
    /// What `apply` writes for it; with none, a deviation is mended by hand.
    pub writes: Vec<Write>,
}

/// A file of `/proc` or `/sys`, and the setting that it has and gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Write {
    pub path: String,
    pub old: String,
    pub new: String,
}

impl Finding {
    fn new(check: &str, state: State, have: impl Into<String>, want: impl Into<String>) -> Finding {
        let (check, have, want) = (check.to_owned(), have.into(), want.into());
        Finding { check, state, have, want, cost: String::new(), mend: String::new(), writes: Vec::new() }
    }

    fn ok(check: &str, have: impl Into<String>, want: impl Into<String>) -> Finding {
        Finding::new(check, State::Ok, have, want)
    }

    fn unknown(check: &str, why: impl Into<String>, want: impl Into<String>) -> Finding {
        Finding::new(check, State::Unknown, why, want)
    }

    fn deviates(check: &str, have: impl Into<String>, want: impl Into<String>, cost: impl Into<String>) -> Finding {
        Finding { cost: cost.into(), ..Finding::new(check, State::Deviates, have, want) }
    }

    /// Mended by these words.
    fn by(self, mend: impl Into<String>) -> Finding {
        Finding { mend: mend.into(), ..self }
    }

    /// Mended by these writes; by these words where there are none.
    fn writes_or(self, writes: Vec<Write>, else_by: &str) -> Finding {
        let mend = if writes.is_empty() { else_by } else { "corelog tune apply" };
        Finding { writes, ..self.by(mend) }
    }
}

/// What was measured on this host. Given to the checks as a value, so that a test can say anything.
#[derive(Clone, Default, Debug)]
pub struct Measured {
    /// One read of the clock, in nanoseconds.
    pub clock_read_ns: Option<f64>,
    /// A sleeping thread's wake-up.
    pub wake_up: Option<Spread>,
    /// An overwrite of 4 KiB and a flush in the data directory, or why it could not be measured. `None`: there is none.
    pub flush: Option<Result<Spread, String>>,
}

impl Measured {
    /// Measures, for at most a few seconds.
    pub fn here(data_dir: Option<&PathBuf>) -> Measured {
        let flush = |dir: &PathBuf| {
            let times = probe::overwrite_and_flush_times(dir).map_err(|error| error.to_string())?;
            Spread::of(times).ok_or_else(|| "no time was taken".to_owned())
        };
        Measured {
            clock_read_ns: Some(probe::clock_read_ns()),
            wake_up: probe::wake_up_times().and_then(Spread::of),
            flush: data_dir.map(flush),
        }
    }

    /// The wake-up in words, for the costs of what makes it slow.
    fn wake_up_words(&self) -> String {
        match self.wake_up {
            Some(times) => format!("a sleeping thread wakes up here in {times} (measured)"),
            None => "not measured here".to_owned(),
        }
    }
}

/// Median and 99th percentile of some times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread {
    pub p50: Duration,
    pub p99: Duration,
}

impl Spread {
    /// `None` of no times.
    pub fn of(mut times: Vec<Duration>) -> Option<Spread> {
        times.sort();
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Spread { p50: at(50)?, p99: at(99)? })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} p99 {} µs", self.p50.as_micros(), self.p99.as_micros())
    }
}

/// Every check, in the order of what matters. `data_dir`: absolute and without links; without one, what is about its
/// drive is unknown.
pub fn check(root: &Root, data_dir: Option<&str>, measured: &Measured) -> Vec<Finding> {
    let place = drive::Place::find(root, data_dir);
    let mut findings = drive::check(root, &place, measured);
    findings.extend(processor::check(root, &place, measured));
    findings.push(interrupts::check(root, &place));
    findings.extend(kernel::check(root, measured));
    findings
}

#[cfg(test)]
mod tests {
    use super::root::fake::Tree;
    use super::*;

    #[test]
    fn percentiles() {
        let us = |us: &[u64]| us.iter().copied().map(Duration::from_micros).collect::<Vec<_>>();
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(Spread::of(us(&[7])).unwrap().to_string(), "p50 7 p99 7 µs");
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(Spread::of(us(&hundred)).unwrap().to_string(), "p50 50 p99 99 µs");
    }

    /// A host that shows nothing at all is unknown throughout, which is no deviation.
    #[test]
    fn what_is_hidden_is_unknown() {
        let tree = Tree::of(&[]);
        for data_dir in [None, Some("/data")] {
            let findings = check(&tree.root(), data_dir, &Measured::default());
            assert!(findings.len() > 20, "{findings:#?}");
            for finding in findings {
                assert_eq!(finding.state, State::Unknown, "{finding:#?}");
                assert!(!finding.have.is_empty() && !finding.want.is_empty() && finding.writes.is_empty());
            }
        }
    }

    /// Every check has a name of its own, and says what a deviation costs and what mends it.
    #[test]
    fn this_host_is_described_in_full() {
        let findings = check(&Root::host(), Some("/"), &Measured::default());
        let names: std::collections::BTreeSet<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(names.len(), findings.len());
        for finding in findings {
            let says_all = !finding.cost.is_empty() && !finding.mend.is_empty();
            assert_eq!(finding.state == State::Deviates, says_all, "{finding:#?}");
        }
    }
}
