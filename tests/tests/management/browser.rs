//! The web pages in a browser.
//!
//! The scenarios are in `tests/clients/browser`, driven by Playwright in Debian's Chromium. Pictures of every page
//! stay below `target/screenshots`.

use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::path::Path;
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
    let scratch = Scratch::new(&format!("browser-{}", program.trim_end_matches(".js"))).unwrap();
    let broker = Node::start_with(scratch.path(), &Setup::default()).unwrap();
    assert_eq!(shown(program, scratch.path(), broker.management_port, broker.port), expected);
    drop(broker);
    scratch.passed();
}

/// What a program of `tests/clients/browser` said `ok` to, of the broker at these ports.
///
/// # Panics
/// It fails.
pub(super) fn shown(program: &str, folder: &Path, management_port: u16, port: u16) -> Vec<String> {
    let mut command = libraries::browser(program).unwrap();
    command.arg(format!("http://127.0.0.1:{management_port}"));
    command.arg(format!("amqp://guest:guest@127.0.0.1:{port}"));
    command.arg(xtask::target().join("screenshots"));
    let mut browser =
        Process::spawn(program.trim_end_matches(".js"), command, &folder.join("browser.log")).unwrap();
    let status = browser.wait(LIMIT);
    browser.kill();
    let log = browser.log();
    assert!(status.unwrap().success(), "{program} failed:\n{log}");
    log.lines().filter_map(|line| line.strip_prefix("ok ")).map(str::to_owned).collect()
}

#[test]
fn rabbitmqs_own_pages_and_forms_work_with_our_api() {
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
    let forms = [
        "add_vhost",
        "add_user",
        "set_permission",
        "set_topic_permission",
        "update_user",
        "clear_topic_permission",
        "clear_permission",
        "add_exchange",
        "add_queue",
        "bind",
        "publish",
        "publish_to_queue",
        "get",
        "purge",
        "unbind",
        "add_policy",
        "add_operator_policy",
        "delete_policy",
        "set_vhost_limit",
        "set_user_limit",
        "rename_cluster",
        "reset",
        "close_connection",
        "delete_queue",
        "delete_exchange",
        "delete_user",
        "delete_vhost",
    ];
    let expected = [&pages[..], &forms].concat();
    plays("rabbitmq.js", &[Needs::Browser, Needs::Programs(install::RABBITMQ)], &expected);
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
