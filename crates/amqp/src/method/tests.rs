//! Tests of methods: the table against the standard's facts, malformed arguments, and secrets.

use super::*;
use crate::table::{Table, TableError};
use crate::tests::sample;

/// The shortest payload of a method: every argument empty or zero.
fn shortest(layout: &sample::Layout) -> Vec<u8> {
    let mut out = [layout.class.to_be_bytes(), layout.method.to_be_bytes()].concat();
    let mut bits = 0;
    for (kind, _) in &layout.arguments {
        let size = match kind.as_str() {
            "octet" | "shortstr" => 1,
            "short" => 2,
            "long" | "longstr" | "table" => 4,
            "longlong" => 8,
            "bit" => usize::from(bits % 8 == 0),
            _ => panic!("{kind}"),
        };
        bits = if kind == "bit" { bits + 1 } else { 0 };
        out.resize(out.len() + size, 0);
    }
    out
}

#[test]
fn every_method_of_the_table_is_there_and_self_consistent() {
    for layout in sample::layouts() {
        let payload = shortest(&layout);
        let method = Method::decode(&payload).unwrap();
        assert_eq!(method.name(), layout.name);
        assert_eq!((method.class_id(), method.method_id()), (layout.class, layout.method));
        assert_eq!(method.ids(), (layout.class, layout.method));
        assert_eq!(method.has_content(), layout.content, "{}", layout.name);
        assert_eq!(method.from_client(), layout.from != "server", "{}", layout.name);
        assert_eq!(method.from_server(), layout.from != "client", "{}", layout.name);
        let mut again = Vec::new();
        method.encode(&mut again);
        assert_eq!(again, payload, "{}", layout.name);
        for cut in 4..payload.len() {
            let (class, id) = (layout.class, layout.method);
            let expected = MethodError::Syntax { class, method: id, what: WireError::Truncated };
            assert_eq!(Method::decode(&payload[..cut]), Err(expected), "{} cut at {cut}", layout.name);
        }
        let longer = [&payload[..], b"xy"].concat();
        let (class, id) = (layout.class, layout.method);
        let expected = MethodError::Syntax { class, method: id, what: WireError::Trailing(2) };
        assert_eq!(Method::decode(&longer), Err(expected), "{}", layout.name);
    }
}

#[test]
fn only_the_methods_of_the_table_are_known() {
    let known: Vec<_> = sample::layouts().iter().map(|layout| (layout.class, layout.method)).collect();
    for class in 0..=130u16 {
        for method in 0..=260u16 {
            let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
            let unknown = Method::decode(&payload) == Err(MethodError::UnknownMethod { class, method });
            assert_eq!(unknown, !known.contains(&(class, method)), "({class}, {method})");
        }
    }
    assert_eq!(Method::decode(b"\0\x3c\0"), Err(MethodError::TooShort));
    assert_eq!(MethodError::TooShort.ids(), (0, 0));
}

