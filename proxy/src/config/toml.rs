//! The native form of the configuration. `configs/minimal/proxy.toml` shows every key.
//!
//! ```toml
//! [listen.rabbitmq]
//! bind = ":5672"
//! check = { kind = "amqp", inter = "5s", rise = 2, fall = 3 }
//! servers.A = "192.168.204.141:5672"
//! servers.B = "192.168.204.142:5672"
//!
//! [stats.monitor]
//! bind = ":8100"
//! ```
//!
//! Where the two forms differ in their defaults, this one has what an AMQP cluster needs: servers are
//! checked, an idle connection lives an hour, TCP keep-alive is on, a refused connection goes to
//! another server at once.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use daemon::diagnostic::Diagnostics;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use self::servers::{RawCheck, RawServer, RawServerOptions, add_server};
use self::values::{BindList, Ordered, Redispatch};
use self::words::Words;
use super::address::{self, ServerAddress};
use super::haproxy_cfg::{native, parse_algorithm, parse_log_sink};
use super::rules::{ClientAction, ClientRule, Condition, Network, Stage, Term, Test};
use super::{
    Algorithm, Bind, Config, Global, Kind, LogSink, Mode, Place, ProxyConfig, ServerOptions, Settings,
    StatsAdmin, StatsConfig, Timeouts, duration,
};

/// Reads `text` into `config` and returns remarks that are no errors.
///
/// # Errors
/// All mistakes of the text.
pub fn read(text: &str, file: &str, config: &mut Config) -> Result<Diagnostics, Diagnostics> {
    let mut words = Words::default();
    let raw: RawFile = daemon::config::parse_toml_edited(text, file, |document| words.take(document))?;
    let context = Context { text, file };
    let mut remarks = Diagnostics::new();
    raw.global.apply(&mut config.global);
    words.global(config, &context, &mut remarks);
    let mut defaults = native_defaults();
    raw.defaults.apply(&mut defaults, &context);
    words.defaults(&mut defaults, &context, &mut remarks);
    let mut sections: HashMap<(Kind, String), RawSection> = HashMap::new();
    for (kind, list) in
        [(Kind::Listen, raw.listen), (Kind::Frontend, raw.frontend), (Kind::Backend, raw.backend)]
    {
        sections.extend(list.0.into_iter().map(|(name, section)| ((kind, name), section)));
    }
    let mut pages: HashMap<String, RawStats> = raw.stats.0.into_iter().collect();
    for (_, kind, name) in &words.order {
        let built = match kind {
            Some(kind) => sections
                .remove(&(*kind, name.clone()))
                .map(|section| section.build(name, *kind, &defaults, &context, &words, &mut remarks)),
            None => pages.remove(name).map(|page| page.build(name, &defaults, &context, &mut remarks)),
        };
        config.proxies.extend(built);
    }
    words.lists(config, &context, &mut remarks);
    remarks.clone().into_result(remarks)
}

/// What holds when neither `[defaults]` nor the section says anything.
fn native_defaults() -> Settings {
    Settings {
        timeouts: Timeouts {
            client: Some(Duration::from_secs(3600)),
            server: Some(Duration::from_secs(3600)),
            connect: Some(Duration::from_secs(5)),
            ..Timeouts::default()
        },
        redispatch: Some(1),
        log_global: true,
        tcplog: true,
        client_keepalive: true,
        server_keepalive: true,
        default_server: ServerOptions { check: true, ..ServerOptions::default() },
        ..Settings::default()
    }
}

struct Context<'a> {
    text: &'a str,
    file: &'a str,
}

impl Context<'_> {
    fn place(&self, span: std::ops::Range<usize>) -> Place {
        let at = daemon::diagnostic::Diagnostic::error("", "").at_bytes(self.text, span);
        Place {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            text: at.source_line,
            length: at.span_length,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    /// The process.
    #[serde(default)]
    global: RawGlobal,
    /// What holds for every section below.
    #[serde(default)]
    defaults: RawSection,
    /// Accepts connections and hands them to its servers.
    #[serde(default)]
    listen: Ordered<RawSection>,
    /// Accepts connections and hands them to a backend.
    #[serde(default)]
    frontend: Ordered<RawSection>,
    /// Servers for frontends.
    #[serde(default)]
    backend: Ordered<RawSection>,
    /// A statistics page.
    #[serde(default)]
    stats: Ordered<RawStats>,
    /// Name servers, with the words of haproxy.cfg as keys. They are taken out before.
    #[serde(default)]
    #[expect(dead_code, reason = "only so that the tables are known")]
    resolvers: Ordered<Empty>,
    /// Users of a statistics page, with the words of haproxy.cfg as keys.
    #[serde(default)]
    #[expect(dead_code, reason = "only so that the tables are known")]
    userlist: Ordered<Empty>,
}

/// Keys are the words that haproxy.cfg has in such a section, as listed below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawGlobal {
    /// Most connections of the process; 0 for what the limit of open files allows.
    maxconn: Option<u32>,
    /// Threads; one for each core.
    threads: Option<usize>,
    /// Limit of open files to ask for.
    open_files: Option<u64>,
    /// Becomes this user after the start.
    user: Option<String>,
    /// Becomes this group.
    group: Option<String>,
    /// The user as a number, for hosts without the name.
    uid: Option<u32>,
    /// The group as a number.
    gid: Option<u32>,
    /// Enters this directory for good.
    chroot: Option<std::path::PathBuf>,
    /// Runs in the background.
    background: bool,
    /// File for the process id.
    pidfile: Option<std::path::PathBuf>,
    /// Receivers of log lines.
    log: Vec<Sink>,
    /// Name of the program in log lines; `proxy`.
    log_tag: Option<String>,
    /// Name of this host on the statistics page; the host's.
    node: Option<String>,
    /// What is written there beside it.
    description: Option<String>,
    /// Percent, 0 to 50, by which intervals of checks vary.
    spread_checks: Option<u32>,
    /// A soft stop waits no longer for connections.
    hard_stop_after: Option<Time>,
}

