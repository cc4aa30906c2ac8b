//! Keeps the connections to the peers, and makes single ones to ask somebody.

use super::accept::Accepted;
use super::connection::{Connection, Owned, Side};
use super::handshake::{self, Greeting, Wish};
use super::stream::Stream;
use super::{
    Counters, Inner, Kind, Lane, LaneState, LinkError, LinkIdentity, LinkSettings, LinkState, PeerAddress,
    Session, Token,
};
use broker_core::link::greet::{Purpose, Reason};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsConnector, TlsStream};

/// From this difference between two clocks on there is a warning.
const CLOCK_OFF_MS: u64 = 5000;
/// Addresses of a name that are tried.
const TRIED: usize = 8;

/// Another member, and our connections to it.
pub(super) struct Peer {
    address: RwLock<PeerAddress>,
    lanes: [DialedLane; 3],
    /// Turns true when it is no peer any more.
    ended: watch::Sender<bool>,
    story: Mutex<Story>,
}

/// One connection to a peer, now or next.
#[derive(Default)]
pub(super) struct DialedLane {
    current: RwLock<Option<Arc<Connection>>>,
    pub(super) counters: Arc<Counters>,
    /// The peer has just shown that it is there: no need to wait before the next attempt.
    hurry: Notify,
}

/// What there is to tell about a peer.
struct Story {
    since: SystemTime,
    was_up: bool,
    error: Option<String>,
    /// The last line in the log about a failure.
    logged: Option<String>,
    clock_ahead_ms: i64,
    address: Option<SocketAddr>,
    version: String,
}

impl Peer {
    /// Begins to dial it.
    pub(super) fn start(inner: &Arc<Inner>, address: PeerAddress) -> Arc<Peer> {
        let peer = Arc::new(Peer {
            address: RwLock::new(address),
            lanes: Default::default(),
            ended: watch::Sender::new(false),
            story: Mutex::new(Story {
                since: SystemTime::now(),
                was_up: false,
                error: None,
                logged: None,
                clock_ahead_ms: 0,
                address: None,
                version: String::new(),
            }),
        });
        for lane in Lane::ALL {
            let task = dial_on(Arc::clone(inner), Arc::clone(&peer), lane);
            inner.runtime(lane).spawn(task);
        }
        peer
    }

    pub(super) fn address(&self) -> PeerAddress {
        self.address.read().clone()
    }

