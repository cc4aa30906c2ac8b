//! What the node counts, for the HTTP API and for Prometheus.
//!
//! A counter on the path of a message has one writer at a time (the connection's task, or whoever holds the outbox's
//! lock), so that counting is a load and a store. What a channel counted is added to its vhost when it closes: sums
//! never fall.

use crate::connection::info::{ConnectionInfo, Counter};
use broker_core::meta::entities::ExchangeId;
use broker_core::queue::dead_letter::Reason;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is counted of messages on a channel, by RabbitMQ's names.
pub(crate) const MESSAGE_COUNTERS: [&str; 12] = [
    "publish",
    "confirm",
    "return_unroutable",
    "drop_unroutable",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "redeliver",
    "ack",
    "deliver_get",
];

/// Why messages are dead lettered, in the order in which that is counted.
pub(crate) const DEATHS: [Reason; 4] =
    [Reason::Rejected, Reason::Expired, Reason::MaxLength, Reason::DeliveryLimit];

/// Values of [`MESSAGE_COUNTERS`].
pub(crate) type MessageCounts = [u64; MESSAGE_COUNTERS.len()];

/// Upper bounds of the confirm latency's buckets, microseconds.
pub(crate) const LATENCY_BOUNDS_US: [u64; 14] = [
    500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// Upper bounds of the message size's buckets, octets.
pub(crate) const SIZE_BOUNDS: [u64; 8] =
    [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// Counters of the messages of one channel.
#[derive(Debug, Default)]
pub(crate) struct MessageCounters {
    /// Messages published.
    pub(crate) publish: Counter,
    /// Publishes confirmed.
    pub(crate) confirm: Counter,
    /// Messages that went to no queue and were returned.
    pub(crate) return_unroutable: Counter,
    /// Messages that went to no queue and were dropped.
    pub(crate) drop_unroutable: Counter,
    /// Messages sent to consumers that acknowledge.
    pub(crate) deliver: Counter,
    /// Messages sent to consumers that do not.
    pub(crate) deliver_no_ack: Counter,
    /// Messages fetched, to be acknowledged.
    pub(crate) get: Counter,
    /// Messages fetched without acknowledgement.
    pub(crate) get_no_ack: Counter,
    /// Fetches from an empty queue.
    pub(crate) get_empty: Counter,
    /// Messages sent or fetched that had been before.
    pub(crate) redeliver: Counter,
    /// Messages acknowledged.
    pub(crate) ack: Counter,
}

impl MessageCounters {
    /// The values in the order of [`MESSAGE_COUNTERS`].
    pub(crate) fn values(&self) -> MessageCounts {
        let sent = [&self.deliver, &self.deliver_no_ack, &self.get, &self.get_no_ack].map(Counter::get);
        [
            self.publish.get(),
            self.confirm.get(),
            self.return_unroutable.get(),
            self.drop_unroutable.get(),
            sent[0],
            sent[1],
            sent[2],
            sent[3],
            self.get_empty.get(),
            self.redeliver.get(),
            self.ack.get(),
            sent.iter().sum(),
        ]
    }
}

/// A channel, as others see it.
#[derive(Debug, Default)]
pub(crate) struct ChannelInfo {
    /// Its number.
    pub(crate) number: u16,
    /// Counters.
    pub(crate) messages: MessageCounters,
    /// Publishes that are, or will be, confirmed.
    pub(crate) numbered: Counter,
    /// `basic.qos` for consumers that start from now on.
    pub(crate) prefetch: Counter,
    /// `basic.qos` with `global`.
    pub(crate) global_prefetch: Counter,
    /// Consumers.
    pub(crate) consumers: Counter,
    /// Publishes of the open transaction.
    pub(crate) uncommitted: Counter,
    /// Settlements of the open transaction.
    pub(crate) acks_uncommitted: Counter,
    confirms: AtomicBool,
    transactional: AtomicBool,
}

impl ChannelInfo {
    /// A channel that has just been opened.
    pub(crate) fn new(number: u16) -> Arc<ChannelInfo> {
        Arc::new(ChannelInfo { number, ..ChannelInfo::default() })
    }

    /// `confirm.select` was sent.
    pub(crate) fn set_confirms(&self) {
        self.confirms.store(true, Ordering::Relaxed);
    }

    /// Whether publishes are confirmed.
    pub(crate) fn confirms(&self) -> bool {
        self.confirms.load(Ordering::Relaxed)
    }

    /// `tx.select` was sent.
    pub(crate) fn set_transactional(&self) {
        self.transactional.store(true, Ordering::Relaxed);
    }

    /// Whether the channel is transactional.
    pub(crate) fn is_transactional(&self) -> bool {
        self.transactional.load(Ordering::Relaxed)
    }

    /// What the transaction held was committed or rolled back.
    pub(crate) fn end_transaction(&self) {
        self.uncommitted.set(0);
        self.acks_uncommitted.set(0);
    }

    /// Publishes that wait for their confirm.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.numbered.get().saturating_sub(self.messages.confirm.get())
    }
}

/// Messages that went through an exchange.
#[derive(Debug, Default)]
pub(crate) struct ExchangeCounters {
    /// Published to it.
    pub(crate) publish_in: Counter,
    /// Copies that went to queues.
    pub(crate) publish_out: Counter,
}

impl ExchangeCounters {
    /// A message was published and goes to so many queues.
    pub(crate) fn count(&self, queues: u64) {
        self.publish_in.add(1);
        self.publish_out.add(queues);
    }
}

/// What a connection counts during a turn, added to what others count at its end.
#[derive(Debug, Default)]
pub(crate) struct TurnTally {
    exchange: Option<Arc<ExchangeCounters>>,
    published: u64,
    routed: u64,
    sizes: [u64; SIZE_BOUNDS.len() + 1],
    size_sum: u64,
    messages_routed: u64,
    numbered: u64,
}

impl TurnTally {
    /// A message was published to an exchange and goes to so many queues.
    pub(crate) fn publish(&mut self, exchange: &Arc<ExchangeCounters>, queues: usize, size: usize) {
        if self.exchange.as_ref().is_none_or(|own| !Arc::ptr_eq(own, exchange)) {
            self.flush_exchange();
            self.exchange = Some(Arc::clone(exchange));
        }
        self.published += 1;
        self.routed += queues as u64;
        self.messages_routed += u64::from(queues > 0);
        self.sizes[SIZE_BOUNDS.partition_point(|bound| *bound < size as u64)] += 1;
        self.size_sum += size as u64;
    }

    /// The publish will be confirmed.
    pub(crate) fn numbered(&mut self) {
        self.numbered += 1;
    }

    /// The turn is over.
    pub(crate) fn flush(&mut self, node: &NodeCounters) {
        if self.published == 0 {
            return;
        }
        self.flush_exchange();
        for (bucket, count) in node.sizes.buckets.iter().zip(&mut self.sizes) {
            if *count > 0 {
                bucket.add(std::mem::take(count));
            }
        }
        node.sizes.sum.add(std::mem::take(&mut self.size_sum));
        node.routed.add(std::mem::take(&mut self.messages_routed));
        node.received_confirm.add(std::mem::take(&mut self.numbered));
    }

    fn flush_exchange(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.publish_in.add(std::mem::take(&mut self.published));
            exchange.publish_out.add(std::mem::take(&mut self.routed));
        }
    }
}

