//! The controller: an intention and the present image give the records that
//! carry it out, and the answer to send once they are durable.
//!
//! Everything here is a pure function: no I/O, no clock, no state besides the
//! options and what is wished of partitions to come. The checks, their order and their words are Kafka's
//! (`ReplicationControlManager`, `ControllerApis`), because users and tools read
//! them. Never knows Kafka's error codes; `api/` maps [`Reason`] to them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::configs::{self, ConfigChange};
use super::image::{Config, Image, METADATA_VERSION, PartitionState, ResourceType};
use super::records::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord, MetadataRecord,
    PartitionChangeRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};
use crate::base::limits::WISHES_MAX;
use crate::base::{LeaderEpoch, NodeId, Offset, Uuid};
use crate::config::{BrokerConfig, TopicConfig};

/// Records of one intention: they lie in one batch, which is written whole or not
/// at all (`QuorumController.MAX_RECORDS_PER_USER_OP`).
pub const RECORDS_PER_INTENTION_MAX: usize = 10_000;

/// Producer ids given out at once (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Longest topic name (`Topic.MAX_NAME_LENGTH`): `NAME-PARTITION` and a suffix
/// have to fit a file name.
pub const TOPIC_NAME_MAX: usize = 249;

/// The features this release knows, with the levels it can run at
/// (`SupportedVersionRange`). Level 30 is `4.3-IV0`, level 7 `3.3-IV3`.
pub const SUPPORTED_FEATURES: &[(&str, i16, i16)] = &[(METADATA_VERSION, 7, 30)];

/// Features that Kafka finalizes and that may stay as they are while this release serves the data, by the highest
/// level that was looked at. Each level lets brokers and clients speak newer protocols; what those leave in logs
/// is kept:
///
/// * `transaction.version` 1 writes flexible records to `__transaction_state`, 2 lets the epoch of a producer rise
///   with each transaction (KIP-890). Nobody appends to that topic here, and markers and batches are read as they are.
/// * `group.version` 1 (KIP-848), `share.version` 1 (KIP-932), `streams.version` 1 (KIP-1071): records of groups in
///   `__consumer_offsets`, which stay where they are.
/// * `eligible.leader.replicas.version` 1 (KIP-966): lists in the records of partitions, which the image has.
///
/// They are registered, so that what the metadata says stays true, and not shown to clients: they would use what
/// there is not.
pub const ACCEPTED_FEATURES: &[(&str, i16)] = &[
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
];

/// The levels of a feature that this release can run with; 0 and 0 if it does not know it.
fn levels_of(feature: &str) -> (i16, i16) {
    let served = SUPPORTED_FEATURES.iter().find(|(name, ..)| *name == feature).map(|(_, min, max)| (*min, *max));
    let accepted = || ACCEPTED_FEATURES.iter().find(|(name, _)| *name == feature).map(|(_, max)| (0, *max));
    served.or_else(accepted).unwrap_or((0, 0))
}

/// Why a node with this release cannot run with what an image says, in Kafka's words.
///
/// # Errors
/// A finalized feature is not known, or is at a level that is not.
pub fn check_features(image: &Image) -> Result<(), Refusal> {
    for (name, level) in image.features() {
        let (min, max) = levels_of(name);
        if !(min..=max).contains(&level) {
            let words = format!(
                "Unable to register because the broker does not support finalized version {level} of {name}. The \
                 broker wants a version between {min} and {max}, inclusive."
            );
            return Err(Refusal::new(Reason::UnsupportedVersion, words));
        }
    }
    Ok(())
}

/// The features a new cluster starts with.
pub const BOOTSTRAP_FEATURES: &[(&str, i16)] = &[(METADATA_VERSION, 30)];

/// What somebody wants of the metadata. Plain values: an intention may come from
/// any core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intention {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics {
        topics: Vec<TopicToDelete>,
    },
    CreatePartitions {
        topics: Vec<MorePartitions>,
        validate_only: bool,
    },
    AlterConfigs {
        changes: Vec<ConfigChange>,
        validate_only: bool,
    },
    AllocateProducerIds {
        node: NodeId,
    },
    RegisterBroker(Registration),
    /// Log directories of a node have failed: nobody leads what lies in them.
    DirectoriesOffline {
        node: NodeId,
        directories: Vec<Uuid>,
    },
    /// Replicas of a node lie in other log directories now (`AssignReplicasToDirs`, KIP-858).
    AssignDirectories {
        node: NodeId,
        placed: Vec<Placed>,
    },
    /// Where partitions are to lie that do not exist yet.
    WishDirectories {
        wishes: Vec<Wish>,
    },
}

