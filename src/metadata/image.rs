//! What the metadata log says at one offset: topics, configurations, brokers,
//! features.
//!
//! An [`Image`] is a value: whoever holds one sees it unchanged, and cloning it
//! costs a few reference counts. Only records make a new one ([`Replay`]), so
//! that every core, and every restart, holds the same truth. Never does I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::records::{
    BrokerRegistrationChangeRecord, ConfigRecord, EntityData, FeatureLevelRecord, MetadataRecord,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RegisterControllerRecord,
    TopicRecord,
};
use crate::base::{LeaderEpoch, NodeId, Offset, Uuid};

/// `PartitionChangeRecord.leader`: the leader stays.
const LEADER_UNCHANGED: i32 = -2;

/// `DirectoryId.MIGRATING`, `UNASSIGNED` and `LOST`: where a replica lies was not said, or nobody has chosen it yet, or it is
/// in one of those that are offline.
const MIGRATING: Uuid = Uuid::ZERO;
const UNASSIGNED: Uuid = reserved(1);
const LOST: Uuid = reserved(2);

const fn reserved(number: u8) -> Uuid {
    let mut id = [0; 16];
    id[15] = number;
    Uuid(id)
}

/// `ConfigResource.Type`: what a configuration belongs to, by the wire's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ResourceType(pub i8);

impl ResourceType {
    pub const TOPIC: ResourceType = ResourceType(2);
    pub const BROKER: ResourceType = ResourceType(4);
    pub const BROKER_LOGGER: ResourceType = ResourceType(8);
    pub const CLIENT_METRICS: ResourceType = ResourceType(16);
    pub const GROUP: ResourceType = ResourceType(32);
}

/// What a configuration belongs to. A broker's name is its `node.id`, the empty
/// name stands for all brokers.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Resource {
    pub kind: ResourceType,
    pub name: Rc<str>,
}

/// The options set for one resource, by Kafka's name.
pub type Config = BTreeMap<String, String>;

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: Rc<str>,
    pub id: Uuid,
    /// By number; Kafka's controllers make them without gaps, from 0.
    pub partitions: BTreeMap<i32, PartitionState>,
}

/// Who holds and leads a partition (`PartitionRegistration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Node ids, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Log directory of each replica, in the order of `replicas`.
    pub directories: Vec<Uuid>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub eligible_leader_replicas: Vec<i32>,
    pub last_known_leaders: Vec<i32>,
    /// `None`: there is no leader at present.
    pub leader: Option<NodeId>,
    /// 0: recovered; 1: the leader was elected uncleanly and is recovering.
    pub leader_recovery_state: i8,
    /// Goes up exactly when a change names a leader, even the same one.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change.
    pub partition_epoch: i32,
}

/// Records of parts that are kept but not interpreted yet, so that neither a
/// snapshot nor a data directory taken over loses them. The key tells which
/// record replaces or removes which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum KeptKey {
    Scram(String, i8),
    Acl(Uuid),
    Quota(Vec<(String, Option<String>)>, String),
    Token(String),
}

