//! `defaults`, `listen`, `frontend` and `backend` sections.

use daemon::diagnostic::Severity;

use super::args::Args;
use super::lexer::Word;
use super::{bind, log, rules, server, stats, vocabulary};
use crate::config::{Algorithm, CheckKind, Kind, Mode, ProxyConfig, Settings};

/// A line of a `listen`, `frontend` or `backend` section.
pub(super) fn directive(keyword: &Word, args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let kind = proxy.kind;
    match keyword.text.as_str() {
        "bind" if proxy.has_frontend() => bind::directive(args, proxy),
        "bind" => misplaced(keyword, args, "a backend does not accept connections; use listen or frontend"),
        "server" if proxy.has_backend() => server::directive(args, proxy),
        "server" => misplaced(keyword, args, "a frontend has no servers; use listen or backend"),
        "acl" => rules::acl(args, proxy),
        "tcp-request" if proxy.settings.mode == Mode::Tcp => rules::tcp_request(keyword, args, proxy),
        "use_backend" if proxy.settings.mode == Mode::Tcp && proxy.has_frontend() => {
            rules::use_backend(args, proxy);
        }
        "server-template" | "use-server" | "source" => refused(keyword, args, "not supported yet"),
        "id" => {
            if let Some(id) = args.number32("a number", 1, i32::MAX as u32) {
                proxy.id = id;
            }
        }
        _ => settings_directive(keyword, args, &mut proxy.settings, Some(kind)),
    }
}

/// A line that may also stand in `defaults` (then `kind` is `None`).
pub(super) fn settings_directive(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    settings: &mut Settings,
    kind: Option<Kind>,
) {
    match keyword.text.as_str() {
        "mode" => mode(args, settings),
        "balance" => balance(args, settings),
        "default-server" => {
            if server::read_options(args, &mut settings.default_server).is_none() {
                args.skip_rest();
            }
        }
        "timeout" => timeout(keyword, args, settings),
        "clitimeout" | "contimeout" | "srvtimeout" => old_timeout(keyword, args, settings),
        "retries" => settings.retries = args.number32("a number", 0, 1_000).unwrap_or(settings.retries),
        "maxconn" => {
            settings.maxconn = args.number32("a number of connections", 0, 10_000_000).filter(|n| *n > 0);
        }
        "fullconn" => settings.fullconn = args.number32("a number of connections", 1, 10_000_000),
        "option" => option(args, settings, true),
        "no" => negation(args, settings),
        "log" if args.take("global") => settings.log_global = true,
        "log" => settings.logs.extend(log::directive(args)),
        "default_backend" => {
            if let Some(name) = args.value("the name of a backend") {
                settings.default_backend = Some((name.text.clone(), args.place(name)));
            }
        }
        "stats" => stats::directive(args, &mut settings.stats),
        "description" => {
            let mut words = Vec::new();
            while let Some(word) = args.next() {
                words.push(word.text.as_str());
            }
            settings.description = Some(words.join(" "));
        }
        "disabled" => settings.disabled = true,
        "enabled" => settings.disabled = false,
        "log-tag" | "acl" => args.skip_rest(),
        "tcp-check" | "http-check" => check_rule(keyword, args),
        "use_backend" | "tcp-request" | "tcp-response" => rule(keyword, args, settings),
        word if vocabulary::PROXY_HTTP.contains(&word) => {
            http_only(keyword, args, settings.mode, word);
        }
        word if vocabulary::PROXY_TUNING.contains(&word) => {
            args.warn(
                keyword,
                "not-used",
                format!("`{word}` is not supported yet; the line is read over"),
                "",
            );
            args.skip_rest();
        }
        "bind" | "server" | "use-server" | "server-template" if kind.is_none() => {
            misplaced(keyword, args, "it cannot stand in defaults");
        }
        _ => {
            args.unknown(
                keyword,
                "word in this section",
                &[vocabulary::PROXY, vocabulary::PROXY_HTTP, vocabulary::PROXY_TUNING, vocabulary::SECTIONS],
            );
            args.skip_rest();
        }
    }
}

fn mode(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("tcp or http") else { return };
    match word.text.as_str() {
        "tcp" => settings.mode = Mode::Tcp,
        "http" => settings.mode = Mode::Http,
        "health" => args.error(word, "not-supported", "mode health was removed from HAProxy 2", ""),
        _ => args.unknown(word, "mode", &[&["tcp", "http"]]),
    }
}

