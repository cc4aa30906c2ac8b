//! Clusters: who belongs to one, and which nodes hold which queue.
//!
//! A node alone has no [`Member`] in its metadata, and all its queues share [`Placement::alone`].
//!
//! ```text
//! Member  Down --NodeUp--> Up <--SetNodeState--> Drain          NodeDown: Up, Drain --> Down
//!
//! Queue   replicas ⊇ isr ∋ leader; every change of these adds one to cfg_ver,
//!         every new leader (and every restart of one) adds one to epoch
//! ```
//!
//! What leads to what is in `plan.rs`; which of it is to be proposed, and when, the [`Controller`] says.

mod controller;
mod locate;
mod moves;
mod plan;

#[cfg(test)]
mod tests;

pub use controller::{Controller, REPLACE_AFTER_MS};
pub use locate::locate;
pub use moves::{CatchingUp, catching_up, drain, rebalance};

use super::{MetaSm, Queue};
use crate::exception::Exception;
use crate::ids::{NodeId, QueueId};
use amqp::reply_code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What a member of a cluster is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Serves clients and holds queues.
    Broker,
    /// Has a vote and holds metadata, no messages.
    Witness,
}

/// Whether a member can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// It serves.
    Up,
    /// It does not, as far as the cluster knows.
    Down,
    /// It serves what it has and gets nothing new: somebody is about to stop it.
    Drain,
}

impl NodeState {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Up => "up",
            NodeState::Down => "down",
            NodeState::Drain => "draining",
        }
    }
}

/// A node that belongs to the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its number, for ever.
    pub id: NodeId,
    /// Its name: `rabbit@A`.
    pub name: Arc<str>,
    /// Where the others reach it: `host:port`, looked up at each attempt.
    pub addresses: Vec<String>,
    /// What it is there for.
    pub role: Role,
    /// Counts its starts; 0 until it was up for the first time.
    pub incarnation: u64,
    /// Whether it can be used.
    pub state: NodeState,
    /// Identity of its data; another one means that what it held is gone.
    pub storage: u128,
    /// What it runs.
    pub version: String,
    /// It was drained before it went down.
    pub orderly: bool,
}

impl Member {
    /// Whether it may get queues or the lead of queues.
    pub fn takes_queues(&self) -> bool {
        self.role == Role::Broker && self.state == NodeState::Up
    }

    /// Whether it serves what it has.
    pub fn serves(&self) -> bool {
        self.state != NodeState::Down
    }
}

/// Which nodes hold a queue, and which of them leads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// The node that runs the queue; one of `isr`. `None`: nobody can serve it now.
    pub leader: Option<NodeId>,
    /// The start of the leader that leads: a restarted process does not go on where it was.
    pub incarnation: u64,
    /// Counts the leaders, and their starts. Never goes back.
    pub epoch: u32,
    /// Counts the changes of this placement; whoever wants one names the number it knows.
    pub cfg_ver: u32,
    /// The nodes that hold the queue or shall.
    pub replicas: Vec<NodeId>,
    /// Those of them that have every confirmed message, in ascending order. Never empty.
    pub isr: Vec<NodeId>,
    /// The data of the only node in `isr` is gone: an operator has to decide.
    pub lost: bool,
    /// How often a node was made leader that may not have had every confirmed message.
    pub forced: u32,
}

impl Placement {
    /// Of every queue of a node alone.
    pub fn alone() -> Arc<Placement> {
        static ALONE: OnceLock<Arc<Placement>> = OnceLock::new();
        Arc::clone(ALONE.get_or_init(|| Arc::new(Placement::first(NodeId::FIRST, 0, vec![NodeId::FIRST]))))
    }

    /// Of a new queue, which all its nodes have, because nothing is in it.
    pub fn first(leader: NodeId, incarnation: u64, replicas: Vec<NodeId>) -> Placement {
        let mut isr = replicas.clone();
        isr.sort_unstable();
        Placement {
            leader: Some(leader),
            incarnation,
            epoch: 1,
            cfg_ver: 1,
            replicas,
            isr,
            lost: false,
            forced: 0,
        }
    }

    /// Nodes other than the leader that hold the queue or shall.
    pub fn followers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().copied().filter(|node| self.leader != Some(*node))
    }

    /// The leader, or else the node that would lead if it came back.
    pub fn home(&self) -> Option<NodeId> {
        self.leader.or_else(|| self.isr.first().copied())
    }

    /// The next placement, with `change` made to this one.
    fn next(&self, change: impl FnOnce(&mut Placement)) -> Placement {
        let mut next = self.clone();
        change(&mut next);
        next.cfg_ver = next.cfg_ver.saturating_add(1);
        next
    }

    /// Hands the lead to `member`.
    fn lead(&mut self, member: &Member) {
        self.leader = Some(member.id);
        self.incarnation = member.incarnation;
        self.epoch = self.epoch.saturating_add(1);
    }
}

/// How many queues each node leads and holds.
#[derive(Clone, Debug, Default)]
pub struct Loads(BTreeMap<NodeId, Load>);

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    leads: usize,
    copies: usize,
}

impl Loads {
    /// Queues that the node leads.
    pub fn leads(&self, node: NodeId) -> usize {
        self.0.get(&node).map_or(0, |load| load.leads)
    }

    /// Queues of which the node holds a copy, those included that it leads.
    pub fn copies(&self, node: NodeId) -> usize {
        self.0.get(&node).map_or(0, |load| load.copies)
    }

    pub(super) fn add(&mut self, placement: &Placement) {
        if let Some(leader) = placement.leader {
            self.0.entry(leader).or_default().leads += 1;
        }
        for node in &placement.replicas {
            self.0.entry(*node).or_default().copies += 1;
        }
    }

    pub(super) fn remove(&mut self, placement: &Placement) {
        if let Some(load) = placement.leader.and_then(|leader| self.0.get_mut(&leader)) {
            load.leads = load.leads.saturating_sub(1);
        }
        for node in &placement.replicas {
            if let Some(load) = self.0.get_mut(node) {
                load.copies = load.copies.saturating_sub(1);
            }
        }
    }

    fn replace(&mut self, old: &Placement, new: &Placement) {
        self.remove(old);
        self.add(new);
    }
}

impl MetaSm {
    /// The members of the cluster; none on a node alone.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The member called `name`.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|member| *member.name == *name)
    }

    /// The member whose connections carry this slot ([`crate::ids::ConnectionId::slot`]).
    pub fn member_of_slot(&self, slot: u16) -> Option<&Member> {
        self.members.values().find(|member| member.id.slot() == slot)
    }

    /// Which nodes hold a queue.
    pub fn placement(&self, queue: QueueId) -> Option<&Arc<Placement>> {
        self.queues.get(&queue).map(|queue| &queue.placement)
    }

    /// How many queues each node leads and holds.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// RabbitMQ's 404 for a queue whose node is down.
    pub fn home_is_down(&self, queue: &Queue) -> Exception {
        let home = queue.placement.home().and_then(|id| self.member(id));
        let home = home.map_or("", |member| &*member.name);
        let durable = if queue.durable { "durable " } else { "" };
        Exception::channel(
            reply_code::NOT_FOUND,
            format!(
                "home node '{home}' of {durable}{} is down or inaccessible",
                self.queue_title(queue.vhost, &queue.name)
            ),
        )
    }
}
