//! IncrementalAlterConfigs (44), versions 0–1: options of topics and brokers, one by one.
//!
//! - Operations: 0 SET, 1 DELETE (the default applies again), 2 APPEND and 3 SUBTRACT, of
//!   items of a list. KIP-339.
//! - A resource changes whole or not at all; one that is refused does not fail the others.
//! - `validate_only` does everything but the change.
//! - The answer leaves when the change is durable and every core has taken it into use: what
//!   is produced from then on follows it.
//! - v1 is flexible. Whose options can be changed: [`super::config_changes`].

use std::rc::Rc;

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::config_changes::{self, Asked, Refused, refuse};
use crate::metadata::configs::{Alteration, ConfigOp};
use crate::shard::Core;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub async fn handle(core: &Rc<Core>, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.iter().map(|resource| Asked {
        kind: resource.resource_type,
        name: resource.resource_name.as_str(),
        options: resource
            .configs
            .iter()
            .map(|option| (option.name.as_str(), option.config_operation != DELETE && option.value.is_none()))
            .collect(),
        how: how(resource),
        loggers: true,
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
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn how(resource: &AlterConfigsResource) -> Result<Alteration, Refused> {
    let ops = resource.configs.iter().map(|option| {
        let value = || option.value.as_ref().map(ToString::to_string).unwrap_or_default();
        let op = match option.config_operation {
            SET => ConfigOp::Set(value()),
            DELETE => ConfigOp::Delete,
            APPEND => ConfigOp::Append(value()),
            SUBTRACT => ConfigOp::Subtract(value()),
            other => return refuse(format!("Unknown operations type {other}")),
        };
        Ok((option.name.to_string(), op))
    });
    Ok(Alteration::Each(ops.collect::<Result<_, _>>()?))
}
