//! Accepts clients.

use crate::connection;
use crate::node::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Pause after a failed accept (out of file descriptors, usually): the backlog keeps the clients.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts clients until it is dropped. The connections it accepted end with it.
pub(crate) async fn accept(node: Arc<Node>, listener: TcpListener) {
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
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
    }
}
