//! Queues and connections: purging, deleting, closing; and knobs of a running node.

use super::error::CtlError;
use super::listing::connection_pid;
use super::run::Run;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn purge_queue(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Purging queue '{name}' in vhost '{vhost}' ..."))?;
    run.need_vhost(vhost)?;
    let answer = run.ask(Method::DELETE, &["queues", vhost, name, "contents"], None)?;
    if answer.is_missing() {
        return Err(CtlError::unavailable("not_found"));
    }
    answer.fine().map(drop)
}

pub(super) fn delete_queue(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name) = (run.parsed.vhost(), run.argument(0));
    let conditions: Vec<&str> = [("if-empty", "if queue is empty "), ("if-unused", "if queue is unused ")]
        .into_iter()
        .filter(|(switch, _)| run.parsed.has(switch))
        .map(|(_, words)| words)
        .collect();
    run.say(&format!("Deleting queue '{name}' on vhost '{vhost}' {}...", conditions.join("and ")))?;
    run.need_vhost(vhost)?;
    let known = run.ask(Method::GET, &["queues", vhost, name], None)?;
    if known.is_missing() {
        return Err(CtlError::unavailable("Queue not found"));
    }
    let ready = known.fine()?["messages_ready"].as_u64().unwrap_or(0);
    let query: Vec<&str> = [("if-empty", "if-empty=true"), ("if-unused", "if-unused=true")]
        .into_iter()
        .filter(|(switch, _)| run.parsed.has(switch))
        .map(|(_, query)| query)
        .collect();
    let answer = run.delete_with(&["queues", vhost, name], &query.join("&"))?;
    if answer.status == 400 {
        let reason = answer.reason();
        let text = match () {
            () if reason.contains("not empty") => "Queue is not empty".to_owned(),
            () if reason.contains("in use") => "Queue is in use".to_owned(),
            () => reason,
        };
        return Err(CtlError::refused(Exit::Usage.code(), text));
    }
    answer.fine()?;
    run.print(&format!("Queue was successfully deleted with {ready} ready messages"))
}

pub(super) fn sync_queue(run: &mut Run<'_>) -> Result<(), CtlError> {
    synchronise(run, "Synchronising queue", "sync")
}

pub(super) fn cancel_sync_queue(run: &mut Run<'_>) -> Result<(), CtlError> {
    synchronise(run, "Stopping synchronising queue", "cancel_sync")
}

fn synchronise(run: &mut Run<'_>, words: &str, action: &str) -> Result<(), CtlError> {
    let (vhost, name) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("{words} '{name}' in vhost '{vhost}' ..."))?;
    run.need_vhost(vhost)?;
    let answer =
        run.ask(Method::POST, &["queues", vhost, name, "actions"], Some(&json!({"action": action})))?;
    if answer.is_missing() {
        return Err(CtlError::unavailable("not_found"));
    }
    answer.fine().map(drop)
}

pub(super) fn close_connection(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (wanted, reason) = (run.argument(0), run.argument(1));
    run.say(&format!("Closing connection {wanted}, reason: {reason}..."))?;
    let all = run.list_with(&["connections"], "name,node")?;
    let found = all.iter().find(|entry| entry["name"] == *wanted || connection_pid(entry) == *wanted);
    let Some(name) = found.and_then(|entry| entry["name"].as_str()) else {
        return Err(CtlError::unavailable(format!("Connection {wanted} does not exist")));
    };
    run.delete_because(&["connections", name], reason)?.fine().map(drop)
}

pub(super) fn close_all_connections(run: &mut Run<'_>) -> Result<(), CtlError> {
    let reason = run.argument(0);
    let vhost = run.parsed.vhost();
    let global = run.parsed.has("global") || !run.parsed.has("vhost");
    if global {
        let node = run.node()?;
        run.say(&format!("Closing all connections to node {node}, reason: {reason}..."))?;
    } else {
        run.say(&format!("Closing all connections in vhost {vhost}, reason: {reason}..."))?;
        run.need_vhost(vhost)?;
    }
    close_all(run, reason, |entry| global || entry["vhost"] == *vhost)
}

