//! Mirrored queues of three nodes in one process.

mod trio;

use super::hand_over::Giving;
use crate::cluster::HandOver;
use crate::cluster::link::Lane;
use crate::forward::tests::pair::Client;
use crate::shard::LocalQueue;
use amqp::Method;
use amqp::method::{basic, queue, tx};
use amqp::table::FieldTable;
use broker_core::ids::QueueId;
use broker_core::meta::MetaCommand;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use trio::Trio;

const NONE: [u64; 0] = [];

fn bodies(numbers: std::ops::Range<u32>, octets: usize) -> Vec<Vec<u8>> {
    numbers.map(|number| format!("{number:0octets$}").into_bytes()).collect()
}

fn refs(bodies: &[Vec<u8>]) -> Vec<&[u8]> {
    bodies.iter().map(Vec::as_slice).collect()
}

/// Everything in a queue, in the order in which a consumer gets it.
fn drain(trio: &Trio, index: usize, name: &str, messages: usize) -> Vec<u32> {
    let mut client = trio.client(index);
    client.consume(name, "c", false);
    let mut numbers = Vec::new();
    for _ in 0..messages {
        let (tag, _, body) = client.delivery();
        numbers.push(String::from_utf8(body).unwrap().parse().unwrap());
        client.ack(tag, false);
    }
    assert!(client.is_silent(), "there are no more");
    numbers
}

fn ready(trio: &Trio, index: usize, queue: QueueId) -> usize {
    trio.held(index, queue, |queue| queue.ready_count() as usize).unwrap()
}

/// Waits until two nodes have the same messages.
fn wait_equal(trio: &Trio, one: usize, other: usize, queue: QueueId) {
    trio.wait("both have the same", |trio| {
        let live = |index| trio.held(index, queue, LocalQueue::live);
        live(one).is_some() && live(one) == live(other)
    });
}

#[test]
fn what_was_confirmed_survives_its_leader_in_order() {
    let mut trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    for batch in 0..10 {
        client.publish("q", &refs(&bodies(batch * 50..batch * 50 + 50, 100)));
    }
    assert_eq!(client.confirms(500), NONE);
    for index in 1..3 {
        assert_eq!(ready(&trio, index, queue), 500, "what is confirmed is everywhere");
        assert!(trio.held(index, queue, LocalQueue::is_copy).unwrap());
    }
    // A transient message is safe too, and one that was taken away does not come back.
    client.publish_to("", "q", &[&bodies(500..501, 100)[0]], &[0, 0]);
    assert_eq!(client.confirms(501), NONE);
    let mut taker = trio.client(1);
    taker.send(&basic::Get { queue: "q", no_ack: false });
    let (tag, _, body) = taker.delivery();
    assert_eq!(body, bodies(0..1, 100)[0]);
    taker.ack(tag, false);
    trio.wait("the copies hear of it", |trio| (0..3).all(|index| ready(trio, index, queue) == 500));
    // Nobody knows what becomes of these.
    client.publish("q", &refs(&bodies(501..700, 100)));
    trio.kill(0);
    let leader = trio.leader_but(0, queue);
    let messages = ready(&trio, leader, queue);
    assert!(messages >= 500, "{messages}");
    let expected: Vec<u32> = (1..=messages as u32).collect();
    assert_eq!(drain(&trio, leader, "q", messages), expected);
    // And when it returns it is a copy, of what there is now.
    let mut client = trio.client(leader);
    client.select_confirms();
    client.publish("q", &refs(&bodies(1000..1010, 100)));
    assert_eq!(client.confirms(10), NONE);
    trio.start(0);
    trio.wait_in_sync(leader, queue, 3);
    wait_equal(&trio, 0, leader, queue);
    assert!(trio.held(0, queue, LocalQueue::is_copy).unwrap());
    assert_eq!(drain(&trio, 0, "q", 10), (1000..1010).collect::<Vec<u32>>());
}

