//! AlterConfigs (33), versions 0–2: all options of a topic or a broker at once; those that
//! are not named have their defaults again. Old tools use it; see
//! [`super::incremental_alter_configs`], which took its place.
//!
//! - A resource changes whole or not at all; one that is refused does not fail the others.
//! - `validate_only` does everything but the change. The answer leaves when every core has
//!   taken the change into use. v2 is flexible.

use std::rc::Rc;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_changes::{self, Asked};
use crate::metadata::configs::Alteration;
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let asked = request.resources.iter().map(|resource| {
        let options = resource.configs.iter();
        let given = options.clone().filter_map(|o| Some((o.name.to_string(), o.value.as_ref()?.to_string())));
        Asked {
            kind: resource.resource_type,
            name: resource.resource_name.as_str(),
            how: Ok(Alteration::All(given.collect())),
            loggers: false,
            options: options.map(|option| (option.name.as_str(), option.value.is_none())).collect(),
        }
    });
    let outcomes = config_changes::carry_out(core, asked.collect(), request.validate_only).await;
    let responses = request.resources.iter().zip(outcomes).map(|(resource, outcome)| {
        let (code, words) = config_changes::told(outcome);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(words)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}
