//! Identities that cross module borders. Each is a type of its own so that they cannot be mixed up.

use std::fmt;

/// A queue, for its whole life: the index of the metadata command that created it.
///
/// It is never reused and never derived from the queue's name, so that deleting and redeclaring a
/// queue cannot bring old messages back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct QueueId(pub u64);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A client connection of this process; numbers start at 1 and are not reused while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ConnectionId(pub u64);

/// A vhost: the index of the metadata command that created it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct VhostId(pub u64);

/// A node of a cluster: 1 for the one that founded it, for every other the place in the replicated log of the
/// entry that added it. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
