//! The servers that are measured, each on its own loopback port with its own data.

use super::programs;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::process::run;
use xtask::lab::wait::until_true;
use xtask::stack::rabbitmq_environment;
use xtask::target;

/// What each broker does before it confirms a persistent message.
pub(super) const DURABILITY: &str = "Durability. All write to the same disk, and none syncs for transient messages. \
Ours: a confirm and a tx.commit-ok are sent after the log that holds the messages was synced (fdatasync), one sync \
for all messages that wait. RabbitMQ 3.10, classic queue: a confirm and a tx.commit-ok are sent after its queue \
index or message store was synced, which it also does for many messages at once. The relay only parses frames and \
forwards them, in one thread; it is no broker but the bound that one could reach. What a publisher with confirms \
sends it writes over an old journal and syncs (fdatasync) once for all that came in a turn before it confirms.";

/// What both balancers do.
pub(super) const RELAYING: &str = "Both relay between the client and the same echo server, on the same configuration \
file, without health checks and logs. \"Seconds for all\" is the time until every client of the storm had its answer. \
\"Copied\" is without `option splice-auto`, \"spliced\" with it. Memory is what 9,000 connections add to the resident \
set after a first one.";

const PORTS: [u16; 6] = [15_901, 15_902, 15_903, 15_904, 15_905, 15_908];
/// User, password and virtual host of every broker.
pub(super) const LOGIN: &[&str] = &["guest", "guest", "/"];
const ECHO_PORT: u16 = 15_906;
/// How far from a balancer's port that with splicing is.
const SPLICED: u16 = 20;
/// How far from it that with a server that comes and goes is.
const FLAPPING: u16 = 30;
const FLAPPING_PORT: u16 = 15_909;
const MAPPER_PORT: u16 = 15_907;

/// A server under load.
pub(super) struct Rival {
    pub(super) name: &'static str,
    pub(super) process: Process,
    pub(super) address: String,
    /// Another address, for some loads.
    pub(super) other: String,
    /// A third, of which one server comes and goes.
    pub(super) flapping: String,
    /// User, password and virtual host, for brokers.
    pub(super) login: &'static [&'static str],
    /// What it needs beside itself.
    _helper: Option<Process>,
}

/// A folder below `target` that goes in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Result<Self> {
        let path = target().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// A file for the output of a program.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.log"))
    }

    /// An empty folder in it.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn guarded(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command
}

/// Starts a program and waits until it listens.
pub(super) fn listening(name: &str, command: Command, port: u16, log: &Path) -> Result<Process> {
    let mut process = Process::spawn(name, command, log)?;
    let mut alive = true;
    until_true(Duration::from_secs(60), &format!("{name} to listen"), || {
        alive = process.is_running();
        let listens = run(Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]));
        !alive || listens.is_ok_and(|text| !text.trim().is_empty())
    })?;
    ensure!(alive, "{name} ended:\n{}", process.log());
    Ok(process)
}

fn start(
    name: &'static str,
    command: Command,
    port: u16,
    login: &'static [&'static str],
    log: &Path,
) -> Result<Rival> {
    let process = listening(name, command, port, log)?;
    let address = format!("127.0.0.1:{port}");
    let (other, flapping) = (address.clone(), address.clone());
    Ok(Rival { name, process, other, flapping, address, login, _helper: None })
}

pub(super) fn broker(scratch: &Scratch) -> Result<Rival> {
    scratch.folder("ours")?;
    broker_again(scratch)
}

/// Our broker by its HTTP API.
pub(super) fn broker_pages(scratch: &Scratch) -> Result<Rival> {
    Ok(Rival { address: format!("127.0.0.1:{}", PORTS[1]), ..broker(scratch)? })
}

/// Our broker on the data that it left.
pub(super) fn broker_again(scratch: &Scratch) -> Result<Rival> {
    let folder = scratch.0.join("ours");
    let mut command = guarded(programs().join("broker"));
    command.arg("--data").arg(folder.join("data")).args(["--bind", "127.0.0.1", "--node", "rabbit@bench"]);
    command.args(["--port", &PORTS[0].to_string(), "--management-port", &PORTS[1].to_string()]);
    start("ours", command, PORTS[0], LOGIN, &folder.join("server.log"))
}

