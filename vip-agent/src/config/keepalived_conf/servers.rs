//! `virtual_server` and its `real_server`s: read and explained, not served yet.

use std::net::IpAddr;

use super::tree::Statement;
use super::{Reader, values};
use crate::config::VirtualServer;

const KNOWN: &[&str] = &[
    "delay_loop",
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "protocol",
    "persistence_timeout",
    "persistence_granularity",
    "virtualhost",
    "ops",
    "ha_suspend",
    "alpha",
    "omega",
    "quorum",
    "quorum_up",
    "quorum_down",
    "hysteresis",
    "inhibit_on_failure",
    "retry",
    "delay_before_retry",
    "warmup",
    "weight",
    "ip_family",
    "sorry_server",
    "sorry_server_inhibit",
    "real_server",
];

pub(super) fn read(reader: &mut Reader, statement: &Statement) {
    let mut server = VirtualServer::default();
    match (statement.words.first(), statement.words.get(1)) {
        (Some(address), Some(port)) if address.text.parse::<IpAddr>().is_ok() => {
            server.address = address.text.clone();
            let number = values::number(port, 0..=65535);
            server.port = reader.taken(port, "virtual_server", number).unwrap_or(0) as u16;
        }
        (Some(kind), Some(_)) if matches!(kind.text.as_str(), "group" | "fwmark") => {
            server.address = kind.text.clone();
        }
        _ => reader.error(
            statement.keyword.place,
            "wrong-value",
            "`virtual_server` needs an address and a port",
            "write: virtual_server 192.0.2.1 5672 { … }",
        ),
    }
    for line in statement.children() {
        match line.keyword.text.as_str() {
            "real_server" | "sorry_server" => {
                let port = line.words.get(1).map_or(Ok(0), |word| values::number(word, 0..=65535));
                let words = (line.words.first(), line.words.get(1).or(line.words.first()));
                if let (Some(address), Some(port_word)) = words {
                    let parsed = values::address(address);
                    let parsed = reader.taken(address, &line.keyword.text, parsed);
                    let port = reader.taken(port_word, &line.keyword.text, port);
                    if let (Some(address), Some(port), "real_server") =
                        (parsed, port, line.keyword.text.as_str())
                    {
                        server.real_servers.push((address, port as u16));
                    }
                } else {
                    reader.value(line);
                }
            }
            "delay_loop" => drop(reader.seconds(line, 0.000_001..=1_000_000.0)),
            "weight" | "quorum" | "hysteresis" | "retry" => drop(reader.number(line, 0..=2_147_483_647)),
            word if KNOWN.contains(&word) => {}
            word if word.chars().next().is_some_and(|first| first.is_ascii_uppercase()) => {}
            word if word.starts_with("notify") || word.starts_with("smtp") => {}
            _ => reader.unknown(&line.keyword, "in virtual_server", KNOWN, &[]),
        }
    }
    explain(reader, statement, &server);
    reader.config.virtual_servers.push(server);
}

/// Says what becomes of the block. The tutorial's own case, a virtual server whose only real server is
/// this very host, needs nothing: the proxy listens on the virtual address already.
fn explain(reader: &mut Reader, statement: &Statement, server: &VirtualServer) {
    let place = statement.keyword.place;
    let own = |address: IpAddr| std::net::UdpSocket::bind((address, 0)).is_ok();
    match server.real_servers.as_slice() {
        [(only, port)] if *port == server.port && own(*only) => reader.note(
            place,
            "virtual-server",
            format!(
                "virtual_server {} {port} forwards to this very host ({only}); nothing to do, a proxy that \
                 listens on port {port} of every address answers on the virtual address too",
                server.address
            ),
        ),
        _ => reader.warning(
            place,
            "virtual-server",
            format!("virtual_server {} {} is not served yet", server.address, server.port),
            "let the proxy listen on the virtual address; addresses still fail over",
        ),
    }
}
