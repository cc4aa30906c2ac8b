//! The listeners for clients: closed, so that health checks see it, while the node pauses or is in maintenance,
//! and opened again after that.

use crate::listener::{self, Entrance};
use crate::node::Node;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::shutdown::{Shutdown, Stop};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause before a port that somebody else has taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// A listener, or the place of one.
pub(crate) struct Door {
    /// Where, with the port that it got.
    pub(crate) address: SocketAddr,
    /// What clients have to do there.
    pub(crate) entrance: Entrance,
}

/// All listeners for clients.
pub(crate) struct Doors {
    node: Arc<Node>,
    doors: Vec<Door>,
    open: Option<(Shutdown, Vec<JoinHandle<()>>)>,
}

impl Doors {
    /// The listeners of a node, which are bound already, and let clients in.
    pub(crate) fn new(node: &Arc<Node>, bound: Vec<(TcpListener, Door)>) -> Doors {
        let mut doors = Doors { node: Arc::clone(node), doors: Vec::new(), open: None };
        let mut listeners = Vec::new();
        for (listener, door) in bound {
            listeners.push((listener, door.entrance.clone()));
            doors.doors.push(door);
        }
        doors.accept(listeners);
        doors
    }

    fn accept(&mut self, listeners: Vec<(TcpListener, Entrance)>) {
        let (shutdown, _token) = Shutdown::new();
        let accept = |(listener, entrance)| {
            tokio::spawn(listener::accept(Arc::clone(&self.node), listener, entrance, shutdown.token()))
        };
        let tasks = listeners.into_iter().map(accept).collect();
        self.open = Some((shutdown, tasks));
    }

    /// Takes no more clients. Those that are there stay.
    pub(crate) fn close(&mut self) -> Vec<JoinHandle<()>> {
        let Some((shutdown, tasks)) = self.open.take() else { return Vec::new() };
        shutdown.stop(Stop::Graceful);
        tasks
    }

    /// Takes clients again, if all ports can be had.
    fn reopen(&mut self) -> std::io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let bind = |door: &Door| {
            let options = ListenOptions { nodelay: true, ..ListenOptions::default() };
            let listener =
                bind_tcp(door.address, &options).map_err(|error| std::io::Error::other(error.to_string()))?;
            Ok((TcpListener::from_std(listener)?, door.entrance.clone()))
        };
        let listeners = self.doors.iter().map(bind).collect::<std::io::Result<Vec<_>>>()?;
        self.accept(listeners);
        Ok(())
    }
}

/// Closes and opens them as the cluster and the operator want it, until it is dropped.
pub(crate) async fn keep(
    doors: Arc<tokio::sync::Mutex<Doors>>,
    mut paused: watch::Receiver<Option<String>>,
    mut drained: watch::Receiver<bool>,
) {
    loop {
        let why = paused.borrow_and_update().clone().map(|reason| format!("node paused: {reason}"));
        let maintenance = drained.borrow_and_update().then(|| crate::cluster::life::maintenance().to_owned());
        let mut again = None;
        {
            let mut doors = doors.lock().await;
            match why.or(maintenance) {
                Some(reason) if doors.open.is_some() => {
                    tracing::warn!(reason, "clients are not served");
                    // Their tasks go on until their clients are gone.
                    drop(doors.close());
                    doors.node.close_connections(amqp::reply_code::CONNECTION_FORCED, &reason);
                }
                Some(_) => {}
                None if doors.open.is_none() => match doors.reopen() {
                    Ok(()) => tracing::info!("clients are served again"),
                    Err(error) => {
                        tracing::error!(%error, "the listeners for clients could not be opened again");
                        again = Some(BIND_AGAIN);
                    }
                },
                None => {}
            }
        }
        let pause = async {
            match again {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = paused.changed() => if changed.is_err() { return },
            changed = drained.changed() => if changed.is_err() { return },
            () = pause => {}
        }
    }
}
