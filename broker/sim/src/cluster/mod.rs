//! Three nodes with a mirrored queue, in virtual time, with one seed.
//!
//! Leaders and followers, the queue and the log are the real ones; the disk, the network and the clock are simulated, and
//! the metadata is an ideal log of decisions that nodes apply in order and late. In the first phase everything fails that
//! can: connections break and are late, directions are cut, nodes stop for a while, are killed or lose their power,
//! disks stall and fill up. A node that was not heard for long is not sure that it still leads. Then all is well again,
//! and the cluster has to become whole: every copy in sync, and every confirmed message with a consumer.
//!
//! [`Slip`] and the cores' [`Rule`](broker_core::repl::Rule) break one thing each, to show that it would be noticed.

mod account;
mod metadata;
mod network;
mod node;
mod run;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use broker_core::ids::NodeId;
use broker_core::queue::Settle;
use broker_core::repl::{Asked, Fill, ToLeader};

use self::account::Account;
use self::metadata::{Metadata, Proposal};
use self::network::{Fate, Lane, Network, Packet, Payload};
use self::node::{Log, Node, QUEUE};
use crate::random::Random;

pub use self::run::{Report, simulate};

/// A mistake around the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// A proposal on top of an older decision is accepted.
    StaleExpand,
    /// A node that is not in sync is made leader.
    UnsyncedPromoted,
    /// A leader that restarted goes on in its old epoch.
    ResumedEpoch,
    /// A node forgets with its memory which epochs it knew.
    FenceForgotten,
    /// Messages are compared by their positions only.
    PositionsOnly,
    /// Confirms do not wait for followers.
    ConfirmsDoNotWait,
    /// A leader that has been out of contact for long hands out as if nobody else could lead by now.
    AlwaysSure,
}

impl Slip {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::StaleExpand,
        Self::UnsyncedPromoted,
        Self::ResumedEpoch,
        Self::FenceForgotten,
        Self::PositionsOnly,
        Self::ConfirmsDoNotWait,
        Self::AlwaysSure,
    ];
}

/// The nodes of the cluster.
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// What happens next.
#[derive(Debug)]
enum Event {
    Arrives(Packet),
    /// A node's disk takes what was written, if it is still in this life.
    Sync(NodeId, u64),
    /// A node applies the next decision.
    Apply(NodeId),
    /// The metadata decides what a node proposes.
    Decide(NodeId, Proposal),
    /// A node's clock ticks, its clients act.
    Tick(NodeId),
    /// Connections are tried and noticed to be dead.
    Connections,
    /// The metadata looks who is alive.
    Watch,
    /// Something breaks.
    Fault,
    /// A node starts.
    Start(NodeId),
}

/// An event and when it happens; of those at one time the first that was planned comes first.
type Planned = Reverse<(u64, u64)>;

struct Cluster<const BROKEN: u8> {
    now: u64,
    random: Random,
    planned: BinaryHeap<Planned>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    network: Network,
    metadata: Metadata,
    nodes: BTreeMap<NodeId, Node<BROKEN>>,
    /// Disks of nodes that are off, and the life they had.
    off: BTreeMap<NodeId, (crate::disk::SimDisk, u64)>,
    /// Until when a node does nothing.
    frozen: BTreeMap<NodeId, u64>,
    /// Until when a node's disk takes nothing.
    stalled: BTreeMap<NodeId, u64>,
    /// When the metadata heard of each node last.
    heard: BTreeMap<NodeId, u64>,
    account: Account,
    /// Faults happen.
    unsafe_now: bool,
    /// Clients publish.
    publishes: bool,
    slip: Option<Slip>,
    broken: Option<String>,
    syncing: BTreeMap<NodeId, bool>,
}

impl<const BROKEN: u8> Cluster<BROKEN> {
    fn plan(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert(self.next_event, event);
        self.planned.push(Reverse((at, self.next_event)));
    }

    fn plan_in(&mut self, delay: u64, event: Event) {
        self.plan(self.now + delay, event);
    }

