//! rabbitmq-queues: who holds copies of quorum queues, and where leaders are.

use super::error::CtlError;
use super::format::Rows;
use super::membership::give;
use super::run::Run;
use crate::cluster::operator::Order;
use broker_core::meta::access::Pattern;
use hyper::Method;
use serde_json::{Value, json};

/// The columns of `quorum_status`, RabbitMQ's.
const MEMBER: [&str; 7] =
    ["Node Name", "Raft State", "Log Index", "Commit Index", "Snapshot Index", "Term", "Machine Version"];

pub(super) fn rebalance(run: &mut Run<'_>) -> Result<(), CtlError> {
    let kind = run.argument(0);
    if !["all", "classic", "quorum"].contains(&kind) {
        return Err(CtlError::bad_argument(format!(
            "type {kind} is not supported. Try one of all, classic, quorum."
        )));
    }
    run.say(&format!("Rebalancing {kind} queues..."))?;
    run.ask(Method::POST, &["rebalance", "queues"], None)?.fine().map(drop)
}

pub(super) fn quorum_status(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name) = (run.vhost()?, run.argument(0));
    let node = run.node()?;
    run.say(&format!("Status of quorum queue {name} on node {node} ..."))?;
    let queue = quorum_queue(run, vhost, name)?;
    let (leader, online) = (&queue["leader"], &queue["online"]);
    let member = |name: &Value| {
        let state = match () {
            () if name == leader => "leader",
            () if online.as_array().is_some_and(|all| all.contains(name)) => "follower",
            () => "noproc",
        };
        // Copies here have no log of their own that could be numbered.
        json!({"Node Name": name, "Raft State": state})
    };
    let members: Vec<Value> = queue["members"].as_array().into_iter().flatten().map(member).collect();
    run.pretty_rows(&Rows::pick(&MEMBER, &members))
}

pub(super) fn add_member(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name, node) = (run.vhost()?, run.argument(0), run.argument(1));
    run.say(&format!("Adding a replica for queue {name} on node {node}..."))?;
    quorum_queue(run, vhost, name)?;
    change(run, (vhost, name), Some(node), None)
}

pub(super) fn delete_member(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name, node) = (run.vhost()?, run.argument(0), run.argument(1));
    run.say(&format!("Removing a replica of queue {name} on node {node}..."))?;
    quorum_queue(run, vhost, name)?;
    change(run, (vhost, name), None, Some(node))
}

pub(super) fn grow(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, strategy) = (run.argument(0), run.argument(1));
    if !["all", "even"].contains(&strategy) {
        return Err(CtlError::bad_argument(format!("strategy '{strategy}' is not recognised.")));
    }
    run.say(&format!("Growing {strategy} quorum queues on {node}..."))?;
    let wanted = |members: &[Value]| {
        let is_member = members.iter().any(|member| *member == *node);
        !is_member && (strategy == "all" || members.len().is_multiple_of(2))
    };
    each(run, wanted, |node| (Some(node), None), 1)
}

pub(super) fn shrink(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.argument(0);
    run.say(&format!("Shrinking quorum queues on {node}..."))?;
    each(run, |members| members.iter().any(|member| *member == *node), |node| (None, Some(node)), -1)
}

/// Changes the members of every quorum queue that fits, and shows what came of it.
fn each(
    run: &mut Run<'_>,
    wanted: impl Fn(&[Value]) -> bool,
    what: impl for<'n> Fn(&'n str) -> (Option<&'n str>, Option<&'n str>),
    by: i64,
) -> Result<(), CtlError> {
    let node = run.argument(0);
    let pattern =
        |name: &str| Pattern::new(run.parsed.value(name).unwrap_or(".*")).map_err(CtlError::bad_argument);
    let (vhosts, names) = (pattern("vhost-pattern")?, pattern("queue-pattern")?);
    let errors_only = run.parsed.has("errors-only");
    let all = run.list_with(&["queues"], "vhost,name,type,members")?;
    let mut rows = Vec::new();
    for queue in all.iter().filter(|queue| queue["type"] == "quorum") {
        let text = |field: &str| queue[field].as_str().unwrap_or_default();
        let members = queue["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !vhosts.is_match(text("vhost")) || !names.is_match(text("name")) || !wanted(members) {
            continue;
        }
        let (add, remove) = what(node);
        let size = i64::try_from(members.len()).unwrap_or(i64::MAX);
        let (size, result) = match change(run, (text("vhost"), text("name")), add, remove) {
            Ok(()) if errors_only => continue,
            Ok(()) => (size.saturating_add(by), "ok".to_owned()),
            Err(error) => (size, error.render(&[], "").replace('\n', " ")),
        };
        rows.push(json!({"vhost": text("vhost"), "name": text("name"), "size": size, "result": result}));
    }
    run.rows(&Rows::pick(&["vhost", "name", "size", "result"], &rows))
}

fn change(
    run: &mut Run<'_>,
    (vhost, queue): (&str, &str),
    add: Option<&str>,
    remove: Option<&str>,
) -> Result<(), CtlError> {
    let order = Order::Replicas {
        vhost: vhost.to_owned(),
        queue: queue.to_owned(),
        add: add.map(str::to_owned),
        remove: remove.map(str::to_owned),
    };
    give(run, &order).map(drop)
}

fn quorum_queue(run: &mut Run<'_>, vhost: &str, name: &str) -> Result<Value, CtlError> {
    let answer = run.ask(Method::GET, &["queues", vhost, name], None)?;
    if answer.is_missing() {
        return Err(CtlError::unavailable("not_found"));
    }
    let queue = answer.fine()?;
    if queue["type"] == "quorum" {
        return Ok(queue);
    }
    Err(CtlError::unavailable("Cannot get quorum status of a classic queue"))
}
