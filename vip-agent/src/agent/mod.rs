//! The agent: one loop that reads adverts, fires timers and carries out what the instances decide.
//!
//! Each turn reads every socket empty before it fires timers. After a stall, adverts that waited in a
//! socket thus keep their master alive, and nobody flaps because this host was slow.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;
use daemon::signals::{Signal, Signals};
use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use vrrp::{Effect, State, Tracking, priority};

use crate::claim::Claims;
use crate::config::{AgentConfig, RouterConfig};
use crate::dump;
use crate::guard::Guard;
use crate::host::Host;
use crate::instance::{Router, Tools};
use crate::net::netlink::{Event, Netlink, NetlinkError};
use crate::notify::Notifier;
use crate::status::{self, StatusServer};
use crate::tracker::script::{ScriptResult, Scripts};
use crate::virtual_server::VirtualServers;

mod group;
mod reload;
mod statics;
pub(crate) mod weights;

/// Somebody asks for the status.
pub(crate) type StatusRequest = oneshot::Sender<String>;

/// What the command line decided.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) config_path: PathBuf,
    /// What `@` lines are compared with (`-i`).
    pub(crate) config_id: Option<String>,
    pub(crate) runtime_dir: PathBuf,
    /// Leave the addresses where they are at the end (`-V`).
    pub(crate) keep_addresses: bool,
    /// Leave the rules of virtual servers at the end (`-I`).
    pub(crate) keep_rules: bool,
    /// Only VRRP (`-P`).
    pub(crate) no_virtual_servers: bool,
}

impl Options {
    /// What the command line changes about a configuration. Addresses that are to stay must neither
    /// expire nor be given up by a guard.
    fn applied_to(&self, mut config: AgentConfig) -> AgentConfig {
        if self.keep_addresses {
            config.global.address_lease = Duration::ZERO;
            config.global.guard = false;
        }
        if self.no_virtual_servers {
            config.virtual_servers.clear();
        }
        config
    }
}

/// The running agent.
pub(crate) struct Agent {
    options: Options,
    config: AgentConfig,
    started: Instant,
    host: Host,
    routers: Vec<Router>,
    claims: Claims,
    scripts: Scripts,
    notifier: Notifier,
    virtual_servers: VirtualServers,
    guard: Option<Guard>,
    /// When the service manager is next told that we live.
    watchdog: Option<(Duration, Duration)>,
    /// State of each sync group when it was last told.
    group_states: Vec<Option<State>>,
    stopping: bool,
}

/// What can wake the agent.
enum Wake {
    Signal(Signal),
    Link(Option<Event>),
    Script(ScriptResult),
    Status(StatusRequest),
    /// SIGRTMIN+2: the dump in JSON.
    Json,
    Readable,
    Time,
}

/// The ends the loop waits on.
struct Inboxes {
    signals: Signals,
    events: Pin<Box<dyn Stream<Item = Event>>>,
    results: mpsc::UnboundedReceiver<ScriptResult>,
    requests: mpsc::Receiver<StatusRequest>,
    json: tokio::signal::unix::Signal,
}

/// Runs until told to stop.
///
/// # Errors
///
/// What keeps it from starting, with what to do about it.
pub(crate) async fn run(options: Options, config: AgentConfig) -> Result<(), Failure> {
    let config = options.applied_to(config);
    let signals = Signals::new().map_err(|error| os_failure("cannot listen to signals", &error))?;
    let json =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(crate::cli::json_signal()))
            .map_err(|error| os_failure("cannot listen to signals", &error))?;
    let (netlink, events) = Netlink::open().map_err(|error| os_failure("cannot open netlink", &error))?;
    let links = netlink
        .links()
        .await
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot list the interfaces: {error}")))?;
    let host = Host::new(netlink, links, config.global.clone());
    let (scripts, results) = Scripts::new();
    let (request_sender, requests) = mpsc::channel(16);
    let (shutdown, stop) = daemon::shutdown::Shutdown::new();
    if let Some(address) = config.global.http {
        crate::http::start(address, request_sender.clone(), stop)?;
    }
    let server = StatusServer::start(&options.runtime_dir, request_sender);
    let guard = if config.global.guard { Guard::start() } else { None };
    let mut agent = Agent {
        options,
        started: Instant::now(),
        host,
        routers: Vec::new(),
        claims: Claims::default(),
        scripts,
        notifier: Notifier::start(),
        virtual_servers: VirtualServers::start(&config),
        guard,
        watchdog: daemon::notify::watchdog_interval().map(|interval| (Duration::ZERO, interval)),
        group_states: Vec::new(),
        stopping: false,
        config,
    };
    let mut inboxes = Inboxes { signals, events: Box::pin(events), results, requests, json };
    agent.start().await?;
    if agent.config.global.realtime {
        crate::realtime::enable(agent.config.global.realtime_priority);
    }
    daemon::notify::ready(&agent.summary());
    agent.turn(&mut inboxes).await;
    if !agent.options.keep_addresses {
        agent.drop_statics(&agent.config.static_addresses, &agent.config.static_routes).await;
    }
    let Agent { notifier, guard, virtual_servers, options, .. } = agent;
    virtual_servers.stop(options.keep_rules).await;
    if let Some(guard) = guard {
        guard.dismiss();
    }
    notifier.finish().await;
    drop(server);
    drop(shutdown);
    tracing::info!("stopped");
    Ok(())
}

