//! rabbitmq-upgrade: a node out of service and back, and waiting until the others can do without it.

use super::error::CtlError;
use super::membership::give;
use super::run::Run;
use crate::cluster::operator::Order;
use daemon::exit::Exit;
use hyper::Method;
use std::time::{Duration, Instant};

/// How often it is looked whether the others can do without this node.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn drain(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!(
        "Will put node {node} into maintenance mode. The node will no longer serve any client traffic!"
    ))?;
    give(run, &Order::Drain).map(drop)
}

pub(super) fn revive(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!(
        "Will put node {node} back into a normal operating mode. The node will again serve client traffic and host primary \
         queue replicas."
    ))?;
    give(run, &Order::Revive).map(drop)
}

pub(super) fn await_online_quorum_plus_one(run: &mut Run<'_>) -> Result<(), CtlError> {
    let timeout = run.timeout();
    run.say(&format!(
        "Will wait for a quorum + 1 of nodes to be online for all quorum queues for {timeout:.0} seconds..."
    ))?;
    healthy(run, "node-is-quorum-critical")
}

pub(super) fn await_online_synchronized_mirror(run: &mut Run<'_>) -> Result<(), CtlError> {
    let timeout = run.timeout();
    run.say(&format!(
        "Will wait for all classic mirrored queues to have a synchronised mirror for {timeout:.0} seconds..."
    ))?;
    healthy(run, "node-is-mirror-sync-critical")
}

pub(super) fn post_upgrade(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.say("Executing post upgrade tasks...\nRebalancing queue leaders ...")?;
    run.ask(Method::POST, &["rebalance", "queues"], None)?.fine().map(drop)
}

/// Waits until a health check passes.
fn healthy(run: &mut Run<'_>, check: &str) -> Result<(), CtlError> {
    let since = Instant::now();
    let patience = Duration::from_secs_f64(run.timeout());
    loop {
        let answer = run.ask(Method::GET, &["health", "checks", check], None)?;
        if answer.status != 503 {
            return answer.fine().map(drop);
        }
        if since.elapsed() >= patience {
            return Err(CtlError::plain(Exit::TempFail, format!("Error: time is up: {}", answer.reason())));
        }
        std::thread::sleep(LOOK);
    }
}
