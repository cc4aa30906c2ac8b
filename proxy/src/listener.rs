//! Listening sockets of the process: opened before privileges are given up, kept over a reload, handed
//! to another frontend, closed only after the connections that already wait in them were taken.

use std::net::SocketAddr;
use std::sync::Arc;

use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use socket2::Socket;
use tokio::sync::watch;

use crate::config::Bind;
use crate::config::address::BindAddress;
use crate::frontend::{Entrance, Frontend};
use crate::handover::Exported;
use crate::listener_options::in_namespace;
use crate::local_socket::{self, SocketFile};

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
    /// In this network namespace.
    pub namespace: Option<String>,
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
            namespace: bind.namespace.clone(),
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

/// What a listener is to do. When the sending end is gone, the one who accepts ends at once; somebody else
/// may accept from this socket by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accept.
    Open,
    /// Take the connections that wait already, then end.
    Closing,
}

/// A listening socket and whom it works for. The one who accepts has a duplicate of the descriptor.
#[derive(Debug)]
pub struct Listener {
    /// What was asked for.
    pub key: Key,
    /// The socket.
    pub socket: Socket,
    /// Length of the accept queue.
    backlog: i32,
    /// The file of a unix socket.
    file: Option<SocketFile>,
    frontend: Arc<Frontend>,
    /// Which of its addresses this is.
    entrance: Arc<Entrance>,
    /// To the one who accepts; `None` while nobody does.
    assignment: Option<watch::Sender<Assignment>>,
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
        self.all.iter().filter_map(|listener| listener.socket.local_addr().ok()?.as_socket()).collect()
    }

    /// Duplicates for another process.
    #[must_use]
    pub fn export(&self) -> Vec<Exported> {
        let export = |listener: &Listener| {
            let socket = listener.socket.try_clone().ok()?;
            Some(Exported { socket, interface: listener.key.interface.clone() })
        };
        self.all.iter().filter_map(export).collect()
    }

    /// Takes out a socket that was opened for the same.
    pub fn take(&mut self, key: &Key) -> Option<Listener> {
        let at = self.all.iter().position(|listener| listener.key == *key)?;
        Some(self.all.remove(at))
    }
}

impl Listener {
    /// Opens the socket that `bind` asks for. With `shares` another process, or a listener of ours that is
    /// about to close, may have the port still, when it lets others have it too.
    ///
    /// # Errors
    /// Says why it cannot be had and which line asked for it.
    pub fn open(frontend: &Arc<Frontend>, bind: &Bind, shares: bool) -> Result<Self, Failure> {
        let options = ListenOptions {
            reuse_port: shares,
            interface: bind.interface.clone(),
            v6only: bind.v6only,
            backlog: Some(backlog(frontend, bind)),
            transparent: bind.transparent,
            freebind: false,
            nodelay: true,
        };
        let opened = match bind.address.tcp() {
            Some(address) => match &bind.namespace {
                Some(name) => in_namespace(name, || bind_tcp(address, &options).map_err(Failure::from))
                    .unwrap_or_else(|error| Err(Failure::new(Exit::CannotCreate, error.to_string()))),
                None => bind_tcp(address, &options).map_err(Failure::from),
            },
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
        let socket = Socket::from(socket);
        // From now on a successor may have the port too. Not before: a second proxy that is started by
        // mistake shall be told that the port is taken.
        if !shares && let Err(error) = socket.set_reuse_port(true) {
            tracing::debug!(%error, "cannot share a port");
        }
        Ok(Self::new(bind, socket, frontend.clone()))
    }

    /// A socket that is open already, for `bind`.
    #[must_use]
    pub fn new(bind: &Bind, socket: Socket, frontend: Arc<Frontend>) -> Self {
        let backlog = i32::try_from(backlog(&frontend, bind)).unwrap_or(i32::MAX);
        local_socket::prepare(&socket, bind, &frontend.config.settings);
        let entrance = frontend.entrance_of(bind);
        let file = SocketFile::of(&bind.address);
        Self { key: Key::of(bind), socket, backlog, file, frontend, entrance, assignment: None }
    }

    /// The file of a unix socket, to be taken away when nobody listens any more.
    #[must_use]
    pub fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Whom it works for at present.
    #[must_use]
    pub fn frontend(&self) -> &Arc<Frontend> {
        &self.frontend
    }

    /// From now on its connections belong to another frontend.
    pub fn assign(&mut self, frontend: Arc<Frontend>, bind: &Bind) {
        let backlog = i32::try_from(backlog(&frontend, bind)).unwrap_or(i32::MAX);
        if backlog != self.backlog && self.assignment.is_some() {
            // On a socket that listens already this only changes the length of the queue.
            let _ = self.socket.listen(backlog);
        }
        self.backlog = backlog;
        local_socket::prepare(&self.socket, bind, &frontend.config.settings);
        self.entrance = frontend.entrance_of(bind);
        self.frontend = frontend;
        if let Some(sender) = &self.assignment {
            sender.send_modify(|assignment| {
                assignment.frontend = self.frontend.clone();
                assignment.entrance = self.entrance.clone();
            });
        }
    }

    /// Whether somebody accepts from it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.assignment.is_some()
    }

    /// For one who accepts from now on; the one before ends.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn staff(&mut self) -> std::io::Result<(Socket, watch::Receiver<Assignment>)> {
        let socket = self.socket.try_clone()?;
        let entrance = self.entrance.clone();
        let assignment = Assignment { frontend: self.frontend.clone(), entrance, phase: Phase::Open };
        let (sender, receiver) = watch::channel(assignment);
        self.assignment = Some(sender);
        Ok((socket, receiver))
    }

    /// Nobody accepts from now on, and the kernel takes no connections; another process may listen on the
    /// same address meanwhile, as with HAProxy's SIGTTOU.
    pub fn pause(&mut self) {
        if self.assignment.take().is_some()
            && let Err(error) = self.socket.shutdown(std::net::Shutdown::Read)
        {
            tracing::warn!(%error, frontend = %self.frontend.name, "cannot pause a listener");
        }
    }

    /// After [`Listener::pause`]: the kernel takes connections again; staff it then. Says whether it had
    /// to be done.
    ///
    /// # Errors
    /// When another process listens on the address by now.
    pub fn resume(&mut self) -> std::io::Result<bool> {
        if self.assignment.is_some() {
            return Ok(false);
        }
        self.socket.listen(self.backlog)?;
        Ok(true)
    }

    /// Takes the connections that wait in it, then closes it.
    pub async fn close(self) {
        if let Some(sender) = self.assignment {
            sender.send_modify(|assignment| assignment.phase = Phase::Closing);
            sender.closed().await;
        }
    }
}

/// Length of the accept queue.
fn backlog(frontend: &Frontend, bind: &Bind) -> u32 {
    bind.backlog.unwrap_or_else(|| frontend.limit.clamp(128, 65_535))
}