/// A record that cannot follow what came before it: the log is not one that a
/// controller wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("{record} names topic {id}, which does not exist")]
    NoTopic { record: &'static str, id: Uuid },
    #[error("{record} names partition {partition} of topic {id}, which does not exist")]
    NoPartition { record: &'static str, id: Uuid, partition: i32 },
    #[error("{record} names broker {broker} with epoch {epoch}, which is not registered")]
    NoBroker { record: &'static str, broker: i32, epoch: i64 },
    #[error("topic {id} is to be created under the name '{name}', which topic {existing} has")]
    NameTaken { id: Uuid, name: String, existing: Uuid },
    #[error("{0} within a metadata transaction")]
    WithinTransaction(&'static str),
    #[error("{0} outside of a metadata transaction")]
    OutsideTransaction(&'static str),
}

/// The metadata at one offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    topics: Rc<BTreeMap<Rc<str>, Rc<Topic>>>,
    names: Rc<HashMap<Uuid, Rc<str>>>,
    /// Topic names with `.` or `_`, by the name with `_` for both: such names may
    /// not exist side by side, because metric names cannot tell them apart.
    colliding: Rc<HashMap<String, BTreeSet<Rc<str>>>>,
    configs: Rc<BTreeMap<Resource, Rc<Config>>>,
    features: Rc<BTreeMap<String, i16>>,
    brokers: Rc<BTreeMap<i32, Rc<RegisterBrokerRecord>>>,
    controllers: Rc<BTreeMap<i32, Rc<RegisterControllerRecord>>>,
    kept: Rc<BTreeMap<KeptKey, MetadataRecord>>,
    producer_ids: Option<ProducerIdsRecord>,
    partition_count: usize,
    /// How many replicas each log directory holds.
    in_directory: Rc<HashMap<Uuid, usize>>,
    end: Offset,
    epoch: LeaderEpoch,
}

impl Default for Image {
    fn default() -> Image {
        Image {
            topics: Rc::default(),
            names: Rc::default(),
            colliding: Rc::default(),
            configs: Rc::default(),
            features: Rc::default(),
            brokers: Rc::default(),
            controllers: Rc::default(),
            kept: Rc::default(),
            producer_ids: None,
            partition_count: 0,
            in_directory: Rc::default(),
            end: Offset::ZERO,
            epoch: LeaderEpoch(0),
        }
    }
}

impl Image {
    /// The offset behind the last record applied.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The controller epoch of the last record applied.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// A partition's state.
    pub fn partition(&self, topic_id: Uuid, partition: i32) -> Option<&PartitionState> {
        self.topic_by_id(topic_id)?.partitions.get(&partition)
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Rc<Topic>> {
        self.topics.values()
    }

    pub fn topic(&self, name: &str) -> Option<&Rc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Rc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// A topic whose name differs from this one only in `.` and `_`.
    pub fn topic_colliding_with(&self, name: &str) -> Option<&Rc<str>> {
        self.colliding.get(&collision_name(name)?)?.first()
    }

    /// All partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Replicas that a log directory holds.
    pub fn replicas_in(&self, directory: Uuid) -> usize {
        self.in_directory.get(&directory).copied().unwrap_or(0)
    }

    /// The options set for a resource; `None` when none is.
    pub fn config(&self, kind: ResourceType, name: &str) -> Option<&Rc<Config>> {
        self.configs.get(&Resource { kind, name: name.into() })
    }

    /// The options set for a topic.
    pub fn topic_config(&self, name: &str) -> Rc<Config> {
        self.config(ResourceType::TOPIC, name).cloned().unwrap_or_default()
    }

    /// All resources with options of their own.
    pub fn configs(&self) -> impl Iterator<Item = (&Resource, &Rc<Config>)> {
        self.configs.iter()
    }

    /// The finalized level of a feature; 0 when it is off.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All finalized features with their levels.
    pub fn features(&self) -> impl ExactSizeIterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (&name[..], *level))
    }

    pub fn broker(&self, node: NodeId) -> Option<&RegisterBrokerRecord> {
        self.brokers.get(&node.0).map(Rc::as_ref)
    }

    /// Whether a node's replica of a partition lies in a log directory that has failed or is missing, or the node is not
    /// registered (`BrokerRegistration.hasOnlineDir`). A replica without a directory is not, and none of a node that was
    /// registered without any.
    pub fn is_offline(&self, node: NodeId, state: &PartitionState) -> bool {
        let Some(broker) = self.broker(node) else { return true };
        match state.directory_of(node) {
            None | Some(MIGRATING | UNASSIGNED) => false,
            Some(LOST) => true,
            Some(directory) => !broker.log_dirs.is_empty() && !broker.log_dirs.contains(&directory),
        }
    }

    /// All registered brokers in the order of their ids.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &RegisterBrokerRecord> {
        self.brokers.values().map(Rc::as_ref)
    }

    /// The first producer id that no block has been given out for.
    pub fn next_producer_id(&self) -> i64 {
        self.producer_ids.as_ref().map_or(0, |record| record.next_producer_id)
    }

    /// The records that make this image from nothing, in Kafka's order: what a
    /// snapshot holds.
    pub fn records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        // The level of the metadata itself comes first: it decides how the rest is read.
        let is_level = |name: &str| name == METADATA_VERSION;
        let feature = |(name, level): (&str, i16)| {
            MetadataRecord::from(FeatureLevelRecord {
                name: name.to_owned(),
                feature_level: level,
                ..Default::default()
            })
        };
        let level = self.features().filter(move |(name, _)| is_level(name)).map(feature);
        let others = self.features().filter(move |(name, _)| !is_level(name)).map(feature);
        let controllers = self.controllers.values().map(|record| record.as_ref().clone().into());
        let brokers = self.brokers.values().map(|record| record.as_ref().clone().into());
        let topics = self.topics.values().flat_map(|topic| {
            let head = TopicRecord { name: topic.name.to_string(), topic_id: topic.id, ..Default::default() };
            let partitions = topic.partitions.iter().map(|(number, state)| state.to_record(topic.id, *number).into());
            std::iter::once(MetadataRecord::from(head)).chain(partitions)
        });
        let configs = self.configs.iter().flat_map(|(resource, config)| {
            config.iter().map(|(name, value)| {
                MetadataRecord::from(ConfigRecord {
                    resource_type: resource.kind.0,
                    resource_name: resource.name.to_string(),
                    name: name.clone(),
                    value: Some(value.clone()),
                    ..Default::default()
                })
            })
        });
        let producer_ids = self.producer_ids.iter().map(|record| record.clone().into());
        level
            .chain(others)
            .chain(controllers)
            .chain(brokers)
            .chain(topics)
            .chain(configs)
            .chain(producer_ids)
            .chain(self.kept.values().cloned())
    }

    /// Applies one record and notes what it changed.
    fn apply(&mut self, record: &MetadataRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let kind = record.name();
        match record {
            MetadataRecord::Topic(record) => {
                let name: Rc<str> = record.name.as_str().into();
                if let Some(existing) = self.topics.get(&name) {
                    let (id, existing) = (record.topic_id, existing.id);
                    return Err(ReplayError::NameTaken { id, name: record.name.clone(), existing });
                }
                let topic = Topic { name: Rc::clone(&name), id: record.topic_id, partitions: BTreeMap::new() };
                Rc::make_mut(&mut self.topics).insert(Rc::clone(&name), Rc::new(topic));
                Rc::make_mut(&mut self.names).insert(record.topic_id, Rc::clone(&name));
                if let Some(unified) = collision_name(&name) {
                    Rc::make_mut(&mut self.colliding).entry(unified).or_default().insert(name);
                }
                delta.created.insert(record.topic_id);
            }
            MetadataRecord::RemoveTopic(record) => {
                let id = record.topic_id;
                let name =
                    Rc::make_mut(&mut self.names).remove(&id).ok_or(ReplayError::NoTopic { record: kind, id })?;
                let topic = Rc::make_mut(&mut self.topics).remove(&name).expect("names and topics agree");
                self.partition_count -= topic.partitions.len();
                let in_directory = Rc::make_mut(&mut self.in_directory);
                topic.partitions.values().for_each(|state| state.leave(in_directory));
                if let Some(unified) = collision_name(&name) {
                    let colliding = Rc::make_mut(&mut self.colliding);
                    let names = colliding.get_mut(&unified).expect("put there with the topic");
                    names.remove(&name);
                    if names.is_empty() {
                        colliding.remove(&unified);
                    }
                }
                let resource = Resource { kind: ResourceType::TOPIC, name };
                if self.configs.contains_key(&resource) {
                    Rc::make_mut(&mut self.configs).remove(&resource);
                }
                delta.delete(topic);
            }
            MetadataRecord::Partition(record) => {
                let state = PartitionState::from_record(record);
                state.enter(Rc::make_mut(&mut self.in_directory));
                let topic = self.topic_mut(kind, record.topic_id)?;
                let old = topic.partitions.insert(record.partition_id, state);
                let new = old.is_none();
                if let Some(old) = old {
                    old.leave(Rc::make_mut(&mut self.in_directory));
                }
                self.partition_count += usize::from(new);
                delta.partition(record.topic_id, record.partition_id, new);
            }
            MetadataRecord::PartitionChange(record) => {
                let (id, partition) = (record.topic_id, record.partition_id);
                let moves = record.directories.is_some() || record.replicas.is_some();
                // Taken out while the image is changed in two places.
                let in_directory = moves.then(|| std::mem::take(&mut self.in_directory));
                let topic = self.topic_mut(kind, id)?;
                let state = topic.partitions.get_mut(&partition);
                let state = state.ok_or(ReplayError::NoPartition { record: kind, id, partition })?;
                match in_directory {
                    None => state.change(record),
                    Some(mut counts) => {
                        let in_directory = Rc::make_mut(&mut counts);
                        state.leave(in_directory);
                        state.change(record);
                        state.enter(in_directory);
                        self.in_directory = counts;
                    }
                }
                delta.partition(id, partition, false);
            }
            MetadataRecord::ClearElr(record) => {
                let names: Vec<Rc<str>> = match record.topic_name.as_str() {
                    "" => self.topics.keys().cloned().collect(),
                    name => self.topics.get_key_value(name).map(|(name, _)| Rc::clone(name)).into_iter().collect(),
                };
                for name in names {
                    let topic = Rc::make_mut(&mut self.topics).get_mut(&name).expect("names come from the topics");
                    for state in Rc::make_mut(topic).partitions.values_mut() {
                        state.eligible_leader_replicas.clear();
                        state.last_known_leaders.clear();
                    }
                }
            }
            MetadataRecord::Config(record) => {
                let kind = ResourceType(record.resource_type);
                let resource = Resource { kind, name: record.resource_name.as_str().into() };
                let configs = Rc::make_mut(&mut self.configs);
                let config = Rc::make_mut(configs.entry(resource.clone()).or_default());
                match &record.value {
                    Some(value) => {
                        config.insert(record.name.clone(), value.clone());
                    }
                    None => {
                        config.remove(&record.name);
                        if config.is_empty() {
                            configs.remove(&resource);
                        }
                    }
                }
                delta.configs.insert(resource);
            }
            MetadataRecord::FeatureLevel(record) => {
                let features = Rc::make_mut(&mut self.features);
                match record.feature_level {
                    0 => features.remove(&record.name),
                    level => features.insert(record.name.clone(), level),
                };
                delta.features = true;
            }
            MetadataRecord::RegisterBroker(record) => {
                Rc::make_mut(&mut self.brokers).insert(record.broker_id, Rc::new(record.clone()));
                delta.brokers = true;
            }
            MetadataRecord::UnregisterBroker(record) => {
                let (broker, epoch) = (record.broker_id, record.broker_epoch);
                self.broker_mut(kind, broker, epoch)?;
                Rc::make_mut(&mut self.brokers).remove(&broker);
                delta.brokers = true;
            }
            MetadataRecord::FenceBroker(record) => {
                self.broker_mut(kind, record.id, record.epoch)?.fenced = true;
                delta.brokers = true;
            }
            MetadataRecord::UnfenceBroker(record) => {
                self.broker_mut(kind, record.id, record.epoch)?.fenced = false;
                delta.brokers = true;
            }
            MetadataRecord::BrokerRegistrationChange(record) => {
                change_registration(self.broker_mut(kind, record.broker_id, record.broker_epoch)?, record);
                delta.brokers = true;
            }
            MetadataRecord::RegisterController(record) => {
                Rc::make_mut(&mut self.controllers).insert(record.controller_id, Rc::new(record.clone()));
            }
            MetadataRecord::ProducerIds(record) => self.producer_ids = Some(record.clone()),
            MetadataRecord::UserScramCredential(record) => {
                self.keep(KeptKey::Scram(record.name.clone(), record.mechanism), Some(record.clone().into()));
            }
            MetadataRecord::RemoveUserScramCredential(record) => {
                self.keep(KeptKey::Scram(record.name.clone(), record.mechanism), None);
            }
            MetadataRecord::AccessControlEntry(record) => {
                self.keep(KeptKey::Acl(record.id), Some(record.clone().into()));
            }
            MetadataRecord::RemoveAccessControlEntry(record) => self.keep(KeptKey::Acl(record.id), None),
            MetadataRecord::ClientQuota(record) => {
                let entity = |part: &EntityData| (part.entity_type.clone(), part.entity_name.clone());
                let mut entities: Vec<_> = record.entity.iter().map(entity).collect();
                entities.sort();
                let kept = (!record.remove).then(|| record.clone().into());
                self.keep(KeptKey::Quota(entities, record.key.clone()), kept);
            }
            MetadataRecord::DelegationToken(record) => {
                self.keep(KeptKey::Token(record.token_id.clone()), Some(record.clone().into()));
            }
            MetadataRecord::RemoveDelegationToken(record) => self.keep(KeptKey::Token(record.token_id.clone()), None),
            // A no-op only moves the offset; ZooKeeper migration ended with Kafka 4.
            MetadataRecord::NoOp(_) | MetadataRecord::ZkMigrationState(_) => {}
            MetadataRecord::BeginTransaction(_)
            | MetadataRecord::EndTransaction(_)
            | MetadataRecord::AbortTransaction(_) => unreachable!("Replay handles transactions"),
        }
        Ok(())
    }

    fn topic_mut(&mut self, record: &'static str, id: Uuid) -> Result<&mut Topic, ReplayError> {
        let name = self.names.get(&id).ok_or(ReplayError::NoTopic { record, id })?;
        let topic = Rc::make_mut(&mut self.topics).get_mut(name).expect("names and topics agree");
        Ok(Rc::make_mut(topic))
    }

    fn broker_mut(
        &mut self,
        record: &'static str,
        broker: i32,
        epoch: i64,
    ) -> Result<&mut RegisterBrokerRecord, ReplayError> {
        let registered = Rc::make_mut(&mut self.brokers).get_mut(&broker).filter(|found| found.broker_epoch == epoch);
        registered.map(Rc::make_mut).ok_or(ReplayError::NoBroker { record, broker, epoch })
    }

    fn keep(&mut self, key: KeptKey, record: Option<MetadataRecord>) {
        let kept = Rc::make_mut(&mut self.kept);
        match record {
            Some(record) => kept.insert(key, record),
            None => kept.remove(&key),
        };
    }
}

