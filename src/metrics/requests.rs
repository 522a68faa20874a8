//! What a core remembers of the requests that it has answered: a distribution of times
//! per API and stage, and the slowest of the last minutes one by one.
//!
//! Memory is bounded by [`API_KEYS`] and [`SLOWEST`]. An API's distributions are allocated
//! with its first requests; after that taking a request in allocates nothing.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::timeline::{Stage, Timeline};
use super::values::Timing;
use crate::base::{Moment, UnixMs};

/// API keys up to this have distributions of their own; Kafka has some ninety.
const API_KEYS: usize = 128;

/// Requests that are remembered one by one: more than anyone reads.
pub const SLOWEST: usize = 100;

/// The slowest requests of one such time are kept for one more, so that what is shown
/// covers between one and two of them.
const SLOW_SPAN: Duration = Duration::from_secs(5 * 60);

/// Bytes of a client id that are kept; Kafka's clients name themselves in fewer.
const CLIENT_ID_BYTES_MAX: usize = 64;

/// A request that was answered, as the connection knows it.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: &'a str,
    pub peer: SocketAddr,
    /// Partitions that it named (Produce and Fetch).
    pub partitions: usize,
    /// Bytes of its frame.
    pub request_bytes: usize,
    /// Bytes of its answer, frame included; 0 when it has none.
    pub answer_bytes: usize,
    pub timeline: Timeline,
}

/// A request that was slow.
#[derive(Clone, Copy, Debug)]
pub struct SlowRequest {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    client_id: [u8; CLIENT_ID_BYTES_MAX],
    client_id_bytes: u8,
    pub peer: SocketAddr,
    pub partitions: usize,
    pub request_bytes: usize,
    pub answer_bytes: usize,
    pub timeline: Timeline,
    /// When its answer had been sent.
    pub ended: UnixMs,
}

impl SlowRequest {
    fn of(request: &Finished<'_>, ended: UnixMs) -> SlowRequest {
        let mut client_id = [0; CLIENT_ID_BYTES_MAX];
        let mut bytes = request.client_id.len().min(CLIENT_ID_BYTES_MAX);
        while !request.client_id.is_char_boundary(bytes) {
            bytes -= 1;
        }
        client_id[..bytes].copy_from_slice(&request.client_id.as_bytes()[..bytes]);
        SlowRequest {
            api_key: request.api_key,
            api_version: request.api_version,
            correlation_id: request.correlation_id,
            client_id,
            client_id_bytes: bytes as u8,
            peer: request.peer,
            partitions: request.partitions,
            request_bytes: request.request_bytes,
            answer_bytes: request.answer_bytes,
            timeline: request.timeline,
            ended,
        }
    }

    /// The beginning of the client's name of itself.
    pub fn client_id(&self) -> &str {
        std::str::from_utf8(&self.client_id[..usize::from(self.client_id_bytes)]).unwrap_or_default()
    }
}

/// The slowest of a time, in no order.
struct Slowest {
    kept: Vec<SlowRequest>,
    /// The place of the quickest of them.
    quickest: usize,
    /// What a request must exceed to be remembered; `None`: there is room.
    bar_ns: Option<u64>,
}

impl Slowest {
    fn new() -> Slowest {
        Slowest { kept: Vec::with_capacity(SLOWEST), quickest: 0, bar_ns: None }
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.bar_ns = None;
    }

    fn add(&mut self, request: SlowRequest) {
        match self.kept.len() < SLOWEST {
            true => self.kept.push(request),
            false => self.kept[self.quickest] = request,
        }
        if self.kept.len() == SLOWEST {
            let works = self.kept.iter().map(|kept| kept.timeline.work_ns());
            let quickest = works.enumerate().min_by_key(|(_, work)| *work);
            self.quickest = quickest.map_or(0, |(at, _)| at);
            self.bar_ns = quickest.map(|(_, work)| work);
        }
    }
}

/// The distributions of one API.
#[derive(Debug, Default)]
struct ApiTimings {
    stages: [Timing; Stage::ALL.len()],
    total: Timing,
}

/// See the module.
pub struct Requests {
    apis: Box<[OnceCell<Box<ApiTimings>>]>,
    slowest: RefCell<Slowest>,
    /// Of the time before.
    slowest_before: RefCell<Slowest>,
    /// When the present time began.
    since: Cell<Moment>,
    lines: Lines,
}

