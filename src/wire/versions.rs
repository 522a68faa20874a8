//! The APIs served, with their versions: corelog's own table.
//!
//! A version is served when both its request can be decoded and its meaning is
//! implemented. The `kafka-protocol` crate's own ranges are not used: they
//! include response versions whose requests it cannot decode, and end below what
//! we serve (see `body`).

use kafka_protocol::messages::ApiKey;

/// One API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    pub key: ApiKey,
    pub name: &'static str,
    /// Versions answered.
    pub min: i16,
    pub max: i16,
    /// From this version on lengths are varints and structs end with tagged fields.
    pub first_flexible: i16,
}

impl Served {
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Whether a version, served or not, is flexible.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }

    /// The lowest version that ApiVersions shows. For Produce it is 0, though 0 to 2 are not served: librdkafka
    /// turns compression off when it misses them (KAFKA-18659, `PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION`).
    pub fn advertised_min(&self) -> i16 {
        if self.key == ApiKey::Produce { 0 } else { self.min }
    }
}

/// All APIs, by rising key. Minima are Kafka 4's (KIP-896).
pub const SERVED: &[Served] = &[
    api(ApiKey::Produce, "Produce", 3, 13, 9),
    api(ApiKey::Fetch, "Fetch", 4, 18, 12),
    api(ApiKey::ListOffsets, "ListOffsets", 1, 11, 6),
    api(ApiKey::Metadata, "Metadata", 0, 13, 9),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 10, 8),
    api(ApiKey::OffsetFetch, "OffsetFetch", 1, 10, 6),
    api(ApiKey::FindCoordinator, "FindCoordinator", 0, 6, 3),
    api(ApiKey::JoinGroup, "JoinGroup", 0, 9, 6),
    api(ApiKey::Heartbeat, "Heartbeat", 0, 4, 4),
    api(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, 4),
    api(ApiKey::SyncGroup, "SyncGroup", 0, 5, 4),
    api(ApiKey::DescribeGroups, "DescribeGroups", 0, 6, 5),
    api(ApiKey::ListGroups, "ListGroups", 0, 5, 3),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 4, 3),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7, 5),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, 4),
    api(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, 2),
    api(ApiKey::InitProducerId, "InitProducerId", 0, 5, 2),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, 4),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, 4),
    api(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, 2),
    api(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", 1, 2, 2),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4, 2),
    api(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, 2),
    api(ApiKey::DeleteGroups, "DeleteGroups", 0, 2, 2),
    api(ApiKey::ElectLeaders, "ElectLeaders", 0, 2, 2),
    api(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, 1),
    api(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 1, 0),
    api(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0, 0),
    api(ApiKey::DescribeCluster, "DescribeCluster", 0, 2, 0),
    api(ApiKey::ListConfigResources, "ListConfigResources", 0, 1, 0),
    api(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", 0, 0, 0),
];

const fn api(key: ApiKey, name: &'static str, min: i16, max: i16, first_flexible: i16) -> Served {
    Served { key, name, min, max, first_flexible }
}

/// By api key.
pub fn served(key: i16) -> Option<&'static Served> {
    SERVED.binary_search_by_key(&key, |api| api.key as i16).ok().map(|at| &SERVED[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_crate() {
        assert!(SERVED.is_sorted_by(|a, b| (a.key as i16) < (b.key as i16)));
        for api in SERVED {
            assert_eq!(served(api.key as i16), Some(api));
            assert_eq!(format!("{:?}", api.key), api.name);
            let valid = api.key.valid_versions();
            // Of ListOffsets the last version has the bytes of the one before.
            let known = if api.key == ApiKey::ListOffsets { 10 } else { api.max };
            assert!(valid.min <= api.min && known <= valid.max, "{api:?} {valid:?}");
            for version in api.min..=api.max {
                let header = if api.is_flexible(version) { 2 } else { 1 };
                assert_eq!(api.key.request_header_version(version), header, "{api:?} {version}");
            }
        }
        for key in [-1, 4, 5, 17, 1000, i16::MAX, i16::MIN] {
            assert_eq!(served(key), None);
        }
    }
}
