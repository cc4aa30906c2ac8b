//! Single values of keepalived.conf: numbers, times, switches, addresses, commands, users.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::lexer::Word;
use crate::config::{ScriptUser, VirtualAddress};

/// A whole number within bounds.
pub(super) fn number(word: &Word, range: RangeInclusive<i64>) -> Result<i64, String> {
    let number: i64 = word.text.parse().map_err(|_| "is not a number".to_owned())?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("is not within {} to {}", range.start(), range.end()))
    }
}

/// Seconds with an optional fraction, to the microsecond.
pub(super) fn seconds(word: &Word, range: RangeInclusive<f64>) -> Result<Duration, String> {
    let plain = word.text.chars().all(|character| character.is_ascii_digit() || character == '.');
    let seconds: f64 = word.text.parse().map_err(|_| "is not a number of seconds".to_owned())?;
    if !plain || !range.contains(&seconds) {
        return Err(format!("is not within {} to {} seconds", range.start(), range.end()));
    }
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// `on`, `true`, `yes` and their opposites.
pub(super) fn boolean(word: &Word) -> Result<bool, String> {
    match word.text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("is neither on nor off".to_owned()),
    }
}

/// An address without prefix.
pub(super) fn address(word: &Word) -> Result<IpAddr, String> {
    word.text.parse().map_err(|_| "is not an IP address".to_owned())
}

/// `ADDRESS[/PREFIX]`.
pub(crate) fn address_with_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "is not an IP address".to_owned())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(prefix) => match prefix.parse() {
            Ok(length) if length <= longest => length,
            _ => return Err(format!("has a prefix that is not within 0 to {longest}")),
        },
    };
    Ok((address, prefix))
}

/// A line of `virtual_ipaddress`: `ADDRESS[/PREFIX] [dev IF] [label L] [scope S] [brd ADDRESS|+|-]`.
/// The error names the word at fault by its number.
pub(super) fn virtual_address(words: &[&Word]) -> Result<VirtualAddress, (usize, String)> {
    let first = words.first().ok_or((0, "needs an address".to_owned()))?;
    let (address, prefix) = address_with_prefix(&first.text).map_err(|reason| (0, reason))?;
    let mut vip = VirtualAddress { address, prefix, dev: None, label: None, broadcast: None, scope: 0 };
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let value = words.get(at + 1).map(|word| word.text.as_str());
        let needed = value.ok_or_else(|| (at, "needs a value".to_owned()));
        match word.text.as_str() {
            "dev" => vip.dev = Some(needed?.to_owned()),
            "label" => vip.label = Some(needed?.to_owned()),
            "scope" => vip.scope = scope(needed?).ok_or((at + 1, "is not a scope".to_owned()))?,
            "brd" | "broadcast" => {
                vip.broadcast = match (needed?, address) {
                    ("-", _) => None,
                    ("+", IpAddr::V4(v4)) => Some(broadcast(v4, prefix)),
                    (text, _) => {
                        Some(text.parse().map_err(|_| (at + 1, "is not an IPv4 address".to_owned()))?)
                    }
                }
            }
            // Words without a value that change nothing for this program.
            "home" | "nodad" | "-nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "no_track" => {
                at += 1;
                continue;
            }
            "preferred_lft" | "track_group" | "peer" => drop(needed?),
            _ => return Err((at, "is not known here: dev, label, scope, brd".to_owned())),
        }
        at += 2;
    }
    Ok(vip)
}

pub(super) fn scope(text: &str) -> Option<u8> {
    match text {
        "global" => Some(0),
        "site" => Some(200),
        "link" => Some(253),
        "host" => Some(254),
        "nowhere" => Some(255),
        number => number.parse().ok(),
    }
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (u32::from(address) | host_bits).into()
}

/// Splits a command line into words; quotes keep blanks, a backslash keeps the next character.
pub(crate) fn split_command(text: &str) -> Result<Vec<String>, ()> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), inside) => word.get_or_insert_default().push(inside),
            (_, '\\') => word.get_or_insert_default().push(characters.next().ok_or(())?),
            (Some(_), inside) => word.get_or_insert_default().push(inside),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, plain) => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(()) } else { Ok(words) }
}

/// Whether a word only makes sense to a shell.
pub(super) fn looks_like_shell(word: &str) -> bool {
    matches!(word, "|" | "||" | "&&" | ";" | ">" | ">>" | "<" | "&" | "2>&1")
        || word.starts_with("$(")
        || word.starts_with('`')
        || word.starts_with(">/")
        || word.starts_with("2>")
}

/// Looks up a user and a group, by name or number.
pub(crate) fn user(name: &str, group: Option<&str>) -> Result<ScriptUser, String> {
    use nix::unistd::{Gid, Group, Uid, User};
    let found = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let found = found.ok().flatten().ok_or_else(|| format!("there is no user `{name}` on this host"))?;
    let gid = match group {
        None => found.gid,
        Some(group) => {
            let known = match group.parse::<u32>() {
                Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
                Err(_) => Group::from_name(group),
            };
            known.ok().flatten().ok_or_else(|| format!("there is no group `{group}` on this host"))?.gid
        }
    };
    Ok(ScriptUser { uid: found.uid.as_raw(), gid: gid.as_raw() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_like_a_shell_would_without_being_one() {
        let split = |text: &str| split_command(text).unwrap();
        assert_eq!(
            split("/bin/a  b 'c d' \"e \\\" f\" g\\ h ''"),
            ["/bin/a", "b", "c d", "e \" f", "g h", ""]
        );
        assert_eq!(split_command("a 'b"), Err(()));
        assert_eq!(split_command("a \\"), Err(()));
    }

    #[test]
    fn addresses_and_broadcasts() {
        assert_eq!(address_with_prefix("10.0.0.1").unwrap().1, 32);
        assert_eq!(address_with_prefix("fd00::1/64").unwrap().1, 64);
        assert!(address_with_prefix("10.0.0.1/33").is_err());
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 0, 1), 24), Ipv4Addr::new(10, 0, 0, 255));
        assert_eq!(broadcast(Ipv4Addr::new(10, 0, 0, 1), 32), Ipv4Addr::new(10, 0, 0, 1));
    }
}
