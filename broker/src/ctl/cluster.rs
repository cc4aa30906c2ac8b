//! The cluster as one of its nodes sees it, and waiting for the others.

use super::error::CtlError;
use super::format::Formatter;
use super::node::{alarm_lines, alarms, listener, listener_lines};
use super::run::Run;
use crate::cluster::operator::{AppState, ClusterStatus, MemberStatus};
use daemon::exit::Exit;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// How long other nodes are waited for unless told otherwise. RabbitMQ: the same.
const ONLINE: Duration = Duration::from_secs(300);
/// How often they are counted.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn cluster_status(run: &mut Run<'_>) -> Result<(), CtlError> {
    if status(run)?.app == AppState::Stopped {
        return Err(CtlError::must_run());
    }
    let node = run.node()?;
    run.say(&format!("Cluster status of node {node} ..."))?;
    let facts = facts(run)?;
    if run.formatter() != Formatter::Table {
        return run.value(&facts, "");
    }
    run.title("Basics")?;
    run.print(&format!("Cluster name: {}\n", facts["cluster_name"].as_str().unwrap_or_default()))?;
    // What is wrong comes first: ours.
    if facts["warnings"].as_array().is_some_and(|all| !all.is_empty()) {
        run.title("Warnings")?;
        lines(run, names(&facts["warnings"]))?;
    }
    run.title("Disk Nodes")?;
    lines(run, names(&facts["disk_nodes"]))?;
    if facts["witnesses"].as_array().is_some_and(|all| !all.is_empty()) {
        run.title("Witnesses")?;
        lines(run, names(&facts["witnesses"]))?;
    }
    run.title("Running Nodes")?;
    lines(run, names(&facts["running_nodes"]))?;
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
    lines(
        run,
        each("partitions", &|node, others| {
            format!("Node {node} cannot communicate with {}", names(others).join(", "))
        }),
    )?;
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

/// The nodes with what is wrong, in short: behind a command that changed something.
pub(super) fn members(run: &mut Run<'_>) -> Result<(), CtlError> {
    let status = status(run)?;
    let shown = |member: &MemberStatus| {
        let state = if member.running { "running" } else { "down" };
        let own = if member.name == status.node { ", this node" } else { "" };
        let kind = if member.witness { ", witness" } else { "" };
        format!("{} ({state}{kind}{own})", member.name)
    };
    let all: Vec<String> = status.members.iter().map(shown).collect();
    run.print(&format!("nodes: {}", all.join(", ")))?;
    status.warnings.iter().try_for_each(|text| run.print(&format!("note: {text}")))
}

/// Fails unless the node is stopped, before anything is said: as rabbitmqctl does.
pub(super) fn must_be_stopped(run: &mut Run<'_>) -> Result<(), CtlError> {
    if status(run)?.app == AppState::Stopped { Ok(()) } else { Err(CtlError::must_be_stopped()) }
}

/// What the node knows of the cluster. One that is asked over the network tells less.
pub(super) fn status(run: &mut Run<'_>) -> Result<ClusterStatus, CtlError> {
    if run.is_local() {
        let body = run.ask_local(hyper::Method::GET, "cluster", None)?;
        return serde_json::from_value(body).map_err(|error| {
            CtlError::plain(Exit::Software, format!("Error: the node's answer makes no sense: {error}"))
        });
    }
    let node = run.node()?;
    let member = |entry: &Value| MemberStatus {
        name: entry["name"].as_str().unwrap_or_default().to_owned(),
        witness: entry["type"] == "witness",
        running: entry["running"] == true,
        drained: entry["being_drained"] == true,
        partitions: names(&entry["partitions"]),
        ..MemberStatus::default()
    };
    let members = run.list(&["nodes"])?.iter().map(member).collect();
    Ok(ClusterStatus { node, members, ..ClusterStatus::default() })
}

