//! Hosts as network namespaces on one bridge.
//!
//! ```text
//!    host A        host B        host C          each: eth0 with an address in 192.168.204.0/24
//!      |             |             |
//!   ┌──┴─────────────┴─────────────┴──┐
//!   │ bridge br0 in a namespace "SW"  │          nothing touches the machine's own network
//!   └─────────────────────────────────┘
//! ```
//!
//! Every namespace's name starts with a prefix that holds the owner's process id. Dropping the network
//! kills what runs in its namespaces and removes them; what an owner that was killed left behind goes
//! when the next network is made.

use super::process::{self, run};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// The first three octets of every host's address.
pub const SUBNET: &str = "192.168.204.";

/// The usual name of a host's only interface.
pub const INTERFACE: &str = "eth0";

/// The letters with which every namespace of ours begins.
const MARK: &str = "wn";

/// A bridge and the hosts on it.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    /// The name of each host's only interface.
    interface: String,
    hosts: Mutex<Vec<String>>,
    /// The interface that puts the machine itself on the bridge.
    machine: Mutex<Option<String>>,
}

impl Network {
    /// Makes the bridge. Hosts come with [`Network::add_host`].
    ///
    /// # Errors
    /// No privilege ([`may`] says so beforehand), or no iproute2.
    pub fn new() -> Result<Self> {
        Self::with_interface(INTERFACE)
    }

    /// As [`Network::new`], with another name for each host's interface.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_interface(interface: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{MARK}{}n{number}", std::process::id());
        let network = Self {
            prefix,
            interface: interface.to_owned(),
            hosts: Mutex::new(Vec::new()),
            machine: Mutex::new(None),
        };
        let switch = network.namespace("SW");
        run(Command::new("ip").args(["netns", "add", &switch])).context("make a network namespace")?;
        network.on_switch("link set lo up")?;
        network.on_switch("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
        network.on_switch("link set br0 up")?;
        Ok(network)
    }

    /// Adds a host with the address 192.168.204.`octet`/24.
    ///
    /// # Errors
    /// The namespace or its link cannot be made.
    pub fn add_host(&self, host: &str, octet: u8) -> Result<()> {
        let name = self.namespace(host);
        let own = self.interface.as_str();
        run(Command::new("ip").args(["netns", "add", &name]))?;
        self.lock_hosts().push(host.to_owned());
        let port = port(host);
        self.on_switch(&format!("link add {port} type veth peer name {own} netns {name}"))?;
        self.ip(host, "link set lo up")?;
        for (namespace, interface) in [(&name, own), (&self.namespace("SW"), port.as_str())] {
            let key = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            let script = format!("[ ! -e {key} ] || echo 1 > {key}");
            run(Command::new("ip").args(["netns", "exec", namespace, "sh", "-c", &script]))?;
        }
        self.ip(host, &format!("link set {own} address 02:00:00:00:cc:{octet:02x}"))?;
        self.on_switch(&format!("link set {port} master br0 up"))?;
        self.ip(host, &format!("link set {own} up"))?;
        self.ip(host, &format!("addr add {SUBNET}{octet}/24 dev {own}"))?;
        Ok(())
    }

    /// Puts the machine itself on the bridge as 192.168.204.`octet`, so that its own programs reach the
    /// hosts.
    ///
    /// # Errors
    /// The machine has a route to that network already, or lacks the privilege.
    pub fn add_machine(&self, octet: u8) -> Result<()> {
        let route = run(Command::new("ip").args(["route", "show", "to", "match", &format!("{SUBNET}66")]))?;
        let taken = route.lines().any(|line| !line.starts_with("default"));
        ensure!(!taken, "this machine has a route to {SUBNET}0/24 already: {}", route.trim());
        let interface = format!("{MARK}{}", std::process::id());
        let switch = self.namespace("SW");
        let add = ["link", "add", &interface, "type", "veth", "peer", "name", "pmachine", "netns", &switch];
        run(Command::new("ip").args(add))?;
        *self.machine.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(interface.clone());
        self.on_switch("link set pmachine master br0 up")?;
        run(Command::new("ip").args(["addr", "add", &format!("{SUBNET}{octet}/24"), "dev", &interface]))?;
        run(Command::new("ip").args(["link", "set", &interface, "up"]))?;
        Ok(())
    }

