//! The state of one server, as HAProxy has it; pure: inputs and the time come in, what changed comes out.
//!
//! ```text
//!               all checks pass                 slowstart over
//!   Stopped ─────────────────────► Starting ───────────────────► Running
//!      ▲  ▲                                                       │  ▲
//!      │  └───────────────── a check's health is 0 ───────────────┤  │ passes again
//!      │                                                          ▼  │
//!      └───────────────────────────────────────────────────────  Stopping  (404, `health stopping`)
//! ```
//!
//! Beside that stand orders (maintenance, drain), each by an operator, inherited from a tracked server, or
//! for want of an address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::check::state::{Health, Outcome};
use crate::check::{CheckReport, CheckStatus};
use crate::config::ServerOptions;
use crate::config::server::OnError;

/// What a server does; the numbers are those of `show servers state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes nothing.
    Stopped = 0,
    /// Came up a moment ago and gets less than its share.
    Starting = 1,
    /// Works.
    Running = 2,
    /// Works for those who are there, takes nobody new.
    Stopping = 3,
}

/// Orders that keep a server from taking connections; the bits are those of `show servers state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admin(u8);

impl Admin {
    /// No order.
    pub const NONE: Self = Self(0);
    /// Maintenance by an operator.
    pub const FORCED_MAINTENANCE: Self = Self(1);
    /// Maintenance of the tracked server.
    pub const INHERITED_MAINTENANCE: Self = Self(2);
    /// Maintenance by the configuration (`disabled`).
    pub const CONFIGURED_MAINTENANCE: Self = Self(4);
    /// Drain by an operator or an agent.
    pub const FORCED_DRAIN: Self = Self(8);
    /// Drain of the tracked server.
    pub const INHERITED_DRAIN: Self = Self(16);
    /// The name has no address.
    pub const NO_ADDRESS: Self = Self(32);

    /// `disabled` alone is only remembered; the order that goes with it is a forced one.
    const MAINTENANCE: u8 = 1 | 2 | 32;
    const DRAIN: u8 = 8 | 16;

    /// The number of `show servers state`.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The orders of these bits; unknown ones are left out.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::MAINTENANCE | Self::CONFIGURED_MAINTENANCE.0 | Self::DRAIN))
    }

    /// Whether it has one of these.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is in maintenance, for whatever reason.
    #[must_use]
    pub fn is_maintenance(self) -> bool {
        self.0 & Self::MAINTENANCE != 0
    }

    /// Whether it drains, for whatever reason.
    #[must_use]
    pub fn is_drain(self) -> bool {
        self.0 & Self::DRAIN != 0
    }

    /// With these added or taken away.
    #[must_use]
    pub fn with(self, other: Self, on: bool) -> Self {
        Self(if on { self.0 | other.0 } else { self.0 & !other.0 })
    }
}

/// The state of a server.
#[derive(Debug, Clone)]
pub struct Condition {
    /// What it does.
    pub state: State,
    /// Orders.
    pub admin: Admin,
    /// By checks.
    pub health: Health,
    /// In maintenance (of `admin`).
    pub maintenance: bool,
    /// Finishing what it has (of `admin`).
    pub drain: bool,
    /// Checks are run.
    pub checking: bool,
    /// When it last went up or down.
    pub changed: Instant,
    /// Time spent down before the present state.
    pub down_before: Duration,
    /// The last finished check.
    pub check: CheckReport,
    /// A check is under way.
    pub in_progress: bool,
    /// Checks that failed.
    pub failed_checks: u64,
    /// Times it went down.
    pub downs: u64,
    /// What its agent says.
    pub agent: AgentCondition,
    /// Failed sessions in a row, while they are watched.
    pub errors: u32,
    /// Times watched sessions were held against it.
    pub failed_observations: u64,
    /// It takes its state from another server.
    pub tracks: bool,
    /// That server, `backend/server`.
    pub via: Option<Arc<str>>,
    /// Weight grows over this time.
    slowstart: Duration,
}

