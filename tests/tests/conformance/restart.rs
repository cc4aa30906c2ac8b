//! What a restart leaves, and what clients are told about it.

use amqp::content::BasicProperties;
use amqp::method::{Method, exchange, queue};
use harness::node::Node;
use harness::scratch::Scratch;
use harness::wire::{Client, queue_in};
use harness::{args, table};

fn persistent() -> BasicProperties {
    BasicProperties { delivery_mode: Some(2), ..Default::default() }
}

fn passive(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue, passive: true, ..Default::default() }
}

/// Publishes and waits until the broker has taken it.
fn store(client: &mut Client, queue: &str, properties: &BasicProperties, body: &[u8]) {
    assert_eq!(client.publish_confirmed(1, queue, properties, body).name(), "basic.ack");
}

/// Everything of which it matters whether it is still there afterwards.
fn prepare(client: &mut Client) {
    client.confirm(1);
    let limited = args! { "x-max-length" => 100 };
    let sorted = args! { "x-max-priority" => 5 };
    let durable = queue::Declare { durable: true, ..Default::default() };
    client.declare(1, &queue::Declare { queue: "durable", arguments: limited.table(), ..durable });
    client.declare(1, &queue::Declare { queue: "priorities", arguments: sorted.table(), ..durable });
    client.declare(1, &queue::Declare { queue: "transient", ..Default::default() });
    client.declare(1, &queue::Declare { queue: "mine", exclusive: true, ..durable });
    let keeps = exchange::Declare { exchange: "keeps", kind: "topic", durable: true, ..Default::default() };
    let goes = exchange::Declare { exchange: "goes", kind: "fanout", ..Default::default() };
    for declare in [keeps, goes] {
        client.call(1, declare, "exchange.declare-ok");
    }
    let arguments = args! { "note" => 1 };
    client.bind_with(1, "durable", "keeps", "a.*", &arguments);
    let bind =
        exchange::Bind { destination: "amq.fanout", source: "keeps", routing_key: "b", ..Default::default() };
    client.call(1, bind, "exchange.bind-ok");
    client.bind(1, "durable", "amq.fanout", "");
    let transient = BasicProperties { delivery_mode: Some(1), ..Default::default() };
    store(client, "durable", &transient, b"transient");
    let properties = BasicProperties { headers: Some(table! { "k" => "v" }), ..persistent() };
    store(client, "durable", &properties, b"p0");
    store(client, "durable", &persistent(), b"p1");
    store(client, "transient", &persistent(), b"p");
    for (body, priority) in [(b"low", 1), (b"top", 4)] {
        store(client, "priorities", &BasicProperties { priority: Some(priority), ..persistent() }, body);
    }
    // Out, and not acknowledged when the broker stops.
    assert_eq!(client.get_unacked(1, "durable").text(), "transient");
    assert_eq!(client.get_unacked(1, "durable").text(), "p0");
}

fn check(client: &mut Client) {
    let limited = args! { "x-max-length" => 100 };
    let durable = queue::Declare { queue: "durable", durable: true, ..Default::default() };
    let ok = client.call(1, queue::Declare { arguments: limited.table(), ..durable }, "queue.declare-ok");
    let Method::QueueDeclareOk(ok) = ok.method() else { unreachable!() };
    assert_eq!((ok.message_count, ok.consumer_count), (2, 0));
    let (first, second) = (client.get(1, "durable").unwrap(), client.get(1, "durable").unwrap());
    assert_eq!((first.text(), first.redelivered(), first.header("k")), ("p0", true, Some("v".to_owned())));
    assert_eq!((second.text(), second.redelivered()), ("p1", false));
    assert_eq!(client.drain(1, "priorities"), ["top", "low"]);
    for gone in ["transient", "mine"] {
        client.refused(1, passive(gone), 404, &format!("no {}", queue_in(gone)));
    }
    let goes = exchange::Declare { exchange: "goes", passive: true, ..Default::default() };
    client.refused(1, goes, 404, "no exchange 'goes' in vhost '/'");
    for key in ["a.b", "b"] {
        client.publish_to(1, "keeps", key, key.as_bytes());
    }
    assert_eq!(client.drain(1, "durable"), ["a.b", "b"]);
    // The binding's arguments are there too: without them it is another one.
    let unbind =
        queue::Unbind { queue: "durable", exchange: "keeps", routing_key: "a.*", ..Default::default() };
    client.call(1, unbind, "queue.unbind-ok");
    client.publish_to(1, "keeps", "a.b", b"still bound");
    assert_eq!(client.drain(1, "durable"), ["still bound"]);
}

#[test]
fn clients_are_told_and_what_is_durable_is_there_again() {
    let scratch = Scratch::new("conformance-restart").unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let mut client = Client::new(node.port);
    prepare(&mut client);
    let told = std::thread::spawn(move || client.expect("connection.close").close());
    let node = node.restart().unwrap();
    let close = told.join().unwrap();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!((close.channel, close.code, &*close.text, close.at), (0, 320, text, (0, 0)));
    check(&mut Client::new(node.port));
    drop(node);
    scratch.passed();
}
