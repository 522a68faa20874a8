//! What a run needs to know of the cluster before and after the data flows: who
//! leads which partition, where the partitions begin and end, and what the
//! topic's flush setting promises. One question at a time over a blocking socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::batches::Producer;
use crate::failure;
use crate::failure::{Doing, Outcome, error_name, is_retriable};

/// How we name ourselves to brokers.
pub const CLIENT_ID: &str = "corelog-bench";

/// No answer for so long ends the run.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So much longer where the broker may still be busy with partitions that were just made: Kafka with thousands takes minutes.
const CREATION_PATIENCE: Duration = Duration::from_secs(300);

/// And so much for each of its partitions: Kafka makes thousands in minutes.
const PATIENCE_A_PARTITION: Duration = Duration::from_millis(20);

/// How long a broker may take to make partitions.
const CREATION_TIMEOUT_MS: i32 = 30_000;

/// `ConfigResource.Type.TOPIC`.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

/// Larger frames are no answers to anything asked here.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One connection, its broker's versions known.
pub struct Connection {
    pub stream: TcpStream,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
    address: String,
}

impl Connection {
    /// Connects to `host:port` and asks for the versions.
    pub fn open(address: &str) -> Outcome<Connection> {
        let target = address
            .to_socket_addrs()
            .doing(|| format!("find {address}"))?
            .next()
            .ok_or_else(|| failure!("{address} has no address"))?;
        let stream = TcpStream::connect_timeout(&target, PATIENCE).doing(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).doing(|| format!("set up the connection to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE)).doing(|| format!("set up the connection to {address}"))?;
        let mut connection =
            Connection { stream, versions: BTreeMap::new(), correlation_id: 0, address: address.to_owned() };
        connection.learn_versions()?;
        Ok(connection)
    }

    fn learn_versions(&mut self) -> Outcome<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.exchange(ApiKey::ApiVersions as i16, 3, &request)?;
        // A broker that knows only older versions answers in version 0.
        let version = if answer.len() >= 2 && answer[..2] == 35i16.to_be_bytes() { 0 } else { 3 };
        let answer = ApiVersionsResponse::decode(&mut answer, version)
            .doing(|| format!("read versions from {}", self.address))?;
        self.versions = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    /// The version to speak for `api`: the highest that the broker has and we
    /// speak, ours being `ours`.
    pub fn version(&self, api: ApiKey, ours: std::ops::RangeInclusive<i16>) -> Outcome<i16> {
        let Some(&(min, max)) = self.versions.get(&(api as i16)) else {
            return Err(failure!("{} does not serve {api:?}", self.address));
        };
        let version = max.min(*ours.end());
        if version < min || version < *ours.start() {
            return Err(failure!("{} serves {api:?} {min} to {max}, corelog-bench speaks {ours:?}", self.address));
        }
        Ok(version)
    }

    /// Sends one request and waits for its answer.
    pub fn call<R: Request>(&mut self, request: &R) -> Outcome<R::Response> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| failure!("API {} is unknown", R::KEY))?;
        let cap = match api {
            // Version 10 is between brokers.
            ApiKey::ListOffsets => 9,
            // Version 6 is for two-phase commit and not settled.
            ApiKey::InitProducerId => 5,
            _ => R::VERSIONS.max,
        };
        let version = self.version(api, R::VERSIONS.min..=cap)?;
        let mut answer = self.exchange(R::KEY, version, request)?;
        if R::Response::header_version(version) >= 1 {
            skip_tags(&mut answer).ok_or_else(|| failure!("{} sent a cut answer", self.address))?;
        }
        R::Response::decode(&mut answer, version).doing(|| format!("read the answer of {} to {api:?}", self.address))
    }

