//! One server: where it is, how it is, what may be sent to it.
//!
//! A server lives as long as the configuration names it: a reload gives it another configuration, while
//! its counters, its health, what operators ordered and its sessions stay.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::Backend;
use crate::check::connect::Where;
use crate::condition::{Admin, Condition, Forced, Transition};
use crate::config::address::{Host, Names, Port, ServerAddress};
use crate::config::{ServerConfig, ServerOptions};
use crate::counters::Counters;
use crate::server_state::State;

/// Parts of a unit of weight, so that weights can grow slowly (HAProxy: BE_WEIGHT_SCALE).
pub const WEIGHT_SCALE: u32 = 16;

/// A server of a backend.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    name: Arc<str>,
    /// Its configuration, as the last reload left it.
    config: ArcSwap<ServerConfig>,
    /// `maxconn` of the configuration or of an operator, for the fast path; `u32::MAX` is none.
    maxconn: AtomicU32,
    /// `minconn`; as `maxconn` when unset.
    minconn: AtomicU32,
    /// Most connections now: `maxconn`, less while it starts slowly or the backend has few.
    limit: AtomicU32,
    /// The backend's name.
    pub backend: Arc<str>,
    /// Its address; `None` while its name is unknown, or when it is a unix socket.
    address: ArcSwapOption<SocketAddr>,
    /// It is a unix socket: its address is always known.
    is_local: AtomicBool,
    /// Weight as an operator set it.
    weight: AtomicU32,
    /// Connections that hold or were promised a place.
    pub served: AtomicU32,
    /// When it was chosen or left last, counted by the backend: decides between equals.
    pub(crate) touched: AtomicU64,
    /// May take new connections; a summary of `condition` for the fast path.
    usable: AtomicBool,
    /// Its sessions are watched for failures (`observe`).
    observed: AtomicBool,
    /// No longer in the configuration: it only finishes what it has.
    retired: AtomicBool,
    /// Everything about its state.
    condition: Mutex<Condition>,
    /// The server whose state it takes.
    tracked: Mutex<Weak<Server>>,
    /// Servers that take this one's state.
    trackers: Mutex<Vec<(Weak<Backend>, Weak<Server>)>>,
    /// Checks earlier than planned.
    pub(crate) hurry: Notify,
    /// Counters.
    pub counters: Counters,
}

/// What an operator can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Work normally.
    Ready,
    /// Take no new connections.
    Drain,
    /// Take none and run no checks.
    Maintenance,
}

impl Server {
    /// A server at the beginning of its life.
    pub fn new(config: ServerConfig, backend: Arc<str>, now: Instant) -> Self {
        let address = config.first_address(&mut Names::default());
        Self::with_address(config, address, backend, now)
    }

