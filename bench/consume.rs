//! Consuming: raw Fetch requests over one connection per leader, whole batches
//! counted by their headers, nothing decoded.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest};

use crate::answers::{Answers, FETCH_VERSIONS, correlation_id, read_fetched};
use crate::batches::Fetched;
use crate::cluster::{Connection, PATIENCE, Topic, frame};
use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::pace::wait_until;
use crate::run::{Progress, Window};

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
    session_id: i32,
    session_epoch: i32,
}

impl Group {
    fn is_done(&self) -> bool {
        self.positions.iter().all(|position| position.next >= position.span.end)
    }
}

/// One connection and what it reads.
pub struct Reader {
    stream: TcpStream,
    version: i16,
    topic: Topic,
    asking: Asking,
    groups: Vec<Group>,
    correlation_id: i32,
}

/// What one reader measured.
pub struct Received {
    /// From the request to its whole answer.
    pub fetches: Latencies,
    pub records_total: u64,
}

/// Whether a reader goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Continue,
    Stop,
}

impl Reader {
    pub fn open(
        address: &str,
        topic: &Topic,
        partitions: &[i32],
        spans: &BTreeMap<i32, Span>,
        asking: Asking,
    ) -> Outcome<Reader> {
        let connection = Connection::open(address)?;
        let mut version = connection.version(ApiKey::Fetch, FETCH_VERSIONS)?;
        if topic.id == 0 {
            version = version.min(12);
        }
        let mut groups: Vec<Group> = Vec::new();
        groups.resize_with(asking.in_flight.clamp(1, partitions.len().max(1)), Group::default);
        let count = groups.len();
        for (index, &partition) in partitions.iter().enumerate() {
            let span = *spans.get(&partition).ok_or_else(|| failure!("partition {partition} has no offsets"))?;
            groups[index % count].positions.push(Position { partition, span, next: span.begin, told: None });
        }
        Ok(Reader { stream: connection.stream, version, topic: topic.clone(), asking, groups, correlation_id: 0 })
    }

    /// Reads until all spans are read (again and again while `repeat`), the window
    /// ends or `visit` says stop. `visit` sees every whole batch with the time of
    /// its arrival, and an end mark (`None`) after every answer.
    pub fn run(
        mut self,
        window: &Window,
        progress: &Progress,
        repeat: bool,
        mut visit: impl FnMut(Option<&Fetched<'_>>, Instant) -> Next,
    ) -> Outcome<Received> {
        let what = || String::from("share a socket");
        let patience = PATIENCE + std::time::Duration::from_millis(self.asking.max_wait_ms.max(0) as u64);
        self.stream.set_read_timeout(Some(patience)).doing(what)?;
        let mut answers = Answers::new(self.stream.try_clone().doing(what)?);
        let mut fetches = Latencies::new();
        let mut records_total = 0;
        // Groups with a fetch under way, in the order of their answers.
        let mut under_way: VecDeque<(usize, i32, Instant)> = VecDeque::new();
        let mut stopped = false;
        wait_until(window.zero);
        for group in 0..self.groups.len() {
            if !self.groups[group].is_done() {
                let id = self.send(group)?;
                under_way.push_back((group, id, Instant::now()));
            }
        }
        while let Some((group, id, asked)) = under_way.pop_front() {
            let answer = answers.next()?;
            let now = Instant::now();
            let (answered, body) = correlation_id(answers.bytes(answer))?;
            if answered != id {
                return Err(failure!("the broker answered request {answered} when {id} was next"));
            }
            if asked >= window.from {
                fetches.record(now - asked, 1);
            }
            let (mut records, mut bytes) = (0, 0);
            let verify = self.asking.verify;
            let positions = &mut self.groups[group].positions;
            let session_id = read_fetched(body, self.version, |partition, mut rest| {
                let Some(position) = positions.iter_mut().find(|position| position.partition == partition) else {
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
                    if visit(Some(&batch), now) == Next::Stop {
                        stopped = true;
                    }
                    rest = &rest[batch.size()..];
                }
                if all > 0 && position.next == before {
                    return Err(failure!("partition {partition}: {all} bytes at {before} hold no whole batch"));
                }
                Ok(())
            })?;
            progress.add(records, bytes);
            records_total += records;
            self.groups[group].follow_session(self.asking.sessions, session_id);
            if visit(None, now) == Next::Stop {
                stopped = true;
            }
            if stopped || window.is_over(now) {
                stopped = true;
                continue;
            }
            if self.groups[group].is_done() && repeat {
                let positions = &mut self.groups[group].positions;
                positions.iter_mut().for_each(|position| position.next = position.span.begin);
            }
            if !self.groups[group].is_done() {
                let id = self.send(group)?;
                under_way.push_back((group, id, Instant::now()));
            }
        }
        Ok(Received { fetches, records_total })
    }

    fn send(&mut self, group: usize) -> Outcome<i32> {
        self.correlation_id = (self.correlation_id + 1) & 0x7fff_ffff;
        let request = self.groups[group].request(&self.asking, &self.topic, self.version);
        let frame = frame(ApiKey::Fetch as i16, self.version, self.correlation_id, &request)?;
        self.stream.write_all(&frame).doing(|| String::from("send a fetch"))?;
        Ok(self.correlation_id)
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
        let mut group = Group { positions: vec![position(0, 10), position(1, 20)], ..Group::default() };

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
        group.positions.push(Position { partition: 4, span, next: 3, told: None });
        let asking = Asking { sessions: false, ..ASKING };
        for _ in 0..2 {
            let request = group.request(&asking, &topic, 12);
            assert_eq!((request.session_id, request.session_epoch, asked(&request)), (0, -1, vec![(4, 3)]));
            assert_eq!(request.topics[0].topic, topic.topic_name());
            group.follow_session(false, 0);
        }
    }
}
