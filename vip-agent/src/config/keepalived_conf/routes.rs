//! `virtual_routes`, `static_routes` and `static_ipaddress`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reader;
use super::lexer::Word;
use super::tree::Statement;
use super::values::{address_with_prefix, scope, virtual_address};
use crate::config::{VirtualAddress, VirtualRoute};

/// Options of a route that this program does not set.
const NOT_OFFERED: &[&str] = &[
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "multicast",
    "or",
    "nexthop",
    "weight",
    "tos",
    "dsfield",
    "mtu",
    "hoplimit",
    "advmss",
    "rtt",
    "rttvar",
    "reordering",
    "window",
    "cwnd",
    "ssthresh",
    "realms",
    "rto_min",
    "initcwnd",
    "initrwnd",
    "vrf",
    "features",
    "quickack",
    "congctl",
    "pref",
    "ttl-propagate",
    "fastopen_no_cookie",
];

/// One line: `[src A] [to] NET[/LEN] [via|gw A] [dev IF] [scope S] [table N] [metric N] [onlink]`. The error names
/// the word at fault by its number.
fn route(words: &[&Word]) -> Result<VirtualRoute, (usize, String)> {
    let mut found = VirtualRoute {
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        prefix: 0,
        gateway: None,
        dev: None,
        source: None,
        metric: None,
        table: None,
        scope: None,
        onlink: false,
    };
    let (mut destination, mut six, mut at) = (None, false, 0);
    while let Some(word) = words.get(at) {
        let text = word.text.as_str();
        let value =
            || words.get(at + 1).map(|word| word.text.as_str()).ok_or((at, "needs a value".to_owned()));
        let number = |text: &str| text.parse::<u32>().map_err(|_| (at + 1, "is not a number".to_owned()));
        let address =
            |text: &str| text.parse::<IpAddr>().map_err(|_| (at + 1, "is not an IP address".to_owned()));
        let mut taken = 2;
        match text {
            "src" => found.source = Some(address(value()?)?),
            "via" | "gw" if value()? == "inet" || value()? == "inet6" => taken = 1,
            "via" | "gw" => found.gateway = Some(address(value()?)?),
            "dev" | "oif" => found.dev = Some(value()?.to_owned()),
            "scope" => found.scope = Some(scope(value()?).ok_or((at + 1, "is not a scope".to_owned()))?),
            "table" => found.table = Some(table(value()?).map_err(|reason| (at + 1, reason))?),
            "metric" | "priority" | "preference" => found.metric = Some(number(value()?)?),
            "protocol" | "proto" | "track_group" => drop(value()?),
            "onlink" | "no_track" | "to" | "append" | "add" | "inet" | "inet6" => {
                found.onlink |= text == "onlink";
                six |= text == "inet6";
                taken = 1;
            }
            _ if NOT_OFFERED.contains(&text) => {
                return Err((
                    at,
                    "is not offered: one gateway, dev, src, scope, table, metric, onlink".to_owned(),
                ));
            }
            // `via inet6 ADDRESS`
            _ if matches!(
                words.get(at.wrapping_sub(2)).map(|word| word.text.as_str()),
                Some("via" | "gw")
            ) =>
            {
                found.gateway = Some(text.parse().map_err(|_| (at, "is not an IP address".to_owned()))?);
                taken = 1;
            }
            _ if destination.is_none() => {
                destination = Some(if text == "default" {
                    None
                } else {
                    Some(address_with_prefix(text).map_err(|reason| (at, reason))?)
                });
                taken = 1;
            }
            _ => {
                return Err((
                    at,
                    "is not known here: src, via, dev, scope, table, metric, onlink".to_owned(),
                ));
            }
        }
        at += taken;
    }
    finish(found, destination.ok_or((0, "needs a network".to_owned()))?, six)
}

