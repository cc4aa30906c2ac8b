//! Resource alarms: publishers are held up and told so, others are served.

use amqp::method::Method;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::small_disk::SmallDisk;
use harness::wire::{Client, Login};
use harness::{Needs, ready};
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

#[test]
fn publishers_go_on_when_the_disk_has_room_again() {
    if !ready("a disk alarm that clears", &[Needs::Network]) {
        return;
    }
    let scratch = Scratch::new("room-again").unwrap();
    let folder = scratch.path().join("disk");
    let disk = SmallDisk::mount(&folder, 512).unwrap();
    let setup = Setup::configured("[limits]\ndisk_free = \"200MB\"\n", "disk_free_limit.absolute = 200MB\n");
    let node = Node::start_with(&folder, &setup).unwrap();
    let mut publisher = Client::new(node.port);
    let queue = publisher.own_queue();
    publisher.confirm(1);
    publisher.publish(1, &queue, b"before");
    publisher.expect("basic.ack");
    disk.fill(100 << 20).unwrap();
    // The disk is looked at now and then.
    let mut sent: u64 = 1;
    let reason = loop {
        publisher.publish(1, &queue, b"meanwhile");
        sent += 1;
        let next = publisher.receive().unwrap();
        match next.method() {
            Method::ConnectionBlocked(blocked) => break blocked.reason.to_owned(),
            _ => assert_eq!(next.name(), "basic.ack"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(reason, "low on disk");
    publisher.publish(1, &queue, b"held up");
    sent += 1;
    publisher.expect_silence(Duration::from_millis(300));
    disk.relieve().unwrap();
    publisher.expect("connection.unblocked");
    while publisher.expect("basic.ack").tag() < sent {}
    drop(node);
    drop(disk);
    scratch.passed();
}
