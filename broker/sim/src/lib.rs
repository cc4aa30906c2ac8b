//! Simulated disks and the enumeration of crashes over the broker's store; used by tests only.
//!
//! A workload runs once on a [`disk::SimDisk`], which records every operation. Then, for every
//! prefix of that record and several choices of which unsynced writes had reached the disk (none,
//! all, any subset, torn between sectors), [`crash::Crasher`] builds the disk a power loss would
//! have left, the store recovers from it, and the promises are checked: [`wal_check`] for the
//! write-ahead log, [`journal_check`] for the journal, [`raft_log_check`] for the replicated log in it.
//! [`protocol`] explores the protocol of mirrored queues as a model.
//! [`mutant`] breaks the store's assumptions on purpose, to show that the checks notice.

pub mod cluster;
pub mod crash;
pub mod disk;
pub mod enumeration;
pub mod fuzz;
pub mod journal_check;
pub mod mutant;
pub mod protocol;
pub mod raft_log_check;
pub mod random;
pub mod wal_check;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod queue_model;
#[cfg(test)]
mod whole_files;