const ALGORITHMS: &[&str] = &["roundrobin", "static-rr", "leastconn", "first", "source", "random"];

fn balance(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("an algorithm, e.g. roundrobin") else { return };
    settings.balance = match parse_algorithm(&word.text) {
        Some(algorithm) => algorithm,
        None if ["uri", "url_param", "hdr", "rdp-cookie", "hash"]
            .iter()
            .any(|name| word.text.starts_with(name)) =>
        {
            args.skip_rest();
            let message =
                format!("`balance {}` looks into requests, which a TCP balancer does not do", word.text);
            args.error(word, "not-supported", message, "use source or roundrobin");
            return;
        }
        None => {
            args.unknown(word, "algorithm", &[ALGORITHMS]);
            return;
        }
    };
}

/// Reads a balancing algorithm by HAProxy's word, `random(3)` included.
#[must_use]
pub fn parse_algorithm(text: &str) -> Option<Algorithm> {
    Some(match text {
        "roundrobin" => Algorithm::RoundRobin,
        "static-rr" => Algorithm::StaticRoundRobin,
        "leastconn" => Algorithm::LeastConn,
        "first" => Algorithm::First,
        "source" => Algorithm::Source,
        "random" => Algorithm::Random(2),
        _ => {
            let draws = text.strip_prefix("random(")?.strip_suffix(')')?.parse().ok()?;
            return (1..=32).contains(&draws).then_some(Algorithm::Random(draws));
        }
    })
}

fn timeout(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(which) = args.value("a name and a time") else { return };
    let name = which.text.as_str();
    if vocabulary::TIMEOUTS_HTTP.contains(&name) {
        args.value("a time");
        if settings.mode == Mode::Tcp {
            args.warn(
                keyword,
                "http-only",
                format!("`timeout {name}` only concerns HTTP; it has no effect here"),
                "",
            );
        }
        return;
    }
    // Old names of HAProxy 1.x.
    let name = match name {
        "clitimeout" => "client",
        "srvtimeout" => "server",
        "contimeout" => "connect",
        name => name,
    };
    if !vocabulary::TIMEOUTS.contains(&name) {
        args.unknown(which, "timeout", &[vocabulary::TIMEOUTS, vocabulary::TIMEOUTS_HTTP]);
        args.skip_rest();
        return;
    }
    let Some(time) = args.time("a time, e.g. 5s") else { return };
    set_timeout(keyword, args, settings, name, time);
}

fn set_timeout(
    keyword: &Word,
    args: &Args<'_, '_>,
    settings: &mut Settings,
    name: &str,
    time: std::time::Duration,
) {
    // HAProxy: 0 is "never".
    let value = (!time.is_zero()).then_some(time);
    let timeouts = &mut settings.timeouts;
    match name {
        "client" => timeouts.client = value,
        "server" => {
            timeouts.server = value;
            settings.server_timeout_place = Some(args.place_to_here(keyword));
        }
        "connect" => timeouts.connect = value,
        "check" => timeouts.check = value,
        "queue" => timeouts.queue = value,
        "tunnel" => timeouts.tunnel = value,
        "client-fin" => timeouts.client_fin = value,
        _ => timeouts.server_fin = value,
    }
}

fn old_timeout(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) {
    let name = match keyword.text.as_str() {
        "clitimeout" => "client",
        "srvtimeout" => "server",
        _ => "connect",
    };
    let Some(time) = args.time("a time, e.g. 5s") else { return };
    args.warn(
        keyword,
        "old-form",
        format!("`{}` was removed from HAProxy 2.1; it is read as `timeout {name}`", keyword.text),
        &format!("write `timeout {name} {}`", crate::config::duration::show(time)),
    );
    set_timeout(keyword, args, settings, name, time);
}

fn negation(args: &mut Args<'_, '_>, settings: &mut Settings) {
    match args.value("option or log") {
        Some(word) if word.text == "option" => option(args, settings, false),
        Some(word) if word.text == "log" => {
            settings.logs.clear();
            settings.log_global = false;
        }
        Some(word) => args.unknown(word, "word after no", &[&["option", "log"]]),
        None => {}
    }
}

