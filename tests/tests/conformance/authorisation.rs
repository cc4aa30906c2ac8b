//! Who may do what: configure, write and read, topics, tags, and what happens when that changes.

use crate::{client, node};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, exchange, queue};
use harness::args;
use harness::wire::{Client, Login, name};
use serde_json::json;

/// Logs in with the password that users of tests have.
fn login(user: &str) -> Client {
    node().client_with(&Login { user, password: "pw", ..Login::default() })
}

fn refusal(kind: &str, name: &str, user: &str) -> String {
    format!("access to {kind} '{name}' in vhost '/' refused for user '{user}'")
}

/// A queue and an exchange that everybody could see.
struct Things {
    owner: Client,
    queue: String,
    exchange: String,
}

impl Things {
    fn new() -> Self {
        let (mut owner, queue, exchange) = (client(), name("q"), name("x"));
        owner.declare(1, &queue::Declare { queue: &queue, ..Default::default() });
        owner.exchange(1, &exchange, "direct");
        Self { owner, queue, exchange }
    }
}

impl Drop for Things {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.owner.delete_queue(1, &self.queue);
        }
    }
}

#[test]
fn who_may_nothing_is_refused_everything() {
    let things = Things::new();
    let (queue, exchange) = (things.queue.as_str(), things.exchange.as_str());
    let user = node().api.user_with(["^$", "^$", "^$"]);
    let mut client = login(&user);
    let no_queue = refusal("queue", queue, &user);
    let no_exchange = refusal("exchange", exchange, &user);
    client.refused(1, queue::Declare { queue, ..Default::default() }, 403, &no_queue);
    client.refused(1, queue::Delete { queue, ..Default::default() }, 403, &no_queue);
    client.refused(1, queue::Purge { queue, nowait: false }, 403, &no_queue);
    client.refused(1, basic::Get { queue, no_ack: true }, 403, &no_queue);
    client.refused(1, basic::Consume { queue, ..Default::default() }, 403, &no_queue);
    let bind = queue::Bind { queue, exchange, routing_key: "k", ..Default::default() };
    client.refused(1, bind, 403, &no_queue);
    let unbind = queue::Unbind { queue, exchange, routing_key: "k", ..Default::default() };
    client.refused(1, unbind, 403, &no_queue);
    let declare = exchange::Declare { exchange, kind: "direct", ..Default::default() };
    client.refused(1, declare, 403, &no_exchange);
    client.refused(1, exchange::Delete { exchange, ..Default::default() }, 403, &no_exchange);
    let bind = exchange::Bind { destination: exchange, source: "amq.fanout", ..Default::default() };
    client.refused(1, bind, 403, &no_exchange);
    client.publish_to(1, exchange, "k", b"x");
    client.expect_channel_close(1, 403, &no_exchange, (60, 40));
    client.publish(1, queue, b"x");
    client.expect_channel_close(1, 403, &refusal("exchange", "amq.default", &user), (60, 40));
    // Looking needs no permission.
    client.declare(1, &queue::Declare { queue, passive: true, ..Default::default() });
    let passive = exchange::Declare { exchange, passive: true, ..Default::default() };
    client.call(1, passive, "exchange.declare-ok");
}

#[test]
fn binding_writes_to_the_queue_and_reads_from_the_exchange() {
    let things = Things::new();
    let (queue, exchange) = (things.queue.as_str(), things.exchange.as_str());
    let bind = queue::Bind { queue, exchange, routing_key: "k", ..Default::default() };
    let writer = node().api.user_with(["^$", queue, "^$"]);
    login(&writer).refused(1, bind, 403, &refusal("exchange", exchange, &writer));
    let reader = node().api.user_with(["^$", "^$", exchange]);
    login(&reader).refused(1, bind, 403, &refusal("queue", queue, &reader));
    let both = node().api.user_with(["^$", queue, exchange]);
    login(&both).call(1, bind, "queue.bind-ok");
}

