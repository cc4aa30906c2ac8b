//! HTTPS: a listener that hands out connections whose TLS handshake is done.

use crate::tls::TlsServer;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at the same time; more clients wait for theirs.
const HANDSHAKES: usize = 256;
/// How long one may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client's end of a connection, however it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Its address.
    pub(super) address: SocketAddr,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
}

/// A client of the control socket is on this machine.
impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Peer {
        Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: false }
    }
}

/// Marks requests that came through the control socket, which only the node's own user can open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local;

/// A client whose handshake is done.
type Secured = (TlsStream<TcpStream>, SocketAddr);

/// A TCP listener with TLS on it.
pub(super) struct TlsListener {
    listener: TcpListener,
    server: Arc<TlsServer>,
    handshakes: JoinSet<Option<Secured>>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, server: Arc<TlsServer>) -> TlsListener {
        TlsListener { listener, server, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Secured {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(secured)) = done {
                        return secured;
                    }
                }
                // A failed accept is waited out by the listener of plain HTTP.
                (stream, peer) = Listener::accept(&mut self.listener), if self.handshakes.len() < HANDSHAKES => {
                    let acceptor = TlsAcceptor::from(self.server.config());
                    self.handshakes.spawn(handshake(acceptor, stream, peer));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) -> Option<Secured> {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some((stream, peer)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake for the HTTP API failed");
            None
        }
        Err(_) => None,
    }
}
