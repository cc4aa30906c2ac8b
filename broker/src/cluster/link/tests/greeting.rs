//! Who is let in, and what the others are told.

use super::*;
use crate::cluster::link::handshake::{self, Wish};
use crate::cluster::link::stream::Stream;
use broker_core::link::greet::{Greet, Hello, PREFACE, Protocols, Purpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn both_sides_know_a_session_by_the_same_number() {
    let (a, b) = pair().await;
    let session = a.links.send(b.id, Lane::Data, Kind::Forward, Bytes::from_static(b"hello")).unwrap();
    assert_eq!(a.links.session(b.id), Some(session));
    until("the frame is there", || !b.notes.frames().is_empty()).await;
    assert!(b.notes.all().contains(&Event::Frame(a.id, session, Bytes::from_static(b"hello"))));
    let up = b.links.session(a.id).unwrap();
    assert!(b.notes.all().contains(&Event::Up(a.id, up)));
    until("the state says so", || {
        let state = &b.links.states()[0];
        state.up && state.error.is_none() && state.lanes.iter().all(|lane| lane.up && lane.accepted)
    })
    .await;
    let state = &a.links.states()[0];
    assert_eq!((state.name.as_str(), state.version.as_str(), &state.warning), ("rabbit@2", "1.2.3", &None));
    assert!(state.lanes[Lane::Data.index()].sent > 0);
}

/// Starts two nodes of which the second is told apart by the first, and returns what each says.
async fn refused(first: LinkIdentity, second: LinkIdentity) -> (String, String) {
    let (a, b) = (node_with(first, patient(), 0).await, node_with(second, patient(), 0).await);
    introduce(&[&a, &b]);
    until("both have tried", || a.error(&b).is_some() && b.error(&a).is_some()).await;
    assert!(!a.links.is_up(b.id) && !b.links.is_up(a.id));
    let events = a.notes.all().into_iter().chain(b.notes.all());
    assert!(!events.into_iter().any(|event| matches!(event, Event::Up(..) | Event::Frame(..))));
    (a.error(&b).unwrap(), b.error(&a).unwrap())
}

#[tokio::test]
async fn nodes_with_different_cookies_say_that_the_cookies_differ() {
    let other = LinkIdentity { secrets: vec![Secret::new(b"kookie")], ..identity(2) };
    let (a, b) = refused(identity(1), other).await;
    assert!(a.contains("the cookies differ. Copy the cookie file"), "{a}");
    assert_eq!(a, b);
}

#[tokio::test]
async fn nodes_of_other_clusters_and_generations_are_named() {
    let (a, b) = refused(identity(1), LinkIdentity { cluster_id: 8, ..identity(2) }).await;
    assert_eq!(a, "rabbit@1 belongs to another cluster than rabbit@2");
    assert_eq!(b, "rabbit@2 belongs to another cluster than rabbit@1");
    let (a, b) = refused(identity(1), LinkIdentity { generation: 2, ..identity(2) }).await;
    for said in [a, b] {
        assert!(
            said.starts_with("rabbit@1 belongs to what the cluster was before it was recovered"),
            "{said}"
        );
        assert!(said.ends_with("reset rabbit@1 and let it join again"), "{said}");
    }
}

#[tokio::test]
async fn a_node_that_is_another_than_expected_is_refused() {
    let (a, b) = (node(1).await, node(2).await);
    let wrong = PeerAddress { node: NodeId(3), ..b.place() };
    a.links.set_peers(vec![wrong]);
    b.links.set_peers(vec![a.place()]);
    until("it was tried", || !a.links.states().is_empty() && a.links.states()[0].error.is_some()).await;
    let said = a.links.states()[0].error.clone().unwrap();
    assert_eq!(said, "another (node 3) is expected here, and this is rabbit@2 (node 2)");
    // A name that is not the one of that number.
    b.links.set_peers(vec![PeerAddress { name: "rabbit@other".to_owned(), ..a.place() }]);
    a.links.set_peers(vec![b.place()]);
    until("it was tried", || a.error(&b).is_some()).await;
    assert_eq!(a.error(&b).unwrap(), "node 1 of this cluster is rabbit@other, and not rabbit@1");
}

#[tokio::test]
async fn two_secrets_are_taken_while_one_is_replaced() {
    let secrets = |words: &[&[u8]]| words.iter().map(|word| Secret::new(word)).collect::<Vec<_>>();
    let (a, b) = pair().await;
    let session = a.links.session(b.id);
    a.links.set_secrets(secrets(&[b"cookie", b"new"]));
    b.links.set_secrets(secrets(&[b"new", b"cookie"]));
    assert_eq!(a.links.session(b.id), session, "connections do not end for it");
    let patience = PATIENCE;
    for (asks, asked) in [(&a, &b), (&b, &a)] {
        asks.links.call_address(&asked.address, Kind::Member, Bytes::new(), patience).await.unwrap();
    }
    a.links.set_secrets(secrets(&[b"new"]));
    a.links.call_address(&b.address, Kind::Member, Bytes::new(), patience).await.unwrap();
    b.links.set_secrets(secrets(&[b"other"]));
    let error = a.links.call_address(&b.address, Kind::Member, Bytes::new(), patience).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused(Reason::Cookie, _)), "{error:?}");
}

