//! What only the whole of a virtual server shows.

use daemon::diagnostic::Diagnostic;

use crate::config::virtual_server::{CheckKind, Listen, Method, VirtualServer, endpoint};
use crate::config::{AgentConfig, Command};
use crate::virtual_server::{is_this_host, rules_can_be_made};

pub(super) fn check(config: &AgentConfig, add: &mut impl FnMut(Diagnostic)) {
    for server in &config.virtual_servers {
        one(server, add);
    }
    let direct = |server: &VirtualServer| server.method == Method::Dr && stays_here(server);
    let needs_rules = config.virtual_servers.iter().any(|server| !direct(server));
    if needs_rules && !rules_can_be_made() {
        let message = "nft is not installed, so virtual servers cannot be served";
        add(Diagnostic::warning("nft", message).help("apt-get install nftables"));
    }
}

/// The tutorial's own case: the only real servers are this very host, on the same port.
fn stays_here(server: &VirtualServer) -> bool {
    let port = server.listen.iter().find_map(|listen| match listen {
        Listen::Address { port, .. } => Some(*port),
        Listen::Mark(_) => None,
    });
    !server.real_servers.is_empty()
        && server
            .real_servers
            .iter()
            .all(|real| (real.port == 0 || Some(real.port) == port) && is_this_host(real.address))
}

fn one(server: &VirtualServer, add: &mut impl FnMut(Diagnostic)) {
    let name = server.name();
    if stays_here(server) {
        add(Diagnostic::note(
            "virtual-server",
            format!(
                "virtual_server {name} forwards to this very host; a proxy that listens on this port of every \
                 address (bind :PORT) answers on the virtual address without it"
            ),
        ));
    }
    if server.method == Method::Dr {
        if server.listen.iter().any(|listen| matches!(listen, Listen::Mark(_))) {
            let message = format!("virtual_server {name}: DR cannot follow fwmark");
            add(Diagnostic::error("virtual-server", message).help("write lb_kind NAT, or an address"));
        }
        let ports = server.listen.iter().filter_map(|listen| match listen {
            Listen::Address { port, .. } => Some(*port),
            Listen::Mark(_) => None,
        });
        let ports: Vec<u16> = ports.collect();
        for real in &server.real_servers {
            if real.port != 0 && ports.iter().any(|port| *port != real.port) {
                let place = endpoint(real.address, real.port);
                let message = format!("virtual_server {name}: DR cannot change the port to that of {place}");
                add(Diagnostic::error("virtual-server", message).help("write the same port, or lb_kind NAT"));
            }
        }
    }
    let sum: u64 = server.real_servers.iter().map(|real| u64::from(real.weight)).sum();
    let needed = u64::from(server.quorum) + u64::from(server.hysteresis);
    if needed > sum && !server.real_servers.is_empty() {
        let message = format!(
            "virtual_server {name}: quorum and hysteresis want a weight of {needed}, but all real servers \
             together have {sum}"
        );
        add(Diagnostic::warning("quorum", message).help("the quorum is never gained"));
    }
    if server.hysteresis >= server.quorum {
        let message = format!("virtual_server {name}: `hysteresis` is not below `quorum`");
        add(Diagnostic::warning("quorum", message)
            .help("the quorum is lost only when every real server is down"));
    }
    for real in
        server.real_servers.iter().filter(|real| real.checks.is_empty() && !is_this_host(real.address))
    {
        let place = endpoint(real.address, real.port);
        let message = format!("virtual_server {name}: nothing checks {place}, so it always counts as up");
        add(Diagnostic::warning("real-server", message).help("add TCP_CHECK { }"));
    }
}

/// Every program of every virtual server, with what it is for.
pub(super) fn commands(config: &AgentConfig) -> impl Iterator<Item = (String, &Command)> {
    config.virtual_servers.iter().flat_map(|server| {
        let name = server.name();
        let own = [&server.quorum_up, &server.quorum_down].into_iter().flatten();
        let of_servers = server.real_servers.iter().flat_map(|real| {
            let notify = [&real.notify_up, &real.notify_down].into_iter().flatten();
            let checks = real.checks.iter().filter_map(|check| match &check.kind {
                CheckKind::Misc { command, .. } => Some(command),
                _ => None,
            });
            notify.chain(checks)
        });
        own.chain(of_servers)
            .map(move |command| (format!("script of virtual_server {name}"), command))
            .collect::<Vec<_>>()
    })
}
