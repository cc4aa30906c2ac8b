//! Rules of policy routing as native text.

use super::quoted;
use crate::config::{RuleAction, VirtualRule};

pub(super) fn rule(rule: &VirtualRule) -> String {
    let network = |(address, prefix): (std::net::IpAddr, u8)| format!("\"{address}/{prefix}\"");
    let mut fields: Vec<(&str, String)> = Vec::new();
    fields.extend(rule.inverted.then(|| ("not", "true".to_owned())));
    fields.extend(rule.from.map(|it| ("from", network(it))));
    fields.extend(rule.to.map(|it| ("to", network(it))));
    if rule.six && rule.from.is_none() && rule.to.is_none() {
        fields.push(("ipv6", "true".to_owned()));
    }
    fields.extend(rule.iif.iter().map(|it| ("iif", quoted(it))));
    fields.extend(rule.oif.iter().map(|it| ("oif", quoted(it))));
    if let Some((mark, mask)) = rule.mark {
        fields.push(("mark", mark.to_string()));
        fields.extend(mask.map(|it| ("mask", it.to_string())));
    }
    fields.extend(rule.tos.map(|it| ("tos", it.to_string())));
    fields.extend(rule.priority.map(|it| ("priority", it.to_string())));
    fields.extend(rule.suppress_prefix.map(|it| ("suppress_prefix", it.to_string())));
    fields.push(match rule.action {
        RuleAction::Table(table) => ("table", table.to_string()),
        RuleAction::Goto(priority) => ("goto", priority.to_string()),
        RuleAction::Nop => ("action", quoted("nop")),
        RuleAction::Blackhole => ("action", quoted("blackhole")),
        RuleAction::Unreachable => ("action", quoted("unreachable")),
        RuleAction::Prohibit => ("action", quoted("prohibit")),
    });
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}
