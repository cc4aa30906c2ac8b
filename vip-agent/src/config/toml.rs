//! The native configuration.
//!
//! ```toml
//! [agent]
//! router_id = "C"                 # name of this host in logs; default: its host name
//! script_user = "root"            # whom scripts run as
//! script_security = true          # refuse scripts that others than root can change
//! address_lease = "20s"           # kernel lifetime of the virtual addresses, "0s" = none
//! guard = true                    # a second process releases the addresses when the agent is killed
//! realtime = true                 # SCHED_RR and locked memory, when allowed
//! notify_fifo = "/run/vip.fifo"   # one line per transition
//! notify_fifo_script = ["/usr/local/bin/on-vrrp"]   # reads it
//! garp_interval = "0s"            # pause between gratuitous ARP packets
//! multicast_v4 = "224.0.0.18"      # group of the adverts; multicast_v6 = "ff02::12"
//! http = "127.0.0.1:9650"         # status page and /metrics; off when left out
//!
//! [[script]]
//! name = "chk_haproxy"
//! command = ["/etc/keepalived/haproxy_check.sh"]
//! interval = "2s"
//! timeout = "2s"                  # default: the interval
//! weight = -20                    # 0 = a failure is a fault
//!
//! [[script]]                      # instead of `command`, one of these asks without a script:
//! name = "proxy"
//! tcp = "127.0.0.1:5672"          # a port accepts connections
//! # amqp = "127.0.0.1:5672"       # an AMQP broker greets
//! # http = "http://127.0.0.1:80/" # a page is answered with 200 to 399
//! # proxy = "http://127.0.0.1:8100/monitor;csv"   # the proxy there has a server that is UP
//! # process = "haproxy"           # a process of this name runs
//! # file = "/run/drain"           # the number in the file, times the weight
//!
//! [[instance]]
//! name = "VI_1"
//! interface = "ens33"
//! virtual_router_id = 66
//! priority = 100
//! addresses = ["192.168.204.66/24"]
//! track_scripts = ["chk_haproxy"]
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use daemon::diagnostic::{Diagnostic, Diagnostics};
use serde::Deserialize;
use vrrp::hmac::{Key, SHORTEST_KEY};
use vrrp::{Announce, Auth, ChecksumMode, InitialState, InstanceConfig, Password, Version};

use crate::tracker::builtin::{HttpTarget, Probe};

mod program;
mod routes;
mod rules;
mod servers;

use self::program::Program;

