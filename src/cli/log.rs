//! `corelog log`: what lies in a data directory that nobody serves, in words, and whether it is whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::inspect::verify::{self, Weight};
use crate::inspect::words::{self, Detail, WordsError};
use crate::metadata::properties;
use crate::runtime::DirLock;

/// Look at the files of a data directory, corelog's or Kafka's
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dump(Dump),
    Verify(Verify),
}

/// Tell what files say: batches, records, indexes, checkpoints, metadata, journals
///
/// Any file of a data directory, or a directory with all that is in it, of corelog or of Apache Kafka. Batches and
/// records are told as kafka-dump-log does. A line that begins with "! " says what is damaged. What a running broker
/// writes may be incomplete.
#[derive(Args)]
struct Dump {
    /// Files and directories
    #[arg(required = true, value_name = "FILE|DIRECTORY")]
    paths: Vec<PathBuf>,
    /// Each record of a batch, too
    #[arg(long)]
    records: bool,
    /// With --records: keys and values as text
    #[arg(long)]
    values: bool,
    /// Records of groups, transactions, share groups and metadata in words
    #[arg(long)]
    groups: bool,
}

/// Check a data directory without changing anything: every batch, index, snapshot, checkpoint
///
/// Refuses while a broker runs on it. Lines that begin with "damage" say what no crash leaves behind, lines with "note"
/// what a start will put right by itself, such as a torn write at the end of a log. Exit code 0: whole; 1: there is
/// damage; 3: it could not be checked.
#[derive(Args)]
struct Verify {
    /// The data directory
    #[arg(value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Do not take records apart, which needs the processor; checksums are checked all the same
    #[arg(long)]
    quick: bool,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Dump(arguments) => dump(&arguments),
        Command::Verify(arguments) => verify(&arguments),
    }
}

fn dump(arguments: &Dump) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let detail =
        Detail { records: arguments.records || arguments.values, values: arguments.values, words: arguments.groups };
    for path in &arguments.paths {
        if !path.exists() {
            return Err(Failure::wrong(format!("{}: there is no such file", path.display())));
        }
        words::tell(path, detail, &mut |line| writeln!(out, "{line}")).map_err(|error| match error {
            WordsError::Inspect(error) => Failure::job(error),
            WordsError::Output(error) => error.into(),
        })?;
    }
    out.flush()?;
    Ok(())
}

/// Keeps brokers off the directory. A directory without the file has none, and gets none from looking at it.
fn lock(dir: &Path) -> Result<Option<DirLock>, Failure> {
    match dir.join(".lock").exists() {
        true => DirLock::take(dir).map(Some).map_err(|error| Failure::Host(error.to_string())),
        false => Ok(None),
    }
}

fn verify(arguments: &Verify) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let host = |error: &dyn std::fmt::Display| Failure::Host(error.to_string());
    let _lock = lock(dir)?;
    let Some(properties) = properties::read(dir).map_err(|error| host(&error))? else {
        return Err(Failure::Host(format!("{} is not formatted: it has no meta.properties", dir.display())));
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed: Option<io::Error> = None;
    let sum = verify::verify(dir, &properties, !arguments.quick, &mut |finding| {
        let weight = match finding.weight {
            Weight::Damage => "damage",
            Weight::Note => "note",
        };
        let path = finding.path.strip_prefix(dir).unwrap_or(&finding.path);
        if let Err(error) = writeln!(out, "{weight} {}: {}", path.display(), finding.what) {
            failed.get_or_insert(error);
        }
    });
    let sum = sum.map_err(|error| host(&error))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    writeln!(
        out,
        "{} partitions, {} segments, {} batches, {} records, {} bytes of batches checked: {} damaged, {} notes",
        sum.partitions, sum.segments, sum.batches, sum.records, sum.bytes, sum.damages, sum.notes
    )?;
    out.flush()?;
    match sum.damages {
        0 => Ok(()),
        count => Err(Failure::job(format!("{} is damaged in {count} places", dir.display()))),
    }
}
