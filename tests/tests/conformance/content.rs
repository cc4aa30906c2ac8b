//! Contents on the wire: how bodies are cut and put together, and what becomes of properties.

use crate::{client, node};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic};
use amqp::table::FieldTable;
use harness::table;
use harness::wire::{Client, Login, ours_or_theirs};
use std::io::Write as _;

fn publish_to(queue: &str) -> basic::Publish<'_> {
    basic::Publish { routing_key: queue, ..Default::default() }
}

#[test]
fn channels_interleave_their_content() {
    let mut client = client();
    client.open(2);
    let queue = client.own_queue();
    for number in [1, 2] {
        client.put(number, publish_to(&queue));
    }
    for number in [1, 2] {
        client.put_header(number, 300);
    }
    for _ in 0..3 {
        for number in [1u8, 2] {
            client.put_frame(3, u16::from(number), &[number; 100]);
        }
    }
    client.flush();
    let mut bodies = [client.get_soon(1, &queue).body, client.get_soon(1, &queue).body];
    bodies.sort();
    assert_eq!(bodies, [[1; 300], [2; 300]]);
}

#[test]
fn a_body_may_come_in_frames_of_any_size() {
    let mut client = client();
    let queue = client.own_queue();
    client.put(1, publish_to(&queue));
    client.put_header(1, 10);
    for octet in b"ABCDEFGH" {
        client.put_frame(3, 1, &[*octet]);
    }
    client.put_frame(3, 1, b"");
    client.put_frame(3, 1, b"IJ");
    client.flush();
    assert_eq!(client.get(1, &queue).unwrap().body, b"ABCDEFGHIJ");
}

#[test]
fn frames_may_be_split_anywhere() {
    let mut client = client();
    let queue = client.own_queue();
    client.put_publish(1, &publish_to(&queue), &BasicProperties::default(), b"in pieces");
    let octets = client.take_output();
    for octet in octets {
        client.stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(client.get(1, &queue).unwrap().body, b"in pieces");
    // Every place where two writes may meet, a frame on each side.
    client.put_publish(1, &publish_to(&queue), &BasicProperties::default(), b"x");
    let octets = client.take_output();
    for at in 1..octets.len() {
        client.stream.write_all(&octets[..at]).unwrap();
        client.stream.write_all(&octets[at..]).unwrap();
    }
    client.wait_ready(1, &queue, octets.len() as u32 - 1);
}

#[test]
fn an_empty_body_has_no_frame() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &queue, b"");
    let got = client.get(1, &queue).unwrap();
    assert!(got.body.is_empty() && got.frames.is_empty());
}

#[test]
fn bodies_are_cut_at_the_frame_size_that_was_agreed_on() {
    for (frame_max, size) in
        [(4096, 100_000), (4096, 4088), (4096, 4089), (9000, 100_000), (131_072, 300_000)]
    {
        let mut client = node().client_with(&Login { frame_max, ..Login::default() });
        let queue = client.own_queue();
        let body: Vec<u8> = (0..size).map(|it: usize| it as u8).collect();
        client.publish(1, &queue, &body);
        let got = client.get(1, &queue).unwrap();
        assert_eq!(got.body, body);
        let (last, full) = got.frames.split_last().unwrap();
        let room = frame_max as usize - 8;
        assert!(full.iter().all(|it| *it == room) && *last <= room && *last > 0, "{:?}", got.frames);
    }
}

#[test]
fn heartbeats_and_other_channels_may_come_between_the_frames_of_a_content() {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.put(1, publish_to(&queue));
    client.put_frame(8, 0, b"");
    client.put_header(1, 4);
    client.put_frame(8, 0, b"");
    client.put_frame(3, 1, b"ab");
    client.put(
        2,
        amqp::method::exchange::Declare { exchange: "amq.direct", passive: true, ..Default::default() },
    );
    client.put_frame(8, 0, b"");
    client.put_frame(3, 1, b"cd");
    client.flush();
    client.expect_on(2, "exchange.declare-ok");
    assert_eq!(client.get(1, &queue).unwrap().text(), "abcd");
}

#[test]
fn a_client_that_hangs_up_amid_a_content_leaves_nothing() {
    let (mut client, mut other) = (client(), client());
    let queue = other.own_queue();
    client.put(1, publish_to(&queue));
    client.put_header(1, 4);
    client.put_frame(3, 1, b"ab");
    client.flush();
    drop(client);
    other.expect_nothing(1, &queue);
    assert!(other.get(1, &queue).is_none());
}

#[test]
fn a_huge_announced_body_is_not_made_room_for() {
    let mut client = client();
    let queue = client.own_queue();
    client.put(1, publish_to(&queue));
    client.put_header(1, 1 << 40);
    client.put_frame(3, 1, &[7; 1000]);
    client.flush();
    // Somebody else is served meanwhile.
    let mut other = crate::client();
    let own = other.own_queue();
    other.publish(1, &own, b"x");
    assert!(other.get(1, &own).is_some());
}

#[test]
fn a_body_above_128_mib_is_406() {
    const LIMIT: usize = 128 * 1024 * 1024;
    let mut client = client();
    let queue = client.own_queue();
    client.put(1, publish_to(&queue));
    client.put_header(1, LIMIT as u64 + 1);
    client.flush();
    let piece = vec![0; 131_064];
    let mut left = LIMIT + 1;
    while left > 0 {
        let size = left.min(piece.len());
        client.put_frame(3, 1, &piece[..size]);
        client.flush();
        left -= size;
    }
    let text = format!("message size {} is larger than configured max size {LIMIT}", LIMIT + 1);
    client.expect_channel_close(1, 406, &text, (60, 40));
}

