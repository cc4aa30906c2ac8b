//! Channels: opening, closing, errors that end one, and flow.

use crate::{client, node};
use amqp::method::{Method, access, basic, channel, connection, exchange, queue};
use harness::wire::{Login, name, ours_or_theirs, queue_in};

#[test]
fn methods_on_a_channel_that_is_not_open_are_504() {
    client().fatal(5, queue::Declare::default(), 504, "expected 'channel.open'");
    client().fatal(5, channel::Close::default(), 504, "expected 'channel.open'");
    client().fatal(1, channel::Open, 504, "second 'channel.open' seen");
    let mut closed = client();
    closed.close_channel(1);
    closed.fatal(1, channel::Close::default(), 504, "expected 'channel.open'");
    client().fatal(0, queue::Declare::default(), 504, "unexpected method in connection state running");
    client().fatal(0, channel::Open, 504, "unexpected method in connection state running");
}

#[test]
fn content_on_a_channel_that_is_not_open_is_504() {
    let mut client = client();
    client.put_frame(2, 5, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    client.flush();
    let close = client.expect("connection.close").close();
    assert_eq!((close.code, close.at), (505, (0, 0)), "{close:?}");
}

#[test]
fn an_error_ends_its_channel_only() {
    let mut client = client();
    client.open(2);
    let missing = name("q");
    let passive = queue::Declare { queue: &missing, passive: true, ..Default::default() };
    client.send(1, passive);
    let close = client.expect("channel.close").close();
    assert_eq!((close.channel, close.code, close.at), (1, 404, (50, 10)));
    // The other goes on before the close is answered.
    client.declare(2, &queue::Declare { exclusive: true, ..Default::default() });
    client.put(1, channel::CloseOk);
    client.open(1);
    client.own_queue();
}

#[test]
fn a_closed_channel_ignores_everything_until_its_close_is_answered() {
    let mut client = client();
    client.open(2);
    let queue = client.declare(2, &queue::Declare { exclusive: true, ..Default::default() });
    let passive = queue::Declare { queue: "no-such-queue", passive: true, ..Default::default() };
    client.put(1, passive);
    // Behind the error, in the same write and in the next.
    for _ in 0..2 {
        client.put(1, queue::Declare { exclusive: true, ..Default::default() });
        let publish = basic::Publish { routing_key: &queue, ..Default::default() };
        client.put_publish(1, &publish, &Default::default(), b"lost");
        client.put(1, passive);
        client.put(1, basic::Ack { delivery_tag: 7, multiple: false });
        client.flush();
    }
    let close = client.expect_on(1, "channel.close").close();
    assert_eq!((close.code, close.text), (404, format!("NOT_FOUND - no {}", queue_in("no-such-queue"))));
    client.expect_nothing(2, &queue);
    client.put(1, channel::CloseOk);
    client.open(1);
    assert!(client.get(1, &queue).is_none(), "what was ignored was not published");
}

#[test]
fn a_close_that_crosses_a_close_is_answered() {
    let mut client = client();
    client.put(1, queue::Declare { queue: "no-such-queue", passive: true, ..Default::default() });
    client.put(1, channel::Close { reply_code: 200, ..Default::default() });
    client.flush();
    client.expect_on(1, "channel.close");
    client.expect_on(1, "channel.close-ok");
    client.send(1, channel::CloseOk);
    client.open(1);
    client.own_queue();
}

#[test]
fn a_channel_can_be_closed_and_opened_in_one_write() {
    let mut client = client();
    for _ in 0..20 {
        client.put(1, channel::Close { reply_code: 200, ..Default::default() });
        client.put(1, channel::Open);
        client.flush();
        for answer in ["channel.close-ok", "channel.open-ok"] {
            let next = client.receive().unwrap();
            if next.name() == "connection.close" {
                assert_eq!(next.close().code, ours_or_theirs(0, 504), "{:?}", next.close());
                return;
            }
            assert_eq!(next.name(), answer);
        }
    }
}

#[test]
fn more_channels_than_agreed_on_are_530() {
    let mut client = node().client_with(&Login { channel_max: 3, ..Login::default() });
    client.open(2);
    client.open(3);
    client.send(4, channel::Open);
    let text = "number of channels opened (3) has reached the negotiated channel_max (3)";
    client.expect_connection_close(530, text, (0, 0));
}

#[test]
fn channels_are_counted_and_their_numbers_are_free() {
    let mut client = node().client_with(&Login { channel_max: 3, ..Login::default() });
    client.open(60_000);
    client.open(65_535);
    client.close_channel(60_000);
    client.open(2);
}

#[test]
fn flow_can_be_turned_on_only() {
    let mut client = client();
    let ok = client.call(1, channel::Flow { active: true }, "channel.flow-ok");
    assert!(matches!(ok.method(), Method::ChannelFlowOk(channel::FlowOk { active: true })));
    client.fatal(1, channel::Flow { active: false }, 540, "active=false");
}

#[test]
fn access_is_granted_to_everybody() {
    let mut client = client();
    let request =
        access::Request { realm: "/data", active: true, read: true, write: true, ..Default::default() };
    let ok = client.call(1, request, "access.request-ok");
    assert!(matches!(ok.method(), Method::AccessRequestOk(access::RequestOk { ticket: 1 })));
}

#[test]
fn unacked_messages_go_back_in_order_with_their_channel() {
    let (mut one, mut two) = (client(), client());
    let queue = name("back");
    two.declare(1, &queue::Declare { queue: &queue, ..Default::default() });
    for body in [b"0", b"1", b"2", b"3"] {
        two.publish(1, &queue, body);
    }
    one.consume(1, &queue, "c", false);
    assert_eq!(one.deliveries(1, 4), ["0", "1", "2", "3"]);
    one.close_channel(1);
    two.wait_ready(1, &queue, 4);
    for body in ["0", "1", "2", "3"] {
        let got = two.get(1, &queue).unwrap();
        assert!(got.redelivered());
        assert_eq!(got.text(), body);
    }
    two.delete_queue(1, &queue);
}

#[test]
fn unacked_messages_go_back_when_their_connection_is_lost() {
    let (mut one, mut two) = (client(), client());
    let queue = name("back");
    two.declare(1, &queue::Declare { queue: &queue, ..Default::default() });
    two.publish(1, &queue, b"0");
    two.publish(1, &queue, b"1");
    two.wait_ready(1, &queue, 2);
    one.get_unacked(1, &queue);
    one.get_unacked(1, &queue);
    drop(one);
    two.wait_ready(1, &queue, 2);
    assert_eq!(two.drain(1, &queue), ["0", "1"]);
    two.delete_queue(1, &queue);
}

#[test]
fn requests_can_be_sent_before_the_channel_is_there() {
    let mut client = client();
    let queue = name("q");
    client.put(7, channel::Open);
    client.put(7, queue::Declare { queue: &queue, exclusive: true, ..Default::default() });
    let publish = basic::Publish { routing_key: &queue, ..Default::default() };
    client.put_publish(7, &publish, &Default::default(), b"p");
    client.put(7, basic::Get { queue: &queue, no_ack: true });
    client.put(7, exchange::Declare { exchange: "amq.direct", passive: true, ..Default::default() });
    client.flush();
    for answer in ["channel.open-ok", "queue.declare-ok", "basic.get-ok", "exchange.declare-ok"] {
        client.expect(answer);
    }
    client.call(0, connection::Close::default(), "connection.close-ok");
}
