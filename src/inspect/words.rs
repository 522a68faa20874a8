//! What a file of a data directory says, in words: a line for each batch, record, entry.
//!
//! Batches and records are told in the words of Kafka's own `kafka-dump-log`, so that the two can be
//! compared; what coordinators and the controller keep for themselves is told as fields with names. A file that
//! is damaged is told up to there, and what is wrong is a line that begins with `! `.

use std::fmt::{self, Debug, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::batches::{self, Found};
use super::{InspectError, list, read};
use crate::base::{LeaderEpoch, Offset};
use crate::log::journal::{self, JournalSource, Replay};
use crate::log::{self, SegmentFile, aborted};
use crate::metadata::offline;
use crate::metadata::properties;
use crate::metadata::records::MetadataRecord;
use crate::partition::{LeaderEpochs, Producers, RecoveryPoints};
use crate::record::stored::control::{
    EndTxnMarker, KRaftVersionRecord, LeaderChangeMessage, SnapshotFooterRecord, SnapshotHeaderRecord, VotersRecord,
};
use crate::record::stored::{DecodeError, Reader, Stored, group, share, transaction};
use crate::record::{BatchView, Codec, ControlType, Record, Scratch, TimestampType};

/// What to tell besides batches and entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// Each record, too.
    pub records: bool,
    /// Records' keys and values as text.
    pub values: bool,
    /// Records of groups, transactions, share groups and metadata in words, wherever they lie.
    pub words: bool,
}

/// Which coordinator wrote the records of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaker {
    Clients,
    Groups,
    Transactions,
    Shares,
    Metadata,
}

impl Speaker {
    /// By the name of the directory.
    fn of(dir: &Path) -> Speaker {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match name.rsplit_once('-').map(|(topic, _)| topic) {
            Some("__consumer_offsets") => Speaker::Groups,
            Some("__transaction_state") => Speaker::Transactions,
            Some("__share_group_state") => Speaker::Shares,
            Some("__cluster_metadata") => Speaker::Metadata,
            _ => Speaker::Clients,
        }
    }
}

/// Where lines go.
pub type Lines<'a> = &'a mut dyn FnMut(&str) -> Result<(), std::io::Error>;

/// Why nothing more is told.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The lines could not be written.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

