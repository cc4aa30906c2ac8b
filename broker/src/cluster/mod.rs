//! What keeps the metadata of all nodes in step: a replicated log of commands.
//!
//! ```text
//! write(command) ──► raft ──► writer: journal, fsync ──► raft ──► Machine::apply ──► write returns
//!                    tasks     thread, many at once       on every node, in one order
//! ```
//!
//! A node alone is a cluster with one voter: its own fsync is the majority. Consensus runs on a thread of its
//! own, so that clients that keep the node busy delay no election.

pub(crate) mod alone;
#[allow(dead_code, reason = "what of it nobody uses yet")]
pub(crate) mod link;
pub(crate) mod operator;
mod raft;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use raft::{Consensus, LIBRARY, first_head};

/// The number of the node that founds a cluster; the others get the place in the log of the entry that
/// adds them.
pub(crate) const FIRST_NODE: u64 = 1;

/// Journal entries after which a snapshot replaces them.
const ENTRIES_PER_SNAPSHOT: usize = 20_000;
/// Octets of commands after which a snapshot replaces them.
const BYTES_PER_SNAPSHOT: usize = 32 << 20;

/// The state that the log's commands change.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Carries out a command that a majority has on disk. Must be quick.
    ///
    /// # Errors
    /// The command makes no sense; the node cannot go on.
    fn apply(&self, command: &[u8]) -> Result<(), String>;

    /// The state after the commands so far.
    fn snapshot(&self) -> Vec<u8>;

    /// Whether the node stops: then nothing that takes its time is waited for.
    fn is_closing(&self) -> bool;

    /// The log failed: nothing can be written any more. May be called more than once.
    fn on_failure(&self, error: &str);
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
