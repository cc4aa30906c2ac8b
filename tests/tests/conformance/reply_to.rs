//! Direct reply-to: answers without a queue.

use crate::{client, node};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, queue, tx};
use harness::wire::{Client, name, ours_or_theirs, queue_in};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A request with `reply-to`, as the responder sees it: the address to answer to.
fn request(client: &mut Client, queue: &str) -> String {
    let properties = BasicProperties {
        reply_to: Some(REPLY_TO.into()),
        priority: Some(3),
        correlation_id: Some("1".into()),
        ..Default::default()
    };
    client.publish_with(1, "", queue, &properties, b"request");
    let seen = client.get_soon(1, queue).properties();
    assert_eq!((seen.priority, seen.correlation_id), (Some(3), Some("1".into())), "the others stay");
    String::from_utf8(seen.reply_to.unwrap()).unwrap()
}

#[test]
fn a_direct_reply_reaches_the_channel_that_asked() {
    let (mut requester, mut responder) = (client(), client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() < 256);
    responder.publish(1, &address, b"answer");
    let reply = requester.delivery(1);
    assert_eq!(reply.body, b"answer");
    let Method::BasicDeliver(deliver) = reply.method() else { unreachable!() };
    assert_eq!((deliver.consumer_tag, deliver.exchange, deliver.routing_key), ("answers", "", &*address));
    assert!(!deliver.redelivered);
}

#[test]
fn a_direct_reply_in_a_transaction_goes_at_its_commit_at_the_latest() {
    let (mut requester, mut responder) = (client(), client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    responder.call(1, tx::Select, "tx.select-ok");
    responder.publish(1, &address, b"answer");
    responder.call(1, tx::Commit, "tx.commit-ok");
    assert_eq!(requester.delivery(1).body, b"answer");
}

#[test]
fn a_direct_reply_to_somebody_who_left_is_unroutable() {
    let (mut requester, mut responder) = (client(), client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    responder.counts(1, &address);
    requester.cancel(1, "answers");
    responder.confirm(1);
    responder.publish_mandatory(1, "", &address, b"late");
    responder.expect("basic.return");
    responder.expect("basic.ack");
    let passive = queue::Declare { queue: &address, passive: true, ..Default::default() };
    responder.refused(1, passive, 404, &format!("no {}", queue_in(&address)));
}

#[test]
fn a_reply_to_a_closed_channel_is_unroutable() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.consume(2, REPLY_TO, "answers", true);
    let properties = BasicProperties { reply_to: Some(REPLY_TO.into()), ..Default::default() };
    client.publish_with(2, "", &queue, &properties, b"request");
    let address = String::from_utf8(client.get_soon(1, &queue).properties().reply_to.unwrap()).unwrap();
    client.close_channel(2);
    client.wait_gone(1, &address);
    client.publish_mandatory(1, "", &address, b"late");
    client.expect("basic.return");
}

#[test]
fn a_guessed_address_reaches_nobody() {
    let (mut requester, mut other) = (client(), client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    // The last octets may be padding of an encoding: the one before is not.
    let at = address.len() - 4;
    let other_octet = if &address[at..=at] == "A" { "B" } else { "A" };
    let guess = format!("{}{other_octet}{}", &address[..at], &address[at + 1..]);
    other.publish(1, &guess, b"guess");
    // It has been taken care of when the next method is answered.
    other.own_queue();
    other.publish(1, &address, b"right");
    assert_eq!(requester.delivery(1).body, b"right");
}

#[test]
fn a_delivered_reply_is_not_returned() {
    let (mut requester, mut responder) = (client(), client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    responder.confirm(1);
    responder.publish_mandatory(1, "", &address, b"answer");
    let first = responder.receive().unwrap();
    assert_eq!(first.name(), ours_or_theirs("basic.ack", "basic.return"));
    assert_eq!(requester.delivery(1).body, b"answer");
}

#[test]
fn the_rules_of_reply_consumers() {
    let mut client = client();
    let consume = basic::Consume { queue: REPLY_TO, consumer_tag: "r", ..Default::default() };
    client.refused(1, consume, 406, "reply consumer cannot acknowledge");
    let consume = basic::Consume { no_ack: true, ..consume };
    client.call(1, consume, "basic.consume-ok");
    let second = basic::Consume { consumer_tag: "s", ..consume };
    client.refused(1, second, 406, "reply consumer already set");
    client.call(1, consume, "basic.consume-ok");
    client.cancel(1, "r");
    client.call(1, second, "basic.consume-ok");
}

#[test]
fn requests_without_a_reply_consumer_are_406() {
    let mut client = client();
    let properties = BasicProperties { reply_to: Some(REPLY_TO.into()), ..Default::default() };
    client.publish_with(1, "", "x", &properties, b"");
    client.expect_channel_close(1, 406, "fast reply consumer does not exist", (60, 40));
}

#[test]
fn the_pseudo_queue_can_be_declared_and_is_always_there() {
    let mut client = client();
    for passive in [false, true] {
        let declare = queue::Declare { queue: REPLY_TO, passive, ..Default::default() };
        assert_eq!(client.declare(1, &declare), REPLY_TO);
    }
    let missing = format!("{REPLY_TO}.{}", name("nobody"));
    let passive = queue::Declare { queue: &missing, passive: true, ..Default::default() };
    client.refused(1, passive, 404, &format!("no {}", queue_in(&missing)));
    assert!(node().port > 0);
}
