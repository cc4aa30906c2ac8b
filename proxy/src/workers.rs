//! What runs: worker threads with their connections, checks and statistics pages; their start and end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;
use daemon::shutdown::{Shutdown, ShutdownToken};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::check::Checks;
use crate::config::Mode;
use crate::control::Outcome;
use crate::frontend;
use crate::listener::{Listener, Listeners, Phase};
use crate::process::Process;
use crate::reactor;
use crate::registry::{self, Errand, Worker, Workers};
use crate::stats;
use crate::syslog::level;

/// Everything at work.
#[derive(Debug)]
pub struct Running {
    process: Arc<Process>,
    threads: Vec<std::thread::JoinHandle<()>>,
    workers: Arc<[Worker]>,
    checks: Checks,
    pages: tokio::task::JoinSet<()>,
    /// The listening sockets.
    pub listeners: Listeners,
    stop: ShutdownToken,
}

/// Starts workers, checks and statistics pages. Call it on the control runtime.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(process: &Arc<Process>, listeners: Listeners, shutdown: &Shutdown) -> Result<Running, Failure> {
    let (workers, inboxes): (Vec<Worker>, Vec<_>) = (0..process.threads)
        .map(|_| {
            let (inbox, receiver) = mpsc::unbounded_channel();
            (Worker { inbox, load: Arc::new(AtomicUsize::new(0)) }, receiver)
        })
        .unzip();
    let workers: Arc<[Worker]> = workers.into();
    // Started once only.
    let _ = process.workers.set(Workers(workers.clone()));
    let mut threads = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (process, workers, stop) = (process.clone(), workers.clone(), shutdown.token());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || work(process, inbox, workers, index, stop))
            .map_err(|error| os_failure("start a thread", &error))?;
        threads.push(thread);
    }
    let mut running = Running {
        process: process.clone(),
        threads,
        workers,
        checks: Checks::default(),
        pages: tokio::task::JoinSet::new(),
        listeners: Listeners::default(),
        stop: shutdown.token(),
    };
    for listener in listeners.all {
        running.listen(&listener)?;
        running.listeners.all.push(listener);
    }
    running.update_checks();
    Ok(running)
}

fn os_failure(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::OsError, format!("cannot {what}: {error}"))
}

/// The life of a worker thread.
fn work(
    process: Arc<Process>,
    mut inbox: mpsc::UnboundedReceiver<Errand>,
    workers: Arc<[Worker]>,
    here: usize,
    mut stop: ShutdownToken,
) {
    let main = async move {
        loop {
            tokio::select! {
                () = stop.forced() => return,
                received = inbox.recv() => match received {
                    Some(Errand::Serve(frontend, accepted)) => {
                        frontend::spawn(process.clone(), frontend, accepted);
                    }
                    Some(Errand::Listen(socket, assignment)) => {
                        let (process, workers) = (process.clone(), workers.clone());
                        reactor::spawn(frontend::accept(process, socket, assignment, workers, here));
                    }
                    Some(Errand::List(reply)) => {
                        // Who asked may have gone.
                        let _ = reply.send(registry::list_here(here));
                    }
                    Some(Errand::Close { which, most, cause, reply }) => {
                        let closed = registry::close_here(&which, most, cause);
                        if let Some(reply) = reply {
                            let _ = reply.send(closed);
                        }
                    }
                    None => return,
                },
            }
        }
    };
    // Its end closes every connection that is left.
    if let Err(error) = reactor::run(main) {
        tracing::error!(%error, "a worker cannot go on");
    }
}

impl Running {
    /// Begins to accept from a socket.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(&mut self, listener: &Listener) -> Result<(), Failure> {
        let socket = listener.socket.try_clone().map_err(|error| os_failure("duplicate a socket", &error))?;
        if listener.frontend().config.settings.mode == Mode::Http {
            let socket =
                TcpListener::from_std(socket).map_err(|error| os_failure("register a socket", &error))?;
            let (process, stop) = (self.process.clone(), self.stop.clone());
            self.pages.spawn(stats::serve(process, socket, listener.subscribe(), stop));
            return Ok(());
        }
        // Every worker accepts; one that sleeps is woken for each connection.
        let socket = Arc::new(OwnedFd::from(socket));
        for worker in self.workers.iter() {
            worker
                .inbox
                .send(Errand::Listen(socket.clone(), listener.subscribe()))
                .map_err(|_| Failure::new(Exit::Software, "a worker thread has ended"))?;
        }
        Ok(())
    }

    /// Makes the listeners of a frontend accept or not, by an operator's order.
    pub fn turn_frontend(&mut self, name: &str, phase: Phase) -> Outcome {
        let listeners: Vec<_> =
            self.listeners.all.iter().filter(|listener| *listener.frontend().name == *name).collect();
        let Some(first) = listeners.first() else { return Outcome::Stopped };
        if first.frontend().stopped.load(Relaxed) {
            return Outcome::Stopped;
        }
        if listeners.iter().all(|listener| listener.phase() == phase) {
            return Outcome::Already;
        }
        for listener in &listeners {
            listener.set_phase(phase);
        }
        let word = match phase {
            Phase::Open => "Resumed",
            Phase::Paused => "Paused",
            Phase::Closing | Phase::Leaving => {
                first.frontend().stopped.store(true, Relaxed);
                "Stopped"
            }
        };
        first.frontend().logger.send(level::WARNING, &format!("{word} proxy {name}."));
        tracing::info!(frontend = name, ?phase, "frontend changed by an operator");
        Outcome::Done
    }

    /// Makes checks follow the servers that there are now.
    pub fn update_checks(&mut self) {
        self.checks.update(&self.process, &self.stop);
    }

    /// Connections at work.
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.load.load(Relaxed)).sum()
    }

    /// Closes all listening sockets; connections that wait in them are taken first.
    pub async fn close_listeners(&mut self) {
        for listener in &self.listeners.all {
            listener.set_phase(Phase::Closing);
        }
        for listener in self.listeners.all.drain(..) {
            listener.left().await;
        }
    }

    /// After a soft stop: waits until no connection is left, or `limit` has passed.
    pub async fn drained(&mut self, limit: Option<Duration>) {
        let ended = async {
            self.close_listeners().await;
            while self.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = match limit {
            Some(limit) => tokio::time::timeout(limit, ended).await.is_ok(),
            None => {
                ended.await;
                true
            }
        };
        if !in_time {
            tracing::warn!(connections = self.connections(), "hard-stop-after has passed");
        }
    }

    /// After an immediate stop: waits for the threads.
    pub async fn join(mut self) {
        self.pages.abort_all();
        for thread in self.threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
        self.checks.stop().await;
        while self.pages.join_next().await.is_some() {}
    }
}
