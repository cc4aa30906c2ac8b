//! `virtual_server_group`, `virtual_server` and `real_server`.

use std::net::IpAddr;
use std::time::Duration;

use super::checks::{self, Pauses};
use super::lexer::Word;
use super::tree::Statement;
use super::{Reader, values};
use crate::config::virtual_server::{
    Algorithm, Listen, Masquerade, Method, Persistence, Protocol, RealServer, SorryServer, VirtualServer,
    range,
};

const KNOWN: &[&str] = &[
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "masquerade",
    "protocol",
    "persistence_timeout",
    "persistence_granularity",
    "sh-port",
    "mh-port",
    "virtualhost",
    "ha_suspend",
    "alpha",
    "omega",
    "quorum",
    "hysteresis",
    "quorum_up",
    "quorum_down",
    "sorry_server",
    "inhibit_on_failure",
    "delay_loop",
    "retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
    "weight",
    "real_server",
];

const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("ops", "rules of nftables follow connections of UDP too"),
    ("flag-1", ""),
    ("flag-2", ""),
    ("flag-3", ""),
    ("sh-fallback", "a server that failed is left out at once"),
    ("mh-fallback", "a server that failed is left out at once"),
    ("persistence_engine", ""),
    ("sorry_server_inhibit", ""),
    ("sorry_server_lvs_method", "the method of the virtual_server is used"),
    ("smtp_alert", "mail is not sent; use quorum_up and notify_up"),
    ("snmp_name", ""),
    ("ip_family", ""),
    ("log_all_failures", ""),
];

const SERVER_KNOWN: &[&str] = &[
    "weight",
    "inhibit_on_failure",
    "alpha",
    "notify_up",
    "notify_down",
    "virtualhost",
    "delay_loop",
    "retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
    "TCP_CHECK",
    "AMQP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
];

const SERVER_WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("uthreshold", "limit connections in the proxy: maxconn"),
    ("lthreshold", "limit connections in the proxy: maxconn"),
    ("smtp_alert", "mail is not sent; use notify_up and notify_down"),
    ("snmp_name", ""),
    ("log_all_failures", ""),
];

/// `virtual_server_group NAME { … }`.
pub(super) fn read_group(reader: &mut Reader, statement: &Statement) {
    let Some(name) = reader.value(statement) else { return };
    let mut listen = Vec::new();
    for line in statement.children() {
        let words: Vec<&Word> = std::iter::once(&line.keyword).chain(&line.words).collect();
        listen.extend(listen_to(reader, &words, "virtual_server_group"));
    }
    if listen.is_empty() {
        reader.error(name.place, "missing-value", "this group has no address", "add: ADDRESS PORT");
    }
    reader.groups.push((name.text.clone(), listen));
}

/// `ADDRESS[-LAST] [PORT]` or `fwmark N`.
fn listen_to(reader: &mut Reader, words: &[&Word], inside: &str) -> Option<Listen> {
    let first = *words.first()?;
    if first.text == "fwmark" {
        let Some(mark) = words.get(1) else {
            reader.error(first.place, "missing-value", "`fwmark` needs a number", "value missing");
            return None;
        };
        let number = values::number(mark, 1..=i64::from(u32::MAX));
        return reader.taken(mark, "fwmark", number).map(|number| Listen::Mark(number as u32));
    }
    let addresses = range(&first.text);
    let (from, to) = reader.taken(first, inside, addresses)?;
    let port = port(reader, words.get(1).copied(), inside)?;
    Some(Listen::Address { first: from, last: to, port })
}

/// A port; left out it is 0, which means every port.
fn port(reader: &mut Reader, word: Option<&Word>, inside: &str) -> Option<u16> {
    let Some(word) = word else { return Some(0) };
    let number = values::number(word, 0..=65535);
    reader.taken(word, inside, number).map(|number| number as u16)
}

/// What one block says about its servers.
#[derive(Clone, Default)]
struct Defaults {
    pauses: Pauses,
    weight: Option<u32>,
    inhibit: bool,
    alpha: bool,
    virtualhost: Option<String>,
}