    /// The name of a host's namespace, for `ip netns exec`.
    #[must_use]
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command that will run on a host and die with the thread that starts it.
    #[must_use]
    pub fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), "setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(program.as_ref());
        command
    }

    /// Runs `ip ARGS` on a host.
    ///
    /// # Errors
    /// It failed.
    pub fn ip(&self, host: &str, args: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.namespace(host)]).args(args.split_whitespace()))
    }

    /// The IPv4 addresses on a host's interface.
    #[must_use]
    pub fn addresses(&self, host: &str) -> Vec<String> {
        let text = self.ip(host, &format!("-4 -o addr show dev {}", self.interface)).unwrap_or_default();
        let after_inet = |line: &str| Some(line.split_once(" inet ")?.1.split(['/', ' ']).next()?.to_owned());
        text.lines().filter_map(after_inet).collect()
    }

    /// Drops a host's link in silence: the carrier stays, every packet is lost. This is how the others
    /// see a host without power.
    ///
    /// # Errors
    /// No such host.
    pub fn unplug(&self, host: &str) -> Result<()> {
        self.on_switch(&format!("link set {} nomaster", port(host)))
    }

    /// Undoes [`Network::unplug`].
    ///
    /// # Errors
    /// No such host.
    pub fn replug(&self, host: &str) -> Result<()> {
        self.on_switch(&format!("link set {} master br0", port(host)))
    }

    /// Keeps these hosts from hearing each other, or lets them again. Everybody else still hears them all.
    ///
    /// # Errors
    /// No such host.
    pub fn isolate(&self, hosts: &[&str], apart: bool) -> Result<()> {
        let switch = self.namespace("SW");
        for host in hosts {
            let state = if apart { "on" } else { "off" };
            let bridge = ["netns", "exec", &switch, "bridge", "link", "set", "dev", &port(host)];
            run(Command::new("ip").args(bridge).args(["isolated", state]))?;
        }
        Ok(())
    }

    /// Makes a host's link slow in both directions, or as fast as before. With netem, where the kernel has it, packets
    /// come late; otherwise the link carries little, and what has to wait comes late.
    ///
    /// # Errors
    /// No such host.
    pub fn slow_link(&self, host: &str, slow: bool) -> Result<()> {
        let ends = [(self.namespace(host), INTERFACE.to_owned()), (self.namespace("SW"), port(host))];
        for (namespace, interface) in ends {
            let tc = |words: &str| {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespace, "tc", "qdisc"]).args(words.split(' '));
                run(&mut command).map(drop)
            };
            if slow {
                tc(&format!("add dev {interface} root netem delay 100ms 50ms")).or_else(|_| {
                    tc(&format!("add dev {interface} root tbf rate 1mbit burst 16kb latency 400ms"))
                })?;
            } else {
                tc(&format!("del dev {interface} root"))?;
            }
        }
        Ok(())
    }

    /// Takes the carrier from a host's link, or gives it back: what a pulled cable is to the host itself.
    ///
    /// # Errors
    /// No such host.
    pub fn carrier(&self, host: &str, on: bool) -> Result<()> {
        self.on_switch(&format!("link set {} {}", port(host), if on { "up" } else { "down" }))
    }

    /// Gives a host an IPv6 address beside its IPv4 one, and the link-local one that comes with it.
    ///
    /// # Errors
    /// No such host, or no IPv6 in this kernel.
    pub fn add_ipv6(&self, host: &str, address: &str) -> Result<()> {
        let interface = &self.interface;
        let folder = format!("/proc/sys/net/ipv6/conf/{interface}");
        let script = format!("echo 0 > {folder}/accept_dad && echo 0 > {folder}/disable_ipv6");
        run(Command::new("ip").args(["netns", "exec", &self.namespace(host), "sh", "-c", &script]))?;
        self.ip(host, &format!("addr add {address} dev {interface} nodad"))?;
        Ok(())
    }

    /// The processes that run on a host.
    #[must_use]
    pub fn pids(&self, host: &str) -> Vec<u32> {
        pids_in(&self.namespace(host))
    }

    /// Cuts the power of a host: every process gone at once, the link silent, and what the kernel held
    /// for it (additional addresses, connections) forgotten.
    ///
    /// # Errors
    /// No such host.
    pub fn power_off(&self, host: &str) -> Result<()> {
        self.unplug(host)?;
        process::kill_tree(&self.pids(host));
        let own = self.addresses(host).into_iter().next().unwrap_or_default();
        for address in self.addresses(host).into_iter().filter(|address| *address != own) {
            let text = self.ip(host, &format!("-4 -o addr show to {address}"))?;
            let cidr =
                text.split_once(" inet ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
            self.ip(host, &format!("addr del {cidr} dev {}", self.interface))?;
        }
        Ok(())
    }

    fn on_switch(&self, args: &str) -> Result<()> {
        self.ip("SW", args).map(drop)
    }

    fn lock_hosts(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.hosts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Ok(Some(interface)) = self.machine.lock().map(|held| held.clone()) {
            let _ = run(Command::new("ip").args(["link", "del", &interface]));
        }
        let hosts = self.lock_hosts().clone();
        for host in hosts.iter().map(String::as_str).chain(["SW"]) {
            remove(&self.namespace(host));
        }
    }
}