/// What an agent says of a server.
#[derive(Debug, Clone)]
pub struct AgentCondition {
    /// There is one.
    pub configured: bool,
    /// It is asked.
    pub checking: bool,
    /// What it makes of the server; up until it says otherwise.
    pub health: Health,
    /// Its last answer.
    pub report: CheckReport,
    /// It is being asked.
    pub in_progress: bool,
    /// Times it could not be asked or said no.
    pub failed: u64,
}

/// From what to what a server went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub before: (State, Admin),
    /// After.
    pub after: (State, Admin),
}

impl Transition {
    /// Whether anything changed.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.before != self.after
    }

    /// It came up (`true`) or went down (`false`).
    #[must_use]
    pub fn turned(&self) -> Option<bool> {
        let is_up = |(state, admin): (State, Admin)| state != State::Stopped && !admin.is_maintenance();
        (is_up(self.before) != is_up(self.after)).then(|| is_up(self.after))
    }
}

impl Condition {
    /// The state at the beginning.
    #[must_use]
    pub fn new(options: &ServerOptions, now: Instant) -> Self {
        let mut condition = Self {
            state: State::Running,
            admin: Admin::NONE,
            health: Health::new(options.rise, options.fall),
            maintenance: false,
            drain: false,
            checking: options.check && options.track.is_none(),
            changed: now,
            down_before: Duration::ZERO,
            check: CheckReport::none(),
            in_progress: false,
            failed_checks: 0,
            downs: 0,
            agent: AgentCondition {
                configured: options.agent.check,
                checking: options.agent.check,
                health: Health::new(1, 1),
                report: CheckReport::none(),
                in_progress: false,
                failed: 0,
            },
            errors: 0,
            failed_observations: 0,
            tracks: options.track.is_some(),
            via: None,
            slowstart: options.slowstart.unwrap_or(Duration::ZERO),
        };
        if options.disabled {
            condition.set_admin(Admin::CONFIGURED_MAINTENANCE.with(Admin::FORCED_MAINTENANCE, true));
            condition.state = State::Stopped;
        }
        condition
    }

    /// Takes the slow start of a changed configuration over.
    pub fn adopt_slowstart(&mut self, options: &ServerOptions) {
        self.slowstart = options.slowstart.unwrap_or(Duration::ZERO);
    }

