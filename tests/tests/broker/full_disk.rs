//! A disk that fills up for real, not only below a limit.

use amqp::content::BasicProperties;
use amqp::method::{Method, basic, queue};
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::small_disk::SmallDisk;
use harness::wire::{Client, Login, Received};
use harness::{Needs, ready};
use std::time::Duration;

/// Octets of a message.
const BODY: usize = 64 << 10;
/// Messages that are not confirmed yet, at most.
const WINDOW: u64 = 16;

/// Publishes numbered messages; counts what is confirmed.
struct Publisher {
    client: Client,
    sent: u64,
    confirmed: u64,
}

impl Publisher {
    fn new(port: u16, sent: u64) -> Self {
        let mut client = Client::new(port);
        client.confirm(1);
        Self { client, sent, confirmed: 0 }
    }

    /// Publishes up to `count` messages. Stops when the broker says that it is blocked, and gives the reason.
    fn publish(&mut self, count: u64) -> Option<String> {
        let publish = basic::Publish { routing_key: "full", ..Default::default() };
        let persistent = BasicProperties { delivery_mode: Some(2), ..Default::default() };
        let (first, mut unconfirmed) = (self.confirmed, 0);
        for number in 0..count {
            let mut body = vec![b'x'; BODY];
            body[..8].copy_from_slice(&(self.sent + number).to_be_bytes());
            self.client.put_publish(1, &publish, &persistent, &body);
            self.client.flush();
            unconfirmed += 1;
            while unconfirmed >= WINDOW || (number + 1 == count && unconfirmed > 0) {
                let next = self.client.receive().expect("the connection stays");
                if let Method::ConnectionBlocked(blocked) = next.method() {
                    self.sent += number + 1;
                    return Some(blocked.reason.to_owned());
                }
                self.take_confirm(&next);
                unconfirmed = number + 1 - (self.confirmed - first);
            }
        }
        self.sent += count;
        None
    }

    fn take_confirm(&mut self, received: &Received) {
        assert_eq!(received.name(), "basic.ack");
        self.confirmed = received.tag();
    }

    /// Waits for what is not confirmed yet; the end of the blockade comes among it.
    fn settle(&mut self, unconfirmed: u64) {
        let (mut unblocked, upto) = (false, self.confirmed + unconfirmed);
        while !unblocked || self.confirmed < upto {
            let next = self.client.receive().expect("the connection stays");
            match next.name() {
                "connection.unblocked" => unblocked = true,
                _ => self.take_confirm(&next),
            }
        }
    }
}

fn number(received: &Received) -> u64 {
    u64::from_be_bytes(received.body[..8].try_into().unwrap())
}

#[test]
fn a_full_disk_holds_publishers_loses_nothing_and_is_left_by_itself() {
    if !ready("a full disk", &[Needs::Network]) {
        return;
    }
    let scratch = Scratch::new("full-disk").unwrap();
    let disk = SmallDisk::mount(&scratch.path().join("data"), 640).unwrap();
    // No alarm before the disk is really full.
    let node = Node::start_with(scratch.path(), &Setup::configured("[limits]\ndisk_free = 0\n", "")).unwrap();
    let mut publisher = Publisher::new(node.port, 0);
    publisher.client.declare(1, &queue::Declare { queue: "full", durable: true, ..Default::default() });
    assert_eq!(publisher.publish(100), None);
    disk.fill(0).unwrap();
    let reason = publisher.publish(10_000).expect("a full disk is noticed");
    assert_eq!(reason, "low on disk");
    let (sent, confirmed) = (publisher.sent, publisher.confirmed);
    assert!(confirmed >= 100, "{confirmed} confirmed");

    // Consumers are served, and their acknowledgements find room.
    let mut consumer = Client::new(node.port);
    for expected in 0..10 {
        let got = consumer.get_unacked(1, "full");
        assert_eq!(number(&got), expected);
        consumer.ack(1, got.tag());
    }
    // An end by force, and a start, while there is no room.
    let node = node.crash_and_restart().unwrap();
    let mut consumer = Client::new(node.port);
    let (ready, _) = consumer.counts(1, "full");
    assert!(u64::from(ready) >= confirmed - 10, "{ready} of {confirmed} are there");
    let mut other = Publisher::new(node.port, sent);
    assert_eq!(other.publish(2_000).as_deref(), Some("low on disk"));

    // What has to be written waits for room. It takes more than the little that one file may have left.
    let mut declaring = Client::new(node.port);
    let names: Vec<String> = (0..200).map(|number| format!("{number:0>200}")).collect();
    for name in &names {
        declaring.put(1, queue::Declare { queue: name, durable: true, ..Default::default() });
    }
    declaring.flush();
    assert_eq!(disk.free().unwrap(), 0);
    // Who waits hears from the broker, and leaves nothing behind when it goes.
    let (ready, _) = consumer.counts(1, "full");
    let mut leaving = Client::with(node.port, &Login { heartbeat: 2, ..Login::default() });
    leaving.get_unacked(1, "full");
    for number in 0.. {
        let name = format!("leaving-{number:0>200}");
        leaving.send(1, queue::Declare { queue: &name, durable: true, ..Default::default() });
        if leaving.is_silent(Duration::from_secs(3)) {
            break;
        }
        leaving.expect("queue.declare-ok");
    }
    assert!(leaving.heartbeats > 0);
    drop(leaving);
    consumer.wait_ready(1, "full", ready);
    assert_eq!(disk.free().unwrap(), 0);
    disk.relieve().unwrap();
    for name in &names {
        assert!(matches!(declaring.expect("queue.declare-ok").method(),
            Method::QueueDeclareOk(ok) if ok.queue == name));
    }
    let unconfirmed = other.sent - sent - other.confirmed;
    other.settle(unconfirmed);
    assert_eq!(other.publish(100), None);
    let mut next = None;
    let mut seen = vec![false; usize::try_from(other.sent).unwrap()];
    while let Some(got) = consumer.get(1, "full") {
        assert!(next.is_none_or(|last| last < number(&got)), "{next:?}, then {}", number(&got));
        next = Some(number(&got));
        seen[usize::try_from(number(&got)).unwrap()] = true;
    }
    let confirmed = (10..confirmed).chain(sent..other.sent);
    let lost: Vec<u64> = confirmed.filter(|at| !seen[usize::try_from(*at).unwrap()]).collect();
    assert_eq!(lost, [0; 0], "lost of {} sent", other.sent);

    // It also ends in good order while it is full, whatever waits.
    disk.fill(0).unwrap();
    for name in &names {
        declaring.put(1, queue::Delete { queue: name, ..Default::default() });
    }
    declaring.flush();
    let mut process = node.process;
    process.terminate();
    process.wait(Duration::from_secs(30)).unwrap();
    drop(disk);
    scratch.passed();
}
