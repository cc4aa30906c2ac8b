//! Rules of policy routing in the native configuration.
//!
//! ```toml
//! rules = [{ from = "192.168.2.0/24", table = 100 }, { to = "10.0.0.0/8", action = "unreachable", priority = 50 }]
//! ```

use serde::Deserialize;

use crate::config::keepalived_conf::address_with_prefix;
use crate::config::{RuleAction, VirtualRule};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Packets from there.
    from: Option<String>,
    /// Packets to there.
    to: Option<String>,
    /// That come in there.
    iif: Option<String>,
    /// That go out there.
    oif: Option<String>,
    /// With this mark.
    mark: Option<u32>,
    /// Which bits of it count.
    mask: Option<u32>,
    /// With this type of service.
    tos: Option<u8>,
    /// The lowest is looked at first; before all that are there.
    priority: Option<u32>,
    /// Routes of no longer prefixes than this do not count.
    suppress_prefix: Option<u32>,
    /// What does not match is meant.
    #[serde(default)]
    not: bool,
    /// The rule is for IPv6, when no address says so.
    #[serde(default)]
    ipv6: bool,
    /// Leads to this table. One of this and the following.
    table: Option<u32>,
    /// Leads to the rule of this priority.
    goto: Option<u32>,
    /// What is done with the packet.
    action: Option<Word>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Nop,
    Blackhole,
    Unreachable,
    Prohibit,
}

/// The checked forms.
pub(super) fn all(raw: Vec<Rule>, wrong: &mut impl FnMut(String)) -> Vec<VirtualRule> {
    raw.into_iter().filter_map(|rule| virtual_rule(rule, wrong)).collect()
}

fn virtual_rule(raw: Rule, wrong: &mut impl FnMut(String)) -> Option<VirtualRule> {
    let mut network = |text: &Option<String>| match text.as_deref().map(address_with_prefix) {
        None => None,
        Some(Ok(found)) => Some(found),
        Some(Err(reason)) => {
            wrong(format!("rule: `{}` {reason}", text.as_deref().unwrap_or_default()));
            None
        }
    };
    let (from, to) = (network(&raw.from), network(&raw.to));
    let action = match (raw.table, raw.goto, raw.action) {
        (Some(table), None, None) => RuleAction::Table(table),
        (None, Some(priority), None) => RuleAction::Goto(priority),
        (None, None, Some(Word::Nop)) => RuleAction::Nop,
        (None, None, Some(Word::Blackhole)) => RuleAction::Blackhole,
        (None, None, Some(Word::Unreachable)) => RuleAction::Unreachable,
        (None, None, Some(Word::Prohibit)) => RuleAction::Prohibit,
        _ => {
            wrong("rule: write one of `table`, `goto` and `action`".to_owned());
            return None;
        }
    };
    let six = raw.ipv6 || from.iter().chain(&to).any(|(address, _)| address.is_ipv6());
    if from.iter().chain(&to).any(|(address, _)| address.is_ipv6() != six) {
        wrong("rule: it mixes IPv4 and IPv6".to_owned());
    }
    if raw.mask.is_some() && raw.mark.is_none() {
        wrong("rule: `mask` needs a `mark`".to_owned());
    }
    Some(VirtualRule {
        six,
        inverted: raw.not,
        from,
        to,
        iif: raw.iif,
        oif: raw.oif,
        mark: raw.mark.map(|mark| (mark, raw.mask)),
        tos: raw.tos,
        priority: raw.priority,
        suppress_prefix: raw.suppress_prefix,
        action,
    })
}
