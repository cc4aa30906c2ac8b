//! `defaults`, `listen`, `frontend` and `backend` sections.

use super::args::Args;
use super::http::{Notes, Weight, rule_weight};
use super::lexer::Word;
use super::{acl, balance, bind, checks, log, options, rules, server, source, stats, vocabulary};
use crate::config::{Kind, Mode, ProxyConfig, ServerStateFile, Settings};

/// No limit is larger than this.
pub(super) const MOST_CONNECTIONS: u32 = 100_000_000;

/// A line of a `listen`, `frontend` or `backend` section.
pub(super) fn directive(keyword: &Word, args: &mut Args<'_, '_>, proxy: &mut ProxyConfig, notes: &mut Notes) {
    let kind = proxy.kind;
    match keyword.text.as_str() {
        "bind" if proxy.has_frontend() => bind::directive(args, proxy),
        "bind" => misplaced(keyword, args, "a backend does not accept connections; use listen or frontend"),
        "server" if proxy.has_backend() => server::directive(args, proxy),
        "server-template" if proxy.has_backend() => server::template(args, proxy),
        "server" | "server-template" => {
            misplaced(keyword, args, "a frontend has no servers; use listen or backend");
        }
        "acl" => acl::acl(args, proxy),
        "tcp-request" => rules::tcp_request(keyword, args, proxy, &mut notes.left_out_accepts),
        "use_backend" if proxy.has_frontend() => rules::use_backend(args, proxy),
        "use_backend" => misplaced(keyword, args, "a backend is where connections go already"),
        "use-server" if proxy.has_backend() => rules::use_server(args, proxy),
        "use-server" => misplaced(keyword, args, "a frontend has no servers"),
        "stats" => stats::directive(args, &mut proxy.settings.stats, &proxy.acls),
        "http-request" if is_prometheus(args) => {
            proxy.settings.stats.prometheus = true;
            args.skip_rest();
        }
        "id" => {
            if let Some(id) = args.number32("a number", 1, i32::MAX as u32) {
                proxy.id = id;
            }
        }
        _ => settings_directive(keyword, args, &mut proxy.settings, notes, Some(kind)),
    }
}

/// `http-request use-service prometheus-exporter if { path /metrics }`
fn is_prometheus(args: &Args<'_, '_>) -> bool {
    let words: Vec<&str> = args.line.words.iter().map(|word| word.text.as_str()).collect();
    matches!(
        words[..],
        ["http-request", "use-service", "prometheus-exporter"]
            | ["http-request", "use-service", "prometheus-exporter", "if", "{", "path", "/metrics", "}"]
    )
}

/// A line that may also stand in `defaults` (then `kind` is `None`).
pub(super) fn settings_directive(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    settings: &mut Settings,
    notes: &mut Notes,
    kind: Option<Kind>,
) {
    match keyword.text.as_str() {
        "mode" => mode(args, settings),
        "balance" => balance::directive(keyword, args, settings),
        "hash-type" => balance::hash_type(args, settings),
        "hash-balance-factor" => balance::factor(args, settings),
        "default-server" => {
            if server::default_options(args, &mut settings.default_server).is_none() {
                args.skip_rest();
            }
        }
        "timeout" => timeout(keyword, args, settings, notes),
        "clitimeout" | "contimeout" | "srvtimeout" => old_timeout(keyword, args, settings),
        "retries" => settings.retries = args.limit(i32::MAX as u32).unwrap_or(settings.retries),
        "source" => settings.source = source::read(args).or(settings.source.take()),
        "option" => options::directive(args, settings, notes, true),
        "no" => options::negation(args, settings, notes),
        "log" if args.take("global") => settings.log_global = true,
        "log" => settings.logs.extend(log::directive(args)),
        "default_backend" => {
            if let Some(name) = args.value("the name of a backend") {
                settings.default_backend = Some((name.text.clone(), args.place(name)));
            }
        }
        "stats" => stats::directive(args, &mut settings.stats, &[]),
        "description" => settings.description = Some(args.rest_joined()),
        "disabled" => settings.disabled = true,
        "enabled" => settings.disabled = false,
        "tcp-check" => checks::tcp_rule(keyword, args, settings),
        "http-check" => checks::http_rule(keyword, args, settings),
        "external-check" => checks::external(args, settings),
        "load-server-state-from-file" => {
            let choices = [ServerStateFile::None, ServerStateFile::Global, ServerStateFile::Local]
                .map(|from| (from.word(), from));
            settings.server_state = args.choice("value", &choices).unwrap_or(settings.server_state);
        }
        "server-state-file-name" => {
            settings.server_state_file_name = args.next().map(|word| word.text.clone());
        }
        "tcp-response" => rules::tcp_response(keyword, args),
        _ if limits(keyword, args, settings) || texts(keyword, args, settings) => {}
        _ => other(keyword, args, notes, kind),
    }
}

