//! The HTTP API, asked over a socket: what is not a matter of single paths.

use crate::node;
use harness::wire::Login;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use xtask::lab::wait::until_true;

#[test]
fn the_node_says_who_it_is() {
    let overview = node().api.get("overview");
    assert_eq!(overview["node"], json!("rabbit@test"));
    assert_eq!(node().api.get("whoami"), json!({"name": "guest", "tags": ["administrator"]}));
}

#[test]
fn the_description_for_programs_has_every_path_and_options_says_what_is_allowed() {
    let description = node().api.get("openapi.json");
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 90, "{}", paths.len());
    for path in ["/api/queues/{vhost}/{name}/get", "/api/explain/{vhost}/{exchange}", "/api/overview"] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!(node().api.ask("OPTIONS", "overview", None).unwrap().0, 200);
    assert_eq!(node().api.ask("POST", "overview", None).unwrap().0, 405);
}

#[test]
fn rates_come_with_samples_of_what_was_counted() {
    let api = &node().api;
    let vhost = api.vhost();
    let mut client = node().client_with(&Login { vhost: &vhost, ..Login::default() });
    api.put(&format!("queues/{vhost}/q"), &json!({}));
    client.confirm(1);
    let query =
        "lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5&data_rates_age=60&data_rates_incr=5";
    let path = format!("queues/{vhost}/q?{query}");
    let mut shown = Value::Null;
    until_true(Duration::from_secs(30), "a sample of what was published", || {
        client.publish(1, "q", b"x");
        client.expect("basic.ack");
        shown = api.get(&path);
        shown["message_stats"]["publish_details"]["rate"].as_f64().unwrap() > 0.0
    })
    .unwrap();
    for details in [&shown["message_stats"]["publish_details"], &shown["messages_ready_details"]] {
        let samples = details["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 13, "{details}");
        let time = |at: usize| samples[at]["timestamp"].as_u64().unwrap();
        assert!(time(0) % 5000 == 0 && time(0) - time(1) == 5000, "{details}");
        assert!(samples[0]["sample"].as_u64().unwrap() > 0, "{details}");
        assert!(
            details["avg_rate"].as_f64().unwrap() > 0.0 && details["avg"].as_f64().unwrap() > 0.0,
            "{details}"
        );
    }
    let own = api.get(&format!("vhosts/{vhost}"));
    assert!(own["message_stats"]["confirm"].as_u64().unwrap() >= 1, "{own}");
    assert!(own["recv_oct"].as_u64().unwrap() > 0, "{own}");
    let channels = api.get(&format!("vhosts/{vhost}/channels?{query}"));
    let channel = &channels[0];
    assert_eq!((&channel["confirm"], &channel["messages_unconfirmed"]), (&json!(true), &json!(0)));
    assert_eq!(channel["message_stats"]["publish"], shown["message_stats"]["publish"]);
    let exchange = api.get(&format!("exchanges/{vhost}/amq.default"));
    assert_eq!(exchange["message_stats"]["publish_in"], shown["message_stats"]["publish"]);
}

#[test]
fn a_long_list_is_paged_sorted_and_answered_soon() {
    let api = &node().api;
    let vhost = api.vhost();
    let queues: Vec<Value> = (0..10_000)
        .map(|number| json!({"name": format!("q{number:05}"), "durable": false, "auto_delete": false, "arguments": {}}))
        .collect();
    let (status, answer) =
        api.ask("POST", &format!("definitions/{vhost}"), Some(&json!({ "queues": queues }))).unwrap();
    assert_eq!(status, 204, "{answer}");
    let mut client = node().client_with(&Login { vhost: &vhost, ..Login::default() });
    for (number, count) in [(77, 3), (4711, 2), (9999, 1)] {
        for _ in 0..count {
            client.publish(1, &format!("q{number:05}"), b"x");
        }
    }
    client.wait_ready(1, "q09999", 1);
    let page =
        format!("queues/{vhost}?page=1&page_size=3&sort=messages&sort_reverse=true&columns=name,messages");
    let began = Instant::now();
    let shown = api.get(&page);
    let took = began.elapsed();
    assert_eq!(shown["total_count"], 10_000);
    let item = |name: &str, messages: u64| json!({"name": name, "messages": messages});
    assert_eq!(shown["items"], json!([item("q00077", 3), item("q04711", 2), item("q09999", 1)]));
    let began = Instant::now();
    let all = api.get(&format!("queues/{vhost}"));
    let whole = began.elapsed();
    assert_eq!(all.as_array().unwrap().len(), 10_000);
    // Time is for people to read: it decides nothing.
    println!("10,000 queues: a sorted page in {took:?}, all of them in {whole:?}, with parsing");
}

#[test]
fn connections_of_a_user_are_listed_and_closed() {
    let api = &node().api;
    let user = api.user("");
    api.permit("/", &user, ["", "", ""]);
    let mut client = node().client_with(&Login { user: &user, password: "pw", ..Login::default() });
    let mine = api.get(&format!("connections/username/{user}"));
    assert_eq!((mine.as_array().unwrap().len(), &mine[0]["channels"]), (1, &json!(1)));
    let name = harness::api::encoded(mine[0]["name"].as_str().unwrap());
    assert_eq!(api.get(&format!("connections/{name}/channels"))[0]["number"], 1);
    api.delete(&format!("connections/username/{user}"));
    client.expect_connection_close(320, "Closed via management plugin", (0, 0));
    until_true(Duration::from_secs(10), "the connection to go", || {
        drop(client.receive());
        api.get(&format!("connections/username/{user}")) == json!([])
    })
    .unwrap();
}
