//! What the broker says of all its cores, as it is sent: JSON, whose fields are the
//! structs' fields.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{CoreDir, CoreDirs};
use crate::metrics::{ApiDistributions, SLOWEST, SlowRequest, Stage};
use crate::runtime::Stall;
use crate::runtime::task::Queue;
use crate::wire;

/// `GET /debug/slow`: the slowest requests of the last minutes, the slowest first. What a
/// fetch waited for data does not make it slow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlowReport {
    pub requests: Vec<Slow>,
    /// Cores that did not answer in time: what they know is missing.
    pub silent_cores: Vec<usize>,
}

/// See [`SlowReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slow {
    pub core: usize,
    pub api: String,
    pub version: i16,
    pub client_id: String,
    pub correlation_id: i32,
    pub peer: String,
    pub partitions: usize,
    pub request_bytes: usize,
    pub answer_bytes: usize,
    /// When its answer had been sent, in milliseconds since 1970.
    pub ended_ms: i64,
    pub total_us: u64,
    /// By stage, those that it passed.
    pub stages_us: BTreeMap<String, u64>,
}

/// `GET /debug/stages`: how long requests took since the start, by API and stage, of all
/// cores together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StagesReport {
    pub rows: Vec<StageRow>,
    pub silent_cores: Vec<usize>,
}

/// See [`StagesReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageRow {
    pub api: String,
    /// A stage's name, or `total`.
    pub stage: String,
    /// Requests that passed it.
    pub count: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// `GET /debug/stalls`: tasks that held up their core.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StallsReport {
    /// Since the start, by core.
    pub counts: BTreeMap<usize, u64>,
    /// The latest of each core, the latest first.
    pub stalls: Vec<StallRow>,
    pub silent_cores: Vec<usize>,
}

/// See [`StallsReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StallRow {
    pub core: usize,
    pub task: String,
    pub queue: String,
    pub took_ms: u64,
    /// In milliseconds since 1970.
    pub ended_ms: i64,
}

/// `GET /debug/dirs`: the data directories, in the order of `log.dirs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DirsReport {
    /// So many of them are offline (Kafka's `kafka.log:type=LogManager,name=OfflineLogDirectoryCount`).
    pub offline_directories: usize,
    /// Partitions whose files cannot be used, wherever (`kafka.server:type=ReplicaManager,name=OfflineReplicaCount`).
    pub offline_partitions: u64,
    pub directories: Vec<DirRow>,
    /// Their partitions are missing.
    pub silent_cores: Vec<usize>,
}

/// See [`DirsReport`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirRow {
    pub path: String,
    /// `directory.id`, if it is known.
    pub id: Option<String>,
    /// (`kafka.log:type=LogManager,name=LogDirectoryOffline,logDirectory="…"`)
    pub offline: bool,
    /// Why.
    pub reason: Option<String>,
    /// The metadata log lies there.
    pub has_metadata: bool,
    /// Partitions that can be used, and their batches.
    pub partitions: u64,
    pub bytes: u64,
    /// Partitions whose files cannot be used.
    pub offline_partitions: u64,
    /// Copies of partitions that are on their way here, and the offsets that they lack.
    pub copies: u64,
    pub copies_lag: u64,
}

fn api_name(api_key: i16) -> String {
    wire::served(api_key).map_or_else(|| api_key.to_string(), |api| api.name.to_string())
}

impl SlowReport {
    pub(super) fn of(cores: Vec<(usize, Vec<SlowRequest>)>, silent_cores: Vec<usize>) -> SlowReport {
        let mut all: Vec<(usize, SlowRequest)> =
            cores.into_iter().flat_map(|(core, requests)| requests.into_iter().map(move |r| (core, r))).collect();
        all.sort_by_key(|(_, request)| std::cmp::Reverse(request.timeline.work()));
        all.truncate(SLOWEST);
        let shown = |(core, request): (usize, SlowRequest)| Slow {
            core,
            api: api_name(request.api_key),
            version: request.api_version,
            client_id: request.client_id().to_string(),
            correlation_id: request.correlation_id,
            peer: request.peer.to_string(),
            partitions: request.partitions,
            request_bytes: request.request_bytes,
            answer_bytes: request.answer_bytes,
            ended_ms: request.ended.0,
            total_us: request.timeline.total().as_micros() as u64,
            stages_us: request
                .timeline
                .stages()
                .map(|(stage, took)| (stage.name().to_string(), took.as_micros() as u64))
                .collect(),
        };
        SlowReport { requests: all.into_iter().map(shown).collect(), silent_cores }
    }
}

