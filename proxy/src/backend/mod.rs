//! A group of servers: choosing one, waiting for one, giving its place back.
//!
//! A backend lives as long as the configuration names it. A reload, or an order at run time, gives it
//! another configuration and another list of servers: who asks for either gets the present one and may
//! keep it. Inside, one lock holds the list that balancing works on and those who wait.

mod change;
mod queue;
mod weights;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::queue::{Queue, Ticket};
use crate::balance::{Balancer, Pick, Rule, Visitor};
use crate::check;
use crate::check::plan::Plan;
use crate::config::address::Names;
use crate::config::{CheckKind, ProxyConfig};
use crate::counters::Counters;
use crate::registry::{Cause, Which, Workers};
use crate::server::Server;
use crate::syslog::Logger;

/// No more connections than this wait for one backend.
const MAX_PENDING: usize = 65_536;

/// A group of servers.
#[derive(Debug)]
pub struct Backend {
    /// The section it comes from, as the last reload left it.
    config: ArcSwap<ProxyConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// Its servers in the order of the file; a copy of the list in `inner` that needs no lock.
    servers: ArcSwap<Vec<Arc<Server>>>,
    /// Where its lines go.
    logger: ArcSwap<Logger>,
    /// Counters.
    pub counters: Counters,
    /// Sessions at which the limits of its servers are full (`fullconn`).
    fullconn: AtomicU32,
    /// Those who can close its sessions.
    workers: ArcSwap<Workers>,
    /// What the kinds of checks in use do, made when first wanted.
    plans: Mutex<Vec<(CheckKind, Arc<Plan>)>>,
    inner: Mutex<Inner>,
    /// Held while the list of servers is changed.
    change: Mutex<()>,
    /// When it got or lost its last server, and the time without any before that.
    availability: Mutex<Availability>,
}

#[derive(Debug)]
struct Inner {
    /// The servers; balancing speaks of places in this list.
    servers: Arc<Vec<Arc<Server>>>,
    balancer: Balancer,
    queue: Queue,
    /// A server's limit moves with the sessions or with time.
    has_moving_limits: bool,
}

#[derive(Debug, Clone, Copy)]
struct Availability {
    up: bool,
    changed: Instant,
    down_before: std::time::Duration,
    downs: u64,
}

/// What a change of a server meant for its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// It was the last one.
    pub lost_all: bool,
    /// Waiting clients that got another server, or this one.
    pub requeued: usize,
}

/// A place on a server. Dropping it gives the place to the next one who waits.
#[derive(Debug)]
pub struct Lease {
    /// The server.
    pub server: Arc<Server>,
    backend: Arc<Backend>,
}

/// The answer to a client that wants a server.
#[derive(Debug)]
pub enum Choice {
    /// This one, now.
    Now(Lease),
    /// One will come through this; dropping it stops waiting.
    Wait(Pending),
    /// No server is usable.
    Nobody,
}

/// A place in the line for a server.
#[derive(Debug)]
pub struct Pending {
    receiver: oneshot::Receiver<Lease>,
    backend: Arc<Backend>,
    ticket: Arc<Ticket>,
}

