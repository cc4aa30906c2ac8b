//! Who may come in and where to: conditions on the client's address.

use std::net::{IpAddr, Ipv4Addr};

use super::Place;

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

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// What an `acl` tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The client's address is in one of these networks.
    Source(Vec<Network>),
    /// Always, or never.
    Constant(bool),
    /// Something this proxy cannot test; only an error when it is used.
    Unsupported(String),
}

impl Test {
    fn holds(&self, client: IpAddr) -> bool {
        match self {
            Self::Source(networks) => networks.iter().any(|network| network.contains(client)),
            Self::Constant(value) => *value,
            Self::Unsupported(_) => false,
        }
    }
}

/// `if a !b || c`: one of several groups, all tests of which hold; each test may be negated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// The groups; none means "always".
    pub groups: Vec<Vec<(bool, Test)>>,
    /// `unless`.
    pub negated: bool,
}

impl Condition {
    /// Whether it holds for a client.
    #[must_use]
    pub fn holds(&self, client: IpAddr) -> bool {
        let group_holds =
            |group: &Vec<(bool, Test)>| group.iter().all(|(wanted, test)| test.holds(client) == *wanted);
        (self.groups.is_empty() || self.groups.iter().any(group_holds)) != self.negated
    }
}

/// `tcp-request connection|content accept|reject if ...`; the first that holds decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRule {
    /// Let the client in, or not.
    pub accept: bool,
    /// When.
    pub condition: Condition,
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

/// Whether the rules let a client in.
#[must_use]
pub fn admits(rules: &[ClientRule], client: IpAddr) -> bool {
    rules.iter().find(|rule| rule.condition.holds(client)).is_none_or(|rule| rule.accept)
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
        for wrong in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/255.0.255.0", "10.0.0.0/"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let source = |text: &str| Test::Source(vec![Network::parse(text).unwrap()]);
        let when = |groups, negated| Condition { groups, negated };
        let rules = [
            ClientRule { accept: true, condition: when(vec![vec![(true, source("10.1.0.0/16"))]], false) },
            ClientRule {
                accept: false,
                condition: when(
                    vec![vec![(true, source("10.0.0.0/8")), (false, source("10.2.0.0/16"))]],
                    false,
                ),
            },
            ClientRule { accept: false, condition: when(vec![vec![(true, source("0.0.0.0/0"))]], true) },
        ];
        let admitted = |ip: &str| admits(&rules, ip.parse().unwrap());
        assert!(admitted("10.1.0.1") && !admitted("10.3.0.1") && admitted("10.2.0.1") && admitted("9.9.9.9"));
        assert!(!admitted("::1"), "unless 0.0.0.0/0");
        assert!(admits(&[], "::1".parse().unwrap()));
        let everybody = [ClientRule { accept: false, condition: Condition::default() }];
        assert!(!admits(&everybody, "::1".parse().unwrap()));
    }
}
