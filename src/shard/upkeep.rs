//! What a core does for its partitions besides serving them: rolling by time,
//! retention, forgetting idle producers. In slices, behind everything else.

use std::rc::Rc;
use std::time::Duration;

use super::{Core, controller};
use crate::runtime::clock;
use crate::runtime::task;

/// How often partitions are looked at for what is due by time.
const ROUND: Duration = Duration::from_secs(1);

/// Goes round the partitions until the process stops.
pub async fn run(core: Rc<Core>) {
    let retention = Duration::from_millis(core.config().log_retention_check_interval_ms.max(1) as u64);
    let mut retained = clock::now();
    while !core.sleep_or_stop(ROUND).await {
        let now = clock::now();
        let retain = now.duration_since(retained) >= retention;
        if retain {
            retained = now;
        }
        controller::upkeep(&core).await;
        for partition in core.partitions.open() {
            if core.stop.is_raised() {
                return;
            }
            let now = clock::unix_ms();
            partition.upkeep(now);
            if retain && let Err(error) = partition.retain(now).await {
                tracing::warn!(partition = %partition.id(), %error, "retention");
            }
            task::yield_if_needed().await;
        }
    }
}
