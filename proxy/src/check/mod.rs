//! Health checks: when to run one, what it said, who is told.
//!
//! The first checks are spread over the interval, as HAProxy does, so that many servers are not probed
//! at the same moment. After a check the next one follows an interval later, counted from its end.

mod amqp;
pub mod state;
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::shutdown::ShutdownToken;

use self::state::Outcome;
use crate::backend::Backend;
use crate::config::{CheckKind, Global};
use crate::server::{Effect, Order, Server};
use crate::syslog::{Logger, level};

/// Intervals below this do not decide how first checks are spread (HAProxy: SRV_CHK_INTER_THRES).
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a name that is not known is looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);

/// How a check ended, in HAProxy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// No check was run yet.
    None,
    /// Connected.
    L4Ok,
    /// Nobody answered.
    L4Timeout,
    /// Refused, unreachable.
    L4Con,
    /// The protocol was understood.
    L7Ok,
    /// Connected, but no answer.
    L7Timeout,
    /// Connected, but a wrong answer.
    L7Response,
}

impl CheckStatus {
    /// Whether the server is well.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::L4Ok | Self::L7Ok => Outcome::Passed,
            _ => Outcome::Failed,
        }
    }

    /// The short word of the statistics page.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "INI",
            Self::L4Ok => "L4OK",
            Self::L4Timeout => "L4TOUT",
            Self::L4Con => "L4CON",
            Self::L7Ok => "L7OK",
            Self::L7Timeout => "L7TOUT",
            Self::L7Response => "L7RSP",
        }
    }

    /// The words of the log.
    pub fn description(self) -> &'static str {
        match self {
            Self::None => "Initializing",
            Self::L4Ok => "Layer4 check passed",
            Self::L4Timeout => "Layer4 timeout",
            Self::L4Con => "Layer4 connection problem",
            Self::L7Ok => "Layer7 check passed",
            Self::L7Timeout => "Layer7 timeout",
            Self::L7Response => "Layer7 invalid response",
        }
    }
}

/// One finished check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// How it ended.
    pub status: CheckStatus,
    /// The reason, or what the server said; may be empty.
    pub info: String,
    /// How long it took.
    pub duration: Duration,
}

impl CheckReport {
    /// Before the first check.
    pub fn none() -> Self {
        Self { status: CheckStatus::None, info: String::new(), duration: Duration::ZERO }
    }

    /// `reason: Layer4 connection problem, info: "Connection refused", check duration: 0ms`
    fn reason(&self) -> String {
        let info = if self.info.is_empty() { String::new() } else { format!(", info: \"{}\"", self.info) };
        format!(
            "reason: {}{info}, check duration: {}ms",
            self.status.description(),
            self.duration.as_millis()
        )
    }
}

/// Runs one check.
pub async fn probe(address: SocketAddr, kind: CheckKind, limit: Duration) -> CheckReport {
    let start = Instant::now();
    let mut connected = false;
    let (status, info) = match kind {
        CheckKind::Amqp => match tokio::time::timeout(limit, amqp::check(address, &mut connected)).await {
            Ok(Ok(server)) => (CheckStatus::L7Ok, server),
            Ok(Err(amqp::Failure::Connect(error))) => (connect_status(&error), describe(&error)),
            Ok(Err(amqp::Failure::Answer(text))) => (CheckStatus::L7Response, text),
            Err(_) if connected => (CheckStatus::L7Timeout, String::new()),
            Err(_) => (CheckStatus::L4Timeout, String::new()),
        },
        // The other kinds are refused or remarked on when the configuration is read.
        _ => match tokio::time::timeout(limit, tcp::check(address)).await {
            Ok(Ok(())) => (CheckStatus::L4Ok, String::new()),
            Ok(Err(error)) => (connect_status(&error), describe(&error)),
            Err(_) => (CheckStatus::L4Timeout, String::new()),
        },
    };
    CheckReport { status, info, duration: start.elapsed() }
}

fn connect_status(error: &std::io::Error) -> CheckStatus {
    if error.kind() == std::io::ErrorKind::TimedOut { CheckStatus::L4Timeout } else { CheckStatus::L4Con }
}

/// The system's words for an error, without its number.
pub fn describe(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| nix::errno::Errno::from_raw(number).desc().to_owned())
}

/// The tasks that check servers and look their names up.
#[derive(Debug, Default)]
pub struct Checks {
    tasks: tokio::task::JoinSet<()>,
    /// One for each server that has a task, in no order.
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    server: Arc<Server>,
    job: Job,
    task: tokio::task::AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Check,
    LookUp,
}