/// Whether this process may make networks, and if not, why.
///
/// # Errors
/// A sentence for the user.
pub fn may() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(probe).clone()
}

fn probe() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces need root (or `unshare -Urnm`)".to_owned());
    }
    let name = format!("{MARK}{}nprobe", std::process::id());
    let made = run(Command::new("ip").args(["netns", "add", &name]));
    remove(&name);
    made.map(drop).map_err(|error| format!("network namespaces cannot be made: {error:#}"))
}

fn port(host: &str) -> String {
    format!("p{host}")
}

fn pids_in(namespace: &str) -> Vec<u32> {
    let text = run(Command::new("ip").args(["netns", "pids", namespace])).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn remove(namespace: &str) {
    for _ in 0..50 {
        let pids = pids_in(namespace);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            process::signal(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = run(Command::new("ip").args(["netns", "del", namespace]));
}

/// Removes the namespaces of owners that no longer live.
fn remove_orphans() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(MARK).and_then(|rest| rest.split_once('n')).map(|(pid, _)| pid.parse());
        if let Some(Ok(pid)) = owner
            && !process::exists(pid)
        {
            remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root; without it the end-to-end stage of `cargo xtask test` says what was not run.
    #[test]
    fn hosts_reach_each_other_until_unplugged_and_leave_nothing() {
        if may().is_err() {
            return;
        }
        let network = Network::new().unwrap();
        network.add_host("A", 141).unwrap();
        network.add_host("B", 142).unwrap();
        assert_eq!(network.addresses("A"), ["192.168.204.141"]);
        let serve = "import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                     s.bind(('', 7))\nprint('up', flush=True)\n\
                     while 1: s.sendto(*s.recvfrom(99))";
        let mut server = network.command("B", "python3");
        server.args(["-c", serve]);
        let log = std::env::temp_dir().join(format!("xtask-network-{}.log", std::process::id()));
        let server = process::Process::spawn("echo", server, &log).unwrap();
        super::super::wait::until_true(Duration::from_secs(10), "the echo server", || {
            server.log().contains("up")
        })
        .unwrap();
        let ask = || {
            let code = "import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(0.3)\n\
                        s.sendto(b'x', ('192.168.204.142', 7)); s.recv(9)";
            run(network.command("A", "python3").args(["-c", code])).is_ok()
        };
        assert!(ask());
        network.unplug("B").unwrap();
        assert!(!ask());
        network.replug("B").unwrap();
        assert!(ask());
        network.ip("B", "addr add 192.168.204.66/24 dev eth0").unwrap();
        network.power_off("B").unwrap();
        assert!(network.pids("B").is_empty());
        assert_eq!(network.addresses("B"), ["192.168.204.142"]);
        let name = network.namespace("A");
        drop(server);
        drop(network);
        assert!(!Path::new("/run/netns").join(name).exists());
        let _ = std::fs::remove_file(log);
    }
}
