//! Whether the data directories of a node are whole: every file against its own form, and against the others.
//!
//! | what | against |
//! |---|---|
//! | batches: checksum, offsets, leader epochs, records | each other, `leader-epoch-checkpoint`, the next segment |
//! | offset, time and transaction index | the batches of the segment |
//! | snapshots of producers, checkpoints | their own form, the end of the log |
//! | directories of partitions | the metadata: topic ids, whether they should be there |
//! | metadata log, snapshots | their own form, and that the records can follow each other |
//! | journals, after an unclean end | the ends of the logs |
//!
//! *Damage* is what no crash leaves behind, by the rules of `docs/recovery.md`; a *note* is what a start will put right
//! by itself. Offsets without a gap are asked for unless the topic is compacted; in one that was compacted before its
//! policy was changed each gap is told, although nothing is wrong. With gaps allowed, a base offset that a flipped bit
//! has moved can look like a gap: it lies outside of the checksum.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::batches::{self, Fault, Found, Walked};
use super::metadata::{self, MetadataError};
use super::words::journal_contents;
use super::{InspectError, list, read};
use crate::base::{LeaderEpoch, Offset, Uuid};
use crate::log::journal::Replay;
use crate::log::{self, SegmentFile, aborted, file_name, parse_file_name};
use crate::metadata::Image;
use crate::metadata::journal::DIRECTORY;
use crate::metadata::offline::{self, Reading};
use crate::metadata::properties::Properties;
use crate::partition::{LeaderEpochs, Producers, RecoveryPoints};
use crate::record::{ControlType, Scratch};

/// Kafka's marker of a clean stop.
const CLEAN_MARKER: &str = ".kafka_cleanshutdown";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    Damage,
    Note,
}

/// What a start does about something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// Cuts off what follows the last right batch.
    Cut,
    /// Makes an index, a snapshot or a checkpoint again from the batches, at the latest when it is read.
    Rebuild,
    /// Removes a file or directory, or puts it in its place.
    Remove,
    /// Renames a directory, and leaves what is in it.
    SetAside,
    /// Files what only a journal has.
    File,
}

/// Something that is not as after a clean stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub weight: Weight,
    /// `None`: nothing is done about it.
    pub repair: Option<Repair>,
    pub path: PathBuf,
    pub what: String,
}

/// What was checked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum {
    pub partitions: usize,
    pub segments: usize,
    pub batches: u64,
    pub records: u64,
    /// Of batches.
    pub bytes: u64,
    pub damages: usize,
    /// Those of them about which nothing is done.
    pub lasting: usize,
    pub notes: usize,
}

struct Verifying<'a> {
    sum: Sum,
    /// The last stop in the directory that is looked at was clean.
    clean: bool,
    /// Take records apart.
    records: bool,
    scratch: Scratch,
    on_finding: &'a mut dyn FnMut(&Finding),
}

/// Checks the directories of a node that nobody serves, each with its properties; the metadata log lies in one of
/// them. `records`: also whether each record can be read.
///
/// # Errors
/// A directory or file cannot be read at all.
pub fn verify(
    dirs: &[(PathBuf, Properties)],
    records: bool,
    on_finding: &mut dyn FnMut(&Finding),
) -> Result<Sum, InspectError> {
    let mut verifying = Verifying { sum: Sum::default(), clean: false, records, scratch: Scratch::new(), on_finding };
    verifying.run(dirs)?;
    Ok(verifying.sum)
}

