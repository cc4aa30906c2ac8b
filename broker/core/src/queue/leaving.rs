//! How messages leave a queue without a consumer: they expire, are pushed out by a limit, are purged or rejected, and may
//! be dead lettered then.

use super::dead_letter::{DeadLetter, Reason};
use super::log::Ranges;
use super::ready::Entry;
use super::{Effects, Queue};
use crate::message::Message;
use crate::record::{DropReason, QseqRange};
use std::sync::Arc;

impl<H> Queue<H> {
    /// `queue.purge`: drops what is ready. Returns how many messages that were.
    pub fn purge<E: Effects<Handle = H>>(&mut self, fx: &mut E) -> u64 {
        let mut gone = Ranges::default();
        let count = self.ready.len() as u64;
        let (entries, unread) = self.ready.drain();
        let entries: Vec<(u64, bool, bool)> =
            entries.map(|entry| (entry.qseq, entry.logged, entry.stored)).collect();
        let mut positions: Vec<u64> =
            entries.iter().filter(|(_, logged, _)| *logged).map(|(qseq, ..)| *qseq).collect();
        positions.sort_unstable();
        positions.into_iter().for_each(|qseq| gone.add(qseq));
        if self.durable {
            gone.0.extend(unread.iter().map(|unread| unread.range));
        }
        if !gone.0.is_empty() {
            self.log_drop(DropReason::Purged, &gone.0, fx);
        }
        for (qseq, ..) in entries.iter().filter(|(.., stored)| *stored) {
            self.stored_gone(*qseq, fx);
        }
        for unread in unread {
            self.unread_gone(&unread, fx);
        }
        count
    }

    /// Absolute expiry: the lower of the queue's and the message's time to live; 0 for never.
    pub(super) fn expiry(&self, now: u64, expiration_ms: Option<u64>) -> u64 {
        match (self.config.message_ttl_ms, expiration_ms) {
            (None, None) => 0,
            (Some(ttl), None) | (None, Some(ttl)) => now.saturating_add(ttl).max(1),
            (Some(one), Some(other)) => now.saturating_add(one.min(other)).max(1),
        }
    }

    /// RabbitMQ expires at the head only: a message that has expired behind one that has not waits for it.
    pub(super) fn expire_head<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        while let Some(entry) = self.ready.front() {
            if entry.expires_ms == 0 || self.rests() {
                return;
            }
            if entry.expires_ms > now {
                let at = entry.expires_ms;
                self.arm(at, fx);
                return;
            }
            let entry = self.ready.pop_front().expect("the head was just looked at");
            self.discard(entry, Reason::Expired, fx);
        }
    }

    pub(super) fn would_overflow(&self, body_len: usize) -> bool {
        self.config.max_length.is_some_and(|max| self.ready.len() as u64 >= max)
            || self.config.max_length_bytes.is_some_and(|max| self.ready.bytes() + body_len as u64 > max)
    }

    /// Drops from the head what is over the limit.
    pub(super) fn trim<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        if (self.config.max_length.is_none() && self.config.max_length_bytes.is_none()) || self.rests() {
            return;
        }
        while self.config.max_length.is_some_and(|max| self.ready.len() as u64 > max)
            || self.config.max_length_bytes.is_some_and(|max| self.ready.bytes() > max)
        {
            let Some(entry) = self.ready.pop_front() else {
                // It goes on when they are there.
                return self.read_ahead(fx);
            };
            self.discard(entry, Reason::MaxLength, fx);
        }
    }

    /// RabbitMQ counts failed deliveries: a message is dropped when it comes back once more than the limit.
    pub(super) fn over_delivery_limit(&self, entry: &Entry) -> bool {
        self.config.delivery_limit.is_some_and(|limit| entry.returns >= limit)
    }

    /// The message leaves the queue for a reason that dead letters it where a target is configured.
    pub(super) fn discard<E: Effects<Handle = H>>(&mut self, entry: Entry, reason: Reason, fx: &mut E) {
        if self.config.dead_letter.is_some() {
            let qseq = entry.logged.then_some(entry.qseq);
            let stored = entry.stored.then_some(entry.qseq);
            self.dead_letter(qseq, stored, &entry.message, reason, fx);
        } else {
            let reason = match reason {
                Reason::Expired => DropReason::Expired,
                Reason::MaxLength => DropReason::MaxLen,
                Reason::Rejected | Reason::DeliveryLimit => DropReason::Ack,
            };
            self.log_gone(&entry, reason, fx);
        }
    }

    pub(super) fn dead_letter<E: Effects<Handle = H>>(
        &self,
        logged_qseq: Option<u64>,
        stored_qseq: Option<u64>,
        message: &Arc<Message>,
        reason: Reason,
        fx: &mut E,
    ) {
        let Some(target) = &self.config.dead_letter else { return };
        fx.dead_letter(DeadLetter {
            queue: self.id,
            epoch: self.epoch,
            vhost: Arc::clone(&self.vhost),
            queue_name: Arc::clone(&self.name),
            target: target.clone(),
            reason,
            message: Arc::clone(message),
            logged_qseq,
            stored_qseq,
        });
    }

    pub(super) fn log_gone<E: Effects<Handle = H>>(&mut self, entry: &Entry, reason: DropReason, fx: &mut E) {
        if entry.logged {
            self.log_drop(reason, &[QseqRange::one(entry.qseq)], fx);
        }
        if entry.stored {
            self.stored_gone(entry.qseq, fx);
        }
    }
}
