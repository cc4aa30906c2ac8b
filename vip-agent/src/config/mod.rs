//! The checked configuration of the agent, whichever file it came from.
//!
//! `keepalived_conf` reads keepalived's own format, `toml` the native one; both end in [`AgentConfig`]
//! through [`check`], which looks at what no single line can show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::diagnostic::{Diagnostics, Severity};
use serde::{Deserialize, Serialize};
use vrrp::InstanceConfig;

use crate::tracker::builtin::Probe;

pub(crate) mod check;
pub mod fuzz;
pub(crate) mod keepalived_conf;
pub(crate) mod peer;
mod script_lint;
pub(crate) mod script_security;
#[cfg(test)]
mod tests;
pub(crate) mod to_toml;
pub(crate) mod toml;
pub(crate) mod virtual_server;

pub(crate) use self::virtual_server::VirtualServer;

/// Everything the agent needs to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AgentConfig {
    pub(crate) global: Global,
    pub(crate) scripts: Vec<ScriptConfig>,
    pub(crate) instances: Vec<RouterConfig>,
    pub(crate) groups: Vec<GroupConfig>,
    pub(crate) virtual_servers: Vec<VirtualServer>,
    /// Addresses that are there as long as the agent runs; each has its `dev`.
    pub(crate) static_addresses: Vec<VirtualAddress>,
    pub(crate) static_routes: Vec<VirtualRoute>,
}

/// Settings of the whole agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Global {
    /// Name of this host in logs and status.
    pub(crate) router_id: String,
    /// User and group scripts run as, unless they name their own.
    pub(crate) script_user: Option<ScriptUser>,
    /// Refuse to run a script as root that somebody else can change.
    pub(crate) script_security: bool,
    /// Kernel lifetime of a virtual address; zero = none.
    pub(crate) address_lease: Duration,
    /// Keep a guard process that releases the addresses when the agent is killed.
    pub(crate) guard: bool,
    /// Run under SCHED_RR and lock memory, when allowed.
    pub(crate) realtime: bool,
    /// Its priority under SCHED_RR, 1 to 99.
    pub(crate) realtime_priority: i32,
    /// Named pipe that gets one line per transition.
    pub(crate) notify_fifo: Option<PathBuf>,
    /// Program that reads it; it gets the pipe's name behind its own arguments.
    pub(crate) notify_fifo_script: Option<Command>,
    /// Pause between gratuitous ARP packets.
    pub(crate) garp_interval: Duration,
    /// Groups that adverts go to and come from.
    pub(crate) multicast_v4: Ipv4Addr,
    pub(crate) multicast_v6: Ipv6Addr,
    /// Where the status page and `/metrics` are served; best a loopback address.
    pub(crate) http: Option<SocketAddr>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            router_id: nix::unistd::gethostname()
                .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned()),
            script_user: None,
            script_security: false,
            address_lease: Duration::from_secs(20),
            guard: true,
            realtime: true,
            realtime_priority: 1,
            notify_fifo: None,
            notify_fifo_script: None,
            garp_interval: Duration::ZERO,
            multicast_v4: vrrp::ip::MULTICAST_V4,
            multicast_v6: vrrp::ip::MULTICAST_V6,
            http: None,
        }
    }
}

/// Whom a script runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScriptUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A program and its arguments; no shell is involved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) user: Option<ScriptUser>,
}

/// A `vrrp_script`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScriptConfig {
    pub(crate) name: String,
    /// Empty when `probe` is set.
    pub(crate) command: Command,
    /// A built-in check instead of a command.
    pub(crate) probe: Option<Probe>,
    /// Time from one start to the next.
    pub(crate) interval: Duration,
    /// How long a run may take; keepalived's default is the interval.
    pub(crate) timeout: Duration,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) weight: i16,
    pub(crate) reverse: bool,
    /// Counts as failed until the first success.
    pub(crate) init_fail: bool,
}

/// A virtual address and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualAddress {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Interface, when another than the instance's.
    pub(crate) dev: Option<String>,
    pub(crate) label: Option<String>,
    /// `None` = as the kernel would; keepalived's default is none at all.
    pub(crate) broadcast: Option<Ipv4Addr>,
    /// Kernel's number of the scope: 0 global, 253 link, 254 host.
    pub(crate) scope: u8,
}

/// A route that is there while the addresses are (`virtual_routes`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VirtualRoute {
    /// 0.0.0.0/0 or ::/0 for the default route.
    pub(crate) destination: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<IpAddr>,
    /// Interface; without one that of the gateway, or of the instance.
    pub(crate) dev: Option<String>,
    /// Preferred source address, often the virtual one.
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: Option<u32>,
    pub(crate) table: Option<u32>,
    /// Kernel's number of the scope: 0 global, 253 link, 254 host.
    pub(crate) scope: Option<u8>,
    pub(crate) onlink: bool,
}

impl std::fmt::Display for VirtualRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.destination, self.prefix)?;
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// A rule of policy routing that is there while the addresses are (`virtual_rules`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VirtualRule {
    /// For IPv6.
    pub(crate) six: bool,
    /// What does not match is meant.
    pub(crate) inverted: bool,
    pub(crate) from: Option<(IpAddr, u8)>,
    pub(crate) to: Option<(IpAddr, u8)>,
    pub(crate) iif: Option<String>,
    pub(crate) oif: Option<String>,
    /// Mark of the packet, and which bits of it count.
    pub(crate) mark: Option<(u32, Option<u32>)>,
    pub(crate) tos: Option<u8>,
    /// `None`: the kernel chooses, before all that are there.
    pub(crate) priority: Option<u32>,
    /// Routes of no longer prefixes than this do not count.
    pub(crate) suppress_prefix: Option<u32>,
    pub(crate) action: RuleAction,
}

