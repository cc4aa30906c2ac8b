//! Links: the connections between the nodes of a cluster.
//!
//! ```text
//! A ──dials──► B   control, data, bulk: frames and calls of A; B's answers come back on the same connection
//! A ◄──dials── B   control, data, bulk: frames and calls of B
//! ```
//!
//! Who knows the secret of the cluster gets in ([`handshake`]), and who is a member may send. A connection that breaks
//! is a [`Session`] that ended: what was sent on it and not confirmed by the other side's own words is unknown, and
//! nothing is sent again here. A process that was killed is noticed at once, because its host resets the connection;
//! a host that is gone or frozen, after [`LinkSettings::silence`].
//!
//! `accept` lets others in, `dialer` keeps the connections to the peers, `connection` reads one and counts its calls,
//! `outbox` writes it.

mod accept;
mod connection;
pub(crate) mod cookie;
mod dialer;
mod handshake;
mod outbox;
mod secret;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use broker_core::link::greet::{Reason, Who};
pub(crate) use broker_core::link::{Kind, Lane};
pub(crate) use handshake::Greeting;
pub(crate) use secret::Secret;
pub(crate) use settings::{LinkIdentity, LinkSettings};
pub(crate) use token::{Token, TokenError};

use accept::Accepted;
use broker_core::ids::NodeId;
use bytes::Bytes;
use connection::Connection;
use dialer::Peer;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A future on the heap.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One connection, from its greeting to its end. Both sides know it by the same number, and a node that dials has never
/// used it before: later ones are larger, also after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Session(pub(crate) u64);

/// Where another member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerAddress {
    /// Its number.
    pub(crate) node: NodeId,
    /// `rabbit@host`. It has to call itself that.
    pub(crate) name: String,
    /// `host:port`, tried in this order; names are resolved at each attempt.
    pub(crate) addresses: Vec<String>,
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who it says it is. It has shown that it knows the secret, or a token.
    pub(crate) who: Who,
    /// Whether it is one of the peers.
    pub(crate) member: bool,
}

/// Takes what comes for one [`Kind`].
pub(crate) trait Handler: Send + Sync + 'static {
    /// Our data lane to this peer is up. Comes before anything else of this session.
    fn on_up(&self, _peer: NodeId, _session: Session) {}

    /// It is gone. Comes once after each [`Handler::on_up`].
    fn on_down(&self, _peer: NodeId, _session: Session) {}

    /// It could not be reached again.
    fn on_unreached(&self, _peer: NodeId) {}

    /// A frame. Those of one kind come in order within a session. Must be quick: no others of this lane are read
    /// meanwhile.
    fn on_frame(&self, _from: NodeId, _session: Session, _payload: Bytes) {}

    /// A data lane that a peer had to us has ended. No frame of that session comes after this, and none of a later
    /// one before.
    fn on_accepted_down(&self, _from: NodeId, _session: Session) {}

    /// A node of this cluster wanted to be a peer and is none here: this node may not know yet that it is a
    /// member. Only the handler of [`Kind::Member`] is told, at most once a second.
    fn on_stranger(&self, _who: &Who) {}

    /// A call. The future is dropped when the caller has gone, or waits no more.
    fn on_call(&self, _caller: Caller, _payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async { Err("nobody answers this".to_owned()) })
    }
}

/// Why something was not sent, or not answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No peer has this number.
    #[error("node {0} is no member of the cluster")]
    NoPeer(NodeId),
    /// There is no connection.
    #[error("no connection to {name}: {why}")]
    Down {
        /// To which node.
        name: String,
        /// What the last attempt ended with.
        why: String,
    },
    /// Too much waits to be sent.
    #[error("more waits to be sent to {0} than may wait")]
    Full(String),
    /// It is longer than a payload may be.
    #[error("{0} octets are more than the {1} that go to another node at once")]
    TooLong(usize, usize),
    /// There was no answer in time.
    #[error("{name} did not answer within {}", humantime::format_duration(*.after))]
    Late {
        /// Which node.
        name: String,
        /// How long it had.
        after: Duration,
    },
    /// The other side answered that it can not do it.
    #[error("{0}")]
    Answer(String),
    /// One of the two did not want the other.
    #[error("{1}")]
    Refused(Reason, String),
    /// Nobody could be reached, or who was there spoke something else.
    #[error("{0}")]
    Connect(String),
}

/// What is counted of a lane, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    waiting: AtomicUsize,
    round_trip_us: AtomicU32,
}

/// The state of the connections to a peer.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct LinkState {
    /// Its number.
    pub(crate) node: NodeId,
    /// `rabbit@host`
    pub(crate) name: String,
    /// Whether our control and data lanes are up.
    pub(crate) up: bool,
    /// Since when it is so.
    pub(crate) since: SystemTime,
    /// Why the last connection ended, or the last attempt failed. `None` once all is well.
    pub(crate) error: Option<String>,
    /// What is not right although it works.
    pub(crate) warning: Option<String>,
    /// Where it was reached.
    pub(crate) address: Option<SocketAddr>,
    /// What it runs.
    pub(crate) version: String,
    /// Control, data, bulk.
    pub(crate) lanes: [LaneState; 3],
}

