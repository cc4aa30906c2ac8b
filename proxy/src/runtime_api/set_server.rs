//! `set server`, `set weight`, `get weight`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::{Answer, Cli, Reply};
use crate::backend::Backend;
use crate::check;
use crate::condition::Forced;
use crate::config::Level;
use crate::server::{Order, Server};

const USAGE: &str = "usage: set server <backend>/<server> addr | agent | agent-addr | agent-port | agent-send | \
    check-addr | check-port | fqdn | health | ssl | state | weight\n";
const NO_AGENT: &str = "agent checks are not enabled on this server";

/// `get weight <bk>/<srv>`
pub(super) fn get_weight(cli: &mut Cli, words: &[&str]) -> Answer {
    let (_, server) = cli.server(words.first())?;
    let (now, first) = (server.weight(), server.config().options.weight);
    Ok(Reply::text(format!("{now} (initial {first})\n")))
}

/// `set weight <bk>/<srv> <value>`
pub(super) fn weight(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let (backend, server) = cli.server(words.first())?;
    set_weight(&backend, &server, words.get(1))
}

/// `set server <bk>/<srv> <what> ...`
pub(super) fn set(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let (backend, server) = cli.server(words.first())?;
    let words = &words[1..];
    let value = words.get(1);
    match words.first().copied().unwrap_or_default() {
        "weight" => set_weight(&backend, &server, value),
        "state" => set_state(&backend, &server, value),
        "health" => set_health(&backend, &server, value),
        "agent" => set_agent(&backend, &server, value),
        "addr" => set_address(&backend, &server, &words[1..]),
        "check-port" => set_check_port(&server, value),
        "check-addr" => set_check_address(&server, &words[1..]),
        "fqdn" => set_name(&backend, &server, value),
        word @ ("agent-addr" | "agent-port" | "agent-send") => set_agent_place(&server, word, value),
        "ssl" => Err(Reply::error(
            "'set server <srv> ssl' cannot be set.  default-server should define ssl settings\n",
        )),
        _ => Err(Reply::error(USAGE)),
    }
}

fn set_weight(backend: &Arc<Backend>, server: &Arc<Server>, value: Option<&&str>) -> Answer {
    backend.change_weight(server, value.unwrap_or(&"")).map_err(Reply::error)?;
    Ok(Reply::done())
}

fn set_state(backend: &Arc<Backend>, server: &Arc<Server>, value: Option<&&str>) -> Answer {
    let order = match value {
        Some(&"ready") => Order::Ready,
        Some(&"drain") => Order::Drain,
        Some(&"maint") => Order::Maintenance,
        _ => return Err(Reply::error("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n")),
    };
    check::carry_out(backend, server, order);
    Ok(Reply::done())
}

fn set_health(backend: &Arc<Backend>, server: &Arc<Server>, value: Option<&&str>) -> Answer {
    if server.config().options.track.is_some() {
        return Err(Reply::error("cannot change health on a tracking server.\n"));
    }
    let forced = match value {
        Some(&"up") => Forced::Up,
        Some(&"down") => Forced::Down,
        Some(&"stopping") => Forced::Stopping,
        _ => return Err(Reply::error("'set server <srv> health' expects 'up', 'stopping', or 'down'.\n")),
    };
    check::force(backend, server, forced);
    Ok(Reply::done())
}

fn set_agent(backend: &Arc<Backend>, server: &Arc<Server>, value: Option<&&str>) -> Answer {
    if !server.config().options.agent.check {
        return Err(Reply::error(format!("{NO_AGENT}.\n")));
    }
    let forced = match value {
        Some(&"up") => Forced::AgentUp,
        Some(&"down") => Forced::AgentDown,
        _ => return Err(Reply::error("'set server <srv> agent' expects 'up' or 'down'.\n")),
    };
    check::force(backend, server, forced);
    Ok(Reply::done())
}

