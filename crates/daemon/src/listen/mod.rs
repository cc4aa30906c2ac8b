//! Listening sockets, and good answers when there is none: who holds the port, which privilege is
//! missing, that the address belongs to no interface.

mod holder;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub use holder::{Holder, holder_of};

use crate::exit::Exit;

/// Connections the kernel keeps for us before `accept`, when nothing else is asked.
pub const DEFAULT_BACKLOG: u32 = 1024;

/// How to listen.
#[derive(Debug, Clone, Default)]
pub struct ListenOptions {
    /// Let several sockets share the port (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Take connections from this interface only (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// `Some(true)`: IPv6 only; `Some(false)`: also IPv4 on `[::]`; `None`: the system's default.
    pub v6only: Option<bool>,
    /// Length of the accept queue; `None` means [`DEFAULT_BACKLOG`].
    pub backlog: Option<u32>,
    /// Accept connections to addresses that are not ours (`IP_TRANSPARENT`, needs `CAP_NET_ADMIN`).
    pub transparent: bool,
    /// Bind although the address is not (yet) on an interface (`IP_FREEBIND`), as for a virtual address.
    pub freebind: bool,
    /// Connections send what is written at once (`TCP_NODELAY`): on Linux they have it from their listener.
    pub nodelay: bool,
}

/// A listening TCP socket, non-blocking, ready for `tokio::net::TcpListener::from_std`.
///
/// # Errors
/// Says why not, in words for the person who started the program.
pub fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> Result<std::net::TcpListener, BindError> {
    let failed = |error: io::Error| BindError::explain(address, options, error);
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    if options.nodelay {
        socket.set_tcp_nodelay(true).map_err(failed)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true).map_err(failed)?;
    }
    if let (true, Some(only)) = (address.is_ipv6(), options.v6only) {
        socket.set_only_v6(only).map_err(failed)?;
    }
    if let Some(interface) = &options.interface {
        socket.bind_device(Some(interface.as_bytes())).map_err(failed)?;
    }
    match (options.freebind, address.is_ipv6()) {
        (true, false) => socket.set_freebind_v4(true).map_err(failed)?,
        (true, true) => socket.set_freebind_v6(true).map_err(failed)?,
        (false, _) => {}
    }
    match (options.transparent, address.is_ipv6()) {
        (true, false) => socket.set_ip_transparent_v4(true).map_err(failed)?,
        (true, true) => socket.set_ip_transparent_v6(true).map_err(failed)?,
        (false, _) => {}
    }
    socket.bind(&SockAddr::from(address)).map_err(failed)?;
    let backlog = i32::try_from(options.backlog.unwrap_or(DEFAULT_BACKLOG)).unwrap_or(i32::MAX);
    socket.listen(backlog).map_err(failed)?;
    Ok(socket.into())
}

/// Why there is no listening socket.
#[derive(Debug)]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What stood in the way.
    pub cause: BindCause,
}

/// What stood in the way of listening.
#[derive(Debug)]
pub enum BindCause {
    /// Another socket has the port; with its owner when we may see it.
    InUse(Option<Holder>),
    /// A privilege is missing.
    NoPermission {
        /// What asked for it, e.g. "ports below 1024".
        what: String,
        /// The capability that grants it, e.g. `CAP_NET_BIND_SERVICE`.
        capability: &'static str,
    },
    /// The address is on no interface of this host.
    NotLocal,
    /// There is no interface of that name.
    NoInterface(String),
    /// Anything else.
    Other(io::Error),
}

impl BindError {
    fn explain(address: SocketAddr, options: &ListenOptions, error: io::Error) -> Self {
        let cause = match error.kind() {
            io::ErrorKind::AddrInUse => BindCause::InUse(holder_of(address)),
            io::ErrorKind::PermissionDenied => missing_privilege(address, options),
            io::ErrorKind::AddrNotAvailable => BindCause::NotLocal,
            _ => match (&options.interface, error.raw_os_error()) {
                (Some(name), Some(nix::libc::ENODEV)) => BindCause::NoInterface(name.clone()),
                _ => BindCause::Other(error),
            },
        };
        Self { address, cause }
    }