#[test]
fn content_follows_four_methods() {
    let names: Vec<_> =
        sample::layouts().into_iter().filter(|layout| layout.content).map(|layout| layout.name).collect();
    assert_eq!(names, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
}

// The texts RabbitMQ 3.10 closes with.
#[test]
fn malformed_arguments_are_told_as_rabbitmq_tells_them() {
    let text = |payload: &[u8]| {
        let error = Method::decode(payload).unwrap_err();
        assert_eq!(error.ids(), if payload.contains(&b'U') { (0, 0) } else { (50, 10) });
        error.explanation(payload)
    };
    assert_eq!(text(b"\0\x32\0\x0a\0\0\xff"), "cannot decode <<0,0,255>>");
    assert_eq!(
        text(b"\0\x32\0\x0a\0\0\0\x04\0\0\0\0x"),
        "cannot decode <<0,0,0,4,0,0,0,0,120>>",
        "an octet is left over"
    );
    assert_eq!(text(b"\0\x32\0\x0a\0\0\0\x04\0\0\0\x09"), "cannot decode <<0,0,0,4,0,0,0,9>>");
    assert_eq!(text(b"\0\x32\0\x0a\0\0\x02U\xff\0\0\0\0\0"), "Malformed UTF-8 in shortstr");
    let open = Method::decode(b"\0\x0a\0\x28\x01\xff\0\0").unwrap_err();
    assert_eq!(open.ids(), (10, 40));
}

// Here RabbitMQ 3.10 drops the connection without a close.
#[test]
fn malformed_tables_and_unknown_methods_have_a_text_of_ours() {
    let payload = b"\0\x32\0\x0a\0\0\0\x04\0\0\0\x03\x01kZ";
    let error = Method::decode(payload).unwrap_err();
    let what = WireError::Table(TableError::UnknownType(b'Z'));
    assert_eq!(error, MethodError::Syntax { class: 50, method: 10, what });
    assert_eq!(error.explanation(payload), "cannot decode <<0,0,0,4,0,0,0,3,1,107,90>>");
    let unknown = Method::decode(b"\0\x32\0\x63").unwrap_err();
    assert_eq!(unknown.ids(), (50, 99));
    assert_eq!(unknown.explanation(b"\0\x32\0\x63"), "unknown method (50, 99)");
}

#[test]
fn reserved_arguments_are_skipped_whatever_they_are() {
    // queue.declare with an access ticket, connection.open with capabilities (not UTF-8) and insist.
    let declare = Method::decode(b"\0\x32\0\x0a\x01\x02\x01q\x02\0\0\0\0").unwrap();
    let expected = queue::Declare { queue: "q", durable: true, ..Default::default() };
    assert_eq!(declare, Method::from(expected));
    let open = Method::decode(b"\0\x0a\0\x28\x01/\x02\xff\xfe\x01").unwrap();
    assert_eq!(open, Method::ConnectionOpen(connection::Open { virtual_host: "/" }));
    let mut again = Vec::new();
    open.encode(&mut again);
    assert_eq!(again, b"\0\x0a\0\x28\x01/\0\0");
}

#[test]
fn bits_share_an_octet_from_the_lowest() {
    let exchange = exchange::Declare { exchange: "e", kind: "topic", internal: true, ..Default::default() };
    let mut out = Vec::new();
    Method::from(exchange).encode(&mut out);
    assert_eq!(out, b"\0\x28\0\x0a\0\0\x01e\x05topic\x08\0\0\0\0");
    // Bits nobody has named are ignored, as RabbitMQ ignores them.
    let ack = Method::decode(b"\0\x3c\0\x50\0\0\0\0\0\0\0\x07\xfe").unwrap();
    assert_eq!(ack, Method::BasicAck(basic::Ack { delivery_tag: 7, multiple: false }));
}

#[test]
fn a_short_string_too_long_is_cut_at_a_character() {
    let long = "ü".repeat(200);
    let mut out = Vec::new();
    Method::from(basic::ConsumeOk { consumer_tag: &long }).encode(&mut out);
    let cut = "ü".repeat(127);
    assert_eq!(Method::decode(&out), Ok(Method::from(basic::ConsumeOk { consumer_tag: &cut })));
    out.clear();
    let exact = "x".repeat(255);
    Method::from(basic::ConsumeOk { consumer_tag: &exact }).encode(&mut out);
    assert_eq!(Method::decode(&out), Ok(Method::from(basic::ConsumeOk { consumer_tag: &exact })));
}

#[test]
fn debug_output_keeps_secrets() {
    let response = b"\0user\0pa55word";
    let methods = [
        Method::from(connection::StartOk { response, ..Default::default() }),
        Method::from(connection::Secure { challenge: response }),
        Method::from(connection::SecureOk { response }),
        Method::from(connection::UpdateSecret { new_secret: response, reason: "r" }),
    ];
    for method in methods {
        let debug = format!("{method:?}");
        assert!(debug.contains("(14 octets)"), "{debug}");
        // Neither as text nor as numbers: p is 112.
        assert!(!debug.contains("pa55") && !debug.contains("112"), "{debug}");
    }
}

#[test]
fn tables_are_borrowed_from_the_payload() {
    let mut payload = b"\0\x32\0\x0a\0\0\x01q\x02".to_vec();
    payload.extend_from_slice(b"\0\0\0\x15\x0dx-message-ttlI\0\0\xea\x60");
    payload[12] = 0x13;
    let Ok(Method::QueueDeclare(declare)) = Method::decode(&payload) else { panic!("not a queue.declare") };
    assert_eq!(declare.arguments.get("x-message-ttl").and_then(|ttl| ttl.as_i64()), Some(60_000));
    let range = payload.as_ptr_range();
    assert!(
        range.contains(&declare.arguments.as_bytes().as_ptr()) && range.contains(&declare.queue.as_ptr())
    );
    assert_eq!(declare.arguments, Table::parse(&payload[13..]).unwrap());
}
