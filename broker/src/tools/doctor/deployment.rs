//! What the HTTP API of one broker tells about all of them: nodes, alarms, versions, mirrors, certificates, permissions.

use super::finding::Finding;
use crate::ctl::Asked;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Share of a node's open files that may be in use.
const FULL: f64 = 0.8;
/// Columns of queues that are looked at.
const COLUMNS: &str = "columns=vhost,name,type,state,durable,exclusive,policy,slave_nodes,synchronised_slave_nodes,members,online";

/// Looks at the deployment through a node.
pub(super) fn look(asked: &mut Asked) -> Vec<Finding> {
    let mut found = Vec::new();
    let listed = asked.get("/api/nodes").unwrap_or_else(|failure| {
        let fix = "a user with the tag monitoring or administrator sees them";
        found.push(Finding::note("nodes, alarms", format!("not looked at: {}", failure.message), fix));
        Value::Null
    });
    found.extend(nodes(&listed));
    // What the cluster itself warns of, clocks among it, is known to who asks on a node's own host.
    match asked.get("/local/cluster") {
        Ok(status) => found.extend(warnings(&status)),
        Err(_) => found.push(Finding::note(
            "cluster",
            "what the nodes warn of (clocks, votes) is told on their own hosts only",
            "broker ctl cluster_status   there",
        )),
    }
    let running = running(&listed).len();
    if let Ok(queues) = asked.get(&format!("/api/queues?{COLUMNS}")) {
        found.extend(mirrors(&queues, running));
    }
    match asked.get("/api/health/checks/certificate-expiration/1/months") {
        Ok(_) => found.push(Finding::pass("certificates", "none runs out within a month")),
        Err(failure) => found.push(Finding::warn(
            "certificates",
            failure.message.clone(),
            "put new files in place, then systemctl reload warren-broker: connections stay",
        )),
    }
    if let (Ok(vhosts), Ok(permissions)) =
        (asked.get("/api/vhosts?columns=name"), asked.get("/api/permissions"))
    {
        found.extend(permitted(&vhosts, &permissions));
    }
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'v>(entry: &'v Value, field: &str) -> &'v str {
    entry[field].as_str().unwrap_or_default()
}

fn running(nodes: &Value) -> Vec<&str> {
    list(nodes).filter(|node| node["running"] == true).map(|node| text(node, "name")).collect()
}

fn nodes(nodes: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    let up = running(nodes);
    if !up.is_empty() {
        found.push(Finding::pass("nodes", format!("{} running", up.join(", "))));
    }
    for node in list(nodes) {
        let name = text(node, "name");
        if node["running"] != true {
            let fix = format!("start it; if it never comes back: broker ctl forget_cluster_node {name}");
            found.push(Finding::fail("nodes", format!("{name} is not running"), fix));
            continue;
        }
        if node["being_drained"] == true {
            let text = format!("{name} is in maintenance and takes no clients");
            found.push(Finding::warn("nodes", text, format!("broker ctl -n {name} revive")));
        }
        for (field, what, fix) in [
            (
                "mem_alarm",
                "memory",
                "consume what waits, or raise memory_high_watermark; broker top shows the queues",
            ),
            ("disk_free_alarm", "disk", "make room in its data folder, or lower limits.disk_free"),
        ] {
            if node[field] == true {
                let text = format!("{name} is short of {what}: publishers are held back on all nodes");
                found.push(Finding::fail("alarms", text, fix));
            }
        }
        let number = |field: &str| node[field].as_f64().unwrap_or(0.0);
        if number("fd_total") > 0.0 && number("fd_used") > number("fd_total") * FULL {
            let text = format!("{name} uses {} of {} open files", number("fd_used"), number("fd_total"));
            found.push(Finding::warn("open files", text, "LimitNOFILE= of the unit warren-broker"));
        }
    }
    found.extend(versions(nodes));
    found
}

