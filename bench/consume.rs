//! Consuming: raw Fetch requests over one connection per leader, whole batches
//! counted by their headers, nothing decoded.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest};

use crate::answers::{FETCH_VERSIONS, correlation_id, read_fetched};
use crate::batches::Fetched;
use crate::cluster::{Connection, Topic, frame};
use crate::failure;
use crate::failure::Outcome;
use crate::latency::Latencies;
use crate::link::Link;
use crate::run::{Progress, Station, Turn, Window};

/// How fetches are asked for; Kafka's consumer options of the same names.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Fetch sessions (KIP-227): only what changed is asked again.
    pub sessions: bool,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub max_wait_ms: i32,
    /// Fetches under way at once on one connection, each for its own partitions.
    pub in_flight: usize,
    /// Whether the checksum of every batch is computed.
    pub verify: bool,
}

/// Where a partition's reading begins and where it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub begin: i64,
    /// `i64::MAX` when the reading follows the partition's growth.
    pub end: i64,
}

struct Position {
    partition: i32,
    span: Span,
    next: i64,
    /// What the broker's fetch session believes.
    told: Option<i64>,
}

/// Partitions that are fetched together.
#[derive(Default)]
struct Group {
    positions: Vec<Position>,
    /// Where each partition stands in `positions`.
    places: BTreeMap<i32, usize>,
    session_id: i32,
    session_epoch: i32,
}

impl Group {
    fn add(&mut self, position: Position) {
        self.places.insert(position.partition, self.positions.len());
        self.positions.push(position);
    }

    fn position(&mut self, partition: i32) -> Option<&mut Position> {
        self.places.get(&partition).map(|at| &mut self.positions[*at])
    }

    fn is_done(&self) -> bool {
        self.positions.iter().all(|position| position.next >= position.span.end)
    }
}

/// How long a reader goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Until all spans are read, or the window ends.
    Read,
    /// Again and again until the window ends.
    WindowEnds,
    /// Until the visitor says that it is over.
    VisitorSaysSo,
}

/// Sees what a reader fetches.
pub trait Visitor: Send {
    /// A whole batch that came at `now`.
    fn batch(&mut self, window: &Window, batch: &Fetched<'_>, now: Instant);

    /// Asked in every turn. `true` ends the reader.
    fn is_over(&mut self, window: &Window, now: Instant) -> bool;
}

/// Looks at nothing: the reader's own counts are all that is wanted.
pub struct Counting;

impl Visitor for Counting {
    fn batch(&mut self, _: &Window, _: &Fetched<'_>, _: Instant) {}

    fn is_over(&mut self, _: &Window, _: Instant) -> bool {
        false
    }
}

/// One connection and what it reads.
pub struct Reader<'a, V> {
    link: Link,
    version: i16,
    topic: Topic,
    asking: Asking,
    groups: Vec<Group>,
    correlation_id: i32,
    has_begun: bool,
    /// Groups with a fetch under way, with its correlation id, in the order of their answers.
    under_way: VecDeque<(usize, i32, Instant)>,
    until: Until,
    visitor: V,
    fetches: Latencies,
    records_total: u64,
    progress: Option<&'a Progress>,
    stands_back: bool,
}

/// What one reader measured.
pub struct Received {
    /// From the request to its whole answer.
    pub fetches: Latencies,
    pub records_total: u64,
}

impl From<(Received, Counting)> for Received {
    fn from((received, Counting): (Received, Counting)) -> Received {
        received
    }
}

impl<'a, V: Visitor> Reader<'a, V> {
    /// Connects to a leader of the partitions that `spans` names.
    pub fn open(
        address: &str,
        topic: &Topic,
        spans: &BTreeMap<i32, Span>,
        asking: Asking,
        until: Until,
        visitor: V,
    ) -> Outcome<Reader<'a, V>> {
        let connection = Connection::open(address)?;
        let mut version = connection.version(ApiKey::Fetch, FETCH_VERSIONS)?;
        if topic.id == 0 {
            version = version.min(12);
        }
        let mut groups: Vec<Group> = Vec::new();
        groups.resize_with(asking.in_flight.clamp(1, spans.len().max(1)), Group::default);
        let count = groups.len();
        for (index, (&partition, &span)) in spans.iter().enumerate() {
            groups[index % count].add(Position { partition, span, next: span.begin, told: None });
        }
        Ok(Reader {
            link: Link::new(connection.stream)?,
            version,
            topic: topic.clone(),
            asking,
            groups,
            correlation_id: 0,
            has_begun: false,
            under_way: VecDeque::new(),
            until,
            visitor,
            fetches: Latencies::new(),
            records_total: 0,
            progress: None,
            stands_back: false,
        })
    }

