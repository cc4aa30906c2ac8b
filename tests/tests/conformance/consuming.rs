//! Consumers: tags, order of what is sent, sharing, priorities, exclusivity, cancelling and being cancelled.

use crate::{client, node};
use amqp::method::{Method, basic, channel, queue};
use harness::api::encoded;
use harness::args;
use harness::wire::{Client, Login, name, queue_in};
use std::time::Duration;

fn consume<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume { queue, consumer_tag, no_ack: true, ..Default::default() }
}

/// Starts a consumer with a priority.
fn with_priority(client: &mut Client, number: u16, queue: &str, tag: &str, no_ack: bool, priority: i32) {
    let arguments = args! { "x-priority" => priority };
    let consume = basic::Consume { no_ack, arguments: arguments.table(), ..consume(queue, tag) };
    client.call(number, consume, "basic.consume-ok");
}

fn publish_all(client: &mut Client, queue: &str, bodies: std::ops::Range<u32>) {
    for number in bodies {
        client.publish(1, queue, number.to_string().as_bytes());
    }
}

#[test]
fn what_a_delivery_tells() {
    let mut client = client();
    let queue = client.own_queue();
    client.consume(1, &queue, "tag", false);
    client.publish(1, &queue, b"1");
    let received = client.delivery(1);
    let Method::BasicDeliver(it) = received.method() else { unreachable!() };
    let seen = (it.consumer_tag, it.delivery_tag, it.redelivered, it.exchange, it.routing_key);
    assert_eq!(seen, ("tag", 1, false, "", &*queue));
}

#[test]
fn the_broker_finds_tags() {
    let mut client = client();
    let queue = client.own_queue();
    let mut tags = Vec::new();
    for _ in 0..2 {
        let received = client.call(1, consume(&queue, ""), "basic.consume-ok");
        let Method::BasicConsumeOk(ok) = received.method() else { unreachable!() };
        assert!(ok.consumer_tag.starts_with("amq.ctag-"), "{ok:?}");
        tags.push(ok.consumer_tag.to_owned());
    }
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn tags_belong_to_a_channel_and_are_used_once() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.consume(1, &queue, "t", true);
    client.consume(2, &queue, "t", true);
    client.cancel(1, "t");
    client.consume(1, &queue, "t", true);
    client.fatal(1, consume(&queue, "t"), 530, "attempt to reuse consumer tag 't'");
}

#[test]
fn the_answer_comes_before_the_first_delivery() {
    let mut client = client();
    let queue = client.own_queue();
    publish_all(&mut client, &queue, 0..5);
    client.send(1, consume(&queue, "t"));
    client.expect("basic.consume-ok");
    assert_eq!(client.deliveries(1, 5), ["0", "1", "2", "3", "4"]);
}

#[test]
fn requests_without_an_answer_work_and_tell_their_errors() {
    let mut client = client();
    let queue = client.own_queue();
    client.send(1, basic::Consume { nowait: true, ..consume(&queue, "t") });
    client.publish(1, &queue, b"1");
    assert_eq!(client.expect("basic.deliver").text(), "1");
    client.send(1, basic::Cancel { consumer_tag: "t", nowait: true });
    client.publish(1, &queue, b"2");
    client.expect_nothing(1, &queue);
    let missing = name("q");
    client.send(1, basic::Consume { nowait: true, ..consume(&missing, "t") });
    client.expect_channel_close(1, 404, &format!("no {}", queue_in(&missing)), (60, 20));
}

#[test]
fn cancelling_is_always_answered() {
    let mut client = client();
    let queue = client.own_queue();
    client.consume(1, &queue, "t", true);
    for tag in ["t", "t", "never-there"] {
        let received = client.call(1, basic::Cancel { consumer_tag: tag, nowait: false }, "basic.cancel-ok");
        let Method::BasicCancelOk(ok) = received.method() else { unreachable!() };
        assert_eq!(ok.consumer_tag, tag);
    }
}

