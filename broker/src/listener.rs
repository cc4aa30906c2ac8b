//! Accepts clients.

use crate::connection;
use crate::node::Node;
use daemon::shutdown::ShutdownToken;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Pause after a failed accept (out of file descriptors, usually): the backlog keeps the clients.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts clients until the node stops, then waits for those it accepted. They end with it when it is
/// dropped.
pub(crate) async fn accept(node: Arc<Node>, listener: TcpListener, mut stop: ShutdownToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if node.connections.len() >= node.settings.max_connections => {
                    tracing::warn!(%peer, limit = node.settings.max_connections, "connection refused: the limit is reached");
                }
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(Arc::clone(&node), stream));
                }
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = connections.join_next() => report(ended),
            _ = stop.requested() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed");
    }
}
