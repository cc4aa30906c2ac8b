//! A node's life: is it there, what does it say about itself, stop it.

use super::error::CtlError;
use super::format::{Formatter, Rows};
use super::run::Run;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a node that was told to stop is waited for, at most.
const STOPPING: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(super) fn version(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.print(crate::config::VERSION)
}

pub(super) fn ping(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    let timeout = run.timeout() * 1000.0;
    run.say(&format!(
        "Will ping {node}. This only checks if the node's process answers. Timeout: {timeout:.0} ms."
    ))?;
    run.print("Ping succeeded")
}

/// Waits for a node that is on its way.
pub(super) fn await_startup(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.node()?;
    let (since, patience) = (Instant::now(), Duration::from_secs_f64(run.timeout()));
    while run.is_local() {
        // Whoever answers may be on the way only; who has answered before may have to start anew.
        match run.ask_local(Method::GET, "identity", None) {
            Ok(identity) if identity["running"] != false => break,
            Err(error) if since.elapsed() >= patience => return Err(error),
            Ok(_) if since.elapsed() >= patience => {
                return Err(CtlError::plain(Exit::TempFail, "Error: time is up: the node has not started"));
            }
            _ => std::thread::sleep(LOOK),
        }
    }
    Ok(())
}

pub(super) fn wait(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, file) = (run.node()?, run.argument(0));
    if !file.is_empty() {
        let text = std::fs::read_to_string(file).map_err(|error| {
            CtlError::plain(Exit::Unavailable, format!("Error: cannot read {file}: {error}"))
        })?;
        let pid = text.trim();
        if !Path::new("/proc").join(pid).exists() {
            let text = format!("Error: process {pid} of {file} is not running");
            return Err(CtlError::plain(Exit::Unavailable, text));
        }
        run.say(&format!("Waiting for pid file '{file}' to appear\npid is {pid}"))?;
    }
    await_startup(run)?;
    run.say(&format!("Applications rabbit are running on node {node}"))
}

pub(super) fn stop(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Stopping and halting node {node} ..."))?;
    end(run, &node)
}

pub(super) fn shutdown(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Shutting down RabbitMQ node {node}"))?;
    if run.parsed.has("no-wait") {
        return run.ask_local(Method::POST, "stop", None).map(drop);
    }
    end(run, &node)?;
    run.say(&format!("RabbitMQ node {node} is no longer running"))
}

