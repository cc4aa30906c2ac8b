//! The exchange type `x-delayed-message`, as RabbitMQ's plugin has it.

use crate::client::{Broker, Client};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, channel, confirm, exchange, queue, tx};
use amqp::table::{FieldTable, FieldValue, Table};
use std::time::{Duration, Instant};

fn declare(client: &mut Client, name: &str, kind: &str, durable: bool) {
    let arguments = FieldTable::from_iter([("x-delayed-type".to_owned(), kind.into())]).to_bytes();
    let declare = exchange::Declare {
        exchange: name,
        kind: "x-delayed-message",
        durable,
        arguments: Table::parse(&arguments).unwrap(),
        ..exchange::Declare::default()
    };
    client.call(1, &declare, "exchange.declare-ok");
}

fn bind(client: &mut Client, queue: &str, exchange: &str, routing_key: &str) {
    let bind = queue::Bind { queue, exchange, routing_key, ..queue::Bind::default() };
    client.call(1, &bind, "queue.bind-ok");
}

fn headers(fields: &[(&str, FieldValue)]) -> BasicProperties {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    BasicProperties {
        headers: Some(FieldTable::from_iter(fields)),
        delivery_mode: Some(2),
        ..BasicProperties::default()
    }
}

fn publish(
    client: &mut Client,
    exchange: &str,
    routing_key: &str,
    delay: impl Into<FieldValue>,
    body: &[u8],
) {
    let publish = basic::Publish { exchange, routing_key, mandatory: true, ..basic::Publish::default() };
    client.put_publish(1, &publish, &headers(&[("x-delay", delay.into())]), body);
    client.flush();
}

/// The delay that the next delivery says it had, its body, and the milliseconds since `since`.
fn delivery(client: &mut Client, since: Instant) -> (Option<FieldValue>, Vec<u8>, u128) {
    let received = client.expect("basic.deliver");
    let delay = received.properties().headers.and_then(|headers| headers.get("x-delay").cloned());
    (delay, received.body, since.elapsed().as_millis())
}

#[test]
fn messages_come_when_their_delay_is_over_by_the_bindings_of_then() {
    let broker = Broker::shared();
    let mut client = broker.client();
    declare(&mut client, "delay.order", "topic", false);
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    let start = Instant::now();
    publish(&mut client, "delay.order", "a.b", 600, b"last");
    publish(&mut client, "delay.order", "a.b", 300i64, b"first");
    publish(&mut client, "delay.order", "x", 100, b"nowhere");
    // Bound after the publish.
    bind(&mut client, &queue, "delay.order", "a.*");
    let (delay, body, after) = delivery(&mut client, start);
    assert_eq!((delay, &*body), (Some(FieldValue::SignedInt(-300)), &b"first"[..]));
    assert!((300..590).contains(&after), "{after} ms");
    let (delay, body, after) = delivery(&mut client, start);
    assert_eq!((delay, &*body), (Some(FieldValue::SignedInt(-600)), &b"last"[..]));
    assert!(after >= 600, "{after} ms");
    // No delay, no number, or too long a one: at once and untouched.
    for value in
        [FieldValue::SignedInt(0), FieldValue::SignedInt(-9), "soon".into(), FieldValue::Long(1 << 32)]
    {
        publish(&mut client, "delay.order", "a.c", value.clone(), b"now");
        assert_eq!(delivery(&mut client, start).0, Some(value));
    }
    client.call(1, &exchange::Delete { exchange: "delay.order", ..Default::default() }, "exchange.delete-ok");
}

#[test]
fn a_delayed_message_is_confirmed_and_copies_go_their_ways() {
    let broker = Broker::shared();
    let mut client = broker.client();
    declare(&mut client, "delay.copies", "direct", true);
    let (one, two) = (client.own_queue(), client.own_queue());
    bind(&mut client, &one, "delay.copies", "one");
    bind(&mut client, &two, "delay.copies", "two");
    client.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
    let key = |key: &str| FieldValue::Array(vec![FieldValue::long_str(key)]);
    let copies = headers(&[("x-delay", 200.into()), ("BCC", key("two"))]);
    let publish = basic::Publish { exchange: "delay.copies", routing_key: "one", ..Default::default() };
    client.put_publish(1, &publish, &copies, b"copy");
    client.flush();
    client.expect("basic.ack");
    client.call(1, &basic::Get { queue: &one, no_ack: true }, "basic.get-empty");
    for queue in [&one, &two] {
        client.consume(1, queue, queue, true);
        let seen = client.expect("basic.deliver");
        assert_eq!(seen.body, b"copy");
        assert!(seen.properties().headers.unwrap().get("BCC").is_none());
    }
    client.call(
        1,
        &exchange::Delete { exchange: "delay.copies", ..Default::default() },
        "exchange.delete-ok",
    );
}