#[test]
fn a_mirror_that_was_away_gets_what_it_lacks_and_no_more() {
    let mut trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    client.publish("q", &refs(&bodies(0..2000, 1024)));
    assert_eq!(client.confirms(2000), NONE);
    trio.kill(2);
    client.publish("q", &refs(&bodies(2000..2100, 1024)));
    // Confirmed as soon as the mirror that is gone does not count any more.
    assert_eq!(client.confirms(2100), NONE);
    for _ in 0..20 {
        client.send(&basic::Get { queue: "q", no_ack: true });
        client.delivery();
    }
    let before = trio.node(0).replicate.filled.load(Ordering::Relaxed);
    trio.start(2);
    trio.wait_in_sync(0, queue, 3);
    wait_equal(&trio, 0, 2, queue);
    let filled = trio.node(0).replicate.filled.load(Ordering::Relaxed) - before;
    assert!((100 * 1024..120 * 1024).contains(&filled), "{filled} octets for 100 KiB");
    // It leads as well as any other.
    let (cfg_ver, to) = (trio.placement(0, queue).cfg_ver, trio.id(2));
    trio.propose(0, MetaCommand::Transfer { queue, cfg_ver, to });
    assert_eq!(trio.leader_but(0, queue), 2);
    // Of two that are killed one returns, and finds the third.
    trio.kill(0);
    trio.kill(1);
    trio.start(1);
    let leader = trio.leader_but(0, queue);
    assert_eq!(drain(&trio, leader, "q", 2080), (20..2100).collect::<Vec<u32>>());
}

