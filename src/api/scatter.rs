//! Requests whose parts belong to several cores: one message per core, not one per part.

use std::collections::BTreeMap;

use crate::base::CoreIndex;

/// Sorts the parts by the core they go to, keeping their order.
pub fn by_core<T>(parts: Vec<(CoreIndex, T)>) -> BTreeMap<CoreIndex, Vec<T>> {
    let mut cores: BTreeMap<CoreIndex, Vec<T>> = BTreeMap::new();
    for (core, part) in parts {
        cores.entry(core).or_default().push(part);
    }
    cores
}