    /// As [`Server::new`], with the address that it begins with.
    pub fn with_address(
        config: ServerConfig,
        address: Option<SocketAddr>,
        backend: Arc<str>,
        now: Instant,
    ) -> Self {
        let mut condition = Condition::new(&config.options, now);
        let is_local = matches!(config.address.host, Host::Unix(_) | Host::Abstract(_));
        if address.is_none() && !is_local {
            condition.order(Admin::NO_ADDRESS, true, now);
        }
        let server = Self {
            name: config.name.as_str().into(),
            maxconn: AtomicU32::new(u32::MAX),
            minconn: AtomicU32::new(u32::MAX),
            limit: AtomicU32::new(u32::MAX),
            backend,
            address: ArcSwapOption::new(address.map(Arc::new)),
            is_local: AtomicBool::new(is_local),
            weight: AtomicU32::new(config.options.weight),
            served: AtomicU32::new(0),
            touched: AtomicU64::new(0),
            usable: AtomicBool::new(false),
            observed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            condition: Mutex::new(condition),
            tracked: Mutex::new(Weak::new()),
            trackers: Mutex::new(Vec::new()),
            hurry: Notify::new(),
            counters: Counters::default(),
            config: ArcSwap::from_pointee(config),
        };
        server.adopt_options();
        server.refresh();
        server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration at present.
    pub fn config(&self) -> Guard<Arc<ServerConfig>> {
        self.config.load()
    }

    /// Gives it another configuration with an address that was looked up before. Health starts anew when
    /// the address or the check is another one; weight and maintenance follow the file where the file
    /// changed, and stay as operators set them where it did not. Returns whether it came up or went down;
    /// tell the backend afterwards.
    pub fn reconfigure(
        &self,
        config: ServerConfig,
        address: Option<SocketAddr>,
        now: Instant,
    ) -> Option<bool> {
        let old = self.config.load_full();
        let (before, after) = (&old.options, &config.options);
        let mut condition = self.condition.lock();
        let was = (condition.state, condition.admin);
        let moved = old.address != config.address;
        if moved || checks_differ(before, after) {
            let (down_before, downs) = (condition.down_before, condition.downs);
            *condition = restart(&condition, after, now);
            (condition.down_before, condition.downs) = (down_before, downs);
        } else if (before.rise, before.fall) != (after.rise, after.fall) {
            let was_well = condition.health.is_up();
            condition.health = crate::check::state::Health::new(after.rise, after.fall);
            condition.health.force(was_well);
        }
        condition.adopt_slowstart(after);
        if before.disabled != after.disabled {
            condition.order(Admin::FORCED_MAINTENANCE, after.disabled, now);
        }
        let is_local = matches!(config.address.host, Host::Unix(_) | Host::Abstract(_));
        let known = if moved { address.is_some() } else { self.address.load().is_some() };
        condition.order(Admin::NO_ADDRESS, !known && !is_local, now);
        let turned = Transition { before: was, after: (condition.state, condition.admin) }.turned();
        drop(condition);
        if before.weight != after.weight {
            self.weight.store(after.weight, Relaxed);
        }
        if moved {
            self.address.store(address.map(Arc::new));
            self.is_local.store(is_local, Relaxed);
        }
        self.config.store(Arc::new(config));
        self.adopt_options();
        self.refresh();
        turned
    }

    /// Copies options that the fast path needs.
    fn adopt_options(&self) {
        let config = self.config();
        let options = &config.options;
        // HAProxy: each of the two limits stands in for the other.
        let (most, least) = (options.maxconn.or(options.minconn), options.minconn.or(options.maxconn));
        let most = most.unwrap_or(u32::MAX);
        self.maxconn.store(most, Relaxed);
        self.minconn.store(least.unwrap_or(u32::MAX).min(most), Relaxed);
        self.limit.store(most, Relaxed);
        self.observed.store(options.observe.is_some(), Relaxed);
    }

    /// `backend/server`, as log lines have it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.backend, self.name)
    }

    /// Its address, when known.
    pub fn known_address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// The unix socket it is, when it is one.
    pub fn local_path(&self) -> Option<Where> {
        match &self.config().address.host {
            Host::Unix(path) => Some(Where::Unix(path.clone())),
            Host::Abstract(name) => Some(Where::Abstract(name.clone())),
            _ => None,
        }
    }

    /// The address for a client; `client_port` gives the port the client came to, when it matters.
    pub fn connect_address(&self, client_port: impl Fn() -> u16) -> Option<SocketAddr> {
        let mut address = self.known_address()?;
        if let Port::Relative(offset) = self.config().address.port {
            // HAProxy adds in 16 bits.
            let port = i32::from(client_port()).wrapping_add(offset).rem_euclid(1 << 16);
            address.set_port(u16::try_from(port).ok()?);
        }
        Some(address)
    }

    /// Where checks go.
    pub fn check_place(&self) -> Option<Where> {
        let config = self.config();
        let options = &config.options;
        self.aim(options.check_address.as_ref(), options.check_port)
    }

