//! What the metadata needs from a durable log; and the log on disk.

use super::Recovered;
use broker_store::disk::Disk;
use broker_store::journal::{
    self, JournalError, JournalItem, JournalOpenError, JournalOptions, JournalReport,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a full disk is waited for before the node gives up.
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried again meanwhile.
const FULL_DISK_RETRY: Duration = Duration::from_millis(250);

/// A durable log of small entries with snapshots.
pub(crate) trait Journal: Send {
    /// Appends entries; when it returns, they survive a power loss.
    fn append(&mut self, entries: &[Vec<u8>]) -> io::Result<()>;

    /// Replaces everything so far by a snapshot, durably.
    fn snapshot(&mut self, state: &[u8]) -> io::Result<()>;

    /// Called last.
    fn close(&mut self) {}
}

/// The log on disk.
pub(crate) struct FileJournal {
    journal: Option<journal::Journal>,
}

impl FileJournal {
    /// Opens the journal in `dir` and reads what it has.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(FileJournal, Recovered, JournalReport), JournalOpenError> {
        let mut recovered = Recovered::default();
        let (journal, report) = journal::Journal::open(disk, dir, options, |item| match item {
            JournalItem::Snapshot { content, .. } => recovered.snapshot = Some(content.to_vec()),
            JournalItem::Entry { content, .. } => recovered.entries.push(content.to_vec()),
        })?;
        Ok((FileJournal { journal: Some(journal) }, recovered, report))
    }

    fn journal(&self) -> io::Result<&journal::Journal> {
        self.journal.as_ref().ok_or_else(|| io::Error::other("the journal is closed"))
    }
}

impl Journal for FileJournal {
    fn append(&mut self, entries: &[Vec<u8>]) -> io::Result<()> {
        let journal = self.journal()?;
        for entry in entries {
            journal.append(journal.last_index() + 1, entry).map_err(io::Error::other)?;
        }
        patiently(|| journal.sync().map(drop))
    }

    fn snapshot(&mut self, state: &[u8]) -> io::Result<()> {
        let journal = self.journal()?;
        patiently(|| journal.install_snapshot(journal.last_index(), state))
    }

    fn close(&mut self) {
        if let Some(journal) = self.journal.take()
            && let Err(error) = journal.close()
        {
            tracing::warn!(%error, "metadata journal was not closed cleanly");
        }
    }
}

/// Tries again while the disk is full: what was appended can not be taken back, so the answer to
/// who asked for it has to wait.
fn patiently(mut attempt: impl FnMut() -> Result<(), JournalError>) -> io::Result<()> {
    let deadline = Instant::now() + FULL_DISK_PATIENCE;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(JournalError::Full) if Instant::now() < deadline => {
                tracing::error!("the disk is full; changes of metadata wait");
                std::thread::sleep(FULL_DISK_RETRY);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Keeps nothing.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct MemoryJournal;

#[cfg(test)]
impl Journal for MemoryJournal {
    fn append(&mut self, _entries: &[Vec<u8>]) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&mut self, _state: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
