//! Joining a cluster, leaving it, and what goes with that: the words of rabbitmqctl, and ours.

use super::cluster::must_be_stopped;
use super::error::CtlError;
use super::run::Run;
use crate::cluster::operator::{Done, Order};
use crate::config::cluster::PeerName;
use daemon::exit::Exit;

/// What a token begins with.
const TOKEN: &str = "warren-join-";
/// How long a token is good for unless told otherwise, seconds.
const TOKEN_SECONDS: u64 = 30 * 60;
/// The longest.
const LONGEST_TOKEN: u64 = 7 * 86_400;

pub(super) fn stop_app(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Stopping rabbit application on node {node} ..."))?;
    give(run, &Order::StopApp).map(drop)
}

pub(super) fn start_app(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Starting node {node} ..."))?;
    give(run, &Order::StartApp).map(drop)
}

pub(super) fn join_cluster(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, target) = (run.node()?, run.argument(0));
    if run.parsed.has("disc") && run.parsed.has("ram") {
        return Err(CtlError::bad_argument("The node type must be either disc or ram."));
    }
    member(target)?;
    must_be_stopped(run)?;
    run.say(&format!("Clustering node {node} with {target}"))?;
    if *target == *node {
        let text = format!("Error: cannot cluster node with itself: {node}");
        return Err(CtlError::refused(Exit::Software.code(), text));
    }
    if run.parsed.has("ram") {
        remark(run, "nodes here keep their data on disk: this one joins as a disc node")?;
    }
    let done = give(run, &Order::Join { members: vec![target.to_owned()], token: None })?;
    if done.already {
        run.say("The node is already a member of this cluster")?;
    }
    Ok(())
}

/// `broker join ADDRESS|TOKEN`: the tutorial's three lines in one.
pub(super) fn join(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, given) = (run.node()?, run.argument(0));
    let order = if given.starts_with(TOKEN) {
        Order::Join { members: Vec::new(), token: Some(given.to_owned()) }
    } else {
        member(given)?;
        Order::Join { members: vec![given.to_owned()], token: None }
    };
    run.say(&format!("Node {node} joins the cluster ..."))?;
    give(run, &Order::StopApp)?;
    // Whatever comes of joining, a node that ran runs again.
    let joined = give(run, &order);
    give(run, &Order::StartApp)?;
    joined?;
    super::cluster::members(run)
}

/// `broker leave`: out of the cluster, and back to the data that the node had before it joined.
pub(super) fn leave(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Node {node} leaves the cluster ..."))?;
    give(run, &Order::Leave).map(drop)
}

/// `broker token`: with it another node joins without knowing the cookie.
pub(super) fn token(run: &mut Run<'_>) -> Result<(), CtlError> {
    let seconds = match run.parsed.number("minutes")? {
        None => TOKEN_SECONDS,
        Some(minutes) => minutes.saturating_mul(60),
    };
    if !(60..=LONGEST_TOKEN).contains(&seconds) {
        let most = LONGEST_TOKEN / 60;
        return Err(CtlError::bad_argument(format!("--minutes lies between 1 and {most}")));
    }
    let done = give(run, &Order::Token { seconds })?;
    let token = done.token.ok_or_else(|| CtlError::plain(Exit::Software, "Error: the node made no token"))?;
    run.say(&format!("Good for {} minutes; on the other node: broker join TOKEN", seconds / 60))?;
    run.print(&token)
}

/// `broker recover --new-generation`: the majority is lost for good, and this node goes on without it.
pub(super) fn recover(run: &mut Run<'_>) -> Result<(), CtlError> {
    if !run.parsed.has("new-generation") {
        let text = "a new generation is for when most nodes are lost for good: what they alone had is lost, and they \
                    can come back only after a reset. If that is so, add --new-generation";
        return Err(CtlError::usage(text));
    }
    let node = run.node()?;
    run.say(&format!("Node {node} begins a new generation of the cluster with what it knows ..."))?;
    give(run, &Order::Recover).map(drop)
}

pub(super) fn reset(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    must_be_stopped(run)?;
    run.say(&format!("Resetting node {node} ..."))?;
    give(run, &Order::Reset { force: false }).map(drop)
}