/// The state of one connection to a peer, and of that peer's to us.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct LaneState {
    /// Whether ours is up.
    pub(crate) up: bool,
    /// Whether the peer's is up.
    pub(crate) accepted: bool,
    /// Octets sent on ours.
    pub(crate) sent: u64,
    /// Octets that came on the peer's.
    pub(crate) received: u64,
    /// Octets that wait to be sent.
    pub(crate) waiting: usize,
    /// There and back, in microseconds, the last time.
    pub(crate) round_trip_us: u32,
}

/// The links of this node. Clones are the same links.
#[derive(Clone)]
pub(crate) struct Links(Arc<Inner>);

pub(super) struct Inner {
    identity: RwLock<Arc<LinkIdentity>>,
    settings: LinkSettings,
    /// Where the tasks run, but for those of a control lane with a runtime of its own.
    runtime: Handle,
    handlers: [RwLock<Option<Arc<dyn Handler>>>; Kind::ALL.len()],
    peers: RwLock<FxHashMap<NodeId, Arc<Peer>>>,
    /// It is known who the peers are: not before the metadata are open.
    knows_peers: AtomicBool,
    accepted: Accepted,
    next_session: AtomicU32,
    /// Turns true when all ends.
    ended: watch::Sender<bool>,
    listening: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Links {
    /// Takes connections on `listener`, until [`Links::disconnect`]. There are no peers yet, and no handlers. The
    /// tasks run on the runtime of the caller.
    pub(crate) fn start(identity: LinkIdentity, settings: LinkSettings, listener: TcpListener) -> Links {
        let inner = Arc::new(Inner {
            identity: RwLock::new(Arc::new(identity)),
            settings,
            runtime: Handle::current(),
            handlers: Default::default(),
            peers: RwLock::default(),
            knows_peers: AtomicBool::new(false),
            accepted: Accepted::default(),
            next_session: AtomicU32::new(1),
            ended: watch::Sender::new(false),
            listening: Mutex::new(None),
        });
        let task = tokio::spawn(accept::run(Arc::clone(&inner), listener));
        *inner.listening.lock() = Some(task);
        Links(inner)
    }

    /// From now on, what comes for `kind` is for `handler`. Connections with frames that nobody takes are ended, so
    /// handlers come before peers.
    pub(crate) fn handle(&self, kind: Kind, handler: Arc<dyn Handler>) {
        *self.0.handlers[kind.index()].write() = Some(handler);
    }

    /// Ignores what concerns queues: a node that has none, or has not opened them, is a peer all the same.
    pub(crate) fn be_deaf(&self) {
        struct Deaf;
        impl Handler for Deaf {}
        for kind in [Kind::Forward, Kind::Replicate, Kind::Fill] {
            self.handle(kind, Arc::new(Deaf));
        }
    }

    /// Has others begin anew what they sent to a deaf node.
    pub(crate) fn hear_anew(&self) {
        self.0.accepted.end_lanes(&[Lane::Data, Lane::Bulk], "this node has opened its queues");
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> Arc<LinkIdentity> {
        Arc::clone(&self.0.identity.read())
    }

    /// Replaces the secrets, for greetings from now on.
    pub(crate) fn set_secrets(&self, secrets: Vec<Secret>) {
        let mut identity = self.0.identity.write();
        *identity = Arc::new(LinkIdentity { secrets, ..LinkIdentity::clone(&identity) });
    }

    /// Replaces the peers. New ones are dialed until they are none any more; this node itself is left out.
    pub(crate) fn set_peers(&self, peers: Vec<PeerAddress>) {
        let me = self.0.identity.read().node;
        let mut known = self.0.peers.write();
        let stays = |node: &NodeId| peers.iter().any(|peer| peer.node == *node);
        known.retain(|node, peer| {
            let stays = stays(node);
            if !stays {
                peer.end();
            }
            stays
        });
        if *self.0.ended.borrow() {
            return;
        }
        for address in peers.iter().filter(|peer| Some(peer.node) != me) {
            match known.get(&address.node) {
                Some(peer) => peer.moved_to(address),
                None => {
                    let peer = Peer::start(&self.0, address.clone());
                    known.insert(address.node, peer);
                }
            }
        }
        drop(known);
        self.0.knows_peers.store(true, Ordering::Release);
        let is_peer = |who: &Who| self.0.is_member(who);
        self.0.accepted.end_others(is_peer, "it is no member of the cluster any more");
    }

    /// Sends a frame. Does not wait: what is sent in one turn of the tasks goes in one `writev`.
    ///
    /// # Errors
    /// There is no connection, or too much waits for it already.
    pub(crate) fn send(
        &self,
        to: NodeId,
        lane: Lane,
        kind: Kind,
        payload: Bytes,
    ) -> Result<Session, LinkError> {
        let connection = self.connection(to, lane)?;
        connection.send(kind, payload)?;
        Ok(connection.session)
    }

    /// Octets that wait to be sent to a peer.
    pub(crate) fn pending(&self, to: NodeId, lane: Lane) -> usize {
        let peers = self.0.peers.read();
        peers.get(&to).map_or(0, |peer| peer.lane(lane).counters.waiting.load(Ordering::Relaxed))
    }

    /// Asks a peer, and waits at most `patience` for the answer. When the future is dropped, the other side is told
    /// that nobody waits any more.
    ///
    /// # Errors
    /// There is no connection or it broke, it took too long, or the answer is that it does not work.
    pub(crate) async fn call(
        &self,
        to: NodeId,
        lane: Lane,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Bytes, LinkError> {
        let connection = self.connection(to, lane)?;
        connection.call(kind, payload, patience).await
    }

    /// Asks the node at an address, on a connection of its own. That works for nodes that are no members, for
    /// [`Kind::Member`].
    ///
    /// # Errors
    /// As [`Links::call`], or the two do not get along.
    pub(crate) async fn call_address(
        &self,
        address: &str,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<(Greeting, Bytes), LinkError> {
        dialer::ask(&self.0, address, None, kind, payload, patience).await
    }

    /// Asks one of the nodes that a token names, without knowing the cluster's secret. The greeting has it then.
    ///
    /// # Errors
    /// As [`Links::call_address`], of the last address.
    pub(crate) async fn call_token(
        &self,
        token: &Token,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<(Greeting, Bytes), LinkError> {
        let mut outcome = Err(LinkError::Connect("the token has no address".to_owned()));
        for address in &token.claim().addresses {
            outcome = dialer::ask(&self.0, address, Some(token), kind, payload.clone(), patience).await;
            // Who answered said what is to be said.
            if !matches!(&outcome, Err(LinkError::Connect(_) | LinkError::Down { .. })) {
                break;
            }
        }
        outcome
    }

    /// A token with which a node can join until `expires`.
    ///
    /// # Errors
    /// There are no addresses, or too many.
    pub(crate) fn token(&self, addresses: Vec<String>, expires: SystemTime) -> Result<Token, TokenError> {
        let identity = self.identity();
        let secret = identity.secrets.first().ok_or(TokenError::NoSecret)?;
        Token::make(secret, identity.cluster_id, addresses, expires)
    }

    /// The peers to which our data lane is up: those that [`Handler::on_up`] has been told of.
    pub(crate) fn data_peers(&self) -> Vec<NodeId> {
        let peers: Vec<NodeId> = self.0.peers.read().keys().copied().collect();
        peers.into_iter().filter(|peer| self.connection(*peer, Lane::Data).is_ok()).collect()
    }

    /// Whether our control and data lanes to a peer are up.
    pub(crate) fn is_up(&self, to: NodeId) -> bool {
        self.0.peers.read().get(&to).is_some_and(|peer| peer.is_up())
    }

    /// The state of all peers, by number.
    pub(crate) fn states(&self) -> Vec<LinkState> {
        let peers: Vec<Arc<Peer>> = self.0.peers.read().values().cloned().collect();
        let mut states: Vec<LinkState> = peers.iter().map(|peer| peer.state(&self.0.accepted)).collect();
        states.sort_by_key(|state| state.node);
        states
    }

    /// Ends all connections, and takes no more. For good: start new links to go on.
    pub(crate) fn disconnect(&self) {
        self.0.ended.send_replace(true);
        self.set_peers(Vec::new());
        self.0.accepted.end_all("this node stops");
    }

    /// Waits until nothing listens any more, after [`Links::disconnect`].
    pub(crate) async fn stopped(&self) {
        let task = self.0.listening.lock().take();
        if let Some(task) = task {
            // It ends by itself; how is of no interest.
            let _ = task.await;
        }
    }

    fn connection(&self, to: NodeId, lane: Lane) -> Result<Arc<Connection>, LinkError> {
        let peers = self.0.peers.read();
        peers.get(&to).ok_or(LinkError::NoPeer(to))?.connection(lane)
    }
}

impl Inner {
    /// Where the tasks of a lane run.
    fn runtime(&self, lane: Lane) -> &Handle {
        let control = self.settings.control.as_ref().filter(|_| lane == Lane::Control);
        control.unwrap_or(&self.runtime)
    }

    fn handler(&self, kind: Kind) -> Option<Arc<dyn Handler>> {
        self.handlers[kind.index()].read().clone()
    }

    /// Tells every handler once, whatever kinds it has.
    fn tell_all(&self, tell: impl Fn(&dyn Handler)) {
        let mut told: Vec<Arc<dyn Handler>> = Vec::new();
        for handler in Kind::ALL.into_iter().filter_map(|kind| self.handler(kind)) {
            if !told.iter().any(|it| Arc::ptr_eq(it, &handler)) {
                tell(&*handler);
                told.push(handler);
            }
        }
    }

    /// Whether this node is one of the peers, under the name it has here.
    fn is_member(&self, who: &Who) -> bool {
        let peers = self.peers.read();
        let peer = who.node.and_then(|node| peers.get(&node));
        peer.is_some_and(|peer| peer.address().name == who.name)
    }

    /// A number for a new connection.
    fn new_session(&self) -> Session {
        let count = self.next_session.fetch_add(1, Ordering::Relaxed);
        Session(self.identity.read().incarnation << 32 | u64::from(count))
    }
}
