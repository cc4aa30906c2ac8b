//! What an operator does with the messages of a queue: look at them without taking them, take single ones out to put
//! them elsewhere, hold consumers back.

use super::log::Ranges;
use super::paged::{Stored, Window};
use super::{Amount, Effects, Entry, Queue};
use crate::message::Message;
use crate::record::DropReason;
use crate::repl::MidSet;
use std::sync::Arc;

/// Messages asked of a segment at a time.
const WINDOW_MESSAGES: usize = 4096;
/// Octets asked of a segment at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// A ready message that was looked at.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// Its place in the queue.
    pub qseq: u64,
    /// The message.
    pub message: Arc<Message>,
    /// Whether a consumer may have seen it.
    pub redelivered: bool,
    /// Absolute expiry in milliseconds since the epoch, 0 for never.
    pub expires_ms: u64,
    /// Messages in front of it.
    pub ahead: u64,
}

/// How much a look at a queue may bring.
#[derive(Clone, Copy, Debug)]
pub struct PeekLimit {
    /// Messages to pass over first.
    pub offset: u64,
    /// Messages.
    pub count: usize,
    /// Octets of bodies; the message that goes beyond is the last.
    pub bytes: usize,
}

/// What a look has found so far.
struct Look {
    limit: PeekLimit,
    /// Messages passed, shown or not.
    place: u64,
    bytes: usize,
    found: Vec<Peeked>,
}

impl Look {
    fn is_over(&self) -> bool {
        self.found.len() >= self.limit.count || self.bytes >= self.limit.bytes
    }

    /// Passes a message; shows it if it is among those that are wanted.
    fn pass(&mut self, peeked: impl FnOnce(u64) -> Peeked) {
        if self.place >= self.limit.offset && !self.is_over() {
            let peeked = peeked(self.place);
            self.bytes += peeked.message.body_len();
            self.found.push(peeked);
        }
        self.place += 1;
    }
}

impl Peeked {
    fn of(entry: &Entry, ahead: u64) -> Peeked {
        Peeked {
            qseq: entry.qseq,
            message: Arc::clone(&entry.message),
            redelivered: entry.redelivered,
            expires_ms: entry.expires_ms,
            ahead,
        }
    }
}

impl<H> Queue<H> {
    /// The ready messages from the head on, in the order in which they would go out. Nothing changes: not their
    /// order, not what is known of deliveries, no counter.
    pub fn peek<E: Effects<Handle = H>>(&mut self, limit: PeekLimit, fx: &mut E) -> Vec<Peeked> {
        let mut look = Look { limit, place: 0, bytes: 0, found: Vec::new() };
        for entry in self.ready.levels() {
            if look.is_over() {
                break;
            }
            look.pass(|ahead| Peeked::of(entry, ahead));
        }
        self.peek_segments(&mut look, fx);
        for entry in self.ready.back() {
            if look.is_over() {
                break;
            }
            look.pass(|ahead| Peeked::of(entry, ahead));
        }
        look.found
    }

    /// The same for what lies in segments: read, but left where it is.
    fn peek_segments<E: Effects<Handle = H>>(&mut self, look: &mut Look, fx: &mut E) {
        for unread in self.ready.unread() {
            if look.place + unread.messages <= look.limit.offset {
                look.place += unread.messages;
                continue;
            }
            let mut from = unread.range.first;
            while from <= unread.range.last && !look.is_over() {
                let window = Window {
                    queue: self.id,
                    segment: unread.segment,
                    from,
                    messages: WINDOW_MESSAGES,
                    bytes: WINDOW_BYTES,
                    durable: self.durable,
                };
                let Some(read) = fx.read_now(&window) else { return };
                let Some(last) = read.messages.last().map(|stored| stored.qseq) else { break };
                for stored in read.messages {
                    if stored.qseq >= from && self.is_live(unread.segment, stored.qseq) {
                        look.pass(|ahead| self.peeked(unread.segment, stored, ahead));
                    }
                }
                if read.at_end {
                    break;
                }
                from = last.saturating_add(1);
            }
        }
    }

