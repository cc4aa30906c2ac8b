//! Delayed exchanges, quorum queues, the firehose and auto-delete on the wire, with a broker that is killed and started
//! again where it matters. What holds for a plain RabbitMQ too is in the package `tests`.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod client;
mod delayed;
mod firehose;
mod quorum;

use amqp::method::{basic, channel, queue};
use client::Broker;

#[test]
fn an_auto_delete_queue_that_lost_its_last_consumer_is_gone_for_whoever_comes_next() {
    let broker = Broker::shared();
    let mut client = broker.client();
    let declare = queue::Declare { queue: "gone-at-once", auto_delete: true, ..queue::Declare::default() };
    for round in 0..50 {
        client.open(2);
        client.declare(2, &declare);
        client.consume(2, "gone-at-once", "c", true);
        // In one write: nobody can be in between, and the deletion itself takes longer.
        client.put(2, &basic::Cancel { consumer_tag: "c", nowait: true });
        if round % 2 == 0 {
            client.put(2, &basic::Consume { queue: "gone-at-once", ..basic::Consume::default() });
            client.flush();
            let text = "NOT_FOUND - no queue 'gone-at-once' in vhost '/'".to_owned();
            assert_eq!(client.expect("channel.close").close(), (404, text));
            client.send(2, &channel::CloseOk);
        } else {
            // A declare makes a new one, which stays.
            client.put(2, &declare);
            client.flush();
            client.expect("queue.declare-ok");
            client.consume(2, "gone-at-once", "d", true);
            client.publish(2, "gone-at-once", b"x");
            assert_eq!(client.expect("basic.deliver").body, b"x");
            client.call(2, &channel::Close::default(), "channel.close-ok");
        }
    }
}
