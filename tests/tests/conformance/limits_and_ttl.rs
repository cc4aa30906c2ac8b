//! Length limits with their three ways to overflow, and the times after which messages and queues go.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use harness::args;
use harness::wire::name;
use std::time::Duration;

fn expiring(ms: &str) -> BasicProperties {
    BasicProperties { expiration: Some(ms.into()), ..Default::default() }
}

/// Longer than the times that tests give messages to live.
fn wait() {
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn the_oldest_go_when_a_queue_is_full() {
    let mut client = client();
    for arguments in
        [args! { "x-max-length" => 2 }, args! { "x-max-length" => 2, "x-overflow" => "drop-head" }]
    {
        let queue = client.own_queue_with(&arguments);
        for body in [b"0", b"1", b"2", b"3"] {
            client.publish(1, &queue, body);
        }
        assert_eq!(client.drain(1, &queue), ["2", "3"]);
    }
}

#[test]
fn octets_are_those_of_bodies() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-length-bytes" => 10 });
    let heavy = BasicProperties { content_type: Some(vec![b'x'; 200]), ..Default::default() };
    for body in [b"0000", b"1111", b"2222", b"3333"] {
        client.publish_with(1, "", &queue, &heavy, body);
    }
    assert_eq!(client.drain(1, &queue), ["2222", "3333"]);
    // Without a body there is nothing to count, and what is too large alone does not stay.
    for _ in 0..5 {
        client.publish(1, &queue, b"");
    }
    client.wait_ready(1, &queue, 5);
    client.publish(1, &queue, b"larger than ten");
    assert!(client.drain(1, &queue).is_empty());
}

#[test]
fn what_is_unacked_does_not_count() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-length" => 1 });
    client.publish(1, &queue, b"0");
    let tag = client.get_unacked(1, &queue).tag();
    client.publish(1, &queue, b"1");
    client.wait_ready(1, &queue, 1);
    // It comes back to the head of a queue that is full now.
    client.nack(1, tag, false, true);
    assert_eq!(client.drain(1, &queue), ["1"]);
}

#[test]
fn a_length_of_zero_passes_on_to_who_waits() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-length" => 0 });
    client.publish(1, &queue, b"lost");
    assert!(client.get(1, &queue).is_none());
    client.consume(1, &queue, "t", true);
    client.publish(1, &queue, b"live");
    assert_eq!(client.delivery(1).text(), "live");
}

#[test]
fn a_full_queue_may_refuse_instead() {
    let mut client = client();
    let dead = client.own_queue();
    for (mode, dead_letters) in [("reject-publish", 0), ("reject-publish-dlx", 1)] {
        let queue = client.own_queue_with(&args! {
            "x-max-length" => 1,
            "x-overflow" => mode,
            "x-dead-letter-exchange" => "",
            "x-dead-letter-routing-key" => dead.as_str(),
        });
        client.publish(1, &queue, b"a");
        client.publish(1, &queue, b"b");
        assert_eq!(client.drain(1, &queue), ["a"]);
        client.wait_ready(1, &dead, dead_letters);
    }
    let letter = client.get(1, &dead).unwrap();
    assert_eq!(letter.text(), "b");
    assert_eq!(letter.deaths()[0].get("reason").unwrap().as_str(), Some("maxlen"));
}

#[test]
fn an_octet_limit_refuses_too() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-length-bytes" => 4, "x-overflow" => "reject-publish" });
    client.confirm(1);
    let answers: Vec<_> = ["12", "34", "5"]
        .iter()
        .map(|body| client.publish_confirmed(1, &queue, &BasicProperties::default(), body.as_bytes()).name())
        .collect();
    assert_eq!(answers, ["basic.ack", "basic.ack", "basic.nack"]);
    assert_eq!(client.drain(1, &queue), ["12", "34"]);
}

#[test]
fn messages_of_a_queue_with_a_time_to_live_go() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-message-ttl" => 150 });
    client.confirm(1);
    client.publish_confirmed(1, &queue, &BasicProperties::default(), b"1");
    client.wait_ready(1, &queue, 0);
    assert!(client.get(1, &queue).is_none());
}

