//! A group of servers: choosing one, waiting for one, giving its place back.
//!
//! A backend lives as long as the configuration names it. A reload, or an order at run time, gives it
//! another configuration and another list of servers: who asks for either gets the present one and may
//! keep it. Inside, one lock holds the list that balancing works on and those who wait.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::balance::{Balancer, Pick};
use crate::config::{ProxyConfig, ServerConfig};
use crate::counters::Counters;
use crate::server::{Order, Server};
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
    pending: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// Only this server will do (`balance source`).
    only: Option<Arc<Server>>,
    sender: oneshot::Sender<Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Availability {
    up: bool,
    changed: Instant,
    down_before: std::time::Duration,
    downs: u64,
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
    only: Option<Arc<Server>>,
}

impl Backend {
    /// Builds the backend of a section.
    pub fn new(config: Arc<ProxyConfig>, logger: Logger, now: Instant) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let servers: Vec<Arc<Server>> = config
            .servers
            .iter()
            .map(|server| Arc::new(Server::new(server.clone(), name.clone(), now)))
            .collect();
        let balancer = Balancer::new(config.settings.balance, config.settings.allbackups, &servers);
        let servers = Arc::new(servers);
        Self {
            availability: Mutex::new(Availability {
                up: balancer.member_count() > 0 || servers.is_empty(),
                changed: now,
                down_before: std::time::Duration::ZERO,
                downs: 0,
            }),
            inner: Mutex::new(Inner { servers: servers.clone(), balancer, pending: VecDeque::new() }),
            change: Mutex::new(()),
            counters: Counters::default(),
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

    /// Adds a server, in maintenance and without running checks. `None` when there is one of that name.
    pub fn add_server(self: &Arc<Self>, server: ServerConfig, now: Instant) -> Option<Arc<Server>> {
        let change = self.change.lock();
        if self.server(&server.name).is_some() {
            return None;
        }
        let mut config = ProxyConfig::clone(&self.config());
        config.servers.push(server.clone());
        let added = Arc::new(Server::new(server, self.name.clone(), now));
        added.order(Order::Maintenance, now);
        added.set_checking(false);
        let mut servers = self.servers.load().to_vec();
        servers.push(added.clone());
        self.replace(Arc::new(config), Logger::clone(&self.logger()), servers, now);
        drop(change);
        Some(added)
    }

    /// Takes a server out. `false` when it is not there any more.
    pub fn remove_server(self: &Arc<Self>, server: &Arc<Server>, now: Instant) -> bool {
        let change = self.change.lock();
        let mut servers = self.servers.load().to_vec();
        let before = servers.len();
        servers.retain(|other| !Arc::ptr_eq(other, server));
        if servers.len() == before {
            return false;
        }
        let mut config = ProxyConfig::clone(&self.config());
        config.servers.retain(|other| other.name != server.name());
        self.replace(Arc::new(config), Logger::clone(&self.logger()), servers, now);
        drop(change);
        true
    }

    /// Where its lines go.
    pub fn logger(&self) -> Guard<Arc<Logger>> {
        self.logger.load()
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
            }
            let settings = &config.settings;
            inner.balancer.replace(settings.balance, settings.allbackups, &servers, &moved);
            inner.servers = servers.clone();
            for waiter in &mut inner.pending {
                waiter.only.take_if(|only| only.is_retired());
            }
        }
        self.config.store(config);
        self.logger.store(Arc::new(logger));
        self.servers.store(servers);
        self.server_changed(now)
    }

    /// A server for a client; `avoid` (a server that just failed) only when there is no other.
    pub fn choose(self: &Arc<Self>, client: IpAddr, avoid: Option<&Arc<Server>>) -> Choice {
        let mut inner = self.inner.lock();
        let Inner { servers, balancer, pending } = &mut *inner;
        let avoid = avoid.and_then(|avoid| servers.iter().position(|server| Arc::ptr_eq(server, avoid)));
        let only = match balancer.pick(servers, client, avoid) {
            Pick::Server(index) => return Choice::Now(self.lease(&servers[index])),
            Pick::Nobody => return Choice::Nobody,
            Pick::AllFull => None,
            Pick::Full(index) => Some(servers[index].clone()),
        };
        let limit = only.as_ref().and_then(|server| server.config().options.maxqueue);
        let waiting = only.as_ref().map_or(0, |server| server.counters.pending.load(Relaxed));
        if pending.len() >= MAX_PENDING || limit.is_some_and(|limit| waiting >= limit) {
            return Choice::Nobody;
        }
        let (sender, receiver) = oneshot::channel();
        pending.push_back(Waiter { only: only.clone(), sender });
        drop(inner);
        match &only {
            Some(server) => server.counters.wait(),
            None => self.counters.wait(),
        }
        Choice::Wait(Pending { receiver, backend: self.clone(), only })
    }

    /// A place on the same server again, for a repeated attempt; `None` when it is gone or full.
    pub fn again(self: &Arc<Self>, server: &Arc<Server>) -> Option<Lease> {
        let _inner = self.inner.lock();
        (server.is_usable() && !server.is_full()).then(|| self.lease(server))
    }

    /// How many servers may be chosen now.
    pub fn usable_count(&self) -> usize {
        self.inner.lock().balancer.member_count()
    }

    /// Connections that wait.
    pub fn pending_count(&self) -> usize {
        self.inner.lock().pending.len()
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

    /// A server changed: look again at who may be chosen, and serve those who wait. Returns whether
    /// the backend just lost its last server.
    pub fn server_changed(self: &Arc<Self>, now: Instant) -> bool {
        let up = {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.balancer.refresh(&inner.servers);
            inner.balancer.member_count() > 0
        };
        self.serve_pending();
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

    /// Gives free places to those who wait, in their order.
    fn serve_pending(self: &Arc<Self>) {
        let mut refused = Vec::new();
        let mut inner = self.inner.lock();
        let Inner { servers, balancer, pending } = &mut *inner;
        while let Some(at) =
            pending.iter().position(|waiter| waiter.sender.is_closed() || has_place(servers, waiter))
        {
            let Some(waiter) = pending.remove(at) else { break };
            if waiter.sender.is_closed() {
                continue;
            }
            let server = match &waiter.only {
                Some(server) => server.clone(),
                None => match balancer.pick(servers, IpAddr::from([0, 0, 0, 0]), None) {
                    Pick::Server(index) => servers[index].clone(),
                    _ => {
                        pending.insert(at, waiter);
                        break;
                    }
                },
            };
            // A lease that nobody takes must not be dropped while the lock is held.
            refused.extend(waiter.sender.send(self.lease(&server)).err());
        }
        drop(inner);
    }

    /// Takes a place; the lock is held by the caller.
    fn lease(self: &Arc<Self>, server: &Arc<Server>) -> Lease {
        server.served.fetch_add(1, Relaxed);
        Lease { server: server.clone(), backend: self.clone() }
    }
}

fn has_place(servers: &[Arc<Server>], waiter: &Waiter) -> bool {
    let is_free = |server: &Arc<Server>| server.is_usable() && server.weight() > 0 && !server.is_full();
    match &waiter.only {
        Some(server) => is_free(server),
        None => servers.iter().any(is_free),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.served.fetch_sub(1, Relaxed);
        // Only servers with a limit have anybody waiting for them.
        if self.server.maxconn().is_some() {
            self.backend.serve_pending();
        }
    }
}

impl Pending {
    /// Connections that wait: for the server, and for the backend.
    pub fn queues(&self) -> (u32, u32) {
        let server = self.only.as_ref().map_or(0, |server| server.counters.pending.load(Relaxed));
        (server, self.backend.counters.pending.load(Relaxed))
    }

    /// Waits for the place.
    pub async fn wait(&mut self) -> Option<Lease> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match &self.only {
            Some(server) => server.counters.waited(),
            None => self.backend.counters.waited(),
        }
        self.receiver.close();
        // A lease already on its way is dropped here, outside the lock, and goes to the next.
        drop(self.receiver.try_recv());
    }
}
