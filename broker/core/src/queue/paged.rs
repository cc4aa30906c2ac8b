//! The part of a queue that lies in segment files: what was paged out, what waits to be read back, and which
//! files are still needed.
//!
//! ```text
//!   next to go out                                                     newest
//!   front (in memory) │ unread segments, ascending │ back (in memory)
//!         ▲ read ahead of the consumers                │ written out when it is large
//!         └────────────────────────────────────────────┘
//! ```
//!
//! Everything in `front` is below the first unread position, everything in `back` above the last. A message
//! that returns to a place between unread ones waits in `loose` until they are read. A segment's file stays
//! until each of its messages is settled, wherever it is meanwhile.
//!
//! Only queues without priorities are paged, so that a segment holds every live message of its range. The messages
//! that were returned to a quorum queue wait apart, in memory.

use super::mirror::Mirror;
use super::ready::{Amount, Entry};
use crate::ids::QueueId;
use crate::message::Message;
use crate::record::{QseqRange, QseqSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most messages in one segment; the store's limit.
pub const SEGMENT_MESSAGES: usize = 16_384;
/// Octets of messages after which a segment is complete.
pub const SEGMENT_BYTES: usize = 16 << 20;
/// Messages that stay in front of what is paged out.
const KEEP_MESSAGES: usize = 4096;
/// Octets that stay in front.
const KEEP_BYTES: usize = 4 << 20;
/// Fewer ready messages than this in memory: more are read.
const AHEAD_MESSAGES: usize = 2048;
/// Octets in memory below which more is read.
const AHEAD_BYTES: usize = 2 << 20;

/// Messages to be read from a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Whose.
    pub queue: QueueId,
    /// The segment's first message, which names its file.
    pub segment: u64,
    /// Read from this position on.
    pub from: u64,
    /// At most this many messages.
    pub messages: usize,
    /// About this many octets at most, but one message at least.
    pub bytes: usize,
    /// Lies with the segments that survive a restart.
    pub durable: bool,
}

/// A message as it was read from a segment.
#[derive(Debug)]
pub struct Stored {
    /// Its place in the queue.
    pub qseq: u64,
    /// The message.
    pub message: Arc<Message>,
    /// Absolute expiry in milliseconds since the epoch, 0 for never.
    pub expires_ms: u64,
    /// How often it had been returned when it was written, where that is counted.
    pub returns: u32,
}

/// What reading a window gave.
#[derive(Debug)]
pub struct WindowRead {
    /// The messages, ascending; also those that are gone.
    pub messages: Vec<Stored>,
    /// The segment has no more behind them.
    pub at_end: bool,
}

/// Messages to be written into a segment.
#[derive(Debug)]
pub struct PageOut {
    /// Whose.
    pub queue: QueueId,
    /// The epoch in which its messages were published.
    pub epoch: u32,
    /// Has to survive a power loss.
    pub durable: bool,
    /// The messages, ascending.
    pub messages: Vec<Stored>,
}

impl PageOut {
    /// The segment's name.
    pub fn first_qseq(&self) -> u64 {
        self.messages.first().map_or(0, |message| message.qseq)
    }
}

/// Which messages may share a segment.
#[derive(Debug)]
pub(super) struct Pages<'m> {
    /// The epoch of the queue.
    pub(super) epoch: u32,
    pub(super) mirror: Option<&'m Mirror>,
}

impl Pages<'_> {
    /// The epoch of the message at this position, and the last position that may follow it in one segment.
    fn of(&self, qseq: u64) -> (u32, u64) {
        self.mirror.map_or((self.epoch, u64::MAX), |mirror| mirror.page(qseq))
    }
}

/// A segment that recovery found.
#[derive(Debug)]
pub struct RestoredSegment {
    /// Its first message, which names its file.
    pub first_qseq: u64,
    /// Its last message.
    pub last_qseq: u64,
    /// How many it was written with.
    pub messages: u64,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// The store's description, to be logged again.
    pub meta: Box<[u8]>,
    /// What is gone of it.
    pub dropped: QseqSet,
    /// What was returned since it was written, and how often.
    pub requeued: BTreeMap<u64, u32>,
    /// The epoch in which its messages were published.
    pub epoch: u32,
}