impl Agent {
    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn config(&self) -> &AgentConfig {
        &self.config
    }

    pub(crate) fn links(&self) -> &[crate::net::netlink::Link] {
        &self.host.links
    }

    pub(crate) fn routers(&self) -> &[Router] {
        &self.routers
    }

    pub(crate) fn virtual_servers(&self) -> &VirtualServers {
        &self.virtual_servers
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Opens everything and brings the instances into play.
    async fn start(&mut self) -> Result<(), Failure> {
        check_interfaces(&self.config, &self.host.names())?;
        self.notifier.use_fifo(&self.config.global);
        let now = self.now();
        self.scripts.configure(&self.config.scripts, now);
        self.put_statics().await;
        for config in self.config.instances.clone() {
            self.claims.claim_at_start(&config).await.map_err(|error| claim_failure(&config, &error))?;
            let mut router = Router::new(config);
            router.prepare(&mut self.host).await.map_err(|error| vmac_failure(&router.config, &error))?;
            router.attach(&self.host).map_err(|error| socket_failure(&router.config, &error))?;
            self.routers.push(router);
        }
        self.group_states = vec![None; self.config.groups.len()];
        self.regroup();
        for index in 0..self.routers.len() {
            self.start_router(index).await;
        }
        tracing::info!(router_id = self.config.global.router_id, instances = self.routers.len(), "started");
        Ok(())
    }

    async fn start_router(&mut self, index: usize) {
        let now = self.now();
        let tracking = self.routers[index].tracking(self.tracked(&self.routers[index].config));
        let mut effects = Vec::new();
        self.routers[index].core.track(now, tracking, &mut effects);
        self.routers[index].core.start(now, &mut effects);
        self.carry_out(index, effects).await;
    }

    /// The loop.
    async fn turn(&mut self, inboxes: &mut Inboxes) {
        loop {
            let more = self.read_sockets().await;
            self.fire_timers().await;
            if self.stopping && self.routers.iter().all(|router| router.stopped) {
                return;
            }
            if more {
                // A flood must not starve the rest.
                tokio::task::yield_now().await;
            }
            match self.wait(inboxes, more).await {
                Wake::Signal(signal) => self.signal(signal).await,
                Wake::Link(Some(event)) => self.link_event(event).await,
                Wake::Link(None) => {
                    tracing::error!("netlink is closed; stopping, because links cannot be watched any more");
                    self.stop().await;
                    // The stream stays closed; wait for the rest without it.
                    inboxes.events = Box::pin(futures_util::stream::pending());
                }
                Wake::Script(result) => {
                    if self.scripts.result(result) {
                        self.track_all().await;
                    }
                }
                Wake::Status(request) => {
                    // Nobody waits any more when this fails.
                    let _ = request.send(status::json(self));
                }
                Wake::Json => dump::json(self),
                Wake::Readable | Wake::Time => {}
            }
        }
    }

    async fn wait(&self, inboxes: &mut Inboxes, at_once: bool) -> Wake {
        let deadline = if at_once { Some(Duration::ZERO) } else { self.next_deadline() };
        let readable = std::future::poll_fn(|context| {
            // Every router is asked, so that each leaves its waker.
            let ready = self.routers.iter().fold(false, |any, router| router.poll_readable(context) | any);
            if ready { Poll::Ready(()) } else { Poll::Pending }
        });
        let time = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(self.started + at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = readable => Wake::Readable,
            () = time => Wake::Time,
            event = inboxes.events.next() => Wake::Link(event),
            signal = inboxes.signals.recv() => Wake::Signal(signal),
            Some(result) = inboxes.results.recv() => Wake::Script(result),
            Some(request) = inboxes.requests.recv() => Wake::Status(request),
            Some(()) = inboxes.json.recv() => Wake::Json,
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let routers = self.routers.iter().filter(|router| !router.stopped).filter_map(Router::next_deadline);
        let scripts = if self.stopping { None } else { self.scripts.next_deadline() };
        routers.chain(scripts).chain(self.watchdog.map(|(at, _)| at)).min()
    }

    /// Reads every socket; answers whether more may wait.
    async fn read_sockets(&mut self) -> bool {
        let mut more = false;
        for index in 0..self.routers.len() {
            let mut effects = Vec::new();
            let now = self.now();
            more |= self.routers[index].receive(now, &mut effects);
            self.routers[index].look_for_conflicts(&self.host, now);
            self.carry_out(index, effects).await;
            self.weigh(index);
        }
        more
    }

    async fn fire_timers(&mut self) {
        let now = self.now();
        for index in 0..self.routers.len() {
            if self.routers[index].core.next_deadline().is_some_and(|at| at <= now) {
                let mut effects = Vec::new();
                self.routers[index].core.timer(now, &mut effects);
                self.carry_out(index, effects).await;
            }
            let (router, mut tools) = self.parts(index);
            router.housekeeping(&mut tools).await;
        }
        if let Some((at, interval)) = self.watchdog.as_mut().filter(|(at, _)| *at <= now) {
            *at = now + *interval;
            daemon::notify::watchdog();
        }
        if !self.stopping {
            self.scripts.run_due(now, self.config.global.script_user);
        }
        let before = self.routers.len();
        self.routers.retain(|router| !(router.leaving && router.stopped));
        if self.routers.len() < before {
            self.claims.keep(self.routers.iter().map(|router| &router.config));
        }
    }

    fn parts(&mut self, index: usize) -> (&mut Router, Tools<'_>) {
        let now = self.started.elapsed();
        (&mut self.routers[index], Tools { host: &mut self.host, notifier: &self.notifier, now })
    }

    /// Carries out the effects of one instance, tells the guard, and lets its group follow.
    async fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let moved = effects.iter().any(|effect| matches!(effect, Effect::Transition { .. }));
        let wants = effects.contains(&Effect::WantsMaster);
        // The guard must know of an address before it is there.
        if effects.contains(&Effect::AddAddresses) {
            self.tell_guard(Some(index));
        }
        let keep = self.options.keep_addresses && self.stopping;
        let effects: Vec<Effect> =
            effects.into_iter().filter(|effect| !(keep && *effect == Effect::RemoveAddresses)).collect();
        let (router, mut tools) = self.parts(index);
        router.carry_out(effects, &mut tools).await;
        if moved {
            self.tell_guard(None);
            Box::pin(self.group_follows(index)).await;
        }
        if wants {
            Box::pin(self.group_wants_master(index)).await;
        }
    }

    /// Tells the guard who holds addresses; `also` is about to.
    fn tell_guard(&mut self, also: Option<usize>) {
        if let Some(guard) = &mut self.guard {
            let holders = self.routers.iter().enumerate().filter(|(index, router)| {
                Some(*index) == also || (router.core.state().holds_addresses() && !router.stopped)
            });
            guard.tell(holders.map(|(_, router)| router), &self.host);
        }
    }

    /// What scripts and tracked interfaces say about a router.
    fn tracked(&self, config: &RouterConfig) -> Tracking {
        let scripts = config.track_scripts.iter().filter_map(|track| {
            let view = self.scripts.view(&track.name)?;
            let weight = track.weight.unwrap_or(view.config.weight);
            let reverse = track.reverse.unwrap_or(view.config.reverse);
            Some(match view.value {
                Some(value) => priority::value_contribution(weight, reverse, value),
                None => priority::contribution(weight, reverse, view.status),
            })
        });
        let interfaces = config.track_interfaces.iter().map(|track| {
            let up = self.host.link(&track.name).is_some_and(|link| link.up);
            let status = if up { priority::TrackStatus::Good } else { priority::TrackStatus::Failed };
            priority::contribution(track.weight, false, status)
        });
        scripts.chain(interfaces).fold(Tracking::default(), std::ops::Add::add)
    }

    /// Something that is tracked changed.
    async fn track_all(&mut self) {
        for index in 0..self.routers.len() {
            let tracking = self.routers[index].tracking(self.tracked(&self.routers[index].config));
            if tracking != self.routers[index].core.tracking() {
                let mut effects = Vec::new();
                let now = self.now();
                self.routers[index].core.track(now, tracking, &mut effects);
                self.carry_out(index, effects).await;
            }
        }
    }

    async fn link_event(&mut self, event: Event) {
        let before = self.host.links.clone();
        self.host.follow(&event);
        if before == self.host.links {
            return;
        }
        if let Event::Link { name, up, .. } = &event
            && before.iter().any(|link| link.name == *name && link.up != *up)
        {
            tracing::info!(interface = name, up, "link");
        }
        for index in 0..self.routers.len() {
            let (router, tools) = self.parts(index);
            if let Err(error) = router.attach(tools.host) {
                tracing::error!(instance = router.name(), %error, "cannot reopen the socket");
            }
        }
        self.track_all().await;
        if let Event::AddressGone { index: link, address } = event {
            for index in 0..self.routers.len() {
                let (router, mut tools) = self.parts(index);
                router.address_gone(link, address.address, &mut tools).await;
            }
        }
    }

    async fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Terminate | Signal::Interrupt | Signal::Quit => self.stop().await,
            Signal::Hangup if !self.stopping => {
                daemon::notify::reloading();
                self.reload().await;
                daemon::notify::ready(&self.summary());
            }
            Signal::Hangup => {}
            Signal::User1 => dump::data(self),
            Signal::User2 => dump::statistics(self),
        }
    }

    /// Stops every instance; a second call does not wait for successors.
    async fn stop(&mut self) {
        if !self.stopping {
            tracing::info!("stopping");
            daemon::notify::stopping();
        }
        self.stopping = true;
        for index in 0..self.routers.len() {
            self.stop_router(index).await;
        }
    }

    async fn stop_router(&mut self, index: usize) {
        if self.routers[index].stopped {
            return;
        }
        let mut effects = Vec::new();
        let now = self.now();
        self.routers[index].core.stop(now, &mut effects);
        self.carry_out(index, effects).await;
    }

    fn summary(&self) -> String {
        let states = self.routers.iter().filter(|router| router.is_running());
        let states: Vec<String> =
            states.map(|router| format!("{} {}", router.name(), router.core.state().word())).collect();
        states.join(", ")
    }
}