pub(super) fn close_all_user_connections(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (user, reason) = (run.argument(0), run.argument(1));
    run.say(&format!("Closing connections of user {user}, reason: {reason}..."))?;
    close_all(run, reason, |entry| entry["user"] == *user)
}

fn close_all(run: &mut Run<'_>, reason: &str, wanted: impl Fn(&Value) -> bool) -> Result<(), CtlError> {
    let limit = match run.parsed.number("limit")? {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let pause = Duration::from_millis(run.parsed.number("per-connection-delay")?.unwrap_or(0));
    let all = run.list_with(&["connections"], "name,user,vhost")?;
    let names = all.iter().filter(|entry| wanted(entry)).filter_map(|entry| entry["name"].as_str());
    let mut closed = 0;
    for name in names.take(limit) {
        let answer = run.delete_because(&["connections", name], reason)?;
        // One that went by itself is closed too, but not by us.
        if !answer.is_missing() {
            answer.fine()?;
            closed += 1;
        }
        std::thread::sleep(pause);
    }
    run.print(&format!("Closed {closed} connections"))
}

pub(super) fn set_cluster_name(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Setting cluster name to {name} ..."))?;
    run.put(&["cluster-name"], &json!({"name": name}))
}

pub(super) fn set_vm_memory_high_watermark(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    let limit = match run.arguments_from(0) {
        [word, size] if word == "absolute" => {
            run.say(&format!("Setting memory threshold on {node} to {size} bytes ..."))?;
            json!({"absolute": size})
        }
        [share] => {
            run.say(&format!("Setting memory threshold on {node} to {share} ..."))?;
            let share: f64 =
                share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
                    CtlError::bad_argument(
                        "write a share between 0.0 and 1.0, or `absolute` and a size such as 2GiB",
                    )
                })?;
            json!({"relative": share})
        }
        _ => return Err(CtlError::usage("write a share between 0.0 and 1.0, or `absolute` and a size")),
    };
    run.ask_local(Method::PUT, "memory-watermark", Some(&limit)).map(drop)
}

pub(super) fn set_disk_free_limit(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    let limit = match run.arguments_from(0) {
        [word, share] if word == "mem_relative" => {
            run.say(&format!("Setting disk free limit on {node} to {share} times the total RAM ..."))?;
            let share: f64 = share
                .parse()
                .ok()
                .filter(|share: &f64| share.is_finite() && *share >= 0.0)
                .ok_or_else(|| CtlError::bad_argument(format!("`{share}` is not a number")))?;
            json!({"relative": share})
        }
        [size] => {
            run.say(&format!("Setting disk free limit on {node} to {size} bytes ..."))?;
            json!({"absolute": size})
        }
        _ => return Err(CtlError::usage("write a size such as 2GB, or `mem_relative` and a number")),
    };
    run.ask_local(Method::PUT, "disk-limit", Some(&limit)).map(drop)
}

pub(super) fn set_log_level(run: &mut Run<'_>) -> Result<(), CtlError> {
    let level = run.argument(0);
    run.say(&format!("Setting log level to \"{level}\" ..."))?;
    run.ask_local(Method::PUT, "log-level", Some(&json!({"level": level}))).map(drop)
}

pub(super) fn force_gc(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Will ask all processes on node {node} to schedule a full sweep GC"))?;
    run.ask_local(Method::POST, "give-back-memory", None).map(drop)
}

pub(super) fn suspend_listeners(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!(
        "Will suspend client listeners on node {node}. No new client connections will be accepted"
    ))?;
    run.ask_local(Method::PUT, "listeners", Some(&json!({"suspended": true}))).map(drop)
}

pub(super) fn resume_listeners(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!(
        "Will resume client listeners on node {node}. The node will now accept client connections"
    ))?;
    run.ask_local(Method::PUT, "listeners", Some(&json!({"suspended": false}))).map(drop)
}
