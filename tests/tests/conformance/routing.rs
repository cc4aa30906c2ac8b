//! Routing: bindings of every type of exchange, exchanges behind exchanges, alternate exchanges, CC and BCC.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{basic, exchange, queue};
use amqp::table::{FieldTable, FieldValue};
use harness::wire::{Args, Client, name, ours_or_theirs, queue_in};
use harness::{args, table};

/// A client with a queue and an exchange of this type.
fn start(kind: &str) -> (Client, String, String) {
    let mut client = client();
    let (queue, exchange) = (client.own_queue(), name(kind));
    client.exchange(1, &exchange, kind);
    (client, queue, exchange)
}

fn with_headers(headers: FieldTable) -> BasicProperties {
    BasicProperties { headers: Some(headers), ..Default::default() }
}

fn list(words: &[&str]) -> FieldValue {
    FieldValue::Array(words.iter().map(|it| FieldValue::long_str(*it)).collect())
}

#[test]
fn several_bindings_that_match_bring_one_copy() {
    let (mut client, queue, exchange) = start("topic");
    client.bind(1, &queue, &exchange, "a.*");
    client.bind(1, &queue, &exchange, "a.*");
    client.bind(1, &queue, &exchange, "#");
    client.publish_to(1, &exchange, "a.b", b"once");
    assert_eq!(client.drain(1, &queue), ["once"]);
    // Twice bound is bound once.
    for routing_key in ["a.*", "#"] {
        let unbind = queue::Unbind { queue: &queue, exchange: &exchange, routing_key, ..Default::default() };
        client.call(1, unbind, "queue.unbind-ok");
    }
    client.publish_mandatory(1, "", &queue, b"the default exchange needs no binding");
    assert!(client.get(1, &queue).is_some());
}

#[test]
fn topic_patterns() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("a.b", &["a.b"], &["a", "a.b.c", "", "a.B"]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c"]),
        ("*.b", &["a.b", ".b"], &["b", "a.b.c"]),
        ("#", &["", "a", "a.b.c", ".", "a..b"], &[]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "", "ab"]),
        ("#.b", &["b", "a.b", "x.y.b"], &["a", "b.c"]),
        ("a.#.z", &["a.z", "a.b.z", "a.b.c.z"], &["a", "z", "a.zz"]),
        ("*", &["a"], &["a.b", ""]),
        ("#.#", &["", "a", "a.b"], &[]),
        ("*.#", &["a", "a.b"], &[""]),
        ("#.*", &["a", "a.b"], &[""]),
        ("*.*.#", &["a.b", "a.b.c"], &["a"]),
        ("a.*.#.b", &["a.x.b", "a.x.y.b"], &["a.b", "a.x"]),
        ("a.#.*", &["a.b", "a.b.c"], &["a", "b.c"]),
        ("", &[""], &["a"]),
        ("a*.b", &["a*.b"], &["ax.b"]),
        ("#a", &["#a"], &["a", "xa"]),
        ("#.a.#", &["a", "x.a", "a.x", "x.a.y.a"], &["x", ""]),
        ("*.*", &["a.b", "."], &["a", "a.b.c"]),
    ];
    for (pattern, yes, no) in rows {
        let (mut client, queue, exchange) = start("topic");
        client.bind(1, &queue, &exchange, pattern);
        for key in yes.iter().chain(*no) {
            client.publish_to(1, &exchange, key, key.as_bytes());
        }
        assert_eq!(client.drain(1, &queue), *yes, "{pattern}");
    }
}

#[test]
fn direct_and_fanout() {
    let (mut client, queue, exchange) = start("direct");
    client.bind(1, &queue, &exchange, "key");
    client.bind(1, &queue, &exchange, "");
    for key in ["key", "Key", "ke", "key.", "", "#"] {
        client.publish_to(1, &exchange, key, key.as_bytes());
    }
    assert_eq!(client.drain(1, &queue), ["key", ""]);
    let (mut client, queue, exchange) = start("fanout");
    client.bind(1, &queue, &exchange, "ignored");
    client.publish_to(1, &exchange, "any", b"1");
    client.publish_to(1, &exchange, "", b"2");
    assert_eq!(client.drain(1, &queue), ["1", "2"]);
}

