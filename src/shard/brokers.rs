//! "Every core is a broker": the one mapping between nodes and cores, which is what
//! corelog knows, and brokers, which is what clients are shown.
//!
//! With `advertise=core` core *c* of node *n* is broker `n * 1024 + c` at port
//! `base + c`; with `advertise=host` the node is one broker, and every core accepts
//! on its port. With more cores than `advertised.cores.max` several cores share a
//! broker: what arrives for another of them is forwarded.

use crate::base::{BrokerId, CoreIndex, NodeId};
use crate::config::Advertise;

/// Ids of the brokers of two nodes lie this far apart.
const BROKERS_PER_NODE: i32 = 1024;

/// The mapping of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    node: NodeId,
    advertise: Advertise,
    /// How many brokers the node is shown as.
    slots: u16,
}

impl Mapping {
    pub fn new(node: NodeId, advertise: Advertise, cores: u16, cores_max: u16) -> Mapping {
        let slots = match advertise {
            Advertise::Core => cores.min(cores_max.max(1)),
            Advertise::Host => 1,
        };
        Mapping { node, advertise, slots }
    }

    /// How many brokers the node is shown as.
    pub fn slots(self) -> u16 {
        self.slots
    }

    /// The slot of the broker that a core answers for.
    pub fn slot_of(self, core: CoreIndex) -> u16 {
        core.0 % self.slots
    }

    /// The broker of a slot, 0 to [`Mapping::slots`] − 1.
    pub fn broker_of_slot(self, slot: u16) -> BrokerId {
        match self.advertise {
            Advertise::Core => BrokerId(self.node.0 * BROKERS_PER_NODE + i32::from(slot)),
            Advertise::Host => BrokerId(self.node.0),
        }
    }

    /// The broker that clients are shown for a core.
    pub fn broker_of(self, core: CoreIndex) -> BrokerId {
        self.broker_of_slot(self.slot_of(core))
    }

    /// The node that a broker id belongs to, when it is one we show.
    pub fn node_of(self, broker: BrokerId) -> Option<NodeId> {
        (0..self.slots).any(|slot| self.broker_of_slot(slot) == broker).then_some(self.node)
    }

    /// Whether a request that reached core `here` for something on core `owner` came to
    /// the right broker: it is forwarded then, and otherwise sent away.
    pub fn same_broker(self, here: CoreIndex, owner: CoreIndex) -> bool {
        self.slot_of(here) == self.slot_of(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_is_a_broker_of_its_own() {
        let mapping = Mapping::new(NodeId(3), Advertise::Core, 4, 16);
        let ids: Vec<i32> = (0..4).map(|c| mapping.broker_of(CoreIndex(c)).0).collect();
        assert_eq!(ids, [3072, 3073, 3074, 3075]);
        assert_eq!(mapping.node_of(BrokerId(3075)), Some(NodeId(3)));
        assert_eq!(mapping.node_of(BrokerId(3076)), None);
        assert!(!mapping.same_broker(CoreIndex(0), CoreIndex(1)));
    }

    #[test]
    fn a_host_is_one_broker() {
        let mapping = Mapping::new(NodeId(3), Advertise::Host, 4, 16);
        assert_eq!((mapping.slots(), mapping.broker_of(CoreIndex(2))), (1, BrokerId(3)));
        assert!(mapping.same_broker(CoreIndex(0), CoreIndex(3)));
    }

    #[test]
    fn more_cores_than_may_be_shown_share_brokers() {
        let mapping = Mapping::new(NodeId(0), Advertise::Core, 40, 16);
        assert_eq!(mapping.slots(), 16);
        assert_eq!(mapping.broker_of(CoreIndex(35)), BrokerId(3));
        assert!(mapping.same_broker(CoreIndex(3), CoreIndex(35)));
    }
}
