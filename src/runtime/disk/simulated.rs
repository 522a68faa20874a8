//! A disk in memory for tests: it keeps what is written apart from what is durable,
//! fails or stalls the operation of one's choice, and can be cut at any moment.
//!
//! What a power cut leaves is chosen by a seed, within what a drive and a
//! journalling file system promise and no better:
//!
//! * of blocks written since the file's last flush: the old bytes, the new, those of
//!   any write between, or a mixture by sectors of 512 bytes;
//! * of a length changed since the last flush: any of the lengths it had. Bytes that
//!   the length covers and no write reached are zeroes;
//! * of names created, removed or renamed since the directory's last sync: each
//!   happened or not, a rename as a whole;
//! * of an operation under way: done, not done, or partly.
//!
//! An operation takes effect when its future is first polled, or when its stall is
//! released, or the time has passed that it takes. A flush covers what was complete when
//! it was asked for. And a drive may lie: lose a flush that it said was done, give other
//! bytes than were asked for, or bytes of which a bit has turned.
//!
//! Works within an executor (buffers come from it) and never blocks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::{Boxed, Buffer, Create, DirEntry, Disk, DiskBackend, FileBackend, Open, Slice, Space};
use crate::base::limits::BLOCK_BYTES;
use crate::runtime::clock;
use crate::runtime::task::Events;

const SECTOR_BYTES: usize = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Open,
    Read,
    Write,
    Flush,
    Allocate,
    SetLength,
    Remove,
    Rename,
    CreateDir,
    RemoveDir,
    List,
    SyncDir,
    ReadFile,
    WriteFile,
    FreeBytes,
}

/// One operation that was asked for, in order. `path` is the one at the time of
/// opening; for a rename the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub verb: Verb,
    pub path: PathBuf,
    /// Position and length in bytes, where they apply.
    pub position: u64,
    pub len: u64,
}

type PathTest = Box<dyn Fn(&Path) -> bool>;

/// Which operation is meant, counted from the moment the rule is given.
pub struct When {
    verb: Option<Verb>,
    path: Option<PathTest>,
    skip: u64,
    from_then_on: bool,
}

impl When {
    /// The operation after `skip` others, of whatever kind.
    pub fn operation(skip: u64) -> When {
        When { verb: None, path: None, skip, from_then_on: false }
    }

    /// The next operation of this kind.
    pub fn verb(verb: Verb) -> When {
        When { verb: Some(verb), ..When::operation(0) }
    }

    /// Only operations whose path passes.
    pub fn on(self, path: impl Fn(&Path) -> bool + 'static) -> When {
        When { path: Some(Box::new(path)), ..self }
    }

    /// Passes over the first `skip` that match.
    pub fn after(self, skip: u64) -> When {
        When { skip, ..self }
    }

    /// And all that match later.
    pub fn from_then_on(self) -> When {
        When { from_then_on: true, ..self }
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC; nothing was done.
    NoSpace,
    /// EIO; a write may have been done in part.
    Broken,
}

enum Action {
    Fail(Fault),
    Stall(Rc<Gate>),
    Cut,
    /// Takes longer.
    Slow(Duration),
    /// A read gives the bytes of so many blocks further on in the file, which is a ring for that.
    Misdirect(u64),
}

struct Rule {
    when: When,
    action: Action,
}

#[derive(Default)]
struct Gate {
    reached: Rc<Events>,
    released: Rc<Events>,
}

/// Holds operations back until released. Dropping it changes nothing.
pub struct Stall(Rc<Gate>);

impl Stall {
    /// Completes when an operation has come to the stall.
    pub async fn reached(&self) {
        self.0.reached.after(0).await;
    }

    pub fn is_reached(&self) -> bool {
        self.0.reached.count() > 0
    }

