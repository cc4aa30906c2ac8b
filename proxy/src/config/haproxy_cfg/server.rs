//! `server NAME ADDRESS [options]` and `default-server [options]`.

use super::args::Args;
use super::lexer::Word;
use super::vocabulary;
use crate::config::{CheckKind, ProxyConfig, ProxyProtocol, ServerConfig, ServerOptions, address};

pub(super) fn directive(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("a name and an address") else { return };
    let Some(where_) = args.value("an address, e.g. 192.168.0.10:5672") else { return };
    let address = match address::parse_server(&where_.text) {
        Ok(address) => Some(address),
        Err(message) => {
            args.error(where_, "wrong-address", message, "");
            None
        }
    };
    let mut options = proxy.settings.default_server.clone();
    if read_options(args, &mut options).is_none() {
        args.skip_rest();
        return;
    }
    if let Some(other) = proxy.servers.iter().find(|server| server.name == name.text) {
        let line = other.place.line;
        args.error(name, "name-twice", format!("server `{}` exists already, on line {line}", name.text), "");
        return;
    }
    let Some(address) = address else { return };
    let id = u32::try_from(proxy.servers.len()).unwrap_or(u32::MAX - 1) + 1;
    proxy.servers.push(ServerConfig {
        name: name.text.clone(),
        id,
        address,
        options,
        template: None,
        place: args.place(name),
    });
}

/// Reads options until the line ends or another setting begins. `None` after an error.
pub(super) fn read_options(args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    while let Some(word) = args.peek() {
        let is_option = vocabulary::SERVER.contains(&word.text.as_str())
            || vocabulary::SERVER_REFUSED.contains(&word.text.as_str());
        if vocabulary::PROXY.contains(&word.text.as_str()) && !is_option {
            break;
        }
        args.next();
        option(word, args, options)?;
    }
    Some(())
}

fn option(word: &Word, args: &mut Args<'_, '_>, options: &mut ServerOptions) -> Option<()> {
    match word.text.as_str() {
        "check" => options.check = true,
        "no-check" => options.check = false,
        "inter" => options.inter = interval(args)?,
        "fastinter" => options.fastinter = Some(interval(args)?),
        "downinter" => options.downinter = Some(interval(args)?),
        "rise" => options.rise = args.number32("a number of checks", 1, 1_000)?,
        "fall" => options.fall = args.number32("a number of checks", 1, 1_000)?,
        "weight" => options.weight = args.number32("a weight", 0, 256)?,
        "backup" => options.backup = true,
        "no-backup" => options.backup = false,
        "maxconn" => options.maxconn = limit(args)?,
        "maxqueue" => options.maxqueue = limit(args)?,
        "minconn" => {
            args.number("a number of connections", 0, 10_000_000)?;
            args.warn(word, "not-used", "minconn is not supported: maxconn holds at every load", "");
        }
        "disabled" => options.disabled = true,
        "enabled" => options.disabled = false,
        "port" => options.check_port = u16::try_from(args.number("a port", 1, 65_535)?).ok(),
        "addr" => {
            let value = args.value("an address")?;
            match address::parse_server(&value.text) {
                Ok(found) => options.check_address = Some(found),
                Err(message) => {
                    args.error(value, "wrong-address", message, "");
                    return None;
                }
            }
        }
        "send-proxy" => options.send_proxy = Some(ProxyProtocol::V1),
        "send-proxy-v2" => options.send_proxy = Some(ProxyProtocol::V2),
        "no-send-proxy" | "no-send-proxy-v2" => options.send_proxy = None,
        "amqp" => options.check_kind = Some(CheckKind::Amqp),
        "id" => {
            args.number("a number", 1, u64::from(u32::MAX))?;
        }
        text if vocabulary::SERVER_FLAG.contains(&text) => not_used(args, word),
        text if vocabulary::SERVER_VALUE.contains(&text) => {
            args.value("a value")?;
            not_used(args, word);
        }
        text if vocabulary::SERVER_REFUSED.contains(&text) => {
            args.error(
                word,
                "not-supported",
                format!("`{text}` on a server line is not supported, and leaving it out would change what the server receives"),
                "remove it",
            );
            return None;
        }
        _ => {
            args.unknown(
                word,
                "server option",
                &[
                    vocabulary::SERVER,
                    vocabulary::SERVER_VALUE,
                    vocabulary::SERVER_FLAG,
                    vocabulary::SERVER_REFUSED,
                ],
            );
            return None;
        }
    }
    Some(())
}

fn not_used(args: &mut Args<'_, '_>, word: &Word) {
    args.warn(
        word,
        "not-used",
        format!("`{}` on a server line is not supported yet; it is read over", word.text),
        "",
    );
}

/// A check interval; 0 would never end.
fn interval(args: &mut Args<'_, '_>) -> Option<std::time::Duration> {
    let word = args.value("a time")?;
    let time = args.time_of(word)?;
    if time.is_zero() {
        args.error(word, "wrong-time", "an interval cannot be 0", "");
        return None;
    }
    Some(time)
}

/// A limit; 0 is "none".
#[expect(clippy::option_option, reason = "outer: error, inner: no limit")]
fn limit(args: &mut Args<'_, '_>) -> Option<Option<u32>> {
    let number = args.number32("a number of connections", 0, 10_000_000)?;
    Some((number > 0).then_some(number))
}
