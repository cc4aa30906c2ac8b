//! Who may come in and where to: conditions on addresses and on the state of the proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Place;
use super::texts::{Matching, Text};
use crate::content::{Content, Found};

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: u128,
    mask: u128,
    is_ipv4: bool,
}

impl Network {
    /// Reads `10.0.0.0/8`, `10.0.0.1`, `fe80::/10`, `10.0.0.0/255.0.0.0`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match length {
            None => width,
            Some(length) => match (length.parse::<u32>(), length.parse::<Ipv4Addr>()) {
                (Ok(bits), _) if bits <= width => bits,
                (_, Ok(mask))
                    if ip.is_ipv4() && u32::from(mask).leading_ones() == u32::from(mask).count_ones() =>
                {
                    u32::from(mask).leading_ones()
                }
                _ => return Err(format!("`{length}` is not a prefix length from 0 to {width}")),
            },
        };
        let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
        Ok(Self { address: number(ip) & mask, mask, is_ipv4: ip.is_ipv4() })
    }

    /// Whether an address is inside.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let width_mask = if self.is_ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        ip.is_ipv4() == self.is_ipv4 && (number(ip) ^ self.address) & self.mask & width_mask == 0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = if self.is_ipv4 { 32 } else { 128 };
        // The mask has ones above the width too.
        let bits = self.mask.leading_ones().saturating_sub(128 - width);
        let address = match u32::try_from(self.address) {
            Ok(address) if self.is_ipv4 => IpAddr::V4(address.into()),
            _ => IpAddr::V6(self.address.into()),
        };
        if bits == width { write!(f, "{address}") } else { write!(f, "{address}/{bits}") }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// What rules can know about a connection and the rest of the proxy.
pub trait Facts {
    /// The client's address.
    fn source(&self) -> IpAddr;
    /// The client's port.
    fn source_port(&self) -> Option<u16> {
        None
    }
    /// Where the client connected to.
    fn destination(&self) -> Option<SocketAddr> {
        None
    }
    /// A number about the proxy at this moment; `None` when it is not known here.
    fn number(&self, _what: &Number) -> Option<i64> {
        None
    }
    /// What the client has sent so far.
    fn content(&self) -> Content<'_> {
        Content::new(&[], true)
    }
    /// The name the client asked for, when its TLS ends here.
    fn tls_name(&self) -> Option<&str> {
        None
    }
}

/// What a test says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not hold.
    No,
    /// It depends on what the client sends next.
    Unknown,
    /// It holds.
    Yes,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn negated(self, negated: bool) -> Self {
        match self {
            Self::No if negated => Self::Yes,
            Self::Yes if negated => Self::No,
            other => other,
        }
    }
}

impl Facts for IpAddr {
    fn source(&self) -> IpAddr {
        *self
    }
}

impl Facts for SocketAddr {
    fn source(&self) -> IpAddr {
        self.ip()
    }

    fn source_port(&self) -> Option<u16> {
        Some(self.port())
    }
}

/// A number that a rule may look at. A name is that of a section; the rule's own when `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Number {
    /// Usable servers of a backend (`nbsrv`).
    UsableServers(Option<String>),
    /// 1 when this server is up, else 0 (`srv_is_up(BACKEND/SERVER)`).
    ServerIsUp(Option<String>, String),
    /// Sessions of a server (`srv_conn`).
    ServerSessions(Option<String>, String),
    /// Sessions of a frontend (`fe_conn`).
    FrontendSessions(Option<String>),
    /// New sessions of a frontend in the last second (`fe_sess_rate`).
    FrontendRate(Option<String>),
    /// Sessions of a backend (`be_conn`).
    BackendSessions(Option<String>),
    /// New sessions of a backend in the last second (`be_sess_rate`).
    BackendRate(Option<String>),
    /// Connections that wait for a place in a backend (`queue`).
    Pending(Option<String>),
    /// As `queue`, for each usable server (`avg_queue`).
    AveragePending(Option<String>),
    /// Places left on the servers of a backend and in its queue (`connslots`).
    FreePlaces(Option<String>),
    /// Sessions through the address the client came to (`dst_conn`).
    ListenerSessions,
    /// Number of the address the client came to (`so_id`).
    ListenerId,
    /// 1 when the client speaks TLS with us, else 0 (`ssl_fc`).
    SpeaksTls,
    /// Bytes the client has sent so far (`req.len`).
    ContentLength,
    /// Type of the first TLS handshake message the client has sent; 1 is a client hello (`req.ssl_hello_type`).
    HelloType,
}

