//! Exchanges: declaring, comparing, deleting, and going by themselves.

use crate::client;
use amqp::method::{basic, exchange, queue};
use harness::args;
use harness::wire::{Args, Client, name};

/// An exchange as texts of errors name it.
fn exchange_in(name: &str) -> String {
    format!("exchange '{name}' in vhost '/'")
}

fn passive(name: &str) -> exchange::Declare<'_> {
    exchange::Declare { exchange: name, passive: true, ..Default::default() }
}

fn delete(name: &str) -> exchange::Delete<'_> {
    exchange::Delete { exchange: name, ..Default::default() }
}

fn is_gone(client: &mut Client, exchange: &str) {
    client.refused(1, passive(exchange), 404, &format!("no {}", exchange_in(exchange)));
}

#[test]
fn every_type_can_be_declared_again_checked_and_deleted() {
    let mut client = client();
    for kind in ["direct", "fanout", "topic", "headers"] {
        let exchange = name(kind);
        client.exchange(1, &exchange, kind);
        client.exchange(1, &exchange, kind);
        client.call(1, passive(&exchange), "exchange.declare-ok");
        client.call(1, delete(&exchange), "exchange.delete-ok");
        is_gone(&mut client, &exchange);
    }
}

#[test]
fn every_vhost_has_the_predeclared_ones() {
    let mut client = client();
    for (exchange, kind, internal) in [
        ("amq.direct", "direct", false),
        ("amq.fanout", "fanout", false),
        ("amq.topic", "topic", false),
        ("amq.headers", "headers", false),
        ("amq.match", "headers", false),
        ("amq.rabbitmq.trace", "topic", true),
    ] {
        let declare = exchange::Declare { exchange, kind, durable: true, internal, ..Default::default() };
        client.call(1, declare, "exchange.declare-ok");
        client.call(1, passive(exchange), "exchange.declare-ok");
    }
}

#[test]
fn a_passive_declaration_looks_at_nothing_but_the_name() {
    let mut client = client();
    let arguments = args! { "alternate-exchange" => "x" };
    let declare = exchange::Declare {
        exchange: "amq.direct",
        kind: "no-such-type",
        passive: true,
        auto_delete: true,
        internal: true,
        arguments: arguments.table(),
        ..Default::default()
    };
    client.call(1, declare, "exchange.declare-ok");
}

/// First and second declaration of one name, and what is said about the second.
type Row<'a> = (exchange::Declare<'a>, exchange::Declare<'a>, &'a str, &'a str);

#[test]
fn a_declaration_that_differs_is_406() {
    let mut client = client();
    let (a, b) = (args! { "alternate-exchange" => "a" }, args! { "alternate-exchange" => "b" });
    let plain = exchange::Declare { kind: "direct", ..Default::default() };
    let with = |arguments: &'static Args| exchange::Declare { arguments: arguments.table(), ..plain };
    let (a, b): (&'static Args, &'static Args) = (Box::leak(Box::new(a)), Box::leak(Box::new(b)));
    let rows: &[Row<'_>] = &[
        (
            plain,
            exchange::Declare { kind: "fanout", ..plain },
            "type",
            "received 'fanout' but current is 'direct'",
        ),
        (
            plain,
            exchange::Declare { durable: true, ..plain },
            "durable",
            "received 'true' but current is 'false'",
        ),
        (
            exchange::Declare { auto_delete: true, ..plain },
            plain,
            "auto_delete",
            "received 'false' but current is 'true'",
        ),
        (
            plain,
            exchange::Declare { internal: true, ..plain },
            "internal",
            "received 'true' but current is 'false'",
        ),
        (with(a), with(b), "alternate-exchange", "received 'b' but current is 'a'"),
        (
            plain,
            with(b),
            "alternate-exchange",
            "received the value 'b' of type 'longstr' but current is none",
        ),
        (
            with(a),
            plain,
            "alternate-exchange",
            "received none but current is the value 'a' of type 'longstr'",
        ),
    ];
    for (first, second, argument, text) in rows {
        let exchange = name("x");
        let (first, second) = (
            exchange::Declare { exchange: &exchange, ..*first },
            exchange::Declare { exchange: &exchange, ..*second },
        );
        client.call(1, first, "exchange.declare-ok");
        let text = format!("inequivalent arg '{argument}' for {}: {text}", exchange_in(&exchange));
        client.refused(1, second, 406, &text);
        client.call(1, delete(&exchange), "exchange.delete-ok");
    }
}

