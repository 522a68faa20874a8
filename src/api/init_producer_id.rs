//! InitProducerId (22), versions 0–5: an id for an idempotent producer.
//!
//! - Without a transactional id: a fresh id with epoch 0. Given an id and epoch (v3,
//!   KIP-360) Kafka also hands out a fresh id when there is no transactional id.
//! - v4: PRODUCER_FENCED exists as an error; v5: KIP-890 errors. Both concern
//!   transactions alone.
//! - Transactions are not served yet: a transactional id is answered with
//!   COORDINATOR_NOT_AVAILABLE, or INVALID_REQUEST when it is empty.

use std::rc::Rc;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;
use super::errors::Code;
use crate::shard::Core;

pub async fn handle(core: &Rc<Core>, request: InitProducerIdRequest, _context: &Context) -> InitProducerIdResponse {
    let refused = |code: Code| {
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    match request.transactional_id {
        Some(id) if id.is_empty() => refused(Code::InvalidRequest),
        Some(_) => refused(Code::CoordinatorNotAvailable),
        // Half a pair means that the client is confused (`KafkaApis.handleInitProducerIdRequest`).
        None if (request.producer_id.0 == -1) != (request.producer_epoch == -1) => refused(Code::InvalidRequest),
        None => match core.next_producer_id().await {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
            Err(reason) => {
                tracing::warn!(reason, "no producer id could be allocated");
                refused(Code::CoordinatorNotAvailable)
            }
        },
    }
}
