//! Resource alarms: publishers are held up and told so, others are served.

use amqp::method::Method;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::wire::{Client, Login};
use std::io::Write as _;
use std::time::Duration;

#[test]
fn publishers_learn_that_they_are_held_up_and_stay_connected() {
    let scratch = Scratch::new("low-on-disk").unwrap();
    // More than any disk has free: the alarm is on from the first look at it.
    let setup = Setup::configured(
        "[limits]\ndisk_free = 1125899906842624\n",
        "disk_free_limit.absolute = 1125899906842624\n",
    );
    let node = Node::start_with(scratch.path(), &setup).unwrap();
    let mut publisher = Client::with(node.port, &Login { heartbeat: 1, ..Login::default() });
    let queue = publisher.own_queue();
    let mut consumer = Client::new(node.port);
    // It has not said that it understands `connection.blocked`.
    let mut silent = Client::with(node.port, &Login { capabilities: &[], ..Login::default() });
    let own = silent.own_queue();
    // The first look may come a little later than the first connection: publish until it did.
    let blocked = loop {
        publisher.publish(1, &queue, b"x");
        publisher
            .send(1, amqp::method::queue::Declare { queue: &queue, passive: true, ..Default::default() });
        let next = publisher.receive().unwrap();
        if next.name() == "connection.blocked" {
            break next;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let Method::ConnectionBlocked(blocked) = blocked.method() else { unreachable!() };
    assert_eq!(blocked.reason, "low on disk");
    silent.publish(1, &own, b"x");
    silent.expect_silence(Duration::from_millis(300));
    // Its heartbeats are not read now, and it is not taken for dead.
    for _ in 0..3 {
        publisher.expect_silence(Duration::from_secs(1));
        let mut heartbeat = Vec::new();
        amqp::frame::write_heartbeat(&mut heartbeat);
        publisher.stream.write_all(&heartbeat).unwrap();
    }
    assert!(publisher.heartbeats > 0, "the broker sends its own");
    // Who does not publish is served and not bothered.
    let own = consumer.own_queue();
    assert!(consumer.get(1, &own).is_none());
    drop(node);
    scratch.passed();
}