/// The log directory that a partition is to lie in once it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub topic: String,
    pub partition: i32,
    pub directory: Uuid,
}

/// A replica and the log directory it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub topic: Uuid,
    pub partition: i32,
    pub directory: Uuid,
}

/// The answer to an [`Intention`], of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the request; a name that came twice is answered once.
    CreateTopics(Vec<(String, Result<NewTopicAnswer, Refusal>)>),
    DeleteTopics(Vec<DeletedTopic>),
    CreatePartitions(Vec<(String, Result<(), Refusal>)>),
    /// In the order of the changes.
    AlterConfigs(Vec<Result<(), Refusal>>),
    /// The first id and the count of the block.
    AllocateProducerIds(Result<ProducerIds, Refusal>),
    /// The broker's epoch.
    RegisterBroker(Result<i64, Refusal>),
    DirectoriesOffline,
    AssignDirectories,
    WishDirectories,
}

/// A block of producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    pub first: i64,
    pub count: i64,
}

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// −1: the broker's default.
    pub partitions: i32,
    /// −1: the broker's default.
    pub replication_factor: i16,
    /// Partition number and its replicas; empty: the controller places them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// A null value is an error of its own.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopicAnswer {
    pub id: Uuid,
    pub partitions: i32,
    pub replication_factor: i16,
    /// The topic's own options.
    pub config: Config,
}

/// A topic to delete, by name or by id: a null name and the zero id say "not given".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicToDelete {
    pub name: Option<String>,
    pub id: Uuid,
}

/// What became of one topic to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: Option<String>,
    pub id: Uuid,
    pub result: Result<(), Refusal>,
}

/// A topic to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    pub name: String,
    /// Partitions afterwards, in total.
    pub count: i32,
    /// Replicas of each new partition; `None`: the controller places them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// A broker that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub node: NodeId,
    /// Drawn anew by each process.
    pub incarnation: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// The ids of the log directories that can be used.
    pub log_dirs: Vec<Uuid>,
    /// Replicas that were found in other directories than the metadata says, or of which it says nothing.
    pub placed: Vec<Placed>,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub name: String,
    pub host: String,
    pub port: u16,
    /// `SecurityProtocol.id`: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// Why something was refused, in Kafka's categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    InvalidRequest,
    InvalidTopic,
    TopicExists,
    InvalidConfig,
    InvalidPartitions,
    InvalidReplicationFactor,
    InvalidReplicaAssignment,
    PolicyViolation,
    UnknownTopicOrPartition,
    UnknownTopicId,
    InvalidRegistration,
    UnsupportedVersion,
    Exhausted,
}

/// A refusal with the words for the client, where Kafka has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub message: Option<String>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: Some(message.into()) }
    }
}

/// Records to append, and what to answer when they are durable. Without records
/// the answer may leave at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub records: Vec<MetadataRecord>,
    pub answer: Answer,
}

/// See the head of this file.
pub struct Controller {
    /// What the process started with: the defaults that creation falls back to, below those in
    /// the metadata.
    broker: BrokerConfig,
    /// Draws a new topic id.
    draw: Box<dyn Fn() -> Uuid>,
    wishes: RefCell<Wishes>,
}

impl Controller {
    pub fn new(broker: BrokerConfig, draw: impl Fn() -> Uuid + 'static) -> Controller {
        Controller { broker, draw: Box::new(draw), wishes: RefCell::default() }
    }

    /// Forgets what was wished of partitions that an image has.
    pub fn forget_fulfilled(&self, image: &Image) {
        self.wishes.borrow_mut().forget_fulfilled(image);
    }

    /// The records that a log without any starts with.
    pub fn bootstrap_records() -> Vec<MetadataRecord> {
        let record = |(name, level): &(&str, i16)| {
            FeatureLevelRecord { name: (*name).to_string(), feature_level: *level, ..Default::default() }.into()
        };
        BOOTSTRAP_FEATURES.iter().map(record).collect()
    }

    /// Plans an intention. `image` holds everything that comes before it in the
    /// log, `next` is the offset its first record will have.
    pub fn plan(&self, image: &Image, next: Offset, intention: &Intention) -> Plan {
        match intention {
            Intention::CreateTopics { topics, validate_only } => self.create_topics(image, topics, *validate_only),
            Intention::DeleteTopics { topics } => delete_topics(image, topics),
            Intention::CreatePartitions { topics, validate_only } => {
                self.create_partitions(image, topics, *validate_only)
            }
            Intention::AlterConfigs { changes, validate_only } => {
                configs::alter(&self.broker, image, changes, *validate_only)
            }
            Intention::AllocateProducerIds { node } => allocate_producer_ids(image, *node),
            Intention::RegisterBroker(registration) => register_broker(image, next, registration),
            Intention::DirectoriesOffline { node, directories } => directories_offline(image, *node, directories),
            Intention::AssignDirectories { node, placed } => assign_directories(image, *node, placed),
            Intention::WishDirectories { wishes } => {
                self.wishes.borrow_mut().add(image, wishes);
                Plan { records: Vec::new(), answer: Answer::WishDirectories }
            }
        }
    }

