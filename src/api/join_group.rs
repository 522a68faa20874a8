//! JoinGroup (11), versions 0–9: become a member of a group, or take part in its next
//! generation.
//!
//! - The answer comes when the generation begins: up to `group.initial.rebalance.delay.ms`
//!   for a new group, up to the members' rebalance timeout otherwise.
//! - v1: rebalance timeout; before that the session timeout stands for it. v4: a new
//!   dynamic member gets MEMBER_ID_REQUIRED with its id and joins again (KIP-394). v5:
//!   static members (KIP-345). v6: flexible. v7: protocol type in the answer, a null
//!   protocol name on errors (KIP-559). v8: reason (KIP-800), which only Kafka's log
//!   would show. v9: skip_assignment for a leader that came back (KIP-814).

use std::rc::Rc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, text};
use crate::coordinator::group::{JoinRequest, Joined, Protocol};
use crate::runtime;
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: JoinGroupRequest, context: &Context) -> JoinGroupResponse {
    let refused = |code: Code, member_id: StrBytes| {
        JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_generation_id(-1)
            .with_protocol_name(protocol_name(context, None))
            .with_member_id(member_id)
    };
    let groups = match groups::find_named(core, &request.group_id) {
        Seat::Here(groups) => groups,
        Seat::Forward(owner) => {
            let forwarded = groups::forward(core, context, owner, &request).await;
            return forwarded.unwrap_or_else(|code| refused(code, request.member_id));
        }
        Seat::Refuse(code) => return refused(code, request.member_id),
    };
    match groups.join(ask(request, context)).await {
        Ok(joined) => self::joined(joined, context),
        Err(refusal) => refused(errors::group(refusal.error), text(&refusal.member_id)),
    }
}

fn ask(request: JoinGroupRequest, context: &Context) -> JoinRequest {
    let version = context.version;
    JoinRequest {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        client_id: context.client_id().to_owned(),
        client_host: groups::host_text(context.client_host),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms },
        protocol_type: request.protocol_type.to_string(),
        // Copied: what a group keeps must not keep the whole frame alive.
        protocols: request
            .protocols
            .into_iter()
            .map(|p| Protocol { name: p.name.to_string(), metadata: p.metadata.to_vec().into() })
            .collect(),
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
        random: runtime::random_bytes(),
    }
}

fn joined(joined: Joined, context: &Context) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        let shown =
            JoinGroupResponseMember::default().with_member_id(text(&member.member_id)).with_metadata(member.metadata);
        match context.version {
            5.. => shown.with_group_instance_id(member.instance_id.as_deref().map(text)),
            _ => shown,
        }
    });
    let response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(protocol_name(context, joined.protocol_name.as_deref()))
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect());
    match context.version {
        9.. => response
            .with_protocol_type(joined.protocol_type.as_deref().map(text))
            .with_skip_assignment(joined.skip_assignment),
        7.. => response.with_protocol_type(joined.protocol_type.as_deref().map(text)),
        _ => response,
    }
}

/// Before version 7 no name is the empty one.
fn protocol_name(context: &Context, name: Option<&str>) -> Option<StrBytes> {
    match name {
        None if context.version < 7 => Some(StrBytes::new()),
        name => name.map(text),
    }
}
