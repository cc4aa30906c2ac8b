//! Choosing a server.

mod draw;
pub mod hash;
mod map;
mod ring;
mod round_robin;
mod visitor;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

pub use self::visitor::Visitor;

use self::draw::Draw;
use self::ring::Ring;
use self::round_robin::RoundRobin;
use crate::config::{Algorithm, HashMethod, HashType, Settings};
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

/// What the configuration says about choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How.
    pub algorithm: Algorithm,
    /// How hashes become servers.
    pub hash_type: HashType,
    /// Per cent of the average a server may have with a consistent hash; 0 is no bound.
    pub balance_factor: u32,
    /// All backup servers together when no other is left.
    pub all_backups: bool,
    /// When every server is down, use all as if they were up.
    pub fail_open: bool,
}

impl Rule {
    /// The rule of a section.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            algorithm: settings.balance,
            hash_type: settings.hash_type,
            balance_factor: settings.hash_balance_factor,
            all_backups: settings.allbackups,
            fail_open: settings.fail_open,
        }
    }

    /// An algorithm with nothing else said.
    #[must_use]
    pub fn plain(algorithm: Algorithm) -> Self {
        Self { algorithm, ..Self::of(&Settings::default()) }
    }
}

/// The state of one backend's balancing.
#[derive(Debug)]
pub struct Balancer {
    rule: Rule,
    /// Servers that take part now, with their weight in sixteenths: the active ones, or backups when there
    /// is none.
    members: Vec<Member>,
    /// They are down, and only used because everybody is.
    is_forced: bool,
    round_robin: RoundRobin,
    count: u64,
    /// For `static-rr` and map-based hashes: server by slot, each as often as its weight says.
    map: Vec<usize>,
    /// The slot whose turn it is.
    next: usize,
    /// For consistent hashes.
    ring: Ring,
    draw: Draw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    index: usize,
    id: u32,
    weight: u32,
}

impl Balancer {
    /// A balancer for `servers`.
    pub fn new(rule: Rule, servers: &[Arc<Server>]) -> Self {
        let mut balancer = Self {
            rule,
            members: Vec::new(),
            is_forced: false,
            round_robin: RoundRobin::default(),
            count: 0,
            map: Vec::new(),
            next: 0,
            ring: Ring::default(),
            draw: Draw::new(),
        };
        balancer.refresh(servers);
        balancer
    }

    /// Looks again at which servers may be chosen; call it when one of them changed.
    pub fn refresh(&mut self, servers: &[Arc<Server>]) {
        let members = self.find_members(servers);
        if members == self.members {
            return;
        }
        self.members = members;
        let algorithm = self.rule.algorithm;
        match algorithm {
            Algorithm::RoundRobin => {
                let weights: Vec<(usize, u32)> =
                    self.members.iter().map(|member| (member.index, member.weight)).collect();
                self.round_robin.set_members(&weights);
            }
            Algorithm::Source | Algorithm::Hash(_)
                if self.rule.hash_type.method == HashMethod::Consistent =>
            {
                self.ring =
                    Ring::build(self.members.iter().map(|member| (member.index, member.id, member.weight)));
            }
            Algorithm::StaticRoundRobin | Algorithm::Source | Algorithm::Hash(_) => {
                let divisor = map::divisor(servers.iter().map(|server| server.weight()));
                let weights: Vec<(usize, u32)> = self
                    .members
                    .iter()
                    .map(|member| (member.index, servers[member.index].weight()))
                    .collect();
                self.map = map::build(&weights, divisor);
                self.next = 0;
            }
            Algorithm::LeastConn | Algorithm::First | Algorithm::Random(_) => {}
        }
    }

    fn find_members(&mut self, servers: &[Arc<Server>]) -> Vec<Member> {
        let now = Instant::now();
        let among = |is_good: &dyn Fn(&Server) -> bool, backup: bool| -> Vec<Member> {
            let good = servers.iter().enumerate().filter(|(_, server)| {
                server.config().options.backup == backup && server.weight() > 0 && is_good(server)
            });
            good.map(|(index, server)| {
                let weight = if self.rule.algorithm == Algorithm::StaticRoundRobin {
                    server.weight() * crate::server::WEIGHT_SCALE
                } else {
                    server.effective_weight(now)
                };
                Member { index, id: server.config().id, weight: weight.max(1) }
            })
            .collect()
        };
        let choose = |is_good: &dyn Fn(&Server) -> bool| {
            let mut members = among(is_good, false);
            if members.is_empty() {
                members = among(is_good, true);
                if !self.rule.all_backups {
                    members.truncate(1);
                }
            }
            members
        };
        let members = choose(&|server| server.is_usable());
        self.is_forced = members.is_empty() && self.rule.fail_open;
        if self.is_forced {
            return choose(&|server| {
                let ordered = server.look(|condition| condition.maintenance || condition.drain);
                !ordered && !server.is_retired()
            });
        }
        members
    }

    /// The servers are others now: `moved` says for each old place where that server is now. Those that
    /// stay keep their turn. With another rule everything begins anew.
    pub fn replace(&mut self, rule: Rule, servers: &[Arc<Server>], moved: &[Option<usize>]) {
        if rule != self.rule {
            *self = Self::new(rule, servers);
            return;
        }
        self.round_robin.renumber(moved);
        // Places mean other servers now.
        self.members.clear();
        self.refresh(servers);
        if self.members.is_empty() {
            (self.map, self.ring) = (Vec::new(), Ring::default());
        }
    }

    /// How many servers may be chosen now.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether somebody is well, not only used because everybody is down.
    pub fn has_server(&self) -> bool {
        !self.members.is_empty() && !self.is_forced
    }

