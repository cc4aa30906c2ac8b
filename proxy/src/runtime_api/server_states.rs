//! `show servers state` (version 1, as a state file has it) and `show servers conn`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Answer, Cli, Reply};
use crate::backend::Backend;
use crate::check::CheckStatus;
use crate::check::state::Outcome;
use crate::condition::Condition;
use crate::config::address::Host;
use crate::server::Server;

/// Version and names of the columns.
pub(crate) const HEAD: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
    srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
    srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port \
    srv_check_addr srv_agent_addr srv_agent_port\n";

/// `show servers state [<backend>]`
pub(super) fn states(cli: &mut Cli, words: &[&str]) -> Answer {
    let now = Instant::now();
    let mut out = HEAD.to_owned();
    for_each(cli, words, |id, backend, server| {
        out.push_str(&state_line(id, backend, server, now));
        out.push('\n');
    })?;
    Ok(Reply::text(out))
}

/// `show servers conn [<backend>]`
pub(super) fn connections(cli: &mut Cli, words: &[&str]) -> Answer {
    let threads = cli.process.threads;
    let mut out = format!(
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim \
         idle_cur idle_per_thr[{threads}]\n"
    );
    // Connections to servers are not kept for others: what HAProxy says of idle ones is always 0.
    let idle = vec!["0"; threads].join(" ");
    for_each(cli, words, |id, backend, server| {
        let address = server.known_address();
        let (ip, port) =
            address.map_or(("-".to_owned(), 0), |address| (address.ip().to_string(), address.port()));
        let (used, most) = (server.counters.current.load(Relaxed), server.counters.current_max.load(Relaxed));
        let _ = writeln!(
            out,
            "{}/{} {id}/{} {ip} {port} - 5000 {used} {most} {used} 0 0 -1 0 {idle}",
            backend.name,
            server.name(),
            server.config().id,
        );
    })?;
    Ok(Reply::text(out))
}

fn for_each(
    cli: &Cli,
    words: &[&str],
    mut each: impl FnMut(u32, &Backend, &Arc<Server>),
) -> Result<(), Reply> {
    let sections = cli.process.sections();
    let mut found = words.is_empty();
    for section in sections.iter() {
        let Some(backend) = &section.backend else { continue };
        if words.first().is_some_and(|name| **name != *section.config.name) {
            continue;
        }
        found = true;
        backend.servers().iter().for_each(|server| each(section.config.id, backend, server));
    }
    if found { Ok(()) } else { Err(Reply::error("Can't find backend.\n")) }
}

/// One server in 25 columns.
pub(crate) fn state_line(id: u32, backend: &Backend, server: &Server, now: Instant) -> String {
    let config = server.config();
    let options = &config.options;
    let condition = server.condition();
    let address = server.known_address();
    let ip = address.map_or("-".to_owned(), |address| address.ip().to_string());
    let name = match &config.address.host {
        Host::Name(name) => name.as_str(),
        _ => "-",
    };
    let check = &condition.check;
    format!(
        "{id} {} {} {} {ip} {} {} {} {} {} {} {} {} {} {} 0 0 {name} {} - {} {} {} {} {}",
        backend.name,
        config.id,
        server.name(),
        condition.state as u8,
        condition.admin.bits(),
        server.weight(),
        options.weight,
        now.saturating_duration_since(condition.changed).as_secs(),
        status_number(check.status),
        result_number(check.status),
        // Its own, whomever it tracks.
        server.look(|own| own.health.value()),
        check_state(options.check, condition.checking, condition.is_in_maintenance(), condition.in_progress),
        agent_state(&condition, options.agent.check),
        address.map_or(0, |address| address.port()),
        u8::from(options.tls.enabled),
        options.check_port.unwrap_or(0),
        options.check_address.as_ref().map_or("-".to_owned(), |address| host(&address.host)),
        options.agent.address.as_deref().unwrap_or("-"),
        options.agent.port.unwrap_or(0),
    )
}

/// A host as text.
pub(super) fn host(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
        Host::Unix(path) => format!("unix@{}", path.display()),
        Host::Abstract(name) => format!("abns@{name}"),
    }
}

/// HAProxy's number of a check's status.
fn status_number(status: CheckStatus) -> u8 {
    match status.word() {
        "INI" => 1,
        "CHECKED" => 3,
        "HANA" => 4,
        "SOCKERR" => 5,
        "L4OK" => 6,
        "L4TOUT" => 7,
        "L4CON" => 8,
        "L6OK" => 9,
        "L6TOUT" => 10,
        "L6RSP" => 11,
        "L7TOUT" => 12,
        "L7RSP" => 13,
        "L7OK" => 14,
        "L7OKC" => 15,
        "L7STS" => 16,
        "PROCERR" => 17,
        "PROCTOUT" => 18,
        "PROCOK" => 19,
        _ => 0,
    }
}

/// 0 unknown, 2 failed, 3 passed, 4 passed with a condition.
fn result_number(status: CheckStatus) -> u8 {
    match (status.word(), status.outcome()) {
        ("INI", _) => 0,
        ("L7OKC", _) => 4,
        ("CHECKED", _) => 1,
        (_, Outcome::Passed) => 3,
        _ => 2,
    }
}

/// HAProxy's bits: 1 under way, 2 configured, 4 enabled, 8 paused.
fn check_state(configured: bool, enabled: bool, paused: bool, under_way: bool) -> u8 {
    if !configured {
        return 0;
    }
    2 + u8::from(under_way) + if enabled { 4 } else { 0 } + if paused { 8 } else { 0 }
}

/// The same for the agent, whose bit is 16.
fn agent_state(condition: &Condition, configured: bool) -> u8 {
    if !configured {
        return 0;
    }
    16 + check_state(true, condition.agent.checking, false, condition.agent.in_progress)
}