#[test]
fn manual_mirrors_are_filled_when_an_operator_says_so() {
    let trio = Trio::new();
    let mut client = trio.client(0);
    client.declare("q", &FieldTable::new());
    client.select_confirms();
    client.publish("q", &refs(&bodies(0..300, 10)));
    assert_eq!(client.confirms(300), NONE);
    trio.policy(0, r#"{"ha-mode":"all"}"#);
    let queue = trio.queue_id(0, "q");
    let others = [trio.id(1), trio.id(2)];
    trio.wait("the mirrors are there and lack everything", |trio| {
        trio.node(0).mirrors(queue) == others.map(|node| (node, Some(300)))
    });
    client.publish("q", &refs(&bodies(300..310, 10)));
    assert_eq!(client.confirms(310), NONE);
    trio.wait("they take what is new", |trio| (1..3).all(|index| ready(trio, index, queue) == 10));
    assert_eq!(trio.placement(0, queue).isr, [trio.id(0)]);
    assert!(trio.node(1).sync_queue(queue, true).is_err(), "it is led elsewhere");
    trio.node(0).sync_queue(queue, true).unwrap();
    trio.wait_in_sync(0, queue, 3);
    for index in 1..3 {
        wait_equal(&trio, 0, index, queue);
    }
    // Mirrors that the policy does not want any more forget it.
    trio.policy(0, r#"{"ha-mode":"exactly","ha-params":1}"#);
    trio.wait("they are gone", |trio| (1..3).all(|index| trio.held(index, queue, |_| ()).is_none()));
    trio.policy(0, r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#);
    trio.wait_in_sync(0, queue, 3);
    wait_equal(&trio, 0, 2, queue);
    assert_eq!(drain(&trio, 0, "q", 310), (0..310).collect::<Vec<u32>>());
}

#[test]
fn a_queue_that_is_deleted_while_a_mirror_is_away_is_gone_there_too() {
    let mut trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    client.publish("q", &refs(&bodies(0..100, 10)));
    assert_eq!(client.confirms(100), NONE);
    trio.kill(2);
    client.send(&queue::Delete { queue: "q", ..queue::Delete::default() });
    assert!(matches!(client.event().method(), Method::QueueDeleteOk(ok) if ok.message_count == 100));
    assert!(trio.held(1, queue, |_| ()).is_none());
    trio.start(2);
    assert!(trio.held(2, queue, |_| ()).is_none());
    let again = trio.mirrored("q");
    assert_ne!(again, queue);
    assert_eq!(ready(&trio, 2, again), 0);
    assert!(trio.node(0).mirrors(queue).is_empty());
}

#[test]
fn a_mirror_that_nothing_reaches_is_given_up_and_comes_back() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    trio.freeze(2, true);
    client.publish("q", &refs(&bodies(0..100, 10)));
    assert_eq!(client.confirms(100), NONE);
    trio.wait("the mirror does not count", |trio| !trio.placement(0, queue).isr.contains(&trio.id(2)));
    assert_eq!(ready(&trio, 1, queue), 100);
    trio.freeze(2, false);
    trio.wait_in_sync(0, queue, 3);
    wait_equal(&trio, 0, 2, queue);
}

#[test]
fn a_leader_whose_mirrors_know_a_newer_one_confirms_nothing() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let placement = trio.placement(0, queue);
    for index in 1..3 {
        trio.node(index).raise_fence(queue, placement.epoch + 1);
    }
    let mut client = trio.client(0);
    client.select_confirms();
    client.publish("q", &refs(&bodies(0..10, 10)));
    trio.wait("both refuse", |trio| trio.node(0).mirrors(queue).iter().all(|(_, lacks)| lacks.is_none()));
    assert!(client.is_silent(), "nothing is confirmed");
    let (cfg_ver, to) = (trio.placement(0, queue).cfg_ver, trio.id(1));
    trio.propose(0, MetaCommand::Transfer { queue, cfg_ver, to });
    assert_eq!(client.confirms(10).len(), 10, "nobody knows whether they are safe");
    assert_eq!(trio.leader_but(0, queue), 1);
    trio.wait_in_sync(1, queue, 3);
    wait_equal(&trio, 0, 1, queue);
    client.publish("q", &refs(&bodies(10..20, 10)));
    assert_eq!(client.confirms(20), NONE);
}

#[test]
fn with_too_few_mirrors_publishes_are_refused() {
    let mut trio = Trio::new();
    let mut arguments = FieldTable::new();
    arguments.push("x-queue-type", "quorum");
    let mut client = trio.client(0);
    client.declare("q", &arguments);
    let queue = trio.queue_id(0, "q");
    trio.wait_in_sync(0, queue, 3);
    client.select_confirms();
    client.publish("q", &[b"one"]);
    assert_eq!(client.confirms(1), NONE);
    trio.policy(0, r#"{"ha-mode":"all","ha-min-in-sync":3,"ha-sync-mode":"automatic"}"#);
    client.declare("q2", &FieldTable::new());
    let other = trio.queue_id(0, "q2");
    trio.wait_in_sync(0, other, 3);
    client.publish("q2", &[b"one"]);
    assert_eq!(client.confirms(2), NONE);
    trio.kill(2);
    trio.wait_in_sync(0, other, 2);
    trio.wait_in_sync(0, queue, 2);
    client.publish("q", &[b"two"]);
    assert_eq!(client.confirms(3), NONE, "a majority is there");
    client.publish("q2", &[b"two"]);
    assert_eq!(client.confirms(4), [4]);
    trio.start(2);
    trio.wait_in_sync(0, other, 3);
    client.publish("q2", &[b"three"]);
    assert_eq!(client.confirms(5), NONE);
}

#[test]
fn a_queue_that_is_handed_over_refuses_nothing() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut clients = [trio.client(0), trio.client(1)];
    for client in &mut clients {
        client.select_confirms();
        client.publish("q", &refs(&bodies(0..100, 100)));
    }
    let giving = Giving::of(trio.node(0));
    trio.block_on(giving.hold_back(vec![queue]));
    // Nobody leads it now: what comes waits.
    clients.iter_mut().for_each(|client| client.publish("q", &refs(&bodies(100..200, 100))));
    let (cfg_ver, to) = (trio.placement(0, queue).cfg_ver, trio.id(1));
    trio.propose(0, MetaCommand::Transfer { queue, cfg_ver, to });
    giving.go_on(&[queue]);
    for client in &mut clients {
        assert_eq!(client.confirms(200), NONE);
    }
    assert_eq!(trio.leader_but(0, queue), 1);
    assert_eq!(ready(&trio, 1, queue), 400);
    assert!(trio.held(0, queue, LocalQueue::is_copy).unwrap());
    // The next time nobody takes it: it is led here as before, with all who consume.
    trio.wait_in_sync(1, queue, 3);
    let mut consumer = trio.client(1);
    consumer.consume("q", "c", true);
    for _ in 0..400 {
        consumer.delivery();
    }
    let giving = Giving::of(trio.node(1));
    trio.block_on(giving.hold_back(vec![queue]));
    clients.iter_mut().for_each(|client| client.publish("q", &refs(&bodies(200..210, 100))));
    giving.go_on(&[queue]);
    for client in &mut clients {
        assert_eq!(client.confirms(210), NONE);
    }
    for _ in 0..20 {
        consumer.delivery();
    }
    assert!(consumer.is_silent());
    wait_equal(&trio, 0, 1, queue);
}

#[test]
fn copies_that_are_not_attached_yet_get_what_a_queue_has_that_is_held_back() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let node = trio.node(0);
    let mut client = trio.client(0);
    client.select_confirms();
    // What the mirrors say about the new streams comes when the queue is held back already.
    trio.freeze(0, true);
    (1..3).for_each(|mirror| node.copies_up(trio.id(mirror)));
    client.publish("q", &refs(&bodies(0..100, 100)));
    trio.wait("it is there", |trio| ready(trio, 0, queue) == 100);
    let holding = trio.spawn(Giving::of(node).hold_back(vec![queue]));
    trio.wait("it is held back", |_| node.lock_shard(node.shard_of(queue)).copies(queue));
    trio.freeze(0, false);
    trio.block_on(holding).unwrap();
    assert_eq!(node.unsafe_copies(queue), None);
    assert_eq!(client.confirms(100), NONE);
    wait_equal(&trio, 0, 1, queue);
}

