//! What a turn sends to other nodes: gathered while it works on queues, sent when it has let go of them.

use super::Home;
use crate::node::Node;
use crate::shard::Turn;
use broker_core::channel::confirm::Mark;
use broker_core::channel::deliveries::Life;
use broker_core::forward::codec::{self, FarTarget as Target, List, OPS};
use broker_core::forward::op::{FarPublish, FarSettle, Op, Ops};
use broker_core::ids::{ConnectionId, NodeId, QueueId};
use broker_core::message::{MessageView, Publish};
use broker_core::queue::Settle;
use broker_core::queue::consumers::ConsumerRef;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Queues whose leader is remembered; beyond that all are forgotten.
const HOMES: usize = 4096;
/// Octets of operations after which a frame is sent although the turn goes on.
pub(super) const FRAME: usize = 4 << 20;

/// Who hears what becomes of a publish.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// Nobody.
    Nobody,
    /// A channel with confirms.
    Publisher {
        /// Its connection.
        connection: ConnectionId,
        /// Its number.
        channel: u16,
        /// The publish there.
        tag: u64,
    },
    /// A transaction: set when it was refused.
    Commit(Arc<AtomicBool>),
    /// A message on its way from one queue to another.
    Letter(u64),
    /// A publish that is sent again; who waits for it is known by this number.
    Detour(u64),
}

/// What became of a publish; of several queues the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Outcome {
    /// Its queues have it, or there is none any more.
    Taken,
    /// A queue refused it.
    Refused,
    /// A queue is not led there.
    Moved,
}

/// Where a queue is that is not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FarTarget {
    /// Elsewhere; it is noted.
    Noted,
    /// Its node is down.
    NoLeader,
    /// There is no such queue.
    Unknown,
}

/// What goes to one node.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The node.
    pub(super) node: NodeId,
    /// The frame; its head is filled in when it is sent.
    pub(super) frame: Vec<u8>,
    /// The publishes in it.
    pub(super) sent: Vec<Publication>,
    /// They were on a detour: nothing is before them.
    pub(super) detours: bool,
    /// Operations of a transaction.
    commit: Vec<u8>,
}

/// A publish in a batch.
#[derive(Debug)]
pub(super) struct Publication {
    /// Its octets.
    pub(super) octets: usize,
    /// Who waits for it.
    pub(super) waiter: Waiter,
    /// Where it is in the frame; empty for a transaction.
    pub(super) at: Range<usize>,
}

impl Batch {
    fn new(node: NodeId, detours: bool) -> Batch {
        let frame = vec![0; codec::FRAME_HEAD];
        Batch { node, frame, sent: Vec::new(), detours, commit: Vec::new() }
    }

    /// For publishes that are sent again.
    pub(super) fn of_detours(node: NodeId) -> Batch {
        Batch::new(node, true)
    }

    /// Appends a publish.
    pub(super) fn publish(&mut self, op: &Op<'_>, octets: usize, waiter: Waiter) {
        let from = self.frame.len();
        op.encode(&mut self.frame);
        self.sent.push(Publication { octets, waiter, at: from..self.frame.len() });
    }
}

/// What a turn sends to other nodes, and what it knows about them; part of its buffers. Empty on a node alone.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    batches: Vec<Batch>,
    /// Targets of the message at hand that are elsewhere.
    far: Vec<(NodeId, QueueId, u32)>,
    scratch: Vec<Target>,
    homes: FxHashMap<QueueId, Option<Home>>,
    homes_version: u64,
    /// Publishes that could not be sent, by channel and number.
    refused: Vec<(u16, u64)>,
    /// Nodes that were published to.
    used: Vec<NodeId>,
    /// A transaction is gathered; set when it was refused.
    commit: Option<Arc<AtomicBool>>,
}

impl Outgoing {
    /// Nodes that these turns have published to.
    pub(crate) fn used(&self) -> &[NodeId] {
        &self.used
    }

    /// Publishes of the connection that could not be sent, by channel and number.
    pub(crate) fn take_refused(&mut self) -> Vec<(u16, u64)> {
        std::mem::take(&mut self.refused)
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    fn batch(&mut self, node: NodeId) -> &mut Batch {
        let at = self.batches.iter().position(|batch| batch.node == node).unwrap_or_else(|| {
            self.batches.push(Batch::new(node, false));
            self.batches.len() - 1
        });
        &mut self.batches[at]
    }

    fn op(&mut self, node: NodeId, op: &Op<'_>) {
        op.encode(&mut self.batch(node).frame);
    }
}

impl Turn<'_> {
    /// Where a queue is run that is not here. The shard is let go, unless it was asked before.
    pub(crate) fn home_of(&mut self, queue: QueueId) -> Option<Home> {
        if self.node().forward.is_alone() {
            return None;
        }
        let version = self.node().metadata.version();
        let pinned = self.is_pinned();
        let outgoing = self.outgoing();
        if outgoing.homes_version != version && !pinned {
            outgoing.homes.clear();
            outgoing.homes_version = version;
        }
        if let Some(home) = outgoing.homes.get(&queue) {
            return *home;
        }
        if pinned {
            // A transaction asks before it locks its shards.
            return None;
        }
        self.close();
        let home = self.node().forward.home(queue);
        let outgoing = self.outgoing();
        if outgoing.homes.len() >= HOMES {
            outgoing.homes.clear();
        }
        outgoing.homes.insert(queue, home);
        home
    }

