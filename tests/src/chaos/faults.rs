//! What can happen to a deployment, and what happens next: everything from one seed.

use anyhow::{Context, Result};
use broker_sim::random::Random;
use std::fmt;
use std::str::FromStr;

/// Which brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A and B, and a witness on C.
    Two,
    /// A, B and E.
    Three,
}

impl Layout {
    /// The hosts with a broker.
    #[must_use]
    pub fn brokers(self) -> &'static [&'static str] {
        match self {
            Self::Two => &["A", "B"],
            Self::Three => &["A", "B", "E"],
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Two => "two",
            Self::Three => "three",
        }
    }

    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Two => "two brokers and a witness",
            Self::Three => "three brokers",
        }
    }
}

impl FromStr for Layout {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        [Self::Two, Self::Three]
            .into_iter()
            .find(|it| it.name() == word)
            .with_context(|| format!("`{word}` is neither `two` nor `three`"))
    }
}

/// Hosts that a fault can happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// A broker's.
    Broker,
    /// A balancer's.
    Balancer,
    /// Any of both.
    Any,
    /// The witness's.
    Witness,
    /// The deployment as a whole: nothing else happens beside it.
    Everywhere,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table below has the words")]
pub enum Kind {
    BrokerKilled,
    BrokerFrozen,
    BrokerStopped,
    BrokerDrained,
    AppStopped,
    BrokerPower,
    WitnessKilled,
    ProxyKilled,
    ProxyFrozen,
    ProxyReloaded,
    AgentKilled,
    AgentFrozen,
    AgentStopped,
    AgentReloaded,
    BalancerPower,
    CutOff,
    LinkCut,
    OneWay,
    Flapping,
    Loss,
    SlowLink,
    Split,
    SlowDisk,
    FullDisk,
    ClockJump,
    Rolling,
    AllPower,
}

/// All kinds with their words and places.
const KINDS: [(Kind, &str, Where); 27] = [
    (Kind::BrokerKilled, "broker killed with -9", Where::Broker),
    (Kind::BrokerFrozen, "broker frozen (SIGSTOP) and thawed", Where::Broker),
    (Kind::BrokerStopped, "broker stopped in order", Where::Broker),
    (Kind::BrokerDrained, "broker drained and revived", Where::Broker),
    (Kind::AppStopped, "stop_app and start_app", Where::Broker),
    (Kind::BrokerPower, "broker's host without power", Where::Broker),
    (Kind::WitnessKilled, "witness killed with -9", Where::Witness),
    (Kind::ProxyKilled, "proxy killed with -9", Where::Balancer),
    (Kind::ProxyFrozen, "proxy frozen and thawed", Where::Balancer),
    (Kind::ProxyReloaded, "proxy reloaded", Where::Balancer),
    (Kind::AgentKilled, "agent killed with -9", Where::Balancer),
    (Kind::AgentFrozen, "agent frozen and thawed", Where::Balancer),
    (Kind::AgentStopped, "agent stopped in order", Where::Balancer),
    (Kind::AgentReloaded, "agent reloaded", Where::Balancer),
    (Kind::BalancerPower, "balancer's host without power", Where::Balancer),
    (Kind::CutOff, "host cut off", Where::Any),
    (Kind::LinkCut, "link between two brokers cut", Where::Broker),
    (Kind::OneWay, "broker does not hear another one", Where::Broker),
    (Kind::Flapping, "flapping link", Where::Any),
    (Kind::Loss, "packets lost", Where::Any),
    (Kind::SlowLink, "slow link", Where::Any),
    (Kind::Split, "agents do not hear each other", Where::Everywhere),
    (Kind::SlowDisk, "slow disk", Where::Broker),
    (Kind::FullDisk, "full disk", Where::Broker),
    (Kind::ClockJump, "clock jumps and comes back", Where::Broker),
    (Kind::Rolling, "brokers restarted one after the other", Where::Everywhere),
    (Kind::AllPower, "all brokers' hosts without power", Where::Everywhere),
];

impl Kind {
    /// All kinds that there are in a layout.
    #[must_use]
    pub fn all(layout: Layout) -> Vec<Self> {
        let there = |place: Where| place != Where::Witness || layout == Layout::Two;
        KINDS.iter().filter(|(.., place)| there(*place)).map(|(kind, ..)| *kind).collect()
    }

    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().1
    }

    /// The kind with these words.
    #[must_use]
    pub fn titled(words: &str) -> Option<Self> {
        KINDS.iter().find(|(_, title, _)| *title == words).map(|(kind, ..)| *kind)
    }

    fn row(self) -> &'static (Self, &'static str, Where) {
        KINDS.iter().find(|(kind, ..)| *kind == self).expect("every kind has a row, says a test")
    }

    fn hosts(self, layout: Layout) -> Vec<&'static str> {
        let balancers = ["C", "D"];
        match self.row().2 {
            Where::Broker => layout.brokers().to_vec(),
            Where::Balancer => balancers.to_vec(),
            Where::Any => layout.brokers().iter().copied().chain(balancers).collect(),
            Where::Witness => vec!["C"],
            Where::Everywhere => vec!["all"],
        }
    }

    fn is_alone(self) -> bool {
        self.row().2 == Where::Everywhere
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// Where.
    pub host: &'static str,
    /// A second broker, for what happens between two.
    pub other: &'static str,
    /// How much of it, from 0 to 999: what that is depends on the kind.
    pub amount: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::LinkCut | Kind::OneWay => {
                write!(f, "{} and {}: {}", self.host, self.other, self.kind.title())
            }
            _ => write!(f, "{}: {}", self.host, self.kind.title()),
        }
    }
}

