//! The broker's durable storage: synchronous, behind a [`disk::Disk`], without tokio.
//!
//! * [`wal`]: one write-ahead log per node with group commit; what it reports as durable survives
//!   `kill -9` and power loss.
//! * [`recovery`]: folds the log's records into what each queue holds.
//! * [`journal`]: a small durable log with snapshots.
//! * [`raft_log`]: the node's vote and its part of the replicated log of metadata, in a journal.
//! * [`segment`]: files for messages that outlive the log.
//! * [`datadir`]: the data directory, its lock, its identity and its format version.
//!
//! Everything that touches a disk goes through [`disk::Disk`], so that the same code runs on the
//! simulated disk that loses, tears and damages writes.

pub mod datadir;
pub mod disk;
pub mod fuzz;
pub mod journal;
mod le;
pub mod raft_log;
pub mod recovery;
pub mod segment;
pub mod wal;

/// A position in the node's log: the number of a record, from 1. 0 is "before the first".
pub type Lsn = u64;
