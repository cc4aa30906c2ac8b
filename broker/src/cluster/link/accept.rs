//! Takes the connections that other nodes make to this one.

use super::connection::{Connection, Side};
use super::dialer::clock_warning;
use super::handshake::{self, Failure, called, refusal};
use super::stream::Stream;
use super::{Counters, Inner, Kind, Lane, LinkIdentity, Session, Who};
use broker_core::ids::NodeId;
use broker_core::link::greet::{Purpose, Reason, Refusal};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

/// Greetings that are under way, from one address and from all.
const GREETINGS_OF_ONE: usize = 24;
const GREETINGS: usize = 256;
/// Those of them that only come from addresses of members: others can not keep a member out.
const GREETINGS_OF_MEMBERS: usize = 64;
/// Connections of nodes that are no members.
const STRANGERS: usize = 64;
/// The same line is in the log once in this time.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// Lines that are remembered for that.
const REMEMBERED: usize = 256;
/// How often the handler of membership is told of a node that is no member here.
const TOLD_AGAIN: Duration = Duration::from_secs(1);
/// How long a connection waits for the one before to end.
const PREDECESSOR: Duration = Duration::from_secs(2);
/// The first octet of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// The connections that others made.
#[derive(Default)]
pub(super) struct Accepted {
    lanes: Mutex<FxHashMap<(NodeId, Lane), Arc<Place>>>,
    strangers: Mutex<Vec<Arc<Connection>>>,
    greetings: Mutex<FxHashMap<IpAddr, usize>>,
    said: Mutex<FxHashMap<String, Instant>>,
    told: Mutex<Option<Instant>>,
}

/// For one connection of a node at a time.
#[derive(Default)]
struct Place {
    current: Mutex<Option<Arc<Connection>>>,
    /// Held by the connection that is being read.
    reading: tokio::sync::Mutex<()>,
    counters: Arc<Counters>,
}

impl Accepted {
    /// Ends all.
    pub(super) fn end_all(&self, why: &str) {
        self.end_others(|_| false, why);
        self.strangers.lock().iter().for_each(|connection| connection.end(why));
    }

    /// Ends those of nodes that are not among these.
    pub(super) fn end_others(&self, stays: impl Fn(&Who) -> bool, why: &str) {
        let places: Vec<Arc<Place>> = self.lanes.lock().values().cloned().collect();
        for place in places {
            let current = place.current.lock().clone();
            if let Some(connection) = current.filter(|connection| !stays(&connection.who)) {
                connection.end(why);
            }
        }
    }

    /// Ends those of these lanes.
    pub(super) fn end_lanes(&self, lanes: &[Lane], why: &str) {
        let all = self.lanes.lock();
        let places: Vec<Arc<Place>> = all
            .iter()
            .filter(|((_, lane), _)| lanes.contains(lane))
            .map(|(_, place)| Arc::clone(place))
            .collect();
        drop(all);
        for place in places {
            if let Some(connection) = place.current.lock().clone() {
                connection.end(why);
            }
        }
    }

    /// Whether a node has this lane to us, and how many octets came on it.
    pub(super) fn of(&self, node: NodeId, lane: Lane) -> (bool, u64) {
        let place = self.lanes.lock().get(&(node, lane)).cloned();
        place.map_or((false, 0), |place| {
            (place.current.lock().is_some(), place.counters.received.load(Ordering::Relaxed))
        })
    }

    fn place(&self, node: NodeId, lane: Lane) -> Arc<Place> {
        Arc::clone(self.lanes.lock().entry((node, lane)).or_default())
    }

    /// Whether a line is to be said, or was lately.
    fn is_news(&self, line: &str) -> bool {
        let now = Instant::now();
        let mut said = self.said.lock();
        if said.get(line).is_some_and(|last| now.duration_since(*last) < SAID_AGAIN) {
            return false;
        }
        if said.len() >= REMEMBERED {
            said.retain(|_, last| now.duration_since(*last) < SAID_AGAIN);
        }
        // Who is refused chooses part of the line: beyond this many, nothing is said.
        let room = said.len() < REMEMBERED;
        if room {
            said.insert(line.to_owned(), now);
        }
        room
    }
}

/// A greeting that is under way.
struct Underway<'a>(&'a Accepted, IpAddr);

impl<'a> Underway<'a> {
    /// `None` if there are too many.
    fn begin(accepted: &'a Accepted, from: IpAddr, of_member: bool) -> Option<Underway<'a>> {
        // Members may be neighbours of whoever fills the others' room.
        let (from, room) =
            if of_member { (from, GREETINGS) } else { (site(from), GREETINGS - GREETINGS_OF_MEMBERS) };
        let mut greetings = accepted.greetings.lock();
        let all: usize = greetings.values().sum();
        let of_one = greetings.get(&from).copied().unwrap_or(0);
        if all >= room || of_one >= GREETINGS_OF_ONE {
            return None;
        }
        greetings.insert(from, of_one + 1);
        Some(Underway(accepted, from))
    }
}

/// What counts as one address: whoever has one of IPv6 has all 2^64 of its network.
fn site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut greetings = self.0.greetings.lock();
        if let Some(count) = greetings.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                greetings.remove(&self.1);
            }
        }
    }
}

