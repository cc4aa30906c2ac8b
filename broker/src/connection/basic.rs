//! Methods that need no waiting: consuming, fetching, settling, limits, modes (AMQP 0-9-1 sections 1.5, 1.8,
//! 1.9).

use super::Connection;
use super::channel::{Channel, ChannelConsumer, settle, settle_with};
use super::frames::unimplemented_method;
use super::outbox::{ConsumerHandle, Output};
use super::reply_to::REPLY_TO;
use crate::counters::ChannelInfo;
use crate::firehose::Sighting;
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use amqp::frame;
use amqp::method::{Method, access, basic, channel, confirm, tx};
use amqp::reply_code;
use amqp::table::{Table, Value};
use broker_core::channel::confirm::Confirms;
use broker_core::channel::deliveries::{Unacked, UnknownTag};
use broker_core::channel::tx::Transaction;
use broker_core::exception::Exception;
use broker_core::ids::QueueId;
use broker_core::meta::options::QueueType;
use broker_core::meta::{Permission, checks};
use broker_core::queue::Settle;
use broker_core::queue::consumers::NewConsumer;
use std::sync::Arc;

/// A queue to read from.
pub(super) struct Found {
    pub(super) id: QueueId,
    /// Its name in error texts.
    pub(super) title: String,
    quorum: bool,
}

/// A consumer that may begin.
pub(super) struct Consuming {
    pub(super) queue: QueueId,
    /// The queue's name in error texts.
    pub(super) title: String,
    pub(super) new: NewConsumer<ConsumerHandle>,
}