    fn create_topics(&self, image: &Image, topics: &[NewTopic], validate_only: bool) -> Plan {
        let refuse_all = |refusal: Refusal| {
            let refused = topics.iter().map(|topic| (topic.name.clone(), Err(refusal.clone()))).collect();
            Plan { records: Vec::new(), answer: Answer::CreateTopics(refused) }
        };
        let partitions_of = |topic: &NewTopic| match (topic.assignments.len(), topic.partitions) {
            (0, -1) => self.broker.num_partitions.into(),
            (0, given) => i64::from(given.max(0)),
            (assigned, _) => assigned as i64,
        };
        if topics.iter().map(partitions_of).sum::<i64>() > RECORDS_PER_INTENTION_MAX as i64 {
            let words = "Excessively large number of partitions per request.";
            return refuse_all(Refusal::new(Reason::PolicyViolation, words));
        }
        let mut records = Vec::new();
        let wishes = self.wishes.borrow();
        let mut placer = Placer::new(image, &wishes);
        let mut answers: Vec<(String, Result<NewTopicAnswer, Refusal>)> = Vec::new();
        let twice = repeated(topics.iter().map(|topic| topic.name.as_str()));
        for topic in topics.iter().filter(|topic| !twice.contains(topic.name.as_str())) {
            let answer = match topic.name == METADATA_TOPIC {
                true => Err(Refusal::new(
                    Reason::InvalidRequest,
                    format!("Creation of internal topic {METADATA_TOPIC} is prohibited."),
                )),
                false => self.create_topic(&mut placer, topic, &mut records),
            };
            answers.push((topic.name.clone(), answer));
        }
        let twice = twice
            .into_iter()
            .map(|name| (name.to_string(), Err(Refusal::new(Reason::InvalidRequest, "Duplicate topic name."))));
        answers.extend(twice);
        if records.len() > RECORDS_PER_INTENTION_MAX {
            return refuse_all(too_large());
        }
        if validate_only {
            records.clear();
        }
        Plan { records, answer: Answer::CreateTopics(answers) }
    }

    fn create_topic(
        &self,
        placer: &mut Placer<'_>,
        topic: &NewTopic,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<NewTopicAnswer, Refusal> {
        let image = placer.image;
        let name = &topic.name;
        if image.topic(name).is_some() {
            return Err(Refusal::new(Reason::TopicExists, format!("Topic '{name}' already exists.")));
        }
        validate_topic_name(name)?;
        if let Some(existing) = image.topic_colliding_with(name) {
            let words = format!("Topic '{name}' collides with existing topic: {existing}");
            return Err(Refusal::new(Reason::InvalidTopic, words));
        }
        let config = self.topic_config(image, topic)?;
        placer.topic = name.clone();
        let partitions = self.place_topic(placer, topic)?;

        let id = (self.draw)();
        let answer = NewTopicAnswer {
            id,
            partitions: partitions.len() as i32,
            replication_factor: partitions[0].replicas.len() as i16,
            config: config.clone(),
        };
        // Kafka's order: topic, options, partitions.
        records.push(TopicRecord { name: name.clone(), topic_id: id, ..Default::default() }.into());
        records.extend(config.into_iter().map(|(option, value)| {
            MetadataRecord::from(ConfigRecord {
                resource_type: ResourceType::TOPIC.0,
                resource_name: name.clone(),
                name: option,
                value: Some(value),
                ..Default::default()
            })
        }));
        let numbered = (0..).zip(&partitions);
        records.extend(numbered.map(|(number, state)| MetadataRecord::from(state.to_record(id, number))));
        Ok(answer)
    }

    fn create_partitions(&self, image: &Image, topics: &[MorePartitions], validate_only: bool) -> Plan {
        let mut records = Vec::new();
        let wishes = self.wishes.borrow();
        let mut placer = Placer::new(image, &wishes);
        let twice = repeated(topics.iter().map(|topic| topic.name.as_str()));
        let mut answers: Vec<(String, Result<(), Refusal>)> = Vec::new();
        for name in &twice {
            answers.push((name.to_string(), Err(Refusal::new(Reason::InvalidRequest, "Duplicate topic name."))));
        }
        for topic in topics.iter().filter(|topic| !twice.contains(topic.name.as_str())) {
            let grown = grow_topic(&mut placer, topic);
            answers.push((topic.name.clone(), grown.map(|new| records.extend(new))));
        }
        if records.len() > RECORDS_PER_INTENTION_MAX {
            let refused = topics.iter().map(|topic| (topic.name.clone(), Err(too_large()))).collect();
            return Plan { records: Vec::new(), answer: Answer::CreatePartitions(refused) };
        }
        if validate_only {
            records.clear();
        }
        Plan { records, answer: Answer::CreatePartitions(answers) }
    }

    fn topic_config(&self, image: &Image, topic: &NewTopic) -> Result<Config, Refusal> {
        let nulls: Vec<&str> =
            topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
        if !nulls.is_empty() {
            let words = format!("Null value not supported for topic configs: {}", nulls.join(","));
            return Err(Refusal::new(Reason::InvalidConfig, words));
        }
        let given = |(name, value): &(String, Option<String>)| Some((name.clone(), value.clone()?));
        let config: Config = topic.configs.iter().filter_map(given).collect();
        TopicConfig::with_overrides(&configs::topic_defaults(&self.broker, image), &config)
            .map_err(|error| Refusal::new(Reason::InvalidConfig, error.to_string()))?;
        Ok(config)
    }

    fn place_topic(&self, placer: &mut Placer<'_>, topic: &NewTopic) -> Result<Vec<PartitionState>, Refusal> {
        if !topic.assignments.is_empty() {
            return place_by_hand(placer, topic);
        }
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let words = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(Reason::InvalidReplicationFactor, words));
        }
        if topic.partitions < -1 || topic.partitions == 0 {
            let words = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(Reason::InvalidPartitions, words));
        }
        let count = if topic.partitions == -1 { self.broker.num_partitions } else { topic.partitions };
        let factor = match topic.replication_factor {
            -1 => self.broker.default_replication_factor as i16,
            factor => factor,
        };
        place(placer, 0, count, factor)
    }
}

