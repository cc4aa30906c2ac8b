//! One queue: what is ready, who consumes, what is not yet acknowledged.
//!
//! A queue is a plain `&mut self` structure without I/O. Its owner (a shard) passes in the time and an
//! [`Effects`] on which the queue says, in order, what has to happen: append to the log, deliver, dead
//! letter, wake up later. Ready order is by `qseq`; a requeued message goes back to its own place.

mod config;
pub mod consumers;
pub mod dead_letter;
pub mod delayed;
mod effects;
mod inspect;
mod leaving;
mod log;
mod log_upkeep;
mod mirror;
pub mod origins;
mod pace;
pub mod paged;
mod paging;
mod quorum;
mod ready;
#[cfg(test)]
mod tests;
mod unused;

use crate::channel::deliveries::Life;
use crate::ids::QueueId;
use crate::message::Publish;
use crate::record::{At, DropReason, PubRef, QseqRange, Record};
pub use config::{Overflow, QueueConfig};
use consumers::{ConsumerRef, Consumers};
use dead_letter::Reason;
use delayed::Waiting;
pub use effects::{Crowd, Delivered, Delivery, Effects, Got};
pub use inspect::{PeekLimit, Peeked};
use log::{Ranges, enqueue_record};
use mirror::Mirror;
use origins::{Origins, Sight};
use pace::Pace;
use paged::Files;
pub use paging::{CROWDED_ABOVE, PAGE_ABOVE, PAGE_ABOVE_SHORT, PAGE_BEHIND};
use ready::Ready;
pub use ready::{Amount, Entry};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Outcome of a publish into one queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// Taken; `logged` says that a confirm must wait for the log.
    Accepted {
        /// The message went to the log.
        logged: bool,
    },
    /// Refused by `x-overflow: reject-publish`.
    Rejected,
}

/// How unacknowledged messages are settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settle {
    /// Done with (`basic.ack`).
    Ack,
    /// Back to the queue because the client says so (`basic.reject`/`nack` with requeue, `basic.recover`).
    Requeue,
    /// Back to their places because their channel closed.
    Release,
    /// Thrown away or dead lettered (`basic.reject`/`nack` without requeue).
    Discard,
}

/// Counters since the queue was created in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Messages taken.
    pub published: u64,
    /// Handed to consumers that acknowledge.
    pub delivered: u64,
    /// Handed to consumers that do not acknowledge.
    pub delivered_no_ack: u64,
    /// Fetched by `basic.get`, acknowledged later.
    pub got: u64,
    /// Fetched by `basic.get` without acknowledgement.
    pub got_no_ack: u64,
    /// `basic.get` on an empty queue.
    pub get_empty: u64,
    /// Handed out again.
    pub redelivered: u64,
    /// Acknowledged.
    pub acked: u64,
}

/// A message handed out and not yet settled.
#[derive(Debug)]
struct Held {
    entry: Entry,
    consumer: Option<ConsumerRef>,
}

/// Most messages between two reservations of the delivered mark: after a crash up to this many messages may
/// be marked redelivered although nobody saw them. The first reservations are small and double, so that few
/// deliveries mark few messages.
const HWM_STEP: u64 = 4096;
/// Ready messages from which on publishers hear that consumers do not keep up.
const BACKLOG: usize = 2000;

/// One queue. See the module's text.
#[derive(Debug)]
pub struct Queue<H> {
    id: QueueId,
    vhost: Arc<str>,
    name: Arc<str>,
    durable: bool,
    auto_delete: bool,
    closing: bool,
    /// Consumers get nothing.
    paused: bool,
    /// Another node is about to lead it.
    held_back: bool,
    epoch: u32,
    /// The epoch in which this node began to lead it.
    led_since: u32,
    /// Too few copies are in sync: publishes are refused.
    short_of_copies: bool,
    /// Other nodes have copies, and may lead instead of this one.
    has_copies: bool,
    next_off: u64,
    config: Arc<QueueConfig>,
    next_qseq: u64,
    hwm: u64,
    hwm_step: u64,
    ready: Ready,
    /// Segment files with messages of this queue.
    files: Files,
    pace: Pace,
    /// Up to where recovery says that messages may have been delivered.
    restored_hwm: u64,
    /// A segment is being written, or has been and is not removed yet.
    paging_out: bool,
    /// Writing segments waits until then when one could not be written.
    page_retry_ms: u64,
    held: FxHashMap<u64, Held>,
    held_bytes: u64,
    held_logged_bytes: u64,
    held_persistent: Amount,
    consumers: Consumers<H>,
    /// Set where the queue has been led in more than one epoch, or is a copy.
    mirror: Option<Box<Mirror>>,
    /// Set where other nodes publish: what they may send again.
    origins: Option<Box<Origins>>,
    /// Set where the messages wait for a time instead of a consumer.
    waiting: Option<Box<Waiting>>,
    timer_at: u64,
    last_used_ms: u64,
    /// Not before then it goes for not being used: consumers that were lost may come back.
    spared_until_ms: u64,
    stats: Stats,
}

