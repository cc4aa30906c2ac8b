//! The HTTP API behind a proxy that leaves a beginning on its paths, and used by pages of other sites.

use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::process::Command;
use xtask::install;

const TOOLS: &str = "https://tools.example";

/// What comes back: the status and the head with names of headers in lower case.
fn asked(node: &Node, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{path}", node.management_port);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "-u", "guest:guest", "-X", method]);
    headers.iter().for_each(|header| {
        curl.args(["-H", header]);
    });
    let output = curl.arg(url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    (status, answer)
}

#[test]
fn paths_begin_where_a_proxy_leaves_them() {
    if !ready("path_prefix", &[Needs::Programs(install::NETWORK), Needs::Programs(install::RABBITMQ)]) {
        return;
    }
    let scratch = Scratch::new("path-prefix").unwrap();
    let node =
        Node::start_with(scratch.path(), &Setup::configured("[management]\npath_prefix = '/broker'\n", ""))
            .unwrap();
    for (path, status) in [
        ("/broker/api/whoami", 200),
        ("/broker/api/exchanges/%2F//bindings/source", 200),
        ("/broker/", 200),
        ("/broker/js/main.js", 200),
        ("/api/whoami", 404),
        ("/brokers/api/whoami", 404),
    ] {
        let (got, answer) = asked(&node, "GET", path, &[]);
        assert_eq!(got, status, "{path}: {answer}");
    }
    for path in ["/", "/broker"] {
        let (status, answer) = asked(&node, "GET", path, &[]);
        assert!(status == 307 && answer.contains("location: /broker/\r\n"), "{path}: {answer}");
    }
    let output = Command::new("rabbitmqadmin")
        .args(["--path-prefix=/broker", "-H", "127.0.0.1", "-P", &node.management_port.to_string()])
        .args(["-f", "tsv", "list", "vhosts", "name"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "name\n/\n", "{output:?}");
    drop(node);
    scratch.passed();
}

#[test]
fn pages_of_named_sites_may_use_the_api_and_those_of_others_may_not() {
    if !ready("cross-origin requests", &[Needs::Programs(install::NETWORK)]) {
        return;
    }
    let scratch = Scratch::new("origins").unwrap();
    let ours = "[management]\nallow_origins = ['https://tools.example']\ncors_max_age = 60\n";
    let node = Node::start_with(scratch.path(), &Setup::configured(ours, "")).unwrap();
    let own = [&*format!("Origin: {TOOLS}"), "Sec-Fetch-Site: cross-site"];
    let (status, answer) = asked(&node, "GET", "/api/whoami", &own);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(&format!("access-control-allow-origin: {TOOLS}\r\n")), "{answer}");
    assert!(answer.contains("access-control-allow-credentials: true\r\n"), "{answer}");
    // Before it changes something a browser asks what it may do.
    let first =
        [own[0], "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization"];
    let (status, answer) = asked(&node, "OPTIONS", "/api/vhosts/made", &first);
    assert_eq!(status, 200, "{answer}");
    for header in [
        "access-control-allow-methods: HEAD, GET, PUT, DELETE, OPTIONS",
        "access-control-allow-headers: authorization",
        "access-control-max-age: 60",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    assert_eq!(asked(&node, "PUT", "/api/vhosts/made", &own).0, 201);
    let foreign = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"];
    let (_, answer) = asked(&node, "GET", "/api/whoami", &foreign);
    assert!(!answer.contains("access-control-"), "{answer}");
    assert_eq!(asked(&node, "DELETE", "/api/vhosts/made", &foreign).0, 401);
    assert_eq!(asked(&node, "GET", "/api/vhosts/made", &[]).0, 200);
    drop(node);
    scratch.passed();
}

#[test]
fn pages_of_all_sites_may_read_when_all_are_named_and_change_nothing() {
    if !ready("cross-origin requests of all", &[Needs::Programs(install::NETWORK)]) {
        return;
    }
    let scratch = Scratch::new("origins-all").unwrap();
    let ours = "[management]\nallow_origins = ['*']\n";
    let node = Node::start_with(scratch.path(), &Setup::configured(ours, "")).unwrap();
    let page = [&*format!("Origin: {TOOLS}"), "Sec-Fetch-Site: cross-site"];
    let (status, answer) = asked(&node, "GET", "/api/whoami", &page);
    assert!(status == 200 && answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    assert!(!answer.contains("access-control-allow-credentials"), "{answer}");
    assert_eq!(asked(&node, "PUT", "/api/vhosts/made", &page).0, 401);
    drop(node);
    scratch.passed();
}
