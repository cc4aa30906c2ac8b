//! The five message models.

use super::{consumer, producer_and_queue, shared_queue};
use crate::client;
use harness::wire::{Client, name};

#[test]
fn simple_queue_hello_world() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    producer.publish(1, &queue, b"hello world");
    let mut consumer = consumer(&queue, 0, true);
    let delivery = consumer.delivery(1);
    assert_eq!((delivery.text(), delivery.redelivered()), ("hello world", false));
    consumer.wait_ready(1, &queue, 0);
}

#[test]
fn work_queue_shares_round_robin() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    let mut workers = [consumer(&queue, 0, true), consumer(&queue, 0, true)];
    for number in 0..10 {
        producer.publish(1, &queue, format!("task {number}").as_bytes());
    }
    let mut done: Vec<Vec<String>> = workers.iter_mut().map(|it| it.deliveries(1, 5)).collect();
    done.sort();
    let every_second =
        |from: usize| -> Vec<String> { (from..10).step_by(2).map(|it| format!("task {it}")).collect() };
    assert_eq!(done, [every_second(0), every_second(1)]);
}

/// Queues bound to an exchange of this kind: for each queue its keys.
fn bound(producer: &mut Client, kind: &str, keys: &[&[&str]]) -> (String, Vec<String>) {
    let exchange = name(kind);
    producer.exchange(1, &exchange, kind);
    producer.confirm(1);
    let mut bind = |keys: &&[&str]| {
        let queue = producer.own_queue();
        for key in *keys {
            producer.bind(1, &queue, &exchange, key);
        }
        queue
    };
    let queues = keys.iter().map(&mut bind).collect();
    (exchange, queues)
}

/// Publishes and waits for the confirm: then the message lies in its queues.
fn publish(producer: &mut Client, exchange: &str, key: &str) {
    producer.publish_to(1, exchange, key, key.as_bytes());
    producer.expect_on(1, "basic.ack");
}

#[test]
fn publish_subscribe_fanout() {
    let mut producer = client();
    let (exchange, queues) = bound(&mut producer, "fanout", &[&[""], &[""], &["a key that nobody looks at"]]);
    publish(&mut producer, &exchange, "news");
    for queue in &queues {
        assert_eq!(producer.drain(1, queue), ["news"]);
    }
    // Who subscribes later gets what comes later.
    let late = producer.own_queue();
    producer.bind(1, &late, &exchange, "");
    publish(&mut producer, &exchange, "more");
    assert_eq!(producer.drain(1, &late), ["more"]);
}

#[test]
fn routing_direct() {
    let mut producer = client();
    let keys: &[&[&str]] = &[&["error"], &["info", "error", "warning"]];
    let (exchange, queues) = bound(&mut producer, "direct", keys);
    for key in ["info", "warning", "error", "debug"] {
        publish(&mut producer, &exchange, key);
    }
    assert_eq!(producer.drain(1, &queues[0]), ["error"]);
    assert_eq!(producer.drain(1, &queues[1]), ["info", "warning", "error"]);
}

#[test]
fn topics() {
    let mut producer = client();
    let keys: &[&[&str]] = &[&["*.orange.*"], &["*.*.rabbit", "lazy.#"]];
    let (exchange, queues) = bound(&mut producer, "topic", keys);
    for key in [
        "quick.orange.rabbit",
        "lazy.orange.elephant",
        "quick.orange.fox",
        "lazy.brown.fox",
        "lazy.pink.rabbit",
        "quick.brown.fox",
        "quick.orange.male.rabbit",
        "lazy.orange.male.rabbit",
    ] {
        publish(&mut producer, &exchange, key);
    }
    assert_eq!(
        producer.drain(1, &queues[0]),
        ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox"]
    );
    // "lazy.pink.rabbit" matches two bindings of the queue and comes once.
    assert_eq!(
        producer.drain(1, &queues[1]),
        [
            "quick.orange.rabbit",
            "lazy.orange.elephant",
            "lazy.brown.fox",
            "lazy.pink.rabbit",
            "lazy.orange.male.rabbit"
        ]
    );
}

#[test]
fn the_default_exchange_routes_by_the_name_of_the_queue() {
    let (mut producer, queue) = producer_and_queue();
    producer.confirm(1);
    producer.publish(1, &queue, b"by name");
    producer.expect_on(1, "basic.ack");
    let received = producer.get(1, &queue).unwrap();
    assert_eq!((received.text(), received.address()), ("by name", ("", queue.as_str())));
}