    /// Whether a server takes part now.
    pub fn is_member(&self, index: usize) -> bool {
        self.members.iter().any(|member| member.index == index)
    }

    /// Notes that a server was chosen or left: it is the last among its equals now.
    pub fn touch(&mut self, server: &Server) {
        if self.rule.algorithm == Algorithm::LeastConn {
            self.count += 1;
            server.touched.store(self.count, Relaxed);
        }
    }

    /// Chooses a server; `avoid` (one that just failed) only when there is no other. `sessions` are those
    /// of all servers together.
    pub fn pick(
        &mut self,
        servers: &[Arc<Server>],
        visitor: &Visitor,
        avoid: Option<usize>,
        sessions: u32,
    ) -> Pick {
        if self.members.is_empty() {
            return Pick::Nobody;
        }
        match self.rule.algorithm {
            Algorithm::Source => {
                let hash = hash::source(visitor.source.ip());
                let hash = if self.rule.hash_type.avalanche { hash::avalanche(hash) } else { hash };
                return self.pick_by_hash(servers, hash, avoid, sessions);
            }
            Algorithm::Hash(key) => {
                let hash = hash::key(self.rule.hash_type.function, &visitor.bytes(key));
                let hash = if self.rule.hash_type.avalanche { hash::avalanche(hash) } else { hash };
                return self.pick_by_hash(servers, hash, avoid, sessions);
            }
            _ => {}
        }
        let chosen = self.pick_free(servers, avoid).or_else(|| {
            let only = avoid.filter(|index| self.is_member(*index) && !servers[*index].is_full());
            only.inspect(|index| self.round_robin.take(*index))
        });
        match chosen {
            Some(index) => {
                self.touch(&servers[index]);
                Pick::Server(index)
            }
            None => Pick::AllFull,
        }
    }

    fn pick_free(&mut self, servers: &[Arc<Server>], avoid: Option<usize>) -> Option<usize> {
        let is_free = |index: usize| Some(index) != avoid && !servers[index].is_full();
        let free = || self.members.iter().filter(|member| is_free(member.index));
        match self.rule.algorithm {
            Algorithm::RoundRobin => self.round_robin.pick(is_free),
            Algorithm::StaticRoundRobin => {
                let slots = self.map.len();
                let step = (0..slots).find(|step| is_free(self.map[(self.next + step) % slots]))?;
                let at = (self.next + step) % slots;
                self.next = (at + 1) % slots;
                Some(self.map[at])
            }
            Algorithm::First => free().map(|member| member.index).next(),
            Algorithm::LeastConn => free()
                .min_by_key(|member| {
                    let server = &servers[member.index];
                    (load(server, member.weight), server.touched.load(Relaxed), member.index)
                })
                .map(|member| member.index),
            Algorithm::Random(draws) => {
                let free: Vec<&Member> = free().collect();
                let weights: Vec<u64> = free.iter().map(|member| u64::from(member.weight)).collect();
                let total: u64 = weights.iter().sum();
                (0..draws)
                    .filter_map(|_| self.draw.weighted(&weights, total))
                    .map(|at| free[at])
                    .min_by_key(|member| load(&servers[member.index], member.weight))
                    .map(|member| member.index)
            }
            Algorithm::Source | Algorithm::Hash(_) => None,
        }
    }

    fn pick_by_hash(&self, servers: &[Arc<Server>], hash: u32, avoid: Option<usize>, sessions: u32) -> Pick {
        let consistent = self.rule.hash_type.method == HashMethod::Consistent;
        let bounded = consistent && self.rule.balance_factor > 0;
        let suits = |index: usize| {
            Some(index) != avoid && !(bounded && self.has_its_share(&servers[index], index, sessions))
        };
        let chosen = if consistent {
            self.ring.walk(hash).find(|index| suits(*index)).or_else(|| self.ring.walk(hash).next())
        } else {
            let slots = self.map.len().max(1);
            let start = usize::try_from(hash).unwrap_or(0) % slots;
            let around = || (0..slots).filter_map(|step| self.map.get((start + step) % slots).copied());
            around().find(|index| suits(*index)).or_else(|| around().next())
        };
        match chosen {
            Some(index) if servers[index].is_full() => Pick::Full(index),
            Some(index) => Pick::Server(index),
            None => Pick::Nobody,
        }
    }

    /// With `hash-balance-factor`: whether a server has as many sessions as the factor lets it have of all
    /// of them, this one included.
    fn has_its_share(&self, server: &Server, index: usize, sessions: u32) -> bool {
        let total: u64 = self.members.iter().map(|member| u64::from(member.weight)).sum();
        let factor = u64::from(self.rule.balance_factor);
        let slots = ((u64::from(sessions) + 1) * factor).div_ceil(100);
        let (whole, rest) = (slots / total.max(1), slots % total.max(1));
        let mut before = 0;
        for member in &self.members {
            let weight = u64::from(member.weight);
            if member.index == index {
                let share = weight * whole + ((before + weight) * rest) / total - (before * rest) / total;
                return u64::from(server.served.load(Relaxed)) >= share.max(1);
            }
            before += weight;
        }
        false
    }
}

/// Connections for each unit of weight as HAProxy weighs them: with this one included, except that nobody's
/// server is always the lightest.
fn load(server: &Server, weight: u32) -> u64 {
    let connections =
        u64::from(server.served.load(Relaxed)) + u64::from(server.counters.pending.load(Relaxed));
    if connections == 0 { 0 } else { (connections + 1) * 4096 / u64::from(weight.max(1)) }
}

#[cfg(test)]
mod tests;
