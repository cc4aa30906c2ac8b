//! The exchange type `x-delayed-message`, as RabbitMQ's plugin has it. RabbitMQ itself comes without that plugin
//! and refuses the type: that is what each test states there.

use amqp::content::BasicProperties;
use amqp::method::{basic, exchange, tx};
use amqp::table::FieldValue;
use harness::node::Node;
use harness::scratch::Scratch;
use harness::wire::{Client, name};
use harness::{against_rabbitmq, args, table};
use std::time::{Duration, Instant};

/// A client, where there are delays; on RabbitMQ the type is refused, and there is none.
fn delaying() -> Option<Client> {
    let mut client = crate::client();
    if !against_rabbitmq() {
        return Some(client);
    }
    let arguments = args! { "x-delayed-type" => "direct" };
    let text = "unknown exchange type 'x-delayed-message'";
    client.fatal(1, delayed("delayed", &arguments), 503, text);
    None
}

fn delayed<'a>(exchange: &'a str, arguments: &'a harness::wire::Args) -> exchange::Declare<'a> {
    let arguments = arguments.table();
    exchange::Declare { exchange, kind: "x-delayed-message", arguments, ..Default::default() }
}

/// Declares an exchange that delays and then is one of this kind.
fn declare(client: &mut Client, exchange: &str, kind: &str, durable: bool) {
    let arguments = args! { "x-delayed-type" => kind };
    let declare = exchange::Declare { durable, ..delayed(exchange, &arguments) };
    client.call(1, declare, "exchange.declare-ok");
}

fn delete(client: &mut Client, exchange: &str) {
    client.call(1, exchange::Delete { exchange, ..Default::default() }, "exchange.delete-ok");
}

/// Publishes a persistent message; as `mandatory`, because what is delayed never comes back.
fn publish(client: &mut Client, exchange: &str, routing_key: &str, delay: impl Into<FieldValue>, body: &str) {
    let headers = Some(table! { "x-delay" => delay.into() });
    let properties = BasicProperties { headers, delivery_mode: Some(2), ..Default::default() };
    let publish = basic::Publish { exchange, routing_key, mandatory: true, ..Default::default() };
    client.put_publish(1, &publish, &properties, body.as_bytes());
    client.flush();
}

/// The next delivery: its body, and the delay that it says it had.
fn delivery(client: &mut Client) -> (String, Option<FieldValue>) {
    let received = client.expect("basic.deliver");
    (received.text().to_owned(), received.headers().get("x-delay").cloned())
}

/// A delay that is over, as messages tell of it.
fn over(milliseconds: i32) -> Option<FieldValue> {
    Some(FieldValue::SignedInt(-milliseconds))
}

fn at_least(milliseconds: u64, since: Instant) {
    let after = since.elapsed();
    assert!(after >= Duration::from_millis(milliseconds), "{after:?} instead of {milliseconds} ms");
}

#[test]
fn messages_come_when_their_delay_is_over_by_the_bindings_of_then() {
    let Some(mut client) = delaying() else { return };
    let exchange = name("delayed");
    declare(&mut client, &exchange, "topic", false);
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    let start = Instant::now();
    publish(&mut client, &exchange, "a.b", 900, "last");
    publish(&mut client, &exchange, "a.b", 600i64, "first");
    publish(&mut client, &exchange, "x", 100, "nowhere");
    // Bound after the publish.
    client.bind(1, &queue, &exchange, "a.*");
    assert_eq!(delivery(&mut client), ("first".to_owned(), over(600)));
    at_least(600, start);
    assert_eq!(delivery(&mut client), ("last".to_owned(), over(900)));
    at_least(900, start);
}

#[test]
fn without_a_delay_that_makes_sense_messages_go_at_once_and_untouched() {
    let Some(mut client) = delaying() else { return };
    let exchange = name("delayed");
    declare(&mut client, &exchange, "topic", false);
    let queue = client.own_queue();
    client.bind(1, &queue, &exchange, "a.*");
    client.consume(1, &queue, "c", true);
    let senseless =
        [FieldValue::SignedInt(0), FieldValue::SignedInt(-9), "soon".into(), FieldValue::Long(1 << 32)];
    for value in senseless {
        publish(&mut client, &exchange, "a.c", value.clone(), "now");
        assert_eq!(delivery(&mut client), ("now".to_owned(), Some(value)));
    }
}