pub(super) fn rabbitmq(scratch: &Scratch) -> Result<Rival> {
    let folder = scratch.folder("rabbitmq")?;
    // Erlang's port mapper would be started as a daemon and stay: here is one that goes with us.
    let mut mapper = guarded("epmd");
    mapper.args(["-address", "127.0.0.1", "-port", &MAPPER_PORT.to_string()]);
    let mapper = start("epmd", mapper, MAPPER_PORT, &[], &folder.join("epmd.log"))?;
    let mut command = guarded("/usr/lib/rabbitmq/bin/rabbitmq-server");
    rabbitmq_environment(&mut command, &folder, "bench");
    command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", PORTS[2].to_string());
    command.env("RABBITMQ_DIST_PORT", PORTS[3].to_string()).env("ERL_EPMD_PORT", MAPPER_PORT.to_string());
    let rabbitmq = start("RabbitMQ", command, PORTS[2], LOGIN, &folder.join("server.log"))?;
    Ok(Rival { _helper: Some(mapper.process), ..rabbitmq })
}

/// The bound: see the load generator's `relay`.
pub(super) fn relay(scratch: &Scratch) -> Result<Rival> {
    let folder = scratch.folder("relay")?;
    let mut command = guarded(programs().join("load"));
    command.args(["relay", &PORTS[5].to_string()]).arg(folder.join("journal"));
    start("relay", command, PORTS[5], LOGIN, &folder.join("server.log"))
}

/// The pipes are few because HAProxy counts two descriptors for each, and would take as many as connections.
fn balancer_config(scratch: &Scratch, name: &str, port: u16) -> Result<PathBuf> {
    let text = format!(
        "global\n    maxconn 9500\n    maxpipes 64\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
         timeout client 1m\n    timeout server 1m\n    backlog 4096\nlisten bench\n    \
         bind 127.0.0.1:{port}\n    no option splice-auto\n    server echo 127.0.0.1:{ECHO_PORT}\n\
         listen spliced\n    bind 127.0.0.1:{}\n    option splice-auto\n    \
         server echo 127.0.0.1:{ECHO_PORT}\nlisten flapping\n    bind 127.0.0.1:{}\n    \
         option redispatch 1\n    server flapping 127.0.0.1:{FLAPPING_PORT}\n    \
         server echo 127.0.0.1:{ECHO_PORT}\n",
        port + SPLICED,
        port + FLAPPING
    );
    let path = scratch.folder(name)?.join("haproxy.cfg");
    std::fs::write(&path, text)?;
    Ok(path)
}

pub(super) fn proxy(scratch: &Scratch) -> Result<Rival> {
    let config = balancer_config(scratch, "ours", PORTS[0])?;
    let mut command = guarded(programs().join("proxy"));
    command.arg("-f").arg(&config);
    balancer("ours", command, PORTS[0], &config)
}

fn balancer(name: &'static str, command: Command, port: u16, config: &Path) -> Result<Rival> {
    let rival = start(name, command, port, &[], &config.with_extension("log"))?;
    let address = |offset: u16| format!("127.0.0.1:{}", port + offset);
    Ok(Rival { other: address(SPLICED), flapping: address(FLAPPING), ..rival })
}

pub(super) fn haproxy(scratch: &Scratch) -> Result<Rival> {
    let config = balancer_config(scratch, "haproxy", PORTS[4])?;
    let mut command = guarded("haproxy");
    command.args(["-db", "-f"]).arg(&config);
    balancer("HAProxy", command, PORTS[4], &config)
}

/// The echo server behind both balancers.
pub(super) fn echo(scratch: &Scratch) -> Result<Rival> {
    echo_at("echo", ECHO_PORT, scratch)
}

/// The one that comes and goes.
pub(super) fn flapping(scratch: &Scratch) -> Result<Rival> {
    echo_at("flapping", FLAPPING_PORT, scratch)
}

fn echo_at(name: &'static str, port: u16, scratch: &Scratch) -> Result<Rival> {
    let mut command = guarded(programs().join("load"));
    command.args(["echo", &port.to_string()]);
    start(name, command, port, &[], &scratch.folder(name)?.join("server.log"))
}