    /// Lets the operation, and all that would stall here, go on.
    pub fn release(&self) {
        self.0.released.notify();
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Rc<State>);

#[derive(Default)]
struct State {
    contents: RefCell<Contents>,
    operations: RefCell<Vec<Operation>>,
    rules: RefCell<Vec<Rule>>,
    /// Writes that stall: the drive may have done any part of them.
    under_way: RefCell<BTreeMap<u64, UnderWay>>,
    /// Blocks of writes that failed: each may be on the drive, until it is written again.
    failed: RefCell<BTreeMap<(Id, u64), Vec<u8>>>,
    capacity: Cell<Option<u64>>,
    /// How long operations take, if they take any time.
    pace: RefCell<Option<Random>>,
    /// So many of the next flushes do nothing and say that they did.
    flushes_to_lose: Cell<u64>,
    flushes_lost: Cell<u64>,
    off: Cell<bool>,
    /// Counts power-off, for those who stall.
    changed: Rc<Events>,
}

type Id = u64;

/// A write that has begun: its file, position and bytes.
type UnderWay = (Id, u64, Rc<Vec<u8>>);

/// What is on the disk.
#[derive(Clone)]
struct Contents {
    files: HashMap<Id, FileNode>,
    dirs: HashMap<Id, DirNode>,
    next_id: Id,
    next_change: u64,
    /// Renames between directories of which one was synced: durable as a whole.
    committed: HashSet<u64>,
}

const ROOT: Id = 0;

impl Default for Contents {
    fn default() -> Contents {
        let dirs = HashMap::from([(ROOT, DirNode::default())]);
        Contents { files: HashMap::new(), dirs, next_id: 1, next_change: 0, committed: HashSet::new() }
    }
}

type Block = Rc<[u8; BLOCK_BYTES]>;

/// A file's bytes; a block that is not there is zeroes.
#[derive(Clone, Default)]
struct Image {
    len: u64,
    blocks: BTreeMap<u64, Block>,
}

#[derive(Clone, Default)]
struct FileNode {
    live: Image,
    durable: Image,
    /// By block: what it held since the last flush, in order, with the number of the change. `None`: zeroes.
    versions: BTreeMap<u64, Vec<(u64, Option<Block>)>>,
    /// The lengths since the last flush, in order, with the number of the change.
    lengths: Vec<(u64, u64)>,
    /// Changes so far.
    changes: u64,
    /// Bits that have turned at rest: block, byte in it, mask. A write of the block puts them right.
    flips: Vec<(u64, usize, u8)>,
}

#[derive(Clone, Default)]
struct DirNode {
    live: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
    /// Since the last sync, in order: the number of the change, the name, and what it
    /// came to stand for.
    pending: Vec<(u64, String, Option<Id>)>,
}

impl Image {
    fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let end = position.saturating_add(len as u64).min(self.len);
        let mut bytes = Vec::with_capacity(end.saturating_sub(position) as usize);
        let mut at = position;
        while at < end {
            let from = (at % BLOCK) as usize;
            let count = (BLOCK_BYTES - from).min((end - at) as usize);
            match self.blocks.get(&(at / BLOCK)) {
                Some(block) => bytes.extend_from_slice(&block[from..from + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    fn of(bytes: &[u8]) -> Image {
        let mut image = Image { len: bytes.len() as u64, ..Image::default() };
        for (number, chunk) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let mut block = [0; BLOCK_BYTES];
            block[..chunk.len()].copy_from_slice(chunk);
            image.blocks.insert(number as u64, Rc::new(block));
        }
        image
    }

    /// Drops what lies beyond the length.
    fn trim(&mut self) {
        self.blocks.split_off(&self.len.div_ceil(BLOCK));
        let used = (self.len % BLOCK) as usize;
        if used > 0
            && let Some(block) = self.blocks.get_mut(&(self.len / BLOCK))
        {
            Rc::make_mut(block)[used..].fill(0);
        }
    }
}

impl FileNode {
    fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let mut bytes = self.live.read(position, len);
        for (block, byte, mask) in &self.flips {
            let place = (block * BLOCK + *byte as u64).checked_sub(position);
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place as usize)) {
                *byte ^= mask;
            }
        }
        bytes
    }

    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes - 1
    }

    fn put(&mut self, number: u64, block: Option<Block>) {
        self.flips.retain(|(flipped, ..)| *flipped != number);
        let change = self.change();
        match &block {
            Some(block) => self.live.blocks.insert(number, Rc::clone(block)),
            None => self.live.blocks.remove(&number),
        };
        self.versions.entry(number).or_default().push((change, block));
    }

    fn write(&mut self, position: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let block: [u8; BLOCK_BYTES] = chunk.try_into().expect("chunks are blocks");
            self.put(position / BLOCK + index as u64, Some(Rc::new(block)));
        }
        self.extend(position + bytes.len() as u64);
    }

    fn extend(&mut self, len: u64) {
        if len > self.live.len {
            self.live.len = len;
            let change = self.change();
            self.lengths.push((change, len));
        }
    }

    /// Makes durable what a range of blocks holds.
    fn flush_range(&mut self, position: u64, len: u64) {
        for number in position / BLOCK..(position + len) / BLOCK {
            self.versions.remove(&number);
            if let Some(block) = self.live.blocks.get(&number) {
                self.durable.blocks.insert(number, Rc::clone(block));
            }
        }
        self.durable.len = self.durable.len.max(position + len);
        self.lengths.retain(|(_, other)| *other >= position + len);
    }

