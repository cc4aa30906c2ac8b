//! A queue with copies on other nodes: it knows the epochs of its messages, and may be such a copy itself.
//!
//! A copy holds what its leader holds and hands out nothing: it takes records from the leader's log, in order, and
//! messages from before it began. What makes messages leave (consumers, expiry, limits) happens at the leader; here they
//! leave when it says so. With a new epoch a copy becomes the leader, or a leader a copy.

use super::log::{enqueue_record, entry_record};
use super::origins::Origins;
use super::ready::Entry;
use super::{Effects, Queue};
use crate::message::Message;
use crate::record::{At, DropReason, Enq, QseqRange, QseqSet, Record};
use crate::repl::{EpochTable, Fresh, MidSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Ranges up to this long are looked up message by message.
const SHORT_RANGE: u64 = 1024;

/// What a queue has to know that was led in more than one epoch.
#[derive(Debug)]
pub(super) struct Mirror {
    epochs: EpochTable,
    /// The queue is led elsewhere.
    is_copy: bool,
    /// The lowest position that a copy lacks: from there on nothing is written into segments, whose positions ascend.
    lowest_missing: u64,
    /// Messages that came after the segment around them was written.
    strays: BTreeSet<u64>,
}

impl Mirror {
    fn new(epochs: EpochTable) -> Self {
        Mirror { epochs, is_copy: false, lowest_missing: u64::MAX, strays: BTreeSet::new() }
    }

    pub(super) fn epoch_of(&self, qseq: u64) -> u32 {
        self.epochs.of(qseq)
    }

    /// The epoch of the message at this position, and the last position that may follow it in one segment.
    pub(super) fn page(&self, qseq: u64) -> (u32, u64) {
        (self.epochs.of(qseq), self.epochs.last_of_epoch(qseq).min(self.lowest_missing.saturating_sub(1)))
    }
}

impl<H> Queue<H> {
    /// Whether the queue is led elsewhere.
    pub fn is_copy(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| mirror.is_copy)
    }

    /// Another node is about to lead the queue: nothing leaves it by itself any more. What clients say of messages that
    /// they have counts all the same, because it may come to nothing.
    pub fn hold_back(&mut self) {
        self.held_back = true;
    }

    /// Whether another node is about to lead the queue.
    pub fn is_held_back(&self) -> bool {
        self.held_back
    }

    /// No other node leads a queue that was held back: this one does, as before.
    pub fn go_on<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.held_back = false;
        self.trim(fx);
        self.drain(now, fx);
        self.rearm(now, fx);
    }

    /// Whether nothing leaves the queue by itself: nobody gets anything, nothing expires, and no limit counts.
    pub(super) fn rests(&self) -> bool {
        self.held_back || self.is_copy()
    }

    /// Sets what recovery knows of the epochs of messages. Call after [`Queue::restore_positions`].
    pub fn restore_epochs(&mut self, epochs: EpochTable) {
        if epochs.len() > 1 || epochs.of(u64::MAX) != self.epoch {
            self.mirror = Some(Box::new(Mirror::new(epochs)));
        }
    }

    /// The messages that are in the log: what copies have, or should have.
    pub fn live(&self) -> MidSet {
        let mut positions = QseqSet::default();
        let in_memory = self.ready.levels().chain(self.ready.back());
        let held = self.held.values().map(|held| &held.entry);
        for entry in in_memory.chain(held).filter(|entry| entry.logged && !entry.stored) {
            positions.insert(QseqRange::one(entry.qseq));
        }
        for (&first, file) in self.files.iter().filter(|_| self.durable) {
            let mut stored = QseqSet::default();
            stored.insert(QseqRange { first, last: file.last_qseq });
            file.dropped.ranges().chain(file.transient.ranges()).for_each(|gone| stored.remove(gone));
            stored.ranges().for_each(|range| positions.insert(range));
        }
        match &self.mirror {
            Some(mirror) => MidSet::at(&positions, &mirror.epochs),
            None => MidSet::at(&positions, &EpochTable::starting(self.epoch)),
        }
    }

    /// What a copy has to know beside the messages.
    pub fn fresh(&self) -> Fresh {
        let epochs = match &self.mirror {
            Some(mirror) => mirror.epochs.clone(),
            None => EpochTable::starting(self.epoch),
        };
        let origins = self.origins.as_deref().cloned().unwrap_or_default();
        Fresh { epochs, next_qseq: self.next_qseq, hwm: self.hwm, origins }
    }

    /// The queue is led in this epoch by another node, or not at all. What was handed out is back in its place; whoever
    /// consumes has been told, or is told now.
    pub fn follow<E: Effects<Handle = H>>(&mut self, epoch: u32, leader: u64, fx: &mut E) {
        self.enter(epoch, leader, fx);
        self.held_back = false;
        self.mirror().is_copy = true;
        let back: Vec<Entry> = self.held.drain().map(|(_, held)| held.entry).collect();
        (self.held_bytes, self.held_logged_bytes, self.held_persistent) = Default::default();
        self.ready.put_back(back);
    }

    /// This node leads the queue in this epoch. With `unsure`, whoever led it before may have handed out anything that
    /// is here. A node that led it already goes on: who consumes notices nothing.
    pub fn lead<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        epoch: u32,
        leader: u64,
        unsure: bool,
        fx: &mut E,
    ) {
        self.enter(epoch, leader, fx);
        self.held_back = false;
        let next_qseq = self.next_qseq;
        let mirror = self.mirror();
        mirror.epochs.begin(next_qseq, epoch);
        mirror.lowest_missing = u64::MAX;
        if std::mem::take(&mut mirror.is_copy) {
            // What was handed out before is not known here any more.
            self.led_since = epoch;
            if unsure && self.hwm < next_qseq && self.durable {
                self.hwm = next_qseq;
                let (at, hwm) = (self.at(), self.hwm);
                fx.log(&Record::Hwm { at, hwm });
            }
            self.restored_hwm = self.hwm.min(next_qseq);
            let seen = self.restored_hwm;
            for entry in self.ready.iter_mut().filter(|entry| entry.logged && entry.qseq < seen) {
                entry.redelivered = true;
            }
        }
        self.touch(now, fx);
        self.trim(fx);
        self.drain(now, fx);
        self.rearm(now, fx);
    }

    /// Deletes what the leader does not have, and takes its counters.
    pub fn reconcile<E: Effects<Handle = H>>(&mut self, delete: &MidSet, fresh: &Fresh, fx: &mut E) {
        let gone: Vec<QseqRange> =
            delete.ranges().map(|range| QseqRange { first: range.first, last: range.last }).collect();
        if !gone.is_empty() {
            self.log_drop(DropReason::DeadLettered, &gone, fx);
            gone.iter().for_each(|range| self.remove_range(*range, fx));
        }
        // Positions that only a leader before this one gave out are given out again.
        self.next_qseq = fresh.next_qseq.max(1);
        self.hwm = self.hwm.max(fresh.hwm);
        self.mirror().epochs = fresh.epochs.clone();
        let (at, next_qseq, hwm) = (self.at(), self.next_qseq, self.hwm);
        fx.log(&Record::QOpen { at, next_qseq, hwm });
        // What only a leader before this one took is not taken: it comes again, and has to be taken then.
        let known = self.origins.is_some();
        self.restore_origins(fresh.origins.clone());
        if known && self.origins.is_none() {
            let (at, origins) = (self.at(), Origins::default().encode());
            fx.log(&Record::Taken { at, origins: &origins });
        }
        self.log_origins(fx);
    }

    /// Takes a record of the leader's log.
    pub fn apply<E: Effects<Handle = H>>(&mut self, now: u64, record: &Record<'_>, fx: &mut E) {
        match record {
            Record::Enq(enq) => {
                let entry = self.entry(enq, fx);
                fx.log(record);
                self.mirror_epoch(enq);
                if let Some(reference) = enq.message.pub_ref {
                    self.note_origin(reference);
                }
                if enq.qseq >= self.next_qseq {
                    self.next_qseq = enq.qseq.saturating_add(1);
                    self.ready.push_back(entry);
                } else {
                    self.put_at(entry);
                }
                self.page_if_large(now, fx);
            }
            Record::Drop { ranges, .. } => {
                fx.log(record);
                ranges.iter().for_each(|range| self.remove_range(range, fx));
            }
            Record::Requeue { delivery_count_delta, ranges, .. } => {
                fx.log(record);
                for range in ranges {
                    (range.first..=range.last.min(range.first.saturating_add(SHORT_RANGE)))
                        .for_each(|qseq| self.returned(qseq, *delivery_count_delta));
                }
            }
            Record::Hwm { hwm, .. } => {
                fx.log(record);
                self.hwm = self.hwm.max(*hwm);
            }
            // What a node does with its own files is its own affair.
            _ => {}
        }
    }

    /// Takes a message from before the copy began.
    pub fn fill<E: Effects<Handle = H>>(&mut self, now: u64, enq: &Enq<'_>, fx: &mut E) {
        fx.log(&Record::Enq(*enq));
        let entry = self.entry(enq, fx);
        if let Some(reference) = enq.message.pub_ref {
            self.note_origin(reference);
        }
        self.put_at(entry);
        self.page_if_large(now, fx);
    }

    /// The copy is wanted here no more: everything in it goes. Unlike a deleted queue, it may come back.
    pub fn vacate<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        let (all, fresh) = (self.live(), self.fresh());
        self.mirror().is_copy = true;
        self.reconcile(&all, &fresh, fx);
    }

    /// Whether other nodes have copies. Then one of them may lead the queue without this node's knowing
    /// ([`Effects::may_be_deposed`]).
    pub fn set_has_copies(&mut self, has_copies: bool) {
        self.has_copies = has_copies;
    }

    /// Whether publishes are refused because too few copies are in sync.
    pub fn set_short_of_copies(&mut self, short: bool) {
        self.short_of_copies = short;
    }

    /// From which position on a copy lacks something.
    pub fn set_lowest_missing(&mut self, lowest: Option<u64>) {
        self.mirror().lowest_missing = lowest.unwrap_or(u64::MAX);
    }

    /// The records of messages that a copy lacks and that are still here: `visitor` gets them, oldest first.
    pub fn read_missing<E: Effects<Handle = H>>(
        &self,
        now: u64,
        wanted: &MidSet,
        fx: &mut E,
        mut visitor: impl FnMut(&Record<'_>),
    ) -> bool {
        let held = self.held.values().map(|held| &held.entry);
        let in_memory = self.ready.levels().chain(self.ready.back()).chain(held);
        let epoch_of = |qseq| self.mirror.as_ref().map_or(self.epoch, |mirror| mirror.epoch_of(qseq));
        let at = |qseq| At { queue_id: self.id.0, epoch: epoch_of(qseq), off: 0 };
        let mut left = wanted.clone();
        let (mut first, mut last) = (u64::MAX, 0);
        for range in wanted.ranges() {
            (first, last) = (first.min(range.first), last.max(range.last));
        }
        let is_wanted = |entry: &&Entry| {
            (first..=last).contains(&entry.qseq)
                && entry.logged
                && wanted.contains(epoch_of(entry.qseq), entry.qseq)
        };
        for entry in in_memory.filter(is_wanted) {
            left.remove_positions(QseqRange::one(entry.qseq));
            visitor(&entry_record(at(entry.qseq), now, entry));
        }
        self.read_stored(&left, fx, |stored| {
            let (returns, view) = (stored.returns, stored.message.view());
            visitor(&enqueue_record(at(stored.qseq), now, stored.qseq, stored.expires_ms, 0, returns, view));
        })
    }

    /// Appends again the messages that came after the segment around them was written. Call after
    /// [`Queue::log_open`] where old records are to be released: what that says of segments covers their positions.
    pub fn log_strays<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        let Some(mirror) = self.mirror.as_mut().filter(|mirror| !mirror.strays.is_empty()) else { return };
        let strays = std::mem::take(&mut mirror.strays);
        let (queue_id, epochs) = (self.id.0, mirror.epochs.clone());
        let held = self.held.values_mut().map(|held| &mut held.entry);
        let mut left = BTreeSet::new();
        for entry in self.ready.iter_mut().chain(held).filter(|entry| strays.contains(&entry.qseq)) {
            left.insert(entry.qseq);
            entry.log_floor = fx.log_floor();
            let at = At { queue_id, epoch: epochs.of(entry.qseq), off: 0 };
            fx.log(&entry_record(at, now, entry));
        }
        self.mirror().strays = left;
    }

    /// A new epoch: the durable fence, and what is published from now on belongs to it.
    fn enter<E: Effects<Handle = H>>(&mut self, epoch: u32, leader: u64, fx: &mut E) {
        self.mirror();
        if epoch <= self.epoch {
            return;
        }
        (self.epoch, self.next_off) = (epoch, 0);
        if self.durable {
            let at = At { queue_id: self.id.0, epoch, off: 0 };
            fx.log(&Record::Epoch { at, leader });
        }
    }

    fn mirror(&mut self) -> &mut Mirror {
        let epoch = self.epoch;
        self.mirror.get_or_insert_with(|| Box::new(Mirror::new(EpochTable::starting(epoch))))
    }

    fn mirror_epoch(&mut self, enq: &Enq<'_>) {
        let mirror = self.mirror();
        if mirror.epoch_of(enq.qseq) < enq.epoch {
            mirror.epochs.begin(enq.qseq, enq.epoch);
        }
    }

    fn entry<E: Effects<Handle = H>>(&self, enq: &Enq<'_>, fx: &E) -> Entry {
        let message = &enq.message;
        Entry {
            qseq: enq.qseq,
            message: Arc::new(Message::copy_from(&message.view(), true)),
            expires_ms: message.expiry_ms.unwrap_or(0),
            log_floor: fx.log_floor(),
            returns: message.delivery_count,
            priority: message.priority.unwrap_or(0),
            redelivered: message.delivery_count > 0,
            logged: true,
            stored: false,
        }
    }

    /// Puts a message into its place, which may be among older ones.
    fn put_at(&mut self, entry: Entry) {
        let around = self.files.range(..=entry.qseq).next_back();
        if around.is_some_and(|(_, file)| entry.qseq <= file.last_qseq) {
            self.mirror().strays.insert(entry.qseq);
        }
        self.ready.put_back(vec![entry]);
    }

    fn returned(&mut self, qseq: u64, times: u32) {
        let around = self.files.range_mut(..=qseq).next_back();
        if let Some((_, file)) =
            around.filter(|(_, file)| qseq <= file.last_qseq && !file.dropped.contains(qseq))
        {
            *file.requeued.entry(qseq).or_default() += times;
        }
        if let Some(mut entry) = self.ready.remove(qseq) {
            entry.returns = entry.returns.saturating_add(times);
            entry.redelivered = true;
            self.ready.put_back(vec![entry]);
        }
    }

    fn remove_range<E: Effects<Handle = H>>(&mut self, range: QseqRange, fx: &mut E) {
        if range.last - range.first < SHORT_RANGE {
            return (range.first..=range.last).for_each(|qseq| self.remove_one(qseq, fx));
        }
        let inside = |qseq: &u64| (range.first..=range.last).contains(qseq);
        let in_memory = self.ready.levels().chain(self.ready.back()).map(|entry| entry.qseq);
        let mut gone: Vec<u64> = in_memory.filter(inside).collect();
        for (&first, file) in self.files.range(..=range.last) {
            let (from, upto) = (first.max(range.first), file.last_qseq.min(range.last));
            gone.extend((from..=upto).filter(|qseq| !file.dropped.contains(*qseq)));
        }
        gone.sort_unstable();
        gone.dedup();
        gone.into_iter().for_each(|qseq| self.remove_one(qseq, fx));
    }

    /// A message left at the leader.
    fn remove_one<E: Effects<Handle = H>>(&mut self, qseq: u64, fx: &mut E) {
        self.mirror().strays.remove(&qseq);
        match self.ready.remove_anywhere(qseq) {
            Some(entry) if entry.stored => self.stored_gone(qseq, fx),
            Some(_) => {}
            None if self.is_stored(qseq) => {
                self.ready.unread_gone(qseq);
                self.stored_gone(qseq, fx);
            }
            None => {}
        }
    }

    fn is_stored(&self, qseq: u64) -> bool {
        let around = self.files.range(..=qseq).next_back();
        around.is_some_and(|(_, file)| qseq <= file.last_qseq && !file.dropped.contains(qseq))
    }
}
