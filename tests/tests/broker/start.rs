//! Starting, and what a person is told when that is not possible.

use harness::node::{Node, Setup, command, free_port};
use harness::scratch::Scratch;
use harness::{Needs, programs, ready};
use std::process::{Command, Output};
use xtask::stack::{Cast, Maker};

/// The messages are ours: there is nothing to compare with.
fn ours(test: &str) -> bool {
    Cast::from_environment().broker == Maker::Ours && ready(test, &[])
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_web_client_on_the_amqp_port_is_shown_the_protocol_header() {
    if !ready("curl on the AMQP port", &[Needs::Programs(xtask::install::NETWORK)]) {
        return;
    }
    let scratch = Scratch::new("curl").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let url = format!("http://127.0.0.1:{}/", node.port);
    // The connection may be reset behind the header, which curl reports as its exit code: only what it
    // shows matters.
    let shown = Command::new("curl").args(["-s", "-m", "5", "--http0.9", "-o", "-", &url]).output().unwrap();
    assert_eq!(shown.stdout, b"AMQP\0\0\x09\x01");
    drop(node);
    scratch.passed();
}

#[test]
fn a_second_start_on_the_same_data_says_who_holds_it() {
    if !ours("second start") {
        return;
    }
    let scratch = Scratch::new("second-start").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let second = command(scratch.path(), free_port().unwrap(), free_port().unwrap(), &Setup::default())
        .unwrap()
        .output()
        .unwrap();
    let text = told(&second);
    assert!(!second.status.success(), "{text}");
    assert!(text.contains(&node.process.pid().to_string()), "the holder's process id is missing in: {text}");
    assert!(text.contains("data"), "{text}");
    harness::clients::run("basics", &["get_of_an_empty_queue_is_empty", &node.port.to_string()]).unwrap();
    drop(node);
    scratch.passed();
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    if !ours("port in use") {
        return;
    }
    let scratch = Scratch::new("port-in-use").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output =
        command(scratch.path(), port, free_port().unwrap(), &Setup::default()).unwrap().output().unwrap();
    let text = told(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&port.to_string()) && text.contains("in use"), "{text}");
    scratch.passed();
}

#[test]
fn a_wrong_configuration_is_shown_with_its_line_and_the_nearest_key() {
    if !ours("wrong configuration") {
        return;
    }
    let scratch = Scratch::new("wrong-configuration").unwrap();
    let file = scratch.path().join("broker.toml");
    std::fs::write(&file, "[node]\nname = \"rabbit@x\"\n[amqp]\nlisen = \"0.0.0.0:5672\"\n").unwrap();
    let output =
        Command::new(programs::folder().join("broker")).arg("--check").arg("-c").arg(&file).output().unwrap();
    let text = told(&output);
    assert!(!output.status.success(), "{text}");
    for part in ["broker.toml:4:1", "lisen", "listen"] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
    let output =
        Command::new(programs::folder().join("broker")).args(["-c", "/no/such.toml"]).output().unwrap();
    let text = told(&output);
    assert!(!output.status.success() && text.contains("/no/such.toml"), "{text}");
    scratch.passed();
}
