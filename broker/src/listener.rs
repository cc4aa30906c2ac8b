//! Accepts clients, and what comes before AMQP: the header of the PROXY protocol and the TLS handshake.

use crate::connection::socket::Socket;
use crate::connection::{self, Arrived};
use crate::node::Node;
use crate::proxy_protocol;
use crate::tls::{TlsInfo, TlsServer};
use daemon::shutdown::ShutdownToken;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::TlsAcceptor;

/// Pause after a failed accept (out of file descriptors, usually): the backlog keeps the clients.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often what connections that ended leave behind is cleared away: waking up for each would take longer.
const REAP: Duration = Duration::from_secs(1);
/// How long a client may take until AMQP begins.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What clients of a listener have to do before AMQP begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance {
    /// They come through a proxy, which says who they are.
    pub(crate) proxy_protocol: bool,
    /// They speak TLS.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// Accepts clients until the node stops, then waits for those it accepted. They end with it when it is
/// dropped.
pub(crate) async fn accept(
    node: Arc<Node>,
    listener: TcpListener,
    entrance: Entrance,
    mut stop: ShutdownToken,
) {
    let mut connections = JoinSet::new();
    // The same for every client, unless the listener takes what comes to any address.
    let local = listener.local_addr().ok().filter(|local| !local.ip().is_unspecified());
    let mut reap = tokio::time::interval(REAP);
    reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if node.connections.sockets() >= node.settings.max_connections => {
                    tracing::warn!(%peer, limit = node.settings.max_connections, "connection refused: the limit is reached");
                }
                Ok((_, peer)) if node.suspended.load(Ordering::Relaxed) => {
                    tracing::info!(%peer, "connection refused: listeners are suspended");
                }
                Ok((stream, peer)) => {
                    connections.spawn(serve(Arc::clone(&node), stream, (peer, local), entrance.clone()));
                }
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            _ = reap.tick(), if !connections.is_empty() => {
                while let Some(ended) = connections.try_join_next() {
                    report(ended);
                }
            }
            _ = stop.requested() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The client's end, and ours if it is known without asking.
type Ends = (SocketAddr, Option<SocketAddr>);

async fn serve(node: Arc<Node>, stream: TcpStream, ends: Ends, entrance: Entrance) {
    let peer = ends.0;
    let arrival = node.connections.arrive();
    let arrived = match timeout(ARRIVAL_TIMEOUT, enter(stream, ends, &entrance)).await {
        Ok(Ok(arrived)) => arrived,
        Ok(Err(error)) => {
            tracing::warn!(%peer, %error, "connection refused");
            return;
        }
        Err(_) => {
            tracing::warn!(%peer, "connection refused: the client was too slow");
            return;
        }
    };
    drop(arrival);
    connection::serve(node, arrived).await;
}

/// Brings a client to where AMQP begins.
async fn enter(mut stream: TcpStream, (peer, local): Ends, entrance: &Entrance) -> io::Result<Arrived> {
    let named = if entrance.proxy_protocol { proxy_protocol::read_header(&mut stream).await? } else { None };
    let (peer, local) = match (named, local) {
        (Some(ends), _) => ends,
        (None, Some(local)) => (peer, local),
        (None, None) => (peer, stream.local_addr()?),
    };
    let Some(server) = &entrance.tls else {
        return Ok(Arrived { socket: Socket::Plain(stream), peer, local, tls: None });
    };
    // Boxed: a handshake's state is large, and every client without TLS would carry room for it.
    let handshake = Box::pin(TlsAcceptor::from(server.config()).accept(stream)).await.map_err(explained)?;
    let (stream, session) = handshake.into_inner();
    let tls = TlsInfo::new(&session);
    Ok(Arrived { socket: Socket::tls(stream, session), peer, local, tls: Some(tls) })
}

/// Says more about a handshake that failed.
fn explained(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let hint = match cause {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            " (the client does not speak TLS; is it on the right port?)"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("TLS handshake failed: {error}{hint}"))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed");
    }
}
