//! SyncGroup (14), versions 0–5: the leader gives the assignment, every member gets its own.
//!
//! - The answer waits for the leader's assignment and until that is stored.
//! - v3: static members (KIP-345). v4: flexible. v5: protocol type and name are required
//!   and must be the group's (INCONSISTENT_GROUP_PROTOCOL), and are answered (KIP-559).

use std::rc::Rc;

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, text};
use crate::coordinator::group::SyncRequest;
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: SyncGroupRequest, context: &Context) -> SyncGroupResponse {
    let refused = |code: Code| SyncGroupResponse::default().with_error_code(code.code());
    if context.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refused(Code::InconsistentGroupProtocol);
    }
    let groups = match groups::find_named(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            return groups::forward(core, context, owner, &request).await.unwrap_or_else(refused);
        }
        Seat::Refuse(code) => return refused(code),
    };
    let ask = SyncRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol_name: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (a.member_id.to_string(), a.assignment.to_vec().into()))
            .collect(),
    };
    match groups.sync(ask).await {
        Ok(synced) => {
            let response = SyncGroupResponse::default().with_assignment(synced.assignment);
            match context.version {
                5.. => response
                    .with_protocol_type(synced.protocol_type.as_deref().map(text))
                    .with_protocol_name(synced.protocol_name.as_deref().map(text)),
                _ => response,
            }
        }
        Err(error) => refused(errors::group(error)),
    }
}
