//! Sections of the model back into keys of the TOML form; see [`super::show`].

use super::checks::{CheckSettings, HttpRequest};
use super::haproxy_cfg::{quoted, show_algorithm, show_log_sink, show_rate};
use super::settings::Keepalive;
use super::show::{self, Keys, Value, Writer};
use super::{
    CheckKind, Config, Global, HashMethod, LogSink, Mode, ProxyConfig, Resolvers, ServerStateFile, Settings,
    StatsAdmin, StatsConfig, Userlist, duration,
};

/// What `[global]` says.
#[must_use]
pub fn global(global: &Global) -> Keys {
    let mut out = Writer::default();
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    out.limit("maxconn", global.maxconn, None);
    if let Some(threads) = global.nbthread {
        out.put("threads", Value::Number(i64::try_from(threads).unwrap_or(1)));
    }
    if let Some(files) = global.ulimit_n {
        out.put("open_files", Value::Number(i64::try_from(files).unwrap_or(i64::MAX)));
    }
    for (key, text) in [
        ("user", global.user.clone()),
        ("group", global.group.clone()),
        ("chroot", path(&global.chroot)),
        ("pidfile", path(&global.pidfile)),
        ("log_tag", global.log_tag.clone()),
        ("node", global.node.clone()),
        ("description", global.description.clone()),
    ] {
        if let Some(text) = text {
            out.put(key, Value::Text(text));
        }
    }
    for (key, id) in [("uid", global.uid), ("gid", global.gid)] {
        if let Some(id) = id {
            out.put(key, Value::Number(id.into()));
        }
    }
    out.flag("background", global.daemon, false);
    if !global.logs.is_empty() {
        out.put("log", Value::List(global.logs.iter().map(show_log_sink).collect()));
    }
    out.number("spread_checks", global.spread_checks, 0);
    if let Some(time) = global.hard_stop_after {
        out.put("hard_stop_after", Value::Text(duration::show(time)));
    }
    global_words(global, &mut out);
    out.keys
}

/// What are words of haproxy.cfg.
fn global_words(global: &Global, out: &mut Writer) {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    for (key, text) in [
        ("localpeer", global.localpeer.clone()),
        ("log-send-hostname", global.log_send_hostname.clone()),
        ("max-spread-checks", global.max_spread_checks.map(duration::show)),
        ("grace", global.grace.map(duration::show)),
        ("close-spread-time", global.close_spread_time.map(duration::show)),
        ("server-state-base", path(&global.server_state_base)),
        ("server-state-file", path(&global.server_state_file)),
        ("runtime-servers-file", path(&global.runtime_servers_file)),
        ("ca-base", path(&global.ca_base)),
        ("crt-base", path(&global.crt_base)),
    ] {
        // An empty host name is the word by itself.
        match text {
            Some(text) if text.is_empty() => out.put(key, Value::Flag(true)),
            text => out.maybe(key, text),
        }
    }
    for (key, limit) in [
        ("maxconnrate", global.maxconnrate),
        ("maxsessrate", global.maxsessrate),
        ("maxsslconn", global.maxsslconn),
        ("maxsslrate", global.maxsslrate),
        ("maxpipes", global.maxpipes),
        ("tune.bufsize", global.tune.bufsize),
        ("tune.maxaccept", global.tune.maxaccept),
        ("tune.pipesize", global.tune.pipesize),
        ("tune.rcvbuf.client", global.tune.rcvbuf_client),
        ("tune.rcvbuf.server", global.tune.rcvbuf_server),
        ("tune.sndbuf.client", global.tune.sndbuf_client),
        ("tune.sndbuf.server", global.tune.sndbuf_server),
    ] {
        out.limit(key, limit, None);
    }
    for (key, on) in [
        ("nosplice", global.nosplice),
        ("noreuseport", global.noreuseport),
        ("master-worker", global.master_worker),
        ("external-check", global.external_check),
        ("quiet", global.quiet),
        ("zero-warning", global.zero_warning),
    ] {
        out.flag(key, on, false);
    }
    let off = [("strict-limits", global.strict_limits), ("numa-cpu-mapping", global.bind_threads)];
    let off: Vec<String> = off.into_iter().filter(|(_, on)| !on).map(|(word, _)| word.to_owned()).collect();
    if !off.is_empty() {
        out.put("no", Value::List(off));
    }
    stats_sockets(global, &Global::default(), out);
    tls_defaults(global, out);
    unix_bind(global, out);
}

