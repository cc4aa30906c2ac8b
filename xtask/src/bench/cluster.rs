//! `cargo xtask bench cluster`: three nodes as processes of this machine, ours beside RabbitMQ's.

use super::loads::{AWAY, FROZEN, KILLED, Load, MIRRORED, REMOTE, TAKEOVER};
use super::report::Report;
use super::rivals::{LOGIN, Scratch, guarded, listening};
use super::{build, programs};
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xtask::install;
use xtask::lab::Process;
use xtask::lab::process::run as call;
use xtask::lab::wait::until_true;
use xtask::stack::rabbitmq_environment;

const REMARK: &str = "Three nodes on one machine and one disk, so each message is written and synced three times there. \
Processor time is that of all three. Mirrored: the policy `{\"ha-mode\":\"all\"}`, and a queue with `x-queue-type: quorum` \
beside it; publisher and consumer are on the node that leads. Another node: a queue that is on one node only, publisher and \
consumer are on another one. Killed and frozen: from the signal until the first message that was published after it is \
confirmed, to a publisher on a node that goes on. Many queues: until one that was published after it is confirmed in each \
of them. Away: SIGSTOP for the time, then from SIGCONT until the queue has all mirrors in sync; octets are those that TCP \
brought to that node from the SIGSTOP on, by those of the bodies that were published.";

/// The first of each node's ports, ours and theirs: AMQP, nodes, HTTP.
const OURS: u16 = 15_920;
const THEIRS: u16 = 15_950;
const MAPPER: u16 = 15_980;
const NODES: usize = 3;
const COOKIE: &str = "BENCHBENCHBENCHBENCH";
const LIMIT: Duration = Duration::from_secs(120);

/// The columns.
const SIDES: &[&str] = &["ours", "RabbitMQ, ha-mode all", "RabbitMQ, quorum queue"];

/// Runs the loads.
pub(super) fn run(rounds: Option<usize>) -> Result<Report> {
    install::packages(install::RABBITMQ)?;
    build()?;
    let scratch = Scratch::new("bench-cluster")?;
    let mut report = Report::new("cluster", SIDES, REMARK);
    for load in [&MIRRORED, &REMOTE, &KILLED, &FROZEN, &TAKEOVER, &AWAY] {
        println!("{}", load.heading);
        let mut results = vec![Vec::new(); SIDES.len()];
        for (side, lines) in results.iter_mut().enumerate() {
            for _ in 0..load.rounds[side].min(rounds.unwrap_or(usize::MAX)) {
                // Anew each time: a strike leaves a cluster that has to heal.
                let trio = if side == 0 { Trio::ours(&scratch)? } else { Trio::theirs(&scratch)? };
                let line = trio.put(load, side == 2)?;
                println!("  {:22} {line}", SIDES[side]);
                lines.push(line);
            }
        }
        report.add(load, &results);
    }
    println!("\n{}", report.text());
    Ok(report)
}

/// Three nodes of one cluster.
struct Trio {
    nodes: Vec<Process>,
    folder: PathBuf,
    first_port: u16,
    ours: bool,
    _mapper: Option<Process>,
}

impl Trio {
    fn ours(scratch: &Scratch) -> Result<Self> {
        let mut trio = Self::new(scratch.folder("ours")?, OURS, true, None);
        trio.start()?;
        Ok(trio)
    }

    fn theirs(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.folder("rabbitmq")?;
        // Erlang's port mapper would be started as a daemon and stay: here is one that goes with us.
        let mut mapper = guarded("epmd");
        mapper.args(["-address", "127.0.0.1", "-port", &MAPPER.to_string()]);
        let mapper = listening("epmd", mapper, MAPPER, &folder.join("epmd.log"))?;
        let mut trio = Self::new(folder, THEIRS, false, Some(mapper));
        trio.start()?;
        Ok(trio)
    }

    fn new(folder: PathBuf, first_port: u16, ours: bool, mapper: Option<Process>) -> Self {
        Self { nodes: Vec::new(), folder, first_port, ours, _mapper: mapper }
    }

