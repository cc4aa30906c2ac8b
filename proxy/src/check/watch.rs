//! The health checks of one server, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announce::{Cause, settle};
use super::connect::{Target, Where};
use super::run::{Limits, run};
use super::status::CheckReport;
use super::{external, is_running, log_check, tls};
use crate::backend::Backend;
use crate::config::{CheckKind, ProxyProtocol, Settings};
use crate::server::Server;

/// The checks of one server.
pub(super) struct Watch {
    pub(super) backend: Arc<Backend>,
    pub(super) server: Arc<Server>,
    pub(super) spread_percent: u32,
}

impl Watch {
    /// Runs until it is dropped.
    pub(super) async fn run(&self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            if self.server.wants_checks() {
                self.check().await;
            }
            self.pause().await;
        }
    }

    /// Waits until the next check is due; when sessions fail meanwhile, only the fast interval.
    async fn pause(&self) {
        let begin = tokio::time::Instant::now();
        let interval = spread(self.server.check_interval(), self.spread_percent);
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = self.server.hurry.notified() => {
                let fast = self.server.config().options.fastinter.unwrap_or(interval).min(interval);
                tokio::time::sleep_until((begin + interval).min(tokio::time::Instant::now() + fast)).await;
            }
        }
    }

    async fn check(&self) {
        if self.server.check_place().is_none() {
            return;
        }
        match once(&self.backend, &self.server).await {
            Ok(report) => self.ended(&report),
            Err(error) => tracing::warn!(server = %self.server.full_name(), %error, "cannot check"),
        }
    }

    fn ended(&self, report: &CheckReport) {
        let now = Instant::now();
        let (transition, told) = self.server.change(|condition| condition.check_ended(report.clone(), now));
        if told && self.backend.config().settings.log_health_checks {
            log_check(&self.backend, &self.server, report, "Health");
        }
        settle(&self.backend, &self.server, transition, Cause::Check(report));
    }
}

/// Runs a server's own check once; the server's state stays as it is.
///
/// # Errors
/// The check cannot be run: the server has no address, or TLS is not set up.
pub async fn once(backend: &Arc<Backend>, server: &Arc<Server>) -> Result<CheckReport, String> {
    let place = server.check_place().ok_or("the server has no address")?;
    let config = Arc::clone(&backend.config());
    let options = Arc::clone(&server.config());
    let options = &options.options;
    let kind = options.check_kind.unwrap_or(config.settings.check);
    if kind == CheckKind::External {
        server.check_begins();
        let limit = external::limit(&config.settings, options.inter);
        return Ok(external::run(backend, server, &place, limit).await);
    }
    let plan = backend.plan(kind);
    let tls = tls::of_checks(server).map_err(|error| error.to_string())?;
    let elsewhere = options.check_port.is_some() || options.check_address.is_some();
    let own = options.send_proxy.filter(|_| options.check_send_proxy || !elsewhere);
    let target = Target {
        source: source(&place, &config.settings, options.source.as_ref()),
        send_proxy: own.or(options.check_send_proxy.then_some(ProxyProtocol::V1)),
        tls,
        place,
    };
    server.check_begins();
    let limits = limits(&config.settings, options.inter);
    Ok(run(&plan, &target, limits, is_running(server)).await.report)
}

/// HAProxy: without `timeout check`, a check may take as long as the interval; with it, the connection may
/// take `timeout connect` (not longer than the interval), and the rest the timeout.
pub(super) fn limits(settings: &Settings, inter: Duration) -> Limits {
    let connect = settings.timeouts.connect.map_or(inter, |connect| connect.min(inter));
    match settings.timeouts.check {
        Some(check) => Limits { connect, answer: Some(check) },
        None => Limits { connect: inter, answer: None },
    }
}

/// Our own address towards the server, when it is of the same family.
pub(super) fn source(
    place: &Where,
    settings: &Settings,
    own: Option<&crate::config::server::Source>,
) -> Option<std::net::SocketAddr> {
    let source = own.or(settings.source.as_ref())?.address;
    match place {
        // A port of a range is for sessions.
        Where::Ip(address) if address.is_ipv4() == source.is_ipv4() && !source.ip().is_unspecified() => {
            Some(std::net::SocketAddr::new(source.ip(), 0))
        }
        _ => None,
    }
}

/// More or less by `spread-checks`.
pub(super) fn spread(interval: Duration, percent: u32) -> Duration {
    if percent == 0 {
        return interval;
    }
    let range = interval * percent / 100;
    let share = f64::from(random_u16()) / f64::from(u16::MAX);
    (interval + range).saturating_sub((range * 2).mul_f64(share)).max(Duration::from_millis(1))
}

fn random_u16() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    u16::try_from(RandomState::new().hash_one(0u8) & 0xffff).unwrap_or(0)
}