    /// Whether it is known to be at this address: it is configured to be, or was reached there.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        let is = |at: SocketAddr| at.ip().to_canonical() == address;
        self.story.lock().address.is_some_and(is)
            || self.address.read().addresses.iter().any(|written| written.parse().is_ok_and(is))
    }

    pub(super) fn lane(&self, lane: Lane) -> &DialedLane {
        &self.lanes[lane.index()]
    }

    /// The connection of a lane.
    pub(super) fn connection(&self, lane: Lane) -> Result<Arc<Connection>, LinkError> {
        if let Some(connection) = &*self.lane(lane).current.read() {
            return Ok(Arc::clone(connection));
        }
        let why = self.story.lock().error.clone();
        Err(LinkError::Down {
            name: self.address.read().name.clone(),
            why: why.unwrap_or_else(|| "it is being dialed".to_owned()),
        })
    }

    fn has(&self, lane: Lane) -> bool {
        self.lane(lane).current.read().is_some()
    }

    pub(super) fn is_up(&self) -> bool {
        self.has(Lane::Control) && self.has(Lane::Data)
    }

    /// It is somewhere else, or has another name.
    pub(super) fn moved_to(&self, address: &PeerAddress) {
        let mut known = self.address.write();
        if *known != *address {
            *known = address.clone();
            drop(known);
            self.hurry();
        }
    }

    /// The next attempt is due now.
    pub(super) fn hurry(&self) {
        self.lanes.iter().for_each(|lane| lane.hurry.notify_one());
    }

    /// The same, if this lane has no connection.
    pub(super) fn hurry_if_down(&self, lane: Lane) {
        if !self.has(lane) {
            self.lane(lane).hurry.notify_one();
        }
    }

    /// Ends the connections of now; others follow.
    pub(super) fn end_connections(&self, why: &str) {
        for lane in &self.lanes {
            if let Some(connection) = lane.current.read().as_ref() {
                connection.end(why);
            }
        }
    }

    /// It is no peer any more.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
        self.end_connections("it is no peer any more");
    }

    pub(super) fn state(&self, accepted: &Accepted) -> LinkState {
        let PeerAddress { node, name, .. } = self.address();
        let lanes = Lane::ALL.map(|lane| {
            let (is_accepted, received) = accepted.of(node, lane);
            let counters = &self.lane(lane).counters;
            LaneState {
                up: self.has(lane),
                accepted: is_accepted,
                sent: counters.sent.load(Ordering::Relaxed),
                received,
                waiting: counters.waiting.load(Ordering::Relaxed),
                round_trip_us: counters.round_trip_us.load(Ordering::Relaxed),
            }
        });
        let story = self.story.lock();
        LinkState {
            node,
            up: self.is_up(),
            since: story.since,
            error: story.error.clone(),
            warning: clock_warning(&name, story.clock_ahead_ms),
            address: story.address,
            version: story.version.clone(),
            name,
            lanes,
        }
    }

    /// A lane is up.
    fn has_come(&self, lane: Lane, greeting: &Greeting, address: Option<SocketAddr>) {
        let up = self.is_up();
        let mut story = self.story.lock();
        story.clock_ahead_ms = greeting.clock_ahead_ms;
        story.address = address;
        story.version.clone_from(&greeting.who.version);
        let name = &greeting.who.name;
        if lane == Lane::Data
            && let Some(warning) = clock_warning(name, greeting.clock_ahead_ms)
        {
            tracing::warn!(node = %name, "{warning}");
        }
        if up && !story.was_up {
            story.was_up = true;
            story.since = SystemTime::now();
            story.logged = None;
            tracing::info!(node = %name, ?address, "link is up");
        }
        if Lane::ALL.into_iter().all(|lane| self.has(lane)) {
            story.error = None;
        }
    }

    /// A lane is down, or an attempt failed.
    fn has_gone(&self, lane: Lane, why: &str) {
        let (name, up) = (self.address.read().name.clone(), self.is_up());
        let mut story = self.story.lock();
        story.error = Some(why.to_owned());
        if story.was_up && !up {
            story.was_up = false;
            story.since = SystemTime::now();
            story.logged = Some(why.to_owned());
            tracing::warn!(node = %name, lane = lane.name(), error = why, "link is down");
        } else if story.logged.as_deref() != Some(why) {
            story.logged = Some(why.to_owned());
            tracing::warn!(node = %name, error = why, "no link");
        }
    }
}

/// What is to be said about a clock.
pub(super) fn clock_warning(name: &str, ahead_ms: i64) -> Option<String> {
    let off = ahead_ms.unsigned_abs();
    (off > CLOCK_OFF_MS).then(|| {
        let off = humantime::format_duration(Duration::from_secs(off / 1000));
        let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
        format!("the clock of {name} is {off} {side} this node's: let NTP set both")
    })
}

