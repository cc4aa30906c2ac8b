//! The guard: a small process that gives the addresses up when the agent is killed, with the routes and rules that
//! came with them.
//!
//! The agent writes to the guard's standard input who holds which addresses. When the agent ends cleanly
//! it says so; when it is killed, the pipe just ends, and the guard does what a stopping agent does:
//! an advert of priority 0, and once the successor has spoken, all that is held is taken away. It runs in
//! a session of its own, so that killing the agent and its children does not kill it too. Should it be
//! killed as well, the kernel lifetime of the addresses (`address_lease`) is what is left.

use std::io::Write;
use std::net::IpAddr;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use vrrp::hmac::Key;
use vrrp::{Auth, ChecksumMode, InstanceConfig, Password, Version, timers};

use crate::config::{VirtualRoute, VirtualRule};
use crate::host::Host;
use crate::instance::Router;
use crate::net::netlink::Netlink;
use crate::net::vrrp_socket::{Endpoint, VrrpSocket};
use crate::net::{routes, rules};

/// The subcommand under which this program becomes the guard.
pub(crate) const SUBCOMMAND: &str = "guard-addresses";
/// Longest line the guard accepts.
const MAX_LINE: u64 = 1024 * 1024;
/// The successor announces itself by gratuitous ARP right after its first advert.
const LINGER: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(250);

/// What one line says: everything that is held now.
#[derive(Default, Serialize, Deserialize)]
struct Message {
    /// The agent ends as it should; nothing is left to do.
    dismissed: bool,
    holders: Vec<Holder>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Holder {
    name: String,
    interface: String,
    index: u32,
    source: IpAddr,
    peers: Vec<IpAddr>,
    group: IpAddr,
    transmit: Option<String>,
    hmac_key: Option<String>,
    vrid: u8,
    version3: bool,
    interval_ms: u64,
    password: Option<[u8; 8]>,
    packet_only_checksum: bool,
    advertised: Vec<IpAddr>,
    /// Interface, address, prefix.
    held: Vec<(u32, IpAddr, u8)>,
    /// With the interface, where one is named.
    routes: Vec<(VirtualRoute, Option<u32>)>,
    rules: Vec<VirtualRule>,
}

/// The agent's end.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard; without one the agent still works.
    pub(crate) fn start() -> Option<Self> {
        use std::os::unix::process::CommandExt;
        // Not the path: the file may have been replaced since the start.
        let started = std::process::Command::new("/proc/self/exe")
            .arg0("vip-guard")
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn();
        match started {
            Ok(mut child) => {
                let pipe = child.stdin.take();
                // It forks at once, so this wait is short.
                if let Err(error) = child.wait() {
                    tracing::debug!(%error, "cannot wait for the guard's start");
                }
                let pipe = pipe?;
                // A guard that does not read must not stop the agent.
                if let Err(error) = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
                    tracing::debug!(%error, "the guard's pipe may block");
                }
                Some(Self { pipe })
            }
            Err(error) => {
                tracing::warn!(%error, "no guard; a killed agent's addresses stay until their lease is over");
                None
            }
        }
    }

    /// Tells who holds addresses now.
    pub(crate) fn tell<'a>(&mut self, holders: impl Iterator<Item = &'a Router>, host: &Host) {
        let holders = holders.filter_map(|router| holder(router, host)).collect();
        self.write(&Message { dismissed: false, holders });
    }

    /// The agent ends as it should.
    pub(crate) fn dismiss(mut self) {
        self.write(&Message { dismissed: true, holders: Vec::new() });
    }

    fn write(&mut self, message: &Message) {
        // The leading line end closes a line that did not fit into the pipe.
        let Ok(text) = serde_json::to_string(message) else { return };
        let line = format!("\n{text}\n");
        if let Err(error) = self.pipe.write_all(line.as_bytes()) {
            tracing::debug!(%error, "the guard is gone");
        }
    }
}

fn holder(router: &Router, host: &Host) -> Option<Holder> {
    let endpoint = router.socket()?.endpoint();
    let config = &router.config.core;
    let held = router
        .config
        .addresses
        .iter()
        .filter_map(|vip| Some((host.link(router.device(vip))?.index, vip.address, vip.prefix)))
        .collect();
    // Without its interface there is no route.
    let with_interface =
        |route: &VirtualRoute| Some((route.clone(), router.route_interface(route, host).ok()?));
    Some(Holder {
        name: config.name.to_string(),
        interface: endpoint.interface.clone(),
        index: endpoint.index,
        source: endpoint.source,
        peers: endpoint.peers.clone(),
        group: endpoint.group,
        transmit: endpoint.transmit.clone(),
        hmac_key: endpoint.hmac_key.as_ref().map(Key::expose),
        vrid: config.virtual_router_id,
        version3: config.version == Version::V3,
        interval_ms: config.advert_interval.as_millis() as u64,
        password: match &config.auth {
            Auth::Simple(password) => Some(*password.bytes()),
            Auth::None | Auth::Other(_) => None,
        },
        packet_only_checksum: config.checksum == ChecksumMode::PacketOnly,
        advertised: config.addresses.clone(),
        held,
        routes: router.config.routes.iter().filter_map(with_interface).collect(),
        rules: router.config.rules.clone(),
    })
}