/// Every interface a configuration names must be among `names`.
pub(crate) fn check_interfaces(config: &AgentConfig, names: &[String]) -> Result<(), Failure> {
    for router in &config.instances {
        let tracked = router.track_interfaces.iter().map(|track| &track.name);
        let devices = router.addresses.iter().filter_map(|vip| vip.dev.as_ref());
        for name in std::iter::once(&router.interface).chain(tracked).chain(devices) {
            if names.contains(name) {
                continue;
            }
            let message =
                format!("instance {}: there is no interface `{name}` on this host", router.core.name);
            let mut failure = Failure::new(Exit::Config, message).detail("interfaces", names.join(", "));
            if let Some(near) = daemon::diagnostic::suggest(name, names.iter().map(String::as_str)) {
                failure = failure.detail("try", format!("interface {near}"));
            }
            return Err(failure);
        }
    }
    Ok(())
}

fn os_failure(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::OsError, format!("{what}: {error}"))
}

fn vmac_failure(config: &RouterConfig, error: &NetlinkError) -> Failure {
    let (name, vmac) = (&config.core.name, config.vmac.as_deref().unwrap_or_default());
    Failure::new(Exit::OsError, format!("instance {name}: cannot make the interface {vmac}: {error}"))
        .detail("try", "take use_vmac out; the address still moves, by gratuitous ARP")
}

fn claim_failure(config: &RouterConfig, error: &std::io::Error) -> Failure {
    let (name, interface, router, _, _) = config.key();
    if error.kind() == std::io::ErrorKind::AddrInUse {
        let message =
            format!("instance {name}: another vip-agent runs virtual router {router} on {interface} already");
        return Failure::new(Exit::CannotCreate, message)
            .detail("see", "vip-agent status")
            .detail("try", "stop it first, or use another virtual_router_id");
    }
    Failure::new(Exit::OsError, format!("instance {name}: cannot claim the virtual router: {error}"))
}

fn socket_failure(config: &RouterConfig, error: &std::io::Error) -> Failure {
    let name = &config.core.name;
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return no_permission(format!("instance {name}: may not open a raw socket: {error}"));
    }
    Failure::new(
        Exit::OsError,
        format!("instance {name}: cannot open a VRRP socket on {}: {error}", config.interface),
    )
}

/// The failure when a capability is missing.
pub(crate) fn no_permission(message: String) -> Failure {
    Failure::new(Exit::NoPermission, message)
        .detail("needs", "CAP_NET_ADMIN and CAP_NET_RAW")
        .detail("try", "run it as root, or under systemd with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW")
}
