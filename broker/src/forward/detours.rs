//! Publishes that have to find their way again: their session has ended before they were confirmed, their queue was not
//! led where they were sent, or nobody who leads it could be reached. They wait here, in order, until somebody does, for
//! a while. Those that a leader has taken before it knows by their numbers ([`broker_core::queue::origins`]).
//!
//! A confirm waits at the gate of the session that its publish was sent in first: while a publish is on a detour, the
//! gate stays behind it.

use super::Home;
use super::outgoing::{Batch, FRAME, Outcome, Waiter};
use super::served::publish_here;
use crate::gates::Gates;
use crate::node::Node;
use crate::shard::{Turn, TurnBuffers};
use broker_core::channel::confirm::{GateId, Mark};
use broker_core::forward::codec::{self, FarTarget, List};
use broker_core::forward::op::{FarPublish, Op, Ops};
use broker_core::ids::{NodeId, QueueId};
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How long a publish waits for a leader. A node that has failed is found out, and another one leads, in half of that.
const PATIENCE_MS: u64 = 10_000;
/// How often what has come meanwhile is sent before others are let in.
const ROUNDS: usize = 8;
/// Octets of waiting publishes from which on publishers wait.
const FULL_OCTETS: usize = 16 << 20;
/// Publishes from which on they wait.
const FULL_COUNT: usize = 32 << 10;
/// Octets from which on publishes are refused at once: those of several sessions may come back together.
const MOST_OCTETS: usize = 128 << 20;
/// Publishes from which on they are refused.
const MOST_COUNT: usize = 256 << 10;

/// A publish that was sent to a leader, or would have been.
#[derive(Debug)]
pub(super) struct Sending {
    /// Who waits for it.
    pub(super) waiter: Waiter,
    /// The operation, to be sent again; a part of its frame. Empty for a transaction, which is not.
    pub(super) op: Bytes,
}

/// Publishes on their way again.
#[derive(Debug, Default)]
pub(super) struct Detours {
    count: AtomicUsize,
    full: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    publishes: FxHashMap<u64, Detour>,
    /// What has no leader yet, in order.
    waiting: VecDeque<Part>,
    /// Its queues, and those of what was waiting until a moment ago.
    queues: FxHashSet<QueueId>,
    octets: usize,
    /// The gate of publishes that were never sent, and the last position there.
    gate: Option<(GateId, u64)>,
    behind: FxHashMap<GateId, Behind>,
}

/// One publish.
#[derive(Debug)]
struct Detour {
    waiter: Waiter,
    mark: Mark,
    octets: usize,
    /// Its queues may have different leaders now.
    parts: usize,
    outcome: Outcome,
    until_ms: u64,
}

/// What of a publish has no leader yet.
#[derive(Debug)]
struct Part {
    publish: u64,
    op: Bytes,
    targets: Vec<FarTarget>,
    /// A leader that is gone may have handed it out before anybody else had it.
    seen: bool,
    /// When nobody waits for a leader any more.
    until_ms: u64,
}

/// A gate that has to stay behind what is on a detour.
#[derive(Debug, Default)]
struct Behind {
    reached: u64,
    ended: bool,
    open: BTreeSet<u64>,
}

/// A publish whose detour is over.
struct Ended {
    waiter: Waiter,
    mark: Mark,
    outcome: Outcome,
}

impl Detours {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether publishers have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Whether something waits for this queue.
    pub(super) fn wait_for(&self, queue: QueueId) -> bool {
        self.state.lock().queues.contains(&queue)
    }

