//! Heartbeat (12), versions 0–4: a member is alive, and learns of a rebalance.
//!
//! - While the coordinator loads the answer is success: sessions begin afresh after that.
//! - v3: static members (KIP-345). v4: flexible.

use std::rc::Rc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Context;
use super::errors::{self, Code};
use super::groups::{self, Seat};
use crate::coordinator::group;
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: HeartbeatRequest, context: &Context) -> HeartbeatResponse {
    let refused = |code: Code| HeartbeatResponse::default().with_error_code(code.code());
    let groups = match groups::find_named(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            return groups::forward(core, context, owner, &request).await.unwrap_or_else(refused);
        }
        Seat::Refuse(code) => return refused(code),
    };
    let ask = group::HeartbeatRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
    };
    match groups.heartbeat(ask).await {
        Ok(()) => HeartbeatResponse::default(),
        Err(error) => refused(errors::group(error)),
    }
}