#[test]
fn a_delayed_message_is_confirmed_at_once_and_copies_go_their_ways() {
    let Some(mut client) = delaying() else { return };
    let exchange = name("delayed");
    declare(&mut client, &exchange, "direct", true);
    let (one, two) = (client.own_queue(), client.own_queue());
    client.bind(1, &one, &exchange, "one");
    client.bind(1, &two, &exchange, "two");
    client.confirm(1);
    let headers = table! { "x-delay" => 500, "BCC" => vec![FieldValue::long_str("two")] };
    let properties = BasicProperties { headers: Some(headers), delivery_mode: Some(2), ..Default::default() };
    let start = Instant::now();
    client.publish_with(1, &exchange, "one", &properties, b"copy");
    client.expect("basic.ack");
    for queue in [&one, &two] {
        let copy = client.get_soon(1, queue);
        at_least(500, start);
        assert_eq!(copy.text(), "copy");
        assert!(!copy.headers().contains("BCC"));
    }
    delete(&mut client, &exchange);
}

#[test]
fn a_transaction_and_another_exchange_lead_to_a_delay_too() {
    let Some(mut client) = delaying() else { return };
    let (front, behind) = (name("front"), name("delayed"));
    declare(&mut client, &behind, "fanout", false);
    client.exchange(1, &front, "fanout");
    let chain = exchange::Bind { destination: &behind, source: &front, ..Default::default() };
    client.call(1, chain, "exchange.bind-ok");
    let queue = client.own_queue();
    client.bind(1, &queue, &behind, "");
    client.consume(1, &queue, "c", true);
    client.call(1, tx::Select, "tx.select-ok");
    publish(&mut client, &front, "", 50, "forgotten");
    client.call(1, tx::Rollback, "tx.rollback-ok");
    publish(&mut client, &front, "", 150, "kept");
    let start = Instant::now();
    client.call(1, tx::Commit, "tx.commit-ok");
    assert_eq!(delivery(&mut client), ("kept".to_owned(), over(150)));
    at_least(150, start);
}

#[test]
fn an_exchange_that_goes_takes_its_delayed_messages_along() {
    let Some(mut client) = delaying() else { return };
    let exchange = name("delayed");
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    for _ in 0..2 {
        declare(&mut client, &exchange, "fanout", false);
        client.bind(1, &queue, &exchange, "");
        publish(&mut client, &exchange, "", 500, "gone");
        delete(&mut client, &exchange);
    }
    // One of the same name does not get them either.
    declare(&mut client, &exchange, "fanout", false);
    client.bind(1, &queue, &exchange, "");
    client.expect_silence(Duration::from_millis(800));
    publish(&mut client, &exchange, "", 1, "new");
    assert_eq!(delivery(&mut client), ("new".to_owned(), over(1)));
}

#[test]
fn a_declare_with_another_delayed_type_or_none_is_refused() {
    let Some(mut client) = delaying() else { return };
    let exchange = name("delayed");
    declare(&mut client, &exchange, "fanout", false);
    let text = format!(
        "inequivalent arg 'x-delayed-type' for exchange '{exchange}' in vhost '/': received 'topic' but current is \
         'fanout'"
    );
    client.refused(1, delayed(&exchange, &args! { "x-delayed-type" => "topic" }), 406, &text);
    let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    client.refused(1, delayed(&name("delayed"), &args! {}), 406, text);
}

#[test]
fn delayed_messages_survive_a_kill_and_come_at_their_time_or_at_once() {
    if delaying().is_none() {
        return;
    }
    let scratch = Scratch::new("conformance-delayed").unwrap();
    let mut node = Node::start(scratch.path()).unwrap();
    let mut client = Client::new(node.port);
    declare(&mut client, "delays", "direct", true);
    client.declare(1, &amqp::method::queue::Declare { queue: "kept", durable: true, ..Default::default() });
    client.bind(1, "kept", "delays", "k");
    client.confirm(1);
    let start = Instant::now();
    for (delay, body) in [(8000, "later"), (1000, "overdue"), (1, "done")] {
        publish(&mut client, "delays", "k", delay, body);
        client.expect("basic.ack");
    }
    client.wait_ready(1, "kept", 1);
    // Down while the second delay ends.
    node.process.kill();
    std::thread::sleep(Duration::from_secs(1));
    let node = node.crash_and_restart().unwrap();
    let mut client = Client::new(node.port);
    client.consume(1, "kept", "c", true);
    let mut early = [delivery(&mut client), delivery(&mut client)];
    early.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(early, [("done".to_owned(), over(1)), ("overdue".to_owned(), over(1000))]);
    assert_eq!(delivery(&mut client), ("later".to_owned(), over(8000)));
    at_least(8000, start);
    client.expect_nothing(1, "kept");
    drop(node);
    scratch.passed();
}
