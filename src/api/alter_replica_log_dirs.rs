//! AlterReplicaLogDirs (34), versions 1–2: moves partitions to other data directories of this broker (KIP-113).
//!
//! - The answer says that moves have begun; DescribeLogDirs shows how far they are. One that is under way goes
//!   on; another directory has it begin anew; the present one ends it.
//! - A path that is not in `log.dirs`, spelled as DescribeLogDirs shows it: LOG_DIR_NOT_FOUND. A directory that has failed, or a
//!   partition whose has: KAFKA_STORAGE_ERROR. A partition of another broker: REPLICA_NOT_AVAILABLE.
//! - A partition that is named twice goes where the later one says, as in Kafka.
//! - Of a partition that does not exist yet it is remembered, as long as the process lives, and the answer is
//!   UNKNOWN_TOPIC_OR_PARTITION all the same (`ReplicaManager.alterReplicaLogDirs`).
//! - v2 is flexible.

use std::collections::BTreeMap;
use std::rc::Rc;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::scatter;
use super::target::{self, Target};
use crate::base::DirIndex;
use crate::metadata::Intention;
use crate::metadata::controller::Wish;
use crate::shard::Core;
use crate::shard::messages::{Answer, Call};
use crate::shard::mover::{self, MoveRefusal, Wanted};

pub async fn handle(core: &Rc<Core>, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut asked: BTreeMap<(StrBytes, i32), Result<DirIndex, Code>> = BTreeMap::new();
    for dir in &request.dirs {
        let to = match core.dirs().by_path(&dir.path) {
            None => Err(Code::LogDirNotFound),
            Some(index) if !core.dirs().get(index).is_online() => Err(Code::KafkaStorageError),
            Some(index) => Ok(index),
        };
        for topic in &dir.topics {
            for partition in &topic.partitions {
                asked.insert((topic.name.0.clone(), *partition), to);
            }
        }
    }
    let mut codes: BTreeMap<(StrBytes, i32), i16> = BTreeMap::new();
    let (mut here, mut elsewhere, mut wishes) = (Vec::new(), Vec::new(), Vec::new());
    for ((topic, partition), to) in asked {
        let image = core.image();
        let topic_id = image.topic(&topic).filter(|of| of.partitions.contains_key(&partition)).map(|topic| topic.id);
        let found = match (to, topic_id) {
            (Err(code), _) => Err(code),
            (Ok(to), None) => {
                let directory = core.dirs().get(to).id();
                wishes.push(Wish { topic: topic.to_string(), partition, directory });
                Err(Code::UnknownTopicOrPartition)
            }
            (Ok(to), Some(topic_id)) => {
                let wanted = Wanted { topic_id, partition, to };
                match target::find(core, topic_id, partition) {
                    Target::Here(_) => Ok((None, wanted)),
                    Target::Forward(owner) => Ok((Some(owner), wanted)),
                    // As Kafka, whose clients know it by this API.
                    Target::Refuse(Code::NotLeaderOrFollower) => Err(Code::ReplicaNotAvailable),
                    Target::Refuse(code) => Err(code),
                }
            }
        };
        let of = (topic, partition);
        match found {
            Ok((None, wanted)) => here.push((of, wanted)),
            Ok((Some(owner), wanted)) => elsewhere.push((owner, (of, wanted))),
            Err(code) => drop(codes.insert(of, code.code())),
        }
    }
    if !wishes.is_empty() {
        // What cannot be noted while the process stops is forgotten by it anyway.
        let _ = core.control(Intention::WishDirectories { wishes }).await;
    }
    let (places, wanted): (Vec<_>, Vec<_>) = here.into_iter().unzip();
    let mut done: Vec<_> = places.into_iter().zip(mover::begin(core, &wanted).await).collect();
    for (owner, asked) in scatter::by_core(elsewhere) {
        let (places, wanted): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        match core.router().ask(owner, Call::Move(wanted)).await {
            Ok(Answer::Move(outcomes)) => done.extend(places.into_iter().zip(outcomes)),
            _ => done.extend(places.into_iter().map(|place| (place, Err(MoveRefusal::NotHere)))),
        }
    }
    codes.extend(
        done.into_iter().map(|(of, outcome)| (of, errors::code(&outcome.map_err(|refusal| refused(&refusal))))),
    );

    let mut topics: BTreeMap<StrBytes, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for ((topic, partition), code) in codes {
        let result = AlterReplicaLogDirPartitionResult::default().with_partition_index(partition).with_error_code(code);
        topics.entry(topic).or_default().push(result);
    }
    let result = |(name, partitions)| {
        AlterReplicaLogDirTopicResult::default().with_topic_name(TopicName(name)).with_partitions(partitions)
    };
    AlterReplicaLogDirsResponse::default().with_results(topics.into_iter().map(result).collect())
}

fn refused(refusal: &MoveRefusal) -> Code {
    match refusal {
        MoveRefusal::NotHere => Code::ReplicaNotAvailable,
        MoveRefusal::Failed(_) => Code::KafkaStorageError,
    }
}