/// What a rule leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RuleAction {
    /// This table of routes.
    Table(u32),
    /// The rule with this priority.
    Goto(u32),
    #[default]
    Nop,
    Blackhole,
    Unreachable,
    Prohibit,
}

impl std::fmt::Display for VirtualRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((address, prefix)) = self.from {
            write!(f, "from {address}/{prefix} ")?;
        }
        if let Some((address, prefix)) = self.to {
            write!(f, "to {address}/{prefix} ")?;
        }
        match self.action {
            RuleAction::Table(table) => write!(f, "table {table}"),
            RuleAction::Goto(priority) => write!(f, "goto {priority}"),
            other => write!(f, "{}", format!("{other:?}").to_lowercase()),
        }
    }
}

/// `track_script` of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackScript {
    pub(crate) name: String,
    /// Overrides the script's own weight.
    pub(crate) weight: Option<i16>,
    pub(crate) reverse: Option<bool>,
}

/// `track_interface` of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackInterface {
    pub(crate) name: String,
    pub(crate) weight: i16,
}

/// Notify scripts of an instance or a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NotifyConfig {
    pub(crate) any: Option<Command>,
    pub(crate) master: Option<Command>,
    pub(crate) backup: Option<Command>,
    pub(crate) fault: Option<Command>,
    pub(crate) stop: Option<Command>,
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouterConfig {
    pub(crate) core: InstanceConfig,
    pub(crate) interface: String,
    /// Name of the macvlan interface that carries a virtual MAC address.
    pub(crate) vmac: Option<String>,
    /// Key of a trailer that only this agent understands.
    pub(crate) hmac_key: Option<vrrp::hmac::Key>,
    /// All addresses, with those that adverts do not name (`virtual_ipaddress_excluded`).
    pub(crate) addresses: Vec<VirtualAddress>,
    /// Routes that come and go with the addresses.
    pub(crate) routes: Vec<VirtualRoute>,
    /// Rules of policy routing that come and go with the addresses.
    pub(crate) rules: Vec<VirtualRule>,
    /// Source address of adverts, when not the interface's own.
    pub(crate) source: Option<IpAddr>,
    /// Keep running when the interface is down (`dont_track_primary`).
    pub(crate) ignore_link: bool,
    pub(crate) track_scripts: Vec<TrackScript>,
    pub(crate) track_interfaces: Vec<TrackInterface>,
    pub(crate) notify: NotifyConfig,
}

impl RouterConfig {
    /// Whether this virtual router speaks IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.core
            .addresses
            .first()
            .or(self.addresses.first().map(|vip| &vip.address))
            .is_some_and(IpAddr::is_ipv6)
    }

    /// Two configurations with the same key can follow each other by reload; others need a new instance.
    pub(crate) fn key(&self) -> (&str, &str, u8, vrrp::Version, bool) {
        (&self.core.name, &self.interface, self.core.virtual_router_id, self.core.version, self.is_ipv6())
    }
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupConfig {
    pub(crate) name: String,
    pub(crate) members: Vec<String>,
    pub(crate) notify: NotifyConfig,
}

/// What a sync group tracks (`track_interface` and the like inside it): each member does.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupTracks {
    pub(crate) members: Vec<String>,
    pub(crate) scripts: Vec<TrackScript>,
    pub(crate) interfaces: Vec<TrackInterface>,
}

impl GroupTracks {
    /// Lets the members track it too. What a member tracks by itself stays as it says there.
    pub(crate) fn hand_down(&self, instances: &mut [RouterConfig]) {
        for instance in
            instances.iter_mut().filter(|it| self.members.iter().any(|name| **name == *it.core.name))
        {
            for script in &self.scripts {
                if !instance.track_scripts.iter().any(|own| own.name == script.name) {
                    instance.track_scripts.push(script.clone());
                }
            }
            for interface in &self.interfaces {
                if !instance.track_interfaces.iter().any(|own| own.name == interface.name) {
                    instance.track_interfaces.push(interface.clone());
                }
            }
        }
    }
}

/// Writes remarks to the log, each with its own weight.
pub(crate) fn log(remarks: &Diagnostics) {
    for remark in remarks {
        match remark.severity {
            Severity::Error => tracing::error!("{}", remark.one_line()),
            Severity::Warning => tracing::warn!("{}", remark.one_line()),
            Severity::Note => tracing::info!("{}", remark.one_line()),
        }
    }
}

/// Reads `path`, native when its name ends in `.toml`, keepalived's format otherwise.
///
/// # Errors
///
/// Everything that is wrong, and nothing usable; warnings and notes come with the configuration.
pub(crate) fn load(path: &Path) -> Result<(AgentConfig, Diagnostics), Diagnostics> {
    load_as(path, None)
}

/// Like [`load`], with the word that `@` lines of keepalived.conf are compared with.
///
/// # Errors
///
/// As for [`load`].
pub(crate) fn load_as(path: &Path, id: Option<&str>) -> Result<(AgentConfig, Diagnostics), Diagnostics> {
    let text = daemon::config::read_file(path)?;
    let file = path.display().to_string();
    let (config, mut remarks) = if path.extension().is_some_and(|extension| extension == "toml") {
        toml::parse(&text, &file)?
    } else {
        keepalived_conf::parse_as(&text, &file, path.parent(), id)
    };
    check::check(&config, &file, &mut remarks);
    if remarks.has_errors() {
        remarks.sort();
        return Err(remarks);
    }
    Ok((config, remarks))
}