fn stats_sockets(global: &Global, base: &Global, out: &mut Writer) {
    let mut lines = Vec::new();
    for socket in &global.stats_sockets {
        let expose = if socket.expose_fd { " expose-fd listeners" } else { "" };
        lines.push(format!("socket {} level {}{expose}", show::bind(&socket.bind), socket.level.word()));
    }
    if global.stats_timeout != base.stats_timeout {
        lines.push(format!("timeout {}", duration::show(global.stats_timeout)));
    }
    if global.stats_maxconn != base.stats_maxconn {
        lines.push(format!("maxconn {}", global.stats_maxconn));
    }
    if !lines.is_empty() {
        out.put("stats", Value::List(lines));
    }
}

fn tls_defaults(global: &Global, out: &mut Writer) {
    for (side, parameters) in [("bind", &global.tls.bind), ("server", &global.tls.server)] {
        let mut options = Vec::new();
        for (word, value) in show::tls_parameters(parameters) {
            match (word, value) {
                ("ciphers" | "ciphersuites" | "curves", Some(value)) => {
                    // Curves of servers have no word of their own in 2.6.
                    out.word(&format!("ssl-default-{side}-{word}"), &value);
                }
                (word, Some(value)) => options.push(format!("{word} {value}")),
                (word, None) => options.push(word.to_owned()),
            }
        }
        if !options.is_empty() {
            out.put(&format!("ssl-default-{side}-options"), Value::Text(options.join(" ")));
        }
    }
    if global.tls.server_verify_none {
        out.word("ssl-server-verify", "none");
    }
}

fn unix_bind(global: &Global, out: &mut Writer) {
    let unix = &global.unix_bind;
    let words: Vec<String> = [
        ("prefix", global.unix_bind_prefix.clone()),
        ("mode", unix.mode.map(|mode| format!("{mode:o}"))),
        ("user", unix.user.clone()),
        ("uid", unix.uid.map(|id| id.to_string())),
        ("group", unix.group.clone()),
        ("gid", unix.gid.map(|id| id.to_string())),
    ]
    .into_iter()
    .filter_map(|(word, value)| value.map(|value| format!("{word} {}", quoted(&value))))
    .collect();
    if !words.is_empty() {
        out.put("unix-bind", Value::Text(words.join(" ")));
    }
}

/// What a section (or `[defaults]`) says where it differs from `base`; its servers apart.
#[must_use]
pub fn settings(settings: &Settings, base: &Settings) -> Keys {
    let mut out = Writer::default();
    if settings.mode == Mode::Http {
        out.word("mode", "http");
    }
    if settings.balance != base.balance {
        out.put("balance", Value::Text(show_algorithm(settings.balance)));
    }
    hash(settings, base, &mut out);
    let (new, old) = (&settings.timeouts, &base.timeouts);
    for (key, new, old) in [
        ("timeout.connect", new.connect, old.connect),
        ("timeout.client", new.client, old.client),
        ("timeout.server", new.server, old.server),
        ("timeout.check", new.check, old.check),
        ("timeout.queue", new.queue, old.queue),
        ("timeout.tunnel", new.tunnel, old.tunnel),
        ("timeout.client_fin", new.client_fin, old.client_fin),
        ("timeout.server_fin", new.server_fin, old.server_fin),
    ] {
        out.time(key, new, old);
    }
    out.number("retries", settings.retries, base.retries);
    if settings.redispatch != base.redispatch {
        let value = settings.redispatch.map_or(Value::Flag(false), |every| Value::Number(every.into()));
        out.put("redispatch", value);
    }
    out.limit("maxconn", settings.maxconn, base.maxconn);
    out.limit("fullconn", settings.fullconn, base.fullconn);
    out.limit("backlog", settings.backlog, base.backlog);
    if settings.rate_limit_sessions != base.rate_limit_sessions {
        let rate = settings.rate_limit_sessions.unwrap_or(0);
        out.put("rate-limit", Value::Text(format!("sessions {rate}")));
    }
    if let Some(source) = &settings.source {
        out.put("source", Value::Text(show::source(source)));
    }
    logging(settings, base, &mut out);
    keepalive(settings, base, &mut out);
    out.flag("all_backups", settings.allbackups, base.allbackups);
    out.flag("splice", settings.splice, base.splice);
    options(settings, &mut out);
    checks(settings, &mut out);
    if settings.server_state != ServerStateFile::None {
        out.word("load-server-state-from-file", settings.server_state.word());
    }
    out.maybe("server-state-file-name", settings.server_state_file_name.as_ref());
    if let Some((name, _)) = &settings.default_backend {
        out.put("default_backend", Value::Text(name.clone()));
    }
    if let Some(text) = &settings.description {
        out.put("description", Value::Text(text.clone()));
    }
    out.flag("disabled", settings.disabled, base.disabled);
    stats(&settings.stats, &mut out);
    out.keys
}