use super::keepalived_conf::{address_with_prefix, user};
use super::{
    AgentConfig, Command, Global, GroupConfig, GroupTracks, NotifyConfig, RouterConfig, ScriptConfig,
    ScriptUser, TrackInterface, TrackScript, VirtualAddress,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The agent itself.
    #[serde(default)]
    agent: Agent,
    /// Checks that move priorities.
    #[serde(default)]
    script: Vec<Script>,
    /// Virtual routers.
    #[serde(default)]
    instance: Vec<Instance>,
    /// Instances that move together.
    #[serde(default)]
    group: Vec<Group>,
    /// Servers behind an address, balanced by the kernel.
    #[serde(default)]
    virtual_server: Vec<servers::Server>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Agent {
    /// Name of this host in logs; its host name.
    router_id: Option<String>,
    /// Whom scripts run as; the agent's own user.
    script_user: Option<String>,
    /// Their group; the user's.
    script_group: Option<String>,
    /// Refuses scripts that others than root can change.
    script_security: Option<bool>,
    /// How long the kernel keeps an address without hearing of the agent, `"0s"` for ever; 20s.
    address_lease: Option<Span>,
    /// A second process gives the addresses up when the agent is killed; true.
    guard: Option<bool>,
    /// Real-time priority and locked memory, when allowed; true.
    realtime: Option<bool>,
    /// The real-time priority, 1 to 99; 1.
    realtime_priority: Option<i32>,
    /// A pipe that gets a line for each transition.
    notify_fifo: Option<PathBuf>,
    /// A program that reads it.
    notify_fifo_script: Option<Program>,
    /// Pause between gratuitous ARP packets; none.
    garp_interval: Option<Span>,
    /// Group of the adverts; 224.0.0.18.
    multicast_v4: Option<Ipv4Addr>,
    /// Group of the adverts over IPv6; ff02::12.
    multicast_v6: Option<Ipv6Addr>,
    /// Where the status page and `/metrics` are; nowhere unless given.
    http: Option<SocketAddr>,
    /// Addresses that are there as long as the agent runs.
    static_addresses: Vec<Address>,
    /// Routes that are there as long as the agent runs.
    static_routes: Vec<routes::Route>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// By which instances track it.
    name: String,
    /// A program with its arguments; 0 is good. One of this and the following.
    #[serde(default)]
    command: Vec<String>,
    /// A port that accepts connections.
    tcp: Option<SocketAddr>,
    /// An AMQP broker that greets.
    amqp: Option<SocketAddr>,
    /// A page that is answered with 200 to 399.
    http: Option<String>,
    /// The statistics (`…;csv`) of a balancer that has a server that is UP.
    proxy: Option<String>,
    /// A process of this name that runs.
    process: Option<String>,
    /// A file with a number, which counts times the weight.
    file: Option<PathBuf>,
    /// So many processes; 1.
    #[serde(default = "one")]
    at_least: u32,
    /// Time between two runs; 1s.
    #[serde(default = "one_second")]
    interval: Span,
    /// When a run has failed; the interval.
    timeout: Option<Span>,
    /// Good runs after which it is good; 1.
    #[serde(default = "one")]
    rise: u32,
    /// Bad runs after which it has failed; 1.
    #[serde(default = "one")]
    fall: u32,
    /// What is added to the priority, when good if positive, when failed if negative; 0: a failure is a fault.
    #[serde(default)]
    weight: Weight,
    /// Good and failed the other way round.
    #[serde(default)]
    reverse: bool,
    /// Counts as failed until its first run.
    #[serde(default)]
    init_fail: bool,
    /// Whom it runs as.
    user: Option<String>,
    /// Its group.
    group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    /// Its name in logs.
    name: String,
    /// Where adverts are sent, and addresses put.
    interface: String,
    /// The same on all hosts of the address.
    virtual_router_id: Number,
    /// The highest holds the address; 100.
    #[serde(default = "hundred")]
    priority: Number,
    /// The virtual addresses, with their prefixes.
    addresses: Vec<Address>,
    /// Addresses that come along without being in adverts.
    #[serde(default)]
    unadvertised_addresses: Vec<Address>,
    /// Routes that come and go with the addresses.
    #[serde(default)]
    routes: Vec<routes::Route>,
    /// Rules of policy routing that come and go with the addresses.
    #[serde(default)]
    rules: Vec<rules::Rule>,
    /// Of VRRP, 2 or 3; 2 for IPv4, 3 for IPv6.
    version: Option<u8>,
    /// How it starts; `"backup"`.
    #[serde(default)]
    state: InitialStateWord,
    /// Time between adverts; 1s.
    #[serde(default = "one_second")]
    advert_interval: Span,
    /// Password in adverts of version 2, up to 8 octets: a label against mistakes, no protection.
    auth_pass: Option<String>,
    /// Takes the address back from a lower priority; true.
    #[serde(default = "yes")]
    preempt: bool,
    /// Waits so long before.
    #[serde(default)]
    preempt_delay: Span,
    /// Address of adverts; the interface's first.
    source: Option<IpAddr>,
    /// Name of an interface with the virtual MAC address to make and use.
    vmac: Option<String>,
    /// A key that adverts of our own agents are signed with.
    hmac_key: Option<String>,
    /// Sends adverts to these instead of by multicast.
    #[serde(default)]
    unicast_peers: Vec<IpAddr>,
    /// Scripts that move its priority.
    #[serde(default)]
    track_scripts: Vec<Track>,
    /// Interfaces whose loss moves its priority, or is a fault.
    #[serde(default)]
    track_interfaces: Vec<Track>,
    /// The loss of its own interface is a fault; true.
    #[serde(default = "yes")]
    track_link: bool,
    /// Programs that are told of transitions.
    #[serde(default)]
    notify: Notify,
    /// How neighbours are told where the address is.
    #[serde(default)]
    garp: Garp,
    /// A degraded master hands over at once; true.
    #[serde(default = "yes")]
    fast_handover: bool,
    /// A stopping master keeps the address until its successor has it; true.
    #[serde(default = "yes")]
    graceful_release: bool,
    /// Answers the advert of a lower priority at once; true.
    #[serde(default = "yes")]
    answer_lower_priority: bool,
    /// Tells a higher priority of itself before it yields, so that neighbours are renewed; true.
    #[serde(default = "yes")]
    advert_before_yielding: bool,
    /// Adverts that may be missed; 3.
    #[serde(default = "three")]
    down_timer_adverts: u32,
    /// The checksum of version 3 covers the packet alone, as some implementations have it.
    #[serde(default)]
    v3_checksum_as_v2: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InitialStateWord {
    Master,
    #[default]
    Backup,
}

/// `"192.0.2.1/24"`, or a table.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Address {
    Plain(String),
    Full {
        /// With its prefix.
        address: String,
        /// On which interface; the instance's.
        dev: Option<String>,
        /// Label of the address, such as `eth0:1`.
        label: Option<String>,
        /// Broadcast address; none.
        broadcast: Option<Ipv4Addr>,
        /// Kernel's number of the scope: 0 global, 253 link, 254 host.
        scope: Option<u8>,
    },
}

/// A name, or a table.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Track {
    Plain(String),
    Full {
        /// Of the script or interface.
        name: String,
        /// Instead of the script's own; of an interface 0, for a fault.
        weight: Option<Weight>,
        /// Instead of the script's own.
        reverse: Option<bool>,
    },
}

