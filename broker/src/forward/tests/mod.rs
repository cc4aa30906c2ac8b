//! Two nodes in one process, each with clients of its own: what a client sees of a queue must not depend on which node
//! it is connected to.

pub(crate) mod pair;

use crate::alarms::Resource;
use crate::connection::outbox::ConsumerHandle;
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue, tx};
use amqp::table::FieldTable;
use broker_core::meta::MetaCommand;
use broker_core::queue::consumers::Consumer;
use pair::{Pair, wait};

const NONE: [u64; 0] = [];

fn plain(name: &str, leader: usize) -> (&str, FieldTable, usize) {
    (name, FieldTable::new(), leader)
}

#[test]
fn a_client_of_another_node_publishes_fetches_consumes_and_counts() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"one", b"two", b"three"]);
    assert_eq!(client.confirms(3), NONE);
    assert_eq!(pair.counts(0, "q"), (3, 0, 0));
    assert_eq!(client.passive("q"), (3, 0));

    client.send(&basic::Get { queue: "q", no_ack: false });
    let got = client.event();
    assert_eq!(got.delivery(), (1, false, &b"one"[..]));
    assert!(matches!(got.method(), Method::BasicGetOk(ok) if ok.message_count == 2));
    client.send(&basic::Reject { delivery_tag: 1, requeue: true });
    client.send(&basic::Get { queue: "q", no_ack: true });
    assert_eq!(client.event().delivery(), (2, true, &b"one"[..]));

    client.consume("q", "c", false);
    assert_eq!(client.delivery(), (3, false, b"two".to_vec()));
    assert_eq!(client.delivery(), (4, false, b"three".to_vec()));
    assert_eq!(client.passive("q"), (0, 1));
    client.ack(4, true);
    pair.wait_counts(0, "q", (0, 0, 1));

    client.send(&basic::Cancel { consumer_tag: "c", nowait: false });
    assert!(matches!(client.event().method(), Method::BasicCancelOk(_)));
    assert_eq!(pair.counts(0, "q"), (0, 0, 0));
    client.publish("q", &[b"four"]);
    client.confirms(4);
    client.send(&queue::Delete { queue: "q", if_empty: true, ..queue::Delete::default() });
    match client.event().method() {
        Method::ChannelClose(close) => {
            assert_eq!(close.reply_text, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty");
        }
        other => panic!("{other:?}"),
    }
    let mut client = pair.client(1);
    client.send(&queue::Purge { queue: "q", nowait: false });
    assert!(matches!(client.event().method(), Method::QueuePurgeOk(ok) if ok.message_count == 1));
    client.send(&basic::Get { queue: "q", no_ack: true });
    assert!(matches!(client.event().method(), Method::BasicGetEmpty(_)));
}

#[test]
fn what_a_lost_client_held_comes_back_in_order_to_clients_of_any_node() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut far = pair.client(1);
    far.select_confirms();
    far.publish("q", &[b"1", b"2", b"3"]);
    far.confirms(3);
    far.consume("q", "c", false);
    for tag in 1..=3 {
        assert_eq!(far.delivery(), (tag, false, tag.to_string().into_bytes()));
    }
    far.ack(2, false);
    pair.wait_counts(0, "q", (0, 2, 1));
    drop(far);
    pair.wait_counts(0, "q", (2, 0, 0));
    let mut near = pair.client(0);
    near.consume("q", "c", false);
    assert_eq!(near.delivery(), (1, true, b"1".to_vec()));
    assert_eq!(near.delivery(), (2, true, b"3".to_vec()));
}

#[test]
fn limits_of_channels_and_consumers_hold_far_away_too() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"1", b"2", b"3", b"4", b"5"]);
    client.confirms(5);
    client.send(&basic::Qos { prefetch_size: 0, prefetch_count: 2, global: true });
    client.event();
    client.consume("q", "c", false);
    assert_eq!((client.delivery().0, client.delivery().0), (1, 2));
    assert!(client.is_silent());
    assert_eq!(pair.counts(0, "q"), (3, 2, 1), "what the limit leaves no room for stays at the queue");
    client.ack(1, false);
    assert_eq!(client.delivery().2, b"3");
    pair.wait_counts(0, "q", (2, 2, 1));
    drop(client);
    pair.wait_counts(0, "q", (4, 0, 0));

    let mut client = pair.client(1);
    client.send(&basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false });
    client.event();
    client.consume("q", "c", false);
    assert_eq!(client.delivery(), (1, true, b"2".to_vec()));
    assert_eq!(pair.counts(0, "q"), (3, 1, 1));
    client.send(&basic::Nack { delivery_tag: 1, multiple: false, requeue: false });
    assert_eq!(client.delivery(), (2, true, b"3".to_vec()));
}

