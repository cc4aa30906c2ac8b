//! The origin's side: one leader elsewhere, what is on its way to it, and what it sends to clients here.

use super::Forward;
use super::consumer::{Far, FarConsumer, deliver, give_back, pass_on, renew, room};
use super::detours::Sending;
use super::outgoing::{Batch, Publication, Waiter};
use crate::connection::outbox::{Outbox, Output};
use crate::counters::ChannelInfo;
use crate::firehose::Sighting;
use crate::node::Node;
use crate::shard::{Turn, TurnBuffers};
use amqp::frame;
use amqp::method::basic;
use broker_core::channel::confirm::{GateId, Mark};
use broker_core::channel::deliveries::{Life, Unacked};
use broker_core::forward::answer::{Answer, Answers, Failure, Sent};
use broker_core::forward::codec::{self, List, Malformed};
use broker_core::forward::op::{FarConsume, FarPublish, FarSettle, Op};
use broker_core::forward::origin::{Origin, Phase, Window};
use broker_core::ids::{NodeId, QueueId};
use broker_core::queue::Settle;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Octets of deliveries after which the leader is told that they have arrived.
const TELL_RECEIVED: u64 = 1 << 20;

/// One leader elsewhere.
pub(crate) struct Peer {
    /// The node.
    pub(super) node: NodeId,
    state: Mutex<State>,
    /// Publishers have to wait until more is confirmed.
    full: AtomicBool,
    /// It holds publishers up.
    alarmed: AtomicBool,
}

struct State {
    origin: Origin<Sending>,
    gate: Option<GateId>,
    /// The connection was there, and too full for what begins a session: that is tried again.
    unheard: bool,
    /// The number that lives of its queues have in this session.
    session: u32,
    consumers: FxHashMap<u64, Far>,
    requests: FxHashMap<u64, Asked>,
    alarm: Option<Arc<str>>,
    received: u64,
    told: u64,
}

/// What a request asked for.
pub(super) enum What {
    /// Numbers, or just that it is done.
    Plain,
    /// A consumer comes.
    Consume(u64),
    /// A consumer leaves.
    Cancel(u64),
    /// `basic.get`.
    Get(Getter),
}

/// Who fetches a message.
#[derive(Clone, Debug)]
pub(crate) struct Getter {
    /// Its output.
    pub(crate) outbox: Arc<Outbox>,
    /// Its channel.
    pub(crate) channel: u16,
    /// It does not acknowledge.
    pub(crate) no_ack: bool,
    /// Where it is counted.
    pub(crate) info: Arc<ChannelInfo>,
}

/// What a leader answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It is done; of a get, that the client has been sent what there is to send.
    Done,
    /// Numbers of a queue.
    Counted {
        /// Messages.
        messages: u64,
        /// Consumers.
        consumers: u64,
    },
    /// Why it was not done.
    Failed(Failure),
}

struct Asked {
    what: What,
    tell: Option<oneshot::Sender<Told>>,
}

/// What holds publishers to other nodes up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FarHold {
    /// Too much is on its way.
    pub(crate) full: bool,
    /// An alarm of a leader.
    pub(crate) alarm: Option<Arc<str>>,
}

/// What a frame with answers leads to once the peer's lock is let go.
#[derive(Default)]
pub(super) struct After {
    frame: Vec<u8>,
    touched: Vec<Arc<Outbox>>,
    pub(super) sightings: Vec<Sighting>,
    refused: Vec<(Waiter, bool)>,
    /// Publishes that are not led there, with their numbers.
    moved: Vec<(u64, Sending)>,
    done: Vec<Waiter>,
    begin: bool,
    poke: bool,
}

impl After {
    pub(super) fn touch(&mut self, outbox: &Arc<Outbox>, first: bool) {
        if first {
            self.touched.push(Arc::clone(outbox));
        }
    }

    pub(super) fn op(&mut self, generation: u64, op: &Op<'_>) {
        if self.frame.is_empty() {
            codec::begin(&mut self.frame, codec::OPS, generation);
        }
        op.encode(&mut self.frame);
    }
}

impl Peer {
    /// Publishes that were sent and are not confirmed.
    #[cfg(test)]
    pub(super) fn unconfirmed(&self) -> usize {
        self.lock().origin.unconfirmed()
    }

