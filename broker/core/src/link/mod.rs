//! What the nodes of a cluster say to each other, octet by octet. Sockets and secrets are the broker's.
//!
//! A node has three connections to each other node, one per [`Lane`], so that a body of 100 MB delays no heartbeat.
//! Each begins with a [greeting](greet); after it [frames](frame) go from who dialed to who accepted, and calls are
//! answered on the connection that they came by.

pub mod assemble;
pub mod frame;
pub mod greet;

use serde::{Deserialize, Serialize};

/// A connection of a pair of nodes, by what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Lane {
    /// Consensus, heartbeats, changes of metadata: small and urgent.
    Control,
    /// Messages: forwarded, replicated, acknowledged.
    Data,
    /// What may take its time: snapshots, messages that a mirror lacks.
    Bulk,
}

impl Lane {
    /// All of them, in the order of [`Lane::index`].
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Data, Lane::Bulk];

    /// Its place among the lanes.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Bulk => "bulk",
        }
    }
}

/// Whom a frame or call is for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Consensus.
    Raft = 1,
    /// Changes of metadata, for the node that leads.
    Propose = 2,
    /// Heartbeats.
    Beat = 3,
    /// Joining, leaving, status. The only calls that are answered to a node that is no member.
    Member = 4,
    /// Clients' work on queues that another node leads.
    Forward = 5,
    /// Records of mirrored queues.
    Replicate = 6,
    /// Records that a mirror lacks.
    Fill = 7,
    /// What the HTTP API asks other nodes.
    Management = 8,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 8] = [
        Kind::Raft,
        Kind::Propose,
        Kind::Beat,
        Kind::Member,
        Kind::Forward,
        Kind::Replicate,
        Kind::Fill,
        Kind::Management,
    ];

    /// Its place among the kinds, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// What an octet of a frame stands for. `None` for what a later version may have.
    #[must_use]
    pub fn from_octet(octet: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(octet).checked_sub(1)?).copied()
    }
}
