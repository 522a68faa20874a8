//! What a core does for its partitions besides serving them: flushes that are due by
//! time, retention, forgetting idle producers. In slices, behind everything else.

use std::rc::Rc;
use std::time::Duration;

use super::{Core, controller};
use crate::runtime::clock;
use crate::runtime::task;

/// How often partitions are looked at for what is due by time.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks of retention, whatever `log.retention.check.interval.ms` says.
const RETENTION_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Segments that one log gives up before the next thing is looked at.
const RETAINED_AT_ONCE: usize = 64;

/// Goes round the partitions until the process stops.
pub async fn run(core: Rc<Core>) {
    while !core.sleep_or_stop(ROUND).await {
        controller::upkeep(&core).await;
        for partition in core.partitions.open() {
            if core.stop.is_raised() {
                return;
            }
            partition.upkeep(clock::unix_ms());
            task::yield_if_needed().await;
        }
    }
}

/// Gives up what is too old or too much, log by log, until the process stops. A task of its own: it
/// waits for files, thousands of them at times, and what is due by time does not.
pub async fn retain(core: Rc<Core>) {
    let interval = Duration::from_millis(core.config().log_retention_check_interval_ms.max(1) as u64);
    while !core.sleep_or_stop(interval.max(RETENTION_PAUSE_MIN)).await {
        for partition in core.partitions.open() {
            loop {
                if core.stop.is_raised() {
                    return;
                }
                match partition.retain(clock::unix_ms(), RETAINED_AT_ONCE).await {
                    Ok(RETAINED_AT_ONCE) => {}
                    Ok(_) => break,
                    Err(error) => {
                        // One that is deleted meanwhile is none of its business any more.
                        if partition.ended().is_none() {
                            tracing::warn!(partition = %partition.id(), %error, "retention");
                        }
                        break;
                    }
                }
            }
            task::yield_if_needed().await;
        }
    }
}