/// Keeps one lane to a peer.
async fn dial_on(inner: Arc<Inner>, peer: Arc<Peer>, lane: Lane) {
    let mut ended = peer.ended.subscribe();
    let dialing = async {
        let mut backoff = inner.settings.backoff;
        loop {
            match connect(&inner, &peer, lane).await {
                Ok((stream, greeting, session)) => {
                    let since = Instant::now();
                    keep(&inner, &peer, lane, stream, greeting, session).await;
                    if since.elapsed() >= inner.settings.longest_backoff {
                        backoff = inner.settings.backoff;
                    }
                }
                Err(error) => {
                    peer.has_gone(lane, &error.to_string());
                    if lane == Lane::Data {
                        let node = peer.address().node;
                        inner.tell_all(|handler| handler.on_unreached(node));
                    }
                }
            }
            if *peer.ended.borrow() {
                break;
            }
            // Not all nodes at the same moment.
            let wait = backoff.mul_f64(rand::random_range(0.8..1.2));
            tokio::select! {
                () = sleep(wait) => backoff = (backoff * 2).min(inner.settings.longest_backoff),
                () = peer.lane(lane).hurry.notified() => backoff = inner.settings.backoff,
            }
        }
    };
    // A connection ends by itself, so that it can say so; only attempts are given up.
    let mut dialing = std::pin::pin!(dialing);
    tokio::select! {
        () = &mut dialing => return,
        _ = ended.wait_for(|ended| *ended) => {}
    }
    if peer.has(lane) {
        dialing.await;
    }
}

