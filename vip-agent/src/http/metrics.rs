//! `/metrics`: the names of keepalived's exporter, then our own.

use std::fmt::{Display, Write as _};

use crate::status::{AgentStatus, InstanceStatus};

/// The numbers keepalived's exporters use for a state.
fn state_number(state: &str) -> u8 {
    match state {
        "BACKUP" => 1,
        "MASTER" | "RELEASING" => 2,
        "FAULT" => 3,
        _ => 0,
    }
}

/// Name, help, type and value of one metric of an instance.
type Metric = (&'static str, &'static str, &'static str, fn(&InstanceStatus) -> f64);

const METRICS: &[Metric] = &[
    ("keepalived_advertisements_received_total", "Adverts received", "counter", |i| {
        i.counters.adverts_received as f64
    }),
    ("keepalived_advertisements_sent_total", "Adverts sent", "counter", |i| i.counters.adverts_sent as f64),
    ("keepalived_become_master_total", "Times become master", "counter", |i| i.counters.become_master as f64),
    ("keepalived_release_master_total", "Times mastership was given up", "counter", |i| {
        i.counters.release_master as f64
    }),
    ("keepalived_packet_length_errors_total", "Packets too short", "counter", |i| {
        i.counters.packet_length_errors as f64
    }),
    ("keepalived_advertisements_interval_errors_total", "Adverts of another interval", "counter", |i| {
        i.counters.interval_errors as f64
    }),
    ("keepalived_ip_ttl_errors_total", "Adverts with another hop limit than 255", "counter", |i| {
        i.counters.hop_limit_errors as f64
    }),
    (
        "keepalived_invalid_type_received_total",
        "Packets that are no adverts of this version",
        "counter",
        |i| (i.counters.unknown_packets + i.counters.version_errors) as f64,
    ),
    ("keepalived_address_list_errors_total", "Adverts that name other addresses", "counter", |i| {
        i.counters.address_mismatches as f64
    }),
    ("keepalived_authentication_mismatch_total", "Adverts of another kind of password", "counter", |i| {
        i.counters.auth_type_errors as f64
    }),
    ("keepalived_authentication_failure_total", "Adverts with another password", "counter", |i| {
        i.counters.auth_failures as f64
    }),
    ("keepalived_priority_zero_received_total", "Adverts of priority 0 received", "counter", |i| {
        i.counters.priority_zero_received as f64
    }),
    ("keepalived_priority_zero_sent_total", "Adverts of priority 0 sent", "counter", |i| {
        i.counters.priority_zero_sent as f64
    }),
    ("vip_agent_base_priority", "Priority of the configuration", "gauge", |i| f64::from(i.base_priority)),
    ("vip_agent_effective_priority", "Priority with all weights", "gauge", |i| {
        f64::from(i.effective_priority)
    }),
    ("vip_agent_in_state_seconds", "Time since the last transition", "gauge", |i| i.in_state_seconds),
    ("vip_agent_master_down_seconds", "Silence after which a backup takes over", "gauge", |i| {
        i.master_down_seconds
    }),
    ("vip_agent_peer_priority", "Priority last heard of another router; -1 = none heard", "gauge", |i| {
        i.heard.as_ref().map_or(-1.0, |heard| f64::from(heard.priority))
    }),
    (
        "vip_agent_peer_heard_seconds",
        "Age of the last advert of another router; -1 = none heard",
        "gauge",
        |i| i.heard.as_ref().map_or(-1.0, |heard| heard.seconds_ago),
    ),
    ("vip_agent_checksum_errors_total", "Packets with a wrong checksum", "counter", |i| {
        i.counters.checksum_errors as f64
    }),
    ("vip_agent_unknown_peer_total", "Adverts of routers that are no peers", "counter", |i| {
        i.counters.unknown_peers as f64
    }),
    ("vip_agent_other_master_total", "Adverts of another master while master", "counter", |i| {
        i.counters.other_masters as f64
    }),
    ("vip_agent_late_timers_total", "Timers that fired late", "counter", |i| i.counters.late_timers as f64),
    ("vip_agent_address_conflict_total", "ARP packets of others that name a held address", "counter", |i| {
        i.counters.address_conflicts as f64
    }),
    ("vip_agent_link_up", "Whether the interface has carrier", "gauge", |i| f64::from(u8::from(i.link_up))),
];

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", label(value))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}

/// Everything, in Prometheus's text format.
pub(super) fn metrics(agent: &AgentStatus) -> String {
    let mut text = Text(String::new());
    text.head("keepalived_up", "Whether the agent answers", "gauge");
    text.sample("keepalived_up", &[], 1);
    text.head("vip_agent_uptime_seconds", "Time since the start", "gauge");
    text.sample("vip_agent_uptime_seconds", &[], agent.uptime_seconds);
    text.head("keepalived_vrrp_state", "0 init, 1 backup, 2 master, 3 fault", "gauge");
    for instance in &agent.instances {
        let vrid = instance.virtual_router_id.to_string();
        for address in &instance.addresses {
            let address = address.split('/').next().unwrap_or(address);
            let labels = [
                ("iname", instance.name.as_str()),
                ("intf", &instance.interface),
                ("vrid", &vrid),
                ("ip_address", address),
            ];
            text.sample("keepalived_vrrp_state", &labels, state_number(&instance.state));
        }
    }
    for (name, help, kind, value) in METRICS {
        text.head(name, help, kind);
        for instance in &agent.instances {
            let vrid = instance.virtual_router_id.to_string();
            let labels = [("iname", instance.name.as_str()), ("intf", &instance.interface), ("vrid", &vrid)];
            text.sample(name, &labels, value(instance));
        }
    }
    scripts(&mut text, agent);
    if !agent.virtual_servers.is_empty() {
        virtual_servers(&mut text, agent);
    }
    text.0
}

fn scripts(text: &mut Text, agent: &AgentStatus) {
    text.head("keepalived_script_status", "1 good, 0 failed or unknown", "gauge");
    let mut told = Vec::new();
    for check in agent.instances.iter().flat_map(|instance| &instance.checks) {
        if !told.contains(&&check.name) {
            let good = u8::from(check.status == "good");
            text.sample("keepalived_script_status", &[("name", &check.name)], good);
            told.push(&check.name);
        }
    }
}

fn virtual_servers(text: &mut Text, agent: &AgentStatus) {
    text.head("vip_agent_virtual_server_quorum", "Whether enough real servers live", "gauge");
    for server in &agent.virtual_servers {
        let labels = [("virtual_server", server.name.as_str())];
        text.sample("vip_agent_virtual_server_quorum", &labels, u8::from(server.quorum));
    }
    for (name, help) in [
        ("vip_agent_real_server_up", "Whether the checks of a real server pass"),
        ("vip_agent_real_server_weight", "The weight in force"),
    ] {
        text.head(name, help, "gauge");
        for server in &agent.virtual_servers {
            for real in &server.real_servers {
                let labels = [("virtual_server", server.name.as_str()), ("real_server", &real.address)];
                let value = if name.ends_with("up") { u32::from(real.up) } else { real.weight };
                text.sample(name, &labels, value);
            }
        }
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_exporters_names_and_safe_labels() {
        let text = metrics(&super::super::example());
        for line in [
            "keepalived_vrrp_state{iname=\"a\\\"<b\",intf=\"ens33\",vrid=\"66\",ip_address=\"192.168.204.66\"} 1",
            "keepalived_advertisements_received_total{iname=\"a\\\"<b\",intf=\"ens33\",vrid=\"66\"} 1",
            "vip_agent_peer_priority{iname=\"a\\\"<b\",intf=\"ens33\",vrid=\"66\"} 100",
            "vip_agent_real_server_up{virtual_server=\"192.168.204.66:5672/tcp\",real_server=\"192.168.204.152:5672\"} 0",
            "vip_agent_virtual_server_quorum{virtual_server=\"192.168.204.66:5672/tcp\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }
}