#[test]
fn headers_bindings() {
    let void = FieldValue::Void;
    let rows: Vec<(Args, FieldTable, bool)> = vec![
        (args! { "a" => 1, "b" => 2 }, table! { "a" => 1, "b" => 2, "c" => 3 }, true),
        (args! { "a" => 1, "b" => 2 }, table! { "a" => 1 }, false),
        (args! { "x-match" => "all", "a" => 1 }, table! { "a" => 2 }, false),
        (args! { "x-match" => "any", "a" => 1, "b" => 2 }, table! { "b" => 2 }, true),
        (args! { "x-match" => "any", "a" => 1, "b" => 2 }, table! { "b" => 3 }, false),
        (args! { "x-match" => "any", "a" => 1, "b" => 2 }, table! {}, false),
        (args! { "x-match" => "all" }, table! {}, true),
        (args! {}, table! { "a" => 1 }, true),
        (args! { "x-match" => "any" }, table! { "a" => 1 }, false),
        (args! { "a" => void.clone() }, table! { "a" => "whatever" }, true),
        (args! { "a" => void.clone() }, table! { "b" => "whatever" }, false),
        (args! { "x-match" => "any", "a" => void.clone() }, table! { "a" => 7 }, true),
        (args! { "a" => 1 }, table! { "a" => "1" }, false),
        (args! { "a" => true }, table! { "a" => true }, true),
        (args! { "a" => "" }, table! { "a" => "" }, true),
        (args! { "x-a" => 1 }, table! { "x-a" => 2 }, true),
        (args! { "x-match" => "any", "x-a" => 1 }, table! { "x-a" => 1 }, false),
        (args! { "x-match" => "all-with-x", "x-a" => 1 }, table! { "x-a" => 1 }, true),
        (args! { "x-match" => "all-with-x", "x-a" => 1 }, table! { "x-a" => 2 }, false),
        (args! { "x-match" => "any-with-x", "x-a" => 1, "b" => 1 }, table! { "x-a" => 1 }, true),
        (args! { "x-match" => "any-with-x", "x-a" => 1, "b" => 1 }, table! { "x-a" => 2 }, false),
    ];
    for (index, (arguments, headers, matches)) in rows.into_iter().enumerate() {
        let (mut client, queue, exchange) = start("headers");
        client.bind_with(1, &queue, &exchange, "", &arguments);
        client.publish_with(1, &exchange, "", &with_headers(headers), b"x");
        assert_eq!(client.get(1, &queue).is_some(), matches, "row {index}");
    }
    // Without headers at all.
    let (mut client, queue, exchange) = start("headers");
    client.bind_with(1, &queue, &exchange, "", &args! { "x-match" => "all", "a" => 1 });
    client.publish_to(1, &exchange, "", b"x");
    assert!(client.get(1, &queue).is_none());
}

#[test]
fn headers_bindings_that_make_no_sense_are_406() {
    let (mut client, queue, exchange) = start("headers");
    for (arguments, text) in [
        (args! { "x-match" => 1 }, "Invalid x-match field type signedint (value 1); expected longstr"),
        (
            args! { "x-match" => "some" },
            "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
        ),
    ] {
        let arguments = arguments.table();
        let bind = queue::Bind { queue: &queue, exchange: &exchange, arguments, ..Default::default() };
        client.refused(1, bind, 406, text);
    }
}

#[test]
fn a_binding_is_its_arguments_too() {
    let (mut client, queue, exchange) = start("headers");
    client.bind_with(1, &queue, &exchange, "", &args! { "x-match" => "all", "v" => "1" });
    let other = args! { "x-match" => "all", "v" => "2" };
    let arguments = other.table();
    let unbind = queue::Unbind { queue: &queue, exchange: &exchange, routing_key: "", arguments };
    client.call(1, unbind, "queue.unbind-ok");
    client.publish_with(1, &exchange, "", &with_headers(table! { "v" => "1" }), b"x");
    assert!(client.get(1, &queue).is_some());
}

