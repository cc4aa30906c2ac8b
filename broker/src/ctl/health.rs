//! rabbitmq-diagnostics: health checks, and looking into a node and its machine.

use super::error::CtlError;
use super::node::{alarm_lines, alarms, breakdown, listener, listener_lines};
use super::run::Run;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one listener may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// A check that failed.
fn failed(message: impl Into<String>) -> CtlError {
    CtlError::plain(Exit::Unavailable, message)
}

/// Asks a health check of the API.
fn check(run: &mut Run<'_>, parts: &[&str]) -> Result<Result<(), String>, CtlError> {
    let answer = run.ask(Method::GET, parts, None)?;
    if answer.status == 503 {
        return Ok(Err(answer.reason()));
    }
    answer.fine().map(|_| Ok(()))
}

pub(super) fn check_running(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Checking if RabbitMQ is running on node {node} ..."))?;
    run.print(&format!("RabbitMQ on node {node} is fully booted and running"))
}

pub(super) fn is_running(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} for its status ..."))?;
    run.print(&format!("RabbitMQ on node {node} is fully booted and running"))
}

pub(super) fn is_booting(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} for its boot status ..."))?;
    run.print(&format!(
        "RabbitMQ on node {node} is fully booted (check with is_running), stopped or has not started booting yet"
    ))
}

pub(super) fn node_health_check(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Performing health check of node {node} ..."))?;
    match check(run, &["health", "checks", "alarms"])? {
        Ok(()) => run.print("Health check passed"),
        Err(reason) => Err(CtlError::refused(Exit::Software.code(), reason)),
    }
}

pub(super) fn check_local_alarms(run: &mut Run<'_>) -> Result<(), CtlError> {
    no_alarms(run, "any local resource alarms", "no local alarms", true)
}

pub(super) fn check_alarms(run: &mut Run<'_>) -> Result<(), CtlError> {
    no_alarms(run, "any local resource alarms", "no alarms, local or clusterwide", true)
}

pub(super) fn list_alarms(run: &mut Run<'_>) -> Result<(), CtlError> {
    no_alarms(run, "any known resource alarms", "no alarms, local or clusterwide", false)
}

fn no_alarms(run: &mut Run<'_>, what: &str, none: &str, checks: bool) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} to report {what} ..."))?;
    let found = alarm_lines(&node, &alarms(&run.get(&["nodes", &node])?));
    if found.is_empty() {
        return run.print(&format!("Node {node} reported {none}"));
    }
    let text = format!("Node {node} reported the following alarms:\n{}", found.join("\n"));
    if checks { Err(failed(text)) } else { run.print(&text) }
}

fn listening(run: &mut Run<'_>) -> Result<Vec<Value>, CtlError> {
    let overview = run.get_with(&["overview"], "columns=listeners")?;
    Ok(overview["listeners"].as_array().into_iter().flatten().map(listener).collect())
}