#[test]
fn a_queue_that_is_held_back_steps_down_when_its_next_leader_comes_before_the_decision() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let node = trio.node(0);
    let mut consumer = trio.client(0);
    consumer.consume("q", "c", true);
    trio.block_on(Giving::of(node).hold_back(vec![queue]));
    let consumers = node.step_down(&mut node.lock_shard(node.shard_of(queue)), queue);
    assert_eq!(consumers.len(), 1, "they go where it goes");
    assert_eq!(node.mirrors(queue), [], "it has none any more that it leads");
}

/// A client that takes messages of a queue, at most so many at a time, and has got as many.
fn taker(trio: &Trio, index: usize, prefetch_count: u16) -> Client {
    let mut client = trio.client(index);
    client.send(&basic::Qos { prefetch_size: 0, prefetch_count, global: false });
    assert!(matches!(client.event().method(), Method::BasicQosOk(_)));
    client.consume("q", "c", false);
    for _ in 0..prefetch_count {
        client.delivery();
    }
    client
}

/// Ready, not settled, and how many consume.
fn counts(trio: &Trio, index: usize, queue: QueueId) -> (u64, u64, usize) {
    let counts = |queue: &LocalQueue| (queue.ready_count(), queue.unacked_count(), queue.consumers().len());
    trio.held(index, queue, counts).unwrap()
}

#[test]
fn what_clients_say_while_a_queue_is_held_back_counts_when_it_stays() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut publisher = trio.client(0);
    publisher.select_confirms();
    publisher.publish("q", &refs(&bodies(0..40, 10)));
    assert_eq!(publisher.confirms(40), NONE);
    let mut takers = [taker(&trio, 0, 10), taker(&trio, 1, 10)];
    let mut leaving = [taker(&trio, 0, 1), taker(&trio, 1, 1)];
    let closing = taker(&trio, 0, 1);
    let giving = Giving::of(trio.node(0));
    trio.block_on(giving.hold_back(vec![queue]));
    for taker in &mut takers {
        taker.ack(9, true);
        taker.send(&basic::Reject { delivery_tag: 10, requeue: true });
    }
    for client in &mut leaving {
        client.ack(1, false);
        client.send(&basic::Cancel { consumer_tag: "c", nowait: false });
        assert!(matches!(client.event().method(), Method::BasicCancelOk(_)));
    }
    drop(closing);
    trio.wait("the leader has heard of it", |trio| counts(trio, 0, queue) == (20, 0, 2));
    assert!(takers.iter_mut().all(Client::is_silent), "nobody gets anything");
    giving.go_on(&[queue]);
    let mut got = std::collections::BTreeSet::new();
    for taker in &mut takers {
        for _ in 0..10 {
            let (_, redelivered, body) = taker.delivery();
            let number: u32 = String::from_utf8(body).unwrap().parse().unwrap();
            assert_eq!(redelivered, number < 23, "{number}");
            got.insert(number);
        }
        taker.ack(20, true);
    }
    // The last that each of them had was put back, and one was of a client that is gone.
    assert_eq!((got.len(), got.range(..23).count()), (20, 3));
    trio.wait("all are settled", |trio| counts(trio, 0, queue) == (0, 0, 2));
    wait_equal(&trio, 0, 1, queue);
}

