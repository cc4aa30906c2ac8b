//! `/api/consumers`.

use super::Api;
use super::asked::Asked;
use super::reply::Answer;
use crate::connection::info::ConnectionInfo;
use crate::connection::outbox::Output;
use crate::forward::served::FarOutput;
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
                handle.output.clone(),
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
        .map(|(output, channel, tag, no_ack, prefetch, exclusive, active, arguments)| {
            let channel_details = match &output {
                Output::Here(outbox) => {
                    let owner = connections.iter().find(|info| Arc::ptr_eq(&info.outbox, outbox));
                    owner.map_or(Value::Null, |info| channel_details(api, info, channel))
                }
                Output::Far(far) => far_channel(api, far, channel),
            };
            json!({
                "consumer_tag": &*tag,
                "queue": {"name": &*queue.name, "vhost": sm.vhost_name(queue.vhost)},
                "channel_details": channel_details,
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

/// The channel of a consumer that is connected to another node.
fn far_channel(api: &Api, far: &FarOutput, channel: u16) -> Value {
    let name = &*far.connection;
    let (peer_host, peer_port) =
        name.split_once(" -> ").and_then(|(peer, _)| peer.rsplit_once(':')).unwrap_or_default();
    json!({
        "connection_name": name, "name": format!("{name} ({channel})"),
        "node": api.node.forward.name(far.origin()), "number": channel,
        "peer_host": peer_host.trim_matches(['[', ']']), "peer_port": peer_port.parse::<u16>().unwrap_or(0),
        "user": &*far.user,
    })
}

fn channel_details(api: &Api, info: &ConnectionInfo, channel: u16) -> Value {
    let name = &*info.name;
    json!({
        "connection_name": name, "name": format!("{name} ({channel})"), "node": api.node.settings.node,
        "number": channel, "peer_host": info.peer.ip().to_string(), "peer_port": info.peer.port(),
        "user": &*info.user(),
    })
}
