//! What survives a restart, in order or by `kill -9`.

use harness::account::{Published, Received, balance, disordered};
use harness::clients::{self, Client, Events};
use harness::node::Node;
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::time::Duration;
use xtask::lab::wait::until_true;
use xtask::stack::Place;

/// How often the broker is killed in one test, unless `WARREN_KILLS` says otherwise
/// (`cargo xtask test crash --kills N`).
const KILLS: usize = 50;

fn kills() -> usize {
    std::env::var("WARREN_KILLS").ok().and_then(|number| number.parse().ok()).unwrap_or(KILLS)
}

#[test]
fn durable_things_survive_an_orderly_restart() {
    survives("orderly-restart", Node::restart);
}

#[test]
fn durable_things_survive_kill_9() {
    survives("crash-restart", Node::crash_and_restart);
}

fn survives(name: &str, again: fn(Node) -> anyhow::Result<Node>) {
    if !ready(name, &[Needs::Python]) {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let node = Node::start(scratch.path()).unwrap();
    clients::run("basics", &["before_a_restart", &node.port.to_string()]).unwrap();
    let node = again(node).unwrap();
    clients::run("basics", &["after_a_restart", &node.port.to_string()]).unwrap();
    drop(node);
    scratch.passed();
}

#[test]
fn every_confirmed_message_survives_kill_9_again_and_again() {
    if !ready("kill -9 in a loop", &[Needs::Python]) {
        return;
    }
    let scratch = Scratch::new("kill-9-loop").unwrap();
    let mut node = Node::start(scratch.path()).unwrap();
    let url = node.url();
    let common = ["--url", &url, "--queue", "loop"];
    let client = |program: &str, name: &str, more: &[&str]| {
        Client::start(&Place::Loopback, program, name, scratch.path(), &[&common, more].concat()).unwrap()
    };
    let mut publishers: Vec<Client> = ["p0", "p1"]
        .iter()
        .map(|name| client("publish", name, &["--name", name, "--rate", "2000"]))
        .collect();
    // One connection, so that the order of its deliveries means something.
    let mut consumer = client("consume", "consumer", &["--connections", "1", "--idle", "3600"]);
    let kills = kills();
    let mut confirms = [Events::of("confirm"); 2];
    for round in 1..=kills {
        await_confirms(&publishers, &mut confirms, 50);
        node = node.crash_and_restart().unwrap();
        if round % 100 == 0 {
            println!("{round} kills");
        }
    }
    let mut published = Published::default();
    for publisher in &mut publishers {
        publisher.finish().unwrap();
        published.merge(Published::read(&publisher.record()));
    }
    node = node.crash_and_restart().unwrap();
    let received = || Received::read(&consumer.record());
    let found = || balance(&published, &received());
    let all = until_true(Duration::from_secs(60), "every confirmed message", || found().lost.is_empty());
    let (found, disordered) = (found(), disordered(&received()));
    assert!(all.is_ok(), "{found:?}");
    assert!(found.invented.is_empty() && found.repeated.is_empty(), "{found:?}");
    assert!(disordered.is_empty(), "{disordered:?}");
    println!(
        "{} kills: {} confirmed, {} received, 0 lost, {} deliveries marked as redelivered",
        kills + 1,
        found.confirmed,
        found.received,
        found.redelivered
    );
    consumer.finish().unwrap();
    drop(node);
    scratch.passed();
}

/// Waits until each of the clients got so many more confirms.
fn await_confirms(clients: &[Client], confirms: &mut [Events], more: usize) {
    for (client, confirms) in clients.iter().zip(confirms) {
        let enough = confirms.count(client) + more;
        until_true(Duration::from_secs(60), "confirms", || confirms.count(client) >= enough).unwrap();
    }
}

#[test]
fn every_confirmed_declare_and_delete_survives_kill_9_again_and_again() {
    if !ready("declares and kill -9", &[Needs::Python]) {
        return;
    }
    let scratch = Scratch::new("declare-kill-9-loop").unwrap();
    let mut node = Node::start(scratch.path()).unwrap();
    let url = node.url();
    let mut clients: Vec<Client> = ["d0", "d1", "d2"]
        .iter()
        .map(|name| {
            let arguments = ["--url", &url, "--queue", name];
            Client::start(&Place::Loopback, "declare", name, scratch.path(), &arguments).unwrap()
        })
        .collect();
    let mut confirms = [Events::of("confirm"); 3];
    for round in 0..=KILLS {
        await_confirms(&clients, &mut confirms, 30);
        if round < KILLS {
            node = node.crash_and_restart().unwrap();
        }
    }
    for client in &mut clients {
        client.finish().unwrap();
    }
    node = node.crash_and_restart().unwrap();
    for name in ["d0", "d1", "d2"] {
        let record = scratch.path().join(format!("{name}.record"));
        let record = record.to_string_lossy();
        let found =
            clients::run("declare", &["--url", &url, "--queue", name, "--out", &record, "--check"]).unwrap();
        println!("{name}: {}", found.trim());
        assert!(found.trim().ends_with(", 0 wrong"), "{found}");
    }
    drop(node);
    scratch.passed();
}
