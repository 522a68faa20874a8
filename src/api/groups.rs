//! What the group APIs share: finding the coordinator of a group, and sending a request
//! on to the core that has it.
//!
//! With `advertise=core` FindCoordinator has sent the client to the right core. A
//! request that came to the right broker but another of its cores (`advertise=host`)
//! goes there in one message; one that came to the wrong broker is told so
//! (NOT_COORDINATOR), and the client asks FindCoordinator again.

use std::net::IpAddr;
use std::rc::Rc;

use super::Context;
use super::errors::Code;
use crate::base::CoreIndex;
use crate::shard::Core;
use crate::shard::coordinators::{GroupPlace, Groups};
use crate::shard::messages::{Answer, Call, ForwardedRequest};
use crate::wire::{self, Body};

/// Where a group's request is handled, seen from the core it came to.
pub enum Seat {
    Here(Rc<Groups>),
    /// Another core behind the same broker has it.
    Forward(CoreIndex),
    Refuse(Code),
}

pub fn find(core: &Core, group: &str) -> Seat {
    match core.group_place(group) {
        GroupPlace::Here(groups) => Seat::Here(groups),
        GroupPlace::There(owner) if core.brokers().same_broker(core.index(), owner) => Seat::Forward(owner),
        GroupPlace::There(_) | GroupPlace::Nowhere => Seat::Refuse(Code::NotCoordinator),
    }
}

/// As [`find`], for requests that need a group id that is not empty.
pub fn find_named(core: &Core, group: &str) -> Seat {
    if group.is_empty() { Seat::Refuse(Code::InvalidGroupId) } else { find(core, group) }
}

/// Has a request handled on another core.
///
/// # Errors
/// The process is stopping, or (a mistake of ours) the request does not encode.
pub async fn forward<Q: Body>(
    core: &Rc<Core>,
    context: &Context,
    owner: CoreIndex,
    request: &Q,
) -> Result<Q::Response, Code> {
    let unavailable = |error: &dyn std::fmt::Display| {
        tracing::error!(api = context.api.name, %error, "a request could not be handled on another core");
        Code::CoordinatorNotAvailable
    };
    let forwarded = ForwardedRequest {
        api_key: context.api.key as i16,
        api_version: context.version,
        correlation_id: context.correlation_id,
        client_id: context.client_id.as_deref().map(String::from),
        client_host: context.client_host,
        listener: context.listener,
        body: wire::encode_request(request, context.version).map_err(|error| unavailable(&error))?,
    };
    match core.router().ask(owner, Call::Request(forwarded)).await {
        Ok(Answer::Request(Some(body))) => {
            wire::decode_answer::<Q>(body, context.version).map_err(|error| unavailable(&error))
        }
        _ => Err(Code::CoordinatorNotAvailable),
    }
}

/// A client's address as Kafka shows it (`InetAddress.toString` of Java: IPv6 is not shortened).
pub fn host_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("/{v4}"),
        IpAddr::V6(v6) => {
            let groups: Vec<String> = v6.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        for (address, text) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("fe80::1ff:fe23:4567:890a", "/fe80:0:0:0:1ff:fe23:4567:890a"),
            ("::ffff:10.1.2.3", "/10.1.2.3"),
        ] {
            assert_eq!(host_text(address.parse().unwrap()), text);
        }
    }
}