/// A histogram with `N` buckets, the last of which has no upper bound.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    /// How many fell into each bucket.
    pub(crate) buckets: [Counter; N],
    /// The sum of all.
    pub(crate) sum: Counter,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

/// Things that come and go.
#[derive(Debug, Default)]
pub(crate) struct Churn {
    /// Connections that were accepted and logged in.
    pub(crate) connections_opened: Counter,
    /// Those of them that ended.
    pub(crate) connections_closed: Counter,
    /// Channels opened.
    pub(crate) channels_opened: Counter,
    /// Channels closed.
    pub(crate) channels_closed: Counter,
    /// Declares of queues, new or not.
    pub(crate) queues_declared: Counter,
    /// Queues made.
    pub(crate) queues_created: Counter,
    /// Queues deleted.
    pub(crate) queues_deleted: Counter,
}

/// Logins by protocol.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Those that succeeded.
    pub(crate) succeeded: Counter,
    /// Those that did not.
    pub(crate) failed: Counter,
}

/// What the node counts.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    /// Things that come and go.
    pub(crate) churn: Churn,
    /// Logins by AMQP.
    pub(crate) amqp_logins: Attempts,
    /// Logins by HTTP.
    pub(crate) http_logins: Attempts,
    /// Messages published on channels that confirm.
    pub(crate) received_confirm: Counter,
    /// Messages published that went to a queue.
    pub(crate) routed: Counter,
    /// Dead letters by reason, of classic queues and of quorum queues.
    pub(crate) dead_letters: [[Counter; 4]; 2],
    /// How long publishes waited for their confirm, microseconds.
    pub(crate) confirm_latency: Histogram<{ LATENCY_BOUNDS_US.len() + 1 }>,
    /// How large published messages were, octets.
    pub(crate) sizes: Histogram<{ SIZE_BOUNDS.len() + 1 }>,
    /// What channels counted that are closed, by vhost.
    gone: Mutex<HashMap<Arc<str>, MessageCounts>>,
    exchanges: Mutex<HashMap<ExchangeId, Arc<ExchangeCounters>>>,
}

impl NodeCounters {
    /// A login by HTTP.
    pub(crate) fn login(&self, succeeded: bool) {
        let attempts = &self.http_logins;
        if succeeded { &attempts.succeeded } else { &attempts.failed }.add(1);
    }

