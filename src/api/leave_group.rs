//! LeaveGroup (13), versions 0–5: members go, and need not be missed first.
//!
//! - v0–2: one member, its error is the answer's. v3: several, each with its own error;
//!   an instance id without a member id removes a static member (KIP-345). v4: flexible.
//!   v5: reason (KIP-800), which only Kafka's log would show.
//! - When the last member leaves, the answer waits until the empty group is stored.

use std::rc::Rc;

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::errors::{self, Code};
use super::groups::{self, Seat};
use crate::coordinator::group::{LeaveRequest, LeavingMember};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: LeaveGroupRequest, context: &Context) -> LeaveGroupResponse {
    let refused = |code: Code| LeaveGroupResponse::default().with_error_code(code.code());
    let groups = match groups::find_named(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            return groups::forward(core, context, owner, &request).await.unwrap_or_else(refused);
        }
        Seat::Refuse(code) => return refused(code),
    };
    let members = match context.version {
        3.. => request
            .members
            .into_iter()
            .map(|m| LeavingMember {
                member_id: m.member_id.to_string(),
                instance_id: m.group_instance_id.map(|id| id.to_string()),
            })
            .collect(),
        _ => vec![LeavingMember { member_id: request.member_id.to_string(), instance_id: None }],
    };
    let left = match groups.leave(LeaveRequest { group: request.group_id.to_string(), members }).await {
        Ok(left) => left,
        Err(error) => return refused(errors::group(error)),
    };
    let left = left.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_error_code(errors::code(&member.result.map_err(errors::group)))
    });
    match context.version {
        3.. => LeaveGroupResponse::default().with_members(left.collect()),
        _ => LeaveGroupResponse::default().with_error_code(left.map(|m| m.error_code).next().unwrap_or(errors::NONE)),
    }
}