impl<H> Queue<H> {
    /// An empty queue. `now` is milliseconds since the epoch.
    pub fn new(
        id: QueueId,
        vhost: Arc<str>,
        name: Arc<str>,
        durable: bool,
        config: QueueConfig,
        now: u64,
    ) -> Self {
        Queue {
            id,
            vhost,
            name,
            durable,
            auto_delete: false,
            closing: false,
            paused: false,
            held_back: false,
            epoch: 1,
            led_since: 1,
            short_of_copies: false,
            has_copies: false,
            next_off: 0,
            consumers: Consumers::new(config.single_active_consumer),
            ready: Ready::default(),
            files: Files::new(),
            pace: Pace::default(),
            restored_hwm: 0,
            paging_out: false,
            page_retry_ms: 0,
            config: config.shared(),
            next_qseq: 1,
            hwm: 0,
            hwm_step: 1,
            held: FxHashMap::default(),
            held_bytes: 0,
            held_logged_bytes: 0,
            held_persistent: Amount::default(),
            mirror: None,
            origins: None,
            waiting: None,
            timer_at: u64::MAX,
            last_used_ms: now,
            spared_until_ms: 0,
            stats: Stats::default(),
        }
    }

    /// Makes the queue ask for its deletion when its last consumer leaves.
    #[must_use]
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Identity of the queue.
    pub fn id(&self) -> QueueId {
        self.id
    }
    /// Epoch in which it is led here.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
    /// The life that deliveries belong to: since this node leads the queue.
    pub fn life(&self) -> Life {
        Life::here(self.led_since)
    }
    /// Vhost it lives in.
    pub fn vhost(&self) -> &Arc<str> {
        &self.vhost
    }
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
    /// Whether it survives a restart.
    pub fn is_durable(&self) -> bool {
        self.durable
    }
    /// Messages that wait for a consumer.
    pub fn ready_count(&self) -> u64 {
        self.ready.len() as u64
    }
    /// How many of them there are of each priority in use; nothing in a queue without priorities.
    pub fn ready_by_priority(&self) -> Vec<(u8, u64)> {
        if self.config.max_priority.is_some() { self.ready.by_priority() } else { Vec::new() }
    }
    /// Body octets of ready messages.
    pub fn ready_bytes(&self) -> u64 {
        self.ready.bytes()
    }
    /// Messages handed out and not settled.
    pub fn unacked_count(&self) -> u64 {
        self.held.len() as u64
    }
    /// Body octets of messages handed out and not settled.
    pub fn unacked_bytes(&self) -> u64 {
        self.held_bytes
    }
    /// Octets that the log has to keep for messages, ready or held: bodies, properties and what goes with them.
    pub fn logged_bytes(&self) -> u64 {
        self.ready.logged_bytes()
            + self.held_logged_bytes
            + self.waiting.as_ref().map_or(0, |waiting| waiting.logged_bytes())
    }
    /// The consumers.
    pub fn consumers(&self) -> &Consumers<H> {
        &self.consumers
    }
    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
    /// Current behaviour.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Takes a message in: to a waiting consumer at once, else to the ready list.
    pub fn publish<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        publish: &mut Publish<'_>,
        fx: &mut E,
    ) -> Published {
        if self.waiting.is_some() {
            return self.delay(now, publish, fx);
        }
        if self.short_of_copies {
            return Published::Rejected;
        }
        if self.config.overflow != Overflow::DropHead && self.would_overflow(publish.view.body.len()) {
            if self.config.overflow == Overflow::RejectPublishDlx {
                let message = publish.share();
                self.dead_letter(None, None, &message, Reason::MaxLength, fx);
            }
            return Published::Rejected;
        }
        self.stats.published += 1;
        if let Some(reference) = publish.reference {
            self.note_origin(reference);
        }
        let qseq = self.next_qseq;
        self.next_qseq += 1;
        let expires_ms = self.expiry(now, publish.expiration_ms);
        let priority = self.config.max_priority.map_or(0, |max| publish.priority.min(max));
        // RabbitMQ: quorum queues keep everything. What is not in the log reaches no mirror, so mirrored ones do too.
        let durable = self.durable && (publish.persistent || self.config.quorum || self.config.mirrored);
        if publish.seen && durable {
            // The mark survives this node.
            self.reserve_hwm(qseq, fx);
        }

        if self.ready.is_empty() && !self.paused && !self.rests() {
            match self.deliver_direct(now, qseq, expires_ms, priority, durable, publish, fx) {
                Direct::Consumed => return Published::Accepted { logged: false },
                Direct::Held => return Published::Accepted { logged: durable },
                Direct::NoConsumer => {}
            }
        }
        let log_floor = fx.log_floor();
        if durable {
            self.log_enqueue(now, qseq, expires_ms, priority, publish, fx);
        }
        let entry = Entry {
            qseq,
            message: publish.share(),
            expires_ms,
            log_floor,
            returns: 0,
            priority,
            redelivered: publish.seen,
            logged: durable,
            stored: false,
        };
        self.ready.push_back(entry);
        self.page_if_large(now, fx);
        if self.ready.len() > BACKLOG
            && let Some(slowest) = self.consumers.stalled()
        {
            // The consumers share the work.
            fx.backlog(&slowest.handle, publish.view.body.len().div_ceil(self.consumers.len()));
        }
        self.trim(fx);
        self.expire_head(now, fx);
        Published::Accepted { logged: durable }
    }

    /// Whether a publish of another node was taken before.
    pub fn sight(&self, reference: PubRef) -> Sight {
        self.origins.as_ref().map_or(Sight::New, |origins| origins.look(reference))
    }

    /// Sets which publishes of other nodes recovery found.
    pub fn restore_origins(&mut self, origins: Origins) {
        self.origins = (!origins.is_empty()).then(|| Box::new(origins));
    }

    fn note_origin(&mut self, reference: PubRef) {
        self.origins.get_or_insert_default().note(reference);
    }

    /// Offers a message that finds the queue empty straight to a consumer, without copying it when the
    /// consumer does not acknowledge.
    #[allow(clippy::too_many_arguments, reason = "the parts of one entry that does not exist yet")]
    fn deliver_direct<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        qseq: u64,
        expires_ms: u64,
        priority: u8,
        durable: bool,
        publish: &mut Publish<'_>,
        fx: &mut E,
    ) -> Direct {
        while let Some(consumer) = self.consumers.next() {
            let no_ack = consumer.no_ack;
            let reference = consumer.reference();
            let log_floor = fx.log_floor();
            let delivery = Delivery {
                queue: self.id,
                qseq,
                consumer: reference,
                life: self.life(),
                redelivered: publish.seen,
                view: publish.view,
                shared: publish.shared(),
            };
            if fx.deliver(&consumer.handle, &delivery) == Delivered::Full {
                self.consumers.stall(reference);
                continue;
            }
            if no_ack {
                self.consumers.delivered(reference, false);
                self.stats.delivered_no_ack += 1;
                return Direct::Consumed;
            }
            self.consumers.delivered(reference, true);
            self.stats.delivered += 1;
            if durable {
                self.log_enqueue(now, qseq, expires_ms, priority, publish, fx);
                self.reserve_hwm(qseq, fx);
            }
            let entry = Entry {
                qseq,
                message: publish.share(),
                expires_ms,
                log_floor,
                returns: 0,
                priority,
                redelivered: true,
                logged: durable,
                stored: false,
            };
            self.hold(entry, Some(reference));
            return Direct::Held;
        }
        Direct::NoConsumer
    }

    /// Hands ready messages to consumers until one of the two runs out.
    pub fn drain<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.hand_out(now, fx);
        self.read_ahead(fx);
    }

    fn hand_out<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        loop {
            self.expire_head(now, fx);
            if self.paused || self.rests() {
                return;
            }
            let Some(entry) = self.ready.front() else { return };
            let Some(consumer) = self.consumers.next() else { return };
            let reference = consumer.reference();
            let no_ack = consumer.no_ack;
            let counted = (self.config.quorum && entry.returns > 0)
                .then(|| Arc::new(quorum::with_delivery_count(&entry.message, entry.returns)));
            let message = counted.as_ref().unwrap_or(&entry.message);
            let redelivered = self.may_be_seen(entry, fx);
            let delivery = Delivery {
                queue: self.id,
                qseq: entry.qseq,
                consumer: reference,
                life: self.life(),
                redelivered,
                view: message.view(),
                shared: Some(message),
            };
            if fx.deliver(&consumer.handle, &delivery) == Delivered::Full {
                self.consumers.stall(reference);
                continue;
            }
            let entry = self.ready.pop_front().expect("the head was just looked at");
            self.stats.redelivered += u64::from(redelivered);
            self.consumers.delivered(reference, !no_ack);
            if no_ack {
                self.stats.delivered_no_ack += 1;
                self.log_gone(&entry, DropReason::Ack, fx);
            } else {
                self.stats.delivered += 1;
                self.hold_delivered(entry, Some(reference), fx);
            }
        }
    }

    /// Keeps a message that somebody has got until it is acknowledged; whoever gets it again is told so.
    fn hold_delivered<E: Effects<Handle = H>>(
        &mut self,
        mut entry: Entry,
        to: Option<ConsumerRef>,
        fx: &mut E,
    ) {
        if entry.logged {
            self.reserve_hwm(entry.qseq, fx);
        }
        entry.redelivered = true;
        self.hold(entry, to);
    }

    /// Whether somebody may have seen a message, here or where another node leads the queue by now.
    fn may_be_seen<E: Effects<Handle = H>>(&self, entry: &Entry, fx: &E) -> bool {
        entry.redelivered || self.has_copies && fx.may_be_deposed()
    }

    /// `basic.get`: takes the head. `None` when nothing is ready. The caller sends it; with `no_ack` it is
    /// already gone from the queue.
    pub fn get<E: Effects<Handle = H>>(&mut self, now: u64, no_ack: bool, fx: &mut E) -> Option<Got> {
        self.last_used_ms = now;
        self.expire_head(now, fx);
        let mut read = false;
        while self.ready.front().is_none() && self.read_now(now, fx) {
            read = true;
            self.expire_head(now, fx);
        }
        let Some(entry) = self.ready.pop_front() else {
            self.stats.get_empty += 1;
            return None;
        };
        // RabbitMQ: what has expired behind it does not count any more.
        self.expire_head(now, fx);
        self.read_ahead(fx);
        let redelivered = self.may_be_seen(&entry, fx);
        let got = Got {
            qseq: entry.qseq,
            redelivered,
            message: match self.config.quorum {
                // RabbitMQ: here even a count of 0 is told.
                true => Arc::new(quorum::with_delivery_count(&entry.message, entry.returns)),
                false => Arc::clone(&entry.message),
            },
            remaining: self.ready.len() as u64,
        };
        self.stats.redelivered += u64::from(redelivered);
        if no_ack {
            self.stats.got_no_ack += 1;
            self.log_gone(&entry, DropReason::Ack, fx);
        } else {
            self.stats.got += 1;
            self.hold_delivered(entry, None, fx);
        }
        if read {
            // What consumers or a limit waited for came along, and does not come again.
            self.trim(fx);
            self.drain(now, fx);
        }
        Some(got)
    }

    /// Settles messages that were handed out. Positions that are not held (the queue was purged of them, or
    /// they belong to an older life) are ignored.
    pub fn settle<E: Effects<Handle = H>>(&mut self, now: u64, how: Settle, positions: &[u64], fx: &mut E) {
        let mut gone = Ranges::default();
        let mut back = Vec::new();
        for &qseq in positions {
            let Some(held) = self.held.remove(&qseq) else { continue };
            self.held_bytes -= held.entry.message.body_len() as u64;
            self.held_logged_bytes -= held.entry.logged_bytes();
            if held.entry.message.persistent {
                self.held_persistent.subtract(&held.entry.message);
            }
            if let Some(consumer) = held.consumer {
                self.consumers.settled(consumer);
            }
            match how {
                Settle::Ack => {
                    self.stats.acked += 1;
                    if held.entry.logged {
                        gone.add(qseq);
                    }
                    if held.entry.stored {
                        self.stored_gone(qseq, fx);
                    }
                }
                Settle::Requeue | Settle::Release if self.over_delivery_limit(&held.entry) => {
                    self.discard(held.entry, Reason::DeliveryLimit, fx);
                }
                Settle::Requeue | Settle::Release => back.push(held.entry),
                Settle::Discard => self.discard(held.entry, Reason::Rejected, fx),
            }
        }
        if !gone.0.is_empty() {
            self.log_drop(DropReason::Ack, &gone.0, fx);
        }
        if !back.is_empty() {
            if self.config.quorum {
                self.return_to_quorum(now, back, how, fx);
            } else {
                self.ready.put_back(back);
            }
            self.trim(fx);
        }
        self.drain(now, fx);
    }

    /// Adds a consumer and starts to deliver to it. Returns where to find it again.
    pub fn consume<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        consumer: consumers::NewConsumer<H>,
        fx: &mut E,
    ) -> ConsumerRef {
        let reference = self.consumers.add(consumer);
        self.spared_until_ms = 0;
        self.drain(now, fx);
        reference
    }

    /// Removes a consumer; what it holds stays unacknowledged with its channel. Returns its handle.
    pub fn cancel<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        consumer: ConsumerRef,
        fx: &mut E,
    ) -> Option<H> {
        let handle = self.withdraw(now, consumer, fx)?;
        // With a single active consumer the next one takes over here.
        self.drain(now, fx);
        Some(handle)
    }

    /// As [`cancel`](Self::cancel), and leaves it to the caller to give the others something: a channel that
    /// closes first puts back what it holds, so that the next consumer gets that first.
    pub fn withdraw<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        consumer: ConsumerRef,
        fx: &mut E,
    ) -> Option<H> {
        let handle = self.consumers.remove(consumer)?;
        self.last_used_ms = now;
        if self.consumers.is_empty() {
            if self.auto_delete {
                self.close_unused(fx);
            }
            self.arm_idle_timer(fx);
        }
        Some(handle)
    }

    /// A consumer that was full can take messages again.
    pub fn resume<E: Effects<Handle = H>>(&mut self, now: u64, consumer: ConsumerRef, fx: &mut E) {
        self.consumers.resume(consumer);
        self.drain(now, fx);
    }

    /// Changes the behaviour: a policy came, changed or went.
    pub fn configure<E: Effects<Handle = H>>(&mut self, now: u64, config: QueueConfig, fx: &mut E) {
        self.config = config.shared();
        self.trim(fx);
        self.arm_idle_timer(fx);
        self.drain(now, fx);
    }

    /// Removes every consumer, for a queue that is being deleted.
    pub fn remove_consumers(&mut self) -> Vec<consumers::Consumer<H>> {
        self.consumers.remove_all()
    }

    fn hold(&mut self, entry: Entry, consumer: Option<ConsumerRef>) {
        self.held_bytes += entry.message.body_len() as u64;
        self.held_logged_bytes += entry.logged_bytes();
        if entry.message.persistent {
            self.held_persistent.add(&entry.message);
        }
        self.held.insert(entry.qseq, Held { entry, consumer });
    }

    /// Where the next record of this queue stands.
    fn at(&mut self) -> At {
        self.next_off = self.next_off.saturating_add(1);
        At { queue_id: self.id.0, epoch: self.epoch, off: self.next_off }
    }

    fn log_enqueue<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        qseq: u64,
        expires_ms: u64,
        priority: u8,
        publish: &Publish<'_>,
        fx: &mut E,
    ) {
        let at = self.at();
        let mut record = enqueue_record(at, now, qseq, expires_ms, priority, 0, publish.view);
        if let Record::Enq(enq) = &mut record {
            enq.message.pub_ref = publish.reference;
        }
        fx.log(&record);
    }

    fn log_drop<E: Effects<Handle = H>>(&mut self, reason: DropReason, ranges: &[QseqRange], fx: &mut E) {
        let at = self.at();
        fx.log(&Record::Drop { at, reason, ranges: ranges.into() });
    }

    /// Reserves the delivered mark ahead of the deliveries, so that a restart marks what may have been seen.
    fn reserve_hwm<E: Effects<Handle = H>>(&mut self, qseq: u64, fx: &mut E) {
        if qseq.saturating_add(self.hwm_step / 2) >= self.hwm {
            self.hwm = self.hwm.max(qseq.saturating_add(self.hwm_step));
            self.hwm_step = (self.hwm_step * 2).min(HWM_STEP);
            let (at, hwm) = (self.at(), self.hwm);
            fx.log(&Record::Hwm { at, hwm });
        }
    }

    /// Has the queue look at its timers at once: some may have passed while nobody looked.
    pub fn rearm<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.timer_at = u64::MAX;
        self.arm(now, fx);
    }

    fn arm<E: Effects<Handle = H>>(&mut self, at: u64, fx: &mut E) {
        if at < self.timer_at {
            self.timer_at = at;
            fx.wake_at(self.id, at);
        }
    }
}

/// What became of a message that was offered straight to a consumer.
enum Direct {
    /// A consumer that does not acknowledge has it: it is done.
    Consumed,
    /// A consumer has it and will acknowledge.
    Held,
    /// Nobody could take it.
    NoConsumer,
}