impl Track {
    fn script(self) -> TrackScript {
        match self {
            Self::Plain(name) => TrackScript { name, weight: None, reverse: None },
            Self::Full { name, weight, reverse } => {
                TrackScript { name, weight: weight.map(|weight| weight.0), reverse }
            }
        }
    }

    fn interface(self) -> TrackInterface {
        match self {
            Self::Plain(name) => TrackInterface { name, weight: 0 },
            Self::Full { name, weight, .. } => {
                TrackInterface { name, weight: weight.map_or(0, |weight| weight.0) }
            }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Notify {
    /// At every transition, with kind, name, state and priority.
    any: Option<Program>,
    /// When it becomes master.
    master: Option<Program>,
    /// When it becomes backup.
    backup: Option<Program>,
    /// When it has a fault.
    fault: Option<Program>,
    /// When the agent stops.
    stop: Option<Program>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Garp {
    /// Packets when it becomes master; 5.
    repeat: Option<u32>,
    /// Time after which they are sent again; 5s.
    delay: Option<Span>,
    /// Time after which a master sends them again; never.
    refresh: Option<Span>,
    /// So many then; 1.
    refresh_repeat: Option<u32>,
    /// Packets after the advert of a lower priority; 5.
    lower_priority_repeat: Option<u32>,
    /// Time after which these are sent again; 5s.
    lower_priority_delay: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Its name in logs and for programs.
    name: String,
    /// Names of its instances.
    members: Vec<String>,
    /// Programs that are told of its transitions.
    #[serde(default)]
    notify: Notify,
    /// What every member tracks.
    #[serde(default)]
    track_scripts: Vec<Track>,
    /// What every member tracks.
    #[serde(default)]
    track_interfaces: Vec<Track>,
}

/// A time such as `250ms`, `1s`, `5m`; a bare number is seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(u32),
            Fraction(f64),
            Text(String),
        }
        let wrong = || serde::de::Error::custom("write a time such as \"250ms\", \"1s\" or \"5m\"");
        match Form::deserialize(deserializer).map_err(|_| wrong())? {
            Form::Whole(seconds) => Ok(Self(Duration::from_secs(u64::from(seconds)))),
            Form::Fraction(seconds) => seconds_to_span(seconds).ok_or_else(wrong),
            Form::Text(text) => {
                let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
                let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
                let factor = match unit.trim() {
                    "us" => 1e-6,
                    "ms" => 1e-3,
                    "s" | "" => 1.0,
                    "m" | "min" => 60.0,
                    "h" => 3600.0,
                    _ => return Err(wrong()),
                };
                number.parse().ok().and_then(|number: f64| seconds_to_span(number * factor)).ok_or_else(wrong)
            }
        }
    }
}

fn seconds_to_span(seconds: f64) -> Option<Span> {
    let sane = (0.0..=1e8).contains(&seconds);
    sane.then(|| Span(Duration::from_micros((seconds * 1e6).round() as u64)))
}

/// A number from 1 to 255.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
struct Number(u8);

impl TryFrom<i64> for Number {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match u8::try_from(number) {
            Ok(small) if small > 0 => Ok(Self(small)),
            _ => Err("write a number from 1 to 255"),
        }
    }
}

