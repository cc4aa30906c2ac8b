//! Who is master: the status socket and `vip-agent status`.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vrrp::State;

use crate::agent::{Agent, StatusRequest};
use crate::instance::Router;
use crate::virtual_server::status::VirtualServerStatus;

/// A status answer is never longer.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// Status of one agent, as the socket answers it and `--json` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AgentStatus {
    pub(crate) router_id: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) instances: Vec<InstanceStatus>,
    #[serde(default)]
    pub(crate) virtual_servers: Vec<VirtualServerStatus>,
}

/// Status of one virtual router.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstanceStatus {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) interface: String,
    pub(crate) virtual_router_id: u8,
    pub(crate) version: u8,
    pub(crate) base_priority: u8,
    pub(crate) effective_priority: u8,
    pub(crate) addresses: Vec<String>,
    pub(crate) in_state_seconds: f64,
    pub(crate) source: String,
    /// The last other router heard.
    pub(crate) heard: Option<HeardStatus>,
    pub(crate) checks: Vec<CheckStatus>,
    pub(crate) link_up: bool,
    pub(crate) master_down_seconds: f64,
    /// The last transitions, the newest first.
    #[serde(default)]
    pub(crate) transitions: Vec<TransitionStatus>,
    pub(crate) counters: CounterStatus,
}