fn ports(listeners: &[Value]) -> String {
    listeners.iter().map(|it| it["port"].to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn listeners(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} to report its protocol listeners ..."))?;
    let all = Value::Array(listening(run)?);
    let lines = listener_lines(&all, None).join("\n");
    run.value(&all, &lines)
}

pub(super) fn check_port_connectivity(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Testing TCP connections to all active listeners on node {node} ..."))?;
    let all = listening(run)?;
    let refused: Vec<Value> = all.iter().filter(|it| !accepts(it)).cloned().collect();
    if refused.is_empty() {
        return run.print(&format!("Successfully connected to ports {} on node {node}.", ports(&all)));
    }
    let text = listener_lines(&Value::Array(refused), None).join("\n");
    Err(failed(format!("Connection to some ports on node {node} failed:\n{text}")))
}

fn accepts(listener: &Value) -> bool {
    let port = listener["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let interface = listener["interface"].as_str().unwrap_or_default();
    let host = match interface.trim_start_matches('[').trim_end_matches(']') {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().into_iter().flatten().collect();
    addresses.iter().any(|address| TcpStream::connect_timeout(address, CONNECT).is_ok())
}

pub(super) fn check_port_listener(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, port) = (run.node()?, run.argument(0));
    if port.parse::<u16>().is_err() {
        return Err(CtlError::bad_argument(format!("`{port}` is not a port")));
    }
    run.say(&format!("Asking node {node} if there's an active listener on port {port} ..."))?;
    if check(run, &["health", "checks", "port-listener", port])?.is_ok() {
        return run.print(&format!("A listener for port {port} is running on node {node}."));
    }
    let found = ports(&listening(run)?);
    Err(failed(format!(
        "No listener for port {port} is active on node {node}. Found listeners that use the following ports: {found}"
    )))
}

pub(super) fn check_protocol_listener(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (node, protocol) = (run.node()?, run.argument(0));
    run.say(&format!("Asking node {node} if there's an active listener for protocol {protocol} ..."))?;
    if check(run, &["health", "checks", "protocol-listener", protocol])?.is_ok() {
        return run.print(&format!("A listener for protocol {protocol} is running on node {node}."));
    }
    let all = listening(run)?;
    let found: Vec<&str> = all.iter().filter_map(|it| it["protocol"].as_str()).collect();
    Err(failed(format!(
        "No listener for protocol {protocol} is active on node {node}. Found listeners for the following protocols: {}",
        found.join(", ")
    )))
}

pub(super) fn check_virtual_hosts(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Checking if all vhosts are running on node {node} ..."))?;
    match check(run, &["health", "checks", "virtual-hosts"])? {
        Ok(()) => run.print(&format!("Node {node} reported all vhosts as running")),
        Err(reason) => Err(failed(reason)),
    }
}

pub(super) fn check_mirror_sync(run: &mut Run<'_>) -> Result<(), CtlError> {
    critical(run, "data safety of any classic mirrored queues", "node-is-mirror-sync-critical")
}

pub(super) fn check_quorum(run: &mut Run<'_>) -> Result<(), CtlError> {
    critical(run, "quorum of any quorum queues", "node-is-quorum-critical")
}

fn critical(run: &mut Run<'_>, what: &str, name: &str) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Checking if node {node} is critical for {what} ..."))?;
    if let Err(reason) = check(run, &["health", "checks", name])? {
        return Err(failed(reason));
    }
    if run.list(&["nodes"])?.len() == 1 {
        let text = "seems to be the only one in a single node cluster, the check does not apply";
        return run.print(&format!("Node {node} {text}"));
    }
    run.print(&format!("Node {node} is not critical for {what}"))
}

pub(super) fn check_certificate_expiration(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    let within = run.parsed.value("within").unwrap_or("4").to_owned();
    let unit = run.parsed.value("unit").unwrap_or("weeks").to_owned();
    run.say(&format!("Checking certificate expiration on node {node} ..."))?;
    match check(run, &["health", "checks", "certificate-expiration", &within, &unit])? {
        Ok(()) => run.print(&format!("No certificates are expiring within {within} {unit}.")),
        Err(reason) => Err(failed(format!("{reason} within {within} {unit} on node {node}"))),
    }
}

pub(super) fn server_version(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} for its RabbitMQ version..."))?;
    let overview = run.get_with(&["overview"], "columns=rabbitmq_version")?;
    run.print(overview["rabbitmq_version"].as_str().unwrap_or_default())
}

pub(super) fn erlang_version(_: &mut Run<'_>) -> Result<(), CtlError> {
    Err(CtlError::unsupported("this broker does not run on Erlang"))
}

pub(super) fn memory_breakdown(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Reporting memory breakdown on node {node}..."))?;
    let memory = run.get(&["nodes", &node, "memory"])?;
    let lines = breakdown(&memory["memory"], "%").join("\n");
    run.value(&memory["memory"], &lines)
}

pub(super) fn list_network_interfaces(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} to report its network interfaces ..."))?;
    let mut interfaces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let found = nix::ifaddrs::getifaddrs().map_err(std::io::Error::from)?;
    for interface in found {
        let own = interfaces.entry(interface.interface_name.clone()).or_default();
        if let Some(storage) = interface.address {
            if let Some(link) = storage.as_link_addr() {
                let octets = link.addr().unwrap_or_default();
                own.push(format!("hwaddr: {}", octets.map(|octet| format!("{octet:X}")).join(":")));
                let flags: Vec<String> =
                    interface.flags.iter_names().map(|(name, _)| flag_name(name)).collect();
                own.push(format!("flags: {}", flags.join(", ")));
            }
            let ip = storage.as_sockaddr_in().map(|it| it.ip().to_string());
            let ip = ip.or_else(|| storage.as_sockaddr_in6().map(|it| it.ip().to_string()));
            if let Some(ip) = ip {
                own.push(format!("addr: {ip}"));
            }
        }
    }
    for (name, lines) in interfaces {
        run.title(&format!("Interface {name}"))?;
        run.print(&format!("{}\n", lines.join("\n")))?;
    }
    Ok(())
}

