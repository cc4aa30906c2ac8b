//! The running proxy: its sections, its threads, its start and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use daemon::diagnostic::Diagnostics;
use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use daemon::shutdown::{Shutdown, ShutdownToken};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::backend::Backend;
use crate::check;
use crate::config::validate::no_address;
use crate::config::{Config, Global, Mode, ProxyConfig};
use crate::counters::{Counters, Moment};
use crate::frontend::{self, Frontend, Worker};
use crate::session::Accepted;
use crate::stats;
use crate::syslog::{Logger, Opener};

/// Files the process needs beside those of connections.
const SPARE_FILES: u64 = 64;
/// Connections when nothing limits them.
const DEFAULT_MAXCONN: u32 = 10_000;

/// The running proxy.
#[derive(Debug)]
pub struct Process {
    /// When it began.
    pub started: Instant,
    /// Settings of the process.
    pub global: Global,
    /// Its sections in the order of the file.
    pub sections: Vec<Section>,
    /// Counters over all frontends.
    pub counters: Counters,
    /// Most connections.
    pub maxconn: u32,
    /// Places left.
    pub places: Arc<Semaphore>,
    /// Worker threads.
    pub threads: usize,
    /// Limit of open files.
    pub open_files: u64,
    /// When the last warning about missing descriptors was given.
    exhausted: AtomicU64,
}

/// One section of the configuration at work.
#[derive(Debug)]
pub struct Section {
    /// Its configuration.
    pub config: Arc<ProxyConfig>,
    /// Its accepting side.
    pub frontend: Option<Arc<Frontend>>,
    /// Its servers.
    pub backend: Option<Arc<Backend>>,
    /// Where its lines go.
    pub logger: Logger,
}

/// Listening sockets, opened before privileges are given up.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(Arc<Frontend>, std::net::TcpListener)>,
}

impl Listeners {
    /// The addresses listened on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.sockets.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }
}

impl Process {
    /// Builds everything a configuration asks for; nothing runs yet.
    pub fn new(config: Config, default_tag: &str) -> Self {
        let started = Instant::now();
        let global = config.global;
        let (maxconn, open_files) = connection_limit(&global);
        let mut opener = Opener::default();
        let tag = global.log_tag.clone().unwrap_or_else(|| default_tag.to_owned());
        let mut logger = |config: &ProxyConfig| {
            let mut sinks = config.settings.logs.clone();
            if config.settings.log_global {
                sinks.extend(global.logs.iter().cloned());
            }
            opener.open(&sinks, &tag)
        };
        let proxies: Vec<(Arc<ProxyConfig>, Logger)> = config
            .proxies
            .into_iter()
            .filter(|proxy| !proxy.settings.disabled)
            .map(|proxy| {
                let logger = logger(&proxy);
                (Arc::new(proxy), logger)
            })
            .collect();
        let backends: Vec<Option<Arc<Backend>>> = proxies
            .iter()
            .map(|(proxy, _)| proxy.has_backend().then(|| Arc::new(Backend::new(proxy.clone(), started))))
            .collect();
        let sections = proxies
            .iter()
            .zip(&backends)
            .map(|((config, logger), own)| {
                let named =
                    config.settings.default_backend.as_ref().and_then(|(name, _)| {
                        backends.iter().flatten().find(|backend| *backend.name == **name)
                    });
                let frontend = config.has_frontend().then(|| {
                    let target = named.or(own.as_ref()).cloned();
                    let mut frontend = Frontend::new(config.clone(), target, maxconn, logger.clone());
                    // The names were checked with the configuration.
                    frontend.others = config
                        .backend_rules
                        .iter()
                        .filter_map(|rule| {
                            backends.iter().flatten().find(|backend| *backend.name == *rule.backend)
                        })
                        .cloned()
                        .collect();
                    Arc::new(frontend)
                });
                Section { config: config.clone(), frontend, backend: own.clone(), logger: logger.clone() }
            })
            .collect();
        let threads = global
            .nbthread
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .clamp(1, 64);
        Self {
            started,
            global,
            sections,
            counters: Counters::default(),
            maxconn,
            places: Arc::new(Semaphore::new(usize::try_from(maxconn).unwrap_or(usize::MAX))),
            threads,
            open_files,
            exhausted: AtomicU64::new(0),
        }
    }

    /// Servers whose names had no address at the start, as warnings.
    #[must_use]
    pub fn unresolved(&self) -> Diagnostics {
        let mut remarks = Diagnostics::new();
        let servers =
            self.sections.iter().filter_map(|section| section.backend.as_ref()).flat_map(|b| &b.servers);
        for server in servers.filter(|server| server.known_address().is_none()) {
            remarks.push(no_address(&server.config));
        }
        remarks
    }

    /// Opens all listening sockets.
    ///
    /// # Errors
    /// Says which address cannot be had and why.
    pub fn bind(&self) -> Result<Listeners, Failure> {
        let mut sockets = Vec::new();
        for frontend in self.sections.iter().filter_map(|section| section.frontend.as_ref()) {
            for bind in &frontend.config.binds {
                let options = ListenOptions {
                    reuse_port: false,
                    interface: bind.interface.clone(),
                    v6only: bind.v6only,
                    backlog: Some(bind.backlog.unwrap_or_else(|| frontend.limit.clamp(128, 65_535))),
                    transparent: bind.transparent,
                    freebind: false,
                    nodelay: false,
                };
                let socket = bind_tcp(bind.address, &options).map_err(|error| {
                    let failure = Failure::from(error);
                    if bind.place.line > 0 {
                        failure.detail("asked by", format!("{} line {}", bind.place.file, bind.place.line))
                    } else {
                        failure.detail("asked by", format!("section {}", frontend.name))
                    }
                })?;
                sockets.push((frontend.clone(), socket));
            }
        }
        Ok(Listeners { sockets })
    }

