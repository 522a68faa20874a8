//! The data directories at the start of a broker: whether they can be used, whose they are, and what the process before
//! left in them.
//!
//! 1. Nothing is changed: do they belong together, and to this node?
//! 2. Each is tried and locked. One that cannot be used is offline, with a reason, unless the metadata lies there or
//!    it is the last. One that another process uses stops the start.
//! 3. If Kafka had them last: can they be taken over?
//! 4. Those that are empty are formatted, that of the metadata first.
//! 5. Marks of a clean stop go, durably, before anything is written; journals and checkpoints are read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journals;
use super::serve::ServeError;
use crate::base::limits::POINTS_FILE_BYTES_MAX;
use crate::base::{DirIndex, Uuid};
use crate::config::BrokerConfig;
use crate::inspect::takeover::{self, DirToTake};
use crate::log::DriveShare;
use crate::metadata::properties::{self, DirSet, Properties, PropertiesError};
use crate::partition::{CLEANED_FILE, POINTS_FILE, RecoveryPoints, STARTS_FILE};
use crate::runtime::{self, DirLock, DirLockError};
use crate::shard::dirs::{DataDir, Dirs, Left, MetadataDir};

/// Kafka's marker of a clean stop (`CleanShutdownFileHandler`). In a directory that has the metadata log only it is
/// ours.
const CLEAN_MARKER: &str = ".kafka_cleanshutdown";

/// What it means that there are no recovery points.
const READ_MORE: &str = "active segments are read from their beginning";

/// The directories of this node, identified and locked.
pub struct Found {
    cluster_id: String,
    metadata: (PathBuf, Uuid),
    /// Those of `log.dirs`, in order; the reason, of one that cannot be used.
    dirs: Vec<(PathBuf, Result<Uuid, String>)>,
    _locks: Vec<DirLock>,
}

/// Whether a directory may be missing.
struct Needs<'a> {
    metadata: &'a Path,
    /// Of `log.dirs`, what could be used so far.
    left: usize,
}

impl Needs<'_> {
    /// Goes on without a directory, or gives the error back.
    fn can_do_without<E: std::fmt::Display>(&mut self, dir: &Path, error: E) -> Result<String, E> {
        if dir == self.metadata || self.left <= 1 {
            return Err(error);
        }
        self.left -= 1;
        tracing::error!("a data directory cannot be used, and its partitions are offline; the others go on: {error}");
        Ok(error.to_string())
    }
}

/// Steps 1 to 4.
///
/// # Errors
/// The broker cannot run on them.
pub fn find(config: &BrokerConfig) -> Result<Found, ServeError> {
    let metadata = config.metadata_dir();
    let set = DirSet { dirs: &config.log_dirs, metadata };
    let node = config.node_id;
    let known = properties::read_all(set, Some(node))?;
    let mut needs = Needs { metadata, left: config.log_dirs.len() };
    let mut locks = Vec::new();
    let mut usable: Vec<(&Path, Result<(), String>)> = Vec::new();
    let mut real: Vec<(PathBuf, &Path)> = Vec::new();
    for dir in set.all() {
        let outcome = match enter(dir) {
            Ok((lock, warning)) => {
                if let Some(warning) = warning {
                    tracing::warn!("{warning}");
                }
                locks.push(lock);
                Ok(())
            }
            Err(error @ ServeError::Lock(DirLockError::InUse(_))) => {
                // By us?
                if let Some(other) = fs::canonicalize(dir).ok().and_then(|real_path| same(&real, &real_path)) {
                    return Err(ServeError::SameDir { dir: dir.to_owned(), other: other.to_owned() });
                }
                return Err(error);
            }
            Err(error) => Err(needs.can_do_without(dir, error)?),
        };
        if let Ok(path) = fs::canonicalize(dir) {
            real.push((path, dir));
        }
        usable.push((dir, outcome));
    }
    let to_take: Vec<DirToTake<'_>> = known
        .iter()
        .filter(|(dir, _)| usable.iter().any(|(of, outcome)| *of == dir && outcome.is_ok()))
        .map(|(dir, properties)| DirToTake {
            path: dir,
            id: properties.directory_id,
            is_data: config.log_dirs.contains(dir),
        })
        .collect();
    if !known.is_empty() && takeover::check(metadata, node, &to_take)? {
        tracing::info!("{} was used by Apache Kafka last, and is taken over", metadata.display());
    }
    let of = properties::open_or_format(metadata, node)?;
    let mut dirs = Vec::new();
    for (dir, outcome) in usable.into_iter().filter(|(dir, _)| config.log_dirs.iter().any(|of| of == dir)) {
        let id = match outcome {
            Err(reason) => Err(reason),
            Ok(()) if dir == metadata => Ok(of.directory_id),
            Ok(()) => identify(dir, &of, &known, &mut needs)?,
        };
        dirs.push((dir.to_owned(), id));
    }
    // In the order of the configuration: the metadata directory came first.
    dirs.sort_by_key(|(dir, _)| config.log_dirs.iter().position(|of| of == dir));
    Ok(Found { cluster_id: of.cluster_id, metadata: (metadata.to_owned(), of.directory_id), dirs, _locks: locks })
}

fn same<'a>(real: &[(PathBuf, &'a Path)], path: &Path) -> Option<&'a Path> {
    real.iter().find(|(of, _)| of == path).map(|(_, dir)| *dir)
}

fn enter(dir: &Path) -> Result<(DirLock, Option<String>), ServeError> {
    let warning = runtime::check_data_dir(dir)?;
    Ok((DirLock::take(dir)?, warning))
}

