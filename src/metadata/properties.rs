//! `meta.properties`: whose directory this is. And formatting, which writes it.
//!
//! ```text
//! #
//! #Sat Nov 21 03:22:31 UTC 2026
//! node.id=1
//! directory.id=5j2BNuMvEVzmoHyrM032iA
//! version=1
//! cluster.id=4L6g3nShT-eMCtK--X86sw
//! ```
//!
//! The file is what makes a directory formatted, so it is written last, as a whole,
//! and durably: a crash while formatting leaves a directory that is not formatted
//! and can be formatted again. Before it comes `bootstrap.checkpoint`, the records
//! the metadata log begins with.
//!
//! Works with blocking calls: it runs before any reactor does.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::controller::Controller;
use super::journal::DIRECTORY as METADATA_DIRECTORY;
use crate::base::{NodeId, UnixMs, Uuid};
use crate::config::parse_properties;
use crate::runtime;

/// The file's name, in each data directory.
pub const FILE: &str = "meta.properties";

/// The records that an empty metadata log begins with, beside [`FILE`].
pub const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Usually the text of a [`Uuid`]; Kafka takes any.
    pub cluster_id: String,
    pub node_id: NodeId,
    /// Names the directory in metadata records, wherever it is mounted.
    pub directory_id: Uuid,
}

/// Why a directory cannot be used or formatted. Each is one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum PropertiesError {
    #[error("{verb} {}: {error}", path.display())]
    Io { verb: &'static str, path: PathBuf, error: io::Error },
    #[error("{}: {reason}", path.display())]
    Wrong { path: PathBuf, reason: String },
    #[error("{} is already formatted for node {node} of cluster {cluster}", dir.display())]
    AlreadyFormatted { dir: PathBuf, node: i32, cluster: String },
    #[error(
        "{} holds data, for example '{example}', but no {FILE}: it was not formatted by corelog or Kafka, or the file \
         was lost. Use another directory, or put the file back", dir.display()
    )]
    Unmarked { dir: PathBuf, example: String },
    #[error("'{0}' is no cluster id: 22 characters of URL-safe base64 are expected")]
    ClusterId(String),
    #[error("{} belongs to cluster {cluster}, but {} to cluster {other_cluster}", dir.display(), other.display())]
    OtherCluster { dir: PathBuf, cluster: String, other: PathBuf, other_cluster: String },
    #[error("{} is formatted for cluster {found}, and not for {wanted}", dir.display())]
    NotThatCluster { dir: PathBuf, found: String, wanted: String },
    #[error("{} and {} have the same directory.id {id}: one is a copy of the other", dir.display(), other.display())]
    SameId { dir: PathBuf, other: PathBuf, id: Uuid },
    #[error(
        "the metadata directory {} is not formatted, but {} belongs to node {node} of cluster {cluster}: is its drive \
         mounted, and metadata.log.dir right? By default the metadata is in the first of log.dirs",
        dir.display(), other.display()
    )]
    NoMetadata { dir: PathBuf, other: PathBuf, node: i32, cluster: String },
    #[error(
        "{} holds partitions, for example '{example}', but there is no metadata log in {}: log.dirs or metadata.log.dir \
         lacks a directory of this node, or its metadata is lost", dir.display(), metadata.display()
    )]
    MetadataMissing { dir: PathBuf, example: String, metadata: PathBuf },
    #[error(
        "{} holds a metadata log, but the metadata directory is {}: set metadata.log.dir",
        dir.display(), metadata.display()
    )]
    MetadataElsewhere { dir: PathBuf, metadata: PathBuf },
}

/// How to format.
#[derive(Clone, Debug)]
pub struct Format {
    pub node_id: NodeId,
    /// `None`: a new one is drawn.
    pub cluster_id: Option<String>,
    /// Leave a formatted directory as it is, instead of refusing.
    pub ignore_formatted: bool,
}

/// What formatting did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    pub properties: Properties,
    /// It was formatted before, and nothing was done.
    pub already: bool,
}