#[tokio::test]
async fn a_node_that_is_no_member_gets_answers_about_membership_and_nothing_else() {
    let a = node(1).await;
    let joiner = LinkIdentity { cluster_id: 99, node: None, name: "rabbit@new".to_owned(), ..identity(9) };
    let new = node_with(joiner, patient(), 0).await;
    let question = Bytes::from_static(b"may I?");
    let (greeting, answer) =
        new.links.call_address(&a.address, Kind::Member, question.clone(), PATIENCE).await.unwrap();
    assert_eq!((answer, greeting.who.name.as_str()), (question.clone(), "rabbit@1"));
    assert_eq!((greeting.who.cluster_id, greeting.who.node), (7, Some(NodeId(1))));
    let callers: Vec<_> = a.notes.callers.lock().drain(..).map(|it| (it.who.name, it.member)).collect();
    assert_eq!(callers, [("rabbit@new".to_owned(), false)]);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Member) {
        let error = new.links.call_address(&a.address, kind, question.clone(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, LinkError::Down { .. }), "{kind:?}: {error:?}");
    }
    assert!(a.notes.callers.lock().is_empty());
    // A frame, on a connection that was greeted for asking.
    let mut stream = Stream::Plain(raw(&a.address).await);
    let wish = Wish { purpose: Purpose::Ask, session: 1, expects: None, token: None };
    handshake::dial(&mut stream, &new.links.identity(), wish).await.unwrap();
    stream.write_all(b"\x04\0\0\0\x01\x05hi").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert!(a.notes.frames().is_empty());
}

/// Everything that comes, without pings.
async fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut octets = Vec::new();
    // Closing with something unread resets the connection.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut octets)).await.expect("an end");
    let ping = |frame: &[u8]| frame.len() == 13 && frame[4] == 6;
    octets.chunks(13).filter(|frame| !ping(frame)).flatten().copied().collect()
}

#[tokio::test]
async fn a_node_of_the_cluster_that_is_no_member_here_is_refused_and_reported() {
    let (a, c) = (node(1).await, node(3).await);
    c.links.set_peers(vec![a.place()]);
    until("it was refused", || c.error(&a).is_some()).await;
    assert_eq!(c.error(&a).unwrap(), "rabbit@1 is starting: try again");
    assert!(!a.notes.all().contains(&Event::Stranger("rabbit@3".to_owned())), "nobody knows yet");
    a.links.set_peers(Vec::new());
    until("it is no member", || c.error(&a).is_some_and(|error| error.contains("no member"))).await;
    assert_eq!(c.error(&a).unwrap(), "rabbit@3 (node 3) is no member of the cluster, says rabbit@1");
    assert!(a.notes.all().contains(&Event::Stranger("rabbit@3".to_owned())));
    // Once it is one, it is in by itself.
    a.links.set_peers(vec![c.place()]);
    c.up(&a).await;
    a.up(&c).await;
    // And when it is none any more, out.
    a.links.set_peers(Vec::new());
    until("it is out", || !c.links.is_up(a.id)).await;
    assert!(matches!(
        a.links.send(c.id, Lane::Data, Kind::Forward, Bytes::new()),
        Err(LinkError::NoPeer(NodeId(3)))
    ));
}

