//! `rabbitmqadmin`, the command line that RabbitMQ's package ships, against our API.

use crate::node;
use harness::wire::{Login, name};
use harness::{Needs, ready};
use std::process::{Command, Output};
use xtask::install;

fn can_run(test: &str) -> bool {
    ready(test, &[Needs::Programs(install::RABBITMQ)])
}

fn output(arguments: &[&str]) -> Output {
    Command::new("rabbitmqadmin")
        .args(["-H", "127.0.0.1", "-P", &node().management_port.to_string()])
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs it and returns what it prints; it must succeed.
fn admin(arguments: &[&str]) -> String {
    let output = output(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn everything_it_lists_is_listed() {
    if !can_run("rabbitmqadmin list") {
        return;
    }
    let client = node().client_with(&Login { connection_name: "listed", ..Login::default() });
    for what in [
        "connections",
        "channels",
        "consumers",
        "exchanges",
        "queues",
        "bindings",
        "users",
        "vhosts",
        "permissions",
        "nodes",
        "parameters",
        "policies",
        "operator_policies",
        "vhost_limits",
    ] {
        admin(&["list", what]);
    }
    assert!(admin(&["list", "vhosts", "name", "messages"]).contains("/"));
    assert!(admin(&["-f", "long", "-d", "3", "list", "connections"]).contains("listed"));
    assert!(admin(&["show", "overview"]).contains("rabbitmq_version"));
    drop(client);
}

#[test]
fn what_it_declares_publishes_and_gets_is_there_and_what_it_deletes_is_gone() {
    if !can_run("rabbitmqadmin declare") {
        return;
    }
    let (vhost, user) = (name("admin-vhost"), name("admin-user"));
    let in_vhost = format!("--vhost={vhost}");
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = [in_vhost.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        admin(&all)
    };
    admin(&["declare", "vhost", &format!("name={vhost}")]);
    admin(&["declare", "user", &format!("name={user}"), "password=pw", "tags=management"]);
    for user in [user.as_str(), "guest"] {
        let (vhost, user) = (format!("vhost={vhost}"), format!("user={user}"));
        admin(&["declare", "permission", &vhost, &user, "configure=.*", "write=.*", "read=.*"]);
    }
    assert!(run(&["declare", "exchange", "name=x", "type=topic"]).contains("exchange declared"));
    let arguments = r#"arguments={"x-message-ttl":60000}"#;
    assert!(run(&["declare", "queue", "name=q", "durable=true", arguments]).contains("queue declared"));
    assert!(
        run(&["declare", "binding", "source=x", "destination=q", "routing_key=a.#"]).contains("declared")
    );
    assert!(
        run(&["declare", "policy", "name=p", "pattern=^q", r#"definition={"max-length":10}"#])
            .contains("declared")
    );
    let limit = format!("vhost={vhost}");
    admin(&["declare", "vhost_limit", &limit, "name=max-queues", "value=10"]);
    assert!(
        run(&["publish", "exchange=x", "routing_key=a.b", "payload=hello"]).contains("Message published")
    );
    assert!(run(&["publish", "exchange=x", "routing_key=b", "payload=x"]).contains("NOT routed"));
    assert!(run(&["get", "queue=q", "ackmode=ack_requeue_true"]).contains("hello"));
    assert!(run(&["list", "queues", "name", "messages", "policy"]).contains("| q    | 1        | p      |"));
    assert!(run(&["purge", "queue", "name=q"]).contains("purged"));
    assert!(!run(&["get", "queue=q"]).contains("hello"));
    let binding =
        ["delete", "binding", "source=x", "destination_type=queue", "destination=q", "properties_key=a.%23"];
    run(&binding);
    for (kind, name) in [("policy", "p"), ("queue", "q"), ("exchange", "x")] {
        assert!(run(&["delete", kind, &format!("name={name}")]).contains("deleted"));
    }
    admin(&["delete", "user", &format!("name={user}")]);
    admin(&["delete", "vhost", &format!("name={vhost}")]);
    let refused = output(&[&in_vhost, "list", "queues"]);
    assert!(!refused.status.success());
}

#[test]
fn it_closes_connections_and_its_export_can_be_imported() {
    if !can_run("rabbitmqadmin export") {
        return;
    }
    let vhost = node().api.vhost();
    let mut client = node().client_with(&Login { vhost: &vhost, ..Login::default() });
    let connections = node().api.get(&format!("vhosts/{vhost}/connections"));
    let connection = connections[0]["name"].as_str().unwrap();
    admin(&["close", "connection", &format!("name={connection}")]);
    client.expect_connection_close(320, "Closed via management plugin", (0, 0));
    node().api.put(&format!("queues/{vhost}/kept"), &serde_json::json!({}));
    let file = xtask::target().join("e2e").join("rabbitmqadmin-export.json");
    let (path, vhost_option) = (file.to_string_lossy().into_owned(), format!("--vhost={vhost}"));
    admin(&[&vhost_option, "export", &path]);
    node().api.delete(&format!("queues/{vhost}/kept"));
    admin(&[&vhost_option, "import", &path]);
    assert_eq!(node().api.get(&format!("queues/{vhost}/kept"))["durable"], true);
}
