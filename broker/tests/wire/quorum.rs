//! Quorum queues: what clients see of them beside classic ones. The reference is RabbitMQ 3.10.

use crate::client::{Broker, Client};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, channel, confirm, queue};
use amqp::table::{FieldTable, FieldValue, Table};

fn declare(client: &mut Client, name: &str, more: &[(&str, FieldValue)]) {
    let mut arguments = FieldTable::new();
    arguments.insert("x-queue-type", "quorum");
    for (key, value) in more {
        arguments.insert(*key, value.clone());
    }
    let arguments = arguments.to_bytes();
    let declare = queue::Declare {
        queue: name,
        durable: true,
        arguments: Table::parse(&arguments).unwrap(),
        ..queue::Declare::default()
    };
    client.declare(1, &declare);
}

/// Takes the next message: its tag, body and `x-delivery-count`.
fn get(client: &mut Client, queue: &str) -> (u64, Vec<u8>, Option<i64>) {
    let got = client.call(1, &basic::Get { queue, no_ack: false }, "basic.get-ok");
    let Method::BasicGetOk(ok) = got.method() else { unreachable!() };
    let count = got.properties().headers.and_then(|headers| headers.get("x-delivery-count")?.as_i64());
    (ok.delivery_tag, got.body.clone(), count)
}

#[test]
fn a_message_that_comes_back_too_often_is_dead_lettered_without_its_count() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let dead = client.own_queue();
    let arguments = [
        ("x-delivery-limit", 1.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", FieldValue::long_str(&*dead)),
        ("x-dead-letter-strategy", "at-least-once".into()),
        ("x-max-in-memory-length", 5.into()),
        ("x-quorum-initial-group-size", 3.into()),
    ];
    declare(&mut client, "quorum.limit", &arguments);
    client.publish(1, "quorum.limit", b"poison");
    for count in 0..2 {
        let (delivery_tag, body, counted) = get(&mut client, "quorum.limit");
        assert_eq!((&*body, counted), (&b"poison"[..], Some(count)));
        client.send(1, &basic::Reject { delivery_tag, requeue: true });
    }
    client.call(1, &basic::Get { queue: "quorum.limit", no_ack: true }, "basic.get-empty");
    let letter = client.call(1, &basic::Get { queue: &dead, no_ack: true }, "basic.get-ok");
    let headers = letter.properties().headers.unwrap();
    assert!(headers.get("x-delivery-count").is_none());
    let reason = headers.get("x-first-death-reason").and_then(FieldValue::as_str);
    assert_eq!(reason, Some("delivery_limit"));
    client.call(1, &queue::Delete { queue: "quorum.limit", ..Default::default() }, "queue.delete-ok");
}

#[test]
fn counts_and_messages_of_a_quorum_queue_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = Broker::with_data(folder.path());
        let mut client = broker.client();
        declare(&mut client, "quorum.kept", &[("x-delivery-limit", 9.into())]);
        client.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
        // Not persistent by itself: the queue keeps it all the same.
        for body in [&b"one"[..], b"two"] {
            let publish = basic::Publish { routing_key: "quorum.kept", ..basic::Publish::default() };
            client.put_publish(1, &publish, &BasicProperties::default(), body);
            client.flush();
            client.expect("basic.ack");
        }
        for _ in 0..2 {
            let (delivery_tag, ..) = get(&mut client, "quorum.kept");
            client.send(1, &basic::Reject { delivery_tag, requeue: true });
        }
        // A confirm of a later message says that the returns are on disk too.
        let publish = basic::Publish { routing_key: "quorum.kept", ..basic::Publish::default() };
        client.put_publish(1, &publish, &BasicProperties::default(), b"three");
        client.flush();
        client.expect("basic.ack");
    }
    let broker = Broker::with_data(folder.path());
    let mut client = broker.client();
    for (body, count) in [(&b"one"[..], 2), (b"two", 0), (b"three", 0)] {
        let (_, seen, counted) = get(&mut client, "quorum.kept");
        assert_eq!((&*seen, counted), (body, Some(count)));
    }
}

#[test]
fn what_quorum_queues_do_not_support_is_refused_with_rabbitmqs_words() {
    let broker = Broker::shared();
    let mut client = broker.client();
    declare(&mut client, "quorum.sac", &[("x-single-active-consumer", true.into())]);
    client.send(1, &basic::Get { queue: "quorum.sac", no_ack: true });
    let text = "RESOURCE_LOCKED - cannot obtain access to locked queue 'quorum.sac' in vhost '/'. basic.get operations \
                are not supported by quorum queues with single active consumer";
    assert_eq!(client.expect("channel.close").close(), (405, text.to_owned()));
    client.send(1, &channel::CloseOk);
    for (if_unused, flag) in [(true, "if-unused"), (false, "if-empty")] {
        let mut client = broker.client();
        let delete = queue::Delete { queue: "quorum.sac", if_unused, if_empty: !if_unused, nowait: false };
        client.send(1, &delete);
        let text = format!(
            "NOT_IMPLEMENTED - cannot delete queue 'quorum.sac' in vhost '/'. queue.delete operations with {flag} flag \
             set are not supported by quorum queues"
        );
        assert_eq!(client.expect("connection.close").close(), (540, text));
    }
    let mut client = broker.client();
    client.call(1, &basic::Qos { prefetch_size: 0, prefetch_count: 5, global: true }, "basic.qos-ok");
    client.send(1, &basic::Consume { queue: "quorum.sac", ..basic::Consume::default() });
    let text = "NOT_IMPLEMENTED - queue 'quorum.sac' in vhost '/' does not support global qos";
    assert_eq!(client.expect("connection.close").close(), (540, text.to_owned()));
    let mut client = broker.client();
    client.call(1, &queue::Delete { queue: "quorum.sac", ..Default::default() }, "queue.delete-ok");
}
