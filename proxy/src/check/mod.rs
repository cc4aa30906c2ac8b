//! Health checks: when to run one, what it said, who is told.
//!
//! The first checks are spread over the interval, as HAProxy does, so that many servers are not probed
//! at the same moment. After a check the next one follows an interval later, counted from its end.

mod agent;
pub mod announce;
pub mod answer;
pub mod connect;
pub mod expect;
mod external;
mod jobs;
pub mod plan;
pub mod run;
pub mod state;
pub mod status;
mod tls;
mod tracks;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::announce::{Cause, carry_out, force, observe, settle};
pub use self::jobs::Checks;
pub use self::status::{CheckReport, CheckStatus};
pub use self::watch::once;

use self::connect::{Target, Where};
use self::plan::Plan;
use self::run::Limits;
use self::state::Outcome;
use crate::backend::Backend;
use crate::condition::State;
use crate::config::checks::{CheckKind, CheckSettings};
use crate::server::Server;
use crate::syslog::level;

/// Runs one check with the default settings of its kind, at most this long.
pub async fn probe(address: SocketAddr, kind: CheckKind, limit: Duration) -> CheckReport {
    let plan = Plan::new(kind, &CheckSettings::default());
    let target = Target { place: Where::Ip(address), source: None, tls: None, send_proxy: None };
    run::run(&plan, &target, Limits { connect: limit, answer: None }, true).await.report
}

/// The system's words for an error, without its number.
pub fn describe(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| nix::errno::Errno::from_raw(number).desc().to_owned())
}

/// The line of `option log-health-checks`; `who` is `Health` or `Agent`.
fn log_check(backend: &Arc<Backend>, server: &Arc<Server>, report: &CheckReport, who: &str) {
    let health =
        server.look(|condition| if who == "Agent" { condition.agent.health } else { condition.health });
    let outcome = report.status.outcome();
    let (part, whole) = if health.is_up() { health.falling() } else { health.rising() };
    let word = match (health.is_up(), server.weight() > 0) {
        (true, true) => "UP",
        (true, false) => "DRAIN",
        (false, _) => "DOWN",
    };
    let ended = match outcome {
        Outcome::PassedConditionally => "conditionally succeeded",
        Outcome::Passed => "succeeded",
        Outcome::Failed | Outcome::Neutral => "failed",
    };
    let text = format!(
        "{who} check for {}server {} {ended}, {}, status: {part}/{whole} {word}.",
        if server.config().options.backup { "backup " } else { "" },
        server.full_name(),
        report.reason(),
    );
    backend.logger().send(level::NOTICE, &text);
}

/// Whether a server is up, for checks whose verdict depends on it.
fn is_running(server: &Server) -> bool {
    server.look(|condition| condition.state != State::Stopped)
}

#[cfg(test)]
mod tests;
