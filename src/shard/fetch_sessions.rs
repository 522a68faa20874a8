//! Incremental fetch sessions (KIP-227) of one core: what a consumer asked for and
//! was told last, so that its next request and our next answer carry only changes.
//!
//! Pure state; `api/fetch.rs` speaks the protocol. Kafka: `FetchSession`,
//! `FetchSessionCacheShard`, `FetchManager`. A client that comes back on another core
//! finds no session there and starts a new one, as the protocol provides.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{LeaderEpoch, Offset, UnixMs, Uuid};

/// A session may be taken from its owner after this long without a request.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// A partition as the session names it: the name is empty or the id zero when the
/// request carried only the other and it could not be resolved.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionKey {
    pub topic: Rc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What a consumer wants of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub fetch_offset: Offset,
    pub current_leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
    pub max_bytes: i32,
}

/// What an answer is about to say of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub has_records: bool,
    pub is_error: bool,
    /// A diverging epoch or another hint that must not be left out.
    pub has_hint: bool,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Why a session cannot go on; the client starts a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionError {
    NotFound,
    WrongEpoch,
    /// Topic ids were used before and names now, or the reverse.
    TopicIdsChanged,
}

/// One request's place in its session.
#[derive(Debug)]
pub struct Turn {
    /// 0: no session.
    pub session_id: i32,
    /// Whether every partition is answered, or only those with something new.
    pub full: bool,
    /// What to fetch, in order.
    pub partitions: Vec<(SessionKey, Wanted)>,
}

#[derive(Debug)]
struct Cached {
    key: SessionKey,
    wanted: Wanted,
    /// −1: nothing told yet, or an error was, so that the recovery is told next.
    high_watermark: Offset,
    log_start: Offset,
}

#[derive(Debug)]
struct Session {
    uses_topic_ids: bool,
    /// The epoch that the next request must carry.
    epoch: i32,
    used: UnixMs,
    /// In fetching order: what got data goes to the end, for fairness.
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<SessionKey, u64>,
    next_place: u64,
}

