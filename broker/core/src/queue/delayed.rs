//! Where the messages of an `x-delayed-message` exchange wait: a queue ordered by time, without consumers.
//!
//! It has a queue's place in the log, so that what waits there survives as messages in queues do. When a message
//! is due it leaves by [`super::Effects::due`]; the owner routes it, and the log hears of its end together with its
//! arrival in a queue. In the log the time at which it is due stands where other queues' messages have their expiry.

use super::{Effects, Entry, Published, Queue};
use crate::exchange::delayed::delay_of;
use crate::ids::QueueId;
use crate::message::{Message, Publish};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages that are released in one go; others get their turn in between.
const RELEASE_STEP: usize = 512;

/// A message whose delay is over.
#[derive(Debug)]
pub struct Due {
    /// Where it waited.
    pub store: QueueId,
    /// Epoch there.
    pub epoch: u32,
    /// The message as it was published.
    pub message: Arc<Message>,
    /// Its position there when the log knows it: the log must hear that it left, together with its arrival in a
    /// queue.
    pub logged_qseq: Option<u64>,
}

/// The messages, by the time at which they are due and their order of arrival.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    entries: BTreeMap<(u64, u64), Entry>,
    logged_bytes: u64,
}

impl Waiting {
    pub(super) fn insert(&mut self, entry: Entry) {
        self.logged_bytes += entry.logged_bytes();
        self.entries.insert((entry.expires_ms, entry.qseq), entry);
    }

    /// Octets that the log keeps for these messages, about.
    pub(super) fn logged_bytes(&self) -> u64 {
        self.logged_bytes
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    fn next_due(&self) -> Option<u64> {
        self.entries.first_key_value().map(|((due, _), _)| *due)
    }

    fn pop_due(&mut self, now: u64) -> Option<Entry> {
        let first = self.entries.first_entry().filter(|first| first.key().0 <= now)?;
        let entry = first.remove();
        self.logged_bytes -= entry.logged_bytes();
        Some(entry)
    }
}

impl<H> Queue<H> {
    /// Makes it a place where messages wait for their time.
    #[must_use]
    pub fn delaying(mut self) -> Self {
        self.waiting = Some(Box::default());
        self
    }

    /// Messages that wait for their time.
    pub fn delayed_count(&self) -> u64 {
        self.waiting.as_ref().map_or(0, |waiting| waiting.entries.len() as u64)
    }

    /// Takes a message in until its delay is over.
    pub(super) fn delay<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        publish: &mut Publish<'_>,
        fx: &mut E,
    ) -> Published {
        self.stats.published += 1;
        let qseq = self.next_qseq;
        self.next_qseq += 1;
        let due = now.saturating_add(delay_of(publish.view.properties).unwrap_or(0)).max(1);
        let logged = self.durable && publish.persistent;
        let log_floor = fx.log_floor();
        if logged {
            self.log_enqueue(now, qseq, due, publish.priority, publish, fx);
        }
        let entry = Entry {
            qseq,
            message: publish.share(),
            expires_ms: due,
            log_floor,
            returns: 0,
            priority: publish.priority,
            redelivered: false,
            logged,
            stored: false,
        };
        if let Some(waiting) = &mut self.waiting {
            waiting.insert(entry);
        }
        self.arm(due, fx);
        Published::Accepted { logged }
    }

    /// Lets go of the messages whose delay is over.
    pub(super) fn release_due<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        let (store, epoch) = (self.id, self.epoch);
        let Some(waiting) = &mut self.waiting else { return };
        for _ in 0..RELEASE_STEP {
            let Some(entry) = waiting.pop_due(now) else { break };
            let logged_qseq = entry.logged.then_some(entry.qseq);
            fx.due(Due { store, epoch, message: entry.message, logged_qseq });
        }
        if let Some(due) = waiting.next_due() {
            self.arm(due, fx);
        }
    }
}
