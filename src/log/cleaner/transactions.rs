//! Which batches of transactions compaction may drop (`CleanedTransactionMetadata`), as the index of
//! aborted transactions tells it.
//!
//! Records of an aborted transaction go at once. A marker goes when nothing of its
//! transaction is left before it, and not before `delete.retention.ms` has passed since that
//! was first seen. Nothing here touches the disk.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::aborted::AbortedTransaction;
use crate::base::Offset;
use crate::record::{BatchView, ControlType, RecordFault, Scratch};

/// What is known of the transactions around the batches, which come in order.
#[derive(Default)]
pub(super) struct Transactions {
    /// AbortedTransaction ones whose first offset has not been reached, by it.
    ahead: BTreeMap<(Offset, i64), AbortedTransaction>,
    /// AbortedTransaction ones by producer, and whether a batch of theirs was seen.
    aborted: HashMap<i64, (AbortedTransaction, bool)>,
    /// Producers of which a batch was seen that is not aborted, and no marker since.
    committed: HashSet<i64>,
    /// AbortedTransaction ones whose marker stays because batches of theirs were seen: the index of what is written.
    kept: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Tells of aborted transactions; those that are known already change nothing.
    pub fn add(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>) {
        for entry in aborted {
            let known = self.aborted.get(&entry.producer_id).is_some_and(|(known, _)| *known == entry);
            if !known {
                self.ahead.insert((entry.first, entry.producer_id), entry);
            }
        }
    }

    /// The index entries since the last call.
    pub fn take_kept(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.kept)
    }

    /// Takes the next batch into account. Whether it may be dropped: records of an aborted
    /// transaction, or a marker whose transaction has nothing left.
    ///
    /// # Errors
    /// A control record cannot be read.
    pub fn may_drop(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<bool, RecordFault> {
        self.reach(batch.last_offset());
        let producer = batch.producer_id();
        if batch.is_control() {
            let Some(kind) = first_control(batch, scratch)? else {
                // Emptied before.
                return Ok(true);
            };
            return Ok(match kind {
                Some(ControlType::Abort) => match self.aborted.remove(&producer) {
                    Some((aborted, true)) => {
                        self.kept.push(aborted);
                        false
                    }
                    _ => true,
                },
                Some(ControlType::Commit) => !self.committed.remove(&producer),
                _ => false,
            });
        }
        if !batch.is_transactional() {
            return Ok(false);
        }
        Ok(match self.aborted.get_mut(&producer) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(producer);
                false
            }
        })
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(first) = self.ahead.first_entry().filter(|entry| entry.key().0 <= offset) {
            let aborted = first.remove();
            self.aborted.entry(aborted.producer_id).or_insert((aborted, false));
        }
    }
}

/// The kind of the control record; `None` of a batch without one, and of a kind that nobody knows.
fn first_control(batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<Option<Option<ControlType>>, RecordFault> {
    let mut records = batch.records(scratch)?;
    Ok(records.next()?.map(|record| record.key.and_then(ControlType::from_key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, NewRecord};

    fn data(base: i64, producer: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(Offset(base)).producer(producer, 0, 0).transactional();
        builder.push(NewRecord { key: Some(b"k"), value: Some(b"v"), ..NewRecord::default() });
        builder.build()
    }

    fn marker(base: i64, producer: i64, kind: ControlType) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new().base_offset(Offset(base)).producer(producer, 0, -1).transactional().control();
        builder.push_control(kind, 5, &[0; 6]);
        builder.build()
    }

    fn aborted(producer_id: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction { producer_id, first: Offset(first), last: Offset(last), last_stable: Offset(last + 1) }
    }

    #[test]
    fn aborted_records_go_and_markers_stay_while_something_is_before_them() {
        let mut scratch = Scratch::new();
        let mut transactions = Transactions::default();
        transactions.add([aborted(1, 0, 4), aborted(3, 20, 21)]);
        let mut check = |batch: Vec<u8>, may_drop: bool| {
            let view = BatchView::first(&batch).unwrap();
            assert_eq!(transactions.may_drop(&view, &mut scratch).unwrap(), may_drop, "{view:?}");
        };
        check(data(0, 1), true);
        check(data(1, 2), false);
        check(data(2, 1), true);
        // Its records were there just now: a reader that has them needs the marker.
        check(marker(4, 1, ControlType::Abort), false);
        check(marker(5, 2, ControlType::Commit), false);
        // The same producers again: the transaction that ended says nothing of the next.
        check(data(6, 1), false);
        check(marker(7, 1, ControlType::Commit), false);
        // Nothing is left of these.
        check(marker(8, 2, ControlType::Commit), true);
        check(marker(9, 4, ControlType::Abort), true);
        check(marker(21, 3, ControlType::Abort), true);
        // Plain batches are none of a transaction's business.
        let mut plain = BatchBuilder::new().base_offset(Offset(30));
        plain.push(NewRecord::default());
        check(plain.build(), false);
        // A marker that was emptied for its producer's sake.
        let emptied = crate::record::emptied(&BatchView::first(&marker(31, 9, ControlType::Commit)).unwrap());
        check(emptied.to_vec(), true);
        assert_eq!(transactions.take_kept(), [aborted(1, 0, 4)]);
        assert_eq!(transactions.take_kept(), []);
    }
}