fn hash(settings: &Settings, base: &Settings, out: &mut Writer) {
    if settings.hash_type != base.hash_type {
        let hash = &settings.hash_type;
        let method = match hash.method {
            HashMethod::MapBased => "map-based",
            HashMethod::Consistent => "consistent",
        };
        let avalanche = if hash.avalanche { " avalanche" } else { "" };
        out.put("hash-type", Value::Text(format!("{method} {}{avalanche}", hash.function.word())));
    }
    out.number("hash-balance-factor", settings.hash_balance_factor, base.hash_balance_factor);
}

fn logging(settings: &Settings, base: &Settings, out: &mut Writer) {
    if settings.logs != base.logs || settings.log_global != base.log_global {
        let global = settings.log_global.then(|| "global".to_owned());
        out.put("log", Value::List(global.into_iter().chain(sinks(&settings.logs)).collect()));
    }
    out.maybe("log-tag", settings.log_tag.as_ref());
    out.flag("log_connections", settings.tcplog, base.tcplog);
    out.flag("log_empty", !settings.dontlognull, !base.dontlognull);
    out.flag("log_checks", settings.log_health_checks, base.log_health_checks);
    out.maybe("log-format", settings.logging.format.as_ref());
    out.maybe("log-format-sd", settings.logging.format_sd.as_ref());
    out.maybe("error-log-format", settings.logging.error_format.as_ref());
}

fn sinks(logs: &[LogSink]) -> impl Iterator<Item = String> {
    logs.iter().map(show_log_sink)
}

fn keepalive(settings: &Settings, base: &Settings, out: &mut Writer) {
    let both = settings.client_keepalive && settings.server_keepalive;
    if !both && (base.client_keepalive || base.server_keepalive) {
        out.put("keepalive", Value::Flag(false));
    } else {
        out.flag("keepalive", both, base.client_keepalive && base.server_keepalive);
    }
    for (side, times) in
        [("cli", &settings.client_keepalive_times), ("srv", &settings.server_keepalive_times)]
    {
        let Keepalive { count, idle, interval } = times;
        out.limit(&format!("{side}tcpka-cnt"), *count, None);
        out.maybe(&format!("{side}tcpka-idle"), idle.map(duration::show));
        out.maybe(&format!("{side}tcpka-intvl"), interval.map(duration::show));
    }
}

fn options(settings: &Settings, out: &mut Writer) {
    let mut list: Vec<String> = [
        ("clitcpka", settings.client_keepalive && !settings.server_keepalive),
        ("srvtcpka", settings.server_keepalive && !settings.client_keepalive),
        ("httplog", settings.httplog),
        ("contstats", settings.contstats),
        ("socket-stats", settings.socket_stats),
        ("abortonclose", settings.abortonclose),
        ("nolinger", settings.nolinger),
        ("tcp-smart-accept", settings.tcp_smart_accept),
        ("tcp-smart-connect", settings.tcp_smart_connect),
        ("independent-streams", settings.independent_streams),
        ("prefer-last-server", settings.prefer_last_server),
        ("transparent", settings.transparent),
        ("persist", settings.persist),
        ("dontlog-normal", settings.logging.dontlog_normal),
        ("logasap", settings.logging.logasap),
        ("log-separate-errors", settings.logging.separate_errors),
        ("fail-open", settings.fail_open),
    ]
    .into_iter()
    .filter(|(_, on)| *on)
    .map(|(name, _)| name.to_owned())
    .collect();
    if let Some(rebalance) = &settings.rebalance {
        let mut text = format!("rebalance {}", show_rate(rebalance));
        for (on, word) in [(rebalance.on_drain, " drain"), (rebalance.on_return, " return")] {
            text.push_str(if on { word } else { "" });
        }
        list.push(text);
    }
    list.extend(check_options(settings));
    if !list.is_empty() {
        out.put("option", Value::List(list));
    }
}