#[test]
fn what_is_acknowledged_while_a_queue_is_held_back_does_not_come_again_unmarked() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    client.publish("q", &refs(&bodies(0..20, 10)));
    assert_eq!(client.confirms(20), NONE);
    let mut taker = taker(&trio, 0, 20);
    let giving = Giving::of(trio.node(0));
    trio.block_on(giving.hold_back(vec![queue]));
    taker.ack(9, true);
    trio.wait("it is noted", |trio| counts(trio, 0, queue) == (0, 11, 1));
    let (cfg_ver, to) = (trio.placement(0, queue).cfg_ver, trio.id(1));
    trio.propose(0, MetaCommand::Transfer { queue, cfg_ver, to });
    giving.go_on(&[queue]);
    assert_eq!(trio.leader_but(0, queue), 1);
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.last() != Some(&19) {
        let (_, redelivered, body) = taker.delivery();
        assert!(redelivered);
        numbers.push(String::from_utf8(body).unwrap().parse().unwrap());
    }
    assert!(numbers.ends_with(&(9..20).collect::<Vec<u32>>()), "{numbers:?}");
    assert!(taker.is_silent());
}

#[test]
fn a_transaction_with_a_queue_that_is_held_back_does_nothing() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    for index in 0..2 {
        let mut publisher = trio.client(0);
        publisher.select_confirms();
        publisher.publish("q", &[b"before"]);
        assert_eq!(publisher.confirms(1), NONE);
        let mut client = taker(&trio, index, 1);
        client.send(&tx::Select);
        assert!(matches!(client.event().method(), Method::TxSelectOk(_)));
        let giving = Giving::of(trio.node(0));
        trio.block_on(giving.hold_back(vec![queue]));
        client.publish("q", &[b"after"]);
        client.ack(1, false);
        client.send(&tx::Commit);
        assert!(matches!(client.event().method(), Method::ChannelClose(close) if close.reply_code == 406));
        trio.wait("it is back", |trio| counts(trio, 0, queue) == (1, 0, 0));
        giving.go_on(&[queue]);
        let mut next = taker(&trio, 0, 0);
        let (tag, redelivered, body) = next.delivery();
        assert_eq!((redelivered, &body[..]), (true, &b"before"[..]));
        next.ack(tag, false);
        assert!(next.is_silent());
    }
}

#[test]
fn a_policy_does_not_let_a_queue_go_on_that_is_held_back() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    let giving = Giving::of(trio.node(0));
    trio.block_on(giving.hold_back(vec![queue]));
    trio.policy(0, r#"{"ha-mode":"all","ha-sync-mode":"automatic","max-length":1000}"#);
    client.publish("q", &refs(&bodies(0..10, 10)));
    assert!(client.is_silent());
    assert_eq!(counts(&trio, 0, queue), (0, 0, 0), "it is not led here");
    let (cfg_ver, to) = (trio.placement(0, queue).cfg_ver, trio.id(1));
    trio.propose(0, MetaCommand::Transfer { queue, cfg_ver, to });
    giving.go_on(&[queue]);
    assert_eq!(client.confirms(10), NONE);
    assert_eq!(trio.leader_but(0, queue), 1);
    assert_eq!(counts(&trio, 1, queue), (10, 0, 0));
    assert_eq!(trio.held(1, queue, |queue| queue.config().max_length), Some(Some(1000)));
}