/// Puts the destination in, where `None` is the default route, and looks at the whole.
fn finish(
    mut found: VirtualRoute,
    destination: Option<(IpAddr, u8)>,
    six: bool,
) -> Result<VirtualRoute, (usize, String)> {
    match destination {
        Some((address, prefix)) => (found.destination, found.prefix) = (address, prefix),
        None if six || found.gateway.is_some_and(|gateway| gateway.is_ipv6()) => {
            found.destination = Ipv6Addr::UNSPECIFIED.into();
        }
        None => {}
    }
    let same = |address: &IpAddr| address.is_ipv4() == found.destination.is_ipv4();
    if !found.gateway.iter().chain(&found.source).all(same) {
        return Err((0, "mixes IPv4 and IPv6".to_owned()));
    }
    if found.gateway.is_none() && found.dev.is_none() {
        return Err((0, "needs `via` or `dev`".to_owned()));
    }
    Ok(found)
}

/// The number of a table of routes.
pub(super) fn table(text: &str) -> Result<u32, String> {
    match text {
        "default" => Ok(253),
        "main" => Ok(254),
        "local" => Ok(255),
        text => text.parse().map_err(|_| "is not a number".to_owned()),
    }
}

/// Lines of a block, each read by `read`.
pub(super) fn lines<T>(
    reader: &mut Reader,
    block: &Statement,
    read: impl Fn(&[&Word]) -> Result<T, (usize, String)>,
) -> Vec<T> {
    let mut found = Vec::new();
    for line in block.children() {
        let words: Vec<&Word> = std::iter::once(&line.keyword).chain(&line.words).collect();
        match read(&words) {
            Ok(one) => found.push(one),
            Err((at, reason)) => {
                let word = words.get(at).copied().unwrap_or(&line.keyword);
                let message = format!("`{}`: `{}` {reason}", block.keyword.text, word.text);
                reader.error(word.place, "wrong-value", message, reason);
            }
        }
    }
    found
}

/// The routes of a block.
pub(super) fn read(reader: &mut Reader, block: &Statement) -> Vec<VirtualRoute> {
    lines(reader, block, route)
}

/// `static_ipaddress`: addresses that are there as long as the agent runs.
pub(super) fn read_addresses(reader: &mut Reader, block: &Statement) -> Vec<VirtualAddress> {
    let default = reader.defaults.default_interface.clone();
    let mut found = lines(reader, block, virtual_address);
    for address in &mut found {
        address.dev = address.dev.take().or_else(|| default.clone());
        if address.dev.is_none() {
            let message = format!("static address {} has no `dev`", address.address);
            reader.error(block.keyword.place, "missing-value", message, "add: dev eth0");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{Token, lex};
    use super::*;

    fn read(line: &str) -> Result<VirtualRoute, (usize, String)> {
        let words: Vec<Word> = lex(line, 0)
            .0
            .into_iter()
            .filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None })
            .collect();
        route(&words.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_manual_pages_routes() {
        let one = read("src 192.168.100.1 to 192.168.109.0/24 via 192.168.200.254 dev eth1").unwrap();
        assert_eq!(one.to_string(), "192.168.109.0/24 via 192.168.200.254");
        assert_eq!(
            (one.source.unwrap().to_string(), one.dev.as_deref()),
            ("192.168.100.1".into(), Some("eth1"))
        );
        let two = read("0.0.0.0/0 gw 192.168.0.1 table 100").unwrap();
        assert_eq!((two.prefix, two.table), (0, Some(100)));
        assert_eq!(read("192.168.111.0/24 dev eth2 no_track").unwrap().dev.as_deref(), Some("eth2"));
        assert_eq!(read("default via fd00::1").unwrap().to_string(), "::/0 via fd00::1");
        assert_eq!(read("10.0.0.0/8 via inet 10.0.0.1 onlink metric 7").unwrap().metric, Some(7));
        for (wrong, at) in [
            ("blackhole 192.168.114.0/24", 0),
            ("192.168.113.0/24 via 192.168.200.254 or 192.168.100.254", 3),
            ("192.168.1.0/24 via nobody", 2),
            ("192.168.1.0/24", 0),
            ("192.168.1.0/24 via", 1),
            ("10.0.0.0/8 via fd00::1", 0),
            ("10.0.0.0/8 via 10.0.0.1 deev eth0", 3),
        ] {
            assert_eq!(read(wrong).unwrap_err().0, at, "{wrong}");
        }
    }
}
