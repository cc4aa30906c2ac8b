//! Waking a task: on its own thread at once, from another thread through a list and an eventfd.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::event::{EventfdFlags, eventfd};

use super::CORE;
use super::slots::Key;

/// Reactors at one time: 10 bits of a waker.
const MAX_REACTORS: usize = 1024;

/// All inboxes by the number of their reactor.
static INBOXES: RwLock<Vec<Option<Arc<Inbox>>>> = RwLock::new(Vec::new());

/// Where other threads leave the tasks of a reactor to wake.
#[derive(Debug)]
pub(super) struct Inbox {
    id: u16,
    event: OwnedFd,
    tasks: Mutex<Vec<Key>>,
    /// The reactor has been told that there is something.
    told: AtomicBool,
}

impl Inbox {
    /// An inbox with a number of its own.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let mut all = INBOXES.write();
        let free = all.iter().position(Option::is_none).unwrap_or(all.len());
        if free >= MAX_REACTORS {
            return Err(io::Error::other("too many worker threads"));
        }
        let id = u16::try_from(free).map_err(io::Error::other)?;
        let inbox = Arc::new(Self { id, event, tasks: Mutex::default(), told: AtomicBool::new(false) });
        match all.get_mut(free) {
            Some(place) => *place = Some(inbox.clone()),
            None => all.push(Some(inbox.clone())),
        }
        Ok(inbox)
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// What was left since the last time.
    pub(super) fn take(&self) -> Vec<Key> {
        // Before the list is taken: what comes later is told again.
        self.told.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.tasks.lock())
    }

    fn leave(&self, task: Key) {
        self.tasks.lock().push(task);
        if !self.told.swap(true, Ordering::SeqCst) {
            // A full counter means that the reactor has been told as well.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// Gives the number of a reactor free.
pub(super) fn close(id: u16) {
    if let Some(place) = INBOXES.write().get_mut(usize::from(id)) {
        *place = None;
    }
}

/// Wakes a task of a reactor.
pub(super) fn wake(reactor: u16, task: Key) {
    let here = CORE.try_with(|cell| match cell.get() {
        Some(core) if core.inbox.id() == reactor => {
            core.wake(task);
            true
        }
        _ => false,
    });
    if here != Ok(true) {
        let inbox = INBOXES.read().get(usize::from(reactor)).cloned().flatten();
        if let Some(inbox) = inbox {
            inbox.leave(task);
        }
    }
}