/// A segment file that exists.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) last_qseq: u64,
    /// Messages that are not settled.
    pub(super) live: u64,
    pub(super) dropped: QseqSet,
    /// Messages that the log does not know: after a restart they are gone.
    pub(super) transient: QseqSet,
    /// Messages that consumers may have seen before they were written; after a restart the delivered mark tells.
    pub(super) redelivered: QseqSet,
    pub(super) requeued: BTreeMap<u64, u32>,
    pub(super) meta: Box<[u8]>,
    /// All its messages were published in one epoch.
    pub(super) epoch: u32,
}

/// The files of a queue by their first message.
pub(super) type Files = BTreeMap<u64, SegmentFile>;

/// A segment that has messages which are not in memory.
#[derive(Debug)]
struct Unread {
    first_qseq: u64,
    last_qseq: u64,
    /// Everything before it was read.
    next_qseq: u64,
    messages: u64,
    body_bytes: u64,
}

/// What was never read of a segment.
#[derive(Debug)]
pub(super) struct UnreadRange {
    pub(super) segment: u64,
    pub(super) range: QseqRange,
    pub(super) messages: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Paged {
    segments: VecDeque<Unread>,
    back: VecDeque<Entry>,
    loose: BTreeMap<u64, Entry>,
    /// The window that is being read: its segment, and from where. Positions never come again, so neither does this.
    reading: Option<(u64, u64)>,
    /// The first messages of `back` are being written into a segment.
    writing: bool,
}

/// What reading a window brought into memory.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Messages that were read.
    pub(super) read: Vec<Entry>,
    /// Messages that waited in memory for a place among them.
    pub(super) between: Vec<Entry>,
    /// Messages and octets that were counted as unread and turn out not to be there.
    pub(super) missing: (u64, u64),
    /// Octets of messages that are larger than what was counted for them: after a restart that is an estimate.
    pub(super) larger: u64,
}

impl Paged {
    /// Takes over what stays in memory behind `front`, the oldest messages.
    pub(super) fn split(front: &mut VecDeque<Entry>) -> Paged {
        let mut octets = 0;
        let fits = |entry: &&Entry| {
            octets += entry.message.memory();
            octets <= KEEP_BYTES
        };
        let keep = front.iter().take(KEEP_MESSAGES).take_while(fits).count();
        Paged { back: front.split_off(keep.max(1).min(front.len())), ..Paged::default() }
    }

    pub(super) fn push_back(&mut self, entry: Entry) {
        self.back.push_back(entry);
    }

    /// The front is empty: what follows it, when nothing has to be read first.
    pub(super) fn take_back(&mut self) -> Option<VecDeque<Entry>> {
        if !self.segments.is_empty() {
            return None;
        }
        // What is being written now is wanted after all.
        self.writing = false;
        let mut back = std::mem::take(&mut self.back);
        for (_, entry) in std::mem::take(&mut self.loose).into_iter().rev() {
            back.push_front(entry);
        }
        back.make_contiguous().sort_by_key(|entry| entry.qseq);
        Some(back)
    }

    /// Puts a message back that is not below the unread ones; gives it back if it is.
    pub(super) fn put_back(&mut self, entry: Entry) -> Option<Entry> {
        let below = match (self.segments.front(), self.back.front()) {
            (Some(unread), _) => entry.qseq < unread.next_qseq,
            (None, Some(back)) => entry.qseq < back.qseq,
            (None, None) => true,
        };
        if below {
            return Some(entry);
        }
        if self.segments.back().is_some_and(|unread| entry.qseq <= unread.last_qseq) {
            self.loose.insert(entry.qseq, entry);
        } else {
            let at = self.back.partition_point(|other| other.qseq < entry.qseq);
            self.back.insert(at, entry);
        }
        None
    }

