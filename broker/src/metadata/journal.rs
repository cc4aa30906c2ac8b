//! What the metadata needs from a durable log, and one that keeps nothing.

use std::io;

/// A durable log of small entries with snapshots.
pub(crate) trait Journal: Send {
    /// Appends entries; when it returns, they survive a power loss.
    fn append(&mut self, entries: &[Vec<u8>]) -> io::Result<()>;

    /// Replaces everything so far by a snapshot, durably.
    fn snapshot(&mut self, state: &[u8]) -> io::Result<()>;
}

/// Keeps nothing: for a node with `--ephemeral`.
#[derive(Debug, Default)]
pub(crate) struct MemoryJournal;

impl Journal for MemoryJournal {
    fn append(&mut self, _entries: &[Vec<u8>]) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _state: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