impl Verifying<'_> {
    fn damage(&mut self, path: &Path, what: impl ToString) {
        self.sum.lasting += 1;
        self.damage_that_goes(path, None, what);
    }

    fn damage_that_goes(&mut self, path: &Path, repair: Option<Repair>, what: impl ToString) {
        self.sum.damages += 1;
        let weight = Weight::Damage;
        (self.on_finding)(&Finding { weight, repair, path: path.to_owned(), what: what.to_string() });
    }

    fn note(&mut self, path: &Path, repair: impl Into<Option<Repair>>, what: impl ToString) {
        self.sum.notes += 1;
        let (weight, repair) = (Weight::Note, repair.into());
        (self.on_finding)(&Finding { weight, repair, path: path.to_owned(), what: what.to_string() });
    }

    /// What a start puts right after any stop, and what is damage after a clean one.
    fn missing(&mut self, path: &Path, repair: Repair, what: &str) {
        if self.clean { self.damage_that_goes(path, Some(repair), what) } else { self.note(path, repair, what) }
    }

    /// Damage after a clean stop; after another end what a start puts right.
    fn damage_if_clean(&mut self, path: &Path, repair: Repair, what: impl ToString) {
        if self.clean { self.damage(path, what) } else { self.note(path, repair, what) }
    }

    fn run(&mut self, dirs: &[(PathBuf, Properties)]) -> Result<(), InspectError> {
        let is_clean = |dir: &Path| dir.join(CLEAN_MARKER).exists();
        for (dir, _) in dirs.iter().filter(|(dir, _)| !is_clean(dir)) {
            self.note(dir, None, format!("there is no {CLEAN_MARKER}: the last stop was not clean"));
        }
        let Some((dir, properties)) = dirs.iter().find(|(dir, _)| dir.join(DIRECTORY).exists()).or(dirs.first()) else {
            return Ok(());
        };
        self.clean = is_clean(dir);
        let image = self.metadata(dir, properties)?;
        let mut seen = BTreeMap::new();
        for (dir, properties) in dirs {
            self.clean = is_clean(dir);
            self.data_dir(dir, properties, image.as_ref(), &mut seen)?;
        }
        Ok(())
    }

    /// One directory. `seen`: where partitions were found so far.
    fn data_dir(
        &mut self,
        dir: &Path,
        properties: &Properties,
        image: Option<&Image>,
        seen: &mut BTreeMap<(Uuid, i32), PathBuf>,
    ) -> Result<(), InspectError> {
        let mut ends: BTreeMap<(Uuid, i32), Offset> = BTreeMap::new();
        let mut by_name: BTreeMap<(String, i32), Offset> = BTreeMap::new();
        for (name, is_dir) in list(dir)? {
            let path = dir.join(&name);
            if !is_dir || name == DIRECTORY {
                continue;
            }
            let left = match () {
                () if name.ends_with("-delete") => Some((Some(Repair::Remove), "a partition on its way out")),
                () if name.ends_with("-future") => Some((None, "a copy of a partition in the making")),
                () if name.ends_with("-stray") => {
                    Some((None, "set aside: its topic was not in the metadata; remove it if it was deleted"))
                }
                () => None,
            };
            if let Some((repair, what)) = left {
                self.note(&path, repair, what);
                continue;
            }
            let Some((topic, number)) = partition_of(&name) else { continue };
            let Some(image) = image else { continue };
            let wanted = image.topic(topic).filter(|topic| topic.partitions.contains_key(&number));
            let found = self.topic_id(&path)?;
            match (wanted, found) {
                (None, Some(id)) => {
                    let what = format!("its topic {id} is not in the metadata, and a start sets it aside as -stray");
                    self.note(&path, Repair::SetAside, what)
                }
                (None, None) => self.note(&path, None, "no topic of the metadata has this partition"),
                (Some(wanted), Some(found)) if wanted.id != found => {
                    let what = format!(
                        "it belongs to topic {found}, which is not in the metadata, where the topic is {}; a start sets \
                         it aside as -stray",
                        wanted.id
                    );
                    self.note(&path, Repair::SetAside, what);
                }
                (Some(wanted), _) => {
                    if let Some(other) = seen.insert((wanted.id, number), path.clone()) {
                        self.damage(&path, format!("the partition is there twice, also as {}", other.display()));
                    }
                    let said = wanted.partitions.get(&number).and_then(|state| state.directory_of(properties.node_id));
                    if said.is_some_and(|id| id != properties.directory_id && !id.is_reserved()) {
                        self.note(&path, None, "the metadata has it in another directory; a start puts that right");
                    }
                    let compacted =
                        image.topic_config(topic).get("cleanup.policy").is_some_and(|p| p.contains("compact"));
                    let end = self.partition(&path, compacted)?;
                    ends.insert((wanted.id, number), end);
                    by_name.insert((topic.to_string(), number), end);
                }
            }
        }
        for (name, must_be_within) in [
            ("recovery-point-offset-checkpoint", true),
            ("replication-offset-checkpoint", true),
            ("log-start-offset-checkpoint", true),
            ("cleaner-offset-checkpoint", true),
        ] {
            self.checkpoint(&dir.join(name), must_be_within, &by_name)?;
        }
        if !self.clean {
            self.journals(dir, &ends)?;
        }
        Ok(())
    }

    fn metadata(&mut self, dir: &Path, properties: &Properties) -> Result<Option<Image>, InspectError> {
        let log_dir = dir.join(DIRECTORY);
        let loaded = match metadata::load(dir) {
            Ok(loaded) => loaded,
            Err(MetadataError::Inspect(error)) => return Err(error),
            Err(MetadataError::Damaged { path, reason }) => {
                self.damage(&path, reason);
                return Ok(None);
            }
        };
        if let Some(reason) = &loaded.tail {
            self.damage_if_clean(&log_dir, Repair::Cut, format!("{reason}; a start cuts it off"));
        }
        if let Some(reason) = loaded.state.as_ref().and_then(|state| state.check(properties.node_id).err()) {
            self.damage(&log_dir, reason);
        }
        if let Err(reason) = loaded.quorum.check(properties.node_id, properties.directory_id) {
            self.damage(&log_dir, reason);
        }
        for (name, _) in list(&log_dir)? {
            let path = log_dir.join(&name);
            if let Some((end, epoch)) = offline::snapshot_of(&name) {
                match metadata::snapshot(&path, end, epoch, &mut Reading::default()) {
                    Err(MetadataError::Inspect(error)) => return Err(error),
                    Err(MetadataError::Damaged { reason, .. }) => self.damage(&path, reason),
                    Ok(()) => {}
                }
            } else if name.contains(".checkpoint") {
                self.note(&path, Repair::Remove, "a snapshot that was not finished or given up; a start removes it");
            }
        }
        self.partition(&log_dir, false)?;
        Ok(Some(loaded.image))
    }

    fn topic_id(&mut self, dir: &Path) -> Result<Option<Uuid>, InspectError> {
        let path = dir.join("partition.metadata");
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let id = text.lines().find_map(|line| line.strip_prefix("topic_id:")).and_then(|id| id.trim().parse().ok());
        if id.is_none() {
            self.damage(&path, "it has no topic id");
        }
        Ok(id)
    }

    /// Gives the end of the log.
    fn partition(&mut self, dir: &Path, compacted: bool) -> Result<Offset, InspectError> {
        self.sum.partitions += 1;
        let names: Vec<String> = list(dir)?.into_iter().map(|(name, _)| name).collect();
        let epochs_path = dir.join("leader-epoch-checkpoint");
        let epochs = match read(&epochs_path)?.map(|bytes| LeaderEpochs::decode(&bytes)) {
            Some(Ok(epochs)) => Some(epochs),
            Some(Err(error)) => {
                self.damage(&epochs_path, error);
                None
            }
            None => None,
        };
        let files = || names.iter().filter_map(|name| parse_file_name(name));
        let start = files().filter(|file| file.kind == log::GIVEN_UP).map(|file| file.base).max();
        let given_up = |file: &SegmentFile<'_>| file.kind == log::GIVEN_UP || start.is_some_and(|to| file.base < to);
        let mut bases = Vec::new();
        for name in &names {
            let path = dir.join(name);
            match parse_file_name(name) {
                Some(file) if given_up(&file) => {
                    self.note(&path, Repair::Remove, "retention was removing what is below; a start goes on with that")
                }
                Some(file) if !file.suffix.is_empty() => {
                    self.note(&path, Repair::Remove, "a leftover; a start removes it or puts it in place")
                }
                Some(file) if file.kind == log::LOG => bases.push(file.base),
                None if name.ends_with(".tmp") => self.note(&path, Repair::Remove, "a leftover; a start removes it"),
                _ => {}
            }
        }
        bases.sort_unstable();
        let mut next = bases.first().copied().unwrap_or(Offset::ZERO);
        let mut last_epoch = LeaderEpoch(-1);
        let mut producers = Producers::default();
        for (at, base) in bases.iter().enumerate() {
            let segment = Segment { dir, base: *base, next_base: bases.get(at + 1).copied(), compacted };
            self.segment(&segment, &mut next, &mut last_epoch, epochs.as_ref(), &mut producers)?;
        }
        for name in &names {
            let path = dir.join(name);
            let Some(file) = parse_file_name(name).filter(|file| file.suffix.is_empty()) else { continue };
            if given_up(&file) {
                continue;
            }
            if file.kind == log::SNAPSHOT {
                if let Err(error) = Producers::decode(&read(&path)?.unwrap_or_default()) {
                    self.damage_if_clean(&path, Repair::Remove, error);
                } else if file.base > next {
                    self.damage_if_clean(
                        &path,
                        Repair::Remove,
                        format!("it is of offset {}, but the log ends at {next}", file.base),
                    );
                }
            } else if !bases.contains(&file.base) {
                self.note(&path, Repair::Remove, "its segment is gone; a start removes it");
            }
        }
        if let Some(epochs) = &epochs
            && let Some((epoch, start)) = epochs.last()
            && start > next
        {
            self.damage_if_clean(
                &epochs_path,
                Repair::Rebuild,
                format!("epoch {} begins at {start}, but the log ends at {next}", epoch.0),
            );
        }
        Ok(next)
    }

    fn segment(
        &mut self,
        segment: &Segment<'_>,
        next: &mut Offset,
        last_epoch: &mut LeaderEpoch,
        epochs: Option<&LeaderEpochs>,
        producers: &mut Producers,
    ) -> Result<(), InspectError> {
        let path = segment.path(log::LOG);
        self.sum.segments += 1;
        let mut indexes = Indexes::read(segment)?;
        let mut aborts: Vec<Offset> = Vec::new();
        let is_first = *next == segment.base;
        if *next > segment.base {
            self.damage(&path, format!("it begins at {}, but the segment before it ends at {next}", segment.base));
        }
        let mut findings: Vec<String> = Vec::new();
        let mut first = true;
        // After an unclean end the last segment ends with its last right batch: what follows was never acknowledged.
        let may_be_torn = !self.clean && segment.next_base.is_none();
        let mut torn: Option<u64> = None;
        let walked = batches::walk(&path, |found| {
            let Found { batch, position, crc_is_right } = found;
            let mut wrong = |what: String| findings.push(format!("the batch at position {position}: {what}"));
            self.sum.batches += 1;
            self.sum.bytes += batch.size() as u64;
            let (base, last) = (batch.base_offset(), batch.last_offset());
            if !crc_is_right {
                wrong("its checksum is wrong".to_string());
            }
            // Lengths were believed to come here; without its checksum a batch says nothing of what follows.
            let due = if first { segment.base } else { *next };
            let gap = base > due && !segment.compacted && (!first || is_first);
            let misplaced = base < due || gap || last < base || base.0 - segment.base.0 > i64::from(i32::MAX);
            if misplaced {
                wrong(format!("it has offsets {base} to {last} where {due} is due"));
            }
            if segment.next_base.is_some_and(|next| last >= next) {
                wrong(format!("its last offset {last} belongs into the next segment"));
            }
            let epoch = batch.leader_epoch();
            match epochs.map(|epochs| epochs.epoch_of(base)) {
                _ if epoch < *last_epoch => wrong(format!("leader epoch {} after {}", epoch.0, last_epoch.0)),
                Some(Some(known)) if known != epoch => {
                    wrong(format!("leader epoch {}, but leader-epoch-checkpoint says {}", epoch.0, known.0));
                }
                _ => {}
            }
            if crc_is_right {
                *last_epoch = epoch.max(*last_epoch);
                *next = last.plus(1).max(*next);
                first = false;
                indexes.batch(&batch, position, &mut wrong);
                producers.update(&batch, base, batch.max_timestamp());
                if self.records || batch.is_control() {
                    match read_records(&batch, &mut self.scratch) {
                        Ok((count, kind)) => {
                            self.sum.records += count;
                            if kind == Some(ControlType::Abort) {
                                aborts.push(last);
                            }
                        }
                        Err(error) => wrong(error),
                    }
                }
            }
            if may_be_torn && (!crc_is_right || misplaced) {
                torn = Some(position);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let walked = walked.map_err(InspectError::new("read", &path))?;
        let of_torn = torn.map(|position| format!("the batch at position {position}:"));
        for what in findings {
            match &of_torn {
                Some(start) if what.starts_with(start) => {}
                _ => self.damage(&path, what),
            }
        }
        if let Some(position) = torn {
            let what = format!(
                "the batch at position {position} is torn; {} bytes, which a start cuts off",
                walked.len - position
            );
            self.note(&path, Repair::Cut, what);
        }
        self.tail(&path, segment, &walked, *next);
        indexes.finish(segment, &walked, &aborts, self);
        if let Some(next_base) = segment.next_base {
            *next = next_base.max(*next);
        }
        Ok(())
    }

    /// What is there behind the last batch.
    fn tail(&mut self, path: &Path, segment: &Segment<'_>, walked: &Walked, next: Offset) {
        let Some(fault) = walked.fault else { return };
        let bytes = walked.len - walked.end;
        let what = format!("at position {}: {fault}; {bytes} bytes", walked.end);
        match (segment.next_base, fault) {
            (None, _) if !self.clean => self.note(path, Repair::Cut, format!("{what}, which a start cuts off")),
            (Some(next_base), Fault::Zeroes) if !self.clean && next == next_base => {
                self.note(path, Repair::Cut, format!("{what}: it was being sealed, and a start cuts them off"));
            }
            _ => self.damage(path, what),
        }
    }

    fn checkpoint(
        &mut self,
        path: &Path,
        must_be_within: bool,
        ends: &BTreeMap<(String, i32), Offset>,
    ) -> Result<(), InspectError> {
        let Some(bytes) = read(path)?.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let points = match RecoveryPoints::decode(&bytes) {
            Ok(points) => points,
            Err(error) => {
                self.damage_if_clean(path, Repair::Rebuild, error);
                return Ok(());
            }
        };
        for ((topic, partition), end) in ends.iter().filter(|_| must_be_within) {
            let point = points.get(topic, *partition);
            if point > *end {
                // A hint where it is of another life of the name.
                self.note(
                    path,
                    None,
                    format!("{topic}-{partition} is said to reach {point}, but its log ends at {end}"),
                );
            }
        }
        Ok(())
    }

    fn journals(&mut self, dir: &Path, ends: &BTreeMap<(Uuid, i32), Offset>) -> Result<(), InspectError> {
        for (name, _) in list(dir)? {
            let Some(core) = Replay::core_of(&name) else { continue };
            let path = dir.join(&name);
            let contents = journal_contents(&path, core)?;
            if let Some(damage) = contents.damage {
                self.damage(&path, damage);
            }
            for ((topic, partition), entries) in contents.entries {
                let Some(end) = ends.get(&(topic, partition)) else { continue };
                let mut reached = *end;
                for entry in entries {
                    if entry.base > reached {
                        let what = format!(
                            "it holds {} on of partition {partition} of {topic}, whose log ends at {reached}",
                            entry.base
                        );
                        self.damage(&path, what);
                    }
                    reached = reached.max(entry.end);
                }
                if reached > *end {
                    let what =
                        format!("offsets {end} to {reached} of partition {partition} of {topic} are filed by a start");
                    self.note(&path, Repair::File, what);
                }
            }
        }
        Ok(())
    }
}

/// Takes all records apart. Gives their number, and the kind of the first if it is a control record.
fn read_records(
    batch: &crate::record::BatchView<'_>,
    scratch: &mut Scratch,
) -> Result<(u64, Option<ControlType>), String> {
    let mut records = batch.records(scratch).map_err(|error| error.to_string())?;
    let (mut count, mut kind) = (0, None);
    while let Some(record) = records.next().map_err(|error| error.to_string())? {
        if count == 0 && batch.is_control() {
            kind = record.key.and_then(ControlType::from_key);
        }
        count += 1;
    }
    Ok((count, kind))
}

struct Segment<'a> {
    dir: &'a Path,
    base: Offset,
    next_base: Option<Offset>,
    /// Offsets may be missing.
    compacted: bool,
}

impl Segment<'_> {
    fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(file_name(self.base, kind))
    }
}

