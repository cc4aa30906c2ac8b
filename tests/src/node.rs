//! One broker on the loopback interface: ours, or RabbitMQ in its role.

use crate::programs;
use anyhow::{Context, Result, bail, ensure};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::process::run;
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Maker, rabbitmq_environment};

/// A broker and its data folder.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Its AMQP port on 127.0.0.1.
    pub port: u16,
    /// The port of its HTTP API, where that was asked for.
    pub management_port: u16,
    folder: PathBuf,
    setup: Setup,
}

/// What a broker is started with beside its ports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// RabbitMQ starts its HTTP API only when asked, because that takes time; ours always has it.
    pub management: bool,
    /// The port for Prometheus, if it matters; ours only.
    pub metrics_port: u16,
    /// Lines for our configuration file.
    pub ours: &'static str,
    /// The same for RabbitMQ's.
    pub theirs: &'static str,
    /// RabbitMQ, whoever plays the broker: for tests that have both.
    pub original: bool,
}

impl Setup {
    /// With the HTTP API.
    #[must_use]
    pub fn managed() -> Self {
        Self { management: true, ..Self::default() }
    }

    /// RabbitMQ with its HTTP API, whoever plays the broker.
    #[must_use]
    pub fn original() -> Self {
        Self { original: true, ..Self::managed() }
    }

    fn maker(&self) -> Maker {
        if self.original { Maker::Theirs } else { Cast::from_environment().broker }
    }

    /// With these lines in the configuration file.
    #[must_use]
    pub fn configured(ours: &'static str, theirs: &'static str) -> Self {
        Self { ours, theirs, ..Self::default() }
    }
}

/// Where the ports of tests begin, and how many each process of tests has.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 1000;
/// How many processes of tests can have ports of their own: the kernel serves outgoing connections from 32768 on.
const WINDOWS: u16 = 12;

/// The first port of this process. A name that only one process can have stands for each window; it goes with the
/// process, and is as far known as the ports are: in the same network namespace.
fn window() -> u16 {
    static WINDOW: OnceLock<(u16, Option<UnixListener>)> = OnceLock::new();
    let (window, _) = WINDOW.get_or_init(|| {
        let taken = (0..WINDOWS).find_map(|window| {
            let name = format!("test-ports-{window}");
            let address = SocketAddr::from_abstract_name(name.as_bytes()).ok()?;
            Some((window, Some(UnixListener::bind_addr(&address).ok()?)))
        });
        taken.unwrap_or_else(|| (u16::try_from(std::process::id() % u32::from(WINDOWS)).unwrap_or(0), None))
    });
    FIRST_PORT + window * PORTS
}

/// A TCP port that is free now and that nobody else is given: not by the kernel, and not by other processes of tests.
///
/// # Errors
/// None is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = window();
    for _ in 0..PORTS {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port above {base}")
}

/// Whether somebody listens on a TCP port. Connecting to find out could meet itself.
fn listens(port: u16) -> bool {
    let found = run(Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]));
    found.is_ok_and(|text| !text.trim().is_empty())
}

/// The port of Erlang's port mapper, started once for all RabbitMQs of this process. RabbitMQ would start one
/// as a daemon, which stays; this one ends with us, because a thread that never ends owns it.
fn mapper(folder: &Path) -> Result<u16> {
    static PORT: OnceLock<Option<u16>> = OnceLock::new();
    let started = PORT.get_or_init(|| {
        let log = folder.join("epmd.log");
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            let start = || -> Result<(Process, u16)> {
                let port = free_port()?;
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--", "epmd", "-address", "127.0.0.1"]);
                command.args(["-port", &port.to_string()]);
                let process = Process::spawn("epmd", command, &log)?;
                until_true(Duration::from_secs(10), "epmd to listen", || listens(port))?;
                Ok((process, port))
            };
            let mapper = start();
            let _ = sender.send(mapper.as_ref().ok().map(|(_, port)| *port));
            loop {
                std::thread::park();
            }
        });
        told.recv().ok().flatten()
    });
    started.context("epmd does not start")
}

