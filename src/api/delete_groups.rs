//! DeleteGroups (42), versions 0–2: groups without members, with all their offsets.
//!
//! - Per group: NON_EMPTY_GROUP when it has members, GROUP_ID_NOT_FOUND when there is none.
//! - Answered when the deletion is stored. v2: flexible.

use std::rc::Rc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::errors::{self, Code};
use super::groups::{self, Seat};
use super::{Context, scatter};
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: DeleteGroupsRequest, context: &Context) -> DeleteGroupsResponse {
    let mut answers = Vec::with_capacity(request.groups_names.len());
    let mut elsewhere = Vec::new();
    for group in request.groups_names {
        match groups::find(core, &group) {
            Seat::Here(groups) => {
                for (group, result) in groups.delete_groups(vec![group.to_string()]).await {
                    let group = GroupId(StrBytes::from_string(group));
                    answers.push(answer(group, errors::code(&result.map_err(errors::group))));
                }
            }
            Seat::Forward(owner) => elsewhere.push((owner, group)),
            Seat::Refuse(code) => answers.push(answer(group, code.code())),
        }
    }
    for (owner, groups) in scatter::by_core(elsewhere) {
        let ask = DeleteGroupsRequest::default().with_groups_names(groups);
        match groups::forward(core, context, owner, &ask).await {
            Ok(response) => answers.extend(response.results),
            Err(code) => answers.extend(refused(ask, code)),
        }
    }
    DeleteGroupsResponse::default().with_results(answers)
}

fn refused(request: DeleteGroupsRequest, code: Code) -> impl Iterator<Item = DeletableGroupResult> {
    request.groups_names.into_iter().map(move |group| answer(group, code.code()))
}

fn answer(group: GroupId, code: i16) -> DeletableGroupResult {
    DeletableGroupResult::default().with_group_id(group).with_error_code(code)
}
