//! Contradictions between the parts of a configuration, and settings that will disappoint.

use std::collections::HashMap;
use std::time::Duration;

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::address::{Names, Port};
use super::{CheckKind, Config, Kind, Mode, Place, ProxyConfig, ServerConfig, duration};
use crate::listener_options::namespace_exists;

/// RabbitMQ's default heartbeat. A shorter `timeout server` cuts connections that are merely idle.
const AMQP_HEARTBEAT: Duration = Duration::from_secs(60);
/// Ports AMQP lives on.
const AMQP_PORTS: [u16; 2] = [5671, 5672];

/// Checks `config` and adds what it finds to `remarks`.
pub fn validate(config: &mut Config, remarks: &mut Diagnostics) {
    for proxy in &config.proxies {
        backend_modes(proxy, config, remarks);
    }
    super::complete::complete(config, remarks);
    names(config, remarks);
    super::references::check(config, remarks);
    addresses(config, remarks);
    super::unused::remarks(config, remarks);
    let mut warned: Vec<Place> = Vec::new();
    for proxy in &config.proxies {
        backends(proxy, config, remarks);
        mode(proxy, remarks);
        inspection(proxy, remarks);
        timeouts(proxy, remarks);
        checks(proxy, config, remarks);
        heartbeat(proxy, config, remarks, &mut warned);
    }
}

fn names(config: &Config, remarks: &mut Diagnostics) {
    let mut seen: HashMap<(&str, bool), &ProxyConfig> = HashMap::new();
    let mut ids: HashMap<u32, &str> = HashMap::new();
    for proxy in &config.proxies {
        // A frontend and a backend may share a name, as HAProxy allows.
        for side in [true, false] {
            if !(if side { proxy.has_frontend() } else { proxy.has_backend() }) {
                continue;
            }
            if let Some(first) = seen.insert((proxy.name.as_str(), side), proxy) {
                let message = format!(
                    "`{}` exists already{}",
                    proxy.name,
                    on_line(first.place.line, &first.place.file)
                );
                remarks.push(proxy.place.mark(Diagnostic::error("name-twice", message)));
                break;
            }
        }
        if let Some(first) = ids.insert(proxy.id, &proxy.name) {
            let message = format!("id {} of `{}` is also the id of `{first}`", proxy.id, proxy.name);
            remarks.push(proxy.place.mark(Diagnostic::error("id-twice", message)));
        }
    }
}

fn on_line(line: usize, file: &str) -> String {
    if line == 0 { String::new() } else { format!(", in {file} line {line}") }
}

fn addresses(config: &Config, remarks: &mut Diagnostics) {
    let mut seen: HashMap<_, (&Place, &str)> = HashMap::new();
    for proxy in config.proxies.iter().filter(|proxy| !proxy.settings.disabled) {
        for bind in &proxy.binds {
            if let Some(name) = bind.namespace.as_ref().filter(|name| !namespace_exists(name)) {
                let message = format!("there is no network namespace `{name}`");
                let remark = Diagnostic::error("unknown-namespace", message);
                remarks.push(bind.place.mark(remark).help(format!("ip netns add {name}")));
            }
            let key = (bind.address.clone(), bind.interface.clone(), bind.namespace.clone());
            if let Some((place, name)) = seen.insert(key, (&bind.place, &proxy.name)) {
                let message = format!(
                    "{} is listened on by `{name}` already{}: each gets some of the connections",
                    bind.address,
                    on_line(place.line, &place.file)
                );
                remarks.push(bind.place.mark(Diagnostic::warning("address-twice", message)));
            }
        }
        if proxy.binds.is_empty() && proxy.kind == Kind::Frontend {
            let message = format!("frontend `{}` has no bind line: nobody can connect to it", proxy.name);
            remarks.push(proxy.place.mark(Diagnostic::warning("no-bind", message)));
        }
    }
}

