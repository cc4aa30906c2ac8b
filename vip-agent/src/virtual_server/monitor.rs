//! The rhythm of the checks: one task per check, which asks, reports, and waits.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::checker::{self, Target};
use super::{Report, is_here, nft};
use crate::config::ScriptUser;
use crate::config::virtual_server::VirtualServer;

/// Starts every check of a virtual server.
pub(super) fn start(
    config: &VirtualServer,
    reports: &mpsc::Sender<Report>,
    user: Option<ScriptUser>,
) -> Vec<JoinHandle<()>> {
    let config = Arc::new(config.clone());
    let name: Arc<str> = config.name().into();
    let mut tasks = Vec::new();
    for (server, real) in config.real_servers.iter().enumerate() {
        for check in 0..real.checks.len() {
            let (config, name, reports) = (Arc::clone(&config), Arc::clone(&name), reports.clone());
            tasks.push(tokio::spawn(one(config, name, server, check, reports, user)));
        }
    }
    tasks
}

async fn one(
    config: Arc<VirtualServer>,
    service: Arc<str>,
    server: usize,
    index: usize,
    reports: mpsc::Sender<Report>,
    user: Option<ScriptUser>,
) {
    let real = &config.real_servers[server];
    let check = &real.checks[index];
    // A port of 0 is the port of the virtual server.
    let port = match (real.port, config.listen.first()) {
        (0, Some(crate::config::virtual_server::Listen::Address { port, .. })) => *port,
        (port, _) => port,
    };
    let target = Target::of(check, real.address, port);
    // Checks of many servers must not all come at once.
    let mut pause = random_part(check.warmup);
    loop {
        tokio::time::sleep(pause).await;
        pause = check.delay_loop;
        if config.ha_suspend && !is_here(&config, &nft::place()) {
            continue;
        }
        let verdict = checker::ask(check, &target, user).await;
        let (retry, answer) = oneshot::channel();
        let report = Report { service: Arc::clone(&service), server, check: index, verdict, retry };
        if reports.send(report).await.is_err() {
            return;
        }
        if answer.await.unwrap_or(false) {
            pause = check.delay_before_retry;
        }
    }
}

fn random_part(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() >> 32;
    most.mul_f64(random as f64 / f64::from(u32::MAX))
}