/// What an `acl` tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The client's address is in one of these networks (`src`).
    Source(Vec<Network>),
    /// The address the client connected to is (`dst`).
    Destination(Vec<Network>),
    /// The client's port is in one of these ranges (`src_port`).
    SourcePort(Vec<Range>),
    /// The port the client connected to is (`dst_port`).
    DestinationPort(Vec<Range>),
    /// A number is in one of these ranges; without ranges, it is not 0.
    Number(Number, Vec<Range>),
    /// A text is like one of these values.
    Text(Text, Matching),
    /// No more is waited for (`wait_end`).
    WaitEnd,
    /// Always, or never.
    Constant(bool),
    /// Something this proxy cannot test; only an error when it is used.
    Unsupported(String),
}

/// Numbers from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The smallest.
    pub low: i64,
    /// The largest.
    pub high: i64,
}

impl Range {
    /// Whether a number is among them.
    #[must_use]
    pub fn contains(self, number: i64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

impl Test {
    /// Whether it holds; what is not known does not.
    #[must_use]
    pub fn judge(&self, facts: &dyn Facts) -> Verdict {
        let inside = |networks: &[Network], ip: Option<IpAddr>| {
            Verdict::of(ip.is_some_and(|ip| networks.iter().any(|network| network.contains(ip))))
        };
        let among = |ranges: &[Range], number: Option<i64>| {
            Verdict::of(number.is_some_and(|number| match ranges {
                [] => number != 0,
                ranges => ranges.iter().any(|range| range.contains(number)),
            }))
        };
        match self {
            Self::Source(networks) => inside(networks, Some(facts.source())),
            Self::Destination(networks) => inside(networks, facts.destination().map(|to| to.ip())),
            Self::SourcePort(ranges) => among(ranges, facts.source_port().map(i64::from)),
            Self::DestinationPort(ranges) => among(ranges, facts.destination().map(|to| to.port().into())),
            Self::Number(Number::ContentLength, ranges) => {
                let content = facts.content();
                let Found::Value(length) = content.length() else { return Verdict::Unknown };
                match among(ranges, Some(length)) {
                    // More may come.
                    Verdict::No if !content.is_final() => Verdict::Unknown,
                    verdict => verdict,
                }
            }
            Self::Number(Number::HelloType, ranges) => match facts.content().hello_type() {
                Found::Value(kind) => among(ranges, Some(kind)),
                Found::NotYet => Verdict::Unknown,
                Found::Nothing => Verdict::No,
            },
            Self::Number(what, ranges) => among(ranges, facts.number(what)),
            Self::Text(Text::HelloName, matching) => match facts.content().server_name() {
                Found::Value(name) => Verdict::of(matching.holds(&name)),
                Found::NotYet => Verdict::Unknown,
                Found::Nothing => Verdict::No,
            },
            Self::Text(Text::TlsName, matching) => {
                Verdict::of(facts.tls_name().is_some_and(|name| matching.holds(name)))
            }
            Self::WaitEnd if facts.content().is_final() => Verdict::Yes,
            Self::WaitEnd => Verdict::Unknown,
            Self::Constant(value) => Verdict::of(*value),
            Self::Unsupported(_) => Verdict::No,
        }
    }

    /// Whether it looks at what the client sends.
    #[must_use]
    pub fn looks_at_content(&self) -> bool {
        matches!(
            self,
            Self::Text(Text::HelloName, _)
                | Self::Number(Number::ContentLength | Number::HelloType, _)
                | Self::WaitEnd
        )
    }
}

/// A test with a name (`acl NAME TEST`). One given twice holds when either test does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Its name.
    pub name: String,
    /// Its tests.
    pub tests: Vec<Test>,
    /// Where each of them stands.
    pub places: Vec<Place>,
}

/// A part of a condition: `[!]NAME` or `[!]{ TEST }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// `!`
    pub negated: bool,
    /// The acl's name, when it has one.
    pub name: Option<String>,
    /// One of these must hold.
    pub tests: Vec<Test>,
}

