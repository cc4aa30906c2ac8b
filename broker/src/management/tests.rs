//! The API as a client sees it: a whole node in this process, asked over HTTP.
//!
//! Status codes and bodies are those of RabbitMQ 3.10.8.

use crate::config::cli::NodeArgs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Starts one node for all tests of this file and returns its HTTP port.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let [amqp, http] = [(); 2].map(|()| {
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
        });
        let args = NodeArgs {
            data: Some(tempfile::tempdir().unwrap().keep()),
            node: Some("rabbit@here".to_owned()),
            port: Some(amqp),
            management_port: Some(http),
            ..NodeArgs::default()
        };
        std::thread::spawn(move || crate::start::run(&args));
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", http)).is_err() {
            assert!(Instant::now() < deadline, "the node does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        http
    })
}

struct Got {
    status: u16,
    headers: String,
    body: Value,
}

fn ask_as(user: &str, method: &str, path: &str, body: &str) -> Got {
    ask_with("", user, method, path, body)
}

/// `more` are further headers, each with its line end.
fn ask_with(more: &str, user: &str, method: &str, path: &str, body: &str) -> Got {
    let mut stream = TcpStream::connect(("127.0.0.1", port())).unwrap();
    let login = STANDARD.encode(user);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\nconnection: close\r\n\
         {more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
    Got {
        status: headers.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.to_lowercase(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

fn ask(method: &str, path: &str, body: &Value) -> Got {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    ask_as("guest:guest", method, path, &text)
}

/// Asks and expects a status; `expected` is compared unless it is null.
#[track_caller]
fn expect(method: &str, path: &str, body: Value, status: u16, expected: Value) {
    let got = ask(method, path, &body);
    assert_eq!(got.status, status, "{method} {path}: {}", got.body);
    if !expected.is_null() {
        assert_eq!(got.body, expected, "{method} {path}");
    }
}

fn refused(error: &str, reason: &str) -> Value {
    json!({"error": error, "reason": reason})
}

const NULL: Value = Value::Null;

#[test]
fn topology_is_made_shown_and_removed() {
    expect("PUT", "/api/vhosts/t1", json!({"description": "d", "tags": "a,b"}), 201, NULL);
    expect("PUT", "/api/vhosts/t1", NULL, 204, NULL);
    let vhost = ask("GET", "/api/vhosts/t1", &NULL).body;
    assert_eq!(
        (&vhost["description"], &vhost["tags"]),
        (&json!("d"), &json!(["a", "b"])),
        "kept by an empty PUT"
    );
    let queue = json!({"durable": true, "auto_delete": false, "arguments": {"x-message-ttl": 1000}});
    expect("PUT", "/api/queues/t1/q1", queue.clone(), 201, NULL);
    expect("PUT", "/api/queues/t1/q1", queue, 204, NULL);
    expect(
        "PUT",
        "/api/queues/t1/q1",
        json!({"durable": false}),
        400,
        refused(
            "bad_request",
            "inequivalent arg 'durable' for queue 'q1' in vhost 't1': received 'false' but current is 'true'",
        ),
    );
    expect("PUT", "/api/exchanges/t1/x1", json!({"type": "direct"}), 201, NULL);
    let unknown = refused("bad_request", "unknown exchange type 'nosuch'");
    expect("PUT", "/api/exchanges/t1/x2", json!({"type": "nosuch"}), 400, unknown);
    let bound = ask("POST", "/api/bindings/t1/e/x1/q/q1", &json!({"routing_key": "a.#"}));
    assert_eq!(bound.status, 201);
    assert!(bound.headers.contains("location: q1/a.%23"), "{}", bound.headers);
    expect(
        "POST",
        "/api/bindings/t1/e/x1/q/nosuch",
        json!({"routing_key": "rk"}),
        404,
        refused("not_found", "no queue 'nosuch' in vhost 't1'"),
    );
    expect(
        "GET",
        "/api/bindings/t1/e/x1/q/q1",
        NULL,
        200,
        json!([{"source": "x1", "vhost": "t1", "destination": "q1", "destination_type": "queue",
                "routing_key": "a.#", "arguments": {}, "properties_key": "a.%23"}]),
    );
    expect("DELETE", "/api/bindings/t1/e/x1/q/q1/~nope", NULL, 404, refused("Object Not Found", "Not Found"));
    expect("DELETE", "/api/bindings/t1/e/x1/q/q1/a.%23", NULL, 204, NULL);
    expect("DELETE", "/api/exchanges/t1/amq.direct", NULL, 401, refused("not_authorised", "Access refused."));
    expect("DELETE", "/api/exchanges/t1/x1", NULL, 204, NULL);
    expect("DELETE", "/api/queues/t1/nosuch", NULL, 404, refused("Object Not Found", "Not Found"));
    expect("DELETE", "/api/vhosts/t1", NULL, 204, NULL);
    expect("GET", "/api/queues/t1", NULL, 404, NULL);
}

#[test]
fn messages_are_published_and_fetched() {
    expect("PUT", "/api/queues/%2F/msgs", json!({}), 201, NULL);
    let publish = json!({"properties": {"delivery_mode": 2, "headers": {"h": 1}}, "routing_key": "msgs",
                         "payload": "aGk=", "payload_encoding": "base64"});
    expect("POST", "/api/exchanges/%2F/amq.default/publish", publish, 200, json!({"routed": true}));
    let again =
        json!({"properties": {}, "routing_key": "nobody", "payload": "x", "payload_encoding": "string"});
    expect("POST", "/api/exchanges/%2F//publish", again, 200, json!({"routed": false}));
    let nowhere =
        json!({"properties": {}, "routing_key": "zz", "payload": "x", "payload_encoding": "string"});
    expect("POST", "/api/exchanges/%2F/amq.direct/publish", nowhere, 200, json!({"routed": false}));
    let in_use = refused("bad_request", "queue 'msgs' in vhost '/' not empty");
    expect("DELETE", "/api/queues/%2F/msgs?if-empty=true", NULL, 400, in_use);
    let get = |ackmode: &str| json!({"count": 5, "ackmode": ackmode, "encoding": "auto"});
    let message = |redelivered: bool| {
        json!([{"payload_bytes": 2, "redelivered": redelivered, "exchange": "", "routing_key": "msgs",
                "message_count": 0, "properties": {"delivery_mode": 2, "headers": {"h": 1}},
                "payload": "hi", "payload_encoding": "string"}])
    };
    expect("POST", "/api/queues/%2F/msgs/get", get("ack_requeue_true"), 200, message(false));
    expect("POST", "/api/queues/%2F/msgs/get", get("reject_requeue_false"), 200, message(true));
    expect("POST", "/api/queues/%2F/msgs/get", get("ack_requeue_false"), 200, json!([]));
    let missing = refused("bad_request", "[{key_missing,ackmode}]");
    expect("POST", "/api/queues/%2F/msgs/get", json!({"count": 1, "encoding": "auto"}), 400, missing);
    let counted = ask("GET", "/api/queues/%2F/msgs", &NULL).body;
    assert_eq!((&counted["messages"], &counted["message_stats"]["publish"]), (&json!(0), &json!(1)));
    expect("DELETE", "/api/queues/%2F/msgs/contents", NULL, 204, NULL);
    expect("DELETE", "/api/queues/%2F/msgs", NULL, 204, NULL);
}

#[test]
fn users_see_what_their_tags_allow() {
    expect("PUT", "/api/users/op", json!({"password": "pw", "tags": "management"}), 201, NULL);
    expect("PUT", "/api/users/op", json!({"password": "pw", "tags": ["management"]}), 204, NULL);
    expect("PUT", "/api/users/nobody", json!({"password": "pw", "tags": ""}), 201, NULL);
    let tagless = refused("bad_request", "tags_not_present");
    expect("PUT", "/api/users/op", json!({"password": "x"}), 400, tagless);
    let as_op = |method: &str, path: &str| ask_as("op:pw", method, path, "");
    let login = ask_as("op:wrong", "GET", "/api/overview", "");
    assert_eq!((login.status, &login.body), (401, &refused("not_authorized", "Login failed")));
    assert!(
        login.headers.contains("www-authenticate: basic realm=\"rabbitmq management\""),
        "{}",
        login.headers
    );
    assert_eq!(as_op("GET", "/api/whoami").body, json!({"name": "op", "tags": ["management"]}));
    for (path, reason) in [
        ("/api/users", "Not administrator user"),
        ("/api/queues/%2F", "User not authorised to access virtual host"),
        ("/api/nodes", "Not monitor user"),
        ("/api/policies/%2F/x", "User not authorised to access virtual host"),
    ] {
        let got = as_op("GET", path);
        assert_eq!((got.status, got.body), (401, refused("not_authorised", reason)), "{path}");
    }
    assert_eq!(as_op("GET", "/api/queues").body, json!([]), "lists leave out what is not seen");
    let tagless = ask_as("nobody:pw", "GET", "/api/whoami", "");
    assert_eq!((tagless.status, tagless.body), (401, refused("not_authorised", "Not management user")));
    let missing = refused("bad_request", "[{key_missing,read}]");
    expect("PUT", "/api/permissions/%2F/op", json!({"configure": "", "write": ""}), 400, missing);
    let nowhere = refused("bad_request", "vhost_or_user_not_found");
    let all = json!({"configure": "^$", "write": ".*", "read": ".*"});
    expect("PUT", "/api/permissions/nope/op", all.clone(), 400, nowhere);
    expect("PUT", "/api/permissions/%2F/op", all, 201, NULL);
    assert_eq!(as_op("GET", "/api/queues/%2F").status, 200);
    let declare = ask_as("op:pw", "PUT", "/api/queues/%2F/not-mine", "{}");
    assert_eq!((declare.status, declare.body), (401, refused("not_authorised", "Access refused.")));
    expect("DELETE", "/api/permissions/%2F/op", NULL, 204, NULL);
    expect("DELETE", "/api/permissions/%2F/op", NULL, 404, NULL);
    expect("POST", "/api/users/bulk-delete", json!({"users": ["op", "nobody"]}), 204, NULL);
    assert_eq!(as_op("GET", "/api/whoami").status, 401, "a deleted user is out at once");
}

#[test]
fn policies_are_checked_and_apply() {
    expect("PUT", "/api/vhosts/pol", NULL, 201, NULL);
    expect("PUT", "/api/queues/pol/orders", json!({}), 201, NULL);
    let policy = |pattern: &str, definition: Value| json!({"pattern": pattern, "definition": definition, "priority": 1, "apply-to": "queues"});
    expect("PUT", "/api/policies/pol/p", policy("^ord", json!({"max-length": 10})), 201, NULL);
    expect("PUT", "/api/operator-policies/pol/o", policy("", json!({"max-length": 5})), 201, NULL);
    expect("PUT", "/api/operator-policies/pol/o", policy("^", json!({"max-length": 5})), 204, NULL);
    let shown = ask("GET", "/api/queues/pol/orders", &NULL).body;
    assert_eq!((&shown["policy"], &shown["operator_policy"]), (&json!("p"), &json!("o")));
    assert_eq!(shown["effective_policy_definition"], json!({"max-length": 5}));
    for bad in [
        policy("[", json!({"max-length": 1})),
        policy("^", json!({"bogus": 10})),
        policy("^", json!({"max-length": -1})),
        policy("^", json!({"overflow": "explode"})),
        policy("^", json!({"ha-mode": "exactly"})),
        policy("^", json!({})),
        json!({"pattern": "^", "definition": {"max-length": 1}, "apply-to": "dogs"}),
    ] {
        let got = ask("PUT", "/api/policies/pol/bad", &bad);
        assert_eq!(got.status, 400, "{bad}");
        assert!(got.body["reason"].as_str().unwrap().starts_with("Validation failed\n\n"), "{}", got.body);
    }
    expect("DELETE", "/api/policies/pol/p", NULL, 204, NULL);
    expect("DELETE", "/api/policies/pol/p", NULL, 404, NULL);
    expect("DELETE", "/api/vhosts/pol", NULL, 204, NULL);
}

#[test]
fn lists_are_paged_sorted_and_cut_to_columns() {
    expect("PUT", "/api/vhosts/many", NULL, 201, NULL);
    for number in 0..7 {
        expect("PUT", &format!("/api/queues/many/q{number}"), json!({}), 201, NULL);
    }
    expect("PUT", "/api/queues/many/other", json!({}), 201, NULL);
    let path = "/api/queues/many?page=2&page_size=3&name=Q&sort=name&sort_reverse=true&columns=name,message_stats.ack";
    let page = ask("GET", path, &NULL).body;
    let item = |name: &str| json!({"name": name, "message_stats": {"ack": 0}});
    assert_eq!(page["items"], json!([item("q3"), item("q2"), item("q1")]));
    for (key, value) in [("filtered_count", 7), ("item_count", 3), ("page_count", 3), ("total_count", 8)] {
        assert_eq!(page[key], json!(value), "{key}");
    }
    assert_eq!(ask("GET", "/api/queues/many?page=9", &NULL).status, 400);
    assert_eq!(ask("GET", "/api/queues/many?page=1&name=%5B&use_regex=true", &NULL).status, 400);
    let found =
        ask("GET", "/api/queues/many?page=1&name=%5Eq%5B12%5D&use_regex=true&columns=name", &NULL).body;
    assert_eq!(found["items"], json!([{"name": "q1"}, {"name": "q2"}]));
    expect("DELETE", "/api/vhosts/many", NULL, 204, NULL);
}

#[test]
fn queues_are_sorted_by_the_numbers_that_are_shown() {
    expect("PUT", "/api/vhosts/sorted", NULL, 201, NULL);
    for (name, messages) in [("a", 2), ("b", 0), ("c", 3), ("d", 1)] {
        expect("PUT", &format!("/api/queues/sorted/{name}"), json!({}), 201, NULL);
        for _ in 0..messages {
            let message =
                json!({"properties": {}, "routing_key": name, "payload": "m", "payload_encoding": "string"});
            expect(
                "POST",
                "/api/exchanges/sorted/amq.default/publish",
                message,
                200,
                json!({"routed": true}),
            );
        }
    }
    for column in [
        "messages",
        "messages_ready",
        "messages_unacknowledged",
        "message_bytes",
        "consumers",
        "messages_details.rate",
        "message_stats.publish_details.rate",
        // Found out by writing.
        "message_stats.publish",
        "message_bytes_ram",
    ] {
        let path = format!("/api/queues/sorted?sort={column}&columns=name,{column}");
        let rows = ask("GET", &path, &NULL).body;
        let number = |row: &Value| column.split('.').fold(row, |value, key| &value[key]).as_f64().unwrap();
        let numbers: Vec<f64> = rows.as_array().unwrap().iter().map(number).collect();
        assert!(numbers.len() == 4 && numbers.is_sorted(), "{column}: {rows}");
    }
    let names = |sort: &str| {
        let rows = ask("GET", &format!("/api/queues/sorted?sort={sort}&columns=name"), &NULL).body;
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    for sort in ["messages", "messages_ready", "message_bytes", "message_stats.publish"] {
        assert_eq!(names(sort), "bdac", "{sort}");
    }
    expect("DELETE", "/api/vhosts/sorted", NULL, 204, NULL);
}

#[test]
fn pages_of_other_sites_change_nothing() {
    for (header, status) in [
        ("origin: https://evil.example\r\n", 401),
        ("origin: null\r\n", 401),
        ("sec-fetch-site: cross-site\r\n", 401),
        ("origin: http://localhost\r\n", 204),
        ("sec-fetch-site: same-origin\r\norigin: http://localhost\r\n", 204),
        ("", 204),
    ] {
        let got = ask_with(header, "guest:guest", "POST", "/api/rebalance/queues", "");
        assert_eq!(got.status, status, "{header}");
        assert_eq!(ask_with(header, "guest:guest", "GET", "/api/whoami", "").status, 200, "{header}");
    }
}

#[test]
fn lists_are_picked_by_conditions_before_they_are_cut_into_pages() {
    expect("PUT", "/api/vhosts/picked", NULL, 201, NULL);
    for (name, arguments) in [
        ("a", json!({})),
        ("b", json!({"x-dead-letter-exchange": "dead"})),
        ("c", json!({"x-max-length": 5})),
    ] {
        let queue = json!({"arguments": arguments});
        expect("PUT", &format!("/api/queues/picked/{name}"), queue, 201, NULL);
    }
    let policy = json!({"pattern": "^c$", "definition": {"dead-letter-exchange": "dead"}});
    expect("PUT", "/api/policies/picked/dlx", policy, 201, NULL);
    let names = |query: &str| {
        let page =
            ask("GET", &format!("/api/queues/picked?page=1&page_size=1&columns=name&{query}"), &NULL).body;
        (page["filtered_count"].clone(), page["total_count"].clone(), page["items"].clone())
    };
    let item = |count: u64, name: &str| (json!(count), json!(3), json!([{"name": name}]));
    let dlx = "where=arguments.x-dead-letter-exchange|effective_policy_definition.dead-letter-exchange";
    assert_eq!(names(dlx), item(2, "b"));
    assert_eq!(names(&format!("{dlx}&name=c")), item(1, "c"));
    assert_eq!(names("where=arguments.x-max-length%3E4,consumers=0"), item(1, "c"));
    assert_eq!(names("where=messages%3E0"), (json!(0), json!(3), json!([])));
    let whole = ask("GET", "/api/queues/picked?where=name=a&columns=name", &NULL).body;
    assert_eq!(whole, json!([{"name": "a"}]));
    assert_eq!(ask("GET", "/api/queues/picked?where=%3D5", &NULL).status, 400);
    expect("DELETE", "/api/vhosts/picked", NULL, 204, NULL);
}

#[test]
fn definitions_come_as_the_file_of_a_form_too() {
    expect("PUT", "/api/vhosts/form", NULL, 201, NULL);
    let form = |file: &str| {
        format!(
            "--B\r\nContent-Disposition: form-data; name=\"redirect\"\r\n\r\n/#/\r\n--B\r\nContent-Disposition: \
             form-data; name=\"file\"; filename=\"d.json\"\r\nContent-Type: application/json\r\n\r\n{file}\r\n--B--\r\n"
        )
    };
    let kind = "content-type: multipart/form-data; boundary=B\r\n";
    let queues = r#"{"queues": [{"name": "sent", "durable": true, "auto_delete": false, "arguments": {}}]}"#;
    let got = ask_with(kind, "guest:guest", "POST", "/api/definitions/form", &form(queues));
    assert_eq!(got.status, 204, "{}", got.body);
    expect("GET", "/api/queues/form/sent", NULL, 200, NULL);
    let got = ask_with(kind, "guest:guest", "POST", "/api/definitions/form", &form("no json"));
    assert_eq!((got.status, got.body), (400, refused("bad_request", "not_json")));
    let got = ask_with(kind, "guest:guest", "POST", "/api/definitions/form", "--B--\r\n");
    assert_eq!((got.status, got.body), (400, refused("bad_request", "the form has no file")));
    expect("DELETE", "/api/vhosts/form", NULL, 204, NULL);
}

#[test]
fn statistics_are_forgotten_by_an_administrator_who_asks() {
    let sample = |at: usize| {
        let path = "/api/nodes/rabbit@here?node_stats_age=60&node_stats_incr=5&columns=mem_used_details";
        ask("GET", path, &NULL).body["mem_used_details"]["samples"][at]["sample"].as_u64().unwrap()
    };
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("two samples are taken", &|| sample(1) > 0);
    // The next one may be taken right after it.
    until("what was before is forgotten", &|| {
        expect("DELETE", "/api/reset", NULL, 204, NULL);
        sample(1) == 0
    });
    assert!(sample(0) > 0, "there is a new sample at once");
    expect("DELETE", "/api/reset/rabbit@here", NULL, 204, NULL);
    expect("DELETE", "/api/reset/rabbit@there", NULL, 404, NULL);
    let watcher = json!({"password": "pw", "tags": "monitoring"});
    expect("PUT", "/api/users/resets", watcher, 201, NULL);
    assert_eq!(ask_as("resets:pw", "DELETE", "/api/reset", "").status, 401);
    expect("DELETE", "/api/users/resets", NULL, 204, NULL);
}

/// Lines of a stream of events that say what an event holds, until the stream ends.
fn events(user: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = TcpStream::connect(("127.0.0.1", port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let login = STANDARD.encode(user);
    write!(
        stream,
        "GET /api/events?interval=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\n\
         connection: close\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains(" 200 "));
    lines.filter_map(|line| Some(serde_json::from_str(line.unwrap().strip_prefix("data: ")?).unwrap()))
}

#[test]
fn events_bring_the_overview_until_their_user_may_not_look_any_more() {
    let watcher = |tags: &str, password: &str| json!({"password": password, "tags": tags});
    for (name, change) in [
        ("watch-1", Some(watcher("", "pw"))),
        ("watch-2", Some(watcher("monitoring", "other"))),
        ("watch-3", None),
    ] {
        expect("PUT", &format!("/api/users/{name}"), watcher("monitoring", "pw"), 201, NULL);
        let mut seen = events(&format!("{name}:pw"));
        let first = seen.next().unwrap();
        assert_eq!(first["node"], "rabbit@here");
        assert!(first["listeners"].is_array(), "a monitor sees more than others do");
        match &change {
            Some(user) => expect("PUT", &format!("/api/users/{name}"), user.clone(), 204, NULL),
            None => expect("DELETE", &format!("/api/users/{name}"), NULL, 204, NULL),
        }
        // One may have been on its way.
        assert!(seen.take(3).count() <= 1, "{name} goes on looking");
        if change.is_some() {
            expect("DELETE", &format!("/api/users/{name}"), NULL, 204, NULL);
        }
    }
}

#[test]
fn events_show_what_their_user_may_see_at_that_moment() {
    let watcher = json!({"password": "pw", "tags": "monitoring"});
    expect("PUT", "/api/users/watch-4", watcher, 201, NULL);
    let mut seen = events("watch-4:pw");
    assert!(seen.next().unwrap()["listeners"].is_array());
    let mut less = ask("GET", "/api/users/watch-4", &NULL).body;
    less["tags"] = json!("management");
    expect("PUT", "/api/users/watch-4", less, 204, NULL);
    assert!(seen.take(3).any(|overview| overview["listeners"].is_null()));
    expect("DELETE", "/api/users/watch-4", NULL, 204, NULL);
}

#[test]
fn a_page_of_another_site_does_not_start_the_aliveness_test() {
    let foreign = "sec-fetch-site: cross-site\r\n";
    assert_eq!(ask_with(foreign, "guest:guest", "GET", "/api/aliveness-test/%2F", "").status, 401);
    assert_eq!(ask_with("", "guest:guest", "GET", "/api/aliveness-test/%2F", "").status, 200);
}

#[test]
fn pages_may_load_and_send_within_the_node_only() {
    let headers = ask("GET", "/api/whoami", &NULL).headers;
    let line = headers.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert_eq!(line, "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
}

#[test]
fn health_definitions_and_the_rest() {
    expect("GET", "/api/aliveness-test/%2F", NULL, 200, json!({"status": "ok"}));
    expect("GET", "/api/health/checks/alarms", NULL, 200, json!({"status": "ok"}));
    expect("GET", &format!("/api/health/checks/port-listener/{}", port()), NULL, 200, NULL);
    let missing = ask("GET", "/api/health/checks/port-listener/1", &NULL);
    assert_eq!((missing.status, &missing.body["reason"]), (503, &json!("No active listener")));
    expect(
        "GET",
        "/api/health/checks/protocol-listener/amqp091",
        NULL,
        200,
        json!({"status": "ok", "protocol": "amqp"}),
    );
    assert_eq!(ask("GET", "/api/health/checks/protocol-listener/mqtt", &NULL).status, 503);
    expect("GET", "/api/nosuch", NULL, 404, refused("Object Not Found", "Not Found"));
    assert_eq!(ask("POST", "/api/overview", &NULL).status, 405);
    assert_eq!(
        ask_as("guest:guest", "PUT", "/api/queues/%2F/x", "garbage").body,
        refused("bad_request", "not_json")
    );
    expect("PUT", "/api/cluster-name", json!({"name": "prod"}), 204, NULL);
    expect("GET", "/api/cluster-name", NULL, 200, json!({"name": "prod"}));
    let nodes = ask("GET", "/api/nodes", &NULL).body;
    assert_eq!((&nodes[0]["name"], &nodes[0]["running"]), (&json!("rabbit@here"), &json!(true)));
    let unknown = json!({"error": "bad_request", "reason": ["no_such_vhost", "nope"]});
    expect("POST", "/api/definitions", json!({"queues": [{"name": "x", "vhost": "nope"}]}), 400, unknown);
    let mut exported = ask("GET", "/api/definitions", &NULL).body;
    assert_eq!(exported["product_name"], json!("RabbitMQ"));
    // Other tests delete their virtual hosts meanwhile.
    for list in exported.as_object_mut().unwrap().values_mut().filter_map(Value::as_array_mut) {
        list.retain(|it| it["vhost"].as_str().unwrap_or("/") == "/");
    }
    exported["vhosts"].as_array_mut().unwrap().retain(|it| it["name"] == "/");
    expect("POST", "/api/definitions", exported, 204, NULL);
    expect("PUT", "/api/vhost-limits/%2F/max-queues", json!({"value": 100_000}), 204, NULL);
    let limits = json!([{"vhost": "/", "value": {"max-queues": 100_000}}]);
    expect("GET", "/api/vhost-limits/%2F", NULL, 200, limits);
    expect("DELETE", "/api/vhost-limits/%2F/max-queues", NULL, 204, NULL);
    expect("DELETE", "/api/connections/none", NULL, 404, NULL);
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    for path in ["/api/connections/", "/api/queues/%2F/", "/api/queues/?page=1"] {
        assert_eq!(ask_as("guest:guest", "GET", path, "").status, 200, "{path}");
    }
    let paged = ask_as("guest:guest", "GET", "/api/queues/?page=1", "").body;
    assert_eq!(paged["page"], 1, "the query is kept");
    assert_eq!(ask_as("guest:guest", "GET", "/api/queues//", "").status, 404);
}