#[test]
fn other_arguments_are_not_compared() {
    let mut client = client();
    let exchange = name("x");
    for arguments in [args! { "foo" => "a" }, args! { "foo" => "b" }, args! {}] {
        let arguments = arguments.table();
        let declare =
            exchange::Declare { exchange: &exchange, kind: "direct", arguments, ..Default::default() };
        client.call(1, declare, "exchange.declare-ok");
    }
    client.call(1, delete(&exchange), "exchange.delete-ok");
}

#[test]
fn what_cannot_be_declared() {
    let mut client = client();
    let exchange = name("x");
    let declare = exchange::Declare { exchange: &exchange, kind: "direct", ..Default::default() };
    let wrong = args! { "alternate-exchange" => 1 };
    let with_wrong = exchange::Declare { arguments: wrong.table(), ..declare };
    let text = format!("invalid type 'signedint' for arg 'alternate-exchange' in {}", exchange_in(&exchange));
    client.refused(1, with_wrong, 406, &text);
    let reserved = format!("amq.{exchange}");
    let text = format!("exchange name '{reserved}' contains reserved prefix 'amq.*'");
    client.refused(1, exchange::Declare { exchange: &reserved, ..declare }, 403, &text);
    is_gone(&mut client, &exchange);
    is_gone(&mut client, &reserved);
    let unknown = exchange::Declare { kind: "no-such-type", ..declare };
    client.fatal(1, unknown, 503, "unknown exchange type 'no-such-type'");
}

#[test]
fn the_default_exchange_is_nobodys() {
    let mut client = client();
    let queue = client.own_queue();
    let text = "operation not permitted on the default exchange";
    let declare = exchange::Declare { kind: "direct", durable: true, ..Default::default() };
    client.refused(1, declare, 403, text);
    client.refused(1, passive(""), 403, text);
    client.refused(1, delete(""), 403, text);
    let empty = Args::default();
    let arguments = empty.table();
    let bind = queue::Bind { queue: &queue, routing_key: "k", arguments, ..Default::default() };
    client.refused(1, bind, 403, text);
    let unbind = queue::Unbind { queue: &queue, routing_key: "k", ..Default::default() };
    client.refused(1, unbind, 403, text);
    let bind = exchange::Bind { destination: "amq.fanout", ..Default::default() };
    client.refused(1, bind, 403, text);
    let bind = exchange::Bind { source: "amq.fanout", ..Default::default() };
    client.refused(1, bind, 403, text);
}