/// `option *-check` lines: those that only carry parameters first, the one that holds last.
fn check_options(settings: &Settings) -> Vec<String> {
    let base = CheckSettings::default();
    let checks = &settings.checks;
    let line = |kind: CheckKind| -> Option<String> {
        Some(match kind {
            CheckKind::Tcp => return None,
            CheckKind::Script => "tcp-check".to_owned(),
            CheckKind::Amqp => "amqp-check".to_owned(),
            CheckKind::Redis => "redis-check".to_owned(),
            CheckKind::Ldap => "ldap-check".to_owned(),
            CheckKind::SslHello => "ssl-hello-chk".to_owned(),
            CheckKind::External => "external-check".to_owned(),
            CheckKind::Http => format!("httpchk{}", httpchk(&checks.http.request)),
            CheckKind::Mysql => match &checks.mysql.user {
                Some(user) => {
                    let version = if checks.mysql.pre_41 { " pre-41" } else { "" };
                    format!("mysql-check user {}{version}", quoted(user))
                }
                None => "mysql-check".to_owned(),
            },
            CheckKind::Pgsql => format!("pgsql-check user {}", quoted(&checks.pgsql_user)),
            CheckKind::Smtp => {
                format!("smtpchk {} {}", quoted(&checks.smtp.hello), quoted(&checks.smtp.domain))
            }
        })
    };
    let mut list = Vec::new();
    for (kind, is_set) in [
        (CheckKind::Http, checks.http.request != base.http.request),
        (CheckKind::Mysql, checks.mysql != base.mysql),
        (CheckKind::Pgsql, checks.pgsql_user != base.pgsql_user),
        (CheckKind::Smtp, checks.smtp != base.smtp),
    ] {
        if is_set && settings.check != kind {
            list.extend(line(kind));
        }
    }
    list.extend(line(settings.check));
    list
}

fn httpchk(request: &HttpRequest) -> String {
    let Some(uri) = &request.uri else { return String::new() };
    let Some(method) = &request.method else { return format!(" {}", quoted(uri)) };
    let mut version = request.version.clone().unwrap_or_default();
    for (name, value) in &request.headers {
        version.push_str(&format!("\r\n{name}: {value}"));
    }
    if let Some(body) = &request.body {
        version.push_str(&format!("\r\n\r\n{body}"));
    }
    let version = if version.is_empty() { String::new() } else { format!(" {}", quoted(&version)) };
    format!(" {} {}{version}", quoted(method), quoted(uri))
}

fn checks(settings: &Settings, out: &mut Writer) {
    let checks = &settings.checks;
    if settings.check == CheckKind::Tcp && !check_options(settings).is_empty() {
        out.put("no", Value::Text("option tcp-check".to_owned()));
    }
    let rules = |rules: &[super::checks::CheckRule], is_http| {
        rules.iter().map(move |rule| show::check_rule(rule, is_http)).collect::<Vec<_>>()
    };
    if !checks.tcp_rules.is_empty() {
        out.put("tcp-check", Value::List(rules(&checks.tcp_rules, false)));
    }
    let mut http = rules(&checks.http.rules, true);
    for (on, word) in [(checks.http.disable_on_404, "disable-on-404"), (checks.http.send_state, "send-state")]
    {
        http.extend(on.then(|| word.to_owned()));
    }
    if !http.is_empty() {
        out.put("http-check", Value::List(http));
    }
    let external: Vec<String> = [("command", &checks.external.command), ("path", &checks.external.path)]
        .into_iter()
        .filter_map(|(word, value)| value.as_ref().map(|value| format!("{word} {}", quoted(value))))
        .collect();
    if !external.is_empty() {
        out.put("external-check", Value::List(external));
    }
}

fn stats(stats: &StatsConfig, out: &mut Writer) {
    let base = StatsConfig::default();
    if stats.prometheus {
        out.put(
            "http-request",
            Value::Text("use-service prometheus-exporter if { path /metrics }".to_owned()),
        );
    }
    if !stats.enabled {
        return;
    }
    let mut lines = vec!["enable".to_owned()];
    if stats.uri != base.uri {
        lines.push(format!("uri {}", quoted(&stats.uri)));
    }
    lines.extend(stats.refresh.map(|time| format!("refresh {}", duration::show(time))));
    lines.extend(
        stats.auth.iter().map(|(user, password)| format!("auth {}", quoted(&format!("{user}:{password}")))),
    );
    lines.extend(stats.realm.as_ref().map(|realm| format!("realm {}", quoted(realm))));
    lines.extend(stats.scope.iter().map(|scope| format!("scope {}", quoted(scope))));
    for (on, word) in [
        (stats.hide_version, "hide-version"),
        (stats.show_legends, "show-legends"),
        (stats.show_modules, "show-modules"),
    ] {
        lines.extend(on.then(|| word.to_owned()));
    }
    for (word, value) in [("show-node", &stats.show_node), ("show-desc", &stats.show_desc)] {
        if let Some(value) = value {
            let text = value.as_ref().map_or_else(String::new, |text| format!(" {}", quoted(text)));
            lines.push(format!("{word}{text}"));
        }
    }
    match &stats.admin {
        StatsAdmin::Never => {}
        StatsAdmin::Always => lines.push("admin if TRUE".to_owned()),
        StatsAdmin::Localhost => lines.push("admin if LOCALHOST".to_owned()),
        StatsAdmin::If(condition) => lines.push(format!("admin {}", show::condition(condition))),
    }
    out.put("stats", Value::List(lines));
}

