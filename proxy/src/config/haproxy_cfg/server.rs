//! `server NAME ADDRESS [options]`, `server-template PREFIX NUMBERS ADDRESS [options]` and
//! `default-server [options]`.

use super::args::Args;
use super::lexer::Word;
use super::{source, tls, vocabulary};
use crate::config::rules::Network;
use crate::config::server::{AddressFamily, InitAddr, Observe, OnError, ProxyV2Options, Template, Track};
use crate::config::{CheckKind, ProxyConfig, ProxyProtocol, ServerAddress, ServerConfig, ServerOptions};

/// Most servers one `server-template` line makes.
const MAX_TEMPLATE: u32 = 10_000;

/// Reads a `server` line.
pub(super) fn directive(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("a name and an address") else { return };
    check_name(name, args);
    let Some((address, options, id)) = address_and_options(args, proxy) else { return };
    if let Some(other) = proxy.servers.iter().find(|server| server.name == name.text) {
        let line = other.place.line;
        args.error(name, "name-twice", format!("server `{}` exists already, on line {line}", name.text), "");
        return;
    }
    let Some(address) = address else { return };
    push(proxy, args, name, &name.text, (address, options, id), None);
}

/// Reads a `server-template` line.
pub(super) fn template(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(prefix) = args.value("a prefix, numbers and an address") else { return };
    check_name(prefix, args);
    let Some(numbers) = args.value("a number of servers, or a range such as 1-3") else { return };
    let range = match numbers.text.split_once('-') {
        Some((low, high)) => low.parse().ok().zip(high.parse().ok()),
        None => numbers.text.parse().ok().map(|high| (1, high)),
    };
    let range = range.filter(|(low, high): &(u32, u32)| {
        low <= high && *high > 0 && *high < u32::MAX && high - low < MAX_TEMPLATE
    });
    let Some((low, high)) = range else {
        let message =
            format!("`{}` is not a number of servers, 1 to {MAX_TEMPLATE}, nor a range", numbers.text);
        args.error(numbers, "wrong-value", message, "");
        args.skip_rest();
        return;
    };
    let Some((address, options, id)) = address_and_options(args, proxy) else { return };
    let Some(address) = address else { return };
    let known: std::collections::HashSet<String> =
        proxy.servers.iter().map(|server| server.name.clone()).collect();
    for number in low..=high {
        let name = format!("{}{number}", prefix.text);
        if known.contains(&name) {
            args.error(prefix, "name-twice", format!("server `{name}` exists already"), "");
            return;
        }
        let template = Template { prefix: prefix.text.clone(), low, high };
        let id = id.filter(|_| number == low);
        push(proxy, args, prefix, &name, (address.clone(), options.clone(), id), Some(template));
    }
}

type Read = (ServerAddress, ServerOptions, Option<u32>);

fn push(
    proxy: &mut ProxyConfig,
    args: &Args<'_, '_>,
    word: &Word,
    name: &str,
    (address, options, id): Read,
    template: Option<Template>,
) {
    // Those without get the next free one when all are known.
    let id = id.unwrap_or(0);
    let place = args.place(word);
    proxy.servers.push(ServerConfig { name: name.to_owned(), id, address, options, template, place });
}

fn check_name(name: &Word, args: &mut Args<'_, '_>) {
    if let Some(wrong) = name.text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(*c)) {
        args.error(
            name,
            "wrong-name",
            format!("`{wrong}` cannot be in the name of a server"),
            "letters, digits, - _ . :",
        );
    }
}

/// The address is `None` when it was wrong, and all of it after an error in the options.
fn address_and_options(
    args: &mut Args<'_, '_>,
    proxy: &ProxyConfig,
) -> Option<(Option<ServerAddress>, ServerOptions, Option<u32>)> {
    if args.peek().is_none() {
        args.value("an address, e.g. 192.168.0.10:5672");
        return None;
    }
    let address = args.server_address();
    let mut options = proxy.settings.default_server.clone();
    let mut id = None;
    if read_options(args, &mut options, &mut id).is_none() {
        args.skip_rest();
        return None;
    }
    Some((address, options, id))
}

/// Reads the options of `default-server`. `None` after an error.
pub(super) fn default_options(args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    let first = args.last();
    let mut id = None;
    read_options(args, options, &mut id)?;
    if id.is_some() {
        args.error(first, "misplaced", "`id` cannot stand in default-server", "");
        return None;
    }
    Some(())
}

/// Reads options until the line ends or another setting begins. `None` after an error.
pub(super) fn read_options(
    args: &mut Args<'_, '_>,
    options: &mut ServerOptions,
    id: &mut Option<u32>,
) -> Option<()> {
    let is_option = |text: &str| {
        vocabulary::SERVER.contains(&text) || tls::SHARED.contains(&text) || tls::SERVER.contains(&text)
    };
    while let Some(word) = args.peek() {
        if vocabulary::PROXY.contains(&word.text.as_str()) && !is_option(&word.text) {
            break;
        }
        args.next();
        match word.text.as_str() {
            "id" => *id = Some(args.number32("a number", 1, i32::MAX as u32)?),
            _ => option(word, args, options)?,
        }
    }
    Some(())
}

