//! What a person is told when the balancer cannot start.

use harness::node::free_port;
use harness::programs;
use harness::scratch::Scratch;
use std::process::Command;
use xtask::stack::{Cast, Maker};

/// Runs the balancer on a configuration that it must refuse and returns what it said.
fn refused(name: &str, config: &str, arguments: &[&str]) -> Option<String> {
    if Cast::from_environment().proxy == Maker::Theirs {
        return None;
    }
    let scratch = Scratch::new(name).unwrap();
    let file = scratch.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let output =
        Command::new(programs::folder().join("proxy")).args(arguments).arg("-f").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{text}");
    scratch.passed();
    Some(text)
}

#[test]
fn a_port_in_use_is_named() {
    let port = free_port().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let config = format!("{DEFAULTS}listen x\n    bind 127.0.0.1:{port}\n    server a 127.0.0.1:1\n");
    let Some(text) = refused("proxy-port-in-use", &config, &[]) else { return };
    assert!(text.contains(&port.to_string()) && text.contains("in use"), "{text}");
}

#[test]
fn an_unknown_setting_is_shown_with_its_line_and_the_nearest_word() {
    let config = format!("{DEFAULTS}listen x\n    bind 127.0.0.1:1\n    balnce roundrobin\n");
    let Some(text) = refused("proxy-unknown-setting", &config, &["--check"]) else { return };
    for part in ["haproxy.cfg:8", "balnce", "balance"] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    if Cast::from_environment().proxy == Maker::Theirs {
        return;
    }
    let output =
        Command::new(programs::folder().join("proxy")).args(["-f", "/no/such.cfg"]).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("/no/such.cfg"), "{text}");
}

const DEFAULTS: &str =
    "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
