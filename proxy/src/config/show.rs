//! The model back into words: keys and values that the TOML form reads, named as in haproxy.cfg.

use std::time::Duration;

use super::checks::{CheckConnect, CheckRule, Expect, ExpectPattern, HttpRequest, to_hexadecimal};
use super::haproxy_cfg::quoted;
use super::rules::{Condition, Network, Number, Range, Test};
use super::server::{Source, UseSource};
use super::texts::{Case, Matching, Pattern, Text};
use super::tls::{Sni, TlsParameters};
use super::{Bind, ServerOptions, duration};

/// Keys and values in the order they are written.
pub type Keys = Vec<(String, Value)>;

/// A value of TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// A list of keys that grows by what is set.
#[derive(Debug, Default)]
pub struct Writer {
    /// What was set so far.
    pub keys: Keys,
}

impl Writer {
    /// A key with its value.
    pub fn put(&mut self, key: &str, value: Value) {
        self.keys.push((key.to_owned(), value));
    }

    /// A text that is read as words; one word, so it is quoted where needed.
    pub fn word(&mut self, key: &str, text: &str) {
        self.put(key, Value::Text(quoted(text)));
    }

    /// A text, when there is one.
    pub fn maybe(&mut self, key: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.word(key, text.as_ref());
        }
    }

    /// A flag, when it is not as the base has it.
    pub fn flag(&mut self, key: &str, on: bool, base: bool) {
        if on != base {
            self.put(key, Value::Flag(on));
        }
    }

    /// A number, when it is not as the base has it.
    pub fn number(&mut self, key: &str, number: u32, base: u32) {
        if number != base {
            self.put(key, Value::Number(number.into()));
        }
    }

    /// A number where `None` is written as 0.
    pub fn limit(&mut self, key: &str, number: Option<u32>, base: Option<u32>) {
        self.number(key, number.unwrap_or(0), base.unwrap_or(0));
    }

    /// A time where `None` is written as 0.
    pub fn time(&mut self, key: &str, time: Option<Duration>, base: Option<Duration>) {
        if time != base {
            self.put(key, Value::Text(duration::show(time.unwrap_or_default())));
        }
    }
}

/// The options of a server that differ from `base`.
#[must_use]
pub fn server_options(options: &ServerOptions, base: &ServerOptions) -> Keys {
    let mut out = Writer::default();
    out.flag("check", options.check, base.check);
    if let Some(kind) = options.check_kind.filter(|_| options.check_kind != base.check_kind) {
        out.word("check-kind", kind.word());
    }
    out.time("inter", Some(options.inter), Some(base.inter));
    out.time("fastinter", options.fastinter, base.fastinter);
    out.time("downinter", options.downinter, base.downinter);
    out.number("rise", options.rise, base.rise);
    out.number("fall", options.fall, base.fall);
    out.number("weight", options.weight, base.weight);
    out.flag("backup", options.backup, base.backup);
    out.flag("disabled", options.disabled, base.disabled);
    out.limit("maxconn", options.maxconn, base.maxconn);
    out.limit("minconn", options.minconn, base.minconn);
    out.limit("maxqueue", options.maxqueue, base.maxqueue);
    if options.check_port != base.check_port {
        out.limit("port", options.check_port.map(u32::from), None);
    }
    if options.check_address != base.check_address {
        out.maybe("addr", options.check_address.as_ref().map(ToString::to_string));
    }
    out.flag("check-send-proxy", options.check_send_proxy, base.check_send_proxy);
    out.time("slowstart", options.slowstart, base.slowstart);
    if options.on_marked_down_shutdown_sessions != base.on_marked_down_shutdown_sessions {
        out.word("on-marked-down", "shutdown-sessions");
    }
    if options.on_marked_up_shutdown_backup_sessions != base.on_marked_up_shutdown_backup_sessions {
        out.word("on-marked-up", "shutdown-backup-sessions");
    }
    if let Some(track) = options.track.as_ref().filter(|_| options.track != base.track) {
        let backend = track.backend.as_ref().map_or_else(String::new, |backend| format!("{backend}/"));
        out.word("track", &format!("{backend}{}", track.server));
    }
    if options.observe != base.observe {
        out.word("observe", options.observe.map_or("none", super::server::Observe::word));
    }
    out.number("error-limit", options.error_limit, base.error_limit);
    if options.on_error != base.on_error {
        out.word("on-error", options.on_error.word());
    }
    server_agent(options, base, &mut out);
    server_proxy_protocol(options, base, &mut out);
    server_names(options, base, &mut out);
    if options.tls != base.tls {
        server_tls(options, base, &mut out);
    }
    if let Some(source) = options.source.as_ref().filter(|_| options.source != base.source) {
        out.put("source", Value::Text(self::source(source)));
    }
    out.flag("tfo", options.tfo, base.tfo);
    out.time("tcp-ut", options.tcp_user_timeout, base.tcp_user_timeout);
    if options.namespace != base.namespace {
        out.maybe("namespace", options.namespace.as_ref());
    }
    if options.cookie != base.cookie {
        out.maybe("cookie", options.cookie.as_ref());
    }
    out.keys
}