fn option(word: &Word, args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    match word.text.as_str() {
        "check" => options.check = true,
        "no-check" => options.check = false,
        "inter" => options.inter = args.interval()?,
        "fastinter" => options.fastinter = Some(args.interval()?),
        "downinter" => options.downinter = Some(args.interval()?),
        "rise" => options.rise = args.number32("a number of checks", 1, i32::MAX as u32)?,
        "fall" => options.fall = args.number32("a number of checks", 1, i32::MAX as u32)?,
        "weight" => options.weight = args.number32("a weight", 0, 256)?,
        "backup" => options.backup = true,
        "no-backup" => options.backup = false,
        "maxconn" => options.maxconn = limit(args)?,
        "minconn" => options.minconn = limit(args)?,
        "maxqueue" => options.maxqueue = limit(args)?,
        "disabled" => options.disabled = true,
        "enabled" => options.disabled = false,
        "port" => options.check_port = u16::try_from(args.number("a port", 1, 65_535)?).ok(),
        "addr" => options.check_address = Some(args.server_address()?),
        "slowstart" => {
            let time = args.time("a time")?;
            options.slowstart = (!time.is_zero()).then_some(time);
        }
        "on-marked-down" => {
            args.choice("value of on-marked-down", &[("shutdown-sessions", ())])?;
            options.on_marked_down_shutdown_sessions = true;
        }
        "on-marked-up" => {
            args.choice("value of on-marked-up", &[("shutdown-backup-sessions", ())])?;
            options.on_marked_up_shutdown_backup_sessions = true;
        }
        "track" => {
            let target = args.value("[BACKEND/]SERVER")?.text.as_str();
            options.track = Some(match target.split_once('/') {
                Some((backend, server)) => {
                    Track { backend: Some(backend.to_owned()), server: server.to_owned() }
                }
                None => Track { backend: None, server: target.to_owned() },
            });
        }
        "observe" => {
            let choices = [Observe::Layer4, Observe::Layer7].map(|observe| (observe.word(), Some(observe)));
            options.observe = args.choice("value of observe", &[choices[0], choices[1], ("none", None)])?;
        }
        "error-limit" => {
            options.error_limit = args.number32("a number of errors", 1, i32::MAX as u32)?;
        }
        "on-error" => {
            options.on_error =
                args.choice("value of on-error", &OnError::ALL.map(|does| (does.word(), does)))?;
        }
        "cookie" => options.cookie = Some(cookie(word, args)?),
        "amqp" => options.check_kind = Some(CheckKind::Amqp),
        "check-kind" => {
            let kinds = CheckKind::ALL.map(|kind| (kind.word(), kind));
            options.check_kind = Some(args.choice("kind of check", &kinds)?);
        }
        "tfo" => options.tfo = true,
        "no-tfo" => options.tfo = false,
        "tcp-ut" => options.tcp_user_timeout = Some(args.interval()?),
        "namespace" => options.namespace = Some(args.text("a name")?),
        "source" => options.source = Some(source::read(args)?),
        text if text.contains("send-proxy") || text == "proxy-v2-options" => {
            return proxy_protocol(word, args, options);
        }
        text if text.starts_with("agent-") || text == "no-agent-check" => return agent(word, args, options),
        text if text == "init-addr" || text.starts_with("resolve") => return names(word, args, options),
        text if tls::SHARED.contains(&text) || tls::SERVER.contains(&text) => {
            return tls::server_word(word, args, &mut options.tls);
        }
        _ => return rest(word, args),
    }
    Some(())
}

/// What is known and left out, refused, or not known at all.
fn rest(word: &Word, args: &mut Args<'_, '_>) -> Option<()> {
    let text = word.text.as_str();
    if vocabulary::SERVER_FLAG.contains(&text) {
        not_used(args, word);
        return Some(());
    }
    if vocabulary::SERVER_VALUE.contains(&text) {
        args.value("a value")?;
        not_used(args, word);
        return Some(());
    }
    if vocabulary::SERVER_REFUSED.contains(&text) {
        args.error(
            word,
            "not-supported",
            format!(
                "`{text}` on a server line is not supported, and leaving it out would change where data goes"
            ),
            "remove it",
        );
        return None;
    }
    args.unknown(
        word,
        "server option",
        &[
            vocabulary::SERVER,
            tls::SHARED,
            tls::SERVER,
            vocabulary::SERVER_VALUE,
            vocabulary::SERVER_FLAG,
            vocabulary::SERVER_REFUSED,
        ],
    );
    None
}