    /// The entries that are in memory behind the front.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.loose.values_mut().chain(self.back.iter_mut())
    }

    /// How many entries that are.
    pub(super) fn behind(&self) -> usize {
        self.loose.len() + self.back.len()
    }

    /// Everything, for a purge: the entries in memory and what was not read of each segment.
    pub(super) fn into_parts(self) -> (impl Iterator<Item = Entry>, Vec<UnreadRange>) {
        let unread = self.unread().collect();
        (self.loose.into_values().chain(self.back), unread)
    }

    /// What was not read of each segment, ascending.
    pub(super) fn unread(&self) -> impl Iterator<Item = UnreadRange> {
        self.segments.iter().map(|unread| UnreadRange {
            segment: unread.first_qseq,
            range: QseqRange { first: unread.next_qseq, last: unread.last_qseq },
            messages: unread.messages,
        })
    }

    /// How much that is.
    pub(super) fn unread_amount(&self) -> Amount {
        self.segments.iter().fold(Amount::default(), |sum, unread| Amount {
            messages: sum.messages + unread.messages,
            bytes: sum.bytes + unread.body_bytes,
        })
    }

    /// Takes a message out of the middle, if it is in memory and not being written.
    pub(super) fn remove(&mut self, qseq: u64) -> Option<Entry> {
        if let Some(entry) = self.loose.remove(&qseq) {
            return Some(entry);
        }
        let at = self.back.binary_search_by_key(&qseq, |entry| entry.qseq).ok().filter(|_| !self.writing)?;
        self.back.remove(at)
    }

    /// What is being written is not wanted any more if this message, which leaves, may be in it.
    pub(super) fn stop_writing(&mut self, qseq: u64) {
        self.writing &= self.back.binary_search_by_key(&qseq, |entry| entry.qseq).is_err();
    }

    /// A message that was never read is settled. Returns the octets it was counted with; `None` when it is not in a
    /// segment, or was read.
    pub(super) fn unread_gone(&mut self, qseq: u64) -> Option<u64> {
        let reaches = |unread: &&mut Unread| (unread.next_qseq..=unread.last_qseq).contains(&qseq);
        let unread = self.segments.iter_mut().find(reaches)?;
        let octets = unread.body_bytes / unread.messages.max(1);
        unread.messages = unread.messages.saturating_sub(1);
        unread.body_bytes -= octets;
        Some(octets)
    }

    /// The messages in memory behind the segments: those that wait for a place among them, too.
    pub(super) fn back(&self) -> impl Iterator<Item = &Entry> {
        self.loose.values().chain(&self.back)
    }

    /// A segment whose file is not needed any more.
    pub(super) fn forget(&mut self, first_qseq: u64) {
        self.segments.retain(|unread| unread.first_qseq != first_qseq);
    }

    /// Whether nothing is left that the front does not have.
    pub(super) fn is_done(&self) -> bool {
        self.segments.is_empty() && self.back.is_empty() && self.loose.is_empty()
    }

    /// What to read next, when little is left in front.
    pub(super) fn window(
        &mut self,
        queue: QueueId,
        durable: bool,
        front: usize,
        front_bytes: usize,
    ) -> Option<Window> {
        if self.reading.is_some() || (front >= AHEAD_MESSAGES || front_bytes >= AHEAD_BYTES) {
            return None;
        }
        self.window_now(queue, durable)
    }

    /// The next messages, to be read at once: what is under way is read again.
    pub(super) fn window_now(&mut self, queue: QueueId, durable: bool) -> Option<Window> {
        let unread = self.segments.front()?;
        let (segment, from) = (unread.first_qseq, unread.next_qseq);
        self.reading = Some((segment, from));
        Some(Window { queue, segment, from, messages: KEEP_MESSAGES, bytes: KEEP_BYTES, durable })
    }

    /// Whether this is what was asked for last.
    pub(super) fn awaits(&self, window: &Window) -> bool {
        self.reading == Some((window.segment, window.from))
    }

    /// The window could not be read; it is asked for again later.
    pub(super) fn read_failed(&mut self) {
        self.reading = None;
    }

    /// Takes what was read: messages up to the end of the window, without those that are gone.
    pub(super) fn arrived(&mut self, read: WindowRead, hwm: u64, durable: bool, files: &Files) -> Arrived {
        self.reading = None;
        let Some(unread) = self.segments.front_mut() else { return Arrived::default() };
        let file = files.get(&unread.first_qseq);
        let gone = |qseq| file.is_none_or(|file| file.dropped.contains(qseq));
        let mut arrived = Arrived::default();
        for stored in read.messages {
            if stored.qseq < unread.next_qseq {
                continue;
            }
            unread.next_qseq = stored.qseq.saturating_add(1);
            if gone(stored.qseq) {
                continue;
            }
            unread.messages = unread.messages.saturating_sub(1);
            let octets = stored.message.body_len() as u64;
            arrived.larger += octets.saturating_sub(unread.body_bytes);
            unread.body_bytes = unread.body_bytes.saturating_sub(octets);
            let returned = file.and_then(|file| file.requeued.get(&stored.qseq)).copied().unwrap_or(0);
            let returns = stored.returns.saturating_add(returned);
            let seen = file.is_some_and(|file| file.redelivered.contains(stored.qseq));
            let redelivered = seen || stored.qseq < hwm || returns > 0;
            let transient = file.is_some_and(|file| file.transient.contains(stored.qseq));
            arrived.read.push(Entry {
                qseq: stored.qseq,
                message: stored.message,
                expires_ms: stored.expires_ms,
                // It does not lie in the log.
                log_floor: u64::MAX,
                returns,
                priority: 0,
                redelivered,
                logged: durable && !transient,
                stored: true,
            });
        }
        let (ended, upto) = (read.at_end || unread.messages == 0, unread.next_qseq);
        if ended {
            // Nothing of it is left, whatever was counted.
            arrived.missing = (unread.messages, unread.body_bytes);
            self.segments.pop_front();
        }
        // What waited for a place among them.
        let limit = match self.segments.front() {
            Some(next) if ended => next.next_qseq,
            _ if ended => u64::MAX,
            _ => upto,
        };
        let later = self.loose.split_off(&limit);
        arrived.between = std::mem::replace(&mut self.loose, later).into_values().collect();
        arrived
    }

    /// The next segment to write out of what waits behind, when nothing is being written.
    pub(super) fn page_out(
        &mut self,
        queue: QueueId,
        pages: &Pages<'_>,
        durable: bool,
        held: u64,
    ) -> Option<PageOut> {
        // A message that is held has a place among those that follow it: they stay until it is settled.
        let first = self.back.front()?;
        let (epoch, last) = pages.of(first.qseq);
        if self.writing || first.qseq <= held || first.stored || first.qseq > last {
            return None;
        }
        let mut octets = 0;
        let fits = |entry: &&Entry| {
            octets += entry.message.memory();
            octets <= SEGMENT_BYTES
        };
        // What is in a segment already stays in memory until it is settled.
        let fresh =
            self.back.iter().take(SEGMENT_MESSAGES).take_while(|entry| !entry.stored && entry.qseq <= last);
        let count = fresh.take_while(fits).count().max(1);
        let messages: Vec<Stored> = self.back.iter().take(count).map(Stored::from).collect();
        self.writing = true;
        Some(PageOut { queue, epoch, durable, messages })
    }

    /// The segment could not be written.
    pub(super) fn write_failed(&mut self) {
        self.writing = false;
    }

    /// The segment is there: its messages leave memory. `None` when they are wanted in memory by now.
    pub(super) fn drop_written(&mut self, page_out: &PageOut) -> Option<Vec<Entry>> {
        if !std::mem::take(&mut self.writing) {
            return None;
        }
        let last = page_out.messages.last()?.qseq;
        let count = self.back.partition_point(|entry| entry.qseq <= last);
        if count != page_out.messages.len() {
            debug_assert!(false, "the back loses messages through its front only");
            return None;
        }
        let rest = self.back.split_off(count);
        let entries: Vec<Entry> = std::mem::replace(&mut self.back, rest).into();
        self.add_unread(
            page_out.first_qseq(),
            last,
            entries.len() as u64,
            entries.iter().map(|entry| entry.message.body_len() as u64).sum(),
        );
        Some(entries)
    }

    /// Another segment behind those that are known.
    pub(super) fn add_unread(&mut self, first_qseq: u64, last_qseq: u64, messages: u64, body_bytes: u64) {
        self.segments.push_back(Unread {
            first_qseq,
            last_qseq,
            next_qseq: first_qseq,
            messages,
            body_bytes,
        });
    }
}

impl From<&Entry> for Stored {
    fn from(entry: &Entry) -> Stored {
        Stored {
            qseq: entry.qseq,
            message: Arc::clone(&entry.message),
            expires_ms: entry.expires_ms,
            returns: entry.returns,
        }
    }
}