/// Lines about slow requests in the log: how many there may be.
#[derive(Default)]
struct Lines {
    last: Cell<Option<Moment>>,
    left_out: Cell<u64>,
}

/// One line per core in this time at most: what is slow is often all of it.
const LINE_EVERY: Duration = Duration::from_secs(1);

impl Default for Requests {
    fn default() -> Requests {
        Requests {
            apis: (0..API_KEYS).map(|_| OnceCell::new()).collect(),
            slowest: RefCell::new(Slowest::new()),
            slowest_before: RefCell::new(Slowest::new()),
            since: Cell::default(),
            lines: Lines::default(),
        }
    }
}

impl Requests {
    /// Takes up a request that has been answered. `unix_now` is asked only for one that is
    /// remembered by itself.
    pub fn finish(&self, request: &Finished<'_>, unix_now: impl FnOnce() -> UnixMs) {
        if let Some(api) = usize::try_from(request.api_key).ok().and_then(|key| self.apis.get(key)) {
            let timings = api.get_or_init(Box::default);
            for (stage, ns) in request.timeline.stages_ns() {
                timings.stages[stage as usize].record_ns(ns);
            }
            timings.total.record_ns(request.timeline.total_ns());
        }
        let now = request.timeline.last();
        self.turn(now);
        let mut slowest = self.slowest.borrow_mut();
        if slowest.bar_ns.is_none_or(|bar| request.timeline.work_ns() > bar) {
            slowest.add(SlowRequest::of(request, unix_now()));
        }
    }

    /// Whether a line about a slow request may be written now: then how many were left out
    /// since the last one.
    pub fn line_is_due(&self, now: Moment) -> Option<u64> {
        if self.lines.last.get().is_some_and(|last| now.since(last) < LINE_EVERY) {
            self.lines.left_out.set(self.lines.left_out.get() + 1);
            return None;
        }
        self.lines.last.set(Some(now));
        Some(self.lines.left_out.take())
    }

    /// Begins a new time when the present one is over.
    fn turn(&self, now: Moment) {
        let passed = now.since(self.since.get());
        if passed < SLOW_SPAN {
            return;
        }
        self.since.set(now);
        let (mut slowest, mut before) = (self.slowest.borrow_mut(), self.slowest_before.borrow_mut());
        before.clear();
        if passed < 2 * SLOW_SPAN {
            std::mem::swap(&mut *slowest, &mut *before);
        } else {
            slowest.clear();
        }
    }

    /// The slowest of the last minutes by their time without being parked, the slowest first.
    pub fn slowest(&self, now: Moment) -> Vec<SlowRequest> {
        self.turn(now);
        let (slowest, before) = (self.slowest.borrow(), self.slowest_before.borrow());
        let mut all: Vec<SlowRequest> = slowest.kept.iter().chain(&before.kept).copied().collect();
        all.sort_by_key(|request| std::cmp::Reverse(request.timeline.work()));
        all.truncate(SLOWEST);
        all
    }

    /// A copy of the distributions, which may leave the core.
    pub fn distributions(&self) -> Vec<ApiDistributions> {
        let of = |(key, timings): (usize, &OnceCell<Box<ApiTimings>>)| {
            let timings = timings.get()?;
            let stages = std::array::from_fn(|stage| timings.stages[stage].distribution());
            Some(ApiDistributions { api_key: key as i16, stages, total: timings.total.distribution()? })
        };
        self.apis.iter().enumerate().filter_map(of).collect()
    }
}

/// How long requests of one API took, in nanoseconds.
#[derive(Clone, Debug)]
pub struct ApiDistributions {
    pub api_key: i16,
    /// In the order of [`Stage::ALL`]; `None` where no request passed the stage.
    pub stages: [Option<Histogram<u64>>; Stage::ALL.len()],
    pub total: Histogram<u64>,
}