    fn set_length(&mut self, len: u64) {
        if len < self.live.len {
            let before = self.live.blocks.clone();
            self.live.len = len;
            self.live.trim();
            for (number, block) in before.range(len / BLOCK..) {
                let now = self.live.blocks.get(number).cloned();
                if now.as_ref() != Some(block) {
                    self.put(*number, now);
                }
            }
            let change = self.change();
            self.lengths.push((change, len));
        } else {
            self.extend(len);
        }
    }

    /// Makes durable what was changed before the change of this number.
    fn flush(&mut self, until: u64) {
        let durable = &mut self.durable;
        self.versions.retain(|number, versions| {
            let covered = versions.partition_point(|(change, _)| *change < until);
            match versions.drain(..covered).next_back() {
                Some((_, Some(block))) => drop(durable.blocks.insert(*number, block)),
                Some((_, None)) => drop(durable.blocks.remove(number)),
                None => {}
            }
            !versions.is_empty()
        });
        let covered = self.lengths.partition_point(|(change, _)| *change < until);
        if let Some((_, len)) = self.lengths.drain(..covered).next_back() {
            durable.len = len;
        }
    }

    /// What a cut leaves of it.
    fn after_cut(&self, random: &mut Random) -> Image {
        let mut image = self.durable.clone();
        for (number, versions) in &self.versions {
            let old = self.durable.blocks.get(number).cloned();
            let any = |random: &mut Random| match random.below(versions.len() as u64 + 1) {
                0 => old.clone(),
                version => versions[version as usize - 1].1.clone(),
            };
            let chosen = match random.below(4) {
                0 => old.clone(),
                1 => versions.last().and_then(|(_, block)| block.clone()),
                2 => any(random),
                _ => {
                    let mut torn = [0; BLOCK_BYTES];
                    for sector in torn.chunks_exact_mut(SECTOR_BYTES).enumerate() {
                        if let Some(block) = any(random) {
                            sector.1.copy_from_slice(&block[sector.0 * SECTOR_BYTES..][..SECTOR_BYTES]);
                        }
                    }
                    Some(Rc::new(torn))
                }
            };
            match chosen {
                Some(block) => image.blocks.insert(*number, block),
                None => image.blocks.remove(number),
            };
        }
        let choice = random.below(self.lengths.len() as u64 + 2) as usize;
        image.len = match choice {
            0 => self.durable.len,
            // The last one twice as likely as another.
            _ => self.lengths.get(choice - 1).or(self.lengths.last()).map_or(self.durable.len, |(_, len)| *len),
        };
        image.trim();
        image
    }
}

/// SplitMix64: the same choices for the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of the numbers below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}

