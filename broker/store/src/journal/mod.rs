//! A small durable log with snapshots, for a state machine that lives in memory; see
//! [`raft_log`](crate::raft_log).
//!
//! Entries are numbered from 1 without gaps. [`Journal::append`] takes an entry, [`Journal::sync`]
//! makes everything taken so far durable; when several threads ask at once, one of them writes and
//! syncs for all. [`Journal::install_snapshot`] replaces the entries up to an index by one blob.
//!
//! ```text
//! raft/journal-<file_seq>.log   entries behind the snapshot the file's header names
//! raft/snapshot-<index>.bin
//! ```
//!
//! A new journal file is written whole under another name, synced and renamed, so the one with the
//! highest number is always the one that counts. A torn tail and damage are told apart as in the
//! write-ahead log: a right frame behind a bad one says up to where the file had been synced. A frame
//! of kind "mark", written when the journal is opened and closed, says so for the last entries.

mod format;
pub(crate) mod fuzz;
mod open;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use self::format::{FRAME_HEADER_BYTES, Frame, HEADER_BYTES, Kind};
pub use self::open::{JournalItem, JournalOpenError, JournalOptions, JournalReport};
use crate::disk::{self, Disk, DiskFile};

/// The largest entry.
pub const MAX_ENTRY_BYTES: usize = 256 << 20;
/// The file grows ahead of need, filled with zeros, so that most syncs do not change its length: it
/// doubles, by at least and at most this much.
const GROW_LEAST_BYTES: u64 = 4 << 10;
const GROW_MOST_BYTES: u64 = 256 << 10;

/// Why the journal did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// The disk failed. Final: nothing becomes durable any more.
    #[error("failed to {doing}: {error}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        error: String,
    },
    /// The disk is full. What was appended is kept; syncing again later tries again.
    #[error("the disk is full")]
    Full,
    /// Entries are numbered without gaps.
    #[error("entry {got} appended where {expected} is next")]
    OutOfOrder {
        /// The next number.
        expected: u64,
        /// The number given.
        got: u64,
    },
    /// Larger than [`MAX_ENTRY_BYTES`].
    #[error("an entry of {0} bytes is too large")]
    TooLarge(usize),
}

/// The open journal. All methods may be called from several threads; they block on the disk.
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: JournalOptions,
    pending: Mutex<Pending>,
    writer: Mutex<Writer>,
}

struct Pending {
    entries: Vec<(u64, Vec<u8>)>,
    last_index: u64,
}

struct Writer {
    file_seq: u64,
    file: Arc<dyn DiskFile>,
    seed: u32,
    /// Where the next frame goes; everything before it is durable.
    at: u64,
    len: u64,
    synced_index: u64,
    snapshot_index: u64,
    /// Taken from `pending` and not yet durable.
    queue: Vec<(u64, Vec<u8>)>,
    failure: Option<JournalError>,
}

