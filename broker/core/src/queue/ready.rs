//! The messages of a queue that wait for a consumer, highest priority first, by position inside a level.
//!
//! Of a long queue only the oldest and the newest are in memory ([`super::paged`]); the counts are of all.

use super::paged::{Arrived, PageOut, Paged, Pages, UnreadRange, Window};
use crate::ids::QueueId;
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
    /// Whether a segment file holds it.
    pub stored: bool,
}

/// Ready messages, one first-in first-out list per priority level in use.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Highest priority first. A queue without priorities has one level.
    levels: Vec<Level>,
    /// What follows the lowest level, 0, when it is too long to stay in memory.
    paged: Option<Box<Paged>>,
    len: usize,
    bytes: u64,
    logged_bytes: u64,
    memory: u64,
    persistent: Amount,
}

/// Some messages: how many, and the octets of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub messages: u64,
    /// Octets of their bodies.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.body_len() as u64;
    }

    pub(super) fn subtract(&mut self, message: &Message) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.body_len() as u64);
    }
}

impl Entry {
    /// Octets that the log keeps for it, about.
    pub(super) fn logged_bytes(&self) -> u64 {
        if self.logged && !self.stored { self.message.memory() as u64 } else { 0 }
    }

    fn memory(&self) -> u64 {
        (self.message.memory() + size_of::<Entry>()) as u64
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

    /// The persistent ones among them.
    pub(super) fn persistent(&self) -> Amount {
        self.persistent
    }

    /// Those that are not in memory.
    pub(super) fn paged_out(&self) -> Amount {
        self.paged.as_ref().map_or_else(Amount::default, |paged| paged.unread_amount())
    }

    /// Octets in memory.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// The next message to go out. `None` when there is none, or it has to be read first.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.levels.iter().find_map(|level| level.entries.front())
    }

    pub(super) fn push_back(&mut self, entry: Entry) {
        self.count(&entry);
        match &mut self.paged {
            Some(paged) if entry.priority == 0 => paged.push_back(entry),
            _ => self.level(entry.priority).push_back(entry),
        }
        self.take_back();
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.levels.iter_mut().find_map(|level| level.entries.pop_front())?;
        self.leaves(&entry);
        self.take_back();
        Some(entry)
    }

    fn leaves(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.message.body_len() as u64;
        if entry.message.persistent {
            self.persistent.subtract(&entry.message);
        }
        self.leaves_memory(entry);
    }

    /// Goes on with what is in memory behind the front, once there is nothing before it.
    fn take_back(&mut self) {
        if self.paged.is_none() || self.front().is_some() {
            return;
        }
        let Some(paged) = &mut self.paged else { return };
        if let Some(back) = paged.take_back() {
            if !back.is_empty() {
                *self.level(0) = back;
            }
            self.paged = None;
        }
    }

    fn leaves_memory(&mut self, entry: &Entry) {
        self.logged_bytes -= entry.logged_bytes();
        self.memory -= entry.memory();
    }

