//! What the metadata leader proposes so that queues are where policies want them.
//!
//! It changes nothing itself: each of its commands names the placement that it saw, and is refused when
//! somebody else was faster.

use super::{Loads, Member, NodeState, Placement, Role};
use crate::ids::NodeId;
use crate::meta::options::{MirrorMode, Mirroring, QueueType};
use crate::meta::{MetaCommand, MetaSm, Queue};
use std::collections::BTreeMap;

/// How long a node may be down until its mirrors are made elsewhere.
pub const REPLACE_AFTER_MS: u64 = 60_000;
/// Most commands of one look; the next look finds the rest.
const MAX_COMMANDS: usize = 256;

/// Decides which nodes shall hold a queue, and who leads one that lost its leader.
///
/// Every node may have one; only what the metadata leader's says is proposed.
#[derive(Debug, Default)]
pub struct Controller {
    /// Since when each node is down, as seen from here.
    down_since: BTreeMap<NodeId, u64>,
    /// The version of the metadata in which there was nothing to do.
    settled: Option<u64>,
    /// When there may be something to do though nothing changed.
    wake_at: Option<u64>,
}

impl Controller {
    /// What to propose now. Cheap while nothing changes.
    pub fn decide(&mut self, sm: &MetaSm, now_ms: u64) -> Vec<MetaCommand> {
        if sm.members.is_empty() {
            return Vec::new();
        }
        let due = self.wake_at.is_some_and(|at| now_ms >= at);
        if self.settled == Some(sm.version()) && !due {
            return Vec::new();
        }
        self.note_down(sm, now_ms);
        let mut look = Look { sm, loads: sm.loads().clone(), gone: self.gone(now_ms) };
        let commands: Vec<MetaCommand> =
            sm.queues().filter_map(|queue| look.queue(queue)).take(MAX_COMMANDS).collect();
        self.settled = commands.is_empty().then(|| sm.version());
        self.wake_at =
            self.down_since.values().map(|since| since + REPLACE_AFTER_MS).filter(|at| *at > now_ms).min();
        commands
    }

    /// When to look again if nothing changes before.
    pub fn wake_at(&self) -> Option<u64> {
        self.wake_at
    }

    fn note_down(&mut self, sm: &MetaSm, now_ms: u64) {
        let down = |id: &NodeId| sm.member(*id).is_some_and(|member| member.state == NodeState::Down);
        self.down_since.retain(|id, _| down(id));
        for member in sm.members().filter(|member| down(&member.id)) {
            self.down_since.entry(member.id).or_insert(now_ms);
        }
    }

    /// Nodes that are down for so long that they are not waited for.
    fn gone(&self, now_ms: u64) -> Vec<NodeId> {
        let over = |since: &u64| now_ms.saturating_sub(*since) >= REPLACE_AFTER_MS;
        self.down_since.iter().filter(|(_, since)| over(since)).map(|(id, _)| *id).collect()
    }
}

/// One look at all queues; `loads` are as they will be when what was found is done.
struct Look<'a> {
    sm: &'a MetaSm,
    loads: Loads,
    gone: Vec<NodeId>,
}

impl Look<'_> {
    fn queue(&mut self, queue: &Queue) -> Option<MetaCommand> {
        if !queue.durable || queue.owner.is_some() {
            return None;
        }
        let placement = &queue.placement;
        let Some(leader) = placement.leader else { return self.promotion(queue) };
        let mut wanted = self.wanted(queue, leader);
        let mut have = placement.replicas.clone();
        let cfg_ver = placement.cfg_ver;
        let replicas = wanted.clone();
        wanted.sort_unstable();
        have.sort_unstable();
        if wanted != have {
            let after = Placement { replicas: replicas.clone(), ..Placement::clone(placement) };
            self.loads.replace(placement, &after);
            return Some(MetaCommand::SetReplicas { queue: queue.id, cfg_ver, replicas });
        }
        let to = self.listed_heir(queue, leader)?;
        self.loads.replace(placement, &Placement { leader: Some(to), ..Placement::clone(placement) });
        Some(MetaCommand::Transfer { queue: queue.id, cfg_ver, to })
    }

    /// Who leads a queue that nobody has whole, where the policy prefers that to waiting.
    fn promotion(&self, queue: &Queue) -> Option<MetaCommand> {
        let mirroring =
            queue.options.mirroring.as_ref().filter(|_| queue.options.queue_type == QueueType::Classic)?;
        let placement = &queue.placement;
        let home = placement.home().and_then(|id| self.sm.member(id));
        let orderly = home.is_some_and(|home| home.orderly);
        let allowed = if orderly { mirroring.promote_on_shutdown } else { mirroring.promote_on_failure };
        let up = |id: &&NodeId| self.sm.member(**id).is_some_and(Member::takes_queues);
        let to = placement.replicas.iter().find(up).filter(|_| allowed)?;
        Some(MetaCommand::ForcePromote { queue: queue.id, to: *to })
    }

    /// The nodes that shall hold the queue, the leader first.
    fn wanted(&self, queue: &Queue, leader: NodeId) -> Vec<NodeId> {
        let placement = &queue.placement;
        if let Some(copies) = queue.options.copies() {
            return self.some(placement, leader, copies);
        }
        let mut others: Vec<NodeId> = match &queue.options.mirroring {
            None => Vec::new(),
            Some(Mirroring { mode: MirrorMode::Nodes(names), .. }) => self
                .brokers(placement)
                .filter(|member| names.iter().any(|name| **name == *member.name))
                .map(|it| it.id)
                .collect(),
            Some(_) => self.brokers(placement).map(|member| member.id).collect(),
        };
        others.retain(|id| *id != leader);
        others.insert(0, leader);
        others
    }

    /// Brokers that are up, and those that hold the queue already.
    fn brokers<'s>(&'s self, placement: &'s Placement) -> impl Iterator<Item = &'s Member> {
        self.sm.members().filter(|member| {
            member.takes_queues() || (member.role == Role::Broker && placement.replicas.contains(&member.id))
        })
    }

    /// So many nodes: those there are, without those that are gone if others can be had; of too many those stay
    /// that are in sync and hold the fewest.
    fn some(&self, placement: &Placement, leader: NodeId, copies: usize) -> Vec<NodeId> {
        let mut others: Vec<NodeId> = self.brokers(placement).map(|member| member.id).collect();
        others.retain(|id| *id != leader);
        others.sort_by_key(|id| {
            let has = placement.replicas.contains(id);
            let rank = match (has, self.gone.contains(id)) {
                (true, false) => 0,
                (false, _) => 1,
                (true, true) => 2,
            };
            (rank, !placement.isr.contains(id), self.loads.copies(*id), *id)
        });
        others.truncate(copies.saturating_sub(1));
        others.insert(0, leader);
        others
    }

    /// With `ha-mode: nodes`, the node of the list that takes over from a leader that is not in it.
    fn listed_heir(&self, queue: &Queue, leader: NodeId) -> Option<NodeId> {
        let Some(Mirroring { mode: MirrorMode::Nodes(names), .. }) = &queue.options.mirroring else {
            return None;
        };
        let listed = |id: NodeId| {
            self.sm.member(id).is_some_and(|member| names.iter().any(|name| **name == *member.name))
        };
        if queue.options.copies().is_some() || listed(leader) {
            return None;
        }
        let up = |id: &NodeId| self.sm.member(*id).is_some_and(Member::takes_queues);
        let heirs = queue.placement.isr.iter().copied().filter(|id| listed(*id) && up(id));
        heirs.min_by_key(|id| (self.loads.leads(*id), *id))
    }
}
