//! `virtual_rules` as the kernel wants them.

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage};

use crate::config::{RuleAction, VirtualRule};

/// The message for `rule`. The protocol says that it is ours: a rule that somebody else made is not taken away.
pub(crate) fn message(rule: &VirtualRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = if rule.six { AddressFamily::Inet6 } else { AddressFamily::Inet };
    header.tos = rule.tos.unwrap_or(0);
    header.src_len = rule.from.map_or(0, |(_, prefix)| prefix);
    header.dst_len = rule.to.map_or(0, |(_, prefix)| prefix);
    if rule.inverted {
        header.flags |= RuleFlags::Invert;
    }
    let mut attributes = vec![RuleAttribute::Protocol(RouteProtocol::KeepAlived)];
    header.action = match rule.action {
        RuleAction::Table(table) => {
            // A number that does not fit into the header has 0 there (RT_TABLE_UNSPEC).
            header.table = u8::try_from(table).unwrap_or(0);
            attributes.push(RuleAttribute::Table(table));
            Action::ToTable
        }
        RuleAction::Goto(priority) => {
            attributes.push(RuleAttribute::Goto(priority));
            Action::Goto
        }
        RuleAction::Nop => Action::Nop,
        RuleAction::Blackhole => Action::Blackhole,
        RuleAction::Unreachable => Action::Unreachable,
        RuleAction::Prohibit => Action::Prohibit,
    };
    attributes.extend(rule.from.map(|(address, _)| RuleAttribute::Source(address)));
    attributes.extend(rule.to.map(|(address, _)| RuleAttribute::Destination(address)));
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    attributes.extend(rule.priority.map(RuleAttribute::Priority));
    attributes.extend(rule.suppress_prefix.map(RuleAttribute::SuppressPrefixLen));
    if let Some((mark, mask)) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.extend(mask.map(RuleAttribute::FwMask));
    }
    message.attributes = attributes;
    message
}