fn server_agent(options: &ServerOptions, base: &ServerOptions, out: &mut Writer) {
    let (agent, base) = (&options.agent, &base.agent);
    out.flag("agent-check", agent.check, base.check);
    if agent.address != base.address {
        out.maybe("agent-addr", agent.address.as_ref());
    }
    if agent.port != base.port {
        out.limit("agent-port", agent.port.map(u32::from), None);
    }
    out.time("agent-inter", agent.inter, base.inter);
    if agent.send != base.send {
        out.maybe("agent-send", agent.send.as_ref());
    }
}

fn server_proxy_protocol(options: &ServerOptions, base: &ServerOptions, out: &mut Writer) {
    use super::ProxyProtocol::{V1, V2};
    if options.send_proxy != base.send_proxy {
        match options.send_proxy {
            Some(V1) => out.put("send-proxy", Value::Flag(true)),
            Some(V2) => out.put("send-proxy-v2", Value::Flag(true)),
            None => out.put("send-proxy", Value::Flag(false)),
        }
    }
    if options.proxy_v2_options != base.proxy_v2_options {
        out.word("proxy-v2-options", &options.proxy_v2_options.names().join(","));
    }
}

fn server_names(options: &ServerOptions, base: &ServerOptions, out: &mut Writer) {
    if options.init_addr != base.init_addr {
        let methods: Vec<String> = options.init_addr.iter().map(ToString::to_string).collect();
        out.word("init-addr", &methods.join(","));
    }
    if options.resolvers != base.resolvers {
        out.maybe("resolvers", options.resolvers.as_ref());
    }
    if options.resolve_prefer != base.resolve_prefer {
        out.maybe("resolve-prefer", options.resolve_prefer.map(super::server::AddressFamily::word));
    }
    let mut names = Vec::new();
    if options.resolve_allow_dup_ip != base.resolve_allow_dup_ip {
        names.push(if options.resolve_allow_dup_ip { "allow-dup-ip" } else { "prevent-dup-ip" });
    }
    if options.resolve_ignore_weight != base.resolve_ignore_weight {
        names.push("ignore-weight");
    }
    if !names.is_empty() {
        out.word("resolve-opts", &names.join(","));
    }
    if options.resolve_net != base.resolve_net {
        let networks: Vec<String> = options.resolve_net.iter().map(ToString::to_string).collect();
        out.word("resolve-net", &networks.join(","));
    }
}

fn server_tls(options: &ServerOptions, base: &ServerOptions, out: &mut Writer) {
    let (tls, old) = (&options.tls, &base.tls);
    out.flag("ssl", tls.enabled, old.enabled);
    if let Some(check) = tls.check.filter(|_| tls.check != old.check) {
        out.put("check-ssl", Value::Flag(check));
    }
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    for (key, new, old) in [
        (
            "verify",
            tls.verify.map(|verify| verify.word().to_owned()),
            old.verify.map(|v| v.word().to_owned()),
        ),
        ("verifyhost", tls.verifyhost.clone(), old.verifyhost.clone()),
        ("ca-file", path(&tls.ca_file), path(&old.ca_file)),
        ("crl-file", path(&tls.crl_file), path(&old.crl_file)),
        ("crt", path(&tls.crt), path(&old.crt)),
        ("sni", tls.sni.as_ref().map(sni), old.sni.as_ref().map(sni)),
        ("check-sni", tls.check_sni.clone(), old.check_sni.clone()),
        ("alpn", list(&tls.alpn), list(&old.alpn)),
        ("check-alpn", list(&tls.check_alpn), list(&old.check_alpn)),
    ] {
        if new != old {
            out.maybe(key, new);
        }
    }
    out.flag("no-ssl-reuse", tls.no_reuse, old.no_reuse);
    for (key, value) in tls_parameters(&tls.parameters) {
        match value {
            Some(value) => out.word(key, &value),
            None => out.put(key, Value::Flag(true)),
        }
    }
}

fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(","))
}

fn sni(sni: &Sni) -> String {
    match sni {
        Sni::Name(name) => format!("str({name})"),
        Sni::Client => "ssl_fc_sni".to_owned(),
    }
}

/// Words about versions and ciphers, with their values.
#[must_use]
pub fn tls_parameters(parameters: &TlsParameters) -> Vec<(&'static str, Option<String>)> {
    let mut words = Vec::new();
    let mut add = |key, value: Option<String>| {
        if value.is_some() {
            words.push((key, value));
        }
    };
    add("ssl-min-ver", parameters.min_version.map(|version| version.word().to_owned()));
    add("ssl-max-ver", parameters.max_version.map(|version| version.word().to_owned()));
    add("ciphers", parameters.ciphers.clone());
    add("ciphersuites", parameters.ciphersuites.clone());
    add("curves", parameters.curves.clone());
    if parameters.no_tickets {
        words.push(("no-tls-tickets", None));
    }
    words
}

/// What follows `source`.
#[must_use]
pub fn source(source: &Source) -> String {
    let mut text = source.address.to_string();
    if let Some(last) = source.last_port {
        text.push_str(&format!("-{last}"));
    }
    match source.usesrc {
        Some(UseSource::Client) => text.push_str(" usesrc client"),
        Some(UseSource::ClientIp) => text.push_str(" usesrc clientip"),
        Some(UseSource::Address(address)) => text.push_str(&format!(" usesrc {address}")),
        None => {}
    }
    if let Some(interface) = &source.interface {
        text.push_str(&format!(" interface {}", quoted(interface)));
    }
    text
}

/// What follows `bind`.
#[must_use]
pub fn bind(bind: &Bind) -> String {
    let mut words = vec![quoted(&bind.address.to_string())];
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push(format!("{key} {}", quoted(&value)));
        }
    };
    add("name", bind.name.clone());
    add("id", bind.id.map(|id| id.to_string()));
    add("interface", bind.interface.clone());
    add("backlog", bind.backlog.map(|number| number.to_string()));
    add("maxconn", bind.maxconn.map(|number| number.to_string()));
    add("mss", bind.mss.map(|size| size.to_string()));
    add("tcp-ut", bind.tcp_user_timeout.map(duration::show));
    add("namespace", bind.namespace.clone());
    add("mode", bind.unix.mode.map(|mode| format!("{mode:o}")));
    add("user", bind.unix.user.clone());
    add("uid", bind.unix.uid.map(|id| id.to_string()));
    add("group", bind.unix.group.clone());
    add("gid", bind.unix.gid.map(|id| id.to_string()));
    for (on, word) in [
        (bind.v6only == Some(true), "v6only"),
        (bind.v6only == Some(false), "v4v6"),
        (bind.transparent, "transparent"),
        (bind.accept_proxy, "accept-proxy"),
        (bind.defer_accept, "defer-accept"),
        (bind.tfo, "tfo"),
    ] {
        if on {
            words.push(word.to_owned());
        }
    }
    if let Some(tls) = &bind.tls {
        words.push("ssl".to_owned());
        let mut file = |key: &str, file: &std::path::Path| {
            words.push(format!("{key} {}", quoted(&file.display().to_string())));
        };
        tls.crt.iter().for_each(|path| file("crt", path));
        tls.crt_list.iter().for_each(|path| file("crt-list", path));
        tls.ca_file.iter().for_each(|path| file("ca-file", path));
        tls.crl_file.iter().for_each(|path| file("crl-file", path));
        words.push(format!("verify {}", tls.verify.word()));
        if let Some(alpn) = list(&tls.alpn) {
            words.push(format!("alpn {}", quoted(&alpn)));
        }
        if tls.strict_sni {
            words.push("strict-sni".to_owned());
        }
        if tls.prefer_client_ciphers {
            words.push("prefer-client-ciphers".to_owned());
        }
        for (key, value) in tls_parameters(&tls.parameters) {
            words.push(value.map_or_else(|| key.to_owned(), |value| format!("{key} {}", quoted(&value))));
        }
    }
    words.join(" ")
}

