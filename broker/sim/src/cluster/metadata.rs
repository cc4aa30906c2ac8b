//! The decisions of the metadata for one mirrored queue: an ideal log, which nodes apply in order and late.

use broker_core::ids::NodeId;

use super::Slip;

/// What is decided about the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// Who leads, in which of its lives.
    pub(super) leader: Option<(NodeId, u64)>,
    pub(super) epoch: u32,
    pub(super) cfg_ver: u32,
    pub(super) isr: Vec<NodeId>,
}

/// What may be proposed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proposal {
    Expand { cfg_ver: u32, add: NodeId },
    Shrink { leader: NodeId, incarnation: u64, follower: NodeId },
}

#[derive(Debug)]
pub(super) struct Metadata {
    history: Vec<Placement>,
    /// The life in which each node was seen last, while it is up.
    up: Vec<(NodeId, u64)>,
    slip: Option<Slip>,
}

impl Metadata {
    /// The first of the nodes leads, and is alone in sync.
    pub(super) fn new(nodes: &[NodeId], slip: Option<Slip>) -> Self {
        let first = Placement { leader: Some((nodes[0], 1)), epoch: 1, cfg_ver: 1, isr: vec![nodes[0]] };
        Self { history: vec![first], up: nodes.iter().map(|node| (*node, 1)).collect(), slip }
    }

    pub(super) fn version(&self) -> usize {
        self.history.len() - 1
    }

    pub(super) fn at(&self, version: usize) -> &Placement {
        &self.history[version]
    }

    pub(super) fn current(&self) -> &Placement {
        &self.history[self.history.len() - 1]
    }

    pub(super) fn is_up(&self, node: NodeId, incarnation: u64) -> bool {
        self.up.contains(&(node, incarnation))
    }

    pub(super) fn decide(&mut self, proposal: Proposal) {
        let mut next = self.current().clone();
        match proposal {
            Proposal::Expand { cfg_ver, add } => {
                let fits = cfg_ver == next.cfg_ver || self.slip == Some(Slip::StaleExpand);
                if !fits || next.isr.contains(&add) {
                    return;
                }
                next.isr.push(add);
            }
            Proposal::Shrink { leader, incarnation, follower } => {
                if next.leader != Some((leader, incarnation)) || !next.isr.contains(&follower) {
                    return;
                }
                next.isr.retain(|node| *node != follower);
            }
        }
        self.push(next);
    }

    /// A node is not heard of any more.
    pub(super) fn node_down(&mut self, node: NodeId) {
        self.up.retain(|(up, _)| *up != node);
        let mut next = self.current().clone();
        if next.isr.len() > 1 {
            next.isr.retain(|member| *member != node);
        }
        if next.leader.is_some_and(|(leader, _)| leader == node) {
            let heirs: Vec<_> = match self.slip {
                Some(Slip::UnsyncedPromoted) => self.up.clone(),
                _ => self.up.iter().filter(|(up, _)| next.isr.contains(up)).copied().collect(),
            };
            next.leader = heirs.first().copied();
            next.epoch += 1;
            if let (Some(Slip::UnsyncedPromoted), Some((heir, _))) = (self.slip, next.leader) {
                next.isr = vec![heir];
            }
        }
        if next != *self.current() {
            self.push(next);
        }
    }

    /// A node is heard of, in this life.
    pub(super) fn node_up(&mut self, node: NodeId, incarnation: u64) {
        self.up.retain(|(up, _)| *up != node);
        self.up.push((node, incarnation));
        let mut next = self.current().clone();
        let led = next.leader.is_some_and(|(leader, _)| leader == node);
        let waits = next.leader.is_none() && next.isr.contains(&node);
        let resumed = self.slip == Some(Slip::ResumedEpoch) && led;
        if (led || waits) && !resumed {
            next.leader = Some((node, incarnation));
            next.epoch += 1;
            self.push(next);
        }
    }

    fn push(&mut self, mut next: Placement) {
        next.cfg_ver += 1;
        self.history.push(next);
    }
}
