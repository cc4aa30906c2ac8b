//! One broker on the loopback interface.

use crate::programs;
use anyhow::{Result, bail, ensure};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
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
    folder: PathBuf,
}

/// A TCP port that is free now and that the kernel gives to nobody else: below the range from which it
/// serves outgoing connections.
///
/// # Errors
/// None is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    for _ in 0..1000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
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

/// The command that starts a broker with its data in `folder`.
#[must_use]
pub fn command(folder: &Path, port: u16, management_port: u16) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    match Cast::from_environment().broker {
        Maker::Ours => {
            command.arg(programs::folder().join("broker")).arg("--data").arg(folder.join("data"));
            command.args(["--bind", "127.0.0.1", "--node", "rabbit@test", "--port", &port.to_string()]);
            command.args(["--management-port", &management_port.to_string()]);
        }
        Maker::Theirs => {
            command.arg("/usr/lib/rabbitmq/bin/rabbitmq-server");
            rabbitmq_environment(&mut command, folder, &port.to_string());
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", port.to_string());
            command.env("RABBITMQ_DIST_PORT", management_port.to_string());
        }
    }
    command
}

impl Node {
    /// Starts a broker with its data in `folder` on a free port and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_on(folder, free_port()?)
    }

    /// As [`Node::start`], on this port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on(folder: &Path, port: u16) -> Result<Self> {
        let command = command(folder, port, free_port()?);
        let mut process = Process::spawn("broker", command, &folder.join("broker.log"))?;
        let mut alive = true;
        until_true(Duration::from_secs(60), "the broker to listen", || {
            alive = process.is_running();
            !alive || listens(port)
        })?;
        ensure!(alive, "the broker ended:\n{}", process.log());
        Ok(Self { process, port, folder: folder.to_owned() })
    }

    /// Kills it with -9 and starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn crash_and_restart(mut self) -> Result<Self> {
        if Cast::from_environment().broker == Maker::Theirs {
            // RabbitMQ holds users and queues in memory for some seconds before they are on disk.
            std::thread::sleep(Duration::from_secs(5));
        }
        self.process.kill();
        Self::start_on(&self.folder, self.port)
    }

    /// Stops it with SIGTERM and starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not stop within 30 s, or does not start.
    pub fn restart(mut self) -> Result<Self> {
        self.process.terminate();
        self.process.wait(Duration::from_secs(30))?;
        Self::start_on(&self.folder, self.port)
    }

    /// Its AMQP address for the default user.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.port)
    }
}