impl Connection {
    /// Carries out a method that needs no waiting.
    ///
    /// # Errors
    /// The exception that RabbitMQ answers.
    pub(crate) fn fast_method(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        method: &Method<'_>,
    ) -> Result<(), Exception> {
        match method {
            Method::ChannelOpen(_) => {
                Err(Exception::connection(reply_code::CHANNEL_ERROR, "second 'channel.open' seen"))
            }
            Method::ChannelFlow(flow) if flow.active => {
                self.send(turn, number, &channel::FlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow(_) => Err(Exception::connection(reply_code::NOT_IMPLEMENTED, "active=false")),
            Method::ChannelFlowOk(_) | Method::BasicCancelOk(_) => Ok(()),
            Method::ChannelClose(_) => {
                self.release_channel(turn, number);
                self.forget_channel(number);
                self.send(turn, number, &channel::CloseOk);
                Ok(())
            }
            Method::AccessRequest(_) => {
                self.send(turn, number, &access::RequestOk { ticket: 1 });
                Ok(())
            }
            Method::BasicQos(qos) => self.qos(turn, number, qos),
            Method::BasicConsume(consume) => self.consume(turn, number, consume),
            Method::BasicCancel(cancel) => {
                self.cancel(turn, number, cancel);
                Ok(())
            }
            Method::BasicGet(get) => self.get(turn, number, get),
            Method::BasicAck(ack) => {
                self.settle_one(turn, number, Settle::Ack, ack.delivery_tag, ack.multiple)
            }
            Method::BasicNack(nack) => {
                self.settle_one(turn, number, refuse(nack.requeue), nack.delivery_tag, nack.multiple)
            }
            Method::BasicReject(reject) => {
                self.settle_one(turn, number, refuse(reject.requeue), reject.delivery_tag, false)
            }
            Method::BasicRecover(recover) => {
                if recover.requeue {
                    // RabbitMQ: the answer comes before what is delivered again.
                    self.send(turn, number, &basic::RecoverOk);
                }
                self.recover(turn, number, recover.requeue)
            }
            Method::BasicRecoverAsync(recover) => self.recover(turn, number, recover.requeue),
            Method::ConfirmSelect(select) => self.confirm_select(turn, number, select),
            Method::TxSelect(_) => {
                let open = self.channel(number)?;
                if open.confirms.is_some() {
                    return Err(precondition("cannot switch from confirm to tx mode"));
                }
                open.transaction.get_or_insert_with(Transaction::default);
                open.info.set_transactional();
                self.send(turn, number, &tx::SelectOk);
                Ok(())
            }
            Method::TxRollback(_) => self.rollback(turn, number),
            _ => Err(unimplemented_method()),
        }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// When as many channels are open as were negotiated.
    pub(crate) fn open_channel(&mut self, turn: &mut Turn<'_>, number: u16) -> Result<(), Exception> {
        let limit = usize::from(self.channel_max);
        if limit != 0 && self.channels.len() >= limit {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({limit})",
                self.channels.len()
            );
            return Err(Exception::connection(reply_code::NOT_ALLOWED, text));
        }
        let user = self.info.user();
        turn.close();
        let limit = self.node.metadata.read().user_limits(&user).max_channels;
        if let Some(limit) = limit
            && self.node.connections.channels_of(&user) >= limit
        {
            let text = format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            );
            return Err(Exception::connection(reply_code::NOT_ALLOWED, text));
        }
        let info = ChannelInfo::new(number);
        self.channels.insert(number, Channel::new(Arc::clone(&info)));
        self.outbox.open_channel(number, Arc::clone(&info));
        self.info.add_channel(info);
        self.node.counters.churn.channels_opened.add(1);
        self.send(turn, number, &channel::OpenOk);
        Ok(())
    }

    /// Makes the number of a channel free again.
    pub(crate) fn forget_channel(&mut self, number: u16) {
        self.channels.remove(&number);
        self.node.counters.close_channel(&self.info, number);
    }

    /// Lets go of everything a channel holds in queues.
    pub(crate) fn release_channel(&mut self, turn: &mut Turn<'_>, number: u16) {
        if let Some(open) = self.channels.get_mut(&number) {
            open.release(number, &self.outbox, turn);
        }
    }

    /// The channel, for methods that arrived on it and so know that it is open.
    pub(crate) fn channel(&mut self, number: u16) -> Result<&mut Channel, Exception> {
        self.channels
            .get_mut(&number)
            .ok_or_else(|| Exception::connection(reply_code::CHANNEL_ERROR, "expected 'channel.open'"))
    }

    /// What a queue name in a method stands for: itself, or the queue declared last on the channel.
    pub(crate) fn queue_name(&self, number: u16, name: &str) -> Result<Arc<str>, Exception> {
        if !name.is_empty() {
            return Ok(Arc::from(name));
        }
        let last = self.channels.get(&number).and_then(|open| open.last_queue.clone());
        last.ok_or_else(|| Exception::channel(reply_code::NOT_FOUND, "no previously declared queue"))
    }

    /// Finds a queue and checks that the user may read it.
    pub(super) fn readable_queue(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        name: &str,
    ) -> Result<Found, Exception> {
        let name = self.queue_name(number, name)?;
        turn.close();
        let sm = self.node.metadata.read();
        let Some(access) = self.access.as_mut() else { return Err(unimplemented_method()) };
        let queue = checks::queue_for(&sm, access, Permission::Read, &name, self.info.id)?;
        let title = sm.queue_title(access.vhost(), &queue.name);
        Ok(Found { id: queue.id, title, quorum: queue.options.queue_type == QueueType::Quorum })
    }

    fn qos(&mut self, turn: &mut Turn<'_>, number: u16, qos: &basic::Qos) -> Result<(), Exception> {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Exception::connection(reply_code::NOT_IMPLEMENTED, text));
        }
        if qos.global {
            // RabbitMQ: the limit of the whole channel, running consumers included.
            self.outbox.deliveries(number, |deliveries| deliveries.limit = u32::from(qos.prefetch_count));
            self.channel(number)?.info.global_prefetch.set(u64::from(qos.prefetch_count));
            self.resume_limited(turn, number);
        } else {
            let open = self.channel(number)?;
            open.prefetch = qos.prefetch_count;
            open.info.prefetch.set(u64::from(qos.prefetch_count));
        }
        self.send(turn, number, &basic::QosOk);
        Ok(())
    }

