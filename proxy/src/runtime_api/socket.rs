//! The sockets themselves: opened before privileges are given up, unix sockets with their owner and rights.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::config::{BindAddress, Global, Level, StatsSocket, UnixSocket};
use crate::handover;

/// An opened stats socket.
#[derive(Debug)]
pub struct Socket {
    level: Level,
    /// `expose-fd listeners`.
    hands_out: bool,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// A stats socket known to the reactor.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) level: Level,
    pub(super) hands_out: bool,
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
pub fn bind(global: &Global) -> Result<Vec<Socket>, Failure> {
    global.stats_sockets.iter().map(|socket| open(socket, global)).collect()
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
        BindAddress::Unix(path) => {
            let rights = merged(&socket.bind.unix, &global.unix_bind);
            Listener::Unix(bind_unix(path, &rights).map_err(failed)?)
        }
        BindAddress::Abstract(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(failed)?;
            let listener = std::os::unix::net::UnixListener::bind_addr(&address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Listener::Unix(listener)
        }
        BindAddress::Fd(_) => return Err(failed(std::io::ErrorKind::Unsupported.into())),
    };
    Ok(Socket { level: socket.level, hands_out: socket.expose_fd, listener })
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

/// Opens a unix socket beside its place and moves it there: a process that is being replaced keeps its own socket
/// until then, and nobody ever finds one with the wrong rights.
fn bind_unix(path: &Path, rights: &UnixSocket) -> std::io::Result<std::os::unix::net::UnixListener> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    let listener = std::os::unix::net::UnixListener::bind(&beside)?;
    let finished = finish_unix(&listener, &beside, path, rights);
    if finished.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    finished.map(|()| listener)
}

fn finish_unix(
    listener: &std::os::unix::net::UnixListener,
    beside: &Path,
    path: &Path,
    rights: &UnixSocket,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let unknown = |name: &str| std::io::Error::other(format!("`{name}` does not exist on this host"));
    let uid = match (&rights.user, rights.uid) {
        (Some(name), None) => {
            Some(nix::unistd::User::from_name(name).ok().flatten().ok_or_else(|| unknown(name))?.uid.as_raw())
        }
        (_, uid) => uid,
    };
    let gid = match (&rights.group, rights.gid) {
        (Some(name), None) => Some(
            nix::unistd::Group::from_name(name).ok().flatten().ok_or_else(|| unknown(name))?.gid.as_raw(),
        ),
        (_, gid) => gid,
    };
    if uid.is_some() || gid.is_some() {
        chown(beside, uid, gid)?;
    }
    if let Some(mode) = rights.mode {
        std::fs::set_permissions(beside, std::fs::Permissions::from_mode(mode))?;
    }
    std::fs::rename(beside, path)
}

impl Socket {
    /// Registers it with the reactor of this thread.
    pub(super) fn register(self) -> std::io::Result<Registered> {
        let listener = match self.listener {
            Listener::Unix(listener) => Waiting::Unix(tokio::net::UnixListener::from_std(listener)?),
            Listener::Tcp(listener) => Waiting::Tcp(tokio::net::TcpListener::from_std(listener)?),
        };
        Ok(Registered { level: self.level, hands_out: self.hands_out, listener })
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