impl Contents {
    fn find(&self, names: &[&str]) -> io::Result<Id> {
        let mut id = ROOT;
        for name in names {
            let dir = self.dirs.get(&id).ok_or(io::ErrorKind::NotADirectory)?;
            id = *dir.live.get(*name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    /// The directory of a path, and the last name.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Id, &'a str)> {
        let names = names(path)?;
        let (last, dirs) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(dirs)?;
        if !self.dirs.contains_key(&dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((dir, last))
    }

    fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id - 1
    }

    fn new_change(&mut self) -> u64 {
        self.next_change += 1;
        self.next_change - 1
    }

    /// Changes what a name stands for. `live`: now; otherwise it only may have
    /// happened when the power comes back.
    fn change(&mut self, change: u64, dir: Id, name: &str, to: Option<Id>, live: bool) {
        let dir = self.dirs.get_mut(&dir).expect("callers have found the directory");
        if live {
            match to {
                Some(id) => dir.live.insert(name.to_owned(), id),
                None => dir.live.remove(name),
            };
        }
        dir.pending.push((change, name.to_owned(), to));
    }

    fn sync_dir(&mut self, dir: Id) {
        let dir = self.dirs.get_mut(&dir).expect("callers have found the directory");
        self.committed.extend(dir.pending.drain(..).map(|(change, ..)| change));
        dir.durable = dir.live.clone();
    }

    fn file(&mut self, id: Id) -> &mut FileNode {
        self.files.get_mut(&id).expect("files stay as long as the disk")
    }

    fn is_empty_dir(&self, id: Id) -> bool {
        self.dirs.get(&id).is_some_and(|dir| dir.live.is_empty())
    }

    /// Bytes of all files that have a name.
    fn used(&self) -> u64 {
        let named = self.dirs.values().flat_map(|dir| dir.live.values());
        named.filter_map(|id| self.files.get(id)).map(|file| file.live.len).sum()
    }

    /// What a cut leaves: everything durable.
    fn after_cut(&self, random: &mut Random) -> Contents {
        // All, none, or each by chance: the extremes deserve more than their share.
        let mode = random.below(4);
        let mut verdicts = HashMap::new();
        for change in 0..self.next_change {
            let kept = match mode {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            verdicts.insert(change, kept || self.committed.contains(&change));
        }
        let mut after = Contents { next_id: self.next_id, ..Contents::default() };
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let dir = &self.dirs[&id];
            let mut entries = dir.durable.clone();
            for (change, name, to) in &dir.pending {
                if verdicts[change] {
                    match to {
                        Some(id) => entries.insert(name.clone(), *id),
                        None => entries.remove(name),
                    };
                }
            }
            for id in entries.values() {
                if self.dirs.contains_key(id) {
                    open.push(*id);
                } else {
                    let image = self.files[id].after_cut(random);
                    let (live, flips) = (image.clone(), self.files[id].flips.clone());
                    after.files.insert(*id, FileNode { live, durable: image, flips, ..FileNode::default() });
                }
            }
            after.dirs.insert(id, DirNode { live: entries.clone(), durable: entries, pending: Vec::new() });
        }
        after
    }
}

/// What [`State::begin`] lets an operation do.
enum Verdict {
    Go,
    /// The power fails in this moment: it may have been done.
    Cut,
    Fail(Fault),
    Misdirect(u64),
}

fn off() -> io::Error {
    io::Error::other("the simulated disk has no power")
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Fault::NoSpace => libc::ENOSPC,
            Fault::Broken => libc::EIO,
        })
    }
}

impl State {
    async fn begin(&self, verb: Verb, path: &Path, position: u64, len: u64) -> io::Result<Verdict> {
        if self.off.get() {
            return Err(off());
        }
        self.operations.borrow_mut().push(Operation { verb, path: path.to_owned(), position, len });
        let (gate, slow) = {
            let mut rules = self.rules.borrow_mut();
            let mut hit = None;
            for (index, rule) in rules.iter_mut().enumerate() {
                let when = &mut rule.when;
                let matches = when.verb.is_none_or(|wanted| wanted == verb)
                    && when.path.as_ref().is_none_or(|passes| passes(path));
                if matches && when.skip > 0 {
                    when.skip -= 1;
                } else if matches && hit.is_none() {
                    hit = Some(index);
                }
            }
            let mut slow = Duration::ZERO;
            let gate = match hit.map(|index| &rules[index].action) {
                None => Err(Verdict::Go),
                Some(Action::Fail(fault)) => Err(Verdict::Fail(*fault)),
                Some(Action::Stall(gate)) => Ok(Rc::clone(gate)),
                Some(Action::Cut) => Err(Verdict::Cut),
                Some(Action::Misdirect(blocks)) => Err(Verdict::Misdirect(*blocks)),
                Some(Action::Slow(by)) => {
                    slow = *by;
                    Err(Verdict::Go)
                }
            };
            if let Some(index) = hit
                && !rules[index].when.from_then_on
            {
                rules.remove(index);
            }
            (gate, slow)
        };
        let takes = slow + self.takes();
        if !takes.is_zero() {
            let off_seen = self.changed.count();
            futures_lite::future::or(clock::sleep(takes), self.changed.after(off_seen)).await;
            if self.off.get() {
                return Err(off());
            }
        }
        match gate {
            Err(Verdict::Cut) => {
                self.power_off();
                Ok(Verdict::Cut)
            }
            Err(verdict) => Ok(verdict),
            Ok(gate) => {
                gate.reached.notify();
                let off_seen = self.changed.count();
                futures_lite::future::or(gate.released.after(0), self.changed.after(off_seen)).await;
                if self.off.get() { Err(off()) } else { Ok(Verdict::Go) }
            }
        }
    }

    /// How long the next operation takes: mostly some tens of microseconds, sometimes a long while.
    fn takes(&self) -> Duration {
        let mut pace = self.pace.borrow_mut();
        let Some(random) = pace.as_mut() else { return Duration::ZERO };
        Duration::from_micros(match random.below(50) {
            0 => random.below(50_000),
            1..10 => random.below(1_000),
            _ => random.below(50),
        })
    }