#[test]
fn all_properties_come_back() {
    let mut client = client();
    let queue = client.own_queue();
    let text = |it: &str| Some(it.as_bytes().to_vec());
    let properties = BasicProperties {
        content_type: text("text/plain; charset=utf-8"),
        content_encoding: text("identity"),
        headers: Some(table! { "a" => "b" }),
        delivery_mode: Some(2),
        priority: Some(255),
        correlation_id: text("correlation"),
        reply_to: text("reply"),
        expiration: text("60000"),
        message_id: text("id"),
        timestamp: Some(u64::MAX),
        kind: text("type"),
        user_id: text("guest"),
        app_id: text("app"),
        cluster_id: text("cluster"),
    };
    client.publish_with(1, "", &queue, &properties, b"x");
    assert_eq!(client.get(1, &queue).unwrap().properties(), properties);
    // A mode that does not exist.
    for mode in [0, 3, 255] {
        let properties = BasicProperties { delivery_mode: Some(mode), ..Default::default() };
        client.publish_with(1, "", &queue, &properties, b"x");
        let text = format!("invalid message: {{delivery_mode_unknown,{mode}}}");
        client.expect_channel_close(1, 406, &text, (60, 40));
    }
    // Each alone, and none at all.
    let one = |change: &dyn Fn(&mut BasicProperties)| {
        let mut properties = BasicProperties::default();
        change(&mut properties);
        properties
    };
    for properties in [
        one(&|_| {}),
        one(&|it| it.content_type = text("")),
        one(&|it| it.headers = Some(FieldTable::new())),
        one(&|it| it.delivery_mode = Some(1)),
        one(&|it| it.delivery_mode = Some(2)),
        one(&|it| it.priority = Some(0)),
        one(&|it| it.timestamp = Some(0)),
        one(&|it| it.cluster_id = text("c")),
    ] {
        client.publish_with(1, "", &queue, &properties, b"x");
        assert_eq!(client.get(1, &queue).unwrap().properties(), properties);
    }
}

/// Publishes raw properties and returns those that come back.
fn round_trip(client: &mut Client, queue: &str, properties: &[u8]) -> Vec<u8> {
    client.put(1, publish_to(queue));
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    header.extend_from_slice(properties);
    client.put_frame(2, 1, &header);
    client.put_frame(3, 1, b"x");
    client.flush();
    client.get(1, queue).unwrap().raw_properties
}

/// Properties with nothing but headers, from the octets of the fields.
fn headers(fields: &[u8]) -> Vec<u8> {
    let mut properties = vec![0x20, 0];
    properties.extend_from_slice(&(fields.len() as u32).to_be_bytes());
    properties.extend_from_slice(fields);
    properties
}

#[test]
fn header_values_of_every_type_come_back_octet_by_octet() {
    let mut client = client();
    let queue = client.own_queue();
    let values: &[&[u8]] = &[
        b"t\x01",
        b"t\x00",
        b"b\xFF",
        b"B\xFE",
        b"s\xFF\x00",
        b"u\x80\x00",
        b"I\x80\x00\x00\x00",
        b"i\xFF\xFF\xFF\xFF",
        b"l\x80\0\0\0\0\0\0\0",
        b"f\x3F\x80\x00\x00",
        b"d\x3F\xF0\0\0\0\0\0\0",
        b"D\x02\x00\x00\x01\x00",
        b"S\x00\x00\x00\x02hi",
        b"S\x00\x00\x00\x02\xFF\x00",
        b"x\x00\x00\x00\x02\x00\xFF",
        b"T\0\0\0\0\0\0\0\x05",
        b"V",
        b"A\0\0\0\0",
        b"A\0\0\0\x07I\0\0\0\x01t\x01",
        b"F\0\0\0\0",
        b"F\0\0\0\x04\x01zt\x00",
        b"A\0\0\0\x0FF\0\0\0\x0A\x01aA\0\0\0\x03b\x01V",
    ];
    let mut all = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let field = [&[2, b'k', b'a' + index as u8], *value].concat();
        all.extend_from_slice(&field);
        let sent = headers(&field);
        assert_eq!(round_trip(&mut client, &queue, &sent), sent, "{value:?}");
    }
    let sent = headers(&all);
    assert_eq!(round_trip(&mut client, &queue, &sent), sent);
    // The same name twice stays twice.
    let sent = headers(b"\x01at\x00\x01at\x01");
    assert_eq!(round_trip(&mut client, &queue, &sent), sent);
}

#[test]
fn headers_of_an_unknown_type_end_the_connection() {
    let mut client = client();
    let queue = client.own_queue();
    client.put(1, publish_to(&queue));
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    header.extend_from_slice(&headers(b"\x01aZ\x00"));
    client.put_frame(2, 1, &header);
    client.put_frame(3, 1, b"x");
    client.flush();
    let close = client.expect("connection.close").close();
    let ours = (501, "FRAME_ERROR - cannot decode content header".to_owned(), (60, 40));
    let theirs = (541, "INTERNAL_ERROR".to_owned(), (0, 0));
    assert_eq!((close.code, close.text, close.at), ours_or_theirs(ours, theirs));
}

#[test]
fn what_a_get_tells_about_a_message() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &queue, b"1");
    client.publish(1, &queue, b"2");
    let got = client.get_unacked(1, &queue);
    let Method::BasicGetOk(ok) = got.method() else { unreachable!() };
    assert_eq!((ok.delivery_tag, ok.redelivered, ok.message_count), (1, false, 1));
    assert_eq!((ok.exchange, ok.routing_key), ("", &*queue));
}