/// `[if|unless ...]`; empty when there is nothing to test.
#[must_use]
pub fn condition(condition: &Condition) -> String {
    if condition.groups.is_empty() {
        return String::new();
    }
    let groups: Vec<String> = condition
        .groups
        .iter()
        .map(|group| {
            let terms = group.iter().map(|term| {
                let not = if term.negated { "!" } else { "" };
                match &term.name {
                    Some(name) => format!("{not}{}", quoted(name)),
                    None => format!("{not}{{ {} }}", term.tests.first().map_or_else(String::new, test)),
                }
            });
            terms.collect::<Vec<_>>().join(" ")
        })
        .collect();
    format!("{} {}", if condition.negated { "unless" } else { "if" }, groups.join(" || "))
}

/// What follows an acl's name.
#[must_use]
pub fn test(test: &Test) -> String {
    match test {
        Test::Source(networks) => format!("src{}", show_networks(networks)),
        Test::Destination(networks) => format!("dst{}", show_networks(networks)),
        Test::SourcePort(ranges) => format!("src_port{}", show_ranges(ranges)),
        Test::DestinationPort(ranges) => format!("dst_port{}", show_ranges(ranges)),
        Test::Number(what, ranges) => format!("{}{}", number(what), show_ranges(ranges)),
        Test::Text(what, matching) => text(*what, matching),
        Test::WaitEnd => "wait_end".to_owned(),
        Test::Constant(true) => "always_true".to_owned(),
        Test::Constant(false) => "always_false".to_owned(),
        Test::Unsupported(what) => quoted(what),
    }
}

fn text(what: Text, matching: &Matching) -> String {
    let mut out = what.word().to_owned();
    match matching.case {
        Some(Case::Lower) => out.push_str(",lower"),
        Some(Case::Upper) => out.push_str(",upper"),
        None => {}
    }
    if matching.ignore_case {
        out.push_str(" -i");
    }
    out.push_str(&format!(" -m {} --", matching.method.word()));
    for value in &matching.values {
        match value {
            Pattern::Text(text) => out.push_str(&format!(" {}", quoted(text))),
            Pattern::Length(range) => out.push_str(&show_range(*range)),
            Pattern::Regex(regex) => {
                // The flag is written by `-i`.
                let text = regex.as_str();
                let text =
                    if matching.ignore_case { text.strip_prefix("(?i)").unwrap_or(text) } else { text };
                out.push_str(&format!(" {}", quoted(text)));
            }
        }
    }
    out
}

fn show_networks(networks: &[Network]) -> String {
    networks.iter().map(|network| format!(" {network}")).collect()
}

fn show_ranges(ranges: &[Range]) -> String {
    // So that a negative number is not taken for a flag.
    let dashes = if ranges.first().is_some_and(|range| range.low < 0) { " --" } else { "" };
    format!("{dashes}{}", ranges.iter().map(|range| show_range(*range)).collect::<String>())
}

fn show_range(range: Range) -> String {
    match (range.low, range.high) {
        (low, high) if low == high => format!(" {low}"),
        (i64::MIN, i64::MAX) => " :".to_owned(),
        (i64::MIN, high) => format!(" :{high}"),
        (low, i64::MAX) => format!(" {low}:"),
        (low, high) => format!(" {low}:{high}"),
    }
}

