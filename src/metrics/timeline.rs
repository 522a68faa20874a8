//! How long a request spent in each stage of its way.

use std::time::Duration;

use crate::base::Moment;

/// The stages of a request, in the order of their work. Not every request passes all.
/// `docs/observability.md` says what each means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// From its last byte's arrival until its content is known, the wait for earlier
    /// requests of its connection included.
    Parsed,
    /// Until its place is fixed (Produce), or its work is done (all others).
    Ordered,
    /// A fetch's wait for data, a group member's for the others. Not the broker's doing.
    Parked,
    /// Until the drive has completed the writes of all its partitions.
    Written,
    /// Until the flushes of all its partitions have completed.
    Durable,
    /// Until the kernel has taken the last byte of the answer, the wait for earlier
    /// answers of its connection included.
    Sent,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Parsed, Stage::Ordered, Stage::Parked, Stage::Written, Stage::Durable, Stage::Sent];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Parsed => "parsed",
            Stage::Ordered => "ordered",
            Stage::Parked => "parked",
            Stage::Written => "written",
            Stage::Durable => "durable",
            Stage::Sent => "sent",
        }
    }
}

/// The way of one request, from the arrival of its last byte. All its time belongs to
/// some stage: the stages add up to the total.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    read: Moment,
    /// The end of the stage that was marked last.
    last: Moment,
    took_ns: [u64; Stage::ALL.len()],
    /// Bit n: stage n was marked.
    marked: u8,
}

impl Timeline {
    pub fn begin(read: Moment) -> Timeline {
        Timeline { read, last: read, took_ns: [0; Stage::ALL.len()], marked: 0 }
    }

    /// What has passed since the last mark was spent in `stage`. May be said of one stage
    /// several times: a fetch reads, parks, and reads again. A moment before the last mark
    /// counts as that: what was written before all of a request was ordered took no time.
    pub fn mark(&mut self, stage: Stage, now: Moment) {
        let now = now.max(self.last);
        self.took_ns[stage as usize] += now.0 - self.last.0;
        self.marked |= 1 << stage as u8;
        self.last = now;
    }

    /// How long a stage took; `None`: it was not passed.
    pub fn took(&self, stage: Stage) -> Option<Duration> {
        (self.marked & (1 << stage as u8) != 0).then(|| Duration::from_nanos(self.took_ns[stage as usize]))
    }

    /// The stages that were passed.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, Duration)> + '_ {
        self.stages_ns().map(|(stage, ns)| (stage, Duration::from_nanos(ns)))
    }

    /// As [`Timeline::stages`], in nanoseconds: for what is done with every request.
    pub(super) fn stages_ns(&self) -> impl Iterator<Item = (Stage, u64)> + '_ {
        let passed = Stage::ALL.into_iter().filter(|stage| self.marked & (1 << *stage as u8) != 0);
        passed.map(|stage| (stage, self.took_ns[stage as usize]))
    }

    /// When the stage that was marked last ended.
    pub fn last(&self) -> Moment {
        self.last
    }

    /// From the read to the last stage.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns())
    }

    pub(super) fn total_ns(&self) -> u64 {
        // Marks never go back.
        self.last.0 - self.read.0
    }

    /// The total without the time parked: what the broker can be blamed for.
    pub fn work(&self) -> Duration {
        Duration::from_nanos(self.work_ns())
    }

    /// As [`Timeline::work`], in nanoseconds.
    pub fn work_ns(&self) -> u64 {
        self.total_ns() - self.took_ns[Stage::Parked as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_add_up_to_the_total() {
        let at = |us: u64| Moment(5_000_000 + us * 1000);
        let mut fetch = Timeline::begin(at(0));
        assert_eq!(fetch.total(), Duration::ZERO);
        fetch.mark(Stage::Parsed, at(3));
        fetch.mark(Stage::Ordered, at(10));
        fetch.mark(Stage::Parked, at(1010));
        fetch.mark(Stage::Ordered, at(1015));
        fetch.mark(Stage::Sent, at(1100));
        let stages: Vec<_> = fetch.stages().map(|(stage, took)| (stage.name(), took.as_micros())).collect();
        assert_eq!(stages, [("parsed", 3), ("ordered", 12), ("parked", 1000), ("sent", 85)]);
        assert_eq!((fetch.total().as_micros(), fetch.work().as_micros()), (1100, 100));
        assert_eq!(fetch.stages().map(|(_, took)| took).sum::<Duration>(), fetch.total());
        assert_eq!(fetch.took(Stage::Durable), None);
    }

    #[test]
    fn a_stage_that_ended_before_the_last_took_no_time() {
        // Two partitions: one is on the drive before the other has room.
        let mut produce = Timeline::begin(Moment(100));
        produce.mark(Stage::Ordered, Moment(200));
        produce.mark(Stage::Written, Moment(150));
        produce.mark(Stage::Durable, Moment(260));
        let stages: Vec<_> = produce.stages().map(|(_, took)| took.as_nanos()).collect();
        assert_eq!(stages, [100, 0, 60]);
    }
}