impl ApiDistributions {
    /// Adds those of another core.
    pub fn add(&mut self, other: &ApiDistributions) {
        let same_bounds = "all timings have the same bounds";
        self.total.add(&other.total).expect(same_bounds);
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.add(theirs).expect(same_bounds),
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn request(began: u64, parked_us: u64, sent_us: u64) -> Finished<'static> {
        let mut timeline = Timeline::begin(Moment(began));
        timeline.mark(Stage::Parked, Moment(began + parked_us * 1000));
        timeline.mark(Stage::Sent, Moment(began + (parked_us + sent_us) * 1000));
        Finished {
            api_key: 1,
            api_version: 12,
            correlation_id: sent_us as i32,
            client_id: "a client of some name",
            peer: ([10, 0, 0, 7], 5000).into(),
            partitions: 3,
            request_bytes: 90,
            answer_bytes: 1000,
            timeline,
        }
    }

    fn shown(requests: &Requests, now: u64) -> Vec<i32> {
        requests.slowest(Moment(now)).iter().map(|request| request.correlation_id).collect()
    }

    #[test]
    fn the_slowest_stay_whatever_comes_and_parked_time_is_nobodys_fault() {
        let requests = Requests::default();
        let far = 100 * MINUTE;
        for i in 0..1000u64 {
            // In no order: 1 to 1000.
            requests.finish(&request(far, 3_000_000, (i * 421) % 1000 + 1), || UnixMs(7));
        }
        let expected: Vec<i32> = (901..=1000).rev().collect();
        assert_eq!(shown(&requests, far), expected);
        let one = requests.slowest(Moment(far))[0];
        assert_eq!((one.client_id(), one.partitions, one.ended), ("a client of some name", 3, UnixMs(7)));
        assert_eq!(one.timeline.work(), Duration::from_millis(1));
    }

    #[test]
    fn old_ones_go() {
        let requests = Requests::default();
        let far = 100 * MINUTE;
        requests.finish(&request(far, 0, 5000), || UnixMs(1));
        requests.finish(&request(far + 4 * MINUTE, 0, 10), || UnixMs(1));
        assert_eq!(shown(&requests, far + 4 * MINUTE), [5000, 10]);
        requests.finish(&request(far + 6 * MINUTE, 0, 20), || UnixMs(1));
        assert_eq!(shown(&requests, far + 6 * MINUTE), [5000, 20, 10], "those of the time before are still shown");
        assert_eq!(shown(&requests, far + 12 * MINUTE), [20]);
        assert_eq!(shown(&requests, far + 40 * MINUTE), [0; 0], "also when nothing came meanwhile");
    }

    #[test]
    fn distributions_of_cores_add_up() {
        fn may_leave_its_core<T: Send>(_: &T) {}
        let (one, two) = (Requests::default(), Requests::default());
        one.finish(&request(0, 500, 100), || UnixMs(0));
        two.finish(&request(0, 900, 300), || UnixMs(0));
        two.finish(&Finished { api_key: -3, ..request(0, 1, 1) }, || UnixMs(0));
        two.finish(&Finished { api_key: i16::MAX, ..request(0, 1, 1) }, || UnixMs(0));
        let mut all = one.distributions();
        let theirs = two.distributions();
        may_leave_its_core(&all);
        assert_eq!((all.len(), theirs.len()), (1, 1));
        all[0].add(&theirs[0]);
        let max = |of: &Histogram<u64>| of.max() / 10_000;
        assert_eq!((all[0].api_key, all[0].total.len(), max(&all[0].total)), (1, 2, 120));
        let parked = all[0].stages[Stage::Parked as usize].as_ref().unwrap();
        assert_eq!((parked.len(), max(parked)), (2, 90));
        assert!(all[0].stages[Stage::Durable as usize].is_none());
    }

    #[test]
    fn lines_are_few_and_say_how_many_were_left_out() {
        let requests = Requests::default();
        let due: Vec<_> =
            [0, 1, 999, 1000, 1500, 5000, 9000].map(|ms| requests.line_is_due(Moment(ms * 1_000_000))).into();
        assert_eq!(due, [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
    }

    #[test]
    fn a_long_client_id_is_cut_at_a_character() {
        let requests = Requests::default();
        let name = "ü".repeat(40);
        requests.finish(&Finished { client_id: &name[..79 - 1], ..request(0, 0, 1) }, || UnixMs(0));
        assert_eq!(requests.slowest(Moment(0))[0].client_id(), "ü".repeat(32));
    }
}