    pub(super) fn consume(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        consume: &basic::Consume<'_>,
    ) -> Result<(), Exception> {
        let open = self.channel(number)?;
        if consume.queue == REPLY_TO && !open.consumers.contains_key(consume.consumer_tag) {
            return self.consume_replies(turn, number, consume);
        }
        let Consuming { queue, title, new } = self.check_consume(turn, number, consume)?;
        let tag = Arc::clone(&new.tag);
        let outbox = Arc::clone(&self.outbox);
        let reply = (!consume.nowait).then_some(&*tag);
        let started = turn.queue(queue, |queue, now, fx| {
            if is_taken(queue, new.exclusive) {
                return Err(in_use(&title));
            }
            // The answer goes first: deliveries follow at once.
            let first = reply.is_some_and(|consumer_tag| {
                outbox.write(|buf| frame::write_fields(buf, number, &basic::ConsumeOk { consumer_tag }))
            });
            Ok((first, queue.consume(now, new, fx)))
        });
        let (first, reference) = started.unwrap_or_else(|| Err(gone(&title)))?;
        turn.touch(&self.outbox, first);
        self.add_consumer(number, tag, ChannelConsumer { queue, reference })
    }

    /// The channel has one more consumer.
    pub(super) fn add_consumer(
        &mut self,
        number: u16,
        tag: Arc<str>,
        consumer: ChannelConsumer,
    ) -> Result<(), Exception> {
        let open = self.channel(number)?;
        open.consumers.insert(tag, consumer);
        open.info.consumers.set(open.consumers.len() as u64);
        Ok(())
    }

    /// The checks of `basic.consume`, in RabbitMQ's order.
    pub(super) fn check_consume(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        consume: &basic::Consume<'_>,
    ) -> Result<Consuming, Exception> {
        let open = self.channel(number)?;
        if open.has_tag(consume.consumer_tag) {
            let text = format!("attempt to reuse consumer tag '{}'", consume.consumer_tag);
            return Err(Exception::connection(reply_code::NOT_ALLOWED, text));
        }
        let prefetch = u32::from(open.prefetch);
        let Found { id: queue, title, quorum } = self.readable_queue(turn, number, consume.queue)?;
        if quorum && self.outbox.deliveries(number, |deliveries| deliveries.limit > 0) == Some(true) {
            let text = format!("{title} does not support global qos");
            return Err(Exception::connection(reply_code::NOT_IMPLEMENTED, text));
        }
        check_consumer_arguments(consume.arguments, &title, quorum)?;
        let priority = consumer_priority(consume.arguments, &title)?;
        let tag: Arc<str> = match consume.consumer_tag {
            "" => Arc::from(self.node.unique_name("amq.ctag-")),
            tag => Arc::from(tag),
        };
        let no_ack = consume.no_ack;
        let handle = ConsumerHandle {
            output: Output::Here(Arc::clone(&self.outbox)),
            channel: number,
            tag: Arc::clone(&tag),
            no_ack,
            arguments: (!consume.arguments.is_empty()).then(|| Arc::new(consume.arguments.to_owned())),
        };
        let exclusive = consume.exclusive;
        let new = NewConsumer { handle, tag, no_ack, prefetch, priority, exclusive };
        Ok(Consuming { queue, title, new })
    }

    pub(super) fn cancel(&mut self, turn: &mut Turn<'_>, number: u16, cancel: &basic::Cancel<'_>) {
        let consumer =
            self.channels.get_mut(&number).and_then(|open| open.consumers.remove(cancel.consumer_tag));
        if let Some(consumer) = consumer {
            if let Some(open) = self.channels.get(&number) {
                open.info.consumers.set(open.consumers.len() as u64);
            }
            match consumer.reference.as_far() {
                Some(number) => turn.forward_withdraw(number),
                None => {
                    let cancel = |queue: &mut LocalQueue, now, fx: &mut TurnBuffers| {
                        queue.cancel(now, consumer.reference, fx);
                    };
                    turn.source(consumer.queue, cancel);
                }
            }
        } else {
            self.cancel_replies(number, cancel.consumer_tag);
        }
        if !cancel.nowait {
            self.send(turn, number, &basic::CancelOk { consumer_tag: cancel.consumer_tag });
        }
    }

