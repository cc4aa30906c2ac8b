//! `source ADDRESS[:PORT[-PORT]] [usesrc ADDRESS|client|clientip] [interface NAME]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::args::Args;
use crate::config::server::{Source, UseSource};

/// Reads what follows `source`.
pub(super) fn read(args: &mut Args<'_, '_>) -> Option<Source> {
    let word = args.value("an address")?;
    let (address, last_port) = match parse(&word.text) {
        Ok(found) => found,
        Err(message) => {
            args.error(word, "wrong-address", message, "");
            return None;
        }
    };
    let mut source = Source { address, last_port, usesrc: None, interface: None };
    loop {
        if args.take("usesrc") {
            let word = args.value("client, clientip or an address")?;
            source.usesrc = Some(match parse_usesrc(&word.text) {
                Ok(usesrc) => usesrc,
                Err(message) => {
                    args.error(word, "wrong-value", message, "client, clientip or an address");
                    return None;
                }
            });
        } else if args.take("interface") {
            source.interface = Some(args.text("an interface, e.g. eth0")?);
        } else {
            return Some(source);
        }
    }
}

/// An address; a port, a range of ports or nothing after it.
fn parse(text: &str) -> Result<(SocketAddr, Option<u16>), String> {
    let text = ["ipv4@", "ipv6@"].iter().find_map(|family| text.strip_prefix(family)).unwrap_or(text);
    if let Some(ip) = host(text) {
        return Ok((SocketAddr::new(ip, 0), None));
    }
    let wrong = || format!("`{text}` is not an address");
    let (left, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
    let ip = host(left).ok_or_else(wrong)?;
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a port"));
    match ports.split_once('-') {
        None => Ok((SocketAddr::new(ip, port(ports)?), None)),
        Some((low, high)) => match (port(low)?, port(high)?) {
            (low, high) if low > 0 && low <= high => Ok((SocketAddr::new(ip, low), Some(high))),
            _ => Err(format!("port range {ports} is empty")),
        },
    }
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "*" | "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "::" => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text).parse().ok(),
    }
}

/// The word after `usesrc`.
fn parse_usesrc(text: &str) -> Result<UseSource, String> {
    match text {
        "client" => Ok(UseSource::Client),
        "clientip" => Ok(UseSource::ClientIp),
        _ if text.starts_with("hdr_ip(") => {
            Err(format!("`usesrc {text}` looks into requests, which a TCP proxy does not do"))
        }
        _ => parse(text).map(|(address, _)| UseSource::Address(address)),
    }
}
