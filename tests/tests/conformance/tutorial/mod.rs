//! The examples of the tutorial, a test for each, in its words: what a beginner tries first has to work.

mod expiry;
mod models;
mod reliability;

use crate::client;
use harness::wire::{Client, name};

/// A producer, and a queue that both sides know.
fn producer_and_queue() -> (Client, String) {
    let mut producer = client();
    let queue = producer.own_queue();
    (producer, queue)
}

/// Declares a queue that other connections may use too and that goes with its last consumer.
fn shared_queue(client: &mut Client) -> String {
    let queue = name("tutorial");
    let declare = amqp::method::queue::Declare { queue: &queue, auto_delete: true, ..Default::default() };
    client.declare(1, &declare)
}

/// A consumer of a queue on a connection of its own, which gets at most `prefetch` messages at once (0: all).
fn consumer(queue: &str, prefetch: u16, no_ack: bool) -> Client {
    let mut consumer = client();
    consumer.qos(1, prefetch, false);
    consumer.consume(1, queue, "consumer", no_ack);
    consumer
}
