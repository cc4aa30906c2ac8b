//! `/api/consumers`.

use super::Api;
use super::asked::Asked;
use super::reply::Answer;
use crate::connection::info::ConnectionInfo;
use crate::metadata::json::from_table;
use broker_core::meta::{MetaSm, Queue};
use serde_json::{Value, json};
use std::sync::Arc;

/// `/api/consumers` and `/api/consumers/{vhost}`
pub(super) async fn list(asked: Asked) -> Answer {
    let entries = {
        let sm = asked.api.node.metadata.read();
        let queues = asked.vhosts(&sm)?.into_iter().flat_map(|id| sm.queues_in(id));
        queues.flat_map(|queue| consumers_of(&asked.api, &sm, queue)).collect()
    };
    asked.query.answer(entries)
}

/// The consumers of a queue.
pub(super) fn consumers_of(api: &Api, sm: &MetaSm, queue: &Queue) -> Vec<Value> {
    let single_active = queue.options.single_active_consumer;
    let found = api.node.with_queue(queue.id, |live| {
        let consumers = live.consumers().iter().map(|consumer| {
            let handle = &consumer.handle;
            (
                Arc::clone(&handle.outbox),
                handle.channel,
                Arc::clone(&consumer.tag),
                consumer.no_ack,
                consumer.prefetch,
                consumer.exclusive,
                live.consumers().is_active(consumer.reference()),
                consumer.handle.arguments.clone(),
            )
        });
        consumers.collect::<Vec<_>>()
    });
    let connections = if found.as_ref().is_some_and(|found| !found.is_empty()) {
        api.node.connections.list()
    } else {
        Vec::new()
    };
    found
        .into_iter()
        .flatten()
        .map(|(outbox, channel, tag, no_ack, prefetch, exclusive, active, arguments)| {
            let owner = connections.iter().find(|info| Arc::ptr_eq(&info.outbox, &outbox));
            json!({
                "consumer_tag": &*tag,
                "queue": {"name": &*queue.name, "vhost": sm.vhost_name(queue.vhost)},
                "channel_details": owner.map_or(Value::Null, |info| channel_details(api, info, channel)),
                "ack_required": !no_ack,
                "prefetch_count": prefetch,
                "exclusive": exclusive,
                "active": active,
                "activity_status": match (active, single_active) {
                    (true, true) => "single_active",
                    (true, false) => "up",
                    (false, _) => "waiting",
                },
                "arguments": arguments.as_deref().map(from_table).unwrap_or_default(),
                // rabbitmqadmin 2 insists on it.
                "consumer_timeout": api.node.settings.consumer_timeout_ms,
            })
        })
        .collect()
}

fn channel_details(api: &Api, info: &ConnectionInfo, channel: u16) -> Value {
    let name = &*info.name;
    json!({
        "connection_name": name, "name": format!("{name} ({channel})"), "node": api.node.settings.node,
        "number": channel, "peer_host": info.peer.ip().to_string(), "peer_port": info.peer.port(),
        "user": &*info.user(),
    })
}
