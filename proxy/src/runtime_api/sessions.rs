//! `show sess`, `shutdown session`, `shutdown sessions server`.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::{Answer, Cli, Reply};
use crate::config::Level;
use crate::registry::{Cause, SessionInfo, Stage, Which};
use crate::tcplog::Accepted;

/// `show sess [id|all]`
pub(super) fn show(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    let process = cli.process.clone();
    let wanted = match words.first() {
        None => Wanted::Brief,
        Some(&"all") => Wanted::All,
        Some(text) => Wanted::One(number(text)),
    };
    Ok(Reply::Later(Box::pin(async move {
        let sessions = process.workers().sessions().await;
        let text = match wanted {
            Wanted::Brief => sessions.iter().map(brief).collect(),
            Wanted::All => sessions.iter().map(full).collect(),
            Wanted::One(id) => match sessions.iter().find(|session| Some(session.id) == id) {
                Some(session) => full(session),
                None => return Reply::error("Session not found.\n"),
            },
        };
        Reply::Text(text)
    })))
}

enum Wanted {
    Brief,
    All,
    One(Option<u64>),
}

/// `shutdown session <id>`
pub(super) fn shutdown(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let text = words.first().ok_or_else(|| Reply::error("Session pointer expected (use 'show sess').\n"))?;
    let id = number(text);
    let process = cli.process.clone();
    Ok(Reply::Later(Box::pin(async move {
        let closed = match id {
            Some(id) => process.workers().close(&Which::Id(id), 1, Cause::Operator).await,
            None => 0,
        };
        if closed == 0 { Reply::error("No such session (use 'show sess').\n") } else { Reply::done() }
    })))
}

/// `shutdown sessions server <bk>/<srv>`
pub(super) fn shutdown_server(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let (_, server) = cli.server(words.first())?;
    cli.process.workers().close_all(&Which::Server(server), Cause::Operator);
    Ok(Reply::done())
}

/// The number of a session as `show sess` writes it.
fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// One line, with HAProxy's keys. What only its own machinery has is left empty.
fn brief(session: &SessionInfo) -> String {
    let settings = &session.frontend.config.settings;
    let waits = remaining(settings.timeouts.client, session.idle);
    let server_waits = session.backend.as_ref().map_or_else(String::new, |backend| {
        remaining(backend.config().settings.timeouts.server, session.idle)
    });
    format!(
        "0x{:x}: proto={} src={} fe={} be={} srv={} ts=0{} epoch=0 age={} calls=0 rate=0 cpu=0 lat=0 \
         rq[f=0h,i=0,an=00h,rx={waits},wx=,ax=] rp[f=0h,i=0,an=00h,rx={server_waits},wx=,ax=] \
         scf=[8,0h,fd=-1] scb=[{},0h,fd=-1] exp={waits} rc=0 c_exp=\n",
        session.id,
        protocol(session),
        source(session),
        session.frontend.name,
        session.backend.as_ref().map_or("<NONE>", |backend| &backend.name),
        session.server.as_ref().map_or("<none>", |server| server.name()),
        session.worker,
        age(session.age),
        if session.stage == Stage::Relaying { 8 } else { 0 },
    )
}

/// Several lines about one session.
fn full(session: &SessionInfo) -> String {
    let began = SystemTime::now() - session.age;
    let mut out = format!(
        "0x{:x}: [{}] id={} proto={} source={}\n",
        session.id,
        Accepted(began),
        session.id,
        protocol(session),
        source(session)
    );
    let frontend = &session.frontend;
    let _ = writeln!(out, "  frontend={} (id={} mode=tcp)", frontend.name, frontend.config.id);
    match &session.backend {
        Some(backend) => {
            let _ = writeln!(out, "  backend={} (id={} mode=tcp)", backend.name, backend.config().id);
        }
        None => out.push_str("  backend=<NONE> (id=-1 mode=-)\n"),
    }
    match &session.server {
        Some(server) => {
            let address = server.known_address().map_or("-".to_owned(), |address| address.to_string());
            let _ = writeln!(out, "  server={} (id={}) addr={address}", server.name(), server.config().id);
        }
        None => out.push_str("  server=<NONE> (id=-1)\n"),
    }
    let stage = match session.stage {
        Stage::Greeting => "greeting",
        Stage::Queued => "queued",
        Stage::Connecting => "connecting",
        Stage::Relaying => "relaying",
    };
    let _ = writeln!(
        out,
        "  task=worker-{} (state={stage} age={} idle={})",
        session.worker,
        age(session.age),
        age(session.idle)
    );
    let _ = writeln!(out, "  req=(total={})\n  res=(total={})", session.bytes_in, session.bytes_out);
    out
}

fn protocol(session: &SessionInfo) -> &'static str {
    match session.client {
        Some(client) if client.ip().to_canonical().is_ipv6() => "tcpv6",
        Some(_) => "tcpv4",
        None => "unix_stream",
    }
}

fn source(session: &SessionInfo) -> String {
    match session.client {
        Some(client) => format!("{}:{}", client.ip().to_canonical(), client.port()),
        None => "unix:1".to_owned(),
    }
}

/// Until the silence is too long.
fn remaining(limit: Option<Duration>, idle: Duration) -> String {
    limit.map_or_else(String::new, |limit| age(limit.saturating_sub(idle)))
}

/// `59m59s`, HAProxy's two units.
fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}