#[test]
fn after_cancel_ok_nothing_is_delivered_and_what_was_stays() {
    let mut client = client();
    let queue = client.own_queue();
    client.consume(1, &queue, "t", false);
    client.publish(1, &queue, b"1");
    let tag = client.delivery(1).tag();
    client.cancel(1, "t");
    client.publish(1, &queue, b"2");
    client.expect_nothing(1, &queue);
    assert_eq!(client.counts(1, &queue).0, 1, "the first is not back");
    client.nack(1, tag, false, true);
    assert_eq!(client.drain(1, &queue), ["1", "2"]);
}

#[test]
fn no_local_is_ignored() {
    let mut client = client();
    let queue = client.own_queue();
    client.call(1, basic::Consume { no_local: true, ..consume(&queue, "t") }, "basic.consume-ok");
    client.publish(1, &queue, b"1");
    client.delivery(1);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    let text = format!("{} in exclusive use", queue_in(&queue));
    let exclusive = basic::Consume { exclusive: true, ..consume(&queue, "x") };
    client.consume(1, &queue, "a", true);
    client.refused(2, exclusive, 403, &text);
    client.cancel(1, "a");
    client.call(1, exclusive, "basic.consume-ok");
    client.refused(2, consume(&queue, "b"), 403, &text);
    client.cancel(1, "x");
    client.consume(2, &queue, "b", true);
}

#[test]
fn consumers_learn_that_their_queue_is_gone() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.consume(1, &queue, "a", true);
    client.consume(1, &queue, "b", true);
    client.delete_queue(2, &queue);
    let mut tags = Vec::new();
    for _ in 0..2 {
        let received = client.expect_on(1, "basic.cancel");
        let Method::BasicCancel(cancel) = received.method() else { unreachable!() };
        assert!(cancel.nowait);
        tags.push(cancel.consumer_tag.to_owned());
    }
    tags.sort();
    assert_eq!(tags, ["a", "b"]);
    // The tags are free, the channel goes on.
    let other = client.own_queue();
    client.consume(1, &other, "a", true);
}

#[test]
fn who_does_not_know_cancel_is_not_told() {
    let mut client = node().client_with(&Login { capabilities: &[], ..Login::default() });
    let (queue, other) = (client.own_queue(), client.own_queue());
    client.open(2);
    client.consume(1, &queue, "t", true);
    client.delete_queue(2, &queue);
    client.expect_nothing(1, &other);
}

#[test]
fn equal_consumers_take_turns() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.open(3);
    client.consume(2, &queue, "a", true);
    client.consume(3, &queue, "b", true);
    publish_all(&mut client, &queue, 0..10);
    let parity = |bodies: &[String]| bodies[0].parse::<u32>().unwrap() % 2;
    let (a, b) = (client.deliveries(2, 5), client.deliveries(3, 5));
    assert_ne!(parity(&a), parity(&b));
    for bodies in [a, b] {
        let expected: Vec<String> = (0..5).map(|it| (it * 2 + parity(&bodies)).to_string()).collect();
        assert_eq!(bodies, expected);
    }
}

#[test]
fn the_highest_priority_gets_everything_while_it_can() {
    let mut client = client();
    let queue = client.own_queue();
    for number in 2..=4 {
        client.open(number);
    }
    client.consume(2, &queue, "plain", true);
    with_priority(&mut client, 3, &queue, "high", true, 10);
    with_priority(&mut client, 4, &queue, "low", true, -1);
    publish_all(&mut client, &queue, 0..6);
    assert_eq!(client.deliveries(3, 6).len(), 6);
    client.cancel(3, "high");
    publish_all(&mut client, &queue, 6..8);
    assert_eq!(client.deliveries(2, 2), ["6", "7"]);
    client.expect_nothing(4, &queue);
}

#[test]
fn lower_priorities_get_what_the_higher_have_no_room_for() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.open(3);
    client.qos(3, 2, false);
    client.consume(2, &queue, "low", true);
    with_priority(&mut client, 3, &queue, "high", false, 10);
    publish_all(&mut client, &queue, 0..5);
    assert_eq!(client.deliveries(3, 2), ["0", "1"]);
    assert_eq!(client.deliveries(2, 3), ["2", "3", "4"]);
    client.send(3, basic::Ack { delivery_tag: 0, multiple: true });
    client.expect_nothing(3, &queue);
    publish_all(&mut client, &queue, 5..6);
    assert_eq!(client.deliveries(3, 1), ["5"]);
}