/// Reads a directory's properties; `None` when it is not formatted.
///
/// # Errors
/// The file cannot be read, or does not say what it must.
pub fn read(dir: &Path) -> Result<Option<Properties>, PropertiesError> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PropertiesError::Io { verb: "read", path, error }),
    };
    let wrong = |reason: String| PropertiesError::Wrong { path: path.clone(), reason };
    let entries = parse_properties(&text, FILE).map_err(|error| wrong(error.to_string()))?;
    let get = |name: &str| {
        // As in Java, the last of several wins.
        let entry = entries.iter().rev().find(|entry| entry.name == name);
        entry.map(|entry| entry.value.trim()).ok_or_else(|| wrong(format!("{name} is missing")))
    };
    match get("version")? {
        "1" => {}
        "0" => {
            return Err(wrong("version 0 is of a broker that used ZooKeeper; migrate it with Kafka 3.9 first".into()));
        }
        other => return Err(wrong(format!("version '{other}' is not known"))),
    }
    let node = get("node.id")?;
    let node_id = node.parse().ok().filter(|id| *id >= 0).map(NodeId);
    let node_id = node_id.ok_or_else(|| wrong(format!("node.id '{node}' is not a number from 0")))?;
    let cluster_id = get("cluster.id")?.to_string();
    let directory_id = match get("directory.id") {
        Ok(text) => text.parse().map_err(|error| wrong(format!("directory.id {error}")))?,
        // Kafka before 3.7 did not write one.
        Err(_) => Uuid::ZERO,
    };
    Ok(Some(Properties { cluster_id, node_id, directory_id }))
}

/// The directories of one node: those of `log.dirs`, and that of the metadata log, which may be another one.
#[derive(Clone, Copy, Debug)]
pub struct DirSet<'a> {
    pub dirs: &'a [PathBuf],
    pub metadata: &'a Path,
}

impl<'a> DirSet<'a> {
    /// Each once, that of the metadata first: with it the others can be told who they belong to.
    pub fn all(self) -> impl Iterator<Item = &'a Path> {
        let others = self.dirs.iter().map(PathBuf::as_path).filter(move |dir| *dir != self.metadata);
        std::iter::once(self.metadata).chain(others)
    }
}

/// What the directories of one node say, and that they say the same. Nothing is changed. Those that cannot be read
/// are passed over: their drive may have failed.
///
/// # Errors
/// The metadata directory cannot be read; or directories are of another node than `node_id`, of several clusters, or
/// copies of each other; or the metadata lies elsewhere.
pub fn read_all(set: DirSet<'_>, node_id: Option<NodeId>) -> Result<Vec<(PathBuf, Properties)>, PropertiesError> {
    let mut found: Vec<(PathBuf, Properties)> = Vec::new();
    for dir in set.all() {
        let properties = match read(dir) {
            Err(error) if dir == set.metadata => return Err(error),
            Err(_) | Ok(None) => continue,
            Ok(Some(properties)) => properties,
        };
        if let Some((other, first)) = found.first() {
            if first.cluster_id != properties.cluster_id {
                return Err(PropertiesError::OtherCluster {
                    dir: dir.to_owned(),
                    cluster: properties.cluster_id,
                    other: other.clone(),
                    other_cluster: first.cluster_id.clone(),
                });
            }
            if first.node_id != properties.node_id {
                let (node, of) = (properties.node_id.0, first.node_id.0);
                let reason =
                    format!("the directory belongs to node.id {node}, but {} to node.id {of}", other.display());
                return Err(PropertiesError::Wrong { path: dir.join(FILE), reason });
            }
        }
        if let Some(node_id) = node_id.filter(|id| *id != properties.node_id) {
            let reason = format!(
                "the directory belongs to node.id {}, but the configuration says {}",
                properties.node_id.0, node_id.0
            );
            return Err(PropertiesError::Wrong { path: dir.join(FILE), reason });
        }
        let id = properties.directory_id;
        if let Some((other, _)) = found.iter().find(|(_, other)| !id.is_zero() && other.directory_id == id) {
            return Err(PropertiesError::SameId { dir: dir.to_owned(), other: other.clone(), id });
        }
        found.push((dir.to_owned(), properties));
    }
    let dir = set.metadata.to_owned();
    if let Some((other, first)) = found.first().filter(|(dir, _)| dir != set.metadata) {
        let (other, node, cluster) = (other.clone(), first.node_id.0, first.cluster_id.clone());
        return Err(PropertiesError::NoMetadata { dir, other, node, cluster });
    }
    if let Some(elsewhere) = set.all().skip(1).find(|dir| dir.join(METADATA_DIRECTORY).exists()) {
        return Err(PropertiesError::MetadataElsewhere { dir: elsewhere.to_owned(), metadata: dir });
    }
    if !dir.join(METADATA_DIRECTORY).exists() {
        // They would be taken for those of topics that are gone. One without a mark is refused for that.
        for (of, _) in &found {
            if let Some(example) = data_in(of)? {
                return Err(PropertiesError::MetadataMissing { dir: of.clone(), example, metadata: dir });
            }
        }
    }
    Ok(found)
}

