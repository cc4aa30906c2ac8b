//! What all queues of a vhost hold together.
//!
//! Every queue is asked. With very many of them that takes a while, and then the answer serves whoever asks within the
//! next moment, too: asking all the time costs a twentieth of a core at most.

use super::Api;
use super::fields::Fields;
use super::rates::{Looking, Past, VHOST_LENGTHS, VHOST_NUMBERS, Windows};
use crate::counters::{MESSAGE_COUNTERS, MessageCounts, add};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer that took less than this is not kept.
const CHEAP: Duration = Duration::from_millis(5);
/// How many times as long as it took to find out an answer is kept.
const KEEP: u32 = 20;

/// What the queues of a vhost hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) ready: u64,
    pub(super) unacked: u64,
    pub(super) consumers: u64,
}

/// What the queues of each vhost hold.
pub(super) type Totals = HashMap<Arc<str>, Held>;

/// The last answer, and until when it counts.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Arc<Totals>)>>);

impl Api {
    /// What the queues of each vhost hold now, or held a moment ago.
    pub(super) fn totals(&self) -> Arc<Totals> {
        let began = Instant::now();
        let mut cached = self.totals.0.lock();
        if let Some((until, totals)) = &*cached
            && began < *until
        {
            return Arc::clone(totals);
        }
        let mut totals = Totals::new();
        let alone = self.peers.get().is_none_or(|peers| peers.is_alone());
        let sm = (!alone).then(|| self.node.metadata.read());
        for shard in 0..self.node.shard_count() {
            for queue in self.node.lock_shard(shard).queues() {
                let (ready, unacked) = (queue.ready_count(), queue.unacked_count());
                let consumers = queue.consumers().len() as u64;
                let counts = |id| {
                    let placement = sm.as_ref().and_then(|sm| sm.placement(id));
                    placement.is_none_or(|placement| self.runs(placement))
                };
                if ready + unacked + consumers > 0 && counts(queue.id()) {
                    let held = totals.entry(Arc::clone(queue.vhost())).or_default();
                    held.ready += ready;
                    held.unacked += unacked;
                    held.consumers += consumers;
                }
            }
        }
        drop(sm);
        let (totals, took) = (Arc::new(totals), began.elapsed());
        *cached = (took > CHEAP).then(|| (began + took * KEEP, Arc::clone(&totals)));
        totals
    }

    /// What was counted of messages in each vhost.
    pub(super) fn message_counts(&self) -> HashMap<Arc<str>, MessageCounts> {
        self.node.counters.by_vhost(&self.node.connections.list()).into_iter().collect()
    }
}

/// The numbers of some vhosts together, with their past.
pub(super) struct Sum {
    pub(super) held: Held,
    pub(super) counts: MessageCounts,
    lengths: Past<VHOST_NUMBERS>,
    messages: Past<VHOST_NUMBERS>,
    octets: Past<VHOST_NUMBERS>,
}

impl Sum {
    pub(super) fn of<'v>(
        names: impl Iterator<Item = &'v str> + Clone,
        totals: &Totals,
        counts: &HashMap<Arc<str>, MessageCounts>,
        rates: &Looking<'_>,
        windows: &Windows,
    ) -> Sum {
        let mut sum = Sum {
            held: Held::default(),
            counts: [0; MESSAGE_COUNTERS.len()],
            lengths: rates.vhosts(names.clone(), windows.lengths()),
            messages: rates.vhosts(names.clone(), windows.messages()),
            octets: rates.vhosts(names.clone(), windows.data()),
        };
        for name in names {
            if let Some(held) = totals.get(name) {
                sum.held.ready += held.ready;
                sum.held.unacked += held.unacked;
                sum.held.consumers += held.consumers;
            }
            if let Some(counts) = counts.get(name) {
                add(&mut sum.counts, counts);
            }
        }
        sum
    }

    /// `message_stats`, with what the log wrote and read for them where that is known.
    pub(super) fn message_stats(&self, fields: &mut Fields<'_>) {
        for (at, (name, count)) in MESSAGE_COUNTERS.iter().zip(self.counts).enumerate() {
            fields.rated(name, count, || self.messages.details(at));
        }
    }

    /// The numbers of messages.
    pub(super) fn lengths(&self, fields: &mut Fields<'_>) {
        let (ready, unacked) = (VHOST_LENGTHS, VHOST_LENGTHS + 1);
        fields.rated("messages", self.held.ready + self.held.unacked, || {
            self.lengths.details_of(|numbers| numbers[ready] + numbers[unacked])
        });
        fields.rated("messages_ready", self.held.ready, || self.lengths.details(ready));
        fields.rated("messages_unacknowledged", self.held.unacked, || self.lengths.details(unacked));
    }

    /// Octets that connections read and wrote.
    pub(super) fn octets(&self, fields: &mut Fields<'_>) {
        for (at, name) in [(VHOST_LENGTHS + 2, "recv_oct"), (VHOST_LENGTHS + 3, "send_oct")] {
            fields.rated(name, self.octets.now()[at], || self.octets.details(at));
        }
    }
}