#[test]
fn exclusive_consumers_and_deleted_queues_are_told_far_away_too() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut near = pair.client(0);
    near.send(&basic::Consume {
        queue: "q",
        consumer_tag: "n",
        exclusive: true,
        ..basic::Consume::default()
    });
    near.event();
    let mut far = pair.client(1);
    far.send(&basic::Consume { queue: "q", consumer_tag: "f", ..basic::Consume::default() });
    match far.event().method() {
        Method::ChannelClose(close) => {
            assert_eq!(close.reply_text, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use");
        }
        other => panic!("{other:?}"),
    }
    drop(near);
    pair.wait_counts(0, "q", (0, 0, 0));
    let mut far = pair.client(1);
    far.consume("q", "f", true);
    let ids = vec![pair.queue_id(0, "q")];
    let delete = MetaCommand::DeleteQueues { ids };
    pair.propose(0, delete);
    match far.event().method() {
        Method::BasicCancel(cancel) => assert_eq!(cancel.consumer_tag, "f"),
        other => panic!("{other:?}"),
    }
}

/// Waits until publishes of this node are on their way to another.
fn wait_until_sent(pair: &Pair, from: usize) {
    let peers = pair.nodes[from].forward.peers();
    wait(|| peers.iter().any(|peer| peer.unconfirmed() > 0), || "a publish is sent".to_owned());
}

#[test]
fn when_a_connection_between_nodes_breaks_nothing_stays_open() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut client = pair.client(1);
    client.consume("q", "c", false);
    let mut publisher = pair.client(1);
    publisher.select_confirms();
    publisher.publish("q", &[b"1", b"2"]);
    publisher.confirms(2);
    assert_eq!(client.delivery(), (1, false, b"1".to_vec()));
    assert_eq!(client.delivery(), (2, false, b"2".to_vec()));
    // What is published now gets nowhere.
    pair.swallow(1);
    publisher.publish("q", &[b"3"]);
    wait_until_sent(&pair, 1);
    client.ack(1, false);
    pair.cut(1);
    pair.wait_counts(0, "q", (2, 0, 0));
    assert!(publisher.is_silent(), "nobody knows yet");
    pair.connect(1);
    assert_eq!(publisher.confirms(3), NONE, "it was sent again");
    // The consumer is attached again and gets again what it had not settled.
    assert_eq!(client.delivery(), (3, true, b"1".to_vec()));
    assert_eq!(client.delivery(), (4, true, b"2".to_vec()));
    assert_eq!(client.delivery(), (5, true, b"3".to_vec()), "the leader may have had it");
    // Late acknowledgements of the life before mean nothing.
    client.ack(2, true);
    assert!(client.is_silent());
    assert_eq!(pair.counts(0, "q"), (0, 3, 1));
    client.ack(5, true);
    pair.wait_counts(0, "q", (0, 0, 1));
    // The other direction: answers are lost.
    pair.swallow(0);
    publisher.publish("q", &[b"4"]);
    pair.wait_counts(0, "q", (0, 1, 1));
    pair.cut(0);
    pair.connect(0);
    assert_eq!(publisher.confirms(4), NONE, "the queue knows that it has it");
    assert_eq!(client.delivery(), (6, true, b"4".to_vec()));
    publisher.publish("q", &[b"5"]);
    assert_eq!(publisher.confirms(5), NONE);
    assert_eq!(client.delivery(), (7, false, b"5".to_vec()));
    assert_eq!(pair.counts(0, "q"), (0, 2, 1), "nothing is there twice");
}

#[test]
fn a_session_that_did_not_begin_because_too_much_waited_begins_when_there_is_room() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut publisher = pair.client(1);
    publisher.select_confirms();
    publisher.publish("q", &[b"1"]);
    assert_eq!(publisher.confirms(1), NONE);
    pair.fill(1, true);
    publisher.publish("q", &[b"2"]);
    assert!(publisher.is_silent());
    pair.fill(1, false);
    assert_eq!(publisher.confirms(2), NONE);
    assert_eq!(pair.counts(0, "q"), (2, 0, 0));
}