/// Tells the node to stop and waits until its process is gone.
fn end(run: &mut Run<'_>, node: &str) -> Result<(), CtlError> {
    let answer = run.ask_local(Method::POST, "stop", None)?;
    let Some(pid) = answer["pid"].as_u64() else { return Ok(()) };
    if run.is_passed_on() {
        // Its process is not on this machine.
        return Ok(());
    }
    let process = format!("/proc/{pid}");
    let since = Instant::now();
    while is_running(&process) {
        if since.elapsed() > STOPPING {
            let text =
                format!("Error: node {node} (pid {pid}) is still stopping; its log says what it waits for");
            return Err(CtlError::plain(Exit::TempFail, text));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// One that is dead and not yet waited for by its parent is not running, once its other threads are gone too.
fn is_running(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    let threads = std::fs::read_dir(format!("{process}/task")).map_or(0, Iterator::count);
    state.is_some_and(|state| !"ZX".contains(state) || threads > 1)
}

pub(super) fn status(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Status of node {node} ..."))?;
    let facts = facts(run, &node)?;
    if run.formatter() != Formatter::Table {
        return run.value(&facts, "");
    }
    let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
    run.title("Runtime")?;
    run.print(&format!(
        "OS PID: {}\nOS: Linux\nUptime (seconds): {}\nIs under maintenance?: {}\nRabbitMQ version: {}\n\
         RabbitMQ release series support status: {}\nBroker version: {}\nNode name: {node}\nCrypto library: {}\n\
         Scheduler run queue: {}\n",
        facts["pid"],
        facts["uptime"],
        facts["is_under_maintenance"],
        text("rabbitmq_version"),
        text("release_series_support_status"),
        text("broker_version"),
        text("crypto_lib_version"),
        facts["run_queue"],
    ))?;
    run.title("Plugins")?;
    run.print("Enabled plugins:\n")?;
    bullets(run, &facts["active_plugins"])?;
    run.title("Data directory")?;
    run.print(&format!("Node data directory: {}\n", text("data_directory")))?;
    run.title("Config files")?;
    bullets(run, &facts["config_files"])?;
    run.title("Log file(s)")?;
    bullets(run, &facts["log_files"])?;
    run.title("Alarms")?;
    let alarms = alarm_lines(&node, &facts["alarms"]);
    run.print(&format!("{}\n", if alarms.is_empty() { "(none)".to_owned() } else { alarms.join("\n") }))?;
    run.title("Memory")?;
    run.print(&format!(
        "Total memory used: {}\nCalculation strategy: rss\nMemory high watermark setting: {}\n",
        gigabytes(&facts["memory"]["total"]),
        watermark(&facts)
    ))?;
    for line in breakdown(&facts["memory"]["breakdown"], " %") {
        run.print(&line)?;
    }
    run.print("")?;
    run.title("File Descriptors")?;
    let (descriptors, sockets) = (&facts["file_descriptors"], &facts["sockets"]);
    run.print(&format!(
        "Total: {}, limit: {}\nSockets: {}, limit: {}\n",
        descriptors["used"], descriptors["limit"], sockets["used"], sockets["limit"]
    ))?;
    run.title("Free Disk Space")?;
    run.print(&format!(
        "Low free disk space watermark: {}\nFree disk space: {}\n",
        gigabytes(&facts["disk_free_limit"]),
        gigabytes(&facts["disk_free"])
    ))?;
    run.title("Totals")?;
    let totals = &facts["totals"];
    run.print(&format!(
        "Connection count: {}\nQueue count: {}\nVirtual host count: {}\n",
        totals["connection_count"], totals["queue_count"], totals["virtual_host_count"]
    ))?;
    run.title("Listeners")?;
    listener_lines(&facts["listeners"], None).iter().try_for_each(|line| run.print(line))
}

fn bullets(run: &mut Run<'_>, list: &Value) -> Result<(), CtlError> {
    for entry in list.as_array().into_iter().flatten() {
        run.print(&format!(" * {}", entry.as_str().unwrap_or_default()))?;
    }
    run.print("")
}

/// What a node says about itself, under the names of rabbitmqctl.
fn facts(run: &mut Run<'_>, node: &str) -> Result<Value, CtlError> {
    let own = run.get(&["nodes", node])?;
    let overview = run.get(&["overview"])?;
    let memory = run.ask(Method::GET, &["nodes", node, "memory"], None)?;
    let vhosts = run.list_with(&["vhosts"], "name")?.len();
    let local = if run.is_local() { run.ask_local(Method::GET, "identity", None)? } else { Value::Null };
    let either = |name: &str| if local[name].is_null() { own[name].clone() } else { local[name].clone() };
    let breakdown = if memory.is_fine() { memory.body["memory"].clone() } else { Value::Null };
    let pid = own["os_pid"].as_str().and_then(|pid| pid.parse::<u64>().ok());
    Ok(json!({
        "pid": pid, "os": "Linux", "uptime": own["uptime"].as_u64().unwrap_or(0) / 1000,
        "is_under_maintenance": own["being_drained"],
        "rabbitmq_version": overview["rabbitmq_version"],
        "release_series_support_status": overview["release_series_support_status"],
        "broker_version": local["version"], "crypto_lib_version": "rustls with ring",
        "run_queue": own["run_queue"],
        "node_name": node,
        "active_plugins": own["enabled_plugins"], "data_directory": either("db_dir"),
        "config_files": either("config_files"), "log_files": either("log_files"),
        "alarms": alarms(&own), "memory": {"total": own["mem_used"], "breakdown": breakdown},
        "vm_memory_calculation_strategy": "rss", "vm_memory_limit": own["mem_limit"],
        "available_memory": local["available_memory"],
        "file_descriptors": {"used": own["fd_used"], "limit": own["fd_total"]},
        "sockets": {"used": own["sockets_used"], "limit": own["sockets_total"]},
        "disk_free_limit": own["disk_free_limit"], "disk_free": own["disk_free"],
        "totals": {
            "connection_count": overview["object_totals"]["connections"],
            "queue_count": overview["object_totals"]["queues"], "virtual_host_count": vhosts,
        },
        "listeners": overview["listeners"].as_array().map(|all| all.iter().map(listener).collect::<Vec<_>>()),
    }))
}

/// Alarms of a node's entry.
pub(super) fn alarms(own: &Value) -> Value {
    [("mem_alarm", "memory"), ("disk_free_alarm", "disk")]
        .iter()
        .filter(|(field, _)| own[*field] == true)
        .map(|(_, resource)| Value::from(*resource))
        .collect()
}

/// Alarms for people.
pub(super) fn alarm_lines(node: &str, alarms: &Value) -> Vec<String> {
    let line = |alarm: &Value| {
        let words = if alarm == "memory" { "Memory" } else { "Free disk space" };
        format!("{words} alarm on node {node}")
    };
    alarms.as_array().into_iter().flatten().map(line).collect()
}

fn gigabytes(octets: &Value) -> String {
    match octets.as_f64() {
        Some(octets) => format!("{} gb", rounded(octets / 1e9, 4)),
        None => "unknown".to_owned(),
    }
}

/// The limit of memory, with its share of the machine's where that is known.
fn watermark(facts: &Value) -> String {
    let limit = gigabytes(&facts["vm_memory_limit"]);
    match (facts["vm_memory_limit"].as_f64(), facts["available_memory"].as_f64()) {
        (Some(octets), Some(all)) if all > 0.0 => {
            format!("{} of available memory, computed to: {limit}", rounded(octets / all, 4))
        }
        _ => limit,
    }
}

/// A number as Erlang writes it: no more digits than it has, but one behind the point.
fn rounded(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// Lines of a memory breakdown, the largest first. `unit` stands behind the share.
pub(super) fn breakdown(parts: &Value, unit: &str) -> Vec<String> {
    let none = Map::new();
    let mut parts: Vec<(&String, u64)> = parts
        .as_object()
        .unwrap_or(&none)
        .iter()
        .filter(|(name, _)| !["total", "strategy"].contains(&name.as_str()))
        .filter_map(|(name, octets)| Some((name, octets.as_u64()?)))
        .collect();
    parts.sort_by_key(|(_, octets)| std::cmp::Reverse(*octets));
    let total = parts.iter().map(|(_, octets)| octets).sum::<u64>().max(1) as f64;
    let line = |(name, octets): &(&String, u64)| {
        let octets = *octets as f64;
        format!("{name}: {} gb ({}{unit})", rounded(octets / 1e9, 4), rounded(octets / total * 100.0, 2))
    };
    parts.iter().map(line).collect()
}

/// A listener under the names of rabbitmqctl.
pub(super) fn listener(listener: &Value) -> Value {
    let protocol = listener["protocol"].as_str().unwrap_or_default();
    let purpose = match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "http" => "HTTP API",
        "https" => "HTTP API over TLS",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "https/prometheus" => "Prometheus exporter API over TLS",
        "clustering" => "inter-node communication",
        other => other,
    };
    let address = listener["ip_address"].as_str().unwrap_or_default();
    let interface = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    json!({
        "interface": interface, "node": listener["node"], "port": listener["port"],
        "protocol": protocol, "purpose": purpose,
    })
}

/// Listeners for people; with the node when that is said.
pub(super) fn listener_lines(listeners: &Value, with_node: Option<&str>) -> Vec<String> {
    let line = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let begin = match with_node {
            Some(node) => format!("Node: {node}, interface"),
            None => "Interface".to_owned(),
        };
        format!(
            "{begin}: {}, port: {}, protocol: {}, purpose: {}",
            text("interface"),
            it["port"],
            text("protocol"),
            text("purpose")
        )
    };
    listeners.as_array().into_iter().flatten().map(line).collect()
}

pub(super) fn environment(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Application environment of node {node} ..."))?;
    let settings = run.ask_local(Method::GET, "environment", None)?;
    let lines = settings
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("      {{{name},{}}}", super::term::term(value)));
    let text = format!("[{{broker,\n     [\n{}]}}]", lines.collect::<Vec<_>>().join(",\n"));
    run.value(&settings, &text)
}

pub(super) fn list_feature_flags(run: &mut Run<'_>) -> Result<(), CtlError> {
    let known = ["name", "state", "stability", "provided_by", "desc", "doc_url"];
    let columns = super::listing::columns(run, &known, &["name", "state"])?;
    run.say("Listing feature flags ...")?;
    let answer = run.ask(Method::GET, &["feature-flags"], None)?;
    let flags =
        if answer.is_missing() { Vec::new() } else { answer.fine()?.as_array().cloned().unwrap_or_default() };
    run.rows(&Rows::pick(&columns, &flags))
}

pub(super) fn enable_feature_flag(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Enabling feature flag: {name} ..."))?;
    if name == "all" {
        return Ok(());
    }
    let answer = run.ask(Method::GET, &["feature-flags"], None)?;
    let known = answer.body.as_array().is_some_and(|flags| flags.iter().any(|flag| flag["name"] == *name));
    if known {
        Ok(())
    } else {
        Err(CtlError::unavailable(format!("The feature flag \"{name}\" is not known here")))
    }
}

pub(super) fn report(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Reporting server status of node {node} ...\n"))?;
    status(run)?;
    let vhosts = run.list_with(&["vhosts"], "name")?;
    for (title, parts, columns) in [
        ("Connections", "connections", &["name", "user", "vhost", "state"][..]),
        ("Channels", "channels", &["name", "user", "consumer_count", "messages_unacknowledged"]),
    ] {
        run.print("")?;
        run.title(title)?;
        let found = run.list(&[parts])?;
        run.rows(&Rows::pick(columns, &found))?;
    }
    for vhost in vhosts.iter().filter_map(|vhost| vhost["name"].as_str()) {
        for (title, parts, columns) in [
            ("Queues", "queues", &["name", "messages", "consumers", "policy", "state", "type"][..]),
            ("Exchanges", "exchanges", &["name", "type", "durable", "policy"]),
            (
                "Bindings",
                "bindings",
                &["source", "destination", "destination_type", "routing_key", "arguments"],
            ),
            ("Policies", "policies", &["name", "pattern", "apply-to", "definition", "priority"]),
            ("Permissions", "permissions", &["user", "configure", "write", "read"]),
        ] {
            run.print("")?;
            run.title(&format!("{title} in vhost {vhost}"))?;
            let parts =
                if parts == "permissions" { ["vhosts", vhost, parts].to_vec() } else { vec![parts, vhost] };
            let found = run.list(&parts)?;
            run.rows(&Rows::pick(columns, &found))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_broken_down_as_rabbitmq_writes_it() {
        let parts = json!({
            "strategy": "rss", "total": {"rss": 9}, "code": 35_200_000, "binary": 0, "plugins": 1_000_000,
            "reserved_unallocated": 100_240_000,
        });
        let lines = [
            "reserved_unallocated: 0.1002 gb (73.47 %)",
            "code: 0.0352 gb (25.8 %)",
            "plugins: 0.001 gb (0.73 %)",
            "binary: 0.0 gb (0.0 %)",
        ];
        assert_eq!(breakdown(&parts, " %"), lines);
        let facts = json!({"vm_memory_limit": 10_110_600_000_u64, "available_memory": 25_276_500_000_u64});
        assert_eq!(watermark(&facts), "0.4 of available memory, computed to: 10.1106 gb");
        assert_eq!(watermark(&json!({"vm_memory_limit": 1_000_000_000})), "1.0 gb");
    }
}
