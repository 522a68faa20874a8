//! DescribeGroups (15), versions 0–6: state, protocol and members of classic groups.
//!
//! - Metadata of members is shown while the group is Stable.
//! - v3: authorized operations (KIP-430): everything one may do with a group, as there are
//!   no ACLs. v4: instance ids (KIP-345). v5: flexible. v6: a group that does not exist
//!   is GROUP_ID_NOT_FOUND with a message (KIP-1043); before it is Dead without an error.

use std::rc::Rc;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, admin, scatter, text};
use crate::coordinator::group::{GroupDescription, GroupError, GroupState, MemberDescription};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: DescribeGroupsRequest, context: &Context) -> DescribeGroupsResponse {
    let with_operations = request.include_authorized_operations;
    let mut answers = Vec::with_capacity(request.groups.len());
    let mut elsewhere = Vec::new();
    for group in request.groups {
        match groups::find(core, &group) {
            Seat::Here(groups) => {
                let described = groups.describe(&group);
                answers.push(answer(group, described, with_operations, context));
            }
            Seat::Forward(owner) => elsewhere.push((owner, group)),
            Seat::Refuse(code) => answers.push(refused(group, code)),
        }
    }
    for (owner, groups) in scatter::by_core(elsewhere) {
        let ask =
            DescribeGroupsRequest::default().with_groups(groups).with_include_authorized_operations(with_operations);
        match groups::forward(core, context, owner, &ask).await {
            Ok(response) => answers.extend(response.groups),
            Err(code) => answers.extend(ask.groups.into_iter().map(|group| refused(group, code))),
        }
    }
    DescribeGroupsResponse::default().with_groups(answers)
}

fn answer(
    group: GroupId,
    described: Result<GroupDescription, GroupError>,
    with_operations: bool,
    context: &Context,
) -> DescribedGroup {
    let described = match described {
        Ok(described) => described,
        Err(GroupError::GroupIdNotFound) => {
            let dead = |group| {
                DescribedGroup::default()
                    .with_group_id(group)
                    .with_group_state(StrBytes::from_static_str(GroupState::Dead.name()))
                    .with_authorized_operations(admin::OPERATIONS_NOT_ASKED)
            };
            return match context.version {
                6.. => {
                    let message = format!("Group {} not found.", group.as_str());
                    dead(group)
                        .with_error_code(Code::GroupIdNotFound.code())
                        .with_error_message(Some(StrBytes::from_string(message)))
                }
                _ => dead(group),
            };
        }
        Err(error) => return refused(group, errors::group(error)),
    };
    let members = described.members.into_iter().map(|m| member(m, context));
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(StrBytes::from_static_str(described.state.name()))
        .with_protocol_type(text(&described.protocol_type))
        .with_protocol_data(text(&described.protocol))
        .with_members(members.collect())
        .with_authorized_operations(match with_operations {
            true => admin::GROUP_OPERATIONS,
            false => admin::OPERATIONS_NOT_ASKED,
        })
}

fn member(member: MemberDescription, context: &Context) -> DescribedGroupMember {
    let shown = DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    match context.version {
        4.. => shown.with_group_instance_id(member.instance_id.as_deref().map(text)),
        _ => shown,
    }
}

fn refused(group: GroupId, code: Code) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(group)
        .with_error_code(code.code())
        .with_authorized_operations(admin::OPERATIONS_NOT_ASKED)
}