#[test]
fn what_a_channels_limit_kept_back_is_in_the_queue_again_when_the_channel_goes() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut client = pair.client(1);
    client.send(&basic::Qos { prefetch_size: 0, prefetch_count: 2, global: true });
    assert!(matches!(client.event().method(), Method::BasicQosOk(_)));
    client.consume("q", "one", false);
    client.consume("q", "other", false);
    pair.client(0).publish("q", &[b"1", b"2", b"3", b"4"]);
    assert_eq!([client.delivery().0, client.delivery().0], [1, 2]);
    pair.wait_counts(0, "q", (0, 4, 2));
    drop(client);
    pair.wait_counts(0, "q", (4, 0, 0));
}

#[test]
fn publishes_and_consumers_wait_for_a_new_leader() {
    let pair = Pair::new(&[plain("q", 0), plain("other", 0)]);
    let mut publisher = pair.client(1);
    publisher.select_confirms();
    publisher.publish("q", &[b"1"]);
    assert_eq!(publisher.confirms(1), NONE);
    // The leader is lost, and nobody knows yet.
    pair.swallow(1);
    publisher.publish("q", &[b"2"]);
    wait_until_sent(&pair, 1);
    pair.cut(1);
    pair.cut(0);
    publisher.publish("q", &[b"3", b"4"]);
    let mut consumer = pair.client(1);
    consumer.send(&basic::Consume { queue: "q", consumer_tag: "c", ..basic::Consume::default() });
    assert!(publisher.is_silent());
    pair.move_queue("q", 1, 2);
    publisher.publish("q", &[b"5"]);
    assert_eq!(publisher.confirms(5), NONE);
    assert!(matches!(consumer.event().method(), Method::BasicConsumeOk(_)));
    // The leader that was lost may have handed out what was sent to it.
    for (tag, redelivered, body) in [(1, true, b"2"), (2, false, b"3"), (3, false, b"4"), (4, false, b"5")] {
        assert_eq!(consumer.delivery(), (tag, redelivered, body.to_vec()));
    }
    // What nobody will lead is refused as soon as that is known.
    publisher.publish("other", &[b"6"]);
    assert!(publisher.is_silent());
    pair.lead("other", None);
    assert_eq!(publisher.confirms(6), [6]);
}

#[test]
fn publishers_wait_while_much_waits_for_a_leader_and_hear_when_nobody_comes() {
    let pair = Pair::new(&[plain("q", 0), plain("other", 0)]);
    let mut publisher = pair.client(1);
    publisher.select_confirms();
    publisher.publish("q", &[b"0"]);
    assert_eq!(publisher.confirms(1), NONE);
    pair.cut(1);
    let body = vec![0; 1 << 20];
    publisher.publish("q", &[body.as_slice(); 15]);
    let detours = &pair.nodes[1].forward.detours;
    wait(|| !detours.is_empty(), || "publishes wait".to_owned());
    assert!(publisher.is_silent() && !detours.is_full(), "there is room for more");
    publisher.publish("q", &[&body]);
    wait(|| detours.is_full(), || "that was all the room".to_owned());
    publisher.publish("q", &[b"17"]);
    pair.connect(1);
    assert_eq!(publisher.confirms(18), NONE, "what was held goes on, and then what was not read");
    assert!(detours.is_empty() && !detours.is_full());
    assert_eq!(pair.counts(0, "q"), (18, 0, 0));

    pair.cut(1);
    publisher.publish("q", &[b"18"]);
    wait(|| !detours.is_empty(), || "it waits".to_owned());
    let node = &pair.nodes[1];
    node.send_detours(node.monotonic_ms() + 9_000);
    assert!(publisher.is_silent());
    node.send_detours(node.monotonic_ms() + 11_000);
    assert_eq!(publisher.confirms(19), [19], "nobody has come");
}

#[test]
fn a_queue_waits_for_consumers_that_only_their_connection_between_nodes_took_away() {
    let pair = Pair::new(&[plain("auto", 0)]);
    let mut client = pair.client(1);
    client.consume("auto", "c", true);
    pair.cut(1);
    pair.wait_counts(0, "auto", (0, 0, 0));
    let node = &pair.nodes[0];
    let id = pair.queue_id(0, "auto");
    let goes = || node.with_queue(id, crate::shard::LocalQueue::is_closing).unwrap_or(true);
    node.run_timers(node.now_ms() + 5_000);
    assert!(!goes());
    pair.connect(1);
    pair.wait_counts(0, "auto", (0, 0, 1));
    pair.cut(1);
    pair.wait_counts(0, "auto", (0, 0, 0));
    node.run_timers(node.now_ms() + 11_000);
    wait(goes, || "nobody has come back".to_owned());
}