pub(super) fn read(reader: &mut Reader, statement: &Statement) {
    let words: Vec<&Word> = statement.words.iter().collect();
    let listen = match words.as_slice() {
        [group, name] if group.text == "group" => {
            let found = reader.groups.iter().find(|(known, _)| *known == name.text);
            let Some((_, listen)) = found.cloned() else {
                let names: Vec<&str> = reader.groups.iter().map(|(name, _)| name.as_str()).collect();
                let near = daemon::diagnostic::suggest(&name.text, names);
                let label = near.map_or("add a virtual_server_group block of this name".to_owned(), |near| {
                    format!("did you mean `{near}`?")
                });
                let message = format!("there is no virtual_server_group `{}`", name.text);
                reader.error(name.place, "unknown-group", message, label);
                return;
            };
            listen
        }
        [] => {
            let label = "write: virtual_server 192.0.2.1 5672 { … }";
            let message = "`virtual_server` needs an address and a port";
            reader.error(statement.keyword.place, "missing-value", message, label);
            return;
        }
        words => match listen_to(reader, words, "virtual_server") {
            Some(listen) => vec![listen],
            None => return,
        },
    };
    let mut server = VirtualServer::new(listen);
    let mut defaults = Defaults::default();
    let (mut has_algorithm, mut has_protocol) = (false, false);
    for line in statement.children() {
        has_algorithm |= matches!(line.keyword.text.as_str(), "lb_algo" | "lvs_sched");
        has_protocol |= line.keyword.text == "protocol";
        let known = balancing(reader, line, &mut server)
            || availability(reader, line, &mut server)
            || common(reader, line, &mut defaults);
        if !known && line.keyword.text != "real_server" {
            reader.no_effect_or_unknown(&line.keyword, "in virtual_server", KNOWN, WITHOUT_EFFECT);
        }
    }
    // Defaults hold for every real server, wherever they stand.
    for line in statement.children().iter().filter(|line| line.keyword.text == "real_server") {
        server.real_servers.extend(real_server(reader, line, defaults.clone()));
    }
    if !has_protocol {
        // keepalived says so only in its log. What is marked has every protocol there; here it is TCP.
        let marks = server.listen.iter().all(|listen| matches!(listen, Listen::Mark(_)));
        let (protocol, message) = if marks {
            (Protocol::Tcp, "there is no `protocol`; only TCP is balanced")
        } else {
            (Protocol::Udp, "there is no `protocol`; as in keepalived, that means UDP")
        };
        server.protocol = protocol;
        reader.warning(statement.keyword.place, "protocol", message, "write: protocol TCP");
    }
    if !has_algorithm {
        let help = "keepalived would use wlc, which needs IPVS";
        let message = "there is no `lb_algo`; wrr is used";
        reader.warning(statement.keyword.place, "lb-algo", message, help);
    }
    finish(reader, statement, server);
}

fn balancing(reader: &mut Reader, line: &Statement, server: &mut VirtualServer) -> bool {
    match line.keyword.text.as_str() {
        "lb_algo" | "lvs_sched" => {
            if let Some(word) = reader.value(line) {
                let algorithm = Algorithm::parse(&word.text);
                server.algorithm = reader.taken(word, &line.keyword.text, algorithm).unwrap_or_default();
                if word.text == "mh" {
                    reader.note(word.place, "lb-algo", "mh is served as sh: by a hash of the source address");
                }
            }
        }
        "lb_kind" | "lvs_method" => {
            let Some(word) = line.words.first().or_else(|| {
                reader.value(line);
                None
            }) else {
                return true;
            };
            let method = match word.text.as_str() {
                "NAT" => Ok(Method::Nat),
                "DR" => Ok(Method::Dr),
                "TUN" => Err("needs IPVS; write NAT or DR".to_owned()),
                _ => Err("is not known; write NAT or DR".to_owned()),
            };
            server.method = reader.taken(word, &line.keyword.text, method).unwrap_or_default();
        }
        "masquerade" => {
            if let Some(word) = reader.value(line) {
                let found = Masquerade::ALL.iter().find(|known| known.word() == word.text).copied();
                let found = found.ok_or_else(|| "is not one of hairpin, always, never".to_owned());
                server.masquerade = reader.taken(word, "masquerade", found).unwrap_or_default();
            }
        }
        "protocol" => {
            if let Some(word) = reader.value(line) {
                let lower = word.text.to_ascii_lowercase();
                let found = Protocol::ALL.iter().find(|known| known.word() == lower).copied();
                let found = found.ok_or_else(|| "is not one of TCP, UDP, SCTP".to_owned());
                server.protocol = reader.taken(word, "protocol", found).unwrap_or_default();
            }
        }
        "sh-port" | "mh-port" => server.hash_port = true,
        "persistence_timeout" => {
            // keepalived's default is six minutes.
            let timeout = if line.words.is_empty() {
                Some(360)
            } else {
                reader.number(line, 1..=2_678_400).map(|seconds| seconds as u64)
            };
            if let Some(seconds) = timeout {
                let prefix = server.persistence.map_or(u8::MAX, |known| known.prefix);
                server.persistence = Some(Persistence { timeout: Duration::from_secs(seconds), prefix });
            }
        }
        "persistence_granularity" => {
            if let Some(word) = reader.value(line) {
                let prefix = granularity(&word.text);
                if let Some(prefix) = reader.taken(word, "persistence_granularity", prefix) {
                    let timeout = server
                        .persistence
                        .map_or(Duration::from_secs(360), |persistence| persistence.timeout);
                    server.persistence = Some(Persistence { timeout, prefix });
                }
            }
        }
        _ => return false,
    }
    true
}

/// A netmask such as 255.255.255.0, or the number of bits.
fn granularity(text: &str) -> Result<u8, String> {
    if let Ok(bits) = text.parse::<u8>() {
        return if (1..=128).contains(&bits) { Ok(bits) } else { Err("is not within 1 to 128".to_owned()) };
    }
    let mask: std::net::Ipv4Addr = text.parse().map_err(|_| "is not a netmask".to_owned())?;
    let bits = u32::from(mask);
    let whole = bits.leading_ones() + bits.trailing_zeros() == 32 && bits != 0;
    if whole { Ok(bits.leading_ones() as u8) } else { Err("is not a netmask".to_owned()) }
}