    /// Counts what it reads.
    pub fn counted_by(mut self, progress: &'a Progress) -> Reader<'a, V> {
        self.progress = Some(progress);
        self
    }

    /// What it takes to receive megabytes shall not be felt by others ([`Station::stands_back`]).
    pub fn standing_back(mut self, stands_back: bool) -> Reader<'a, V> {
        self.stands_back = stands_back;
        self
    }

    /// Takes the answers that have come and asks for more, unless the end is near.
    fn take_answers(&mut self, window: &Window) -> Outcome<()> {
        self.link.begin_turn();
        while let Some(frame) = self.link.next()? {
            let now = Instant::now();
            let Some((group, id, asked)) = self.under_way.pop_front() else {
                return Err(failure!("the broker answered what was not asked"));
            };
            let (answered, body) = correlation_id(self.link.bytes(frame))?;
            if answered != id {
                return Err(failure!("the broker answered request {answered} when {id} was next"));
            }
            if asked >= window.from {
                self.fetches.record(now - asked, 1);
            }
            let (mut records, mut bytes) = (0, 0);
            let (verify, visitor, at) = (self.asking.verify, &mut self.visitor, group);
            let group = &mut self.groups[at];
            let session_id = read_fetched(body, self.version, |partition, mut rest| {
                let Some(position) = group.position(partition) else {
                    return Err(failure!("the broker sent partition {partition}, which was not asked for"));
                };
                let (all, before) = (rest.len(), position.next);
                while let Some(batch) = Fetched::first(rest) {
                    if verify && !batch.crc_is_right() {
                        return Err(failure!(
                            "a batch of partition {partition} near offset {before} has a wrong checksum"
                        ));
                    }
                    if batch.next_offset() <= position.next {
                        return Err(failure!(
                            "partition {partition}: a batch that ends at {} came at {}",
                            batch.next_offset(),
                            position.next
                        ));
                    }
                    position.next = batch.next_offset();
                    records += batch.records();
                    bytes += batch.size() as u64;
                    visitor.batch(window, &batch, now);
                    rest = &rest[batch.size()..];
                }
                if all > 0 && position.next == before {
                    return Err(failure!("partition {partition}: {all} bytes at {before} hold no whole batch"));
                }
                Ok(())
            })?;
            group.follow_session(self.asking.sessions, session_id);
            if group.is_done() && self.until == Until::WindowEnds {
                group.positions.iter_mut().for_each(|position| position.next = position.span.begin);
            }
            self.records_total += records;
            if let Some(progress) = self.progress {
                progress.add(records, bytes);
            }
            self.ask(at, window)?;
        }
        Ok(())
    }

    /// Sends the next fetch of a group, if there is one to be sent.
    fn ask(&mut self, group: usize, window: &Window) -> Outcome<()> {
        let now = Instant::now();
        let is_over = window.is_over(now) && self.until != Until::VisitorSaysSo;
        if is_over || self.groups[group].is_done() {
            return Ok(());
        }
        self.correlation_id = (self.correlation_id + 1) & 0x7fff_ffff;
        let request = self.groups[group].request(&self.asking, &self.topic, self.version);
        let frame = frame(ApiKey::Fetch as i16, self.version, self.correlation_id, &request)?;
        self.link.out().extend_from_slice(&frame);
        self.link.send()?;
        self.under_way.push_back((group, self.correlation_id, now));
        Ok(())
    }
}

impl<V: Visitor, T: From<(Received, V)>> Station<T> for Reader<'_, V> {
    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn turn(&mut self, window: &Window, readable: bool) -> Outcome<Turn> {
        if Instant::now() < window.zero {
            return Ok(Turn::Wait { due: Some(window.zero), owed_since: None });
        }
        if !self.has_begun {
            self.has_begun = true;
            for group in 0..self.groups.len() {
                self.ask(group, window)?;
            }
        }
        self.link.send()?;
        if readable {
            self.take_answers(window)?;
        }
        if self.under_way.is_empty() || self.visitor.is_over(window, Instant::now()) {
            return Ok(Turn::Done);
        }
        // The broker may take its time to answer a fetch.
        let wait = Duration::from_millis(self.asking.max_wait_ms.max(0) as u64);
        let owed_since = self.under_way.front().map(|(_, _, asked)| *asked + wait);
        Ok(Turn::Wait { due: None, owed_since })
    }

    fn stands_back(&self) -> bool {
        self.stands_back
    }

    fn finish(self: Box<Self>, _: &Window) -> T {
        T::from((Received { fetches: self.fetches, records_total: self.records_total }, self.visitor))
    }
}

