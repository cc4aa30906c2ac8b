//! The leader's side: one origin elsewhere, what it asks of the queues here, and what they send to its clients.

use super::outgoing::Outcome;
use super::{Around, Home};
use crate::connection::basic::is_taken;
use crate::connection::outbox::{ConsumerHandle, Output};
use crate::connection::reply_to;
use crate::node::Node;
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use amqp::table::Table;
use broker_core::channel::confirm::{Confirm, Confirms};
use broker_core::forward::answer::{Answer, Failure, Sent};
use broker_core::forward::codec::{self, ANSWERS, FarTarget, Malformed};
use broker_core::forward::leader::Leader;
use broker_core::forward::op::{FarConsume, FarPublish, FarSettle, Op, Ops};
use broker_core::ids::{NodeId, QueueId};
use broker_core::message::Publish;
use broker_core::queue::consumers::{ConsumerRef, NewConsumer};
use broker_core::queue::origins::Sight;
use broker_core::queue::{Delivered, Delivery, Published, Queue, Settle};
use broker_core::record::PubRef;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Octets of answers after which a frame is sent although the turn goes on.
const FRAME: usize = 4 << 20;

/// One origin.
pub(crate) struct Served {
    origin: NodeId,
    around: Arc<dyn Around>,
    inbound: Mutex<Inbound>,
    out: Mutex<Out>,
    /// Confirms wait for the log or for gates.
    waits: AtomicBool,
    /// Something could not be sent: the session has to begin anew.
    broken: AtomicBool,
}

/// What one frame after the other works on.
#[derive(Default)]
struct Inbound {
    generation: u64,
    /// The connection that the session's `Hello` came on.
    link: u64,
    /// The origin and which start of it, as queues know who published.
    life: u64,
    confirms: Confirms,
    /// Publishes that were refused because nobody leads their queue here.
    moved: FxHashSet<u64>,
    consumers: FxHashMap<u64, (QueueId, ConsumerRef)>,
    buffers: TurnBuffers,
    positions: Vec<u64>,
}

/// What goes back.
#[derive(Default)]
struct Out {
    /// 0 while there is no session.
    generation: u64,
    frame: Vec<u8>,
    scheduled: bool,
    leader: Leader,
}

impl Out {
    /// Appends an answer. Returns whether the caller has to flush.
    fn answer(&mut self, answer: &Answer<'_>) -> bool {
        if self.frame.is_empty() {
            codec::begin(&mut self.frame, ANSWERS, self.generation);
        }
        answer.encode(&mut self.frame);
        !std::mem::replace(&mut self.scheduled, true)
    }
}

/// Where a consumer of another node is.
pub(crate) struct FarOutput {
    served: Arc<Served>,
    generation: u64,
    consumer: u64,
    /// Epoch of the queue when it came.
    epoch: u32,
    /// Name of its connection.
    pub(crate) connection: Arc<str>,
    /// Its user.
    pub(crate) user: Arc<str>,
}