    pub(super) fn get(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        get: &basic::Get<'_>,
    ) -> Result<(), Exception> {
        let Found { id, title, quorum } = self.readable_queue(turn, number, get.queue)?;
        let outbox = Arc::clone(&self.outbox);
        let counted = Arc::clone(&self.channel(number)?.info);
        let counters = &counted.messages;
        let single_active = |queue: &mut LocalQueue, _: u64, _: &mut _| queue.consumers().is_single_active();
        if quorum && turn.queue(id, single_active) == Some(true) {
            return Err(locked(&title));
        }
        let first = turn.queue(id, |queue, now, fx| {
            let life = queue.life();
            let Some(got) = queue.get(now, get.no_ack, fx) else {
                counters.get_empty.bump(1);
                return outbox.write(|buf| frame::write_fields(buf, number, &basic::GetEmpty));
            };
            if get.no_ack { &counters.get_no_ack } else { &counters.get }.bump(1);
            if got.redelivered {
                // Deliveries count here too, under this lock.
                outbox.deliveries(number, |_| counters.redeliver.bump(1));
            }
            let view = got.message.view();
            if fx.is_tracing() {
                fx.saw(Sighting::sent(&outbox, number, id, got.redelivered, &view));
            }
            outbox.write_content(number, &view, Some(&got.message), |buf, deliveries| {
                let delivery_tag = match get.no_ack {
                    true => deliveries.tag_no_ack(),
                    false => deliveries.tag(Unacked { queue: id, qseq: got.qseq, life, consumer: None }),
                };
                let ok = basic::GetOk {
                    delivery_tag,
                    redelivered: got.redelivered,
                    exchange: view.exchange,
                    routing_key: view.routing_key,
                    message_count: u32::try_from(got.remaining).unwrap_or(u32::MAX),
                };
                frame::write_fields(buf, number, &ok);
            })
        });
        let first = first.ok_or_else(|| gone(&title))?;
        turn.touch(&self.outbox, first);
        Ok(())
    }

    fn settle_one(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        how: Settle,
        tag: u64,
        multiple: bool,
    ) -> Result<(), Exception> {
        self.settle(turn, number, how, &[tag], multiple).map_err(|(_, error)| error)
    }

    /// Settles deliveries by their tags, or with `multiple` everything up to each. Of a tag that is not known it
    /// returns the place; what comes before it is settled.
    pub(crate) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        how: Settle,
        tags: &[u64],
        multiple: bool,
    ) -> Result<(), (usize, Exception)> {
        let mut settled = std::mem::take(&mut self.settled);
        settled.clear();
        let taken = self.outbox.take(number, tags, multiple, &mut settled);
        let count = settled.len() as u64;
        let mut pending = false;
        let open = self.channels.get_mut(&number);
        if let Some(transaction) = open.and_then(|open| open.transaction.as_mut()) {
            if !settled.is_empty() {
                transaction.settlements.push((how, std::mem::take(&mut settled)));
                pending = true;
            }
        } else if !settled.is_empty() {
            if how == Settle::Ack
                && let Some(open) = self.channels.get(&number)
            {
                open.info.messages.ack.bump(settled.len() as u64);
            }
            settle_with(turn, how, &mut settled, &mut self.positions);
            self.resume_limited(turn, number);
        }
        if pending && let Some(open) = self.channels.get(&number) {
            open.info.acks_uncommitted.bump(count);
        }
        self.settled = settled;
        taken.map_err(|(index, UnknownTag(tag))| (index, precondition(format!("unknown delivery tag {tag}"))))
    }

    /// `basic.recover`: everything unsettled on the channel goes back to its queues.
    fn recover(&mut self, turn: &mut Turn<'_>, number: u16, requeue: bool) -> Result<(), Exception> {
        if !requeue {
            return Err(Exception::connection(reply_code::NOT_IMPLEMENTED, "requeue=false"));
        }
        let mut unsettled = Vec::new();
        self.outbox.deliveries(number, |deliveries| deliveries.take_all(&mut unsettled));
        settle(turn, Settle::Requeue, &mut unsettled);
        self.resume_limited(turn, number);
        Ok(())
    }

    /// Lets consumers go on that waited for the channel's limit.
    pub(crate) fn resume_limited(&mut self, turn: &mut Turn<'_>, number: u16) {
        let mut waiting = self.outbox.take_stalled_by_limit(number).into_iter();
        while let Some((queue, consumer)) = waiting.next() {
            turn.resume(queue, consumer);
            if !self.outbox.has_credit(number) {
                // The others need not try; they come before whoever took the room.
                self.outbox.stall_by_limit(number, waiting);
                return;
            }
        }
    }

    fn confirm_select(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        select: &confirm::Select,
    ) -> Result<(), Exception> {
        let open = self.channel(number)?;
        if open.transaction.is_some() {
            return Err(precondition("cannot switch from tx to confirm mode"));
        }
        open.confirms.get_or_insert_with(Confirms::default);
        open.info.set_confirms();
        if !select.nowait {
            self.send(turn, number, &confirm::SelectOk);
        }
        Ok(())
    }

    /// `tx.rollback`: forgets the publishes; what was settled is unsettled again, under its tags.
    fn rollback(&mut self, turn: &mut Turn<'_>, number: u16) -> Result<(), Exception> {
        let open = self.channel(number)?;
        let Some(transaction) = open.transaction.as_mut() else {
            return Err(precondition("channel is not transactional"));
        };
        let settlements = transaction.take().settlements;
        open.info.end_transaction();
        self.outbox.deliveries(number, |deliveries| {
            for (tag, unacked) in settlements.into_iter().flat_map(|(_, settled)| settled) {
                deliveries.put_back(tag, unacked);
            }
        });
        self.send(turn, number, &tx::RollbackOk);
        Ok(())
    }
}

