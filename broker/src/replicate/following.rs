//! Copies that are here of queues that other nodes lead.

use super::frames;
use super::leading::Over;
use crate::cluster::link::{Kind, Lane};
use crate::connection::outbox::ConsumerHandle;
use crate::node::Node;
use crate::shard::{LocalQueue, Shard, Turn};
use broker_core::ids::{NodeId, QueueId};
use broker_core::queue::consumers::Consumer;
use broker_core::record::{Enq, Record};
use broker_core::repl::{Copies, Fill, FollowerCore, Fresh, MidSet};
use std::sync::atomic::Ordering;

/// Consumers of queues that are not led here any more.
type Away = Vec<(QueueId, Vec<Consumer<ConsumerHandle>>)>;

/// The copies, while something comes for them.
struct Taking<'n> {
    node: &'n Node,
    turn: Turn<'n>,
    away: Away,
}

impl Copies for Taking<'_> {
    fn live(&mut self, queue: QueueId) -> Option<MidSet> {
        // The newer leader of a queue that this node believes to lead asks too.
        self.turn.held(queue, |queue, _, _| queue.is_durable().then(|| queue.live())).flatten()
    }

    fn fence(&mut self, queue: QueueId, epoch: u32, leader: NodeId) {
        let node = self.node;
        let consumers = self.turn.shard(queue, |shard, _, fx| {
            let consumers = node.step_down(shard, queue);
            if let Some(copy) = shard.held_mut(queue) {
                copy.follow(epoch, leader.0, fx);
            }
            consumers
        });
        if !consumers.is_empty() {
            self.away.push((queue, consumers));
        }
    }

    fn reconcile(&mut self, queue: QueueId, delete: &MidSet, fresh: &Fresh) {
        self.turn.copy(queue, |copy, _, fx| copy.reconcile(delete, fresh, fx));
    }

    fn missing_from(&mut self, queue: QueueId, position: Option<u64>) {
        self.turn.copy(queue, |copy, _, _| copy.set_lowest_missing(position));
    }

    fn apply(&mut self, queue: QueueId, record: &Record<'_>, _: &[u8]) {
        self.turn.copy(queue, |copy, now, fx| copy.apply(now, record, fx));
    }

    fn fill(&mut self, queue: QueueId, enq: &Enq<'_>, _: &[u8]) {
        self.turn.copy(queue, |copy, now, fx| copy.fill(now, enq, fx));
    }
}

impl Node {
    /// A frame of a leader's stream. What this node's disk has no room or time for is not taken: it would be kept in
    /// memory. The leader begins anew when the disk has caught up, with what is missing then.
    pub(super) fn take_frame(&self, from: NodeId, frame: &[u8]) {
        let room = self.replicate.room.load(Ordering::Relaxed);
        if self.wal.pending_bytes() >= room {
            if self.replicate.following.lock().core.listens_to(from) {
                tracing::warn!(node = %from, "the disk does not keep up with what copies get: they fall behind");
                self.lose_leader(from);
            }
            return;
        }
        self.take(from, |core, copies| core.take(from, frame, copies));
    }

    /// Messages that a copy lacks.
    pub(super) fn take_fill(&self, from: NodeId, fill: &Fill<'_>) {
        self.take(from, |core, copies| core.take_fill(from, fill, copies));
    }

    /// A frame of a leader was lost, or an answer to it may have been: it has to begin again.
    pub(super) fn lose_leader(&self, leader: NodeId) {
        self.take(leader, |core, _| core.lose_thread(leader));
    }

    /// The metadata knows a copy now: leaders that asked before hear of it.
    pub(crate) fn copy_is_known(&self, queue: QueueId) {
        if self.replicate.follows() {
            self.work_on_copies(|core, copies| core.is_known(queue, copies));
        }
    }

    /// The newest epoch of a queue that this node has heard of, which may be this one.
    pub(crate) fn raise_fence(&self, queue: QueueId, epoch: u32) -> u32 {
        let mut following = self.replicate.following.lock();
        following.core.raise_fence(queue, epoch);
        following.core.fence(queue)
    }

    /// The queue is gone from here.
    pub(crate) fn forget_copies(&self, queue: QueueId, over: Over) {
        if self.cluster.links().is_some() {
            self.replicate.following.lock().core.forget(queue);
        }
        self.unlead(queue, over);
    }

    /// A queue is led here no more and becomes a copy, if it was. Returns who consumed.
    pub(crate) fn step_down(&self, shard: &mut Shard, queue: QueueId) -> Vec<Consumer<ConsumerHandle>> {
        if !shard.leads(queue) {
            // Its next leader may be here before the decision that makes it that.
            return self.end_hand_over(shard, queue);
        }
        let consumers = shard.make_copy(queue).map(LocalQueue::remove_consumers);
        if consumers.is_some() {
            self.unlead(queue, Over::Deposed);
        }
        consumers.unwrap_or_default()
    }

    fn take(&self, from: NodeId, work: impl FnOnce(&mut FollowerCore, &mut Taking<'_>)) {
        self.work_on_copies(|core, copies| {
            work(core, copies);
            Some(from)
        });
    }

    /// Works on copies; what is said to the leader that `work` returns waits until the log has what came of it on disk.
    fn work_on_copies(&self, work: impl FnOnce(&mut FollowerCore, &mut Taking<'_>) -> Option<NodeId>) {
        let buffers = std::mem::take(&mut *self.replicate.spare.lock());
        let mut following = self.replicate.following.lock();
        let turn = Turn::new(self, buffers, self.now_ms());
        let mut taking = Taking { node: self, turn, away: Vec::new() };
        let leader = work(&mut following.core, &mut taking);
        let Taking { mut turn, away, .. } = taking;
        turn.close();
        if let Some(leader) = leader {
            following.core.appended(leader, self.wal.last_lsn());
        }
        let follows = following.core.is_spoken_to();
        drop(following);
        *self.replicate.spare.lock() = turn.finish();
        for (queue, consumers) in away {
            self.send_consumers_away(queue, consumers);
        }
        if follows {
            if !self.replicate.follows.swap(true, Ordering::Relaxed) {
                self.replicate.wake.notify_one();
            }
            self.answer_leaders();
        }
    }

    /// Says what leaders may hear by now.
    pub(super) fn answer_leaders(&self) {
        if !self.replicate.follows() {
            return;
        }
        let durable = self.wal.durable_lsn();
        let mut following = self.replicate.following.lock();
        let super::Following { core, unsaid } = &mut *following;
        core.synced(durable, |to, said| {
            let frame = frames::answer(&said);
            let sent = self.cluster.links().map(|links| links.send(to, Lane::Data, Kind::Replicate, frame));
            if !matches!(sent, Some(Ok(_))) {
                unsaid.insert(to);
            }
        });
    }
}
