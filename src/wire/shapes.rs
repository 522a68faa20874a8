//! The shapes of the requests served: which fields, in which versions, of which kind.
//!
//! Written by scripts/request-shapes.py from Kafka's schemas; not to be edited.

use kafka_protocol::messages::ApiKey;

use super::guard::{Field, Kind, LAST};

/// The fields of a request. Those of the hand-written codecs are not here.
pub(super) fn shape(api: ApiKey) -> Option<&'static [Field]> {
    Some(match api {
        ApiKey::ListOffsets => &[
            // ReplicaId
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // IsolationLevel
            Field { from: 2, to: LAST, array: false, kind: Kind::Fixed(1) },
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // PartitionIndex
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // CurrentLeaderEpoch
                            Field { from: 4, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // Timestamp
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(8) },
                        ]),
                    },
                ]),
            },
            // TimeoutMs
            Field { from: 10, to: LAST, array: false, kind: Kind::Fixed(4) },
        ],
        ApiKey::Metadata => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // TopicId
                    Field { from: 10, to: LAST, array: false, kind: Kind::Fixed(16) },
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                ]),
            },
            // AllowAutoTopicCreation
            Field { from: 4, to: LAST, array: false, kind: Kind::Fixed(1) },
            // IncludeClusterAuthorizedOperations
            Field { from: 8, to: 10, array: false, kind: Kind::Fixed(1) },
            // IncludeTopicAuthorizedOperations
            Field { from: 8, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::OffsetCommit => &[
            // GroupId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GenerationIdOrMemberEpoch
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(4) },
            // MemberId
            Field { from: 1, to: LAST, array: false, kind: Kind::Text },
            // GroupInstanceId
            Field { from: 7, to: LAST, array: false, kind: Kind::Text },
            // RetentionTimeMs
            Field { from: 2, to: 4, array: false, kind: Kind::Fixed(8) },
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: 9, array: false, kind: Kind::Text },
                    // TopicId
                    Field { from: 10, to: LAST, array: false, kind: Kind::Fixed(16) },
                    // Partitions
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // PartitionIndex
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // CommittedOffset
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(8) },
                            // CommittedLeaderEpoch
                            Field { from: 6, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // CommittedMetadata
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                        ]),
                    },
                ]),
            },
        ],
        ApiKey::OffsetFetch => &[
            // GroupId
            Field { from: 0, to: 7, array: false, kind: Kind::Text },
            // Topics
            Field {
                from: 0,
                to: 7,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: 7, array: false, kind: Kind::Text },
                    // PartitionIndexes
                    Field { from: 0, to: 7, array: true, kind: Kind::Fixed(4) },
                ]),
            },
            // Groups
            Field {
                from: 8,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // GroupId
                    Field { from: 8, to: LAST, array: false, kind: Kind::Text },
                    // MemberId
                    Field { from: 9, to: LAST, array: false, kind: Kind::Text },
                    // MemberEpoch
                    Field { from: 9, to: LAST, array: false, kind: Kind::Fixed(4) },
                    // Topics
                    Field {
                        from: 8,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Name
                            Field { from: 8, to: 9, array: false, kind: Kind::Text },
                            // TopicId
                            Field { from: 10, to: LAST, array: false, kind: Kind::Fixed(16) },
                            // PartitionIndexes
                            Field { from: 8, to: LAST, array: true, kind: Kind::Fixed(4) },
                        ]),
                    },
                ]),
            },
            // RequireStable
            Field { from: 7, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::FindCoordinator => &[
            // Key
            Field { from: 0, to: 3, array: false, kind: Kind::Text },
            // KeyType
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
            // CoordinatorKeys
            Field { from: 4, to: LAST, array: true, kind: Kind::Text },
        ],
        ApiKey::JoinGroup => &[
            // GroupId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // SessionTimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // RebalanceTimeoutMs
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(4) },
            // MemberId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GroupInstanceId
            Field { from: 5, to: LAST, array: false, kind: Kind::Text },
            // ProtocolType
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // Protocols
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Metadata
                    Field { from: 0, to: LAST, array: false, kind: Kind::Bytes },
                ]),
            },
            // Reason
            Field { from: 8, to: LAST, array: false, kind: Kind::Text },
        ],
        ApiKey::Heartbeat => &[
            // GroupId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GenerationId
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // MemberId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GroupInstanceId
            Field { from: 3, to: LAST, array: false, kind: Kind::Text },
        ],
        ApiKey::LeaveGroup => &[
            // GroupId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // MemberId
            Field { from: 0, to: 2, array: false, kind: Kind::Text },
            // Members
            Field {
                from: 3,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // MemberId
                    Field { from: 3, to: LAST, array: false, kind: Kind::Text },
                    // GroupInstanceId
                    Field { from: 3, to: LAST, array: false, kind: Kind::Text },
                    // Reason
                    Field { from: 5, to: LAST, array: false, kind: Kind::Text },
                ]),
            },
        ],
        ApiKey::SyncGroup => &[
            // GroupId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GenerationId
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // MemberId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // GroupInstanceId
            Field { from: 3, to: LAST, array: false, kind: Kind::Text },
            // ProtocolType
            Field { from: 5, to: LAST, array: false, kind: Kind::Text },
            // ProtocolName
            Field { from: 5, to: LAST, array: false, kind: Kind::Text },
            // Assignments
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // MemberId
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Assignment
                    Field { from: 0, to: LAST, array: false, kind: Kind::Bytes },
                ]),
            },
        ],
        ApiKey::DescribeGroups => &[
            // Groups
            Field { from: 0, to: LAST, array: true, kind: Kind::Text },
            // IncludeAuthorizedOperations
            Field { from: 3, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::ListGroups => &[
            // StatesFilter
            Field { from: 4, to: LAST, array: true, kind: Kind::Text },
            // TypesFilter
            Field { from: 5, to: LAST, array: true, kind: Kind::Text },
        ],
        ApiKey::ApiVersions => &[
            // ClientSoftwareName
            Field { from: 3, to: LAST, array: false, kind: Kind::Text },
            // ClientSoftwareVersion
            Field { from: 3, to: LAST, array: false, kind: Kind::Text },
        ],
        ApiKey::CreateTopics => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // NumPartitions
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                    // ReplicationFactor
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(2) },
                    // Assignments
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // PartitionIndex
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // BrokerIds
                            Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                        ]),
                    },
                    // Configs
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Name
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                            // Value
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                        ]),
                    },
                ]),
            },
            // timeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // validateOnly
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::DeleteTopics => &[
            // Topics
            Field {
                from: 6,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 6, to: LAST, array: false, kind: Kind::Text },
                    // TopicId
                    Field { from: 6, to: LAST, array: false, kind: Kind::Fixed(16) },
                ]),
            },
            // TopicNames
            Field { from: 0, to: 5, array: true, kind: Kind::Text },
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
        ],
        ApiKey::DeleteRecords => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // PartitionIndex
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // Offset
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(8) },
                        ]),
                    },
                ]),
            },
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
        ],
        ApiKey::InitProducerId => &[
            // TransactionalId
            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
            // TransactionTimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // ProducerId
            Field { from: 3, to: LAST, array: false, kind: Kind::Fixed(8) },
            // ProducerEpoch
            Field { from: 3, to: LAST, array: false, kind: Kind::Fixed(2) },
            // Enable2Pc
            Field { from: 6, to: LAST, array: false, kind: Kind::Fixed(1) },
            // KeepPreparedTxn
            Field { from: 6, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::OffsetForLeaderEpoch => &[
            // ReplicaId
            Field { from: 3, to: LAST, array: false, kind: Kind::Fixed(4) },
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Topic
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Partition
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // CurrentLeaderEpoch
                            Field { from: 2, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // LeaderEpoch
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                        ]),
                    },
                ]),
            },
        ],
        ApiKey::DescribeConfigs => &[
            // Resources
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // ResourceType
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
                    // ResourceName
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // ConfigurationKeys
                    Field { from: 0, to: LAST, array: true, kind: Kind::Text },
                ]),
            },
            // IncludeSynonyms
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
            // IncludeDocumentation
            Field { from: 3, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::AlterConfigs => &[
            // Resources
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // ResourceType
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
                    // ResourceName
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Configs
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Name
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                            // Value
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                        ]),
                    },
                ]),
            },
            // ValidateOnly
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::AlterReplicaLogDirs => &[
            // Dirs
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Path
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Topics
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Name
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                            // Partitions
                            Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                        ]),
                    },
                ]),
            },
        ],
        ApiKey::DescribeLogDirs => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Topic
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                ]),
            },
        ],
        ApiKey::CreatePartitions => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Count
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                    // Assignments
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // BrokerIds
                            Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                        ]),
                    },
                ]),
            },
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // ValidateOnly
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::DeleteGroups => &[
            // GroupsNames
            Field { from: 0, to: LAST, array: true, kind: Kind::Text },
        ],
        ApiKey::ElectLeaders => &[
            // ElectionType
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
            // TopicPartitions
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Topic
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                ]),
            },
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
        ],
        ApiKey::IncrementalAlterConfigs => &[
            // Resources
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // ResourceType
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
                    // ResourceName
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Configs
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // Name
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                            // ConfigOperation
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
                            // Value
                            Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                        ]),
                    },
                ]),
            },
            // ValidateOnly
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::AlterPartitionReassignments => &[
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // AllowReplicationFactorChange
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // Partitions
                    Field {
                        from: 0,
                        to: LAST,
                        array: true,
                        kind: Kind::Struct(&[
                            // PartitionIndex
                            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                            // Replicas
                            Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                        ]),
                    },
                ]),
            },
        ],
        ApiKey::ListPartitionReassignments => &[
            // TimeoutMs
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // PartitionIndexes
                    Field { from: 0, to: LAST, array: true, kind: Kind::Fixed(4) },
                ]),
            },
        ],
        ApiKey::DescribeCluster => &[
            // IncludeClusterAuthorizedOperations
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(1) },
            // EndpointType
            Field { from: 1, to: LAST, array: false, kind: Kind::Fixed(1) },
            // IncludeFencedBrokers
            Field { from: 2, to: LAST, array: false, kind: Kind::Fixed(1) },
        ],
        ApiKey::ListConfigResources => &[
            // ResourceTypes
            Field { from: 1, to: LAST, array: true, kind: Kind::Fixed(1) },
        ],
        ApiKey::DescribeTopicPartitions => &[
            // Topics
            Field {
                from: 0,
                to: LAST,
                array: true,
                kind: Kind::Struct(&[
                    // Name
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                ]),
            },
            // ResponsePartitionLimit
            Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
            // Cursor
            Field {
                from: 0,
                to: LAST,
                array: false,
                kind: Kind::Maybe(&[
                    // TopicName
                    Field { from: 0, to: LAST, array: false, kind: Kind::Text },
                    // PartitionIndex
                    Field { from: 0, to: LAST, array: false, kind: Kind::Fixed(4) },
                ]),
            },
        ],
        _ => return None,
    })
}