#[test]
fn a_transaction_and_another_exchange_lead_to_a_delay_too() {
    let broker = Broker::shared();
    let mut client = broker.client();
    declare(&mut client, "delay.behind", "fanout", false);
    let front = exchange::Declare { exchange: "delay.front", kind: "fanout", ..Default::default() };
    client.call(1, &front, "exchange.declare-ok");
    let chain = exchange::Bind { destination: "delay.behind", source: "delay.front", ..Default::default() };
    client.call(1, &chain, "exchange.bind-ok");
    let queue = client.own_queue();
    bind(&mut client, &queue, "delay.behind", "");
    client.consume(1, &queue, "c", true);
    client.call(1, &tx::Select, "tx.select-ok");
    publish(&mut client, "delay.front", "", 50, b"forgotten");
    client.call(1, &tx::Rollback, "tx.rollback-ok");
    publish(&mut client, "delay.front", "", 150, b"kept");
    let start = Instant::now();
    client.call(1, &tx::Commit, "tx.commit-ok");
    let (delay, body, after) = delivery(&mut client, start);
    assert_eq!((delay, &*body), (Some(FieldValue::SignedInt(-150)), &b"kept"[..]));
    assert!(after >= 149, "{after} ms");
    for exchange in ["delay.front", "delay.behind"] {
        client.call(1, &exchange::Delete { exchange, ..Default::default() }, "exchange.delete-ok");
    }
}

#[test]
fn an_exchange_that_goes_takes_its_delayed_messages_along() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    declare(&mut client, "delay.gone", "fanout", false);
    bind(&mut client, &queue, "delay.gone", "");
    publish(&mut client, "delay.gone", "", 200, b"gone");
    client.call(1, &exchange::Delete { exchange: "delay.gone", ..Default::default() }, "exchange.delete-ok");
    declare(&mut client, "delay.gone", "fanout", false);
    bind(&mut client, &queue, "delay.gone", "");
    client.expect_silence(Duration::from_millis(400));
}

#[test]
fn a_declare_with_another_delayed_type_is_406() {
    let broker = Broker::shared();
    let mut client = broker.client();
    declare(&mut client, "delay.type", "fanout", false);
    let arguments = FieldTable::from_iter([("x-delayed-type".to_owned(), "topic".into())]).to_bytes();
    let other = exchange::Declare {
        exchange: "delay.type",
        kind: "x-delayed-message",
        arguments: Table::parse(&arguments).unwrap(),
        ..Default::default()
    };
    client.send(1, &other);
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange 'delay.type' in vhost '/': \
                received 'topic' but current is 'fanout'";
    assert_eq!(client.expect("channel.close").close(), (406, text.to_owned()));
    client.send(1, &channel::CloseOk);
    client.open(1);
    let without =
        exchange::Declare { exchange: "delay.none", kind: "x-delayed-message", ..Default::default() };
    client.send(1, &without);
    let text = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type";
    assert_eq!(client.expect("channel.close").close(), (406, text.to_owned()));
}

#[test]
fn delayed_messages_survive_a_kill_and_come_at_their_time_or_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    {
        let broker = Broker::with_data(folder.path());
        let mut client = broker.client();
        declare(&mut client, "delay.kill", "direct", true);
        client.declare(1, &queue::Declare { queue: "kept", durable: true, ..queue::Declare::default() });
        bind(&mut client, "kept", "delay.kill", "k");
        client.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
        for (delay, body) in [(8000, "later"), (100, "overdue"), (1, "done")] {
            publish(&mut client, "delay.kill", "k", delay, body.as_bytes());
            client.expect("basic.ack");
        }
        while start.elapsed() < Duration::from_millis(50) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Dropping it kills it.
    }
    std::thread::sleep(Duration::from_millis(150));
    let broker = Broker::with_data(folder.path());
    let mut client = broker.client();
    client.consume(1, "kept", "c", true);
    let mut early = vec![delivery(&mut client, start).1, delivery(&mut client, start).1];
    early.sort_unstable();
    assert_eq!(early, [b"done".to_vec(), b"overdue".to_vec()]);
    let (delay, body, after) = delivery(&mut client, start);
    assert_eq!((delay, &*body), (Some(FieldValue::SignedInt(-8000)), &b"later"[..]));
    assert!(after >= 8000, "{after} ms");
    client.expect_silence(Duration::from_millis(50));
    let Method::QueueDeclareOk(_) = client
        .call(1, &queue::Declare { queue: "kept", passive: true, ..Default::default() }, "queue.declare-ok")
        .method()
    else {
        unreachable!()
    };
}
