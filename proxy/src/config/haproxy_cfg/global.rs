//! The `global` section.

use std::path::PathBuf;

use super::args::Args;
use super::lexer::Word;
use super::{bind, log, tls, vocabulary};
use crate::config::Global;
use crate::config::global::Tune;
use crate::config::tls::TlsParameters;

/// Where the process's identity was set, for remarks about a second setting.
#[derive(Debug, Default)]
pub(super) struct IdentityPlaces {
    user: Option<usize>,
    group: Option<usize>,
}

pub(super) fn directive(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    global: &mut Global,
    identity: &mut IdentityPlaces,
) {
    match keyword.text.as_str() {
        "log" => {
            if args.take("global") {
                args.error(keyword, "misplaced", "`log global` cannot be in global", "");
            } else if let Some(sink) = log::directive(args) {
                global.logs.push(sink);
            }
        }
        "user" | "group" | "uid" | "gid" => identity_directive(keyword, args, global, identity),
        "daemon" => global.daemon = true,
        "master-worker" => {
            global.master_worker = true;
            args.take("no-exit-on-failure");
        }
        "stats" => stats(keyword, global, args),
        "unix-bind" => unix_bind(args, global),
        "nbthread" => {
            global.nbthread = args.number("a number of threads", 1, 64).and_then(|n| usize::try_from(n).ok());
        }
        "nbproc" => {
            if args.number("a number of processes", 1, 64).is_some_and(|n| n > 1) {
                args.warn(
                    keyword,
                    "not-used",
                    "one process with threads does the work of several processes",
                    "remove nbproc, or write nbthread",
                );
            }
        }
        "node" => node(args, global),
        "description" => global.description = Some(args.rest_joined()),
        "spread-checks" => {
            global.spread_checks = args.number32("a percentage", 0, 50).unwrap_or(global.spread_checks);
        }
        "quiet" => global.quiet = true,
        "zero-warning" => global.zero_warning = true,
        "nosplice" => global.nosplice = true,
        "noreuseport" => global.noreuseport = true,
        "strict-limits" => global.strict_limits = true,
        "numa-cpu-mapping" => global.bind_threads = true,
        "cpu-map" => {
            global.bind_threads = false;
            args.warn(
                keyword,
                "not-used",
                "threads are left to the system where `cpu-map` is",
                "remove it: each thread gets a processor of its own when there are as many",
            );
            args.skip_rest();
        }
        "no" => negation(args, global),
        "external-check" => global.external_check = true,
        // Nothing forbids to start programs here.
        "insecure-fork-wanted" => {}
        "log-send-hostname" => {
            global.log_send_hostname = Some(args.next().map_or_else(String::new, |word| word.text.clone()));
        }
        "default-path" => default_path(args),
        _ if limits(keyword, args, global) || texts(keyword, args, global) => {}
        word if word.starts_with("ssl-") => ssl_default(keyword, args, global),
        word if word.starts_with("tune.") => tune(keyword, args, &mut global.tune),
        word if vocabulary::GLOBAL_TUNING.contains(&word) => {
            args.warn(
                keyword,
                "not-used",
                format!("`{word}` tunes HAProxy's own machinery; it is read over"),
                "",
            );
            args.skip_rest();
        }
        _ => {
            args.unknown(keyword, "word in global", &[vocabulary::GLOBAL, vocabulary::GLOBAL_TUNING]);
            args.skip_rest();
        }
    }
}

/// Words with a number or a time.
fn limits(keyword: &Word, args: &mut Args<'_, '_>, global: &mut Global) -> bool {
    let place = match keyword.text.as_str() {
        "maxconn" => &mut global.maxconn,
        "maxconnrate" => &mut global.maxconnrate,
        "maxsessrate" => &mut global.maxsessrate,
        "maxsslconn" => &mut global.maxsslconn,
        "maxsslrate" => &mut global.maxsslrate,
        "maxpipes" => &mut global.maxpipes,
        "ulimit-n" => {
            global.ulimit_n = args.number("a number of files", 0, 1_000_000_000).filter(|n| *n > 0);
            return true;
        }
        "max-spread-checks" => {
            global.max_spread_checks = args.time("a time");
            return true;
        }
        "hard-stop-after" => {
            global.hard_stop_after = args.time("a time");
            return true;
        }
        "grace" => {
            global.grace = args.time("a time").filter(|time| !time.is_zero());
            return true;
        }
        "close-spread-time" => {
            if args.take("infinite") {
                global.close_spread_time = None;
            } else {
                global.close_spread_time = args.time("a time");
            }
            return true;
        }
        _ => return false,
    };
    // HAProxy: 0 leaves it to the limit of open files.
    *place = args.limit(super::proxy::MOST_CONNECTIONS).filter(|number| *number > 0);
    true
}

