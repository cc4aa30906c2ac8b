//! A node's vote and its part of the replicated log, on top of a [`Journal`].
//!
//! Every change is a journal item; replaying the items gives the vote and the entries. Entries are kept in
//! memory until a snapshot holds what they did. Changes are seen at once and durable after [`RaftLog::sync`],
//! which several threads may share.
//!
//! A snapshot replaces the items before it, so it holds what they said: the vote, and the entries that the
//! state in it does not include yet.

mod codec;
pub(crate) mod fuzz;

use crate::disk::Disk;
use crate::journal::{Journal, JournalError, JournalItem, JournalOpenError, JournalOptions, JournalReport};
use bytes::Bytes;
use codec::Item;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Whom this node votes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// For which node.
    pub node: u64,
    /// A majority did so too.
    pub won: bool,
}

/// Names an entry of the replicated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogId {
    /// The term of the leader that made it.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// Its place in the log, without gaps.
    pub index: u64,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader begins.
    Blank,
    /// Something for the state machine.
    Command(Bytes),
    /// The cluster has these members.
    Members(Bytes),
}

impl Payload {
    fn len(&self) -> usize {
        match self {
            Self::Blank => 0,
            Self::Command(octets) | Self::Members(octets) => octets.len(),
        }
    }
}

/// An entry of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its name.
    pub id: LogId,
    /// What it says.
    pub payload: Payload,
}

/// What a snapshot includes besides the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The last entry whose effect is in the state.
    pub last: Option<LogId>,
    /// The cluster's members at that entry.
    pub members: Bytes,
}

/// Why the log cannot be opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum RaftLogOpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalOpenError),
    /// An item of it.
    #[error("item {index} of the replicated log is not acceptable: {reason}")]
    Item {
        /// Its number in the journal.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open log.
pub struct RaftLog {
    journal: Journal,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    vote: Option<Vote>,
    /// The entry before the first that is kept.
    purged: Option<LogId>,
    entries: VecDeque<LogEntry>,
    snapshot: Option<SnapshotHead>,
    /// Entries, and octets of them, written since the snapshot.
    written: (usize, usize),
}

impl RaftLog {
    /// Opens the log in `dir`, creating it if it is new, and hands the state of the newest snapshot, if there
    /// is one, to `restore`.
    ///
    /// # Errors
    /// When the journal cannot be opened, or what is in it makes no sense.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        restore: impl FnOnce(&[u8]),
    ) -> Result<(Self, JournalReport), RaftLogOpenError> {
        let mut memory = Memory::default();
        let mut restore = Some(restore);
        let mut wrong = None;
        let (journal, report) = Journal::open(disk, dir, options, |item| {
            let (index, result) = match item {
                JournalItem::Snapshot { index, content } => {
                    let state = memory.start_from(content);
                    let result = state.map(|state| {
                        if let Some(restore) = restore.take() {
                            restore(state);
                        }
                    });
                    (index, result)
                }
                JournalItem::Entry { index, content } => {
                    (index, codec::item(content).and_then(|item| memory.replay(item)))
                }
            };
            if let (Err(reason), None) = (result, &wrong) {
                wrong = Some(RaftLogOpenError::Item { index, reason });
            }
        })?;
        match wrong {
            Some(wrong) => Err(wrong),
            None => Ok((Self { journal, memory: Mutex::new(memory) }, report)),
        }
    }

    /// Writes a log that begins with a snapshot, in a directory that has none, durably.
    ///
    /// # Errors
    /// When the journal cannot be opened or written.
    pub fn begin_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        head: &SnapshotHead,
        state: &[u8],
    ) -> Result<(), RaftLogOpenError> {
        let (log, _) = Self::open(disk, dir, options, |_| {})?;
        log.install_snapshot(head, state).and_then(|()| log.close()).map_err(JournalOpenError::from)?;
        Ok(())
    }

    /// The vote, durable or not.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.memory.lock().vote
    }

    /// Changes the vote.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn save_vote(&self, vote: Vote) -> Result<(), JournalError> {
        let mut memory = self.memory.lock();
        self.note(&codec::vote(vote))?;
        memory.vote = Some(vote);
        Ok(())
    }

    /// Adds an entry behind the last one.
    ///
    /// # Errors
    /// [`JournalError::OutOfOrder`] unless it is the next one, [`JournalError::TooLarge`].
    pub fn append(&self, entry: LogEntry) -> Result<(), JournalError> {
        let mut memory = self.memory.lock();
        memory.check_next(entry.id.index)?;
        self.note(&codec::entry(&entry))?;
        memory.push(entry);
        Ok(())
    }

    /// Takes back the entries behind `last`, or all of them.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn truncate_after(&self, last: Option<LogId>) -> Result<(), JournalError> {
        let mut memory = self.memory.lock();
        self.note(&codec::truncate(last))?;
        memory.truncate_after(last);
        Ok(())
    }

    /// Forgets the entries up to `id`, which a snapshot includes.
    pub fn purge(&self, id: LogId) {
        self.memory.lock().purge(id);
    }

    /// The last entry that was purged and the last one there is.
    #[must_use]
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let memory = self.memory.lock();
        (memory.purged, memory.last())
    }

    /// The entries from `from` up to and without `to`, as far as they are kept.
    #[must_use]
    pub fn entries(&self, from: u64, to: u64) -> Vec<LogEntry> {
        let memory = self.memory.lock();
        let Some(first) = memory.entries.front().map(|entry| entry.id.index) else { return Vec::new() };
        let place = |index: u64| {
            usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(memory.entries.len())
        };
        let (from, to) = (place(from), place(to));
        memory.entries.range(from..to.max(from)).cloned().collect()
    }

    /// Entries, and octets of them, written since the newest snapshot.
    #[must_use]
    pub fn since_snapshot(&self) -> (usize, usize) {
        self.memory.lock().written
    }

    /// Up to where entries can be forgotten that a snapshot with the entry `last` includes, when so many of them, and
    /// octets of them, are to stay. `None`: there are no more.
    #[must_use]
    pub fn forgettable(&self, last: u64, kept: (usize, usize)) -> Option<u64> {
        let memory = self.memory.lock();
        let first = memory.entries.front()?.id.index;
        let included = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut entries, mut octets) = (0, 0);
        for entry in memory.entries.range(..included.min(memory.entries.len())).rev() {
            entries += 1;
            octets += entry.payload.len();
            if entries > kept.0 || octets > kept.1 {
                return Some(entry.id.index);
            }
        }
        None
    }

    /// The newest snapshot, if there is one.
    #[must_use]
    pub fn snapshot_head(&self) -> Option<SnapshotHead> {
        self.memory.lock().snapshot.clone()
    }

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn sync(&self) -> Result<(), JournalError> {
        self.journal.sync().map(drop)
    }

    /// Replaces what the journal holds by a snapshot, durably. The entries stay until they are purged.
    ///
    /// # Errors
    /// As [`Journal::install_snapshot`].
    pub fn install_snapshot(&self, head: &SnapshotHead, state: &[u8]) -> Result<(), JournalError> {
        let (index, content) = {
            let memory = self.memory.lock();
            let content = codec::snapshot(memory.vote, head, memory.behind(head.last), state);
            // Index 0 would mean that there is no snapshot.
            (self.journal.last_index().max(1), content)
        };
        self.journal.install_snapshot(index, &content)?;
        let mut memory = self.memory.lock();
        memory.written = memory
            .behind(head.last)
            .fold((0, 0), |(count, octets), entry| (count + 1, octets + entry.payload.len()));
        memory.snapshot = Some(head.clone());
        Ok(())
    }

    /// The newest snapshot with the state in it, read from the disk; `None` while there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_snapshot(&self) -> Result<Option<(SnapshotHead, Vec<u8>)>, JournalError> {
        let Some(content) = self.journal.read_snapshot()? else { return Ok(None) };
        let snapshot = codec::read_snapshot(&content)
            .map_err(|error| JournalError::Failed { doing: "read a snapshot", error })?;
        let state = snapshot.state.to_vec();
        Ok(Some((snapshot.head, state)))
    }

    /// Makes everything durable and notes so in the journal.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub fn close(&self) -> Result<(), JournalError> {
        self.journal.close()
    }

    /// Appends an item; to be called with the memory locked, so that both have one order.
    fn note(&self, item: &[u8]) -> Result<(), JournalError> {
        self.journal.append(self.journal.last_index() + 1, item)
    }
}

