//! Links of several nodes in one process, over loopback.

mod faults;
mod greeting;
mod speed;
mod tls;
mod traffic;

use super::*;
use std::sync::Condvar;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a handler was told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Up(NodeId, Session),
    Down(NodeId, Session),
    Frame(NodeId, Session, Bytes),
    AcceptedDown(NodeId, Session),
    Stranger(String),
}

/// A handler that writes everything down.
#[derive(Default)]
struct Notes {
    events: Mutex<Vec<Event>>,
    callers: Mutex<Vec<Caller>>,
    /// Frames are not taken while it is shut.
    shut: std::sync::Mutex<bool>,
    opened: Condvar,
    /// Calls that were dropped before they were answered.
    dropped: Arc<AtomicUsize>,
    /// Calls that wait for ever.
    stuck: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Notes {
    fn note(&self, event: Event) {
        self.events.lock().push(event);
    }

    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn all(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    fn frames(&self) -> Vec<Bytes> {
        let events = self.events.lock();
        let frames = events.iter().filter_map(|event| match event {
            Event::Frame(_, _, payload) => Some(payload.clone()),
            _ => None,
        });
        frames.collect()
    }
}

impl Handler for Notes {
    fn on_up(&self, peer: NodeId, session: Session) {
        self.note(Event::Up(peer, session));
    }

    fn on_down(&self, peer: NodeId, session: Session) {
        self.note(Event::Down(peer, session));
    }

    fn on_frame(&self, from: NodeId, session: Session, payload: Bytes) {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        self.note(Event::Frame(from, session, payload));
    }

    fn on_accepted_down(&self, from: NodeId, session: Session) {
        self.note(Event::AcceptedDown(from, session));
    }

    fn on_stranger(&self, who: &Who) {
        self.note(Event::Stranger(who.name.clone()));
    }

    fn on_call(&self, caller: Caller, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        self.callers.lock().push(caller);
        let (dropped, stuck) = (CountDrop(Arc::clone(&self.dropped)), Arc::clone(&self.stuck));
        Box::pin(async move {
            if payload == "no" {
                return Err("this does not work".to_owned());
            }
            if payload == "wait" {
                stuck.fetch_add(1, Ordering::Relaxed);
                Notify::new().notified().await;
            }
            std::mem::forget(dropped);
            Ok(payload)
        })
    }
}

/// A node: its links, and what its handlers were told.
struct Node {
    id: NodeId,
    links: Links,
    notes: Arc<Notes>,
    address: String,
}

impl Links {
    /// The session of our data lane to a peer.
    fn session(&self, to: NodeId) -> Option<Session> {
        self.connection(to, Lane::Data).ok().map(|connection| connection.session)
    }
}

impl Node {
    fn place(&self) -> PeerAddress {
        let name = self.links.identity().name.clone();
        PeerAddress { node: self.id, name, addresses: vec![self.address.clone()] }
    }

    /// Why there is no link to a peer.
    fn error(&self, peer: &Node) -> Option<String> {
        let states = self.links.states();
        states.into_iter().find(|state| state.node == peer.id).and_then(|state| state.error)
    }

    async fn up(&self, peer: &Node) -> Session {
        until("the link is up", || self.links.is_up(peer.id) && self.error(peer).is_none()).await;
        self.links.session(peer.id).expect("a link that is up")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.notes.shut(false);
        self.links.disconnect();
    }
}

/// So patient that nothing ends by itself on a machine that is busy.
fn patient() -> LinkSettings {
    LinkSettings { silence: Duration::from_secs(3600), dial: PATIENCE, ..LinkSettings::default() }
}

fn identity(id: u64) -> LinkIdentity {
    LinkIdentity {
        cluster_id: 7,
        generation: 1,
        node: Some(NodeId(id)),
        name: format!("rabbit@{id}"),
        incarnation: 1,
        addresses: Vec::new(),
        version: "1.2.3".to_owned(),
        features: 0,
        secrets: vec![Secret::new(b"cookie")],
        tls: None,
    }
}

async fn node_with(identity: LinkIdentity, settings: LinkSettings, port: u16) -> Node {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let id = identity.node.unwrap_or_default();
    let links = Links::start(identity, settings, listener);
    let notes = Arc::new(Notes::default());
    for kind in Kind::ALL {
        let handler: Arc<dyn Handler> = Arc::<Notes>::clone(&notes);
        links.handle(kind, handler);
    }
    Node { id, links, notes, address }
}

async fn node(id: u64) -> Node {
    node_with(identity(id), patient(), 0).await
}

/// Makes each a peer of the others.
fn introduce(nodes: &[&Node]) {
    let places: Vec<PeerAddress> = nodes.iter().map(|node| node.place()).collect();
    nodes.iter().for_each(|node| node.links.set_peers(places.clone()));
}

/// Two nodes that are connected in both directions.
async fn pair() -> (Node, Node) {
    let (a, b) = (node(1).await, node(2).await);
    introduce(&[&a, &b]);
    a.up(&b).await;
    b.up(&a).await;
    (a, b)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn raw(address: &str) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}
