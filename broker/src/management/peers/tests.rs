//! Putting answers of nodes together.

use super::super::listing::ListQuery;
use super::merge;
use axum::body::to_bytes;
use axum::extract::Query;
use axum::http::Uri;
use serde_json::{Value, json};

fn query(text: &str) -> ListQuery {
    let uri: Uri = format!("/api/queues?{text}").parse().unwrap();
    Query::<ListQuery>::try_from_uri(&uri).unwrap().0
}

/// What a node with these rows answers to its part of the question.
async fn node(text: &str, rows: &[Value]) -> Vec<u8> {
    let each = merge::query_of_each(&query(text), text).unwrap();
    let answer = query(&each).answer(rows.to_vec()).unwrap();
    to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
}

/// What is answered when the rows are spread over nodes, and when one has them all.
async fn both(text: &str, nodes: &[Vec<Value>]) -> (Value, Value) {
    let mut parts = Vec::new();
    for rows in nodes {
        parts.push(node(text, rows).await);
    }
    let spread = merge::lists(&query(text), &parts, false).unwrap();
    let alone = query(text).answer(nodes.concat()).unwrap();
    let mut read = Vec::new();
    for answer in [spread, alone] {
        let octets = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        read.push(serde_json::from_slice(&octets).unwrap());
    }
    (read.remove(0), read.remove(0))
}

fn rows() -> Vec<Vec<Value>> {
    let row = |name: &str, messages: u64| json!({"name": name, "messages": messages, "stats": {"ack": messages * 2}});
    vec![vec![row("a", 5), row("b", 1), row("c", 9)], vec![], vec![row("d", 4), row("e", 7), row("other", 8)]]
}

#[tokio::test]
async fn a_list_of_several_nodes_is_as_if_one_had_it_all() {
    for text in [
        "",
        "columns=name",
        "columns=name,stats.ack",
        "sort=messages",
        "sort=messages&sort_reverse=true&columns=name",
        "page=1&page_size=2",
        "page=2&page_size=2&sort=messages",
        "page=3&page_size=2&sort=stats.ack&sort_reverse=true&columns=name",
        "page=1&page_size=10&name=oth&sort=name",
        "page=1&page_size=2&name=%5E%5Ba-d%5D&use_regex=true&sort=messages&columns=name,messages",
    ] {
        let (spread, alone) = both(text, &rows()).await;
        assert_eq!(spread, alone, "{text}");
    }
    let parts = [node("page=4&page_size=2", &rows()[0]).await];
    assert!(merge::lists(&query("page=4&page_size=2"), &parts, false).is_err(), "out of range");
}

#[test]
fn each_node_is_asked_for_as_many_rows_as_can_be_on_the_page() {
    let each = |text: &str| merge::query_of_each(&query(text), text).unwrap();
    assert_eq!(
        each("page=3&page_size=50&sort=a.b&columns=name&name=x"),
        "sort=a.b&name=x&first=150&columns=name,a.b"
    );
    assert_eq!(each("msg_rates_age=60&columns="), "msg_rates_age=60");
    assert_eq!(each(""), "");
}

#[test]
fn numbers_are_added_and_listeners_collected() {
    let mut own = json!({
        "node": "rabbit@a",
        "object_totals": {"queues": 3, "connections": 1},
        "queue_totals": {"messages": 5, "messages_details": {"rate": 0.5, "samples": [{"sample": 5, "timestamp": 9}]}},
        "listeners": [{"node": "rabbit@a"}],
    });
    let other = json!({
        "node": "rabbit@b",
        "object_totals": {"queues": 3, "connections": 2},
        "queue_totals": {"messages": 7, "messages_details": {"rate": 1.0, "samples": [{"sample": 2, "timestamp": 8}]}, "messages_ready": 4},
        "listeners": [{"node": "rabbit@b"}],
    });
    merge::sums(&mut own, &[other]);
    assert_eq!(
        own,
        json!({
            "node": "rabbit@a",
            "object_totals": {"queues": 3, "connections": 3},
            "queue_totals": {"messages": 12, "messages_details": {"rate": 1.5, "samples": [{"sample": 7, "timestamp": 9}]}, "messages_ready": 4},
            "listeners": [{"node": "rabbit@a"}, {"node": "rabbit@b"}],
        })
    );
    let mut vhosts = json!([{"name": "/", "messages": 1, "cluster_state": {"rabbit@a": "running"}}, {"name": "v", "messages": 2}]);
    let others = [
        json!([{"name": "v", "messages": 5}, {"name": "/", "messages": 3, "cluster_state": {"rabbit@b": "running"}}]),
    ];
    merge::sums(&mut vhosts, &others);
    assert_eq!(
        vhosts,
        json!([{"name": "/", "messages": 4, "cluster_state": {"rabbit@a": "running", "rabbit@b": "running"}}, {"name": "v", "messages": 7}])
    );
}

#[test]
fn other_nodes_are_asked_for_numbers_only_when_numbers_are_shown() {
    for (text, wanted) in [
        ("", true),
        ("columns=name", false),
        ("columns=name,vhost&sort=name", false),
        ("columns=name&sort=message_stats.publish_in", true),
        ("columns=name%2Cmessages", true),
        ("columns=node", false),
        ("columns=object_totals.queues", true),
        ("columns=name&where=messages%3E0", true),
    ] {
        assert_eq!(merge::wants_sums(&query(text)), wanted, "{text}");
    }
    assert_eq!(
        merge::without_list_query(
            "page=2&page_size=5&sort=a&name=x&columns=a&msg_rates_age=60&msg_rates_incr=5"
        ),
        "msg_rates_age=60&msg_rates_incr=5"
    );
}

#[test]
fn rows_are_found_by_vhost_and_name_and_what_was_not_counted_here_counts() {
    let mut own =
        json!([{"vhost": "/", "name": "x"}, {"vhost": "v", "name": "x", "message_stats": {"publish_in": 1}}]);
    let other = json!([{"vhost": "v", "name": "x", "message_stats": {"publish_in": 2}}, {"vhost": "/", "name": "x", "message_stats": {"publish_in": 5}}]);
    merge::sums(&mut own, &[other]);
    assert_eq!(
        own,
        json!([{"vhost": "/", "name": "x", "message_stats": {"publish_in": 5}}, {"vhost": "v", "name": "x", "message_stats": {"publish_in": 3}}])
    );
}

#[test]
fn alarms_of_all_nodes_are_one_list() {
    let refusal = |node: &str| {
        json!({"status": "failed", "reason": "r", "alarms": [{"node": node, "resource": "disk"}]})
            .to_string()
            .into_bytes()
    };
    assert_eq!(merge::alarms(&[]), None);
    assert_eq!(
        merge::alarms(&[refusal("a"), refusal("b")]),
        Some(
            json!({"status": "failed", "reason": "r", "alarms": [{"node": "a", "resource": "disk"}, {"node": "b", "resource": "disk"}]})
        )
    );
}
