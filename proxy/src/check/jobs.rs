//! The tasks that check servers, ask agents, look names up and let slow starts end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::shutdown::ShutdownToken;

use super::agent::Agent;
use super::watch::Watch;
use super::{announce, tracks};
use crate::backend::Backend;
use crate::condition::Admin;
use crate::config::address::Host;
use crate::process::Process;
use crate::resolvers;
use crate::server::Server;
use crate::stats::row::full_connections;

/// Intervals below this do not decide how first checks are spread (HAProxy: SRV_CHK_INTER_THRES).
const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a name that is not known is looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);
/// How often weights grow during a slow start.
const WARM_INTERVAL: Duration = Duration::from_secs(1);

/// The tasks; they follow the servers that there are.
#[derive(Debug, Default)]
pub struct Checks {
    tasks: tokio::task::JoinSet<()>,
    running: HashMap<(Job, usize), Running>,
    /// Those that belong to no server and are begun anew with every change.
    common: Vec<tokio::task::AbortHandle>,
}

#[derive(Debug)]
struct Running {
    /// Keeps the server alive, so that no other one has its place in memory and with it its key.
    _server: Arc<Server>,
    task: tokio::task::AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Check,
    Agent,
    LookUp,
}

impl Job {
    /// Whether a server needs it.
    fn is_wanted(self, server: &Server) -> bool {
        let config = server.config();
        let options = &config.options;
        match self {
            Self::Check => options.check && options.track.is_none(),
            Self::Agent => options.agent.check,
            Self::LookUp => {
                matches!(config.address.host, Host::Name(_))
                    && options.resolvers.is_none()
                    && server.known_address().is_none()
            }
        }
    }
}

impl Checks {
    /// Starts what the servers need and is not running, and ends what they no longer need. Checks that
    /// run already go on in their rhythm; the first ones of new servers are spread among themselves.
    pub fn update(&mut self, process: &Process, stop: &ShutdownToken) {
        let backends: Vec<Arc<Backend>> =
            process.sections().iter().filter_map(|section| section.backend.clone()).collect();
        for section in process.sections().iter() {
            if let Some(backend) = &section.backend {
                backend.set_workers(process.workers());
                backend.set_default_fullconn(full_connections(process, section));
            }
        }
        tracks::link(&backends);
        while self.tasks.try_join_next().is_some() {}
        let servers: Vec<(&Arc<Backend>, Arc<Server>)> = backends
            .iter()
            .flat_map(|backend| {
                let servers: Vec<_> = backend.servers().iter().cloned().collect();
                servers.into_iter().map(move |server| (backend, server))
            })
            .collect();
        self.end_unwanted(&servers);
        let global = process.global();
        for job in [Job::Check, Job::Agent, Job::LookUp] {
            let missing: Vec<_> = servers
                .iter()
                .filter(|(_, server)| job.is_wanted(server) && !self.running.contains_key(&key(job, server)))
                .collect();
            let inters: Vec<Duration> = missing.iter().map(|(_, server)| inter(job, server)).collect();
            let delays = first_delays(&inters, global.max_spread_checks);
            for (delay, (backend, server)) in delays.into_iter().zip(missing) {
                let (backend, server) = (Arc::clone(backend), server.clone());
                let task =
                    self.begin(job, backend, server.clone(), delay, global.spread_checks, stop.clone());
                self.running.insert(key(job, &server), Running { _server: server, task });
            }
        }
        self.begin_common(process, &backends, stop);
    }

    fn end_unwanted(&mut self, servers: &[(&Arc<Backend>, Arc<Server>)]) {
        let wanted: HashMap<usize, &Arc<Server>> =
            servers.iter().map(|(_, server)| (place(server), server)).collect();
        self.running.retain(|(job, place), running| {
            let keep =
                !running.task.is_finished() && wanted.get(place).is_some_and(|server| job.is_wanted(server));
            if !keep {
                running.task.abort();
            }
            keep
        });
    }

    fn begin(
        &mut self,
        job: Job,
        backend: Arc<Backend>,
        server: Arc<Server>,
        delay: Duration,
        spread_percent: u32,
        mut stop: ShutdownToken,
    ) -> tokio::task::AbortHandle {
        match job {
            Job::Check => self.tasks.spawn(async move {
                let watch = Watch { backend, server, spread_percent };
                tokio::select! {
                    () = watch.run(delay) => {}
                    _ = stop.requested() => {}
                }
            }),
            Job::Agent => self.tasks.spawn(async move {
                let agent = Agent { backend, server, spread_percent };
                tokio::select! {
                    () = agent.run(delay) => {}
                    _ = stop.requested() => {}
                }
            }),
            Job::LookUp => self.tasks.spawn(async move {
                tokio::select! {
                    () = look_up(backend, server) => {}
                    _ = stop.requested() => {}
                }
            }),
        }
    }

    /// Name servers are asked and slow starts ended by tasks over many servers.
    fn begin_common(&mut self, process: &Process, backends: &[Arc<Backend>], stop: &ShutdownToken) {
        for task in self.common.drain(..) {
            task.abort();
        }
        for follower in resolvers::followers(&process.resolvers(), backends) {
            let mut stop = stop.clone();
            self.common.push(self.tasks.spawn(async move {
                tokio::select! {
                    () = follower.run() => {}
                    _ = stop.requested() => {}
                }
            }));
        }
        let slow = |backend: &&Arc<Backend>| {
            backend.servers().iter().any(|server| server.config().options.slowstart.is_some())
        };
        let slow: Vec<Arc<Backend>> = backends.iter().filter(slow).cloned().collect();
        if !slow.is_empty() {
            let mut stop = stop.clone();
            self.common.push(self.tasks.spawn(async move {
                tokio::select! {
                    () = warm(&slow) => {}
                    _ = stop.requested() => {}
                }
            }));
        }
    }

    /// Ends all of them.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn place(server: &Arc<Server>) -> usize {
    Arc::as_ptr(server).addr()
}

fn key(job: Job, server: &Arc<Server>) -> (Job, usize) {
    (job, place(server))
}

fn inter(job: Job, server: &Server) -> Duration {
    let config = server.config();
    match job {
        Job::Agent => config.options.agent.inter.unwrap_or(config.options.inter),
        Job::Check | Job::LookUp => config.options.inter,
    }
}

/// When each server's first check begins: spread over the shortest interval of a second or more, or
/// the server's own when that is longer.
pub(super) fn first_delays(inters: &[Duration], most: Option<Duration>) -> Vec<Duration> {
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
async fn look_up(backend: Arc<Backend>, server: Arc<Server>) {
    loop {
        let address = server.config().address.clone();
        if let Ok(Ok(address)) = tokio::task::spawn_blocking(move || address.resolve()).await {
            tracing::info!(server = %server.full_name(), %address, "server has an address");
            server.set_ip(address.ip(), Some(address.port()));
            let transition =
                server.change(|condition| condition.order(Admin::NO_ADDRESS, false, Instant::now()));
            announce::settle(&backend, &server, transition, announce::Cause::Operator);
            return;
        }
        tokio::time::sleep(LOOKUP_INTERVAL).await;
    }
}

/// Lets the weights of servers that start slowly grow.
async fn warm(backends: &[Arc<Backend>]) {
    loop {
        tokio::time::sleep(WARM_INTERVAL).await;
        for backend in backends {
            backend.warm(Instant::now());
        }
    }
}
