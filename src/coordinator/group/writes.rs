//! Appends that are on their way to the log, and what each of them decides.
//!
//! A change that others may already build on is made at once and taken back if
//! its write fails; one that clients can see (a committed offset, an assignment)
//! shows only when its write is durable. Writes of a partition complete in the
//! order in which they were made.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::classic::Group;
use super::requests::{Answer, FetchRequest, Protocol, Token};

/// Names one append effect; rises by one each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteId(pub u64);

/// The place of one committed offset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct OffsetKey {
    pub group: Rc<str>,
    pub topic: Rc<str>,
    pub partition: i32,
}

/// What one append effect stands for.
#[derive(Default, Debug)]
pub(super) struct Write {
    /// Offsets set or deleted by it, staged in `Offsets` under this write.
    pub offsets: Vec<OffsetKey>,
    /// Groups whose tombstones it carries, kept to be put back if it fails.
    pub deleted: Vec<Group>,
    /// What else happens to a group when it is done.
    pub then: Option<Then>,
    /// Waits for it.
    pub answers: Vec<(Token, Answer)>,
    /// Offset fetches that must see it.
    pub fetches: Vec<(Token, FetchRequest)>,
}

/// `incarnation` tells whether the group is still the one that made the write.
#[derive(Debug)]
pub(super) struct Then {
    pub group: Rc<str>,
    pub incarnation: u64,
    pub kind: ThenKind,
}

#[derive(Debug)]
pub(super) enum ThenKind {
    /// A new group was made known to the log.
    Created,
    /// The leader's assignment was stored.
    Assigned { generation: i32, assignments: BTreeMap<Rc<str>, Bytes> },
    /// A static member took over from its former self.
    Replaced(Replacement),
}

#[derive(Debug)]
pub(super) struct Replacement {
    pub generation: i32,
    pub token: Token,
    pub new_member_id: Rc<str>,
    pub old: OldSelf,
    /// KIP-814: the leader is told of all members, and not to compute an assignment.
    pub skip_assignment: bool,
}

/// What a static member was before it was replaced, to take the replacement back.
#[derive(Debug)]
pub(super) struct OldSelf {
    pub member_id: Rc<str>,
    pub leader: Rc<str>,
    pub protocols: Vec<Protocol>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
}

#[derive(Default, Debug)]
pub(super) struct Writes {
    last: u64,
    pub in_flight: BTreeMap<WriteId, Write>,
}

impl Writes {
    pub fn add(&mut self, write: Write) -> WriteId {
        self.last += 1;
        let id = WriteId(self.last);
        self.in_flight.insert(id, write);
        id
    }

    /// The latest write in flight that touches offsets of the group.
    pub fn latest_of_group(&mut self, group: &str) -> Option<&mut Write> {
        self.in_flight.values_mut().rev().find(|write| write.offsets.iter().any(|key| &*key.group == group))
    }

    /// How many were ever made: to notice whether a step made one.
    pub fn made(&self) -> u64 {
        self.last
    }
}
