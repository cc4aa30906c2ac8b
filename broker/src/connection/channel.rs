//! What a connection keeps for each of its channels.

use super::outbox::{Outbox, ReplyConsumer};
use crate::counters::{ChannelInfo, NodeCounters};
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use broker_core::channel::confirm::{Confirm, Confirms};
use broker_core::channel::content::Assembly;
use broker_core::channel::deliveries::Unacked;
use broker_core::channel::tx::Transaction;
use broker_core::ids::QueueId;
use broker_core::queue::Settle;
use broker_core::queue::consumers::ConsumerRef;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A channel of one connection.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// `channel.close` was sent: everything but `close-ok` is ignored.
    pub(crate) closing: bool,
    /// A publish whose header or body has not all arrived.
    pub(crate) assembly: Option<Assembly>,
    /// Set by `confirm.select`.
    pub(crate) confirms: Option<Confirms>,
    /// Set by `tx.select`.
    pub(crate) transaction: Option<Transaction>,
    /// By consumer tag.
    pub(crate) consumers: HashMap<Arc<str>, ChannelConsumer>,
    /// The consumer of direct replies; its tag is not among `consumers`.
    pub(crate) replies: Option<ReplyConsumer>,
    /// Queue declared last: what an empty name stands for.
    pub(crate) last_queue: Option<Arc<str>>,
    /// `basic.qos` without `global`: limit for consumers that start from now on.
    pub(crate) prefetch: u16,
    /// What others see of it.
    pub(crate) info: Arc<ChannelInfo>,
    /// Batches that wait for their confirm: their last number, and when they ended.
    waiting: VecDeque<(u64, Instant)>,
}

/// A consumer as its channel knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelConsumer {
    /// Queue it consumes from.
    pub(crate) queue: QueueId,
    /// Where it is there.
    pub(crate) reference: ConsumerRef,
}

impl Channel {
    /// A channel that has just been opened.
    pub(crate) fn new(info: Arc<ChannelInfo>) -> Channel {
        Channel { info, ..Channel::default() }
    }

    /// Notes when what was published until now began to wait for its confirm.
    pub(crate) fn begin_wait(&mut self, now: Instant) {
        let last = self.info.numbered.get();
        if self.waiting.back().is_none_or(|(known, _)| *known < last)
            && last > self.info.messages.confirm.get()
        {
            self.waiting.push_back((last, now));
        }
    }

    /// Counts publishes that are confirmed now.
    pub(crate) fn confirmed(&mut self, count: u64, now: Instant, node: &NodeCounters) {
        let before = self.info.messages.confirm.get();
        self.info.messages.confirm.bump(count);
        let mut from = before;
        while from < before + count
            && let Some((last, since)) = self.waiting.front()
        {
            let upto = (*last).min(before + count);
            let waited = now.saturating_duration_since(*since).as_micros();
            node.confirmed(upto - from, u64::try_from(waited).unwrap_or(u64::MAX));
            from = upto;
            if *last > upto {
                break;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether a consumer of the channel has this tag.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.consumers.contains_key(tag) || self.replies.as_ref().is_some_and(|replies| *replies.tag == *tag)
    }

    /// Takes the channel's consumers out of their queues and gives back what it did not settle.
    pub(crate) fn release(&mut self, number: u16, outbox: &Outbox, turn: &mut Turn<'_>) {
        self.assembly = None;
        self.replies = None;
        let mut left = Vec::with_capacity(self.consumers.len());
        for (_, consumer) in self.consumers.drain() {
            match consumer.reference.as_far() {
                Some(number) => turn.forward_withdraw(number),
                None => {
                    let withdraw = |queue: &mut LocalQueue, now, fx: &mut TurnBuffers| {
                        queue.withdraw(now, consumer.reference, fx);
                    };
                    turn.source(consumer.queue, withdraw);
                }
            }
            left.push(consumer.queue);
        }
        let mut unsettled = outbox.close_channel(number);
        if let Some(transaction) = self.transaction.take() {
            let rolled_back = transaction.settlements.into_iter().flat_map(|(_, settled)| settled);
            unsettled.extend(rolled_back);
        }
        settle(turn, Settle::Release, &mut unsettled);
        for queue in left {
            if turn.source(queue, broker_core::queue::Queue::drain).is_none() {
                turn.forward_drain(queue);
            }
        }
    }
}

/// Settles deliveries at their queues, those of one queue together and in order.
pub(crate) fn settle(turn: &mut Turn<'_>, how: Settle, deliveries: &mut [(u64, Unacked)]) {
    settle_with(turn, how, deliveries, &mut Vec::new());
}

/// As [`settle`], with a buffer for positions that is used again.
pub(crate) fn settle_with(
    turn: &mut Turn<'_>,
    how: Settle,
    deliveries: &mut [(u64, Unacked)],
    positions: &mut Vec<u64>,
) {
    deliveries.sort_unstable_by_key(|(tag, unacked)| (unacked.queue, unacked.life, *tag));
    for group in
        deliveries.chunk_by(|(_, one), (_, other)| (one.queue, one.life) == (other.queue, other.life))
    {
        let Unacked { queue, life, .. } = group[0].1;
        positions.clear();
        positions.extend(group.iter().map(|(_, unacked)| unacked.qseq));
        let settled = turn.source(queue, |queue, now, fx| {
            if queue.life() == life {
                queue.settle(now, how, positions, fx);
            }
        });
        if settled.is_none() {
            turn.forward_settle(queue, life, how, positions);
        }
    }
}

/// Encodes a confirm.
pub(crate) fn write_confirm(buf: &mut Vec<u8>, channel: u16, confirm: Confirm) {
    match confirm {
        Confirm::Ack { tag, multiple } => amqp::frame::write_ack(buf, channel, tag, multiple),
        Confirm::Nack { tag } => {
            let nack = amqp::method::basic::Nack { delivery_tag: tag, multiple: false, requeue: false };
            amqp::frame::write_fields(buf, channel, &nack);
        }
    }
}
