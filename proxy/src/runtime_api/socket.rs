//! The sockets themselves: opened before privileges are given up, unix sockets with their owner and rights.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::config::{BindAddress, Global, StatsSocket, UnixSocket};
use crate::handover;
use crate::local_socket::{self, SocketFile};

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 128;

/// An opened stats socket.
#[derive(Debug)]
pub(super) struct Socket {
    listener: Listener,
    file: Option<SocketFile>,
}

/// A socket that a configuration wants, opened where there was none yet.
#[derive(Debug)]
pub struct Wanted {
    pub(super) config: StatsSocket,
    pub(super) opened: Option<Socket>,
}

/// Whether two lines mean the same socket; what its users may do can change while it is open.
pub(super) fn is_same(a: &StatsSocket, b: &StatsSocket) -> bool {
    (&a.bind.address, &a.bind.interface, &a.bind.unix) == (&b.bind.address, &b.bind.interface, &b.bind.unix)
}

#[derive(Debug)]
enum Listener {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// A stats socket known to the reactor.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) file: Option<SocketFile>,
    listener: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

/// Opens all stats sockets.
///
/// # Errors
/// Says which one cannot be had and why.
pub fn bind(global: &Global) -> Result<Vec<Wanted>, Failure> {
    bind_new(global, &[])
}

/// Opens those that are not among the `present` ones.
///
/// # Errors
/// Says which one cannot be had and why.
pub fn bind_new(global: &Global, present: &[StatsSocket]) -> Result<Vec<Wanted>, Failure> {
    let wanted = |config: &StatsSocket| {
        let is_open = present.iter().any(|other| is_same(other, config));
        let opened = if is_open { None } else { Some(open(config, global)?) };
        Ok(Wanted { config: config.clone(), opened })
    };
    global.stats_sockets.iter().map(wanted).collect()
}

fn open(socket: &StatsSocket, global: &Global) -> Result<Socket, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Exit::CannotCreate,
            format!("cannot open the stats socket {}: {error}", socket.bind.address),
        )
    };
    let listener = match &socket.bind.address {
        BindAddress::Tcp(address) => {
            let options =
                ListenOptions { interface: socket.bind.interface.clone(), ..ListenOptions::default() };
            Listener::Tcp(bind_tcp(*address, &options)?)
        }
        address => {
            let rights = merged(&socket.bind.unix, &global.unix_bind);
            let listener = local_socket::open(address, &rights, BACKLOG).map_err(failed)?;
            Listener::Unix(OwnedFd::from(listener).into())
        }
    };
    Ok(Socket { listener, file: SocketFile::of(&socket.bind.address) })
}

/// What the line says, else what `unix-bind` says.
fn merged(own: &UnixSocket, default: &UnixSocket) -> UnixSocket {
    UnixSocket {
        mode: own.mode.or(default.mode),
        user: own.user.clone().or_else(|| default.user.clone()),
        uid: own.uid.or(default.uid),
        group: own.group.clone().or_else(|| default.group.clone()),
        gid: own.gid.or(default.gid),
    }
}

impl Socket {
    /// Registers it with the reactor of this thread.
    pub(super) fn register(self) -> std::io::Result<Registered> {
        let listener = match self.listener {
            Listener::Unix(listener) => Waiting::Unix(tokio::net::UnixListener::from_std(listener)?),
            Listener::Tcp(listener) => Waiting::Tcp(tokio::net::TcpListener::from_std(listener)?),
        };
        Ok(Registered { file: self.file, listener })
    }
}

impl Registered {
    pub(super) async fn accept(&self) -> std::io::Result<Stream> {
        Ok(match &self.listener {
            Waiting::Unix(listener) => Stream::Unix(listener.accept().await?.0),
            Waiting::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
        })
    }
}

impl Stream {
    /// Whether the first thing asked is to hand out the listening sockets, as a process that takes over does
    /// (`haproxy -x`). Then the stream is given back for that, with the question read; nothing else is read here.
    pub(super) async fn asks_for_sockets(self) -> Result<tokio::net::UnixStream, Self> {
        let Self::Unix(stream) = self else { return Err(self) };
        let question = format!("{}\n", handover::COMMAND);
        let mut first = vec![0; question.len()];
        let peek = || Ok(rustix::net::recv(&stream, &mut first[..], RecvFlags::PEEK)?.0);
        let length = stream.async_io(Interest::READABLE, peek).await;
        let is_asked = length.is_ok_and(|length| length == question.len())
            && first == question.as_bytes()
            && stream.try_read(&mut first).is_ok();
        if is_asked { Ok(stream) } else { Err(Self::Unix(stream)) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
