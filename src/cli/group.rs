//! `corelog group`: which consumer groups there are, and how far they are behind.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::groups::{GroupInfo, GroupList};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Connection, Patience, Quiet};
use super::failure::Failure;
use super::output::{self, Table};

/// List and describe consumer groups
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    List(List),
    Describe(Describe),
}

/// List all consumer groups with their state
#[derive(Args)]
struct List {
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// Show a group's members, committed offsets and lag
#[derive(Args)]
struct Describe {
    /// Name of the group
    #[arg(value_name = "GROUP", required_unless_present = "group", conflicts_with = "group")]
    name: Option<String>,
    /// The same, as Kafka's tools take it
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

pub fn command(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List(arguments) => list(&arguments),
        Action::Describe(arguments) => describe(&arguments),
    }
}

fn list(arguments: &List) -> Result<(), Failure> {
    let consumer = arguments.connection.observer(None)?;
    let groups = fetch_groups(&consumer, &arguments.connection, None, arguments.patience.timeout)?;
    let mut groups: Vec<&GroupInfo> = groups.groups().iter().collect();
    groups.sort_unstable_by_key(|group| group.name());
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL", "MEMBERS"]);
    for group in groups {
        let protocol = format!("{} {}", group.protocol_type(), group.protocol());
        table.row(vec![
            group.name().to_string(),
            group.state().to_string(),
            protocol.trim().to_string(),
            group.members().len().to_string(),
        ]);
    }
    table.show()
}

fn fetch_groups(
    consumer: &BaseConsumer<Quiet>,
    connection: &Connection,
    name: Option<&str>,
    timeout: Duration,
) -> Result<GroupList, Failure> {
    consumer.fetch_group_list(name, timeout).map_err(|error| connection.explain("ask for groups", error))
}

/// Who reads a partition.
#[derive(Clone, Default)]
struct Reader {
    member: String,
    host: String,
    client: String,
}

fn describe(arguments: &Describe) -> Result<(), Failure> {
    let (connection, timeout) = (&arguments.connection, arguments.patience.timeout);
    let name = arguments.name.as_deref().or(arguments.group.as_deref()).expect("clap demands one");
    let consumer = connection.observer(Some(name))?;
    let groups = fetch_groups(&consumer, connection, Some(name), timeout)?;
    let committed = committed(&consumer, connection, timeout)?;
    let group = groups.groups().iter().find(|group| group.name() == name);
    let is_there = group.is_some_and(|group| !matches!(group.state(), "" | "Dead"));
    if !is_there && committed.is_empty() {
        return Err(Failure::job(format!("there is no group {name}; `corelog group list` shows what there is")));
    }
    let readers = group.map(readers).unwrap_or_default();
    let state = group.map(GroupInfo::state).filter(|state| !state.is_empty()).unwrap_or("Empty");
    let members = group.map_or(0, |group| group.members().len());
    output::line(format_args!("group {name}: {state}, {members} members"))?;

    let mut partitions: Vec<(String, i32)> = committed.keys().chain(readers.keys()).cloned().collect();
    partitions.sort_unstable();
    partitions.dedup();
    if partitions.is_empty() {
        return Ok(());
    }
    let ends = ends(&consumer, &partitions, timeout);
    let head = ["TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"];
    let mut table = Table::new(&head);
    let text = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    for partition in partitions {
        let (current, end) = (committed.get(&partition).copied(), ends.get(&partition).copied());
        let lag = current.zip(end).map(|(current, end)| (end - current).max(0));
        let reader = readers.get(&partition).cloned().unwrap_or_default();
        let (topic, number) = partition;
        let cells = [topic, number.to_string(), text(current), text(end), text(lag)];
        table.row(cells.into_iter().chain([reader.member, reader.host, reader.client]).collect());
    }
    table.show()
}

/// The group's committed offsets in all partitions that there are.
fn committed(
    consumer: &BaseConsumer<Quiet>,
    connection: &Connection,
    timeout: Duration,
) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let metadata = connection.metadata(consumer, timeout)?;
    let mut all = TopicPartitionList::new();
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    if all.count() == 0 {
        return Ok(BTreeMap::new());
    }
    let committed = consumer.committed_offsets(all, timeout);
    let committed = committed.map_err(|error| connection.explain("ask for committed offsets", error))?;
    let mut offsets = BTreeMap::new();
    for element in committed.elements() {
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert((element.topic().to_string(), element.partition()), offset);
        }
    }
    Ok(offsets)
}

/// The ends of the partitions, as far as their leaders answer.
fn ends(
    consumer: &BaseConsumer<Quiet>,
    partitions: &[(String, i32)],
    timeout: Duration,
) -> BTreeMap<(String, i32), i64> {
    let mut ends = BTreeMap::new();
    for (topic, partition) in partitions {
        if let Ok((_, end)) = consumer.fetch_watermarks(topic, *partition, timeout) {
            ends.insert((topic.clone(), *partition), end);
        }
    }
    ends
}

/// Who reads what, from the assignments that the group's leader gave.
fn readers(group: &GroupInfo) -> BTreeMap<(String, i32), Reader> {
    let mut readers = BTreeMap::new();
    for member in group.members() {
        let reader = Reader {
            member: member.id().to_string(),
            host: member.client_host().to_string(),
            client: member.client_id().to_string(),
        };
        for partition in assigned(member.assignment().unwrap_or_default()).unwrap_or_default() {
            readers.insert(partition, reader.clone());
        }
    }
    readers
}

/// The partitions in a `ConsumerProtocolAssignment`: version i16, then an array
/// of topic (string) and partitions (array of i32). `None`: it is something else.
fn assigned(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (taken, after) = rest.split_at_checked(count)?;
        *rest = after;
        Some(taken)
    }
    fn number(rest: &mut &[u8]) -> Option<i32> {
        Some(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
    }
    let mut rest = bytes;
    take(&mut rest, 2)?;
    let mut partitions = Vec::new();
    for _ in 0..number(&mut rest)? {
        let length = i16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let topic = std::str::from_utf8(take(&mut rest, usize::try_from(length).ok()?)?).ok()?;
        for _ in 0..number(&mut rest)? {
            partitions.push((topic.to_string(), number(&mut rest)?));
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn assignments_are_read_and_nonsense_is_not() {
        // What the Java client sends for orders-0 and orders-2, version 1, no user data.
        let bytes = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff";
        assert_eq!(assigned(bytes), Some(vec![("orders".to_string(), 0), ("orders".to_string(), 2)]));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(assigned(b"\0\x01\x7f\xff\xff\xff\0\x01a\x7f\xff\xff\xff"), None);
        assert_eq!(assigned(b"\0\x01\0\0\0\x01\xff\xff"), None);
    }
}
