//! What SIGUSR1, SIGUSR2 and SIGRTMIN+2 write, in the form and place keepalived's exporters read.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vrrp::{InitialState, State};

use crate::agent::Agent;
use crate::config::VirtualAddress;
use crate::instance::Router;

mod data;
mod json;
mod statistics;

/// SIGUSR1: the state of everything.
pub(crate) fn data(agent: &Agent) {
    write_dump(agent, "keepalived.data", &data::text(agent));
}

/// SIGUSR2: the counters.
pub(crate) fn statistics(agent: &Agent) {
    let instances = crate::status::of(agent).instances;
    write_dump(agent, "keepalived.stats", &statistics::text(&instances));
}

/// SIGRTMIN+2, whose number keepalived tells by `--signum=JSON`: both, as JSON.
pub(crate) fn json(agent: &Agent) {
    write_dump(agent, "keepalived.json", &json::text(agent));
}

/// The state as keepalived knows it: an agent that is about to leave is still master.
fn state(router: &Router) -> State {
    match router.core.state() {
        State::Releasing => State::Master,
        other => other,
    }
}

/// Where it wants to be: keepalived tells the state it is in, or on a fault the one it started for.
fn wanted(router: &Router) -> State {
    match (state(router), router.config.core.initial_state) {
        (settled @ (State::Master | State::Backup), _) => settled,
        (_, InitialState::Master) => State::Master,
        (_, InitialState::Backup) => State::Backup,
    }
}

/// keepalived's number for a state.
fn state_number(state: State) -> u8 {
    match state {
        State::Backup => 1,
        State::Master | State::Releasing => 2,
        State::Fault => 3,
        _ => 0,
    }
}

/// When something happened that is `ago` from now.
fn wall_clock(ago: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(ago)
}

/// An address as keepalived shows it.
fn address(router: &Router, vip: &VirtualAddress) -> String {
    let whole = if vip.address.is_ipv4() { 32 } else { 128 };
    let prefix = if vip.prefix == whole { String::new() } else { format!("/{}", vip.prefix) };
    let scope = match vip.scope {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        255 => "nowhere".to_owned(),
        number => number.to_string(),
    };
    let label = vip.label.as_ref().map(|label| format!(" label {label}")).unwrap_or_default();
    let set = if router.held().iter().any(|held| held.vip == *vip) { " set" } else { "" };
    format!("{}{prefix} dev {} scope {scope}{label}{set}", vip.address, router.device(vip))
}

/// Advertised addresses, and those that are not.
fn addresses(router: &Router) -> (&[VirtualAddress], &[VirtualAddress]) {
    let all = &router.config.addresses;
    all.split_at(router.config.core.addresses.len().min(all.len()))
}

/// Writes a dump into /tmp as keepalived does. A fresh file is made and moved into place, because anybody
/// can put links into /tmp.
fn write_dump(agent: &Agent, name: &str, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = Path::new("/tmp").join(name);
    let fresh = Path::new("/tmp").join(format!(".{name}.{}.{}", std::process::id(), agent.now().as_nanos()));
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, &path));
    match result {
        Ok(()) => tracing::info!(path = %path.display(), "written"),
        Err(error) => {
            let _ = std::fs::remove_file(&fresh);
            tracing::error!(path = %path.display(), %error, "cannot write");
        }
    }
}