impl Term {
    /// One test that holds is enough; one that is not known yet could.
    fn judge(&self, facts: &dyn Facts) -> Verdict {
        let mut verdict = Verdict::No;
        for test in &self.tests {
            verdict = verdict.max(test.judge(facts));
            if verdict == Verdict::Yes {
                break;
            }
        }
        verdict.negated(self.negated)
    }
}

/// `if a !b || c`: one of several groups, all terms of which hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// The groups; none means "always".
    pub groups: Vec<Vec<Term>>,
    /// `unless`.
    pub negated: bool,
}

impl Condition {
    /// Whether it holds for a client.
    #[must_use]
    pub fn judge(&self, facts: &dyn Facts) -> Verdict {
        let mut verdict = if self.groups.is_empty() { Verdict::Yes } else { Verdict::No };
        for group in &self.groups {
            let mut all = Verdict::Yes;
            for term in group {
                all = all.min(term.judge(facts));
                if all == Verdict::No {
                    break;
                }
            }
            verdict = verdict.max(all);
            if verdict == Verdict::Yes {
                break;
            }
        }
        verdict.negated(self.negated)
    }

    /// Whether it holds for a client; what is not known yet does not.
    #[must_use]
    pub fn holds(&self, facts: &dyn Facts) -> bool {
        self.judge(facts) == Verdict::Yes
    }

    /// Whether it looks at what the client sends.
    #[must_use]
    pub fn looks_at_content(&self) -> bool {
        self.groups.iter().flatten().flat_map(|term| &term.tests).any(Test::looks_at_content)
    }
}

/// When a rule is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As soon as the connection is there; addresses are those of the TCP connection.
    Connection,
    /// After TLS and the PROXY protocol header; addresses are those the header gave.
    Session,
    /// When the client has sent enough to tell, or `inspect-delay` is over; at once without content tests.
    Content,
}

impl Stage {
    /// All of them in their order.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Session, Self::Content];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Session => "session",
            Self::Content => "content",
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAction {
    /// Lets the client in and ends the rules of this stage.
    Accept,
    /// Turns the client away.
    Reject,
    /// A PROXY protocol header must come first (`expect-proxy layer4`); the rules go on.
    ExpectProxy,
}

impl ClientAction {
    /// HAProxy's words for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::ExpectProxy => "expect-proxy",
        }
    }
}

/// `tcp-request STAGE ACTION if ...`; the first that holds decides for its stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRule {
    /// When it is looked at.
    pub stage: Stage,
    /// What it does.
    pub action: ClientAction,
    /// When it does it.
    pub condition: Condition,
    /// Where it stands.
    pub place: Place,
}

/// `use_backend NAME if ...`; the first that holds decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendRule {
    /// The backend.
    pub backend: String,
    /// When.
    pub condition: Condition,
    /// Where it stands.
    pub place: Place,
}

/// `use-server NAME if ...`; the first that holds decides, when its server is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRule {
    /// The server.
    pub server: String,
    /// When.
    pub condition: Condition,
    /// Where it stands.
    pub place: Place,
}

/// Whether the rules of one stage let a client in; unknown as long as that depends on what it sends.
#[must_use]
pub fn judge_at(rules: &[ClientRule], stage: Stage, facts: &dyn Facts) -> Verdict {
    for rule in rules.iter().filter(|rule| rule.stage == stage && rule.action != ClientAction::ExpectProxy) {
        match rule.condition.judge(facts) {
            Verdict::No => {}
            Verdict::Unknown => return Verdict::Unknown,
            Verdict::Yes => return Verdict::of(rule.action == ClientAction::Accept),
        }
    }
    Verdict::Yes
}

/// Whether the rules of one stage let a client in.
#[must_use]
pub fn admits_at(rules: &[ClientRule], stage: Stage, facts: &dyn Facts) -> bool {
    judge_at(rules, stage, facts) == Verdict::Yes
}

/// Whether the rules of all stages let a client in.
#[must_use]
pub fn admits(rules: &[ClientRule], facts: &dyn Facts) -> bool {
    Stage::ALL.iter().all(|stage| admits_at(rules, *stage, facts))
}