/// `Topic.CLUSTER_METADATA_TOPIC_NAME`.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn too_large() -> Refusal {
    Refusal::new(Reason::PolicyViolation, "Unable to perform excessively large batch operation.")
}

/// The names that come more than once.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// Checks the name of a topic to create (`Topic.validate`).
///
/// # Errors
/// Kafka's words on what is wrong with it.
pub fn validate_topic_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = match name {
        "" => "the empty string is not allowed".to_string(),
        "." => "'.' is not allowed".to_string(),
        ".." => "'..' is not allowed".to_string(),
        _ if name.encode_utf16().count() > TOPIC_NAME_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX}")
        }
        _ if !name.chars().all(legal) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(Reason::InvalidTopic, format!("Topic name is invalid: {wrong}")))
}

fn is_active(broker: &RegisterBrokerRecord) -> bool {
    !broker.fenced && !broker.in_controlled_shutdown
}

/// `DirectoryId.UNASSIGNED`: the broker is to choose.
const UNASSIGNED: Uuid = Uuid(1u128.to_be_bytes());

/// What is wished of partitions that do not exist yet (`LogManager.preferredLogDirs`): known as long as the process lives.
#[derive(Debug, Default)]
struct Wishes(BTreeMap<(String, i32), Uuid>);

impl Wishes {
    /// The last one counts. Of what cannot be, or is there, nothing is noted, and no more than [`WISHES_MAX`] at all.
    fn add(&mut self, image: &Image, wishes: &[Wish]) {
        for Wish { topic, partition, directory } in wishes {
            let is_there = image.topic(topic).is_some_and(|topic| topic.partitions.contains_key(partition));
            if is_there || *partition < 0 || validate_topic_name(topic).is_err() {
                continue;
            }
            let of = (topic.clone(), *partition);
            if self.0.len() < WISHES_MAX || self.0.contains_key(&of) {
                self.0.insert(of, *directory);
            }
        }
    }

    fn of(&self, topic: &str, partition: i32) -> Option<Uuid> {
        match self.0.is_empty() {
            true => None,
            false => self.0.get(&(topic.to_string(), partition)).copied(),
        }
    }

    fn forget_fulfilled(&mut self, image: &Image) {
        self.0
            .retain(|(topic, number), _| image.topic(topic).is_none_or(|topic| !topic.partitions.contains_key(number)));
    }
}

/// Gives new replicas their log directories: the one that is wished, or of those of the broker the one that holds the
/// fewest, with what the same intention places (`LogManager.nextLogDirs`; Kafka's controller leaves it to the broker, KIP-858).
struct Placer<'a> {
    image: &'a Image,
    wishes: &'a Wishes,
    /// Whose partitions are placed.
    topic: String,
    placed: HashMap<Uuid, usize>,
}