impl StagesReport {
    pub(super) fn of(cores: Vec<(usize, Vec<ApiDistributions>)>, silent_cores: Vec<usize>) -> StagesReport {
        let mut apis: BTreeMap<i16, ApiDistributions> = BTreeMap::new();
        for of_core in cores.into_iter().flat_map(|(_, apis)| apis) {
            match apis.get_mut(&of_core.api_key) {
                Some(all) => all.add(&of_core),
                None => drop(apis.insert(of_core.api_key, of_core)),
            }
        }
        let mut rows = Vec::new();
        for api in apis.values() {
            let stages = Stage::ALL.iter().zip(&api.stages).map(|(stage, of)| (stage.name(), of.as_ref()));
            for (stage, of) in stages.chain([("total", Some(&api.total))]) {
                rows.extend(of.map(|of| StageRow::of(api_name(api.api_key), stage, of)));
            }
        }
        StagesReport { rows, silent_cores }
    }
}

impl DirsReport {
    pub(super) fn of(cores: Vec<(usize, CoreDirs)>, silent_cores: Vec<usize>) -> DirsReport {
        let mut report = DirsReport { silent_cores, ..DirsReport::default() };
        for (_, of_core) in cores {
            report.offline_partitions += of_core.offline_elsewhere;
            for (at, dir) in of_core.dirs.into_iter().enumerate() {
                if report.directories.len() == at {
                    report.directories.push(DirRow::of(&dir));
                }
                report.directories[at].add(&dir);
            }
        }
        report.offline_directories = report.directories.iter().filter(|dir| dir.offline).count();
        report.offline_partitions += report.directories.iter().map(|dir| dir.offline_partitions).sum::<u64>();
        report
    }
}

impl DirRow {
    /// One without anything in it.
    fn of(dir: &CoreDir) -> DirRow {
        DirRow {
            path: dir.path.clone(),
            id: dir.id.map(|id| id.to_string()),
            offline: false,
            reason: None,
            has_metadata: dir.has_metadata,
            partitions: 0,
            bytes: 0,
            offline_partitions: 0,
            copies: 0,
            copies_lag: 0,
        }
    }

    fn add(&mut self, dir: &CoreDir) {
        // It may have failed between the answers of two cores.
        self.offline |= dir.reason.is_some();
        self.reason = self.reason.take().or_else(|| dir.reason.clone());
        self.partitions += dir.held.online;
        self.bytes += dir.held.bytes;
        self.offline_partitions += dir.held.offline;
        self.copies += dir.held.copies;
        self.copies_lag += dir.held.copies_lag;
    }
}

impl StageRow {
    fn of(api: String, stage: &str, of: &Histogram<u64>) -> StageRow {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(of.value_at_quantile(quantile));
        StageRow {
            api,
            stage: stage.to_string(),
            count: of.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(of.max()),
        }
    }
}

impl StallsReport {
    pub(super) fn of(cores: Vec<(usize, (u64, Vec<Stall>))>, silent_cores: Vec<usize>) -> StallsReport {
        let counts = cores.iter().map(|(core, (count, _))| (*core, *count)).collect();
        let mut all: Vec<Stall> = cores.into_iter().flat_map(|(_, (_, stalls))| stalls).collect();
        all.sort_by_key(|stall| std::cmp::Reverse(stall.ended));
        let shown = |stall: Stall| StallRow {
            core: usize::from(stall.core.0),
            task: stall.task.to_string(),
            queue: match stall.queue {
                Queue::Network => "network",
                Queue::Log => "log",
                Queue::Upkeep => "upkeep",
            }
            .to_string(),
            took_ms: stall.took.as_millis() as u64,
            ended_ms: stall.ended.0,
        };
        StallsReport { counts, stalls: all.into_iter().map(shown).collect(), silent_cores }
    }
}
