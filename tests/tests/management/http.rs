//! The HTTP API, asked over a socket.

use crate::node;
use serde_json::json;

#[test]
fn the_node_says_who_it_is() {
    let overview = node().api.get("overview");
    assert_eq!(overview["node"], json!("rabbit@test"));
    assert_eq!(node().api.get("whoami"), json!({"name": "guest", "tags": ["administrator"]}));
}