/// A weight from -253 to 253.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "i64")]
struct Weight(i16);

impl TryFrom<i64> for Weight {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if (-253..=253).contains(&number) {
            Ok(Self(number as i16))
        } else {
            Err("write a number from -253 to 253")
        }
    }
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn hundred() -> Number {
    Number(100)
}

fn one_second() -> Span {
    Span(Duration::from_secs(1))
}

fn yes() -> bool {
    true
}

/// Reads native configuration.
///
/// # Errors
///
/// Everything that is wrong with the text.
pub(crate) fn parse(text: &str, file: &str) -> Result<(AgentConfig, Diagnostics), Diagnostics> {
    let mut raw: File = daemon::config::parse_toml(text, file)?;
    let mut remarks = Diagnostics::new();
    let mut wrong = |message: String| remarks.push(Diagnostic::error("wrong-value", message).in_file(file));
    let mut config = AgentConfig { global: global(&raw.agent, &mut wrong), ..AgentConfig::default() };
    for address in std::mem::take(&mut raw.agent.static_addresses) {
        let address = virtual_address(address, "static_addresses", &mut wrong);
        if address.as_ref().is_some_and(|address| address.dev.is_none()) {
            wrong(
                "static_addresses: write `dev`, as in { address = \"10.0.0.1/24\", dev = \"eth0\" }"
                    .to_owned(),
            );
        }
        config.static_addresses.extend(address);
    }
    config.static_routes = routes::all(std::mem::take(&mut raw.agent.static_routes), &mut wrong);
    for script in raw.script {
        config.scripts.push(script_config(script, &mut wrong));
    }
    for instance in raw.instance {
        config.instances.push(router_config(instance, &mut wrong));
    }
    for group in raw.group {
        let tracks = GroupTracks {
            members: group.members.clone(),
            scripts: group.track_scripts.into_iter().map(Track::script).collect(),
            interfaces: group.track_interfaces.into_iter().map(Track::interface).collect(),
        };
        tracks.hand_down(&mut config.instances);
        config.groups.push(GroupConfig {
            name: group.name,
            members: group.members,
            notify: notify_config(group.notify, &mut wrong),
        });
    }
    for server in raw.virtual_server {
        config.virtual_servers.push(servers::virtual_server(server, &mut wrong));
    }
    remarks.into_result(()).map(|()| (config, Diagnostics::new()))
}

fn global(agent: &Agent, wrong: &mut impl FnMut(String)) -> Global {
    let default = Global::default();
    Global {
        router_id: agent.router_id.clone().unwrap_or(default.router_id),
        script_user: script_user(agent.script_user.as_deref(), agent.script_group.as_deref(), wrong),
        script_security: agent.script_security.unwrap_or(default.script_security),
        address_lease: agent.address_lease.map_or(default.address_lease, |span| span.0),
        guard: agent.guard.unwrap_or(default.guard),
        realtime: agent.realtime.unwrap_or(default.realtime),
        realtime_priority: realtime_priority(agent.realtime_priority, wrong),
        notify_fifo: agent.notify_fifo.clone(),
        notify_fifo_script: program::command(agent.notify_fifo_script.clone(), wrong),
        http: agent.http,
        garp_interval: agent.garp_interval.map_or(default.garp_interval, |span| span.0),
        multicast_v4: multicast(agent.multicast_v4, default.multicast_v4, Ipv4Addr::is_multicast, wrong),
        multicast_v6: multicast(agent.multicast_v6, default.multicast_v6, Ipv6Addr::is_multicast, wrong),
    }
}

fn realtime_priority(written: Option<i32>, wrong: &mut impl FnMut(String)) -> i32 {
    let default = Global::default().realtime_priority;
    match written {
        Some(other) if !(1..=99).contains(&other) => {
            wrong(format!("`{other}` is no real-time priority: write 1 to 99"));
            default
        }
        written => written.unwrap_or(default),
    }
}