/// The feature whose level says which records and versions a log may hold.
pub const METADATA_VERSION: &str = "metadata.version";

/// The name under which colliding topic names are the same (`Topic.hasCollisionChars`).
fn collision_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

fn change_registration(broker: &mut RegisterBrokerRecord, change: &BrokerRegistrationChangeRecord) {
    match change.fenced {
        1 => broker.fenced = true,
        -1 => broker.fenced = false,
        _ => {}
    }
    if change.in_controlled_shutdown == 1 {
        broker.in_controlled_shutdown = true;
    }
    if !change.log_dirs.is_empty() {
        broker.log_dirs.clone_from(&change.log_dirs);
    }
    if change.cordoned_log_dirs.is_some() {
        broker.cordoned_log_dirs.clone_from(&change.cordoned_log_dirs);
    }
}

impl PartitionState {
    fn from_record(record: &PartitionRecord) -> PartitionState {
        let mut directories = record.directories.clone();
        // Older versions have none.
        directories.resize(record.replicas.len(), MIGRATING);
        PartitionState {
            replicas: record.replicas.clone(),
            directories,
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_leaders: record.last_known_elr.clone().unwrap_or_default(),
            leader: (record.leader >= 0).then_some(NodeId(record.leader)),
            leader_recovery_state: record.leader_recovery_state,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
        }
    }