#[test]
fn of_two_times_the_shorter_holds() {
    let mut client = client();
    let long = client.own_queue_with(&args! { "x-message-ttl" => 60_000 });
    let short = client.own_queue_with(&args! { "x-message-ttl" => 100 });
    client.open(2);
    client.confirm(2);
    client.publish_confirmed(2, &long, &expiring("100"), b"1");
    client.publish_confirmed(2, &short, &expiring("60000"), b"1");
    client.wait_ready(1, &long, 0);
    client.wait_ready(1, &short, 0);
    // The property stays on what is delivered in time.
    client.publish_with(1, "", &long, &expiring("5000"), b"2");
    assert_eq!(client.get(1, &long).unwrap().properties(), expiring("5000"));
}

#[test]
fn messages_expire_at_the_head_of_their_queue() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &queue, b"stays");
    client.publish_with(1, "", &queue, &expiring("50"), b"goes");
    wait();
    assert_eq!(client.counts(1, &queue).0, 2, "it expired, and is not at the head");
    assert_eq!(client.drain(1, &queue), ["stays"]);
}

#[test]
fn zero_means_now_or_never() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-message-ttl" => 0 });
    let plain = client.own_queue();
    client.publish(1, &queue, b"lost");
    client.publish_with(1, "", &plain, &expiring("0"), b"lost");
    assert!(client.get(1, &queue).is_none() && client.get(1, &plain).is_none());
    client.consume(1, &queue, "a", true);
    client.publish(1, &queue, b"now");
    assert_eq!(client.delivery(1).text(), "now");
    client.consume(1, &plain, "b", true);
    client.publish_with(1, "", &plain, &expiring("0"), b"now");
    assert_eq!(client.delivery(1).text(), "now");
}

#[test]
fn what_is_unacked_does_not_expire_and_keeps_its_time() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-message-ttl" => 150 });
    client.publish(1, &queue, b"1");
    client.publish(1, &queue, b"2");
    let (one, two) = (client.get_unacked(1, &queue).tag(), client.get_unacked(1, &queue).tag());
    wait();
    client.ack(1, one);
    client.nack(1, two, false, true);
    assert!(client.get(1, &queue).is_none(), "it goes when it is back");
}

#[test]
fn a_consumer_gets_nothing_that_has_expired() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-message-ttl" => 100 });
    client.publish(1, &queue, b"old");
    wait();
    client.consume(1, &queue, "t", true);
    client.publish(1, &queue, b"new");
    assert_eq!(client.delivery(1).text(), "new");
}

#[test]
fn unused_queues_expire() {
    let mut client = client();
    let queue = name("q");
    let expires = args! { "x-expires" => 200 };
    client.declare(1, &queue::Declare { queue: &queue, arguments: expires.table(), ..Default::default() });
    wait();
    client.wait_gone(1, &queue);
}

#[test]
fn use_keeps_a_queue() {
    let mut client = client();
    let (consumed, got, declared) = (name("q"), name("q"), name("q"));
    let expires = args! { "x-expires" => 1000 };
    let declare = |queue| queue::Declare { queue, arguments: expires.table(), ..Default::default() };
    for queue in [&consumed, &got, &declared] {
        client.declare(1, &declare(queue));
    }
    client.consume(1, &consumed, "t", true);
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        client.get(1, &got);
        client.declare(1, &declare(&declared));
    }
    let passive = |queue| queue::Declare { queue, passive: true, ..Default::default() };
    for queue in [&consumed, &got, &declared] {
        client.declare(1, &passive(queue));
    }
    // From when its last consumer goes it counts again.
    client.cancel(1, "t");
    std::thread::sleep(Duration::from_millis(1050));
    for queue in [&consumed, &got, &declared] {
        client.wait_gone(1, queue);
    }
}

#[test]
fn expired_queues_take_their_messages_along_without_a_letter() {
    let mut client = client();
    let (queue, dead) = (name("q"), client.own_queue());
    let arguments = args! {
        "x-expires" => 150,
        "x-dead-letter-exchange" => "",
        "x-dead-letter-routing-key" => dead.as_str(),
    };
    client.declare(1, &queue::Declare { queue: &queue, arguments: arguments.table(), ..Default::default() });
    client.publish(1, &queue, b"x");
    wait();
    client.wait_gone(1, &queue);
    assert_eq!(client.counts(1, &dead).0, 0);
    client.send(1, basic::Get { queue: &dead, no_ack: true });
    client.expect("basic.get-empty");
}
