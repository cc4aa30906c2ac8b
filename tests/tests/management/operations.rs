//! What RabbitMQ's API lacks: peek, move, requeue, pause, explain; and the login of the web pages.

use crate::node;
use harness::api::Api;
use harness::args;
use harness::wire::{Client, Login};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A vhost of one test, with a client in it.
struct Vhost {
    name: String,
    client: Client,
}

impl Vhost {
    fn new() -> Self {
        let name = api().vhost();
        let client = node().client_with(&Login { vhost: &name, ..Login::default() });
        Self { name, client }
    }

    fn queue(&self, queue: &str, arguments: &Value) {
        api().put(&format!("queues/{}/{queue}", self.name), &json!({ "arguments": arguments }));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = api().ask("POST", &path.replace('V', &self.name), Some(body)).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn shown(&self, queue: &str) -> Value {
        api().get(&format!("queues/{}/{queue}", self.name))
    }

    fn bodies(&self, queue: &str) -> Vec<String> {
        let seen = self.post(&format!("queues/V/{queue}/peek"), &json!({}));
        seen.as_array().unwrap().iter().map(|it| it["payload"].as_str().unwrap().to_owned()).collect()
    }
}

fn api() -> &'static Api {
    &node().api
}

#[test]
fn peek_shows_messages_and_leaves_the_queue_as_it_was() {
    let mut it = Vhost::new();
    it.queue("q", &json!({}));
    for number in 0..5 {
        it.client.publish(1, "q", format!("m{number}").as_bytes());
    }
    it.client.wait_ready(1, "q", 5);
    let seen = it.post("queues/V/q/peek", &json!({"offset": 1, "count": 2, "truncate": 1}));
    let entry = |place: u64, behind: u64| {
        json!({"position": place, "payload_bytes": 2, "redelivered": false, "exchange": "", "routing_key": "q",
               "message_count": behind, "properties": [], "payload": "m", "payload_encoding": "string"})
    };
    assert_eq!(seen, json!([entry(1, 3), entry(2, 2)]));
    assert_eq!(it.post("queues/V/q/peek", &json!({"encoding": "base64", "count": 1}))[0]["payload"], "bTA=");
    assert_eq!(it.post("queues/V/q/peek", &json!({"offset": 5})), json!([]));
    let shown = it.shown("q");
    assert_eq!((&shown["messages_ready"], &shown["message_stats"]["deliver_get"]), (&json!(5), &json!(0)));
    let first = it.client.get_unacked(1, "q");
    assert_eq!((first.text(), first.redelivered()), ("m0", false));
    let (status, _) = api().ask("POST", &format!("queues/{}/none/peek", it.name), Some(&json!({}))).unwrap();
    assert_eq!(status, 404);
}

#[test]
fn messages_move_to_another_queue_in_order_and_those_it_refuses_stay() {
    let mut it = Vhost::new();
    it.queue("from", &json!({}));
    it.queue("to", &json!({}));
    it.queue("small", &json!({"x-max-length": 1, "x-overflow": "reject-publish"}));
    for number in 0..600 {
        it.client.publish(1, "from", format!("{number}").as_bytes());
    }
    it.client.wait_ready(1, "from", 600);
    let moved = it.post("queues/V/from/move", &json!({"destination": "to", "count": 598}));
    assert_eq!(moved, json!({"moved": 598, "refused": 0, "messages_ready": 2}));
    let expected: Vec<String> = (0..598).map(|number| number.to_string()).collect();
    assert_eq!(it.client.drain(1, "to"), expected);
    let moved = it.post("queues/V/from/move", &json!({"destination": "small"}));
    assert_eq!(moved, json!({"moved": 1, "refused": 1, "messages_ready": 1}));
    assert_eq!(it.bodies("from"), ["599"]);
    for (path, body, status) in [
        ("from", json!({"destination": "none"}), 404),
        ("from", json!({"destination": "from"}), 400),
        ("from", json!({}), 400),
        ("none", json!({"destination": "to"}), 404),
    ] {
        let path = format!("queues/{}/{path}/move", it.name);
        assert_eq!(api().ask("POST", &path, Some(&body)).unwrap().0, status, "{path} {body}");
    }
}

#[test]
fn dead_letters_go_back_to_where_they_came_from() {
    let mut it = Vhost::new();
    it.queue("work", &json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}));
    it.queue("dead", &json!({}));
    it.client.exchange(1, "in", "direct");
    it.client.bind(1, "work", "in", "key");
    it.client.publish_to(1, "in", "key", b"failed");
    it.client.publish(1, "dead", b"never was elsewhere");
    it.client.wait_ready(1, "work", 1);
    let tag = it.client.get_unacked(1, "work").tag();
    it.client.reject(1, tag, false);
    it.client.wait_ready(1, "dead", 2);
    let done = it.post("queues/V/dead/requeue", &json!({}));
    assert_eq!(done, json!({"moved": 1, "skipped": 1, "targets": {"work": 1}, "messages_ready": 1}));
    let back = it.client.get_unacked(1, "work");
    assert_eq!((back.text(), back.address()), ("failed", ("in", "key")));
    assert_eq!(back.deaths().len(), 1, "its history stays");
    assert_eq!(it.bodies("dead"), ["never was elsewhere"]);
}