    /// Asks for a producer id of our own. The coordinator of a producer without
    /// transactions is any broker.
    pub fn producer(&mut self) -> Outcome<Producer> {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let request = request.with_producer_id((-1).into()).with_producer_epoch(-1);
        let begun = Instant::now();
        loop {
            let answer = self.call(&request)?;
            if answer.error_code == 0 {
                return Ok(Producer { id: answer.producer_id.0, epoch: answer.producer_epoch });
            }
            if !is_retriable(answer.error_code) || begun.elapsed() > PATIENCE {
                return Err(failure!("get a producer id: {}", error_name(answer.error_code)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a frame and returns the answer's bytes after the correlation id.
    fn exchange<R: Encodable + HeaderVersion>(&mut self, key: i16, version: i16, request: &R) -> Outcome<Bytes> {
        self.correlation_id += 1;
        let frame = frame(key, version, self.correlation_id, request)?;
        let what = || format!("talk to {}", self.address);
        self.stream.write_all(&frame).doing(what)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).doing(what)?;
        let size = u32::from_be_bytes(size) as usize;
        if !(4..=ANSWER_BYTES_MAX).contains(&size) {
            return Err(failure!("{} sent a frame of {size} bytes", self.address));
        }
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).doing(what)?;
        let mut bytes = Bytes::from(bytes);
        let correlation_id = bytes.get_i32();
        if correlation_id != self.correlation_id {
            return Err(failure!(
                "{} answered request {correlation_id} instead of {}",
                self.address,
                self.correlation_id
            ));
        }
        Ok(bytes)
    }
}

/// A whole request frame with its size.
pub fn frame<R: Encodable + HeaderVersion>(
    key: i16,
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Outcome<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut bytes = BytesMut::new();
    bytes.put_u32(0);
    header.encode(&mut bytes, R::header_version(version)).doing(|| format!("write a request of API {key}"))?;
    request.encode(&mut bytes, version).doing(|| format!("write a request of API {key}"))?;
    let size = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    Ok(bytes)
}

fn skip_tags(bytes: &mut Bytes) -> Option<()> {
    let varint = |bytes: &mut Bytes| {
        let mut value = 0u32;
        for shift in (0..32).step_by(7) {
            let byte = bytes.try_get_u8().ok()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    for _ in 0..varint(bytes)? {
        varint(bytes)?;
        let len = varint(bytes)? as usize;
        if bytes.len() < len {
            return None;
        }
        bytes.advance(len);
    }
    Some(())
}

/// A topic and who leads its partitions.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    /// Zero when the broker knows no topic ids.
    pub id: u128,
    /// Every broker that leads a partition, with the partitions it leads.
    pub leaders: Vec<Leader>,
}

/// A broker and what it leads.
#[derive(Clone, Debug)]
pub struct Leader {
    pub address: String,
    pub partitions: Vec<i32>,
}

impl Topic {
    pub fn partitions(&self) -> usize {
        self.leaders.iter().map(|leader| leader.partitions.len()).sum()
    }

    /// The id in the crate's own type, which only its text form gives us a way into.
    pub fn topic_id<U: std::str::FromStr>(&self) -> U {
        format!("{:032x}", self.id).parse().ok().expect("32 hexadecimal digits are an id")
    }

    pub fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.name.clone()))
    }
}

/// What a missing topic is created with.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

/// Looks the topic up and waits until every partition has a leader. A missing
/// topic is created when `new` says how, otherwise it is an error.
pub fn topic(bootstrap: &str, name: &str, new: Option<&NewTopic>) -> Outcome<Topic> {
    let mut connection = Connection::open(bootstrap)?;
    let begun = Instant::now();
    let mut created = false;
    loop {
        let why = match look_up(&mut connection, name)? {
            LookUp::Ready(topic) => match new {
                Some(new) if created && topic.partitions() < new.partitions.max(0) as usize => {
                    format!("{} of {} partitions are shown", topic.partitions(), new.partitions)
                }
                _ => return Ok(topic),
            },
            LookUp::NotYet(why) => why,
            LookUp::Missing => match new {
                Some(new) if !created => {
                    create(&mut connection, name, new)?;
                    created = true;
                    continue;
                }
                Some(_) => String::from("it was created but is not shown"),
                None => return Err(failure!("topic {name} does not exist at {bootstrap}")),
            },
        };
        let more =
            new.map_or(Duration::ZERO, |new| CREATION_PATIENCE + PATIENCE_A_PARTITION * new.partitions.max(0) as u32);
        if begun.elapsed() > PATIENCE + more {
            return Err(failure!("topic {name} is not ready at {bootstrap}: {why}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

enum LookUp {
    Ready(Topic),
    NotYet(String),
    Missing,
}

fn look_up(connection: &mut Connection, name: &str) -> Outcome<LookUp> {
    let wanted = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let answer = connection.call(&request)?;
    let Some(topic) = answer.topics.first() else { return Ok(LookUp::Missing) };
    match topic.error_code {
        0 => {}
        3 => return Ok(LookUp::Missing),
        code => return Ok(LookUp::NotYet(error_name(code))),
    }
    let mut leaders = BTreeMap::<i32, Leader>::new();
    for partition in &topic.partitions {
        let broker = answer.brokers.iter().find(|broker| broker.node_id == partition.leader_id);
        let (0, Some(broker)) = (partition.error_code, broker) else {
            return Ok(LookUp::NotYet(format!("partition {} has no leader", partition.partition_index)));
        };
        let address = format!("{}:{}", broker.host, broker.port);
        let leader = leaders.entry(broker.node_id.0).or_insert_with(|| Leader { address, partitions: Vec::new() });
        leader.partitions.push(partition.partition_index);
    }
    let mut leaders: Vec<Leader> = leaders.into_values().collect();
    leaders.iter_mut().for_each(|leader| leader.partitions.sort_unstable());
    Ok(LookUp::Ready(Topic { name: name.to_owned(), id: topic.topic_id.as_u128(), leaders }))
}

/// KRaft controllers refuse to write more records for one request than 10,000, one for each partition and some for the
/// topic (`QuorumController.MAX_RECORDS_PER_USER_OP`): the partitions beyond come in further requests.
const PARTITIONS_A_REQUEST: i32 = 5000;

fn create(connection: &mut Connection, name: &str, new: &NewTopic) -> Outcome<()> {
    let configs = new.configs.iter().map(|(name, value)| {
        let value = Some(StrBytes::from_string(value.clone()));
        CreatableTopicConfig::default().with_name(StrBytes::from_string(name.clone())).with_value(value)
    });
    let mut partitions = new.partitions.min(PARTITIONS_A_REQUEST);
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_num_partitions(partitions)
        .with_replication_factor(new.replication_factor)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(CREATION_TIMEOUT_MS);
    let answer = connection.call(&request)?;
    let topic = answer.topics.first();
    let said = topic.map(|topic| (topic.error_code, topic.error_message.as_ref().map(|text| text.to_string())));
    check_done(&format!("create topic {name}"), said)?;
    while partitions < new.partitions {
        partitions = new.partitions.min(partitions + PARTITIONS_A_REQUEST);
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_count(partitions)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(CREATION_TIMEOUT_MS);
        let answer = connection.call(&request)?;
        let topic = answer.results.first();
        let said = topic.map(|topic| (topic.error_code, topic.error_message.as_ref().map(|text| text.to_string())));
        check_done(&format!("give topic {name} {partitions} partitions"), said)?;
    }
    Ok(())
}

/// What was said of the one topic that was asked for: error code and text.
fn check_done(what: &str, said: Option<(i16, Option<String>)>) -> Outcome<()> {
    match said {
        Some((0, _)) => Ok(()),
        Some((code, text)) => {
            let text = text.map(|text| format!(": {text}")).unwrap_or_default();
            Err(failure!("{what}: {}{text}", error_name(code)))
        }
        None => Err(failure!("{what}: the answer names no topic")),
    }
}

/// Gives an option of a topic another value (IncrementalAlterConfigs).
pub fn alter_topic(bootstrap: &str, name: &str, option: &str, value: &str) -> Outcome<()> {
    alter(bootstrap, TOPIC_RESOURCE, name, option, value)
}

/// Gives an option of all brokers another value.
pub fn alter_brokers(bootstrap: &str, option: &str, value: &str) -> Outcome<()> {
    alter(bootstrap, BROKER_RESOURCE, "", option, value)
}

fn alter(bootstrap: &str, kind: i8, name: &str, option: &str, value: &str) -> Outcome<()> {
    let change = AlterableConfig::default()
        .with_name(StrBytes::from_string(option.to_owned()))
        .with_value(Some(StrBytes::from_string(value.to_owned())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = Connection::open(bootstrap)?.call(&request)?;
    let resource = answer.responses.first();
    let said = resource.map(|said| (said.error_code, said.error_message.as_ref().map(|text| text.to_string())));
    check_done(&format!("set {option} of {name:?} to {value}"), said)
}

/// Deletes the topic if it exists and waits until it is gone.
pub fn delete_topic(bootstrap: &str, name: &str) -> Outcome<()> {
    let mut connection = Connection::open(bootstrap)?;
    if let LookUp::Missing = look_up(&mut connection, name)? {
        return Ok(());
    }
    let topic_name = TopicName(StrBytes::from_string(name.to_owned()));
    // Names before version 6, states with names from it on; the encoder refuses
    // the field of the other form.
    let version = connection.version(ApiKey::DeleteTopics, 1..=6)?;
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
    let request = if version >= 6 {
        request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name))])
    } else {
        request.with_topic_names(vec![topic_name])
    };
    let answer = connection.call(&request)?;
    let code = answer.responses.first().map_or(-1, |topic| topic.error_code);
    if code != 0 {
        return Err(failure!("delete topic {name}: {}", error_name(code)));
    }
    let begun = Instant::now();
    while !matches!(look_up(&mut connection, name)?, LookUp::Missing) {
        if begun.elapsed() > PATIENCE {
            return Err(failure!("topic {name} was deleted but is still shown"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Where each partition begins (`-2`) or ends (`-1`, at the high watermark), by
/// `ListOffsets` at its leader. Waits while a leader does not know yet that it
/// leads, as just after a topic's creation.
pub fn offsets(topic: &Topic, timestamp: i64) -> Outcome<BTreeMap<i32, i64>> {
    let mut found = BTreeMap::new();
    let begun = Instant::now();
    let patience = CREATION_PATIENCE + PATIENCE_A_PARTITION * topic.partitions() as u32;
    for leader in &topic.leaders {
        let mut connection = Connection::open(&leader.address)?;
        let request = offsets_request(topic, &leader.partitions, timestamp);
        loop {
            let answer = connection.call(&request)?;
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let Some(wrong) = partitions.clone().find(|partition| partition.error_code != 0) else {
                found.extend(partitions.by_ref().map(|partition| (partition.partition_index, partition.offset)));
                break;
            };
            if !is_retriable(wrong.error_code) || begun.elapsed() > patience {
                let error = error_name(wrong.error_code);
                return Err(failure!("list offsets of {}-{}: {error}", topic.name, wrong.partition_index));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if found.len() != topic.partitions() {
        return Err(failure!(
            "list offsets of {}: {} of {} partitions answered",
            topic.name,
            found.len(),
            topic.partitions()
        ));
    }
    Ok(found)
}

fn offsets_request(topic: &Topic, partitions: &[i32], timestamp: i64) -> ListOffsetsRequest {
    let partitions = partitions.iter().map(|&partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp)
    });
    let wanted = ListOffsetsTopic::default().with_name(topic.topic_name()).with_partitions(partitions.collect());
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted])
}

/// The topic's `flush.messages` as the broker describes it; `None` when it does
/// not say.
pub fn flush_messages(bootstrap: &str, topic: &str) -> Option<i64> {
    let mut connection = Connection::open(bootstrap).ok()?;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("flush.messages")]));
    let answer = connection.call(&DescribeConfigsRequest::default().with_resources(vec![resource])).ok()?;
    let config = answer.results.first()?.configs.first()?;
    config.value.as_ref()?.parse().ok()
}
