//! Behaviour that only shows on the wire: what is sent, in which order, under pressure, by a client that sees
//! every frame. Each test names the behaviour it protects; the reference is RabbitMQ 3.10.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod client;

use amqp::content::BasicProperties;
use amqp::method::{Method, basic, channel, confirm, connection, queue, tx};
use amqp::table::{FieldTable, FieldValue};
use client::{Broker, Client};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A request with `reply-to`, as the responder sees it: the address to answer to.
fn request(client: &mut Client, queue: &str) -> String {
    let publish = basic::Publish { routing_key: queue, ..basic::Publish::default() };
    let properties =
        BasicProperties { reply_to: Some(REPLY_TO.into()), priority: Some(3), ..BasicProperties::default() };
    client.put_publish(1, &publish, &properties, b"request");
    let get = basic::Get { queue, no_ack: true };
    let seen = client.call(1, &get, "basic.get-ok").properties();
    assert_eq!(seen.priority, Some(3), "the other properties stay");
    String::from_utf8(seen.reply_to.unwrap()).unwrap()
}

#[test]
fn a_direct_reply_reaches_the_channel_that_asked() {
    let broker = Broker::shared();
    let (mut requester, mut responder) = (broker.client(), broker.client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    assert!(address.starts_with("amq.rabbitmq.reply-to.") && address.len() < 256);
    responder.publish(1, &address, b"answer");
    let reply = requester.expect("basic.deliver");
    assert_eq!(reply.body, b"answer");
    let Method::BasicDeliver(deliver) = reply.method() else { unreachable!() };
    assert_eq!((deliver.consumer_tag, deliver.exchange, deliver.routing_key), ("answers", "", &*address));
    // In a transaction too it goes at once: no queue is concerned.
    responder.call(1, &tx::Select, "tx.select-ok");
    responder.publish(1, &address, b"another");
    assert_eq!(requester.expect("basic.deliver").body, b"another");
}

#[test]
fn a_direct_reply_to_somebody_who_left_is_unroutable() {
    let broker = Broker::shared();
    let (mut requester, mut responder) = (broker.client(), broker.client());
    let queue = requester.own_queue();
    requester.consume(1, REPLY_TO, "answers", true);
    let address = request(&mut requester, &queue);
    let passive = queue::Declare { queue: &address, passive: true, ..queue::Declare::default() };
    responder.call(1, &passive, "queue.declare-ok");
    requester.call(1, &basic::Cancel { consumer_tag: "answers", nowait: false }, "basic.cancel-ok");
    let publish = basic::Publish { routing_key: &address, mandatory: true, ..basic::Publish::default() };
    responder.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
    responder.put_publish(1, &publish, &BasicProperties::default(), b"late");
    responder.flush();
    responder.expect("basic.return");
    responder.expect("basic.ack");
    responder.send(1, &passive);
    assert_eq!(responder.expect("channel.close").close().0, 404);
    // A wrong token does not open another channel's door.
    requester.consume(1, REPLY_TO, "answers", true);
    let guess = request(&mut requester, &queue);
    let guess = format!("{}x", &guess[..guess.len() - 1]);
    let mut other = broker.client();
    other.publish(1, &guess, b"guess");
    requester.expect_silence(Duration::from_millis(100));
}

#[test]
fn requests_without_a_reply_consumer_are_406() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let publish = basic::Publish { routing_key: "x", ..basic::Publish::default() };
    let properties = BasicProperties { reply_to: Some(REPLY_TO.into()), ..BasicProperties::default() };
    client.put_publish(1, &publish, &properties, b"");
    client.flush();
    let (code, text) = client.expect("channel.close").close();
    assert_eq!((code, &*text), (406, "PRECONDITION_FAILED - fast reply consumer does not exist"));
}

#[test]
fn exclusive_queues_are_gone_when_the_close_is_answered() {
    let broker = Broker::shared();
    let declare = queue::Declare { queue: "mine-until-close", exclusive: true, ..queue::Declare::default() };
    for _ in 0..50 {
        let mut one = broker.client();
        one.declare(1, &declare);
        let close = connection::Close { reply_code: 200, ..connection::Close::default() };
        one.call(0, &close, "connection.close-ok");
        // The first connection's socket is still open.
        let mut two = broker.client();
        two.declare(1, &declare);
        two.call(0, &close, "connection.close-ok");
    }
}