fn facts(run: &mut Run<'_>) -> Result<Value, CtlError> {
    let status = status(run)?;
    let mut warnings: Vec<String> = status.warnings.clone();
    if let AppState::Paused(reason) = &status.app
        && warnings.is_empty()
    {
        warnings.push(format!("this node is paused: {reason}"));
    }
    let overview = told(run, &status, &["overview"])?;
    let flags = told(run, &status, &["feature-flags"])?;
    let running = || status.members.iter().filter(|member| member.running && !member.witness);
    let (mut listeners, mut versions, mut alarmed) = (Map::new(), Map::new(), Vec::new());
    for member in running() {
        let name = member.name.as_str();
        // Over HTTP one node answers for all of them.
        let (theirs, node) = if name == status.node || !run.is_local() {
            (overview.clone(), answered(run, &["nodes", name])?)
        } else {
            (run.answer_of(name, &["overview"])?, run.answer_of(name, &["nodes", name])?)
        };
        let own = theirs["listeners"].as_array().into_iter().flatten().filter(|it| it["node"] == *name);
        listeners.insert(name.to_owned(), own.map(listener).collect());
        // The version that it speaks as to clients, not that of the program.
        let version = theirs["rabbitmq_version"].clone();
        versions.insert(name.to_owned(), json!({"rabbitmq_name": "RabbitMQ", "rabbitmq_version": version}));
        alarmed.extend(alarm_lines(name, &alarms(&node)));
    }
    let maintenance = |member: &MemberStatus| {
        let words = if member.drained { "marked for maintenance" } else { "not under maintenance" };
        (member.name.clone(), Value::from(words))
    };
    let apart = status.members.iter().filter(|member| !member.partitions.is_empty());
    let named = |witness: bool| -> Vec<&String> {
        status.members.iter().filter(|member| member.witness == witness).map(|member| &member.name).collect()
    };
    Ok(json!({
        "cluster_name": overview["cluster_name"], "alarms": alarmed, "ram_nodes": [],
        "partitions": apart.map(|member| (member.name.clone(), json!(member.partitions))).collect::<Map<_, _>>(),
        "disk_nodes": named(false), "witnesses": named(true),
        "running_nodes": running().map(|member| &member.name).collect::<Vec<_>>(),
        "versions": versions,
        "maintenance_status": running().map(maintenance).collect::<Map<_, _>>(),
        "listeners": listeners, "feature_flags": if flags.is_null() { json!([]) } else { flags },
        "warnings": warnings,
    }))
}

/// What the cluster as a whole has there, or nothing. A witness has to ask one of the others.
fn told(run: &mut Run<'_>, status: &ClusterStatus, parts: &[&str]) -> Result<Value, CtlError> {
    let witness = |member: &&MemberStatus| member.witness && member.name == status.node;
    if !status.members.iter().any(|member| witness(&member)) {
        return answered(run, parts);
    }
    let broker = status.members.iter().find(|member| member.running && !member.witness);
    broker.map_or(Ok(Value::Null), |broker| run.answer_of(&broker.name, parts))
}

/// What the API has there, or nothing.
fn answered(run: &mut Run<'_>, parts: &[&str]) -> Result<Value, CtlError> {
    let answer = run.ask(hyper::Method::GET, parts, None)?;
    Ok(if answer.is_fine() { answer.body } else { Value::Null })
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn lines(run: &mut Run<'_>, lines: Vec<String>) -> Result<(), CtlError> {
    let text = if lines.is_empty() { "(none)".to_owned() } else { lines.join("\n") };
    run.print(&format!("{text}\n"))
}

pub(super) fn await_online_nodes(run: &mut Run<'_>) -> Result<(), CtlError> {
    let wanted = run.argument(0);
    let count: usize =
        wanted.parse().map_err(|_| CtlError::bad_argument(format!("`{wanted}` is not a number of nodes")))?;
    let node = run.node()?;
    let patience = if run.parsed.has("timeout") { Duration::from_secs_f64(run.timeout()) } else { ONLINE };
    run.say(&format!(
        "Will wait for at least {count} nodes to join the cluster of {node}. Timeout: {:.0} seconds.",
        patience.as_secs_f64()
    ))?;
    let since = Instant::now();
    loop {
        let online = status(run)?.members.iter().filter(|member| member.running && !member.witness).count();
        if online >= count {
            return Ok(());
        }
        if since.elapsed() >= patience {
            let text = format!("Error: timed out while waiting. Not enough nodes joined {node}'s cluster.");
            return Err(CtlError::refused(Exit::Software.code(), text));
        }
        std::thread::sleep(LOOK);
    }
}
