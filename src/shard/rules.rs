//! What a topic's options demand of the batches that producers send: the options in
//! the words of batch validation.

use crate::config::{self, TopicConfig};
use crate::record::{Codec, CompressionType, Rules, TimestampType};

/// The rules of a topic with these options.
pub fn of(config: &TopicConfig) -> Rules {
    Rules {
        max_message_bytes: config.max_message_bytes.max(0) as usize,
        timestamp_type: match config.message_timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        before_max_ms: config.message_timestamp_before_max_ms,
        after_max_ms: config.message_timestamp_after_max_ms,
        compacted: config.cleanup_policy.compact,
        compression: match config.compression_type {
            config::CompressionType::Producer => CompressionType::Producer,
            config::CompressionType::Uncompressed => CompressionType::Codec(Codec::None),
            config::CompressionType::Gzip => CompressionType::Codec(Codec::Gzip),
            config::CompressionType::Snappy => CompressionType::Codec(Codec::Snappy),
            config::CompressionType::Lz4 => CompressionType::Codec(Codec::Lz4),
            config::CompressionType::Zstd => CompressionType::Codec(Codec::Zstd),
        },
        compression_level: match config.compression_type {
            config::CompressionType::Gzip => Some(config.compression_gzip_level),
            config::CompressionType::Lz4 => Some(config.compression_lz4_level),
            config::CompressionType::Zstd => Some(config.compression_zstd_level),
            _ => None,
        },
    }
}
