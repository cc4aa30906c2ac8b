//! One run: who is alive, what breaks, and how it ends.

use std::collections::{BTreeMap, BinaryHeap};

use broker_core::ids::NodeId;
use broker_core::repl::Rule;

use super::account::Account;
use super::metadata::Metadata;
use super::network::Network;
use super::node::Node;
use super::{Cluster, Event, NODES, QUEUE, Slip};
use crate::crash::Survivors;
use crate::disk::SimDisk;
use crate::random::Random;

/// How long things break, milliseconds.
const FAULTS_MS: u64 = 15_000;
/// How long everything may take afterwards until the cluster is whole.
const HEALING_MS: u64 = 12_000;
/// How long until all that was confirmed is with a consumer.
const DRAINING_MS: u64 = 30_000;
/// Silence after which a node counts as down.
const DOWN_AFTER_MS: u64 = 3000;
/// For so long after it was heard a node knows that it does not.
const SURE_MS: u64 = 2400;

/// A run in which nothing was lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Messages that were confirmed.
    pub confirmed: usize,
    /// Decisions about the queue.
    pub decisions: usize,
    /// The epoch at the end.
    pub epochs: u32,
}

/// Runs a cluster with this seed.
///
/// # Errors
/// What was lost, invented, delivered twice or out of order, or did not become whole again.
pub fn simulate<const BROKEN: u8>(seed: u64, slip: Option<Slip>) -> Result<Report, String> {
    let mut cluster = Cluster::<BROKEN>::new(seed, slip)?;
    cluster.run_until(FAULTS_MS)?;
    cluster.heal();
    cluster.run_until(FAULTS_MS + HEALING_MS)?;
    let placement = cluster.metadata.current();
    if placement.isr.len() < NODES.len() {
        return Err(format!("the cluster did not become whole: {placement:?}"));
    }
    cluster.publishes = false;
    cluster.run_until(FAULTS_MS + HEALING_MS + DRAINING_MS)?;
    if let Some(lost) = cluster.account.owed().next() {
        return Err(format!("confirmed message {lost} was never delivered and acknowledged"));
    }
    let lives: Vec<_> = cluster.nodes.values().map(|node| node.queue.live()).collect();
    if lives.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("the copies differ: {lives:?}"));
    }
    let (confirmed, decisions) = (cluster.account.confirmed(), cluster.metadata.version());
    if confirmed < 100 {
        return Err(format!("only {confirmed} messages were confirmed: nothing was tried"));
    }
    Ok(Report { confirmed, decisions, epochs: cluster.metadata.current().epoch })
}

impl<const BROKEN: u8> Cluster<BROKEN> {
    fn new(seed: u64, slip: Option<Slip>) -> Result<Self, String> {
        let mut cluster = Self {
            now: 0,
            random: Random::new(seed),
            planned: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            network: Network::default(),
            metadata: Metadata::new(&NODES, slip),
            nodes: BTreeMap::new(),
            off: NODES.iter().map(|id| (*id, (SimDisk::new(), 0))).collect(),
            frozen: BTreeMap::new(),
            stalled: BTreeMap::new(),
            heard: NODES.iter().map(|id| (*id, 0)).collect(),
            account: Account::default(),
            unsafe_now: true,
            publishes: true,
            slip,
            broken: None,
            syncing: BTreeMap::new(),
        };
        for id in NODES {
            cluster.start(id);
            cluster.plan(1, Event::Tick(id));
        }
        cluster.plan(1, Event::Connections);
        cluster.plan(10, Event::Watch);
        cluster.plan(500, Event::Fault);
        Ok(cluster)
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(std::cmp::Reverse((at, number))) = self.planned.peek().copied() {
            if at > end {
                break;
            }
            self.planned.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.events.remove(&number) {
                self.happens(event);
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        self.now = end;
        Ok(())
    }

    fn heal(&mut self) {
        self.unsafe_now = false;
        self.network.heal();
        self.frozen.clear();
        self.stalled.clear();
        self.nodes.values().for_each(|node| node.fill_disk(false));
        for id in NODES {
            self.plan_in(1, Event::Start(id));
        }
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let Some((disk, life)) = self.off.remove(&id) else { return };
        // Connections end with the process that had them, noticed or not.
        for other in NODES.into_iter().filter(|other| *other != id) {
            self.disconnect(id, other);
            self.disconnect(other, id);
        }
        match Node::start(id, life + 1, disk, self.now, self.slip) {
            Ok(node) => {
                self.nodes.insert(id, node);
                self.syncing.insert(id, false);
                let delay = 1 + self.random.below(50);
                self.plan_in(delay, Event::Apply(id));
            }
            Err(error) => self.broken = Some(error),
        }
    }

    /// Who can be reached is connected, who can not be is noticed after a while.
    pub(super) fn connections(&mut self) {
        let delay = 20 + self.random.below(60);
        self.plan_in(delay, Event::Connections);
        for from in NODES {
            for to in NODES.into_iter().filter(|to| *to != from) {
                let way = (from, to);
                let alive = self.nodes.contains_key(&from) && self.nodes.contains_key(&to);
                let works = alive && self.network.works(way);
                match (self.network.connection(way), works) {
                    (None, true) if !self.is_frozen(from) && !self.is_frozen(to) => {
                        self.network.connect(way);
                        self.connected(from, to);
                    }
                    // A dead process answers; a dead direction is silent for longer.
                    (Some(_), false) if !alive || self.random.one_in(20) => self.disconnect(from, to),
                    // For no reason at all.
                    (Some(_), true) if self.unsafe_now && self.random.one_in(2000) => {
                        self.disconnect(from, to);
                    }
                    _ => {}
                }
            }
        }
    }

    fn connected(&mut self, from: NodeId, to: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&from) else { return };
        let mut asked = Vec::new();
        node.leader.link_up(now, to, &mut asked);
        // What this node had to say to the other one may be lost.
        node.follower.lose_thread(to);
        let durable = node.durable();
        node.follower.appended(to, durable);
        self.carry_out(from, asked);
    }

    fn disconnect(&mut self, from: NodeId, to: NodeId) {
        if !self.network.disconnect((from, to)) {
            return;
        }
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&from) {
            let mut asked = Vec::new();
            node.leader.link_down(now, to, &mut asked);
            self.carry_out(from, asked);
        }
    }

