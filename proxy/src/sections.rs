//! From a configuration to sections at work, at the start and at every reload.
//!
//! It happens in two steps. A [`Draft`] is everything that the configuration asks for, beside what is at
//! work already; making it may take time (names are looked up) and may be thrown away. [`Draft::apply`]
//! then puts it in the place of what is at work; nothing can go wrong in it.
//!
//! Backends and servers of the same name stay the same objects. Frontends are made anew and share their
//! counters and places with the ones before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::backend::Backend;
use crate::config::address::Names;
use crate::config::{Config, Global, LogSink, ProxyConfig, Resolvers, ServerConfig};
use crate::frontend::Frontend;
use crate::server::Server;
use crate::syslog::{Logger, Opener, level};

/// One section of the configuration at work.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its configuration.
    pub config: Arc<ProxyConfig>,
    /// Its accepting side.
    pub frontend: Option<Arc<Frontend>>,
    /// Its servers.
    pub backend: Option<Arc<Backend>>,
    /// Where its lines go.
    pub logger: Logger,
}

impl Section {
    /// HAProxy's last words about a section.
    pub fn say_stopped(&self) {
        let front = self.frontend.as_ref().map_or(0, |frontend| {
            frontend.stopped.store(true, Relaxed);
            frontend.counters.total.load(Relaxed)
        });
        let back = self.backend.as_ref().map_or(0, |backend| backend.counters.total.load(Relaxed));
        let text = format!("Proxy {} stopped (cumulated conns: FE: {front}, BE: {back}).", self.config.name);
        self.logger.send(level::WARNING, &text);
    }
}

/// What a configuration asks for, beside what is at work.
#[derive(Debug)]
pub struct Draft {
    /// Settings of the process.
    pub global: Global,
    /// `resolvers` sections.
    pub resolvers: Vec<Resolvers>,
    /// The sections to be.
    pub sections: Vec<Section>,
    changes: Vec<BackendChange>,
}

/// A backend that stays, and what becomes of it.
#[derive(Debug)]
struct BackendChange {
    backend: Arc<Backend>,
    config: Arc<ProxyConfig>,
    logger: Logger,
    servers: Vec<ServerChange>,
}

#[derive(Debug)]
enum ServerChange {
    /// It was there before; with the address its name has, if that was looked up.
    Stays(Arc<Server>, Box<ServerConfig>, Option<SocketAddr>),
    New(Arc<Server>),
}

/// What a reload did to servers and sections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Servers with the same configuration.
    pub unchanged: usize,
    /// Servers with another one.
    pub changed: usize,
    /// New servers.
    pub added: usize,
    /// Servers that are gone.
    pub removed: usize,
}

impl Draft {
    /// Builds what `config` asks for; sections of `present` are used again. `process_limit` is the most
    /// connections of the process. Looks names up, which may block.
    pub fn new(config: Config, present: &[Section], process_limit: u32, default_tag: &str) -> Self {
        let now = Instant::now();
        let (global, resolvers) = (config.global, config.resolvers);
        let tag = global.log_tag.clone().unwrap_or_else(|| default_tag.to_owned());
        let mut opener = Opener::with_host(global.log_send_hostname.as_deref());
        let mut changes = Vec::new();
        let mut parts: Vec<(Arc<ProxyConfig>, Logger, Option<Arc<Backend>>)> = Vec::new();
        for proxy in config.proxies.into_iter().filter(|proxy| !proxy.settings.disabled) {
            let logger =
                opener.open(&sinks(&proxy, &global.logs), proxy.settings.log_tag.as_deref().unwrap_or(&tag));
            let proxy = Arc::new(proxy);
            let before = present
                .iter()
                .filter_map(|section| section.backend.as_ref())
                .find(|backend| proxy.has_backend() && *backend.name == *proxy.name);
            let backend = match before {
                Some(backend) => {
                    changes.push(BackendChange::new(backend, &proxy, &logger, now));
                    Some(backend.clone())
                }
                None => {
                    proxy.has_backend().then(|| Arc::new(Backend::new(proxy.clone(), logger.clone(), now)))
                }
            };
            parts.push((proxy, logger, backend));
        }
        let named = |name: &str| {
            parts.iter().filter_map(|(_, _, backend)| backend.as_ref()).find(|backend| *backend.name == *name)
        };
        let sections = parts
            .iter()
            .map(|(config, logger, own)| {
                let frontend = config.has_frontend().then(|| {
                    let wanted = config.settings.default_backend.as_ref();
                    let target = wanted.and_then(|(name, _)| named(name)).or(own.as_ref()).cloned();
                    let mut frontend = Frontend::new(config.clone(), target, process_limit, logger.clone());
                    // The names were checked with the configuration.
                    frontend.others = config
                        .backend_rules
                        .iter()
                        .filter_map(|rule| named(&rule.backend).cloned())
                        .collect();
                    let before = present
                        .iter()
                        .filter_map(|section| section.frontend.as_ref())
                        .find(|before| before.name == frontend.name);
                    if let Some(before) = before {
                        frontend.inherit(before);
                    }
                    Arc::new(frontend)
                });
                Section { config: config.clone(), frontend, backend: own.clone(), logger: logger.clone() }
            })
            .collect();
        Self { global, resolvers, sections, changes }
    }

