//! `/api/feature-flags`: what RabbitMQ 3.10 can switch on while nodes are upgraded. Here all of it always is.

use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, no_content};
use axum::extract::{Path, Query};
use serde_json::json;

/// Name, description, documentation, and the part of RabbitMQ that has it.
const FLAGS: [(&str, &str, &str, &str); 9] = [
    ("classic_mirrored_queue_version", "Support setting version for classic mirrored queues", "", "rabbit"),
    (
        "drop_unroutable_metric",
        "Count unroutable publishes to be dropped in stats",
        "",
        "rabbitmq_management_agent",
    ),
    (
        "empty_basic_get_metric",
        "Count AMQP `basic.get` on empty queues in stats",
        "",
        "rabbitmq_management_agent",
    ),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
        "",
        "rabbit",
    ),
    ("maintenance_mode_status", "Maintenance mode status", "", "rabbit"),
    (
        "quorum_queue",
        "Support queues of type `quorum`",
        "https://www.rabbitmq.com/quorum-queues.html",
        "rabbit",
    ),
    ("stream_queue", "Support queues of type `stream`", "https://www.rabbitmq.com/stream.html", "rabbit"),
    ("user_limits", "Configure connection and channel limits for a user", "", "rabbit"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)", "", "rabbit"),
];

/// What this broker does not have.
const MISSING: &str = "stream_queue";

pub(super) async fn all(_caller: Caller, Query(query): Query<ListQuery>) -> Answer {
    let flags = FLAGS.iter().map(|(name, description, url, provided_by)| {
        json!({
            "name": name, "desc": description, "doc_url": url, "stability": "stable", "provided_by": provided_by,
            // As of a flag that some node does not support; clients enable all that are disabled.
            "state": if *name == MISSING { "unavailable" } else { "enabled" },
        })
    });
    query.answer(flags.collect())
}

pub(super) async fn enable(caller: Caller, Path(name): Path<String>) -> Answer {
    caller.administrator()?;
    match FLAGS.iter().find(|(known, ..)| *known == name) {
        Some((MISSING, ..)) => Err(Refusal::bad_request("unsupported: there are no streams")),
        Some(_) => no_content(),
        None => Err(Refusal::bad_request(format!("unknown feature flag: {name}"))),
    }
}
