//! RabbitMQ's firehose: copies of what is published and delivered in a vhost that is traced.

use crate::client::{Broker, Client, Received};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, queue};
use amqp::table::{FieldTable, FieldValue};
use std::time::Duration;

fn headers(copy: &Received) -> FieldTable {
    copy.properties().headers.unwrap()
}

fn list(texts: &[&str]) -> FieldValue {
    FieldValue::Array(texts.iter().map(|text| FieldValue::long_str(*text)).collect())
}

fn copy(client: &mut Client, key: &str) -> Received {
    let copy = client.expect("basic.deliver");
    let Method::BasicDeliver(deliver) = copy.method() else { unreachable!() };
    assert_eq!((deliver.exchange, deliver.routing_key), ("amq.rabbitmq.trace", key));
    assert_eq!(copy.body, b"body");
    copy
}

#[test]
fn a_traced_vhost_copies_what_is_published_and_delivered_until_it_is_not_traced_any_more() {
    let broker = Broker::start(&[]);
    let (mut client, mut watcher) = (broker.client(), broker.client());
    let seen = watcher.own_queue();
    let bind = queue::Bind {
        queue: &seen,
        exchange: "amq.rabbitmq.trace",
        routing_key: "#",
        ..queue::Bind::default()
    };
    watcher.call(1, &bind, "queue.bind-ok");
    watcher.consume(1, &seen, "w", true);
    client.declare(1, &queue::Declare { queue: "traced", ..queue::Declare::default() });
    client.publish(1, "traced", b"before");
    broker.put("/api/vhosts/%2F", r#"{"tracing":true}"#);
    watcher.expect_silence(Duration::from_millis(100));
    client.call(1, &queue::Purge { queue: "traced", nowait: false }, "queue.purge-ok");

    let publish = basic::Publish { exchange: "amq.direct", routing_key: "k", ..basic::Publish::default() };
    let bind =
        queue::Bind { queue: "traced", exchange: "amq.direct", routing_key: "k", ..queue::Bind::default() };
    client.call(1, &bind, "queue.bind-ok");
    let properties = BasicProperties {
        content_type: Some(b"text/plain".to_vec()),
        priority: Some(4),
        headers: Some(FieldTable::from_iter([("CC".to_owned(), list(&["other"]))])),
        ..BasicProperties::default()
    };
    client.put_publish(1, &publish, &properties, b"body");
    client.flush();
    let published = headers(&copy(&mut watcher, "publish.amq.direct"));
    assert_eq!(published.get("exchange_name").unwrap().as_str(), Some("amq.direct"));
    assert_eq!(published.get("routing_keys"), Some(&list(&["k", "other"])));
    assert_eq!(published.get("routed_queues"), Some(&list(&["traced"])));
    for (name, value) in [("node", "rabbit@wire"), ("vhost", "/"), ("user", "guest")] {
        assert_eq!(published.get(name).unwrap().as_str(), Some(value), "{name}");
    }
    assert_eq!(published.get("channel"), Some(&FieldValue::SignedInt(1)));
    let port = client.stream.local_addr().unwrap().port();
    let connection = published.get("connection").unwrap().as_str().unwrap();
    assert!(connection.starts_with(&format!("127.0.0.1:{port} -> ")), "{connection}");
    let shown = published.get("properties").unwrap().as_table().unwrap();
    assert_eq!(shown.get("content_type").unwrap().as_str(), Some("text/plain"));
    assert_eq!(shown.get("priority"), Some(&FieldValue::SignedInt(4)));
    assert!(shown.get("headers").unwrap().as_table().unwrap().contains("CC"));
    assert!(shown.get("app_id").is_none());

    let got = client.call(1, &basic::Get { queue: "traced", no_ack: false }, "basic.get-ok");
    assert_eq!(got.body, b"body", "the message itself is untouched");
    let delivered = headers(&copy(&mut watcher, "deliver.traced"));
    assert_eq!(delivered.get("redelivered"), Some(&FieldValue::SignedInt(0)));
    assert!(delivered.get("routed_queues").is_none());
    client.send(1, &basic::Reject { delivery_tag: 1, requeue: true });
    client.consume(1, "traced", "c", true);
    client.expect("basic.deliver");
    let delivered = headers(&copy(&mut watcher, "deliver.traced"));
    assert_eq!(delivered.get("redelivered"), Some(&FieldValue::SignedInt(1)));
    // What watchers get is not told again.
    watcher.expect_silence(Duration::from_millis(100));
    broker.put("/api/vhosts/%2F", r#"{"tracing":false}"#);
    client.publish(1, "traced", b"after");
    client.expect("basic.deliver");
    watcher.expect_silence(Duration::from_millis(100));
}
