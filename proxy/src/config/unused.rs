//! What the model has and nobody carries out yet.
//!
//! A setting that is read must do something or be remarked on. Whoever makes one of these work takes
//! its line out here.

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::checks::CheckKind;
use super::settings::Settings;
use super::{Bind, Config, Global, Place, ProxyConfig, ServerConfig, ServerOptions};

/// Adds a warning for every setting that has no effect yet.
pub fn remarks(config: &Config, remarks: &mut Diagnostics) {
    let mut list = List { remarks, seen: Vec::new() };
    global(&config.global, &mut list);
    for proxy in &config.proxies {
        section(proxy, &mut list);
    }
    for users in &config.userlists {
        list.add(true, "userlist", &users.place);
    }
}

struct List<'a> {
    remarks: &'a mut Diagnostics,
    /// So that what stands in `defaults` is not remarked on for every section.
    seen: Vec<(usize, &'static str)>,
}

impl List<'_> {
    fn add(&mut self, is_set: bool, what: &'static str, place: &Place) {
        if !is_set || self.seen.contains(&(place.line, what)) {
            return;
        }
        self.seen.push((place.line, what));
        let message = format!("`{what}` has no effect yet");
        self.push(Diagnostic::warning("no-effect-yet", message), place);
    }

    /// As `add`, for what cannot be left out without changing who gets where or who can read along.
    fn refuse(&mut self, is_set: bool, what: &'static str, place: &Place) {
        if is_set {
            let message = format!("`{what}` is not supported yet, and leaving it out would be worse");
            self.push(Diagnostic::error("not-supported", message), place);
        }
    }

    fn push(&mut self, remark: Diagnostic, place: &Place) {
        self.remarks.push(if place.line > 0 { place.mark(remark) } else { remark.in_file(&place.file) });
    }
}

fn global(global: &Global, list: &mut List<'_>) {
    let place = Place::default();
    list.add(global.maxconnrate.is_some(), "maxconnrate", &place);
    list.add(global.maxsessrate.is_some(), "maxsessrate", &place);
    list.add(global.maxsslconn.is_some(), "maxsslconn", &place);
    list.add(global.maxsslrate.is_some(), "maxsslrate", &place);
    list.add(global.maxpipes.is_some(), "maxpipes", &place);
    list.add(global.nosplice, "nosplice", &place);
    list.add(global.grace.is_some(), "grace", &place);
    list.add(global.close_spread_time.is_some(), "close-spread-time", &place);
    list.add(global.tune != Default::default(), "tune.*", &place);
    list.add(global.unix_bind_prefix.is_some(), "unix-bind prefix", &place);
    list.add(global.noreuseport, "noreuseport", &place);
    list.add(global.localpeer.is_some(), "localpeer", &place);
}

fn section(proxy: &ProxyConfig, list: &mut List<'_>) {
    for bind in &proxy.binds {
        bind_line(bind, list);
    }
    for server in &proxy.servers {
        server_line(server, list);
    }
    settings(&proxy.settings, &proxy.place, list);
    for rule in &proxy.server_rules {
        list.add(true, "use-server", &rule.place);
    }
}

fn bind_line(bind: &Bind, list: &mut List<'_>) {
    let place = &bind.place;
    list.add(bind.defer_accept, "defer-accept", place);
    list.add(bind.tfo, "tfo", place);
    list.refuse(bind.namespace.is_some(), "namespace", place);
}

fn settings(settings: &Settings, place: &Place, list: &mut List<'_>) {
    list.add(settings.rate_limit_sessions.is_some(), "rate-limit sessions", place);
    list.add(settings.logging.format_sd.is_some(), "log-format-sd", place);
    list.add(settings.socket_stats, "option socket-stats", place);
    list.add(settings.tcp_smart_accept, "option tcp-smart-accept", place);
    list.add(settings.tcp_smart_connect, "option tcp-smart-connect", place);
    list.add(settings.prefer_last_server, "option prefer-last-server", place);
    list.refuse(settings.transparent, "option transparent", place);
    list.add(settings.persist, "option persist", place);
    list.add(settings.checks.http.send_state, "http-check send-state", place);
    list.add(settings.stats.show_modules, "stats show-modules", place);
    check_kind(settings.check, place, list);
}

fn check_kind(kind: CheckKind, place: &Place, list: &mut List<'_>) {
    list.add(kind == CheckKind::External, "external-check", place);
}

fn server_line(server: &ServerConfig, list: &mut List<'_>) {
    let place = &server.place;
    let options = &server.options;
    if let Some(kind) = options.check_kind {
        check_kind(kind, place, list);
    }
    server_options(options, place, list);
}

fn server_options(options: &ServerOptions, place: &Place, list: &mut List<'_>) {
    list.add(options.tfo, "tfo", place);
    list.refuse(options.namespace.is_some(), "namespace", place);
}
