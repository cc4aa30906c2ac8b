//! `option rebalance RATE`: long sessions move away from a server that drains, and back to one that has returned,
//! not more in a second than an operator allows, so that clients do not all connect anew at once.
//!
//! A server counts as returned when it came up, or became ready, less than `RETURN_WINDOW` ago. Then those
//! servers give up sessions that have more than their share by weight. Which session goes, is the oldest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use daemon::shutdown::ShutdownToken;

use crate::backend::Backend;
use crate::process::Process;
use crate::registry::{Cause, Which};
use crate::server::Server;

/// How often servers are looked at.
const TURN: Duration = Duration::from_millis(100);
/// So long after its return others give sessions up for a server.
const RETURN_WINDOW: Duration = Duration::from_secs(3600);
/// Unused allowance is kept for one session at most.
const MOST_SAVED: f64 = 1.0;

/// Looks at all backends until a stop.
pub async fn run(process: Arc<Process>, mut stop: ShutdownToken) {
    let mut allowances: HashMap<usize, f64> = HashMap::new();
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            _ = stop.requested() => return,
        }
        let sections = process.sections().clone();
        for backend in sections.iter().filter_map(|section| section.backend.as_ref()) {
            let Some(rule) = backend.config().settings.rebalance else { continue };
            // The address of a backend tells it from others for as long as the process lives with it.
            let allowance = allowances.entry(Arc::as_ptr(backend) as usize).or_insert(MOST_SAVED);
            let per_second = f64::from(rule.sessions) / rule.period.as_secs_f64().max(1.0);
            let wins = per_second * TURN.as_secs_f64();
            *allowance = (*allowance + wins).min(MOST_SAVED.max(wins));
            while *allowance >= 1.0 {
                let server = victim(backend, rule.on_drain, rule.on_return, Instant::now());
                let Some(server) = server else { break };
                *allowance -= 1.0;
                let closed =
                    process.workers().close(&Which::Server(server.clone()), 1, Cause::Operator).await;
                if closed == 0 {
                    break;
                }
                tracing::debug!(server = %server.full_name(), "a session moves to another server");
            }
        }
    }
}

/// The server that should give a session up now.
fn victim(backend: &Backend, on_drain: bool, on_return: bool, now: Instant) -> Option<Arc<Server>> {
    let servers = backend.servers();
    let sessions = |server: &Server| server.counters.current.load(Relaxed);
    let takes = |server: &Server| server.is_usable() && server.weight() > 0;
    // Sessions that are closed must find another server.
    if !servers.iter().any(|server| takes(server)) {
        return None;
    }
    let drains = |server: &Server| server.condition().drain || server.weight() == 0;
    if on_drain {
        let draining = servers.iter().find(|server| drains(server) && sessions(server) > 0);
        if draining.is_some() {
            return draining.cloned();
        }
    }
    if !on_return {
        return None;
    }
    let active: Vec<&Arc<Server>> = servers.iter().filter(|server| takes(server)).collect();
    let (all, weights) = active.iter().fold((0u64, 0u64), |(all, weights), server| {
        (all + u64::from(sessions(server)), weights + u64::from(server.weight()))
    });
    let share = |server: &Server| all * u64::from(server.weight()) / weights.max(1);
    let came_back = |server: &Server| {
        let condition = server.condition();
        // At the start nobody has come back.
        condition.downs > 0 && now.saturating_duration_since(condition.changed) < RETURN_WINDOW
    };
    let lacks = active.iter().any(|server| came_back(server) && u64::from(sessions(server)) < share(server));
    if !lacks {
        return None;
    }
    let excess = |server: &Server| u64::from(sessions(server)).saturating_sub(share(server));
    active.into_iter().max_by_key(|server| excess(server)).filter(|server| excess(server) > 0).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::carry_out;
    use crate::config::{Config, haproxy_cfg::Reader};
    use crate::server::Order;

    fn backend() -> Arc<Backend> {
        let (mut config, mut remarks) = (Config::default(), daemon::diagnostic::Diagnostics::new());
        let text = "backend b\n mode tcp\n server a 127.0.0.1:1 weight 1\n server b 127.0.0.1:2 weight 1\n";
        Reader::default().read(text, "t.cfg", &mut config, &mut remarks);
        Process::new(config, "haproxy").backend("b").unwrap()
    }

    #[test]
    fn a_draining_server_gives_sessions_up_while_another_takes_them() {
        let backend = backend();
        let (a, b) = (backend.server("a").unwrap(), backend.server("b").unwrap());
        a.counters.current.store(3, Relaxed);
        let victim = |on_drain, on_return| {
            victim(&backend, on_drain, on_return, Instant::now()).map(|server| server.name().to_owned())
        };
        assert_eq!(victim(true, true), None);
        carry_out(&backend, &a, Order::Drain);
        assert_eq!(victim(true, true), Some("a".to_owned()));
        assert_eq!(victim(false, true), None);
        carry_out(&backend, &b, Order::Maintenance);
        assert_eq!(victim(true, true), None);
    }

    #[test]
    fn a_server_that_came_back_gets_its_share() {
        let backend = backend();
        let (a, b) = (backend.server("a").unwrap(), backend.server("b").unwrap());
        a.counters.current.store(5, Relaxed);
        let victim = || victim(&backend, true, true, Instant::now()).map(|server| server.name().to_owned());
        assert_eq!(victim(), None);
        carry_out(&backend, &b, Order::Maintenance);
        carry_out(&backend, &b, Order::Ready);
        assert_eq!(victim(), Some("a".to_owned()));
        a.counters.current.store(3, Relaxed);
        b.counters.current.store(2, Relaxed);
        assert_eq!(victim(), None);
    }
}