impl<'a> Placer<'a> {
    fn new(image: &'a Image, wishes: &'a Wishes) -> Placer<'a> {
        Placer { image, wishes, topic: String::new(), placed: HashMap::new() }
    }

    fn place(&mut self, node: NodeId, partition: i32) -> Uuid {
        let Some(broker) = self.image.broker(node) else { return UNASSIGNED };
        let cordoned = broker.cordoned_log_dirs.as_deref().unwrap_or_default();
        match self.wishes.of(&self.topic, partition).filter(|id| broker.log_dirs.contains(id) && !cordoned.contains(id))
        {
            Some(wished) => self.take(wished),
            None => self.place_in(&broker.log_dirs, cordoned),
        }
    }

    fn place_in(&mut self, directories: &[Uuid], cordoned: &[Uuid]) -> Uuid {
        let open = directories.iter().filter(|id| !cordoned.contains(id));
        let holds = |id: &Uuid| self.image.replicas_in(*id) + self.placed.get(id).copied().unwrap_or(0);
        let Some(chosen) = open.min_by_key(|id| holds(id)).copied() else { return UNASSIGNED };
        self.take(chosen)
    }

    fn take(&mut self, directory: Uuid) -> Uuid {
        *self.placed.entry(directory).or_default() += 1;
        directory
    }
}

/// The state of a partition at its creation. The replicas that are up make the
/// ISR, the first of them leads; there is at least one.
fn new_partition(placer: &mut Placer<'_>, number: i32, replicas: &[i32], isr: Vec<i32>) -> PartitionState {
    PartitionState {
        replicas: replicas.to_vec(),
        directories: replicas.iter().map(|replica| placer.place(NodeId(*replica), number)).collect(),
        leader: Some(NodeId(isr[0])),
        isr,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        eligible_leader_replicas: Vec::new(),
        last_known_leaders: Vec::new(),
        leader_recovery_state: 0,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
    }
}

fn active_of(image: &Image, replicas: &[i32]) -> Vec<i32> {
    let active = |replica: &i32| image.broker(NodeId(*replica)).is_some_and(is_active);
    replicas.iter().copied().filter(active).collect()
}

/// Places `count` partitions, the first of which is number `from`, on as many
/// hosts as they need replicas, in turn.
fn place(placer: &mut Placer<'_>, from: usize, count: i32, factor: i16) -> Result<Vec<PartitionState>, Refusal> {
    let image = placer.image;
    let refuse = |why: String| {
        let words = format!("Unable to replicate the partition {factor} time(s): {why}");
        Err(Refusal::new(Reason::InvalidReplicationFactor, words))
    };
    let (mut active, mut fenced) = (Vec::new(), Vec::new());
    for broker in image.brokers() {
        if is_active(broker) { &mut active } else { &mut fenced }.push(broker.broker_id);
    }
    let registered = active.len() + fenced.len();
    if active.is_empty() {
        return refuse("All brokers are currently fenced.".to_string());
    }
    if factor as usize > registered {
        return refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {registered} broker(s) are \
             registered or some brokers have all their log directories cordoned."
        ));
    }
    if count as usize > RECORDS_PER_INTENTION_MAX {
        return Err(too_large());
    }
    let partition = |number: usize| {
        // Those that are up first, from another one for each partition.
        let turn = |brokers: &[i32]| {
            let start = if brokers.is_empty() { 0 } else { (from + number) % brokers.len() };
            [&brokers[start..], &brokers[..start]].concat()
        };
        let replicas = &[turn(&active), turn(&fenced)].concat()[..factor as usize];
        new_partition(placer, (from + number) as i32, replicas, active_of(image, replicas))
    };
    Ok((0..count as usize).map(partition).collect())
}