    /// Whether one of these publishes would overtake one that waits for the same queue.
    pub(super) fn are_before<'a>(&self, mut ops: impl Iterator<Item = &'a [u8]>) -> bool {
        if self.is_empty() {
            return false;
        }
        let queues = &self.state.lock().queues;
        !queues.is_empty() && ops.any(|op| targets(op).iter().any(|target| queues.contains(&target.queue)))
    }

    /// Takes publishes that were never sent. Returns the mark to wait for, and who is refused.
    pub(super) fn hold(
        &self,
        publishes: impl Iterator<Item = Sending>,
        now: u64,
        gates: &Gates,
    ) -> (Option<Mark>, Vec<Waiter>) {
        let mut state = self.state.lock();
        let (mut last, mut refused) = (None, Vec::new());
        for sending in publishes {
            if let Waiter::Detour(publish) = sending.waiter {
                state.again(publish, sending.op, false, VecDeque::push_back);
                continue;
            }
            if sending.op.is_empty() || state.is_over() {
                refused.push(sending.waiter);
                continue;
            }
            let (gate, position) = state.gate.get_or_insert_with(|| (gates.open(), 0));
            *position += 1;
            let mark = Mark { gate: *gate, position: *position };
            let behind = state.behind.entry(mark.gate).or_default();
            behind.reached = mark.position;
            last = Some(mark);
            state.add(mark, sending, false, now, VecDeque::push_back);
        }
        self.note(&state);
        (last, refused)
    }

    /// Takes back what a session that ends had not confirmed, with its number there. Returns who is refused.
    pub(super) fn take_back(&self, gate: GateId, sent: Vec<(u64, Sending)>, now: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        let mut refused = Vec::new();
        // It comes before what was held meanwhile.
        for (position, sending) in sent.into_iter().rev() {
            if let Waiter::Detour(publish) = sending.waiter {
                state.again(publish, sending.op, true, VecDeque::push_front);
            } else if sending.op.is_empty() || state.is_over() {
                refused.push(sending.waiter);
            } else {
                state.add(Mark { gate, position }, sending, true, now, VecDeque::push_front);
            }
        }
        self.note(&state);
        refused.reverse();
        refused
    }

    /// Takes a publish that was sent where its queue is not led. `false`: it is refused.
    pub(super) fn redirect(&self, mark: Mark, sending: &Sending, now: u64) -> bool {
        let mut state = self.state.lock();
        if sending.op.is_empty() || state.is_over() {
            return false;
        }
        let Sending { waiter, op } = sending;
        match waiter {
            Waiter::Detour(publish) => state.again(*publish, op.clone(), false, VecDeque::push_back),
            _ => {
                let sending = Sending { waiter: waiter.clone(), op: op.clone() };
                state.add(mark, sending, false, now, VecDeque::push_back);
            }
        }
        self.note(&state);
        true
    }

    /// A session has confirmed publishes up to this one.
    pub(super) fn reach(&self, gate: GateId, upto: u64, gates: &Gates) {
        if self.is_empty() {
            return gates.advance(gate, upto);
        }
        let mut state = self.state.lock();
        match state.behind.get_mut(&gate) {
            Some(behind) => {
                behind.reached = behind.reached.max(upto);
                gates.advance(gate, behind.passed());
            }
            None => gates.advance(gate, upto),
        }
    }

    /// A session has ended: everything passes that is not on a detour.
    pub(super) fn end_gate(&self, gate: GateId, gates: &Gates) {
        let mut state = self.state.lock();
        match state.behind.get_mut(&gate) {
            Some(behind) => {
                (behind.ended, behind.reached) = (true, u64::MAX);
                gates.advance(gate, behind.passed());
            }
            None => gates.release(gate),
        }
    }

    fn take_waiting(&self) -> VecDeque<Part> {
        if self.is_empty() { VecDeque::new() } else { std::mem::take(&mut self.state.lock().waiting) }
    }

    /// Puts back what still has no leader, before what has come meanwhile.
    fn put_back(&self, parts: VecDeque<Part>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        parts.into_iter().rev().for_each(|part| state.waiting.push_front(part));
        let queues = state.waiting.iter().flat_map(|part| &part.targets).map(|target| target.queue);
        state.queues = queues.collect();
    }

    /// A publish has so many more parts than it had.
    fn split(&self, publish: u64, more: usize) {
        if let Some(detour) = self.state.lock().publishes.get_mut(&publish) {
            detour.parts += more;
        }
    }

    /// A part of a publish has its outcome. Returns the publish if that was the last one.
    fn settle(&self, publish: u64, outcome: Outcome) -> Option<Ended> {
        let mut state = self.state.lock();
        let detour = state.publishes.get_mut(&publish)?;
        detour.outcome = detour.outcome.max(outcome);
        detour.parts = detour.parts.saturating_sub(1);
        if detour.parts > 0 {
            return None;
        }
        let Detour { waiter, mark, octets, outcome, .. } = state.publishes.remove(&publish)?;
        state.octets -= octets;
        self.note(&state);
        Some(Ended { waiter, mark, outcome })
    }

    /// Whoever waits for a publish has heard of it: its gate may pass it.
    fn pass(&self, mark: Mark, gates: &Gates) {
        let mut state = self.state.lock();
        let Some(behind) = state.behind.get_mut(&mark.gate) else { return };
        behind.open.remove(&mark.position);
        gates.advance(mark.gate, behind.passed());
        if behind.open.is_empty() {
            let ended = behind.ended;
            state.behind.remove(&mark.gate);
            if ended {
                gates.release(mark.gate);
            }
        }
    }

    fn note(&self, state: &State) {
        self.count.store(state.publishes.len(), Ordering::Release);
        let full = state.octets >= FULL_OCTETS || state.publishes.len() >= FULL_COUNT;
        self.full.store(full, Ordering::Release);
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.octets >= MOST_OCTETS || self.publishes.len() >= MOST_COUNT
    }

    fn add(
        &mut self,
        mark: Mark,
        Sending { waiter, op }: Sending,
        seen: bool,
        now: u64,
        put: fn(&mut VecDeque<Part>, Part),
    ) {
        self.last += 1;
        let octets = op.len();
        self.octets += octets;
        let until_ms = now.saturating_add(PATIENCE_MS);
        let detour = Detour { waiter, mark, octets, parts: 1, outcome: Outcome::Taken, until_ms };
        self.publishes.insert(self.last, detour);
        self.behind.entry(mark.gate).or_default().open.insert(mark.position);
        self.again(self.last, op, seen, put);
    }

    fn again(&mut self, publish: u64, op: Bytes, seen: bool, put: fn(&mut VecDeque<Part>, Part)) {
        let Some(detour) = self.publishes.get(&publish) else { return };
        let (until_ms, targets) = (detour.until_ms, targets(&op));
        self.queues.extend(targets.iter().map(|target| target.queue));
        put(&mut self.waiting, Part { publish, op, targets, seen, until_ms });
    }
}