/// Accepts until the links end.
pub(super) async fn run(inner: Arc<Inner>, listener: TcpListener) {
    let mut ended = inner.ended.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        match accepted {
            Ok((tcp, from)) => {
                let inner = Arc::clone(&inner);
                tokio::spawn(async move { greet(&inner, tcp, from).await });
            }
            Err(error) => {
                if inner.accepted.is_news(&error.to_string()) {
                    tracing::warn!(%error, "failed to accept a connection of another node");
                }
                // No descriptors, perhaps: they come back.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet(inner: &Arc<Inner>, tcp: TcpStream, from: SocketAddr) {
    let identity = Arc::clone(&inner.identity.read());
    let address = from.ip().to_canonical();
    let of_member = inner.peers.read().values().any(|peer| peer.is_at(address));
    let Some(underway) = Underway::begin(&inner.accepted, address, of_member) else {
        tracing::debug!(%from, "too many greetings at once");
        return;
    };
    let greeted = timeout(inner.settings.dial, async {
        tcp.set_nodelay(true).ok()?;
        let mut stream = secured(inner, tcp, from, &identity).await?;
        let admit = |who: &Who, purpose| admit(inner, who, purpose);
        match handshake::accept(&mut stream, &identity, admit).await {
            Ok((greeting, purpose)) => Some((stream, greeting, purpose)),
            Err((failure, who)) => {
                note(inner, from, &failure, who.as_ref());
                None
            }
        }
    });
    let Ok(Some((stream, greeting, purpose))) = greeted.await else { return };
    drop(underway);
    if !Arc::ptr_eq(&identity, &inner.identity.read()) || *inner.ended.borrow() {
        return;
    }
    if let Some(warning) = clock_warning(&greeting.who.name, greeting.clock_ahead_ms)
        && inner.accepted.is_news(&format!("clock of {}", greeting.who.name))
    {
        tracing::warn!(node = %greeting.who.name, "{warning}");
    }
    match (purpose, greeting.who.node) {
        (Purpose::Lane(lane), Some(node)) => {
            let runtime = inner.runtime(lane);
            let Ok(stream) = stream.rehome(runtime) else { return };
            let served = Arc::clone(inner);
            runtime.spawn(async move { serve_member(&served, stream, greeting.who, node, lane).await });
        }
        _ => serve_stranger(inner, stream, greeting.who).await,
    }
}

/// TLS, if nodes speak it here. Who does not is told so.
async fn secured(inner: &Inner, tcp: TcpStream, from: SocketAddr, identity: &LinkIdentity) -> Option<Stream> {
    let mut first = [0];
    if tcp.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    let speaks_tls = first[0] == TLS_HANDSHAKE;
    let Some(tls) = identity.tls.as_ref().filter(|_| speaks_tls) else {
        if speaks_tls == identity.tls.is_some() {
            return Some(Stream::Plain(tcp));
        }
        let text = if speaks_tls {
            "a node that speaks TLS between nodes dialed, and this one does not: set [cluster.tls] on all nodes, or on none"
        } else {
            "this node speaks TLS between nodes only: set [cluster.tls] on all nodes, or on none"
        };
        let refusal = refusal(Reason::Tls, text);
        note(inner, from, &Failure::Refused(refusal.clone()), None);
        // A TLS client does not understand it, but that it is no TLS.
        handshake::say_farewell(&mut Stream::Plain(tcp), &refusal).await;
        return None;
    };
    match TlsAcceptor::from(Arc::clone(&tls.server)).accept(tcp).await {
        Ok(stream) => Some(Stream::Tls(Box::new(TlsStream::Server(stream)))),
        Err(error) => {
            let text = format!("TLS: {error}");
            note(inner, from, &Failure::Refused(refusal(Reason::Tls, text)), None);
            None
        }
    }
}

/// Whether a node that knows the secret of this cluster may come in for this.
fn admit(inner: &Arc<Inner>, who: &Who, purpose: Purpose) -> Result<(), Refusal> {
    let Purpose::Lane(_) = purpose else {
        if inner.accepted.strangers.lock().len() >= STRANGERS {
            return Err(refusal(Reason::Busy, "too many nodes ask at once: try again"));
        }
        return Ok(());
    };
    let Some(node) = who.node else {
        return Err(refusal(Reason::NotMember, format!("{} is no member of the cluster", who.name)));
    };
    let known = inner.peers.read().get(&node).cloned();
    match known.map(|peer| peer.address().name) {
        Some(name) if name == who.name => Ok(()),
        Some(name) => {
            let text = format!("node {node} of this cluster is {name}, and not {}", who.name);
            Err(refusal(Reason::Node, text))
        }
        None if !inner.knows_peers.load(Ordering::Acquire) => {
            let me = inner.identity.read().name.clone();
            Err(refusal(Reason::Busy, format!("{me} is starting: try again")))
        }
        None => {
            let due = |last: Instant| last.elapsed() >= TOLD_AGAIN;
            let mut told = inner.accepted.told.lock();
            if told.is_none_or(due) {
                *told = Some(Instant::now());
                drop(told);
                if let Some(handler) = inner.handler(Kind::Member) {
                    handler.on_stranger(who);
                }
            }
            let me = inner.identity.read().name.clone();
            Err(refusal(Reason::NotMember, format!("{} is no member of the cluster, says {me}", called(who))))
        }
    }
}

/// Writes down why somebody was not let in.
fn note(inner: &Inner, from: SocketAddr, failure: &Failure, who: Option<&Who>) {
    let Failure::Refused(refusal) = failure else {
        tracing::debug!(%from, ?failure, "a greeting came to nothing");
        return;
    };
    // What somebody says who did not show that it knows the secret.
    let name = who.map(|who| handshake::shown(&who.name)).unwrap_or_default();
    let text = handshake::shown(&refusal.text);
    if inner.accepted.is_news(&format!("{} {name} {text}", from.ip())) {
        tracing::warn!(%from, node = %name, error = %text, "another node was refused");
    }
}

async fn serve_member(inner: &Arc<Inner>, stream: Stream, who: Who, node: NodeId, lane: Lane) {
    let place = inner.accepted.place(node, lane);
    let session = Session(who.session);
    let counters = Arc::clone(&place.counters);
    let connection = Connection::new(Side::Member(node), lane, who, session, &inner.settings, counters);
    let connection = Arc::new(connection);
    let before = place.current.lock().replace(Arc::clone(&connection));
    if let Some(before) = before {
        before.end("the same node dialed again");
    }
    // The one before is read to its end, so that nothing of it comes later.
    let Ok(_reading) = timeout(PREDECESSOR, place.reading.lock()).await else {
        connection.end("the connection before did not end");
        return;
    };
    // It may have been forgotten since it was let in.
    if connection.is_ended() || *inner.ended.borrow() || !inner.is_member(&connection.who) {
        leave(&place, &connection);
        return;
    }
    // It is there, so it is worth dialing.
    let peer = inner.peers.read().get(&node).cloned();
    if let Some(peer) = peer {
        peer.hurry_if_down(lane);
    }
    let why = connection.run(inner, stream).await;
    leave(&place, &connection);
    tracing::debug!(node = %connection.who.name, lane = lane.name(), error = why, "accepted link ended");
    if lane == Lane::Data {
        inner.tell_all(|handler| handler.on_accepted_down(node, session));
    }
}

fn leave(place: &Place, connection: &Arc<Connection>) {
    let mut current = place.current.lock();
    if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
        *current = None;
    }
}

async fn serve_stranger(inner: &Arc<Inner>, stream: Stream, who: Who) {
    let session = Session(who.session);
    let (side, lane) = (Side::Stranger, Lane::Control);
    let connection = Connection::new(side, lane, who, session, &inner.settings, Arc::default());
    let connection = Arc::new(connection);
    inner.accepted.strangers.lock().push(Arc::clone(&connection));
    let why = connection.run(inner, stream).await;
    tracing::debug!(node = %connection.who.name, error = why, "a node that asked has gone");
    inner.accepted.strangers.lock().retain(|it| !Arc::ptr_eq(it, &connection));
}

// The count is of use to tests only: how many greetings are under way.
#[cfg(test)]
impl Accepted {
    pub(super) fn greetings(&self) -> usize {
        self.greetings.lock().values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_network_of_ipv6_count_as_one_unless_they_are_members() {
        let accepted = Accepted::default();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let others = (1..=GREETINGS_OF_ONE).map(|host| at(&format!("2001:db8::{host:x}")));
        let mut underway: Vec<Underway<'_>> =
            others.map(|from| Underway::begin(&accepted, from, false).unwrap()).collect();
        assert!(Underway::begin(&accepted, at("2001:db8::ffff"), false).is_none());
        underway.push(Underway::begin(&accepted, at("2001:db8::ffff"), true).unwrap());
        underway.push(Underway::begin(&accepted, at("2001:db8:0:1::1"), false).unwrap());
        drop(underway);
        assert_eq!(accepted.greetings(), 0);
    }
}