/// Makes the directories those of one node; gives what became of each.
///
/// # Errors
/// One is formatted already, or for another cluster or node, holds other data, or cannot be written.
pub fn format_all(set: DirSet<'_>, how: &Format) -> Result<Vec<(PathBuf, Formatted)>, PropertiesError> {
    let found = read_all(set, None)?;
    if let Some((dir, first)) = found.first() {
        let (node, cluster) = (first.node_id.0, first.cluster_id.clone());
        if !how.ignore_formatted {
            return Err(PropertiesError::AlreadyFormatted { dir: dir.clone(), node, cluster });
        }
        if let Some(wanted) = how.cluster_id.clone().filter(|wanted| *wanted != cluster) {
            return Err(PropertiesError::NotThatCluster { dir: dir.clone(), found: cluster, wanted });
        }
    }
    let mut how = Format { ignore_formatted: true, ..how.clone() };
    let mut done = Vec::new();
    for dir in set.all() {
        let formatted = format(dir, &how, dir == set.metadata)?;
        (how.node_id, how.cluster_id) = (formatted.properties.node_id, Some(formatted.properties.cluster_id.clone()));
        done.push((dir.to_owned(), formatted));
    }
    Ok(done)
}

/// Makes `dir` a data directory of a node, for its metadata log too if `has_metadata`.
///
/// # Errors
/// It is formatted already, holds other data, or cannot be written.
fn format(dir: &Path, how: &Format, has_metadata: bool) -> Result<Formatted, PropertiesError> {
    let cluster_id = match &how.cluster_id {
        // One that is there already may be any text.
        Some(text) if has_metadata => {
            text.parse::<Uuid>().map_err(|_| PropertiesError::ClusterId(text.clone()))?.to_string()
        }
        Some(text) => text.clone(),
        None => draw_id().to_string(),
    };
    if let Some(properties) = read(dir)? {
        if how.ignore_formatted {
            return Ok(Formatted { properties, already: true });
        }
        let (node, cluster) = (properties.node_id.0, properties.cluster_id);
        return Err(PropertiesError::AlreadyFormatted { dir: dir.to_owned(), node, cluster });
    }
    if let Some(example) = data_in(dir)? {
        return Err(PropertiesError::Unmarked { dir: dir.to_owned(), example });
    }
    create_dir(dir).map_err(|error| PropertiesError::Io { verb: "create", path: dir.to_owned(), error })?;
    if has_metadata {
        let bootstrap = checkpoint::bytes(&Controller::bootstrap_records(), now());
        write_whole(&dir.join(BOOTSTRAP_FILE), &bootstrap)?;
    }
    let properties = Properties { cluster_id, node_id: how.node_id, directory_id: draw_id() };
    write_whole(&dir.join(FILE), text_of(&properties).as_bytes())?;
    Ok(Formatted { properties, already: false })
}

/// The properties of a node's metadata directory, which is formatted when it is empty. The others follow with
/// [`open_or_format_data`]. That they agree was found out by [`read_all`].
///
/// # Errors
/// As for [`read`] and [`format_all`].
pub fn open_or_format(dir: &Path, node_id: NodeId) -> Result<Properties, PropertiesError> {
    open(dir, &Format { node_id, cluster_id: None, ignore_formatted: true }, true)
}

