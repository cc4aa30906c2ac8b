//! What ends by itself: connections that say nothing, heartbeats that stay away, deliveries nobody acknowledges.

use crate::node;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::wire::{Client, Login};
use std::io::Write as _;
use std::time::{Duration, Instant};

#[test]
fn a_handshake_octet_by_octet_works_and_a_silent_client_is_dropped() {
    let mut slow = node().stranger();
    let mut silent = node().stranger();
    let started = Instant::now();
    for octet in amqp::PROTOCOL_HEADER {
        slow.stream.write_all(&[octet]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.expect("connection.start");
    silent.expect_end();
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..20.0).contains(&took), "{took} s");
    // The one that only got half way is dropped too.
    slow.expect_end();
}

#[test]
fn the_broker_sends_heartbeats_at_half_the_interval() {
    let mut client = node().client_with(&Login { heartbeat: 2, ..Login::default() });
    let end = Instant::now() + Duration::from_millis(3600);
    let mut heartbeat = Vec::new();
    amqp::frame::write_heartbeat(&mut heartbeat);
    while Instant::now() < end {
        client.stream.write_all(&heartbeat).unwrap();
        client.expect_silence(Duration::from_millis(500));
    }
    assert!((2..=5).contains(&client.heartbeats), "{} heartbeats", client.heartbeats);
}

#[test]
fn a_client_without_heartbeats_is_dropped_without_a_word() {
    let mut client = node().client_with(&Login { heartbeat: 1, ..Login::default() });
    let started = Instant::now();
    client.expect_end();
    let took = started.elapsed().as_secs_f64();
    assert!((1.0..10.0).contains(&took), "{took} s");
}

#[test]
fn other_traffic_counts_as_a_heartbeat() {
    let mut client = node().client_with(&Login { heartbeat: 1, ..Login::default() });
    let queue = client.own_queue();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        client.counts(1, &queue);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn without_heartbeats_agreed_on_silence_is_fine() {
    let mut client = node().client_with(&Login { heartbeat: 0, ..Login::default() });
    client.expect_silence(Duration::from_secs(3));
    assert_eq!(client.heartbeats, 0);
    client.own_queue();
}

#[test]
fn a_delivery_that_is_never_acknowledged_closes_its_channel_and_goes_back() {
    let scratch = Scratch::new("consumer-timeout").unwrap();
    let setup = Setup::configured("[amqp]\nconsumer_timeout = 300\n", "consumer_timeout = 300\n");
    let node = Node::start_with(scratch.path(), &setup).unwrap();
    let mut client = Client::new(node.port);
    client.open(2);
    let queue = client.own_queue();
    client.publish(1, &queue, b"forgotten");
    client.consume(2, &queue, "idle", false);
    client.delivery(2);
    let close = client.expect("channel.close").close();
    assert_eq!((close.channel, close.code, close.at), (2, 406, (0, 0)));
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value used: 300 ms. \
                This timeout value can be configured, see consumers doc guide to learn more";
    assert_eq!(close.text, text);
    client.send(2, amqp::method::channel::CloseOk);
    assert!(client.get_soon(1, &queue).redelivered());
    drop(node);
    scratch.passed();
}