/// The command that starts a broker with its data in `folder`.
///
/// # Errors
/// Its configuration cannot be written, or what it needs cannot be started.
pub fn command(folder: &Path, port: u16, management_port: u16, setup: &Setup) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    match setup.maker() {
        Maker::Ours => {
            command.arg(programs::folder().join("broker")).arg("--data").arg(folder.join("data"));
            command.args(["--bind", "127.0.0.1", "--node", "rabbit@test", "--port", &port.to_string()]);
            command.args(["--management-port", &management_port.to_string()]);
            if setup.metrics_port != 0 {
                command.args(["--metrics-port", &setup.metrics_port.to_string()]);
            }
            if !setup.ours.is_empty() {
                let config = folder.join("broker.toml");
                std::fs::write(&config, setup.ours)?;
                command.arg("-c").arg(config);
            }
        }
        Maker::Theirs => {
            command.arg("/usr/lib/rabbitmq/bin/rabbitmq-server");
            rabbitmq_environment(&mut command, folder, &port.to_string());
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", port.to_string());
            command.env("RABBITMQ_DIST_PORT", free_port()?.to_string());
            command.env("ERL_EPMD_PORT", mapper(folder)?.to_string());
            // How often it looks for deliveries that nobody acknowledges; a minute is too long for a test.
            let arguments = "-kernel inet_dist_use_interface {127,0,0,1} -rabbit channel_tick_interval 500";
            command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments);
            // When it is killed while it starts it would write one into the folder of the tests.
            command.env("ERL_CRASH_DUMP_SECONDS", "0");
            // The shell script becomes the server instead of waiting for it, so that it ends with us.
            command.env("RUNNING_UNDER_SYSTEMD", "1");
            let mut config = format!("disk_free_limit.absolute = 1MB\n{}", setup.theirs);
            if setup.management {
                config +=
                    &format!("\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management_port}\n");
                std::fs::write(
                    folder.join("enabled_plugins"),
                    "[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n",
                )?;
            }
            std::fs::write(folder.join("rabbitmq.conf"), config)?;
        }
    }
    Ok(command)
}

impl Node {
    /// Starts a broker with its data in `folder` on a free port and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &Setup::default())
    }

    /// As [`Node::start`], set up in this way.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(folder: &Path, setup: &Setup) -> Result<Self> {
        Self::start_on(folder, free_port()?, free_port()?, *setup)
    }

    fn start_on(folder: &Path, port: u16, management_port: u16, setup: Setup) -> Result<Self> {
        let command = command(folder, port, management_port, &setup)?;
        let managed = setup.management || setup.maker() == Maker::Ours;
        let mut process = Process::spawn("broker", command, &folder.join("broker.log"))?;
        let mut alive = true;
        until_true(Duration::from_secs(60), "the broker to listen", || {
            alive = process.is_running();
            !alive || (listens(port) && (!managed || listens(management_port)))
        })?;
        ensure!(alive, "the broker ended:\n{}", process.log());
        Ok(Self { process, port, management_port, folder: folder.to_owned(), setup })
    }

    /// Kills it with -9 and starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn crash_and_restart(mut self) -> Result<Self> {
        if self.setup.maker() == Maker::Theirs {
            // RabbitMQ holds users and queues in memory for some seconds before they are on disk.
            std::thread::sleep(Duration::from_secs(5));
        }
        self.process.kill();
        Self::start_on(&self.folder, self.port, self.management_port, self.setup)
    }

    /// Stops it with SIGTERM and starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not stop within 30 s, or does not start.
    pub fn restart(mut self) -> Result<Self> {
        self.process.terminate();
        self.process.wait(Duration::from_secs(30))?;
        Self::start_on(&self.folder, self.port, self.management_port, self.setup)
    }

    /// Its AMQP address for the default user.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.port)
    }
}
