//! The committed offsets of one coordinator's groups (`OffsetMetadataManager`).
//!
//! Each place has what is durable and what is being written. Fetches see the
//! former, decisions (is there anything to delete?) the latter.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::records::CommittedOffset;
use super::writes::{OffsetKey, WriteId};

#[derive(Default, Debug)]
pub(super) struct Slot {
    durable: Option<CommittedOffset>,
    /// In the order of the writes; `None` deletes.
    staged: Vec<(WriteId, Option<CommittedOffset>)>,
}

impl Slot {
    pub fn durable(&self) -> Option<&CommittedOffset> {
        self.durable.as_ref()
    }

    /// What will be there when all writes have succeeded.
    pub fn latest(&self) -> Option<&CommittedOffset> {
        self.staged.last().map_or(self.durable.as_ref(), |(_, value)| value.as_ref())
    }
}

pub(super) type OfTopic = BTreeMap<i32, Slot>;
pub(super) type OfGroup = BTreeMap<Rc<str>, OfTopic>;

/// No empty maps and no empty slots are kept.
#[derive(Default, Debug)]
pub(super) struct Offsets {
    by_group: BTreeMap<Rc<str>, OfGroup>,
}

impl Offsets {
    pub fn of_group(&self, group: &str) -> Option<&OfGroup> {
        self.by_group.get(group)
    }

    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Slot> {
        self.by_group.get(group)?.get(topic)?.get(&partition)
    }

    /// All places whose latest value is an offset.
    pub fn latest_of_group(&self, group: &str) -> impl Iterator<Item = (&Rc<str>, i32, &CommittedOffset)> {
        let topics = self.by_group.get(group).into_iter().flatten();
        topics.flat_map(|(topic, slots)| slots.iter().filter_map(move |(p, slot)| Some((topic, *p, slot.latest()?))))
    }

    /// The places of one topic in all groups.
    pub fn latest_of_topic(&self, topic: &str) -> Vec<OffsetKey> {
        let mut keys = Vec::new();
        for (group, topics) in &self.by_group {
            let Some((topic, slots)) = topics.get_key_value(topic) else { continue };
            let here = slots.iter().filter(|(_, slot)| slot.latest().is_some());
            keys.extend(here.map(|(partition, _)| OffsetKey {
                group: Rc::clone(group),
                topic: Rc::clone(topic),
                partition: *partition,
            }));
        }
        keys
    }

    /// Sets a value from the log.
    pub fn put(&mut self, key: &OffsetKey, value: Option<CommittedOffset>) {
        self.slot(key).durable = value;
        self.tidy(key);
    }

    /// Notes a value that `write` is about to make durable.
    pub fn stage(&mut self, key: &OffsetKey, write: WriteId, value: Option<CommittedOffset>) {
        self.slot(key).staged.push((write, value));
    }

    /// `write` is done: its value becomes the durable one, or never was.
    pub fn settle(&mut self, key: &OffsetKey, write: WriteId, durable: bool) {
        let slot = self.slot(key);
        // A write may hold the same place several times; the last one counts.
        while let Some(at) = slot.staged.iter().position(|(by, _)| *by == write) {
            let (_, value) = slot.staged.remove(at);
            if durable {
                slot.durable = value;
            }
        }
        self.tidy(key);
    }

    fn slot(&mut self, key: &OffsetKey) -> &mut Slot {
        let topics = self.by_group.entry(Rc::clone(&key.group)).or_default();
        topics.entry(Rc::clone(&key.topic)).or_default().entry(key.partition).or_default()
    }

    fn tidy(&mut self, key: &OffsetKey) {
        let Some(topics) = self.by_group.get_mut(&key.group) else { return };
        let Some(slots) = topics.get_mut(&key.topic) else { return };
        if slots.get(&key.partition).is_some_and(|slot| slot.durable.is_none() && slot.staged.is_empty()) {
            slots.remove(&key.partition);
        }
        if slots.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.by_group.remove(&key.group);
        }
    }

    /// Groups, topics and partitions that hold durable offsets, for tests.
    #[cfg(test)]
    pub fn durable(&self) -> BTreeMap<(String, String, i32), CommittedOffset> {
        let mut all = BTreeMap::new();
        for (group, topics) in &self.by_group {
            for (topic, slots) in topics {
                for (partition, slot) in slots {
                    if let Some(value) = slot.durable() {
                        all.insert((group.to_string(), topic.to_string(), *partition), value.clone());
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{UnixMs, Uuid};

    fn offset(offset: i64) -> Option<CommittedOffset> {
        let value = CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp: UnixMs(0),
            expire_timestamp: None,
            topic_id: Uuid::ZERO,
        };
        Some(value)
    }

    #[test]
    fn durable_and_latest_part_while_writes_are_in_flight() {
        let key = OffsetKey { group: "g".into(), topic: "t".into(), partition: 0 };
        let mut offsets = Offsets::default();
        let view = |offsets: &Offsets| {
            let slot = offsets.get("g", "t", 0);
            let of = |value: Option<&CommittedOffset>| value.map(|value| value.offset);
            slot.map(|slot| (of(slot.durable()), of(slot.latest())))
        };
        offsets.put(&key, offset(1).clone());
        offsets.stage(&key, WriteId(1), offset(2));
        offsets.stage(&key, WriteId(1), offset(3));
        offsets.stage(&key, WriteId(2), offset(4));
        offsets.stage(&key, WriteId(3), None);
        assert_eq!(view(&offsets), Some((Some(1), None)));
        offsets.settle(&key, WriteId(1), true);
        assert_eq!(view(&offsets), Some((Some(3), None)));
        offsets.settle(&key, WriteId(2), false);
        assert_eq!(view(&offsets), Some((Some(3), None)));
        offsets.stage(&key, WriteId(4), offset(9));
        offsets.settle(&key, WriteId(3), true);
        assert_eq!(view(&offsets), Some((None, Some(9))));
        offsets.settle(&key, WriteId(4), false);
        assert_eq!(view(&offsets), None, "nothing is kept of what is gone");
        assert!(offsets.of_group("g").is_none() && offsets.durable().is_empty());
    }
}
