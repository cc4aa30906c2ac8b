//! Time to live, dead letters, delayed messages.

use super::producer_and_queue;
use crate::client;
use amqp::content::BasicProperties;
use amqp::table::FieldValue;
use harness::args;
use harness::wire::{Client, Received, name};
use std::time::{Duration, Instant};

fn expires(milliseconds: &str) -> BasicProperties {
    BasicProperties { expiration: Some(milliseconds.into()), ..Default::default() }
}

/// Publishes and waits for the confirm: then the message has been in its queue.
fn confirmed(client: &mut Client, queue: &str, properties: &BasicProperties, body: &str) {
    let outcome = client.publish_confirmed(1, queue, properties, body.as_bytes());
    assert_eq!(outcome.name(), "basic.ack");
}

#[test]
fn ttl_of_a_queue() {
    let mut producer = client();
    let queue = producer.own_queue_with(&args! { "x-message-ttl" => 60 });
    producer.confirm(1);
    let start = Instant::now();
    for body in ["one", "two", "three"] {
        confirmed(&mut producer, &queue, &BasicProperties::default(), body);
    }
    producer.wait_ready(1, &queue, 0);
    // The first may have expired before the last came, but none before its time.
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    assert_eq!(producer.drain(1, &queue), [""; 0]);
}

#[test]
fn ttl_of_a_message() {
    let (mut producer, queue) = producer_and_queue();
    producer.confirm(1);
    confirmed(&mut producer, &queue, &expires("60"), "short-lived");
    confirmed(&mut producer, &queue, &expires("600000"), "long-lived");
    confirmed(&mut producer, &queue, &BasicProperties::default(), "immortal");
    producer.wait_ready(1, &queue, 2);
    assert_eq!(producer.drain(1, &queue), ["long-lived", "immortal"]);
}

#[test]
fn ttl_the_shorter_of_queue_and_message_counts() {
    let mut producer = client();
    let queue = producer.own_queue_with(&args! { "x-message-ttl" => 600_000 });
    producer.confirm(1);
    confirmed(&mut producer, &queue, &expires("60"), "by message");
    producer.wait_ready(1, &queue, 0);
    let queue = producer.own_queue_with(&args! { "x-message-ttl" => 60 });
    confirmed(&mut producer, &queue, &expires("600000"), "by queue");
    producer.wait_ready(1, &queue, 0);
}

/// A business queue whose dead letters go to another queue, with these arguments.
fn with_dead_letters(client: &mut Client, mut arguments: amqp::table::FieldTable) -> (String, String) {
    let dead = client.own_queue();
    let exchange = name("dead-letters");
    client.exchange(1, &exchange, "direct");
    client.bind(1, &dead, &exchange, "dead");
    arguments.push("x-dead-letter-exchange", exchange.as_str());
    arguments.push("x-dead-letter-routing-key", "dead");
    let business = client.own_queue_with(&arguments.into());
    (business, dead)
}

/// The only death of a dead letter, as reason and queue.
fn death(letter: &Received) -> (String, String) {
    let deaths = letter.deaths();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    let text = |key| deaths[0].get(key).and_then(FieldValue::as_str).unwrap_or_default().to_owned();
    (text("reason"), text("queue"))
}

#[test]
fn dead_letter_by_reject() {
    let mut producer = client();
    let (business, dead) = with_dead_letters(&mut producer, harness::table! {});
    producer.publish(1, &business, b"refused");
    producer.consume(1, &business, "consumer", false);
    let delivery = producer.delivery(1);
    producer.reject(1, delivery.tag(), false);
    let letter = producer.get_soon(1, &dead);
    assert_eq!((letter.text(), letter.address().1), ("refused", "dead"));
    assert_eq!(death(&letter), ("rejected".into(), business));
}

#[test]
fn dead_letter_by_ttl() {
    let mut producer = client();
    let (business, dead) = with_dead_letters(&mut producer, harness::table! { "x-message-ttl" => 60 });
    let start = Instant::now();
    producer.publish(1, &business, b"too late");
    let letter = producer.get_soon(1, &dead);
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    assert_eq!(letter.text(), "too late");
    assert_eq!(death(&letter), ("expired".into(), business));
}

#[test]
fn dead_letter_by_max_length() {
    let mut producer = client();
    let (business, dead) = with_dead_letters(&mut producer, harness::table! { "x-max-length" => 2 });
    for body in ["one", "two", "three"] {
        producer.publish(1, &business, body.as_bytes());
    }
    let letter = producer.get_soon(1, &dead);
    assert_eq!(letter.text(), "one");
    assert_eq!(death(&letter), ("maxlen".into(), business.clone()));
    assert_eq!(producer.drain(1, &business), ["two", "three"]);
}

#[test]
fn delay_queue_of_ttl_and_dead_letters() {
    let mut producer = client();
    let (waiting, orders) = with_dead_letters(&mut producer, harness::table! {});
    producer.consume(1, &orders, "orders", true);
    let start = Instant::now();
    producer.publish_with(1, "", &waiting, &expires("150"), b"cancel the order");
    producer.publish_with(1, "", &waiting, &expires("20"), b"behind a longer delay");
    let delivery = producer.delivery(1);
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert_eq!(delivery.text(), "cancel the order");
    // What expires behind a message that lives waits for it: a queue for each delay.
    assert_eq!(producer.delivery(1).text(), "behind a longer delay");
}