    /// The log directory that holds the replica of a node.
    pub fn directory_of(&self, node: NodeId) -> Option<Uuid> {
        let at = self.replicas.iter().position(|replica| *replica == node.0)?;
        self.directories.get(at).copied()
    }

    /// The directories with that of a node's replica changed.
    pub fn directories_with(&self, node: NodeId, directory: Uuid) -> Vec<Uuid> {
        let mut directories = self.directories.clone();
        if let Some(at) = self.replicas.iter().position(|replica| *replica == node.0)
            && let Some(place) = directories.get_mut(at)
        {
            *place = directory;
        }
        directories
    }

    /// Counts its replicas in their directories.
    fn enter(&self, in_directory: &mut HashMap<Uuid, usize>) {
        for directory in &self.directories {
            *in_directory.entry(*directory).or_default() += 1;
        }
    }

    fn leave(&self, in_directory: &mut HashMap<Uuid, usize>) {
        for directory in &self.directories {
            let count = in_directory.get_mut(directory).expect("counted when it came");
            *count -= 1;
            if *count == 0 {
                in_directory.remove(directory);
            }
        }
    }

    /// The record that makes this state. Lists that are mostly empty are left out.
    pub fn to_record(&self, topic_id: Uuid, partition_id: i32) -> PartitionRecord {
        let unless_empty = |list: &Vec<i32>| (!list.is_empty()).then(|| list.clone());
        PartitionRecord {
            partition_id,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader.map_or(-1, |node| node.0),
            leader_recovery_state: self.leader_recovery_state,
            leader_epoch: self.leader_epoch.0,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leader_replicas: unless_empty(&self.eligible_leader_replicas),
            last_known_elr: unless_empty(&self.last_known_leaders),
            ..Default::default()
        }
    }

