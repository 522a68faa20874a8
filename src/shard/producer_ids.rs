//! Producer ids of one core: taken from the controller in blocks (KIP-730), handed
//! out one by one, so that no id is ever given twice, also not by two cores.

use std::cell::Cell;

use super::Core;
use crate::metadata::{Answer, Intention};

/// The block this core is giving out.
#[derive(Default)]
pub struct ProducerIds {
    block: Cell<Block>,
}

#[derive(Clone, Copy, Default)]
struct Block {
    next: i64,
    end: i64,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        let Block { next, end } = self.block.get();
        (next < end).then(|| {
            self.block.set(Block { next: next + 1, end });
            next
        })
    }

    fn refill(&self, first: i64, count: i64) {
        self.block.set(Block { next: first, end: first + count });
    }
}

impl Core {
    /// A producer id that nobody was given before; the reason when the controller
    /// cannot make one durable.
    pub async fn next_producer_id(&self) -> Result<i64, String> {
        loop {
            if let Some(id) = self.producer_ids.take() {
                return Ok(id);
            }
            let intention = Intention::AllocateProducerIds { node: self.config().node_id };
            match self.control(intention).await {
                // Another request may have refilled meanwhile: its ids are lost, not reused.
                Ok(Answer::AllocateProducerIds(Ok(block))) => self.producer_ids.refill(block.first, block.count),
                Ok(Answer::AllocateProducerIds(Err(refusal))) => {
                    return Err(refusal.message.unwrap_or_else(|| format!("{:?}", refusal.reason)));
                }
                Ok(_) => unreachable!("an intention is answered in kind"),
                Err(unavailable) => return Err(unavailable.to_string()),
            }
        }
    }
}