#[test]
fn a_publish_that_was_sent_in_an_old_epoch_finds_its_way() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"1"]);
    assert_eq!(client.confirms(1), NONE);
    pair.lead_known_to("q", Some((0, 2)), 0);
    client.publish("q", &[b"2", b"3"]);
    assert_eq!(client.confirms(3), NONE);
    assert_eq!(pair.counts(0, "q"), (3, 0, 0));
    pair.change_metadata();
    client.publish("q", &[b"4"]);
    assert_eq!(client.confirms(4), NONE);
    client.send(&basic::Get { queue: "q", no_ack: true });
    assert_eq!(client.event().delivery().2, b"1");
    for body in [b"2", b"3", b"4"] {
        client.send(&basic::Get { queue: "q", no_ack: true });
        assert_eq!(client.event().delivery().2, body);
    }
}

#[test]
fn a_consumer_hears_of_a_new_leader_if_it_wants_to() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut arguments = FieldTable::new();
    arguments.push("x-cancel-on-ha-failover", true);
    let (mut far, mut near) = (pair.client(1), pair.client(0));
    far.consume_with("q", "f", &arguments);
    near.consume_with("q", "n", &arguments);
    let id = pair.queue_id(0, "q");
    let known = pair.nodes[0].with_queue(id, |queue| {
        let has = |consumer: &Consumer<ConsumerHandle>| {
            let arguments = consumer.handle.arguments.as_ref();
            arguments.is_some_and(|arguments| arguments.get("x-cancel-on-ha-failover").is_some())
        };
        queue.consumers().iter().filter(|consumer| has(consumer)).count()
    });
    assert_eq!(known, Some(2), "their arguments travel with them");
    pair.move_queue("q", 1, 2);
    for (client, tag) in [(&mut far, "f"), (&mut near, "n")] {
        match client.event().method() {
            Method::BasicCancel(cancel) => assert_eq!(cancel.consumer_tag, tag),
            other => panic!("{other:?}"),
        }
    }
    pair.wait_counts(1, "q", (0, 0, 0));
}

#[test]
fn consumers_follow_their_queue_to_its_new_leader() {
    let pair = Pair::new(&[plain("q", 0)]);
    let (mut near, mut far) = (pair.client(0), pair.client(1));
    near.consume("q", "n", true);
    far.consume("q", "f", true);
    pair.move_queue("q", 1, 2);
    pair.wait_counts(1, "q", (0, 0, 2));
    let mut publisher = pair.client(0);
    publisher.select_confirms();
    publisher.publish("q", &[b"1", b"2"]);
    assert_eq!(publisher.confirms(2), NONE);
    let mut bodies = [near.delivery().2, far.delivery().2];
    bodies.sort();
    assert_eq!(bodies, [b"1", b"2"]);
}

#[test]
fn a_queue_without_a_leader_is_reported_as_rabbitmq_does() {
    let pair = Pair::new(&[plain("q", 0)]);
    pair.lead("q", None);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"1"]);
    assert_eq!(client.confirms(1), [1]);
    client.send(&basic::Consume { queue: "q", ..basic::Consume::default() });
    match client.event().method() {
        Method::ChannelClose(close) => assert_eq!(
            close.reply_text,
            "NOT_FOUND - home node 'rabbit@1' of durable queue 'q' in vhost '/' is down or inaccessible"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_reaches_queues_of_both_nodes_whole() {
    let pair = Pair::new(&[plain("here", 1), plain("there", 0)]);
    let mut client = pair.client(1);
    client.send(&tx::Select);
    client.event();
    client.publish("here", &[b"1"]);
    client.publish("there", &[b"2", b"3"]);
    assert_eq!(client.passive("there"), (0, 0));
    client.send(&tx::Commit);
    assert!(matches!(client.event().method(), Method::TxCommitOk(_)));
    assert_eq!((pair.counts(1, "here").0, pair.counts(0, "there").0), (1, 2));
    client.send(&basic::Get { queue: "there", no_ack: false });
    client.event();
    client.ack(1, false);
    client.send(&tx::Commit);
    assert!(matches!(client.event().method(), Method::TxCommitOk(_)));
    assert_eq!(pair.counts(0, "there"), (1, 0, 0));
}

#[test]
fn a_refusal_by_a_queue_far_away_is_the_publishers_to_hear() {
    let mut arguments = FieldTable::new();
    arguments.push("x-max-length", 1);
    arguments.push("x-overflow", "reject-publish");
    let pair = Pair::new(&[("q", arguments, 0)]);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"1", b"2", b"3"]);
    assert_eq!(client.confirms(3), [2, 3]);
}

