//! The live sessions: who they are, and closing them from elsewhere.
//!
//! Every worker keeps a list of its own sessions that no other thread touches, so a session costs one
//! entry and no lock. Whoever wants to look at sessions or to close some asks all workers through their
//! inboxes ([`Workers`]).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::Backend;
use crate::frontend::Frontend;
use crate::listener::Assignment;
use crate::server::Server;
use crate::session::Accepted;

/// Numbers of sessions, over all workers.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static SESSIONS: RefCell<Sessions> = RefCell::new(Sessions::default());
}

/// What a session does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reads what comes before the bytes: a PROXY header, a TLS handshake.
    Greeting,
    /// Waits for a place on a server.
    Queued,
    /// Connects to its server.
    Connecting,
    /// Moves bytes.
    Relaying,
}

/// Why a session is closed from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator asked for it (`K` in the log).
    Operator,
    /// Its server went down (`D`).
    ServerDown,
    /// It runs on a backup server and an active one came back (`U`).
    ActiveUp,
}

/// Which sessions.
#[derive(Debug, Clone)]
pub enum Which {
    /// Every one.
    All,
    /// The one with this number.
    Id(u64),
    /// Those on this server.
    Server(Arc<Server>),
    /// Those of this backend.
    Backend(Arc<Backend>),
    /// Those that came through this frontend.
    Frontend(Arc<Frontend>),
}

/// A session as others see it.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its number.
    pub id: u64,
    /// The worker it lives on.
    pub worker: usize,
    /// The client; `None` through a unix socket.
    pub client: Option<SocketAddr>,
    /// Where it came in.
    pub frontend: Arc<Frontend>,
    /// Where it goes.
    pub backend: Option<Arc<Backend>>,
    /// Its server, once chosen.
    pub server: Option<Arc<Server>>,
    /// Time since it was accepted.
    pub age: Duration,
    /// Time since a byte passed.
    pub idle: Duration,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// What it does.
    pub stage: Stage,
}

/// What a worker is asked to do.
#[derive(Debug)]
pub enum Errand {
    /// Serve this connection.
    Serve(Arc<Frontend>, Accepted),
    /// Accept from this socket.
    Listen(Arc<OwnedFd>, watch::Receiver<Assignment>),
    /// Say which sessions there are.
    List(oneshot::Sender<Vec<SessionInfo>>),
    /// Close sessions, the oldest first.
    Close {
        /// Which.
        which: Which,
        /// Not more than this many.
        most: usize,
        /// Why.
        cause: Cause,
        /// Told how many were closed.
        reply: Option<oneshot::Sender<usize>>,
    },
}

/// A worker thread as others see it.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What it is asked to do.
    pub inbox: mpsc::UnboundedSender<Errand>,
    /// Connections it has.
    pub load: Arc<AtomicUsize>,
}

/// All workers.
#[derive(Debug, Clone, Default)]
pub struct Workers(pub Arc<[Worker]>);

impl Workers {
    /// The sessions of all workers, the oldest first.
    pub async fn sessions(&self) -> Vec<SessionInfo> {
        let mut all = Vec::new();
        for worker in self.0.iter() {
            let (sender, receiver) = oneshot::channel();
            if worker.inbox.send(Errand::List(sender)).is_ok() {
                all.extend(receiver.await.unwrap_or_default());
            }
        }
        all.sort_by_key(|session| session.id);
        all
    }

    /// Closes sessions, at most `most` of them; says how many.
    pub async fn close(&self, which: &Which, most: usize, cause: Cause) -> usize {
        let mut closed = 0;
        for worker in self.0.iter() {
            let (sender, receiver) = oneshot::channel();
            let most = most - closed;
            if most == 0 {
                break;
            }
            let errand = Errand::Close { which: which.clone(), most, cause, reply: Some(sender) };
            if worker.inbox.send(errand).is_ok() {
                closed += receiver.await.unwrap_or(0);
            }
        }
        closed
    }

    /// Closes all of them, without waiting until it has happened.
    pub fn close_all(&self, which: &Which, cause: Cause) {
        for worker in self.0.iter() {
            let errand = Errand::Close { which: which.clone(), most: usize::MAX, cause, reply: None };
            // A worker that has ended has no sessions.
            let _ = worker.inbox.send(errand);
        }
    }
}

/// The sessions of one worker.
#[derive(Debug, Default)]
struct Sessions {
    /// In no order; `Session::at` says where each is.
    list: Vec<Rc<Session>>,
}