impl Checks {
    /// Starts what these backends need and is not running, and ends what they no longer need. Checks that
    /// run already go on in their rhythm; the first ones of new servers are spread among themselves.
    pub fn update(&mut self, backends: &[Arc<Backend>], global: &Global, stop: &ShutdownToken) {
        while self.tasks.try_join_next().is_some() {}
        let wanted: Vec<(&Arc<Backend>, Arc<Server>)> = backends
            .iter()
            .flat_map(|backend| {
                backend.servers().iter().cloned().map(move |server| (backend, server)).collect::<Vec<_>>()
            })
            .collect();
        self.running.retain(|running| {
            let keep = !running.task.is_finished()
                && wanted.iter().any(|(_, server)| Arc::ptr_eq(server, &running.server))
                && (running.job == Job::LookUp || running.server.config().options.check);
            if !keep {
                running.task.abort();
            }
            keep
        });
        let missing = |job: Job, server: &Arc<Server>| {
            !self.running.iter().any(|running| running.job == job && Arc::ptr_eq(&running.server, server))
        };
        let checked: Vec<_> = wanted
            .iter()
            .filter(|(_, server)| server.config().options.check && missing(Job::Check, server))
            .collect();
        let unknown: Vec<_> = wanted
            .iter()
            .filter(|(_, server)| server.known_address().is_none() && missing(Job::LookUp, server))
            .collect();
        let inters: Vec<Duration> = checked.iter().map(|(_, server)| server.config().options.inter).collect();
        let delays = first_delays(&inters, global.max_spread_checks);
        for (delay, (backend, server)) in delays.into_iter().zip(checked) {
            let watch = Watch {
                backend: Arc::clone(backend),
                server: server.clone(),
                spread_percent: global.spread_checks,
            };
            let mut stop = stop.clone();
            let task = self.tasks.spawn(async move {
                tokio::select! {
                    () = watch.run(delay) => {}
                    _ = stop.requested() => {}
                }
            });
            self.running.push(Running { server: server.clone(), job: Job::Check, task });
        }
        for (backend, server) in unknown {
            let task = self.tasks.spawn(look_up(Arc::clone(backend), server.clone(), stop.clone()));
            self.running.push(Running { server: server.clone(), job: Job::LookUp, task });
        }
    }

    /// Ends all of them.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// When each server's first check begins: spread over the shortest interval of a second or more, or
/// the server's own when that is longer.
fn first_delays(inters: &[Duration], most: Option<Duration>) -> Vec<Duration> {
    let shortest =
        inters.iter().copied().filter(|inter| *inter >= SHORT_INTERVAL).min().unwrap_or(Duration::ZERO);
    let count = u32::try_from(inters.len()).unwrap_or(u32::MAX).max(1);
    inters
        .iter()
        .zip(0u32..)
        .map(|(inter, position)| {
            let span = shortest.max(*inter);
            most.map_or(span, |most| span.min(most)) * position / count
        })
        .collect()
}

/// Looks a name up until it is known.
async fn look_up(backend: Arc<Backend>, server: Arc<Server>, mut stop: ShutdownToken) {
    loop {
        let address = server.config().address.clone();
        if let Ok(Ok(address)) = tokio::task::spawn_blocking(move || address.resolve()).await {
            tracing::info!(server = %server.full_name(), %address, "server has an address");
            server.set_address(address);
            backend.server_changed(Instant::now());
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOKUP_INTERVAL) => {}
            _ = stop.requested() => return,
        }
    }
}

/// The checks of one server.
struct Watch {
    backend: Arc<Backend>,
    server: Arc<Server>,
    spread_percent: u32,
}

