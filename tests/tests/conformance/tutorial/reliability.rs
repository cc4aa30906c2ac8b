//! Acknowledgement, prefetch, persistence, transactions and confirms.

use super::{consumer, producer_and_queue, shared_queue};
use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, exchange, queue, tx};
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::wire::Client;
use std::collections::BTreeSet;

#[test]
fn acknowledgement_automatic() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    let mut first = consumer(&queue, 0, true);
    producer.publish(1, &queue, b"gone with its delivery");
    assert_eq!(first.delivery(1).text(), "gone with its delivery");
    // Nobody gives it back, not even a consumer that goes without a word about it.
    let mut second = consumer(&queue, 0, true);
    first.close();
    producer.publish(1, &queue, b"next");
    assert_eq!(second.delivery(1).text(), "next");
}

#[test]
fn acknowledgement_manual() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    let mut consumer = consumer(&queue, 0, false);
    for body in ["acknowledged", "requeued", "dropped"] {
        producer.publish(1, &queue, body.as_bytes());
        let delivery = consumer.delivery(1);
        assert_eq!((delivery.text(), delivery.redelivered()), (body, false));
        match body {
            "acknowledged" => consumer.ack(1, delivery.tag()),
            "requeued" => {
                consumer.nack(1, delivery.tag(), false, true);
                let again = consumer.delivery(1);
                assert_eq!((again.text(), again.redelivered()), (body, true));
                consumer.ack(1, again.tag());
            }
            _ => consumer.reject(1, delivery.tag(), false),
        }
    }
    assert_eq!(consumer.counts(1, &queue).0, 0);
}

#[test]
fn acknowledgement_a_consumer_that_dies_gives_back() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    let mut dying = consumer(&queue, 0, false);
    producer.publish(1, &queue, b"task");
    assert!(!dying.delivery(1).redelivered());
    let mut other = consumer(&queue, 0, false);
    drop(dying);
    let delivery = other.delivery(1);
    assert_eq!((delivery.text(), delivery.redelivered()), ("task", true));
}

#[test]
fn prefetch_fair_dispatch() {
    let mut producer = client();
    let queue = shared_queue(&mut producer);
    let mut slow = consumer(&queue, 1, false);
    let mut fast = consumer(&queue, 1, false);
    for number in 0..20 {
        producer.publish(1, &queue, format!("task {number}").as_bytes());
    }
    // While the slow worker is at its first task, the fast one does all others.
    let first = slow.delivery(1);
    for _ in 0..19 {
        let delivery = fast.delivery(1);
        assert_ne!(delivery.text(), first.text());
        fast.ack(1, delivery.tag());
    }
    slow.ack(1, first.tag());
    assert_eq!(slow.counts(1, &queue), (0, 2));
}

#[test]
fn persistence_survives_a_restart() {
    let scratch = Scratch::new("conformance-tutorial-persistence").unwrap();
    let node = Node::start_with(scratch.path(), &Setup::default()).unwrap();
    let mut producer = Client::new(node.port);
    let durable = queue::Declare { queue: "durable", durable: true, ..Default::default() };
    producer.declare(1, &durable);
    producer.declare(1, &queue::Declare { queue: "transient", ..Default::default() });
    for (name, durable) in [("durable exchange", true), ("transient exchange", false)] {
        let declare = exchange::Declare { exchange: name, kind: "direct", durable, ..Default::default() };
        producer.call(1, declare, "exchange.declare-ok");
    }
    producer.bind(1, "durable", "durable exchange", "key");
    producer.confirm(1);
    for (queue, delivery_mode, body) in
        [("durable", 1, "transient"), ("durable", 2, "persistent"), ("transient", 2, "persistent")]
    {
        let properties = BasicProperties { delivery_mode: Some(delivery_mode), ..Default::default() };
        let outcome = producer.publish_confirmed(1, queue, &properties, body.as_bytes());
        assert_eq!(outcome.name(), "basic.ack");
    }
    producer.close();
    let node = node.restart().unwrap();
    let mut consumer = Client::new(node.port);
    let received = consumer.get(1, "durable").unwrap();
    assert_eq!(received.text(), "persistent");
    assert_eq!(received.properties().delivery_mode, Some(2));
    assert!(consumer.get(1, "durable").is_none());
    // The binding is there too.
    consumer.publish_to(1, "durable exchange", "key", b"routed");
    assert_eq!(consumer.get_soon(1, "durable").text(), "routed");
    consumer.open(2);
    let gone = queue::Declare { queue: "transient", passive: true, ..Default::default() };
    consumer.refused(2, gone, 404, "no queue 'transient' in vhost '/'");
    consumer.open(3);
    let gone = exchange::Declare { exchange: "transient exchange", passive: true, ..Default::default() };
    consumer.refused(3, gone, 404, "no exchange 'transient exchange' in vhost '/'");
    drop(consumer);
    drop(node);
    scratch.passed();
}

