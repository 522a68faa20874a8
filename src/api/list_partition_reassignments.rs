//! ListPartitionReassignments (46), version 0: replicas on their way from one broker to another (KIP-455).
//!
//! There are none, of whichever topics: a partition has its one replica, and metadata of Kafka's with any on their way is not
//! taken over. Moves between data directories are no reassignments; DescribeLogDirs shows those.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

pub async fn handle(_request: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
