//! `resolvers NAME` sections.

use std::net::{IpAddr, SocketAddr};

use super::args::Args;
use super::lexer::Word;
use crate::config::Resolvers;
use crate::config::sections::Nameserver;

/// Words of a resolvers section.
const WORDS: &[&str] =
    &["nameserver", "parse-resolv-conf", "hold", "resolve_retries", "timeout", "accepted_payload_size"];

/// A line of the section.
pub(super) fn directive(keyword: &Word, args: &mut Args<'_, '_>, resolvers: &mut Resolvers) {
    match keyword.text.as_str() {
        "nameserver" => nameserver(args, resolvers),
        "parse-resolv-conf" => resolvers.parse_resolv_conf = true,
        "hold" => hold(args, resolvers),
        "resolve_retries" => {
            resolvers.resolve_retries =
                args.number32("a number of questions", 1, 1000).unwrap_or(resolvers.resolve_retries);
        }
        "timeout" => {
            let Some(is_resolve) = args.choice("timeout", &[("resolve", true), ("retry", false)]) else {
                return args.skip_rest();
            };
            if let Some(time) = args.interval() {
                *(if is_resolve { &mut resolvers.timeout_resolve } else { &mut resolvers.timeout_retry }) =
                    time;
            }
        }
        "accepted_payload_size" => {
            let size = args.number("a size in bytes", 12, 65_535).and_then(|size| u16::try_from(size).ok());
            resolvers.accepted_payload_size = size.unwrap_or(resolvers.accepted_payload_size);
        }
        _ => {
            args.unknown(keyword, "word in resolvers", &[WORDS]);
            args.skip_rest();
        }
    }
}

fn nameserver(args: &mut Args<'_, '_>, resolvers: &mut Resolvers) {
    let Some(name) = args.value("a name and an address") else { return };
    let Some(word) = args.value("an address, e.g. 10.0.0.1:53") else { return };
    if resolvers.nameservers.iter().any(|known| known.name == name.text) {
        args.error(name, "name-twice", format!("name server `{}` exists already", name.text), "");
    }
    match parse_nameserver(&word.text) {
        Ok((address, tcp)) => {
            resolvers.nameservers.push(Nameserver { name: name.text.clone(), address, tcp });
        }
        Err(message) => args.error(word, "wrong-address", message, ""),
    }
    // Options of the connection: `source`, `interface` and the like.
    if let Some(extra) = args.peek() {
        args.warn(extra, "not-used", "options after a name server's address are not used", "");
        args.skip_rest();
    }
}

/// `10.0.0.1:53`, `udp@[::1]:53`, `tcp@10.0.0.1:53`.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_nameserver(text: &str) -> Result<(SocketAddr, bool), String> {
    let (plain, tcp) = match text.strip_prefix("tcp@") {
        Some(rest) => (rest, true),
        None => (text.strip_prefix("udp@").unwrap_or(text), false),
    };
    let plain = ["ipv4@", "ipv6@"].iter().find_map(|family| plain.strip_prefix(family)).unwrap_or(plain);
    if let Ok(address) = plain.parse::<SocketAddr>() {
        return Ok((address, tcp));
    }
    // HAProxy splits at the last colon, also without brackets.
    let split = plain
        .rsplit_once(':')
        .and_then(|(host, port)| Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.parse().ok()?)));
    split.map(|address| (address, tcp)).ok_or_else(|| {
        format!("`{text}` is not the address of a name server; write ADDRESS:PORT, e.g. 10.0.0.1:53")
    })
}

fn hold(args: &mut Args<'_, '_>, resolvers: &mut Resolvers) {
    let names = ["valid", "obsolete", "nx", "timeout", "refused", "other"];
    let choices: Vec<(&'static str, usize)> = names.iter().copied().zip(0..).collect();
    let Some(which) = args.choice("event", &choices) else { return args.skip_rest() };
    let Some(time) = args.time("a time") else { return };
    let hold = &mut resolvers.hold;
    let places = [
        &mut hold.valid,
        &mut hold.obsolete,
        &mut hold.nx,
        &mut hold.timeout,
        &mut hold.refused,
        &mut hold.other,
    ];
    if let Some(place) = places.into_iter().nth(which) {
        *place = time;
    }
}