    /// A message was dead lettered.
    pub(crate) fn dead_letter(&self, quorum: bool, reason: Reason) {
        self.dead_letters[usize::from(quorum)][DEATHS.iter().position(|it| *it == reason).unwrap_or(0)]
            .add(1);
    }

    /// So many publishes waited so long for their confirm.
    pub(crate) fn confirmed(&self, count: u64, waited_us: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < waited_us);
        self.confirm_latency.buckets[bucket].add(count);
        self.confirm_latency.sum.add(waited_us.saturating_mul(count));
    }

    /// The counters of an exchange.
    pub(crate) fn exchange(&self, id: ExchangeId) -> Arc<ExchangeCounters> {
        Arc::clone(self.exchanges.lock().entry(id).or_default())
    }

    /// The counters of all exchanges that have been published to.
    pub(crate) fn exchanges(&self) -> Vec<(ExchangeId, Arc<ExchangeCounters>)> {
        self.exchanges.lock().iter().map(|(id, counters)| (*id, Arc::clone(counters))).collect()
    }

    /// Forgets an exchange that was deleted.
    pub(crate) fn forget_exchange(&self, id: ExchangeId) {
        self.exchanges.lock().remove(&id);
    }

    /// Forgets a vhost that was deleted; the node's sums keep what was counted there.
    pub(crate) fn forget_vhost(&self, vhost: &str) {
        let mut gone = self.gone.lock();
        if let Some(counts) = gone.remove(vhost) {
            add(gone.entry(Arc::from("")).or_default(), &counts);
        }
    }

    /// A channel closes.
    pub(crate) fn close_channel(&self, connection: &ConnectionInfo, number: u16) {
        let mut gone = self.gone.lock();
        if let Some(channel) = connection.remove_channel(number) {
            self.churn.channels_closed.add(1);
            add(gone.entry(Arc::clone(&connection.details().vhost)).or_default(), &channel.messages.values());
        }
    }

    /// What somebody without a channel did in a vhost.
    pub(crate) fn count_for(&self, vhost: &str, count: impl FnOnce(&MessageCounters)) {
        let counters = MessageCounters::default();
        count(&counters);
        add(self.gone.lock().entry(Arc::from(vhost)).or_default(), &counters.values());
    }

    /// What was counted in each vhost, by the channels that are open, too. What was counted in vhosts that are gone
    /// is under the empty name.
    pub(crate) fn by_vhost(&self, connections: &[Arc<ConnectionInfo>]) -> BTreeMap<Arc<str>, MessageCounts> {
        // While this is locked, no channel moves its counts from one side to the other.
        let gone = self.gone.lock();
        let mut all: BTreeMap<Arc<str>, MessageCounts> =
            gone.iter().map(|(vhost, counts)| (Arc::clone(vhost), *counts)).collect();
        for connection in connections {
            let channels = connection.channels();
            if !channels.is_empty() {
                let sum = all.entry(connection.vhost()).or_default();
                channels.iter().for_each(|channel| add(sum, &channel.messages.values()));
            }
        }
        all
    }
}

/// Adds counts to a sum.
pub(crate) fn add<const N: usize>(sum: &mut [u64; N], counts: &[u64; N]) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turns_tally_goes_to_its_exchange_and_into_the_right_buckets() {
        let node = NodeCounters::default();
        let (one, other) = (node.exchange(ExchangeId(1)), node.exchange(ExchangeId(2)));
        let mut tally = TurnTally::default();
        tally.publish(&one, 2, 100);
        tally.publish(&one, 0, 101);
        tally.publish(&other, 1, 200_000_000);
        tally.flush(&node);
        tally.flush(&node);
        let counted = |it: &ExchangeCounters| (it.publish_in.get(), it.publish_out.get());
        assert_eq!((counted(&one), counted(&other)), ((2, 2), (1, 1)));
        let sizes: Vec<u64> = node.sizes.buckets.iter().map(Counter::get).collect();
        assert_eq!(sizes, [1, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(node.sizes.sum.get(), 200_000_201);
    }

    #[test]
    fn latencies_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let node = NodeCounters::default();
        node.confirmed(3, 500);
        node.confirmed(1, 501);
        node.confirmed(2, u64::MAX / 2);
        let buckets: Vec<u64> = node.confirm_latency.buckets.iter().map(Counter::get).collect();
        assert_eq!((buckets[0], buckets[1], buckets[14]), (3, 1, 2));
    }

    #[test]
    fn sums_keep_what_was_counted_in_a_vhost_that_is_gone() {
        let node = NodeCounters::default();
        node.count_for("a", |counters| counters.publish.bump(2));
        node.count_for("b", |counters| counters.get.bump(1));
        node.forget_vhost("a");
        let all = node.by_vhost(&[]);
        assert_eq!((all.get("a"), all[""][0], all["b"][11]), (None, 2, 1));
    }
}