/// A transition and why it happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TransitionStatus {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) reason: String,
    pub(crate) seconds_ago: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeardStatus {
    pub(crate) address: String,
    pub(crate) priority: u8,
    pub(crate) seconds_ago: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckStatus {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) weight: i16,
    pub(crate) last: String,
    /// What happens when this check fails.
    pub(crate) if_it_fails: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CounterStatus {
    pub(crate) adverts_received: u64,
    pub(crate) adverts_sent: u64,
    pub(crate) become_master: u64,
    pub(crate) release_master: u64,
    pub(crate) packet_length_errors: u64,
    pub(crate) checksum_errors: u64,
    pub(crate) unknown_packets: u64,
    pub(crate) hop_limit_errors: u64,
    pub(crate) version_errors: u64,
    pub(crate) auth_type_errors: u64,
    pub(crate) auth_failures: u64,
    pub(crate) interval_errors: u64,
    pub(crate) address_mismatches: u64,
    pub(crate) unknown_peers: u64,
    pub(crate) other_masters: u64,
    pub(crate) priority_zero_received: u64,
    pub(crate) priority_zero_sent: u64,
    pub(crate) late_timers: u64,
    pub(crate) address_conflicts: u64,
}

/// The whole status of an agent.
pub(crate) fn of(agent: &Agent) -> AgentStatus {
    AgentStatus {
        router_id: agent.config().global.router_id.clone(),
        pid: std::process::id(),
        uptime_seconds: agent.now().as_secs(),
        instances: agent.routers().iter().map(|router| instance(agent, router)).collect(),
        virtual_servers: agent.virtual_servers().status(),
    }
}

/// The status as JSON.
pub(crate) fn json(agent: &Agent) -> String {
    serde_json::to_string(&of(agent)).unwrap_or_default()
}

fn instance(agent: &Agent, router: &Router) -> InstanceStatus {
    let (core, config) = (&router.core, &router.config);
    let now = agent.now();
    let heard = core.heard().map(|heard| HeardStatus {
        address: heard.source.to_string(),
        priority: heard.priority,
        seconds_ago: seconds(now.saturating_sub(heard.at)),
    });
    InstanceStatus {
        name: router.name().to_owned(),
        state: core.state().word().to_owned(),
        interface: config.interface.clone(),
        virtual_router_id: config.core.virtual_router_id,
        version: config.core.version.number(),
        base_priority: config.core.priority,
        effective_priority: core.effective_priority(),
        addresses: config.addresses.iter().map(|vip| format!("{}/{}", vip.address, vip.prefix)).collect(),
        in_state_seconds: seconds(now.saturating_sub(core.last_transition())),
        source: core.local().to_string(),
        checks: checks(agent, router),
        heard,
        link_up: !router.faults.link,
        master_down_seconds: seconds(core.master_down_interval()),
        transitions: router
            .history
            .iter()
            .map(|moved| TransitionStatus {
                from: moved.from.to_owned(),
                to: moved.to.to_owned(),
                reason: moved.reason.clone(),
                seconds_ago: seconds(now.saturating_sub(moved.at)),
            })
            .collect(),
        counters: counters(router),
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn checks(agent: &Agent, router: &Router) -> Vec<CheckStatus> {
    let one = |track: &crate::config::TrackScript| {
        let view = agent.scripts().view(&track.name)?;
        let weight = track.weight.unwrap_or(view.config.weight);
        Some(CheckStatus {
            name: track.name.clone(),
            status: format!("{:?}", view.status).to_lowercase(),
            weight,
            last: view.last.map_or_else(|| "no result yet".to_owned(), ToString::to_string),
            if_it_fails: if_it_fails(router, weight),
        })
    };
    router.config.track_scripts.iter().filter_map(one).collect()
}

fn if_it_fails(router: &Router, weight: i16) -> String {
    let core = &router.core;
    if weight == 0 {
        return "FAULT: the addresses move to a peer".to_owned();
    }
    if weight > 0 {
        return format!("the priority falls by {weight}");
    }
    let after = vrrp::priority::effective(router.config.core.priority, i32::from(weight));
    match core.heard().filter(|heard| heard.priority > 0) {
        Some(peer) if peer.priority > after => {
            format!("priority {after}, below {}'s {}: the addresses move", peer.source, peer.priority)
        }
        Some(peer) => format!(
            "priority {after}, not below {}'s {}: the addresses do NOT move",
            peer.source, peer.priority
        ),
        None => format!("priority {after}; the peer's priority has not been heard yet"),
    }
}

fn counters(router: &Router) -> CounterStatus {
    let (counters, packets) = (router.core.counters(), router.packet_errors);
    CounterStatus {
        adverts_received: counters.adverts_received,
        adverts_sent: counters.adverts_sent,
        become_master: counters.become_master,
        release_master: counters.release_master,
        packet_length_errors: packets.length,
        checksum_errors: packets.checksum,
        unknown_packets: packets.kind,
        hop_limit_errors: counters.hop_limit_errors,
        version_errors: counters.version_errors,
        auth_type_errors: counters.auth_type_errors,
        auth_failures: counters.auth_failures + packets.hmac,
        interval_errors: counters.interval_errors,
        address_mismatches: counters.address_mismatches,
        unknown_peers: counters.unknown_peers,
        other_masters: counters.other_masters,
        priority_zero_received: counters.priority_zero_received,
        priority_zero_sent: counters.priority_zero_sent,
        late_timers: counters.late_timers,
        address_conflicts: router.address_conflicts,
    }
}

/// Answers one status to everybody who connects to the socket of this process.
pub(crate) struct StatusServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl StatusServer {
    /// Makes `DIRECTORY/PID.sock`. Several agents may share a directory. Without one the agent works all
    /// the same, only `status` does not see it.
    pub(crate) fn start(directory: &Path, requests: mpsc::Sender<StatusRequest>) -> Option<Self> {
        let path = directory.join(format!("{}.sock", std::process::id()));
        let bound = std::fs::create_dir_all(directory).and_then(|()| {
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Some(Self { path, task: tokio::spawn(serve(listener, requests)) }),
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "no status socket; name another directory with --runtime-dir");
                None
            }
        }
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.task.abort();
        // Somebody may have tidied the directory already.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<StatusRequest>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (sender, answer) = oneshot::channel();
        if requests.send(sender).await.is_err() {
            return;
        }
        let Ok(answer) = answer.await else { return };
        // One reader at a time, each with little time: nobody can pile up memory here.
        let written = tokio::time::timeout(PATIENCE, stream.write_all(answer.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::debug!("a status reader went away");
        }
    }
}

/// Every agent that answers in the directory.
pub(crate) fn query(directory: &Path) -> Vec<AgentStatus> {
    let mut found: Vec<AgentStatus> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sock"))
        .filter_map(|entry| ask(&entry.path()))
        .collect();
    found.sort_by_key(|status| status.pid);
    found
}

fn ask(path: &Path) -> Option<AgentStatus> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => {
            // Left over from an agent that was killed.
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                let _ = std::fs::remove_file(path);
            }
            return None;
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// `vip-agent status`.
///
/// # Errors
///
/// No agent answers.
pub(crate) fn print(directory: &Path, as_json: bool) -> Result<(), Failure> {
    let found = query(directory);
    if found.is_empty() {
        let message = format!("no running vip-agent answers in {}", directory.display());
        return Err(Failure::new(Exit::Unavailable, message).detail(
            "try",
            "sudo vip-agent status, or --runtime-dir DIRECTORY as the agent was started with",
        ));
    }
    if as_json {
        return crate::print_line(&serde_json::to_string_pretty(&found).unwrap_or_default());
    }
    let texts: Vec<String> = found.iter().map(human).collect();
    crate::print_line(&texts.join("\n"))
}

/// Status as a person reads it.
fn human(agent: &AgentStatus) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  pid {}  up {}", agent.router_id, agent.pid, span(agent.uptime_seconds));
    for instance in &agent.instances {
        let InstanceStatus { name, interface, state, .. } = instance;
        let addresses = instance.addresses.join(" ");
        let since = span(instance.in_state_seconds as u64);
        let (effective, base) = (instance.effective_priority, instance.base_priority);
        let _ = writeln!(
            text,
            "{name}  {addresses} on {interface}  {state} {since}   priority {effective}/{base}"
        );
        let holds = state == State::Master.word() || state == State::Releasing.word();
        match &instance.heard {
            _ if holds => {
                let _ = writeln!(text, "  master  this host ({})", instance.source);
            }
            Some(heard) => {
                let HeardStatus { address, priority, seconds_ago } = heard;
                let _ = writeln!(
                    text,
                    "  master  {address}  priority {priority}   last advert {seconds_ago:.2} s ago"
                );
            }
            None => {
                let _ = writeln!(text, "  master  none heard yet");
            }
        }
        if let (true, Some(peer)) = (holds, &instance.heard) {
            let HeardStatus { address, priority, seconds_ago } = peer;
            let _ = writeln!(text, "  peer    {address}  priority {priority}   heard {seconds_ago:.0} s ago");
        }
        if !instance.link_up {
            let _ = writeln!(text, "  link    {interface} is down");
        }
        if let Some(last) = instance.transitions.first() {
            let TransitionStatus { from, to, reason, seconds_ago } = last;
            let ago = span(*seconds_ago as u64);
            let _ = writeln!(text, "  last    {from} to {to} {ago} ago: {reason}");
        }
        alarms(&mut text, &instance.counters);
        for check in &instance.checks {
            let CheckStatus { name, status, last, if_it_fails, .. } = check;
            let _ = writeln!(text, "  check   {name} {status} ({last}); if it fails: {if_it_fails}");
        }
        if state == State::Backup.word() {
            let _ = writeln!(
                text,
                "  if the master fails  this host takes over after {:.2} s",
                instance.master_down_seconds
            );
        }
    }
    for server in &agent.virtual_servers {
        virtual_server(&mut text, server);
    }
    text.trim_end().to_owned()
}

/// What should not happen at all.
fn alarms(text: &mut String, counters: &CounterStatus) {
    for (number, what) in [
        (counters.other_masters, "adverts of another master while this host was master"),
        (counters.address_conflicts, "packets of another host with the virtual address"),
        (counters.address_mismatches, "adverts that name other addresses"),
        (counters.auth_failures, "adverts with another password or key"),
        (counters.auth_type_errors, "adverts with another kind of authentication"),
        (counters.interval_errors, "adverts of another interval"),
        (counters.version_errors, "adverts of another VRRP version"),
        (counters.checksum_errors, "packets with a wrong checksum"),
        (counters.unknown_peers, "adverts of routers that are no peers"),
    ] {
        if number > 0 {
            let _ = writeln!(text, "  alarm   {number} {what}");
        }
    }
}

fn virtual_server(text: &mut String, server: &VirtualServerStatus) {
    let quorum = match (&server.sorry_server, server.quorum) {
        (_, true) => "quorum".to_owned(),
        (Some(sorry), false) => format!("NO QUORUM, {sorry} answers"),
        (None, false) => "NO QUORUM".to_owned(),
    };
    let _ =
        writeln!(text, "virtual server {}  {} {}  {quorum}", server.name, server.algorithm, server.method);
    for real in &server.real_servers {
        let state = if real.up { "up" } else { "DOWN" };
        let checks: Vec<String> =
            real.checks.iter().map(|(kind, found)| format!("{kind}: {found}")).collect();
        let _ = writeln!(text, "  {}  {state}  weight {}   {}", real.address, real.weight, checks.join(", "));
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A status for tests.
#[cfg(test)]
pub(crate) fn example(address: std::net::IpAddr) -> InstanceStatus {
    InstanceStatus {
        name: "VI_1".into(),
        state: "BACKUP".into(),
        interface: "ens33".into(),
        virtual_router_id: 66,
        version: 2,
        base_priority: 99,
        effective_priority: 99,
        addresses: vec!["192.168.204.66/24".into()],
        in_state_seconds: 252.0,
        source: "192.168.204.144".into(),
        heard: Some(HeardStatus { address: address.to_string(), priority: 100, seconds_ago: 0.31 }),
        checks: Vec::new(),
        link_up: true,
        master_down_seconds: 3.613,
        transitions: vec![TransitionStatus {
            from: "MASTER".into(),
            to: "BACKUP".into(),
            reason: "a peer has the higher priority".into(),
            seconds_ago: 252.0,
        }],
        counters: serde_json::from_value(serde_json::json!({
            "adverts_received": 1, "adverts_sent": 0, "become_master": 0, "release_master": 0,
            "packet_length_errors": 0, "checksum_errors": 0, "unknown_packets": 0, "hop_limit_errors": 0,
            "version_errors": 0, "auth_type_errors": 0, "auth_failures": 0, "interval_errors": 2,
            "address_mismatches": 0, "unknown_peers": 0, "other_masters": 0, "priority_zero_received": 0,
            "priority_zero_sent": 0, "late_timers": 0, "address_conflicts": 0
        }))
        .unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_who_is_master() {
        let status = AgentStatus {
            router_id: "D".into(),
            pid: 7,
            uptime_seconds: 300,
            instances: vec![example([192, 168, 204, 143].into())],
            virtual_servers: Vec::new(),
        };
        assert_eq!(
            human(&status),
            "D  pid 7  up 5 m 0 s\n\
             VI_1  192.168.204.66/24 on ens33  BACKUP 4 m 12 s   priority 99/99\n  \
             master  192.168.204.143  priority 100   last advert 0.31 s ago\n  \
             last    MASTER to BACKUP 4 m 12 s ago: a peer has the higher priority\n  \
             alarm   2 adverts of another interval\n  \
             if the master fails  this host takes over after 3.61 s"
        );
    }
}
