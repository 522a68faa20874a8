//! Transactions that were aborted, as a reader of committed records has to be told of them: their
//! records lie in the log like all others. Files keep them by segment ([`log::aborted`](crate::log::aborted)).

use crate::base::Offset;
use crate::log::aborted::AbortedTransaction;

/// The aborted transactions of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aborted {
    /// By their markers.
    entries: Vec<AbortedTransaction>,
}

impl Aborted {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[AbortedTransaction] {
        &self.entries
    }

    /// Adds one, unless it is there. Gives whether it was not.
    pub fn add(&mut self, entry: AbortedTransaction) -> bool {
        match self.entries.binary_search_by_key(&entry.last, |known| known.last) {
            Ok(_) => false,
            Err(at) => {
                self.entries.insert(at, entry);
                true
            }
        }
    }

    /// What a reader needs who gets batches from `from` on and below `until`.
    pub fn within(&self, from: Offset, until: Offset) -> Vec<AbortedTransaction> {
        let first = self.entries.partition_point(|entry| entry.last < from);
        let mut found = Vec::new();
        for entry in &self.entries[first..] {
            if entry.first < until {
                found.push(*entry);
            }
            // Whatever was aborted later began behind it.
            if entry.last_stable >= until {
                break;
            }
        }
        found
    }

    /// Those whose markers lie from `from` on and before `until`.
    pub fn of_segment(&self, from: Offset, until: Offset) -> &[AbortedTransaction] {
        let at = |offset: Offset| self.entries.partition_point(|entry| entry.last < offset);
        &self.entries[at(from)..at(until)]
    }

    /// Of those whose markers lie from `from` on and before `until`, keeps the ones at `markers`. A reader who were
    /// told of one whose marker is gone would leave out all that its producer wrote later.
    pub fn keep(&mut self, from: Offset, until: Offset, markers: &[Offset]) {
        self.entries.retain(|entry| entry.last < from || entry.last >= until || markers.contains(&entry.last));
    }

    /// Forgets those whose markers lie below `start`: nothing of them is left in the log.
    pub fn truncate_start(&mut self, start: Offset) {
        let gone = self.entries.partition_point(|entry| entry.last < start);
        self.entries.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::aborted;

    fn entry(producer_id: i64, first: i64, last: i64, last_stable: i64) -> AbortedTransaction {
        let (first, last, last_stable) = (Offset(first), Offset(last), Offset(last_stable));
        AbortedTransaction { producer_id, first, last, last_stable }
    }

    proptest! {
        /// Transactions side by side: a reader is told of each that was aborted and has records in its range, and
        /// of none that ended before.
        #[test]
        fn readers_are_told_of_what_they_may_meet(
            steps in proptest::collection::vec((0usize..4, any::<bool>()), 1..80),
            from in 0i64..80,
            len in 1i64..80,
        ) {
            // A step begins the transaction of a producer, or ends it; each takes an offset.
            let mut open: [Option<i64>; 4] = [None; 4];
            let mut aborted = Aborted::default();
            let mut all = Vec::new();
            for (offset, (producer, abort)) in (0i64..).zip(&steps) {
                let Some(first) = open[*producer].take() else {
                    open[*producer] = Some(offset);
                    continue;
                };
                if *abort {
                    let undecided = open.iter().flatten().min().copied().unwrap_or(offset + 1);
                    let entry = entry(*producer as i64, first, offset, undecided);
                    prop_assert!(aborted.add(entry) && !aborted.add(entry));
                    all.push(entry);
                }
            }
            let until = from + len;
            let expected: Vec<_> = all.iter().copied().filter(|e| e.last.0 >= from && e.first.0 < until).collect();
            prop_assert_eq!(aborted.within(Offset(from), Offset(until)), expected);
            let (below, above) = (aborted.of_segment(Offset(0), Offset(from)), aborted.of_segment(Offset(from), Offset(1000)));
            prop_assert_eq!([below, above].concat(), all.clone());
            prop_assert_eq!(aborted::decode(&aborted::encode(&all), Offset(0), Offset(1000)), Ok(all.clone()));
            let mut kept = aborted.clone();
            kept.keep(Offset(from), Offset(until), &[Offset(from + 3)]);
            let stays = |e: &AbortedTransaction| e.last.0 < from || e.last.0 >= until || e.last.0 == from + 3;
            prop_assert_eq!(kept.entries(), &all.iter().copied().filter(stays).collect::<Vec<_>>()[..]);
            aborted.truncate_start(Offset(from));
            prop_assert_eq!(aborted.entries(), &all.iter().copied().filter(|e| e.last.0 >= from).collect::<Vec<_>>()[..]);
        }
    }
}
