//! Identities that cross module borders. Each is a type of its own so that they cannot be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A queue, for its whole life: the index of the metadata command that created it.
///
/// It is never reused and never derived from the queue's name, so that deleting and redeclaring a
/// queue cannot bring old messages back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct QueueId(pub u64);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A client connection; numbers start at 1 and are not reused while its node runs.
///
/// ```text
///  63            48 47                              0
/// | slot of the node | number of the connection there |     the slot is 0 on a node alone
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The connection `number` of a node of a cluster.
    pub fn on(node: NodeId, number: u64) -> ConnectionId {
        ConnectionId((u64::from(node.slot()) << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1)))
    }

    /// The [`NodeId::slot`] of its node; 0 when the node was alone.
    pub fn slot(self) -> u16 {
        (self.0 >> NUMBER_BITS) as u16
    }
}

/// How many bits of a [`ConnectionId`] are the number on its node.
const NUMBER_BITS: u32 = 48;

/// A vhost: the index of the metadata command that created it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct VhostId(pub u64);

/// A node of a cluster: 1 for the one that founded it, for every other the place in the replicated log of the
/// entry that added it. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The node that founded the cluster, or is alone.
    pub const FIRST: NodeId = NodeId(1);

    /// The low bits, by which connections name their node; no two members of a cluster have the same.
    pub fn slot(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
