//! Where a request for a partition has to go from here.

use std::rc::Rc;

use super::errors::Code;
use crate::base::{CoreIndex, Uuid};
use crate::partition::Partition;
use crate::shard::Core;
use crate::shard::partitions::Place;

/// What to do with one partition of a request.
pub enum Target {
    Here(Rc<Partition>),
    /// Another core behind the same broker has it: one message to that core.
    Forward(CoreIndex),
    Refuse(Code),
}

/// Finds a partition for a request that came in on this core. A client that went to
/// the wrong broker is sent away, so that it learns the right one.
pub fn find(core: &Core, topic_id: Uuid, partition: i32) -> Target {
    match core.locate(topic_id, partition) {
        Place::Here(partition) => Target::Here(partition),
        // Retriable: it is there in a moment.
        Place::Opening => Target::Refuse(Code::NotLeaderOrFollower),
        Place::Failed(_) => Target::Refuse(Code::KafkaStorageError),
        Place::There(owner) if core.brokers().same_broker(core.index(), owner) => Target::Forward(owner),
        Place::There(_) => Target::Refuse(Code::NotLeaderOrFollower),
        Place::Unknown => Target::Refuse(Code::UnknownTopicOrPartition),
    }
}