fn multicast<T: Copy + std::fmt::Display>(
    written: Option<T>,
    default: T,
    is_multicast: impl Fn(&T) -> bool,
    wrong: &mut impl FnMut(String),
) -> T {
    match written {
        Some(group) if is_multicast(&group) => group,
        Some(other) => {
            wrong(format!("`{other}` is no multicast address"));
            default
        }
        None => default,
    }
}

fn script_user(
    name: Option<&str>,
    group: Option<&str>,
    wrong: &mut impl FnMut(String),
) -> Option<ScriptUser> {
    match user(name?, group) {
        Ok(user) => Some(user),
        Err(reason) => {
            wrong(reason);
            None
        }
    }
}

fn script_config(script: Script, wrong: &mut impl FnMut(String)) -> ScriptConfig {
    let probe = probe(&script, wrong);
    if script.interval.0.is_zero() {
        wrong(format!("script `{}`: `interval` is zero", script.name));
    }
    let user = script_user(script.user.as_deref(), script.group.as_deref(), wrong);
    ScriptConfig {
        command: Command { argv: script.command, user },
        probe,
        interval: script.interval.0,
        timeout: script.timeout.map_or(script.interval.0, |span| span.0),
        rise: script.rise,
        fall: script.fall,
        weight: script.weight.0,
        reverse: script.reverse,
        init_fail: script.init_fail,
        name: script.name,
    }
}

/// The one thing a check asks, when it is none of the user's programs.
fn probe(script: &Script, wrong: &mut impl FnMut(String)) -> Option<Probe> {
    let mut target = |key: &str, url: &Option<String>| match HttpTarget::parse(url.as_ref()?) {
        Ok(target) => Some(target),
        Err(reason) => {
            wrong(format!("script `{}`: `{key}` {reason}", script.name));
            None
        }
    };
    let http = target("http", &script.http).map(Probe::Http);
    let proxy = target("proxy", &script.proxy).map(Probe::Proxy);
    let process =
        script.process.clone().map(|name| Probe::Process { name, at_least: script.at_least as usize });
    let tcp = script.tcp.map(Probe::Tcp);
    let file = script.file.clone().map(Probe::File);
    let mut found: Vec<Probe> =
        [tcp, script.amqp.map(Probe::Amqp), http, proxy, process, file].into_iter().flatten().collect();
    let asked = found.len() + usize::from(!script.command.is_empty());
    let broken = script.http.is_some() || script.proxy.is_some();
    if asked != 1 && !(asked == 0 && broken) {
        wrong(format!(
            "script `{}`: write one of `command`, `tcp`, `amqp`, `http`, `proxy`, `process`, `file`",
            script.name
        ));
    }
    found.pop()
}

fn router_config(instance: Instance, wrong: &mut impl FnMut(String)) -> RouterConfig {
    let mut advertised = Vec::new();
    for address in instance.addresses {
        advertised.extend(virtual_address(address, &instance.name, wrong));
    }
    let mut core = InstanceConfig::new(
        &instance.name,
        instance.virtual_router_id.0,
        advertised.iter().map(|vip| vip.address).collect(),
    );
    let mut addresses = advertised;
    for address in instance.unadvertised_addresses {
        addresses.extend(virtual_address(address, &instance.name, wrong));
    }
    core.priority = instance.priority.0;
    core.advert_interval = instance.advert_interval.0;
    core.initial_state = match instance.state {
        InitialStateWord::Master => InitialState::Master,
        InitialStateWord::Backup => InitialState::Backup,
    };
    core.preempt = instance.preempt;
    core.preempt_delay = instance.preempt_delay.0;
    core.unicast_peers = instance.unicast_peers;
    core.fast_handover = instance.fast_handover;
    core.graceful_release = instance.graceful_release;
    core.answer_lower_priority = instance.answer_lower_priority;
    core.advert_before_yielding = instance.advert_before_yielding;
    core.down_timer_adverts = instance.down_timer_adverts;
    if instance.v3_checksum_as_v2 {
        core.checksum = ChecksumMode::PacketOnly;
    }
    core.announce = announce(&instance.garp);
    let six = core.addresses.first().is_some_and(IpAddr::is_ipv6);
    core.version = match instance.version {
        Some(2) => Version::V2,
        Some(3) => Version::V3,
        None if six => Version::V3,
        None => Version::V2,
        Some(other) => {
            wrong(format!("instance `{}`: there is no VRRP version {other}", instance.name));
            Version::V2
        }
    };
    if let Some(pass) = &instance.auth_pass {
        core.auth = Auth::Simple(Password::new(pass));
        if core.version == Version::V3 {
            wrong(format!("instance `{}`: VRRP version 3 has no `auth_pass`", instance.name));
        }
    }
    verify(&core, six, wrong);
    let hmac_key = hmac_key(instance.hmac_key.as_deref(), &instance.name, wrong);
    RouterConfig {
        core,
        interface: instance.interface,
        vmac: instance.vmac,
        hmac_key,
        addresses,
        routes: routes::all(instance.routes, wrong),
        rules: rules::all(instance.rules, wrong),
        source: instance.source,
        ignore_link: !instance.track_link,
        track_scripts: instance.track_scripts.into_iter().map(Track::script).collect(),
        track_interfaces: instance.track_interfaces.into_iter().map(Track::interface).collect(),
        notify: notify_config(instance.notify, wrong),
    }
}

