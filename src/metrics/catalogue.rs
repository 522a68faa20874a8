//! Every metric, declared once: name, unit, meaning. The struct of a core's
//! values, the snapshot and (later) the exposition are all made from this list.

use hdrhistogram::Histogram;

use super::values::{Counter, Gauge, Timing};

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Bytes,
    /// Things: connections, requests, records.
    Count,
    Nanoseconds,
}

/// How a value behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Timing,
}

/// One line of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Without prefix, unit last: `produced_bytes`.
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// One sentence for whoever reads the value.
    pub help: &'static str,
}

macro_rules! catalogue {
    (
        counters { $($counter:ident: $counter_unit:ident, $counter_help:literal;)* }
        gauges { $($gauge:ident: $gauge_unit:ident, $gauge_help:literal;)* }
        timings { $($timing:ident: $timing_help:literal;)* }
    ) => {
        /// The values of one core.
        #[derive(Debug, Default)]
        pub struct CoreMetrics {
            $(#[doc = $counter_help] pub $counter: Counter,)*
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
            $(#[doc = $timing_help] pub $timing: Timing,)*
        }

        const COUNTERS: &[Spec] = &[$(Spec {
            name: stringify!($counter), kind: Kind::Counter, unit: Unit::$counter_unit, help: $counter_help,
        },)*];
        const GAUGES: &[Spec] = &[$(Spec {
            name: stringify!($gauge), kind: Kind::Gauge, unit: Unit::$gauge_unit, help: $gauge_help,
        },)*];
        const TIMINGS: &[Spec] = &[$(Spec {
            name: stringify!($timing), kind: Kind::Timing, unit: Unit::Nanoseconds, help: $timing_help,
        },)*];

        impl CoreMetrics {
            /// A copy that may leave the core.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    counters: vec![$(self.$counter.get(),)*],
                    gauges: vec![$(self.$gauge.get(),)*],
                    timings: vec![$(self.$timing.distribution(),)*],
                }
            }
        }
    };
}

catalogue! {
    counters {
        connections_accepted: Count, "Connections accepted.";
        connections_refused: Count, "Connections closed at once because a limit was reached.";
        requests: Count, "Requests read, of every kind.";
        requests_refused: Count, "Requests that ended their connection: unreadable, too large, or of an unknown kind.";
        received_bytes: Bytes, "Bytes of request frames received.";
        sent_bytes: Bytes, "Bytes of answers sent.";
        produced_batches: Count, "Record batches appended for producers.";
        produced_records: Count, "Records appended for producers.";
        produced_bytes: Bytes, "Bytes of record batches appended for producers.";
        produce_errors: Count, "Partitions of produce requests answered with an error.";
        fetched_bytes: Bytes, "Bytes of record batches sent to consumers.";
        fetched_memory_bytes: Bytes, "Bytes of record batches sent to consumers that came from memory.";
        fetches_parked: Count, "Fetches that waited for data.";
        forwarded_requests: Count, "Requests passed on to the core that owns the partition.";
        disk_writes: Count, "Writes completed by the drive.";
        disk_write_bytes: Bytes, "Bytes of these writes, padding to whole blocks included.";
        disk_flushes: Count, "Flushes completed.";
        disk_reads: Count, "Direct reads completed.";
        disk_read_bytes: Bytes, "Bytes of these reads.";
    }
    gauges {
        connections_open: Count, "Connections open now.";
        partitions: Count, "Partitions this core owns.";
        partitions_offline: Count, "Partitions that ended after a failed write or flush.";
        requests_under_way: Count, "Requests read and not yet answered.";
        fetches_waiting: Count, "Fetches that wait for data now.";
        frame_bytes: Bytes, "Memory held by request frames.";
        tail_bytes: Bytes, "Memory held by recent batches.";
    }
    timings {
        disk_write: "From the submission of a write to its completion.";
        disk_flush: "From the submission of a flush to its completion.";
        disk_read: "From the submission of a read to its completion.";
    }
}

/// The values of one core, or of several added up, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    counters: Vec<u64>,
    gauges: Vec<i64>,
    timings: Vec<Option<Histogram<u64>>>,
}

/// One value of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub spec: &'static Spec,
    pub reading: Reading<'a>,
}

/// A value as it was read.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    Count(u64),
    Level(i64),
    /// In nanoseconds; `None` when nothing was timed yet.
    Distribution(Option<&'a Histogram<u64>>),
}

impl Snapshot {
    /// Adds another core's values.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.iter_mut().zip(&other.counters).for_each(|(mine, theirs)| *mine = mine.wrapping_add(*theirs));
        self.gauges.iter_mut().zip(&other.gauges).for_each(|(mine, theirs)| *mine += theirs);
        for (mine, theirs) in self.timings.iter_mut().zip(&other.timings) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.add(theirs).expect("all timings have the same bounds"),
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
    }

    /// Every value with its line of the catalogue.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let row = |spec, reading| Row { spec, reading };
        let counters = COUNTERS.iter().zip(&self.counters).map(|(spec, count)| row(spec, Reading::Count(*count)));
        let gauges = GAUGES.iter().zip(&self.gauges).map(|(spec, level)| row(spec, Reading::Level(*level)));
        let timings = TIMINGS.iter().zip(&self.timings).map(|(spec, of)| row(spec, Reading::Distribution(of.as_ref())));
        counters.chain(gauges).chain(timings).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn value(snapshot: &Snapshot, name: &str) -> i64 {
        let rows = snapshot.rows();
        let row = rows.iter().find(|row| row.spec.name == name).expect(name);
        match row.reading {
            Reading::Count(count) => count as i64,
            Reading::Level(level) => level,
            Reading::Distribution(of) => of.map_or(-1, |of| of.len() as i64),
        }
    }

    #[test]
    fn every_metric_has_one_row_and_a_meaning() {
        let snapshot = CoreMetrics::default().snapshot();
        let rows = snapshot.rows();
        assert_eq!(rows.len(), COUNTERS.len() + GAUGES.len() + TIMINGS.len());
        let names: BTreeSet<_> = rows.iter().map(|row| row.spec.name).collect();
        assert_eq!(names.len(), rows.len(), "no name twice");
        for row in &rows {
            assert!(row.spec.help.ends_with('.') && row.spec.help.len() > 15, "{}", row.spec.name);
            assert_eq!(row.spec.name.ends_with("_bytes"), row.spec.unit == Unit::Bytes, "{}", row.spec.name);
        }
    }

    #[test]
    fn cores_add_up() {
        fn may_leave_its_core<T: Send>(_: &T) {}
        let (one, two) = (CoreMetrics::default(), CoreMetrics::default());
        one.produced_records.add(5);
        two.produced_records.add(7);
        one.connections_open.add(3);
        two.connections_open.add(-1);
        two.disk_flush.record(Duration::from_micros(65));
        let mut both = one.snapshot();
        may_leave_its_core(&both);
        both.add(&two.snapshot());
        assert_eq!(value(&both, "produced_records"), 12);
        assert_eq!(value(&both, "connections_open"), 2);
        assert_eq!(value(&both, "disk_flush"), 1);
        assert_eq!(value(&both, "disk_read"), -1, "nothing was timed");
    }
}
