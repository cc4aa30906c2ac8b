//! Listening sockets that are not opened by address and port: unix sockets and those a parent has opened
//! (`fd@`); and what all listening sockets hand on to the connections they accept.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{SockRef, Socket};

use crate::config::bind::UnixSocket;
use crate::config::{Bind, BindAddress, Settings};
use crate::listener_options::{self, DeferAccept, FastOpen};
use crate::outgoing::set_keepalive;

/// Opens a socket that has no port. The type says "TCP" because a listening socket of any kind is kept in it;
/// only `accept` is used.
///
/// # Errors
/// Those of the system, in its words.
pub fn open(address: &BindAddress, unix: &UnixSocket, backlog: u32) -> io::Result<TcpListener> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    match address {
        BindAddress::Tcp(_) => Err(io::ErrorKind::InvalidInput.into()),
        BindAddress::Unix(path) => open_path(path, unix, backlog),
        BindAddress::Abstract(name) => {
            let socket = unix_socket()?;
            rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            rustix::net::listen(&socket, backlog)?;
            Ok(socket.into())
        }
        BindAddress::Fd(number) => inherited(*number),
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Binds under another name first and moves it to its place, so that clients find the old socket or the new
/// one, never none; as HAProxy does.
fn open_path(path: &Path, unix: &UnixSocket, backlog: i32) -> io::Result<TcpListener> {
    let mut other = path.as_os_str().to_owned();
    other.push(format!(".{}.tmp", std::process::id()));
    let other = Path::new(&other);
    // Left by a process of the same number; usually there is none.
    let _ = std::fs::remove_file(other);
    let socket = unix_socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(other)?)?;
    let placed = (|| {
        if let Some(mode) = unix.mode {
            std::fs::set_permissions(other, std::fs::Permissions::from_mode(mode))?;
        }
        let user = unix.user.as_deref().map(user_number).transpose()?.or(unix.uid);
        let group = unix.group.as_deref().map(group_number).transpose()?.or(unix.gid);
        if user.is_some() || group.is_some() {
            std::os::unix::fs::chown(other, user, group)?;
        }
        rustix::net::listen(&socket, backlog)?;
        std::fs::rename(other, path)
    })();
    if let Err(error) = placed {
        // The first error is the one that says something.
        let _ = std::fs::remove_file(other);
        return Err(error);
    }
    Ok(socket.into())
}

fn user_number(name: &str) -> io::Result<u32> {
    let user = nix::unistd::User::from_name(name)?;
    user.map(|user| user.uid.as_raw()).ok_or_else(|| io::Error::other(format!("no user `{name}`")))
}

fn group_number(name: &str) -> io::Result<u32> {
    let group = nix::unistd::Group::from_name(name)?;
    group.map(|group| group.gid.as_raw()).ok_or_else(|| io::Error::other(format!("no group `{name}`")))
}

/// A duplicate of a listening socket that was open at the start.
fn inherited(number: i32) -> io::Result<TcpListener> {
    // A number is no proof that a file is open; the kernel says, and gives a duplicate.
    let here = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(here, number, PidfdGetfdFlags::empty())
        .map_err(|error| io::Error::other(format!("file descriptor {number}: {error}")))?;
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other(format!("file descriptor {number} does not listen")));
    }
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The file of a unix socket of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number: somebody else may have put another one in its place since.
    identity: (u64, u64),
}

impl SocketFile {
    /// The file of a socket that was just opened.
    #[must_use]
    pub fn of(address: &BindAddress) -> Option<Self> {
        let BindAddress::Unix(path) = address else { return None };
        Some(Self { identity: identity(path)?, path: path.clone() })
    }

    /// Takes it away, if it is still ours.
    pub fn remove(&self) {
        if identity(&self.path) == Some(self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a socket's file stays");
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// What a listening socket hands on to the connections it accepts (tcp(7)): each is set once, not once for each
/// connection.
pub fn prepare(socket: &Socket, bind: &Bind, settings: &Settings) {
    if bind.address.tcp().is_none() && !matches!(bind.address, BindAddress::Fd(_)) {
        return;
    }
    let reference = SockRef::from(socket);
    if bind.defer_accept {
        // HAProxy: one second, then the kernel takes it all the same.
        listener_options::set(socket, DeferAccept, 1, "defer-accept");
    }
    if bind.tfo {
        let waiting = bind.backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(1024);
        listener_options::set(socket, FastOpen, waiting, "tfo");
    }
    // None is needed for correctness.
    let _ = reference.set_tcp_nodelay(true);
    if settings.client_keepalive {
        set_keepalive(&reference, settings.client_keepalive_times);
    }
    if let Some(limit) = bind.tcp_user_timeout {
        let _ = sockopt::set_tcp_user_timeout(socket, u32::try_from(limit.as_millis()).unwrap_or(u32::MAX));
    }
    if let Some(mss) = bind.mss.and_then(|mss| u32::try_from(mss).ok()) {
        let _ = reference.set_tcp_mss(mss);
    }
}