    /// Whether a flush that has come to its end is to be lost.
    fn loses_flush(&self) -> bool {
        let to_lose = self.flushes_to_lose.get();
        if to_lose > 0 {
            self.flushes_to_lose.set(to_lose - 1);
            self.flushes_lost.set(self.flushes_lost.get() + 1);
        }
        to_lose > 0
    }

    /// For operations that leave nothing behind when they fail.
    async fn begin_plain(&self, verb: Verb, path: &Path, position: u64, len: u64) -> io::Result<()> {
        match self.begin(verb, path, position, len).await? {
            Verdict::Go | Verdict::Misdirect(_) => Ok(()),
            Verdict::Cut => Err(off()),
            Verdict::Fail(fault) => Err(fault.error()),
        }
    }

    /// For changes of names: whether the change is to happen now (`true`) or only
    /// may have happened when the power comes back.
    async fn begin_change(&self, verb: Verb, path: &Path) -> io::Result<bool> {
        match self.begin(verb, path, 0, 0).await? {
            Verdict::Go | Verdict::Misdirect(_) => Ok(true),
            Verdict::Cut => Ok(false),
            Verdict::Fail(fault) => Err(fault.error()),
        }
    }

    fn power_off(&self) {
        self.off.set(true);
        self.changed.notify();
    }

    /// Fails when a file may not grow to `len`.
    fn check_room(&self, id: Id, len: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity.get() else { return Ok(()) };
        let contents = self.contents.borrow();
        let grows = len.saturating_sub(contents.files[&id].live.len);
        if grows > 0 && contents.used() + grows > capacity {
            return Err(Fault::NoSpace.error());
        }
        Ok(())
    }
}

fn done(live: bool) -> io::Result<()> {
    if live { Ok(()) } else { Err(off()) }
}

impl SimulatedDisk {
    /// An empty disk with power.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// The disk as its users want it.
    pub fn disk(&self) -> Disk {
        Disk::custom(Rc::new(self.clone()))
    }

    /// All operations asked for so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.operations.borrow().clone()
    }

    /// How many operations of this kind were asked for on paths that pass.
    pub fn count(&self, verb: Verb, path: impl Fn(&Path) -> bool) -> usize {
        self.0.operations.borrow().iter().filter(|op| op.verb == verb && path(&op.path)).count()
    }

    /// Makes an operation fail.
    pub fn fail(&self, when: When, fault: Fault) {
        self.0.rules.borrow_mut().push(Rule { when, action: Action::Fail(fault) });
    }

    /// Holds an operation back, before it takes effect.
    pub fn stall(&self, when: When) -> Stall {
        let gate = Rc::new(Gate::default());
        self.0.rules.borrow_mut().push(Rule { when, action: Action::Stall(Rc::clone(&gate)) });
        Stall(gate)
    }

    /// Cuts the power in the middle of an operation; it and all later ones fail.
    pub fn cut(&self, when: When) {
        self.0.rules.borrow_mut().push(Rule { when, action: Action::Cut });
    }

    /// Cuts the power now.
    pub fn power_off(&self) {
        self.0.power_off();
    }

    pub fn is_off(&self) -> bool {
        self.0.off.get()
    }

    /// Takes all rules back. What stalls goes on stalling.
    pub fn clear_rules(&self) {
        self.0.rules.borrow_mut().clear();
    }

    /// Lets files grow to so many bytes in total; beyond: ENOSPC. `None`: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.capacity.set(bytes);
    }

    /// Has an operation take so much longer.
    pub fn slow(&self, when: When, by: Duration) {
        self.0.rules.borrow_mut().push(Rule { when, action: Action::Slow(by) });
    }

    /// Has a read give the bytes of a place so many blocks further on in the file, which is a ring for that.
    pub fn misdirect(&self, when: When, blocks: u64) {
        self.0.rules.borrow_mut().push(Rule { when, action: Action::Misdirect(blocks) });
    }

    /// From now on each operation takes some time, which `seed` chooses.
    pub fn set_pace(&self, seed: u64) {
        *self.0.pace.borrow_mut() = Some(Random::new(seed));
    }

    /// The next `count` flushes, of files, of names, or of single writes, do nothing and say that they did.
    pub fn lose_flushes(&self, count: u64) {
        self.0.flushes_to_lose.set(count);
    }

    /// Flushes of this disk, since it was last reopened, that did nothing.
    pub fn flushes_lost(&self) -> u64 {
        self.0.flushes_lost.get()
    }

    /// Turns a bit of a file at rest, until the block is written again. Gives false when the file is not there
    /// or has no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let mut contents = self.0.contents.borrow_mut();
        let Some(id) = names(path).ok().and_then(|names| contents.find(&names).ok()) else { return false };
        match contents.files.get_mut(&id) {
            Some(file) if byte < file.live.len => {
                file.flips.push((byte / BLOCK, (byte % BLOCK) as usize, 1 << (bit % 8)));
                true
            }
            _ => false,
        }
    }

    /// Puts all bits right that have turned.
    pub fn heal(&self) {
        self.0.contents.borrow_mut().files.values_mut().for_each(|file| file.flips.clear());
    }

    fn with(contents: Contents) -> SimulatedDisk {
        SimulatedDisk(Rc::new(State { contents: RefCell::new(contents), ..State::default() }))
    }

    /// The disk after a power cut at this moment and the power's return: what was
    /// durable, and of the rest what the seed chooses. This disk is off from now on.
    pub fn reopen(&self, seed: u64) -> SimulatedDisk {
        self.power_off();
        let mut contents = self.0.contents.borrow().clone();
        for ((id, block), bytes) in &*self.0.failed.borrow() {
            contents.file(*id).write(block * BLOCK, bytes);
        }
        for (id, position, bytes) in self.0.under_way.borrow().values() {
            contents.file(*id).write(*position, bytes);
        }
        SimulatedDisk::with(contents.after_cut(&mut Random::new(seed)))
    }

    /// The disk after the process was killed at this moment: all that completed is
    /// there, though no more durable than before; of writes under way what the seed
    /// chooses. This disk is off from now on.
    pub fn reopen_after_kill(&self, seed: u64) -> SimulatedDisk {
        self.power_off();
        let mut contents = self.0.contents.borrow().clone();
        let mut random = Random::new(seed);
        for ((id, block), bytes) in &*self.0.failed.borrow() {
            if random.below(2) == 0 {
                contents.file(*id).write(block * BLOCK, bytes);
            }
        }
        for (id, position, bytes) in self.0.under_way.borrow().values() {
            for (index, chunk) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
                if random.below(2) == 0 {
                    contents.file(*id).write(position + (index * BLOCK_BYTES) as u64, chunk);
                }
            }
        }
        SimulatedDisk::with(contents)
    }
}