/// Words with a name or a file.
fn texts(keyword: &Word, args: &mut Args<'_, '_>, global: &mut Global) -> bool {
    let file = |args: &mut Args<'_, '_>| args.text("a file or a directory").map(PathBuf::from);
    match keyword.text.as_str() {
        "chroot" => global.chroot = file(args),
        "pidfile" => global.pidfile = file(args),
        "server-state-base" => global.server_state_base = file(args),
        "server-state-file" => global.server_state_file = file(args),
        "runtime-servers-file" => global.runtime_servers_file = file(args),
        "ca-base" => global.ca_base = file(args),
        "crt-base" => global.crt_base = file(args),
        "log-tag" => global.log_tag = args.text("a name"),
        "localpeer" => global.localpeer = args.text("a name"),
        _ => return false,
    }
    true
}

fn node(args: &mut Args<'_, '_>, global: &mut Global) {
    let Some(name) = args.value("a name") else { return };
    match name.text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        Some(wrong) => {
            let message = format!("`{wrong}` cannot be in the name of a node");
            args.error(name, "wrong-name", message, "letters, digits, - _ .");
        }
        None => global.node = Some(name.text.clone()),
    }
}

fn negation(args: &mut Args<'_, '_>, global: &mut Global) {
    match args.value("strict-limits, numa-cpu-mapping, ...") {
        Some(word) if word.text == "strict-limits" => global.strict_limits = false,
        Some(word) if word.text == "numa-cpu-mapping" => global.bind_threads = false,
        Some(word)
            if ["insecure-fork-wanted", "busy-polling", "set-dumpable", "memory-trimming"]
                .contains(&word.text.as_str()) => {}
        Some(word) => {
            args.unknown(
                word,
                "word after no",
                &[&["strict-limits", "numa-cpu-mapping", "insecure-fork-wanted", "busy-polling"]],
            );
            args.skip_rest();
        }
        None => {}
    }
}

fn default_path(args: &mut Args<'_, '_>) {
    let modes = [("current", true), ("config", false), ("parent", false), ("origin", false)];
    let Some(word) = args.peek() else {
        args.value("current, config, parent or origin");
        return;
    };
    match args.choice("place", &modes) {
        Some(true) | None => {}
        Some(false) => args.warn(
            word,
            "not-used",
            "relative file names begin in the working directory here",
            "write whole paths, or start with -C DIRECTORY",
        ),
    }
    args.skip_rest();
}

/// `unix-bind [prefix TEXT] [mode M] [user|uid|group|gid X]`
fn unix_bind(args: &mut Args<'_, '_>, global: &mut Global) {
    while let Some(word) = args.next() {
        match word.text.as_str() {
            "prefix" => global.unix_bind_prefix = args.text("a path"),
            "mode" | "user" | "uid" | "group" | "gid" => {
                if bind::unix_word(word, args, &mut global.unix_bind).is_none() {
                    return args.skip_rest();
                }
            }
            _ => {
                args.unknown(
                    word,
                    "word after unix-bind",
                    &[&["prefix", "mode", "user", "uid", "group", "gid"]],
                );
                return args.skip_rest();
            }
        }
    }
}

/// `ssl-default-bind-ciphers` and the like.
fn ssl_default(keyword: &Word, args: &mut Args<'_, '_>, global: &mut Global) {
    let (parameters, what): (&mut TlsParameters, &str) = match keyword.text.strip_prefix("ssl-default-bind-")
    {
        Some(what) => (&mut global.tls.bind, what),
        None => match keyword.text.strip_prefix("ssl-default-server-") {
            Some(what) => (&mut global.tls.server, what),
            None => return ssl_other(keyword, args, global),
        },
    };
    match what {
        "ciphers" => parameters.ciphers = args.text("names of ciphers"),
        "ciphersuites" => parameters.ciphersuites = args.text("names of ciphers"),
        "curves" => parameters.curves = args.text("names of curves"),
        "options" => {
            while let Some(word) = args.next() {
                if tls::parameter(word, args, parameters).is_none() {
                    return args.skip_rest();
                }
            }
        }
        _ => args.unknown(keyword, "word in global", &[vocabulary::GLOBAL]),
    }
}

