//! `rabbitmq_http_client`, the client of RabbitMQ's HTTP API for Rust, against our API: its program is
//! `tests/clients/http`.

use harness::api::Api;
use harness::node::Node;
use harness::scratch::Scratch;
use harness::wire::{Client, Login};
use harness::{Needs, ready};
use serde_json::json;
use std::thread;
use std::time::Duration;
use xtask::lab::Process;
use xtask::libraries;

const LIMIT: Duration = Duration::from_secs(180);

/// What it tries, in this order.
const PARTS: [&str; 16] = [
    "overview",
    "nodes",
    "vhosts",
    "users",
    "permissions",
    "queues",
    "exchanges",
    "bindings",
    "policies",
    "parameters",
    "limits",
    "messages",
    "connections",
    "definitions",
    "health_checks",
    "refusals",
];

#[test]
fn the_rust_client_of_the_http_api_reads_and_changes_everything_it_knows_of() {
    if !ready("rabbitmq_http_client", &[Needs::HttpClient]) {
        return;
    }
    let scratch = Scratch::new("http-client").unwrap();
    // A broker of its own: it renames the cluster, and imports everything that it exported.
    let broker = Node::start(scratch.path()).unwrap();
    Api::new(broker.management_port).put("queues/%2F/seen", &json!({}));
    let mut seen = Client::with(broker.port, &Login { connection_name: "seen", ..Login::default() });
    seen.consume(1, "seen", "worker", true);
    let mut closed = Client::with(broker.port, &Login { connection_name: "closed", ..Login::default() });
    let mut command = libraries::http_client().unwrap();
    command.arg(format!("http://127.0.0.1:{}/api", broker.management_port)).arg(broker.port.to_string());
    let mut program = Process::spawn("http", command, &scratch.path().join("http.log")).unwrap();
    // The client is told why, and is gone from the lists when it has answered.
    let told = thread::spawn(move || closed.expect_connection_close(320, "by the test", (0, 0)));
    let status = program.wait(LIMIT);
    program.kill();
    let log = program.log();
    assert!(status.unwrap().success(), "it failed:\n{log}");
    let passed: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(passed, PARTS);
    told.join().unwrap();
    drop((seen, broker));
    scratch.passed();
}