impl DiskBackend for SimulatedDisk {
    fn open<'a>(&'a self, path: &'a Path, how: Open) -> Boxed<'a, io::Result<Rc<dyn FileBackend>>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::Open, path).await?;
            let mut contents = self.0.contents.borrow_mut();
            let (dir, name) = contents.parent(path)?;
            let id = match (contents.dirs[&dir].live.get(name).copied(), how.create) {
                (Some(_), Create::New) => return Err(io::Error::from_raw_os_error(libc::EEXIST)),
                (Some(id), _) if contents.dirs.contains_key(&id) => return Err(io::ErrorKind::IsADirectory.into()),
                (Some(id), _) => id,
                (None, Create::No) => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
                (None, _) => {
                    let (id, change) = (contents.new_id(), contents.new_change());
                    contents.files.insert(id, FileNode::default());
                    contents.change(change, dir, name, Some(id), live);
                    id
                }
            };
            done(live)?;
            let file = SimulatedFile { disk: Rc::clone(&self.0), id, path: path.to_owned(), read_only: how.read_only };
            Ok(Rc::new(file) as Rc<dyn FileBackend>)
        })
    }

    fn remove<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::Remove, path).await?;
            let mut contents = self.0.contents.borrow_mut();
            let (dir, name) = contents.parent(path)?;
            let id = contents.find(&names(path)?)?;
            if contents.dirs.contains_key(&id) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let change = contents.new_change();
            contents.change(change, dir, name, None, live);
            done(live)
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::Rename, from).await?;
            let mut contents = self.0.contents.borrow_mut();
            let id = contents.find(&names(from)?)?;
            let (from_dir, from_name) = contents.parent(from)?;
            let (to_dir, to_name) = contents.parent(to)?;
            if let Some(&old) = contents.dirs[&to_dir].live.get(to_name) {
                let moves_dir = contents.dirs.contains_key(&id);
                match (moves_dir, contents.dirs.contains_key(&old)) {
                    (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                    (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                    (true, true) if old != id && !contents.is_empty_dir(old) => {
                        return Err(io::ErrorKind::DirectoryNotEmpty.into());
                    }
                    _ => {}
                }
            }
            let change = contents.new_change();
            contents.change(change, from_dir, from_name, None, live);
            contents.change(change, to_dir, to_name, Some(id), live);
            done(live)
        })
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::CreateDir, path).await?;
            let mut contents = self.0.contents.borrow_mut();
            let mut dir = ROOT;
            for name in names(path)? {
                dir = match contents.dirs[&dir].live.get(name).copied() {
                    Some(id) if contents.dirs.contains_key(&id) => id,
                    Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                    None => {
                        let (id, change) = (contents.new_id(), contents.new_change());
                        contents.dirs.insert(id, DirNode::default());
                        contents.change(change, dir, name, Some(id), live);
                        id
                    }
                };
            }
            done(live)
        })
    }

    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::RemoveDir, path).await?;
            let mut contents = self.0.contents.borrow_mut();
            let (dir, name) = contents.parent(path)?;
            let id = contents.find(&names(path)?)?;
            // What it holds goes first, name by name.
            let mut open = vec![id];
            while let Some(id) = open.pop() {
                let Some(node) = contents.dirs.get(&id) else { continue };
                let entries: Vec<(String, Id)> = node.live.iter().map(|(name, id)| (name.clone(), *id)).collect();
                for (name, inner) in entries {
                    let change = contents.new_change();
                    contents.change(change, id, &name, None, live);
                    open.push(inner);
                }
            }
            let change = contents.new_change();
            contents.change(change, dir, name, None, live);
            done(live)
        })
    }

    fn list<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Vec<DirEntry>>> {
        Box::pin(async move {
            self.0.begin_plain(Verb::List, path, 0, 0).await?;
            let contents = self.0.contents.borrow();
            let id = contents.find(&names(path)?)?;
            let dir = contents.dirs.get(&id).ok_or(io::ErrorKind::NotADirectory)?;
            let entry = |(name, id): (&String, &Id)| DirEntry {
                name: name.clone(),
                is_dir: contents.dirs.contains_key(id),
                len: contents.files.get(id).map_or(0, |file| file.live.len),
            };
            Ok(dir.live.iter().map(entry).collect())
        })
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            self.0.begin_plain(Verb::SyncDir, path, 0, 0).await?;
            let mut contents = self.0.contents.borrow_mut();
            let id = contents.find(&names(path)?)?;
            if !contents.dirs.contains_key(&id) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if !self.0.loses_flush() {
                contents.sync_dir(id);
            }
            Ok(())
        })
    }

    fn read_file<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Vec<u8>>> {
        Box::pin(async move {
            self.0.begin_plain(Verb::ReadFile, path, 0, 0).await?;
            let contents = self.0.contents.borrow();
            let id = contents.find(&names(path)?)?;
            let file = contents.files.get(&id).ok_or(io::ErrorKind::IsADirectory)?;
            Ok(file.read(0, file.live.len as usize))
        })
    }

    fn write_file<'a>(&'a self, path: &'a Path, bytes: Vec<u8>) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let live = self.0.begin_change(Verb::WriteFile, path).await?;
            let mut contents = self.0.contents.borrow_mut();
            let (dir, name) = contents.parent(path)?;
            let (id, made, moved) = (contents.new_id(), contents.new_change(), contents.new_change());
            if let Some(capacity) = self.0.capacity.get()
                && contents.used() + bytes.len() as u64 > capacity
            {
                return Err(Fault::NoSpace.error());
            }
            let image = Image::of(&bytes);
            contents.files.insert(id, FileNode { live: image.clone(), durable: image, ..FileNode::default() });
            // The steps of the real disk: the new file is flushed before it takes the
            // name, and both names are changes of one directory.
            let new_name = format!("{name}.tmp");
            contents.change(made, dir, &new_name, Some(id), live);
            contents.change(moved, dir, &new_name, None, live);
            contents.change(moved, dir, name, Some(id), live);
            if live && !self.0.loses_flush() {
                contents.sync_dir(dir);
            }
            done(live)
        })
    }

    fn space<'a>(&'a self, path: &'a Path) -> Boxed<'a, io::Result<Space>> {
        Box::pin(async move {
            self.0.begin_plain(Verb::FreeBytes, path, 0, 0).await?;
            let used = self.0.contents.borrow().used();
            let total = self.0.capacity.get().unwrap_or(1 << 40);
            Ok(Space { free: total.saturating_sub(used), total })
        })
    }
}

