//! Accepting connections and giving each to the least loaded worker.
//!
//! A [`Frontend`] never changes: a reload makes another one, which shares counters and places with the one
//! before, and gives it to the listeners. A session keeps the one it began with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::backend::Backend;
use crate::config::ProxyConfig;
use crate::config::rules::Facts;
use crate::counters::Counters;
use crate::listener::{Assignment, Phase, take_waiting};
use crate::process::Process;
use crate::registry::{Errand, Worker};
use crate::session::{self, Accepted, Incoming};
use crate::syslog::Logger;

/// Pause after the system refused a connection for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The accepting side of a section.
#[derive(Debug)]
pub struct Frontend {
    /// The section it comes from.
    pub config: Arc<ProxyConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// Where its connections go.
    pub backend: Option<Arc<Backend>>,
    /// Where some of them go instead, in the order of `backend_rules`.
    pub others: Vec<Arc<Backend>>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Most connections.
    pub limit: u32,
    /// Places left.
    pub places: Arc<Semaphore>,
    /// Where its lines go.
    pub logger: Logger,
    /// No longer accepting.
    pub stopped: Arc<AtomicBool>,
}

impl Frontend {
    /// The accepting side of a section.
    pub fn new(
        config: Arc<ProxyConfig>,
        backend: Option<Arc<Backend>>,
        process_limit: u32,
        logger: Logger,
    ) -> Self {
        let limit = config.settings.maxconn.unwrap_or(process_limit).min(process_limit);
        Self {
            name: config.name.as_str().into(),
            backend,
            counters: Arc::default(),
            limit,
            others: Vec::new(),
            places: Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(usize::MAX))),
            logger,
            stopped: Arc::default(),
            config,
        }
    }

    /// Where a client's connection goes.
    pub fn backend_for(&self, client: &dyn Facts) -> Option<&Arc<Backend>> {
        let rules = self.config.backend_rules.iter().zip(&self.others);
        let chosen = rules.into_iter().find(|(rule, _)| rule.condition.holds(client));
        chosen.map(|(_, backend)| backend).or(self.backend.as_ref())
    }

    /// HAProxy's status word.
    pub fn status(&self) -> &'static str {
        if self.stopped.load(Relaxed) {
            "STOP"
        } else if self.places.available_permits() == 0 {
            "FULL"
        } else {
            "OPEN"
        }
    }
}

/// Accepts on one listener until it is told to end; runs on worker `here`.
pub async fn accept(
    process: Arc<Process>,
    listener: TcpListener,
    mut assignment: watch::Receiver<Assignment>,
    workers: Arc<[Worker]>,
    here: usize,
) {
    loop {
        let Assignment { frontend, phase } = assignment.borrow_and_update().clone();
        match phase {
            Phase::Open => {}
            Phase::Paused => {
                if assignment.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Phase::Closing => return close(&process, &frontend, listener, &workers, here).await,
            Phase::Leaving => return,
        }
        // Until something changes, the same frontend takes them all.
        loop {
            let accepted = tokio::select! {
                biased;
                changed = assignment.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                accepted = next(&process, &frontend, &listener) => accepted,
            };
            match accepted {
                // Not inside the choice above: what was accepted must not be dropped there.
                Ok((stream, client)) => {
                    if let Ok(accepted) = place(&process, &frontend, stream, client).await {
                        give(&process, &frontend, accepted, &workers, here);
                    }
                }
                Err(error) if is_exhausted(&error) => {
                    process.warn_exhausted(&error);
                    tokio::time::sleep(BACK_OFF).await;
                }
                // The client was gone before we came (accept(2)); go on with the next.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::debug!(%error, frontend = %frontend.name, "cannot accept");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// Takes the connections that wait already; the socket is closed by then.
async fn close(
    process: &Arc<Process>,
    frontend: &Arc<Frontend>,
    listener: TcpListener,
    workers: &[Worker],
    here: usize,
) {
    for (stream, client) in take_waiting(listener) {
        if let Ok(accepted) = place(process, frontend, stream, client).await {
            give(process, frontend, accepted, workers, here);
        }
    }
}

/// One connection, once there is a place for it; nothing is lost when it is dropped. No place is held while nobody comes, so that several
/// listeners of one frontend do not take each other's; in return one connection of each may be accepted
/// that then waits here for its place.
async fn next(
    process: &Process,
    frontend: &Frontend,
    listener: &TcpListener,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    let closed = |_| std::io::Error::other("stopping");
    drop(frontend.places.acquire().await.map_err(closed)?);
    drop(process.places.acquire().await.map_err(closed)?);
    listener.accept().await
}

/// Waits for the places of an accepted connection.
async fn place(
    process: &Process,
    frontend: &Frontend,
    stream: TcpStream,
    client: SocketAddr,
) -> std::io::Result<Accepted> {
    let closed = |_| std::io::Error::other("stopping");
    let frontend_place = frontend.places.clone().acquire_owned().await.map_err(closed)?;
    let process_place = process.places.clone().acquire_owned().await.map_err(closed)?;
    Ok(Accepted {
        socket: Incoming::Here(stream),
        client,
        at: Instant::now(),
        wall: SystemTime::now(),
        _process_place: process_place,
        _frontend_place: frontend_place,
    })
}

fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::ENOBUFS | nix::libc::ENOMEM)
    )
}

/// Here, unless another worker has less to do. Few long-lived connections spread badly by chance.
fn give(
    process: &Arc<Process>,
    frontend: &Arc<Frontend>,
    accepted: Accepted,
    workers: &[Worker],
    here: usize,
) {
    let least = workers
        .iter()
        .enumerate()
        .min_by_key(|(index, worker)| (worker.load.load(Relaxed), *index != here))
        .map_or(here, |(index, _)| index);
    let Some(worker) = workers.get(least) else { return };
    worker.load.fetch_add(1, Relaxed);
    if least == here {
        spawn(process.clone(), frontend.clone(), accepted, worker.load.clone());
        return;
    }
    let Accepted { socket, client, at, wall, _process_place, _frontend_place } = accepted;
    let sent = socket.leave().is_ok_and(|socket| {
        let accepted = Accepted { socket, client, at, wall, _process_place, _frontend_place };
        worker.inbox.send(Errand::Serve(frontend.clone(), accepted)).is_ok()
    });
    if !sent {
        worker.load.fetch_sub(1, Relaxed);
    }
}

/// Starts a connection's life on this thread.
pub fn spawn(process: Arc<Process>, frontend: Arc<Frontend>, accepted: Accepted, load: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        session::run(process, frontend, accepted).await;
        load.fetch_sub(1, Relaxed);
    });
}