#[test]
fn binding_what_is_missing_is_404_and_unbinding_it_is_fine() {
    let (mut client, queue, exchange) = start("direct");
    let missing = name("missing");
    let no_exchange = format!("no exchange '{missing}' in vhost '/'");
    let bind = queue::Bind { queue: &queue, exchange: &missing, routing_key: "k", ..Default::default() };
    client.refused(1, bind, 404, &no_exchange);
    let bind = queue::Bind { queue: &missing, exchange: &exchange, routing_key: "k", ..Default::default() };
    client.refused(1, bind, 404, &format!("no {}", queue_in(&missing)));
    let bind = exchange::Bind { destination: &missing, source: &exchange, ..Default::default() };
    client.refused(1, bind, 404, &no_exchange);
    let bind = exchange::Bind { destination: &exchange, source: &missing, ..Default::default() };
    client.refused(1, bind, 404, &no_exchange);
    for (queue, exchange) in [(&*queue, &*exchange), (&missing, &exchange), (&queue, &missing)] {
        let unbind = queue::Unbind { queue, exchange, routing_key: "never", ..Default::default() };
        client.call(1, unbind, "queue.unbind-ok");
    }
    let unbind = exchange::Unbind { destination: &missing, source: &exchange, ..Default::default() };
    client.call(1, unbind, "exchange.unbind-ok");
}

#[test]
fn an_empty_queue_and_key_in_a_binding_are_the_last_declared_queue() {
    let (mut client, _, exchange) = start("direct");
    let last = client.own_queue();
    client.bind(1, "", &exchange, "");
    client.publish_to(1, &exchange, &last, b"x");
    assert_eq!(client.get(1, &last).unwrap().text(), "x");
}

#[test]
fn bindings_go_with_their_queue() {
    let mut client = client();
    let queue = name("q");
    let declare = queue::Declare { queue: &queue, ..Default::default() };
    client.declare(1, &declare);
    client.bind(1, &queue, "amq.direct", &queue);
    client.delete_queue(1, &queue);
    client.declare(1, &declare);
    client.publish_mandatory(1, "amq.direct", &queue, b"x");
    client.expect("basic.return");
    client.delete_queue(1, &queue);
}

#[test]
fn a_consistent_hash_sends_a_key_to_one_queue_always() {
    const KEYS: u32 = 300;
    let (mut client, one, exchange) = start("x-consistent-hash");
    let two = client.own_queue();
    client.bind(1, &one, &exchange, "1");
    client.bind(1, &two, &exchange, "3");
    for _ in 0..2 {
        for key in 0..KEYS {
            client.publish_to(1, &exchange, &format!("key {key}"), key.to_string().as_bytes());
        }
    }
    let mut seen = [client.drain(1, &one), client.drain(1, &two)];
    assert_eq!(seen[0].len() + seen[1].len(), 2 * KEYS as usize);
    // A quarter goes to the first, by its weight.
    assert!((40..=300).contains(&seen[0].len()), "{}", seen[0].len());
    for bodies in &mut seen {
        bodies.sort();
        assert!(bodies.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "both of a key");
    }
    // Its binding key is a weight.
    let bind = queue::Bind { queue: &one, exchange: &exchange, routing_key: "heavy", ..Default::default() };
    client.send(1, bind);
    assert_eq!(client.expect("channel.close").close().code, 406);
}

#[test]
fn a_hash_of_what_is_no_text_is_refused() {
    let mut client = client();
    let exchange = name("x");
    let arguments = args! { "hash-header" => 1 };
    let declare = exchange::Declare {
        exchange: &exchange,
        kind: "x-consistent-hash",
        arguments: arguments.table(),
        ..Default::default()
    };
    client.send(1, declare);
    let answer = client.receive().unwrap();
    assert_eq!(
        (answer.name(), answer.close().code),
        ours_or_theirs(("channel.close", 406), ("connection.close", 541))
    );
}

#[test]
fn exchanges_behind_exchanges_keep_address_and_key() {
    let (mut client, queue, source) = start("topic");
    let destination = name("fanout");
    client.exchange(1, &destination, "fanout");
    let bind = exchange::Bind {
        destination: &destination,
        source: &source,
        routing_key: "k.*",
        ..Default::default()
    };
    client.call(1, bind, "exchange.bind-ok");
    client.bind(1, &queue, &destination, "");
    client.publish_to(1, &source, "k.1", b"in");
    client.publish_to(1, &source, "other", b"out");
    let got = client.get(1, &queue).unwrap();
    assert_eq!((got.text(), got.address()), ("in", (&*source, "k.1")));
    assert!(client.get(1, &queue).is_none());
    let unbind = exchange::Unbind {
        destination: &destination,
        source: &source,
        routing_key: "k.*",
        ..Default::default()
    };
    client.call(1, unbind, "exchange.unbind-ok");
    // The source had no other binding and was auto-delete.
    client.publish_to(1, &source, "k.1", b"gone");
    client.expect_channel_close(1, 404, &format!("no exchange '{source}' in vhost '/'"), (60, 40));
}