    /// Visits these messages, as far as they lie in segments only; they stay there. `false` when some can not be read.
    pub(super) fn read_stored<E: Effects<Handle = H>>(
        &self,
        wanted: &MidSet,
        fx: &mut E,
        mut visitor: impl FnMut(&Stored),
    ) -> bool {
        for range in wanted.ranges() {
            let mut from = range.first;
            while from <= range.last {
                let around = self.files.range(..=from).next_back().filter(|(_, file)| file.last_qseq >= from);
                let Some((&segment, file)) = around.or_else(|| self.files.range(from..=range.last).next())
                else {
                    break;
                };
                from = from.max(segment);
                let (messages, bytes, queue) = (WINDOW_MESSAGES, WINDOW_BYTES, self.id);
                let window = Window { queue, segment, from, messages, bytes, durable: self.durable };
                let Some(read) = fx.read_now(&window) else { return false };
                let last = read.messages.last().map(|stored| stored.qseq);
                let inside = |stored: &&Stored| stored.qseq >= from && stored.qseq <= range.last;
                read.messages
                    .iter()
                    .filter(inside)
                    .filter(|stored| self.is_live(segment, stored.qseq))
                    .for_each(&mut visitor);
                from = match last {
                    Some(last) if !read.at_end => last.saturating_add(1),
                    _ => file.last_qseq.saturating_add(1),
                };
            }
        }
        true
    }

    fn is_live(&self, segment: u64, qseq: u64) -> bool {
        self.files.get(&segment).is_some_and(|file| !file.dropped.contains(qseq))
    }

    fn peeked(&self, segment: u64, stored: Stored, ahead: u64) -> Peeked {
        let seen = self.files.get(&segment).is_some_and(|file| {
            file.redelivered.contains(stored.qseq) || file.requeued.contains_key(&stored.qseq)
        });
        Peeked {
            qseq: stored.qseq,
            message: stored.message,
            redelivered: seen || stored.returns > 0 || stored.qseq < self.restored_hwm,
            expires_ms: stored.expires_ms,
            ahead,
        }
    }

    /// Brings the first ready messages into memory, at least so many, where [`Queue::take`] finds them; fewer when
    /// they can not be read.
    pub fn load<E: Effects<Handle = H>>(&mut self, now: u64, count: usize, fx: &mut E) {
        while self.ready.in_front() < count && self.read_now(now, fx) {}
    }

    /// Takes a ready message out: it is elsewhere now, and the log hears that it left. `false` when it is not ready,
    /// or not in memory.
    pub fn take<E: Effects<Handle = H>>(&mut self, now: u64, qseq: u64, fx: &mut E) -> bool {
        let Some(entry) = self.ready.remove(qseq) else { return false };
        let mut gone = Ranges::default();
        if entry.logged {
            gone.add(qseq);
            self.log_drop(DropReason::DeadLettered, &gone.0, fx);
        }
        if entry.stored {
            self.stored_gone(qseq, fx);
        }
        self.expire_head(now, fx);
        true
    }

    /// The persistent messages, ready or held.
    pub fn persistent(&self) -> Amount {
        let ready = self.ready.persistent();
        let held = self.held_persistent;
        Amount { messages: ready.messages + held.messages, bytes: ready.bytes + held.bytes }
    }

    /// The ready messages that lie in segments only.
    pub fn stored_only(&self) -> Amount {
        self.ready.paged_out()
    }

    /// The message that would go out next, if it is in memory.
    pub fn head(&self) -> Option<&Arc<Message>> {
        self.ready.front().map(|entry| &entry.message)
    }

    /// Messages that ever came to this queue.
    pub fn ever(&self) -> u64 {
        self.next_qseq - 1
    }

    /// Whether a message with a body of this size would be refused now (`x-overflow: reject-publish`).
    pub fn refuses(&self, body_len: usize) -> bool {
        self.config.overflow != super::Overflow::DropHead && self.would_overflow(body_len)
    }

    /// Whether consumers get nothing until the queue is resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Holds consumers back, or lets them go on. Publishing and fetching go on in any case.
    pub fn set_paused<E: Effects<Handle = H>>(&mut self, now: u64, paused: bool, fx: &mut E) {
        self.paused = paused;
        self.drain(now, fx);
    }
}
