//! The options of a topic (Kafka's `TopicConfig` and `LogConfig`): their table,
//! their effective values, and the rules between them.

use std::collections::BTreeMap;

use super::ConfigError;
use super::option::{
    Allowed, Change, Effect, KafkaDefault, Kind, OptionSpec, OptionValue, Reason, find, list_items, options,
};

/// Kafka's largest long, its word for "never".
const NEVER: Option<&str> = Some("9223372036854775807");

const NO_TIERED_STORAGE: Effect = Effect::None("corelog has no tiered storage");
const NO_REPLICATION: Effect = Effect::None("one node holds every replica there is");

options! {
    /// The effective values of one topic. Their order is that of the table.
    #[derive(Clone, Debug, PartialEq)]
    TopicConfig, TOPIC_OPTIONS,
    {
        cleanup_policy: CleanupPolicy = "cleanup.policy" { default: Some("delete"), allowed: Allowed::OneOf(&["compact", "delete"]), change: Change::Topic, synonyms: &["log.cleanup.policy"] }
            "What happens to old segments: `delete` drops them by age or size, `compact` keeps the last record of each key, both together do both, and an empty list keeps everything.";
        compression_gzip_level: i32 = "compression.gzip.level" { default: Some("-1"), allowed: Allowed::MinusOneOrBetween(1, 9), change: Change::Topic, synonyms: &["compression.gzip.level"] }
            "Level of gzip when the broker itself compresses, that is when `compression.type` is `gzip`; -1 is gzip's own default.";
        compression_lz4_level: i32 = "compression.lz4.level" { default: Some("9"), allowed: Allowed::Between(1, 17), change: Change::Topic, synonyms: &["compression.lz4.level"] }
            "Level of lz4 when the broker itself compresses, that is when `compression.type` is `lz4`; 9 is the fast kind, as in Kafka.";
        compression_type: CompressionType = "compression.type" { default: Some("producer"), allowed: Allowed::OneOf(CompressionType::NAMES), change: Change::Topic, synonyms: &["compression.type"] }
            "How batches lie in the log: `producer` keeps what the producer sent, which copies bytes untouched; any other value makes the broker decompress and compress every batch that comes in another form.";
        compression_zstd_level: i32 = "compression.zstd.level" { default: Some("3"), allowed: Allowed::Between(-131_072, 22), change: Change::Topic, synonyms: &["compression.zstd.level"] }
            "Level of zstd when the broker itself compresses, that is when `compression.type` is `zstd`.";
        delete_retention_ms: i64 = "delete.retention.ms" { default: Some("86400000"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.cleaner.delete.retention.ms"] }
            "How long a compacted topic keeps the mark of a deleted key (a record without a value) once it was compacted, so that a consumer that reads all of it in that time learns of the deletion.";
        file_delete_delay_ms: i64 = "file.delete.delay.ms" { default: Some("60000"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.segment.delete.delay.ms"] }
            "How long a file that was taken out of the log stays on the drive, for reads that still use it.";
        flush_messages: i64 = "flush.messages" { default: Some("1"), kafka_default: KafkaDefault::Text("9223372036854775807"), allowed: Allowed::AtLeast(1), change: Change::Topic, synonyms: &["log.flush.interval.messages"] }
            "With 1, an acknowledgement of acks=all means that the records survive a power loss: they are written and flushed first, many batches sharing one flush. With a larger number, acks=all means what it means in Apache Kafka with its default: the records survive the end of the process, and the operating system's and drive's caches decide about a power loss. corelog's default is 1 because an acknowledged record should not be lost, and because group commit makes it cheap; Kafka's is never.";
        flush_ms: i64 = "flush.ms" { default: NEVER, allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"] }
            "Longest time that written records stay unflushed when `flush.messages` is above 1.";
        follower_replication_throttled_replicas: Vec<String> = "follower.replication.throttled.replicas" { default: Some(""), allowed: Allowed::ThrottledReplicas, change: Change::Topic, effect: NO_REPLICATION }
            "Replicas whose incoming replication is throttled: `*`, or a list of `partition:broker`.";
        index_interval_bytes: i32 = "index.interval.bytes" { default: Some("4096"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.index.interval.bytes"] }
            "An index entry is written each time this many bytes were appended. Fewer make a seek read less and the index larger.";
        internal_segment_bytes: Option<i32> = "internal.segment.bytes" { change: Change::Topic, internal: true }
            "Takes the place of `segment.bytes` without its lower bound. For tests of what happens when segments roll.";
        leader_replication_throttled_replicas: Vec<String> = "leader.replication.throttled.replicas" { default: Some(""), allowed: Allowed::ThrottledReplicas, change: Change::Topic, effect: NO_REPLICATION }
            "Replicas whose outgoing replication is throttled: `*`, or a list of `partition:broker`.";
        local_retention_bytes: i64 = "local.retention.bytes" { default: Some("-2"), allowed: Allowed::AtLeast(-2), change: Change::Topic, synonyms: &["log.local.retention.bytes"], effect: NO_TIERED_STORAGE }
            "With tiered storage, the size of what stays on the local drive; -2 takes `retention.bytes`.";
        local_retention_ms: i64 = "local.retention.ms" { default: Some("-2"), allowed: Allowed::AtLeast(-2), change: Change::Topic, synonyms: &["log.local.retention.ms"], effect: NO_TIERED_STORAGE }
            "With tiered storage, the age of what stays on the local drive; -2 takes `retention.ms`.";
        max_compaction_lag_ms: i64 = "max.compaction.lag.ms" { default: NEVER, allowed: Allowed::AtLeast(1), change: Change::Topic, synonyms: &["log.cleaner.max.compaction.lag.ms"] }
            "Longest time that a record of a compacted topic may stay uncompacted.";
        max_message_bytes: i32 = "max.message.bytes" { default: Some("1048588"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["message.max.bytes"] }
            "Largest batch, as it is compressed and with its header, that a producer may append.";
        message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms" { default: Some("3600000"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.message.timestamp.after.max.ms"] }
            "How far ahead of the broker's clock a record's time stamp may lie. Only with `message.timestamp.type=CreateTime`.";
        message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms" { default: NEVER, allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.message.timestamp.before.max.ms"] }
            "How far behind the broker's clock a record's time stamp may lie. Only with `message.timestamp.type=CreateTime`.";
        message_timestamp_type: TimestampType = "message.timestamp.type" { default: Some("CreateTime"), allowed: Allowed::OneOf(&["CreateTime", "LogAppendTime"]), change: Change::Topic, synonyms: &["log.message.timestamp.type"] }
            "Whether records carry the producer's time stamp or the time at which the broker appended them.";
        min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio" { default: Some("0.5"), allowed: Allowed::Ratio, change: Change::Topic, synonyms: &["log.cleaner.min.cleanable.ratio"] }
            "A compacted log is cleaned when this share of it was not compacted yet. Lower values clean more often and waste less space.";
        min_compaction_lag_ms: i64 = "min.compaction.lag.ms" { default: Some("0"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.cleaner.min.compaction.lag.ms"] }
            "Shortest time that a record of a compacted topic stays uncompacted.";
        min_insync_replicas: i32 = "min.insync.replicas" { default: Some("1"), allowed: Allowed::AtLeast(1), change: Change::Topic, synonyms: &["min.insync.replicas"] }
            "How many replicas must hold a record before acks=all is answered; never more than the topic has, as in Kafka, so that with one replica every value means 1.";
        preallocate: bool = "preallocate" { default: Some("false"), change: Change::Topic, synonyms: &["log.preallocate"] }
            "Whether a new segment file takes its space on the drive, `segment.bytes`, at once. Without it space is taken in steps that grow with the segment, because direct writes need it. What a segment did not use is given back when it is full or the broker stops.";
        remote_log_copy_disable: bool = "remote.log.copy.disable" { default: Some("false"), change: Change::Topic, effect: NO_TIERED_STORAGE }
            "With tiered storage, whether no more segments are copied to the remote tier.";
        remote_log_delete_on_disable: bool = "remote.log.delete.on.disable" { default: Some("false"), change: Change::Topic, effect: NO_TIERED_STORAGE }
            "With tiered storage, whether remote segments are deleted when it is switched off for the topic.";
        remote_storage_enable: bool = "remote.storage.enable" { default: Some("false"), change: Change::Topic, effect: NO_TIERED_STORAGE }
            "Tiered storage for the topic. `true` is refused.";
        retention_bytes: i64 = "retention.bytes" { default: Some("-1"), change: Change::Topic, synonyms: &["log.retention.bytes"] }
            "Size of a partition beyond which its oldest segments are deleted; -1 is no limit.";
        retention_ms: i64 = "retention.ms" { default: Some("604800000"), allowed: Allowed::AtLeast(-1), change: Change::Topic, synonyms: &["log.retention.ms", "log.retention.minutes", "log.retention.hours"] }
            "Age beyond which segments are deleted; -1 is no limit.";
        segment_bytes: i32 = "segment.bytes" { default: Some("1073741824"), allowed: Allowed::AtLeast(1_048_576), change: Change::Topic, synonyms: &["log.segment.bytes"] }
            "Size at which a partition goes on in a new file. Retention and compaction work on whole files.";
        segment_index_bytes: i32 = "segment.index.bytes" { default: Some("10485760"), allowed: Allowed::AtLeast(4), change: Change::Topic, synonyms: &["log.index.size.max.bytes"] }
            "Largest size of a segment's offset index; a full index makes the segment roll.";
        segment_jitter_ms: i64 = "segment.jitter.ms" { default: Some("0"), allowed: Allowed::AtLeast(0), change: Change::Topic, synonyms: &["log.roll.jitter.ms", "log.roll.jitter.hours"] }
            "Up to this much is taken off `segment.ms`, by chance, so that partitions do not all roll at once.";
        segment_ms: i64 = "segment.ms" { default: Some("604800000"), allowed: Allowed::AtLeast(1), change: Change::Topic, synonyms: &["log.roll.ms", "log.roll.hours"] }
            "Age at which a partition goes on in a new file even if the old one is not full.";
        unclean_leader_election_enable: bool = "unclean.leader.election.enable" { default: Some("false"), change: Change::Topic, synonyms: &["unclean.leader.election.enable"], effect: NO_REPLICATION }
            "Whether a replica that was not in sync may become leader, at the price of records.";
    }
    also {}
}

/// Every topic option, sorted by name.
pub fn topic_options() -> &'static [OptionSpec] {
    TOPIC_OPTIONS
}

impl Default for TopicConfig {
    /// What holds when neither topic nor broker says anything.
    fn default() -> TopicConfig {
        TopicConfig::from_table()
    }
}

impl TopicConfig {
    /// The effective values of a topic whose own options are `overrides`, where
    /// the broker gives `defaults` (`LogConfig.fromProps`).
    ///
    /// # Errors
    /// In Kafka's words and order (`LogConfig.validate`): an unknown name, then a
    /// value outside of its type or bounds, then options that do not fit together.
    pub fn with_overrides(
        defaults: &TopicConfig,
        overrides: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, ConfigError> {
        if let Some(unknown) = overrides.keys().find(|name| find(TOPIC_OPTIONS, name).is_none()) {
            return Err(ConfigError::UnknownTopicOption(unknown.clone()));
        }
        let mut config = defaults.clone();
        for (name, value) in overrides {
            config
                .set(name, value)
                .expect("names were looked up")
                .map_err(|wrong| ConfigError::Value(wrong.words(name)))?;
        }
        config.check_together()?;
        if let Some(bytes) = config.internal_segment_bytes {
            config.segment_bytes = bytes;
        }
        Ok(config)
    }

    /// As [`TopicConfig::with_overrides`], of options that are in force: what cannot be used, or does not
    /// fit the broker's options as they are now, costs a topic none of its others.
    pub fn with_usable(defaults: &TopicConfig, overrides: &BTreeMap<String, String>) -> TopicConfig {
        let mut config = defaults.clone();
        for (name, value) in overrides {
            let _ = config.set(name, value);
        }
        if let Some(bytes) = config.internal_segment_bytes {
            config.segment_bytes = bytes;
        }
        config
    }

    fn check_together(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        if min > max {
            return Err(ConfigError::Conflict(format!(
                "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            )));
        }
        if self.remote_storage_enable {
            return Err(ConfigError::Conflict(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
                 storage."
                    .to_string(),
            ));
        }
        Ok(())
    }

    /// Whether an acknowledgement of acks=all waits for a flush.
    pub fn flushes_each_append(&self) -> bool {
        self.flush_messages == 1
    }
}

/// `cleanup.policy`; neither of both keeps everything (KIP-1161).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl OptionValue for CleanupPolicy {
    const KIND: Kind = Kind::List;
    fn read(text: &str) -> Result<CleanupPolicy, Reason> {
        let items = list_items(text);
        Ok(CleanupPolicy { delete: items.contains(&"delete"), compact: items.contains(&"compact") })
    }
}

/// `compression.type`: how batches lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl CompressionType {
    const NAMES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
}

impl OptionValue for CompressionType {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Result<CompressionType, Reason> {
        match text {
            "producer" => Ok(CompressionType::Producer),
            "uncompressed" => Ok(CompressionType::Uncompressed),
            "gzip" => Ok(CompressionType::Gzip),
            "snappy" => Ok(CompressionType::Snappy),
            "lz4" => Ok(CompressionType::Lz4),
            "zstd" => Ok(CompressionType::Zstd),
            _ => Err(format!("String must be one of: {}", CompressionType::NAMES.join(", "))),
        }
    }
}

/// `message.timestamp.type`: whose clock stamps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

impl OptionValue for TimestampType {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Result<TimestampType, Reason> {
        match text {
            "CreateTime" => Ok(TimestampType::CreateTime),
            "LogAppendTime" => Ok(TimestampType::LogAppendTime),
            _ => Err("String must be one of: CreateTime, LogAppendTime".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn check(pairs: &[(&str, &str)], expected: Result<(), &str>) {
        let got = TopicConfig::with_overrides(&TopicConfig::default(), &overrides(pairs));
        let got = got.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(str::to_string), "{pairs:?}");
    }

    // Each expectation is what LogConfig.validate of Apache Kafka 4.3.1 answers.
    #[test]
    fn values_are_judged_as_kafka_does() {
        let ok: Result<(), &str> = Ok(());
        check(&[("retention.ms", " 5 ")], ok);
        check(&[("retention.ms", "+7")], ok);
        check(&[("cleanup.policy", "")], ok);
        check(&[("cleanup.policy", "delete,delete")], ok);
        check(&[("cleanup.policy", "compact , delete")], ok);
        check(&[("compression.type", " gzip ")], ok);
        check(&[("compression.gzip.level", "-1")], ok);
        check(&[("preallocate", "TRUE")], ok);
        check(&[("message.timestamp.type", "LogAppendTime")], ok);
        check(&[("min.cleanable.dirty.ratio", "0.25")], ok);
        check(&[("leader.replication.throttled.replicas", "*")], ok);
        check(&[("leader.replication.throttled.replicas", "0:1,1:2")], ok);
        check(&[("local.retention.bytes", "5")], ok);
        check(&[("remote.log.copy.disable", "true")], ok);
        check(&[("internal.segment.bytes", "1024")], ok);
        let refused = |name: &str, value: &str, reason: &str| {
            check(&[(name, value)], Err(&format!("Invalid value {value} for configuration {name}: {reason}")));
        };
        refused("retention.ms", "abc", "Not a number of type LONG");
        refused("retention.ms", "", "Not a number of type LONG");
        refused("retention.ms", "1e3", "Not a number of type LONG");
        refused("retention.ms", "0x10", "Not a number of type LONG");
        refused("retention.ms", "99999999999999999999", "Not a number of type LONG");
        refused("retention.ms", "-2", "Value must be at least -1");
        refused("local.retention.ms", "-3", "Value must be at least -2");
        refused("segment.bytes", "3000000000", "Not a number of type INT");
        refused("segment.bytes", "1.5", "Not a number of type INT");
        refused("segment.bytes", "1000", "Value must be at least 1048576");
        refused("segment.index.bytes", "3", "Value must be at least 4");
        refused("segment.ms", "0", "Value must be at least 1");
        refused("flush.messages", "0", "Value must be at least 1");
        refused("max.message.bytes", "-1", "Value must be at least 0");
        refused("max.compaction.lag.ms", "0", "Value must be at least 1");
        refused("min.insync.replicas", "0", "Value must be at least 1");
        refused("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1");
        refused("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE");
        refused("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
        refused("compression.gzip.level", "10", "Value must be between 1 and 9 or equal to -1");
        refused("compression.zstd.level", "23", "Value must be no more than 22");
        refused("compression.lz4.level", "0", "Value must be at least 1");
        // What does not have the type is shown as it was said, what has it as Java prints the value.
        refused("retention.ms", " x ", "Not a number of type LONG");
        let shown = |name: &str, value: &str, shown: &str, reason: &str| {
            check(&[(name, value)], Err(&format!("Invalid value {shown} for configuration {name}: {reason}")));
        };
        shown("segment.bytes", " +5 ", "5", "Value must be at least 1048576");
        shown("min.cleanable.dirty.ratio", "-3", "-3.0", "Value must be at least 0");
        shown("min.cleanable.dirty.ratio", "1e3", "1000.0", "Value must be no more than 1");
        shown("min.cleanable.dirty.ratio", "2147483648", "2.147483648E9", "Value must be no more than 1");
        shown(
            "min.cleanable.dirty.ratio",
            "9223372036854775808",
            "9.223372036854776E18",
            "Value must be no more than 1",
        );
        shown("cleanup.policy", "delete, -3 ,x", "-3", "String must be one of: compact, delete");
        for empty in [",", "delete,", "delete,,compact", "x,"] {
            check(&[("cleanup.policy", empty)], Err("Configuration 'cleanup.policy' values must not be empty."));
        }
        refused("preallocate", "yes", "Expected value to be either true or false");
        refused("cleanup.policy", "foo", "String must be one of: compact, delete");
        refused("cleanup.policy", "Delete", "String must be one of: compact, delete");
        let codecs = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
        refused("compression.type", "lz5", codecs);
        refused("compression.type", "GZIP", codecs);
        refused("message.timestamp.type", "logappendtime", "String must be one of: CreateTime, LogAppendTime");
        check(&[("foo.bar", "1"), ("retention.ms", "x")], Err("Unknown topic config name: foo.bar"));
        check(&[("message.format.version", "3.0")], Err("Unknown topic config name: message.format.version"));
        check(
            &[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
            Err("conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"),
        );
        let no_tiers = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
        check(&[("remote.storage.enable", "true")], Err(no_tiers));
        for (value, list) in [("x", "x"), ("-1:1", "-1:1"), ("0:1, 1:", "0:1, 1:"), ("*,*", "*, *")] {
            let words = format!(
                "Invalid value [{list}] for configuration leader.replication.throttled.replicas: \
                 leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
                 format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            );
            check(&[("leader.replication.throttled.replicas", value)], Err(&words));
        }
        check(&[("leader.replication.throttled.replicas", "0:1,")], ok);
    }

    #[test]
    fn an_option_that_cannot_be_used_costs_no_other() {
        let defaults = TopicConfig { max_compaction_lag_ms: 4, ..TopicConfig::default() };
        let own =
            overrides(&[("min.compaction.lag.ms", "5"), ("retention.ms", "-1"), ("segment.ms", "x"), ("foo", "1")]);
        assert!(TopicConfig::with_overrides(&defaults, &own).is_err());
        let config = TopicConfig::with_usable(&defaults, &own);
        assert_eq!((config.retention_ms, config.min_compaction_lag_ms), (-1, 5));
        assert_eq!(config.segment_ms, defaults.segment_ms);
    }

    #[test]
    fn overrides_take_the_place_of_defaults_and_leave_the_rest() {
        let defaults = TopicConfig { retention_ms: 1000, segment_ms: 5, ..TopicConfig::default() };
        let own = overrides(&[("retention.ms", "7"), ("cleanup.policy", "compact"), ("internal.segment.bytes", "100")]);
        let config = TopicConfig::with_overrides(&defaults, &own).unwrap();
        assert_eq!((config.retention_ms, config.segment_ms, config.segment_bytes), (7, 5, 100));
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: false, compact: true });
    }

    #[test]
    fn the_table_is_sorted_by_name() {
        assert!(TOPIC_OPTIONS.is_sorted_by_key(|spec| spec.name));
    }
}
