//! The rules of nftables for what the services share out, as the text `nft -f -` reads.
//!
//! ```text
//! NAT:  prerouting, output ─► vs_… (choose) ─► rs_… (dnat)      postrouting ─► masquerade where needed
//! DR:   ingress of every interface ─► vs_… (choose) ─► rs_… (forward to the real server's MAC address)
//! ```
//!
//! Connections of NAT live in the kernel's connection tracking, so that new rules leave them alone. Clients
//! that stay with their server (persistence), and connections of DR, live in one set per real server,
//! which outlasts a change of the rules: a change flushes the chains, fills them anew and takes away what
//! nobody needs any more, all in one transaction.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::service::Share;
use super::slots::slots;
use crate::config::virtual_server::{
    Algorithm, Listen, Masquerade, Method, Persistence, Protocol, VirtualServer, endpoint,
};

/// The table of this program, in each family.
pub(crate) const TABLE: &str = "vip_agent";
const FAMILIES: [&str; 3] = ["ip", "ip6", "netdev"];
/// How long a silent connection of DR keeps its server: IPVS's 15 minutes, and 5 for UDP.
const CONNECTION_TIMEOUT: [u64; 2] = [900, 300];
const SET_SIZE: u32 = 262_144;

/// A service and who gets its traffic.
pub(crate) struct Plan<'a> {
    pub(crate) config: &'a VirtualServer,
    pub(crate) shares: Vec<Share>,
}

/// What the rules have to know of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Interfaces other than the loopback.
    pub(crate) interfaces: Vec<String>,
    /// Networks the host is in: interface, own address, prefix.
    pub(crate) networks: Vec<(String, IpAddr, u8)>,
}

impl Place {
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.networks.iter().any(|(_, own, _)| *own == address)
    }

    /// The interface whose network holds an address.
    fn device(&self, address: IpAddr) -> Option<&str> {
        let shared = |(_, own, prefix): &&(String, IpAddr, u8)| match (own, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let bits = (u32::from(*own) ^ u32::from(other)).leading_zeros();
                bits >= u32::from(*prefix).min(32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let bits = (u128::from(*own) ^ u128::from(other)).leading_zeros();
                bits >= u32::from(*prefix).min(128)
            }
            _ => false,
        };
        let networks = self.networks.iter().filter(shared);
        networks.max_by_key(|(_, _, prefix)| *prefix).map(|(name, ..)| name.as_str())
    }
}

/// Chains and sets in the kernel: family, `chain` or `set`, name.
pub(crate) type Objects = BTreeSet<(&'static str, &'static str, String)>;

/// One transaction: from what is there to what is wanted.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// From what is there to nothing but the sets that stay.
    pub(crate) head: String,
    /// What is wanted; it also loads where nothing is.
    pub(crate) body: String,
    pub(crate) objects: Objects,
    /// Real servers that cannot be served, with the reason.
    pub(crate) refused: Vec<String>,
}

/// Rules for a host on which nothing of ours is left.
pub(crate) fn removal() -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}");
    }
    text
}

