//! ListConfigResources (74), versions 0–1: what has options (KIP-1142).
//!
//! - Topics and brokers are all listed, groups and client metrics where options are set for them.
//! - v0 is ListClientMetricsResources: client metrics only. v1 resource types, none for all; one that is not known:
//!   UNSUPPORTED_VERSION.

use std::rc::Rc;

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::errors::Code;
use super::{Context, brokers, text};
use crate::metadata::image::ResourceType;
use crate::shard::Core;

const ALL: &[ResourceType] = &[
    ResourceType::TOPIC,
    ResourceType::BROKER,
    ResourceType::BROKER_LOGGER,
    ResourceType::CLIENT_METRICS,
    ResourceType::GROUP,
];

pub async fn handle(
    core: &Rc<Core>,
    request: ListConfigResourcesRequest,
    context: &Context,
) -> ListConfigResourcesResponse {
    let supported = if context.version == 0 { &[ResourceType::CLIENT_METRICS][..] } else { ALL };
    let wanted: Vec<ResourceType> = request.resource_types.iter().map(|kind| ResourceType(*kind)).collect();
    if wanted.iter().any(|kind| !supported.contains(kind)) {
        return ListConfigResourcesResponse::default().with_error_code(Code::UnsupportedVersion.code());
    }
    let image = core.image();
    let mut found = Vec::new();
    for kind in supported.iter().filter(|kind| wanted.is_empty() || wanted.contains(kind)) {
        let mut add = |name: &str| {
            let resource = ConfigResource::default().with_resource_name(text(name));
            found.push(if context.version == 0 { resource } else { resource.with_resource_type(kind.0) });
        };
        match *kind {
            ResourceType::TOPIC => image.topics().for_each(|topic| add(&topic.name)),
            ResourceType::BROKER | ResourceType::BROKER_LOGGER => {
                brokers::all(core, context.listener).iter().for_each(|broker| add(&broker.id.0.to_string()));
            }
            kind => image.configs().filter(|(of, _)| of.kind == kind).for_each(|(of, _)| add(&of.name)),
        }
    }
    ListConfigResourcesResponse::default().with_config_resources(found)
}
