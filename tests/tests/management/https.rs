//! The HTTP API and the pages over TLS: curl, and the command line that RabbitMQ's package ships.

#[path = "../../../broker/src/tls/testing.rs"]
#[allow(dead_code, reason = "nobody shows a certificate of a client here")]
mod certificates;

use harness::api::Api;
use harness::node::{Node, Setup, free_port};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use xtask::install::{self, Need};

const CURL: &[Need] = &[Need { program: "curl", package: "curl" }];
const LOGIN: &str = "username=guest&password=guest";

/// What curl says to these words, and how it ends.
fn curl(words: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new("curl").args(["--silent", "--show-error", "--include"]).args(words).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The cookie that a login by form is answered with.
fn cookie(answer: &str) -> &str {
    answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_else(|| panic!("{answer}"))
}

fn with_tls(folder: &Path, port: u16) -> Node {
    let (certificate, key) = certificates::server();
    for (name, text) in [("ca", &certificates::authority().0), ("cert", &certificate), ("key", &key)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let at = folder.display();
    let ours =
        format!("[management.tls]\nlisten = '127.0.0.1:{port}'\ncert = '{at}/cert'\nkey = '{at}/key'\n");
    // The settings live as long as the test program, as those of the other tests do.
    Node::start_with(folder, &Setup::configured(ours.leak(), "")).unwrap()
}

#[test]
fn the_api_and_the_pages_are_served_over_tls() {
    if !ready("HTTPS", &[Needs::Programs(CURL), Needs::Programs(install::RABBITMQ)]) {
        return;
    }
    let scratch = Scratch::new("https").unwrap();
    let port = free_port().unwrap();
    let node = with_tls(scratch.path(), port);
    let ca = scratch.path().join("ca").display().to_string();
    let (place, base) = (format!("localhost:{port}:127.0.0.1"), format!("https://localhost:{port}"));
    let known = ["--cacert", &ca, "--resolve", &place];
    let (code, answer) = curl(&[&known[..], &["-u", "guest:guest", &format!("{base}/api/whoami")]].concat());
    assert_eq!(code, Some(0), "{answer}");
    assert!(answer.ends_with(r#"{"name":"guest","tags":["administrator"]}"#), "{answer}");
    let (_, page) = curl(&[&known[..], &[&format!("{base}/")]].concat());
    assert!(page.contains("text/html") && page.contains("<html"), "{page}");
    // A browser sends the cookie of a login over TLS over TLS only.
    let login = format!("{base}/api/login");
    let (_, answer) = curl(&[&known[..], &["--data", LOGIN, &login]].concat());
    assert!(cookie(&answer).contains("; Secure"), "{answer}");
    let plain = format!("http://127.0.0.1:{}/api/login", node.management_port);
    let (_, answer) = curl(&["--data", LOGIN, &plain]);
    assert!(!cookie(&answer).contains("Secure"), "{answer}");
    let (code, said) = curl(&["--resolve", &place, &base]);
    assert_eq!(code, Some(60), "an authority that nobody knows: {said}");
    let (code, said) = curl(&[&known[..], &["--tls-max", "1.1", &base]].concat());
    assert_ne!(code, Some(0), "a version that is not safe any more: {said}");
    let (code, said) = curl(&[&format!("http://127.0.0.1:{port}/")]);
    assert_ne!(code, Some(0), "plain HTTP on the port for TLS: {said}");

    let output = Command::new("rabbitmqadmin")
        .args(["--ssl", &format!("--ssl-ca-cert-file={ca}"), "-H", "localhost", "-P", &port.to_string()])
        .args(["-f", "tsv", "list", "vhosts", "name"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "name\n/\n");

    let overview = Api::new(node.management_port).get("overview");
    let listeners = overview["listeners"].as_array().unwrap();
    let listener = listeners.iter().find(|it| it["protocol"] == "https").unwrap();
    assert_eq!(listener["port"], json!(port), "{overview}");
    let certificate = &listener["socket_opts"]["certfile"];
    assert_eq!(*certificate, json!(scratch.path().join("cert")), "{overview}");
    drop(node);
    scratch.passed();
}
