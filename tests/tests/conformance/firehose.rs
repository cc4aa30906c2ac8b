//! The firehose: copies of what is published and delivered in a vhost that is traced.

use crate::node;
use amqp::content::BasicProperties;
use amqp::table::{FieldTable, FieldValue};
use harness::table;
use harness::wire::{Client, Login};
use serde_json::json;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_millis(200);

/// A client of a vhost, and one that gets what its firehose tells.
fn watched(vhost: &str) -> (Client, Client) {
    let login = Login { vhost, ..Login::default() };
    let (client, mut watcher) = (node().client_with(&login), node().client_with(&login));
    let seen = watcher.own_queue();
    watcher.bind(1, &seen, "amq.rabbitmq.trace", "#");
    watcher.consume(1, &seen, "w", true);
    (client, watcher)
}

fn trace(vhost: &str, tracing: bool) {
    node().api.put(&format!("vhosts/{vhost}"), &json!({ "tracing": tracing }));
}

/// The next copy, which is told with this key: its headers.
fn copy(watcher: &mut Client, key: &str) -> FieldTable {
    let copy = watcher.expect("basic.deliver");
    assert_eq!(copy.address(), ("amq.rabbitmq.trace", key));
    assert_eq!(copy.text(), "body");
    copy.headers()
}

fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(FieldValue::as_str)
}

fn list(texts: &[&str]) -> FieldValue {
    FieldValue::Array(texts.iter().map(|text| FieldValue::long_str(*text)).collect())
}

#[test]
fn what_is_published_is_told_with_where_it_came_from_and_went() {
    let vhost = node().api.vhost();
    let (mut client, mut watcher) = watched(&vhost);
    let queue = client.own_queue();
    client.bind(1, &queue, "amq.direct", "k");
    trace(&vhost, true);
    let properties = BasicProperties {
        content_type: Some(b"text/plain".to_vec()),
        priority: Some(4),
        headers: Some(table! { "CC" => list(&["other"]) }),
        ..Default::default()
    };
    client.publish_with(1, "amq.direct", "k", &properties, b"body");
    let told = copy(&mut watcher, "publish.amq.direct");
    assert_eq!(text(&told, "node").unwrap(), node().api.get("overview")["node"]);
    for (name, value) in [("exchange_name", "amq.direct"), ("vhost", &*vhost), ("user", "guest")] {
        assert_eq!(text(&told, name), Some(value), "{name}");
    }
    assert_eq!(told.get("routing_keys"), Some(&list(&["k", "other"])));
    assert_eq!(told.get("routed_queues"), Some(&list(&[&queue])));
    assert_eq!(told.get("channel"), Some(&FieldValue::SignedInt(1)));
    let (own, peer) = (client.stream.local_addr().unwrap(), client.stream.peer_addr().unwrap());
    assert_eq!(text(&told, "connection"), Some(&*format!("{own} -> {peer}")));
    let shown = told.get("properties").and_then(FieldValue::as_table).unwrap();
    assert_eq!(text(shown, "content_type"), Some("text/plain"));
    assert_eq!(shown.get("priority"), Some(&FieldValue::SignedInt(4)));
    assert!(shown.get("headers").and_then(FieldValue::as_table).unwrap().contains("CC"));
    assert!(!shown.contains("app_id"));
    // The message itself is untouched.
    let got = client.get_soon(1, &queue);
    assert_eq!((got.text(), got.properties()), ("body", properties));
}

#[test]
fn what_is_delivered_is_told_each_time() {
    let vhost = node().api.vhost();
    let (mut client, mut watcher) = watched(&vhost);
    let queue = client.own_queue();
    client.publish(1, &queue, b"body");
    client.wait_ready(1, &queue, 1);
    trace(&vhost, true);
    let got = client.get_unacked(1, &queue);
    let told = copy(&mut watcher, &format!("deliver.{queue}"));
    assert_eq!(told.get("redelivered"), Some(&FieldValue::SignedInt(0)));
    assert!(!told.contains("routed_queues"));
    client.reject(1, got.tag(), true);
    client.consume(1, &queue, "c", true);
    assert_eq!(client.delivery(1).text(), "body");
    let told = copy(&mut watcher, &format!("deliver.{queue}"));
    assert_eq!(told.get("redelivered"), Some(&FieldValue::SignedInt(1)));
    // What watchers get is not told again.
    watcher.expect_silence(A_WHILE);
}

#[test]
fn nothing_is_told_before_and_after_and_of_other_vhosts() {
    let vhost = node().api.vhost();
    let (mut client, mut watcher) = watched(&vhost);
    let queue = client.own_queue();
    client.publish(1, &queue, b"before");
    assert_eq!(client.get_soon(1, &queue).text(), "before");
    trace(&vhost, true);
    let mut other = crate::client();
    let elsewhere = other.own_queue();
    other.publish(1, &elsewhere, b"elsewhere");
    assert_eq!(other.get_soon(1, &elsewhere).text(), "elsewhere");
    client.publish(1, &queue, b"body");
    copy(&mut watcher, "publish.");
    assert_eq!(client.get_soon(1, &queue).text(), "body");
    copy(&mut watcher, &format!("deliver.{queue}"));
    trace(&vhost, false);
    client.publish(1, &queue, b"after");
    assert_eq!(client.get_soon(1, &queue).text(), "after");
    watcher.expect_silence(A_WHILE);
}