/// Whether the rules ask this client for a PROXY protocol header.
#[must_use]
pub fn expects_proxy(rules: &[ClientRule], facts: &dyn Facts) -> bool {
    rules.iter().any(|rule| rule.action == ClientAction::ExpectProxy && rule.condition.holds(facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let inside = |network: &str, ip: &str| Network::parse(network).unwrap().contains(ip.parse().unwrap());
        assert!(inside("10.0.0.0/8", "10.255.1.2") && !inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("127.0.0.1", "127.0.0.1") && !inside("127.0.0.1", "127.0.0.2"));
        assert!(inside("172.16.0.0/255.240.0.0", "172.31.9.9") && !inside("172.16.0.0/12", "172.32.0.1"));
        assert!(inside("0.0.0.0/0", "1.2.3.4") && !inside("0.0.0.0/0", "::1"));
        assert!(inside("::/0", "::1") && inside("fe80::/10", "fe80::1") && !inside("fe80::/10", "fc00::1"));
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        assert!(inside("10.0.0.0/8", "::ffff:10.0.0.1"));
        for text in ["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "::/0", "fe80::/10", "::1"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/255.0.255.0", "10.0.0.0/"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn term(negated: bool, tests: Vec<Test>) -> Term {
        Term { negated, name: None, tests }
    }

    fn source(text: &str) -> Test {
        Test::Source(vec![Network::parse(text).unwrap()])
    }

    fn rule(stage: Stage, accept: bool, groups: Vec<Vec<Term>>, negated: bool) -> ClientRule {
        let action = if accept { ClientAction::Accept } else { ClientAction::Reject };
        ClientRule { stage, action, condition: Condition { groups, negated }, place: Place::default() }
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let at = Stage::Connection;
        let rules = [
            rule(at, true, vec![vec![term(false, vec![source("10.1.0.0/16")])]], false),
            rule(
                at,
                false,
                vec![vec![term(false, vec![source("10.0.0.0/8")]), term(true, vec![source("10.2.0.0/16")])]],
                false,
            ),
            rule(at, false, vec![vec![term(false, vec![source("0.0.0.0/0")])]], true),
        ];
        let admitted = |ip: &str| admits(&rules, &ip.parse::<IpAddr>().unwrap());
        assert!(admitted("10.1.0.1") && !admitted("10.3.0.1") && admitted("10.2.0.1") && admitted("9.9.9.9"));
        assert!(!admitted("::1"), "unless 0.0.0.0/0");
        assert!(admits(&[], &"::1".parse::<IpAddr>().unwrap()));
        let everybody = [rule(at, false, Vec::new(), false)];
        assert!(!admits(&everybody, &"::1".parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn each_stage_decides_for_itself() {
        let rules = [
            rule(Stage::Connection, true, Vec::new(), false),
            rule(Stage::Content, false, vec![vec![term(false, vec![source("10.0.0.0/8")])]], false),
        ];
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(admits_at(&rules, Stage::Connection, &ip) && admits_at(&rules, Stage::Session, &ip));
        assert!(!admits_at(&rules, Stage::Content, &ip) && !admits(&rules, &ip));
    }

    #[test]
    fn what_is_not_known_does_not_hold() {
        struct Known;
        impl Facts for Known {
            fn source(&self) -> IpAddr {
                IpAddr::from([10, 0, 0, 1])
            }
            fn destination(&self) -> Option<SocketAddr> {
                Some(SocketAddr::from(([10, 0, 0, 9], 5672)))
            }
            fn number(&self, what: &Number) -> Option<i64> {
                (*what == Number::UsableServers(None)).then_some(2)
            }
        }
        let range = |low, high| vec![Range { low, high }];
        for (test, expected) in [
            (Test::DestinationPort(range(5000, 6000)), true),
            (Test::DestinationPort(range(80, 80)), false),
            (Test::Destination(vec![Network::parse("10.0.0.9").unwrap()]), true),
            (Test::SourcePort(range(0, 65_535)), false),
            (Test::Number(Number::UsableServers(None), range(0, 1)), false),
            (Test::Number(Number::UsableServers(None), Vec::new()), true),
            (Test::Number(Number::ListenerId, range(i64::MIN, i64::MAX)), false),
            (Test::Unsupported("hdr".to_owned()), false),
        ] {
            assert_eq!(test.judge(&Known) == Verdict::Yes, expected, "{test:?}");
        }
    }
}