impl Session {
    fn put(&mut self, key: SessionKey, wanted: Wanted) {
        if let Some(place) = self.places.get(&key) {
            self.partitions.get_mut(place).expect("places name partitions").wanted = wanted;
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(key.clone(), place);
        self.partitions.insert(place, Cached { key, wanted, high_watermark: Offset(-1), log_start: Offset(-1) });
    }

    fn forget(&mut self, key: &SessionKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn move_to_end(&mut self, key: &SessionKey) {
        let place = self.places.get_mut(key).expect("known by the caller");
        let cached = self.partitions.remove(place).expect("places name partitions");
        *place = self.next_place;
        self.partitions.insert(*place, cached);
        self.next_place += 1;
    }

    /// All its partitions, in `list`, which is empty.
    fn turn(&self, session_id: i32, full: bool, mut list: Vec<(SessionKey, Wanted)>) -> Turn {
        list.extend(self.partitions.values().map(|c| (c.key.clone(), c.wanted)));
        Turn { session_id, full, partitions: list }
    }
}

/// All sessions of a core.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: HashMap<i32, Session>,
    /// Ids are drawn from here: spread by multiplication, never 0, always positive.
    drawn: u32,
    /// Lists of partitions that are used again, so that a request allocates none.
    lists: Vec<Vec<(SessionKey, Wanted)>>,
    /// The name in keys that have none.
    nameless: Rc<str>,
}

/// Unused lists that are kept, and for how many partitions one that is kept has room.
const LISTS_MAX: usize = 64;
const LIST_PARTITIONS_MAX: usize = 64;

impl FetchSessions {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`); ids
    /// begin somewhere given by `seed`, so that ids of an earlier life are not met again.
    pub fn new(slots: usize, seed: u32) -> FetchSessions {
        FetchSessions { slots, sessions: HashMap::new(), drawn: seed, lists: Vec::new(), nameless: Rc::from("") }
    }

    /// An empty list for what a request wants.
    pub fn list(&mut self) -> Vec<(SessionKey, Wanted)> {
        self.lists.pop().unwrap_or_default()
    }

    /// Takes back a list, that of a [`Turn`] among them, for a later request.
    pub fn give_back(&mut self, mut list: Vec<(SessionKey, Wanted)>) {
        list.clear();
        if self.lists.len() < LISTS_MAX && (1..=LIST_PARTITIONS_MAX).contains(&list.capacity()) {
            self.lists.push(list);
        }
    }

    /// The topic of a key that has only an id.
    pub fn nameless(&self) -> Rc<str> {
        Rc::clone(&self.nameless)
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes a request in: (`id`, `epoch`) as in the table of KIP-227.
    pub fn begin(
        &mut self,
        id: i32,
        epoch: i32,
        uses_topic_ids: bool,
        mut wanted: Vec<(SessionKey, Wanted)>,
        forgotten: &[SessionKey],
        now: UnixMs,
    ) -> Result<Turn, SessionError> {
        if epoch == 0 || epoch == -1 {
            if id != 0 {
                self.sessions.remove(&id);
            }
            if epoch == -1 || wanted.is_empty() {
                return Ok(Turn { session_id: 0, full: true, partitions: wanted });
            }
            return Ok(self.create(uses_topic_ids, wanted, now));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Err(SessionError::NotFound) };
        if session.epoch != epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids && !(wanted.is_empty() && forgotten.is_empty()) {
            return Err(SessionError::TopicIdsChanged);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = now;
        for key in forgotten {
            session.forget(key);
        }
        for (key, wanted) in wanted.drain(..) {
            session.put(key, wanted);
        }
        if session.partitions.is_empty() {
            // Kafka ends a session with nothing left in it.
            self.sessions.remove(&id);
            return Ok(Turn { session_id: 0, full: false, partitions: Vec::new() });
        }
        // Empty now.
        Ok(session.turn(id, false, wanted))
    }

    /// Whether an incremental answer has to name the partition; notes what it says.
    pub fn tell(&mut self, id: i32, key: &SessionKey, told: Told) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let Some(place) = session.places.get(key) else { return true };
        let cached = session.partitions.get_mut(place).expect("places name partitions");
        let mut news = told.has_records || told.has_hint || told.is_error;
        if told.is_error {
            cached.high_watermark = Offset(-1);
        } else {
            news |= cached.high_watermark != told.high_watermark || cached.log_start != told.log_start;
            cached.high_watermark = told.high_watermark;
            cached.log_start = told.log_start;
        }
        if told.has_records {
            session.move_to_end(key);
        }
        news
    }

    fn create(&mut self, uses_topic_ids: bool, mut wanted: Vec<(SessionKey, Wanted)>, now: UnixMs) -> Turn {
        if self.sessions.len() >= self.slots && !self.evict(wanted.len(), now) {
            return Turn { session_id: 0, full: true, partitions: wanted };
        }
        let id = loop {
            self.drawn = self.drawn.wrapping_add(0x9e37_79b9);
            let id = (self.drawn >> 1) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            uses_topic_ids,
            epoch: 1,
            used: now,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (key, wanted) in wanted.drain(..) {
            session.put(key, wanted);
        }
        let turn = session.turn(id, true, wanted);
        self.sessions.insert(id, session);
        turn
    }

    /// Makes room for a session of `size` partitions: the longest unused one if it has
    /// been idle long enough, else the smallest one if it is smaller.
    fn evict(&mut self, size: usize, now: UnixMs) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(id, s)| (s.used, **id)).map(|(id, s)| (*id, s.used));
        let smallest =
            self.sessions.iter().min_by_key(|(id, s)| (s.places.len(), **id)).map(|(id, s)| (*id, s.places.len()));
        let victim = match (oldest, smallest) {
            (Some((id, used)), _) if now.since(used) > EVICTABLE_AFTER => Some(id),
            (_, Some((id, len))) if len < size => Some(id),
            _ => None,
        };
        victim.is_some_and(|id| self.sessions.remove(&id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn key(partition: i32) -> SessionKey {
        SessionKey { topic: "t".into(), topic_id: Uuid::ZERO, partition }
    }

    fn want(partition: i32, offset: i64) -> (SessionKey, Wanted) {
        let wanted = Wanted {
            fetch_offset: Offset(offset),
            current_leader_epoch: LeaderEpoch::UNKNOWN,
            last_fetched_epoch: LeaderEpoch::UNKNOWN,
            max_bytes: 100,
        };
        (key(partition), wanted)
    }

    fn told(high_watermark: i64) -> Told {
        let high_watermark = Offset(high_watermark);
        Told { has_records: false, is_error: false, has_hint: false, high_watermark, log_start: Offset(0) }
    }

    fn order(turn: &Turn) -> Vec<i32> {
        turn.partitions.iter().map(|(k, _)| k.partition).collect()
    }

    #[test]
    fn a_session_lives_by_its_epochs() {
        let mut sessions = FetchSessions::new(10, 1);
        let first = sessions.begin(0, 0, false, vec![want(0, 5), want(1, 6)], &[], NOW).unwrap();
        assert!(first.full && first.session_id > 0);
        let id = first.session_id;
        let turn = sessions.begin(id, 1, false, vec![want(1, 7)], &[], NOW).unwrap();
        assert!(!turn.full);
        assert_eq!(turn.partitions, vec![want(0, 5), want(1, 7)]);
        assert_eq!(sessions.begin(id, 1, false, vec![], &[], NOW).unwrap_err(), SessionError::WrongEpoch);
        assert_eq!(sessions.begin(id + 1, 1, false, vec![], &[], NOW).unwrap_err(), SessionError::NotFound);
        assert_eq!(sessions.begin(id, 2, true, vec![want(0, 1)], &[], NOW).unwrap_err(), SessionError::TopicIdsChanged);
        let turn = sessions.begin(id, 2, false, vec![], &[key(0)], NOW).unwrap();
        assert_eq!(order(&turn), [1]);
        // Epoch -1 closes.
        assert_eq!(sessions.begin(id, -1, false, vec![want(0, 0)], &[], NOW).unwrap().session_id, 0);
        assert!(sessions.is_empty());
    }

    #[test]
    fn the_epoch_wraps_to_one() {
        let mut sessions = FetchSessions::new(10, 1);
        let id = sessions.begin(0, 0, false, vec![want(0, 5)], &[], NOW).unwrap().session_id;
        sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
        sessions.begin(id, i32::MAX, false, vec![], &[], NOW).unwrap();
        sessions.begin(id, 1, false, vec![], &[], NOW).unwrap();
    }

    #[test]
    fn only_news_is_told_and_data_goes_move_to_end() {
        let mut sessions = FetchSessions::new(10, 1);
        let id = sessions.begin(0, 0, false, vec![want(0, 0), want(1, 0)], &[], NOW).unwrap().session_id;
        assert!(sessions.tell(id, &key(0), told(10)));
        assert!(!sessions.tell(id, &key(0), told(10)));
        assert!(sessions.tell(id, &key(0), told(11)));
        assert!(sessions.tell(id, &key(0), Told { is_error: true, ..told(-1) }));
        assert!(sessions.tell(id, &key(0), told(11)), "the recovery from an error is news");
        assert!(sessions.tell(id, &key(0), Told { has_records: true, ..told(11) }));
        assert_eq!(order(&sessions.begin(id, 1, false, vec![], &[], NOW).unwrap()), [1, 0]);
    }

    #[test]
    fn a_full_cache_gives_way_to_the_larger_and_from_the_idle() {
        let mut sessions = FetchSessions::new(1, 1);
        let small = sessions.begin(0, 0, false, vec![want(0, 0)], &[], NOW).unwrap().session_id;
        let none = sessions.begin(0, 0, false, vec![want(0, 0)], &[], NOW).unwrap();
        assert_eq!((none.session_id, none.full), (0, true));
        let large = sessions.begin(0, 0, false, vec![want(0, 0), want(1, 0)], &[], NOW).unwrap().session_id;
        assert!(large > 0 && large != small && sessions.len() == 1);
        let later = NOW.plus(EVICTABLE_AFTER + Duration::from_millis(1));
        assert!(sessions.begin(0, 0, false, vec![want(0, 0)], &[], later).unwrap().session_id > 0);
        assert_eq!(sessions.len(), 1);
    }
}
