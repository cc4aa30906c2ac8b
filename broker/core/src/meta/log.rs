//! What the replicated log of metadata holds: commands, which are rounds of changes, and the cluster's members.
//!
//! ```text
//! command:  format  process  number      names the round      { index  changes }...   one for each proposal
//! ```

use super::{Change, LAST_INDEX};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the commands.
const COMMAND_FORMAT: u8 = 1;
/// Version of commands in which something is of clusters; versions that knew none refuse it.
const CLUSTER_FORMAT: u8 = 2;

/// Why octets of the log are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They were cut off, or changed.
    #[error("a command of the log is damaged: {0}")]
    Damaged(String),
    /// They were written by a later version.
    #[error("a command of the log has format {0}, which this version does not know")]
    Format(u8),
    /// Members of the cluster.
    #[error("the members of the cluster are damaged: {0}")]
    Members(String),
}

impl DecodeError {
    fn damaged(error: impl ToString) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Tells a round of proposals from all others, of this process and of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundId {
    format: u8,
    process: u64,
    number: u64,
}

impl RoundId {
    /// The first round of a process; `process` tells it from others.
    #[must_use]
    pub fn first(process: u64) -> Self {
        Self { format: COMMAND_FORMAT, process, number: 1 }
    }

    /// Goes on to the next round.
    pub fn advance(&mut self) {
        self.number += 1;
    }
}

/// The durable changes of one proposal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoggedChanges {
    /// The proposal's number.
    pub index: u64,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A command while it is made.
#[derive(Debug)]
pub struct CommandWriter {
    octets: Vec<u8>,
    head: usize,
}

impl CommandWriter {
    /// Begins the command of a round.
    ///
    /// # Panics
    /// Never: three numbers are encoded into memory.
    #[must_use]
    pub fn new(id: RoundId) -> Self {
        let octets = postcard::to_stdvec(&id).expect("three numbers are encoded into memory");
        Self { head: octets.len(), octets }
    }

    /// Adds a proposal's changes.
    ///
    /// # Errors
    /// Changes that can not be encoded. The command is as before.
    pub fn push(&mut self, logged: &LoggedChanges) -> Result<(), String> {
        let octets = postcard::to_stdvec(logged).map_err(|error| error.to_string())?;
        self.octets.extend_from_slice(&octets);
        if logged.changes.iter().any(Change::needs_format_2) {
            self.octets[0] = CLUSTER_FORMAT;
        }
        Ok(())
    }

    /// Octets so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether no changes were added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.len() == self.head
    }

    /// The command.
    #[must_use]
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

/// A command of the log: its round, and then what each proposal of it changes.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// Its round.
    pub id: RoundId,
    rest: &'a [u8],
}

impl<'a> Command<'a> {
    /// Reads whose command it is; the changes are read one by one.
    ///
    /// # Errors
    /// [`DecodeError::Damaged`] and [`DecodeError::Format`].
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (id, rest): (RoundId, _) = postcard::take_from_bytes(octets).map_err(DecodeError::damaged)?;
        if !matches!(id.format, COMMAND_FORMAT | CLUSTER_FORMAT) {
            return Err(DecodeError::Format(id.format));
        }
        // A round is told from others by its numbers.
        let id = RoundId { format: COMMAND_FORMAT, ..id };
        Ok(Self { id, rest })
    }
}

impl Iterator for Command<'_> {
    type Item = Result<LoggedChanges, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let logged = postcard::take_from_bytes(self.rest).map_err(DecodeError::damaged);
        let logged = logged.and_then(|(logged, rest): (LoggedChanges, _)| {
            self.rest = rest;
            if logged.index > LAST_INDEX {
                return Err(DecodeError::damaged("its number is out of range"));
            }
            Ok(logged)
        });
        if logged.is_err() {
            self.rest = &[];
        }
        Some(logged)
    }
}

/// The changes of an entry of the metadata journal of format version 1, which had one proposal in each.
///
/// # Errors
/// [`DecodeError::Damaged`].
pub fn decode_journal_entry(octets: &[u8]) -> Result<LoggedChanges, DecodeError> {
    postcard::from_bytes(octets).map_err(DecodeError::damaged)
}

/// The cluster's members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The voters; two sets while they change.
    pub voters: Vec<BTreeSet<u64>>,
    /// The names of all nodes.
    pub nodes: BTreeMap<u64, String>,
}

/// Members, and the entry that made them so: term, node, index.
pub type MembersAt = (Option<(u64, u64, u64)>, Members);

impl Members {
    /// As an entry of the log.
    ///
    /// # Errors
    /// Never with what fits into memory; the library can not promise it.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        postcard::to_stdvec(self).map_err(|error| DecodeError::Members(error.to_string()))
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`DecodeError::Members`].
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        postcard::from_bytes(octets).map_err(|error| DecodeError::Members(error.to_string()))
    }
}

/// Members as a snapshot's head has them.
///
/// # Errors
/// As [`Members::encode`].
pub fn encode_members_at(members: &MembersAt) -> Result<Vec<u8>, DecodeError> {
    postcard::to_stdvec(members).map_err(|error| DecodeError::Members(error.to_string()))
}

/// Undoes [`encode_members_at`].
///
/// # Errors
/// [`DecodeError::Members`].
pub fn decode_members_at(octets: &[u8]) -> Result<MembersAt, DecodeError> {
    postcard::from_bytes(octets).map_err(|error| DecodeError::Members(error.to_string()))
}
