//! Moving the lead of queues: away from a node that is to be stopped, or so that each leads as many as the others.

use super::Placement;
use crate::ids::NodeId;
use crate::meta::{MetaCommand, MetaSm, Queue};
use std::collections::BTreeMap;

/// The transfers that take the lead of its queues from a node. Queues that no other node has whole stay.
pub fn drain(sm: &MetaSm, node: NodeId) -> Vec<MetaCommand> {
    let mut leads: BTreeMap<NodeId, usize> =
        sm.members().map(|member| (member.id, sm.loads().leads(member.id))).collect();
    let mut moves = Vec::new();
    for queue in sm.queues().filter(|queue| queue.placement.leader == Some(node)) {
        if let Some(to) = heir(sm, &queue.placement, &leads, usize::MAX) {
            *leads.entry(to).or_default() += 1;
            moves.push(transfer(queue, to));
        }
    }
    moves
}

/// How [`catching_up`] finds the other copies of what a node leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatchingUp {
    /// Some will have all messages by themselves.
    All,
    /// None but those that have to be told to; they are in sync by themselves only if they lack nothing.
    IfNothingLacks,
}

/// Whether there are queues of this node's that another one, which runs, has a copy of that may be in sync soon.
pub fn catching_up(sm: &MetaSm, node: NodeId) -> Option<CatchingUp> {
    let mut found = None;
    for queue in sm.queues().filter(|queue| queue.placement.leader == Some(node)) {
        let Placement { replicas, isr, .. } = &*queue.placement;
        let behind = |id: &NodeId| {
            *id != node && !isr.contains(id) && sm.member(*id).is_some_and(super::Member::takes_queues)
        };
        if replicas.iter().any(behind) {
            if queue.options.syncs_by_itself() {
                return Some(CatchingUp::All);
            }
            found = Some(CatchingUp::IfNothingLacks);
        }
    }
    found
}

/// The transfers after which no node leads many more of the `wanted` queues than another, as far as they are
/// mirrored and in sync.
pub fn rebalance(sm: &MetaSm, wanted: impl Fn(&Queue) -> bool) -> Vec<MetaCommand> {
    let mut leads: BTreeMap<NodeId, usize> =
        sm.members().filter(|member| member.takes_queues()).map(|member| (member.id, 0)).collect();
    let queues: Vec<&Queue> = sm.queues().filter(|queue| queue.durable && wanted(queue)).collect();
    for leader in queues.iter().filter_map(|queue| queue.placement.leader) {
        *leads.entry(leader).or_default() += 1;
    }
    let share = queues.len().div_ceil(leads.len().max(1));
    let mut moves = Vec::new();
    for queue in queues {
        let Some(leader) = queue.placement.leader else { continue };
        let led = leads.get(&leader).copied().unwrap_or_default();
        if led <= share {
            continue;
        }
        if let Some(to) = heir(sm, &queue.placement, &leads, share) {
            leads.insert(leader, led - 1);
            *leads.entry(to).or_default() += 1;
            moves.push(transfer(queue, to));
        }
    }
    moves
}

/// Of the nodes that have the queue whole the one that leads the fewest, if those are fewer than `below`.
fn heir(sm: &MetaSm, placement: &Placement, leads: &BTreeMap<NodeId, usize>, below: usize) -> Option<NodeId> {
    let led = |node: &NodeId| leads.get(node).copied().unwrap_or_default();
    placement
        .isr
        .iter()
        .copied()
        .filter(|node| placement.leader != Some(*node))
        .filter(|node| sm.member(*node).is_some_and(super::Member::takes_queues))
        .min_by_key(|node| (led(node), *node))
        .filter(|node| led(node) < below)
}

fn transfer(queue: &Queue, to: NodeId) -> MetaCommand {
    MetaCommand::Transfer { queue: queue.id, cfg_ver: queue.placement.cfg_ver, to }
}