/// Tells a file, or all files of a directory and below it.
///
/// # Errors
/// Something cannot be read, or the lines cannot be written.
pub fn tell(path: &Path, detail: Detail, lines: Lines) -> Result<(), WordsError> {
    if path.is_dir() {
        for (name, _) in list(path)? {
            let inner = path.join(&name);
            if inner.is_dir() || kind_of(&inner).is_some() {
                tell(&inner, detail, lines)?;
            }
        }
        return Ok(());
    }
    lines(&format!("# {}", path.display()))?;
    match kind_of(path) {
        Some(kind) => tell_file(path, kind, detail, lines),
        None => {
            lines("! this is no file of a data directory")?;
            Ok(())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Log { base: Offset },
    Snapshot,
    OffsetIndex { base: Offset },
    TimeIndex { base: Offset },
    TransactionIndex { base: Offset },
    Producers,
    Epochs,
    Offsets,
    Journal { core: u16 },
    Text,
}

fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    if let Some(SegmentFile { base, kind, .. }) = log::parse_file_name(&name) {
        return Some(match kind {
            log::LOG => Kind::Log { base },
            log::OFFSET_INDEX => Kind::OffsetIndex { base },
            log::TIME_INDEX => Kind::TimeIndex { base },
            log::TRANSACTION_INDEX => Kind::TransactionIndex { base },
            log::GIVEN_UP => Kind::Text,
            _ => Kind::Producers,
        });
    }
    if offline::snapshot_of(&name).is_some() || name == properties::BOOTSTRAP_FILE {
        return Some(Kind::Snapshot);
    }
    if let Some(core) = Replay::core_of(&name) {
        return Some(Kind::Journal { core });
    }
    match name.as_str() {
        "leader-epoch-checkpoint" => Some(Kind::Epochs),
        "recovery-point-offset-checkpoint"
        | "replication-offset-checkpoint"
        | "log-start-offset-checkpoint"
        | "cleaner-offset-checkpoint" => Some(Kind::Offsets),
        "partition.metadata" | "meta.properties" | "quorum-state" | ".kafka_cleanshutdown" | "corelog-epoch" => {
            Some(Kind::Text)
        }
        _ => None,
    }
}

fn tell_file(path: &Path, kind: Kind, detail: Detail, lines: Lines) -> Result<(), WordsError> {
    let bytes = || read(path).map(Option::unwrap_or_default);
    match kind {
        Kind::Log { base } => {
            lines(&format!("Log starting offset: {base}"))?;
            let speaker = Speaker::of(path.parent().unwrap_or(Path::new("")));
            tell_batches(path, speaker, detail, lines)
        }
        Kind::Snapshot => tell_batches(path, Speaker::Metadata, detail, lines),
        Kind::OffsetIndex { base } => entries(&bytes()?, 8, lines, |entry, _| {
            let (relative, position) = (number::<4>(entry, 0), number::<4>(entry, 4));
            (relative != 0 || position != 0).then(|| format!("offset: {} position: {position}", base.0 + relative))
        }),
        Kind::TimeIndex { base } => entries(&bytes()?, 12, lines, |entry, at| {
            let (timestamp, relative) = (number::<8>(entry, 0), number::<4>(entry, 8));
            let told = timestamp != 0 || relative != 0 || at == 0;
            told.then(|| format!("timestamp: {timestamp} offset: {}", base.0 + relative))
        }),
        Kind::TransactionIndex { base } => {
            match aborted::decode(&bytes()?, base, Offset(i64::MAX)) {
                Ok(entries) => {
                    for entry in entries {
                        lines(&format!(
                            "version: 0 producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
                            entry.producer_id, entry.first, entry.last, entry.last_stable
                        ))?;
                    }
                }
                Err(error) => lines(&format!("! {error}"))?,
            }
            Ok(())
        }
        Kind::Producers => {
            match Producers::decode(&bytes()?) {
                Ok(producers) => {
                    let mut all: Vec<_> = producers.iter().collect();
                    all.sort_by_key(|(id, _)| *id);
                    for (id, producer) in all {
                        let batch = producer.batches().last().map_or(String::new(), |batch| {
                            format!(
                                " firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                                batch.first_sequence(),
                                batch.last_sequence,
                                batch.last_offset,
                                batch.offset_delta,
                                batch.timestamp
                            )
                        });
                        lines(&format!(
                            "producerId: {id} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {} lastTimestamp: {}{batch}",
                            producer.epoch(),
                            producer.coordinator_epoch(),
                            producer
                                .transaction_start()
                                .map_or("OptionalLong.empty".to_string(), |at| format!("OptionalLong[{at}]")),
                            producer.last_timestamp(),
                        ))?;
                    }
                }
                Err(error) => lines(&format!("! {error}"))?,
            }
            Ok(())
        }
        Kind::Epochs => match LeaderEpochs::decode(&bytes()?) {
            Ok(_) => tell_text(&bytes()?, 2, "epoch, start offset: ", lines),
            Err(error) => Ok(lines(&format!("! {error}"))?),
        },
        // Kafka leaves one empty when it has nothing to say.
        Kind::Offsets if bytes()?.is_empty() => Ok(()),
        Kind::Offsets => match RecoveryPoints::decode(&bytes()?) {
            Ok(_) => tell_text(&bytes()?, 2, "topic, partition, offset: ", lines),
            Err(error) => Ok(lines(&format!("! {error}"))?),
        },
        Kind::Journal { core } => tell_journal(path, core, lines),
        Kind::Text => tell_text(&bytes()?, 0, "", lines),
    }
}

/// The lines of a text, without some at its head.
fn tell_text(bytes: &[u8], head: usize, before: &str, lines: Lines) -> Result<(), WordsError> {
    for line in String::from_utf8_lossy(bytes).lines().skip(head) {
        lines(&format!("{before}{}", line.escape_debug()))?;
    }
    Ok(())
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> i64 {
    bytes[at..at + N].iter().enumerate().fold(0i64, |sum, (i, byte)| match i {
        0 => i64::from(*byte as i8),
        _ => sum << 8 | i64::from(*byte),
    })
}

/// Entries of one size up to the first that is not told: Kafka allocates index files ahead.
fn entries(
    bytes: &[u8],
    size: usize,
    lines: Lines,
    mut one: impl FnMut(&[u8], usize) -> Option<String>,
) -> Result<(), WordsError> {
    for (at, entry) in bytes.chunks_exact(size).enumerate() {
        match one(entry, at) {
            Some(line) => lines(&line)?,
            // The first entry of an index may be zeroes.
            None if at == 0 && bytes.len() == size => {}
            None => break,
        }
    }
    if !bytes.len().is_multiple_of(size) {
        lines(&format!("! {} bytes are not a whole number of entries of {size} bytes", bytes.len()))?;
    }
    Ok(())
}

fn tell_batches(path: &Path, speaker: Speaker, detail: Detail, lines: Lines) -> Result<(), WordsError> {
    let mut scratch = Scratch::new();
    let mut failed = None;
    let walked = batches::walk(path, |found| {
        let told = tell_batch(&found, speaker, detail, &mut scratch, lines);
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    let walked = walked.map_err(InspectError::new("read", path))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    match walked.fault {
        Some(batches::Fault::Zeroes) => {
            lines(&format!("{} bytes of zeroes are allocated behind the batches", walked.len - walked.end))?;
        }
        Some(fault) => {
            lines(&format!("! at position {}: {fault}; {} bytes follow", walked.end, walked.len - walked.end))?
        }
        None => {}
    }
    Ok(())
}

fn codec_name(codec: Option<Codec>) -> &'static str {
    match codec {
        Some(Codec::None) => "none",
        Some(Codec::Gzip) => "gzip",
        Some(Codec::Snappy) => "snappy",
        Some(Codec::Lz4) => "lz4",
        Some(Codec::Zstd) => "zstd",
        None => "unknown",
    }
}

fn time_name(batch: &BatchView<'_>) -> &'static str {
    match batch.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn tell_batch(
    found: &Found<'_>,
    speaker: Speaker,
    detail: Detail,
    scratch: &mut Scratch,
    lines: Lines,
) -> Result<(), std::io::Error> {
    let batch = &found.batch;
    let horizon = match batch.has_delete_horizon() {
        true => format!("OptionalLong[{}]", batch.base_timestamp()),
        false => "OptionalLong.empty".to_string(),
    };
    lines(&format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {} {}: {} size: {} \
         magic: {} compresscodec: {} crc: {} isvalid: {}",
        batch.base_offset(),
        batch.last_offset(),
        batch.record_count(),
        batch.base_sequence(),
        batch.last_sequence(),
        batch.producer_id(),
        batch.producer_epoch(),
        batch.leader_epoch().0,
        batch.is_transactional(),
        batch.is_control(),
        found.position,
        time_name(batch),
        batch.max_timestamp(),
        batch.size(),
        batch.magic(),
        codec_name(batch.codec()),
        batch.crc(),
        found.crc_is_right,
    ))?;
    // What a wrong checksum covers says nothing.
    if !found.crc_is_right || !(detail.records || detail.words) {
        return Ok(());
    }
    let mut records = match batch.records(scratch) {
        Ok(records) => records,
        Err(error) => return lines(&format!("! {error}")),
    };
    loop {
        match records.next() {
            Ok(Some(record)) => lines(&record_line(batch, &record, speaker, detail))?,
            Ok(None) => return Ok(()),
            Err(error) => return lines(&format!("! {error}")),
        }
    }
}

fn record_line(batch: &BatchView<'_>, record: &Record<'_>, speaker: Speaker, detail: Detail) -> String {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let sequence = match batch.base_sequence() {
        -1 => -1,
        base => crate::record::advance_sequence(base, record.offset_delta),
    };
    let headers: Vec<String> = record.headers().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    let mut line = format!(
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
        record.offset,
        time_name(batch),
        record.timestamp,
        size(record.key),
        size(record.value),
        headers.join(",")
    );
    let words = match (batch.is_control(), speaker) {
        (true, _) => Some(control_words(record)),
        (false, _) if !detail.words => None,
        (false, Speaker::Clients) => None,
        (false, Speaker::Metadata) => Some(metadata_words(record)),
        (false, Speaker::Groups) => {
            Some(keyed(record, group::Key::decode, |key, value| group::Value::decode(key.kind(), value)))
        }
        (false, Speaker::Transactions) => {
            Some(keyed(record, transaction::Key::decode, |key, value| transaction::Value::decode(key.kind(), value)))
        }
        (false, Speaker::Shares) => {
            Some(keyed(record, share::Key::decode, |key, value| share::Value::decode(key.kind(), value)))
        }
    };
    if let Some(words) = words {
        let _ = write!(line, " {words}");
    } else if detail.values {
        for (name, bytes) in [("key", record.key), ("payload", record.value)] {
            if let Some(bytes) = bytes {
                let _ = write!(line, " {name}: {}", shown(bytes));
            }
        }
    }
    line
}

/// Text that is safe on a terminal.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().flat_map(char::escape_debug).collect::<String>().replace("\\\"", "\"")
}

fn control_words(record: &Record<'_>) -> String {
    let kind = record.key.and_then(ControlType::from_key);
    let value = record.value.unwrap_or_default();
    let version = value.get(..2).map_or(0, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]));
    fn body<T: Stored + Debug>(name: &str, value: &[u8], version: i16) -> String {
        match T::decode_from(&mut Reader::new(value), version) {
            Ok(message) => format!("{name} {}", fields(&message)),
            Err(error) => format!("{name} ! {error}"),
        }
    }
    match kind {
        Some(kind @ (ControlType::Commit | ControlType::Abort)) => match EndTxnMarker::decode(value) {
            Ok(marker) => {
                let name = if kind == ControlType::Commit { "COMMIT" } else { "ABORT" };
                format!("endTxnMarker: {name} coordinatorEpoch: {}", marker.coordinator_epoch)
            }
            Err(error) => format!("endTxnMarker ! {error}"),
        },
        Some(ControlType::LeaderChange) => body::<LeaderChangeMessage>("LeaderChange", value, version),
        Some(ControlType::SnapshotHeader) => body::<SnapshotHeaderRecord>("SnapshotHeader", value, version),
        Some(ControlType::SnapshotFooter) => body::<SnapshotFooterRecord>("SnapshotFooter", value, version),
        Some(ControlType::KraftVersion) => body::<KRaftVersionRecord>("KRaftVersion", value, version),
        Some(ControlType::KraftVoters) => body::<VotersRecord>("KRaftVoters", value, version),
        None => format!("controlType: UNKNOWN {}", shown(record.key.unwrap_or_default())),
    }
}

fn metadata_words(record: &Record<'_>) -> String {
    match MetadataRecord::decode(record.value.unwrap_or_default()) {
        Ok((decoded, version)) => format!("payload: {} version {version} {}", decoded.name(), fields(&decoded)),
        Err(error) => format!("payload ! {error}"),
    }
}

/// A record whose key says what its value is.
fn keyed<K: Debug, V: Debug>(
    record: &Record<'_>,
    key: impl FnOnce(&[u8]) -> Result<K, DecodeError>,
    value: impl FnOnce(&K, &[u8]) -> Result<V, DecodeError>,
) -> String {
    let decoded = match key(record.key.unwrap_or_default()) {
        Ok(decoded) => decoded,
        Err(error) => return format!("key ! {error}"),
    };
    let told = match record.value.map(|bytes| value(&decoded, bytes)) {
        None => "null".to_string(),
        Some(Ok(value)) => fields(&value),
        Some(Err(error)) => format!("! {error}"),
    };
    format!("key: {} payload: {told}", fields(&decoded))
}

/// The fields of a record by their names, without the list of tags that nobody knows, which is mostly empty, and
/// without the type's name repeated by the enum around it.
fn fields(record: &dyn Debug) -> String {
    let mut text = Shortened(String::new());
    let _ = write!(text, "{record:?}");
    text.0.replace(", unknown_tags: Tags([])", "").replace("unknown_tags: Tags([])", "")
}

/// Text with a bound, so that a record of megabytes is no line of tens of megabytes.
struct Shortened(String);

const WORDS_BYTES_MAX: usize = 64 << 10;

impl fmt::Write for Shortened {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > WORDS_BYTES_MAX {
            self.0.push('…');
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

/// A journal file as it lies there; who writes it may be at work, which the command has excluded.
struct JournalFile {
    file: std::fs::File,
    len: u64,
}

impl JournalSource for JournalFile {
    fn length(&self) -> u64 {
        self.len
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, position)
    }
}

/// What a journal has that may not be in segments yet.
///
/// # Errors
/// It cannot be read.
pub fn journal_contents(path: &Path, core: u16) -> Result<journal::JournalContents, InspectError> {
    let file = std::fs::File::open(path).map_err(InspectError::new("open", path))?;
    let len = file.metadata().map_err(InspectError::new("read", path))?.len();
    journal::read(&JournalFile { file, len }, core).map_err(InspectError::new("read", path))
}

fn tell_journal(path: &Path, core: u16, lines: Lines) -> Result<(), WordsError> {
    let contents = journal_contents(path, core)?;
    let mut logs: Vec<_> = contents.entries.iter().collect();
    logs.sort_by_key(|(log, _)| **log);
    for ((topic, partition), entries) in logs {
        for entry in entries {
            lines(&format!("topicId: {topic} partition: {partition} offsets: {} to {}", entry.base, entry.end))?;
        }
    }
    if let Some(damage) = contents.damage {
        lines(&format!("! {damage}"))?;
    }
    Ok(())
}

/// The end of a snapshot by its name, for those who check it.
pub fn snapshot_name(path: &Path) -> Option<(Offset, LeaderEpoch)> {
    offline::snapshot_of(&path.file_name()?.to_string_lossy())
}
