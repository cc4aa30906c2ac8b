//! Publisher confirms: every publish is settled once, after its return, and never when it failed.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, confirm, queue, tx};
use harness::args;
use harness::wire::{Client, name};
use std::collections::BTreeSet;

fn persistent() -> BasicProperties {
    BasicProperties { delivery_mode: Some(2), ..Default::default() }
}

/// Publishes to a queue and waits for the confirm: its name and its tag.
fn confirmed(client: &mut Client, queue: &str) -> (&'static str, u64) {
    let received = client.publish_confirmed(1, queue, &BasicProperties::default(), b"x");
    (received.name(), received.tag())
}

#[test]
fn tags_count_publishes_since_the_first_select() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &queue, b"before");
    client.publish(1, &queue, b"before");
    client.confirm(1);
    assert_eq!(confirmed(&mut client, &queue), ("basic.ack", 1));
    assert_eq!(confirmed(&mut client, &queue), ("basic.ack", 2));
    client.confirm(1);
    assert_eq!(confirmed(&mut client, &queue), ("basic.ack", 3));
}

#[test]
fn select_may_ask_for_no_answer() {
    let mut client = client();
    let queue = client.own_queue();
    client.send(1, confirm::Select { nowait: true });
    assert_eq!(confirmed(&mut client, &queue), ("basic.ack", 1));
}

#[test]
fn channels_count_for_themselves() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.confirm(1);
    client.confirm(2);
    for number in [1, 2, 1, 2] {
        client.publish(number, &queue, b"x");
    }
    let mut settled = [0, 0, 0];
    while settled[1] < 2 || settled[2] < 2 {
        let ack = client.expect("basic.ack");
        settled[usize::from(ack.channel)] = ack.tag();
    }
    assert_eq!(settled, [0, 2, 2]);
}

#[test]
fn what_reaches_no_queue_is_acknowledged() {
    let mut client = client();
    client.confirm(1);
    assert_eq!(confirmed(&mut client, &name("nowhere")), ("basic.ack", 1));
    client.publish_to(1, "amq.fanout", "", b"x");
    assert_eq!(client.expect("basic.ack").tag(), 2);
}

#[test]
fn a_return_comes_before_the_ack_of_the_same_message() {
    let mut client = client();
    let queue = client.own_queue();
    client.confirm(1);
    client.publish_mandatory(1, "", &name("nowhere"), b"1");
    client.expect("basic.return");
    assert_eq!(client.expect("basic.ack").tag(), 1);
    // Also where acks come together: none of a returned message before its return.
    for _ in 0..50 {
        client.publish(1, &queue, b"x");
        client.publish_mandatory(1, "", &name("nowhere"), b"x");
    }
    let (mut returned, mut acked) = (0, 1);
    while acked < 101 {
        let received = client.receive().unwrap();
        match received.method() {
            Method::BasicReturn(_) => returned += 1,
            Method::BasicAck(ack) => {
                acked = ack.delivery_tag.max(acked);
                assert!(returned >= (acked - 1) / 2 || !ack.multiple && ack.delivery_tag % 2 == 0);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(returned, 50);
}

#[test]
fn every_publish_is_settled_exactly_once() {
    const COUNT: u64 = 2000;
    let mut client = client();
    let durable = name("durable");
    client.declare(1, &queue::Declare { queue: &durable, durable: true, ..Default::default() });
    let transient = client.own_queue();
    client.confirm(1);
    for number in 0..COUNT {
        let (queue, properties) = match number % 3 {
            0 => (durable.as_str(), persistent()),
            1 => (transient.as_str(), BasicProperties::default()),
            _ => ("nowhere-at-all", persistent()),
        };
        let publish = basic::Publish { routing_key: queue, ..Default::default() };
        client.put_publish(1, &publish, &properties, b"x");
    }
    client.flush();
    let mut open: BTreeSet<u64> = (1..=COUNT).collect();
    let mut frames = 0;
    while !open.is_empty() {
        let received = client.expect("basic.ack");
        let Method::BasicAck(ack) = received.method() else { unreachable!() };
        frames += 1;
        assert!(open.contains(&ack.delivery_tag), "{ack:?} is settled already, or was never sent");
        if ack.multiple {
            open.retain(|tag| *tag > ack.delivery_tag);
        } else {
            open.remove(&ack.delivery_tag);
        }
    }
    assert!(frames < COUNT, "confirms come together where they can");
    client.delete_queue(1, &durable);
}

#[test]
fn persistent_messages_are_confirmed_one_by_one_too() {
    let mut client = client();
    let queue = name("durable");
    client.declare(1, &queue::Declare { queue: &queue, durable: true, ..Default::default() });
    client.confirm(1);
    for tag in 1..=3 {
        let received = client.publish_confirmed(1, &queue, &persistent(), b"p");
        assert_eq!((received.name(), received.tag()), ("basic.ack", tag));
    }
    client.delete_queue(1, &queue);
}

#[test]
fn a_delivered_message_is_confirmed_too() {
    let mut client = client();
    let queue = client.own_queue();
    client.confirm(1);
    client.consume(1, &queue, "t", true);
    client.publish(1, &queue, b"x");
    let mut names = [client.receive().unwrap().name(), client.receive().unwrap().name()];
    names.sort_unstable();
    assert_eq!(names, ["basic.ack", "basic.deliver"]);
}

#[test]
fn a_publish_that_fails_is_never_confirmed() {
    let mut client = client();
    client.confirm(1);
    let exchange = name("no-exchange");
    client.publish_to(1, &exchange, "k", b"x");
    client.expect_channel_close(1, 404, &format!("no exchange '{exchange}' in vhost '/'"), (60, 40));
    // The channel of this number that is open now has no confirms.
    let queue = client.own_queue();
    client.publish(1, &queue, b"x");
    client.expect_nothing(1, &queue);
}

#[test]
fn rejected_publishes_are_nacked() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-max-length" => 2, "x-overflow" => "reject-publish" });
    client.confirm(1);
    let kinds: Vec<_> = (0..4).map(|_| confirmed(&mut client, &queue)).collect();
    assert_eq!(kinds, [("basic.ack", 1), ("basic.ack", 2), ("basic.nack", 3), ("basic.nack", 4)]);
    assert_eq!(client.drain(1, &queue).len(), 2);
}

#[test]
fn one_rejecting_queue_of_several_makes_a_nack() {
    let mut client = client();
    let full = client.own_queue_with(&args! { "x-max-length" => 0, "x-overflow" => "reject-publish" });
    let open = client.own_queue();
    let exchange = name("fanout");
    client.exchange(1, &exchange, "fanout");
    client.bind(1, &full, &exchange, "");
    client.bind(1, &open, &exchange, "");
    client.confirm(1);
    client.publish_to(1, &exchange, "", b"x");
    assert_eq!(client.expect("basic.nack").tag(), 1);
    assert_eq!(client.drain(1, &open), ["x"]);
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let mut client = client();
    client.call(1, tx::Select, "tx.select-ok");
    client.refused(1, confirm::Select::default(), 406, "cannot switch from tx to confirm mode");
    client.confirm(1);
    client.refused(1, tx::Select, 406, "cannot switch from confirm to tx mode");
}