    /// Starts and joins them.
    fn start(&mut self) -> Result<()> {
        for index in 0..NODES {
            let home = self.home(index);
            std::fs::create_dir_all(&home)?;
            let cookie = home.join(".erlang.cookie");
            std::fs::write(&cookie, COOKIE)?;
            std::fs::set_permissions(&cookie, PermissionsExt::from_mode(0o400))?;
            std::fs::write(home.join("enabled_plugins"), "[].\n")?;
            let mut command = self.command(index, if self.ours { "broker" } else { "rabbitmq-server" });
            if self.ours {
                let ports = [self.port(index, 0).to_string(), self.port(index, 2).to_string()];
                command.arg("--data").arg(home.join("data")).args(["--bind", "127.0.0.1"]);
                command.args(["--port", &ports[0], "--management-port", &ports[1]]);
            }
            let log = home.join("server.log");
            self.nodes.push(listening(&self.name(index), command, self.port(index, 0), &log)?);
            self.ctl(index, &["await_startup"])?;
        }
        // Peers of ours are asked at their port; RabbitMQ's mapper knows it.
        let first = if self.ours { format!("{}:{}", self.name(0), self.port(0, 1)) } else { self.name(0) };
        for index in 1..NODES {
            for words in [&["stop_app"][..], &["join_cluster", &first], &["start_app"]] {
                self.ctl(index, words)?;
            }
        }
        until_true(LIMIT, "three nodes", || {
            (0..NODES).all(|index| self.ctl(index, &["-q", "await_online_nodes", "3", "-t", "1"]).is_ok())
        })
    }

    /// Puts a load on it.
    fn put(&self, load: &Load, quorum: bool) -> Result<String> {
        if !quorum && load.heading != REMOTE.heading {
            let definition = "{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}";
            self.ctl(0, &["set_policy", "all", "^", definition])?;
        }
        let address = |index: usize| format!("127.0.0.1:{}", self.port(index, 0));
        let known = match () {
            () if load.mode != MIRRORED.mode => NODES,
            () if load.heading == REMOTE.heading => 2,
            () => 1,
        };
        let addresses: Vec<String> = (0..known).map(address).collect();
        let pids: Vec<String> = self.nodes.iter().map(|node| node.pid().to_string()).collect();
        let mut command = Command::new(programs().join("load"));
        command.args([load.mode, &addresses.join(","), &pids.join(",")]).args(LOGIN).args(load.arguments);
        if quorum {
            command.arg("quorum");
        } else if load.mode == KILLED.mode {
            command.arg("classic");
        } else if load.mode == AWAY.mode {
            command.arg(self.port(0, 2).to_string());
        }
        Ok(call(&mut command)?.trim().to_owned())
    }

    fn home(&self, index: usize) -> PathBuf {
        self.folder.join(index.to_string())
    }

    fn name(&self, index: usize) -> String {
        format!("bench{index}@localhost")
    }

    fn port(&self, index: usize, which: u16) -> u16 {
        self.first_port + u16::try_from(index).unwrap_or(0) * 3 + which
    }

    /// Runs a line of rabbitmqctl on a node.
    fn ctl(&self, index: usize, words: &[&str]) -> Result<String> {
        let mut command = self.command(index, if self.ours { "broker" } else { "rabbitmqctl" });
        if self.ours {
            command.arg("ctl").arg("--data").arg(self.home(index).join("data"));
        }
        call(command.args(words)).with_context(|| format!("the nodes' logs are in {}", self.folder.display()))
    }

    fn command(&self, index: usize, program: &str) -> Command {
        let home = self.home(index);
        let folder = if self.ours { programs() } else { Path::new("/usr/lib/rabbitmq/bin").into() };
        let mut command = guarded(folder.join(program));
        if !self.ours {
            rabbitmq_environment(&mut command, &home, "");
            command.env("ERL_EPMD_PORT", MAPPER.to_string()).env("RUNNING_UNDER_SYSTEMD", "1");
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
            command.env("RABBITMQ_NODE_PORT", self.port(index, 0).to_string());
        }
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        command.env("RABBITMQ_NODENAME", self.name(index));
        command.env("RABBITMQ_DIST_PORT", self.port(index, 1).to_string());
        command
    }
}