fn backends(proxy: &ProxyConfig, config: &Config, remarks: &mut Diagnostics) {
    for rule in &proxy.backend_rules {
        let is_there = config.proxies.iter().any(|other| other.has_backend() && other.name == rule.backend);
        if !is_there {
            let message = format!("there is no backend `{}`", rule.backend);
            remarks.push(rule.place.mark(Diagnostic::error("unknown-backend", message)));
        }
    }
    let Some((name, place)) = proxy.settings.default_backend.as_ref().filter(|_| proxy.has_frontend()) else {
        if proxy.kind == Kind::Frontend && proxy.settings.mode == Mode::Tcp {
            let message =
                format!("frontend `{}` has no default_backend: its clients are turned away", proxy.name);
            remarks.push(proxy.place.mark(Diagnostic::warning("no-backend", message)));
        }
        return;
    };
    let known = || config.proxies.iter().filter(|other| other.has_backend()).map(|other| other.name.as_str());
    if !known().any(|known| known == name) {
        let mut remark = Diagnostic::error("unknown-backend", format!("there is no backend `{name}`"));
        if let Some(near) = daemon::diagnostic::suggest(name, known()) {
            remark = remark.label(format!("did you mean `{near}`?"));
        }
        remarks.push(place.mark(remark));
    }
}

/// A frontend and its backend must have the same mode, as the files say it.
fn backend_modes(proxy: &ProxyConfig, config: &Config, remarks: &mut Diagnostics) {
    let Some((name, place)) = proxy.settings.default_backend.as_ref().filter(|_| proxy.has_frontend()) else {
        return;
    };
    let found = config.proxies.iter().find(|other| other.has_backend() && &other.name == name);
    if found.is_some_and(|other| other.settings.mode != proxy.settings.mode) {
        let message = format!("`{name}` has another mode than `{}`", proxy.name);
        remarks.push(place.mark(Diagnostic::error("mode-differs", message)));
    }
}

fn mode(proxy: &ProxyConfig, remarks: &mut Diagnostics) {
    let settings = &proxy.settings;
    match settings.mode {
        Mode::Http => {
            let is_stats = settings.stats.enabled && proxy.has_frontend();
            if !is_stats && !settings.disabled {
                let message = format!(
                    "section `{}` is in mode http and has neither servers nor the statistics page",
                    proxy.name
                );
                remarks.push(
                    proxy
                        .place
                        .mark(Diagnostic::error("http-mode", message))
                        .help("requests are not looked at here: leave this section to an HTTP proxy"),
                );
            }
        }
        Mode::Tcp => {}
    }
}

/// Rules about what clients send, with nobody waiting for it.
fn inspection(proxy: &ProxyConfig, remarks: &mut Diagnostics) {
    let looks = proxy.client_rules.iter().find(|rule| rule.condition.looks_at_content());
    let Some(rule) = looks.filter(|_| proxy.inspect_delay.is_none()) else { return };
    let message = "this looks at what the client has sent, and nobody waits for that".to_owned();
    remarks.push(
        rule.place
            .mark(Diagnostic::warning("no-inspect-delay", message))
            .help("write `tcp-request inspect-delay 5s` in the section"),
    );
}

fn timeouts(proxy: &ProxyConfig, remarks: &mut Diagnostics) {
    let timeouts = &proxy.settings.timeouts;
    if proxy.settings.mode == Mode::Http {
        return;
    }
    let mut missing = Vec::new();
    if proxy.has_frontend() && timeouts.client.is_none() {
        missing.push("client");
    }
    if proxy.has_backend() {
        if timeouts.connect.is_none() {
            missing.push("connect");
        }
        if timeouts.server.is_none() {
            missing.push("server");
        }
    }
    if !missing.is_empty() && !proxy.settings.disabled {
        let message = format!("`{}` has no timeout for: {}", proxy.name, missing.join(", "));
        remarks.push(
            proxy.place.mark(Diagnostic::warning("no-timeout", message)).help(
                "without one a vanished peer holds its connection for ever; e.g. timeout connect 5s, timeout client 1h, timeout server 1h",
            ),
        );
    }
}

/// A program is only run where `global` allows it.
fn external_checks(proxy: &ProxyConfig, config: &Config, remarks: &mut Diagnostics) {
    let is_external = |kind: CheckKind| kind == CheckKind::External;
    let used = proxy.has_backend()
        && (is_external(proxy.settings.check)
            || proxy.servers.iter().any(|server| server.options.check_kind.is_some_and(is_external)));
    if !used {
        return;
    }
    let mut missing = |what: &str, help: &str| {
        let message = format!("`{}` has an external check without {what}", proxy.name);
        remarks.push(proxy.place.mark(Diagnostic::error("external-check", message)).help(help));
    };
    if !config.global.external_check {
        missing("`external-check` in global", "write `external-check` in global to allow programs to be run");
    }
    if proxy.settings.checks.external.command.is_none() {
        missing("a program", "write `external-check command PROGRAM`");
    }
}

