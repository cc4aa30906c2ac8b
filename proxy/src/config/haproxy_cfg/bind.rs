//! `bind ADDRESS[,ADDRESS...] [options]`.

use super::args::Args;
use super::vocabulary;
use crate::config::{Bind, BindAddress, ProxyConfig, address};

pub(super) fn directive(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(list) = args.value("an address, e.g. :5672") else { return };
    let mut addresses = Vec::new();
    for part in list.text.split(',').filter(|part| !part.is_empty()) {
        match address::parse_bind(part) {
            Ok(found) => addresses.extend(found),
            Err(message) => args.error(list, "wrong-address", message, ""),
        }
    }
    let place = args.place(list);
    let Some(options) = options(args, place) else {
        args.skip_rest();
        return;
    };
    for address in addresses {
        proxy.binds.push(Bind { address, ..options.clone() });
    }
}

fn options(args: &mut Args<'_, '_>, place: crate::config::Place) -> Option<Bind> {
    let mut bind = Bind::new(BindAddress::Fd(-1), place);
    while let Some(word) = args.peek() {
        // A second setting on the line is for the caller to find.
        if vocabulary::PROXY.contains(&word.text.as_str()) && !vocabulary::BIND.contains(&word.text.as_str())
        {
            break;
        }
        args.next();
        match word.text.as_str() {
            "name" => bind.name = Some(args.value("a name")?.text.clone()),
            "interface" => bind.interface = Some(args.value("an interface, e.g. eth0")?.text.clone()),
            "transparent" => bind.transparent = true,
            "v4v6" => bind.v6only = Some(false),
            "v6only" => bind.v6only = Some(true),
            "backlog" => bind.backlog = Some(args.number32("a number of connections", 1, 1_000_000)?),
            "maxconn" => bind.maxconn = Some(args.number32("a number of connections", 1, 10_000_000)?),
            "id" => bind.id = Some(args.number32("a number", 1, i32::MAX as u32)?),
            text if vocabulary::BIND_FLAG.contains(&text) => not_used(args, word),
            text if vocabulary::BIND_VALUE.contains(&text) => {
                args.value("a value")?;
                not_used(args, word);
            }
            text if vocabulary::BIND_REFUSED.contains(&text) => {
                args.error(
                    word,
                    "not-supported",
                    format!("`{text}` on a bind line is not supported, and leaving it out would change what clients speak"),
                    "remove it, or put a TLS terminator in front",
                );
                return None;
            }
            _ => {
                args.unknown(
                    word,
                    "bind option",
                    &[vocabulary::BIND, vocabulary::BIND_REFUSED, vocabulary::BIND_FLAG],
                );
                return None;
            }
        }
    }
    Some(bind)
}

fn not_used(args: &mut Args<'_, '_>, word: &super::lexer::Word) {
    args.warn(word, "not-used", format!("`{}` has no effect here", word.text), "");
}