    /// Notes that the message at hand goes to a queue that is not here.
    pub(crate) fn far_target(&mut self, queue: QueueId) -> FarTarget {
        match self.home_of(queue) {
            Some(Home::At { node, epoch }) => {
                self.outgoing().far.push((node, queue, epoch));
                FarTarget::Noted
            }
            // It was led here a moment ago, or will be: what goes there waits.
            Some(Home::Here { epoch }) if self.any_queue(queue, |_, _, _| ()).is_none() => {
                let me = self.node().forward.me();
                self.outgoing().far.push((me, queue, epoch));
                FarTarget::Noted
            }
            Some(Home::Nowhere { .. }) => FarTarget::NoLeader,
            Some(Home::Here { .. }) | None => FarTarget::Unknown,
        }
    }

    /// Notes that the message at hand goes to a queue here, if others wait for that queue that came before.
    #[cold]
    pub(crate) fn goes_behind_detours(&mut self, queue: QueueId) -> bool {
        let waits = self.node().forward.detours.wait_for(queue);
        if waits {
            let me = self.node().forward.me();
            self.outgoing().far.push((me, queue, 0));
        }
        waits
    }

    /// As [`Turn::far_target`] for a message that waits until somebody leads the queue.
    pub(crate) fn far_letter_target(&mut self, queue: QueueId) {
        if self.far_target(queue) == FarTarget::NoLeader
            && let Some(Home::Nowhere { last }) = self.home_of(queue)
        {
            self.outgoing().far.push((last, queue, 0));
        }
    }

    /// Whether the message at hand goes to other nodes.
    pub(crate) fn has_far_targets(&mut self) -> bool {
        !self.outgoing().far.is_empty()
    }

    /// On how many nodes the noted queues are.
    pub(super) fn far_nodes(&mut self) -> usize {
        let far = &mut self.outgoing().far;
        far.sort_by_key(|(node, ..)| *node);
        far.chunk_by(|(one, ..), (other, ..)| one == other).count()
    }

    /// The noted queues by node; none is noted any more.
    pub(super) fn take_far_groups(&mut self) -> Vec<Vec<(NodeId, QueueId, u32)>> {
        let mut far = std::mem::take(&mut self.outgoing().far);
        far.sort_by_key(|(node, ..)| *node);
        far.chunk_by(|(one, ..), (other, ..)| one == other).map(<[_]>::to_vec).collect()
    }

    /// Notes queues of one node.
    pub(super) fn note_far_group(&mut self, group: Vec<(NodeId, QueueId, u32)>) {
        self.outgoing().far = group;
    }

    /// Notes no queues any more.
    pub(super) fn forget_far(&mut self) {
        self.outgoing().far.clear();
    }

    /// Sends the message at hand to the nodes that lead the noted queues. Returns how many nodes.
    pub(crate) fn forward(&mut self, publish: &Publish<'_>, waiter: &Waiter) -> usize {
        let outgoing = self.outgoing();
        let mut far = std::mem::take(&mut outgoing.far);
        let mut scratch = std::mem::take(&mut outgoing.scratch);
        // Equal nodes together; the order of a node's queues stays.
        far.sort_by_key(|(node, ..)| *node);
        let mut nodes = 0;
        let mut large = false;
        for group in far.chunk_by(|(one, ..), (other, ..)| one == other) {
            nodes += 1;
            let node = group[0].0;
            scratch.clear();
            scratch.extend(group.iter().map(|(_, queue, epoch)| Target {
                queue: *queue,
                epoch: *epoch,
                number: 0,
            }));
            let op = Op::Publish(FarPublish {
                persistent: publish.persistent,
                seen: publish.seen,
                expiration_ms: publish.expiration_ms,
                priority: publish.priority,
                targets: List::Items(&scratch),
                view: publish.view,
            });
            let commits = outgoing.commit.is_some();
            let batch = outgoing.batch(node);
            if commits {
                op.encode(&mut batch.commit);
            } else {
                batch.publish(&op, codec::content_octets(&publish.view), waiter.clone());
                large |= batch.frame.len() >= FRAME;
            }
            if !outgoing.used.contains(&node) {
                outgoing.used.push(node);
            }
        }
        far.clear();
        outgoing.far = far;
        outgoing.scratch = scratch;
        if large {
            self.close();
            self.send_forwarded();
        }
        nodes
    }

    /// Settles deliveries of a queue that is not here, unless they are of a life that is over.
    pub(crate) fn forward_settle(&mut self, queue: QueueId, life: Life, how: Settle, positions: &[u64]) {
        let Some(Home::At { node, epoch }) = self.home_of(queue) else { return };
        if self.node().forward.life(node, epoch) != Some(life) {
            return;
        }
        let op = Op::Settle(FarSettle { queue, epoch, how, positions: List::Items(positions) });
        let outgoing = self.outgoing();
        if outgoing.commit.is_some() {
            op.encode(&mut outgoing.batch(node).commit);
        } else {
            outgoing.op(node, &op);
        }
    }