#[test]
fn exclusive_queues_are_gone_when_the_broker_closes_a_connection() {
    let broker = Broker::shared();
    let declare = queue::Declare { queue: "mine-until-error", exclusive: true, ..queue::Declare::default() };
    for _ in 0..20 {
        let mut one = broker.client();
        one.declare(1, &declare);
        one.send(1, &channel::Open);
        assert_eq!(one.expect("connection.close").close().0, 504);
        let mut two = broker.client();
        two.declare(1, &declare);
        two.call(0, &connection::Close::default(), "connection.close-ok");
    }
}

#[test]
fn unacked_messages_are_back_when_the_close_is_answered() {
    let broker = Broker::shared();
    let (mut one, mut two) = (broker.client(), broker.client());
    let queue =
        two.declare(1, &queue::Declare { queue: "back-before-close-ok", ..queue::Declare::default() });
    for body in [b"1", b"2", b"3"] {
        one.publish(1, &queue, body);
    }
    one.consume(1, &queue, "c", false);
    for _ in 0..3 {
        one.expect("basic.deliver");
    }
    one.call(1, &channel::Close::default(), "channel.close-ok");
    for body in [b"1", b"2", b"3"] {
        let got = two.call(1, &basic::Get { queue: &queue, no_ack: false }, "basic.get-ok");
        assert_eq!(got.body, body);
        let Method::BasicGetOk(ok) = got.method() else { unreachable!() };
        assert!(ok.redelivered);
    }
    two.call(1, &queue::Delete { queue: &queue, ..queue::Delete::default() }, "queue.delete-ok");
}

#[test]
fn a_tag_used_again_survives_the_end_of_its_old_queue() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let (old, new) = (client.own_queue(), client.own_queue());
    client.consume(1, &old, "tag", true);
    // In one write: the notice that the old queue is gone comes after the tag has a new meaning.
    client.put(1, &basic::Cancel { consumer_tag: "tag", nowait: true });
    client.put(1, &queue::Delete { queue: &old, nowait: true, ..queue::Delete::default() });
    let consume =
        basic::Consume { queue: &new, consumer_tag: "tag", no_ack: true, ..basic::Consume::default() };
    client.call(1, &consume, "basic.consume-ok");
    client.publish(1, &new, b"still here");
    assert_eq!(client.expect("basic.deliver").body, b"still here");
    client.call(1, &queue::Delete { queue: &new, ..queue::Delete::default() }, "queue.delete-ok");
    client.expect("basic.cancel");
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_hurts_nobody() {
    let broker = Broker::start(&[]);
    let mut greedy = broker.client();
    let queue = greedy.own_queue();
    greedy.publish(1, &queue, &vec![7; 8000]);
    greedy.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = rss();
    // 40,000 returns of 8,000 octets, never read: 320 MB if the broker kept them all.
    greedy.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut one = Vec::new();
    {
        let publish = basic::Publish { routing_key: "nowhere", mandatory: true, ..basic::Publish::default() };
        amqp::frame::write_fields(&mut one, 1, &publish);
        amqp::frame::write_content_header(&mut one, 1, 60, 8000, &[0, 0]);
        amqp::frame::write_body(&mut one, 1, &[9; 8000], 131_072);
    }
    let mut sent = 0;
    while sent < 40_000 && greedy.stream.write_all(&one).is_ok() {
        sent += 1;
    }
    assert!(sent < 40_000, "the broker took everything");
    assert!(rss() - before < 60_000, "{} KiB more", rss() - before);
    let mut other = broker.client();
    let queue = other.own_queue();
    other.publish(1, &queue, b"x");
    other.call(1, &basic::Get { queue: &queue, no_ack: true }, "basic.get-ok");
}

