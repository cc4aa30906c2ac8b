//! What is known about the connections of this node, for listings and for closing them.

use super::outbox::Outbox;
use crate::counters::ChannelInfo;
use crate::tls::TlsInfo;
use amqp::table::FieldTable;
use broker_core::ids::ConnectionId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A counter that one task writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds to it where nobody else does at the same moment.
    pub(crate) fn bump(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Makes it this.
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Its value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of a connection since it began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Octets read.
    pub(crate) received_octets: Counter,
    /// Reads from the socket.
    pub(crate) reads: Counter,
    /// Channels open now.
    pub(crate) channels: Counter,
}

/// What the client said about itself and what was agreed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// Login name.
    pub(crate) user: Arc<str>,
    /// Vhost.
    pub(crate) vhost: Arc<str>,
    /// SASL mechanism.
    pub(crate) mechanism: String,
    /// `client-properties` of `start-ok`.
    pub(crate) client_properties: FieldTable,
    /// `connection_name` among them.
    pub(crate) provided_name: Option<String>,
    /// Channels the connection may open; 0 is no limit.
    pub(crate) channel_max: u16,
    /// Largest frame, octets.
    pub(crate) frame_max: u32,
    /// Heartbeat interval, seconds; 0 is none.
    pub(crate) heartbeat: u16,
    /// Open for work.
    pub(crate) running: bool,
}

/// What keeps a connection from going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Nothing.
    None,
    /// An alarm: what it publishes is not read.
    Blocked,
}

/// A connection, as others see it.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// Its number.
    pub(crate) id: ConnectionId,
    /// RabbitMQ's name for a connection: both ends.
    pub(crate) name: Arc<str>,
    /// The client's end.
    pub(crate) peer: SocketAddr,
    /// Our end.
    pub(crate) local: SocketAddr,
    /// Its TLS, if it has any.
    pub(crate) tls: Option<TlsInfo>,
    /// When it began, milliseconds since the epoch.
    pub(crate) connected_at_ms: u64,
    /// Counters.
    pub(crate) counters: Counters,
    /// Its output, also the way to ask it to close.
    pub(crate) outbox: Arc<Outbox>,
    details: Mutex<Details>,
    channels: Mutex<BTreeMap<u16, Arc<ChannelInfo>>>,
    held: AtomicBool,
}

impl ConnectionInfo {
    /// A connection that has just been accepted.
    pub(crate) fn new(
        id: ConnectionId,
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<TlsInfo>,
        now: u64,
        outbox: Arc<Outbox>,
    ) -> Self {
        ConnectionInfo {
            id,
            name: format!("{peer} -> {local}").into(),
            peer,
            local,
            tls,
            connected_at_ms: now,
            counters: Counters::default(),
            outbox,
            details: Mutex::new(Details::default()),
            channels: Mutex::default(),
            held: AtomicBool::new(false),
        }
    }

    /// Login name; empty before the login.
    pub(crate) fn user(&self) -> Arc<str> {
        Arc::clone(&self.details.lock().user)
    }

    /// Whether something keeps it from going on.
    pub(crate) fn hold(&self) -> Hold {
        if self.held.load(Ordering::Relaxed) { Hold::Blocked } else { Hold::None }
    }

    /// An alarm begins or ends to hold it up.
    pub(crate) fn set_held(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// Its vhost; empty before the login.
    pub(crate) fn vhost(&self) -> Arc<str> {
        Arc::clone(&self.details.lock().vhost)
    }

    /// Its channels by number.
    pub(crate) fn channels(&self) -> Vec<Arc<ChannelInfo>> {
        self.channels.lock().values().cloned().collect()
    }

    /// Adds a channel.
    pub(crate) fn add_channel(&self, channel: Arc<ChannelInfo>) {
        let mut channels = self.channels.lock();
        channels.insert(channel.number, channel);
        self.counters.channels.set(channels.len() as u64);
    }

    /// Removes a channel; its counts are for [`crate::counters::NodeCounters::close_channel`] to keep.
    pub(crate) fn remove_channel(&self, number: u16) -> Option<Arc<ChannelInfo>> {
        let mut channels = self.channels.lock();
        let removed = channels.remove(&number);
        self.counters.channels.set(channels.len() as u64);
        removed
    }

    /// A copy of what is known.
    pub(crate) fn details(&self) -> Details {
        self.details.lock().clone()
    }

    /// Changes what is known.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.details.lock());
    }
}

/// The connections of a node.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: Mutex<BTreeMap<ConnectionId, Arc<ConnectionInfo>>>,
    /// Clients that are not through the PROXY header and the TLS handshake.
    arriving: AtomicUsize,
}

/// Counts a client among those that arrive, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Arrival<'a>(&'a AtomicUsize);

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// Adds one.
    pub(crate) fn insert(&self, info: Arc<ConnectionInfo>) {
        self.all.lock().insert(info.id, info);
    }

    /// Removes one.
    pub(crate) fn remove(&self, id: ConnectionId) {
        self.all.lock().remove(&id);
    }

    /// One of them.
    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<ConnectionInfo>> {
        self.all.lock().get(&id).cloned()
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<ConnectionInfo>> {
        self.all.lock().values().cloned().collect()
    }

    /// A client begins to arrive.
    pub(crate) fn arrive(&self) -> Arrival<'_> {
        self.arriving.fetch_add(1, Ordering::Relaxed);
        Arrival(&self.arriving)
    }

    /// How many there are, those included that still arrive.
    pub(crate) fn sockets(&self) -> usize {
        self.len() + self.arriving.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// Channels of a user, on all its connections.
    pub(crate) fn channels_of(&self, user: &str) -> u64 {
        let all = self.all.lock();
        let mine = all.values().filter(|info| *info.details.lock().user == *user);
        mine.map(|info| info.counters.channels.get()).sum()
    }

    /// How many a vhost has, among those that are open for work.
    pub(crate) fn count(&self, matches: impl Fn(&Details) -> bool) -> u64 {
        self.all.lock().values().filter(|info| matches(&info.details.lock())).count() as u64
    }
}
