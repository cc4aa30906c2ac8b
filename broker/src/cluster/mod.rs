//! What keeps the metadata of all nodes in step: a replicated log of commands.
//!
//! ```text
//! write(command) ──► raft ──► writer: journal, fsync ──► raft ──► Machine::apply ──► write returns
//!                    tasks     thread, many at once       on every node, in one order
//! ```
//!
//! A node alone is a cluster with one voter: its own fsync is the majority. Consensus runs on a thread of its
//! own, so that clients that keep the node busy delay no election.

mod asks;
mod beats;
pub(crate) mod life;
pub(crate) mod link;
pub(crate) mod moves;
pub(crate) mod operator;
pub(crate) mod papers;
mod raft;
pub(crate) mod reach;
mod rpc;
pub(crate) mod running;
mod steward;
pub(crate) mod stopped;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod writer;

pub(crate) use raft::{Consensus, Council, LIBRARY, first_head, head_of_one};
pub(crate) use view::{ClusterView, Home};

use broker_core::ids::{NodeId, QueueId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The number of the node that founds a cluster; the others get the place in the log of the entry that
/// adds them.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);

/// Journal entries after which a snapshot replaces them.
const ENTRIES_PER_SNAPSHOT: usize = 20_000;
/// Octets of commands after which a snapshot replaces them.
const BYTES_PER_SNAPSHOT: usize = 32 << 20;

/// Other nodes greet this one as if it had queues; a witness listens to that and does nothing.
struct Deaf;

impl link::Handler for Deaf {}

/// Nothing that concerns messages is for this node.
pub(crate) fn ignore_messages(links: &link::Links) {
    use link::Kind;
    for kind in [Kind::Forward, Kind::Replicate, Kind::Fill, Kind::Management] {
        links.handle(kind, Arc::new(Deaf));
    }
}

/// Entries that a snapshot includes and that are kept all the same, for nodes that were away for a moment.
const ENTRIES_BEHIND_SNAPSHOT: usize = 5_000;
/// Octets of them.
const BYTES_BEHIND_SNAPSHOT: usize = 8 << 20;

/// The state that the log's commands change.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Carries out a command that a majority has on disk. Must be quick. `index` is its place in the log.
    ///
    /// # Errors
    /// The command makes no sense; the node cannot go on.
    fn apply(&self, index: u64, command: &[u8]) -> Result<(), String>;

    /// The state after the commands so far.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes over the state that another node had after the entry at `index`.
    ///
    /// # Errors
    /// It is not one; the node cannot go on.
    fn restore(&self, index: u64, state: &[u8]) -> Result<(), String>;

    /// Whether the node stops: then nothing that takes its time is waited for.
    fn is_closing(&self) -> bool;

    /// The log failed: nothing can be written any more. May be called more than once.
    fn on_failure(&self, error: &str);
}

/// What one node asks of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Consensus: votes, entries, heartbeats.
    Consensus,
    /// The same with much in it, which must not hold the rest up: snapshots.
    Snapshot,
    /// Commands for the metadata, of the leader.
    Propose,
}

/// The way to other nodes, as consensus and metadata use it.
pub(crate) trait Network: Send + Sync + 'static {
    /// Asks another node.
    fn call(
        &self,
        to: NodeId,
        service: Service,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// The queues that a node leads, for whoever gives them to other nodes.
pub(crate) trait HandOver: Send + Sync + 'static {
    /// Takes nothing more for these queues: what comes waits for their next leader. Returns when what they took is
    /// safe, or has been waited for.
    fn hold_back(&self, queues: Vec<QueueId>) -> BoxFuture<'static, ()>;

    /// Leads again those that no other node leads.
    fn go_on(&self, queues: &[QueueId]);
}

/// A node's place in its cluster.
#[derive(Clone)]
pub(crate) struct Seat {
    /// Its number.
    pub(crate) me: NodeId,
    /// Its name, such as `rabbit@A`.
    pub(crate) name: String,
    /// It came to a cluster that another node founded.
    pub(crate) joined: bool,
    /// Counts the starts of this node in its cluster; 0 until it has one.
    pub(crate) incarnation: u64,
    /// The way to the others; `None` for a node that listens to nobody.
    pub(crate) network: Option<Arc<dyn Network>>,
}

impl Seat {
    /// The place of a node on its own.
    pub(crate) fn alone(name: &str) -> Seat {
        Seat { me: FIRST_NODE, name: name.to_owned(), joined: false, incarnation: 0, network: None }
    }
}

/// Who leads, as one node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The leader, if there is one.
    pub(crate) leader: Option<NodeId>,
    /// In which term.
    pub(crate) term: u64,
    /// It is this node.
    pub(crate) leads: bool,
    /// How many nodes consensus knows.
    pub(crate) nodes: usize,
    /// This node has a vote.
    pub(crate) votes: bool,
    /// How many have one.
    pub(crate) voters: usize,
    /// Consensus has ended here.
    pub(crate) ended: bool,
}

/// Why consensus could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The thread that writes could not be started.
    #[error("failed to start the thread of the replicated log: {0}")]
    Thread(#[from] std::io::Error),
    /// The library refused.
    #[error("failed to start consensus: {0}")]
    Raft(String),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// This node does not lead any more. Whether the command is carried out nobody knows yet.
    #[error("another node leads: {0}")]
    LostLead(String),
    /// The log failed; nothing can be written any more.
    #[error("{0}")]
    Failed(String),
}