async fn connect(
    inner: &Arc<Inner>,
    peer: &Peer,
    lane: Lane,
) -> Result<(Stream, Greeting, Session), LinkError> {
    let (address, identity) = (peer.address(), Arc::clone(&inner.identity.read()));
    let session = inner.new_session();
    let wish =
        Wish { purpose: Purpose::Lane(lane), session: session.0, expects: Some(&address), token: None };
    let all = async {
        let mut outcome = Err(LinkError::Connect(format!("{} has no address", address.name)));
        for (at, written) in address.addresses.iter().enumerate() {
            let share = inner.settings.dial / u32::try_from(address.addresses.len() - at).unwrap_or(1);
            outcome = reach(&inner.settings, &identity, written, wish, share).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    };
    let (stream, greeting) = all.await?;
    // Its secrets may have been replaced meanwhile.
    if !Arc::ptr_eq(&identity, &inner.identity.read()) {
        return Err(LinkError::Connect("the secrets of this node have been replaced".to_owned()));
    }
    Ok((stream, greeting, session))
}

/// Has a connection until it ends.
async fn keep(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    lane: Lane,
    stream: Stream,
    greeting: Greeting,
    session: Session,
) {
    let (node, address) = (peer.address().node, stream.peer());
    let counters = Arc::clone(&peer.lane(lane).counters);
    let who = greeting.who.clone();
    let connection = Connection::new(Side::Dialer, lane, who, session, &inner.settings, counters);
    let connection = Arc::new(connection);
    *peer.lane(lane).current.write() = Some(Arc::clone(&connection));
    if *peer.ended.borrow() {
        connection.end("it is no peer any more");
    }
    peer.has_come(lane, &greeting, address);
    if lane == Lane::Data {
        inner.tell_all(|handler| handler.on_up(node, session));
    }
    let why = connection.run(inner, stream).await;
    *peer.lane(lane).current.write() = None;
    peer.has_gone(lane, &why);
    if lane == Lane::Data {
        inner.tell_all(|handler| handler.on_down(node, session));
    }
}

/// Asks whoever is at an address.
pub(super) async fn ask(
    inner: &Arc<Inner>,
    address: &str,
    token: Option<&Token>,
    kind: Kind,
    payload: Bytes,
    patience: Duration,
) -> Result<(Greeting, Bytes), LinkError> {
    let began = Instant::now();
    let identity = Arc::clone(&inner.identity.read());
    if identity.secrets.is_empty() && token.is_none() {
        let text = "this node has no cookie: give it the cookie file of the cluster, or a join token";
        return Err(LinkError::Refused(Reason::Cookie, text.to_owned()));
    }
    let session = inner.new_session();
    let wish = Wish { purpose: Purpose::Ask, session: session.0, expects: None, token };
    let share = inner.settings.dial.min(patience);
    let (stream, greeting) = reach(&inner.settings, &identity, address, wish, share).await?;
    let who = greeting.who.clone();
    let settings = &inner.settings;
    let connection = Connection::new(Side::Dialer, Lane::Control, who, session, settings, Arc::default());
    let connection = Arc::new(connection);
    let running = {
        let (inner, connection) = (Arc::clone(inner), Arc::clone(&connection));
        Owned(tokio::spawn(async move { connection.run(&inner, stream).await }))
    };
    let answer = connection.call(kind, payload, patience.saturating_sub(began.elapsed())).await;
    drop(running);
    Ok((greeting, answer?))
}

/// Resolves, connects and greets, within `patience` for all of it.
async fn reach(
    settings: &LinkSettings,
    identity: &LinkIdentity,
    address: &str,
    wish: Wish<'_>,
    patience: Duration,
) -> Result<(Stream, Greeting), LinkError> {
    let began = Instant::now();
    let found = resolve(address, patience).await?;
    let count = found.len();
    let mut outcome = Err(LinkError::Connect(format!("{address}: no address")));
    for (at, socket_address) in found.into_iter().enumerate() {
        let left = patience.saturating_sub(began.elapsed()) / u32::try_from(count - at).unwrap_or(1);
        let attempt = async {
            let tcp = TcpStream::connect(socket_address)
                .await
                .map_err(|error| LinkError::Connect(format!("{address}: {}", not_connected(&error))))?;
            let mut stream = secured(tcp, identity, address).await?;
            let greeting =
                handshake::dial(&mut stream, identity, wish).await.map_err(|error| match error {
                    LinkError::Connect(why) => LinkError::Connect(format!("{address}: {why}")),
                    other => other,
                })?;
            Ok((stream, greeting))
        };
        outcome = timeout(left, attempt).await.unwrap_or_else(|_| {
            let after = humantime::format_duration(Duration::from_millis(settings.dial.as_millis() as u64));
            let why = format!("{address}: nobody answered within {after}: is the host up, and does a firewall let this port through?");
            Err(LinkError::Connect(why))
        });
        // Who was reached said what is to be said.
        if matches!(outcome, Ok(_) | Err(LinkError::Refused(..))) {
            break;
        }
    }
    outcome
}

async fn resolve(address: &str, patience: Duration) -> Result<Vec<SocketAddr>, LinkError> {
    let name = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let failed = |why: &str| {
        let text = format!(
            "the host name {name} does not resolve ({why}): add it to /etc/hosts or to DNS, on every node of the cluster"
        );
        LinkError::Connect(text)
    };
    // Half of the time is for what follows.
    let looked_up = timeout(patience / 2, lookup_host(address)).await;
    let found: Vec<SocketAddr> = match looked_up {
        Err(_) => return Err(failed("no name server answered")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let text = format!("`{address}` is no address: write host:port, such as A:25672");
            return Err(LinkError::Connect(text));
        }
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Ok(Ok(found)) => found.take(TRIED).collect(),
    };
    if found.is_empty() { Err(failed("no address")) } else { Ok(found) }
}

async fn secured(tcp: TcpStream, identity: &LinkIdentity, address: &str) -> Result<Stream, LinkError> {
    let io_error = |error: std::io::Error| LinkError::Connect(format!("{address}: {error}"));
    tcp.set_nodelay(true).map_err(io_error)?;
    let Some(tls) = &identity.tls else { return Ok(Stream::Plain(tcp)) };
    // Which node it is, its certificate says; by what name it was dialed does not matter.
    let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let connected = TlsConnector::from(Arc::clone(&tls.client)).connect(nobody, tcp).await;
    let stream = connected.map_err(|error| {
        let text = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => format!(
                "{address}: it does not speak TLS between nodes, and this node does: set [cluster.tls] on all nodes, \
                 or on none"
            ),
            Some(rustls::Error::InvalidCertificate(error)) => {
                format!("{address}: its certificate was not signed by this cluster's authority: {error:?}")
            }
            Some(error) => format!("{address}: TLS: {error}"),
            None => format!("{address}: TLS: {error}"),
        };
        LinkError::Refused(Reason::Tls, text)
    })?;
    Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
}

fn not_connected(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there, so the node is not running".to_owned()
        }
        _ => error.to_string(),
    }
}
