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

/// Makes `dir` the data directory of a new node.
///
/// # Errors
/// It is formatted already, holds other data, or cannot be written.
pub fn format(dir: &Path, how: &Format) -> Result<Formatted, PropertiesError> {
    let cluster_id = match &how.cluster_id {
        Some(text) => text.parse::<Uuid>().map_err(|_| PropertiesError::ClusterId(text.clone()))?.to_string(),
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
    let bootstrap = checkpoint::bytes(&Controller::bootstrap_records(), now());
    write_whole(&dir.join(BOOTSTRAP_FILE), &bootstrap)?;
    let properties = Properties { cluster_id, node_id: how.node_id, directory_id: draw_id() };
    write_whole(&dir.join(FILE), text_of(&properties).as_bytes())?;
    Ok(Formatted { properties, already: false })
}

/// The properties of a directory to serve from, which is formatted when it is empty.
///
/// # Errors
/// As for [`read`] and [`format`]; or the directory belongs to another node.
pub fn open_or_format(dir: &Path, node_id: NodeId) -> Result<Properties, PropertiesError> {
    let how = Format { node_id, cluster_id: None, ignore_formatted: true };
    let mut properties = format(dir, &how)?.properties;
    if properties.node_id != node_id {
        let reason = format!(
            "the directory belongs to node.id {}, but the configuration says {}",
            properties.node_id.0, node_id.0
        );
        return Err(PropertiesError::Wrong { path: dir.join(FILE), reason });
    }
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
    fn an_older_directory_gets_its_id() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "version=1\nnode.id=3\ncluster.id=a\\\\b\n").unwrap();
        let opened = open_or_format(dir.path(), NODE).unwrap();
        assert!(!opened.directory_id.is_zero());
        assert_eq!((&opened.cluster_id[..], read(dir.path()).unwrap()), ("a\\b", Some(opened.clone())));
    }
}
