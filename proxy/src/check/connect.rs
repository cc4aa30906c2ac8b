//! Connections of checks: TCP or a unix socket, TLS on top, a PROXY header in front.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::ProxyProtocol;

/// Where a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// Address and port.
    Ip(SocketAddr),
    /// A unix socket with this path.
    Unix(PathBuf),
    /// A unix socket with a name outside the file system.
    Abstract(String),
}

/// How a connection of a check is made.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it goes.
    pub place: Where,
    /// Our own address.
    pub source: Option<SocketAddr>,
    /// TLS on top of it.
    pub tls: Option<Tls>,
    /// A PROXY protocol header in front of it.
    pub send_proxy: Option<ProxyProtocol>,
}

/// TLS of a check.
#[derive(Debug, Clone)]
pub struct Tls {
    /// What is trusted and spoken.
    pub config: Arc<rustls::ClientConfig>,
    /// The name asked for.
    pub name: ServerName<'static>,
}

/// An open connection.
pub(super) enum Stream {
    /// TCP, with nothing on top.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<tokio_rustls::client::TlsStream<Box<dyn Duplex>>>),
}

/// Both ways of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Stream {
    /// Reads and writes, whatever it is.
    pub(super) fn io(&mut self) -> &mut dyn Duplex {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => stream.as_mut(),
        }
    }
}

/// Opens the connection. With `alone`, nothing is said on it: the acknowledgement that would complete the
/// handshake is held back and a reset sent in its place, so that the server's `accept` never sees it.
pub(super) async fn open(target: &Target, alone: bool, linger: bool) -> io::Result<Stream> {
    match &target.place {
        Where::Ip(address) => {
            let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
            let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            if alone {
                // Delay the last acknowledgement of the handshake (tcp(7), TCP_QUICKACK).
                socket.set_tcp_quickack(false)?;
            } else {
                socket.set_tcp_nodelay(true)?;
            }
            if !linger {
                reset_on_close(SockRef::from(&socket));
            }
            if let Some(source) = target.source {
                if source.port() != 0 {
                    socket.set_reuse_address(true)?;
                }
                socket.bind(&SockAddr::from(source))?;
            }
            tokio::net::TcpSocket::from_std_stream(socket.into()).connect(*address).await.map(Stream::Tcp)
        }
        Where::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Where::Abstract(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            let socket = std::os::unix::net::UnixStream::connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket).map(Stream::Unix)
        }
    }
}

/// Writes the PROXY header of a check: version 1 names the check's own connection, version 2 says that the
/// sender speaks for itself (LOCAL).
pub(super) async fn introduce(stream: &mut Stream, version: ProxyProtocol) -> io::Result<()> {
    let header = match (version, &*stream) {
        (ProxyProtocol::V2, _) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        (ProxyProtocol::V1, Stream::Tcp(tcp)) => {
            let (source, target) = (tcp.local_addr()?, tcp.peer_addr()?);
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", source.ip(), target.ip(), source.port(), target.port())
                .into_bytes()
        }
        (ProxyProtocol::V1, _) => b"PROXY UNKNOWN\r\n".to_vec(),
    };
    stream.io().write_all(&header).await
}

/// Puts TLS on top.
pub(super) async fn secure(stream: Stream, tls: &Tls) -> io::Result<Stream> {
    let plain: Box<dyn Duplex> = match stream {
        Stream::Tcp(stream) => Box::new(stream),
        Stream::Unix(stream) => Box::new(stream),
        secured @ Stream::Tls(_) => return Ok(secured),
    };
    let secured = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), plain).await?;
    Ok(Stream::Tls(Box::new(secured)))
}

/// Closing then sends a reset, whatever is unread.
fn reset_on_close(socket: SockRef<'_>) {
    // Without it the connection ends with a FIN; the check's result is the same.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
