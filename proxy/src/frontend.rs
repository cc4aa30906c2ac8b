//! Accepting connections and giving each to the least loaded worker.
//!
//! A [`Frontend`] never changes: a reload makes another one, which shares counters and places with the one
//! before, and gives it to the listeners. A session keeps the one it began with.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::sync::watch;

use crate::backend::Backend;
use crate::config::rules::{Facts, expects_proxy};
use crate::config::{Bind, ProxyConfig};
use crate::counters::{Counters, Moment};
use crate::limit::{Place, Places};
use crate::listener::{Assignment, Key, Phase};
use crate::pace::Pace;
use crate::process::Process;
use crate::reactor::{self, Listener};
use crate::registry::{Errand, Worker};
use crate::session::{self, Accepted};
use crate::syslog::Logger;
use crate::tcplog::Style;

/// Pause after the system refused a connection for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Connections taken from the kernel before others get a turn.
const BURST: usize = 32;

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
    pub places: Arc<Places>,
    /// Where its lines go.
    pub logger: Logger,
    /// Its addresses, in the order of the configuration.
    pub entrances: Vec<Arc<Entrance>>,
    /// How its lines are written.
    pub style: Style,
    /// No longer accepting.
    pub stopped: Arc<AtomicBool>,
    /// Rules wait for what clients send.
    pub inspects: bool,
    /// Most new sessions in a second (`rate-limit sessions`).
    pub pace: Arc<Pace>,
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
            places: Arc::new(Places::new(limit)),
            logger,
            entrances: Entrance::all(&config),
            style: Style::of(&config.settings),
            stopped: Arc::default(),
            inspects: config.inspect_delay.is_some() && config.looks_at_content(),
            pace: Arc::new(Pace::new(config.settings.rate_limit_sessions)),
            config,
        }
    }

    /// Goes on where the frontend of the same name before a reload was: the same counters, the same places.
    /// The number of places is changed by the reload.
    pub fn inherit(&mut self, before: &Self) {
        self.counters = before.counters.clone();
        self.places = before.places.clone();
        self.stopped = before.stopped.clone();
        self.pace = before.pace.clone();
        for entrance in &mut self.entrances {
            let same = |before: &&Arc<Entrance>| Key::of(&before.bind) == Key::of(&entrance.bind);
            let Some(before) = before.entrances.iter().find(same) else { continue };
            // Nobody else has it yet.
            let Some(entrance) = Arc::get_mut(entrance) else { continue };
            if let (Some(places), Some(limit)) = (&before.places, entrance.bind.maxconn) {
                places.set_limit(limit);
                entrance.places = Some(places.clone());
            }
            if let (Some(counters), Some(_)) = (&before.counters, &entrance.counters) {
                entrance.counters = Some(counters.clone());
            }
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
        } else if self.places.is_full() {
            "FULL"
        } else {
            "OPEN"
        }
    }
}

/// An address of a frontend.
#[derive(Debug)]
pub struct Entrance {
    /// What the configuration says about it.
    pub bind: Bind,
    /// Its name in log lines: that of `name`, or its number.
    pub name: String,
    /// Its own places, when it has a limit.
    pub places: Option<Arc<Places>>,
    /// Its number inside the section (`id`, or counted from 1).
    pub id: u32,
    /// Its own counters (`option socket-stats`).
    pub counters: Option<Arc<Counters>>,
    /// The frontend has a rule `expect-proxy`.
    rules: Option<Arc<ProxyConfig>>,
}

impl Entrance {
    fn all(config: &Arc<ProxyConfig>) -> Vec<Arc<Self>> {
        let asks = config
            .client_rules
            .iter()
            .any(|rule| rule.action == crate::config::rules::ClientAction::ExpectProxy);
        let one = |(index, bind): (usize, &Bind)| {
            let mut entrance = Self::new(bind.clone(), index, asks.then(|| config.clone()));
            entrance.counters = config.settings.socket_stats.then(Arc::default);
            Arc::new(entrance)
        };
        config.binds.iter().enumerate().map(one).collect()
    }

