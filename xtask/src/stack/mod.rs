//! The whole stack on one machine: brokers on A and B, balancer and agent on C and D. A and B may be one cluster,
//! with a witness on C; or A, B and E are one.
//!
//! ```text
//!   CL .200 ──► 192.168.204.66:5672 ──► C .143 or D .144 ──► A .141 or B .142
//!   clients     floats by VRRP          proxy, vip-agent      broker
//! ```
//!
//! Each role can be played by our program or by the one it replaces, on the same configuration file.

mod cluster;
mod place;
mod render;

pub use cluster::WITNESS;
pub use place::{Place, VIP};
pub use render::rabbitmq_environment;

use crate::lab::process::{self, Process};
use crate::lab::wait::until_true;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Hosts with a broker.
pub const BROKERS: [&str; 2] = ["A", "B"];
/// Hosts with a broker where there are three.
const THREE_BROKERS: [&str; 3] = ["A", "B", "E"];
/// How long a killed process may take to go: what it waits for on its disk comes first.
const GONE: Duration = Duration::from_secs(20);
/// Hosts with a balancer and an agent.
pub const BALANCERS: [&str; 2] = ["C", "D"];
/// The host of the clients.
pub const CLIENT: &str = "CL";

/// Who made the program that plays a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Maker {
    /// This project.
    #[default]
    Ours,
    /// RabbitMQ, HAProxy or keepalived, from Debian's packages.
    Theirs,
}

/// Which program plays which role.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cast {
    /// The broker on A and B.
    pub broker: Maker,
    /// The balancer on C and D.
    pub proxy: Maker,
    /// The agent on C.
    pub agent_c: Maker,
    /// The agent on D.
    pub agent_d: Maker,
}

impl Cast {
    /// The cast named by the environment: `WARREN_THEIRS` lists the roles (`broker`, `proxy`, `vip-c`,
    /// `vip-d`, `vip` for both) that the original programs shall play. It proves that the tests hold for
    /// the originals.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::theirs(&std::env::var("WARREN_THEIRS").unwrap_or_default())
    }

    /// The cast with the original programs in the roles listed, separated by commas.
    #[must_use]
    pub fn theirs(roles: &str) -> Self {
        let plays = |names: &[&str]| match roles.split(',').any(|role| names.contains(&role.trim())) {
            true => Maker::Theirs,
            false => Maker::Ours,
        };
        Self {
            broker: plays(&["broker"]),
            proxy: plays(&["proxy"]),
            agent_c: plays(&["vip", "vip-c"]),
            agent_d: plays(&["vip", "vip-d"]),
        }
    }

    /// Our packages that play a role.
    #[must_use]
    pub fn ours(&self) -> Vec<&'static str> {
        let roles = [
            ("broker", self.broker == Maker::Ours),
            ("proxy", self.proxy == Maker::Ours),
            ("vip-agent", self.agent_c == Maker::Ours || self.agent_d == Maker::Ours),
        ];
        roles.into_iter().filter_map(|(name, ours)| ours.then_some(name)).collect()
    }
}

/// A running stack. Dropping it takes everything down.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: first the processes, then the hosts.
    processes: Mutex<BTreeMap<String, Process>>,
    place: Place,
    brokers: &'static [&'static str],
    cast: Cast,
    programs: PathBuf,
    folder: PathBuf,
    /// Variables for the brokers, by host.
    variables: Mutex<BTreeMap<String, Vec<(String, String)>>>,
}

