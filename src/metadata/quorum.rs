//! Who votes in the metadata log's quorum: `quorum-state`, and the control records in which a log
//! of `kraft.version` 1 (KIP-853) keeps its voters itself. This node has to be the only one.
//!
//! With `kraft.version` 0 the voters are those of the configuration, and `quorum-state` names
//! them. Apache Kafka formats like this with `controller.quorum.voters`. With
//! `kraft.version` 1, which `kafka-storage format --standalone` asks for, a `VotersRecord`
//! in the log or a snapshot names them and their directories. What is found is kept.
//!
//! Never does I/O.

use serde::{Deserialize, Serialize};

use super::checkpoint::control_body;
use crate::base::{LeaderEpoch, NodeId, Uuid};
use crate::record::ControlType;
use crate::record::stored::control::{KRaftVersionRecord, VotersRecord};
use crate::record::stored::{DecodeError, Reader, Stored};

/// The highest `kraft.version` that is understood.
const VERSION_MAX: i16 = 1;

/// `quorum-state` (`QuorumStateData.json`), with the names Kafka gives its fields. Which ones it has depends on
/// its version: 0 has the voters, 1 the directory that was voted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuorumState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    pub leader_id: i32,
    pub leader_epoch: i32,
    voted_id: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voted_directory_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied_offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_voters: Option<Vec<Voter>>,
    #[serde(rename = "data_version")]
    data_version: i16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Voter {
    voter_id: i32,
}

impl QuorumState {
    /// What a node writes that leads from `epoch` on.
    pub(super) fn of_leader(node: NodeId, epoch: LeaderEpoch, kraft_version: i16) -> QuorumState {
        let named = kraft_version == 0;
        QuorumState {
            cluster_id: named.then(String::new),
            leader_id: node.0,
            leader_epoch: epoch.0,
            voted_id: -1,
            voted_directory_id: (!named).then(|| Uuid::ZERO.to_string()),
            applied_offset: named.then_some(0),
            current_voters: named.then(|| vec![Voter { voter_id: node.0 }]),
            data_version: kraft_version.min(VERSION_MAX),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text")
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<QuorumState, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Whether a node may go on from this alone.
    ///
    /// # Errors
    /// Why not: others vote too, or the file is of a later release.
    pub fn check(&self, node: NodeId) -> Result<(), String> {
        let voters = self.current_voters.iter().flatten();
        let others: Vec<i32> = voters.map(|voter| voter.voter_id).filter(|id| *id != node.0).collect();
        if !others.is_empty() {
            return Err(format!(
                "the metadata log is of a cluster whose controllers {others:?} vote too; corelog runs as the only one"
            ));
        }
        match self.data_version {
            0..=VERSION_MAX => Ok(()),
            later => Err(format!("quorum-state has version {later}, which this release does not know")),
        }
    }
}

/// What control records say of who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// `kraft.version`; 0 while no record says otherwise.
    pub version: i16,
    pub voters: Option<VotersRecord>,
}

impl Quorum {
    /// Takes a control record of the log, or of a snapshot, into account.
    pub(super) fn note(&mut self, kind: Option<ControlType>, value: &[u8]) -> Result<(), DecodeError> {
        match kind {
            Some(ControlType::KraftVersion) => {
                self.version = KRaftVersionRecord::decode_from(&mut Reader::new(value), 0)?.k_raft_version;
            }
            Some(ControlType::KraftVoters) => {
                self.voters = Some(VotersRecord::decode_from(&mut Reader::new(value), 0)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a node may go on with this log alone.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, node: NodeId, directory: Uuid) -> Result<(), String> {
        if self.version > VERSION_MAX {
            return Err(format!(
                "the metadata log has kraft.version {}, which this release does not know",
                self.version
            ));
        }
        if self.version == 0 {
            return Ok(());
        }
        let voters: Vec<(i32, Uuid)> =
            self.voters.iter().flat_map(|record| &record.voters).map(|v| (v.voter_id, v.voter_directory_id)).collect();
        if voters == [(node.0, directory)] {
            return Ok(());
        }
        let named: Vec<String> = voters.iter().map(|(id, directory)| format!("{id}-{directory}")).collect();
        Err(format!(
            "the voters that the metadata log names are [{}]; corelog runs only as the only one, which would be {}-{directory}",
            named.join(", "),
            node.0
        ))
    }

    /// The records that a snapshot needs behind its header.
    pub(super) fn control_records(&self) -> Vec<(ControlType, Vec<u8>)> {
        let mut records = Vec::new();
        if self.version > 0 {
            let version = KRaftVersionRecord { k_raft_version: self.version, ..Default::default() };
            records.push((ControlType::KraftVersion, control_body(&version, 0)));
        }
        records.extend(self.voters.iter().map(|voters| (ControlType::KraftVoters, control_body(voters, 0))));
        records
    }
}
