//! `add server` and `del server`.

use std::time::Instant;

use super::{Answer, Cli, Reply};
use crate::config::haproxy_cfg::one_server;
use crate::config::{Level, Place, ServerConfig, added};

/// Servers of one backend at most, those of the file included.
const MAX_SERVERS: usize = 10_000;

/// `add server <bk>/<srv> <addr> [options]`: in maintenance and without running checks, as HAProxy has it; `enable
/// server` and `enable health` start it. Options of `default-server` do not count.
pub(super) fn add(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let Some((backend, name)) = words.first().and_then(|name| name.split_once('/')) else {
        return Err(Reply::error("Require 'backend/server'."));
    };
    let backend = cli.backend(backend).ok_or_else(|| Reply::error("No such backend."))?;
    if backend.server(name).is_some() {
        return Err(Reply::error("Already exists a server with the same name in backend.\n"));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)) {
        return Err(Reply::error(format!("invalid character in server name '{name}'.\n")));
    }
    // The lexer of the file reads these words again: what is special to it keeps its meaning.
    let text: Vec<String> = words[1..].iter().map(|word| word.replace('\\', "\\\\")).collect();
    let (address, options) = one_server::parse_text(&text.join(" "))
        .map_err(|error| Reply::error(format!("{}\n", error.trim_end())))?;
    let present = backend.servers();
    if present.len() >= MAX_SERVERS {
        return Err(Reply::error(format!("A backend has {MAX_SERVERS} servers at most.\n")));
    }
    let id = (1..).find(|id| present.iter().all(|server| server.config().id != *id)).unwrap_or(u32::MAX);
    drop(present);
    let file = cli.process.global().runtime_servers_file.clone();
    let line = format!("{}/{name} {}", backend.name, text.join(" "));
    let place = file.map_or_else(Place::default, |file| added::place(&file, &line));
    let config = ServerConfig { name: name.to_owned(), id, address, options, template: None, place };
    match backend.add_server(config, Instant::now()) {
        Some(_) => {
            cli.process.control.servers_changed();
            Ok(remembered(cli, "New server registered.\n"))
        }
        None => Err(Reply::error("Already exists a server with the same name in backend.\n")),
    }
}

/// `del server <bk>/<srv>`: only from maintenance and without sessions.
pub(super) fn delete(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    // HAProxy ends these messages without an empty line.
    let without_line = |reply: Reply| match reply {
        Reply::Message(level, text) => Reply::Message(level, text.trim_end().to_owned()),
        other => other,
    };
    let (backend, server) = cli.server(words.first()).map_err(without_line)?;
    if !server.condition().is_in_maintenance() {
        return Err(Reply::error("Only servers in maintenance mode can be deleted."));
    }
    let is_busy = server.served.load(std::sync::atomic::Ordering::Relaxed) > 0;
    if is_busy {
        return Err(Reply::error("Server still has connections attached to it, cannot remove it."));
    }
    if !backend.remove_server(&server, Instant::now()) {
        return Err(Reply::error("No such server."));
    }
    cli.process.control.servers_changed();
    Ok(remembered(cli, "Server deleted."))
}

/// The answer, once it is written down which servers were added, where the configuration wants that.
fn remembered(cli: &Cli, text: &'static str) -> Reply {
    if cli.process.global().runtime_servers_file.is_none() {
        return Reply::info(text);
    }
    let control = cli.process.control.clone();
    Reply::Later(Box::pin(async move {
        let report = control.remember().await;
        if report.accepted {
            Reply::info(text)
        } else {
            Reply::warning(format!(
                "{}\nIt will not be so after a reload: {}.\n",
                text.trim_end(),
                report.text
            ))
        }
    }))
}
