//! Queues with priorities, and with a single active consumer.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::basic;
use harness::args;
use harness::wire::{Client, queue_in};

fn priority(value: u8) -> BasicProperties {
    BasicProperties { priority: Some(value), ..Default::default() }
}

/// Publishes bodies with priorities and waits until all are there.
fn publish_all(client: &mut Client, queue: &str, messages: &[(&str, Option<u8>)]) {
    for (body, value) in messages {
        let properties = BasicProperties { priority: *value, ..Default::default() };
        client.publish_with(1, "", queue, &properties, body.as_bytes());
    }
    client.wait_ready(1, queue, messages.len() as u32);
}

#[test]
fn higher_priorities_come_first_and_equal_ones_in_order() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-priority" => 5 });
    let messages =
        [("a", Some(1)), ("b", None), ("c", Some(5)), ("d", Some(1)), ("e", Some(0)), ("f", Some(5))];
    publish_all(&mut client, &queue, &messages);
    assert_eq!(client.drain(1, &queue), ["c", "f", "a", "d", "b", "e"]);
}

#[test]
fn what_is_above_the_highest_counts_as_the_highest_and_stays_as_it_is() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-priority" => 3 });
    publish_all(&mut client, &queue, &[("a", Some(3)), ("b", Some(200)), ("c", Some(3))]);
    assert_eq!(client.get(1, &queue).unwrap().text(), "a");
    let above = client.get(1, &queue).unwrap();
    assert_eq!((above.text(), above.properties()), ("b", priority(200)));
}

#[test]
fn without_the_argument_priorities_mean_nothing() {
    let mut client = client();
    let queue = client.own_queue();
    publish_all(&mut client, &queue, &[("a", Some(1)), ("b", Some(9))]);
    assert_eq!(client.drain(1, &queue), ["a", "b"]);
}

#[test]
fn a_requeued_message_keeps_its_priority() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-priority" => 5 });
    publish_all(&mut client, &queue, &[("low", Some(1)), ("high", Some(4)), ("high too", Some(4))]);
    let got = client.get_unacked(1, &queue);
    assert_eq!(got.text(), "high");
    client.nack(1, got.tag(), false, true);
    assert_eq!(client.drain(1, &queue), ["high", "high too", "low"]);
}

#[test]
fn a_limit_drops_the_head_which_has_the_highest_priority() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-priority" => 5, "x-max-length" => 2 });
    for (body, value) in [("high", 5), ("low", 1), ("middle", 3)] {
        client.publish_with(1, "", &queue, &priority(value), body.as_bytes());
    }
    assert_eq!(client.drain(1, &queue), ["middle", "low"]);
}

/// A queue with a single active consumer, with channels 2 and 3 open for two.
fn single() -> (Client, String) {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-single-active-consumer" => true });
    client.open(2);
    client.open(3);
    (client, queue)
}

#[test]
fn the_first_consumer_gets_everything_and_the_next_takes_over() {
    let (mut client, queue) = single();
    client.consume(2, &queue, "a", true);
    client.consume(3, &queue, "b", true);
    for body in [b"0", b"1", b"2"] {
        client.publish(1, &queue, body);
    }
    assert_eq!(client.deliveries(2, 3), ["0", "1", "2"]);
    client.expect_nothing(3, &queue);
    client.cancel(2, "a");
    client.publish(1, &queue, b"3");
    assert_eq!(client.deliveries(3, 1), ["3"]);
    // Now at the end of the row.
    client.consume(2, &queue, "c", true);
    client.publish(1, &queue, b"4");
    assert_eq!(client.deliveries(3, 1), ["4"]);
    client.close_channel(3);
    client.publish(1, &queue, b"5");
    assert_eq!(client.deliveries(2, 1), ["5"]);
}

#[test]
fn the_active_one_holds_its_place_when_it_has_no_room() {
    let (mut client, queue) = single();
    client.qos(2, 1, false);
    client.consume(2, &queue, "a", false);
    client.consume(3, &queue, "b", false);
    client.publish(1, &queue, b"0");
    client.publish(1, &queue, b"1");
    let first = client.delivery(2);
    client.expect_nothing(3, &queue);
    // What it leaves unacked goes to the next, in order.
    assert_eq!(first.text(), "0");
    client.close_channel(2);
    let (one, two) = (client.delivery(3), client.delivery(3));
    assert_eq!(
        [(one.text(), one.redelivered()), (two.text(), two.redelivered())],
        [("0", true), ("1", false)]
    );
}

#[test]
fn a_priority_does_not_take_the_place_of_the_active_one() {
    let (mut client, queue) = single();
    client.consume(2, &queue, "a", true);
    let arguments = args! { "x-priority" => 10 };
    let consume = basic::Consume {
        queue: &queue,
        consumer_tag: "b",
        no_ack: true,
        arguments: arguments.table(),
        ..Default::default()
    };
    client.call(3, consume, "basic.consume-ok");
    client.publish(1, &queue, b"0");
    assert_eq!(client.deliveries(2, 1), ["0"]);
    client.expect_nothing(3, &queue);
}

#[test]
fn an_exclusive_consumer_is_refused_and_get_is_not() {
    let (mut client, queue) = single();
    let consume = basic::Consume { queue: &queue, exclusive: true, ..Default::default() };
    client.refused(2, consume, 403, &format!("{} in exclusive use", queue_in(&queue)));
    client.publish(1, &queue, b"0");
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.get(1, &queue).unwrap().text(), "0");
}
