//! What the administrative APIs share: brokers named by clients as nodes, ids of the
//! codec crate, and the operations one may do where there are no ACLs.

use crate::base::{BrokerId, Uuid};
use crate::shard::Core;

/// Authorized operations that were not asked for.
pub const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Bits of `AclOperation`: 3 READ, 4 WRITE, 5 CREATE, 6 DELETE, 7 ALTER, 8 DESCRIBE,
/// 9 CLUSTER_ACTION, 10 DESCRIBE_CONFIGS, 11 ALTER_CONFIGS, 12 IDEMPOTENT_WRITE.
const fn bits(operations: &[u8]) -> i32 {
    let mut all = 0;
    let mut i = 0;
    while i < operations.len() {
        all |= 1 << operations[i];
        i += 1;
    }
    all
}

/// Everything that exists on a cluster (`AclEntry.supportedOperations`): without ACLs
/// all of it is allowed.
pub const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// Everything that exists on a topic.
pub const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// Everything that exists on a group.
pub const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);

/// Replicas as clients name them, as nodes. A broker that is not shown stays as it
/// is, so that the controller refuses it under the number the client gave; only the
/// number of a node, which is no broker's then, is made one that no node has.
pub fn nodes(core: &Core, brokers: impl Iterator<Item = i32>) -> Vec<i32> {
    let own = core.config().node_id.0;
    let node = |broker: i32| match core.brokers().node_of(BrokerId(broker)) {
        Some(node) => node.0,
        None if broker == own => -1,
        None => broker,
    };
    brokers.map(node).collect()
}

/// An id for the codec crate.
pub fn crate_uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.0)
}

/// An id from the codec crate.
pub fn our_uuid(id: uuid::Uuid) -> Uuid {
    Uuid(id.into_bytes())
}