/// One fault, or two that overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// In the order in which they strike.
    pub faults: Vec<Fault>,
    /// Between the first and the second, milliseconds.
    pub between_ms: u64,
    /// How long they last from then on.
    pub hold_ms: u64,
    /// The second is over before the first.
    pub nested: bool,
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Where episodes come from: every kind comes once before any comes again.
#[derive(Debug)]
pub struct Fate {
    random: Random,
    layout: Layout,
    kinds: Vec<Kind>,
    /// What is still to come of this turn.
    deck: Vec<Kind>,
}

impl Fate {
    /// The fate of a seed, with these kinds only, where there are any.
    #[must_use]
    pub fn new(seed: u64, layout: Layout, kinds: Vec<Kind>) -> Self {
        let kinds = if kinds.is_empty() { Kind::all(layout) } else { kinds };
        Self { random: Random::new(seed), layout, kinds, deck: Vec::new() }
    }

    /// What happens next.
    pub fn next_episode(&mut self) -> Episode {
        let first = self.draw();
        let mut faults = vec![self.fault(first, "")];
        if !first.is_alone() && self.random.below(10) < 6 {
            let second = self.draw();
            let free = second.hosts(self.layout).iter().any(|host| *host != faults[0].host);
            if second.is_alone() || !free {
                // Its turn comes later.
                self.deck.push(second);
            } else {
                faults.push(self.fault(second, faults[0].host));
            }
        }
        Episode {
            faults,
            between_ms: self.random.below(1200),
            // Most are short; some last longer than anybody waits for a silent peer.
            hold_ms: if self.random.one_in(4) {
                3000 + self.random.below(3000)
            } else {
                self.random.below(2000)
            },
            nested: self.random.one_in(2),
        }
    }

    fn draw(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            for index in (1..self.deck.len()).rev() {
                let other = self.below(index + 1);
                self.deck.swap(index, other);
            }
        }
        self.deck.pop().expect("it was just filled")
    }

    /// A fault of this kind, not on the host `taken`.
    fn fault(&mut self, kind: Kind, taken: &str) -> Fault {
        let mut hosts = kind.hosts(self.layout);
        hosts.retain(|host| *host != taken);
        let host = hosts[self.below(hosts.len())];
        let others: Vec<&str> = self.layout.brokers().iter().copied().filter(|it| *it != host).collect();
        let other = others[self.below(others.len())];
        Fault { kind, host, other, amount: self.random.below(1000) }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_kind_has_words_and_a_place() {
        for (kind, title, _) in KINDS {
            assert_eq!(Kind::titled(title), Some(kind));
            assert_eq!(kind.title(), title);
            assert!(!kind.hosts(Layout::Two).is_empty());
        }
    }

    #[test]
    fn a_seed_is_a_fate_and_every_kind_comes_alone_and_in_pairs() {
        for layout in [Layout::Two, Layout::Three] {
            let run = |seed| {
                let mut fate = Fate::new(seed, layout, Vec::new());
                (0..2000).map(|_| fate.next_episode()).collect::<Vec<_>>()
            };
            assert_eq!(run(7), run(7));
            assert_ne!(run(7), run(8));
            let mut counts: BTreeMap<(Kind, usize), u32> = BTreeMap::new();
            for episode in run(7) {
                let hosts: Vec<&str> = episode.faults.iter().map(|it| it.host).collect();
                assert!(hosts.len() == 1 || hosts[0] != hosts[1], "{episode}");
                for fault in &episode.faults {
                    assert!(fault.host != fault.other);
                    *counts.entry((fault.kind, episode.faults.len())).or_default() += 1;
                }
            }
            for kind in Kind::all(layout) {
                assert!(counts.get(&(kind, 1)).is_some_and(|count| *count > 10), "{kind:?} alone");
                assert!(
                    kind.is_alone() || counts.get(&(kind, 2)).is_some_and(|count| *count > 10),
                    "{kind:?} in pairs"
                );
            }
        }
    }

    #[test]
    fn some_kinds_only() {
        let mut fate = Fate::new(1, Layout::Two, vec![Kind::ProxyKilled]);
        assert!((0..50).flat_map(|_| fate.next_episode().faults).all(|it| it.kind == Kind::ProxyKilled));
    }
}