/// Words with a number or a time.
fn limits(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) -> bool {
    // HAProxy: 0 is "no limit of its own".
    let limit = |args: &mut Args<'_, '_>, old: Option<u32>| {
        args.limit(MOST_CONNECTIONS).map_or(old, |number| (number > 0).then_some(number))
    };
    match keyword.text.as_str() {
        "maxconn" => settings.maxconn = limit(args, settings.maxconn),
        "fullconn" => settings.fullconn = limit(args, settings.fullconn),
        "backlog" => settings.backlog = limit(args, settings.backlog),
        "rate-limit" => {
            if args.choice("word after rate-limit", &[("sessions", ())]).is_some() {
                settings.rate_limit_sessions = limit(args, settings.rate_limit_sessions);
            } else {
                args.skip_rest();
            }
        }
        text => {
            let (times, which) = match text.split_once("tcpka-") {
                Some(("cli", which)) => (&mut settings.client_keepalive_times, which),
                Some(("srv", which)) => (&mut settings.server_keepalive_times, which),
                _ => return false,
            };
            // Without a unit these are seconds.
            let seconds = |args: &mut Args<'_, '_>| {
                let word = args.value("a time")?;
                match crate::config::duration::parse(&word.text, 1_000_000) {
                    Ok(time) => Some(time),
                    Err(error) => {
                        args.error(word, "wrong-time", error.to_string(), "");
                        None
                    }
                }
            };
            match which {
                "cnt" => times.count = limit(args, times.count),
                "idle" => times.idle = seconds(args).or(times.idle),
                "intvl" => times.interval = seconds(args).or(times.interval),
                _ => return false,
            }
        }
    }
    true
}

/// Words with a text.
fn texts(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) -> bool {
    let place = match keyword.text.as_str() {
        "log-tag" => &mut settings.log_tag,
        "log-format" => &mut settings.logging.format,
        "log-format-sd" => &mut settings.logging.format_sd,
        "error-log-format" => &mut settings.logging.error_format,
        _ => return false,
    };
    let text = args.text("a text");
    if keyword.text != "log-tag" {
        match text.as_deref().map(crate::log_format::Format::parse) {
            // HAProxy refuses these; what it knows and we do not is said and left out.
            Some(Err(error)) if error.is_mistake() => {
                args.error(keyword, "wrong-log-format", error.to_string(), "");
            }
            Some(Err(error)) => {
                let help = "lines of this section are written as with option tcplog";
                args.warn(keyword, "not-used", error.to_string(), help);
            }
            _ => {}
        }
    }
    *place = text.or(place.take());
    true
}

/// What only concerns HTTP, is left out, stands in the wrong place or is not known.
fn other(keyword: &Word, args: &mut Args<'_, '_>, notes: &mut Notes, kind: Option<Kind>) {
    let word = keyword.text.as_str();
    if vocabulary::PROXY_HTTP.contains(&word) {
        let action = args.peek().map_or("", |next| next.text.as_str());
        let weight = rule_weight(word, action);
        let what = match word {
            "http-request" | "http-response" | "http-after-response" => format!("{word} {action}"),
            _ => word.to_owned(),
        };
        notes.http(keyword, args, &what, weight);
    } else if vocabulary::PROXY_REFUSED.contains(&word) {
        args.error(keyword, "not-supported", format!("`{word}` is not supported"), "write a server line");
        args.skip_rest();
    } else if vocabulary::PROXY_TUNING.contains(&word) {
        args.warn(keyword, "not-used", format!("`{word}` is not supported; the line is read over"), "");
        args.skip_rest();
    } else if kind.is_none() && vocabulary::PROXY.contains(&word) {
        misplaced(keyword, args, "it cannot stand in defaults");
    } else {
        let lists =
            [vocabulary::PROXY, vocabulary::PROXY_HTTP, vocabulary::PROXY_TUNING, vocabulary::SECTIONS];
        args.unknown(keyword, "word in this section", &lists);
        args.skip_rest();
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

fn timeout(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings, notes: &mut Notes) {
    let Some(which) = args.value("a name and a time") else { return };
    let name = which.text.as_str();
    if vocabulary::TIMEOUTS_HTTP.contains(&name) {
        args.time("a time, e.g. 5s");
        let what = format!("timeout {name}");
        return notes.http(keyword, args, &what, Weight::Harmless);
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

fn misplaced(word: &Word, args: &mut Args<'_, '_>, why: &str) {
    args.error(word, "misplaced", format!("`{}` cannot be used here: {why}", word.text), "");
    args.skip_rest();
}
