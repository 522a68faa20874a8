//! `corelog log`: what lies in a data directory that nobody serves, in words, and whether it is whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::broker::start_log;
use super::failure::Failure;
use super::serve;
use crate::config::BrokerConfig;
use crate::inspect::verify::{self, Finding, Repair as Way, Sum, Weight};
use crate::inspect::words::{self, Detail, WordsError};
use crate::metadata::journal::DIRECTORY as METADATA_DIRECTORY;
use crate::metadata::properties::{self, DirSet};
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
    Repair(Repair),
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

/// Check data directories without changing anything: every batch, index, snapshot, checkpoint
///
/// Refuses while a broker runs on them. Of a node with several (log.dirs, metadata.log.dir) all are to be given. Lines that begin with "damage" say what no crash leaves behind, lines with "note"
/// what a start will put right by itself, such as a torn write at the end of a log. Exit code 0: whole; 1: there is
/// damage; 3: it could not be checked.
#[derive(Args)]
struct Verify {
    /// The data directories of one node
    #[arg(required = true, value_name = "DIRECTORY")]
    dirs: Vec<PathBuf>,
    /// Do not take records apart, which needs the processor; checksums are checked all the same
    #[arg(long)]
    quick: bool,
}

/// Do to data directories what a start does after an unclean stop, and stop cleanly again
///
/// Of a node with several (log.dirs, metadata.log.dir) all are to be given. Torn ends of logs are cut off, what is in journals only is filed, leftovers go, indexes are made again; nothing more:
/// what "corelog log verify" calls damage stays, and partitions that have it stay offline. The index files of segments
/// that were being written are always made again. Exit code 0: done, and whole; 1: there is damage; 3: it could not be
/// done.
#[derive(Args)]
struct Repair {
    /// The data directories of one node
    #[arg(required = true, value_name = "DIRECTORY")]
    dirs: Vec<PathBuf>,
    /// Only say what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Dump(arguments) => dump(&arguments),
        Command::Verify(arguments) => verify(&arguments),
        Command::Repair(arguments) => repair(&arguments),
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

/// The directory of these that has the metadata log; the first, if none has.
fn metadata_of(dirs: &[PathBuf]) -> &Path {
    dirs.iter().find(|dir| dir.join(METADATA_DIRECTORY).exists()).unwrap_or(&dirs[0])
}

/// Checks directories, and writes a line for each finding that `line` has one for.
fn check(
    dirs: &[PathBuf],
    records: bool,
    out: &mut impl Write,
    line: impl Fn(&Finding, &Path) -> Option<String>,
) -> Result<Sum, Failure> {
    let host = |error: &dyn std::fmt::Display| Failure::Host(error.to_string());
    let _locks = dirs.iter().map(|dir| lock(dir)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for dir in dirs {
        match properties::read(dir).map_err(|error| host(&error))? {
            Some(properties) => found.push((dir.clone(), properties)),
            None => {
                return Err(Failure::Host(format!("{} is not formatted: it has no meta.properties", dir.display())));
            }
        }
    }
    properties::read_all(DirSet { dirs, metadata: metadata_of(dirs) }, None).map_err(|error| host(&error))?;
    let mut failed: Option<io::Error> = None;
    let sum = verify::verify(&found, records, &mut |finding| {
        // Of several directories it has to be said which.
        let within = dirs.first().filter(|_| dirs.len() == 1).and_then(|dir| finding.path.strip_prefix(dir).ok());
        let path = within.filter(|path| !path.as_os_str().is_empty());
        if let Some(line) = line(finding, path.unwrap_or(&finding.path))
            && let Err(error) = writeln!(out, "{line}")
        {
            failed.get_or_insert(error);
        }
    });
    match failed {
        Some(error) => Err(error.into()),
        None => sum.map_err(|error| host(&error)),
    }
}

fn damaged(dirs: &[PathBuf], sum: &Sum) -> Result<(), Failure> {
    match (sum.damages, dirs) {
        (0, _) => Ok(()),
        (count, [dir]) => Err(Failure::job(format!("{} is damaged in {count} places", dir.display()))),
        (count, _) => Err(Failure::job(format!("the directories are damaged in {count} places"))),
    }
}

fn verify(arguments: &Verify) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let sum = check(&arguments.dirs, !arguments.quick, &mut out, |finding, path| {
        let weight = match finding.weight {
            Weight::Damage => "damage",
            Weight::Note => "note",
        };
        Some(format!("{weight} {}: {}", path.display(), finding.what))
    })?;
    writeln!(
        out,
        "{} partitions, {} segments, {} batches, {} records, {} bytes of batches checked: {} damaged, {} notes",
        sum.partitions, sum.segments, sum.batches, sum.records, sum.bytes, sum.damages, sum.notes
    )?;
    out.flush()?;
    damaged(&arguments.dirs, &sum)
}

fn repair(arguments: &Repair) -> Result<(), Failure> {
    let dirs = &arguments.dirs;
    let mut out = BufWriter::new(io::stdout().lock());
    let todo = |finding: &Finding, path: &Path| {
        let would = match finding.repair? {
            Way::Cut => "cut",
            Way::Rebuild => "rebuild",
            Way::Remove => "remove",
            Way::SetAside => "set aside",
            Way::File => "file",
        };
        Some(format!("{would} {}: {}", path.display(), finding.what))
    };
    let damage = |finding: &Finding, path: &Path| {
        (finding.weight == Weight::Damage).then(|| format!("damage {}: {}", path.display(), finding.what))
    };
    let before = check(dirs, true, &mut out, |finding, path| todo(finding, path).or_else(|| damage(finding, path)))?;
    let what = if arguments.dry_run { "would be done" } else { "to be done" };
    writeln!(out, "the above {what}; {} places are damaged, and stay as they are", before.lasting)?;
    out.flush()?;
    if arguments.dry_run {
        return damaged(dirs, &before);
    }
    start_log()?;
    let metadata = metadata_of(dirs);
    let properties = properties::read(metadata).map_err(|error| Failure::Host(error.to_string()))?;
    let node = properties.map_or(0, |properties| properties.node_id.0);
    let settings = [
        ("log.dirs", dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(",")),
        ("metadata.log.dir", metadata.display().to_string()),
        ("node.id", node.to_string()),
        ("cores", "1".to_string()),
        ("advertise", "host".to_string()),
        // Nobody is to come: the kernel chooses the port.
        ("listeners", "PLAINTEXT://127.0.0.1:0".to_string()),
        ("journal.bytes.per.core", "0".to_string()),
        ("log.cleaner.enable", "false".to_string()),
    ];
    let settings: Vec<(String, String)> = settings.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let (config, _) = BrokerConfig::load(None, &settings).map_err(Failure::wrong)?;
    serve::open_and_close(config).map_err(|error| Failure::Host(error.to_string()))?;
    let after = check(dirs, true, &mut out, damage)?;
    writeln!(out, "done; {} places are damaged", after.damages)?;
    out.flush()?;
    damaged(dirs, &after)
}