fn availability(reader: &mut Reader, line: &Statement, server: &mut VirtualServer) -> bool {
    match line.keyword.text.as_str() {
        "quorum" => {
            if let Some(number) = reader.number(line, 1..=2_147_483_647) {
                server.quorum = number as u32;
            }
        }
        "hysteresis" => {
            if let Some(number) = reader.number(line, 0..=2_147_483_647) {
                server.hysteresis = number as u32;
            }
        }
        "quorum_up" | "quorum_down" => {
            if reader.value_of_several(line) {
                let command = reader.notify_command(line);
                let up = line.keyword.text == "quorum_up";
                *(if up { &mut server.quorum_up } else { &mut server.quorum_down }) = command;
            }
        }
        "sorry_server" => {
            let words: Vec<&Word> = line.words.iter().collect();
            if let Some((address, port)) = address_and_port(reader, line, &words) {
                server.sorry_server = Some(SorryServer { address, port });
            }
        }
        "omega" => server.omega = reader.switch(line),
        "ha_suspend" => server.ha_suspend = reader.switch(line),
        _ => return false,
    }
    true
}

fn address_and_port(reader: &mut Reader, line: &Statement, words: &[&Word]) -> Option<(IpAddr, u16)> {
    let Some(first) = words.first() else {
        reader.value(line);
        return None;
    };
    let address = values::address(first);
    let address = reader.taken(first, &line.keyword.text, address)?;
    let port = port(reader, words.get(1).copied(), &line.keyword.text)?;
    Some((address, port))
}

/// Words a virtual_server and a real_server share.
fn common(reader: &mut Reader, line: &Statement, defaults: &mut Defaults) -> bool {
    match line.keyword.text.as_str() {
        "weight" => {
            if let Some(number) = reader.number(line, 0..=65535) {
                defaults.weight = Some(number as u32);
            }
        }
        "inhibit_on_failure" => defaults.inhibit = reader.switch(line),
        "alpha" => defaults.alpha = reader.switch(line),
        "virtualhost" => defaults.virtualhost = checks::host_name(reader, line),
        _ => return checks::pause(reader, line, &mut defaults.pauses),
    }
    true
}

fn real_server(reader: &mut Reader, statement: &Statement, mut defaults: Defaults) -> Option<RealServer> {
    let words: Vec<&Word> = statement.words.iter().collect();
    let place = address_and_port(reader, statement, &words);
    let (mut up, mut down) = (None, None);
    let mut check_blocks = Vec::new();
    for line in statement.children() {
        let word = line.keyword.text.as_str();
        match word {
            "notify_up" | "notify_down" => {
                if reader.value_of_several(line) {
                    let command = reader.notify_command(line);
                    *(if word == "notify_up" { &mut up } else { &mut down }) = command;
                }
            }
            "lb_kind" | "lvs_method" => {
                let message = format!("`{word}` of one real_server is not supported");
                let label = "write it in virtual_server; it holds for all its servers";
                reader.error(line.keyword.place, "wrong-value", message, label);
            }
            _ if common(reader, line, &mut defaults) => {}
            _ if checks::is_check(word) => check_blocks.push(line),
            _ => {
                let inside = "in real_server";
                reader.no_effect_or_unknown(&line.keyword, inside, SERVER_KNOWN, SERVER_WITHOUT_EFFECT);
            }
        }
    }
    let (address, port) = place?;
    let mut server = RealServer::new(address, port);
    server.weight = defaults.weight.unwrap_or(1);
    server.inhibit_on_failure = defaults.inhibit;
    server.alpha = defaults.alpha;
    (server.notify_up, server.notify_down) = (up, down);
    for block in check_blocks {
        let virtualhost = defaults.virtualhost.as_deref();
        server.checks.extend(checks::read(reader, block, defaults.pauses, virtualhost));
    }
    Some(server)
}

/// What no single line of the block can show.
fn finish(reader: &mut Reader, statement: &Statement, mut server: VirtualServer) {
    let place = statement.keyword.place;
    let six = server.is_ipv6();
    let servers = server.real_servers.iter().map(|server| server.address);
    let sorry = server.sorry_server.map(|sorry| sorry.address);
    if servers.chain(sorry).any(|address| address.is_ipv6() != six) {
        let label = "write addresses of one family";
        let message = "this virtual_server mixes IPv4 and IPv6";
        reader.error(place, "family", message, label);
    }
    if let Some(persistence) = &mut server.persistence {
        persistence.prefix = persistence.prefix.min(if six { 128 } else { 32 });
    }
    if server.real_servers.is_empty() && server.sorry_server.is_none() {
        let help = "its address answers with a refusal";
        reader.warning(place, "real-server", "this virtual_server has no real_server", help);
    }
    let name = server.name();
    if reader.config.virtual_servers.iter().any(|known| known.name() == name) {
        let message = format!("there are two virtual servers {name}");
        reader.error(place, "duplicate", message, "put their real servers into one");
        return;
    }
    reader.config.virtual_servers.push(server);
}