fn versions(nodes: &Value) -> Option<Finding> {
    let version = |node: &Value| {
        let of_server = list(&node["applications"]).find(|it| it["name"] == "rabbit")?;
        Some((of_server["version"].as_str()?.to_owned(), text(node, "name").to_owned()))
    };
    let all: BTreeSet<(String, String)> = list(nodes).filter_map(version).collect();
    let distinct: BTreeSet<&str> = all.iter().map(|(version, _)| version.as_str()).collect();
    match distinct.len() {
        0 => None,
        1 => {
            Some(Finding::pass("versions", format!("all {}", distinct.first().copied().unwrap_or_default())))
        }
        _ => {
            let told: Vec<String> = all.iter().map(|(version, node)| format!("{node} {version}")).collect();
            let fix =
                "upgrade the others too, one after another: broker ctl drain, install, broker ctl revive";
            Some(Finding::warn("versions", told.join(", "), fix))
        }
    }
}

/// What a cluster says of itself.
fn warnings(status: &Value) -> Vec<Finding> {
    let all: Vec<&str> = list(&status["warnings"]).filter_map(Value::as_str).collect();
    if all.is_empty() {
        return vec![Finding::pass("cluster", "it warns of nothing, clocks and votes included")];
    }
    // Each sentence says what to do behind a colon.
    all.into_iter()
        .map(|warning| match warning.split_once(": ") {
            Some((what, fix)) => Finding::warn("cluster", what, fix),
            None => Finding::warn("cluster", warning, "broker ctl cluster_status"),
        })
        .collect()
}

/// Copies of queues, where there is more than one node to have them on.
fn mirrors(queues: &Value, nodes: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    let names = |queue: &Value, field: &str| list(&queue[field]).count();
    let shown = |queue: &Value| match text(queue, "vhost") {
        "/" => text(queue, "name").to_owned(),
        vhost => format!("{} (vhost {vhost})", text(queue, "name")),
    };
    let (mut single, mut late, mut down, mut mirrored) =
        (BTreeMap::<&str, Vec<&str>>::new(), Vec::new(), Vec::new(), 0);
    for queue in list(queues).filter(|queue| queue["exclusive"] != true) {
        if text(queue, "state") == "down" {
            down.push(shown(queue));
        } else if queue["type"] == "quorum" {
            mirrored += 1;
            if names(queue, "online") < names(queue, "members") {
                late.push(shown(queue));
            }
        } else if queue["slave_nodes"].is_array() && names(queue, "slave_nodes") > 0 {
            mirrored += 1;
            if names(queue, "synchronised_slave_nodes") < names(queue, "slave_nodes") {
                late.push(shown(queue));
            }
        } else if queue["durable"] == true {
            single.entry(text(queue, "vhost")).or_default().push(text(queue, "name"));
        }
    }
    if !down.is_empty() {
        let fix = "start the node that has it; broker ctl list_queues --offline name pid";
        found.push(Finding::fail("queues", format!("{} cannot be used: {}", down.len(), few(&down)), fix));
    }
    if nodes < 2 {
        return found;
    }
    if !late.is_empty() {
        let text = format!("{} not in sync everywhere: {}", late.len(), few(&late));
        found.push(Finding::warn(
            "mirrors",
            text,
            "broker ctl sync_queue NAME, or ha-sync-mode automatic in the policy",
        ));
    }
    for (vhost, queues) in single {
        let queues: Vec<String> = queues.into_iter().map(str::to_owned).collect();
        let word = if queues.len() == 1 { "queue has" } else { "queues have" };
        let text = format!(
            "{} durable {word} 1 copy on {nodes} nodes in vhost {vhost}: {}",
            queues.len(),
            few(&queues)
        );
        let fix = format!("rabbitmqctl set_policy -p {vhost} ha \"^\" '{{\"ha-mode\":\"all\"}}'");
        found.push(Finding::warn("mirrors", text, fix));
    }
    if found.is_empty() {
        found.push(Finding::pass("mirrors", format!("{mirrored} queues, all in sync")));
    }
    found
}

