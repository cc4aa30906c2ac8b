//! Frames and calls between nodes that get along.

use super::*;
use futures_util::future::join_all;

fn numbered(number: u32, octets: usize) -> Bytes {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(octets.max(4), number as u8);
    payload.into()
}

fn number(payload: &Bytes) -> u32 {
    payload.first_chunk().map_or(u32::MAX, |octets| u32::from_le_bytes(*octets))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_come_whole_and_in_order() {
    let (a, b) = pair().await;
    let sizes = [0, 256, 5000, 70_000, 300_000, 100, 1 << 20, 30];
    let count = 400;
    for at in 0..count {
        let payload = numbered(at, sizes[at as usize % sizes.len()]);
        while a.links.send(b.id, Lane::Data, Kind::Replicate, payload.clone()).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    until("all are there", || b.notes.frames().len() == count as usize).await;
    for (at, payload) in (0..count).zip(b.notes.frames()) {
        assert!(
            payload == numbered(at, sizes[at as usize % sizes.len()]),
            "frame {at} is {}",
            number(&payload)
        );
    }
    until("nothing waits", || a.links.pending(b.id, Lane::Data) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bulk_lane_that_is_stuck_with_100_mb_delays_no_call_of_the_control_lane() {
    let (a, b) = pair().await;
    b.notes.shut(true);
    let large = Bytes::from(vec![7; 100 << 20]);
    // The first holds the reader of that lane up; the second can not be taken before the gate opens.
    a.links.send(b.id, Lane::Bulk, Kind::Fill, numbered(0, 10)).unwrap();
    a.links.send(b.id, Lane::Bulk, Kind::Fill, large.clone()).unwrap();
    for at in 0..20 {
        let question = numbered(at, 100);
        let answer = a.links.call(b.id, Lane::Control, Kind::Raft, question.clone(), PATIENCE).await;
        assert_eq!(answer, Ok(question));
    }
    // On the stuck lane too, what is too much is refused and not kept.
    assert!(matches!(
        a.links.send(b.id, Lane::Bulk, Kind::Fill, numbered(1, 10)),
        Err(LinkError::Full(name)) if name == "rabbit@2"
    ));
    assert!(a.links.pending(b.id, Lane::Bulk) > 64 << 20);
    b.notes.shut(false);
    until("it is there", || b.notes.frames().len() == 2).await;
    assert!(b.notes.frames()[1] == large);
    until("nothing waits", || a.links.pending(b.id, Lane::Bulk) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_is_slow_costs_the_sender_a_bounded_amount_and_loses_nothing() {
    let settings = LinkSettings { waiting: [1 << 20; 3], ..patient() };
    let (a, b) = (node_with(identity(1), settings, 0).await, node(2).await);
    introduce(&[&a, &b]);
    a.up(&b).await;
    b.notes.shut(true);
    let mut sent = 0;
    let mut full = 0;
    // The sockets' buffers take some.
    while full < 50 {
        match a.links.send(b.id, Lane::Data, Kind::Forward, numbered(sent, 1000)) {
            Ok(_) => sent += 1,
            Err(LinkError::Full(_)) => {
                full += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(a.links.pending(b.id, Lane::Data) <= (1 << 20) + 2000);
    }
    b.notes.shut(false);
    until("all are there", || b.notes.frames().len() == sent as usize).await;
    assert!(b.notes.frames().iter().map(number).eq(0..sent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_are_answered_each_by_its_own_answer() {
    let (a, b) = pair().await;
    let calls = (0..500).map(|at| {
        let question = numbered(at, if at % 50 == 0 { 600_000 } else { 50 });
        let links = a.links.clone();
        async move {
            let answer =
                links.call(NodeId(2), Lane::Control, Kind::Propose, question.clone(), PATIENCE).await;
            (at, answer == Ok(question))
        }
    });
    assert!(join_all(calls).await.into_iter().all(|(_, is_right)| is_right));
    let caller = b.notes.callers.lock()[0].clone();
    assert!(caller.member);
    assert_eq!((caller.who.name.as_str(), caller.who.node), ("rabbit@1", Some(a.id)));
    let no = a.links.call(b.id, Lane::Data, Kind::Management, Bytes::from_static(b"no"), PATIENCE).await;
    assert_eq!(no, Err(LinkError::Answer("this does not work".to_owned())));
    let long = Bytes::from(vec![0; (64 << 20) + 1]);
    let error = a.links.call(b.id, Lane::Control, Kind::Raft, long, PATIENCE).await.unwrap_err();
    assert_eq!(error, LinkError::TooLong((64 << 20) + 1, 64 << 20));
    let nobody = a.links.call(NodeId(5), Lane::Control, Kind::Raft, Bytes::new(), PATIENCE).await;
    assert_eq!(nobody, Err(LinkError::NoPeer(NodeId(5))));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_given_up_on_the_other_side() {
    let (a, b) = pair().await;
    let wait = Bytes::from_static(b"wait");
    // Lost patience.
    let patience = Duration::from_millis(20);
    let late = a.links.call(b.id, Lane::Control, Kind::Beat, wait.clone(), patience).await.unwrap_err();
    assert_eq!(late, LinkError::Late { name: "rabbit@2".to_owned(), after: patience });
    assert_eq!(late.to_string(), "rabbit@2 did not answer within 20ms");
    until("it is given up", || b.notes.dropped.load(Ordering::Relaxed) == 1).await;
    // Changed its mind.
    let stuck = b.notes.stuck.load(Ordering::Relaxed);
    let links = a.links.clone();
    let call = wait.clone();
    let task =
        tokio::spawn(async move { links.call(NodeId(2), Lane::Data, Kind::Raft, call, PATIENCE).await });
    until("it is asked", || b.notes.stuck.load(Ordering::Relaxed) > stuck).await;
    task.abort();
    until("it is given up", || b.notes.dropped.load(Ordering::Relaxed) == 2).await;
    // Gone.
    let links = a.links.clone();
    let task =
        tokio::spawn(async move { links.call(NodeId(2), Lane::Data, Kind::Raft, wait, PATIENCE).await });
    until("it is asked", || b.notes.stuck.load(Ordering::Relaxed) > stuck + 1).await;
    a.links.disconnect();
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(&error, LinkError::Down { name, .. } if name == "rabbit@2"), "{error}");
    until("it is given up", || b.notes.dropped.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn frames_that_nobody_takes_end_the_connection() {
    let a = node(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let links = Links::start(identity(2), patient(), listener);
    let notes = Arc::new(Notes::default());
    let b = Node { id: NodeId(2), links, notes, address };
    introduce(&[&a, &b]);
    let before = a.up(&b).await;
    a.links.send(b.id, Lane::Data, Kind::Forward, Bytes::from_static(b"lost")).unwrap();
    until("it ended", || a.links.session(b.id) != Some(before)).await;
    let failed = a.links.call(b.id, Lane::Control, Kind::Raft, Bytes::new(), PATIENCE).await;
    assert_eq!(failed, Err(LinkError::Answer("nobody answers this here yet".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_control_lane_can_have_a_runtime_of_its_own() {
    let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = LinkSettings { control: Some(own.handle().clone()), ..patient() };
    let (a, b) =
        (node_with(identity(1), settings.clone(), 0).await, node_with(identity(2), settings, 0).await);
    // Consensus, which knows the peers, has that runtime too.
    let (links, places) = (a.links.clone(), vec![b.place()]);
    own.spawn(async move { links.set_peers(places) }).await.unwrap();
    b.links.set_peers(vec![a.place()]);
    a.up(&b).await;
    let question = Bytes::from_static(b"there?");
    let answer = a.links.call(b.id, Lane::Control, Kind::Beat, question.clone(), PATIENCE).await;
    assert_eq!(answer, Ok(question));
    // Nothing of that lane works any more without it, so it was there.
    let error = {
        let call = a.links.call(b.id, Lane::Control, Kind::Beat, Bytes::from_static(b"wait"), PATIENCE);
        own.shutdown_background();
        call.await.unwrap_err()
    };
    assert!(matches!(error, LinkError::Down { .. }), "{error}");
    assert!(a.links.call(b.id, Lane::Data, Kind::Beat, Bytes::new(), PATIENCE).await.is_ok());
}