impl RawGlobal {
    fn apply(self, global: &mut Global) {
        global.maxconn = self.maxconn.filter(|limit| *limit > 0).or(global.maxconn);
        global.nbthread = self.threads.or(global.nbthread);
        global.ulimit_n = self.open_files.or(global.ulimit_n);
        global.user = self.user.or(global.user.take());
        global.group = self.group.or(global.group.take());
        global.uid = self.uid.or(global.uid);
        global.gid = self.gid.or(global.gid);
        global.chroot = self.chroot.or(global.chroot.take());
        global.daemon |= self.background;
        global.pidfile = self.pidfile.or(global.pidfile.take());
        global.logs.extend(self.log.into_iter().map(|sink| sink.0));
        global.log_tag = self.log_tag.or(global.log_tag.take());
        global.node = self.node.or(global.node.take());
        global.description = self.description.or(global.description.take());
        global.spread_checks = self.spread_checks.map_or(global.spread_checks, |percent| percent.min(50));
        global.hard_stop_after = self.hard_stop_after.map(|time| time.0).or(global.hard_stop_after);
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSection {
    /// Where clients connect; options of a bind line may follow.
    bind: Option<Spanned<BindList>>,
    /// Only connections that come in at this interface.
    interface: Option<String>,
    /// Connections that may wait to be accepted.
    backlog: Option<u32>,
    /// How a server is chosen; `roundrobin`.
    balance: Option<Balance>,
    /// The servers.
    servers: Ordered<Spanned<RawServer>>,
    /// What holds for each of them.
    server_defaults: Option<RawServerOptions>,
    /// How servers are checked; every 2 s by a connection.
    check: Option<RawCheck>,
    /// Silence after which a connection is closed: `timeout.client` and `timeout.server` in one; 1h.
    idle: Option<Spanned<Time>>,
    /// Times after which something is given up.
    timeout: RawTimeouts,
    /// How often a failed attempt to connect is repeated; 3.
    retries: Option<u32>,
    /// Whether it is repeated on another server; on every retry.
    redispatch: Option<Redispatch>,
    /// Most connections of the section; those above wait to be accepted.
    maxconn: Option<u32>,
    /// Load at which `minconn` of servers ends.
    fullconn: Option<u32>,
    /// Receivers of its log lines; those of `global`.
    log: Option<Vec<SinkOrGlobal>>,
    /// A full line (HAProxy's tcplog) at the end of each connection; true.
    log_connections: Option<bool>,
    /// A line also for connections on which nothing was sent; true.
    log_empty: Option<bool>,
    /// A line for every check that changes something; false.
    log_checks: Option<bool>,
    /// TCP keep-alive towards clients and servers; true.
    keepalive: Option<bool>,
    /// Moves bulk data inside the kernel.
    splice: Option<bool>,
    /// Uses all backup servers at once instead of the first.
    all_backups: Option<bool>,
    /// The backend of a frontend.
    default_backend: Option<Spanned<String>>,
    /// Only clients from there.
    allow: Vec<Net>,
    /// No clients from there, whatever `allow` says.
    deny: Vec<Net>,
    /// What the statistics page says about it.
    description: Option<String>,
    /// The section is not used.
    disabled: Option<bool>,
}

impl RawSection {
    fn apply(self, settings: &mut Settings, context: &Context<'_>) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut settings.balance, self.balance.map(|balance| balance.0));
        if let Some(idle) = self.idle {
            settings.server_timeout_place = Some(context.place(idle.span()));
            let time = idle.into_inner().or_never();
            (settings.timeouts.client, settings.timeouts.server) = (time, time);
        }
        self.timeout.apply(settings, context);
        if let Some(check) = self.check {
            check.apply(settings);
        }
        if let Some(options) = self.server_defaults {
            options.apply(&mut settings.default_server);
        }
        set(&mut settings.retries, self.retries);
        set(&mut settings.redispatch, self.redispatch.map(|redispatch| redispatch.0));
        settings.maxconn = self.maxconn.map_or(settings.maxconn, |limit| (limit > 0).then_some(limit));
        settings.fullconn = self.fullconn.map_or(settings.fullconn, |limit| (limit > 0).then_some(limit));
        settings.backlog = self.backlog.map_or(settings.backlog, |limit| (limit > 0).then_some(limit));
        if let Some(logs) = self.log {
            settings.log_global = logs.iter().any(|sink| sink.0.is_none());
            settings.logs = logs.into_iter().filter_map(|sink| sink.0).collect();
        }
        set(&mut settings.tcplog, self.log_connections);
        set(&mut settings.dontlognull, self.log_empty.map(|log| !log));
        set(&mut settings.log_health_checks, self.log_checks);
        set(&mut settings.client_keepalive, self.keepalive);
        set(&mut settings.server_keepalive, self.keepalive);
        set(&mut settings.splice, self.splice);
        set(&mut settings.allbackups, self.all_backups);
        if let Some(backend) = self.default_backend {
            let place = context.place(backend.span());
            settings.default_backend = Some((backend.into_inner(), place));
        }
        settings.description = self.description.or(settings.description.take());
        set(&mut settings.disabled, self.disabled);
    }

    fn build(
        mut self,
        name: &str,
        kind: Kind,
        defaults: &Settings,
        context: &Context<'_>,
        words: &Words,
        remarks: &mut Diagnostics,
    ) -> ProxyConfig {
        let mut proxy = ProxyConfig::new(name, 0, kind, defaults.clone());
        proxy.place.file = context.file.to_owned();
        let (bind, interface) = (self.bind.take(), self.interface.take());
        let servers = std::mem::take(&mut self.servers);
        proxy.client_rules = client_rules(std::mem::take(&mut self.allow), std::mem::take(&mut self.deny));
        self.apply(&mut proxy.settings, context);
        if let Some(bind) = bind {
            proxy.place = context.place(bind.span());
            proxy.binds = binds(bind, interface, context, remarks);
        }
        words.section(&mut proxy, context, remarks);
        for (name, server) in servers.0 {
            let place = context.place(server.span());
            add_server(&mut proxy, &name, server.into_inner(), place, (words, context), remarks);
        }
        proxy
    }
}

/// Who is in `deny` stays out; with `allow`, so does everybody who is not in it.
fn client_rules(allow: Vec<Net>, deny: Vec<Net>) -> Vec<ClientRule> {
    let rule = |networks: Vec<Net>, negated: bool| ClientRule {
        stage: Stage::Session,
        action: ClientAction::Reject,
        condition: Condition {
            groups: vec![vec![Term {
                negated: false,
                name: None,
                tests: vec![Test::Source(networks.into_iter().map(|network| network.0).collect())],
            }]],
            negated,
        },
        place: Place::default(),
    };
    let mut rules = Vec::new();
    if !deny.is_empty() {
        rules.push(rule(deny, false));
    }
    if !allow.is_empty() {
        rules.push(rule(allow, true));
    }
    rules
}

fn binds(
    list: Spanned<BindList>,
    interface: Option<String>,
    context: &Context<'_>,
    remarks: &mut Diagnostics,
) -> Vec<Bind> {
    let place = context.place(list.span());
    let lines = list.into_inner().0;
    let mut binds: Vec<Bind> =
        lines.iter().flat_map(|line| native::bind_line(&place, line, remarks)).collect();
    for bind in &mut binds {
        bind.interface = bind.interface.take().or(interface.clone());
    }
    binds
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    /// Silence of a client; 1h.
    client: Option<Time>,
    /// Silence of a server; 1h.
    server: Option<Spanned<Time>>,
    /// Until a server has accepted; 5s.
    connect: Option<Time>,
    /// Until a check has its answer.
    check: Option<Time>,
    /// Until a connection that waits has a server; as `connect`.
    queue: Option<Time>,
    /// Silence of both once data has flowed.
    tunnel: Option<Time>,
    /// Silence of a client that has closed its side.
    client_fin: Option<Time>,
    /// Silence of a server that has closed its side.
    server_fin: Option<Time>,
}

impl RawTimeouts {
    fn apply(self, settings: &mut Settings, context: &Context<'_>) {
        let timeouts = &mut settings.timeouts;
        let or = |new: Option<Time>, old: Option<Duration>| new.map_or(old, |time| time.or_never());
        timeouts.client = or(self.client, timeouts.client);
        timeouts.connect = or(self.connect, timeouts.connect);
        timeouts.check = or(self.check, timeouts.check);
        timeouts.queue = or(self.queue, timeouts.queue);
        timeouts.tunnel = or(self.tunnel, timeouts.tunnel);
        timeouts.client_fin = or(self.client_fin, timeouts.client_fin);
        timeouts.server_fin = or(self.server_fin, timeouts.server_fin);
        if let Some(server) = self.server {
            settings.server_timeout_place = Some(context.place(server.span()));
            timeouts.server = server.into_inner().or_never();
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawStats {
    /// Where the page is.
    bind: Option<Spanned<BindList>>,
    /// Only connections that come in at this interface.
    interface: Option<String>,
    /// Its path; `/haproxy?stats`.
    uri: Option<String>,
    /// The browser loads it again after this time.
    refresh: Option<Time>,
    /// Who may see it, `"user:password"`; everybody when empty.
    auth: Vec<Pair>,
    /// What the browser asks for the password with.
    realm: Option<String>,
    /// Does not tell the version.
    hide_version: bool,
    /// Who may set servers to ready, drain and maint; `"never"`.
    admin: Option<RawAdmin>,
    /// Most connections of the page.
    maxconn: Option<u32>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum RawAdmin {
    Never,
    Always,
    Localhost,
}

impl RawStats {
    fn build(
        self,
        name: &str,
        defaults: &Settings,
        context: &Context<'_>,
        remarks: &mut Diagnostics,
    ) -> ProxyConfig {
        let mut proxy = ProxyConfig::new(name, 0, Kind::Listen, defaults.clone());
        proxy.place.file = context.file.to_owned();
        proxy.settings.mode = Mode::Http;
        proxy.settings.maxconn = self.maxconn.filter(|limit| *limit > 0);
        if let Some(bind) = self.bind {
            proxy.place = context.place(bind.span());
            proxy.binds = binds(bind, self.interface, context, remarks);
        }
        let base = StatsConfig::default();
        proxy.settings.stats = StatsConfig {
            enabled: true,
            uri: self.uri.unwrap_or_else(|| base.uri.clone()),
            refresh: self.refresh.map(|time| time.0),
            auth: self.auth.into_iter().map(|pair| pair.0).collect(),
            realm: self.realm,
            hide_version: self.hide_version,
            admin: match self.admin {
                Some(RawAdmin::Always) => StatsAdmin::Always,
                Some(RawAdmin::Localhost) => StatsAdmin::Localhost,
                Some(RawAdmin::Never) | None => StatsAdmin::Never,
            },
            show_node: Some(None),
            show_desc: Some(None),
            show_legends: true,
            ..base
        };
        proxy
    }
}

/// A value written as one text, read by a function.
macro_rules! from_text {
    ($name:ident, $inner:ty, $what:literal, $read:expr) => {
        struct $name($inner);
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let read: fn(&str) -> Result<$inner, String> = $read;
                        read(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

from_text!(Time, Duration, "a time with its unit, e.g. \"5s\"", |text| {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit; write us, ms, s, m, h or d after it"));
    }
    duration::parse_ms(text).map_err(|error| error.to_string())
});
from_text!(Address, ServerAddress, "an address, e.g. \"192.168.0.10:5672\"", address::parse_server);
from_text!(Pair, (String, String), "a user and a password, \"user:password\"", |text| {
    let (user, password) = text.split_once(':').ok_or("write user:password")?;
    Ok((user.to_owned(), password.to_owned()))
});
from_text!(Net, Network, "an address or a network, e.g. \"10.0.0.0/8\"", Network::parse);
from_text!(Sink, LogSink, "a log receiver, e.g. \"127.0.0.1 local0 info\"", parse_log_sink);
from_text!(SinkOrGlobal, Option<LogSink>, "global, or a log receiver", |text| {
    if text == "global" { Ok(None) } else { parse_log_sink(text).map(Some) }
});
from_text!(Balance, Algorithm, "an algorithm, e.g. \"roundrobin\"", |text| {
    parse_algorithm(text).ok_or_else(|| {
        format!("`{text}` is not an algorithm; use roundrobin, static-rr, leastconn, first, source or random")
    })
});

from_text!(Numbers, (u32, u32), "numbers, e.g. \"1-3\"", |text| {
    let (low, high) = text.split_once('-').unwrap_or(("1", text));
    match (low.parse::<u32>(), high.parse::<u32>()) {
        (Ok(low), Ok(high)) if low <= high && high - low < 10_000 && high < u32::MAX => Ok((low, high)),
        _ => Err(format!("`{text}` is not a range of numbers")),
    }
});

impl Time {
    /// The time; 0 is "never", as in haproxy.cfg.
    fn or_never(&self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

mod servers;
#[cfg(test)]
mod tests;
mod values;
mod words;
mod write;

pub use self::write::write;
