//! One server: where it is, how it is, what may be sent to it.
//!
//! A server lives as long as the configuration names it: a reload gives it another configuration, while
//! its counters, its health, what operators ordered and its sessions stay.

mod orders;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;

use crate::check::CheckReport;
use crate::check::state::{Health, Outcome};
use crate::config::ServerConfig;
use crate::config::address::Port;
use crate::counters::Counters;

/// A server of a backend.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    name: Arc<str>,
    /// Its configuration, as the last reload left it.
    config: ArcSwap<ServerConfig>,
    /// `maxconn` of the configuration, for the fast path; `u32::MAX` is none.
    maxconn: AtomicU32,
    /// The backend's name.
    pub backend: Arc<str>,
    /// Its address; `None` while its name is unknown.
    address: ArcSwapOption<SocketAddr>,
    /// Weight as an operator set it.
    weight: AtomicU32,
    /// Connections that hold or were promised a place.
    pub served: AtomicU32,
    /// May take new connections; a summary of `condition` for the fast path.
    usable: AtomicBool,
    /// No longer in the configuration: it only finishes what it has.
    retired: AtomicBool,
    /// Everything about its state.
    condition: Mutex<Condition>,
    /// Counters.
    pub counters: Counters,
}

/// The state of a server.
#[derive(Debug, Clone)]
pub struct Condition {
    /// By checks.
    pub health: Health,
    /// In maintenance by an operator's order.
    pub maintenance: bool,
    /// Finishing what it has, by an operator's order.
    pub drain: bool,
    /// Checks are run.
    pub checking: bool,
    /// When it last went up or down.
    pub changed: Instant,
    /// Seconds spent down before the present state.
    pub down_before: Duration,
    /// The last finished check.
    pub check: CheckReport,
    /// A check is under way.
    pub in_progress: bool,
    /// Checks that failed.
    pub failed_checks: u64,
    /// Times it went down.
    pub downs: u64,
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

/// What a check or an order did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effect {
    /// Health moved.
    pub moved: bool,
    /// The status word of the check differs from the one before.
    pub status_changed: bool,
    /// It came up (`true`) or went down (`false`).
    pub turned: Option<bool>,
}

impl Server {
    /// A server at the beginning of its life.
    pub fn new(config: ServerConfig, backend: Arc<str>, now: Instant) -> Self {
        let condition = Condition {
            health: Health::new(config.options.rise, config.options.fall),
            maintenance: config.options.disabled,
            drain: false,
            checking: config.options.check,
            changed: now,
            down_before: Duration::ZERO,
            check: CheckReport::none(),
            in_progress: false,
            failed_checks: 0,
            downs: 0,
        };
        let server = Self {
            name: config.name.as_str().into(),
            maxconn: AtomicU32::new(config.options.maxconn.unwrap_or(u32::MAX)),
            backend,
            address: ArcSwapOption::empty(),
            weight: AtomicU32::new(config.options.weight),
            served: AtomicU32::new(0),
            usable: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            condition: Mutex::new(condition),
            counters: Counters::default(),
            config: ArcSwap::from_pointee(config),
        };
        if let Ok(address) = server.config().address.resolve() {
            server.set_address(address);
        }
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
        let was_up = condition.is_up();
        if old.address != config.address
            || before.check != after.check
            || before.check_kind != after.check_kind
            || before.check_port != after.check_port
            || before.check_address != after.check_address
        {
            condition.health = Health::new(after.rise, after.fall);
            condition.check = CheckReport::none();
            condition.checking = after.check;
        } else if (before.rise, before.fall) != (after.rise, after.fall) {
            let was_well = condition.health.is_up();
            condition.health = Health::new(after.rise, after.fall);
            condition.health.force(was_well);
        }
        if before.disabled != after.disabled {
            condition.maintenance = after.disabled;
        }
        let turned = condition.turn_from(was_up, now);
        drop(condition);
        if before.weight != after.weight {
            self.weight.store(after.weight, Relaxed);
        }
        self.maxconn.store(after.maxconn.unwrap_or(u32::MAX), Relaxed);
        if old.address != config.address {
            self.address.store(address.map(Arc::new));
        }
        self.config.store(Arc::new(config));
        self.refresh();
        turned
    }

