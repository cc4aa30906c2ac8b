//! Which queues are led here, which are copies, and how they change from one to the other.

use super::queues::{new_queue, queue_config};
use super::{MetaQueue, Node, remove_queue};
use crate::cluster::Home;
use crate::replicate::Over;
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use broker_core::ids::NodeId;
use broker_core::meta::MetaSm;
use broker_core::queue::Effects;
use broker_core::repl::Placed;
use std::sync::Arc;

impl Node {
    /// Brings a queue to where the metadata says it is. Called under the metadata's lock, in the order of its changes.
    pub(super) fn place(self: &Arc<Self>, sm: &MetaSm, known: &MetaQueue, now: u64) {
        let placement = &known.placement;
        let is_shared = is_shared(known);
        // What the log knows may be newer than metadata that is read again.
        let is_newest = !is_shared
            || self.is_alone_with(known)
            || self.raise_fence(known.id, placement.epoch) == placement.epoch;
        let holds = is_shared && placement.replicas.contains(&self.cluster.me());
        match self.cluster.home(known) {
            Home::Here { epoch } => self.lead_here(sm, known, epoch, is_newest, now),
            Home::At { node, .. } if holds => self.copy_here(sm, known, Some(node), is_newest, now),
            Home::Nowhere { .. } if holds => self.copy_here(sm, known, None, is_newest, now),
            Home::At { .. } | Home::Nowhere { .. } => self.leave(known, now),
        }
    }

    /// Puts a queue that recovery found to where the metadata says it is. `led_by_me`: nobody else led it in the epoch
    /// that the log knows last.
    pub(super) fn restore_place(
        self: &Arc<Self>,
        sm: &MetaSm,
        known: &MetaQueue,
        mut queue: LocalQueue,
        led_by_me: bool,
        now: u64,
    ) {
        let (id, placement) = (known.id, &known.placement);
        let is_next = led_by_me && placement.epoch <= queue.epoch().saturating_add(1);
        let goes_on = self.runs(known) && (is_next || placement.replicas.len() == 1);
        if is_shared(known) {
            self.raise_fence(id, queue.epoch());
        }
        let mut buffers = TurnBuffers::default();
        if goes_on {
            self.lock_shard(self.shard_of(id)).insert(queue);
        } else {
            queue.follow(0, 0, &mut buffers);
            self.lock_shard(self.shard_of(id)).insert_copy(queue);
        }
        self.place(sm, known, now);
        let mut turn = Turn::new(self, buffers, now);
        turn.queue(id, |queue, now, fx| {
            queue.touch(now, fx);
            fx.wake_at(id, now);
        });
        turn.close();
    }

    fn is_alone_with(&self, known: &MetaQueue) -> bool {
        self.cluster.is_alone() && known.placement.replicas.len() <= 1
    }

    fn lead_here(self: &Arc<Self>, sm: &MetaSm, known: &MetaQueue, epoch: u32, is_newest: bool, now: u64) {
        let (id, me) = (known.id, self.cluster.me().0);
        let mut turn = Turn::new(self, TurnBuffers::default(), now);
        let mut consumers = Vec::new();
        turn.shard(id, |shard, now, fx| {
            if shard.copies(id) && !is_newest {
                return;
            }
            let is_new = !shard.leads(id) && !shard.copies(id);
            if is_new {
                shard.insert(new_queue(sm, known, now));
            }
            let has_clients = |queue: &LocalQueue| queue.unacked_count() > 0 || !queue.consumers().is_empty();
            let goes_on = is_shared(known)
                && shard.source_mut(id).is_some_and(|queue| queue.epoch() < epoch && has_clients(queue));
            if goes_on {
                // For a moment nobody led it, and what other nodes said of their deliveries then is lost: all that was
                // handed out is back in its place.
                shard.make_copy(id);
                if let Some(queue) = shard.held_mut(id) {
                    consumers = queue.remove_consumers();
                    queue.follow(0, 0, fx);
                }
            }
            // Whoever holds it back lets it go on, unless another node leads by then: what it would take until that is
            // decided would be refused.
            let is_held_back =
                shard.held_mut(id).is_some_and(|queue| queue.is_held_back() && queue.epoch() >= epoch);
            let was_copy = !is_held_back && shard.make_led(id).is_some();
            let Some(queue) = shard.held_mut(id) else { return };
            configure(queue, known, now, fx);
            queue.set_has_copies(is_shared(known) && known.placement.replicas.len() > 1);
            if was_copy {
                tracing::debug!(queue = %id, epoch, "a copy is led here from now on");
            }
            if was_copy && queue.is_copy() || queue.epoch() < epoch {
                queue.lead(now, epoch, me, !goes_on, fx);
            } else if is_new {
                queue.touch(now, fx);
            }
            if is_new && queue.is_durable() {
                queue.log_open(fx);
            }
            if is_shared(known) {
                let placed = placed(known);
                queue.set_short_of_copies(placed.isr.len() < placed.min_in_sync);
                self.lead_copies(id, placed);
            }
        });
        turn.defer(self);
        self.send_consumers_away(id, consumers);
    }