impl Behind {
    /// How far the gate may go.
    fn passed(&self) -> u64 {
        self.open.first().map_or(self.reached, |first| self.reached.min(first - 1))
    }
}

fn targets(op: &[u8]) -> Vec<FarTarget> {
    match Ops(op).next() {
        Some(Ok(Op::Publish(publish))) => publish.targets.iter().collect(),
        _ => Vec::new(),
    }
}

/// Where the targets of one part go.
#[derive(Default)]
struct Ways {
    nodes: Vec<(NodeId, Vec<FarTarget>)>,
    here: Vec<FarTarget>,
    stay: Vec<FarTarget>,
    lost: bool,
}

impl Ways {
    fn count(&self) -> usize {
        self.nodes.len() + usize::from(!self.here.is_empty()) + usize::from(!self.stay.is_empty())
    }
}

impl Node {
    /// Sends what is on a detour to whoever leads its queues now. `now` is of a clock that nobody sets: one that jumps would
    /// end the patience with all of them.
    pub(super) fn send_detours(self: &Arc<Self>, now: u64) {
        if self.forward.is_alone() {
            return;
        }
        // What is published meanwhile queues up behind it.
        for _ in 0..ROUNDS {
            if !self.send_waiting(now) {
                return;
            }
        }
        self.forward.wake.notify_one();
    }

    /// Sends what waits. Returns whether something could be sent.
    fn send_waiting(self: &Arc<Self>, now: u64) -> bool {
        let parts = self.forward.detours.take_waiting();
        if parts.is_empty() {
            return false;
        }
        let (mut homes, mut stuck) = (FxHashMap::default(), FxHashSet::default());
        let (mut stay, mut here, mut batches) = (VecDeque::new(), Vec::new(), Vec::<Batch>::new());
        for part in parts {
            let ways = self.ways(&part, now, &mut homes, &mut stuck);
            let Part { publish, op, seen, until_ms, .. } = part;
            self.forward.detours.split(publish, (ways.count() + usize::from(ways.lost)).saturating_sub(1));
            if ways.lost || ways.count() == 0 {
                let outcome = if ways.lost { Outcome::Moved } else { Outcome::Taken };
                self.detour_ends(publish, outcome);
            }
            for (node, targets) in ways.nodes {
                let fits = |batch: &Batch| batch.node == node && batch.frame.len() < FRAME;
                let at = batches.iter().rposition(fits).unwrap_or_else(|| {
                    batches.push(Batch::of_detours(node));
                    batches.len() - 1
                });
                encode(&mut batches[at], publish, &op, seen, &targets);
            }
            if !ways.here.is_empty() {
                here.push(Part { publish, op: op.clone(), targets: ways.here, seen, until_ms });
            }
            if !ways.stay.is_empty() {
                stay.push_back(Part { publish, op, targets: ways.stay, seen, until_ms });
            }
        }
        let mut sent = !batches.is_empty();
        for mut batch in batches {
            // Nobody waits for the marks: they have those of before.
            let refused = self.send_batch(&mut batch, &mut |_| ());
            refused.iter().for_each(|waiter| self.refuse(waiter, true));
        }
        if !here.is_empty() {
            let asked = here.len();
            let mut left = self.take_detours_here(here, now);
            // What its queue is not here for yet is tried again later, not at once.
            sent |= left.len() < asked;
            stay.append(&mut left);
        }
        // Only now: what is published from here on does not overtake what was sent.
        self.forward.detours.put_back(stay);
        sent
    }