impl Backend {
    /// Builds the backend of a section.
    pub fn new(config: Arc<ProxyConfig>, logger: Logger, now: Instant) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let mut names = Names::default();
        let servers: Vec<Arc<Server>> = config
            .servers
            .iter()
            .map(|server| {
                let address = server.first_address(&mut names);
                Arc::new(Server::with_address(server.clone(), address, name.clone(), now))
            })
            .collect();
        let balancer = Balancer::new(Rule::of(&config.settings), &servers);
        let servers = Arc::new(servers);
        let has_moving_limits = servers.iter().any(|server| server.has_moving_limit());
        Self {
            availability: Mutex::new(Availability {
                up: balancer.has_server() || servers.is_empty(),
                changed: now,
                down_before: std::time::Duration::ZERO,
                downs: 0,
            }),
            inner: Mutex::new(Inner {
                servers: servers.clone(),
                balancer,
                queue: Queue::default(),
                has_moving_limits,
            }),
            change: Mutex::new(()),
            counters: Counters::default(),
            fullconn: AtomicU32::new(config.settings.fullconn.unwrap_or(0)),
            workers: ArcSwap::from_pointee(Workers::default()),
            plans: Mutex::new(Vec::new()),
            name,
            logger: ArcSwap::from_pointee(logger),
            servers: ArcSwap::new(servers),
            config: ArcSwap::new(config),
        }
    }

    /// Its configuration at present.
    pub fn config(&self) -> Guard<Arc<ProxyConfig>> {
        self.config.load()
    }

    /// Its servers at present, in the order of the file.
    pub fn servers(&self) -> Guard<Arc<Vec<Arc<Server>>>> {
        self.servers.load()
    }

    /// Its server of this name.
    pub fn server(&self, name: &str) -> Option<Arc<Server>> {
        self.servers.load().iter().find(|server| server.name() == name).cloned()
    }

    /// Where its lines go.
    pub fn logger(&self) -> Guard<Arc<Logger>> {
        self.logger.load()
    }

    /// Says who can close its sessions.
    pub fn set_workers(&self, workers: Workers) {
        self.workers.store(Arc::new(workers));
    }

    /// Closes sessions of it, without waiting until it has happened.
    pub fn close_sessions(&self, which: &Which, cause: Cause) {
        self.workers.load().close_all(which, cause);
    }

    /// Says at how many sessions the limits of its servers are full; `fullconn` comes before that.
    pub fn set_default_fullconn(&self, sessions: u32) {
        self.fullconn.store(self.config().settings.fullconn.unwrap_or(sessions), Relaxed);
    }

    /// What a kind of check does.
    pub fn plan(&self, kind: CheckKind) -> Arc<Plan> {
        let mut plans = self.plans.lock();
        if let Some((_, plan)) = plans.iter().find(|(other, _)| *other == kind) {
            return plan.clone();
        }
        let plan = Arc::new(Plan::new(kind, &self.config().settings.checks));
        plans.push((kind, plan.clone()));
        plan
    }

    /// Gives it another configuration and another list of servers. Those that stay are the same objects
    /// and keep their turn; those that are gone take no new connections, and who waits for one of them
    /// goes on waiting for any. Returns whether it just lost its last usable server.
    pub fn replace(
        self: &Arc<Self>,
        config: Arc<ProxyConfig>,
        logger: Logger,
        servers: Vec<Arc<Server>>,
        now: Instant,
    ) -> bool {
        let servers = Arc::new(servers);
        let mut gone = Vec::new();
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            let moved: Vec<Option<usize>> = inner
                .servers
                .iter()
                .map(|old| servers.iter().position(|new| Arc::ptr_eq(old, new)))
                .collect();
            for (old, _) in inner.servers.iter().zip(&moved).filter(|(_, place)| place.is_none()) {
                old.retire();
                gone.push(old.clone());
            }
            inner.balancer.replace(Rule::of(&config.settings), &servers, &moved);
            inner.servers = servers.clone();
            inner.has_moving_limits = servers.iter().any(|server| server.has_moving_limit());
        }
        if let Some(fullconn) = config.settings.fullconn {
            self.fullconn.store(fullconn, Relaxed);
        }
        self.config.store(config);
        self.logger.store(Arc::new(logger));
        self.servers.store(servers);
        self.plans.lock().clear();
        for server in gone {
            self.server_moved(&server, now);
        }
        self.server_changed(now)
    }

    /// A server for a client; `avoid` (a server that just failed) only when there is no other.
    pub fn choose(self: &Arc<Self>, client: impl Into<Visitor>, avoid: Option<&Arc<Server>>) -> Choice {
        let visitor = client.into();
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        self.adapt_limits(inner);
        let avoid =
            avoid.and_then(|avoid| inner.servers.iter().position(|server| Arc::ptr_eq(server, avoid)));
        let only = match inner.balancer.pick(&inner.servers, &visitor, avoid, self.sessions()) {
            Pick::Server(index) => return Choice::Now(self.lease(&inner.servers[index])),
            Pick::Nobody => return Choice::Nobody,
            Pick::AllFull => None,
            Pick::Full(index) => Some(inner.servers[index].clone()),
        };
        self.wait(inner, visitor, only.as_ref())
    }

    /// A place on the server that a rule sends a client to, whatever balancing says.
    pub fn choose_server(self: &Arc<Self>, client: impl Into<Visitor>, server: &Arc<Server>) -> Choice {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        self.adapt_limits(inner);
        if !server.is_full() {
            return Choice::Now(self.lease(server));
        }
        self.wait(inner, client.into(), Some(server))
    }

    /// A place in the line for one server, or for any.
    fn wait(self: &Arc<Self>, inner: &mut Inner, visitor: Visitor, only: Option<&Arc<Server>>) -> Choice {
        let limit = only.and_then(|server| server.config().options.maxqueue);
        let waiting = only.map_or(0, |server| server.counters.pending.load(Relaxed));
        if inner.queue.len() >= MAX_PENDING {
            inner.queue.sweep();
        }
        if inner.queue.len() >= MAX_PENDING || limit.is_some_and(|limit| waiting >= limit) {
            return Choice::Nobody;
        }
        let (receiver, ticket) = inner.queue.push(visitor, only, &self.counters);
        Choice::Wait(Pending { receiver, backend: self.clone(), ticket })
    }

    /// A place on the same server again, for a repeated attempt; `None` when it is gone or full.
    pub fn again(self: &Arc<Self>, server: &Arc<Server>) -> Option<Lease> {
        let inner = self.inner.lock();
        let takes_part = server.is_usable()
            || inner
                .servers
                .iter()
                .position(|other| Arc::ptr_eq(other, server))
                .is_some_and(|index| inner.balancer.is_member(index));
        (takes_part && !server.is_full()).then(|| self.lease(server))
    }

    /// A session could or could not connect to a server: passive checks (`observe`).
    pub fn observed(self: &Arc<Self>, server: &Arc<Server>, connected: bool) {
        if server.is_observed() {
            check::observe(self, server, connected);
        }
    }

    /// How many servers may be chosen now.
    pub fn usable_count(&self) -> usize {
        self.inner.lock().balancer.member_count()
    }

    /// Connections that wait for it or for one of its servers.
    pub fn pending_count(&self) -> usize {
        let own = self.counters.pending.load(Relaxed);
        let servers = self.servers();
        let all = servers.iter().map(|server| server.counters.pending.load(Relaxed)).sum::<u32>() + own;
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// Usable servers: (active, backup).
    pub fn active_and_backup(&self) -> (usize, usize) {
        let count = |backup: bool| {
            self.servers()
                .iter()
                .filter(|server| {
                    server.config().options.backup == backup && server.is_usable() && server.weight() > 0
                })
                .count()
        };
        (count(false), count(true))
    }

    /// Something changed: look again at who may be chosen, and serve those who wait. Returns whether
    /// the backend just lost its last server.
    pub fn server_changed(self: &Arc<Self>, now: Instant) -> bool {
        let up = {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.balancer.refresh(&inner.servers);
            // A section without servers has none to lose.
            inner.balancer.has_server() || self.config().servers.is_empty()
        };
        let servers = self.servers.load_full();
        for server in servers.iter() {
            self.serve_pending(server);
        }
        self.note_availability(up, now)
    }

    /// A server changed. As [`Backend::server_changed`]; and who waited for it alone gets another one when
    /// it can no longer serve them.
    pub fn server_moved(self: &Arc<Self>, server: &Arc<Server>, now: Instant) -> Moved {
        let mut refused = Vec::new();
        let mut requeued = 0;
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.balancer.refresh(&inner.servers);
            if !server.is_usable() && inner.balancer.has_server() {
                for waiter in inner.queue.take_bound(server, &self.counters) {
                    requeued += 1;
                    let sessions = self.sessions();
                    match inner.balancer.pick(&inner.servers, &waiter.visitor, None, sessions) {
                        Pick::Server(index) => {
                            refused.extend(waiter.serve(self.lease(&inner.servers[index])).err());
                        }
                        Pick::Full(index) => {
                            let other = inner.servers[index].clone();
                            inner.queue.move_to(waiter, Some(&other), &self.counters);
                        }
                        Pick::AllFull | Pick::Nobody => inner.queue.move_to(waiter, None, &self.counters),
                    }
                }
            }
        }
        drop(refused);
        if server.is_usable() {
            requeued += self.serve_pending(server);
        }
        Moved { lost_all: self.server_changed(now), requeued }
    }

    fn note_availability(&self, up: bool, now: Instant) -> bool {
        let mut availability = self.availability.lock();
        let lost = availability.up && !up;
        if availability.up != up {
            if up {
                let down = now.saturating_duration_since(availability.changed);
                availability.down_before += down;
            } else {
                availability.downs += 1;
            }
            availability.up = up;
            availability.changed = now;
        }
        lost
    }

    /// Whether it has a usable server, since when, how long it had none, and how often it lost all.
    pub fn availability(&self, now: Instant) -> (bool, std::time::Duration, std::time::Duration, u64) {
        let state = *self.availability.lock();
        let age = now.saturating_duration_since(state.changed);
        let down = if state.up { state.down_before } else { state.down_before + age };
        (state.up, age, down, state.downs)
    }

    /// Gives free places of a server to those who wait, in their order. Says how many got one.
    fn serve_pending(self: &Arc<Self>, server: &Arc<Server>) -> usize {
        let mut refused = Vec::new();
        let mut served = 0;
        let mut inner = self.inner.lock();
        let inner_mut = &mut *inner;
        if inner_mut.queue.len() > 0 {
            self.adapt_limits(inner_mut);
            let takes_any = inner_mut
                .servers
                .iter()
                .position(|other| Arc::ptr_eq(other, server))
                .is_some_and(|index| inner_mut.balancer.is_member(index));
            while (takes_any || server.is_usable()) && !server.is_full() {
                let Some(waiter) = inner_mut.queue.pop(server, takes_any, &self.counters) else { break };
                inner_mut.balancer.touch(server);
                // A lease that nobody takes must not be dropped while the lock is held.
                match waiter.serve(self.lease(server)) {
                    Ok(()) => served += 1,
                    Err(lease) => refused.push(lease),
                }
            }
        }
        drop(inner);
        served
    }

    /// Sets the limits that move, for this moment.
    fn adapt_limits(&self, inner: &Inner) {
        if inner.has_moving_limits {
            let (sessions, fullconn) = (self.sessions(), self.fullconn.load(Relaxed));
            let now = Instant::now();
            for server in inner.servers.iter() {
                server.adapt_limit(sessions, fullconn, now);
            }
        }
    }

    fn sessions(&self) -> u32 {
        self.counters.current.load(Relaxed)
    }

    /// Takes a place; the lock is held by the caller.
    fn lease(self: &Arc<Self>, server: &Arc<Server>) -> Lease {
        server.served.fetch_add(1, Relaxed);
        Lease { server: server.clone(), backend: self.clone() }
    }

    fn left(self: &Arc<Self>, server: &Arc<Server>) {
        let waits = {
            let mut inner = self.inner.lock();
            inner.balancer.touch(server);
            inner.queue.len() > 0
        };
        if waits {
            self.serve_pending(server);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.served.fetch_sub(1, Relaxed);
        self.backend.left(&self.server);
    }
}

impl Pending {
    /// Connections that wait: for the server, and for the backend.
    pub fn queues(&self) -> (u32, u32) {
        self.ticket.queues(&self.backend.counters)
    }

    /// Waits for the place.
    pub async fn wait(&mut self) -> Option<Lease> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.ticket.leave(&self.backend.counters);
        self.receiver.close();
        // A lease already on its way is dropped here, outside the lock, and goes to the next.
        drop(self.receiver.try_recv());
    }
}

#[cfg(test)]
mod tests;
