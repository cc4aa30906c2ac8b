//! Connections that break, nodes that go and come, and members that do not keep to the protocol.

use super::*;
use crate::cluster::link::handshake::{self, Wish};
use crate::cluster::link::stream::Stream;
use broker_core::link::greet::Purpose;
use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;
use tokio::task::JoinSet;

/// A way between two nodes that can be cut, or become silent.
struct Way {
    address: String,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing goes through, and nobody is told.
    Silent,
    /// Connections are reset.
    Cut,
}

impl Way {
    async fn to(target: &str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = watch::Sender::new(State::Open);
        let (mut changes, target) = (state.subscribe(), target.to_owned());
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    changed = changes.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                if *changes.borrow() == State::Cut {
                    continue;
                }
                connections.spawn(pass(accepted, target.clone(), changes.clone()));
            }
        });
        Way { address, state }
    }

    fn becomes(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn pass(mut from: TcpStream, target: String, mut changes: watch::Receiver<State>) {
    let mut to = raw(&target).await;
    loop {
        let state = *changes.borrow_and_update();
        match state {
            State::Cut => return,
            State::Silent => drop(changes.changed().await),
            State::Open => tokio::select! {
                _ = copy_bidirectional(&mut from, &mut to) => return,
                _ = changes.changed() => {}
            },
        }
    }
}

/// Two nodes of which the first reaches the second by a way.
async fn pair_by_way(settings: LinkSettings) -> (Node, Node, Way) {
    let a = node_with(identity(1), settings.clone(), 0).await;
    let b = node_with(identity(2), settings, 0).await;
    let way = Way::to(&b.address).await;
    a.links.set_peers(vec![PeerAddress { addresses: vec![way.address.clone()], ..b.place() }]);
    b.links.set_peers(vec![a.place()]);
    a.up(&b).await;
    b.up(&a).await;
    (a, b, way)
}

#[tokio::test]
async fn a_connection_that_is_cut_is_noticed_at_once_and_made_again() {
    // Silence counts only after an hour.
    let (a, b, way) = pair_by_way(patient()).await;
    let first = a.links.session(b.id).unwrap();
    way.becomes(State::Cut);
    until("it is noticed", || a.notes.all().contains(&Event::Down(b.id, first))).await;
    until("the other side too", || b.notes.all().contains(&Event::AcceptedDown(a.id, first))).await;
    assert!(!a.links.is_up(b.id));
    let error = a.links.send(b.id, Lane::Data, Kind::Forward, Bytes::new()).unwrap_err();
    assert!(matches!(error, LinkError::Down { .. }), "{error}");
    assert!(b.links.is_up(a.id), "the other direction has its own connections");
    way.becomes(State::Open);
    let second = a.up(&b).await;
    assert!(second > first);
    let ups = a.notes.all().into_iter().filter(|event| matches!(event, Event::Up(..) | Event::Down(..)));
    assert_eq!(
        ups.collect::<Vec<_>>(),
        [Event::Up(b.id, first), Event::Down(b.id, first), Event::Up(b.id, second)]
    );
}

#[tokio::test]
async fn a_node_that_falls_silent_is_gone_on_both_sides() {
    let settings = LinkSettings {
        silence: Duration::from_millis(400),
        ping: Duration::from_millis(50),
        dial: Duration::from_millis(500),
        ..LinkSettings::default()
    };
    let (a, b, way) = pair_by_way(settings).await;
    let session = a.links.session(b.id).unwrap();
    until("pings are answered", || a.links.states()[0].lanes.iter().all(|lane| lane.round_trip_us > 0)).await;
    way.becomes(State::Silent);
    until("it is noticed", || a.notes.all().contains(&Event::Down(b.id, session))).await;
    until("the other side too", || b.notes.all().contains(&Event::AcceptedDown(a.id, session))).await;
    let said = a.error(&b).unwrap();
    assert!(said.contains("no sign of life for 400ms") || said.contains("nobody answered within"), "{said}");
    way.becomes(State::Open);
    until("it is back", || a.links.session(b.id).is_some_and(|again| again > session)).await;
}

#[tokio::test]
async fn a_node_that_starts_again_is_found_at_its_old_address() {
    let (a, b) = pair().await;
    let (first, back) = (a.links.session(b.id).unwrap(), b.links.session(a.id).unwrap());
    b.links.disconnect();
    b.links.stopped().await;
    until("it is noticed", || a.notes.all().contains(&Event::Down(b.id, first))).await;
    assert!(b.notes.all().contains(&Event::Down(a.id, back)) || !b.links.is_up(a.id));
    until("refused", || a.error(&b).is_some_and(|error| error.contains("connection refused"))).await;
    let port = b.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let again = node_with(LinkIdentity { incarnation: 2, ..identity(2) }, patient(), port).await;
    introduce(&[&a, &again]);
    assert!(a.up(&again).await > first);
    assert!(again.up(&a).await > back, "sessions grow over a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_of_a_later_session_come_after_the_end_of_the_earlier_one() {
    let (a, b, way) = pair_by_way(patient()).await;
    for round in 0..10_u8 {
        let session = a.up(&b).await;
        for _ in 0..200 {
            // Some of them are lost with the session.
            let _ = a.links.send(b.id, Lane::Data, Kind::Replicate, Bytes::from(vec![round; 3000]));
        }
        way.becomes(State::Cut);
        until("it is cut", || a.links.session(b.id) != Some(session)).await;
        way.becomes(State::Open);
    }
    a.links.disconnect();
    until("the last has ended", || !b.links.states()[0].lanes[Lane::Data.index()].accepted).await;
    let mut ended: Option<Session> = None;
    for event in b.notes.all() {
        match event {
            Event::Frame(_, session, _) => assert!(ended.is_none_or(|ended| session > ended)),
            Event::AcceptedDown(_, session) => ended = Some(session),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_node_that_is_forgotten_is_cut_off() {
    let (a, b, c) = (node(1).await, node(2).await, node(3).await);
    introduce(&[&a, &b, &c]);
    for (one, other) in [(&a, &b), (&a, &c), (&b, &a), (&b, &c), (&c, &a), (&c, &b)] {
        one.up(other).await;
    }
    let (to_c, to_b) = (a.links.session(c.id).unwrap(), a.links.session(b.id).unwrap());
    a.links.set_peers(vec![b.place()]);
    until("told", || a.notes.all().contains(&Event::Down(c.id, to_c))).await;
    until("c is out", || !c.links.is_up(a.id)).await;
    assert!(!a.links.is_up(c.id));
    assert_eq!(a.links.session(b.id), Some(to_b), "others stay");
    until("c is told", || {
        c.error(&a)
            .is_some_and(|error| error == "rabbit@3 (node 3) is no member of the cluster, says rabbit@1")
    })
    .await;
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_loses_its_connection_and_nothing_else() {
    let (a, b, c) = (node(1).await, node(2).await, node(3).await);
    introduce(&[&a, &b]);
    let session = a.up(&b).await;
    // The third is known to a, and speaks for itself.
    a.links.set_peers(vec![b.place(), PeerAddress { addresses: Vec::new(), ..c.place() }]);
    let begin = b"\x10\0\0\0\x08\x03\0\0\0\xff\xff\xff\xff\xff\0\0\0\x01\x05x";
    for said in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\0",
        b"\x02\0\0\0\x77\x01",
        b"\x02\0\0\0\x01\x77",
        b"\x06\0\0\0\x09\x01\0\0\0x",
        b"\x05\0\0\0\x03\x01\0\0\0",
        begin,
    ] {
        let mut stream = Stream::Plain(raw(&a.address).await);
        let place = a.place();
        let wish =
            Wish { purpose: Purpose::Lane(Lane::Data), session: 1, expects: Some(&place), token: None };
        handshake::dial(&mut stream, &c.links.identity(), wish).await.unwrap();
        let before = a.notes.all().len();
        stream.write_all(said).await.unwrap();
        until("it ended", || a.notes.all()[before..].contains(&Event::AcceptedDown(c.id, Session(1)))).await;
    }
    assert_eq!(a.links.session(b.id), Some(session));
    assert!(a.notes.frames().is_empty());
}
