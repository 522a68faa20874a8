//! `corelog tune`: what this host is and what it should be, for a broker that is to be
//! fast. Nothing of `corelog serve` needs it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use crate::tune::apply::{self, Outcome};
use crate::tune::{self, Finding, Measured, Root, State, files};

/// Compare this host with what a fast broker wants, and say what each deviation costs; or set what can be set
///
/// Never needed to start a broker. docs/tuning.md says what is looked at and why.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at the host, and measure for a second or two
    ///
    /// One line for each check: ok, deviates, or unknown (a VM or a container hides it). Ends with 0 when nothing
    /// deviates, with 1 when something does, with 2 when it cannot look. With a data directory, a file of 1 MiB is
    /// written there for a moment.
    Check {
        #[command(flatten)]
        place: Place,
        /// Print a JSON array of the checks
        #[arg(long)]
        json: bool,
    },
    /// Set what is safe to set while the host runs, until its next boot (as root)
    ///
    /// Kernel values, I/O scheduler, governor, huge pages and interrupts. Never formats, mounts or touches data. Names
    /// what is left to be done by hand. Ends with 1 when a setting was refused.
    Apply {
        #[command(flatten)]
        place: Place,
        /// Print what would be written, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Print a file for the host: sysctl, limits, service or tune-service
    File {
        /// Which one; without, their names and where they go
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// Which drive is looked at.
#[derive(Args)]
struct Place {
    /// The data directory, for the checks of its drive (./corelog-data if not given and there)
    #[arg(short, long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

impl Place {
    /// The directory, absolute and without links. It is never made.
    fn directory(&self) -> Result<Option<PathBuf>, Failure> {
        let default = Path::new("corelog-data");
        let dir = match &self.data_dir {
            Some(dir) => dir.as_path(),
            None if default.is_dir() => default,
            None => return Ok(None),
        };
        let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("data directory {}: {why}", dir.display()));
        let dir = dir.canonicalize().map_err(|error| wrong(&error))?;
        if !dir.is_dir() {
            return Err(wrong(&"is not a directory"));
        }
        Ok(Some(dir))
    }
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Check { place, json } => check(&place, json),
        Command::Apply { place, dry_run } => apply_all(&place, dry_run),
        Command::File { name } => file(name.as_deref()),
    }
}

fn find(dir: Option<&PathBuf>, measured: &Measured) -> Vec<Finding> {
    let dir = dir.map(|dir| dir.to_string_lossy().into_owned());
    tune::check(&Root::host(), dir.as_deref(), measured)
}

fn check(place: &Place, json: bool) -> Result<(), Failure> {
    let dir = place.directory()?;
    let findings = find(dir.as_ref(), &Measured::here(dir.as_ref()));
    if json {
        let text = serde_json::to_string_pretty(&findings).map_err(Failure::wrong)?;
        output::line(text)?;
    } else {
        let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for finding in &findings {
            output::line(described(finding, width))?;
        }
    }
    match findings.iter().filter(|finding| finding.state == State::Deviates).count() {
        0 => Ok(()),
        count => Err(Failure::job(format!("{count} of {} checks deviate", findings.len()))),
    }
}

/// A finding in one line.
fn described(finding: &Finding, width: usize) -> String {
    let Finding { check, state, have, want, cost, mend, .. } = finding;
    let mut line = format!("{:<8}  {check:<width$}  {have}", state.name());
    if *state == State::Deviates {
        line += &format!("; wanted: {want}; costs: {cost}; mended by: {mend}");
    }
    // What a host says of itself does not govern the terminal.
    line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn apply_all(place: &Place, dry_run: bool) -> Result<(), Failure> {
    let dir = place.directory()?;
    let (root, findings) = (Root::host(), find(dir.as_ref(), &Measured::default()));
    let (mut count, mut refused) = (0, 0);
    for write in apply::writes(&findings) {
        count += 1;
        let change = format!("{}: {} -> {}", write.path, write.old, write.new);
        if dry_run {
            output::line(change)?;
            continue;
        }
        match apply::apply(&root, write) {
            Outcome::Applied => output::line(change)?,
            Outcome::Kept(now) => output::line(format_args!("{change}: the kernel keeps {}", now.escape_debug()))?,
            Outcome::Refused(why) => {
                refused += 1;
                output::line(format_args!("{change}: refused: {why}"))?;
            }
        }
    }
    for finding in apply::by_hand(&findings) {
        output::line(format_args!("by hand: {} ({}): {}", finding.check, finding.have, finding.mend))?;
    }
    if count == 0 {
        output::line("nothing to write")?;
    }
    match refused {
        0 => Ok(()),
        refused => Err(Failure::job(format!(
            "{refused} of {count} settings were refused; it takes root, and a host's own /sys"
        ))),
    }
}

fn file(name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        let mut table = output::Table::new(&["NAME", "GOES TO"]);
        for file in files::FILES {
            table.row(vec![file.name.to_owned(), file.goes_to.to_owned()]);
        }
        return table.show();
    };
    match files::file(name) {
        Some(file) => output::text(file.text),
        None => Err(Failure::wrong(format!("there is no file {name:?}; corelog tune file names them"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding {
            check: "governor".into(),
            state: State::Deviates,
            have: "power\u{1b}\nsave".into(),
            want: "performance".into(),
            cost: "time".into(),
            mend: "hand".into(),
            writes: Vec::new(),
        };
        let expected = "deviates  governor    power??save; wanted: performance; costs: time; mended by: hand";
        assert_eq!(described(&finding, 10), expected);
        let finding = Finding { state: State::Unknown, ..finding };
        assert_eq!(described(&finding, 8), "unknown   governor  power??save");
    }
}
