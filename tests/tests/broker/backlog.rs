//! A queue that is longer than what stays in memory.

use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use harness::node::Node;
use harness::ready;
use harness::scratch::Scratch;
use harness::wire::Client;

/// Messages of 1 KiB: twice of what a queue keeps in memory.
const MESSAGES: u64 = 70_000;
/// Messages between two acknowledgements, and unconfirmed ones.
const BATCH: u64 = 1000;

fn body(number: u64) -> Vec<u8> {
    let mut body = vec![b'x'; 1024];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

/// Publishes messages with these numbers and waits until all are confirmed.
fn publish(client: &mut Client, confirmed: &mut u64, numbers: std::ops::Range<u64>) {
    let publish = basic::Publish { routing_key: "long", ..Default::default() };
    let persistent = BasicProperties { delivery_mode: Some(2), ..Default::default() };
    for number in numbers {
        client.put_publish(1, &publish, &persistent, &body(number));
        *confirmed += 1;
    }
    client.flush();
    while client.expect("basic.ack").tag() < *confirmed {}
}

/// Takes deliveries with these numbers, in this order, and acknowledges them.
fn consume(client: &mut Client, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let delivery = client.expect("basic.deliver");
        assert_eq!(number(&delivery.body), expected);
        if (expected + 1) % BATCH == 0 {
            client.send(1, basic::Ack { delivery_tag: delivery.tag(), multiple: true });
        }
    }
}

#[test]
fn a_long_queue_survives_kill_9_in_order_and_takes_more_while_it_is_read() {
    if !ready("a long queue", &[]) {
        return;
    }
    let scratch = Scratch::new("long-queue").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let mut client = Client::new(node.port);
    client.declare(1, &queue::Declare { queue: "long", durable: true, ..Default::default() });
    client.confirm(1);
    let mut confirmed = 0;
    for first in (0..MESSAGES).step_by(BATCH as usize) {
        publish(&mut client, &mut confirmed, first..first + BATCH);
    }
    drop(client);
    let node = node.crash_and_restart().unwrap();

    let mut client = Client::new(node.port);
    client.wait_ready(1, "long", MESSAGES as u32);
    // The head is there at once; half of the queue goes.
    client.qos(1, BATCH as u16, false);
    client.consume(1, "long", "reader", false);
    consume(&mut client, 0..MESSAGES / 2);
    drop(client);
    let node = node.crash_and_restart().unwrap();

    // What was acknowledged may come back for want of a synced acknowledgement, but nothing is missing.
    let mut client = Client::new(node.port);
    let (mut writer, mut confirmed) = (Client::new(node.port), 0);
    writer.confirm(1);
    publish(&mut writer, &mut confirmed, MESSAGES..MESSAGES + BATCH);
    client.qos(1, BATCH as u16, false);
    client.consume(1, "long", "reader", false);
    let first = client.expect("basic.deliver");
    let next = number(&first.body);
    assert!(next <= MESSAGES / 2, "message {next} comes first");
    client.send(1, basic::Ack { delivery_tag: first.tag(), multiple: false });
    consume(&mut client, next + 1..MESSAGES + BATCH);
    client.cancel(1, "reader");
    client.wait_ready(1, "long", 0);
    drop(node);
    scratch.passed();
}
