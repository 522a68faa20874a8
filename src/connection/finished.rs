//! What is noted of a request when its answer has been sent.

use std::net::SocketAddr;

use crate::api::Context;
use crate::metrics::{Finished, Timeline};
use crate::runtime::clock;
use crate::shard::Core;
use crate::wire::{self, ResponseHeader, Served, StrBytes};

/// What is kept of a request until its answer is sent.
pub struct About {
    /// Of the answer.
    pub head: ResponseHeader,
    pub timeline: Timeline,
    api: &'static Served,
    api_version: i16,
    correlation_id: i32,
    /// A slice of the frame.
    client_id: Option<StrBytes>,
    partitions: usize,
    request_bytes: usize,
}

impl About {
    pub fn new(context: Context, request_bytes: usize) -> About {
        About {
            head: wire::response_header(context.correlation_id, context.api, context.version),
            timeline: context.timeline.into_inner(),
            api: context.api,
            api_version: context.version,
            correlation_id: context.correlation_id,
            client_id: context.client_id,
            partitions: context.partitions.get(),
            request_bytes,
        }
    }
}

/// Takes up a request whose last stage has been marked; `answer_bytes` is 0 when it has no
/// answer. Logs it when it was slow.
pub fn note(core: &Core, peer: SocketAddr, about: &About, answer_bytes: usize) {
    let request = Finished {
        api_key: about.api.key as i16,
        api_version: about.api_version,
        correlation_id: about.correlation_id,
        client_id: about.client_id.as_deref().unwrap_or(""),
        peer,
        partitions: about.partitions,
        request_bytes: about.request_bytes,
        answer_bytes,
        timeline: about.timeline,
    };
    core.requests().finish(&request, clock::unix_ms);
    let threshold = core.config().slow_request_log_threshold_ms;
    // Negative: none is slow.
    if let Ok(threshold) = u64::try_from(threshold)
        && about.timeline.work_ns() > threshold.saturating_mul(1_000_000)
    {
        log(core, about, &request);
    }
}

#[cold]
fn log(core: &Core, about: &About, request: &Finished<'_>) {
    let Some(left_out) = core.requests().line_is_due(about.timeline.last()) else { return };
    let stages: Vec<String> =
        about.timeline.stages().map(|(stage, took)| format!("{} {}", stage.name(), took.as_micros())).collect();
    let more = if left_out > 0 { format!("; {left_out} more since the last such line") } else { String::new() };
    tracing::warn!(
        core = core.index().0,
        peer = %request.peer,
        client = request.client_id,
        correlation = request.correlation_id,
        partitions = request.partitions,
        request_bytes = request.request_bytes,
        answer_bytes = request.answer_bytes,
        "slow request: {} v{} took {} us: {}{more}",
        about.api.name,
        about.api_version,
        about.timeline.total().as_micros(),
        stages.join(", "),
    );
}