/// The first of many.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// Vhosts that nobody may use.
fn permitted(vhosts: &Value, permissions: &Value) -> Vec<Finding> {
    let used: BTreeSet<&str> = list(permissions).map(|it| text(it, "vhost")).collect();
    list(vhosts)
        .map(|vhost| text(vhost, "name"))
        .filter(|vhost| !used.contains(vhost))
        .map(|vhost| {
            let fix = format!("broker ctl set_permissions -p {vhost} USER '.*' '.*' '.*'");
            Finding::warn("permissions", format!("nobody may use the vhost {vhost}"), fix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Level;
    use serde_json::json;

    fn told(found: &[Finding]) -> String {
        found.iter().map(|it| format!("{it}\n")).collect()
    }

    #[test]
    fn nodes_that_are_down_full_or_of_another_version_are_told_with_what_to_do() {
        let version = |version: &str| json!([{"name": "rabbit", "version": version}]);
        let all = json!([
            {"name": "rabbit@A", "running": true, "mem_alarm": true, "disk_free_alarm": false,
                "fd_used": 90, "fd_total": 100, "applications": version("1")},
            {"name": "rabbit@B", "running": false},
            {"name": "rabbit@C", "running": true, "being_drained": true, "applications": version("2")},
        ]);
        let text = told(&nodes(&all));
        for line in [
            "PASS nodes                    rabbit@A, rabbit@C running",
            "FAIL nodes                    rabbit@B is not running",
            "     fix: start it; if it never comes back: broker ctl forget_cluster_node rabbit@B",
            "WARN nodes                    rabbit@C is in maintenance and takes no clients",
            "FAIL alarms                   rabbit@A is short of memory: publishers are held back on all nodes",
            "WARN open files               rabbit@A uses 90 of 100 open files",
            "WARN versions                 rabbit@A 1, rabbit@C 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n\n{text}");
        }
    }

    #[test]
    fn copies_of_queues_matter_where_there_are_nodes_for_them() {
        let all = json!([
            {"vhost": "/", "name": "m", "type": "classic", "durable": true, "slave_nodes": ["b"], "synchronised_slave_nodes": []},
            {"vhost": "/", "name": "q", "type": "quorum", "durable": true, "members": ["a", "b"], "online": ["a", "b"]},
            {"vhost": "/billing", "name": "invoices", "type": "classic", "durable": true, "state": "running"},
            {"vhost": "/", "name": "x", "durable": false, "exclusive": true},
            {"vhost": "/", "name": "gone", "durable": true, "state": "down"},
        ]);
        let text = told(&mirrors(&all, 2));
        for part in [
            "1 cannot be used: gone",
            "1 not in sync everywhere: m",
            "1 durable queue has 1 copy on 2 nodes in vhost /billing: invoices",
            "fix: rabbitmqctl set_policy -p /billing ha \"^\" '{\"ha-mode\":\"all\"}'",
        ] {
            assert!(text.contains(part), "{part}\n\n{text}");
        }
        assert!(mirrors(&all, 1).iter().all(|it| it.level == Level::Fail), "a node alone has no mirrors");
        let fine = json!([all[1]]);
        assert_eq!(told(&mirrors(&fine, 2)), "PASS mirrors                  1 queues, all in sync\n");
    }

    #[test]
    fn warnings_of_the_cluster_keep_their_advice() {
        let status = json!({"warnings": ["B can fail; if A fails, B pauses: add a witness"]});
        assert_eq!(
            told(&warnings(&status)),
            "WARN cluster                  B can fail; if A fails, B pauses\n     fix: add a witness\n"
        );
        assert_eq!(warnings(&json!({}))[0].level, Level::Pass);
        let (vhosts, permissions) = (json!([{"name": "/"}, {"name": "v"}]), json!([{"vhost": "/"}]));
        assert!(told(&permitted(&vhosts, &permissions)).contains("nobody may use the vhost v"));
    }
}