#[test]
fn moving_needs_the_permissions_of_reading_and_writing() {
    let it = Vhost::new();
    it.queue("a-from", &json!({}));
    it.queue("b-to", &json!({}));
    let user = api().user("management");
    let asks = |permissions: [&str; 3], path: &str, body: &Value| {
        api().permit(&it.name, &user, permissions);
        let other = Api::as_user(node().management_port, &user, "pw");
        other.ask("POST", &format!("queues/{}/{path}", it.name), Some(body)).unwrap().0
    };
    let body = json!({"destination": "b-to"});
    assert_eq!(asks(["", "b-.*", "a-.*"], "a-from/move", &body), 200);
    assert_eq!(asks(["", "a-.*", "a-.*"], "a-from/move", &body), 401);
    assert_eq!(asks(["", "b-.*", "b-.*"], "a-from/move", &body), 401);
    assert_eq!(asks(["", "", "a-.*"], "a-from/peek", &json!({})), 200);
    assert_eq!(asks([".*", ".*", "b-.*"], "a-from/peek", &json!({})), 401);
}

#[test]
fn a_paused_queue_holds_its_consumers_back_and_takes_messages() {
    let mut it = Vhost::new();
    it.queue("q", &json!({}));
    it.client.consume(1, "q", "me", true);
    let pause = format!("queues/{}/q/pause", it.name);
    api().put(&pause, &json!({}));
    it.client.publish(1, "q", b"later");
    it.client.wait_ready(1, "q", 1);
    assert_eq!(it.shown("q")["paused"], true);
    it.client.expect_silence(std::time::Duration::from_millis(50));
    api().delete(&pause);
    assert_eq!(it.client.delivery(1).text(), "later");
    assert_eq!(it.shown("q")["paused"], false);
}

#[test]
fn explain_tells_the_way_through_the_bindings() {
    let mut it = Vhost::new();
    it.queue("eu", &json!({}));
    it.client.exchange(1, "orders", "topic");
    it.client.exchange(1, "by-header", "headers");
    it.client.bind(1, "eu", "orders", "*.eu");
    let arguments = args! { "x-match" => "all", "n" => 1i32 };
    it.client.bind_with(1, "eu", "by-header", "", &arguments);
    let told = it.post("explain/V/orders", &json!({"routing_key": "new.eu"}));
    assert_eq!((&told["routed"], &told["queues"][0]["name"]), (&json!(true), &json!("eu")));
    let step = &told["queues"][0]["path"][0];
    assert_eq!(
        (&step["source"], &step["destination"], &step["routing_key"], &step["reason"]),
        (&json!("orders"), &json!("eu"), &json!("*.eu"), &json!("routing key 'new.eu' matches '*.eu'"))
    );
    let told = it.post("explain/V/orders", &json!({"routing_key": "new.us"}));
    assert_eq!((&told["routed"], &told["dead_ends"]), (&json!(false), &json!(["orders"])));
    let told = it.post("explain/V/by-header", &json!({"headers": {"n": 1}}));
    assert_eq!(told["routed"], true, "{told}");
    let told = it.post("explain/V/amq.default", &json!({"routing_key": "eu"}));
    assert_eq!(
        told["queues"][0]["path"][0]["reason"],
        "every queue is bound to the default exchange by its name"
    );
}

/// Asks with these headers; the status, the headers in lower case and the body.
fn raw(method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", node().management_port)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[test]
fn the_web_pages_log_in_by_form_and_a_browser_shows_no_form_of_its_own() {
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (status, head, body) = raw("POST", "/api/login", form, "username=guest&password=wrong");
    assert_eq!((status, body.as_str()), (401, r#"{"error":"not_authorized","reason":"Login failed"}"#));
    assert!(!head.contains("www-authenticate"), "{head}");
    let (status, head, body) = raw("POST", "/api/login", form, "username=guest&password=guest");
    assert_eq!((status, body.as_str()), (200, r#"{"name":"guest","tags":["administrator"]}"#));
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    for part in ["httponly", "samesite=strict", "path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    // Names of headers were lowered together with the cookie: ask again for one as it is.
    let mut stream = TcpStream::connect(("127.0.0.1", node().management_port)).unwrap();
    let body = "username=guest&password=guest";
    write!(
        stream,
        "POST /api/login HTTP/1.0\r\nHost: localhost\r\n{form}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = format!("Cookie: theme=dark; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(raw("GET", "/api/whoami", &cookie, "").0, 200);
    let foreign = format!("{cookie}Origin: https://evil.example\r\n");
    assert_eq!(raw("POST", "/api/rebalance/queues", &foreign, "").0, 401);
    assert_eq!(raw("POST", "/api/rebalance/queues", &cookie, "").0, 204);
    assert_eq!(raw("POST", "/api/logout", &cookie, "").0, 204);
    let (status, head, _) = raw("GET", "/api/whoami", &format!("{cookie}X-Requested-With: page\r\n"), "");
    assert!(status == 401 && !head.contains("www-authenticate"), "{status} {head}");
    let (_, head, _) = raw("GET", "/api/whoami", &cookie, "");
    assert!(head.contains("www-authenticate"), "{head}");
    let (_, head, _) = raw("GET", "/", "", "");
    assert!(head.contains("content-security-policy: default-src 'self'"), "{head}");
    assert!(!head.contains("access-control-allow-origin"), "{head}");
}