impl Journal {
    /// Adds an entry; it is durable after the next successful [`Journal::sync`].
    ///
    /// # Errors
    /// [`JournalError::OutOfOrder`] unless `index` is the next one, [`JournalError::TooLarge`].
    pub fn append(&self, index: u64, entry: &[u8]) -> Result<(), JournalError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(JournalError::TooLarge(entry.len()));
        }
        let mut pending = self.pending.lock();
        let expected = pending.last_index + 1;
        if index != expected {
            return Err(JournalError::OutOfOrder { expected, got: index });
        }
        pending.last_index = index;
        pending.entries.push((index, entry.to_vec()));
        Ok(())
    }

    /// Makes every entry appended so far durable; returns the index up to which they are.
    ///
    /// # Errors
    /// [`JournalError::Full`] may be tried again, [`JournalError::Failed`] not.
    pub fn sync(&self) -> Result<u64, JournalError> {
        let target = self.pending.lock().last_index;
        let mut writer = self.writer.lock();
        if writer.synced_index < target || writer.failure.is_some() {
            self.flush(&mut writer)?;
        }
        Ok(writer.synced_index)
    }

    /// The last entry appended, durable or not; the snapshot's index when there is none behind it.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.pending.lock().last_index
    }

    /// The newest snapshot's index, 0 for none.
    #[must_use]
    pub fn snapshot_index(&self) -> u64 {
        self.writer.lock().snapshot_index
    }

    /// Replaces the entries up to `index` by `content`, durably. Entries behind it stay. With an
    /// `index` beyond the last entry all entries go and the next one is `index + 1`.
    ///
    /// # Errors
    /// As [`Journal::sync`]; [`JournalError::OutOfOrder`] for an index below the newest snapshot's.
    /// On [`JournalError::Full`] the journal is as before.
    pub fn install_snapshot(&self, index: u64, content: &[u8]) -> Result<(), JournalError> {
        let mut writer = self.writer.lock();
        if index < writer.snapshot_index {
            return Err(JournalError::OutOfOrder { expected: writer.snapshot_index, got: index });
        }
        self.flush(&mut writer)?;
        match self.replace(&mut writer, index, content) {
            Ok(()) => {}
            Err(error) if disk::is_full(&error) => return Err(JournalError::Full),
            Err(error) => return Err(writer.fail("install a snapshot", &error)),
        }
        let mut pending = self.pending.lock();
        pending.last_index = pending.last_index.max(index);
        pending.entries.retain(|(entry, _)| *entry > index);
        Ok(())
    }

    /// The content of the newest snapshot, read from the disk; `None` while there is none.
    ///
    /// # Errors
    /// When the disk fails or the file is damaged.
    pub fn read_snapshot(&self) -> Result<Option<Vec<u8>>, JournalError> {
        // The lock keeps the file where it is.
        let writer = self.writer.lock();
        if writer.snapshot_index == 0 {
            return Ok(None);
        }
        let failed = |error: String| JournalError::Failed { doing: "read a snapshot", error };
        let path = self.dir.join(open::snapshot_name(writer.snapshot_index));
        let mut octets = Vec::new();
        let read = self.disk.open(&path).and_then(|file| disk::read_file(&*file, &mut octets));
        read.map_err(|error| failed(error.to_string()))?;
        let uuid = &self.options.storage_uuid;
        let content = format::snapshot_content(&octets, uuid, writer.snapshot_index);
        content
            .map(|content| Some(content.to_vec()))
            .map_err(|why| failed(format!("the file is not acceptable: {why:?}")))
    }

    /// Makes everything durable and notes so in the file.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn close(&self) -> Result<(), JournalError> {
        let mut writer = self.writer.lock();
        self.flush(&mut writer)?;
        writer.mark()
    }

    /// Writes and syncs what is pending.
    fn flush(&self, writer: &mut Writer) -> Result<(), JournalError> {
        if let Some(failure) = &writer.failure {
            return Err(failure.clone());
        }
        writer.queue.append(&mut self.pending.lock().entries);
        let Some(&(last, _)) = writer.queue.last() else { return Ok(()) };
        let mut frames = Vec::new();
        for (index, entry) in &writer.queue {
            format::put(&mut frames, writer.seed, Kind::Entry, *index, writer.at, entry);
        }
        writer.write(&frames)?;
        writer.synced_index = last;
        writer.queue.clear();
        Ok(())
    }

    /// Writes the snapshot and a new journal file with the entries behind it, then removes the old ones.
    fn replace(&self, writer: &mut Writer, index: u64, content: &[u8]) -> std::io::Result<()> {
        let uuid = &self.options.storage_uuid;
        let name = open::snapshot_name(index);
        disk::write_atomically(&*self.disk, &self.dir, &name, &format::snapshot(uuid, index, content))?;
        let file_seq = writer.file_seq + 1;
        let seed = format::seed(uuid, file_seq);
        let mut bytes = format::file_header(uuid, file_seq, index);
        let mut old = Vec::new();
        disk::read_file(&*writer.file, &mut old)?;
        for frame in frames(&old, writer.seed, writer.at).filter(|frame| frame.index > index) {
            if frame.kind() == Some(Kind::Entry) {
                format::put(&mut bytes, seed, Kind::Entry, frame.index, HEADER_BYTES as u64, frame.payload);
            }
        }
        // The file appears whole, so what stands in it now is durable as soon as it is found.
        let synced_to = bytes.len() as u64;
        format::put(&mut bytes, seed, Kind::Mark, writer.synced_index, synced_to, &[]);
        let name = open::journal_name(file_seq);
        disk::write_atomically(&*self.disk, &self.dir, &name, &bytes)?;
        let (old_seq, old_snapshot) = (writer.file_seq, writer.snapshot_index);
        writer.file = self.disk.open(&self.dir.join(&name))?;
        writer.file_seq = file_seq;
        writer.seed = seed;
        writer.at = bytes.len() as u64;
        writer.len = writer.at;
        writer.snapshot_index = index;
        writer.synced_index = writer.synced_index.max(index);
        // Nothing refers to these any more; the next start removes what is left over.
        let _ = self.disk.remove(&self.dir.join(open::journal_name(old_seq)));
        if old_snapshot != index && old_snapshot != 0 {
            let _ = self.disk.remove(&self.dir.join(open::snapshot_name(old_snapshot)));
        }
        Ok(())
    }
}

impl Writer {
    /// Writes `frames` at the end and syncs. On a full disk nothing has happened.
    fn write(&mut self, frames: &[u8]) -> Result<(), JournalError> {
        let end = self.at + frames.len() as u64;
        let result = self.grow(end).and_then(|()| self.file.write_at(frames, self.at));
        match result {
            Ok(()) => {}
            Err(error) if disk::is_full(&error) => return Err(JournalError::Full),
            Err(error) => return Err(self.fail("write the journal", &error)),
        }
        // Never repeated after an error: the kernel may have dropped what it could not write.
        if let Err(error) = self.file.sync_data() {
            return Err(self.fail("sync the journal", &error));
        }
        self.at = end;
        Ok(())
    }

    fn grow(&mut self, end: u64) -> std::io::Result<()> {
        if end > self.len {
            let step = self.len.clamp(GROW_LEAST_BYTES, GROW_MOST_BYTES);
            let len = (self.len + step).max(end).next_multiple_of(GROW_LEAST_BYTES);
            self.file.preallocate(len)?;
            self.len = len;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<(), JournalError> {
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES);
        format::put(&mut frame, self.seed, Kind::Mark, self.synced_index, self.at, &[]);
        self.write(&frame)
    }

    fn fail(&mut self, doing: &'static str, error: &std::io::Error) -> JournalError {
        let failure = JournalError::Failed { doing, error: error.to_string() };
        self.failure = Some(failure.clone());
        failure
    }
}

/// The right frames from the header on, up to `end`.
fn frames(bytes: &[u8], seed: u32, end: u64) -> impl Iterator<Item = Frame<'_>> {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        if at as u64 >= end {
            return None;
        }
        let frame = format::parse(&bytes[at..], seed)?;
        at += frame.size;
        Some(frame)
    })
}

#[cfg(test)]
mod tests;