/// The indexes of a segment, compared with its batches as those come.
struct Indexes {
    offsets: Vec<(i64, u64)>,
    times: Vec<(i64, i64)>,
    aborted: Vec<u8>,
    /// Bytes that are no whole entries.
    uneven: Vec<&'static str>,
    /// How many entries have found their batch.
    at_offset: usize,
    at_time: usize,
    youngest: i64,
    wrong: Vec<(&'static str, String)>,
}

/// Entries of one size, without the zeroes that Kafka allocates behind them while it uses a file.
fn entries(bytes: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / size + 1);
    bytes.chunks_exact(size).take(used)
}

impl Indexes {
    fn read(segment: &Segment<'_>) -> Result<Indexes, InspectError> {
        let bytes = |kind| read(&segment.path(kind)).map(Option::unwrap_or_default);
        let (offsets, times) = (bytes(log::OFFSET_INDEX)?, bytes(log::TIME_INDEX)?);
        let uneven = [(log::OFFSET_INDEX, &offsets, 8), (log::TIME_INDEX, &times, 12)];
        let uneven = uneven.into_iter().filter(|(_, bytes, size)| !bytes.len().is_multiple_of(*size));
        let number = |bytes: &[u8]| i64::from(i32::from_be_bytes(bytes.try_into().expect("four bytes")));
        let wide = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        let base = segment.base.0;
        Ok(Indexes {
            uneven: uneven.map(|(kind, ..)| kind).collect(),
            offsets: entries(&offsets, 8).map(|e| (base + number(&e[..4]), number(&e[4..]) as u64)).collect(),
            times: entries(&times, 12).map(|e| (wide(&e[..8]), base + number(&e[8..]))).collect(),
            aborted: bytes(log::TRANSACTION_INDEX)?,
            at_offset: 0,
            at_time: 0,
            youngest: -1,
            wrong: Vec::new(),
        })
    }