/// The properties of a data directory of the node whose metadata directory has `of`; it is formatted when it is
/// empty: it is a new one.
///
/// # Errors
/// As for [`read`] and [`format_all`].
pub fn open_or_format_data(dir: &Path, of: &Properties) -> Result<Properties, PropertiesError> {
    let cluster_id = Some(of.cluster_id.clone());
    open(dir, &Format { node_id: of.node_id, cluster_id, ignore_formatted: true }, false)
}

fn open(dir: &Path, how: &Format, has_metadata: bool) -> Result<Properties, PropertiesError> {
    let mut properties = format(dir, how, has_metadata)?.properties;
    if properties.directory_id.is_zero() {
        properties.directory_id = draw_id();
        write_whole(&dir.join(FILE), text_of(&properties).as_bytes())?;
    }
    Ok(properties)
}

fn text_of(properties: &Properties) -> String {
    let Properties { cluster_id, node_id, directory_id } = properties;
    // A property's value needs its backslashes and colons escaped; ids have none.
    let escaped: String =
        cluster_id.chars().flat_map(|c| matches!(c, '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("#\nnode.id={}\ndirectory.id={directory_id}\nversion=1\ncluster.id={escaped}\n", node_id.0)
}

/// Something in the directory that only a broker puts there.
fn data_in(dir: &Path) -> Result<Option<String>, PropertiesError> {
    let failed = |error| PropertiesError::Io { verb: "list", path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // `orders-3`, and what deletion makes of it.
        let number = name.rsplit_once('-').map(|(_, number)| number);
        let partition = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        if (partition || name.ends_with("-delete")) && dir.join(&name).is_dir() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Creates a directory and those above it, and makes their names durable: what is
/// acknowledged later must not vanish with the directory it lies in.
fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.exists()).collect();
    fs::create_dir_all(dir)?;
    for part in missing {
        let parent = part.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Puts a file in place as a whole: after a crash it is there with these bytes, or
/// not there (or as it was).
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PropertiesError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| PropertiesError::Io { verb: "write", path: path.to_owned(), error })
}

fn draw_id() -> Uuid {
    loop {
        if let Some(id) = Uuid::from_random(runtime::random_bytes()) {
            return id;
        }
    }
}

fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMs(since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(3);

    fn alone(dir: &Path) -> [PathBuf; 1] {
        [dir.to_owned()]
    }

    /// Formats one directory of a node that has no other.
    fn format(dir: &Path, how: &Format) -> Result<Formatted, PropertiesError> {
        let mut done = format_all(DirSet { dirs: &alone(dir), metadata: dir }, how)?;
        assert_eq!(done.len(), 1);
        Ok(done.remove(0).1)
    }

    /// As a start does it.
    fn open_or_format(dir: &Path, node_id: NodeId) -> Result<Properties, PropertiesError> {
        read_all(DirSet { dirs: &alone(dir), metadata: dir }, Some(node_id))?;
        super::open_or_format(dir, node_id)
    }

    fn how(cluster_id: Option<&str>) -> Format {
        Format { node_id: NODE, cluster_id: cluster_id.map(str::to_string), ignore_formatted: false }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn kafkas_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: Result<(i32, &str, &str), &str>| {
            fs::write(dir.path().join(FILE), text).unwrap();
            let got = read(dir.path()).map(|found| {
                let found = found.unwrap();
                (found.node_id.0, found.cluster_id, found.directory_id.to_string())
            });
            let expected = expected.map(|(node, cluster, id)| (node, cluster.to_string(), id.to_string()));
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(got), Err(expected)) => assert!(got.to_string().ends_with(expected), "{got}"),
                (got, expected) => panic!("{got:?}, expected {expected:?}"),
            }
        };
        let written_by_kafka = "#\n#Sat Nov 21 03:22:31 UTC 2026\nnode.id=1\ndirectory.id=5j2BNuMvEVzmoHyrM032iA\nversion=1\n\
                                cluster.id=4L6g3nShT-eMCtK--X86sw\n";
        check(written_by_kafka, Ok((1, "4L6g3nShT-eMCtK--X86sw", "5j2BNuMvEVzmoHyrM032iA")));
        check("version=1\nnode.id=0\ncluster.id=my cluster", Ok((0, "my cluster", "AAAAAAAAAAAAAAAAAAAAAA")));
        check("version=0\nbroker.id=1", Err("migrate it with Kafka 3.9 first"));
        check("version=2", Err("version '2' is not known"));
        check("", Err("version is missing"));
        check("version=1\nnode.id=-1\ncluster.id=x", Err("node.id '-1' is not a number from 0"));
        check("version=1\nnode.id=1", Err("cluster.id is missing"));
        check(
            "version=1\nnode.id=1\ncluster.id=x\ndirectory.id=?",
            Err("22 characters of URL-safe base64 are expected"),
        );
    }

    #[test]
    fn formatting_happens_once() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let first = format(&dir, &how(Some("4L6g3nShT-eMCtK--X86sw"))).unwrap();
        assert!(!first.already);
        assert_eq!(first.properties.cluster_id, "4L6g3nShT-eMCtK--X86sw");
        assert_eq!(read(&dir).unwrap(), Some(first.properties.clone()));
        assert_eq!(names(&dir), [BOOTSTRAP_FILE, FILE]);

        let again = format(&dir, &how(None)).unwrap_err().to_string();
        assert!(again.ends_with("is already formatted for node 3 of cluster 4L6g3nShT-eMCtK--X86sw"), "{again}");
        let ignoring = format(&dir, &Format { ignore_formatted: true, ..how(None) }).unwrap();
        assert_eq!(ignoring, Formatted { properties: first.properties.clone(), already: true });
        assert_eq!(open_or_format(&dir, NODE).unwrap(), first.properties);
        let other = open_or_format(&dir, NodeId(4)).unwrap_err().to_string();
        assert!(other.ends_with("belongs to node.id 3, but the configuration says 4"), "{other}");

        let drawn = format(&parent.path().join("c"), &how(None)).unwrap().properties;
        assert!(drawn.cluster_id.parse::<Uuid>().is_ok() && drawn.cluster_id != first.properties.cluster_id);
        let wrong = format(&parent.path().join("d"), &how(Some("x"))).unwrap_err();
        assert_eq!(wrong.to_string(), "'x' is no cluster id: 22 characters of URL-safe base64 are expected");
    }

    #[test]
    fn a_crash_while_formatting_leaves_a_directory_to_format() {
        // Every prefix of what formatting writes, torn files included.
        let whole = tempfile::tempdir().unwrap();
        format(whole.path(), &how(None)).unwrap();
        let bootstrap = fs::read(whole.path().join(BOOTSTRAP_FILE)).unwrap();
        let meta = fs::read(whole.path().join(FILE)).unwrap();
        let states: [&[(&str, &[u8])]; 5] = [
            &[],
            &[("bootstrap.tmp", &bootstrap[..9])],
            &[(BOOTSTRAP_FILE, &bootstrap)],
            &[(BOOTSTRAP_FILE, &bootstrap), ("meta.tmp", &meta[..20])],
            &[(BOOTSTRAP_FILE, &bootstrap), ("meta.tmp", &meta)],
        ];
        for state in states {
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in state {
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            assert_eq!(read(dir.path()).unwrap(), None);
            let formatted = open_or_format(dir.path(), NODE).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(formatted));
        }
    }

    #[test]
    fn a_directory_with_data_but_no_mark_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for harmless in ["lost+found", ".lock", "notes-a"] {
            fs::create_dir(dir.path().join(harmless)).unwrap();
        }
        assert_eq!(data_in(dir.path()).unwrap(), None);
        fs::create_dir(dir.path().join("orders-3")).unwrap();
        let refused = open_or_format(dir.path(), NODE).unwrap_err().to_string();
        assert!(refused.contains("holds data, for example 'orders-3', but no meta.properties"), "{refused}");
    }

    #[test]
    fn several_directories_are_one_nodes() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        let dirs = [path("a"), path("b")];
        let outside = path("m");
        let set = DirSet { dirs: &dirs, metadata: &outside };
        let done = format_all(set, &how(None)).unwrap();
        assert_eq!(done.iter().map(|(dir, _)| dir.clone()).collect::<Vec<_>>(), [path("m"), path("a"), path("b")]);
        let properties: Vec<_> = done.into_iter().map(|(_, formatted)| formatted.properties).collect();
        let cluster = properties[0].cluster_id.clone();
        assert!(properties.iter().all(|found| found.cluster_id == cluster && found.node_id == NODE));
        assert!(properties[0].directory_id != properties[1].directory_id);
        assert_eq!(
            (names(&path("m")), names(&path("a"))),
            (vec![BOOTSTRAP_FILE.into(), FILE.into()], vec![FILE.into()])
        );
        let again = |set, cluster: Option<&str>| {
            let refused = format_all(set, &Format { ignore_formatted: true, ..how(cluster) });
            refused.map(|done| done.iter().map(|(_, f)| f.already).collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        assert_eq!(again(set, None).unwrap(), [true; 3]);
        let refused = again(set, Some("4L6g3nShT-eMCtK--X86sw")).unwrap_err();
        assert!(refused.contains("and not for 4L6g3nShT-eMCtK--X86sw"), "{refused}");
        let refused = format_all(set, &how(None)).unwrap_err().to_string();
        assert!(refused.contains("is already formatted for node 3"), "{refused}");

        // A new one beside them.
        let dirs = [path("a"), path("b"), path("c")];
        let set = DirSet { dirs: &dirs, metadata: &outside };
        let found = read_all(set, Some(NODE)).unwrap();
        assert_eq!(found.len(), 3);
        let new = open_or_format_data(&path("c"), &found[0].1).unwrap();
        assert_eq!((&new.cluster_id, new.node_id, read(&path("c")).unwrap()), (&cluster, NODE, Some(new.clone())));

        let check = |dirs: &[PathBuf], metadata: &Path, node: i32, words: &str| {
            let before: Vec<_> = dirs.iter().map(|dir| dir.exists().then(|| names(dir))).collect();
            let refused = read_all(DirSet { dirs, metadata }, Some(NodeId(node))).unwrap_err().to_string();
            assert!(refused.contains(words) && !refused.contains('\n'), "{refused}");
            assert_eq!(before, dirs.iter().map(|dir| dir.exists().then(|| names(dir))).collect::<Vec<_>>());
        };
        check(&dirs, &outside, 4, "belongs to node.id 3, but the configuration says 4");
        check(&dirs, &path("d"), 3, "the metadata directory");
        format(&path("d"), &how(None)).unwrap();
        check(
            &[path("a"), path("d")],
            &outside,
            3,
            &format!("belongs to cluster {cluster}").replace("belongs to", "to"),
        );
        fs::create_dir(path("e")).unwrap();
        fs::copy(path("a").join(FILE), path("e").join(FILE)).unwrap();
        check(&[path("a"), path("e")], &outside, 3, "is a copy of the other");
        fs::create_dir(path("b").join(METADATA_DIRECTORY)).unwrap();
        check(&dirs, &outside, 3, "set metadata.log.dir");
        fs::remove_dir(path("b").join(METADATA_DIRECTORY)).unwrap();
        // Partitions of nobody would be removed.
        fs::create_dir(path("b").join("orders-3")).unwrap();
        check(&[path("b")], &path("b"), 3, "holds partitions, for example 'orders-3', but there is no metadata log");
        check(&dirs, &outside, 3, "lacks a directory of this node");
        fs::remove_dir(path("b").join("orders-3")).unwrap();
        // What cannot be read is passed over, unless the metadata lies there.
        fs::write(path("b").join(FILE), "version=9").unwrap();
        assert_eq!(read_all(set, Some(NODE)).unwrap().len(), 3);
        check(&dirs, &path("b"), 3, "version '9' is not known");
    }

    #[test]
    fn an_older_directory_gets_its_id() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "version=1\nnode.id=3\ncluster.id=a\\\\b\n").unwrap();
        let opened = open_or_format(dir.path(), NODE).unwrap();
        assert!(!opened.directory_id.is_zero());
        assert_eq!((&opened.cluster_id[..], read(dir.path()).unwrap()), ("a\\b", Some(opened.clone())));
    }
}