    /// Puts messages back at their own positions. Usually they are older than everything that is ready, and
    /// then this costs one push each.
    pub(super) fn put_back(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.qseq));
        let mut between = Vec::new();
        for entry in entries {
            self.count(&entry);
            let entry = match &mut self.paged {
                Some(paged) if entry.priority == 0 => match paged.put_back(entry) {
                    Some(entry) => entry,
                    None => continue,
                },
                _ => entry,
            };
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
        if entry.message.persistent {
            self.persistent.add(&entry.message);
        }
        self.enters_memory(entry);
    }

    fn enters_memory(&mut self, entry: &Entry) {
        self.logged_bytes += entry.logged_bytes();
        self.memory += entry.memory();
    }

    /// Empties it: the messages that were in memory, and the ranges that were not.
    pub(super) fn drain(&mut self) -> (impl Iterator<Item = Entry>, Vec<UnreadRange>) {
        let all = std::mem::take(self);
        let (behind, unread) = all.paged.map(|paged| paged.into_parts()).unzip();
        let front = all.levels.into_iter().flat_map(|level| level.entries);
        (front.chain(behind.into_iter().flatten()), unread.unwrap_or_default())
    }

    /// The messages in memory.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        let behind = self.paged.iter_mut().flat_map(|paged| paged.iter_mut());
        self.levels.iter_mut().flat_map(|level| level.entries.iter_mut()).chain(behind)
    }

    /// The messages in memory that go out before anything has to be read, in this order.
    pub(super) fn levels(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().flat_map(|level| level.entries.iter())
    }

    /// What lies in segments behind them.
    pub(super) fn unread(&self) -> Vec<UnreadRange> {
        self.paged.iter().flat_map(|paged| paged.unread()).collect()
    }

    /// The messages in memory behind the segments.
    pub(super) fn back(&self) -> impl Iterator<Item = &Entry> {
        self.paged.iter().flat_map(|paged| paged.back())
    }

    /// How many messages there are of each priority in use. What has priorities is in memory.
    pub(super) fn by_priority(&self) -> Vec<(u8, u64)> {
        self.levels.iter().map(|level| (level.priority, level.entries.len() as u64)).collect()
    }

    /// How many messages go out before anything has to be read.
    pub(super) fn in_front(&self) -> usize {
        self.levels.iter().map(|level| level.entries.len()).sum()
    }

    /// Takes a message out of the middle, if it is in memory.
    pub(super) fn remove(&mut self, qseq: u64) -> Option<Entry> {
        let entry = match self.remove_front(qseq) {
            Some(entry) => entry,
            None => self.paged.as_deref_mut()?.remove(qseq)?,
        };
        self.leaves(&entry);
        self.take_back();
        Some(entry)
    }

    /// The same for a copy, whose messages may leave from anywhere in memory: a segment that is being written with the
    /// message is not wanted any more.
    pub(super) fn remove_anywhere(&mut self, qseq: u64) -> Option<Entry> {
        if let Some(paged) = self.paged.as_deref_mut() {
            paged.stop_writing(qseq);
        }
        self.remove(qseq)
    }

    /// A message of a copy left that is in a segment only.
    pub(super) fn unread_gone(&mut self, qseq: u64) {
        if let Some(octets) = self.paged.as_deref_mut().and_then(|paged| paged.unread_gone(qseq)) {
            self.len = self.len.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(octets);
            self.persistent.messages = self.persistent.messages.saturating_sub(1);
            self.persistent.bytes = self.persistent.bytes.saturating_sub(octets);
        }
    }

    fn remove_front(&mut self, qseq: u64) -> Option<Entry> {
        let (at, level) = self.levels.iter_mut().find_map(|level| {
            // Only the messages that were returned to a quorum queue are not in order, and they are few.
            let at = match level.entries.binary_search_by_key(&qseq, |entry| entry.qseq) {
                Ok(at) => Some(at),
                Err(_) => level.entries.iter().take(INSERT_EACH).position(|entry| entry.qseq == qseq),
            };
            at.map(|at| (at, level))
        })?;
        level.entries.remove(at)
    }

    /// What lies behind the front, if anything does.
    pub(super) fn paged(&mut self) -> Option<&mut Paged> {
        self.paged.as_deref_mut()
    }

    /// A message that recovery found in the log.
    pub(super) fn restore(&mut self, entry: Entry) {
        if self.paged.is_some() {
            self.put_back(vec![entry]);
        } else {
            self.push_back(entry);
        }
    }

    /// A segment that recovery found, behind those before it.
    pub(super) fn restore_segment(
        &mut self,
        first_qseq: u64,
        last_qseq: u64,
        messages: u64,
        body_bytes: u64,
    ) {
        self.len += messages as usize;
        self.bytes += body_bytes;
        // What survived a restart was persistent.
        self.persistent.messages += messages;
        self.persistent.bytes += body_bytes;
        self.paged.get_or_insert_default().add_unread(first_qseq, last_qseq, messages, body_bytes);
    }

    /// What to read now so that consumers need not wait.
    pub(super) fn window(&mut self, queue: QueueId, durable: bool) -> Option<Window> {
        let front = self.in_front();
        let paged = self.paged.as_deref_mut()?;
        // Messages of one queue are alike: the memory of those in front follows from their number.
        let behind = paged.behind();
        let share = self.memory as usize / (front + behind).max(1) * front;
        paged.window(queue, durable, front, share)
    }

    /// What was read joins the front.
    pub(super) fn arrived(&mut self, arrived: Arrived) {
        let Arrived { read, between, missing: (messages, body_bytes), larger } = arrived;
        self.len = self.len.saturating_sub(messages as usize);
        self.bytes = self.bytes.saturating_sub(body_bytes) + larger;
        self.persistent.messages = self.persistent.messages.saturating_sub(messages);
        self.persistent.bytes = self.persistent.bytes.saturating_sub(body_bytes) + larger;
        // They were counted as messages while they were not in memory.
        read.iter().for_each(|entry| self.enters_memory(entry));
        let level = self.level(0);
        level.extend(read);
        if !between.is_empty() {
            level.extend(between);
            level.make_contiguous().sort_by_key(|entry| entry.qseq);
        }
        self.take_back();
    }

    /// The next segment to write, if there is more in memory than has to be.
    pub(super) fn page_out(
        &mut self,
        queue: QueueId,
        pages: &Pages<'_>,
        durable: bool,
        held: u64,
    ) -> Option<PageOut> {
        if self.paged.is_none() {
            let level = self.levels.last_mut().filter(|level| level.priority == 0)?;
            let paged = Paged::split(&mut level.entries);
            if paged.is_done() {
                return None;
            }
            self.paged = Some(Box::new(paged));
        }
        self.paged.as_deref_mut()?.page_out(queue, pages, durable, held)
    }

    /// A segment was written: its messages leave memory. They are given back, to be freed elsewhere; `None` when they
    /// are wanted in memory by now.
    pub(super) fn drop_written(&mut self, page_out: &PageOut) -> Option<Vec<Entry>> {
        let entries = self.paged.as_deref_mut()?.drop_written(page_out)?;
        entries.iter().for_each(|entry| self.leaves_memory(entry));
        Some(entries)
    }

    fn level(&mut self, priority: u8) -> &mut VecDeque<Entry> {
        let at = self.levels.partition_point(|level| level.priority > priority);
        if self.levels.get(at).is_none_or(|level| level.priority != priority) {
            self.levels.insert(at, Level { priority, entries: VecDeque::new() });
        }
        &mut self.levels[at].entries
    }
}