#[test]
fn exchanges_in_a_circle_deliver_once() {
    let (mut client, queue, one) = start("fanout");
    let two = name("fanout");
    client.exchange(1, &two, "fanout");
    for (source, destination) in [(&one, &two), (&two, &one), (&one, &one)] {
        let bind = exchange::Bind { destination, source, ..Default::default() };
        client.call(1, bind, "exchange.bind-ok");
    }
    client.bind(1, &queue, &one, "");
    client.bind(1, &queue, &two, "");
    client.publish_to(1, &one, "", b"once");
    assert_eq!(client.drain(1, &queue), ["once"]);
}

#[test]
fn an_alternate_exchange_gets_what_goes_nowhere() {
    let (mut client, queue, alternate) = start("fanout");
    client.bind(1, &queue, &alternate, "");
    let (first, mine) = (name("direct"), client.own_queue());
    let arguments = args! { "alternate-exchange" => alternate.as_str() };
    let declare = exchange::Declare {
        exchange: &first,
        kind: "direct",
        auto_delete: true,
        arguments: arguments.table(),
        ..Default::default()
    };
    client.call(1, declare, "exchange.declare-ok");
    client.bind(1, &mine, &first, "known");
    client.publish_mandatory(1, &first, "known", b"1");
    client.publish_mandatory(1, &first, "unknown", b"2");
    let got = client.get(1, &queue).unwrap();
    assert_eq!((got.text(), got.address()), ("2", (&*first, "unknown")));
    assert_eq!(client.drain(1, &mine), ["1"]);
    // It is gone: what goes nowhere is returned.
    client.delete_queue(1, &queue);
    client.publish_mandatory(1, &first, "unknown", b"3");
    assert_eq!(client.expect("basic.return").text(), "3");
}

#[test]
fn alternate_exchanges_in_a_circle_end() {
    let mut client = client();
    let (one, two) = (name("x"), name("x"));
    for (exchange, other) in [(&one, &two), (&two, &one)] {
        let arguments = args! { "alternate-exchange" => other.as_str() };
        let arguments = arguments.table();
        let declare = exchange::Declare { exchange, kind: "direct", arguments, ..Default::default() };
        client.call(1, declare, "exchange.declare-ok");
    }
    client.publish_mandatory(1, &one, "k", b"x");
    client.expect("basic.return");
    for exchange in [&one, &two] {
        client.call(1, exchange::Delete { exchange, ..Default::default() }, "exchange.delete-ok");
    }
}

#[test]
fn copies_go_to_more_keys_and_blind_ones_are_not_told() {
    let mut client = client();
    let queues: Vec<String> = (0..4).map(|_| client.own_queue()).collect();
    let headers = table! { "CC" => list(&[&queues[1], &queues[0]]), "BCC" => list(&[&queues[2]]), "n" => 1 };
    client.publish_with(1, "", &queues[0], &with_headers(headers), b"x");
    for queue in &queues[..3] {
        let got = client.get(1, queue).unwrap();
        assert_eq!(got.address(), ("", &*queues[0]));
        let headers = got.headers();
        assert!(headers.get("BCC").is_none() && headers.get("CC").is_some() && headers.get("n").is_some());
        assert!(client.get(1, queue).is_none(), "one copy each");
    }
    assert!(client.get(1, &queues[3]).is_none());
    for header in ["CC", "BCC"] {
        client.publish_with(1, "", &queues[0], &with_headers(table! { header => "text" }), b"x");
        let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",longstr}}");
        client.expect_channel_close(1, 406, &text, (60, 40));
    }
}

#[test]
fn bindings_may_mix_durable_and_transient() {
    let mut client = client();
    let (exchange, queue) = (name("x"), client.own_queue());
    let declare =
        exchange::Declare { exchange: &exchange, kind: "direct", durable: true, ..Default::default() };
    client.call(1, declare, "exchange.declare-ok");
    client.bind(1, &queue, &exchange, "k");
    client.send(1, basic::Qos::default());
    client.expect("basic.qos-ok");
    client.call(1, exchange::Delete { exchange: &exchange, ..Default::default() }, "exchange.delete-ok");
}