    /// `PartitionRegistration.merge`. Neither epoch is in the record: they are counted.
    fn change(&mut self, record: &PartitionChangeRecord) {
        let set = |list: &mut Vec<i32>, new: &Option<Vec<i32>>| {
            if let Some(new) = new {
                list.clone_from(new);
            }
        };
        set(&mut self.replicas, &record.replicas);
        set(&mut self.isr, &record.isr);
        set(&mut self.removing_replicas, &record.removing_replicas);
        set(&mut self.adding_replicas, &record.adding_replicas);
        set(&mut self.eligible_leader_replicas, &record.eligible_leader_replicas);
        set(&mut self.last_known_leaders, &record.last_known_elr);
        if let Some(directories) = &record.directories {
            self.directories.clone_from(directories);
        }
        self.directories.resize(self.replicas.len(), Uuid::ZERO);
        if record.leader != LEADER_UNCHANGED {
            self.leader = (record.leader >= 0).then_some(NodeId(record.leader));
            self.leader_epoch = LeaderEpoch(self.leader_epoch.0.saturating_add(1));
        }
        if record.leader_recovery_state >= 0 {
            self.leader_recovery_state = record.leader_recovery_state;
        }
        self.partition_epoch = self.partition_epoch.saturating_add(1);
    }
}

/// What some records changed, so that a core touches only that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Topics that are new, with all their partitions.
    pub created: BTreeSet<Uuid>,
    /// Topics that are gone, as they were. One that came and went is not listed.
    pub deleted: Vec<Rc<Topic>>,
    /// New partitions of topics that were there before.
    pub added_partitions: Vec<(Uuid, i32)>,
    /// Partitions that were there before and whose state changed.
    pub changed_partitions: Vec<(Uuid, i32)>,
    /// Resources whose options changed.
    pub configs: BTreeSet<Resource>,
    /// Registrations changed.
    pub brokers: bool,
    /// Feature levels changed.
    pub features: bool,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    fn partition(&mut self, id: Uuid, partition: i32, new: bool) {
        if self.created.contains(&id) {
            return;
        }
        let list = if new { &mut self.added_partitions } else { &mut self.changed_partitions };
        if list.last() != Some(&(id, partition)) {
            list.push((id, partition));
        }
    }

    fn delete(&mut self, topic: Rc<Topic>) {
        let id = topic.id;
        self.added_partitions.retain(|(of, _)| *of != id);
        self.changed_partitions.retain(|(of, _)| *of != id);
        self.configs.retain(|resource| resource.kind != ResourceType::TOPIC || resource.name != topic.name);
        if !self.created.remove(&id) {
            self.deleted.push(topic);
        }
    }
}

/// Builds images from committed records. Records of a metadata transaction show
/// only when it ends, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    published: Image,
    /// What the open transaction has made of it so far.
    open: Option<(Image, Delta)>,
}

impl Replay {
    /// Goes on from an image, as loaded from a snapshot.
    pub fn from_image(image: Image) -> Replay {
        Replay { published: image, open: None }
    }

    /// The image of everything committed; without an open transaction.
    pub fn image(&self) -> &Image {
        &self.published
    }