#[test]
fn transaction_commit() {
    let (mut producer, queue) = producer_and_queue();
    producer.open(2);
    producer.call(1, tx::Select, "tx.select-ok");
    producer.publish(1, &queue, b"one");
    producer.publish(1, &queue, b"two");
    assert_eq!(producer.drain(2, &queue), [""; 0]);
    producer.call(1, tx::Commit, "tx.commit-ok");
    assert_eq!(producer.drain(2, &queue), ["one", "two"]);
}

#[test]
fn transaction_rollback() {
    let (mut producer, queue) = producer_and_queue();
    producer.open(2);
    producer.call(1, tx::Select, "tx.select-ok");
    producer.publish(1, &queue, b"never");
    producer.call(1, tx::Rollback, "tx.rollback-ok");
    producer.publish(1, &queue, b"after");
    producer.call(1, tx::Commit, "tx.commit-ok");
    assert_eq!(producer.drain(2, &queue), ["after"]);
}

/// Reads confirms until every number up to `last` is settled, each once; returns the refused ones.
fn settle(producer: &mut Client, last: u64) -> BTreeSet<u64> {
    let mut open: BTreeSet<u64> = (1..=last).collect();
    let mut refused = BTreeSet::new();
    while !open.is_empty() {
        let received = producer.receive_on(1).expect("a confirm");
        let (tag, multiple, acknowledged) = match received.method() {
            Method::BasicAck(basic::Ack { delivery_tag, multiple }) => (delivery_tag, multiple, true),
            Method::BasicNack(basic::Nack { delivery_tag, multiple, .. }) => (delivery_tag, multiple, false),
            other => panic!("{other:?} instead of a confirm"),
        };
        let settled: Vec<u64> = if multiple { open.range(..=tag).copied().collect() } else { vec![tag] };
        assert!(!settled.is_empty(), "{tag} was settled before");
        for number in settled {
            assert!(open.remove(&number), "{number} was settled before");
            if !acknowledged {
                refused.insert(number);
            }
        }
    }
    refused
}

#[test]
fn confirm_single() {
    let (mut producer, queue) = producer_and_queue();
    producer.confirm(1);
    for number in 1..=3 {
        let outcome = producer.publish_confirmed(1, &queue, &BasicProperties::default(), b"x");
        assert_eq!((outcome.name(), outcome.tag()), ("basic.ack", number));
    }
    assert_eq!(producer.counts(1, &queue).0, 3);
}

#[test]
fn confirm_batch() {
    let (mut producer, queue) = producer_and_queue();
    producer.confirm(1);
    for batch in 1..=3_u64 {
        for number in 0..50 {
            producer.publish(1, &queue, format!("{number}").as_bytes());
        }
        // One wait for all of the batch; what was settled before is not told again.
        let mut open: BTreeSet<u64> = (batch * 50 - 49..=batch * 50).collect();
        while !open.is_empty() {
            let received = producer.receive_on(1).expect("a confirm");
            let Method::BasicAck(ack) = received.method() else { panic!("{received:?}") };
            let before = open.len();
            open.retain(|it| if ack.multiple { *it > ack.delivery_tag } else { *it != ack.delivery_tag });
            assert!(open.len() < before, "{ack:?}");
        }
        assert_eq!(u64::from(producer.counts(1, &queue).0), batch * 50);
    }
}

#[test]
fn confirm_asynchronous_with_multiple() {
    let mut producer = client();
    let limited = harness::args! { "x-max-length" => 990, "x-overflow" => "reject-publish" };
    let queue = producer.own_queue_with(&limited);
    producer.confirm(1);
    let publish = basic::Publish { routing_key: &queue, ..Default::default() };
    for number in 0..1000 {
        producer.put_publish(1, &publish, &BasicProperties::default(), format!("{number}").as_bytes());
    }
    producer.flush();
    let refused = settle(&mut producer, 1000);
    assert_eq!(refused, (991..=1000).collect());
    assert_eq!(producer.counts(1, &queue).0, 990);
}
