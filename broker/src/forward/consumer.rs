//! Consumers of queues elsewhere: from the leader's deliveries to the client's socket, with credit in return.

use super::peer::After;
use crate::connection::outbox::{ConsumerHandle, Output, Request};
use crate::firehose::Sighting;
use crate::node::Node;
use amqp::table::FieldValue;
use broker_core::channel::deliveries::Life;
use broker_core::forward::answer::Sent;
use broker_core::forward::codec::{self, List};
use broker_core::forward::op::{Credit, FarSettle, Op};
use broker_core::forward::origin::Window;
use broker_core::ids::QueueId;
use broker_core::message::Message;
use broker_core::queue::consumers::{Consumer, ConsumerRef};
use broker_core::queue::{Delivered, Delivery, Settle};
use std::collections::VecDeque;
use std::sync::Arc;

/// A consumer of a queue elsewhere, with all that is needed to attach it again.
#[derive(Clone, Debug)]
pub(crate) struct FarConsumer {
    /// The queue.
    pub(crate) queue: QueueId,
    /// Where its deliveries go.
    pub(crate) handle: ConsumerHandle,
    /// Deliveries it may hold unacknowledged; 0 is no limit.
    pub(crate) prefetch: u32,
    /// `x-priority`.
    pub(crate) priority: i32,
    /// Nobody else may consume.
    pub(crate) exclusive: bool,
    /// The client waits for `consume-ok`.
    pub(crate) reply: bool,
}

impl FarConsumer {
    /// A consumer whose queue has left.
    pub(crate) fn of(queue: QueueId, consumer: Consumer<ConsumerHandle>) -> FarConsumer {
        let Consumer { handle, prefetch, priority, exclusive, .. } = consumer;
        FarConsumer { queue, handle, prefetch, priority, exclusive, reply: false }
    }

    /// `x-cancel-on-ha-failover`.
    pub(crate) fn cancel_on_failover(&self) -> bool {
        let arguments = self.handle.arguments.as_ref();
        let wanted = arguments.and_then(|arguments| arguments.get("x-cancel-on-ha-failover"));
        matches!(wanted, Some(FieldValue::Bool(true)))
    }

    /// Its client hears that it is cancelled.
    pub(crate) fn gone(&self) {
        if let Some(outbox) = self.handle.outbox() {
            let (channel, tag) = (self.handle.channel, Arc::clone(&self.handle.tag));
            outbox.request(Request::ConsumerGone { channel, tag, queue: self.queue });
        }
    }
}

/// A consumer that has to be attached anew by its connection, and what the connection knows it by.
#[derive(Debug)]
pub(crate) struct Moved {
    /// The consumer.
    pub(crate) consumer: FarConsumer,
    /// Where it was.
    pub(crate) reference: ConsumerRef,
}

pub(super) struct Far {
    pub(super) consumer: FarConsumer,
    pub(super) epoch: u32,
    pub(super) window: Window,
    /// Deliveries that the client's socket or the channel's limit does not take now.
    pub(super) parked: VecDeque<Parked>,
    /// The outbox will say when it takes more.
    pub(super) waiting: bool,
    /// A request to cancel it is on its way.
    pub(super) leaving: bool,
}

impl Far {
    /// The parked deliveries that somebody would have to settle.
    pub(super) fn unsettled(&self) -> Vec<u64> {
        if self.consumer.handle.no_ack {
            return Vec::new();
        }
        self.parked.iter().map(|parked| parked.qseq).collect()
    }

    /// Gives deliveries back to the queue.
    pub(super) fn release<'a>(&self, positions: &'a [u64]) -> FarSettle<'a> {
        let (queue, epoch, positions) = (self.consumer.queue, self.epoch, List::Items(positions));
        FarSettle { queue, epoch, how: Settle::Release, positions }
    }
}

pub(super) struct Parked {
    qseq: u64,
    redelivered: bool,
    message: Message,
}

/// What the channel's limit leaves for a consumer.
pub(super) fn room(handle: &ConsumerHandle) -> Option<u32> {
    handle.outbox()?.deliveries(handle.channel, |deliveries| deliveries.room())?
}

/// A message for a consumer: to its client, or parked until the client takes it.
pub(super) fn deliver(
    node: &Node,
    number: u64,
    far: &mut Far,
    sent: &Sent<'_>,
    life: Life,
    after: &mut After,
) {
    far.window.receive();
    let (qseq, redelivered) = (sent.qseq, sent.redelivered);
    if far.parked.is_empty() && !far.waiting {
        let delivery = Delivery {
            queue: far.consumer.queue,
            qseq,
            consumer: ConsumerRef::far(number),
            life,
            redelivered,
            view: sent.view,
            shared: None,
        };
        if offer(node, far, &delivery, false, after) {
            return;
        }
    }
    far.parked.push_back(Parked { qseq, redelivered, message: Message::copy_from(&sent.view, false) });
}

/// A parked message to its client.
pub(super) fn pass_on(
    node: &Node,
    number: u64,
    far: &mut Far,
    parked: &Parked,
    life: Life,
    after: &mut After,
) -> bool {
    let delivery = Delivery {
        queue: far.consumer.queue,
        qseq: parked.qseq,
        consumer: ConsumerRef::far(number),
        life,
        redelivered: parked.redelivered,
        view: parked.message.view(),
        shared: None,
    };
    offer(node, far, &delivery, far.leaving, after)
}

fn offer(node: &Node, far: &mut Far, delivery: &Delivery<'_>, force: bool, after: &mut After) -> bool {
    let handle = &far.consumer.handle;
    let Output::Here(outbox) = &handle.output else { return false };
    let (delivered, first) =
        if force { outbox.deliver_forced(handle, delivery) } else { outbox.deliver(handle, delivery) };
    after.touch(outbox, first);
    if delivered == Delivered::Full {
        far.waiting = true;
        return false;
    }
    far.window.passed_on(codec::content_octets(&delivery.view));
    if node.is_tracing() {
        after.sightings.extend(Sighting::delivered(outbox, handle.channel, delivery));
    }
    true
}

/// More credit for a consumer, if it is time. Where the channel's limit leaves no room, the outbox says when it
/// does.
pub(super) fn renew(number: u64, far: &mut Far) -> Option<Credit> {
    let room = room(&far.consumer.handle);
    if room == Some(0)
        && !far.waiting
        && let Some(outbox) = far.consumer.handle.outbox()
    {
        far.waiting = true;
        let at = (far.consumer.queue, ConsumerRef::far(number));
        outbox.stall_by_limit(far.consumer.handle.channel, std::iter::once(at));
    }
    far.window.renew(room, far.parked.len())
}

/// What a cancelled consumer had not been sent yet goes back; what is settled already by being sent goes out.
pub(super) fn give_back(generation: u64, mut far: Far, after: &mut After) {
    let handle = &far.consumer.handle;
    let Output::Here(outbox) = &handle.output else { return };
    if handle.no_ack {
        for parked in far.parked.drain(..) {
            let delivery = Delivery {
                queue: far.consumer.queue,
                qseq: parked.qseq,
                consumer: ConsumerRef::far(0),
                life: Life::here(0),
                redelivered: parked.redelivered,
                view: parked.message.view(),
                shared: None,
            };
            let (_, first) = outbox.deliver_forced(handle, &delivery);
            after.touch(outbox, first);
        }
        return;
    }
    let parked = far.unsettled();
    if !parked.is_empty() {
        after.op(generation, &Op::Settle(far.release(&parked)));
    }
}