    fn new(bind: Bind, index: usize, rules: Option<Arc<ProxyConfig>>) -> Self {
        Self {
            name: bind.name.clone().unwrap_or_else(|| (index + 1).to_string()),
            places: bind.maxconn.map(|limit| Arc::new(Places::new(limit))),
            id: bind.id.unwrap_or_else(|| u32::try_from(index + 1).unwrap_or(u32::MAX)),
            counters: None,
            bind,
            rules,
        }
    }

    /// Whether its clients begin with their own bytes: no PROXY header, no TLS.
    pub fn is_plain(&self) -> bool {
        !self.bind.accept_proxy && self.bind.tls.is_none() && self.rules.is_none()
    }

    /// A rule kept a client out that came through here.
    pub fn count_denied(&self) {
        if let Some(counters) = &self.counters {
            counters.denied.fetch_add(1, Relaxed);
        }
    }

    /// These counters, and its own when it has some.
    pub fn counters_beside<'a>(&'a self, others: &'a Counters) -> impl Iterator<Item = &'a Counters> {
        std::iter::once(others).chain(self.counters.as_deref())
    }

    /// Whether a rule asks this client for a PROXY header.
    pub fn expects_proxy(&self, peer: SocketAddr) -> bool {
        self.rules.as_ref().is_some_and(|config| expects_proxy(&config.client_rules, &peer))
    }
}

impl Frontend {
    /// Whether a session's addresses are to be known for its line in the log.
    pub fn logs_addresses(&self) -> bool {
        !self.logger.is_silent() && self.style.shows_addresses()
    }

    /// The address of this line of the configuration.
    pub fn entrance_of(&self, bind: &Bind) -> Arc<Entrance> {
        let found = self.entrances.iter().find(|entrance| entrance.bind == *bind);
        found.cloned().unwrap_or_else(|| self.entrance(&Key::of(bind)))
    }

    /// The address that a socket was opened for; a plain one when it is none of this frontend's.
    pub fn entrance(&self, key: &Key) -> Arc<Entrance> {
        let found = self.entrances.iter().find(|entrance| Key::of(&entrance.bind) == *key);
        let plain = || Bind::new(key.address.clone(), self.config.place.clone());
        found.cloned().unwrap_or_else(|| Arc::new(Entrance::new(plain(), 0, None)))
    }
}

/// What the one who accepts was woken for.
enum Turn {
    /// Connections may wait, and there are places.
    Accept,
    /// The assignment is another one.
    Changed,
    /// Nobody assigns any more.
    Ended,
}

