//! What lies in the data directories at a start: leftovers are removed, and where a partition's files are goes before
//! what the metadata says.
//!
//! On core 0, when the metadata has been read and before anything is opened. As Kafka's `LogManager` does it: a partition of
//! a topic that the metadata does not have is set aside under a name that ends in `-stray` and not removed, because the metadata
//! may be what is wrong (a copy from before the topic was made); what was renamed to be deleted is removed; what lies in another directory than the metadata has it in is told to the
//! controller, and two directories with the same partition stop the start: nobody can know which one is right.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::dirs::LeftCopy;
use super::{Core, failures};
use crate::base::{DirIndex, Uuid};
use crate::metadata::controller::{METADATA_TOPIC, Placed};
use crate::partition::moved;

/// Looks through all directories. Gives the replicas that lie elsewhere than the metadata says.
///
/// # Errors
/// A directory that the broker cannot do without cannot be read, or a partition is there twice: the reason.
pub async fn run(core: &Rc<Core>) -> Result<Vec<Placed>, String> {
    let mut found: HashMap<(Uuid, i32), DirIndex> = HashMap::new();
    let mut copies: HashMap<DirIndex, Vec<Future>> = HashMap::new();
    for (index, dir) in core.dirs().all() {
        if !dir.is_online() {
            continue;
        }
        match look(core, dir.path()).await {
            Ok(Here { partitions, futures }) => {
                for at in partitions {
                    if let Some(other) = found.insert(at, index) {
                        found.insert(at, resolve(core, at, other, index).await?);
                    }
                }
                copies.insert(index, futures);
            }
            Err(error) => failures::offline(core, index, format!("read {}: {error}", dir.path().display()))?,
        }
    }
    for (index, futures) in copies {
        let copy = |(of, name)| (of, LeftCopy { name, is_alone: !found.contains_key(&of) });
        core.dirs().get(index).found_copies(futures.into_iter().map(copy).collect());
    }
    let image = core.image();
    let elsewhere = found.into_iter().filter_map(|((topic, partition), index)| {
        let state = image.partition(topic, partition)?;
        let directory = core.dirs().get(index).id();
        let said = state.directory_of(core.config().node_id)?;
        (said != directory).then_some(Placed { topic, partition, directory })
    });
    let mut elsewhere: Vec<Placed> = elsewhere.collect();
    elsewhere.sort_unstable_by_key(|placed| (placed.topic, placed.partition));
    Ok(elsewhere)
}

fn twice(core: &Core, (topic, partition): (Uuid, i32), one: DirIndex, other: DirIndex) -> String {
    let name = core.image().topic_by_id(topic).map_or(topic.to_string(), |topic| topic.name.to_string());
    let path = |index| core.dirs().get(index).path().join(format!("{name}-{partition}")).display().to_string();
    format!(
        "partition {name}-{partition} is there twice, in {} and in {}: probably a drive failed while it was moved from \
         one to the other. Delete one of the two: that on the drive that failed",
        path(one),
        path(other)
    )
}

/// Of two directories with the same partition the one that is the partition's: a crash in a hand-over leaves two
/// ([`moved`]). The other is removed.
async fn resolve(core: &Core, at: (Uuid, i32), one: DirIndex, other: DirIndex) -> Result<DirIndex, String> {
    let name = core.image().topic_by_id(at.0).map(|topic| format!("{}-{}", topic.name, at.1)).unwrap_or_default();
    let id = |index| core.dirs().get(index).id();
    let path = |index| core.dirs().get(index).path().join(&name);
    let failed = |error: std::io::Error| format!("{}, and {error}", twice(core, at, one, other));
    let (first, second) = ((id(one), path(one)), (id(other), path(other)));
    let is_first = moved::is_first(&core.disk, (first.0, &first.1), (second.0, &second.1)).await.map_err(failed)?;
    let (right, wrong) = match is_first {
        Some(true) => (one, other),
        Some(false) => (other, one),
        None => return Err(twice(core, at, one, other)),
    };
    tracing::info!(
        "{name} was on its way from {} to {} when the process ended: the latter has all of it",
        path(wrong).display(),
        path(right).display()
    );
    let unique: String = crate::runtime::random_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let gone = core.dirs().get(wrong).path().join(moved::old_name(&name, &unique));
    core.disk.rename(&path(wrong), &gone).await.map_err(failed)?;
    core.disk.sync_dir(core.dirs().get(wrong).path()).await.map_err(failed)?;
    core.disk.remove_dir_all(&gone).await.map_err(failed)?;
    moved::forget(&core.disk, &path(right)).await.map_err(failed)?;
    Ok(right)
}

/// Whose copy in the making, and the name of its directory.
type Future = ((Uuid, i32), String);

/// What a directory has of the metadata.
#[derive(Default)]
struct Here {
    partitions: Vec<(Uuid, i32)>,
    futures: Vec<Future>,
}