    /// `backend/server`, as log lines have it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.backend, self.name)
    }

    /// Its address, when known.
    pub fn known_address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// The address for a client; `client_port` gives the port the client came to, when it matters.
    pub fn connect_address(&self, client_port: impl Fn() -> u16) -> Option<SocketAddr> {
        let mut address = self.known_address()?;
        if let Port::Relative(offset) = self.config().address.port {
            address.set_port(u16::try_from(i32::from(client_port()) + offset).ok()?);
        }
        Some(address)
    }

    /// The address to check.
    pub fn check_address(&self) -> Option<SocketAddr> {
        let config = self.config();
        let options = &config.options;
        let mut address = match &options.check_address {
            Some(other) => {
                let mut address = other.resolve().ok()?;
                if address.port() == 0 {
                    address.set_port(self.known_address()?.port());
                }
                address
            }
            None => self.known_address()?,
        };
        if let Some(port) = options.check_port {
            address.set_port(port);
        }
        (address.port() != 0).then_some(address)
    }

    /// Takes an address that a name was found to have.
    pub fn set_address(&self, address: SocketAddr) {
        self.address.store(Some(Arc::new(address)));
        self.refresh();
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

    /// Its weight.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Whether it may take new connections (weight apart).
    pub fn is_usable(&self) -> bool {
        self.usable.load(Relaxed)
    }

    /// Whether `maxconn` is reached.
    pub fn is_full(&self) -> bool {
        self.served.load(Relaxed) >= self.maxconn.load(Relaxed)
    }

    /// Most connections at one time, when there is a limit.
    pub fn maxconn(&self) -> Option<u32> {
        Some(self.maxconn.load(Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// A copy of its state.
    pub fn condition(&self) -> Condition {
        self.condition.lock().clone()
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

    /// Takes the result of a check.
    pub fn check_ended(&self, report: CheckReport, now: Instant) -> Effect {
        let mut condition = self.condition.lock();
        condition.in_progress = false;
        if condition.maintenance {
            return Effect::default();
        }
        let outcome = report.status.outcome();
        if outcome == Outcome::Failed && condition.health.value() > 0 {
            condition.failed_checks += 1;
        }
        let status_changed = report.status != condition.check.status;
        condition.check = report;
        let change = condition.health.apply(outcome);
        if let Some(up) = change.turned {
            condition.turn(up, now);
        }
        drop(condition);
        self.refresh();
        Effect { moved: change.moved, status_changed, turned: change.turned }
    }

    /// Carries an operator's order out. `None` when nothing changes.
    pub fn order(&self, order: Order, now: Instant) -> Option<Effect> {
        let mut condition = self.condition.lock();
        let was_up = condition.is_up();
        let before = (condition.maintenance, condition.drain);
        (condition.maintenance, condition.drain) = match order {
            Order::Ready => (false, false),
            Order::Drain => (false, true),
            Order::Maintenance => (true, false),
        };
        if before == (condition.maintenance, condition.drain) {
            return None;
        }
        if before.0 && !condition.maintenance {
            // As at the start: one failed check takes it down again.
            let config = self.config();
            condition.health = Health::new(config.options.rise, config.options.fall);
        }
        let turned = condition.turn_from(was_up, now);
        drop(condition);
        self.refresh();
        Some(Effect { moved: true, status_changed: true, turned })
    }

    /// Forces health up or down; checks may change it again.
    pub fn force_health(&self, up: bool, now: Instant) -> Effect {
        let mut condition = self.condition.lock();
        let was_up = condition.is_up();
        condition.health.force(up);
        let turned = condition.turn_from(was_up, now);
        drop(condition);
        self.refresh();
        Effect { moved: true, status_changed: true, turned }
    }

    /// Turns checks on or off; no effect on servers configured without.
    pub fn set_checking(&self, on: bool) {
        if self.config().options.check {
            self.condition.lock().checking = on;
        }
    }

    fn refresh(&self) {
        let condition = self.condition.lock();
        let usable =
            condition.is_up() && !condition.drain && !self.is_retired() && self.address.load().is_some();
        self.usable.store(usable, Relaxed);
    }
}

impl Condition {
    /// Whether it runs, draining or not.
    pub fn is_up(&self) -> bool {
        !self.maintenance && self.health.is_up()
    }

    /// Time spent down, the present included.
    pub fn downtime(&self, now: Instant) -> Duration {
        if self.is_up() {
            self.down_before
        } else {
            self.down_before + now.saturating_duration_since(self.changed)
        }
    }

    /// HAProxy's status word: `UP`, `UP 1/3`, `DOWN`, `DOWN 1/2`, `MAINT`, `DRAIN`, `no check`.
    pub fn status(&self) -> String {
        if self.maintenance {
            return "MAINT".to_owned();
        }
        let word = match (self.health.is_up(), self.drain) {
            (true, true) => "DRAIN",
            (true, false) => "UP",
            (false, _) => "DOWN",
        };
        if !self.checking && word == "UP" {
            return "no check".to_owned();
        }
        if self.health.is_settled() || !self.checking {
            return word.to_owned();
        }
        let (part, whole) = self.health.fraction();
        if part == whole && self.health.is_up() { word.to_owned() } else { format!("{word} {part}/{whole}") }
    }

    /// Notes a change since the server was (or was not) up; says to what it turned, if it did.
    fn turn_from(&mut self, was_up: bool, now: Instant) -> Option<bool> {
        let is_up = self.is_up();
        let turned = (was_up != is_up).then_some(is_up);
        if let Some(up) = turned {
            self.turn(up, now);
        }
        turned
    }

    fn turn(&mut self, up: bool, now: Instant) {
        if up {
            self.down_before += now.saturating_duration_since(self.changed);
        } else {
            self.downs += 1;
        }
        self.changed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::CheckStatus;
    use crate::config::{Place, ServerOptions, address};

    pub(crate) fn server(options: ServerOptions) -> Server {
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
        CheckReport { status, info: String::new(), duration: Duration::ZERO }
    }

    #[test]
    fn status_words_are_haproxys() {
        let now = Instant::now();
        let server = server(ServerOptions { check: true, ..ServerOptions::default() });
        let mut words = vec![server.condition().status()];
        for status in [
            CheckStatus::L4Ok,
            CheckStatus::L4Con,
            CheckStatus::L4Con,
            CheckStatus::L4Con,
            CheckStatus::L4Ok,
            CheckStatus::L4Ok,
        ] {
            server.check_ended(report(status), now);
            words.push(server.condition().status());
        }
        assert_eq!(words, ["UP 1/3", "UP", "UP 2/3", "UP 1/3", "DOWN", "DOWN 1/2", "UP"]);
        assert_eq!(server.condition().failed_checks, 3);
        assert_eq!(server.condition().downs, 1);
        server.order(Order::Drain, now);
        assert_eq!((server.condition().status().as_str(), server.is_usable()), ("DRAIN", false));
        server.order(Order::Maintenance, now);
        assert_eq!((server.condition().status().as_str(), server.is_usable()), ("MAINT", false));
        assert!(server.order(Order::Maintenance, now).is_none());
        assert!(!server.wants_checks());
        let effect = server.order(Order::Ready, now).unwrap();
        assert_eq!((effect.turned, server.is_usable()), (Some(true), true));
    }

    #[test]
    fn a_server_without_checks_is_always_usable() {
        let server = server(ServerOptions::default());
        assert_eq!((server.condition().status().as_str(), server.is_usable()), ("no check", true));
    }

    #[test]
    fn downtime_adds_up() {
        let start = Instant::now();
        let server = server(ServerOptions { check: true, rise: 1, fall: 1, ..ServerOptions::default() });
        let after = |seconds| start + Duration::from_secs(seconds);
        server.check_ended(report(CheckStatus::L4Con), after(10));
        assert_eq!(server.condition().downtime(after(15)).as_secs(), 5);
        server.check_ended(report(CheckStatus::L4Ok), after(20));
        assert_eq!(server.condition().downtime(after(100)).as_secs(), 10);
    }
}