fn checks(proxy: &ProxyConfig, config: &Config, remarks: &mut Diagnostics) {
    let rules = &proxy.settings.checks;
    for (is_there, kind, what, option) in [
        (!rules.tcp_rules.is_empty(), CheckKind::Script, "tcp-check", "option tcp-check"),
        (!rules.http.rules.is_empty(), CheckKind::Http, "http-check", "option httpchk"),
    ] {
        let is_used = proxy.settings.check == kind
            || proxy.servers.iter().any(|server| server.options.check_kind == Some(kind));
        if is_there && !is_used {
            let message = format!("`{}` has {what} rules without `{option}`: they are not used", proxy.name);
            remarks.push(proxy.place.mark(Diagnostic::warning("rules-not-used", message)));
        }
    }
    external_checks(proxy, config, remarks);
    for server in &proxy.servers {
        let address = server.options.check_address.as_ref().unwrap_or(&server.address);
        let has_port = server.options.check_port.is_some()
            || matches!(server.address.port, Port::Fixed(_))
            || matches!(address.port, Port::Fixed(_));
        if server.options.check && !has_port {
            let message = format!("server `{}` has no port to check", server.name);
            remarks.push(
                server
                    .place
                    .mark(Diagnostic::error("no-check-port", message))
                    .help("write `port N`, or a port after the address"),
            );
        }
    }
}

/// `timeout server` against the heartbeat of AMQP, once for each place it was set.
fn heartbeat(proxy: &ProxyConfig, config: &Config, remarks: &mut Diagnostics, warned: &mut Vec<Place>) {
    let settings = &proxy.settings;
    let (Some(time), Some(place)) = (settings.timeouts.server, &settings.server_timeout_place) else {
        return;
    };
    if time >= AMQP_HEARTBEAT
        || settings.timeouts.tunnel.is_some_and(|tunnel| tunnel >= AMQP_HEARTBEAT)
        || !speaks_amqp(proxy, config)
        || warned.contains(place)
    {
        return;
    }
    warned.push(place.clone());
    let time = duration::show(time);
    let message = format!(
        "timeout server {time} is shorter than AMQP's heartbeat (RabbitMQ's default 60 s): \
         idle consumers are cut after {time}"
    );
    let client = match settings.timeouts.client {
        Some(client) if client < AMQP_HEARTBEAT => {
            format!(" (timeout client {} too)", duration::show(client))
        }
        _ => String::new(),
    };
    remarks.push(place.mark(Diagnostic::warning("short-timeout", message)).help(format!(
        "write `timeout server 1h`{client}, or lower the clients' heartbeat to half of {time}"
    )));
}

fn speaks_amqp(proxy: &ProxyConfig, config: &Config) -> bool {
    let is_amqp_port = |port: u16| AMQP_PORTS.contains(&port);
    proxy.settings.check == CheckKind::Amqp
        || proxy.servers.iter().any(|server| {
            server.options.check_kind == Some(CheckKind::Amqp)
                || matches!(server.address.port, Port::Fixed(port) if is_amqp_port(port))
        })
        || proxy.binds.iter().any(|bind| is_amqp_port(bind.address.port()))
        || config.proxies.iter().any(|front| {
            front.settings.default_backend.as_ref().is_some_and(|(name, _)| *name == proxy.name)
                && proxy.kind == Kind::Backend
                && front.binds.iter().any(|bind| is_amqp_port(bind.address.port()))
        })
}

/// Names in the configuration that this host cannot turn into an address now, as warnings: the
/// servers concerned start as down and are looked up again.
pub fn unresolved_names(config: &Config) -> Diagnostics {
    let mut names = Names::default();
    let servers = config.proxies.iter().flat_map(|proxy| &proxy.servers);
    without_address(servers.filter(|server| server.first_address(&mut names).is_none()))
}

/// Warnings about servers without an address that need one, one for each line of the configuration.
pub fn without_address<'a>(servers: impl Iterator<Item = &'a ServerConfig>) -> Diagnostics {
    let mut remarks = Diagnostics::new();
    let mut last: Option<&Place> = None;
    for server in servers.filter(|server| server.needs_address()) {
        // A template says it once for all of its servers.
        if server.template.is_some() && last == Some(&server.place) {
            continue;
        }
        last = Some(&server.place);
        remarks.push(no_address(server));
    }
    remarks
}

/// A server whose name has no address now.
fn no_address(server: &ServerConfig) -> Diagnostic {
    let message = format!("`{}` cannot be turned into an address now", server.address);
    server
        .place
        .mark(Diagnostic::warning("no-address", message))
        .help("the server is down until the name is known")
}