impl Watch {
    async fn run(&self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            if self.server.wants_checks() {
                self.check().await;
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    async fn check(&self) {
        let Some(address) = self.server.check_address() else { return };
        let settings = &Arc::clone(&self.backend.config()).settings;
        let kind = self.server.config().options.check_kind.unwrap_or(settings.check);
        // HAProxy: without `timeout check`, a check may take as long as the interval.
        let inter = self.server.config().options.inter;
        let limit = match (settings.timeouts.check, settings.timeouts.connect) {
            (Some(check), Some(connect)) if kind == CheckKind::Amqp => connect.min(inter) + check,
            (Some(check), None) if kind == CheckKind::Amqp => check,
            (Some(_), Some(connect)) => connect.min(inter),
            _ => inter,
        };
        self.server.check_begins();
        let report = probe(address, kind, limit).await;
        let reason = report.reason();
        let effect = self.server.check_ended(report, Instant::now());
        self.tell(&reason, effect);
    }

    fn tell(&self, reason: &str, effect: Effect) {
        let with_checks = self.backend.config().settings.log_health_checks;
        if with_checks && (effect.moved || effect.status_changed) {
            let condition = self.server.condition();
            let passed = condition.check.status.outcome() == Outcome::Passed;
            let (part, whole) = condition.health.fraction();
            let word = match (condition.health.is_up(), self.server.weight() > 0 && !condition.drain) {
                (true, true) => "UP",
                (true, false) => "DRAIN",
                (false, _) => "DOWN",
            };
            let kind = if self.server.config().options.backup { "backup " } else { "" };
            let text = format!(
                "Health check for {kind}server {} {}, {reason}, status: {part}/{whole} {word}.",
                self.server.full_name(),
                if passed { "succeeded" } else { "failed" },
            );
            self.backend.logger().send(level::NOTICE, &text);
        }
        if effect.turned.is_some() {
            let reason = if with_checks { None } else { Some(reason) };
            announce(&self.backend, &self.server, effect, reason, &self.backend.logger());
        }
    }

    /// Until the next check: the interval of the state, more or less by `spread-checks`.
    fn pause(&self) -> Duration {
        let interval = self.server.check_interval();
        if self.spread_percent == 0 {
            return interval;
        }
        let range = interval * self.spread_percent / 100;
        let share = f64::from(random_u16()) / f64::from(u16::MAX);
        (interval + range).saturating_sub((range * 2).mul_f64(share)).max(Duration::from_millis(1))
    }
}

fn random_u16() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    u16::try_from(RandomState::new().hash_one(0u8) & 0xffff).unwrap_or(0)
}

/// Tells everybody that a server came up or went down, in HAProxy's words.
pub fn announce(
    backend: &Arc<Backend>,
    server: &Server,
    effect: Effect,
    reason: Option<&str>,
    logger: &Logger,
) {
    let lost_all = backend.server_changed(Instant::now());
    let Some(up) = effect.turned else { return };
    let (active, backups) = backend.active_and_backup();
    let name = server.full_name();
    let kind = if server.config().options.backup { "Backup Server" } else { "Server" };
    let because = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
    let on_backup = if active == 0 && backups > 0 { " Running on backup." } else { "" };
    let pending = backend.pending_count();
    if up {
        logger.send(
            level::NOTICE,
            &format!(
                "{kind} {name} is UP{because}. {active} active and {backups} backup servers online.{on_backup} \
                 0 sessions requeued, {pending} total in queue."
            ),
        );
        tracing::info!(server = %name, active, backups, "server is up");
    } else {
        let sessions = server.counters.current.load(std::sync::atomic::Ordering::Relaxed);
        logger.send(
            level::ALERT,
            &format!(
                "{kind} {name} is DOWN{because}. {active} active and {backups} backup servers left.{on_backup} \
                 {sessions} sessions active, 0 requeued, {pending} remaining in queue."
            ),
        );
        tracing::warn!(server = %name, reason = reason.unwrap_or("").trim_start_matches("reason: "), active, backups, sessions, "server is down");
    }
    if lost_all {
        logger.send(level::EMERG, &format!("proxy {} has no server available!", backend.name));
        tracing::error!(backend = %backend.name, "no server available");
    }
}

/// Carries an operator's order out and tells everybody.
pub fn carry_out(backend: &Arc<Backend>, server: &Server, order: Order, logger: &Logger) {
    let before = server.condition();
    let Some(effect) = server.order(order, Instant::now()) else { return };
    let lost_all = backend.server_changed(Instant::now());
    let (active, backups) = backend.active_and_backup();
    let (name, pending) = (server.full_name(), backend.pending_count());
    let text = match order {
        Order::Maintenance => {
            let sessions = server.counters.current.load(std::sync::atomic::Ordering::Relaxed);
            format!(
                "Server {name} is going DOWN for maintenance. {active} active and {backups} backup servers left. \
                 {sessions} sessions active, 0 requeued, {pending} remaining in queue."
            )
        }
        Order::Drain => format!(
            "Server {name} enters drain state. {active} active and {backups} backup servers online. \
             0 sessions requeued, {pending} total in queue."
        ),
        Order::Ready if before.maintenance => {
            format!("Server {name} is UP/READY (leaving forced maintenance).")
        }
        Order::Ready => format!("Server {name} is UP (leaving forced drain)."),
    };
    let severity = if effect.turned == Some(false) { level::WARNING } else { level::NOTICE };
    logger.send(severity, &text);
    tracing::info!(server = %name, ?order, active, backups, "server state set by an operator");
    if lost_all {
        logger.send(level::EMERG, &format!("proxy {} has no server available!", backend.name));
    }
}

#[cfg(test)]
mod tests;