    /// Whether it runs, draining or not.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.maintenance && self.state != State::Stopped
    }

    /// In maintenance, by whatever order.
    #[must_use]
    pub fn is_in_maintenance(&self) -> bool {
        self.maintenance
    }

    /// Whether it may take new connections (weight and address apart).
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, State::Starting | State::Running) && !self.maintenance && !self.drain
    }

    /// Time spent down, the present included.
    #[must_use]
    pub fn downtime(&self, now: Instant) -> Duration {
        if self.is_up() {
            self.down_before
        } else {
            self.down_before + now.saturating_duration_since(self.changed)
        }
    }

    /// Takes the result of a health check.
    pub fn check_ended(&mut self, report: CheckReport, now: Instant) -> (Transition, bool) {
        let before = self.now();
        self.in_progress = false;
        if self.maintenance || self.tracks {
            return (self.transition(before, now), false);
        }
        let outcome = report.status.outcome();
        if outcome == Outcome::Failed && self.health.value() > 0 {
            self.failed_checks += 1;
        }
        if outcome.is_pass() {
            self.errors = 0;
        }
        let status_changed = report.status != self.check.status;
        self.check = report;
        let moved = self.health.apply(outcome).moved;
        match outcome {
            Outcome::Failed if self.health.value() == 0 => self.state = State::Stopped,
            Outcome::Passed if self.all_pass() => self.start(),
            Outcome::PassedConditionally if self.all_pass() => self.state = State::Stopping,
            _ => {}
        }
        (self.transition(before, now), moved || status_changed)
    }

    /// Takes the result of asking the agent. Only its word that the server is down takes it down.
    pub fn agent_ended(&mut self, report: CheckReport, now: Instant) -> (Transition, bool) {
        let before = self.now();
        self.agent.in_progress = false;
        let outcome = report.status.outcome();
        let says_down = report.status == CheckStatus::L7Status;
        if outcome == Outcome::Failed {
            self.agent.failed += 1;
        }
        if says_down && self.agent.health.value() > 0 {
            self.failed_checks += 1;
        }
        let status_changed = report.status != self.agent.report.status;
        self.agent.report = report;
        let counts = outcome.is_pass() || says_down;
        let moved = counts && self.agent.health.apply(outcome).moved;
        if !self.maintenance {
            if says_down && self.agent.health.value() == 0 {
                self.state = State::Stopped;
            } else if outcome == Outcome::Passed && self.all_pass() && self.state != State::Stopping {
                self.start();
            }
        }
        let told = outcome != Outcome::Neutral && (moved || status_changed);
        (self.transition(before, now), told)
    }

    /// A session could or could not connect, while sessions are watched. Some: the failures in a row were
    /// too many, and this many; the report takes the place of the last check's.
    pub fn observed(
        &mut self,
        connected: bool,
        limit: u32,
        on_error: OnError,
        now: Instant,
    ) -> Option<(Transition, CheckReport)> {
        if connected {
            self.errors = 0;
            return None;
        }
        self.errors = self.errors.saturating_add(1);
        if self.errors < limit.max(1) || self.maintenance {
            return None;
        }
        let before = self.now();
        let info =
            format!("Detected {} consecutive errors, last one was: L4 unsuccessful connection", self.errors);
        let report = CheckReport { status: CheckStatus::Observed, code: 0, info, duration: Duration::ZERO };
        self.errors = 0;
        self.failed_observations += 1;
        match on_error {
            OnError::FastInter => return Some((self.transition(before, now), report)),
            OnError::FailCheck => {}
            OnError::SuddenDeath => self.health.weaken(),
            OnError::MarkDown => self.health.restart(),
        }
        if self.health.value() > 0 {
            self.failed_checks += 1;
        }
        self.check = report.clone();
        self.health.apply(Outcome::Failed);
        if self.health.value() == 0 {
            self.state = State::Stopped;
        }
        Some((self.transition(before, now), report))
    }

    /// Adds or takes away orders.
    pub fn order(&mut self, orders: Admin, on: bool, now: Instant) -> Transition {
        let before = self.now();
        let was_maintenance = self.maintenance;
        self.set_admin(self.admin.with(orders, on));
        if self.maintenance && !was_maintenance {
            self.state = State::Stopped;
        } else if was_maintenance && !self.maintenance && !self.tracks {
            // As at the start: one failed check takes it down again. HAProxy: without checks its health stays 0.
            if self.checking {
                self.health.restart();
            }
            self.agent.health.restart();
            self.start();
        }
        self.transition(before, now)
    }

    /// Follows the server it tracks.
    pub fn follow(&mut self, tracked: &Self, now: Instant) -> Transition {
        let before = self.now();
        let admin = self
            .admin
            .with(Admin::INHERITED_MAINTENANCE, tracked.maintenance)
            .with(Admin::INHERITED_DRAIN, tracked.drain);
        self.set_admin(admin);
        let running = matches!(self.state, State::Starting | State::Running);
        match tracked.state {
            _ if self.maintenance => self.state = State::Stopped,
            State::Stopped => self.state = State::Stopped,
            State::Stopping => self.state = State::Stopping,
            State::Starting | State::Running if !running => self.start(),
            State::Starting | State::Running => {}
        }
        self.transition(before, now)
    }

    /// Makes checks (or the agent) have said this; they may change it again.
    pub fn force(&mut self, to: Forced, now: Instant) -> Transition {
        let before = self.now();
        match to {
            Forced::Up => {
                self.health.force(true);
                if !self.maintenance && self.agent_passes() {
                    self.start();
                }
            }
            Forced::Stopping => {
                self.health.force(true);
                if !self.maintenance {
                    self.state = State::Stopping;
                }
            }
            Forced::Down => {
                self.health.force(false);
                self.state = State::Stopped;
            }
            Forced::AgentUp => {
                self.agent.health.force(true);
                if !self.maintenance && self.all_pass() {
                    self.start();
                }
            }
            Forced::AgentDown => {
                self.agent.health.force(false);
                self.state = State::Stopped;
            }
        }
        self.transition(before, now)
    }

    /// Ends the slow start when its time is over. Whether it still starts.
    pub fn warm(&mut self, now: Instant) -> bool {
        if self.state == State::Starting && now.saturating_duration_since(self.changed) >= self.slowstart {
            self.state = State::Running;
        }
        self.state == State::Starting
    }

    /// Whole seconds of the slow start that have passed and that it takes; none when it is over.
    #[must_use]
    pub fn slowstart(&self, now: Instant) -> Option<(u64, u64)> {
        let whole = self.slowstart.as_secs().max(1);
        let passed = now.saturating_duration_since(self.changed).as_secs();
        (self.state == State::Starting && passed < whole).then_some((passed, whole))
    }

    fn start(&mut self) {
        if matches!(self.state, State::Stopped | State::Stopping) {
            self.state = if self.slowstart.is_zero() { State::Running } else { State::Starting };
        }
    }

    fn all_pass(&self) -> bool {
        (!self.checking || self.health.is_up()) && self.agent_passes()
    }

    fn agent_passes(&self) -> bool {
        !self.agent.checking || self.agent.health.is_up()
    }

    fn set_admin(&mut self, admin: Admin) {
        self.admin = admin;
        if admin.is_maintenance() && !self.maintenance {
            self.health.force(false);
        }
        self.maintenance = admin.is_maintenance();
        self.drain = admin.is_drain();
    }

    fn now(&self) -> (State, Admin) {
        (self.state, self.admin)
    }

    /// Notes a change since `before`.
    fn transition(&mut self, before: (State, Admin), now: Instant) -> Transition {
        let transition = Transition { before, after: self.now() };
        match transition.turned() {
            Some(true) => self.down_before += now.saturating_duration_since(self.changed),
            Some(false) => self.downs += 1,
            None => {}
        }
        let drains = before.1.is_drain() != self.drain;
        if before.0 != self.state || before.1.is_maintenance() != self.maintenance || drains {
            self.changed = now;
        }
        transition
    }

    /// HAProxy's status word: `UP`, `UP 1/3`, `DOWN`, `DOWN 1/2`, `NOLB`, `MAINT`, `MAINT (via b/s)`,
    /// `MAINT (resolution)`, `DRAIN`, `DRAIN (agent)`, `DOWN (agent)`, `no check`. For a server that
    /// tracks another one, `health`, `checking` and `agent` are that one's.
    #[must_use]
    pub fn status(&self) -> String {
        if self.admin.has(Admin::NO_ADDRESS) {
            return "MAINT (resolution)".to_owned();
        }
        if self.admin.has(Admin::INHERITED_MAINTENANCE) {
            return match &self.via {
                Some(via) => format!("MAINT (via {via})"),
                None => "MAINT".to_owned(),
            };
        }
        if self.maintenance {
            return "MAINT".to_owned();
        }
        let full = !self.checking || self.health.is_full();
        let (part, whole) =
            if self.state == State::Stopped { self.health.rising() } else { self.health.falling() };
        match self.state {
            State::Starting | State::Running => match (self.drain, self.agent.checking, full) {
                (true, true, _) => "DRAIN (agent)".to_owned(),
                (true, false, true) => "DRAIN".to_owned(),
                (true, false, false) => format!("DRAIN {part}/{whole}"),
                (false, _, false) => format!("UP {part}/{whole}"),
                (false, _, true) if self.checking => "UP".to_owned(),
                (false, _, true) => "no check".to_owned(),
            },
            State::Stopping if full => "NOLB".to_owned(),
            State::Stopping => format!("NOLB {part}/{whole}"),
            State::Stopped if self.agent.checking && self.agent.health.value() == 0 => {
                "DOWN (agent)".to_owned()
            }
            State::Stopped if self.checking && self.health.value() == 0 => "DOWN".to_owned(),
            State::Stopped if self.checking || self.agent.checking => format!("DOWN {part}/{whole}"),
            State::Stopped => "DOWN".to_owned(),
        }
    }
}

/// What an operator can pretend that checks have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forced {
    /// `health up`.
    Up,
    /// `health stopping`.
    Stopping,
    /// `health down`.
    Down,
    /// `agent up`.
    AgentUp,
    /// `agent down`.
    AgentDown,
}

#[cfg(test)]
mod tests;
