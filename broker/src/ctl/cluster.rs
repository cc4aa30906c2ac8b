//! The cluster, as far as one node makes one, and what is refused because of that.

use super::error::CtlError;
use super::format::Formatter;
use super::node::{alarm_lines, alarms, listener, listener_lines};
use super::run::Run;
use serde_json::{Map, Value, json};

pub(super) fn cluster_status(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Cluster status of node {node} ..."))?;
    let facts = facts(run)?;
    if run.formatter() != Formatter::Table {
        return run.value(&facts, "");
    }
    run.title("Basics")?;
    run.print(&format!("Cluster name: {}\n", facts["cluster_name"].as_str().unwrap_or_default()))?;
    for (title, field) in [("Disk Nodes", "disk_nodes"), ("Running Nodes", "running_nodes")] {
        run.title(title)?;
        lines(run, names(&facts[field]))?;
    }
    let each = |field: &str, line: &dyn Fn(&String, &Value) -> String| -> Vec<String> {
        facts[field].as_object().into_iter().flatten().map(|(node, value)| line(node, value)).collect()
    };
    run.title("Versions")?;
    lines(
        run,
        each("versions", &|node, it| {
            format!("{node}: RabbitMQ {}", it["rabbitmq_version"].as_str().unwrap_or_default())
        }),
    )?;
    run.title("Maintenance status")?;
    lines(
        run,
        each("maintenance_status", &|node, it| {
            format!("Node: {node}, status: {}", it.as_str().unwrap_or_default())
        }),
    )?;
    run.title("Alarms")?;
    lines(run, names(&facts["alarms"]))?;
    run.title("Network Partitions")?;
    lines(run, Vec::new())?;
    run.title("Listeners")?;
    let listeners = facts["listeners"].as_object().into_iter().flatten();
    lines(run, listeners.flat_map(|(node, all)| listener_lines(all, Some(node))).collect())?;
    run.title("Feature flags")?;
    for flag in facts["feature_flags"].as_array().into_iter().flatten() {
        let text = |key: &str| flag[key].as_str().unwrap_or_default().to_owned();
        run.print(&format!("Flag: {}, state: {}", text("name"), text("state")))?;
    }
    Ok(())
}

fn facts(run: &mut Run<'_>) -> Result<Value, CtlError> {
    let overview = run.get(&["overview"])?;
    let nodes = run.list(&["nodes"])?;
    let flags = run.ask(hyper::Method::GET, &["feature-flags"], None)?;
    let name = |node: &Value| node["name"].as_str().unwrap_or_default().to_owned();
    let running = || nodes.iter().filter(|node| node["running"] == true);
    let mut listeners: Map<String, Value> = running().map(|node| (name(node), json!([]))).collect();
    for found in overview["listeners"].as_array().into_iter().flatten() {
        let of = found["node"].as_str().unwrap_or_default().to_owned();
        if let Value::Array(own) = listeners.entry(of).or_insert_with(|| json!([])) {
            own.push(listener(found));
        }
    }
    let version = |node: &Value| {
        (name(node), json!({"rabbitmq_name": "RabbitMQ", "rabbitmq_version": overview["rabbitmq_version"]}))
    };
    let maintenance = |node: &Value| {
        let words =
            if node["being_drained"] == true { "marked for maintenance" } else { "not under maintenance" };
        (name(node), Value::from(words))
    };
    let alarmed: Vec<String> = running().flat_map(|node| alarm_lines(&name(node), &alarms(node))).collect();
    Ok(json!({
        "cluster_name": overview["cluster_name"], "alarms": alarmed, "partitions": {}, "ram_nodes": [],
        "disk_nodes": nodes.iter().map(name).collect::<Vec<_>>(),
        "running_nodes": running().map(name).collect::<Vec<_>>(),
        "versions": running().map(version).collect::<Map<_, _>>(),
        "maintenance_status": running().map(maintenance).collect::<Map<_, _>>(),
        "listeners": listeners,
        "feature_flags": if flags.is_fine() { flags.body } else { json!([]) },
    }))
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn lines(run: &mut Run<'_>, lines: Vec<String>) -> Result<(), CtlError> {
    let text = if lines.is_empty() { "(none)".to_owned() } else { lines.join("\n") };
    run.print(&format!("{text}\n"))
}

/// One node is online when it answers.
pub(super) fn await_online_nodes(run: &mut Run<'_>) -> Result<(), CtlError> {
    let wanted = run.argument(0);
    let count: usize =
        wanted.parse().map_err(|_| CtlError::bad_argument(format!("`{wanted}` is not a number of nodes")))?;
    let node = run.node()?;
    run.say(&format!("Will wait for at least {count} nodes to join the cluster of {node}."))?;
    let online = run.list(&["nodes"])?.iter().filter(|node| node["running"] == true).count();
    if online >= count {
        return Ok(());
    }
    Err(CtlError::unsupported(format!(
        "{online} of {count} nodes are online; clusters of several nodes are not supported yet"
    )))
}

/// What needs several nodes.
pub(super) fn needs_cluster(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported("clusters of several nodes are not supported yet: this node stays on its own"))
}

/// What RabbitMQ does by stopping its application inside the Erlang machine.
pub(super) fn no_application(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported(
        "a node runs as a whole: `stop` ends it, and its service manager starts it again",
    ))
}

/// What evaluates code.
pub(super) fn no_code(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported("there is no Erlang here that could evaluate code"))
}

/// What encrypts values of a configuration file.
pub(super) fn no_encoding(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported(
        "values of the configuration are not encrypted: keep the file readable by the broker's user only",
    ))
}

/// What RabbitMQ itself has made a command without effect.
pub(super) fn nothing(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.say("This command does nothing.")
}

/// What would forget everything.
pub(super) fn no_reset(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported(
        "a running node is not emptied: stop it and move its data directory away (`status` says where it is)",
    ))
}
