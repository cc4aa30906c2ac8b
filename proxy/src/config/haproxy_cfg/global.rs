//! The `global` section.

use super::args::Args;
use super::lexer::Word;
use super::{log, vocabulary};
use crate::config::{Bind, Global, Level, StatsSocket, address};

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
            if let Some(sink) = log::directive(args) {
                global.logs.push(sink);
            }
        }
        "maxconn" => {
            global.maxconn = args.number32("a number of connections", 1, 10_000_000).or(global.maxconn);
        }
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
        "ulimit-n" => global.ulimit_n = args.number("a number of files", 16, 1_000_000_000),
        "user" | "group" | "uid" | "gid" => identity_directive(keyword, args, global, identity),
        "chroot" => global.chroot = args.value("a directory").map(|word| word.text.clone().into()),
        "pidfile" => global.pidfile = args.value("a file").map(|word| word.text.clone().into()),
        "daemon" => global.daemon = true,
        "node" => global.node = args.value("a name").map(|word| word.text.clone()),
        "log-tag" => global.log_tag = args.value("a name").map(|word| word.text.clone()),
        "description" => {
            let mut words = Vec::new();
            while let Some(word) = args.next() {
                words.push(word.text.as_str());
            }
            global.description = Some(words.join(" "));
        }
        "spread-checks" => {
            global.spread_checks = args.number32("a percentage", 0, 50).unwrap_or(global.spread_checks);
        }
        "max-spread-checks" => global.max_spread_checks = args.time("a time"),
        "hard-stop-after" => global.hard_stop_after = args.time("a time"),
        "master-worker" => args.skip_rest(),
        "quiet" | "zero-warning" | "nosplice" => {}
        "stats" => stats(keyword, global, args),
        word if vocabulary::GLOBAL_TUNING.contains(&word)
            || word.starts_with("tune.")
            || word.starts_with("ssl-")
            || word.starts_with("profiling.") =>
        {
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
            stats_socket(keyword, global, args);
        }
        Some("timeout") => {
            args.time("a time");
        }
        Some("maxconn") => {
            args.number("a number", 1, 1_000_000);
        }
        Some("bind-process") => args.skip_rest(),
        Some(_) => {
            args.error(keyword, "unknown-word", "`stats` in global takes socket, timeout or maxconn", "");
            args.skip_rest();
        }
        None => {}
    }
}

fn stats_socket(keyword: &Word, global: &mut Global, args: &mut Args<'_, '_>) {
    let Some(address) = args.value("a path or an address") else { return };
    match address::parse_bind(&address.text) {
        Ok(found) => {
            let place = args.place_to_here(keyword);
            let sockets = found.into_iter().map(|address| StatsSocket {
                bind: Bind::new(address, place.clone()),
                level: Level::default(),
                expose_fd: false,
            });
            global.stats_sockets.extend(sockets);
        }
        Err(message) => args.error(address, "wrong-address", message, ""),
    }
    args.skip_rest();
}