    /// Where its agent is.
    pub fn agent_place(&self) -> Option<Where> {
        let config = self.config();
        let agent = &config.options.agent;
        let host = agent.address.as_ref().and_then(|text| crate::config::address::parse_server(text).ok());
        self.aim(host.as_ref(), agent.port)
    }

    fn aim(&self, other: Option<&ServerAddress>, port: Option<u16>) -> Option<Where> {
        let mut address = match other {
            Some(ServerAddress { host: Host::Unix(path), .. }) => return Some(Where::Unix(path.clone())),
            Some(ServerAddress { host: Host::Abstract(name), .. }) => {
                return Some(Where::Abstract(name.clone()));
            }
            Some(other) => {
                let mut address = other.resolve().ok()?;
                if address.port() == 0 && port.is_none() {
                    address.set_port(self.known_address()?.port());
                }
                address
            }
            None => match self.known_address() {
                Some(address) => address,
                None => return self.local_path(),
            },
        };
        if let Some(port) = port {
            address.set_port(port);
        }
        (address.port() != 0).then_some(Where::Ip(address))
    }

    /// Takes an address, which ends a maintenance for want of one; tell the backend afterwards.
    pub fn set_address(&self, address: SocketAddr) {
        self.address.store(Some(Arc::new(address)));
        self.change(|condition| condition.order(Admin::NO_ADDRESS, false, Instant::now()));
    }

    /// Takes another IP and, when one is given, another port; a maintenance for want of one goes on.
    pub fn set_ip(&self, ip: IpAddr, port: Option<u16>) {
        let config = self.config();
        let fixed = match config.address.port {
            Port::Fixed(port) => port,
            Port::Relative(_) => 0,
        };
        let port = port.or_else(|| self.known_address().map(|known| known.port())).unwrap_or(fixed);
        self.address.store(Some(Arc::new(SocketAddr::new(ip, port))));
    }

    /// Takes over what another process knew of it; tell the backend afterwards.
    pub fn restore(&self, state: &State, now: Instant) {
        let config = self.config();
        let options = &config.options;
        self.change(|condition| {
            condition.order(Admin::FORCED_DRAIN, state.drain, now);
            // What the file of then disabled may be enabled by the file of now.
            let maintenance = options.disabled || (state.maintenance && !state.disabled);
            condition.order(Admin::FORCED_MAINTENANCE, maintenance, now);
            if options.check && !state.maintenance {
                condition.force(if state.up { Forced::Up } else { Forced::Down }, now);
                condition.health.restore(state.up, state.health);
                // What happened to the process before is no event of this one.
                condition.downs = 0;
            }
            condition.down_before = Duration::ZERO;
            condition.changed = now.checked_sub(state.age).unwrap_or(now);
        });
        if state.configured_weight == options.weight {
            self.weight.store(state.weight, Relaxed);
        }
    }