/// Makes the transaction.
pub(crate) fn script(plans: &[Plan<'_>], place: &Place, before: &Objects) -> Script {
    let mut tables = FAMILIES.map(Table::new);
    let mut refused = Vec::new();
    for plan in plans {
        if plan.config.algorithm.kernel().is_some() {
            continue;
        }
        let stays = |share: &Share| arrives_anyway(plan.config, place, share);
        if !plan.shares.is_empty() && plan.shares.iter().all(stays) {
            continue;
        }
        let table = match (plan.config.method, plan.config.is_ipv6()) {
            (Method::Nat, false) => &mut tables[0],
            (Method::Nat, true) => &mut tables[1],
            (Method::Dr, _) => &mut tables[2],
        };
        Writer { plan, place, table, refused: &mut refused }.write();
    }
    let [ip, ip6, netdev] = &mut tables;
    for (table, six) in [(ip, false), (ip6, true)] {
        table.nat_hooks(plans, six, place);
    }
    netdev.ingress_hooks(place);
    let objects: Objects = tables.iter().flat_map(Table::objects).collect();
    let (mut head, mut body) = (String::new(), String::new());
    for table in &tables {
        table.clear(before, &objects, &mut head);
        table.render(&mut body);
    }
    Script { head, body, objects, refused }
}

/// Whether a real server gets the traffic without any rule: it is this host, and packets keep address and port. NAT
/// changes the address to the one that was written, as IPVS does: the program may listen on that one alone.
fn arrives_anyway(config: &VirtualServer, place: &Place, share: &Share) -> bool {
    let same = |listen: &Listen| matches!(listen, Listen::Address { first, last, .. } if first == last && *first == share.address);
    let keeps_address = config.method == Method::Dr || config.listen.iter().all(same);
    keeps_address && place.is_own(share.address) && keeps_port(config, share.port)
}

/// Whether the traffic keeps the port it came for.
fn keeps_port(config: &VirtualServer, port: u16) -> bool {
    port == 0
        || config
            .listen
            .iter()
            .all(|listen| matches!(listen, Listen::Address { port: own, .. } if *own == port))
}

struct Table {
    family: &'static str,
    sets: Vec<(String, String)>,
    /// Name and lines; a base chain's first line is its hook.
    chains: Vec<(String, Vec<String>)>,
    /// What leads to the services: match and chain.
    entries: Vec<String>,
}

impl Table {
    fn new(family: &'static str) -> Self {
        Self { family, sets: Vec::new(), chains: Vec::new(), entries: Vec::new() }
    }

    fn objects(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        let sets = self.sets.iter().map(|(name, _)| (self.family, "set", name.clone()));
        let chains = self.chains.iter().map(|(name, _)| (self.family, "chain", name.clone()));
        sets.chain(chains)
    }

    fn nat_hooks(&mut self, plans: &[Plan<'_>], six: bool, place: &Place) {
        if self.entries.is_empty() {
            return;
        }
        for (hook, priority) in [("prerouting", -100), ("output", -100)] {
            let mut lines = vec![format!("type nat hook {hook} priority {priority}; policy accept;")];
            lines.extend(self.entries.iter().cloned());
            self.chains.push((hook.to_owned(), lines));
        }
        let mut lines = vec!["type nat hook postrouting priority 100; policy accept;".to_owned()];
        let nat = |plan: &&Plan<'_>| {
            let config = plan.config;
            config.method == Method::Nat && config.is_ipv6() == six && config.algorithm.kernel().is_none()
        };
        for plan in plans.iter().filter(nat) {
            lines.extend(masquerade(plan.config, place));
        }
        self.chains.push(("postrouting".to_owned(), lines));
    }

    fn ingress_hooks(&mut self, place: &Place) {
        if self.entries.is_empty() {
            return;
        }
        for interface in &place.interfaces {
            let mut lines =
                vec![format!("type filter hook ingress device \"{interface}\" priority 0; policy accept;")];
            lines.extend(self.entries.iter().cloned());
            self.chains.push((format!("ingress_{}", identifier(interface)), lines));
        }
    }

    fn clear(&self, before: &Objects, after: &Objects, text: &mut String) {
        let family = self.family;
        if !before.iter().any(|(known, ..)| *known == family) {
            return;
        }
        if self.chains.is_empty() {
            let _ = writeln!(text, "delete table {family} {TABLE}");
            return;
        }
        let _ = writeln!(text, "flush table {family} {TABLE}");
        // "chain" comes before "set", which a chain may name.
        for (_, kind, name) in before.difference(after).filter(|(known, ..)| *known == family) {
            let _ = writeln!(text, "delete {kind} {family} {TABLE} {name}");
        }
    }

    fn render(&self, text: &mut String) {
        let family = self.family;
        if self.chains.is_empty() {
            return;
        }
        let _ = writeln!(text, "table {family} {TABLE} {{");
        for (name, body) in &self.sets {
            let _ = writeln!(text, "  set {name} {{ {body} }}");
        }
        for (name, lines) in &self.chains {
            let _ = writeln!(text, "  chain {name} {{");
            for line in lines {
                let _ = writeln!(text, "    {line}");
            }
            let _ = writeln!(text, "  }}");
        }
        let _ = writeln!(text, "}}");
    }
}

/// Letters, digits and underscores only.
fn identifier(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// A name that fits into the kernel's, and is another for another text.
fn short(name: &str) -> String {
    const LONGEST: usize = 64;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let sum = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}_{sum:016x}", &name[..LONGEST - 17])
}

/// The match of what a service answers to; `prefix` is empty, or `ct original ` after NAT.
fn hit(listen: &Listen, protocol: Protocol, after_nat: bool) -> String {
    let l4 = protocol.word();
    match *listen {
        Listen::Mark(mark) => format!("meta mark {mark} meta l4proto {l4}"),
        Listen::Address { first, last, port } => {
            let family = if first.is_ipv6() { "ip6" } else { "ip" };
            let addresses = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let original = if after_nat { "ct original " } else { "" };
            let mut text = format!("{original}{family} daddr {addresses}");
            if after_nat || port == 0 {
                text = format!("meta l4proto {l4} {text}");
            }
            if port != 0 {
                let what = if after_nat { "ct original proto-dst".to_owned() } else { format!("{l4} dport") };
                let _ = write!(text, " {what} {port}");
            }
            text
        }
    }
}

fn masquerade(config: &VirtualServer, place: &Place) -> Vec<String> {
    let condition = match config.masquerade {
        Masquerade::Never => return Vec::new(),
        Masquerade::Always => String::new(),
        Masquerade::Hairpin if place.interfaces.is_empty() => return Vec::new(),
        Masquerade::Hairpin => {
            // Rules cannot compare two fields, so every interface is paired with itself.
            let pairs: Vec<String> =
                place.interfaces.iter().map(|name| format!("\"{name}\" . \"{name}\"")).collect();
            format!(" iifname . oifname {{ {} }}", pairs.join(", "))
        }
    };
    let lines = config.listen.iter().map(|listen| {
        let hit = hit(listen, config.protocol, true);
        format!("ct status dnat {hit} fib daddr type != local{condition} masquerade")
    });
    lines.collect()
}

struct Writer<'a, 'b> {
    plan: &'a Plan<'a>,
    place: &'a Place,
    table: &'b mut Table,
    refused: &'b mut Vec<String>,
}

impl Writer<'_, '_> {
    fn write(self) {
        let config = self.plan.config;
        let (six, direct) = (config.is_ipv6(), config.method == Method::Dr);
        let own = short(&identifier(&config.name()));
        let mut shares = Vec::new();
        for share in &self.plan.shares {
            match self.last_step(share) {
                Ok(step) => shares.push((*share, step)),
                Err(reason) => self.refused.push(reason),
            }
        }
        let source = if six { "ip6 saddr" } else { "ip saddr" };
        let l4 = config.protocol.word();
        let remembered = match (config.persistence, direct) {
            (Some(Persistence { timeout, prefix }), _) => {
                Some((client(source, prefix, six), timeout.as_secs().max(1), false))
            }
            (None, true) => {
                let timeout = CONNECTION_TIMEOUT[usize::from(config.protocol == Protocol::Udp)];
                Some((format!("{source} . {l4} sport"), timeout, true))
            }
            (None, false) => None,
        };
        let mut choose = Vec::new();
        let mut names = Vec::new();
        for (share, step) in &shares {
            let id = format!("{own}_{}", identifier(&endpoint(share.address, share.port)));
            let name = format!("rs_{id}");
            let remember = match &remembered {
                None => String::new(),
                Some((key, timeout, with_port)) => {
                    // What the set is like cannot be changed, so it is part of its name.
                    let set = format!("kept{timeout}{}_{id}", if *with_port { "p" } else { "" });
                    let address = if six { "ipv6_addr" } else { "ipv4_addr" };
                    let port = if *with_port { " . inet_service" } else { "" };
                    self.table.sets.push((
                        set.clone(),
                        format!(
                            "type {address}{port}; flags dynamic,timeout; timeout {timeout}s; size {SET_SIZE};"
                        ),
                    ));
                    choose.push(format!("{key} @{set} goto {name}"));
                    format!("update @{set} {{ {key} }} ")
                }
            };
            self.table
                .chains
                .push((name.clone(), vec![format!("meta l4proto {l4} {remember}counter {step}")]));
            names.push(name);
        }
        let given: Vec<Share> = shares.iter().map(|(share, _)| *share).collect();
        choose.push(choice(config, &slots(config.algorithm, &given), &names, source, l4));
        let chain = format!("vs_{own}");
        let entry = |listen: &Listen| format!("{} goto {chain}", hit(listen, config.protocol, false));
        self.table.entries.extend(config.listen.iter().map(entry));
        self.table.chains.push((chain, choose));
    }

    /// How a packet leaves for a real server.
    fn last_step(&self, share: &Share) -> Result<String, String> {
        let config = self.plan.config;
        if config.method == Method::Nat {
            return Ok(match (share.port, share.address) {
                (0, address) => format!("dnat to {address}"),
                (port, address) => format!("dnat to {}", endpoint(address, port)),
            });
        }
        if self.place.is_own(share.address) {
            return Ok("accept".to_owned());
        }
        if !keeps_port(config, share.port) {
            return Err(format!(
                "{}: DR cannot change the port; write the port of the virtual_server",
                endpoint(share.address, share.port)
            ));
        }
        let family = if share.address.is_ipv6() { "ip6" } else { "ip" };
        match self.place.device(share.address) {
            Some(device) => Ok(format!("fwd {family} to {} device \"{device}\"", share.address)),
            None => Err(format!(
                "{}: DR reaches only servers on a network of this host",
                endpoint(share.address, share.port)
            )),
        }
    }
}

/// What counts as one client.
fn client(source: &str, prefix: u8, six: bool) -> String {
    if six {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
        if prefix >= 128 {
            source.to_owned()
        } else {
            format!("{source} & {}", std::net::Ipv6Addr::from(mask))
        }
    } else {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        if prefix >= 32 {
            source.to_owned()
        } else {
            format!("{source} & {}", std::net::Ipv4Addr::from(mask))
        }
    }
}

/// The rule that gives a new client to a server.
fn choice(config: &VirtualServer, slots: &[usize], names: &[String], source: &str, l4: &str) -> String {
    match slots {
        // IPVS answers so when it has nobody.
        [] if config.method == Method::Dr => "drop".to_owned(),
        [] if config.protocol == Protocol::Tcp => "meta l4proto tcp reject with tcp reset".to_owned(),
        [] => "reject".to_owned(),
        [only] => format!("goto {}", names[*only]),
        several => {
            let count = several.len();
            let number = match config.algorithm {
                Algorithm::Random => format!("numgen random mod {count}"),
                Algorithm::Sh if config.hash_port => {
                    format!("jhash {source} . {l4} sport mod {count} seed 0x5a")
                }
                Algorithm::Sh => format!("jhash {source} mod {count} seed 0x5a"),
                _ => format!("numgen inc mod {count}"),
            };
            let map: Vec<String> = several
                .iter()
                .enumerate()
                .map(|(slot, server)| format!("{slot} : goto {}", names[*server]))
                .collect();
            format!("{number} vmap {{ {} }}", map.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(address: &str, port: u16) -> VirtualServer {
        let address = address.parse().unwrap();
        VirtualServer::new(vec![Listen::Address { first: address, last: address, port }])
    }

    fn share(address: &str, port: u16, weight: u32) -> Share {
        Share { address: address.parse().unwrap(), port, weight }
    }

    fn place() -> Place {
        let network = |name: &str, address: &str, prefix| (name.to_owned(), address.parse().unwrap(), prefix);
        Place {
            interfaces: vec!["eth0".into(), "eth1".into()],
            networks: vec![network("eth0", "10.0.0.2", 24), network("eth1", "10.0.0.2", 8)],
        }
    }

    fn body(config: &VirtualServer, shares: &[Share]) -> String {
        script(&[Plan { config, shares: shares.to_vec() }], &place(), &Objects::new()).body
    }

    #[test]
    fn turns_and_places_of_nat() {
        let config = service("10.0.0.1", 80);
        let text =
            body(&config, &[share("10.0.0.11", 8080, 2), share("10.0.0.12", 0, 1), share("10.0.0.13", 1, 0)]);
        for line in [
            "meta l4proto tcp counter dnat to 10.0.0.11:8080",
            "meta l4proto tcp counter dnat to 10.0.0.12",
            "numgen inc mod 3 vmap { 0 : goto rs_10_0_0_1_80_tcp_10_0_0_11_8080, 1 : goto rs_10_0_0_1_80_tcp_10_0_0_12_0, 2 : goto rs_10_0_0_1_80_tcp_10_0_0_11_8080 }",
            "ip daddr 10.0.0.1 tcp dport 80 goto vs_10_0_0_1_80_tcp",
            "ct status dnat meta l4proto tcp ct original ip daddr 10.0.0.1 ct original proto-dst 80 fib daddr type != local iifname . oifname { \"eth0\" . \"eth0\", \"eth1\" . \"eth1\" } masquerade",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn hashes_persistence_and_nobody() {
        let mut config = service("fd00::1", 80);
        config.algorithm = Algorithm::Sh;
        config.hash_port = true;
        config.masquerade = Masquerade::Never;
        let text = body(&config, &[share("fd00::11", 80, 1), share("fd00::12", 80, 1)]);
        assert!(text.contains("jhash ip6 saddr . tcp sport mod 2 seed 0x5a vmap"), "{text}");
        assert!(text.contains("dnat to [fd00::11]:80") && !text.contains("masquerade"), "{text}");
        let mut config = service("10.0.0.1", 80);
        config.persistence = Some(Persistence { timeout: std::time::Duration::from_secs(300), prefix: 24 });
        let text = body(&config, &[share("10.0.0.11", 80, 1)]);
        assert!(
            text.contains("ip saddr & 255.255.255.0 @kept300_10_0_0_1_80_tcp_10_0_0_11_80 goto"),
            "{text}"
        );
        assert!(body(&config, &[]).contains("reject with tcp reset"));
    }

    #[test]
    fn direct_routing_forwards_on_the_nearest_network() {
        let mut config = service("10.0.0.1", 80);
        config.method = Method::Dr;
        let shares = [
            share("10.0.0.11", 80, 1),
            share("10.0.0.2", 80, 1),
            share("10.9.0.1", 0, 1),
            share("172.16.0.1", 80, 1),
            share("10.0.0.12", 81, 1),
        ];
        let script = script(&[Plan { config: &config, shares: shares.to_vec() }], &place(), &Objects::new());
        assert!(script.body.contains("fwd ip to 10.0.0.11 device \"eth0\""), "{}", script.body);
        assert!(script.body.contains("fwd ip to 10.9.0.1 device \"eth1\""), "{}", script.body);
        assert!(script.body.contains("counter accept"), "{}", script.body);
        assert_eq!(script.refused.len(), 2, "{:?}", script.refused);
    }

    #[test]
    fn a_server_that_is_this_host_needs_no_rules_where_the_address_stays() {
        let mut config = service("10.0.0.1", 80);
        // What listens on its own address alone is reached as IPVS would reach it.
        assert!(body(&config, &[share("10.0.0.2", 80, 1)]).contains("dnat to 10.0.0.2:80"));
        assert!(body(&config, &[share("10.0.0.2", 81, 1)]).contains("dnat to 10.0.0.2:81"));
        config.method = Method::Dr;
        assert_eq!(body(&config, &[share("10.0.0.2", 80, 1)]), "");
        assert_eq!(body(&service("10.0.0.2", 80), &[share("10.0.0.2", 80, 1)]), "");
        assert!(body(&service("10.0.0.2", 80), &[share("10.0.0.2", 81, 1)]).contains("dnat to 10.0.0.2:81"));
    }

    #[test]
    fn a_change_keeps_the_sets_of_those_who_stay() {
        let mut config = service("10.0.0.1", 80);
        config.persistence = Some(Persistence { timeout: std::time::Duration::from_secs(300), prefix: 32 });
        let both = [share("10.0.0.11", 80, 1), share("10.0.0.12", 80, 1)];
        let first = script(&[Plan { config: &config, shares: both.to_vec() }], &place(), &Objects::new());
        assert_eq!(first.head, "");
        let plan = Plan { config: &config, shares: both[1..].to_vec() };
        let second = script(&[plan], &place(), &first.objects);
        assert_eq!(
            second.head,
            "flush table ip vip_agent\n\
             delete chain ip vip_agent rs_10_0_0_1_80_tcp_10_0_0_11_80\n\
             delete set ip vip_agent kept300_10_0_0_1_80_tcp_10_0_0_11_80\n"
        );
        let last = script(&[], &place(), &second.objects);
        assert_eq!((last.head.as_str(), last.body.as_str()), ("delete table ip vip_agent\n", ""));
    }
}