fn cookie(word: &Word, args: &mut Args<'_, '_>) -> Option<String> {
    let value = args.text("a value")?;
    args.warn(
        word,
        "http-only",
        "`cookie` only concerns HTTP; here it is only shown on the statistics page",
        "use `balance source` to keep a client on its server",
    );
    Some(value)
}

fn proxy_protocol(word: &Word, args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    let v2 = &mut options.proxy_v2_options;
    match word.text.as_str() {
        "send-proxy" => options.send_proxy = Some(ProxyProtocol::V1),
        "send-proxy-v2" => options.send_proxy = Some(ProxyProtocol::V2),
        "send-proxy-v2-ssl" => {
            options.send_proxy = Some(ProxyProtocol::V2);
            v2.ssl = true;
        }
        "send-proxy-v2-ssl-cn" => {
            options.send_proxy = Some(ProxyProtocol::V2);
            (v2.ssl, v2.cert_cn) = (true, true);
        }
        "no-send-proxy" | "no-send-proxy-v2" => options.send_proxy = None,
        "no-send-proxy-v2-ssl" => (options.send_proxy, v2.ssl) = (None, false),
        "no-send-proxy-v2-ssl-cn" => {
            options.send_proxy = None;
            (v2.ssl, v2.cert_cn) = (false, false);
        }
        "check-send-proxy" => options.check_send_proxy = true,
        "no-check-send-proxy" => options.check_send_proxy = false,
        "proxy-v2-options" => {
            let list = args.value("names, e.g. ssl,crc32c")?;
            for name in list.text.split(',').filter(|name| !name.is_empty()) {
                if !v2.set(name) {
                    args.unknown(list, "option of the PROXY protocol", &[&ProxyV2Options::NAMES]);
                    return None;
                }
            }
        }
        _ => return rest(word, args),
    }
    Some(())
}

fn agent(word: &Word, args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    let agent = &mut options.agent;
    match word.text.as_str() {
        "agent-check" => agent.check = true,
        "no-agent-check" => agent.check = false,
        "agent-inter" => agent.inter = Some(args.interval()?),
        "agent-addr" => agent.address = Some(args.text("an address")?),
        "agent-port" => agent.port = u16::try_from(args.number("a port", 1, 65_535)?).ok(),
        "agent-send" => agent.send = Some(args.text("a text")?),
        _ => return rest(word, args),
    }
    Some(())
}

fn names(word: &Word, args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    match word.text.as_str() {
        "init-addr" => {
            let list = args.value("methods, e.g. last,libc,none")?;
            options.init_addr.clear();
            for method in list.text.split(',') {
                match InitAddr::parse(method) {
                    Some(method) => options.init_addr.push(method),
                    None => {
                        let message = format!("`{method}` is not a method of init-addr");
                        args.error(list, "wrong-value", message, "last, libc, none or an address");
                        return None;
                    }
                }
            }
        }
        "resolvers" => options.resolvers = Some(args.text("the name of a resolvers section")?),
        "resolve-prefer" => {
            let families = [AddressFamily::Ipv4, AddressFamily::Ipv6].map(|family| (family.word(), family));
            options.resolve_prefer = Some(args.choice("family of addresses", &families)?);
        }
        "resolve-opts" => {
            let list = args.value("names, e.g. allow-dup-ip")?;
            for name in list.text.split(',') {
                match name {
                    "allow-dup-ip" => options.resolve_allow_dup_ip = true,
                    "prevent-dup-ip" => options.resolve_allow_dup_ip = false,
                    "ignore-weight" => options.resolve_ignore_weight = true,
                    _ => {
                        let known = ["allow-dup-ip", "prevent-dup-ip", "ignore-weight"];
                        args.unknown(list, "option of resolve-opts", &[&known]);
                        return None;
                    }
                }
            }
        }
        "resolve-net" => {
            let list = args.value("networks, e.g. 10.0.0.0/8")?;
            for text in list.text.split(',') {
                match Network::parse(text) {
                    Ok(network) => options.resolve_net.push(network),
                    Err(message) => {
                        args.error(list, "wrong-address", message, "");
                        return None;
                    }
                }
            }
        }
        _ => return rest(word, args),
    }
    Some(())
}

fn not_used(args: &mut Args<'_, '_>, word: &Word) {
    args.warn(
        word,
        "not-used",
        format!("`{}` on a server line has no meaning for TCP; it is read over", word.text),
        "",
    );
}

/// A limit; 0 is "none".
#[expect(clippy::option_option, reason = "outer: error, inner: no limit")]
fn limit(args: &mut Args<'_, '_>) -> Option<Option<u32>> {
    let number = args.limit(super::proxy::MOST_CONNECTIONS)?;
    Some((number > 0).then_some(number))
}