    /// Labelled lines that follow the message: who holds it, what to try.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, String)> {
        let port = self.address.port();
        match &self.cause {
            BindCause::InUse(Some(holder)) => vec![("held by", holder.to_string())],
            BindCause::InUse(None) => vec![
                ("held by", "unknown (other users' processes are visible to root only)".to_owned()),
                ("try", format!("sudo ss -ltnp 'sport = :{port}'")),
            ],
            BindCause::NoPermission { what, capability } => vec![
                ("needs", format!("{capability} ({what})")),
                ("try", "start as root and let the program drop privileges (user, group)".to_owned()),
                ("or", format!("AmbientCapabilities={capability} in the unit file")),
            ],
            BindCause::NotLocal => vec![
                ("why", format!("{} is on no interface of this host", self.address.ip())),
                (
                    "try",
                    "ip address show; a virtual address that comes later needs \
                     net.ipv4.ip_nonlocal_bind=1, the option freebind, or listening on all addresses"
                        .to_owned(),
                ),
            ],
            BindCause::NoInterface(_) => vec![("try", "ip link show".to_owned())],
            BindCause::Other(_) => Vec::new(),
        }
    }

    /// The exit code that fits.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.cause {
            BindCause::InUse(_) => Exit::CannotCreate,
            BindCause::NoPermission { .. } => Exit::NoPermission,
            BindCause::NotLocal | BindCause::NoInterface(_) => Exit::Config,
            BindCause::Other(_) => Exit::OsError,
        }
    }
}

fn missing_privilege(address: SocketAddr, options: &ListenOptions) -> BindCause {
    if address.port() < 1024 && address.port() != 0 {
        return BindCause::NoPermission {
            what: "ports below 1024".to_owned(),
            capability: "CAP_NET_BIND_SERVICE",
        };
    }
    if options.transparent {
        return BindCause::NoPermission {
            what: "transparent binding".to_owned(),
            capability: "CAP_NET_ADMIN",
        };
    }
    BindCause::NoPermission { what: "binding to an interface".to_owned(), capability: "CAP_NET_RAW" }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match &self.cause {
            BindCause::InUse(_) => f.write_str("address in use"),
            BindCause::NoPermission { .. } => f.write_str("permission denied"),
            BindCause::NotLocal => f.write_str("no such address here"),
            BindCause::NoInterface(name) => write!(f, "no interface `{name}`"),
            BindCause::Other(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            BindCause::Other(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_taken_port_names_the_holder() {
        let first = bind_tcp(loopback(0), &ListenOptions::default()).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind_tcp(taken, &ListenOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {taken}: address in use"));
        assert_eq!(error.exit(), Exit::CannotCreate);
        let BindCause::InUse(Some(holder)) = &error.cause else { panic!("no holder: {error:?}") };
        assert_eq!(holder.pid, std::process::id());
        assert!(error.details()[0].1.contains(&format!("pid {}", holder.pid)), "{:?}", error.details());
    }

    #[test]
    fn an_address_of_another_host_is_explained() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = bind_tcp(elsewhere, &ListenOptions::default()).unwrap_err();
        assert!(matches!(error.cause, BindCause::NotLocal), "{error:?}");
        assert!(error.details()[0].1.contains("no interface of this host"));
        let free = ListenOptions { freebind: true, ..ListenOptions::default() };
        assert!(bind_tcp(elsewhere, &free).is_ok());
    }

    #[test]
    fn a_missing_interface_is_named() {
        let options = ListenOptions { interface: Some("nosuch0".to_owned()), ..ListenOptions::default() };
        let error = bind_tcp(loopback(0), &options).unwrap_err();
        // Without CAP_NET_RAW older kernels answer "permission denied" first.
        assert!(
            matches!(error.cause, BindCause::NoInterface(_) | BindCause::NoPermission { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_missing_privilege_names_the_capability() {
        let error = BindError::explain(
            loopback(80),
            &ListenOptions::default(),
            io::ErrorKind::PermissionDenied.into(),
        );
        assert!(error.details()[0].1.starts_with("CAP_NET_BIND_SERVICE"));
        assert_eq!(error.exit(), Exit::NoPermission);
    }

    #[test]
    fn two_sockets_share_a_port_when_both_ask_for_it() {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = bind_tcp(loopback(0), &options).unwrap();
        assert!(bind_tcp(first.local_addr().unwrap(), &options).is_ok());
    }
}
