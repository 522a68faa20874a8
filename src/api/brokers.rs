//! Brokers as clients are shown them, on the listener they came in on. The mapping
//! itself is [`crate::shard::brokers`].

use crate::base::{BrokerId, CoreIndex, Uuid};
use crate::shard::Core;

/// A broker as clients are shown it, on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// All brokers, with the addresses of the listener that the client came in on.
pub fn all(core: &Core, listener: usize) -> Vec<Broker> {
    let mapping = core.brokers();
    let config = core.config();
    // Loading has made sure that each listener has its advertised one.
    let name = config.listeners.get(listener).map(|l| l.name.as_str());
    let advertised = config.advertised_listeners.iter().find(|a| Some(a.name.as_str()) == name);
    let Some(advertised) = advertised else { return Vec::new() };
    (0..mapping.slots())
        .map(|slot| Broker {
            id: mapping.broker_of_slot(slot),
            host: advertised.host.clone(),
            port: advertised.port + slot,
            rack: core.config().broker_rack.clone(),
        })
        .collect()
}

/// The broker of one core, with its address on the listener.
pub fn of_core(core: &Core, owner: CoreIndex, listener: usize) -> Option<Broker> {
    let id = core.brokers().broker_of(owner);
    all(core, listener).into_iter().find(|b| b.id == id)
}

/// The broker that leads a partition. On a single node every partition is led by the
/// node, so the core that owns it decides.
pub fn leader_of(core: &Core, topic_id: Uuid, partition: i32) -> BrokerId {
    core.brokers().broker_of(core.placement().core_of(topic_id, partition))
}

/// The broker that this core answers for.
pub fn own(core: &Core) -> BrokerId {
    core.brokers().broker_of(core.index())
}