/// What a section says beside its settings and servers.
#[must_use]
pub fn section(proxy: &ProxyConfig) -> Keys {
    let mut out = Writer::default();
    let mut lines = |key: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.put(key, Value::List(lines));
        }
    };
    let tests = |acl: &super::rules::Acl| {
        let name = quoted(&acl.name);
        acl.tests.iter().map(|test| format!("{name} {}", show::test(test))).collect::<Vec<_>>()
    };
    lines("bind", proxy.binds.iter().map(show::bind).collect());
    lines("acl", proxy.acls.iter().flat_map(tests).collect());
    let when = |condition| format!(" {}", show::condition(condition)).trim_end().to_owned();
    let client = proxy.client_rules.iter().map(|rule| {
        let action = match rule.action {
            super::rules::ClientAction::ExpectProxy => "expect-proxy layer4",
            other => other.word(),
        };
        format!("{} {action}{}", rule.stage.word(), when(&rule.condition))
    });
    let delay = proxy.inspect_delay.map(|delay| format!("inspect-delay {}", duration::show(delay)));
    lines("tcp-request", delay.into_iter().chain(client).collect());
    let backends = proxy.backend_rules.iter();
    lines("use_backend", backends.map(|rule| quoted(&rule.backend) + &when(&rule.condition)).collect());
    let servers = proxy.server_rules.iter();
    lines("use-server", servers.map(|rule| quoted(&rule.server) + &when(&rule.condition)).collect());
    out.keys
}

/// What a `resolvers` section says.
#[must_use]
pub fn resolvers(resolvers: &Resolvers) -> Keys {
    let base = Resolvers::new("", super::Place::default());
    let mut out = Writer::default();
    let servers = resolvers.nameservers.iter().map(|server| {
        format!("{} {}{}", quoted(&server.name), if server.tcp { "tcp@" } else { "" }, server.address)
    });
    out.put("nameserver", Value::List(servers.collect()));
    out.flag("parse-resolv-conf", resolvers.parse_resolv_conf, false);
    out.number("resolve_retries", resolvers.resolve_retries, base.resolve_retries);
    let timeouts = vec![
        format!("resolve {}", duration::show(resolvers.timeout_resolve)),
        format!("retry {}", duration::show(resolvers.timeout_retry)),
    ];
    out.put("timeout", Value::List(timeouts));
    out.number(
        "accepted_payload_size",
        resolvers.accepted_payload_size.into(),
        base.accepted_payload_size.into(),
    );
    let hold = &resolvers.hold;
    let times = [
        ("valid", hold.valid),
        ("obsolete", hold.obsolete),
        ("nx", hold.nx),
        ("timeout", hold.timeout),
        ("refused", hold.refused),
        ("other", hold.other),
    ];
    out.put(
        "hold",
        Value::List(times.map(|(name, time)| format!("{name} {}", duration::show(time))).to_vec()),
    );
    out.keys
}

/// What a `userlist` section says.
#[must_use]
pub fn userlist(list: &Userlist) -> Keys {
    use super::sections::Password;
    let mut out = Writer::default();
    let groups = list.groups.iter().map(|(name, users)| {
        let users =
            if users.is_empty() { String::new() } else { format!(" users {}", quoted(&users.join(","))) };
        format!("{}{users}", quoted(name))
    });
    out.put("group", Value::List(groups.collect()));
    let users = list.users.iter().map(|user| {
        let password = match &user.password {
            Some(Password::Plain(text)) => format!(" insecure-password {}", quoted(text)),
            Some(Password::Crypt(text)) => format!(" password {}", quoted(text)),
            None => String::new(),
        };
        format!("{}{password}", quoted(&user.name))
    });
    out.put("user", Value::List(users.collect()));
    out.keys
}

/// Sections by the numbers they would have by themselves, `id` set or not.
pub(super) fn natural_id(config: &Config, index: usize) -> u32 {
    let before = index + usize::from(!config.global.stats_sockets.is_empty());
    u32::try_from(before).unwrap_or(u32::MAX - 1) + 1
}
