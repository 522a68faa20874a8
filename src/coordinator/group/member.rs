//! One member of a classic group (`ClassicGroupMember`).

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use super::requests::{Protocol, Token};

#[derive(Debug)]
pub(super) struct Member {
    pub id: Rc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Rc<str>>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference; names are unique.
    pub protocols: Vec<Protocol>,
    /// Of the current generation once that is stored; empty before.
    pub assignment: Bytes,
    /// The JoinGroup that waits for the generation to begin.
    pub join: Option<Token>,
    /// The SyncGroup that waits for the assignment.
    pub sync: Option<Token>,
    /// Not yet part of any generation: it cannot send heartbeats, so it may
    /// time out even while its join waits.
    pub is_new: bool,
    /// Counts the members of a group as they were added: the longest-standing
    /// one follows a leader that left.
    pub order: u64,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| &p.metadata)
    }

    /// Whether the member need not be heard of: it waits for us.
    pub fn satisfies_heartbeat(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// The first of its protocols that is a candidate.
    pub fn vote(&self, candidates: &BTreeSet<&str>) -> Option<&str> {
        self.protocols.iter().map(|p| p.name.as_str()).find(|name| candidates.contains(name))
    }
}