fn option(args: &mut Args<'_, '_>, settings: &mut Settings, on: bool) {
    let Some(word) = args.value("a name") else { return };
    match word.text.as_str() {
        "tcplog" => {
            settings.tcplog = on;
            args.take("clf");
        }
        "httplog" => {
            settings.httplog = on;
            args.take("clf");
        }
        "dontlognull" => settings.dontlognull = on,
        "redispatch" => {
            settings.redispatch = on.then_some(-1);
            if let Some(every) = args.peek().and_then(|word| word.text.parse::<i32>().ok()) {
                args.next();
                settings.redispatch = (on && every != 0).then_some(every);
            }
        }
        "tcpka" => (settings.client_keepalive, settings.server_keepalive) = (on, on),
        "clitcpka" => settings.client_keepalive = on,
        "srvtcpka" => settings.server_keepalive = on,
        "tcp-check" => settings.check = CheckKind::Tcp,
        "amqp-check" => settings.check = if on { CheckKind::Amqp } else { CheckKind::Tcp },
        "log-health-checks" => settings.log_health_checks = on,
        "allbackups" => settings.allbackups = on,
        "splice-auto" | "splice-request" | "splice-response" => settings.splice = on,
        text if vocabulary::OPTIONS_CHECKS.contains(&text) => {
            if on {
                args.remark(
                    word,
                    Severity::Warning,
                    "check-replaced",
                    format!("`option {text}` is not supported yet: servers are checked by a TCP connection instead"),
                    "",
                    "for RabbitMQ write `option amqp-check`",
                );
            }
            args.skip_rest();
        }
        text if vocabulary::OPTIONS_HTTP.contains(&text) => {
            if settings.mode == Mode::Tcp {
                http_only(word, args, settings.mode, &format!("option {text}"));
            }
            args.skip_rest();
        }
        text if vocabulary::OPTIONS_TUNING.contains(&text) => {
            args.warn(word, "not-used", format!("`option {text}` is not supported yet; it is read over"), "");
            args.skip_rest();
        }
        _ => {
            args.unknown(
                word,
                "option",
                &[
                    vocabulary::OPTIONS,
                    vocabulary::OPTIONS_HTTP,
                    vocabulary::OPTIONS_TUNING,
                    vocabulary::OPTIONS_CHECKS,
                ],
            );
            args.skip_rest();
        }
    }
}

fn check_rule(keyword: &Word, args: &mut Args<'_, '_>) {
    // A bare connect is what our TCP check does.
    if args.peek().is_some_and(|word| word.text == "connect") && keyword.text == "tcp-check" {
        args.skip_rest();
        return;
    }
    args.warn(
        keyword,
        "check-replaced",
        format!(
            "`{}` rules are not supported yet: servers are checked by a TCP connection instead",
            keyword.text
        ),
        "",
    );
    args.skip_rest();
}

fn rule(keyword: &Word, args: &mut Args<'_, '_>, settings: &Settings) {
    let first = args.peek().map(|word| word.text.as_str());
    if keyword.text == "tcp-request" && first == Some("inspect-delay") {
        args.skip_rest();
        return;
    }
    let why = match (settings.mode, keyword.text.as_str()) {
        (Mode::Http, _) => "the section is not balanced at all (mode http)",
        (_, "use_backend") => "leaving it out would send clients to another backend",
        _ => "leaving it out would let clients in that it keeps out",
    };
    refused(keyword, args, &format!("not supported yet; {why}"));
}

fn http_only(word: &Word, args: &mut Args<'_, '_>, mode: Mode, what: &str) {
    if mode == Mode::Tcp {
        args.warn(
            word,
            "http-only",
            format!("`{what}` only concerns HTTP; it has no effect in a section with mode tcp"),
            "remove the line",
        );
    }
    args.skip_rest();
}

fn misplaced(word: &Word, args: &mut Args<'_, '_>, why: &str) {
    args.error(word, "misplaced", format!("`{}` cannot be used here: {why}", word.text), "");
    args.skip_rest();
}

fn refused(word: &Word, args: &mut Args<'_, '_>, why: &str) {
    args.error(word, "not-supported", format!("`{}`: {why}", word.text), "");
    args.skip_rest();
}
