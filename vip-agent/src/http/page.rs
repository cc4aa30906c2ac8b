//! The page a person looks at.

use std::fmt::Write as _;

use crate::status::{AgentStatus, InstanceStatus};

const STYLE: &str = "body{font:14px/1.5 sans-serif;margin:2em;color:#222}table{border-collapse:collapse;margin:1em 0}\
    td,th{padding:.3em .8em;text-align:left;vertical-align:top;border-bottom:1px solid #ccc}\
    .good{color:#0a6b2c}.bad{color:#b00020;font-weight:bold}";

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn class(good: bool) -> &'static str {
    if good { "good" } else { "bad" }
}

fn instance(rows: &mut String, instance: &InstanceStatus) {
    let heard = instance.heard.as_ref().map_or_else(
        || "nobody yet".to_owned(),
        |heard| format!("{} priority {} {:.1} s ago", heard.address, heard.priority, heard.seconds_ago),
    );
    let checks: Vec<String> = instance
        .checks
        .iter()
        .map(|check| {
            format!(
                "<span class={}>{} {}</span> ({}); if it fails: {}",
                class(check.status == "good"),
                html(&check.name),
                html(&check.status),
                html(&check.last),
                html(&check.if_it_fails)
            )
        })
        .collect();
    let last = instance.transitions.first().map_or_else(String::new, |last| html(&last.reason));
    let link = if instance.link_up { "" } else { " <span class=bad>link down</span>" };
    let _ = writeln!(
        rows,
        "<tr><td>{}<td>{}<td>{}{link}<td class={}>{}<td>{:.0} s, {last}<td>{}/{}<td>{}<td>{}",
        html(&instance.name),
        html(&instance.addresses.join(" ")),
        html(&instance.interface),
        class(instance.state != "FAULT"),
        html(&instance.state),
        instance.in_state_seconds,
        instance.effective_priority,
        instance.base_priority,
        html(&heard),
        checks.join("<br>")
    );
}

fn virtual_servers(agent: &AgentStatus) -> String {
    if agent.virtual_servers.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for server in &agent.virtual_servers {
        let quorum = match (&server.sorry_server, server.quorum) {
            (_, true) => "quorum".to_owned(),
            (Some(sorry), false) => format!("no quorum, {} answers", html(sorry)),
            (None, false) => "no quorum".to_owned(),
        };
        let _ = writeln!(
            rows,
            "<tr><th>{}<td>{} {}<td class={}>{quorum}<td>",
            html(&server.name),
            html(&server.algorithm),
            html(&server.method),
            class(server.quorum)
        );
        for real in &server.real_servers {
            let checks: Vec<String> =
                real.checks.iter().map(|(kind, found)| format!("{}: {}", html(kind), html(found))).collect();
            let _ = writeln!(
                rows,
                "<tr><td>{}<td>weight {}<td class={}>{}<td>{}",
                html(&real.address),
                real.weight,
                class(real.up),
                if real.up { "up" } else { "down" },
                checks.join("<br>")
            );
        }
    }
    format!("<table><tr><th>virtual server<th>balancing<th>state<th>checks\n{rows}</table>")
}

/// The whole page.
pub(super) fn page(agent: &AgentStatus) -> String {
    let mut rows = String::new();
    for one in &agent.instances {
        instance(&mut rows, one);
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>\
         <title>vip-agent {name}</title><style>{STYLE}</style><h1>{name}</h1>\
         <table><tr><th>instance<th>addresses<th>interface<th>state<th>since<th>priority<th>last heard<th>checks\n\
         {rows}</table>{servers}<p><a href=/status>/status</a> <a href=/metrics>/metrics</a>",
        name = html(&agent.router_id),
        servers = virtual_servers(agent),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let text = page(&super::super::example());
        assert!(text.contains("a\"&lt;b") && !text.contains("<b<td>"), "{text}");
        assert!(text.contains("<td class=bad>down<td>TCP_CHECK: &lt;refused&gt;"), "{text}");
        assert!(text.contains("<td class=good>up<td>TCP_CHECK: good"), "{text}");
    }
}
