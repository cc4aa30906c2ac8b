//! Hosts with agents on configurations of their own, for what the pair of `harness::pair` does not cover.

use harness::scratch::Scratch;
use harness::{Needs, PEERS, programs, ready};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use xtask::lab::process::{self, read_lossy, run};
use xtask::lab::wait::until_true;
use xtask::lab::{Network, Process};
use xtask::stack::{Cast, Maker};

/// Time for anything that will happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The process ids of the guards on a host.
pub(crate) fn guards(network: &Network, host: &str) -> Vec<u32> {
    let name = |pid: &u32| read_lossy(format!("/proc/{pid}/comm").as_ref()).trim() == "vip-guard";
    network.pids(host).into_iter().filter(name).collect()
}

/// Hosts on one bridge, each with an agent at most.
pub(crate) struct Hosts {
    agents: Mutex<BTreeMap<String, Process>>,
    pub(crate) network: Network,
    pub(crate) scratch: Scratch,
}

impl Hosts {
    /// Makes C (.143), D (.144) and CL (.200). `None` when that is not possible here, or when the tests are asked to
    /// show how the originals behave.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let name = format!("vip-{name}");
        if Cast::from_environment().agent_c == Maker::Theirs
            || !ready(&name, &[Needs::Network, Needs::Python, PEERS])
        {
            return None;
        }
        let network = Network::new().unwrap();
        for (host, octet) in [("C", 143), ("D", 144), ("CL", 200)] {
            network.add_host(host, octet).unwrap();
        }
        Some(Self { agents: Mutex::default(), network, scratch: Scratch::new(&name).unwrap() })
    }

    /// The folder of a host's files.
    pub(crate) fn folder(&self, host: &str) -> PathBuf {
        let folder = self.scratch.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Writes a file of a host, with `FOLDER` in it replaced by the host's folder.
    pub(crate) fn write(&self, host: &str, name: &str, text: &str) -> PathBuf {
        let path = self.folder(host).join(name);
        std::fs::write(&path, text.replace("FOLDER", &self.folder(host).to_string_lossy())).unwrap();
        path
    }

    /// Writes a program of a host.
    pub(crate) fn program(&self, host: &str, name: &str, text: &str) {
        let path = self.write(host, name, text);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Starts our agent; the name tells the format.
    pub(crate) fn ours(&self, host: &str, name: &str, text: &str) {
        self.ours_with(host, name, text, &[]);
    }

    /// Starts our agent with these switches too.
    pub(crate) fn ours_with(&self, host: &str, name: &str, text: &str, switches: &[&str]) {
        let path = self.write(host, name, text);
        let mut command = self.network.command(host, programs::folder().join("vip-agent"));
        command.arg("-f").arg(path).arg("--runtime-dir").arg(self.folder(host).join("run")).args(switches);
        self.spawn(host, command);
    }

    /// Starts keepalived.
    pub(crate) fn keepalived(&self, host: &str, text: &str) {
        let path = self.write(host, "keepalived.conf", text);
        let folder = self.folder(host);
        let mut command = self.network.command(host, "keepalived");
        command.args(["-n", "-l", "-D", "-P", "-f"]).arg(path);
        command.arg("-p").arg(folder.join("parent.pid")).arg("-r").arg(folder.join("vrrp.pid"));
        self.spawn(host, command);
    }

    /// Starts the agent of this maker on a `keepalived.conf`.
    pub(crate) fn start(&self, maker: Maker, host: &str, text: &str) {
        match maker {
            Maker::Ours => self.ours(host, "keepalived.conf", text),
            Maker::Theirs => self.keepalived(host, text),
        }
    }

    fn spawn(&self, host: &str, command: Command) {
        let process = Process::spawn("agent", command, &self.folder(host).join("agent.log")).unwrap();
        self.lock().insert(host.to_owned(), process);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Process>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pid(&self, host: &str) -> u32 {
        self.lock()[host].pid()
    }

    /// SIGTERM, and the wait for the end.
    pub(crate) fn stop(&self, host: &str) {
        let mut process = self.lock().remove(host).unwrap();
        process.terminate();
        process.wait(SOON).unwrap();
    }

    /// SIGKILL, and the wait for the end.
    pub(crate) fn kill(&self, host: &str) {
        let mut process = self.lock().remove(host).unwrap();
        process::signal(process.pid(), nix::sys::signal::Signal::SIGKILL);
        process.wait(SOON).unwrap();
    }

    pub(crate) fn log(&self, host: &str) -> String {
        self.lock()[host].log()
    }

    /// The whole status of our agent on a host.
    pub(crate) fn agent_status(&self, host: &str) -> Value {
        let mut command = Command::new(programs::folder().join("vip-agent"));
        command.args(["status", "--json", "--runtime-dir"]).arg(self.folder(host).join("run"));
        let text = run(&mut command).unwrap_or_default();
        serde_json::from_str::<Value>(&text).map_or(Value::Null, |all| all[0].clone())
    }

    /// The status of the only instance of our agent on a host.
    pub(crate) fn status(&self, host: &str) -> Value {
        self.agent_status(host)["instances"][0].clone()
    }

    /// Whether a host has this address on any interface.
    pub(crate) fn has(&self, host: &str, address: &str) -> bool {
        let text = self.network.ip(host, "-o addr show").unwrap_or_default();
        text.contains(&format!(" {address}/"))
    }

    /// Waits until this is so; the agents' logs say why it is not.
    pub(crate) fn wait(&self, what: &str, probe: impl FnMut() -> bool) {
        if let Err(error) = until_true(SOON, what, probe) {
            let agents = self.lock();
            let logs: Vec<String> =
                agents.iter().map(|(host, process)| format!("--- {host}\n{}", process.log())).collect();
            panic!("{error}\n{}", logs.join("\n"));
        }
    }

    /// Waits until `host` has the address and `other` has not.
    pub(crate) fn wait_holder(&self, host: &str, other: &str, address: &str) {
        let what = format!("{address} on {host} alone");
        self.wait(&what, || self.has(host, address) && !self.has(other, address));
    }

    /// The MAC that CL knows for an address, after it has asked.
    pub(crate) fn mac_known_to_client(&self, address: &str) -> String {
        let script = format!("echo > /dev/udp/{address}/9");
        let _ = run(self.network.command("CL", "bash").args(["-c", &script]));
        self.neighbour(address)
    }

    /// The MAC that CL knows for an address.
    pub(crate) fn neighbour(&self, address: &str) -> String {
        let text = self.network.ip("CL", &format!("neigh show {address}")).unwrap_or_default();
        text.split_once("lladdr ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default().to_owned()
    }

    /// The test passed: everything goes.
    pub(crate) fn passed(self) {
        let Self { agents, network, scratch } = self;
        drop(agents);
        drop(network);
        scratch.passed();
    }
}
