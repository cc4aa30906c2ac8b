//! What the model has and nobody carries out yet.
//!
//! A setting that is read must do something or be remarked on. Whoever makes one of these work takes
//! its line out here.

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::settings::Settings;
use super::{Config, Global, Place, ProxyConfig, ServerConfig, ServerOptions};

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

    /// A setting that has no meaning here.
    fn leave_out(&mut self, is_set: bool, what: &'static str, why: &str, place: &Place) {
        if !is_set || self.seen.contains(&(place.line, what)) {
            return;
        }
        self.seen.push((place.line, what));
        self.push(Diagnostic::warning("not-used", format!("`{what}` is not used: {why}")), place);
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
    let tune = &global.tune;
    for (is_set, what, why) in [
        (global.maxpipes.is_some(), "maxpipes", "each worker keeps a few pipes"),
        (global.close_spread_time.is_some(), "close-spread-time", "it concerns idle HTTP connections"),
        (global.noreuseport, "noreuseport", "ports are not shared, except with a successor"),
        (global.localpeer.is_some(), "localpeer", "peers are not talked to"),
        (tune.bufsize.is_some(), "tune.bufsize", "connections share buffers of a fixed size"),
        (tune.maxaccept.is_some(), "tune.maxaccept", "workers take connections in rows of a fixed length"),
        (tune.pipesize.is_some(), "tune.pipesize", "pipes have the system's size"),
        (tune.rcvbuf_client.is_some(), "tune.rcvbuf.client", "the system sizes buffers itself"),
        (tune.rcvbuf_server.is_some(), "tune.rcvbuf.server", "the system sizes buffers itself"),
        (tune.sndbuf_client.is_some(), "tune.sndbuf.client", "the system sizes buffers itself"),
        (tune.sndbuf_server.is_some(), "tune.sndbuf.server", "the system sizes buffers itself"),
    ] {
        list.leave_out(is_set, what, why, &place);
    }
}

fn section(proxy: &ProxyConfig, list: &mut List<'_>) {
    for server in &proxy.servers {
        server_line(server, list);
    }
    settings(&proxy.settings, &proxy.place, list);
}

fn settings(settings: &Settings, place: &Place, list: &mut List<'_>) {
    let why = "acknowledgements are left to the system";
    list.leave_out(settings.tcp_smart_accept, "option tcp-smart-accept", why, place);
    list.leave_out(settings.tcp_smart_connect, "option tcp-smart-connect", why, place);
    let why = "a session over TCP is one connection, and HAProxy has it for HTTP only";
    list.leave_out(settings.prefer_last_server, "option prefer-last-server", why, place);
    list.refuse(settings.transparent, "option transparent", place);
    list.add(settings.checks.http.send_state, "http-check send-state", place);
    list.add(settings.stats.show_modules, "stats show-modules", place);
}

fn server_line(server: &ServerConfig, list: &mut List<'_>) {
    let place = &server.place;
    let options = &server.options;
    server_options(options, place, list);
}

fn server_options(options: &ServerOptions, place: &Place, list: &mut List<'_>) {
    let why = "the handshake would wait for the client's first bytes, and many servers speak first";
    list.leave_out(options.tfo, "tfo", why, place);
    list.refuse(options.namespace.is_some(), "namespace", place);
}
