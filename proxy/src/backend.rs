//! A group of servers: choosing one, waiting for one, giving its place back.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::balance::{Balancer, Pick};
use crate::config::ProxyConfig;
use crate::counters::Counters;
use crate::server::Server;

/// No more connections than this wait for one backend.
const MAX_PENDING: usize = 65_536;

/// A group of servers.
#[derive(Debug)]
pub struct Backend {
    /// The section it comes from.
    pub config: Arc<ProxyConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// Its servers in the order of the file.
    pub servers: Vec<Arc<Server>>,
    /// Counters.
    pub counters: Counters,
    inner: Mutex<Inner>,
    /// When it got or lost its last server, and the time without any before that.
    availability: Mutex<Availability>,
}

#[derive(Debug)]
struct Inner {
    balancer: Balancer,
    pending: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// Only this server will do (`balance source`).
    only: Option<usize>,
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
    only: Option<usize>,
}

impl Backend {
    /// Builds the backend of a section.
    pub fn new(config: Arc<ProxyConfig>, now: Instant) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let servers: Vec<Arc<Server>> = config
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| Arc::new(Server::new(server.clone(), index, name.clone(), now)))
            .collect();
        let balancer = Balancer::new(config.settings.balance, config.settings.allbackups, &servers);
        Self {
            availability: Mutex::new(Availability {
                up: balancer.member_count() > 0 || servers.is_empty(),
                changed: now,
                down_before: std::time::Duration::ZERO,
                downs: 0,
            }),
            inner: Mutex::new(Inner { balancer, pending: VecDeque::new() }),
            counters: Counters::default(),
            name,
            servers,
            config,
        }
    }

    /// A server for a client; `avoid` (a server that just failed) only when there is no other.
    pub fn choose(self: &Arc<Self>, client: IpAddr, avoid: Option<usize>) -> Choice {
        let mut inner = self.inner.lock();
        let only = match inner.balancer.pick(&self.servers, client, avoid) {
            Pick::Server(index) => return Choice::Now(self.lease(index)),
            Pick::Nobody => return Choice::Nobody,
            Pick::AllFull => None,
            Pick::Full(index) => Some(index),
        };
        let limit = only.and_then(|index| self.servers[index].config.options.maxqueue);
        let waiting = only.map_or(0, |index| self.servers[index].counters.pending.load(Relaxed));
        if inner.pending.len() >= MAX_PENDING || limit.is_some_and(|limit| waiting >= limit) {
            return Choice::Nobody;
        }
        let (sender, receiver) = oneshot::channel();
        inner.pending.push_back(Waiter { only, sender });
        drop(inner);
        match only {
            Some(index) => self.servers[index].counters.wait(),
            None => self.counters.wait(),
        }
        Choice::Wait(Pending { receiver, backend: self.clone(), only })
    }

    /// A place on the same server again, for a repeated attempt; `None` when it is gone or full.
    pub fn again(self: &Arc<Self>, index: usize) -> Option<Lease> {
        let _inner = self.inner.lock();
        let server = &self.servers[index];
        (server.is_usable() && !server.is_full()).then(|| self.lease(index))
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
            self.servers
                .iter()
                .filter(|server| {
                    server.config.options.backup == backup && server.is_usable() && server.weight() > 0
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
            inner.balancer.refresh(&self.servers);
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
        while let Some(at) =
            inner.pending.iter().position(|waiter| waiter.sender.is_closed() || self.has_place(waiter))
        {
            let Some(waiter) = inner.pending.remove(at) else { break };
            if waiter.sender.is_closed() {
                continue;
            }
            let index = match waiter.only {
                Some(index) => index,
                None => match inner.balancer.pick(&self.servers, IpAddr::from([0, 0, 0, 0]), None) {
                    Pick::Server(index) => index,
                    _ => {
                        inner.pending.insert(at, waiter);
                        break;
                    }
                },
            };
            // A lease that nobody takes must not be dropped while the lock is held.
            refused.extend(waiter.sender.send(self.lease(index)).err());
        }
        drop(inner);
    }

    fn has_place(&self, waiter: &Waiter) -> bool {
        let is_free = |server: &Arc<Server>| server.is_usable() && server.weight() > 0 && !server.is_full();
        match waiter.only {
            Some(index) => is_free(&self.servers[index]),
            None => self.servers.iter().any(is_free),
        }
    }

    /// Takes a place; the lock is held by the caller.
    fn lease(self: &Arc<Self>, index: usize) -> Lease {
        let server = self.servers[index].clone();
        server.served.fetch_add(1, Relaxed);
        Lease { server, backend: self.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.served.fetch_sub(1, Relaxed);
        // Only servers with a limit have anybody waiting for them.
        if self.server.config.options.maxconn.is_some() {
            self.backend.serve_pending();
        }
    }
}

impl Pending {
    /// Waits for the place.
    pub async fn wait(&mut self) -> Option<Lease> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match self.only {
            Some(index) => self.backend.servers[index].counters.waited(),
            None => self.backend.counters.waited(),
        }
        self.receiver.close();
        // A lease already on its way is dropped here, outside the lock, and goes to the next.
        drop(self.receiver.try_recv());
    }
}
