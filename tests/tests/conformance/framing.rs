//! Frames that are wrong, or wrong where they are: 501, 503 and 505.

use crate::{client, node};
use amqp::method::{basic, channel, connection, queue};
use harness::args;
use harness::wire::{Client, Login, ours_or_theirs};

/// A publish to nowhere, without its content.
fn publish() -> basic::Publish<'static> {
    basic::Publish { routing_key: "x", ..Default::default() }
}

/// Sends frames (kind, channel, payload) that end the connection.
fn fatal_frames(frames: &[(u8, u16, &[u8])], code: u16, text: &str, at: (u16, u16)) {
    let mut client = client();
    for (kind, number, payload) in frames {
        client.put_frame(*kind, *number, payload);
    }
    client.flush();
    client.expect_connection_close(code, text, at);
}

#[test]
fn frames_of_the_wrong_kind_or_on_the_wrong_channel() {
    fatal_frames(&[(9, 1, b"abc")], 501, r#"type 9, all octets = <<"abc">>: unknown_frame"#, (0, 0));
    fatal_frames(&[(8, 1, b"")], 505, "type 8, all octets = <<>>", (0, 0));
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let text = "expected method frame, got non method frame instead";
    fatal_frames(&[(2, 1, &header)], 505, text, (0, 0));
    fatal_frames(&[(3, 1, b"abc")], 505, text, (0, 0));
    let text = "type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>";
    fatal_frames(&[(2, 0, &header)], 505, text, (0, 0));
    fatal_frames(&[(3, 0, b"abc")], 505, r#"type 3, all octets = <<"abc">>"#, (0, 0));
}

/// Frames (kind, channel, payload) that have no place before the connection is open.
const EARLY: [(u8, u16, &[u8]); 4] =
    [(1, 1, &[0, 20, 0, 10, 0]), (8, 1, b""), (2, 0, &[0; 14]), (3, 1, b"abc")];

#[test]
fn frames_between_tune_ok_and_open_are_505_and_methods_504() {
    let tuned = || {
        let mut client = Client::connect(node().port);
        client.authenticate(&Login::default()).unwrap();
        client.put(0, Login::default().tune_ok());
        client
    };
    let octets = ["<<0,20,0,10,0>>", "<<>>", "<<0,0,0,0,0,0,0,0,0,0,0,0,0,0>>", r#"<<"abc">>"#];
    for ((kind, number, payload), octets) in EARLY.into_iter().zip(octets) {
        let mut client = tuned();
        client.put_frame(kind, number, payload);
        client.flush();
        client.expect_connection_close(505, &format!("type {kind}, all octets = {octets}"), (0, 0));
    }
    let mut client = tuned();
    client.send(0, channel::Open);
    client.expect_connection_close(504, "unexpected method in connection state opening", (20, 10));
}

#[test]
fn frames_out_of_order_during_the_login_end_the_connection() {
    for (kind, number, payload) in EARLY {
        let mut client = Client::connect(node().port);
        client.greet();
        client.put_frame(kind, number, payload);
        client.flush();
        client.expect_end();
        let mut client = Client::connect(node().port);
        client.authenticate(&Login::default()).unwrap();
        client.put_frame(kind, number, payload);
        client.flush();
        client.expect_end();
    }
}

#[test]
fn a_heartbeat_with_a_payload_is_one() {
    let mut client = client();
    client.put_frame(8, 0, b"");
    client.flush();
    client.own_queue();
}

#[test]
fn a_frame_that_does_not_end_as_frames_do_is_501() {
    let mut client = client();
    let mut octets = Vec::new();
    amqp::frame::write_fields(&mut octets, 1, &queue::Declare { queue: "x", ..Default::default() });
    *octets.last_mut().unwrap() = 0;
    client.put_raw(&octets);
    client.flush();
    // As Erlang lays it out.
    let text = format!(
        "type 1, all octets = <<0,50,0,10,0,0,1,120,0,0,0,0,0>>: {{invalid_frame_end_marker,\n{:57}0}}",
        ""
    );
    client.expect_connection_close(501, &text, (0, 0));
}

#[test]
fn a_broken_stream_is_answered_with_501_even_when_more_follows() {
    let mut client = client();
    client.put_frame(9, 1, b"abc");
    client.put_raw(&vec![0xAA; 10_000]);
    client.flush();
    let close = client.expect("connection.close").close();
    let text = r#"FRAME_ERROR - type 9, all octets = <<"abc">>: unknown_frame"#;
    assert_eq!((close.code, &*close.text), (501, text));
}

#[test]
fn a_frame_above_the_size_that_was_agreed_on_is_501() {
    let mut client = node().client_with(&Login { frame_max: 4096, ..Login::default() });
    client.put(1, publish());
    client.put_header(1, 10_000);
    client.put_frame(3, 1, &[b'z'; 10_000]);
    client.flush();
    let text = "type 3, all octets = <<>>: {frame_too_large,10000,4088}";
    client.expect_connection_close(501, text, (0, 0));
}

#[test]
fn a_frame_of_exactly_the_size_that_was_agreed_on_passes() {
    let mut client = node().client_with(&Login { frame_max: 4096, ..Login::default() });
    let queue = client.own_queue();
    client.put(1, basic::Publish { routing_key: &queue, ..Default::default() });
    client.put_header(1, 4088);
    client.put_frame(3, 1, &[b'z'; 4088]);
    client.flush();
    assert_eq!(client.get(1, &queue).unwrap().body.len(), 4088);
}

#[test]
fn methods_whose_arguments_cannot_be_read_are_501() {
    // queue.declare, cut off in its name.
    fatal_frames(&[(1, 1, &[0, 50, 0, 10, 0, 0, 255])], 501, "cannot decode <<0,0,255>>", (50, 10));
    // basic.qos without a word.
    fatal_frames(&[(1, 1, &[0, 60, 0, 10])], 501, "cannot decode <<>>", (60, 10));
    // tx.select with an argument that it does not have.
    fatal_frames(&[(1, 1, &[0, 90, 0, 10, 1])], 501, "cannot decode <<1>>", (90, 10));
}

#[test]
fn methods_that_only_the_broker_sends_are_503() {
    let rows: [(&[u8], (u16, u16)); 5] = [
        (&[0, 60, 0, 21, 1, b'x'], (60, 21)),
        (&[0, 50, 0, 21], (50, 21)),
        (&[0, 20, 0, 11, 0, 0, 0, 0], (20, 11)),
        (&[0, 90, 0, 11], (90, 11)),
        (&[0, 60, 0, 72, 0], (60, 72)),
    ];
    for (payload, at) in rows {
        fatal_frames(&[(1, 1, payload)], 503, "unimplemented method", at);
    }
    // Nothing was closed that this could answer.
    client().fatal(1, channel::CloseOk, 503, "unimplemented method");
}

#[test]
fn an_unknown_method_ends_the_connection() {
    for ids in [[0, 60, 0, 199], [0, 61, 0, 10], [255, 255, 255, 255]] {
        let mut client = client();
        client.put_frame(1, 1, &ids);
        client.flush();
        let code = client.receive().map(|it| it.close().code);
        assert_eq!(code, ours_or_theirs(Some(503), None));
        crate::client();
    }
}

/// Sends frames behind a publish without content.
fn after_a_publish(frames: impl Fn(&mut Client), text: &str) {
    let mut client = client();
    client.put(1, publish());
    frames(&mut client);
    client.flush();
    client.expect_connection_close(505, text, (60, 40));
}

#[test]
fn a_publish_wants_its_content() {
    let text = "expected content header for class 60, got non content header frame instead";
    after_a_publish(|it| it.put(1, queue::Declare::default()), text);
    after_a_publish(|it| it.put_frame(3, 1, b"body"), text);
    after_a_publish(
        |it| it.put_frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0]),
        "expected content header for class 60, got one for class 50 instead",
    );
    after_a_publish(|it| it.put_frame(2, 1, &[0, 60, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0]), text);
    let text = "expected content body, got non content body frame instead";
    after_a_publish(
        |it| {
            it.put_header(1, 5);
            it.put(1, queue::Declare::default());
        },
        text,
    );
    after_a_publish(
        |it| {
            it.put_header(1, 5);
            it.put_header(1, 5);
        },
        text,
    );
    after_a_publish(
        |it| {
            it.put_header(1, 3);
            it.put_frame(3, 1, b"12345");
            it.put(1, basic::Get { queue: "x", no_ack: true });
        },
        text,
    );
}

#[test]
fn frames_before_the_end_of_the_negotiation_are_small() {
    for (octets, accepted) in [(3_900, true), (4_100, false)] {
        let mut client = node().stranger();
        client.greet();
        let filler = "x".repeat(octets);
        let properties = args! { "filler" => filler.as_str() };
        client.send(
            0,
            connection::StartOk {
                client_properties: properties.table(),
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            },
        );
        let answer = client.receive().map(|it| it.name());
        let refused = ours_or_theirs(Some("connection.close"), None);
        assert_eq!(answer, if accepted { Some("connection.tune") } else { refused });
    }
}
