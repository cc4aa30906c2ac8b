//! Listening sockets of the process: opened before privileges are given up, kept over a reload, handed
//! to another frontend, closed only after the connections that already wait in them were taken.

use std::net::SocketAddr;
use std::sync::Arc;

use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Bind;
use crate::config::address::BindAddress;
use crate::frontend::{Entrance, Frontend};
use crate::local_socket;

/// Connections taken out of the accept queue of a listener that closes, at most; more than the longest
/// queue Linux keeps.
const MAX_LEFT: usize = 65_536;

/// What makes two `bind` lines ask for the same socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The address as configured.
    pub address: BindAddress,
    /// Only through this interface.
    pub interface: Option<String>,
    /// IPv6 only.
    pub v6only: Option<bool>,
    /// Also addresses that are not ours.
    pub transparent: bool,
}

impl Key {
    /// What this `bind` asks for.
    #[must_use]
    pub fn of(bind: &Bind) -> Self {
        Self {
            address: bind.address.clone(),
            interface: bind.interface.clone(),
            v6only: bind.v6only,
            transparent: bind.transparent,
        }
    }
}

/// Whom a listener works for at present and what it is to do. The one who accepts looks again when told
/// that it changed.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// New connections belong to this one.
    pub frontend: Arc<Frontend>,
    /// What it says about this address.
    pub entrance: Arc<Entrance>,
    /// What to do.
    pub phase: Phase,
}

/// What a listener is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accept.
    Open,
    /// Do not accept for now.
    Paused,
    /// Take the connections that wait already, then end.
    Closing,
    /// End at once; somebody else accepts from this socket now.
    Leaving,
}

/// A listening socket and whom it works for. The one who accepts has a duplicate of the descriptor.
#[derive(Debug)]
pub struct Listener {
    /// What was asked for.
    pub key: Key,
    /// The socket.
    pub socket: std::net::TcpListener,
    assignment: watch::Sender<Assignment>,
}

/// All listening sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    /// In the order of the configuration.
    pub all: Vec<Listener>,
}

impl Listeners {
    /// The addresses listened on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }
}

impl Listener {
    /// Opens the socket that `bind` asks for.
    ///
    /// # Errors
    /// Says why it cannot be had and which line asked for it.
    pub fn open(frontend: &Arc<Frontend>, bind: &Bind) -> Result<Self, Failure> {
        let options = ListenOptions {
            reuse_port: false,
            interface: bind.interface.clone(),
            v6only: bind.v6only,
            backlog: Some(backlog(frontend, bind)),
            transparent: bind.transparent,
            freebind: false,
            nodelay: true,
        };
        let opened = match bind.address.tcp() {
            Some(address) => bind_tcp(address, &options).map_err(Failure::from),
            None => local_socket::open(&bind.address, &bind.unix, backlog(frontend, bind)).map_err(|error| {
                let message = format!("cannot listen on {}: {error}", bind.address);
                Failure::new(Exit::CannotCreate, message)
            }),
        };
        let socket = opened.map_err(|failure| {
            if bind.place.line > 0 {
                failure.detail("asked by", format!("{} line {}", bind.place.file, bind.place.line))
            } else {
                failure.detail("asked by", format!("section {}", frontend.name))
            }
        })?;
        local_socket::prepare(&socket, bind, &frontend.config.settings);
        let listener = Self::new(Key::of(bind), socket, frontend.clone());
        let entrance = frontend.entrance_of(bind);
        listener.assignment.send_modify(|assignment| assignment.entrance = entrance);
        Ok(listener)
    }

    /// A socket that is open already.
    #[must_use]
    pub fn new(key: Key, socket: std::net::TcpListener, frontend: Arc<Frontend>) -> Self {
        let entrance = frontend.entrance(&key);
        let assignment = Assignment { frontend, entrance, phase: Phase::Open };
        Self { key, socket, assignment: watch::Sender::new(assignment) }
    }

    /// Whom it works for at present.
    #[must_use]
    pub fn frontend(&self) -> Arc<Frontend> {
        self.assignment.borrow().frontend.clone()
    }

    /// From now on its connections belong to another frontend.
    pub fn assign(&self, frontend: Arc<Frontend>) {
        let entrance = frontend.entrance(&self.key);
        self.assignment.send_modify(|assignment| {
            assignment.frontend = frontend;
            assignment.entrance = entrance;
        });
    }

    /// What it is to do at present.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.assignment.borrow().phase
    }

    /// Tells the one who accepts what to do.
    pub fn set_phase(&self, phase: Phase) {
        self.assignment.send_modify(|assignment| assignment.phase = phase);
    }

    /// For the one who accepts.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Assignment> {
        self.assignment.subscribe()
    }

    /// Waits until nobody accepts from it.
    pub async fn left(&self) {
        self.assignment.closed().await;
    }
}

/// Length of the accept queue.
fn backlog(frontend: &Frontend, bind: &Bind) -> u32 {
    bind.backlog.unwrap_or_else(|| frontend.limit.clamp(128, 65_535))
}

/// The connections that wait in a socket that is about to be closed.
pub fn take_waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(socket) = listener.into_std() else { return Vec::new() };
    std::iter::from_fn(|| socket.accept().ok())
        .take(MAX_LEFT)
        .filter_map(|(stream, client)| {
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, client))
        })
        .collect()
}
