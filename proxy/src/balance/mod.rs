//! Choosing a server.

mod draw;
mod round_robin;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use self::draw::Draw;
use self::round_robin::RoundRobin;
use crate::config::Algorithm;
use crate::server::Server;

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This server.
    Server(usize),
    /// All servers that could be chosen are full; any will do when it has a place.
    AllFull,
    /// The one that must serve this client is full.
    Full(usize),
    /// No server is usable.
    Nobody,
}

/// The state of one backend's balancing.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    all_backups: bool,
    /// Servers that take part now: the active ones, or backups when there is none.
    members: Vec<usize>,
    round_robin: RoundRobin,
    /// When each server was chosen last, for ties of `leastconn`.
    last: Vec<u64>,
    count: u64,
    /// For `source`: server by slot, each as often as its weight says.
    map: Vec<usize>,
    draw: Draw,
}

impl Balancer {
    /// A balancer for `servers`.
    pub fn new(algorithm: Algorithm, all_backups: bool, servers: &[Arc<Server>]) -> Self {
        let mut balancer = Self {
            algorithm,
            all_backups,
            members: Vec::new(),
            round_robin: RoundRobin::default(),
            last: vec![0; servers.len()],
            count: 0,
            map: Vec::new(),
            draw: Draw::new(),
        };
        balancer.refresh(servers);
        balancer
    }

    /// Looks again at which servers may be chosen; call it when one of them changed.
    pub fn refresh(&mut self, servers: &[Arc<Server>]) {
        let usable = |backup: bool| {
            servers
                .iter()
                .enumerate()
                .filter(move |(_, server)| {
                    server.config().options.backup == backup && server.is_usable() && server.weight() > 0
                })
                .map(|(index, _)| index)
        };
        self.members = usable(false).collect();
        if self.members.is_empty() {
            self.members = usable(true).collect();
            if !self.all_backups {
                self.members.truncate(1);
            }
        }
        let weights: Vec<(usize, u32)> =
            self.members.iter().map(|index| (*index, servers[*index].weight())).collect();
        self.round_robin.set_members(&weights);
        if self.algorithm == Algorithm::Source {
            self.map = source_map(&weights);
        }
    }

    /// The servers are others now: `moved` says for each old place where that server is now. Those that
    /// stay keep their turn. With another algorithm everything begins anew.
    pub fn replace(
        &mut self,
        algorithm: Algorithm,
        all_backups: bool,
        servers: &[Arc<Server>],
        moved: &[Option<usize>],
    ) {
        if algorithm != self.algorithm {
            *self = Self::new(algorithm, all_backups, servers);
            return;
        }
        let mut last = vec![0; servers.len()];
        for (old, new) in moved.iter().enumerate() {
            let seen = self.last.get(old).copied().unwrap_or(0);
            if let Some(place) = new.and_then(|new| last.get_mut(new)) {
                *place = seen;
            }
        }
        self.last = last;
        self.all_backups = all_backups;
        self.round_robin.renumber(moved);
        self.refresh(servers);
    }

    /// How many servers may be chosen now.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether a server is among those.
    pub fn is_member(&self, index: usize) -> bool {
        self.members.contains(&index)
    }

    /// Chooses for a client; `avoid` is chosen only when there is no other.
    pub fn pick(&mut self, servers: &[Arc<Server>], client: IpAddr, avoid: Option<usize>) -> Pick {
        if self.members.is_empty() {
            return Pick::Nobody;
        }
        if self.algorithm == Algorithm::Source {
            return self.pick_by_source(servers, client, avoid);
        }
        let chosen = self.pick_free(servers, avoid).or_else(|| {
            let only = avoid.filter(|index| self.is_member(*index) && !servers[*index].is_full());
            only.inspect(|index| self.round_robin.take(*index))
        });
        match chosen {
            Some(index) => {
                self.count += 1;
                self.last[index] = self.count;
                Pick::Server(index)
            }
            None => Pick::AllFull,
        }
    }

    fn pick_free(&mut self, servers: &[Arc<Server>], avoid: Option<usize>) -> Option<usize> {
        let is_free = |index: usize| Some(index) != avoid && !servers[index].is_full();
        match self.algorithm {
            Algorithm::RoundRobin | Algorithm::StaticRoundRobin | Algorithm::Source | Algorithm::Hash(_) => {
                self.round_robin.pick(is_free)
            }
            Algorithm::First => self.members.iter().copied().find(|index| is_free(*index)),
            Algorithm::LeastConn => self
                .members
                .iter()
                .copied()
                .filter(|index| is_free(*index))
                .min_by_key(|index| (load(&servers[*index]), self.last[*index])),
            Algorithm::Random(draws) => {
                let free: Vec<usize> = self.members.iter().copied().filter(|index| is_free(*index)).collect();
                let weights: Vec<u64> =
                    free.iter().map(|index| u64::from(servers[*index].weight())).collect();
                let total: u64 = weights.iter().sum();
                (0..draws)
                    .filter_map(|_| self.draw.weighted(&weights, total))
                    .map(|at| free[at])
                    .min_by_key(|index| load(&servers[*index]))
            }
        }
    }

    fn pick_by_source(&mut self, servers: &[Arc<Server>], client: IpAddr, avoid: Option<usize>) -> Pick {
        if self.map.is_empty() {
            return Pick::Nobody;
        }
        let hash = usize::try_from(address_hash(client)).unwrap_or(0);
        let slots = self.map.len();
        let chosen = (0..slots)
            .map(|step| self.map[(hash + step) % slots])
            .find(|index| Some(*index) != avoid)
            .unwrap_or(self.map[hash % slots]);
        if servers[chosen].is_full() { Pick::Full(chosen) } else { Pick::Server(chosen) }
    }
}

/// Connections for each unit of weight, scaled so that integers compare well.
fn load(server: &Server) -> u64 {
    u64::from(server.served.load(Relaxed)) * 4096 / u64::from(server.weight().max(1))
}

/// The address as 32-bit words, combined by exclusive or, as HAProxy's `balance source` begins.
fn address_hash(client: IpAddr) -> u32 {
    match client {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => ip
            .octets()
            .chunks(4)
            .fold(0, |hash, word| hash ^ word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))),
    }
}

/// Each server as often as its weight says, well mixed.
fn source_map(weights: &[(usize, u32)]) -> Vec<usize> {
    let divisor =
        weights.iter().fold(0, |divisor, (_, weight)| greatest_common_divisor(divisor, *weight)).max(1);
    let slots: u32 = weights.iter().map(|(_, weight)| weight / divisor).sum();
    let mut order = RoundRobin::default();
    order.set_members(weights);
    (0..slots).filter_map(|_| order.pick(|_| true)).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests;