#[test]
fn dead_letters_reach_queues_of_other_nodes_and_leave_only_then() {
    let mut arguments = FieldTable::new();
    arguments.push("x-dead-letter-exchange", "");
    arguments.push("x-dead-letter-routing-key", "graves");
    let pair = Pair::new(&[("q", arguments, 0), plain("graves", 1)]);
    let mut client = pair.client(0);
    client.select_confirms();
    client.publish("q", &[b"dead"]);
    client.confirms(1);
    client.send(&basic::Get { queue: "q", no_ack: false });
    client.event();
    pair.cut(0);
    client.send(&basic::Reject { delivery_tag: 1, requeue: false });
    let in_flight = || pair.nodes[0].letters_in_flight.load(std::sync::atomic::Ordering::Acquire);
    wait(|| in_flight() == 1, || "the letter waits for the connection".to_owned());
    assert_eq!(pair.counts(1, "graves").0, 0);
    pair.connect(0);
    pair.wait_counts(1, "graves", (1, 0, 0));
    wait(|| in_flight() == 0, || "the letter has arrived".to_owned());
    // Nobody leads the target for a while.
    client.publish("q", &[b"late"]);
    client.confirms(2);
    client.send(&basic::Get { queue: "q", no_ack: false });
    client.event();
    pair.lead("graves", None);
    client.send(&basic::Reject { delivery_tag: 2, requeue: false });
    wait(|| in_flight() == 1, || "the letter waits for a leader".to_owned());
    pair.lead("graves", Some((1, 1)));
    pair.wait_counts(1, "graves", (2, 0, 0));
    wait(|| in_flight() == 0, || "the letter has arrived".to_owned());
}

#[test]
fn direct_replies_find_their_requester_on_another_node() {
    let pair = Pair::new(&[plain("requests", 0)]);
    let mut requester = pair.client(1);
    requester.consume("amq.rabbitmq.reply-to", "r", true);
    let request =
        BasicProperties { reply_to: Some(b"amq.rabbitmq.reply-to".to_vec()), ..BasicProperties::default() };
    let mut properties = Vec::new();
    request.encode(&mut properties);
    requester.publish_to("", "requests", &[b"question"], &properties);
    let mut responder = pair.client(0);
    responder.consume("requests", "q", true);
    let (address, body) = responder.delivery_with_reply_to();
    assert_eq!(body, b"question");
    responder.send(&queue::Declare { queue: &address, passive: true, ..queue::Declare::default() });
    assert!(matches!(responder.event().method(), Method::QueueDeclareOk(_)), "the requester is there");
    responder.publish_to("", &address, &[b"answer"], &[0, 0]);
    assert_eq!(requester.delivery().2, b"answer");
}

#[test]
fn alarms_of_the_leader_hold_up_who_publishes_to_it() {
    let pair = Pair::new(&[plain("q", 0), plain("own", 1)]);
    let mut client = pair.client(1);
    client.select_confirms();
    client.publish("q", &[b"1"]);
    client.confirms(1);
    let mut other = pair.client(1);
    other.select_confirms();
    other.publish("own", &[b"1"]);
    other.confirms(1);
    pair.nodes[0].alarms.set(Resource::Segments, true);
    match client.event().method() {
        Method::ConnectionBlocked(blocked) => assert_eq!(blocked.reason, "low on disk"),
        event => panic!("{event:?}"),
    }
    other.publish("own", &[b"2"]);
    assert_eq!(other.confirms(2), NONE, "who publishes elsewhere goes on");
    pair.nodes[0].alarms.set(Resource::Segments, false);
    loop {
        match client.event().method() {
            Method::ConnectionUnblocked(_) => break,
            Method::ConnectionBlocked(_) => {}
            event => panic!("{event:?}"),
        }
    }
    client.publish("q", &[b"2"]);
    client.confirms(2);
}

#[test]
fn much_and_large_goes_through_in_order() {
    let pair = Pair::new(&[plain("q", 0)]);
    let mut consumer = pair.client(1);
    consumer.consume("q", "c", true);
    let mut publisher = pair.client(1);
    publisher.select_confirms();
    let large = vec![7u8; 6 << 20];
    let bodies: Vec<Vec<u8>> = (0..5000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let reader = std::thread::spawn(move || {
        for number in 0..5000u32 {
            assert_eq!(consumer.delivery().2, number.to_be_bytes());
        }
        let (tag, _, body) = consumer.delivery();
        (tag, body.len())
    });
    for chunk in bodies.chunks(500) {
        let bodies: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        publisher.publish("q", &bodies);
    }
    publisher.publish("q", &[&large]);
    assert_eq!(publisher.confirms(5001), NONE);
    assert_eq!(reader.join().unwrap(), (5001, 6 << 20));
}
