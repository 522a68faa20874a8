//! When a request reached each stage of its way, and what class of request it is.

use std::time::{Duration, Instant};

/// The stages of a request, in the order in which it passes them. A fetch does
/// not pass all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// The frame has been decoded.
    Parsed,
    /// Its place in the partitions is fixed: the next request may be read.
    Ordered,
    /// The drive has completed the direct writes.
    Written,
    /// Flushed.
    Durable,
    /// The answer was handed to the socket.
    Sent,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Parsed, Stage::Ordered, Stage::Written, Stage::Durable, Stage::Sent];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Parsed => "parsed",
            Stage::Ordered => "ordered",
            Stage::Written => "written",
            Stage::Durable => "durable",
            Stage::Sent => "sent",
        }
    }
}

/// The requests that are timed apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiClass {
    Produce,
    Fetch,
    Other,
}

impl ApiClass {
    pub const ALL: [ApiClass; 3] = [ApiClass::Produce, ApiClass::Fetch, ApiClass::Other];

    /// The class of a Kafka API key.
    pub fn of(api_key: i16) -> ApiClass {
        match api_key {
            0 => ApiClass::Produce,
            1 => ApiClass::Fetch,
            _ => ApiClass::Other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ApiClass::Produce => "produce",
            ApiClass::Fetch => "fetch",
            ApiClass::Other => "other",
        }
    }
}

/// The way of one request. It begins when its last byte has been read; a stage
/// is marked at most once, and not before the stages ahead of it.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    read: Instant,
    reached: [Option<Instant>; Stage::ALL.len()],
}

impl Timeline {
    pub fn begin(read: Instant) -> Timeline {
        Timeline { read, reached: [None; Stage::ALL.len()] }
    }

    pub fn mark(&mut self, stage: Stage, now: Instant) {
        debug_assert!(
            self.reached[stage as usize..].iter().all(Option::is_none),
            "{} is marked again, or after a later stage",
            stage.name()
        );
        self.reached[stage as usize] = Some(now);
    }

    /// How long each stage took that was reached, counted from the one reached
    /// before it.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, Duration)> + '_ {
        let mut before = self.read;
        Stage::ALL.into_iter().filter_map(move |stage| {
            let at = self.reached[stage as usize]?;
            let took = at.saturating_duration_since(before);
            before = at;
            Some((stage, took))
        })
    }

    /// From the read to the last stage reached.
    pub fn total(&self) -> Duration {
        let last = self.reached.iter().rev().find_map(|at| *at).unwrap_or(self.read);
        last.saturating_duration_since(self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_were_not_passed_take_no_part() {
        let read = Instant::now();
        let at = |us| read + Duration::from_micros(us);
        let mut timeline = Timeline::begin(read);
        assert_eq!(timeline.total(), Duration::ZERO);
        timeline.mark(Stage::Parsed, at(3));
        timeline.mark(Stage::Ordered, at(10));
        timeline.mark(Stage::Sent, at(110));
        let stages: Vec<_> = timeline.stages().map(|(stage, took)| (stage, took.as_micros())).collect();
        assert_eq!(stages, [(Stage::Parsed, 3), (Stage::Ordered, 7), (Stage::Sent, 100)]);
        assert_eq!(timeline.total().as_micros(), 110);
    }

    #[test]
    #[should_panic(expected = "parsed is marked again, or after a later stage")]
    #[cfg(debug_assertions)]
    fn stages_are_marked_in_order() {
        let now = Instant::now();
        let mut timeline = Timeline::begin(now);
        timeline.mark(Stage::Written, now);
        timeline.mark(Stage::Parsed, now);
    }

    #[test]
    fn classes_are_by_api_key() {
        assert_eq!(
            [0, 1, 3, -5].map(ApiClass::of),
            [ApiClass::Produce, ApiClass::Fetch, ApiClass::Other, ApiClass::Other]
        );
    }
}