fn ssl_other(keyword: &Word, args: &mut Args<'_, '_>, global: &mut Global) {
    if keyword.text == "ssl-server-verify" {
        if let Some(none) = args.choice("value", &[("none", true), ("required", false)]) {
            global.tls.server_verify_none = none;
        }
        return;
    }
    if vocabulary::GLOBAL_SSL.contains(&keyword.text.as_str()) {
        args.warn(keyword, "not-used", format!("`{}` concerns OpenSSL; it is read over", keyword.text), "");
    } else {
        args.unknown(keyword, "word in global", &[vocabulary::GLOBAL, vocabulary::GLOBAL_SSL]);
    }
    args.skip_rest();
}

fn tune(keyword: &Word, args: &mut Args<'_, '_>, tune: &mut Tune) {
    let place = match keyword.text.as_str() {
        "tune.bufsize" => &mut tune.bufsize,
        "tune.maxaccept" => {
            if args.take("-1") {
                tune.maxaccept = None;
                return;
            }
            &mut tune.maxaccept
        }
        "tune.pipesize" => &mut tune.pipesize,
        "tune.rcvbuf.client" => &mut tune.rcvbuf_client,
        "tune.rcvbuf.server" => &mut tune.rcvbuf_server,
        "tune.sndbuf.client" => &mut tune.sndbuf_client,
        "tune.sndbuf.server" => &mut tune.sndbuf_server,
        word => {
            if vocabulary::is_tune(word) {
                args.warn(
                    keyword,
                    "not-used",
                    format!("`{word}` tunes HAProxy's own machinery; it is read over"),
                    "",
                );
            } else {
                args.unknown(keyword, "word in global", &[vocabulary::TUNE_USED, vocabulary::TUNE]);
            }
            return args.skip_rest();
        }
    };
    *place = args.number32("a number", 0, i32::MAX as u32).filter(|number| *number > 0);
}

fn identity_directive(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    global: &mut Global,
    identity: &mut IdentityPlaces,
) {
    let is_user = matches!(keyword.text.as_str(), "user" | "uid");
    let is_number = matches!(keyword.text.as_str(), "uid" | "gid");
    let (first, other) = if is_user { (&mut identity.user, "user") } else { (&mut identity.group, "group") };
    if is_number {
        let Some(number) = args.number32("a numeric id", 0, u32::MAX - 1) else { return };
        if let Some(line) = *first {
            args.warn(
                keyword,
                "set-twice",
                format!(
                    "`{} {number}` is not used: `{other}` is already set on line {line}; \
                     it is kept for the case that this {other} does not exist",
                    keyword.text
                ),
                &format!("remove one of the two; HAProxy keeps the first and prints \"{other}/{} already specified\"", keyword.text),
            );
        } else {
            *first = Some(args.line.number);
        }
        if is_user {
            global.uid.get_or_insert(number);
        } else {
            global.gid.get_or_insert(number);
        }
        return;
    }
    let Some(name) = args.value("a name") else { return };
    if let Some(line) = *first {
        args.warn(
            keyword,
            "set-twice",
            format!("`{} {}` is not used: it is already set on line {line}", keyword.text, name.text),
            "remove one of the two",
        );
        return;
    }
    *first = Some(args.line.number);
    if is_user {
        global.user = Some(name.text.clone());
    } else {
        global.group = Some(name.text.clone());
    }
}

fn stats(keyword: &Word, global: &mut Global, args: &mut Args<'_, '_>) {
    match args.value("socket, timeout or maxconn").map(|word| word.text.as_str()) {
        Some("socket") => {
            let sockets = bind::stats_socket(args);
            global.stats_sockets.extend(sockets);
        }
        Some("timeout") => global.stats_timeout = args.interval().unwrap_or(global.stats_timeout),
        Some("maxconn") => {
            global.stats_maxconn = args.number32("a number", 1, 1_000_000).unwrap_or(global.stats_maxconn);
        }
        Some("bind-process") => args.skip_rest(),
        Some(_) => {
            args.error(keyword, "unknown-word", "`stats` in global takes socket, timeout or maxconn", "");
            args.skip_rest();
        }
        None => {}
    }
}
