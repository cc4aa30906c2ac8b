//! Carries a change of a server out: who may be chosen, who waits, who follows it, what the log says.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::status::CheckReport;
use crate::backend::Backend;
use crate::condition::{Admin, Forced, State, Transition};
use crate::config::Kind;
use crate::config::server::OnError;
use crate::registry::{Cause as CloseCause, Which};
use crate::server::{Order, Server};
use crate::syslog::level;

/// Why a server changed.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    /// A check, an agent or watched sessions.
    Check(&'a CheckReport),
    /// An operator's order.
    Operator,
    /// An operator's order that pretends a check.
    Pretended,
    /// The server it tracks, `backend/server`.
    Via(&'a str),
    /// Another reason.
    Reason(&'a str),
}

/// Tells everybody that a server changed. Nothing happens when it did not.
pub fn settle(backend: &Arc<Backend>, server: &Arc<Server>, transition: Transition, cause: Cause<'_>) {
    if !transition.is_change() {
        return;
    }
    let now = Instant::now();
    let moved = backend.server_moved(server, now);
    let (active, backups) = backend.active_and_backup();
    let scene = Scene {
        kind: if server.config().options.backup { "Backup Server" } else { "Server" },
        name: server.full_name(),
        via: server.look(|condition| condition.via.clone()),
        active,
        backups,
        sessions: server.counters.current.load(Relaxed),
        requeued: moved.requeued,
        pending: backend.pending_count(),
        silent: backend.config().settings.log_health_checks,
    };
    let logger = backend.logger();
    for (severity, text) in scene.lines(transition, cause) {
        logger.send(severity, &text);
        tracing::info!(server = %scene.name, "{text}");
    }
    if moved.lost_all {
        tell_empty(backend);
    }
    close_sessions(backend, server, transition);
    follow(server, now);
}

/// Everybody who tracks the server follows it.
fn follow(server: &Arc<Server>, now: Instant) {
    let trackers = server.trackers();
    if trackers.is_empty() {
        return;
    }
    let tracked = server.look(Clone::clone);
    for (backend, tracker) in trackers {
        let transition = tracker.change(|condition| condition.follow(&tracked, now));
        settle(&backend, &tracker, transition, Cause::Via(&server.full_name()));
    }
}

/// The whole section has nobody left.
pub(super) fn tell_empty(backend: &Backend) {
    let kind = if backend.config().kind == Kind::Backend { "backend" } else { "proxy" };
    backend.logger().send(level::EMERG, &format!("{kind} {} has no server available!", backend.name));
    tracing::error!(backend = %backend.name, "no server available");
}

/// `on-marked-down` and `on-marked-up`.
fn close_sessions(backend: &Arc<Backend>, server: &Arc<Server>, transition: Transition) {
    let config = server.config();
    let options = &config.options;
    match transition.turned() {
        Some(false) if options.on_marked_down_shutdown_sessions => {
            backend.close_sessions(&Which::Server(server.clone()), CloseCause::ServerDown);
        }
        Some(true)
            if options.on_marked_up_shutdown_backup_sessions && !options.backup && server.weight() > 0 =>
        {
            for other in backend.servers().iter().filter(|other| other.config().options.backup) {
                backend.close_sessions(&Which::Server(other.clone()), CloseCause::ActiveUp);
            }
        }
        _ => {}
    }
}

/// Carries an operator's (or an agent's) order out and tells everybody.
pub fn carry_out(backend: &Arc<Backend>, server: &Arc<Server>, order: Order) {
    let now = Instant::now();
    let both = Admin::FORCED_MAINTENANCE.with(Admin::FORCED_DRAIN, true);
    let transition = server.order(|condition| match order {
        Order::Ready => {
            condition.order(both, false, now);
        }
        // Drain ends a maintenance, and the other way round, as in HAProxy.
        Order::Drain => {
            condition.order(Admin::FORCED_DRAIN, true, now);
            condition.order(Admin::FORCED_MAINTENANCE, false, now);
        }
        Order::Maintenance => {
            condition.order(Admin::FORCED_MAINTENANCE, true, now);
            condition.order(Admin::FORCED_DRAIN, false, now);
        }
    });
    settle(backend, server, transition, Cause::Operator);
}

/// Pretends that checks or the agent said something, by an operator's order.
pub fn force(backend: &Arc<Backend>, server: &Arc<Server>, to: Forced) {
    let transition = server.force(to, Instant::now());
    settle(backend, server, transition, Cause::Pretended);
}

/// A session could or could not connect to a server whose sessions are watched.
pub fn observe(backend: &Arc<Backend>, server: &Arc<Server>, connected: bool) {
    let (limit, on_error) = {
        let config = server.config();
        (config.options.error_limit, config.options.on_error)
    };
    let now = Instant::now();
    let acted = server.change(|condition| condition.observed(connected, limit, on_error, now));
    if let Some((transition, report)) = acted {
        if on_error != OnError::FastInter && backend.config().settings.log_health_checks {
            super::log_check(backend, server, &report, "Health");
        }
        settle(backend, server, transition, Cause::Check(&report));
        // The next check is due at the fast interval now.
        server.hurry.notify_one();
    }
}

/// What the lines of a change are made of.
struct Scene {
    kind: &'static str,
    name: String,
    via: Option<Arc<str>>,
    active: usize,
    backups: usize,
    sessions: u32,
    requeued: usize,
    pending: usize,
    /// Checks have lines of their own, so that the reason need not be told again.
    silent: bool,
}

impl Scene {
    fn lines(&self, transition: Transition, cause: Cause<'_>) -> Vec<(u8, String)> {
        let ((was, before), (state, after)) = (transition.before, transition.after);
        let who = format!("{} {}", self.kind, self.name);
        let up = if state == State::Stopped { "DOWN" } else { "UP" };
        let mut lines = Vec::new();
        let mut notice = |text: String| lines.push((level::NOTICE, text));
        match (before.is_maintenance(), after.is_maintenance()) {
            (false, true) if was == State::Stopped => {
                notice(format!("{who} was DOWN and now enters maintenance{}.", aside(cause)));
            }
            (false, true) => {
                notice(format!("{who} is going DOWN for maintenance{}. {}", aside(cause), self.left()));
            }
            (true, false) => {
                let mode = if after.is_drain() { "DRAIN" } else { "READY" };
                let leaving = if before.has(Admin::FORCED_MAINTENANCE) {
                    "leaving forced maintenance"
                } else if before.has(Admin::NO_ADDRESS) {
                    "resolves again"
                } else {
                    "leaving maintenance"
                };
                notice(format!("{who} is {up}/{mode} ({leaving})."));
                if after.is_drain() {
                    notice(self.still_drains(&who, after));
                }
            }
            (true, true) if before != after => notice(self.still_in_maintenance(&who, before, after)),
            (true, true) => {}
            (false, false) => match (before.is_drain(), after.is_drain()) {
                (false, true) => {
                    notice(format!("{who} enters drain state{}. {}", aside(cause), self.online()));
                }
                (true, false) => {
                    notice(format!("{who} is {up} (leaving forced drain)."));
                }
                (true, true) if before != after => notice(self.still_drains(&who, after)),
                _ => lines.extend(self.turned(&who, was, state, cause)),
            },
        }
        lines
    }

    /// A change by checks alone.
    fn turned(&self, who: &str, was: State, state: State, cause: Cause<'_>) -> Option<(u8, String)> {
        let because = match cause {
            Cause::Check(report) if !self.silent => format!(", {}", report.reason()),
            Cause::Pretended => ", changed from CLI".to_owned(),
            Cause::Via(other) => format!(" via {other}"),
            Cause::Check(_) | Cause::Operator | Cause::Reason(_) => String::new(),
        };
        let up = |state| matches!(state, State::Starting | State::Running);
        match state {
            _ if was == state || (up(was) && up(state)) => None,
            State::Stopped => Some((level::ALERT, format!("{who} is DOWN{because}. {}", self.left()))),
            State::Stopping => {
                Some((level::NOTICE, format!("{who} is stopping{because}. {}", self.online())))
            }
            State::Starting | State::Running => {
                Some((level::NOTICE, format!("{who} is UP{because}. {}", self.online())))
            }
        }
    }

    fn still_drains(&self, who: &str, after: Admin) -> String {
        match &self.via {
            Some(via) if !after.has(Admin::FORCED_DRAIN) => {
                format!("{who} is leaving forced drain but remains in drain mode via {via}.")
            }
            _ => format!("{who} remains in forced drain mode."),
        }
    }

    fn still_in_maintenance(&self, who: &str, before: Admin, after: Admin) -> String {
        match &self.via {
            Some(via) if before.has(Admin::FORCED_MAINTENANCE) && !after.has(Admin::FORCED_MAINTENANCE) => {
                format!("{who} is leaving forced maintenance but remains in maintenance via {via}.")
            }
            _ => format!("{who} remains in forced maintenance."),
        }
    }

    fn left(&self) -> String {
        format!(
            "{} active and {} backup servers left.{} {} sessions active, {} requeued, {} remaining in queue.",
            self.active,
            self.backups,
            self.on_backup(),
            self.sessions,
            self.requeued,
            self.pending
        )
    }

    fn online(&self) -> String {
        format!(
            "{} active and {} backup servers online.{} {} sessions requeued, {} total in queue.",
            self.active,
            self.backups,
            self.on_backup(),
            self.requeued,
            self.pending
        )
    }

    fn on_backup(&self) -> &'static str {
        if self.active == 0 && self.backups > 0 { " Running on backup." } else { "" }
    }
}

/// The reason behind a word, where there is one.
fn aside(cause: Cause<'_>) -> String {
    match cause {
        Cause::Via(other) => format!(" via {other}"),
        Cause::Reason(reason) => format!(" ({reason})"),
        _ => String::new(),
    }
}
