//! Folds the log's records into what each queue holds.
//!
//! Feed [`LiveSet::apply`] with every record of the log in order. Records may come again: a message
//! that was written a second time further on (so that the file with its first copy could be released)
//! has the same identity and only moves; [`Record::QOpen`] only raises counters. What a record says
//! about a queue that was closed is ignored.
//!
//! [`Record::SegAdd`] says that every message of its range that is live at that point of the log is in
//! the segment. Messages that were dropped while the segment was being written must therefore be
//! dropped again behind it (in the same append): the segment holds them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use broker_core::message::{self, MessageView};
use broker_core::queue::Queue;
use broker_core::queue::origins::Origins;
use broker_core::queue::paged::RestoredSegment;
pub use broker_core::record::QseqSet;
use broker_core::record::{At, Enq, Message, PubRef, QseqRange, Record, SegmentRecords, Target};
use broker_core::repl::EpochTable;
use bytes::Bytes;

use crate::Lsn;
use crate::segment::{MOST_MESSAGES, SegmentMeta};

pub(crate) mod fuzz;

/// A message that is still in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMessage {
    /// Position in the queue.
    pub qseq: u64,
    /// The epoch in which it was enqueued; with `qseq` its identity.
    pub epoch: u32,
    /// Number of its record in that epoch's stream.
    pub off: u64,
    /// Where its newest copy stands in the log.
    pub lsn: Lsn,
    /// When it entered the queue, milliseconds since 1970.
    pub enq_ms: u64,
    /// When it expires, milliseconds since 1970.
    pub expiry_ms: Option<u64>,
    /// Its priority, if it has one.
    pub priority: Option<u8>,
    /// Who published it.
    pub pub_ref: Option<PubRef>,
    /// How often it was returned, where that is counted.
    pub delivery_count: u32,
    /// The exchange it was published to.
    pub exchange: Arc<str>,
    /// The routing key it was published with.
    pub routing_key: Arc<str>,
    /// The properties as on the wire.
    pub properties: Bytes,
    /// The body; targets of one fan-out share it.
    pub body: Bytes,
    /// It may have been sent to a consumer before (its `qseq` is below the queue's `hwm`).
    pub redelivered: bool,
}

impl LiveMessage {
    /// Puts the message back into its queue; see [`Queue::restore`].
    pub fn restore<H>(&self, queue: &mut Queue<H>) {
        let view = MessageView {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            properties: &self.properties,
            body: &self.body,
        };
        let message = Arc::new(message::Message::copy_from(&view, true));
        let (priority, expires_ms) = (self.priority.unwrap_or(0), self.expiry_ms.unwrap_or(0));
        let log_floor = self.lsn.saturating_sub(1);
        queue.restore(self.qseq, message, priority, expires_ms, self.delivery_count, log_floor);
    }
}

/// What a queue holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueImage {
    /// The queue's number.
    pub queue_id: u64,
    /// The highest epoch known.
    pub epoch: u32,
    /// The next record's number in that epoch's stream.
    pub next_off: u64,
    /// The next message's position.
    pub next_qseq: u64,
    /// Messages below it may have been delivered.
    pub hwm: u64,
    /// Who leads the queue, by its newest [`Record::Epoch`].
    pub leader: Option<u64>,
    /// The live messages by `qseq`.
    pub messages: BTreeMap<u64, LiveMessage>,
    /// Segment files by their first `qseq`.
    pub segments: BTreeMap<u64, SegmentNote>,
    /// Which publishes of other nodes it took, as far as the log still says so.
    pub origins: Origins,
}

/// A segment file, as [`Record::SegAdd`] described it, and what happened to its messages since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentNote {
    /// The last message in it.
    pub last_qseq: u64,
    /// Its description.
    pub meta: Box<[u8]>,
    /// Messages dropped after it was added. Together with its bitmap: what is gone.
    pub dropped: QseqSet,
    /// Messages that were returned after it was added, and how often, where that is counted.
    pub requeued: BTreeMap<u64, u32>,
    /// The epoch in which its messages were published.
    pub epoch: u32,
}

