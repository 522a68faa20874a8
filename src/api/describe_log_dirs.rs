//! DescribeLogDirs (35), versions 1–4: the data directories, and how large each log in them is.
//!
//! - A directory that has failed has an error instead (KAFKA_STORAGE_ERROR).
//! - All partitions, or those that are named; ones that are not here are left out, as in Kafka.
//! - In `advertise=core` mode each core answers for its own partitions, as the broker it is
//!   shown as.
//! - A partition on its way to another directory is shown there too, as future, with the offsets that its copy lacks.
//! - v2 is flexible, v3 has an error of its own, v4 total and usable bytes (KIP-827).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::errors::{self, Code};
use crate::shard::Core;
use crate::shard::dirs::{self, DataDir};
use crate::shard::messages::{Answer, Call};
use crate::shard::partitions::{self, LogSize};

pub async fn handle(core: &Rc<Core>, request: DescribeLogDirsRequest, context: &Context) -> DescribeLogDirsResponse {
    let wanted: Option<HashMap<&str, HashSet<i32>>> = request.topics.as_ref().map(|topics| {
        let mut wanted: HashMap<&str, HashSet<i32>> = HashMap::new();
        for topic in topics {
            wanted.entry(topic.topic.as_str()).or_default().extend(&topic.partitions);
        }
        wanted
    });
    let mut sizes = partitions::log_sizes(core).await;
    for other in core.placement().all().filter(|other| *other != core.index()) {
        if core.brokers().same_broker(core.index(), other)
            && let Ok(Answer::LogSizes(found)) = core.router().ask(other, Call::LogSizes).await
        {
            sizes.extend(found);
        }
    }
    let mut results = Vec::with_capacity(core.dirs().count());
    for (index, dir) in core.dirs().all() {
        let here = sizes.iter().filter(|log| log.dir == index).map(|log| (log, log.bytes, None));
        let copies = sizes.iter().filter_map(|log| Some((log, log.copy.filter(|copy| copy.dir == index)?)));
        let copies = copies.map(|(log, copy)| (log, copy.bytes, Some(copy.lag)));
        results.push(describe(core, dir, here.chain(copies), wanted.as_ref(), context).await);
    }
    DescribeLogDirsResponse::default().with_error_code(errors::NONE).with_results(results)
}

async fn describe(
    core: &Core,
    dir: &DataDir,
    logs: impl Iterator<Item = (&LogSize, u64, Option<i64>)>,
    wanted: Option<&HashMap<&str, HashSet<i32>>>,
    context: &Context,
) -> DescribeLogDirsResult {
    // Kafka shows it absolute.
    let result = DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(dirs::shown(dir.path())));
    let failed = Code::KafkaStorageError.code();
    if !dir.is_online() {
        return result.with_error_code(failed);
    }
    let space = match core.disk().space(dir.path()).await {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!("ask for the space of {}: {error}", dir.path().display());
            return result.with_error_code(failed);
        }
    };
    let image = core.image();
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (log, bytes, lag) in logs {
        // One that was deleted meanwhile has no name any more.
        let Some(topic) = image.topic_by_id(log.topic_id) else { continue };
        let name: &str = &topic.name;
        if wanted.is_none_or(|wanted| wanted.get(name).is_some_and(|some| some.contains(&log.partition))) {
            let partition = DescribeLogDirsPartition::default()
                .with_partition_index(log.partition)
                .with_partition_size(bytes as i64)
                .with_offset_lag(lag.unwrap_or(0))
                .with_is_future_key(lag.is_some());
            topics.entry(name).or_default().push(partition);
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions)
    });
    let result = result.with_topics(topics.collect());
    match context.version {
        4.. => result.with_total_bytes(space.total as i64).with_usable_bytes(space.free as i64),
        _ => result,
    }
}
