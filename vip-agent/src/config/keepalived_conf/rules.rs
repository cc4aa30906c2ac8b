//! `virtual_rules`: rules of policy routing that are there while the addresses are.

use std::net::IpAddr;

use super::Reader;
use super::lexer::Word;
use super::routes::{lines, table};
use super::tree::Statement;
use super::values::address_with_prefix;
use crate::config::{RuleAction, VirtualRule};

/// Words of a rule that this program does not set.
const NOT_OFFERED: &[&str] =
    &["realms", "l3mdev", "ip_proto", "ipproto", "sport", "dport", "uidrange", "tun_id", "suppress_ifgroup"];

/// The rules of a block.
pub(super) fn read(reader: &mut Reader, block: &Statement) -> Vec<VirtualRule> {
    lines(reader, block, rule)
}

/// One line: `[not] [from NET] [to NET] [iif IF] [oif IF] [fwmark N[/MASK]] [tos N] [priority N]` and what to do:
/// `table N`, `goto N`, `blackhole`, `unreachable`, `prohibit`, `nop`. The error names the word at fault by its number.
fn rule(words: &[&Word]) -> Result<VirtualRule, (usize, String)> {
    let mut found = VirtualRule::default();
    let (mut action, mut at) = (None, 0);
    while let Some(word) = words.get(at) {
        let text = word.text.as_str();
        let value =
            || words.get(at + 1).map(|word| word.text.as_str()).ok_or((at, "needs a value".to_owned()));
        let wrong = |reason: &str| (at + 1, reason.to_owned());
        let network = |text: &str| match text {
            "all" | "any" | "default" => Ok(None),
            text => address_with_prefix(text).map(Some).map_err(|reason| (at + 1, reason)),
        };
        let mut taken = 2;
        match text {
            "from" | "src" => found.from = network(value()?)?,
            "to" | "dst" => found.to = network(value()?)?,
            "iif" | "dev" => found.iif = Some(value()?.to_owned()),
            "oif" => found.oif = Some(value()?.to_owned()),
            "fwmark" => found.mark = Some(mark(value()?).ok_or_else(|| wrong("is not a mark"))?),
            "tos" | "dsfield" => {
                found.tos = Some(
                    number(value()?)
                        .and_then(|it| u8::try_from(it).ok())
                        .ok_or_else(|| wrong("is not a TOS"))?,
                );
            }
            "priority" | "preference" | "pref" | "order" => {
                found.priority = Some(number(value()?).ok_or_else(|| wrong("is not a number"))?);
            }
            "suppress_prefixlength" | "suppress_prefixlen" | "sup_pl" => {
                found.suppress_prefix = Some(number(value()?).ok_or_else(|| wrong("is not a number"))?);
            }
            "table" | "lookup" => {
                action = Some(RuleAction::Table(table(value()?).map_err(|it| (at + 1, it))?));
            }
            "goto" => {
                action = Some(RuleAction::Goto(number(value()?).ok_or_else(|| wrong("is not a number"))?));
            }
            "protocol" | "proto" | "track_group" => drop(value()?),
            "blackhole" | "unreachable" | "prohibit" | "nop" | "not" | "inet" | "inet6" | "no_track"
            | "type" | "add" => {
                taken = 1;
                match text {
                    "blackhole" => action = Some(RuleAction::Blackhole),
                    "unreachable" => action = Some(RuleAction::Unreachable),
                    "prohibit" => action = Some(RuleAction::Prohibit),
                    "nop" => action = Some(RuleAction::Nop),
                    "not" => found.inverted = true,
                    "inet6" => found.six = true,
                    _ => {}
                }
            }
            _ if NOT_OFFERED.contains(&text) => {
                return Err((at, "is not offered in a rule".to_owned()));
            }
            _ => {
                let known = "from, to, iif, oif, fwmark, tos, priority, table, goto, blackhole, unreachable, prohibit";
                return Err((at, format!("is not known here: {known}")));
            }
        }
        at += taken;
    }
    found.action = action.ok_or((0, "a rule needs `table`, `goto` or an action".to_owned()))?;
    let mut networks = found.from.iter().chain(&found.to);
    found.six |= networks.clone().any(|(address, _)| address.is_ipv6());
    if networks.any(|(address, _): &(IpAddr, u8)| address.is_ipv6() != found.six) {
        return Err((0, "mixes IPv4 and IPv6".to_owned()));
    }
    Ok(found)
}

/// A number, also in hexadecimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mark(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('/') {
        Some((mark, mask)) => Some((number(mark)?, Some(number(mask)?))),
        None => Some((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{Token, lex};
    use super::*;

    fn read(line: &str) -> Result<VirtualRule, (usize, String)> {
        let words: Vec<Word> = lex(line, 0)
            .0
            .into_iter()
            .filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None })
            .collect();
        rule(&words.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_manual_pages_rules() {
        let one = read("from 192.168.2.0/24 table 1").unwrap();
        assert_eq!(
            (one.from, one.action),
            (Some(("192.168.2.0".parse().unwrap(), 24)), RuleAction::Table(1))
        );
        let two = read(
            "from 192.168.28.0/24 to 192.168.29.0/26 table main iif p33p1 oif wlan0 tos 22 fwmark 24/12 preference 39",
        )
        .unwrap();
        assert_eq!((two.iif.as_deref(), two.oif.as_deref()), (Some("p33p1"), Some("wlan0")));
        assert_eq!((two.tos, two.mark, two.priority), (Some(22), Some((24, Some(12))), Some(39)));
        assert_eq!(two.action, RuleAction::Table(254));
        let three = read("to 1:2:3:4:5:6:7:0/112 from 7:6:5:4:3:2::/96 table 6908").unwrap();
        assert!(three.six && three.from.is_some());
        assert_eq!(read("fwmark 0x18 goto 40").unwrap().action, RuleAction::Goto(40));
        assert_eq!(read("to 1.2.3.0/24 unreachable no_track").unwrap().action, RuleAction::Unreachable);
        let not = read("not from 10.0.0.0/8 lookup 7 suppress_prefixlength 0").unwrap();
        assert!(not.inverted && not.suppress_prefix == Some(0));
        for (wrong, at) in [
            ("from 192.168.2.0/24", 0),
            ("from nowhere table 1", 1),
            ("from 10.0.0.0/8 table", 2),
            ("from 10.0.0.0/8 table x", 3),
            ("from 10.0.0.0/8 to fd00::/8 table 1", 0),
            ("from 10.0.0.0/8 realms 30/20 table 1", 2),
            ("fromm 10.0.0.0/8 table 1", 0),
            ("fwmark x table 1", 1),
        ] {
            assert_eq!(read(wrong).unwrap_err().0, at, "{wrong}");
        }
    }
}
