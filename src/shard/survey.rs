//! What lies in the data directories at a start: leftovers are removed, and where a partition's files are goes before
//! what the metadata says.
//!
//! On core 0, when the metadata has been read and before anything is opened. As Kafka's `LogManager` does it: what belongs
//! to no partition of the metadata is removed, what lies in another directory than the metadata has it in is told to the
//! controller, and two directories with the same partition stop the start: nobody can know which one is right.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::{Core, failures};
use crate::base::{DirIndex, Uuid};
use crate::metadata::controller::{METADATA_TOPIC, Placed};

/// Looks through all directories. Gives the replicas that lie elsewhere than the metadata says.
///
/// # Errors
/// A directory that the broker cannot do without cannot be read, or a partition is there twice: the reason.
pub async fn run(core: &Rc<Core>) -> Result<Vec<Placed>, String> {
    let mut found: HashMap<(Uuid, i32), DirIndex> = HashMap::new();
    for (index, dir) in core.dirs().all() {
        if !dir.is_online() {
            continue;
        }
        match look(core, dir.path()).await {
            Ok(here) => {
                for at in here {
                    if let Some(other) = found.insert(at, index) {
                        return Err(twice(core, at, other, index));
                    }
                }
            }
            Err(error) => failures::offline(core, index, format!("read {}: {error}", dir.path().display()))?,
        }
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

/// The partitions of the metadata in a directory. What is no more is removed.
async fn look(core: &Core, dir: &Path) -> std::io::Result<Vec<(Uuid, i32)>> {
    let image = core.image();
    let mut found = Vec::new();
    for entry in core.disk.list(dir).await? {
        if !entry.is_dir {
            continue;
        }
        let path = dir.join(&entry.name);
        let stray = match DirName::parse(&entry.name) {
            DirName::Deleted => true,
            DirName::Partition { topic, .. } if topic == METADATA_TOPIC => false,
            DirName::Partition { topic, partition } => {
                let known = image.topic(topic).filter(|t| t.partitions.contains_key(&partition)).map(|t| t.id);
                match topic_id_of(core, &path).await {
                    // Not ours to judge: a directory without `partition.metadata` is new or foreign.
                    None => false,
                    Some(id) if known == Some(id) => {
                        found.push((id, partition));
                        false
                    }
                    Some(_) => true,
                }
            }
            DirName::Other => false,
        };
        if stray {
            tracing::info!("removing {}: its topic is gone", path.display());
            core.disk.remove_dir_all(&path).await?;
        }
    }
    Ok(found)
}

/// What a directory's name says it is (`UnifiedLog.parseTopicPartitionName`).
enum DirName<'a> {
    /// `topic-partition.<suffix>-delete`.
    Deleted,
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
            DirName::Other => assert!(expected.is_none() && !deleted, "{name}"),
        };
        check("orders-3", Some(("orders", 3)), false);
        check("a-b-0", Some(("a-b", 0)), false);
        check("orders-3.0f1e-delete", None, true);
        check("orders", None, false);
        check("-1", None, false);
        check("lost+found", None, false);
        check("to-delete", None, false);
    }
}