    fn is_frozen(&self, node: NodeId) -> bool {
        self.frozen.get(&node).is_some_and(|until| *until > self.now)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(packet) => self.arrives(packet),
            Event::Sync(node, incarnation) => self.sync(node, incarnation),
            Event::Apply(node) => self.apply(node),
            Event::Decide(by, proposal) => self.decide(by, proposal),
            Event::Tick(node) => self.tick(node),
            Event::Connections => self.connections(),
            Event::Watch => self.watch(),
            Event::Fault => self.fault(),
            Event::Start(node) => self.start(node),
        }
    }

    fn send(&mut self, way: (NodeId, NodeId), lane: Lane, payload: Payload) {
        if let Some((at, packet)) = self.network.send(self.now, way, lane, payload, &mut self.random) {
            self.plan(at, Event::Arrives(packet));
        }
    }

    /// Carries out what a node's leader asks.
    fn carry_out(&mut self, id: NodeId, asked: Vec<Asked>) {
        for asked in asked {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            match asked {
                Asked::Send { to, message } => {
                    self.send((id, to), Lane::Data, Payload::Stream(message.encode()));
                }
                Asked::Fill { to, queue, epoch, stream, serial, wanted } => {
                    let mut fill = Fill::head(queue, epoch, stream, serial);
                    node.read(self.now, &wanted, &mut fill);
                    self.send((id, to), Lane::Bulk, Payload::Fill(fill));
                }
                Asked::Committed { position, .. } => node.committed(position),
                Asked::Lost { .. } => {}
                Asked::Expand { cfg_ver, add, .. } => {
                    let delay = 1 + self.random.below(80);
                    self.plan_in(delay, Event::Decide(id, Proposal::Expand { cfg_ver, add }));
                    // The word that it is decided was lost: it is proposed once more, long afterwards.
                    if self.unsafe_now && self.random.one_in(2) {
                        let delay = delay + self.random.below(6000);
                        self.plan_in(delay, Event::Decide(id, Proposal::Expand { cfg_ver, add }));
                    }
                }
                Asked::Shrink { follower } => {
                    let incarnation = node.incarnation;
                    let late = self.unsafe_now && self.random.one_in(5);
                    let delay = 1 + self.random.below(if late { 4000 } else { 400 });
                    let proposal = Proposal::Shrink { leader: id, incarnation, follower };
                    self.plan_in(delay, Event::Decide(id, proposal));
                }
            }
        }
        self.confirm(id);
        self.plan_sync(id);
    }

    fn ship(&mut self, id: NodeId, (frames, log): (Vec<(NodeId, Vec<u8>)>, Log), asked: Vec<Asked>) {
        for (to, frame) in frames {
            self.send((id, to), Lane::Data, Payload::Stream(frame));
        }
        self.delivered(id, &log);
        self.carry_out(id, asked);
    }

    fn delivered(&mut self, id: NodeId, log: &Log) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let by = (id, node.leads.unwrap_or(0));
        for &(qseq, number, redelivered) in &log.delivered {
            node.held.push((qseq, number));
            if let Err(broken) = self.account.deliver(by, number, redelivered) {
                self.broken.get_or_insert(broken);
            }
        }
    }

    fn confirm(&mut self, id: NodeId) {
        let waits = self.slip != Some(Slip::ConfirmsDoNotWait);
        if let Some(node) = self.nodes.get_mut(&id) {
            if !waits {
                node.committed(u64::MAX);
            }
            node.confirms().into_iter().for_each(|number| self.account.confirm(number));
        }
    }

    fn plan_sync(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let incarnation = node.incarnation;
        if !std::mem::replace(self.syncing.entry(id).or_default(), true) {
            let stalled = self.stalled.get(&id).map_or(0, |until| until.saturating_sub(self.now));
            let delay = 1 + self.random.below(4) + stalled;
            self.plan_in(delay, Event::Sync(id, incarnation));
        }
    }

    fn sync(&mut self, id: NodeId, incarnation: u64) {
        let frozen = self.is_frozen(id);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.incarnation == incarnation) else {
            return;
        };
        if frozen {
            return self.plan_in(50, Event::Sync(id, incarnation));
        }
        self.syncing.insert(id, false);
        node.sync();
        let (durable, mut answers) = (node.durable(), Vec::new());
        node.follower.synced(durable, |to, said| answers.push((to, said)));
        self.answer(id, answers);
        self.confirm(id);
    }

    fn answer(&mut self, id: NodeId, answers: Vec<(NodeId, ToLeader)>) {
        for (to, said) in answers {
            self.send((id, to), Lane::Data, Payload::Answer(said.encode()));
        }
    }

    fn arrives(&mut self, packet: Packet) {
        let (from, to) = packet.way;
        let frozen = self.is_frozen(to);
        match self.network.fate(&packet, frozen) {
            Fate::Arrives => {}
            Fate::Later => return self.plan_in(40, Event::Arrives(packet)),
            Fate::Lost => return,
        }
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        match packet.payload {
            Payload::Stream(frame) => node.take(now, from, &frame),
            Payload::Fill(fill) => node.take_fill(now, from, &fill),
            Payload::Answer(answer) => {
                let Ok(said) = ToLeader::decode(&answer) else { return };
                let (Node { leader, queue, .. }, mut asked) = (node, Vec::new());
                leader.hear(now, from, said, |_| Some((queue.live(), queue.fresh())), &mut asked);
                self.carry_out(to, asked);
            }
        }
        let answers_early = BROKEN == broken_acks();
        if let Some(node) = self.nodes.get_mut(&to).filter(|_| answers_early) {
            let mut answers = Vec::new();
            let durable = node.durable();
            node.follower.synced(durable, |leader, said| answers.push((leader, said)));
            self.answer(to, answers);
        }
        self.plan_sync(to);
    }

    fn apply(&mut self, id: NodeId) {
        if self.is_frozen(id) || !self.reaches_another(id) {
            return self.plan_in(100, Event::Apply(id));
        }
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let next = node.view.map_or(0, |view| view + 1);
        if next > self.metadata.version() {
            return;
        }
        let placement = self.metadata.at(next);
        let mut asked = Vec::new();
        let log = node.apply(now, placement, &NODES, &mut asked);
        node.view = Some(next);
        let (behind, leads) = (next < self.metadata.version(), node.leads.is_some());
        self.delivered(id, &log);
        self.carry_out(id, asked);
        if leads && self.nodes[&id].queue.consumers().is_empty() {
            let mut asked = Vec::new();
            let done = self.nodes.get_mut(&id).map(|node| node.consume(now, &mut asked));
            done.into_iter().for_each(|done| self.ship(id, done, std::mem::take(&mut asked)));
        }
        if behind {
            let delay = 1 + self.random.below(if self.is_harsh() { 100 } else { 10 });
            self.plan_in(delay, Event::Apply(id));
        }
    }

    /// A proposal reaches the metadata, if its node does. One to expand is made again until then.
    fn decide(&mut self, by: NodeId, proposal: Proposal) {
        let reaches = self.nodes.contains_key(&by) && !self.is_frozen(by) && self.reaches_another(by);
        // It may have been on its way for long enough.
        if reaches || self.random.one_in(3) {
            self.metadata.decide(proposal);
            self.spread();
        } else if self.nodes.contains_key(&by) && matches!(proposal, Proposal::Expand { .. }) {
            self.plan_in(300, Event::Decide(by, proposal));
        }
    }

    /// Whether a node is with the majority.
    fn reaches_another(&self, id: NodeId) -> bool {
        NODES.into_iter().any(|other| {
            other != id
                && self.nodes.contains_key(&other)
                && !self.is_frozen(other)
                && self.network.works((id, other))
        })
    }

    /// All nodes hear of a new decision.
    fn spread(&mut self) {
        for id in NODES {
            let (often, late) = if self.is_harsh() { (3, 5000) } else { (8, 1500) };
            let late = if self.random.one_in(often) { late } else { 20 };
            let delay = 1 + self.random.below(late);
            self.plan_in(delay, Event::Apply(id));
        }
    }

    /// The clients of a node act, and its leader looks at the clock.
    fn tick(&mut self, id: NodeId) {
        let delay = 10 + self.random.below(40);
        self.plan_in(delay, Event::Tick(id));
        if self.is_frozen(id) {
            return;
        }
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut asked = Vec::new();
        node.leader.tick(now, &mut asked);
        if self.random.one_in(200) && !node.is_full() {
            node.collect(now);
        }
        let (leads, full) = (node.leads.is_some(), node.is_full());
        self.carry_out(id, asked);
        if !leads {
            return;
        }
        if self.publishes && !full && self.random.one_in(2) {
            let mut asked = Vec::new();
            let number = self.account.publish();
            let done = self.nodes.get_mut(&id).map(|node| node.publish(now, number, &mut asked));
            done.into_iter().for_each(|done| self.ship(id, done, std::mem::take(&mut asked)));
        }
        let settles = if self.publishes { self.random.one_in(3) } else { true };
        let held =
            self.nodes.get_mut(&id).map(|node| &mut node.held).filter(|held| settles && !held.is_empty());
        if let Some(held) = held {
            let (qseq, number) = held.remove(self.random.below(held.len() as u64) as usize);
            let how = if self.random.one_in(5) { Settle::Requeue } else { Settle::Ack };
            if how == Settle::Ack {
                self.account.acknowledge(number);
            }
            let mut asked = Vec::new();
            let done = self.nodes.get_mut(&id).map(|node| node.settle(now, how, qseq, &mut asked));
            done.into_iter().for_each(|done| self.ship(id, done, std::mem::take(&mut asked)));
        }
    }
}

/// The number of the rule under which followers answer before they sync.
fn broken_acks() -> u8 {
    broker_core::repl::Rule::AcksFollowSyncs as u8
}
