//! Sockets towards servers: family, our own address, keep-alive, TLS.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use socket2::{SockRef, TcpKeepalive};
use tokio_rustls::TlsConnector;

use crate::config::address::Host;
use crate::config::server::{Source, UseSource};
use crate::config::settings::Keepalive;
use crate::config::{ServerOptions, Settings};
use crate::connect::Client;
use crate::server::Server;
use crate::side::Side;
use crate::tls;

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Target {
    /// By address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(SocketAddrUnix),
}

impl Target {
    /// Whether it is TCP.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Begins to connect a socket to it. Says whether the connection stands already.
    ///
    /// # Errors
    /// The server or the network says no.
    pub fn connect(&self, socket: &OwnedFd) -> io::Result<bool> {
        let begun = match self {
            Self::Tcp(address) => rustix::net::connect(socket, address),
            Self::Unix(address) => rustix::net::connect(socket, address),
        };
        match begun {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::INPROGRESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a server is, for a client.
///
/// # Errors
/// Its address is not known.
pub fn target(server: &Server, client: &Client) -> io::Result<Target> {
    let unknown = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    match &server.config().address.host {
        Host::Unix(path) => return Ok(Target::Unix(SocketAddrUnix::new(path.as_path())?)),
        Host::Abstract(name) => {
            return Ok(Target::Unix(SocketAddrUnix::new_abstract_name(name.as_bytes())?));
        }
        _ => {}
    }
    let port = || client.local.map_or(0, |address| address.port());
    server.connect_address(port).map(Target::Tcp).ok_or_else(unknown)
}

/// A non-blocking socket for it.
///
/// # Errors
/// The system refuses.
pub fn socket(
    target: &Target,
    settings: &Settings,
    options: &ServerOptions,
    client: &Client,
) -> io::Result<OwnedFd> {
    let family = match target {
        Target::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Target::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Target::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let Target::Tcp(address) = target else { return Ok(socket) };
    if let Some(source) = options.source.as_ref().or(settings.source.as_ref()) {
        bind_source(&socket, source, *address, client)?;
    }
    if settings.server_keepalive {
        set_keepalive(&SockRef::from(&socket), settings.server_keepalive_times);
    }
    if let Some(limit) = options.tcp_user_timeout {
        // A dead connection only lives longer without it.
        let _ = sockopt::set_tcp_user_timeout(&socket, u32::try_from(limit.as_millis()).unwrap_or(u32::MAX));
    }
    Ok(socket)
}

/// Bytes follow as soon as the connection stands: the packet that takes them ends the handshake as well, and
/// one that only does that is saved.
pub fn hold_back_ack(socket: &OwnedFd) {
    // It only saves a packet.
    let _ = sockopt::set_tcp_quickack(socket, false);
}

/// Turns TCP keep-alive on.
pub fn set_keepalive(socket: &SockRef<'_>, times: Keepalive) {
    let mut keepalive = TcpKeepalive::new();
    let mut any = false;
    if let Some(idle) = times.idle {
        (keepalive, any) = (keepalive.with_time(idle.max(Duration::from_secs(1))), true);
    }
    if let Some(interval) = times.interval {
        (keepalive, any) = (keepalive.with_interval(interval.max(Duration::from_secs(1))), true);
    }
    if let Some(count) = times.count {
        (keepalive, any) = (keepalive.with_retries(count), true);
    }
    // Not needed for correctness.
    let _ = if any { socket.set_tcp_keepalive(&keepalive) } else { socket.set_keepalive(true) };
}

/// Our own address, or the one the server is to see.
fn bind_source(socket: &OwnedFd, source: &Source, target: SocketAddr, client: &Client) -> io::Result<()> {
    let reference = SockRef::from(socket);
    if let Some(interface) = &source.interface {
        reference.bind_device(Some(interface.as_bytes()))?;
    }
    let shown = match source.usesrc {
        None => source.address,
        Some(UseSource::Client) => client.source,
        Some(UseSource::ClientIp) => SocketAddr::new(client.source.ip(), 0),
        Some(UseSource::Address(address)) => address,
    };
    let shown = SocketAddr::new(shown.ip().to_canonical(), shown.port());
    if source.usesrc.is_some() {
        if target.is_ipv4() {
            reference.set_ip_transparent_v4(true)?;
        } else {
            reference.set_ip_transparent_v6(true)?;
        }
    }
    if shown.is_ipv4() != target.is_ipv4() {
        // An address of the other family cannot be used; the system's choice is.
        return Ok(());
    }
    let (low, high) = (shown.port(), source.last_port.unwrap_or(shown.port()).max(shown.port()));
    if low == 0 {
        // Without this a port would be taken for all targets at once.
        set_bind_address_no_port(socket);
        return reference.bind(&shown.into());
    }
    reference.set_reuse_address(true)?;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in spread(low, high) {
        match reference.bind(&SocketAddr::new(shown.ip(), port).into()) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// All ports of a range, beginning at another one each time.
fn spread(low: u16, high: u16) -> impl Iterator<Item = u16> {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(high - low) + 1;
    let first = NEXT.fetch_add(1, Relaxed);
    (0..count).map(move |step| low + u16::try_from(first.wrapping_add(step) % count).unwrap_or(0))
}

fn set_bind_address_no_port(socket: &OwnedFd) {
    // An old kernel without it only runs out of ports earlier.
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
}

/// TLS over a connection to a server.
///
/// # Errors
/// The handshake fails, or the server's certificate is not to be trusted.
pub async fn encrypt(side: Side, server: &Server, client: &Client) -> io::Result<Side> {
    let Side::Plain(stream) = side else { return Ok(side) };
    let config = server.config();
    let options = config.options.tls.clone();
    drop(config);
    let (connector, name) = tls::connector(&options, client.name.as_deref())?;
    let encrypted = TlsConnector::from(connector).connect(name, stream).await?;
    Ok(Side::Tls(Box::new(encrypted.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_gone_through_once() {
        let mut ports: Vec<u16> = spread(10, 13).collect();
        let other: Vec<u16> = spread(10, 13).collect();
        assert_ne!(ports, other);
        ports.sort_unstable();
        assert_eq!(ports, [10, 11, 12, 13]);
        assert_eq!(spread(65_535, 65_535).collect::<Vec<_>>(), [65_535]);
    }
}