#[test]
fn a_client_that_was_held_back_gets_everything_once_it_reads() {
    const GETS: usize = 30_000;
    let broker = Broker::shared();
    let mut client = broker.client();
    let queue = client.own_queue();
    for _ in 0..3 {
        client.publish(1, &queue, &vec![1; 1000]);
    }
    let mut writer = client.stream.try_clone().unwrap();
    let mut publish = Vec::new();
    amqp::frame::write_fields(
        &mut publish,
        1,
        &basic::Publish { routing_key: "nowhere", mandatory: true, ..basic::Publish::default() },
    );
    amqp::frame::write_content_header(&mut publish, 1, 60, 1000, &[0, 0]);
    amqp::frame::write_body(&mut publish, 1, &[9; 1000], 131_072);
    let sender = std::thread::spawn(move || {
        for _ in 0..GETS {
            writer.write_all(&publish).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..GETS {
        client.expect("basic.return");
    }
    sender.join().unwrap();
    client.call(1, &channel::Close::default(), "channel.close-ok");
}

#[test]
fn a_consumer_that_does_not_read_leaves_messages_for_others() {
    let broker = Broker::shared();
    let (mut lazy, mut other) = (broker.client(), broker.client());
    let queue = other
        .declare(1, &queue::Declare { queue: "lazy-reader", auto_delete: true, ..queue::Declare::default() });
    lazy.consume(1, &queue, "lazy", true);
    other.open(2);
    other.call(2, &confirm::Select { nowait: false }, "confirm.select-ok");
    for _ in 0..3000 {
        let publish = basic::Publish { routing_key: &queue, ..basic::Publish::default() };
        other.put_publish(2, &publish, &BasicProperties::default(), &vec![1; 8000]);
    }
    let mut writer = other.stream.try_clone().unwrap();
    let output = other.take_output();
    let sender = std::thread::spawn(move || writer.write_all(&output).unwrap());
    // 24 MB went to a socket that takes some of it: the rest waits in the queue and goes to who reads.
    let mut confirmed = 0;
    while confirmed < 3000 {
        let received = other.expect("basic.ack");
        let Method::BasicAck(ack) = received.method() else { unreachable!() };
        confirmed = ack.delivery_tag;
    }
    sender.join().unwrap();
    other.consume(1, &queue, "busy", true);
    assert_eq!(other.expect("basic.deliver").body.len(), 8000);
}

#[test]
fn publishers_learn_that_they_are_held_up_and_stay_connected() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broker.toml");
    // More than any disk has free: the alarm is on from the first look at it.
    std::fs::write(&config, "[limits]\ndisk_free = 1125899906842624\n").unwrap();
    let broker = Broker::start(&["-c", config.to_str().unwrap()]);
    let mut publisher = Client::connect(broker.port);
    publisher.login(1);
    publisher.open(1);
    let queue = publisher.own_queue();
    let mut consumer = Client::connect(broker.port);
    consumer.login(0);
    consumer.open(1);
    std::thread::sleep(Duration::from_secs(2));
    publisher.publish(1, &queue, b"x");
    let blocked = publisher.expect("connection.blocked");
    let Method::ConnectionBlocked(blocked) = blocked.method() else { unreachable!() };
    assert_eq!(blocked.reason, "low on disk");
    // Its heartbeats are not read now, and it is not taken for dead.
    publisher.expect_silence(Duration::from_secs(4));
    let mut heartbeat = Vec::new();
    amqp::frame::write_heartbeat(&mut heartbeat);
    publisher.stream.write_all(&heartbeat).unwrap();
    // Who does not publish is served and not bothered.
    let own = consumer.own_queue();
    consumer.call(1, &basic::Get { queue: &own, no_ack: true }, "basic.get-empty");
}

#[test]
fn a_broken_stream_is_answered_with_501_even_when_more_follows() {
    let broker = Broker::shared();
    let mut client = broker.client();
    client.put_raw(&[9, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c', 0xCE]);
    client.put_raw(&vec![0xAA; 100_000]);
    client.flush();
    let (code, text) = client.expect("connection.close").close();
    assert_eq!((code, &*text), (501, "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame"));
}

#[test]
fn a_handshake_byte_by_byte_works_and_a_silent_client_is_dropped() {
    let broker = Broker::shared();
    let mut slow = Client::connect(broker.port);
    let silent = Client::connect(broker.port);
    let started = Instant::now();
    for octet in amqp::PROTOCOL_HEADER {
        slow.stream.write_all(&[octet]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.expect("connection.start");
    let mut octets = Vec::new();
    let mut stream = silent.stream.try_clone().unwrap();
    stream.read_to_end(&mut octets).unwrap();
    assert!(octets.is_empty());
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..12.0).contains(&took), "{took} s");
    // The one that only got half way is dropped too.
    assert!(slow.next().is_none());
}

#[test]
fn channels_interleave_their_content() {
    let broker = Broker::shared();
    let mut client = broker.client();
    client.open(2);
    let queue = client.own_queue();
    let publish = basic::Publish { routing_key: &queue, ..basic::Publish::default() };
    let mut pieces: [Vec<Vec<u8>>; 2] = [Vec::new(), Vec::new()];
    for (index, pieces) in pieces.iter_mut().enumerate() {
        let number = index as u16 + 1;
        let mut piece = Vec::new();
        amqp::frame::write_fields(&mut piece, number, &publish);
        pieces.push(std::mem::take(&mut piece));
        amqp::frame::write_content_header(&mut piece, number, 60, 300, &[0, 0]);
        pieces.push(std::mem::take(&mut piece));
        for _ in 0..3 {
            amqp::frame::write_body(&mut piece, number, &[number as u8; 100], 131_072);
            pieces.push(std::mem::take(&mut piece));
        }
    }
    let [one, two] = pieces;
    for (one, two) in one.into_iter().zip(two) {
        client.put_raw(&one);
        client.put_raw(&two);
    }
    client.flush();
    for number in [1u8, 2] {
        let got = client.call(1, &basic::Get { queue: &queue, no_ack: true }, "basic.get-ok");
        assert_eq!(got.body, [number; 300]);
    }
}

#[test]
fn of_several_errors_in_a_publish_the_missing_exchange_is_told() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let publish = basic::Publish { exchange: "no-such-exchange", ..basic::Publish::default() };
    let properties = BasicProperties { expiration: Some(b"soon".to_vec()), ..BasicProperties::default() };
    client.put_publish(1, &publish, &properties, b"");
    client.flush();
    assert_eq!(client.expect("channel.close").close().0, 404);
}

#[test]
fn a_delivery_that_is_never_acknowledged_closes_its_channel_and_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("broker.toml");
    std::fs::write(&config, "[amqp]\nconsumer_timeout = 300\n").unwrap();
    let broker = Broker::start(&["-c", config.to_str().unwrap()]);
    let mut client = broker.client();
    client.open(2);
    let queue = client.own_queue();
    client.publish(1, &queue, b"forgotten");
    client.consume(2, &queue, "idle", false);
    client.expect("basic.deliver");
    let close = client.expect("channel.close");
    assert_eq!(close.channel, 2);
    let (code, text) = close.close();
    assert_eq!(code, 406);
    assert!(text.starts_with("PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value used: 300 ms."), "{text}");
    client.send(2, &channel::CloseOk);
    let got = client.call(1, &basic::Get { queue: &queue, no_ack: true }, "basic.get-ok");
    let Method::BasicGetOk(ok) = got.method() else { unreachable!() };
    assert!(ok.redelivered);
}

#[test]
fn a_transaction_keeps_the_blind_copies_of_its_publishes() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let (open, blind) = (client.own_queue(), client.own_queue());
    client.open(2);
    client.call(2, &tx::Select, "tx.select-ok");
    let mut headers = FieldTable::new();
    headers.insert("BCC", FieldValue::Array(vec![FieldValue::long_str(blind.as_str())]));
    let properties = BasicProperties { headers: Some(headers), ..BasicProperties::default() };
    let publish = basic::Publish { routing_key: &open, ..basic::Publish::default() };
    client.put_publish(2, &publish, &properties, b"both");
    client.call(2, &tx::Commit, "tx.commit-ok");
    for queue in [&open, &blind] {
        let got = client.call(1, &basic::Get { queue, no_ack: true }, "basic.get-ok");
        assert_eq!(got.body, b"both");
        assert!(got.properties().headers.is_none_or(|headers| headers.get("BCC").is_none()));
    }
}
