//! `bind ADDRESS[,ADDRESS...] [options]`, and the same options of `stats socket`.

use super::args::Args;
use super::lexer::Word;
use super::{tls, vocabulary};
use crate::config::bind::UnixSocket;
use crate::config::{Bind, BindAddress, Level, ProxyConfig, StatsSocket, address};

/// Reads a line of a proxy section.
pub(super) fn directive(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    proxy.binds.extend(read(args));
}

/// Reads what follows `bind`.
pub(super) fn read(args: &mut Args<'_, '_>) -> Vec<Bind> {
    let Some(list) = args.value("an address, e.g. :5672") else { return Vec::new() };
    let addresses = addresses(list, args);
    let mut bind = Bind::new(BindAddress::Fd(-1), args.place(list));
    let mut more = More::default();
    if options(args, &mut bind, &mut more).is_none() {
        args.skip_rest();
        return Vec::new();
    }
    match &bind.tls {
        Some(tls) if more.ssl && tls.crt.is_empty() && tls.crt_list.is_empty() => {
            args.error(list, "missing-value", "`ssl` needs a certificate", "write crt FILE after it");
        }
        Some(_) if !more.ssl => {
            args.warn(
                list,
                "no-ssl",
                "words about TLS without `ssl`: clients are spoken to without TLS",
                "write ssl before them",
            );
            bind.tls = None;
        }
        _ => {}
    }
    addresses.into_iter().map(|address| Bind { address, ..bind.clone() }).collect()
}

/// Reads what follows `stats socket`.
pub(super) fn stats_socket(args: &mut Args<'_, '_>) -> Vec<StatsSocket> {
    let Some(list) = args.value("a path or an address") else { return Vec::new() };
    let addresses = addresses(list, args);
    let mut bind = Bind::new(BindAddress::Fd(-1), args.place(list));
    let mut more = More { is_stats: true, ..More::default() };
    if options(args, &mut bind, &mut more).is_none() {
        args.skip_rest();
        return Vec::new();
    }
    let with = |address| StatsSocket {
        bind: Bind { address, ..bind.clone() },
        level: more.level,
        expose_fd: more.expose_fd,
    };
    addresses.into_iter().map(with).collect()
}

/// What a line says besides what is in [`Bind`].
#[derive(Default)]
struct More {
    is_stats: bool,
    level: Level,
    expose_fd: bool,
    ssl: bool,
}

fn addresses(list: &Word, args: &mut Args<'_, '_>) -> Vec<BindAddress> {
    let mut addresses = Vec::new();
    for part in list.text.split(',').filter(|part| !part.is_empty()) {
        match address::parse_bind(part) {
            Ok(found) => addresses.extend(found),
            Err(message) => args.error(list, "wrong-address", message, ""),
        }
    }
    addresses
}

fn options(args: &mut Args<'_, '_>, bind: &mut Bind, more: &mut More) -> Option<()> {
    let is_ours = |text: &str| {
        vocabulary::BIND.contains(&text) || tls::SHARED.contains(&text) || tls::BIND.contains(&text)
    };
    while let Some(word) = args.peek() {
        // A second setting on the line is for the caller to find.
        if vocabulary::PROXY.contains(&word.text.as_str()) && !is_ours(&word.text) {
            break;
        }
        args.next();
        option(word, args, bind, more)?;
    }
    Some(())
}

fn option(word: &Word, args: &mut Args<'_, '_>, bind: &mut Bind, more: &mut More) -> Option<()> {
    match word.text.as_str() {
        "name" => bind.name = Some(args.text("a name")?),
        "id" => bind.id = Some(args.number32("a number", 1, i32::MAX as u32)?),
        "interface" => bind.interface = Some(args.text("an interface, e.g. eth0")?),
        "transparent" => bind.transparent = true,
        "v4v6" => bind.v6only = Some(false),
        "v6only" => bind.v6only = Some(true),
        "backlog" => bind.backlog = Some(args.number32("a number of connections", 1, 1_000_000)?),
        "maxconn" => bind.maxconn = Some(args.number32("a number of connections", 1, 10_000_000)?),
        "accept-proxy" => bind.accept_proxy = true,
        "defer-accept" => bind.defer_accept = true,
        "tfo" => bind.tfo = true,
        "mss" => {
            let value = args.value("a size")?;
            match value.text.parse::<i32>() {
                Ok(size) if size != 0 && (-65_535..=65_535).contains(&size) => bind.mss = Some(size),
                _ => {
                    args.error(value, "wrong-value", format!("`{}` is not a size", value.text), "");
                    return None;
                }
            }
        }
        "tcp-ut" => bind.tcp_user_timeout = Some(args.interval()?),
        "namespace" => bind.namespace = Some(args.text("a name")?),
        "mode" | "user" | "uid" | "group" | "gid" => unix_word(word, args, &mut bind.unix)?,
        "level" => {
            let levels = [Level::User, Level::Operator, Level::Admin].map(|level| (level.word(), level));
            more.level = args.choice("level", &levels)?;
            if !more.is_stats {
                not_used(args, word);
            }
        }
        "expose-fd" => {
            args.choice("value of expose-fd", &[("listeners", ())])?;
            more.expose_fd = true;
            if !more.is_stats {
                not_used(args, word);
            }
        }
        text if vocabulary::BIND_FLAG.contains(&text) => not_used(args, word),
        text if vocabulary::BIND_VALUE.contains(&text) => {
            args.value("a value")?;
            not_used(args, word);
        }
        text if tls::SHARED.contains(&text) || tls::BIND.contains(&text) => {
            more.ssl |= text == "ssl";
            let mut tls = bind.tls.take().unwrap_or_default();
            tls::bind_word(word, args, &mut tls)?;
            bind.tls = Some(tls);
        }
        "accept-netscaler-cip" | "quic-cc-algo" => {
            args.error(
                word,
                "not-supported",
                format!("`{}` on a bind line is not supported, and leaving it out would change what clients speak", word.text),
                "remove it",
            );
            return None;
        }
        _ => {
            args.unknown(
                word,
                "bind option",
                &[vocabulary::BIND, tls::SHARED, tls::BIND, vocabulary::BIND_VALUE, vocabulary::BIND_FLAG],
            );
            return None;
        }
    }
    Some(())
}

/// `mode`, `user`, `uid`, `group`, `gid`.
pub(super) fn unix_word(word: &Word, args: &mut Args<'_, '_>, unix: &mut UnixSocket) -> Option<()> {
    match word.text.as_str() {
        "mode" => {
            let value = args.value("rights, e.g. 660")?;
            match u32::from_str_radix(&value.text, 8) {
                Ok(mode) if mode <= 0o7777 => unix.mode = Some(mode),
                _ => {
                    let message = format!("`{}` is not a mode; it has octal digits, e.g. 660", value.text);
                    args.error(value, "wrong-value", message, "");
                    return None;
                }
            }
        }
        "user" => unix.user = Some(args.text("a name")?),
        "group" => unix.group = Some(args.text("a name")?),
        "uid" => unix.uid = Some(args.number32("a numeric id", 0, u32::MAX - 1)?),
        _ => unix.gid = Some(args.number32("a numeric id", 0, u32::MAX - 1)?),
    }
    Some(())
}

fn not_used(args: &mut Args<'_, '_>, word: &Word) {
    args.warn(word, "not-used", format!("`{}` has no effect here", word.text), "");
}
