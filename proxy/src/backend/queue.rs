//! Clients that wait for a place: for any server, or for the one that must serve them.
//!
//! Who came first is served first, whether it waits for one server or for any. Who gave up stays in line
//! until its turn, or until the line is swept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Lease;
use crate::balance::Visitor;
use crate::counters::Counters;
use crate::server::Server;

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    /// When it came; smaller is earlier.
    order: u64,
    /// Who it is, to choose again for it.
    pub(super) visitor: Visitor,
    sender: oneshot::Sender<Lease>,
    ticket: Arc<Ticket>,
}

/// What somebody who waits shares with its place in line.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    /// It is counted as waiting.
    counted: AtomicBool,
    /// For this server only.
    server: Mutex<Option<Arc<Server>>>,
}

impl Ticket {
    /// It waits for `server`, or for any, from now on.
    fn count(&self, server: Option<&Arc<Server>>, backend: &Counters) {
        *self.server.lock() = server.cloned();
        self.counted.store(true, Relaxed);
        server.map_or(backend, |server| &server.counters).wait();
    }

    /// Connections that wait: for the server it waits for, and for the backend.
    pub(super) fn queues(&self, backend: &Counters) -> (u32, u32) {
        let server = self.server.lock().as_ref().map_or(0, |server| server.counters.pending.load(Relaxed));
        (server, backend.pending.load(Relaxed))
    }

    /// It no longer waits.
    pub(super) fn leave(&self, backend: &Counters) {
        if self.counted.swap(false, Relaxed) {
            let server = self.server.lock().take();
            server.as_ref().map_or(backend, |server| &server.counters).waited();
        }
    }
}

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    common: VecDeque<Waiter>,
    /// By the server's place in memory; the server is kept alive by its waiters' tickets.
    bound: HashMap<usize, VecDeque<Waiter>>,
    next: u64,
    length: usize,
}

impl Queue {
    /// How many stand in line, those who gave up included.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Somebody begins to wait.
    pub(super) fn push(
        &mut self,
        visitor: Visitor,
        server: Option<&Arc<Server>>,
        backend: &Counters,
    ) -> (oneshot::Receiver<Lease>, Arc<Ticket>) {
        let (sender, receiver) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        self.next += 1;
        let waiter = Waiter { order: self.next, visitor, sender, ticket: ticket.clone() };
        ticket.count(server, backend);
        self.line(server).push_back(waiter);
        self.length += 1;
        (receiver, ticket)
    }

    /// Somebody who waited already waits for another server, or for any, at the place its age gives it.
    pub(super) fn move_to(&mut self, waiter: Waiter, server: Option<&Arc<Server>>, backend: &Counters) {
        if waiter.is_gone() {
            return;
        }
        waiter.ticket.count(server, backend);
        let line = self.line(server);
        let at = line.partition_point(|other| other.order < waiter.order);
        line.insert(at, waiter);
        self.length += 1;
    }

    /// The next one for a place on `server`; with `any`, also of those who wait for no one in particular.
    pub(super) fn pop(&mut self, server: &Arc<Server>, any: bool, backend: &Counters) -> Option<Waiter> {
        let own = self.bound.get_mut(&place(server));
        let own = own.and_then(|line| first(line, &mut self.length, backend));
        let common = if any { first(&mut self.common, &mut self.length, backend) } else { None };
        let line = match (own, common) {
            (Some(own), Some(common)) if common < own => &mut self.common,
            (Some(_), _) => self.bound.get_mut(&place(server))?,
            (None, Some(_)) => &mut self.common,
            (None, None) => {
                self.bound.remove(&place(server));
                return None;
            }
        };
        let waiter = line.pop_front()?;
        self.length -= 1;
        waiter.ticket.leave(backend);
        Some(waiter)
    }

    /// Everybody who waits for `server`, in order.
    pub(super) fn take_bound(&mut self, server: &Arc<Server>, backend: &Counters) -> Vec<Waiter> {
        let line = self.bound.remove(&place(server)).unwrap_or_default();
        self.length -= line.len();
        let waiters: Vec<Waiter> = line.into_iter().filter(|waiter| !waiter.is_gone()).collect();
        for waiter in &waiters {
            waiter.ticket.leave(backend);
        }
        waiters
    }

    /// Lets those go who gave up.
    pub(super) fn sweep(&mut self) {
        let lines = std::iter::once(&mut self.common).chain(self.bound.values_mut());
        self.length = lines
            .map(|line| {
                line.retain(|waiter| !waiter.is_gone());
                line.len()
            })
            .sum();
        self.bound.retain(|_, line| !line.is_empty());
    }

    fn line(&mut self, server: Option<&Arc<Server>>) -> &mut VecDeque<Waiter> {
        match server {
            Some(server) => self.bound.entry(place(server)).or_default(),
            None => &mut self.common,
        }
    }
}

impl Waiter {
    /// Gives it its place; the lease comes back when it has gone meanwhile.
    pub(super) fn serve(self, lease: Lease) -> Result<(), Lease> {
        self.sender.send(lease)
    }

    fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The age of the first one in line who has not given up; those before it go.
fn first(line: &mut VecDeque<Waiter>, length: &mut usize, backend: &Counters) -> Option<u64> {
    while line.front().is_some_and(Waiter::is_gone) {
        if let Some(gone) = line.pop_front() {
            gone.ticket.leave(backend);
            *length -= 1;
        }
    }
    line.front().map(|waiter| waiter.order)
}

fn place(server: &Arc<Server>) -> usize {
    Arc::as_ptr(server).addr()
}