fn refuse(requeue: bool) -> Settle {
    if requeue { Settle::Requeue } else { Settle::Discard }
}

/// A 406 on the channel.
pub(crate) fn precondition(text: impl Into<String>) -> Exception {
    Exception::channel(reply_code::PRECONDITION_FAILED, text)
}

/// The queue went between looking it up and acting on it.
pub(crate) fn gone(title: &str) -> Exception {
    Exception::channel(reply_code::NOT_FOUND, format!("no {title}"))
}

/// Whether a queue has no place for one more consumer: another has it for itself, or this one wants that.
pub(crate) fn is_taken(queue: &LocalQueue, exclusive: bool) -> bool {
    let others = queue.consumers();
    // RabbitMQ: quorum queues have no exclusive consumers.
    !queue.config().quorum
        && (others.has_exclusive() || (exclusive && (!others.is_empty() || others.is_single_active())))
}

/// The queue has a consumer for itself.
pub(super) fn in_use(title: &str) -> Exception {
    Exception::channel(reply_code::ACCESS_REFUSED, format!("{title} in exclusive use"))
}

/// The queue can not be fetched from.
pub(super) fn locked(title: &str) -> Exception {
    let text = format!(
        "cannot obtain access to locked {title}. basic.get operations are not supported by quorum queues with \
         single active consumer"
    );
    Exception::channel(reply_code::RESOURCE_LOCKED, text)
}

/// Arguments of a consumer that its queue knows nothing of. Others that nobody knows are ignored.
fn check_consumer_arguments(arguments: Table<'_>, title: &str, quorum: bool) -> Result<(), Exception> {
    let (kind, unknown): (_, &[&str]) = match quorum {
        true => ("rabbit_quorum_queue", &["x-cancel-on-ha-failover", "x-stream-offset"]),
        false => ("rabbit_classic_queue", &["x-stream-offset"]),
    };
    if let Some(name) = unknown.iter().find(|name| arguments.get(name).is_some()) {
        return Err(precondition(format!("invalid arg '{name}' for {title} of queue type {kind}")));
    }
    match arguments.get("x-cancel-on-ha-failover") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(value) => Err(precondition(format!(
            "invalid arg 'x-cancel-on-ha-failover' for {title}: {{unacceptable_type,{}}}",
            value.type_name()
        ))),
    }
}

/// `x-priority` of a consumer.
fn consumer_priority(arguments: Table<'_>, title: &str) -> Result<i32, Exception> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    match value.as_i64() {
        Some(priority) => Ok(priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32),
        None => {
            let kind = Value::type_name(&value);
            Err(precondition(format!(
                "invalid arg 'x-priority' for {title}: \"expected integer, got {kind}\""
            )))
        }
    }
}