/// The guard's own life. Returns at once in the process the agent waits for.
pub(crate) fn main() -> ExitCode {
    // SAFETY: this process has one thread, so the child may do whatever it likes.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(nix::unistd::ForkResult::Child) => {}
        Err(_) => return daemon::exit::Exit::OsError.into(),
    }
    // Without a session of its own it only shares the terminal's signals.
    let _ = nix::unistd::setsid();
    daemon::run::set_process_name("vip-guard");
    ignore_stop_signals();
    // It only speaks when the agent was killed; without a log it works all the same.
    let _ = daemon::logging::init(&daemon::logging::LogOptions::default());
    let Some(message) = last_message(std::io::stdin().lock()) else { return ExitCode::SUCCESS };
    if message.dismissed || message.holders.is_empty() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(release_all(message.holders)),
        Err(error) => tracing::error!(%error, "the guard cannot work"),
    }
    ExitCode::SUCCESS
}

/// `killall` and Ctrl-C reach the guard too; the agent's own orderly stop dismisses it.
fn ignore_stop_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        // SAFETY: ignoring a signal installs no code.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
}

/// Reads lines until the pipe ends; answers the last whole one.
fn last_message(mut input: impl std::io::BufRead) -> Option<Message> {
    use std::io::Read;
    let mut last = None;
    let mut line = String::new();
    loop {
        line.clear();
        match std::io::BufRead::read_line(&mut input.by_ref().take(MAX_LINE), &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {
                if let Ok(message) = serde_json::from_str(&line) {
                    last = Some(message);
                }
            }
        }
    }
}

async fn release_all(holders: Vec<Holder>) {
    // Events are not looked at: the channel would only fill.
    let Ok((netlink, _events)) = Netlink::open() else {
        tracing::error!("the guard cannot open netlink");
        return;
    };
    let mut releases = Vec::new();
    for holder in holders {
        tracing::warn!(instance = holder.name, "the agent was killed; giving its addresses up");
        releases.push(release(holder, netlink.clone()));
    }
    futures_util::future::join_all(releases).await;
}

async fn release(holder: Holder, netlink: Netlink) {
    let config = holder.instance_config();
    let endpoint = Endpoint {
        interface: holder.interface.clone(),
        index: holder.index,
        source: holder.source,
        peers: holder.peers.clone(),
        group: holder.group,
        transmit: holder.transmit.clone(),
        hmac_key: holder.hmac_key.as_deref().and_then(Key::new),
    };
    match VrrpSocket::open(endpoint) {
        Ok(mut socket) => {
            if let Err(error) = socket.send(&config.advert(0), config.checksum) {
                tracing::error!(instance = holder.name, %error, "the guard cannot send priority 0");
            }
            wait_for_successor(&mut socket, &config).await;
        }
        Err(error) => tracing::error!(instance = holder.name, %error, "the guard cannot open a socket"),
    }
    drop_routing(&holder, &netlink).await;
    for (index, address, prefix) in &holder.held {
        match netlink.drop_address(*index, *address, *prefix).await {
            Ok(true) => tracing::info!(instance = holder.name, %address, "released"),
            Ok(false) => {}
            Err(error) => tracing::error!(instance = holder.name, %address, %error, "cannot release"),
        }
    }
}

/// Takes rules and routes away: in this order, and before the addresses that they need.
async fn drop_routing(holder: &Holder, netlink: &Netlink) {
    let instance = &holder.name;
    for rule in &holder.rules {
        if let Err(error) = netlink.drop_rule(rules::message(rule)).await {
            tracing::error!(instance, %rule, %error, "cannot remove the virtual rule");
        }
    }
    for (route, interface) in &holder.routes {
        let dropped = match routes::message(route, *interface) {
            Ok(message) => netlink.drop_route(message).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            tracing::error!(instance, %route, error, "cannot remove the virtual route");
        }
    }
}

/// Until another router speaks for this virtual router, at most the longest skew time and a little.
async fn wait_for_successor(socket: &mut VrrpSocket, config: &InstanceConfig) {
    let longest = timers::skew(config.version, 1, config.advert_interval) + PATIENCE;
    let mut until = Instant::now() + longest;
    let mut heard = false;
    loop {
        let readable = std::future::poll_fn(|context| socket.poll_readable(context));
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            () = readable => {}
        }
        while let Some(incoming) = socket.receive() {
            let speaks = incoming.vrid == Some(config.virtual_router_id)
                && incoming.authentic.is_ok()
                && incoming
                    .advert
                    .as_ref()
                    .is_ok_and(|advert| advert.priority > 0 && advert.version == config.version);
            if speaks && !heard {
                heard = true;
                until = until.min(Instant::now() + LINGER);
            }
        }
    }
}

impl Holder {
    fn instance_config(&self) -> InstanceConfig {
        let mut config = InstanceConfig::new(&self.name, self.vrid, self.advertised.clone());
        config.version = if self.version3 { Version::V3 } else { Version::V2 };
        config.advert_interval = Duration::from_millis(self.interval_ms);
        config.unicast_peers.clone_from(&self.peers);
        config.auth = self.password.map_or(Auth::None, |bytes| Auth::Simple(Password::from(bytes)));
        if self.packet_only_checksum {
            config.checksum = ChecksumMode::PacketOnly;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() {
        let line = |dismissed| {
            format!("{}\n", serde_json::to_string(&Message { dismissed, holders: Vec::new() }).unwrap())
        };
        let read = |text: String| last_message(text.as_bytes()).map(|message| message.dismissed);
        assert_eq!(read(line(false) + &line(true)), Some(true));
        assert_eq!(read(line(true) + &line(false) + "{\"dismi"), Some(false));
        assert_eq!(read(String::new()), None);
    }
}
