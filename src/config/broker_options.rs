//! The table of broker options. Kafka's first, in the order of a reader's
//! questions; what corelog adds comes last.
//!
//! Kafka's other options are known by name only, see `kafka_names.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::broker::{Advertise, Said};
use super::cores::CoreList;
use super::dynamic::Dynamic;
use super::listener::Listener;
use super::option::{Allowed, Change, Effect, KafkaDefault, options};
use super::topic::{CleanupPolicy, CompressionType, TimestampType};
use crate::base::NodeId;

const NEVER: Option<&str> = Some("9223372036854775807");
const NO_LIMIT: Option<&str> = Some("2147483647");

const ONE_NODE: Effect = Effect::None("one node holds every replica there is");
const OWN_CONTROLLER: Effect = Effect::None("the controller runs inside the process, on core 0");
const CORES_ARE_THREADS: Effect = Effect::None("one thread per core does everything; see `cores`");
const NO_TRANSACTIONS_YET: Effect = Effect::None("transactions are not there yet");
const UNCOUNTED: Effect = Effect::None("connections are not counted yet; the limit on open files bounds them");
const CLASSIC_GROUPS_ONLY: Effect = Effect::None("groups are of the classic kind; KIP-848 is not there yet");

options! {
    /// The effective options of this process: what was said, resolved to what it
    /// means (a listener has its protocol, `log_dirs` is never empty).
    #[derive(Clone, Debug)]
    BrokerConfig, BROKER_OPTIONS,
    {
        // Who and where.
        node_id: NodeId = "node.id" { default: Some("0"), kafka_default: KafkaDefault::Required, allowed: Allowed::Between(0, 2_097_150), synonyms: &["broker.id"] }
            "Number of this process in its cluster. In `advertise=core` mode clients see core c as broker node.id * 1024 + c. A data directory belongs to one node id. Kafka demands a value; 0 makes a single node show brokers 0, 1, 2.";
        broker_id: i32 = "broker.id" { default: Some("-1"), allowed: Allowed::Between(-1, 2_097_150) }
            "Kafka's older name of `node.id`.";
        broker_rack: Option<String> = "broker.rack" { }
            "Where the machine stands, for clients that fetch from a near replica.";
        process_roles: Vec<String> = "process.roles" { default: Some("broker,controller"), kafka_default: KafkaDefault::Required, allowed: Allowed::OneOf(&["broker", "controller"]), effect: OWN_CONTROLLER }
            "A corelog process is broker and controller in one. `controller` alone is refused, and so is `broker` alone, which would expect a controller elsewhere.";
        log_dir: Vec<String> = "log.dir" { default: Some("corelog-data"), kafka_default: KafkaDefault::Text("/tmp/kafka-logs") }
            "The data directory where `log.dirs` is not set; made and formatted at the first start. Kafka's default lies where many systems keep memory and delete at boot, so ours is a directory of this name in the working directory.";
        log_dirs: Vec<PathBuf> = "log.dirs" { synonyms: &["log.dir"] }
            "The data directories, one for each drive. A new partition goes to the one with the fewest; when a drive fails, its partitions are offline and the others go on. `--data-dir` sets it.";
        metadata_log_dir: Option<PathBuf> = "metadata.log.dir" { }
            "The directory of the metadata log; the first of `log.dirs` when it is not set. It may be one of them or another one. Without it the broker does not run.";

        // Listeners.
        listeners: Vec<Listener> = "listeners" { default: Some("PLAINTEXT://:9092") }
            "Where the broker accepts connections: NAME://HOST:PORT, several with commas. An empty host means all addresses. In `advertise=core` mode core c listens on PORT + c. Listeners named in `controller.listener.names` are left out, since the controller runs inside the process.";
        advertised_listeners: Vec<Listener> = "advertised.listeners" { synonyms: &["listeners"] }
            "The addresses that clients are told, one per listener: NAME://HOST:PORT. In `advertise=core` mode core c is shown at PORT + c. What is not given here is taken from `listeners`, with the machine's host name for an empty host.";
        listener_security_protocol_map: String = "listener.security.protocol.map" { default: Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT") }
            "The protocol of each listener name. Only PLAINTEXT can be used so far.";
        inter_broker_listener_name: Option<String> = "inter.broker.listener.name" { effect: ONE_NODE }
            "The listener that brokers use among themselves.";
        controller_listener_names: Vec<String> = "controller.listener.names" { kafka_default: KafkaDefault::Required, effect: OWN_CONTROLLER }
            "Listeners of Kafka's controller: these are not opened.";
        controller_quorum_voters: Vec<String> = "controller.quorum.voters" { default: Some(""), effect: OWN_CONTROLLER }
            "Kafka's controllers. Naming any other than this node is refused.";
        controller_quorum_bootstrap_servers: Vec<String> = "controller.quorum.bootstrap.servers" { default: Some(""), effect: OWN_CONTROLLER }
            "Where Kafka's controllers are found. Naming more than one is refused.";

        // Topics.
        num_partitions: i32 = "num.partitions" { default: Some("1"), allowed: Allowed::AtLeast(1) }
            "Partitions of a topic that is created without a number, also by auto-creation.";
        default_replication_factor: i32 = "default.replication.factor" { default: Some("1"), allowed: Allowed::AtLeast(1) }
            "Replicas of a topic that is created without a number. Replicas count hosts, not cores: one host cannot hold two.";
        auto_create_topics_enable: bool = "auto.create.topics.enable" { default: Some("true") }
            "Whether a producer's or consumer's question for an unknown topic creates it.";
        delete_topic_enable: bool = "delete.topic.enable" { default: Some("true") }
            "Whether topics can be deleted.";
        min_insync_replicas: i32 = "min.insync.replicas" { default: Some("1"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide }
            "How many replicas must hold a record before acks=all is answered.";
        unclean_leader_election_enable: bool = "unclean.leader.election.enable" { default: Some("false"), change: Change::ClusterWide, effect: ONE_NODE }
            "Whether a replica that was not in sync may become leader, at the price of records.";
        max_request_partition_size_limit: i32 = "max.request.partition.size.limit" { default: Some("2000"), allowed: Allowed::AtLeast(1) }
            "Most partitions that one request for topic partitions is answered with (DescribeTopicPartitions).";

        // Requests and connections.
        message_max_bytes: i32 = "message.max.bytes" { default: Some("1048588"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Largest batch, as it is compressed and with its header, that a producer may append.";
        socket_request_max_bytes: i32 = "socket.request.max.bytes" { default: Some("104857600"), allowed: Allowed::AtLeast(1) }
            "Largest request. A connection that announces a larger one is closed.";
        socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes" { default: Some("-1"), kafka_default: KafkaDefault::Text("102400"), allowed: Allowed::AtLeast(-1) }
            "Size of the kernel's send buffer of a connection; -1 leaves it to the kernel. corelog leaves it, because Linux then grows the buffer with the connection's speed and stops doing so once a size is set.";
        socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes" { default: Some("-1"), kafka_default: KafkaDefault::Text("102400"), allowed: Allowed::AtLeast(-1) }
            "Size of the kernel's receive buffer of a connection; -1 leaves it to the kernel, which is corelog's default for the same reason as with `socket.send.buffer.bytes`.";
        socket_listen_backlog_size: i32 = "socket.listen.backlog.size" { default: Some("1024"), kafka_default: KafkaDefault::Text("50"), allowed: Allowed::AtLeast(1) }
            "Connections that may wait to be accepted. Kafka's 50 is small for the moment after a restart, when every client comes back at once; the kernel's net.core.somaxconn still bounds it.";
        max_connections: i32 = "max.connections" { default: NO_LIMIT, allowed: Allowed::AtLeast(0), change: Change::ClusterWide, effect: UNCOUNTED }
            "Most connections of the process; one more is closed as it comes.";
        max_connections_per_ip: i32 = "max.connections.per.ip" { default: NO_LIMIT, allowed: Allowed::AtLeast(0), change: Change::ClusterWide, effect: UNCOUNTED }
            "Most connections from one address.";
        connections_max_idle_ms: i64 = "connections.max.idle.ms" { default: Some("600000") }
            "A connection on which nothing happened for this long is closed; a negative number never.";
        request_timeout_ms: i32 = "request.timeout.ms" { default: Some("30000"), effect: ONE_NODE }
            "How long a broker waits for another broker's answer.";
        fetch_max_bytes: i32 = "fetch.max.bytes" { default: Some("57671680"), allowed: Allowed::AtLeast(1024) }
            "Most record bytes in one answer to a fetch, whatever the client asks for.";
        max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots" { default: Some("1000"), allowed: Allowed::AtLeast(0) }
            "Fetch sessions (KIP-227) kept at once, in each core.";
        queued_max_requests: i32 = "queued.max.requests" { default: Some("500"), allowed: Allowed::AtLeast(1), effect: Effect::None("requests are bounded by bytes; see `request.memory.bytes.per.core`") }
            "Kafka's bound on requests between its threads.";
        queued_max_request_bytes: i64 = "queued.max.request.bytes" { default: Some("-1"), effect: Effect::None("requests are bounded by bytes; see `request.memory.bytes.per.core`") }
            "Kafka's bound on bytes of requests between its threads.";
        num_network_threads: i32 = "num.network.threads" { default: Some("3"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide, effect: CORES_ARE_THREADS }
            "Kafka's number of network threads.";
        num_io_threads: i32 = "num.io.threads" { default: Some("8"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide, effect: CORES_ARE_THREADS }
            "Kafka's number of request threads.";
        background_threads: i32 = "background.threads" { default: Some("10"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide, effect: CORES_ARE_THREADS }
            "Kafka's number of background threads.";
        num_recovery_threads_per_data_dir: i32 = "num.recovery.threads.per.data.dir" { default: Some("2"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide, effect: CORES_ARE_THREADS }
            "Kafka's number of threads that recover logs; here every core recovers its own.";

        // The defaults of topics.
        compression_type: CompressionType = "compression.type" { default: Some("producer"), allowed: Allowed::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), change: Change::ClusterWide }
            "Default of the topic option of the same name.";
        compression_gzip_level: i32 = "compression.gzip.level" { default: Some("-1"), allowed: Allowed::MinusOneOrBetween(1, 9), change: Change::ClusterWide }
            "Default of the topic option of the same name.";
        compression_lz4_level: i32 = "compression.lz4.level" { default: Some("9"), allowed: Allowed::Between(1, 17), change: Change::ClusterWide }
            "Default of the topic option of the same name.";
        compression_zstd_level: i32 = "compression.zstd.level" { default: Some("3"), allowed: Allowed::Between(-131_072, 22), change: Change::ClusterWide }
            "Default of the topic option of the same name.";
        log_cleanup_policy: CleanupPolicy = "log.cleanup.policy" { default: Some("delete"), allowed: Allowed::OneOf(&["compact", "delete"]), change: Change::ClusterWide }
            "Default of the topic option `cleanup.policy`.";
        log_segment_bytes: i32 = "log.segment.bytes" { default: Some("1073741824"), allowed: Allowed::AtLeast(1_048_576), change: Change::ClusterWide }
            "Default of the topic option `segment.bytes`.";
        log_roll_ms: Option<i64> = "log.roll.ms" { allowed: Allowed::AtLeast(1), change: Change::ClusterWide, synonyms: &["log.roll.hours"] }
            "Default of the topic option `segment.ms`.";
        log_roll_hours: i32 = "log.roll.hours" { default: Some("168"), allowed: Allowed::AtLeast(1) }
            "Default of the topic option `segment.ms` where `log.roll.ms` is not set.";
        log_roll_jitter_ms: Option<i64> = "log.roll.jitter.ms" { allowed: Allowed::AtLeast(0), change: Change::ClusterWide, synonyms: &["log.roll.jitter.hours"] }
            "Default of the topic option `segment.jitter.ms`.";
        log_roll_jitter_hours: i32 = "log.roll.jitter.hours" { default: Some("0"), allowed: Allowed::AtLeast(0) }
            "Default of the topic option `segment.jitter.ms` where `log.roll.jitter.ms` is not set.";
        log_index_interval_bytes: i32 = "log.index.interval.bytes" { default: Some("4096"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `index.interval.bytes`.";
        log_index_size_max_bytes: i32 = "log.index.size.max.bytes" { default: Some("10485760"), allowed: Allowed::AtLeast(4), change: Change::ClusterWide }
            "Default of the topic option `segment.index.bytes`.";
        log_retention_bytes: i64 = "log.retention.bytes" { default: Some("-1"), change: Change::ClusterWide }
            "Default of the topic option `retention.bytes`.";
        log_retention_ms: Option<i64> = "log.retention.ms" { change: Change::ClusterWide, synonyms: &["log.retention.minutes", "log.retention.hours"] }
            "Default of the topic option `retention.ms`; -1 is no limit.";
        log_retention_minutes: Option<i32> = "log.retention.minutes" { synonyms: &["log.retention.hours"] }
            "Default of the topic option `retention.ms` where `log.retention.ms` is not set.";
        log_retention_hours: i32 = "log.retention.hours" { default: Some("168") }
            "Default of the topic option `retention.ms` where neither `log.retention.ms` nor `log.retention.minutes` is set.";
        log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms" { default: Some("300000"), allowed: Allowed::AtLeast(1) }
            "How often each core looks for segments that are too old or too many.";
        log_segment_delete_delay_ms: i64 = "log.segment.delete.delay.ms" { default: Some("60000"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `file.delete.delay.ms`.";
        log_flush_interval_messages: i64 = "log.flush.interval.messages" { default: Some("1"), kafka_default: KafkaDefault::Text("9223372036854775807"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide }
            "Default of the topic option `flush.messages`. 1 makes acks=all mean that records survive a power loss; set it to 9223372036854775807 for what Apache Kafka does by default, where acks=all means that records survive the end of the process. corelog's default is the safe one.";
        log_flush_interval_ms: Option<i64> = "log.flush.interval.ms" { change: Change::ClusterWide, synonyms: &["log.flush.scheduler.interval.ms"] }
            "Default of the topic option `flush.ms`.";
        log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms" { default: NEVER }
            "Default of the topic option `flush.ms` where `log.flush.interval.ms` is not set.";
        log_flush_offset_checkpoint_interval_ms: i32 = "log.flush.offset.checkpoint.interval.ms" { default: Some("60000"), allowed: Allowed::AtLeast(0) }
            "How often, at most ten times a second, each core makes recovery points of the logs that received a megabyte or more since their last one: a start after a crash reads what lies behind these points. Logs that receive more get theirs sooner.";
        log_flush_start_offset_checkpoint_interval_ms: i32 = "log.flush.start.offset.checkpoint.interval.ms" { default: Some("60000"), allowed: Allowed::AtLeast(0), effect: Effect::None("a log start that changes within a segment is written down before it is answered") }
            "How often each core notes the first offset of its logs.";
        log_initial_task_delay_ms: i64 = "log.initial.task.delay.ms" { default: Some("30000"), allowed: Allowed::AtLeast(0), effect: Effect::None("upkeep begins at once, behind everything else") }
            "How long after the start the first upkeep of logs begins.";
        log_preallocate: bool = "log.preallocate" { default: Some("false"), change: Change::ClusterWide }
            "Default of the topic option `preallocate`.";
        log_message_timestamp_type: TimestampType = "log.message.timestamp.type" { default: Some("CreateTime"), allowed: Allowed::OneOf(&["CreateTime", "LogAppendTime"]), change: Change::ClusterWide }
            "Default of the topic option `message.timestamp.type`.";
        log_message_timestamp_before_max_ms: i64 = "log.message.timestamp.before.max.ms" { default: NEVER, allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `message.timestamp.before.max.ms`.";
        log_message_timestamp_after_max_ms: i64 = "log.message.timestamp.after.max.ms" { default: Some("3600000"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `message.timestamp.after.max.ms`.";
        log_local_retention_bytes: i64 = "log.local.retention.bytes" { default: Some("-2"), allowed: Allowed::AtLeast(-2), change: Change::ClusterWide, effect: Effect::None("corelog has no tiered storage") }
            "Default of the topic option `local.retention.bytes`.";
        log_local_retention_ms: i64 = "log.local.retention.ms" { default: Some("-2"), allowed: Allowed::AtLeast(-2), change: Change::ClusterWide, effect: Effect::None("corelog has no tiered storage") }
            "Default of the topic option `local.retention.ms`.";
        log_cleaner_enable: bool = "log.cleaner.enable" { default: Some("true") }
            "Whether compacted topics are cleaned. Without it `__consumer_offsets` grows with each commit.";
        log_cleaner_threads: i32 = "log.cleaner.threads" { default: Some("1"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide, effect: Effect::None("each core cleans its own logs, one at a time") }
            "Kafka's number of threads that clean logs.";
        log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second" { default: Some("1.7976931348623157E308"), change: Change::ClusterWide }
            "Most bytes per second that cleaning reads and writes, all cores together: each has an equal share.";
        log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size" { default: Some("134217728"), change: Change::ClusterWide }
            "Memory for the keys of logs that are being cleaned, all cores together: each has an equal share, and takes of it what a log needs, while it cleans. A key takes 24 bytes. A log with more keys in its dirty part than fit is cleaned in several rounds.";
        log_cleaner_io_buffer_size: i32 = "log.cleaner.io.buffer.size" { default: Some("524288"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Memory for reading and writing of logs that are being cleaned, all cores together: each has an equal share, one half to read and one to write, of at least 16 KiB each. A batch that is larger takes what it needs.";
        log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor" { default: Some("0.9"), change: Change::ClusterWide }
            "The share of the places for keys that is used. More keys fit with a higher one, and take longer to find.";
        log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms" { default: Some("15000"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "How long a core rests when none of its logs is dirty enough to be cleaned; 100 at least.";
        log_cleaner_delete_retention_ms: i64 = "log.cleaner.delete.retention.ms" { default: Some("86400000"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `delete.retention.ms`.";
        log_cleaner_min_cleanable_ratio: f64 = "log.cleaner.min.cleanable.ratio" { default: Some("0.5"), allowed: Allowed::Ratio, change: Change::ClusterWide }
            "Default of the topic option `min.cleanable.dirty.ratio`.";
        log_cleaner_min_compaction_lag_ms: i64 = "log.cleaner.min.compaction.lag.ms" { default: Some("0"), allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Default of the topic option `min.compaction.lag.ms`.";
        log_cleaner_max_compaction_lag_ms: i64 = "log.cleaner.max.compaction.lag.ms" { default: NEVER, allowed: Allowed::AtLeast(1), change: Change::ClusterWide }
            "Default of the topic option `max.compaction.lag.ms`.";
        replica_alter_log_dirs_io_max_bytes_per_second: i64 = "replica.alter.log.dirs.io.max.bytes.per.second" { default: NEVER, allowed: Allowed::AtLeast(0), change: Change::ClusterWide }
            "Most bytes per second that are copied of partitions on their way from one data directory to another, all of them together. 0: they wait. The last step of a move is not held back.";

        // The metadata log.
        metadata_log_segment_bytes: i32 = "metadata.log.segment.bytes" { default: Some("1073741824"), allowed: Allowed::AtLeast(8_388_608) }
            "Size at which the metadata log goes on in a new file.";
        metadata_log_max_record_bytes_between_snapshots: i64 = "metadata.log.max.record.bytes.between.snapshots" { default: Some("20971520"), allowed: Allowed::AtLeast(1) }
            "Bytes of metadata records after which a snapshot is written.";
        metadata_log_max_snapshot_interval_ms: i64 = "metadata.log.max.snapshot.interval.ms" { default: Some("3600000"), allowed: Allowed::AtLeast(0) }
            "Time after which a snapshot of the metadata is written if there is anything new; 0 never.";

        // Groups and their offsets.
        offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions" { default: Some("50"), allowed: Allowed::AtLeast(1) }
            "Partitions of `__consumer_offsets`, fixed at its creation. A group belongs to one of them.";
        offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor" { default: Some("1"), kafka_default: KafkaDefault::Text("3"), allowed: Allowed::AtLeast(1) }
            "Replicas of `__consumer_offsets`. Kafka's 3 cannot be had on one node, where its groups then never work; a value above the number of nodes is lowered to it when the topic is made.";
        offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes" { default: Some("104857600"), allowed: Allowed::AtLeast(1) }
            "Size of the segments of `__consumer_offsets`.";
        offsets_topic_compression_codec: i32 = "offsets.topic.compression.codec" { default: Some("0"), allowed: Allowed::Between(0, 4), effect: Effect::None("offsets are written uncompressed") }
            "Codec of the batches in `__consumer_offsets`, by its number: none, gzip, snappy, lz4, zstd.";
        offsets_retention_minutes: i32 = "offsets.retention.minutes" { default: Some("10080"), allowed: Allowed::AtLeast(1) }
            "How long a group's offsets are kept after its last member left.";
        offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms" { default: Some("600000"), allowed: Allowed::AtLeast(1) }
            "How often expired offsets are looked for.";
        offsets_commit_timeout_ms: i32 = "offsets.commit.timeout.ms" { default: Some("5000"), allowed: Allowed::AtLeast(1), effect: Effect::None("a commit is answered when it is known to be stored or not") }
            "How long a commit waits for its record to be stored before the client is told to try again.";
        offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes" { default: Some("4096") }
            "Most bytes of text that a consumer may store with an offset.";
        group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms" { default: Some("6000") }
            "Shortest session timeout that a member may ask for.";
        group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms" { default: Some("1800000") }
            "Longest session timeout that a member may ask for.";
        group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms" { default: Some("3000") }
            "How long a new group waits for further members before its first assignment. 0 serves single consumers and tests sooner.";
        group_max_size: i32 = "group.max.size" { default: NO_LIMIT, allowed: Allowed::AtLeast(1) }
            "Most members of a group.";
        group_coordinator_rebalance_protocols: Vec<String> = "group.coordinator.rebalance.protocols" { default: Some("classic"), kafka_default: KafkaDefault::Text("classic,consumer,streams"), allowed: Allowed::OneOf(&["consumer", "classic", "share", "streams"]), effect: CLASSIC_GROUPS_ONLY }
            "The kinds of groups that are served.";

        // Producers and transactions.
        producer_id_expiration_ms: i32 = "producer.id.expiration.ms" { default: Some("86400000"), allowed: Allowed::AtLeast(1), change: Change::ClusterWide }
            "How long a partition remembers an idle idempotent producer's last batches.";
        producer_id_expiration_check_interval_ms: i32 = "producer.id.expiration.check.interval.ms" { default: Some("600000"), allowed: Allowed::AtLeast(1), effect: Effect::None("idle producers are looked for every second") }
            "How often forgotten producers are looked for.";
        transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms" { default: Some("900000"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "Longest transaction that a producer may ask for.";
        transactional_id_expiration_ms: i32 = "transactional.id.expiration.ms" { default: Some("604800000"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "How long an idle transactional id is remembered.";
        transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions" { default: Some("50"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "Partitions of `__transaction_state`.";
        transaction_state_log_replication_factor: i16 = "transaction.state.log.replication.factor" { default: Some("1"), kafka_default: KafkaDefault::Text("3"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "Replicas of `__transaction_state`; 1 for the reason given with `offsets.topic.replication.factor`.";
        transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr" { default: Some("1"), kafka_default: KafkaDefault::Text("2"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "`min.insync.replicas` of `__transaction_state`; 1 because Kafka's 2 cannot be had on one node.";
        transaction_state_log_segment_bytes: i32 = "transaction.state.log.segment.bytes" { default: Some("104857600"), allowed: Allowed::AtLeast(1), effect: NO_TRANSACTIONS_YET }
            "Size of the segments of `__transaction_state`.";

        // What corelog adds.
        advertise: Advertise = "advertise" { default: Some("core"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::OneOf(&["core", "host"]) }
            "What clients see as a broker. `core`: every core, at a port of its own, so that a client's routing takes each request straight to the core that owns the partition. `host`: one broker at one port per listener, for containers, address translation and thousands of clients; a request for another core's partition is forwarded inside.";
        cores: Option<CoreList> = "cores" { kafka_default: KafkaDefault::OurOwn }
            "The CPUs to run on: a list such as 0-3,6, or a bare number N, which takes the first N that the process may use. Not set: all that the process may use, and in `advertise=core` mode at most `advertised.cores.max`. A list of a single CPU is written with a dash, 3-3.";
        advertised_cores_max: i32 = "advertised.cores.max" { default: Some("16"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::Between(1, 1024) }
            "Most cores that are shown as brokers in `advertise=core` mode. Every client connects to every broker it needs, so this bounds connections; 1024 is the room between two node ids.";
        request_memory_bytes_per_core: i64 = "request.memory.bytes.per.core" { default: Some("134217728"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(1_048_576) }
            "Memory for requests that a core has read and not answered. When it is used up, the core stops reading from its sockets. At least `socket.request.max.bytes`, so that the largest request can be served.";
        tail_memory_bytes_per_core: i64 = "tail.memory.bytes.per.core" { default: Some("134217728"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(1_048_576) }
            "Memory in which a core keeps its partitions' latest batches, to serve consumers that keep up without touching the drive.";
        journal_bytes_per_core: i64 = "journal.bytes.per.core" { default: Some("67108864"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::Between(0, 1_073_741_824) }
            "Size of each core's journal, a file in the data directory in which small batches of all of a core's partitions are made durable by one write before they are filed in their segments; 0: none. It is filled with zeroes in the background after a start, and takes at most a 32nd of the space that is free, those of all cores together an eighth.";
        log_dir_reserved_bytes: i64 = "log.dir.reserved.bytes" { default: Some("67108864"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(0) }
            "Space of the data directory's file system that the broker keeps for itself, at most a 32nd of its size: when only that much is free, produces to topics are refused with a retriable error, while topics are still deleted, options changed and offsets committed, and a start goes well.";
        read_memory_bytes_per_core: i64 = "read.memory.bytes.per.core" { default: Some("134217728"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(1_048_576) }
            "Memory for what a core has read from the drive and not sent. When it is used up, further reads wait; answers from memory have a quarter as much on top. At least `fetch.max.bytes`, so that the largest answer can be built.";
        core_spin_us: i32 = "core.spin.us" { default: Some("0"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::Between(0, 1_000_000) }
            "How long a core that has nothing to do goes on looking for work before it sleeps until the kernel wakes it. Some 100 save a wake-up of the CPU wherever requests and the drive's answers come that soon after one another, for as much more time on the CPU: for latency where the core has its CPU to itself.";
        slow_request_log_threshold_ms: i32 = "slow.request.log.threshold.ms" { default: Some("1000"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(-1) }
            "A request that takes longer is logged with its stages, one a second and core at most; -1: none is. The time that a fetch waits for data, and a group member for the others, does not count. `corelog debug slow` shows the slowest in any case.";
        core_stall_threshold_ms: i32 = "core.stall.threshold.ms" { default: Some("10"), kafka_default: KafkaDefault::OurOwn, allowed: Allowed::AtLeast(-1) }
            "A task that holds up its core for longer is counted and logged with its name; -1: none is.";
    }
    also {
        /// What was said and where, by name: the rest holds its default.
        said: BTreeMap<&'static str, Said> = BTreeMap::new(),
        /// What the metadata log says of this broker, and of all brokers.
        dynamic: Dynamic = Dynamic::default(),
    }
}
