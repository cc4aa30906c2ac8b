//! Quorum queues: what clients see of them beside classic ones.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use amqp::table::FieldValue;
use harness::args;
use harness::node::Node;
use harness::scratch::Scratch;
use harness::wire::{Args, Client, name, queue_in};

/// Declares a durable queue with these arguments.
fn declare(client: &mut Client, queue: &str, arguments: &Args) {
    let arguments = arguments.table();
    client.declare(1, &queue::Declare { queue, durable: true, arguments, ..Default::default() });
}

/// Takes the next message: its tag, body and `x-delivery-count`.
fn take(client: &mut Client, queue: &str) -> (u64, String, Option<i64>) {
    client.wait_ready(1, queue, 1);
    let got = client.get_unacked(1, queue);
    let count = got.headers().get("x-delivery-count").and_then(FieldValue::as_i64);
    (got.tag(), got.text().to_owned(), count)
}

#[test]
fn quorum_queues_refuse_what_they_cannot_be() {
    let mut client = client();
    let queue = name("q");
    let arguments = args! { "x-queue-type" => "quorum" };
    let quorum =
        queue::Declare { durable: true, arguments: arguments.table(), queue: &queue, ..Default::default() };
    for (wrong, property) in [
        (queue::Declare { durable: false, ..quorum }, "non-durable"),
        (queue::Declare { exclusive: true, ..quorum }, "exclusive-owner"),
        (queue::Declare { auto_delete: true, ..quorum }, "auto-delete"),
    ] {
        client.refused(1, wrong, 406, &format!("invalid property '{property}' for {}", queue_in(&queue)));
    }
    let priorities = args! { "x-queue-type" => "quorum", "x-max-priority" => 5 };
    let wrong = queue::Declare { arguments: priorities.table(), ..quorum };
    let text =
        format!("invalid arg 'x-max-priority' for {} of queue type rabbit_quorum_queue", queue_in(&queue));
    client.refused(1, wrong, 406, &text);
    // The type is part of a declaration.
    declare(&mut client, &queue, &Args::default());
    let text = format!(
        "inequivalent arg 'x-queue-type' for {}: received the value 'quorum' of type 'longstr' but current is none",
        queue_in(&queue)
    );
    client.refused(1, quorum, 406, &text);
    let classic = args! { "x-queue-type" => "classic" };
    client.declare(1, &queue::Declare { arguments: classic.table(), ..quorum });
    client.delete_queue(1, &queue);
}

#[test]
fn quorum_queues_deliver_what_they_confirmed() {
    let mut client = client();
    let queue = name("q");
    declare(&mut client, &queue, &args! { "x-queue-type" => "quorum" });
    client.confirm(1);
    let confirm = client.publish_confirmed(1, &queue, &Default::default(), b"1");
    assert_eq!((confirm.name(), confirm.tag()), ("basic.ack", 1));
    client.qos(1, 10, false);
    client.consume(1, &queue, "t", false);
    let delivered = client.delivery(1);
    assert_eq!(delivered.text(), "1");
    client.ack(1, delivered.tag());
    client.open(2);
    client.qos(2, 5, true);
    let text = format!("{} does not support global qos", queue_in(&queue));
    client.fatal(2, basic::Consume { queue: &queue, ..Default::default() }, 540, &text);
    crate::client().delete_queue(1, &queue);
}

#[test]
fn a_message_that_comes_back_too_often_is_dead_lettered_without_its_count() {
    let mut client = client();
    let (queue, dead) = (name("q"), client.own_queue());
    let arguments = args! {
        "x-queue-type" => "quorum",
        "x-delivery-limit" => 1,
        "x-dead-letter-exchange" => "",
        "x-dead-letter-routing-key" => &*dead,
        "x-dead-letter-strategy" => "at-least-once",
        "x-max-in-memory-length" => 5,
        "x-quorum-initial-group-size" => 3,
    };
    declare(&mut client, &queue, &arguments);
    client.publish(1, &queue, b"poison");
    for count in 0..2 {
        let (tag, body, counted) = take(&mut client, &queue);
        assert_eq!((&*body, counted), ("poison", Some(count)));
        client.reject(1, tag, true);
    }
    let letter = client.get_soon(1, &dead);
    assert_eq!(letter.text(), "poison");
    assert!(!letter.headers().contains("x-delivery-count"));
    assert_eq!(letter.header("x-first-death-reason").as_deref(), Some("delivery_limit"));
    assert!(client.get(1, &queue).is_none());
    client.delete_queue(1, &queue);
}

#[test]
fn what_quorum_queues_do_not_support_is_refused() {
    let mut client = client();
    let queue = name("q");
    declare(&mut client, &queue, &args! { "x-queue-type" => "quorum", "x-single-active-consumer" => true });
    let text = format!(
        "cannot obtain access to locked {}. basic.get operations are not supported by quorum queues with single active \
         consumer",
        queue_in(&queue)
    );
    client.refused(1, basic::Get { queue: &queue, no_ack: true }, 405, &text);
    for (if_unused, flag) in [(true, "if-unused"), (false, "if-empty")] {
        let delete = queue::Delete { queue: &queue, if_unused, if_empty: !if_unused, nowait: false };
        let text = format!(
            "cannot delete {}. queue.delete operations with {flag} flag set are not supported by quorum queues",
            queue_in(&queue)
        );
        crate::client().fatal(1, delete, 540, &text);
    }
    client.delete_queue(1, &queue);
}

#[test]
fn counts_and_messages_survive_a_kill() {
    let scratch = Scratch::new("conformance-quorum").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let mut client = Client::new(node.port);
    declare(&mut client, "kept", &args! { "x-queue-type" => "quorum", "x-delivery-limit" => 9 });
    client.confirm(1);
    // Not persistent by itself: the queue keeps it all the same.
    let store = |client: &mut Client, body: &str| {
        let confirm = client.publish_confirmed(1, "kept", &BasicProperties::default(), body.as_bytes());
        assert_eq!(confirm.name(), "basic.ack");
    };
    store(&mut client, "one");
    for _ in 0..2 {
        let (tag, ..) = take(&mut client, "kept");
        client.reject(1, tag, true);
    }
    // The confirm of a later message says that the returns are on disk too.
    store(&mut client, "two");
    let node = node.crash_and_restart().unwrap();
    let mut client = Client::new(node.port);
    client.consume(1, "kept", "c", false);
    // A first delivery has no count, where `basic.get` says 0.
    for expected in [("one", Some(2)), ("two", None)] {
        let delivered = client.delivery(1);
        let count = delivered.headers().get("x-delivery-count").and_then(FieldValue::as_i64);
        assert_eq!((delivered.text(), count), expected);
    }
    drop(node);
    scratch.passed();
}