/// What becomes of a directory.
enum Fate {
    Stays,
    Goes,
    /// Nobody looks at it again; who runs the broker decides.
    SetAside,
}

/// The partitions of the metadata in a directory. What is no more is removed, what is not known set aside.
async fn look(core: &Core, dir: &Path) -> std::io::Result<Here> {
    let image = core.image();
    let mut found = Here::default();
    for entry in core.disk.list(dir).await? {
        if !entry.is_dir {
            continue;
        }
        let path = dir.join(&entry.name);
        let fate = match DirName::parse(&entry.name) {
            DirName::Deleted => Fate::Goes,
            DirName::Partition { topic, .. } if topic == METADATA_TOPIC => Fate::Stays,
            DirName::Partition { topic, partition } => {
                let known = image.topic(topic).filter(|t| t.partitions.contains_key(&partition)).map(|t| t.id);
                match topic_id_of(core, &path).await {
                    // Not ours to judge: a directory without `partition.metadata` is new or foreign.
                    None => Fate::Stays,
                    Some(id) if known == Some(id) => {
                        found.partitions.push((id, partition));
                        Fate::Stays
                    }
                    Some(_) => Fate::SetAside,
                }
            }
            DirName::Future { partition } => match topic_id_of(core, &path).await {
                Some(id) if image.partition(id, partition).is_some() => {
                    found.futures.push(((id, partition), entry.name.clone()));
                    Fate::Stays
                }
                // The partition itself, if there is one, lies elsewhere.
                None | Some(_) => Fate::Goes,
            },
            DirName::Other => Fate::Stays,
        };
        match fate {
            Fate::Stays => {}
            Fate::Goes => {
                tracing::info!("removing {}: its topic is gone", path.display());
                core.disk.remove_dir_all(&path).await?;
            }
            Fate::SetAside => {
                let unique: String = crate::runtime::random_bytes().iter().map(|b| format!("{b:02x}")).collect();
                let aside = dir.join(moved::stray_name(&entry.name, &unique));
                core.disk.rename(&path, &aside).await?;
                core.disk.sync_dir(dir).await?;
                tracing::warn!(
                    "{} belongs to a topic that the metadata does not have; it is not used, and was renamed to {}. Remove \
                     it if the topic was deleted",
                    path.display(),
                    aside.display()
                );
            }
        }
    }
    Ok(found)
}

/// What a directory's name says it is (`UnifiedLog.parseTopicPartitionName`).
enum DirName<'a> {
    /// `topic-partition.<suffix>-delete`.
    Deleted,
    /// `topic-partition.<suffix>-future`; of a long topic only the beginning.
    Future {
        partition: i32,
    },
    /// `topic-partition`.
    Partition {
        topic: &'a str,
        partition: i32,
    },
    Other,
}

impl DirName<'_> {
    fn parse(name: &str) -> DirName<'_> {
        if name.ends_with("-delete") && name.contains('.') {
            return DirName::Deleted;
        }
        if let Some((stem, _)) = name.strip_suffix("-future").and_then(|rest| rest.rsplit_once('.')) {
            return match stem.rsplit_once('-').map(|(_, partition)| partition.parse()) {
                Some(Ok(partition)) if partition >= 0 => DirName::Future { partition },
                // Cut so short that it cannot be known; or nothing of ours.
                _ => DirName::Other,
            };
        }
        match name.rsplit_once('-').map(|(topic, partition)| (topic, partition.parse())) {
            Some((topic, Ok(partition))) if !topic.is_empty() && partition >= 0 => {
                DirName::Partition { topic, partition }
            }
            _ => DirName::Other,
        }
    }
}

/// The topic id in a directory's `partition.metadata`, if it has one.
async fn topic_id_of(core: &Core, dir: &Path) -> Option<Uuid> {
    let bytes = core.disk.read_file(&dir.join("partition.metadata")).await.ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|line| line.strip_prefix("topic_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_say_what_they_are() {
        let check = |name: &str, expected: Option<(&str, i32)>, deleted: bool| match DirName::parse(name) {
            DirName::Deleted => assert!(deleted, "{name}"),
            DirName::Partition { topic, partition } => assert_eq!(Some((topic, partition)), expected, "{name}"),
            DirName::Future { .. } => panic!("{name}"),
            DirName::Other => assert!(expected.is_none() && !deleted, "{name}"),
        };
        check("orders-3", Some(("orders", 3)), false);
        check("a-b-0", Some(("a-b", 0)), false);
        check("orders-3.0f1e-delete", None, true);
        check("orders", None, false);
        check("-1", None, false);
        check("lost+found", None, false);
        check("to-delete", None, false);
        for (name, expected) in [("orders-3.0f1e-future", Some(3)), ("a.b-12.0f-future", Some(12)), ("my-future", None)]
        {
            match DirName::parse(name) {
                DirName::Future { partition } => assert_eq!(Some(partition), expected, "{name}"),
                _ => assert_eq!(expected, None, "{name}"),
            }
        }
    }
}
