//! The messages of a queue that wait for a consumer, highest priority first, by position inside a level.

use crate::message::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// A message in a queue.
#[derive(Debug)]
pub struct Entry {
    /// Position in the queue, ascending over its whole life.
    pub qseq: u64,
    /// The message, shared with other queues it was routed to.
    pub message: Arc<Message>,
    /// Absolute expiry in milliseconds since the epoch, 0 for never.
    pub expires_ms: u64,
    /// A log position below this message's record.
    pub log_floor: u64,
    /// How often it was returned, where that is counted.
    pub returns: u32,
    /// Priority level, 0 in a queue without priorities.
    pub priority: u8,
    /// Whether a consumer may have seen it.
    pub redelivered: bool,
    /// Whether the log knows it.
    pub logged: bool,
}

/// Ready messages, one first-in first-out list per priority level in use.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Highest priority first. A queue without priorities has one level.
    levels: Vec<Level>,
    len: usize,
    bytes: u64,
    logged_bytes: u64,
}

impl Entry {
    /// Octets that the log keeps for it, about.
    pub(super) fn logged_bytes(&self) -> u64 {
        if self.logged { self.message.memory() as u64 } else { 0 }
    }
}

/// Messages that return to places in the middle of a level are put in one by one up to this many, and merged
/// with the level beyond.
const INSERT_EACH: usize = 16;

#[derive(Debug)]
struct Level {
    priority: u8,
    entries: VecDeque<Entry>,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Octets that the log keeps for these messages, about.
    pub(super) fn logged_bytes(&self) -> u64 {
        self.logged_bytes
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.levels.iter().find_map(|level| level.entries.front())
    }

    pub(super) fn push_back(&mut self, entry: Entry) {
        self.count(&entry);
        self.level(entry.priority).push_back(entry);
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.levels.iter_mut().find_map(|level| level.entries.pop_front())?;
        self.len -= 1;
        self.bytes -= entry.message.body_len() as u64;
        self.logged_bytes -= entry.logged_bytes();
        Some(entry)
    }

    /// Puts messages back at their own positions. Usually they are older than everything that is ready, and
    /// then this costs one push each.
    pub(super) fn put_back(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.qseq));
        let mut between = Vec::new();
        for entry in entries {
            self.count(&entry);
            let level = self.level(entry.priority);
            if level.front().is_none_or(|front| entry.qseq < front.qseq) {
                level.push_front(entry);
            } else {
                between.push(entry);
            }
        }
        if between.len() <= INSERT_EACH {
            for entry in between {
                let level = self.level(entry.priority);
                let at = level.partition_point(|other| other.qseq < entry.qseq);
                level.insert(at, entry);
            }
            return;
        }
        // Inserting each would move the level's messages once for each.
        let mut touched = [false; 256];
        for entry in between.into_iter().rev() {
            touched[usize::from(entry.priority)] = true;
            self.level(entry.priority).push_back(entry);
        }
        for level in self.levels.iter_mut().filter(|level| touched[usize::from(level.priority)]) {
            // Few ascending runs: a stable sort merges them in one pass.
            level.entries.make_contiguous().sort_by_key(|entry| entry.qseq);
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.message.body_len() as u64;
        self.logged_bytes += entry.logged_bytes();
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.len = 0;
        self.bytes = 0;
        self.logged_bytes = 0;
        std::mem::take(&mut self.levels).into_iter().flat_map(|level| level.entries)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.levels.iter_mut().flat_map(|level| level.entries.iter_mut())
    }

    fn level(&mut self, priority: u8) -> &mut VecDeque<Entry> {
        let at = self.levels.partition_point(|level| level.priority > priority);
        if self.levels.get(at).is_none_or(|level| level.priority != priority) {
            self.levels.insert(at, Level { priority, entries: VecDeque::new() });
        }
        &mut self.levels[at].entries
    }
}