    /// A warning about missing descriptors, at most once a second.
    pub fn warn_exhausted(&self, error: &std::io::Error) {
        let second = Moment::since(self.started).0 / 1000 + 1;
        if self.exhausted.swap(second, Relaxed) != second {
            tracing::warn!(%error, open_files = self.open_files, "cannot accept for now; raise the limit of open files or lower maxconn");
        }
    }

    /// Lets other connections of this thread run.
    pub async fn yield_now(&self) {
        tokio::task::yield_now().await;
    }

    /// The section with this number.
    pub fn section_by_id(&self, id: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.config.id == id)
    }
}

/// How many connections the configuration and the limit of open files allow; raises the limit.
fn connection_limit(global: &Global) -> (u32, u64) {
    let wanted = global.maxconn.unwrap_or(DEFAULT_MAXCONN);
    let files = global.ulimit_n.unwrap_or(u64::from(wanted) * 2 + SPARE_FILES);
    let limit = daemon::privilege::raise_open_files(files);
    // Each connection has two sockets.
    let possible = u32::try_from(limit.saturating_sub(SPARE_FILES) / 2).unwrap_or(u32::MAX).max(1);
    if possible < wanted {
        if global.maxconn.is_some() {
            tracing::warn!(
                maxconn = wanted,
                possible,
                open_files = limit,
                "maxconn is lowered to what the limit of open files allows; raise LimitNOFILE or ulimit -n"
            );
        }
        return (possible, limit);
    }
    (wanted, limit)
}

/// Worker threads at work.
#[derive(Debug)]
pub struct Running {
    threads: Vec<std::thread::JoinHandle<()>>,
    loads: Vec<Arc<AtomicUsize>>,
    checks: tokio::task::JoinSet<()>,
    pages: tokio::task::JoinSet<()>,
}

/// Starts workers, checks and statistics pages. Call it on the control runtime.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(process: &Arc<Process>, listeners: Listeners, shutdown: &Shutdown) -> Result<Running, Failure> {
    let mut balanced: Vec<Vec<(Arc<Frontend>, std::net::TcpListener)>> =
        (0..process.threads).map(|_| Vec::new()).collect();
    let mut pages = tokio::task::JoinSet::new();
    let mut next = 0;
    for (frontend, socket) in listeners.sockets {
        if frontend.config.settings.mode == Mode::Http {
            let listener =
                TcpListener::from_std(socket).map_err(|error| os_failure("register a socket", &error))?;
            pages.spawn(stats::serve(process.clone(), frontend, listener, shutdown.token()));
        } else {
            balanced[next % process.threads].push((frontend, socket));
            next += 1;
        }
    }
    let (workers, inboxes): (Vec<Worker>, Vec<_>) = (0..process.threads)
        .map(|_| {
            let (inbox, receiver) = mpsc::unbounded_channel();
            (Worker { inbox, load: Arc::new(AtomicUsize::new(0)) }, receiver)
        })
        .unzip();
    let loads = workers.iter().map(|worker| worker.load.clone()).collect();
    let workers: Arc<[Worker]> = workers.into();
    let mut threads = Vec::new();
    for (index, (sockets, inbox)) in balanced.into_iter().zip(inboxes).enumerate() {
        let (process, workers, stop) = (process.clone(), workers.clone(), shutdown.token());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || work(process, sockets, inbox, workers, index, stop))
            .map_err(|error| os_failure("start a thread", &error))?;
        threads.push(thread);
    }
    let backends: Vec<_> = process
        .sections
        .iter()
        .filter_map(|section| Some((section.backend.clone()?, section.logger.clone())))
        .collect();
    let checks = check::start(&backends, &process.global, &shutdown.token());
    Ok(Running { threads, loads, checks, pages })
}

fn os_failure(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::OsError, format!("cannot {what}: {error}"))
}

/// The life of a worker thread.
fn work(
    process: Arc<Process>,
    sockets: Vec<(Arc<Frontend>, std::net::TcpListener)>,
    mut inbox: mpsc::UnboundedReceiver<(Arc<Frontend>, Accepted)>,
    workers: Arc<[Worker]>,
    here: usize,
    mut stop: ShutdownToken,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start a worker");
            return;
        }
    };
    runtime.block_on(async move {
        for (frontend, socket) in sockets {
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let accepting = frontend::accept(
                        process.clone(),
                        frontend,
                        listener,
                        workers.clone(),
                        here,
                        stop.clone(),
                    );
                    tokio::spawn(accepting);
                }
                Err(error) => {
                    tracing::error!(%error, frontend = %frontend.name, "cannot register a listener");
                }
            }
        }
        loop {
            tokio::select! {
                () = stop.forced() => return,
                received = inbox.recv() => match received {
                    Some((frontend, accepted)) => {
                        frontend::spawn(process.clone(), frontend, accepted, workers[here].load.clone());
                    }
                    None => return,
                },
            }
        }
    });
    // Dropping the runtime closes every connection that is left.
    runtime.shutdown_background();
}

impl Running {
    /// Connections at work.
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Relaxed)).sum()
    }

    /// After a soft stop: waits until no connection is left, or `limit` has passed.
    pub async fn drained(&self, limit: Option<Duration>) {
        let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
        while self.connections() > 0 {
            if deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
                tracing::warn!(connections = self.connections(), "hard-stop-after has passed");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// After an immediate stop: waits for the threads.
    pub async fn join(mut self) {
        self.checks.abort_all();
        self.pages.abort_all();
        for thread in self.threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
        while self.checks.join_next().await.is_some() {}
        while self.pages.join_next().await.is_some() {}
    }
}