    pub(super) fn new(node: NodeId) -> Peer {
        // Higher than in any earlier life of this process.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = u64::try_from(since.as_micros()).unwrap_or(0);
        Peer {
            node,
            state: Mutex::new(State {
                origin: Origin::new(seed),
                gate: None,
                unheard: false,
                session: 0,
                consumers: FxHashMap::default(),
                requests: FxHashMap::default(),
                alarm: None,
                received: 0,
                told: 0,
            }),
            full: AtomicBool::new(false),
            alarmed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether a session was to begin, and its first frame could not be sent.
    pub(super) fn is_unheard(&self) -> bool {
        self.lock().unheard
    }

    fn note_full(&self, state: &State) -> bool {
        let full = state.origin.is_full();
        self.full.swap(full, Ordering::AcqRel) && !full
    }
}

impl State {
    /// Ends the session: publishes are sent again, whoever waits for something else is to be told, and consumers wait
    /// for a leader again.
    fn clear(&mut self, node: &Node, peer: &Peer, sent: Vec<(u64, Sending)>) -> Lost {
        let gate = self.gate.take();
        let waiters = match gate {
            Some(gate) => node.forward.detours.take_back(gate, sent, node.monotonic_ms()),
            None => Vec::new(),
        };
        self.requests.clear();
        self.alarm = None;
        self.received = 0;
        self.told = 0;
        for (number, far) in self.consumers.drain() {
            if !far.leaving {
                node.forward.detach(number, far.consumer, Some((peer.node, far.epoch)));
            }
        }
        peer.alarmed.store(false, Ordering::Release);
        peer.full.store(false, Ordering::Release);
        Lost { waiters, gate }
    }
}

/// What a session leaves behind that has ended.
struct Lost {
    waiters: Vec<Waiter>,
    gate: Option<GateId>,
}

impl Forward {
    /// The life that deliveries from a leader belong to now.
    pub(super) fn life(&self, node: NodeId, epoch: u32) -> Option<Life> {
        let state = self.peer(node);
        let state = state.lock();
        (state.origin.phase() == Phase::Open).then(|| Life::far(state.session, epoch))
    }

    /// Forgets a consumer. Returns the leader that has to hear of it, and what was known of it.
    pub(super) fn drop_consumer(&self, number: u64) -> Option<(NodeId, Far)> {
        self.forget_detached(number);
        let remove = |peer: Arc<Peer>| {
            let far = peer.lock().consumers.remove(&number)?;
            Some((peer.node, far))
        };
        self.peers().into_iter().find_map(remove)
    }

    /// What holds publishers up that publish to these nodes.
    pub(crate) fn hold(&self, nodes: &[NodeId]) -> FarHold {
        let mut hold = FarHold::default();
        if nodes.is_empty() {
            return hold;
        }
        hold.full = self.detours.is_full();
        for peer in self.peers.read().values().filter(|peer| nodes.contains(&peer.node)) {
            hold.full |= peer.full.load(Ordering::Acquire);
            if hold.alarm.is_none() && peer.alarmed.load(Ordering::Acquire) {
                hold.alarm = peer.lock().alarm.clone();
            }
        }
        hold
    }

    /// Whether there is a session with a leader.
    pub(super) fn is_open(&self, node: NodeId) -> bool {
        self.peer(node).lock().origin.phase() == Phase::Open
    }

    /// Sends a request to a leader. None: there is no session with it now.
    pub(super) fn request(
        &self,
        node: NodeId,
        what: What,
        op: impl FnOnce(u64, &mut dyn FnMut(&Op<'_>)),
    ) -> Option<oneshot::Receiver<Told>> {
        let peer = self.peer(node);
        let mut state = peer.lock();
        if state.origin.phase() != Phase::Open {
            return None;
        }
        let request = self.next_request();
        let mut frame = Vec::new();
        codec::begin(&mut frame, codec::OPS, state.origin.generation());
        op(request, &mut |op| op.encode(&mut frame));
        if !self.send(node, frame) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        state.requests.insert(request, Asked { what, tell: Some(tell) });
        Some(told)
    }

    /// Where a consumer is attached.
    pub(super) fn leader_of_consumer(&self, number: u64) -> Option<NodeId> {
        let has = |peer: &Arc<Peer>| peer.lock().consumers.contains_key(&number);
        self.peers().into_iter().find(has).map(|peer| peer.node)
    }
}

impl Node {
    /// Begins a session with a leader; the one before is over.
    pub(super) fn begin_session(&self, peer: &Peer) {
        let lost = {
            let mut state = peer.lock();
            let lost = state.origin.begin();
            let lost = state.clear(self, peer, lost);
            state.session = self.forward.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            state.gate = Some(self.gates.open());
            let mut frame = Vec::new();
            codec::begin(&mut frame, codec::OPS, state.origin.generation());
            Op::Hello { life: self.forward.own_life() }.encode(&mut frame);
            state.unheard = !self.forward.send(peer.node, frame);
            if state.unheard {
                state.origin.end();
            }
            lost
        };
        self.tell_lost(lost);
    }

    /// The session with a leader is over.
    pub(super) fn end_session(&self, peer: &Peer) {
        let lost = {
            let mut state = peer.lock();
            let lost = state.origin.end();
            // It begins when the connection is there.
            state.unheard = false;
            state.clear(self, peer, lost)
        };
        self.tell_lost(lost);
    }

    fn tell_lost(&self, lost: Lost) {
        lost.waiters.iter().for_each(|waiter| self.refuse(waiter, true));
        // Only now: whoever finds the gate open has to know which publishes were refused.
        lost.gate.iter().for_each(|gate| self.forward.detours.end_gate(*gate, &self.gates));
        self.gates.poke();
        if !self.forward.detours.is_empty() {
            self.forward.wake.notify_one();
        }
    }

    /// Sends a batch. Confirms of its publishes wait for what `mark` is told. Publishes that can not be sent wait here
    /// until they can; returns who is refused at once.
    pub(super) fn send_batch(&self, batch: &mut Batch, mark: &mut dyn FnMut(Mark)) -> Vec<Waiter> {
        let peer = self.forward.peer(batch.node);
        let mut state = peer.lock();
        let (mut frame, sent) = (std::mem::take(&mut batch.frame), std::mem::take(&mut batch.sent));
        let is_open = state.origin.phase() == Phase::Open;
        // A transaction goes as it is.
        let overtakes = !batch.detours
            && sent.iter().all(|publication| !publication.at.is_empty())
            && self.forward.detours.are_before(sent.iter().map(|publication| &frame[publication.at.clone()]));
        if !is_open || overtakes {
            let rest = without(&frame, &sent);
            let (waits, refused) = self.hold_publications(frame, sent);
            waits.into_iter().for_each(mark);
            // Settlements of a session that has ended mean nothing.
            if is_open && rest.len() > codec::FRAME_HEAD {
                let mut rest = rest;
                Node::seal(&mut rest, state.origin.generation());
                if !self.forward.send(batch.node, rest) {
                    drop(state);
                    self.begin_session(&peer);
                }
            }
            return refused;
        }
        if !sent.is_empty() {
            let mut numbers = self.forward.numbers.lock();
            for publication in sent.iter().filter(|publication| !publication.at.is_empty()) {
                let numbered = FarPublish::number(&mut frame[publication.at.clone()], |queue| {
                    let number = numbers.entry(queue).or_default();
                    *number += 1;
                    *number
                });
                debug_assert!(numbered.is_ok(), "it was just written");
            }
        }
        Node::seal(&mut frame, state.origin.generation());
        let frame = Bytes::from(frame);
        let is_sent = self.forward.send(batch.node, frame.clone());
        let mut last = 0;
        for Publication { octets, waiter, at } in sent {
            last = state.origin.publish(octets, Sending { waiter, op: frame.slice(at) });
        }
        peer.note_full(&state);
        if let Some(gate) = state.gate.filter(|_| last > 0) {
            mark(Mark { gate, position: last });
        }
        if !is_sent {
            drop(state);
            // What it held may have been settlements: the leader has to take back what it thinks is held. The
            // publishes are sent again.
            self.begin_session(&peer);
        }
        Vec::new()
    }

    fn hold_publications(&self, frame: Vec<u8>, sent: Vec<Publication>) -> (Option<Mark>, Vec<Waiter>) {
        let frame = Bytes::from(frame);
        let publishes =
            sent.into_iter().map(|Publication { waiter, at, .. }| Sending { waiter, op: frame.slice(at) });
        self.forward.detours.hold(publishes, self.monotonic_ms(), &self.gates)
    }

    /// A frame with answers came from a leader.
    pub(super) fn hear(&self, peer: &Peer, generation: u64, items: &[u8]) -> Result<(), Malformed> {
        let mut after = After::default();
        let outcome = {
            let mut guard = peer.lock();
            let state = &mut *guard;
            let outcome = Answers(items).try_for_each(|answer| {
                self.hear_one(peer, state, generation, &answer?, &mut after);
                Ok(())
            });
            let generation = state.origin.generation();
            if state.received >= state.told + TELL_RECEIVED {
                state.told = state.received;
                after.op(generation, &Op::Received { octets: state.received });
            }
            if !after.frame.is_empty() && !after.begin {
                let frame = std::mem::take(&mut after.frame);
                after.begin |= !self.forward.send(peer.node, frame);
            }
            if let Some(gate) = state.gate {
                let now = if after.moved.is_empty() { 0 } else { self.monotonic_ms() };
                for (position, sending) in after.moved.drain(..) {
                    if !self.forward.detours.redirect(Mark { gate, position }, &sending, now) {
                        after.refused.push((sending.waiter, true));
                    }
                }
                after.refused.drain(..).for_each(|(waiter, moved)| self.refuse(&waiter, moved));
                self.forward.detours.reach(gate, state.origin.confirmed(), &self.gates);
            }
            after.poke |= peer.note_full(state);
            outcome
        };
        after.done.iter().for_each(|waiter| self.taken(waiter));
        after.touched.iter().for_each(|outbox| outbox.flush());
        if after.poke {
            self.gates.poke();
        }
        if !after.sightings.is_empty() {
            let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
            after.sightings.into_iter().for_each(|sighting| turn.saw(sighting));
            turn.finish();
        }
        if after.begin {
            self.begin_session(peer);
        }
        outcome
    }

    #[expect(clippy::too_many_lines, reason = "one match over all answers")]
    fn hear_one(
        &self,
        peer: &Peer,
        state: &mut State,
        generation: u64,
        answer: &Answer<'_>,
        after: &mut After,
    ) {
        match answer {
            Answer::Ready => {
                after.begin = true;
                return;
            }
            Answer::Welcome => {
                if state.origin.welcome(generation) {
                    self.forward.wake.notify_one();
                }
                return;
            }
            _ if !state.origin.is_current(generation) => return,
            _ => {}
        }
        match *answer {
            Answer::Ready | Answer::Welcome => {}
            Answer::Confirmed { upto } => {
                let confirmed = state.origin.confirm(upto).map(|sending| sending.waiter);
                let hears = |waiter: &Waiter| matches!(waiter, Waiter::Letter(_) | Waiter::Detour(_));
                after.done.extend(confirmed.filter(hears));
            }
            Answer::Refused { publish, moved } => {
                let Some(sending) = state.origin.refuse(publish) else { return };
                if moved {
                    after.moved.push((publish, sending));
                } else {
                    after.refused.push((sending.waiter, false));
                }
            }
            Answer::Done { request } => {
                let Some(asked) = state.requests.remove(&request) else { return };
                match asked.what {
                    What::Consume(number) => {
                        consumer_begins(state, number, after);
                        // The channel's limit may leave no room yet.
                        let far = state.consumers.get_mut(&number);
                        if let Some(credit) = far.and_then(|far| renew(number, far)) {
                            after.op(generation, &Op::Credit { consumer: number, credit });
                        }
                    }
                    What::Cancel(number) => {
                        if let Some(far) = state.consumers.remove(&number) {
                            give_back(generation, far, after);
                        }
                    }
                    What::Plain | What::Get(_) => {}
                }
                tell(asked.tell, Told::Done);
            }
            Answer::Failed { request, failure } => {
                let Some(asked) = state.requests.remove(&request) else { return };
                if let What::Consume(number) = asked.what
                    && let Some(far) = state.consumers.remove(&number)
                    && asked.tell.is_none()
                {
                    // It was attached again.
                    match failure {
                        Failure::WrongEpoch => {
                            self.forward.detach(number, far.consumer, Some((peer.node, far.epoch)));
                        }
                        _ => far.consumer.gone(),
                    }
                }
                tell(asked.tell, Told::Failed(failure));
            }
            Answer::Counted { request, messages, consumers } => {
                if let Some(asked) = state.requests.remove(&request) {
                    tell(asked.tell, Told::Counted { messages, consumers });
                }
            }
            Answer::Empty { request } => {
                let Some(asked) = state.requests.remove(&request) else { return };
                if let What::Get(getter) = &asked.what {
                    getter.info.messages.get_empty.bump(1);
                    let channel = getter.channel;
                    let first =
                        getter.outbox.write(|buf| frame::write_fields(buf, channel, &basic::GetEmpty));
                    after.touch(&getter.outbox, first);
                }
                tell(asked.tell, Told::Done);
            }
            Answer::Got { request, remaining, sent } => {
                state.received += codec::content_octets(&sent.view) as u64;
                let asked = state.requests.remove(&request);
                let life = Life::far(state.session, sent.epoch);
                let written = match asked.as_ref().map(|asked| &asked.what) {
                    Some(What::Get(getter)) => got(self, getter, &sent, remaining, life, after),
                    _ => false,
                };
                if !written {
                    // Nobody is there any more who could settle it.
                    after.op(generation, &release(&sent, &[sent.qseq]));
                }
                tell(asked.and_then(|asked| asked.tell), Told::Done);
            }
            Answer::Deliver { consumer, sent } => {
                state.received += codec::content_octets(&sent.view) as u64;
                let life = Life::far(state.session, sent.epoch);
                match state.consumers.get_mut(&consumer) {
                    Some(far) => deliver(self, consumer, far, &sent, life, after),
                    None => after.op(generation, &release(&sent, &[sent.qseq])),
                }
                if let Some(far) = state.consumers.get_mut(&consumer)
                    && let Some(credit) = renew(consumer, far)
                {
                    after.op(generation, &Op::Credit { consumer, credit });
                }
            }
            Answer::ConsumerGone { consumer } => {
                if let Some(far) = state.consumers.remove(&consumer) {
                    far.consumer.gone();
                }
            }
            Answer::Alarm { reason } => {
                state.alarm = (!reason.is_empty()).then(|| Arc::from(reason));
                peer.alarmed.store(state.alarm.is_some(), Ordering::Release);
                after.poke = true;
            }
        }
    }

    /// The client of a consumer takes deliveries again, or its channel's limit leaves room.
    pub(super) fn resume_far(&self, number: u64) {
        for peer in self.forward.peers() {
            let mut guard = peer.lock();
            let state = &mut *guard;
            let generation = state.origin.generation();
            let session = state.session;
            let Some(far) = state.consumers.get_mut(&number) else { continue };
            let mut after = After::default();
            far.waiting = false;
            let life = Life::far(session, far.epoch);
            while !far.waiting
                && let Some(parked) = far.parked.pop_front()
            {
                if !pass_on(self, number, far, &parked, life, &mut after) {
                    far.parked.push_front(parked);
                    break;
                }
            }
            if let Some(credit) = renew(number, far) {
                after.op(generation, &Op::Credit { consumer: number, credit });
            }
            let lost = !after.frame.is_empty() && !self.forward.send(peer.node, after.frame);
            drop(guard);
            after.touched.iter().for_each(|outbox| outbox.flush());
            if lost {
                self.begin_session(&peer);
            }
            return;
        }
    }

    /// Attaches a consumer to its leader, without waiting for the answer. It comes back when there is no session.
    pub(super) fn attach_far(
        &self,
        node: NodeId,
        epoch: u32,
        number: u64,
        consumer: FarConsumer,
    ) -> Result<(), FarConsumer> {
        match self.send_consume(node, epoch, number, consumer, None) {
            Ok(()) => Ok(()),
            Err((consumer, _)) => Err(consumer),
        }
    }

    /// Sends a consumer to its leader.
    pub(super) fn send_consume(
        &self,
        node: NodeId,
        epoch: u32,
        number: u64,
        consumer: FarConsumer,
        tell: Option<oneshot::Sender<Told>>,
    ) -> Result<(), (FarConsumer, Option<oneshot::Sender<Told>>)> {
        let peer = self.forward.peer(node);
        let mut state = peer.lock();
        if state.origin.phase() != Phase::Open {
            return Err((consumer, tell));
        }
        let request = self.forward.next_request();
        let mut window = Window::default();
        let credit = window.begin(room(&consumer.handle));
        let client = consumer.handle.outbox().and_then(|outbox| outbox.client().cloned());
        let (connection, user) =
            client.as_ref().map_or(("", ""), |client| (&*client.connection, &*client.user));
        let mut arguments = Vec::new();
        if let Some(known) = &consumer.handle.arguments {
            known.encode(&mut arguments);
            // The link has a length of its own.
            arguments.drain(..4);
        }
        let mut frame = Vec::new();
        codec::begin(&mut frame, codec::OPS, state.origin.generation());
        let op = Op::Consume(FarConsume {
            request,
            consumer: number,
            queue: consumer.queue,
            epoch,
            tag: &consumer.handle.tag,
            channel: consumer.handle.channel,
            connection,
            user,
            no_ack: consumer.handle.no_ack,
            exclusive: consumer.exclusive,
            prefetch: consumer.prefetch,
            priority: consumer.priority,
            arguments: &arguments,
            credit,
        });
        op.encode(&mut frame);
        if !self.forward.send(node, frame) {
            return Err((consumer, tell));
        }
        let parked = VecDeque::new();
        let far = Far { consumer, epoch, window, parked, waiting: false, leaving: false };
        state.consumers.insert(number, far);
        state.requests.insert(request, Asked { what: What::Consume(number), tell });
        Ok(())
    }

    /// A consumer is about to be cancelled: it is not attached again if its leader goes meanwhile.
    pub(super) fn note_leaving(&self, node: NodeId, number: u64) {
        if let Some(far) = self.forward.peer(node).lock().consumers.get_mut(&number) {
            far.leaving = true;
        }
    }

    /// Consumers whose queues are led by others now, or anew, wait for their new leader.
    pub(super) fn let_go_moved(&self, peer: &Peer) {
        let attached: Vec<(u64, QueueId, u32)> = {
            let state = peer.lock();
            let entries = state.consumers.iter();
            entries.map(|(number, far)| (*number, far.consumer.queue, far.epoch)).collect()
        };
        for (number, queue, epoch) in attached {
            if self.forward.home(queue) == Some(super::Home::At { node: peer.node, epoch }) {
                continue;
            }
            let mut guard = peer.lock();
            let state = &mut *guard;
            let Some(far) = state.consumers.remove(&number) else { continue };
            let mut frame = Vec::new();
            codec::begin(&mut frame, codec::OPS, state.origin.generation());
            Op::Withdraw { consumer: number }.encode(&mut frame);
            // Without a session there is nothing to withdraw from.
            let _ = self.forward.send(peer.node, frame);
            drop(guard);
            if !far.leaving {
                self.forward.detach(number, far.consumer, Some((peer.node, far.epoch)));
            }
        }
    }
}

/// A frame without its publishes.
fn without(frame: &[u8], sent: &[Publication]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut from = 0;
    for at in sent.iter().map(|publication| &publication.at).filter(|at| !at.is_empty()) {
        rest.extend_from_slice(&frame[from..at.start]);
        from = at.end;
    }
    rest.extend_from_slice(&frame[from..]);
    rest
}

fn tell(tell: Option<oneshot::Sender<Told>>, told: Told) {
    if let Some(tell) = tell {
        // Whoever asked may have gone.
        let _ = tell.send(told);
    }
}

fn release<'a>(sent: &Sent<'_>, positions: &'a [u64]) -> Op<'a> {
    let positions = List::Items(positions);
    Op::Settle(FarSettle { queue: sent.queue, epoch: sent.epoch, how: Settle::Release, positions })
}

/// `consume-ok`, before the first delivery.
fn consumer_begins(state: &mut State, number: u64, after: &mut After) {
    let Some(far) = state.consumers.get_mut(&number) else { return };
    if std::mem::take(&mut far.consumer.reply)
        && let Output::Here(outbox) = &far.consumer.handle.output
    {
        let (channel, consumer_tag) = (far.consumer.handle.channel, &*far.consumer.handle.tag);
        let ok = basic::ConsumeOk { consumer_tag };
        let first = outbox.write(|buf| frame::write_fields(buf, channel, &ok));
        after.touch(outbox, first);
    }
}

/// The message that a client fetched. Returns whether its channel is still there.
fn got(node: &Node, getter: &Getter, sent: &Sent<'_>, remaining: u64, life: Life, after: &mut After) -> bool {
    let Getter { outbox, channel, no_ack, info } = getter;
    let mut written = false;
    let first = outbox.write_content(*channel, &sent.view, None, |buf, deliveries| {
        written = true;
        let counters = &info.messages;
        if *no_ack { &counters.get_no_ack } else { &counters.get }.bump(1);
        if sent.redelivered {
            counters.redeliver.bump(1);
        }
        let delivery_tag = match no_ack {
            true => deliveries.tag_no_ack(),
            false => deliveries.tag(Unacked { queue: sent.queue, qseq: sent.qseq, life, consumer: None }),
        };
        let ok = basic::GetOk {
            delivery_tag,
            redelivered: sent.redelivered,
            exchange: sent.view.exchange,
            routing_key: sent.view.routing_key,
            message_count: u32::try_from(remaining).unwrap_or(u32::MAX),
        };
        frame::write_fields(buf, *channel, &ok);
    });
    after.touch(outbox, first);
    if written && node.is_tracing() {
        let sighting = Sighting::sent(outbox, *channel, sent.queue, sent.redelivered, &sent.view);
        after.sightings.extend(sighting);
    }
    written
}
