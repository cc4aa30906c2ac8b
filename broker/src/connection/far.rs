//! What a connection does when a queue is led by another node: methods wait for its answer, publishers for its
//! confirms and alarms, and consumers follow the queue to a new leader.

use super::Connection;
use super::basic::{Consuming, gone, in_use, locked};
use super::channel::ChannelConsumer;
use super::reply_to::REPLY_TO;
use crate::forward::Home;
use crate::forward::ask::{Ask, Asked};
use crate::forward::consumer::{FarConsumer, Moved};
use crate::forward::peer::{FarHold, Getter};
use crate::shard::{Turn, TurnBuffers};
use amqp::method::{Method, basic};
use broker_core::exception::Exception;
use broker_core::ids::QueueId;
use broker_core::queue::consumers::{ConsumerRef, NewConsumer};
use std::sync::Arc;

impl Connection {
    /// Whether a method may have to wait for another node: `basic.consume`, `cancel` and `get` in a cluster.
    pub(super) fn may_be_far(&self, payload: &[u8]) -> bool {
        matches!(payload, [0, 60, 0, 20 | 30 | 70, ..]) && !self.node.forward.is_alone()
    }

    /// Carries out such a method.
    ///
    /// # Errors
    /// The exception that RabbitMQ answers.
    pub(super) async fn far_method(&mut self, number: u16, method: &Method<'_>) -> Result<(), Exception> {
        match method {
            Method::BasicConsume(consume) => self.consume_anywhere(number, consume).await,
            Method::BasicCancel(cancel) => self.cancel_anywhere(number, cancel).await,
            Method::BasicGet(get) => self.get_anywhere(number, get).await,
            _ => Ok(()),
        }
    }

    /// Does something in a turn of its own.
    pub(super) fn in_turn<R>(&mut self, work: impl FnOnce(&mut Self, &mut Turn<'_>) -> R) -> R {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        let result = work(self, &mut turn);
        self.end_turn(turn);
        result
    }

    /// Asks the leader of a queue and looks after the client meanwhile.
    pub(super) async fn ask(&mut self, queue: QueueId, ask: Ask) -> Result<Asked, Exception> {
        let node = Arc::clone(&self.node);
        self.wait_for(async move { node.ask(queue, &ask).await }).await?
    }

    async fn consume_anywhere(&mut self, number: u16, consume: &basic::Consume<'_>) -> Result<(), Exception> {
        if consume.queue == REPLY_TO {
            return self.in_turn(|this, turn| this.consume(turn, number, consume));
        }
        let Consuming { queue, title, new } =
            self.in_turn(|this, turn| this.check_consume(turn, number, consume))?;
        if !self.node.is_far(queue) {
            return self.in_turn(|this, turn| this.consume(turn, number, consume));
        }
        let NewConsumer { handle, tag, prefetch, priority, exclusive, .. } = new;
        let far = self.node.forward.next_consumer();
        let reply = !consume.nowait;
        let consumer = FarConsumer { queue, handle, prefetch, priority, exclusive, reply };
        let asked = self.ask(queue, Ask::Consume(far, consumer)).await;
        if !matches!(asked, Ok(Asked::Done)) {
            // Whatever it was, nobody waits for its deliveries.
            self.in_turn(|_, turn| turn.forward_withdraw(far));
        }
        match asked? {
            Asked::Done => {
                let reference = ConsumerRef::far(far);
                self.add_consumer(number, tag, ChannelConsumer { queue, reference })
            }
            Asked::Here => self.in_turn(|this, turn| this.consume(turn, number, consume)),
            Asked::InUse => Err(in_use(&title)),
            Asked::Gone | Asked::Locked | Asked::Counted { .. } => Err(gone(&title)),
        }
    }

    async fn cancel_anywhere(&mut self, number: u16, cancel: &basic::Cancel<'_>) -> Result<(), Exception> {
        let found = self.channels.get(&number).and_then(|open| open.consumers.get(cancel.consumer_tag));
        if let Some(far) = found.and_then(|consumer| consumer.reference.as_far()) {
            let node = Arc::clone(&self.node);
            self.wait_for(async move { node.cancel_far(far).await }).await?;
        }
        self.in_turn(|this, turn| this.cancel(turn, number, cancel));
        Ok(())
    }

    async fn get_anywhere(&mut self, number: u16, get: &basic::Get<'_>) -> Result<(), Exception> {
        let found = self.in_turn(|this, turn| this.readable_queue(turn, number, get.queue))?;
        if !self.node.is_far(found.id) {
            return self.in_turn(|this, turn| this.get(turn, number, get));
        }
        let getter = Getter {
            outbox: Arc::clone(&self.outbox),
            channel: number,
            no_ack: get.no_ack,
            info: Arc::clone(&self.channel(number)?.info),
        };
        match self.ask(found.id, Ask::Get(getter)).await? {
            Asked::Done => Ok(()),
            Asked::Here => self.in_turn(|this, turn| this.get(turn, number, get)),
            Asked::Locked => Err(locked(&found.title)),
            Asked::Gone | Asked::InUse | Asked::Counted { .. } => Err(gone(&found.title)),
        }
    }

    /// Messages and consumers of a queue, wherever it is led. None: it does not exist, or is about to go.
    pub(super) async fn counts(
        &mut self,
        queue: QueueId,
        touch: bool,
    ) -> Result<Option<(u64, u64)>, Exception> {
        if self.node.is_far(queue) {
            match self.ask(queue, Ask::Count { touch }).await? {
                Asked::Counted { messages, consumers } => return Ok(Some((messages, consumers))),
                Asked::Here => {}
                _ => return Ok(None),
            }
        }
        Ok(self.at_queue(queue, |queue, now, fx: &mut TurnBuffers| {
            if touch {
                queue.touch(now, fx);
            }
            (queue.ready_count(), queue.consumers().len() as u64)
        }))
    }

    /// What keeps this publisher from going on on other nodes.
    pub(super) fn far_hold(&self) -> FarHold {
        self.node.forward.hold(self.buffers.far_used())
    }

    /// A consumer's queue is led elsewhere now, or here again.
    pub(super) fn attach_again(&mut self, turn: &mut Turn<'_>, moved: Moved) {
        let Moved { consumer, reference } = moved;
        let (queue, channel, tag) =
            (consumer.queue, consumer.handle.channel, Arc::clone(&consumer.handle.tag));
        let known = self.channels.get_mut(&channel).and_then(|open| open.consumers.get_mut(&tag));
        // The client may have cancelled it meanwhile and used the tag again.
        let Some(known) = known.filter(|known| (known.queue, known.reference) == (queue, reference)) else {
            return;
        };
        if consumer.cancel_on_failover() {
            return self.consumer_gone(turn, channel, &tag, queue);
        }
        // It is led here, and here already.
        let is_here = matches!(turn.home_of(queue), Some(Home::Here { .. }))
            && turn.any_queue(queue, |_, _, _| ()).is_some();
        if !is_here {
            let number = reference.as_far().unwrap_or_else(|| self.node.forward.next_consumer());
            known.reference = ConsumerRef::far(number);
            self.node.forward.detach(number, consumer, None);
            return;
        }
        let FarConsumer { handle, prefetch, priority, exclusive, .. } = consumer;
        let no_ack = handle.no_ack;
        let new = NewConsumer { handle, tag: Arc::clone(&tag), no_ack, prefetch, priority, exclusive };
        match turn.queue(queue, |queue, now, fx| queue.consume(now, new, fx)) {
            Some(here) => known.reference = here,
            None => self.consumer_gone(turn, channel, &tag, queue),
        }
    }
}
