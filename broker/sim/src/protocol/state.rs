//! The state of the model: three nodes, what is on its way between them, and what was promised.

use std::hash::{Hash, Hasher};

pub(super) const NODES: usize = 3;
/// Epochs are numbered from 1.
const EPOCHS: usize = 6;
const MESSAGES: usize = 5;
const LONGEST: usize = 7;
const CONFIGS: usize = 6;

/// A set of nodes or of messages, one bit each.
pub(super) type Set = u8;

pub(super) fn bit(index: usize) -> Set {
    1 << index
}

/// A change of what is alive on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Op {
    /// Fills the unused places of a list.
    #[default]
    Nothing,
    Enqueue(u8),
    Drop(u8),
}

/// A short list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct List {
    len: u8,
    ops: [Op; LONGEST],
}

impl List {
    pub(super) fn push(&mut self, op: Op) {
        self.ops[usize::from(self.len)] = op;
        self.len += 1;
    }

    pub(super) fn len(&self) -> u8 {
        self.len
    }

    pub(super) fn as_slice(&self) -> &[Op] {
        &self.ops[..usize::from(self.len)]
    }
}

/// A decision: who leads, and who is in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Config {
    pub(super) leader: u8,
    pub(super) incarnation: u8,
    pub(super) epoch: u8,
    pub(super) isr: Set,
}

/// What a leader knows of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Peer {
    pub(super) attached: bool,
    /// One more than the records of the stream that it has synced; 0 until it has synced the reconciliation.
    pub(super) acked: u8,
    pub(super) missing: Set,
}

/// A proposal to take a follower into the in-sync set, made at a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Proposal {
    pub(super) follower: u8,
    pub(super) version: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Node {
    pub(super) incarnation: u8,
    /// Version of the configuration that it has applied.
    pub(super) view: u8,
    /// The highest epoch that it knows, and the one that its disk knows.
    pub(super) fence: u8,
    pub(super) synced_fence: u8,
    /// Messages that are alive after a power loss, and the next position to give out.
    pub(super) disk: Set,
    pub(super) synced_next: u8,
    /// What is not synced yet.
    pub(super) tail: List,

    /// The epoch in which it leads, 0 when it does not.
    pub(super) leads: u8,
    /// Who has to have a message before it is confirmed.
    pub(super) effective: Set,
    pub(super) pending: Option<Proposal>,
    /// Records of its stream that are synced here, and those that were confirmed.
    pub(super) local: u8,
    pub(super) committed: u8,
    pub(super) peers: [Peer; NODES],

    /// The epoch whose leader it follows, 0 when it does not.
    pub(super) follows: u8,
    /// Records taken from that epoch's stream.
    pub(super) taken: u8,
    pub(super) missing: Set,
    /// Messages that were filled in and are not synced yet.
    pub(super) filled: Set,
}

/// What is on its way in one epoch between its leader and one follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Wire {
    /// The highest acknowledgement sent; the leader may have read any lower one.
    pub(super) ack: u8,
    pub(super) fills: Set,
    pub(super) fill_acks: Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    configs: [Config; CONFIGS],
    pub(super) version: u8,
    pub(super) nodes: [Node; NODES],
    /// What each epoch's leader has shipped; it can arrive when the leader is long gone.
    pub(super) streams: [List; EPOCHS],
    pub(super) wires: [[Wire; NODES]; EPOCHS],
    /// Proposals on their way.
    pub(super) proposals: [Option<Proposal>; 4],
    /// The position that each message was given.
    pub(super) positions: [u8; MESSAGES],
    pub(super) published: u8,
    pub(super) confirmed: Set,
    /// Messages that a consumer has acknowledged.
    pub(super) settled: Set,
    /// Messages whose removal all that counted have synced.
    pub(super) gone: Set,
    pub(super) drops: u8,
    pub(super) crashes: u8,
    pub(super) downs: u8,
    pub(super) collections: u8,
}

/// Messages that are there at the start.
pub(super) const AT_START: u8 = 2;

impl State {
    /// Node 0 leads and node 1 is in sync: both have two confirmed messages. Node 2 has the first of them, from
    /// some time ago.
    pub(super) fn first() -> Self {
        let isr = bit(0) | bit(1);
        let config = Config { leader: 0, incarnation: 0, epoch: 1, isr };
        let both = Node { fence: 1, synced_fence: 1, disk: 0b11, synced_next: 3, ..Node::default() };
        let mut leader = Node { leads: 1, effective: isr, ..both };
        leader.peers[1] = Peer { attached: true, acked: 1, missing: 0 };
        let follower = Node { follows: 1, ..both };
        let stale = Node { disk: 0b01, synced_next: 2, ..both };
        let mut positions = [0; MESSAGES];
        (positions[0], positions[1]) = (1, 2);
        let mut configs = [Config::default(); CONFIGS];
        configs[0] = config;
        Self {
            configs,
            version: 0,
            nodes: [leader, follower, stale],
            streams: Default::default(),
            wires: Default::default(),
            proposals: [None; 4],
            positions,
            published: AT_START,
            confirmed: 0b11,
            settled: 0,
            gone: 0,
            drops: 0,
            crashes: 0,
            downs: 0,
            collections: 0,
        }
    }

    /// A number that stands for the state.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = Mix(0);
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Every member of the in-sync set has what was confirmed, and has not what is gone.
    pub(super) fn keeps_promises(&self) -> bool {
        let isr = self.current().isr;
        let owed = self.confirmed & !self.settled;
        let members = (0..NODES).filter(|node| isr & bit(*node) != 0);
        members.map(|node| self.nodes[node].disk).all(|disk| disk & owed == owed && disk & self.gone == 0)
    }

    pub(super) fn current(&self) -> Config {
        self.configs[usize::from(self.version)]
    }

    pub(super) fn config(&self, version: u8) -> Config {
        self.configs[usize::from(version)]
    }

    /// A decision is made.
    pub(super) fn decide(&mut self, config: Config) {
        self.version += 1;
        self.configs[usize::from(self.version)] = config;
    }

    /// The messages alive on a node, synced or not.
    pub(super) fn alive(&self, node: usize) -> Set {
        let node = &self.nodes[node];
        node.tail.as_slice().iter().fold(node.disk, |alive, op| match *op {
            Op::Nothing => alive,
            Op::Enqueue(message) => alive | bit(message.into()),
            Op::Drop(message) => alive & !bit(message.into()),
        })
    }

    /// The next position that a node would give out.
    pub(super) fn next(&self, node: usize) -> u8 {
        let node = &self.nodes[node];
        node.tail.as_slice().iter().fold(node.synced_next, |next, op| match *op {
            Op::Enqueue(message) => next.max(self.positions[usize::from(message)] + 1),
            _ => next,
        })
    }

    pub(super) fn stream(&mut self, epoch: u8) -> &mut List {
        &mut self.streams[usize::from(epoch)]
    }

    pub(super) fn wire(&mut self, epoch: u8, follower: usize) -> &mut Wire {
        &mut self.wires[usize::from(epoch)][follower]
    }

    /// Up to where in its stream a leader may confirm.
    pub(super) fn commonly_held(&self, leader: usize, fills_count: bool) -> u8 {
        let node = &self.nodes[leader];
        let counts = (0..NODES).filter(|other| *other != leader && node.effective & bit(*other) != 0);
        counts.fold(node.local, |held, other| {
            let peer = &node.peers[other];
            let has_all = !fills_count || peer.missing == 0;
            let has = if peer.attached && has_all { peer.acked.saturating_sub(1) } else { 0 };
            held.min(has)
        })
    }
}

/// A quick hash: the standard one takes most of the time otherwise.
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}
