//! Our balancer and HAProxy on the loopback interface, each with the same configuration and ports of its own.

use anyhow::{Result, ensure};
use harness::node::free_port;
use harness::programs;
use harness::scratch::Scratch;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::wait::until_true;

const PATIENCE: Duration = Duration::from_secs(10);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Ours,
    Haproxy,
}

/// Both at work, and a server that echoes behind them.
#[derive(Debug)]
pub(crate) struct Beside {
    balancers: Vec<Balancer>,
    scratch: Scratch,
    /// Keeps the port that nobody listens on from others.
    _dead: OwnedFd,
}

#[derive(Debug)]
struct Balancer {
    which: Which,
    folder: PathBuf,
    ports: [u16; 2],
    _process: Process,
}

impl Beside {
    /// Starts both. In the configuration `@DIR` is a folder, `@PORT0` and `@PORT1` are ports to listen on, `@ECHO` is
    /// the port of a server that echoes, `@DEAD` and `@LOG` are ports nobody listens on.
    pub(crate) fn start(name: &str, config: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let echo = echo()?;
        let (held, dead) = dead_port()?;
        let mut balancers = Vec::new();
        for which in [Which::Ours, Which::Haproxy] {
            let folder = scratch.path().join(format!("{which:?}").to_lowercase());
            std::fs::create_dir_all(&folder)?;
            let ports = [free_port()?, free_port()?];
            let text = config
                .replace("@DIR", &folder.display().to_string())
                .replace("@PORT0", &ports[0].to_string())
                .replace("@PORT1", &ports[1].to_string())
                .replace("@ECHO", &echo.to_string())
                .replace("@DEAD", &dead.to_string())
                .replace("@LOG", &dead.to_string());
            std::fs::write(folder.join("haproxy.cfg"), text)?;
            balancers.push(Balancer { which, _process: run(which, &folder, ports)?, folder, ports });
        }
        Ok(Self { balancers, scratch, _dead: held })
    }

    fn balancer(&self, which: Which) -> &Balancer {
        self.balancers.iter().find(|balancer| balancer.which == which).expect("both were started")
    }

    /// The folder with its configuration and sockets.
    pub(crate) fn folder(&self, which: Which) -> &Path {
        &self.balancer(which).folder
    }

    /// One of its ports.
    pub(crate) fn port(&self, which: Which, at: usize) -> u16 {
        self.balancer(which).ports[at]
    }

    /// A connection to one of its ports.
    pub(crate) fn connect(&self, which: Which, at: usize) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port(which, at)))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Gives a line of commands to a stats socket in its folder and returns the answer.
    pub(crate) fn ask(&self, which: Which, socket: &str, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.folder(which).join(socket))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The test passed: its folder goes.
    pub(crate) fn passed(self) {
        let Self { balancers, scratch, _dead } = self;
        drop(balancers);
        scratch.passed();
    }
}

fn run(which: Which, folder: &Path, ports: [u16; 2]) -> Result<Process> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    match which {
        Which::Ours => command.arg(programs::folder().join("proxy")),
        Which::Haproxy => command.args(["haproxy", "-db"]),
    };
    command.arg("-f").arg(folder.join("haproxy.cfg"));
    let mut process = Process::spawn(&format!("{which:?}"), command, &folder.join("log"))?;
    let mut alive = true;
    until_true(PATIENCE, "the balancer to listen", || {
        alive = process.is_running();
        !alive || ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    })?;
    ensure!(alive, "{which:?} ended:\n{}", process.log());
    Ok(process)
}

/// A port that refuses connections as long as the descriptor lives: it has an owner who does not listen.
fn dead_port() -> Result<(OwnedFd, u16)> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0))?;
    let address: nix::sys::socket::SockaddrIn = nix::sys::socket::getsockname(socket.as_raw_fd())?;
    Ok((socket, address.port()))
}

/// A server that echoes for the life of the test.
fn echo() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    Ok(port)
}