/// `IFF_UP` is `up`.
fn flag_name(name: &str) -> String {
    name.trim_start_matches("IFF_").to_lowercase()
}

pub(super) fn resolve_hostname(run: &mut Run<'_>) -> Result<(), CtlError> {
    let host = run.argument(0);
    let family = run.parsed.value("address-family").unwrap_or("ipv4").to_lowercase();
    let six = match family.as_str() {
        "ipv4" => false,
        "ipv6" => true,
        _ => return Err(CtlError::usage("--address-family is ipv4 or ipv6")),
    };
    let words = if six { "IPv6" } else { "IPv4" };
    let node = run.node()?;
    run.say(&format!("Asking node {node} to resolve hostname {host} to {words} addresses..."))?;
    let found = (host, 0).to_socket_addrs().map_err(|error| failed(format!("Error:\n{host}: {error}")))?;
    let mut addresses: Vec<String> =
        found.filter(|address| address.is_ipv6() == six).map(|address| address.ip().to_string()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(failed(format!("Error:\n{host} has no {words} address")));
    }
    addresses.iter().try_for_each(|address| run.print(address))
}

pub(super) fn log_location(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Log file location(s) on node {node} ..."))?;
    for file in log_files(run)? {
        run.print(&file)?;
    }
    Ok(())
}

fn log_files(run: &mut Run<'_>) -> Result<Vec<String>, CtlError> {
    let identity = run.ask_local(Method::GET, "identity", None)?;
    Ok(identity["log_files"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|file| file.as_str().map(str::to_owned))
        .collect())
}

pub(super) fn log_tail(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    let count = run.parsed.number("number")?.unwrap_or(50);
    run.say(&format!("Last {count} log lines on node {node} ..."))?;
    let answer = run.ask_local(Method::GET, &format!("log?lines={count}"), None)?;
    for line in answer["lines"].as_array().into_iter().flatten() {
        run.print(line.as_str().unwrap_or_default())?;
    }
    Ok(())
}

pub(super) fn maybe_stuck(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Asking node {node} to detect potentially stuck Erlang processes..."))?;
    run.print("There are no Erlang processes here; every queue of this node answered a moment ago.")?;
    // Looks at every queue, so it hangs where one does.
    run.get(&["overview"]).map(drop)
}

pub(super) fn os_env(run: &mut Run<'_>) -> Result<(), CtlError> {
    let node = run.node()?;
    run.say(&format!("Listing RabbitMQ-specific environment variables defined on node {node}..."))?;
    let identity = run.ask_local(Method::GET, "identity", None)?;
    for (name, value) in identity["environment"].as_object().into_iter().flatten() {
        run.print(&format!("{name}={}", value.as_str().unwrap_or_default()))?;
    }
    Ok(())
}