    fn ways(
        &self,
        part: &Part,
        now: u64,
        homes: &mut FxHashMap<QueueId, Option<Home>>,
        stuck: &mut FxHashSet<QueueId>,
    ) -> Ways {
        let mut ways = Ways::default();
        for target in &part.targets {
            let queue = target.queue;
            let home = *homes.entry(queue).or_insert_with(|| self.forward.home(queue));
            match home {
                None => {}
                Some(Home::Nowhere { last }) if !self.forward.is_me(last) => ways.lost = true,
                Some(Home::Here { epoch }) if !stuck.contains(&queue) => {
                    ways.here.push(FarTarget { epoch, ..*target });
                }
                Some(Home::At { node, epoch }) if !stuck.contains(&queue) && self.forward.is_open(node) => {
                    let target = FarTarget { epoch, ..*target };
                    match ways.nodes.iter_mut().find(|(known, _)| *known == node) {
                        Some((_, targets)) => targets.push(target),
                        None => ways.nodes.push((node, vec![target])),
                    }
                }
                Some(_) if now >= part.until_ms => ways.lost = true,
                Some(_) => {
                    stuck.insert(queue);
                    ways.stay.push(*target);
                }
            }
        }
        ways
    }

    /// This node leads their queues now. Returns what has to wait a little longer.
    fn take_detours_here(self: &Arc<Self>, parts: Vec<Part>, now: u64) -> VecDeque<Part> {
        let life = self.forward.own_life();
        let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
        let (mut outcomes, mut stay) = (Vec::with_capacity(parts.len()), VecDeque::new());
        for part in parts {
            let Some(Ok(Op::Publish(known))) = Ops(&part.op).next() else { continue };
            let mut outcome = Outcome::Taken;
            let mut left = Vec::new();
            for target in part.targets {
                let one =
                    FarPublish { targets: List::Items(&[target]), seen: known.seen || part.seen, ..known };
                match publish_here(&mut turn, &one, life) {
                    Outcome::Moved if now < part.until_ms => left.push(target),
                    one => outcome = outcome.max(one),
                }
            }
            let publish = part.publish;
            if !left.is_empty() {
                self.forward.detours.split(publish, 1);
                stay.push_back(Part { targets: left, ..part });
            }
            outcomes.push((publish, outcome));
        }
        turn.close();
        let (position, marks) = (turn.position(), turn.marks().to_vec());
        turn.finish();
        let (node, mut durable) = (Arc::clone(self), self.durable());
        self.runtime.spawn(async move {
            while node.wal.durable_lsn() < position {
                if durable.changed().await.is_err() {
                    return;
                }
            }
            let passed = marks.is_empty() || node.gates.passed(&marks).await;
            for (publish, outcome) in outcomes {
                node.detour_ends(publish, if passed { outcome } else { Outcome::Moved });
            }
        });
        stay
    }

    /// A part of a publish on a detour has its outcome.
    pub(super) fn detour_ends(&self, publish: u64, outcome: Outcome) {
        let full = self.forward.detours.is_full();
        let Some(Ended { waiter, mark, outcome }) = self.forward.detours.settle(publish, outcome) else {
            return;
        };
        match outcome {
            Outcome::Taken => self.taken(&waiter),
            Outcome::Refused => self.refuse(&waiter, false),
            Outcome::Moved => self.refuse(&waiter, true),
        }
        self.forward.detours.pass(mark, &self.gates);
        if full && !self.forward.detours.is_full() {
            self.gates.poke();
        }
    }
}

/// Appends a publish to what goes to a node.
fn encode(batch: &mut Batch, publish: u64, op: &[u8], seen: bool, targets: &[FarTarget]) {
    let Some(Ok(Op::Publish(known))) = Ops(op).next() else { return };
    let seen = seen || known.seen;
    let moved = Op::Publish(FarPublish { targets: List::Items(targets), seen, ..known });
    batch.publish(&moved, codec::content_octets(&known.view), Waiter::Detour(publish));
}