/// A session's entry; it leaves the list when [`Registered`] is dropped.
#[derive(Debug)]
pub struct Session {
    id: u64,
    at: Cell<usize>,
    client: Option<SocketAddr>,
    frontend: Arc<Frontend>,
    backend: RefCell<Option<Arc<Backend>>>,
    server: RefCell<Option<Arc<Server>>>,
    began: Instant,
    active: Cell<Instant>,
    bytes: Cell<(u64, u64)>,
    stage: Cell<Stage>,
    closing: Cell<Option<Cause>>,
    waker: RefCell<Option<Waker>>,
}

/// Keeps a session in its worker's list.
#[derive(Debug)]
pub struct Registered(Rc<Session>);

impl Registered {
    /// Enters a session into the list of this thread.
    pub fn new(client: Option<SocketAddr>, frontend: Arc<Frontend>, now: Instant) -> Self {
        SESSIONS.with_borrow_mut(|sessions| {
            let session = Rc::new(Session {
                id: NEXT_ID.fetch_add(1, Relaxed),
                at: Cell::new(sessions.list.len()),
                client,
                frontend,
                backend: RefCell::default(),
                server: RefCell::default(),
                began: now,
                active: Cell::new(now),
                bytes: Cell::default(),
                stage: Cell::new(Stage::Greeting),
                closing: Cell::new(None),
                waker: RefCell::default(),
            });
            sessions.list.push(session.clone());
            Self(session)
        })
    }
}

impl std::ops::Deref for Registered {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // At the end of a thread the list may be gone already.
        let _ = SESSIONS.try_with(|sessions| {
            let mut sessions = sessions.borrow_mut();
            let at = self.0.at.get();
            if at < sessions.list.len() {
                sessions.list.swap_remove(at);
                if let Some(moved) = sessions.list.get(at) {
                    moved.at.set(at);
                }
            }
        });
    }
}

impl Session {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// It goes to this backend.
    pub fn set_backend(&self, backend: Arc<Backend>) {
        *self.backend.borrow_mut() = Some(backend);
    }

    /// It is on this server, or no longer on any.
    pub fn set_server(&self, server: Option<Arc<Server>>) {
        *self.server.borrow_mut() = server;
    }

    /// It does this now.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.set(stage);
    }

    /// Bytes passed so far, at this moment.
    pub fn set_bytes(&self, up: u64, down: u64, now: Instant) {
        self.bytes.set((up, down));
        self.active.set(now);
    }

    /// Why it has to close, if somebody asked for that. Else the waker is woken when that happens.
    pub fn asked_to_close(&self, waker: &Waker) -> Option<Cause> {
        if self.closing.get().is_none() {
            let mut kept = self.waker.borrow_mut();
            if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                *kept = Some(waker.clone());
            }
        }
        self.closing.get()
    }

    fn is(&self, which: &Which) -> bool {
        match which {
            Which::All => true,
            Which::Id(id) => self.id == *id,
            Which::Server(wanted) => {
                self.server.borrow().as_ref().is_some_and(|server| Arc::ptr_eq(server, wanted))
            }
            Which::Backend(wanted) => {
                self.backend.borrow().as_ref().is_some_and(|backend| Arc::ptr_eq(backend, wanted))
            }
            // A reload makes frontends anew; their counters stay.
            Which::Frontend(wanted) => Arc::ptr_eq(&self.frontend.counters, &wanted.counters),
        }
    }

    fn info(&self, worker: usize, now: Instant) -> SessionInfo {
        let (bytes_in, bytes_out) = self.bytes.get();
        SessionInfo {
            id: self.id,
            worker,
            client: self.client,
            frontend: self.frontend.clone(),
            backend: self.backend.borrow().clone(),
            server: self.server.borrow().clone(),
            age: now.saturating_duration_since(self.began),
            idle: now.saturating_duration_since(self.active.get()),
            bytes_in,
            bytes_out,
            stage: self.stage.get(),
        }
    }
}

/// The sessions of this thread, which is worker `worker`.
pub fn list_here(worker: usize) -> Vec<SessionInfo> {
    let now = Instant::now();
    SESSIONS.with_borrow(|sessions| sessions.list.iter().map(|session| session.info(worker, now)).collect())
}

/// Asks sessions of this thread to close, the oldest first; says how many.
pub fn close_here(which: &Which, most: usize, cause: Cause) -> usize {
    let mut chosen: Vec<Rc<Session>> = SESSIONS.with_borrow(|sessions| {
        let open = |session: &&Rc<Session>| session.closing.get().is_none() && session.is(which);
        sessions.list.iter().filter(open).cloned().collect()
    });
    chosen.sort_by_key(|session| session.id);
    chosen.truncate(most);
    for session in &chosen {
        session.closing.set(Some(cause));
        if let Some(waker) = session.waker.take() {
            waker.wake();
        }
    }
    chosen.len()
}