impl Memory {
    /// Takes over what a snapshot says; returns the state in it.
    fn start_from<'a>(&mut self, content: &'a [u8]) -> Result<&'a [u8], String> {
        let snapshot = codec::read_snapshot(content)?;
        *self = Self {
            vote: snapshot.vote,
            purged: snapshot.head.last,
            snapshot: Some(snapshot.head),
            ..Self::default()
        };
        for entry in snapshot.entries {
            self.replay(Item::Entry(entry))?;
        }
        Ok(snapshot.state)
    }

    fn replay(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Vote(vote) => self.vote = Some(vote),
            Item::Entry(entry) => {
                self.check_next(entry.id.index).map_err(|error| error.to_string())?;
                self.push(entry);
            }
            Item::Truncate(last) => self.truncate_after(last),
        }
        Ok(())
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.id).or(self.purged)
    }

    fn check_next(&self, index: u64) -> Result<(), JournalError> {
        let expected = self.last().map_or(0, |id| id.index + 1);
        if index == expected { Ok(()) } else { Err(JournalError::OutOfOrder { expected, got: index }) }
    }

    fn push(&mut self, entry: LogEntry) {
        self.written = (self.written.0 + 1, self.written.1 + entry.payload.len());
        self.entries.push_back(entry);
    }

    fn truncate_after(&mut self, last: Option<LogId>) {
        let stays = |entry: &LogEntry| last.is_some_and(|last| entry.id.index <= last.index);
        while self.entries.back().is_some_and(|entry| !stays(entry)) {
            self.entries.pop_back();
        }
    }

    fn purge(&mut self, id: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return;
        }
        while self.entries.front().is_some_and(|entry| entry.id.index <= id.index) {
            self.entries.pop_front();
        }
        self.purged = Some(id);
    }

    /// The entries behind `last`.
    fn behind(&self, last: Option<LogId>) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter().filter(move |entry| last.is_none_or(|last| entry.id.index > last.index))
    }
}

#[cfg(test)]
mod tests;
