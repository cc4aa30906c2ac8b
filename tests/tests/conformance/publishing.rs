//! Publishing: what is returned, what is refused, and what passes in silence.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{Method, basic};
use harness::table;
use harness::wire::{Client, name};

#[test]
fn a_mandatory_message_that_no_queue_gets_is_returned_whole() {
    let mut client = client();
    let routing_key = name("nowhere");
    let publish = basic::Publish { routing_key: &routing_key, mandatory: true, ..Default::default() };
    let properties = BasicProperties {
        content_type: Some("text/plain".into()),
        message_id: Some("m1".into()),
        headers: Some(table! { "h" => 1 }),
        delivery_mode: Some(2),
        ..Default::default()
    };
    client.put_publish(1, &publish, &properties, b"body");
    client.flush();
    let returned = client.expect("basic.return");
    let Method::BasicReturn(it) = returned.method() else { unreachable!() };
    let seen = (it.reply_code, it.reply_text, it.exchange, it.routing_key);
    assert_eq!(seen, (312, "NO_ROUTE", "", &*routing_key));
    assert_eq!((returned.text(), returned.properties()), ("body", properties));
    // From another exchange, and one with an empty body.
    client.publish_mandatory(1, "amq.topic", "no.where", b"");
    let returned = client.expect("basic.return");
    assert_eq!((returned.address(), returned.text()), (("amq.topic", "no.where"), ""));
}

#[test]
fn what_is_not_mandatory_or_reaches_a_queue_is_not_returned() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &name("nowhere"), b"x");
    client.publish_mandatory(1, "", &queue, b"x");
    client.expect_nothing(1, &queue);
    assert_eq!(client.drain(1, &queue), ["x"]);
}

#[test]
fn immediate_is_540() {
    let mut client = client();
    let publish = basic::Publish { routing_key: "x", immediate: true, ..Default::default() };
    client.put_publish(1, &publish, &BasicProperties::default(), b"x");
    client.flush();
    client.expect_connection_close(540, "immediate=true", (60, 40));
}

/// Publishes with properties that are refused with 406.
fn refused(client: &mut Client, properties: &BasicProperties, text: &str) {
    client.publish_with(1, "", "x", properties, b"x");
    client.expect_channel_close(1, 406, text, (60, 40));
}

#[test]
fn the_user_of_a_message_is_who_publishes_it() {
    let mut client = client();
    let by = |user: &str| BasicProperties { user_id: Some(user.into()), ..Default::default() };
    let text = "user_id property set to 'someone' but authenticated user was 'guest'";
    refused(&mut client, &by("someone"), text);
    let queue = client.own_queue();
    client.publish_with(1, "", &queue, &by("guest"), b"x");
    assert_eq!(client.get(1, &queue).unwrap().properties(), by("guest"));
}

#[test]
fn expirations_are_whole_numbers() {
    let mut client = client();
    for (text, reason) in [
        ("", "no_integer"),
        ("abc", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("10s", "{leftover_string,\"s\"}"),
        ("1x ", "{leftover_string,\"x \"}"),
    ] {
        let properties = BasicProperties { expiration: Some(text.into()), ..Default::default() };
        refused(&mut client, &properties, &format!("invalid expiration '{text}': {reason}"));
    }
    for text in ["+60000", "315360000000"] {
        let properties = BasicProperties { expiration: Some(text.into()), ..Default::default() };
        client.publish_with(1, "", "x", &properties, b"x");
        client.call(1, basic::Qos::default(), "basic.qos-ok");
    }
}

#[test]
fn of_several_errors_in_a_publish_the_missing_exchange_is_told() {
    let mut client = client();
    let exchange = name("no-exchange");
    let properties = BasicProperties { expiration: Some("soon".into()), ..Default::default() };
    client.publish_with(1, &exchange, "", &properties, b"");
    client.expect_channel_close(1, 404, &format!("no exchange '{exchange}' in vhost '/'"), (60, 40));
}

#[test]
fn the_error_of_a_publish_comes_only_with_its_whole_content() {
    let mut client = client();
    let queue = client.own_queue();
    let exchange = name("no-exchange");
    client.open(2);
    client.put(1, basic::Publish { exchange: &exchange, ..Default::default() });
    client.put_header(1, 2);
    client.put_frame(3, 1, b"a");
    client.flush();
    client.expect_nothing(2, &queue);
    client.put_frame(3, 1, b"b");
    client.flush();
    client.expect_channel_close(1, 404, &format!("no exchange '{exchange}' in vhost '/'"), (60, 40));
}

#[test]
fn messages_keep_their_order() {
    let mut client = client();
    let queue = client.own_queue();
    let expected: Vec<String> = (0..500).map(|it| it.to_string()).collect();
    for body in &expected {
        let publish = basic::Publish { routing_key: &queue, ..Default::default() };
        client.put_publish(1, &publish, &BasicProperties::default(), body.as_bytes());
    }
    client.flush();
    assert_eq!(client.drain(1, &queue), expected);
}
