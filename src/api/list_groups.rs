//! ListGroups (16), versions 0–5: the groups this broker coordinates. Clients ask all brokers.
//!
//! - v3: flexible. v4: state, and a filter by states (KIP-518), without regard to case. v5:
//!   type, and a filter by types (KIP-848): all groups here are `classic`.
//! - While a coordinator loads: COORDINATOR_LOAD_IN_PROGRESS, as half a list would mislead.

use std::rc::Rc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::errors::{self, Code};
use crate::shard::Core;
use crate::shard::coordinators;
use crate::shard::messages::{Answer, Call};

const CLASSIC: &str = "classic";

pub async fn handle(core: &Rc<Core>, request: ListGroupsRequest, context: &Context) -> ListGroupsResponse {
    let all = match listed(core).await {
        Ok(all) => all,
        Err(code) => return ListGroupsResponse::default().with_error_code(code.code()),
    };
    let named = |filter: &[StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
    };
    let shown = all
        .into_iter()
        .filter(|group| named(&request.states_filter, group.state.name()) && named(&request.types_filter, CLASSIC))
        .map(|group| {
            let listed = ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(group.group)))
                .with_protocol_type(StrBytes::from_string(group.protocol_type));
            let state = StrBytes::from_static_str(group.state.name());
            match context.version {
                5.. => listed.with_group_state(state).with_group_type(StrBytes::from_static_str(CLASSIC)),
                4 => listed.with_group_state(state),
                _ => listed,
            }
        });
    ListGroupsResponse::default().with_groups(shown.collect())
}

/// The groups of all cores behind this broker.
async fn listed(core: &Rc<Core>) -> Result<Vec<coordinators::ListedGroup>, Code> {
    let mut all = core.coordinators().list().map_err(errors::group)?;
    let others = core.placement().all().filter(|other| *other != core.index());
    for other in others.filter(|other| core.brokers().same_broker(core.index(), *other)) {
        match core.router().ask(other, Call::ListGroups).await {
            Ok(Answer::ListGroups(listed)) => all.extend(listed.map_err(errors::group)?),
            _ => return Err(Code::CoordinatorNotAvailable),
        }
    }
    Ok(all)
}