    /// It left the configuration: no new connections from now on.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
        self.refresh();
    }

    /// Whether it left the configuration.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Its weight as the configuration or an operator set it.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Sets its weight, 0 to 256; afterwards the backend must be told.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.min(256), Relaxed);
    }

    /// Its weight in sixteenths at this moment: less while it starts slowly.
    pub fn effective_weight(&self, now: Instant) -> u32 {
        let weight = self.weight();
        match self.condition.lock().slowstart(now) {
            // HAProxy: one sixteenth, and one more for each sixteenth of the time that has passed.
            Some((passed, whole)) => {
                let part = (u64::from(WEIGHT_SCALE) * passed + whole) / whole;
                weight * u32::try_from(part).unwrap_or(WEIGHT_SCALE).min(WEIGHT_SCALE)
            }
            None => weight * WEIGHT_SCALE,
        }
    }

    /// Its weight at this moment as the statistics show it.
    pub fn shown_weight(&self, now: Instant) -> u32 {
        self.effective_weight(now).div_ceil(WEIGHT_SCALE)
    }

    /// Per cent of its weight it has while it starts slowly.
    pub fn throttle(&self, now: Instant) -> Option<u32> {
        self.condition.lock().slowstart(now)?;
        let whole = self.weight() * WEIGHT_SCALE;
        Some((100 * self.effective_weight(now) / whole.max(1)).max(1))
    }

    /// Whether it may take new connections (weight apart).
    pub fn is_usable(&self) -> bool {
        self.usable.load(Relaxed)
    }

    /// Whether it may take connections that a rule sends to it: it runs, draining or not.
    pub fn takes_directed(&self) -> bool {
        !self.is_retired() && self.condition.lock().is_up()
    }

    /// Whether its limit is reached.
    pub fn is_full(&self) -> bool {
        self.served.load(Relaxed) >= self.limit.load(Relaxed)
    }

    /// Sets its limit for this moment, when it can be another one than `maxconn`.
    /// `sessions` and `fullconn` are the backend's.
    pub(crate) fn adapt_limit(&self, sessions: u32, fullconn: u32, now: Instant) {
        let (most, least) = (self.maxconn.load(Relaxed), self.minconn.load(Relaxed));
        if most == u32::MAX {
            return;
        }
        let mut limit = if least >= most || fullconn == 0 || sessions >= fullconn {
            most
        } else {
            let share = u64::from(sessions) * u64::from(most) / u64::from(fullconn);
            least.max(u32::try_from(share).unwrap_or(most))
        };
        if let Some((passed, whole)) = self.condition.lock().slowstart(now) {
            let share = u64::from(limit) * (100 * passed / whole) / 100;
            limit = u32::try_from(share).unwrap_or(limit).max(1);
        }
        self.limit.store(limit, Relaxed);
    }

    /// Whether its limit moves: with the backend's sessions or with time.
    pub(crate) fn has_moving_limit(&self) -> bool {
        let most = self.maxconn.load(Relaxed);
        most != u32::MAX && (self.minconn.load(Relaxed) < most || self.config().options.slowstart.is_some())
    }

    /// Most connections at one time, when there is a limit.
    pub fn maxconn(&self) -> Option<u32> {
        Some(self.maxconn.load(Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// Sets `maxconn` by an operator's or an agent's order, 0 for none; tell the backend afterwards.
    pub fn set_maxconn(&self, limit: u32) {
        let most = if limit == 0 { u32::MAX } else { limit };
        self.maxconn.store(most, Relaxed);
        let least = self.config().options.minconn.unwrap_or(most);
        self.minconn.store(least.min(most), Relaxed);
        self.limit.store(most, Relaxed);
    }

    /// A copy of its state; of the health that of the tracked server, when it tracks one.
    pub fn condition(&self) -> Condition {
        let mut condition = self.condition.lock().clone();
        if condition.tracks
            && let Some(end) = self.end_of_tracks()
        {
            let other = end.condition.lock();
            condition.health = other.health;
            condition.checking = other.checking;
            condition.agent.checking = other.agent.checking;
            condition.agent.health = other.agent.health;
            condition.check = other.check.clone();
        }
        condition
    }

    /// Changes its state and what follows from it for the fast path.
    pub fn change<T>(&self, change: impl FnOnce(&mut Condition) -> T) -> T {
        let result = change(&mut self.condition.lock());
        self.refresh();
        result
    }

    /// Changes its orders. A server that tracks another one then has that one's state again.
    pub fn order(&self, change: impl FnOnce(&mut Condition)) -> Transition {
        let tracked = self.tracked.lock().upgrade().map(|tracked| tracked.look(Clone::clone));
        self.change(|condition| {
            let before = (condition.state, condition.admin);
            change(condition);
            if let Some(tracked) = tracked {
                condition.follow(&tracked, Instant::now());
            }
            Transition { before, after: (condition.state, condition.admin) }
        })
    }

    /// Looks at its state.
    pub fn look<T>(&self, look: impl FnOnce(&Condition) -> T) -> T {
        look(&self.condition.lock())
    }

    /// A check begins.
    pub fn check_begins(&self) {
        self.condition.lock().in_progress = true;
    }

    /// Whether checks are to be run now.
    pub fn wants_checks(&self) -> bool {
        let condition = self.condition.lock();
        condition.checking && !condition.maintenance
    }

    /// Whether its agent is to be asked now.
    pub fn wants_agent(&self) -> bool {
        let condition = self.condition.lock();
        // In maintenance too: only the agent may end one that it has begun.
        condition.agent.configured && condition.agent.checking
    }

    /// How long to wait before the next check.
    pub fn check_interval(&self) -> Duration {
        let config = self.config();
        let options = &config.options;
        let intervals = crate::check::state::Intervals {
            normal: options.inter,
            fast: options.fastinter,
            down: options.downinter,
        };
        self.condition.lock().health.interval(&intervals)
    }

    /// Whether failures of its sessions are counted.
    pub fn is_observed(&self) -> bool {
        self.observed.load(Relaxed)
    }

    /// Forces health up or down; checks may change it again.
    pub fn force(&self, to: Forced, now: Instant) -> Transition {
        self.change(|condition| condition.force(to, now))
    }

    /// Turns checks on or off; no effect on servers configured without.
    pub fn set_checking(&self, on: bool) {
        let config = self.config();
        if config.options.check && config.options.track.is_none() {
            self.condition.lock().checking = on;
        }
    }

    /// Turns the agent on or off; no effect on servers configured without.
    pub fn set_agent_checking(&self, on: bool) {
        let mut condition = self.condition.lock();
        condition.agent.checking = on && condition.agent.configured;
    }

    /// Changes its configuration in place, without looking at what follows from that.
    pub fn change_config(&self, change: impl FnOnce(&mut ServerConfig)) {
        let mut config = ServerConfig::clone(&self.config());
        change(&mut config);
        self.config.store(Arc::new(config));
    }

    /// Servers that take this one's state, with their backends.
    pub(crate) fn trackers(&self) -> Vec<(Arc<Backend>, Arc<Server>)> {
        let links = self.trackers.lock();
        links.iter().filter_map(|(backend, server)| Some((backend.upgrade()?, server.upgrade()?))).collect()
    }

    /// Forgets who tracks it and whom it tracks.
    pub(crate) fn forget_tracks(&self) {
        self.trackers.lock().clear();
        *self.tracked.lock() = Weak::new();
    }

    /// Takes its state from `tracked` from now on.
    pub(crate) fn track(self: &Arc<Self>, backend: &Arc<Backend>, tracked: &Arc<Self>) {
        *self.tracked.lock() = Arc::downgrade(tracked);
        tracked.trackers.lock().push((Arc::downgrade(backend), Arc::downgrade(self)));
        self.condition.lock().via = Some(tracked.full_name().into());
    }

    /// The last server of the chain of tracks that begins here.
    fn end_of_tracks(&self) -> Option<Arc<Self>> {
        let mut end = self.tracked.lock().upgrade()?;
        // Loops are refused when links are made; the bound is for a moment in between.
        for _ in 0..64 {
            let next = end.tracked.lock().upgrade();
            match next {
                Some(next) => end = next,
                None => break,
            }
        }
        Some(end)
    }

    fn refresh(&self) {
        let condition = self.condition.lock();
        let usable = condition.is_usable() && !self.is_retired();
        self.usable.store(usable, Relaxed);
    }
}

/// Whether a change of the configuration makes what checks have found worthless.
fn checks_differ(before: &ServerOptions, after: &ServerOptions) -> bool {
    let essence = |options: &ServerOptions| {
        (
            options.check,
            options.check_kind,
            options.check_port,
            options.check_address.clone(),
            options.track.clone(),
            options.agent.clone(),
            options.tls.for_checks(),
        )
    };
    essence(before) != essence(after)
}

/// The state after such a change: as at the beginning, with operators' orders kept.
fn restart(old: &Condition, options: &ServerOptions, now: Instant) -> Condition {
    let mut condition = Condition::new(&ServerOptions { disabled: false, ..options.clone() }, now);
    condition.failed_checks = old.failed_checks;
    condition.order(old.admin, true, now);
    condition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{CheckReport, CheckStatus};
    use crate::condition::State;
    use crate::config::server::InitAddr;
    use crate::config::{Place, address};

    fn server(options: ServerOptions) -> Server {
        let config = ServerConfig {
            name: "A".to_owned(),
            id: 1,
            address: address::parse_server("127.0.0.1:5672").unwrap(),
            options,
            template: None,
            place: Place::default(),
        };
        Server::new(config, "b".into(), Instant::now())
    }

    fn report(status: CheckStatus) -> CheckReport {
        CheckReport { status, code: 0, info: String::new(), duration: Duration::ZERO }
    }

    #[test]
    fn weights_grow_during_a_slow_start_as_in_haproxy() {
        let now = Instant::now();
        let options = ServerOptions {
            check: true,
            rise: 1,
            fall: 1,
            weight: 10,
            maxconn: Some(50),
            slowstart: Some(Duration::from_secs(5)),
            ..ServerOptions::default()
        };
        let server = server(options);
        server.change(|condition| condition.check_ended(report(CheckStatus::L4Con), now));
        server.change(|condition| condition.check_ended(report(CheckStatus::L4Ok), now));
        // (seconds, weight shown, throttle, limit) as haproxy 2.6.12 showed them.
        for (seconds, weight, throttle, limit) in
            [(0, 1, 6, 1), (1, 3, 25, 10), (2, 5, 43, 20), (3, 7, 62, 30)]
        {
            let then = now + Duration::from_secs(seconds);
            server.adapt_limit(0, 100, then);
            let seen = (server.shown_weight(then), server.throttle(then), server.limit.load(Relaxed));
            assert_eq!(seen, (weight, Some(throttle), limit), "after {seconds} s");
        }
        let then = now + Duration::from_secs(5);
        server.change(|condition| condition.warm(then));
        assert_eq!((server.shown_weight(then), server.throttle(then)), (10, None));
        assert_eq!(server.condition().state, State::Running);
    }

    #[test]
    fn the_limit_follows_the_sessions_of_the_backend() {
        let now = Instant::now();
        let limited =
            |maxconn, minconn| server(ServerOptions { maxconn, minconn, ..ServerOptions::default() });
        let of = |server: &Server, sessions| {
            server.adapt_limit(sessions, 1000, now);
            server.limit.load(Relaxed)
        };
        let server = limited(Some(100), Some(10));
        assert_eq!([0, 50, 500, 1000, 5000].map(|sessions| of(&server, sessions)), [10, 10, 50, 100, 100]);
        let server = limited(Some(100), None);
        assert_eq!([0, 5000].map(|sessions| of(&server, sessions)), [100, 100]);
        assert!(!server.has_moving_limit());
        let server = limited(None, Some(10));
        assert_eq!((server.maxconn(), of(&server, 3)), (Some(10), 10));
        assert_eq!(limited(None, None).maxconn(), None);
    }

    #[test]
    fn an_unknown_name_is_maintenance_for_want_of_an_address() {
        let config = ServerConfig {
            name: "A".to_owned(),
            id: 1,
            address: address::parse_server("rabbit.invalid:5672").unwrap(),
            options: ServerOptions { init_addr: vec![InitAddr::None], ..ServerOptions::default() },
            template: None,
            place: Place::default(),
        };
        let server = Server::new(config, "b".into(), Instant::now());
        assert_eq!((server.condition().status().as_str(), server.is_usable()), ("MAINT (resolution)", false));
        server.set_ip("10.0.0.1".parse().unwrap(), None);
        server.change(|condition| condition.order(Admin::NO_ADDRESS, false, Instant::now()));
        assert_eq!(server.known_address().unwrap().to_string(), "10.0.0.1:5672");
        assert!(server.is_usable());
    }
}