    /// Whether a metadata transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Applies the records of one or more batches. `end` is the offset behind the
    /// last of them, `epoch` the controller's. Returns what changed in
    /// [`Replay::image`].
    ///
    /// # Errors
    /// A record that cannot follow. The image then stands between two batches and
    /// must not be used further.
    pub fn apply<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
        end: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Delta, ReplayError> {
        let mut delta = Delta::default();
        for record in records {
            match (record, &mut self.open) {
                (MetadataRecord::BeginTransaction(_), None) => {
                    self.open = Some((self.published.clone(), Delta::default()));
                }
                (MetadataRecord::BeginTransaction(_), Some(_)) => {
                    return Err(ReplayError::WithinTransaction("BeginTransactionRecord"));
                }
                (MetadataRecord::EndTransaction(_), open) => {
                    let (image, changes) = open.take().ok_or(ReplayError::OutsideTransaction(record.name()))?;
                    self.published = image;
                    delta.join(changes);
                }
                (MetadataRecord::AbortTransaction(_), open) => {
                    open.take().ok_or(ReplayError::OutsideTransaction(record.name()))?;
                }
                (record, Some((image, changes))) => image.apply(record, changes)?,
                (record, None) => self.published.apply(record, &mut delta)?,
            }
        }
        // Within a transaction the image stands before it: a snapshot of what is shown
        // must not claim offsets whose records it lacks.
        let image = self.open.as_mut().map_or(&mut self.published, |(image, _)| image);
        (image.end, image.epoch) = (end, epoch);
        Ok(delta)
    }
}