#[tokio::test]
async fn what_is_no_greeting_gets_no_answer() {
    let a = node(1).await;
    for said in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"AMQP\0\0\x09\x01",
        b"\0\x15n\0\0\0\0\0\x03\xdf\x7f\xbdrabbit@2",
        b"WARREN\0\x01\xff\xff\xff\xff",
        b"WARREN\0\x01\x05\0\0\0\xff\xff\xff\xff\xff",
        b"WARREN\0\x01\0\0\0\0",
    ] {
        let mut stream = raw(&a.address).await;
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // It may be reset.
        let _ = read.expect("an end");
        assert_eq!(answer, b"", "{}", said.escape_ascii());
    }
}

async fn refusal(stream: &mut TcpStream) -> broker_core::link::greet::Refusal {
    let length = stream.read_u32_le().await.unwrap();
    let mut octets = vec![0; length as usize];
    stream.read_exact(&mut octets).await.unwrap();
    match Greet::decode(&octets).unwrap() {
        Greet::Refusal(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn versions_that_do_not_fit_are_told() {
    let a = node(1).await;
    let mut stream = raw(&a.address).await;
    let later = [&PREFACE[..7], &[9]].concat();
    stream.write_all(&later).await.unwrap();
    let said = refusal(&mut stream).await;
    assert_eq!(said.reason, Reason::Version);
    assert!(said.text.contains("version 9 of the greeting"), "{}", said.text);
    let mut stream = raw(&a.address).await;
    let protocol = Protocols { oldest: 8, newest: 9 };
    let hello = Hello { nonce: [1; 32], protocol, purpose: Purpose::Ask, token: None };
    let hello = Greet::Hello(hello).encode().unwrap();
    stream.write_all(&[&PREFACE[..], &(hello.len() as u32).to_le_bytes(), &hello].concat()).await.unwrap();
    let said = refusal(&mut stream).await;
    assert_eq!(said.reason, Reason::Version);
    assert!(
        said.text.contains("speaks versions 8 to 9") && said.text.contains("the other 1 to 1"),
        "{}",
        said.text
    );
}

#[tokio::test]
async fn a_greeting_that_was_listened_to_can_not_be_said_again() {
    let a = node(1).await;
    let b = node(2).await;
    // A listener between the two, that keeps what was said.
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap().to_string();
    let target = a.address.clone();
    let listened = tokio::spawn(async move {
        let (mut from, _) = between.accept().await.unwrap();
        let mut to = raw(&target).await;
        let mut said = Vec::new();
        let (mut from_read, mut from_write) = from.split();
        let (mut to_read, mut to_write) = to.split();
        let forth = async {
            let mut octets = [0; 4096];
            loop {
                let count = from_read.read(&mut octets).await.unwrap_or(0);
                if count == 0 || to_write.write_all(&octets[..count]).await.is_err() {
                    break;
                }
                said.extend_from_slice(&octets[..count]);
            }
        };
        tokio::select! {
            () = forth => {}
            _ = tokio::io::copy(&mut to_read, &mut from_write) => {}
        }
        said
    });
    b.links.call_address(&address, Kind::Member, Bytes::from_static(b"join"), PATIENCE).await.unwrap();
    let said = listened.await.unwrap();
    assert!(!said.windows(6).any(|part| part == b"cookie"), "the secret was sent");
    a.notes.callers.lock().clear();
    let mut stream = raw(&a.address).await;
    stream.write_all(&said).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    // The new challenge, and a refusal.
    let length = u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize;
    let rest = &answer[4 + length + 4..];
    assert!(matches!(Greet::decode(rest), Ok(Greet::Refusal(it)) if it.reason == Reason::Cookie));
    assert!(a.notes.callers.lock().is_empty());
}

#[tokio::test]
async fn who_says_nothing_is_shown_out() {
    let settings = LinkSettings { dial: Duration::from_millis(500), ..patient() };
    let a = node_with(identity(1), settings, 0).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(raw(&a.address).await);
    }
    for mut stream in silent {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.expect("an end");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    until("none is under way", || a.links.0.accepted.greetings() == 0).await;
    // On a machine that is busy, the first tries may take too long.
    let b = node(2).await;
    while b.links.call_address(&a.address, Kind::Member, Bytes::new(), PATIENCE).await.is_err() {}
}

#[tokio::test]
async fn silent_greetings_from_many_addresses_keep_no_member_out() {
    let settings = LinkSettings { dial: Duration::from_secs(3600), ..patient() };
    let (a, b) = (node_with(identity(1), settings, 0).await, node(2).await);
    a.links.set_peers(vec![b.place()]);
    let mut silent = Vec::new();
    for host in 1..=11 {
        for _ in 0..24 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 9, host], 0))).unwrap();
            silent.push(socket.connect(a.address.parse().unwrap()).await.unwrap());
        }
    }
    let most = 256 - 64;
    until("there is no room for others", || a.links.0.accepted.greetings() == most).await;
    b.links.set_peers(vec![a.place()]);
    b.up(&a).await;
    assert_eq!(a.links.0.accepted.greetings(), most, "those are still under way");
}