/// `addr <ip> [port <port>]`
fn set_address(backend: &Arc<Backend>, server: &Arc<Server>, words: &[&str]) -> Answer {
    const BY: &str = "by 'stats socket command'";
    let Some(text) = words.first() else {
        return Err(Reply::error("set server <b>/<s> addr requires an address and optionally a port.\n"));
    };
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err(Reply::warning(format!("Invalid addr '{text}' {BY}\n")));
    };
    let old = server.known_address();
    let old_port = old.map_or(0, |address| address.port());
    let mut said = match old {
        Some(old) if old.ip() == ip => "no need to change the addr".to_owned(),
        Some(old) => format!("IP changed from '{}' to '{ip}'", old.ip()),
        None => format!("IP changed from '(none)' to '{ip}'"),
    };
    let mut port = old_port;
    if let (Some(&"port"), Some(wanted)) = (words.get(1), words.get(2)) {
        match wanted.parse::<u16>() {
            Ok(wanted) if wanted == old_port => said.push_str(", no need to change the port"),
            Ok(wanted) => {
                said.push_str(&format!(", port changed from '{old_port}' to '{wanted}'"));
                port = wanted;
            }
            Err(_) => said.push_str(&format!(", problem converting port '{wanted}' to an int")),
        }
    }
    let new = SocketAddr::new(ip, port);
    if old != Some(new) {
        server.set_address(new);
        backend.server_changed(Instant::now());
    }
    Ok(Reply::warning(format!("{said} {BY}\n")))
}

fn set_check_port(server: &Arc<Server>, value: Option<&&str>) -> Answer {
    if !server.config().options.check {
        return Err(Reply::error("health checks are not enabled on this server"));
    }
    let value = value.ok_or_else(|| Reply::error("set server <b>/<s> check-port requires a port.\n"))?;
    let port = check_port(value)?;
    server.change_config(|config| config.options.check_port = Some(port).filter(|port| *port > 0));
    Ok(Reply::done())
}

/// A port for checks, as HAProxy reads and refuses it.
fn check_port(text: &str) -> Result<u16, Reply> {
    let number: i64 = text.parse().map_err(|_| Reply::error("provided port is not an integer"))?;
    u16::try_from(number).map_err(|_| Reply::error("provided port is invalid"))
}

/// `check-addr <ip> [port <port>]`
fn set_check_address(server: &Arc<Server>, words: &[&str]) -> Answer {
    if !server.config().options.check {
        return Err(Reply::error("health checks are not enabled on this server"));
    }
    let Some(text) = words.first() else {
        return Err(Reply::error(
            "set server <b>/<s> check-addr requires an address and optionally a port.\n",
        ));
    };
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err(Reply::error(format!("invalid addr '{text}'")));
    };
    let port = match (words.get(1), words.get(2)) {
        (Some(&"port"), port) => Some(check_port(port.unwrap_or(&""))?),
        _ => None,
    };
    server.change_config(|config| {
        let host = crate::config::address::Host::Ip(ip);
        let port_of = crate::config::address::Port::Fixed(0);
        config.options.check_address = Some(crate::config::ServerAddress { host, port: port_of });
        config.options.check_port = port.or(config.options.check_port);
    });
    Ok(Reply::done())
}

/// `fqdn <name>`: only where names are resolved at run time.
fn set_name(backend: &Arc<Backend>, server: &Arc<Server>, value: Option<&&str>) -> Answer {
    let name = value.ok_or_else(|| Reply::error("set server <b>/<s> fqdn requires a FQDN.\n"))?;
    if server.config().options.resolvers.is_none() {
        return Err(Reply::error("set server <b>/<s> fqdn failed because no resolution is configured.\n"));
    }
    let old = super::server_states::host(&server.config().address.host);
    server.change_config(|config| {
        config.address.host = crate::config::address::Host::Name((*name).to_owned());
    });
    backend.server_changed(Instant::now());
    Ok(Reply::warning(format!(
        "{}/{} changed its FQDN from {old} to {name} by 'stats socket command'\n",
        backend.name,
        server.name()
    )))
}

fn set_agent_place(server: &Arc<Server>, word: &str, value: Option<&&str>) -> Answer {
    if !server.config().options.agent.check {
        let end = if word == "agent-send" { ".\n" } else { "" };
        return Err(Reply::error(format!("{NO_AGENT}{end}")));
    }
    let value =
        value.ok_or_else(|| Reply::error(format!("set server <b>/<s> {word} requires a value.\n")))?;
    let wrong = || Reply::error(format!("Incorrect value for {word}.\n"));
    match word {
        "agent-addr" => {
            let ip: IpAddr = value.parse().map_err(|_| wrong())?;
            server.change_config(|config| config.options.agent.address = Some(ip.to_string()));
        }
        "agent-port" => {
            let port: u16 = value.parse().map_err(|_| Reply::error("provided port is not an integer"))?;
            server.change_config(|config| config.options.agent.port = Some(port));
        }
        _ => {
            let text = (*value).to_owned();
            server.change_config(move |config| config.options.agent.send = Some(text));
        }
    }
    Ok(Reply::done())
}
