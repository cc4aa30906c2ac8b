//! The plain TCP check: connect, and reset as soon as the server has answered.
//!
//! The acknowledgement that would complete the handshake is held back and a reset sent in its place, so
//! that the server's `accept` never sees the check.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Connects for a check.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Delay the last acknowledgement of the handshake (tcp(7), TCP_QUICKACK).
    socket.set_tcp_quickack(false)?;
    reset_on_close(SockRef::from(&socket));
    tokio::net::TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// The whole check.
pub(super) async fn check(address: SocketAddr) -> io::Result<()> {
    connect(address).await.map(drop)
}

/// Closing then sends a reset, whatever is unread.
fn reset_on_close(socket: SockRef<'_>) {
    // Without it the connection ends with a FIN; the check's result is the same.
    let _ = socket.set_linger(Some(std::time::Duration::ZERO));
}