struct SimulatedFile {
    disk: Rc<State>,
    id: Id,
    path: PathBuf,
    read_only: bool,
}

impl SimulatedFile {
    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(()) }
    }
}

impl FileBackend for SimulatedFile {
    fn read<'a>(&'a self, position: u64, len: usize) -> Boxed<'a, io::Result<Slice>> {
        Box::pin(async move {
            let verdict = self.disk.begin(Verb::Read, &self.path, position, len as u64).await?;
            let contents = self.disk.contents.borrow();
            let file = &contents.files[&self.id];
            match verdict {
                Verdict::Go => Ok(Slice::from(file.read(position, len))),
                Verdict::Cut => Err(off()),
                Verdict::Fail(fault) => Err(fault.error()),
                Verdict::Misdirect(by) => {
                    let wanted = file.live.read(position, len).len();
                    let block = (position / BLOCK + by) % file.live.len.div_ceil(BLOCK).max(1);
                    let mut bytes = file.read(block * BLOCK + position % BLOCK, wanted);
                    bytes.resize(wanted, 0);
                    Ok(Slice::from(bytes))
                }
            }
        })
    }

    fn write<'a>(&'a self, buffer: Rc<Buffer>, position: u64) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            self.writable()?;
            let number = self.disk.operations.borrow().len() as u64;
            let bytes = Rc::new(buffer.as_slice().to_vec());
            let len = bytes.len() as u64;
            let under_way = || self.disk.under_way.borrow_mut();
            under_way().insert(number, (self.id, position, Rc::clone(&bytes)));
            // Left in place when the power fails: any part of it may be on the drive.
            let verdict = self.disk.begin(Verb::Write, &self.path, position, len).await?;
            let room = self.disk.check_room(self.id, position + len);
            match (verdict, room) {
                (Verdict::Cut, _) => Err(off()),
                (Verdict::Fail(Fault::Broken), _) => {
                    under_way().remove(&number);
                    let blocks = (position / BLOCK..).zip(bytes.chunks_exact(BLOCK_BYTES));
                    let of_file = blocks.map(|(block, bytes)| ((self.id, block), bytes.to_vec()));
                    self.disk.failed.borrow_mut().extend(of_file);
                    Err(Fault::Broken.error())
                }
                (Verdict::Fail(fault), _) => {
                    under_way().remove(&number);
                    Err(fault.error())
                }
                (Verdict::Go | Verdict::Misdirect(_), Err(error)) => {
                    under_way().remove(&number);
                    Err(error)
                }
                (Verdict::Go | Verdict::Misdirect(_), Ok(())) => {
                    under_way().remove(&number);
                    let written = position / BLOCK..(position + len) / BLOCK;
                    self.disk.failed.borrow_mut().retain(|(id, block), _| *id != self.id || !written.contains(block));
                    self.disk.contents.borrow_mut().file(self.id).write(position, &bytes);
                    Ok(())
                }
            }
        })
    }

    fn write_durable<'a>(&'a self, buffer: Rc<Buffer>, position: u64) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let len = buffer.len() as u64;
            self.write(buffer, position).await?;
            if !self.disk.loses_flush() {
                self.disk.contents.borrow_mut().file(self.id).flush_range(position, len);
            }
            Ok(())
        })
    }

    fn flush<'a>(&'a self) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let until = self.disk.contents.borrow_mut().file(self.id).changes;
            self.disk.begin_plain(Verb::Flush, &self.path, 0, 0).await?;
            if !self.disk.loses_flush() {
                self.disk.contents.borrow_mut().file(self.id).flush(until);
            }
            Ok(())
        })
    }

    fn allocate<'a>(&'a self, position: u64, len: u64) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            self.writable()?;
            let live = match self.disk.begin(Verb::Allocate, &self.path, position, len).await? {
                Verdict::Go | Verdict::Misdirect(_) => true,
                Verdict::Cut => false,
                Verdict::Fail(fault) => return Err(fault.error()),
            };
            self.disk.check_room(self.id, position + len)?;
            self.disk.contents.borrow_mut().file(self.id).extend(position + len);
            done(live)
        })
    }

    fn set_length<'a>(&'a self, len: u64) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            self.writable()?;
            let live = match self.disk.begin(Verb::SetLength, &self.path, len, 0).await? {
                Verdict::Go | Verdict::Misdirect(_) => true,
                Verdict::Cut => false,
                Verdict::Fail(fault) => return Err(fault.error()),
            };
            self.disk.contents.borrow_mut().file(self.id).set_length(len);
            done(live)
        })
    }

    fn length(&self) -> u64 {
        self.disk.contents.borrow().files[&self.id].live.len
    }
}

#[cfg(test)]
mod tests;
