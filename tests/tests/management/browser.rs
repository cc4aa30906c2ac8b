//! The web pages in a browser.
//!
//! The scenarios are in `tests/clients/browser`, driven by Playwright in Debian's Chromium. Pictures of every page
//! stay below `target/screenshots`.

use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::time::Duration;
use xtask::lab::Process;
use xtask::{install, libraries};

/// How long a browser may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a program of `tests/clients/browser` with a broker of its own; it has to say `ok` to these.
fn plays(program: &str, needs: &[Needs], expected: &[&str]) {
    if !ready(program, needs) {
        return;
    }
    let name = program.trim_end_matches(".js");
    let scratch = Scratch::new(&format!("browser-{name}")).unwrap();
    let broker = Node::start_with(scratch.path(), &Setup::default()).unwrap();
    let mut command = libraries::browser(program).unwrap();
    command.arg(format!("http://127.0.0.1:{}", broker.management_port));
    command.arg(format!("amqp://guest:guest@127.0.0.1:{}", broker.port));
    command.arg(xtask::target().join("screenshots"));
    let mut browser = Process::spawn(name, command, &scratch.path().join("browser.log")).unwrap();
    let status = browser.wait(LIMIT);
    browser.kill();
    let log = browser.log();
    assert!(status.unwrap().success(), "{program} failed:\n{log}");
    let passed: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(passed, expected);
    drop(browser);
    drop(broker);
    scratch.passed();
}

#[test]
fn rabbitmqs_own_pages_show_what_our_api_answers() {
    let pages = [
        "overview",
        "node",
        "connections",
        "connection",
        "channels",
        "channel",
        "exchanges",
        "exchange",
        "default_exchange",
        "queues",
        "queue",
        "quorum_queue",
        "users",
        "user",
        "vhosts",
        "vhost",
        "flags",
        "policies",
        "policy",
        "operator_policy",
        "limits",
        "cluster",
    ];
    plays("rabbitmq.js", &[Needs::Browser, Needs::Programs(install::RABBITMQ)], &pages);
}

#[test]
fn every_page_and_form_of_ours_works() {
    let scenarios = [
        "login",
        "overview",
        "node",
        "definitions",
        "exchanges",
        "exchange",
        "queues",
        "searching",
        "queue",
        "messages",
        "pausing",
        "publishing",
        "connections",
        "channels",
        "closing",
        "users",
        "vhosts",
        "policies",
        "limits",
        "flags",
        "cluster",
        "everything_is_accessible",
        "dark",
        "on_a_phone",
        "keyboard",
        "users_who_may_less",
        "an_unreachable_node_is_told",
        "logout",
    ];
    plays("pages.js", &[Needs::Browser], &scenarios);
}