    fn batch(&mut self, batch: &crate::record::BatchView<'_>, position: u64, _wrong: &mut dyn FnMut(String)) {
        let last = batch.last_offset().0;
        while let Some((offset, at)) = self.offsets.get(self.at_offset).copied().filter(|(_, at)| *at <= position) {
            // One entry may stand for several batches that were appended together: it has the last one's offset.
            if at < position || offset < last {
                let what = format!("entry {} (offset {offset}, position {at}) leads to no batch", self.at_offset);
                self.wrong.push((log::OFFSET_INDEX, what));
            }
            self.at_offset += 1;
        }
        while let Some((time, _)) =
            self.times.get(self.at_time).copied().filter(|(_, offset)| *offset < batch.base_offset().0)
        {
            self.time_entry(time);
        }
        self.youngest = self.youngest.max(batch.max_timestamp());
        while let Some((time, _)) = self.times.get(self.at_time).copied().filter(|(_, offset)| *offset == last) {
            self.time_entry(time);
        }
    }

    fn time_entry(&mut self, time: i64) {
        if time < self.youngest {
            let what = format!("entry {} says {time}, but a batch before it has {}", self.at_time, self.youngest);
            self.wrong.push((log::TIME_INDEX, what));
        }
        self.at_time += 1;
    }

