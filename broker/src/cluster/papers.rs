//! What a node keeps on disk about its cluster, beside the replicated log: `cluster.toml` in its data directory.
//!
//! A node that never was in a cluster has none.

use super::FIRST_NODE;
use broker_core::ids::NodeId;
use broker_core::meta::{Member, Role};
use broker_store::disk::{RealDisk, write_atomically};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "cluster.toml";
const FORMAT: u32 = 1;

/// A node's place in its cluster, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Papers {
    format: u32,
    /// The node's number.
    pub(crate) node: u64,
    /// The cluster's identity, 32 hex digits.
    cluster: String,
    /// Counts how often a survivor began the cluster anew without the others.
    pub(crate) generation: u64,
    /// Counts the starts of this node in the cluster.
    pub(crate) incarnation: u64,
    /// The node votes and holds no queues.
    #[serde(default)]
    pub(crate) witness: bool,
    /// The others, as far as they were known last.
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its number.
    pub(crate) node: u64,
    /// Its name.
    pub(crate) name: String,
    /// Where it is reached.
    pub(crate) addresses: Vec<String>,
    /// It votes and holds no queues.
    #[serde(default)]
    pub(crate) witness: bool,
}

impl From<&Member> for Peer {
    fn from(member: &Member) -> Peer {
        Peer {
            node: member.id.0,
            name: member.name.to_string(),
            addresses: member.addresses.clone(),
            witness: member.role == Role::Witness,
        }
    }
}

/// A file that says where the node belongs can not be used, or what it asks for not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The disk.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// What is in it.
    #[error("{path}: {problem}; nothing was changed")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Papers {
    /// Those of a node that joins.
    pub(crate) fn new(
        node: NodeId,
        cluster: u128,
        generation: u64,
        witness: bool,
        peers: Vec<Peer>,
    ) -> Papers {
        let cluster = format!("{cluster:032x}");
        Papers { format: FORMAT, node: node.0, cluster, generation, incarnation: 0, witness, peers }
    }

    /// Those of a node that founds a cluster, whose identity is that of its data.
    pub(crate) fn founder(storage_uuid: [u8; 16]) -> Papers {
        Papers::new(FIRST_NODE, u128::from_be_bytes(storage_uuid), 1, false, Vec::new())
    }

    /// The cluster's identity.
    pub(crate) fn cluster(&self) -> u128 {
        // It was checked when the file was read.
        u128::from_str_radix(&self.cluster, 16).unwrap_or_default()
    }

    /// Reads those in a data directory, if there are any.
    pub(crate) fn load(data: &Path) -> Result<Option<Papers>, FileError> {
        let path = data.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FileError::Io { doing: "read", path, source }),
        };
        let wrong = |problem: String| FileError::Content { path: path.clone(), problem };
        let papers: Papers = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if papers.format != FORMAT {
            return Err(wrong(format!("format {} is unknown to this version", papers.format)));
        }
        if papers.cluster.len() != 32 || u128::from_str_radix(&papers.cluster, 16).is_err() {
            return Err(wrong(format!("`{}` is not 32 hex digits", papers.cluster)));
        }
        Ok(Some(papers))
    }

    /// Writes them, whole or not at all, durably.
    pub(crate) fn save(&self, data: &Path) -> Result<(), FileError> {
        let path = data.join(FILE);
        let text = toml::to_string(self)
            .map_err(|error| FileError::Content { path: path.clone(), problem: error.to_string() })?;
        let text = format!("# Written by the broker. Do not edit.\n{text}");
        write_atomically(&RealDisk, data, FILE, text.as_bytes()).map_err(|source| FileError::Io {
            doing: "write",
            path,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn papers_come_back_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Papers::load(dir.path()).unwrap(), None);
        let peer = Peer {
            node: 1,
            name: "rabbit@A".to_owned(),
            addresses: vec!["A:25672".to_owned()],
            witness: false,
        };
        let papers = Papers::new(NodeId(9), 77, 3, true, vec![peer]);
        papers.save(dir.path()).unwrap();
        assert_eq!(Papers::load(dir.path()).unwrap(), Some(papers.clone()));
        assert_eq!(papers.cluster(), 77);
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        for (from, to) in [("format = 1", "format = 2"), ("node = 9", "node = x"), ("0004d", "zzzzz")] {
            assert!(text.contains(from), "{text}");
            std::fs::write(dir.path().join(FILE), text.replacen(from, to, 1)).unwrap();
            Papers::load(dir.path()).unwrap_err();
        }
    }
}