    /// Puts this in the place of `present`, except for settings of the process and listeners. The new
    /// sections are in `sections` afterwards.
    pub fn apply(&mut self, present: &[Section], now: Instant) -> Summary {
        let mut summary = Summary::default();
        for section in &self.sections {
            let is_new = |backend: &&Arc<Backend>| {
                !self.changes.iter().any(|change| Arc::ptr_eq(&change.backend, backend))
            };
            summary.added += section.backend.as_ref().filter(is_new).map_or(0, |b| b.servers().len());
        }
        for change in self.changes.drain(..) {
            change.apply(&mut summary, now);
        }
        for old in present {
            if let Some(backend) = &old.backend
                && !self
                    .sections
                    .iter()
                    .filter_map(|new| new.backend.as_ref())
                    .any(|new| Arc::ptr_eq(new, backend))
            {
                summary.removed += backend.servers().len();
                let (config, logger) = (Arc::clone(&backend.config()), Logger::clone(&backend.logger()));
                backend.replace(config, logger, Vec::new(), now);
            }
            if let Some(before) = &old.frontend {
                let after = self.sections.iter().filter_map(|new| new.frontend.as_ref());
                if let Some(after) = after.into_iter().find(|after| after.name == before.name) {
                    after.places.set_limit(after.limit);
                    after.pace.set_limit(after.config.settings.rate_limit_sessions);
                }
            }
        }
        summary
    }
}

/// Where the lines of a section go.
fn sinks(config: &ProxyConfig, global: &[LogSink]) -> Vec<LogSink> {
    let mut sinks = config.settings.logs.clone();
    if config.settings.log_global {
        sinks.extend(global.iter().cloned());
    }
    sinks
}

impl BackendChange {
    fn new(backend: &Arc<Backend>, config: &Arc<ProxyConfig>, logger: &Logger, now: Instant) -> Self {
        let mut names = Names::default();
        let servers = config
            .servers
            .iter()
            .map(|wanted| match backend.server(&wanted.name) {
                Some(server) => {
                    // Looking up takes time and may fail; without a change the address stays.
                    let is_other = server.config().address != wanted.address;
                    let address = if is_other { names.resolve(&wanted.address) } else { None };
                    ServerChange::Stays(server, Box::new(wanted.clone()), address)
                }
                None => {
                    let address = wanted.first_address(&mut names);
                    let name = backend.name.clone();
                    ServerChange::New(Arc::new(Server::with_address(wanted.clone(), address, name, now)))
                }
            })
            .collect();
        Self { backend: backend.clone(), config: config.clone(), logger: logger.clone(), servers }
    }

    fn apply(self, summary: &mut Summary, now: Instant) {
        let before = self.backend.servers().len();
        let mut kept = 0;
        let servers: Vec<Arc<Server>> = self
            .servers
            .into_iter()
            .map(|change| match change {
                ServerChange::Stays(server, config, address) => {
                    kept += 1;
                    if is_same(&server.config(), &config) {
                        summary.unchanged += 1;
                    } else {
                        summary.changed += 1;
                    }
                    server.reconfigure(*config, address, now);
                    server
                }
                ServerChange::New(server) => {
                    summary.added += 1;
                    server
                }
            })
            .collect();
        summary.removed += before.saturating_sub(kept);
        self.backend.replace(self.config, self.logger, servers, now);
    }
}

/// Whether two lines say the same about a server, wherever they stand in the file.
fn is_same(a: &ServerConfig, b: &ServerConfig) -> bool {
    (a.id, &a.address, &a.options) == (b.id, &b.address, &b.options)
}
