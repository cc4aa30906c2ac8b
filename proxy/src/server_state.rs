//! States of servers from the process before: HAProxy's state file (`server-state-file`,
//! `load-server-state-from-file`), the text of `show servers state`, version 1.
//!
//! ```text
//! 1
//! # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight ...
//! 2 rabbitmq_cluster 1 A 10.0.0.1 2 0 10 10 89 6 3 4 6 0 0 0 - 5672 - 0 0 - - 0
//! ```
//! What the configuration says now wins over what the file remembers of an older one: a weight set at run
//! time is taken over only when the configured weight is the same as then; an address only for servers
//! with names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::address::Host;
use crate::config::{Global, ServerStateFile};
use crate::process::Process;
use crate::runtime_api::{HEAD, state_line};

/// HAProxy's bits of `srv_admin_state`: by an operator, ...
const FORCED_MAINTENANCE: u32 = 1;
/// ... by the configuration, ...
const CONFIGURED_MAINTENANCE: u32 = 4;
/// ... and drain by an operator.
const FORCED_DRAIN: u32 = 8;

/// One line of a state file, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Name of the section.
    pub backend: String,
    /// Name of the server.
    pub server: String,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// It ran (or was starting, or stopping).
    pub up: bool,
    /// In maintenance by an operator.
    pub maintenance: bool,
    /// In maintenance by the configuration of then.
    pub disabled: bool,
    /// Draining by an operator's order.
    pub drain: bool,
    /// Weight in use.
    pub weight: u32,
    /// Weight in the configuration of then.
    pub configured_weight: u32,
    /// Time since it last went up or down.
    pub age: Duration,
    /// Health, HAProxy's number.
    pub health: u32,
}

/// Reads a state file. Lines that make no sense are left out, as HAProxy does.
#[must_use]
pub fn parse(text: &str) -> Vec<State> {
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("1") {
        return Vec::new();
    }
    lines.filter(|line| !line.starts_with('#')).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<State> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    let admin = number(6)?;
    let ip = fields.get(4)?.parse::<IpAddr>().ok();
    Some(State {
        backend: (*fields.get(1)?).to_owned(),
        server: (*fields.get(3)?).to_owned(),
        address: ip
            .zip(number(18))
            .and_then(|(ip, port)| Some(SocketAddr::new(ip, u16::try_from(port).ok()?))),
        up: number(5)? != 0,
        // HAProxy sets both bits for `disabled`; an operator's order alone sets the first.
        maintenance: admin & FORCED_MAINTENANCE != 0,
        disabled: admin & CONFIGURED_MAINTENANCE != 0,
        drain: admin & FORCED_DRAIN != 0,
        weight: number(7)?.min(256),
        configured_weight: number(8)?,
        age: Duration::from_secs(u64::from(number(9)?)),
        health: number(12)?,
    })
}

/// Takes over what the process before knew (`handed`), or what the files say that the configuration names.
pub fn load(process: &Process, handed: Option<&str>) {
    let global = process.global();
    if let Some(text) = handed {
        let count = apply(process, &parse(text), |_| true);
        tracing::info!(servers = count, "states of servers taken over");
        return;
    }
    let sections = process.sections();
    let mut common = None;
    for section in sections.iter().filter(|section| section.backend.is_some()) {
        let settings = &section.config.settings;
        let wanted = |name: &str| name == section.config.name;
        match settings.server_state {
            ServerStateFile::None => {}
            ServerStateFile::Global => {
                let states = common.get_or_insert_with(|| read(global.state_file()));
                apply(process, states, wanted);
            }
            ServerStateFile::Local => {
                let name = settings.server_state_file_name.as_deref().unwrap_or(&section.config.name);
                apply(process, &read(Some(under_base(&global, name))), wanted);
            }
        }
    }
}

fn under_base(global: &Global, name: &str) -> PathBuf {
    // An absolute name replaces the base.
    global.server_state_base.as_ref().map_or_else(|| PathBuf::from(name), |base| base.join(name))
}

fn read(file: Option<PathBuf>) -> Vec<State> {
    let Some(file) = file else { return Vec::new() };
    match std::fs::read_to_string(&file) {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot read the states of servers");
            Vec::new()
        }
    }
}

/// Applies states to the servers of the sections that `wanted` names; says to how many.
fn apply(process: &Process, states: &[State], wanted: impl Fn(&str) -> bool) -> usize {
    let now = Instant::now();
    let mut count = 0;
    for backend in process.sections().iter().filter_map(|section| section.backend.as_ref()) {
        let own = || states.iter().filter(|state| *state.backend == *backend.name);
        if !wanted(&backend.name) || own().next().is_none() {
            continue;
        }
        for state in own() {
            if let Some(server) = backend.server(&state.server) {
                let is_name = matches!(server.config().address.host, Host::Name(_));
                if let Some(address) = state.address.filter(|_| is_name) {
                    server.set_address(address);
                }
                server.restore(state, now);
                count += 1;
            }
        }
        backend.server_changed(now);
    }
    count
}

/// The states of all servers, for the process that takes over.
#[must_use]
pub fn show(process: &Process) -> String {
    let now = Instant::now();
    let mut out = HEAD.to_owned();
    for section in process.sections().iter() {
        let Some(backend) = &section.backend else { continue };
        for server in backend.servers().iter() {
            out.push_str(&state_line(section.config.id, backend, server, now));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As haproxy 2.6.12 wrote it.
    const RECORDED: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n\
        2 rabbitmq_cluster 1 up 127.0.0.1 2 0 7 10 89 6 3 4 6 0 0 0 - 5673 - 0 0 - - 0\n\
        2 rabbitmq_cluster 2 down 127.0.0.1 0 0 1 1 88 8 2 0 6 0 0 0 - 5699 - 0 0 - - 0\n\
        2 rabbitmq_cluster 6 maint 127.0.0.1 0 5 1 1 89 1 0 0 14 0 0 0 - 5673 - 0 0 - - 0\n\
        2 rabbitmq_cluster 7 drain 127.0.0.1 2 8 1 1 85 6 3 4 6 0 0 0 - 5673 - 0 0 - - 0\n\
        2 rabbitmq_cluster 10 resolv 127.0.0.9 2 0 1 1 89 6 3 4 6 0 0 0 localhost 5673 - 0 0 - - 0\n\
        garbage\n";

    #[test]
    fn a_recorded_state_file_is_understood() {
        let states = parse(RECORDED);
        assert_eq!(states.len(), 5);
        let flags: Vec<_> = states
            .iter()
            .map(|state| (state.server.as_str(), state.up, state.maintenance, state.disabled, state.drain))
            .collect();
        assert_eq!(
            flags,
            [
                ("up", true, false, false, false),
                ("down", false, false, false, false),
                ("maint", false, true, true, false),
                ("drain", true, false, false, true),
                ("resolv", true, false, false, false),
            ]
        );
        assert_eq!((states[0].weight, states[0].configured_weight, states[0].age.as_secs()), (7, 10, 89));
        assert!(parse("2\nwhatever").is_empty());
    }
}