    /// The metadata is where a majority is: a node that reaches no other is not heard.
    pub(super) fn watch(&mut self) {
        self.plan_in(200, Event::Watch);
        for id in NODES {
            let reaches = self.reaches_another(id);
            let incarnation = self.nodes.get(&id).map(|node| node.incarnation);
            let Some(incarnation) = incarnation.filter(|_| reaches && !self.is_frozen(id)) else {
                if self.now.saturating_sub(self.heard[&id]) > DOWN_AFTER_MS {
                    self.declare_down(id);
                }
                continue;
            };
            self.heard.insert(id, self.now);
            if !self.metadata.is_up(id, incarnation) {
                self.metadata.node_up(id, incarnation);
                self.spread();
            } else if self.unsafe_now && self.random.one_in(if self.is_harsh() { 60 } else { 400 }) {
                // Although it runs: it has said itself that its disk does not answer.
                self.nodes.get_mut(&id).into_iter().for_each(|node| node.sure_until = 0);
                self.declare_down(id);
            } else {
                self.is_sure(id);
            }
        }
    }

    /// Whether more happens than elsewhere: most mistakes show where nodes come and go quickly and lead one after the other.
    pub(super) fn is_harsh(&self) -> bool {
        BROKEN != Rule::NONE || self.slip.is_some_and(|slip| slip != Slip::AlwaysSure)
    }

    /// A node hears that it does not count as down. One that might have until now has to know every decision first.
    fn is_sure(&mut self, id: NodeId) {
        let (now, newest) = (self.now, self.metadata.version());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if now < node.sure_until || node.view == Some(newest) {
            node.sure_until = now + SURE_MS;
        }
    }

    fn declare_down(&mut self, id: NodeId) {
        let before = self.metadata.version();
        self.metadata.node_down(id);
        if self.metadata.version() != before {
            self.spread();
        }
    }

    pub(super) fn fault(&mut self) {
        if !self.unsafe_now {
            return;
        }
        let delay = 100 + self.random.below(if self.is_harsh() { 400 } else { 1500 });
        self.plan_in(delay, Event::Fault);
        let id = NODES[self.random.below(3) as usize];
        let other = NODES[self.random.below(3) as usize];
        match self.random.below(10) {
            0 | 1 => self.power_off(id, Survivors::Some(self.random.clone().number())),
            2 => self.power_off(id, Survivors::All),
            3 => {
                let until = self.now + self.random.below(5000);
                self.frozen.insert(id, until);
            }
            4 => {
                let until = self.now + self.random.below(4000);
                self.stalled.insert(id, until);
            }
            5 => self.nodes.values().filter(|node| node.id == id).for_each(|node| node.fill_disk(true)),
            6 => self.nodes.values().for_each(|node| node.fill_disk(false)),
            7 if id != other => self.network.cut((id, other)),
            8 => self.network.heal(),
            _ => NODES.into_iter().filter(|peer| *peer != id).for_each(|peer| self.disconnect(id, peer)),
        }
    }

    /// A node loses its power, or its process is killed: then what was written is still there.
    fn power_off(&mut self, id: NodeId, survivors: Survivors) {
        let Some(node) = self.nodes.remove(&id) else { return };
        self.off.insert(id, (node.disk_after(survivors), node.incarnation));
        let delay = 50 + self.random.below(if self.is_harsh() { 1000 } else { 6000 });
        self.plan_in(delay, Event::Start(id));
        debug_assert_eq!(QUEUE.0, node.queue.id().0, "there is one queue");
    }
}