impl std::fmt::Debug for FarOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FarOutput").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl FarOutput {
    /// The node that its client is connected to.
    pub(crate) fn origin(&self) -> NodeId {
        self.served.origin
    }

    /// The origin to flush at the end of a turn.
    pub(crate) fn served(&self) -> &Arc<Served> {
        &self.served
    }

    /// Sends a message, or refuses because the origin can not take more. The first output of a turn returns `true`
    /// in the second place.
    pub(crate) fn deliver(&self, no_ack: bool, delivery: &Delivery<'_>) -> (Delivered, bool) {
        let mut out = self.served.out.lock();
        if out.generation != self.generation
            || !out.leader.may_send(self.consumer, (delivery.queue, delivery.consumer))
        {
            return (Delivered::Full, false);
        }
        out.leader.sent(self.consumer, codec::content_octets(&delivery.view));
        if !no_ack {
            out.leader.hold(delivery.queue, delivery.qseq);
        }
        let sent = Sent {
            queue: delivery.queue,
            epoch: self.epoch,
            qseq: delivery.qseq,
            redelivered: delivery.redelivered,
            view: delivery.view,
        };
        let first = out.answer(&Answer::Deliver { consumer: self.consumer, sent });
        if out.frame.len() >= FRAME {
            self.served.send(&mut out);
        }
        (Delivered::Sent, first)
    }

    /// The consumer's queue is deleted.
    pub(crate) fn gone(&self) {
        let mut out = self.served.out.lock();
        if out.generation == self.generation {
            out.leader.remove(self.consumer);
            out.answer(&Answer::ConsumerGone { consumer: self.consumer });
            self.served.send(&mut out);
        }
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Served {
    pub(super) fn new(origin: NodeId, around: Arc<dyn Around>) -> Served {
        Served {
            origin,
            around,
            inbound: Mutex::default(),
            out: Mutex::default(),
            waits: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// Whether confirms wait.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whether something could not be sent.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Sends what waits.
    pub(crate) fn flush(&self) {
        self.send(&mut self.out.lock());
    }

    fn send(&self, out: &mut MutexGuard<'_, Out>) {
        out.scheduled = false;
        if out.frame.is_empty() {
            return;
        }
        let frame = std::mem::take(&mut out.frame);
        if !self.around.send(self.origin, Bytes::from(frame)) {
            out.generation = 0;
            self.broken.store(true, Ordering::Release);
        }
    }

    /// Tells the origin that what was sent before may be lost.
    pub(super) fn say_ready(&self) {
        let mut frame = Vec::new();
        codec::begin(&mut frame, ANSWERS, 0);
        Answer::Ready.encode(&mut frame);
        let sent = self.around.send(self.origin, Bytes::from(frame));
        self.broken.store(!sent, Ordering::Release);
    }

    /// Tells the origin why publishers should wait, or that they need not.
    pub(super) fn alarm(&self, reason: Option<&str>) {
        let mut out = self.out.lock();
        if out.generation != 0 {
            out.answer(&Answer::Alarm { reason: reason.unwrap_or_default() });
            self.send(&mut out);
        }
    }

    fn answer(&self, answer: &Answer<'_>) {
        let mut out = self.out.lock();
        if out.generation != 0 {
            out.answer(answer);
        }
    }
}

impl Node {
    /// Confirms what has become durable of what other nodes published.
    pub(super) fn confirm_served(&self) {
        for served in self.forward.all_served().iter().filter(|served| served.waits()) {
            let mut inbound = served.inbound.lock();
            self.confirm_inbound(served, &mut inbound, None);
            served.flush();
        }
    }

    /// Confirms what may be confirmed; with the turn's end also what came in it.
    fn confirm_inbound(&self, served: &Served, inbound: &mut Inbound, turn: Option<&Turn<'_>>) {
        let look = self.gates.look();
        let pass = |mark| look.pass(mark);
        let durable = self.wal.durable_lsn();
        let Inbound { confirms, moved, .. } = inbound;
        let emit = |confirm: Confirm| match confirm {
            Confirm::Ack { tag, .. } => served.answer(&Answer::Confirmed { upto: tag }),
            Confirm::Nack { tag } => {
                let moved = moved.remove(&tag);
                served.answer(&Answer::Refused { publish: tag, moved });
                served.answer(&Answer::Confirmed { upto: tag });
            }
        };
        match turn {
            Some(turn) => confirms.end_batch(turn.position(), turn.marks(), durable, pass, emit),
            None => confirms.durable(durable, pass, emit),
        }
        let waits = confirms.is_waiting();
        if !served.waits.swap(waits, Ordering::AcqRel) && waits {
            // The log may have got there before it was said that somebody waits.
            self.forward.wake_confirms();
        }
    }

    /// The session is over: what it held goes back to its places.
    pub(super) fn end_served(&self, served: &Arc<Served>) {
        let mut inbound = served.inbound.lock();
        self.end_inbound(served, &mut inbound);
    }

    /// The same, if the session came on this connection.
    pub(super) fn end_served_of(&self, served: &Arc<Served>, link: u64) {
        let mut inbound = served.inbound.lock();
        if inbound.link == link {
            self.end_inbound(served, &mut inbound);
        }
    }

    fn end_inbound(&self, served: &Arc<Served>, inbound: &mut Inbound) {
        let held = {
            let mut out = served.out.lock();
            out.generation = 0;
            out.frame.clear();
            out.leader.end()
        };
        inbound.generation = 0;
        inbound.confirms = Confirms::default();
        inbound.moved.clear();
        served.waits.store(false, Ordering::Release);
        let mut turn = Turn::new(self, std::mem::take(&mut inbound.buffers), self.now_ms());
        let consumers: Vec<(QueueId, ConsumerRef)> =
            inbound.consumers.drain().map(|(_, consumer)| consumer).collect();
        for (queue, consumer) in &consumers {
            // When only the connection broke, they come back.
            turn.source(*queue, |queue, now, fx| queue.lose(now, *consumer, fx));
        }
        for (queue, positions) in held {
            turn.source(queue, |queue, now, fx| queue.settle(now, Settle::Release, &positions, fx));
        }
        for (queue, _) in consumers {
            turn.source(queue, Queue::drain);
        }
        inbound.buffers = turn.finish();
    }

    /// A frame with operations came from an origin.
    pub(super) fn serve(
        &self,
        served: &Arc<Served>,
        link: u64,
        generation: u64,
        items: &[u8],
    ) -> Result<(), Malformed> {
        let mut guard = served.inbound.lock();
        let inbound = &mut *guard;
        if let Some(Ok(Op::Hello { life })) = Ops(items).next() {
            self.end_inbound(served, inbound);
            inbound.life = life;
            inbound.generation = generation;
            inbound.link = link;
            served.out.lock().generation = generation;
            served.answer(&Answer::Welcome);
            if let Some(reason) = self.blocked().borrow().as_deref() {
                served.answer(&Answer::Alarm { reason });
            }
            served.flush();
        }
        if generation != inbound.generation || generation == 0 {
            return Ok(());
        }
        let mut turn = Turn::new(self, std::mem::take(&mut inbound.buffers), self.now_ms());
        let outcome = Ops(items).try_for_each(|op| {
            serve_one(self, served, inbound, &mut turn, op?);
            Ok(())
        });
        turn.close();
        turn.send_forwarded();
        self.confirm_inbound(served, inbound, Some(&turn));
        inbound.buffers = turn.finish();
        // Pacing is the origin's: it waits for confirms.
        inbound.buffers.take_crowded();
        served.flush();
        outcome
    }
}

#[expect(clippy::too_many_lines, reason = "one match over all operations")]
fn serve_one(node: &Node, served: &Arc<Served>, inbound: &mut Inbound, turn: &mut Turn<'_>, op: Op<'_>) {
    match op {
        Op::Hello { .. } => {}
        Op::Publish(publish) => {
            let number = inbound.confirms.number();
            match publish_here(turn, &publish, inbound.life) {
                Outcome::Taken => {}
                Outcome::Refused => inbound.confirms.reject(),
                Outcome::Moved => {
                    inbound.confirms.reject();
                    inbound.moved.insert(number);
                }
            }
        }
        Op::Settle(settle) => settle_here(served, inbound, turn, &settle),
        Op::Commit { ops } => {
            let number = inbound.confirms.number();
            match commit(served, inbound, turn, ops) {
                Outcome::Taken => {}
                Outcome::Refused => inbound.confirms.reject(),
                Outcome::Moved => {
                    inbound.confirms.reject();
                    inbound.moved.insert(number);
                }
            }
        }
        Op::Consume(consume) => begin_consumer(served, inbound, turn, &consume),
        Op::Cancel { request, consumer } => {
            if let Some((queue, reference)) = inbound.consumers.remove(&consumer) {
                turn.source(queue, |queue, now, fx| queue.cancel(now, reference, fx));
            }
            served.out.lock().leader.remove(consumer);
            served.answer(&Answer::Done { request });
        }
        Op::Withdraw { consumer } => {
            if let Some((queue, reference)) = inbound.consumers.remove(&consumer) {
                turn.source(queue, |queue, now, fx| queue.withdraw(now, reference, fx));
            }
            served.out.lock().leader.remove(consumer);
        }
        Op::Drain { queue } => {
            turn.source(queue, Queue::drain);
        }
        Op::Credit { consumer, credit } => {
            let waited = served.out.lock().leader.credit(consumer, credit);
            if let Some((queue, reference)) = waited {
                turn.source(queue, |queue, now, fx| queue.resume(now, reference, fx));
            }
        }
        Op::Received { octets } => {
            let waited = served.out.lock().leader.received(octets);
            for (queue, reference) in waited {
                turn.source(queue, |queue, now, fx| queue.resume(now, reference, fx));
            }
        }
        Op::Get { request, queue, epoch, no_ack } => get(served, turn, request, (queue, epoch), no_ack),
        Op::Purge { request, queue, epoch } => {
            let purged = at(turn, queue, epoch, |queue, _, fx| queue.purge(fx));
            let counted = |messages| Answer::Counted { request, messages, consumers: 0 };
            served.answer(&purged.map_or_else(|failure| Answer::Failed { request, failure }, counted));
        }
        Op::Count { request, queue, epoch, touch } => {
            let counted = at(turn, queue, epoch, |queue, now, fx| {
                if touch {
                    queue.touch(now, fx);
                }
                (queue.ready_count(), queue.consumers().len() as u64)
            });
            served.answer(&match counted {
                Ok((messages, consumers)) => Answer::Counted { request, messages, consumers },
                Err(failure) => Answer::Failed { request, failure },
            });
        }
        Op::Reply { view } => {
            reply_to::deliver_here(node, turn, &view);
        }
        Op::Expects { request, address } => {
            served.answer(&match reply_to::exists(node, address) {
                true => Answer::Done { request },
                false => Answer::Failed { request, failure: Failure::Gone },
            });
        }
    }
}

/// Whether a queue is led here in the epoch that the origin knows.
fn is_mine(turn: &mut Turn<'_>, queue: QueueId, epoch: u32) -> Result<(), Failure> {
    match turn.home_of(queue) {
        Some(Home::Here { epoch: mine }) if mine == epoch => Ok(()),
        None => Err(Failure::Gone),
        Some(_) => Err(Failure::WrongEpoch),
    }
}

/// Works on a queue that is led here in the epoch that the origin knows.
fn at<R>(
    turn: &mut Turn<'_>,
    queue: QueueId,
    epoch: u32,
    work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
) -> Result<R, Failure> {
    is_mine(turn, queue, epoch)?;
    match turn.queue(queue, work) {
        Some(result) => Ok(result),
        // It is about to be deleted.
        None if turn.any_queue(queue, |_, _, _| ()).is_some() => Err(Failure::Gone),
        // The metadata has not caught up here.
        None => Err(Failure::WrongEpoch),
    }
}

/// Gives a message to queues that are led here. `life` is its origin's; what a queue has taken before it does not take
/// again.
pub(super) fn publish_here(turn: &mut Turn<'_>, publish: &FarPublish<'_>, life: u64) -> Outcome {
    let FarPublish { view, persistent, expiration_ms, priority, seen, .. } = *publish;
    let mut message = Publish::borrowed(view, persistent, expiration_ms, priority);
    message.seen = seen;
    let mut outcome = Outcome::Taken;
    let mut known = Vec::new();
    for FarTarget { queue, epoch, number } in publish.targets.iter() {
        let reference = (number != 0).then_some(PubRef { origin: life, seq: number });
        message.reference = reference;
        let one = at(turn, queue, epoch, |queue, now, fx| {
            match reference.map_or(Sight::New, |reference| queue.sight(reference)) {
                Sight::New => match queue.publish(now, &mut message, fx) {
                    Published::Accepted { .. } => Outcome::Taken,
                    Published::Rejected => Outcome::Refused,
                },
                Sight::Known => {
                    known.push(queue.id());
                    Outcome::Taken
                }
                Sight::Forgotten => Outcome::Refused,
            }
        });
        let one = match one {
            Ok(outcome) => outcome,
            // A queue that was deleted meanwhile takes nothing, and nobody minds.
            Err(Failure::Gone) => Outcome::Taken,
            Err(_) => Outcome::Moved,
        };
        outcome = outcome.max(one);
    }
    if !known.is_empty() {
        // It may not be on disk yet, here or at the mirrors.
        turn.wait_for_log();
        known.into_iter().for_each(|queue| turn.wait_for_copies(queue));
    }
    outcome
}

fn settle_here(served: &Served, inbound: &mut Inbound, turn: &mut Turn<'_>, settle: &FarSettle<'_>) {
    let positions = &mut inbound.positions;
    positions.clear();
    positions.extend(settle.positions.iter());
    served.out.lock().leader.settle(settle.queue, positions);
    if is_mine(turn, settle.queue, settle.epoch).is_ok() {
        turn.source(settle.queue, |queue, now, fx| queue.settle(now, settle.how, positions, fx));
    }
}

/// A transaction: all of it in one append to the log, or nothing.
fn commit(served: &Served, inbound: &mut Inbound, turn: &mut Turn<'_>, ops: Ops<'_>) -> Outcome {
    let mut queues = Vec::new();
    for op in ops {
        match op {
            Ok(Op::Publish(publish)) => {
                queues.extend(publish.targets.iter().map(|target| (target.queue, target.epoch)));
            }
            Ok(Op::Settle(settle)) => queues.push((settle.queue, settle.epoch)),
            _ => return Outcome::Refused,
        }
    }
    let moved = queues.iter().any(|(queue, epoch)| is_mine(turn, *queue, *epoch) == Err(Failure::WrongEpoch));
    if moved {
        return Outcome::Moved;
    }
    turn.pin(queues.into_iter().map(|(queue, _)| queue));
    let is_held_back = ops.flatten().any(|op| match op {
        Op::Publish(publish) => publish.targets.iter().any(|target| turn.is_held_back(target.queue)),
        _ => false,
    });
    let mut outcome = if is_held_back { Outcome::Moved } else { Outcome::Taken };
    for op in ops.flatten() {
        match op {
            // Nothing is done, and what was to be settled goes back to its place.
            Op::Publish(_) if is_held_back => {}
            Op::Settle(settle) if is_held_back => {
                settle_here(served, inbound, turn, &FarSettle { how: Settle::Release, ..settle });
            }
            Op::Publish(publish) => outcome = outcome.max(publish_here(turn, &publish, inbound.life)),
            Op::Settle(settle) => settle_here(served, inbound, turn, &settle),
            _ => {}
        }
    }
    turn.close();
    outcome
}

fn begin_consumer(
    served: &Arc<Served>,
    inbound: &mut Inbound,
    turn: &mut Turn<'_>,
    consume: &FarConsume<'_>,
) {
    let FarConsume { request, consumer, queue, .. } = *consume;
    if let Some((queue, reference)) = inbound.consumers.remove(&consumer) {
        // It was attached in an epoch that is over.
        turn.source(queue, |queue, now, fx| queue.withdraw(now, reference, fx));
    }
    let tag: Arc<str> = Arc::from(consume.tag);
    let output = FarOutput {
        served: Arc::clone(served),
        generation: inbound.generation,
        consumer,
        epoch: consume.epoch,
        connection: Arc::from(consume.connection),
        user: Arc::from(consume.user),
    };
    let handle = ConsumerHandle {
        output: Output::Far(Arc::new(output)),
        channel: consume.channel,
        tag: Arc::clone(&tag),
        no_ack: consume.no_ack,
        arguments: Table::parse(consume.arguments)
            .ok()
            .filter(|arguments| !arguments.is_empty())
            .map(|arguments| Arc::new(arguments.to_owned())),
    };
    let new = NewConsumer {
        handle,
        tag,
        no_ack: consume.no_ack,
        prefetch: consume.prefetch,
        priority: consume.priority,
        exclusive: consume.exclusive,
    };
    let begun = at(turn, queue, consume.epoch, |queue, now, fx| {
        if is_taken(queue, consume.exclusive) {
            return Err(Failure::InUse);
        }
        {
            let mut out = served.out.lock();
            out.leader.add(consumer, consume.credit);
            // The answer goes first: deliveries follow at once.
            out.answer(&Answer::Done { request });
        }
        Ok(queue.consume(now, new, fx))
    });
    match begun.and_then(|begun| begun) {
        Ok(reference) => {
            inbound.consumers.insert(consumer, (queue, reference));
        }
        Err(failure) => served.answer(&Answer::Failed { request, failure }),
    }
}

fn get(served: &Served, turn: &mut Turn<'_>, request: u64, (id, epoch): (QueueId, u32), no_ack: bool) {
    let got = at(turn, id, epoch, |queue, now, fx| {
        if queue.config().quorum && queue.consumers().is_single_active() {
            return Err(Failure::Locked);
        }
        let got = queue.get(now, no_ack, fx);
        let mut out = served.out.lock();
        match got {
            None => out.answer(&Answer::Empty { request }),
            Some(got) => {
                if !no_ack {
                    out.leader.hold(id, got.qseq);
                }
                let (qseq, redelivered, view) = (got.qseq, got.redelivered, got.message.view());
                let sent = Sent { queue: id, epoch, qseq, redelivered, view };
                out.leader.sent(0, codec::content_octets(&view));
                out.answer(&Answer::Got { request, remaining: got.remaining, sent })
            }
        };
        Ok(())
    });
    if let Err(failure) = got.and_then(|got| got) {
        served.answer(&Answer::Failed { request, failure });
    }
}