#[test]
fn what_can_be_deleted() {
    let mut client = client();
    let text = format!("deletion of system {} not allowed", exchange_in("amq.fanout"));
    client.refused(1, delete("amq.fanout"), 403, &text);
    client.call(1, delete(&name("missing")), "exchange.delete-ok");
    let exchange = name("x");
    let queue = client.own_queue();
    client.exchange(1, &exchange, "direct");
    client.bind(1, &queue, &exchange, "k");
    let if_unused = exchange::Delete { if_unused: true, ..delete(&exchange) };
    client.refused(1, if_unused, 406, &format!("{} in use", exchange_in(&exchange)));
    client.call(1, delete(&exchange), "exchange.delete-ok");
    client.call(
        1,
        exchange::Declare {
            kind: "direct",
            ..exchange::Declare { exchange: &exchange, ..Default::default() }
        },
        "exchange.declare-ok",
    );
    client.call(1, if_unused, "exchange.delete-ok");
    is_gone(&mut client, &exchange);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding() {
    let mut client = client();
    let (exchange, queue) = (name("x"), client.own_queue());
    client.exchange(1, &exchange, "direct");
    client.call(1, passive(&exchange), "exchange.declare-ok");
    client.bind(1, &queue, &exchange, "a");
    client.bind(1, &queue, &exchange, "b");
    let unbind =
        |routing_key| queue::Unbind { queue: &queue, exchange: &exchange, routing_key, ..Default::default() };
    client.call(1, unbind("a"), "queue.unbind-ok");
    client.call(1, passive(&exchange), "exchange.declare-ok");
    client.call(1, unbind("b"), "queue.unbind-ok");
    is_gone(&mut client, &exchange);
}

#[test]
fn auto_delete_exchanges_go_when_their_last_queue_or_source_goes() {
    let mut client = client();
    let (exchange, queue) = (name("x"), client.own_queue());
    client.exchange(1, &exchange, "direct");
    client.bind(1, &queue, &exchange, "a");
    client.delete_queue(1, &queue);
    is_gone(&mut client, &exchange);
    // Of two that are bound the source goes with its last destination.
    let (source, destination) = (name("source"), name("destination"));
    client.exchange(1, &source, "fanout");
    client.exchange(1, &destination, "fanout");
    let bind = exchange::Bind { destination: &destination, source: &source, ..Default::default() };
    client.call(1, bind, "exchange.bind-ok");
    client.call(1, delete(&destination), "exchange.delete-ok");
    is_gone(&mut client, &source);
}

#[test]
fn publishing_to_a_missing_or_internal_exchange_ends_the_channel() {
    let mut client = client();
    let exchange = name("x");
    client.publish_to(1, &exchange, "k", b"x");
    client.expect_channel_close(1, 404, &format!("no {}", exchange_in(&exchange)), (60, 40));
    let declare =
        exchange::Declare { exchange: &exchange, kind: "direct", internal: true, ..Default::default() };
    client.call(1, declare, "exchange.declare-ok");
    client.publish_to(1, &exchange, "k", b"x");
    let text = format!("cannot publish to internal {}", exchange_in(&exchange));
    client.expect_channel_close(1, 403, &text, (60, 40));
    client.call(1, delete(&exchange), "exchange.delete-ok");
}

#[test]
fn requests_without_an_answer_work_and_tell_their_errors() {
    let mut client = client();
    let (exchange, queue) = (name("x"), client.own_queue());
    let declare =
        exchange::Declare { exchange: &exchange, kind: "direct", nowait: true, ..Default::default() };
    client.put(1, declare);
    client.put(
        1,
        queue::Bind {
            queue: &queue,
            exchange: &exchange,
            routing_key: "k",
            nowait: true,
            ..Default::default()
        },
    );
    let publish = basic::Publish { exchange: &exchange, routing_key: "k", ..Default::default() };
    client.put_publish(1, &publish, &Default::default(), b"x");
    assert_eq!(client.get(1, &queue).unwrap().text(), "x");
    client.send(1, exchange::Declare { kind: "fanout", ..declare });
    let text = format!(
        "inequivalent arg 'type' for {}: received 'fanout' but current is 'direct'",
        exchange_in(&exchange)
    );
    client.expect_channel_close(1, 406, &text, (40, 10));
    client.send(1, exchange::Delete { nowait: true, ..delete(&exchange) });
    is_gone(&mut client, &exchange);
}

#[test]
fn names_of_255_octets_and_of_any_script() {
    let mut client = client();
    for exchange in [format!("{:0>255}", name("x")), format!("обмен-{}", name("x"))] {
        client.exchange(1, &exchange, "direct");
        client.call(1, passive(&exchange), "exchange.declare-ok");
        client.call(1, delete(&exchange), "exchange.delete-ok");
    }
}
