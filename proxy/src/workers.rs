//! What runs: worker threads with their connections, checks and statistics pages; their start and end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;
use daemon::shutdown::{Shutdown, ShutdownToken, Stop};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::{mpsc, watch};

use crate::check::Checks;
use crate::control::Outcome;
use crate::frontend;
use crate::listener::{Listener, Listeners};
use crate::process::Process;
use crate::reactor;
use crate::registry::{self, Errand, Worker, Workers};
use crate::stats;
use crate::syslog::level;

/// An operator's order about a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It stops accepting for a while.
    Pause,
    /// It accepts again.
    Resume,
    /// It stops for good.
    Stop,
}

/// Everything at work.
#[derive(Debug)]
pub struct Running {
    process: Arc<Process>,
    threads: Vec<std::thread::JoinHandle<()>>,
    workers: Arc<[Worker]>,
    checks: Checks,
    /// Listeners that are about to close.
    closing: tokio::task::JoinSet<()>,
    /// How many those are.
    closing_count: watch::Sender<usize>,
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
    let kitchen = stats::Kitchen { runtime: tokio::runtime::Handle::current(), stop: shutdown.token() };
    let _ = process.kitchen.set(kitchen);
    let processors = if process.global().bind_threads { own_processors(process.threads) } else { Vec::new() };
    let mut threads = Vec::new();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let processor = processors.get(index).copied();
        let (process, workers, stop) = (process.clone(), workers.clone(), shutdown.token());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                processor.into_iter().for_each(bind_to);
                work(process, inbox, workers, index, stop);
            })
            .map_err(|error| os_failure("start a thread", &error))?;
        threads.push(thread);
    }
    let mut running = Running {
        process: process.clone(),
        threads,
        workers,
        checks: Checks::default(),
        closing: tokio::task::JoinSet::new(),
        closing_count: watch::Sender::new(0),
        listeners: Listeners::default(),
        stop: shutdown.token(),
    };
    for mut listener in listeners.all {
        running.listen(&mut listener)?;
        running.listeners.all.push(listener);
    }
    running.update_checks();
    Ok(running)
}

fn os_failure(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::OsError, format!("cannot {what}: {error}"))
}

/// A processor for each of so many threads, when this process may use exactly as many. Else two busy workers
/// may share one for several ticks of the scheduler, and every session of the one that waits does too.
fn own_processors(threads: usize) -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number)).collect();
    if processors.len() == threads { processors } else { Vec::new() }
}

/// Binds this thread to a processor. Where that is forbidden it goes on unbound.
fn bind_to(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!(%error, processor, "a worker is not bound to its processor");
    }
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
    pub fn listen(&mut self, listener: &mut Listener) -> Result<(), Failure> {
        let (socket, assignment) =
            listener.staff().map_err(|error| os_failure("duplicate a socket", &error))?;
        // Every worker accepts; one that sleeps is woken for each connection.
        let socket = Arc::new(OwnedFd::from(socket));
        for worker in self.workers.iter() {
            worker
                .inbox
                .send(Errand::Listen(socket.clone(), assignment.clone()))
                .map_err(|_| Failure::new(Exit::Software, "a worker thread has ended"))?;
        }
        Ok(())
    }

    /// Makes the listeners of a frontend accept or not, by an operator's order.
    pub fn turn_frontend(&mut self, name: &str, turn: Turn) -> Outcome {
        let is_its = |listener: &Listener| *listener.frontend().name == *name;
        let Some(frontend) = self.listeners.all.iter().find(|listener| is_its(listener)) else {
            return Outcome::Stopped;
        };
        let frontend = frontend.frontend().clone();
        let wanted = turn == Turn::Resume;
        let all = self.listeners.all.iter().filter(|listener| is_its(listener));
        if turn != Turn::Stop && all.into_iter().all(|listener| listener.is_open() == wanted) {
            return Outcome::Already;
        }
        let word = match turn {
            Turn::Pause => {
                self.listeners.all.iter_mut().filter(|listener| is_its(listener)).for_each(Listener::pause);
                "Paused"
            }
            Turn::Resume if !self.resume_some(is_its) => return Outcome::Failed,
            Turn::Resume => "Resumed",
            Turn::Stop => {
                let all = std::mem::take(&mut self.listeners).all;
                let (gone, kept) = all.into_iter().partition(is_its);
                self.listeners.all = kept;
                gone.into_iter().for_each(|listener: Listener| self.close(listener));
                frontend.stopped.store(true, Relaxed);
                "Stopped"
            }
        };
        frontend.logger.send(level::WARNING, &format!("{word} proxy {name}."));
        tracing::info!(frontend = name, ?turn, "frontend changed by an operator");
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

    /// Closes a listening socket once the connections that wait in it were taken; nobody waits for that.
    pub fn close(&mut self, listener: Listener) {
        while self.closing.try_join_next().is_some() {}
        let count = self.closing_count.clone();
        count.send_modify(|count| *count += 1);
        self.closing.spawn(async move {
            listener.close().await;
            count.send_modify(|count| *count -= 1);
        });
    }

    /// How many listeners are about to close; their addresses are not free yet.
    pub fn closing(&self) -> watch::Receiver<usize> {
        self.closing_count.subscribe()
    }

    /// Closes all listening sockets; connections that wait in them are taken first.
    pub async fn close_listeners(&mut self) {
        for listener in std::mem::take(&mut self.listeners).all {
            self.closing.spawn(listener.close());
        }
        while self.closing.join_next().await.is_some() {}
    }

    /// Nobody accepts for now, and another process may listen on our ports (SIGTTOU).
    pub fn pause(&mut self) {
        tracing::info!("listeners are paused");
        self.listeners.all.iter_mut().for_each(Listener::pause);
    }

    /// Accepts again (SIGTTIN).
    pub fn resume(&mut self) {
        tracing::info!("listeners are resumed");
        self.resume_some(|_| true);
    }

    /// Says whether all could be resumed.
    fn resume_some(&mut self, which: impl Fn(&Listener) -> bool) -> bool {
        let mut done = true;
        let mut all = std::mem::take(&mut self.listeners);
        for listener in all.all.iter_mut().filter(|listener| which(listener)) {
            match listener.resume() {
                Ok(false) => {}
                Ok(true) => {
                    if let Err(failure) = self.listen(listener) {
                        done = false;
                        tracing::error!(%failure, frontend = %listener.frontend().name, "cannot accept");
                    }
                }
                Err(error) => {
                    done = false;
                    tracing::error!(%error, frontend = %listener.frontend().name, "cannot listen again");
                }
            }
        }
        self.listeners = all;
        done
    }

    /// After a soft stop: waits until no connection is left, or `limit` has passed. Connections that wait
    /// in the listening sockets still come in.
    pub async fn drained(&mut self, shutdown: &Shutdown, limit: Option<Duration>) {
        let ended = async {
            self.close_listeners().await;
            shutdown.stop(Stop::Graceful);
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
    pub async fn join(self) {
        for thread in self.threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
        self.checks.stop().await;
    }
}