/// Checks the brokers that are to hold a partition, as many as `factor` if that is known
/// (`validateManualPartitionAssignment`).
///
/// # Errors
/// Kafka's words on what is wrong with them.
pub fn validate_assignment(
    is_registered: impl Fn(i32) -> bool,
    replicas: &[i32],
    factor: Option<usize>,
) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(Reason::InvalidReplicaAssignment, why));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_string());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (i, broker) in sorted.iter().enumerate() {
        if !is_registered(*broker) {
            return refuse(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if i > 0 && sorted[i - 1] == *broker {
            return refuse(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
    }
    match factor {
        Some(factor) if factor != replicas.len() => refuse(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

fn assigned_partition(placer: &mut Placer<'_>, number: i32, replicas: &[i32]) -> Result<PartitionState, Refusal> {
    let isr = active_of(placer.image, replicas);
    if isr.is_empty() {
        let words = format!(
            "All brokers specified in the manual partition assignment for partition {number} are fenced or in \
             controlled shutdown."
        );
        return Err(Refusal::new(Reason::InvalidReplicaAssignment, words));
    }
    Ok(new_partition(placer, number, replicas, isr))
}

fn place_by_hand(placer: &mut Placer<'_>, topic: &NewTopic) -> Result<Vec<PartitionState>, Refusal> {
    let image = placer.image;
    let clash = |what: &str| {
        let words = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(Refusal::new(Reason::InvalidRequest, words))
    };
    if topic.replication_factor != -1 {
        return clash("replication factor");
    }
    if topic.partitions != -1 {
        return clash("numPartitions");
    }
    let mut states = BTreeMap::new();
    let mut factor = None;
    for (number, replicas) in &topic.assignments {
        if states.contains_key(number) {
            let words = format!("Found multiple manual partition assignments for partition {number}");
            return Err(Refusal::new(Reason::InvalidReplicaAssignment, words));
        }
        validate_assignment(|id| image.broker(NodeId(id)).is_some(), replicas, factor)?;
        factor = Some(replicas.len());
        states.insert(*number, assigned_partition(placer, *number, replicas)?);
    }
    if !states.keys().copied().eq(0..states.len() as i32) {
        let words = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refusal::new(Reason::InvalidReplicaAssignment, words));
    }
    Ok(states.into_values().collect())
}

fn delete_topics(image: &Image, topics: &[TopicToDelete]) -> Plan {
    let refusal = |reason: Reason, words: &str| Err(Refusal::new(reason, words));
    let mut answers = Vec::new();
    let mut answer = |name: Option<&str>, id: Uuid, result: Result<(), Refusal>| {
        answers.push(DeletedTopic { name: name.map(str::to_string), id, result });
    };
    let by_name = |topic: &TopicToDelete| topic.name.is_some() && topic.id.is_zero();
    let by_id = |topic: &TopicToDelete| topic.name.is_none() && !topic.id.is_zero();

    // 1. What the request says of itself.
    let names: Vec<&str> = topics.iter().filter(|t| by_name(t)).filter_map(|t| t.name.as_deref()).collect();
    let ids: Vec<Uuid> = topics.iter().filter(|t| by_id(t)).map(|t| t.id).collect();
    for topic in topics.iter().filter(|topic| !by_name(topic) && !by_id(topic)) {
        let words = match &topic.name {
            None => "Neither topic name nor id were specified.",
            Some(_) => "You may not specify both topic name and topic id.",
        };
        answer(topic.name.as_deref(), topic.id, refusal(Reason::InvalidRequest, words));
    }
    let mut seen = BTreeSet::new();
    let ids_twice: BTreeSet<Uuid> = ids.iter().copied().filter(|id| !seen.insert(*id)).collect();
    let names_twice = repeated(names.iter().copied());
    for name in &names_twice {
        answer(Some(name), Uuid::ZERO, refusal(Reason::InvalidRequest, "Duplicate topic name."));
    }
    for id in &ids_twice {
        answer(None, *id, refusal(Reason::InvalidRequest, "Duplicate topic id."));
    }

    // 2. What exists: by id, then by name.
    let mut found: BTreeMap<Uuid, String> = BTreeMap::new();
    for id in ids.iter().filter(|id| !ids_twice.contains(id)) {
        match image.topic_by_id(*id) {
            Some(topic) => drop(found.insert(*id, topic.name.to_string())),
            None => answer(None, *id, refusal(Reason::UnknownTopicId, "This server does not host this topic ID.")),
        }
    }
    for name in names.iter().filter(|name| !names_twice.contains(*name)) {
        let Some(topic) = image.topic(name) else {
            let words = "This server does not host this topic-partition.";
            answer(Some(name), Uuid::ZERO, refusal(Reason::UnknownTopicOrPartition, words));
            continue;
        };
        if ids_twice.contains(&topic.id) || found.insert(topic.id, topic.name.to_string()).is_some() {
            found.remove(&topic.id);
            let words = "The provided topic name maps to an ID that was already supplied.";
            answer(Some(name), topic.id, refusal(Reason::InvalidRequest, words));
        }
    }

    let mut records = Vec::new();
    let too_many = found.len() > RECORDS_PER_INTENTION_MAX;
    for (id, name) in found {
        if !too_many {
            records.push(RemoveTopicRecord { topic_id: id, ..Default::default() }.into());
        }
        answer(Some(&name), id, if too_many { Err(too_large()) } else { Ok(()) });
    }
    Plan { records, answer: Answer::DeleteTopics(answers) }
}

fn grow_topic(placer: &mut Placer<'_>, more: &MorePartitions) -> Result<Vec<MetadataRecord>, Refusal> {
    let image = placer.image;
    let unknown = Refusal { reason: Reason::UnknownTopicOrPartition, message: None };
    let topic = image.topic(&more.name).ok_or(unknown)?;
    let now = topic.partitions.len();
    let added = i64::from(more.count) - now as i64;
    if added == 0 {
        return Err(Refusal::new(Reason::InvalidPartitions, format!("Topic already has {now} partition(s).")));
    }
    if added < 0 {
        let words = format!(
            "The topic {} currently has {now} partition(s); {} would not be an increase.",
            more.name, more.count
        );
        return Err(Refusal::new(Reason::InvalidPartitions, words));
    }
    placer.topic = more.name.clone();
    let factor = topic.partitions.values().next().map_or(1, |state| state.replicas.len());
    let states = match &more.assignments {
        None => place(placer, now, added as i32, factor as i16)?,
        Some(assignments) if assignments.len() as i64 != added => {
            let words = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(Reason::InvalidReplicaAssignment, words));
        }
        Some(assignments) => {
            let mut states = Vec::new();
            for (i, replicas) in assignments.iter().enumerate() {
                validate_assignment(|id| image.broker(NodeId(id)).is_some(), replicas, Some(factor))?;
                states.push(assigned_partition(placer, (now + i) as i32, replicas)?);
            }
            states
        }
    };
    let numbered = (now as i32..).zip(states);
    Ok(numbered.map(|(number, state)| state.to_record(topic.id, number).into()).collect())
}

fn allocate_producer_ids(image: &Image, node: NodeId) -> Plan {
    let first = image.next_producer_id();
    let Some(next) = first.checked_add(PRODUCER_IDS_PER_BLOCK) else {
        let words = "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit";
        let refused = Err(Refusal::new(Reason::Exhausted, words));
        return Plan { records: Vec::new(), answer: Answer::AllocateProducerIds(refused) };
    };
    let record = ProducerIdsRecord {
        broker_id: node.0,
        broker_epoch: image.broker(node).map_or(-1, |broker| broker.broker_epoch),
        next_producer_id: next,
        ..Default::default()
    };
    let ids = ProducerIds { first, count: PRODUCER_IDS_PER_BLOCK };
    Plan { records: vec![record.into()], answer: Answer::AllocateProducerIds(Ok(ids)) }
}

/// Registers a process that starts as the only one of its cluster: registration,
/// unfencing, and a new leader epoch for each partition it leads. The new epoch
/// is what lets a consumer notice that a crash has cut off records it saw.
fn register_broker(image: &Image, next: Offset, registration: &Registration) -> Plan {
    let refuse = |reason: Reason, words: String| Plan {
        records: Vec::new(),
        answer: Answer::RegisterBroker(Err(Refusal::new(reason, words))),
    };
    let node = registration.node;
    if registration.log_dirs.is_empty() {
        return refuse(Reason::InvalidRegistration, "No directories specified in request".to_string());
    }
    if registration.log_dirs.iter().any(|id| id.is_reserved()) {
        return refuse(Reason::InvalidRegistration, "Reserved directory ID in request".to_string());
    }
    if let Err(refusal) = check_features(image) {
        return Plan { records: Vec::new(), answer: Answer::RegisterBroker(Err(refusal)) };
    }
    // A broker's epoch is the offset of its registration.
    let epoch = next.0;
    let end_points = registration.endpoints.iter().map(|endpoint| BrokerEndpoint {
        name: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..Default::default()
    });
    let served = SUPPORTED_FEATURES.iter().copied();
    let accepted = ACCEPTED_FEATURES.iter().map(|(name, max)| (*name, 0, *max));
    let features = served.chain(accepted).map(|(name, min_supported_version, max_supported_version)| BrokerFeature {
        name: name.to_string(),
        min_supported_version,
        max_supported_version,
        ..Default::default()
    });
    let registered = RegisterBrokerRecord {
        broker_id: node.0,
        incarnation_id: registration.incarnation,
        broker_epoch: epoch,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: registration.rack.clone(),
        log_dirs: registration.log_dirs.clone(),
        ..Default::default()
    };
    let unfenced =
        BrokerRegistrationChangeRecord { broker_id: node.0, broker_epoch: epoch, fenced: -1, ..Default::default() };
    let mut records = vec![registered.into(), unfenced.into()];
    let placed: HashMap<(Uuid, i32), Uuid> =
        registration.placed.iter().map(|placed| ((placed.topic, placed.partition), placed.directory)).collect();
    let wishes = Wishes::default();
    let mut placer = Placer::new(image, &wishes);
    for topic in image.topics() {
        for (number, state) in &topic.partitions {
            let found_in = placed.get(&(topic.id, *number)).copied();
            let change = start_again(topic.id, *number, state, registration, found_in, &mut placer);
            records.extend(change.map(MetadataRecord::from));
        }
    }
    Plan { records, answer: Answer::RegisterBroker(Ok(epoch)) }
}

/// `PartitionChangeRecord.leader`: nobody leads (`LeaderConstants.NO_LEADER`).
const NO_LEADER: i32 = -1;

/// What the start of a node changes of a partition: whether it is led, and where its replica lies. One that the
/// metadata has in no directory yet gets one when it is led.
fn start_again(
    topic_id: Uuid,
    partition_id: i32,
    state: &PartitionState,
    registration: &Registration,
    found_in: Option<Uuid>,
    placer: &mut Placer<'_>,
) -> Option<PartitionChangeRecord> {
    let node = registration.node;
    let said = state.directory_of(node)?;
    let directory = found_in.unwrap_or(said);
    let is_open = directory == UNASSIGNED || directory.is_zero();
    // `DirectoryId.isOnline`.
    let change = match is_open || registration.log_dirs.contains(&directory) {
        true => lead_again(topic_id, partition_id, state, node),
        false => (state.leader == Some(node)).then(|| no_leader(topic_id, partition_id)),
    };
    let directory = match is_open && change.is_some() {
        true => placer.place_in(&registration.log_dirs, &[]),
        false => directory,
    };
    if directory == said {
        return change;
    }
    let directories = Some(state.directories_with(node, directory));
    let change = change.unwrap_or(PartitionChangeRecord { partition_id, topic_id, ..PartitionChangeRecord::default() });
    Some(PartitionChangeRecord { directories, ..change })
}

fn no_leader(topic_id: Uuid, partition_id: i32) -> PartitionChangeRecord {
    PartitionChangeRecord { partition_id, topic_id, leader: NO_LEADER, ..Default::default() }
}

/// As `ReplicationControlManager.handleDirectoriesOffline` for a node that holds every replica.
fn directories_offline(image: &Image, node: NodeId, offline: &[Uuid]) -> Plan {
    let mut records = Vec::new();
    let broker = image.broker(node);
    if let Some(broker) = broker.filter(|broker| broker.log_dirs.iter().any(|id| offline.contains(id))) {
        for topic in image.topics() {
            for (number, state) in &topic.partitions {
                let lost = state.directory_of(node).is_some_and(|directory| offline.contains(&directory));
                if lost && state.leader == Some(node) {
                    records.push(no_leader(topic.id, *number).into());
                }
            }
        }
        let left = broker.log_dirs.iter().copied().filter(|id| !offline.contains(id));
        let (broker_id, broker_epoch, log_dirs) = (node.0, broker.broker_epoch, left.collect());
        records.push(BrokerRegistrationChangeRecord { broker_id, broker_epoch, log_dirs, ..Default::default() }.into());
    }
    Plan { records, answer: Answer::DirectoriesOffline }
}

/// What is gone meanwhile, or lies there already, is left out.
fn assign_directories(image: &Image, node: NodeId, placed: &[Placed]) -> Plan {
    let change = |placed: &Placed| {
        let state = image.partition(placed.topic, placed.partition)?;
        let moves = state.directory_of(node).is_some_and(|directory| directory != placed.directory);
        moves.then(|| {
            MetadataRecord::from(PartitionChangeRecord {
                partition_id: placed.partition,
                topic_id: placed.topic,
                directories: Some(state.directories_with(node, placed.directory)),
                ..Default::default()
            })
        })
    };
    Plan { records: placed.iter().filter_map(change).collect(), answer: Answer::AssignDirectories }
}

/// The change by which a node that starts leads a partition, if it may: it led,
/// or nobody does and it is known to hold every acknowledged record.
fn lead_again(
    topic_id: Uuid,
    partition_id: i32,
    state: &PartitionState,
    node: NodeId,
) -> Option<PartitionChangeRecord> {
    let in_sync = state.isr.contains(&node.0);
    let eligible = in_sync || state.eligible_leader_replicas.contains(&node.0);
    if state.leader != Some(node) && !(state.leader.is_none() && eligible) {
        return None;
    }
    Some(PartitionChangeRecord {
        partition_id,
        topic_id,
        leader: node.0,
        isr: (!in_sync).then(|| vec![node.0]),
        eligible_leader_replicas: (!state.eligible_leader_replicas.is_empty()).then(Vec::new),
        last_known_elr: (!state.last_known_leaders.is_empty()).then(Vec::new),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests;