impl SegmentNote {
    /// The segment as its queue takes it back; `known` is its description, decoded.
    #[must_use]
    pub fn restored(self, known: &SegmentMeta) -> RestoredSegment {
        RestoredSegment {
            first_qseq: known.first_qseq,
            last_qseq: self.last_qseq,
            messages: u64::from(known.messages),
            body_bytes: known.body_bytes,
            meta: self.meta,
            dropped: self.dropped,
            requeued: self.requeued,
            epoch: self.epoch,
        }
    }
}

impl QueueImage {
    /// The record that keeps this queue's counters when older records are released. Its segments need
    /// [`QueueImage::segment_records`] too.
    #[must_use]
    pub fn state_record(&self) -> Record<'static> {
        Record::QOpen {
            at: At { queue_id: self.queue_id, epoch: self.epoch, off: self.next_off },
            next_qseq: self.next_qseq,
            hwm: self.hwm,
        }
    }

    /// The records that keep this queue's segments when older records are released.
    pub fn segment_records(&self, mut visitor: impl FnMut(Record<'_>)) {
        for (&first_qseq, note) in &self.segments {
            let SegmentNote { last_qseq, meta, dropped, requeued, epoch } = note;
            let at = At { queue_id: self.queue_id, epoch: *epoch, off: self.next_off };
            let (last_qseq, gone) = (*last_qseq, &[dropped]);
            SegmentRecords { at, first_qseq, last_qseq, meta, gone, requeued }.visit(&mut visitor);
        }
    }

    /// Which positions were given out in which epoch, as far as something is left of it; the epoch that is known last
    /// goes on from the next position.
    #[must_use]
    pub fn epochs(&self) -> EpochTable {
        let mut last = None;
        let messages = self.messages.values().map(|message| (message.qseq, message.epoch));
        let messages = messages.filter(|(_, epoch)| last.replace(*epoch) != Some(*epoch));
        let segments = self.segments.iter().map(|(first, note)| (*first, note.epoch));
        let mut all: Vec<(u64, u32)> = messages.chain(segments).collect();
        all.sort_unstable();
        let mut table = EpochTable::default();
        for (qseq, epoch) in all {
            if table.is_empty() {
                table = EpochTable::starting(epoch);
            } else if epoch > table.of(qseq) {
                table.begin(qseq, epoch);
            }
        }
        let epoch = self.epoch.max(1);
        if table.is_empty() {
            table = EpochTable::starting(epoch);
        } else if epoch > table.of(u64::MAX) {
            table.begin(self.next_qseq, epoch);
        }
        table
    }

    fn see_epoch(&mut self, epoch: u32, next_off: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.next_off = next_off;
        } else if epoch == self.epoch {
            self.next_off = self.next_off.max(next_off);
        }
    }

    fn see(&mut self, at: &At) {
        self.see_epoch(at.epoch, at.off.saturating_add(1));
    }

    /// The segments that hold a part of this range, and that part.
    fn segments_in(&mut self, range: QseqRange) -> impl Iterator<Item = (&mut SegmentNote, QseqRange)> {
        // Segments do not overlap, so only the one that starts before the range may reach into it.
        let before = self.segments.range(..range.first).next_back().map(|(&first, _)| first);
        self.segments
            .range_mut(before.unwrap_or(range.first)..=range.last)
            .filter(move |(_, note)| note.last_qseq >= range.first)
            .map(move |(&first, note)| {
                let part = QseqRange { first: first.max(range.first), last: note.last_qseq.min(range.last) };
                (note, part)
            })
    }

    /// The live messages of this range are in a segment now.
    fn page_out(&mut self, epoch: u32, first_qseq: u64, last_qseq: u64, meta: &[u8]) {
        if first_qseq > last_qseq {
            return;
        }
        match self.segments.get_mut(&first_qseq) {
            // Written again further on; what happened to its messages since stays.
            Some(known) => (known.last_qseq, known.meta) = (last_qseq, meta.into()),
            None => {
                let note = SegmentNote {
                    last_qseq,
                    meta: meta.into(),
                    dropped: QseqSet::default(),
                    requeued: BTreeMap::new(),
                    epoch,
                };
                self.segments.insert(first_qseq, note);
            }
        }
        self.forget(QseqRange { first: first_qseq, last: last_qseq });
        self.next_qseq = self.next_qseq.max(last_qseq.saturating_add(1));
    }

    fn drop_range(&mut self, range: QseqRange) {
        self.forget(range);
        for (note, part) in self.segments_in(range) {
            note.dropped.insert(part);
            note.requeued.retain(|qseq, _| !(part.first..=part.last).contains(qseq));
        }
        if let Some(next) = range.last.checked_add(1) {
            self.next_qseq = self.next_qseq.max(next);
        }
    }

    fn forget(&mut self, range: QseqRange) {
        // A range is as wide as its writer liked; what is there bounds the work.
        if range.last - range.first < 16 {
            for qseq in range.first..=range.last {
                self.messages.remove(&qseq);
            }
        } else {
            let gone: Vec<u64> =
                self.messages.range(range.first..=range.last).map(|(&qseq, _)| qseq).collect();
            for qseq in gone {
                self.messages.remove(&qseq);
            }
        }
    }

    fn requeue_range(&mut self, range: QseqRange, delta: u32) {
        for (_, message) in self.messages.range_mut(range.first..=range.last) {
            message.delivery_count = message.delivery_count.saturating_add(delta);
        }
        for (note, part) in self.segments_in(range) {
            // A segment's message count bounds a range that is taken seriously.
            for qseq in part.first..=part.last.min(part.first.saturating_add(MOST_MESSAGES as u64)) {
                let count = note.requeued.entry(qseq).or_default();
                *count = count.saturating_add(delta);
            }
        }
    }
}

