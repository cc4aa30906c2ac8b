//! Clients that do not read, and answers that come only when the work is done: promises of our broker that
//! RabbitMQ does not make.

use amqp::content::BasicProperties;
use amqp::method::{basic, channel, connection, queue};
use harness::node::Node;
use harness::scratch::Scratch;
use harness::shared::Shared;
use harness::wire::{Client, name};
use std::io::Write as _;
use std::time::Duration;

/// Whether our broker is the one that runs.
fn ours() -> bool {
    !harness::against_rabbitmq()
}

fn client() -> Client {
    Shared::node("broker-shared").client()
}

/// A publish that is returned, as octets.
fn returned(size: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: "nowhere", mandatory: true, ..Default::default() };
    amqp::frame::write_fields(&mut octets, 1, &publish);
    amqp::frame::write_content_header(&mut octets, 1, 60, size as u64, &[0, 0]);
    amqp::frame::write_body(&mut octets, 1, &vec![9; size], 131_072);
    octets
}

#[test]
fn exclusive_queues_are_gone_when_the_close_is_answered() {
    if !ours() {
        return;
    }
    let name = name("mine");
    let declare = queue::Declare { queue: &name, exclusive: true, ..Default::default() };
    for _ in 0..50 {
        let mut one = client();
        one.declare(1, &declare);
        let close = connection::Close { reply_code: 200, ..Default::default() };
        one.call(0, close, "connection.close-ok");
        // The first connection's socket is still open.
        let mut two = client();
        two.declare(1, &declare);
        two.call(0, close, "connection.close-ok");
    }
}

#[test]
fn exclusive_queues_are_gone_when_the_broker_closes_a_connection() {
    if !ours() {
        return;
    }
    let name = name("mine");
    let declare = queue::Declare { queue: &name, exclusive: true, ..Default::default() };
    for _ in 0..20 {
        let mut one = client();
        one.declare(1, &declare);
        one.send(1, channel::Open);
        assert_eq!(one.expect("connection.close").close().code, 504);
        let mut two = client();
        two.declare(1, &declare);
        two.call(0, connection::Close::default(), "connection.close-ok");
    }
}

#[test]
fn unacked_messages_are_back_when_the_close_is_answered() {
    if !ours() {
        return;
    }
    let (mut one, mut two) = (client(), client());
    let queue = two.declare(1, &queue::Declare { queue: &name("back"), ..Default::default() });
    for body in [b"1", b"2", b"3"] {
        one.publish(1, &queue, body);
    }
    one.consume(1, &queue, "c", false);
    one.deliveries(1, 3);
    one.close_channel(1);
    for body in ["1", "2", "3"] {
        let got = two.get_unacked(1, &queue);
        assert!(got.redelivered());
        assert_eq!(got.text(), body);
    }
}

#[test]
fn a_tag_used_again_survives_the_end_of_its_old_queue() {
    if !ours() {
        return;
    }
    let mut client = client();
    let (old, new) = (client.own_queue(), client.own_queue());
    client.consume(1, &old, "tag", true);
    // In one write: the notice that the old queue is gone comes after the tag has a new meaning.
    client.put(1, basic::Cancel { consumer_tag: "tag", nowait: true });
    client.put(1, queue::Delete { queue: &old, nowait: true, ..Default::default() });
    client.consume(1, &new, "tag", true);
    client.publish(1, &new, b"still here");
    assert_eq!(client.delivery(1).text(), "still here");
    client.delete_queue(1, &new);
    client.expect("basic.cancel");
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_hurts_nobody() {
    if !ours() {
        return;
    }
    let scratch = Scratch::new("held-back").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let mut greedy = Client::new(node.port);
    let queue = greedy.own_queue();
    greedy.publish(1, &queue, &[7; 8000]);
    greedy.confirm(1);
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = rss();
    // 40,000 returns of 8,000 octets, never read: 320 MB if the broker kept them all.
    greedy.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let one = returned(8000);
    let mut sent = 0;
    while sent < 40_000 && greedy.stream.write_all(&one).is_ok() {
        sent += 1;
    }
    assert!(sent < 40_000, "the broker took everything");
    // What the login took is given back meanwhile: it may be less than before.
    let more = rss().saturating_sub(before);
    assert!(more < 60_000, "{more} KiB more");
    let mut other = Client::new(node.port);
    let queue = other.own_queue();
    other.publish(1, &queue, b"x");
    assert!(other.get(1, &queue).is_some());
    drop(node);
    scratch.passed();
}

#[test]
fn a_client_that_was_held_back_gets_everything_once_it_reads() {
    const GETS: usize = 30_000;
    if !ours() {
        return;
    }
    let mut client = client();
    let mut writer = client.stream.try_clone().unwrap();
    let publish = returned(1000);
    // More than the sockets hold: the sender stands still until somebody reads.
    let sender = std::thread::spawn(move || {
        for _ in 0..GETS {
            writer.write_all(&publish).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..GETS {
        client.expect("basic.return");
    }
    sender.join().unwrap();
    client.close_channel(1);
}

#[test]
fn a_consumer_that_does_not_read_leaves_messages_for_others() {
    if !ours() {
        return;
    }
    let (mut lazy, mut other) = (client(), client());
    let queue = name("lazy");
    other.declare(1, &queue::Declare { queue: &queue, auto_delete: true, ..Default::default() });
    lazy.consume(1, &queue, "lazy", true);
    other.open(2);
    other.confirm(2);
    for _ in 0..3000 {
        let publish = basic::Publish { routing_key: &queue, ..Default::default() };
        other.put_publish(2, &publish, &BasicProperties::default(), &[1; 8000]);
    }
    let mut writer = other.stream.try_clone().unwrap();
    let output = other.take_output();
    let sender = std::thread::spawn(move || writer.write_all(&output).unwrap());
    // 24 MB went to a socket that takes some of it: the rest waits in the queue and goes to who reads.
    let mut confirmed = 0;
    while confirmed < 3000 {
        confirmed = other.expect("basic.ack").tag();
    }
    sender.join().unwrap();
    other.consume(1, &queue, "busy", true);
    assert_eq!(other.delivery(1).body.len(), 8000);
}
