//! Names in one part of a configuration that another part must have.

use daemon::diagnostic::{Diagnostic, Diagnostics, suggest};

use super::rules::{Condition, Number, Test};
use super::server::Track;
use super::{Config, Place, ProxyConfig, ServerConfig};

/// Looks every name up.
pub fn check(config: &Config, remarks: &mut Diagnostics) {
    for proxy in &config.proxies {
        for server in &proxy.servers {
            resolvers(server, config, remarks);
            track(proxy, server, config, remarks);
            agent(server, remarks);
        }
        for rule in &proxy.server_rules {
            let names = proxy.servers.iter().map(|server| server.name.as_str());
            named("server", &rule.server, names, &rule.place, remarks);
        }
        let rules = proxy.client_rules.iter().map(|rule| (&rule.condition, &rule.place));
        let rules = rules.chain(proxy.backend_rules.iter().map(|rule| (&rule.condition, &rule.place)));
        for (condition, place) in
            rules.chain(proxy.server_rules.iter().map(|rule| (&rule.condition, &rule.place)))
        {
            sections(condition, place, config, remarks);
        }
    }
}

/// An error when `name` is none of `known`.
fn named<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    place: &Place,
    remarks: &mut Diagnostics,
) {
    if known.clone().any(|known| known == name) {
        return;
    }
    let mut remark = Diagnostic::error("unknown-name", format!("there is no {what} `{name}`"));
    if let Some(near) = suggest(name, known) {
        remark = remark.label(format!("did you mean `{near}`?"));
    }
    remarks.push(place.mark(remark));
}

fn resolvers(server: &ServerConfig, config: &Config, remarks: &mut Diagnostics) {
    let Some(name) = &server.options.resolvers else { return };
    // A template says it once for all of its servers.
    if server.template.as_ref().is_some_and(|template| !server.name.ends_with(&template.low.to_string())) {
        return;
    }
    let known = config.resolvers.iter().map(|resolvers| resolvers.name.as_str());
    named("resolvers section", name, known, &server.place, remarks);
}

fn track(proxy: &ProxyConfig, server: &ServerConfig, config: &Config, remarks: &mut Diagnostics) {
    let Some(track) = &server.options.track else { return };
    let error = |message: String| server.place.mark(Diagnostic::error("track", message));
    if server.options.check || server.options.agent.check {
        remarks.push(error(format!("server `{}` cannot be checked and track another one", server.name)));
        return;
    }
    let backend = tracked_section(track, proxy, config);
    let target = backend.and_then(|backend| backend.servers.iter().find(|other| other.name == track.server));
    match (backend, target) {
        (None, _) => {
            let known = config.proxies.iter().filter(|other| other.has_backend());
            let name = track.backend.as_deref().unwrap_or_default();
            named("backend", name, known.map(|other| other.name.as_str()), &server.place, remarks);
        }
        (Some(backend), None) => {
            let known = backend.servers.iter().map(|other| other.name.as_str());
            named("server", &track.server, known, &server.place, remarks);
        }
        (Some(_), Some(target)) if std::ptr::eq(target, server) => {
            remarks.push(error(format!("server `{}` cannot track itself", server.name)));
        }
        (Some(_), Some(target)) => {
            let options = &target.options;
            if !options.check && !options.agent.check && options.track.is_none() {
                let message = format!("`{}` is not checked, so there is nothing to track", track.server);
                remarks.push(error(message));
            } else if leads_back(proxy, server, config) {
                let message = format!("`{}` tracks in a circle, which comes back to it", server.name);
                remarks.push(error(message));
            }
        }
    }
}

/// The section that a server of `proxy` tracks a server of.
fn tracked_section<'a>(track: &Track, proxy: &'a ProxyConfig, config: &'a Config) -> Option<&'a ProxyConfig> {
    match &track.backend {
        None => Some(proxy),
        Some(name) => config.proxies.iter().find(|other| other.has_backend() && other.name == *name),
    }
}

/// Whether the servers that a server tracks, one behind the other, come to one of them again.
fn leads_back(proxy: &ProxyConfig, server: &ServerConfig, config: &Config) -> bool {
    let (mut proxy, mut server) = (proxy, server);
    let mut seen: Vec<*const ServerConfig> = vec![server];
    while let Some(track) = &server.options.track {
        let backend = tracked_section(track, proxy, config);
        let target = backend.and_then(|backend| {
            let found = backend.servers.iter().find(|other| other.name == track.server);
            found.map(|found| (backend, found))
        });
        let Some(next) = target else { return false };
        (proxy, server) = next;
        if seen.contains(&std::ptr::from_ref(server)) {
            return true;
        }
        seen.push(server);
    }
    false
}

fn agent(server: &ServerConfig, remarks: &mut Diagnostics) {
    let agent = &server.options.agent;
    if agent.check && agent.port.is_none() {
        let message = format!("server `{}` has no agent-port: its agent cannot be asked", server.name);
        remarks.push(server.place.mark(Diagnostic::error("no-agent-port", message)));
    }
}

fn sections(condition: &Condition, place: &Place, config: &Config, remarks: &mut Diagnostics) {
    let names = |front: bool| {
        let has = move |proxy: &&ProxyConfig| if front { proxy.has_frontend() } else { proxy.has_backend() };
        config.proxies.iter().filter(has).map(|proxy| proxy.name.as_str())
    };
    for test in condition.groups.iter().flatten().flat_map(|term| &term.tests) {
        let Test::Number(number, _) = test else { continue };
        match number {
            Number::FrontendSessions(Some(name)) | Number::FrontendRate(Some(name)) => {
                named("frontend", name, names(true), place, remarks);
            }
            Number::UsableServers(Some(name))
            | Number::BackendSessions(Some(name))
            | Number::BackendRate(Some(name))
            | Number::Pending(Some(name))
            | Number::AveragePending(Some(name))
            | Number::FreePlaces(Some(name)) => named("backend", name, names(false), place, remarks),
            Number::ServerIsUp(Some(name), server) | Number::ServerSessions(Some(name), server) => {
                named("backend", name, names(false), place, remarks);
                let servers =
                    config.proxies.iter().filter(|proxy| proxy.has_backend() && proxy.name == *name);
                let known = servers.flat_map(|proxy| &proxy.servers).map(|server| server.name.as_str());
                if config.proxies.iter().any(|proxy| proxy.has_backend() && proxy.name == *name) {
                    named("server", server, known, place, remarks);
                }
            }
            _ => {}
        }
    }
}