impl Group {
    /// The next fetch of this group, which from now on counts as told to the
    /// broker's session.
    fn request(&mut self, asking: &Asking, topic: &Topic, version: i16) -> FetchRequest {
        let (mut wanted, mut forgotten) = (Vec::new(), Vec::new());
        for position in &mut self.positions {
            if position.next >= position.span.end {
                if position.told.take().is_some() {
                    forgotten.push(position.partition);
                }
                continue;
            }
            if position.told == Some(position.next) {
                continue;
            }
            wanted.push(
                FetchPartition::default()
                    .with_partition(position.partition)
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset(position.next)
                    .with_last_fetched_epoch(-1)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(asking.partition_max_bytes),
            );
            if asking.sessions {
                position.told = Some(position.next);
            }
        }
        let topics = (!wanted.is_empty()).then(|| {
            let named = FetchTopic::default().with_partitions(wanted);
            if version >= 13 { named.with_topic_id(topic.topic_id()) } else { named.with_topic(topic.topic_name()) }
        });
        let forgotten = (!forgotten.is_empty()).then(|| {
            let named = ForgottenTopic::default().with_partitions(forgotten);
            if version >= 13 { named.with_topic_id(topic.topic_id()) } else { named.with_topic(topic.topic_name()) }
        });
        FetchRequest::default()
            .with_max_wait_ms(asking.max_wait_ms)
            .with_min_bytes(asking.min_bytes)
            .with_max_bytes(asking.max_bytes)
            .with_session_id(self.session_id)
            .with_session_epoch(if asking.sessions { self.session_epoch } else { -1 })
            .with_topics(topics.into_iter().collect())
            .with_forgotten_topics_data(forgotten.into_iter().collect())
    }

    /// Takes note of the session's id in an answer (`FetchSessionHandler`): the
    /// broker may refuse to keep one, by 0; then everything is asked anew.
    fn follow_session(&mut self, wanted: bool, session_id: i32) {
        if !wanted {
            return;
        }
        self.session_id = session_id;
        if session_id == 0 {
            self.session_epoch = 0;
            self.positions.iter_mut().for_each(|position| position.told = None);
        } else {
            self.session_epoch = if self.session_epoch == i32::MAX { 1 } else { self.session_epoch + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKING: Asking = Asking {
        sessions: true,
        min_bytes: 1,
        max_bytes: 1000,
        partition_max_bytes: 100,
        max_wait_ms: 5,
        in_flight: 1,
        verify: false,
    };

    fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect()
    }

    #[test]
    fn a_session_is_told_only_what_changed() {
        let topic = Topic { name: String::from("orders"), id: 9, leaders: Vec::new() };
        let position = |partition, end| Position { partition, span: Span { begin: 0, end }, next: 0, told: None };
        let mut group = Group::default();
        group.add(position(0, 10));
        group.add(position(1, 20));

        let first = group.request(&ASKING, &topic, 17);
        assert_eq!((first.session_id, first.session_epoch, asked(&first)), (0, 0, vec![(0, 0), (1, 0)]));
        group.follow_session(true, 77);
        group.positions[1].next = 5;
        let second = group.request(&ASKING, &topic, 17);
        assert_eq!((second.session_id, second.session_epoch, asked(&second)), (77, 1, vec![(1, 5)]));
        group.follow_session(true, 77);
        // Partition 0 has reached its end and is forgotten, once.
        group.positions[0].next = 10;
        let third = group.request(&ASKING, &topic, 17);
        assert_eq!((third.session_epoch, asked(&third)), (2, vec![]));
        assert_eq!(third.forgotten_topics_data[0].partitions, [0]);
        assert!(group.request(&ASKING, &topic, 17).forgotten_topics_data.is_empty());
        // The broker dropped the session: all is asked anew.
        group.follow_session(true, 0);
        let anew = group.request(&ASKING, &topic, 17);
        assert_eq!((anew.session_id, anew.session_epoch, asked(&anew)), (0, 0, vec![(1, 5)]));
    }

    #[test]
    fn without_sessions_everything_is_asked_each_time() {
        let topic = Topic { name: String::from("orders"), id: 0, leaders: Vec::new() };
        let span = Span { begin: 3, end: 10 };
        let mut group = Group::default();
        group.add(Position { partition: 4, span, next: 3, told: None });
        let asking = Asking { sessions: false, ..ASKING };
        for _ in 0..2 {
            let request = group.request(&asking, &topic, 12);
            assert_eq!((request.session_id, request.session_epoch, asked(&request)), (0, -1, vec![(4, 3)]));
            assert_eq!(request.topics[0].topic, topic.topic_name());
            group.follow_session(false, 0);
        }
    }
}