pub(super) fn force_reset(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    must_be_stopped(run)?;
    run.say(&format!("Forcefully resetting node {node} ..."))?;
    give(run, &Order::Reset { force: true }).map(drop)
}

pub(super) fn force_boot(run: &mut Run<'_>) -> Result<(), CtlError> {
    must_be_stopped(run)?;
    let identity = run.ask_local(hyper::Method::GET, "identity", None)?;
    let folder = identity["db_dir"].as_str().unwrap_or_default().to_owned();
    run.say(&format!("Forcing boot for Mnesia dir {folder}"))?;
    give(run, &Order::ForceBoot).map(drop)
}

pub(super) fn forget_cluster_node(run: &mut Run<'_>) -> Result<(), CtlError> {
    let target = run.argument(0);
    member(target)?;
    let text = format!("Removing node {target} from the cluster");
    if run.parsed.has("offline") {
        // RabbitMQ's way out when the last node to stop does not come back; ours is a new generation.
        let text = "a node that does not run can not decide for the others. If most of them are lost for good, start this \
                    one and run: broker recover --new-generation";
        return Err(CtlError::unsupported(text));
    }
    run.say(&text)?;
    let known = super::cluster::status(run)?.members;
    match known.iter().find(|member| member.name == *target) {
        None => {
            let text = "{:not_a_cluster_node, 'The node selected is not in the cluster.'}";
            return Err(CtlError::unavailable(text));
        }
        Some(member) if member.running => {
            return Err(CtlError::unavailable(format!(
                "RabbitMQ on node {target} must be stopped with 'rabbitmqctl -n {target} stop_app' before it can be removed"
            )));
        }
        Some(_) => {}
    }
    let order = Order::Forget { node: target.to_owned(), accept_loss: run.parsed.has("accept-loss") };
    give(run, &order).map(drop)
}

pub(super) fn change_cluster_node_type(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, kind) = (run.node()?, run.argument(0));
    if !["disc", "disk", "ram"].contains(&kind) {
        return Err(CtlError::bad_argument("The node type must be either disc or ram."));
    }
    must_be_stopped(run)?;
    run.say(&format!("Turning {node} into a {kind} node"))?;
    if kind == "ram" {
        return remark(run, "nodes here keep their data on disk: this one stays a disc node");
    }
    run.say("Node type is already disc")
}

pub(super) fn update_cluster_nodes(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, seed) = (run.node()?, run.argument(0));
    member(seed)?;
    run.say(&format!("Will seed {node} from {seed} on next start"))?;
    remark(run, "nodes here find each other by the addresses of all members: there is nothing to update")
}

/// Pairs of an old name and a new one. A node renames itself; pairs of others are for those.
pub(super) fn rename_cluster_node(run: &mut Run<'_>) -> Result<(), CtlError> {
    let names = run.arguments_from(0);
    if !names.len().is_multiple_of(2) {
        return Err(CtlError::bad_argument("Argument list should contain even number of nodes"));
    }
    names.iter().try_for_each(|name| member(name))?;
    if let Some(name) = names.iter().find(|name| !name.contains('@') || name.contains(':')) {
        return Err(CtlError::bad_argument(format!("`{name}` is not a node's name; write rabbit@host")));
    }
    let names: Vec<(String, String)> =
        names.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    must_be_stopped(run)?;
    let pairs: Vec<String> = names.iter().map(|(old, new)| format!("{old} -> {new}")).collect();
    run.say(&format!("Renaming cluster nodes: {}", pairs.join(", ")))?;
    give(run, &Order::Rename { names }).map(drop)
}

/// Gives the node an order and passes on what it remarks.
pub(super) fn give(run: &mut Run<'_>, order: &Order) -> Result<Done, CtlError> {
    let done = run.order(order)?;
    for text in &done.remarks {
        remark(run, text)?;
    }
    Ok(done)
}

fn remark(run: &mut Run<'_>, text: &str) -> Result<(), CtlError> {
    run.say(&format!("note: {text}"))
}

/// A name of a node must be one.
fn member(name: &str) -> Result<(), CtlError> {
    match PeerName::parse(name) {
        Some(_) => Ok(()),
        None => {
            Err(CtlError::bad_argument(format!("`{name}` is not a node; write rabbit@host, or host:25672")))
        }
    }
}