impl Stack {
    /// Makes the hosts and starts nothing. `programs` is the folder of our executables; state and logs go
    /// to `folder`, a sub-folder for each host.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(place: Place, cast: Cast, programs: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self {
            processes: Mutex::default(),
            place,
            brokers: &BROKERS,
            cast,
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            variables: Mutex::default(),
        })
    }

    /// With a third broker, on E, and no witness: the place is [`Place::wide_network`].
    #[must_use]
    pub fn with_three_brokers(self) -> Self {
        Self { brokers: &THREE_BROKERS, ..self }
    }

    /// The hosts with a broker.
    #[must_use]
    pub fn brokers(&self) -> &'static [&'static str] {
        self.brokers
    }

    /// Whether a host has a broker.
    fn is_broker(&self, host: &str) -> bool {
        self.brokers.contains(&host)
    }

    /// Sets a variable in the environment of a host's broker, from its next start on.
    pub fn set_variable(&self, host: &str, name: &str, value: &str) {
        let mut variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.entry(host.to_owned()).or_default().push((name.to_owned(), value.to_owned()));
    }

    /// Starts every program and waits until clients are served.
    ///
    /// # Errors
    /// A program does not start; the end of its log is part of the message.
    pub fn start(&self) -> Result<()> {
        for host in self.brokers {
            self.start_broker(host)?;
        }
        for host in self.brokers {
            self.wait_listening(host, 5672)?;
        }
        for host in BALANCERS {
            self.start_proxy(host)?;
        }
        for host in BALANCERS {
            self.wait_listening(host, 5672)?;
            self.wait_listening(host, 8100)?;
        }
        if self.place.has_vip() {
            for host in BALANCERS {
                self.start_agent(host)?;
            }
            self.wait_holder("C", Duration::from_secs(20))?;
        }
        Ok(())
    }

    /// Starts every program at once and waits for nothing.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn launch(&self) -> Result<()> {
        self.brokers.iter().try_for_each(|host| self.start_broker(host))?;
        if self.had_witness() {
            self.start_witness()?;
        }
        BALANCERS.iter().try_for_each(|host| self.start_proxy(host))?;
        BALANCERS.iter().try_for_each(|host| self.start_agent(host))
    }

    /// The place the stack runs in.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The folder of a host's configuration, logs and data.
    #[must_use]
    pub fn host_folder(&self, host: &str) -> PathBuf {
        self.folder.join(host)
    }

    /// Starts the broker of a host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_broker(&self, host: &str) -> Result<()> {
        let folder = self.prepared(host)?;
        let mut command;
        match self.cast.broker {
            Maker::Ours => {
                let config = render::config("broker.toml")? + &self.cluster_table(host);
                let config = self.write(host, "broker.toml", &config)?;
                command = self.place.command(host, self.programs.join("broker"));
                command.arg("-c").arg(config).arg("--data").arg(folder.join("data"));
                command.args(["--node", &format!("rabbit@{host}")]);
                command.args(["--bind", &self.place.bind(host)]);
                self.with_cookie(&mut command);
            }
            Maker::Theirs => {
                self.write(host, "rabbitmq.conf", render::RABBITMQ)?;
                command = self.rabbitmq(host, "rabbitmq-server")?;
            }
        }
        if let Some(variables) = self.variables.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            command.envs(variables.iter().cloned());
        }
        self.spawn(host, "broker", command)
    }

    /// Starts the balancer of a host, in the way its check script does.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_proxy(&self, host: &str) -> Result<()> {
        let folder = self.prepared(host)?;
        let text = render::with_servers(
            &render::config("haproxy.cfg")?,
            &self.brokers.iter().map(|host| place::network_address(host)).collect::<Vec<_>>(),
        );
        let text = self.place.localised(host, &text);
        let config = self.write(host, "haproxy.cfg", &text)?;
        let call = match self.cast.proxy {
            Maker::Ours => format!("{} -f {}", self.programs.join("proxy").display(), config.display()),
            Maker::Theirs => format!("haproxy -db -f {}", config.display()),
        };
        let script = render::start_proxy(&folder, &call);
        let script = self.write(host, "start-proxy.sh", &script)?;
        render::make_executable(&script)?;
        let command = self.place.command(host, script);
        self.spawn(host, "proxy", command)
    }

    /// Starts the agent of a host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent(&self, host: &str) -> Result<()> {
        let file = format!("keepalived-{}.conf", host.to_lowercase());
        self.start_agent_with(host, &render::config(&file)?)
    }

    /// Starts the agent of a host with this `keepalived.conf`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent_with(&self, host: &str, text: &str) -> Result<()> {
        let folder = self.prepared(host)?;
        let check = self.write(host, "haproxy_check.sh", &render::config("haproxy_check.sh")?)?;
        render::make_executable(&check)?;
        let text = text.replace("/etc/warren", &folder.to_string_lossy());
        let config = self.write(host, "keepalived.conf", &text)?;
        let maker = if host == "C" { self.cast.agent_c } else { self.cast.agent_d };
        let mut command;
        match maker {
            Maker::Ours => {
                command = self.place.command(host, self.programs.join("vip-agent"));
                command.arg("-f").arg(config);
            }
            Maker::Theirs => {
                command = self.place.command(host, "keepalived");
                command.args(["-n", "-l", "-D", "-P", "-f"]).arg(config);
                for (flag, file) in [("-p", "keepalived.pid"), ("-r", "vrrp.pid")] {
                    let _ = std::fs::remove_file(folder.join(file));
                    command.arg(flag).arg(folder.join(file));
                }
            }
        }
        self.spawn(host, "vip-agent", command)?;
        let pid = self.pid(host, "vip-agent").unwrap_or_default();
        self.write(host, "vip.pid", &pid.to_string()).map(drop)
    }

    /// The process id of a role on a host, if it runs. The balancer may have been started by its check
    /// script.
    #[must_use]
    pub fn pid(&self, host: &str, role: &str) -> Option<u32> {
        if role == "proxy" {
            let pid = process::read_lossy(&self.host_folder(host).join("proxy.pid")).trim().parse().ok()?;
            self.reap();
            return process::exists(pid).then_some(pid);
        }
        let mut processes = self.lock();
        let process = processes.get_mut(&key(host, role))?;
        process.is_running().then(|| process.pid())
    }

    /// `kill -9` for a role on a host, with its children.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, host: &str, role: &str) -> Result<()> {
        let pid = self.pid(host, role).with_context(|| format!("no {role} runs on {host}"))?;
        process::kill_tree(&[pid]);
        self.wait_gone(pid)
    }

    /// `kill -9` for a role's process on a host and for nothing else: what it started goes on.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_alone(&self, host: &str, role: &str) -> Result<()> {
        let pid = self.pid(host, role).with_context(|| format!("no {role} runs on {host}"))?;
        process::signal(pid, Signal::SIGKILL);
        self.wait_gone(pid)
    }

    fn wait_gone(&self, pid: u32) -> Result<()> {
        until_true(GONE, "a killed process to go", || {
            self.reap();
            !process::exists(pid)
        })
    }

    /// Freezes a role on a host with its children, or lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, host: &str, role: &str, frozen: bool) -> Result<()> {
        let pid = self.pid(host, role).with_context(|| format!("no {role} runs on {host}"))?;
        let sign = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        process::descendants(&[pid]).into_iter().for_each(|pid| process::signal(pid, sign));
        Ok(())
    }

    /// Sends a signal to a role on a host.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, host: &str, role: &str, signal: Signal) -> Result<()> {
        let pid = self.pid(host, role).with_context(|| format!("no {role} runs on {host}"))?;
        process::signal(pid, signal);
        Ok(())
    }

    /// SIGTERM for a role on a host, and the wait for its end.
    ///
    /// # Errors
    /// It does not run, or does not end within 20 s.
    pub fn terminate(&self, host: &str, role: &str) -> Result<()> {
        let mut processes = self.lock();
        let process = processes.get_mut(&key(host, role)).with_context(|| format!("no {role} on {host}"))?;
        process.terminate();
        process.wait(Duration::from_secs(20)).map(drop)
    }

    /// A host loses power.
    ///
    /// # Errors
    /// No such host.
    pub fn power_off(&self, host: &str) -> Result<()> {
        match &self.place {
            Place::Network(network) => network.power_off(host)?,
            Place::Loopback => {
                for role in ["broker", "proxy", "witness"] {
                    let _ = self.kill(host, role);
                }
            }
        }
        self.reap();
        Ok(())
    }

    /// A host without power gets it back: its link and its programs.
    ///
    /// # Errors
    /// A program does not start.
    pub fn power_on(&self, host: &str) -> Result<()> {
        if let Place::Network(network) = &self.place {
            network.replug(host)?;
        }
        if self.is_broker(host) {
            self.start_broker(host)?;
            return self.wait_listening(host, 5672);
        }
        if !BALANCERS.contains(&host) {
            bail!("there is no host {host}: A, B, C and D can be switched");
        }
        if host == WITNESS && self.was_started(host, "witness") {
            self.start_witness()?;
        }
        self.start_proxy(host)?;
        self.wait_listening(host, 5672)?;
        if self.place.has_vip() { self.start_agent(host) } else { Ok(()) }
    }

    /// The hosts that carry the floating address now.
    #[must_use]
    pub fn holders(&self) -> Vec<&'static str> {
        let Place::Network(network) = &self.place else { return Vec::new() };
        BALANCERS.into_iter().filter(|host| network.addresses(host).iter().any(|it| it == VIP)).collect()
    }

    /// Waits until exactly this host carries the floating address.
    ///
    /// # Errors
    /// The limit passed; the agents' logs are part of the message.
    pub fn wait_holder(&self, host: &str, limit: Duration) -> Result<()> {
        let what = format!("{VIP} on {host}");
        until_true(limit, &what, || self.holders() == [host]).map_err(|error| {
            let logs: Vec<String> = BALANCERS.iter().map(|it| self.log_end(it, "vip-agent")).collect();
            error.context(format!("it is on {:?}\n{}", self.holders(), logs.join("\n")))
        })
    }

    /// Waits until a TCP port of a host is open.
    ///
    /// # Errors
    /// It does not open within 60 s, or the program that should open it has ended.
    pub fn wait_listening(&self, host: &str, port: u16) -> Result<()> {
        let role = if self.is_broker(host) { "broker" } else { "proxy" };
        let mut ended = false;
        let what = format!("port {port} of {host}");
        until_true(Duration::from_secs(60), &what, || {
            ended = self.pid(host, role).is_none() && !self.child_runs(host, role);
            ended || self.place.listens(host, port)
        })
        .and_then(|()| if ended { bail!("{role} on {host} ended") } else { Ok(()) })
        .map_err(|error| error.context(self.log_end(host, role)))
    }

    /// The end of a role's log, with a heading.
    #[must_use]
    pub fn log_end(&self, host: &str, role: &str) -> String {
        let text = process::read_lossy(&self.log_path(host, role));
        format!("--- the log of {role} on {host} ends:\n{}", process::tail(&text, 30))
    }

    /// Where a role's log lies.
    #[must_use]
    pub fn log_path(&self, host: &str, role: &str) -> PathBuf {
        self.host_folder(host).join(format!("{role}.log"))
    }

    /// Collects the exit status of processes that ended, so that nobody takes them for alive.
    pub fn reap(&self) {
        for process in self.lock().values_mut() {
            process.is_running();
        }
    }

    /// Stops everything with SIGTERM, agents first, so that each leaves in order.
    pub fn stop(&self) {
        let mut processes = self.lock();
        for role in ["vip-agent", "proxy", "broker", "witness"] {
            let names: Vec<String> = processes.keys().filter(|it| it.ends_with(role)).cloned().collect();
            for name in &names {
                processes[name].terminate();
            }
            for name in &names {
                if let Some(mut process) = processes.remove(name) {
                    process.stop(Duration::from_secs(5));
                }
            }
        }
    }

    fn spawn(&self, host: &str, role: &str, command: Command) -> Result<()> {
        // One that was killed while it waited for its disk has its ports until it is gone, for which this waits.
        let before = self.lock().remove(&key(host, role));
        drop(before);
        let process = Process::spawn(&format!("{role} on {host}"), command, &self.log_path(host, role))?;
        self.lock().insert(key(host, role), process);
        Ok(())
    }

    fn was_started(&self, host: &str, role: &str) -> bool {
        self.lock().contains_key(&key(host, role))
    }

    fn child_runs(&self, host: &str, role: &str) -> bool {
        self.lock().get_mut(&key(host, role)).is_some_and(Process::is_running)
    }

    fn prepared(&self, host: &str) -> Result<PathBuf> {
        let folder = self.host_folder(host);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    fn write(&self, host: &str, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.host_folder(host).join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(host: &str, role: &str) -> String {
    format!("{host}/{role}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cast_is_read_from_a_list_of_roles() {
        let cast = Cast::theirs("broker, vip-d");
        assert_eq!((cast.broker, cast.proxy), (Maker::Theirs, Maker::Ours));
        assert_eq!((cast.agent_c, cast.agent_d), (Maker::Ours, Maker::Theirs));
        assert_eq!(Cast::theirs("vip").agent_c, Maker::Theirs);
        assert_eq!(Cast::theirs("").broker, Maker::Ours);
    }
}
