//! DescribeCluster (60), versions 0–2: the brokers and the controller.
//!
//! - The brokers are those of `advertise`: every core, or the host. The controller is
//!   the broker that was asked: each forwards to it, as every Kafka broker does.
//! - v1: endpoint type (KIP-919): only brokers can be asked for, controllers are not
//!   endpoints here (UNSUPPORTED_ENDPOINT_TYPE). v2: fenced brokers (KIP-1073): none.

use std::rc::Rc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::errors::Code;
use super::{Context, admin, brokers};
use crate::shard::Core;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle(core: &Rc<Core>, request: DescribeClusterRequest, context: &Context) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            CONTROLLERS => (
                Code::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                    .into(),
            ),
            other => (Code::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
        };
        return DescribeClusterResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_string(message)));
    }
    let shown = brokers::all(core, context.listener).into_iter().map(|b| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(b.id.0))
            .with_host(StrBytes::from_string(b.host))
            .with_port(i32::from(b.port))
            .with_rack(b.rack.map(StrBytes::from_string))
    });
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(core.identity().cluster_id.clone()))
        .with_controller_id(BrokerId(brokers::own(core).0))
        .with_brokers(shown.collect())
        .with_cluster_authorized_operations(match request.include_cluster_authorized_operations {
            true => admin::CLUSTER_OPERATIONS,
            false => admin::OPERATIONS_NOT_ASKED,
        })
}
