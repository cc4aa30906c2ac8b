//! Connections between nodes: in order each, late, cut in one direction or both.

use std::collections::BTreeMap;

use broker_core::ids::NodeId;

use crate::random::Random;

/// Which of the connections from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Streams of leaders, and what followers answer.
    Data,
    /// Fills.
    Bulk,
}

/// From, to.
pub(super) type Way = (NodeId, NodeId);

/// Something on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) way: Way,
    /// The connection it travels on; when that is gone, so is the packet.
    pub(super) connection: u64,
    /// It comes after the one before it, however long that takes.
    lane: Lane,
    number: u64,
    pub(super) payload: Payload,
}

/// What travels.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    /// A frame of a stream.
    Stream(Vec<u8>),
    /// An answer to one.
    Answer(Vec<u8>),
    /// Messages beside a stream.
    Fill(Vec<u8>),
}

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Network {
    next: u64,
    connections: BTreeMap<Way, Connection>,
    /// Directions in which nothing arrives.
    cut: Vec<Way>,
}

#[derive(Debug, Default)]
struct Connection {
    number: u64,
    lanes: BTreeMap<Lane, Counters>,
}

/// Packets of one lane: when the last one arrives, how many were sent, how many arrived.
#[derive(Debug, Default)]
struct Counters {
    last: u64,
    sent: u64,
    arrived: u64,
}

/// What becomes of a packet now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// It is held up, or one before it is.
    Later,
    /// Its connection is gone.
    Lost,
}

impl Network {
    /// The number of the connection of this way, if there is one.
    pub(super) fn connection(&self, way: Way) -> Option<u64> {
        self.connections.get(&way).map(|connection| connection.number)
    }

    pub(super) fn connect(&mut self, way: Way) {
        self.next += 1;
        self.connections.insert(way, Connection { number: self.next, lanes: BTreeMap::new() });
    }

    pub(super) fn disconnect(&mut self, way: Way) -> bool {
        self.connections.remove(&way).is_some()
    }

    pub(super) fn is_cut(&self, way: Way) -> bool {
        self.cut.contains(&way)
    }

    pub(super) fn cut(&mut self, way: Way) {
        self.cut.push(way);
    }

    /// Everything arrives again.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether both directions work: without the other one nothing is acknowledged.
    pub(super) fn works(&self, (from, to): Way) -> bool {
        !self.is_cut((from, to)) && !self.is_cut((to, from))
    }

    /// Sends something. Returns when it arrives and what; `None` without a connection.
    pub(super) fn send(
        &mut self,
        now: u64,
        way: Way,
        lane: Lane,
        payload: Payload,
        random: &mut Random,
    ) -> Option<(u64, Packet)> {
        let connection = self.connections.get_mut(&way)?;
        let delay = if random.one_in(20) { random.below(300) } else { 1 + random.below(5) };
        let counters = connection.lanes.entry(lane).or_default();
        counters.last = (now + delay).max(counters.last);
        let packet = Packet { way, connection: connection.number, lane, number: counters.sent, payload };
        counters.sent += 1;
        Some((counters.last, packet))
    }

    /// Whether a packet arrives now, where its receiver takes it.
    pub(super) fn fate(&mut self, packet: &Packet, receiver_is_frozen: bool) -> Fate {
        let cut = self.is_cut(packet.way);
        let connection = self.connections.get_mut(&packet.way).filter(|it| it.number == packet.connection);
        let Some(counters) = connection.and_then(|it| it.lanes.get_mut(&packet.lane)) else {
            return Fate::Lost;
        };
        if cut || receiver_is_frozen || counters.arrived != packet.number {
            return Fate::Later;
        }
        counters.arrived += 1;
        Fate::Arrives
    }
}