    /// A channel closes: its consumer of a queue elsewhere leaves.
    pub(crate) fn forward_withdraw(&mut self, consumer: u64) {
        self.close();
        if let Some((node, far)) = self.node().forward.drop_consumer(consumer) {
            self.outgoing().op(node, &Op::Withdraw { consumer });
            let parked = far.unsettled();
            if !parked.is_empty() {
                self.outgoing().op(node, &Op::Settle(far.release(&parked)));
            }
        }
    }

    /// A channel has closed and given everything back.
    pub(crate) fn forward_drain(&mut self, queue: QueueId) {
        if let Some(Home::At { node, .. }) = self.home_of(queue) {
            self.outgoing().op(node, &Op::Drain { queue });
        }
    }

    /// Sends a direct reply to a requester of another node. Returns whether there is such a node.
    pub(crate) fn forward_reply(&mut self, slot: u16, view: &MessageView<'_>) -> bool {
        let around = self.node().forward.around.get().filter(|around| !around.is_alone());
        let Some(node) = around.and_then(|around| around.with_slot(slot)) else { return false };
        self.outgoing().op(node, &Op::Reply { view: *view });
        true
    }

    /// A consumer, here or elsewhere, can take messages again.
    pub(crate) fn resume(&mut self, queue: QueueId, consumer: ConsumerRef) {
        match consumer.as_far() {
            Some(number) => {
                self.close();
                let node = self.node();
                node.resume_far(number);
            }
            None => {
                self.source(queue, |queue, now, fx| queue.resume(now, consumer, fx));
            }
        }
    }

    /// From now on everything belongs to a transaction. `queues` are all that it touches.
    pub(crate) fn begin_commit(&mut self, queues: impl Iterator<Item = QueueId>) {
        if self.node().forward.is_alone() {
            return;
        }
        for queue in queues {
            self.home_of(queue);
        }
        self.outgoing().commit = Some(Arc::default());
    }

    /// The transaction is complete. Returns what is set when a node refuses its part.
    pub(crate) fn end_commit(&mut self) -> Option<Arc<AtomicBool>> {
        let outgoing = self.outgoing();
        let refused = outgoing.commit.take()?;
        for batch in &mut outgoing.batches {
            let ops = std::mem::take(&mut batch.commit);
            if !ops.is_empty() {
                Op::Commit { ops: Ops(&ops) }.encode(&mut batch.frame);
                let waiter = Waiter::Commit(Arc::clone(&refused));
                batch.sent.push(Publication { octets: ops.len(), waiter, at: 0..0 });
            }
        }
        Some(refused)
    }

    /// Sends what was gathered; confirms of this turn wait for it. No shard may be locked by this turn.
    pub(crate) fn send_forwarded(&mut self) {
        if self.outgoing().is_empty() {
            return;
        }
        for mut batch in std::mem::take(&mut self.outgoing().batches) {
            let node = self.node();
            let mut marks = Vec::new();
            let refused = node.send_batch(&mut batch, &mut |mark| marks.push(mark));
            marks.into_iter().for_each(|mark| self.wait_for(mark));
            for waiter in refused {
                match waiter {
                    Waiter::Publisher { channel, tag, .. } => self.outgoing().refused.push((channel, tag)),
                    other => node.refuse(&other, true),
                }
            }
        }
    }

    fn wait_for(&mut self, mark: Mark) {
        self.buffers_mut().mark(mark);
    }
}

impl Node {
    /// Tells somebody that a publish was refused; `moved` when not the queue refused it but nobody leads it there.
    pub(super) fn refuse(&self, waiter: &Waiter, moved: bool) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Publisher { connection, channel, tag } => {
                if let Some(info) = self.connections.get(*connection) {
                    info.outbox.refuse(*channel, *tag);
                }
            }
            Waiter::Commit(refused) => refused.store(true, Ordering::Release),
            Waiter::Letter(number) => self.letter_refused(*number, moved),
            Waiter::Detour(number) => {
                self.detour_ends(*number, if moved { Outcome::Moved } else { Outcome::Refused });
            }
        }
    }

    /// Tells somebody who does not hear of confirms that a publish is taken.
    pub(super) fn taken(&self, waiter: &Waiter) {
        match waiter {
            Waiter::Letter(number) => self.letter_arrived(*number),
            Waiter::Detour(number) => self.detour_ends(*number, Outcome::Taken),
            Waiter::Nobody | Waiter::Publisher { .. } | Waiter::Commit(_) => {}
        }
    }

    /// Fills in a frame's head.
    pub(super) fn seal(frame: &mut [u8], generation: u64) {
        frame[0] = OPS;
        frame[1..codec::FRAME_HEAD].copy_from_slice(&generation.to_le_bytes());
    }
}