fn identify(
    dir: &Path,
    of: &Properties,
    known: &[(PathBuf, Properties)],
    needs: &mut Needs<'_>,
) -> Result<Result<Uuid, String>, ServeError> {
    let is_new = !known.iter().any(|(path, _)| path == dir);
    match properties::open_or_format_data(dir, of) {
        Ok(properties) => {
            if is_new && !known.is_empty() {
                tracing::info!("{} is a new data directory of this node", dir.display());
            }
            Ok(Ok(properties.directory_id))
        }
        Err(error @ PropertiesError::Unmarked { .. }) => Err(error.into()),
        Err(error) => Ok(Err(needs.can_do_without(dir, ServeError::from(error))?)),
    }
}

impl Found {
    /// Step 5, for `cores` cores.
    ///
    /// # Errors
    /// The broker cannot run on them.
    pub fn read(self, cores: u16) -> Result<Opened, ServeError> {
        let Found { cluster_id, metadata: (metadata, metadata_id), dirs, _locks } = self;
        let usable = dirs.iter().filter(|(_, id)| id.is_ok()).count();
        let mut needs = Needs { metadata: &metadata, left: usable };
        let mut all = Vec::new();
        let mut spaces: HashMap<u64, Arc<DriveShare>> = HashMap::new();
        for (dir, id) in dirs {
            // Several directories may be of one file system.
            let space = fs::metadata(&dir).map(|facts| Arc::clone(spaces.entry(facts.dev()).or_default()));
            let found = match id {
                Err(reason) => DataDir::failed(dir, Uuid::ZERO, reason),
                Ok(id) => match left_in(&dir, cores) {
                    Ok(left) => DataDir::usable(dir, id, left),
                    Err(error) => {
                        let reason = needs.can_do_without(&dir, error)?;
                        DataDir::failed(dir, id, reason)
                    }
                },
            };
            all.push(found.sharing(space.unwrap_or_default()));
        }
        let among = all.iter().position(|dir| dir.path() == metadata).map(|at| DirIndex(at as u16));
        let clean = match among {
            Some(index) => all[usize::from(index.0)].left().clean,
            // Kafka does not know the marker there: it may be older than what Kafka did.
            None => take_clean_marker(&metadata)? && all.iter().all(|dir| dir.left().clean),
        };
        let metadata = MetadataDir::new(metadata, metadata_id, clean, among);
        Ok(Opened { cluster_id, dirs: Dirs::new(all, metadata), _locks })
    }
}

/// The directories of this node, ready for the cores.
pub struct Opened {
    pub cluster_id: String,
    pub dirs: Dirs,
    /// To be kept as long as anything is written to them.
    pub _locks: Vec<DirLock>,
}

fn left_in(dir: &Path, cores: u16) -> Result<Left, ServeError> {
    let clean = take_clean_marker(dir)?;
    Ok(Left {
        clean,
        replay: journals::read(dir, clean, cores)?,
        // After a clean stop nothing is recovered.
        recovery_points: if clean { RecoveryPoints::default() } else { offsets(dir, POINTS_FILE, READ_MORE) },
        start_offsets: offsets(dir, STARTS_FILE, "deleted records may come back"),
        cleaned: offsets(dir, CLEANED_FILE, "compacted logs are compacted from their beginning"),
    })
}

fn marker_error(dir: &Path) -> impl FnOnce(io::Error) -> ServeError + use<> {
    let dir = dir.to_owned();
    move |error| ServeError::DataDir { dir, reason: format!("{CLEAN_MARKER}: {error}") }
}

/// Whether the last stop was clean. The marker is gone, durably, before anything is
/// written: a crash from here on is seen as one.
fn take_clean_marker(dir: &Path) -> Result<bool, ServeError> {
    match fs::remove_file(dir.join(CLEAN_MARKER)) {
        Ok(()) => {
            File::open(dir).and_then(|d| d.sync_all()).map_err(marker_error(dir))?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(marker_error(dir)(error)),
    }
}

/// What a file of the process before says of partitions' offsets. One that is not there or not right says
/// nothing; `without` says what that means.
fn offsets(dir: &Path, name: &str, without: &str) -> RecoveryPoints {
    let path = dir.join(name);
    let fits = |facts: fs::Metadata| facts.len() <= POINTS_FILE_BYTES_MAX;
    let read = match fs::metadata(&path).and_then(|facts| match fits(facts) {
        true => fs::read(&path),
        false => Err(ErrorKind::FileTooLarge.into()),
    }) {
        Ok(bytes) => RecoveryPoints::decode(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(RecoveryPoints::default()),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|reason| {
        tracing::warn!("{}: {reason}; {without}", path.display());
        RecoveryPoints::default()
    })
}

/// Leaves the marker in every directory that was closed cleanly, with Kafka's content: its version and the epoch with
/// which the broker was registered. A Kafka that starts next takes an epoch that is not the last registration's for an
/// unclean stop and throws every partition out of its ISR (KIP-966).
///
/// # Errors
/// One could not be written; the others have been tried.
pub fn leave_clean_markers(dirs: &Dirs, broker_epoch: i64) -> Result<(), ServeError> {
    let write = |dir: &Path| {
        let file = File::create(dir.join(CLEAN_MARKER))?;
        io::Write::write_all(&mut &file, format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    let mut outcome = Ok(());
    for dir in dirs.clean() {
        outcome = outcome.and(write(dir).map_err(marker_error(dir)));
    }
    outcome
}
