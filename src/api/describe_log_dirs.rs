//! DescribeLogDirs (35), versions 1–4: the data directory, and how large each log in it is.
//!
//! - All partitions, or those that are named; ones that are not here are left out, as in Kafka.
//! - In `advertise=core` mode each core answers for its own partitions, as the broker it is
//!   shown as.
//! - A log on its own node lags behind nothing, and none is on its way to another directory.
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
use crate::shard::messages::{Answer, Call};
use crate::shard::partitions;

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
    let image = core.image();
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in sizes {
        // One that was deleted meanwhile has no name any more.
        let Some(topic) = image.topic_by_id(log.topic_id) else { continue };
        let name: &str = &topic.name;
        if wanted.as_ref().is_none_or(|wanted| wanted.get(name).is_some_and(|some| some.contains(&log.partition))) {
            let partition = DescribeLogDirsPartition::default()
                .with_partition_index(log.partition)
                .with_partition_size(log.bytes as i64);
            topics.entry(name).or_default().push(partition);
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions)
    });
    // Kafka shows it absolute.
    let dir = std::path::absolute(core.data_dir()).unwrap_or_else(|_| core.data_dir().to_owned());
    let result =
        DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(dir.to_string_lossy().into_owned()));
    let result = match core.disk().space(core.data_dir()).await {
        Ok(space) => {
            let result = result.with_topics(topics.collect());
            match context.version {
                4.. => result.with_total_bytes(space.total as i64).with_usable_bytes(space.free as i64),
                _ => result,
            }
        }
        Err(error) => {
            tracing::warn!("ask for the space of {}: {error}", dir.display());
            result.with_error_code(Code::KafkaStorageError.code())
        }
    };
    DescribeLogDirsResponse::default().with_error_code(errors::NONE).with_results(vec![result])
}