#[tokio::test]
async fn a_token_lets_a_node_ask_that_does_not_know_the_cookie() {
    let a = node(1).await;
    let stranger = LinkIdentity {
        cluster_id: 0,
        node: None,
        name: "rabbit@new".to_owned(),
        secrets: Vec::new(),
        ..identity(9)
    };
    let new = node_with(stranger, patient(), 0).await;
    let question = Bytes::from_static(b"join");
    let error =
        new.links.call_address(&a.address, Kind::Member, question.clone(), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("has no cookie"), "{error}");
    let hour = SystemTime::now() + Duration::from_secs(3600);
    // The first address is of a node that is not up.
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let token = a.links.token(vec![nowhere, a.address.clone()], hour).unwrap();
    let token = Token::parse(&token.to_text(), SystemTime::now()).unwrap();
    let (greeting, answer) =
        new.links.call_token(&token, Kind::Member, question.clone(), PATIENCE).await.unwrap();
    assert_eq!(answer, question);
    assert_eq!(greeting.secret.unwrap().octets(), b"cookie");
    assert_eq!(greeting.who.cluster_id, 7);
    // Good for nothing else.
    let mut stream = Stream::Plain(raw(&a.address).await);
    let wish = Wish { purpose: Purpose::Lane(Lane::Data), session: 1, expects: None, token: Some(&token) };
    let error = handshake::dial(&mut stream, &identity(2), wish).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused(Reason::Token, _)), "{error:?}");
    // One that expires while it is on its way, one of another cluster, one that somebody made himself.
    for (secret, cluster, expires, said) in [
        (&b"cookie"[..], 7, SystemTime::now() - Duration::from_secs(60), "expired"),
        (b"cookie", 8, hour, "for another cluster"),
        (b"guess", 7, hour, "was not made in this cluster"),
    ] {
        let token = Token::make(&Secret::new(secret), cluster, vec![a.address.clone()], expires).unwrap();
        let error = new.links.call_token(&token, Kind::Member, question.clone(), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(a.notes.callers.lock().len(), 1);
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_explained() {
    let a = node(1).await;
    let ssh = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ssh_address = ssh.local_addr().unwrap().to_string();
    let other_program = tokio::spawn(async move {
        let (mut stream, _) = ssh.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        let mut octets = [0; 1024];
        while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {}
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (address, said) in [
        ("no-such-host.invalid:25672", "the host name no-such-host.invalid does not resolve"),
        ("justaname", "`justaname` is no address: write host:port"),
        (&closed, "connection refused: nothing listens there, so the node is not running"),
        (&ssh_address, "is no Warren broker"),
    ] {
        let error = a.links.call_address(address, Kind::Member, Bytes::new(), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    other_program.abort();
}

#[test]
fn a_clock_that_is_off_is_a_warning() {
    use crate::cluster::link::dialer::clock_warning;
    assert_eq!(clock_warning("rabbit@B", 5000), None);
    let ahead = clock_warning("rabbit@B", 61_000).unwrap();
    assert_eq!(ahead, "the clock of rabbit@B is 1m 1s ahead of this node's: let NTP set both");
    assert!(clock_warning("rabbit@B", -61_000).unwrap().contains("1m 1s behind"));
    assert!(clock_warning("rabbit@B", i64::MIN).is_some());
}