fn number(what: &Number) -> String {
    let of = |name: &str, section: &Option<String>| match section {
        Some(section) => quoted(&format!("{name}({section})")),
        None => name.to_owned(),
    };
    let of_server = |name: &str, section: &Option<String>, server: &str| {
        let section = section.as_ref().map_or_else(String::new, |section| format!("{section}/"));
        quoted(&format!("{name}({section}{server})"))
    };
    match what {
        Number::UsableServers(section) => of("nbsrv", section),
        Number::ServerIsUp(section, server) => of_server("srv_is_up", section, server),
        Number::ServerSessions(section, server) => of_server("srv_conn", section, server),
        Number::FrontendSessions(section) => of("fe_conn", section),
        Number::FrontendRate(section) => of("fe_sess_rate", section),
        Number::BackendSessions(section) => of("be_conn", section),
        Number::BackendRate(section) => of("be_sess_rate", section),
        Number::Pending(section) => of("queue", section),
        Number::AveragePending(section) => of("avg_queue", section),
        Number::FreePlaces(section) => of("connslots", section),
        Number::ListenerSessions => "dst_conn".to_owned(),
        Number::ListenerId => "so_id".to_owned(),
        Number::SpeaksTls => "ssl_fc".to_owned(),
        Number::ContentLength => "req.len".to_owned(),
        Number::HelloType => "req.ssl_hello_type".to_owned(),
    }
}

/// What follows `tcp-check` or `http-check`.
#[must_use]
pub fn check_rule(rule: &CheckRule, is_http: bool) -> String {
    let with_comment = |text: String, comment: &Option<String>| match comment {
        Some(comment) => format!("{text} comment {}", quoted(comment)),
        None => text,
    };
    match rule {
        CheckRule::Connect(connect) => with_comment(check_connect(connect), &connect.comment),
        CheckRule::Send { data, comment } => {
            // Bytes that are no text go as digits.
            let text = match std::str::from_utf8(data) {
                Ok(text) => format!("send {}", quoted(text)),
                Err(_) => format!("send-binary {}", to_hexadecimal(data)),
            };
            with_comment(text, comment)
        }
        CheckRule::Request { request, comment } => with_comment(http_request(request), comment),
        CheckRule::Expect(expect) => check_expect(expect, is_http),
        CheckRule::Comment(text) => format!("comment {}", quoted(text)),
    }
}

fn check_connect(connect: &CheckConnect) -> String {
    let mut text = "connect".to_owned();
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {}", quoted(&value)));
        }
    };
    add("port", connect.port.map(|port| port.to_string()));
    add("addr", connect.address.as_ref().map(ToString::to_string));
    add("sni", connect.sni.clone());
    add("alpn", list(&connect.alpn));
    for (on, word) in [
        (connect.default, " default"),
        (connect.ssl, " ssl"),
        (connect.send_proxy, " send-proxy"),
        (connect.linger, " linger"),
    ] {
        if on {
            text.push_str(word);
        }
    }
    text
}

fn http_request(request: &HttpRequest) -> String {
    let mut text = "send".to_owned();
    let mut add = |word: &str, value: &Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {}", quoted(value)));
        }
    };
    add("meth", &request.method);
    add("uri", &request.uri);
    add("ver", &request.version);
    add("body", &request.body);
    for (name, value) in &request.headers {
        text.push_str(&format!(" hdr {} {}", quoted(name), quoted(value)));
    }
    text
}

fn check_expect(expect: &Expect, is_http: bool) -> String {
    let mut text = "expect".to_owned();
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {}", quoted(&value)));
        }
    };
    add("min-recv", expect.min_recv.map(|bytes| bytes.to_string()));
    add("comment", expect.comment.clone());
    add("on-success", expect.on_success.clone());
    add("on-error", expect.on_error.clone());
    add("ok-status", expect.ok_status.map(|status| status.word().to_owned()));
    add("error-status", expect.error_status.map(|status| status.word().to_owned()));
    add("tout-status", expect.tout_status.map(|status| status.word().to_owned()));
    if expect.negated {
        text.push_str(" !");
    }
    let pattern = match &expect.pattern {
        ExpectPattern::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(string) => format!(" string {}", quoted(string)),
            Err(_) if is_http => format!(" string {}", quoted(&String::from_utf8_lossy(bytes))),
            Err(_) => format!(" binary {}", to_hexadecimal(bytes)),
        },
        ExpectPattern::Regex(regex) => format!(" rstring {}", quoted(regex)),
        ExpectPattern::BinaryRegex(regex) => format!(" rbinary {}", quoted(regex)),
        ExpectPattern::StatusRegex(regex) => format!(" rstatus {}", quoted(regex)),
        ExpectPattern::Status(ranges) => {
            let ranges: Vec<String> = ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
            format!(" status {}", ranges.join(","))
        }
    };
    text + &pattern
}