#[test]
fn patterns_match_anywhere_in_a_name() {
    let user = node().api.user_with(["mine", "^out-", "-in$"]);
    let mut client = login(&user);
    let good = format!("xx-mine-{}", name("q"));
    client.declare(1, &queue::Declare { queue: &good, exclusive: true, ..Default::default() });
    let bad = name("min");
    let declare = queue::Declare { queue: &bad, exclusive: true, ..Default::default() };
    client.refused(1, declare, 403, &refusal("queue", &bad, &user));
    let no = refusal("queue", &good, &user);
    client.refused(1, basic::Get { queue: &good, no_ack: true }, 403, &no);
    client.refused(1, queue::Purge { queue: &good, nowait: false }, 403, &no);
}

#[test]
fn an_empty_pattern_allows_nothing() {
    let user = node().api.user_with([".*", "", ".*"]);
    let mut client = login(&user);
    let queue = client.own_queue();
    client.publish(1, &queue, b"x");
    client.expect_channel_close(1, 403, &refusal("exchange", "amq.default", &user), (60, 40));
}

#[test]
fn names_that_the_broker_finds_need_permission_too() {
    let user = node().api.user_with(["^amq\\.gen", "^amq\\.default$", "^amq\\.gen"]);
    let mut client = login(&user);
    let queue = client.own_queue();
    client.publish(1, &queue, b"x");
    assert_eq!(client.get(1, &queue).unwrap().text(), "x");
}

#[test]
fn what_a_queue_or_exchange_sends_on_to_needs_permission() {
    let user = node().api.user_with([".*", "^$", ".*"]);
    let mut client = login(&user);
    let queue = name("q");
    let arguments = args! { "x-dead-letter-exchange" => "some-dlx" };
    let declare =
        queue::Declare { queue: &queue, exclusive: true, arguments: arguments.table(), ..Default::default() };
    client.refused(1, declare, 403, &refusal("exchange", "some-dlx", &user));
    let exchange = name("x");
    let arguments = args! { "alternate-exchange" => "some-ae" };
    let arguments = arguments.table();
    let declare = exchange::Declare { exchange: &exchange, kind: "direct", arguments, ..Default::default() };
    client.refused(1, declare, 403, &refusal("exchange", "some-ae", &user));
}

#[test]
fn a_changed_permission_holds_for_who_is_connected() {
    let user = node().api.user_with([".*", ".*", ".*"]);
    let mut client = login(&user);
    let queue = client.own_queue();
    client.publish(1, &queue, b"x");
    client.wait_ready(1, &queue, 1);
    node().api.permit("/", &user, ["^$", "^$", "^$"]);
    // A channel remembers what it was allowed for a while; a new one asks again.
    client.open(2);
    let another = name("q");
    let declare = queue::Declare { queue: &another, exclusive: true, ..Default::default() };
    client.refused(2, declare, 403, &refusal("queue", &another, &user));
    client.publish(2, &queue, b"y");
    client.expect_channel_close(2, 403, &refusal("exchange", "amq.default", &user), (60, 40));
}

#[test]
fn topics_are_permitted_apart() {
    let user = node().api.user_with([".*", ".*", ".*"]);
    let body = json!({ "exchange": "amq.topic", "write": "^yes", "read": "^yes" });
    node().api.put(&format!("topic-permissions/%2F/{user}"), &body);
    let mut client = login(&user);
    let queue = client.own_queue();
    client.bind(1, &queue, "amq.topic", "yes.#");
    client.publish_to(1, "amq.topic", "yes.1", b"x");
    client.wait_ready(1, &queue, 1);
    let refusal = |topic: &str| {
        format!("access to topic '{topic}' in exchange 'amq.topic' in vhost '/' refused for user '{user}'")
    };
    let bind =
        queue::Bind { queue: &queue, exchange: "amq.topic", routing_key: "no.#", ..Default::default() };
    client.refused(1, bind, 403, &refusal("no.#"));
    client.publish_to(1, "amq.topic", "no.1", b"x");
    client.expect_channel_close(1, 403, &refusal("no.1"), (60, 40));
    // Other exchanges are not concerned.
    client.publish_to(1, "amq.direct", "no.1", b"x");
    client.expect_nothing(1, &queue);
}

#[test]
fn an_impersonator_may_say_any_name() {
    let user = node().api.user("impersonator");
    node().api.permit("/", &user, [".*", ".*", ".*"]);
    let mut client = login(&user);
    let queue = client.own_queue();
    let properties = BasicProperties { user_id: Some("anyone".into()), ..Default::default() };
    client.publish_with(1, "", &queue, &properties, b"x");
    client.wait_ready(1, &queue, 1);
    assert_eq!(client.get(1, &queue).unwrap().properties(), properties);
}

