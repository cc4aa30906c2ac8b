//! Reads the metadata journal of format version 1, which knew no consensus: the state is carried over as the
//! first snapshot of the replicated log.

use crate::cluster;
use broker_core::meta::MetaSm;
use broker_core::meta::log;
use broker_core::meta::snapshot::SnapshotError;
use broker_store::disk::Disk;
use broker_store::journal::{Journal, JournalItem, JournalOpenError, JournalOptions};
use broker_store::raft_log::{RaftLog, RaftLogOpenError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Why the old journal could not be carried over. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// It cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalOpenError),
    /// Its snapshot is not one.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// An entry of it is not one.
    #[error("metadata journal entry {index} is damaged: {reason}")]
    Entry {
        /// Its number in the journal.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The new log cannot be written.
    #[error(transparent)]
    Log(#[from] RaftLogOpenError),
    /// Its beginning cannot be put into octets.
    #[error("failed to begin the replicated log: {0}")]
    Head(#[source] io::Error),
}

/// Writes what the journal in `from` says as the beginning of a replicated log in `to`, which must be empty.
pub(crate) fn carry_over(
    disk: &Arc<dyn Disk>,
    from: &Path,
    to: &Path,
    options: JournalOptions,
    node_name: &str,
) -> Result<(), UpgradeError> {
    let sm = read(Arc::clone(disk), from, options)?;
    let head = cluster::first_head(cluster::FIRST_NODE, node_name).map_err(UpgradeError::Head)?;
    let options = JournalOptions { expect_existing: false, ..options };
    RaftLog::begin_with(Arc::clone(disk), to, options, &head, &sm.snapshot(false))?;
    tracing::info!(queues = sm.queues().count(), "metadata carried over to the replicated log");
    Ok(())
}

fn read(disk: Arc<dyn Disk>, dir: &Path, options: JournalOptions) -> Result<MetaSm, UpgradeError> {
    let mut sm = MetaSm::new();
    let mut wrong = None;
    Journal::open(disk, dir, options, |item| {
        let result = match item {
            JournalItem::Snapshot { content, .. } => sm.restore(content).map_err(UpgradeError::from),
            JournalItem::Entry { index, content } => log::decode_journal_entry(content)
                .map(|logged| {
                    logged.changes.iter().for_each(|change| sm.commit(change));
                    sm.note_applied(logged.index);
                })
                .map_err(|error| UpgradeError::Entry { index, reason: error.to_string() }),
        };
        if let (Err(error), None) = (result, &wrong) {
            wrong = Some(error);
        }
    })?;
    wrong.map_or(Ok(sm), Err)
}