impl Delta {
    /// Adds what happened later.
    fn join(&mut self, later: Delta) {
        for topic in later.deleted {
            self.delete(topic);
        }
        self.created.extend(later.created);
        for (id, partition) in later.added_partitions {
            self.partition(id, partition, true);
        }
        for (id, partition) in later.changed_partitions {
            self.partition(id, partition, false);
        }
        self.configs.extend(later.configs);
        self.brokers |= later.brokers;
        self.features |= later.features;
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{
        AbortTransactionRecord, BeginTransactionRecord, ClearElrRecord, EndTransactionRecord, NoOpRecord,
        RemoveTopicRecord, UnregisterBrokerRecord,
    };
    use super::*;
    use proptest::prelude::*;

    const LOGS: &str = include_str!("../../tests/golden/records/logs-4.3.1.txt");

    fn brokers_log() -> Vec<MetadataRecord> {
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let lines = LOGS.lines().filter(|line| line.starts_with("__cluster_metadata "));
        lines.map(|line| MetadataRecord::decode(&unhex(line.rsplit(' ').next().unwrap())).unwrap().0).collect()
    }

    fn replay(records: &[MetadataRecord]) -> (Image, Delta) {
        let mut replay = Replay::default();
        let delta = replay.apply(records, Offset(records.len() as i64), LeaderEpoch(1)).unwrap();
        (replay.image().clone(), delta)
    }

    /// The image without its offset, made anew from its own records.
    fn again(image: &Image) -> Image {
        let mut replay = Replay::default();
        let records: Vec<_> = image.records().collect();
        replay.apply(&records, image.end(), image.epoch()).unwrap();
        replay.image().clone()
    }

    fn topic(name: &str, id: u8) -> MetadataRecord {
        TopicRecord { name: name.to_string(), topic_id: Uuid([id; 16]), ..Default::default() }.into()
    }

    fn partition(id: u8, number: i32) -> MetadataRecord {
        PartitionRecord {
            partition_id: number,
            topic_id: Uuid([id; 16]),
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            directories: vec![Uuid([9; 16])],
            ..Default::default()
        }
        .into()
    }

    fn config(kind: ResourceType, name: &str, option: &str, value: Option<&str>) -> MetadataRecord {
        ConfigRecord {
            resource_type: kind.0,
            resource_name: name.to_string(),
            name: option.to_string(),
            value: value.map(str::to_string),
            ..Default::default()
        }
        .into()
    }

    fn remove(id: u8) -> MetadataRecord {
        RemoveTopicRecord { topic_id: Uuid([id; 16]), ..Default::default() }.into()
    }

    #[test]
    fn a_brokers_log_gives_what_its_tools_showed() {
        let (image, delta) = replay(&brokers_log());
        let names: Vec<_> = image.topics().map(|topic| (&topic.name[..], topic.partitions.len())).collect();
        assert_eq!(
            names,
            [("__consumer_offsets", 50), ("__share_group_state", 50), ("__transaction_state", 50), ("orders", 4)]
        );
        assert_eq!(image.partition_count(), 154);
        assert_eq!(image.topic("gone"), None);
        let orders = image.topic_config("orders");
        assert_eq!(orders.get("retention.ms").map(String::as_str), Some("3600000"));
        assert_eq!(orders.get("max.message.bytes").map(String::as_str), Some("2000000"));
        assert_eq!(image.config(ResourceType::BROKER, "").unwrap().get("min.insync.replicas").unwrap(), "1");
        assert_eq!((image.feature(METADATA_VERSION), image.feature("group.version")), (30, 1));
        assert_eq!(image.next_producer_id(), 1000);
        let broker = image.broker(NodeId(1)).unwrap();
        assert_eq!((broker.broker_epoch, broker.end_points[0].port), (11, 19893));
        // The log ends with a controlled shutdown: fenced, and nobody leads.
        assert!(broker.fenced && broker.in_controlled_shutdown);
        let state = &image.topic("orders").unwrap().partitions[&0];
        assert_eq!((state.leader, &state.isr[..], state.leader_epoch), (None, &[][..], LeaderEpoch(1)));
        assert_eq!(state.eligible_leader_replicas, [1]);
        assert_eq!(delta.created.len(), 4);
        assert_eq!(delta.deleted, []);
        assert_eq!(again(&image), image);
    }

    #[test]
    fn both_epochs_of_a_partition_are_counted() {
        let change = |leader: i32, isr: Option<Vec<i32>>| {
            let (partition_id, topic_id) = (0, Uuid([7; 16]));
            MetadataRecord::from(PartitionChangeRecord { partition_id, topic_id, leader, isr, ..Default::default() })
        };
        let mut records = vec![topic("orders", 7), partition(7, 0)];
        let mut check = |record: MetadataRecord, leader: Option<i32>, leader_epoch: i32, partition_epoch: i32| {
            records.push(record);
            let (image, _) = replay(&records);
            let state = &image.topic("orders").unwrap().partitions[&0];
            assert_eq!(
                (state.leader.map(|node| node.0), state.leader_epoch.0, state.partition_epoch),
                (leader, leader_epoch, partition_epoch)
            );
        };
        check(change(LEADER_UNCHANGED, Some(vec![1, 2])), Some(1), 0, 1);
        check(change(-1, None), None, 1, 2);
        check(change(2, None), Some(2), 2, 3);
        check(change(2, None), Some(2), 3, 4);
        check(change(LEADER_UNCHANGED, None), Some(2), 3, 5);
    }

    #[test]
    fn a_transaction_shows_whole_or_not_at_all() {
        let begin = MetadataRecord::from(BeginTransactionRecord::default());
        let end = MetadataRecord::from(EndTransactionRecord::default());
        let abort = MetadataRecord::from(AbortTransactionRecord::default());
        let mut replay = Replay::default();
        let mut step = |records: &[MetadataRecord]| {
            let end = replay.image().end().plus(1);
            let delta = replay.apply(records, end, LeaderEpoch(1))?;
            assert_eq!(replay.image().end() == end, !replay.in_transaction(), "the end does not move within one");
            Ok((replay.image().topics().len(), delta.created.len(), replay.in_transaction()))
        };
        assert_eq!(step(&[topic("a", 1), begin.clone(), topic("b", 2)]), Ok((1, 1, true)));
        assert_eq!(step(&[partition(2, 0)]), Ok((1, 0, true)));
        assert_eq!(step(std::slice::from_ref(&end)), Ok((2, 1, false)));
        assert_eq!(step(&[begin.clone(), topic("c", 3), remove(1), abort.clone()]), Ok((2, 0, false)));
        assert_eq!(step(&[end]), Err(ReplayError::OutsideTransaction("EndTransactionRecord")));
        assert_eq!(step(&[abort]), Err(ReplayError::OutsideTransaction("AbortTransactionRecord")));
        assert_eq!(step(&[begin.clone(), begin]), Err(ReplayError::WithinTransaction("BeginTransactionRecord")));
    }

    #[test]
    fn deltas_tell_what_a_core_has_to_do() {
        let mut replay = Replay::default();
        let mut step = |records: &[MetadataRecord]| replay.apply(records, Offset(1), LeaderEpoch(1)).unwrap();
        let ids = |delta: &Delta| delta.created.iter().map(|id| id.0[0]).collect::<Vec<_>>();

        let delta =
            step(&[topic("a", 1), config(ResourceType::TOPIC, "a", "retention.ms", Some("1")), partition(1, 0)]);
        assert_eq!((ids(&delta), delta.added_partitions.len(), delta.configs.len()), (vec![1], 0, 1));
        let delta = step(&[partition(1, 1), partition(1, 2)]);
        assert_eq!((ids(&delta), delta.added_partitions.len()), (vec![], 2));
        let delta = step(&[topic("b", 2), partition(2, 0), remove(2)]);
        assert!(delta.is_empty(), "came and went: {delta:?}");
        let delta = step(&[config(ResourceType::TOPIC, "a", "retention.ms", None), remove(1), topic("a", 3)]);
        assert_eq!((ids(&delta), delta.configs.len()), (vec![3], 0));
        assert_eq!((&delta.deleted[0].name[..], delta.deleted[0].partitions.len()), ("a", 3));
        assert!(step(&[NoOpRecord::default().into()]).is_empty());
    }

    #[test]
    fn a_held_image_stays_as_it_was() {
        let mut replay = Replay::default();
        replay.apply(&[topic("a", 1), partition(1, 0)], Offset(2), LeaderEpoch(1)).unwrap();
        let before = replay.image().clone();
        replay.apply(&[partition(1, 1), topic("b.c", 2)], Offset(4), LeaderEpoch(1)).unwrap();
        assert_eq!((before.topics().len(), before.partition_count(), before.end()), (1, 1, Offset(2)));
        assert_eq!(before.topic("a").unwrap().partitions.len(), 1);
        assert_eq!(before.topic_colliding_with("b_c"), None);
        assert_eq!(replay.image().topic_colliding_with("b_c").map(|name| &name[..]), Some("b.c"));
        assert_eq!((replay.image().partition_count(), replay.image().end()), (2, Offset(4)));
    }

    #[test]
    fn records_that_cannot_follow_are_refused() {
        let refused = |records: &[MetadataRecord]| {
            Replay::default().apply(records, Offset(1), LeaderEpoch(1)).unwrap_err().to_string()
        };
        assert!(refused(&[partition(1, 0)]).starts_with("PartitionRecord names topic AQEB"));
        assert!(refused(&[remove(1)]).starts_with("RemoveTopicRecord names topic"));
        assert!(refused(&[topic("a", 1), topic("a", 2)]).contains("under the name 'a'"));
        let change = PartitionChangeRecord { partition_id: 3, topic_id: Uuid([1; 16]), ..Default::default() };
        assert!(refused(&[topic("a", 1), change.into()]).starts_with("PartitionChangeRecord names partition 3"));
        let gone = UnregisterBrokerRecord { broker_id: 5, broker_epoch: 2, ..Default::default() };
        assert!(refused(&[gone.into()]).contains("broker 5 with epoch 2"));
    }

    #[test]
    fn eligible_leaders_are_cleared_for_one_topic_or_all() {
        let with_elr = |id: u8| {
            let MetadataRecord::Partition(mut record) = partition(id, 0) else { unreachable!() };
            record.eligible_leader_replicas = Some(vec![2]);
            MetadataRecord::from(record)
        };
        let clear = |name: &str| ClearElrRecord { topic_name: name.to_string(), ..Default::default() }.into();
        let setup = [topic("a", 1), with_elr(1), topic("b", 2), with_elr(2)];
        let left = |name: &str| {
            let (image, _) = replay(&[&setup[..], &[clear(name)]].concat());
            let count = |topic: &Rc<Topic>| topic.partitions[&0].eligible_leader_replicas.len();
            image.topics().map(count).collect::<Vec<_>>()
        };
        assert_eq!((left("a"), left(""), left("none")), (vec![0, 1], vec![0, 0], vec![1, 1]));
    }

    proptest! {
        /// Random valid histories: the counted parts agree with what is there, the
        /// delta is the difference of the two images, a snapshot is the image.
        #[test]
        fn images_deltas_and_snapshots_agree(steps in proptest::collection::vec((0u8..6, 0u8..6, 0i32..4), 1..60)) {
            let mut kept = Replay::default();
            for batch in steps.chunks(4) {
                let before = kept.image().clone();
                let mut ahead = kept.clone();
                ahead.apply([], Offset(1), LeaderEpoch(1)).unwrap();
                let mut records = Vec::new();
                for (what, id, number) in batch {
                    let names = ["a.b", "a_b", "c", "d-e", "f.g_h", "i"];
                    let name = names[*id as usize];
                    let record = match what {
                        0 => topic(name, *id),
                        1 => partition(*id, *number),
                        2 => remove(*id),
                        3 => config(ResourceType::TOPIC, name, "retention.ms", (*number > 0).then_some("5")),
                        4 => PartitionChangeRecord {
                            partition_id: *number, topic_id: Uuid([*id; 16]), isr: Some(vec![1]), ..Default::default()
                        }.into(),
                        _ => PartitionChangeRecord {
                            partition_id: *number, topic_id: Uuid([*id; 16]),
                            directories: Some(vec![Uuid([*number as u8 + 8; 16])]), ..Default::default()
                        }.into(),
                    };
                    if ahead.clone().apply([&record], Offset(1), LeaderEpoch(1)).is_ok() {
                        ahead.apply([&record], Offset(1), LeaderEpoch(1)).unwrap();
                        records.push(record);
                    }
                }
                let delta = kept.apply(&records, Offset(1), LeaderEpoch(1)).unwrap();
                let after = kept.image();
                prop_assert_eq!(after, ahead.image());
                prop_assert_eq!(&again(after), after);
                prop_assert_eq!(after.partition_count(), after.topics().map(|topic| topic.partitions.len()).sum::<usize>());
                for directory in 7..13 {
                    let directory = Uuid([directory; 16]);
                    let states = after.topics().flat_map(|topic| topic.partitions.values());
                    let held = states.filter(|state| state.directories == [directory]).count();
                    prop_assert_eq!(after.replicas_in(directory), held);
                }
                for topic in after.topics() {
                    prop_assert_eq!(after.topic_by_id(topic.id), Some(topic));
                    // A topic may come, go and come again with the same id only in this test.
                    let was = before.topic_by_id(topic.id).filter(|_| !delta.created.contains(&topic.id));
                    prop_assert!(was.is_some() || delta.created.contains(&topic.id));
                    for (number, state) in &topic.partitions {
                        let at = (topic.id, *number);
                        match was.and_then(|topic| topic.partitions.get(number)) {
                            None => prop_assert!(delta.created.contains(&topic.id) || delta.added_partitions.contains(&at)),
                            Some(old) if old != state => prop_assert!(delta.changed_partitions.contains(&at)),
                            Some(_) => {}
                        }
                    }
                }
                for topic in before.topics() {
                    let gone = after.topic_by_id(topic.id).is_none();
                    prop_assert!(!gone || delta.deleted.iter().any(|deleted| deleted.id == topic.id));
                }
            }
        }
    }
}