#[test]
fn messages_that_can_not_be_read_for_a_mirror_disturb_no_other_queue() {
    const UNDISTURBED: Duration = Duration::from_secs(2);
    let trio = Trio::new();
    let mut client = trio.client(0);
    client.declare("q-spoilt", &FieldTable::new());
    client.select_confirms();
    let body = vec![b'x'; 1 << 20];
    (0..48).for_each(|_| client.publish("q-spoilt", &[&body]));
    assert_eq!(client.confirms(48), NONE);
    let spoilt = trio.queue_id(0, "q-spoilt");
    let in_segments = |queue: &LocalQueue| queue.stored_only().messages > 0;
    trio.wait("some lie in segments", |trio| trio.held(0, spoilt, in_segments).unwrap());
    trio.spoil_segments(0);
    let queue = trio.mirrored("q");
    let before = trio.placement(0, queue).cfg_ver;
    let (since, mut published) = (Instant::now(), 48);
    while since.elapsed() < UNDISTURBED {
        client.publish("q", &[b"x"]);
        published += 1;
        assert_eq!(client.confirms(published), NONE);
    }
    assert_eq!(trio.placement(0, queue).cfg_ver, before, "its mirrors come and go");
    assert_eq!(trio.node(0).mirrors(spoilt), [(trio.id(1), None), (trio.id(2), None)]);
    assert_eq!(trio.placement(0, spoilt).isr, [trio.id(0)]);
}

#[test]
fn many_queues_go_to_other_leaders_together() {
    const QUEUES: usize = 100;
    let mut trio = Trio::new();
    trio.policy(0, r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#);
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    let mut client = trio.client(0);
    names.iter().for_each(|name| client.declare(name, &FieldTable::new()));
    let queues: Vec<QueueId> = names.iter().map(|name| trio.queue_id(0, name)).collect();
    queues.iter().for_each(|queue| trio.wait_in_sync(0, *queue, 3));
    let mut publisher = trio.client(1);
    publisher.select_confirms();
    names.iter().for_each(|name| publisher.publish(name, &[b"before"]));
    assert_eq!(publisher.confirms(QUEUES as u64), NONE);
    trio.kill(0);
    names.iter().for_each(|name| publisher.publish(name, &[b"after"]));
    assert_eq!(publisher.confirms(2 * QUEUES as u64), NONE);
    let led = |index: usize| queues.iter().filter(|queue| trio.leader_but(0, **queue) == index).count();
    assert_eq!((led(1), led(2)), (QUEUES / 2, QUEUES / 2), "they share them");
    for queue in &queues {
        assert_eq!(ready(&trio, trio.leader_but(0, *queue), *queue), 2);
    }
}

#[test]
fn a_mirror_whose_disk_does_not_keep_up_falls_behind_and_catches_up() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let mut client = trio.client(0);
    client.select_confirms();
    let room = trio.node(2).replicate.room.swap(0, Ordering::Relaxed);
    client.publish("q", &refs(&bodies(0..100, 10)));
    assert_eq!(client.confirms(100), NONE);
    assert!(!trio.placement(0, queue).isr.contains(&trio.id(2)), "what is confirmed is not there");
    assert_eq!(ready(&trio, 2, queue), 0);
    trio.node(2).replicate.room.store(room, Ordering::Relaxed);
    trio.wait_in_sync(0, queue, 3);
    wait_equal(&trio, 0, 2, queue);
}

#[test]
fn what_waits_for_a_slow_mirror_is_bounded() {
    let trio = Trio::new();
    let queue = trio.mirrored("q");
    let (links, slow) = (trio.node(0).cluster.links().unwrap().clone(), trio.id(2));
    let mut client = trio.client(0);
    client.select_confirms();
    trio.freeze(2, true);
    let publishing = std::thread::spawn(move || {
        let body = vec![b'x'; 512 << 10];
        for _ in 0..128 {
            client.publish("q", &[&body]);
        }
        assert_eq!(client.confirms(128), NONE);
    });
    let mut most = 0;
    while !publishing.is_finished() {
        most = most.max(links.pending(slow, Lane::Data));
        std::thread::sleep(Duration::from_millis(1));
    }
    publishing.join().unwrap();
    assert!(most < 32 << 20, "{most} of 64 MiB waited for a mirror that takes nothing");
    trio.freeze(2, false);
    trio.wait_in_sync(0, queue, 3);
    wait_equal(&trio, 0, 2, queue);
}