/// Builds the image of every queue from the records of the log.
#[derive(Debug, Default)]
pub struct LiveSet {
    queues: HashMap<u64, QueueImage>,
    closed: HashSet<u64>,
    names: Names,
}

impl LiveSet {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record of the log.
    pub fn apply(&mut self, lsn: Lsn, record: Record<'_>) {
        match record {
            Record::Enq(enq) => {
                let Enq { queue_id, epoch, off, qseq, ref message } = enq;
                let target = Target { queue_id, epoch, off, qseq };
                self.enqueue(lsn, target, message, None);
            }
            Record::EnqMulti { targets, ref message } => {
                let mut shared = None;
                for target in &targets {
                    self.enqueue(lsn, target, message, Some(&mut shared));
                }
            }
            Record::Drop { at, ranges, .. } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see(&at);
                    ranges.iter().for_each(|range| queue.drop_range(range));
                }
            }
            Record::Requeue { at, delivery_count_delta, ranges } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see(&at);
                    ranges.iter().for_each(|range| queue.requeue_range(range, delivery_count_delta));
                }
            }
            Record::Hwm { at, hwm } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see(&at);
                    queue.hwm = queue.hwm.max(hwm);
                }
            }
            Record::Epoch { at, leader } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    if at.epoch >= queue.epoch {
                        queue.leader = Some(leader);
                    }
                    queue.see_epoch(at.epoch, at.off);
                }
            }
            Record::QOpen { at, next_qseq, hwm } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see_epoch(at.epoch, at.off);
                    queue.next_qseq = queue.next_qseq.max(next_qseq);
                    queue.hwm = queue.hwm.max(hwm);
                }
            }
            Record::Taken { at, origins } => {
                // One that can not be read says nothing.
                if let (Some(queue), Some(origins)) = (self.queue(at.queue_id), Origins::decode(origins)) {
                    queue.see(&at);
                    queue.origins = origins;
                }
            }
            Record::QClose { at } => {
                self.queues.remove(&at.queue_id);
                self.closed.insert(at.queue_id);
            }
            Record::SegAdd { at, first_qseq, last_qseq, meta } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see(&at);
                    queue.page_out(at.epoch, first_qseq, last_qseq, meta);
                }
            }
            Record::SegDel { at, first_qseq } => {
                if let Some(queue) = self.queue(at.queue_id) {
                    queue.see(&at);
                    queue.segments.remove(&first_qseq);
                }
            }
            Record::Ckpt { .. } => {}
        }
    }

    /// What every queue holds, by ascending queue number; messages that may have been delivered are
    /// marked.
    #[must_use]
    pub fn finish(self) -> Vec<QueueImage> {
        let mut queues: Vec<QueueImage> = self.queues.into_values().collect();
        queues.sort_unstable_by_key(|queue| queue.queue_id);
        for queue in &mut queues {
            for (_, message) in queue.messages.range_mut(..queue.hwm) {
                message.redelivered = true;
            }
        }
        queues
    }

    fn queue(&mut self, queue_id: u64) -> Option<&mut QueueImage> {
        queue_in(&mut self.queues, &self.closed, queue_id)
    }

    /// `shared` keeps the message's properties and body between the targets of a fan-out.
    fn enqueue(
        &mut self,
        lsn: Lsn,
        target: Target,
        message: &Message<'_>,
        shared: Option<&mut Option<(Bytes, Bytes)>>,
    ) {
        let Target { queue_id, epoch, off, qseq } = target;
        let Some(queue) = queue_in(&mut self.queues, &self.closed, queue_id) else { return };
        queue.see(&At { queue_id, epoch, off });
        let is_new = qseq >= queue.next_qseq;
        queue.next_qseq = queue.next_qseq.max(qseq.saturating_add(1));
        if let Some(reference) = message.pub_ref {
            queue.origins.note(reference);
        }
        match if is_new { None } else { queue.messages.get_mut(&qseq) } {
            Some(known) if known.epoch == epoch => {
                known.lsn = lsn;
                known.delivery_count = message.delivery_count;
                return;
            }
            // Two leaders may have used the same position; the later one knows better.
            Some(known) if known.epoch > epoch => return,
            _ => {}
        }
        let copy = || (Bytes::copy_from_slice(message.properties), Bytes::copy_from_slice(message.body));
        // Only a fan-out pays for sharing.
        let (properties, body) = match shared {
            Some(shared) => shared.get_or_insert_with(copy).clone(),
            None => copy(),
        };
        let live = LiveMessage {
            qseq,
            epoch,
            off,
            lsn,
            enq_ms: message.enq_ms,
            expiry_ms: message.expiry_ms,
            priority: message.priority,
            pub_ref: message.pub_ref,
            delivery_count: message.delivery_count,
            exchange: self.names.exchange.get(message.exchange),
            routing_key: self.names.routing_key.get(message.routing_key),
            properties,
            body,
            redelivered: false,
        };
        queue.messages.insert(qseq, live);
    }
}

fn queue_in<'a>(
    queues: &'a mut HashMap<u64, QueueImage>,
    closed: &HashSet<u64>,
    queue_id: u64,
) -> Option<&'a mut QueueImage> {
    if !closed.is_empty() && closed.contains(&queue_id) {
        return None;
    }
    Some(queues.entry(queue_id).or_insert_with(|| QueueImage { queue_id, ..QueueImage::default() }))
}

/// Exchange names and routing keys repeat; each is kept once.
#[derive(Debug, Default)]
struct Names {
    exchange: Interned,
    routing_key: Interned,
}

#[derive(Debug, Default)]
struct Interned {
    /// The one asked for last, which is the most likely one.
    last: Option<Arc<str>>,
    known: HashSet<Arc<str>>,
}

impl Interned {
    /// Forget them all beyond this many: routing keys may all differ.
    const MOST: usize = 4096;

    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| &***last == name) {
            return Arc::clone(last);
        }
        let name = match self.known.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                if self.known.len() >= Self::MOST {
                    self.known.clear();
                }
                let name: Arc<str> = name.into();
                self.known.insert(Arc::clone(&name));
                name
            }
        };
        self.last = Some(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests;