    fn finish(mut self, segment: &Segment<'_>, walked: &Walked, aborts: &[Offset], verifying: &mut Verifying<'_>) {
        for kind in &self.uneven {
            verifying.damage_if_clean(&segment.path(kind), Repair::Rebuild, "its length is no whole number of entries");
        }
        for at in self.at_offset..self.offsets.len() {
            let (offset, position) = self.offsets[at];
            let what = format!(
                "entry {at} (offset {offset}, position {position}) lies behind the batches, which end at {}",
                walked.end
            );
            self.wrong.push((log::OFFSET_INDEX, what));
        }
        let rises = |list: &[(i64, i64)]| list.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let offsets: Vec<(i64, i64)> = self.offsets.iter().map(|(offset, at)| (*offset, *at as i64)).collect();
        for (kind, list) in [(log::OFFSET_INDEX, &offsets), (log::TIME_INDEX, &self.times)] {
            if !rises(list) {
                self.wrong.push((kind, "its entries do not rise".to_string()));
            }
        }
        for (kind, what) in self.wrong.drain(..) {
            // They are read only with the segment, and rebuilt when they are wrong.
            verifying.damage_if_clean(&segment.path(kind), Repair::Rebuild, what);
        }
        if segment.next_base.is_some() {
            for kind in [log::OFFSET_INDEX, log::TIME_INDEX] {
                if !segment.path(kind).exists() {
                    verifying.missing(&segment.path(kind), Repair::Rebuild, "it is missing; a start rebuilds it");
                }
            }
        }
        let path = segment.path(log::TRANSACTION_INDEX);
        let next = segment.next_base.unwrap_or(Offset(i64::MAX));
        match aborted::decode(&self.aborted, segment.base, next) {
            Err(error) => verifying.damage(&path, error),
            Ok(entries) => {
                let told: Vec<Offset> = entries.iter().map(|entry| entry.last).collect();
                let missing = aborts.iter().find(|offset| !told.contains(offset));
                if let Some(entry) = told.iter().find(|offset| !aborts.contains(offset)).filter(|_| !segment.compacted)
                {
                    verifying.damage_if_clean(&path, Repair::Rebuild, format!("no transaction was aborted at {entry}"));
                } else if let Some(offset) = missing.filter(|_| !segment.compacted) {
                    // Nothing of an empty transaction has to be left out.
                    verifying.note(
                        &path,
                        None,
                        format!("the marker at {offset} is not in it: its transaction has no records here"),
                    );
                }
            }
        }
    }
}

/// `topic-partition`.
fn partition_of(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once('-')?;
    let number: i32 = number.parse().ok()?;
    (!topic.is_empty() && number >= 0).then_some((topic, number))
}