    fn copy_here(&self, sm: &MetaSm, known: &MetaQueue, leader: Option<NodeId>, is_newest: bool, now: u64) {
        let (id, epoch) = (known.id, known.placement.epoch);
        let mut turn = Turn::new(self, TurnBuffers::default(), now);
        let mut is_new = false;
        let consumers = turn.shard(id, |shard, now, fx| {
            let mut consumers = Vec::new();
            if shard.leads(id) {
                // What nobody leads stays until its leader is known.
                if leader.is_none() || !is_newest {
                    return consumers;
                }
                consumers = self.step_down(shard, id);
            } else if shard.copies(id) {
                if leader.is_some() && is_newest {
                    consumers = self.end_hand_over(shard, id);
                }
            } else {
                is_new = true;
                let mut copy = new_queue(sm, known, now);
                copy.follow(0, 0, fx);
                copy.log_open(fx);
                shard.insert_copy(copy);
            }
            if let Some(copy) = shard.held_mut(id) {
                if let Some(leader) = leader.filter(|_| is_newest) {
                    copy.follow(epoch, leader.0, fx);
                }
                configure(copy, known, now, fx);
            }
            consumers
        });
        turn.close();
        if is_new {
            self.copy_is_known(id);
        }
        self.send_consumers_away(id, consumers);
    }

    /// The queue is led elsewhere, and no copy of it belongs here.
    fn leave(&self, known: &MetaQueue, now: u64) {
        let id = known.id;
        if !is_shared(known) {
            remove_queue(self, id, now);
            return;
        }
        let mut turn = Turn::new(self, TurnBuffers::default(), now);
        let consumers = turn.shard(id, |shard, _, fx| {
            let consumers = self.step_down(shard, id);
            // It may come back, so it is not closed: that would be for ever.
            shard.held_mut(id)?.vacate(fx);
            Some(consumers)
        });
        turn.close();
        let Some(consumers) = consumers else { return };
        self.lock_shard(self.shard_of(id)).remove(id);
        self.forget_copies(id, Over::Deposed);
        self.send_consumers_away(id, consumers);
    }
}

/// Whether a queue may have copies.
fn is_shared(known: &MetaQueue) -> bool {
    known.durable && known.owner.is_none()
}

fn configure(queue: &mut LocalQueue, known: &MetaQueue, now: u64, fx: &mut TurnBuffers) {
    let config = queue_config(known);
    if *queue.config() != config {
        queue.configure(now, config, fx);
    }
}

fn placed(known: &MetaQueue) -> Placed {
    let (placement, options) = (&known.placement, &known.options);
    Placed {
        epoch: placement.epoch,
        cfg_ver: placement.cfg_ver,
        replicas: placement.replicas.clone(),
        isr: placement.isr.clone(),
        automatic: options.syncs_by_itself(),
        min_in_sync: options.min_in_sync(placement.replicas.len()),
    }
}