fn hmac_key(text: Option<&str>, instance: &str, wrong: &mut impl FnMut(String)) -> Option<Key> {
    let key = Key::new(text?);
    if key.is_none() {
        wrong(format!("instance `{instance}`: `hmac_key` needs at least {SHORTEST_KEY} characters"));
    }
    key
}

fn verify(core: &InstanceConfig, six: bool, wrong: &mut impl FnMut(String)) {
    let name = &core.name;
    let interval = core.advert_interval;
    if core.addresses.is_empty() {
        wrong(format!("instance `{name}`: `addresses` is empty"));
    }
    if core.addresses.iter().any(|address| address.is_ipv6() != six) {
        wrong(format!("instance `{name}`: `addresses` mixes IPv4 and IPv6; use `unadvertised_addresses`"));
    }
    if six && core.version == Version::V2 {
        wrong(format!("instance `{name}`: IPv6 needs version = 3"));
    }
    let whole = interval.subsec_nanos() == 0 && (1..=255).contains(&interval.as_secs());
    if core.version == Version::V2 && !whole {
        wrong(format!(
            "instance `{name}`: VRRP version 2 wants an `advert_interval` of 1 to 255 whole seconds"
        ));
    }
    let centiseconds = Duration::from_millis(10)..=Duration::from_millis(40_950);
    if core.version == Version::V3 && !centiseconds.contains(&interval) {
        wrong(format!("instance `{name}`: VRRP version 3 wants an `advert_interval` of 10ms to 40.95s"));
    }
    if !core.preempt && core.initial_state == InitialState::Master {
        wrong(format!("instance `{name}`: `preempt = false` needs state = \"backup\" on every host"));
    }
}

fn virtual_address(
    address: Address,
    instance: &str,
    wrong: &mut impl FnMut(String),
) -> Option<VirtualAddress> {
    let (text, dev, label, broadcast, scope) = match address {
        Address::Plain(text) => (text, None, None, None, None),
        Address::Full { address, dev, label, broadcast, scope } => (address, dev, label, broadcast, scope),
    };
    match address_with_prefix(&text) {
        Ok((address, prefix)) => {
            Some(VirtualAddress { address, prefix, dev, label, broadcast, scope: scope.unwrap_or(0) })
        }
        Err(reason) => {
            wrong(format!("instance `{instance}`: `{text}` {reason}"));
            None
        }
    }
}

fn announce(garp: &Garp) -> Announce {
    let default = Announce::default();
    let span = |span: Option<Span>, default| span.map_or(default, |span| span.0);
    Announce {
        repeat: garp.repeat.unwrap_or(default.repeat),
        delay: span(garp.delay, default.delay),
        refresh: span(garp.refresh, default.refresh),
        refresh_repeat: garp.refresh_repeat.unwrap_or(default.refresh_repeat),
        lower_priority_repeat: garp.lower_priority_repeat.unwrap_or(default.lower_priority_repeat),
        lower_priority_delay: span(garp.lower_priority_delay, default.lower_priority_delay),
    }
}

fn notify_config(notify: Notify, wrong: &mut impl FnMut(String)) -> NotifyConfig {
    let mut command = |program| program::command(program, wrong);
    NotifyConfig {
        any: command(notify.any),
        master: command(notify.master),
        backup: command(notify.backup),
        fault: command(notify.fault),
        stop: command(notify.stop),
    }
}