#[test]
fn a_changed_password_shuts_out_the_old_one() {
    let user = node().api.user_with([".*", ".*", ".*"]);
    let mut connected = login(&user);
    node().api.put(&format!("users/{user}"), &json!({ "password": "new", "tags": "" }));
    let mut client = node().stranger();
    let close = client.login(&Login { user: &user, password: "pw", ..Login::default() }).unwrap_err();
    assert_eq!(close.code, 403);
    drop(node().client_with(&Login { user: &user, password: "new", ..Login::default() }));
    connected.own_queue();
}

#[test]
fn limits_of_a_vhost() {
    let api = &node().api;
    let vhost = api.vhost();
    api.put(&format!("vhost-limits/{vhost}/max-queues"), &json!({ "value": 1 }));
    let login = Login { vhost: &vhost, ..Login::default() };
    let mut client = node().client_with(&login);
    client.declare(1, &queue::Declare { queue: "a", ..Default::default() });
    client.declare(1, &queue::Declare { queue: "a", ..Default::default() });
    let text = format!("cannot declare queue 'b': queue limit in vhost '{vhost}' (1) is reached");
    client.refused(1, queue::Declare { queue: "b", ..Default::default() }, 406, &text);
    api.put(&format!("vhost-limits/{vhost}/max-connections"), &json!({ "value": 0 }));
    let mut second = node().stranger();
    let close = second.login(&login).unwrap_err();
    let text = format!(
        "NOT_ALLOWED - access to vhost '{vhost}' refused for user 'guest': connection limit (0) is reached"
    );
    assert_eq!((close.code, close.text, close.at), (530, text, (10, 40)));
    // The first is not concerned, and a limit that is taken away is none.
    client.delete_queue(1, "a");
    api.delete(&format!("vhost-limits/{vhost}/max-connections"));
    drop(node().client_with(&login));
}

#[test]
fn limits_of_a_user() {
    let api = &node().api;
    let user = api.user_with([".*", ".*", ".*"]);
    api.put(&format!("user-limits/{user}/max-connections"), &json!({ "value": 1 }));
    api.put(&format!("user-limits/{user}/max-channels"), &json!({ "value": 2 }));
    let mut client = login(&user);
    client.open(2);
    // RabbitMQ counts a channel a moment after it is open.
    let close = xtask::lab::wait::until(harness::wire::PATIENCE, "a refused channel", || {
        client.send(3, amqp::method::channel::Open);
        let answer = client.receive().unwrap();
        if answer.name() == "channel.open-ok" {
            assert!(harness::against_rabbitmq(), "here it counts at once");
            client.close_channel(3);
            return None;
        }
        Some(answer.close())
    })
    .unwrap();
    let text = format!(
        "NOT_ALLOWED - number of channels opened for user '{user}' has reached the maximum allowed user limit of (2)"
    );
    assert_eq!((close.code, close.text), (530, text));
    client.send(0, amqp::method::connection::CloseOk);
    client.expect_end();
    let mut one = login_soon(&user);
    let mut second = node().stranger();
    let close = second.login(&Login { user: &user, password: "pw", ..Login::default() }).unwrap_err();
    let text =
        format!("NOT_ALLOWED - connection refused for user '{user}': user connection limit (1) is reached");
    assert_eq!((close.code, close.text), (530, text));
    one.own_queue();
}

/// Logs in as soon as the connection before counts no more.
fn login_soon(user: &str) -> Client {
    xtask::lab::wait::until(harness::wire::PATIENCE, "room for a connection", || {
        let mut client = node().stranger();
        client.login(&Login { user, password: "pw", ..Login::default() }).ok()?;
        client.open(1);
        Some(client)
    })
    .unwrap()
}

#[test]
fn a_server_side_refusal_names_the_method() {
    let user = node().api.user_with(["^$", "^$", "^$"]);
    let mut client = login(&user);
    client.send(1, queue::Declare { queue: "x", ..Default::default() });
    let received = client.expect("channel.close");
    let Method::ChannelClose(close) = received.method() else { unreachable!() };
    assert_eq!((close.class_id, close.method_id), (50, 10));
}