/// Accepts on one socket until it is told to end. Every worker does, on worker `here`.
pub async fn accept(
    process: Arc<Process>,
    socket: Arc<OwnedFd>,
    mut assignment: watch::Receiver<Assignment>,
    workers: Arc<[Worker]>,
    here: usize,
) {
    let listener = match Listener::new(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot register a listener");
            return;
        }
    };
    loop {
        let Assignment { frontend, entrance, phase } = assignment.borrow_and_update().clone();
        let acceptor =
            Acceptor { process: &process, frontend: &frontend, entrance: &entrance, workers: &workers, here };
        // Until something changes, the same frontend takes them all.
        loop {
            match acceptor.turn(&listener, &mut assignment, phase).await {
                Turn::Accept => {}
                Turn::Changed => break,
                Turn::Ended => return,
            }
            match acceptor.burst(&listener) {
                // Those that waited are taken; nobody is told about this socket any more.
                Ok(false) if phase == Phase::Closing => return,
                Ok(_) => reactor::yield_now().await,
                Err(error) if is_exhausted(&error) => {
                    process.warn_exhausted(&error);
                    reactor::sleep(BACK_OFF).await;
                }
                Err(error) => {
                    tracing::debug!(%error, frontend = %frontend.name, "cannot accept");
                    reactor::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// One who accepts, with what that needs.
struct Acceptor<'a> {
    process: &'a Arc<Process>,
    frontend: &'a Arc<Frontend>,
    entrance: &'a Arc<Entrance>,
    workers: &'a Arc<[Worker]>,
    here: usize,
}

impl Acceptor<'_> {
    /// Waits until there is something to do. No place is held while nobody comes, so that several listeners of
    /// one frontend do not take each other's.
    async fn turn(
        &self,
        listener: &Listener,
        assignment: &mut watch::Receiver<Assignment>,
        phase: Phase,
    ) -> Turn {
        let mut changed = std::pin::pin!(assignment.changed());
        let mut pause: Option<reactor::Sleep> = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(changed) = changed.as_mut().poll(context) {
                return Poll::Ready(if changed.is_ok() { Turn::Changed } else { Turn::Ended });
            }
            if phase != Phase::Closing {
                ready!(listener.poll_ready(context));
            }
            ready!(self.process.places.poll_free(context));
            ready!(self.frontend.places.poll_free(context));
            if self.speaks_tls() {
                ready!(self.process.tls_places.poll_free(context));
            }
            if let Some(places) = &self.entrance.places {
                ready!(places.poll_free(context));
            }
            // Rates: as often as it takes.
            while let Some(wait) = self.wait() {
                let sleep = pause.get_or_insert_with(|| reactor::sleep(wait));
                ready!(Pin::new(sleep).poll(context));
                pause = None;
            }
            Poll::Ready(Turn::Accept)
        })
        .await
    }

    fn speaks_tls(&self) -> bool {
        self.entrance.bind.tls.is_some()
    }

    /// The rates that a connection counts in here.
    fn paces(&self) -> impl Iterator<Item = &Pace> {
        let paces = &self.process.paces;
        let tls = self.speaks_tls().then_some(&paces.tls);
        [&paces.connections, &paces.sessions, &*self.frontend.pace].into_iter().chain(tls)
    }

    /// How long to wait because of a rate.
    fn wait(&self) -> Option<Duration> {
        let now = || Moment::at(self.process.started, reactor::now());
        self.paces().filter_map(|pace| pace.wait(now)).max()
    }

    /// Accepts what waits, as far as there are places. Says whether more may wait.
    fn burst(&self, listener: &Listener) -> std::io::Result<bool> {
        for _ in 0..BURST {
            let Some(places) = self.places() else { return Ok(true) };
            if self.wait().is_some() {
                return Ok(true);
            }
            match listener.accept() {
                Ok(None) => return Ok(false),
                Ok(Some((socket, peer))) => {
                    let now = || Moment::at(self.process.started, reactor::now());
                    self.paces().for_each(|pace| pace.count(now));
                    let client = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.give(socket, client, places);
                }
                // The client was gone before we came (accept(2)); go on with the next.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn places(&self) -> Option<[Option<Place>; 4]> {
        let process = self.process.places.take()?;
        let frontend = self.frontend.places.take()?;
        let entrance = match &self.entrance.places {
            Some(places) => Some(places.take()?),
            None => None,
        };
        let tls = if self.speaks_tls() { Some(self.process.tls_places.take()?) } else { None };
        Some([Some(process), Some(frontend), entrance, tls])
    }

    /// Here, unless another worker has clearly less to do: few long-lived connections spread badly by chance,
    /// but moving one costs more than one too many.
    fn give(&self, socket: OwnedFd, client: Option<SocketAddr>, places: [Option<Place>; 4]) {
        let load = |worker: &Worker| worker.load.load(Relaxed);
        let Some(mine) = self.workers.get(self.here) else { return };
        let least = self.workers.iter().min_by_key(|worker| load(worker)).unwrap_or(mine);
        let moves = load(mine) > load(least) + load(least) / 8;
        let worker = if moves { least } else { mine };
        let accepted = Accepted {
            socket,
            entrance: self.entrance.clone(),
            client,
            at: reactor::now(),
            load: Load::new(worker),
            _places: places,
        };
        if moves {
            // A worker that has ended has closed its sessions; so is this one then.
            let _ = worker.inbox.send(Errand::Serve(self.frontend.clone(), accepted));
        } else {
            spawn(self.process.clone(), self.frontend.clone(), accepted);
        }
    }
}

/// A connection counted in a worker's load.
#[derive(Debug)]
pub struct Load(Arc<std::sync::atomic::AtomicUsize>);

impl Load {
    fn new(worker: &Worker) -> Self {
        worker.load.fetch_add(1, Relaxed);
        Self(worker.load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EMFILE | nix::libc::ENFILE | nix::libc::ENOBUFS | nix::libc::ENOMEM)
    )
}

/// Starts a connection's life on this thread.
pub fn spawn(process: Arc<Process>, frontend: Arc<Frontend>, accepted: Accepted) {
    reactor::spawn(session::run(process, frontend, accepted));
}