#[test]
fn arguments_of_consumers() {
    let mut client = client();
    let queue = client.own_queue();
    let unknown = args! { "x-foo" => 1 };
    client.call(1, basic::Consume { arguments: unknown.table(), ..consume(&queue, "t") }, "basic.consume-ok");
    let wrong = args! { "x-priority" => "high" };
    let wrong = basic::Consume { arguments: wrong.table(), ..consume(&queue, "u") };
    let text =
        format!("invalid arg 'x-priority' for {}: \"expected integer, got longstr\"", queue_in(&queue));
    client.refused(1, wrong, 406, &text);
}

#[test]
fn a_waiting_consumer_gets_what_others_give_back() {
    let (mut one, mut two) = (client(), client());
    let queue = name("q");
    one.declare(1, &queue::Declare { queue: &queue, auto_delete: true, ..Default::default() });
    one.publish(1, &queue, b"1");
    let got = one.get_unacked(1, &queue);
    two.consume(1, &queue, "t", true);
    assert_eq!(two.counts(1, &queue), (0, 1));
    one.nack(1, got.tag(), false, true);
    let delivered = two.delivery(1);
    assert_eq!((delivered.text(), delivered.redelivered()), ("1", true));
    one.publish(1, &queue, b"2");
    assert!(!two.delivery(1).redelivered());
}

#[test]
fn a_closing_channel_takes_its_consumers_along() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.consume(2, &queue, "t", false);
    client.publish(1, &queue, b"1");
    client.delivery(2);
    client.send(2, channel::Close { reply_code: 200, ..Default::default() });
    client.expect_on(2, "channel.close-ok");
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.counts(1, &queue), (1, 0));
}

#[test]
fn arguments_of_other_kinds_of_queues_are_406() {
    let mut client = client();
    let queue = client.own_queue();
    let title = format!("queue '{queue}' in vhost '/'");
    let rows = [
        (
            args! { "x-cancel-on-ha-failover" => "yes" },
            format!("invalid arg 'x-cancel-on-ha-failover' for {title}: {{unacceptable_type,longstr}}"),
        ),
        (
            args! { "x-stream-offset" => "first" },
            format!("invalid arg 'x-stream-offset' for {title} of queue type rabbit_classic_queue"),
        ),
    ];
    for (arguments, text) in &rows {
        let consume = basic::Consume { arguments: arguments.table(), ..consume(&queue, "a") };
        client.refused(1, consume, 406, text);
    }
    let arguments = args! { "x-cancel-on-ha-failover" => true, "x-anything" => 1 };
    let consume = basic::Consume { arguments: arguments.table(), ..consume(&queue, "a") };
    client.call(1, consume, "basic.consume-ok");
}

#[test]
fn the_api_tells_which_consumer_is_active() {
    let mut client = client();
    let single = client.own_queue_with(&args! { "x-single-active-consumer" => true });
    client.consume(1, &single, "first", false);
    client.consume(1, &single, "second", false);
    let path = format!("queues/%2F/{}", encoded(&single));
    let expected = [("first", true, "single_active"), ("second", false, "waiting")];
    let expected = expected.map(|(tag, active, status)| (tag.into(), active.into(), status.into()));
    let mut seen = (Vec::new(), serde_json::Value::Null);
    // RabbitMQ gathers what it tells here every few seconds, in parts.
    let told = xtask::lab::wait::until_true(Duration::from_secs(60), "both consumers in the API", || {
        let queue = node().api.get(&path);
        let details = queue["consumer_details"].as_array().cloned().unwrap_or_default();
        let details = details.iter();
        seen.0 = details
            .map(|it| (it["consumer_tag"].clone(), it["active"].clone(), it["activity_status"].clone()))
            .collect();
        seen.0.sort_by_key(|it: &(serde_json::Value, _, _)| it.0.to_string());
        seen.1 = queue["single_active_consumer_tag"].clone();
        seen.0 == expected && seen.1 == "first"
    });
    assert!(told.is_ok(), "{seen:?}");
}
